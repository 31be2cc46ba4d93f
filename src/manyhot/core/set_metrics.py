"""Metrics of predicted sets: the classes of an image whose score is at least a threshold.

`threshold` is a probability, also for logits, which `link` turns into probabilities; see
`manyhot.core.score_threshold`. If the case has `thresholds` of classes, each class has its own, on the scale
of the scores. The metrics are undefined if it is unknown how scores become probabilities, unless the
threshold applies to the stored scores (``link="identity"``). Usable images with an empty label set count; all
their predicted classes are wrong. As in `manyhot.core.ranking`, all classes that are not in the label set are
negatives, unless `masked` ignores unclear classes and classes that raters were not asked about. With
`masked`, images without any remaining class are skipped, and the metric is undefined if a source does not
record *no* answers.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from manyhot.core.array_types import AnyFloats, Bools, Floats, Ints
from manyhot.core.estimates import Estimate, Ratio, mean_over, undefined
from manyhot.core.ranked_positives import ROWS, AnsweredCells, answered_cells, comparable, scores_of
from manyhot.core.score_threshold import least_of, least_of_rows, least_score
from manyhot.core.sets import Case
from manyhot.errors import InputError
from manyhot.parameters import is_number
from manyhot.registry import register


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
        How logits are converted into probabilities. ``auto`` chooses a link as in
        `manyhot.core.score_threshold.link_of`: unless a link was declared, usually the softmax if images have
        an original label, and sigmoids if they have only label sets. With ``identity``, `threshold` refers to
        the stored scores.
    masked : bool
        Whether to ignore unclear cells and cells that no rater was asked about.

    References
    ----------
    ``sklearn.metrics.accuracy_score`` of indicator matrices.

    Notes
    -----
    If both sets are empty, they are equal.
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
        The value of an image if both sets are empty. By default, it is 1, because empty sets are equal, as in
        `subset_accuracy`.

    References
    ----------
    ``sklearn.metrics.jaccard_score`` with ``average="samples"`` and the same `zero_division`.

    Notes
    -----
    Deviation: `zero_division` is 1 by default. In scikit-learn, it is 0 by default, with a warning, so that a
    model that is right on all images has a value below 1 if some images have no valid class. If images were
    skipped where both sets are empty, different models would skip different images.
    """
    counts = _counts(case, threshold, link, masked=masked)
    if counts is None:
        return undefined(len(case.labels))
    union = counts.predicted + counts.positives - counts.hits
    return _mean_share(counts.hits, union, counts, zero_division)


@register(
    "metric",
    "f1_samples",
    also=("f1", "f1_score", "example_f1", "fbeta", "f2"),
    better="higher",
    label="F1 (samples)",
    needs="scores",
    each_class=True,
)
def f1_samples(
    case: Case,
    *,
    threshold: float = 0.5,
    link: str = "auto",
    masked: bool = False,
    zero_division: float = 1,
    beta: float = 1,
) -> Estimate:
    """F1 score of the predicted set and the label set of each image, averaged over images.

    Parameters
    ----------
    threshold, link, masked, zero_division
        As in `jaccard`.
    beta : float
        How many times as important recall is as precision; with 2, F2 instead of F1.

    References
    ----------
    ``sklearn.metrics.fbeta_score`` with ``average="samples"`` and the same `zero_division`.

    Notes
    -----
    Deviation: `zero_division` is 1 by default, as in `jaccard`.
    """
    counts = _counts(case, threshold, link, masked=masked)
    if counts is None:
        return undefined(len(case.labels))
    weight = recall_weight(beta)
    whole = counts.predicted + weight * counts.positives.astype(np.float64)
    part = (1 + weight) * counts.hits.astype(np.float64)
    return _mean_share(part, whole, counts, zero_division)


def recall_weight(beta: float) -> float:
    """Return the square of `beta`, by which F-beta weights positives.

    Raises
    ------
    InputError
        If it is not a positive number.
    """
    if not is_number(beta) or beta <= 0:
        raise InputError(
            "The importance of recall must be positive.",
            where="`beta`",
            got=beta,
            allowed="above 0",
            do="pass 1 for F1 or 2 for F2",
        )
    return float(beta) ** 2


def _mean_share(part: Ints | Floats, whole: Ints | Floats, counts: _Counts, zero_division: float) -> Ratio:
    """Return the mean share of each image; `zero_division` is that of an image with two empty sets."""
    if zero_division not in (0, 1):
        raise InputError(
            "The value of two empty sets must be 0 or 1.",
            where="`zero_division`",
            got=zero_division,
            allowed="0, 1",
        )
    return mean_over(
        np.where(whole > 0, part / np.where(whole > 0, whole, 1), zero_division), counts.cells > 0
    )


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
    """Hamming loss: share of all (image, class) pairs that are predicted wrongly.

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
    also=("f1", "f1_score", "fbeta", "f2"),
    multi_label=True,
    better="higher",
    label="F1 (micro)",
    needs="scores",
    each_class=True,
)
def f1_micro(
    case: Case, *, threshold: float = 0.5, link: str = "auto", masked: bool = False, beta: float = 1
) -> Estimate:
    """F1 score over all (image, class) pairs: 2 TP / (2 TP + FP + FN).

    Parameters
    ----------
    threshold, link, masked
        As in `jaccard`.
    beta : float
        As in `f1_samples`.

    References
    ----------
    ``sklearn.metrics.fbeta_score`` with ``average="micro"``.

    Notes
    -----
    Deviation: the value is NaN if no cell is predicted or positive. scikit-learn returns `zero_division`.
    """
    counts = _counts(case, threshold, link, masked=masked)
    if counts is None:
        return undefined(len(case.labels))
    # Not twice the hits: as the number of cases of the interval, TP + FP + FN misses would be too many.
    weight = recall_weight(beta)
    mean = (counts.predicted + weight * counts.positives) / (1 + weight)
    return Ratio(counts.hits.astype(np.float64), mean, counts.cells > 0)


@register(
    "metric",
    "precision_micro",
    also=("precision", "precision_score", "overall_precision"),
    better="higher",
    label="Precision (micro)",
    needs="scores",
    each_class=True,
)
def precision_micro(
    case: Case, *, threshold: float = 0.5, link: str = "auto", masked: bool = False
) -> Estimate:
    """Share of the predicted (image, class) pairs that are valid, TP / (TP + FP): overall precision, OP.

    References
    ----------
    ``sklearn.metrics.precision_score`` with ``average="micro"``.

    Notes
    -----
    Deviation: the value is NaN if no class is predicted. scikit-learn returns `zero_division`.
    """
    counts = _counts(case, threshold, link, masked=masked)
    return undefined(len(case.labels)) if counts is None else counts.ratio(counts.predicted)


@register(
    "metric",
    "recall_micro",
    also=("recall", "recall_score", "overall_recall", "sensitivity"),
    better="higher",
    label="Recall (micro)",
    needs="scores",
    each_class=True,
)
def recall_micro(case: Case, *, threshold: float = 0.5, link: str = "auto", masked: bool = False) -> Estimate:
    """Share of the valid (image, class) pairs that are predicted, TP / (TP + FN): overall recall, OR.

    References
    ----------
    ``sklearn.metrics.recall_score`` with ``average="micro"``.

    Notes
    -----
    Deviation: the value is NaN if no class is valid. scikit-learn returns `zero_division`.
    """
    counts = _counts(case, threshold, link, masked=masked)
    return undefined(len(case.labels)) if counts is None else counts.ratio(counts.positives)


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

    def ratio(self, whole: Ints) -> Ratio:
        """Return the total number of hits as a share of another total, both over all images."""
        return Ratio(self.hits.astype(np.float64), whole.astype(np.float64), self.cells > 0)


def _counts(case: Case, threshold: float, link: str, *, masked: bool) -> _Counts | None:
    """Return the counts of each image; None if the metric is undefined."""
    least = least_predicted(case, threshold, link, masked=masked)
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
        cells=counted_cells(case, answered, masked),
    )


def least_predicted(case: Case, threshold: float, link: str, *, masked: bool) -> AnyFloats | None:
    """Return the lowest score at which a class is predicted; None if the metric is undefined."""
    least = least_score(case, threshold, link)
    return None if masked and not case.labels.asked_known else least


def counted_cells(case: Case, answered: AnsweredCells, masked: bool) -> Ints:
    """Return the number of cells per image that are counted."""
    if masked:
        return np.bincount(answered.image, minlength=len(case.labels))
    return case.labels.usable * case.labels.n_classes


def predicted_blocks(case: Case, least: AnyFloats) -> Iterator[tuple[int, Bools]]:
    """Yield the first image and the predicted cells of each block. Unusable images have no such cells."""
    scores, usable = scores_of(case), case.labels.usable
    for start in range(0, len(scores), ROWS):
        of_rows = comparable(least_of_rows(least, slice(start, start + ROWS)))
        reached = comparable(scores[start : start + ROWS]) >= of_rows
        reached[~usable[start : start + ROWS]] = False
        yield start, reached


def _predicted_sizes(case: Case, least: AnyFloats) -> Ints:
    count = np.min_scalar_type(case.labels.n_classes)  # as in `ranking`, twice as fast as int64
    sizes = [reached.sum(axis=1, dtype=count) for _, reached in predicted_blocks(case, least)]
    return np.concatenate([np.empty(0, np.intp), *sizes])
