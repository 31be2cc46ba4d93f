"""Metrics of predicted sets: the classes of an image whose score is at least a threshold.

`threshold` is a probability, also for logits, which `link` turns into probabilities; see
`manyhot.core.score_threshold`. If the case has `thresholds` of classes, each class has its own, on the scale
of the scores. The metrics are undefined if it is unknown how scores become probabilities,
unless the threshold is on the scores as they are stored (``link="identity"``).

Usable images with an empty label set count: all predicted classes are wrong. As in `manyhot.core.ranking`,
all classes that are not in the label set are negatives, unless `masked` ignores unclear classes and classes
that raters were not asked about. Then images without any remaining class are skipped, and the metric is
undefined if a source does not record no answers.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from manyhot.core.array_types import AnyFloats, Bools, Floats, Ints
from manyhot.core.estimates import Estimate, Pooled, Ratio, Weights, mean_over, undefined
from manyhot.core.jackknife import doubt_of
from manyhot.core.ranked_positives import ROWS, AnsweredCells, answered_cells, comparable, scores_of
from manyhot.core.score_threshold import least_of, least_of_rows, least_score
from manyhot.core.sets import Case
from manyhot.errors import InputError
from manyhot.registry import register

_Places = tuple[Ints, Ints]
"""The images and the classes of some cells."""


@register(
    "metric",
    "subset_accuracy",
    also=("accuracy", "exact_match", "exact_match_ratio"),
    better="higher",
    label="Subset accuracy",
    needs="scores",
    all_classes=True,
    each_class=True,
)
def subset_accuracy(
    case: Case, *, threshold: float = 0.5, link: str = "auto", masked: bool = False
) -> Estimate:
    """Share of images whose predicted set equals the label set.

    Parameters
    ----------
    threshold : float
        Minimum probability of a predicted class.
    link : {"auto", "sigmoid", "softmax", "identity"}
        How logits are converted into probabilities. ``auto`` uses the softmax if images have an original
        label, and sigmoids if they have only label sets. With ``identity``, `threshold` refers to the stored
        scores.
    masked : bool
        Ignore unclear cells and cells that no rater was asked about.

    References
    ----------
    ``sklearn.metrics.accuracy_score`` of indicator matrices.

    Notes
    -----
    An empty predicted set equals an empty label set.
    """
    counts = _counts(case, threshold, link, masked=masked)
    if counts is None:
        return undefined(len(case.labels))
    equal = (counts.hits == counts.predicted) & (counts.hits == counts.positives)
    return mean_over(equal, counts.cells > 0)


@register(
    "metric",
    "jaccard",
    also=("jaccard_index", "jaccard_score"),
    better="higher",
    label="Jaccard",
    needs="scores",
    each_class=True,
)
def jaccard(
    case: Case, *, threshold: float = 0.5, link: str = "auto", masked: bool = False, zero_division: float = 1
) -> Estimate:
    """Intersection over union of the predicted set and the label set, averaged over images.

    Parameters
    ----------
    threshold, link, masked
        As in `subset_accuracy`.
    zero_division : {0, 1}
        The value of an image on which both sets are empty. By default, empty sets are equal, as in
        `subset_accuracy`.

    References
    ----------
    ``sklearn.metrics.jaccard_score`` with ``average="samples"`` and the same `zero_division`.

    Notes
    -----
    Deviation: `zero_division` is 1 by default. In scikit-learn, it is 0 with a warning, so a model that is
    right on all images has a value below 1 if some images have no valid class. If images with two empty sets
    were skipped, different models would skip different images.
    """
    counts = _counts(case, threshold, link, masked=masked)
    if counts is None:
        return undefined(len(case.labels))
    union = counts.predicted + counts.positives - counts.hits
    return _mean_share(counts.hits, union, counts, zero_division)


@register(
    "metric",
    "f1_samples",
    also=("f1", "f1_score", "example_f1"),
    better="higher",
    label="F1 (samples)",
    needs="scores",
    each_class=True,
)
def f1_samples(
    case: Case, *, threshold: float = 0.5, link: str = "auto", masked: bool = False, zero_division: float = 1
) -> Estimate:
    """F1 score of the predicted set and the label set of each image, averaged over images.

    Parameters
    ----------
    threshold, link, masked, zero_division
        As in `jaccard`.

    References
    ----------
    ``sklearn.metrics.f1_score`` with ``average="samples"`` and the same `zero_division`.

    Notes
    -----
    Deviation: `zero_division` is 1 by default, as in `jaccard`.
    """
    counts = _counts(case, threshold, link, masked=masked)
    if counts is None:
        return undefined(len(case.labels))
    return _mean_share(2 * counts.hits, counts.predicted + counts.positives, counts, zero_division)


def _mean_share(part: Ints, whole: Ints, counts: _Counts, zero_division: float) -> Ratio:
    """Return the mean share of each image; `zero_division` is that of an image with two empty sets."""
    if zero_division not in (0, 1):
        raise InputError(
            "The value of two empty sets must be 0 or 1.",
            where="`zero_division`",
            got=zero_division,
            allowed="0, 1",
        )
    return mean_over(np.where(whole > 0, part / np.maximum(whole, 1), zero_division), counts.cells > 0)


@register(
    "metric",
    "hamming",
    also=("hamming_loss",),
    better="lower",
    label="Hamming loss",
    needs="scores",
    all_classes=True,
    each_class=True,
)
def hamming(case: Case, *, threshold: float = 0.5, link: str = "auto", masked: bool = False) -> Estimate:
    """Hamming loss: share of the (image, class) pairs of all images that are predicted wrongly.

    References
    ----------
    ``sklearn.metrics.hamming_loss``.
    """
    counts = _counts(case, threshold, link, masked=masked)
    if counts is None:
        return undefined(len(case.labels))
    wrong = counts.predicted + counts.positives - 2 * counts.hits
    return Ratio(wrong.astype(np.float64), counts.cells.astype(np.float64), counts.cells > 0)


@register(
    "metric",
    "f1_micro",
    also=("f1", "f1_score"),
    multi_label=True,
    better="higher",
    label="F1 (micro)",
    needs="scores",
    each_class=True,
)
def f1_micro(case: Case, *, threshold: float = 0.5, link: str = "auto", masked: bool = False) -> Estimate:
    """F1 score over all (image, class) pairs: 2 TP / (2 TP + FP + FN).

    References
    ----------
    ``sklearn.metrics.f1_score`` with ``average="micro"``.

    Notes
    -----
    Deviation: the value is NaN if there are no predicted and no positive cells. scikit-learn returns
    `zero_division`.
    """
    counts = _counts(case, threshold, link, masked=masked)
    if counts is None:
        return undefined(len(case.labels))
    either = counts.predicted + counts.positives
    return Ratio((2 * counts.hits).astype(np.float64), either.astype(np.float64), counts.cells > 0)


@register(
    "metric",
    "f1_macro",
    also=("f1", "f1_score"),
    multi_label=True,
    better="higher",
    label="F1 (macro)",
    needs="scores",
    each_class=True,
)
def f1_macro(case: Case, *, threshold: float = 0.5, link: str = "auto", masked: bool = False) -> Estimate:
    """F1 score of each class over the images, 2 TP / (2 TP + FP + FN), averaged over the classes.

    References
    ----------
    ``sklearn.metrics.f1_score`` with ``average="macro"``.

    Notes
    -----
    `n` is the number of images.

    Deviation: a class that is neither positive nor predicted on any image with positive weight does not
    count, as in scikit-learn with ``zero_division=np.nan``. By default, scikit-learn counts it as 0.

    All predicted cells are stored with 4 bytes per cell, for up to 65,536 images and classes.
    """
    least = _least(case, threshold, link, masked=masked)
    if least is None:
        return undefined(len(case.labels))
    masked = case.labels.leaves_out_cells(masked)
    answered = answered_cells(case)
    reached = answered.score >= least_of(least, answered.image, answered.classes)
    hit, positive = _where(answered, answered.yes & reached), _where(answered, answered.yes)
    predicted = [_where(answered, reached)] if masked else _predicted_cells(case, least)

    cells = _PredictedCells(case, hit, positive, predicted)
    return Pooled(cells.value, _cells(case, answered, masked) > 0, cells.left_out, cells.doubt)


@dataclass(frozen=True)
class _PredictedCells:
    """The predicted cells and the positives, by which macro F1 is computed.

    Attributes
    ----------
    hit, positive : tuple of two ndarrays of int
        The images and the classes of the predicted positives, and of all positives.
    predicted : list of such tuples
        All predicted cells.
    """

    case: Case
    hit: _Places
    positive: _Places
    predicted: list[_Places]

    def value(self, weights: Weights | None = None) -> float:
        """Return the mean F1 score of the classes with a predicted or positive cell."""
        hits, either = self._counts(weights)
        counts = either > 0
        return float(np.mean(2 * hits[counts] / either[counts])) if counts.any() else float("nan")

    def left_out(self, inside: Weights | None) -> Floats:
        """Return, for each image, the change of the value if the image is left out, shape (n,)."""
        hits, either = self._counts(inside)
        values = 2 * hits / np.maximum(either, 1)
        # Without a cell that is either predicted or positive, and without one that is both; a class without
        # cells left loses its value.
        one = 2 * hits / np.maximum(either - 1, 1) - values
        both = np.where(either > 2, 2 * (hits - 1) / np.maximum(either - 2, 1), 0) - values
        change = self._by_image(one, both)
        left = np.count_nonzero(either > 0) - self._by_image(either == 1, (either == 2) & (hits == 1))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((values.sum() + change) / left - self.value(inside))

    def doubt(self, inside: Weights | None) -> str:
        """Return the reason why the value has no interval; empty if it has one."""
        positives = _by_class(self.case, [self.positive], self._weights(inside))
        return doubt_of(positives[positives > 0])

    def _weights(self, weights: Weights | None) -> Floats:
        return np.ones(len(self.case.labels)) if weights is None else np.asarray(weights, np.float64)

    def _counts(self, weights: Weights | None) -> tuple[Floats, Floats]:
        """Return the weights of the hits, and of the positives and the predicted cells, of each class."""
        w = self._weights(weights)
        return _by_class(self.case, [self.hit], w), _by_class(self.case, [self.positive, *self.predicted], w)

    def _by_image(self, one: Floats | Bools, both: Floats | Bools) -> Floats:
        """Sum over the cells of each image what the cells of each class add."""
        one, both = one.astype(np.float64), both.astype(np.float64)
        total = np.zeros(len(self.case.labels))
        for (image, classes), values in [(self.hit, both - 2 * one)] + [
            (cells, one) for cells in (self.positive, *self.predicted)
        ]:
            total += np.bincount(image, values.take(classes), minlength=len(total))
        return total


@dataclass(frozen=True)
class _Counts:
    """Counts of each image, each of shape (n,).

    Attributes
    ----------
    hits, positives, predicted, cells : ndarray of int
        Number of predicted positives, of positives, of predicted classes and of all classes that count.
    """

    hits: Ints
    positives: Ints
    predicted: Ints
    cells: Ints


def _counts(case: Case, threshold: float, link: str, *, masked: bool) -> _Counts | None:
    """Return the counts of each image; None if the metric is undefined."""
    least = _least(case, threshold, link, masked=masked)
    if least is None:
        return None
    masked = case.labels.leaves_out_cells(masked)
    answered = answered_cells(case)
    reached = answered.score >= least_of(least, answered.image, answered.classes)
    count = functools.partial(np.bincount, minlength=len(case.labels))
    return _Counts(
        hits=count(answered.image[answered.yes & reached]),
        positives=count(answered.image[answered.yes]),
        predicted=count(answered.image[reached]) if masked else _predicted_sizes(case, least),
        cells=_cells(case, answered, masked),
    )


def _least(case: Case, threshold: float, link: str, *, masked: bool) -> AnyFloats | None:
    """Return the least score of a predicted class; None if the metric is undefined."""
    least = least_score(case, threshold, link)
    return None if masked and not case.labels.asked_known else least


def _cells(case: Case, answered: AnsweredCells, masked: bool) -> Ints:
    """Return the number of cells of each image that count."""
    if masked:
        return np.bincount(answered.image, minlength=len(case.labels))
    return case.labels.usable * case.labels.n_classes


def _blocks(case: Case, least: AnyFloats) -> Iterator[tuple[int, Bools]]:
    """Yield the first image of each block and the predicted cells, none of them of unusable images."""
    scores, usable = scores_of(case), case.labels.usable
    for start in range(0, len(scores), ROWS):
        of_rows = comparable(least_of_rows(least, slice(start, start + ROWS)))
        reached = comparable(scores[start : start + ROWS]) >= of_rows
        reached[~usable[start : start + ROWS]] = False
        yield start, reached


def _predicted_sizes(case: Case, least: AnyFloats) -> Ints:
    count = np.min_scalar_type(case.labels.n_classes)  # as in `ranking`, twice as fast as int64
    sizes = [reached.sum(axis=1, dtype=count) for _, reached in _blocks(case, least)]
    return np.concatenate([np.empty(0, np.intp), *sizes])


def _predicted_cells(case: Case, least: AnyFloats) -> list[_Places]:
    n, n_classes = scores_of(case).shape
    small_image, small_class = np.min_scalar_type(max(n - 1, 0)), np.min_scalar_type(n_classes - 1)
    places = []
    for start, reached in _blocks(case, least):
        image, classes = np.divmod(np.flatnonzero(reached), n_classes)  # 7 times as fast as np.nonzero
        places.append(((image + start).astype(small_image), classes.astype(small_class)))
    return places


def _where(cells: AnsweredCells, chosen: Bools) -> _Places:
    return cells.image[chosen], cells.classes[chosen]


def _by_class(case: Case, places: list[_Places], w: Floats) -> Floats:
    """Return the weight of the cells of each class, shape (C,)."""
    total = np.zeros(case.labels.n_classes)
    for image, classes in places:
        total += np.bincount(classes, w.take(image), minlength=len(total))
    return total
