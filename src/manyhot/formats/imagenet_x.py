"""ImageNet-X: the factors in which an image differs from typical images of its class, to slice by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc
from pyarrow import csv as pa_csv
from pyarrow import json as pa_json

from manyhot.classes import ClassList, class_list
from manyhot.core.array_types import Bools
from manyhot.errors import InputError
from manyhot.formats.reading import class_id_column, head, image_ids
from manyhot.registry import register
from manyhot.tables import Images, one_chunk
from manyhot.tables.state_lists import ragged

FACTORS = (
    *("pose", "background", "pattern", "color", "smaller", "shape", "partial_view", "subcategory"),
    *("texture", "larger", "darker", "object_blocking", "person_blocking", "style", "brighter"),
    "multiple_objects",
)
"""The factors, in the order of the published tables."""

AVERAGE = "average"
"""The name of all images that count, in the published tables and here."""

PROTOTYPES = "prototypical_paths.csv"
"""Images that raters saw as typical of their class, which do not count."""

_COLUMNS = pa.schema(
    [("file_name", pa.string()), ("class", pa.int64()), *((name, pa.int64()) for name in FACTORS)]
)


@register(
    "format",
    "imagenet-x",
    holds="images",
    suffixes=(".jsonl",),
    matches=lambda path: all(f'"{name}"' in head(path) for name in ("file_name", "class", *FACTORS[-2:])),
)
def read_imagenet_x(path: Path, *, classes: ClassList | None) -> Images:
    """ImageNet-X's ``imagenet_x_val_top_factor.jsonl`` and similar files, as images with a list of factors.

    `factor` lists the factors that raters noted, and the factor ``average``, which every image that is
    counted has. If ``prototypical_paths.csv`` is in the same folder, its images are not counted, as in the
    published results, and have no list.

    References
    ----------
    Idrissi et al. 2023, ImageNet-X: Understanding model mistakes with factor of variation annotations, arXiv
    2211.01866; facebookresearch/imagenetx.
    """
    options = pa_json.ParseOptions(explicit_schema=_COLUMNS, unexpected_field_behavior="ignore")
    rows = pa_json.read_json(path, parse_options=options).combine_chunks()
    _check_whole(rows, path)
    ids = image_ids(one_chunk(rows["file_name"]), f"{path}, file_name")
    counts = ~_prototypes(ids, path.with_name(PROTOTYPES))
    labels = class_id_column(one_chunk(rows["class"]), f"{path}, class", len(classes or class_list()))
    table = pa.table({"image_id": ids, "label": labels, "factor": _factors(rows, counts, path)})
    return Images(table, name="ImageNet-X")


def _check_whole(rows: pa.Table, path: Path) -> None:
    for name in rows.column_names:
        if rows[name].null_count:
            raise InputError(
                "A line of the file lacks a field.",
                where=path,
                got=f"{rows[name].null_count:,} of {len(rows):,} lines without {name}",
                allowed=f"file_name, class, and 0 or 1 for each of {', '.join(FACTORS)}",
                do="read a file of the package imagenet-x, such as imagenet_x_val_top_factor.jsonl",
            )


def _prototypes(ids: pa.Array, path: Path) -> Bools:
    if not path.is_file():
        return np.zeros(len(ids), bool)
    options = pa_csv.ConvertOptions(include_columns=["file_name"], column_types={"file_name": pa.string()})
    names = pa_csv.read_csv(path, convert_options=options)["file_name"]
    return np.asarray(pc.is_in(ids, one_chunk(names)))


def _factors(rows: pa.Table, counts: Bools, path: Path) -> pa.Array:
    """Return the names of the factors of each image that counts, and ``average``."""
    noted = np.stack([rows[name].to_numpy() for name in FACTORS], axis=1)
    if not np.isin(noted, (0, 1)).all():
        raise InputError(
            "A factor is neither 0 nor 1.", where=path, got=noted[~np.isin(noted, (0, 1))][0], allowed="0, 1"
        )
    named = np.column_stack([noted, np.ones(len(noted), np.int64)]).astype(bool)
    names = pa.array((*FACTORS, AVERAGE)).take(pa.array(np.nonzero(named)[1]))
    listed = ragged(named.sum(axis=1), names)
    return pc.if_else(pa.array(counts), listed, pa.scalar(None, listed.type))
