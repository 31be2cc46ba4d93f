"""The chapter about label issues: how many there are, and those with the most evidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
from pyarrow import compute as pc

from manyhot import tables
from manyhot.diagnose.first_findings import first_findings, image_links, name_of_class
from manyhot.diagnose.label_issues_table import DOUBTFUL, MERGES, MISSING
from manyhot.registry import register
from manyhot.report.chapter import Chapter, NextStep, Tables, listing, percent
from manyhot.report.figure import Figure
from manyhot.report.listings import ColumnHead, Listing
from manyhot.report.text import counted, listed, title_of
from manyhot.tables import Row

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
        "let people decide about these images.", "manyhot init CAMPAIGN --images IMAGES --predictions FOLDER"
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
        ColumnHead("Image", number=False),
        ColumnHead("Label", number=False),
        ColumnHead("Suggested", number=False),
        ColumnHead("Score", title="From 0 to 1; the evidence of models, neighbours and people together"),
        ColumnHead("Models", title="Evidence of the models, from 0 to 1"),
        ColumnHead("Neighbours", title="Evidence of similar images, from 0 to 1"),
        ColumnHead("People", title="Evidence of raters, from 0 to 1"),
        ColumnHead("Data set", number=False),
    )
    rows = first_findings(findings, "score", MOST_FIRST)
    more = len(findings) - len(rows)
    note = f"{more:,} more are in findings.csv." if more else ""
    return listing(
        f"labels-{anchor}", f"{title}: {len(findings):,}", heads, rows, _cells, note=note, link=link
    )


def _cells(r: Row) -> tuple[str, ...]:
    names = (r["image_id"], *(name_of_class(r, end) for end in ("class_a", "class_b")))
    evidence = ("score", "models", "neighbours", "people")
    return (*names, *("" if r[e] is None else f"{r[e]:.2f}" for e in evidence), r["dataset"] or "")


def _merges(findings: pa.Table) -> Listing:
    heads = (
        ColumnHead("Class", number=False),
        ColumnHead("Other class", number=False),
        ColumnHead("Score"),
        ColumnHead("Images of the first"),
        ColumnHead("of the second"),
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
