"""Label Studio's projects: their configuration as a class list, and exports that do not fit the options."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from manyhot.classes import ClassList, from_keys
from manyhot.errors import InputError
from manyhot.formats.reading import cut_for_message, head, load_json
from manyhot.formats.xml_files import parse_xml
from manyhot.registry import register

ALL_SHOWN = "*"
"""Value of the option `asked` if each task shows every class."""


@dataclass(frozen=True)
class ExportLayout:
    """The layout of a project: the names of its questions and of the fields of its tasks."""

    yes: str
    maybe: str
    image: str
    asked: str
    skip: frozenset[str]
    classes: ClassList

    @cached_property
    def class_of(self) -> Callable[[str], int | None]:
        """A function that returns the class of a choice; tasks of a project have few distinct ones."""
        return cache(self.classes.find)


@register(
    "format",
    "label-studio-config",
    holds="classes",
    suffixes=(".xml",),
    matches=lambda path: _may_be_project(head(path)),
    needs="a labelling configuration with Choices",
)
def read_label_studio_config(path: Path) -> ClassList:
    """The choices in the labelling configuration of a Label Studio project, in their order.

    If a choice has an ``alias``, annotations contain the alias. It is then the key, and ``value`` is the
    name.

    Raises
    ------
    InputError
        If the file is not XML, contains a document type or an entity, or has no choices; or if two questions
        have different choices.

    References
    ----------
    https://labelstud.io/tags/choices
    """
    root = parse_xml(path, "The file is not a Label Studio labelling configuration.")
    lists = {}
    for question in root.iter("Choices"):
        choices = [
            (c.get("alias") or c.get("value", ""), c.get("value", "")) for c in question.iter("Choice")
        ]
        if choices:
            lists[question.get("name", "")] = tuple(choices)
    if len(set(lists.values())) != 1:
        raise InputError(
            "The questions of the configuration have different choices."
            if lists
            else "The configuration does not list classes.",
            where=path,
            got=f"the questions {', '.join(map(repr, lists))}" if lists else "no Choices with a Choice",
            allowed="one list of classes",
            do="pass a file with one class per line, in the order of the classes",
        )
    keys, names = zip(*next(iter(lists.values())), strict=True)
    return replace(from_keys(keys, path.stem), names=names)


def _may_be_project(start: str) -> bool:
    """Return whether a file may be a configuration; comments and declarations may be before its elements."""
    if re.search(r"<\w", start) is None:
        return "<" in start
    return re.search(r"<(View|Choices)\b", start) is not None


def misfit(path: Path, layout: ExportLayout) -> InputError | None:
    """Return one error for a project that differs in several respects; None if it differs in one or none.

    The export of a project that manyhot did not set up differs in its questions, in how it shows classes and
    in its class list. If each difference raised an error of its own, finding all of them would take three
    attempts.
    """
    tasks = load_json(path)
    tasks = [t for t in tasks if isinstance(t, dict)] if isinstance(tasks, list) else []
    wrong = [
        part for part in (_questions_misfit(tasks, layout), _fields_misfit(tasks, layout)) if part is not None
    ]
    if other := _other_choice(tasks, layout):
        classes = f"the {len(layout.classes):,} classes of {layout.classes.name}"
        wrong.append((f"choices such as {other!r}", classes, ""))
    if len(wrong) < 2:
        return None
    options = ", ".join(option for _, _, option in wrong if option)
    do = f'pass `format`="label-studio({options})"'
    return InputError(
        "The project has other questions, fields or classes.",
        where=path,
        got="; ".join(cut_for_message(got) for got, _, _ in wrong),
        allowed="; ".join(allowed for _, allowed, _ in wrong),
        do=f"{do}; and the project's configuration, an .xml file, as `classes`" if other else do,
    )


_Misfit = tuple[str, str, str]
"""What a project has, what was expected, and the option to set."""


def _questions_misfit(tasks: Sequence[Mapping[str, Any]], layout: ExportLayout) -> _Misfit | None:
    unknown = [q for q in _questions(tasks) if q not in {layout.yes, layout.maybe, *layout.skip}]
    if not unknown:
        return None
    option = f"yes={unknown[0]!r}" if len(unknown) == 1 else "yes='…', maybe='…', skip='…'"
    names = ", ".join(map(repr, unknown))
    return f"the questions {names}", f"{layout.yes!r} for yes, and {layout.maybe!r} for maybe", option


def _fields_misfit(tasks: Sequence[Mapping[str, Any]], layout: ExportLayout) -> _Misfit | None:
    fields = [t["data"] for t in tasks if isinstance(t.get("data"), dict)]
    if layout.asked == ALL_SHOWN or any(isinstance(data.get(layout.asked), list) for data in fields):
        return None
    got = f"no list in the field {layout.asked!r} of the tasks' data"
    return got, "a list of the classes shown", f"asked={ALL_SHOWN!r}"


def _other_choice(tasks: Sequence[Mapping[str, Any]], layout: ExportLayout) -> str:
    """Return a choice that is not in the class list; empty if there is none."""
    questions = {q: chosen for q, chosen in _questions(tasks).items() if q not in layout.skip}
    # Only if none of the questions is known, another one asks about classes.
    about = {layout.yes, layout.maybe} & questions.keys() or questions.keys()
    texts = {choice for question in about for choice in questions[question]}
    return min((c for c in texts if layout.classes.find(c) is None), default="")


def _questions(tasks: Sequence[Mapping[str, Any]]) -> dict[str, set[str]]:
    """Return the questions of a project's annotations, with the texts that were chosen."""
    found: dict[str, set[str]] = {}
    lists = (task.get("annotations") for task in tasks)
    made = (one for some in lists if isinstance(some, list) for one in some if isinstance(one, dict))
    results = (one.get("result") for one in made)
    for one in (r for some in results if isinstance(some, list) for r in some if isinstance(r, dict)):
        value, question = one.get("value"), one.get("from_name")
        choices = value.get("choices") if isinstance(value, dict) else None
        if isinstance(choices, list) and isinstance(question, str):
            found.setdefault(question, set()).update(c for c in choices if isinstance(c, str))
    return found
