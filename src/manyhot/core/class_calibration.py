"""Calibration of each class: its probability against its label, on all images for which raters were asked.

The top class says little about sigmoids, because it was selected among several classes, and images without
any valid class are left out: it is right more often than its probability says. Here, an image whose label set
is empty counts for all classes to which raters answered *no*.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from manyhot.core.array_types import Floats, Ints, Ints64
from manyhot.core.clusters import Clusters
from manyhot.core.jackknife import jackknife_ends, jackknife_error
from manyhot.core.reliability import BINS, Bins, Outcomes, bin_of
from manyhot.core.sets import NO, NOT_ASKED, UNCLEAR, YES, Case
from manyhot.core.share_intervals import clustered_interval, difference_interval, proportion_interval
from manyhot.core.softmax import checked

CHANCE_DRAWS = 1000
"""Draws of labels from the probabilities of a class."""

FEWEST_FOR_BRIER = 10
"""Minimum number of images with, and without, a class for an interval of its Brier score, because a few
images make up most of the score."""

Value = tuple[Floats, Floats, Floats]
"""Values of all classes, and the ends of their intervals; NaN if undefined."""


@dataclass(frozen=True)
class ClassCalibration:
    """The calibration of C classes.

    Attributes
    ----------
    n, n_positives, n_unclear, n_unasked : ndarray of int64, shape (C,)
        Number of usable images on which the state of the class is yes or no; yes; unclear; not asked. The
        calibration is computed on the `n` images.
    predicted : ndarray of float64, shape (C,)
        Mean probability.
    prevalence, excess, brier : tuple of three ndarrays of float64, shape (C,)
        Share of images with the class; `predicted` minus this share; and mean squared difference between
        probability and label. Each with the ends of its interval.
    ece : ndarray of float64, shape (C,)
        Calibration error in `manyhot.core.reliability.BINS` bins of equal width.
    chance, chance_hi : ndarray of float64, shape (C,)
        Mean and 95 % quantile of the calibration error that these probabilities would have if they were
        calibrated; see `class_calibration`.
    bins : Bins
        The bins of all classes together.
    lo, hi : ndarray of float64, shape (B,)
        Interval of the share of yes answers in each bin. Cells of one image are not independent.
    """

    n: Ints64
    n_positives: Ints64
    n_unclear: Ints64
    n_unasked: Ints64
    predicted: Floats
    prevalence: Value
    excess: Value
    ece: Floats
    chance: Floats
    chance_hi: Floats
    brier: Value
    bins: Bins
    lo: Floats
    hi: Floats


def class_outcomes(case: Case) -> Iterator[Outcomes]:
    """Yield each class's probability and validity on the images on which raters were asked about it.

    Unusable images and unclear classes are left out. If the label sets do not record *no* answers, any class
    that is not listed counts as not valid.
    """
    for class_id, state in enumerate(class_states(case)):
        image = np.flatnonzero((state == NO) | (state == YES))
        p = case.probability_of(image, np.full(len(image), class_id))
        p = checked(p, lambda row, image=image: case.name(int(image[row])))  # type: ignore[misc]
        yield Outcomes(image, p, state[image] == YES)


def only_yes(outcomes: Outcomes, n: int, w: Floats | None = None) -> bool:
    """Return whether the counted images are all positives, but not all of the n images are counted.

    The frequency of the class among these images then says nothing about its frequency among all images.
    """
    right = outcomes.right if w is None else outcomes.right[w > 0]
    return bool(right.all()) and len(right) < n


def class_states(case: Case) -> Iterator[Ints64]:
    """Yield the state of each class on all images, shape (n,); -1 on images that are not usable."""
    sets = case.labels
    order = np.argsort(sets.classes, kind="stable")
    edges = np.searchsorted(sets.classes[order], np.arange(sets.n_classes + 1))
    for start, end in itertools.pairwise(edges):
        own = order[start:end]
        state = np.full(len(sets), sets.unlisted, np.int64)
        state[sets.rows[own]] = sets.state[own]
        yield np.where(sets.usable, state, -1)


def class_calibration(
    case: Case, *, rng: np.random.Generator, clusters: Clusters | None = None
) -> ClassCalibration:
    """Return the calibration of each class.

    Parameters
    ----------
    case : Case
        Predictions with probabilities of all classes.
    rng : numpy.random.Generator
        Draws labels.
    clusters : Clusters, optional
        Clusters of images, which all intervals treat as the independent cases. By default, each image is a
        cluster.

    Notes
    -----
    Because chance inflates a calibration error, the error has no interval. Instead, it is compared with the
    errors of labels that are drawn from the probabilities ("consistency resampling"): in each bin, from the
    binomial distribution with the mean probability of the bin. An error above `chance_hi` shows that a class
    is not calibrated. With clusters, the differences of the bins are drawn from a normal distribution, whose
    variances are those of independent images times one design effect, and whose correlations are those of the
    sums of the clusters. For calibrated classes, 2 to 7 % of errors are above `chance_hi`.

    The interval of `excess` combines the intervals of its two shares and uses the correlation of probability
    and label. Its width is therefore not 0 for a class without positives.

    A class to which raters answered *yes* on some images and *no* on none is left out of the bins, and its
    values are NaN, unless it is *yes* on all images.

    References
    ----------
    Bröcker and Smith 2007, Increasing the Reliability of Reliability Diagrams, doi 10.1175/WAF993.1, for
    consistency resampling. Brier 1950, doi 10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2. Kish 1965,
    Survey Sampling, for the design effect.
    """
    n, c = len(case.labels), case.labels.n_classes
    columns = np.full((13, c), np.nan)
    clusters = clusters or Clusters(np.arange(n), n)
    sums, yes, cells = np.zeros((3, BINS)), np.zeros((clusters.n, BINS)), np.zeros((clusters.n, BINS))
    for class_id, outcomes in enumerate(class_outcomes(case)):
        if only_yes(outcomes, int(np.count_nonzero(case.labels.usable))):
            continue
        at = bin_of(outcomes.confidence, BINS)
        own = Bins.of(at, BINS, np.ones(len(at)), outcomes.confidence, outcomes.right.astype(np.float64))
        sums += own.weight, own.confidence, own.right
        unit = clusters.number[outcomes.image]
        np.add.at(cells, (unit, at), 1)
        np.add.at(yes, (unit, at), outcomes.right)
        if len(at):
            columns[:, class_id] = _of_class(outcomes, own, unit, rng)
    lo, hi = clustered_interval(yes, cells, lambda values: values.sum(axis=0))
    n_asked, n_yes, n_unclear, n_unasked = (
        np.array([np.count_nonzero(np.isin(state, these)) for state in class_states(case)], np.int64)
        for these in ((NO, YES), (YES,), (UNCLEAR,), (NOT_ASKED,))
    )
    predicted, ece, chance, chance_hi, *rest = columns
    prevalence, excess, brier = ((rest[i], rest[i + 1], rest[i + 2]) for i in (0, 3, 6))
    return ClassCalibration(
        n_asked,
        n_yes,
        n_unclear,
        n_unasked,
        predicted,
        prevalence,
        excess,
        ece,
        chance,
        chance_hi,
        brier,
        Bins(*sums),
        lo,
        hi,
    )


def _of_class(outcomes: Outcomes, bins: Bins, unit: Ints, rng: np.random.Generator) -> list[float]:
    p, y = outcomes.confidence, outcomes.right.astype(np.float64)
    n, n_yes = len(p), int(y.sum())
    changes = [_changes(values, unit) for values in (p, y)]
    predicted = (p.mean(), *_mean_interval(p.mean(), changes[0]))
    share = (y.mean(), *(float(end) for end in _share_interval(y, unit)))
    varies = len(changes[0]) > 1 and changes[0].std() > 0 and changes[1].std() > 0
    correlation = float(np.corrcoef(changes[0], changes[1])[0, 1]) if varies else 0.0
    ends = difference_interval(predicted, share, correlation)
    squares = (p - y) ** 2
    enough = min(n_yes, n - n_yes) >= FEWEST_FOR_BRIER
    of_squares = _changes(squares, unit)
    brier = squares.mean(), *(_mean_interval(squares.mean(), of_squares, "logit") if enough else _UNKNOWN)
    errors = np.abs(_chance_differences(outcomes, bins, unit, rng)).sum(axis=1) / n
    chance = (errors.mean(), np.quantile(errors, 0.95))
    return [
        predicted[0],
        bins.mean_gap(),
        *chance,
        *share,
        predicted[0] - share[0],
        *map(float, ends),
        *brier,
    ]


_UNKNOWN = np.nan, np.nan


def _chance_differences(outcomes: Outcomes, bins: Bins, unit: Ints, rng: np.random.Generator) -> Floats:
    """Draw number of positives minus sum of probabilities of each bin, for a calibrated class."""
    mean = np.minimum(bins.confidence / np.maximum(bins.weight, 1), 1)  # rounding may exceed 1
    if np.bincount(unit).max() == 1:
        drawn = rng.binomial(bins.weight.astype(np.int64), mean, (CHANCE_DRAWS, len(mean)))
        return np.asarray(drawn - bins.confidence)
    p, at = outcomes.confidence, bin_of(outcomes.confidence, BINS)
    sums = np.zeros((unit.max() + 1, BINS))
    np.add.at(sums, (unit, at), outcomes.right - p)
    products = sums.T @ sums
    observed, independent = np.diag(products), np.bincount(at, p * (1 - p), BINS)
    # Design effects of single bins depend on few clusters, and positive correlation is what clusters are for.
    effect = max(observed.sum() / max(independent.sum(), np.finfo(float).tiny), 1)
    scale = np.sqrt(effect * independent / np.where(observed > 0, observed, np.inf))
    covariance = products * scale * scale[:, None]
    return rng.multivariate_normal(np.zeros(BINS), covariance, CHANCE_DRAWS, method="eigh")


def _changes(values: Floats, unit: Ints) -> Floats:
    """Return what leaving out each image, or each cluster of images, changes in a mean."""
    size = np.bincount(unit)
    some = size > 0
    sums, size = np.bincount(unit, values)[some], size[some]
    rest = len(values) - size
    return np.asarray((values.mean() * size - sums) / np.where(rest > 0, rest, 1))


def _share_interval(y: Floats, unit: Ints) -> tuple[Floats, Floats]:
    """Return the interval of a share of images, or of clusters of them."""
    size = np.bincount(unit)
    if size.max() == 1:
        return proportion_interval(y.sum(), len(y))
    return clustered_interval(np.bincount(unit, y), size, lambda values: values.sum(axis=0))


def _mean_interval(mean: float, changes: Floats, scale: str = "plain") -> tuple[float, float]:
    """Return the interval of a mean; on the plain scale, a mean that does not vary is exact."""
    error, df = jackknife_error(changes)
    if scale == "plain" and not error > 0:
        return mean, mean
    return jackknife_ends(mean, error, df, scale=scale)  # type: ignore[arg-type]
