"""MadryLab's annotations of 6,761 validation images as label sets: the classes that raters selected."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from manyhot.classes import ClassList, class_list
from manyhot.errors import InputError
from manyhot.formats.pandas_pickle import load_frame
from manyhot.formats.reading import class_index, constant, only_by_name, ragged
from manyhot.parameters import check_share
from manyhot.registry import register
from manyhot.tables import Labels

_FILE = "annotations_classify_task.pkl"


@register("format", "tsipras-selected", holds="labels", suffixes=(".pkl",), matches=only_by_name)
def read_tsipras_selected(path: Path, *, classes: ClassList | None, share: float = 0.5) -> Labels:
    """MadryLab's ``annotations_classify_task.pkl`` as label sets: the classes that raters selected.

    Raters selected the classes of the objects in an image among classes that other raters had called valid. A
    class is valid if at least the share `share` of the image's 6 to 9 raters selected it. `p` is the share of
    raters who selected the class. Other classes that a rater selected have the state *no*. The file does not
    contain classes that no rater selected.

    Parameters
    ----------
    share : float
        Minimum share of the raters.

    References
    ----------
    Tsipras et al. 2020, arXiv 2005.11295; MadryLab/ImageNetMultiLabel.
    """
    check_share(share, "The share of raters is out of range.", where=path)
    classes = classes or class_list()
    frame = load_frame(path)
    if not {"selected", "imagenet_label"} <= set(frame.columns):
        raise InputError(
            "The pickle contains a different table.",
            where=path,
            got=", ".join(frame.columns) or "no columns",
            allowed=f"the columns of {_FILE}",
            do="pass that file",
        )
    n = len(classes)
    shares = [
        _shares(raters, n, f"{path}, image {image}")
        for image, raters in zip(frame.index, frame.columns["selected"], strict=True)
    ]
    lengths = [len(one) for one in shares]
    p = [value for one in shares for value in one.values()]
    states = np.where(np.array(p, np.float64) >= share - 1e-9, "yes", "no").astype(str)
    n_raters = [len(raters) for raters in frame.columns["selected"]]
    label = [class_index(int(one), n, f"{path}, imagenet_label") for one in frame.columns["imagenet_label"]]
    table = pa.table(
        {
            "image_id": frame.index,
            "label": pa.array(label, pa.int32()),
            "rated": constant(True, len(label), pa.bool_()),
            "usable": constant(True, len(label), pa.bool_()),
            "classes": ragged(lengths, pa.array([c for one in shares for c in one], pa.int32())),
            "state": ragged(lengths, pa.array(states, pa.string())),
            "p": ragged(lengths, pa.array(p, pa.float32())),
            "n_votes": ragged(lengths, pa.array(np.repeat(n_raters, lengths), pa.int32())),
            "method": constant("selected by raters", len(label), pa.string()),
        }
    )
    return Labels(table, n, classes.hash, name="Tsipras et al., selected classes")


def _shares(raters: Any, n_classes: int, where: str) -> dict[int, float]:
    """Return the share of raters who selected each class of an image, by class."""
    if not isinstance(raters, list) or not raters or not all(isinstance(one, list) for one in raters):
        raise InputError("The selected classes are not a list for each rater.", where=where)
    counts = Counter(c for one in raters for c in {class_index(c, n_classes, where) for c in one})
    return {c: counts[c] / len(raters) for c in sorted(counts)}
