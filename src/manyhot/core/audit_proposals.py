"""Label sets that the other models propose for a model that is judged in an audit.

If a model's own predictions contribute to the proposed label sets, the model agrees with these sets too
often. The estimate is still unbiased, but its interval is wider, because people disagree with the sets more
often.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from manyhot.core.array_types import AnyFloats, Bools, Ints, Ints32, Ints64
from manyhot.core.sets import NO_LABEL, YES, LabelSets

LEAST_P = 0.5
"""Minimum probability at which a model chooses a class, if several classes can be valid together."""


@dataclass(frozen=True)
class ModelChoices:
    """The classes that each of M models chooses on n images.

    Parameters
    ----------
    pairs : mapping of str to ndarray of int64
        For each model, the chosen (image, class) pairs as ``image * n_classes + class``, ascending.
    """

    n_images: int
    n_classes: int
    pairs: Mapping[str, Ints64]

    def __post_init__(self) -> None:
        every, counts = np.unique(np.concatenate([*self.pairs.values()]), return_counts=True)
        object.__setattr__(self, "_every", every)
        object.__setattr__(self, "_counts", counts)

    def sets(self, label: Ints32, without: str = "") -> LabelSets:
        """Return the label sets that most models propose.

        The label set of an image contains the classes that at least half of the models choose, and always the
        class that most models choose. Ties go to the first class.

        Parameters
        ----------
        label : ndarray of int32, shape (n,)
            The original labels of the result. They do not affect the label sets.
        without : str
            Name of a model whose choices are ignored; empty for none.
        """
        every, counts = self._every, self._counts  # type: ignore[attr-defined]
        if without in self.pairs:
            counts = counts.copy()
            counts[np.searchsorted(every, self.pairs[without])] -= 1
        there = counts > 0
        every, counts = every[there], counts[there]
        n_models = len(self.pairs) - (without in self.pairs)
        image, classes = np.divmod(every, self.n_classes)
        keep = (2 * counts >= n_models) | _first_of_most(image, counts)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(image[keep], minlength=self.n_images))])
        return LabelSets(
            self.n_classes,
            indptr.astype(np.int64),
            classes[keep].astype(np.int32),
            np.full(np.count_nonzero(keep), YES, np.uint8),
            label,
            np.ones(self.n_images, bool),
        )


def _first_of_most(image: Ints, counts: Ints) -> Bools:
    """Return the first entry of each image that has its highest count; images ascend."""
    order = np.lexsort((np.arange(len(image)), -counts, image))
    first = np.ones(len(image), bool)
    first[1:] = image[order][1:] != image[order][:-1]
    found = np.zeros(len(image), bool)
    found[order[first]] = True
    return found


def chosen_pairs(rows: Ints, top: Ints, n_classes: int, probabilities: AnyFloats | None = None) -> Ints64:
    """Return the (image, class) pairs that one model chooses, as in `ModelChoices`.

    Parameters
    ----------
    rows : ndarray of int, shape (m,)
        The image of each prediction.
    top : ndarray of int, shape (m,)
        The top classes, which are chosen if there are no probabilities; `NO_LABEL` if there is none.
    probabilities : ndarray of float, shape (m, C), optional
        Probabilities of classes that can be valid together. Classes with at least `LEAST_P` are chosen.
    """
    if probabilities is None:
        some = top != NO_LABEL
        return np.sort(rows[some].astype(np.int64) * n_classes + top[some])
    at, classes = np.nonzero(probabilities >= LEAST_P)
    return np.sort(rows[at].astype(np.int64) * n_classes + classes)
