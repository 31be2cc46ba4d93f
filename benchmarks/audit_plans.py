"""Variances of ReaL's answers for plans of audits, and whether planned widths are those that come.

    python benchmarks/audit_plans.py [--cache FOLDER] variances
    python benchmarks/audit_plans.py [--cache FOLDER] widths [--data real voc …] [--trials 60] [--out FILE]

``variances`` prints `manyhot.core.audit_plans`: from 67 published models and people's answers about all
50,000 images, the variance of accuracy and of differences by design and number of models, relative to that
of a plain sample. ``widths`` plans from a pilot, or from these variances, draws as many images as planned,
and compares the width of the interval with the one that the plan promises for this number, which is narrower
than requested where intervals need more images. ``promised`` is the share of the pilots with enough
disagreements for a promise, ``usual`` that of the widths within the range of the plan. It replaces the lines
of the data sets in FILE.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from audited_data import DATA, FEATURES, Arrays, arrays
from common import quiet

from manyhot.core.audit_designs import N_ASKED, chosen_by_others, design_by_models, small_design
from manyhot.core.audit_plans import design_variance
from manyhot.core.audit_samples import uniform_design
from manyhot.core.audited import FEWEST_EFFECTIVE, estimate, linearised_ratios
from manyhot.core.estimates import Ratio
from manyhot.reassess.pilots import published_pilot

N_MODELS = (2, 3, 10, 67)
EVERY = 5
"""Variances are those of each fifth image, which take two minutes."""
TRIALS = 20
MOST_PAIRS = 60


class Answers:
    """Top classes of the models, whether they are in the label sets, and original labels."""

    def __init__(self, data: Arrays, every=1):
        data = data.take(np.s_[::every])
        self.label, self.confidence = data.label, data.confidence
        self.best, self.asked = data.top[:, :, 0].astype(np.int64), data.top[:, :, :N_ASKED]
        self.hits = np.take_along_axis(data.sets, self.best, 1)
        self.scored = data.sets.any(axis=1)
        self.n = len(self.best)

    def contributions(self, models):
        """Return what images contribute to the accuracies of models, under people's and proposed sets."""
        scored, hits = self.scored.astype(float)[:, None], self.hits[:, models].astype(float)
        accuracy, share = hits.sum(0) / scored.sum(), scored.mean()
        best = self.best[:, models]
        proposed = {"models": chosen_by_others(best), "labels": best == self.label[:, None]}
        y = (hits - accuracy * scored) / share
        return accuracy, y, {name: (f - accuracy) / share for name, f in proposed.items()}


def variances(real):
    """Print the module of constants."""
    rng = np.random.default_rng(0)
    weights = np.full(real.n, 1 / real.n)
    rows, plain, apart, accuracies, differ, questions = [], [], [], [], [], {}
    effective = {}
    for n_models in N_MODELS:
        ratios = {}
        n_questions = []
        for _ in range(1 if n_models == real.best.shape[1] else TRIALS):
            models = np.sort(rng.choice(real.best.shape[1], n_models, replace=False))
            best = real.best[:, models]
            accuracy, y, proposed = real.contributions(models)
            asked = real.asked[:, models].reshape(real.n, -1)
            asked = np.sort(np.concatenate([asked, real.label[:, None]], axis=1), axis=1)
            n_questions.append(1 + (np.diff(asked, axis=1) != 0).sum(1).mean())
            own = (y**2).mean(0)
            plain += list(own / (accuracy * (1 - accuracy)))
            accuracies += list(accuracy)
            pairs = [(a, b) for a in range(n_models) for b in range(a)]
            chosen = rng.permutation(len(pairs))[: MOST_PAIRS if n_models > 10 else 3]
            for kind, f in proposed.items():
                for prefer in ("uniform", "active"):
                    v = design_variance(y, f, weights, small_design(prefer, best))
                    ratios.setdefault(("accuracy", kind, prefer), []).append([v.spread / own, v.whole / own])
                    effective.setdefault("accuracy", []).extend(v.effective)
                for at in chosen:
                    a, b = pairs[at]
                    dy, df = (y[:, [a]] - y[:, [b]]), (f[:, [a]] - f[:, [b]])
                    var = (dy**2).mean(0)
                    share = (best[:, a] != best[:, b]).mean()
                    apart.append(float(var[0]) / share)
                    differ.append(share)
                    designs = {
                        "uniform": small_design("uniform", best),
                        "pair": small_design("differences", best[:, [a, b]]),
                    }
                    if n_models > 2:
                        designs["differences"] = small_design("differences", best)
                    for prefer, design in designs.items():
                        v = design_variance(dy, df, weights, design)
                        ratios.setdefault(("difference", kind, prefer), []).append(
                            [v.spread / var, v.whole / var]
                        )
                        effective.setdefault("difference", []).extend(v.effective)
        questions[n_models] = float(np.median(n_questions))
        for (question, kind, prefer), found in ratios.items():
            spread, whole = np.median(np.concatenate([np.array(x).T for x in found]), axis=0)
            rows.append((n_models, question, kind, prefer, round(float(spread), 3), round(float(whole), 3)))
    accuracy, y, _ = real.contributions(np.arange(real.best.shape[1]))
    first, second = np.triu_indices(len(accuracy), 1)
    deviation = np.sqrt([((y[:, a] - y[:, b]) ** 2).mean() for a, b in zip(first, second, strict=True)])
    effects = np.quantile(np.abs(accuracy[first] - accuracy[second]) / deviation, np.arange(1, 40, 2) / 40)
    print(f"ACCURACY = {np.median(accuracies):.3f}\nPLAIN_ACCURACY = {np.median(plain):.3f}")
    print(f"DIFFERING = {np.median(differ):.3f}\nPLAIN_DIFFERENCE = {np.median(apart):.3f}")
    print(f"QUESTIONS = { ({k: round(v, 2) for k, v in questions.items()}) }")
    print(f"EFFECTIVE = { ({k: round(float(np.median(v)), 3) for k, v in effective.items()}) }")
    print(f"EFFECTS = {tuple(float(f'{e:.3g}') for e in effects)}")
    print("VARIANCES = (")
    for row in rows:
        print(f"    {row},")
    print(")")


QUESTIONS = (("accuracy", 0.02), ("accuracy", 0.03), ("difference", 0.02))
"""Questions, and half the width of the interval that is planned."""
ONE_MODEL = (("accuracy", 0.01), ("accuracy", 0.02))
"""The same for CIFAR-10H's model, which is right on 94 % of the images."""
SOURCES = dict.fromkeys(DATA, ("published", 300)) | {"cifar10h": ("published", 300, 1000)}
"""Where variances are from: a number is that of the images of a pilot. On CIFAR-10H, people
and original labels disagree on about four of 300 images, and on 15 of 1,000."""
DRAWS = 5


def widths(answers, name, trials):
    """Plan, draw and compare: yield lines of the widths that come, divided by those that plans promise."""
    n_models, found = answers.best.shape[1], {}
    sizes, questions = (2, 3, min(10, n_models)), QUESTIONS if n_models > 1 else ONE_MODEL
    for trial in range(trials):
        rng = np.random.default_rng([8, trial])
        models = np.sort(rng.choice(n_models, min(sizes[trial % 3], n_models), replace=False))
        for proposed_by in ("models", "labels") if n_models > 1 else ("labels",):
            audited = Audited(answers, models, proposed_by)
            for question, half in questions:
                for prefer in ("uniform", "active" if question == "accuracy" else "differences"):
                    for source in SOURCES[name]:
                        key = source, question, half, prefer, proposed_by
                        found.setdefault(key, []).extend(audited.ratios(source, question, half, prefer, rng))
    for key, rows in found.items():
        n, enough, ratio, usual = np.array(rows, float).T
        every, has = float((n == answers.n).mean()), ~np.isnan(ratio)
        low, median, high = map(float, np.quantile(ratio[has], [0.1, 0.5, 0.9]))
        line = {"data": name}
        line |= dict(zip(("source", "question", "half_width", "design", "proposed_by"), key, strict=True))
        line |= {"draws": len(rows), "images": int(np.median(n)), "promised": round(float(enough.mean()), 3)}
        line |= {"all": round(every, 3), "without": round(1 - float(has.mean()) - every, 3)}
        line |= {"low": round(low, 3), "median": round(median, 3), "high": round(high, 3)}
        yield line | {"usual": round(float(usual[has].mean()), 3)}


def write(out, lines):
    """Replace the lines of data sets in a file."""
    new = {line["data"] for line in lines}
    old = map(json.loads, out.read_text(encoding="utf-8").splitlines() if out.is_file() else [])
    every = [line for line in old if line["data"] not in new] + lines
    every.sort(key=lambda line: DATA.index(line["data"]))
    out.write_text("".join(json.dumps(line) + "\n" for line in every), encoding="utf-8")


class Audited:
    """Some models, of which one, or two of them, are audited."""

    def __init__(self, real, models, proposed_by):
        self.real, self.n_models, self.by = real, len(models), proposed_by
        self.best, hits = real.best[:, models], real.hits[:, models]
        self.confidence = None if real.confidence is None else real.confidence[:, models]
        proposed = (
            chosen_by_others(self.best) if proposed_by == "models" else self.best == real.label[:, None]
        )
        self.people = [Ratio(h * real.scored, real.scored, real.scored) for h in hits.T.astype(float)]
        every = np.ones(real.n, bool)
        self.proposed = [Ratio(f, every, every) for f in proposed.T.astype(float)]
        self.accuracy = hits.sum(0) / real.scored.sum()

    def ratios(self, source, question, half, prefer, rng):
        """Yield the plan, and the width that comes divided by the promised one."""
        pair = rng.choice(self.n_models, min(2, self.n_models), replace=False)
        best = self.best[:, pair] if prefer == "differences" else self.best
        for _ in range(DRAWS):
            variance = self._variance(source, question, prefer, best, pair, rng)
            n = int(variance.images(half, self.real.n)[0])
            sample = design_by_models(prefer, best, n, self.confidence).design.draw(rng)
            values = self._values(question, sample, pair)
            found = estimate(values, sample, same=self._same(question, sample, pair))
            lo, hi = found.interval("logit" if question == "accuracy" else "plain")
            width = float(hi[0] - lo[0]) / 2
            low, promised, high = (float(variance.half_width(n, self.real.n, p)[0]) for p in (0.1, 0.5, 0.9))
            # A pilot on which people and proposals do not disagree at all plans all images.
            ratio = width / promised if n < self.real.n else np.nan
            yield n, np.min(variance.pilot) >= FEWEST_EFFECTIVE, ratio, low <= width <= high

    def _variance(self, source, question, prefer, best, pair, rng):
        if source == "published":
            differing = float((self.best[:, pair[0]] != self.best[:, pair[-1]]).mean()) or None
            known = published_pilot(self.n_models, float(self.accuracy[pair[0]]), differing, self.by)
            arms = known.of_values if question == "accuracy" else known.of_pairs
            (arm,) = [a for a in arms if (a.design, a.estimator) == (prefer, "ppi++")]
            return arm.variance
        sample = uniform_design(self.real.n, source).draw(rng)
        values = self._values(question, sample, pair)
        p = self.confidence[sample.images] if self.n_models == 1 else None
        design = small_design(prefer, best[sample.images], sample.weights, p)
        same = self._same(question, sample, pair)
        return design_variance(values.audited, values.proposed, sample.weights, design, same=same)

    def _same(self, question, sample, pair):
        """Return the images that do not tell the two models apart, as `evaluate` does."""
        best = self.best[sample.images][:, pair]
        return (best[:, :1] == best[:, 1:]) if question == "difference" else None

    def _values(self, question, sample, pair):
        rows = sample.images
        people = [Ratio(r.num[rows], r.den[rows].astype(float), r.scored[rows]) for r in self.people]
        chosen = pair[:1] if question == "accuracy" else pair
        values = linearised_ratios([people[m] for m in chosen], [self.proposed[m] for m in chosen], sample)
        return values if question == "accuracy" else values.differences(np.array([0]), np.array([1]))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("variances", "widths"))
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--data", nargs="+", choices=DATA, default=DATA)
    parser.add_argument("--features", type=Path, default=FEATURES)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".jsonl"))
    options = parser.parse_args()
    if options.what == "variances":
        variances(Answers(arrays("real", options.cache), EVERY))
        return
    for name in options.data:
        lines = list(widths(Answers(arrays(name, options.cache, options.features)), name, options.trials))
        print(*map(json.dumps, lines), sep="\n", flush=True)
        write(options.out, lines)


if __name__ == "__main__":
    quiet()
    main()
