"""Types of parameters that carry their range and unit, so that each is declared once.

``Annotated[int, AtLeast(1)]`` is an ``int`` to a type checker; `manyhot.command` checks the range in calls
from Python and from the command line, and shows it in the help.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any


@dataclass(frozen=True)
class AtLeast:
    """A number from `least` on."""

    least: float

    def allows(self, value: float) -> bool:
        """Return whether a value is in the range."""
        return value >= self.least

    def __str__(self) -> str:
        """Say the range as errors and help do."""
        return f"{self.least:g} or more"


@dataclass(frozen=True)
class Between:
    """A number from `least` to `most`; `open` leaves out the ends that it names: ``(``, ``)`` or both."""

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
        above = f"above {self.least:g}" if "(" in self.open else f"{self.least:g}"
        if math.isinf(self.most):
            return above
        below = f"below {self.most:g}" if ")" in self.open else f"{self.most:g}"
        return f"{above} to {below}"


@dataclass(frozen=True)
class Shown:
    """The word that stands for a value in the help, such as ``FILE``."""

    name: str


@dataclass(frozen=True)
class Repeated:
    """Several values may be given on the command line."""


@dataclass(frozen=True)
class Positional:
    """An argument of the command, although it has a default."""


@dataclass(frozen=True)
class PythonOnly:
    """A parameter of the function that its command does not have."""


@dataclass(frozen=True)
class Address:
    """A path that may be an address such as ``s3://bucket/folder``, and is passed on as it was typed."""


@dataclass(frozen=True)
class OptionName:
    """The option of a parameter that has another name in Python, or no default there."""

    name: str


@dataclass(frozen=True)
class FromEnvironment:
    """A variable of the environment that gives the value where no option does."""

    name: str


@dataclass(frozen=True)
class InCampaign:
    """The default of ``--out``: a file in the campaign that an argument names, else in the working folder."""

    argument: str
    file: str


@dataclass(frozen=True)
class Was:
    """The name that an option had; it is understood for one release, with a line that says the new one."""

    name: str


Range = AtLeast | Between

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
    """Base of frozen dataclasses whose fields are options of their own on the command line."""
