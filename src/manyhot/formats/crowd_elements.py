"""Answers to forms of Amazon's crowd HTML elements, which Mechanical Turk and SageMaker Ground Truth store.

A form is an object with an answer for each question. An image classifier gives ``{"label": "dog"}``, or
``{"labels": ["dog"]}`` if several classes may be chosen; check boxes and radio buttons give an object with
true or false for each class; check boxes without a value give ``{"on": true}`` for each class.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manyhot.errors import InputError, counted
from manyhot.formats.reading import cut_for_message

ON = "on"
"""The name of the question of all check boxes without a value."""

BAR = "|"


@dataclass(frozen=True)
class FormChoice:
    """The classes chosen in an answer to a question.

    Attributes
    ----------
    chosen : tuple of str
    offered : tuple of str
        All classes that the answer names; none if it lists only those that were chosen.
    is_single : bool
        Whether the question allowed only one answer.
    """

    chosen: tuple[str, ...]
    offered: tuple[str, ...] = ()
    is_single: bool = False


def choices_of_form(form: Mapping[str, Any]) -> dict[str, FormChoice]:
    """Return the choices in the answers to a form, by question. Other answers are left out."""
    boxes = {name: value[ON] for name, value in form.items() if _are_boxes(value) and set(value) == {ON}}
    found = {name: choice for name, value in form.items() if (choice := choice_of(value)) is not None}
    choices = {name: choice for name, choice in found.items() if name not in boxes}
    return choices | ({ON: _of_boxes(boxes)} if boxes else {})


def choice_of(value: Any) -> FormChoice | None:
    """Return the choice in an answer to a question; None if it has a different form."""
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return FormChoice(tuple(value))
    if not isinstance(value, dict):
        return None
    labels, label = value.get("labels"), value.get("label")
    if isinstance(labels, list | str):
        return choice_of(labels if isinstance(labels, list) else names_between_bars(labels))
    if isinstance(label, str):
        return FormChoice((label,), is_single=True) if label else None
    return _of_boxes(value) if _are_boxes(value) else None


def names_between_bars(text: str) -> list[str]:
    """Return the values of check boxes of the same name, which Mechanical Turk separates by vertical bars."""
    return [name for part in text.split(BAR) if (name := part.strip())]


def _are_boxes(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(isinstance(on, bool) for on in value.values())


def _of_boxes(boxes: Mapping[str, bool]) -> FormChoice:
    return FormChoice(tuple(name for name, is_on in boxes.items() if is_on), tuple(boxes))


def chosen_question(
    forms: Iterable[Mapping[str, FormChoice]],
    question: str,
    path: Path,
    format: str,
    other: Sequence[str] = (),
) -> str:
    """Return the question with the classes: `question` if it is not empty, otherwise the only one.

    Parameters
    ----------
    format : str
        The name of the format, for the message.
    other : sequence of str
        What the file contains instead, for the message.

    Raises
    ------
    InputError
        If there is no such question, or if there are several.
    """
    counts = Counter(name for form in forms for name in form)
    if question in counts or (not question and len(counts) == 1):
        return question or next(iter(counts))
    if question:
        what = "There is no such question."
    else:
        what = "The file has several questions." if counts else "No question has classes as answers."
    shown = ", ".join(f"{name} with {counted(n, 'answer')}" for name, n in counts.most_common(8))
    raise InputError(
        what,
        where=path,
        got=cut_for_message(question or shown or ", ".join(other)) or None,
        allowed=cut_for_message(shown) if question else "one question, in which raters chose classes",
        do=f"name it in `format`: {format}(question='{counts.most_common(1)[0][0]}')" if counts else None,
    )
