"""Tests of a GPU: `make test-gpu` on a machine that has one.

MANYHOT_REHEARSE=1 runs them on the CPU where there is none, to try the tests themselves.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from skipping import missing


def the_gpu() -> torch.device:
    """Return the GPU; skip the test without one."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if not os.environ.get("MANYHOT_REHEARSE"):
        missing("a GPU (torch.cuda.is_available() is false)")
    return torch.device("cpu")


@contextmanager
def on_the_cpu() -> Iterator[None]:
    """Let manyhot see no GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setattr(torch.cuda, "device_count", lambda: 0)
        yield


@contextmanager
def no_waiting(device: torch.device) -> Iterator[None]:
    """Raise an error where the CPU waits for the GPU."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
