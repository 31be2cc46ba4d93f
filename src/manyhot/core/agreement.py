"""Agreement of raters: pairwise agreement, Fleiss' kappa, and Krippendorff's alpha of answers and label sets.

Each measure is a function of sums over images, so all intervals can be computed by leaving out one image at a
time. If raters chose one class of K, agreement is measured over all classes, not only over those that a rater
chose.

A source is a published label set, or the raters behind it. It answers yes, maybe or no to a question, or was
not asked. *Not asked is not no*: a pair about which a source was not asked says nothing about the source.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.special import stdtrit

from manyhot.core.answers import MAYBE, N_ANSWERS, NO, SILENT, YES, Answers
from manyhot.core.array_types import Bools, Floats, Ints, Ints64
from manyhot.core.choices import Choices
from manyhot.core.error_consistency import kappa_of
from manyhot.core.jackknife import jackknife_interval
from manyhot.core.resampling import LEVEL
from manyhot.core.share_intervals import clustered_interval

VOTE_MEASURES = ("pairwise", "fleiss_kappa", "alpha_nominal", "alpha_ordinal")
SET_MEASURES = ("alpha_jaccard", "alpha_masi")

_ROWS = 2000
"""Number of label sets per block of comparisons."""

_PAIRS = 100_000
"""Number of pairs of label sets on the same sheets per block of comparisons."""

FEWEST_IMAGES = 10
"""Minimum number of images for an interval. Intervals were not tested with fewer images."""


@dataclass(frozen=True)
class VoteMeasure:
    """A measure of agreement.

    Attributes
    ----------
    value, lo, hi : float
        The value and its 95 % interval over images; NaN if undefined.
    n, n_skipped : int
        Number of questions (or groups of questions) that two or more raters answered, and number of questions
        (or groups) that only one rater answered.
    """

    name: str
    value: float
    lo: float
    hi: float
    n: int
    n_skipped: int


def _measured(
    names: Sequence[str], columns: tuple[Floats, Floats, Floats], n: int, n_skipped: int
) -> list[VoteMeasure]:
    rows = zip(names, *(column.tolist() for column in columns), strict=True)
    return [VoteMeasure(name, value, lo, hi, n, n_skipped) for name, value, lo, hi in rows]


def measure_answers(answers: Answers, image: Ints, *, intervals: bool = True) -> list[VoteMeasure]:
    """Return `VOTE_MEASURES` of the three answers.

    Parameters
    ----------
    image : ndarray of int, shape (Q,)
        The image of each question.
    intervals : bool
        Whether to compute intervals.

    Notes
    -----
    Intervals are jackknife intervals over images, with Student's t with n - 1 degrees of freedom for n
    images. In simulations with 10 to 500 images, they contain the true value in 94.6 to 95.8 % of cases. With
    10 to 67 images, percentile intervals over resampled images contain it in only 90 to 92 % of cases.

    ``pairwise`` is the share of pairs of answers to the same question that are equal. ``fleiss_kappa`` is the
    kappa of Fleiss 1971 (doi 10.1037/h0031619), averaged over questions because the number of raters may
    differ between them. The alphas follow Krippendorff 2011 (Computing Krippendorff's Alpha-Reliability).
    """
    counts = answers.counts()
    total = counts.sum(1)
    several = total > 1
    sums = _by_image(_features(counts[several]), image[several])
    values = _of_sums(sums.sum(0)[None])[:, 0]
    lo, hi = _intervals(sums, _of_sums, values if intervals else np.full_like(values, np.nan))
    n, skipped = int(np.count_nonzero(several)), int(np.count_nonzero(total == 1))
    return _measured(VOTE_MEASURES, (values, lo, hi), n, skipped)


def _features(counts: Ints64) -> Floats:
    """Return the features to sum over questions: 7 numbers, and the 9 coincidences of two answers."""
    total = counts.sum(1)
    pairs = total * (total - 1)
    same = (counts * (counts - 1)).sum(1)
    both = counts[:, :, None] * counts[:, None] - counts[:, :, None] * np.eye(N_ANSWERS, dtype=np.int64)
    columns = (same[:, None], pairs[:, None], (same / pairs)[:, None], np.ones((len(total), 1)), counts)
    coincidences = both.reshape(-1, N_ANSWERS**2) / (total - 1)[:, None]
    return np.concatenate([*columns, coincidences], axis=1, dtype=np.float64)


def _of_sums(sums: Floats) -> Floats:
    """Return the measures, shape (M, …), from sums of features, shape (…, 16)."""
    same, pairs, shares, n = np.moveaxis(sums[..., :4], -1, 0)
    counts, coincidences = sums[..., 4:7], sums[..., 7:].reshape(*sums.shape[:-1], N_ANSWERS, N_ANSWERS)
    with np.errstate(invalid="ignore", divide="ignore"):
        chance = ((counts / counts.sum(-1, keepdims=True)) ** 2).sum(-1)
        kappa = (shares / n - chance) / (1 - chance)
        nominal = _alpha(coincidences, np.broadcast_to(1 - np.eye(N_ANSWERS), coincidences.shape))
        ordinal = _alpha(coincidences, _ordinal(coincidences.sum(-1)))
        return np.stack([same / pairs, kappa, nominal, ordinal])


def _alpha(coincidences: Floats, distance: Floats) -> Floats:
    each = coincidences.sum(-1)
    n = each.sum(-1)
    observed = (coincidences * distance).sum((-2, -1))
    expected = (each[..., :, None] * each[..., None, :] * distance).sum((-2, -1))
    alpha: Floats = 1 - (n - 1) * observed / expected
    return alpha


def _ordinal(each: Floats) -> Floats:
    """Return squared distances of ranks: the number of answers between two, counting both ends half."""
    up_to = np.cumsum(each, -1) - each / 2
    return (up_to[..., :, None] - up_to[..., None, :]) ** 2


def measure_sets(
    answers: Answers, image: Ints, class_id: Ints, *, intervals: bool = True
) -> list[VoteMeasure]:
    """Return `SET_MEASURES`: Krippendorff's alpha for the sets of classes to which raters answered yes.

    Sets are compared only within a sheet. A sheet consists of the questions about one image that were
    answered by the same raters. A class that a rater was not shown therefore does not count as a no.

    Parameters
    ----------
    image, class_id : ndarray of int, shape (Q,)
        The image and the class of each question.
    intervals : bool
        As in `measure_answers`.

    Notes
    -----
    The distance between two sets is 1 - J, where J is the Jaccard index. For MASI, J is multiplied by
    Passonneau's monotonicity (LREC 2006): 1 if the sets are equal, 2/3 if one is a subset of the other, and
    1/3 if they overlap otherwise. Two empty sets count as equal.
    """
    sheets = _Sheets.of(answers, image, class_id)
    observed, n = sheets.observed()
    own, alike = sheets.image, sheets.alike()
    of_set = np.repeat(own, n)
    by_image = _by_image(np.concatenate([observed, n[:, None]], axis=1), own)
    sums = np.concatenate([by_image.sum(0), alike.sum(0)])
    values = _of_set_sums(sums)
    lo, hi = np.full_like(values, np.nan), np.full_like(values, np.nan)
    if intervals and len(by_image):
        # What the sum of the similarities of all pairs loses without an image.
        lost = 2 * _by_image(alike, of_set) - sheets.alike_in_images()
        lo, hi = agreement_ends(values, _of_set_sums(sums - np.concatenate([by_image, lost], axis=1)))
    return _measured(SET_MEASURES, (values, lo, hi), len(n), sheets.n_skipped)


def _of_set_sums(sums: Floats) -> Floats:
    """Return the alphas, shape (2, …), from sums of distances, sets and similarities, shape (…, 5)."""
    n = sums[..., 2:3]
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = 1 - (sums[..., 3:] - n) / (n * (n - 1))
        alphas: Floats = 1 - np.moveaxis(sums[..., :2] / n / expected, -1, 0)
    return alphas


@dataclass(frozen=True)
class _Sheets:
    """Sheets: questions of one image that the same raters answered, with the label set of each rater.

    Attributes
    ----------
    sets : csr_array of float64, shape (n, C)
        1 if a class is in the label set of a rater on a sheet; the sets of a sheet are consecutive rows.
    start, raters : ndarray of int, shape (U,)
        First set and number of sets, at least two, of each sheet.
    image : ndarray of int, shape (U,)
    n_skipped : int
        Number of sheets with one rater.
    """

    sets: csr_array
    start: Ints64
    raters: Ints64
    image: Ints
    n_skipped: int

    @classmethod
    def of(cls, answers: Answers, image: Ints, class_id: Ints) -> _Sheets:
        group = _sums_of(answers.question, answers.rater, answers.n_questions, answers.n_raters)
        asked = np.bincount(answers.question, minlength=answers.n_questions) > 0
        sheet = np.full(answers.n_questions, -1)
        numbers = np.random.default_rng(2).integers(0, 2**64, int(image.max(initial=0)) + 1, np.uint64)
        keys = group[asked] + numbers[image[asked]]
        _, first, sheet[asked] = np.unique(keys, return_index=True, return_inverse=True)
        cells = sheet[answers.question].astype(np.int64) * answers.n_raters + answers.rater
        unique, value = np.unique(cells, return_inverse=True)
        size = np.bincount(unique // max(answers.n_raters, 1), minlength=len(first))
        yes = answers.answer == YES
        n_classes = int(class_id.max(initial=0)) + 1
        sets = csr_array(
            (np.ones(np.count_nonzero(yes)), (value[yes], class_id[answers.question[yes]])),
            shape=(len(unique), n_classes),
        )
        several = size > 1
        start = np.concatenate([[0], np.cumsum(size)[:-1]])[several] if len(size) else size
        of_sheet = image[asked][first][several]
        return cls(sets, start, size[several], of_sheet, int(np.count_nonzero(~several)))

    def observed(self) -> tuple[Floats, Ints64]:
        """Return, per sheet, the sum of its sets' mean distances to other sets, and the number of sets."""
        total, size = np.zeros((len(self.start), len(SET_MEASURES))), self.sets.sum(1)
        for count in np.unique(self.raters):
            sheets = np.flatnonzero(self.raters == count)
            pairs = np.stack(np.triu_indices(count, 1))
            n_blocks = min(pairs.shape[1], 1 + pairs.shape[1] * len(sheets) // _PAIRS)
            for block in np.array_split(pairs, n_blocks, axis=1):
                a, b = (self.start[sheets, None] + block[:, None]).reshape(2, -1)
                both = self.sets[a].multiply(self.sets[b]).sum(1)
                distances = 1 - _similarity(both, size[a], size[b])
                by_sheet = distances.reshape(len(sheets), -1, len(SET_MEASURES)).sum(1)
                total[sheets] += 2 * by_sheet / (count - 1)
        return total, self.raters

    def alike(self) -> Floats:
        """Return the sum of each set's similarities to all sets, itself included; shape (n, 2)."""
        sets = self.sets[np.repeat(self.start, self.raters) + _within(self.raters)]
        n = sets.shape[0]
        classes = np.repeat(np.arange(n), np.diff(sets.indptr))
        sums = _sums_of(classes, sets.indices, n, sets.shape[1])
        _, first, kind, times = np.unique(sums, return_index=True, return_inverse=True, return_counts=True)
        kinds, size = sets[first], sets[first].sum(1)
        alike = np.zeros((len(first), len(SET_MEASURES)))
        for begin in range(0, len(first), _ROWS):
            overlap = (kinds[begin : begin + _ROWS] @ kinds.T).tocoo()
            row, column = overlap.row + begin, overlap.col
            similar = _similarity(overlap.data, size[row], size[column]) * times[column, None]
            alike += np.stack([np.bincount(row, each, len(first)) for each in similar.T], 1)
        # Empty sets have no overlap, but equal each other.
        alike[size == 0] += times[size == 0].sum()
        each: Floats = alike[kind]
        return each

    def alike_in_images(self) -> Floats:
        """Return the sum of the similarities of all pairs of sets of each image, on all of its sheets."""
        rows = np.repeat(self.start, self.raters) + _within(self.raters)
        of_set = np.repeat(self.image, self.raters)
        n = np.unique(of_set, return_counts=True)[1]
        order = rows[np.argsort(of_set, kind="stable")]
        whole = _Sheets(self.sets[order], np.cumsum(n) - n, n, self.image, 0)
        alike: Floats = (n**2)[:, None] - whole.observed()[0] * (n - 1)[:, None]
        return alike


def _similarity(both: Floats, a: Floats, b: Floats) -> Floats:
    """Return the similarities of sets from the sizes of the sets and of their intersections, shape (n, 2)."""
    union = a + b - both
    jaccard = np.where(union > 0, both / np.maximum(union, 1), 1.0)
    monotone = np.select([both == union, both == np.minimum(a, b), both > 0], [1.0, 2 / 3, 1 / 3], 0.0)
    return np.stack([jaccard, jaccard * monotone], 1)


def _within(lengths: Ints64) -> Ints64:
    """Return 0, 1, … within each group of these lengths."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)


def _sums_of(row: Ints, member: Ints, n_rows: int, n_members: int) -> npt.NDArray[np.uint64]:
    """Return a hash of the members of each row, equal for equal members, shape (n_rows,).

    Sums of random 64-bit numbers, as in `manyhot.core.aggregation`.
    """
    numbers = np.random.default_rng(1).integers(0, 2**64, n_members, np.uint64)
    sums = np.zeros(n_rows, np.uint64)
    np.add.at(sums, row, numbers[member])
    return sums


def _by_image(features: Floats, image: Ints) -> Floats:
    images, row = np.unique(image, return_inverse=True)
    sums = [np.bincount(row, column, len(images)) for column in features.T]
    return np.stack(sums, 1)


def _intervals(sums: Floats, measure: Callable[[Floats], Floats], values: Floats) -> tuple[Floats, Floats]:
    """Return the ends of the jackknife's intervals, each of shape (M,); `sums` are those of n images."""
    return agreement_ends(values, measure(sums.sum(0) - sums))


def agreement_ends(values: Floats, without: Floats) -> tuple[Floats, Floats]:
    """Return the ends of the jackknife intervals, each of shape (M,); NaN for fewer than `FEWEST_IMAGES`.

    Parameters
    ----------
    values : ndarray of float64, shape (M,)
    without : ndarray of float64, shape (M, n)
        The values without each of n images.
    """
    n = without.shape[1]
    if n < FEWEST_IMAGES:
        return np.full_like(values, np.nan), np.full_like(values, np.nan)
    error = np.sqrt((n - 1) / n * ((without - without.mean(1, keepdims=True)) ** 2).sum(1))
    half = stdtrit(n - 1, (1 + LEVEL) / 2) * np.where(error > 0, error, np.nan)
    return values - half, np.minimum(values + half, 1)


def measure_choices(choices: Choices, *, intervals: bool = True) -> list[VoteMeasure]:
    """Return `VOTE_MEASURES` of choices. ``alpha_ordinal`` is NaN, because classes have no order.

    Parameters
    ----------
    intervals : bool
        Whether to compute intervals, as in `manyhot.core.agreement.measure_answers`.

    Notes
    -----
    Each image is treated as a question with K possible answers. A choice is a set with one element, so
    ``alpha_jaccard`` and ``alpha_masi`` of `manyhot.core.agreement.measure_sets` equal ``alpha_nominal``.

    References
    ----------
    Fleiss 1971, doi 10.1037/h0031619. Krippendorff 2011, Computing Krippendorff's Alpha-Reliability.
    """
    n_votes = choices.n_votes()
    several = n_votes > 1
    of = choices.candidates()
    here = several[of.image]
    image, class_id, n = of.image[here], of.class_id[here], of.n[here]
    each = np.bincount(class_id, n, of.n_classes)
    same = np.bincount(image, n * (n - 1), of.n_images)[several]
    # What the sum of squared numbers of votes for each class loses without an image.
    squares = np.bincount(image, (2 * each[class_id] - n) * n, of.n_images)[several]
    total = n_votes[several].astype(np.float64)
    pairs = total * (total - 1)
    rows = np.stack([same, pairs, same / pairs, np.ones(len(total)), same / (total - 1), total], 1)
    sums = np.append(rows.sum(0), (each**2).sum())
    values = _measures(sums)
    lo, hi = np.full_like(values, np.nan), np.full_like(values, np.nan)
    if intervals:
        lo, hi = agreement_ends(values, _measures(sums - np.column_stack([rows, squares])))
    skipped = int(np.count_nonzero(n_votes == 1))
    return _measured(VOTE_MEASURES, (values, lo, hi), len(total), skipped)


def _measures(sums: Floats) -> Floats:
    """Return the measures, shape (M, …), from sums, shape (…, 7)."""
    same, pairs, shares, n, alike, total, squares = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        chance = squares / total**2
        kappa = (shares / n - chance) / (1 - chance)
        nominal = 1 - (total - 1) * (total - alike) / (total**2 - squares)
        return np.stack([same / pairs, kappa, nominal, np.full_like(nominal, np.nan)])


HELD_OUT_MEASURES = ("precision", "recall", "specificity", "kappa")

SourceAnswers = npt.NDArray[np.int8]
"""Answers of S sources to Q questions, shape (Q, S): `NO`, `MAYBE`, `YES`, or `SILENT` if not asked."""


def source_shares(by_source: SourceAnswers) -> Floats:
    """Return the share of yes answers among sources, shape (Q,); maybe is one half. NaN if none answered."""
    asked = by_source != SILENT
    with np.errstate(invalid="ignore"):
        share: Floats = np.where(asked, by_source, 0).sum(1) / (YES * asked.sum(1))
    return share


def conflicting(by_source: SourceAnswers) -> Bools:
    """Return, for each question, whether one source answers yes and another answers no, shape (Q,)."""
    conflict: Bools = (by_source == YES).any(1) & (by_source == NO).any(1)
    return conflict


@dataclass(frozen=True)
class HeldOutMeasure:
    """How well the other sources predict the answers of a source.

    Attributes
    ----------
    name : str
        One of `HELD_OUT_MEASURES`.
    value, lo, hi : float
        The value and its 95 % interval over images; NaN if undefined.
    n, n_skipped : int
        Number of questions counted, and number of questions that both sides were asked but that are skipped.
    n_images : int
        Number of images to which the counted questions belong.
    """

    name: str
    value: float
    lo: float
    hi: float
    n: int
    n_skipped: int
    n_images: int


def held_out_measures(
    by_source: SourceAnswers, image: Ints, source: int, others: Ints
) -> list[HeldOutMeasure]:
    """Return `HELD_OUT_MEASURES` for a source's answers, predicted by the majority of other sources.

    Parameters
    ----------
    by_source : ndarray of int8, shape (Q, S)
    image : ndarray of int, shape (Q,)
        The image of each question.
    source : int
        The source whose answers are predicted.
    others : ndarray of int
        The sources that predict them.

    Notes
    -----
    ``precision`` is the share of predicted yes answers to which the source answers yes. ``recall`` is the
    share of the source's yes answers that are predicted, and ``specificity`` the share of its no answers that
    are predicted. ``kappa`` is Cohen's kappa. Questions on which the other sources tie, or to which the
    source answers maybe, are skipped. Precision is undefined if the source answers only yes or only no,
    because its answers then cannot contradict the predictions. Recall and specificity are undefined if the
    predictions are only yes or only no. Kappa is undefined in both cases.

    Intervals are computed over images. For shares, they are computed as on golden questions
    (`manyhot.core.share_intervals.clustered_interval`). Jackknife intervals are unsuitable: after one error
    in 53 answers, one reached from 0.44 to 1.00. Kappa has a jackknife interval on Fisher's scale.
    """
    share = source_shares(by_source[:, others])
    shared = (by_source[:, source] != SILENT) & ~np.isnan(share)
    counted = shared & (by_source[:, source] != MAYBE) & (share != 0.5)
    own, predicted = by_source[counted, source] == YES, share[counted] > 0.5
    kinds = np.stack([own & predicted, predicted & ~own, own & ~predicted, ~own & ~predicted], 1)
    images, row = np.unique(image[counted], return_inverse=True)
    by_image = np.stack([np.bincount(row, kind, len(images)) for kind in kinds.T], 1)
    n = int(np.count_nonzero(shared))
    return [_measure(name, by_image, n) for name in HELD_OUT_MEASURES]


_COUNTED = {
    "precision": ((0,), (0, 1)),
    "recall": ((0,), (0, 2)),
    "specificity": ((3,), (1, 3)),
    "kappa": ((0, 3), (0, 1, 2, 3)),
}
"""Which kinds of questions are above and below the fraction bar: both yes, only predicted, only the source,
none."""


def _measure(name: str, by_image: Ints, n_shared: int) -> HeldOutMeasure:
    num, den = (by_image[:, kinds].sum(1) for kinds in _COUNTED[name])
    value, lo, hi = np.nan, np.nan, np.nan
    if _can_contradict(name, by_image.sum(0)):
        value, lo, hi = _kappa(by_image) if name == "kappa" else _share(num, den)
    n = int(den.sum())
    return HeldOutMeasure(name, value, lo, hi, n, n_shared - n, int(np.count_nonzero(den)))


def _can_contradict(name: str, total: Ints) -> bool:
    """Return whether the sides on which a measure depends give both answers."""
    source = bool(total[[0, 2]].any() and total[[1, 3]].any())
    others = bool(total[[0, 1]].any() and total[[2, 3]].any())
    return (source or name in ("recall", "specificity")) and (others or name == "precision")


def _share(num: Ints, den: Ints) -> tuple[float, float, float]:
    if not den.any():
        return (np.nan,) * 3
    lo, hi = clustered_interval(num, den, lambda values: np.asarray(values).sum(0))
    return float(num.sum() / den.sum()), float(lo), float(hi)


def _kappa(by_image: Ints) -> tuple[float, float, float]:
    total = by_image.sum(0)
    value = float(kappa_of(total))
    changes = kappa_of(total - by_image) - value
    return value, *jackknife_interval(value, changes, scale="correlation")
