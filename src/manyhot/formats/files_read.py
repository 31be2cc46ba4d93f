"""How a file was read, in one line, so that users notice a wrong reading before they trust a number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from manyhot.classes import ClassList, class_list_of
from manyhot.core.answers import ANSWERS
from manyhot.errors import counted
from manyhot.files import cache_folder
from manyhot.formats.ignored_columns import ignored_columns
from manyhot.formats.reading import declared
from manyhot.registry import Entry
from manyhot.run import FilesRead
from manyhot.tables import Golden, Images, Labels, Predictions, Votes

_LISTED = 3
"""Classes and raters that a line names."""

_SEARCHED = 1000
"""Images among which one with labels is looked for."""


def add_file(path: Path, entry: Entry, content: Any, options: Mapping[str, Any]) -> None:
    """Add a file of labels, images, predictions or votes to those that the call has read.

    There is only one way to read manyhot's own and published files, which are left out.
    """
    found, content = FilesRead.current(), content.experts if isinstance(content, Golden) else content
    is_described = isinstance(content, Labels | Images | Predictions | Votes)
    if found is None or not is_described or declared(path) or cache_folder() in path.parents:
        return
    kind, name = f"{entry.about['holds']} ({entry.name})", found.frame or path.name

    def describe() -> str:
        parts = [f"{name} as {kind}: {next(about := _parts(content, options))}", *about]
        if ignored := ignored_columns(path, entry, content, options):
            parts.append(f"ignored columns: {_some(ignored, 8)}")
        return "; ".join(parts)

    found.add(kind, found.frame or str(path), describe)


def add_arrays(name: str, content: Labels | Predictions) -> None:
    """Add an array, a list or a frame of numbers, which are not read through a file, to what was read."""
    kind = f"{'labels' if isinstance(content, Labels) else 'predictions'} (in memory)"
    if (found := FilesRead.current()) is not None:
        about = _parts(content, {})
        found.add(kind, name, lambda: "; ".join([f"{name} as {kind}: {next(about)}", *about]))


def _parts(content: Labels | Images | Predictions | Votes, options: Mapping[str, Any]) -> Iterator[str]:
    """Yield how much there is of what, and an example."""
    if isinstance(content, Labels):
        classes = _classes(content, options)
        yield f"{counted(len(content), 'image')}, {_size(content, classes)}"
        yield from _labels_example(content, classes)
    elif isinstance(content, Predictions):
        classes = _classes(content, options)
        ranked = "" if content.classes is None else f"the best {content.classes.shape[1]} "
        of = "of " if ranked and classes is not None else ""
        yield f"{counted(len(content), 'image')}, {ranked}{of}{_size(content, classes)}"
        kind = {"none": "no scores", "score": "scores of undeclared kind"}
        yield kind.get(content.score_kind, f"scores: {content.score_kind}")
        yield _prediction(content, classes)
    elif isinstance(content, Votes):
        raters = content.rater_id.to_pylist()
        size = f"{counted(len(content), 'answer')}, {counted(len(raters), 'rater')}"
        yield f"{size} ({_some(raters, _LISTED)})"
        if len(content):
            q, r = content.question[0], content.rater[0]
            name = _name(_classes(content, options), int(content.class_id[q]))
            yield f"{raters[r]} on {content.image_id[q]}: {name} {ANSWERS[content.answer[0]]}"
    else:
        yield counted(len(content), "image")
        label = None if content.label is None else content.label[0].as_py()
        shown = "no label" if label is None else _name(_classes(content, options), label)
        yield f"{content.image_id[0]}: {shown}"


def _labels_example(labels: Labels, classes: ClassList | None) -> Iterator[str]:
    rows = labels.table.slice(0, _SEARCHED).select(["image_id", "classes", "state"]).to_pylist()
    for row in rows:
        pairs = zip(row["classes"] or (), row["state"] or (), strict=True)
        if valid := [_name(classes, c) for c, state in pairs if state == "yes"]:
            yield f"{row['image_id']}: {_some(valid, _LISTED)}"
            return


def _prediction(predictions: Predictions, classes: ClassList | None) -> str:
    scores = None if predictions.scores is None else np.asarray(predictions.scores[0], np.float64)
    if predictions.classes is not None:
        best = [int(c) for c in predictions.classes[0] if c >= 0][:_LISTED]
    else:
        assert scores is not None
        best = [int(c) for c in np.argsort(-scores, kind="stable")[:_LISTED]]
    names = [_name(classes, c) for c in best]
    if scores is not None:
        shown = scores[: len(best)] if predictions.classes is not None else scores[best]
        names = [f"{name} ({score:.3g})" for name, score in zip(names, shown, strict=True)]
    return f"{predictions.image_id[0]}: {', '.join(names) or 'nothing'}"


def _classes(content: Any, options: Mapping[str, Any]) -> ClassList | None:
    own = getattr(content, "class_list", None) or options.get("classes")
    return own or class_list_of(getattr(content, "class_hash", ""))


def _name(classes: ClassList | None, number: int) -> str:
    known = classes is not None and number < len(classes)
    return classes.names[number] if known else f"class {number}"  # type: ignore[union-attr]


def _size(content: Labels | Predictions, classes: ClassList | None) -> str:
    if classes is None:  # how many there are is only assumed
        return "classes as numbers"
    return f"{counted(content.n_classes, 'class')} ({_some(classes.names, _LISTED)})"


def _some(names: Iterable[str], n: int) -> str:
    listed = [f'"{name}"' if "," in name else name for name in names]
    return ", ".join([*listed[:n], *["…"] * (len(listed) > n)])
