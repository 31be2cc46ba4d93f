"""Votes to label sets: `manyhot aggregate`."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from manyhot import registry
from manyhot.core.aggregation import Aggregate
from manyhot.core.answers import MAYBE, NO, SILENT, YES, Answers
from manyhot.core.answers import Golden as GoldenAnswers
from manyhot.core.thresholds import Curve, curve
from manyhot.errors import InputError
from manyhot.steps.numbers import check_draws, is_number, is_whole
from manyhot.steps.raters import raters_table
from manyhot.steps.votes import answers_of, golden_of
from manyhot.tables import STATES, Golden, Images, Labels, Refined, Votes, schema

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


def aggregate(
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
        wanted=[threshold],
    )


def _curve_table(found: Curve | None) -> pa.Table:
    if found is None:
        return schema("curve").empty_table()
    n = len(found.threshold)
    columns = {f.name: getattr(found, f.name) for f in schema("curve")}
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
