"""What models lose from one data set to another, under original labels and under label sets.

A place is where models were judged: a data set, or a corrupted copy of one. What is lost between two places
under original labels and not under label sets was right all along: a label was missing.

Data sets in; what models lose from one to another, and what share of it is missing labels, out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot import tables
from manyhot.core.comparison import difference_interval
from manyhot.core.corruptions import missing_share
from manyhot.core.resampling import percentile_interval
from manyhot.core.sets import NO_LABEL
from manyhot.data.inputs import Asked, Source, sources
from manyhot.data.results import PUBLISHED, read_source
from manyhot.diagnose.page import write_diagnosis
from manyhot.errors import InputError, MatchError
from manyhot.evaluate.compare import REFERENCES, join
from manyhot.evaluate.judge import Resampling, judge_models
from manyhot.evaluate.results import Evaluation
from manyhot.files import sha256
from manyhot.formats import detect
from manyhot.formats.tabular import write_csv
from manyhot.formats.writing import PathLike, Progress, check_apart, check_place
from manyhot.run import Run
from manyhot.tables import Labels, Predictions, Results, list_matrix, schema
from manyhot.tables.sets import label_sets
from manyhot.tables.skipped_files import SkippedFiles

SINGLE = "top1"
"""The metric of original labels."""


MULTI = ("real1", "mla")
"""Metrics of label sets that ask the same of a model: one right class, its best."""


METRICS = (SINGLE, *MULTI, "map_macro")
"""Compared between places. Average precision asks for more than one class: it has losses, and no share."""


MAP_RESAMPLES = 100
"""Each sorts all scores anew."""


PROTOCOLS = {"imagenet-val": "ReaL", "imagenetv2-matched-frequency": "Multilabelfy"}
"""Who made the label sets of published data sets, and how."""


Floats = npt.NDArray[np.float64]


Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Robustness:
    """What models score at places, and what they lose from one to another.

    Attributes
    ----------
    robustness, losses, corruption_errors : pyarrow.Table
        The tables of these names; see `manyhot.tables.TABLES`. The last is empty without corruptions.
    notes : tuple of str
        What could not be done, and what must be known.
    """

    robustness: pa.Table
    losses: pa.Table
    corruption_errors: pa.Table
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        models = len(self.robustness["model"].unique())
        return f"Robustness({models} models, {self.losses.num_rows:,} losses)"

    @property
    def tables(self) -> dict[str, pa.Table]:
        """The tables by name, those that hold something."""
        names = ("robustness", "losses", "corruption_errors")
        return {name: getattr(self, name) for name in names if getattr(self, name).num_rows}

    @classmethod
    def of(
        cls, places: Sequence[Place], losses: Sequence[Row], errors: Sequence[Row], notes: Sequence[str]
    ) -> Robustness:
        """Build the tables from rows."""
        rows = [row for place in places for row in place.rows()]
        made = (("robustness", rows), ("losses", losses), ("corruption_errors", errors))
        found = {name: pa.Table.from_pylist(list(of), schema=schema(name)) for name, of in made}
        return cls(**found, notes=tuple(dict.fromkeys(notes)))


class Score(NamedTuple):
    """A number of a model, with its interval and the images it is of."""

    value: float
    lo: float | None
    hi: float | None
    n: int
    n_skipped: int


@dataclass(frozen=True, eq=False)
class Place:
    """Where models were judged.

    Attributes
    ----------
    dataset : str
    scores : dict
        The `Score` of each model, by metric.
    samples : dict
        Resampled values of each model, shape (R,), by metric; of models that have any.
    kind : str, optional
        Of corruption; None of a data set, and of the mean over all kinds.
    severity : int, optional
        None of a data set, and of the mean over severities.
    """

    dataset: str
    scores: Mapping[str, Mapping[str, Score]]
    samples: Mapping[str, Mapping[str, Floats]] = field(default_factory=dict)
    kind: str | None = None
    severity: int | None = None

    @property
    def where(self) -> Row:
        """The columns that tell which place it is."""
        return {"dataset": self.dataset, "kind": self.kind, "severity": self.severity}

    def rows(self) -> Iterator[Row]:
        """Yield rows of the robustness table."""
        for metric, scores in self.scores.items():
            for model, score in scores.items():
                yield {**self.where, "metric": metric, "model": model, **score._asdict()}

    def matrix(self, metric: str, models: Sequence[str]) -> Floats | None:
        """Return resampled values, shape (M, R), or None where a model has none."""
        known = self.samples.get(metric, {})
        if not all(model in known for model in models):
            return None
        least = min(len(known[model]) for model in models)
        return np.stack([known[model][:least] for model in models]) if least else None


def places_of(results: Results, kind: str | None = None, severity: int | None = None) -> list[Place]:
    """Return the data sets of results as places."""
    scores: dict[str, dict[str, dict[str, Score]]] = {d: {} for d in results.datasets}
    for row in results.table.to_pylist():
        if row["slice"] == "all" and row["metric"] in METRICS and np.isfinite(row["value"]):
            score = Score(*(row[name] for name in Score._fields))
            scores[row["dataset"]].setdefault(row["metric"], {})[row["model"]] = score
    return [Place(d, _in_order(s), _samples(results, d), kind, severity) for d, s in scores.items()]


def _in_order(scores: Mapping[str, Mapping[str, Score]]) -> dict[str, Mapping[str, Score]]:
    return {metric: scores[metric] for metric in METRICS if metric in scores}


def _samples(results: Results, dataset: str) -> dict[str, dict[str, Floats]]:
    found: dict[str, dict[str, Floats]] = {}
    for metric in METRICS:
        rows = results.sample_rows.get((dataset, metric, "all"))
        if rows:
            values = list_matrix(results.samples["values"].take(pa.array(list(rows.values()))), np.nan)
            found[metric] = dict(zip(rows, values.astype(np.float64), strict=True))
    return found


def average(places: Sequence[Place], kind: str | None) -> Place:
    """Return the mean over places of the same images, such as the severities of a kind.

    Its intervals are those of the mean: each resample is of the same images at all of them.
    """
    scores: dict[str, dict[str, Score]] = {}
    samples: dict[str, dict[str, Floats]] = {}
    for metric in METRICS:
        everywhere = [p.scores.get(metric, {}) for p in places]
        models = [m for m in everywhere[0] if all(m in at for at in everywhere)]
        for model in models:
            drawn = [d[0] for p in places if (d := p.matrix(metric, [model])) is not None]
            means = np.mean(drawn, axis=0) if len(drawn) == len(places) else None
            if means is not None:
                samples.setdefault(metric, {})[model] = means
            found = _mean_score([at[model] for at in everywhere], means)
            scores.setdefault(metric, {})[model] = found
    return Place(places[0].dataset, scores, samples, kind)


def _mean_score(scores: Sequence[Score], samples: Floats | None) -> Score:
    lo, hi = _ends(samples)
    n, skipped = min(s.n for s in scores), max(s.n_skipped for s in scores)
    return Score(float(np.mean([s.value for s in scores])), lo, hi, n, skipped)


def _ends(samples: Floats | None) -> tuple[float | None, float | None]:
    if samples is None:
        return None, None
    lo, hi = percentile_interval(samples[None])
    return number(lo[0]), number(hi[0])


def number(value: float | None) -> float | None:
    """Return what a table holds: no number is null."""
    return None if value is None or not np.isfinite(value) else float(value)


@dataclass(frozen=True, eq=False)
class _Loss:
    """What models lose under a metric; `samples` has shape (M, R), `lo` and `hi` (M,)."""

    models: Sequence[str]
    value: Floats
    samples: Floats | None
    lo: Floats
    hi: Floats
    n: tuple[int, int]

    @classmethod
    def between(
        cls, base: Place, place: Place, metric: str, paired: bool, models: Sequence[str] | None = None
    ) -> _Loss:
        at, there = base.scores.get(metric, {}), place.scores.get(metric, {})
        names = [m for m in at if m in there] if models is None else models
        x, y = (np.array([s[m][:3] for m in names], np.float64).reshape(-1, 3).T for s in (at, there))
        drawn = (p.matrix(metric, names) if names else None for p in (base, place))
        samples = _difference(*drawn, paired=paired)
        lo, hi = difference_interval(x, y) if samples is None else percentile_interval(samples)
        n = (min((s[m].n for m in names), default=0) for s in (at, there))
        return cls(names, x[0] - y[0], samples, lo, hi, (next(n), next(n)))

    def mean(self) -> _Loss:
        """Return the loss of the mean over models; no interval where nothing tells how they vary together."""
        nothing = np.full(1, np.nan)
        value = self.value.mean(keepdims=True)
        if self.samples is None:
            return _Loss([""], value, None, nothing, nothing, self.n)
        samples = self.samples.mean(0, keepdims=True)
        return _Loss([""], value, samples, *percentile_interval(samples), self.n)

    def shares(self, single: _Loss) -> tuple[Floats, Floats, Floats]:
        """Return which share of `single` is missing labels."""
        if self.samples is None or single.samples is None:
            return (np.full(len(self.models), np.nan),) * 3
        least = min(self.samples.shape[1], single.samples.shape[1])
        drawn = single.samples[:, :least], self.samples[:, :least]
        return missing_share(single.value, self.value, *drawn)


def _difference(x: Floats | None, y: Floats | None, *, paired: bool) -> Floats | None:
    if x is None or y is None:
        return None
    r = min(x.shape[1], y.shape[1])
    # Resamples of other images are drawn from one stream of random numbers: moved by one they are apart.
    return np.asarray(x[:, :r] - (y[:, :r] if paired else np.roll(y[:, :r], 1, axis=1)))


def losses(base: Place, place: Place, *, paired: bool) -> Iterator[Row]:
    """Yield rows of the losses table: the means over models under each metric, and then each model.

    Parameters
    ----------
    base, place : Place
    paired : bool
        Whether both are of the same images, row for row; else their resamples are independent.
    """
    means, each = list[Row](), list[Row]()
    for metric in METRICS:
        loss = _Loss.between(base, place, metric, paired)
        single = None
        if metric in MULTI and all(m in p.scores.get(SINGLE, {}) for m in loss.models for p in (base, place)):
            single = _Loss.between(base, place, SINGLE, paired, loss.models)
        where = {"base": base.dataset, **place.where, "metric": metric}
        if len(loss.models) > 1:
            mean = next(_rows(loss.mean(), single and single.mean()))
            means.append({**where, **mean, "model": None, "n_models": len(loss.models)})
        each += [{**where, **row} for row in _rows(loss, single)]
    yield from (*means, *each)


def _rows(loss: _Loss, single: _Loss | None) -> Iterator[Row]:
    nothing = np.full(len(loss.models), np.nan)
    shares = (nothing, nothing, nothing) if single is None else loss.shares(single)
    names = ("loss", "lo", "hi", "share", "share_lo", "share_hi")
    for model, *values in zip(loss.models, loss.value, loss.lo, loss.hi, *shares, strict=True):
        row: Row = {"model": model, "n_base": loss.n[0], "n": loss.n[1], "n_models": 1}
        yield row | dict(zip(names, map(number, values), strict=True))


def judge(
    labels: Labels,
    predictions: Iterable[Predictions],
    *,
    dataset: str,
    single: bool = False,
    resamples: int = 1000,
    seed: int = 0,
    trust_order: bool = False,
    misfits: SkippedFiles | None = None,
    progress: Callable[[int, str], None] | None = None,
) -> Evaluation:
    """Judge models under original labels and under label sets, on the images that both can judge.

    Parameters
    ----------
    labels : Labels
        See `judged_alike`.
    predictions : iterable of Predictions
    dataset : str
    single : bool
        Under original labels alone: there are no label sets.
    resamples, seed, trust_order, misfits, progress
        As in `manyhot.evaluate`. Average precision, of models with scores over all classes, has at most
        `MAP_RESAMPLES`.
    """
    return judge_models(
        labels,
        predictions,
        metrics=(SINGLE,) if single else METRICS,
        resampling=Resampling(resamples, seed, min(resamples, MAP_RESAMPLES)),
        trust_order=trust_order,
        dataset=dataset,
        misfits=misfits,
        progress=progress,
    )


def judged_alike(labels: Labels) -> tuple[Labels, tuple[str, ...]]:
    """Return the images that original labels and label sets can judge, and what is said of the others.

    Images without a valid label are the hard ones: counted under original labels alone they would make
    a loss under these that label sets do not have.
    """
    sets = label_sets(labels)
    labelled = sets.label != NO_LABEL
    if not labelled.any():
        return labels, ("there are no original labels: nothing is lost under them",)
    kept = labelled & sets.usable & (sets.size > 0)
    left_out = len(labels) - int(np.count_nonzero(kept))
    if not left_out:
        return labels, ()
    said = f"{left_out:,} of {len(labels):,} images lack a valid label or an original one, and were left out"
    return replace(labels, table=labels.table.filter(pa.array(kept))), (said,)


def diagnose_robustness(
    results: Sequence[Results], *, base: str = "", without: Sequence[str] = ()
) -> Robustness:
    """Measure what models lose between data sets, and what share of it is missing labels.

    Parameters
    ----------
    results : sequence of Results
        Of several data sets. Those of `manyhot.evaluate` have resampled values, from which intervals of
        losses and shares are made; published numbers have losses under original labels alone.
    base : str
        The data set that others are compared with, the first by default; subsets of ImageNet's classes are
        compared with its images of the same ones, where they are there (`REFERENCES`).
    without : sequence of str
        Patterns of models to leave out, such as ``fv_*``.

    Notes
    -----
    The data sets are taken to be of different images: the bootstrap of the one and that of the other are
    independent. Where nothing was resampled, the interval of a loss is Newcombe's, of two independent shares
    (`manyhot.core.comparison.difference_interval`).

    Raises
    ------
    InputError
        If there is only one data set, or no two have a model and a metric in common.
    MatchError
        If there is no data set `base`, or two of the results hold the same numbers.
    """
    places = places_of(join([r.without(without) for r in results]))
    at = _base(places, base)
    pairs = list(_compared(places, at))
    rows = [row for one, other in pairs for row in losses(one, other, paired=False)]
    if not rows:
        raise InputError(
            "No two data sets have a model and a metric in common.",
            got=", ".join(p.dataset for p in places),
            allowed=f"models of one name, under {' or '.join(METRICS)}",
        )
    return Robustness.of(places, rows, (), [*_told(pairs, rows), *_protocols(rows)])


def _base(places: Sequence[Place], base: str) -> Place:
    names = [p.dataset for p in places]
    if base and base not in names:
        raise MatchError(f"There is no data set {base!r} in the results.", allowed=", ".join(names))
    if len(places) < 2:
        raise InputError(
            "It takes two data sets to lose something from one to the other.",
            got=", ".join(names) or "none",
            do="give another",
        )
    return next(p for p in places if p.dataset == (base or names[0]))


def _compared(places: Sequence[Place], base: Place) -> Iterator[tuple[Place, Place]]:
    by_name = {p.dataset: p for p in places}
    own = {y: by_name[x] for y, x in REFERENCES.items() if x in by_name and y in by_name}
    kept_apart = {p.dataset for p in own.values()} - {base.dataset}
    for place in places:
        if place is not base and place.dataset not in kept_apart:
            yield own.get(place.dataset, base), place


def _told(pairs: Sequence[tuple[Place, Place]], rows: Sequence[Row]) -> Iterator[str]:
    """Yield which data sets were left out, and which have no shares, or shares of other images."""
    there = {(r["base"], r["dataset"]) for r in rows}
    shared = {(r["base"], r["dataset"]) for r in rows if r["metric"] in MULTI}
    for base, place in pairs:
        if (base.dataset, place.dataset) not in there:
            yield f"{place.dataset}: left out, since no model of {base.dataset} was judged on it"
    every = list(dict.fromkeys(p for pair in pairs for p in pair))
    without = [p.dataset for p in every if not set(MULTI) & set(p.scores)]
    if without:
        yield f"without label sets, and under original labels alone: {', '.join(without)}"
    for place in every:
        if any(place.dataset in pair for pair in shared):
            yield from _other_images(place)


def _other_images(place: Place) -> Iterator[str]:
    """Yield that metrics count different images, as in results of ``manyhot evaluate``."""
    counts = {m: max(s.n for s in place.scores[m].values()) for m in METRICS[:2] if m in place.scores}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{metric} {n:,}" for metric, n in counts.items())
        yield (
            f"{place.dataset}: metrics count different images ({told}), and shares are of them, too; give "
            "its label sets instead of results for shares of the same images"
        )


def _protocols(rows: Sequence[Row]) -> Iterator[str]:
    """Yield what shares rest on, once."""
    shared = {(r["base"], r["dataset"]) for r in rows if r["metric"] in MULTI}
    if not shared:
        return
    text = "shares take the label sets of both data sets to be made alike"
    named = [d for d in dict.fromkeys(d for pair in shared for d in pair) if d in PROTOCOLS]
    if len({PROTOCOLS[d] for d in named}) > 1:
        makers = " and ".join(sorted(f"{PROTOCOLS[d]} ({d})" for d in named))
        text += f", and those of {makers} are not: part of such a share is the protocol"
    yield text


NAMES = ("robustness", "losses", "corruption_errors")
"""Tables that are written, where they hold something."""


def diagnose_robustness_files(
    datasets: Sequence[PathLike],
    out: PathLike = "robustness",
    *,
    base: str = "",
    predictions: Sequence[PathLike] = (),
    models: Sequence[str] = (),
    without: Sequence[str] = (),
    rows: PathLike | None = None,
    images: PathLike | None = None,
    classes: PathLike | None = None,
    resamples: int = 1000,
    seed: int = 0,
    trust_order: bool = False,
    call: str = "",
    progress: Progress | None = None,
) -> tuple[Robustness, list[Path]]:
    """Measure what models lose between data sets, and write the tables ``robustness`` and ``losses``.

    Parameters
    ----------
    datasets : sequence of path-like
        Each a benchmark or one of its data sets, such as ``imagenet-val``; a campaign; label sets, or an
        images table, in any format: these are judged here, on the images that original labels and label sets
        can judge both. Or results, as `manyhot.compare` takes them: a folder that ``manyhot evaluate``
        wrote, or ``timm-results``.
    out : path-like
        The folder that both tables are written into, as Parquet and CSV.
    base : str
        The data set that others are compared with; the first by default.
    predictions : sequence of path-like
        Files and folders, in place of the published models or those of the campaign or folder; each data set
        takes those of its images.
    models : sequence of str
        Patterns of names of the models that are judged here, such as ``resnet*``.
    without : sequence of str
        Patterns of models that are left out.
    rows, images, classes
        As in `manyhot.evaluate`.
    resamples, seed, trust_order
        As in `manyhot.evaluate`.

    Raises
    ------
    ManyhotError
        For each kind of bad input; nothing is written then.
    """
    out = Path(out)
    check_apart([*datasets, *predictions, rows, images, classes], out, NAMES)
    for name in NAMES:
        check_place(out / f"{name}.parquet", name)
    asked = Asked(predictions, models, rows, images, classes, progress)
    options = {"resamples": resamples, "seed": seed, "trust_order": trust_order}
    found: list[Results] = []
    notes: list[str] = []
    inputs = {Path(p).name: sha256(p) for p in (rows, images, classes) if p and Path(p).is_file()}
    for source in datasets:
        if _holds_results(source):
            found += read_source(source, Run(on_progress=progress))
            continue
        for part in sources(source, asked):
            results, said = _judged(part, asked, options)
            found.append(results)
            notes += said
            inputs |= part.inputs
    done = diagnose_robustness(found, base=base, without=without)
    done = replace(done, notes=(*dict.fromkeys(notes), *done.notes))
    return done, write_robustness(done, out, call=call, inputs=inputs, about={"seed": str(seed)})


def write_robustness(
    found: Robustness, out: Path, *, call: str, inputs: Mapping[str, str], about: Mapping[str, str]
) -> list[Path]:
    """Write the tables into a folder, as Parquet and CSV, with notes in the metadata, and the page."""
    told = {"notes": json.dumps(found.notes, ensure_ascii=False), **about}
    written = []
    for name, table in found.tables.items():
        path = out / f"{name}.parquet"
        written.append(tables.write(table, path, name, call=call, inputs=dict(inputs), about=told))
        written.append(write_csv(table, path.with_suffix(".csv")))
    return [*written, write_diagnosis(out)]


def _holds_results(source: PathLike) -> bool:
    path = Path(source)
    if str(source) in PUBLISHED or (path / "results.parquet").is_file():
        return True
    return path.is_file() and detect(path, ("labels", "images")) is None


def _judged(part: Source, asked: Asked, options: Mapping[str, object]) -> tuple[Results, list[str]]:
    single = part.labels is None
    # A campaign without label sets has original labels all the same.
    labels = replace(part, campaign=None).sets() if single else part.sets()
    alike, said = (labels, ()) if single else judged_alike(labels)
    told = _metadata(part, asked.progress)
    judged = judge(
        alike,
        _covering(part, labels),
        dataset=part.name,
        single=single,
        misfits=part.misfits,
        progress=told,
        **options,  # type: ignore[arg-type]
    )
    skipped = [f"{n.model}: {n.text}" for n in judged.model_notes if n.kind == "skipped"]
    return judged.as_results(part.name), [f"{part.name}: {text}" for text in (*said, *skipped)]


def _covering(part: Source, labels: Labels) -> Iterator[Predictions]:
    """Yield the models that predict any of the images: of several data sets each has its own predictions."""
    found = False
    for model in part.models():
        if tables.count_shared(labels.image_id, model.image_id):
            found = True
            yield model
    if not found:
        raise InputError(
            f"No predictions are of the images of {part.name}.",
            got=f"images such as {labels.image_id[0]}",
            do="give predictions of them: --predictions FILE",
        )


def _metadata(part: Source, progress: Progress | None) -> Callable[[int, str], None] | None:
    if progress is None:
        return None
    return lambda done, _: progress(f"judging on {part.name}", min(done, part.n + 1), part.n + 1)
