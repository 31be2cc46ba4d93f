"""What models lose on corrupted copies of their images: losses, corruption errors, and missing labels.

Images in; what models lose on corrupted copies of them out. Copies are made while they are predicted.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot import tables
from manyhot.classes import ClassList, class_list, class_list_of
from manyhot.core.corruptions import ALEXNET, ALEXNET_CLEAN, corruption_errors, relative_errors
from manyhot.core.resampling import percentile_interval
from manyhot.diagnose.pixels.corruptions import CLEAN, KINDS, SEVERITIES, Corruption, chosen, corruption
from manyhot.diagnose.robustness import (
    NAMES,
    SINGLE,
    Place,
    Robustness,
    Row,
    average,
    judge,
    judged_alike,
    losses,
    number,
    places_of,
    write_robustness,
)
from manyhot.errors import InputError, MatchError
from manyhot.files import sha256
from manyhot.formats import detect, read_classes, read_images, read_labels, read_predictions
from manyhot.formats.writing import PathLike, check_apart, check_place, images_file
from manyhot.predict.find import find_model
from manyhot.predict.network import Network
from manyhot.predict.run import PredictSettings, run
from manyhot.predict.sources import open_source
from manyhot.predict.sources.altered import alter_images
from manyhot.predict.sources.base import ImageSource
from manyhot.registry import register
from manyhot.report.chapter import Chapter, Tables, in_points, listing, rows_of, with_ends
from manyhot.report.chapter import Row as chapter_Row
from manyhot.report.figure import Figure
from manyhot.report.listings import Head, Listing
from manyhot.report.text import title_of
from manyhot.tables import Labels, Predictions
from manyhot.tables.predictions import predictions_file_name
from manyhot.tables.sets import single_labels

NOT_CORRUPTED = ("clean", 0)
"""Kind and severity of the pictures as they are."""


BASELINE = "alexnet"
"""The baseline of Hendrycks & Dietterich, whose errors on ImageNet are published."""


ERRORS = (SINGLE, "real1")
"""Metrics whose errors are averaged over corruptions."""


Floats = npt.NDArray[np.float64]


Copy = tuple[str, int]
"""Kind and severity."""


Progress = Callable[[str, int, int], None]


def diagnose_corruptions(
    labels: Labels,
    copies: Mapping[Copy, Iterable[Predictions]],
    *,
    baseline: str = "",
    resamples: int = 1000,
    seed: int = 0,
    dataset: str = "",
    single: bool = False,
    trust_order: bool = False,
    progress: Progress | None = None,
) -> Robustness:
    """Measure what models lose on corrupted copies of images, and what share of it is missing labels.

    Parameters
    ----------
    labels : Labels
    copies : mapping of (str, int) to iterable of Predictions
        By kind and severity, those of the pictures as they are under `CLEAN`.
    baseline : str
        The model whose errors others are divided by; `BASELINE` for AlexNet's published ones, which is the
        default where the classes are ImageNet-1k's. Else errors are averaged as they are.
    resamples, seed, trust_order
        As in `manyhot.evaluate`. Each resample is of the same images in all copies.
    dataset : str
        What the data set is called; the labels' name by default.
    single : bool
        Whether there are no label sets.
    progress : callable, optional
        Called with what is judged, how many copies are, and how many there are.

    Notes
    -----
    Corruption errors are defined for errors under original labels. AlexNet's under label sets were never
    published, so that those of ``real1`` are divided by a baseline among the models only.

    Raises
    ------
    InputError
        If the pictures as they are, or all corruptions, are missing.
    MatchError
        If the baseline is none of the models; or as in `manyhot.evaluate`.
    """
    if NOT_CORRUPTED not in copies or len(copies) < 2:
        raise InputError(
            "Losses by corruption are those from pictures as they are to corrupted ones.",
            got=", ".join(f"{kind} {severity}" for kind, severity in copies) or "nothing",
            allowed=f"predictions under {NOT_CORRUPTED} and under a corruption, such as ('fog', 3)",
        )
    name = dataset or labels.name or "labels"
    alike, notes = (labels, ()) if single else judged_alike(labels)
    places: dict[Copy, Place] = {}
    told = list(notes)
    for done, copy in enumerate(sorted(copies, key=lambda c: c != NOT_CORRUPTED), 1):
        judged = judge(
            alike,
            copies[copy],
            dataset=name,
            single=single,
            resamples=resamples,
            seed=seed,
            trust_order=trust_order or copy != NOT_CORRUPTED,
        )
        told += [f"{n.model}: {n.text}" for n in judged.notes if n.kind == "labels_unmatched"]
        places[copy] = places_of(judged.tables(), *copy)[0]
        if progress:
            progress(f"judging on {name}", done, len(copies))
    models = list(places[NOT_CORRUPTED].scores.get(SINGLE) or places[NOT_CORRUPTED].scores.get("real1", {}))
    return _Corrupted(places, find_baseline(baseline, models, labels.class_hash)).finish(told)


def find_baseline(name: str, models: Sequence[str], class_hash: str) -> str:
    """Return the baseline that is meant: the one named, else AlexNet on ImageNet's classes, else none.

    Parameters
    ----------
    name : str
    models : sequence of str
    class_hash : str
        Of the class list of the data set.

    Raises
    ------
    MatchError
        There is none of that name.
    """
    known = class_list_of(class_hash)
    on_imagenet = known is not None and known.hash == class_list().hash
    allowed = [*models, BASELINE] if on_imagenet else models
    if name and name not in allowed:
        why = ": its errors are published on ImageNet's classes" if name == BASELINE else ""
        raise MatchError(f"The baseline is none of the models{why}.", got=name, allowed=", ".join(allowed))
    return name or (BASELINE if on_imagenet else "")


@dataclass(frozen=True, eq=False)
class _Corrupted:
    """Places by kind and severity, the pictures as they are among them."""

    places: Mapping[Copy, Place]
    baseline: str

    def finish(self, notes: Sequence[str]) -> Robustness:
        clean = self.places[NOT_CORRUPTED]
        copies = [p for copy, p in self.places.items() if copy != NOT_CORRUPTED]
        means = [average([p for p in copies if p.kind == kind], kind) for kind in self._kinds]
        everywhere = average(means, None)
        ends = [everywhere, *means, *copies]
        lost = [row for place in ends for row in losses(clean, place, paired=True)]
        errors = [row for metric in ERRORS for row in self._errors(metric)]
        return Robustness.of([clean, *ends], lost, errors, [*notes, *self._notes()])

    @property
    def _kinds(self) -> list[str]:
        return list(dict.fromkeys(kind for kind, _ in self.places if kind != NOT_CORRUPTED[0]))

    def _errors(self, metric: str) -> Iterator[Row]:
        """Yield rows of the corruption_errors table: of each model the mean over kinds, and each kind."""
        clean = self.places[NOT_CORRUPTED].scores.get(metric, {})
        everywhere = [p.scores.get(metric, {}) for p in self.places.values()]
        for model in (m for m in clean if all(m in at for at in everywhere)):
            yield from self._of(model, metric)

    def _of(self, model: str, metric: str) -> Iterator[Row]:
        score = self.places[NOT_CORRUPTED].scores[metric][model]
        found = {kind: self._kind(kind, model, metric) for kind in self._kinds}
        mean = {name: np.mean([of[name] for of in found.values()], axis=0) for name in _MEASURES}
        severities = {kind: sum(k == kind for k, _ in self.places) for kind in self._kinds}
        for kind, measures in ((None, mean), *found.items()):
            row: Row = {
                "dataset": self.places[NOT_CORRUPTED].dataset,
                "model": model,
                "metric": metric,
                "kind": kind,
            }
            row["baseline"] = self._baseline_of(metric) or None
            row |= {"n_kinds": 1 if kind else len(found), "n": score.n}
            row["n_severities"] = severities[kind] if kind else min(severities.values())
            for name, drawn in measures.items():
                row |= _columns(name, drawn)
            yield row

    def _kind(self, kind: str, model: str, metric: str) -> dict[str, Floats]:
        """Return mean error and corruption errors: the value, then resampled ones, shape (1 + R,)."""
        severities = [severity for k, severity in self.places if k == kind]
        errors, clean = self._drawn(kind, severities, model, metric)
        nothing = np.full(len(errors), np.nan)
        found = {"error": errors.mean((1, 2)), "ce": nothing, "relative": nothing}
        baseline = self._baseline_of(metric)
        if baseline == BASELINE:
            of, of_clean = np.array([[ALEXNET[kind][s - 1] for s in severities]]), np.array(ALEXNET_CLEAN)
        elif baseline:
            of, of_clean = self._drawn(kind, severities, baseline, metric)
        else:
            return found
        found["ce"] = corruption_errors(errors, of)[:, 0]
        found["relative"] = relative_errors(errors, clean, of, of_clean)[:, 0]
        return found

    def _baseline_of(self, metric: str) -> str:
        published = metric == SINGLE
        return self.baseline if self.baseline != BASELINE or published else ""

    def _drawn(self, kind: str, severities: Sequence[int], model: str, metric: str) -> tuple[Floats, Floats]:
        """Return errors by severity, shape (1 + R, 1, S), and those of clean pictures, shape (1 + R,)."""
        copies = [self.places[kind, severity] for severity in severities]
        errors = [
            1 - _with_resamples(place, metric, model) for place in (*copies, self.places[NOT_CORRUPTED])
        ]
        return np.stack(errors[:-1], axis=-1)[:, None], errors[-1]

    def _notes(self) -> Iterator[str]:
        if not self.baseline:
            yield (
                "no corruption errors: AlexNet's, which they are divided by, are of ImageNet's classes; "
                "another model can be the baseline"
            )
        elif self.baseline == BASELINE:
            yield (
                "corruption errors are divided by AlexNet's published ones on all 50,000 images of "
                "ImageNet-C, of original labels: there are none of label sets"
            )
        if len(self._kinds) < len(ALEXNET):
            yield f"{len(self._kinds)} of {len(ALEXNET)} kinds: means over them are not those over all"


_MEASURES = ("error", "ce", "relative")


def _with_resamples(place: Place, metric: str, model: str) -> Floats:
    drawn = place.matrix(metric, [model])
    value = np.array([place.scores[metric][model].value])
    return value if drawn is None else np.concatenate([value, drawn[0]])


def _columns(name: str, drawn: Floats) -> Row:
    ends = percentile_interval(drawn[None, 1:]) if len(drawn) > 1 and np.isfinite(drawn[0]) else (None, None)
    lo, hi = (None if end is None else number(end[0]) for end in ends)
    return {name: number(drawn[0]), f"{name}_lo": lo, f"{name}_hi": hi}


def diagnose_corruptions_files(
    source: PathLike,
    models: Sequence[str],
    out: PathLike = "corruptions",
    *,
    labels: PathLike | None = None,
    images: PathLike | None = None,
    classes: PathLike | None = None,
    kinds: Sequence[str] = (),
    severities: Sequence[int] = (),
    limit: int | None = None,
    baseline: str = "",
    dense: bool = False,
    engine: str = "auto",
    workers: int | None = None,
    batch: int | None = None,
    resamples: int = 1000,
    seed: int = 0,
    call: str = "",
    progress: Progress | None = None,
) -> tuple[Robustness, list[Path]]:
    """Corrupt images, predict them, and measure what models lose and what share of it is missing labels.

    Each copy becomes a folder as ``manyhot predict`` writes it, ``clean`` and such as ``fog-3``. A run that
    ended early goes on where it was. Then the tables ``robustness``, ``losses`` and ``corruption_errors`` are
    written.

    Parameters
    ----------
    source : path-like
        See `manyhot.predict.sources.open_source`.
    models : sequence of str
        See `manyhot.predict.find.find_model`.
    out : path-like
        A folder.
    labels : path-like, optional
        Label sets, in any format; or for original labels alone an images table, or CSV as
        `manyhot.predict_files` takes it. Original labels as the source tells them by default.
    images : path-like, optional
        Images table: original labels where `labels` has none.
    classes : path-like, optional
        Class list of the data set, where it is not that of the model.
    kinds, severities : sequence
        Of `manyhot.diagnose.pixels.corruptions.KINDS`, and of 1 to 5; all by default.
    limit : int, optional
        Images that are taken, by a hash of their ids and the seed; all by default.
    baseline : str
        As in `manyhot.diagnose.corruptions.diagnose_corruptions`.
    dense : bool
        Keep the scores of all classes: for average precision.
    engine, workers, batch
        As in `manyhot.predict_files`.
    resamples : int
        Of the bootstrap.
    seed : int
        Of the corruptions, the choice of images, and the bootstrap.

    Raises
    ------
    ManyhotError
        For each kind of bad input.
    """
    out = Path(out)
    check_apart([labels, images, classes], out, NAMES)
    for name in NAMES:
        check_place(out / f"{name}.parquet", name)
    copies = _copies(kinds, severities, seed)
    if limit is not None and limit < 1:
        raise InputError("The limit is no number of images.", got=limit, allowed="1 and up")
    known = read_classes(classes) if classes else None
    networks = [_seeing_all(find_model(name, known)) for name in dict.fromkeys(models)]
    names = [network.name for network in networks]
    of = known or networks[0].classes
    find_baseline(baseline, names, of.hash)
    sets = _sets_file(labels)
    # A CSV that is neither label sets nor images tells the label of each image, as manyhot predict reads it.
    opened = open_source(source, labels=labels if sets is None else None)
    given = _Given.read(sets, images, of)
    taken, notes = given.take(_listed(opened), limit, seed)
    copies = [replace(c, only=taken) for c in copies]
    settings = PredictSettings(None if dense else 20, engine, workers=workers, batch=batch, classes=known)
    job = _Job(opened, out, copies, settings, call, progress, len(taken), len(networks))
    for network in networks:
        job.predict(network, given.check)
    judged, single = given.of(out / CLEAN, taken)
    found = diagnose_corruptions(
        judged,
        {(c.kind, c.severity): _read(out / c.folder, names) for c in copies},
        baseline=baseline,
        resamples=resamples,
        seed=seed,
        dataset=judged.name if sets else Path(source).stem,
        single=single,
        progress=progress,
    )
    own = (note for network in networks for note in network.notes)
    found = replace(found, notes=(*own, *notes, *_skipped(out / CLEAN), *found.notes))
    inputs = {Path(p).name: sha256(p) for p in (labels, images, classes) if p and Path(p).is_file()}
    return found, write_robustness(found, out, call=call, inputs=inputs, about={"seed": str(seed)})


def _copies(kinds: Sequence[str], severities: Sequence[int], seed: int) -> list[Corruption]:
    """Return what is done to pictures, nothing first."""
    pairs = itertools.product(dict.fromkeys(kinds or KINDS), sorted(set(severities or SEVERITIES)))
    return [corruption(CLEAN, 0, seed), *(corruption(kind, severity, seed) for kind, severity in pairs)]


def _seeing_all(network: Network) -> Network:
    """Return a network that sees a corrupted picture whole: it was cut already."""
    preprocessing = network.preprocessing
    return replace(network, preprocessing=replace(preprocessing, scale=preprocessing.size))


def _sets_file(labels: PathLike | None) -> Path | None:
    """Return the label sets or the images table that is given, or in the folder that is."""
    if labels is None:
        return None
    inside = Path(labels) / "labels.parquet"
    path = inside if inside.is_file() else images_file(labels)
    return path if path.suffix != ".csv" or detect(path, ("labels", "images")) is not None else None


def _listed(source: ImageSource) -> list[str]:
    return [item.image_id for part in source.parts for item, _ in part.items()]


@dataclass(frozen=True, eq=False)
class _Given:
    """What models are judged on: label sets, original labels (`single`), or those that the source tells."""

    labels: Labels | None
    single: bool
    classes: ClassList

    @classmethod
    def read(cls, labels: Path | None, images: PathLike | None, classes: ClassList) -> _Given:
        if labels is None:
            return cls(None, True, classes)
        if detect(labels, ("labels",)) is None:
            return cls(_single(labels, classes), True, classes)
        read = read_labels(labels, classes=classes)
        return cls(read.with_labels(read_images(images)) if images else read, False, classes)

    def take(
        self, listed: Sequence[str], limit: int | None, seed: int
    ) -> tuple[frozenset[str], tuple[str, ...]]:
        """Return the images that are corrupted, and what is said of others.

        Raises
        ------
        MatchError
            The labels are of none of the images.
        """
        if self.labels is None:
            return chosen(listed, limit or len(listed), seed), ()
        alike, notes = (self.labels, ()) if self.single else judged_alike(self.labels)
        labelled = set(alike.image_id.to_pylist())
        there = [name for name in listed if name in labelled]
        if not there:
            raise MatchError(
                "The labels are of other images.",
                where=self.labels.name or None,
                got=f"labels of {next(iter(alike.image_id.to_pylist()), 'none')}",
                allowed=f"images such as {next(iter(listed), 'none')}",
            )
        if absent := len(labelled) - len(there):
            notes = (*notes, f"{absent:,} of {len(labelled):,} labelled images are not in the source")
        return chosen(there, limit or len(there), seed), notes

    def of(self, clean: Path, taken: frozenset[str]) -> tuple[Labels, bool]:
        """Return the labels of the images that were taken, and whether they are original ones alone."""
        labels = _single(clean / "images.parquet", self.classes) if self.labels is None else self.labels
        kept = pc.is_in(labels.image_id, pa.array(taken, pa.string()))
        return replace(labels, table=labels.table.filter(kept)), self.single

    def check(self, clean: Path, model: str) -> None:
        """Judge the pictures as they are: what does not fit is to be said before an hour of corruptions.

        Raises
        ------
        ManyhotError
            As in `manyhot.evaluate`.
        """
        labels = _single(clean / "images.parquet", self.classes) if self.labels is None else self.labels
        judge(labels, _read(clean, [model]), dataset="clean", single=self.single, resamples=0)


def _single(path: Path, classes: ClassList) -> Labels:
    return single_labels(read_images(path, classes=classes), len(classes), classes.hash)


@dataclass
class _Job:
    """Predicts all copies of a source by one model after another."""

    source: ImageSource
    out: Path
    copies: Sequence[Corruption]
    settings: PredictSettings
    call: str
    progress: Progress | None
    n_images: int
    n_models: int
    _done: int = 0
    _there: int = 0

    def predict(self, network: Network, check: Any) -> None:
        settings, choice = self.settings, None
        for copy in self.copies:
            folder = self.out / copy.folder
            came = run(
                alter_images(self.source, copy), network, folder, settings, self.call, self._notify, choice
            )
            choice = choice or came.choice
            if copy.kind == CLEAN:
                check(folder, network.name)
                # What goes on later is to go on with the same engine: others differ in the last digits.
                settings = replace(settings, engine=_engine(folder, network.name))
            # What an earlier run left counts neither as done nor as to do: it would flatter the time left.
            self._there += 0 if came.n else self.n_images
            self._done += self.n_images if came.n else 0
            self._tell(0)

    def _notify(self, kind: str, told: dict[str, Any]) -> None:
        if kind == "progress":
            self._tell(told["images"])

    def _tell(self, images: int) -> None:
        if self.progress:
            total = self.n_images * len(self.copies) * self.n_models - self._there
            self.progress("corrupting and predicting", self._done + images, total)


def _engine(folder: Path, model: str) -> str:
    about = tables.metadata(tables.read(folder / predictions_file_name(model), "predictions"))
    return about["engine"]


def _read(folder: Path, models: Sequence[str]) -> Iterator[Predictions]:
    return (read_predictions(folder / predictions_file_name(model)) for model in models)


def _skipped(folder: Path) -> Iterator[str]:
    """Yield how many images were skipped, and why the first was."""
    with (folder / "skipped.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["image_id"]: row["reason"] for row in csv.DictReader(file)}
    for name, reason in itertools.islice(rows.items(), 1):
        listed = folder / "skipped.csv"
        yield f"skipped images: {len(rows):,}, such as {name} ({reason}); {listed} lists them"


@register("chapter", "corruptions")
def _corruptions(found: Tables, folder: Path, draw: bool) -> Chapter | None:
    losses = rows_of(found, "losses")
    if not losses:
        return None
    whole = [r for r in losses if r["severity"] is None]
    heads = (
        Head("From", number=False),
        Head("To", number=False),
        Head("Model", number=False),
        Head("Metric", number=False),
        Head("Lost, points"),
        Head("Of it missing labels", title="1 less this loss over that of top-1"),
        Head("Images"),
    )
    lead = (
        "What accuracy is lost from one set of pictures to another, by the original label and by label sets. "
        "What is lost by the label alone is another valid class, named in its place: a missing label, as far "
        "as the label sets of both were made alike.",
    )
    made = [listing("losses", "What is lost", heads, whole, _loss)] if whole else []
    errors = rows_of(found, "corruption_errors")
    if errors:
        made.append(_errors(errors))
    return Chapter(
        "corruptions",
        "Robustness",
        "What is lost elsewhere, and to corruption",
        lead,
        tuple(_draw_losses(found["losses"])) if draw and "losses" in found else (),
        tuple(made),
    )


def _loss(r: chapter_Row) -> tuple[str, ...]:
    return (
        title_of(r["base"]),
        _destination(r),
        r["model"] or f"mean of {r['n_models']:,}",
        r["metric"],
        in_points(r["loss"], r["lo"], r["hi"], 1),
        with_ends(r["share"], r["share_lo"], r["share_hi"]),
        f"{r['n']:,}",
    )


def _destination(r: chapter_Row) -> str:
    name = title_of(r["dataset"])
    if r["kind"] is not None:
        return f"{name}, {r['kind'].replace('_', ' ')}"
    return f"{name}, all kinds" if r["base"] == r["dataset"] else name


def _errors(rows: Sequence[chapter_Row]) -> Listing:
    heads = (
        Head("Kind", number=False),
        Head("Model", number=False),
        Head("Metric", number=False),
        Head("Mean error"),
        Head("Corruption error", title="Over that of the baseline; of all kinds: mCE"),
        Head("Relative"),
    )
    ordered = sorted(rows, key=lambda r: (r["kind"] is not None, r["kind"] or ""))
    return listing("corruption-errors", "Corruption errors", heads, ordered, _error)


def _error(r: chapter_Row) -> tuple[str, ...]:
    return (
        (r["kind"] or "mean of all").replace("_", " "),
        r["model"],
        r["metric"],
        with_ends(r["error"], r["error_lo"], r["error_hi"], 1),
        with_ends(r["ce"], r["ce_lo"], r["ce_hi"], 1),
        with_ends(r["relative"], r["relative_lo"], r["relative_hi"], 1),
    )


def _draw_losses(losses: pa.Table) -> list[Figure]:
    from manyhot.diagnose.figures import draw_corruptions

    return draw_corruptions(losses)
