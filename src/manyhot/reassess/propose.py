"""Propose classes to ask raters about, and estimate the cost: `manyhot propose`."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot import tables
from manyhot.classes import ClassList, class_list_of
from manyhot.command import command
from manyhot.console import fact_lines
from manyhot.core.array_types import Floats32
from manyhot.core.ensembles import Ensemble, pair_probabilities
from manyhot.core.estimates import Ratio
from manyhot.core.proposals import Coverage, Proposed, apply_rule, count_coverage, held_out
from manyhot.core.ratio_intervals import IMAGES_FOR_PERCENTILES, ratio_interval, sampled_interval
from manyhot.core.resampling import Bootstrap
from manyhot.data.data_sets import Source
from manyhot.data.inputs import (
    READING,
    LabelsLike,
    PredictionsLike,
    Reading,
    open_inputs,
)
from manyhot.errors import InputError, UsageError
from manyhot.formats.writing import PathLike
from manyhot.parameters import (
    RESAMPLES,
    Count,
    InCampaign,
    Positive,
    Resamples,
    Seed,
    Shown,
    Was,
    check_one_of,
)
from manyhot.reassess.additions import QUESTION, with_campaign_questions
from manyhot.reassess.ensemble import (
    ensemble_of,
    only_source,
    open_known_sets,
    source_images,
    source_predictions,
)
from manyhot.reassess.finding_questions import (
    FINDINGS_RULE,
    input_of,
    named_questions,
    open_to_ask,
    questions_of_findings,
)
from manyhot.registry import Entry, get
from manyhot.result import Result
from manyhot.run import QUIET, Run
from manyhot.tables import Images, Predictions
from manyhot.tables.labels import keys_in_metadata
from manyhot.tables.own_classes import own_list

SECONDS = 5.0
"""Seconds that a rater takes for one question: an assumption, since neither ReaL nor Multilabelfy publishes a
time. Votes with `shown_at` and `answered_at` give one's own."""

RATERS = 5
"""Number of answers per question, as in ReaL."""

UNPROPOSED = "label"
"""The source of an original label that no rule proposed."""

LeaveOut = Literal["proposals", "models", "nothing"]
"""Images without questions."""


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
        Share of questions whose answer in the known label sets is yes.
    n_images, n_labels, n_questions : int
        Numbers of images with a known label set, of labels in these sets, and of questions about these
        images.
    n_unasked : int
        Number of questions that the known label sets do not answer. Their answer counts as no.
    held_out : bool
        Whether each image was evaluated with a rule that was fitted without its label set.
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
        Number of images, and number of images without questions. Images without questions keep their original
        label.
    models : tuple of str
    seconds : float
        Seconds that a rater takes for a question.
    raters : int
        Number of answers per question.
    expected : Expected or None
        Recall and precision; None if no label set is known.
    about : Mapping
        Report of the rule's search.
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

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __repr__(self) -> str:
        return f"Proposals({self.rule!r}, {len(self):,} questions about {self.n_asked:,} images)"

    @property
    def tables(self) -> dict[str, pa.Table]:
        """The table by its name."""
        return {"proposals": self.table}

    @property
    def n_asked(self) -> int:
        """Number of images with questions."""
        return self.n_images - self.n_left_out

    @property
    def hours(self) -> float:
        """Total hours of all raters."""
        return len(self) * self.raters * self.seconds / 3600

    def to_json(self) -> dict[str, Any]:
        """Return the rule, its cost and expected recall, and the notes."""
        values = {
            "rule": self.rule,
            "images": self.n_images,
            "left_out": self.n_left_out,
            "questions": len(self),
            "per_image": len(self) / self.n_asked if self.n_asked else math.nan,
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
        yield f"{self.rule}, {len(self.models)} models" if self.models else self.rule
        each = f", {len(self) / self.n_asked:.2f} an image" if self.n_asked else ""
        cost = f"{self.raters} answers each, {self.seconds:g} seconds an answer"
        facts = [
            ("questions", f"{len(self):,}", f"about {self.n_asked:,} images{each}"),
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
        if not len(self):
            yield "no image has questions; to ask about all images, set `leave_out` to 'nothing'"
        if self.expected is None and self.rule != FINDINGS_RULE:
            yield (
                "recall and precision are unknown; to estimate them, pass label sets of some images with "
                "`known_labels`"
            )

    def write(self, out: PathLike, *, run: Run = QUIET) -> list[Path]:
        """Write the table as `Result.write` does, unless raters have begun to answer others in its place."""
        self.check_out(out, ())
        target = self._paths(out, "proposals")[0]
        is_own = target.name == "proposals.parquet" and (target.parent / tables.DESCRIPTION).is_file()
        if is_own and target.exists() and (target.parent / "votes.parquet").exists():
            standing = tables.read(target, "proposals").select(QUESTION)
            if lost := len(standing.join(self.table.select(QUESTION), QUESTION, join_type="left anti")):
                raise InputError(
                    "Raters are already answering the proposals of this campaign.",
                    where=target,
                    got=f"{lost:,} of {len(standing):,} questions are not among the new proposals",
                    do="pass `add` to keep them, or write the new proposals to another file with `out`",
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


@command(
    "propose",
    examples=(
        "manyhot propose campaign --rule 'union(threshold=0.1)'",
        "manyhot propose campaign --rule real-search --known-labels labels.parquet",
        "manyhot propose campaign --findings label-issues",
        "manyhot propose campaign --rule all-classes",
    ),
    out=InCampaign("labels", "proposals.parquet"),
)
def propose(
    labels: LabelsLike,
    predictions: PredictionsLike = (),
    rule: str = "union",
    *,
    findings: Annotated[Any, Shown("FOLDER")] = None,
    known_labels: Annotated[Any, Shown("FILE"), Was("--known")] = None,
    leave_out: LeaveOut = "proposals",
    add: bool = False,
    seconds: Positive = SECONDS,
    raters: Count = RATERS,
    resamples: Resamples = RESAMPLES,
    seed: Seed = 0,
    reading: Reading = READING,
    run: Run = QUIET,
) -> Proposals:
    """Propose the classes to ask raters about, and estimate cost and recall.

    Parameters
    ----------
    labels
        Images: a campaign, a folder of photographs, a folder written by manyhot predict, an images table, or
        a benchmark data set. Original labels, if there are any, are always proposed.
    predictions
        Files or folders of predictions, instead of those of the campaign, folder or benchmark. Each model
        must predict all images.
    rule
        Name of a rule, or a call string such as 'union(threshold=0.1)'. The command 'manyhot proposers' lists
        the rules; all-classes needs no predictions.
    findings
        Findings of manyhot diagnose labels: their folder, or a Parquet or CSV file with some of them. The
        questions are then about the classes in the findings, instead of those that a rule proposes, and need
        no predictions.
    known_labels
        Label sets of some images, or golden answers. They are used to estimate recall and precision, and to
        fit rules that learn. Unrated images are left out. By default, golden.parquet of the campaign.
    leave_out
        Images not to ask about: those whose only proposal is the original label (proposals), those whose
        original label is the top class of every model (models), or none (nothing).
    add
        Keep the proposals of the campaign and add those that are new. The app asks about them after it is
        started again.
    seconds
        Seconds per question, to compute the hours of work; the default is an assumption.
    raters
        Number of answers per question, to compute the hours of work.
    resamples
        Number of bootstrap resamples of the images with known label sets; 0 for no intervals.
    seed
        Seed for the bootstrap.

    Returns
    -------
    Proposals

    Raises
    ------
    UnknownNameError
        If there is no such rule.
    InputError
        If an original label is out of range, there are no predictions, or the rule cannot use them.
    MatchError
        If predictions have a different class list or lack images, or no label set belongs to these images.
    """
    if findings is not None:
        need = "Questions about findings need neither predictions nor known labels."
        _check_alone(need, predictions=predictions, known_labels=known_labels)
        source, made = _of_findings(labels, findings, reading, run)
        return _finished(made, seconds, raters, source if add else None)
    entry = get("proposer", rule)
    check_one_of(leave_out, get_args(LeaveOut), "Images cannot be left out like this.", where="`leave_out`")
    if uses_models := entry.about.get("models", True):
        opened = open_inputs(labels, predictions, unlabelled=True, reading=reading, run=run)
        source = only_source(opened, "Proposals can be made for")
        images, read, classes = source_images(source), source_predictions(source, run), source.classes
    else:
        _check_alone(f"The rule {entry.name} needs no predictions.", predictions=predictions)
        source, classes = open_to_ask(labels, reading, run)
        images, read = source_images(source), []
    n_classes, class_hash = _class_list(classes, read, reading.n_classes, uses_models=uses_models)
    known, inputs = open_known_sets(source, known_labels, n_classes, class_hash)
    ensemble = ensemble_of(images, read, n_classes, class_hash, known, source.misfits)
    proposed = apply_rule(ensemble, entry, leave_out=leave_out)
    coverage = None
    if known is not None and entry.about.get("learns"):
        coverage = held_out(ensemble, entry, leave_out=leave_out)
    elif known is not None:
        coverage = count_coverage(ensemble, proposed)
    listed = classes or class_list_of(class_hash)
    made = Proposals(
        _with_p(named_questions(proposals_table(images, proposed, entry.name), listed), ensemble, proposed),
        entry.name,
        len(ensemble),
        int(np.count_nonzero(proposed.left_out)),
        ensemble.names,
        expected=None if coverage is None else _expected(coverage, entry, resamples, seed),
        about=dict(proposed.pairs.about),
        notes=tuple(source.misfits.notes()),
        inputs=inputs | {k: v for k, v in source.inputs.items() if k != "labels.parquet"},
        metadata=_about_classes(n_classes, class_hash, listed),
    )
    return _finished(made, seconds, raters, source if add else None)


def _check_alone(need: str, **inputs: Any) -> None:
    """Raise an error for inputs that are not used."""
    extra = [f"`{name}`" for name, value in inputs.items() if value is not None and len(value)]
    if extra:
        raise UsageError(need, got=" and ".join(extra), do="leave them out")


def _of_findings(labels: LabelsLike, findings: Any, reading: Reading, run: Run) -> tuple[Source, Proposals]:
    """Return questions about the findings of a diagnosis."""
    source, classes = open_to_ask(labels, reading, run)
    images = source_images(source)
    table, notes = questions_of_findings(images, findings, classes, reading.match)
    n_classes = len(classes) if classes else reading.n_classes or source.sets().n_classes
    return source, Proposals(
        table,
        FINDINGS_RULE,
        len(images),
        len(images) - len(pc.unique(table["image_id"])),
        notes=notes,
        inputs=source.inputs | input_of(findings),
        metadata=_about_classes(n_classes, classes.hash if classes else "", classes),
    )


def _about_classes(n_classes: int, class_hash: str, classes: ClassList | None) -> dict[str, str]:
    """Return the metadata of proposals over a class list, with its keys and names unless it is built in."""
    own = None if classes is None else own_list(classes)
    return {"n_classes": str(n_classes), "classes": class_hash, **keys_in_metadata(own)}


def _class_list(
    classes: ClassList | None, models: list[Predictions], n_classes: int, *, uses_models: bool
) -> tuple[int, str]:
    if uses_models and not models:
        raise InputError(
            "There are no predictions from which to propose labels.",
            do="predict the images with at least one model, or use the `rule` all-classes",
        )
    if classes is not None:
        return len(classes), classes.hash
    n_classes = n_classes or max((p.n_classes for p in models), default=0)
    if not n_classes:
        raise InputError("The number of classes is not known.", do="pass the class list")
    return n_classes, next((p.class_hash for p in models if p.class_hash), "")


def proposals_table(images: Images, proposed: Proposed, rule: str) -> pa.Table:
    """Return the questions about images as the table ``proposals``."""
    pairs = proposed.pairs
    is_label = pa.array(proposed.label_only.astype(np.int8))
    source = pa.DictionaryArray.from_arrays(is_label, pa.array([rule, UNPROPOSED]))
    return pa.table(
        {
            "image_id": images.image_id.take(pa.array(pairs.image)),
            "class_id": pa.array(pairs.class_id),
            "score": pa.array(pairs.score),
            "n_models": pa.array(pairs.n_models),
            "source": source.cast(pa.string()),
        }
    )


def _with_p(table: pa.Table, ensemble: Ensemble, proposed: Proposed) -> pa.Table:
    """Return proposals with the mean probabilities of the models, which scores of a rule need not be."""
    p = pair_probabilities(ensemble, proposed.pairs)
    return table if p is None else table.append_column("p", pa.array(p, pa.float32(), from_pandas=True))


def _expected(c: Coverage, rule: Entry, resamples: int, seed: int) -> Expected:
    num = np.stack([c.proposed, c.valid], axis=1).astype(np.float32)
    den = np.stack([c.labels, c.questions], axis=1).astype(np.float32)
    samples = np.full((2, 0), np.nan)
    if resamples:
        everything = np.ones((1, len(num)), bool)
        samples = Bootstrap(everything, resamples, seed).ratios(num, den, np.arange(2))[0].T
    recall, precision = (
        share_interval(of, among, drawn) for of, among, drawn in zip(num.T, den.T, samples, strict=True)
    )
    labels, questions, unasked = (int(v.sum()) for v in (c.labels, c.questions, c.unasked))
    learns = bool(rule.about.get("learns"))
    return Expected(recall, precision, len(num), labels, questions, unasked, held_out=learns)


def share_interval(num: Floats32, den: Floats32, samples: Floats32) -> ShareInterval:
    """Return a ratio of sums and its interval, from resamples or, for few images, by the jackknife."""
    ratio = Ratio(num.astype(np.float64), den.astype(np.float64), den > 0)
    value, n = ratio.value(), int(np.count_nonzero(den))
    if not len(samples):
        return ShareInterval(value, np.nan, np.nan)
    if n < IMAGES_FOR_PERCENTILES:
        return ShareInterval(value, *ratio_interval(ratio))
    return ShareInterval(value, *sampled_interval(value, samples, n))


def _finished(made: Proposals, seconds: float, raters: int, source: Source | None) -> Proposals:
    """Return proposals with their cost, and the metadata of their file; with a source, also what it has."""
    made = dataclasses.replace(made, seconds=seconds, raters=raters)
    if source is not None:
        table, note = with_campaign_questions(made.table, source.campaign)
        n_left_out = made.n_images - len(pc.unique(table["image_id"]))
        made = dataclasses.replace(made, table=table, n_left_out=n_left_out, notes=(*made.notes, note))
    cost = {
        "images": made.n_images,
        "left_out": made.n_left_out,
        "seconds": made.seconds,
        "raters": made.raters,
        "hours": made.hours,
    }
    metadata = {
        **made.metadata,
        "models": "\n".join(made.models),
        "rule": json.dumps({"rule": made.rule, **made.about}),
        "cost": json.dumps(cost),
        "expected": json.dumps(None if made.expected is None else dataclasses.asdict(made.expected)),
    }
    return dataclasses.replace(made, metadata=metadata)
