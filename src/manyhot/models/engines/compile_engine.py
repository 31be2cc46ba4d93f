"""PyTorch, compiled by itself: faster on GPUs, after a minute of compiling."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from manyhot.models.engines import torch_engine
from manyhot.models.engines.base import Engine, Precision
from manyhot.models.network import Network


def make(network: Network, precision: Precision, features: bool, workers: int, batch: int | None) -> Engine:
    """Return the engine; see `manyhot.models.engines.build`."""
    import torch

    eager = torch_engine.make(network, precision, features, workers, batch)
    # Each shape would be compiled anew.
    engine = replace(eager, module=torch.compile(eager.module), name="compile", one_shape=True)
    # Now and once, not in the first batch of each worker.
    engine(np.zeros((1, 3, *network.preprocessing.size), np.uint8))
    return engine
