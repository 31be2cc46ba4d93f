"""Places where models were judged, and what is lost between two of them.

A place is a data set, or a corrupted copy of one. A loss between two places under original labels but not
under label sets is not an error of the model: a label was missing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from manyhot.core.array_types import Floats
from manyhot.core.comparison import NO_INTERVAL
from manyhot.core.corruption_errors import missing_share
from manyhot.core.drop_intervals import drop_intervals, mean_drop_interval
from manyhot.core.ratio_intervals import sampled_interval
from manyhot.report.chapter import in_points
from manyhot.tables import Results, RowDict, list_matrix

SINGLE = "top1"
"""The metric of original labels."""

MULTI = ("real1", "mla")
"""Metrics of label sets with the same criterion: the top class is right."""

COMPARED_METRICS = (SINGLE, *MULTI, "map_macro")
"""Compared between places. Average precision rates more than one class: it has losses, but no share."""


class Score(NamedTuple):
    """A value of a model, with its interval and the number of images."""

    value: float
    lo: float | None
    hi: float | None
    n: int
    n_skipped: int


@dataclass(frozen=True, eq=False)
class Place:
    """The data set or copy of a data set that models were evaluated on.

    Attributes
    ----------
    scores : dict
        The `Score` of each model, by metric.
    samples : dict
        Resampled values, shape (R,), of each model that has resampled values, by metric.
    kind : str, optional
        Kind of corruption; None for a data set, and for the mean over all kinds.
    severity : int, optional
        Severity of the corruption; None for a data set, and for the mean over severities.
    """

    dataset: str
    scores: Mapping[str, Mapping[str, Score]]
    samples: Mapping[str, Mapping[str, Floats]] = field(default_factory=dict)
    kind: str | None = None
    severity: int | None = None

    @property
    def where(self) -> RowDict:
        """The columns that identify the place."""
        return {"dataset": self.dataset, "kind": self.kind, "severity": self.severity}

    def rows(self) -> Iterator[RowDict]:
        """Yield rows of the robustness table."""
        for metric, scores in self.scores.items():
            for model, score in scores.items():
                yield {**self.where, "metric": metric, "model": model, **score._asdict()}

    def matrix(self, metric: str, models: Sequence[str]) -> Floats | None:
        """Return resampled values, shape (M, R), or None if a model has no resampled values."""
        samples = self.samples.get(metric, {})
        if not all(model in samples for model in models):
            return None
        least = min(len(samples[model]) for model in models)
        return np.stack([samples[model][:least] for model in models]) if least else None


def places_of(results: Results, kind: str | None = None, severity: int | None = None) -> list[Place]:
    """Return the data sets of results as places."""
    scores: dict[str, dict[str, dict[str, Score]]] = {d: {} for d in results.datasets}
    for row in results.table.to_pylist():
        if row["slice"] == "all" and row["metric"] in COMPARED_METRICS and np.isfinite(row["value"]):
            score = Score(*(row[name] for name in Score._fields))
            scores[row["dataset"]].setdefault(row["metric"], {})[row["model"]] = score
    return [Place(d, _in_order(s), _samples(results, d), kind, severity) for d, s in scores.items()]


def _in_order(scores: Mapping[str, Mapping[str, Score]]) -> dict[str, Mapping[str, Score]]:
    return {metric: scores[metric] for metric in COMPARED_METRICS if metric in scores}


def _samples(results: Results, dataset: str) -> dict[str, dict[str, Floats]]:
    found: dict[str, dict[str, Floats]] = {}
    for metric in COMPARED_METRICS:
        rows = results.sample_rows.get((dataset, metric, "all"))
        if rows:
            values = list_matrix(results.samples["values"].take(pa.array(list(rows.values()))), np.nan)
            found[metric] = dict(zip(rows, values.astype(np.float64), strict=True))
    return found


def average(places: Sequence[Place], kind: str | None) -> Place:
    """Return the mean over places with the same images, such as the severities of a corruption.

    The intervals are those of the mean. Each resample uses the same images at all places.
    """
    scores: dict[str, dict[str, Score]] = {}
    samples: dict[str, dict[str, Floats]] = {}
    for metric in COMPARED_METRICS:
        everywhere = [p.scores.get(metric, {}) for p in places]
        models = [m for m in everywhere[0] if all(m in at for at in everywhere)]
        for model in models:
            drawn = [d[0] for p in places if (d := p.matrix(metric, [model])) is not None]
            means = np.mean(drawn, axis=0) if len(drawn) == len(places) else None
            if means is not None:
                samples.setdefault(metric, {})[model] = means
            found = _mean_score([at[model] for at in everywhere], means)
            scores.setdefault(metric, {})[model] = found
    return Place(places[0].dataset, scores, samples, kind)


def _mean_score(scores: Sequence[Score], samples: Floats | None) -> Score:
    n, skipped = min(s.n for s in scores), max(s.n_skipped for s in scores)
    value = float(np.mean([s.value for s in scores]))
    ends = NO_INTERVAL if samples is None else sampled_interval(value, samples, n, scale="logit")
    return Score(value, finite(ends[0]), finite(ends[1]), n, skipped)


def finite(value: float | None) -> float | None:
    """Return a value for a table, with None instead of NaN and infinity."""
    return None if value is None or not np.isfinite(value) else float(value)


MODELS_COMPARED = 3
"""Models that are compared with each other, and described one by one instead of by their mean."""

FEWEST_OF_SHARE = 500
"""Minimum number of images for an interval of the share of a loss: with 20 to 100, it holds in 87 to 92 %."""


@dataclass(frozen=True, eq=False)
class _Loss:
    """What models lose under a metric; `samples` has shape (M, R), `lo` and `hi` have shape (M,).

    `of_mean` is the interval of the mean over models.
    """

    models: Sequence[str]
    value: Floats
    samples: Floats | None
    lo: Floats
    hi: Floats
    n: tuple[int, int]
    of_mean: tuple[float, float] = NO_INTERVAL

    @classmethod
    def between(
        cls, base: Place, place: Place, metric: str, paired: bool, models: Sequence[str] | None = None
    ) -> _Loss:
        at, there = base.scores.get(metric, {}), place.scores.get(metric, {})
        names = [m for m in at if m in there] if models is None else models
        x, y = (np.array([s[m][:4] for m in names], np.float64).reshape(-1, 4).T for s in (at, there))
        drawn = (p.matrix(metric, names) if names else None for p in (base, place))
        both = _aligned(*drawn, paired=paired)
        n_x, n_y = (min((s[m].n for m in names), default=0) for s in (at, there))
        lo, hi = drop_intervals(x, y, both, paired=paired)
        of_mean = mean_drop_interval(x, y, both, paired=paired)
        samples = None if both is None else both[0] - both[1]
        return cls(names, x[0] - y[0], samples, lo, hi, (n_x, n_y), of_mean)

    def mean(self) -> _Loss:
        """Return the loss of the mean over models, with an interval only if all models have resamples."""
        samples = None if self.samples is None else self.samples.mean(0, keepdims=True)
        lo, hi = np.array(self.of_mean)[:, None]
        return _Loss([""], self.value.mean(keepdims=True), samples, lo, hi, self.n)

    def beyond(self, one: str, other: str) -> tuple[float, float, float] | None:
        """Return how much more a model loses than another, with its interval; None without resamples."""
        if self.samples is None or not {one, other} <= set(self.models):
            return None
        i, j = self.models.index(one), self.models.index(other)
        value = float(self.value[i] - self.value[j])
        return value, *sampled_interval(value, self.samples[i] - self.samples[j], min(self.n))

    def shares(self, single: _Loss) -> tuple[Floats, Floats, Floats]:
        """Return the share of the loss `single` that is due to missing labels, with its interval."""
        if self.samples is None or single.samples is None:
            return (np.full(len(self.models), np.nan),) * 3
        least = min(self.samples.shape[1], single.samples.shape[1])
        drawn = single.samples[:, :least], self.samples[:, :least]
        share, lo, hi = missing_share(single.value, self.value, *drawn)
        if min(*self.n, *single.n) < FEWEST_OF_SHARE:
            lo = hi = np.full(len(share), np.nan)
        return share, lo, hi


def _aligned(x: Floats | None, y: Floats | None, *, paired: bool) -> tuple[Floats, Floats] | None:
    """Return as many resamples of both places; those of different images are independent."""
    if x is None or y is None:
        return None
    r = min(x.shape[1], y.shape[1])
    # Resamples of different images use one stream of random numbers: shifted by one they are independent.
    return x[:, :r], y[:, :r] if paired else np.roll(y[:, :r], 1, axis=1)


def loss_rows(base: Place, place: Place, *, paired: bool) -> Iterator[RowDict]:
    """Yield rows of the losses table: first the mean over models under each metric, then each model.

    Parameters
    ----------
    paired : bool
        Whether both places have the same images, row for row. If not, their resamples are independent.
    """
    means, each = list[RowDict](), list[RowDict]()
    for metric in COMPARED_METRICS:
        loss = _Loss.between(base, place, metric, paired)
        single = None
        if metric in MULTI and all(m in p.scores.get(SINGLE, {}) for m in loss.models for p in (base, place)):
            single = _Loss.between(base, place, SINGLE, paired, loss.models)
        where = {"base": base.dataset, **place.where, "metric": metric}
        if len(loss.models) > 1:
            mean = next(_rows(loss.mean(), single and single.mean()))
            means.append({**where, **mean, "model": None, "n_models": len(loss.models)})
        each += [{**where, **row} for row in _rows(loss, single)]
    yield from (*means, *each)


def loss_differences(base: Place, place: Place) -> Iterator[str]:
    """Yield how much more each of a few models loses than another, as sentences with paired intervals.

    Both places have the same images, which are resampled together for both models.
    """
    losses = {metric: _Loss.between(base, place, metric, paired=True) for metric in COMPARED_METRICS}
    models = next((loss.models for loss in losses.values() if loss.models), ())
    for one, other in itertools.combinations(models, 2) if len(models) <= MODELS_COMPARED else ():
        found = [(metric, loss.beyond(one, other)) for metric, loss in losses.items()]
        known = [(metric, ends) for metric, ends in found if ends is not None and np.isfinite(ends).all()]
        if not known:
            continue
        if known[0][1][0] < 0:
            one, other = other, one
            known = [(metric, (-value, -hi, -lo)) for metric, (value, lo, hi) in known]
        points = ", ".join(f"{in_points(*ends, 1)} by {metric}" for metric, ends in known)
        where = "on average over corruptions of the same images"
        yield f"points that {one} loses beyond {other}, {where}: {points}"


def _rows(loss: _Loss, single: _Loss | None) -> Iterator[RowDict]:
    nothing = np.full(len(loss.models), np.nan)
    shares = (nothing, nothing, nothing) if single is None else loss.shares(single)
    names = ("loss", "lo", "hi", "share", "share_lo", "share_hi")
    for model, *values in zip(loss.models, loss.value, loss.lo, loss.hi, *shares, strict=True):
        row: RowDict = {"model": model, "n_base": loss.n[0], "n": loss.n[1], "n_models": 1}
        yield row | dict(zip(names, map(finite, values), strict=True))
