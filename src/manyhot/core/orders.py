"""Find out in which wrong order rows or classes were read.

Data keyed by position breeds silent errors: predictions in the class order of the ILSVRC devkit, folders
``0, 1, 10, …`` sorted as strings, indices that start at 1, class-sorted rows read in file order. Each leaves
accuracy at chance, and each is recognised by the accuracy that comes back once it is undone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

Classes = npt.NDArray[np.integer]

_SUSPICIOUS = 0.05
"""Accuracy below which orders are tried. The worst of the 67 published networks has 0.19 on ImageNetV2."""

_GAIN = 10
"""An order must multiply accuracy by this, and lift it clearly over chance, to count as found."""

_FEW = 100
"""Images below which no order is accused: a dozen images fit some order by luck."""


def explain_order(
    top: Classes,
    label: Classes,
    *,
    n_classes: int,
    by_name: Callable[[], npt.NDArray[np.intp]],
    class_orders: Mapping[str, Classes],
) -> str | None:
    """Say in which order predictions look to be, if not in the one claimed.

    Parameters
    ----------
    top : ndarray of int, shape (n, k)
        Predicted classes, best first, in the rows of their file.
    label : ndarray of int, shape (n,)
        A right class of the image that each row is claimed to be; negative where unknown.
    n_classes : int
        C.
    by_name : callable
        Gives the rows sorted by image id, an ndarray of int, shape (n,); called when in doubt only.
    class_orders : Mapping of str to ndarray of int, shape (C,)
        Wrong class orders by name: the class that each index means in it.

    Returns
    -------
    str or None
        What the order looks like, as it ends the sentence "it looks like …"; None when nothing better than
        the claimed order was found.
    """
    known = label >= 0
    if np.count_nonzero(known) < _FEW:
        return None
    accuracy = _share(top[:, 0] == label, known)
    convincing = max(_SUSPICIOUS, 5 / n_classes)
    shares = [_share(column == label, known) for column in top.T]
    # Best first falls from the first place on, also on images that were chosen for being predicted wrongly.
    if shares[-1] > max(convincing, 3 * accuracy) and shares[-1] == max(shares):
        return "classes stored worst first"
    if accuracy >= _SUSPICIOUS:
        return None
    trials = _trials(top[:, 0], label, by_name(), class_orders)
    best, found = max(((share, name) for name, share in trials), default=(0.0, ""))
    return found if best > convincing and best >= _GAIN * accuracy else None


def _trials(
    top1: Classes, label: Classes, by_name: npt.NDArray[np.intp], class_orders: Mapping[str, Classes]
) -> Iterator[tuple[str, float]]:
    known = label >= 0
    if known.all():
        class_sorted = by_name[np.argsort(label[by_name], kind="stable")]
        yield (
            "rows sorted by class, read in the order of file names",
            _share(top1 == label[class_sorted], known),
        )
        yield (
            "rows in the order of file names, read as sorted by class",
            _share(top1 == label[by_name], known),
        )
    for name, meaning in class_orders.items():
        yield f"predicted classes given as {name}", _share(_mapped(meaning, top1) == label, known)
        yield f"labels given as {name}", _share(top1 == _mapped(meaning, label), known)


def _mapped(meaning: Classes, classes: Classes) -> Classes:
    inside = (classes >= 0) & (classes < len(meaning))
    mapped: Classes = np.where(inside, meaning[np.where(inside, classes, 0)], -2)
    return mapped


def _share(right: npt.NDArray[np.bool_], known: npt.NDArray[np.bool_]) -> float:
    return int(np.count_nonzero(right & known)) / max(int(np.count_nonzero(known)), 1)
