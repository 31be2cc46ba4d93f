"""The table of label issues: what it holds, and what terminal and page show of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot import tables
from manyhot.classes import ClassList
from manyhot.console import table_lines
from manyhot.core.confused_classes import Merges
from manyhot.core.ensembles import Ensemble
from manyhot.core.label_issues import IssueLists, Issues
from manyhot.core.set_issues import independent_lists
from manyhot.core.sets import NO_LABEL, NOT_ASKED, LabelSets
from manyhot.data.data_sets import Source
from manyhot.diagnose.first_findings import (
    FIRST_FINDINGS,
    Findings,
    first_findings,
    image_links,
    name_of_class,
    with_names,
)
from manyhot.errors import InputError, first_names
from manyhot.registry import register
from manyhot.report.chapter import Chapter, NextStep, Tables, listing, percent
from manyhot.report.figure import Figure
from manyhot.report.listings import ColumnHead, Listing, number_heads, text_heads
from manyhot.report.text import counted, listed, title_of
from manyhot.tables import Images, Row
from manyhot.tables.arrays import label_sets

ISSUES = {
    "doubtful-label": "a label may be wrong",
    "missing-label": "another class may be there, too",
    "merge-classes": "two classes may be one",
}
"""The kinds of label issues, and what they say."""

DOUBTFUL, MISSING, MERGES = ISSUES
IN_WORDS = {DOUBTFUL: "doubtful label", MISSING: "missing label"}

ONLY_SETS = (
    "there are no original labels, so each class of the label sets is checked, with the same minimum score "
    "for wrong and missing classes"
)
"""The note on label sets that are checked."""

GIVEN_SETS = (
    "each class of the label sets is checked instead of the original labels, because the label sets are not "
    "raters' answers about the original labels; to check the original labels, pass only the images table"
)
"""The note on label sets that are checked although original labels are known."""

SUSPECTED = (
    "only the labels suspected by confident learning are listed; to list all labels with at least a given "
    "score, pass `min_doubtful`, such as 0.5"
)


def unlisted_notes(ensemble: Ensemble) -> list[str]:
    """Return a note on unchecked classes: those of label sets that some model does not list."""
    names = [ensemble.names[m] for m in independent_lists(ensemble)]
    if not names:
        return []
    verb = "lists" if len(names) == 1 else "list"
    return [
        f"{first_names(names, 3)} {verb} only some classes of each image, so the probabilities of all others "
        "are unknown, and only listed classes are checked; to check all classes, pass scores of all classes"
    ]


_COLUMNS = (
    ("kind", pa.string()),
    ("image_id", pa.string()),
    ("class_a", pa.int32()),
    ("class_b", pa.int32()),
    ("dataset", pa.string()),
    ("rank", pa.int32()),
    ("score", pa.float64()),
    ("models", pa.float64()),
    ("neighbours", pa.float64()),
    ("people", pa.float64()),
    ("n_models", pa.int32()),
    ("confident_class", pa.int32()),
    ("together", pa.float64()),
    ("a_as_b", pa.float64()),
    ("b_as_a", pa.float64()),
    ("n_together", pa.int32()),
    ("n_a", pa.int32()),
    ("n_b", pa.int32()),
    ("answer", pa.string()),
)
"""The columns of the findings; evidence is null where there is none."""


@dataclass(frozen=True, eq=False)
class LabelIssues(Findings):
    """Doubtful labels, missing labels and classes to merge.

    Attributes
    ----------
    table : pyarrow.Table
        The table ``findings``, sorted by score within each kind, highest first; see the page *Label issues*.
    models : tuple of str
    n, n_skipped : int
        Number of images with an original label and evidence about it, and number of other images.
    sources, hints
        As in `Findings`.
    notes, metadata, inputs
        As in `Result`.
    """

    SCORE = "score"

    models: tuple[str, ...]
    n: int
    n_skipped: int

    def __repr__(self) -> str:
        counts = ", ".join(f"{self.count(kind):,} {kind}" for kind in ISSUES)
        return f"LabelIssues({counts}; {self.n:,} images)"

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of issues: doubtful-label, missing-label and merge-classes."""
        return tuple(ISSUES)

    def count(self, kind: str) -> int:
        """Return the number of findings of a kind.

        Raises
        ------
        InputError
            If there is no such kind.
        """
        return len(self.of_kind(kind))

    def of_kind(self, kind: str) -> pa.Table:
        """Return the findings of one kind, highest score first.

        Raises
        ------
        InputError
            If there is no such kind.
        """
        if kind not in ISSUES:
            raise InputError("There is no such kind of issue.", got=kind, allowed=", ".join(ISSUES))
        return self.table.filter(pc.equal(self.table["kind"], kind))

    @property
    def gallery_tables(self) -> tuple[pa.Table, ...]:
        """A table with a text for each image that names its doubtful or missing label."""
        found = self.table.filter(pc.is_in(self.table["kind"], pa.array(IN_WORDS)))
        words = pa.array(
            f"{IN_WORDS[r['kind']]}: {name_of_class(r, 'class_a' if r['kind'] == DOUBTFUL else 'class_b')}"
            for r in found.select(["kind", "class_a", "class_b", "name_a", "name_b"]).to_pylist()
        )
        return (pa.table({"image_id": found["image_id"], "finding": words.cast(pa.string())}),)

    def lines(self) -> Iterator[str]:
        """Yield the number of issues per kind, the first issues, and the classes to merge."""
        yield f"{self.n:,} labelled images, {counted(len(self.models), 'model')}"
        rows = [(kind, f"{self.count(kind):,}", meaning) for kind, meaning in ISSUES.items()]
        yield from table_lines(("issue", "number", ""), rows)
        yield ""
        yield from self.first_lines("suggested")
        yield from self.hints
        if merges := self.of_kind(MERGES).slice(0, FIRST_FINDINGS).to_pylist():
            yield ""
            named = ([name_of_class(r, end) for end in ("class_a", "class_b")] for r in merges)
            cells = [(*names, f"{r['score']:.2f}") for names, r in zip(named, merges, strict=True)]
            yield from table_lines(("classes that may be one", "", "score"), cells)
        yield ""

    def to_json(self) -> dict[str, Any]:
        """Return the number of findings per kind, as printed by manyhot diagnose labels --json."""
        return {
            "counts": {kind: self.count(kind) for kind in ISSUES},
            "models": self.models,
            "n": self.n,
            "n_skipped": self.n_skipped,
            "first": self.first,
            "notes": self.notes,
        }

    @classmethod
    def concat(cls, parts: Sequence[LabelIssues], inputs: Mapping[str, str]) -> LabelIssues:
        """Join the issues of several data sets."""
        several = len(parts) > 1
        n, n_skipped = sum(p.n for p in parts), sum(p.n_skipped for p in parts)
        names = [p.table["dataset"][0].as_py() if several and len(p) else "" for p in parts]
        named = zip(names, parts, strict=True)
        models = tuple(dict.fromkeys(m for p in parts for m in p.models))
        return cls(
            pa.concat_tables([p.table for p in parts]),
            models,
            n,
            n_skipped,
            sources=tuple(source for p in parts for source in p.sources),
            notes=tuple(f"{name}: {note}" if name else note for name, p in named for note in p.notes),
            metadata={"models": "\n".join(models), "n": str(n), "n_skipped": str(n_skipped)},
            inputs=inputs,
        )


def issues_table(
    source: Source,
    images: Images,
    label: npt.NDArray[np.int32] | None,
    issues: IssueLists,
    merges: Merges,
    classes: ClassList | None,
) -> pa.Table:
    """Return all issues of a data set as the table ``findings``.

    Parameters
    ----------
    label : ndarray of int32, shape (n,), or None
        Original labels; None if label sets were checked.
    """
    lists = ((DOUBTFUL, issues.doubtful), (MISSING, issues.missing))
    rows = [_image_rows(kind, images, label, of_kind) for kind, of_kind in lists]
    if label is None and source.labels is not None:  # the images are those of the label sets
        rows[1]["answer"] = _answers(label_sets(source.labels), issues.missing)
    table = pa.concat_tables([_filled(columns, source.name) for columns in (*rows, _merge_rows(merges))])
    return with_names(table.combine_chunks(), classes)


def _image_rows(
    kind: str, images: Images, label: npt.NDArray[np.int32] | None, issues: Issues
) -> dict[str, pa.Array]:
    pair: list[npt.NDArray[np.integer[Any]]]
    if label is None:  # each class of a label set is an issue of its own
        nothing = np.full(len(issues), NO_LABEL, np.int64)
        pair = [issues.class_id, nothing] if kind == DOUBTFUL else [nothing, issues.class_id]
    else:
        pair = [label[issues.image], issues.class_id]
    return {
        "kind": pa.repeat(kind, len(issues)),
        "image_id": images.image_id.take(pa.array(issues.image)),
        "class_a": _classes(pair[0]),
        "class_b": _classes(pair[1]),
        "rank": pa.array(np.arange(1, len(issues) + 1, dtype=np.int32)),
        "score": _reals(issues.score),
        "models": _reals(issues.models),
        "neighbours": _reals(issues.neighbours),
        "people": _reals(issues.people),
        "n_models": pa.array(issues.n_models.astype(np.int32)),
        "confident_class": _classes(issues.confident),
    }


def _answers(sets: LabelSets, issues: Issues) -> pa.Array:
    """Return what label sets answer about each class; null if this is not known for all classes.

    Label sets that leave no class open answer no about all missing classes.
    """
    if sets.unlisted != NOT_ASKED:
        return pa.nulls(len(issues), pa.string())
    state = sets.take(issues.image).state_of(issues.class_id[:, None])[:, 0]
    return pa.array([None, *tables.STATES]).take(pa.array(state))


def _merge_rows(merges: Merges) -> dict[str, pa.Array]:
    return {
        "kind": pa.repeat(MERGES, len(merges)),
        "class_a": _classes(merges.a),
        "class_b": _classes(merges.b),
        "rank": pa.array(np.arange(1, len(merges) + 1, dtype=np.int32)),
        "score": _reals(merges.score),
        "together": _reals(merges.together),
        "a_as_b": _reals(merges.a_as_b),
        "b_as_a": _reals(merges.b_as_a),
        **{name: pa.array(getattr(merges, name).astype(np.int32)) for name in ("n_together", "n_a", "n_b")},
    }


def _filled(columns: dict[str, pa.Array], dataset: str) -> pa.Table:
    n = len(columns["kind"])
    columns["dataset"] = pa.repeat(pa.scalar(dataset, pa.string()), n)
    arrays = [columns.get(name, pa.nulls(n, kind)).cast(kind) for name, kind in _COLUMNS]
    return pa.table(arrays, names=[name for name, _ in _COLUMNS])


def _classes(values: npt.NDArray[np.integer]) -> pa.Array:
    return pa.array(values.astype(np.int32), mask=values == NO_LABEL)


def _reals(values: npt.NDArray[np.float64]) -> pa.Array:
    return pa.array(values, mask=np.isnan(values))


MOST_CLASS_PAIRS = 10
"""Pairs of a label and another class that are drawn."""

MOST_FIRST = 20
"""Rows of the tables of images."""

MOST_NAMED = 3
"""Data sets that the first sentence names."""


@register(
    "chapter",
    "label-issues",
    tables=("findings",),
    next=NextStep(
        "write the questions about these labels, and let people answer them.",
        "manyhot propose DATASET --findings OUT/findings.parquet --out questions.csv",
    ),
)
def label_issues_chapter(named: Tables, folder: Path, draw: bool) -> Chapter | None:
    """Return the chapter about label issues, or None if there are no findings of ``diagnose labels``."""
    about = tables.metadata(named["findings"]) if "findings" in named else {}
    if "n" not in about or "models" not in about:
        return None
    by_kind = {
        kind: named["findings"].filter(pc.equal(named["findings"]["kind"], kind))
        for kind in (DOUBTFUL, MISSING, MERGES)
    }
    n, models, link = int(about["n"]), about["models"].splitlines(), image_links(folder)
    listings = (
        _images("doubtful", "Labels that may be wrong", by_kind[DOUBTFUL], link),
        _images("missing", "Labels that may be missing", by_kind[MISSING], link),
        _merges(by_kind[MERGES]),
    )
    return Chapter(
        "label-issues",
        "Labels",
        "Which labels may be wrong or missing",
        (
            label_issues_sentence(n, models, by_kind),
            "These are suggestions, with the strongest evidence first. A model that was trained on these "
            "images repeats their wrong labels.",
        ),
        _draw(by_kind[DOUBTFUL]) if draw else (),
        tuple(t for t in listings if t.rows),
        gallery="See the images with the highest scores." if link else "",
    )


def label_issues_sentence(n: int, models: Sequence[str], by_kind: Mapping[str, pa.Table]) -> str:
    """Return a sentence on how many labels may be wrong or missing, where, and according to which models."""
    by = models[0] if len(models) == 1 else counted(len(models), "model")
    doubtful, missing, merges = (len(by_kind[kind]) for kind in (DOUBTFUL, MISSING, MERGES))
    names = dict.fromkeys(name for t in by_kind.values() for name in t["dataset"].to_pylist() if name)
    where = f" of {listed([*map(title_of, names)], MOST_NAMED)}" if names else ""
    share = f" ({percent(doubtful / n, 1)})" if n else ""
    if n and _are_of_sets(by_kind[DOUBTFUL]):  # an image has several labels, whose number is not known here
        images = len(
            by_kind[DOUBTFUL].select(["dataset", "image_id"]).group_by(["dataset", "image_id"]).aggregate([])
        )
        share = f" (on {counted(images, 'image')}, {percent(images / n, 1)})"
    pairs = f", and {counted(merges, 'pair')} of classes may be one class" if merges else ""
    return (
        f"On {counted(n, 'labelled image')}{where}, {counted(doubtful, 'label')} may be wrong{share} and "
        f"{missing:,} may be missing{pairs}, according to {by}."
    )


def _are_of_sets(doubtful: pa.Table) -> bool:
    """Return whether the labels are those of label sets, for which no other class is suggested."""
    return bool(len(doubtful)) and doubtful["class_b"].null_count == len(doubtful)


def _draw(doubtful: pa.Table) -> tuple[Figure, ...]:
    from manyhot.diagnose.findings_figures import draw_label_pairs

    if _are_of_sets(doubtful):
        return ()  # the figure compares labels with the classes suggested instead
    columns = ("class_a", "class_b", "name_a", "name_b")
    pairs = Counter(_pair(row) for row in doubtful.select(columns).to_pylist())
    first = [{"pair": pair, "n": n} for pair, n in pairs.most_common(MOST_CLASS_PAIRS)]
    return draw_label_pairs(first, len(pairs))


def _pair(row: Row) -> str:
    names = [name_of_class(row, end) for end in ("class_a", "class_b") if row[end] is not None]
    return " → ".join(names)


def _images(anchor: str, title: str, findings: pa.Table, link: Callable[[Row], str] | None) -> Listing:
    heads = (
        *text_heads("Image", "Label", "Suggested"),
        ColumnHead("Score", title="From 0 to 1; combines the evidence of models, neighbours and raters"),
        ColumnHead("Models", title="Evidence of the models, from 0 to 1"),
        ColumnHead("Neighbours", title="Evidence of similar images, from 0 to 1"),
        ColumnHead("People", title="Evidence of raters, from 0 to 1"),
        ColumnHead("Data set", number=False),
    )
    rows = first_findings(findings, "score", MOST_FIRST)
    more = len(findings) - len(rows)
    note = f"The {len(rows):,} with the highest scores; {more:,} more are in findings.csv." if more else ""
    return listing(
        f"labels-{anchor}", f"{title}: {len(findings):,}", heads, rows, _cells, note=note, link=link
    )


def _cells(r: Row) -> tuple[str, ...]:
    names = (r["image_id"], *(name_of_class(r, end) for end in ("class_a", "class_b")))
    evidence = ("score", "models", "neighbours", "people")
    return (*names, *("" if r[e] is None else f"{r[e]:.2f}" for e in evidence), r["dataset"] or "")


def _merges(findings: pa.Table) -> Listing:
    heads = (
        *text_heads("Class", "Other class"),
        *number_heads("Score", "Images of the first", "of the second"),
    )
    return listing(
        "labels-merges",
        "Classes that may be one",
        heads,
        findings.to_pylist(),
        lambda r: (
            *(name_of_class(r, end) for end in ("class_a", "class_b")),
            f"{r['score']:.2f}",
            *("" if r[n] is None else f"{r[n]:,}" for n in ("n_a", "n_b")),
        ),
    )
