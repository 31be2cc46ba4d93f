"""FiftyOne's exported samples: label sets, predictions, and tags for findings.

``dataset.export(…, dataset_type=fo.types.FiftyOneDataset)`` writes a folder with ``samples.json`` and
``metadata.json``; ``dataset.write_json`` writes the same samples in one file. The package ``fiftyone`` is not
needed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from manyhot.classes import ClassList, from_keys
from manyhot.errors import InputError, MatchError, counted
from manyhot.files import write_text
from manyhot.formats.class_names import ids_of_values
from manyhot.formats.image_paths import ids_below_folder
from manyhot.formats.label_lists import NamedLabels, labels_of_names
from manyhot.formats.reading import UNLISTED, cut_for_message, head, load_json, with_unlisted
from manyhot.formats.writing import Saved
from manyhot.kinds import FOLDER
from manyhot.parameters import check_share
from manyhot.registry import register
from manyhot.tables import Images, Labels, Predictions, list_matrix
from manyhot.tables.frames import examples
from manyhot.tables.image_ids import ids_like, without_option
from manyhot.tables.state_lists import ragged

_SAMPLES, _METADATA = "samples.json", "metadata.json"

_LISTS = {"Classifications": "classifications", "Detections": "detections"}
"""The types of fields with several labels, with the key of the list."""

_START = re.compile(r'\{\s*"samples"\s*:\s*\[\s*(\{|\])')

NamedScore = tuple[str, float]
"""A label and its confidence; NaN without one."""


@dataclass(frozen=True)
class _Samples:
    """The label fields of exported samples.

    Attributes
    ----------
    image_id : pyarrow.Array of string, shape (n,)
    fields : Mapping of str to list
        The value of each label field in each sample; None if a sample has none.
    about : Mapping of str to object
        The description of the data set.
    """

    image_id: pa.Array
    fields: Mapping[str, list[Any]]
    about: Mapping[str, Any]


def _matches(path: Path) -> bool:
    if path.is_dir():
        return (path / _SAMPLES).is_file() and (path / _METADATA).is_file()
    start = head(path)
    return bool(_START.match(start)) or ('"sample_fields"' in start and '"media_type"' in start)


@register("format", "fiftyone-samples", holds="labels", suffixes=(".json", FOLDER), matches=_matches)
def read_fiftyone_samples(
    path: Path, *, classes: ClassList | None, field: str = "", unlisted: str = UNLISTED[0]
) -> Labels:
    """Labels in FiftyOne's exported samples: ``Classifications``, ``Classification`` or ``Detections``.

    `p` is the confidence. A sample whose field is null is not usable. The classes are listed in
    ``metadata.json``. Without this file, they are the labels that occur.

    Parameters
    ----------
    field : str
        Name of the field with the labels, as in ``fiftyone-samples(field='tags')``. By default,
        ``ground_truth``, or the only label field.
    unlisted : {"not asked", "no"}
        The state of classes that an image does not list. ``unlisted='no'`` declares that each image lists all
        of its classes.

    References
    ----------
    https://docs.voxel51.com/user_guide/export_datasets.html#fiftyonedataset
    """
    samples = _read(path)
    name = _field_of(samples, field, "ground_truth", path)
    values = [_labels_in(value, f"{path}, sample {i}") for i, value in enumerate(samples.fields[name])]
    pairs = [pair for value in values for pair in value or ()]
    p = [confidence for _, confidence in pairs]
    named = NamedLabels(
        samples.image_id,
        np.array([len(value or ()) for value in values], np.int64),
        pa.array([label for label, _ in pairs], pa.string()),
        np.array([value is not None for value in values], bool),
        all(isinstance(v, dict) and v.get("_cls") == "Classification" for v in samples.fields[name]),
    )
    known = None if all(map(math.isnan, p)) else pa.array(p, pa.float32())
    declared = _declared_classes(samples, name, path)
    return with_unlisted(labels_of_names(named, classes, path, p=known, declared=declared), unlisted, path)


@register("format", "fiftyone-predictions", holds="predictions", suffixes=(".json",), matches=_matches)
def read_fiftyone_predictions(
    path: Path, *, classes: ClassList | None, rows: Images | None, scores: str | None, field: str = ""
) -> Predictions:
    """Predictions in FiftyOne's exported samples: labels with confidences.

    Confidences are read as probabilities unless `scores` declares a different kind. A sample whose field is
    null has no prediction. If every sample has all classes, the scores are dense. The name of the model is
    the name of the field.

    Parameters
    ----------
    field : str
        The field with the predictions, as in ``fiftyone-predictions(field='resnet50')``. By default,
        ``predictions``, or the only label field.

    References
    ----------
    https://docs.voxel51.com/user_guide/export_datasets.html#fiftyonedataset
    """
    samples = _read(path)
    name = _field_of(samples, field, "predictions", path)
    places = [f"{path}, sample {i}" for i in range(len(samples.image_id))]
    values = list(map(_labels_in, samples.fields[name], places))
    there = pa.array([value is not None for value in values])
    pairs = zip(values, places, strict=True)
    predicted = [_by_score(value, where) for value, where in pairs if value is not None]
    flat = [pair for value in predicted for pair in value]
    declared = _declared_classes(samples, name, path)
    found = ids_of_values({label for label, _ in flat}, classes or declared, path)
    lengths = list(map(len, predicted))
    top = ragged(lengths, pa.array([found.ids[label] for label, _ in flat], pa.int32()))
    return Predictions(
        samples.image_id.filter(there),
        name,
        list_matrix(top, -1),
        list_matrix(ragged(lengths, pa.array([p for _, p in flat], pa.float32())), -np.inf),
        score_kind="probability",
        n_classes=found.n_classes,
        class_hash=found.class_hash,
        source=str(path),
        class_list=(declared if classes is None else None) or found.class_list,
    ).in_full()


def _by_score(value: Sequence[NamedScore], where: str) -> list[NamedScore]:
    for label, p in value:
        if math.isnan(p):
            raise InputError("A prediction has no confidence.", where=where, got=cut_for_message(repr(label)))
        check_share(p, "This is not a confidence.", zero=True, where=where, allowed="0 to 1")
    return sorted(value, key=lambda pair: -pair[1])


def _read(path: Path) -> _Samples:
    file = path / _SAMPLES if path.is_dir() else path
    content = _content(file)
    samples = content["samples"]
    beside = file.parent / _METADATA
    about = load_json(beside) if file.name == _SAMPLES and beside.is_file() else content
    names = {
        name: None for sample in samples for name, value in sample.items() if _type_of(value) is not None
    }
    return _Samples(
        ids_below_folder(pa.array([sample["filepath"] for sample in samples], pa.string()), path),
        {name: [sample.get(name) for sample in samples] for name in names},
        about if isinstance(about, dict) else {},
    )


def _content(file: Path) -> dict[str, Any]:
    content = load_json(file)
    samples = content.get("samples") if isinstance(content, dict) else None
    if not isinstance(samples, list) or not all(
        isinstance(s, dict) and isinstance(s.get("filepath"), str) for s in samples
    ):
        raise InputError(
            "The file does not contain FiftyOne samples.",
            where=file,
            allowed="an object with 'samples', a list of objects with 'filepath'",
        )
    return dict(content)


def _type_of(value: Any) -> str | None:
    """Return the type of a label field; None if the value is not a label."""
    kind = value.get("_cls") if isinstance(value, dict) else None
    return kind if isinstance(kind, str) and (kind == "Classification" or kind in _LISTS) else None


def _field_of(samples: _Samples, field: str, usual: str, path: Path) -> str:
    fields = samples.fields
    if not field and usual in fields:
        return usual
    chosen = [field] if field else list(fields)
    if len(chosen) == 1 and chosen[0] in fields:
        return chosen[0]
    name = "fiftyone-samples" if usual == "ground_truth" else "fiftyone-predictions"
    raise InputError(
        "The samples do not have this field of labels."
        if field
        else "The field with the labels is ambiguous.",
        where=path,
        got=field or ", ".join(fields) or "no field of labels",
        allowed=", ".join(fields) or "Classifications, Classification or Detections",
        do=f"choose one: format=\"{name}(field='{next(iter(fields))}')\"" if fields else None,
    )


def _labels_in(value: Any, where: str) -> list[NamedScore] | None:
    """Return the labels of a field in a sample, each with its confidence; None without a value."""
    if value is None:
        return None
    kind = _type_of(value)
    entries = value.get(_LISTS[kind]) if kind in _LISTS else [value] if kind else None
    if not isinstance(entries, list):
        raise InputError(
            "This is not a field of labels.",
            where=where,
            got=cut_for_message(repr(value)),
            allowed=f"Classification, {', '.join(_LISTS)}",
        )
    pairs = [pair for entry in entries if (pair := _label_in(entry, where)) is not None]
    # Objects of one class, such as three dogs, are one label.
    return [(label, math.nan) for label in dict(pairs)] if kind == "Detections" else pairs


def _label_in(entry: Any, where: str) -> NamedScore | None:
    label = entry.get("label") if isinstance(entry, dict) else entry
    confidence = entry.get("confidence") if isinstance(entry, dict) else None
    if label is None and isinstance(entry, dict):
        return None
    is_number = isinstance(confidence, int | float) and not isinstance(confidence, bool)
    if not isinstance(label, str) or not (confidence is None or is_number):
        raise InputError(
            "An entry is not a label.",
            where=where,
            got=cut_for_message(repr(entry)),
            allowed="an object in which 'label' is a string, and 'confidence' a number or null",
        )
    return label, math.nan if confidence is None else float(confidence)


def _declared_classes(samples: _Samples, field: str, path: Path) -> ClassList | None:
    """Return the classes that the data set lists for a field, in their order."""
    by_field = samples.about.get("classes")
    names = by_field.get(field) if isinstance(by_field, dict) else None
    names = names or samples.about.get("default_classes")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        return None
    return from_keys(names, path.resolve().name)


@register("writer", "fiftyone-samples", holds=("findings",), suffixes=(".json",), keeps=())
def write_fiftyone_tags(
    findings: pa.Table, path: Path, classes: ClassList | None, *, samples: str = ""
) -> Saved:
    """Write FiftyOne's exported samples with the kinds of findings as tags.

    The tags of a sample are extended with the kind of each finding about its image, such as *doubtful-label*.
    Nothing else is changed. To import the file, replace ``samples.json`` in the exported folder.

    Parameters
    ----------
    samples : str
        The exported ``samples.json`` to add tags to.

    Raises
    ------
    InputError
        If `samples` is not passed or does not contain samples.
    MatchError
        If no finding is about an image of the samples.
    """
    if not samples:
        raise InputError(
            "Tags can be added only to samples that FiftyOne exported.",
            where=path,
            do="pass them in `to`: \"fiftyone-samples(samples='export/samples.json')\"",
        )
    content = _content(Path(samples))
    ids = ids_below_folder(pa.array([s["filepath"] for s in content["samples"]], pa.string()), samples)
    kinds = _kinds(findings)
    with without_option():
        like = ids_like(ids, pa.array(kinds, pa.string()), name=samples, other_name="the findings")
    absent = kinds.keys() - set(like.ids.to_pylist())
    if absent == kinds.keys():
        raise MatchError(
            "No finding is about an image of the samples.",
            where=samples,
            got=f"images such as {examples(ids)}",
            allowed=f"images such as {', '.join(list(kinds)[:2])}" if kinds else "findings on images",
        )
    for image, sample in zip(like.ids.to_pylist(), content["samples"], strict=True):
        tags = sample.get("tags") if isinstance(sample.get("tags"), list) else []
        sample["tags"] = list(dict.fromkeys([*tags, *kinds.get(image, ())]))
    write_text(path, json.dumps(content, ensure_ascii=False))
    n_tagged = sum(map(len, kinds.values()))
    lost = {
        f"findings on {counted(len(absent), 'image')} without a sample": absent,
        "findings on classes": n_tagged < len(findings),
        "the evidence of findings": True,
    }
    return Saved((path,), tuple(text for text, is_lost in lost.items() if is_lost))


def _kinds(findings: pa.Table) -> dict[str, list[str]]:
    """Return the kinds of the findings on each image."""
    kinds: dict[str, list[str]] = {}
    if "image_id" not in findings.column_names:
        return kinds
    for row in findings.select(["image_id", "kind"]).to_pylist():
        if row["image_id"] is not None:
            kinds.setdefault(row["image_id"], []).append(row["kind"])
    return kinds
