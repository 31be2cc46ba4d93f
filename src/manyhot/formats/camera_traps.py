"""Predictions for camera traps: the JSON files of SpeciesNet and of MegaDetector."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from manyhot.classes import ClassList
from manyhot.errors import InputError, ManyhotError
from manyhot.formats.reading import JSON_KEY, head, image_ids, load_json
from manyhot.formats.tabular import in_full, predictions_long, predictions_of_frame
from manyhot.registry import register
from manyhot.tables import Images, Predictions

_Rows = Iterator[tuple[str, str, float]]
"""The image, the class and the score of each row."""


def _keys(path: Path) -> set[str]:
    start = head(path)
    return set(JSON_KEY.findall(start)) if start.startswith("{") else set()


@register(
    "format",
    "speciesnet",
    holds="predictions",
    suffixes=(".json",),
    matches=lambda path: _keys(path) >= {"predictions", "filepath"},
)
def read_speciesnet(
    path: Path, *, classes: ClassList | None, rows: Images | None, scores: str | None
) -> Predictions:
    """The ``predictions.json`` of SpeciesNet: the classes of its classifier with their probabilities.

    A class is named after the common name in its label, such as ``coyote``; labels that share a common name
    are kept whole. Images without classifications, for which SpeciesNet failed, are left out.

    References
    ----------
    Gadot et al. 2024, doi 10.1049/cvi2.12318 (SpeciesNet).
    """
    return _read(path, "SpeciesNet", classes, "probability")


@register(
    "format",
    "megadetector",
    holds="predictions",
    suffixes=(".json",),
    matches=lambda path: bool(_keys(path) >= {"file", "detections"} or "detection_categories" in _keys(path)),
)
def read_megadetector(
    path: Path, *, classes: ClassList | None, rows: Images | None, scores: str | None
) -> Predictions:
    """The JSON of MegaDetector: for each image and category, the highest confidence of its detections.

    A category that was not detected in an image has the score 0. Images for which MegaDetector failed are
    left out, and classifications of the detections are not read.

    References
    ----------
    Beery, Morris and Yang 2019, arXiv 1907.06772 (MegaDetector).
    """
    return _read(path, "MegaDetector", classes, scores or "score")


def _read(path: Path, tool: str, classes: ClassList | None, kind: str) -> Predictions:
    content = load_json(path)
    try:
        found = list((_of_speciesnet if tool == "SpeciesNet" else _of_megadetector)(content))
        frame = pl.DataFrame(
            found, {"image_id": pl.String, "class_id": pl.String, "scores": pl.Float32}, orient="row"
        )
    except (KeyError, TypeError, ValueError, AttributeError, pl.exceptions.PolarsError) as error:
        if isinstance(error, ManyhotError):
            raise
        raise InputError(
            f"An entry is not in the format of {tool}.", where=path, got=f"{type(error).__name__}: {error}"
        ) from error
    if not found:
        raise InputError(f"The file of {tool} contains no predictions.", where=path)
    ids = image_ids(frame["image_id"].to_arrow(), f"{path}, the names of the images")
    frame = frame.with_columns(image_id=pl.Series(ids))
    return in_full(predictions_of_frame(predictions_long(frame, path), path, classes, kind))


def _of_speciesnet(content: Any) -> _Rows:
    entries = [entry for entry in content["predictions"] if entry.get("classifications")]
    labels = dict.fromkeys(label for entry in entries for label in entry["classifications"]["classes"])
    common = {label: label.rpartition(";")[2] for label in labels}
    shared = Counter(common.values())
    for entry in entries:
        found = entry["classifications"]
        for label, score in zip(found["classes"], found["scores"], strict=True):
            name = common[label]
            yield entry["filepath"], name if name and shared[name] == 1 else label, float(score)


def _of_megadetector(content: Any) -> _Rows:
    names = content["detection_categories"]
    for image in content["images"]:
        if image.get("detections") is None:
            continue
        highest = dict.fromkeys(names, 0.0)
        for found in image["detections"]:
            highest[found["category"]] = max(highest[found["category"]], float(found["conf"]))
        for category, score in highest.items():
            yield image["file"], names[category], score
