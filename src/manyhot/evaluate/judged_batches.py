"""Results of batches of judged models, kept in the cache so that an interrupted run resumes after them.

Predictions are read and matched again, which takes a tenth of the time, and their contents are compared with
those that were judged. Batches are kept if there are many models, in files that contain no code.

`judged_on` says on what the models of a data set were evaluated, and how: if it is the same, results can be
joined.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import time
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, astuple, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy import typing as npt

from manyhot._version import __version__
from manyhot.core.clusters import Clusters
from manyhot.core.sets import LabelSets
from manyhot.errors import InputError, MatchError, OrderError, OutputError, PlugInError, UsageError
from manyhot.evaluate.class_thresholds import ClassThresholds
from manyhot.evaluate.compared_pairs import COMPARED_VALUES, JUDGED_ON
from manyhot.evaluate.options import EvaluateOptions
from manyhot.evaluate.posterior import PosteriorSamples
from manyhot.evaluate.result_rows import Note, Number
from manyhot.evaluate.slices import ALL, Slices
from manyhot.files import atomic_write, cache_folder
from manyhot.registry import Entry, entries
from manyhot.tables import Labels, Predictions
from manyhot.tables.result_tables import describe_metric

JUDGED_FOLDER = "judged"
"""The folder in the cache."""

_DAYS = 7
"""Days after which batches of a run that nobody repeated are removed."""

Restored = TypeVar("Restored")

_ERRORS = {kind.__name__: kind for kind in (InputError, MatchError, OrderError, PlugInError, UsageError)}


@dataclass
class JudgedBatch:
    """The results of a batch of models.

    Attributes
    ----------
    about : dict of str
        Rows and notes, in a form that JSON can store.
    models : list of list of str
        The name of each model and the hash of its predictions, in order.
    tables : list of dict
        The tables of classes of each model.
    posterior : dict
        The values on draws of label sets, by metric and model. Batches with values on draws or with tables of
        classes are not kept in files.
    """

    about: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    models: list[list[str]] = field(default_factory=list)
    tables: list[dict[str, pa.Table]] = field(default_factory=list)
    posterior: dict[tuple[str, str], PosteriorSamples] = field(default_factory=dict)

    def add_rows(self, rows: Sequence[Any]) -> None:
        """Add rows with slots. Real numbers are stored in arrays, because JSON loses the sign of NaN."""
        names = type(rows[0]).__slots__ if rows else ()  # no metric may have been computed
        columns = {name: [getattr(row, name) for row in rows] for name in names}
        real = [n for n, values in columns.items() if any(isinstance(v, float) for v in values)]
        self.about |= {"rows": {n: v for n, v in columns.items() if n not in real}, "real": real}
        self.arrays["real"] = np.array([[0 if v is None else v for v in columns[n]] for n in real])
        self.arrays["none"] = np.array([[v is None for v in columns[n]] for n in real])

    def restored_rows(self, kind: Callable[..., Restored]) -> list[Restored]:
        """Return the rows that `add_rows` added."""
        columns, numbers = dict(self.about["rows"]), (self.arrays["real"], self.arrays["none"])
        for name, values, none in zip(self.about["real"], *numbers, strict=True):
            columns[name] = [None if n else v for v, n in zip(values.tolist(), none.tolist(), strict=True)]
        return [kind(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]


@dataclass
class JudgedModels:
    """The results of the models judged so far.

    Attributes
    ----------
    notes, interval_notes : list of Note
        Notes, and notes on the intervals of batches. The latter come after all others, so that the order of
        notes does not depend on the batches.
    intervals : dict of str to str
        How the intervals of each metric are computed.
    compared : list of list
        Metric, model, the value that is compared between models, and the classes that it does not include;
        only where it differs from the model's value.
    skipped : dict of str to InputError
        The reasons why metrics were left out, by the name of the metric.
    n_batched : int
        Number of models when a batch was last resampled.
    """

    rows: list[Number] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    interval_notes: list[Note] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    intervals: dict[str, str] = field(default_factory=dict)
    compared: list[list[Any]] = field(default_factory=list)
    skipped: dict[str, InputError] = field(default_factory=dict)
    n_batched: int = 0
    _stored: tuple[int, int, int, int] = (0, 0, 0, 0)

    def described(self, *, by_clusters: bool) -> dict[str, dict[str, str]]:
        """Return the description of each metric and the method of its intervals, a key of `INTERVALS`."""
        kind = "cluster_" if by_clusters else ""
        metrics = {name: describe_metric(name) for name in dict.fromkeys(row.metric for row in self.rows)}
        intervals = {name: kind + interval for name, interval in self.intervals.items() if name in metrics}
        return metrics | {name: metrics[name] | {"interval": i} for name, i in intervals.items()}

    def about_compared(self, dataset: str) -> dict[str, str]:
        """Return the metadata of results with the values that are compared instead of those of the models."""
        rows = [[dataset, metric, ALL, model, value] for metric, model, value, _ in self.compared]
        return {COMPARED_VALUES: json.dumps(rows)} if rows else {}

    @property
    def is_batch(self) -> bool:
        """Whether all models have intervals, because a batch was just resampled."""
        return self.n_batched == len(self.models) > 0

    @property
    def unkept(self) -> frozenset[str]:
        """The models since the last batch."""
        return frozenset(self.models[self._stored[-1] :])

    def batch(self, batch: JudgedBatch) -> JudgedBatch:
        """Add the results of the models since the last batch to `batch`, and return it."""
        rows, notes, interval_notes, models = self._stored
        batch.about |= {
            "notes": [astuple(note) for note in self.notes[notes:]],
            "interval_notes": [astuple(note) for note in self.interval_notes[interval_notes:]],
            "judged": self.models[models:],
            "intervals": self.intervals,
            "compared": [row for row in self.compared if row[1] in self.unkept],
            "lacking": {name: error_to_json(error) for name, error in self.skipped.items()},
        }
        batch.add_rows(self.rows[rows:])
        self._mark()
        return batch

    def restore(self, batch: JudgedBatch) -> None:
        """Add the results of a batch of models from an interrupted run."""
        about = batch.about
        self.rows += batch.restored_rows(Number)
        self.notes += [Note(*note) for note in about["notes"]]
        self.interval_notes += [Note(*note) for note in about["interval_notes"]]
        self.models += about["judged"]
        self.intervals |= about["intervals"]
        self.compared += about["compared"]
        for name, error in about["lacking"].items():
            self.skipped.setdefault(name, error_from_json(error))  # the first is the one that is raised
        self.n_batched = len(self.models)
        self._mark()

    def _mark(self) -> None:
        self._stored = (len(self.rows), len(self.notes), len(self.interval_notes), len(self.models))


class OtherModelsError(Exception):
    """The models are not those that an interrupted run judged; `place` is the first position that differs."""

    def __init__(self, place: int) -> None:
        super().__init__(place)
        self.place = place


class KeptBatches:
    """The batches of one run in the cache.

    Parameters
    ----------
    key : str
        A hash of everything but the models: labels, slices, options and versions.
    """

    def __init__(self, key: str) -> None:
        self._folder = cache_folder() / JUDGED_FOLDER / key
        self.batches = list[JudgedBatch]()
        self._read()
        self._new: list[list[str]] = []
        self._ids: tuple[pa.Array, bytes] | None = None

    @property
    def models(self) -> list[list[str]]:
        """The name and the hash of each model that was judged."""
        return [model for batch in self.batches for model in batch.models]

    def check(self, place: int, model: list[str] | None) -> bool:
        """Return whether the model at this position was judged; raise an error if another model was."""
        models = self.models
        if place >= len(models):
            return False
        if models[place] != model:
            raise OtherModelsError(place)
        return True

    def cut(self, place: int) -> None:
        """Forget the batch with the model at this position, and all later batches."""
        n, left = 0, list[JudgedBatch]()
        for batch in self.batches:
            n += len(batch.models)
            if n > place:
                break
            left.append(batch)
        self.batches = left
        self._new = []

    def add(self, model: list[str]) -> None:
        """Add a model to the current batch."""
        self._new.append(model)

    def keep(self, batch: JudgedBatch) -> None:
        """Write the current batch. If the cache cannot be written to, nothing is kept."""
        batch.models, self._new = self._new, []
        path = self._path(len(self.batches))
        self.batches.append(JudgedBatch(models=batch.models))  # its rows are in memory already
        with contextlib.suppress(OutputError, OSError, TypeError):
            content = json.dumps({"about": batch.about, "models": batch.models}).encode()
            arrays: dict[str, Any] = {"about": np.frombuffer(content, np.uint8), **batch.arrays}
            with atomic_write(path) as part, part.open("wb") as file:
                np.savez(file, **arrays)

    def remove(self) -> None:
        """Remove the batches of this run, and those of runs that were interrupted long ago."""
        shutil.rmtree(self._folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            for other in self._folder.parent.iterdir():
                if time.time() - other.stat().st_mtime > _DAYS * 86_400:
                    shutil.rmtree(other, ignore_errors=True)

    def hash_of(self, predictions: Predictions) -> list[str]:
        """Return the name of a model and a hash of its predictions."""
        if self._ids is None or not self._ids[0].equals(predictions.image_id):
            self._ids = predictions.image_id, hash_of_ids(predictions.image_id)
        about = {**predictions.about(), "model": predictions.model, "source": predictions.source}
        unsure = predictions.uncertainty
        arrays = [predictions.classes, predictions.scores, predictions.logsumexp]
        arrays += [] if unsure is None else [unsure.entropy, unsure.mutual_information, unsure.by_class]
        return [predictions.model, hash_of_arrays(arrays, self._ids[1], json.dumps(about))]

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:04d}.npz"

    def _read(self) -> None:
        """Read the batches that are there, up to the first that is missing or damaged."""
        with contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            while (path := self._path(len(self.batches))).is_file():
                with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
                    arrays = {name: archive[name] for name in archive.files}
                told = json.loads(arrays.pop("about").tobytes())
                self.batches.append(JudgedBatch(told["about"], arrays, told["models"]))


def has_own_metrics() -> bool:
    """Return whether metrics of other packages are registered, whose code may have changed."""
    return any(not entry.function.__module__.startswith("manyhot.") for entry in entries("metric"))


def hash_of_ids(ids: pa.Array) -> bytes:
    """Return a hash of image ids in their order."""
    digest = hashlib.blake2b(digest_size=16)
    whole = pa.concat_arrays([ids]) if ids.offset else ids
    digest.update(f"{ids.type} {len(ids)}".encode())
    lengths = pc.binary_length(whole).to_numpy(zero_copy_only=False)
    digest.update(np.ascontiguousarray(lengths).data)
    digest.update(memoryview(whole.buffers()[2])[: int(lengths.sum())])
    return digest.digest()


def hash_of_arrays(arrays: Iterable[npt.NDArray[Any] | None], *more: bytes | str) -> str:
    """Return a hash of arrays, with their types and shapes, and of further content."""
    digest = hashlib.blake2b(digest_size=16)
    for content in more:
        text = content.encode() if isinstance(content, str) else content
        digest.update(f"{len(text)}:".encode() + text)
    for array in arrays:
        if array is None:
            digest.update(b"none")
            continue
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array.T if array.flags.f_contiguous else array).data)
    return digest.hexdigest()


def error_to_json(error: InputError) -> list[Any]:
    """Return an error as JSON stores it."""
    return [type(error).__name__, error.what, {k: v and str(v) for k, v in error.details.items()}]


def error_from_json(stored: Sequence[Any]) -> InputError:
    """Return the error of `error_to_json`."""
    kind, what, details = stored
    return _ERRORS.get(kind, InputError)(what, **details)


_DIGITS = 16
"""Hexadecimal digits of a hash."""

_RECORDED_APART = {"metrics", "slices", "clusters", "thresholds"}
_NOT_RECORDED = {"gallery"}
"""Options that change no result; all others, also new ones, are compared before results are joined."""


def clusters_key(clusters: Clusters | None) -> str:
    """Return the number of clusters of images, and a hash of them."""
    if clusters is None:
        return "none"
    return f"{clusters.n:,} ({hash_of_arrays((clusters.number,), '')[:_DIGITS]})"


@dataclass(frozen=True)
class JudgedOn:
    """Everything that the results on one data set depend on, except for the models.

    Attributes
    ----------
    sets : LabelSets
        The label sets of the same images as `labels`.
    metrics : sequence of Entry, optional
        The requested metrics; None for the default metrics of each model.
    """

    dataset: str
    labels: Labels
    sets: LabelSets
    slices: Slices
    metrics: Sequence[Entry] | None
    options: EvaluateOptions
    clusters: Clusters | None
    thresholds: ClassThresholds | None

    def about(self) -> dict[str, str]:
        """Return the metadata of the results."""
        labels, sets, slices, metrics = self.labels, self.sets, self.slices, self.metrics
        flags = f"{sets.asked_known} {sets.exclusive} {sets.complete}"
        names, masks = json.dumps([slices.names, slices.class_names]), (np.packbits(slices.masks),)
        ids = labels.image_id
        classes = getattr(labels.class_list, "hash", "") or labels.class_hash
        apart = _RECORDED_APART | _NOT_RECORDED
        recorded = [field.name for field in fields(EvaluateOptions) if field.name not in apart]
        about = {
            "classes": f"{sets.n_classes:,} {classes[:_DIGITS]}".strip(),
            "images": f"{len(ids):,} ({hash_of_ids(ids).hex()[:_DIGITS]})",
            "label sets": hash_of_arrays(_arrays_of(sets), flags)[:_DIGITS],
            "slices": hash_of_arrays(masks, names)[:_DIGITS],
            "metrics": "default" if metrics is None else ", ".join(sorted(m.name for m in metrics)),
            **{name: str(getattr(self.options, name)) for name in recorded},
            "clusters": clusters_key(self.clusters),
            **({} if self.thresholds is None else {"thresholds": self.thresholds.key}),
            "version": __version__,
            **({"plug-ins": versions} if (versions := _versions_of(metrics)) else {}),
        }
        return {JUDGED_ON: json.dumps({self.dataset: about})}

    def key(self) -> str:
        """Return the hash under which judged batches are stored and looked up."""
        own = replace(self.options, metrics=None, gallery=None, clusters=None, thresholds=None)
        metrics = None if self.metrics is None else [metric.name for metric in self.metrics]  # in order
        lists = (self.labels.class_hash, self.slices.standing, np.__version__)
        content = [self.dataset, self.about(), metrics, asdict(own), lists]
        text = json.dumps(content, sort_keys=True, default=str)
        return hash_of_arrays([np.asarray(self.slices.classes)], text)


def _arrays_of(sets: LabelSets) -> tuple[npt.NDArray[Any] | None, ...]:
    return (sets.indptr, sets.classes, sets.state, sets.label, sets.usable, sets.p, sets.n_votes)


def _versions_of(metrics: Sequence[Entry] | None) -> str:
    """Return the plug-ins that the metrics come from, with their versions; empty if all are built in."""
    used = [e for e in entries("metric") if e.about.get("default")] if metrics is None else metrics
    return ", ".join(sorted({e.version for e in used} - {""}))
