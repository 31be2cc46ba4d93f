"""What the pictures of confidence are drawn from: reliability in bins, and risk by coverage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from manyhot.core.reliability import BINS, Outcomes
from manyhot.core.resampling import wilson_interval
from manyhot.core.sets import Case
from manyhot.errors import InputError
from manyhot.tables import schema
from manyhot.tables.definitions import EVENTS

POINTS = 100
"""Of a risk-coverage curve."""

Row = Mapping[str, Any]


def both_events(case: Case) -> dict[str, Outcomes]:
    """Return confidence and being right for both events, over the images that count for both.

    On the same images, so that the labels alone make the difference. Empty where there is none or no
    confidence.
    """
    if case.confidence is None:
        return {}
    image = np.flatnonzero(case.reaching(1, case.labels.labelled & case.labels.scored))
    if not len(image):
        return {}
    right = {"label": case.is_label, "set": case.hit}
    return {event: Outcomes(image, case.confidence[image], right[event][image, 0]) for event in EVENTS}


def reliability_rows(dataset: str, model: str, events: Mapping[str, Outcomes]) -> Iterator[Row]:
    """Yield rows of the reliability table: all images, then each bin of confidence that has any."""
    for event, outcomes in events.items():
        weights = np.ones(len(outcomes.image))
        for bins in (1, BINS):
            found = outcomes.equal_width(weights, bins)
            lo, hi = wilson_interval(found.right, found.weight)
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
    """Yield rows of the risk_coverage table: at most `POINTS` an event, the last one of all images."""
    for event, outcomes in events.items():
        ranked = outcomes.ranked(np.ones(len(outcomes.image)))
        kept = np.round(np.cumsum(ranked.weight)).astype(np.int64)
        # The first threshold at or above each hundredth: equals are kept or left out together.
        at = np.unique(np.searchsorted(ranked.coverage, _grid() - 1e-12))
        for g in at[at < len(kept)]:
            yield {
                "dataset": dataset,
                "model": model,
                "event": event,
                "confidence": float(ranked.confidence[g]),
                "coverage": float(ranked.coverage[g]),
                "risk": float(ranked.risk[g]),
                "n": int(kept[g]),
            }


@dataclass
class Pictured:
    """Collects the tables of confidence, model by model.

    Parameters
    ----------
    dataset : str
    """

    dataset: str
    _reliability: list[Row] = field(default_factory=list)
    _curve: list[Row] = field(default_factory=list)

    def add(self, model: str, case: Case) -> str:
        """Add a model and return what is wrong with its confidences; empty if nothing is, or it has none."""
        try:
            events = both_events(case)
        except InputError as error:
            return f"its confidences are not drawn: {error.what[0].lower()}{error.what[1:-1]}"
        self._reliability += reliability_rows(self.dataset, model, events)
        self._curve += curve_rows(self.dataset, model, events)
        return ""

    def tables(self) -> dict[str, pa.Table]:
        """Return the tables by name; none without a model that has confidences."""
        rows = {"reliability": self._reliability, "risk_coverage": self._curve}
        return {name: pa.Table.from_pylist(r, schema=schema(name)) for name, r in rows.items() if r}


def _grid() -> npt.NDArray[np.float64]:
    return np.arange(1, POINTS + 1) / POINTS
