"""What a notebook and a training loop call: judging models from tables, arrays or lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from manyhot.evaluate import judge as step
from manyhot.evaluate.results import Evaluation
from manyhot.tables import Images
from manyhot.tables.arrays import as_tables

DEPTH = 20
"""Best classes kept of an image by `Evaluator`, unless a metric looks deeper or needs all scores."""


def evaluate(
    labels: Any,
    predictions: Any,
    *,
    label: Any = None,
    n_classes: int | None = None,
    metrics: Sequence[str] | None = None,
    slices: Sequence[str] = (),
    images: Images | None = None,
    resamples: int = 1000,
    seed: int = 0,
    map_resamples: int = 0,
    trust_order: bool = False,
    dataset: str = "",
    score_kind: str = "score",
) -> Evaluation:
    """Judge one or many models on label sets.

    Parameters
    ----------
    labels : Labels, lists of classes, multi-hot matrix of shape (n, C), or ints of shape (n,)
    predictions : Predictions, iterable of Predictions, array, or mapping of model names to arrays
        Integer arrays of shape (n, k) are classes, best first; float arrays of shape (n, C) are scores.
        Frames are matched by their index, or a column ``image_id``, and by the names of their columns;
        arrays, and frames whose rows or columns are only numbered, by position.
    label : array-like of int, shape (n,), optional
        Original labels, where `labels` is not a table.
    n_classes : int, optional
        C, where neither a table nor a matrix tells it.
    metrics, slices, images, resamples, seed, map_resamples, trust_order, dataset
        As in `manyhot.evaluate.judge.evaluate`.
    score_kind : str
        What scores given as arrays are: ``logit``, ``probability``, or ``score``, which ranks classes and
        claims nothing more. Calibration needs one of the first two; nothing guesses it from the values.

    Returns
    -------
    Evaluation
        ``.to_polars()``, ``.to_pandas()``, ``.value("real1")``.

    Raises
    ------
    InputError, MatchError, OrderError, UnknownNameError
        As in `manyhot.evaluate.judge.evaluate`; MatchError also if frames are not of the same images or
        classes.

    Examples
    --------
    >>> evaluate([[0, 1], [2]], [[1, 0], [0, 2]], n_classes=3, resamples=0).value("real1")
    0.5
    """
    labels, models = as_tables(labels, predictions, n_classes, label, score_kind)
    return step.evaluate(
        labels,
        models,
        metrics=metrics,
        slices=slices,
        images=images,
        resamples=resamples,
        seed=seed,
        map_resamples=map_resamples,
        trust_order=trust_order,
        dataset=dataset,
    )
