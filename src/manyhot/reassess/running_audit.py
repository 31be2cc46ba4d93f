"""Intervals of an audit while answers come in, for the owner's page."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
from numpy import typing as npt

from manyhot import tables
from manyhot.classes import ClassList
from manyhot.core.answers import Answers
from manyhot.core.array_types import Bools, Floats, Ints
from manyhot.core.audit_designs import chosen_by_others
from manyhot.core.audit_sequence import sequence_quantile
from manyhot.core.audited import (
    FEWEST_EFFECTIVE,
    AuditedEstimate,
    LinearisedValues,
    Power,
    estimate,
)
from manyhot.core.distinct import distinct_keys
from manyhot.formats import read_images, read_predictions
from manyhot.reassess.app.running_intervals import RunningAudit, RunningInterval
from manyhot.reassess.ensemble import ensemble_of
from manyhot.reassess.status import campaign_models
from manyhot.registry import get
from manyhot.tables import Campaign, Votes
from manyhot.tables.audit_samples import DrawnSample, read_audit_sample
from manyhot.tables.skipped_files import SkippedFiles

FEWEST_SHOWN = 50
"""Answered images from which intervals are shown: asymptotic sequences hold from a few dozen images on."""

_WITHOUT_INTERVAL = (
    f"There is no interval (–) while the variance comes from fewer than {FEWEST_EFFECTIVE} images with "
    f"answers, or a single image could double it."
)

MOST_SHOWN = 10
MOST_PAIRED = 4
"""Models whose accuracies, and differences, are shown, in the order of their names."""


@dataclass(frozen=True, eq=False)
class AuditInProgress:
    """The questions of an audit, and models' predictions for its n images, in the order of the sample.

    Attributes
    ----------
    drawn : DrawnSample
    n_classes : int
    models : tuple of str
        The M models that are shown.
    best : ndarray of int, shape (n, M)
        The top classes of these models.
    asked : ndarray of int64, shape (Q,)
        Each question as ``place * n_classes + class``, ascending.
    chosen : ndarray of bool, shape (n, M)
        Whether a model's top class is proposed by the other models with which the audit was drawn.
    proposed : ndarray of float64, shape (M,)
        The mean of `chosen` over all images of the population.
    power : float or "tuned"
        As in `manyhot.core.audited.estimate`; 0 if predictions that `chosen` needs are missing.
    notes : tuple of str
        Notes on models that are not shown, and on predictions that are missing.
    """

    drawn: DrawnSample
    n_classes: int
    models: tuple[str, ...]
    best: Ints
    asked: npt.NDArray[np.int64]
    chosen: Bools
    proposed: Floats
    power: Power = "tuned"
    notes: tuple[str, ...] = ()

    @classmethod
    def read(cls, home: Campaign, classes: ClassList) -> AuditInProgress | None:
        """Read the audit of a campaign; None if the campaign is not an audit, or has no predictions."""
        path = home.path("audit_sample")
        if not path.is_file():
            return None
        drawn = read_audit_sample(path)
        proposals = tables.read(home.path("proposals"), "proposals")
        # The means over all images are of these models: with others, the estimates would be biased.
        means: dict[str, float] = json.loads(tables.metadata(proposals).get("proposed", "{}"))
        names, best, later = _top_classes(home, classes, drawn, means)
        if not names:
            return None
        place = pc.index_in(proposals["image_id"], drawn.drawn).combine_chunks()
        inside = place.is_valid().to_numpy(zero_copy_only=False)
        keys = pc.fill_null(place, 0).to_numpy().astype(np.int64) * len(classes)
        keys += proposals["class_id"].to_numpy()
        missing = [name for name in means if name not in names]
        return cls(
            drawn,
            len(classes),
            names[:MOST_SHOWN],
            best[:, :MOST_SHOWN],
            distinct_keys(keys[inside]),
            chosen_by_others(best)[:, :MOST_SHOWN],
            np.array([means[name] for name in names[:MOST_SHOWN]]),
            0.0 if missing else "tuned",
            tuple(_notes(len(names), later, missing)),
        )

    def intervals(self, votes: Votes, raters: int) -> RunningAudit:
        """Return the intervals from the images answered so far, in the order of the sample.

        Parameters
        ----------
        votes : Votes
        raters : int
            Number of answers that a question needs.
        """
        answers = self._answers(votes)
        n = self._answered(answers.counts().sum(axis=1) >= raters)
        rows = []
        if n >= FEWEST_SHOWN:
            # A tie is no, as `auto` mostly decides: most classes that people are asked about are not valid.
            rows = self._estimates(*self._hits(get("aggregator", "majority")(answers).p > 0.5, n), n)
        notes = (*self.notes, *([_WITHOUT_INTERVAL] if any(math.isnan(row.lo) for row in rows) else []))
        return RunningAudit(n, len(self.drawn), FEWEST_SHOWN, tuple(rows), notes)

    def _answers(self, votes: Votes) -> Answers:
        """Return the answers to the questions of the audit."""
        place = pc.fill_null(pc.index_in(votes.image_id, self.drawn.drawn), -1).to_numpy().astype(np.int64)
        keys = place * self.n_classes + votes.class_id
        at = np.minimum(np.searchsorted(self.asked, keys), len(self.asked) - 1)
        own = ((place >= 0) & (self.asked[at] == keys))[votes.question]
        rater, answer = votes.rater[own], votes.answer[own]
        return Answers(at[votes.question[own]], rater, answer, len(self.asked), votes.n_raters)

    def _answered(self, is_done: Bools) -> int:
        """Return how many images have all their answers, up to the first one in the sample that has not."""
        open_places = self.asked[~is_done] // self.n_classes
        return int(open_places.min()) if len(open_places) else len(self.drawn)

    def _hits(self, is_yes: Bools, n: int) -> tuple[Bools, Bools]:
        """Return whether the top class of each model is in people's label set, and whether that has any."""
        valid = self.asked[is_yes]
        keys = np.arange(n)[:, None] * self.n_classes + self.best[:n]
        scored = np.bincount(valid // self.n_classes, minlength=n)[:n] > 0
        return np.isin(keys, valid), scored

    def _estimates(self, hits: Bools, scored: Bools, n: int) -> list[RunningInterval]:
        sample = self.drawn.sample.first(n)
        share = sample.weights @ scored
        if not share:
            return []
        accuracy = sample.weights @ hits / share
        people = (hits - accuracy * scored[:, None]) / share
        proposed = (self.chosen[:n] - accuracy) / share
        mean = (self.proposed - accuracy) / share
        values = LinearisedValues(people, proposed, mean, accuracy, self.proposed)
        planned = len(self.drawn)
        found = estimate(values, sample, power=self.power)
        rows = _rows(self.models, found, sequence_quantile(n, planned), is_pair=False)
        first, second = np.triu_indices(min(len(self.models), MOST_PAIRED), 1)
        if not len(first):
            return rows
        names = tuple(f"{self.models[a]} − {self.models[b]}" for a, b in zip(first, second, strict=True))
        pairs = estimate(values.differences(first, second), sample, power=self.power)
        # All pairs together, as whoever stops at the first clear one has looked at all of them.
        return rows + _rows(names, pairs, sequence_quantile(n, planned, len(names)), is_pair=True)


def _top_classes(
    home: Campaign, classes: ClassList, drawn: DrawnSample, models: Collection[str]
) -> tuple[tuple[str, ...], Ints, list[str]]:
    """Return which of the models have predictions, their top classes, shape (n, M), and all other models."""
    files = campaign_models(home)[0]
    later = [name for name, _ in files if name not in models]
    read = [read_predictions(file, classes=classes) for name, file in files if name in models]
    if not read:
        return (), np.empty((len(drawn), 0), np.int64), later
    images = read_images(home.path("images"), classes=classes)
    ensemble = ensemble_of(images, read, len(classes), classes.hash, None, SkippedFiles(), labelled=False)
    rows = pc.index_in(drawn.drawn, images.image_id).to_numpy()
    return ensemble.names, np.stack([top[rows, 0] for top in ensemble.top], axis=1), later


def _notes(n_models: int, later: Sequence[str], missing: Sequence[str]) -> Iterator[str]:
    if n_models > MOST_SHOWN:
        yield f"The first {MOST_SHOWN} of {n_models} models by name are shown."
    if later:
        yield (
            f"Not shown: {', '.join(later)}. The audit was drawn without these predictions, so people may "
            "not have been asked about the classes of these models."
        )
    if missing:
        yield (
            f"Predictions are missing: {', '.join(missing)}. The intervals use only people's answers, "
            "without proposed label sets, and may be wider."
        )


def _rows(
    names: tuple[str, ...], estimates: AuditedEstimate, quantile: float, *, is_pair: bool
) -> list[RunningInterval]:
    lo, hi = estimates.interval("plain" if is_pair else "logit", quantile=quantile)
    ends = zip(names, estimates.value.tolist(), lo.tolist(), hi.tolist(), strict=True)
    return [RunningInterval(name, value, low, high, is_pair) for name, value, low, high in ends]
