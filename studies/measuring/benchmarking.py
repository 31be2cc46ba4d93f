"""Do single labels and label sets rank networks alike, and which of them tells what will serve elsewhere?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from measuring.uncertainty import swapped

from manyhot.study import Across, Measured, Metric, Row

MULTI = ("real1", "variable_topk", "asma", "map_macro")
"""What ranks networks by label sets."""

SERVES = ("knn_top1", "probe_top1", "few_shot_top1", "probe_map", "segmentation_miou", "detection_ap50")

METRICS = (
    *(Metric(f"swapped_{m}", f"pairs of networks that {m} ranks otherwise than top1", "lower", True) for m in MULTI),
    Metric("swapped_again", "pairs that top1 ranks otherwise on other images, by chance", "lower", True),
    *(Metric(f"tells_{m}", f"order by {m}: pairs that transfer ranks alike", "higher", True) for m in ("top1", *MULTI)),
)


def take(rows: Sequence[Row]) -> Iterator[Measured]:
    """Compare orders of the networks that differ in their arm alone: of one architecture, seed and data set."""
    networks = sorted({row.network for row in rows})
    tables = [_Table(rows, network) for network in networks]
    for metric in MULTI:
        yield _mean(f"swapped_{metric}", [t.swapped("top1", metric) for t in tables])
    yield _mean("swapped_again", [t.again("top1") for t in tables])
    for metric in ("top1", *MULTI):
        alike = [1 - np.mean([t.swapped(metric, other)[0] for other in SERVES]) for t in tables]
        yield Measured(f"tells_{metric}", float(np.mean(alike)), sum(t.n_pairs for t in tables))


class _Table:
    """Values and replicates of all arms of a network, by metric."""

    def __init__(self, rows: Sequence[Row], network: str) -> None:
        mine = [r for r in rows if r.network == network and r.measured.slice == "all"]
        self.arms = sorted({r.arm for r in mine})
        self.n_pairs = len(self.arms) * (len(self.arms) - 1) // 2
        self._by = {(r.measured.metric, r.arm): r.measured for r in mine}

    def values(self, metric: str) -> np.ndarray:
        return np.array([self._by[metric, arm].value for arm in self.arms])

    def drawn(self, metric: str) -> np.ndarray | None:
        """Return the replicates, shape (R, arms)."""
        found = [self._by[metric, arm].replicates for arm in self.arms]
        return None if any(f is None for f in found) else np.stack(found, axis=1)

    def swapped(self, x: str, y: str) -> tuple[float, np.ndarray | None]:
        """Return the share of pairs of arms that two metrics rank differently, and its replicates."""
        dx, dy = self.drawn(x), self.drawn(y)
        drawn = None if dx is None or dy is None or len(dx) != len(dy) else swapped(dx, dy)
        return float(swapped(self.values(x), self.values(y))), drawn

    def again(self, metric: str) -> tuple[float, None]:
        """Return the share of pairs that a metric ranks differently on two redraws of the images."""
        drawn = self.drawn(metric)
        assert drawn is not None
        return float(swapped(drawn, np.roll(drawn, 1, axis=0)).mean()), None


def _mean(name: str, found: Sequence[tuple[float, np.ndarray | None]]) -> Measured:
    """Average over networks."""
    values, drawn = zip(*found, strict=True)
    return Measured(
        name,
        float(np.mean(values)),
        len(values),
        replicates=None if any(d is None for d in drawn) else np.mean(drawn, axis=0),
    )


BENCHMARKING = Across(
    "benchmarking",
    "Orders of the networks by each metric, against one another and against what heads on them reach elsewhere.",
    take,
    METRICS,
)
