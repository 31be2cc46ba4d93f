"""How often intervals from an audit contain the value on all images: answers hidden but for a sample.

    python benchmarks/audited.py [--data real multilabelfy …] [--only real1 pair …] [--sizes 250 1000]
        [--draws 1000] [--minutes 60] [--out RAW] [--cache FOLDER] [--features FOLDER]

The data sets are those of `audited_data.py`: people's answers about all images give the true values, and an
audit sees those of 100 to 2,000 images. What replaces the others is made by models alone: the share of the
*other* models with the same best class (``others``), of all models (``all``), or whether a class is the
single original label (``label``); for one model, its probability (``confidence``). ``others + label`` is a
regression on the two and their product, cross-fitted on the audited images.

Designs: ``uniform``; ``size``, by the number of classes that at least a tenth of the models put first, with
Neyman's allocation; ``active``, by the share's p (1 - p), over all models, half of it uniform (``active
0.2``: a fifth); ``pairs``, the same for differences. Estimators: the audited images alone (λ = 0), the
difference estimator (λ = 1) and power tuning.

Each size and block of 100 draws is a line of RAW that is appended when it is done, and a later call
continues there. The means over models go to `audited.csv`, which audited-proofs.md shows. `--cache` stores
the values of all images.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from audited_data import DATA, FEATURES, Arrays, arrays
from audited_tables import RankTally, Tally, write_summary
from common import quiet

from manyhot.core.audit_cross_fitting import cross_fitted, least_squares
from manyhot.core.audit_samples import active_design, stratified_design, uniform_design
from manyhot.core.audit_sequence import sequence_quantile
from manyhot.core.audited import (
    AuditedEstimate,
    LinearisedValues,
    estimate,
)
from manyhot.core.posterior import resampled_values
from manyhot.core.resampling import percentile_interval

SIZES = (100, 250, 500, 1000, 2000)
MAIN = (250, 1000)
"""The sizes of all designs and subjects; others have three designs of `real1`."""

BLOCK = 100
N_PAIRS = 100
FITTED = "others + label"
N_OWN_PAIRS = 10
SUBJECTS = ("real1", "pair", "differing", "bootstrap", "population", "sequence")
"""What is simulated of ``real1``; `audited_evaluate.py` has the other metrics.

``pair`` has a design of its own for each of 10 pairs, by the images on which the two differ, and
``differing`` draws from these alone, as the difference of the two is 0 on all others (compare its widths with
those of ``pair``). ``bootstrap`` has the intervals of the bootstrap over the audited images, of five models.
``population`` draws 5,000 images as a data set first, with replacement, and audits those: the intervals are
of the value on the images that they were drawn from, by the normal theory, and by the bootstrap over both.
``sequence`` has the intervals of a confidence sequence that hold after every 50 images.
"""

OF_PAIRS = ("pair", "differing")
OF_DATA = dict.fromkeys(DATA, ("real1",)) | {"real": SUBJECTS}
"""The subjects of each data set."""

RESAMPLES = 500
N_DATA_SET = 5000
FIVE = [0, 16, 33, 50, 66]
"""The places of five models in the alphabet."""


@dataclass
class Values:
    """One metric: values of all images under people's label sets and under proposed ones, shape (N, M)."""

    people: np.ndarray
    proposed: dict[str, np.ndarray]
    true: np.ndarray
    spread: np.ndarray
    size: np.ndarray
    agreement: np.ndarray
    best: np.ndarray

    def __post_init__(self):
        self.mean = {name: f.mean(0, dtype=np.float64) for name, f in self.proposed.items()}
        n_models = self.people.shape[1]
        pairs = np.array([(a, b) for a in range(n_models) for b in range(a)], int).reshape(-1, 2)
        chosen = np.random.default_rng(0).choice(len(pairs), min(N_PAIRS, len(pairs)), replace=False)
        self.first, self.second = pairs[chosen].T

    def of_pair(self, pair, differing):
        """Return the values of two models, on all images or on those with different best classes."""
        columns = [self.first[pair], self.second[pair]]
        apart = self.best[:, columns[0]] != self.best[:, columns[1]]
        found = self.of_models(columns, np.flatnonzero(apart) if differing else np.s_[:])
        share = np.float32(len(found.people) / len(apart))
        proposed = {name: f * share for name, f in found.proposed.items()}
        agreement = (found.best[:, :1] == found.best[:, 1:]).astype(np.float32)
        people, true = found.people * share, found.true * share
        return Values(people, proposed, true, found.spread, found.size, agreement, found.best)

    def of_models(self, columns, rows=np.s_[:]):
        """Return the values of some models on some images."""
        people = self.people[rows][:, columns]
        proposed = {name: f[rows][:, columns] for name, f in self.proposed.items()}
        true, agreement = people.mean(0, dtype=np.float64), self.agreement[rows][:, columns]
        spread, best = self.spread[rows][:, columns], self.best[rows][:, columns]
        return Values(people, proposed, true, spread, self.size[rows], agreement, best)

    def same(self, sample):
        """Return the audited images that do not tell the models of pairs apart, as `evaluate` does."""
        best = self.best[sample.images]
        return best[:, self.first] == best[:, self.second]

    def linearised(self, name, sample):
        """Return the contributions of a sample, with one of the kinds of proposals."""
        rows, mean = sample.images, self.mean[name]
        return LinearisedValues(self.people[rows], self.proposed[name][rows], mean, np.zeros(len(mean)), mean)


class Images:
    """The images with a label set, or all of them, and the shares of models by class."""

    def __init__(self, data: Arrays):
        self.top, self.sets, self.label = data.top.astype(np.int64), data.sets, data.label
        self.confidence = data.confidence
        self.n, self.n_models = data.top.shape[:2]
        rows = np.arange(self.n)[:, None]
        self.best = self.top[:, :, 0]
        self.count = np.zeros((self.n, self.sets.shape[1]), np.float32)
        for m in range(self.n_models):
            self.count[rows[:, 0], self.best[:, m]] += 1
        own = (self.top == self.best[:, :, None]).astype(np.float32)
        at = rows[:, :, None]
        self.shares = self.count[at, self.top] / self.n_models
        self.of_others = (self.count[at, self.top] - own) / max(self.n_models - 1, 1)
        self.hits = self.sets[at, self.top]
        self.is_label = self.top == self.label[:, None, None]
        self.size = np.minimum(np.count_nonzero(self.count >= self.n_models / 10, axis=1), 4)

    def values(self):
        """Return the values of `real1`."""
        people = self.hits[:, :, 0].astype(np.float32)
        kinds = {"others": self.of_others, "all": self.shares, "label": self.is_label.astype(np.float32)}
        proposed = {name: x[:, :, 0] for name, x in kinds.items()}
        # Of few models that agree, all may be wrong: half a model more is for, and half a model against.
        spread = (proposed["others"] * (self.n_models - 1) + 0.5) / self.n_models
        if self.n_models == 1:
            proposed = {"confidence": self.confidence, "label": proposed["label"]}
            spread = self.confidence.astype(np.float64)
        spread, agreement = spread * (1 - spread), self.of_others[:, :, 0]
        true = people.mean(0, dtype=np.float64)
        return Values(people, proposed, true, spread, self.size, agreement, self.best)


def designs(values, n):
    """Return the designs by name."""
    share, spread = values.spread, values.spread.mean(1)
    # Two models differ if their best classes do: as often as other models have another best class.
    apart = (share * (1 - values.agreement)).mean(1)
    return {
        "uniform": uniform_design(len(share), n),
        "size": stratified_design(values.size, n, np.sqrt(spread)),
        "active": active_design(spread, n),
        "active 0.2": active_design(spread, n, uniform=0.2),
        "pairs": active_design(apart, n),
    }


ONE_MODEL = (
    ("uniform", "label", 0.0),
    ("uniform", "label", "tuned"),
    ("uniform", "label", 1.0),
    ("uniform", "confidence", "tuned"),
    ("uniform", "confidence", 1.0),
    ("active", "label", "tuned"),
    ("active", "confidence", "tuned"),
)


def arms(metric, n_models, n):
    """Return the designs, proposals and powers of a metric; the first is the plain sample."""
    if n_models == 1:
        return list(ONE_MODEL)
    both = [("uniform", "others", 0.0), ("uniform", "others", "tuned"), ("active", "others", "tuned")]
    if metric in ("bootstrap", "sequence"):
        return both[1:2]
    if metric in OF_PAIRS:
        return [*both[:2], ("pairs", "others", "tuned"), ("pairs", FITTED, 1.0)]
    if n not in MAIN:
        return both
    return [
        *both,
        ("uniform", "others", 1.0),
        ("uniform", "all", "tuned"),
        ("uniform", "label", "tuned"),
        ("uniform", FITTED, 1.0),
        ("size", "others", "tuned"),
        ("active", "others", 1.0),
        ("active", FITTED, 1.0),
        ("active 0.2", "others", "tuned"),
        ("pairs", "others", "tuned"),
        ("pairs", FITTED, 1.0),
    ]


def contributions(values, proposals, sample, rng):
    if proposals != FITTED:
        return values.linearised(proposals, sample)
    share, label = values.proposed["others"], values.proposed["label"]
    if not hasattr(values, "features"):
        values.features = np.stack([share, label, share * label], axis=2)
        values.feature_means = values.features.mean(0, dtype=np.float64)
    audited = values.people[sample.images].astype(np.float64)
    fit = least_squares(audited, values.features[sample.images], values.feature_means)
    return cross_fitted(fit, audited, sample, rng=rng)


@dataclass(frozen=True)
class WithEnds(AuditedEstimate):
    """An estimate with other intervals."""

    ends: tuple = ()

    def interval(self, scale="plain", *, quantile=None):
        """Return these intervals, for values that have one."""
        return tuple(np.where(self.without, np.nan, end) for end in self.ends)


def common_ends(values, proposals, sample, power):
    """Return what the intervals of a confidence sequence after 50, 100, … images have in common."""
    lo, hi, n = -np.inf, np.inf, len(sample)
    for size in range(50, n + 1, 50):
        first = sample.first(size)
        found = estimate(values.linearised(proposals, first), first, power=power)
        ends = found.interval(quantile=sequence_quantile(size, n))
        lo, hi = np.fmax(lo, ends[0]), np.fmin(hi, ends[1])
    return lo, hi


def simulate(values, metric, n, block, chosen=None):
    """Return the sums over one block of draws by arm, for values, for pairs and for ranks."""
    by_design = designs(values, n)
    apart = values.true[values.first] - values.true[values.second]
    chosen = arms(metric, len(values.true), n) if chosen is None else chosen
    tallies = {arm: (Tally(values.true), Tally(apart), RankTally(values.true)) for arm in chosen}
    for draw in range(block * BLOCK, (block + 1) * BLOCK):
        samples = {}
        for i, (name, design) in enumerate(by_design.items()):
            if any(arm[0] == name for arm in tallies):
                samples[name] = design.draw(np.random.default_rng([n, draw, i]))
        linear, same = {}, {}
        for (design, proposals, power), (own, pairs, ranks) in tallies.items():
            key, sample = (design, proposals), samples[design]
            if key not in linear:
                linear[key] = contributions(values, proposals, sample, np.random.default_rng([n, draw, 9]))
            found = estimate(linear[key], sample, power=power)
            if metric == "bootstrap":
                rng = np.random.default_rng([n, draw, 8])
                ends = bootstrap_interval(linear[key], sample, rng, power=power)
                found = WithEnds(**vars(found), ends=ends)
            elif metric == "sequence":
                found = WithEnds(**vars(found), ends=common_ends(values, proposals, sample, power))
            own.add(found, "logit")
            ranks.add(found, "")
            differences = linear[key].differences(values.first, values.second)
            if design not in same:
                same[design] = values.same(sample)
            found = estimate(differences, sample, power=power, same=same[design])
            pairs.add(found, "plain")
    return _as_lists(tallies)


def _as_lists(tallies):
    return {
        " | ".join(map(str, arm)): [{k: np.atleast_1d(v).tolist() for k, v in t.sums.items()} for t in found]
        for arm, found in tallies.items()
    }


def bootstrap_interval(values, sample, rng, *, power="tuned", population=False):
    """Return the percentile interval of the values over resamples of the audited images."""
    weight = estimate(values, sample, power=power).power
    drawn = resampled_values(values, sample, weight, rng=rng, resamples=RESAMPLES, population=population)
    return percentile_interval(drawn.T)


def simulate_population(values, n, block):
    """Return the sums over one block, with a data set that is drawn before each audit."""
    true = values.true
    apart = true[values.first] - true[values.second]
    powers = {
        "normal theory": ("normal theory", "others", "tuned"),
        "bootstrap": ("bootstrap", "others", "tuned"),
    }
    tallies = {arm: (Tally(true), Tally(apart)) for arm in powers.values()}
    for draw in range(block * BLOCK, (block + 1) * BLOCK):
        rng = np.random.default_rng([n, draw, 7])
        part = values.of_models(np.arange(len(true)), rng.integers(0, len(values.people), N_DATA_SET))
        sample = uniform_design(N_DATA_SET, n).draw(rng)
        own = part.linearised("others", sample)
        differences, same = own.differences(values.first, values.second), part.same(sample)
        for name, arm in powers.items():
            for of, tally, scale in ((own, 0, "logit"), (differences, 1, "plain")):
                found = estimate(of, sample, population=True, same=same if tally else None)
                if name == "bootstrap":
                    resampling = np.random.default_rng([n, draw, 8])
                    ends = bootstrap_interval(of, sample, resampling, population=True)
                    found = WithEnds(**vars(found), ends=ends)
                tallies[arm][tally].add(found, scale)
    return _as_lists(tallies)


def simulate_each(values, metric, n, block):
    """Return what `simulate` returns, for pairs with designs of their own."""
    found = [
        simulate(values.of_pair(pair, metric == "differing"), metric, n, block) for pair in range(N_OWN_PAIRS)
    ]
    joined = {}
    for arm, both in found[0].items():
        parts = [[f[arm][kind] for f in found] for kind in range(len(both))]
        joined[arm] = [{k: [x for p in own for x in p[k]] for k in own[0]} for own in parts]
    return joined


def run(options):
    """Simulate what is not in the file of results, the first blocks of all cells first."""
    out, done = Path(options.out), set()
    if out.is_file():
        lines = map(json.loads, out.read_text(encoding="utf-8").splitlines())
        done = {(r["data"], r["metric"], r["n"], r["block"]) for r in lines}
    stop = time.time() + 60 * options.minutes
    for name in options.data:
        data = arrays(name, options.cache, options.features)
        for metric in options.only or OF_DATA[name]:
            values = None
            for n in options.sizes if metric == "real1" else sorted({*MAIN} & {*options.sizes}):
                for block in range(options.draws // BLOCK):
                    if (name, metric, n, block) in done or time.time() > stop:
                        continue
                    values = values_of(data, metric) if values is None else values
                    row = {"data": name, **one_block(values, metric, n, block)}
                    with out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")
                    print(f"{name}, {metric}, {n:,} images, block {block}: {row['seconds']} s", flush=True)


def values_of(data, metric):
    """Return the values of a subject."""
    found = Images(data.take(np.flatnonzero(data.sets.any(axis=1)))).values()
    return found.of_models(FIVE) if metric in ("bootstrap", "population") else found


def one_block(values, metric, n, block, chosen=None):
    """Return the line of one block of draws."""
    start = time.process_time()
    if metric in OF_PAIRS:
        arms_ = simulate_each(values, metric, n, block)
    elif metric == "population":
        arms_ = simulate_population(values, n, block)
    else:
        arms_ = simulate(values, metric, n, block, chosen)
    seconds = round(time.process_time() - start, 1)
    alone = {k: v.tolist() for k, v in values.mean.items()}
    row = {"metric": metric, "n": n, "block": block, "seconds": seconds, "arms": arms_}
    return row | {"true": values.true.tolist(), "alone": alone}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", choices=DATA, default=DATA)
    parser.add_argument("--only", nargs="+", choices=SUBJECTS)
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=600)
    parser.add_argument("--out", type=Path, default=Path("audited.jsonl"))
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--features", type=Path, default=FEATURES)
    parser.add_argument("--summary", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    run(options)
    write_summary(options.out, options.summary)


if __name__ == "__main__":
    quiet()
    main()
