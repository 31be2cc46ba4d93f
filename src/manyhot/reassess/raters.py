"""Statistics of each rater: the table ``raters``."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot.console import table_lines
from manyhot.core import raters as quality
from manyhot.core.aggregation import Aggregate
from manyhot.core.answers import YES, Answers, GoldenAnswers
from manyhot.core.array_types import Bools, Floats
from manyhot.core.rater_pairs import COPIER, FEWEST_ERRORS, RaterPairs, rater_pairs
from manyhot.core.raters import (
    ChoiceQuality,
    Quality,
    agreement_with_others,
    beside_main_partner,
    choice_quality,
    golden_quality,
    peer_quality,
    too_fast,
)
from manyhot.errors import first_names
from manyhot.tables import Votes, schema
from manyhot.tables.choices import choices_of
from manyhot.tables.definitions import COUNT, REAL, TEXT, TEXTS, declare_table, interval

FLAGS = {
    "spammer": f"informedness and the upper end of its interval below {quality.SPAMMER:g}, on golden "
    f"questions or against other raters, with at least {quality.FEWEST_GOLDEN} answers to questions of each "
    "truth",
    "copier": f"at least {FEWEST_ERRORS} questions on which at least one of two raters disagrees "
    f"with the majority of the other raters; on at least {COPIER:.0%} of these, both disagree and "
    "give the same answer",
    "too fast": f"less than {quality.TOO_FAST:.0%} of the median rater's time per answer, on at least "
    f"{quality.FEWEST_PAGES} pages",
}
"""What raters are flagged for, and when. A flag is a reason to look, not a verdict."""

MEASURED_ON = ("golden answers", "other raters")

declare_table(
    "raters",
    (
        TEXT("rater_id", "who answered"),
        COUNT("votes", "number of answers"),
        REAL("no", "share of no among the answers"),
        REAL("maybe", "share of maybe among the answers"),
        REAL("yes", "share of yes among the answers"),
        *interval(
            "agreement", "share of other raters' answers to the same questions that equal this rater's answer"
        ),
        COUNT("others", "number of other raters' answers to the same questions"),
        REAL.nullable(
            "sensitivity",
            "estimated probability of the answer yes if the true answer is yes; null if the method does not "
            "estimate it",
        ),
        REAL.nullable(
            "specificity",
            "estimated probability of the answer no or maybe if the true answer is no; null if the method "
            "does not estimate it",
        ),
        COUNT("golden", "number of golden questions answered"),
        COUNT("golden_yes", "number of answered golden questions whose true answer is yes"),
        *interval(
            "golden_accuracy",
            "share of correct answers to golden questions, where maybe counts as no",
        ),
        *interval(
            "golden_sensitivity", "share of yes among answers to golden questions whose true answer is yes"
        ),
        *interval(
            "golden_specificity",
            "share of no or maybe among answers to golden questions whose true answer is no",
        ),
        *interval(
            "informedness",
            "how well answers separate the two truths: 2 AUC - 1, or sensitivity + specificity - 1 if there "
            "are no maybes; measured on golden questions if both truths occur, otherwise against the "
            "majority of the other raters (for choices, the mean over the true classes, weighted by images)",
        ),
        TEXT.optional(
            "measured_on", "what informedness is measured on; null if it is undefined", values=MEASURED_ON
        ),
        REAL.nullable("seconds", "median time per answer; null if no times were recorded"),
        COUNT("pages", "number of pages on which the time was measured"),
        TEXTS("flags", "what is suspicious", values=tuple(FLAGS)),
    ),
)


def raters_table(
    votes: Votes,
    answers: Answers,
    golden: GoldenAnswers | None = None,
    result: Aggregate | None = None,
    pairs: RaterPairs | None = None,
) -> pa.Table:
    """Return the table ``raters``, a row for each rater of the votes.

    Parameters
    ----------
    votes : Votes
    answers : Answers
        The same votes as arrays.
    golden : GoldenAnswers, optional
    result : Aggregate, optional
        Result of an aggregator, which contains estimates of the quality of raters.
    pairs : RaterPairs, optional
        Result of `manyhot.core.rater_pairs.rater_pairs`, which is called if this is None.
    """
    counts = answers.of_raters()
    by_peers: Callable[..., Quality | ChoiceQuality] = partial(peer_quality, answers, votes.image)
    if votes.kind:  # which answers no are stored depends on what others chose, so only answers yes count
        counts = counts * (0, 0, 1)
        by_peers = partial(choice_quality, answers, votes.image, votes.class_id)
    peers = by_peers()
    suspicious = peers.spammers()
    if suspicious.any():  # one other rater may be the one who guesses
        suspicious &= by_peers(without=beside_main_partner(answers)).spammers()
    share = counts / np.maximum(counts.sum(1)[:, None], 1)
    alike, others = agreement_with_others(answers, votes.image, choices=bool(votes.kind))
    on_golden = None if golden is None else golden_quality(golden)
    own: Quality | ChoiceQuality | None = on_golden
    if golden is not None and golden.choices is not None:
        rater, truth, chosen = golden.choices
        own = ChoiceQuality(rater, truth, chosen, votes.n_raters)
    informedness, suspicious, is_on_golden = _informedness(peers, suspicious, own)
    seconds, pages = _seconds(votes)
    if pairs is None:
        pairs = rater_pairs(answers, choices_of(votes) if votes.kind else None)
    copiers = _copiers(pairs, votes.n_raters)
    sensitivity, specificity = _estimated(result, votes.n_raters)
    columns: dict[str, Any] = {
        "rater_id": votes.rater_id,
        "votes": counts.sum(1),
        **dict(zip(("no", "maybe", "yes"), share.T, strict=True)),
        **_with_ends("agreement", alike),
        "others": others,
        "sensitivity": _or_null(sensitivity),
        "specificity": _or_null(specificity),
        **_golden_columns(on_golden, votes.n_raters),
        **_with_ends("informedness", informedness),
        "measured_on": pa.array(np.where(is_on_golden, *MEASURED_ON), mask=np.isnan(informedness[0])),
        "seconds": _or_null(seconds),
        "pages": pages,
        "flags": _flags(suspicious, copiers, too_fast(seconds, pages)),
    }
    return pa.table(columns, schema=schema("raters"))


def single_class_notes(golden: GoldenAnswers | None) -> Iterator[str]:
    """Yield a note on golden images on which informedness of choices is not measured."""
    if golden is None or golden.choices is None:
        return
    n_images = len(np.unique(golden.images))
    n = np.count_nonzero(np.bincount(golden.images[golden.truth()]) == 1)
    if n < n_images:
        yield (
            f"informedness is measured on {n:,} of {n_images:,} golden images: those with exactly one valid "
            "class"
        )


def unflagged_notes(raters: pa.Table) -> Iterator[str]:
    """Yield a note on raters with the informedness of spammers that may be that of the others."""
    found = [
        r["rater_id"]
        for r in raters.select(("rater_id", "informedness_hi", "measured_on", "flags")).to_pylist()
        if r["measured_on"] == MEASURED_ON[1]
        and r["informedness_hi"] is not None
        and r["informedness_hi"] < quality.SPAMMER
        and "spammer" not in r["flags"]
    ]
    if found:
        yield (
            f"{first_names(found, 5)}: informedness is below {quality.SPAMMER:g}, but they are not flagged, "
            "because most of their questions have one other answer, by the same rater, who may be the one "
            f"who guesses, or because fewer than {quality.FEWEST_GOLDEN} answers of either truth are compared"
        )


def _estimated(result: Aggregate | None, n: int) -> tuple[Floats, Floats]:
    if result is None or result.matrices is None:
        return np.full(n, np.nan), np.full(n, np.nan)
    # Yes is the last answer and the last truth, no the first truth, whatever stands between.
    return result.matrices[:, -1, -1], 1 - result.matrices[:, 0, -1]


_TRUTHS = {"golden_accuracy": (0, 1), "golden_sensitivity": (1,), "golden_specificity": (0,)}


def _golden_columns(on_golden: Quality | None, n: int) -> dict[str, Any]:
    nothing = (np.full(n, np.nan),) * 3
    columns: dict[str, Any] = {
        "golden": np.zeros(n, np.int64) if on_golden is None else on_golden.n,
        "golden_yes": np.zeros(n, np.int64) if on_golden is None else on_golden.n_yes,
    }
    for name, truths in _TRUTHS.items():
        columns |= _with_ends(name, nothing if on_golden is None else on_golden.share(truths))
    return columns


def _with_ends(name: str, values: Sequence[Floats]) -> dict[str, pa.Array]:
    """Return the columns of a value and of the ends of its interval."""
    return dict(zip((name, f"{name}_lo", f"{name}_hi"), map(_or_null, values), strict=True))


def _informedness(
    peers: Quality | ChoiceQuality, suspicious: Bools, golden: Quality | ChoiceQuality | None
) -> tuple[tuple[Floats, ...], Bools, Bools]:
    """Return informedness with its interval, who is a spammer by it, and whose is on golden questions.

    `suspicious` are the spammers by the answers of others. A few golden questions may not suffice to flag a
    rater whom hundreds of other answers contradict. Such a rater remains flagged, unless the golden questions
    show an informedness of at least `SPAMMER`.
    """
    values = peers.informedness()
    if golden is None:
        return values, suspicious, np.zeros(len(suspicious), bool)
    own = golden.informedness()
    both = ~np.isnan(own[0])
    merged = tuple(np.where(both, g, p) for g, p in zip(own, values, strict=True))
    contradicted = both & (own[0] >= quality.SPAMMER)
    return merged, golden.spammers() | (suspicious & ~contradicted), both


def _copiers(pairs: RaterPairs, n: int) -> npt.NDArray[np.bool_]:
    is_copier = np.zeros(n, bool)
    copies = pairs.copiers()
    is_copier[pairs.a[copies]] = is_copier[pairs.b[copies]] = True
    return is_copier


def _seconds(votes: Votes) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return each rater's median seconds for an answer, and the number of pages with times."""
    seconds, pages = np.full(votes.n_raters, np.nan), np.zeros(votes.n_raters, np.int64)
    more = votes.more
    if more is None or not {"shown_at", "answered_at"} <= set(more.column_names):
        return seconds, pages
    import polars as pl

    page = more["page_id"] if "page_id" in more.column_names else more["shown_at"]
    frame = pl.DataFrame(
        {
            "rater": votes.rater,
            "page": pl.from_arrow(page),
            "shown": pl.from_arrow(more["shown_at"]),
            "answered": pl.from_arrow(more["answered_at"]),
        }
    )
    frame = (frame.filter(votes.answer == YES) if votes.kind else frame).drop_nulls()
    time = (pl.col("answered").max() - pl.col("shown").min()).dt.total_microseconds() / 1e6 / pl.len()
    of_pages = frame.group_by("rater", "page").agg(time.alias("seconds"))
    of_raters = of_pages.group_by("rater").agg(pl.col("seconds").median(), pl.len().alias("pages"))
    rater = of_raters["rater"].to_numpy()
    seconds[rater], pages[rater] = of_raters["seconds"].to_numpy(), of_raters["pages"].to_numpy()
    return seconds, pages


def _flags(*flagged: npt.NDArray[np.bool_]) -> pa.Array:
    rows = zip(*flagged, strict=True)
    return pa.array(
        [[n for n, is_so in zip(FLAGS, row, strict=True) if is_so] for row in rows], pa.list_(pa.string())
    )


def _or_null(values: Floats) -> pa.Array:
    """Return a column with null in place of NaN."""
    return pa.array(np.asarray(values, np.float64), from_pandas=True)


# What a terminal shows.


SHOWN_RATERS = 20
"""Maximum number of raters on a terminal: the least and the most informative ones."""


def rater_lines(raters: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the raters by ascending informedness, with their measures; raters without informedness last.

    If there are more than `SHOWN_RATERS` and some were measured on golden questions, only these are shown. If
    there are still more, only the least and the most informative ones are shown.
    """
    most = SHOWN_RATERS
    ranked = sorted((r for r in raters if r["informedness"] is not None), key=lambda r: r["informedness"])
    shown: list[Mapping[str, Any] | None] = [*ranked, *(r for r in raters if r["informedness"] is None)]
    if len(shown) > most:
        ranked = [r for r in ranked if r["measured_on"] == MEASURED_ON[0]] or ranked
        shown = [*ranked] if len(ranked) <= most else [*ranked[: most // 2], None, *ranked[-(most // 2) :]]
    shares = ("like others", "golden (yes)", "accuracy", "sensitivity", "specificity")
    head = ("rater", "votes", *shares, "informedness", "measured on", "flags")
    rows = [("…",) * len(head) if r is None else _cells(r) for r in shown]
    # Without golden answers some columns are empty, and mostly nobody is flagged.
    used = [i for i in range(len(head)) if any(row[i] not in ("", "–", "…") for row in rows)]
    if len({row[-2] for row in rows} - {"…", "–"}) == 1:
        used.remove(len(head) - 2)
    yield from table_lines(tuple(head[i] for i in used), [tuple(row[i] for i in used) for row in rows])
    if len(raters) > most:
        n = f"{sum(r is not None for r in shown)} of {len(raters):,}"
        yield f"{n} raters are shown: the least and the most informative ones; `out` writes all raters"


def _with_interval(r: Mapping[str, Any], name: str) -> str:
    """Return a share with its interval, without decimals, so that a row fits the terminal."""
    lo, hi = r[f"{name}_lo"], r[f"{name}_hi"]
    return share_text(r[name]) + ("" if lo is None else f" ({100 * lo:.0f} to {100 * hi:.0f})")


def _cells(r: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        r["rater_id"],
        f"{r['votes']:,}",
        _with_interval(r, "agreement") + (f" of {r['others']:,}" if r["agreement"] is not None else ""),
        f"{r['golden']:,} ({r['golden_yes']:,})" if r["golden"] else "–",
        *(_with_interval(r, name) for name in _TRUTHS),
        value_with_interval(r["informedness"], r["informedness_lo"], r["informedness_hi"]),
        r["measured_on"] or "–",
        ", ".join(r["flags"]),
    )


def flag_lines(raters: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the flagged raters with the reasons."""
    for flag, rule in FLAGS.items():
        flagged = [r["rater_id"] for r in raters if flag in r["flags"]]
        if flagged:
            yield from textwrap.wrap(
                f"{flag}: {first_names(flagged, 10)} ({rule})", 88, subsequent_indent="  "
            )


def decimal_text(value: float | None) -> str:
    """Return a value with four decimals; a dash if it is undefined."""
    return "–" if value is None or value != value else f"{value:z.4f}"


def share_text(value: float | None) -> str:
    """Return a share as a percentage; a dash if it is undefined."""
    return "–" if value is None or value != value else f"{value:.1%}"


def interval_text(lo: float | None, hi: float | None) -> str:
    """Return an interval; a dash if there is none."""
    return "–" if lo is None or hi is None or lo != lo else f"{lo:z.4f} to {hi:z.4f}"


def value_with_interval(value: float | None, lo: float | None, hi: float | None) -> str:
    """Return a value and, in parentheses, its interval if there is one."""
    ends = interval_text(lo, hi)
    return decimal_text(value) if ends == "–" else f"{decimal_text(value)} ({ends})"
