"""Published benchmarks: their data sets, with labels and models read from the cache."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Protocol, runtime_checkable

import pyarrow as pa

from manyhot import tables
from manyhot.data import catalog
from manyhot.data.download import DownloadProgress
from manyhot.errors import InputError, did_you_mean, first_names
from manyhot.formats import read_images, read_labels, read_predictions, read_results
from manyhot.formats.imagenet_x import AVERAGE, FACTORS, PROTOTYPES
from manyhot.formats.writing import PathLike
from manyhot.parameters import Repeated, Shown
from manyhot.run import QUIET, Progress, Run
from manyhot.tables import End, Images, Labels, Predictions, Results, read_thresholds


@dataclass(frozen=True)
class BenchmarkData:
    """A benchmark data set. Its files are identified by their names in the catalogue.

    Attributes
    ----------
    labels : tuple of str
        Catalogue entry and file of the label sets.
    predictions, rows : str
        Catalogue entry with the predictions, and the file in this entry that lists the image of each row.
    beside : tuple of str
        Additional files that the reader of the labels needs.
    images : tuple of str, optional
        Catalogue entry and files of the images table that defines slices. The first file is the table, and
        its reader also needs the other files.
    slices : tuple of str
        Slices in addition to the default ones.
    thresholds : tuple of float
        Thresholds for the probabilities of labels in the sensitivity analysis.
    """

    name: str
    labels: tuple[str, str]
    predictions: str
    rows: str
    beside: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    slices: tuple[str, ...] = ()
    thresholds: tuple[float, ...] = ()

    def fetch(self, progress: Progress | None = None) -> Fetched:
        """Download the files that are not in the cache, and read the labels and images tables."""
        told = None if progress is None else (lambda done, of: progress(f"fetching {self.name}", done, of))
        wanted = {self.labels[0]: (self.labels[1], *self.beside)}
        wanted |= {self.images[0]: self.images[1:]} if self.images else {}
        # The images first: a package that must be installed is missed before anything is downloaded.
        images = self.images_table(told) if self.images else None
        labels = catalog.fetch(self.labels[0], only=wanted[self.labels[0]], progress=told)
        files = catalog.fetch(self.predictions, progress=told)
        rows = read_images(files[self.rows])
        used = [(e, f) for e, names in wanted.items() for f in names]
        used += [(self.predictions, f) for f in files]
        return Fetched(
            self,
            read_labels(labels[self.labels[1]]).with_labels(rows),
            rows,
            rows if images is None else images,
            tuple(path for name, path in files.items() if name != self.rows),
            {f"{self.name}/{f}": catalog.catalog_entry(e).file(f).sha256 for e, f in used},
        )

    def images_table(self, progress: DownloadProgress | None = None) -> Images:
        """Return the images table that defines slices. Missing files are downloaded."""
        entry, file, *beside = self.images
        return read_images(catalog.fetch(entry, only=[file, *beside], progress=progress)[file])


@dataclass(frozen=True)
class Benchmark:
    """Data sets that are evaluated together, further comparisons, and models that comparisons leave out.

    `metrics` contains the metrics of the benchmark. If it is empty, the default metrics are computed. Error
    ratios divide the error on each slice by the error on the slice `whole`. If `whole` is empty, no
    error ratios are computed.
    """

    datasets: tuple[BenchmarkData, ...]
    ends: tuple[tuple[End, End], ...] = ()
    without: tuple[str, ...] = ()
    metrics: tuple[str, ...] | None = None
    whole: str = ""


_VALIDATION = BenchmarkData(
    "imagenet-val",
    ("imagenet-real", "scores.npz"),
    "imagenet-val-predictions",
    "imagenet-validation-original.json",
    beside=("real.json",),
)

_FACTORS = tuple(f"factor={name}" for name in (AVERAGE, *FACTORS))

_ALL, _CHOSEN, _ONE, _SEVERAL = (
    ("imagenet-val", "top1", s) for s in ("all", "annotation=*", "n_objects=1", "n_objects>=2")
)

BENCHMARKS: dict[str, Benchmark] = {
    "imagenet": Benchmark(
        (
            replace(_VALIDATION, thresholds=(0.5, 0.6, 0.7, 0.9, 0.95)),
            BenchmarkData(
                "imagenetv2-matched-frequency",
                ("multilabelfy-imagenetv2", "imagenetv2_refined_labels.json"),
                "imagenetv2-matched-frequency-predictions",
                "imagenetv2-b-33.json",
            ),
        )
    ),
    "tsipras": Benchmark(
        (
            replace(
                _VALIDATION,
                images=("tsipras", "annotations_classify_task.pkl", "image_info.pkl"),
                slices=(_CHOSEN[2], _ONE[2], _SEVERAL[2]),
            ),
        ),
        ((_ALL, _CHOSEN), (_CHOSEN, _ONE), (_CHOSEN, _SEVERAL), (_ONE, _SEVERAL)),
        # Fisher vectors are not networks, and far worse than all of them.
        without=("fv_*",),
    ),
    "imagenet-x": Benchmark(
        (
            replace(
                _VALIDATION,
                images=("imagenet-x", "imagenet_x_val_top_factor.jsonl", PROTOTYPES),
                slices=_FACTORS,
            ),
        ),
        without=("fv_*",),
        metrics=("top1", "real1"),
        whole=_FACTORS[0],
    ),
    "multilabel": Benchmark(
        (
            replace(
                _VALIDATION,
                name="imagenet-multilabel",
                labels=("imagenet-multilabel", "multilabel.csv"),
                beside=(),
            ),
        ),
        without=("fv_*",),
        metrics=("top1", "mla", "real1"),
    ),
    "errors": Benchmark(
        (
            _VALIDATION,
            replace(
                _VALIDATION,
                name="imagenet-val-main",
                labels=("tsipras", "annotations_classify_task.pkl"),
                beside=(),
            ),
        ),
        metrics=("top1", "errors_asked", "accepted_errors", "preferred_errors", "valid_errors"),
    ),
}
"""What ``manyhot evaluate NAME`` judges: ImageNet's two label sets, the effect of several objects, and what
raters say about errors, by ReaL's votes and by the main object of Tsipras et al."""


def benchmark_named(name: PathLike) -> Benchmark | None:
    """Return the benchmark with this name; None if there is none, or if the name is a path.

    A name takes precedence over a folder of the same name. For the folder, pass ``./imagenet`` or
    ``Path("imagenet")``.
    """
    return BENCHMARKS.get(str(name)) if _is_name(name) else None


def data_set(name: PathLike) -> BenchmarkData | None:
    """Return the benchmark data set with this name; None if there is none. See `benchmark_named`.

    The name of its label sets in the catalogue, such as imagenet-real, is also accepted, unless it is a path.
    """
    datasets = {d.name: d for benchmark in BENCHMARKS.values() for d in benchmark.datasets[::-1]}
    names = {d.labels[0]: d for d in datasets.values() if d.labels[0] not in BENCHMARKS} | datasets
    found = names.get(str(name))
    is_name = found is None or (_is_name(name) if str(name) in datasets else not Path(name).exists())
    return found if is_name else None


def is_published_name(name: object) -> bool:
    """Return whether this is the name of a benchmark or of one of its data sets, and not a path."""
    return isinstance(name, str) and (benchmark_named(name) or data_set(name)) is not None


def same_name_note(name: object) -> str:
    """Return a note if a file or folder has the same name as a published data set; empty otherwise."""
    if not (isinstance(name, str) and is_published_name(name) and Path(name).exists()):
        return ""
    return f"{name} refers to the published data set; to read the file or folder of this name, pass ./{name}"


def _is_name(name: PathLike) -> bool:
    return isinstance(name, str) or not Path(name).exists()


@dataclass(frozen=True)
class Fetched:
    """A benchmark data set, read from the cache."""

    about: BenchmarkData
    labels: Labels
    rows: Images
    images: Images
    files: tuple[Path, ...]
    inputs: Mapping[str, str]

    @property
    def name(self) -> str:
        """The name of the data set."""
        return self.about.name

    def covers(self, predictions: Predictions) -> bool:
        """Return whether a model has predictions for any of the images."""
        return bool(tables.count_shared(self.labels.image_id, predictions.image_id))

    def models(self, own: Sequence[Predictions]) -> Iterator[Predictions]:
        """Yield the published models, followed by the user's own models."""
        yield from self.published
        yield from own

    @cached_property
    def published(self) -> tuple[Predictions, ...]:
        """Published models' predictions, best class first. They use 50 MB for 67 models and 50,000 images."""
        return tuple(map(self.read, self.files))

    def read(self, path: Path) -> Predictions:
        """Read one published model, best class first."""
        # Named, because to find out which format a file has imports all of them.
        found = read_predictions(path, rows=self.rows, format="npy")
        if "reversed" in catalog.catalog_entry(self.about.predictions).file(path.name).flags:
            assert found.classes is not None
            return replace(found, classes=found.classes[:, ::-1])
        return found


_TIMM = ("timm-results", "timm-results-2022-03")

PUBLISHED = (*_TIMM, "openclip-results", "testbed-results", "peychev-results", "clip-benchmark")
"""Entries of the catalogue that hold results."""


@runtime_checkable
class HasResults(Protocol):
    """What a comparison needs of an evaluation."""

    @property
    def thresholds(self) -> HasResults | None:
        """Results on label sets at other thresholds."""

    def as_results(self) -> Results:
        """Return the results as comparisons read them."""


ResultsLike = Annotated[Any, Shown("RESULTS"), Repeated()]
"""Results as tables, evaluations, files, folders and published names; one of them, or a list."""


def flattened(results: ResultsLike) -> list[Any]:
    """Return the results passed to a call as a flat list. A string is one item."""
    if isinstance(results, list | tuple):
        return [one for several in results for one in flattened(several)]
    return [results]


def open_thresholds(results: ResultsLike) -> list[Results]:
    """Return the results at other thresholds from all evaluations and folders that contain such results."""
    found = []
    for source in flattened(results):
        if isinstance(source, HasResults) and source.thresholds is not None:
            found.append(source.thresholds.as_results())
        if isinstance(source, str | os.PathLike) and (table := read_thresholds(source)) is not None:
            found.append(table)
    return found


def read_source(source: Any, run: Run = QUIET) -> list[Results]:
    """Return the results of one source: an evaluation, a table, a folder, a file, or a name in `PUBLISHED`.

    Raises
    ------
    ManyhotError
        If the name or path does not exist, or if results cannot be read.
    """
    if isinstance(source, Results):
        return [source]
    if isinstance(source, HasResults):
        return [source.as_results()]
    if isinstance(source, pa.Table):
        return [Results(source)]
    if str(source) not in PUBLISHED:
        _check_exists(source)
        return [read_results(source)]
    name, on_progress = str(source), run.on_progress
    progress = None if on_progress is None else (lambda done, of: on_progress(f"fetching {name}", done, of))
    fetched = catalog.fetch(name, progress=progress)
    if name not in _TIMM:
        return [replace(read_results(path), name=name) for path in fetched.values()]
    files = [path for file, path in fetched.items() if file.startswith("results")]
    first = ("results-imagenet", "results-imagenet-real", "results-imagenetv2-matched-frequency")
    ordered = sorted(files, key=lambda p: (first.index(p.stem) if p.stem in first else len(first), p.stem))
    from manyhot.formats.timm_files import with_pretraining

    metadata = catalog.fetch_file("timm-results", "model_metadata-in1k.csv")
    return [replace(with_pretraining(read_results(p), metadata), name=name) for p in ordered]


def _check_exists(source: PathLike) -> None:
    path = Path(source)
    if path.is_dir() and not (path / "results.parquet").exists() and (files := sorted(path.glob("*.csv"))):
        raise InputError(
            "The folder contains no results.parquet.",
            where=source,
            got=first_names([f.name for f in files], 3),
            do=f"pass its files: {path}/*.csv",
        )
    if path.exists():
        return
    name = str(source)
    raise InputError(
        "The file does not exist.",
        where=source,
        allowed=f"results as a file or folder, or {', '.join(PUBLISHED)}",
        do=f"evaluate the benchmark first: manyhot evaluate {name} --out {name}"
        if name in BENCHMARKS
        else did_you_mean(name, PUBLISHED, 1),
    )
