"""ReaL: ``real.json`` of google-research/reassessed-imagenet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from manyhot.classes import ClassList, class_list
from manyhot.errors import InputError
from manyhot.files import write_text
from manyhot.formats.json_files import class_index, head, load
from manyhot.formats.writing import Saved, classes_of, lists_of, usable, with_state
from manyhot.registry import register
from manyhot.tables import Labels

N_IMAGES = 50_000


def _ids() -> list[str]:
    return [f"ILSVRC2012_val_{i:08d}.JPEG" for i in range(1, N_IMAGES + 1)]


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
    return labels_of_sets(_ids(), lists, classes, path, rated=None, method="ReaL", name="ReaL")


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


@register("writer", "real", holds=("labels",), suffixes=(".json",), keeps=())
def write_real(labels: Labels, path: Path, classes: ClassList | None) -> Saved:
    """Write the label sets of ImageNet's 50,000 validation images as ``real.json``.

    An image that is not usable gets an empty list, for lists are told apart by their place alone.

    Raises
    ------
    InputError
        The labels are not those of all the 50,000 images, or not over ImageNet-1k.
    """
    if classes_of(labels, classes or class_list()).hash != class_list().hash:
        raise InputError("real.json is over ImageNet-1k.", where=path, got=f"{labels.n_classes:,} classes")
    lengths, flat, _ = with_state(labels)
    sets = lists_of(lengths, flat.tolist())
    of_image = {
        image: s if use else []
        for image, s, use in zip(labels.image_id.to_pylist(), sets, usable(labels), strict=True)
    }
    ids = _ids()
    if len(of_image) != len(ids) or not of_image.keys() >= set(ids):
        raise _other_images(of_image, ids, path)
    write_text(path, json.dumps([of_image[image] for image in ids]))
    return Saved((path,))


def _other_images(of_image: dict[str, Any], ids: list[str], path: Path) -> InputError:
    absent = [image for image in ids if image not in of_image]
    got = f"{len(absent):,} are not there, such as {absent[0]}" if absent else f"{len(of_image):,} images"
    return InputError(
        "real.json holds ImageNet's validation images, all of them and no others.",
        where=path,
        got=got,
        allowed=f"{N_IMAGES:,} images, {ids[0]} to {ids[-1]}",
        do="write another format, such as hf-labels or multilabelfy",
    )
