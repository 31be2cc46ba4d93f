"""Batch results of Amazon Mechanical Turk as votes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import polars as pl

from manyhot.classes import ClassList
from manyhot.errors import InputError, counted
from manyhot.formats.answer_sets import GivenAnswer, votes_of_answers, with_optional_columns
from manyhot.formats.crowd_elements import (
    BAR,
    FormChoice,
    choices_of_form,
    chosen_question,
    names_between_bars,
)
from manyhot.formats.headers import IMAGE_NAME_COLUMNS, first_column
from manyhot.formats.image_paths import names_in_addresses
from manyhot.formats.label_studio_export import LONGEST_SECONDS
from manyhot.formats.reading import cut_for_message, parse_json
from manyhot.formats.table_files import column_names, read_frame
from manyhot.registry import register
from manyhot.tables import Votes

_COLUMNS = ("HITId", "AssignmentId", "WorkerId")
_STATUS, _SUBMITTED, _ACCEPTED, _SECONDS = "AssignmentStatus", "SubmitTime", "AcceptTime", "WorkTimeInSeconds"
_INPUT, _ANSWER = "Input.", "Answer."
_FORM = "taskAnswers"
"""The column with the answers to all questions of a form of crowd HTML elements."""

_IMAGES = (*IMAGE_NAME_COLUMNS, "image_url", "imageurl", "img_url", "image_uri", "url", "uri", "src")
"""Fields of a task that contain the image, by preference."""

_BOOLEANS = {"true": True, "false": False}

_ZONES = {"UTC": 0, "GMT": 0, "PST": -8, "PDT": -7, "MST": -7, "MDT": -6, "CST": -6, "CDT": -5, "EST": -5}
_ZONES |= {"EDT": -4}
_TIME = re.compile(r"\w{3} (\w{3} \d{1,2} \d{2}:\d{2}:\d{2}) ([A-Z]{3}) (\d{4})")
"""Such as *Mon Nov 02 10:00:00 PST 2026*."""


@register(
    "format",
    "mechanical-turk",
    holds="votes",
    suffixes=(".csv",),
    matches=lambda path: set(_COLUMNS) <= set(column_names(path)),
    needs=", ".join(_COLUMNS),
)
def read_mechanical_turk(
    path: Path,
    *,
    classes: ClassList | None,
    question: str = "",
    image: str = "",
    none: str = "None of the above",
    shown: str = "all",
) -> Votes:
    """The batch results of Amazon Mechanical Turk, with one assignment per row.

    The classes that a worker chose are *yes*, and all other classes of the list are *no*. If the question
    allowed only one answer, the votes record that workers chose one class per image, unless some of them
    chose `none`. Rejected assignments are left out and counted. If a worker has several assignments for an
    image, the last one counts. `page_id` is the id of the assignment, `answered_at` the time of submission,
    and `shown_at` this time minus the working time.

    Parameters
    ----------
    question : str
        The question with the classes: what follows ``Answer.`` in the name of its column, or its name in
        ``Answer.taskAnswers``; ``on`` for check boxes without a value. By default, the only question.
    image : str
        The field of the task with the image: what follows ``Input.`` in the name of its column. By default,
        the only field, or the first with a common name for image columns, such as ``image_url``.
    none : str
        The name of the choice for images with none of the classes, unless the class list contains this
        choice.
    shown : {"all", "chosen"}
        The classes that workers were asked about: all classes, or the classes that some worker chose for the
        image.

    References
    ----------
    https://docs.aws.amazon.com/AWSMechTurk/latest/AWSMechanicalTurkRequester/RetrievingResults.html
    """
    frame = _texts(read_frame(path), path)
    rejected = frame[_STATUS].str.strip_chars().str.to_lowercase() == "rejected"
    n = int(rejected.sum())
    frame = frame.filter(~rejected.fill_null(False))
    left_out: tuple[str, ...] = (counted(n, "rejected assignment"),) if n else ()
    times = [_time(text) for text in frame[_SUBMITTED]]
    strange = [text for text, time in zip(frame[_SUBMITTED], times, strict=True) if text and time is None]
    if strange:
        n_times = counted(len(strange), "time")
        left_out += (f"{n_times} of submission, such as {cut_for_message(strange[0])!r}",)
    answers = list(_answers(frame, times, question, image, path))
    name, unit = "mechanical-turk", "assignment"
    return votes_of_answers(
        answers, classes, path, format=name, none=none, shown=shown, unit=unit, left_out=left_out
    )


def _texts(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Return all columns as texts, with the optional columns."""
    optional = (_STATUS, _SUBMITTED, _ACCEPTED, _SECONDS)
    what = "The file does not contain Mechanical Turk batch results."
    allowed = f"the columns {', '.join(_COLUMNS)}, and columns {_INPUT}… and {_ANSWER}…"
    return with_optional_columns(frame.cast(pl.String), _COLUMNS, optional, path, what, allowed)


def _answers(
    frame: pl.DataFrame, times: Sequence[datetime | None], question: str, image: str, path: Path
) -> Iterator[GivenAnswer]:
    forms, column = _forms(frame, path), _image_column(frame, image, path)
    others = [name for name in frame.columns if name.startswith(_ANSWER)]
    chosen = chosen_question(forms, question, path, "mechanical-turk", others)
    submitted = [0 if time is None else int(time.timestamp()) for time in times]
    rows = frame.select(column, *_COLUMNS[1:], _ACCEPTED, _SECONDS).rows()
    names = names_in_addresses({row[0]: path for row in rows if row[0] and "://" in row[0]})
    for form, (address, page, rater, accepted, seconds), answered, order in zip(
        forms, rows, times, submitted, strict=True
    ):
        where = f"{path}, assignment {cut_for_message(str(page))}"
        name = names.get(address, address)
        if not name or not rater:
            raise InputError(
                "An assignment has no worker." if name else "An assignment has no image.",
                where=where,
                allowed=f"a string in the columns {column} and WorkerId",
            )
        began = None if answered is None else _shown(answered, _time(accepted), seconds)
        yield GivenAnswer(name, rater, form.get(chosen), order, page, began, answered)


def _forms(frame: pl.DataFrame, path: Path) -> list[dict[str, FormChoice]]:
    """Return the choices of each assignment by question.

    Texts are classes only if no column has the choices of an element or a list, because they may be remarks.
    """
    columns = {c.removeprefix(_ANSWER): frame[c].to_list() for c in frame.columns if c.startswith(_ANSWER)}
    values = {c: [_value(cell, path, c) for cell in cells] for c, cells in columns.items()}
    forms = [
        choices_of_form(_nested(dict(zip(values, row, strict=True)), path))
        for row in (zip(*values.values(), strict=True) if values else [()] * len(frame))
    ]
    return forms if any(forms) else _plain_forms(columns, len(frame))


def _value(cell: str | None, path: Path, column: str) -> Any:
    """Return the JSON in a cell, a truth value, or its text."""
    text = (cell or "").strip()
    if (text and column == _FORM) or (text[:1], text[-1:]) in (("[", "]"), ("{", "}")):
        return parse_json(text, f"{path}, column {_ANSWER}{column}")
    return _BOOLEANS.get(text.lower(), text)


def _nested(row: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the answers of an assignment as one form; ``Answer.animal.dog`` is a part of *animal*."""
    form: dict[str, Any] = {}
    for column, value in row.items():
        question, _, part = column.partition(".")
        if column == _FORM:
            for part_of_form in value if isinstance(value, list) else [value]:
                form |= part_of_form if isinstance(part_of_form, dict) else {}
        elif not part:
            form[question] = value
        elif value == "" and part != "labels":
            continue  # no answer; an empty list of labels is one
        elif isinstance(form.setdefault(question, {}), dict):
            form[question][part] = value
        else:
            raise InputError(
                "A question has several columns, one of which contains the whole answer.",
                where=path,
                got=f"{_ANSWER}{question}, {_ANSWER}{column}",
                do="remove one of the columns",
            )
    return form


def _plain_forms(columns: Mapping[str, Sequence[str | None]], n: int) -> list[dict[str, FormChoice]]:
    """Return the choices in columns of names: one, or several between bars.

    An empty cell is an empty set if other cells contain several names, and otherwise no answer.
    """
    forms: list[dict[str, FormChoice]] = [{} for _ in range(n)]
    for column, cells in columns.items():
        if column == _FORM:
            continue
        several = any(BAR in (cell or "") for cell in cells)
        for form, cell in zip(forms, cells, strict=True):
            names = tuple(names_between_bars(cell or ""))
            if names or several:
                form[column] = FormChoice(names, is_single=not several)
    return forms


def _image_column(frame: pl.DataFrame, image: str, path: Path) -> str:
    fields = [c.removeprefix(_INPUT) for c in frame.columns if c.startswith(_INPUT)]
    found = image if image in fields else None
    if not image:
        found = fields[0] if len(fields) == 1 else first_column(fields, _IMAGES)
    if found is None:
        raise InputError(
            "There is no such field of the tasks." if image else "It is unknown which field is the image.",
            where=path,
            got=cut_for_message(image or ", ".join(_INPUT + f for f in fields)) or f"no column {_INPUT}…",
            allowed=cut_for_message(", ".join(fields)) if image else f"a column such as {_INPUT}image_url",
            do="name the field in `format`: mechanical-turk(image='FIELD')" if fields else None,
        )
    return f"{_INPUT}{found}"


def _time(text: str | None) -> datetime | None:
    """Return a time, as the site or the interface writes it; None if it is none."""
    try:
        found = _TIME.fullmatch((text or "").strip())
        if found is None:
            time = datetime.fromisoformat(text or "")
            return time.astimezone(UTC) if time.tzinfo else None
        time = datetime.strptime(f"{found[1]} {found[3]}", "%b %d %H:%M:%S %Y")
        return time.replace(tzinfo=timezone(timedelta(hours=_ZONES[found[2]]))).astimezone(UTC)
    except (ValueError, KeyError, OverflowError):
        return None


def _shown(answered: datetime, accepted: datetime | None, seconds: str | None) -> datetime | None:
    """Return when the work began: the accepted time includes breaks."""
    try:
        duration = float(seconds or "nan")
        return answered - timedelta(seconds=duration) if 0 <= duration <= LONGEST_SECONDS else accepted
    except (ValueError, OverflowError):
        return accepted
