"""Is one model better than another on each slice of the images? Differences, and sentences that answer."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from pyarrow import compute as pc
from scipy.special import ndtri

from manyhot.console import table_lines
from manyhot.core.effects import cochran_q
from manyhot.core.resampling import LEVEL
from manyhot.errors import first_names, printable
from manyhot.evaluate.compared_pairs import CLUSTERED, DISJOINT
from manyhot.evaluate.pairwise import (
    NOISE,
    Difference,
    answer,
    cells,
    conclusions,
    differences,
    differences_at,
    leading_of,
    p_text,
    to_best,
    votes_sentence,
    with_holm,
)
from manyhot.evaluate.ranks import leading_metric
from manyhot.evaluate.slices import ALL, column_of
from manyhot.tables import Results

GATE_VERDICTS = "verdicts"
"""Key of the metadata with the verdicts of a gate: data sets and sentences, as JSON."""

_SHOWN = 10
"""Slices that a sentence names; the table above it has all of them."""

_UNTESTED = (
    "No slice can be tested, because no difference has an interval there: the slices have too few images, or "
    "too few positives of their classes, or there are no resamples."
)


def sliced(results: Results, dataset: str) -> list[str]:
    """Return the slices of a data set on which models are compared."""
    pairs = results.pairs
    names: list[str] = pairs.filter(pc.equal(pairs["dataset"], dataset))["slice"].unique().to_pylist()
    return [name for name in names if name != ALL]


def by_slice(results: Results, dataset: str) -> list[Difference]:
    """Return the differences in the leading metric between the second model and the first on each slice.

    `p_adjusted` has Holm's correction for the number of slices. The list is empty unless there are
    two models that are compared on slices.
    """
    names = sliced(results, dataset)
    metric = leading_metric(results, dataset) if names else ""
    return with_holm(differences_at(results, [(dataset, metric, name) for name in names]))


def lines_by_slice(results: Results, dataset: str) -> Iterator[str]:
    """Yield the comparison of two models, or of all models with the best, on each slice."""
    pairs = by_slice(results, dataset)
    if pairs:
        yield f"{dataset}: {pairs[0].metric.name} on each slice, intervals uncorrected"
        head = ("slice", pairs[0].reference, pairs[0].model, "difference", "95 %", "p (Holm)", "n")
        yield from table_lines(head, [(pair.slice, *cells(pair)) for pair in pairs])
        yield from slice_sentences(results, pairs)
        return
    rows = [row for name in sliced(results, dataset) if (row := _best_row(results, dataset, name))]
    if rows:
        metric = leading_metric(results, dataset)
        yield f"{dataset}: the best model by {metric} on each slice, and which others are within noise"
        yield from table_lines(("slice", "best", metric, "within noise", "worse", "n"), rows)


def _best_row(results: Results, dataset: str, name: str) -> tuple[str, ...]:
    """Return the best model on a slice and how many others are within noise; empty if none were compared."""
    best, found = to_best(results, dataset, name)
    tested = [pair.p_adjusted for pair in found if pair.p_adjusted is not None]
    if not tested:
        return ()
    n_near = sum(p >= NOISE for p in tested)
    value, n = cells(found[0])[0], f"{found[0].values[0].n:,}"
    return name, best, value, f"{n_near:,}", f"{len(tested) - n_near:,}", n


def slice_sentences(results: Results, pairs: Sequence[Difference]) -> Iterator[str]:
    """Yield on which slices a model is better, and whether the difference depends on the slice."""
    better = defaultdict[str, list[str]](list)
    for pair in pairs:
        if pair.p_adjusted is not None and pair.p_adjusted < NOISE:
            # The difference decides the side: p and the interval are computed in different ways, so that the
            # interval may contain 0.
            is_better = (pair.difference > 0) != pair.metric.lower_is_better
            better[pair.model if is_better else pair.reference].append(pair.slice)
    for model, names in better.items():
        yield f"{model} is better on {first_names(names, _SHOWN)}."
    known = [pair.slice for pair in pairs if pair.p is not None]
    if not better:
        any_slice = "the slice" if len(known) == 1 else f"any of {len(known):,} slices"
        yield f"No difference can be shown on {any_slice}." if known else _UNTESTED
    elif open_slices := [name for name in known if not any(name in names for names in better.values())]:
        yield f"No difference can be shown on {first_names(open_slices, _SHOWN)}."
    untested = [pair for pair in pairs if pair.p is None] if known else []
    without = [pair.slice for pair in untested if any(value.lo is None for value in pair.values)]
    alike = [pair.slice for pair in untested if pair.slice not in without]
    no_interval = f"{pairs[0].metric.name} has no interval there"
    for why, names in (
        (no_interval, without),
        ("the difference is the same for any choice of images", alike),
    ):
        if names:
            yield f"Not tested, because {why}: {first_names(names, _SHOWN)}."
    dataset = pairs[0].dataset
    disjoint = json.loads(results.about.get(DISJOINT, "{}")).get(dataset, [])
    clustered = json.loads(results.about.get(CLUSTERED, "{}")).get(dataset)
    for column in disjoint:
        own = [pair for pair in pairs if column_of(pair.slice) == column]
        if clustered is None:
            yield from _dependence(column, own)
        elif found := clustered[column].get(pairs[0].metric.name):
            yield _depends(column, *found, n_slices=len(own), how="Cochran's Q over clusters")
        elif sum(pair.p is not None for pair in own) > 1:
            yield f"Whether the difference depends on {column} cannot be tested over clusters."


def _dependence(column: str, pairs: Sequence[Difference]) -> Iterator[str]:
    """Yield whether the difference depends on a column; nothing if fewer than two of its slices were tested.

    Slices that share clusters are not independent, as this test assumes; see `_by_clusters` of
    `manyhot.evaluate.judging` for these.

    Notes
    -----
    That one difference excludes 0 and another does not is no evidence that they differ; see Gelman and Stern
    2006, doi 10.1198/000313006X152649.
    """
    tested = [pair for pair in pairs if pair.p is not None and pair.interval is not None]
    if len(tested) < 2:
        return
    errors = np.diff([pair.interval for pair in tested])[:, 0] / (2 * ndtri((1 + LEVEL) / 2))
    values = np.array([pair.difference for pair in tested])
    found = cochran_q(values, errors**2, np.full(len(tested), np.inf))
    if math.isnan(found.p):  # an interval without width
        return
    yield _depends(column, *found, len(tested), n_slices=len(pairs), how="Cochran's Q")


def _depends(column: str, q: float, p: float, n_tested: int, *, n_slices: int, how: str) -> str:
    which = "" if n_tested == n_slices else f"{n_tested:,} of {n_slices:,} slices, "
    how = f"({which}{how} {q:.2f}, p {p_text(p).replace('<', '< ')})"
    if p < NOISE:
        return f"The difference depends on {column} {how}."
    return f"It cannot be shown that the difference depends on {column} {how}."


_RULE = f"| --- |{' ---: |' * 6}"


def markdown(results: Results, verdicts: Sequence[tuple[str, str]] = (), notes: Sequence[str] = ()) -> str:
    """Return the comparison of two models as Markdown, for the summary of a pull request.

    Parameters
    ----------
    verdicts : sequence of tuple of str
        Data sets, and what a gate says of each.
    notes : sequence of str
        Remarks below the table.
    """
    lines: list[str] = []
    for dataset in results.datasets:
        found = differences(results, dataset)
        if not found:
            line = conclusions(results).get(dataset, "")
            lines += [f"### {_escaped(dataset)}", "", _escaped(line) or "No models were compared.", ""]
            continue
        leading = leading_of(found)
        votes = votes_sentence(results, dataset)
        first, *rest = filter(None, [*verdicts_on(dataset, verdicts), votes, answer(leading)])
        lines += [f"### {_escaped(dataset)}: {_escaped(first)}", ""]
        lines += [text for line in rest for text in (_escaped(line), "")]
        minus = f"difference ({leading.model} − {leading.reference})"
        head = ("metric", leading.reference, leading.model, minus, "95 %", "p", "n")
        lines += [_row(head), _RULE]
        lines += [_row((d.metric.name, *cells(d))) for d in found]
        lines += ["", *_slices(by_slice(results, dataset))]
    return "\n".join([*lines, *(f"Note: {_escaped(note)}." for note in notes)]).rstrip() + "\n"


def verdicts_on(dataset: str, verdicts: Sequence[tuple[str, str]]) -> list[str]:
    """Return what a gate says of a data set; what it did not pass comes first."""
    return sorted(
        (line for name, line in verdicts if name == dataset), key=lambda line: line.startswith("Passed")
    )


def _slices(pairs: Sequence[Difference]) -> list[str]:
    """Return the table of two models, one row per slice; empty if they were not compared on slices."""
    if not pairs:
        return []
    first = pairs[0]
    head = (
        f"slice, {first.metric.name}",
        first.reference,
        first.model,
        "difference",
        "95 %",
        "p (Holm)",
        "n",
    )
    return [_row(head), _RULE, *(_row((pair.slice, *cells(pair))) for pair in pairs), ""]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_escaped, cells))} |"


def _escaped(text: str) -> str:
    """Return a text that Markdown and HTML show as it is; names may come from anywhere."""
    return re.sub(r"([\\`*\[\]|<>&~])", r"\\\1", printable(text))
