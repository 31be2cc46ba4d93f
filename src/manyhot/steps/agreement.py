"""Votes to what is known about raters and their agreement: `manyhot agreement`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from manyhot.core import quality
from manyhot.core.agreement import Measure, measure_answers, measure_sets
from manyhot.core.answers import Answers
from manyhot.core.answers import Golden as GoldenAnswers
from manyhot.steps.numbers import check_draws
from manyhot.steps.raters import raters_table
from manyhot.steps.votes import answers_of, golden_of
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


def _measures_table(measures: list[Measure]) -> pa.Table:
    columns: dict[str, Any] = {f.name: [] for f in schema("agreement")}
    for m in measures:
        row = (m.name, m.value, _or_none(m.lo), _or_none(m.hi), m.n, m.n_skipped)
        for column, value in zip(columns.values(), row, strict=True):
            column.append(value)
    return pa.table(columns, schema=schema("agreement"))


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value


def _pairs_table(pairs: quality.Pairs, votes: Votes) -> pa.Table:
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
