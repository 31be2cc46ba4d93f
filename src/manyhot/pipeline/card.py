"""What a data card tells beside the labels: votes, agreement and licence, from files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from manyhot.classes import ClassList
from manyhot.errors import InputError
from manyhot.files import write_text
from manyhot.formats import read_pairs
from manyhot.formats.broken import reading
from manyhot.formats.json_files import cut, load
from manyhot.pipeline.common import PathLike, check_apart
from manyhot.steps.card import Agreement, data_card
from manyhot.steps.describe import Description
from manyhot.tables import metadata

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
        JSON: a name to an object with ``value``, a number or null, and ``n``.
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
        votes=read_pairs(facts.votes, "votes", classes=classes) if facts.votes else None,
        agreement=read_agreement(facts.agreement) if facts.agreement else None,
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


def read_agreement(path: PathLike) -> dict[str, Agreement]:
    """Read numbers about raters: JSON, a name to an object with ``value`` and ``n``.

    Raises
    ------
    InputError
        If it is another kind of JSON, or a value or n is no number.
    """
    path = Path(path)
    with reading(path):
        found = load(path)
    if not isinstance(found, dict) or not found:
        raise InputError(
            "The file does not hold numbers about raters.",
            where=path,
            allowed='an object such as {"fleiss_kappa": {"value": 0.41, "n": 184962}}',
        )
    return {name: _number(told, f"{path}, {cut(name)}") for name, told in found.items()}


def _number(told: Any, where: str) -> Agreement:
    if not isinstance(told, dict) or set(told) != {"value", "n"}:
        raise InputError(
            "This is not a number with its n.",
            where=where,
            got=cut(repr(told)),
            allowed="an object with 'value' and 'n', and nothing else",
        )
    value, n = told["value"], told["n"]
    if isinstance(value, bool) or not isinstance(value, int | float | None):
        raise InputError(
            "The value is no number.", where=where, got=cut(repr(value)), allowed="a number or null"
        )
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        raise InputError("The n is no count.", where=where, got=cut(repr(n)), allowed="0, 1, 2, …")
    return Agreement(math.nan if value is None else float(value), n)
