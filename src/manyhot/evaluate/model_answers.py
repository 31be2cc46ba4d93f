"""The top class of several models on the same images, and whether it is right."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot.core.array_types import Bools, Floats, Ints
from manyhot.core.sets import Case, LabelSets
from manyhot.data.data_sets import Source
from manyhot.errors import InputError, MatchError
from manyhot.evaluate.result_rows import unmatched_note
from manyhot.evaluate.slices import labels_of, model_cases
from manyhot.run import QUIET, Run
from manyhot.tables.arrays import label_sets


@dataclass(frozen=True, eq=False)
class ModelAnswers:
    """The top classes of M models on n images, and whether they are right.

    Attributes
    ----------
    image_id : pyarrow.Array of string, shape (n,)
    sets : LabelSets
        The label sets of these images.
    rows : ndarray of int, shape (n,)
        The rows of these images in the label sets of the data set.
    top : ndarray of int32, shape (n, M)
    right : Mapping of str to ndarray of bool, shape (n, M)
        Whether the top class is right, by metric: top1 if there are original labels, and real1 if there are
        label sets.
    measures : ndarray of float, shape (n, k), optional
        Values of each image, as means over the models that have them; NaN if none has.
    n_unpredicted : int
        Number of images that are left out only because some model does not predict them.
    """

    models: tuple[str, ...]
    image_id: pa.Array
    sets: LabelSets
    rows: Ints
    top: npt.NDArray[np.int32]
    right: Mapping[str, Bools]
    measures: Floats | None = None
    n_unpredicted: int = 0

    @classmethod
    def of(
        cls,
        source: Source,
        *,
        measure: Callable[[Case], Floats] | None = None,
        trust_order: bool = False,
        run: Run = QUIET,
    ) -> ModelAnswers:
        """Read the models of a data set, and `measure` each of their cases, if it is passed.

        Only images that all models predict are used. If there are both original labels and label sets, only
        images with both are used, so that top1 and real1 can be compared. Label sets that nobody rated, and
        that contain only the original labels, do not count: real1 would be top1 again.

        Raises
        ------
        InputError
            If no image has a label or a label set.
        MatchError
            If no such image is predicted by all models.
        """
        labels = labels_of(source)
        sets = label_sets(labels)
        counted = {"top1": sets.labelled} | ({} if labels.are_original else {"real1": sets.scored})
        counted = {metric: images for metric, images in counted.items() if images.any()}
        if not counted:
            raise InputError("No image has a label or a label set.", where=source.name)
        kept, models = np.logical_and.reduce(list(counted.values())), list[str]()
        n_counted = int(kept.sum())
        top = list[npt.NDArray[np.int32]]()
        measured = list[Floats]()
        for model in model_cases(source, trust_order=trust_order, run=run):
            own = np.full(len(sets), _MISSING, np.int32)
            own[model.rows] = model.case.top[:, 0]
            kept &= own != _MISSING
            models.append(model.model)
            top.append(own)
            if measure is not None:
                values = measure(model.case)
                measured.append(np.full((len(sets), values.shape[1]), np.nan))
                measured[-1][model.rows] = values
        rows = np.flatnonzero(kept)
        if not len(rows):
            raise MatchError("No labelled image has predictions from all models.", where=source.name)
        chosen, found = sets.take(rows), np.stack(top, axis=1)[rows]
        right = {"top1": found == chosen.label[:, None], "real1": chosen.hits(np.asfortranarray(found))}
        ids = labels.image_id.take(pa.array(rows))
        measures = _mean(measured, rows) if measured else None
        right = {m: right[m] for m in counted}
        return cls(tuple(models), ids, chosen, rows, found, right, measures, n_counted - len(rows))

    def notes(self, dataset: str) -> list[str]:
        """Return a note if some models lack images, which are left out."""
        if not self.n_unpredicted:
            return []
        note = unmatched_note(dataset, "", "labels_unmatched", self.n_unpredicted, len(self.rows))
        return [f"{dataset}: {note.text}" + ": all models must have one" * (len(self.models) > 1)]


def _mean(values: Sequence[Floats], rows: Ints) -> Floats:
    """Return the means over models of the values of some images, without models that have none."""
    chosen = np.stack([own[rows] for own in values])
    n = np.isfinite(chosen).sum(axis=0)
    return np.where(n > 0, np.nansum(chosen, axis=0) / np.maximum(n, 1), np.nan)


_MISSING = np.iinfo(np.int32).min
"""Stands for the class of a model on an image that it does not predict."""
