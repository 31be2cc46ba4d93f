"""Metrics of predicted sets that are computed for each class and averaged over the classes.

Which classes are predicted, and which cells count, is determined as in `manyhot.core.set_metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from manyhot.core.array_types import AnyFloats, Bools, Floats, Ints
from manyhot.core.estimates import Estimate, Pooled, Weights, undefined
from manyhot.core.jackknife import doubt_of
from manyhot.core.ranked_positives import AnsweredCells, answered_cells, scores_of
from manyhot.core.score_threshold import least_of
from manyhot.core.set_metrics import counted_cells, least_predicted, predicted_blocks, recall_weight
from manyhot.core.sets import Case
from manyhot.registry import register

_Places = tuple[Ints, Ints]
"""The images and the classes of some cells."""


@register(
    "metric",
    "f1_macro",
    also=("f1", "f1_score", "fbeta", "f2"),
    multi_label=True,
    better="higher",
    label="F1 (macro)",
    needs="scores",
    each_class=True,
    over_classes="with both if masked",
)
def f1_macro(
    case: Case, *, threshold: float = 0.5, link: str = "auto", masked: bool = False, beta: float = 1
) -> Estimate:
    """F1 score of each class over the images, 2 TP / (2 TP + FP + FN), averaged over the classes.

    Parameters
    ----------
    threshold, link, masked
        As in `manyhot.core.set_metrics.jaccard`.
    beta : float
        As in `manyhot.core.set_metrics.f1_samples`.

    References
    ----------
    ``sklearn.metrics.fbeta_score`` with ``average="macro"``.

    Notes
    -----
    `n` is the number of images.

    Deviation: a class that is neither valid nor predicted on any image with a positive weight is ignored, as
    in scikit-learn with ``zero_division=np.nan``. By default, scikit-learn counts it as 0. A class that is
    valid on no image is thus included only for models that predict it. Differences between models leave it
    out. With `masked`, a class with positives but no negatives is ignored, too: it has no false positives,
    whatever the model predicts.

    All predicted cells are stored, at 4 bytes per cell for up to 65,536 images and classes.
    """
    return _macro(partial(_f_beta, recall_weight(beta)), case, threshold, link, masked=masked)


@register(
    "metric",
    "precision_macro",
    also=("precision", "precision_score", "class_precision"),
    better="higher",
    label="Precision (macro)",
    needs="scores",
    each_class=True,
    over_classes="with both if masked",
)
def precision_macro(
    case: Case, *, threshold: float = 0.5, link: str = "auto", masked: bool = False
) -> Estimate:
    """Precision of each class over the images, TP / (TP + FP), averaged over the classes: CP.

    References
    ----------
    ``sklearn.metrics.precision_score`` with ``average="macro"``.

    Notes
    -----
    A class with positives that is never predicted has the value 0, as in scikit-learn.

    Deviation: a class that is neither valid nor predicted on any image is ignored, as is, with `masked`, a
    class without negatives; see `f1_macro`. scikit-learn counts the former as 0 and the latter as 0 or 1.
    """
    return _macro(_precision, case, threshold, link, masked=masked)


@register(
    "metric",
    "recall_macro",
    also=("recall", "recall_score", "class_recall", "sensitivity"),
    better="higher",
    label="Recall (macro)",
    needs="scores",
    each_class=True,
    over_classes="with positives",
)
def recall_macro(case: Case, *, threshold: float = 0.5, link: str = "auto", masked: bool = False) -> Estimate:
    """Recall of each class over the images, TP / (TP + FN), averaged over the classes with positives: CR.

    References
    ----------
    ``sklearn.metrics.recall_score`` with ``average="macro"`` and ``zero_division=np.nan``.

    Notes
    -----
    Deviation: a class without positives is ignored. By default, scikit-learn counts it as 0.
    """
    return _macro(_recall, case, threshold, link, masked=masked)


@register(
    "metric",
    "f1_of_averages",
    also=("cf1",),
    better="higher",
    label="F1 of averages (CF1)",
    needs="scores",
    each_class=True,
    over_classes="with both if masked",
)
def f1_of_averages(
    case: Case, *, threshold: float = 0.5, link: str = "auto", masked: bool = False
) -> Estimate:
    """Harmonic mean of `precision_macro` and `recall_macro`: CF1, which is not the mean of F1 scores.

    References
    ----------
    Opitz & Burst 2019, Macro F1 and Macro F1, arXiv 1911.03347: "F1 of averages". They show that it is never
    below `f1_macro` and can exceed it by up to 0.5, so the two should not be compared.

    Notes
    -----
    With `masked`, a class without negatives counts in recall, but not in precision.
    """
    precision = _predicted(_precision, case, threshold, link, masked=masked)
    if precision is None:
        return undefined(len(case.labels))
    return _with_compared(precision, _harmonic_mean)


def _harmonic_mean(precision: _PredictedCells) -> Pooled:
    parts = (precision, replace(precision, share=_recall, negative=None))

    def value(weights: Weights | None = None) -> float:
        return float(_harmonic(*(np.asarray(part.value(weights)) for part in parts)))

    def left_out(inside: Weights | None) -> Floats:
        return _harmonic(*(part.value(inside) + part.left_out(inside) for part in parts)) - value(inside)

    return Pooled(value, precision.scored, left_out, precision.doubt)


def _harmonic(a: Floats, b: Floats) -> Floats:
    return np.divide(2 * a * b, a + b, out=np.zeros_like(a), where=a + b != 0)


_Share = Callable[[Floats, Floats, Floats], tuple[Floats, Floats, Bools]]
"""Numerators and denominators of classes, and which classes count, from hits, predicted and positives."""


def _f_beta(
    weight: float, hits: Floats, predicted: Floats, positives: Floats
) -> tuple[Floats, Floats, Bools]:
    either = predicted + weight * positives
    return (1 + weight) * hits, either, either > 0


def _precision(hits: Floats, predicted: Floats, positives: Floats) -> tuple[Floats, Floats, Bools]:
    return hits, predicted, predicted + positives > 0


def _recall(hits: Floats, predicted: Floats, positives: Floats) -> tuple[Floats, Floats, Bools]:
    del predicted
    return hits, positives, positives > 0


def _macro(share: _Share, case: Case, threshold: float, link: str, *, masked: bool) -> Estimate:
    """Return the mean share of the classes that count."""
    cells = _predicted(share, case, threshold, link, masked=masked)
    if cells is None:
        return undefined(len(case.labels))
    return _with_compared(cells, _mean_share)


def _mean_share(cells: _PredictedCells) -> Pooled:
    return Pooled(cells.value, cells.scored, cells.left_out, cells.doubt)


def _with_compared(cells: _PredictedCells, average: Callable[[_PredictedCells], Pooled]) -> Pooled:
    """Return an average over the classes that count, which is compared over the classes with positives.

    A class without positives counts only for models that predict it: as 0, however often they do so. For one
    of two models, it would change the difference by as much as a class on which the other is always right.
    """
    if cells.share is _recall:  # all classes that count have positives
        return average(cells)
    compared = average(replace(cells, only_positive=True))
    return replace(average(cells), compared=compared, own_classes=cells.without_positives)


def _predicted(
    share: _Share, case: Case, threshold: float, link: str, *, masked: bool
) -> _PredictedCells | None:
    """Return the predicted cells and the positives; None if the model has no such scores."""
    least = least_predicted(case, threshold, link, masked=masked)
    if least is None:
        return None
    needs_negatives, masked = masked and share is not _recall, case.labels.leaves_out_cells(masked)
    answered = answered_cells(case)
    reached = answered.score >= least_of(least, answered.image, answered.classes)
    hit, positive = _where(answered, answered.yes & reached), _where(answered, answered.yes)
    predicted = [_where(answered, reached)] if masked else _predicted_cells(case, least)
    negative: _Places | Bools | None = None
    if needs_negatives:
        negative = _where(answered, ~answered.yes) if masked else case.labels.usable
    scored = counted_cells(case, answered, masked) > 0
    return _PredictedCells(case, share, hit, positive, predicted, scored, negative)


_ROUNDING = 1e-12
"""Share of the weight of all images that is taken for a rounding error."""

_HIT, _FALSE, _MISS, _REST = (
    np.array(ones)[:, None] for ones in ((1, 1, 1, 0), (0, 1, 0, 1), (0, 0, 1, 0), (0, 0, 0, 1))
)
"""What a predicted positive, a false positive, a miss and any other negative add to the hits, the predicted
cells, the positives and the negatives."""


@dataclass(frozen=True)
class _PredictedCells:
    """The predicted cells and the positives, by which macro averages are computed.

    Attributes
    ----------
    share : callable
    hit, positive : tuple of two ndarrays of int
        The images and the classes of the predicted positives, and of all positives.
    predicted : list of such tuples
        All predicted cells.
    scored : ndarray of bool, shape (n,)
        Whether any cell of the image counts.
    negative : tuple of two ndarrays of int, or ndarray of bool, shape (n,), optional
        The images and the classes of all negatives, or the images whose cells are all negatives or positives.
        Classes then count only if they have negatives.
    only_positive : bool
        Whether only classes with positives count, which are the same for all models.
    """

    case: Case
    share: _Share
    hit: _Places
    positive: _Places
    predicted: list[_Places]
    scored: Bools
    negative: _Places | Bools | None = None
    only_positive: bool = False

    @property
    def without_positives(self) -> Ints:
        """The classes that count without positives, because they are predicted."""
        sums = self._sums(None)
        return np.flatnonzero(self._shares(sums)[1] & (sums[2] == 0))

    def value(self, weights: Weights | None = None) -> float:
        """Return the mean of the shares over the classes that are counted."""
        values, counts = self._shares(self._sums(weights))
        return float(np.mean(values[counts])) if counts.any() else float("nan")

    def left_out(self, inside: Weights | None) -> Floats:
        """Return, for each image, the change in the value if the image is left out, shape (n,)."""
        sums = self._sums(inside)
        values, counts = self._shares(sums)
        without = [self._shares(np.maximum(sums - kind, 0)) for kind in (_HIT, _FALSE, _MISS, _REST)]
        change = self._by_image([others - values for others, _ in without])
        left = np.count_nonzero(counts) - self._by_image([counts & ~still for _, still in without])
        return np.asarray((values.sum() + change) / np.where(left > 0, left, np.nan) - self.value(inside))

    def doubt(self, inside: Weights | None) -> str:
        """Return the reason why the value has no interval; empty if it has one."""
        sums = self._sums(inside)
        return doubt_of(sums[2][(sums[2] > 0) & self._shares(sums)[1]])

    def _weights(self, weights: Weights | None) -> Floats:
        return np.ones(len(self.case.labels)) if weights is None else np.asarray(weights, np.float64)

    def _sums(self, weights: Weights | None) -> Floats:
        """Return the weights of hits, predicted, positives and `negative` of each class, shape (4, C)."""
        w = self._weights(weights)
        kinds = [[self.hit], self.predicted, [self.positive]]
        kinds.append([self.negative] if isinstance(self.negative, tuple) else [])
        sums = np.stack([_by_class(self.case, places, w) for places in kinds])
        if isinstance(self.negative, np.ndarray):
            total = w[self.negative].sum()
            sums[3] = np.where(total - sums[2] > _ROUNDING * total, total - sums[2], 0)
        return sums

    def _shares(self, sums: Floats) -> tuple[Floats, Bools]:
        """Return the share of each class, and whether the class counts."""
        part, whole, counts = self.share(*sums[:3])
        counts = sums[2] > 0 if self.only_positive else counts
        if self.negative is not None:
            counts = counts & (sums[3] > 0)
        return np.divide(part, whole, out=np.zeros(len(whole)), where=counts & (whole > 0)), counts

    def _by_image(self, kinds: Sequence[Floats | Bools]) -> Floats:
        """Sum over the cells of each image what the cells of each kind and class add."""
        hit, false, miss, rest = (values.astype(np.float64) for values in kinds)
        total = np.zeros(len(self.case.labels))
        false -= rest  # false positives are negatives, too
        if isinstance(self.negative, np.ndarray):  # all cells, without the positives
            total += rest.sum() * self.negative
            hit, miss = hit - rest, miss - rest
        for (image, classes), values in [
            (self.hit, hit - false - miss),
            (self.positive, miss),
            *((cells, false) for cells in self.predicted),
            *([(self.negative, rest)] if isinstance(self.negative, tuple) else []),
        ]:
            total += np.bincount(image, values.take(classes), minlength=len(total))
        return total


def _predicted_cells(case: Case, least: AnyFloats) -> list[_Places]:
    n, n_classes = scores_of(case).shape
    small_image, small_class = np.min_scalar_type(max(n - 1, 0)), np.min_scalar_type(n_classes - 1)
    places = []
    for start, reached in predicted_blocks(case, least):
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
