"""Recalibrated predictions and conformal prediction sets: fitted on some images, applied to the others."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy import typing as npt

from manyhot.command import takes_fields
from manyhot.core.calibration import (
    FitLabels,
    Tail,
    calibrated,
    fit_isotonic,
    fit_temperature,
    fit_temperature_of_all,
    fit_vector,
    is_at_end,
    mass_target,
    nothing_to_fit,
    votes_target,
)
from manyhot.core.class_recalibration import ClassFit, fit_classes
from manyhot.core.clusters import Clusters
from manyhot.core.conformal import (
    DRAWN,
    DRAWS,
    check_listed,
    countable,
    fit_threshold,
    fit_threshold_to_draws,
    predict_sets,
)
from manyhot.core.distributions import top_shares
from manyhot.core.jackknife import jackknife_interval
from manyhot.core.reliability import against_label, against_set
from manyhot.core.resampling import student_interval
from manyhot.core.score_threshold import adds_up_to_one, link_of, linked
from manyhot.core.sets import NO, UNCLEAR, YES, Case, LabelSets
from manyhot.core.share_intervals import proportion_interval
from manyhot.core.softmax import least_probability
from manyhot.data.data_sets import Source
from manyhot.data.inputs import READING, LabelsLike, PredictionsLike, Reading, open_inputs
from manyhot.errors import InputError
from manyhot.evaluate.requirements import link_note
from manyhot.evaluate.slices import aligned_case, labels_of
from manyhot.report.text import counted
from manyhot.run import QUIET, Run
from manyhot.tables import Labels, Predictions
from manyhot.tables.arrays import label_sets

RecalibrationMethod = Literal["temperature", "vector", "isotonic"]
RECALIBRATIONS: tuple[RecalibrationMethod, ...] = get_args(RecalibrationMethod)
FittedTo = Literal["labels", "sets", "votes"]
FITTED_TO: tuple[FittedTo, ...] = get_args(FittedTo)
NO_PROBABILITIES = "Prediction sets need probabilities."


@dataclass(frozen=True)
class Conformal:
    """Prediction sets of one model: how they were chosen, and their coverage and size on other images.

    Attributes
    ----------
    model, cover : str
        Name of the model, and what a set must contain: the original ``label``, ``one`` class of the label
        set, or ``all`` of its classes.
    alpha, threshold : float
        Maximum share of images whose set lacks what it should contain, and minimum probability of the classes
        in a set.
    n_fitted, n, n_skipped : int
        Number of images used for fitting, number of images used for evaluation, and number of held-out images
        that were skipped because they have no label to cover.
    coverage, lo, hi : float
        Coverage on the images used for evaluation, with its 95 % Wilson interval.
    mean_size, mean_size_lo, mean_size_hi : float
        Mean number of classes in a set, with its 95 % Student's t interval; NaN if all sets are equally
        large.
    share_empty, share_empty_lo, share_empty_hi : float
        Share of empty sets, with its 95 % Wilson interval.
    notes : tuple of str
        What limits or explains the numbers, such as how logits became probabilities.
    """

    model: str
    cover: str
    alpha: float
    threshold: float
    n_fitted: int
    n: int
    n_skipped: int
    coverage: float
    lo: float
    hi: float
    mean_size: float
    mean_size_lo: float
    mean_size_hi: float
    share_empty: float
    share_empty_lo: float
    share_empty_hi: float
    notes: tuple[str, ...] = ()


def only_model(
    labels: LabelsLike, predictions: PredictionsLike, reading: Reading, run: Run = QUIET
) -> tuple[Source, Predictions]:
    """Return the data set and the model that a call passes.

    Raises
    ------
    InputError
        If there are several data sets or models, or as in `open_inputs`.
    """
    if isinstance(labels, Labels) and isinstance(predictions, Predictions):
        return Source(labels.name or "labels", labels), predictions
    pairs = (
        (source, model)
        for source in open_inputs(labels, predictions, reading=reading, run=run)
        for model in source.models()
    )
    found = list(itertools.islice(pairs, 2))
    if len(found) != 1:
        names = ", ".join(f"{model.model} on {source.name}" for source, model in found)
        raise InputError(
            "Calibration and prediction sets are computed for one model on one data set.",
            got=names or "no predictions",
            allowed="one model",
            do="pass one model, or calibrate several with diagnose_calibration" if found else None,
        )
    (source, model), *_ = found
    return source, model


def check_method(method: str, to: str = FITTED_TO[0]) -> None:
    """Raise an error if the method or the kind of labels to fit to is unknown."""
    for name, value, known in (("method", method, RECALIBRATIONS), ("to", to, FITTED_TO)):
        if value not in known:
            raise InputError(
                f"There is no such {name!r} of calibration.", got=value, allowed=", ".join(known)
            )


@dataclass(frozen=True, eq=False)
class Split:
    """Predictions of one model, with images split into two parts.

    Attributes
    ----------
    fitted, rest : Case
        The images to fit on, and the other images.
    predictions : Predictions
        Predictions for the other images, before recalibration.
    unit : ndarray of int, shape (n,)
        The cluster of each image to fit on.
    """

    fitted: Case
    rest: Case
    predictions: Predictions
    unit: npt.NDArray[np.integer]

    @cached_property
    def activation(self) -> str:
        """Whether probabilities are those of a ``softmax``, or of a ``sigmoid`` for each class."""
        return activation_of(self.fitted)

    def recalibrated(self, method: str, to: str) -> Recalibration:
        """Return recalibrated predictions for the other images.

        Raises
        ------
        InputError
            As in `calibrate`.
        """
        if not (n := int(np.count_nonzero(_counted(self.fitted.labels, to, self.activation)))):
            raise nothing_to_fit(_NEEDED[to])
        name = f"{self.predictions.model}, {method} ({to})"
        new = replace(self.predictions, model=name, logsumexp=None, uncertainty=None)
        if self.activation == "sigmoid":
            each = fit_classes(self.fitted, method, to, self.unit)
            new = replace(new, scores=each.apply(self.rest), classes=None, link="sigmoid")
            new = replace(new, score_kind="probability" if each.curves else self.rest.kind)
            return Recalibration(new, n, 1 / each.slope[0] if method == "temperature" else None, each)
        if method == "isotonic":
            return Recalibration(replace(new, **_isotonic(self.fitted, self.rest, to)), n)
        if method == "temperature" and self.fitted.listed is not None:
            cooled, temperature = _cooled_lists(new, self.fitted, self.rest, to)
            return Recalibration(cooled, n, temperature)
        wanted = _FIT_LABELS[to](self.fitted.labels)
        scaling = (fit_temperature_of_all if method == "temperature" else fit_vector)(self.fitted, wanted)
        scores = scaling.apply(self.rest).scores
        found = replace(new, scores=scores, score_kind="logit", classes=None, link="softmax")
        return Recalibration(found, n, scaling.temperature if method == "temperature" else None)


@dataclass(frozen=True, eq=False)
class Recalibration:
    """Recalibrated predictions, and what was fitted.

    Attributes
    ----------
    predictions : Predictions
    n_fitted : int
        Number of images that were fitted on.
    temperature : float, optional
    each : ClassFit, optional
        What was fitted to the sigmoid of each class.
    """

    predictions: Predictions
    n_fitted: int
    temperature: float | None = None
    each: ClassFit | None = None


def activation_of(case: Case) -> str:
    """Return whether probabilities are those of a ``softmax``, or of a ``sigmoid`` for each class."""
    if not case.has_probabilities:
        return "softmax"
    if case.kind == "logit":
        return link_of(case)
    return case.link or ("softmax" if adds_up_to_one(case) else "sigmoid")


def bound_note(temperature: float | None, case: Case) -> str:
    """Return why a temperature may be at an end of the searched range; empty if it is not at an end."""
    if temperature is None or not is_at_end(temperature):
        return ""
    why = "this happens if there are no errors or if confidence is uninformative"
    if temperature > 1 and case.scores is not None and case.kind == "probability":
        yes = case.labels.state == YES
        image, classes = case.labels.rows[yes], case.labels.classes[yes]
        n = len(np.unique(image[case.scores[image, classes] < least_probability(case.scores)]))
        if n:
            why = (
                f"valid classes of {counted(n, 'image')} have a probability of 0, as rounded numbers do; "
                "pass logits, or probabilities that are not rounded"
            )
    return f"the temperature {temperature:g} is at an end of the searched range; {why}"


_FIT_LABELS = {"labels": FitLabels.of_labels, "sets": FitLabels.of_sets, "votes": FitLabels.of_votes}
_NEEDED = {"labels": "an original label", "sets": "a label set", "votes": "votes for one class"}


def _counted(sets: LabelSets, to: str, activation: str) -> npt.NDArray[np.bool_]:
    """Return the images to fit on."""
    if to == "sets" and activation == "sigmoid":  # an image without any valid class counts, too
        answered = np.bincount(sets.rows[sets.state != UNCLEAR], minlength=len(sets)) > 0
        return sets.usable & (answered | (sets.unlisted == NO))
    return {"labels": sets.labelled, "sets": sets.scored, "votes": sets.voted}[to]


@dataclass(frozen=True)
class Division:
    """How images are divided into those to fit on and those to evaluate on.

    Attributes
    ----------
    fit, seed
        As in `calibrate`.
    clusters : Clusters, optional
        Clusters of the labelled images; no cluster is divided.
    """

    fit: float
    seed: int
    clusters: Clusters | None = None

    def chosen(self, rows: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
        """Return which of these rows of the labels to fit on: about a share `fit` of them."""
        share, n, clusters = self.fit, len(rows), self.clusters and self.clusters.take(rows)
        if not 0 < share < 1:
            raise InputError(
                "The share of images to fit on is out of range.",
                got=f"fit={share}",
                allowed="above 0, below 1",
            )
        chosen = np.zeros(n, bool)
        rng = np.random.default_rng(self.seed)
        if clusters is None:
            chosen[rng.permutation(n)[: round(share * n)]] = True
        else:
            order = rng.permutation(clusters.n)
            sizes = np.bincount(clusters.number, minlength=clusters.n)[order]
            first = np.zeros(clusters.n, bool)
            first[order[np.cumsum(sizes) - sizes / 2 <= share * n]] = True
            chosen = first[clusters.number]
        if chosen.all() or not chosen.any():
            raise InputError(
                "There are too few images to split into two parts.",
                got=f"{round(share * n):,} of {n:,} images to fit on",
                allowed="at least one image to fit on and one to evaluate on",
                do="pass more images, or change the share to fit on",
            )
        return chosen


def split(labels: Labels, predictions: Predictions, division: Division) -> Split:
    """Split the images that have both labels and predictions into two random parts.

    Raises
    ------
    InputError
        If the share is out of range, or a part would be empty.
    MatchError
        As in `calibrate`.
    """
    case, found = aligned_case(labels, label_sets(labels), predictions)
    rows, chosen = found.right, division.chosen(found.left)
    unit = found.left if division.clusters is None else division.clusters.number[found.left]
    parts = (np.flatnonzero(part) for part in (chosen, ~chosen))
    fitted, rest = (case.take(part, case.labels.take(part)) for part in parts)
    return Split(fitted, rest, predictions.take(rows[~chosen]), unit[chosen])


@takes_fields
def conformal(
    labels: LabelsLike,
    predictions: PredictionsLike,
    *,
    cover: str = "one",
    alpha: float = 0.1,
    draws: int = DRAWS,
    fit: float = 0.5,
    seed: int = 0,
    reading: Reading = READING,
) -> Conformal:
    """Choose split-conformal prediction sets on some images, and measure their coverage on the other images.

    Parameters
    ----------
    labels : object
        Label sets of one data set, in any form that `manyhot.evaluate` takes.
    predictions : object
        Predictions of one model, in any form that `manyhot.evaluate` takes, with probabilities of all classes
        or of sufficiently many top classes.
    cover : str
        What a set must contain: the original ``label``, ``one`` class of the label set, or ``all`` of its
        classes. If labels have probabilities, also a class drawn in proportion to its probability
        (``drawn``), or all classes of a label set drawn from the probabilities (``drawn_all``).
    alpha : float
        Maximum share of images whose prediction set lacks what it should contain.
    draws : int
        Number of labels or label sets drawn for each image to fit on, for ``drawn`` and ``drawn_all``.
    fit, seed, reading
        As in `calibrate`.

    Raises
    ------
    InputError
        If there are no probabilities or no labels, if prediction sets could contain classes that the
        predictions do not list, or if there are several data sets or models.
    MatchError
        As in `calibrate`.
    """
    source, model = only_model(labels, predictions, reading)
    parts = split_for_sets(labels_of(source), model, Division(fit, seed))
    found = choose_sets(parts, model.model, cover=cover, alpha=alpha, seed=seed, draws=draws)
    notes = (*source.misfits.notes(source.name), link_note(parts[0]))
    return replace(found, notes=tuple(note for note in notes if note))


def choose_sets(
    parts: tuple[Case, npt.NDArray[np.bool_]],
    model: str,
    *,
    cover: str,
    alpha: float,
    seed: int,
    draws: int = DRAWS,
) -> Conformal:
    """Choose prediction sets on some images of a case, and measure their coverage on the other images.

    Parameters and errors are as in `conformal`; `parts` is the return value of `split_for_sets`.
    """
    case, chosen = linked(parts[0]), parts[1]
    counts, fitted = countable(case, cover), np.flatnonzero(chosen)
    if cover in DRAWN:
        rng = np.random.default_rng([seed, draws])
        threshold = fit_threshold_to_draws(case, fitted, cover=cover, alpha=alpha, draws=draws, rng=rng)
    else:
        threshold = fit_threshold(case, fitted, cover=cover, alpha=alpha)
    rest = np.flatnonzero(~chosen & counts)
    if not len(rest):
        raise InputError(
            "None of the held-out images has labels.", got="no image", allowed="images with labels"
        )
    found = predict_sets(case, rest, cover=cover, threshold=threshold)
    return Conformal(
        model,
        cover,
        alpha,
        threshold,
        int(np.count_nonzero(chosen & counts)),
        len(rest),
        int(np.count_nonzero(~chosen)) - len(rest),
        *(drawn_share if cover in DRAWN else _share)(found.covered),
        *student_interval(found.size),
        *_share(found.size == 0),
    )


def _share(hits: npt.NDArray[Any]) -> tuple[float, float, float]:
    """Return the share of images with a hit, and the ends of its interval."""
    k, n = int(hits.sum()), len(hits)
    lo, hi = proportion_interval(k, n)
    return k / n, float(lo), float(hi)


def drawn_share(shares: npt.NDArray[Any]) -> tuple[float, float, float]:
    """Return a mean of shares and its jackknife interval, or its Wilson interval if all shares are equal."""
    mean, n = float(shares.mean()), len(shares)
    if not np.ptp(shares):
        lo, hi = proportion_interval([mean * n], [n])
        return mean, float(lo[0]), float(hi[0])
    return mean, *jackknife_interval(mean, (mean - shares) / max(n - 1, 1))


def split_for_sets(
    labels: Labels, predictions: Predictions, division: Division
) -> tuple[Case, npt.NDArray[np.bool_]]:
    """Return a model's images with probabilities, and a mask of the images on which to choose sets.

    Raises
    ------
    InputError, MatchError
        As in `conformal`.
    """
    case, found = aligned_case(labels, label_sets(labels), predictions)
    if case.listed is None and not case.has_probabilities:
        raise InputError(
            NO_PROBABILITIES,
            where=predictions.source or predictions.model,
            got="ranks" if predictions.scores is None else f"scores of kind {predictions.score_kind}",
            allowed="probabilities, logits of all classes, or lists of logits with logsumexp",
        )
    return case, division.chosen(found.left)


def _cooled_lists(new: Predictions, fitted: Case, rest: Case, to: str) -> tuple[Predictions, float]:
    """Return lists of top classes at the temperature of the others, and that temperature."""
    assert fitted.listed is not None  # for the type checker
    assert rest.listed is not None
    check_listed(fitted)
    check_listed(rest)
    sets, c = fitted.labels, fitted.labels.n_classes
    if to == "labels":
        sets = LabelSets.from_lists([[y] if y >= 0 else [] for y in sets.label], c, usable=sets.usable)
    kept = np.flatnonzero(sets.voted if to == "votes" else sets.scored)
    tail = Tail.of(fitted.top[kept], fitted.listed[kept], c)
    target = votes_target if to == "votes" else mass_target
    temperature = fit_temperature(tail, target(tail, fitted.top[kept], sets.take(kept)))
    listed, _ = calibrated(Tail.of(rest.top, rest.listed, c), temperature)
    scores = listed.astype(np.float32)
    return replace(new, classes=rest.top, scores=scores, score_kind="probability"), temperature


def _isotonic(fitted: Case, rest: Case, to: str) -> dict[str, Any]:
    """Return the top class of each image with its recalibrated confidence, as fields of predictions."""
    outcomes = (against_label if to == "labels" else against_set)(fitted)
    if outcomes is None or fitted.confidence is None or rest.confidence is None:
        raise InputError(
            "Isotonic calibration needs the probability of the top class.",
            got="ranks, or scores that are declared as neither logits nor probabilities",
            allowed="probabilities, logits of all classes, or lists of logits with logsumexp",
        )
    if to == "votes":
        right = top_shares(fitted)
        known = ~np.isnan(right)
        curve = fit_isotonic(fitted.confidence[known], right[known])
    else:
        curve = fit_isotonic(outcomes.confidence, outcomes.right)
    found = curve.apply(rest.confidence)
    return {
        "classes": rest.top[:, :1],
        "scores": found.astype(np.float32)[:, None],
        "score_kind": "probability",
    }
