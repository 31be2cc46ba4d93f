"""What a data card tells beside the labels: votes, agreement and licence, from files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from manyhot.errors import InputError
from manyhot.files import sha256, write_text
from manyhot.formats.broken import reading
from manyhot.pipeline.aggregate import read_answers
from manyhot.pipeline.common import PathLike, check_apart
from manyhot.steps.agreement import agreement
from manyhot.steps.card import data_card
from manyhot.steps.describe import Description
from manyhot.tables import Votes, metadata, read

_TOLD = ("proposer", "method", "threshold")
"""Metadata of a labels file that say how the labels were made."""


@dataclass(frozen=True)
class CardFacts:
    """What is known beside the labels; see `manyhot.steps.card.data_card`.

    Attributes
    ----------
    votes : path-like, optional
        Votes as `manyhot.agreement_files` takes them; by default the ``votes.parquet`` beside the labels, if
        the labels say that they were made of it.
    agreement : path-like, optional
        The table ``agreement`` of these votes, as ``manyhot agreement`` writes it; by default it is measured.
    licence : str, optional
    named : bool
    """

    votes: PathLike | None = None
    agreement: PathLike | None = None
    licence: str | None = None
    named: bool = False


def check_facts(card: PathLike | None, facts: CardFacts | None) -> None:
    """Refuse facts of a card that is not to be written.

    Raises
    ------
    InputError
        There are some.
    """
    if facts is not None and card is None:
        raise InputError("Only a data card tells this.", do="say where to write it: --card README.md")


def write_card(
    description: Description,
    path: PathLike,
    facts: CardFacts,
    *,
    labels: PathLike,
    classes: PathLike | None = None,
) -> Path:
    """Write the data card of one labels file, all or nothing; the parameters are those of `card_text`.

    Raises
    ------
    ManyhotError
        As in `card_text`.
    """
    check_apart([labels, facts.votes, facts.agreement], path)
    write_text(path, card_text(description, facts, labels=labels, classes=classes))
    return Path(path)


def card_text(
    description: Description, facts: CardFacts, *, labels: PathLike, classes: PathLike | None = None
) -> str:
    """Return the data card of one labels file.

    Parameters
    ----------
    description : Description
        Of the labels.
    facts : CardFacts
    labels : path-like
        The labels file, whose metadata may tell how the labels were made.
    classes : path-like, optional
        The class list that the votes are over.

    Raises
    ------
    ManyhotError
        A file is broken, or as in `data_card`.
    """
    votes, measured = _answers(facts, Path(labels), classes)
    return data_card(
        description,
        votes=votes,
        agreement=read(facts.agreement, "agreement") if facts.agreement else measured,
        protocol={key: told for key, told in _about(Path(labels)).items() if key in _TOLD and told},
        licence=facts.licence,
        named=facts.named,
    )


def _answers(
    facts: CardFacts, labels: Path, classes: PathLike | None
) -> tuple[Votes | None, pa.Table | None]:
    """Return the votes, and how far raters agree in them unless a table tells it."""
    votes = facts.votes or _made_of(labels)
    if votes is None:
        return None, None
    source = read_answers(votes, None, None, classes, None, None)
    if facts.agreement is not None:
        return source.votes, None
    return source.votes, agreement(source.votes, source.golden).agreement


def _made_of(labels: Path) -> Path | None:
    """Return the folder of a campaign whose votes, as they are now, the labels were made of."""
    votes = labels.parent / "votes.parquet"
    if not votes.is_file():
        return None
    try:
        inputs = json.loads(_about(labels).get("inputs") or "{}")
    except (ValueError, RecursionError):
        return None
    made = isinstance(inputs, dict) and inputs.get(votes.name) == sha256(votes)
    return votes.parent if made else None


def _about(labels: Path) -> dict[str, str]:
    if labels.suffix.lower() != ".parquet" or not labels.is_file():
        return {}
    with reading(labels):
        return metadata(pq.read_schema(labels))
