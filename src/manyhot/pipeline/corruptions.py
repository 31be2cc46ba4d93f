"""Images in; what models lose on corrupted copies of them out. Copies are made while they are predicted."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from manyhot import tables
from manyhot.classes import ClassList
from manyhot.errors import InputError, MatchError
from manyhot.files import sha256
from manyhot.formats import detect, read_classes, read_images, read_labels, read_predictions
from manyhot.models import Network, Settings, Source, altered, find_model, open_source, run
from manyhot.pipeline.common import PathLike, Progress, check_apart, check_place, images_file
from manyhot.pipeline.robustness import NAMES, write_robustness
from manyhot.pixels.corruptions import CLEAN, KINDS, SEVERITIES, Corruption, chosen, corruption
from manyhot.steps.corruptions import diagnose_corruptions, find_baseline
from manyhot.steps.robustness import Robustness, judge, judged_alike
from manyhot.steps.sets import single_labels
from manyhot.tables import Labels, Predictions
from manyhot.tables.predictions import predictions_file_name


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
        See `manyhot.models.open_source`.
    models : sequence of str
        See `manyhot.models.find_model`.
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
        Of `manyhot.pixels.corruptions.KINDS`, and of 1 to 5; all by default.
    limit : int, optional
        Images that are taken, by a hash of their ids and the seed; all by default.
    baseline : str
        As in `manyhot.steps.corruptions.diagnose_corruptions`.
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
    settings = Settings(None if dense else 20, engine, workers=workers, batch=batch, classes=known)
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


def _listed(source: Source) -> list[str]:
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

    source: Source
    out: Path
    copies: Sequence[Corruption]
    settings: Settings
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
            came = run(altered(self.source, copy), network, folder, settings, self.call, self._notify, choice)
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
