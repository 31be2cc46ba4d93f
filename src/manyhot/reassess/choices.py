"""Aggregate votes in which raters chose one class of all, with the choices of earlier campaigns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from manyhot import registry
from manyhot.core.aggregation import Aggregate
from manyhot.core.answers import History
from manyhot.core.array_types import Floats
from manyhot.core.choices import ChosenClasses, expected_choices
from manyhot.reassess.rater_history import history_table, with_earlier
from manyhot.tables import Votes, schema
from manyhot.tables.choices import choices_of, with_questions


@dataclass(frozen=True, eq=False)
class AggregatedChoices:
    """Votes whose questions are the chosen and other likely classes, and an aggregator's result for them.

    Attributes
    ----------
    votes : Votes
    result : Aggregate
        Its `p` is the probability of each question of `votes`. Its `matrices` contain each rater's accuracy
        as the probability of a yes to the right class; all other entries are NaN.
    matrices : pyarrow.Table
        The table ``matrices``; empty if the raters are unknown.
    """

    votes: Votes
    result: Aggregate
    matrices: pa.Table


def aggregate_choices(
    votes: Votes, entry: registry.Entry, history: History | None = None, start: History | None = None
) -> AggregatedChoices:
    """Return the probability of each class that a rater chose for an image, and of other likely classes.

    Parameters
    ----------
    votes : Votes
        Votes in which raters chose one of all classes.
    entry : Entry
        An aggregator of choices.
    history : History, optional
        Earlier choices of the same raters.
    start : History, optional
        The choices of an earlier fit to some of these votes, from which the method starts.
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
    return AggregatedChoices(whole, result, table)


def _accuracies(aggregated: ChosenClasses) -> Floats | None:
    if aggregated.accuracy is None:
        return None
    matrices = np.full((len(aggregated.accuracy), 2, 2), np.nan)
    matrices[:, 1, 1] = aggregated.accuracy
    return matrices
