"""What functions of each kind declare when they are registered, and how their results are checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from manyhot.errors import InputError
from manyhot.parameters import is_number

HOLDS = (
    "labels",
    "predictions",
    "images",
    "classes",
    "results",
    "findings",
    "proposals",
    "votes",
    "golden",
    "objects",
)
"""What files may contain."""

FOLDER = "folder"
"""The suffix of folders."""


@dataclass(frozen=True)
class Key:
    """What a key of `register` may be.

    Attributes
    ----------
    allowed : str
        The allowed values in words.
    fits : callable
        Returns whether a value is allowed.
    is_required : bool
    """

    allowed: str
    fits: Callable[[Any], bool]
    is_required: bool = False


def _one_of(*values: str) -> Key:
    return Key(" or ".join(values), lambda v: isinstance(v, str) and v in values)


def _texts_among(allowed: str, fits: Callable[[str], bool]) -> Key:
    return Key(
        allowed, lambda v: isinstance(v, tuple | list) and all(isinstance(t, str) and fits(t) for t in v)
    )


def _required(key: Key) -> Key:
    return replace(key, is_required=True)


_FLAG = Key("True or False", lambda v: isinstance(v, bool))
_TEXT = Key("a string", lambda v: isinstance(v, str))
_TEXTS = _texts_among("a tuple of strings", lambda text: True)
_SHARE = Key("a number above 0, up to 1", lambda v: is_number(v) and 0 < v <= 1)
_NUMBER = Key("a number", is_number)
_FUNCTION = Key("a function", callable)
_SUFFIXES = _texts_among(
    f"a tuple of suffixes such as ('.json',), or {FOLDER!r}", lambda text: text[:1] == "." or text == FOLDER
)
_AGGREGATOR = {
    "threshold": _required(_SHARE),
    "unclear_from": _SHARE,
    "needs": _one_of("golden"),
    "history": _FLAG,
}

KEYS: Mapping[str, Mapping[str, Key]] = {
    "metric": {
        "better": _required(_one_of("higher", "lower")),
        "label": _TEXT,
        "unit": _TEXT,
        "short": _TEXT,
        "axis": _TEXT,
        "needs": _one_of("scores", "confidence", "probabilities"),
        "default": Key("True, or a call string such as precision@5", lambda v: isinstance(v, bool | str)),
        "headline": _FLAG,
        "judged_on": _one_of("original labels", "label sets"),
        "interval": _one_of("wilson", "correlation"),
        "multi_label": _FLAG,
        "all_classes": _FLAG,
        "each_class": _FLAG,
        "over_classes": _one_of("with positives", "with both if masked", "with both"),
        "original_only": _FLAG,
        "depends_on_n": _FLAG,
        "exclusive": _FLAG,
        "votes": _FLAG,
    },
    "format": {
        "holds": _required(_one_of(*HOLDS)),
        "suffixes": _required(_SUFFIXES),
        "matches": _FUNCTION,
        "needs": _TEXT,
        "explicit": _FUNCTION,
        "numbers": _FUNCTION,
        "absent": Key("a mapping from names of files to reasons", lambda v: isinstance(v, Mapping)),
    },
    "writer": {
        "holds": _required(_texts_among(f"a tuple of {', '.join(HOLDS)}", HOLDS.__contains__)),
        "suffixes": _required(_SUFFIXES),
        "keeps": _TEXTS,
        "addresses": _FLAG,
    },
    "model": {
        "classes": _TEXT,
        "size": _NUMBER,
        "form": _TEXT,
        "published": _TEXT,
        "place": _FUNCTION,
    },
    "detector": {"classes": Key("a number or a string", lambda v: isinstance(v, int | str)), "source": _TEXT},
    "aggregator": _AGGREGATOR,
    "choice-aggregator": _AGGREGATOR,
    "proposer": {"monotone": _FLAG, "models": _FLAG, "learns": _FLAG},
    "rule": {"needs": _TEXTS, "caution": _TEXT},
    "loss": {
        "ends": _required(_one_of("softmax", "sigmoid")),
        "whole_batch": _FLAG,
        "regularised": _FLAG,
        "detached": _FLAG,
        "memory": _FUNCTION,
        "memory_lr": _NUMBER,
    },
    "chapter": {"tables": _TEXTS, "next": Key("a NextStep", lambda v: v is None or hasattr(v, "command"))},
}
"""The keys of `register`, by kind. Kinds that are not listed have none."""

CHECKS = {
    "metric": "manyhot.core.plug_in_results:check_estimate",
    "aggregator": "manyhot.core.plug_in_results:check_aggregate",
    "proposer": "manyhot.core.plug_in_results:check_pairs",
    "rule": "manyhot.core.plug_in_results:check_rule_match",
    "loss": "manyhot.train.loss:check_value",
    "format": "manyhot.formats.content_types:check_content",
    "writer": "manyhot.formats.content_types:check_saved",
    "chapter": "manyhot.report.chapter:check_chapter",
}
"""The function that checks what a function of another package returned, by kind."""


def check_keys(kind: str, name: str, about: Mapping[str, Any]) -> None:
    """Check what a function declares.

    Raises
    ------
    InputError
        If a key is unknown or missing, or if its value is not allowed.
    """
    keys = KEYS.get(kind, {})
    where = f"the {kind} {name!r}"
    for key, value in about.items():
        if key not in keys:
            allowed = ", ".join(keys) or "no keys"
            raise InputError(f"There is no key {key!r} of a {kind}.", where=where, got=key, allowed=allowed)
        if not keys[key].fits(value):
            raise InputError(
                f"The value of {key!r} is not allowed.",
                where=where,
                got=repr(value),
                allowed=keys[key].allowed,
            )
    for key, declared in keys.items():
        if declared.is_required and key not in about:
            raise InputError(
                f"The key {key!r} is missing.", where=where, allowed=f"{key}= {declared.allowed}"
            )
