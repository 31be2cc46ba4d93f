"""Draw a random sample of images for people to answer, as a campaign: `manyhot audit`."""

from __future__ import annotations

import hashlib
import json
import secrets
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot import tables
from manyhot.classes import ClassList, class_list_of
from manyhot.command import command
from manyhot.console import fact_lines
from manyhot.core.array_types import Floats32, Ints
from manyhot.core.audit_designs import (
    N_ASKED,
    QUESTIONS_PER_IMAGE,
    Preference,
    chosen_by_others,
    design_by_models,
)
from manyhot.core.ensembles import Ensemble
from manyhot.core.proposals import Proposed, apply_rule, with_pairs
from manyhot.core.sets import YES, LabelSets
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
from manyhot.parameters import AtLeast, Count, Positive, Seed, Shown
from manyhot.reassess.additions import class_table
from manyhot.reassess.class_questions import DrawnQuestions, class_design_of
from manyhot.reassess.ensemble import ensemble_of, only_source, order_check, source_images, source_predictions
from manyhot.reassess.init import create_campaign, standing_campaign
from manyhot.reassess.propose import RATERS, SECONDS, proposals_table
from manyhot.reassess.withdrawal import withdrawal_notes
from manyhot.registry import Entry, get
from manyhot.result import Result
from manyhot.run import QUIET, Run
from manyhot.tables import Campaign, Images, Predictions
from manyhot.tables.arrays import label_sets
from manyhot.tables.audit_samples import (
    QUESTION_PROBABILITY,
    DrawnSample,
    RandomNumbers,
    draw_sample,
    random_order,
    read_audit_sample,
    write_audit_sample,
)

GOLDEN = "golden"
"""The folder in an audit whose questions an expert answers."""

_SEEDS = 10**9
"""Number of seeds among which a random one is drawn: too many to guess, and short enough to copy."""

FEWEST_AUDITED = 100
"""Audited images below which a note says that intervals are rough or absent."""


@dataclass(frozen=True, eq=False)
class DrawnAudit(Result):
    """An audit that was drawn, as a campaign.

    Attributes
    ----------
    campaign : Campaign
        The campaign, with the drawn images.
    is_new : bool
        Whether this call created the campaign. False if the same campaign had already been drawn.
    sample : DrawnSample
        The drawn images, and the probability of every image of the population.
    n_questions : int
        Number of (image, class) pairs that people are asked about, over all drawn images.
    n_golden : int
        Number of further images, for golden questions.
    raters : int
        Number of answers per question.
    seconds : float
        Seconds that a rater takes for a question.
    notes, written
        As in `Result`.
    """

    campaign: Campaign
    is_new: bool
    sample: DrawnSample
    n_questions: int
    n_golden: int
    raters: int
    seconds: float

    @property
    def hours(self) -> float:
        """Total hours of all raters."""
        return self.n_questions * self.raters * self.seconds / 3600

    def to_json(self) -> dict[str, Any]:
        """Return the number of drawn images, their design and cost, and the notes."""
        return {
            "campaign": str(self.campaign.folder),
            "new": self.is_new,
            "design": self.sample.design,
            "seed": self.sample.seed,
            "images": len(self.sample),
            "population": len(self.sample.image_id),
            "questions": self.n_questions,
            "golden_images": self.n_golden,
            "raters": self.raters,
            "hours": self.hours,
            "notes": self.notes,
        }

    def lines(self) -> Iterator[str]:
        """Yield the numbers of images and questions, their cost, and the next commands."""
        folder = shlex.quote(str(self.campaign.folder))
        yield f"{'drew the audit' if self.is_new else 'nothing to do, this is the audit'} {folder}"
        n, n_images = len(self.sample), len(self.sample.image_id)
        p = self.sample.sample.design.probability
        cost = f"{self.raters} answers each, {self.seconds:g} seconds an answer"
        chances = f"each with a probability of {p[0]:.3g}"
        if p.min() < p.max():
            chances = f"with probabilities from {p.min():.3g} to {p.max():.3g}"
        yield from fact_lines(
            [
                ("images", f"{n:,}", f"of {n_images:,}, {self.sample.design}, {chances}"),
                ("questions", f"{self.n_questions:,}", f"{self.n_questions / n:.2f} an image"),
                ("hours", f"{self.hours:,.1f}", cost),
            ]
        )
        if self.n_golden:
            yield f"let an expert answer {self.n_golden:,} other images first:"
            yield f"  manyhot annotate {folder}/{GOLDEN} --open"
            yield f"  manyhot export {folder}/{GOLDEN} --golden {folder}/golden.parquet"
        yield f"let people answer: manyhot annotate {folder} --raters {self.raters}"


@command(
    "audit",
    examples=(
        "manyhot audit campaign --size 500 --out audit",
        "manyhot audit predictions --size 1000 --design active --raters 3 --out audit",
        "manyhot audit predictions --models resnet50 --models vit --design differences --size 400 --out pair",
        "manyhot audit predictions --design classes --size 412 --raters 2 --out audit",
    ),
)
def audit(
    labels: LabelsLike,
    predictions: PredictionsLike = (),
    *,
    size: Annotated[int, AtLeast(2)],
    out: Annotated[PathLike, Shown("FOLDER")] = "audit",
    design: Preference = "uniform",
    questions: Positive | None = None,
    rule: str | None = None,
    golden_images: Annotated[int, AtLeast(0)] = 0,
    raters: Count = RATERS,
    seconds: Positive = SECONDS,
    seed: Seed | None = None,
    reading: Reading = READING,
    run: Run = QUIET,
) -> DrawnAudit:
    """Draw a random sample of images, with recorded probabilities, as a campaign for people to label.

    The folder is a campaign like any other, which manyhot annotate opens. It contains the drawn images, the
    questions about them, and `audit_sample.parquet`, which is needed to estimate metrics over all images. The
    folder appears only when it is complete; repeating the same call changes nothing.

    Parameters
    ----------
    labels
        Images to draw from: a campaign, a folder of photographs, a folder written by manyhot predict, an
        images table, label sets that models propose, or a benchmark data set. Original labels are not needed.
    predictions
        Files or folders of predictions, instead of those of the campaign, folder or benchmark. Each model
        must have predictions for all images.
    size
        Number of images to draw.
    out
        Folder of the new campaign. A folder with other files is never overwritten.
    design
        Which images are drawn more often: none (uniform), those with more proposed classes (size), those on
        which models are less confident (confidence), those on which models may be wrong (active), those on
        which models differ (differences), or those that change macro average precision most (classes). With
        classes, the classes to ask about are also drawn. No image has a probability of 0.
    questions
        Only for the design classes: mean number of questions per image, including the questions proposed by
        the rule; 4.4 by default.
    rule
        Rule that proposes the classes to ask about, such as 'union' for the top class of each model; by
        default 'union(k=5)', or 'union' with the design classes. If predictions list fewer than five classes,
        k is smaller. If `labels` contain original labels or label sets, their classes are always asked about.
    golden_images
        Number of further images for golden questions, drawn at random from those outside the sample and
        written to the subfolder golden as a campaign for an expert.
    raters
        Number of answers per question, to compute the hours of work.
    seconds
        Seconds per question, to compute the hours of work; the default is an assumption.
    seed
        Seed for the draw. Do not try several seeds: a sample chosen from several is no longer random. The
        seed is recorded and, by default, drawn at random.

    Returns
    -------
    DrawnAudit

    Raises
    ------
    UsageError
        If `questions` is set, but the design is not classes.
    InputError
        If there are fewer images than `size`, the predictions do not suit the design, the rule learns from
        label sets, or the folder contains other files.
    MatchError
        If predictions have a different class list or lack images.
    OrderError
        As in `manyhot.evaluate`, if there are labels.
    """
    entry = None if rule is None else _rule(rule)
    if questions is not None and design != "classes":
        raise UsageError(
            "The number of questions can be set only for the design classes.",
            got=f"`questions` with the design {design}",
            do="set `design` to classes, or choose the questions with `rule`",
        )
    questions = questions or QUESTIONS_PER_IMAGE
    opened = open_inputs(labels, predictions, unlabelled=True, reading=reading, run=run)
    source = only_source(opened, "An audit is drawn for")
    images, read = source_images(source), source_predictions(source, run)
    classes = _classes(source, read)
    check = order_check(source, reading)
    ensemble = ensemble_of(images, read, len(classes), classes.hash, None, source.misfits, check=check)
    depth = 1 if design == "classes" else min(N_ASKED, *(top.shape[1] for top in ensemble.top))
    entry = entry or _rule("union" if depth == 1 else f"union(k={depth})")
    drawn, asked = _draw(images, ensemble, design, size, *_randomness(Path(out), seed), read, questions)
    rows = np.sort(pc.index_in(drawn.drawn, images.image_id).to_numpy())
    sets = _proposed_sets(source, images)
    content = _AuditContent(drawn, images, ensemble, entry, read, classes, rows, sets, asked)
    golden = _golden_rows(rows, images, golden_images, drawn.seed)
    about: dict[str, Any] = {"rule": entry.name, "models": ensemble.names, "golden": len(golden)}
    about |= {"questions": questions} if asked else {}
    settings = {"audit sample": _digest(drawn.about() | about)}
    inputs = {k: v for k, v in source.inputs.items() if k != "labels.parquet"} | settings
    size_of = (len(classes), len(rows) + len(golden))
    campaign = Campaign(Path(out), classes.name, classes.hash, *size_of, run.call, inputs)
    n_questions = len(content.questions(rows)[1].pairs)
    notes = (*source.misfits.notes(), *_notes(drawn, design, ensemble), *withdrawal_notes(source.campaign))
    made = DrawnAudit(campaign, False, drawn, n_questions, len(golden), raters, seconds, notes=notes)
    if (standing := standing_campaign(campaign, _DRAWN)) is not None:
        return replace(made, campaign=standing)
    create_campaign(campaign, lambda home: content.write(home, golden))
    return replace(made, is_new=True, written=(campaign.folder,))


_DRAWN = (
    "choose another folder; a sample is never replaced, because one chosen from several samples is not random"
)


@dataclass(frozen=True)
class _AuditContent:
    """What the folder of an audit is made from."""

    drawn: DrawnSample
    images: Images
    ensemble: Ensemble
    rule: Entry
    read: Sequence[Predictions]
    classes: ClassList
    rows: Ints
    sets: LabelSets | None = None
    asked: DrawnQuestions | None = None

    def questions(self, rows: Ints) -> tuple[Images, Proposed]:
        """Return some of the images, and the questions about them."""
        part = Images(self.images.table.take(pa.array(rows)), self.images.name)
        proposed = apply_rule(self.ensemble.take(rows), self.rule, leave_out="nothing")
        if self.sets is not None:
            own = self.sets.take(rows)
            valid = own.state == YES
            proposed = with_pairs(proposed, own.rows[valid], own.classes[valid], own.n_classes)
        proposed = proposed if self.asked is None else self.asked.added_to(proposed, rows)
        _check_asked(proposed, part, self.rule.name)
        return part, proposed

    def _proposed(self) -> dict[str, float]:
        """Return the accuracy of each model over all images if the other models propose the label sets."""
        found = chosen_by_others(_top_classes(self.ensemble)).mean(axis=0)
        return dict(zip(self.ensemble.names, map(float, found), strict=True))

    def write(self, home: Campaign, golden: Ints) -> tuple[str, ...]:
        """Write the tables to the folder of a campaign, and golden images to a campaign in a subfolder."""
        self._write(home, np.sort(np.concatenate([self.rows, golden])))
        write_audit_sample(self.drawn, home.path("audit_sample"), call=home.call, inputs=home.inputs)
        if len(golden):
            inner = replace(home, folder=home.folder / GOLDEN, n_images=len(golden))
            self._write(inner, golden)
            inner.write()
        return ()

    def _write(self, home: Campaign, rows: Ints) -> None:
        part, proposed = self.questions(rows)
        about = {"classes": self.classes.hash, "n_classes": str(len(self.classes))}
        write = partial(tables.write, call=home.call, inputs=home.inputs)
        write(class_table(self.classes), home.path("classes"), "classes")
        write(part.table, home.path("images"), "images", about=about)
        if self.images.label is not None:
            write(self.images.table, home.path("examples"), "images", about=about)
        about |= {
            "models": "\n".join(self.ensemble.names),
            "rule": json.dumps({"rule": self.rule.name, **proposed.pairs.about}),
            "proposed": json.dumps(self._proposed()),
        }
        about |= {} if self.asked is None else {QUESTION_PROBABILITY: "score"}
        questions = proposals_table(part, proposed, self.rule.name)
        write(questions, home.path("proposals"), "proposals", about=about)
        for model in self.read:
            if model.model in self.ensemble.names:
                own = _rows_of(model, part.image_id, self.classes)
                target = home.path("predictions") / tables.predictions_file_name(model.model)
                tables.write_predictions(own, target, call=home.call)


def _golden_rows(rows: Ints, images: Images, n: int, seed: int) -> Ints:
    """Return images for golden questions, drawn with equal probabilities from those outside of the sample."""
    others = np.setdiff1d(np.arange(len(images)), rows)
    if n > len(others):
        raise InputError(
            "There are too few images outside the sample.",
            got=f"{n:,} images for golden questions",
            allowed=f"at most {len(others):,}",
            do="draw fewer images with `size` or `golden_images`",
        )
    order = random_order(images.image_id.take(pa.array(others)), seed, "golden")
    return np.sort(others[order[:n]])


def _randomness(folder: Path, seed: int | None) -> tuple[int, RandomNumbers]:
    """Return the seed, and how random numbers are made from it: those of the audit that is already there."""
    path = Campaign(folder, "", "", 0, 0).path("audit_sample")
    standing = read_audit_sample(path) if path.is_file() else None
    if standing is not None and seed in (None, standing.seed):
        return standing.seed, standing.random
    return secrets.randbelow(_SEEDS) if seed is None else seed, "sha256"


def _rule(rule: str) -> Entry:
    entry = get("proposer", rule)
    if entry.about.get("learns"):
        raise InputError(
            "The rule learns from known label sets, which an audit does not have.",
            got=entry.name,
            allowed="a rule such as union or union(k=5)",
        )
    return entry


def _classes(source: Source, read: Sequence[Predictions]) -> ClassList:
    """Return the class list of a data set or its predictions."""
    if not read:
        raise InputError(
            "There are no predictions from which to choose the classes to ask about.",
            do="run manyhot predict with at least one model",
        )
    hashes = [p.class_hash for p in read]
    lists = (source.classes, *(p.class_list for p in read), *map(class_list_of, hashes))
    found = next((c for c in lists if c is not None), None)
    if found is None:
        raise InputError(
            "The class list is unknown.",
            where=source.name,
            allowed="a file with one key per line",
            do="pass it as `classes`",
        )
    return found


def _proposed_sets(source: Source, images: Images) -> LabelSets | None:
    """Return label sets that were passed, whose classes are asked about, too, by the row of the image."""
    labels = source.labels
    if labels is None or source.campaign is not None or source.published is not None or labels.are_original:
        return None
    sets = label_sets(labels)
    return sets.take(pc.index_in(images.image_id, labels.image_id).to_numpy())


def _draw(
    images: Images,
    ensemble: Ensemble,
    design: Preference,
    size: int,
    seed: int,
    random: RandomNumbers,
    read: Sequence[Predictions],
    questions: float,
) -> tuple[DrawnSample, DrawnQuestions | None]:
    """Draw the images; neither their order nor the seed depends on what models predict."""
    if size > len(images):
        raise InputError(
            "`size` is larger than the number of images.", got=f"{size:,}", allowed=f"2 to {len(images):,}"
        )
    top = _top_classes(ensemble)
    if design == "classes":
        used = [model for model in read if model.model in ensemble.names]
        drawn = class_design_of(images, used, top, ensemble.n_classes, size, questions)
        sample = draw_sample(images.image_id, drawn.design.probability, "active", seed, random=random)
        return sample, DrawnQuestions(drawn.asked, seed)
    made = design_by_models(design, top, size, _confidence(ensemble))
    names = made.names()
    strata = None if names is None else pa.array(names.tolist(), pa.string())
    return draw_sample(images.image_id, made.design.probability, made.kind, seed, strata, random=random), None


def _top_classes(ensemble: Ensemble) -> Ints:
    return np.stack([top[:, 0] for top in ensemble.top], axis=1)


def _confidence(ensemble: Ensemble) -> Floats32 | None:
    """Return the probability of the top class of each model, shape (N, M); None if a model has none."""
    columns = [p[:, 0] for p in ensemble.probabilities if p is not None]
    return np.stack(columns, axis=1) if len(columns) == len(ensemble.names) else None


def _check_asked(proposed: Proposed, part: Images, rule: str) -> None:
    if (without := np.flatnonzero(proposed.left_out)).size:
        raise InputError(
            "The rule does not propose any class for some of the drawn images.",
            where=f"image {part.image_id[int(without[0])]}",
            got=f"{len(without):,} of {len(part):,} images without a question, by the rule {rule}",
            allowed="at least one class for each image",
            do="choose another rule, such as union",
        )


def _digest(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _notes(drawn: DrawnSample, design: Preference, ensemble: Ensemble) -> Iterator[str]:
    n = len(drawn)
    if n < FEWEST_AUDITED:
        yield (
            f"{n} images are a small sample: an interval requires about 10 images on which people and "
            "models disagree, so many metrics will have no interval. manyhot plan computes how many images a "
            "question requires"
        )
    p = drawn.sample.design.probability
    if design != "uniform" and p.min() == p.max():
        yield f"the design {design!r} gives all images the same probability, because models do not differ"
    elif design == "differences" and len(ensemble.names) == 2:
        yield (
            "this sample is designed to estimate the difference between the two models; values of a single "
            "model are less precise than with a uniform sample"
        )


def _rows_of(model: Predictions, image_id: pa.Array, classes: ClassList) -> Predictions:
    """Return the predictions of some images, in their order."""
    rows = pc.index_in(image_id, model.image_id).to_numpy()

    def at(values: npt.NDArray[Any] | None) -> Any:
        return None if values is None else values[rows]

    return replace(
        model,
        image_id=image_id,
        classes=at(model.classes),
        scores=at(model.scores),
        logsumexp=at(model.logsumexp),
        n_classes=len(classes),
        class_hash=classes.hash,
        uncertainty=None,
        class_list=None,
    )
