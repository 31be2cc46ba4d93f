"""The exceptions that manyhot raises on purpose.

::

    ManyhotError
    ├── InputError          a file, an array or an argument is not what was expected
    │   ├── OrderError      rows or classes are in another order than claimed
    │   └── MatchError      two tables do not belong together
    ├── UnknownNameError    nothing is registered under this name
    ├── MissingExtraError   an optional dependency is not installed
    ├── FetchError          published data could not be had
    │   └── ChecksumError   the bytes are not the published ones
    └── OutputError         a result could not be written

Each message says what is wrong, where, what was got, what is allowed and what to do.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping


class ManyhotError(Exception):
    """Base of all errors that manyhot raises on purpose.

    Parameters
    ----------
    what : str
        What is wrong, as one sentence.
    where, got, allowed, do : str, optional
        The place, the offending value, the values that are fine, and the way out.
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
        """Return the message as one line, without the place where that is `where`, which the reader knows."""
        details = [
            f"{key}: {_shown(str(value))}"
            for key, value in self.details.items()
            if value is not None and (key, str(value)) != ("where", where)
        ]
        what = _shown(self.what).rstrip(".")
        return f"{what} ({'; '.join(details)})" if details else what

    def renamed(self, names: Mapping[str, str]) -> ManyhotError:
        """Return the error with other names of parameters, which stand in backticks in all of its parts."""
        parts = {key: _renamed(value, names) for key, value in self.details.items()}
        what = str(_renamed(self.what, names))
        if (what, parts) == (self.what, self.details):
            return self
        return type(self)(what, **parts)  # type: ignore[arg-type]

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the parts of the message apart where an error goes from one process to another."""
        again: functools.partial[ManyhotError] = functools.partial(type(self), **self.details)  # type: ignore[arg-type]
        return again, (self.what,), self.__dict__


def _renamed(value: object, names: Mapping[str, str]) -> object:
    if not isinstance(value, str):
        return value
    return re.sub(r"`(\w+)`", lambda found: names.get(found[1], found[0]), value)


_LONGEST = 2000
"""Characters of a value that are shown: a cell may hold ten million."""


def _shown(text: str) -> str:
    """Return a text for one line of a message: cut, and without what a terminal would obey.

    File names, ids and cells come from anywhere; a line break in one could forge a line of the message.
    """
    return printable(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…")


def printable(text: str) -> str:
    """Return a text without what a terminal would obey: escapes and line breaks as Python writes them."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class InputError(ManyhotError, ValueError):
    """A file, an array or an argument is not what was expected."""

    exit_code = 3


class OrderError(InputError):
    """Rows or classes are in another order than the one they are read in."""


class MatchError(InputError):
    """Two tables do not belong together: no common ids, or different class lists."""


class UnknownNameError(ManyhotError, LookupError):
    """Nothing is registered under this name."""

    exit_code = 2


class MissingExtraError(ManyhotError, ImportError):
    """An optional dependency is not installed."""

    exit_code = 4


class FetchError(ManyhotError, OSError):
    """Published data could not be had."""

    exit_code = 5


class ChecksumError(FetchError):
    """The downloaded bytes are not the published ones."""


class OutputError(ManyhotError, OSError):
    """A result could not be written."""

    exit_code = 6
