"""Judge a model batch by batch, as it predicts, in one process or in several."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from numpy import typing as npt

from manyhot.core.sets import top_k
from manyhot.data.inputs import Reading
from manyhot.errors import InputError
from manyhot.evaluate.evaluate import evaluate
from manyhot.evaluate.requirements import depth_of
from manyhot.evaluate.results import Evaluation, Note
from manyhot.evaluate.streamed_images import StreamedImages, read_ids
from manyhot.extras import required
from manyhot.registry import get
from manyhot.tables import (
    FramePart,
    Labels,
    Predictions,
    ScoreKind,
    align_columns,
    align_rows,
    read_frame_part,
)
from manyhot.tables.array_inputs import labels_as_table, positions, prediction_of, read_label, read_model
from manyhot.tables.result_tables import default_metrics

DEPTH = 20
"""Best classes kept of an image by `Evaluator`, unless a metric looks deeper or needs all scores."""

STATE_VERSION = 1
"""Version of what `Evaluator.state_dict` returns."""


class Evaluator:
    """Evaluate a model batch by batch, for example in a training loop.

    In several processes, each process evaluates its part of the images, and `merge` joins the parts.

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
    scores : {"logit", "probability", "cosine", "none"}, optional
        The kind of scores, as in `Reading`.
    score_kind : str
        The former name of `scores`.

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
        scores: ScoreKind | None = None,
        score_kind: str = "",
    ) -> None:
        self.n_classes = n_classes
        self.metrics = list(default_metrics(dense=False) if metrics is None else metrics)
        self.resamples = resamples
        self.model = model
        reading = Reading(scores=scores, score_kind=score_kind)
        self.scores = reading.kind_of_arrays
        entries = [get("metric", m) for m in self.metrics]
        self._dense = any(e.about.get("needs") for e in entries)
        self._depth = max(DEPTH, depth_of(entries))
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self._images = StreamedImages()

    def update(self, predictions: Any, labels: Any, label: Any = None, *, ids: Any = None) -> None:
        """Add a batch.

        Parameters
        ----------
        predictions : array or tensor, shape (b, C) of float or (b, k) of int
            Scores over all classes, or classes with the best first. Frames are matched as in `evaluate`, and
            the names of columns also apply to later batches.
        labels, label
            As in `as_labels`.
        ids : sequence of str or int, shape (b,), optional
            Ids of the images, for all batches or for none. An image that is added more than once, for example
            because a distributed sampler pads the data set, counts once. Without ids, every row is an image
            of its own. The index of a frame only matches the rows of a batch.

        Raises
        ------
        InputError
            If the batch is malformed. In this case it is not added.
        """
        is_table = isinstance(labels, Labels)
        own = FramePart(None, "labels", labels.image_id) if is_table else read_frame_part(labels, "labels")
        parts = [own, read_label(label), read_model(self.model, predictions)]
        image_id = None if ids is None else read_ids(ids)
        order = [] if image_id is None else [FramePart(None, "ids", image_id)]
        parts = align_rows([*order, *parts])[len(order) :]
        parts, names = align_columns(parts, self._images.names, of="earlier batches")
        # Ids may repeat within a batch, while those of a table may not.
        batch = labels if is_table else labels_as_table(replace(parts[0], ids=None), parts[1], self.n_classes)
        predicted = prediction_of(parts[2], self.n_classes, self.scores, ids=batch.image_id)
        self._images.add(StreamedImages.of(batch, self._to_keep(predicted), image_id, names), "this batch")

    def compute(self) -> Evaluation:
        """Return the results over all batches so far.

        With ids, the images are in the order of their ids, so that the results do not depend on how images
        were divided into batches and processes.

        Raises
        ------
        InputError
            If there are no batches.
        MatchError
            If an image was added with different labels.
        """
        if not self._images.tables:
            raise InputError(
                "There are no batches to compute results from.", do="call update() with a batch first"
            )
        images, n_repeated, n_differing = self._images.distinct()
        labels, predictions = self._tables(images)
        found = evaluate(labels, [predictions], metrics=self.metrics, resamples=self.resamples)
        return found.with_notes(list(self._notes(n_repeated, n_differing)))

    def merge(self, *others: Evaluator) -> None:
        """Add the batches of other evaluators, for example those of other processes.

        The order of merging does not change results. Without ids, merged images are ordered by their labels
        and predictions, so that sums are the same to the last digit.

        Parameters
        ----------
        *others : Evaluator
            Evaluators with the same `n_classes`, `metrics` and `scores`. They are not changed.

        Raises
        ------
        InputError
            If the settings differ, or only one of two evaluators has ids. In this case nothing is added.
        MatchError
            If the columns of their frames differ.

        Examples
        --------
        In each of several processes of ``torch.distributed``:

        >>> evaluators = [None] * dist.get_world_size()  # doctest: +SKIP
        >>> dist.all_gather_object(evaluators, evaluator)  # doctest: +SKIP
        >>> sum(evaluators[1:], evaluators[0]).compute()  # doctest: +SKIP
        """
        merged = StreamedImages(merged=True)
        for number, other in enumerate((self, *others)):
            self._check_settings(other._settings(), "Evaluators with different settings cannot be merged.")
            merged.add(other._images, f"evaluator {number}")
        self._images = merged

    def __add__(self, other: Evaluator) -> Evaluator:
        """Return a new evaluator with the batches of both."""
        if not isinstance(other, Evaluator):
            return NotImplemented
        both = copy.copy(self)
        both.merge(other)  # replaces the images of the copy, and only of the copy
        return both

    def state_dict(self) -> dict[str, Any]:
        """Return the settings and the images as numbers, texts and bytes.

        The state can be pickled, sent to other processes, and saved with ``torch.save``, also for
        ``torch.load(weights_only=True)``.

        Returns
        -------
        dict
            ``version``, ``n_classes``, ``metrics``, ``scores``, and ``images``: an Arrow stream with one
            row per image, or None without images.
        """
        return {"version": STATE_VERSION, **self._settings(), "images": self._images.to_bytes()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace the images by those of a state.

        Parameters
        ----------
        state : mapping
            What `state_dict` returned, from an evaluator with the same settings.

        Raises
        ------
        InputError
            If the settings differ, or the state is damaged. In this case the evaluator is unchanged.
        """
        own = ("version", *self._settings(), "images")
        if not isinstance(state, Mapping) or set(state) != set(own):
            raise InputError(
                "This is not the state of an evaluator.",
                got=", ".join(map(str, state)) if isinstance(state, Mapping) else type(state).__name__,
                allowed=", ".join(own),
                do="pass what Evaluator.state_dict() returned",
            )
        if state["version"] != STATE_VERSION:
            raise InputError(
                "The state was written by another version of manyhot.",
                got=f"version {state['version']}",
                allowed=f"version {STATE_VERSION}",
            )
        self._check_settings(state, "The state is that of an evaluator with different settings.")
        images = StreamedImages.from_bytes(state["images"])
        if images.tables:
            self._tables(images.numbered())  # checks the ranges of classes
        self._images = images

    def as_torch_metric(self, **options: Any) -> Any:
        """Return a metric of torchmetrics with the settings of this evaluator, for Lightning.

        It can be logged with ``self.log_dict(metric.compute())``, be part of a ``MetricCollection``, and be
        moved and saved with a module. Its `update` is that of the evaluator. Its `compute` returns a dict of
        scalars over the images of all processes, and its attribute `evaluation` is the `Evaluation` of the
        last `compute`, with the number of images behind each value.

        Parameters
        ----------
        **options
            Options of ``torchmetrics.Metric``, such as ``dist_sync_on_step``.

        Returns
        -------
        torchmetrics.Metric

        Raises
        ------
        MissingExtraError
            If torchmetrics is not installed.

        Examples
        --------
        >>> metric = Evaluator(n_classes=3, metrics=["real1"]).as_torch_metric()  # doctest: +SKIP
        >>> metric.update(logits, multi_hot)  # doctest: +SKIP
        >>> self.log_dict(metric.compute())  # doctest: +SKIP
        """
        required("torchmetrics", "A metric of torchmetrics", "torchmetrics")
        from manyhot.evaluate.torch_metric import TorchMetric

        return TorchMetric(self, **options)

    def _settings(self) -> dict[str, Any]:
        return {"n_classes": self.n_classes, "metrics": list(self.metrics), "scores": self.scores}

    def _check_settings(self, theirs: Mapping[str, Any], message: str) -> None:
        for name, value in self._settings().items():
            if theirs[name] != value:
                raise InputError(
                    message,
                    where=name,
                    got=_text(theirs[name]),
                    allowed=_text(value),
                    do="create all evaluators with the same n_classes, metrics and scores",
                )

    def _tables(self, images: StreamedImages) -> tuple[Labels, Predictions]:
        (table,), (predicted,) = images.tables, images.predicted
        if not images.has_ids:
            table = table.add_column(0, "image_id", positions(0, len(table)))
        labels = Labels(table, self.n_classes, asked_known=images.asked_known, name="labels")
        part = FramePart(predicted, self.model)
        return labels, prediction_of(part, self.n_classes, self.scores, ids=labels.image_id)

    def _notes(self, n_repeated: int, n_differing: int) -> Iterator[Note]:
        if n_repeated:
            total = sum(map(len, self._images.tables))
            text = f"{n_repeated:,} of {total:,} rows repeat an id, as in padded data, and were left out"
            if n_differing:
                text += f"; {n_differing:,} of the ids have different predictions, of which one was used"
            yield Note("labels", self.model, "repeated", n_repeated, text)

    def _to_keep(self, predicted: Predictions) -> npt.NDArray[Any]:
        if predicted.classes is not None:
            return predicted.classes
        assert predicted.scores is not None
        return predicted.scores if self._dense else top_k(predicted.scores, self._depth)


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
