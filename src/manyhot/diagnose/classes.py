"""Which classes a model predicts worst, at which thresholds, and with which classes it confuses them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.classes import ClassList
from manyhot.command import command
from manyhot.core.operating_points import FOLDS, Goal, check_goal, unanswered_predictions
from manyhot.data.data_sets import Source
from manyhot.data.inputs import READING, LabelsLike, PredictionsLike, Reading, open_inputs
from manyhot.diagnose.page import DiagnosisResult
from manyhot.errors import InputError, UsageError, first_names
from manyhot.evaluate.class_thresholds import (
    ON_A_SCALE,
    THRESHOLDS_FILE,
    ClassThresholds,
    ThresholdsLike,
    sample_of,
)
from manyhot.evaluate.clusters import ClustersLike, cluster_notes, clusters_of
from manyhot.evaluate.label_notes import answer_notes, certain_notes
from manyhot.evaluate.per_class.class_listings import chapter_lead, chapter_listings, terminal_lines
from manyhot.evaluate.per_class.class_tables import (
    CLASS_TABLES,
    CURVES,
    ClassTables,
    PointSettings,
    of_models,
)
from manyhot.evaluate.slices import ModelCase, labels_of, model_cases
from manyhot.formats.csv_tables import write_csv
from manyhot.formats.writing import PathLike
from manyhot.parameters import AtLeast, OptionName, Probability, Seed
from manyhot.registry import register
from manyhot.report.chapter import Chapter, NextStep, Tables
from manyhot.report.figure import Figure
from manyhot.report.page import Anchors
from manyhot.report.text import listed
from manyhot.run import QUIET, Run
from manyhot.tables import Labels


@dataclass(frozen=True, eq=False)
class ClassResults(DiagnosisResult):
    """Results of each class: average precision, a threshold with its precision and recall, and confusions.

    Attributes
    ----------
    class_results, class_confusions, class_curves, class_means : pyarrow.Table
        The tables with these names; see `manyhot.tables.TABLES`.
    notes, metadata, inputs
        As in `Result`.
    """

    NAMES = CLASS_TABLES

    class_results: pa.Table
    class_confusions: pa.Table
    class_curves: pa.Table
    class_means: pa.Table

    def thresholds(self, *, model: str | None = None, dataset: str | None = None) -> dict[str, float]:
        """Return the threshold of each class by its key, in the order of the class list; NaN if undefined.

        A class is predicted on an image if its score, as float32 or float64, is at least the threshold.

        Parameters
        ----------
        model, dataset : str, optional
            Name of the model and of the data set. Required if there are several models or data sets.

        Raises
        ------
        InputError
            If none or several models match.
        """
        models = of_models(self.class_results)
        matching = [key for key in models if dataset in (None, key[0]) and model in (None, key[1])]
        if len(matching) != 1:
            raise InputError(
                f"{len(matching) or 'No'} models match.",
                got=", ".join(v for v in (dataset, model) if v) or None,
                allowed="; ".join(f"{name} on {of}" for of, name in models),
                do="name the model and the data set",
            )
        if models[matching[0]][0]["goal"] == "top":
            raise InputError(
                "The top class of each image is predicted, so there are no thresholds.",
                got=" on ".join(matching[0][::-1]),
                do="choose them with `goal` f1, precision or recall",
            )
        return {row["key"]: row["threshold"] for row in models[matching[0]]}

    def lines(self) -> Iterator[str]:
        """Yield, for each model, the classes with the lowest average precision."""
        yield from terminal_lines(self.class_results.replace_schema_metadata(self._about()), self.class_means)

    @property
    def threshold_table(self) -> pa.Table:
        """The rows of ``thresholds.csv``, for `evaluate` and other functions that take thresholds."""
        goals = pc.fill_null(self.class_results["goal"], "")  # null if thresholds were passed
        chosen = self.class_results.filter(pc.not_equal(goals, "top"))
        chosen = chosen.select(["dataset", "model", "class_id", "key", "threshold"])
        chosen = chosen.rename_columns(["dataset", "model", "class_id", "class", "threshold"])
        kinds = json.loads(self.metadata.get("score_kinds", "{}"))
        scores = pa.array([kinds.get(model) for model in chosen["model"].to_pylist()], pa.string())
        chosen = chosen.append_column("scores", scores)  # thresholds of probabilities are none of logits
        samples = json.loads(self.metadata.get("chosen_on", "{}"))
        of_rows = zip(chosen["dataset"].to_pylist(), chosen["model"].to_pylist(), strict=True)
        return chosen.append_column(
            "chosen_on", pa.array([samples.get("\t".join(row)) for row in of_rows], pa.string())
        )

    def write(self, out: PathLike, *, run: Run = QUIET) -> list[Path]:
        """Write the tables, ``thresholds.csv``, and the page of the folder; see `Result.write`."""
        return [*super().write(out, run=run), write_csv(self.threshold_table, Path(out) / THRESHOLDS_FILE)]

    def _about(self) -> dict[str, str]:
        return {f"manyhot.{key}": value for key, value in self.metadata.items()}


@command(
    "diagnose classes",
    out="classes",
    examples=(
        "manyhot diagnose classes labels.csv --predictions scores.csv",
        "manyhot diagnose classes campaign --for recall --at 0.9 --masked",
    ),
)
def diagnose_classes(
    labels: LabelsLike,
    predictions: PredictionsLike = (),
    *,
    goal: Annotated[Goal | None, OptionName("--for")] = None,
    at: Probability | None = None,
    folds: Annotated[int, AtLeast(2)] = FOLDS,
    masked: bool = False,
    curves: Annotated[int, AtLeast(0)] = CURVES,
    thresholds: ThresholdsLike | None = None,
    clusters: ClustersLike | None = None,
    seed: Seed = 0,
    reading: Reading = READING,
    run: Run = QUIET,
) -> ClassResults:
    """Evaluate each class: its average precision, the best threshold, and the classes it is confused with.

    Thresholds are chosen on all images. Precision, recall and F1 are computed by cross-fitting: the images
    are split into folds, and each fold is evaluated at the threshold that was chosen on the other folds. For
    models whose probabilities add up to 1 on each image, the top class is predicted instead.

    Parameters
    ----------
    labels
        Label sets in any format, a campaign, a folder written by predict, or the name of a benchmark, such as
        imagenet, or of one of its data sets.
    predictions
        Files or folders of predictions, used instead of the published predictions or those of the campaign.
        Models without scores of all classes are skipped.
    goal
        How thresholds are chosen. f1: the highest threshold with the largest F1. f2: the highest threshold
        with the largest F2, in which recall is twice as important as precision. precision: the highest
        threshold with the largest recall at a precision of at least `at`. recall: the highest threshold with
        a recall of at least `at`. fpr: the lowest threshold with a false positive rate of at most `at`. top:
        no threshold; the top class of each image is predicted. By default, top for models whose probabilities
        add up to 1 on each image, as with a softmax, and f1 for all others.
    at
        For the goals precision, recall and fpr only: the value that a threshold must reach.
    folds
        Number of folds. A class has a threshold only if it is valid on at least this number of images.
    masked
        Ignore classes that are unclear on an image or that no rater was asked about. By default, they count
        as not valid.
    curves
        Number of classes for which to compute precision-recall and ROC curves, starting with the lowest
        average precision.
    thresholds
        Thresholds chosen on other images, such as a validation split, to use instead of cross-fitting: a
        thresholds.csv written by this command, or a table with the columns class, threshold and optionally
        model. Thresholds are on the scale of the scores. In Python, the result of diagnose_classes, a data
        frame, or a mapping of classes to thresholds, or of models to such mappings, can also be passed.
    clusters
        Column of the images table that identifies images that depend on each other, such as patient_id.
        Intervals then treat clusters, not images, as independent, and a fold consists of whole clusters. In
        Python, the values themselves can be passed, as a series or mapping by image id.
    seed
        Seed for the split into folds. The split does not depend on the order of the images.

    Returns
    -------
    ClassResults

    Raises
    ------
    InputError
        If no model has scores of all classes, `masked` is set but the label sets do not record which classes
        were answered no, or an option is out of range.
    MatchError, OrderError
        As in `manyhot.evaluate`.
    """
    check_goal(goal, at)
    chosen = None if thresholds is None else ClassThresholds.read(thresholds)
    if chosen is not None and (goal, at, folds) != (None, None, FOLDS):
        raise UsageError(
            "Thresholds can be either passed or chosen, not both.",
            got="`thresholds` with `goal`, `at` or `folds`",
            do="leave out `thresholds`, or `goal`, `at` and `folds`",
        )
    settings = PointSettings(goal, at, folds, seed, masked)
    parts, inputs, about = list[dict[str, pa.Table]](), dict[str, str](), _About()
    notes = about.notes
    for source in open_inputs(labels, predictions, reading=reading, run=run):
        cases = partial(model_cases, trust_order=reading.trust_order, thresholds=chosen, run=run)
        parts += _judged(source, settings, curves, clusters, cases, about)
        notes += source.misfits.notes(source.name)
        inputs |= source.inputs
    if not parts:
        raise InputError(
            "No model has scores of all classes.",
            got=listed(about.skipped, 5) or "no predictions",
            allowed="scores of all classes",
            do="pass files with a score for each class, such as .npy of shape (images, classes)",
        )
    if about.skipped:
        names = listed(about.skipped, 5)
        notes.append(f"models without scores of all classes are left out: {names}")
    made = {name: pa.concat_tables([part[name] for part in parts]) for name in CLASS_TABLES}
    metadata = {"folds": str(folds), "seed": str(seed), "masked": json.dumps(masked)}
    metadata |= {} if goal is None else {"goal": goal}
    metadata |= {} if at is None else {"at": str(at)}
    if chosen is not None:
        metadata = {"thresholds_of": chosen.name, "thresholds": json.dumps(chosen.by_model)}
        metadata |= {"masked": json.dumps(masked)}
        inputs |= chosen.inputs
        applied = {row["model"]: None for row in made["class_results"].to_pylist()}
        notes += [f"{model}: {chosen.note(model, _AT_THRESHOLDS, about.image_id)}" for model in applied]
    metadata |= {"score_kinds": json.dumps(about.kinds)} if about.kinds else {}
    if chosen is None and about.chosen_on:
        metadata |= {"chosen_on": json.dumps(about.chosen_on)}
    return ClassResults(**made, notes=tuple(dict.fromkeys(notes)), metadata=metadata, inputs=inputs)


_AT_THRESHOLDS = ("precision", "recall", "F1")

_COUNTING = ("AP", "AUROC", *_AT_THRESHOLDS)
"""What counts pairs without a clear answer as not valid, unless it is masked."""


@dataclass
class _About:
    """Properties of the models of all data sets.

    Attributes
    ----------
    skipped : list of str
        Models that are left out.
    notes : list of str
        What to note.
    kinds : dict of str to str
        The kinds of the models' scores, as far as thresholds can be compared with them.
    chosen_on : dict of str to str
        A sample of the images of each data set and model.
    image_id : pyarrow.Array
        The ids of all images.
    """

    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    kinds: dict[str, str] = field(default_factory=dict)
    chosen_on: dict[str, str] = field(default_factory=dict)
    image_id: pa.Array = field(default_factory=lambda: pa.array([], pa.string()))


def _judged(
    source: Source,
    settings: PointSettings,
    curves: int,
    clusters: ClustersLike | None,
    cases: Callable[[Source], Iterable[ModelCase]],
    about: _About,
) -> list[dict[str, pa.Table]]:
    """Return the tables of a data set, and add the properties of its models."""
    # Folds are drawn by position: in the order of ids, they do not depend on the order of the rows.
    labels = in_order_of_ids(labels_of(source))
    of_images = clusters_of(clusters, labels, source.images)
    images, seen = source.images, np.zeros(len(labels), bool)
    source = replace(source, labels=labels, images=None)
    if settings.masked and not labels.asked_known:
        raise InputError(
            "Only valid classes are recorded, so no class is known to be absent.",
            where=source.name,
            do="leave out `masked` to count all other classes as not valid",
        )
    classes: ClassList | None = source.classes or labels.known_classes
    found = ClassTables(source.name, labels.n_classes, classes, settings, curves)
    for model in cases(source):
        own = of_images and of_images.take(model.rows)
        if not found.add(model.model, model.case, len(labels) - len(model.case.labels), own):
            about.skipped.append(model.model)
        else:
            seen[model.rows] = True
            about.notes += _predicted_everywhere(
                source.name, model, found.parts[-1]["class_results"], settings.at
            )
            about.notes += _answered_alone(source.name, model, found.parts[-1]["class_results"])
            about.kinds |= {model.model: model.case.kind} if model.case.kind in ON_A_SCALE else {}
            sample = sample_of(labels.image_id.take(pa.array(model.rows)))
            about.chosen_on |= {f"{source.name}\t{model.model}": sample} if sample else {}
    about.image_id = pa.concat_arrays([about.image_id, labels.image_id])
    said = [*cluster_notes(clusters, source.name, labels, images, seen)]
    judged = replace(labels, table=labels.table.filter(pa.array(seen)))
    if settings.masked:
        said += certain_notes(source.name, judged, classes)
    if not settings.masked and source.published is None and found.parts:
        said += answer_notes(
            source.name, judged, _COUNTING, unlabelled=source.unlabelled, instead="pass `masked`"
        )
    about.notes += (f"{source.name}: {note.text}" for note in said)
    made = found.tables()
    return [made] if made else []


def _predicted_everywhere(dataset: str, model: ModelCase, table: pa.Table, at: float | None) -> Iterator[str]:
    """Yield a note on classes whose threshold is their lowest score."""
    rows, scores = table.to_pylist(), model.case.scores
    if scores is None or rows[0]["goal"] in (None, "top"):
        return
    lowest = scores.min(axis=0, where=model.case.labels.usable[:, None], initial=np.inf)
    names = [r["name"] for r in rows if r["n_negatives"] and r["threshold"] <= lowest[r["class_id"]]]
    if names:
        goal = rows[0]["goal"]
        why = f", because no higher threshold has a recall of {at:.0%}" if goal == "recall" and at else ""
        yield (
            f"{dataset}, {model.model}: the threshold of {first_names(names)} is the lowest score, so that "
            f"the class is predicted on every image{why}"
        )


_SHARE, _Z = 0.05, 3.0
"""Above which share of predictions without an answer, and which test statistic, a note is given."""


def _answered_alone(dataset: str, model: ModelCase, table: pa.Table) -> Iterator[str]:
    """Yield a note if masked values are not those of all images: answers depend on the predictions."""
    threshold = np.full(model.case.labels.n_classes, np.nan)
    threshold[table["class_id"].to_numpy()] = table["threshold"].to_numpy()
    if not table["masked"][0].as_py() or np.isnan(threshold).all():
        return
    n, without, z = unanswered_predictions(model.case, threshold)
    if without > _SHARE * n and abs(z) > _Z:
        often = f"{'more' if z > 0 else 'less'} often than others"
        yield (
            f"{dataset}, {model.model}: {without:,} of {n:,} predictions at the thresholds are left out, "
            f"because they have no answer, and pairs with an answer are predicted {often}, so answers were "
            "not recorded at random: precision, F1, AP and thresholds are those of the answered pairs, not "
            "of all images"
        )


def in_order_of_ids(labels: Labels) -> Labels:
    """Return the labels sorted by the length of their ids, then by id, so that 10 comes after 9."""
    keys = pa.table({"length": pc.utf8_length(labels.image_id), "id": labels.image_id})
    order = pc.sort_indices(keys, sort_keys=[("length", "ascending"), ("id", "ascending")])
    return replace(labels, table=labels.table.take(order))


@register(
    "chapter",
    "class_results",
    tables=CLASS_TABLES,
    next=NextStep(
        "find labels that may be wrong or missing: they lower the precision and recall of classes.",
        "manyhot diagnose labels DATASET --predictions FOLDER",
    ),
)
def classes_chapter(named: Tables, folder: Path, draw: bool) -> Chapter | None:
    """Return the chapter about classes, or None if there is no table ``class_results``."""
    if "class_results" not in named or not named["class_results"].num_rows:
        return None
    figures = list[Figure]()
    if draw:
        from manyhot.evaluate.per_class.class_figures import draw_classes

        figures += draw_classes(named)
    lead, tables = chapter_lead(named), chapter_listings(named, Anchors())
    return Chapter("classes", "Classes", "Classes, the worst first", lead, tuple(figures), tables)
