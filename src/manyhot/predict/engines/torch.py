"""PyTorch: the reference for other engines, and the engine for GPUs.

Compiled networks are faster on GPUs, after a minute of compiling.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from manyhot.errors import InputError
from manyhot.predict.engines.engine import Engine, EngineOptions, EnginePrecision
from manyhot.predict.network import Bytes, Float32Array, Network, normalised

CPU_BATCH, GPU_BATCH = 4, 128
"""Small batches stay in the cache of a CPU: on one core, EfficientNet-Lite0 has 46 images/s in batches of 4,
and 30 in batches of 32."""


def device() -> str:
    """Return the device that PyTorch computes on."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


class _FullPrecision:
    """A context in which convolutions are computed without TF32, whose 10 bits are not f32.

    TF32 is on by default. The setting is one for the process, so the last of several threads restores it.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._before = threading.Lock(), 0, True

    def __enter__(self) -> None:
        import torch

        with self._lock:
            if not self._inside:
                self._before = torch.backends.cudnn.allow_tf32
                torch.backends.cudnn.allow_tf32 = False
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        import torch

        with self._lock:
            self._inside -= 1
            if not self._inside:
                torch.backends.cudnn.allow_tf32 = self._before


full_precision = _FullPrecision()


@contextmanager
def threads_given_back() -> Iterator[None]:
    """Restore PyTorch's number of threads afterwards.

    Parallel workers set PyTorch's number of threads to one. This setting also applies to threads that start
    later and, in MKL, to all threads. If it were not restored, training in the same process would use only
    one core.
    """
    torch = sys.modules.get("torch")
    own = torch.get_num_threads() if torch else 0
    try:
        yield
    finally:
        if torch:
            torch.set_num_threads(own)


def torch_engine(network: Network, options: EngineOptions) -> Torch:
    """Return the engine; see `manyhot.predict.engines.build_engine`."""
    import torch

    if network.module is None:
        raise InputError(
            "PyTorch cannot run networks from ONNX or OpenVINO files.",
            where=network.name,
            allowed="`engine`=openvino for either kind of file, or `engine`=onnx for ONNX files",
        )
    on = device()
    head = network.head if options.features else ""
    module = normalised(network.module, network.preprocessing, head).to(on)
    made = module.to(memory_format=torch.channels_last), options.precision, options.features
    if on == "cpu":
        return Torch(*made, options.threads, options.batch or CPU_BATCH)
    # One call at a time: a second would only wait. Other threads decode.
    return Torch(*made, 2 * options.threads, options.batch or GPU_BATCH, on, threading.Lock())


def compile_engine(network: Network, options: EngineOptions) -> Engine:
    """Return the engine; see `manyhot.predict.engines.build_engine`."""
    import torch

    eager = torch_engine(network, options)
    # Each shape would be compiled again.
    engine = replace(eager, module=torch.compile(eager.module), name="compile", one_shape=True)
    # Once, and not in the first batch of each thread.
    engine(np.zeros((1, 3, *network.preprocessing.size), np.uint8))
    return engine


@dataclass(frozen=True, eq=False)
class Torch:
    """A module on a device."""

    module: Any
    precision: EnginePrecision
    features: bool
    workers: int
    batch: int
    device: str = "cpu"
    lock: Any = field(default_factory=nullcontext)
    name: str = "torch"
    one_shape: bool = False
    """Whether a smaller batch is padded."""
    fits: list[int] = field(init=False)
    """The largest batch that fits into the memory, as far as is known."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "fits", [self.batch])

    def __call__(self, images: Bytes) -> tuple[Float32Array, Float32Array | None]:
        """Return logits and features; see `manyhot.predict.engines.Engine`."""
        import torch

        if self.device == "cpu" and self.workers > 1 and torch.get_num_threads() != 1:
            torch.set_num_threads(1)  # for this thread; the others compute other batches
        most, full = self.fits[0], ""
        try:
            parts = [self._computed(images[at : at + most]) for at in range(0, len(images), most)]
        except torch.OutOfMemoryError as error:  # it keeps what was computed until the block ends
            full = str(error).partition("\n")[0]
        if full:
            self._halve(most if self.one_shape else min(most, len(images)), full)
            return self(images)
        if len(parts) == 1:
            return parts[0]
        logits, features = zip(*parts, strict=True)
        return np.concatenate(logits), np.concatenate(features) if self.features else None

    def _halve(self, n: int, reason: str) -> None:
        """Compute at most half as many as `n` images at once from now on."""
        import torch

        if n == 1:
            raise InputError(
                "The GPU has too little memory for one image.",
                got=reason,
                do="free its memory, or predict on the CPU: CUDA_VISIBLE_DEVICES= manyhot predict …",
            )
        self.fits[0] = min(self.fits[0], (n + 1) // 2)  # another thread may have been here
        torch.cuda.empty_cache()

    def _computed(self, images: Bytes) -> tuple[Float32Array, Float32Array | None]:
        """Return logits and features of images that fit into the memory at once."""
        import torch

        n, most = len(images), self.fits[0]
        if self.one_shape and n < most:
            images = np.concatenate([images, np.zeros((most - n, *images.shape[1:]), np.uint8)])
        batch = torch.from_numpy(images)
        if self.device == "cuda":
            batch = batch.pin_memory()  # in this thread, while another one uses the GPU
        with self.lock, torch.inference_mode(), self._precisely():
            batch = batch.to(self.device, non_blocking=True)
            out = self.module(batch.contiguous(memory_format=torch.channels_last))
        if self.features:
            return _array(out[0])[:n], _array(out[1])[:n]
        return _array(out)[:n], None

    def _precisely(self) -> Any:
        import torch

        if self.precision is EnginePrecision.f32:
            return nullcontext() if self.device == "cpu" else full_precision
        kind = torch.bfloat16 if self.precision is EnginePrecision.bf16 else torch.float16
        return torch.autocast(self.device, kind)


def _array(tensor: Any) -> Float32Array:
    array: Float32Array = tensor.float().cpu().numpy()
    return np.ascontiguousarray(array.reshape(len(array), -1))
