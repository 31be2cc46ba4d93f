"""How often models are right at each confidence: reliability diagrams and risk-coverage curves."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot.core.array_types import Floats
from manyhot.core.audited import FEWEST_LEFT, AuditedEstimate, linearised_slices, reserve_of
from manyhot.core.estimates import Cells, Ratio, mean_over
from manyhot.core.posterior import combined
from manyhot.core.ratio_intervals import FEWEST_CASES
from manyhot.core.reliability import BINS, Outcomes, Ranked, bin_of
from manyhot.core.sets import Case, LabelSets
from manyhot.core.share_intervals import proportion_interval
from manyhot.errors import InputError
from manyhot.evaluate.audited import AuditedImages
from manyhot.evaluate.requirements import case_for, entries_of
from manyhot.tables import schema
from manyhot.tables.definitions import AUDITED, COUNT, ITS, REAL, TEXT, bounds, declare_table
from manyhot.tables.frames import null_if_nan

EVENTS = ("label", "set")
"""What makes the top class right: being the original label, or in the label set."""

CALIBRATION = "ece_set"
"""The metric whose probabilities, and whose question to people, are those of the reliability table."""

declare_table(
    "reliability",
    (
        TEXT("dataset", "the data set"),
        TEXT("model", "the model"),
        TEXT(
            "event",
            "what makes the top class correct: it is the original label, or it is in the label set",
            values=EVENTS,
        ),
        REAL("from", "lower end of the bin; the bin from 0 to 1 contains all images"),
        REAL("to", "upper end of the bin; only the last bin includes its upper end"),
        REAL("confidence", "mean probability of the top class"),
        REAL("right", "share of images with a correct top class"),
        *bounds(
            "lo",
            "hi",
            f"{ITS} (Wilson; in an audit, by the audit's estimator; null for fewer than 30 images, or if "
            f"answers hardly change the value)",
        ),
        COUNT(
            "n",
            "number of images in the bin that have a non-empty label set and, if any image has one, an "
            "original label",
        ),
        *AUDITED,
    ),
)

declare_table(
    "risk_coverage",
    (
        TEXT("dataset", "the data set"),
        TEXT("model", "the model"),
        TEXT("event", "as in reliability", values=EVENTS),
        REAL("confidence", "lowest confidence of the images that are kept"),
        REAL("coverage", "share of images that are kept"),
        REAL("risk", "share of errors among the images that are kept"),
        COUNT("n", "number of images that are kept"),
    ),
)

POINTS = 100
"""Maximum number of points of a risk-coverage curve."""

Row = Mapping[str, Any]


def events_of(case: Case) -> tuple[str, ...]:
    """Return the events that make the top class right: only ``set`` if there are no original labels."""
    return EVENTS if case.labels.labelled.any() else EVENTS[1:]


def both_events(case: Case) -> dict[str, Outcomes]:
    """Return confidence and correctness for each event, on the images that are counted for all of them.

    All events use the same images, so only the labels differ. The result is empty if there are no such
    images or no confidences.
    """
    if case.confidence is None:
        return {}
    events, scored = events_of(case), case.labels.scored
    image = np.flatnonzero(case.with_top(scored & case.labels.labelled if "label" in events else scored))
    if not len(image):
        return {}
    right = {"label": case.is_label, "set": case.hit}
    outcomes = Outcomes(image, case.confidence[image], right[events[0]][image, 0])
    # What does not depend on correctness is shared.
    return {event: replace(outcomes, right=right[event][image, 0]) for event in events}


def reliability_rows(dataset: str, model: str, events: Mapping[str, Outcomes]) -> Iterator[Row]:
    """Yield rows of the reliability table: all images, then each non-empty bin of confidence."""
    for event, outcomes in events.items():
        for bins in (1, BINS):
            found = outcomes.in_bins(bins)
            lo, hi = proportion_interval(found.right, found.weight)
            for b in np.flatnonzero(found.weight):
                yield {
                    "dataset": dataset,
                    "model": model,
                    "event": event,
                    "from": b / bins,
                    "to": (b + 1) / bins,
                    "confidence": found.confidence[b] / found.weight[b],
                    "right": found.right[b] / found.weight[b],
                    "lo": float(lo[b]),
                    "hi": float(hi[b]),
                    "n": int(found.weight[b]),
                }


def curve_rows(dataset: str, model: str, events: Mapping[str, Outcomes]) -> Iterator[Row]:
    """Yield rows of the risk_coverage table: at most `POINTS` per event, the last for all images."""
    for event, outcomes in events.items():
        for confidence, coverage, risk, kept in zip(*_curve(outcomes.counted()), strict=True):
            yield {
                "dataset": dataset,
                "model": model,
                "event": event,
                "confidence": float(confidence),
                "coverage": float(coverage),
                "risk": float(risk),
                "n": round(float(kept)),
            }


def _curve(ranked: Ranked) -> tuple[Floats, Floats, Floats, Floats]:
    """Return confidence, coverage, risk and weight at the first threshold at or above each hundredth.

    Images of equal confidence are kept or left out together.
    """
    coverage = ranked.coverage
    at = np.unique(np.searchsorted(coverage, np.arange(1, POINTS + 1) / POINTS - 1e-12))
    at = at[at < len(coverage)]
    return ranked.confidence[at], coverage[at], ranked.risk[at], np.cumsum(ranked.weight)[at]


@dataclass
class Pictured:
    """The tables ``reliability`` and ``risk_coverage``, collected model by model."""

    dataset: str
    _reliability: list[Row] = field(default_factory=list)
    _curve: list[Row] = field(default_factory=list)

    def add(
        self, model: str, case: Case, audited: Callable[[Case], tuple[list[Row], str]] | None = None
    ) -> str:
        """Add a model, and return a message about any problem with its confidences; empty if there is none.

        Parameters
        ----------
        audited : callable, optional
            Function that returns the rows of the reliability table of an audit, and a message about any
            problem. An audit has no curves.
        """
        (metric,) = entries_of([CALIBRATION])
        case, wrong = case_for(metric, case), ""
        try:
            events = both_events(case)
            if audited is None:
                self._reliability += reliability_rows(self.dataset, model, events)
                self._curve += curve_rows(self.dataset, model, events)
            elif case.confidence is not None:
                rows, wrong = audited(case)
                self._reliability += rows
        except InputError as error:
            wrong = f"{error.what[0].lower()}{error.what[1:-1]}"
        return wrong and f"its confidences are not drawn: {wrong}"

    def of_models(self, models: Collection[str]) -> list[list[Row]]:
        """Return the rows of both tables of some models."""
        return [[row for row in rows if row["model"] in models] for rows in (self._reliability, self._curve)]

    def restore(self, rows: Sequence[Sequence[Row]]) -> None:
        """Add what `of_models` returned."""
        self._reliability += rows[0]
        self._curve += rows[1]

    def tables(self) -> dict[str, pa.Table]:
        """Return the tables keyed by name; empty if no model has confidences."""
        rows, audited = {"reliability": self._reliability, "risk_coverage": self._curve}, not self._curve
        return {n: pa.Table.from_pylist(r, schema=schema(n, audited=audited)) for n, r in rows.items() if r}


@dataclass(frozen=True)
class AuditedCase:
    """The images that a model predicts, and the audited images among them.

    Attributes
    ----------
    all_rows : ndarray of int
        The rows of all these images in the data set.
    audited : Case
        The audited images, with people's label sets.
    rows : ndarray of int, shape (m,)
        The rows of these images among all audited images.
    draws : list of LabelSets
        Draws of people's label sets for the audited images.
    """

    all_images: Case
    all_rows: npt.NDArray[np.int64]
    audited: Case
    rows: npt.NDArray[np.int64]
    draws: list[LabelSets]

    @classmethod
    def of(cls, case: Case, rows: npt.NDArray[np.int64], images: AuditedImages) -> AuditedCase:
        """Return the audited case of a model; `rows` are the rows of its images in the data set."""
        place = np.full(len(images.sample.design), -1)
        place[rows] = np.arange(len(rows))
        at = place[images.sample.images]
        there = np.flatnonzero(at >= 0)
        sets = [images.people, *images.draws]
        if len(there) < len(at):
            sets = [each.take(there) for each in sets]
        return cls(case, rows, case.take(at[there], sets[0]), there, sets[1:])

    @property
    def drawn(self) -> list[Case]:
        """The audited images with each draw of people's label sets or, without draws, with these sets."""
        return [self.audited.with_labels(sets) for sets in self.draws] or [self.audited]


_EDGES = np.array([(0.0, 1.0), *((b / BINS, (b + 1) / BINS) for b in range(BINS))])


def audited_reliability(images: AuditedImages, dataset: str, model: str, case: AuditedCase) -> Iterator[Row]:
    """Yield rows of the reliability table: all images, then each bin of confidence.

    A bin is left out if fewer than `FEWEST_CASES` audited images are counted in it, or if some of its images,
    but fewer than `FEWEST_LEFT`, were not audited: its estimates are then not approximately normal (unless
    intervals are for the population). In the remaining bins, accuracies on label sets have an interval even
    if people and proposals hardly ever disagree (`reserve` of `manyhot.core.audited.estimate`). If all images
    were audited, only empty bins are left out, and accuracies are exact and have no interval. For original
    labels, the only uncertainty is which images are counted, so accuracies often have no interval.

    Parameters
    ----------
    case : AuditedCase
        The predictions of a model with confidences.
    """
    bins = _Bins(images, case)
    for event in events_of(case.all_images):
        counts = bins.inside & bins.ratios(case.audited, event, case.rows)[0].scored
        n_audited = np.count_nonzero(counts, axis=1)
        n = np.rint(counts @ images.sample.weights * len(images.sample.design)).astype(int)
        confidence, right = bins.estimates(event)
        lo, hi = right.interval("logit" if right.checked else "plain", quantile=images.quantile)
        few = (n_audited < FEWEST_CASES) | bins.almost_whole
        lo, hi = (np.where(few, np.nan, np.clip(end, 0, 1)) for end in (lo, hi))
        shown = (n_audited > 0) & (~few | images.is_whole | (np.arange(len(n)) == 0))
        for i in np.flatnonzero(shown):
            yield {
                "dataset": dataset,
                "model": model,
                "event": event,
                "from": _EDGES[i, 0],
                "to": _EDGES[i, 1],
                "confidence": float(np.clip(confidence.value[i], *_EDGES[i])),
                "right": float(np.clip(right.value[i], 0, 1)),
                "lo": null_if_nan(lo[i]),
                "hi": null_if_nan(hi[i]),
                "n": int(n[i]),
                "estimator": images.audit.estimator,
                "n_audited": int(n_audited[i]),
                "alone": null_if_nan(right.alone[i]),
            }


class _Bins:
    """Bins of confidence as slices of all images, and of the audited ones.

    Attributes
    ----------
    inside : ndarray of bool, shape (1 + B, n)
        The audited images in each bin; the first bin has all.
    almost_whole : ndarray of bool, shape (1 + B,)
        Whether a few images of a bin were not audited, which alone are uncertain.
    """

    def __init__(self, images: AuditedImages, case: AuditedCase) -> None:
        confidence = case.all_images.confidence
        assert confidence is not None
        self._images, self._case = images, case
        at = np.full(len(images.sample.design), -1)
        at[case.all_rows] = bin_of(confidence, BINS)
        masks = np.vstack([at >= 0, at == np.arange(BINS)[:, None]])
        self.inside, self._cells, self._masks = masks[:, images.sample.images], Cells.of(masks), masks
        left = np.count_nonzero(masks, axis=1) - np.count_nonzero(self.inside, axis=1)
        self.almost_whole = (left > 0) & (left < FEWEST_LEFT) & (not images.audit.population)

    def ratios(self, case: Case, event: str, rows: npt.NDArray[np.int64]) -> list[Ratio]:
        """Return two estimates: the mean confidence, and the share of images with a correct top class."""
        n = self.inside.shape[1] if case is not self._case.all_images else len(self._images.sample.design)
        outcomes = both_events(case).get(event)
        counts, confidence, right = np.zeros(n, bool), np.zeros(n), np.zeros(n, bool)
        if outcomes is not None:
            at = rows[outcomes.image]
            counts[at], confidence[at], right[at] = True, outcomes.confidence, outcomes.right
        return [mean_over(confidence, counts), mean_over(right, counts)]

    def estimates(self, event: str) -> list[AuditedEstimate]:
        """Return the estimates of confidence and accuracy in each bin."""
        proposed = self.ratios(self._case.all_images, event, self._case.all_rows)
        draws = [self.ratios(case, event, self._case.rows) for case in self._case.drawn]
        return [
            self._estimate([d[i] for d in draws], ratio, is_open=event == "set" and i > 0)
            for i, ratio in enumerate(proposed)
        ]

    def _estimate(self, audited: list[Ratio], proposed: Ratio, *, is_open: bool) -> AuditedEstimate:
        """Return the estimate; of a value that is open, people may say something else than proposals."""
        sample = self._images.sample
        return combined(
            [
                self._images.estimate(
                    linearised_slices(a, proposed, sample, self.inside, self._cells, own_centre=True),
                    "reliability",
                    reserve=self._reserve(a) if is_open else None,
                )
                for a in audited
            ]
        )

    def _reserve(self, audited: Ratio) -> Floats:
        """Return the variances that one more image adds on which people and proposals disagree."""
        sample = self._images.sample
        total = (self.inside & audited.scored) @ sample.weights
        size = 1 / np.where(total > 0, total, np.inf)
        return reserve_of(size, self._masks, sample, population=self._images.audit.population)
