"""What recalibration and prediction sets do on images that they were not fitted on, method by method.

Published data, campaigns or files in; what recalibration does, and prediction sets, out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from manyhot import tables
from manyhot.core.calibration import RANGE, check_softmax
from manyhot.core.conformal import check_alpha
from manyhot.core.sets import Case
from manyhot.data.inputs import Asked, sources
from manyhot.errors import InputError
from manyhot.evaluate.confidence import Split, check_method, conformal, split
from manyhot.evaluate.judge import evaluate
from manyhot.evaluate.results import Evaluation
from manyhot.files import sha256
from manyhot.formats.tabular import write_csv
from manyhot.formats.writing import PathLike, check_apart, check_place
from manyhot.tables import Images, Labels, Predictions, schema
from manyhot.tables.definitions import COVERS, FITTED_TO, RECALIBRATIONS
from manyhot.tables.sets import label_sets
from manyhot.tables.skipped_files import SkippedFiles, fitting_models

MEASURES = {
    "label": ("top1", "ece", "nll", "brier"),
    "set": ("real1", "ece_set", "nll_mass", "brier_set"),
}
"""By the event that counts as right: share right, calibration error, likelihood, Brier score."""


RESAMPLES = 200
"""For intervals of the calibration error, which sorts images into bins anew in each."""


_LEAST, _MOST = RANGE[0] * 1.001, RANGE[1] * 0.999
"""Temperatures beyond are as good as an end of the range."""


Row = Mapping[str, Any]


Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Calibration:
    """How well models are calibrated, before and after, and their prediction sets.

    Attributes
    ----------
    calibration, prediction_sets : pyarrow.Table
        The tables of these names; see `manyhot.tables.TABLES`.
    notes : tuple of str
        What could not be done, and why.
    """

    calibration: pa.Table
    prediction_sets: pa.Table
    notes: tuple[str, ...] = ()

    @property
    def tables(self) -> dict[str, pa.Table]:
        """The tables by name."""
        return {"calibration": self.calibration, "prediction_sets": self.prediction_sets}

    @classmethod
    def concat(cls, parts: Sequence[Calibration]) -> Calibration:
        """Join those of several data sets."""
        return cls(
            pa.concat_tables([p.calibration for p in parts]),
            pa.concat_tables([p.prediction_sets for p in parts]),
            tuple(note for p in parts for note in p.notes),
        )


def diagnose_calibration(
    labels: Labels,
    predictions: Predictions | Iterable[Predictions],
    *,
    methods: Sequence[str] = RECALIBRATIONS,
    alpha: float = 0.1,
    fit: float = 0.5,
    seed: int = 0,
    resamples: int = 1000,
    images: Images | None = None,
    dataset: str = "",
    trust_order: bool = False,
    misfits: SkippedFiles | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """Recalibrate models on some images, and measure on the others what that does.

    Each method is fitted to original labels and to label sets, and judged on both, as are the predictions as
    they were. Prediction sets are chosen and measured on the same two parts.

    Parameters
    ----------
    labels : Labels
    predictions : Predictions or iterable of Predictions
        Those without confidences, such as ranks, are left out with a note.
    methods : sequence of str
        Of ``temperature``, ``vector`` and ``isotonic``.
    alpha : float
        The share of images that prediction sets may miss.
    fit, seed
        As in `manyhot.calibrate`.
    resamples : int
        Of the bootstrap of the held-out images; of calibration errors at most `RESAMPLES`; 0 for no
        intervals.
    images : Images, optional
        Original labels where `labels` has none.
    dataset : str
        What the data set is called; the labels' name by default.
    trust_order : bool
        As in `manyhot.evaluate`.
    misfits : Misfits, optional
        As in `manyhot.evaluate.judge.evaluate`.
    progress : callable, optional
        Called with the model, how many of its predictions are judged, and how many there may be.

    Raises
    ------
    InputError
        If no model has confidences.
    MatchError, OrderError
        As in `manyhot.evaluate`.
    """
    check_alpha(alpha)
    for method in methods:
        check_method(method)
    labels = labels if images is None else labels.with_labels(images)
    judge = _Judge(
        labels,
        dataset or labels.name or "labels",
        methods,
        alpha,
        fit,
        seed,
        resamples,
        trust_order,
        progress,
    )
    misfits = misfits or SkippedFiles()
    models = [predictions] if isinstance(predictions, Predictions) else predictions
    for _ in fitting_models(models, judge.add, misfits):
        pass
    done = judge.finish()
    return replace(done, notes=(*done.notes, *misfits.notes(judge.dataset)))


def _only_labels(labels: Labels) -> bool:
    """Return whether the label sets hold the original labels and nothing else."""
    sets = label_sets(labels)
    return bool((sets.size == 1).all() and (sets.first == sets.label).all())


@dataclass
class _Judge:
    """Collects rows of both tables, model by model. The parameters are those of `diagnose_calibration`."""

    labels: Labels
    dataset: str
    methods: Sequence[str]
    alpha: float
    fit: float
    seed: int
    resamples: int
    trust_order: bool
    progress: Progress | None
    _models: list[str] = field(default_factory=list)
    _without: list[str] = field(default_factory=list)
    _rows: list[Row] = field(default_factory=list)
    _sets: list[Row] = field(default_factory=list)
    _notes: list[str] = field(default_factory=list)

    def add(self, model: Predictions) -> None:
        parts = split(self.labels, model, fit=self.fit, seed=self.seed)
        if parts.rest.confidence is None:
            self._without.append(model.model)
            return
        about: dict[str, Row] = {}
        refused: dict[str, list[str]] = {}
        judged = evaluate(
            self.labels,
            self._versions(parts, about, refused),
            metrics=_metrics(parts.rest, refused),
            resamples=self.resamples,
            map_resamples=min(self.resamples, RESAMPLES),
            seed=self.seed,
            trust_order=self.trust_order,
            dataset=self.dataset,
        )
        self._models.append(model.model)
        self._rows += _numbers(judged, model.model, about)
        for cover in COVERS:
            self._cover(model, cover, refused)
        said = [n.text for n in judged.notes if n.model == model.model and n.kind.startswith("needs")]
        said += [f"no {', no '.join(what)}: {why}" for why, what in refused.items()]
        self._notes += [f"{model.model}: {text}" for text in said]

    def finish(self) -> Calibration:
        without = ", ".join(self._without[:5])
        if len(self._without) > 5:
            without += f" and {len(self._without) - 5:,} more"
        if not self._models:
            raise InputError(
                "No model has confidences to calibrate.",
                got=without or "no predictions",
                allowed="probabilities, logits of all classes, or lists of logits with logsumexp",
                do="say what the scores are: manyhot convert --scores; or predict with scores",
            )
        if _only_labels(self.labels):
            said = "the label sets are the original labels alone, so that both events are one"
            self._notes.insert(0, f"{self.dataset}: {said}")
        if self._without:
            self._notes.append(f"without confidences, and left out: {without}")
        return Calibration(
            pa.Table.from_pylist(self._rows, schema=schema("calibration")),
            pa.Table.from_pylist(self._sets, schema=schema("prediction_sets")),
            tuple(self._notes),
        )

    def _versions(
        self, parts: Split, about: dict[str, Row], refused: dict[str, list[str]]
    ) -> Iterator[Predictions]:
        """Yield the predictions as they were, and recalibrated; put down what was done to each."""
        name = parts.predictions.model
        about[name] = {"method": "none", "n_fitted": 0}
        yield parts.predictions
        wanted = [(method, to) for method in self.methods for to in FITTED_TO]
        for done, (method, to) in enumerate(wanted, 1):
            if self.progress:
                self.progress(f"calibrating {name}", done, len(wanted))
            try:
                found, temperature = parts.recalibrated(method, to)
            except InputError as error:
                refused.setdefault(_reason(error), []).append(f"{method} ({to})")
                continue
            if temperature is not None and not _LEAST < temperature < _MOST:
                self._notes.append(
                    f"{name}, {method} ({to}): {temperature:g} is an end of what is looked through, as where "
                    "nothing is wrong, or confidence says nothing"
                )
            made = {"method": method, "fitted_to": to, "temperature": temperature}
            about[found.model] = {**made, "n_fitted": parts.n_fitted(to)}
            yield found

    def _cover(self, model: Predictions, cover: str, refused: dict[str, list[str]]) -> None:
        options: dict[str, Any] = {"cover": cover, "alpha": self.alpha, "fit": self.fit, "seed": self.seed}
        try:
            found = conformal(self.labels, model, **options)
        except InputError as error:
            refused.setdefault(_reason(error), []).append(f"prediction sets (cover {cover})")
            return
        least = math.ceil(1 / self.alpha - 1 - 1e-9)
        if found.n_fitted < least:
            self._notes.append(
                f"{model.model}, prediction sets (cover {cover}): all classes, since an alpha of "
                f"{self.alpha:g} takes {least:,} images to fit on and there are {found.n_fitted:,}"
            )
        self._sets.append({"dataset": self.dataset, **asdict(found)})


def _metrics(case: Case, refused: dict[str, list[str]]) -> list[str]:
    """Return what is measured; sigmoids have no likelihood of an image."""
    found = [metric for measures in MEASURES.values() for metric in measures]
    if case.scores is None or case.kind != "probability":
        return found
    try:
        check_softmax(case)
    except InputError as error:
        refused[_reason(error)] = ["nll", "nll_mass"]
        return [metric for metric in found if not metric.startswith("nll")]
    return found


def _numbers(judged: Evaluation, model: str, about: Mapping[str, Row]) -> Iterator[Row]:
    for row in judged.results.to_pylist():
        if row["slice"] == "all":
            yield {**row, "model": model, **about[row["model"]]}


def _reason(error: InputError) -> str:
    got = error.details["got"]
    return error.what[0].lower() + error.what[1:].rstrip(".") + (f" ({got})" if got else "")


NAMES = ("calibration", "prediction_sets")
"""Tables that are written."""


def diagnose_calibration_files(
    source: PathLike,
    out: PathLike = "calibration",
    *,
    predictions: Sequence[PathLike] = (),
    models: Sequence[str] = (),
    methods: Sequence[str] = RECALIBRATIONS,
    alpha: float = 0.1,
    fit: float = 0.5,
    seed: int = 0,
    resamples: int = 1000,
    rows: PathLike | None = None,
    images: PathLike | None = None,
    classes: PathLike | None = None,
    trust_order: bool = False,
    call: str = "",
    progress: Progress | None = None,
) -> tuple[Calibration, list[Path]]:
    """Recalibrate models, and write what that does as the tables ``calibration`` and ``prediction_sets``.

    Parameters
    ----------
    source, predictions, models, rows, images, classes
        As in `manyhot.diagnose_errors_files`.
    out : path-like
        The folder that both tables are written into, as Parquet and CSV.
    methods, alpha, fit, seed, resamples, trust_order
        As in `manyhot.diagnose_calibration`.

    Raises
    ------
    ManyhotError
        For each kind of bad input; nothing is written then.
    """
    out = Path(out)
    files = (rows, images, classes)
    check_apart([source, *predictions, *files], out, NAMES)
    for name in NAMES:
        check_place(out / f"{name}.parquet", name)
    asked = Asked(predictions, models, rows, images, classes, progress)
    found: list[Calibration] = []
    inputs = {Path(p).name: sha256(p) for p in files if p and Path(p).is_file()}
    for part in sources(source, asked):
        judged = diagnose_calibration(
            part.sets(),
            part.models(),
            methods=methods,
            alpha=alpha,
            fit=fit,
            seed=seed,
            resamples=resamples,
            images=part.images,
            dataset=part.name,
            trust_order=trust_order,
            misfits=part.misfits,
            progress=progress,
        )
        found.append(judged)
        inputs |= part.inputs
    done = Calibration.concat(found)
    about = {"notes": json.dumps(done.notes, ensure_ascii=False), "fit": json.dumps(fit), "seed": str(seed)}
    written = []
    for name, table in done.tables.items():
        path = out / f"{name}.parquet"
        written.append(tables.write(table, path, name, call=call, inputs=inputs, about=about))
        written.append(write_csv(table, path.with_suffix(".csv")))
    return done, written
