"""The rows of the tables of `diagnose protocols`, for label sets of the same images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, permutations

import numpy as np
from numpy import typing as npt

from manyhot.classes import ClassList, family_of
from manyhot.core.agreement import VoteMeasure, measure_answers, measure_sets
from manyhot.core.array_types import Floats, Floats32
from manyhot.core.comparison import Families, compare_orders
from manyhot.core.jackknife import Scale, jackknife_ends
from manyhot.core.protocols import (
    COMPONENTS,
    OTHER_STATES,
    RELATIONS,
    RightBy,
    SetOverlap,
    SharedAnswers,
    missed_beside,
    records_noes,
    states_by_other,
    swaps_between,
    variance_components,
    without_noise,
)
from manyhot.core.resampling import centred_interval, percentile_interval
from manyhot.core.sets import NO_LABEL, LabelSets
from manyhot.core.share_intervals import clustered_interval, wilson_interval
from manyhot.diagnose.protocol_groups import ProtocolGroup, TopClasses, predicted_in
from manyhot.tables import Row
from manyhot.tables.frames import null_if_nan

PROTOCOL_TABLES = (
    "protocol_sets",
    "protocol_agreement",
    "protocol_missing",
    "protocol_pairs",
    "protocol_accuracy",
    "protocol_errors",
    "protocol_ranks",
    "protocol_swaps",
    "protocol_variance",
)

ORIGINAL = "original label"
"""The protocol by which the original label alone is right."""

FEWEST_FOR_MEANS = 30
"""Images from which on means over images, and models' results, have intervals."""


@dataclass
class ProtocolTables:
    """The rows of all tables, which are added one group at a time."""

    resamples: int
    seed: int
    classes: ClassList | None
    rows: dict[str, list[Row]] = field(default_factory=lambda: {name: [] for name in PROTOCOL_TABLES})

    def add_sets(self, group: ProtocolGroup) -> None:
        """Add the sizes of the label sets."""
        for name, part in group.slices():
            of = {"group": group.name, "slice": name}
            self.rows["protocol_sets"] += [
                {**of, "labels": labels, **_size_row(sets)}
                for labels, sets in zip(part.names, part.sets, strict=True)
            ]

    def add_agreement(self, group: ProtocolGroup) -> None:
        """Add rows on how the label sets agree, and which labels each of them lacks."""
        for name, part in group.slices():
            of = {"group": group.name, "slice": name}
            # Nobody answered about images that people did not see, so the slice of the others is the same.
            measures = [*_rater_rows(part)] if name == "all" else []
            if len(part.sets) == 2:
                measures = [*_relation_rows(part), *measures]
                for pair in permutations(range(2), 2):
                    self.rows["protocol_missing"] += [{**of, **row} for row in _missing_rows(part, *pair)]
                if name == "all":
                    self.rows["protocol_pairs"] += [
                        {"group": group.name, **row} for row in _pair_rows(part, self.classes)
                    ]
            self.rows["protocol_agreement"] += [{**of, **row} for row in measures]

    def add_models(self, group: ProtocolGroup, top: TopClasses) -> None:
        """Add rows on how the results of models depend on the protocol."""
        _, part = next(group.slices())
        predicted, classes = predicted_in(part, top)
        label = part.label
        counted = predicted & np.logical_and.reduce([one.scored for one in part.sets])
        with_label = bool((label != NO_LABEL).any())
        if with_label:
            counted &= label != NO_LABEL
        if not counted.any():
            return
        part, classes = part.take(counted), classes[counted]
        names, right = list(part.names), [one.hits(np.asfortranarray(classes)) for one in part.sets]
        if with_label:
            names, right = [ORIGINAL, *names], [classes == part.label[:, None], *right]
        resamples = self.resamples if len(classes) >= FEWEST_FOR_MEANS else 0
        found = RightBy(np.stack(right, axis=1), resamples, self.seed)
        made = {
            "protocol_accuracy": _accuracy_rows(found, names, top.models),
            "protocol_errors": _error_rows(found, names, top.models),
            "protocol_ranks": _rank_rows(found, names, top.models),
            "protocol_swaps": _swap_rows(found, names, top.models),
            "protocol_variance": _variance_rows(found),
        }
        for table, rows in made.items():
            self.rows[table] += [{"group": group.name, **row, "n": found.n} for row in rows]


def _relation_rows(part: ProtocolGroup) -> Iterator[Row]:
    """Yield how the label sets of two protocols are related."""
    overlap = SetOverlap.of(*part.sets)
    each = overlap.relation[:, None] == np.arange(len(RELATIONS))
    shares = _share_rows(each.astype(np.int64), np.ones_like(each, np.int64))
    for name, (_, value, lo, hi, n) in zip(RELATIONS, shares, strict=True):
        yield {"measure": name, "value": value, "lo": lo, "hi": hi, "n": n}
    filled = (overlap.a > 0) & (overlap.b > 0)
    apart = (overlap.b > 1).astype(np.float64) - (overlap.a > 1)
    yield {"measure": "jaccard", **_mean_row(overlap.jaccard, "logit")}
    yield {"measure": "several_difference", **_mean_row(apart[filled], "correlation")}


def _mean_row(values: Floats, scale: Scale) -> Row:
    """Return the mean of values of images, with Student's interval on a scale that keeps it in range."""
    if not len(values):
        return {"value": float("nan"), "lo": None, "hi": None, "n": 0}
    mean, error = float(values.mean()), float(values.std() / max(len(values) - 1, 1) ** 0.5)
    ends = jackknife_ends(mean, error, len(values) - 1, scale=scale)
    lo, hi = (None if np.isnan(end) or len(values) < FEWEST_FOR_MEANS else end for end in ends)
    return {"value": mean, "lo": lo, "hi": hi, "n": len(values)}


def _share_rows(
    num: npt.NDArray[np.int64], den: npt.NDArray[np.int64]
) -> Iterator[tuple[int, float, float | None, float | None, int]]:
    """Yield counts that add up over images, their shares with intervals, and the totals."""
    counts, n = num.sum(axis=0).tolist(), den.sum(axis=0).tolist()
    ends = clustered_interval(num, den, lambda values: np.asarray(values.sum(axis=0), np.float64))
    for count, total, lo, hi in zip(counts, n, *(end.tolist() for end in ends), strict=True):
        defined = total > 0 and lo == lo
        share = count / total if total else float("nan")
        yield count, share, max(lo, 0.0) if defined else None, min(hi, 1.0) if defined else None, total


def _missing_rows(part: ProtocolGroup, a: int, b: int) -> Iterator[Row]:
    """Yield what the second of two protocols says about the labels of the first."""
    first, second = part.sets[a], part.sets[b]
    original = first.classes == part.label[first.rows]
    has_label = bool((part.label != NO_LABEL).any())
    chosen = {"all": None} | ({ORIGINAL: original, "other classes": ~original} if has_label else {})
    for which, at in chosen.items():
        counts = states_by_other(first, second, at)
        den = np.broadcast_to(counts.sum(axis=1, keepdims=True), counts.shape)
        for state, (count, share, lo, hi, n) in zip(OTHER_STATES, _share_rows(counts, den), strict=True):
            if count:
                yield {
                    "labels_a": part.names[a],
                    "labels_b": part.names[b],
                    "which": which,
                    "state": state,
                    "labels": count,
                    **_interval_of("share", share, (lo, hi)),
                    "n": n,
                }


def ends_of(samples: Floats32 | Floats) -> list[tuple[float | None, float | None]]:
    """Return the ends of the percentile interval of each row; None if samples do not vary."""
    if not samples.shape[1]:
        return [(None, None)] * len(samples)
    ends = zip(*percentile_interval(samples), strict=True)
    return [(float(lo), float(hi)) if lo < hi else (None, None) for lo, hi in ends]


def _size_row(sets: LabelSets) -> Row:
    """Return the sizes of label sets, all of which are usable."""
    filled, several = int(np.count_nonzero(sets.size)), int(np.count_nonzero(sets.size > 1))
    lo, hi = map(float, wilson_interval(several, filled)) if filled else (None, None)
    lo = None if lo is None else max(lo, 0.0)  # against rounding, where no set has several classes
    is_recorded = sets.asked_known and not sets.complete
    return {
        "images": len(sets),
        "asked": len(sets.classes) / len(sets) if is_recorded and len(sets) else None,
        "n_empty": len(sets) - filled,
        "mean_size": sets.size.sum() / filled if filled else float("nan"),
        "several": several / filled if filled else float("nan"),
        "several_lo": lo,
        "several_hi": hi,
        "n": filled,
    }


def _rater_rows(part: ProtocolGroup) -> Iterator[Row]:
    """Yield the agreement of the protocols as of raters, on the classes that they asked about."""
    chosen = [i for i, one in enumerate(part.sets) if records_noes(one)]
    if len(chosen) < 2:
        return
    shared = SharedAnswers.of([part.sets[i] for i in chosen], [part.rated[i] for i in chosen])
    measures: list[VoteMeasure] = [
        *measure_answers(shared.answers, shared.image),
        *measure_sets(shared.answers, shared.image, shared.class_id),
    ]
    for one in measures:
        if one.n:
            lo, hi = map(null_if_nan, (one.lo, one.hi))
            yield {"measure": one.name, "value": one.value, "lo": lo, "hi": hi, "n": one.n}


def _pair_rows(part: ProtocolGroup, classes: ClassList | None) -> Iterator[Row]:
    """Yield the most frequent pairs of a label that one protocol misses, and a label that it has."""
    name = classes.names.__getitem__ if classes else str
    for a, b in permutations(range(2), 2):
        found = missed_beside(part.sets[a], part.sets[b])
        for missed, beside, images in zip(*(column.tolist() for column in found), strict=True):
            yield {
                "labels_a": part.names[a],
                "labels_b": part.names[b],
                "class_id": missed,
                "class_name": name(missed),
                "beside_id": beside,
                "beside_name": name(beside),
                "images": images,
            }


def _accuracy_rows(right: RightBy, names: Sequence[str], models: Sequence[str]) -> Iterator[Row]:
    for by, values, samples in zip(names, right.values, right.samples, strict=True):
        ranks = 1 + (values[None] > values[:, None]).sum(axis=1)
        with_mean, ends = _with_mean(values, samples)
        for model, value, (lo, hi), rank in zip(
            (None, *models), with_mean, ends, (None, *ranks.tolist()), strict=True
        ):
            yield {"by": by, "model": model, "value": value, "lo": lo, "hi": hi, "rank": rank}


def _error_rows(right: RightBy, names: Sequence[str], models: Sequence[str]) -> Iterator[Row]:
    for a, b in permutations(range(len(names)), 2):
        shares, samples = right.errors_right_by(a, b)
        apart, moved = right.values[b] - right.values[a], right.samples[b] - right.samples[a]
        errors = right.n * (1 - right.values[a])
        columns = (apart, moved), (shares, samples)
        (d, d_ends), (s, s_ends) = (_with_mean(*column) for column in columns)
        for model, difference, ends, n_errors, share, share_ends in zip(
            (None, *models), d, d_ends, [errors.mean(), *errors], s, s_ends, strict=True
        ):
            yield {
                "by_a": names[a],
                "by_b": names[b],
                "model": model,
                **_interval_of("difference", difference, ends),
                "errors": float(n_errors),
                **_interval_of("right", share, share_ends),
            }


def _with_mean(
    values: Floats, samples: Floats32
) -> tuple[Iterable[float], list[tuple[float | None, float | None]]]:
    """Return values and their intervals, after their mean over models."""
    mean = samples.mean(axis=0, dtype=np.float64)[None]
    return [values.mean(), *values], [*ends_of(mean), *ends_of(samples)]


def _interval_of(name: str, value: float, ends: tuple[float | None, float | None]) -> Row:
    return {name: value, f"{name}_lo": ends[0], f"{name}_hi": ends[1]}


def _rank_rows(right: RightBy, names: Sequence[str], models: Sequence[str]) -> Iterator[Row]:
    families = Families.of([family_of(model) for model in models])
    for a, b in combinations(range(len(names)), 2) if len(models) > 1 else ():
        samples = (right.samples[a], right.samples[b]) if right.resamples else (None, None)
        order = compare_orders(right.values[a], right.values[b], families, *samples, n=right.n)
        swaps = swaps_between(right, a, b)
        lo, hi = map(null_if_nan, order.images)
        yield {
            "by_a": names[a],
            "by_b": names[b],
            "models": len(models),
            **_interval_of("tau", order.tau, (lo, hi)),
            "pairs": order.n_pairs,
            "swapped": order.n_swapped,
            "surely": int(np.count_nonzero(swaps.p_adjusted < 0.05)),
        }


def _swap_rows(right: RightBy, names: Sequence[str], models: Sequence[str]) -> Iterator[Row]:
    for a, b in combinations(range(len(names)), 2):
        swaps = swaps_between(right, a, b)
        columns = (swaps.a, swaps.b, swaps.difference_a, swaps.difference_b, swaps.p_adjusted)
        for first, second, in_a, in_b, p in zip(*(c.tolist() for c in columns), strict=True):
            yield {
                "by_a": names[a],
                "by_b": names[b],
                "model_a": models[first],
                "model_b": models[second],
                "difference_a": in_a,
                "difference_b": in_b,
                "p_adjusted": p,
            }


def _variance_rows(right: RightBy) -> Iterator[Row]:
    """Yield how much accuracy varies with the model, the protocol, and both."""
    if right.values.shape[1] < 2:
        return
    value = variance_components(right.values)
    samples = np.empty((3, 0))
    if right.resamples:
        value, samples = without_noise(value, variance_components(right.samples))
    total = value.sum()
    for name, variance, draws in zip(COMPONENTS, value, samples, strict=True):
        lo, hi = np.sqrt(centred_interval(draws, variance)) if len(draws) else (np.nan, np.nan)
        ends = (None, None) if np.isnan(lo) else (float(lo), float(hi))
        share = variance / total if total > 0 else float("nan")
        yield {"component": name, **_interval_of("sd", float(np.sqrt(variance)), ends), "share": share}
