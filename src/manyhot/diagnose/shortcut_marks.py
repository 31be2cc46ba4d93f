"""Which pairs of classes are marked as shortcuts, and the sentence that says so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from manyhot.report.chapter import n_pairs, testable
from manyhot.report.text import counted
from manyhot.tables import Row, RowDict

MIN_LOST = 0.4
"""Share of images that must be lost for a pair to be called a shortcut; SPIRE uses the share of flips."""

MIN_GAP = 0.1
"""Lower end of a gap from which it marks a pair by itself."""

SHORTCUT_MARKS = ("lost", "lost, no control possible", "both gaps", "recall gap", "hallucination gap")
"""Why a pair is marked, strongest first."""

_GAPS = ("recall_gap", "hallucination_gap")
_NAMED = 5  # Marked pairs that the first sentence names.


def with_marks(rows: Iterable[Row], min_lost: float) -> list[RowDict]:
    """Return rows of ``shortcuts`` with the mark of their pair, for all fills together."""
    rows = list(rows)
    pairs: dict[tuple[str, int, int], list[Row]] = {}
    for row in rows:
        pairs.setdefault(_pair(row), []).append(row)
    marks = {pair: mark_of(own, min_lost) for pair, own in pairs.items()}
    return [{**row, "mark": marks[_pair(row)]} for row in rows]


def mark_of(rows: Sequence[Row], min_lost: float) -> str | None:
    """Return why a pair is marked, from its rows for each fill; None if it is not.

    The worse fill decides. Gaps need no altered images, so they mark a pair by themselves, whether or not the
    companion could be removed: the lower end of the interval must be at least `MIN_GAP`.
    """
    lost = [r for r in rows if (r.get("lost") or 0.0) >= min_lost]
    if any(r.get("shortcut") and testable(r) for r in lost):
        return "lost"
    if any(not testable(r) for r in lost):
        return "lost, no control possible"
    gaps = _gaps(rows[0])
    return ("both gaps" if len(gaps) > 1 else gaps[0].replace("_", " ")) if gaps else None


def conclusion(rows: Sequence[Row], min_lost: float) -> list[str]:
    """Return the sentences that are the answer: how many pairs are marked, why, and what stays unknown.

    The loss beyond a control is at most the loss, so a pair whose loss is surely below the threshold needs no
    control to be tested.
    """
    judged = [r for r in rows if r["skipped"] is None or r.get("recall_gap") is not None]
    marked: dict[tuple[str, int, int], Row] = {}
    for r in sorted(judged, key=lambda r: -(r.get("lost") or 0.0)):
        if r["mark"]:
            marked.setdefault(_pair(r), r)
    unknown = {_pair(r) for r in judged if not _settled(r, min_lost)} - marked.keys()
    found = [f"Marked as shortcuts: {len(marked):,} of {counted(n_pairs(judged), 'pair')}."]
    found += [_marked(r) for r in [*marked.values()][:_NAMED]]
    if len(marked) > _NAMED:
        found.append(f"And {len(marked) - _NAMED:,} more.")
    if unknown:
        found.append(f"{counted(len(unknown), 'other pair')} cannot be tested: no control is possible.")
    return found


def _pair(row: Row) -> tuple[str, int, int]:
    return row["model"], row["main"], row["companion"]


def _settled(row: Row, min_lost: float) -> bool:
    """Return whether the companion was removed, and the loss compared with a control or surely small."""
    return row["skipped"] is None and (testable(row) or (row["lost_hi"] or 0.0) < min_lost)


def _gaps(row: Row) -> list[str]:
    return [name for name in _GAPS if (row.get(f"{name}_lo") or 0.0) >= MIN_GAP]


def _marked(r: Row) -> str:
    """Return a marked pair with the numbers that mark it."""
    control = ", no control possible" if "," in r["mark"] else ""
    lost = f"{100 * r['lost']:.0f} % lost by {r['fill']}{control}" if r["mark"].startswith("lost") else ""
    gaps = ", ".join(f"{name.replace('_', ' ')} {100 * r[name]:+.0f}" for name in _gaps(r))
    why = "; ".join(filter(None, (lost, gaps and f"{gaps} points")))
    return f"{r['main_name']} without {r['companion_name']}: {why}."
