"""The devices and processes of a training run."""

from __future__ import annotations

import atexit
import ctypes
import logging
import os
import sys
import warnings
from typing import Any

import torch
from torch import Tensor

from manyhot.core.threads import cores
from manyhot.errors import InputError


def started(precision: str) -> Any:
    """Return Fabric on the devices of this process.

    A process uses one GPU if there is one, and otherwise the CPU. ``torchrun`` starts several processes, one
    per GPU.

    Raises
    ------
    InputError
        If there are more processes than GPUs, or if the device does not support the precision.
    """
    from lightning_fabric import Fabric

    # Each process would report its device and its connections on stderr.
    for name in ("lightning_fabric", "lightning_utilities", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)

    world, local = int(os.environ.get("WORLD_SIZE", 1)), local_processes()
    gpus = torch.cuda.device_count()
    if gpus and local > gpus:
        raise InputError(
            "There are more processes than GPUs.",
            got=f"{local} processes, {gpus} GPUs",
            do=f"torchrun --nproc-per-node {gpus}",
        )
    if precision == "16-mixed" and not gpus:
        raise InputError(
            "CPUs do not support 16-mixed.", allowed="32-true, bf16-mixed", do="set `precision` to bf16-mixed"
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
    """Make glibc reuse memory between steps, which saves a fifth of the time for small networks.

    By default, large blocks and blocks at the end of the heap are returned to the system after each step, and
    are allocated again page by page, filled with zeros.
    """
    mallopt: Any = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, 1 << 30)
        mallopt(_MMAP_THRESHOLD, 1 << 30)


def local_processes() -> int:
    """Return the number of processes of the run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def own_cores() -> int:
    """Return the number of cores for each process of the run on this machine."""
    return max(1, cores() // local_processes())


def on_device(values: Tensor, device: torch.device) -> Tensor:
    """Move values to a device and return them, without waiting for a GPU that is still computing."""
    if device.type != "cuda" or values.is_cuda:
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


def summed(fabric: Any, values: torch.Tensor) -> torch.Tensor:
    """Return the sum over all processes."""
    if fabric.world_size == 1:
        return values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        total: torch.Tensor = fabric.all_reduce(values, reduce_op="sum")
    return total


def share_buffers(fabric: Any, module: Any) -> None:
    """Copy the buffers of the first process, such as batch-norm statistics, to all other processes.

    Each process has updated its buffers with its own part of the last batch.
    """
    if fabric.world_size > 1:
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, 0)


def check_same_step(fabric: Any, step: int, out: object) -> None:
    """Raise an error if processes resume from different steps.

    Raises
    ------
    InputError
        If processes resume from different steps. The first process writes the checkpoints that all must read.
    """
    if fabric.world_size == 1:
        return
    first, *others = (int(s) for s in fabric.all_gather(torch.tensor(step, device=fabric.device)))
    if different := [s for s in others if s != first]:
        raise InputError(
            "The processes find different checkpoints.",
            where=str(out),
            got=f"step {first:,} in the first process, step {different[0]:,} in another",
            do="put `out` on a disk that all machines share",
        )


def _end() -> None:
    """Close the process group at the end: it cannot be opened twice."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
