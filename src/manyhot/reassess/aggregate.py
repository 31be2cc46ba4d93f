"""Aggregate votes into label sets: `manyhot aggregate`."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, get_args

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot import registry
from manyhot.command import command
from manyhot.core.aggregation import Aggregate, expected_answers
from manyhot.core.answers import Answers, GoldenAnswers, History
from manyhot.core.array_types import Floats
from manyhot.core.choices import ChosenClasses, expected_choices
from manyhot.core.threshold_curve import Curve
from manyhot.data.inputs import Reading
from manyhot.errors import InputError, UsageError
from manyhot.parameters import (
    RESAMPLES,
    InCampaign,
    Positional,
    Probability,
    Resamples,
    Seed,
    Share,
    Shown,
    Was,
    check_one_of,
)
from manyhot.reassess.aggregated import Aggregated
from manyhot.reassess.aggregation_notes import (
    Decisions,
    decision_notes,
    exclusive_class_notes,
    fit_notes,
    golden_notes,
    open_question_notes,
    undecided_image_notes,
)
from manyhot.reassess.aggregators import (
    OriginalClasses,
    aggregator_of,
    check_method_name,
    check_unclear,
    class_ids,
)
from manyhot.reassess.answers import (
    VOTES_READING,
    TableLike,
    VotesLike,
    VotesReading,
    VotesSource,
    golden_of,
    open_votes,
)
from manyhot.reassess.corrected import UNCLEAR_FROM, correct_labels, open_corrected
from manyhot.reassess.golden_curve import (
    Levels,
    chosen_threshold,
    cross_fitted_note,
    curve_table,
    golden_curve,
    levels_of,
)
from manyhot.reassess.label_sources import LabelSource, SourcesLike, open_label_sources
from manyhot.reassess.merged import SOURCE_METHOD, merge_sources, votes_of_sources
from manyhot.reassess.rater_history import (
    check_history,
    history_files,
    history_of,
    history_table,
    with_earlier,
)
from manyhot.reassess.raters import raters_table, single_class_notes
from manyhot.run import QUIET, Run
from manyhot.tables import Labels, Votes, schema
from manyhot.tables.audit_samples import read_audit_sample
from manyhot.tables.campaign_folder import campaign_file
from manyhot.tables.choices import choices_of, with_questions
from manyhot.tables.own_classes import own_list
from manyhot.tables.vote_labels import METHOD, answers_of, labels_of_votes
from manyhot.tables.votes import COUNTED_CLASS


@command(
    "aggregate",
    examples=(
        "manyhot aggregate imagenet-real --method golden-bayes --out labels.parquet",
        "manyhot aggregate campaign",
        "manyhot aggregate --sources imagenet-real --sources tsipras --out merged.parquet",
        "manyhot aggregate campaign --labels labels.csv --out corrected.parquet",
    ),
    out=InCampaign("votes", "labels.parquet"),
)
def aggregate(
    votes: Annotated[VotesLike, Positional()] = None,
    golden: TableLike = None,
    images: TableLike = None,
    *,
    sources: SourcesLike = (),
    labels: Annotated[Any, Shown("FILE")] = None,
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
    reading: VotesReading = VOTES_READING,
    run: Run = QUIET,
) -> Aggregated:
    """Combine raters' answers, or the label sets of several sources, into label sets.

    Methods: auto, majority, yes-share, source-share, dawid-skene, one-coin, golden-bayes. For votes for one
    class per image: auto, majority, vote-share (the default for counts), dawid-skene, one-coin. The command
    'manyhot doctor' lists methods from plug-ins.

    Parameters
    ----------
    votes
        Votes in any format, the folder of a campaign, or imagenet-real for published votes, which are
        downloaded.
    golden
        Experts' answers, or label sets; by default, those of the campaign. Some methods learn from these
        answers, which are also used to choose a threshold by precision or recall, and to measure the quality
        of raters.
    images
        Images table with original labels; by default, that of the campaign. Images without votes keep their
        original label, and their `rated` is false. Rated images also keep it if raters were not asked about
        it. The label sets have the ids of this table.
    sources
        Label sets of the same images, to be merged instead of votes: files in any format, campaigns,
        benchmarks, imagenet-real, imagenet-multilabel, tsipras or imagenet-mistakes. Each source has one vote
        on each question that it was asked. Sources joined by + count as one source.
    labels
        Label sets to correct with the answers. A class that raters were asked about gets the state that
        follows from their answers; all other classes keep their state.
    method
        Name of an aggregator, or a call string such as "majority(maybe='half')".
    threshold
        Minimum probability of a valid class; by default 0.8 for methods that estimate probabilities, as in
        ReaL, and 0.5 for methods that compute shares.
    min_precision
        Choose the lowest threshold at which precision on golden questions is at least this value.
    min_recall
        Choose the highest threshold at which recall on golden questions is at least this value.
    unclear_from
        Minimum probability of an unclear class, which must not exceed the threshold. By default, no class is
        unclear. With `labels`, the default is 0.5, so that a class is unclear if raters disagree.
    original_classes
        Classes for which golden-bayes counts the original label as a rater, such as 0-397. By default, all
        classes.
    refined
        How to use decisions on disagreements. With decides, a decision overrides the method; a decision of
        maybe makes the class unclear. With counts, a decision counts as one more answer. With ignored, it has
        no effect.
    history
        Labels, or their table matrices, from an earlier campaign with the same kind of votes. The answers in
        that campaign count as earlier answers of the same raters, so good raters are trusted from the start.
    start
        Labels, or their table matrices, from an earlier fit to some of these votes. Only for votes in which
        raters choose one of all classes. The method starts from this fit and then fits all votes.
    resamples
        Number of resamples of the golden images, for the intervals of precision and recall; at most 200
        resamples are used. These intervals are computed if a threshold is chosen on these images. 0 for no
        intervals at all.
    seed
        Seed for drawing the resamples and for splitting the golden images.

    Returns
    -------
    Aggregated
        If `sources` are passed, a `manyhot.MergedLabels`, which also has tables about the sources. If
        `labels` are passed, the corrected label sets.

    Raises
    ------
    InputError
        If golden answers are needed but missing, an option is out of range, or sources contradict each other
        about original labels.
    MatchError
        If some votes are about images that are not in `images`, or the tables have different class lists.
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
    merged: list[LabelSource] = []
    before = None
    if labels is not None and sources:
        raise UsageError(
            "Label sets are either merged or corrected.", got="`sources` and `labels`", do="pass one of them"
        )
    if labels is not None and votes is not None:
        before, reading = open_corrected(labels, votes, reading, run)
    if sources:
        _check_no_votes(votes, reading.format)
        of_labels = Reading(classes=None if isinstance(reading.classes, int) else reading.classes)
        merged, matched = open_label_sources(sources, of_labels, run)
        source = votes_of_sources(merged, golden, images, matched)
    elif votes is None:
        raise UsageError("There is nothing to aggregate.", do="pass votes, or label sets as `sources`")
    else:
        source = open_votes(votes, golden, images, reading=reading, on_progress=run.on_progress)
    asked = source.votes.with_refined() if refined == "counts" else source.votes
    if source.images is not None:
        asked.check_known(source.images)
    if source.golden is None and named and named != ["threshold"]:
        raise InputError(
            f"`{named[0]}` needs golden answers: experts' answers to some of the questions.",
            do="pass golden answers (`golden`) or a threshold",
        )
    entry = aggregator_of(SOURCE_METHOD if merged and method == METHOD else method, asked)
    check_history(asked, entry, history, start)
    fit = _fit(source, asked, entry, original_classes, history, start)
    default = float(entry.about["threshold"]) if threshold is None else threshold
    measured = golden_curve(fit.result, fit.experts, fit.votes, default, resamples)
    chosen = chosen_threshold(min_precision, min_recall, measured, default)
    if unclear_from is None and not named:
        unclear_from = entry.about.get("unclear_from")
        if unclear_from is None and before is not None:
            unclear_from = min(UNCLEAR_FROM, default)
    levels = levels_of(unclear_from, chosen)
    check_unclear(entry, levels)
    crossed = cross_fitted_note(
        fit.result, fit.experts, fit.votes, min_precision, min_recall, resamples, seed
    )
    found = fit.aggregated(levels, measured, refined, crossed)
    found = replace(found, inputs={**source.inputs, **history_files(history, start)})
    if before is not None:
        found = correct_labels(found, before)
    elif merged:
        found = merge_sources(found, merged)
    return replace(found, notes=(*found.notes, *exclusive_class_notes(found.labels)))


def _check_no_votes(votes: VotesLike, format: str | None) -> None:
    """Raise an error for votes beside label sets to merge."""
    extra = {"votes": votes, "format": format}
    if any(value is not None for value in extra.values()):
        raise UsageError(
            "Label sets and votes cannot be merged.",
            got=" and ".join(f"`{name}`" for name, value in extra.items() if value is not None),
            do="pass `sources` only, or votes only",
        )


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
        self, levels: Levels, measured: Curve | None, refined: Decisions, crossed: str
    ) -> Aggregated:
        """Return the label sets at these levels, the other tables, and the notes."""
        source, votes, answers, result = self.source, self.votes, self.answers, self.result
        method, proposer = self.entry.name, self.source.proposer()
        labels = labels_of_votes(
            votes,
            source.images,
            answers,
            result.p,
            levels=levels,
            decided=votes.refined if refined == "decides" else None,
            method=method,
            name=source.name or votes.name,
            # If raters chose one class of all, they were asked about all.
            keep_unasked=source.of_sources or not (votes.kind or _is_audit(source.folder)),
        )
        raters = schema("raters").empty_table()
        if votes.kind != COUNTED_CLASS and not source.of_sources:
            raters = raters_table(votes, answers, self.experts, result)
        notes = (
            *source.notes,
            *fit_notes(votes, answers, result, method, levels.threshold),
            *golden_notes(votes, result, self.experts, source.golden, self.entry, crossed=crossed),
            *(single_class_notes(self.experts) if len(raters) else ()),
            *decision_notes(votes.refined, refined),
            *(undecided_image_notes(labels, levels.threshold) if votes.kind else ()),
            *(() if source.of_sources else open_question_notes(votes, labels, source.proposals())),
        )
        more = {"proposer": proposer, "package": self.entry.version}  # package: of a plug-in
        metadata = _about(result, method, levels) | {key: value for key, value in more.items() if value}
        fitted = votes, result, method, levels, raters, curve_table(measured), self.matrices
        own = None if source.classes is None else own_list(source.classes)
        labels = _of_sample(labels if own is None else replace(labels, class_list=own), source.folder)
        return Aggregated(labels, *fitted, notes=notes, metadata=metadata)


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
        choices = _fit_choices(votes, entry, earlier, history_of(start, votes, "start"))
        votes = choices[0]
    counting = source.original_classes or None if original_classes is None else original_classes
    own = None if counting is None else class_ids(counting, votes.n_classes)
    answers = answers_of(votes, source.images, own)
    experts = None if source.golden is None else golden_of(source.golden, votes, source.images)
    if choices is not None:
        return _Fit(source, votes, answers, experts, entry, *choices[1:])
    result = entry(replace(answers, history=earlier), experts)
    matrices = history_table(with_earlier(expected_answers(answers, result), earlier), votes)
    return _Fit(source, votes, answers, experts, entry, result, matrices)


def _fit_choices(
    votes: Votes, entry: registry.Entry, history: History | None, start: History | None
) -> tuple[Votes, Aggregate, pa.Table]:
    """Return votes about the chosen and other likely classes, their result, and the table ``matrices``.

    The matrices of the result contain each rater's accuracy as the probability of a yes to the right class;
    all other entries are NaN. The table is empty if the raters are unknown.
    """
    choices = choices_of(votes)
    aggregated = entry(choices, history, start)
    whole = with_questions(votes, aggregated.image, aggregated.class_id)
    cells = aggregated.image * np.int64(votes.n_classes) + aggregated.class_id
    asked = whole.image * np.int64(votes.n_classes) + whole.class_id
    result = Aggregate(
        aggregated.p[np.searchsorted(cells, asked)],
        _accuracies(aggregated),
        aggregated.prior,
        aggregated.iterations,
        aggregated.converged,
        aggregated.log_likelihood,
        weights=aggregated.weights,
    )
    table = schema("matrices").empty_table()
    if choices.are_raters_known:
        table = history_table(with_earlier(expected_choices(choices, aggregated), history), votes)
    return whole, result, table


def _accuracies(aggregated: ChosenClasses) -> Floats | None:
    if aggregated.accuracy is None:
        return None
    matrices = np.full((len(aggregated.accuracy), 2, 2), np.nan)
    matrices[:, 1, 1] = aggregated.accuracy
    return matrices


def _about(result: Aggregate, method: str, levels: Levels) -> dict[str, str]:
    """Return the fit for the metadata of the labels file."""
    values: dict[str, Any] = {
        "method": method,
        "threshold": levels.threshold,
        "unclear_from": levels.unclear_from,
        "iterations": result.iterations,
        "converged": result.converged,
        "log_likelihood": None if np.isnan(result.log_likelihood) else result.log_likelihood,
        "prior": None if result.prior is None else result.prior.tolist(),
    }
    if result.weights is not None:
        values["weights"] = result.weights
    return {key: v if isinstance(v, str) else json.dumps(v) for key, v in values.items()}


def _is_audit(folder: Path | None) -> bool:
    return folder is not None and campaign_file(folder, "audit_sample").is_file()


def _of_sample(labels: Labels, folder: Path | None) -> Labels:
    """Return the label sets of an audit without its images for golden questions, which were not drawn."""
    if folder is None or not _is_audit(folder):
        return labels
    drawn = read_audit_sample(campaign_file(folder, "audit_sample")).drawn
    return replace(labels, table=labels.table.filter(pc.is_in(labels.table["image_id"], drawn)))
