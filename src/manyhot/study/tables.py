"""The tables of a study from the measurements of its runs: all values, means of arms, effects of claims."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from manyhot import tables
from manyhot.core.comparison import holm
from manyhot.core.effects import Effect, SeedValues, effect_of, verdict_of
from manyhot.errors import InputError
from manyhot.study.plan import ALL, Across, Claim, Measurement, RunMeasure, RunMeasurement, Study, StudyRun
from manyhot.study.runner import Undone, check_measurements, measurement_file, reason, run_name
from manyhot.study.study_file import study_metrics
from manyhot.study.verdicts import sentence
from manyhot.tables.definitions import COUNT, INT, REAL, REALS, TEXT, declare_table

CLAIM_VERDICTS = ("better", "worse", "same", "undecided", "not run")

_OF_STUDY = (
    TEXT("dataset", "the data set"),
    TEXT("network", "the network; all for a value across networks"),
    TEXT("arm", "the arm; all for a value across arms"),
)
"""The run of a study to which a value belongs."""

declare_table(
    "measured",
    (
        TEXT("metric", "what was measured"),
        TEXT("slice", "which images"),
        REAL("value", "the value; NaN where it is undefined"),
        COUNT("n", "images counted"),
        REALS.nullable(
            "replicates",
            "the values on resamples of images, which are the same for all runs of a data set; null without "
            "resamples",
        ),
    ),
)

declare_table(
    "runs",
    (
        *_OF_STUDY,
        INT("seed", "the seed"),
        TEXT("measure", "what measured it"),
        TEXT("metric", "what was measured"),
        TEXT("slice", "which images"),
        REAL("value", "the value; NaN where it is undefined"),
        REAL.nullable("error", "standard error of the value over images; null without resamples"),
        COUNT("n", "images counted"),
    ),
)

declare_table(
    "means",
    (
        *_OF_STUDY,
        TEXT("metric", "what was measured"),
        TEXT("slice", "which images"),
        TEXT("better", "which values are better", values=("higher", "lower")),
        REAL("value", "mean over seeds"),
        REAL.nullable("lo", "lower end of the 95 % interval over seeds and images"),
        REAL.nullable("hi", "upper end of the 95 % interval"),
        COUNT("n_seeds", "seeds with a value"),
        COUNT("n", "number of images, the minimum over seeds"),
    ),
)

declare_table(
    "effects",
    (
        TEXT("claim", "the claim"),
        TEXT.nullable("dataset", "the data set; null for the mean over all pairs"),
        TEXT.nullable("network", "the network; null for the mean over all pairs"),
        TEXT("metric", "what was measured"),
        TEXT("slice", "which images"),
        TEXT("arm", "the arm"),
        TEXT("against", "the other arm, metric or number"),
        REAL.nullable("value", "mean of the arm over the common seeds, then over pairs"),
        REAL.nullable("value_against", "the same mean for the other side"),
        REAL.nullable("effect", "difference of the two means, above 0 if the arm is better; null if not run"),
        REAL.nullable("lo", "lower end of the 95 % interval over seeds and images"),
        REAL.nullable("hi", "upper end of the 95 % interval"),
        REAL.nullable("p", "two-sided p-value of no effect"),
        REAL.nullable(
            "p_adjusted", "p-value with Holm's correction over the claims of the study; null for single pairs"
        ),
        REAL.nullable("d", "effect in standard deviations over seeds, with Hedges' correction"),
        REAL.nullable("wins", "share of seeds at which the arm is better; a tie counts one half"),
        REAL.nullable("error_seeds", "standard error over seeds"),
        REAL.nullable("error_images", "standard error over images, 0 without resamples"),
        REAL.nullable("df", "degrees of freedom of the interval"),
        COUNT("n_seeds", "number of differences at equal seeds"),
        COUNT("n_pairs", "number of pairs of data set and network that are averaged"),
        REAL("margin", "the smallest difference that matters, fixed beforehand"),
        TEXT("verdict", "by the rule", values=CLAIM_VERDICTS),
        TEXT.nullable("sentence", "the verdict in words; null for single pairs"),
    ),
)

Place = tuple[str, str]
"""A data set and a network."""


@dataclass(frozen=True, eq=False)
class Measurements:
    """The measurements of the runs of a study.

    Attributes
    ----------
    rows : list of (str, Row)
        The measurements, each with the name of its measure.
    """

    rows: list[tuple[str, RunMeasurement]]

    def __post_init__(self) -> None:
        found: dict[tuple[str, str, str, str, str], dict[int, Measurement]] = {}
        for _, row in self.rows:
            m = row.measurement
            key = (row.data_set, row.network, row.arm, m.metric, m.slice)
            found.setdefault(key, {})[row.seed] = m
        object.__setattr__(self, "_by_seed", found)

    def by_seed(self, place: Place, arm: str, metric: str, images: str) -> dict[int, Measurement]:
        """Return a metric of an arm at each seed for which it is defined."""
        found: Mapping[int, Measurement] = self._by_seed.get((*place, arm, metric, images), {})  # type: ignore[attr-defined]
        return {seed: m for seed, m in found.items() if math.isfinite(m.value)}


def collect_measurements(
    study: Study, runs: Sequence[StudyRun], undone: Sequence[Undone]
) -> tuple[Measurements, list[Undone]]:
    """Return the measurements of single runs and across runs, and the measures across runs that failed.

    Raises
    ------
    InputError
        If the number of resamples differs within a data set, or a measure returns undeclared metrics.
    """
    missing = {(u.what, u.step) for u in undone}
    rows = [
        (measure.name, RunMeasurement(run.data_set, run.network, run.arm, run.seed, measured))
        for run in runs
        for measure in study.measures
        if isinstance(measure, RunMeasure) and (run_name(run), measure.name) not in missing
        for measured in _read(measurement_file(run, measure))
    ]
    _check_replicates(rows)
    own, failed = [row for _, row in rows], list[Undone]()
    for across in study.measures:
        if isinstance(across, Across):
            rows += [(across.name, row) for row in _across(across, own, failed)]
    return Measurements(rows), failed


def _read(path: Path) -> Iterator[Measurement]:
    if path.is_file():
        for row in tables.read(path, "measured").to_pylist():
            replicates = row.pop("replicates")
            yield Measurement(**row, replicates=None if replicates is None else np.array(replicates))


def _check_replicates(rows: Sequence[tuple[str, RunMeasurement]]) -> None:
    known: dict[tuple[str, str], int] = {}
    for measure, row in rows:
        m = row.measurement
        if m.replicates is None:
            continue
        n = known.setdefault((row.data_set, m.metric), len(m.replicates))
        if n != len(m.replicates):
            raise InputError(
                "Runs of a data set have different numbers of resamples.",
                where=f"{row.data_set}/{row.network}/{row.arm}/seed-{row.seed}, {measure}, {m.metric}",
                got=len(m.replicates),
                allowed=n,
                do="draw resamples from the images only, and increase the measure's version",
            )


def _across(across: Across, rows: Sequence[RunMeasurement], failed: list[Undone]) -> Iterator[RunMeasurement]:
    groups: dict[tuple[str, int], list[RunMeasurement]] = {}
    for row in rows:
        groups.setdefault((row.data_set, row.seed), []).append(row)
    for (data_set, seed), own in groups.items():
        try:
            found = list(across.take(own))
            check_measurements(across, found)
        except Exception as error:  # if a run of the data set failed, such as that of its only network
            failed.append(Undone(f"{data_set}, seed {seed}", across.name, reason(error)))
            continue
        yield from (RunMeasurement(data_set, ALL, ALL, seed, measured) for measured in found)


def runs_table(measurements: Measurements) -> pa.Table:
    """Return all values, one per row."""
    made = [
        {
            "dataset": row.data_set,
            "network": row.network,
            "arm": row.arm,
            "seed": row.seed,
            "measure": measure,
            "metric": row.measurement.metric,
            "slice": row.measurement.slice,
            "value": row.measurement.value,
            "error": _error(row.measurement),
            "n": row.measurement.n,
        }
        for measure, row in measurements.rows
    ]
    return pa.Table.from_pylist(made, tables.schema("runs"))


def _error(measured: Measurement) -> float | None:
    if measured.replicates is None:
        return None
    known = measured.replicates[np.isfinite(measured.replicates)]
    return float(known.std(ddof=1)) if len(known) > 1 else None


def means_table(study: Study, measurements: Measurements) -> pa.Table:
    """Return the mean of each value over seeds, with its interval over seeds and images."""
    better = study_metrics(study)
    slices: dict[tuple[str, str, str, str, str], None] = {}
    for _, row in measurements.rows:
        m = row.measurement
        slices.setdefault((row.data_set, row.network, row.arm, m.metric, m.slice))
    made = []
    for data_set, network, arm, metric, images in slices:
        found = measurements.by_seed((data_set, network), arm, metric, images)
        if not found:
            continue
        effect = effect_of([_cell(list(found.values()), data_set)])
        made.append(
            {
                "dataset": data_set,
                "network": network,
                "arm": arm,
                "metric": metric,
                "slice": images,
                "better": better[metric].better,
                "value": effect.value,
                "lo": _finite(effect.lo),
                "hi": _finite(effect.hi),
                "n_seeds": len(found),
                "n": min(m.n for m in found.values()),
            }
        )
    return pa.Table.from_pylist(made, tables.schema("means"))


def _cell(measurements: Sequence[Measurement], images: str) -> SeedValues:
    values = np.array([m.value for m in measurements])
    replicates = [m.replicates for m in measurements if m.replicates is not None]
    return SeedValues(values, np.stack(replicates) if len(replicates) == len(measurements) else None, images)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


@dataclass(frozen=True, eq=False)
class PairedValues:
    """A claim for one data set and network: the values of both sides at their common seeds.

    Attributes
    ----------
    place : (str, str)
    one, other : list of Measured
    sign : int
        -1 if lower is better.
    """

    place: Place
    one: list[Measurement]
    other: list[Measurement]
    sign: int

    @property
    def cell(self) -> SeedValues:
        """The differences, above 0 if the arm is better."""
        a, b = _cell(self.one, self.place[0]), _cell(self.other, self.place[0])
        replicates = None
        if a.replicates is not None:
            # A constant has no images.
            there = b.values[:, None] if b.replicates is None else b.replicates
            replicates = self.sign * (a.replicates - there)
        return SeedValues(self.sign * (a.values - b.values), replicates, self.place[0])


def paired_values(claim: Claim, study: Study, measurements: Measurements) -> list[PairedValues]:
    """Return the values of a claim for each data set and network for which both sides were measured."""
    sign = 1 if study_metrics(study)[claim.metric].better == "higher" else -1
    found = []
    for place in claim_places(claim, study):
        one = measurements.by_seed(place, claim.arm, claim.metric, claim.slice)
        other = _other(claim, place, one, measurements)
        seeds = [seed for seed in one if seed in other]
        if seeds:
            found.append(PairedValues(place, [one[s] for s in seeds], [other[s] for s in seeds], sign))
    return found


def _other(
    claim: Claim, place: Place, one: Mapping[int, Measurement], measurements: Measurements
) -> dict[int, Measurement]:
    if claim.against:
        return measurements.by_seed(place, claim.against, claim.metric, claim.slice)
    if isinstance(claim.than, str):
        return measurements.by_seed(place, claim.arm, claim.than, claim.slice)
    return {seed: Measurement(claim.metric, float(claim.than or 0.0), m.n) for seed, m in one.items()}


def claim_places(claim: Claim, study: Study) -> list[Place]:
    """Return the pairs of data set and network of a claim."""
    grid = study.grid
    data_sets = claim.data_sets or tuple(d.name for d in grid.data_sets)
    networks = claim.networks or tuple(n.name for n in grid.networks)
    if claim.arm == ALL:
        networks = (ALL,)
    return [(d, n) for d in data_sets for n in networks if (d, n) not in grid.without]


def effects_table(study: Study, measurements: Measurements) -> pa.Table:
    """Return the effect of each claim, over all pairs of data set and network and for each pair."""
    compared = {claim.name: paired_values(claim, study, measurements) for claim in study.claims}
    pooled = {c.name: effect_of([p.cell for p in compared[c.name]]) for c in study.claims if compared[c.name]}
    p = holm(np.array([pooled[c.name].p if c.name in pooled else np.nan for c in study.claims]))
    made: list[dict[str, Any]] = []
    for claim, adjusted in zip(study.claims, p, strict=True):
        own = compared[claim.name]
        single = [_effect(claim, [c], effect_of([c.cell])) for c in own]
        row = _effect(claim, own, pooled.get(claim.name), adjusted)
        row["sentence"] = sentence(claim, [row, *single], study_metrics(study), len(study.claims))
        made += [row, *single]
    return pa.Table.from_pylist(made, tables.schema("effects"))


def _effect(
    claim: Claim, at: Sequence[PairedValues], effect: Effect | None, adjusted: float | None = None
) -> dict[str, Any]:
    """Return a row of the table; with an adjusted p, the one over all pairs."""
    pooled = adjusted is not None
    row: dict[str, Any] = {
        "claim": claim.name,
        "dataset": None if pooled else at[0].place[0],
        "network": None if pooled else at[0].place[1],
        "metric": claim.metric,
        "slice": claim.slice,
        "arm": claim.arm,
        "against": claim.against or str(claim.than),
        "n_seeds": 0,
        "n_pairs": len(at),
        "margin": claim.margin,
        "verdict": "not run",
    }
    if effect is None:
        return row
    names = ("lo", "hi", "p", "d", "wins", "error_seeds", "error_images", "df")
    return {
        **row,
        "value": _mean([c.one for c in at]),
        "value_against": _mean([c.other for c in at]),
        "effect": effect.value,
        **{name: _finite(getattr(effect, name)) for name in names},
        "p_adjusted": _finite(adjusted) if adjusted is not None else None,
        "n_seeds": effect.n_seeds,
        "verdict": verdict_of(effect, claim.margin),
    }


def _mean(sides: Sequence[Sequence[Measurement]]) -> float:
    return float(np.mean([np.mean([m.value for m in side]) for side in sides]))
