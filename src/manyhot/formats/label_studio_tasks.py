"""Label Studio, the way out: label sets and proposals as tasks, with a labelling configuration beside them.

`label_studio` is the way in, and says what the two questions of a task mean.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from manyhot.classes import ClassList, class_list
from manyhot.errors import InputError
from manyhot.files import write_text
from manyhot.formats.writing import Saved, classes_of, unique_names, usable
from manyhot.registry import register
from manyhot.tables import Labels, check

CONFIG = """\
<View>
  <Image name="image" value="$image" zoom="true"/>
  <Header value="Which of these are in the image?"/>
  <Choices name="classes" toName="image" choice="multiple" value="$classes"/>
  <Header value="Of which can you not tell?"/>
  <Choices name="maybe" toName="image" choice="multiple" value="$classes"/>
</View>
"""
"""The labelling configuration that the tasks are written for; the classes come from each task's data."""

LOCAL = "/data/local-files/?d="
"""Where Label Studio serves files of its own machine from."""


@register(
    "writer",
    "label-studio",
    holds=("labels", "proposals"),
    suffixes=(".json",),
    keeps=("classes answered no", "unclear classes"),
)
def write_label_studio(
    found: Labels | pa.Table,
    path: Path,
    classes: ClassList | None,
    *,
    prefix: str = LOCAL,
    checked: float | None = None,
) -> Saved:
    """Write tasks to import into Label Studio, and the labelling configuration beside them, ``.xml``.

    Of labels, every class asked about is shown, and a prediction holds their states: it is what the project
    shows as chosen where predictions are switched on. Of proposals, every class proposed is shown, best
    first, and nothing is chosen unless `checked` says so: raters follow what is chosen for them.

    Parameters
    ----------
    prefix : str
        What stands before an image's name in its address; by default where Label Studio serves files of its
        own machine from.
    checked : float, optional
        The score from which on proposals are in a prediction.

    Raises
    ------
    InputError
        The class list is not known, or no image has a class to ask about.

    References
    ----------
    https://labelstud.io/guide/task_format, https://labelstud.io/guide/predictions and
    https://labelstud.io/tags/choices (choices from the task's data).
    """
    if isinstance(found, Labels):
        names = unique_names(classes_of(found, classes))
        pages, lost = _pages_of_labels(found, names), []
    else:
        names = unique_names(classes or class_list())
        pages, lost = _pages_of_proposals(found, names, checked, path), ["scores", "n_models"]
    # One object a class, not one a question: 210,073 questions of ReaL share 1,000.
    choice = {name: {"value": name} for name in names}
    tasks = [_task(page, prefix, choice) for page in pages if page.asked]
    if not tasks:
        raise InputError("No image has a class to ask about.", where=path)
    if len(tasks) < len(pages):
        lost.append(f"images without a class to ask about ({len(pages) - len(tasks):,})")
    beside = path.with_suffix(".xml")
    write_text(beside, CONFIG)
    write_text(path, json.dumps(tasks, ensure_ascii=False))
    return Saved((path, beside), tuple(lost))


@dataclass(frozen=True)
class _Page:
    """One task: an image, the names of the classes shown, and what is chosen beforehand."""

    image: str
    asked: list[str]
    prediction: dict[str, list[str]] | None
    version: str


def _pages_of_labels(labels: Labels, names: Sequence[str]) -> list[_Page]:
    columns = labels.table.select(["image_id", "classes", "state"]).to_pydict()
    version = _version(labels)
    pages = []
    for image, ids, states, use in zip(*columns.values(), usable(labels), strict=True):
        if not use:
            continue
        asked = [names[c] for c in ids]
        of = {
            question: [name for name, s in zip(asked, states, strict=True) if s == state]
            for question, state in (("classes", "yes"), ("maybe", "unclear"))
        }
        pages.append(_Page(image, asked, of, version))
    return pages


def _version(labels: Labels) -> str:
    methods = labels.table["method"].unique().drop_null() if "method" in labels.table.column_names else ()
    return ", ".join(str(m) for m in methods) or labels.name or "labels"


def _pages_of_proposals(
    table: pa.Table, names: Sequence[str], checked: float | None, path: Path
) -> list[_Page]:
    if isinstance(checked, bool) or not isinstance(checked, int | float | None):
        raise InputError("The option 'checked' is a score.", got=repr(checked), allowed="a number")
    table = check(table, "proposals")
    _check_pairs(table, len(names), path)
    of_image: dict[str, list[tuple[float, str]]] = {}
    columns = (table[c].to_pylist() for c in ("image_id", "class_id", "score"))
    for image, c, score in zip(*columns, strict=True):
        of_image.setdefault(image, []).append((score, names[c]))
    version = ", ".join(map(str, table["source"].unique()))
    pages = []
    for image, pairs in of_image.items():
        best = sorted(pairs, key=lambda pair: -pair[0])
        chosen = None if checked is None else {"classes": [name for score, name in best if score >= checked]}
        pages.append(_Page(image, [name for _, name in best], chosen, version))
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
                do="give the class list of the proposals: --classes",
            )
        if (image, c) in seen:
            raise InputError("A class is proposed twice.", where=f"{path}, image {image}", got=f"class {c}")
        seen.add((image, c))


def _task(page: _Page, prefix: str, choice: Mapping[str, dict[str, str]]) -> dict[str, Any]:
    # Within a query nothing may stay as it is; within a path the name has no folders.
    address = prefix + quote(page.image, safe="")
    data = {"image": address, "image_id": page.image, "classes": [choice[name] for name in page.asked]}
    if page.prediction is None:
        return {"data": data}
    result = [
        {"from_name": question, "to_name": "image", "type": "choices", "value": {"choices": chosen}}
        for question, chosen in page.prediction.items()
        if chosen
    ]
    return {"data": data, "predictions": [{"model_version": page.version, "result": result}]}
