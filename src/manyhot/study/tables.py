"""The measurements of the runs of a study, and their tables: all values, and means of arms."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from manyhot import tables
from manyhot.core.effects import SeedValues, effect_of
from manyhot.errors import InputError
from manyhot.study.plan import ALL, Across, Measurement, RunMeasure, RunMeasurement, Study, StudyRun
from manyhot.study.runner import Undone, check_measurements, measurement_file, reason, run_name
from manyhot.study.study_file import study_metrics
from manyhot.tables.definitions import COUNT, INT, REAL, REALS, TEXT, declare_table

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
            "values on resamples of the images; the resamples are the same for all runs of a data set; null "
            "without resamples",
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

    @cached_property
    def of_seeds(self) -> dict[tuple[str, str, str, str, str], dict[int, Measurement]]:
        """The measurement at each seed, by data set, network, arm, metric and slice."""
        found: dict[tuple[str, str, str, str, str], dict[int, Measurement]] = {}
        for _, row in self.rows:
            m = row.measurement
            key = (row.data_set, row.network, row.arm, m.metric, m.slice)
            found.setdefault(key, {})[row.seed] = m
        return found

    def by_seed(self, place: Place, arm: str, metric: str, images: str) -> dict[int, Measurement]:
        """Return the value of an arm's metric at each seed for which it is defined."""
        found = self.of_seeds.get((*place, arm, metric, images), {})
        return {seed: m for seed, m in found.items() if math.isfinite(m.value)}


def collect_measurements(
    study: Study, runs: Sequence[StudyRun], undone: Sequence[Undone]
) -> tuple[Measurements, list[Undone]]:
    """Return the measurements of single runs and across runs, and the failed measures across runs.

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
                "The runs of a data set have different numbers of resamples.",
                where=f"{row.data_set}/{row.network}/{row.arm}/seed-{row.seed}, {measure}, {m.metric}",
                got=len(m.replicates),
                allowed=n,
                do="use the same resamples of the images for all runs, and increase the measure's version",
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
    made = []
    for data_set, network, arm, metric, images in measurements.of_seeds:
        found = measurements.by_seed((data_set, network), arm, metric, images)
        if not found:
            continue
        effect = effect_of([cell_of(list(found.values()), data_set)])
        made.append(
            {
                "dataset": data_set,
                "network": network,
                "arm": arm,
                "metric": metric,
                "slice": images,
                "better": better[metric].better,
                "value": effect.value,
                "lo": or_null(effect.lo),
                "hi": or_null(effect.hi),
                "n_seeds": len(found),
                "n": min(m.n for m in found.values()),
            }
        )
    return pa.Table.from_pylist(made, tables.schema("means"))


def cell_of(measurements: Sequence[Measurement], images: str) -> SeedValues:
    """Return the values at each seed, with their resamples if all values have some."""
    values = np.array([m.value for m in measurements])
    replicates = [m.replicates for m in measurements if m.replicates is not None]
    return SeedValues(values, np.stack(replicates) if len(replicates) == len(measurements) else None, images)


def or_null(value: float) -> float | None:
    """Return a value for a table: null if it is undefined."""
    return value if math.isfinite(value) else None
