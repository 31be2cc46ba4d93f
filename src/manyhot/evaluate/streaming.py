"""Judge a model batch by batch, as it predicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot.core.sets import top_k
from manyhot.errors import InputError
from manyhot.evaluate.evaluate import evaluate
from manyhot.evaluate.requirements import depth_of
from manyhot.evaluate.results import Evaluation
from manyhot.registry import get
from manyhot.tables import FramePart, Labels, Predictions, align_columns, align_rows, read_frame_part
from manyhot.tables.array_inputs import labels_as_table, positions, prediction_of, read_label, read_model
from manyhot.tables.result_tables import default_metrics

DEPTH = 20
"""Best classes kept of an image by `Evaluator`, unless a metric looks deeper or needs all scores."""


class Evaluator:
    """Evaluate a model batch by batch, for example in a training loop.

    Parameters
    ----------
    n_classes : int
    metrics : sequence of str, optional
        Names or call strings of metrics; by default all rank metrics. Scores over all classes are kept only
        if a metric needs them. Otherwise only the top `DEPTH` classes per image are kept.
    resamples : int
        Number of bootstrap resamples in `compute`; 0 for no intervals.
    model : str
        Its name in the results.
    score_kind : str
        The kind of scores, as in `evaluate`.

    Examples
    --------
    >>> import numpy as np
    >>> evaluator = Evaluator(n_classes=3, metrics=["top1", "real1"])
    >>> evaluator.update(np.array([[0.1, 0.7, 0.2], [0.5, 0.1, 0.4]]), [[1, 2], [2]])
    >>> evaluator.compute().value("real1")
    0.5
    """

    def __init__(
        self,
        *,
        n_classes: int,
        metrics: Sequence[str] | None = None,
        resamples: int = 0,
        model: str = "model",
        score_kind: str = "score",
    ) -> None:
        self.n_classes = n_classes
        self.metrics = list(default_metrics(dense=False) if metrics is None else metrics)
        self.resamples = resamples
        self.model = model
        self.score_kind = score_kind
        entries = [get("metric", m) for m in self.metrics]
        self._dense = any(e.about.get("needs") for e in entries)
        self._depth = max(DEPTH, depth_of(entries))
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self._names: tuple[str, ...] | None = None
        self._labels: list[Labels] = []
        self._predicted: list[npt.NDArray[Any]] = []

    def update(self, predictions: Any, labels: Any, label: Any = None) -> None:
        """Add a batch.

        Parameters
        ----------
        predictions : array or tensor, shape (b, C) of float or (b, k) of int
            Scores over all classes, or classes with the best first. Frames are matched as in `evaluate`, and
            the names of columns also apply to later batches.
        labels, label
            As in `as_labels`.

        Raises
        ------
        InputError
            If the batch is malformed. In this case it is not added.
        """
        is_table = isinstance(labels, Labels)
        own = FramePart(None, "labels", labels.image_id) if is_table else read_frame_part(labels, "labels")
        parts = align_rows([own, read_label(label), read_model(self.model, predictions)])
        parts, names = align_columns(parts, self._names, of="earlier batches")
        batch = labels if is_table else labels_as_table(parts[0], parts[1], self.n_classes)
        predicted = prediction_of(parts[2], self.n_classes, self.score_kind, ids=batch.image_id)
        self._labels.append(batch)
        self._predicted.append(self._to_keep(predicted))
        self._names = names

    def compute(self) -> Evaluation:
        """Return the results over all batches so far.

        Raises
        ------
        InputError
            If there are none.
        """
        if not self._labels:
            raise InputError(
                "There are no batches to compute results from.", do="call update() with a batch first"
            )
        n = sum(map(len, self._labels))
        ids = positions(0, n)
        with_label = [
            t.table if "label" in t.table.column_names else _unlabelled(t.table) for t in self._labels
        ]
        table = pa.concat_tables(with_label).combine_chunks()
        table = table.set_column(table.column_names.index("image_id"), "image_id", ids)
        labels = Labels(table, self.n_classes, name="labels")
        width = min(p.shape[1] for p in self._predicted)
        joined = np.concatenate([p[:, :width] for p in self._predicted])
        predictions = prediction_of(FramePart(joined, self.model), self.n_classes, self.score_kind, ids=ids)
        return evaluate(labels, [predictions], metrics=self.metrics, resamples=self.resamples)

    def _to_keep(self, predicted: Predictions) -> npt.NDArray[Any]:
        if predicted.classes is not None:
            return predicted.classes
        assert predicted.scores is not None
        return predicted.scores if self._dense else top_k(predicted.scores, self._depth)


def _unlabelled(table: pa.Table) -> pa.Table:
    position = table.column_names.index("classes")
    empty = pa.nulls(table.num_rows, pa.int32())
    return table.add_column(position, "label", empty).select(
        ["image_id", "label", "usable", "classes", "state"]
    )
