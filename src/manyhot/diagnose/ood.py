"""How well models separate images of their classes from images of other classes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from manyhot.command import command
from manyhot.console import table_lines
from manyhot.core.array_types import Bools, Floats
from manyhot.core.ood import OOD_SCORES, Separation, auroc, confidence_scores, fpr_at_tpr
from manyhot.core.score_threshold import link_of
from manyhot.core.sets import Case, LabelSets
from manyhot.data.data_sets import Source, brings_predictions
from manyhot.data.inputs import READING, LabelsLike, PredictionsLike, Reading, open_inputs
from manyhot.diagnose.page import DiagnosisResult
from manyhot.errors import InputError
from manyhot.evaluate.audit_proposals import has_no_labels
from manyhot.evaluate.requirements import link_note
from manyhot.evaluate.slices import model_cases
from manyhot.formats import detect, read_predictions
from manyhot.formats.array_files import n_rows_without_ids
from manyhot.formats.prediction_folders import prediction_files
from manyhot.parameters import Seed
from manyhot.registry import register
from manyhot.report.chapter import Chapter, NextStep, Tables, listing, rows_by, rows_of, with_range
from manyhot.report.figure import Figure
from manyhot.report.listings import ColumnHead, number_heads, text_heads
from manyhot.report.text import title_of
from manyhot.run import QUIET, Run
from manyhot.tables import Images, Row, schema
from manyhot.tables.arrays import unasked_labels
from manyhot.tables.definitions import COUNT, ITS, REAL, TEXT, bounds, declare_table

SLICES = ("all", "no class", "some class")
"""Out-of-distribution images: all, those without a valid class, and those with one."""

OOD_MEASURES = ("auroc", "fpr95")

declare_table(
    "ood",
    (
        TEXT("dataset", "the in-distribution data set"),
        TEXT("ood_dataset", "the out-of-distribution data set"),
        TEXT("model", "the model"),
        TEXT(
            "score",
            "the probability of the top class, the negative entropy, the negative mutual information of an "
            "average of models, or the log of the summed exponentials of logits",
            values=OOD_SCORES,
        ),
        TEXT(
            "slice",
            "which out-of-distribution images: all, those that show no class of the model according to their "
            "label sets, or those that show at least one",
            values=SLICES,
        ),
        TEXT(
            "measure",
            "the area under the ROC curve, or the share of out-of-distribution images that are accepted at "
            "the threshold that accepts 95 % of in-distribution images",
            values=OOD_MEASURES,
        ),
        REAL("value", "value of the measure; NaN without in-distribution or out-of-distribution images"),
        *bounds("lo", "hi", f"{ITS}, NaN without one", column=REAL),
        COUNT("n", "number of in-distribution images: those with a non-empty label set"),
        COUNT("n_ood", "number of out-of-distribution images"),
    ),
)


@dataclass(frozen=True, eq=False)
class OutOfDistribution(DiagnosisResult):
    """How well models separate images of their classes from other images.

    Attributes
    ----------
    ood : pyarrow.Table
        The table with this name; see `manyhot.tables.TABLES` for its columns.
    notes, metadata, inputs
        As in `Result`.
    """

    NAMES = ("ood",)

    ood: pa.Table

    def lines(self) -> Iterator[str]:
        """Yield both measures of each score, with and without images that show a class of the model."""
        cells = [
            (
                *(of["auroc"][name] for name in ("model", "score", "slice")),
                *(_cell(of[measure]) for measure in OOD_MEASURES),
                f"{of['auroc']['n_ood']:,}",
            )
            for of in _by_measure(self.ood.to_pylist())
        ]
        yield from table_lines(("model", "score", "other images", "AUROC", "FPR95", "images"), cells)
        yield ""
        n = ", ".join(sorted({f"{row['n']:,}" for row in self.ood.to_pylist()}))
        yield f"in-distribution images: {n}"


def _by_measure(rows: list[Row]) -> list[dict[str, Row]]:
    """Return the rows of each data set, model, score and slice, keyed by measure."""
    groups = rows_by(rows, "dataset", "ood_dataset", "model", "score", "slice").values()
    return [{row["measure"]: row for row in group} for group in groups]


def _cell(row: Row) -> str:
    return with_range(row["value"], row["lo"], row["hi"])


@command(
    "diagnose ood",
    out="ood",
    examples=(
        "manyhot diagnose ood voc/labels.parquet --predictions voc --ood coco.parquet --ood-predictions coco",
    ),
)
def diagnose_ood(
    labels: LabelsLike,
    predictions: PredictionsLike = (),
    *,
    ood: LabelsLike,
    ood_predictions: PredictionsLike = (),
    seed: Seed = 0,
    reading: Reading = READING,
    run: Run = QUIET,
) -> OutOfDistribution:
    """Measure how well confidence separates out-of-distribution images from images of the model's classes.

    In-distribution images are those whose label set has at least one class. Out-of-distribution images may
    also show a class of the model according to their label sets. Confidence in such a class is not an error,
    so the measures are computed with and without these images. Without label sets, they are computed for all
    out-of-distribution images only.

    Parameters
    ----------
    labels
        Label sets of the in-distribution images; or a campaign, a folder written by predict, or the name of a
        data set.
    predictions
        Files or folders of predictions of the in-distribution images. Models without confidences are skipped.
    ood
        Label sets of the out-of-distribution images, over the classes of the model. A set is empty if the
        image shows none of them. Images without labels, such as a folder written by predict, and a file or
        folder of predictions alone are accepted.
    ood_predictions
        Files or folders of predictions of the out-of-distribution images, from the same models. Arrays
        without ids have the rows of the file `ood` if `rows` lists a different number of images.
    seed
        Seed for the intervals of FPR95.

    Returns
    -------
    OutOfDistribution

    Raises
    ------
    InputError
        If no model with confidences has predictions for both kinds of images, or a file cannot be read.
    MatchError, OrderError
        As in `manyhot.evaluate`.
    """
    notes, inputs, links = list[str](), dict[str, str](), dict[str, str]()
    if _are_predictions(ood, ood_predictions):
        path, ood_predictions = Path(ood).resolve(), ood
        outside_reading = _reading_of_arrays(reading, None, ood)
        first = read_predictions(
            prediction_files([ood])[0],
            rows=outside_reading.rows,
            classes=reading.classes,
            scores=reading.scores,
        )
        ood = Images(pa.table({"image_id": first.image_id}), path.stem if path.is_file() else path.name)
    else:
        outside_reading = _reading_of_arrays(reading, ood, ood_predictions)
    inside, outside = (
        [
            (source.name, *scored)
            for source in open_inputs(sets, files, unlabelled=is_ood, reading=how, run=run)
            for scored in _scored(_with_labels(source) if is_ood else source, how, notes, inputs, links, run)
        ]
        for sets, files, how, is_ood in (
            (labels, predictions, reading, False),
            (ood, ood_predictions, outside_reading, True),
        )
    )
    rows = [
        row
        for dataset, model, scores, sets in inside
        for other, same, ood_scores, ood_sets in outside
        if model == same
        for row in _rows((dataset, other, model), scores, sets, ood_scores, ood_sets, seed)
    ]
    if not rows:
        raise InputError(
            "No model with confidences has predictions for both kinds of images.",
            got=f"{_names(inside)}; out-of-distribution: {_names(outside)}",
            allowed="the same models, with probabilities or logits",
            do=f"if {inside[0][1]} and {outside[0][1]} are the same model, give their files the same name"
            if inside and outside and {own[1] for own in inside}.isdisjoint(own[1] for own in outside)
            else None,
        )
    notes += _notes_on_sets(outside)
    table = pa.Table.from_pylist(rows, schema=schema("ood"))
    about = {"seed": str(seed)}
    return OutOfDistribution(table, notes=tuple(dict.fromkeys(notes)), inputs=inputs, metadata=about)


def _are_predictions(ood: LabelsLike, predictions: PredictionsLike) -> bool:
    """Return whether images are passed as predictions alone, which may be passed as predictions, too."""
    if not isinstance(ood, str | os.PathLike) or not Path(ood).exists() or brings_predictions(ood):
        return False
    listed = [predictions] if isinstance(predictions, str | os.PathLike) else predictions
    same = not predictions or (isinstance(listed, Sequence) and [*map(str, listed)] == [str(ood)])
    is_file = Path(ood).is_file()
    return same and not (is_file and (detect(ood, ("labels",)) or not detect(ood, ("predictions",))))


def _reading_of_arrays(reading: Reading, ood: LabelsLike | None, predictions: PredictionsLike) -> Reading:
    """Return how out-of-distribution arrays without ids are read, if `rows` lists other images.

    Their rows are the images of the file `ood`; without a file, positions are the ids.
    """
    paths = [predictions] if isinstance(predictions, str | os.PathLike) else predictions
    paths = [*paths.values()] if isinstance(paths, Mapping) else paths
    if not isinstance(paths, list | tuple) or not all(isinstance(p, str | os.PathLike) for p in paths):
        return reading
    files = prediction_files([p for p in paths if Path(p).exists()])
    n = n_rows_without_ids(files[0]) if files else None
    rows = reading.row_images()
    if n is None or (rows is not None and len(rows) == n):
        return reading
    if ood is None:
        return replace(reading, rows=[str(i) for i in range(n)])
    if rows is None or not isinstance(ood, str | os.PathLike):
        return reading
    return replace(reading, rows=ood)


ScoredModel = tuple[str, str, dict[str, Floats], LabelSets]
"""A data set, a model, its scores, and the label sets of the same images."""


def _names(scored: list[ScoredModel]) -> str:
    return ", ".join(model for _, model, *_ in scored[:5]) or "no model"


def _with_labels(source: Source) -> Source:
    """Return a data set in which nobody was asked about images without any labels."""
    first = next(source.models(), None) if has_no_labels(source) else None
    if first is None or not first.n_classes or source.images is None:
        return source
    images = Images(source.images.table, source.name)
    return replace(source, labels=unasked_labels(images, first.n_classes, first.class_hash))


def _scored(
    source: Source,
    reading: Reading,
    notes: list[str],
    inputs: dict[str, str],
    links: dict[str, str],
    run: Run,
) -> Iterator[tuple[str, dict[str, Floats], LabelSets]]:
    """Yield the scores of each model of a data set, and the label sets of the images.

    `links` are those of models on earlier data sets. In-distribution images come first: their labels decide.
    """
    for found in model_cases(source, trust_order=reading.trust_order, run=run):
        if found.case.confidence is None:
            notes.append(f"{found.model} was left out, because it has no confidences")
            continue
        case = found.case
        if found.model not in links:
            links[found.model] = link_of(case) if case.kind == "logit" else ""
            if text := link_note(case):
                notes.append(f"{found.model}: {text}")
        case = replace(case, link=case.link or links[found.model])
        yield found.model, _scores(case, found.model, notes), case.labels
    notes += source.misfits.notes(source.name)
    inputs |= source.inputs


def _scores(case: Case, model: str, notes: list[str]) -> dict[str, Floats]:
    """Return the scores that the predictions of a model have."""
    dense, averaged = case.listed is None, case.uncertainty is not None
    possible = {"confidence": True, "entropy": dense or averaged, "energy": dense and case.kind == "logit"}
    if averaged:  # a single model has none, so that nothing is missing
        possible["mutual_information"] = True
    scores = {}
    for score in (s for s in OOD_SCORES if s in possible):
        try:
            if possible[score]:
                scores[score] = confidence_scores(case, score)
                continue
            why = "it needs logits of all classes" if score == "energy" else "it needs scores of all classes"
        except InputError as error:
            why = error.what[0].lower() + error.what[1:].rstrip(".")
        notes.append(f"{model}: no {score}: {why}")
    return scores


def _slices(sets: LabelSets) -> dict[str, Bools]:
    """Return which images belong to each of `SLICES`; an unclear class is neither some class nor none.

    If nobody was asked about any image, there is only the slice of all images.
    """
    if not _are_asked(sets):
        return {"all": sets.counted}
    return {
        "all": sets.counted,
        "no class": sets.usable & (sets.accepted == 0),
        "some class": sets.scored,
    }


def _are_asked(sets: LabelSets) -> bool:
    return bool(len(sets.rows)) or sets.complete or not sets.asked_known


def _rows(
    names: tuple[str, str, str],
    scores: dict[str, Floats],
    sets: LabelSets,
    ood_scores: dict[str, Floats],
    ood_sets: LabelSets,
    seed: int,
) -> Iterator[Row]:
    for score in (s for s in scores if s in ood_scores):
        inside = scores[score][sets.scored]
        for part, chosen in _slices(ood_sets).items():
            outside = ood_scores[score][chosen]
            found: tuple[Separation, ...] = (
                auroc(inside, outside),
                fpr_at_tpr(inside, outside, np.random.default_rng(seed)),
            )
            for measure, value in zip(OOD_MEASURES, found, strict=True):
                yield {
                    **dict(zip(("dataset", "ood_dataset", "model"), names, strict=True)),
                    **{"score": score, "slice": part, "measure": measure},
                    **vars(value),
                    **{"n": len(inside), "n_ood": len(outside)},
                }


def _notes_on_sets(outside: list[ScoredModel]) -> Iterator[str]:
    """Yield what label sets do not tell about out-of-distribution images."""
    for name, _, _, sets in outside:
        if not _are_asked(sets):
            yield (
                f"{name}: without label sets, images that show a class of the model could not be left out; "
                "if there are some, pass them as `ood`"
            )
            continue
        unclear = int(np.count_nonzero(sets.usable & (sets.accepted > 0) & (sets.size == 0)))
        if unclear:
            yield f"{name}: {unclear:,} images show only unclear classes, so they are only in the slice all"
        asked = np.bincount(sets.rows, minlength=len(sets))
        open_images = int(np.count_nonzero(_slices(sets)["no class"] & (asked < sets.n_classes)))
        if open_images and sets.asked_known and not sets.complete:
            yield (
                f"{name}: for {open_images:,} images that show no class, raters were not asked about all "
                "classes"
            )


@register(
    "chapter",
    "ood",
    next=NextStep(
        "let raters decide which of the out-of-distribution images show a class of the model.",
        "manyhot init campaign --images OOD_IMAGES --predictions OOD_FOLDER",
    ),
)
def ood_chapter(named: Tables, folder: Path, draw: bool) -> Chapter | None:
    """Return the chapter about out-of-distribution images, or None if there is no table ``ood``."""
    rows = rows_of(named, "ood")
    if not rows:
        return None
    heads = (
        *text_heads("Model", "Score"),
        ColumnHead("Other images", number=False, title="Which out-of-distribution images"),
        ColumnHead("AUROC"),
        ColumnHead(
            "FPR95",
            title="Share of out-of-distribution images accepted if 95 % of in-distribution images "
            "are accepted",
        ),
        *number_heads("Images", "In distribution"),
        ColumnHead("Data sets", number=False),
    )
    lead = (
        *_separation_in_short(rows),
        "Some out-of-distribution images may show a class of the model. A high confidence on these images is "
        "not an error. "
        + (
            "The rows “no class” leave out the images whose label sets have a class. The rows “all” are "
            "those that a benchmark without label sets would report."
            if any(row["slice"] == "no class" for row in rows)
            else "They could not be left out, because the images have no label sets."
        ),
    )
    table = listing("ood-by-score", "Separation by score", heads, _by_measure(rows), _listed)
    figures = _draw(rows) if draw else ()
    title = "Is the model less confident on images that show none of its classes?"
    return Chapter("ood", "Out of distribution", title, lead, figures, (table,))


def _draw(rows: list[Row]) -> tuple[Figure, ...]:
    from manyhot.diagnose.figures import draw_ood

    return tuple(draw_ood(rows, {"no class": "Images without a class of the model", "all": "All images"}))


def _separation_in_short(rows: list[Row]) -> Iterator[str]:
    """Yield the best separation from images without a class, and the same from all others."""
    known = [r for r in rows if r["measure"] == "auroc" and r["value"] == r["value"]]
    part = next((p for p in ("no class", "all") if any(r["slice"] == p for r in known)), None)
    if part is None:
        yield "There are too few in-distribution or out-of-distribution images to compute the AUROC."
        return
    best = max((r for r in known if r["slice"] == part), key=lambda r: float(r["value"]))
    same = ("dataset", "ood_dataset", "model", "score")
    whole = next(r for r in known if r["slice"] == "all" and all(r[c] == best[c] for c in same))
    which = " that show no class of the model" if part == "no class" else ""
    more = (
        f"; for all {whole['n_ood']:,} images, this AUROC is {_cell(whole)}"
        if whole["n_ood"] > best["n_ood"]
        else ""
    )
    yield (
        f"The highest AUROC is {_cell(best)}, by the {best['score'].replace('_', ' ')} of {best['model']}, "
        f"for {best['n_ood']:,} images of {title_of(best['ood_dataset'])}{which} against {best['n']:,} "
        f"images of {title_of(best['dataset'])}{more}."
    )


def _listed(of: Row) -> tuple[str, ...]:
    row = of["auroc"]
    return (
        row["model"],
        row["score"].replace("_", " "),
        row["slice"],
        *(_cell(of[measure]) for measure in OOD_MEASURES),
        f"{row['n_ood']:,}",
        f"{row['n']:,}",
        f"{title_of(row['dataset'])} and {title_of(row['ood_dataset'])}",
    )
