"""What a data card tells beside the labels: votes, agreement and licence, from files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from manyhot.classes import ClassList
from manyhot.files import write_text
from manyhot.formats import read_votes
from manyhot.formats.broken import reading
from manyhot.pipeline.common import PathLike, check_apart
from manyhot.steps.card import data_card
from manyhot.steps.describe import Description
from manyhot.tables import metadata, read

_TOLD = ("proposer", "method", "threshold")
"""Metadata of a labels file that say how the labels were made."""


@dataclass(frozen=True)
class CardFacts:
    """What is known beside the labels; see `manyhot.steps.card.data_card`.

    Attributes
    ----------
    votes : path-like, optional
        Votes in any format.
    agreement : path-like, optional
        The table ``agreement`` of these votes, as ``manyhot agreement`` writes it.
    licence : str, optional
    named : bool
    """

    votes: PathLike | None = None
    agreement: PathLike | None = None
    licence: str | None = None
    named: bool = False


def write_card(
    description: Description,
    path: PathLike,
    facts: CardFacts,
    *,
    labels: PathLike,
    classes: ClassList | None = None,
) -> Path:
    """Write the data card of one labels file, all or nothing.

    Parameters
    ----------
    description : Description
        Of the labels.
    path : path-like
        The Markdown file.
    facts : CardFacts
    labels : path-like
        The labels file, whose metadata may tell how the labels were made.
    classes : ClassList, optional
        The class list that the votes are over.

    Raises
    ------
    InputError
        A file is broken, or as in `data_card`.
    """
    check_apart([labels, facts.votes, facts.agreement], path)
    text = data_card(
        description,
        votes=read_votes(facts.votes, classes=classes) if facts.votes else None,
        agreement=read(facts.agreement, "agreement") if facts.agreement else None,
        protocol=_protocol(Path(labels)),
        licence=facts.licence,
        named=facts.named,
    )
    write_text(path, text)
    return Path(path)


def _protocol(labels: Path) -> dict[str, str]:
    if labels.suffix.lower() != ".parquet" or not labels.is_file():
        return {}
    with reading(labels):
        told = metadata(pq.read_schema(labels))
    return {key: told[key] for key in _TOLD if told.get(key)}
