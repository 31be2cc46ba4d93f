"""What runs on the machines of a cluster: a worker builds networks from recipes and scores parts."""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import platform
import traceback
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from manyhot._version import __version__
from manyhot.classes import ClassList
from manyhot.errors import InputError, ManyhotError
from manyhot.extras import required
from manyhot.models.engines import Engine, Precision, build
from manyhot.models.engines.openvino_engine import restore
from manyhot.models.find import find_model
from manyhot.models.network import Network
from manyhot.models.scored import Keep, Scored, Seconds, score_parts
from manyhot.models.sources import Part

BUILT = 2
"""Networks that a worker keeps: one model ends where the next begins."""


@dataclass(frozen=True)
class Recipe:
    """How a worker comes to its network and engine.

    Attributes
    ----------
    spec : str
        As for `find_model`.
    classes : ClassList, optional
    network : Network
        Without what computes it.
    keep : Keep
    engine : str
    precision : Precision
    features : bool
    batch, workers : int
    exported : ray.ObjectRef, optional
        Of the engine, where it can be sent: the worker builds and converts nothing then.
    version : str
        Of manyhot where the run was started.
    """

    spec: str
    classes: ClassList | None
    network: Network
    keep: Keep
    engine: str = ""
    precision: Precision = Precision.f32
    features: bool = False
    batch: int = 0
    workers: int = 1
    exported: Any = None
    version: str = __version__

    def build(self) -> tuple[Network, Engine]:
        """Build the network, and the engine that runs it.

        Raises
        ------
        InputError
            It cannot be built here, or it or manyhot is another one.
        """
        if self.version != __version__:
            raise _another("manyhot", self.spec, __version__, self.version)
        try:
            network, engine = self._built()
        except Exception as error:
            # What is there where the run was started may be absent here: weights, packages, a file.
            said = " ".join(str(error).split())
            raise InputError(
                "A worker of Ray cannot build the model.",
                where=f"{self.spec} on {platform.node()}",
                got=f"{type(error).__name__}: {said}",
                do="give all machines the same packages, weights and files",
            ) from error
        if (here := _described(network)) != (there := _described(self.network)):
            raise _another("the model", self.spec, here, there)
        return network, engine

    def _built(self) -> tuple[Network, Engine]:
        torch = required("torch", "A worker of Ray")
        torch.set_num_threads(1)  # as threads without Ray have it; sums of another order round otherwise
        if self.exported is not None:
            import ray

            exported = ray.get(self.exported)
            engine = restore(exported, self.precision, self.features, self.workers, self.batch)
            return self.network, engine
        network = find_model(self.spec, self.classes)
        engine = build(
            self.engine,
            network,
            precision=self.precision,
            features=self.features,
            workers=self.workers,
            batch=self.batch,
        )
        return network, engine


def _described(network: Network) -> str:
    weights = network.about.get("weights", "")
    return f"{network.name}, {len(network.classes):,} classes {network.classes.hash}" + (
        f", weights {weights}" if weights else ""
    )


def _another(what: str, spec: str, here: str, there: str) -> InputError:
    return InputError(
        f"A worker of Ray has another one: {what}.",
        where=f"{spec} on {platform.node()}",
        got=here,
        allowed=there,
        do="give all machines the same packages, weights and files",
    )


class Worker:
    """Scores parts in a process of its own, with one network after the other.

    Parameters
    ----------
    folder : str
        The current one, for relative paths.
    """

    def __init__(self, folder: str) -> None:
        self._built: OrderedDict[int, tuple[Network, Engine]] = OrderedDict()
        with contextlib.suppress(OSError):  # another machine need not have it
            os.chdir(folder)
        for name in ("torchvision.transforms.v2", "openvino"):  # 3 s, while an engine is still chosen
            with contextlib.suppress(ImportError):
                importlib.import_module(name)

    def come(self) -> None:
        """Answer when this worker is there."""

    def score(self, model: int, recipe: Recipe, part: Part) -> tuple[Scored, Seconds] | Exception:
        """Return what came of a part, or the error that it ended with: Ray would wrap it, and print it."""
        try:
            network, engine = self._network(model, recipe)
            seconds = Seconds()
            (scored,) = score_parts([part], network, engine, recipe.keep, seconds=seconds)
        except Exception as error:
            return _picklable(error)
        return scored, seconds

    def _network(self, model: int, recipe: Recipe) -> tuple[Network, Engine]:
        if model not in self._built:
            while len(self._built) >= BUILT:
                self._built.popitem(last=False)
            self._built[model] = recipe.build()
        self._built.move_to_end(model)
        return self._built[model]


def _picklable(error: Exception) -> Exception:
    """Return an error that survives the way back; one that nobody foresaw with where it came from."""
    if not isinstance(error, ManyhotError):
        error.add_note(f"On a worker of Ray:\n{traceback.format_exc()}")
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    except Exception:
        return RuntimeError(f"{type(error).__name__} on a worker of Ray: {error}\n{traceback.format_exc()}")
    return error
