"""Recalibration methods and prediction sets, evaluated on images that were not used for fitting."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from manyhot.command import command
from manyhot.console import table_lines
from manyhot.core.calibration import check_softmax
from manyhot.core.class_errors import independent_classes
from manyhot.core.conformal import COVERS, DRAWN, check_alpha
from manyhot.core.order_check import one_sided_note
from manyhot.core.score_threshold import link_of
from manyhot.core.sets import Case
from manyhot.data.data_sets import Source
from manyhot.data.inputs import READING, LabelsLike, PredictionsLike, Reading, open_inputs
from manyhot.diagnose.calibration_chapter import (
    BY_ERROR,
    MEASURES,
    MOST_DRAWN,
    by_error,
    calibration_answer,
    judged_by_top_class,
    model_lines,
    same_for_sets,
    set_lines,
)
from manyhot.diagnose.calibration_classes import by_model, calibration_of_classes, class_tables
from manyhot.diagnose.page import DiagnosisResult
from manyhot.errors import InputError, first_names
from manyhot.evaluate.clusters import ClustersLike, cluster_notes, clusters_of
from manyhot.evaluate.confidence import (
    FITTED_TO,
    RECALIBRATIONS,
    Division,
    RecalibrationMethod,
    Split,
    bound_note,
    check_method,
    choose_sets,
    split,
    split_for_sets,
)
from manyhot.evaluate.judge_options import JudgeOptions
from manyhot.evaluate.judging import judge_models
from manyhot.evaluate.options import MAX_MAP_RESAMPLES
from manyhot.evaluate.requirements import DECLARE_KIND, doubtful_sigmoids
from manyhot.evaluate.results import Evaluation
from manyhot.evaluate.slices import labels_of, model_cases, order_check_of
from manyhot.parameters import RESAMPLES, Resamples, Seed, Was
from manyhot.report.chapter import rows_by
from manyhot.run import QUIET, Run
from manyhot.run import Progress as OnProgress
from manyhot.tables import Labels, Predictions, Row, schema
from manyhot.tables.arrays import label_sets, probabilities
from manyhot.tables.skipped_files import fitting_models

_BY_IMAGE = ("prediction sets and bins of the top class",)
"""Values whose intervals do not allow for clusters."""


@dataclass(frozen=True, eq=False)
class Calibration(DiagnosisResult):
    """Calibration of models before and after recalibration, and their prediction sets.

    Attributes
    ----------
    calibration, prediction_sets, calibration_bins, class_calibration : pyarrow.Table
        The tables with these names; see `manyhot.tables.TABLES` for their columns. `class_calibration` has
        rows only for models of independent classes, and only if there are no original labels.
    notes, metadata, inputs
        As in `Result`.
    """

    NAMES = ("calibration", "prediction_sets", "calibration_bins", "class_calibration")
    OPTIONAL = ("class_calibration",)

    calibration: pa.Table
    prediction_sets: pa.Table
    calibration_bins: pa.Table = field(default_factory=lambda: schema("calibration_bins").empty_table())
    class_calibration: pa.Table = field(default_factory=lambda: schema("class_calibration").empty_table())

    def lines(self) -> Iterator[str]:
        """Yield the answer and, for each model, the effect of recalibration and the prediction sets."""
        every, sets = self.calibration.to_pylist(), self.prediction_sets.to_pylist()
        models = rows_by(every, "dataset", "model")
        bins, classes = self.calibration_bins.to_pylist(), self.class_calibration.to_pylist()
        if answer := " ".join(calibration_answer(every, bins, classes)):
            yield from (answer, "")
        for (dataset, model), of_model in list(by_model(classes).items())[:MOST_DRAWN]:
            yield from calibration_of_classes(dataset, model, of_model)
        shown = judged_by_top_class(every, classes)
        if len(models) > MOST_DRAWN:
            yield from table_lines(BY_ERROR, by_error(shown, bins)) if shown else ()
            yield "All metrics and prediction sets of each model are in the tables and on the page."
            return
        for (dataset, model), rows in models.items():
            own = [r for r in sets if (r["dataset"], r["model"]) == (dataset, model)]
            # With single labels, each result would be printed twice.
            if single := same_for_sets(rows):
                rows = [r for r in rows if r["fitted_to"] != "sets"]
                own = [r for r in own if r["cover"] == "label"] or own
            if rows[0] in shown:
                events = [event for event in MEASURES if event != "set" or not single]
                yield from model_lines(dataset, model, rows, events)
            yield from set_lines(own)


@command(
    "diagnose calibration",
    out="calibration",
    examples=(
        "manyhot diagnose calibration campaign",
        "manyhot diagnose calibration labels.parquet --predictions predictions --methods temperature",
    ),
)
def diagnose_calibration(
    labels: LabelsLike,
    predictions: PredictionsLike = (),
    *,
    methods: Annotated[Sequence[RecalibrationMethod], Was("--method")] = RECALIBRATIONS,
    alpha: float = 0.1,
    fit: float = 0.5,
    clusters: ClustersLike | None = None,
    seed: Seed = 0,
    resamples: Resamples = RESAMPLES,
    reading: Reading = READING,
    run: Run = QUIET,
) -> Calibration:
    """Measure how well confidence matches accuracy, before and after recalibration.

    If there are no original labels and a model predicts independent classes, as with sigmoids, the
    probability of each class is compared with its label, on all images for which raters were asked about the
    class.

    Each method is fitted on some of the images, once to original labels and once to label sets. On the other
    images, the original and the recalibrated predictions are evaluated against both kinds of labels. If
    raters chose one class per image and their votes are known, as with counts or shares of votes, each method
    is also fitted to the shares, and confidence is compared with the share of votes for the top class.
    Prediction sets are made to cover the original label, one class of the label set, or the whole label set.
    Their thresholds are chosen on the images used for fitting, and their coverage is measured on the other
    images. The models must not have been trained on these images.

    Parameters
    ----------
    labels
        Name of a data set, such as imagenet-val; or a campaign, a folder written by predict, a file of label
        sets, or an images table.
    predictions
        Files or folders of predictions, used instead of those of the campaign or folder. Models without
        confidences, such as rank-only predictions, are skipped.
    methods
        Recalibration methods: temperature, vector or isotonic; by default all three.
    alpha
        Permitted share of images whose prediction set does not contain the required classes.
    fit
        Share of images used for fitting; the metrics are computed on the other images.
    clusters
        Column of the images table that identifies images that depend on each other, such as patient_id.
        Intervals then treat clusters, not images, as independent, and no cluster is in both parts. In Python,
        the values themselves can be passed, as a series or mapping by image id.
    seed
        Seed for the split into two parts and for the bootstrap.
    resamples
        Number of bootstrap resamples; 0 for no intervals. Calibration errors use at most 200 of them.

    Returns
    -------
    Calibration

    Raises
    ------
    InputError
        If no model has confidences, a file cannot be read, or an option is out of range.
    MatchError, OrderError
        As in `manyhot.evaluate`.
    """
    check_alpha(alpha)
    for method in methods:
        check_method(method)
    parts, inputs = [], dict[str, str]()
    for source in open_inputs(labels, predictions, reading=reading, run=run):
        sets = labels_of(source)
        of_images = clusters_of(clusters, sets, source.images)
        ids = sets.image_id.to_pylist()
        options = JudgeOptions(
            resamples=resamples,
            seed=seed,
            map_resamples=min(resamples, MAX_MAP_RESAMPLES),
            clusters=of_images and dict(zip(ids, of_images.number.tolist(), strict=True)),
            keep_undefined=True,
            trust_order=reading.trust_order,
        )
        division = Division(fit, seed, of_images)
        judge = _Judge(source, sets, methods, division, alpha, options, run.on_progress)
        parts.append(judge.judged(clusters))
        inputs |= source.inputs
    return Calibration(
        *(pa.concat_tables([getattr(part, name) for part in parts]) for name in Calibration.NAMES),
        notes=tuple(note for part in parts for note in part.notes),
        metadata={"fit": json.dumps(fit), "seed": str(seed)},
        inputs=inputs,
    )


def _only_labels(labels: Labels) -> bool:
    """Return whether the label sets hold the original labels and nothing else."""
    sets = label_sets(labels)
    return bool((sets.size == 1).all() and (sets.first == sets.label).all())


@dataclass
class _Judge:
    """Collects rows of both tables, model by model."""

    source: Source
    labels: Labels
    methods: Sequence[RecalibrationMethod]
    division: Division
    alpha: float
    options: JudgeOptions
    on_progress: OnProgress | None
    _models: list[str] = field(default_factory=list)
    _without: list[str] = field(default_factory=list)
    _rows: list[Row] = field(default_factory=list)
    _sets: list[Row] = field(default_factory=list)
    _bins: list[Row] = field(default_factory=list)
    _classes: list[Row] = field(default_factory=list)
    _notes: list[tuple[str, str, str, str]] = field(default_factory=list)
    """The model of a note and its part, the text, and what was found, which differs between models."""
    _links: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """Models by the link of their logits, and why it was used."""

    def __post_init__(self) -> None:
        self._seen = np.zeros(len(self.labels), bool)

    def judged(self, clusters: ClustersLike | None) -> Calibration:
        """Return the tables of all models of the data set, and notes on the clusters that were passed."""
        source = self.source
        check = None if self.options.trust_order else order_check_of(source)
        for _ in fitting_models(source.models(), partial(self.add, check=check), source.misfits):
            pass
        if not self._models:
            raise InputError(
                "No model has confidences to calibrate.",
                got=first_names(self._without) or "no predictions",
                allowed="probabilities, logits of all classes, or lists of logits with logsumexp",
                do=DECLARE_KIND,
            )
        about = clusters, source.name, self.labels, source.images, self._seen
        notes = (f"{source.name}: {note.text}" for note in cluster_notes(*about, by_image=_BY_IMAGE))
        return Calibration(
            pa.Table.from_pylist(self._rows, schema=schema("calibration")),
            pa.Table.from_pylist(self._sets, schema=schema("prediction_sets")),
            pa.Table.from_pylist(self._bins, schema=schema("calibration_bins")),
            pa.Table.from_pylist(self._classes, schema=schema("class_calibration")),
            notes=(*self._all_notes(), *notes, *source.misfits.notes(source.name)),
        )

    def add(self, model: Predictions, check: Callable[[Predictions], object] | None = None) -> None:
        parts = split(self.labels, model, self.division)
        if check is not None:
            check(model)
        link = link_of(parts.rest)
        why = doubtful_sigmoids(parts.rest, link) or "; to set another link, pass `links`"
        if link == "sigmoid":
            # As if the file contained these probabilities: scaling needs a softmax.
            assert model.scores is not None  # for the type checker
            from scipy.special import expit

            if note := one_sided_note(model.scores):
                self._notes.append((model.model, "", note, ""))
            scores = expit(model.scores, dtype=np.float32)
            model = replace(model.in_full(), scores=scores, score_kind="probability")
            parts = split(self.labels, model, self.division)
        elif link == "softmax":
            parts = replace(parts, predictions=replace(parts.predictions, link=link))
        if parts.rest.confidence is None:
            self._without.append(model.model)
            return
        self._links.setdefault((link, why), []).append(model.model)
        absent = len(self.labels) - len(parts.fitted.labels) - len(parts.rest.labels)
        if absent:
            text = f"{absent:,} of {len(self.labels):,} images have no prediction and were left out"
            self._notes.append((model.model, "", text, ""))
        about: dict[str, Row] = {}
        refused: _Refused = {}
        versions = partial(self._versions, parts, about, refused)
        judged = judge_models(
            Source(self.source.name, self.labels, models=versions),
            replace(self.options, metrics=_metrics(parts.rest, refused), trust_order=True),
        )
        self._models.append(model.model)
        self._seen |= np.asarray(pc.is_in(self.labels.image_id, model.image_id))
        # Without original labels, no image counts in their metrics, which need no rows.
        is_labelled = bool(label_sets(self.labels).labelled.any())
        for row in judged.results.to_pylist():
            if row["slice"] == "all" and (row["n"] or is_labelled):
                more = {"model": model.model, **about[row["model"]], "n_unmatched": absent}
                self._rows.append({**row, **more})
        self._bins += _bin_rows(judged, model.model, about)
        if independent_classes(parts.rest) is not None:
            self._add_classes(model)
        drawn = () if probabilities(self.labels) is None else DRAWN
        for cover in (*COVERS, *drawn):
            self._cover(model, cover, refused)
        own = [n for n in judged.model_notes if n.model == model.model]
        said = [(n.text, "") for n in own if n.kind.startswith("needs") or n.kind == "no_interval"]
        said += [(f"no {', no '.join(what)}: {why}", got) for (why, got), what in refused.items()]
        self._notes += [(model.model, "", text, got) for text, got in said]

    def _add_classes(self, model: Predictions) -> None:
        """Add the calibration of each class, on all images: nothing is fitted."""
        source = Source(self.source.name, self.labels, models=lambda: iter([model]))
        for found in model_cases(source, trust_order=True):
            clusters = self.division.clusters and self.division.clusters.take(found.rows)
            classes = self.source.classes or self.labels.known_classes
            about = self.source.name, model.model, found.case, classes
            rows, bins = class_tables(*about, self.options.seed, clusters)
            self._classes += rows
            self._bins += bins

    def _all_notes(self) -> Iterator[str]:
        if _only_labels(self.labels):
            yield (
                f"{self.source.name}: every label set contains only the original label, so the results for "
                "label sets and for original labels are the same"
            )
        yield from self._link_notes()
        for (part, text), found in self._grouped().items():
            (model, got), n = found[0], len(found)
            yield f"{n:,} models{part}: {text}" if n > 1 else f"{model}{part}: {text}{got}"
        if self._without:
            yield f"left out, because they have no confidences: {first_names(self._without)}"

    def _link_notes(self) -> Iterator[str]:
        """Yield how confidences follow from logits, and that the confidences of two links differ."""
        is_open = bool((label_sets(self.labels).size > 1).any())  # otherwise a softmax needs no words
        links = sorted({link for link, _ in self._links} & {"sigmoid", "softmax"})
        for (link, why), names in sorted(self._links.items()) if is_open or "sigmoid" in links else ():
            if link in links:
                yield f"confidences are the {link} of the logits of {first_names(names, 8)}{why}"
        if len(links) == 2:
            yield "calibration errors of sigmoids and of softmax confidences are not comparable"

    def _grouped(self) -> dict[tuple[str, str], list[tuple[str, str]]]:
        """Return the models of each note, with what was found."""
        models: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for model, part, text, got in self._notes:
            models.setdefault((part, text), []).append((model, got))
        return models

    def _versions(self, parts: Split, about: dict[str, Row], refused: _Refused) -> Iterator[Predictions]:
        """Yield the predictions as they were, and recalibrated; record in `about` what was done to each."""
        name = parts.predictions.model
        about[name] = {"method": "none", "n_fitted": 0}
        yield parts.predictions
        votes = parts.rest.labels.voted.any()
        pairs = [(method, to) for method in self.methods for to in FITTED_TO if to != "votes" or votes]
        for done, (method, to) in enumerate(pairs, 1):
            if self.on_progress:
                self.on_progress(f"calibrating {name}", done, len(pairs))
            try:
                found = parts.recalibrated(method, to)
            except InputError as error:
                refused.setdefault(_reason(error), []).append(f"{method} ({to})")
                continue
            temperature = found.temperature
            if text := bound_note(temperature, parts.fitted):
                self._notes.append((name, f", {method} ({to})", text, ""))
            made = {"method": method, "fitted_to": to, "temperature": temperature}
            about[found.predictions.model] = {**made, "n_fitted": found.n_fitted}
            yield found.predictions

    def _cover(self, model: Predictions, cover: str, refused: _Refused) -> None:
        try:
            parts = split_for_sets(self.labels, model, self.division)
            found = choose_sets(parts, model.model, cover=cover, alpha=self.alpha, seed=self.options.seed)
        except InputError as error:
            refused.setdefault(_reason(error), []).append(f"prediction sets (cover {cover})")
            return
        n_needed = math.ceil(1 / found.alpha - 1 - 1e-9)
        if found.n_fitted < n_needed:
            text = (
                f"each set contains all classes, because an alpha of {found.alpha:g} needs at least "
                f"{n_needed:,} images to fit on, and there are only {found.n_fitted:,}"
            )
            self._notes.append((model.model, f", prediction sets (cover {cover})", text, ""))
        self._sets.append({"dataset": self.source.name, **asdict(found)})


def _metrics(case: Case, refused: _Refused) -> list[str]:
    """Return what is measured; sigmoids have no likelihood of an image."""
    voted = case.labels.voted.any()
    found = [metric for event, of in MEASURES.items() for metric in of if event != "votes" or voted]
    if case.scores is None or case.kind != "probability":
        return found
    try:
        check_softmax(case)
    except InputError as error:
        need_sums = ("nll", "nll_mass", "tv_votes", "kl_votes", "brier_votes")
        refused[_reason(error)] = [metric for metric in need_sums if metric in found]
        return [metric for metric in found if metric not in need_sums]
    return found


def _bin_rows(judged: Evaluation, model: str, about: Mapping[str, Row]) -> Iterator[Row]:
    for row in judged.confidence["reliability"].to_pylist() if judged.confidence else ():
        if (row["from"], row["to"]) != (0, 1):
            of = about[row["model"]]
            yield {**row, "model": model, "method": of["method"], "fitted_to": of.get("fitted_to")}


def _reason(error: InputError) -> tuple[str, str]:
    """Return why something is missing, and what was found in brackets."""
    got = error.details["got"]
    return error.what[0].lower() + error.what[1:].rstrip("."), f" ({got})" if got else ""


_Refused = dict[tuple[str, str], list[str]]
"""What cannot be computed, by the reason and by what was found."""
