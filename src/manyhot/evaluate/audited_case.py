"""The predictions of a model on the images of an audit, all of them and the audited ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import typing as npt

from manyhot.core.sets import Case, LabelSets
from manyhot.evaluate.audited import AuditedImages


@dataclass(frozen=True)
class AuditedCase:
    """The images that a model predicts, and the audited images among them.

    Attributes
    ----------
    all_rows : ndarray of int
        The rows of all these images in the data set.
    audited : Case
        The audited images, with people's label sets.
    rows : ndarray of int, shape (m,)
        The rows of these images among all audited images.
    draws : list of LabelSets
        Draws of people's label sets for the audited images.
    """

    all_images: Case
    all_rows: npt.NDArray[np.int64]
    audited: Case
    rows: npt.NDArray[np.int64]
    draws: list[LabelSets]

    @classmethod
    def of(cls, case: Case, rows: npt.NDArray[np.int64], images: AuditedImages) -> AuditedCase:
        """Return the audited case of a model; `rows` are the rows of its images in the data set."""
        place = np.full(len(images.sample.design), -1)
        place[rows] = np.arange(len(rows))
        at = place[images.sample.images]
        there = np.flatnonzero(at >= 0)
        sets = [images.people, *images.draws]
        if len(there) < len(at):
            sets = [each.take(there) for each in sets]
        return cls(case, rows, case.take(at[there], sets[0]), there, sets[1:])

    @property
    def drawn(self) -> list[Case]:
        """The audited images with each draw of people's label sets or, without draws, with these sets."""
        return [self.audited.with_labels(sets) for sets in self.draws] or [self.audited]
