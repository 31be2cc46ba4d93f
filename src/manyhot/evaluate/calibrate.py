"""The command that recalibrates a model: fitted on some images, applied to others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from manyhot.classes import ClassList
from manyhot.command import command
from manyhot.console import table_lines
from manyhot.core.class_recalibration import FEWEST_TO_FIT
from manyhot.core.sets import Case
from manyhot.data.inputs import READING, LabelsLike, PredictionsLike, Reading, open_predictions
from manyhot.errors import InputError, MatchError, UsageError, first_names
from manyhot.evaluate.clusters import ClustersLike, clusters_of, likely_cluster_notes
from manyhot.evaluate.confidence import (
    FITTED_TO,
    Division,
    FittedTo,
    Recalibration,
    RecalibrationMethod,
    Split,
    activation_of,
    bound_note,
    check_method,
    only_model,
    split,
)
from manyhot.evaluate.requirements import doubtful_sigmoids
from manyhot.evaluate.slices import aligned_case, labels_of, order_check_of
from manyhot.formats.csv_tables import write_predictions_csv
from manyhot.formats.writing import PathLike, check_apart, check_place
from manyhot.parameters import Seed
from manyhot.report.text import listed
from manyhot.result import Result
from manyhot.run import QUIET, Run
from manyhot.tables import Images, Predictions, Row
from manyhot.tables.arrays import label_sets, unasked_labels
from manyhot.tables.own_classes import are_numbers
from manyhot.tables.predictions_files import write_predictions

_SEEN = 10
"""Images whose sums of probabilities distinguish a softmax from sigmoids; those of one may by chance."""


@dataclass(frozen=True, eq=False)
class Recalibrated(Result):
    """Recalibrated predictions of a model.

    Attributes
    ----------
    fit : Recalibration
        The predictions, and what was fitted, on how many images.
    classes : tuple of str
        Keys of the classes.
    notes, inputs
        As in `Result`.
    """

    TARGET = ("FILE", "File for the recalibrated predictions, .parquet or .csv.")

    fit: Recalibration
    classes: tuple[str, ...]

    @property
    def predictions(self) -> Predictions:
        """The recalibrated predictions, named after model and method."""
        return self.fit.predictions

    def to_json(self) -> dict[str, Any]:
        """Return what was fitted: to each class, if classes are independent."""
        fit = self.fit
        about = {"model": self.predictions.model, "n_fitted": fit.n_fitted, "temperature": fit.temperature}
        return {**about, "n": len(self.predictions), "classes": self._each(), "notes": self.notes}

    def _each(self) -> list[Row]:
        if (each := self.fit.each) is None:
            return []
        columns = each.n_yes, each.n_no, each.slope, each.intercept, each.fitted
        names = ("class", "n_yes", "n_no", "slope", "intercept", "fitted")
        lists = (column.tolist() for column in columns)
        return [dict(zip(names, row, strict=True)) for row in zip(self.classes, *lists, strict=True)]

    def lines(self) -> Iterator[str]:
        """Yield how many images were fitted on and recalibrated, and what was fitted to sigmoids."""
        fit, kind = self.fit, "softmax" if self.fit.each is None else "the sigmoid of each class"
        yield f"{self.predictions.model}: {kind}, fitted on {fit.n_fitted:,} images"
        yield f"recalibrated: {len(self.predictions):,} other images"
        if fit.temperature is not None:
            yield f"temperature: {fit.temperature:.3g}"
        elif fit.each is not None:
            cells = [
                (r["class"], f"{r['n_yes']:,}", f"{r['n_no']:,}", *_map_of(r, c in fit.each.curves))
                for c, r in enumerate(self._each())
            ]
            yield ""
            yield from table_lines(("class", "with", "without", "slope", "intercept"), cells)

    def write(self, out: PathLike, *, run: Run = QUIET) -> list[Path]:
        """Write the recalibrated predictions to a Parquet or CSV file, and return its path."""
        if Path(out).suffix.lower() == ".csv":
            return [write_predictions_csv(self.predictions, out)]
        return [write_predictions(self.predictions, out, call=run.call)]

    @classmethod
    def check_out(cls, out: PathLike, sources: Iterable[object]) -> None:
        """Raise an error if `write` would overwrite an input or another table, or not know the format."""
        if Path(out).suffix.lower() not in (".parquet", ".csv"):
            raise InputError("Cannot write this kind of file.", where=out, allowed=".parquet, .csv")
        check_apart(sources, out)
        check_place(out, "predictions")


def _map_of(row: Row, is_curve: bool) -> tuple[str, str]:
    if not row["fitted"]:
        return "as it was", ""
    return ("isotonic", "") if is_curve else (f"{row['slope']:.3f}", f"{row['intercept']:+.3f}")


@command(
    "calibrate",
    out="recalibrated.parquet",
    examples=("manyhot calibrate val.csv --predictions val/net.csv --method vector --apply test/net.csv",),
)
def calibrate(
    labels: LabelsLike,
    predictions: PredictionsLike = (),
    *,
    method: RecalibrationMethod = "temperature",
    to: FittedTo | None = None,
    apply: PredictionsLike = (),
    same_model: bool = False,
    fit: float = 0.5,
    clusters: ClustersLike | None = None,
    seed: Seed = 0,
    reading: Reading = READING,
    run: Run = QUIET,
) -> Recalibrated:
    """Recalibrate a model: fit on labelled images, and apply the fit to the model's other predictions.

    If classes are independent, as with sigmoids, the probability of each class is fitted to its label, on the
    images for which raters were asked about the class. Classes with too few images with or without the class
    are not recalibrated. The model must not have been trained on these images.

    Parameters
    ----------
    labels
        Label sets of one data set to fit to: a campaign, a folder written by predict, or a file.
    predictions
        Predictions of one model, used instead of those of the campaign or folder.
    method
        For a softmax: temperature divides all logits by one number, vector has a weight and a bias per class,
        and isotonic is a non-decreasing function of the highest probability, and returns only the top class.
        For sigmoids: temperature is one number for all classes, vector has a slope and an intercept per class
        (Platt scaling), and isotonic is a non-decreasing function per class.
    to
        What counts as correct: only the original label (labels), any class of the label set (sets), or each
        class in proportion to its share of the votes (votes). By default votes if raters chose one class per
        image and their votes are known, otherwise sets. The name of the result contains it.
    apply
        Predictions of the same model for other images, to be recalibrated; these images need no labels. By
        default, the model is fitted on some of the labelled images and the others are recalibrated.
    same_model
        Apply the fit to predictions whose model has another name, such as test.csv for val.csv.
    fit
        Share of the labelled images used for fitting, above 0 and below 1. It cannot be combined with
        `apply`.
    clusters
        Column of the images table that identifies images that depend on each other, such as patient_id. No
        cluster is in both parts, and clusters are counted instead of images. In Python, the values themselves
        can be passed, as a series or mapping by image id.
    seed
        Seed for choosing the images to fit on.

    Returns
    -------
    Recalibrated

    Raises
    ------
    InputError
        If the predictions lack the scores that the method needs, if too few images to fit on have labels, or
        if there are several data sets or models.
    MatchError
        If labels and predictions share no image; or if the predictions to apply the fit to have another
        model, other classes, or the probabilities of a softmax instead of those of sigmoids.
    """
    check_method(method, to or FITTED_TO[0])
    source, model = only_model(labels, predictions, reading, run)
    sets, is_other = labels_of(source), not (isinstance(apply, tuple | list) and not apply)
    if is_other and fit != 0.5:
        raise UsageError("With `apply`, all labelled images are used for fitting.", got=f"`fit`={fit}")
    if not reading.trust_order:
        order_check_of(source)(model)
    of_images = clusters_of(clusters, sets, source.images)
    notes, inputs = list[str](), dict(source.inputs)
    classes = source.classes or sets.known_classes or model.known_classes
    if is_other:
        case, found = aligned_case(sets, label_sets(sets), model)
        # The rows of arrays that were passed are those of the labelled images.
        other = open_predictions(apply, classes, reading=replace(reading, rows=None))
        new = _of_same_model(other.models(), model, same_model)
        unit = found.left if of_images is None else of_images.number[found.left]
        parts = Split(case, _other_case(new, model, case, classes), new, unit)
        notes, inputs = other.misfits.notes(), inputs | other.inputs
    else:
        parts = split(sets, model, Division(fit, seed, of_images))
        for note in likely_cluster_notes("", sets, source.images) if clusters is None else ():
            what = note.text.partition(" share a value of ")[2].partition(":")[0]
            notes.append(f"some images share a value of {what}; to keep them in one part, use `clusters`")
    fitted = parts.recalibrated(method, to or ("votes" if parts.fitted.labels.voted.any() else "sets"))
    keys = classes.keys if classes else tuple(map(str, range(parts.fitted.labels.n_classes)))
    if model.score_kind == "logit" and not model.link:
        why = doubtful_sigmoids(parts.fitted, parts.activation) or "; to set a link, pass `links`"
        notes.append(f"probabilities are the {parts.activation} of the logits{why}")
    if text := bound_note(fitted.temperature, parts.fitted):
        notes.append(text)
    absent = len(sets) - len(parts.fitted.labels) - (0 if is_other else len(parts.rest.labels))
    if absent:
        notes.append(f"{absent:,} of {len(sets):,} images have no prediction and were left out")
    if fitted.each is not None and not fitted.each.fitted.all():
        names = listed([key for key, own in zip(keys, fitted.each.fitted, strict=True) if not own], 5)
        cases = f"fewer than {FEWEST_TO_FIT[method]} {'images' if clusters is None else 'clusters'}"
        notes.append(
            f"classes that are not recalibrated, because {cases} show them, or {cases} do not: {names}"
        )
    return Recalibrated(fitted, keys, notes=(*source.misfits.notes(source.name), *notes), inputs=inputs)


def _of_same_model(others: Iterable[Predictions], model: Predictions, same_model: bool) -> Predictions:
    """Return the predictions of the model that was fitted; with `same_model`, the only ones."""
    names, models = list[str](), list[Predictions]()
    for other in others:
        names.append(other.model)
        models += [other] if same_model or other.model == model.model else []
    if len(models) == 1:
        return models[0]
    raise MatchError(
        "The fit is for another model.",
        where="`apply`",
        got=first_names(names) or "no predictions",
        allowed=model.model,
        do="if it is the same model under another name, pass `same_model`" if len(names) == 1 else None,
    )


def _other_case(new: Predictions, model: Predictions, fitted: Case, classes: ClassList | None) -> Case:
    """Return predictions without labels as a case, if their classes and activation are those of the fit."""
    where, own, n_classes = new.source or new.model, new.known_classes, fitted.labels.n_classes
    more = [name for name in new.unlisted if name not in model.unlisted]
    by_name = classes is None and own is not None and not are_numbers(own.keys)
    if new.lacking or more or by_name:
        found = f"no {listed(list(new.lacking), 5)}" if new.lacking else f"also {listed(more, 5)}"
        raise MatchError(
            "The fit is for other classes.",
            where=where,
            got="classes with names" if by_name else found,
            allowed=f"the {n_classes:,} classes {'by number' if by_name else 'that were fitted'}",
        )
    images = Images(pa.table({"image_id": new.image_id}), "the fit")
    labels = unasked_labels(images, n_classes, classes.hash if classes else "")
    case, _ = aligned_case(labels, label_sets(labels), new)
    got, allowed = ("top classes" if c.scores is None else "all classes" for c in (case, fitted))
    if got != allowed:
        raise MatchError(f"The fit is for scores of {allowed}.", where=where, got=f"scores of {got}")
    activation, is_probability = activation_of(fitted), case.kind == "probability"
    link = activation_of(case) if is_probability and len(new) >= _SEEN else case.link
    if case.has_probabilities and link not in ("", activation):
        sums = f"probabilities that {'' if link == 'softmax' else 'do not '}add up to 1"
        raise MatchError(
            f"The fit is for probabilities of a {activation}, but these predictions use a {link}.",
            where=where,
            got=f"the declared link {link}" if case.link else sums,
            allowed="predictions like those that were fitted",
        )
    return case
