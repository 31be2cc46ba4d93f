"""Matrices of labels with more than 0 and 1: counts of votes, shares of votes, and probabilities."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot.core.array_types import Bools, Floats
from manyhot.core.sets import NO, YES
from manyhot.core.softmax import SLACK
from manyhot.errors import InputError
from manyhot.parameters import Shown, check_one_of
from manyhot.tables.state_lists import ragged, state_lists

LabelValues = Annotated[str, Shown("KIND")]
"""What the numbers in a matrix of labels are.

``states``: 0, 1 and -1; ``counts``: how many raters chose each class; ``shares``: their shares, which add up
to 1; ``p``: the probability of each class, which need not; ``yes-of-5``: how many of 5 raters answered yes.
"""

LABEL_VALUES = ("states", "counts", "shares", "p")

_YES_OF = re.compile(r"yes-of-([1-9]\d{0,8})")

_MANY = 10
"""Votes on an image from which whole numbers are certainly votes, and not numbers of objects."""

_SIMILAR = 3
"""Ratio of the most to the fewest votes on an image up to which whole numbers are certainly votes."""

_CAPPED = 0.1
"""Share of images that reach the highest number of all from which it may be the number of raters."""

_N_FLAGS = 3
"""Number of columns of only 0 and 1 from which a matrix may contain labels beside other numbers."""

_SURE = 7
"""Expected number of cells above 1 from which columns of only 0 and 1 are certainly not votes: p is e^-7."""

_N_IDS = 20
"""Number of images from which different numbers in a column are ids, and not votes."""

_YES = 0.5
"""Probability from which a class is in the label set, if the matrix contains probabilities."""

VOTED = (
    "the labels are votes for one class per image; p is the share of the votes, and the label set is the "
    "class with the most votes"
)
"""The note on labels that are counts or shares."""

CHOICE_COUNTS = "counts (each rater chose one class per image)"
YES_COUNTS = "yes-of-5 (5 raters answered yes or no to each class)"
"""What whole numbers may be, for messages."""

EMPTY_CELLS = "write 0 for classes without votes, or leave all cells of an image without votes empty"
"""What to do if some cells of an image are empty, for messages."""


def values_kind(
    values: npt.NDArray[Any], where: object, *, asked: str | None = None, names: Sequence[str] = ()
) -> str:
    """Return the meaning of the numbers in a matrix of shape (n, C), one of `LABEL_VALUES`.

    Parameters
    ----------
    values : ndarray of bool, int or float, shape (n, C)
    where : object
        The place of the matrix, for messages.
    asked : str, optional
        The declared meaning. Whether the values fit it is not checked here.
    names : sequence of str, optional
        The names of the columns, for the message.

    Raises
    ------
    InputError
        If the meaning is ambiguous, or if `asked` is not one of `LABEL_VALUES`.

    Notes
    -----
    Whole numbers are read as counts of votes in two cases: if all images have the same number of votes, or if
    each image has either no votes or at least ten, and some image has equal numbers for two classes, which a
    list of top classes never has. In the second case, no image may have more than three times as many votes
    as another, two classes must have more than one vote on some image, and no column may consist of different
    numbers, as ids do. If columns contain only 0 and 1 beside these, they are labels if votes as frequent as
    their ones would have met on an image, and three such columns are ambiguous otherwise. Nor may a tenth of
    the images reach the highest number of the matrix, whatever their number of votes: k raters who answer yes
    or no to each class give at most k. Other whole numbers may be counts of objects.
    Fractions may be a model's scores, so shares and probabilities must be declared.
    """
    if asked is not None:
        check_label_values(asked, where)
        return asked
    numbers = values[values == values].astype(np.float64)  # NaN differs from itself
    if np.isin(numbers, (0, 1, -1)).all():
        return "states"
    if are_counts(values.astype(np.float64), where):
        return "counts"
    odd = numbers[~np.isin(numbers, (0, 1, -1))]
    ids = [names[i] for i in np.flatnonzero(_are_ids(values)).tolist() if names]
    raise InputError(
        "The labels are not a matrix of zeros and ones, and the meaning of their numbers is unclear.",
        where=where,
        got=f"{len(odd):,} numbers other than 0, 1 and -1, such as {odd[0]:g}",
        allowed="0, 1 and -1; or counts of votes",
        do=f"rename {ids[0]!r} to image_id if it contains the ids of the images, or drop it"
        if ids
        else f"pass `label_values`: {CHOICE_COUNTS}, {YES_COUNTS}, shares or p; if the numbers count "
        "objects, write 1 in place of each number above 0; if they are scores, pass them as predictions",
    )


def check_label_values(kind: str, where: object) -> None:
    """Raise an error for a kind of numbers that does not exist."""
    if not n_asked(kind):
        kinds = (*LABEL_VALUES, "yes-of-5 (or another number of raters)")
        check_one_of(kind, kinds, "There is no such kind of label values.", where=where)


def n_asked(kind: str) -> int:
    """Return how many raters answered yes or no to each class, as ``yes-of-5`` says; 0 for other kinds."""
    match = _YES_OF.fullmatch(kind)
    return int(match[1]) if match else 0


def are_counts(values: Floats, where: object = None) -> bool:
    """Return whether a matrix, shape (n, C), contains counts of votes; see `values_kind`.

    Raises
    ------
    InputError
        If `where`, the place of the matrix, is given, and the matrix may also contain labels beside other
        numbers.
    """
    values = values[~np.isnan(values).all(axis=1)]  # images without votes may be empty rows
    if not ((values >= 0) & (values == np.rint(values))).all():
        return False
    total = values.sum(axis=1)
    if values.shape[1] < 2 or not (values > 1).any():
        return False
    if len(total) > 1 and (total == total[0]).all():
        return True
    if (values > 1).any(axis=0).sum() < 2 or _are_ids(values).any():
        return False
    ranks, voted = np.sort(values, axis=1), total[total > 0]
    is_similar = voted.max() <= _SIMILAR * voted.min()
    if not ((voted >= _MANY).all() and is_similar and (ranks[:, 1:] == ranks[:, :-1]).any()):
        return False
    return not (are_capped(ranks[:, -1], total) or _has_flags(values, where))


def _has_flags(values: Floats, where: object) -> bool:
    """Return whether columns of only 0 and 1 are certainly labels beside numbers, such as prices.

    Independent votes that are so frequent would meet: of n images with k ones, about k² / 2n would have two
    votes. Votes on an image depend on it, so more would.
    """
    ones = values.sum(axis=0)[values.max(axis=0) == 1]
    is_sure = (ones**2).sum() / (2 * len(values)) >= _SURE
    if where is not None and not is_sure and len(ones) >= _N_FLAGS:
        raise InputError(
            "Some columns contain only 0 and 1, and others contain larger numbers, which may be votes.",
            where=where,
            got=f"{len(ones):,} columns of 0 and 1, and {(values > 1).any(axis=0).sum():,} of larger numbers",
            do=f"pass `label_values`: {CHOICE_COUNTS} if all columns are votes; states if 0 and 1 are the "
            "labels, without the columns of other numbers",
        )
    return bool(is_sure)


def are_capped(highest: npt.NDArray[Any], total: npt.NDArray[Any]) -> bool:
    """Return whether many images reach the highest count of all, with different numbers of votes.

    Counts of raters who chose one class grow with the number of votes; those who answered yes to each class
    cannot exceed the number of raters.

    Parameters
    ----------
    highest, total : ndarray, shape (n,)
        The highest count and the sum of the counts of each image.
    """
    at_cap = total[highest == highest.max(initial=0)]
    return len(at_cap) >= max(2, _CAPPED * len(total)) and bool((at_cap != at_cap[0]).any())


def _are_ids(values: npt.NDArray[Any]) -> Bools:
    """Return which columns consist of different whole numbers, as ids of images or products do."""
    n, highest = len(values), values.max(axis=0, initial=0)
    if n < _N_IDS:
        return np.zeros(values.shape[1], bool)
    # Of n different numbers from 0, one is at least n - 1. Few columns of votes contain a number this high.
    return np.array([m >= n - 1 and len(np.unique(c)) == n for m, c in zip(highest, values.T, strict=True)])


def columns_of_values(
    values: npt.NDArray[Any], kind: str, ids: pa.Array, where: object
) -> dict[str, pa.Array]:
    """Return the columns ``usable``, ``classes``, ``state``, ``p`` and ``n_votes`` of votes or probabilities.

    For counts and shares, the label set contains the class with the most votes, or all classes that are tied
    for the most. For probabilities, it contains the classes with a probability of at least one half, such as
    the share of raters who answered yes. An image without votes, whose cells are all empty (or 0, for counts
    and shares), is not usable.

    Parameters
    ----------
    values : ndarray of int or float, shape (n, C)
    kind : str
        ``counts``, ``yes-of-N``, ``shares`` or ``p``.
    ids : pyarrow.Array of string, shape (n,)
        The images, for messages.
    where : object
        The place of the matrix, for messages.

    Raises
    ------
    InputError
        If counts are negative, fractional or missing in some cells of an image, if shares do not add up to 1,
        or if a number is not a probability.
    """
    numbers = values.astype(np.float64)
    if is_exclusive(kind):
        numbers = without_votes_as_zeros(numbers)
    if n_raters := n_asked(kind):
        _check_yes(numbers, n_raters, ids, where)
    else:
        _CHECKS[kind](numbers, ids, where)
    total = numbers.sum(axis=1, keepdims=True)
    if not is_exclusive(kind):
        p, there = numbers, numbers == numbers
        if n_raters:
            total[:], p = n_raters, numbers / n_raters
        valid = p >= _YES
    else:
        p = np.divide(numbers, total, out=np.zeros_like(numbers), where=total > 0)
        there = np.broadcast_to(total > 0, p.shape)
        valid = there & (numbers == numbers.max(axis=1, keepdims=True))
    image, class_id = np.nonzero(there)
    state = np.where(valid[image, class_id], YES, NO) - NO
    columns = {"usable": pa.array(there.any(axis=1))}
    columns |= state_lists(there.sum(axis=1), class_id, state, p=p[image, class_id].astype(np.float32))
    if kind == "counts" or n_asked(kind):
        n_votes = np.broadcast_to(total, p.shape)[there].astype(np.int64)
        columns["n_votes"] = ragged(there.sum(axis=1), pa.array(n_votes, pa.int32()))
    return columns


def is_exclusive(kind: str) -> bool:
    """Return whether raters chose one class per image."""
    return kind in ("counts", "shares")


def without_votes_as_zeros(votes: Floats) -> Floats:
    """Return counts or shares with zeros for images whose cells are all NaN, which were not asked about."""
    return np.where(np.isnan(votes).all(axis=1, keepdims=True), 0, votes)


def rounding_error(shares: Floats) -> float:
    """Return half a unit of the last decimal if all shares are rounded to two to six decimals; otherwise 0.

    Shares with one decimal are those of ten votes.
    """
    for decimals in range(1, 7):
        with np.errstate(invalid="ignore"):
            is_rounded = np.abs(shares - np.round(shares, decimals)).max(initial=0) < 1e-7
        if is_rounded:
            return 0.5 * 10.0**-decimals if decimals > 1 else 0.0
    return 0.0


def tolerance_of_sums(shares: Floats, least: float) -> Floats:
    """Return how far the sum of the shares of each image may be from 1, at least `least`, shape (n,).

    k shares that are rounded to d decimals are off by at most k times half a unit of the last decimal.
    """
    return np.asarray(np.maximum(least, (shares > 0).sum(axis=1) * rounding_error(shares)) + 1e-6)


def _check_yes(values: Floats, n_raters: int, ids: pa.Array, where: object) -> None:
    fits = (values >= 0) & (values <= n_raters) & (values == np.rint(values))
    wrong = ~(fits | np.isnan(values))  # nobody was asked about an empty cell
    what = "A number is not a count of raters who answered yes."
    _refuse(wrong, values, ids, where, what, f"0 to {n_raters}, or nothing")


def _check_counts(values: Floats, ids: pa.Array, where: object) -> None:
    wrong = ~((values >= 0) & (values == np.rint(values)) & np.isfinite(values) & (values < 2**31))
    what = "A count of votes is not a whole number of at least 0."
    is_weighted = ((values > 0) & (values != np.rint(values))).any()
    do = "divide weighted votes of each image by their sum, and pass `label_values`=shares"
    _refuse(wrong, values, ids, where, what, "0, 1, 2, …", do if is_weighted else None)


def _check_shares(values: Floats, ids: pa.Array, where: object) -> None:
    wrong = ~((values >= 0) & (values <= 1 + SLACK))
    _refuse(wrong, values, ids, where, "A vote share is not between 0 and 1.", "0 to 1")
    tolerance = tolerance_of_sums(values, SLACK)
    off = ~(np.abs(values.sum(axis=1) - 1) <= tolerance) & values.any(axis=1)
    if off.any():
        row = int(np.argmax(off))
        raise InputError(
            "The shares of an image do not add up to 1.",
            where=_place(where, ids, row),
            got=f"{values[row].sum():g}; {np.count_nonzero(off):,} of {len(off):,} images are affected",
            allowed=f"1 ± {tolerance[row]:.2g}",
            do="if several classes can be valid together, pass `label_values`=p",
        )


def _check_p(values: Floats, ids: pa.Array, where: object) -> None:
    wrong = ~((values >= 0) & (values <= 1)) & (values == values)
    _refuse(wrong, values, ids, where, "A probability is not between 0 and 1.", "0 to 1, or nothing")


_CHECKS = {"counts": _check_counts, "shares": _check_shares, "p": _check_p}


def _refuse(
    wrong: Bools,
    values: Floats,
    ids: pa.Array,
    where: object,
    what: str,
    allowed: str,
    do: str | None = None,
) -> None:
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        number = values[row, column]
        if np.isnan(number):
            do = EMPTY_CELLS
        raise InputError(
            what,
            where=f"{_place(where, ids, row)}, class {column}",
            got=f"{'nothing' if np.isnan(number) else f'{number:g}'}; {np.count_nonzero(wrong):,} such cells",
            allowed=allowed,
            do=do,
        )


def _place(where: object, ids: pa.Array, row: int) -> str:
    return f"{where}, image {ids[row]}"
