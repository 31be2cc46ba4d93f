"""OpenVINO: the fastest engine on CPUs, close to the limit of their arithmetic."""

from __future__ import annotations

import sys
import threading
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from manyhot.errors import InputError
from manyhot.predict.engines.engine import Engine, EngineOptions, EnginePrecision
from manyhot.predict.network import Bytes, Float32Array, Network, Preprocessing, normalised

_BATCH = 2
"""Each stream computes on one core, whose cache holds a small batch: ResNet-50 has 19 images/s in batches of
two, 14 in batches of eight; EfficientNet-Lite0 218 and 187, with 85 MB less; VGG-16, with the most weights,
6.5 and 6.4."""


def import_openvino() -> Any:
    """Import OpenVINO with its usage reports switched off."""
    # Converting a model reports usage otherwise; a module that is None cannot be imported.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def openvino_engine(network: Network, options: EngineOptions) -> Engine:
    """Return the engine; see `manyhot.predict.engines.build_engine`."""
    ov = import_openvino()
    batch, features = options.batch or _BATCH, options.features
    if options.precision is EnginePrecision.f16:
        raise InputError("OpenVINO does not compute in f16 on CPUs.", where=network.name, allowed="f32, bf16")
    graph = _from_file(ov, network, batch) if network.file else _from_module(ov, network, features, batch)
    compiled = ov.Core().compile_model(graph, "CPU", cpu_config(options.precision, options.threads))
    return _OpenVino(compiled, options.precision, features, options.threads, batch)


def engine_from_export(exported: bytes, options: EngineOptions) -> Engine:
    """Return the engine that another process exported, with its own number of threads.

    EfficientNet-Lite0: 0.1 s, where converting it takes 2.
    """
    config = cpu_config(options.precision, options.threads)
    compiled = import_openvino().Core().import_model(exported, "CPU", config)
    return _OpenVino(compiled, options.precision, options.features, options.threads, options.batch or _BATCH)


def cpu_config(precision: EnginePrecision, workers: int) -> dict[str, str]:
    """Return the settings with which a network is compiled for a given number of threads."""
    return {
        # By default it computes in bf16 if the processor can, which changes logits by 0.4.
        "INFERENCE_PRECISION_HINT": precision.value,
        "NUM_STREAMS": str(workers),
        "INFERENCE_NUM_THREADS": str(workers),
        "PERFORMANCE_HINT": "THROUGHPUT",
        # Each process counts cores from the first: two processes with one thread each had 45 images/s each
        # with pinning, on the same core, and 82 without.
        "ENABLE_CPU_PINNING": "NO",
    }


def _from_module(ov: Any, network: Network, features: bool, batch: int) -> Any:
    import torch

    if network.module is None:
        raise InputError("OpenVINO has no network to convert.", where=network.name)
    shape = [batch, 3, *network.preprocessing.size]
    module = normalised(network.module, network.preprocessing, network.head if features else "")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch calls tracing deprecated
        images = torch.zeros(shape, dtype=torch.uint8)
        # Answers are compared with the module's anyway; checking the trace takes as long as tracing.
        traced = torch.jit.trace(module, images, check_trace=False)  # type: ignore[no-untyped-call]
        return ov.convert_model(traced, example_input=images, input=shape)


def _from_file(ov: Any, network: Network, batch: int) -> Any:
    """Read a file, and add the normalisation to a network that takes normalised images."""
    graph = ov.Core().read_model(Path(network.file))
    graph.reshape([batch, 3, *network.preprocessing.size])
    return with_normalisation(graph, network.preprocessing, "NCHW")


def with_normalisation(graph: Any, preprocessing: Preprocessing, layout: str) -> Any:
    """Return a graph that takes 8-bit NCHW images, given one that takes normalised images in some layout."""
    ov = import_openvino()
    how = ov.preprocess.PrePostProcessor(graph)
    how.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NCHW"))
    how.input().model().set_layout(ov.Layout(layout))
    mean, std = ([255 * v for v in values] for values in (preprocessing.mean, preprocessing.std))
    how.input().preprocess().convert_element_type(ov.Type.f32).mean(mean).scale(std)
    return how.build()


@dataclass(frozen=True, eq=False)
class _OpenVino:
    compiled: Any
    precision: EnginePrecision
    features: bool
    workers: int
    batch: int
    device: str = "cpu"
    name: str = "openvino"
    _own: threading.local = field(default_factory=threading.local)

    def export(self) -> bytes:
        """Return the export from which `engine_from_export` makes this engine in another process."""
        exported: bytes = self.compiled.export_model().getvalue()
        return exported

    def __call__(self, images: Bytes) -> tuple[Float32Array, Float32Array | None]:
        request = getattr(self._own, "request", None)
        if request is None:
            request = self._own.request = self.compiled.create_infer_request()
        n = len(images)
        if n < self.batch:  # The graph has one shape; rows do not depend on each other.
            images = np.concatenate([images, np.zeros((self.batch - n, *images.shape[1:]), np.uint8)])
        request.infer({0: images}, share_inputs=True)
        out = [np.array(request.get_output_tensor(i).data[:n], np.float32) for i in range(1 + self.features)]
        return out[0], out[1].reshape(n, -1) if self.features else None
