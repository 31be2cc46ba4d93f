"""Which method aggregates votes: one for answers yes, maybe and no, or one for choices of one class."""

from __future__ import annotations

from manyhot import registry
from manyhot.errors import InputError, ManyhotError, UnknownNameError
from manyhot.tables import Votes
from manyhot.tables.vote_labels import METHOD
from manyhot.tables.votes import COUNTED_CLASS


def check_method_name(method: str) -> None:
    """Raise an error, before votes are read, if no kind of votes has a method of this name."""
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
