"""ReaL: ``real.json`` of google-research/reassessed-imagenet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from manyhot.classes import ClassList, class_list
from manyhot.errors import InputError
from manyhot.formats.json_files import class_index, head, load
from manyhot.registry import register
from manyhot.tables import Labels

N_IMAGES = 50_000


def _matches(path: Path) -> bool:
    return head(path).replace(" ", "").replace("\n", "").startswith("[[")


@register("format", "real", holds="labels", suffixes=(".json",), matches=_matches)
def read_real(path: Path, *, classes: ClassList | None) -> Labels:
    """ReaL's ``real.json``: a list of 50,000 lists of classes, in the order of ImageNet's validation files.

    Entry i is ``ILSVRC2012_val_{i + 1:08d}.JPEG``. Original labels are not in the file, nor is it known which
    images were rated and which classes were asked about; ``scores.npz`` tells those.

    References
    ----------
    Beyer et al. 2020, arXiv 2006.07159.
    """
    lists = load(path)
    if not isinstance(lists, list) or not all(isinstance(s, list) for s in lists):
        raise InputError("The file is not a list of lists of classes.", where=path)
    if len(lists) != N_IMAGES:
        raise InputError(
            "The file is not ReaL's list of ImageNet's validation images.",
            where=path,
            got=f"{len(lists):,} entries",
            allowed=f"{N_IMAGES:,}",
            do="for another data set use a table of image_id and classes",
        )
    ids = [f"ILSVRC2012_val_{i:08d}.JPEG" for i in range(1, N_IMAGES + 1)]
    return labels_of_sets(ids, lists, classes, path, rated=None, method="ReaL", name="ReaL")


def labels_of_sets(
    ids: list[str],
    sets: list[Any],
    classes: ClassList | None,
    path: Path,
    *,
    rated: bool | None,
    method: str,
    name: str,
) -> Labels:
    """Build labels from one list of valid classes an image, over ``imagenet1k`` by default."""
    classes = classes or class_list()
    n = len(classes)
    checked = [[class_index(c, n, f"{path}, image {i}") for c in s] for i, s in zip(ids, sets, strict=True)]
    lengths = np.fromiter(map(len, checked), np.int32, len(checked))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    flat = pa.array([c for s in checked for c in s], pa.int32())
    table = pa.table(
        {
            "image_id": pa.array(ids, pa.string()),
            "rated": pa.array([rated] * len(ids), pa.bool_()),
            "usable": pa.array(np.ones(len(ids), bool)),
            "classes": pa.ListArray.from_arrays(offsets, flat),
            "state": pa.ListArray.from_arrays(offsets, pa.array(["yes"] * len(flat), pa.string())),
            "method": pa.array([method] * len(ids)),
        }
    )
    return Labels(table, n, classes.hash, asked_known=False, name=name)
