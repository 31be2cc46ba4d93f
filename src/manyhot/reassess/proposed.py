"""Proposals, with their cost and expected recall."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import compute as pc

from manyhot import tables
from manyhot.console import fact_lines
from manyhot.errors import InputError, counted
from manyhot.formats.writing import PathLike
from manyhot.reassess.additions import QUESTION
from manyhot.reassess.finding_questions import FINDINGS_RULE
from manyhot.result import Result
from manyhot.run import QUIET, Run

SECONDS = 5.0
"""Seconds that a rater takes for one question: an assumption, since neither ReaL nor Multilabelfy publishes a
time. Votes with `shown_at` and `answered_at` give one's own."""

RATERS = 5
"""Number of answers per question, as in ReaL."""

ONLY_WITHDRAWN = "without"
"""What is shown in place of a rule if questions are only withdrawn."""


@dataclass(frozen=True)
class ShareInterval:
    """A share with its 95 % interval; NaN where it is unknown."""

    value: float
    lo: float
    hi: float


@dataclass(frozen=True)
class Expected:
    """Recall and precision of proposals on known label sets.

    Attributes
    ----------
    recall : ShareInterval
        Share of known labels that are proposed, or kept as the original label of an image without questions.
    precision : ShareInterval
        Share of questions to which the known label sets answer yes.
    n_images, n_labels, n_questions : int
        Numbers of images with a known label set, of labels in these sets, and of questions about these
        images.
    n_unasked : int
        Number of questions that the known label sets do not answer; they count as answered no.
    held_out : bool
        Whether each image was evaluated with a rule fitted without this image's label set.
    """

    recall: ShareInterval
    precision: ShareInterval
    n_images: int
    n_labels: int
    n_questions: int
    n_unasked: int
    held_out: bool


@dataclass(frozen=True, eq=False)
class Proposals(Result):
    """Proposals, with their cost and expected recall.

    Attributes
    ----------
    table : pyarrow.Table
        The table ``proposals``.
    rule : str
    n_images, n_left_out : int
        Number of images, and number of images without questions, which keep their original label.
    models : tuple of str
    seconds : float
        Seconds that a rater takes for a question.
    raters : int
        Number of answers per question.
    expected : Expected or None
        Recall and precision; None if no label set is known.
    about : Mapping
        Report of the rule's search.
    withdraws : bool
        Whether questions of the campaign are withdrawn. If so, the table need not contain all its questions.
    n_standing : int
        Number of questions that the campaign already had. They are the first rows of the table, and are not
        part of the cost.
    notes, metadata, inputs
        As in `Result`.
    """

    NAMES = ("proposals",)

    table: pa.Table
    rule: str
    n_images: int
    n_left_out: int
    models: tuple[str, ...] = ()
    seconds: float = SECONDS
    raters: int = RATERS
    expected: Expected | None = None
    about: dict[str, Any] = field(default_factory=dict)
    withdraws: bool = False
    n_standing: int = 0

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __repr__(self) -> str:
        return f"Proposals({self.rule!r}, {self.n_new:,} questions about {self.n_asked:,} images)"

    @property
    def n_asked(self) -> int:
        """Number of images with new questions."""
        return len(pc.unique(self.table["image_id"].slice(self.n_standing)))

    @property
    def n_new(self) -> int:
        """Number of new questions."""
        return len(self) - self.n_standing

    @property
    def hours(self) -> float:
        """Total hours of all raters for the new questions."""
        return self.n_new * self.raters * self.seconds / 3600

    def to_json(self) -> dict[str, Any]:
        """Return the rule, its cost and expected recall, and the notes."""
        values = {
            "rule": self.rule,
            "images": self.n_images,
            "left_out": self.n_left_out,
            "questions": self.n_new,
            "per_image": self.n_new / self.n_asked if self.n_asked else math.nan,
            "seconds": self.seconds,
            "raters": self.raters,
            "hours": self.hours,
            "expected": None if self.expected is None else dataclasses.asdict(self.expected),
            "about": self.about,
            "notes": self.notes,
        }
        return {key: _without_nan(value) for key, value in values.items()}

    def lines(self) -> Iterator[str]:
        """Yield the number of questions, their cost, and the expected recall."""
        yield f"{self.rule}, {counted(len(self.models), 'model')}" if self.models else self.rule
        each = f", {self.n_new / self.n_asked:.2f} an image" if self.n_asked else ""
        cost = f"{self.raters} answers each, {self.seconds:g} seconds an answer"
        facts = [
            ("questions", f"{self.n_new:,}", f"about {self.n_asked:,} images{each}"),
            ("left out", f"{self.n_left_out:,}", f"of {self.n_images:,} images, which need no question"),
            ("hours", f"{self.hours:,.1f}", cost),
        ]
        yield from fact_lines([*facts, *_expected_facts(self.expected)])
        fitted = {k.removeprefix("searched_"): v for k, v in self.about.items() if k.startswith("searched_")}
        for key, value in self.about.items():
            if not key.startswith("searched_"):
                yield f"{key}: {_shown(value)}"
        if fitted:
            yield f"on the images of the search: {', '.join(f'{k} {v:.1%}' for k, v in fitted.items())}"
        if not len(self) and not self.withdraws:
            yield "no image has questions; to ask about all images, set `leave_out` to 'nothing'"
        if self.expected is None and self.rule not in (FINDINGS_RULE, ONLY_WITHDRAWN):
            yield (
                "recall and precision are unknown; to estimate them, pass label sets for some of the images "
                "as `known_labels`"
            )

    def write(self, out: PathLike, *, run: Run = QUIET) -> list[Path]:
        """Write the table as `Result.write` does, unless it would drop questions that raters are answering.

        Raises
        ------
        InputError
            If raters have begun to answer proposals of the campaign that the table lacks.
        """
        self.check_out(out, ())
        target = self._paths(out, "proposals")[0]
        is_own = target.name == "proposals.parquet" and (target.parent / tables.DESCRIPTION).is_file()
        answered = target.exists() and (target.parent / "votes.parquet").exists()
        if is_own and answered and not self.withdraws:
            standing = tables.read(target, "proposals").select(QUESTION)
            if lost := len(standing.join(self.table.select(QUESTION), QUESTION, join_type="left anti")):
                raise InputError(
                    "Raters are already answering the proposals of this campaign.",
                    where=target,
                    got=f"{lost:,} of {len(standing):,} questions are not among the new proposals",
                    do="pass `add` to keep them, or write the new proposals to another file with `out`; to "
                    "withdraw questions, pass `without`",
                )
        return super().write(out, run=run)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_shown(v)}" for k, v in value.items()) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _expected_facts(expected: Expected | None) -> Iterator[tuple[str, str, str]]:
    if expected is None:
        return
    for name, n, of in (
        ("recall", expected.n_labels, "known labels"),
        ("precision", expected.n_questions, "questions"),
    ):
        share = getattr(expected, name)
        span = "" if math.isnan(share.lo) else f"{share.lo:.1%} to {share.hi:.1%}, "
        value = "–" if math.isnan(share.value) else f"{share.value:.1%}"
        yield name, value, f"{span}of {n:,} {of} of {expected.n_images:,} images"
    if expected.held_out:
        yield "", "", "each image is evaluated with a rule that was fitted without it"
    if expected.n_unasked:
        yield (
            "unanswered",
            f"{expected.n_unasked:,}",
            "questions that the known label sets do not answer, counted as no",
        )
