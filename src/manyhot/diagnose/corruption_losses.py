"""Losses on corrupted copies of images, judged from finished predictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from manyhot.classes import class_list, class_list_of
from manyhot.command import takes_fields
from manyhot.console import table_lines
from manyhot.core.array_types import Floats
from manyhot.core.comparison import NO_INTERVAL
from manyhot.core.corruption_errors import ALEXNET, ALEXNET_CLEAN, corruption_errors, relative_errors
from manyhot.core.ratio_intervals import sampled_interval
from manyhot.data.data_sets import Source
from manyhot.diagnose.places import SINGLE, Place, average, finite, loss_differences, loss_rows, places_of
from manyhot.diagnose.robustness import (
    Robustness,
    judge_place,
    judged_alike,
    percent_with_ends,
    points_lost,
    share_missing,
)
from manyhot.errors import InputError, MatchError
from manyhot.evaluate.judge_options import JudgeOptions
from manyhot.parameters import RESAMPLES, Flattened, Resamples, Seed
from manyhot.run import QUIET, Run
from manyhot.tables import Labels, Predictions, RowDict

NOT_CORRUPTED = ("clean", 0)
"""Kind and severity of the original images."""

MOST_PRINTED = 3
"""Metrics that a terminal shows, the headline metrics first: more do not fit."""

BASELINE = "alexnet"
"""The baseline of Hendrycks & Dietterich, whose errors on ImageNet are published."""

ERRORS = (SINGLE, "real1")
"""Metrics whose errors are averaged over corruptions."""

Copy = tuple[str, int]
"""Kind and severity."""


@dataclass(frozen=True, repr=False)
class CorruptionDraws(Flattened):
    """Settings of random draws; each resample contains the same images in all copies.

    Attributes
    ----------
    resamples
        Number of bootstrap resamples; 0 for no intervals and no shares.
    seed
        Seed for the corruptions, the choice of images and the bootstrap.
    """

    resamples: Resamples = RESAMPLES
    seed: Seed = 0


CORRUPTION_DRAWS = CorruptionDraws()


@dataclass(frozen=True, eq=False)
class Corruptions(Robustness):
    """The values of models on corrupted copies of images, and their losses relative to the original images.

    Attributes
    ----------
    robustness, losses, corruption_errors : pyarrow.Table
        The tables with these names; see `manyhot.tables.TABLES` for their columns.
    notes, metadata, inputs, written
        As in `Result`.
    """

    def lines(self) -> Iterator[str]:
        """Yield the losses of each model under each kind of corruption, and its corruption errors."""
        losses = self.losses.to_pylist()
        clean = {
            (r["model"], r["metric"]): r for r in self.robustness.to_pylist() if r["kind"] == NOT_CORRUPTED[0]
        }
        for model in dict.fromkeys(r["model"] for r in losses if r["model"] is not None):
            rows = [r for r in losses if r["model"] == model and r["severity"] is None]
            metrics = list(dict.fromkeys(r["metric"] for r in rows))[:MOST_PRINTED]
            images = _counts(clean[model, m]["n"] for m in metrics)
            yield f"{rows[0]['dataset']}, {model}: {images} original images"
            yield ", ".join(_clean_score(clean[model, m]) for m in metrics)
            yield "points lost, on average over severities"
            share = ["missing labels"] if "real1" in metrics else []
            cells = [_kind_cells(rows, kind, metrics) for kind in _kinds(rows)]
            yield from table_lines(("", *metrics, *share, "images"), cells)
            yield ""
        yield from self._error_lines()

    def _error_lines(self) -> Iterator[str]:
        rows = [r for r in self.corruption_errors.to_pylist() if r["kind"] is None]
        baselines = ", ".join(dict.fromkeys(r["baseline"] for r in rows if r["baseline"]))
        over = f", divided by those of {baselines}" if baselines else ""
        yield f"mean errors on corrupted images{over}"
        cells = [
            (
                r["model"],
                f"1 - {r['metric']}",
                *(percent_with_ends(*(r[name + end] for end in ("", "_lo", "_hi"))) for name in _MEASURES),
                f"{r['n']:,}",
            )
            for r in rows
        ]
        yield from table_lines(("model", "error", "mean", "mCE", "relative mCE", "images"), cells)
        yield ""


def _kinds(rows: Sequence[RowDict]) -> list[str | None]:
    return [*dict.fromkeys(r["kind"] for r in rows if r["kind"] is not None), None]


def _kind_cells(rows: Sequence[RowDict], kind: str | None, metrics: Sequence[str]) -> tuple[str, ...]:
    by = {r["metric"]: r for r in rows if r["kind"] == kind}
    share = [share_missing(by["real1"])] if "real1" in by else []
    losses = (points_lost(by[m]) if m in by else "–" for m in metrics)
    return (kind or "all", *losses, *share, _counts(by[m]["n"] for m in metrics if m in by))


def _clean_score(row: RowDict) -> str:
    ends = "" if row["lo"] is None else f" ({100 * row['lo']:.1f} to {100 * row['hi']:.1f})"
    return f"{row['metric']} {row['value']:.1%}{ends}"


def _counts(n_images: Iterable[int]) -> str:
    """Return the number of images: one if it is the same for all metrics, else each."""
    counts = list(n_images)
    return " / ".join(f"{n:,}" for n in (counts[:1] if len(set(counts)) == 1 else counts))


@takes_fields
def judge_corruptions(
    labels: Labels,
    copies: Mapping[Copy, Iterable[Predictions]],
    *,
    baseline: str = "",
    draws: CorruptionDraws = CORRUPTION_DRAWS,
    dataset: str = "",
    single: bool = False,
    trust_order: bool = False,
    run: Run = QUIET,
) -> Corruptions:
    """Measure what models lose on corrupted images, and what share of the loss is due to missing labels.

    Parameters
    ----------
    labels : Labels
    copies : mapping of (str, int) to iterable of Predictions
        Predictions by kind and severity of the corruption. The key of the original images is `NOT_CORRUPTED`.
    baseline : str
        Corruption errors are errors divided by those of this model. `BASELINE` stands for AlexNet's published
        errors and is the default if the classes are those of ImageNet-1k. Without a baseline, errors are
        averaged but not divided.
    dataset : str
        Name of the data set. By default, the name of the labels.
    single : bool
        Whether to use only original labels, without label sets.
    trust_order : bool
        As in `manyhot.evaluate`.
    run : Run
        Progress over copies.

    Notes
    -----
    Corruption errors are defined for errors under original labels. AlexNet's errors under label sets were
    never published, so errors of ``real1`` can only be divided by a baseline among the models.

    Raises
    ------
    InputError
        If there are no predictions for the original images, or none for corrupted images.
    MatchError
        If `baseline` is not one of the models, or as in `manyhot.evaluate`.
    """
    if NOT_CORRUPTED not in copies or len(copies) < 2:
        raise InputError(
            "Measuring the loss due to corruption requires predictions for the original and for the "
            "corrupted images.",
            got=", ".join(f"{kind} {severity}" for kind, severity in copies) or "nothing",
            allowed=f"predictions with the key {NOT_CORRUPTED}, and with the key of a corruption, such as "
            "('fog', 3)",
        )
    name = dataset or labels.name or "labels"
    alike, notes = (labels, ()) if single else judged_alike(labels)
    places: dict[Copy, Place] = {}
    all_notes = list(notes)
    for done, copy in enumerate(sorted(copies, key=lambda c: c != NOT_CORRUPTED), 1):
        judged = judge_place(
            Source(name, alike, models=partial(iter, copies[copy])),
            JudgeOptions(
                resamples=draws.resamples, seed=draws.seed, trust_order=trust_order or copy != NOT_CORRUPTED
            ),
            single=single,
        )
        all_notes += [f"{n.model}: {n.text}" for n in judged.model_notes if n.kind == "labels_unmatched"]
        places[copy] = places_of(judged.as_results(), *copy)[0]
        if run.on_progress:
            run.on_progress(f"evaluating on {name}", done, len(copies))
    models = list(places[NOT_CORRUPTED].scores.get(SINGLE) or places[NOT_CORRUPTED].scores.get("real1", {}))
    return _Corrupted(places, find_baseline(baseline, models, labels.class_hash)).finish(all_notes)


def find_baseline(name: str, models: Sequence[str], class_hash: str) -> str:
    """Return the name of the baseline: by default, AlexNet for ImageNet's classes and none for others.

    Parameters
    ----------
    class_hash : str
        Hash of the class list of the data set.

    Raises
    ------
    MatchError
        If there is no baseline of this name.
    """
    classes = class_list_of(class_hash)
    on_imagenet = classes is not None and classes.hash == class_list().hash
    allowed = [*models, BASELINE] if on_imagenet else models
    if name and name not in allowed:
        why = ", and its errors are published only for ImageNet's classes" if name == BASELINE else ""
        raise MatchError(f"The baseline is not one of the models{why}.", got=name, allowed=", ".join(allowed))
    return name or (BASELINE if on_imagenet else "")


@dataclass(frozen=True, eq=False)
class _Corrupted:
    """Places by kind and severity, including the original images."""

    places: Mapping[Copy, Place]
    baseline: str

    def finish(self, notes: Sequence[str]) -> Corruptions:
        clean = self.places[NOT_CORRUPTED]
        copies = [p for copy, p in self.places.items() if copy != NOT_CORRUPTED]
        means = [average([p for p in copies if p.kind == kind], kind) for kind in self._kinds]
        everywhere = average(means, None)
        ends = [everywhere, *means, *copies]
        lost = [row for place in ends for row in loss_rows(clean, place, paired=True)]
        errors = [row for metric in ERRORS for row in self._errors(metric)]
        return Corruptions.from_places(
            [clean, *ends], lost, errors, [*notes, *loss_differences(clean, everywhere), *self._notes()]
        )

    @property
    def _kinds(self) -> list[str]:
        return list(dict.fromkeys(kind for kind, _ in self.places if kind != NOT_CORRUPTED[0]))

    def _errors(self, metric: str) -> Iterator[RowDict]:
        """Yield rows of the corruption_errors table: of each model the mean over kinds, and each kind."""
        clean = self.places[NOT_CORRUPTED].scores.get(metric, {})
        everywhere = [p.scores.get(metric, {}) for p in self.places.values()]
        for model in (m for m in clean if all(m in at for at in everywhere)):
            yield from self._error_rows(model, metric)

    def _error_rows(self, model: str, metric: str) -> Iterator[RowDict]:
        score = self.places[NOT_CORRUPTED].scores[metric][model]
        found = {kind: self._kind(kind, model, metric) for kind in self._kinds}
        mean = {name: np.mean([of[name] for of in found.values()], axis=0) for name in _MEASURES}
        severities = {kind: sum(k == kind for k, _ in self.places) for kind in self._kinds}
        for kind, measures in ((None, mean), *found.items()):
            row: RowDict = {
                "dataset": self.places[NOT_CORRUPTED].dataset,
                "model": model,
                "metric": metric,
                "kind": kind,
            }
            row["baseline"] = self._baseline_of(metric) or None
            row |= {"n_kinds": 1 if kind else len(found), "n": score.n}
            row["n_severities"] = severities[kind] if kind else min(severities.values())
            for name, drawn in measures.items():
                row |= _columns(name, drawn, score.n)
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
        """Return errors by severity, shape (1 + R, 1, S), and those of original images, shape (1 + R,)."""
        copies = [self.places[kind, severity] for severity in severities]
        errors = [
            1 - _with_resamples(place, metric, model) for place in (*copies, self.places[NOT_CORRUPTED])
        ]
        return np.stack(errors[:-1], axis=-1)[:, None], errors[-1]

    def _notes(self) -> Iterator[str]:
        if not self.baseline:
            yield (
                "corruption errors were not computed, because AlexNet's errors are published only for "
                "ImageNet's classes; choose another model as the baseline"
            )
        elif self.baseline == BASELINE:
            yield (
                "corruption errors are divided by AlexNet's published errors on all 50,000 images of "
                "ImageNet-C under original labels; none were published under label sets"
            )
        if len(self._kinds) < len(ALEXNET):
            yield f"the means are computed over {len(self._kinds)} of the {len(ALEXNET)} kinds of corruption"


_MEASURES = ("error", "ce", "relative")


def _with_resamples(place: Place, metric: str, model: str) -> Floats:
    drawn = place.matrix(metric, [model])
    value = np.array([place.scores[metric][model].value])
    return value if drawn is None else np.concatenate([value, drawn[0]])


def interval_of_draws(drawn: Floats, n: int) -> tuple[float, float]:
    """Return the interval of a value over n images. `drawn` is the value and its resamples."""
    if len(drawn) < 2 or not np.isfinite(drawn[0]):
        return NO_INTERVAL
    return sampled_interval(float(drawn[0]), drawn[1:], n)


def _columns(name: str, drawn: Floats, n: int) -> RowDict:
    lo, hi = (finite(end) for end in interval_of_draws(drawn, n))
    return {name: finite(drawn[0]), f"{name}_lo": lo, f"{name}_hi": hi}
