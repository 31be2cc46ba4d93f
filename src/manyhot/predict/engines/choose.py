"""The choice of a fast engine that gives the same answers.

Scores of engines differ in the last digits, so a choice by the stopwatch alone would change them from run to
run. Engines are therefore taken in a fixed order, unless another is clearly faster.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from manyhot.errors import InputError, ManyhotError
from manyhot.predict.engines import torch
from manyhot.predict.engines.engine import (
    ENGINE_OPTIONS,
    Engine,
    EngineOptions,
    EnginePrecision,
    build_engine,
    installed,
    score_images,
)
from manyhot.predict.model_code import failures_of
from manyhot.predict.network import Bytes, Float32Array, Network

NAN = float("nan")
TRIAL_S = 1.0
"""Seconds for which an engine is timed."""


PREFERRED = ("openvino", "onnx", "compile", "torch")
"""Engines from the one that is usually fastest."""

CLEARLY = 1.5
"""How many times as fast an engine must be to be taken instead of a preferred one."""

SPEED = 4e10
"""Operations per second of PyTorch on two cores, by which the work on few images is estimated."""

PAYS_S = {"openvino": 6.0, "onnx": 60.0, "compile": 600.0}
"""Seconds of work from which it is worth trying an engine. OpenVINO takes 3 to build and time and is twice as
fast as PyTorch; ONNX Runtime takes 6 and is rarely faster than OpenVINO; compiling takes a minute."""


TOO_FEW = "too few images to make up for its start-up time"
"""Why an engine is not tried."""


LOGIT_TOLERANCE = 1e-3
"""Largest difference from PyTorch's logits, relative to the largest logit; f32 engines stay below 1e-5."""


@dataclass(frozen=True)
class Trial:
    """The trial of an engine.

    Attributes
    ----------
    engine : str
    rate : float
        Images per second, for the network alone. NaN if it was not measured.
    difference : float, optional
        Largest absolute difference from PyTorch's logits in f32. None if PyTorch cannot run the model.
    disagreement : float, optional
        Share of the images for which the top class differs from PyTorch's.
    startup : float
        Seconds to build the engine.
    why_not : str
        Reason why the engine cannot be chosen. Empty if it can.
    """

    engine: str
    rate: float
    difference: float | None
    disagreement: float | None
    startup: float
    why_not: str = ""


@dataclass(frozen=True, eq=False)
class EngineChoice:
    """The chosen engine, and the trials of all engines that were considered."""

    engine: Engine
    trials: tuple[Trial, ...]

    @property
    def trial(self) -> Trial:
        """The trial of the chosen engine."""
        return next(t for t in self.trials if t.engine == self.engine.name)


@torch.threads_given_back()
def choose_engine(
    name: str,
    network: Network,
    images: Bytes,
    n: int | None,
    options: EngineOptions = ENGINE_OPTIONS,
) -> EngineChoice:
    """Return the engine to use.

    Parameters
    ----------
    name : str
        One of `ENGINES`, or ``auto`` to choose the first installed engine of `PREFERRED` with the same
        predictions as PyTorch, unless another engine with these predictions is more than `CLEARLY` times as
        fast. For few images, ``auto`` chooses PyTorch without timing the other engines if none of them would
        save time.
    network : Network
    images : ndarray of uint8, shape (m, 3, height, width)
        Cropped images on which the engines are timed and compared.
    n : int, optional
        Number of images to predict.
    options : EngineOptions

    Raises
    ------
    UnknownNameError, MissingExtraError, InputError
        As in `build_engine`.
    """
    if name.partition(":")[0] == "ray":
        raise InputError(
            "Ray needs the name of a model, not a network in memory.",
            where=network.name,
            got=f"engine {name!r}",
            allowed="manyhot predict --engine ray --model NAME",
            do="pass the network by name, such as python:MODULE:FUNCTION for a network that a function "
            "returns",
        )

    def made(engine: str, kind: EnginePrecision = options.precision) -> Engine:
        return build_engine(engine, network, replace(options, precision=kind))

    with failures_of(network.name):
        if network.forward is not None:
            return _single(made(name), images, None)
        if name == "auto" and (short := _short(made, network, images, n, options.precision)):
            return short
        reference = None
        if network.module is not None:
            reference = score_images(made("torch", EnginePrecision.f32), images)
        if name != "auto":
            return _single(made(name), images, reference)
        return _fastest(made, network, images, reference, n)


def _short(
    made: Callable[[str], Engine], network: Network, images: Bytes, n: int | None, precision: EnginePrecision
) -> EngineChoice | None:
    """Return PyTorch, after one batch, if it is done before another engine pays; None otherwise.

    To time it for a second and to compare it with itself would take longer than the work. The work is
    estimated from the network, and measured only if its operations cannot be counted.
    """
    if network.module is None or n is None or precision is not EnginePrecision.f32:
        return None
    engine, others = made("torch"), [name for name in _candidates(network) if name != "torch"]
    begun = time.perf_counter()
    engine(images[: engine.batch])
    seconds = (time.perf_counter() - begun) / len(images[: engine.batch])
    if n * _estimate(network, images, seconds) >= min((PAYS_S[name] for name in others), default=math.inf):
        return None
    trials = [Trial(name, NAN, None, None, 0.0, TOO_FEW) for name in others]
    return EngineChoice(engine, (Trial("torch", 1 / seconds, 0.0, 0.0, 0.0), *trials))


def _estimate(network: Network, images: Bytes, measured: float) -> float:
    """Return the seconds that PyTorch takes for an image, which do not depend on what else runs.

    They are the measured ones on a GPU, and where operations cannot be counted.
    """
    is_counted = network.module is not None and torch.device() == "cpu"
    seconds = _operations(network, images) / SPEED if is_counted else 0.0
    return seconds or measured


def _operations(network: Network, images: Bytes) -> float:
    """Return how many floating-point operations PyTorch counts for one image; 0 if it cannot."""
    from torch import inference_mode, zeros
    from torch.utils.flop_counter import FlopCounterMode

    assert network.module is not None
    try:
        with inference_mode(), FlopCounterMode(display=False) as counter:
            network.module.eval()(zeros(1, *images.shape[1:]))
    except Exception:  # a network of whatever kind
        return 0.0
    return float(counter.get_total_flops())


def _single(engine: Engine, images: Bytes, reference: Float32Array | None) -> EngineChoice:
    # A trial that decides nothing is skipped.
    return EngineChoice(engine, (_compared(engine, images, reference, 0.0),))


def _fastest(
    made: Callable[[str], Engine],
    network: Network,
    images: Bytes,
    reference: Float32Array | None,
    n: int | None,
) -> EngineChoice:
    trials: list[Trial] = []
    engines: dict[str, Engine] = {}
    candidates, counted = _candidates(network), 0.0 if n is None else _estimate(network, images, 0.0)
    for name in candidates:
        rate = max((trial.rate for trial in trials if trial.engine in engines), default=NAN)
        if n is not None and n * (counted or 1 / rate) < PAYS_S.get(name, 0.0):
            trials.append(Trial(name, NAN, None, None, 0.0, TOO_FEW))
            continue
        engine, trial = _tried(made, name, images, reference, must=not engines and name == candidates[-1])
        trials.append(trial)
        if engine is not None:
            engines[name] = engine
    if not engines:
        raise InputError("No installed engine runs this model.", where=network.name, got=trials[0].why_not)
    rates = {trial.engine: trial.rate for trial in trials}
    preferred, fastest = min(engines, key=PREFERRED.index), max(engines, key=rates.__getitem__)
    best = fastest if rates[fastest] > CLEARLY * rates[preferred] else preferred
    return EngineChoice(engines[best], tuple(trials))


def _tried(
    made: Callable[[str], Engine], name: str, images: Bytes, reference: Float32Array | None, must: bool
) -> tuple[Engine | None, Trial]:
    """Return an engine and its trial; no engine if it cannot run, or gives other answers."""
    begun = time.perf_counter()
    try:
        engine = made(name)
        trial = _compared(engine, images, reference, time.perf_counter() - begun)
        trial = replace(trial, rate=_rate(engine, images))
    except MemoryError:
        raise
    except Exception as error:
        # Converters fail in many ways; only one engine must work.
        if must:
            raise
        said = error.what if isinstance(error, ManyhotError) else str(error).partition("\n")[0]
        return None, Trial(name, NAN, None, None, time.perf_counter() - begun, said or repr(error))
    if engine.precision is EnginePrecision.f32 and not _same(trial, reference):
        return None, replace(trial, why_not="other answers")
    return engine, trial


def _candidates(network: Network) -> list[str]:
    if network.file:
        wanted = ["openvino", "onnx"] if network.file.endswith(".onnx") else ["openvino"]
    else:
        # No engine on the CPU comes close to a GPU, where compiling helps.
        wanted = ["torch", "openvino", "onnx"] if torch.device() == "cpu" else ["torch", "compile"]
    return [name for name in wanted if installed(name)] or wanted[:1]


def _same(trial: Trial, reference: Float32Array | None) -> bool:
    if reference is None or trial.difference is None:
        return True
    return trial.disagreement == 0 and trial.difference <= LOGIT_TOLERANCE * max(
        1.0, float(np.abs(reference).max())
    )


def _compared(engine: Engine, images: Bytes, reference: Float32Array | None, startup: float) -> Trial:
    """Return the difference of an engine's answers from PyTorch's, on some images."""
    if reference is None:
        return Trial(engine.name, NAN, None, None, startup)
    if engine.name == "torch" and engine.precision is EnginePrecision.f32:  # the reference
        return Trial(engine.name, NAN, 0.0, 0.0, startup)
    out = score_images(engine, images)
    difference = float(np.abs(out - reference).max())
    disagreement = float((out.argmax(1) != reference.argmax(1)).mean())
    return Trial(engine.name, NAN, difference, disagreement, startup)


def _rate(engine: Engine, images: Bytes) -> float:
    """Return images per second with all threads busy, timed for `TRIAL_S` seconds."""
    batch = np.resize(images, (engine.batch, *images.shape[1:]))
    counts = [0] * engine.workers
    begun = time.perf_counter()

    def work(i: int) -> None:
        while counts[i] == 0 or time.perf_counter() - begun < TRIAL_S:
            engine(batch)
            counts[i] += len(batch)

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(engine.workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - begun)
