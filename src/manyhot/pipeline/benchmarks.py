"""Published benchmarks: fetched, judged with one's own models among the published ones, and compared."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from manyhot import catalog, tables
from manyhot.classes import class_list
from manyhot.errors import MatchError, UnknownNameError
from manyhot.files import sha256
from manyhot.formats import prediction_files, read_images, read_labels, read_predictions
from manyhot.pipeline.common import Options, Outcome, PathLike, Progress
from manyhot.pipeline.evaluate import judge
from manyhot.pipeline.outputs import write_evaluation
from manyhot.steps.compare import compare
from manyhot.steps.describe import Description, describe
from manyhot.steps.misfits import Misfits, fitting
from manyhot.steps.results import Evaluation
from manyhot.steps.sensitivity import METRICS as ANALYSED
from manyhot.steps.sets import at_threshold
from manyhot.tables import End, Images, Labels, Predictions


@dataclass(frozen=True)
class DataSet:
    """A data set of a benchmark, by names of the catalogue.

    Attributes
    ----------
    name : str
    labels : tuple of str
        Entry and file of the label sets.
    predictions, rows : str
        Entry of the predictions, and its file that names the image of each row.
    beside : tuple of str
        Files that the reader of the labels needs beside them.
    images : tuple of str, optional
        Entry and files of an images table to slice by; the first is read.
    slices : tuple of str
        To judge on beside the standing ones.
    thresholds : tuple of float
        Of the labels' probability, to judge on again for the sensitivity analysis.
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
            {f"{self.name}/{f}": catalog.entry(e).file(f).sha256 for e, f in used},
        )


@dataclass(frozen=True)
class Benchmark:
    """Data sets that are judged together, what is compared beside the usual, and models left out of it.

    `metrics` are judged where nobody asks for others; the usual ones by default.
    """

    datasets: tuple[DataSet, ...]
    ends: tuple[tuple[End, End], ...] = ()
    without: tuple[str, ...] = ()
    metrics: tuple[str, ...] | None = None


_VALIDATION = DataSet(
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
            DataSet(
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
        # Fisher vectors are no networks, and far below them all.
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
raters say about errors: by ReaL's votes, and by the main object of Tsipras et al."""


def data_set(name: PathLike) -> DataSet | None:
    """Return a data set of a benchmark by name, or None where the name is none or is a file."""
    found = {d.name: d for benchmark in BENCHMARKS.values() for d in benchmark.datasets[::-1]}
    return None if Path(name).exists() else found.get(str(name))


def evaluate_benchmark(
    name: str,
    out: PathLike,
    *,
    predictions: Sequence[PathLike] = (),
    rows: PathLike | None = None,
    options: Options | None = None,
    call: str = "",
    progress: Progress | None = None,
) -> Outcome:
    """Judge all published models of a benchmark, and one's own among them.

    Parameters
    ----------
    name : str
        One of `BENCHMARKS`.
    out : path-like
    predictions : sequence of path-like
        Own models; each is judged on the data sets whose images it predicts.
    rows, options, call, progress
        As in `evaluate_files`; `rows` is for the own predictions.

    Raises
    ------
    UnknownNameError
        If there is no such benchmark.
    MatchError
        If own predictions are of none of its data sets.
    """
    if name not in BENCHMARKS:
        raise _no_benchmark(name)
    files = prediction_files(predictions) if predictions else []
    misfits = Misfits(len(files))
    own = list(misfits.reading(files, partial(read_predictions, rows=rows)))
    sets = [d.fetch(progress) for d in BENCHMARKS[name].datasets]
    own = [p for p, _ in fitting(own, partial(_check_own, sets=sets), misfits)]
    own, options = _set_apart(own, sets), options or Options()
    if options.metrics is None:
        options = replace(options, metrics=BENCHMARKS[name].metrics)
    evaluation = Evaluation.concat([f.judge(own, options, progress, misfits) for f in sets])
    judged = set(evaluation.results["model"].to_pylist())
    own = [p for p in own if p.model in judged]
    misfits.check_left(len(own))
    # One that is skipped on a data set may be judged on another.
    everywhere = [p for p in own if p.source not in misfits.errors]
    again = [v for f in sets for v in f.judge_at_thresholds(everywhere, progress)]
    thresholds = Evaluation.concat(again) if again else None
    inputs = {key: value for fetched in sets for key, value in fetched.inputs.items()}
    highlight = tuple(p.model for p in own)
    benchmark = BENCHMARKS[name]
    evaluation = replace(evaluation, about={**evaluation.about, "sources": json.dumps(_sources(benchmark))})
    if benchmark.ends:  # so that a later comparison makes them again
        told = json.dumps({"ends": benchmark.ends, "without": benchmark.without})
        evaluation = replace(evaluation, about={**evaluation.about, "compared": told})
    comparison = compare(
        [evaluation.tables(name)],
        ends=benchmark.ends,
        without=benchmark.without,
        seed=options.seed,
        thresholds=None if thresholds is None else thresholds.tables(),
    )
    written = write_evaluation(
        evaluation,
        out,
        description=Description.concat([f.describe() for f in sets]),
        comparison=comparison,
        thresholds=thresholds,
        call=call,
        inputs=inputs | {Path(p.source).name: sha256(p.source) for p in own},
        highlight=highlight,
    )
    return Outcome(evaluation, comparison, tuple(written), highlight)


def _sources(benchmark: Benchmark) -> list[dict[str, Any]]:
    """Return what the published data are, with licence, citation and what must be known about them."""
    names = [n for d in benchmark.datasets for n in (d.labels[0], d.predictions, *d.images[:1])]
    entries = [catalog.entry(n) for n in dict.fromkeys(names)]
    return [{k: getattr(e, k) for k in ("title", "home", "licence", "citation", "notes")} for e in entries]


def _no_benchmark(name: str) -> UnknownNameError:
    near = difflib.get_close_matches(name, BENCHMARKS, n=1)
    do = f"did you mean {near[0]!r}?" if near else None
    if name.startswith("timm-results"):
        do = f"these are results already: manyhot compare {name}"
    return UnknownNameError(f"There is no benchmark {name!r}.", allowed=", ".join(BENCHMARKS), do=do)


@dataclass(frozen=True)
class Fetched:
    """A data set of a benchmark, read from the cache."""

    about: DataSet
    labels: Labels
    rows: Images
    images: Images
    files: tuple[Path, ...]
    inputs: Mapping[str, str]

    @property
    def name(self) -> str:
        """The name of the data set."""
        return self.about.name

    def judge(
        self, own: Sequence[Predictions], options: Options, progress: Progress | None, misfits: Misfits
    ) -> Evaluation:
        """Judge the published models, and the own ones that predict its images."""
        mine = [p for p in own if self.covers(p)]
        n = len(self.files) + len(mine)
        slices = (*options.slices, *(s for s in self.about.slices if s not in options.slices))
        options = replace(options, slices=slices)
        models, images = self.models(mine), self.images
        return judge(self.labels, models, n, images, class_list(), self.name, options, progress, misfits)

    def judge_at_thresholds(
        self, own: Sequence[Predictions], progress: Progress | None
    ) -> Iterator[Evaluation]:
        """Judge on the label sets at other thresholds: values for the sensitivity analysis, no intervals."""
        models = list(self.models([p for p in own if self.covers(p)])) if self.about.thresholds else []
        for threshold in self.about.thresholds:
            labels = at_threshold(self.labels, threshold)
            # Their order was checked on the published label sets.
            name = f"{self.name} p>={threshold:g}"
            options = Options(ANALYSED, resamples=0, trust_order=True)
            yield judge(labels, iter(models), len(models), None, None, name, options, progress)

    def describe(self) -> Description:
        """Describe the labels, with licence and citation from the catalogue."""
        entry = catalog.entry(self.about.labels[0])
        about = {"licence": entry.licence, "citation": entry.citation, "home": entry.home}
        return describe(self.labels, classes=class_list(), dataset=self.name, **about)

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
        if "reversed" in catalog.entry(self.about.predictions).file(path.name).flags:
            assert found.classes is not None
            return replace(found, classes=found.classes[:, ::-1])
        return found


def _set_apart(own: Sequence[Predictions], sets: Sequence[Fetched]) -> list[Predictions]:
    """Give own models a name of their own where a published one has it: one's own resnet50 is another."""
    published = {path.stem for fetched in sets for path in fetched.files}
    return [replace(p, model=f"own/{p.model}") if p.model in published else p for p in own]


def _check_own(predictions: Predictions, sets: Sequence[Fetched]) -> None:
    if not any(fetched.covers(predictions) for fetched in sets):
        raise MatchError(
            f"{predictions.model} predicts images of none of the benchmark's data sets.",
            where=predictions.source,
            got=f"ids such as {predictions.image_id[0]}",
            allowed=" or ".join(f"{f.labels.image_id[0]} ({f.name})" for f in sets),
            do="give the row order with --rows, or predict one of these data sets",
        )
