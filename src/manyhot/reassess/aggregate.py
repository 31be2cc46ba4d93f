"""Votes to label sets: `manyhot aggregate`.

What a notebook calls about votes: label sets of raters' answers, and how far raters agree.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot import registry, tables
from manyhot.checks import check_draws, is_number, is_whole
from manyhot.classes import ClassList, class_list, from_keys
from manyhot.core.aggregation import Aggregate
from manyhot.core.answers import MAYBE, NO, SILENT, YES, Answers
from manyhot.core.answers import GoldenAnswers as GoldenAnswers
from manyhot.core.threshold_curve import Curve, curve
from manyhot.errors import InputError
from manyhot.formats import read_golden, read_images, read_votes
from manyhot.formats.tabular import declared, write_csv
from manyhot.formats.writing import PathLike, Progress, check_apart, check_place, in_campaign
from manyhot.reassess.agreement import Agreement, raters_table
from manyhot.reassess.agreement import agreement as agreement_of_votes
from manyhot.reassess.answers import answers_of, class_ids, golden_of, proposer_of, read_answers
from manyhot.tables import (
    STATES,
    Golden,
    Images,
    Labels,
    Refined,
    Votes,
    golden_from_table,
    schema,
    votes_from_table,
)

METHOD = "dawid-skene"
"""The method by default: it needs no golden answers."""


REFINED = ("decides", "counts", "ignored")
"""What decisions are to the label sets."""


ORIGINAL = "original label"
"""The method of images that nobody rated."""


@dataclass(frozen=True, eq=False)
class Aggregated:
    """Label sets made of votes, and what they rest on.

    Attributes
    ----------
    labels : Labels
    votes : Votes
    result : Aggregate
        Probabilities, raters' matrices and the course of the fit, as arrays over questions and raters.
    method : str
        The call string of the aggregator.
    threshold, unclear_from : float
        From which probability on a class is in the set, and from which on it is unclear; the latter is the
        threshold where none are unclear.
    raters : pyarrow.Table
        The table ``raters``.
    curve : pyarrow.Table
        The table ``curve``: precision and recall against golden answers; empty where there are none.
    notes : tuple of str
        What is to be known about the numbers.
    """

    labels: Labels
    votes: Votes
    result: Aggregate
    method: str
    threshold: float
    unclear_from: float
    raters: pa.Table
    curve: pa.Table
    notes: tuple[str, ...] = field(default=())

    @property
    def p(self) -> npt.NDArray[np.float64]:
        """The probability of each question of `votes` by the method, shape (Q,), in float64."""
        return self.result.p

    def about(self) -> dict[str, str]:
        """Return what the metadata of the labels file tells beside that of all labels."""
        result = self.result
        told: dict[str, Any] = {
            "method": self.method,
            "threshold": self.threshold,
            "unclear_from": self.unclear_from,
            "iterations": result.iterations,
            "converged": result.converged,
            "log_likelihood": None if np.isnan(result.log_likelihood) else result.log_likelihood,
            "prior": None if result.prior is None else result.prior.tolist(),
        }
        return {key: v if isinstance(v, str) else json.dumps(v) for key, v in told.items()}


def aggregate_tables(
    votes: Votes,
    golden: Golden | None = None,
    images: Images | None = None,
    *,
    method: str = METHOD,
    threshold: float | None = None,
    unclear_from: float | None = None,
    precision: float | None = None,
    recall: float | None = None,
    original_classes: Collection[int] | None = None,
    refined: str = "decides",
    resamples: int = 1000,
    seed: int = 0,
    name: str = "",
) -> Aggregated:
    """Make label sets of votes.

    Parameters
    ----------
    votes : Votes
    golden : Golden, optional
        Experts' answers: for methods that need them, for a threshold by precision or recall, and for what is
        said about raters.
    images : Images, optional
        All images of the data set with their original labels. Those without votes get a row, too: their
        original label and `rated` false.
    method : str
        An aggregator or call string, such as ``majority(maybe='half')``.
    threshold : float, optional
        By default what the method registers: 0.8, which is ReaL's, for probabilities and 0.5 for shares.
    unclear_from : float, optional
        Classes from this probability up to the threshold are unclear; by default they are not in the set.
    precision, recall : float, optional
        Instead of `threshold`: the threshold with this precision, and then the best recall, against golden
        answers; or with this recall, and the best precision.
    original_classes : collection of int, optional
        Where the original label counts as a rater, the classes for which it does; all by default.
    refined : {"decides", "counts", "ignored"}
        What decisions are, which were made where raters disagreed: they stand, whatever the method says, and
        maybe is unclear; each is one more answer; or they are left out.
    resamples, seed : int
        Of the bootstrap over images for the intervals of the curve.
    name : str
        Of the labels.

    Raises
    ------
    InputError
        Golden answers are needed and there are none, or as the method does.
    MatchError
        There are votes on images that are not among `images`.
    UnknownNameError
        There is no such method.
    """
    entry = registry.get("aggregator", method)
    if images is not None:
        votes.check_known(images)
    _check_thresholds(threshold, precision, recall, golden)
    _check_classes(original_classes, votes.n_classes)
    check_draws(resamples, seed)
    _check_refined(refined)
    votes = votes.with_refined() if refined == "counts" else votes
    decided = votes.refined if refined == "decides" else None
    answers = answers_of(votes, images, original_classes)
    experts = None if golden is None else golden_of(golden, votes, images)
    result = entry(answers, experts)
    default = float(entry.about["threshold"]) if threshold is None else threshold
    found = None if experts is None else _curve(result, experts, votes, default, resamples, seed)
    chosen = _threshold(precision, recall, found, default)
    unclear = _unclear(unclear_from, chosen)
    searched = precision is not None or recall is not None
    notes = (
        *_of_the_fit(answers, result, entry.name, chosen),
        *_notes(votes, result, experts, golden, entry, chosen=searched),
    )
    return Aggregated(
        _labels(votes, images, answers, result.p, (unclear, chosen), entry.name, name or votes.name, decided),
        votes,
        result,
        entry.name,
        chosen,
        unclear,
        raters_table(votes, answers, experts, result),
        _curve_table(found),
        (*notes, *_of_refined(votes.refined, refined)),
    )


def _check_thresholds(
    threshold: float | None, precision: float | None, recall: float | None, golden: Golden | None
) -> None:
    given = {"threshold": threshold, "precision": precision, "recall": recall}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise InputError(
            "One thing decides which classes count.", got=" and ".join(named), allowed="one of them"
        )
    if threshold is not None and not (is_number(threshold) and 0 < threshold <= 1):
        raise InputError("A threshold is a probability.", got=repr(threshold), allowed="above 0, up to 1")
    if golden is None and (precision is not None or recall is not None):
        raise InputError(
            f"A threshold by {named[0]} needs golden answers: questions that experts answered.",
            do="give golden answers with --golden, or a threshold",
        )
    for name, value in (("precision", precision), ("recall", recall)):
        if value is not None and not (is_number(value) and 0 < value <= 1):
            raise InputError(f"A {name} is a share.", got=repr(value), allowed="above 0, up to 1")


def _check_refined(refined: str) -> None:
    if refined not in REFINED:
        raise InputError("There is no such reading of decisions.", got=refined, allowed=", ".join(REFINED))


def _check_classes(original_classes: Collection[int] | None, n_classes: int) -> None:
    """Refuse classes that do not exist: that the original label counts for none of them would go unseen."""
    if original_classes is None:
        return
    known = isinstance(original_classes, Collection) and not isinstance(original_classes, str)
    strange = [c for c in original_classes if not is_whole(c) or not 0 <= c < n_classes] if known else []
    if strange or not known:
        raise InputError(
            "This is no list of classes.",
            where="original classes",
            got=repr(strange[0] if strange else original_classes),
            allowed=f"class ids from 0 to {n_classes - 1}, such as [0, 1]",
        )


def _threshold(precision: float | None, recall: float | None, found: Curve | None, default: float) -> float:
    if precision is None and recall is None:
        return default
    if found is None or not found.n_questions:
        raise InputError(
            "No golden question is among the votes, so that no threshold can be found.",
            do="ask raters the golden questions, too, or give a threshold",
        )
    return found.for_precision(precision) if precision is not None else found.for_recall(recall or 0.0)


def _unclear(given: float | None, threshold: float) -> float:
    """Return the probability from which a class is unclear: the threshold where none is given."""
    unclear = threshold if given is None else given
    if not is_number(unclear) or not 0 <= unclear <= threshold:
        raise InputError(
            "What is unclear lies below what is in the set.",
            got=repr(unclear),
            allowed=f"0 to {threshold:g}, the threshold",
        )
    return unclear


def _curve(
    result: Aggregate, experts: GoldenAnswers, votes: Votes, threshold: float, resamples: int, seed: int
) -> Curve:
    asked = experts.asked >= 0
    at = experts.asked[asked]
    return curve(
        result.p[at],
        experts.truth()[asked],
        votes.image[at],
        resamples=resamples,
        rng=np.random.default_rng(seed),
        thresholds=[threshold],
    )


def _curve_table(found: Curve | None) -> pa.Table:
    if found is None:
        return schema("curve").empty_table()
    n = len(found.threshold)
    renamed = {"kept": "n_above", "right": "n_right"}
    columns = {f.name: getattr(found, renamed.get(f.name, f.name)) for f in schema("curve")}
    whole = {"n_yes", "n_questions", "n_images"}
    return pa.table(
        {name: np.full(n, v, np.int64) if name in whole else v for name, v in columns.items()},
        schema=schema("curve"),
    )


def _labels(
    votes: Votes,
    images: Images | None,
    answers: Answers,
    p: npt.NDArray[np.float64],
    levels: tuple[float, float],
    method: str,
    name: str,
    decided: Refined | None,
) -> Labels:
    ids = votes.images if images is None else images.image_id
    row = votes.image if images is None else pc.index_in(votes.images, ids).to_numpy()[votes.image]
    label = None if images is None else images.label
    rated = np.bincount(row, minlength=len(ids)) > 0
    known = np.full(len(ids), SILENT, np.int32)
    if label is not None:
        known = pc.fill_null(label, SILENT).to_numpy().astype(np.int32)
    alone = np.flatnonzero(~rated & (known != SILENT))
    order = np.argsort(np.concatenate([row, alone]), kind="stable")
    more = len(alone)
    state = (p >= levels[0]).astype(np.int8) + (p >= levels[1])
    if decided is not None:
        state[decided.question] = decided.answer
        p = p.copy()
        sure = decided.answer != MAYBE
        p[decided.question[sure]] = decided.answer[sure] == YES
    lists = {
        "classes": np.concatenate([votes.class_id, known[alone]]),
        "state": np.concatenate([state, np.full(more, 2, np.int8)]),
        "p": np.concatenate([p, np.ones(more)]).astype(np.float32),
        "n_votes": np.concatenate([answers.counts().sum(1), np.zeros(more, np.int64)]).astype(np.int32),
    }
    lengths = np.bincount(row, minlength=len(ids)) + np.bincount(alone, minlength=len(ids))
    table = _table(ids, label, rated, rated | (known != SILENT), lengths, lists, order, method)
    return Labels(table, votes.n_classes, votes.class_hash, asked_known=True, name=name)


def _table(
    ids: pa.Array,
    label: pa.Array | None,
    rated: npt.NDArray[np.bool_],
    usable: npt.NDArray[np.bool_],
    lengths: npt.NDArray[np.int64],
    lists: dict[str, npt.NDArray[Any]],
    order: npt.NDArray[np.intp],
    method: str,
) -> pa.Table:
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    arrays = {name: pa.array(values[order]) for name, values in lists.items()}
    arrays["state"] = pa.DictionaryArray.from_arrays(arrays["state"], list(STATES)).cast(pa.string())
    methods = pa.DictionaryArray.from_arrays(pa.array(rated.astype(np.int8)), [ORIGINAL, method])
    return pa.table(
        {
            "image_id": ids,
            **({} if label is None else {"label": label}),
            "rated": pa.array(rated),
            "usable": pa.array(usable),
            **{name: pa.ListArray.from_arrays(offsets, values) for name, values in arrays.items()},
            "method": methods.cast(pa.string()),
        }
    )


def _of_refined(refined: Refined | None, how: str) -> tuple[str, ...]:
    if refined is None:
        return ()
    said = "left out" if how == "ignored" else "their state and p are the decision's, not the method's"
    return (f"{len(refined):,} questions were decided where raters disagreed: {said}",)


def _of_the_fit(answers: Answers, result: Aggregate, method: str, threshold: float) -> Iterator[str]:
    """Yield where what was learnt about raters, from their answers alone, contradicts these answers."""
    if not result.iterations or len(np.unique(answers.rater)) == 1:
        return
    counts = answers.counts()
    n = counts.sum(1)
    if n.max() == 1:
        yield (
            f"no question has the answers of two raters: {method} cannot compare them, and its numbers mean "
            "little; majority takes answers as they are"
        )
    p = result.p[n > 0]
    for answer, said, other in ((YES, "yes", p), (NO, "no", 1 - p)):
        n_said = int(np.count_nonzero(counts[:, answer]))
        if other.sum() < 0.5 and n_said:  # not one, if they are added up
            yield (
                f"{method} says {said} to none of {len(p):,} questions, though raters did to {n_said:,}: the "
                "answers may be too few to learn from; majority takes them as they are"
            )
    alike = (n > 1) & (counts.max(1) == n)
    against = (counts[:, YES] > 0) & (result.p < threshold) | (counts[:, NO] > 0) & (result.p >= threshold)
    n_against = int(np.count_nonzero(alike & against))
    if n_against:
        yield (
            f"{method} decides against all raters at {n_against:,} of the {np.count_nonzero(alike):,} "
            "questions that they answer alike: they may be bad, or their answers too few to learn from; "
            "majority takes them as they are"
        )


def _notes(
    votes: Votes,
    result: Aggregate,
    experts: GoldenAnswers | None,
    golden: Golden | None,
    entry: registry.Entry,
    *,
    chosen: bool,
) -> tuple[str, ...]:
    notes = []
    if not result.converged:
        notes.append(f"stopped after {result.iterations:,} iterations, before it converged")
    if len(np.unique(votes.rater)) == 1:
        alone = "there is one rater only: no other rater's answers check these"
        if result.iterations:  # what is to be learnt about raters by comparing them cannot be
            alone += ", and the method knows nothing of them; majority takes them as they are"
        notes.append(alone)
    if experts is None or golden is None:
        return tuple(notes)
    if (experts.asked < 0).all():
        notes.append("no golden question is among the votes: precision and recall are not known")
        return tuple(notes)
    unasked = int(np.count_nonzero(experts.truth() & (experts.asked < 0)))
    if unasked:
        notes.append(
            f"{unasked:,} golden questions with the truth yes are not among the votes: recall counts without"
        )
    if chosen:
        notes.append(
            "the threshold was chosen on the golden questions that precision and recall are counted on: "
            "expect a little less elsewhere"
        )
    if entry.about.get("needs") == "golden" and golden.raters is None:
        notes.append(
            "the golden questions that precision and recall are counted on taught the raters' matrices, too"
        )
    return tuple(notes)


def aggregate_files(
    votes: PathLike,
    out: PathLike | None = None,
    *,
    golden: PathLike | None = None,
    images: PathLike | None = None,
    classes: PathLike | None = None,
    format: str | None = None,
    method: str = METHOD,
    threshold: float | None = None,
    unclear_from: float | None = None,
    precision: float | None = None,
    recall: float | None = None,
    original_classes: str | None = None,
    refined: str = "decides",
    resamples: int = 1000,
    seed: int = 0,
    call: str = "",
    progress: Progress | None = None,
) -> tuple[Aggregated, list[Path]]:
    """Make label sets of votes and write them, with what was found out about raters.

    Parameters
    ----------
    votes : path-like
        Votes in any format, a campaign folder, or a name of `PUBLISHED`; a folder called like one is meant by
        ``./imagenet-real``.
    out : path-like, optional
        The labels, a Parquet file; by default ``labels.parquet``, of a campaign in its folder. Beside it
        ``…-raters.parquet`` and ``.csv`` are written, and with golden answers ``…-curve.csv``.
    golden, images : path-like, optional
        Experts' answers, and all images with their original labels; by default those of the campaign.
    classes : path-like, optional
        The class list, by default that of the campaign; see `manyhot.formats.read_classes`.
    format : str, optional
        Of the votes: a registered format or call string.
    original_classes : str, optional
        Class ids and ranges, such as ``0-397,500``: those for which the original label counts as a rater.
    method, threshold, unclear_from, precision, recall, refined, resamples, seed
        As in `manyhot.reassess.aggregate.aggregate_tables`.

    Raises
    ------
    ManyhotError
        For each kind of bad input; nothing is written then.
    OutputError
        If a file cannot be written.
    """
    out = in_campaign(votes, "labels.parquet") if out is None else Path(out)
    if out.suffix.lower() != ".parquet":
        raise InputError("Cannot write this kind of file.", where=out, allowed=".parquet")
    source = read_answers(votes, golden, images, classes, format, progress)
    for path in (out, *_beside(out).values()):
        check_apart(source.files, path)
    check_place(out, "labels")
    named = source.original_classes if original_classes is None else original_classes
    done = aggregate_tables(
        source.votes,
        source.golden,
        source.images,
        method=method,
        threshold=threshold,
        unclear_from=unclear_from,
        precision=precision,
        recall=recall,
        original_classes=class_ids(named, source.votes.n_classes) if named else None,
        refined=refined,
        resamples=resamples,
        seed=seed,
        name=source.name,
    )
    inputs, proposer = source.hashes(), proposer_of(Path(votes) / "proposals.parquet", source)
    return done, _write(done, out, inputs, call, {"proposer": proposer} if proposer else {})


def _write(
    done: Aggregated, out: Path, inputs: Mapping[str, str], call: str, more: Mapping[str, str]
) -> list[Path]:
    about = {**done.labels.about(), **done.about(), **more}
    written = [tables.write(done.labels.table, out, "labels", call=call, inputs=inputs, about=about)]
    beside = _beside(out)
    written.append(tables.write(done.raters, beside["raters"], "raters", call=call, inputs=inputs))
    written.append(write_csv(done.raters, beside["raters.csv"]))
    if len(done.curve):
        written.append(write_csv(pa.table(done.curve), beside["curve"]))
    else:
        beside["curve"].unlink(missing_ok=True)  # of an earlier run, with other labels
    return written


def _beside(out: Path) -> dict[str, Path]:
    """Return the files that are written beside the labels."""
    return {
        "raters": out.with_name(f"{out.stem}-raters.parquet"),
        "raters.csv": out.with_name(f"{out.stem}-raters.csv"),
        "curve": out.with_name(f"{out.stem}-curve.csv"),
    }


def aggregate(
    votes: Any,
    golden: Any = None,
    images: Any = None,
    *,
    n_classes: int | None = None,
    method: str = METHOD,
    threshold: float | None = None,
    unclear_from: float | None = None,
    precision: float | None = None,
    recall: float | None = None,
    original_classes: Collection[int] | None = None,
    refined: str = "decides",
    resamples: int = 1000,
    seed: int = 0,
) -> Aggregated:
    """Make label sets of raters' answers.

    Parameters
    ----------
    votes : Votes, path-like or table
        A file in any format, or a pyarrow, Polars or pandas table with the columns of the votes table.
    golden : Golden, path-like or table, optional
        Experts' answers, likewise.
    images : Images, path-like or table, optional
        All images with their original labels.
    n_classes : int, optional
        Of a table that does not tell; by default one more than its highest class.
    method, threshold, unclear_from, precision, recall, original_classes, refined, resamples, seed
        As in `manyhot.reassess.aggregate.aggregate_tables`.

    Raises
    ------
    InputError, MatchError, UnknownNameError
        As in `manyhot.reassess.aggregate.aggregate_tables`.

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
    return aggregate_tables(
        _votes(votes, n_classes),
        None if golden is None else _golden(golden, n_classes),
        None if images is None else _images(images),
        method=method,
        threshold=threshold,
        unclear_from=unclear_from,
        precision=precision,
        recall=recall,
        original_classes=original_classes,
        refined=refined,
        resamples=resamples,
        seed=seed,
    )


def agreement(
    votes: Any,
    golden: Any = None,
    *,
    n_classes: int | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Agreement:
    """Measure how far raters agree with each other and with experts.

    Parameters
    ----------
    votes, golden, n_classes
        As in `aggregate`.
    resamples, seed
        As in `manyhot.reassess.agreement.agreement`.
    """
    return agreement_of_votes(
        _votes(votes, n_classes),
        None if golden is None else _golden(golden, n_classes),
        resamples=resamples,
        seed=seed,
    )


def _votes(given: Any, n_classes: int | None) -> Votes:
    _check_number(n_classes)
    if isinstance(given, Votes):
        return given
    if isinstance(given, str | os.PathLike):
        return read_votes(given, classes=_numbered(given, "votes", n_classes))
    table = _arrow(given, "votes")
    return votes_from_table(table, name="votes", n_classes=n_classes or _one_more(table))


def _golden(given: Any, n_classes: int | None) -> Golden:
    if isinstance(given, Golden):
        return given
    if isinstance(given, str | os.PathLike):
        return read_golden(given, classes=_numbered(given, "golden", n_classes))
    table = _arrow(given, "golden")
    return golden_from_table(table, name="golden", n_classes=n_classes or _one_more(table))


def _images(given: Any) -> Images:
    if isinstance(given, Images):
        return given
    if isinstance(given, str | os.PathLike):
        return read_images(given)
    return Images(_arrow(given, "images"), "images")


def _check_number(n_classes: int | None) -> None:
    if n_classes is not None and (type(n_classes) is not int or n_classes < 1):
        raise InputError(
            "This is not a number of classes.",
            where="n_classes",
            got=repr(n_classes),
            allowed="a whole number, 1 and up",
        )


def _numbered(path: str | os.PathLike[str], table: str, n_classes: int | None) -> ClassList | None:
    """Return a list of so many classes without names, where their number is given and the file tells none."""
    file = Path(path) / f"{table}.parquet" if Path(path).is_dir() else Path(path)
    if n_classes in (None, len(class_list())) or declared(file):
        return None
    assert n_classes is not None
    return from_keys([str(i) for i in range(n_classes)], "classes by number")


def _arrow(given: Any, name: str) -> pa.Table:
    """Return a table of pyarrow, Polars or pandas in types that the tables have."""
    try:
        table = _as_table(given)
    except (AttributeError, TypeError, ValueError, pa.ArrowException) as error:
        raise InputError(
            "This is not a table.",
            where=name,
            got=f"{type(given).__name__} ({str(error).partition(chr(10))[0]})",
            allowed="a table of pyarrow, Polars or pandas with the columns of the table "
            f"{name}, a file, or what manyhot.read_{name} gives",
        ) from error
    texts = [n for n in table.column_names if pa.types.is_large_string(table.schema.field(n).type)]
    for column in texts:
        at = table.column_names.index(column)
        table = table.set_column(at, column, table[column].cast(pa.string()))
    return table


def _as_table(given: Any) -> pa.Table:
    if isinstance(given, pa.Table):
        return given
    if isinstance(given, pa.RecordBatch):
        return pa.Table.from_batches([given])
    if hasattr(given, "collect"):  # a LazyFrame
        given = given.collect()
    if hasattr(given, "to_arrow"):
        table = given.to_arrow()
        if not isinstance(table, pa.Table):
            raise TypeError("one column alone")
        return table
    if not hasattr(given, "columns"):
        raise TypeError("no columns")
    return pa.Table.from_pandas(given, preserve_index=False)


def _one_more(table: pa.Table) -> int:
    known = "class_id" in table.column_names and pa.types.is_integer(table["class_id"].type)
    highest = pc.max(table["class_id"]).as_py() if known else None
    return 1 if highest is None else max(highest, 0) + 1
