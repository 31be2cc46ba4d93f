"""What an audit is made from: raters' answers, proposals, and the classes that people were asked about.

A class that nobody was asked about counts as not in the label set. In an audit, people are asked about the
classes that the models of that time predict. The top class of another model is then often unknown rather than
wrong: on ReaL, the best model would have 54 % instead of 86.9 %. It is known for each audited image which
classes people were asked about, so such metrics are left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot.core.array_types import Bools, Floats, Floats32
from manyhot.core.score_threshold import least_of_rows, least_score
from manyhot.core.sets import NO_LABEL, NOT_ASKED, Case, LabelSets
from manyhot.data.data_sets import Source
from manyhot.data.inputs import Reading, open_labels
from manyhot.errors import InputError, and_more
from manyhot.evaluate.requirements import case_for, option_of
from manyhot.evaluate.result_rows import Note, Number
from manyhot.evaluate.slices import ALL
from manyhot.files import sha256
from manyhot.formats import detect, open_class_list, read_votes
from manyhot.registry import Entry, options_of
from manyhot.run import Run
from manyhot.tables import Campaign, Votes
from manyhot.tables.audit_samples import QUESTION_PROBABILITY
from manyhot.tables.labels import with_ids_like
from manyhot.tables.schemas import metadata, read
from manyhot.tables.vote_labels import METHOD, combined_votes
from manyhot.tables.votes import votes_from_table

MOST_UNASKED = 0.01
"""Largest share of the audited images on which a class that decides a metric may be unknown: it shifts a
share by at most one point."""

_ROUNDING = 1e-9

_WITHIN_SETS = ("variable_topk", "asma")
"""Metrics of the top k classes, where k is the number of valid classes."""

_DO = "draw the audit with these models and a wider rule, as in: manyhot audit --rule 'union(k=5)'"


@dataclass(frozen=True, eq=False)
class AuditQuestions:
    """The questions about the n audited images.

    Attributes
    ----------
    probability : ndarray of float32, shape (n, C), optional
        The probability of each question, 0 if it was not asked; None if people were asked about all classes.
    are_drawn : bool
        Whether questions were drawn with these probabilities rather than chosen by a rule.
    """

    probability: Floats32 | None = None
    are_drawn: bool = False

    @property
    def doubt(self) -> str:
        """The reason why macro average precision has no interval; empty if the questions allow one."""
        if self.probability is None or self.are_drawn:
            return ""
        asked, n_classes = np.count_nonzero(self.probability), self.probability.shape[1]
        return (
            f"people were asked about {asked / len(self.probability):.1f} of {n_classes:,} classes per "
            "image on average, and other classes may be valid, too: draw the questions with manyhot audit "
            "--design classes"
        )


ALL_CLASSES = AuditQuestions()


def audit_questions(people: LabelSets, image_id: pa.Array, campaign: Campaign | None) -> AuditQuestions:
    """Return the questions behind people's label sets.

    Parameters
    ----------
    people : LabelSets
        People's label sets of the audited images.
    image_id : pyarrow.Array of string, shape (n,)
    campaign : Campaign, optional
        The campaign in which people answered. Its proposals may record the probabilities of questions.
    """
    if not people.asked_known or people.complete:
        return ALL_CLASSES
    asked = np.zeros((len(people), people.n_classes), np.float32)
    asked[people.rows, people.classes] = 1
    if campaign is not None and campaign.path("proposals").is_file():
        path = campaign.path("proposals")
        table = read(path, "proposals")
        if metadata(table).get(QUESTION_PROBABILITY) == "score":
            return AuditQuestions(_probabilities(table, asked, image_id, path), are_drawn=True)
    return ALL_CLASSES if asked.all() else AuditQuestions(asked)


def _probabilities(proposals: pa.Table, asked: Floats32, image_id: pa.Array, path: Path) -> Floats32:
    """Return the probability of each question that people were asked, 0 for others, shape (n, C).

    Raises
    ------
    InputError
        If a probability is impossible, or a question has none.
    """
    probability = proposals["score"].to_numpy()
    bad = np.flatnonzero(~((probability > 0) & (probability <= 1)))
    if len(bad):
        raise InputError(
            "The probability of asking a question is out of range.",
            where=f"{path}, row {bad[0]}",
            got=f"{probability[bad[0]]:g}{and_more(len(bad) - 1)}",
            allowed="above 0 and at most 1",
            do="pass the file that manyhot audit wrote, unchanged",
        )
    rows = pc.fill_null(pc.index_in(proposals["image_id"], image_id), -1).to_numpy()
    here = rows >= 0
    found = np.zeros(asked.shape, np.float32)
    found[rows[here], proposals["class_id"].to_numpy()[here]] = probability[here]
    image, lacking = np.nonzero((asked > 0) & (found == 0))
    if len(image):
        raise InputError(
            "People answered questions that were not drawn.",
            where=path,
            got=f"{len(image):,} questions, such as class {lacking[0]} of {image_id[int(image[0])]}",
            allowed="the questions that were drawn",
            do="pass the file that manyhot audit wrote, unchanged, and only answers to its questions",
        )
    return asked * found


def is_unknown(metric: Entry, case: Case) -> tuple[Bools, Bools]:
    """Return the images on which an unasked class decides the metric, and all images that the metric counts.

    Parameters
    ----------
    case : Case
        The predictions of the audited images, with people's label sets.

    Returns
    -------
    unknown, judged : ndarray of bool, shape (n,)
        Images without a valid class are in both sets, because a class that nobody was asked about may be
        valid on them.
    """
    labels, judged = case.labels, case.labels.usable
    if not labels.asked_known or labels.complete or option_of(metric, "masked"):
        return np.zeros(len(labels), bool), judged
    if _judges_all_classes(metric):
        return judged & (np.diff(labels.indptr) < labels.n_classes), judged
    if "threshold" in options_of(metric) and case.scores is not None:
        return _predicts_unasked(metric, case) & judged, judged
    unknown = _top_unasked(metric, case)
    if metric.name == "real5":
        unknown &= ~case.hit[:, :5].any(axis=1)
    elif metric.name == "valid_errors":
        judged = labels.labelled & ~case.is_label[:, 0]
    return unknown & judged, judged


def unasked_share(metric: Entry, case: Case, weights: Floats) -> float:
    """Return the share of the counted images on which an unasked class decides the metric.

    Shares up to `MOST_UNASKED` count as 0. Parameters are as in `AskedClasses.is_judged`.
    """
    unknown, judged = is_unknown(metric, case)
    share = float(weights @ unknown) / (float(weights @ judged) or 1.0)
    return share if share > MOST_UNASKED + _ROUNDING else 0.0


def _judges_all_classes(metric: Entry) -> bool:
    """Return whether classes that are not among a model's first or predicted ones decide a metric, too."""
    ranks_all = metric.about.get("needs") == "scores" and not {"threshold", "k"} & set(options_of(metric))
    return bool(metric.about.get("all_classes", ranks_all))


def _top_unasked(metric: Entry, case: Case) -> Bools:
    """Return on which images one of the judged top classes was not asked about, shape (n,)."""
    unasked = (case.state == NOT_ASKED) & (case.top != NO_LABEL)
    if metric.name in _WITHIN_SETS:
        size = np.maximum(case.labels.size, 1)[:, None]
        return np.asarray((unasked & (np.arange(unasked.shape[1]) < size)).any(axis=1))
    k = option_of(metric, "k") or (5 if metric.name == "real5" else 1)
    return np.asarray(unasked[:, :k].any(axis=1))


def _predicts_unasked(metric: Entry, case: Case) -> Bools:
    """Return on which images a class that reaches the threshold was not asked about, shape (n,)."""
    threshold, link = option_of(metric, "threshold"), option_of(metric, "link")
    case = case_for(metric, case)
    least = least_score(case, 0.5 if threshold is None else threshold, link or "auto")
    if least is None or case.scores is None:
        return np.zeros(len(case.labels), bool)
    predicted = case.scores >= least_of_rows(least, slice(None))
    predicted[case.labels.rows, case.labels.classes] = False
    return np.asarray(predicted.any(axis=1))


@dataclass
class AskedClasses:
    """Metrics that cannot be computed, for some models, from the classes that people were asked about.

    Attributes
    ----------
    shares : dict of str to dict of str to float
        By metric and model: the share of the audited images on which it is unknown whether a class that
        decides the metric is valid. Only shares above `MOST_UNASKED` are included.
    """

    shares: dict[str, dict[str, float]] = field(default_factory=dict)

    def is_judged(self, model: str, metric: Entry, case: Case, weights: Floats) -> bool:
        """Return whether people's answers suffice for a metric of a model. If not, record it in `shares`.

        Parameters
        ----------
        case : Case
            As in `is_unknown`.
        weights : ndarray of float64, shape (n,)
            The weights of the audited images.
        """
        share = unasked_share(metric, case, weights)
        if share:
            self.shares.setdefault(metric.name, {})[model] = share
        return not share

    def error(self, name: str) -> InputError:
        """Return the error to raise if a metric has no results at all."""
        extent = _extent(self.shares[name].values())
        return InputError(
            f"{name} cannot be audited: people were not asked about classes on which it depends.",
            where=", ".join(self.shares[name]),
            got=f"unknown classes on {extent} of the audited images",
            allowed=f"at most {100 * MOST_UNASKED:.0f} %",
            do=_DO,
        )

    def check(self, rows: Sequence[Number]) -> None:
        """Raise the error for the first metric in `shares` if no metric has an estimate."""
        if self.shares and all(row.estimator is None for row in rows if row.slice == ALL):
            raise self.error(next(iter(self.shares)))

    def notes(self, dataset: str) -> Iterator[Note]:
        """Yield notes on metrics that are left out: one note for all metrics that lack the same models."""
        by_models: dict[tuple[str, ...], list[str]] = {}
        for metric, shares in self.shares.items():
            by_models.setdefault(tuple(shares), []).append(metric)
        for models, metrics in by_models.items():
            extent = _extent([self.shares[m][model] for m in metrics for model in models])
            of = models[0] if len(models) == 1 else f"{len(models):,} models"
            text = (
                f"left out: {', '.join(metrics)} of {of}, because people were not asked about classes on "
                f"which these metrics depend, on {extent} of the audited images; {_DO}"
            )
            yield Note(dataset, "", "not_asked", len(models), text)


def _extent(shares: Iterable[float]) -> str:
    lo, hi = (100 * f(s) for s in [list(shares)] for f in (min, max))
    return f"{lo:.0f} %" if round(lo) == round(hi) else f"{lo:.0f} to {hi:.0f} %"


def estimand_note(people: LabelSets, weights: npt.NDArray[np.float64], dataset: str) -> Note | None:
    """Return a note on the images that metrics count; None if people were asked about all classes.

    Parameters
    ----------
    people : LabelSets
        People's label sets of the audited images.
    weights : ndarray of float64, shape (n,)
    """
    if people.complete:
        return None
    empty = people.usable & (people.size == 0)
    share = 100 * float(weights @ empty) / (float(weights @ people.usable) or 1.0)
    if not people.asked_known:
        text = (
            "the labels do not record which classes people were asked about, so unlisted classes count as "
            "not valid"
        )
    else:
        text = "values are for images with at least one valid class among those that people were asked about"
        if (np.diff(people.indptr) < people.n_classes).any():
            text += ", and other classes count as not valid"
    if share:
        text += (
            f"; on {share:.1f} % of the audited images, no class was found valid; if other classes are "
            f"valid on these images, real1 over all images with a valid class is lower by up to {share:.1f} "
            "% of its value"
        )
    return Note(dataset, "", "asked", int(np.count_nonzero(empty)), text)


def open_answers(audited: Any, reading: Reading, run: Run) -> tuple[Source, str]:
    """Return people's label sets, and a text that describes the votes from which they were made.

    Votes are combined by the default method. The text is empty if `audited` contains label sets.

    Parameters
    ----------
    audited
        Label sets or votes: a table, a file or a campaign.
    reading, run
        As in `manyhot.evaluate`.

    Raises
    ------
    ManyhotError
        If `audited` cannot be read, or if each vote chooses one of all classes.
    """
    votes = _votes_in(audited, reading)
    if votes is None:
        (found,) = open_labels(audited, reading=reading, run=run)
        return found, ""
    labels = combined_votes(votes)
    text = (
        f"; people's label sets combine the {len(votes):,} answers of {votes.n_raters:,} raters in "
        f"{votes.name} by the method {METHOD}, as in manyhot aggregate"
    )
    inputs = {votes.name: sha256(audited)} if isinstance(audited, str | os.PathLike) else {}
    return Source(labels.name, labels, classes=labels.class_list, inputs=inputs), text


def _votes_in(audited: Any, reading: Reading) -> Votes | None:
    """Return the votes in an argument that may be label sets; None if it contains no votes."""
    classes = open_class_list(reading.classes)
    if isinstance(audited, Votes):
        return audited
    if isinstance(audited, pa.Table) and "rater_id" in audited.column_names:
        size, digest = (len(classes), classes.hash) if classes else (0, "")
        return votes_from_table(audited, name="the votes", n_classes=size, class_hash=digest)
    if not isinstance(audited, str | os.PathLike) or not Path(audited).is_file():
        return None
    if detect(audited, ("labels",)) is not None or detect(audited, ("votes",)) is None:
        return None
    return replace(read_votes(audited, classes=classes), name=Path(audited).name)


def with_proposed(source: Source, proposed: Any, reading: Reading, run: Run) -> Source:
    """Return a data set whose label sets are replaced by proposals.

    Raises
    ------
    ManyhotError
        If the proposals cannot be read, or if their ids do not match those of the data set.
    """
    (found,) = open_labels(proposed, reading=reading, run=run)
    labels = found.sets()
    table = source.images if source.labels is None else source.labels
    if table is not None:
        labels, _ = with_ids_like(labels, table.image_id, other_name=table.name or source.name)
    source.inputs.update(found.inputs)
    return replace(source, labels=labels)
