"""The result of an evaluation: values with their n, pairs of models, and notes about what did not match."""

from __future__ import annotations

import dataclasses
import html
import json
import operator
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from manyhot.errors import InputError, MissingExtraError, rename_parameters
from manyhot.evaluate.compared_pairs import joined_about, numbers_of_clusters
from manyhot.evaluate.compared_results import Comparison, compare_results, join_results
from manyhot.evaluate.error_ratios import error_ratios, ratio_lines
from manyhot.evaluate.options import DEFAULT, EvaluateOptions
from manyhot.evaluate.outputs import (
    clear_gallery,
    clear_report,
    note_on_replaced,
    write_numbers,
    write_own_classes,
    write_tables,
)
from manyhot.evaluate.pairwise import conclusions
from manyhot.evaluate.posterior import posterior_lines
from manyhot.evaluate.result_rows import Note, Number, pairs_table
from manyhot.evaluate.terminal import (
    FARTHER_END,
    Block,
    block_html,
    change_lines,
    has_interval,
    headline_blocks,
    headline_lines,
    slice_lines,
    unshown_lines,
)
from manyhot.evaluate.worst_slices import worst_slices
from manyhot.evaluate.write import (
    CLASS_PICTURES,
    PICTURES,
    JudgedData,
    error_in_a_line,
    load_figures,
    page_pictures,
    prepare_renderer,
    write_class_pictures,
    write_page,
    write_report_gallery,
)
from manyhot.formats.writing import PathLike
from manyhot.registry import canonical
from manyhot.report.text import counted
from manyhot.result import Result
from manyhot.run import CHECK_ORDER, QUIET, Run, split_notes
from manyhot.tables import Results, schema
from manyhot.tables.frames import concat_by_name


@dataclass(frozen=True, eq=False)
class Evaluation(Result):
    """Results of evaluating models on label sets.

    Attributes
    ----------
    results, pairs, samples : pyarrow.Table
        The tables with these names; see `manyhot.tables.TABLES` for their columns.
    model_notes : tuple of Note
        Notes about the results of single models. `notes` contains the same notes, grouped.
    confidence : Mapping of str to pyarrow.Table
        The tables ``reliability`` and ``risk_coverage``; empty if no model has confidences.
    per_class : Mapping of str to pyarrow.Table
        The tables ``class_results``, ``class_confusions``, ``class_curves`` and ``class_means``;
        empty if there are original labels, if metrics were selected, or if no model has scores of all
        classes.
    posterior : Mapping of str to pyarrow.Table
        The tables ``posterior`` and ``posterior_pairs``; empty unless label sets were drawn.
    thresholds : Evaluation, optional
        Results on label sets at other probability thresholds, which `comparison` uses.
    own : tuple of str
        Names of the user's own models, if there are also published models.
    judged : tuple of Judged
        The data sets, for the report.
    options : EvaluateOptions
        The options of the call, such as the slices that the terminal shows and the gallery of the report.
    metadata : Mapping of str to str
        ``metrics`` (descriptions of the metrics, as JSON), ``resamples``, ``seed``, and ``classes`` (the hash
        of the class list).
    notes, inputs
        As in `Result`.
    """

    NAMES = ("results", "pairs", "samples")
    DRAWS: ClassVar[bool] = True

    results: pa.Table
    pairs: pa.Table
    samples: pa.Table
    model_notes: tuple[Note, ...] = ()
    confidence: Mapping[str, pa.Table] = field(default_factory=dict)
    per_class: Mapping[str, pa.Table] = field(default_factory=dict)
    posterior: Mapping[str, pa.Table] = field(default_factory=dict)
    thresholds: Evaluation | None = None
    own: tuple[str, ...] = ()
    judged: tuple[JudgedData, ...] = ()
    options: EvaluateOptions = DEFAULT
    _page_notes: list[str] = field(default_factory=list)
    _shown: frozenset[str] = frozenset()
    _are_explained: bool = False
    _as_results: list[tuple[Any, Any, Results]] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        rows: Sequence[Number],
        pairs: Sequence[Mapping[str, Any]],
        samples: pa.Table,
        notes: Sequence[Note],
        metadata: Mapping[str, str],
    ) -> Evaluation:
        """Build the tables from rows."""
        audited = any(n.estimator for n in rows)
        columns = schema("results", audited=audited)
        return cls(
            pa.table({name: list(map(attrgetter(name), rows)) for name in columns.names}, schema=columns),
            pairs_table(pairs, audited),
            samples.cast(schema("samples")),
            metadata=metadata,
        ).with_notes(notes)

    @classmethod
    def concat(cls, parts: Sequence[Evaluation]) -> Evaluation:
        """Join the evaluations of several data sets."""
        metrics = {
            n: about for p in parts for n, about in json.loads(p.metadata.get("metrics", "{}")).items()
        }
        return cls(
            pa.concat_tables([p.results for p in parts]),
            pa.concat_tables([p.pairs for p in parts]),
            pa.concat_tables([p.samples for p in parts]),
            confidence=concat_by_name(p.confidence for p in parts),
            per_class=concat_by_name(p.per_class for p in parts),
            posterior=concat_by_name(p.posterior for p in parts),
            judged=tuple(j for p in parts for j in p.judged),
            _shown=frozenset().union(*(p._shown for p in parts)),
            metadata={
                **parts[0].metadata,
                "metrics": json.dumps(metrics),
                **joined_about((p.metadata, p.results["dataset"].unique().to_pylist()) for p in parts),
            },
            inputs={name: digest for p in parts for name, digest in p.inputs.items()},
        ).with_notes([note for p in parts for note in p.model_notes])

    def renamed(self, names: Mapping[str, str]) -> Evaluation:
        """Return the evaluation with the parameters in its notes renamed; see `Result.renamed`."""
        model_notes = tuple(
            replace(note, text=rename_parameters(note.text, names)) for note in self.model_notes
        )
        return replace(super().renamed(names), model_notes=model_notes)

    def with_notes(self, notes: Sequence[Note]) -> Evaluation:
        """Return the evaluation with further notes on models."""
        every = (*self.model_notes, *notes)
        return replace(self, model_notes=every, notes=tuple(_grouped(every)))

    def __len__(self) -> int:
        return int(self.results.num_rows)

    def __repr__(self) -> str:
        counts = [len(self.results[c].unique()) for c in ("model", "dataset", "metric")]
        return "Evaluation({} models, {} data sets, {} metrics: {:,} numbers)".format(*counts, len(self))

    def value(
        self, metric: str, *, model: str | None = None, dataset: str | None = None, slice: str = "all"
    ) -> float:
        """Return one value. The metric is given by its name or by an alias, such as ``mAP``.

        Raises
        ------
        InputError
            If none or several rows match.
        """
        import polars as pl

        asked = {"metric": canonical("metric", metric), "slice": slice, "model": model, "dataset": dataset}
        rows = self.to_polars().filter(pl.col(c) == v for c, v in asked.items() if v is not None)
        if len(rows) != 1:
            names = {
                c: ", ".join(self.results[c].unique().to_pylist()) for c in ("metric", "model", "dataset")
            }
            raise InputError(
                f"{len(rows) or 'No'} numbers match.",
                got=", ".join(f"{c}={v}" for c, v in asked.items() if v is not None),
                allowed="; ".join(f"{c}: {listed}" for c, listed in names.items()),
                do="name the model and the data set" if len(rows) else None,
            )
        return float(rows["value"][0])

    def summary(self) -> Any:
        """Return the values over all images as a polars.DataFrame with one row per data set and model."""
        import polars as pl

        wide = self.to_polars().filter(pl.col("slice") == "all")
        return wide.pivot(on="metric", index=["dataset", "model"], values="value", maintain_order=True)

    @property
    def _blocks(self) -> list[Block]:
        """The models of each data set, in blocks that were evaluated on the same images."""
        unmatched = {(n.dataset, n.model): n.text for n in self.model_notes if n.kind.endswith("_unmatched")}
        return list(headline_blocks(self.as_results(), self.own, unmatched=unmatched))

    def _repr_html_(self) -> str:
        blocks = self._blocks
        below = [*conclusions(self.as_results()).values()]
        below += [FARTHER_END] if any(map(has_interval, blocks)) else []
        paragraphs = "".join(f"<p>{html.escape(line)}</p>" for line in below)
        first, notes = (f"<ul>{''.join(map(_item, part))}</ul>" for part in split_notes(self.notes))
        paragraphs += "".join(f"<p>Read {html.escape(line)}.</p>" for line in self.read)
        return f"{first}{''.join(map(block_html, blocks))}{paragraphs}{notes}"

    def as_results(self, name: str = "") -> Results:
        """Return the results in the form that comparisons read; messages call the results `name`."""
        metadata = {f"manyhot.{key}": value for key, value in self.metadata.items()}
        tables, about = (self.results, self.pairs, self.samples), (name, metadata)
        for of, described, results in self._as_results:  # its values are listed once: 0.1 s for 67 models
            if described == about and all(map(operator.is_, of, tables)):
                return results
        results = Results(tables[0].replace_schema_metadata(metadata), *tables[1:], name=name)
        self._as_results[:] = [(tables, about, results)]
        return results

    @cached_property
    def comparison(self) -> Comparison:
        """The comparison of models between data sets, and between metrics of each data set."""
        return compare_results(join_results(self))

    @cached_property
    def error_ratios(self) -> pa.Table:
        """The table ``error_ratios``, which is empty unless the benchmark defines the slice to divide by."""
        without = json.loads(self.metadata.get("compared", "{}")).get("without", ())
        results = self.as_results().without(without, missing_ok=True)
        return error_ratios(results, self.metadata.get("whole", ""))

    @cached_property
    def worst_slices(self) -> pa.Table:
        """The table ``worst_slices``: on which of the requested slices each model is worst."""
        return worst_slices(self.as_results(), self.options.slices)

    def lines(self) -> Iterator[str]:
        """Yield the best models of each data set, the user's own models with ranks, and the mean drops."""
        yield from self._model_lines()
        if self.options.metrics is not None:
            yield from unshown_lines(self.as_results())
        yield from slice_lines(self.as_results(), self.options.slices, self.worst_slices)
        yield from posterior_lines(self.posterior)
        of = self.comparison
        yield from change_lines(of.drops.to_pylist(), numbers_of_clusters(of.results.about))
        yield from ratio_lines(self.error_ratios.to_pylist())
        yield from self._page_notes

    def _model_lines(self) -> Iterator[str]:
        """Yield the lines about models that are not shown yet, and at the end what ± means."""
        blocks = [block for block in self._blocks if block.dataset not in self._shown]
        yield from headline_lines(blocks, conclusions(self.as_results()))
        if not self._are_explained and any(map(has_interval, self._blocks)):
            yield FARTHER_END

    def show_models(self, run: Run) -> Evaluation:
        """Report the models of each data set, which `lines` then leaves out."""
        run.doubts(self.notes)
        for line in headline_lines(self._blocks, conclusions(self.as_results())):
            run.event("line", {"text": line})
        return replace(self, _shown=frozenset(self.results["dataset"].unique().to_pylist()))

    def stream(self, run: Run) -> Evaluation:
        """Report the models not shown yet, before files are written; `lines` then leaves them out."""
        if run.on_event is None:
            return self
        run.doubts(_grouped([note for note in self.model_notes if note.dataset not in self._shown]))
        for line in self._model_lines():
            run.event("line", {"text": line})
        datasets = self.results["dataset"].unique().to_pylist()
        return replace(self, _shown=frozenset(datasets), _are_explained=True)

    def to_json(self) -> dict[str, Any]:
        """Return the results over all images, the mean drops and the notes on models."""
        rows = [r for r in self.results.to_pylist() if r["slice"] == "all"]
        return {
            "results": [{k: None if v != v else v for k, v in r.items()} for r in rows],
            "drops": [r for r in self.comparison.drops.to_pylist() if r["model"] is None],
            "notes": [dataclasses.asdict(n) for n in self.model_notes],
        }

    def write(self, out: PathLike, *, run: Run = QUIET) -> list[Path]:
        """Write the results, the related tables and the report, and return the paths.

        Parameters
        ----------
        out : path-like
            A folder.
        run : Run
            The run. Its command line is stored in the metadata.

        Raises
        ------
        OutputError
            If a file cannot be written. Each file is written completely or not at all.
        """
        if self.judged:  # while tables are written
            prepare_renderer()
            load_figures()
        about = {
            **self.metadata,
            "own": json.dumps(self.own),
            "notes": json.dumps([dataclasses.asdict(n) for n in self.model_notes]),
        }
        if self.options.slices:
            about["slices"] = json.dumps(list(self.options.slices))
        replaced = note_on_replaced(self.results, out)
        self._page_notes[:] = [replaced] if replaced else []
        with ThreadPoolExecutor(1) as pool:  # Arrow and Polars write without Python's lock
            writing = pool.submit(
                write_numbers,
                self.as_results(),
                out,
                call=run.call,
                inputs=self.inputs,
                about=about,
                thresholds=None if self.thresholds is None else self.thresholds.results,
            )
            if self.judged:
                self.comparison  # noqa: B018  which is kept
            written = writing.result()
        if not self.judged:
            return written
        comparison = self.comparison
        made = concat_by_name(j.describe().tables for j in self.judged if not j.is_proposed)
        made |= comparison.tables | {"models": comparison.results.models} | dict(self.confidence)
        made |= {
            **self.per_class,
            **self.posterior,
            "error_ratios": self.error_ratios,
            "worst_slices": self.worst_slices,
        }
        written += write_tables(made, out, call=run.call, inputs=self.inputs, results=self.results)
        written += write_own_classes([j.classes for j in self.judged], out)
        clear_report(out)
        return [*written, *self._pictured(Path(out), run), write_page(out, beside=False)]

    def _pictured(self, out: Path, run: Run) -> list[Path]:
        """Write the pictures and the gallery of the report; note what it lacks for want of photographs."""
        from manyhot.report.pictures import write_pictures

        pictures, pictured, gallery = None, list[Path](), list[Path]()
        for judged in self.judged if len(self.judged) == 1 and not self.judged[0].is_proposed else ():
            try:
                pictures = page_pictures(judged)
                pictured = write_class_pictures(judged, self.per_class, out)
            except MissingExtraError as error:
                self._page_notes.append(f"the report has no pictures: {error_in_a_line(error)}")
            gallery, lacking = write_report_gallery(judged, out / "report", self.options.gallery, run)
            self._page_notes.extend([f"the report has no gallery: {lacking}"] if lacking else [])
        if not gallery:
            clear_gallery(out)
        if not pictured:
            (out / CLASS_PICTURES).unlink(missing_ok=True)
        return [*write_pictures(pictures, out / PICTURES), *pictured, *gallery]


_SHOWN = 8
"""Notes on models that are shown; those on data sets are all shown."""


def _item(note: str) -> str:
    return f"<li>{html.escape(note)}</li>"


def _grouped(notes: Sequence[Note]) -> Iterator[str]:
    """Yield notes for a terminal: a note on several models of a data set once, skipped ones last."""
    models: dict[tuple[str, str], list[str]] = {}
    # Doubts about the order and what models differ in come first: only the first notes on models are shown.
    shown = (n for n in notes if n.kind not in ("skipped", "votes"))  # of votes, a sentence below models
    for note in sorted(shown, key=lambda n: (CHECK_ORDER not in n.text, n.kind != "models")):
        models.setdefault((note.dataset, note.text), []).append(note.model)
    n_models = 0
    for (dataset, text), names in models.items():
        n_models += names != [""]
        if names == [""] or n_models <= _SHOWN:
            yield f"{_place(dataset, names[0] if len(names) == 1 else f'{len(names):,} models')}: {text}"
    if n_models > _SHOWN:
        more = f"{counted(n_models - _SHOWN, 'more note')} on models"
        yield f"{more} {'is' if n_models == _SHOWN + 1 else 'are'} in the metadata of results.parquet"
    for note in (n for n in notes if n.kind == "skipped"):  # each, so that none is overlooked
        yield f"{note.dataset}: {note.model}: {note.text}"


def _place(dataset: str, model: str) -> str:
    return ", ".join(filter(None, (dataset, model)))  # what was assumed of the labels concerns no model
