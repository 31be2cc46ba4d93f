"""Sets of classes that raters chose on images, such as those of Zooniverse and Mechanical Turk, as votes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from manyhot.classes import ClassList, class_list, classes_seen
from manyhot.errors import InputError, counted
from manyhot.formats.choice_files import SHOWN, columns_of_votes
from manyhot.formats.class_names import undecided
from manyhot.formats.crowd_elements import FormChoice
from manyhot.formats.reading import cut_for_message
from manyhot.parameters import check_one_of
from manyhot.tables import Votes, schema
from manyhot.tables.choices import UNDECIDED
from manyhot.tables.votes import ONE_CLASS

Form = Callable[[str], str]
"""A form in which names are compared."""


@dataclass(frozen=True)
class GivenAnswer:
    """The classes that a rater chose for an image in one answer.

    Attributes
    ----------
    choice : FormChoice, optional
        None if the rater skipped the question.
    order : int
        When the answer was given, as a number. If a rater answered an image several times, the last answer
        counts.
    """

    image: str
    rater: str
    choice: FormChoice | None
    order: int = 0
    page_id: str | None = None
    shown_at: datetime | None = None
    answered_at: datetime | None = None


def fold(text: str) -> str:
    """Return a name in capitals without spaces and punctuation: NOTHINGHERE from *Nothing here*."""
    return re.sub(r"[\W_]", "", text.upper())


def votes_of_answers(
    answers: Sequence[GivenAnswer],
    classes: ClassList | None,
    path: Path,
    *,
    format: str,
    none: str,
    shown: str,
    unit: str,
    forms: Sequence[Form] = (fold,),
    left_out: tuple[str, ...] = (),
) -> Votes:
    """Return votes from answers: chosen classes are *yes*, all others *no*.

    If all questions allowed only one answer, and nobody chose `none`, the votes record that raters chose one
    class per image. Without `classes`, the class list consists of the names that occur.

    Parameters
    ----------
    format : str
        The name of the format, for messages.
    none : str
        The name of the choice for images with none of the classes, unless the class list contains this
        choice.
    shown : {"all", "chosen"}
        The classes that raters were asked about: all classes, or the classes that some rater chose for the
        image.
    unit : str
        What the file calls an answer.

    Raises
    ------
    InputError
        If a choice is not in the class list.
    MatchError
        If a rater answers an image twice at the same time.
    """
    check_one_of(shown, SHOWN, "There is no such set of shown classes.", where=path)
    given = [(a, a.choice) for a in answers if a.choice is not None]
    nothing = {form(none) for form in forms} - {""}
    distinct = dict.fromkeys(c for _, choice in given for c in (*choice.chosen, *choice.offered))
    has_none = any(fold(c) in nothing for _, choice in given for c in choice.chosen)
    # Where a choice says that there is nothing, an empty answer says nothing.
    given = [(a, choice) for a, choice in given if choice.chosen or not has_none]
    words = undecided(distinct, classes)
    named = {c for c in distinct if fold(c) not in nothing and c not in words}
    imagenet = class_list()
    listed = classes or (
        imagenet if named and named <= set(imagenet.keys) else classes_seen(named, path.stem)
    )
    ids = {none: -1} | _ids([c for c in distinct if c not in words], listed, nothing, path, format, forms)
    ids |= dict.fromkeys(words, UNDECIDED)
    rows = [(a, ids[c]) for a, choice in given for c in choice.chosen or (none,)]
    # Votes for one class cannot say that there is none; answers no to all classes can.
    is_single = bool(given) and all(choice.is_single for _, choice in given) and all(c != -1 for _, c in rows)
    skipped = len(answers) - len(given)
    empty = (f"{counted(skipped, unit)} without a class",) if skipped else ()
    columns = columns_of_votes(
        np.array([a.image for a, _ in rows], object),
        np.array([a.rater for a, _ in rows], object),
        np.array([c for _, c in rows], np.int64),
        listed,
        path,
        ONE_CLASS,
        left_out + empty,
        np.array([a.order for a, _ in rows], np.int64),
        _more([a for a, _ in rows]),
    ).decided(words)
    return columns.to_votes() if is_single else columns.to_sets(shown, {c for c in ids.values() if c >= 0})


def with_optional_columns(
    frame: pl.DataFrame, required: Sequence[str], optional: Sequence[str], path: Path, what: str, allowed: str
) -> pl.DataFrame:
    """Return a table with empty optional columns if it lacks them.

    Raises
    ------
    InputError
        If it lacks a required column.
    """
    if not {*required} <= {*frame.columns}:
        raise InputError(what, where=path, got=cut_for_message(", ".join(frame.columns)), allowed=allowed)
    return frame.with_columns(pl.lit(None, pl.String).alias(n) for n in optional if n not in frame.columns)


def _more(answers: Sequence[GivenAnswer]) -> pa.Table | None:
    """Return the page and the times of each row; None if there are none."""
    columns = {
        name: pa.array([getattr(a, name) for a in answers], schema("votes").field(name).type)
        for name in ("page_id", "shown_at", "answered_at")
    }
    known = {name: column for name, column in columns.items() if column.null_count < len(column)}
    return pa.table(known) if known else None


def _ids(
    choices: Iterable[str],
    classes: ClassList,
    nothing: set[str],
    path: Path,
    format: str,
    forms: Sequence[Form],
) -> dict[str, int]:
    """Return the class of each choice, -1 if it says that there is none."""
    folded: dict[str, set[int]] = {}
    for i, (key, name, synonyms) in enumerate(
        zip(classes.keys, classes.names, classes.synonyms, strict=True)
    ):
        for text in (key, name, *synonyms):
            for form in forms:
                folded.setdefault(form(text), set()).add(i)
    ids: dict[str, int] = {}
    unknown = []
    for choice in choices:
        found = folded.get(fold(choice), set())
        exact = classes.find(choice)
        if exact is not None or len(found) == 1:
            ids[choice] = exact if exact is not None else min(found)
        elif fold(choice) in nothing:
            ids[choice] = -1
        else:
            unknown.append(choice)
    if unknown:
        raise InputError(
            "Choices of raters are not in the class list.",
            where=path,
            got=cut_for_message(", ".join(unknown)),
            allowed=cut_for_message(", ".join(classes.keys)),
            do="add the choices to the class list, in a column 'synonyms'; or, if a choice means that the "
            f"image shows none of the classes, pass it in `format`: {format}(none='CHOICE')",
        )
    return ids
