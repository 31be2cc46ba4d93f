"""The chapter about errors: how many there are, of which kinds, and those of the highest confidence."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from manyhot import tables
from manyhot.core.share_intervals import proportion_interval
from manyhot.diagnose.class_errors import class_counts_listing, class_error_listing, class_errors_answer
from manyhot.diagnose.first_findings import first_findings, image_links, name_of_class
from manyhot.diagnose.sorted_errors import LIST_LABEL_ISSUES, wrong_labels_sentence
from manyhot.registry import get, is_registered, register
from manyhot.report.chapter import Chapter, NextStep, Tables, listing, percent, with_ends
from manyhot.report.figure import Figure
from manyhot.report.listings import Listing, heads_of
from manyhot.report.text import counted, listed, title_of
from manyhot.tables import Row

MOST_MODELS = 3
"""Models with a sentence of their own, and a panel of the figure."""

MOST_FIRST = 20
"""Rows of the table of the first errors."""

_COMPANIONS = NextStep(
    "find classes whose recall depends on a companion.",
    "manyhot diagnose companions DATASET --predictions FOLDER",
)
NEXT = {"valid-label": LIST_LABEL_ISSUES, "unclear": LIST_LABEL_ISSUES, "co-occurrence": _COMPANIONS}
"""The next step by the most frequent kind of error; that of the chapter for the other kinds."""

_AGAINST = {"label": "the original label", "set": "the label set"}


@register(
    "chapter",
    "errors",
    tables=("findings", "class_errors"),
    next=NextStep(
        "find groups of images on which the model fails.",
        "manyhot diagnose groups DATASET --predictions FOLDER",
    ),
)
def errors_chapter(named: Tables, folder: Path, draw: bool) -> Chapter | None:
    """Return the chapter about errors, or None if there are no findings of ``diagnose errors``."""
    about = tables.metadata(named["findings"]) if "findings" in named else {}
    if "rules" not in about or "models" not in about:
        return None
    # The best models first: of many, only some are named.
    models = sorted(json.loads(about["models"]), key=lambda m: m["n_errors"] / max(m["n"], 1))
    rows = [row for model in models for row in _kind_rows(model)]
    link = image_links(folder)
    wrong = wrong_labels_sentence(json.loads(about["skipped_rules"]), json.loads(about["min_confidence"]))
    pairs = named.get("class_errors")
    of_pairs = json.loads(tables.metadata(pairs).get("counts", "[]")) if pairs is not None else []
    of_classes = (
        (class_counts_listing(of_pairs), class_error_listing(pairs, MOST_FIRST, link)) if of_pairs else ()
    )
    first, *more = (*class_errors_answer(of_pairs), "")
    lead = (first, " ".join(more).strip(), _answer(models, about), wrong * bool(rows), _how(about))
    return Chapter(
        "errors",
        "Errors",
        "What the errors are",
        tuple(filter(None, lead)),
        _draw(rows) if draw else (),
        (*of_classes, _kinds(rows), _first(named["findings"], link)),
        next=LIST_LABEL_ISSUES if wrong and rows else _next(models),
        gallery="See the errors of the highest confidence." if link else "",
    )


def _answer(models: Sequence[Row], about: Mapping[str, str]) -> str:
    if len(models) <= MOST_MODELS:
        return " ".join(errors_sentence(m, about) for m in models)
    n = len({m["model"] for m in models})
    where = f"The figure shows the {MOST_MODELS} models with the fewest errors; the table shows all models."
    return f"{errors_sentence(models[0], about)} {counted(n, 'model')} were compared. {where}"


def errors_sentence(model: Row, about: Mapping[str, str]) -> str:
    """Return the number of errors that a model makes, and their most frequent kinds."""
    n, n_errors, least = model["n"], model["n_errors"], json.loads(about["min_confidence"])
    share = f" ({percent(n_errors / n)})" if n else ""
    where = f"{n:,} images of {title_of(model['dataset'])}{share}, by {_AGAINST[about['event']]}"
    n_sorted, counts = model["n_sorted"], Counter[str](model["counts"])
    which = "these" if least is None else f"the {n_sorted:,} with a confidence above {least:g}"
    kinds = [f"{percent(count / n_sorted)} {kind}" for kind, count in counts.most_common(3) if count]
    rest = f": {which} are {listed(kinds, 3)}" if kinds else ""
    return f"{model['model']} makes {counted(n_errors, 'error')} on {where}{rest}."


def _how(about: Mapping[str, str]) -> str:
    skipped = json.loads(about["skipped_rules"])
    reasons = "; ".join(f"{rule}: {why}" for rule, why in skipped.items())
    order = "The kind of an error is the first rule that matches, in the order of the table."
    return f"{order} Skipped rules: {reasons}." if reasons else order


def _kind_rows(model: Row) -> Iterator[Row]:
    n = model["n_sorted"]
    for kind, count in model["counts"].items() if n else ():
        lo, hi = (float(end) for end in proportion_interval(count, n))
        yield {**model, "kind": kind, "errors": count, "share": count / n, "lo": lo, "hi": hi}


def _next(models: Sequence[Row]) -> NextStep | None:
    counts: Counter[str] = sum((Counter(m["counts"]) for m in models), Counter())
    return next((NEXT.get(kind) for kind, _ in counts.most_common(1)), None)


def _draw(rows: Sequence[Row]) -> tuple[Figure, ...]:
    from manyhot.diagnose.findings_figures import draw_error_kinds

    models = list(dict.fromkeys((r["dataset"], r["model"]) for r in rows))[:MOST_MODELS]
    return draw_error_kinds([[r for r in rows if (r["dataset"], r["model"]) == of] for of in models])


def _kinds(rows: Sequence[Row]) -> Listing:
    names = ("kind", "model", "errors", "share", "what it means", "data set")
    heads = heads_of(names, ("errors", "share"))
    return listing("errors-by-kind", "Errors by kind", heads, rows, _kind_cells)


def _kind_cells(r: Row) -> tuple[str, ...]:
    meaning = get("rule", r["kind"]).summary if is_registered("rule", r["kind"]) else "No rule matches."
    counts = f"{r['errors']:,} of {r['n_sorted']:,}", with_ends(r["share"], r["lo"], r["hi"], 1)
    return r["kind"], r["model"], *counts, meaning, title_of(r["dataset"])


def _first(findings: pa.Table, link: Callable[[Row], str] | None) -> Listing:
    names = ("image", "label", "predicted", "kind", "confidence", "model")
    heads = heads_of(names, ("confidence",))
    rows = first_findings(findings, "confidence", MOST_FIRST)
    without = all(r["label"] is None for r in rows)
    return listing(
        "errors-first",
        "Errors of the highest confidence"
        if any(r["confidence"] is not None for r in rows)
        else "First errors",
        heads,
        rows,
        lambda r: (
            r["image_id"],
            "" if without else name_of_class(r, "label"),
            name_of_class(r, "class_b"),
            r["kind"],
            "" if r["confidence"] is None else f"{r['confidence']:.2f}",
            r["model"],
        ),
        link=link,
    )
