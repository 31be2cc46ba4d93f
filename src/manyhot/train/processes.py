"""Devices and processes: Lightning Fabric, started alone or by torchrun."""

from __future__ import annotations

import atexit
import ctypes
import logging
import os
import sys
import warnings
from typing import Any

import torch

from manyhot.errors import InputError


def started(precision: str) -> Any:
    """Return Fabric on the devices of this process.

    One process uses one GPU if there is one, else the CPU; ``torchrun`` starts several processes, one per
    GPU.

    Raises
    ------
    InputError
        There are more processes than GPUs, or the device does not support the precision.
    """
    from lightning_fabric import Fabric

    # Each process would report its device and its connections on stderr.
    for name in ("lightning_fabric", "lightning_utilities", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)

    world, local = (int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    gpus = torch.cuda.device_count()
    if gpus and local > gpus:
        raise InputError(
            "There are more processes than GPUs.",
            got=f"{local} processes, {gpus} GPUs",
            do=f"torchrun --nproc-per-node {gpus}",
        )
    if precision == "16-mixed" and not gpus:
        raise InputError(
            "CPUs do not support 16-mixed.", allowed="32-true, bf16-mixed", do="set precision to bf16-mixed"
        )
    fabric = Fabric(
        accelerator="cuda" if gpus else "cpu",
        devices=local if world > 1 else 1,
        num_nodes=world // local,
        strategy="ddp" if world > 1 else "auto",
        precision=precision,  # type: ignore[arg-type]
    )
    fabric.launch()
    if world > 1:
        atexit.unregister(_end)
        atexit.register(_end)
    return fabric


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# Of glibc's malloc.h.


def keep_memory() -> None:
    """Reuse the memory of a step in the next one, with glibc: it saves a fifth of the time of small networks.

    Otherwise large blocks, and those at the end of the heap, return to the system after each step, and are
    allocated again page by page, filled with zeros.
    """
    mallopt: Any = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, 1 << 30)
        mallopt(_MMAP_THRESHOLD, 1 << 30)


def summed(fabric: Any, values: torch.Tensor) -> torch.Tensor:
    """Return the sum over all processes."""
    if fabric.world_size == 1:
        return values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        total: torch.Tensor = fabric.all_reduce(values, reduce_op="sum")
    return total


def _end() -> None:
    """Close the process group at the end: it cannot be opened twice."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
