"""How bad may proposed label sets be? Coverage and width of accuracies by the proposals of an audit.

    python benchmarks/audited_proposals.py [--data real …] [--sizes 250 1000] [--draws 1000] [--minutes 60]
        [--out RAW] [--cache FOLDER]

The accuracy on label sets, `real1`, of twenty published models. Proposals are

- the original labels, and these with a share of them replaced by a random other class (``label 50 % wrong``);
- classes that are never valid: of the classes that people deny, the one that most models predict
  (``denied``);
- the top class of one good and of one bad model, resnet50 and fv_4k, which are not among the twenty;
- what most of five, or of all other models predict (``5 models``, ``all others``);
- a regression of people's answers on the share of the other models and the original label, with fits that
  have not seen the image (``cross-fitted``);
- the original labels, but for half of the audited images what people answered (``has seen half``).

The estimators are the audited images alone, power tuning and the difference estimator, with uniform draws.
The means over models go to `audited_proposals.csv`.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import audited
import numpy as np
from audited_data import arrays
from audited_tables import write_summary
from common import quiet

from manyhot.core.audit_designs import chosen_by_others

WRONG = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
"""Shares of the original labels that are replaced."""

GOOD, BAD, ENSEMBLE = 39, 15, [13, 24, 31, 45, 60]
"""Places in the alphabet of resnet50, fv_4k, and five models that propose together."""

SEEN, SHARE_SEEN = "has seen half", 0.5


class Proposals(audited.Values):
    """The values of some models, with proposals that may have seen the answers."""

    def linearised(self, name, sample):
        """Return the contributions of a sample."""
        if name != SEEN:
            return super().linearised(name, sample)
        found = super().linearised("label", sample)
        is_seen = np.random.default_rng(0).random((len(self.people), 1))[sample.images] < SHARE_SEEN
        proposed = np.where(is_seen, found.audited, found.proposed)
        mean = found.mean + (proposed - found.proposed).sum(axis=0) / len(self.people)
        return replace(found, proposed=proposed, mean=mean)


def proposals_of(data) -> Proposals:
    """Return the values of twenty models under people's and under all proposed label sets."""
    data = data.take(np.flatnonzero(data.sets.any(axis=1)))
    images, rng = audited.Images(data), np.random.default_rng(0)
    values, best, n_classes = images.values(), images.best, data.sets.shape[1]
    others = [m for m in range(images.n_models) if m not in (GOOD, BAD, *ENSEMBLE)]
    judged = np.array(others)[np.linspace(0, len(others) - 1, 20).astype(int)]
    labels = {"label": data.label, "denied": _denied(images), "a good model": best[:, GOOD]}
    labels |= {"a bad model": best[:, BAD], "5 models": _most(best[:, ENSEMBLE])}
    order, shift = rng.permutation(images.n), rng.integers(1, n_classes, images.n)
    for share in WRONG:
        wrong = np.argsort(order) < share * images.n
        labels[f"label {100 * share:.0f} % wrong"] = np.where(
            wrong, (data.label + shift) % n_classes, data.label
        )
    proposed = {k: (best[:, judged] == v[:, None]).astype(np.float32) for k, v in labels.items()}
    proposed["all others"] = chosen_by_others(best)[:, judged].astype(np.float32)
    proposed["others"] = values.proposed["others"][:, judged]
    of = values.of_models(judged)
    return Proposals(of.people, proposed, of.true, of.spread, of.size, of.agreement, of.best)


def _denied(images):
    """Return the class that most models predict of those that people deny; some class if there is none."""
    return np.argmax(np.where(images.sets, -1, images.count), axis=1)


def _most(best):
    """Return the class that most models predict, the first of several."""
    same = (best[:, :, None] == best[:, None, :]).sum(axis=2)
    return best[np.arange(len(best)), np.argmax(same, axis=1)]


def arms(values):
    """Return the designs, proposals and powers; the first is the plain sample."""
    kinds = [k for k in values.proposed if k != "others"]
    found = [("uniform", "label", 0.0)]
    found += [("uniform", kind, power) for kind in kinds for power in ("tuned", 1.0)]
    return [*found, ("uniform", audited.FITTED, 1.0), ("uniform", SEEN, "tuned"), ("uniform", SEEN, 1.0)]


def run(options) -> None:
    """Simulate what is not in the file of results."""
    done = set()
    if options.out.is_file():
        lines = map(json.loads, options.out.read_text(encoding="utf-8").splitlines())
        done = {(r["data"], r["n"], r["block"]) for r in lines}
    stop = time.time() + 60 * options.minutes
    for name in options.data:
        values = proposals_of(arrays(name, options.cache))
        for n in options.sizes:
            for block in range(options.draws // audited.BLOCK):
                if (name, n, block) in done or time.time() > stop:
                    continue
                row = {"data": name, **audited.one_block(values, "real1", n, block, arms(values))}
                with options.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(f"{name}, {n:,} images, block {block}: {row['seconds']} s", flush=True)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", choices=("real", "multilabelfy"), default=("real",))
    parser.add_argument("--sizes", nargs="+", type=int, default=(250, 1000))
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=600)
    parser.add_argument("--out", type=Path, default=Path("audited_proposals.jsonl"))
    parser.add_argument("--cache", type=Path)
    options = parser.parse_args()
    run(options)
    write_summary(options.out, Path(__file__).with_suffix(".csv"))


if __name__ == "__main__":
    quiet()
    main()
