"""Reading Label Studio's exports as votes; `label_studio_tasks` writes tasks.

A task shows an image and the classes asked about. A rater chooses the classes that are in the image (*yes*),
and the classes that are uncertain (*maybe*). A class that was shown and not chosen is *no*.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from manyhot.classes import ClassList, class_list
from manyhot.errors import InputError
from manyhot.formats.image_paths import names_in_addresses
from manyhot.formats.label_studio_project import ALL_SHOWN, ExportLayout, misfit
from manyhot.formats.reading import cut_for_message, head, load_json, with_image_ids
from manyhot.parameters import is_number, is_whole
from manyhot.registry import register
from manyhot.tables import Golden, Votes, golden_from_table, schema, votes_from_table

_WORDS = ('"annotations"', '"annotation_id"', '"completed_by"', '"data"')

_COLUMNS = ("image_id", "class_id", "rater_id", "answer", "page_id", "shown_at", "answered_at")

LONGEST_SECONDS = 1e8
"""Longest valid lead time in seconds: three years."""


def _matches(path: Path) -> bool:
    start = head(path)
    return re.match(r"\[\s*\{", start) is not None and any(word in start for word in _WORDS)


@dataclass(frozen=True)
class _Annotation:
    """An annotation, with the image and the classes of its task."""

    image: str
    asked: Sequence[int]
    content: Mapping[str, Any]
    where: str


@register("format", "label-studio", holds="votes", suffixes=(".json",), matches=_matches)
def read_label_studio(
    path: Path,
    *,
    classes: ClassList | None,
    yes: str = "classes",
    maybe: str = "maybe",
    image: str = "image",
    asked: str = "classes",
    skip: str = "",
) -> Votes:
    """Label Studio's export (JSON, not JSON-MIN). The answers in each annotation are read as votes.

    The id of a rater is the user's number, never the e-mail address. `page_id` is the id of the annotation,
    and `answered_at` is its time of creation. `shown_at` is the time of creation minus the lead time.
    Annotations that were cancelled (skipped by the rater) have no answers. Annotations marked as ground truth
    are experts' answers, which ``label-studio-golden`` reads. Both kinds of annotations are left out and
    counted in `Votes.left_out`.

    Parameters
    ----------
    yes, maybe : str
        The names (``from_name``) of the two questions.
    image, asked : str
        The fields of a task's data that contain the image's address and the classes shown. Use ``asked='*'``
        if the choices are in the configuration, so that every class of the list was shown.
    skip : str
        Other questions of the project to ignore, separated by spaces.

    Raises
    ------
    InputError
        If the export is broken, or if its questions or fields differ from the options.
    MatchError
        If a rater answers a question twice and the times do not determine which answer is later.

    Notes
    -----
    The id of an image is the field ``image_id`` of its task. Without this field, it is the last part of the
    image's address, without the eight digits that Label Studio adds before the names of uploaded files. If
    files or pages with different addresses have the same name, the name contains these digits and the query,
    too. If an annotation was changed later, its lead time is the sum over all sessions, so `shown_at` is too
    early.

    References
    ----------
    https://labelstud.io/guide/task_format
    """
    layout = ExportLayout(yes, maybe, image, asked, frozenset(skip.split()), classes or class_list())
    table, left_out = _answers(path, layout, golden=False)
    own = layout.classes
    votes = votes_from_table(table, name=path.stem, n_classes=len(own), class_hash=own.hash)
    return replace(votes, left_out=left_out)


@register("format", "label-studio-golden", holds="golden", suffixes=(".json",), matches=_matches)
def read_label_studio_golden(
    path: Path,
    *,
    classes: ClassList | None,
    yes: str = "classes",
    maybe: str = "maybe",
    image: str = "image",
    asked: str = "classes",
    skip: str = "",
) -> Golden:
    """Label Studio's export. The annotations marked as ground truth are read as golden answers.

    Parameters
    ----------
    yes, maybe, image, asked, skip : str
        As in `read_label_studio`.

    Raises
    ------
    InputError, MatchError
        As in `read_label_studio`.
    """
    layout = ExportLayout(yes, maybe, image, asked, frozenset(skip.split()), classes or class_list())
    table, _ = _answers(path, layout, golden=True)
    names = {"image_id": "image_id", "class_id": "class_id", "rater_id": "expert_id", "answer": "answer"}
    golden = table.select([*names]).rename_columns([*names.values()])
    own = layout.classes
    return golden_from_table(golden, name=path.stem, n_classes=len(own), class_hash=own.hash)


def _answers(path: Path, layout: ExportLayout, *, golden: bool) -> tuple[pa.Table, tuple[str, ...]]:
    """Return the answers of raters or of experts as a votes table, and what was left out."""
    try:
        return _read_answers(path, layout, golden=golden)
    except InputError as error:
        raise misfit(path, layout) or error from error


def _read_answers(path: Path, layout: ExportLayout, *, golden: bool) -> tuple[pa.Table, tuple[str, ...]]:
    left_out = {"cancelled": 0, "ground truth": 0}
    rows: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    other = ""
    for annotation in _annotations(path, layout):
        expert = _flag(annotation, "ground_truth")
        if _flag(annotation, "was_cancelled"):
            left_out["cancelled"] += 1
        elif expert != golden:
            left_out["ground truth"] += expert
        else:
            _add(rows, annotation, layout)
            other = other or _names_classes(annotation)
    if not rows["answer"]:
        raise InputError(
            "The file has no annotation with answers.",
            where=path,
            got=", ".join(f"{n:,} {what}" for what, n in left_out.items() if n) or None,
            do=None if golden else "annotate the tasks in Label Studio and export the project as JSON",
        )
    _check_chosen(rows, other, path, layout)
    filled = [n for n in _COLUMNS if any(value is not None for value in rows[n])]
    table = pa.table({n: pa.array(rows[n], schema("votes").field(n).type) for n in filled})
    return with_image_ids(table), tuple(f"{n:,} annotations ({what})" for what, n in left_out.items() if n)


def _annotations(path: Path, layout: ExportLayout) -> Iterator[_Annotation]:
    tasks = load_json(path)
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise InputError("The file is not a list of Label Studio tasks.", where=path)
    ids: dict[str, set[object]] = {"task": set(), "annotation": set()}
    names = names_in_addresses(
        {
            task["data"][layout.image]: _place(path, i, task)
            for i, task in enumerate(tasks)
            if task.get("annotations") and isinstance(task.get("data"), dict)
            if "image_id" not in task["data"] and isinstance(task["data"].get(layout.image), str)
        }
    )
    for i, task in enumerate(tasks):
        where = _place(path, i, task)
        _check_once(task, "task", ids, where)
        made = _made(task, where)
        if made:
            image = _image(task, names, layout, where)
            asked = _asked(task, layout, where)
        for one in made:
            here = f"{where}, annotation {cut_for_message(str(one.get('id', 'without an id')))}"
            _check_once(one, "annotation", ids, here)
            yield _Annotation(image, asked, one, here)


def _place(path: Path, i: int, task: Mapping[str, Any]) -> str:
    return f"{path}, task {cut_for_message(str(task.get('id', f'in place {i}')))}"


def _check_once(one: Mapping[str, Any], kind: str, ids: dict[str, set[object]], where: str) -> None:
    number = one.get("id")
    if number is None:
        return
    if not isinstance(number, int | str):
        raise InputError(
            f"The id of the {kind} is not a number.", where=where, got=cut_for_message(repr(number))
        )
    if number in ids[kind]:
        raise InputError(
            f"The file contains the same {kind} twice.",
            where=where,
            do="remove one of the two, or export the project again",
        )
    ids[kind].add(number)


def _made(task: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    if "annotation_id" in task:
        raise InputError(
            "This is Label Studio's JSON-MIN, which does not mark cancelled annotations.",
            where=where,
            allowed="the export as JSON",
            do="export the project as JSON",
        )
    made = task.get("annotations", [])
    if not isinstance(made, list) or not all(isinstance(one, dict) for one in made):
        raise InputError("The annotations of the task are not a list of objects.", where=where)
    return made


def _image(task: Mapping[str, Any], names: Mapping[str, str], layout: ExportLayout, where: str) -> str:
    data = task.get("data")
    if not isinstance(data, dict):
        raise InputError("The task has no data.", where=where)
    text = data.get("image_id", data.get(layout.image))
    if not isinstance(text, str):
        raise InputError(
            "The task has no image.",
            where=where,
            got=cut_for_message(", ".join(data)) or "no fields",
            allowed=f"a string in the field 'image_id' or {layout.image!r}",
            do="pass the name of the field in `format`: \"label-studio(image='…')\"",
        )
    name = text if "image_id" in data else names[text]
    if not name or name[-1] in "/\\":
        raise InputError("The task has no image.", where=where, got=cut_for_message(repr(text)))
    return name


def _asked(task: Mapping[str, Any], layout: ExportLayout, where: str) -> Sequence[int]:
    if layout.asked == ALL_SHOWN:
        return range(len(layout.classes))
    offered = task["data"].get(layout.asked)
    if not isinstance(offered, list) or not offered:
        raise InputError(
            "It is unknown which classes were shown, so a missing answer cannot count as no.",
            where=where,
            got=f"no list in the field {layout.asked!r} of the task's data",
            allowed=cut_for_message(", ".join(task["data"])) or None,
            do="pass the name of the field in `format`, or declare that all classes were shown: "
            "\"label-studio(asked='*')\"",
        )
    texts = [one.get("value") if isinstance(one, dict) else one for one in offered]
    shown = [_class(text, layout, where) for text in texts]
    if len(set(shown)) < len(shown):
        raise InputError("The task shows a class twice.", where=where)
    return shown


def _class(text: object, layout: ExportLayout, where: str) -> int:
    class_id = layout.class_of(text) if isinstance(text, str) else None
    if class_id is None:
        raise InputError(
            "A choice is not a class.",
            where=where,
            got=cut_for_message(repr(text)),
            allowed=f"the keys and names of the {len(layout.classes):,} classes of {layout.classes.name}",
            do="pass the class list of the project as `classes`",
        )
    return class_id


def _add(rows: dict[str, list[Any]], annotation: _Annotation, layout: ExportLayout) -> None:
    chosen = _chosen(annotation, layout)
    n = len(annotation.asked)
    shown, answered = _times(annotation)
    rows["image_id"] += [annotation.image] * n
    rows["class_id"] += annotation.asked
    rows["rater_id"] += [_rater(annotation)] * n
    rows["answer"] += [chosen.get(c, "no") for c in annotation.asked]
    rows["page_id"] += [None if annotation.content.get("id") is None else str(annotation.content["id"])] * n
    rows["shown_at"] += [shown] * n
    rows["answered_at"] += [answered] * n


def _chosen(annotation: _Annotation, layout: ExportLayout) -> dict[int, str]:
    """Return the answer to each class that was chosen."""
    result = annotation.content.get("result")
    if not isinstance(result, list) or not all(isinstance(one, dict) for one in result):
        raise InputError("The result of the annotation is not a list of objects.", where=annotation.where)
    answers = {layout.yes: "yes", layout.maybe: "maybe"}
    chosen: dict[int, str] = {}
    for one in result:
        question = one.get("from_name")
        if isinstance(question, str) and question in answers:
            for text in _choices(one, annotation):
                c = _class(text, layout, annotation.where)
                _check_answer(c, answers[question], chosen, annotation, layout)
                chosen[c] = answers[question]
        elif one.get("type") == "choices" and not (isinstance(question, str) and question in layout.skip):
            raise InputError(
                "A question of the project is unknown.",
                where=annotation.where,
                got=cut_for_message(repr(question)),
                allowed=f"{layout.yes!r} for yes, and {layout.maybe!r} for maybe",
                do="pass its meaning in `format`: \"label-studio(yes='…', maybe='…', skip='…')\"",
            )
    return chosen


def _check_chosen(rows: Mapping[str, list[Any]], other: str, path: Path, layout: ExportLayout) -> None:
    """Raise an error if no class is chosen, but classes occur in other results: all answers would be no."""
    if other and set(rows["answer"]) == {"no"}:
        raise InputError(
            "No class is chosen, but classes occur in results of another type.",
            where=path,
            got=f"results of type {other}",
            allowed=f"type 'choices', of the questions {layout.yes!r} and {layout.maybe!r}",
            do="use choices; boxes and taxonomies are not read",
        )


def _names_classes(annotation: _Annotation) -> str:
    """Return the type of a result with classes that are not choices; empty if there is none."""
    kinds = (str(one.get("type")) for one in annotation.content["result"])
    return next((cut_for_message(repr(k)) for k in kinds if k == "taxonomy" or k.endswith("labels")), "")


def _choices(one: Mapping[str, Any], annotation: _Annotation) -> list[Any]:
    value = one.get("value")
    choices = value.get("choices") if isinstance(value, dict) else None
    if one.get("type") != "choices" or not isinstance(choices, list):
        raise InputError(
            "A result contains no choices.",
            where=annotation.where,
            got=f"type {cut_for_message(repr(one.get('type')))}, value {cut_for_message(repr(value))}",
            allowed="type 'choices', and a value with a list 'choices'",
        )
    return choices


def _check_answer(
    c: int, answer: str, chosen: Mapping[int, str], annotation: _Annotation, layout: ExportLayout
) -> None:
    name = layout.classes.names[c]
    if c not in annotation.asked:
        raise InputError("A choice was not shown in its task.", where=annotation.where, got=name)
    if chosen.get(c, answer) != answer:
        raise InputError(
            "A class has both answers, yes and maybe.",
            where=annotation.where,
            got=name,
            do="correct the annotation in Label Studio and export the project again",
        )


def _rater(annotation: _Annotation) -> str:
    by = annotation.content.get("completed_by")
    number = by.get("id") if isinstance(by, dict) else by
    if not is_whole(number) and not (isinstance(number, str) and number):
        raise InputError(
            "An annotation has no rater.",
            where=annotation.where,
            got=f"completed_by {'absent' if by is None else cut_for_message(repr(by))}",
            allowed="the id of a user, or an object with an id",
            do="export the project again, with its annotators",
        )
    return str(number)


def _flag(annotation: _Annotation, name: str) -> bool:
    value = annotation.content.get(name)
    if value is not None and not isinstance(value, bool):
        raise InputError(
            f"{name!r} is neither true nor false.", where=annotation.where, got=cut_for_message(repr(value))
        )
    return bool(value)


def _times(annotation: _Annotation) -> tuple[datetime | None, datetime | None]:
    """Return when the task was shown and when it was answered, if recorded."""
    created_at, seconds = annotation.content.get("created_at"), annotation.content.get("lead_time")
    if created_at is None:
        return None, None
    try:
        answered = datetime.fromisoformat(created_at)
        answered.utctimetuple()
    except (TypeError, ValueError, OverflowError) as error:
        raise _no_time(annotation, created_at) from error
    if answered.tzinfo is None:
        raise _no_time(annotation, created_at)
    if seconds is None:
        return None, answered
    if not is_number(seconds) or not 0 <= seconds <= LONGEST_SECONDS:
        raise InputError(
            "The lead time is not a number of seconds.",
            where=annotation.where,
            got=cut_for_message(repr(seconds)),
            allowed="0 or more",
        )
    try:
        return answered - timedelta(seconds=seconds), answered
    except OverflowError as error:
        raise _no_time(annotation, created_at) from error


def _no_time(annotation: _Annotation, created_at: object) -> InputError:
    return InputError(
        "This is not a time.",
        where=annotation.where,
        got=f"created_at {cut_for_message(repr(created_at))}",
        allowed="ISO 8601 with a time zone, such as 2021-03-09T22:16:08.728353Z",
    )
