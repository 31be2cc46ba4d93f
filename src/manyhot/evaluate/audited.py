"""Audits: values on people's label sets, which exist only for a random sample of the images.

Models, or single labels, propose a label set for every image. A metric is computed on the proposed label sets
of all images and on people's label sets of the audited ones, and `manyhot.core.audited` combines the two.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from manyhot.core.array_types import Bools, Floats
from manyhot.core.audit_samples import AuditSample, check_sample
from manyhot.core.audit_sequence import sequence_quantile
from manyhot.core.audited import AuditedEstimate, LinearisedValues, Power, estimate
from manyhot.core.resampling import QUANTILE
from manyhot.core.sets import YES, LabelSets
from manyhot.data.data_sets import Source, open_images
from manyhot.data.inputs import Reading
from manyhot.errors import InputError, MatchError, UsageError
from manyhot.evaluate.audit_proposals import ModelProposals, has_no_labels, propose_by_models
from manyhot.evaluate.audited_questions import (
    ALL_CLASSES,
    AuditQuestions,
    audit_questions,
    estimand_note,
    open_answers,
    with_proposed,
)
from manyhot.evaluate.posterior import draw_people
from manyhot.evaluate.result_rows import Note
from manyhot.evaluate.results import Evaluation
from manyhot.evaluate.slices import labels_of
from manyhot.files import sha256
from manyhot.formats.reading import declared
from manyhot.parameters import Flattened, Shown, check_one_of
from manyhot.run import Run
from manyhot.tables import DESCRIPTION, Campaign, Labels
from manyhot.tables.arrays import label_sets
from manyhot.tables.audit_samples import (
    UNIFORM,
    DrawnSample,
    audit_sample_from_table,
    read_audit_sample,
)
from manyhot.tables.declared_samples import DeclaredDesign
from manyhot.tables.frames import examples
from manyhot.tables.labels import with_ids_like
from manyhot.tables.result_tables import headline
from manyhot.tables.schemas import metadata, read

ESTIMATORS: Mapping[str, Power] = {"ppi++": "tuned", "difference": 1.0, "sample": 0.0}
"""The weight of the proposed label sets, by the name of the estimator."""

MAP_MACRO = "map_macro"
"""The metric that is not a ratio of sums and is audited by its own estimator."""

Estimator = Literal["ppi++", "difference", "sample"]


@dataclass(frozen=True, repr=False)
class Audit(Flattened):
    """People's label sets for a random sample of the images, used to correct values on proposed label sets.

    Attributes
    ----------
    audited
        People's label sets for a random sample of the images: a labels table, such as the one that manyhot
        aggregate writes; a campaign; or votes, which are combined by the default method. The label sets of
        all images then serve only as proposals, and the values on people's label sets are estimated.
    sample
        How the audited images were drawn: the table audit_sample of manyhot audit; by default, that of the
        campaign. If you drew them yourself, a table of all images with the probability of each one
        (probability), its stratum, or both; or uniform, if each image had the same probability.
    proposed
        Proposed label sets of all images, if they differ from those of DATASET, in any format of label sets.
        In a labels table, the column p can be the probability of each class.
    proposed_by
        Where the proposed label sets come from: labels (those of DATASET, such as original labels, or those
        in `proposed`), or models (for each model, the classes that most of the other models predict). The
        default is labels if there are any, and otherwise models.
    estimator
        How people's and proposed label sets are combined: ppi++ (proposals are weighted by their quality),
        difference (proposals have full weight), or sample (only the audited images are used).
    population
        Compute intervals for the population that the images come from, not only for these images.
    blind_stop
        State that an audit stopped early for a reason that does not depend on its results, such as a
        deadline. Its intervals are then computed as usual. By default, an audit that stopped early has wider
        intervals, which are valid at any number of answers.
    """

    audited: Annotated[Any, Shown("LABELS")] = None
    sample: Annotated[Any, Shown("FILE")] = None
    proposed: Annotated[Any, Shown("LABELS")] = None
    proposed_by: Literal["labels", "models"] | None = None
    estimator: Estimator = "ppi++"
    population: bool = False
    blind_stop: bool = False

    @property
    def is_requested(self) -> bool:
        """Whether an audit is requested.

        Raises
        ------
        UsageError
            If a sample or another option is passed without audited label sets.
        """
        check_one_of(self.estimator, ESTIMATORS, "There is no such estimator.", where="`estimator`")
        if self.audited is None and self.sample is not None:
            raise _half("`sample`", "`audited`")
        if self.audited is None and self.proposed is not None:
            raise _half("`proposed`", "`audited`")
        names = ("proposed_by", "estimator", "population", "blind_stop")
        unused = [f"`{name}`" for name in names if getattr(self, name) != getattr(NO_AUDIT, name)]
        if self.audited is None and unused:
            raise UsageError(
                "Options of an audit require people's label sets.",
                got=f"{' and '.join(unused)} without `audited`",
                do=f"pass `audited`, or leave out {' and '.join(unused)}",
            )
        if self.proposed is not None and self.proposed_by == "models":
            raise UsageError(
                "Label sets can be proposed by a file or by models, but not by both.",
                got="`proposed` and `proposed_by` models",
                do="leave out one of them",
            )
        return self.audited is not None

    def open_sample(self, labels: Labels) -> tuple[DrawnSample | DeclaredDesign, dict[str, str]]:
        """Return the sample, and the sha256 of its file by file name; of a declared one, its design.

        Raises
        ------
        InputError, MatchError
            As in `read_audit_sample` or `DeclaredDesign.of_table`.
        """
        path: Any = self.sample
        if isinstance(path, DrawnSample):
            return path, {}
        if isinstance(path, str) and path == UNIFORM:
            return DeclaredDesign(labels.image_id, name=labels.name), {}
        if isinstance(path, pa.Table) and metadata(path).get("design"):
            return audit_sample_from_table(path, name="the audit sample"), {}
        path = self._campaign_sample if path is None else path
        inputs = {Path(path).name: sha256(path)} if isinstance(path, str | os.PathLike) else {}
        if inputs and declared(Path(path)):
            return read_audit_sample(path), inputs
        images = open_images(path, None)
        assert images is not None
        return DeclaredDesign.of_images(images, labels.image_id, labels.name), inputs

    @property
    def _campaign_sample(self) -> Path | None:
        path = self.folder and self.folder / "audit_sample.parquet"
        return path if path and path.is_file() else None

    @property
    def folder(self) -> Path | None:
        """The folder of people's answers; None if the answers are not in a file or folder."""
        if not isinstance(self.audited, str | os.PathLike):
            return None
        path = Path(self.audited)
        return path.parent if path.is_file() else path

    @property
    def campaign(self) -> Campaign | None:
        """The campaign in which people answered; None if there was no campaign."""
        folder = self.folder
        return Campaign.read(folder) if folder is not None and (folder / DESCRIPTION).is_file() else None


def _half(has: str, lacking: str) -> UsageError:
    return UsageError(
        "An audit requires people's label sets and the sample that was drawn.",
        got=f"{has} without {lacking}",
        do=f"pass {lacking}, too"
        + "; if the audited images are a uniform random sample of all images, `sample` uniform"
        * (lacking == "`sample`"),
    )


NO_AUDIT = Audit()


@dataclass(frozen=True, eq=False)
class AuditedImages:
    """The images of a sample for which people gave answers, and how the sample was drawn.

    Attributes
    ----------
    people : LabelSets
        People's label sets of the n audited images, with the original labels of the data set.
    sample : AuditSample
        The positions of the audited images among all images of the data set, in the same order as `people`.
    inputs : Mapping of str to str
        The sha256 of each input file, by file name.
    models : ModelProposals, optional
        The label sets that models propose for one another; None if the proposals are labels.
    votes : str
        Description of the votes that people's label sets were made from; empty if label sets were passed.
    questions : AuditQuestions
        The classes that people were asked about.
    draws : tuple of LabelSets
        Draws of people's label sets from their probabilities, for intervals over both images and raters.
    """

    people: LabelSets
    sample: AuditSample
    audit: Audit
    drawn: DrawnSample
    inputs: Mapping[str, str] = field(default_factory=dict)
    models: ModelProposals | None = None
    votes: str = ""
    questions: AuditQuestions = ALL_CLASSES
    draws: tuple[LabelSets, ...] = ()

    @property
    def depth(self) -> int:
        """The size of the largest label set, including drawn label sets."""
        return max(int(sets.size.max(initial=1)) for sets in (self.people, *self.draws))

    @property
    def is_whole(self) -> bool:
        """Whether all images were audited."""
        return len(self.sample) == len(self.sample.design)

    @cached_property
    def weights(self) -> Floats:
        """The number of images that each audited image represents, shape (N,); 0 for images not audited."""
        found = np.zeros(len(self.sample.design))
        found[self.sample.images] = self.sample.weights * len(found)
        return found

    @property
    def planned(self) -> int | None:
        """The number of drawn images if an audit may have stopped early because of its results; else None."""
        stopped = not self.audit.blind_stop and len(self.sample) < len(self.drawn)
        return len(self.drawn) if stopped else None

    @property
    def quantile(self) -> float | None:
        """The half-width of intervals in standard errors; None if it is a quantile of Student's t."""
        return None if self.planned is None else sequence_quantile(len(self.sample), self.planned)

    def estimate(
        self, values: LinearisedValues, metric: str, same: Bools | None = None, reserve: Floats | None = None
    ) -> AuditedEstimate:
        """Estimate values of a metric; `same` and `reserve` are as in `manyhot.core.audited.estimate`."""
        power = 1.0 if metric == MAP_MACRO else ESTIMATORS[self.audit.estimator]
        found = estimate(
            values, self.sample, power=power, population=self.audit.population, same=same, reserve=reserve
        )
        # Its proposals are fitted, and images that could matter have high probabilities (`doubt_of_classes`).
        return replace(found, checked=False) if metric == MAP_MACRO else found

    def note(self, dataset: str) -> Note:
        """Return a note on how values were estimated."""
        n, of = len(self.sample), len(self.sample.design)
        part = "" if n == len(self.drawn) else f", the first of {len(self.drawn):,}"
        where = "the population" if self.audit.population else "these images"
        text = (
            f"values are estimates on people's label sets: {n:,} of {of:,} images were audited{part} "
            f"({self.drawn.design} sample, {self._drawn_how()}; estimator {self.audit.estimator}"
            f"{'' if self.models is None else ', label sets proposed by the other models'}); "
            f"intervals are for the values on {where}, {self._raters()}{self.votes}"
        )
        if self.quantile is not None:
            text += (
                f"; because the audit stopped early, the intervals are {self.quantile / QUANTILE:.1f} times "
                "as wide, so that they are valid after any number of answers; pass `blind_stop` if the stop "
                "did not depend on results"
            )
        return Note(dataset, "", "audit", n, text)

    def _drawn_how(self) -> str:
        if self.drawn.is_declared:
            return "drawn by yourself, as declared with `sample`"
        return f"seed {self.drawn.seed}"

    def _raters(self) -> str:
        """Return over what intervals are computed, and how raters enter."""
        if not self.draws:
            return "with answers taken as they are"
        return (
            f"over images and raters: values are means over {len(self.draws):,} draws of people's label sets "
            "from their probabilities, which are assumed to be right"
        )

    def described(self, evaluation: Evaluation, dataset: str) -> Evaluation:
        """Return an evaluation whose first notes describe the estimates, and the bias of proposals alone."""
        asked = estimand_note(self.people, self.sample.weights, dataset)
        unseen = self._unseen_notes(evaluation.results, dataset)
        alone = _alone_notes(evaluation.results, dataset)
        raters = [note for note in evaluation.model_notes if note.kind == "raters"]
        first = (self.note(dataset), *raters, *([asked] if asked else []), *unseen, *alone)
        metadata = {**evaluation.metadata, **self._about()}
        bare = replace(evaluation, metadata=metadata, model_notes=())
        return bare.with_notes((*first, *(n for n in evaluation.model_notes if n.kind != "raters")))

    def _unseen_notes(self, results: pa.Table, dataset: str) -> Iterator[Note]:
        """Yield notes on what macro average precision assumes."""
        if MAP_MACRO not in pc.unique(results["metric"]).to_pylist():
            return
        if self.questions.are_drawn:
            text = (
                f"{MAP_MACRO} is estimated from drawn questions and, where these are rare, from a "
                "regression; in simulations, the bias is up to 3 points, which the intervals allow for"
            )
            yield Note(dataset, "", "drawn_questions", len(self.people), text)
        if self.is_whole:
            return
        if unseen := self.people.n_classes - len(np.unique(self.people.classes[self.people.state == YES])):
            text = (
                f"{unseen:,} of {self.people.n_classes:,} classes have no positives in the sample; "
                f"{MAP_MACRO} assumes that other images show these classes, as models predict; leave out "
                "classes that no image shows"
            )
            yield Note(dataset, "", "unseen", unseen, text)

    def _about(self) -> dict[str, str]:
        values = {
            "design": self.drawn.design,
            "seed": None if self.drawn.is_declared else self.drawn.seed,
            "n": len(self.sample),
            "n_images": len(self.sample.design),
            "estimator": self.audit.estimator,
            "proposed_by": "labels" if self.models is None else "models",
            "population": self.audit.population,
            "blind_stop": self.audit.blind_stop,
            "draws": len(self.draws),
        }
        return {"audit": json.dumps(values)}


def _alone_notes(results: pa.Table, dataset: str) -> Iterator[Note]:
    """Yield by how much the first headline metric would be off on the proposed label sets alone."""
    rows = [r for r in results.to_pylist() if r["slice"] == "all" and r.get("alone") is not None]
    metric = next((m for m in headline() if m in {r["metric"] for r in rows}), None)
    bias = [100 * (r["alone"] - r["value"]) for r in rows if r["metric"] == metric]
    bias = [b for b in bias if not math.isnan(b)]
    if bias:
        extent = f"; {min(bias):+.2f} to {max(bias):+.2f}" if len(bias) > 1 else ""
        mean = f"mean over {len(bias):,} models{extent}" if extent else "the column alone has all values"
        text = (
            f"on the proposed label sets alone, {metric} would differ by {fmean(bias):+.2f} points ({mean})"
        )
        yield Note(dataset, "", "alone", len(bias), text)


def open_audit(
    audit: Audit, source: Source, reading: Reading, run: Run, *, draws: int = 0, seed: int = 0
) -> tuple[Labels, AuditedImages]:
    """Read an audit of a data set, and check that its parts match.

    Parameters
    ----------
    reading, run
        As in `manyhot.evaluate`.
    draws, seed : int
        Number of draws of people's label sets, and the seed of these draws.

    Returns
    -------
    labels : Labels
        The proposed label sets of all images, with original labels.
    images : AuditedImages

    Raises
    ------
    UsageError
        If there is no sample.
    InputError
        If the sample is not the one that its seed draws, or the proposed label sets were made from people's
        answers.
    MatchError
        If the images of the sample, of the proposed label sets and of the audited label sets do not match.
    """
    if audit.sample is None and audit._campaign_sample is None:
        raise _half("`audited`", "`sample`")
    alone = Reading(classes=source.classes or reading.classes, match=reading.match)
    if audit.proposed is not None:
        values = replace(alone, label_values=reading.label_values)
        source = with_proposed(source, audit.proposed, values, run)
    by_models = audit.proposed_by == "models" or (audit.proposed_by is None and has_no_labels(source))
    models = propose_by_models(source) if by_models else None
    labels = labels_of(source) if models is None else models.labels
    found, votes = open_answers(audit.audited, alone, run)
    people = found.sets()
    _check_fresh(labels, people, found.inputs)
    design, inputs = audit.open_sample(labels)
    people, _ = with_ids_like(people, design.image_id, other_name=design.name or "the audit sample")
    _check_classes(labels, people)
    drawn = design if isinstance(design, DrawnSample) else design.drawn(rated(people).image_id)
    check_sample(drawn.sample)
    campaign = audit.campaign
    people, n = _answered(_without_golden(people, campaign, drawn), drawn)
    sample = drawn.sample_for(labels.image_id, labels.name or "the labels")
    sample = sample if n == len(sample) else sample.first(n)
    proposed = label_sets(labels).take(sample.images)
    sets = replace(label_sets(people), label=proposed.label)
    questions = audit_questions(sets, people.image_id, campaign)
    found_inputs = {**found.inputs, **inputs}
    methods = people.table["method"].unique().to_pylist() if "method" in people.table.column_names else []
    drawn_sets = draw_people(sets, proposed, sample, draws, seed, people.name, methods)
    return labels, AuditedImages(
        sets, sample, audit, drawn, found_inputs, models, votes, questions, drawn_sets
    )


def _without_golden(people: Labels, campaign: Campaign | None, drawn: DrawnSample) -> Labels:
    """Return the label sets of a campaign without its golden images, which were drawn from other images."""
    if campaign is None:
        return people
    tables = {"golden": campaign.path("golden"), "images": campaign.folder / "golden" / "images.parquet"}
    found = [read(path, name)["image_id"].to_pylist() for name, path in tables.items() if path.is_file()]
    golden = pa.array({name for ids in found for name in ids}, pa.string())
    is_other = pc.and_not(pc.is_in(people.image_id, golden), pc.is_in(people.image_id, drawn.drawn))
    return replace(people, table=people.table.filter(pc.invert(is_other)))


def _check_classes(labels: Labels, people: Labels) -> None:
    """Raise an error if proposed and people's label sets are over different class lists."""
    hashes = {t.class_hash for t in (labels, people)} - {""}
    if labels.n_classes != people.n_classes or len(hashes) > 1:
        raise MatchError(
            "The audited and the proposed label sets have different class lists.",
            where=people.name or "`audited`",
            got=f"{people.n_classes:,} classes, class list {people.class_hash or 'unknown'}",
            allowed=f"{labels.n_classes:,} classes, class list {labels.class_hash or 'unknown'}",
            do="pass label sets over the same classes, or the class list as `classes`",
        )


def _check_fresh(labels: Labels, people: Labels, files: Mapping[str, str]) -> None:
    """Raise an error if the proposed label sets were made from the answers about the audited images."""
    of_people = set(files.values()) | set(_answers_in(people).values())
    shared = {name for name, digest in _answers_in(labels).items() if digest in of_people}
    if shared:
        raise InputError(
            "The proposed label sets were made from the answers about the audited images.",
            where=labels.name or "the labels",
            got=f"{', '.join(sorted(shared))}, from which the audited label sets were made, too",
            allowed="proposals made without these answers; otherwise, they look better than they are",
            do="let models propose label sets, or use cross-fitting: manyhot.core.audit_cross_fitting",
        )


def _answers_in(labels: Labels) -> dict[str, str]:
    """Return the sha256 of the files that label sets were made from, by name, except images and classes."""
    inputs = json.loads(metadata(labels.table).get("inputs", "{}"))
    return {k: v for k, v in inputs.items() if Path(k).stem not in ("images", "classes")}


def rated(people: Labels) -> Labels:
    """Return the label sets of a campaign without the images that nobody answered."""
    if "rated" not in people.table.column_names:
        return people
    return replace(people, table=people.table.filter(pc.fill_null(people.table["rated"], True)))


def _answered(people: Labels, drawn: DrawnSample) -> tuple[Labels, int]:
    """Return the label sets of the answered images in the order of the sample, and their number.

    In the labels of a campaign, images that nobody answered are not rated.
    """
    people = rated(people)
    extra = people.image_id.filter(pc.invert(pc.is_in(people.image_id, drawn.drawn)))
    if len(extra):
        raise MatchError(
            "People answered questions about images that are not in the sample.",
            where=people.name or "`audited`",
            got=f"{len(extra):,} of {len(people):,} images, such as {examples(extra)}",
            allowed=f"the {len(drawn):,} images that were drawn",
            do="pass only the label sets of the drawn images: the other images had no chance of being drawn",
        )
    at = pc.index_in(drawn.drawn, people.image_id)
    n = len(people)
    if at[:n].null_count or not n:
        absent = drawn.drawn.filter(at.is_null())
        raise MatchError(
            "Some images of the sample have no answers.",
            where=people.name or "`audited`",
            got=f"{len(absent):,} of {len(drawn):,} images without an answer, such as {examples(absent)}",
            allowed="answers about all images, or about the first ones in the order of the sample",
            do="answer questions about the remaining images, too: they may be the difficult ones",
        )
    return replace(people, table=people.table.take(at[:n])), n
