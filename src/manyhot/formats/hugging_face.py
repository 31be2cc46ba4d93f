"""Hugging Face data sets whose features hold class labels: saved folders and Parquet files.

The ``datasets`` package is not needed: both are Arrow tables, with their features as JSON in the metadata.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc
from pyarrow import parquet as pq

from manyhot.classes import ClassList
from manyhot.errors import InputError
from manyhot.files import atomic_write
from manyhot.formats.array_files import check_row_count
from manyhot.formats.headers import image_name_column
from manyhot.formats.reading import (
    UNLISTED,
    class_id_column,
    class_lists,
    constant,
    load_json,
    parse_json,
    short_ids,
    with_unlisted,
)
from manyhot.formats.splits import SHARD
from manyhot.formats.writing import Saved, classes_of_table, lost_keys, unique_names, usable, with_state
from manyhot.kinds import FOLDER
from manyhot.registry import register
from manyhot.tables import Images, Labels, one_chunk
from manyhot.tables.image_ids import check_columns_once
from manyhot.tables.own_classes import own_list
from manyhot.tables.state_lists import ragged

_LISTS = ("Sequence", "List", "LargeList")

_NAME_TYPES = (pa.types.is_integer, pa.types.is_string, pa.types.is_large_string, pa.types.is_null)


@dataclass(frozen=True)
class _Feature:
    """A column of class labels, with one label or a list of labels per image."""

    column: str
    names: tuple[str, ...]
    listed: bool


def _matches(path: Path) -> bool:
    if path.is_dir():
        return any((path / name).is_file() for name in ("dataset_dict.json", "state.json")) or bool(
            _splits(path)
        )
    try:
        return bool(_label_features(_features_of_parquet(path)))
    except InputError:
        return True  # The reader reports what is wrong with the features.


@register("format", "hf-labels", holds="labels", suffixes=(FOLDER, ".parquet"), matches=_matches)
def read_hf_labels(
    path: Path,
    *,
    classes: ClassList | None,
    rows: Images | None = None,
    column: str = "",
    split: str = "",
    unlisted: str = UNLISTED[0],
) -> Labels:
    """A Hugging Face data set with a feature of type ``ClassLabel`` or list of ``ClassLabel``.

    The data set is a folder written by ``save_to_disk``, a folder with Parquet files in ``data/`` as on the
    hub, or a Parquet file with the schema metadata ``huggingface``. Only the columns of labels and names are
    read, not the images. An image is not usable if its label is null or -1. Without names, row i belongs to
    the image in row i of `rows` or, without `rows`, to image ``i``.

    Parameters
    ----------
    column : str
        The column with the labels, if several columns contain labels, as in
        ``hf-labels(column='fine_label')``.
    split : str
        The split to read from a folder with several splits, as in ``hf-labels(split='validation')``.
    unlisted : {"not asked", "no"}
        The state of classes that an image does not list. ``unlisted='no'`` declares that each image lists all
        of its classes.

    Notes
    -----
    Images of Hugging Face's ``imagenet-1k`` have names such as ``ILSVRC2012_val_00000001_n01751748.JPEG``.
    The WordNet id is removed to obtain the usual names.

    References
    ----------
    https://huggingface.co/docs/datasets/about_dataset_features
    """
    from manyhot.formats.class_names import classes_of_names  # brings polars

    shards = _shards(path, split) if path.is_dir() and _splits(path) else [path]
    features = _features_of_folder(path) if shards[0].is_dir() else _features_of_parquet(shards[0])
    main, single = _chosen(_label_features(features), column, path)
    selected = [main.column, *([single.column] if single else [])]
    files = _data_files(path) if shards[0].is_dir() else shards
    table = pa.concat_tables([_read(file, features, selected) for file in files])
    own, position = classes_of_names(main.names, classes, path)
    lengths, flat, fit = _sets(table, main, path)
    n = len(table)
    columns = {
        "image_id": _ids(table["image_id"], rows, path),
        "usable": pa.array(fit),
        "classes": ragged(lengths, pa.array(position[flat])),
        "state": ragged(lengths, constant("yes", len(flat), pa.string())),
        "method": constant("ClassLabel", n, pa.string()),
    }
    if single:
        values = _singles(table, single, path)
        labelled = pc.if_else(pc.greater_equal(values, 0), values, None).cast(pa.int64())
        columns["label"] = pa.array(position).take(labelled)
    labels = Labels(
        pa.table(columns),
        len(own),
        own.hash,
        asked_known=False,
        name=path.resolve().stem,
        class_list=own_list(own),
    )
    return with_unlisted(labels, unlisted, path)


def _splits(path: Path) -> dict[str, list[tuple[Path, int]]]:
    """Return the files of each split of a folder as on the hub, each with the split's number of files."""
    splits: dict[str, list[tuple[Path, int]]] = {}
    for file in sorted((path / "data").glob("*.parquet")):
        if name := SHARD.fullmatch(file.name):
            splits.setdefault(name[1], []).append((file, int(name[3])))
    return splits


def _shards(path: Path, split: str) -> list[Path]:
    """Return all files of a split."""
    splits = _splits(path)
    name = split or next(iter(splits))
    if (len(splits) > 1 and not split) or name not in splits:
        raise InputError(
            "The folder contains several splits, each of which is a data set."
            if len(splits) > 1
            else "There is no such split.",
            where=path,
            got=split or None,
            allowed=", ".join(splits),
            do=f"choose one: format=\"hf-labels(split='{next(iter(splits))}')\"",
        )
    files, n = [file for file, _ in splits[name]], splits[name][0][1]
    complete = [path / "data" / f"{name}-{i:05d}-of-{n:05d}.parquet" for i in range(n)]
    return _all_there(complete, set(files), path)


def _features_of_parquet(path: Path) -> dict[str, Any]:
    try:
        info = (pq.read_schema(path).metadata or {}).get(b"huggingface", b"{}")
    except (pa.ArrowException, OSError):
        return {}
    return features_in(parse_json(info, f"{path}, schema metadata 'huggingface'"))


def features_in(content: Any) -> dict[str, Any]:
    """Return the description of the columns from JSON that was written by Hugging Face."""
    info = content.get("info", content) if isinstance(content, dict) else {}
    features = info.get("features") if isinstance(info, dict) else None
    return features if isinstance(features, dict) else {}


def _features_of_folder(path: Path) -> dict[str, Any]:
    splits = path / "dataset_dict.json"
    if splits.is_file():
        content = load_json(splits)
        names = content.get("splits", []) if isinstance(content, dict) else []
        raise InputError(
            "The folder contains several splits, each of which is a data set.",
            where=path,
            allowed=", ".join(map(str, names)),
            do=f"pass the folder of a split, such as {path / str(names[0]) if names else 'train'}",
        )
    for name in ("dataset_info.json", "state.json"):
        if not (path / name).is_file():
            raise InputError("The folder is not a complete saved data set.", where=path, got=f"no {name}")
    return features_in(load_json(path / "dataset_info.json"))


def _label_features(features: dict[str, Any]) -> list[_Feature]:
    found = []
    for column, feature in features.items():
        inner, listed = feature, False
        if isinstance(feature, list) and len(feature) == 1:
            inner, listed = feature[0], True
        elif isinstance(feature, dict) and feature.get("_type") in _LISTS:
            inner, listed = feature.get("feature"), True
        if isinstance(inner, dict) and inner.get("_type") == "ClassLabel" and inner.get("names"):
            names = inner["names"]
            found.append(_Feature(column, tuple(map(str, names)) if isinstance(names, list) else (), listed))
    return found


def is_label_sets(feature: Any) -> bool:
    """Return whether a column contains lists of class labels, by its description."""
    return any(found.listed for found in _label_features({"": feature}))


def _chosen(features: list[_Feature], column: str, path: Path) -> tuple[_Feature, _Feature | None]:
    """Return the column of label sets and, if it has the same classes, the column of single labels."""
    lists = [f for f in features if f.listed]
    candidates = [f for f in features if f.column == column] if column else lists or features
    if len(candidates) != 1:
        raise InputError(
            "The column of labels is ambiguous." if candidates else "No column contains class labels.",
            where=path,
            got=column or ", ".join(f.column for f in candidates) or None,
            allowed=", ".join(f.column for f in features) or None,
            do=f"choose one: format=\"hf-labels(column='{features[0].column}')\"" if features else None,
        )
    main = candidates[0]
    if not main.names:
        raise InputError(
            "The class names of a feature are not a list.",
            where=f"{path}, feature {main.column}",
            allowed="a list with the name of each class",
        )
    singles = [f for f in features if not f.listed and f.names == main.names]
    return main, main if not main.listed else singles[0] if len(singles) == 1 else None


def _id_column(columns: Sequence[str], features: dict[str, Any]) -> tuple[str | None, bool]:
    """Return the column of names, and whether it is a column of images; None if there is neither."""
    kinds = {c: f.get("_type") if isinstance(f := features.get(c), dict) else None for c in columns}
    images = [c for c, kind in kinds.items() if kind == "Image"]
    others = [c for c in columns if kinds[c] not in ("Image", "ClassLabel", *_LISTS)]
    named = image_name_column(c for c in others if not isinstance(features.get(c), list))
    return (named, False) if named or not images else (images[0], True)


def _read(path: Path, features: dict[str, Any], columns: Sequence[str]) -> pa.Table:
    """Return columns of a Parquet file or an Arrow stream, and the names of its images."""
    if path.suffix.lower() != ".parquet":
        table = _stream(path)
        return _named(table, *_id_column(table.column_names, features), columns, path)
    file = pq.ParquetFile(path)
    names = file.schema_arrow.names
    check_columns_once(names, path)
    column, is_image = _id_column(names, features)
    own = [] if column is None else [f"{column}.path" if is_image else column]
    return _named(file.read(columns=[*own, *columns]), column, is_image, columns, path)


def _data_files(path: Path) -> list[Path]:
    state = load_json(path / "state.json")
    listed = state.get("_data_files") if isinstance(state, dict) else None
    if isinstance(listed, list) and not listed:
        raise InputError("The data set has no rows.", where=path)
    if not isinstance(listed, list) or not all(isinstance(f, dict) and f.get("filename") for f in listed):
        raise _not_saved(path, "no data files")
    if state.get("_indices_data_files"):
        raise _not_saved(path, "rows selected by an index")
    files = [path / Path(str(f["filename"])).name for f in listed]
    return _all_there(files, {f for f in files if f.is_file()}, path)


def _all_there(listed: list[Path], present: Collection[Path], path: Path) -> list[Path]:
    """Return the listed files, after checking that all are present."""
    absent = [file.name for file in listed if file not in present]
    if absent:
        raise InputError(
            "The data set is not complete.",
            where=path,
            got=f"no {absent[0]}",
            do="create or download it again",
        )
    return listed


def _not_saved(path: Path, got: str) -> InputError:
    return InputError(
        "The folder was not written by save_to_disk.",
        where=path,
        got=got,
        do="save it again with datasets 2.0 or later",
    )


def _stream(path: Path) -> pa.Table:
    # Mapped, not read: the bytes of images are never loaded.
    with pa.ipc.open_stream(pa.memory_map(str(path))) as stream:
        check_columns_once(stream.schema.names, path)
        table = stream.read_all()
        # Arrow aborts the process if offsets point out of the file.
        table.validate()
        return table


def _named(
    table: pa.Table, column: str | None, is_image: bool, columns: Sequence[str], path: Path
) -> pa.Table:
    """Return columns and the names of the images, all null if the table contains none."""
    absent = [c for c in (column, *columns) if c is not None and c not in table.column_names]
    if absent:
        raise InputError(
            "A feature of the data set has no column.",
            where=path,
            got=absent[0],
            allowed=", ".join(table.column_names),
        )
    if column is None:
        names = pa.chunked_array([pa.nulls(len(table), pa.string())])
    else:
        names = _paths(table[column], f"{path}, column {column}") if is_image else table[column]
    if not any(is_kind(names.type) for is_kind in _NAME_TYPES):
        raise InputError(
            "The column does not contain names.",
            where=f"{path}, column {column}",
            got=names.type,
            allowed="strings or whole numbers",
        )
    table = table.select(list(dict.fromkeys(columns))).append_column("image_id", names.cast(pa.string()))
    table.validate(full=True)
    if 0 < names.null_count < len(names) or (names.null_count and not is_image and column is not None):
        raise InputError(
            "An image has no name.",
            where=path,
            got=f"{names.null_count:,} without {'a path in ' * is_image}{column!r}",
            do="add a column 'image_id'",
        )
    return table


def _ids(names: pa.ChunkedArray, rows: Images | None, path: Path) -> pa.Array:
    """Return the ids of images; without names, those of `rows`, or the positions of the rows."""
    if names.null_count and names.null_count == len(names):
        if rows is None:
            return pa.array(np.arange(len(names))).cast(pa.string())
        check_row_count(path, len(names), len(rows), "labels")
        return rows.image_id
    if names.null_count:
        raise InputError(
            "Some files of the data set contain no image names.", where=path, do="add a column 'image_id'"
        )
    return pc.replace_substring_regex(
        short_ids(one_chunk(names), path),
        r"^(ILSVRC2012_val_\d{8}|n\d{8}_\d+)_n\d{8}(\.\w+)$",
        r"\1\2",
    )


def _paths(images: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    """Return the paths within a column of images."""
    if not pa.types.is_struct(images.type) or images.type.get_field_index("path") < 0:
        raise InputError(
            "The column does not contain images.",
            where=where,
            got=images.type,
            allowed="a struct with `path`",
        )
    return pc.struct_field(images, "path")


def _sets(
    table: pa.Table, feature: _Feature, path: Path
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the lengths of the label sets, the positions of their names, and which images are usable."""
    column = table[feature.column]
    if feature.listed:
        usable = one_chunk(column).is_valid().to_numpy(zero_copy_only=False)
        lengths, flat = class_lists(column, f"{path}, column {feature.column}", len(feature.names))
    else:
        values = _singles(table, feature, path)
        usable = pc.fill_null(pc.greater_equal(values, 0), False).to_numpy(zero_copy_only=False)
        lengths, flat = usable.astype(np.int64), values.filter(pa.array(usable))
    return lengths, _checked(flat, feature, path), usable


def _singles(table: pa.Table, feature: _Feature, path: Path) -> pa.Array:
    where = f"{path}, column {feature.column}"
    return class_id_column(one_chunk(table[feature.column]), where, len(feature.names), gaps=True)


def _checked(flat: pa.Array, feature: _Feature, path: Path) -> np.ndarray[Any, np.dtype[np.int64]]:
    ids: np.ndarray[Any, np.dtype[np.int64]] = flat.to_numpy().astype(np.int64)
    bad = ids[(ids < 0) | (ids >= len(feature.names))]
    if len(bad):
        raise InputError(
            "A label is out of range.",
            where=f"{path}, column {feature.column}",
            got=int(bad[0]),
            allowed=f"0 to {len(feature.names) - 1}",
        )
    return ids


@register(
    "writer",
    "hf-labels",
    holds=("labels",),
    suffixes=(FOLDER, ".parquet"),
    keeps=("original labels", "unusable images"),
)
def write_hf_labels(labels: Labels, path: Path, classes: ClassList | None, *, split: str = "train") -> Saved:
    """Write label sets as a Hugging Face data set with the feature ``labels``, a ``Sequence(ClassLabel)``.

    The result is a folder as on the hub, or a single Parquet file. ``datasets.load_dataset`` reads it with
    the class names. The package ``datasets`` need not be installed to write it. The features are stored in
    the schema metadata of the Parquet file, as ``datasets`` stores them. The feature is a ``Sequence``,
    because versions of ``datasets`` before 4 do not read ``List``.

    The columns are ``image_id``, ``label`` (the original labels, if there are any) and ``labels`` (null for
    images that are not usable).

    Parameters
    ----------
    split : str
        The name of the split in a folder.

    Raises
    ------
    InputError
        If the class list is unknown, or if the folder contains other files of this split.
    """
    own = classes_of_table(labels, classes)
    target = path
    if path.suffix.lower() != ".parquet":
        target = path / "data" / f"{split}-00000-of-00001.parquet"
        _check_alone(path, split, target)
    table = _hf_table(labels, {"names": list(unique_names(own)), "_type": "ClassLabel"})
    with atomic_write(target) as part:
        pq.write_table(table, part, compression="zstd")
    return Saved((target,), lost_keys(own))


def _check_alone(path: Path, split: str, target: Path) -> None:
    if not re.fullmatch(r"\w+", split):
        raise InputError(
            "This cannot be the name of a split.", got=repr(split), allowed="letters, digits and _"
        )
    others = [file for file, _ in _splits(path).get(split, []) if file != target]
    if others:
        raise InputError(
            "The folder contains other files of this split, which would also be read.",
            where=path,
            got=others[0].name,
            do="remove them, or write to another folder",
        )


def _hf_table(labels: Labels, feature: dict[str, Any]) -> pa.Table:
    lengths, flat, _ = with_state(labels)
    has_set = pa.array(usable(labels))
    sets = ragged(lengths, pa.array(flat, pa.int64()))
    columns = {"image_id": labels.image_id}
    features: dict[str, Any] = {"image_id": {"dtype": "string", "_type": "Value"}}
    if "label" in labels.table.column_names and labels.table["label"].null_count < len(labels):
        columns["label"] = one_chunk(labels.table["label"]).cast(pa.int64())
        features["label"] = feature
    columns["labels"] = pc.if_else(has_set, sets, pa.scalar(None, sets.type))
    features["labels"] = {"feature": feature, "_type": "Sequence"}
    info = json.dumps({"info": {"features": features}}, ensure_ascii=False)
    return pa.table(columns).replace_schema_metadata({"huggingface": info})
