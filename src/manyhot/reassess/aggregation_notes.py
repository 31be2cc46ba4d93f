"""Notes on aggregated votes: what is missing, what contradicts the answers, golden questions, decisions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from manyhot import registry, tables
from manyhot.core.aggregation import Aggregate
from manyhot.core.answers import NO, YES, Answers, GoldenAnswers
from manyhot.core.dawid_skene import CHANCE, FEWEST_RATERS
from manyhot.core.sets import YES as STATE_YES
from manyhot.errors import first_names
from manyhot.report.text import counted
from manyhot.tables import Golden, Labels, Refined, Votes
from manyhot.tables.arrays import label_sets
from manyhot.tables.vote_labels import METHOD

Decisions = Literal["decides", "counts", "ignored"]
"""How decisions on disagreements affect the label sets."""

_EXCLUSIVE = re.compile(
    r"(no|without) (finding|label|object|class|abnormality|disease|defect)s?|none|nothing|normal|healthy",
    re.IGNORECASE,
)
"""Names of classes that are likely to mean that no other class is valid, with spaces between words."""

_MANY, _FEWEST = 0.2, 10
"""Weight of chance, and number of equal answers of a rater, from which a note is due."""


def decision_notes(refined: Refined | None, how: Decisions) -> Iterator[str]:
    """Yield what became of decisions on disagreements."""
    if refined is not None:
        decided = "their state and p come from the decision, not from the method"
        effect = "these decisions are ignored" if how == "ignored" else decided
        yield f"{len(refined):,} questions on which raters disagreed were decided; {effect}"


def open_question_notes(votes: Votes, labels: Labels, proposals: Path | None) -> Iterator[str]:
    """Yield notes on proposed questions without answers, and on original labels kept without an answer."""
    pair = ["image_id", "class_id"]
    if proposals is not None:
        asked = pl.DataFrame({"image_id": votes.image_id, "class_id": votes.class_id})
        proposed = pl.DataFrame(tables.read(proposals, "proposals").select(pair))
        left = proposed.join(asked, on=pair, how="anti")
        begun = left["image_id"].unique().is_in(asked["image_id"].unique().implode()).sum()
        if len(left):
            yield (
                f"{len(left):,} of {len(proposed):,} proposed questions have no answers; {begun:,} of "
                f"{len(votes.images):,} rated images have such questions, so their label sets may lack "
                "classes"
            )
    sets = label_sets(labels)
    rated = labels.table["rated"].to_numpy()
    kept = (sets.values_of(sets.n_votes, sets.label) == 0) & rated
    if n := int(np.count_nonzero(kept)):
        yield (
            f"{n:,} rated images have no answer about their original label. The label is kept, with n_votes "
            "0, because not asked is not no"
        )


def exclusive_class_notes(labels: Labels) -> Iterator[str]:
    """Yield a note if a class such as *No Finding* is in label sets with others, or label sets are empty.

    A label set with an unclear class is undecided, and so are empty label sets of votes for one class.
    """
    classes = labels.known_classes
    names = [] if classes is None else [re.sub(r"[\s_-]+", " ", name).strip() for name in classes.names]
    exclusive = [i for i, name in enumerate(names) if _EXCLUSIVE.fullmatch(name)]
    if classes is None or not exclusive:
        return
    sets, rated = label_sets(labels), labels.table["rated"].to_numpy()
    has = np.zeros(len(sets), bool)
    has[sets.rows[np.isin(sets.classes, exclusive) & (sets.state == STATE_YES)]] = True
    n_beside = int(np.count_nonzero(has & rated & (sets.size > 1)))
    is_empty = sets.accepted == 0
    n_empty = 0 if sets.exclusive else int(np.count_nonzero(rated & sets.usable & is_empty))
    if n_beside or n_empty:
        which = first_names([classes.names[i] for i in exclusive])
        beside = f"{counted(n_beside, 'label set')} {'contains' if n_beside == 1 else 'contain'}"
        empty = f"{counted(n_empty, 'label set')} {'is' if n_empty == 1 else 'are'}"
        yield (
            f"{beside} {which} and another class, and {empty} empty; if {which} means that no other class is "
            "valid, these label sets contradict themselves"
        )


def undecided_image_notes(labels: Labels, threshold: float) -> Iterator[str]:
    """Yield a note on images of which no class is valid, although raters chose one class of each image."""
    sets, rated = label_sets(labels), labels.table["rated"].to_numpy()
    counted_images = rated & sets.counted
    if n := int(np.count_nonzero(counted_images & (sets.size == 0))):
        yield (
            f"no class of {n:,} of {np.count_nonzero(counted_images):,} images reaches the threshold of "
            f"{threshold:g}, although raters chose one class of each: it is undecided which is valid, so "
            "metrics of label sets skip these images; to take the most probable class of more images, lower "
            "`threshold`, or ask more raters"
        )


def fit_notes(
    votes: Votes, answers: Answers, result: Aggregate, method: str, threshold: float
) -> Iterator[str]:
    """Yield notes on why a fit cannot learn from the answers, on answers that it contradicts, and on ties."""
    if not result.iterations and threshold == 0.5 and not method.startswith(METHOD):
        yield from _ties(votes, result)
    if method.startswith(METHOD) and not result.iterations:
        yield from _at_face_value(answers, threshold)
    if not result.iterations or len(np.unique(answers.rater)) == 1:
        return
    yield from _missing(votes, answers, result, method)
    if _chance(result) < _MANY:
        yield from _contradictions(answers, result, method, threshold)


def _ties(votes: Votes, result: Aggregate) -> Iterator[str]:
    """Yield on how many questions, or images with votes for one class, half is enough for a valid class."""
    tied = result.p == 0.5
    n_tied, reach = int(np.count_nonzero(tied)), "their p of 0.5 reaches the threshold of 0.5, so"
    if votes.kind:
        n_tied = int(np.count_nonzero(np.bincount(votes.image[tied]) > 1))
        what = f"two classes are tied on {n_tied:,} of the {len(votes.images):,} images: {reach} both are"
    else:
        n = np.count_nonzero(~np.isnan(result.p))
        what = f"the answers to {n_tied:,} of the {n:,} questions are tied: {reach} the class is"
    if n_tied:
        half = f"more than half of the {'votes' if votes.kind else 'answers'}"
        yield f"{what} valid. To require {half}, pass a `threshold` above 0.5, such as 0.501"


def _at_face_value(answers: Answers, threshold: float) -> Iterator[str]:
    """Yield why answers are taken at face value, and what follows where raters disagree."""
    n_raters, counts = len(np.unique(answers.rater)), answers.counts()
    who = "there is only one rater" if n_raters == 1 else "there are only two raters"
    why = f"{who}, but estimating the quality of raters requires {FEWEST_RATERS} or more"
    if n_raters >= FEWEST_RATERS:
        why = "no question was answered by two raters, so the quality of raters cannot be estimated"
    yield f"{why}; answers are taken at face value"
    n_split = int(np.count_nonzero((counts[:, YES] > 0) & (counts[:, NO] > 0)))
    if n_split and threshold > 0.5:
        yield (
            f"the raters disagree on {n_split:,} of the {np.count_nonzero(counts.sum(1) > 1):,} questions "
            "that both answered. For these questions, p is 0.5, and the class is not valid; to make it "
            "unclear, set "
            "`unclear_from` to 0.5"
        )


def _chance(result: Aggregate) -> float:
    return (result.weights or {}).get(CHANCE, 0.0)


def _missing(votes: Votes, answers: Answers, result: Aggregate, method: str) -> Iterator[str]:
    """Yield why the quality of raters cannot be learnt from their answers."""
    counts = answers.counts()
    n_answers = counts.sum(1)
    shared = n_answers > 1
    n_shared = int(np.count_nonzero(shared))
    if n_shared and (counts.max(1) == n_answers)[shared].all():
        yield (
            f"raters agree on all {n_shared:,} questions that two or more raters answered, so {method} "
            "cannot learn how often raters err; if they err together, p is too close to 0 or 1"
        )
    if _chance(result) >= _MANY:
        yield (
            "raters agree little more often than by chance, so their answers are inconclusive, and p is "
            f"pulled towards 0.5 (weight of chance {_chance(result):.2f}): ask other raters, or add golden "
            "questions and use golden-bayes"
        )
    yield from _alike(votes, answers)


def _alike(votes: Votes, answers: Answers) -> Iterator[str]:
    """Yield which raters always give the same answer."""
    counts = answers.of_raters()
    alike = (counts.max(1) == counts.sum(1)) & (counts.sum(1) >= _FEWEST)
    if alike.any() and not alike.all():
        names = [str(votes.rater_id[int(r)].as_py()) for r in np.flatnonzero(alike)]
        listed = first_names(names, 10)
        yield (
            f"some raters gave the same answer to all of their questions (at least {_FEWEST} per rater), so "
            f"their answers carry little information: {listed}"
        )


def _contradictions(answers: Answers, result: Aggregate, method: str, threshold: float) -> Iterator[str]:
    """Yield in which cases the fitted quality of raters contradicts their answers."""
    counts = answers.counts()
    n_answers = counts.sum(1)
    if n_answers.max() == 1:
        yield (
            f"no question was answered by two raters, so {method} cannot compare raters, and its estimates "
            "are unreliable; majority takes answers at face value"
        )
    p = result.p[n_answers > 0]
    for answer, word, chance in ((YES, "yes", p), (NO, "no", 1 - p)):
        n = int(np.count_nonzero(counts[:, answer]))
        if chance.sum() < 0.5 and n:  # less than one question in all
            yield (
                f"{method} estimates that {word} is true for none of {len(p):,} questions, but raters "
                f"answered {word} to {n:,}: there may be too few answers to learn from; majority takes "
                "answers at face value"
            )
    alike = (n_answers > 1) & (counts.max(1) == n_answers)
    against = (counts[:, YES] > 0) & (result.p < threshold) | (counts[:, NO] > 0) & (result.p >= threshold)
    n_against = int(np.count_nonzero(alike & against))
    if n_against:
        yield (
            f"{method} decides against all raters on {n_against:,} of the {np.count_nonzero(alike):,} "
            "questions on which they agree: the raters may be unreliable, or there may be too few answers to "
            "learn from; majority takes answers at face value"
        )


def golden_notes(
    votes: Votes,
    result: Aggregate,
    experts: GoldenAnswers | None,
    golden: Golden | None,
    entry: registry.Entry,
    *,
    crossed: str,
) -> Iterator[str]:
    """Yield notes on what is missing for a fit, or for precision and recall on golden questions."""
    if not result.converged:
        yield f"stopped after {result.iterations:,} iterations, before it converged"
    at_face_value = entry.name.startswith(METHOD) and not result.iterations  # `fit_notes` says so
    if len(np.unique(votes.rater)) == 1 and not at_face_value:
        alone = "there is only one rater, so the answers cannot be compared with those of another rater"
        if result.iterations:  # raters cannot be compared
            alone += (
                ", and the method cannot estimate the quality of the rater; majority takes answers at "
                "face value"
            )
        yield alone
    if experts is None or golden is None:
        return
    if (experts.asked < 0).all():
        yield "there are no votes on golden questions, so precision and recall are unknown"
        return
    tied = int(np.count_nonzero(2 * experts.yes == experts.experts))
    if tied:
        yield f"experts are equally divided on {tied:,} golden questions, whose true answer is taken to be no"
    unasked = int(np.count_nonzero(experts.truth() & (experts.asked < 0)))
    if unasked:
        yield (
            f"{unasked:,} golden questions with the true answer yes have no votes and are left out of recall"
        )
    if crossed:
        yield crossed
    if entry.about.get("needs") == "golden" and golden.raters is None:
        yield (
            "precision and recall are measured on golden questions to which the raters' confusion matrices "
            "were fitted"
        )
