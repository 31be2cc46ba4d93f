"""What models lose on corrupted copies of their images: losses, corruption errors, and missing labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manyhot.classes import class_list, class_list_of
from manyhot.core.corruption import ALEXNET, ALEXNET_CLEAN, corruption_errors, relative_errors
from manyhot.core.resampling import percentile_interval
from manyhot.errors import InputError, MatchError
from manyhot.steps.robustness import (
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
)
from manyhot.tables import Labels, Predictions

CLEAN = ("clean", 0)
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
    if CLEAN not in copies or len(copies) < 2:
        raise InputError(
            "Losses by corruption are those from pictures as they are to corrupted ones.",
            got=", ".join(f"{kind} {severity}" for kind, severity in copies) or "nothing",
            allowed=f"predictions under {CLEAN} and under a corruption, such as ('fog', 3)",
        )
    name = dataset or labels.name or "labels"
    alike, notes = (labels, ()) if single else judged_alike(labels)
    places: dict[Copy, Place] = {}
    told = list(notes)
    for done, copy in enumerate(sorted(copies, key=lambda c: c != CLEAN), 1):
        judged = judge(
            alike,
            copies[copy],
            dataset=name,
            single=single,
            resamples=resamples,
            seed=seed,
            trust_order=trust_order or copy != CLEAN,
        )
        told += [f"{n.model}: {n.text}" for n in judged.notes if n.kind == "labels_unmatched"]
        places[copy] = places_of(judged.tables(), *copy)[0]
        if progress:
            progress(f"judging on {name}", done, len(copies))
    models = list(places[CLEAN].scores.get(SINGLE) or places[CLEAN].scores.get("real1", {}))
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
        clean = self.places[CLEAN]
        copies = [p for copy, p in self.places.items() if copy != CLEAN]
        means = [average([p for p in copies if p.kind == kind], kind) for kind in self._kinds]
        everywhere = average(means, None)
        ends = [everywhere, *means, *copies]
        lost = [row for place in ends for row in losses(clean, place, paired=True)]
        errors = [row for metric in ERRORS for row in self._errors(metric)]
        return Robustness.of([clean, *ends], lost, errors, [*notes, *self._notes()])

    @property
    def _kinds(self) -> list[str]:
        return list(dict.fromkeys(kind for kind, _ in self.places if kind != CLEAN[0]))

    def _errors(self, metric: str) -> Iterator[Row]:
        """Yield rows of the corruption_errors table: of each model the mean over kinds, and each kind."""
        clean = self.places[CLEAN].scores.get(metric, {})
        everywhere = [p.scores.get(metric, {}) for p in self.places.values()]
        for model in (m for m in clean if all(m in at for at in everywhere)):
            yield from self._of(model, metric)

    def _of(self, model: str, metric: str) -> Iterator[Row]:
        score = self.places[CLEAN].scores[metric][model]
        found = {kind: self._kind(kind, model, metric) for kind in self._kinds}
        mean = {name: np.mean([of[name] for of in found.values()], axis=0) for name in _MEASURES}
        severities = {kind: sum(k == kind for k, _ in self.places) for kind in self._kinds}
        for kind, measures in ((None, mean), *found.items()):
            row: Row = {"dataset": self.places[CLEAN].dataset, "model": model, "metric": metric, "kind": kind}
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
        errors = [1 - _with_resamples(place, metric, model) for place in (*copies, self.places[CLEAN])]
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
