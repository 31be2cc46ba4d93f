"""The exceptions of manyhot.

::

    ManyhotError
    ├── InputError          a file, an array or an argument is invalid
    │   ├── UsageError      arguments exclude one another, or one is missing
    │   ├── OrderError      rows or classes are in another order than declared
    │   ├── MatchError      two tables do not match
    │   └── PlugInError     a function of a plug-in fails or returns something invalid
    ├── UnknownNameError    nothing is registered under this name
    ├── MissingExtraError   an optional dependency is not installed
    ├── FetchError          published data cannot be downloaded
    │   └── ChecksumError   the downloaded bytes are not the published ones
    └── OutputError         a result cannot be written

Each message states what is wrong, where, the invalid value, what is allowed, and what to do.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping


class ManyhotError(Exception):
    """Base class of all exceptions of manyhot.

    Parameters
    ----------
    what : str
        What is wrong, as one sentence.
    where, got, allowed, do : str, optional
        The place, the invalid value, the allowed values, and what to do.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        got: object = None,
        allowed: object = None,
        do: str | None = None,
    ) -> None:
        self.what = what
        self.details = {"where": where, "got": got, "allowed": allowed, "do": do}
        lines = [
            f"  {key + ':':<9}{_shown(str(value))}"
            for key, value in self.details.items()
            if value is not None
        ]
        super().__init__("\n".join([_shown(what), *lines]))

    def in_a_line(self, where: str = "") -> str:
        """Return the message as one line. The place is omitted if it equals `where`."""
        details = [
            f"{key}: {_shown(str(value))}"
            for key, value in self.details.items()
            if value is not None and (key, str(value)) != ("where", where)
        ]
        what = _shown(self.what).rstrip(".")
        return f"{what} ({'; '.join(details)})" if details else what

    def renamed(self, names: Mapping[str, str]) -> ManyhotError:
        """Return the error with the parameters in backticks renamed in all parts of the message."""
        return self._with(lambda text: rename_parameters(text, names) if isinstance(text, str) else text)

    def with_text(self, old: str, new: str) -> ManyhotError:
        """Return the error with a text, such as the path of a temporary file, replaced in all parts."""
        return self._with(lambda part: part.replace(old, new) if isinstance(part, str) else part)

    def with_do(self, do: str | None) -> ManyhotError:
        """Return the error with other advice on what to do, or with none."""
        return type(self)(self.what, **{**self.details, "do": do})  # type: ignore[arg-type]

    def _with(self, change: Callable[[object], object]) -> ManyhotError:
        details = {k: str(v) if isinstance(v, os.PathLike) else v for k, v in self.details.items()}
        parts, what = {key: change(value) for key, value in details.items()}, str(change(self.what))
        if (what, parts) == (self.what, details):
            return self
        return type(self)(what, **parts)  # type: ignore[arg-type]

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the parts of the message separately, for other processes."""
        again: functools.partial[ManyhotError] = functools.partial(type(self), **self.details)  # type: ignore[arg-type]
        return again, (self.what,), self.__dict__


def rename_parameters(text: str, names: Mapping[str, str]) -> str:
    """Return a message or a note with the parameters in backticks renamed."""
    return re.sub(r"`(\w+)`", lambda found: names.get(found[1], found[0]), text)


_LONGEST = 2000
"""Maximum number of characters of a value in a message; a cell may hold ten million."""


def _shown(text: str) -> str:
    """Return a text for one line of a message: cut, and without control characters.

    File names, ids and cells may come from anywhere; a line break in one could forge a line of the message.
    """
    return printable(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…")


def first_names(names: Collection[object], most: int = 5) -> str:
    """Return names for a message: the first ones, and how many more there are.

    Examples
    --------
    >>> first_names(["cat", "cow", "dog"], 2)
    'cat, cow and 1 more'
    """
    return ", ".join(map(str, itertools.islice(names, most))) + and_more(len(names) - most)


def and_more(n: int) -> str:
    """Return ``and 3 more`` after a space; nothing for 0."""
    return f" and {n:,} more" if n > 0 else ""


def did_you_mean(
    name: str, names: Iterable[str], n: int = 3, *, show: Callable[[str], str] = repr
) -> str | None:
    """Return the question whether one of the most similar names was meant; None if none is similar."""
    import difflib  # not for all of this package, which is imported in less time

    near = difflib.get_close_matches(name, [*names], n=n)
    return f"did you mean {' or '.join(map(show, near))}?" if near else None


def counted(n: int, noun: str) -> str:
    """Return ``1 model``, ``2 models``, ``2 classes``."""
    return f"{n:,} {noun}{'' if n == 1 else 'es' if noun.endswith('ss') else 's'}"


def printable(text: str) -> str:
    """Return a text with control characters and line breaks escaped as in Python."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class InputError(ManyhotError, ValueError):
    """A file, an array or an argument is invalid."""

    exit_code = 3


class UsageError(InputError):
    """Arguments exclude one another, have the wrong form or are missing."""

    exit_code = 2


class OrderError(InputError):
    """Rows or classes are in a different order than declared."""


class MatchError(InputError):
    """Two tables do not match because they have no common ids, or because their class lists differ."""


class PlugInError(InputError):
    """A registered function that is not manyhot's own fails, or returns something invalid."""


class UnknownNameError(ManyhotError, LookupError):
    """Nothing is registered under this name."""

    exit_code = 2


class MissingExtraError(ManyhotError, ImportError):
    """An optional dependency is not installed."""

    exit_code = 4


class FetchError(ManyhotError, OSError):
    """Published data cannot be downloaded."""

    exit_code = 5


class ChecksumError(FetchError):
    """The checksum of a downloaded file differs from the published one."""


class OutputError(ManyhotError, OSError):
    """A result cannot be written."""

    exit_code = 6
