"""Published benchmarks: which data sets they are, and their labels and models, read from the cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from manyhot import tables
from manyhot.data import catalog
from manyhot.formats import read_images, read_labels, read_predictions
from manyhot.formats.writing import PathLike, Progress
from manyhot.tables import End, Images, Labels, Predictions


@dataclass(frozen=True)
class BenchmarkData:
    """A data set of a benchmark, as names of the catalogue.

    Attributes
    ----------
    name : str
    labels : tuple of str
        Entry and file of the label sets.
    predictions, rows : str
        Entry of the predictions, and its file that names the image of each row.
    beside : tuple of str
        Files that the reader of the labels needs in addition.
    images : tuple of str, optional
        Entry and files of an images table to slice by; the first is read.
    slices : tuple of str
        To judge on in addition to the default ones.
    thresholds : tuple of float
        Thresholds of the labels' probability, for the sensitivity analysis.
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
        """Download what the cache lacks, and read labels and images."""
        told = None if progress is None else (lambda done, of: progress(f"fetching {self.name}", done, of))
        wanted = {self.labels[0]: (self.labels[1], *self.beside)}
        wanted |= {self.images[0]: self.images[1:]} if self.images else {}
        fetched = {e: catalog.fetch(e, only=f, progress=told) for e, f in wanted.items()}
        files = catalog.fetch(self.predictions, progress=told)
        rows = read_images(files[self.rows])
        used = [(e, f) for e, names in wanted.items() for f in names]
        used += [(self.predictions, f) for f in files]
        return Fetched(
            self,
            read_labels(fetched[self.labels[0]][self.labels[1]]).with_labels(rows),
            rows,
            read_images(fetched[self.images[0]][self.images[1]]) if self.images else rows,
            tuple(path for name, path in files.items() if name != self.rows),
            {f"{self.name}/{f}": catalog.catalog_entry(e).file(f).sha256 for e, f in used},
        )


@dataclass(frozen=True)
class Benchmark:
    """Data sets that are judged together, further comparisons, and models that are left out of them.

    `metrics` are judged by default; without them, the usual ones.
    """

    datasets: tuple[BenchmarkData, ...]
    ends: tuple[tuple[End, End], ...] = ()
    without: tuple[str, ...] = ()
    metrics: tuple[str, ...] | None = None


_VALIDATION = BenchmarkData(
    "imagenet-val",
    ("imagenet-real", "scores.npz"),
    "imagenet-val-predictions",
    "imagenet-validation-original.json",
    beside=("real.json",),
)

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


def data_set(name: PathLike) -> BenchmarkData | None:
    """Return a data set of a benchmark by name, or None where the name is none or is a file."""
    found = {d.name: d for benchmark in BENCHMARKS.values() for d in benchmark.datasets[::-1]}
    return None if Path(name).exists() else found.get(str(name))


@dataclass(frozen=True)
class Fetched:
    """A data set of a benchmark, read from the cache."""

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
        """Return whether a model predicts any of the images."""
        return bool(tables.count_shared(self.labels.image_id, predictions.image_id))

    def models(self, own: Sequence[Predictions]) -> Iterator[Predictions]:
        """Yield the published models, and then the own ones."""
        yield from self.published
        yield from own

    @cached_property
    def published(self) -> tuple[Predictions, ...]:
        """The published models, best class first: 50 MB for 67 models of 50,000 images."""
        return tuple(map(self.read, self.files))

    def read(self, path: Path) -> Predictions:
        """Read one published model, best class first."""
        found = read_predictions(path, rows=self.rows)
        if "reversed" in catalog.catalog_entry(self.about.predictions).file(path.name).flags:
            assert found.classes is not None
            return replace(found, classes=found.classes[:, ::-1])
        return found
