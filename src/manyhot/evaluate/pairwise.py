"""Is one model better than another? Paired differences, and the sentence that answers.

A difference is shown if its 95 % interval excludes 0. The interval is computed over images, from resamples
that both models share, so that it is narrower than the intervals of the two values suggest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pyarrow import compute as pc

from manyhot.console import table_lines
from manyhot.core.model_pairs import holm
from manyhot.errors import first_names
from manyhot.evaluate.compared_pairs import NO_PAIRS, ComparedPairs, compared_values
from manyhot.evaluate.ranks import best_and_closest, image_groups, leading_metric, shown_metrics
from manyhot.evaluate.slices import ALL
from manyhot.evaluate.terminal import spaced
from manyhot.report.text import Metric, metrics_of
from manyhot.tables import End, ModelValue, Results
from manyhot.tables.frames import null_if_nan
from manyhot.tables.result_tables import at_end

NOISE = 0.05
"""Minimum p_adjusted for a model to be within noise of the best."""

_MOST = 15
"""Number of models in a table of differences from the best."""


@dataclass(frozen=True)
class Difference:
    """The value of a model minus the value of a reference on the same images.

    Attributes
    ----------
    values : tuple of ModelValue
        The values of the reference and of the model.
    lo, hi, p : float, optional
        The 95 % interval over images, and the two-sided p-value; None if there are no resamples.
    p_adjusted : float, optional
        The p-value with Holm's correction for `n_compared` comparisons: the tested pairs of all models of the
        data set, or of the reference, at this metric and slice. For two models by slice, see `with_holm`.
    n : int
        Number of images that count for both.
    same_images : bool
        Whether both models were evaluated on the same images. If not, no difference is computed.
    """

    dataset: str
    metric: Metric
    reference: str
    model: str
    values: tuple[ModelValue, ModelValue]
    difference: float
    lo: float | None
    hi: float | None
    p: float | None
    n: int
    same_images: bool = True
    slice: str = ALL
    p_adjusted: float | None = None
    n_compared: int = 0

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval of the difference; None if there is none."""
        return None if self.lo is None or self.hi is None else (self.lo, self.hi)

    @property
    def loss(self) -> tuple[float, float] | None:
        """The interval of the loss of the model, in points or in the unit of the metric."""
        if self.interval is None:
            return None
        ends = [self.metric.draw(end) for end in self.interval]
        return (ends[0], ends[1]) if self.metric.lower_is_better else (-ends[1], -ends[0])

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as names and numbers; undefined numbers become null."""
        a, b = (value.value for value in self.values)
        row = {"dataset": self.dataset, "metric": self.metric.name, "model_a": self.reference}
        row |= {"model_b": self.model, "slice": self.slice}
        numbers = {"a": a, "b": b, "difference": self.difference, "lo": self.lo, "hi": self.hi, "p": self.p}
        numbers["p_adjusted"] = self.p_adjusted
        return {**row, **{k: None if v != v else v for k, v in numbers.items()}, "n": self.n}


def differences(results: Results, dataset: str) -> list[Difference]:
    """Return the differences between the second model and the first, one for each metric that is shown.

    The list is empty unless there are two models.
    """
    return differences_at(results, [(dataset, metric, ALL) for metric in shown_metrics(results)])


def differences_at(results: Results, ends: Sequence[End]) -> list[Difference]:
    """Return the differences of two models at ends of one data set; empty unless there are two models."""
    models = models_on(results, ends[0][0]) if ends else []
    if len(models) != 2:
        return []
    shared = [end for end in ends if set(models) <= set(results.values_at.get(end, {}))]
    return [
        _difference(
            results,
            _pairs_at(results, end, models[0]),
            end,
            *models,
            same=any(set(models) <= set(group) for group in image_groups(results, end)),
        )
        for end in shared
    ]


def with_holm(pairs: Sequence[Difference]) -> list[Difference]:
    """Return the differences, with `p_adjusted` by Holm's method for the number of differences."""
    adjusted = holm(np.array([math.nan if d.p is None else d.p for d in pairs]))
    n = len(adjusted) - np.count_nonzero(np.isnan(adjusted))
    found = zip(pairs, adjusted, strict=True)
    return [replace(d, p_adjusted=null_if_nan(float(p)), n_compared=int(n)) for d, p in found]


def to_best(results: Results, dataset: str, name: str = ALL) -> tuple[str, list[Difference]]:
    """Return the best model by the leading metric, and the other models' differences from it, best first.

    If models were compared with a reference, the reference takes the place of the best model. Only models
    that were evaluated on the same images are compared. `name` is the name of the slice on which models are
    compared; by default, all images.

    Notes
    -----
    The best model is chosen on the images on which it is compared, so that any pair of models may be tested:
    `p_adjusted` has Holm's correction for all compared pairs. Corrected for the comparisons with the best
    only, one of 10 equal models was worse in 27 of 200 simulated data sets. A reference is chosen
    beforehand, and its pairs are the only ones.
    """
    metric = leading_metric(results, dataset)
    end = (dataset, metric, name)
    sign = 1 if metrics_of(results.table)(metric).lower_is_better else -1
    groups = image_groups(results, end)
    reference = ComparedPairs.of(results.about, dataset).reference
    group = next((g for g in groups if reference in g), max(groups, key=len))
    values = {m: v.value for m in group if not math.isnan((v := results.values_at[end][m]).value)}
    ranked = sorted(values, key=lambda m: sign * values[m])
    base = reference if reference in values else next(iter(ranked), "")
    pairs = _pairs_at(results, end, base)
    if not pairs and len(results.datasets) > 1:  # published results have no pairs, but up to 1,556 models
        return "", []
    others = (model for model in ranked if model != base)
    return base, [_difference(results, pairs, end, base, model) for model in others]


def models_on(results: Results, dataset: str) -> list[str]:
    """Return the models with results on a data set."""
    rows = results.table.filter(pc.equal(results.table["dataset"], dataset))
    models: list[str] = rows["model"].unique().to_pylist()
    return models


def _difference(
    results: Results,
    pairs: Mapping[frozenset[str], Mapping[str, Any]],
    end: End,
    reference: str,
    model: str,
    *,
    same: bool = True,
) -> Difference:
    """Return the difference of two models at an end."""
    (dataset, metric, name), values = end, results.values_at[end]
    a, b = values[reference], values[model]
    row = pairs.get(frozenset((reference, model)), {})
    lo, hi, p, adjusted = (null_if_nan(row.get(name)) for name in ("lo", "hi", "p", "p_adjusted"))
    own = compared_values(results.about)
    first, second = (own.get((*end, m), v.value) for m, v in ((reference, a), (model, b)))
    difference = second - first if same else math.nan
    reverse = bool(row) and _is_reversed(row, reference, difference)
    if row.get("estimator"):  # of an audit: estimated from paired differences, not from the two values
        reverse = row["model_a"] != reference
        difference = -row["difference"] if reverse else row["difference"]
    if lo is not None and hi is not None and reverse:
        lo, hi = -hi, -lo
    n = int(row.get("n", min(a.n, b.n)))
    described = metrics_of(results.table)(metric)
    n_compared = int(row.get("n_compared", 0))
    return Difference(
        dataset,
        described,
        reference,
        model,
        (a, b),
        difference,
        lo,
        hi,
        p,
        n,
        same,
        slice=name,
        p_adjusted=adjusted,
        n_compared=n_compared,
    )


def _is_reversed(row: Mapping[str, Any], reference: str, difference: float) -> bool:
    """Return whether a row of pairs has the difference of the reference to the model.

    The sign decides and not the order of the models, because earlier files contain model_a minus model_b.
    """
    product = row["difference"] * difference
    return bool(product < 0 or (product == 0 and row["model_a"] != reference))


def _pairs_at(results: Results, end: End, model: str) -> Mapping[frozenset[str], Mapping[str, Any]]:
    """Return the rows of the pairs table of one model at an end, by the two models.

    Each row also contains the number of pairs at this end for which `p_adjusted` is corrected, `n_compared`.
    """
    table = at_end(results.pairs, end)
    adjusted = table["p_adjusted"]
    n = pc.sum(pc.is_finite(adjusted)).as_py() or 0
    rows = table.filter(pc.or_(pc.equal(table["model_a"], model), pc.equal(table["model_b"], model)))
    return {frozenset((r["model_a"], r["model_b"])): r | {"n_compared": n} for r in rows.to_pylist()}


# Sentences.


def answer(pair: Difference, *, by_label: bool = False) -> str:
    """Return one sentence that says which model is better, by how much, and how certain this is.

    Parameters
    ----------
    by_label : bool
        Whether the sentence uses the metric's label, as the tables of a page do, instead of its name.
    """
    a, b, metric, n = pair.reference, pair.model, pair.metric, f"n {pair.n:,}"
    name = metric.label if by_label else metric.name
    if not pair.same_images:
        images = " and ".join(f"{value.n:,}" for value in pair.values)
        return f"{a} and {b} were evaluated on different images ({images}) and are not compared."
    if math.isnan(pair.difference):
        return f"{b} and {a} are not compared: {name} is undefined ({n})."
    if pair.loss is None:
        return f"{b} has {_signed(pair)} of {name} compared with {a}, without an interval ({n})."
    lo, hi = pair.loss
    if lo <= 0 <= hi:
        ends = tuple(metric.draw(end) for end in pair.interval or ())
        numbers = f"{_signed(pair)} of {name} {_doubt(pair, ends)}"
        if pair.p is not None and pair.p < NOISE:  # it has an approximation of its own
            return f"Whether {a} and {b} differ is borderline: {numbers}."
        return f"No difference between {a} and {b} can be shown: {numbers}."
    ends = (lo, hi) if lo > 0 else (-hi, -lo)
    size = points_text(metric, abs(metric.draw(pair.difference)))
    word = "worse" if lo > 0 else "better"
    return f"{b} is {word} than {a} by {size} of {name} {_doubt(pair, ends)}."


def _doubt(pair: Difference, ends: Sequence[float]) -> str:
    """Return the interval, p and n of a difference in brackets."""
    p = "" if pair.p is None else f"p {p_text(pair.p).replace('<', '< ')}, "
    return f"(95 % interval {points_span(pair.metric, *ends)}, {p}n {pair.n:,})"


def noise_line(best: str, pairs: Sequence[Difference]) -> str:
    """Return one sentence on which models are within noise of the best; empty if no pair was tested.

    If a model has a better value than `best`, then `best` is a reference, and the sentence also says how many
    models are better and worse.
    """
    tested = [(d, d.p_adjusted) for d in pairs if d.p_adjusted is not None]
    if len(tested) < 2:
        return ""
    metric, n = pairs[0].metric, len(tested)
    near = [d.model for d, p in tested if p >= NOISE]
    far = [d for d, p in tested if p < NOISE]
    how = f"paired differences of {metric.name}, Holm's correction for {_compared(pairs)}"
    untested = [d.model for d in pairs if d.p_adjusted is None]
    how += f"; not compared, because they have no p: {first_names(untested, 8)}" if untested else ""
    if _has_better(pairs):
        n_better = sum(d.difference < 0 if metric.lower_is_better else d.difference > 0 for d in far)
        counts = f"{n_better:,} better and {len(far) - n_better:,} worse"
        within = first_names(near, 8) or "none"
        return f"Compared with {best}: {counts} beyond noise; within noise: {within} ({how})."
    if not near:
        others = f"{n:,} of {len(pairs):,} others" if untested else "all others"
        return f"{best} is better than {others} beyond noise ({how})."
    return f"Within noise of the best, {best}: {first_names(near, 8)} ({how})."


def _compared(pairs: Sequence[Difference]) -> str:
    """Return for how many comparisons p is corrected, as text."""
    n = max(d.n_compared for d in pairs)
    is_reference = n == sum(d.p_adjusted is not None for d in pairs)
    return f"these {n:,} comparisons" if is_reference else f"all {n:,} compared pairs"


def _has_better(pairs: Sequence[Difference]) -> bool:
    """Return whether a model has a better value than the reference."""
    sign = -1 if pairs[0].metric.lower_is_better else 1
    return any(sign * (d.values[1].value - d.values[0].value) > 0 for d in pairs)


def why_untested(results: Results, dataset: str, metric: str, notes: Sequence[str]) -> str:
    """Return the end of a sentence that says that no difference has an interval: why it has none."""
    name = re.escape(metric)
    found = (re.search(rf"no interval of (?:[^:]*, )?{name}(?:, [^:]*)?(: [^;]*)", note) for note in notes)
    if reason := next((match[1] for match in found if match), ""):
        return reason
    if results.about.get("resamples") == "0":
        return ", as without resamples"
    if ComparedPairs.of(results.about, dataset).pairs == NO_PAIRS:
        return ": no pairs of models were compared"
    rows = at_end(results.pairs, (dataset, metric, ALL)).filter(pc.is_null(pc.field("lo"), nan_is_null=True))
    if pc.any(pc.is_finite(rows["difference"])).as_py():
        return ": it is the same for any choice of images"
    if all(math.isnan(found.value) for found in results.values_at.get((dataset, metric, ALL), {}).values()):
        return f": {metric} is undefined on these images"
    if results.about.get("resamples"):
        return ": differences in this metric are not resampled"
    return ": the results lack values for each image"


def without_common_metric(results: Results) -> str:
    """Return what to do if models have no metric in common: which metrics each of them has."""
    metrics: dict[str, list[str]] = {}
    for row in results.table.group_by(["model", "metric"]).aggregate([]).to_pylist():
        metrics.setdefault(row["model"], []).append(row["metric"])
    each = "; ".join(f"{model} has {first_names(names, 3)}" for model, names in metrics.items())
    return f"pass `metrics` that all models have, such as real1, which needs only the top class ({each})"


def why_skipped(notes: Sequence[str]) -> str | None:
    """Return the first note that says why a metric was skipped for a model, with what to do."""
    return next((note for note in notes if re.search(r": \S+ skipped: ", note)), None)


# Tables.


def cells(pair: Difference) -> tuple[str, ...]:
    """Return the values of both models and the difference with its interval, `p_adjusted` and n, as text."""
    metric, span = pair.metric, pair.interval
    return (
        *(_value(metric, value.value) for value in pair.values),
        _difference_cell(pair),
        "–" if span is None else points_span(metric, *map(metric.draw, span)),
        p_text(pair.p_adjusted),
        f"{pair.n:,}" if pair.same_images else " / ".join(f"{value.n:,}" for value in pair.values),
    )


def _difference_cell(pair: Difference) -> str:
    if math.isnan(pair.difference):
        return "–"
    return f"{pair.metric.draw(pair.difference):+.{_decimals(pair.metric)}f}"


def two_lines(pairs: Sequence[Difference]) -> Iterator[str]:
    """Yield the table that compares two models, and the sentence that says which one is better."""
    first = pairs[0]
    minus = f"differences are {first.model} minus {first.reference}"
    yield f"{first.dataset}: {first.model} compared with {first.reference} ({minus})"
    head = ("metric", first.reference, first.model, "difference", "95 %", "p", "n")
    yield from table_lines(head, [(d.metric.name, *cells(d)) for d in pairs])
    yield from _skipped_line(pairs)
    yield answer(leading_of(pairs))
    if all(pair.values[0].value == pair.values[1].value and pair.interval is not None for pair in pairs):
        yield (
            f"On these images, {first.model} and {first.reference} are equal by every metric; the intervals "
            "around 0 show by how much they may differ on other images."
        )


def _skipped_line(pairs: Sequence[Difference]) -> Iterator[str]:
    """Yield the reason why metrics have different numbers of images."""
    counts = {d.metric.name: d.values[0].n for d in pairs}
    most = max(counts.values())
    if fewer := [f"{name} {most - n:,}" for name, n in counts.items() if n < most]:
        yield (
            f"n: out of {most:,} images, a metric skips those without a valid class and those on which it "
            f"is undefined: {', '.join(fewer)}"
        )


def leading_of(pairs: Sequence[Difference]) -> Difference:
    """Return the difference between two models under the leading metric."""
    names = [d.metric.name for d in pairs]
    return pairs[names.index("real1") if "real1" in names else 0]


def best_lines(results: Results, dataset: str, notes: Sequence[str] = ()) -> Iterator[str]:
    """Yield the differences between all models and the best, and a sentence on which are within noise.

    Without intervals, the sentence says why there are none.
    """
    best, found = to_best(results, dataset)
    if not found or (len(results.datasets) > 1 and not noise_line(best, found)):
        return
    metric = found[0].metric.name
    untested = first_names([d.model for d in found if d.interval is None], 8)
    why = why_untested(results, dataset, metric, notes)
    line = noise_line(best, found) or f"No interval of the difference for {untested}{why}."
    to = f"{best} by {metric}" if _has_better(found) else f"the best by {metric}, {best}"
    yield f"{dataset}: differences to {to}"
    first = (best, cells(found[0])[0], *["–"] * 3, f"{found[0].values[0].n:,}")
    rows = [first, *((d.model, *cells(d)[1:]) for d in found[: _MOST - 1])]
    n = max(d.n_compared for d in found)
    p = f"p (Holm, {n:,} pairs)" if n else "p"
    yield from table_lines(("model", metric, "difference", "95 %", p, "n"), rows)
    yield line


def pair_lines(results: Results, notes: Sequence[str] = ()) -> Iterator[str]:
    """Yield the comparison of two models, or of all models with the best, for each data set.

    With several data sets, models are compared only if pairs of models were tested.
    """
    compared = ((dataset, _two(results, dataset)) for dataset in results.datasets)
    parts = ((two_lines(two) if two else best_lines(results, name, notes), name) for name, two in compared)
    yield from spaced(*((*lines, *filter(None, [votes_sentence(results, name)])) for lines, name in parts))


def _two(results: Results, dataset: str) -> list[Difference]:
    """Return the differences of two models; of several data sets, only if pairs of models were tested."""
    two = differences(results, dataset)
    return two if len(results.datasets) == 1 or any(d.p is not None for d in two) else []


def shown_differences(results: Results) -> list[Difference]:
    """Return the printed differences: between two models by metric, or between each model and the best."""
    rows = list[Difference]()
    for dataset in results.datasets:
        two = _two(results, dataset)
        rows += two or to_best(results, dataset)[1]
    return rows


def conclusions(results: Results) -> dict[str, str]:
    """Return a sentence per data set with tested pairs: which model is better, or which are within noise.

    If another model is closest to the votes, a sentence before it says so, also without tested pairs.
    """
    found = {}
    for dataset in results.datasets:
        two = differences(results, dataset)
        leading = leading_of(two) if two else None
        if leading is None or leading.loss is None:
            line = noise_line(*to_best(results, dataset))
        else:
            line = answer(leading)
        found[dataset] = " ".join(filter(None, (votes_sentence(results, dataset), line)))
    return {dataset: line for dataset, line in found.items() if line}


def votes_sentence(results: Results, dataset: str, *, by_label: bool = False) -> str:
    """Return `best_and_closest` as a sentence; empty if there is nothing to say."""
    both = best_and_closest(results, dataset, by_label=by_label)
    return f"{', but '.join(both)}." if both else ""


def _decimals(metric: Metric) -> int:
    return 2 if metric.percent else 4


def points_text(metric: Metric, size: float) -> str:
    """Return a difference as text, such as ``1.00 points``."""
    return f"{size:.{_decimals(metric)}f}" + (" points" if metric.percent else "")


def _signed(pair: Difference) -> str:
    metric = pair.metric
    return f"{metric.draw(pair.difference):+.{_decimals(metric)}f}" + (" points" if metric.percent else "")


def points_span(metric: Metric, lo: float, hi: float) -> str:
    """Return an interval of a difference as text."""
    return f"{lo:.{_decimals(metric)}f} to {hi:.{_decimals(metric)}f}"


def _value(metric: Metric, value: float) -> str:
    text = metric.text(value, _decimals(metric)).replace("−", "-")  # pages have minus signs
    return text + ("%" if metric.percent and math.isfinite(value) else "")


def p_text(p: float | None) -> str:
    """Return a p-value as text."""
    if p is None:
        return "–"
    return f"{p:.3f}" if p >= 0.001 else "<0.001"
