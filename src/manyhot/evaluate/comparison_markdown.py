"""A comparison of models as Markdown, for the summary of a pull request."""

from __future__ import annotations

import re
from collections.abc import Sequence

from manyhot.errors import printable
from manyhot.evaluate.pairwise import (
    Difference,
    answer,
    cells,
    differences,
    leading_of,
    noise_line,
    to_best,
    verdict_line,
)
from manyhot.evaluate.slice_differences import by_slice
from manyhot.tables import Results

_RULE = f"| --- |{' ---: |' * 6}"


def markdown(results: Results, margin: float | None, notes: Sequence[str] = ()) -> str:
    """Return the comparison of two models as Markdown, for the summary of a pull request.

    Parameters
    ----------
    results : Results
    margin : float, optional
        The margin of `is_worse`; None for no verdict.
    notes : sequence of str
        Remarks below the table.
    """
    lines: list[str] = []
    for dataset in results.datasets:
        found = differences(results, dataset)
        if not found:
            line = noise_line(*to_best(results, dataset))
            lines += [f"### {_escaped(dataset)}", "", _escaped(line) or "No models were compared.", ""]
            continue
        leading = leading_of(found)
        lines += [f"### {_escaped(dataset)}: {_escaped(answer(leading))}", ""]
        lines += [_escaped(verdict_line(leading, margin)), ""] if margin is not None else []
        minus = f"difference ({leading.model} − {leading.reference})"
        head = ("metric", leading.reference, leading.model, minus, "95 %", "p", "n")
        lines += [_row(head), _RULE]
        lines += [_row((d.metric.name, *cells(d))) for d in found]
        lines += ["", *_slices(by_slice(results, dataset))]
    return "\n".join([*lines, *(f"Note: {_escaped(note)}." for note in notes)]).rstrip() + "\n"


def _slices(pairs: Sequence[Difference]) -> list[str]:
    """Return the table of two models by slice; empty if they were not compared on slices."""
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
