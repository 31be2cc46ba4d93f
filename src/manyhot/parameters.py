"""Types of parameters that carry their range and unit, so that each is declared once.

``Annotated[int, AtLeast(1)]`` is an ``int`` to a type checker; `manyhot.command` checks the range in calls
from Python and from the command line, and shows it in the help.

The functions check values that no type describes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from numbers import Integral, Real
from types import MappingProxyType
from typing import Annotated, Any, TypeGuard

from manyhot.errors import InputError


@dataclass(frozen=True)
class AtLeast:
    """A number from `least` on."""

    least: float

    def allows(self, value: float) -> bool:
        """Return whether a value is in the range."""
        return value >= self.least

    def __str__(self) -> str:
        """Say the range as errors and help do."""
        return f"{self.least:.12g} or more"


@dataclass(frozen=True)
class Between:
    """A number from `least` to `most`. ``(`` in `open` excludes the lower end, and ``)`` the upper end."""

    least: float
    most: float
    open: str = ""

    def allows(self, value: float) -> bool:
        """Return whether a value is in the range."""
        above = value > self.least if "(" in self.open else value >= self.least
        below = value < self.most if ")" in self.open else value <= self.most
        return above and below and not math.isnan(value)

    def __str__(self) -> str:
        """Say the range as errors and help do."""
        above = f"above {self.least:.12g}" if "(" in self.open else f"{self.least:.12g}"
        if math.isinf(self.most):
            return above
        below = f"below {self.most:.12g}" if ")" in self.open else f"{self.most:.12g}"
        return f"{above} to {below}"


@dataclass(frozen=True)
class Shown:
    """The placeholder for a value in the help, such as ``FILE``."""

    name: str


@dataclass(frozen=True)
class Repeated:
    """Several values may be given on the command line."""


@dataclass(frozen=True)
class Positional:
    """A positional argument of the command despite its default."""


@dataclass(frozen=True)
class PythonOnly:
    """A parameter of the function that is not available on the command line."""


@dataclass(frozen=True)
class Address:
    """A path or a URL such as ``s3://bucket/folder``, which is passed on as it was typed."""


@dataclass(frozen=True)
class OptionName:
    """The name of the option if the parameter has a different name in Python or has no default."""

    name: str


@dataclass(frozen=True)
class FromEnvironment:
    """An environment variable that sets the value if the option is not given."""

    name: str


@dataclass(frozen=True)
class InCampaign:
    """The default of ``--out``: a file in the campaign passed to the command, or in the working folder."""

    argument: str
    file: str


@dataclass(frozen=True)
class Was:
    """The former name of an option. It works for one more release and prints a note with the new name."""

    name: str


Count = Annotated[int, AtLeast(1)]
Resamples = Annotated[int, AtLeast(0)]
"""Bootstrap resamples; 0 for no intervals."""
Seed = Annotated[int, AtLeast(0)]
Share = Annotated[float, Between(0, 1)]
Probability = Annotated[float, Between(0, 1, "(")]
Positive = Annotated[float, Between(0, math.inf, "()")]

Settings = Annotated[Mapping[str, Any], OptionName("--set"), Shown("NAME=VALUE")]
"""Values by name, such as those of a recipe: ``--set epochs=30`` on the command line."""

NO_SETTINGS: Mapping[str, Any] = MappingProxyType({})

RESAMPLES = 1000
"""The default number of bootstrap resamples."""


class Flattened:
    """Base class of frozen dataclasses with fields that are separate options on the command line.

    Functions also take the fields as keywords. Former names are fields with ``repr=False``.
    """

    def __init_subclass__(cls) -> None:
        """Add the entries of inherited fields to the docstring."""
        head = "Attributes\n    ----------\n"
        for text in (base.__doc__ or "" for base in cls.__bases__ if base is not Flattened):
            entries = text.partition(head)[2].rstrip(" ")
            cls.__doc__ = cls.__doc__ and cls.__doc__.replace(head, head + entries, 1)

    def __repr__(self) -> str:
        """Show the fields that are not at their default, for this is the default value in signatures."""
        shown = (f for f in fields(self) if f.repr)  # type: ignore[arg-type]
        changed = (f"{f.name}={v!r}" for f in shown if (v := getattr(self, f.name)) is not f.default)
        return f"{type(self).__name__}({', '.join(changed)})"


def is_whole(value: object) -> TypeGuard[int]:
    """Return whether a value is an integer; booleans are not."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a value is a finite number; booleans are not."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def check_one_of(value: object, names: Iterable[str], message: str, *, where: object = None) -> None:
    """Check that a value is one of `names`.

    Raises
    ------
    InputError
        If the value is not one of `names`. The message lists them.
    """
    names = tuple(names)
    if value not in names:
        raise InputError(message, where=where, got=value, allowed=", ".join(names))


def check_share(
    value: object,
    message: str,
    *,
    zero: bool = False,
    one: bool = True,
    where: object = None,
    got: object = None,
    allowed: str = "above 0, up to 1",
) -> None:
    """Check that a value is a number from 0 to 1.

    Parameters
    ----------
    value : object
    message : str
        The message of the error.
    zero, one : bool
        Whether 0 and 1, respectively, are allowed.
    where, got, allowed
        Parts of the message, as in `InputError`. By default, `got` is the value. `allowed` must agree with
        `zero` and `one`.

    Raises
    ------
    InputError
        If it is not.
    """
    if is_number(value) and 0 <= value <= 1 and (zero or value != 0) and (one or value != 1):
        return
    raise InputError(message, where=where, got=value if got is None else got, allowed=allowed)


def check_count(
    value: object, message: str, *, least: int = 1, got: object = None, allowed: str | None = "1 and up"
) -> None:
    """Check that a value is an integer of at least `least`.

    Raises
    ------
    InputError
        If it is not.
    """
    if not is_whole(value) or value < least:
        raise InputError(message, got=value if got is None else got, allowed=allowed)


def check_draws(resamples: object, seed: object) -> None:
    """Check the number of resamples and the seed of a bootstrap.

    Raises
    ------
    InputError
        If either is negative or not an integer.
    """
    _check_not_negative("seed", seed, "0 or more")
    _check_not_negative("number of resamples", resamples, "0 (no intervals) or more")


def _check_not_negative(what: str, value: object, allowed: str) -> None:
    wrong = "negative" if is_whole(value) else "not an integer"
    got = value if is_whole(value) else repr(value)
    check_count(value, f"The {what} is {wrong}.", least=0, got=got, allowed=allowed)
