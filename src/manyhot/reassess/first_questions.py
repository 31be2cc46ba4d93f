"""Proposals without answers, as questions to ask next: all of them in a campaign that has no votes yet."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.core.array_types import Bools, Floats
from manyhot.errors import counted
from manyhot.files import hashes_of
from manyhot.formats import read_classes, read_golden, read_proposals
from manyhot.reassess.answers import TableLike, VotesLike
from manyhot.reassess.arrow_tables import as_arrow
from manyhot.tables import Campaign, Votes, check, find_questions, one_chunk
from manyhot.tables.campaign_folder import is_campaign
from manyhot.tables.own_classes import own_list


@dataclass(frozen=True, eq=False)
class FirstQuestions:
    """Questions without answers.

    Attributes
    ----------
    votes : Votes
        The questions, in the order of the proposals.
    p : ndarray of float64, shape (Q,)
        The mean probability of each question over the models.
    free : ndarray of bool, shape (Q,)
        Whether experts have not answered the question.
    """

    votes: Votes
    p: Floats
    free: Bools
    notes: tuple[str, ...]
    inputs: dict[str, str]


def first_questions(votes: VotesLike, proposals: TableLike) -> FirstQuestions | None:
    """Return the proposals of a campaign without votes; None if it has votes, or no probabilities."""
    if not isinstance(votes, str | os.PathLike) or not is_campaign(Path(votes)):
        return None
    home = Campaign.read(votes)
    proposals = home.path("proposals") if proposals is None else proposals
    is_file = isinstance(proposals, str | os.PathLike)
    if home.path("votes").exists() or (is_file and not Path(proposals).is_file()):
        return None
    classes = read_classes(home.path("classes"))
    table = read_proposals(proposals, classes=classes) if is_file else as_arrow(proposals, "proposals")
    table = check(table, "proposals")
    if "p" not in table.column_names or not (n := len(table) - table["p"].null_count):
        return None
    ranked = table.filter(pc.is_valid(table["p"]))
    empty = np.zeros(0, np.int32)
    asked = Votes(
        one_chunk(ranked["image_id"]),
        one_chunk(ranked["class_id"]).to_numpy(),
        pa.array([], pa.string()),
        empty,
        empty,
        empty.astype(np.int8),
        len(classes),
        classes.hash,
        home.folder.resolve().name,
        class_list=own_list(classes),
    )
    free = np.ones(n, bool)
    if (golden := home.path("golden")).is_file():
        answered = find_questions(read_golden(golden, classes=classes).experts, asked)
        free[answered[answered >= 0]] = False
    notes = ["the campaign has no votes yet, so questions are ranked by the entropy of p over the models"]
    if rest := len(table) - n:
        notes.append(f"{counted(rest, 'proposal')} without p, which no model predicted, are not ranked")
    inputs = hashes_of((proposals if is_file else None, home.path("classes"), golden))
    p = np.asarray(one_chunk(ranked["p"]).to_numpy(), np.float64)
    return FirstQuestions(asked, p, free, tuple(notes), inputs)


def with_proposals(votes: Votes, table: pa.Table) -> Votes:
    """Return votes with the unanswered proposals as further questions."""
    ids = pa.concat_arrays([votes.image_id.cast(pa.string()), one_chunk(table["image_id"])])
    classes = np.concatenate([votes.class_id, one_chunk(table["class_id"]).to_numpy()])
    code = pc.dictionary_encode(ids).indices.to_numpy().astype(np.int64)
    _, first = np.unique(code * (int(classes.max(initial=0)) + 1) + classes, return_index=True)
    kept = np.concatenate([np.arange(votes.n_questions), np.sort(first[first >= votes.n_questions])])
    return replace(votes, image_id=ids.take(pa.array(kept)), class_id=classes[kept].astype(np.int32))
