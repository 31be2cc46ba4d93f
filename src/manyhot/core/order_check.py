"""Detection of predictions whose rows or classes are in another order than declared.

Common errors are predictions in the class order of the ILSVRC devkit, folders ``0, 1, 10, …`` sorted as
strings, indices that start at 1, and rows sorted by class that are read in file order. Each reduces accuracy
to chance. `explain_order` recognises them, because undoing the error restores the accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy import typing as npt

from manyhot.core.array_types import Bools, Ints

_SUSPICIOUS = 0.05
"""Accuracy below which orders are tried. The lowest of 67 published networks has 0.19 on ImageNetV2."""

_GAIN = 10
"""Factor by which an order must increase the accuracy, which must also be clearly above chance."""

_FEW = 100
"""Minimum number of images, because a dozen images fit some order by chance."""


def explain_order(
    top: Ints,
    label: Ints,
    *,
    n_classes: int,
    by_name: Callable[[], npt.NDArray[np.intp]],
    class_orders: Mapping[str, Ints],
) -> str | None:
    """Return the order that predictions probably have if it differs from the declared one.

    Parameters
    ----------
    top : ndarray of int, shape (n, k)
        Predicted classes, best first, in the rows of their file.
    label : ndarray of int, shape (n,)
        A correct class for the declared image of each row; negative if unknown.
    n_classes : int
        Number of classes C.
    by_name : callable
        Returns the rows sorted by image id, as an ndarray of int of shape (n,). It is called only if the
        accuracy is suspicious.
    class_orders : Mapping of str to ndarray of int, shape (C,)
        Wrong class orders, by name. Each contains the class of each index.

    Returns
    -------
    str or None
        A description that completes the sentence "it looks like …". None if no order is better than the
        declared one.
    """
    labelled = label >= 0
    if np.count_nonzero(labelled) < _FEW:
        return None
    accuracy = _share(top[:, 0] == label, labelled)
    convincing = max(_SUSPICIOUS, 5 / n_classes)
    shares = [_share(column == label, labelled) for column in top.T]
    # With best first, shares fall from the first place, also for images selected for being predicted wrongly.
    if shares[-1] > max(convincing, 3 * accuracy) and shares[-1] == max(shares):
        return "classes stored worst first"
    if accuracy >= _SUSPICIOUS:
        return None
    trials = _trials(top[:, 0], label, by_name(), class_orders)
    best, order = max(((share, name) for name, share in trials), default=(0.0, ""))
    return order if best > convincing and best >= _GAIN * accuracy else None


def _trials(
    top1: Ints, label: Ints, by_name: npt.NDArray[np.intp], class_orders: Mapping[str, Ints]
) -> Iterator[tuple[str, float]]:
    labelled = label >= 0
    if labelled.all():
        class_sorted = by_name[np.argsort(label[by_name], kind="stable")]
        yield (
            "rows sorted by class, read in the order of file names",
            _share(top1 == label[class_sorted], labelled),
        )
        yield (
            "rows in the order of file names, read as sorted by class",
            _share(top1 == label[by_name], labelled),
        )
    for name, meaning in class_orders.items():
        yield f"predicted classes given as {name}", _share(_mapped(meaning, top1) == label, labelled)
        yield f"labels given as {name}", _share(top1 == _mapped(meaning, label), labelled)


def _mapped(meaning: Ints, classes: Ints) -> Ints:
    inside = (classes >= 0) & (classes < len(meaning))
    mapped: Ints = np.where(inside, meaning[np.where(inside, classes, 0)], -2)
    return mapped


def _share(right: Bools, rows: Bools) -> float:
    return int(np.count_nonzero(right & rows)) / max(int(np.count_nonzero(rows)), 1)
