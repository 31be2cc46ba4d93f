"""Predictions as classes with scores: one row per image and class, JSON, JSON lines, and columns of lists.

As CSV, predictions are written with class names: one column of scores per class, or one row per pair.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from manyhot.classes import ClassList
from manyhot.errors import InputError, MatchError
from manyhot.formats.array_files import DIFFERING_ROWS, check_row_order, dense_predictions, note_on_repeats
from manyhot.formats.class_numbers import keys_of_numbers, list_of_codes
from manyhot.formats.headers import ID_NEEDS, IMAGE_NAME_COLUMNS, fold_name, image_name_column
from manyhot.formats.predicted_classes import (
    CLASS_COLUMNS,
    PREDICTED,
    SCORE_COLUMNS,
    columns_of_classes,
    note_on_other_classes,
)
from manyhot.formats.reading import (
    JSON_KEY,
    LIST_TYPES,
    cut_for_message,
    declared,
    head,
    image_ids,
    load_json,
    parse_json,
)
from manyhot.formats.table_files import MODEL_COLUMNS, check_one_model, column_names, read_frame
from manyhot.formats.tabular import in_full, predictions_long, predictions_of_frame
from manyhot.parameters import is_number, is_whole
from manyhot.registry import register
from manyhot.tables import Images, Predictions
from manyhot.tables.frames import check_unique
from manyhot.tables.image_ids import first_column
from manyhot.tables.rounded_ids import check_no_decimals

_SCORES = tuple(name for name in SCORE_COLUMNS if name != "rank")
"""Names of scores, of which the highest is best."""

_NESTED = ("predictions", "preds", "outputs", "result", "results", *_SCORES)
"""Keys and columns with the classes and scores of an image together, by preference."""

KEYS_OF_OTHERS = frozenset(
    (
        *("rater_id", "expert_id", "worker", "n_models", "answer", "state", "usable", "rated", "n_votes"),
        *("x1", "xmin", "bbox", "bboxes", "labelname", "metric", "logsumexp"),
        *("annotations", "completed_by", "data", "samples", "info", "categories", "findings"),
    )
)
"""Columns and keys of votes, label sets, objects, results, and the tables of manyhot."""

_NAMES = (*CLASS_COLUMNS, "name")
"""Keys of the class in an object with a class and a score, by preference."""

_NEEDS = f"{ID_NEEDS}, class and score"


_TEXT = r'"(?:[^"\\]|\\.)*"\s*:\s*'
_BY_CLASS = re.compile(rf"\{{\s*(?:{_TEXT}\{{\s*\}}\s*,\s*)*{_TEXT}\{{\s*{_TEXT}(?:-?\d|true|false)")
"""The beginning of an object of images, whose values are objects of numbers or booleans."""

_OF_OBJECTS = re.compile(rf"(?:\{{\s*{_TEXT}|\[\s*)\[\s*\{{")
"""The beginning of lists of objects, by image or one list for each row."""

_NUMBERS = re.compile(r":\s*(-?\d[\d.eE+-]*)")


def are_scores_by_class(start: str) -> bool:
    """Return whether JSON begins with scores by image and class, and not only with whole numbers."""
    return _BY_CLASS.match(start) is not None and any(
        not number.lstrip("-").isdigit() for number in _NUMBERS.findall(start)
    )


def _are_states_by_class(path: Path) -> bool:
    """Return whether JSON contains only 0 and 1, or booleans, by image and class, which may be anything."""
    if path.suffix.lower() != ".json" or _BY_CLASS.match(start := head(path)) is None:
        return False
    return set(_NUMBERS.findall(start)) <= {"0", "1"}


def _matches(path: Path) -> bool:
    if path.suffix.lower() in (".json", ".jsonl"):
        start = head(path)
        if are_scores_by_class(start):
            return True
        if _OF_OBJECTS.match(start) or (path.suffix.lower() == ".jsonl" and re.match(r"\[\s*\{", start)):
            keys = {fold_name(key) for key in JSON_KEY.findall(start)}
            return are_lists(keys) and not keys & KEYS_OF_OTHERS
        if re.match(r"(\[\s*)?\{", start) is None:
            return False
        names: Sequence[str] = JSON_KEY.findall(start)
    elif declared(path):
        return False
    else:
        names = column_names(path)
    folded = {fold_name(name) for name in names}
    if not folded & set(IMAGE_NAME_COLUMNS) or folded & KEYS_OF_OTHERS:
        return False
    if path.suffix.lower() in (".json", ".jsonl"):
        return bool(folded & set(_NESTED))
    is_own = "image_id" in names and set(names) & {"class_id", "classes"}
    if is_own and first_column(names, PREDICTED) is None:
        return False  # a table of manyhot
    if are_lists(names):
        return True
    return path.suffix.lower() == ".parquet" and _nested_column(pq.read_schema(path)) is not None


def are_lists(columns: Iterable[str]) -> bool:
    """Return whether the columns of a table include those of classes and of their scores."""
    names = list(columns)
    return bool(first_column(names, CLASS_COLUMNS) and first_column(names, tuple(SCORE_COLUMNS)))


def are_entries(values: Any) -> bool:
    """Return whether an object contains one model's predictions in a form of JSON that this module reads.

    The forms are scores by image and class, lists of objects with a class and a score by image or by row, and
    objects with the name and the scores of an image. The first entry decides.
    """
    if isinstance(values, Mapping):
        first = next((v for v in values.values() if not isinstance(v, Mapping | list | tuple) or v), None)
        if isinstance(first, Mapping):
            return all(is_number(score) for score in first.values())
        return _are_pairs(first)
    if not isinstance(values, list | tuple):
        return False
    first = next((v for v in values if not isinstance(v, list | tuple) or v), None)
    if isinstance(first, Mapping) and all(isinstance(key, str) for key in first):
        return bool(image_name_column(first) and _key_of_scores(first))
    return _are_pairs(first)


def _are_pairs(values: Any) -> bool:
    """Return whether values are a list of objects with a class and a score."""
    one = next(iter(values), None) if isinstance(values, list | tuple) else None
    if not isinstance(one, Mapping) or not all(isinstance(key, str) for key in one):
        return False
    return image_name_column(one) is None and (are_lists(one) or _is_tag(one))


def _is_tag(entry: Any) -> bool:
    """Return whether an object contains a class, which may be its ``name``, and a score."""
    return isinstance(entry, dict) and bool(first_column(entry, _NAMES) and first_column(entry, _SCORES))


def _nested_column(schema: pa.Schema) -> str | None:
    """Return the column of Parquet with lists of scores, or of objects with a class and a score."""
    lists = [f for f in schema if any(is_list(f.type) for is_list in LIST_TYPES)]
    texts = (pa.types.is_string, pa.types.is_large_string)
    lists = [f.name for f in lists if not any(is_text(f.type.value_type) for is_text in texts)]
    return first_column(lists, _NESTED)


@register(
    "format",
    "prediction-lists",
    holds="predictions",
    suffixes=(".csv", ".tsv", ".parquet", ".json", ".jsonl"),
    matches=_matches,
    explicit=_are_states_by_class,
    needs=_NEEDS,
)
def read_prediction_lists(
    path: Path, *, classes: ClassList | None, rows: Images | None, scores: str | None
) -> Predictions:
    """Classes with scores: a table with a row for each image and class, JSON, JSON lines, or lists.

    In JSON and Parquet, the classes and scores of an image are two lists, a list of objects with a class and
    a score, an object of scores by class, or a list of the scores of all classes. In JSON, the images may be
    the keys of an object or, if each entry is only a list of objects, those of `rows`. True and false are the
    scores 1 and 0. If all classes of each image have scores, the scores are dense. The model is named after
    the file. An image with an empty list, null or an empty cell is one for which the model predicts nothing;
    an image without a row has no prediction.
    """
    if path.suffix.lower() in (".json", ".jsonl"):
        found, kind, notes = _of_json(path, rows)
    else:
        found, kind, notes = _of_table(path, scores)
    ids = image_ids(found["image_id"].cast(pl.String).to_arrow(), f"{path}, the names of the images")
    found = found.with_columns(image_id=pl.Series(ids))
    kind = (scores or kind) if kind == "score" else kind
    if found.schema.get("scores") == pl.Boolean:
        found = found.with_columns(pl.col("scores").cast(pl.Float32))
    if "class_id" not in found.columns:
        predictions = _dense(found, path, classes, kind)
        return replace(predictions, notes=(*predictions.notes, *notes))
    images, found = found.select("image_id").unique(maintain_order=True), _listed_classes(found, path)
    found = found.with_columns(class_id=keys_of_numbers(found["class_id"], classes, path))
    classes = classes or list_of_codes(found["class_id"], path.stem)
    predictions = predictions_of_frame(predictions_long(found, path, images), path, classes, kind)
    predictions = replace(predictions, notes=(*predictions.notes, *notes))
    return predictions if predictions.assumed else in_full(predictions)


def _listed_classes(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Return the rows with a class; a row with neither class nor score lists nothing for its image."""
    value = pl.col("scores" if "scores" in frame.columns else "rank")
    unnamed = pl.col("class_id").is_null()
    if frame.select((unnamed & value.is_not_null()).any()).item() or frame["class_id"].is_null().all():
        raise InputError("A row has no class.", where=path, allowed=_NEEDS)
    return frame.filter(~unnamed)


def _dense(frame: pl.DataFrame, path: Path, classes: ClassList | None, kind: str) -> Predictions:
    lengths = frame["scores"].list.len()
    if lengths.null_count() or lengths.n_unique() != 1:
        raise InputError(
            "Lists of scores without classes differ in length.",
            where=path,
            got=" and ".join(map(str, sorted(lengths.unique().to_list(), key=str)[:2])),
            allowed="one score for each class, in the same order",
        )
    values = frame["scores"].explode(empty_as_null=False).cast(pl.Float32, strict=False).to_numpy()
    ids = frame["image_id"].to_arrow().cast(pa.string())
    return dense_predictions(path, ids, values.reshape(len(frame), int(lengths[0])), kind, classes)


def _of_table(path: Path, scores: str | None) -> tuple[pl.DataFrame, str, list[str]]:
    """Return the columns image_id, class_id and scores of a table, the kind of its scores, and notes."""
    names = column_names(path)
    declared_first = sorted(SCORE_COLUMNS, key=lambda name: SCORE_COLUMNS[name] != scores)
    ids, score = image_name_column(names), first_column(names, declared_first)
    nested = _nested_column(pq.read_schema(path)) if path.suffix.lower() == ".parquet" else None
    found = columns_of_classes(names, nested)
    label, others = (found[0] if found else None), found[1:]
    if ids is None or (nested is None and None in (label, score)):
        raise InputError(
            "The table has no images, classes or scores.",
            where=path,
            got=", ".join(map(cut_for_message, names[:8])),
            allowed=_NEEDS,
        )
    columns = [c for c in dict.fromkeys((ids, label, *others, nested or score)) if c is not None]
    every = read_frame(path, columns if path.suffix.lower() == ".parquet" else None).select(columns)
    frame = every if every.height == (n := every.unique().height) else every.unique(maintain_order=True)
    repeats = [note_on_repeats(every.height - n, every.height)] if n < every.height else []
    if nested is not None:
        named = frame[ids].cast(pl.String).to_arrow().cast(pa.string())
        check_unique(named, str(path), DIFFERING_ROWS)
        return (*_unnested(frame, path, ids, label, nested), repeats)
    assert label is not None
    assert score is not None
    kind = SCORE_COLUMNS[fold_name(score)]
    chosen = frame.select(
        pl.col(ids).alias("image_id"),
        pl.col(label).alias("class_id"),
        pl.col(score).alias("rank" if fold_name(score) == "rank" else "scores"),
    )
    rows = {other: frame.select(pl.col(label), pl.col(other)).unique().rows() for other in others}
    notes = [note_on_other_classes(label, other, both, str(path)) for other, both in rows.items()]
    return chosen, kind, [*repeats, *filter(None, notes)]


def _unnested(
    frame: pl.DataFrame, path: Path, ids: str, label: str | None, nested: str
) -> tuple[pl.DataFrame, str]:
    """Return columns of lists as rows, or dense lists of scores as they are."""
    named = frame.rename({ids: "image_id", nested: "scores"})
    inner = frame.schema[nested].inner  # type: ignore[attr-defined]
    kind = SCORE_COLUMNS.get(fold_name(nested), "score")
    if isinstance(inner, pl.Struct):
        fields = [field.name for field in inner.fields]
        own, score = first_column(fields, CLASS_COLUMNS), first_column(fields, _SCORES)
        if own is None or score is None:
            raise InputError(
                "The column of predictions has no classes or scores.",
                where=f"{path}, column {nested}",
                got=", ".join(map(cut_for_message, fields)),
                allowed="a class, in a field such as 'label', and a score",
            )
        rows = named.explode("scores", empty_as_null=True).select(
            "image_id",
            pl.col("scores").struct.field(own).alias("class_id"),
            pl.col("scores").struct.field(score).alias("scores"),
        )
        return rows, SCORE_COLUMNS[fold_name(score)]
    if label is None or not isinstance(frame.schema[label], pl.List):
        return named.select("image_id", "scores"), kind
    lists = named.rename({label: "class_id"})
    if not lists["class_id"].list.len().eq_missing(lists["scores"].list.len()).all():
        raise _lengths(path)
    return lists.select("image_id", "class_id", "scores").explode(
        "class_id", "scores", empty_as_null=True
    ), kind


def _lengths(where: object) -> InputError:
    return InputError("The lists of classes and scores differ in length.", where=where)


def _of_json(path: Path, rows: Images | None) -> tuple[pl.DataFrame, str, list[str]]:
    """Return the columns image_id, class_id and scores of JSON, or image_id and dense scores; also notes."""
    ids, names, values, dense, kinds = [], [], [], [], set[str]()
    answers, models, n_again = dict[str, list[Any]](), set[str](), 0
    others: dict[tuple[str, str], list[tuple[object, object]]] = {}
    for entry, where in _entries(path, rows):
        models.update(v for k, v in entry.items() if fold_name(k) in MODEL_COLUMNS and isinstance(v, str))
        image, score = _image_and_scores(entry, where)
        kinds.add(SCORE_COLUMNS.get(fold_name(score), "score"))
        found = entry[score]
        if isinstance(found, dict | list):
            answer = [found, *(entry[key] for key in columns_of_classes(entry, score))]
            if _is_repeated(answer, image, answers, where):
                n_again += 1
                continue
        if _is_unnamed(entry, score):
            ids.append(image)
            dense.append([_number(value, where) for value in found])
            continue
        label, *rest = columns_of_classes(entry, score) or [""]
        if not (isinstance(found, dict) or _are_objects(found)):
            for other in rest:
                others.setdefault((label, other), []).append((entry[label], entry[other]))
        pairs: list[tuple[Any, Any]] = [
            (_class(name, where), _number(value, where)) for name, value in _pairs(entry, found, label, where)
        ]
        for name, value in pairs or [(None, None)]:  # the model predicts nothing for the image
            ids.append(image)
            names.append(name)
            values.append(value)
    check_one_model(models, path)
    kind = kinds.pop() if len(kinds) == 1 else "score"
    notes = [*filter(None, (note_on_other_classes(*c, both, str(path)) for c, both in others.items()))]
    if n_again:
        such_as = "logs that were sent again"
        notes.append(note_on_repeats(n_again, len(answers) + n_again, "entries", such_as))
    if dense and names:
        raise InputError("Some entries name the classes of their scores, but others do not.", where=path)
    if dense:
        return pl.DataFrame({"image_id": ids, "scores": dense}), kind, notes
    # Numbers are ids or keys, as in a table; with texts among them, all are names.
    texts = any(isinstance(name, str) for name in names)
    keys = [n if n is None else str(n) for n in names] if texts else names
    column = pl.Series(keys, dtype=pl.String if texts else pl.Int64)
    return pl.DataFrame({"image_id": ids, "class_id": column, "scores": values}), kind, notes


def _is_repeated(answer: list[Any], image: str, answers: dict[str, list[Any]], where: str) -> bool:
    """Return whether an image already has this answer; otherwise, it is added."""
    first = answers.setdefault(image, answer)
    if first == answer:
        return first is not answer
    raise MatchError(
        "An image has two lists of predictions.",
        where=where,
        got=f"image {image}, with other classes or scores than in an earlier entry",
        allowed="one list for each image",
        do="keep one entry of each image, such as the latest; write those of other models to other files",
    )


def _is_unnamed(entry: Mapping[str, Any], score: str) -> bool:
    """Return whether the scores of an entry are a list without classes."""
    scores = entry[score]
    if not isinstance(scores, list) or columns_of_classes(entry, score):
        return False
    return bool(scores) and not any(isinstance(value, dict) for value in scores)


def _entries(path: Path, rows: Images | None) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield an object with the name and the scores of each image, with its place."""
    listed = list(_listed(path))
    names = iter(_row_names(path, listed, rows))
    for entry, where in listed:
        if isinstance(entry, list):
            yield {"image_id": next(names), "predictions": entry}, where
        elif not isinstance(entry, dict):
            raise InputError("This is not an object.", where=where, got=cut_for_message(repr(entry)))
        else:
            yield entry, where


def _listed(path: Path) -> Iterator[tuple[Any, str]]:
    """Yield the entries of JSON lines, of a list, or of an object of images, each with its place."""
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix.lower() == ".jsonl" or re.match(r"\{.*\}[ \t]*\r?\n\s*\{", text):
        lines = [(line, f"{path}, line {n}") for n, line in enumerate(text.splitlines(), 1) if line.strip()]
        yield from ((parse_json(line, where), where) for line, where in lines)
        return
    content = load_json(path)
    if isinstance(content, dict) and not isinstance(content.get(image_name_column(content)), str | int):
        by_image = content.items()
        yield from (({"image_id": i, "predictions": v}, f"{path}, image {i}") for i, v in by_image)
        return
    content = content if isinstance(content, list) else [content]
    yield from ((entry, f"{path}, entry {n}") for n, entry in enumerate(content))


def _row_names(path: Path, listed: Sequence[tuple[Any, str]], rows: Images | None) -> list[str]:
    """Return the image of each entry that is only a list."""
    n = sum(isinstance(entry, list) for entry, _ in listed)
    if not n:
        return []
    check_row_order(path, n, rows)
    assert rows is not None
    return [str(name) for name in rows.image_id.to_pylist()]


def _image_and_scores(entry: Mapping[str, Any], where: str) -> tuple[str, str]:
    """Return the name of the image of an entry, and the key of its scores."""
    ids = image_name_column(entry)
    check_no_decimals(None if ids is None else entry[ids], where)
    score = _key_of_scores(entry)
    if ids is None or score is None or not isinstance(entry[ids], str | int):
        raise InputError(
            "The entry does not contain the name of an image and its scores.",
            where=where,
            got=cut_for_message(", ".join(entry)),
            allowed='an object such as {"image": "a.jpg", "labels": ["cat"], "scores": [0.9]}',
            do="rename the key of classes with scores to predictions, and that of classes alone to tags",
        )
    return str(entry[ids]), score


def _key_of_scores(entry: Mapping[str, Any]) -> str | None:
    """Return the key of the scores of an entry; without one, that of objects with a class and a score."""
    score = first_column([key for key in entry if not _are_predicted(key, entry[key])], _NESTED)
    tags = first_column(entry, CLASS_COLUMNS) if score is None else None
    return tags if tags and isinstance(entry[tags], list) and all(map(_is_tag, entry[tags])) else score


def _are_predicted(key: str, value: Any) -> bool:
    """Return whether a value contains the names of predicted classes, without scores."""
    names = value if isinstance(value, list) else [value]
    return fold_name(key) in PREDICTED and any(isinstance(name, str) for name in names)


def _are_objects(scores: Any) -> bool:
    return isinstance(scores, list) and all(isinstance(one, dict) for one in scores)


def _pairs(entry: Mapping[str, Any], scores: Any, label: str, where: str) -> Iterator[tuple[Any, Any]]:
    """Yield the classes of an entry, which may be under the key `label`, with their scores.

    There are none if they are null or empty.
    """
    if scores in (None, []) and (not label or entry[label] in (None, "", [])):
        return
    if isinstance(scores, dict):
        yield from scores.items()
        return
    if _are_objects(scores):
        for one in scores:
            name, score = first_column(one, _NAMES), first_column(one, _SCORES)
            if name is None or score is None:
                raise InputError(
                    "A prediction has no class or no score.",
                    where=where,
                    got=cut_for_message(", ".join(one)),
                    allowed='an object such as {"label": "cat", "score": 0.9}',
                )
            yield one[name], one[score]
        return
    names = entry[label] if label else None
    if not isinstance(names, list) and not isinstance(scores, list):
        names, scores = [names], [scores]
    if not isinstance(names, list) or not isinstance(scores, list) or len(names) != len(scores):
        raise _lengths(where)
    yield from zip(names, scores, strict=True)


def _class(name: Any, where: str) -> str | int:
    if isinstance(name, str) or (is_whole(name) and 0 <= name < 2**31):
        return name
    raise InputError(
        "This is not a class.",
        where=where,
        got=cut_for_message(repr(name)),
        allowed="a name or a whole number",
    )


def _number(value: Any, where: str) -> float:
    if not isinstance(value, int | float):
        raise InputError(
            "This is not a score.",
            where=where,
            got=cut_for_message(repr(value)),
            allowed="a number, or true and false for 1 and 0",
            do="write numbers with a point and without quotes or signs, such as 37.4",
        )
    return float(np.float32(value)) if abs(value) < 1e38 else float("inf") * (1 if value > 0 else -1)
