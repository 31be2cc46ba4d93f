"""A run of one model over one source, which resumes where an earlier run ended."""

from __future__ import annotations

import functools
import itertools
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from manyhot.classes import ClassList
from manyhot.errors import InputError, OutputError
from manyhot.predict.decode import decode
from manyhot.predict.engines import ENGINE_OPTIONS, EngineChoice, EngineOptions, choose_engine
from manyhot.predict.network import Bytes, Network
from manyhot.predict.parts import (
    ALL_BITS,
    Identity,
    Merged,
    PartFiles,
    check_output_folder,
    locked,
    merge,
    merged,
    remove,
    tidy,
)
from manyhot.predict.predicted_model import PredictedModel
from manyhot.predict.score_kinds import probabilities_note
from manyhot.predict.scoring import Keep, Scored, Scorer, Seconds, is_unread, score_parts
from manyhot.predict.sources import ImageSource, LabelLookup, SourcePart, original_part, stored_part
from manyhot.predict.sources.image_labels import Labelled
from manyhot.predict.sources.parquet import ParquetRows
from manyhot.predict.sources.remote import SourceLostError, is_remote
from manyhot.run import OnEvent
from manyhot.tables.labels import keys_in_metadata
from manyhot.tables.own_classes import own_list
from manyhot.tables.predictions import SCORES_ASSUMED

SAMPLE = 32
"""Images that engines are compared on."""

TOP_CLASSES = 20
"""The number of top classes that are kept by default."""

ALTERED_AT_ONCE = 8
"""Alterations of an image that are predicted together: a killed run loses a part of each."""


@dataclass(frozen=True)
class PredictSettings:
    """The checked settings of `manyhot.predict`.

    If `top` is None, the scores of all classes are kept. `model_options` are for models that have them.
    """

    top: int | None = TOP_CLASSES
    engine: str = "auto"
    engine_options: EngineOptions = ENGINE_OPTIONS
    shard: tuple[int, int] = (0, 1)
    classes: ClassList | None = None
    model_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.top is not None and self.top < 1:
            raise InputError("`top` is out of range.", got=self.top, allowed="1 or more")


def sample(source: ImageSource, network: Network, n: int = SAMPLE) -> Bytes:
    """Return crops of the first images of a source that can be decoded, shape (m, 3, height, width)."""
    found = []
    for part in source.parts:
        for _, read in itertools.islice(part.items(), 4 * n):
            try:
                image = decode(read())
            except OSError:
                continue
            if not isinstance(image, str):
                found.append(network.preprocessing(image).numpy())
            if len(found) == n:
                return np.stack(found)
        if found:
            break
    if not found:  # nothing to compare on; the run reports why
        found = [np.zeros((3, *network.preprocessing.size), np.uint8)]
    return np.stack(found)


def choose_for(source: ImageSource, network: Network, settings: PredictSettings) -> EngineChoice:
    """Return the engine for a source, timed on its first images if there is a choice.

    Raises
    ------
    UnknownNameError, MissingExtraError, InputError
        See `choose_engine`.
    """
    images = sample(source, network)
    return choose_engine(settings.engine, network, images, source.n, settings.engine_options)


@dataclass
class ModelRun:
    """A run of a model over a source: the remaining parts, and the results so far.

    Attributes
    ----------
    source : ImageSource
        The whole source, for any shard.
    network : Network
    classes : ClassList
        The class list of the predictions.
    keep : Keep
    parts : PartFiles
    identity : Identity
    missing : tuple of SourcePart
        The parts of this shard that remain to be predicted.
    choice : EngineChoice, optional
        The engine; None if nothing is missing.
    complete : bool
        Whether the predictions existed already.
    seconds : Seconds
    n : int
        Number of images written.
    others : int
        Number of other models that run at the same time.
    n_shards : int
        Number of shards of the run.
    n_unread : int
        Number of local files that could not be read.
    unread : str
        The first of them, and the reason.
    begun, scoring, scored : float
        Times of the start of the job, of its first image and of its latest part, by ``time.perf_counter``.
    """

    source: ImageSource
    network: Network
    classes: ClassList
    keep: Keep
    parts: PartFiles
    identity: Identity
    missing: tuple[SourcePart, ...] = ()
    choice: EngineChoice | None = None
    complete: bool = False
    seconds: Seconds = field(default_factory=Seconds)
    n: int = 0
    others: int = 0
    n_shards: int = 1
    n_unread: int = 0
    unread: str = ""
    begun: float = field(default_factory=time.perf_counter)
    scoring: float = 0.0
    scored: float = 0.0

    @functools.cached_property
    def labels(self) -> LabelLookup:
        """Converts the source's labels to classes."""
        return LabelLookup(self.classes, self.source.strict, self.source.labelled_by or self.source.uri)

    @functools.cached_property
    def to_do(self) -> int | None:
        """The number of images that remain to be predicted; None if unknown before reading."""
        return ImageSource(self.source.uri, self.missing).n

    @functools.cached_property
    def scorer(self) -> Scorer:
        """The object that scores the images of the run, if an engine was chosen."""
        assert self.choice is not None
        return Scorer(self.network, self.choice.engine, self.keep, self.seconds)

    def start(self) -> None:
        """Start the clock before the first image is scored."""
        self.scoring = self.scored = time.perf_counter()

    def progress(self, images: int) -> dict[str, Any]:
        """Return the progress event for a number of scored images."""
        rate = images / max(time.perf_counter() - self.scoring, 1e-3)
        left = None if self.to_do is None or not images else max(self.to_do - images, 0) / rate
        return {
            "model": self.network.name,
            "images": images,
            "of": self.to_do,
            "images_per_second": round(rate, 1),
            "seconds_left": None if left is None else round(left, 1),
        }

    def write(self, scored: Scored) -> None:
        """Write a part.

        Raises
        ------
        InputError
            If a label is not a class.
        OutputError
            If the disk is full, or the folder cannot be written to.
        """
        begun = time.perf_counter()
        self.parts.replace(scored.part.name)
        difference = self.choice.trial.difference if self.choice else None
        self.parts.write(scored, self.labels, self.identity, difference)
        if not self.n and (note := probabilities_note(self.network, scored.scores)):
            self.network = replace(self.network, notes=(*self.network.notes, note))
        self.n += len(scored.items)
        reasons = [
            f"{item.uri}: {reason}"
            for item, reason in zip(scored.items, scored.reasons, strict=True)
            if is_unread(item.uri, reason)
        ]
        self.n_unread, self.unread = self.n_unread + len(reasons), self.unread or "".join(reasons[:1])
        self.scored = time.perf_counter()
        self.seconds.write += self.scored - begun

    def finish(self, call: str = "") -> PredictedModel:
        """Merge the parts, if all exist.

        Raises
        ------
        InputError, MatchError, OutputError
            As in `merge`, or if parts of other shards have different settings.
        SourceLostError
            If none of the files of this run could be read.
        """
        if self.n and self.n_unread == self.n:
            raise SourceLostError(
                f"None of the {self.n:,} images can be read.",
                where=self.source.uri,
                got=self.unread,
                do="make them available again, and run the same command again to resume",
            )
        if self.complete:
            tidy(self.parts)
            return PredictedModel(self.network.name, self.parts.out, None, notes=self.network.notes)
        with locked(self.parts.out):
            together, absent = self._together(call)
        trials = self.choice.trials if self.choice else ()
        wall = time.perf_counter() - self.begun
        rate = self.n / max(self.scored - self.scoring, 1e-3)
        return PredictedModel(
            self.network.name,
            self.parts.out,
            together,
            trials,
            self.seconds,
            wall,
            self.n,
            len(absent),
            rate,
            self.choice,
            self.network.notes,
            self.others,
            self.n_unread,
            self.unread,
            tuple(sorted({i % self.n_shards for i in absent})) if self.n_shards > 1 else (),
        )

    def _together(self, call: str) -> tuple[Merged | None, list[int]]:
        """Return the merged parts, or the positions of those that are missing."""
        if self.parts.is_complete(self.identity):  # by another process of this run
            result = merged(self.parts, self.identity)
            if not result.n_unread:  # perhaps before the last one of this process was written
                remove(self.parts)
            return result, []
        identity = self.identity
        if identity.engine == "auto" and (
            first := self.parts.first()
        ):  # written while this shard had nothing to do
            identity = replace(identity, engine=str(first[1].get("engine", "")))
        absent = {id(part) for part in self.parts.missing(self.source, identity)}
        if absent:
            return None, [i for i, part in enumerate(self.source.parts) if id(part) in absent]
        about = _about(self.network, self.classes, identity)
        return merge(self.parts, self.source, identity, about, call), []


def prepare_run(
    source: ImageSource,
    network: Network,
    out: Path,
    settings: PredictSettings,
    notify: OnEvent | None = None,
    choice: EngineChoice | None = None,
) -> ModelRun:
    """Determine the parts that remain to be predicted, and choose an engine unless one is given.

    Raises
    ------
    MatchError
        If the folder contains predictions from another run, or the model lacks some of the classes.
    UnknownNameError, MissingExtraError, InputError
        See `choose_engine`.
    OutputError
        If the folder cannot be used.
    """
    tell = notify or (lambda *_: None)
    if choice is None:  # otherwise it was reported already
        for note in network.notes:
            tell("note", {"model": network.name, "text": note})
    classes = settings.classes or network.classes
    keep = Keep(settings.top, network.columns_of(settings.classes))
    _check_apart(source, out)
    parts = PartFiles(out, network.name)
    before = _first_part(parts)
    name = "own" if network.forward is not None and settings.engine == "torch" else settings.engine
    if before and name == "auto":
        name = str(before[1].get("engine", name))
    identity = _identity(source, network, classes, settings, name)
    job = ModelRun(source, network, classes, keep, parts, identity, n_shards=settings.shard[1])
    again = parts.readable_again()
    if parts.is_complete(identity) and not again:
        return replace(job, complete=True)
    with locked(out):  # can it be written to?
        check_output_folder(out, identity)
    own = source.shard(*settings.shard)
    missing = own.parts
    if before:
        identity.check(before[1], before[0])  # perhaps of another shard
        missing = parts.missing(own, identity, again)
    if not missing:
        return job
    for part in source.parts:  # a wrong label ends the run before it starts
        if isinstance(stored := stored_part(part), Labelled):
            job.labels.all(dict.fromkeys(stored.labels.values()))
    _check_space(out, replace(job, missing=missing))
    if choice is None or name not in ("auto", choice.engine.name):
        tell("engines", {"model": network.name})
        choice = choose_for(source, network, replace(settings, engine=name))
    identity = _identity(source, network, classes, settings, choice.engine.name)
    tell("model", _start_event(network, choice, own, missing))
    return replace(job, identity=identity, missing=missing, choice=choice)


def _first_part(parts: PartFiles) -> tuple[Path, Mapping[str, Any]] | None:
    try:
        return parts.first()
    except PermissionError as error:
        raise OutputError(
            "The parts of another user cannot be read.",
            where=error.filename or parts.folder,
            do="let all users set umask 002, and give the folder a group to which all of them belong, with "
            "chmod g+rws",
        ) from error


def _check_space(out: Path, job: ModelRun) -> None:
    """Raise an error if the scores of all classes do not fit on the disk, rather than after hours of work."""
    images, free = job.to_do or 0, shutil.disk_usage(out).free
    size = images * len(job.classes) * np.dtype(np.float32).itemsize
    if job.keep.top is None and size > free:
        raise OutputError(
            "The scores of all classes do not fit on the disk.",
            where=out,
            got=f"{images:,} images × {len(job.classes):,} classes, {size / 1e9:,.1f} GB",
            allowed=f"at most {free / 1e9:,.1f} GB, which are free",
            do="leave out `dense`, to keep only the top classes, or choose another `out`",
        )


def _check_apart(source: ImageSource, out: Path) -> None:
    """Raise an error if the output is among the tables of images: the next run would read it.

    Raises
    ------
    InputError
        If the output is a folder of the source, or is inside it.
    """
    files = {
        part.place.file
        for p in source.parts
        if isinstance(part := getattr(stored_part(p), "part", p), ParquetRows)
    }
    uri = Path(source.uri)
    if is_remote(source.uri) or not files or uri.is_file():
        return
    place = out.resolve()
    own = {Path(file).resolve().parent for file in files}
    if place in own or (uri.is_dir() and place.is_relative_to(uri.resolve())):
        raise InputError(
            "The output folder is inside the folder of the image tables.",
            where=out,
            got=f"Parquet files in {source.uri}, which are the source",
            do="choose an `out` outside that folder",
        )


def run(
    source: ImageSource,
    network: Network,
    out: Path,
    settings: PredictSettings,
    call: str = "",
    notify: OnEvent | None = None,
    choice: EngineChoice | None = None,
) -> PredictedModel:
    """Run a model on the images of a source, and write the predictions to a folder.

    The parts of an earlier run of the same command are kept. If `choice` is the choice of an earlier run of
    the same network, its engine is reused.

    Raises
    ------
    MatchError
        If the folder contains predictions from another run, or the model lacks some of the classes.
    InputError, SourceLostError, OutputError
        See `predict_runs`.
    """
    job = prepare_run(source, network, out, settings, notify, choice)
    (done,) = predict_runs([job], notify or (lambda *_: None))
    return done.finish(call)


def predict_runs(jobs: Sequence[ModelRun], tell: OnEvent) -> Iterator[ModelRun]:
    """Run the remaining predictions of several runs, and write the parts.

    The runs may differ in the network, in the alteration of the source, or in both. Each image is decoded
    once for all networks and for up to `ALTERED_AT_ONCE` alterations, and no core waits between runs.

    Parameters
    ----------
    jobs : sequence of ModelRun
        Runs over the same source, or over alterations of the same source.
    tell : callable
        Receives progress events.

    Yields
    ------
    ModelRun
        Each run, as soon as all its parts are written.

    Raises
    ------
    InputError, SourceLostError
        See `score_parts`.
    OutputError
        If the disk is full, or the folder cannot be written to.
    """
    by_threads: dict[int, list[ModelRun]] = {}
    for job in jobs:
        if job.choice is None:
            yield job
        else:
            by_threads.setdefault(job.choice.engine.workers, []).append(job)
    for alike in by_threads.values():
        yield from _predicted(alike, tell)


def _predicted(jobs: Sequence[ModelRun], tell: OnEvent) -> Iterator[ModelRun]:
    """Predict runs whose engines use the same number of threads."""
    groups = [*_groups(jobs)]
    last = {id(job): part for group in groups for job, part in group}
    names, n = list(dict.fromkeys(job.network.name for job in jobs)), 0
    longest = max(jobs, key=lambda job: len(job.missing))  # an earlier run may have predicted most of others

    def progress(done: int) -> None:
        nonlocal n
        n += done
        tell("progress", {**longest.progress(n), "models": names})

    for job in jobs:
        job.others = len(names) - 1
        job.start()
    parts = [[(part, job.scorer) for job, part in group] for group in groups]
    for group, scored in zip(groups, score_parts(parts, progress=progress), strict=True):
        for (job, part), own in zip(group, scored, strict=True):
            before = job.network.notes
            job.write(own)
            for note in job.network.notes[len(before) :]:
                tell("note", {"model": job.network.name, "text": note})
            if part is last[id(job)]:
                yield job


def _groups(jobs: Sequence[ModelRun]) -> Iterator[list[tuple[ModelRun, SourcePart]]]:
    """Yield the missing parts of runs; those of the same images are one group."""
    sources = iter(dict.fromkeys(id(job.source) for job in jobs))
    while some := {*itertools.islice(sources, ALTERED_AT_ONCE)}:
        groups: dict[int, list[tuple[ModelRun, SourcePart]]] = {}
        for job in jobs:
            for part in job.missing if id(job.source) in some else ():
                groups.setdefault(id(original_part(part)), []).append((job, part))
        yield from groups.values()


def _identity(
    source: ImageSource, network: Network, classes: ClassList, settings: PredictSettings, engine: str
) -> Identity:
    return Identity(
        source.fingerprint,
        network.name,
        network.about.get("weights", ""),
        engine,
        settings.engine_options.precision.value,
        settings.top,
        settings.engine_options.features,
        classes.hash,
        network.preprocessing.to_dict(),
        network.about.get("code", ""),
        str(source.bits or ALL_BITS),
        network.score_kind,
    )


def _about(network: Network, classes: ClassList, identity: Identity) -> dict[str, str]:
    return {
        "model": network.name,
        "scores": network.score_kind,
        "n_classes": str(len(classes)),
        "classes": classes.hash,
        **keys_in_metadata(own_list(classes)),
        "engine": identity.engine,
        "precision": identity.precision,
        **{
            key: network.about[key]
            for key in ("preprocessing_assumed", SCORES_ASSUMED, "link")
            if key in network.about
        },
    }


def _start_event(
    network: Network, choice: EngineChoice, own: ImageSource, missing: tuple[SourcePart, ...]
) -> dict[str, Any]:
    return {
        "model": network.name,
        "images": own.n,
        "left": ImageSource(own.uri, missing).n,
        "engine": choice.engine.name,
        "device": choice.engine.device,
        "precision": choice.engine.precision.value,
        "trials": [trial.__dict__ for trial in choice.trials],
    }
