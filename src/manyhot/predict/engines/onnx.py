"""ONNX Runtime."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy import typing as npt

from manyhot.errors import InputError
from manyhot.extras import required
from manyhot.predict.engines.engine import Engine, EngineOptions, EnginePrecision
from manyhot.predict.network import Bytes, Float32Array, Network, normalised

_BATCH = 4


def onnx_engine(network: Network, options: EngineOptions) -> Engine:
    """Return the engine; see `manyhot.predict.engines.build_engine`."""
    ort = required("onnxruntime", "The engine 'onnx'", '"manyhot[onnx]"')
    if options.precision is not EnginePrecision.f32:
        raise InputError(
            "ONNX Runtime computes in f32 here.",
            where=network.name,
            got=options.precision.value,
            allowed="f32",
        )
    if network.file and Path(network.file).suffix != ".onnx":
        raise InputError(
            "ONNX Runtime runs ONNX files only.", where=network.file, allowed="`engine`=openvino"
        )
    session_options = ort.SessionOptions()
    session_options.intra_op_num_threads = 1  # each worker runs a batch of its own
    session_options.inter_op_num_threads = 1
    session_options.log_severity_level = 3
    providers = ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" in ort.get_available_providers():
        providers.insert(0, "CUDAExecutionProvider")
    # By its path: its weights may be in other files beside it.
    content = network.file or _exported(network, options.features, options.batch or _BATCH)
    session = ort.InferenceSession(content, session_options, providers=providers)
    port = session.get_inputs()[0]
    fixed = port.shape[0] if isinstance(port.shape[0], int) else None
    kind = _KINDS[port.type]
    batch = fixed or options.batch or _BATCH
    return _Onnx(session, network, options.features, options.threads, batch, kind, fixed is not None)


_KINDS: dict[str, Any] = {
    "tensor(uint8)": np.uint8,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
}
"""The input of a network: bytes if manyhot exported it, normalised floats if it came as a file."""


def _exported(network: Network, features: bool, batch: int) -> bytes:
    """Return a network as ONNX.

    The tracing exporter is used: it needs only the package onnx, and takes a tenth of the time of the other.
    """
    import torch

    required("onnx", "The engine 'onnx'", '"manyhot[onnx]"')
    if network.module is None:
        raise InputError("ONNX Runtime has no network to convert.", where=network.name)
    module = normalised(network.module, network.preprocessing, network.head if features else "")
    images = torch.zeros([batch, 3, *network.preprocessing.size], dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        path = Path(folder) / "network.onnx"
        torch.onnx.export(
            module, (images,), path, dynamo=False, input_names=["images"], dynamic_axes={"images": {0: "n"}}
        )
        return path.read_bytes()


@dataclass(frozen=True, eq=False)
class _Onnx:
    session: Any
    network: Network
    features: bool
    workers: int
    batch: int
    kind: Any
    one_shape: bool
    name: str = "onnx"
    precision: EnginePrecision = EnginePrecision.f32

    @property
    def device(self) -> str:
        """``cuda`` or ``cpu``."""
        return "cuda" if "CUDAExecutionProvider" in self.session.get_providers() else "cpu"

    def __call__(self, images: Bytes) -> tuple[Float32Array, Float32Array | None]:
        n = len(images)
        if self.one_shape and n < self.batch:
            images = np.concatenate([images, np.zeros((self.batch - n, *images.shape[1:]), np.uint8)])
        given: npt.NDArray[Any] = images if self.kind is np.uint8 else self._normalised(images)
        try:
            out = self.session.run(None, {self.session.get_inputs()[0].name: given})
        except Exception as error:
            # Fail, InvalidArgument, …: the runtime has no common base for them.
            raise InputError(
                "ONNX Runtime cannot run the network.",
                where=self.network.name,
                got=str(error).partition("\n")[0],
            ) from error
        logits = np.asarray(out[0], np.float32)[:n]
        return logits, np.asarray(out[1], np.float32).reshape(len(images), -1)[:n] if self.features else None

    def _normalised(self, images: Bytes) -> npt.NDArray[Any]:
        mean, std = (
            np.array(v, np.float32).reshape(3, 1, 1)
            for v in (self.network.preprocessing.mean, self.network.preprocessing.std)
        )
        return np.asarray((images.astype(np.float32) / 255 - mean) / std, self.kind)
