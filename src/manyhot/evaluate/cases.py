"""The models of a data set, each beside the label sets of the images that it predicts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy import typing as npt

from manyhot.core.sets import Case, LabelSets
from manyhot.data.inputs import Source
from manyhot.evaluate.slices import case_of, check_order
from manyhot.run import QUIET, Run
from manyhot.tables import Labels, Predictions, align, check_same_classes
from manyhot.tables.sets import label_sets
from manyhot.tables.skipped_files import fitting_models


@dataclass(frozen=True, eq=False)
class ModelCase:
    """What one model predicts, beside the label sets of the same images.

    Attributes
    ----------
    model : str
    case : Case
        Predictions and label sets, row by row.
    rows : ndarray of int, shape (n,)
        The row of each of these images among the label sets of the data set.
    """

    model: str
    case: Case
    rows: npt.NDArray[np.intp]


def model_cases(
    source: Source, *, depth: int = 1, trust_order: bool = False, run: Run = QUIET
) -> Iterator[ModelCase]:
    """Yield the models of a data set, one in memory at a time.

    Parameters
    ----------
    source : Source
        As `manyhot.data.inputs.open_inputs` yields it.
    depth : int
        How many classes of each image are ranked where a model has scores of all classes.
    trust_order : bool
        Whether rows and classes are taken in the order they have.
    run : Run

    Raises
    ------
    MatchError, OrderError
        As in `manyhot.evaluate`. Among several files, one that cannot be judged is skipped, and
        ``source.misfits`` says why.
    """
    labels = labels_of(source)
    sets = label_sets(labels)

    def beside(predictions: Predictions) -> ModelCase:
        return _beside(labels, sets, predictions, depth, trust_order)

    models = fitting_models(source.models(), beside, source.misfits)
    for done, (_, found) in enumerate(models, 1):
        if run.on_progress:
            run.on_progress(f"judging on {source.name}", done, source.n)
        yield found


def labels_of(source: Source) -> Labels:
    """Return the label sets of a data set, with its original labels."""
    return source.sets() if source.images is None else source.sets().with_labels(source.images)


def _beside(
    labels: Labels, sets: LabelSets, predictions: Predictions, depth: int, trust_order: bool
) -> ModelCase:
    check_same_classes(labels, predictions)
    alignment = align(
        labels.image_id,
        predictions.image_id,
        left_name=labels.name or "the labels",
        right_name=predictions.model,
    )
    aligned = sets if not alignment.left_only else sets.take(alignment.left)
    case = case_of(aligned, predictions, alignment, depth)
    if not trust_order:
        check_order(case, predictions, alignment)
    return ModelCase(predictions.model, case, np.asarray(alignment.left))
