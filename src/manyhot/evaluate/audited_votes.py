"""What an audit is made from besides label sets: raters' answers, and proposals in a file of their own."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from manyhot.data.data_sets import Source
from manyhot.data.inputs import Reading, open_labels
from manyhot.files import sha256
from manyhot.formats import detect, open_class_list, read_votes
from manyhot.run import Run
from manyhot.tables import Votes
from manyhot.tables.labels import with_ids_like
from manyhot.tables.vote_labels import METHOD, combined_votes
from manyhot.tables.votes import votes_from_table


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
        f"; people's label sets are the {len(votes):,} answers of {votes.n_raters:,} raters in {votes.name}, "
        f"combined by the method {METHOD}, as in manyhot aggregate"
    )
    inputs = {votes.name: sha256(audited)} if isinstance(audited, str | os.PathLike) else {}
    return Source(labels.name, labels, classes=labels.class_list, inputs=inputs), text


def _votes_in(audited: Any, reading: Reading) -> Votes | None:
    """Return the votes in an argument that may be label sets; None if it holds no votes."""
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
