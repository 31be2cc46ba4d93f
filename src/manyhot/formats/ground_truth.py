"""SageMaker Ground Truth: output manifests as labels, and the answers of workers as votes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from manyhot.classes import ClassList, from_keys
from manyhot.errors import InputError
from manyhot.formats.answer_sets import GivenAnswer, votes_of_answers
from manyhot.formats.crowd_elements import FormChoice, choices_of_form, chosen_question
from manyhot.formats.image_paths import names_in_addresses
from manyhot.formats.label_lists import NamedLabels, labels_of_names
from manyhot.formats.reading import (
    UNLISTED,
    cut_for_message,
    head,
    image_ids,
    load_json,
    parse_json,
    with_unlisted,
)
from manyhot.parameters import is_number
from manyhot.registry import register
from manyhot.tables import Labels, Votes

_IMAGE, _METADATA = "source-ref", "-metadata"
_ONE, _SEVERAL = "groundtruth/image-classification", "groundtruth/image-classification-multilabel"

_SMALLEST = re.compile(r"\d{1,7}")
"""Numbers of classes; there may be at most 50 labels in a job."""


_Line = tuple[str, list[tuple[int, str, float]] | None]
"""An image, and the number, the name and the confidence of each of its labels; None if the job failed."""


@register(
    "format",
    "ground-truth",
    holds="labels",
    suffixes=(".manifest", ".jsonl", ".json"),
    matches=lambda path: f'"{_IMAGE}"' in head(path) and re.match(r"\{", head(path)) is not None,
)
def read_ground_truth(
    path: Path,
    *,
    classes: ClassList | None,
    attribute: str = "",
    least: float = 0.0,
    unlisted: str = UNLISTED[0],
) -> Labels:
    """The output manifest of SageMaker Ground Truth: the labels of a classification, one image per line.

    The labels are read by name (``class-map``, ``class-name``). Without a class list, the classes are in the
    order of their numbers if every number up to the highest occurs, and otherwise sorted. Images whose
    labelling failed are not usable. Confidences are not stored, because they are not the probability that a
    class is valid: with one worker, they are 0.

    Parameters
    ----------
    attribute : str
        The label attribute, as in ``ground-truth(attribute='species')``, if the file has several.
    least : float
        Minimum confidence of a valid class. A label for several classes lists each class that at least one
        worker chose.
    unlisted : {"not asked", "no"}
        The state of classes that an image does not list. ``unlisted='no'`` declares that each image lists all
        of its classes.

    References
    ----------
    https://docs.aws.amazon.com/sagemaker/latest/dg/sms-data-output.html
    """
    rows = list(_rows(path))
    chosen = _attribute(rows, attribute, path)
    names_of = _names_of_images([row[_IMAGE] for row, _ in rows], path)
    lines = [_line(row, names_of[row[_IMAGE]], chosen, where) for row, where in rows]
    names = _names(lines, path)
    numbers = sorted(names)
    is_whole_list = numbers == list(range(len(numbers))) and bool(numbers)
    own = from_keys([names[number] for number in numbers], path.stem) if is_whole_list else None
    kept = [[name for _, name, p in labels or () if p >= least] for _, labels in lines]
    kinds = {(row.get(chosen + _METADATA) or {}).get("type") for row, _ in rows}
    named = NamedLabels(
        image_ids(pa.array([image for image, _ in lines], pa.string()), path),
        np.array([len(each) for each in kept], np.int64),
        pa.array([name for each in kept for name in each], pa.string()),
        np.array([labels is not None for _, labels in lines], bool),
        is_single=kinds == {_ONE},
    )
    return with_unlisted(labels_of_names(named, classes, path, declared=own), unlisted, path)


def _names_of_images(texts: Iterable[str], path: Path) -> dict[str, str]:
    """Return the name of each image; texts that are no addresses are names already."""
    texts = [*texts]
    return dict(zip(texts, texts, strict=True)) | names_in_addresses({t: path for t in texts if "://" in t})


def _rows(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        where = f"{path}, line {number:,}"
        if not line.strip():
            continue
        row = parse_json(line, where)
        if not isinstance(row, dict) or not isinstance(row.get(_IMAGE), str):
            raise InputError(
                "The line names no image.",
                where=where,
                got=cut_for_message(", ".join(row) if isinstance(row, dict) else repr(row)) or None,
                allowed=f"an object with the address of the image in {_IMAGE!r}",
            )
        yield row, where


def _attribute(rows: Sequence[tuple[dict[str, Any], str]], attribute: str, path: Path) -> str:
    """Return the label attribute with classes of images."""
    counts: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for row, _ in rows:
        for key, about in row.items():
            kind = about.get("type") if key.endswith(_METADATA) and isinstance(about, dict) else None
            if isinstance(kind, str):
                (counts if kind in (_ONE, _SEVERAL) else others)[key.removesuffix(_METADATA)] += 1
    if attribute in counts or (not attribute and len(counts) == 1):
        return attribute or next(iter(counts))
    shown = ", ".join(counts)
    what = "The manifest has several label attributes." if counts else "The manifest contains no classes."
    raise InputError(
        "There is no such label attribute with classes." if attribute else what,
        where=path,
        got=cut_for_message(attribute or shown or ", ".join(others)) or "no metadata of labels",
        allowed=cut_for_message(shown) if counts else f"metadata of the type {_ONE} or {_SEVERAL}",
        do=f"name it in `format`: ground-truth(attribute='{next(iter(counts))}')" if counts else None,
    )


def _line(row: Mapping[str, Any], image: str, attribute: str, where: str) -> _Line:
    about = row.get(attribute + _METADATA)
    if not isinstance(about, dict) or attribute not in row or "failure-reason" in about:
        return image, None
    values = row[attribute] if isinstance(row[attribute], list) else [row[attribute]]
    numbers = [_number(value, where) for value in values]
    if len(set(numbers)) < len(numbers):
        raise InputError("A label contains a class twice.", where=where, got=cut_for_message(repr(values)))
    names = about.get("class-map")
    if "class-map" not in about and len(numbers) == 1:
        names = {str(numbers[0]): about.get("class-name")}
    confidences = about.get("confidence-map", {})
    if len(numbers) == 1 and "confidence" in about:
        confidences = {str(numbers[0]): about["confidence"]}
    labels = []
    for number in numbers:
        name = names.get(str(number)) if isinstance(names, dict) else None
        p = confidences.get(str(number), 1.0) if isinstance(confidences, dict) else None
        if not isinstance(name, str) or not name:
            raise InputError(
                "A class has no name.",
                where=where,
                got=f"class {number}",
                allowed="a string in class-map, or class-name",
            )
        if not is_number(p) or not 0 <= p <= 1:
            raise InputError(
                "This is not a confidence.", where=where, got=cut_for_message(repr(p)), allowed="0 to 1"
            )
        labels.append((number, name, float(p)))
    return image, labels


def _number(value: object, where: str) -> int:
    """Return the number of a class, which older jobs write as text."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not text.isascii() or _SMALLEST.fullmatch(text) is None:
        raise InputError(
            "This is not the number of a class.",
            where=where,
            got=cut_for_message(repr(value)),
            allowed="whole numbers from 0",
        )
    return int(text)


def _names(lines: Sequence[_Line], path: Path) -> dict[int, str]:
    """Return the name of each number of a class, after checking that it has only one."""
    names: dict[int, str] = {}
    numbers: dict[str, int] = {}
    for image, labels in lines:
        for number, name, _ in labels or ():
            if names.setdefault(number, name) != name or numbers.setdefault(name, number) != number:
                raise InputError(
                    "The numbers and the names of classes differ between lines, as if two jobs were mixed.",
                    where=f"{path}, image {image}",
                    got=f"class {number} is {name}; it is {names[number]} on another line"
                    if names[number] != name
                    else f"{name} is class {number}; it is {numbers[name]} on another line",
                    do="read the manifest of each job separately",
                )
    return names


@register(
    "format",
    "ground-truth-answers",
    holds="votes",
    suffixes=(".json",),
    matches=lambda path: any(word in head(path) for word in ('"annotationData"', '"answerContent"')),
)
def read_ground_truth_answers(
    path: Path,
    *,
    classes: ClassList | None,
    question: str = "",
    none: str = "None of the above",
    shown: str = "all",
) -> Votes:
    """The answers of workers in SageMaker Ground Truth, from the folder ``consolidation-request`` of a job.

    The classes that a worker chose are *yes*, and all other classes of the list are *no*. If the question
    allowed only one answer, the votes record that workers chose one class per image, unless some of them
    chose `none`.

    Parameters
    ----------
    question : str
        The element with the classes, such as ``crowd-image-classifier``, if the form has several.
    none, shown : str
        As in `read_mechanical_turk`.

    References
    ----------
    https://docs.aws.amazon.com/sagemaker/latest/dg/sms-annotation-consolidation.html
    """
    given = list(_answers_of_workers(load_json(path), path))
    name = "ground-truth-answers"
    chosen = chosen_question([form for _, _, form in given], question, path, name)
    names = _names_of_images([address for address, *_ in given], path)
    answers = [GivenAnswer(names[address], worker, form.get(chosen)) for address, worker, form in given]
    return votes_of_answers(answers, classes, path, format=name, none=none, shown=shown, unit="answer")


def _answers_of_workers(content: Any, path: Path) -> Iterator[tuple[str, str, dict[str, FormChoice]]]:
    """Yield the address of the image, the worker and the choices of each answer."""
    if isinstance(content, dict) and "answers" in content:
        raise InputError(
            "The file contains answers about an image, but does not name the image.",
            where=path,
            got="a file of the folder worker-response",
            do="pass the files of the folder annotations/consolidated-annotation/consolidation-request",
        )
    for at, one in enumerate(content if isinstance(content, list) else [content]):
        where = f"{path}, object {at}"
        about = one.get("dataObject") if isinstance(one, dict) else None
        address = about.get("s3Uri") if isinstance(about, dict) else None
        annotations = one.get("annotations") if isinstance(one, dict) else None
        if not isinstance(address, str) or not address or not isinstance(annotations, list):
            raise InputError(
                "The object contains no answers about an image.",
                where=where,
                got=cut_for_message(", ".join(one) if isinstance(one, dict) else repr(one)) or None,
                allowed="the address of the image in dataObject.s3Uri, and a list of annotations",
            )
        for annotation in annotations:
            yield address, *_worker_and_form(annotation, where)


def _worker_and_form(annotation: Any, where: str) -> tuple[str, dict[str, FormChoice]]:
    worker = annotation.get("workerId") if isinstance(annotation, dict) else None
    data = annotation.get("annotationData") if isinstance(annotation, dict) else None
    content = data.get("content") if isinstance(data, dict) else None
    form = parse_json(content, where) if isinstance(content, str) else content
    if not isinstance(worker, str) or not worker or not isinstance(form, dict):
        raise InputError(
            "An annotation has no answer." if worker else "An annotation has no worker.",
            where=where,
            got=cut_for_message(repr(annotation)),
            allowed="a string in workerId, and an object as JSON in annotationData.content",
        )
    return worker, choices_of_form(form)
