"""What is expected of raters before they answer: earlier answers, and the truth as far as it is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from manyhot.core.array_types import Floats, Ints


@dataclass(frozen=True)
class History:
    """Earlier answers of raters, by the expected truth.

    Classes are both truths and possible choices. For questions with the answers no, maybe and yes, the codes
    of answers take the place of classes, and the truth is no or yes.

    Attributes
    ----------
    rater, truth, chosen : ndarray of int, shape (h,)
    n : ndarray of float64, shape (h,)
        Expected number of times that the rater chose the class `chosen` when the right class was `truth`.
    """

    rater: Ints
    truth: Ints
    chosen: Ints
    n: Floats

    @classmethod
    def of_matrices(cls, counts: Floats) -> History:
        """Return the history with these numbers, shape (R, K, K), without zeros."""
        rater, truth, chosen = np.nonzero(counts)
        return cls(rater, truth, chosen, counts[rater, truth, chosen])

    def matrices(self, n_raters: int, n_classes: int) -> Floats:
        """Return the numbers as matrices, shape (R, K, K)."""
        cells = (self.rater.astype(np.int64) * n_classes + self.truth) * n_classes + self.chosen
        counts = np.bincount(cells, self.n, n_raters * n_classes**2).astype(np.float64)
        return counts.reshape(n_raters, n_classes, n_classes)

    def right_wrong(self, n_raters: int) -> Floats:
        """Return how often each rater was right and wrong, shape (R, 2)."""
        cells = self.rater.astype(np.int64) * 2 + (self.truth != self.chosen)
        counts = np.bincount(cells, self.n, n_raters * 2).astype(np.float64)
        return counts.reshape(n_raters, 2)
