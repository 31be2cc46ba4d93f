"""Which method aggregates votes: one for answers yes, maybe and no, or one for choices of one class.

Also the classes for which a method counts the original label as a rater.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Annotated

from manyhot import registry
from manyhot.errors import InputError, ManyhotError, UnknownNameError
from manyhot.parameters import Shown, is_whole
from manyhot.reassess.golden_curve import Levels
from manyhot.tables import Votes
from manyhot.tables.vote_labels import METHOD
from manyhot.tables.votes import COUNTED_CLASS

OriginalClasses = Annotated[str | Collection[int] | None, Shown("CLASSES")]
"""Class ids, or a text such as ``0-397,500``."""


def check_method_name(method: str) -> None:
    """Raise an error, before votes are read, if no method for any kind of votes has this name."""
    try:
        registry.get("aggregator", method)
    except ManyhotError:
        try:
            registry.get("choice-aggregator", method)
        except ManyhotError:
            registry.get("aggregator", method)  # its message lists the methods


def aggregator_of(method: str, votes: Votes) -> registry.Entry:
    """Return the method for this kind of votes.

    Counts of votes do not show how good raters are, so the default method for counts is the share of votes.

    Raises
    ------
    InputError
        If the method is only for the other kind of votes.
    UnknownNameError
        If there is no such method.
    """
    if votes.kind == COUNTED_CLASS and method == METHOD:
        method = "vote-share"
    kind = "choice-aggregator" if votes.kind else "aggregator"
    try:
        return registry.get(kind, method)
    except UnknownNameError:
        (other,) = {"choice-aggregator", "aggregator"} - {kind}
        try:
            name = registry.get(other, method).name
        except ManyhotError:
            name = ""
        if not name:
            raise
    asks = {"choice-aggregator": "votes for one class of all", "aggregator": "answers yes, maybe and no"}
    raise InputError(
        f"This method is not for {asks[kind]}.",
        where="`method`",
        got=f"{name}, which is for {asks[other]}",
        allowed=f"for {asks[kind]}: {', '.join(registry.names(kind))}",
        do="choose one of these methods",
    )


def class_ids(classes: str | Collection[int], n_classes: int) -> frozenset[int]:
    """Return class ids from a list of ids or a text such as ``0-397, 500``.

    Raises
    ------
    InputError
        If the value does not have one of these forms, or contains a class that does not exist.
    """
    if isinstance(classes, str):
        ids = _ranges(classes, n_classes)
        example, got = "ids and ranges from 0 to {}, such as 0-397 or 0-9,20", classes
    else:
        listed = list(classes) if isinstance(classes, Collection) else [classes]
        wrong = [c for c in listed if not is_whole(c) or not 0 <= c < n_classes]
        ids = None if wrong or not isinstance(classes, Collection) else frozenset(listed)
        example, got = "ids from 0 to {}, such as [0, 1]", repr(wrong[0] if wrong else classes)
    if ids is None:
        raise InputError(
            "This is not a list of classes.",
            where="`original_classes`",
            got=got,
            allowed=f"class {example.format(n_classes - 1)}",
        )
    return ids


def _ranges(text: str, n_classes: int) -> frozenset[int] | None:
    ids: set[int] = set()
    for part in text.split(","):
        ends = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", part)
        first, last = (int(ends[1]), int(ends[2] or ends[1])) if ends else (1, 0)
        if not first <= last < n_classes:
            return None
        ids.update(range(first, last + 1))
    return frozenset(ids)


def check_unclear(entry: registry.Entry, levels: Levels) -> None:
    """Raise an error for an interval of unclear classes that contains none of the values of a majority.

    Raises
    ------
    InputError
        If no class can be unclear, whatever the answers are.
    """
    unclear, threshold = levels
    name, _, options = entry.name.partition("(")
    is_reached = unclear <= 0.5 < threshold  # ties
    if (entry.kind, name) == ("aggregator", "majority") and 0 < unclear < threshold and not is_reached:
        share = f"yes-share({options}" if options else "yes-share"
        raise InputError(
            "With a majority, the probability of a class is 0, 0.5 or 1, so no class would be unclear.",
            where="`unclear_from`",
            got=f"{unclear:g}, with a threshold of {threshold:g}",
            allowed="up to 0.5, with a threshold above 0.5: ties are then unclear",
            do=f"set `method` to {share}: the probability is then the share of yes, and the same classes are "
            "valid at a threshold of 0.5",
        )
