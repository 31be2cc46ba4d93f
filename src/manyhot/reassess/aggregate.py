"""Aggregate votes into label sets: `manyhot aggregate`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, get_args

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot import registry, tables
from manyhot.command import command
from manyhot.console import fact_lines
from manyhot.core.aggregation import Aggregate, expected_answers
from manyhot.core.answers import YES, Answers, GoldenAnswers
from manyhot.core.threshold_curve import Curve
from manyhot.errors import InputError
from manyhot.formats.tabular import write_csv
from manyhot.formats.writing import PathLike, check_apart, check_place
from manyhot.parameters import RESAMPLES, InCampaign, Probability, Resamples, Seed, Share, Was, check_one_of
from manyhot.reassess.aggregation_notes import Decisions, decision_notes, fit_notes, golden_notes
from manyhot.reassess.aggregators import aggregator_of, check_method_name
from manyhot.reassess.answers import (
    ClassesLike,
    OriginalClasses,
    TableLike,
    VotesLike,
    VotesSource,
    class_ids,
    golden_of,
    open_votes,
)
from manyhot.reassess.choices import aggregate_choices
from manyhot.reassess.golden_curve import (
    chosen_threshold,
    cross_fitted_note,
    curve_table,
    golden_curve,
    unclear_level,
)
from manyhot.reassess.rater_history import (
    check_history,
    history_files,
    history_of,
    history_table,
    with_earlier,
)
from manyhot.reassess.raters import decimal_text, flag_lines, interval_text, raters_table
from manyhot.result import Result, sources_of
from manyhot.run import QUIET, Run
from manyhot.tables import Labels, Votes, schema
from manyhot.tables.audit_samples import read_audit_sample
from manyhot.tables.vote_labels import METHOD, answers_of, labels_of_votes
from manyhot.tables.votes import COUNTED_CLASS


@dataclass(frozen=True, eq=False)
class Aggregated(Result):
    """Label sets made from votes, with the probabilities and statistics behind them.

    Attributes
    ----------
    labels : Labels
    votes : Votes
    result : Aggregate
        Probabilities, raters' confusion matrices and the history of the fit, as arrays over questions and
        raters.
    method : str
        The call string of the aggregator.
    threshold, unclear_from : float
        Minimum probability of a valid class, and minimum probability of an unclear one. They are equal if no
        class can be unclear.
    raters : pyarrow.Table
        The table ``raters``.
    curve : pyarrow.Table
        The table ``curve``, with precision and recall on golden questions. Empty if there are no golden
        answers.
    matrices : pyarrow.Table
        The table ``matrices``. Empty if it is unknown who gave the votes.
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
    threshold: float
    unclear_from: float
    raters: pa.Table
    curve: pa.Table
    matrices: pa.Table

    @property
    def tables(self) -> dict[str, pa.Table]:
        """The tables by name."""
        return {name: self.labels.table if name == "labels" else getattr(self, name) for name in self.NAMES}

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
        n, row = self._counts(), self._at_threshold()
        asked = f"of {n['raters']:,} raters on {n['questions']:,} questions about {n['rated']:,} images"
        if self.votes.kind:
            who = "unknown raters" if self.votes.kind == COUNTED_CLASS else f"{n['raters']:,} raters"
            asked = f"of {who} on {n['rated']:,} images, each for one class of {self.votes.n_classes:,}"
        with_any = n["images"] - n["empty"]
        on = f"on {with_any:,} of {n['images']:,} images, {n['multi']:,} with two or more"
        facts = [("votes", f"{n['votes']:,}", asked), ("labels", f"{n['labels']:,}", on)]
        if n["unrated"]:
            facts.append(("not rated", f"{n['unrated']:,}", "images, which have their original label"))
        facts.append(("threshold", f"{self.threshold:g}", f"{self.method}, {_course(self.result)}"))
        for name in ("precision", "recall") if row is not None else ():
            assert row is not None
            golden = f"on {row['n_questions']:,} golden questions of {row['n_images']:,} images"
            ends = interval_text(row[f"{name}_lo"], row[f"{name}_hi"])
            facts.append((name, decimal_text(row[name]), golden if ends == "–" else f"{ends}, {golden}"))
        yield from fact_lines(facts)
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
        for path in files.values():
            check_apart(sources_of(sources, ("labels",)), path)
        check_place(files["labels"], "labels")

    def _counts(self) -> dict[str, int]:
        sizes = [row.count("yes") for row in self.labels.table["state"].to_pylist()]
        return {
            "votes": len(self.votes) if not self.votes.kind else int((self.votes.answer == YES).sum()),
            "raters": self.votes.n_raters,
            "questions": self.votes.n_questions,
            "rated": len(self.votes.images),
            "unrated": self.labels.table["rated"].to_pylist().count(False),
            "images": len(self.labels),
            "labels": sum(sizes),
            "empty": sizes.count(0),
            "multi": sum(n > 1 for n in sizes),
        }

    def _at_threshold(self) -> dict[str, Any] | None:
        """Return the row of the curve at the threshold: the lowest probability at or above it."""
        rows: list[dict[str, Any]] = self.curve.to_pylist()
        return next((row for row in rows if row["threshold"] >= self.threshold), None)


def _files(out: PathLike) -> dict[str, Path]:
    """Return the files to write: the labels, and the tables beside them."""
    path = Path(out)
    if path.suffix.lower() == ".csv":
        raise InputError("Cannot write this kind of file.", where=out, allowed="a .parquet file, or a folder")
    path = path if path.suffix.lower() == ".parquet" else path / "labels.parquet"
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


@command(
    "aggregate",
    examples=(
        "manyhot aggregate imagenet-real --method golden-bayes --out labels.parquet",
        "manyhot aggregate campaign",
    ),
    out=InCampaign("votes", "labels.parquet"),
)
def aggregate(
    votes: VotesLike,
    golden: TableLike = None,
    images: TableLike = None,
    *,
    classes: ClassesLike = None,
    format: str | None = None,
    method: str = METHOD,
    threshold: Probability | None = None,
    min_precision: Annotated[Probability | None, Was("--precision")] = None,
    min_recall: Annotated[Probability | None, Was("--recall")] = None,
    unclear_from: Share | None = None,
    original_classes: OriginalClasses = None,
    refined: Decisions = "decides",
    history: TableLike = None,
    start: TableLike = None,
    resamples: Resamples = RESAMPLES,
    seed: Seed = 0,
    run: Run = QUIET,
) -> Aggregated:
    """Combine raters' answers into label sets.

    Methods: auto, majority, yes-share, dawid-skene, one-coin, golden-bayes.

    Parameters
    ----------
    votes
        Votes in any format, the folder of a campaign, or imagenet-real, a published set that is downloaded.
    golden
        Experts' answers; by default, those of the campaign. Some methods learn from them. They also serve to
        choose a threshold by precision or recall, and to measure the quality of raters.
    images
        Images table with original labels; by default, that of the campaign. Images without votes keep their
        original label, with `rated` false.
    classes
        Class list: a file with one key per line, a table with the columns key and name, or imagenet1k,
        imagenet-a or imagenet-r. By default, that of the campaign.
    format
        Format of the votes: a name, or a call string such as "crowd-kit(separator='|')". By default, the
        format is detected.
    method
        Name of an aggregator, or a call string such as "majority(maybe='half')".
    threshold
        Minimum probability of a valid class. By default, that of the method: 0.8 for methods that estimate
        probabilities, as in ReaL, and 0.5 for methods that compute shares.
    min_precision
        Choose the lowest threshold with at least this precision on golden questions.
    min_recall
        Choose the highest threshold with at least this recall on golden questions.
    unclear_from
        Minimum probability of an unclear class, at most the threshold. By default, no class is unclear.
    original_classes
        Classes for which golden-bayes counts the original label as a rater, such as 0-397. By default, all
        classes.
    refined
        How to use decisions on disagreements: a decision overrides the method, and maybe means unclear
        (decides); it counts as one more answer (counts); or it is ignored (ignored).
    history
        Labels or their table matrices from an earlier campaign with the same kind of votes. Its answers count
        as earlier ones of the same raters, so that good raters are trusted from the first answer.
    start
        Labels or their table matrices of an earlier fit to some of these votes, in which raters chose one
        class of all. The method starts from it; the result is that of a fit to all votes.
    resamples
        Number of resamples of the golden images, for the intervals of precision and recall at a threshold
        that is chosen on them, of which at most 200 are used; 0 skips all intervals.
    seed
        Seed of the resamples, and of the parts of the golden images.
    run
        Command line of the call, and callback for its progress.

    Returns
    -------
    Aggregated

    Raises
    ------
    InputError
        Golden answers are needed but missing, or an option is out of range.
    MatchError
        If some votes are on images that are not in `images`, or the tables have different class lists.
    UnknownNameError
        If there is no such method.

    Examples
    --------
    >>> import pyarrow as pa
    >>> votes = pa.table({
    ...     "image_id": ["a.jpg"] * 3, "class_id": [0] * 3, "rater_id": ["x", "y", "z"],
    ...     "answer": ["yes", "yes", "no"],
    ... })
    >>> aggregate(votes, method="yes-share").p.round(2).tolist()
    [0.67]
    """
    check_method_name(method)
    check_one_of(refined, get_args(Decisions), "Decisions cannot be used like this.", where="`refined`")
    given = {"threshold": threshold, "min_precision": min_precision, "min_recall": min_recall}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise InputError(
            "Only one of these options may set the threshold.", got=" and ".join(named), allowed="one of them"
        )
    source = open_votes(votes, golden, images, classes=classes, format=format, run=run)
    asked = source.votes.with_refined() if refined == "counts" else source.votes
    if source.images is not None:
        asked.check_known(source.images)
    if source.golden is None and named and named != ["threshold"]:
        raise InputError(
            f"`{named[0]}` needs golden answers: the answers of experts to some of the questions.",
            do="pass golden answers (`golden`) or a threshold",
        )
    entry = aggregator_of(method, asked)
    check_history(asked, entry, history, start)
    fit = _fit(source, asked, entry, original_classes, history, start)
    default = float(entry.about["threshold"]) if threshold is None else threshold
    measured = golden_curve(fit.result, fit.experts, fit.votes, default, resamples)
    chosen = chosen_threshold(min_precision, min_recall, measured, default)
    if unclear_from is None and not named:
        unclear_from = entry.about.get("unclear_from")
    crossed = cross_fitted_note(
        fit.result, fit.experts, fit.votes, min_precision, min_recall, resamples, seed
    )
    found = fit.aggregated(unclear_level(unclear_from, chosen), chosen, measured, refined, crossed)
    return replace(found, inputs={**source.inputs, **history_files(history, start)})


@dataclass(frozen=True)
class _Fit:
    """What a method returned for votes: `votes` contain all questions that have a probability."""

    source: VotesSource
    votes: Votes
    answers: Answers
    experts: GoldenAnswers | None
    entry: registry.Entry
    result: Aggregate
    matrices: pa.Table

    def aggregated(
        self, unclear: float, threshold: float, measured: Curve | None, refined: Decisions, crossed: str
    ) -> Aggregated:
        """Return the label sets at these levels, the other tables, and what is to be said about them."""
        source, votes, answers, result = self.source, self.votes, self.answers, self.result
        method, proposer = self.entry.name, self.source.proposer()
        labels = labels_of_votes(
            votes,
            source.images,
            answers,
            result.p,
            levels=(unclear, threshold),
            decided=votes.refined if refined == "decides" else None,
            method=method,
            name=source.name or votes.name,
        )
        raters = schema("raters").empty_table()
        if votes.kind != COUNTED_CLASS:
            raters = raters_table(votes, answers, self.experts, result)
        notes = (
            *source.notes,
            *fit_notes(votes, answers, result, method, threshold),
            *golden_notes(votes, result, self.experts, source.golden, self.entry, crossed=crossed),
            *decision_notes(votes.refined, refined),
        )
        metadata = _about(result, method, threshold, unclear) | ({"proposer": proposer} if proposer else {})
        fitted = votes, result, method, threshold, unclear
        about_raters = raters, curve_table(measured), self.matrices
        labels = _of_sample(labels, source.folder)
        return Aggregated(labels, *fitted, *about_raters, notes=notes, metadata=metadata)


def _fit(
    source: VotesSource,
    votes: Votes,
    entry: registry.Entry,
    original_classes: OriginalClasses,
    history: TableLike,
    start: TableLike,
) -> _Fit:
    """Return what a method returns for votes, with earlier answers of the same raters."""
    earlier, choices = history_of(history, votes, "history"), None
    if votes.kind:
        choices = aggregate_choices(votes, entry, earlier, history_of(start, votes, "start"))
        votes = choices.votes
    counting = source.original_classes or None if original_classes is None else original_classes
    own = None if counting is None else class_ids(counting, votes.n_classes)
    answers = answers_of(votes, source.images, own)
    experts = None if source.golden is None else golden_of(source.golden, votes, source.images)
    if choices is not None:
        return _Fit(source, votes, answers, experts, entry, choices.result, choices.matrices)
    result = entry(replace(answers, history=earlier), experts)
    matrices = history_table(with_earlier(expected_answers(answers, result), earlier), votes)
    return _Fit(source, votes, answers, experts, entry, result, matrices)


def _about(result: Aggregate, method: str, threshold: float, unclear_from: float) -> dict[str, str]:
    """Return the fit for the metadata of the labels file."""
    values: dict[str, Any] = {
        "method": method,
        "threshold": threshold,
        "unclear_from": unclear_from,
        "iterations": result.iterations,
        "converged": result.converged,
        "log_likelihood": None if np.isnan(result.log_likelihood) else result.log_likelihood,
        "prior": None if result.prior is None else result.prior.tolist(),
    }
    if result.weights is not None:
        values["weights"] = result.weights
    return {key: v if isinstance(v, str) else json.dumps(v) for key, v in values.items()}


def _of_sample(labels: Labels, folder: Path | None) -> Labels:
    """Return the label sets of an audit without its images for golden questions, which were not drawn."""
    path = None if folder is None else folder / "audit_sample.parquet"
    if path is None or not path.is_file():
        return labels
    drawn = read_audit_sample(path).drawn
    return replace(labels, table=labels.table.filter(pc.is_in(labels.table["image_id"], drawn)))
