"""Prediction sets with a guaranteed precision, evaluated on images that were not used for choosing them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from manyhot.command import command
from manyhot.console import table_lines
from manyhot.core.array_types import Bools
from manyhot.core.conformal import Certified, certify_precision, check_precision, count_in_sets, judgeable
from manyhot.core.resampling import student_interval
from manyhot.core.score_threshold import linked
from manyhot.core.sets import Case, LabelSets
from manyhot.data.data_sets import Source
from manyhot.data.inputs import READING, LabelsLike, PredictionsLike, Reading, open_inputs
from manyhot.diagnose.page import DiagnosisResult
from manyhot.errors import InputError
from manyhot.evaluate.clusters import likely_cluster_notes
from manyhot.evaluate.confidence import NO_PROBABILITIES, Division, drawn_share, split_for_sets
from manyhot.evaluate.requirements import DECLARE_KIND, link_note
from manyhot.evaluate.slices import labels_of, order_check_of
from manyhot.parameters import Seed
from manyhot.registry import register
from manyhot.report.chapter import Chapter, NextStep, Tables, listing, percent, rows_of, with_ends, with_range
from manyhot.report.figure import Figure
from manyhot.report.listings import ColumnHead, number_heads, text_heads
from manyhot.report.text import counted, title_of
from manyhot.run import QUIET, Run
from manyhot.tables import Predictions, Row, schema
from manyhot.tables.definitions import COUNT, INT, ITS, REAL, TEXT, bounds, declare_table, interval
from manyhot.tables.skipped_files import fitting_models

declare_table(
    "precise_sets",
    (
        TEXT("dataset", "the data set"),
        TEXT("model", "the model"),
        REAL("precision", "the lowest permitted expected share of valid classes in a prediction set"),
        REAL("delta", "permitted probability that the expected share is lower"),
        REAL("threshold", "lowest probability of a class in a set; NaN if no threshold was certified"),
        COUNT(
            "n_fitted",
            "number of images on which the threshold was chosen: those with a valid class, and those without "
            "one for which there are answers about all classes",
        ),
        INT.nullable(
            "n_needed",
            "number of images that would certify a threshold at the measured precisions; null if a threshold "
            "was certified, or if the precision is too low at every threshold",
        ),
        COUNT("n", "number of held-out images, as in n_fitted, with a prediction set that is not empty"),
        COUNT("n_empty", "number of held-out images, as in n_fitted, with an empty prediction set"),
        COUNT.optional("n_none", "number of the n + n_empty images that have no valid class"),
        COUNT.optional(
            "n_skipped",
            "number of held-out images that are left out: they are unusable, or no class is known to be "
            "valid and raters were not asked about all",
        ),
        REAL(
            "measured",
            "mean share of valid classes in the n prediction sets, 0 on images without one; NaN if there are "
            "no sets",
        ),
        *bounds("lo", "hi", f"{ITS} (jackknife)", column=REAL),
        *interval(
            "recall",
            "mean share of valid classes that are in the prediction set, over the n + n_empty - n_none "
            "images with valid classes",
            f"{ITS} (jackknife)",
            value=REAL,
            ends=REAL,
        ),
        *interval(
            "mean_size",
            "mean number of classes in the n prediction sets",
            f"{ITS} (Student's t)",
            value=REAL,
            ends=REAL,
        ),
    ),
)


@dataclass(frozen=True, eq=False)
class PreciseSets(DiagnosisResult):
    """Prediction sets with a guaranteed precision.

    Attributes
    ----------
    precise_sets : pyarrow.Table
        The table with this name; see `manyhot.tables.TABLES` for its columns.
    notes, metadata, inputs
        As in `Result`.
    """

    NAMES = ("precise_sets",)

    precise_sets: pa.Table

    def lines(self) -> Iterator[str]:
        """Yield the precision of each model's sets on the held-out images."""
        rows = self.precise_sets.to_pylist()
        heads = (
            "data",
            "model",
            "target",
            "threshold",
            "measured",
            "recall",
            "mean size",
            "sets",
            "empty",
            "no valid class",
        )
        yield from table_lines(heads, [_cells(row) for row in rows])


def _size(row: Row) -> str:
    return with_range(row["mean_size"], row["mean_size_lo"], row["mean_size_hi"], ".2f")


def _without(row: Row) -> str:
    """Return how many images have no valid class; tables of earlier versions leave them out."""
    return f"{row.get('n_none') or 0:,}"


def _cells(row: Row) -> tuple[str, ...]:
    sets = f"{row['n']:,}", f"{row['n_empty']:,}", _without(row)
    if np.isnan(row["threshold"]):
        return row["dataset"], row["model"], f"{row['precision']:.1%}", "none", "–", "–", "–", *sets
    return (
        row["dataset"],
        row["model"],
        f"{row['precision']:.1%}",
        f"{row['threshold']:.3g}",
        f"{row['measured']:.1%} ({row['lo']:.1%} to {row['hi']:.1%})" if row["n"] else "–",
        "–"
        if np.isnan(row["recall"])
        else f"{row['recall']:.1%} ({row['recall_lo']:.1%} to {row['recall_hi']:.1%})",
        _size(row) if row["n"] else "–",
        *sets,
    )


@command(
    "diagnose sets",
    out="sets",
    examples=("manyhot diagnose sets labels.parquet --predictions predictions --precision 0.9",),
)
def diagnose_sets(
    labels: LabelsLike,
    predictions: PredictionsLike = (),
    *,
    precision: float = 0.9,
    delta: float = 0.1,
    fit: float = 0.5,
    seed: Seed = 0,
    reading: Reading = READING,
    run: Run = QUIET,
) -> PreciseSets:
    """Choose prediction sets with a guaranteed precision, and evaluate them on other images.

    A prediction set contains the classes whose probability is at least a threshold. The command chooses the
    lowest threshold for which tests on some of the images guarantee that the expected share of valid classes
    in a set is at least the requested precision. The sets are measured on the other images. The models must
    not have been trained on these images. On images without any valid class, no class in a set is valid.

    Parameters
    ----------
    labels
        Name of a data set, such as imagenet-val; or a campaign, a folder written by predict, or a file of
        label sets.
    predictions
        Files or folders of predictions, used instead of those of the campaign or folder. Models without
        probabilities are skipped.
    precision
        Minimum expected share of valid classes in a set; above 0 and below 1.
    delta
        Permitted probability that the expected share is lower than the precision because the images used for
        fitting are not representative.
    fit
        Share of images on which the threshold is chosen; the sets are measured on the other images.
    seed
        Seed for the split.

    Returns
    -------
    PreciseSets

    Raises
    ------
    InputError
        If no model has probabilities, no image has labels, or an option is out of range.
    MatchError, OrderError
        As in `manyhot.evaluate`.
    """
    check_precision(precision, delta)
    rows, notes, inputs = list[Row](), list[str](), dict[str, str]()
    for source in open_inputs(labels, predictions, reading=reading, run=run):
        parts = partial(split_for_sets, labels_of(source), division=Division(fit, seed))
        check = None if reading.trust_order else order_check_of(source)
        chooser = _Chooser(parts, check, source.name, precision, delta, seed, rows, notes)
        for _ in fitting_models(source.models(), chooser.add, source.misfits):
            pass
        notes += source.misfits.notes(source.name)
        notes += _dependent(source)
        inputs |= source.inputs
    if not rows:
        raise InputError(
            "No model has the probabilities that prediction sets require.",
            got="; ".join(notes) or "no predictions",
            allowed="probabilities, logits of all classes, or lists of logits with logsumexp",
            do=DECLARE_KIND,
        )
    table = pa.Table.from_pylist(rows, schema=schema("precise_sets"))
    about = {"fit": json.dumps(fit), "seed": str(seed)}
    return PreciseSets(table, notes=tuple(notes), metadata=about, inputs=inputs)


def _dependent(source: Source) -> Iterator[str]:
    """Yield a note if images may depend on each other, of which both halves then contain some."""
    for note in likely_cluster_notes(source.name, labels_of(source), source.images):
        why, _, _ = note.text.partition(":")  # without the advice, which is of commands with clusters
        yield (
            f"{source.name}: {why}; the guarantee of the precision makes the same assumption, and both "
            f"halves may contain "
            "images that share a value: keep one image of each value"
        )


@dataclass
class _Chooser:
    """Collects rows and notes, model by model; the settings are those of `diagnose_sets`."""

    split: Callable[[Predictions], tuple[Case, Bools]]
    check: Callable[[Predictions], object] | None
    dataset: str
    precision: float
    delta: float
    seed: int
    rows: list[Row]
    notes: list[str]

    def add(self, model: Predictions) -> None:
        try:
            case, chosen = self.split(model)
        except InputError as error:
            if error.what != NO_PROBABILITIES:
                raise
            self.notes.append(f"{model.model} was left out, because it has no probabilities")
            return
        if self.check is not None:
            self.check(model)
        if (note := self._unknown(case.labels)) and note not in self.notes:
            self.notes.append(note)
        if text := link_note(case):
            self.notes.append(f"{model.model}: {text}")
        case, fitted = linked(case), np.flatnonzero(chosen)
        rng = np.random.default_rng([self.seed, len(fitted)])
        found = certify_precision(case, fitted, precision=self.precision, delta=self.delta, rng=rng)
        n_fitted = int(np.count_nonzero(judgeable(case.labels)[fitted]))
        if np.isnan(found.threshold):
            self.notes.append(f"{model.model}: {self._why_none(found, n_fitted)}")
        self.rows.append(
            {
                "dataset": self.dataset,
                "model": model.model,
                "precision": self.precision,
                "delta": self.delta,
                "threshold": found.threshold,
                "n_fitted": n_fitted,
                "n_needed": found.n_needed,
                **_measured(case, ~chosen, found.threshold),
            }
        )

    def _unknown(self, labels: LabelSets) -> str:
        """Return how many images are left out because they may or may not have valid classes, or nothing."""
        n = int(np.count_nonzero(labels.usable & ~judgeable(labels)))
        if not n:
            return ""
        images = f"{counted(n, 'image')} without a valid class {'is' if n == 1 else 'are'} left out"
        return (
            f"{self.dataset}: {images}, because answers about some classes are missing; the guarantee does "
            "not include such images; if these classes are absent, declare this with `empty='no'` or "
            "`unlisted='no'` of the labels' format"
        )

    def _why_none(self, result: Certified, n_fitted: int) -> str:
        said = f"no threshold is certified for a precision of {self.precision:g} with {n_fitted:,} images"
        if result.n_needed is None:
            return f"{said}; more images would not help, because no threshold reaches this precision"
        if result.n_needed <= n_fitted:
            return (
                f"{said}, because the first tested threshold, chosen on a random quarter of them, is "
                "not precise enough on the others; this is less likely with more images"
            )
        return f"{said}; about {result.n_needed:,} are needed at the measured precision"


_ENDS = ("", "_lo", "_hi")
_MEASURED = ("measured", "lo", "hi", *(f"{name}{end}" for name in ("recall", "mean_size") for end in _ENDS))


def _measured(case: Case, chosen: Bools, threshold: float) -> Row:
    """Return the columns that are measured on the chosen images."""
    sets = case.labels
    rows = np.flatnonzero(chosen & judgeable(sets))
    there = sets.scored[rows]
    counts = {
        "n": 0,
        "n_empty": len(rows),
        "n_none": int(np.count_nonzero(~there)),
        "n_skipped": int(np.count_nonzero(chosen)) - len(rows),
    }
    if np.isnan(threshold) or not len(rows):
        return {**counts, **dict.fromkeys(_MEASURED, float("nan"))}
    size, valid = (each[rows, 0] for each in count_in_sets(case, np.array([threshold])))
    some = size > 0
    shares = valid[some] / size[some]
    nothing = (float("nan"),) * 3
    values = (
        *(drawn_share(shares) if len(shares) else nothing),
        *(drawn_share(valid[there] / sets.size[rows[there]]) if there.any() else nothing),
        *(student_interval(size[some]) if len(shares) else nothing),
    )
    counts |= {"n": int(some.sum()), "n_empty": int((~some).sum())}
    return counts | dict(zip(_MEASURED, values, strict=True))


@register(
    "chapter",
    "precise_sets",
    next=NextStep(
        "compare with the calibration of the probabilities.",
        "manyhot diagnose calibration DATASET --predictions FOLDER",
    ),
)
def precise_sets_chapter(named: Tables, folder: Path, draw: bool) -> Chapter | None:
    """Return the chapter about prediction sets with a guaranteed precision, or None if there is no table."""
    rows = rows_of(named, "precise_sets")
    if not rows:
        return None
    heads = (
        *text_heads("Model", "Data set"),
        ColumnHead("Target"),
        ColumnHead("Threshold", title="Lowest probability of a class in a set"),
        ColumnHead("Precision", title="Mean share of valid classes in the sets that are not empty"),
        *number_heads("Sets", "Empty", "No valid class"),
        ColumnHead("Recall", title="Mean share of valid classes that are in the set, over images with any"),
        ColumnHead("Mean size"),
        ColumnHead("Fitted on", title="Images on which the threshold was chosen"),
    )
    lead = (
        _precision_in_short(rows),
        "The threshold was chosen on other images, so that the expected precision is at least the target "
        f"with a confidence of {percent(1 - rows[0]['delta'])}. Empty sets count for the recall, but not "
        "for the precision. On images without a valid class, the precision of a set is 0.",
    )
    table = listing("precise-sets-by-model", "Prediction sets by model", heads, rows, _listed)
    figures = _draw(rows) if draw else ()
    title = "How many predicted classes are valid"
    return Chapter("precise-sets", "Prediction sets", title, lead, figures, (table,))


def _draw(rows: list[Row]) -> tuple[Figure, ...]:
    from manyhot.diagnose.figures import draw_precise_sets

    return tuple(draw_precise_sets(rows))


def _precision_in_short(rows: list[Row]) -> str:
    """Return what the first model's sets contain, or for how many models sets were certified."""
    certified = [row for row in rows if row["n"]]
    if len(rows) > 1 or not certified:
        reached = sum(row["measured"] >= row["precision"] for row in certified)
        text = f"A threshold is certified for {len(certified):,} of {len(rows):,} models"
        if not certified:
            return f"{text}."
        low, high = (pick(certified, key=lambda r: float(r["measured"])) for pick in (min, max))
        least, most = (f"{percent(r['measured'], 1)} ({r['model']}, {r['n']:,} sets)" for r in (low, high))
        measured = f"{text}. On held-out images, the measured precision"
        if len(certified) == 1:
            return f"{measured} is {least}."
        return f"{measured} ranges from {least} to {most}, and is at least the target for {reached:,} models."
    row = certified[0]
    return (
        f"On {title_of(row['dataset'])}, the mean share of valid classes in the prediction sets of "
        f"{row['model']} is {with_ends(row['measured'], row['lo'], row['hi'], 1)}; the target was "
        f"{percent(row['precision'])}. {row['n']:,} of {row['n'] + row['n_empty']:,} held-out images have a "
        "set that is not empty."
    )


def _listed(row: Row) -> tuple[str, ...]:
    some = bool(row["n"])
    return (
        row["model"],
        title_of(row["dataset"]),
        percent(row["precision"], 1),
        "none" if np.isnan(row["threshold"]) else f"{row['threshold']:.3g}",
        with_ends(row["measured"], row["lo"], row["hi"], 1) if some else "–",
        f"{row['n']:,}",
        f"{row['n_empty']:,}",
        _without(row),
        "–" if np.isnan(row["recall"]) else with_ends(row["recall"], row["recall_lo"], row["recall_hi"], 1),
        _size(row) if some else "–",
        f"{row['n_fitted']:,}",
    )
