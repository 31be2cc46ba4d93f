"""Zooniverse's classification exports as votes, and manifests of images to upload."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from manyhot.classes import ClassList
from manyhot.errors import InputError
from manyhot.files import atomic_write
from manyhot.formats.answer_sets import GivenAnswer, fold, votes_of_answers, with_optional_columns
from manyhot.formats.crowd_elements import FormChoice
from manyhot.formats.headers import image_name_column
from manyhot.formats.label_studio_tasks import names_of_proposals
from manyhot.formats.reading import cut_for_message, parse_json
from manyhot.formats.table_files import column_names, read_frame
from manyhot.formats.writing import Saved
from manyhot.registry import register
from manyhot.tables import Votes, check

_COLUMNS = ("classification_id", "user_name", "annotations", "subject_data")
_MORE = ("user_ip", "workflow_id", "created_at")
_SUBJECT = "subject_id"


@register(
    "format",
    "zooniverse",
    holds="votes",
    suffixes=(".csv",),
    matches=lambda path: set(_COLUMNS) <= set(column_names(path)),
    needs=", ".join(_COLUMNS),
)
def read_zooniverse(
    path: Path,
    *,
    classes: ClassList | None,
    task: str = "",
    image: str = "",
    none: str = "NOTHINGHERE",
    shown: str = "all",
    workflow: int = 0,
) -> Votes:
    """Zooniverse's export of classifications, with one classification of a subject by a user per row.

    The classes that a rater chose in a survey, or in a question with several answers, are *yes*, and all
    other classes of the list are *no*, because the task shows all of them. If a question allowed only one
    answer, the votes record that raters chose one class per image, unless some of them chose `none`. If a
    rater classified an image several times, the last classification counts. The id of a rater who was not
    logged in is the name in the export, such as ``not-logged-in-ee875be6``. Whether subjects are retired is
    not read.

    Parameters
    ----------
    task : str
        The task with the classes, such as ``T0``. By default, the only survey or question.
    image : str
        The field of the subjects' metadata with the names of the images, or ``subject_id``. By default, the
        first field with a common name for columns of image names.
    none : str
        The name of the choice for images with none of the classes, unless the class list contains this
        choice.
    shown : {"all", "chosen"}
        The classes that raters were asked about: all classes, or the classes that some rater chose for the
        image.
    workflow : int
        The id of the workflow, if the export contains several.
    """
    frame = _of_workflow(read_frame(path), workflow, path)
    answers = list(_answers(frame, task, image, path))
    name, unit, forms = "zooniverse", "classification", (fold, _consonants)
    return votes_of_answers(
        answers, classes, path, format=name, none=none, shown=shown, unit=unit, forms=forms
    )


def _of_workflow(frame: pl.DataFrame, workflow: int, path: Path) -> pl.DataFrame:
    """Return the classifications of one workflow, in the order in which they were made."""
    what = "The file is not a Zooniverse export of classifications."
    allowed = f"the columns {', '.join(_COLUMNS)}"
    frame = with_optional_columns(frame, _COLUMNS, _MORE, path, what, allowed)
    found = frame["workflow_id"].cast(pl.String).drop_nulls().unique(maintain_order=True).to_list()
    if (workflow and str(workflow) not in found) or (not workflow and len(found) > 1):
        raise InputError(
            "The export contains several workflows." if not workflow else "There is no such workflow.",
            where=path,
            got=str(workflow) if workflow else ", ".join(found[:8]),
            allowed="one of them" if not workflow else ", ".join(found[:8]),
            do=f"name it in `format`: zooniverse(workflow={found[0]})",
        )
    if workflow:
        frame = frame.filter(pl.col("workflow_id").cast(pl.String) == str(workflow))
    return frame.sort(pl.col("created_at").cast(pl.String), "classification_id", maintain_order=True)


def _answers(frame: pl.DataFrame, task: str, image: str, path: Path) -> Iterator[GivenAnswer]:
    """Yield the answers to a task, in the order of the rows."""
    where = f"{path}, column annotations"
    tasks = [list(_tasks(parse_json(str(text), where))) for text in frame["annotations"]]
    subjects = [parse_json(str(text), f"{path}, column subject_data") for text in frame["subject_data"]]
    if not all(isinstance(s, dict) and all(isinstance(m, dict) for m in s.values()) for s in subjects):
        raise InputError("The metadata of a subject are not an object.", where=f"{path}, column subject_data")
    chosen_task = task or _only_task(tasks, path)
    field = image or _image_field(subjects, path)
    users = frame["user_name"].cast(pl.String), frame["user_ip"].cast(pl.String)
    raters = users[0].fill_null("not-logged-in-" + users[1]).fill_null("").to_list()
    rows = zip(tasks, subjects, raters, strict=True)
    for order, (parts, subject, rater) in enumerate(rows):
        for number, about in subject.items():
            name = number if field == _SUBJECT else about.get(field)
            if name is None or not rater:
                raise InputError(
                    "A classification has no image." if rater else "A classification has no rater.",
                    where=f"{path}, subject {number}",
                    got=cut_for_message(f"the fields {', '.join(about)}"),
                    allowed=f"the field {field}" if rater else "a user_name or user_ip in each row",
                )
            values = [value for key, value in parts if key == chosen_task]
            chosen = [part for value in values if (part := _choices(value)) is not None]
            is_single = all(isinstance(value, str | None) for value in values)
            choice = FormChoice(tuple(c for part in chosen for c in part), is_single=is_single)
            yield GivenAnswer(str(name), rater, choice if chosen else None, order)


def _tasks(annotations: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name and the value of each task, also of those inside a combination of tasks."""
    for about in annotations if isinstance(annotations, list) else ():
        if not isinstance(about, Mapping) or "task" not in about:
            continue
        value = about.get("value")
        inner = list(_tasks(value))
        if inner:
            yield from inner
        else:
            yield str(about["task"]), value


def _choices(value: Any) -> list[str] | None:
    """Return the choices in the value of a survey or a question; None if it has a different form."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        return None
    found = [v.get("choice") if isinstance(v, Mapping) else v for v in value]
    return [c for c in found if isinstance(c, str)] if all(isinstance(c, str) for c in found) else None


def _only_task(tasks: Iterable[list[tuple[str, Any]]], path: Path) -> str:
    counts = Counter(key for parts in tasks for key, value in parts if _choices(value))
    if len(counts) == 1:
        return next(iter(counts))
    raise InputError(
        "The export contains several tasks." if counts else "The export contains no survey or question.",
        where=path,
        got=", ".join(f"{key} with {n:,} answers" for key, n in counts.most_common(8)) or None,
        allowed="one task, in which raters chose classes",
        do=f"name it in `format`: zooniverse(task='{counts.most_common(1)[0][0]}')" if counts else None,
    )


def _image_field(subjects: Iterable[Mapping[str, Mapping[str, Any]]], path: Path) -> str:
    """Return the field with the names of images; the names of hidden fields begin with # or !."""
    fields = {f.lstrip("#!/"): f for subject in subjects for about in subject.values() for f in about}
    column = image_name_column(fields)
    if column is not None:
        return fields[column]
    raise InputError(
        "The subjects have no names of images.",
        where=f"{path}, column subject_data",
        got=cut_for_message(", ".join(fields.values())),
        allowed="a field such as Filename or image",
        do="name the field in `format`: zooniverse(image='FIELD'), or pass zooniverse(image='subject_id')",
    )


def _consonants(text: str) -> str:
    """Return a name as the id of a choice in older projects: NTHNGHR from *Nothing here*."""
    return re.sub("[AEIOU]", "", fold(text))


@register("writer", "zooniverse-manifest", holds=("proposals",), suffixes=(".csv",), keeps=())
def write_manifest(table: pa.Table, path: Path, classes: ClassList | None) -> Saved:
    """Write one row per image, with its proposed classes, best first, in the hidden field ``#classes``."""
    names = names_of_proposals(table, classes, path)
    frame = pl.DataFrame(check(table, "proposals")).sort("score", descending=True, maintain_order=True)
    frame = frame.with_columns(named=pl.Series([names[c] for c in frame["class_id"]], dtype=pl.String))
    rows = frame.group_by("image_id", maintain_order=True).agg(pl.col("named").str.join("; "))
    with atomic_write(path) as part:
        rows.rename({"image_id": "image", "named": "#classes"}).write_csv(part)
    return Saved((path,), ("scores", "n_models"))
