"""Writing Label Studio's tasks, with answers and a labelling configuration.

`label_studio_export` reads exports, and explains the two questions of a task.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import pyarrow as pa
from pyarrow import compute as pc

from manyhot.classes import ClassList, class_list_of
from manyhot.errors import InputError
from manyhot.files import write_text
from manyhot.formats.image_paths import paths_of
from manyhot.formats.label_studio_export import LONGEST_SECONDS
from manyhot.formats.label_studio_project import ALL_SHOWN
from manyhot.formats.writing import LABEL_FACTS, Saved, class_list_for, classes_of_table, unique_names, usable
from manyhot.parameters import is_whole
from manyhot.registry import register
from manyhot.tables import Golden, Labels, Votes, check, metadata
from manyhot.tables.labels import class_list_from_metadata

CONFIG = """\
<View>
  <Image name={image} value={address} zoom="true"/>
  <Header value="Which of these are in the image?"/>
{yes}
{maybe}</View>
"""
"""The labelling configuration of the tasks."""

_UNCERTAIN = '  <Header value="Which of these are uncertain?"/>\n{question}\n'

LOCAL = "/data/local-files/?d="
"""Address under which Label Studio serves files of its own machine."""


@register(
    "writer",
    "label-studio",
    holds=("labels", "proposals", "votes"),
    suffixes=(".json",),
    keeps=("classes answered no", "unclear classes"),
    addresses=True,
)
def write_label_studio(
    content: Labels | Votes | pa.Table,
    path: Path,
    classes: ClassList | None,
    places: Mapping[str, str],
    *,
    prefix: str = LOCAL,
    checked: float | None = None,
    by: str | int | None = None,
    yes: str = "classes",
    maybe: str = "maybe",
    image: str = "image",
    asked: str = "classes",
    to_name: str = "image",
) -> Saved:
    """Write tasks to import into Label Studio, and an ``.xml`` file with the labelling configuration.

    Tasks made from labels show every class that was asked about. The states are stored as a prediction. If
    predictions are enabled, the project shows them as preselected choices. Tasks made from proposals show
    every proposed class, best first. Nothing is preselected unless `checked` is set, because raters tend to
    agree with preselected choices. Tasks made from votes contain the raters' annotations, from which
    `read_label_studio` reads the same votes.

    Parameters
    ----------
    prefix : str
        Address to put before the path of each image. By default, the address at which Label Studio serves
        local files; images that are not local keep their own address.
    checked : float, optional
        Minimum probability of proposals that are preselected (as a prediction): their `p` or, without it,
        their score. By default, none are preselected.
    by : str or int, optional
        Write labels as annotations by this rater instead of predictions.
    yes, maybe, image, asked : str
        As in `read_label_studio`, so that the tasks fit an existing project. If its configuration has no
        question about uncertain classes, set ``maybe=''``. With ``asked='*'``, tasks do not list classes.
    to_name : str
        The name of the image in the project's configuration.

    Raises
    ------
    InputError
        If the class list is unknown, or if no image has a class to ask about.
    MatchError
        If `classes` is not the class list of the content.

    Notes
    -----
    Label Studio identifies annotators by their number or their e-mail address. If the id of a rater is an
    integer, it is written as a number. Otherwise, the rater is written as an object with ``id`` and
    ``email``.

    References
    ----------
    https://labelstud.io/guide/task_format, https://labelstud.io/guide/predictions and
    https://labelstud.io/tags/choices (choices from the task's data).
    """
    project = _Project(yes, maybe, image, asked, to_name)
    lost: list[str] = []
    names: Sequence[str]
    if isinstance(content, Labels):
        names = unique_names(classes_of_table(content, classes))
        pages = _pages_of_labels(content, names, by, project)
    elif isinstance(content, Votes):
        names = unique_names(classes_of_table(content, classes))
        pages, lost = _pages_of_votes(content, names, project)
    else:
        names = names_of_proposals(content, classes, path)
        pages, lost = _pages_of_proposals(content, names, checked, path, project), ["scores", "n_models"]
    if not maybe and _are_uncertain(content):
        lost.append("unclear classes" if isinstance(content, Labels) else "the answers maybe")
    return _write(pages, lost, path, project, names, _Addresses(prefix, places))


def _are_uncertain(content: Labels | Votes | pa.Table) -> bool:
    if isinstance(content, Votes):
        return "maybe" in content.to_table()["answer"].unique().to_pylist()
    return isinstance(content, Labels) and LABEL_FACTS["unclear classes"](content)


@register("writer", "label-studio-golden", holds=("golden",), suffixes=(".json",), keeps=(), addresses=True)
def write_label_studio_golden(
    golden: Golden,
    path: Path,
    classes: ClassList | None,
    places: Mapping[str, str],
    *,
    prefix: str = LOCAL,
    yes: str = "classes",
    maybe: str = "maybe",
    image: str = "image",
    asked: str = "classes",
    to_name: str = "image",
) -> Saved:
    """Write experts' answers as annotations marked as ground truth, in the same way as `write_label_studio`.

    Parameters
    ----------
    prefix, yes, maybe, image, asked, to_name : str
        As in `write_label_studio`.

    Raises
    ------
    InputError, MatchError
        As in `write_label_studio`.
    """
    project = _Project(yes, maybe, image, asked, to_name)
    names = unique_names(classes_of_table(golden.experts, classes))
    pages, lost = _pages_of_votes(golden.experts, names, project, golden=True)
    if not maybe and _are_uncertain(golden.experts):
        lost.append("the answers maybe")
    return _write(pages, lost, path, project, names, _Addresses(prefix, places))


@dataclass(frozen=True)
class _Project:
    """The names of a project's questions, of the fields of its tasks and of the image."""

    yes: str
    maybe: str
    image: str
    asked: str
    to_name: str

    @property
    def shows_all(self) -> bool:
        """Whether the configuration lists the classes, so that each task shows all of them."""
        return self.asked == ALL_SHOWN

    def configuration(self, names: Sequence[str]) -> str:
        """Return the labelling configuration."""
        maybe = _UNCERTAIN.format(question=self._question(self.maybe, names)) if self.maybe else ""
        return CONFIG.format(
            image=quoteattr(self.to_name),
            address=quoteattr(f"${self.image}"),
            yes=self._question(self.yes, names),
            maybe=maybe,
        )

    def _question(self, name: str, names: Sequence[str]) -> str:
        tag = f'  <Choices name={quoteattr(name)} toName={quoteattr(self.to_name)} choice="multiple"'
        if not self.shows_all:
            return f"{tag} value={quoteattr(f'${self.asked}')}/>"
        return "\n".join([f"{tag}>", *(f"    <Choice value={quoteattr(n)}/>" for n in names), "  </Choices>"])

    def result(self, answers: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
        """Return the choices of the two questions from names and their answers or states."""
        chosen: dict[str, list[str]] = {self.yes: [], self.maybe: []}
        for name, answer in answers:
            if answer != "no":
                chosen[self.yes if answer == "yes" else self.maybe].append(name)
        return [
            {"from_name": question, "to_name": self.to_name, "type": "choices", "value": {"choices": names}}
            for question, names in chosen.items()
            if names and question
        ]


class _Addresses:
    """The address of each image: the prefix and its path, or its own address if it is not local."""

    def __init__(self, prefix: str, places: Mapping[str, str]) -> None:
        self.prefix, self.places, self.paths = prefix, places, paths_of(places)

    def __call__(self, image: str) -> str:
        own = self.places.get(image, "")
        if "://" in own and self.prefix == LOCAL:
            return own
        # Slashes are allowed in a path and in a query.
        return self.prefix + quote(self.paths.get(image, image), safe="/")


def _write(
    pages: Sequence[_Page],
    lost: list[str],
    path: Path,
    project: _Project,
    names: Sequence[str],
    addresses: _Addresses,
) -> Saved:
    # One object per class, not per question: the 210,073 questions of ReaL share 1,000.
    choice = {name: {"value": name} for page in pages for name in page.asked}
    tasks = [_task(page, project, addresses, choice) for page in pages if page.asked]
    if not tasks:
        raise InputError("No image has a class to ask about.", where=path)
    if len(tasks) < len(pages):
        lost.append(f"images without a class to ask about ({len(pages) - len(tasks):,})")
    if project.shows_all and any(len(page.asked) < len(names) for page in pages if page.asked):
        lost.append("which classes were asked about")
    beside = path.with_suffix(".xml")
    write_text(beside, project.configuration(names))
    write_text(path, json.dumps(tasks, ensure_ascii=False))
    return Saved((path, beside), tuple(lost))


@dataclass(frozen=True)
class _Page:
    """A task: an image, the names of the classes shown, the preselected choices, and the answers."""

    image: str
    asked: Sequence[str]
    prediction: dict[str, Any] | None = None
    annotations: list[dict[str, Any]] = field(default_factory=list)


def _pages_of_labels(
    labels: Labels, names: Sequence[str], by: str | int | None, project: _Project
) -> list[_Page]:
    if by is not None and not is_whole(by) and not (isinstance(by, str) and by):
        raise InputError(
            "The value of the option 'by' is not a rater.", got=repr(by), allowed="a number or a name"
        )
    columns = labels.table.select(["image_id", "classes", "state"]).to_pydict()
    version = _version(labels)
    pages = []
    for image, ids, states, use in zip(*columns.values(), usable(labels), strict=True):
        if not use:
            continue
        asked = [names[c] for c in ids]
        result = project.result(zip(asked, states, strict=True))
        if by is None:
            pages.append(_Page(image, asked, {"model_version": version, "result": result}))
        else:
            pages.append(_Page(image, asked, None, [_annotation(str(by), result)]))
    return pages


def _version(labels: Labels) -> str:
    methods = labels.table["method"].unique().drop_null() if "method" in labels.table.column_names else ()
    return ", ".join(str(m) for m in methods) or labels.name or "labels"


_WHEN = ("page_id", "shown_at", "answered_at")
"""Optional columns of votes that an annotation can hold."""


def _pages_of_votes(
    votes: Votes, names: Sequence[str], project: _Project, *, golden: bool = False
) -> tuple[list[_Page], list[str]]:
    """Return a task for each set of classes that was asked about an image at once, and the lost columns."""
    table = votes.to_table()
    answers = _by_annotation(table)
    # A page of several images or raters becomes several annotations, which cannot share its id.
    used = Counter(page for _, _, page, _, _ in answers if page is not None)
    unique = all(n == 1 for n in used.values())
    untimed = 0
    pages: dict[tuple[Any, ...], _Page] = {}
    for (image, rater, page, shown, answered), pairs in answers.items():
        asked = tuple(names[c] for c, _ in pairs)
        result = project.result(zip(asked, (answer for _, answer in pairs), strict=True))
        seconds = _seconds(shown, answered)
        untimed += len(pairs) if shown is not None and seconds is None else 0
        one = _annotation(rater, result, golden)
        one |= {"id": _number(page)} if page is not None and unique else {}
        if answered is not None:
            one["created_at"] = answered.isoformat().removesuffix("+00:00") + "Z"
        one |= {"lead_time": seconds} if seconds is not None else {}
        pages.setdefault((image, asked), _Page(image, asked)).annotations.append(one)
    lost = [n for n in ("main", "round") if n in table.column_names and table[n].null_count < len(table)]
    lost += [] if unique else ["page_id"]
    lost += [f"shown_at of {untimed:,} answers"] if untimed else []
    return list(pages.values()), lost


def _by_annotation(table: pa.Table) -> dict[tuple[Any, ...], list[tuple[int, str]]]:
    """Return the answers that a rater gave about an image at once: (class, answer), by class."""
    optional = [table[n].to_pylist() if n in table.column_names else [None] * len(table) for n in _WHEN]
    columns = (table[n].to_pylist() for n in ("image_id", "rater_id", "class_id", "answer"))
    answers: dict[tuple[Any, ...], list[tuple[int, str]]] = {}
    for image, rater, c, answer, *when in zip(*columns, *optional, strict=True):
        answers.setdefault((image, rater, *when), []).append((c, answer))
    for pairs in answers.values():
        pairs.sort()
    return answers


def _seconds(shown: datetime | None, answered: datetime | None) -> float | None:
    """Return the lead time in seconds; None if it is unknown or out of the format's range."""
    if shown is None or answered is None:
        return None
    seconds = (answered - shown).total_seconds()
    return seconds if 0 <= seconds <= LONGEST_SECONDS else None


def _annotation(rater: str, result: list[dict[str, Any]], golden: bool = False) -> dict[str, Any]:
    by = _number(rater)
    return {
        "completed_by": by if isinstance(by, int) else {"id": by, "email": by},
        "result": result,
        "was_cancelled": False,
        "ground_truth": golden,  # without it, Label Studio imports the annotation as ground truth
    }


def _number(text: str) -> int | str:
    """Return an id as a number, as in Label Studio, if the number has the same text."""
    return int(text) if re.fullmatch(r"0|[1-9]\d{0,17}", text, re.ASCII) else text


def names_of_proposals(table: pa.Table, classes: ClassList | None, path: Path) -> Sequence[str]:
    """Return the names of the classes: those of a class list or, without one, those in the table."""
    about = metadata(table)
    key, n = about.get("classes", ""), int(about.get("n_classes", 0))
    if classes is not None and not key:
        return unique_names(classes)
    own = classes or class_list_from_metadata(about, path.name)
    if own is None and class_list_of(key) is None and "class_name" in table.column_names:
        columns = (table[c].to_pylist() for c in ("class_id", "class_name"))
        named = dict(zip(*columns, strict=True))
        if None not in named.values() and len({*named.values()}) == len(named):
            return [named.get(c, str(c)) for c in range(max(named, default=-1) + 1)]
    return unique_names(class_list_for("proposals", n, key, own, path.name))


def _pages_of_proposals(
    table: pa.Table, names: Sequence[str], checked: float | None, path: Path, project: _Project
) -> list[_Page]:
    if isinstance(checked, bool) or not isinstance(checked, int | float | None):
        raise InputError("The option 'checked' is not a score.", got=repr(checked), allowed="a number")
    table = check(table, "proposals")
    _check_pairs(table, len(names), path)
    # The score of a union is the share of models, which is 1 for each class that the only model proposes.
    p = pc.coalesce(table["p"], table["score"]) if "p" in table.column_names else table["score"]
    of_image: dict[str, list[tuple[float, str, float]]] = {}
    columns = (table[c].to_pylist() for c in ("image_id", "class_id", "score"))
    for image, c, score, confidence in zip(*columns, p.to_pylist(), strict=True):
        of_image.setdefault(image, []).append((score, names[c], confidence))
    version = ", ".join(map(str, table["source"].unique()))
    pages = []
    for image, asked in of_image.items():
        best = sorted(asked, key=lambda one: -one[0])
        prediction = None
        if checked is not None:
            result = project.result((name, "yes") for _, name, confidence in best if confidence >= checked)
            prediction = {"model_version": version, "result": result}
        pages.append(_Page(image, [name for _, name, _ in best], prediction))
    return pages


def _check_pairs(table: pa.Table, n: int, path: Path) -> None:
    seen: set[tuple[str, int]] = set()
    for image, c in zip(table["image_id"].to_pylist(), table["class_id"].to_pylist(), strict=True):
        if not 0 <= c < n:
            raise InputError(
                "A class is out of range.",
                where=f"{path}, image {image}",
                got=c,
                allowed=f"0 to {n - 1}",
                do="pass the class list of the proposals as `classes`",
            )
        if (image, c) in seen:
            raise InputError("A class is proposed twice.", where=f"{path}, image {image}", got=f"class {c}")
        seen.add((image, c))


def _task(
    page: _Page, project: _Project, addresses: _Addresses, choice: Mapping[str, dict[str, str]]
) -> dict[str, Any]:
    data: dict[str, Any] = {project.image: addresses(page.image), "image_id": page.image}
    if not project.shows_all:
        data[project.asked] = [choice[name] for name in page.asked]
    task: dict[str, Any] = {"data": data}
    if page.annotations:
        task["annotations"] = page.annotations
    if page.prediction is not None:
        task["predictions"] = [page.prediction]
    return task
