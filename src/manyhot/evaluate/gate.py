"""Is the second of two models worse than the first by more than a margin? The verdicts of a gate.

A gate on slices or classes fails if the model is worse on any of them. Their intervals are then widened for
their number m, as if differences were normal: to 1 - 0.05 / m instead of 95 % (Bonferroni), so that a model
that is nowhere worse fails in at most 2.5 % of the cases. To show that a model is nowhere worse
(`non_inferior`), each interval must be below the margin, which needs no correction (Berger 1982, doi
10.2307/1268139).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
from scipy.special import ndtri

from manyhot.core.resampling import LEVEL
from manyhot.errors import InputError, UsageError, counted, first_names
from manyhot.evaluate.class_differences import is_tested, is_unchanged
from manyhot.evaluate.pairwise import (
    Difference,
    differences,
    models_on,
    points_span,
    points_text,
    why_skipped,
    why_untested,
    without_common_metric,
)
from manyhot.evaluate.ranks import leading_metric
from manyhot.evaluate.slice_differences import by_slice
from manyhot.evaluate.slices import ALL
from manyhot.parameters import check_one_of
from manyhot.report.text import Metric
from manyhot.tables import Results

GATE_PARTS = {"slices": "slice", "classes": "class"}
"""The parts of the images on which a gate can also fail, and one of each."""

_SHOWN = 10
"""Slices or classes that a sentence names."""


@dataclass(frozen=True)
class Verdict:
    """What a gate says of a data set.

    Attributes
    ----------
    fails : bool, optional
        Whether the model is worse or, if this must be excluded, may be worse; None if it is not decided.
    line : str
        One sentence.
    """

    dataset: str
    fails: bool | None
    line: str


@dataclass(frozen=True)
class Gate:
    """When a comparison of two models fails.

    Attributes
    ----------
    margin : float
        In points or, for a metric that is not a share, in the metric's unit.
    non_inferior : bool
        Whether it fails unless a loss of more than the margin is excluded.
    parts : sequence of str
        Each is one of `GATE_PARTS`.
    """

    margin: float
    non_inferior: bool = False
    parts: Sequence[str] = ()

    def __post_init__(self) -> None:
        for part in self.parts:
            check_one_of(part, GATE_PARTS, "There is no such part of a gate.", where="`fail_on`")

    def verdicts(
        self, results: Results, classes: pa.Table | None, notes: Sequence[str] = ()
    ) -> Iterator[Verdict]:
        """Yield the verdicts on all images, and on slices and classes.

        Raises
        ------
        UsageError
            If there are not two models, or no slices.
        InputError
            If the models were not compared by class, or only one has a value of the deciding metric.
        """
        for pair in _check_two(results, notes):
            # The lower end of the loss decides or, if a loss must be excluded, the upper end.
            fails = None if pair.loss is None else pair.loss[self.non_inferior] > self.margin
            why = why_untested(results, pair.dataset, pair.metric.name, notes)
            yield Verdict(pair.dataset, fails, _verdict_line(pair, self.margin, why, self.non_inferior))
            for part in dict.fromkeys(self.parts):
                if part == "slices":
                    losses = {d.slice: d.loss for d in by_slice(results, pair.dataset)}
                    what = _size_text(pair.metric, self.margin)
                else:
                    rows = [] if classes is None else classes.to_pylist()
                    losses = {
                        r["key"]: _loss(r) for r in rows if r["dataset"] == pair.dataset and r["n_positives"]
                    }
                    what = f"{self.margin:.2f} points of average precision"
                if not losses:
                    raise _nothing_compared(part)
                yield self._on(part, pair.dataset, pair.model, what, losses)

    def _on(
        self, part: str, dataset: str, model: str, what: str, losses: dict[str, tuple[float, float] | None]
    ) -> Verdict:
        """Return the verdict on slices or classes, from the interval of the loss on each."""
        tested = {name: loss for name, loss in losses.items() if loss is not None}
        untested = [name for name in losses if name not in tested]
        same = [name for name, loss in tested.items() if not any(loss)]  # which nothing has to be tested for
        without = f"; without an interval: {first_names(untested, _SHOWN)}" if untested else ""
        without += f"; the same for both models: {first_names(same, _SHOWN)}" if same else ""
        if self.non_inferior:
            open_ = [name for name, loss in losses.items() if loss is None or loss[1] > self.margin]
            if open_:
                where = first_names(open_, _SHOWN)
                return Verdict(
                    dataset, True, f"Failed: a loss of more than {what} is not excluded on {where}{without}."
                )
            line = f"Passed: {model} does not lose more than {what} on any of {len(losses):,} {part}."
            return Verdict(dataset, False, line)
        m = len(tested) - len(same)
        worse = [name for name, loss in tested.items() if _widened(loss, max(m, 1))[0] > self.margin]
        widened = f"95 % intervals, widened for {counted(m, GATE_PARTS[part])}"
        how = (widened * bool(m) + without).removeprefix("; ")
        if worse:
            line = f"Failed: {model} loses more than {what} on {first_names(worse, _SHOWN)} ({how})."
        elif tested:
            line = (
                f"Passed: a loss of more than {what} is not shown on any of {len(tested):,} {part} ({how})."
            )
        else:
            line = f"Not decided: whether {model} loses more than {what} on {part}: none has an interval."
        return Verdict(dataset, bool(worse) if tested else None, line)


def _check_two(results: Results, notes: Sequence[str]) -> list[Difference]:
    """Return, for each data set, the difference between its two models under the leading metric.

    Raises
    ------
    UsageError
        If the number of models on a data set is not two.
    InputError
        If only one of them has a value of that metric; one of the `notes` may say why.
    """
    found = []
    for dataset in results.datasets:
        models = models_on(results, dataset)
        if len(models) == 1 and (why := why_skipped(notes)) is not None:
            raise InputError("Only one of the models was evaluated.", where=dataset, got=models[0], do=why)
        if len(models) != 2:
            raise UsageError(
                "`fail_if_worse` needs two models: the reference, and the model that may be worse.",
                where=dataset,
                got=f"{len(models):,}: {', '.join(models[:5])}",
            )
        leading = leading_metric(results, dataset)
        pair = next((d for d in differences(results, dataset) if d.metric.name == leading), None)
        if pair is None:
            having = [m for m in models if m in results.values_at.get((dataset, leading, ALL), {})]
            raise InputError(
                f"Only one of the models has a value of the deciding metric, {leading}.",
                where=dataset,
                got=", ".join(having),
                do=without_common_metric(results),
            )
        found.append(pair)
    return found


def _verdict_line(pair: Difference, margin: float, why: str, non_inferior: bool) -> str:
    """Return one sentence that says whether a model is worse than the reference by more than a margin.

    Without an interval, it says why this is not decided; `why` is from `why_untested`. With
    `non_inferior`, a loss of more than the margin must be excluded.
    """
    size, loss = _size_text(pair.metric, margin), pair.loss
    if loss is None:
        no_interval = f"the difference has no interval{why}"
        because = no_interval if pair.same_images else "the models were evaluated on different images"
        return f"Not decided: whether {pair.model} loses more than {size}, because {because}."
    span = f"95 % interval {points_span(pair.metric, *loss)}"
    if loss[0] > margin:
        return f"Failed: {pair.model} loses more than {size} ({span})."
    if loss[1] <= margin:
        return f"Passed: {pair.model} does not lose more than {size} ({span})."
    if non_inferior:
        return f"Failed: a loss of more than {size} is not excluded ({span})."
    return f"Passed: a loss of more than {size} is possible but not shown ({span})."


def _size_text(metric: Metric, size: float) -> str:
    """Return a difference as text, such as ``1.00 points of real1``."""
    return f"{points_text(metric, size)} of {metric.name}"


def _loss(row: dict[str, float]) -> tuple[float, float] | None:
    """Return the interval of the loss of average precision, in points."""
    if is_unchanged(row):
        return 0.0, 0.0
    return (-100 * row["difference_hi"], -100 * row["difference_lo"]) if is_tested(row) else None


def _widened(loss: tuple[float, float], m: int) -> tuple[float, float]:
    """Return a 95 % interval as one of m that hold together."""
    middle, half = sum(loss) / 2, (loss[1] - loss[0]) / 2
    half *= float(ndtri(1 - (1 - LEVEL) / 2 / m) / ndtri((1 + LEVEL) / 2))
    return middle - half, middle + half


def _nothing_compared(part: str) -> UsageError | InputError:
    if part == "slices":
        return UsageError(
            "The comparison cannot fail on slices, because no slices were compared.",
            where="`fail_on`",
            got="slices",
            do="pass `slices`, with predictions, `labels` and `resamples` above 0",
        )
    return InputError(
        "The comparison cannot fail on classes, because no classes were compared.",
        where="`fail_on`",
        got="classes",
        allowed="two models with scores of all classes, and `labels`",
    )
