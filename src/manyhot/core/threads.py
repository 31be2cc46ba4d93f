"""Work on blocks of arrays in threads: NumPy leaves Python's lock while it computes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")

THREADS = min(4, os.cpu_count() or 1)
"""Blocks that are worked on at a time."""


def each_in_threads(work: Callable[[Item], None], items: Iterable[Item]) -> None:
    """Call a function for each item, in several threads; the first error is raised."""
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(work, items):
            pass
