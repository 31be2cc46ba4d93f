"""Agreement of raters with one another and with experts: `manyhot agreement`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.command import command
from manyhot.console import table_lines
from manyhot.core import raters as quality
from manyhot.core.agreement import (
    FEWEST_IMAGES,
    VoteMeasure,
    measure_answers,
    measure_choices,
    measure_sets,
)
from manyhot.core.answers import ANSWERS, Answers, GoldenAnswers
from manyhot.core.class_agreement import agreement_by_class
from manyhot.core.rater_pairs import FEWEST_ERRORS, RaterPairs, rater_pairs
from manyhot.errors import counted
from manyhot.parameters import RESAMPLES, Resamples, Seed, check_draws
from manyhot.reassess.answers import (
    VOTES_READING,
    TableLike,
    VotesLike,
    VotesReading,
    VotesSource,
    golden_of,
    open_votes,
)
from manyhot.reassess.raters import (
    decimal_text,
    flag_lines,
    interval_text,
    rater_lines,
    raters_table,
    share_text,
    single_class_notes,
    unflagged_notes,
)
from manyhot.result import Result
from manyhot.run import QUIET, Run
from manyhot.tables import Row, Votes, schema
from manyhot.tables.choices import choices_of
from manyhot.tables.definitions import COUNT, FLAG, INT, REAL, TEXT, bounds, declare_table
from manyhot.tables.frames import null_if_nan
from manyhot.tables.vote_labels import answers_of
from manyhot.tables.votes import COUNTED_CLASS

_PRINTED = 5
"""Classes on the terminal."""

AGREEMENT_MEASURES = (
    "pairwise",
    "fleiss_kappa",
    "alpha_nominal",
    "alpha_ordinal",
    "alpha_jaccard",
    "alpha_masi",
    "golden_accuracy",
    "golden_sensitivity",
    "golden_specificity",
    "always_no",
)

declare_table(
    "agreement",
    (
        TEXT("measure", "what is measured", values=AGREEMENT_MEASURES),
        REAL("value", "the value; NaN where it is undefined"),
        *bounds("lo", "hi", "the 95 % interval, null without one"),
        COUNT("n", "questions, sheets or raters counted"),
        COUNT(
            "n_skipped",
            "number left out: questions that only one rater answered, or raters without "
            "answers to golden questions",
        ),
    ),
)

declare_table(
    "class_agreement",
    (
        INT("class_id", "a class that raters were asked about"),
        TEXT("name", "its name"),
        COUNT("n", "number of questions about the class that two or more raters answered"),
        COUNT("n_skipped", "number of questions about the class that only one rater answered"),
        REAL.nullable("yes", "mean share of yes answers"),
        REAL.nullable("pairwise", "share of pairs of answers to the same question that are equal"),
        REAL.nullable("fleiss_kappa", "Fleiss' kappa; null if all answers are equal"),
        REAL.nullable("ac1", "Gwet's AC1, which stays high if nearly all answers are equal"),
        *bounds("ac1_lo", "ac1_hi", "the 95 % interval of AC1 over images, null without one"),
    ),
)

declare_table(
    "rater_pairs",
    (
        TEXT("rater_a", "one rater"),
        TEXT("rater_b", "another"),
        COUNT(
            "n",
            "number of questions that both raters answered, or of images if raters chose one class per image",
        ),
        REAL("agreement", "share of equal answers among the questions that both answered"),
        REAL.nullable("kappa", "Cohen's kappa of the two"),
        COUNT(
            "wrong",
            "number of questions on which at least one rater of the pair disagrees with the majority of two "
            "or more other raters",
        ),
        COUNT(
            "same_wrong",
            "number of questions on which both raters of the pair disagree with the majority of two or more "
            "other raters, and give the same answer",
        ),
        FLAG("copies", "whether the two make the same errors"),
    ),
)

declare_table(
    "confusion",
    (
        TEXT.nullable("rater_id", "rater; null for all raters together"),
        TEXT("truth", "true answer of golden questions", values=("no", "yes")),
        TEXT("answer", "the answer", values=ANSWERS),
        COUNT("n", "answers"),
        REAL.nullable("share", "share of this answer among all answers to questions with this true answer"),
    ),
)


@dataclass(frozen=True, eq=False)
class Agreement(Result):
    """Agreement between raters, and the quality of each rater.

    Attributes
    ----------
    agreement, class_agreement, raters, rater_pairs, confusion : pyarrow.Table
        The tables with these names; see `manyhot.tables.TABLES`. `class_agreement` is empty if raters chose
        one class per image.
    notes, metadata, inputs
        As in `Result`.
    """

    NAMES = ("agreement", "class_agreement", "raters", "rater_pairs", "confusion")

    agreement: pa.Table
    class_agreement: pa.Table
    raters: pa.Table
    rater_pairs: pa.Table
    confusion: pa.Table

    def value(self, measure: str) -> float:
        """Return the value of a measure, such as ``fleiss_kappa``."""
        row = pc.index(self.agreement["measure"], measure).as_py()
        return float(self.agreement["value"][row].as_py())

    def to_json(self) -> dict[str, Any]:
        """Return the measures, the agreement by class, the raters and the notes."""
        rows = super().to_json()
        return {name: rows[name] for name in ("agreement", "class_agreement", "raters", "notes")}

    def lines(self) -> Iterator[str]:
        """Yield the measures, the classes that raters agree on least, golden questions, and the raters."""
        head = ("measure", "value", "95 % interval", "n", "left out")
        measures = self.agreement.to_pylist()
        cells = [
            (
                r["measure"],
                decimal_text(r["value"]),
                interval_text(r["lo"], r["hi"]),
                f"{r['n']:,}",
                f"{r['n_skipped']:,}",
            )
            for r in measures
        ]
        yield from table_lines(head, cells)
        yield from _class_lines(self.class_agreement.to_pylist())
        together = [r for r in self.confusion.to_pylist() if r["rater_id"] is None]
        if together:
            yield ""
            rows = [
                (
                    f"truth {t}",
                    *(f"{r['n']:,} ({share_text(r['share'])})" for r in together if r["truth"] == t),
                )
                for t in ("no", "yes")
            ]
            yield from table_lines(("all raters on golden questions", *ANSWERS), rows)
        raters = self.raters.to_pylist()
        yield ""
        yield from rater_lines(raters)
        yield from flag_lines(raters)


@command(
    "agreement",
    examples=("manyhot agreement imagenet-real", "manyhot agreement campaign --out agreement"),
)
def agreement(
    votes: VotesLike,
    golden: TableLike = None,
    *,
    resamples: Resamples = RESAMPLES,
    seed: Seed = 0,
    reading: VotesReading = VOTES_READING,
    run: Run = QUIET,
) -> Agreement:
    """Measure agreement between raters and their quality on golden questions, and flag suspicious raters.

    Parameters
    ----------
    votes
        Votes in any format, the folder of a campaign, or imagenet-real for published votes, which are
        downloaded.
    golden
        Experts' answers, or label sets; by default, those of the campaign.
    resamples
        Number of bootstrap resamples: of images for measures of agreement, and of raters and images for means
        over raters; 0 for no intervals.
    seed
        Seed for the bootstrap.

    Returns
    -------
    Agreement

    Raises
    ------
    InputError
        If a number is out of range, or a campaign has no votes yet.
    MatchError
        If votes and golden answers have different class lists.
    """
    check_draws(resamples, seed)
    source = open_votes(votes, golden, reading=reading, on_progress=run.on_progress)
    asked = source.votes
    answers = answers_of(asked)
    choices = choices_of(asked) if asked.kind else None
    experts = None if source.golden is None else golden_of(source.golden, asked)
    rng = np.random.default_rng(seed)
    measures = [
        *(
            measure_answers(answers, asked.image, intervals=resamples > 0)
            if choices is None
            else measure_choices(choices, intervals=resamples > 0)
        ),
        *measure_sets(answers, asked.image, asked.class_id, intervals=resamples > 0),
        *([] if experts is None else quality.golden_measures(experts, resamples=resamples, rng=rng)),
    ]
    # Numbers of votes are no raters, so nothing is said about them.
    none = np.zeros(0, np.int64)
    nobody = Answers(none, none, none.astype(np.int8), asked.n_questions, 0)
    pairs = rater_pairs(*([nobody] if asked.kind == COUNTED_CLASS else [answers, choices]))
    raters = schema("raters").empty_table()
    if asked.kind != COUNTED_CLASS:
        raters = raters_table(asked, answers, experts, pairs=pairs)
    return Agreement(
        _measures_table(measures),
        _class_table(answers, source, intervals=resamples > 0),
        raters,
        _pairs_table(pairs, asked),
        _confusion(experts, asked),
        notes=(
            *source.notes,
            *_kind_notes(asked),
            *single_class_notes(experts),
            *unflagged_notes(raters),
            *_notes(answers, experts, raters),
            *_note_on_copying(pairs),
        ),
        inputs=source.inputs,
    )


def _kind_notes(votes: Votes) -> Iterator[str]:
    if votes.kind:
        yield (
            "agreement is measured on chosen classes, which have no order even if they are called 1 to 5, so "
            "alpha_ordinal is undefined"
        )
        if votes.kind != COUNTED_CLASS:
            yield (
                "the tables of raters treat each choice as one of all classes, and informedness is the mean "
                "over classes"
            )


def _measures_table(measures: list[VoteMeasure]) -> pa.Table:
    columns = ("measure", "value", "lo", "hi", "n", "n_skipped")
    rows = [(m.name, m.value, null_if_nan(m.lo), null_if_nan(m.hi), m.n, m.n_skipped) for m in measures]
    return pa.Table.from_pylist([dict(zip(columns, row, strict=True)) for row in rows], schema("agreement"))


def _class_table(answers: Answers, source: VotesSource, *, intervals: bool) -> pa.Table:
    votes = source.votes
    if votes.kind:  # nobody was asked about the other classes one by one
        return schema("class_agreement").empty_table()
    found = agreement_by_class(answers, votes.class_id, votes.n_classes)
    asked = np.flatnonzero(found.n + found.n_skipped)
    classes = source.classes or votes.known_classes
    columns = {
        "class_id": asked,
        "name": [classes.names[c] if classes else f"class {c}" for c in asked.tolist()],
        **{name: getattr(found, name)[asked] for name in ("n", "n_skipped")},
        **{
            name: pa.array(getattr(found, name)[asked], from_pandas=True)
            for name in ("yes", "pairwise", "fleiss_kappa", "ac1")
        },
        **{
            f"ac1_{end}": pa.array(
                getattr(found, end)[asked] if intervals else [None] * len(asked), from_pandas=True
            )
            for end in ("lo", "hi")
        },
    }
    return pa.table(columns).cast(schema("class_agreement"))


def _class_lines(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the classes with the lowest AC1, among those with enough questions for an interval."""
    enough = [r for r in rows if r["n"] >= FEWEST_IMAGES]
    if len(rows) < 2 or not enough:
        return
    lowest = sorted(enough, key=lambda r: r["ac1"])[:_PRINTED]
    yield ""
    yield from table_lines(
        ("class, lowest AC1 first", "AC1", "95 % interval", "pairwise", "fleiss_kappa", "yes", "questions"),
        [
            (
                r["name"],
                decimal_text(r["ac1"]),
                interval_text(r["ac1_lo"], r["ac1_hi"]),
                decimal_text(r["pairwise"]),
                decimal_text(r["fleiss_kappa"]),
                share_text(r["yes"]),
                f"{r['n']:,}",
            )
            for r in lowest
        ],
    )


def _pairs_table(pairs: RaterPairs, votes: Votes) -> pa.Table:
    columns = {
        "rater_a": votes.rater_id.take(pa.array(pairs.a)),
        "rater_b": votes.rater_id.take(pa.array(pairs.b)),
        "n": pairs.n,
        "agreement": pairs.agreement,
        "kappa": pa.array(pairs.kappa, from_pandas=True),
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
    answered = np.flatnonzero(counts.sum((1, 2)))
    rows = np.concatenate([counts.sum(0)[None], counts[answered]])
    total = rows.sum(2, keepdims=True).repeat(len(ANSWERS), 2).ravel()
    ids = [None, *votes.rater_id.take(pa.array(answered)).to_pylist()]
    share = [k / n if n else None for k, n in zip(rows.ravel().tolist(), total.tolist(), strict=True)]
    columns = {
        "rater_id": [i for i in ids for _ in range(2 * len(ANSWERS))],
        "truth": [t for _ in ids for t in ("no", "yes") for _ in ANSWERS],
        "answer": [a for _ in ids for _ in range(2) for a in ANSWERS],
        "n": rows.ravel(),
        "share": share,
    }
    return pa.table(columns, schema=schema("confusion"))


def _notes(answers: Answers, golden: GoldenAnswers | None, raters: pa.Table) -> Iterator[str]:
    if answers.counts().sum(1).max(initial=0) < 2:
        yield "no question was answered by two raters, so agreement cannot be measured"
    if golden is None:
        yield "there are no golden answers, so raters are compared with the majority of the other raters"
    elif not len(golden.answers):
        yield (
            "no rater answered a golden question, so raters are compared with the majority of the other "
            "raters"
        )
    elif not golden.truth().any():
        yield "no golden question has the true answer yes, so sensitivity is undefined"
    else:
        yield (
            "accuracy alone is misleading: a rater who always answers no has an accuracy of "
            f"{quality.always_no(golden):.4f} on these {len(golden):,} golden questions; see sensitivity and "
            "specificity"
        )
    if raters["seconds"].null_count == len(raters):
        yield "raters cannot be flagged as too fast, which needs the columns 'shown_at' and 'answered_at'"


def _note_on_copying(pairs: RaterPairs) -> Iterator[str]:
    n, n_checked = len(pairs.n), np.count_nonzero(pairs.wrong >= FEWEST_ERRORS)
    if n_checked < n / 2:
        yield (
            f"{f'only {n_checked:,}' if n_checked else 'none'} of {counted(n, 'pair')} of raters could be "
            f"checked for copying, which needs {FEWEST_ERRORS} questions on which at least one of "
            "the two disagrees with the majority of the other raters; see the table rater_pairs"
        )
