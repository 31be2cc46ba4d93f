"""What several sources say about the same (image, class) pairs: conflicts, and how well some predict another.

A source is a published label set, or the raters behind it. It answers yes, maybe or no to a question, or was
not asked. *Not asked is not no*: a pair about which a source was not asked says nothing about the source.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import typing as npt

from manyhot.core.answers import MAYBE, NO, SILENT, YES
from manyhot.core.array_types import Bools, Floats, Ints
from manyhot.core.error_consistency import kappa_of
from manyhot.core.jackknife import jackknife_interval
from manyhot.core.share_intervals import clustered_interval

HELD_OUT_MEASURES = ("precision", "recall", "specificity", "kappa")

SourceAnswers = npt.NDArray[np.int8]
"""Answers of S sources to Q questions, shape (Q, S): `NO`, `MAYBE`, `YES`, or `SILENT` if not asked."""


def source_shares(by_source: SourceAnswers) -> Floats:
    """Return the sources' share of yes answers, shape (Q,); a maybe is half a yes. NaN without answers."""
    asked = by_source != SILENT
    with np.errstate(invalid="ignore"):
        share: Floats = np.where(asked, by_source, 0).sum(1) / (YES * asked.sum(1))
    return share


def conflicting(by_source: SourceAnswers) -> Bools:
    """Return whether one source answers yes to a question and another source answers no, shape (Q,)."""
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
        Number of counted questions, and number of skipped questions that both sides were asked.
    n_images : int
        Number of images of the counted questions.
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
    source answers maybe, do not count. A side that gives only one of the two answers cannot contradict the
    other side. If the source gives only one of them, precision is undefined. If the other sources give only
    one of them, recall and specificity are undefined. Kappa is undefined in both cases.

    Intervals are over images. Shares have the interval of shares on golden questions
    (`manyhot.core.share_intervals.clustered_interval`): after one error in 53 answers, a jackknife interval
    reached from 0.44 to 1.00. Kappa has a jackknife interval on Fisher's scale.
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
"""Which kinds of questions are above and below the line: both yes, only predicted, only the source, none."""


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
