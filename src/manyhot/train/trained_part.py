"""The trained part of a network, its inputs, and the evaluation after each epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy import typing as npt
from torch import Tensor

from manyhot import registry
from manyhot.classes import ClassList
from manyhot.core.sets import Case, LabelSets
from manyhot.errors import InputError
from manyhot.predict.sources import ImageReader
from manyhot.train.batches import Loader, View, Views, decoders, memory_share
from manyhot.train.devices import on_device, summed
from manyhot.train.feeds import FeatureFeed, ImageFeed, InputFeed, Normalise, as_input, computed, key_of
from manyhot.train.networks import Stages, Start, stages_of
from manyhot.train.order import Everything, ImageOrder, Shards, plan_of
from manyhot.train.recipe import Recipe

EPOCH_METRICS = ("top1", "real1", "map_macro")
"""The metrics after each epoch, besides the one of the recipe's ``best``."""

_VALIDATION_BATCH = 128  # Images that are evaluated at once.
_ROWS_SENT = 4096  # Images whose logits are sent at once: of all images, they may not fit on the GPU.

ValidationLogits = tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]
"""Logits of shape (n, C), and which images could be decoded."""


Validator = Callable[[Any], ValidationLogits]
"""Computes the logits of a network for the validation images."""


@dataclass(eq=False)
class TrainingParts:
    """The part of a network that is trained, and its input.

    Attributes
    ----------
    trained : torch.nn.Module
        The network, or the part of it from the first trained layer on.
    skipped : Mapping of int to str
        Reasons why images were skipped, by row. More are added during the run.
    validator : Validator, optional
    note : str
        A note for the log; empty for none.
    """

    stages: Stages
    trained: Any
    feed: InputFeed
    skipped: Mapping[int, str]
    validator: Validator | None
    note: str = ""


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingData:
    """Images to train on, and their labels.

    Attributes
    ----------
    labels : LabelSets
        The labels to which the rows of `order` refer.
    ids : sequence of str
        Names of the images, by row.
    features : Path
        A folder for features of the images, which several runs can share.
    taught : Teacher, optional
        The training targets. By default, they are made from `labels`.
    """

    order: ImageOrder
    labels: LabelSets
    classes: ClassList
    ids: Sequence[str]
    features: Path
    taught: Any = None


@dataclass(frozen=True, eq=False)
class PartInputs:
    """The inputs from which the trained part and its feed are built.

    Attributes
    ----------
    validation : Validation, optional
    on_progress : callable
        Called with the number of images with features, and the number of all images.
    """

    data: TrainingData
    recipe: Recipe
    start: Start
    fabric: Any
    validation: Validation | None
    on_progress: Any

    def plan(self, n: int) -> Any:
        """Return the plan of batches of n images."""
        recipe, fabric = self.recipe, self.fabric
        return plan_of(recipe.batch, recipe.lanes, recipe.seed, n, fabric.global_rank, fabric.world_size)


def parts_of(inputs: PartInputs) -> TrainingParts:
    """Return the part of a network that is trained, and its input.

    The input consists of features if the recipe names the first trained layer and images are at most
    mirrored, because earlier layers would compute the same values in each epoch.

    Raises
    ------
    InputError
        If the network does not have the layer, or if there are too few images.
    """
    recipe, module = inputs.recipe, inputs.start.module
    module.to(inputs.fabric.device, memory_format=torch.channels_last)
    stages = stages_of(module, recipe.trained_from)
    stages.freeze()
    stages.train()
    still = not (recipe.augment == "crop" or recipe.alters or recipe.mixup or recipe.cutmix)
    if not recipe.trained_from or not still or not isinstance(inputs.data.order, Everything):
        return _of_images(inputs, stages)
    rest = stages.rest()
    if rest is None:
        note = (
            f"the network cannot be cut at {recipe.trained_from}, so earlier layers are computed in each step"
        )
        return replace(_of_images(inputs, stages), note=note)
    return _of_features(inputs, inputs.data.order, stages, rest)


def _of_images(inputs: PartInputs, stages: Stages) -> TrainingParts:
    start, recipe, data = inputs.start, inputs.recipe, inputs.data
    # Shards move to other processes in each epoch, which would look for their images in vain.
    budget = 0 if isinstance(data.order, Shards) else memory_share()
    views = Views(recipe, start.preprocessing, budget)
    normalise = Normalise(start.preprocessing, inputs.fabric.device)
    pinned = inputs.fabric.device.type == "cuda"
    loader = Loader(data.order, inputs.plan(data.order.n), views, data.ids.__getitem__, pinned)
    feed = ImageFeed(loader, recipe, normalise)
    validator = None if inputs.validation is None else _ImageValidator(inputs, inputs.validation)
    return TrainingParts(stages, stages.module, feed, views.skipped, validator)


def _of_features(inputs: PartInputs, order: Everything, stages: Stages, rest: Any) -> TrainingParts:
    views = 2 if inputs.recipe.augment == "mirror" else 1
    normalise = Normalise(inputs.start.preprocessing, inputs.fabric.device)
    features, reasons = _features(inputs, stages, normalise, order.openers, order.key, views)
    good = np.flatnonzero([not why for why in reasons])
    if not len(good):
        raise InputError(
            "None of the images can be decoded.",
            got=f"{inputs.data.ids[order.rows[0]]}: {reasons[0]}",
            do="check that the source contains images",
        )
    feed = FeatureFeed(features, np.array(order.rows), good, inputs.plan(len(good)), inputs.fabric.device)
    skipped = {order.rows[i]: why for i, why in enumerate(reasons) if why}
    validator = None
    if inputs.validation is not None:
        seen, why_not = _features(
            inputs, stages, normalise, inputs.validation.openers, inputs.validation.key, 1
        )
        validator = _FeatureValidator(inputs, seen, np.array([not why for why in why_not]))
    return TrainingParts(stages, rest, feed, skipped, validator)


def _features(
    inputs: PartInputs,
    stages: Stages,
    normalise: Normalise,
    openers: Sequence[ImageReader],
    data: str,
    views: int,
) -> tuple[npt.NDArray[Any], list[str]]:
    """Return features of images, computed by the first process."""
    fabric, preprocessing, recipe = inputs.fabric, inputs.start.preprocessing, inputs.recipe
    half = recipe.precision != "32-true"
    key = key_of(stages.before(), recipe.trained_from, preprocessing, views, half, data)
    path = inputs.data.features / key

    def compute(images: Tensor) -> Tensor:
        with torch.inference_mode(), fabric.autocast():
            return stages.features(normalise(images))

    def on_progress(done: int) -> None:
        inputs.on_progress(done, len(openers))

    stages.module.eval()
    if fabric.is_global_zero:
        computed(openers, preprocessing, compute, path, views, half, on_progress)
    fabric.barrier()
    found = computed(openers, preprocessing, compute, path, views, half, on_progress)
    stages.train()
    return found


def _whole(fabric: Any, own: npt.NDArray[np.int64], logits: Tensor, n: int) -> Any:
    """Return the rows of all processes as one array, of the first process; of others, the array is empty."""
    if fabric.world_size == 1:
        return logits.cpu().numpy()
    whole = np.empty((n if fabric.is_global_zero else 0, logits.shape[1]), np.float32)
    for start in range(0, n, _ROWS_SENT):
        end = min(start + _ROWS_SENT, n)
        first, last = np.searchsorted(own, (start, end))
        part = torch.zeros((end - start, logits.shape[1]), device=logits.device)
        part[torch.from_numpy(own[first:last] - start).to(logits.device)] = logits[first:last]
        part = summed(fabric, part)
        if fabric.is_global_zero:
            whole[start:end] = part.cpu().numpy()
    return whole


class _ImageValidator:
    """Each process evaluates its own images; small ones are decoded once."""

    def __init__(self, inputs: PartInputs, validation: Validation) -> None:
        self.fabric, self.validation = inputs.fabric, validation
        self.normalise = Normalise(inputs.start.preprocessing, inputs.fabric.device)
        self.views = Views(inputs.recipe.unaltered(), inputs.start.preprocessing, memory_share() // 4)
        self.nothing = torch.zeros((3, *inputs.start.preprocessing.size), dtype=torch.uint8)

    def __call__(self, module: Any) -> ValidationLogits:
        n = len(self.validation.openers)
        own = np.arange(n)[self.fabric.global_rank :: self.fabric.world_size]
        module.eval()
        with torch.inference_mode(), decoders() as pool:
            parts = [self._logits(module, seen) for seen in self._decoded(pool, own)]
        found = _whole(self.fabric, own, torch.cat(parts), n)
        return found[:, 1:], found[:, 0] > 0

    def _decoded(
        self, pool: ThreadPoolExecutor, own: npt.NDArray[np.int64]
    ) -> Iterator[list[tuple[View, bool] | None]]:
        """Yield the images of a batch, while those of the next are decoded."""
        pending: list[Future[tuple[View, bool] | None]] = []
        for start in range(0, len(own), _VALIDATION_BATCH):
            rows = own[start : start + _VALIDATION_BATCH].tolist()
            begun = [pool.submit(self._seen, row) for row in rows]
            if pending:
                yield [one.result() for one in pending]
            pending = begun
        yield [one.result() for one in pending]

    def _seen(self, row: int) -> tuple[View, bool] | None:
        return self.views(row, self.validation.openers[row], self.views.rng(row, 0))

    def _logits(self, module: Any, seen: Sequence[tuple[View, bool] | None]) -> Tensor:
        """Return a column with which images could be decoded, followed by the logits."""
        images = torch.stack([self.nothing if one is None else one[0].pixels for one in seen])
        with self.fabric.autocast():
            logits = module(self.normalise(on_device(images, self.normalise.device))).float()
        good = on_device(torch.tensor([[float(one is not None)] for one in seen]), logits.device)
        return torch.cat([good, logits], 1)


class _FeatureValidator:
    """Evaluates on precomputed features."""

    def __init__(self, inputs: PartInputs, features: npt.NDArray[Any], good: npt.NDArray[np.bool_]) -> None:
        self.fabric, self.first = inputs.fabric, inputs.recipe.trained_from
        self.features, self.good = features, good

    def __call__(self, module: Any) -> ValidationLogits:
        n = len(self.features)
        own = np.arange(n)[self.fabric.global_rank :: self.fabric.world_size]
        module.eval()
        rest: Any = Stages(module, self.first).rest()
        rest.eval()
        with torch.inference_mode(), self.fabric.autocast():
            parts = [
                rest(
                    as_input(self.features[own[start : start + _VALIDATION_BATCH], 0], self.fabric.device)
                ).float()
                for start in range(0, len(own), _VALIDATION_BATCH)
            ]
        return _whole(self.fabric, own, torch.cat(parts), n), self.good


@dataclass(frozen=True, eq=False)
class Validation:
    """Validation images.

    Attributes
    ----------
    labels : LabelSets
        Labels of the same images.
    key : str
        A hash that identifies these images.
    """

    openers: Sequence[ImageReader]
    labels: LabelSets
    key: str = ""

    def judged(
        self, logits: npt.NDArray[np.float32], good: npt.NDArray[np.bool_], best: str
    ) -> dict[str, float]:
        """Return the metrics of logits of shape (n, C). Images that are not `good` are left out.

        A metric that is undefined for these labels is NaN.
        """
        rows = np.flatnonzero(good)
        case = Case.from_scores(self.labels.take(rows), logits[rows], kind="logit")
        names = EPOCH_METRICS if best in ("", *EPOCH_METRICS) else (*EPOCH_METRICS, best)
        return {name: float(registry.get("metric", name)(case).value()) for name in names}


def check_best(best: str, validation: Validation | None) -> None:
    """Raise an error if the metric that is used to choose an epoch cannot be computed.

    Raises
    ------
    UnknownNameError
        If the metric does not exist.
    InputError
        If there are no validation images.
    """
    if not best:
        return
    registry.get("metric", best)
    if validation is None:
        raise InputError(
            "There are no validation labels by which to choose the best epoch.",
            got=f"best {best!r}",
            do="pass `val_labels`, or set `best` to '' to write the weights of the last epoch",
        )


def is_better(best: str, value: float, before: float | None) -> bool:
    """Return whether a value of a metric is better than the best one so far."""
    if before is None or np.isnan(before):
        return True
    higher = registry.get("metric", best).about.get("better") == "higher"
    return value > before if higher else value < before
