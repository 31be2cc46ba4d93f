"""What is known about each rater: the table ``raters``."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from manyhot.core.aggregation import Aggregate
from manyhot.core.answers import Answers, Golden
from manyhot.core.quality import (
    Pairs,
    Quality,
    agreement_with_others,
    golden_quality,
    peer_quality,
    rater_pairs,
    too_fast,
)
from manyhot.tables import Votes, schema

Floats = npt.NDArray[np.float64]


def raters_table(
    votes: Votes,
    answers: Answers,
    golden: Golden | None = None,
    result: Aggregate | None = None,
    pairs: Pairs | None = None,
) -> pa.Table:
    """Return the table ``raters``, a row for each rater of the votes.

    Parameters
    ----------
    votes : Votes
    answers : Answers
        The same votes as arrays.
    golden : Golden, optional
    result : Aggregate, optional
        Gives what a method has found out about raters.
    pairs : Pairs, optional
        Of `manyhot.core.quality.rater_pairs`, which is called by default.
    """
    given = answers.of_raters()
    share = given / np.maximum(given.sum(1, keepdims=True), 1)
    alike, others = agreement_with_others(answers)
    on_golden = None if golden is None else golden_quality(golden)
    informedness, suspicious = _informedness(peer_quality(answers, votes.image), on_golden)
    seconds, pages = _seconds(votes)
    copiers = _copiers(rater_pairs(answers) if pairs is None else pairs, votes.n_raters)
    sensitivity, specificity = _estimated(result, votes.n_raters)
    columns: dict[str, Any] = {
        "rater_id": votes.rater_id,
        "votes": given.sum(1),
        **dict(zip(("no", "maybe", "yes"), share.T, strict=True)),
        "agreement": _known(alike),
        "others": others,
        "sensitivity": _known(sensitivity),
        "specificity": _known(specificity),
        **_golden_columns(on_golden, votes.n_raters),
        **dict(
            zip(
                ("informedness", "informedness_lo", "informedness_hi"), map(_known, informedness), strict=True
            )
        ),
        "seconds": _known(seconds),
        "pages": pages,
        "flags": _flags(suspicious, copiers, too_fast(seconds, pages)),
    }
    return pa.table(columns, schema=schema("raters"))


def _estimated(result: Aggregate | None, n: int) -> tuple[Floats, Floats]:
    if result is None or result.matrices is None:
        return np.full(n, np.nan), np.full(n, np.nan)
    # Yes is the last answer and the last truth, no the first truth, whatever stands between.
    return result.matrices[:, -1, -1], 1 - result.matrices[:, 0, -1]


def _golden_columns(quality: Quality | None, n: int) -> dict[str, Any]:
    if quality is None:
        nothing, unknown = np.zeros(n, np.int64), _known(np.full(n, np.nan))
        shares = {f"golden_{s}": unknown for s in ("accuracy", "sensitivity", "specificity")}
        return {"golden": nothing, "golden_yes": nothing, **shares}
    return {
        "golden": quality.n,
        "golden_yes": quality.n_yes,
        "golden_accuracy": _known(quality.accuracy),
        "golden_sensitivity": _known(quality.sensitivity),
        "golden_specificity": _known(quality.specificity),
    }


def _informedness(peers: Quality, golden: Quality | None) -> tuple[tuple[Floats, ...], npt.NDArray[np.bool_]]:
    """Return informedness with its interval, and who is a spammer by it."""
    values, suspicious = peers.informedness(), peers.spammers()
    if golden is None:
        return values, suspicious
    both = (golden.n_yes > 0) & (golden.n > golden.n_yes)
    merged = tuple(np.where(both, g, p) for g, p in zip(golden.informedness(), values, strict=True))
    return merged, np.where(both, golden.spammers(), suspicious)


def _copiers(pairs: Pairs, n: int) -> npt.NDArray[np.bool_]:
    found = np.zeros(n, bool)
    copies = pairs.copiers()
    found[pairs.a[copies]] = found[pairs.b[copies]] = True
    return found


def _seconds(votes: Votes) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return each rater's median seconds for an answer, and the pages that it is known of."""
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
    ).drop_nulls()
    time = (pl.col("answered").max() - pl.col("shown").min()).dt.total_microseconds() / 1e6 / pl.len()
    of_pages = frame.group_by("rater", "page").agg(time.alias("seconds"))
    of_raters = of_pages.group_by("rater").agg(pl.col("seconds").median(), pl.len().alias("pages"))
    rater = of_raters["rater"].to_numpy()
    seconds[rater], pages[rater] = of_raters["seconds"].to_numpy(), of_raters["pages"].to_numpy()
    return seconds, pages


def _flags(*found: npt.NDArray[np.bool_]) -> pa.Array:
    names = ("spammer", "copier", "too fast")
    rows = zip(*found, strict=True)
    return pa.array(
        [[n for n, is_so in zip(names, row, strict=True) if is_so] for row in rows], pa.list_(pa.string())
    )


def _known(values: Floats) -> pa.Array:
    """Return a column in which what is not known is null."""
    column = pa.array(np.asarray(values, np.float64))
    return pc.if_else(pc.is_nan(column), pa.scalar(None, pa.float64()), column)
