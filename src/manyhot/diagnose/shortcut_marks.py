"""Which pairs of classes are marked as shortcuts, and the sentence that says so."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from manyhot.report.chapter import NextStep, rows_by, testable, with_ends
from manyhot.report.text import counted
from manyhot.tables import Row, RowDict

MIN_LOST = 0.4
"""Share of images that must be lost for a pair to be called a shortcut; SPIRE uses the share of flips."""

MIN_GAP = 0.1
"""Lower end of a gap from which it marks a pair by itself."""

PAIR_KEY = ("model", "main", "companion")
PairKey = tuple[str, int, int]
"""Model, main class and companion of a pair."""

SHORTCUT_MARKS = ("lost", "lost, no control possible", "both gaps", "recall gap", "hallucination gap")
"""Why a pair is marked, strongest first."""

_GAPS = ("recall_gap", "hallucination_gap")
_NAMED = 5  # Marked pairs that the first sentence names.


def with_marks(rows: Iterable[Row], min_lost: float) -> list[RowDict]:
    """Return rows of ``shortcuts`` with the mark of their pair, which depends on all fills of the pair."""
    rows = list(rows)
    marks = {pair: mark_of(own, min_lost) for pair, own in rows_by(rows, *PAIR_KEY).items()}
    return [{**row, "mark": marks[pair_key(row)]} for row in rows]


def mark_of(rows: Sequence[Row], min_lost: float) -> str | None:
    """Return why a pair is marked, given its rows for all fills; None if it is not marked.

    One fill is enough to mark a pair. A gap also marks a pair if the lower end of its interval is at least
    `MIN_GAP`. Gaps are measured on original images, so they can mark a pair even if the companion could not
    be removed.
    """
    lost = [r for r in rows if (r.get("lost") or 0.0) >= min_lost]
    if any(r.get("shortcut") and testable(r) for r in lost):
        return "lost"
    if any(not testable(r) for r in lost):
        return "lost, no control possible"
    gaps = _gaps(rows[0])
    return ("both gaps" if len(gaps) > 1 else gaps[0].replace("_", " ")) if gaps else None


TESTED, NO_CONTROL, NO_CONTROL_NEEDED = "", "no control possible", "no control needed"
"""What a pair without a mark is: tested, or not for lack of a control. A tested pair may need none."""


def outcomes(rows: Sequence[Row], min_lost: float) -> dict[PairKey, str]:
    """Return, for each pair, `TESTED`, `NO_CONTROL`, or the reason why nothing was removed from its images.

    A marked pair counts as tested, even if only its gaps mark it. An unmarked pair counts as tested if each
    fill was tested.
    """
    return {pair: _outcome(own, min_lost) for pair, own in rows_by(rows, *PAIR_KEY).items()}


def _outcome(rows: Sequence[Row], min_lost: float) -> str:
    if rows[0]["mark"]:
        return TESTED
    skipped = next((str(r["skipped"]) for r in rows if r["skipped"] is not None), None)
    if skipped is not None:
        return skipped
    return NO_CONTROL if any(about_control(r, min_lost) == NO_CONTROL for r in rows) else TESTED


def about_control(row: Row, min_lost: float) -> str:
    """Return whether an unmarked row has a control, cannot have one, or needs none.

    The loss beyond a control is at most the loss, so a pair needs no control if the interval of its loss is
    below the threshold.
    """
    if testable(row):
        return TESTED
    return NO_CONTROL_NEEDED if (row["lost_hi"] or 0.0) < min_lost else NO_CONTROL


def conclusion(rows: Sequence[Row], min_lost: float) -> list[str]:
    """Return the sentences of the answer: how many tested pairs are marked, and why.

    The last sentence is about the pairs for which no control is possible. All other pairs are counted in
    `untested_lines`, so that each pair is counted once.
    """
    found = outcomes(rows, min_lost)
    marked: dict[PairKey, Row] = {}
    for r in sorted(rows, key=lambda r: -(r.get("lost") or 0.0)):
        if r["mark"]:
            marked.setdefault(pair_key(r), r)
    counts = Counter(found.values())
    n, unknown = counts[TESTED], counts[NO_CONTROL]
    said = [f"Marked as shortcuts: {len(marked):,} of {counted(n, 'pair')}." if n else "No pair was tested."]
    said += [_marked(r) for r in [*marked.values()][:_NAMED]]
    if len(marked) > _NAMED:
        said.append(f"And {len(marked) - _NAMED:,} more.")
    if small := smaller_losses(rows):
        said.append(_smaller(small, len(marked), min_lost))
    said += _unmarked_gaps(rows)
    if unknown:
        said.append(
            f"{counted(unknown, 'other pair' if n else 'pair')} cannot be tested: no control is possible."
        )
    return said


def smaller_losses(rows: Sequence[Row]) -> list[Row]:
    """Return one row per unmarked pair with a clear loss beyond its control, clearest first."""
    found: dict[PairKey, Row] = {}
    for r in sorted(rows, key=lambda r: -(r.get("lo") or 0.0)):
        if not r["mark"] and (r.get("lo") or 0.0) > 0 and testable(r):
            found.setdefault(pair_key(r), r)
    return [*found.values()]


def _smaller(rows: Sequence[Row], n_marked: int, min_lost: float) -> str:
    """Return how many pairs only stay below the threshold, with the clearest of them."""
    r, more = rows[0], "more " if n_marked else ""
    which = f"{len(rows):,} {more}pair{'s lose' if len(rows) > 1 else ' loses'}"
    return (
        f"{which} predictions beyond the control, but on fewer than {100 * min_lost:.3g} % of the images; "
        f"in the clearest case, without {r['companion_name']}, {r['main_name']} is no longer predicted on "
        f"{100 * r['lost']:.0f} % of {counted(r['n'], 'image')}, compared with "
        f"{100 * r['control_lost']:.0f} % in "
        "the control."
    )


def _unmarked_gaps(rows: Sequence[Row]) -> list[str]:
    """Return how many unmarked pairs have a gap above 0, and both gaps of the clearest of them.

    If a gap is above 0, `manyhot mitigate` says that a shortcut is present.
    """
    small: dict[PairKey, Row] = {}
    for r in sorted(rows, key=lambda r: -max(r.get(f"{gap}_lo") or 0.0 for gap in _GAPS)):
        if not r["mark"] and _gaps(r, 0.0):
            small.setdefault(pair_key(r), r)
    if not small:
        return []
    have = "pairs have gaps" if len(small) > 1 else "pair has a gap"
    extends = f"whose 95 % interval excludes 0, but extends below {100 * MIN_GAP:.0f} points"
    said = [f"{len(small):,} unmarked {have} {extends}:"]
    for r in [*small.values()][:_NAMED]:
        said.append(f"{r['main_name']} and {r['companion_name']}: {'; '.join(_gap_texts(r, _GAPS))}.")
    return said + [f"And {len(small) - _NAMED:,} more."] * (len(small) > _NAMED)


def clearest_loss(tested: Sequence[Row]) -> str:
    """Return a sentence on the first of the pairs, which has the clearest loss beyond the control."""
    if not tested:
        return ""
    r = tested[0]
    shares = (with_ends(r[name], r[f"{name}_lo"], r[f"{name}_hi"]) for name in ("lost", "control_lost"))
    lost, control = shares
    return (
        f" The clearest loss: without {r['companion_name']}, {r['main_name']} is no longer predicted on "
        f"{lost} of {counted(r['n'], 'image')}. The control has the same effect on {control} of "
        f"{r['n_control']:,} images."
    )


def untested_lines(rows: Sequence[Row], min_lost: float) -> Iterator[str]:
    """Yield the number of pairs from which nothing was removed, by reason, most frequent first."""
    for why, n in Counter(outcomes(rows, min_lost).values()).most_common():
        if why not in (TESTED, NO_CONTROL):
            yield f"not tested: {counted(n, 'pair')}, {why}"


def pair_key(row: Row) -> PairKey:
    """Return the model and the two classes, which identify a pair for all fills."""
    return row["model"], row["main"], row["companion"]


def _gaps(row: Row, least: float = MIN_GAP) -> list[str]:
    return [name for name in _GAPS if (lo := row.get(f"{name}_lo") or 0.0) > 0 and lo >= least]


def _marked(r: Row) -> str:
    """Return a marked pair with the numbers that mark it."""
    main, companion, why = r["main_name"], r["companion_name"], []
    if r["mark"].startswith("lost"):
        has_control = testable(r) and r["control_lost"] is not None
        control = f"{100 * r['control_lost']:.0f} % in the control" if has_control else NO_CONTROL
        lost = f"{100 * r['lost']:.0f} % of {counted(r['n'], 'image')} ({r['fill']}; {control})"
        why.append(f"without {companion}, {main} is no longer predicted on {lost}")
    why += _gap_texts(r, _gaps(r))
    return f"{main} and {companion}: {'; '.join(why)}."


def _gap_texts(r: Row, gaps: Sequence[str]) -> list[str]:
    """Return the given gaps of a pair that could be measured, with their intervals."""
    more = {"recall_gap": "recall is {} higher", "hallucination_gap": "false positives are {} more frequent"}
    measured = [gap for gap in gaps if r.get(gap) is not None]
    return [f"{more[gap].format(_points(r, gap))} with {r['companion_name']}" for gap in measured]


def _points(r: Row, gap: str) -> str:
    value, lo, hi = (f"{100 * r[gap + end]:.0f}" for end in ("", "_lo", "_hi"))
    return f"{value} points ({lo} to {hi})"


def step_without(main: str, companion: str, named: str, objects: str = "FILE", labels: str = "") -> NextStep:
    """Return the next step: fit a head that does not depend on the companion, whose name is `named`."""
    pair = shlex.quote(f"{main}:{companion}")
    command = (
        f"manyhot mitigate IMAGES --objects {objects} --labels {labels} --model NAME --pair {pair}"
        if labels
        else f"manyhot mitigate IMAGES --objects {objects} --model NAME --pair {pair}"
    )
    return NextStep(f"fit a head that does not depend on {named}.", command)
