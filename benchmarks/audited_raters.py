"""How often intervals of an audit hold if raters err, without and with draws of people's label sets.

    python benchmarks/audited_raters.py [--draws 100]

In a draw, 5,000 of ReaL's images, three of 67 published models, and an audit of 1,000 images. Raters answer
about the top five classes of each model and the original label, each wrongly with the same probability, and
`auto` combines their answers. Original labels propose. The true values are those of ReaL's answers to the
same questions about all 5,000 images. Intervals are of people's label sets as they are, which is the default
of `manyhot evaluate --audited`, and over 20 draws of these from their probabilities, as with
``--posterior 20``, once with probabilities as `auto` has them (``not adjusted``), and once as evaluate
adjusts them to whether a class is proposed (``draws``).

Of `real1` of the models, and of differences of two: the mean error of the values (of differences, its mean
size), the median half width, and the share of intervals with the true value, in points and percent; and what
share of the variance is due to raters.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from itertools import combinations, product

import numpy as np
from audited_data import arrays
from common import quiet

from manyhot.core.answers import YES, Answers
from manyhot.core.audit_samples import uniform_design
from manyhot.core.audited import estimate, linearised_ratios
from manyhot.core.estimates import Ratio
from manyhot.core.posterior import adjusted_probabilities, combined
from manyhot.registry import get

N_IMAGES, IMAGES, N_MODELS, DEPTH, DRAWS, THRESHOLD = 5000, 1000, 3, 5, 20, 0.8
RATERS, ERRORS = (1, 2, 3), (0.02, 0.05, 0.1)
PAIRS = np.array(list(combinations(range(N_MODELS), 2))).T


class Questions:
    """The questions about some images, and which of them decide `real1` of each model."""

    def __init__(self, some, models):
        n = len(some.label)
        top = some.top[:, models, :DEPTH].reshape(n, -1).astype(int)
        asked = np.column_stack([top, some.label])
        order = np.sort(asked, axis=1)
        new = np.column_stack([np.ones(n, bool), order[:, 1:] != order[:, :-1]])
        self.image, self.classes = np.nonzero(new)[0], order[new]
        self.truth, self.n = some.sets[self.image, self.classes], n
        key = self.image * some.sets.shape[1] + self.classes
        best = np.arange(n)[:, None] * some.sets.shape[1] + some.top[:, models, 0].astype(int)
        self.best = np.searchsorted(key, best)
        self.is_proposed = self.classes == some.label[self.image]

    def ratios(self, valid):
        """Return `real1` of each model, if these questions have the answer yes."""
        scored = np.bincount(self.image, valid, self.n) > 0
        return [Ratio(valid[best] & scored, scored, scored) for best in self.best.T]


def answered(truth, raters, error, rng):
    """Return which answers of each rater are yes."""
    return truth[:, None] ^ (rng.random((len(truth), raters)) < error)


def by_aggregator(yes):
    """Return the probability that each class is valid, by `auto`."""
    question, rater = np.divmod(np.arange(yes.size), yes.shape[1])
    return get("aggregator", "auto")(
        Answers(question, rater, YES * yes.ravel().astype(np.int8), *yes.shape)
    ).p


def summed(found, name, estimated, truth):
    lo, hi = estimated.interval()
    share = np.zeros(len(lo)) if estimated.rater_share is None else estimated.rater_share
    error = 100 * (estimated.value - truth)
    found[name].append(np.stack([error, 50 * (hi - lo), 100 * ((lo <= truth) & (truth <= hi)), 100 * share]))


def simulate(draws, data, raters, error):
    """Return error, half width, coverage and share of raters, by kind of value and of interval."""
    rng, found = np.random.default_rng([raters, int(1000 * error)]), defaultdict(list)
    for _ in range(draws):
        models = rng.choice(data.top.shape[1], N_MODELS, replace=False)
        some = data.take(rng.choice(len(data.label), N_IMAGES, replace=False))
        every = Questions(some, models)
        truth = np.array([r.value() for r in every.ratios(every.truth)])
        sample = uniform_design(N_IMAGES, IMAGES).draw(rng)
        here = Questions(some.take(sample.images), models)
        p = by_aggregator(answered(here.truth, raters, error, rng))
        adjusted, ones = adjusted_probabilities(p, here.is_proposed), np.ones(N_IMAGES, bool)
        proposed = [Ratio(some.top[:, m, 0] == some.label, ones, ones) for m in models]
        sets = {"as they are": [p >= THRESHOLD]}
        for name, q in (("not adjusted", p), ("draws", adjusted)):
            sets[name] = [rng.random(len(q)) < q for _ in range(DRAWS)]
        for name, each in sets.items():
            values = [linearised_ratios(here.ratios(valid), proposed, sample) for valid in each]
            summed(found, ("real1", name), combined([estimate(v, sample) for v in values]), truth)
            pairs = combined([estimate(v.differences(*PAIRS), sample) for v in values])
            summed(found, ("difference", name), pairs, truth[PAIRS[0]] - truth[PAIRS[1]])
    return {name: np.stack(each) for name, each in found.items()}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=100)
    draws, data = parser.parse_args().draws, arrays("real")
    print(f"{'raters':8}{'error':7}{'value':12}{'intervals':14}off by | ± | coverage | due to raters")
    for raters, error in product(RATERS, ERRORS):
        for (value, name), numbers in simulate(draws, data, raters, error).items():
            off, half, covered, share = numbers.transpose(1, 0, 2).reshape(4, -1)
            mean = off.mean() if value == "real1" else np.abs(off).mean()
            cells = f"{mean:+.2f} | {np.nanmedian(half):.2f} | {covered.mean():.1f} % | {share.mean():.0f} %"
            print(f"{raters:<8}{error:<7.0%}{value:12}{name:14}{cells}", flush=True)


if __name__ == "__main__":
    quiet()
    main()
