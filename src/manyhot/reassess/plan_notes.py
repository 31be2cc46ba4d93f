"""Notes of a plan: what its width is worth, and when a plain sample is as good."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from manyhot.core.audited import FEWEST_EFFECTIVE
from manyhot.reassess.pilots import Pilot, PlannedDesign
from manyhot.tables import Row

PlanGoal = Literal["width", "difference", "drop", "ranks", "hours"]

AS_GOOD = 1.1
"""Ratio of the numbers of images up to which a plain sample counts as good as another design."""

NEARLY_ALL = 0.9
"""Share of the images from which a sample saves little."""

NO_PILOT = (
    "without a pilot, widths assume data like ImageNet: on CIFAR-10 and PASCAL VOC, the median interval was "
    "0.4 to 1.1 times as wide as planned, so have people label a pilot of 250 images first"
)
"""`benchmarks/audit_plans.py` has the figures."""

FEWEST_ANSWERED = 250
"""Images below which a note says that coverage was not shown; `benchmarks/audited.py` has it."""


def plan_notes(
    goal: PlanGoal, arms: Sequence[PlannedDesign], rows: Sequence[Row], basis: Pilot
) -> Iterator[str]:
    """Yield notes on a plan.

    Parameters
    ----------
    goal : str
        What the plan is for.
    arms : sequence of PlannedDesign
    rows : sequence of Mapping
        The table ``plan``, the design with the fewest images first.
    basis : Pilot
    """
    yield from _doubts(arms, basis)
    yield from _without_interval(arms, rows, basis)
    yield from _savings(goal, rows, basis)


def _doubts(arms: Sequence[PlannedDesign], basis: Pilot) -> Iterator[str]:
    """Yield why a width is not promised."""
    if not basis.n_answered:
        yield NO_PILOT
    few = {_name(arm): least for arm in arms if (least := _least(arm)) < FEWEST_EFFECTIVE}
    if few:
        least = min(few.values())
        enough = "use a larger pilot: one without any disagreement is not informative"
        if least >= 1:
            size = FEWEST_EFFECTIVE * basis.n_answered / least
            enough = f"use a pilot of about {math.ceil(size / 50) * 50:,} images"
        yield (
            f"the pilot is too small for a reliable width of {', '.join(few)}: the variance comes from only "
            f"{least:.0f} of its {basis.n_answered:,} images, and {FEWEST_EFFECTIVE} are needed. In 8 of 10 "
            "such audits, the width of the interval is within the range in brackets. To plan reliably, "
            f"{enough}"
        )


def _without_interval(arms: Sequence[PlannedDesign], rows: Sequence[Row], basis: Pilot) -> Iterator[str]:
    """Yield which designs have too few images for an interval, as with given hours."""
    images = {(r["question"], r["design"], r["estimator"]): r["images"] for r in rows}
    for arm in arms:
        n = images[arm.question, arm.design, arm.estimator]
        fewest = math.ceil(float(arm.variance.fewest.max()) - 1e-9)
        if n < min(fewest, basis.n_images):
            yield (
                f"with {n:,} images, {_name(arm)} may have no interval; with {fewest:,} images, most audits "
                "have one"
            )


def _name(arm: PlannedDesign) -> str:
    return f"{arm.question}: {arm.design} {arm.estimator}"


def _least(arm: PlannedDesign) -> float:
    """Return how many images of a pilot make up the variance of the model or pair with the fewest."""
    return float(np.min(arm.variance.pilot))


def _savings(goal: PlanGoal, rows: Sequence[Row], basis: Pilot) -> Iterator[str]:
    """Yield when a plain sample is as good, and when it saves little."""
    first = rows[0]
    plain = next(r for r in rows if r["estimator"] == "sample" and r["question"] == first["question"])
    if goal != "hours" and plain["images"] <= AS_GOOD * first["images"]:
        yield (
            f"a plain sample of {plain['images']:,} images is about as good as the best design: label sets "
            f"proposed by models save only {1 - first['images'] / plain['images']:.0%} of the images"
        )
    if first["images"] >= NEARLY_ALL * basis.n_images:
        yield f"a sample saves little: {first['images']:,} of {basis.n_images:,} images are needed"
    elif first["images"] < FEWEST_ANSWERED:
        yield (
            f"{first['images']:,} images are few: intervals require at least about 10 images on which people "
            f"and proposals disagree, and their coverage was tested only for {FEWEST_ANSWERED} or more images"
        )
    if goal == "ranks":
        yield "each pair is tested separately, without a correction for the number of pairs"
