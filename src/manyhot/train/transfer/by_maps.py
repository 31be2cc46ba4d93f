"""Detectors and segmentation heads on the feature maps of backbones."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy import typing as npt
from torch import Tensor, nn
from torch.nn import functional as F

from manyhot.core.detection import VOID, Boxes, pixel_counts
from manyhot.diagnose.pixels.regions import read_mask
from manyhot.errors import InputError
from manyhot.formats.object_files import masks_of
from manyhot.predict.decode import decode
from manyhot.predict.network import Network
from manyhot.predict.scoring import read_image
from manyhot.predict.sources import ImageReader
from manyhot.tables import Objects, predictions_file_name
from manyhot.train.transfer.feature_maps import (
    Backbone,
    Bools,
    Indices,
    LiveMaps,
    MapFeed,
    OnEpoch,
    Pyramid,
    compute_maps,
    fit_head,
    head_outputs,
    laid_out,
)
from manyhot.train.transfer.methods import DetectionSettings, SegmentationSettings
from manyhot.train.transfer.request import TransferInputs, TransferRequest, labelled_images
from manyhot.train.transfer.tally import (
    MetricSlice,
    ResampledMetric,
    TransferResult,
    TransferTally,
    check_classes,
)


def by_maps(request: TransferRequest, inputs: TransferInputs) -> TransferResult:
    """Fit and evaluate detectors or segmentation heads."""
    judge = _Boxes(request, inputs) if request.method.name == "detection" else _Masks(request, inputs)
    images = _Images.read(request, judge.image_ids())
    judge.prepare(images)
    tally = request.tally(int(images.held.sum()))
    for _, network in request.networks():
        place = request.out / "maps" / Path(predictions_file_name(network.name)).stem
        try:
            backbone, feed = _fed(request, network, images, place)
            tally.results[network.name] = judge(tally, network.name, backbone, feed, images)
        finally:
            shutil.rmtree(place, ignore_errors=True)
    shutil.rmtree(request.out / "maps", ignore_errors=True)
    return tally.finish(request.notes)


def boxes_of(objects: Objects, image_id: str) -> Boxes:
    """Return the objects of an image that have boxes overlapping the image."""
    rows = objects.rows(image_id)
    box = np.clip(objects.boxes[rows], 0, 1)
    fits = (box[:, :2] < box[:, 2:]).all(1)
    return Boxes(box[fits], objects.class_id[rows][fits], None, objects.ignore[rows][fits])


def counts_of(boxes: Sequence[Boxes], n_classes: int) -> npt.NDArray[np.int64]:
    """Return the number of objects in each class, without ignored ones, shape (C,)."""
    found = [b.class_id[~b.ignore] for b in boxes if b.ignore is not None]
    return np.bincount(np.concatenate([np.empty(0, int), *found]), minlength=n_classes).astype(np.int64)


@dataclass(frozen=True, eq=False)
class _Images:
    """The images of a run, in the order of their ids."""

    names: Sequence[str]
    openers: Sequence[ImageReader]
    shapes: Sequence[tuple[int, int]]
    held: npt.NDArray[np.bool_]

    @classmethod
    def read(cls, request: TransferRequest, image_ids: Sequence[str]) -> _Images:
        """Read the images that have objects or masks, and their sizes."""
        found: dict[str, tuple[ImageReader, tuple[int, int]]] = {}
        skipped: dict[str, str] = {}
        listed = (pair for part in labelled_images(request, image_ids).parts for pair in part.items())
        for item, opener in listed:
            name, pixels = item.image_id, _pixels(opener)
            if isinstance(pixels, str):
                skipped[name] = pixels
            else:
                found[name] = opener, (int(pixels.shape[1]), int(pixels.shape[2]))
        request.note_skipped(skipped)
        names = sorted(found)
        openers, shapes = zip(*(found[n] for n in names), strict=True) if names else ((), ())
        return cls(names, openers, shapes, request.held.of(names))

    def pixels(self, row: int) -> Any:
        """Return an image, uint8 of shape (3, height, width)."""
        return _pixels(self.openers[row])


def _pixels(opener: ImageReader) -> Any:
    """Return an image, or the reason why it cannot be read."""
    return decode(read_image(opener))


def _fed(
    request: TransferRequest, network: Network, images: _Images, place: Path
) -> tuple[Backbone, MapFeed]:
    """Return a backbone and the feed of its maps: precomputed, or computed during training."""
    settings = request.method.settings
    assert isinstance(settings, DetectionSettings | SegmentationSettings)
    backbone = Backbone(network, settings.size or None)
    request.note("layers", 0, f"maps of {backbone.description}", network.name)
    squeezed = (backbone.preprocessing(images.pixels(row)) for row in range(len(images.names)))
    if request.method.train_backbone:
        held = torch.stack(list(squeezed))
        return backbone, LiveMaps(backbone.requires_grad_(True), lambda rows: held[torch.from_numpy(rows)])
    on_maps = request.on_maps(network.name)
    return backbone, compute_maps(backbone, squeezed, len(images.names), place, ~images.held, on_maps)


class _Boxes:
    """Detection: fit and evaluate detectors on objects."""

    def __init__(self, request: TransferRequest, inputs: TransferInputs) -> None:
        assert inputs.objects is not None
        self.request, self.objects = request, inputs.objects
        self.keys = inputs.objects.keys

    def image_ids(self) -> Sequence[str]:
        """Return the images that have objects."""
        return list(self.objects.images)

    def prepare(self, images: _Images) -> None:
        """Select the boxes of images, and check that all classes can be fitted."""
        self.boxes = [boxes_of(self.objects, name) for name in images.names]
        counts = [
            counts_of([b for b, h in zip(self.boxes, images.held, strict=True) if h == held], len(self.keys))
            for held in (False, True)
        ]
        check_classes(counts[0], counts[1], self.keys)

    def __call__(
        self, tally: TransferTally, model: str, backbone: Backbone, feed: MapFeed, images: _Images
    ) -> dict[MetricSlice, ResampledMetric]:
        """Return the metrics of a detector on a backbone."""
        from manyhot.train.transfer.detection import coco_metrics, detect_objects, fit_detector

        n, held = len(self.keys), np.flatnonzero(images.held)
        detector = fit_detector(
            backbone,
            feed,
            np.flatnonzero(~images.held),
            self.boxes,
            n,
            settings=self.request.method.settings_as(DetectionSettings),
            seed=self.request.draws.seed,
            progress=self.request.on_epoch(model),
        )
        there, found = [self.boxes[row] for row in held], detect_objects(detector, feed, held)
        return tally.draws.detected(there, found, self.keys, *coco_metrics(there, found, n))


class _Masks:
    """Segmentation: fit and evaluate heads on masks."""

    def __init__(self, request: TransferRequest, inputs: TransferInputs) -> None:
        assert inputs.masks is not None
        self.request = request
        self.keys = ("background", *inputs.classes.keys)
        listed = [item.image_id for part in request.source.parts for item, _ in part.items()]
        self.files, self.where = masks_of(Path(inputs.masks), listed), inputs.masks

    def image_ids(self) -> Sequence[str]:
        """Return the images that have masks."""
        return list(self.files)

    def prepare(self, images: _Images) -> None:
        """Read masks, and check that all classes can be fitted."""
        self.masks = [self._mask(*pair) for pair in zip(images.names, images.shapes, strict=True)]
        there = np.array(
            [np.bincount(m.ravel(), minlength=256)[: len(self.keys)] > 0 for m in self.masks], int
        )
        check_classes(there[~images.held].sum(0), there[images.held].sum(0), self.keys)

    def _mask(self, name: str, shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
        mask = read_mask(self.files[name], shape)
        if isinstance(mask, str):
            raise InputError(
                "A mask does not match the size of its image.", where=f"{self.where}: {name}", got=mask
            )
        most = int(mask[mask != VOID].max(initial=0))
        if most >= len(self.keys):
            raise InputError(
                "A mask contains a value that is not a class.",
                where=f"{self.where}: {name}",
                got=most,
                allowed=f"0 for background, 1 to {len(self.keys) - 1}, 255 for void",
                do="pass the class list of the masks as `classes`",
            )
        return mask

    def __call__(
        self, tally: TransferTally, model: str, backbone: Backbone, feed: MapFeed, images: _Images
    ) -> dict[MetricSlice, ResampledMetric]:
        """Return the metrics of a segmentation head on a backbone."""
        n, held = len(self.keys), np.flatnonzero(images.held)
        head = fit_segmenter(
            backbone,
            feed,
            np.flatnonzero(~images.held),
            self.masks,
            n,
            settings=self.request.method.settings_as(SegmentationSettings),
            seed=self.request.draws.seed,
            progress=self.request.on_epoch(model),
        )
        return tally.draws.segmented(count_pixels(head, feed, held, self.masks, n), self.keys)


_Mask = npt.NDArray[np.uint8]


class Segmenter(nn.Module):
    """A segmentation head: a feature pyramid summed at its finest stride, a convolution, and a classifier.

    The head is that of Kirillov et al. 2019, figure 3, but with one convolution after the sum instead of one
    convolution for each doubling before the sum.

    References
    ----------
    Kirillov et al. 2019, Panoptic feature pyramid networks, doi 10.1109/CVPR.2019.00656.
    """

    def __init__(self, backbone: Backbone, n_classes: int, channels: int) -> None:
        super().__init__()
        self.pyramid = Pyramid(backbone, channels)
        self.mix = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.classify = nn.Conv2d(channels, n_classes, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Return logits at the finest stride, shape (n, C, height, width)."""
        finest, *others = self.pyramid(maps)
        for level in others:
            finest = finest + F.interpolate(level, finest.shape[2:], mode="bilinear", align_corners=False)
        logits: Tensor = self.classify(self.mix(finest))
        return logits


def fit_segmenter(
    backbone: Backbone,
    feed: MapFeed,
    rows: Indices,
    masks: Sequence[_Mask],
    n_classes: int,
    settings: SegmentationSettings,
    seed: int,
    progress: OnEpoch | None = None,
) -> Segmenter:
    """Fit a head to masks.

    Parameters
    ----------
    rows : ndarray of int, shape (n,)
        The images to fit on.
    masks : sequence of ndarray of uint8
        Masks by row, each with the size of its image. `VOID` pixels are ignored.
    n_classes : int
        Including the background.
    seed : int
        Seed for the initial weights, the order and the mirroring.
    progress : callable, optional
    """
    torch.manual_seed(seed)
    head = laid_out(Segmenter(backbone, n_classes, settings.channels))
    side = backbone.preprocessing.size[0] // 4
    images = (torch.from_numpy(mask)[None, None] for mask in masks)
    small = torch.cat([F.interpolate(mask, (side, side), mode="nearest-exact")[0] for mask in images])

    def loss(maps: list[Tensor], batch: Indices, mirrored: Bools) -> Tensor:
        targets = small[torch.from_numpy(batch)].long()
        turned = torch.from_numpy(mirrored)
        targets[turned] = targets[turned].flip(-1)
        logits = F.interpolate(head(maps), (side, side), mode="bilinear", align_corners=False)
        # A batch of void alone has no mean.
        summed = F.cross_entropy(logits, targets, ignore_index=VOID, reduction="sum")
        return summed / (targets != VOID).sum().clamp(min=1)

    fit_head(head, loss, feed, rows, settings, seed, progress)
    return head


def count_pixels(
    head: Segmenter, feed: MapFeed, rows: Indices, masks: Sequence[_Mask], n_classes: int
) -> npt.NDArray[np.int64]:
    """Return `manyhot.core.detection.pixel_counts` of images, shape (n, 3, C).

    Predictions are resized to each mask.
    """
    counts = []
    for row, coarse in head_outputs(head, feed, rows):
        mask = masks[row]
        full = F.interpolate(coarse[None], mask.shape, mode="bilinear", align_corners=False)
        counts.append(pixel_counts(mask, full[0].argmax(0).numpy(), n_classes))
    return np.array(counts, np.int64).reshape(-1, 3, n_classes)
