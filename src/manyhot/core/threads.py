"""Work on blocks of arrays in threads: NumPy leaves Python's lock while it computes."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, TypeVar

Item = TypeVar("Item")


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


THREADS = min(4, cores())
"""Blocks that are worked on at a time."""


def each_in_threads(work: Callable[[Item], None], items: Iterable[Item]) -> None:
    """Call a function for each item, in several threads. The first error is raised."""
    with one_blas_thread(), ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(work, items):
            pass


def one_blas_thread() -> AbstractContextManager[Any]:
    """Make BLAS multiply matrices in the calling thread, for code that has its own threads.

    Without this setting, BLAS starts its own threads for each thread of the code. While they wait, BLAS's
    threads spin, which doubled the time of ``manyhot evaluate imagenet`` on two busy cores.
    """
    limits: AbstractContextManager[Any] = _controller(len(sys.modules)).limit(limits=1, user_api="blas")
    return limits


@functools.lru_cache(maxsize=1)
def _controller(_modules: int) -> Any:
    """Return what controls the loaded libraries. Finding them takes 3 ms; new ones come with modules."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
