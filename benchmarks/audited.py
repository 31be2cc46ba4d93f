"""How often intervals from an audit contain the value on all images: ReaL's answers, hidden but for a sample.

    python benchmarks/audited.py [--only real1 mla …] [--sizes 250 1000] [--draws 1000] [--minutes 60]
        [--out FILE] [--cache FILE]

67 published models and the images with a ReaL label set: people's answers about all of them give the true
values. An audit sees those of 100 to 2,000 images. What replaces the others is made by models alone: the
share of the *other* models with the same best class (``others``), of all models (``all``), or whether a
class is the single original label (``label``). ``others + label`` is a regression on the two and their
product, cross-fitted on the audited images.

Designs: ``uniform``; ``size``, by the number of classes that at least a tenth of the models put first, with
Neyman's allocation; ``active``, by the share's p (1 - p), over all models, half of it uniform (``active
0.2``: a fifth); ``pairs``, the same for differences. Estimators: the audited images alone (λ = 0), the
difference estimator (λ = 1) and power tuning.

With `--out`, each size and block of 100 draws is a line that is appended when it is done, and a later call
continues there. `--cache` stores the values of all images.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import models, quiet, validation
from scipy.special import betaincinv, stdtrit

from manyhot.core.audit_cross_fitting import cross_fitted, least_squares
from manyhot.core.audit_samples import active_design, stratified_design, uniform_design
from manyhot.core.audit_sequence import sequence_quantile
from manyhot.core.audited import (
    AuditedEstimate,
    LinearisedValues,
    bootstrap_interval,
    estimate,
    linearised_ratios,
)
from manyhot.core.estimates import Ratio

SIZES = (100, 250, 500, 1000, 2000)
BLOCK = 100
N_PAIRS = 100
N_OWN_PAIRS = 20
SUBJECTS = (
    "real1",
    "real1_all",
    "mla",
    "real5",
    "precision@5",
    "recall@5",
    "three",
    "pair",
    "bootstrap",
    "sequence",
)
"""Metrics, and what else is simulated.

``real1_all`` draws from all images; people find that 6 % of them have no valid class, which models never do.
``three`` is real1 with three models, whose proposals come from these three alone. ``pair`` has a design of
its own for each of 20 pairs, by the images on which the two differ, and ``differing`` draws from these alone,
as the difference of the two is 0 on all others (compare its widths with those of ``pair``). ``bootstrap`` has
the intervals of the bootstrap, and ``sequence`` those of a confidence sequence that hold after every 50
images.
"""

RESAMPLES = 500
THREE = [37, 39, 29]
"""The places of resnet18, resnet50 and nasnetalarge in the alphabet."""


def read(cache):
    """Return the top 5 of each model, shape (N, M, 5), label sets, shape (N, C), and original labels."""
    if cache and cache.is_file():
        with np.load(cache) as data:
            return data["top"], np.unpackbits(data["sets"], axis=1)[:, :1000].astype(bool), data["label"]
    from manyhot.evaluate.slices import case_of
    from manyhot.tables import align
    from manyhot.tables.arrays import label_sets

    labels, rows = validation()
    sets, top = label_sets(labels), []
    for name, predictions in models(rows):
        alignment = align(labels.image_id, predictions.image_id, left_name="labels", right_name=name)
        assert not alignment.left_only
        top.append(case_of(sets, predictions, alignment, 5).top[:, :5].astype(np.int16))
    top = np.stack(top, axis=1)
    if cache:
        packed = np.packbits(sets.yes_matrix(), axis=1)
        np.savez_compressed(cache, top=top, sets=packed, label=sets.label)
    return top, sets.yes_matrix(), sets.label


@dataclass
class Values:
    """One metric: values of all images under people's label sets and under proposed ones, shape (N, M)."""

    people: np.ndarray
    proposed: dict[str, np.ndarray]
    base: dict[str, np.ndarray]
    true: np.ndarray
    spread: np.ndarray
    size: np.ndarray
    agreement: np.ndarray
    best: np.ndarray
    scored: np.ndarray | None = None

    def __post_init__(self):
        self.mean = {name: f.mean(0, dtype=np.float64) for name, f in self.proposed.items()}
        n_models = self.people.shape[1]
        pairs = np.array([(a, b) for a in range(n_models) for b in range(a)])
        chosen = np.random.default_rng(0).choice(len(pairs), min(N_PAIRS, len(pairs)), replace=False)
        self.first, self.second = pairs[chosen].T

    def of_pair(self, pair, differing):
        """Return the values of two models, on all images or on those with different best classes."""
        columns = [self.first[pair], self.second[pair]]
        best = self.best[:, columns]
        apart = best[:, 0] != best[:, 1]
        rows = np.flatnonzero(apart | (not differing))
        share = np.float32(len(rows) / len(best))
        people = self.people[rows][:, columns] * share
        proposed = {name: f[rows][:, columns] * share for name, f in self.proposed.items()}
        true, spread = people.mean(0, dtype=np.float64), self.spread[rows][:, columns]
        agreement = (1 - apart[rows, None]).astype(np.float32)
        return Values(people, proposed, {}, true, spread, self.size[rows], agreement, best[rows])

    def linearised(self, name, sample):
        """Return the contributions of a sample, with one of the kinds of proposals."""
        rows = sample.images
        if self.scored is not None:
            return self._ratios(name, sample)
        base = self.base.get(name, np.zeros(self.people.shape[1]))
        mean = self.mean[name]
        return LinearisedValues(self.people[rows], self.proposed[name][rows], mean, base, mean + base)

    def _ratios(self, name, sample):
        """Return contributions if people, but not proposals, find images without any valid class."""
        rows, every = sample.images, np.ones(len(self.people), bool)
        scored, columns = self.scored[rows], range(self.people.shape[1])
        audited = [Ratio(self.people[rows, m] * scored, scored, scored) for m in columns]
        return linearised_ratios(
            audited, [Ratio(self.proposed[name][:, m], every, every) for m in columns], sample
        )


class Images:
    """The images with a label set, or all of them, and the shares of models by class."""

    def __init__(self, top, sets, label):
        self.top, self.sets, self.label = top.astype(np.int64), sets, label
        self.n, self.n_models = top.shape[:2]
        rows = np.arange(self.n)[:, None]
        self.best = self.top[:, :, 0]
        self.count = np.zeros((self.n, 1000), np.float32)
        for m in range(self.n_models):
            self.count[rows[:, 0], self.best[:, m]] += 1
        own = (self.top == self.best[:, :, None]).astype(np.float32)
        at = rows[:, :, None]
        self.shares = self.count[at, self.top] / self.n_models
        self.of_others = (self.count[at, self.top] - own) / (self.n_models - 1)
        self.hits = sets[at, self.top]
        self.is_label = self.top == label[:, None, None]
        self.size = np.minimum(np.count_nonzero(self.count >= self.n_models / 10, axis=1), 4)

    def values(self, metric):
        """Return the values of a metric."""
        first = np.s_[:, :, : 5 if metric.endswith("5") else 1]
        people = self._combined(metric, self.hits[first].astype(np.float32), people=True)
        kinds = {"others": self.of_others, "all": self.shares, "label": self.is_label.astype(np.float32)}
        proposed = {name: self._combined(metric, x[first]) for name, x in kinds.items()}
        # Of few models that agree, all may be wrong: half a model more is for, and half a model against.
        spread = (proposed["others"] * (self.n_models - 1) + 0.5) / self.n_models
        spread *= 1 - spread
        scored = self.sets.any(axis=1)
        true, base = people.mean(0, dtype=np.float64), {}
        if metric == "real1_all":
            true = people.sum(0, dtype=np.float64) / scored.sum()
        elif metric == "mla":
            people, proposed, base, true = self._by_class(people, proposed)
        agreement = self.of_others[:, :, 0]
        scored = scored if metric == "real1_all" else None
        return Values(people, proposed, base, true, spread, self.size, agreement, self.best, scored)

    def _combined(self, metric, x, *, people=False):
        """Return the value of each image from those of its best classes, shape (N, M)."""
        if metric == "precision@5":
            return x.mean(2)
        if metric == "recall@5" and people:
            return x.sum(2) / np.maximum(self.sets.sum(1), 1)[:, None].astype(np.float32)
        return np.minimum(x.sum(2), 1)

    def _by_class(self, people, proposed):
        """Return contributions to the mean over original labels, as `linearised_ratios` expands it."""
        size = np.bincount(self.label, minlength=1000).astype(np.float64)
        n_classes, base, parts = np.count_nonzero(size), {}, {}
        weight = (self.n / (n_classes * size[self.label])).astype(np.float32)[:, None]
        # y is expanded at the means over classes of one kind of proposals, so that kind is the only one.
        f = proposed["others"]
        means = (
            np.stack([np.bincount(self.label, x, 1000) for x in f.T], axis=1) / np.maximum(size, 1)[:, None]
        )
        inside = means.astype(np.float32)[self.label]
        base["others"] = means[size > 0].mean(0)
        parts["others"] = weight * (f - inside)
        true = (weight * people).mean(0, dtype=np.float64)
        return weight * (people - inside), parts, base, true


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
        "pairs 0.2": active_design(apart, n, uniform=0.2),
    }


def arms(metric):
    """Return the designs, proposals and powers of a metric; the first is the plain sample."""
    both = [("uniform", "others", 0.0), ("uniform", "others", "tuned"), ("active", "others", "tuned")]
    if metric == "mla":
        return [*both[1:], ("active", "others", 1.0)]
    if metric in ("pair", "differing"):
        return [*both[:2], ("pairs", "others", "tuned"), ("pairs", "others + label", 1.0)]
    if metric not in ("real1", "three"):
        return [*both, ("active", "others", 1.0)]
    return [
        *both,
        ("uniform", "others", 1.0),
        ("uniform", "all", "tuned"),
        ("uniform", "label", "tuned"),
        ("uniform", "others + label", 1.0),
        ("size", "others", "tuned"),
        ("active", "others", 1.0),
        ("active", "others + label", 1.0),
        ("active 0.2", "others", "tuned"),
        ("pairs", "others", "tuned"),
        ("pairs", "others + label", 1.0),
        ("pairs 0.2", "others", "tuned"),
    ]


def contributions(values, proposals, sample, rng):
    if proposals != "others + label":
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


class Tally:
    """Sums over draws for each of K values."""

    def __init__(self, true):
        self.true, self.sums = true, defaultdict(lambda: np.zeros(len(true)))

    def add(self, found, scale):
        """Add the estimates of one draw."""
        error = found.value - self.true
        lo, hi = found.interval(scale)
        some = ~np.isnan(lo)
        with np.errstate(invalid="ignore"):
            near = np.abs(error) <= stdtrit(np.maximum(found.df, 1), 0.975) * found.error
        self.sums["intervals"] += some
        self.sums["held too few"] += ~some & near
        self.sums["held"] += some & (lo <= self.true) & (self.true <= hi)
        self.sums["width"] += np.where(some, hi - lo, 0)
        self.sums["error"] += error
        self.sums["squared"] += error**2
        self.sums["variance"] += found.error**2
        self.sums["power"] += found.power
        if scale == "plain":
            self.sums["right"] += some & (((lo > 0) & (self.true > 0)) | ((hi < 0) & (self.true < 0)))
            self.sums["wrong"] += some & (((lo > 0) & (self.true < 0)) | ((hi < 0) & (self.true > 0)))
        else:
            lo, hi = found.interval("plain")
            self.sums["held plain"] += some & (lo <= self.true) & (self.true <= hi)


def simulate(values, metric, n, block):
    """Return the sums over one block of draws by arm, for values and for pairs."""
    by_design = designs(values, n)
    apart = values.true[values.first] - values.true[values.second]
    tallies = {arm: (Tally(values.true), Tally(apart)) for arm in arms(metric)}
    for draw in range(block * BLOCK, (block + 1) * BLOCK):
        samples = {}
        for i, (name, design) in enumerate(by_design.items()):
            if any(arm[0] == name for arm in tallies):
                samples[name] = design.draw(np.random.default_rng([n, draw, i]))
        linear = {}
        for (design, proposals, power), (own, pairs) in tallies.items():
            key, sample = (design, proposals), samples[design]
            if key not in linear:
                linear[key] = contributions(values, proposals, sample, np.random.default_rng([n, draw, 9]))
            found = estimate(linear[key], sample, power=power)
            if metric == "bootstrap":
                rng = np.random.default_rng([n, draw, 8])
                ends = bootstrap_interval(linear[key], sample, rng=rng, resamples=RESAMPLES, power=power)
                found = WithEnds(**vars(found), ends=ends)
            elif metric == "sequence":
                found = WithEnds(**vars(found), ends=common_ends(values, proposals, sample, power))
            own.add(found, "logit")
            differences = linear[key].differences(values.first, values.second)
            pairs.add(estimate(differences, sample, power=power), "plain")
    return {
        " | ".join(map(str, arm)): [{k: v.tolist() for k, v in t.sums.items()} for t in both]
        for arm, both in tallies.items()
    }


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
        done = {(r["metric"], r["n"], r["block"]) for r in lines}
    stop, cached = time.time() + 60 * options.minutes, {}
    top, sets, label = read(options.cache)
    for block in range(options.draws // BLOCK):
        for metric in options.only:
            for n in options.sizes:
                if (metric, n, block) in done or time.time() > stop:
                    continue
                if metric not in cached:
                    cached.clear()  # one metric in memory
                    inside = sets.any(axis=1) | (metric == "real1_all")
                    some = np.s_[:, THREE] if metric == "three" else np.s_[:]
                    cached[metric] = Images(top[inside][some], sets[inside], label[inside]).values(metric)
                start = time.process_time()
                if metric in ("pair", "differing"):
                    arms_ = simulate_each(cached[metric], metric, n, block)
                else:
                    arms_ = simulate(cached[metric], metric, n, block)
                seconds = round(time.process_time() - start, 1)
                alone = {
                    k: (v + cached[metric].base.get(k, 0)).tolist() for k, v in cached[metric].mean.items()
                }
                row = {"metric": metric, "n": n, "block": block, "seconds": seconds, "arms": arms_}
                row |= {"true": cached[metric].true.tolist(), "alone": alone}
                with out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(f"{metric}, {n:,} images, block {block}: {seconds:.0f} s", flush=True)


def summed(out):
    """Return the sums over blocks by metric, size, arm and kind, the numbers of draws, and true values."""
    sums, draws, true, alone = {}, defaultdict(int), {}, {}
    for line in out.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        key = row["metric"], row["n"]
        draws[key] += BLOCK
        true[row["metric"]], alone[row["metric"]] = np.array(row["true"]), row["alone"]
        for arm, both in row["arms"].items():
            for kind, values in zip(("values", "pairs"), both, strict=True):
                into = sums.setdefault((*key, arm, kind), defaultdict(float))
                for name, numbers in values.items():
                    into[name] = into[name] + np.array(numbers)
    return sums, draws, true, alone


def show(out):
    """Print the tables."""
    sums, draws, true, alone = summed(out)
    for metric, values in alone.items():
        bias = {name: np.array(v) - true[metric] for name, v in values.items()}
        parts = (
            f"{k} {100 * np.median(b):+.1f} ({100 * b.min():+.1f} to {100 * b.max():+.1f})"
            for k, b in bias.items()
        )
        print(f"\n{metric}: proposals alone are off by, in points: " + "; ".join(parts))
    head = "coverage (least, models below 93.5 %) | no interval (coverage) | width ± points | narrower | bias"
    head += " | error/deviation | λ"
    for kind in ("values", "pairs"):
        for (metric, n, arm, own), s in sums.items():
            if own != kind:
                continue
            if arm == "uniform | others | 0.0" or (metric == "mla" and arm.startswith("uniform")):
                print(f"\n{kind}: {metric}, {n:,} images, {draws[metric, n]:,} draws\n  {'':34} {head}")
                plain = s
            print(f"  {arm:34} {line(s, plain, draws[metric, n])}")


def line(s, plain, draws):
    """Return the row of an arm: means and medians over models or pairs with an interval in most draws."""
    most = s["intervals"] >= draws / 2
    if not most.any():
        return f"{'none':14} | {1 - s['intervals'].mean() / draws:.1%}"
    held, width = (s[name][most] / s["intervals"][most] for name in ("held", "width"))
    ratio = np.median(plain["width"][most] / np.maximum(plain["intervals"][most], 1) / width)
    deviation = np.sqrt(s["squared"] / draws)
    n_few = (draws - s["intervals"]).sum()
    few = f"({100 * s['held too few'].sum() / n_few:.1f})" if n_few else ""
    # the upper ends of the 99.9 % intervals (Clopper and Pearson)
    upper = betaincinv(s["held"] + 1, np.maximum(s["intervals"] - s["held"], 1e-9), 0.9995)[most]
    below = f", {np.count_nonzero(upper < 0.935)} below" if (upper < 0.935).any() else ""
    none = 1 - s["intervals"].mean() / draws
    calibration = np.median(np.sqrt(s["variance"] / draws) / deviation)
    text = (
        f"{100 * held.mean():.1f} ({100 * held.min():.1f}{below}) | {none:.1%} {few} | "
        f"{50 * np.median(width):.2f} | {ratio:.2f} | {100 * np.abs(s['error'] / draws).mean():.3f} | "
        f"{calibration:.3f} | {s['power'].mean() / draws:.2f}"
    )
    if "right" in s:
        return text + f" | decided {s['right'].mean() / draws:.1%}, wrongly {s['wrong'].mean() / draws:.2%}"
    return text + f" | plain scale {100 * (s['held plain'] / np.maximum(s['intervals'], 1))[most].mean():.1f}"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=SUBJECTS)
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=600)
    parser.add_argument("--out", type=Path, default=Path("audited.jsonl"))
    parser.add_argument("--cache", type=Path)
    options = parser.parse_args()
    run(options)
    show(options.out)


if __name__ == "__main__":
    quiet()
    main()
