"""The tree of classes: sizes of groups, and how far apart classes are."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from manyhot.core.array_types import Ints, Ints32, Ints64

FAR = 255
"""Distance of classes without a common ancestor."""

NO_ANCESTOR = -1
"""The height of the lowest common ancestor of classes of which one has no place in the tree."""


def ambiguous_parents(paths: Sequence[Sequence[str]]) -> list[str]:
    """Return the steps that are followed by different steps in different paths, in order of occurrence.

    In a tree, each step has a single parent. If paths start at the root, most steps have several followers.
    """
    parents: dict[str, str] = {}
    several = dict[str, None]()
    for path in paths:
        for step, parent in itertools.pairwise(path):
            if parents.setdefault(step, parent) != parent:
                several[step] = None
    return list(several)


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """A tree of classes.

    Attributes
    ----------
    down : ndarray of int32, shape (C, L)
        The path from the root to each class. Short paths are padded with numbers that occur in no other path.
    beneath : ndarray of int64, shape (number of nodes,)
        Number of classes below each node, including the node itself if it is a class.
    n_counted : int
        The number of classes that `beneath` counts: C, or the number of classes of a larger list.
    source : str
        A description of the source of the tree; empty if the tree is part of the class list.
    """

    down: Ints32
    beneath: Ints64
    n_counted: int
    source: str = ""

    @classmethod
    def of(
        cls, paths: Sequence[Sequence[str]], counted: Sequence[Sequence[str]] = (), source: str = ""
    ) -> Hierarchy:
        """Return the tree from the path of each class to the root, starting with the class.

        The size of a group is the number of paths in `counted` (by default, in `paths`) that pass through it.
        With `counted`, a short class list gets the group sizes of a larger list, such as that of WordNet.
        """
        tree = cls._of(paths)
        if not counted:
            return replace(tree, source=source)
        larger = cls._of([*paths, *counted])
        down, others = larger.down[: len(paths)], larger.down[len(paths) :]
        beneath = np.bincount(others[others >= 0], minlength=len(larger.beneath))
        return cls(down, beneath, len(counted), source)

    @classmethod
    def _of(cls, paths: Sequence[Sequence[str]]) -> Hierarchy:
        number = {step: i for i, step in enumerate(dict.fromkeys(s for path in paths for s in path))}
        length = max([len(path) for path in paths], default=1)
        down = np.repeat(-1 - np.arange(len(paths), dtype=np.int32)[:, None], length, axis=1)
        for row, path in zip(down, paths, strict=True):
            row[: len(path)] = [number[step] for step in reversed(path)]
        return cls(down, np.bincount(down[down >= 0], minlength=len(number)), len(paths))

    def group_size(self, a: Ints, b: Ints) -> Ints64:
        """Return the number of classes below the lowest common ancestor of two classes, shape (p,).

        The result is 1 if both are the same class, and more than `n_counted` if there is no common ancestor.
        """
        n = len(self.down)
        pair, back = np.unique(a.astype(np.int64) * n + b, return_inverse=True)
        a, b = pair // n, pair % n
        shared = np.cumprod(self.down[a] == self.down[b], axis=1).sum(1)
        lowest = self.down[a, np.maximum(shared - 1, 0)]
        size = np.where(shared > 0, self.beneath[np.maximum(lowest, 0)], self.n_counted + 1)
        return np.asarray(np.where(a == b, 1, size)[back], np.int64)

    def height(self, a: Ints, b: Ints) -> Ints64:
        """Return the height of the lowest common ancestor of two classes, shape (p,).

        The height of a node is the number of steps to the farthest class below it. The result is 0 for the
        same class. Classes without a common ancestor get one: a root above all roots. The result is
        `NO_ANCESTOR` if one of the classes has neither ancestors nor descendants, so that its place in the
        tree is unknown.

        References
        ----------
        L. Bertinetto et al. Making Better Mistakes: Leveraging Class Hierarchies with Deep Networks. CVPR
        2020, arXiv 1912.09393. Their tree has one root.
        """
        depth, shared = self._shared(a, b)
        lowest = self.down[a, np.maximum(shared - 1, 0)]
        is_placed = (depth > 1) | (self.beneath[self.down[:, 0]] > 1)
        rootless = np.where(is_placed[a] & is_placed[b], depth.max(initial=0), NO_ANCESTOR)
        heights = self._heights(depth)
        height = np.where(shared > 0, heights[np.maximum(lowest, 0)], rootless)
        return np.asarray(np.where(a == b, 0, height), np.int64)

    def _heights(self, depth: Ints64) -> Ints64:
        """Return the number of steps from each node to the farthest class below it."""
        heights = np.zeros(len(self.beneath), np.int64)
        classes, steps = np.nonzero(self.down >= 0)
        np.maximum.at(heights, self.down[classes, steps], depth[classes] - 1 - steps)
        return heights

    def distance(self, a: Ints, b: Ints) -> Ints64:
        """Return the number of steps from class a to class b via their lowest common ancestor, shape (p,).

        Two classes with the same hypernym are two steps apart. The result is `FAR` if there is no common
        ancestor.
        """
        depth, shared = self._shared(a, b)
        steps = np.where(shared > 0, depth[a] + depth[b] - 2 * shared, FAR)
        return np.asarray(np.where(a == b, 0, steps), np.int64)

    def _shared(self, a: Ints, b: Ints) -> tuple[Ints64, Ints64]:
        """Return the steps of each class from the root, and how many steps two different classes share."""
        shared = np.cumprod(self.down[a] == self.down[b], axis=1).sum(axis=1) * (a != b)
        return (self.down >= 0).sum(axis=1), shared
