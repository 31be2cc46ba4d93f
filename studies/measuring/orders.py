"""Whether two metrics rank networks alike that differ in nothing but their arm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manyhot.study import Across, Measurement, RunMeasurement, StudyMetric
from measuring.uncertainty import swapped

MULTI = ("real1", "variable_topk", "asma", "map_macro")
"""What ranks networks by label sets."""

SERVES = ("knn_top1", "probe_top1", "few_shot_top1", "probe_map", "segmentation_miou", "detection_ap50")
"""What a network is worth elsewhere."""

TRUST = ("ece", "brier", "aurc", "error_auroc")
"""By label; with ``_set`` by label set."""

Reals = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Arms:
    """The numbers of all arms of one data set, network and seed.

    Attributes
    ----------
    names : tuple of str
    by : Mapping of (str, str) to Measured
        By metric and arm.
    """

    names: tuple[str, ...]
    by: Mapping[tuple[str, str], Measurement]

    @classmethod
    def each(cls, rows: Sequence[RunMeasurement]) -> list[Arms]:
        """Return those of each network."""
        found = []
        for network in sorted({row.network for row in rows}):
            mine = [r for r in rows if r.network == network and r.measurement.slice == "all"]
            names = tuple(sorted({r.arm for r in mine}))
            found.append(cls(names, {(r.measurement.metric, r.arm): r.measurement for r in mine}))
        return found

    @property
    def n_pairs(self) -> int:
        """The number of pairs of arms."""
        return len(self.names) * (len(self.names) - 1) // 2

    def values(self, metric: str) -> Reals:
        """Return a metric of each arm."""
        return np.array([self.by[metric, arm].value for arm in self.names])

    def drawn(self, metric: str) -> Reals:
        """Return it on redraws of the images, shape (R, arms)."""
        found = [self.by[metric, arm].replicates for arm in self.names]
        return np.stack([f for f in found if f is not None], axis=1)

    def again(self, metric: str) -> float:
        """Return the share of pairs of arms that a metric ranks otherwise on other images, by chance alone.

        Two redraws of the images are as far apart as two sets of as many images.
        """
        drawn = self.drawn(metric)
        return float(swapped(drawn, np.roll(drawn, 1, axis=0)).mean())


def _pairs_swapped(each: Sequence[Arms], name: str, one: str, other: str) -> Iterator[Measurement]:
    """Compare two orders, and one of them with itself on other images."""
    n = sum(arms.n_pairs for arms in each)
    value = np.mean([swapped(arms.values(one), arms.values(other)) for arms in each])
    drawn = np.mean([swapped(arms.drawn(one), arms.drawn(other)) for arms in each], axis=0)
    yield Measurement(f"swapped_{name}", float(value), n, replicates=drawn)


def _of_accuracy(rows: Sequence[RunMeasurement]) -> Iterator[Measurement]:
    each = Arms.each(rows)
    n = sum(arms.n_pairs for arms in each)
    for metric in MULTI:
        yield from _pairs_swapped(each, metric, "top1", metric)
    yield Measurement("by_chance", float(np.mean([arms.again("top1") for arms in each])), n)
    for metric in ("top1", *MULTI):
        alike = [1 - swapped(arms.values(metric), arms.values(other)) for arms in each for other in SERVES]
        yield Measurement(f"tells_{metric}", float(np.mean(alike)), n)


def _of_trust(rows: Sequence[RunMeasurement]) -> Iterator[Measurement]:
    each = Arms.each(rows)
    for metric in TRUST:
        yield from _pairs_swapped(each, metric, metric, f"{metric}_set")
        chance = float(np.mean([arms.again(metric) for arms in each]))
        yield Measurement(f"by_chance_{metric}", chance, sum(arms.n_pairs for arms in each))


ORDERS = Across(
    "orders",
    "Pairs of networks that two metrics rank differently, of those that differ in their arm alone; and "
    "whether a metric ranks them as heads on their features do.",
    _of_accuracy,
    (
        *(
            StudyMetric(
                f"swapped_{m}", f"share of pairs in another order by {m} than by top1", "lower", percent=True
            )
            for m in MULTI
        ),
        StudyMetric(
            "by_chance", "share of pairs in another order by top1 on other images", "lower", percent=True
        ),
        *(
            StudyMetric(f"tells_{m}", f"share of pairs in the order of transfer by {m}", percent=True)
            for m in ("top1", *MULTI)
        ),
    ),
)

ORDERS_OF_TRUST = Across(
    "orders-of-trust",
    "Pairs of networks that a measure of trust ranks by label otherwise than by label set, of those that "
    "differ in their arm alone.",
    _of_trust,
    (
        *(
            StudyMetric(
                f"swapped_{m}", f"share of pairs in another order by {m} and label set", "lower", percent=True
            )
            for m in TRUST
        ),
        *(
            StudyMetric(
                f"by_chance_{m}",
                f"share of pairs in another order by {m} on other images",
                "lower",
                percent=True,
            )
            for m in TRUST
        ),
    ),
)
