"""The contract of an engine, and the list of engines."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np

from manyhot.core.threads import cores
from manyhot.core.uncertainty import Average
from manyhot.errors import InputError, MissingExtraError, UnknownNameError
from manyhot.predict.network import Bytes, Float32Array, Network, as_scores


class EnginePrecision(StrEnum):
    """The floating-point format of the computation. The default is f32."""

    f32 = "f32"
    bf16 = "bf16"
    f16 = "f16"


def precision_of(name: str) -> EnginePrecision:
    """Return a precision by name.

    Raises
    ------
    InputError
        If the precision does not exist.
    """
    try:
        return EnginePrecision(name)
    except ValueError as error:
        raise InputError(
            "There is no such precision.", got=name, allowed=", ".join(EnginePrecision)
        ) from error


@dataclass(frozen=True)
class EngineOptions:
    """How an engine runs a network.

    Attributes
    ----------
    precision : EnginePrecision
    features : bool
        Whether to also return penultimate features.
    workers, batch : int, optional
        The number of threads, by default one per core, and the number of images per call.
    """

    precision: EnginePrecision = EnginePrecision.f32
    features: bool = False
    workers: int | None = None
    batch: int | None = None

    @property
    def threads(self) -> int:
        """The number of threads, which is known."""
        return self.workers or cores()

    def __post_init__(self) -> None:
        for name in ("workers", "batch"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise InputError(f"`{name}` is out of range.", got=count, allowed="1 or more")


ENGINE_OPTIONS = EngineOptions()


@dataclass(frozen=True)
class EnginePackage:
    """The module that an engine needs, and the package that installs it."""

    module: str
    install: str


ENGINES: dict[str, EnginePackage] = {
    "torch": EnginePackage("torch", '"manyhot[models]"'),
    "compile": EnginePackage("torch", '"manyhot[models]"'),
    "openvino": EnginePackage("openvino", '"manyhot[models]"'),
    "onnx": EnginePackage("onnxruntime", '"manyhot[onnx]"'),
}


class Engine(Protocol):
    """Runs batches of a network."""

    @property
    def name(self) -> str:
        """Such as ``openvino``."""

    @property
    def device(self) -> str:
        """Such as ``cpu``."""

    @property
    def precision(self) -> EnginePrecision:
        """Its floating-point format."""

    @property
    def workers(self) -> int:
        """The number of threads that can usefully call the engine at the same time."""

    @property
    def batch(self) -> int:
        """The preferred and maximum number of images per call."""

    def __call__(self, images: Bytes) -> tuple[Float32Array, Float32Array | None]:
        """Return logits and, if requested at its construction, penultimate features.

        For an average of members, the second array is their mutual information instead; see `Average`.

        Parameters
        ----------
        images : ndarray of uint8, shape (n, 3, height, width)
            At most `batch`.

        Returns
        -------
        ndarray of float32, shape (n, C), and ndarray of float32, shape (n, D), or None
        """
        ...


def installed(name: str) -> bool:
    """Return whether the module that an engine needs is installed."""
    return importlib.util.find_spec(ENGINES[name].module) is not None


def build_engine(name: str, network: Network, options: EngineOptions = ENGINE_OPTIONS) -> Engine:
    """Return an engine that runs a network.

    Parameters
    ----------
    name : str
        One of `ENGINES`, or ``own`` for a model that runs without an engine.
    network : Network
    options : EngineOptions

    Raises
    ------
    UnknownNameError
        If the engine does not exist.
    MissingExtraError
        If the engine is not installed.
    InputError
        If the engine cannot run this network, or cannot run it in this precision.
    """
    if network.forward is not None:
        return _own(network, name, options)
    if name not in ENGINES:
        raise UnknownNameError(f"There is no engine {name!r}.", allowed=f"auto, {', '.join(ENGINES)}, ray")
    if not installed(name):
        raise MissingExtraError(
            f"The engine {name!r} is not installed.",
            got=f"no module {ENGINES[name].module}",
            do=f"pip install {ENGINES[name].install}",
        )
    if options.features and not network.has_features:
        raise InputError(
            "The penultimate features of this model are unknown.",
            where=network.name,
            do="predict without `embeddings`, or pass the network as a python:… function that returns a "
            "torch.nn.Module, or a Network with a head",
        )
    module = importlib.import_module(f"manyhot.predict.engines.{'torch' if name == 'compile' else name}")
    make = module.compile_engine if name == "compile" else getattr(module, f"{name}_engine")
    engine: Engine = make(network, options)
    return engine


@dataclass(frozen=True)
class _Own:
    """A model that runs itself, with one call at a time, as it may not be thread-safe."""

    network: Network
    batch: int
    name: str = "own"
    device: str = "cpu"
    precision: EnginePrecision = EnginePrecision.f32
    workers: int = 1

    def __call__(self, images: Bytes) -> tuple[Float32Array, Float32Array | None]:
        assert self.network.forward is not None
        information: Float32Array | None = None
        if self.network.members is None:
            scores = as_scores(self.network.forward(images), self.network.name)
        else:
            average = Average.of(self.network.members(images), multilabel=self.network.multilabel)
            scores = average.mean.astype(np.float32)
            information = average.mutual_information.astype(np.float32)
        check_outputs(scores, None, len(images), self.network)
        return scores, information


def score_images(engine: Engine, images: Bytes) -> Float32Array:
    """Return the scores of any number of images."""
    parts = range(0, len(images), engine.batch)
    return np.concatenate([engine(images[i : i + engine.batch])[0] for i in parts])


def check_outputs(
    scores: Float32Array, features: Float32Array | None, n: int, network: Network, images: str = ""
) -> None:
    """Raise an error unless there are scores for each image and class, and features for each image.

    Raises
    ------
    InputError
    """
    where = f"{network.name}, {images}" if images else network.name
    if scores.shape != (n, len(network.classes)):
        raise InputError(
            "The model does not return one score for each image and class.",
            where=where,
            got=f"shape {scores.shape}",
            allowed=f"shape {(n, len(network.classes))}",
        )
    if features is not None and len(features) != n:
        raise InputError(
            "The layer before which embeddings are taken does not process each image once.",
            where=where,
            got=f"{len(features)} rows for {n} images",
            do="predict without `embeddings`",
        )


def _own(network: Network, name: str, options: EngineOptions) -> Engine:
    if name not in ("auto", "own", "torch") or options.features:
        raise InputError(
            "This model runs its own code, without an engine.",
            where=network.name,
            got="`embeddings`" if options.features else f"`engine`={name}",
            allowed="scores only, with `engine`=auto",
        )
    return _Own(network, options.batch or 8)
