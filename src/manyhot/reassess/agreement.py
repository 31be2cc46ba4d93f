"""Votes to what is known about raters and their agreement: `manyhot agreement`.

What is known about each rater: the table ``raters``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot import tables
from manyhot.checks import check_draws
from manyhot.core import raters as quality
from manyhot.core.aggregation import Aggregate
from manyhot.core.agreement import VoteMeasure, measure_answers, measure_sets
from manyhot.core.answers import Answers
from manyhot.core.answers import GoldenAnswers as GoldenAnswers
from manyhot.core.answers import GoldenAnswers as answers_Golden
from manyhot.core.raters import (
    Quality,
    RaterPairs,
    agreement_with_others,
    golden_quality,
    peer_quality,
    rater_pairs,
    too_fast,
)
from manyhot.formats.tabular import write_csv
from manyhot.formats.writing import PathLike, Progress, check_apart
from manyhot.reassess.answers import answers_of, golden_of, read_answers
from manyhot.tables import ANSWERS, Golden, Votes, schema

RULES = {
    "spammer": f"informedness below {quality.SPAMMER:g}, the upper end of its interval included, over "
    f"{quality.FEWEST_GOLDEN} answers or more under each truth",
    "copier": f"of {quality.FEWEST_ERRORS} questions or more on which one of two raters is against the "
    f"majority of the others, both are, and alike, on {quality.COPIER:.0%}",
    "too fast": f"less than {quality.TOO_FAST:.0%} of the median rater's seconds for an answer, over "
    f"{quality.FEWEST_PAGES} pages or more",
}
"""What raters are flagged for. A flag is a reason to look, not a verdict."""


@dataclass(frozen=True, eq=False)
class Agreement:
    """How far raters agree, and how good each is.

    Attributes
    ----------
    agreement, raters, rater_pairs, confusion : pyarrow.Table
        The tables of these names; see `manyhot.tables.TABLES`.
    notes : tuple of str
        What is to be known about the numbers.
    """

    agreement: pa.Table
    raters: pa.Table
    rater_pairs: pa.Table
    confusion: pa.Table
    notes: tuple[str, ...] = ()

    @property
    def tables(self) -> dict[str, pa.Table]:
        """The tables by name."""
        names = ("agreement", "raters", "rater_pairs", "confusion")
        return {name: getattr(self, name) for name in names}

    def value(self, measure: str) -> float:
        """Return the value of a measure, such as ``fleiss_kappa``."""
        row = pc.index(self.agreement["measure"], measure).as_py()
        return float(self.agreement["value"][row].as_py())


def agreement(
    votes: Votes, golden: Golden | None = None, *, resamples: int = 1000, seed: int = 0
) -> Agreement:
    """Measure how far raters agree with each other and with experts.

    Parameters
    ----------
    votes : Votes
    golden : Golden, optional
        Experts' answers.
    resamples, seed : int
        Of the bootstrap: over images for measures of agreement, over raters and images for means over raters.

    Raises
    ------
    InputError
        A number is out of range.
    MatchError
        Votes and golden answers are over different class lists.
    """
    check_draws(resamples, seed)
    answers = answers_of(votes)
    experts = None if golden is None else golden_of(golden, votes)
    rng = np.random.default_rng(seed)
    measures = [
        *measure_answers(answers, votes.image, resamples=resamples, rng=rng),
        *measure_sets(answers, votes.image, votes.class_id, resamples=resamples, rng=rng),
        *([] if experts is None else quality.golden_measures(experts, resamples=resamples, rng=rng)),
    ]
    pairs = quality.rater_pairs(answers)
    raters = raters_table(votes, answers, experts, pairs=pairs)
    return Agreement(
        _measures_table(measures),
        raters,
        _pairs_table(pairs, votes),
        _confusion(experts, votes),
        _notes(answers, experts, raters),
    )


def _measures_table(measures: list[VoteMeasure]) -> pa.Table:
    columns: dict[str, Any] = {f.name: [] for f in schema("agreement")}
    for m in measures:
        row = (m.name, m.value, _or_none(m.lo), _or_none(m.hi), m.n, m.n_skipped)
        for column, value in zip(columns.values(), row, strict=True):
            column.append(value)
    return pa.table(columns, schema=schema("agreement"))


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value


def _pairs_table(pairs: quality.RaterPairs, votes: Votes) -> pa.Table:
    kappa = pa.array(pairs.kappa)
    columns = {
        "rater_a": votes.rater_id.take(pa.array(pairs.a)),
        "rater_b": votes.rater_id.take(pa.array(pairs.b)),
        "n": pairs.n,
        "agreement": pairs.agreement,
        "kappa": pc.if_else(pc.is_nan(kappa), pa.scalar(None, pa.float64()), kappa),
        "wrong": pairs.wrong,
        "same_wrong": pairs.same_wrong,
        "copies": pairs.copiers(),
    }
    return pa.table(columns, schema=schema("rater_pairs"))


def _confusion(golden: GoldenAnswers | None, votes: Votes) -> pa.Table:
    if golden is None:
        return schema("confusion").empty_table()
    counts = quality.golden_quality(golden).counts
    # All together first, then those who answered any.
    kept = np.flatnonzero(counts.sum((1, 2)))
    rows = np.concatenate([counts.sum(0)[None], counts[kept]])
    total = rows.sum(2, keepdims=True).repeat(len(ANSWERS), 2).ravel()
    ids = [None, *votes.rater_id.take(pa.array(kept)).to_pylist()]
    share = [k / n if n else None for k, n in zip(rows.ravel().tolist(), total.tolist(), strict=True)]
    columns = {
        "rater_id": [i for i in ids for _ in range(2 * len(ANSWERS))],
        "truth": [t for _ in ids for t in ("no", "yes") for _ in ANSWERS],
        "answer": [a for _ in ids for _ in range(2) for a in ANSWERS],
        "n": rows.ravel(),
        "share": share,
    }
    return pa.table(columns, schema=schema("confusion"))


def _notes(answers: Answers, golden: GoldenAnswers | None, raters: pa.Table) -> tuple[str, ...]:
    notes = []
    if answers.counts().sum(1).max(initial=0) < 2:
        notes.append("no question has the answers of two raters: there is no agreement to measure")
    if golden is None:
        notes.append("no golden answers are given: raters are compared with the majority of the others")
    elif not len(golden.answers):
        notes.append("no rater answered a golden question: they are compared with the majority of the others")
    elif not golden.truth().any():
        notes.append("no golden question has the truth yes: there is no sensitivity")
    else:
        notes.append(
            f"accuracy alone misleads: always answering no has {quality.always_no(golden):.4f} on these "
            f"{len(golden):,} golden questions; look at sensitivity and specificity"
        )
    if raters["seconds"].null_count == len(raters):
        notes.append("no times are known: who is too fast cannot be told")
    return tuple(notes)


def agreement_files(
    votes: PathLike,
    out: PathLike | None = None,
    *,
    golden: PathLike | None = None,
    classes: PathLike | None = None,
    format: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
    call: str = "",
    progress: Progress | None = None,
) -> tuple[Agreement, list[Path]]:
    """Measure how far raters agree, and write it.

    Parameters
    ----------
    votes, golden, classes, format
        As in `aggregate_files`.
    out : path-like, optional
        Folder for the tables ``agreement``, ``raters``, ``rater_pairs`` and ``confusion``.
    resamples, seed
        As in `manyhot.reassess.agreement.agreement`.

    Raises
    ------
    ManyhotError
        As in `aggregate_files`.
    """
    source = read_answers(votes, golden, None, classes, format, progress)
    found = agreement(source.votes, source.golden, resamples=resamples, seed=seed)
    if out is None:
        return found, []
    check_apart(source.files, out, found.tables)
    written = []
    for name, table in found.tables.items():
        path = Path(out) / f"{name}.parquet"
        written.append(tables.write(table, path, name, call=call, inputs=source.hashes()))
        written.append(write_csv(table, path.with_suffix(".csv")))
    return found, written


Floats = npt.NDArray[np.float64]


def raters_table(
    votes: Votes,
    answers: Answers,
    golden: answers_Golden | None = None,
    result: Aggregate | None = None,
    pairs: RaterPairs | None = None,
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
        Of `manyhot.core.raters.rater_pairs`, which is called by default.
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


def _copiers(pairs: RaterPairs, n: int) -> npt.NDArray[np.bool_]:
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
