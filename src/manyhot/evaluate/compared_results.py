"""Comparisons of results: of models, and their drops, fitted lines and rankings between data sets.

Also joins several results into one, to compare models between them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import compute as pc

from manyhot import tables
from manyhot.classes import family_of
from manyhot.core.comparison import FEWEST_FAMILIES
from manyhot.data.benchmarks import ResultsLike, flattened, open_thresholds, read_source
from manyhot.errors import InputError
from manyhot.evaluate.class_differences import class_lines
from manyhot.evaluate.compared_pairs import (
    JOINED,
    notes_on_clusters,
    notes_on_shared_images,
    numbers_of_clusters,
)
from manyhot.evaluate.drops import Comparer
from manyhot.evaluate.equal_accuracy import (
    EqualAccuracy,
    Groups,
    compare_groups,
    family_namer,
    group_names,
    with_families,
)
from manyhot.evaluate.error_consistency import ConsistencyTables
from manyhot.evaluate.joined_models import adjusted, join, join_thresholds, unstored_notes
from manyhot.evaluate.outputs import clear_gallery, clear_report, write_numbers, write_tables
from manyhot.evaluate.pairwise import (
    Difference,
    conclusions,
    differences,
    pair_lines,
    shown_differences,
    to_best,
    why_skipped,
    without_common_metric,
)
from manyhot.evaluate.ranks import dataset_models, sensitivity
from manyhot.evaluate.slice_differences import GATE_VERDICTS, by_slice, lines_by_slice, sliced
from manyhot.evaluate.terminal import (
    apart_lines,
    drop_lines,
    fit_lines,
    order_lines,
    sensitivity_lines,
    spaced,
)
from manyhot.files import sha256
from manyhot.formats.writing import PathLike, check_apart
from manyhot.result import Result, as_pandas
from manyhot.run import QUIET, Run
from manyhot.tables import End, Results
from manyhot.tables.result_tables import LABEL_SETS, accuracies, headline, reading_order, registered_metric

REFERENCES = {"imagenet-a": "imagenet-val-a-classes", "imagenet-r": "imagenet-val-r-classes"}
"""Data sets of some of ImageNet's classes, and its images of the same classes, to compare them with."""

_KEPT = ("metrics", "own", "notes", "classes", "resamples", "seed", "compared", "sources", *JOINED)
"""Keys of the results' metadata that compared results keep."""

_TEXTS = ("dataset", "metric", "model_a", "model_b", "slice")
_NUMBERS = ("a", "b", "difference", "lo", "hi", "p", "p_adjusted")
DIFFERENCES = pa.schema(
    [*((c, pa.string()) for c in _TEXTS), *((c, pa.float64()) for c in _NUMBERS), ("n", pa.int64())]
)
"""Columns of the printed differences of models."""

WORSE = 7
"""Exit code of a comparison in which the second model is worse by more than the margin."""

BEST_FROM = 0.85
"""Value of a metric from which a model is among the best, to which a second line is fitted."""

_DESCRIBED = ("datasets", "set_sizes", "class_pairs", "rejected")
"""Tables of label sets in a folder of results."""


@dataclass(frozen=True, eq=False)
class Comparison(Result):
    """Models compared between data sets and metrics.

    Attributes
    ----------
    results : Results
        All compared results, with the family, size and pretraining of the models.
    drops, fits, ranks, swaps, sensitivity : pyarrow.Table
        The tables with these names; see `manyhot.tables.TABLES` for their columns.
    thresholds : Results, optional
        Results on label sets at other thresholds.
    described : Mapping of str to pyarrow.Table
        Tables that describe the label sets, if the folders of results contain them.
    sources : tuple of Path
        Files and folders that were read; `write` does not overwrite them.
    margin : float, optional
        The margin of `fail_if_worse`, if it was passed.
    is_worse : bool, optional
        Whether the second of two models is worse than the first by more than `margin` or, with
        `non_inferior`, may be; None if this cannot be decided, because the difference has no interval.
    verdicts : tuple of tuple of str
        Data sets, and what `fail_if_worse` decides on each.
    classes : pyarrow.Table, optional
        The table ``class_differences``, for two models with scores over all classes.
    consistency : ConsistencyTables, optional
        How consistent the errors of the models are, if requested.
    equal : EqualAccuracy, optional
        Two groups of models at equal accuracy, if groups were passed.
    notes, metadata, inputs
        As in `Result`.
    """

    NAMES = ("results", "pairs", "samples", "thresholds")

    results: Results
    drops: pa.Table
    fits: pa.Table
    ranks: pa.Table
    swaps: pa.Table
    sensitivity: pa.Table
    thresholds: Results | None = None
    described: Mapping[str, pa.Table] = field(default_factory=dict)
    sources: tuple[Path, ...] = ()
    margin: float | None = None
    is_worse: bool | None = False
    verdicts: tuple[tuple[str, str], ...] = ()
    classes: pa.Table | None = None
    consistency: ConsistencyTables | None = None
    equal: EqualAccuracy | None = None

    def __repr__(self) -> str:
        ends = self.ranks.num_rows
        return f"Comparison({ends} comparisons of {len(self.results.table['model'].unique())} models)"

    @property
    def tables(self) -> dict[str, pa.Table]:
        """The tables of comparisons by name."""
        return {name: getattr(self, name) for name in ("drops", "fits", "ranks", "swaps", "sensitivity")}

    def to_polars(self) -> Any:
        """Return the printed comparison of models as a polars.DataFrame, with one row per pair and metric.

        The columns are the same as in ``differences`` in `to_json`: `difference` is the value of model_b
        minus that of model_a, with its 95 % interval (lo, hi), p and n. With more than two models, each model
        is compared with the best. `p_adjusted` has Holm's correction, as in the table ``pairs``, for all
        compared pairs of models; on slices of two models, it is corrected for the number of slices. Intervals
        and p are not corrected. Differences by class are in the table `classes`.
        """
        import polars as pl

        return pl.from_arrow(self._differences)

    def to_pandas(self) -> Any:
        """Return the printed comparison of models as a pandas.DataFrame; see `to_polars`.

        Raises
        ------
        MissingExtraError
            If pandas is not installed.
        """
        return as_pandas(self._differences)

    @property
    def _differences(self) -> pa.Table:
        shown = [*shown_differences(self.results), *self._by_slice]
        return pa.Table.from_pylist([d.to_json() for d in shown], DIFFERENCES)

    @property
    def _by_slice(self) -> list[Difference]:
        return [d for name in self.results.datasets for d in by_slice(self.results, name)] or [
            d
            for name in self.results.datasets
            for part in sliced(self.results, name)
            for d in to_best(self.results, name, part)[1]
        ]

    @property
    def mean_drops(self) -> list[dict[str, Any]]:
        """The rows of `drops` that are means over models."""
        return [row for row in self.drops.to_pylist() if row["model"] is None]

    @property
    def answers(self) -> list[str]:
        """One sentence per data set: which of two models is better, or which are within noise of the best."""
        return list(conclusions(self.results).values())

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """7 if the second model is worse by more than the margin, 3 if this is not decided, else 0."""
        return InputError.exit_code if self.is_worse is None else WORSE if self.is_worse else 0

    @property
    def _is_pair(self) -> bool:
        """Whether there are two models on one data set, for which lines and rankings say nothing."""
        return len(self.results.datasets) == 1 and len(self.results.table["model"].unique()) == 2

    def lines(self) -> Iterator[str]:
        """Yield the comparison of models, then the mean drops, the slopes and the rankings."""
        verdicts = [line for _, line in self.verdicts]
        by_class = [] if self.classes is None else class_lines(self.classes)
        consistent = [] if self.consistency is None else ["", *self.consistency.lines()]
        equal = [] if self.equal is None else list(self.equal.lines())
        on_slices = list(spaced(*(lines_by_slice(self.results, name) for name in self.results.datasets)))
        sliced = ["", *on_slices] if on_slices else []
        answered = [*pair_lines(self.results, self.notes), *verdicts, *sliced, *by_class, *consistent]
        if self._is_pair:
            yield from answered
            return
        clustered = numbers_of_clusters(self.results.about)
        drops = [*drop_lines(self.mean_drops, clustered), *apart_lines(self.results, self.drops)]
        fits = fit_lines([r for r in self.fits.to_pylist() if r["scale"] == "plain"])
        orders, tried = order_lines(self.ranks.to_pylist()), sensitivity_lines(self.sensitivity.to_pylist())
        yield from spaced(answered, equal, drops, fits, orders, tried)
        yield "To draw figures from these tables: manyhot report FOLDER"

    def _without_common_metric(self) -> str | None:
        """Return what to do if models have no data set or no metric in common; None if there is only one."""
        if len(self.results.table["model"].unique()) < 2:
            return why_skipped(self.notes)
        models = [set(dataset_models(self.results, dataset)) for dataset in self.results.datasets]
        if len(models) > 1 and not set.intersection(*models):
            return (
                "if models with different names are to be compared across data sets, give their files the "
                "same name, and evaluate them again"
            )
        return without_common_metric(self.results)

    def to_json(self) -> dict[str, Any]:
        """Return the rows of the tables, and in ``differences`` those of `to_polars`.

        For drops, only the means over models are returned.
        """
        rows = {name: getattr(self, name).to_pylist() for name in ("fits", "ranks", "sensitivity")}
        names = self.results.datasets
        shown = [d for n in names for d in differences(self.results, n) or to_best(self.results, n)[1]]
        found = [d.to_json() for d in (*shown, *self._by_slice)]
        verdicts = [line for _, line in self.verdicts]
        judged: dict[str, Any] = {
            "fail_if_worse": self.margin,
            "is_worse": self.is_worse,
            "verdicts": verdicts,
        }
        judged = {} if self.margin is None else judged
        made = {"differences": found, "answers": self.answers, **judged}
        if self.consistency is not None:
            made |= {name: table.to_pylist() for name, table in self.consistency.tables.items()}
        if self.equal is not None:
            made |= {"equal_accuracy": self.equal.table.to_pylist()}
        return {**made, **rows, "drops": self.mean_drops, "notes": self.notes}

    def write(self, out: PathLike, *, run: Run = QUIET) -> list[Path]:
        """Write the compared results and the tables into a folder, and return the paths.

        Raises
        ------
        InputError
            If nothing was compared, or an input file would be overwritten. In both cases nothing is written.
        OutputError
            If a file cannot be written. Each file is written completely or not at all.
        """
        check_apart(self.sources, out, self.NAMES)
        if not self.drops.num_rows and all(len(m) < 2 for m in self.results.values_at.values()):
            raise InputError(
                "There is nothing to compare.",
                where=self.results.name or None,
                got=f"data sets {', '.join(self.results.datasets)}",
                allowed="two models on one data set, or two data sets with an accuracy and a model in common",
                do=self._without_common_metric(),
            )
        written = write_numbers(
            self.results,
            out,
            call=run.call,
            inputs=self.inputs,
            about={k: v for k, v in self.results.about.items() if k in _KEPT}
            | dict(self.metadata)
            | ({GATE_VERDICTS: json.dumps(self.verdicts)} if self.verdicts else {}),
            thresholds=None if self.thresholds is None else self.thresholds.table,
        )
        made = self.tables | {"models": self.results.models} | dict(self.described)
        made |= {} if self.classes is None else {"class_differences": self.classes}
        made |= {} if self.consistency is None else self.consistency.tables
        made |= {} if self.equal is None else {"equal_accuracy": self.equal.table}
        clear_report(out)
        clear_gallery(out)
        results = self.results.table
        written += write_tables(made, out, call=run.call, inputs=self.inputs, results=results)
        return [*written, *self.written]

    def mean_drop(
        self,
        metric: str,
        *,
        x: str | None = None,
        y: str | None = None,
        slice_x: str = "all",
        slice_y: str = "all",
    ) -> tuple[float, float | None, float | None]:
        """Return the mean drop over models under a metric, with its interval over images.

        Parameters
        ----------
        metric : str
        x, y : str, optional
            Names of the data sets. They are needed if several comparisons match.
        slice_x, slice_y : str
            Names of the slices, such as ``annotation=*`` and ``n_objects>=2``.

        Raises
        ------
        InputError
            If none or several comparisons match.
        """
        import polars as pl

        asked = {"metric_x": metric, "metric_y": metric, "dataset_x": x, "dataset_y": y}
        asked |= {"slice_x": slice_x, "slice_y": slice_y}
        rows = pl.DataFrame(pl.from_arrow(self.drops)).filter(pl.col("model").is_null())
        rows = rows.filter(pl.col("metric_x") == pl.col("metric_y"))
        matching = rows.filter(pl.col(c) == v for c, v in asked.items() if v is not None)
        if len(matching) != 1:
            known = (f"{r['metric_x']} {_place(r, 'x')} → {_place(r, 'y')}" for r in rows.to_dicts())
            raise InputError(
                f"{len(matching) or 'No'} comparisons match.",
                got=", ".join(f"{c}={v}" for c, v in asked.items() if v is not None),
                allowed="; ".join(sorted(set(known))) or "none: no two places were compared",
            )
        row = matching.row(0, named=True)
        return row["drop"], row["lo"], row["hi"]


def _place(row: Mapping[str, Any], side: str) -> str:
    chosen = row[f"slice_{side}"]
    return str(row[f"dataset_{side}"]) + ("" if chosen == "all" else f" [{chosen}]")


class JoinedResults(NamedTuple):
    """Results to compare: `arguments` as they were read, `results` joined, without the models left out."""

    passed: ResultsLike
    arguments: list[list[Results]]
    results: Results
    thresholds: tuple[Results | None, Results | None]  # of all models, and without some
    ends: list[tuple[End, End]]  # that benchmarks define


def join_results(
    passed: ResultsLike, *, without: Sequence[str] = (), several_models: bool = False, run: Run = QUIET
) -> JoinedResults:
    """Read results, and leave models out.

    `several_models` is as in `join`, and errors are raised as in `manyhot.compare`.
    """
    arguments = [read_source(argument, run) for argument in flattened(passed)]
    parts = [part for argument in arguments for part in argument]
    ends, own_without = _of_benchmarks(parts)
    left_out = without or own_without
    together = join(parts, several_models=several_models).without(left_out, missing_ok=not without)
    if not len(together):
        raise InputError("No model is left to compare.", got=", ".join(left_out) or None)
    if left_out:
        together = replace(together, pairs=adjusted(together.pairs))
    thresholds = join_thresholds(open_thresholds(passed))
    others = None if thresholds is None else thresholds.without(left_out, missing_ok=not without)
    return JoinedResults(passed, arguments, together, (thresholds, others), ends)


def compare_results(
    joined: JoinedResults,
    *,
    families: PathLike | Mapping[str, str] | None = None,
    best_from: float = BEST_FROM,
    ends: Sequence[tuple[End, End]] = (),
    groups: Groups | None = None,
) -> Comparison:
    """Compare models between data sets and metrics; see `manyhot.compare`."""
    together, (thresholds, others) = joined.results, joined.thresholds
    comparer = Comparer(together, family_namer(together, families), best_from)
    for x, y in dict.fromkeys([*_shifts(together), *_within(together), *joined.ends, *ends]):
        comparer.add(x, y)
    together = replace(together, models=with_families(together, comparer.family))
    compared, equal = comparer.tables(), None
    is_inferred = families is None and any(map(len, compared.values()))
    notes = tuple[str, ...](_note_on_one_family(together.models) if is_inferred else ())
    notes += tuple(notes_on_shared_images(together.about, compared["drops"]))
    notes += tuple(notes_on_clusters(together.about, compared["drops"]))
    if groups is None:
        notes += tuple(unstored_notes([part for parts in joined.arguments for part in parts]))
    else:
        equal = compare_groups(together, group_names(groups, together, joined.arguments))
        together = replace(together, models=equal.with_groups(together.models))
    paths = [Path(r) for r in flattened(joined.passed) if isinstance(r, str | os.PathLike)]
    return Comparison(
        together,
        **compared,
        sensitivity=sensitivity(together, others, comparer.family),
        thresholds=thresholds,
        described=_described(paths),
        equal=equal,
        notes=(*notes, *(() if equal is None else equal.notes)),
        sources=tuple(paths),
        metadata={"notes": together.about.get("notes", "[]")},
        inputs=dict(_hash(path) for path in paths if path.exists()),
    )


def _note_on_one_family(models: pa.Table) -> tuple[str, ...]:
    """Return a note if the names of models imply that all are of one family; none for a few models."""
    names, own = models["model"].to_pylist(), set(models["family"].to_pylist())
    if len(names) < FEWEST_FAMILIES or len(own) > 1 or own != {family_of(name) for name in names}:
        return ()
    return (
        f"all {len(names)} models are of one family according to their names, {own.pop()}, so there are no "
        "intervals over families; if their architectures differ, pass the family of each model as `families`",
    )


def _shifts(results: Results) -> list[tuple[End, End]]:
    have, datasets = results.values_at, results.datasets
    own = {y: x for y, x in REFERENCES.items() if x in datasets and y in datasets}
    pairs = [(own.get(d, datasets[0]), d) for d in datasets[1:] if d not in own.values()]
    metrics = [*accuracies(), *_of_multi_label(results)]
    found = (((x, m, "all"), (y, m, "all")) for m in metrics for x, y in pairs)
    return [(x, y) for x, y in found if x in have and y in have]


def _of_multi_label(results: Results) -> list[str]:
    """Return shares of scores of all classes, such as map_macro, if no data set has original labels."""
    metrics = dict.fromkeys(metric for _, metric, _ in results.values_at)
    if not {"top1", "top5"}.isdisjoint(metrics):
        return []
    about = {m: e.about for m in metrics if (e := registered_metric(m)) is not None}
    needed = {"needs": "scores", "better": "higher"}
    return sorted(
        (m for m, a in about.items() if "unit" not in a and needed.items() <= a.items()), key=reading_order
    )


def _within(results: Results) -> list[tuple[End, End]]:
    have = results.values_at
    metrics = [m for m in accuracies(LABEL_SETS) if m in headline()]
    found = (((d, "top1", "all"), (d, m, "all")) for d in results.datasets for m in metrics)
    return [(x, y) for x, y in found if x in have and y in have]


def _of_benchmarks(parts: Sequence[Results]) -> tuple[list[tuple[End, End]], list[str]]:
    """Return the further comparisons that benchmarks define, and the models that they leave out."""
    asked = [json.loads(part.about["compared"]) for part in parts if "compared" in part.about]
    ends = [(tuple(x), tuple(y)) for one in asked for x, y in one["ends"]]
    return ends, [pattern for one in asked for pattern in one["without"]]


def _described(folders: Sequence[Path]) -> dict[str, pa.Table]:
    """Return the tables of label sets in folders of results."""
    described = dict[str, pa.Table]()
    for name in _DESCRIBED:
        parts = list[pa.Table]()
        for path in (folder / f"{name}.parquet" for folder in folders):
            table = tables.read(path, name).replace_schema_metadata() if path.is_file() else None
            if table is not None:  # several folders may contain results on the same data set
                seen = pa.array({d for p in parts for d in p["dataset"].to_pylist()}, pa.string())
                parts.append(table.filter(pc.invert(pc.is_in(table["dataset"], seen))))
        described |= {name: pa.concat_tables(parts)} if parts else {}
    return described


def _hash(path: Path) -> tuple[str, str]:
    file = path / "results.parquet" if path.is_dir() else path
    return (f"{path.name}/{file.name}" if path.is_dir() else path.name), sha256(file)
