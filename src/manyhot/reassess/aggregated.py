"""Label sets made from answers, with the tables behind them: what `manyhot aggregate` returns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot import tables
from manyhot.console import fact_lines
from manyhot.core.aggregation import Aggregate
from manyhot.errors import InputError
from manyhot.formats.csv_tables import write_csv
from manyhot.formats.writing import PathLike, check_apart, check_place
from manyhot.reassess.golden_curve import Levels
from manyhot.reassess.raters import decimal_text, flag_lines, interval_text
from manyhot.result import Result, sources_of
from manyhot.run import QUIET, Run
from manyhot.tables import Labels, Votes
from manyhot.tables.votes import COUNTED_CLASS


@dataclass(frozen=True, eq=False)
class Aggregated(Result):
    """Label sets made from votes, with the probabilities and statistics behind them.

    Attributes
    ----------
    labels : Labels
    votes : Votes
    result : Aggregate
        Probabilities of questions, raters' confusion matrices, and statistics of the fit.
    method : str
        The call string of the aggregator.
    levels : Levels
        Minimum probabilities of an unclear and of a valid class, `unclear_from` and `threshold`.
    raters : pyarrow.Table
        The table ``raters``.
    curve : pyarrow.Table
        The table ``curve``, with precision and recall on golden questions. Empty if there are no golden
        answers.
    matrices : pyarrow.Table
        The table ``matrices``. Empty if the raters are unknown.
    notes, metadata, inputs
        As in `Result`.
    """

    NAMES = ("labels", "raters", "matrices", "curve")
    TARGET = (
        "FILE",
        "Parquet file of the labels, or a folder. Tables about raters are written next to the labels.",
    )

    labels: Labels
    votes: Votes
    result: Aggregate
    method: str
    levels: Levels
    raters: pa.Table
    curve: pa.Table
    matrices: pa.Table

    @property
    def tables(self) -> dict[str, pa.Table]:
        """The tables by name."""
        return {name: self.labels.table if name == "labels" else getattr(self, name) for name in self.NAMES}

    @property
    def threshold(self) -> float:
        """Minimum probability of a valid class."""
        return self.levels.threshold

    @property
    def unclear_from(self) -> float:
        """Minimum probability of an unclear class."""
        return self.levels.unclear_from

    @property
    def p(self) -> npt.NDArray[np.float64]:
        """The probability that the method assigns to each question of `votes`, as float64 of shape (Q,)."""
        return self.result.p

    def to_json(self) -> dict[str, Any]:
        """Return the counts, the fit, precision and recall at the threshold, and the notes."""
        row = self._at_threshold()
        at = None if row is None else {k: None if v != v else v for k, v in row.items()}
        fit = {key: _parsed(value) for key, value in self.metadata.items()}
        return {**self._counts(), **fit, "at_threshold": at, "notes": self.notes}

    def lines(self) -> Iterator[str]:
        """Yield the numbers of votes and labels, precision and recall, and the flagged raters."""
        n = self._counts()
        asked = f"of {n['raters']:,} raters on {n['questions']:,} questions about {n['rated']:,} images"
        if self.votes.kind:
            who = "unknown raters" if self.votes.kind == COUNTED_CLASS else f"{n['raters']:,} raters"
            asked = f"of {who} on {n['rated']:,} images, each for one of {self.votes.n_classes:,} classes"
        with_any = n["images"] - n["empty"]
        on = f"on {with_any:,} of {n['images']:,} images, {n['multi']:,} with two or more"
        facts = [("votes", f"{n['votes']:,}", asked), ("labels", f"{n['labels']:,}", on)]
        if n["unclear"]:
            facts.append(("unclear", f"{n['unclear']:,}", "(image, class) pairs, in no label set"))
        if n["unrated"]:
            has = "label" in self.labels.table.column_names
            which = "images, which have their original label" if has else "images, which have no label set"
            facts.append(("not rated", f"{n['unrated']:,}", which))
        facts.append(("threshold", f"{self.threshold:g}", f"{self.method}, {_course(self.result)}"))
        yield from fact_lines([*facts, *self._golden_facts()])
        if self.result.weights is not None:
            weights = _weights_text(self.result.weights)
            if self.method.startswith("one-coin"):
                weights = f"raters are judged by the truths of {weights}"
            yield f"{self.method}: {weights}, by the likelihood of held-out answers"
        yield from flag_lines(self.raters.to_pylist())

    def write(self, out: PathLike, *, run: Run = QUIET) -> list[Path]:
        """Write the labels and, next to them, tables about raters, as `Result.write` does.

        The files are ``labels.parquet``, ``labels-raters.parquet``, ``labels-raters.csv``,
        ``labels-curve.csv`` and ``labels-matrices.parquet``. `out` is a folder or the path of the labels
        file.
        """
        self.check_out(out, ())
        files, call, inputs = _files(out), run.call, self.inputs
        about = {**self.labels.about(), **self.metadata}
        written = [
            tables.write(self.labels.table, files["labels"], "labels", call=call, inputs=inputs, about=about)
        ]
        written.append(tables.write(self.raters, files["raters"], "raters", call=call, inputs=inputs))
        written.append(write_csv(self.raters, files["raters.csv"]))
        if len(self.curve):
            written.append(write_csv(pa.table(self.curve), files["curve.csv"]))
        else:
            files["curve.csv"].unlink(missing_ok=True)  # from an earlier run, with other labels
        if len(self.matrices):
            written.append(
                tables.write(self.matrices, files["matrices"], "matrices", call=call, inputs=inputs)
            )
        else:
            files["matrices"].unlink(missing_ok=True)
        return written

    @classmethod
    def check_out(cls, out: PathLike, sources: Iterable[object]) -> None:
        """Raise an error if `write` would overwrite an input or another table."""
        files = _files(out)
        made = {"labels", *(path.stem for name, path in files.items() if name != "labels")}
        for path in files.values():  # in a campaign, those of the last time are replaced
            check_apart(sources_of(sources, made), path)
        check_place(files["labels"], "labels")

    def _counts(self) -> dict[str, int]:
        states = self.labels.table["state"].to_pylist()
        sizes = [row.count("yes") for row in states]
        return {
            "votes": len(self.votes.cast),
            "raters": self.votes.n_raters,
            "questions": self.votes.n_questions,
            "rated": len(self.votes.images),
            "unrated": self.labels.table["rated"].to_pylist().count(False),
            "images": len(self.labels),
            "labels": sum(sizes),
            "unclear": sum(row.count("unclear") for row in states),
            "empty": sizes.count(0),
            "multi": sum(n > 1 for n in sizes),
        }

    def _golden_facts(self) -> Iterator[tuple[str, str, str]]:
        """Yield precision and recall on golden questions, if there are any."""
        row = self._at_threshold()
        for name in ("precision", "recall") if row is not None else ():
            assert row is not None
            golden = f"on {row['n_questions']:,} golden questions of {row['n_images']:,} images"
            ends = interval_text(row[f"{name}_lo"], row[f"{name}_hi"])
            yield name, decimal_text(row[name]), golden if ends == "–" else f"{ends}, {golden}"

    def _at_threshold(self) -> dict[str, Any] | None:
        """Return the row of the curve at the threshold: the lowest probability at or above it."""
        rows: list[dict[str, Any]] = self.curve.to_pylist()
        return next((row for row in rows if row["threshold"] >= self.threshold), None)


def labels_path(out: PathLike) -> Path:
    """Return the path of the labels file: `out` itself, or a file in it if it is a folder."""
    path = Path(out)
    if path.suffix.lower() == ".csv":
        raise InputError("Cannot write this kind of file.", where=out, allowed="a .parquet file, or a folder")
    return path if path.suffix.lower() == ".parquet" else path / "labels.parquet"


def _files(out: PathLike) -> dict[str, Path]:
    """Return the files to write: the labels, and the tables beside them."""
    path = labels_path(out)
    names = {
        "matrices": "-matrices.parquet",
        "raters": "-raters.parquet",
        "raters.csv": "-raters.csv",
        "curve.csv": "-curve.csv",
    }
    return {"labels": path, **{key: path.with_name(path.stem + end) for key, end in names.items()}}


def _course(result: Aggregate) -> str:
    if not result.iterations:
        return "in closed form"
    how = "converged" if result.converged else "not converged"
    return f"{how} after {result.iterations:,} iterations, log-likelihood {result.log_likelihood:,.1f}"


def _weights_text(weights: Mapping[str, float]) -> str:
    """Return models and their weights, best first."""
    best_first = sorted((m for m in weights if weights[m] >= 0.005), key=lambda model: -weights[model])
    return ", ".join(f"{model} {weights[model]:.2f}" for model in best_first)


def _parsed(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value
