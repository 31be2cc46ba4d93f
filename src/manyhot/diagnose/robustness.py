"""What models lose from one data set to another, under original labels and under label sets."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import pyarrow as pa

from manyhot import tables
from manyhot.command import command
from manyhot.console import table_lines
from manyhot.core.sets import NO_LABEL
from manyhot.data.benchmarks import PUBLISHED, HasResults, is_published_name, read_source, same_name_note
from manyhot.data.data_sets import Source
from manyhot.data.inputs import READING, PredictionsLike, Reading, open_inputs
from manyhot.data.reading_options import ModelPatterns
from manyhot.diagnose.page import DiagnosisResult
from manyhot.diagnose.places import (
    COMPARED_METRICS,
    FEWEST_OF_SHARE,
    MULTI,
    SINGLE,
    Place,
    loss_rows,
    places_of,
)
from manyhot.errors import InputError, MatchError
from manyhot.evaluate.compared_pairs import DRAWN_IMAGES
from manyhot.evaluate.compared_results import REFERENCES
from manyhot.evaluate.joined_models import join
from manyhot.evaluate.judge_options import JudgeOptions
from manyhot.evaluate.judging import judge_models
from manyhot.evaluate.results import Evaluation
from manyhot.evaluate.slices import labels_of
from manyhot.formats import detect
from manyhot.parameters import RESAMPLES, Resamples, Seed, Shown
from manyhot.run import QUIET, Run
from manyhot.tables import Labels, Predictions, Results, Row, schema
from manyhot.tables.arrays import label_sets
from manyhot.tables.definitions import COUNT, INT, ITS, REAL, TEXT, bounds, declare_table, interval

MAP_RESAMPLES = 100
"""Bootstrap resamples of average precision: each sorts all scores again."""

LABEL_SET_PROTOCOLS = {"imagenet-val": "ReaL", "imagenetv2-matched-frequency": "Multilabelfy"}
"""Who made the label sets of published data sets, and how."""

FEW = 8
"""Up to this number of models, the terminal shows each of them beside their mean."""

_OVER_IMAGES = f"{ITS} over images"

_COPY = (
    TEXT.nullable(
        "kind",
        "the kind of corruption, or clean for the original images; null in means over kinds, and for data "
        "sets that were not corrupted",
    ),
    INT.nullable(
        "severity",
        "severity from 1 to 5, or 0 for the original images; null in means over severities, and for data "
        "sets that were not corrupted",
    ),
)

declare_table(
    "robustness",
    (
        TEXT("dataset", "the data set"),
        TEXT("model", "the model"),
        *_COPY,
        TEXT("metric", "a registered name"),
        REAL("value", "value of the metric; in rows of means, the mean over kinds or severities"),
        *bounds("lo", "hi", "its 95 % interval; null if there is none"),
        COUNT("n", "number of images that the metric counts; in rows of means, the minimum"),
        COUNT("n_skipped", "number of images that the metric skips; in rows of means, the maximum"),
    ),
)

declare_table(
    "losses",
    (
        TEXT(
            "base",
            "the data set relative to which the loss is measured; for corruptions, the original images",
        ),
        TEXT("dataset", "the data set whose loss is measured, or the corrupted data set"),
        TEXT.nullable("model", "the model; null for the mean over models"),
        *_COPY,
        TEXT(
            "metric",
            "a registered name; top1 is computed with original labels, other metrics with label sets",
        ),
        REAL("loss", "value on the base minus value on the data set"),
        *bounds("lo", "hi", _OVER_IMAGES),
        *interval(
            "share",
            "share of the loss of top1 that is due to missing labels, 1 - loss / loss of top1; null for top1 "
            "and average precision, and if the loss of top1 is not clearly above 0",
            _OVER_IMAGES,
        ),
        COUNT("n_base", "number of images counted on the base; for the mean, the minimum over models"),
        COUNT("n", "number of images counted on the data set; for the mean, the minimum over models"),
        COUNT("n_models", "number of models averaged; 1 for a single model"),
    ),
)

declare_table(
    "corruption_errors",
    (
        TEXT("dataset", "the data set that is corrupted"),
        TEXT("model", "the model"),
        TEXT("metric", "top1 or real1; the error is 1 minus this metric"),
        TEXT.nullable("kind", "the kind of corruption; null for the mean over kinds"),
        *interval(
            "error",
            "mean error over severities; if kind is null, over severities and kinds",
            _OVER_IMAGES,
            value=REAL,
        ),
        TEXT.nullable("baseline", "the model whose errors are the denominator; null if there is none"),
        *interval("ce", "corruption error; the mean over kinds is the mCE", _OVER_IMAGES),
        *interval(
            "relative", "relative corruption error, computed from the increase in errors", _OVER_IMAGES
        ),
        COUNT("n_kinds", "number of kinds averaged; 1 for a single kind"),
        COUNT("n_severities", "number of severities averaged"),
        COUNT("n", "number of images that the metric counts; the minimum over kinds and severities"),
    ),
)


@dataclass(frozen=True, eq=False)
class Robustness(DiagnosisResult):
    """Values of models at several places, and losses from one place to another.

    Attributes
    ----------
    robustness, losses, corruption_errors : pyarrow.Table
        The tables with these names; see `manyhot.tables.TABLES` for their columns. `corruption_errors` is
        empty if there are no corruptions.
    notes, metadata, inputs, written
        As in `Result`.
    """

    NAMES = OPTIONAL = ("robustness", "losses", "corruption_errors")

    robustness: pa.Table
    losses: pa.Table
    corruption_errors: pa.Table

    def __repr__(self) -> str:
        models = len(self.robustness["model"].unique())
        return f"{type(self).__name__}({models} models, {self.losses.num_rows:,} losses)"

    @classmethod
    def from_places(
        cls, places: Sequence[Place], losses: Sequence[Row], errors: Sequence[Row], notes: Iterable[str]
    ) -> Self:
        """Build the tables from rows."""
        rows = [row for place in places for row in place.rows()]
        made = (rows, list(losses), list(errors))
        built = (pa.Table.from_pylist(r, schema=schema(n)) for n, r in zip(cls.NAMES, made, strict=True))
        return cls(*built, notes=tuple(dict.fromkeys(notes)))

    def lines(self) -> Iterator[str]:
        """Yield the losses between data sets: means over models and, for few models, each model."""
        rows = self.losses.to_pylist()
        for base, dataset in dict.fromkeys((r["base"], r["dataset"]) for r in rows):
            own = [r for r in rows if (r["base"], r["dataset"]) == (base, dataset)]
            models = {r["model"] for r in own} - {None}
            shown = [r for r in own if r["model"] is None or len(models) <= FEW]
            share = any(r["share"] is not None for r in shown)
            more = ", and the share of the loss of top1 that is due to missing labels" if share else ""
            yield f"{base} → {dataset}: points lost{more}"
            head = ("model", "metric", "lost", *(["missing labels"] if share else []), "images")
            yield from table_lines(head, [_cells(r, share) for r in shown])
            yield ""


def _cells(row: Row, share: bool) -> tuple[str, ...]:
    lost, missing = points_lost(row), share_missing(row)
    images = f"{row['n_base']:,} → {row['n']:,}"
    model = row["model"] or f"mean of {row['n_models']:,}"
    return (model, row["metric"], lost, *([missing] if share else []), images)


def points_lost(row: Row) -> str:
    """Return a loss as text in points, with its interval."""
    value, lo, hi = (row[name] for name in ("loss", "lo", "hi"))
    if value is None:
        return "–"
    return f"{100 * value:.1f}" + ("" if lo is None or hi is None else f" ({100 * lo:.1f} to {100 * hi:.1f})")


def share_missing(row: Row) -> str:
    """Return, as text, the share of a loss that is due to missing labels, with its interval."""
    return percent_with_ends(row["share"], row["share_lo"], row["share_hi"])


def percent_with_ends(value: float | None, lo: float | None, hi: float | None) -> str:
    """Return a share as text in whole percent, with its interval."""
    if value is None:
        return "–"
    # Rounded first: what is a little below 0 is 0, and not -0.
    whole, low, high = (f"{round(v or 0.0, 2) + 0.0:.0%}" for v in (value, lo, hi))
    return whole if lo is None or hi is None else f"{whole} ({low} to {high})"


@command(
    "diagnose robustness",
    out="robustness",
    examples=(
        "manyhot diagnose robustness imagenet",
        "manyhot diagnose robustness timm-results",
        "manyhot diagnose robustness mine/labels.parquet other/labels.parquet --predictions predictions",
    ),
)
def diagnose_robustness(
    datasets: Annotated[Sequence[Any], Shown("DATASET")],
    predictions: PredictionsLike = (),
    *,
    base: Annotated[str, Shown("DATASET")] = "",
    without: ModelPatterns = (),
    resamples: Resamples = RESAMPLES,
    seed: Seed = 0,
    reading: Reading = READING,
    run: Run = QUIET,
) -> Robustness:
    """Measure how much models lose between data sets, and what share of the loss is due to missing labels.

    Models are evaluated under original labels and under label sets, on the images that have both.

    Parameters
    ----------
    datasets
        Data sets to compare: names of benchmarks, such as imagenet, or of their data sets; label sets, images
        tables or campaigns; or results (folders written by evaluate, or timm-results). In Python, also
        evaluations, or a mapping of names to label sets in any form that `manyhot.evaluate` takes, each alone
        or in a tuple with its predictions.
    predictions
        Files or folders of predictions, used instead of the published predictions or those of the campaign.
        Each data set uses the predictions for its images.
    base
        Name of the data set to compare the other data sets with; by default the first. Data sets with a
        subset of ImageNet's classes are compared with ImageNet's images of the same classes, if these images
        are among the data sets.
    without
        Patterns of names of models to leave out, such as 'fv_*'.
    resamples
        Number of bootstrap resamples; 0 for no intervals and no shares.
    seed
        Seed for the bootstrap.

    Returns
    -------
    Robustness

    Raises
    ------
    InputError
        If there is only one data set, or no two data sets have a model and a metric in common, or as in
        `manyhot.evaluate`.
    MatchError
        If there is no data set `base`, or two of the results contain the same values.

    Notes
    -----
    The data sets are assumed to have different images, so their bootstraps are independent, unless results
    record that their resamples contain the same images, as in `manyhot.compare`. If there are no
    resampled values, as in published results, the interval of a loss is Newcombe's interval for two
    independent shares (`manyhot.core.share_intervals.difference_interval`).
    """
    results: list[Results] = []
    notes: list[str] = []
    inputs: dict[str, str] = {}
    for name, dataset, predicted in _each(datasets, predictions):
        if _holds_results(dataset):
            results += read_source(dataset, run)
        else:
            own = replace(reading, dataset=name) if name else reading
            notes += filter(None, [same_name_note(dataset)])
            for source in open_inputs(dataset, predicted, reading=own, run=run):
                options = JudgeOptions(resamples=resamples, seed=seed, trust_order=reading.trust_order)
                judged, more = _judge_source(source, options, run)
                results.append(judged)
                notes += more
                inputs |= source.inputs
    together = join([r.without(without) for r in results])
    places = places_of(together)
    pairs = list(_compared(places, _base(places, base)))
    drawn = json.loads(together.about.get(DRAWN_IMAGES, "{}"))
    rows = [row for one, other in pairs for row in loss_rows(one, other, paired=_alike(drawn, one, other))]
    if not rows:
        raise InputError(
            "No two data sets have a model and a metric in common.",
            got=", ".join(p.dataset for p in places),
            allowed=f"models with the same name, and the metric {' or '.join(COMPARED_METRICS)}",
        )
    found = Robustness.from_places(places, rows, (), [*notes, *_notes(pairs, rows), *_protocols(rows)])
    return replace(found, metadata={"seed": str(seed)}, inputs=inputs)


def judge_place(
    source: Source, options: JudgeOptions, *, single: bool = False, run: Run = QUIET
) -> Evaluation:
    """Evaluate models under original labels and under label sets.

    Parameters
    ----------
    source : Source
        See `judged_alike` for its labels.
    options : JudgeOptions
        Average precision has at most `MAP_RESAMPLES` resamples.
    single : bool
        Whether to use only original labels, without label sets.
    """
    options = replace(
        options,
        metrics=(SINGLE,) if single else COMPARED_METRICS,
        map_resamples=min(options.resamples, MAP_RESAMPLES),
        keep_undefined=True,
    )
    return judge_models(source, options, run=run)


def judged_alike(labels: Labels) -> tuple[Labels, tuple[str, ...]]:
    """Return the images with both an original label and a valid class, and notes about the other images.

    Models are often wrong on images without a valid class. If these images were counted only under original
    labels, they would cause a loss that does not occur under label sets.
    """
    sets = label_sets(labels)
    labelled = sets.label != NO_LABEL
    if not labelled.any():
        return labels, ("there are no original labels, so losses under them are unknown",)
    usable = labelled & sets.usable & (sets.size > 0)
    left_out = len(labels) - int(np.count_nonzero(usable))
    if not left_out:
        return labels, ()
    note = (
        f"{left_out:,} of {len(labels):,} images have no valid class or no original label and were left out"
    )
    return replace(labels, table=labels.table.filter(pa.array(usable))), (note,)


def _base(places: Sequence[Place], base: str) -> Place:
    names = [p.dataset for p in places]
    if base and base not in names:
        raise MatchError(f"There is no data set {base!r} in the results.", allowed=", ".join(names))
    if len(places) < 2:
        raise InputError(
            "A comparison needs at least two data sets.",
            got=", ".join(names) or "none",
            do="pass another data set",
        )
    return next(p for p in places if p.dataset == (base or names[0]))


def _compared(places: Sequence[Place], base: Place) -> Iterator[tuple[Place, Place]]:
    by_name = {p.dataset: p for p in places}
    own = {y: by_name[x] for y, x in REFERENCES.items() if x in by_name and y in by_name}
    references = {p.dataset for p in own.values()} - {base.dataset}
    for place in places:
        if place is not base and place.dataset not in references:
            yield own.get(place.dataset, base), place


def _alike(drawn: Mapping[str, str], one: Place, other: Place) -> bool:
    """Return whether the resamples of two data sets contain the same images, as in copies of the images."""
    return bool(drawn.get(one.dataset)) and drawn.get(one.dataset) == drawn.get(other.dataset)


def _notes(pairs: Sequence[tuple[Place, Place]], rows: Sequence[Row]) -> Iterator[str]:
    """Yield which data sets were left out, and which have no shares, or shares of different images."""
    there = {(r["base"], r["dataset"]) for r in rows}
    shared = {(r["base"], r["dataset"]) for r in rows if r["metric"] in MULTI}
    for base, place in pairs:
        if (base.dataset, place.dataset) not in there:
            yield f"{place.dataset}: left out, because it shares no model with {base.dataset}"
    every = list(dict.fromkeys(p for pair in pairs for p in pair))
    without = [p.dataset for p in every if not set(MULTI) & set(p.scores)]
    if without:
        yield f"evaluated only under original labels, because there are no label sets: {', '.join(without)}"
    for place in every:
        if any(place.dataset in pair for pair in shared):
            yield from _other_images(place)


def _other_images(place: Place) -> Iterator[str]:
    """Yield a note if metrics count different images, as in results of ``manyhot evaluate``."""
    metrics = [m for m in COMPARED_METRICS[:2] if m in place.scores]
    counts = {m: max(s.n for s in place.scores[m].values()) for m in metrics}
    if len(set(counts.values())) > 1:
        counted = ", ".join(f"{metric} {n:,}" for metric, n in counts.items())
        yield (
            f"{place.dataset}: metrics count different images ({counted}), so shares compare different "
            "images; to compute shares on the same images, pass the label sets instead of results"
        )


def _protocols(rows: Sequence[Row]) -> Iterator[str]:
    """Yield what shares assume, once."""
    shared = {(r["base"], r["dataset"]) for r in rows if r["metric"] in MULTI}
    if not shared:
        return
    if any(r["share"] is not None and r["share_lo"] is None for r in rows):
        few = f"shares over fewer than {FEWEST_OF_SHARE} images"
        yield f"{few} have no intervals, because intervals would be too narrow"
    text = (
        "shares due to missing labels assume that the label sets of both data sets were made in the same way"
    )
    named = [d for d in dict.fromkeys(d for pair in shared for d in pair) if d in LABEL_SET_PROTOCOLS]
    if len({LABEL_SET_PROTOCOLS[d] for d in named}) > 1:
        makers = " and ".join(sorted(f"{LABEL_SET_PROTOCOLS[d]} ({d})" for d in named))
        text += f", but the label sets of {makers} were not, so part of each share is due to the protocol"
    yield text


def _each(datasets: Any, predictions: PredictionsLike) -> Iterator[tuple[str, Any, PredictionsLike]]:
    """Yield the name of each data set, if it has one, the data set, and the predictions to use."""
    if isinstance(datasets, Mapping):
        for name, value in datasets.items():
            yield (name, *value) if isinstance(value, tuple) else (name, value, predictions)
        return
    is_one = isinstance(datasets, str | os.PathLike | Results | Labels)
    yield from (("", dataset, predictions) for dataset in ([datasets] if is_one else datasets))


def _holds_results(source: object) -> bool:
    if isinstance(source, Results | HasResults):
        return True
    if not isinstance(source, str | os.PathLike) or is_published_name(source):
        return False
    path = Path(source)
    if str(source) in PUBLISHED or (path / "results.parquet").is_file():
        return True
    return path.is_file() and detect(path, ("labels", "images")) is None


def _judge_source(source: Source, options: JudgeOptions, run: Run) -> tuple[Results, list[str]]:
    """Return the results of a data set, and notes."""
    single = source.labels is None
    # A campaign without label sets still has original labels.
    labels = replace(source, campaign=None).sets() if single else labels_of(source)
    alike, notes = (labels, ()) if single else judged_alike(labels)
    judged = judge_place(
        replace(source, labels=alike, images=None, models=partial(_covering, source, labels)),
        options,
        single=single,
        run=run,
    )
    skipped = [f"{n.model}: {n.text}" for n in judged.model_notes if n.kind == "skipped"]
    return judged.as_results(source.name), [f"{source.name}: {text}" for text in (*notes, *skipped)]


def _covering(source: Source, labels: Labels) -> Iterator[Predictions]:
    """Yield the models that predict any of the images: each data set has its own predictions."""
    covering = 0
    for model in source.models():
        if tables.count_shared(labels.image_id, model.image_id):
            covering += 1
            yield model
    if not covering:
        raise InputError(
            f"There are no predictions for the images of {source.name}.",
            got=f"images such as {labels.image_id[0]}",
            do="pass predictions for them as `predictions`",
        )
