"""An evaluator as a metric of torchmetrics, for Lightning and other training loops."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Protocol, Self

import numpy as np
import pyarrow.compute as pc
import torch
from torchmetrics import Metric

from manyhot import registry
from manyhot.evaluate.results import Evaluation


class BatchEvaluator(Protocol):
    """What a `TorchMetric` needs of an `Evaluator`."""

    def reset(self) -> None:
        """Forget all batches."""

    def update(self, predictions: Any, labels: Any, label: Any = None, *, ids: Any = None) -> None:
        """Add a batch."""

    def merge(self, *others: Self) -> None:
        """Add the batches of other evaluators."""

    def compute(self) -> Evaluation:
        """Return the results over all batches so far."""

    def state_dict(self) -> dict[str, Any]:
        """Return the settings and the images."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace the images by those of a state."""


class TorchMetric(Metric):
    """Metrics of manyhot with the interface of torchmetrics, made by `Evaluator.as_torch_metric`.

    Parameters
    ----------
    evaluator : Evaluator
        The evaluator whose settings are used. Its images are not used.
    metric : str, optional
        The name of the metric whose value `compute` returns; by default, `compute` returns the values of all
        metrics.
    **options
        Options of ``torchmetrics.Metric``, such as ``dist_sync_on_step``.

    Attributes
    ----------
    evaluation : Evaluation, optional
        The results of the last call of `compute`, with the number of images of each value, intervals and
        notes; None before the first call.
    """

    is_differentiable = False
    full_state_update = False
    higher_is_better = None  # of several metrics; `MetricTracker` reads that of one

    batches: list[torch.Tensor] | torch.Tensor

    def __init__(self, evaluator: BatchEvaluator, metric: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._metric = metric
        better = None if metric is None else registry.get("metric", metric).about.get("better")
        # torchmetrics refuses to set it on an instance.
        self.__dict__["higher_is_better"] = None if better is None else better == "higher"
        self._settings = copy.copy(evaluator)
        self._settings.reset()
        self.evaluation: Evaluation | None = None
        # A batch is an Arrow stream; processes that gather append their streams to one another.
        self.add_state("batches", [], dist_reduce_fx="cat")

    def update(self, predictions: Any, labels: Any, label: Any = None, *, ids: Any = None) -> None:
        """Add a batch.

        Parameters
        ----------
        predictions, labels, label, ids
            As in `Evaluator.update`.

        Raises
        ------
        InputError
            If the batch is malformed. It is then not added.
        """
        evaluator = self._fresh()
        evaluator.update(predictions, labels, label, ids=ids)
        data = np.frombuffer(evaluator.state_dict()["images"], np.uint8).copy()
        assert isinstance(self.batches, list)
        self.batches.append(torch.from_numpy(data).to(self.device))

    def compute(self) -> dict[str, torch.Tensor] | torch.Tensor:
        """Return the metric, or a dict with the value of each metric, over the images of all processes.

        Raises
        ------
        InputError
            If there are no batches.
        MatchError
            If an image was added with different labels.
        """
        streams = [self.batches] if isinstance(self.batches, torch.Tensor) else self.batches
        images = b"".join(stream.cpu().numpy().tobytes() for stream in streams)
        gathered, evaluator = self._fresh(), self._fresh()
        gathered.load_state_dict({**gathered.state_dict(), "images": images})
        evaluator.merge(gathered)  # so that the order of processes and batches does not matter
        self.evaluation = evaluator.compute()
        rows = self.evaluation.results
        rows = rows.filter(pc.equal(rows["slice"], "all"))
        # Apple's GPUs have no 64-bit floats.
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        values = torch.tensor(rows["value"].to_pylist(), dtype=dtype, device=self.device)
        named = dict(zip(rows["metric"].to_pylist(), values.unbind(), strict=True))
        return named if self._metric is None else named[self._metric]

    def sync(self, *arguments: Any, **options: Any) -> None:
        """Gather the batches of all processes, including processes without batches."""
        if isinstance(self.batches, list) and not self.batches:
            # By default, torchmetrics would send floats from here and receive bytes.
            self.batches.append(torch.empty(0, dtype=torch.uint8, device=self.device))
        super().sync(*arguments, **options)

    def _fresh(self) -> BatchEvaluator:
        evaluator = copy.copy(self._settings)
        evaluator.reset()
        return evaluator
