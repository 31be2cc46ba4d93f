"""Intervals of an audit while answers come in, for the owner's page."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
from numpy import typing as npt

from manyhot import tables
from manyhot.classes import ClassList
from manyhot.core.answers import YES
from manyhot.core.array_types import Bools, Floats, Ints
from manyhot.core.audit_designs import chosen_by_others
from manyhot.core.audit_sequence import sequence_quantile
from manyhot.core.audited import AuditedEstimate, LinearisedValues, estimate
from manyhot.formats import read_images, read_predictions
from manyhot.reassess.app.running_intervals import RunningAudit, RunningInterval
from manyhot.reassess.ensemble import ensemble_of
from manyhot.reassess.status import campaign_models
from manyhot.tables import Campaign, Votes
from manyhot.tables.audit_samples import DrawnSample, read_audit_sample
from manyhot.tables.skipped_files import SkippedFiles

FEWEST_SHOWN = 50
"""Answered images from which intervals are shown: asymptotic sequences hold from a few dozen images on."""

MOST_SHOWN = 10
MOST_PAIRED = 4
"""Models whose accuracies, and differences, are shown, in the order of their names."""


@dataclass(frozen=True, eq=False)
class AuditInProgress:
    """The questions of an audit, and what models predict for its n images, in the order of the sample.

    Attributes
    ----------
    drawn : DrawnSample
    n_classes : int
    models : tuple of str
    best : ndarray of int, shape (n, M)
        The top classes of the models.
    asked : ndarray of int64, shape (Q,)
        Each question as ``place * n_classes + class``, ascending.
    proposed : ndarray of float64, shape (M,)
        Accuracy of each model over all images under the label sets that the other models propose.
    """

    drawn: DrawnSample
    n_classes: int
    models: tuple[str, ...]
    best: Ints
    asked: npt.NDArray[np.int64]
    proposed: Floats

    @classmethod
    def read(cls, home: Campaign, classes: ClassList) -> AuditInProgress | None:
        """Read the audit of a campaign; None if it is not one, or has no predictions."""
        path = home.path("audit_sample")
        models = campaign_models(home)[0] if path.is_file() else []
        if not models:
            return None
        drawn = read_audit_sample(path)
        images = read_images(home.path("images"), classes=classes)
        read = [read_predictions(file, classes=classes) for _, file in models[:MOST_SHOWN]]
        ensemble = ensemble_of(images, read, len(classes), classes.hash, None, SkippedFiles(), labelled=False)
        rows = pc.index_in(drawn.drawn, images.image_id).to_numpy()
        proposals = tables.read(home.path("proposals"), "proposals")
        place = pc.index_in(proposals["image_id"], drawn.drawn).combine_chunks()
        inside = place.is_valid().to_numpy(zero_copy_only=False)
        keys = pc.fill_null(place, 0).to_numpy().astype(np.int64) * len(classes)
        keys += proposals["class_id"].to_numpy()
        means = json.loads(tables.metadata(proposals).get("proposed", "{}"))
        best = np.stack([top[rows, 0] for top in ensemble.top], axis=1)
        proposed = np.array([means.get(name, 0.0) for name in ensemble.names])
        return cls(drawn, len(classes), ensemble.names, best, np.unique(keys[inside]), proposed)

    def intervals(self, votes: Votes, raters: int) -> RunningAudit:
        """Return the intervals from the images that were answered so far, in the order of the sample.

        Parameters
        ----------
        votes : Votes
        raters : int
            Number of answers that a question needs.
        """
        n_answers, n_yes = self._counts(votes)
        n = self._answered(n_answers >= raters)
        if n < FEWEST_SHOWN:
            return RunningAudit(n, len(self.drawn), FEWEST_SHOWN)
        hits, scored = self._hits(2 * n_yes > n_answers, n)
        rows = [*self._estimates(hits, scored, n)]
        return RunningAudit(n, len(self.drawn), FEWEST_SHOWN, tuple(rows))

    def _counts(self, votes: Votes) -> tuple[Ints, Ints]:
        """Return the numbers of answers, and of answers yes, to each question."""
        place = pc.fill_null(pc.index_in(votes.image_id, self.drawn.drawn), -1).to_numpy().astype(np.int64)
        keys = place * self.n_classes + votes.class_id
        at = np.minimum(np.searchsorted(self.asked, keys), len(self.asked) - 1)
        is_asked = (place >= 0) & (self.asked[at] == keys)
        at, counts = at[votes.question], is_asked[votes.question].astype(float)
        size = len(self.asked)
        answers = np.bincount(at, counts, size).astype(np.int64)
        return answers, np.bincount(at, counts * (votes.answer == YES), size).astype(np.int64)

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
        proposed = (chosen_by_others(self.best)[:n] - accuracy) / share
        mean = (self.proposed - accuracy) / share
        values = LinearisedValues(people, proposed, mean, accuracy, self.proposed)
        quantile = sequence_quantile(n, len(self.drawn))
        rows = _rows(self.models, estimate(values, sample), quantile, is_pair=False)
        first, second = np.triu_indices(min(len(self.models), MOST_PAIRED), 1)
        if not len(first):
            return rows
        names = tuple(f"{self.models[a]} − {self.models[b]}" for a, b in zip(first, second, strict=True))
        pairs = estimate(values.differences(first, second), sample)
        return rows + _rows(names, pairs, quantile, is_pair=True)


def _rows(
    names: tuple[str, ...], estimates: AuditedEstimate, quantile: float, *, is_pair: bool
) -> list[RunningInterval]:
    lo, hi = estimates.interval("plain" if is_pair else "logit", quantile=quantile)
    ends = zip(names, estimates.value.tolist(), lo.tolist(), hi.tolist(), strict=True)
    return [RunningInterval(name, value, low, high, is_pair) for name, value, low, high in ends]
