"""Metrics under the posterior of the label sets: values, intervals over raters and images, pairs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot.console import table_lines
from manyhot.core.array_types import Floats
from manyhot.core.audit_samples import AuditSample
from manyhot.core.audited import AuditedEstimate
from manyhot.core.estimates import Pooled
from manyhot.core.posterior import (
    FEWEST_DRAWS,
    adjusted_probabilities,
    draw_sets,
    share_above,
    weighted_values,
)
from manyhot.core.resampling import centred_interval, draw_counts, percentile_interval
from manyhot.core.sets import YES, Case, LabelSets
from manyhot.errors import InputError, UsageError
from manyhot.evaluate.compared_pairs import ComparedPairs
from manyhot.evaluate.prediction_checks import ascends
from manyhot.evaluate.requirements import case_for, depends_on_sets
from manyhot.evaluate.result_rows import Note
from manyhot.evaluate.slices import ALL
from manyhot.registry import Entry
from manyhot.report.text import Metric
from manyhot.report.text import metric as metric_named
from manyhot.tables import Row, schema
from manyhot.tables.definitions import COUNT, FLAG, REAL, TEXT, bounds, declare_table
from manyhot.tables.result_tables import describe_metric, headline

_MOST_ENTRIES = 60_000_000
"""Entries of all draws up to which the draws are stored (500 MB) instead of drawn again for each model."""

_BOTH = "the 95 % interval over raters and images"

declare_table(
    "posterior",
    (
        TEXT("dataset", "the data set"),
        TEXT("model", "the model"),
        TEXT("metric", "a registered name, with its options"),
        REAL("fixed", "value on the label sets themselves, without draws"),
        REAL("value", "mean over the draws of label sets; NaN if undefined"),
        *bounds("lo", "hi", _BOTH),
        *bounds("lo_raters", "hi_raters", "the 95 % interval over raters alone, on these images"),
        COUNT("draws", "number of draws of label sets"),
        COUNT("n", "number of images that the metric counts, averaged over the draws"),
    ),
)

declare_table(
    "posterior_pairs",
    (
        TEXT("dataset", "the data set"),
        TEXT("metric", "a registered name, with its options"),
        TEXT("model_a", "of the two models, the one that was passed first"),
        TEXT("model_b", "the other model"),
        REAL("difference_fixed", "value of model_b minus value of model_a on the label sets, without draws"),
        REAL("difference", "mean over the draws of the value of model_b minus the value of model_a"),
        *bounds("lo", "hi", _BOTH),
        REAL("above", "share of draws of label sets and images in which model_b has the higher value"),
        REAL("above_raters", "the same share, but over draws of the label sets only"),
        FLAG.nullable(
            "decided_fixed",
            "whether the interval of the difference on the label sets, without draws, excludes 0; null if "
            "there is no interval",
        ),
        FLAG("decided", "whether lo and hi exclude 0"),
    ),
)


@dataclass
class Posterior:
    """Draws of label sets, on which models are evaluated one model at a time.

    Parameters
    ----------
    sets : LabelSets
        The label sets of all labelled images, with probabilities.
    draws : int
        Number of draws S.
    resamples : int
        Number R of resamples of the images. Resample r is evaluated on draw ``r % S``, so that the values
        vary over raters and images together. Metrics that are not ratios have S resamples.
    values : dict of tuple of str to PosteriorSamples
        The values of the models added so far, by metric and model.
    """

    dataset: str
    sets: LabelSets
    draws: int
    resamples: int
    seed: int
    values: dict[tuple[str, str], PosteriorSamples] = field(default_factory=dict)
    _drawn: dict[int, LabelSets] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_probabilities(self.sets, self.dataset)
        n = len(self.sets)
        self._counts = draw_counts(n, self.resamples, np.random.default_rng([self.seed, n]))

    @property
    def depth(self) -> int:
        """The size of the largest label set that can be drawn."""
        assert self.sets.p is not None
        possible = np.bincount(self.sets.rows[~(self.sets.p == 0)], minlength=1)
        return 1 if self.sets.exclusive else int(possible.max())

    def add(self, model: str, case: Case, metrics: Sequence[Entry], rows: npt.NDArray[np.int64]) -> None:
        """Evaluate a model on all draws.

        Parameters
        ----------
        metrics : sequence of Entry
            The metrics to evaluate. Metrics of original labels and of shares of votes are left out.
        rows : ndarray of int64, shape (n,)
            The rows of the label sets that belong to the images of the case.
        """
        judged = [m for m in metrics if depends_on_sets(m) and not m.about.get("votes")]
        cases = {m.name: case_for(m, case) for m in judged}
        samples = {m.name: PosteriorSamples(m(cases[m.name]).value()) for m in judged}
        is_whole = len(rows) == len(self.sets) and ascends(rows)
        for draw in range(self.draws):
            drawn = self._draw(draw)
            labels = drawn if is_whole else drawn.take(rows)
            counts = self._counts[draw :: self.draws]
            weights = (counts if is_whole else counts[:, rows]).astype(np.float64)
            for metric in judged:
                samples[metric.name].add(metric(cases[metric.name].with_labels(labels)), weights)
        self.values |= {(name, model): of for name, of in samples.items()}

    def _draw(self, draw: int) -> LabelSets:
        """Return a draw, which is the same for all models."""
        if draw in self._drawn:
            return self._drawn[draw]
        drawn = draw_sets(self.sets, np.random.default_rng([self.seed, draw]))
        if self.draws * len(self.sets.classes) <= _MOST_ENTRIES:
            self._drawn[draw] = drawn
        return drawn

    def tables(self, pairs: pa.Table, compared: ComparedPairs) -> dict[str, pa.Table]:
        """Return the tables ``posterior`` and ``posterior_pairs``.

        `pairs` is the pairs table on the fixed label sets.
        """
        rows = [
            {"dataset": self.dataset, "model": model, "metric": metric, **samples.row()}
            for (metric, model), samples in self.values.items()
        ]
        rows_of_pairs = list(self._pairs(_fixed(pairs), compared))
        return {
            "posterior": pa.Table.from_pylist(rows, schema=schema("posterior")),
            "posterior_pairs": pa.Table.from_pylist(rows_of_pairs, schema=schema("posterior_pairs")),
        }

    def _pairs(
        self, fixed: Mapping[tuple[str, str, str], bool], compared: ComparedPairs
    ) -> Iterator[dict[str, Any]]:
        for metric in dict.fromkeys(metric for metric, _ in self.values):
            models = [model for name, model in self.values if name == metric]
            for a, b in compared.among(models):
                pair = _compare(self.values[metric, a], self.values[metric, b])
                names = {"dataset": self.dataset, "metric": metric, "model_a": a, "model_b": b}
                yield {**names, **pair, "decided_fixed": fixed.get((metric, a, b))}


@dataclass
class PosteriorSamples:
    """The values of a metric of a model: on the fixed sets, on each draw, and on resamples of each draw."""

    fixed: float
    is_pooled: bool = False
    raters: list[float] = field(default_factory=list)
    both: list[Floats] = field(default_factory=list)
    n: list[int] = field(default_factory=list)

    def add(self, estimate: Any, weights: Floats) -> None:
        """Add the values on one draw: over all images, and on resamples with `weights`, shape (r, n)."""
        self.is_pooled = isinstance(estimate, Pooled)
        self.raters.append(estimate.value())
        self.both.append(weighted_values(estimate, weights[:1] if self.is_pooled else weights))
        self.n.append(int(np.count_nonzero(estimate.scored)))

    @property
    def joint(self) -> Floats:
        """The values over draws and resamples together."""
        return np.concatenate(self.both)

    @property
    def value(self) -> float:
        """The mean over the draws in which the metric is defined."""
        defined = np.array(self.raters)[~np.isnan(self.raters)]
        return float(defined.mean()) if len(defined) else float("nan")

    def row(self) -> dict[str, Any]:
        """Return the columns of the table ``posterior``."""
        lo, hi = _ends(self.joint, self.value, self.is_pooled)
        lo_raters, hi_raters = _ends(np.array(self.raters), self.value, False)
        ends = {"lo": lo, "hi": hi, "lo_raters": lo_raters, "hi_raters": hi_raters}
        counts = {"draws": len(self.raters), "n": round(float(np.mean(self.n)))}
        return {"fixed": self.fixed, "value": self.value, **ends, **counts}


def check_probabilities(sets: LabelSets, name: str) -> None:
    """Raise an error if label sets have no probabilities."""
    if sets.p is None or np.isnan(sets.p).all():
        raise InputError(
            "The labels have no probabilities from which label sets can be drawn.",
            where=name or None,
            allowed="labels with the column p, from votes or counts of votes",
            do="leave out `posterior`, or aggregate the votes: manyhot aggregate DATASET",
        )


def _ends(samples: Floats, value: float, is_pooled: bool) -> tuple[float | None, float | None]:
    """Return the ends of an interval, or None. Resampling shifts metrics that are not ratios."""
    if not len(samples) or np.isnan(samples).all():
        return None, None
    if is_pooled:
        return centred_interval(samples, value)
    lo, hi = percentile_interval(samples[None])
    return float(lo[0]), float(hi[0])


def _compare(a: PosteriorSamples, b: PosteriorSamples) -> dict[str, Any]:
    """Return the columns of a pair that describe the difference b - a."""
    raters = (np.array(b.raters) - np.array(a.raters)).tolist()
    difference = PosteriorSamples(b.fixed - a.fixed, a.is_pooled, raters, [b.joint - a.joint])
    lo, hi = _ends(difference.joint, difference.value, a.is_pooled)
    return {
        "difference_fixed": difference.fixed,
        "difference": difference.value,
        "lo": lo,
        "hi": hi,
        "above": share_above(a.joint, b.joint),
        "above_raters": share_above(np.array(a.raters), np.array(b.raters)),
        "decided": lo is not None and hi is not None and (lo > 0 or hi < 0),
    }


def _fixed(pairs: pa.Table) -> dict[tuple[str, str, str], bool]:
    """Return whether each pair's interval, if any, excludes 0, keyed by metric and models."""
    columns = (pairs[name].to_pylist() for name in ("metric", "model_a", "model_b", "slice", "lo", "hi"))
    return {
        (metric, a, b): bool(lo > 0 or hi < 0)
        for metric, a, b, name, lo, hi in zip(*columns, strict=True)
        if name == ALL and lo is not None and hi is not None and lo == lo
    }


def headline_rows(posterior: pa.Table) -> list[Row]:
    """Return the rows of the headline metrics, or of all metrics if there is no headline metric."""
    rows = [row for row in posterior.to_pylist() if row["value"] == row["value"]]
    first = [row for row in rows if row["metric"] in headline()]
    return first or rows


def posterior_lines(tables: Mapping[str, pa.Table]) -> Iterator[str]:
    """Yield, one data set at a time, the values under the posterior, and how many pairs clearly differ."""
    for dataset in tables["posterior"]["dataset"].unique().to_pylist() if tables else ():
        rows = [row for row in headline_rows(tables["posterior"]) if row["dataset"] == dataset]
        if rows:
            yield f"{dataset}: values under the posterior of the label sets, {rows[0]['draws']:,} draws"
            yield from table_lines(_HEADS, [*map(_value_cells, rows[:VALUES_PRINTED])])
        if len(rows) > VALUES_PRINTED:
            yield f"the first {VALUES_PRINTED} of {len(rows):,}; the table posterior has all of them"
    yield from decided_lines(tables)


VALUES_PRINTED = 12
"""Number of values under the posterior that are printed for a data set."""

_HEADS = ("", "model", "metric", "without draws", "posterior, raters and images", "raters alone", "n")


def _value_cells(row: Row) -> tuple[str, ...]:
    metric = metric_named(row["metric"])
    return (
        "",
        row["model"],
        row["metric"],
        f"{metric.text(row['fixed'], 2)}{metric.unit}",
        posterior_interval(metric, row["value"], row["lo"], row["hi"]),
        posterior_ends(metric, row["lo_raters"], row["hi_raters"]) or "–",
        f"{row['n']:,}",
    )


def posterior_interval(metric: Metric, value: float, lo: float | None, hi: float | None) -> str:
    """Return a value with its unit and, if there is one, its interval."""
    ends = posterior_ends(metric, lo, hi)
    return f"{metric.text(value, 2)}{metric.unit}{f' ({ends})' if ends else ''}"


def posterior_ends(metric: Metric, lo: float | None, hi: float | None) -> str:
    """Return the ends of an interval; an empty text if there is none."""
    return "" if lo is None or hi is None else f"{metric.text(lo, 2)} to {metric.text(hi, 2)}"


def decided_lines(tables: Mapping[str, pa.Table]) -> Iterator[str]:
    """Yield, for each data set, how many pairs clearly differ in headline metrics, with and without draws."""
    pairs = tables["posterior_pairs"].to_pylist() if tables else []
    known = [p for p in pairs if p["metric"] in headline() and p["difference"] == p["difference"]]
    labels: dict[tuple[str, int, int, int], list[str]] = {}
    for dataset, metric in dict.fromkeys((p["dataset"], p["metric"]) for p in known):
        rows = [p for p in known if (p["dataset"], p["metric"]) == (dataset, metric)]
        fixed = [p for p in rows if p["decided_fixed"]]
        counts = dataset, len(rows), len(fixed), sum(p["decided"] for p in fixed)
        labels.setdefault(counts, []).append(describe_metric(metric).get("label", metric))
    for (dataset, n, n_fixed, n_both), names in labels.items():
        yield (
            f"{dataset}, pairs of models with a clear difference in {', '.join(names)}: {n_fixed:,} of "
            f"{n:,} on the label sets themselves, and {n_both:,} of these under the posterior of the label "
            "sets as well"
        )


ONE_PRIOR = ("auto", "dawid-skene", "one-coin")
"""Aggregators under which proposed classes are as often valid as others; their probabilities are adjusted."""


def draw_people(
    people: LabelSets,
    proposed: LabelSets,
    sample: AuditSample,
    draws: int,
    seed: int,
    name: str,
    methods: Collection[str | None] = (),
) -> tuple[LabelSets, ...]:
    """Draw people's label sets of the audited images from their probabilities; empty for 0 draws.

    Parameters
    ----------
    people, proposed : LabelSets
        People's label sets, and the proposed label sets of the same images.
    name : str
        The name of these label sets in messages.
    methods : collection of str
        The aggregators that produced people's label sets.

    Raises
    ------
    InputError
        If there are no probabilities.
    UsageError
        If there is only one draw, or if all images were audited.
    """
    if not draws:
        return ()
    if draws < FEWEST_DRAWS:
        raise UsageError(
            "Several draws are needed to compute the variance over draws of people's label sets.",
            got=f"`posterior` {draws}",
            allowed=f"at least {FEWEST_DRAWS}, or 0 for none",
            do="draw 20 or more",
        )
    if len(sample) == len(sample.design):
        raise UsageError(
            "All images were audited, so only raters cause uncertainty.",
            got="`posterior` with `audited`",
            do="evaluate people's label sets themselves with `posterior`, without `audited`",
        )
    check_probabilities(people, name)
    if methods and all(str(method).partition("(")[0] in ONE_PRIOR for method in methods):
        people = _adjusted(people, proposed)
    return tuple(draw_sets(people, np.random.default_rng([seed, draw])) for draw in range(draws))


def _adjusted(people: LabelSets, proposed: LabelSets) -> LabelSets:
    """Return people's label sets with probabilities that differ for proposed and for other classes."""
    assert people.p is not None  # it is checked before
    yes = proposed.state == YES
    keys = proposed.rows[yes] * people.n_classes + proposed.classes[yes]
    is_proposed = np.isin(people.rows * people.n_classes + people.classes, keys)
    p, there = people.p.copy(), ~np.isnan(people.p)
    p[there] = adjusted_probabilities(p[there], is_proposed[there])
    return replace(people, p=p)


class RaterShares:
    """The uncertainty due to raters: its share of the variance, and how much draws change the values."""

    def __init__(self) -> None:
        self._found: dict[str, list[tuple[float, float]]] = {}

    def add(self, metric: str, drawn: AuditedEstimate, fixed: AuditedEstimate) -> None:
        """Add a model's estimates on all images: over draws, and on people's label sets without draws."""
        assert drawn.rater_share is not None
        values = float(drawn.rater_share[0]), float(fixed.value[0] - drawn.value[0])
        self._found.setdefault(metric, []).append(values)

    def notes(self, dataset: str) -> Iterator[Note]:
        """Yield a note on how much raters widen the intervals of the first headline metric."""
        metric = next((m for m in (*headline(), *self._found) if m in self._found), None)
        if metric is None:
            return
        share, change = 100 * np.nanmean(self._found[metric], axis=0)
        n = len(self._found[metric])
        text = (
            f"raters cause {share:.0f} % of the variance of {metric}; on people's label sets without draws, "
            f"its value would differ by {change:+.2f} points"
        )
        yield Note(dataset, "", "raters", n, text + f" (means over {n:,} models)" * (n > 1))
