"""What an audit with two raters who may err does to label sets and metrics, by how answers are combined.

    python benchmarks/audited_ties.py [--draws 24]

1,000 of ReaL's images and three of 67 published models a draw. Two raters answer about the top k classes of
each model and the original label, and give the wrong answer to 5 or 10 % of the questions. Means over draws:
the share of questions that are decided wrongly, by how much `real1` is off (mean over models), and by how
much differences of two models are off (mean of the absolute deviation), in percent and points, compared with
the same questions without errors.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from itertools import combinations, product

import numpy as np
from audited_data import arrays
from common import quiet

from manyhot.core.answers import YES, Answers
from manyhot.registry import get

IMAGES, N_MODELS, RATERS = 1000, 3, 2
DEPTHS, ERRORS = (1, 5), (0.05, 0.1)
RULES = {
    "majority, a tie is yes": ("majority", 0.5),
    "majority, a tie is no": ("majority", 0.6),
    "auto": ("auto", 0.8),
}


def accuracies(valid, image, classes, best):
    """Return `real1` of each model, if these questions have the answer yes."""
    sets = np.zeros((IMAGES, classes.max() + 1), bool)
    sets[image[valid], classes[valid]] = True
    hits = np.take_along_axis(sets, np.minimum(best, sets.shape[1] - 1), 1)
    return hits[sets.any(axis=1)].mean(axis=0)


def answered(truth, error, rng):
    """Return the answers of all raters to each question."""
    yes = truth[:, None] ^ (rng.random((len(truth), RATERS)) < error)
    question, rater = np.divmod(np.arange(yes.size), RATERS)
    return Answers(question, rater, YES * yes.ravel().astype(np.int8), *yes.shape)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=24)
    data, rng, found = arrays("real"), np.random.default_rng(0), defaultdict(list)
    for _ in range(parser.parse_args().draws):
        models = rng.choice(data.top.shape[1], N_MODELS, replace=False)
        some = data.take(rng.choice(len(data.label), IMAGES, replace=False))
        best = some.top[:, models, 0].astype(int)
        for depth in DEPTHS:
            top = some.top[:, models, :depth].reshape(IMAGES, -1).astype(int)
            asked = [np.unique(row) for row in np.column_stack([top, some.label])]
            image, classes = np.repeat(np.arange(IMAGES), [len(row) for row in asked]), np.concatenate(asked)
            truth = some.sets[image, classes]
            right = accuracies(truth, image, classes, best)
            for error, (rule, (method, threshold)) in product(ERRORS, RULES.items()):
                valid = get("aggregator", method)(answered(truth, error, rng)).p >= threshold
                off = accuracies(valid, image, classes, best) - right
                apart = [abs(off[a] - off[b]) for a, b in combinations(range(N_MODELS), 2)]
                found[depth, error, rule].append((np.mean(valid != truth), off.mean(), np.mean(apart)))
    print(f"{'top k':6}{'error':7}{'rule':24}decided wrongly | real1 | differences")
    for (depth, error, rule), values in found.items():
        wrong, off, apart = 100 * np.mean(values, axis=0)
        print(f"{depth:<6}{error:<7.0%}{rule:24}{wrong:.1f} % | {off:+.1f} | {apart:.1f}")


if __name__ == "__main__":
    quiet()
    main()
