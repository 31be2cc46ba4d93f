"""Detectors and segmentation heads on the feature maps of backbones."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import typing as npt

from manyhot.diagnose.pixels.regions import read_mask
from manyhot.errors import InputError
from manyhot.evaluate.results import Evaluation
from manyhot.formats import read_masks
from manyhot.predict.decode import decode
from manyhot.predict.network import Network
from manyhot.predict.scoring import read_image
from manyhot.predict.sources import ImageReader
from manyhot.predict.sources.base import ImageSource
from manyhot.tables import predictions_file_name
from manyhot.train.transfer.images import Given, Told, some_images
from manyhot.train.transfer.measure import Key, Measured, Tally, boxes_of, check_classes, counts_of

if TYPE_CHECKING:
    from manyhot.train.transfer.feature_maps import Backbone, Feed


VOID = 255


def by_maps(told: Told, given: Given) -> Evaluation:
    """Fit and judge detectors or segmentation heads."""
    judge = _Boxes(told, given) if told.method == "detection" else _Masks(told, given)
    images = _Images.read(told, judge.wanted())
    judge.look(images)
    held = images.held
    tally = told.tally(int(held.sum()), int(held.sum()))
    for _, network in told.networks():
        place = told.out / "maps" / Path(predictions_file_name(network.name)).stem
        try:
            backbone, feed = _fed(told, network, images, place)
            tally.found[network.name] = judge(tally, network.name, backbone, feed, images)
        finally:
            shutil.rmtree(place, ignore_errors=True)
    shutil.rmtree(told.out / "maps", ignore_errors=True)
    return tally.finish(told.notes)


@dataclass(frozen=True, eq=False)
class _Images:
    """The images of a run, in the order of their ids."""

    names: Sequence[str]
    openers: Sequence[ImageReader]
    shapes: Sequence[tuple[int, int]]
    held: npt.NDArray[np.bool_]

    @classmethod
    def read(cls, told: Told, wanted: Sequence[str]) -> _Images:
        """Read and look at the images that something is known of."""
        found: dict[str, tuple[ImageReader, tuple[int, int]]] = {}
        skipped: dict[str, str] = {}
        for name, opener in _listed(some_images(told, wanted)):
            pixels = _pixels(opener)
            if isinstance(pixels, str):
                skipped[name] = pixels
            else:
                found[name] = opener, (int(pixels.shape[1]), int(pixels.shape[2]))
        told.note_skipped(skipped)
        names = sorted(found)
        openers, shapes = zip(*(found[n] for n in names), strict=True) if names else ((), ())
        return cls(names, openers, shapes, told.held.of(names))

    def pixels(self, row: int) -> Any:
        """Return an image, uint8 of shape (3, height, width)."""
        return _pixels(self.openers[row])


def _listed(source: ImageSource) -> Iterator[tuple[str, ImageReader]]:
    for part in source.parts:
        for item, opener in part.items():
            yield item.image_id, opener


def _pixels(opener: ImageReader) -> Any:
    """Return an image, or why there is none."""
    data = read_image(opener)
    return decode(data) if isinstance(data, bytes) else data


def _fed(told: Told, network: Network, images: _Images, place: Path) -> tuple[Backbone, Feed]:
    """Return a backbone and what gives its maps: computed now, or while it is trained."""
    import torch

    from manyhot.train.transfer.feature_maps import Backbone, Cached, Live, compute_maps

    backbone = Backbone(network, told.plan.size or None)
    told.note("layers", 0, f"maps of {backbone.told}", network.name)
    squeezed = (backbone.preprocessing(images.pixels(row)) for row in range(len(images.names)))
    if told.train_backbone:
        held = torch.stack(list(squeezed))
        return backbone, Live(backbone.requires_grad_(True), lambda rows: held[torch.from_numpy(rows)])
    tell = told.computed(network.name)
    return backbone, Cached(compute_maps(backbone, squeezed, len(images.names), place, ~images.held, tell))


class _Boxes:
    """Detection: objects known, detectors fitted and judged."""

    def __init__(self, told: Told, given: Given) -> None:
        assert given.objects is not None
        self.told, self.objects = told, given.objects
        self.keys = given.objects.keys

    def wanted(self) -> Sequence[str]:
        """Return the images that have objects."""
        return list(self.objects.images)

    def look(self, images: _Images) -> None:
        """Take the boxes of images, and check that all classes are there to fit on."""
        self.boxes = [boxes_of(self.objects, name) for name in images.names]
        counts = [
            counts_of([b for b, h in zip(self.boxes, images.held, strict=True) if h == held], len(self.keys))
            for held in (False, True)
        ]
        check_classes(counts[0], counts[1], self.keys)

    def __call__(
        self, tally: Tally, model: str, backbone: Backbone, feed: Feed, images: _Images
    ) -> dict[Key, Measured]:
        """Return what a detector on a backbone is worth."""
        from manyhot.train.transfer.detection import coco_metrics, detect, fit_detector

        told, n = self.told, len(self.keys)
        rows, held = np.flatnonzero(~images.held), np.flatnonzero(images.held)
        tell = told.epochs(model)
        detector = fit_detector(backbone, feed, rows, self.boxes, n, told.plan, told.seed, tell)
        there, found = [self.boxes[row] for row in held], detect(detector, feed, held)
        return tally.draws.detected(there, found, self.keys, *coco_metrics(there, found, n))


class _Masks:
    """Segmentation: masks known, heads fitted and judged."""

    def __init__(self, told: Told, given: Given) -> None:
        assert given.masks is not None
        self.told = told
        self.keys = ("background", *given.classes.keys)
        listed = [item.image_id for part in told.source.parts for item, _ in part.items()]
        self.found, self.where = read_masks(given.masks, listed), given.masks

    def wanted(self) -> Sequence[str]:
        """Return the images that have masks."""
        return list(self.found)

    def look(self, images: _Images) -> None:
        """Read masks, and check that all classes are there to fit on."""
        self.masks = [self._mask(*pair) for pair in zip(images.names, images.shapes, strict=True)]
        there = np.array(
            [np.bincount(m.ravel(), minlength=256)[: len(self.keys)] > 0 for m in self.masks], int
        )
        check_classes(there[~images.held].sum(0), there[images.held].sum(0), self.keys)

    def _mask(self, name: str, shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
        mask = read_mask(self.found[name], shape)
        if isinstance(mask, str):
            raise InputError("A mask does not fit its image.", where=f"{self.where}: {name}", got=mask)
        most = int(mask[mask != VOID].max(initial=0))
        if most >= len(self.keys):
            raise InputError(
                "A mask holds a number that is no class.",
                where=f"{self.where}: {name}",
                got=most,
                allowed=f"0 for background, 1 to {len(self.keys) - 1}, 255 for void",
                do="give the class list of the masks with --classes",
            )
        return mask

    def __call__(
        self, tally: Tally, model: str, backbone: Backbone, feed: Feed, images: _Images
    ) -> dict[Key, Measured]:
        """Return what a segmentation head on a backbone is worth."""
        from manyhot.train.transfer.segmentation import count_pixels, fit_segmenter

        told, n = self.told, len(self.keys)
        rows, held = np.flatnonzero(~images.held), np.flatnonzero(images.held)
        tell = told.epochs(model)
        head = fit_segmenter(backbone, feed, rows, self.masks, n, told.plan, told.seed, tell)
        return tally.draws.segmented(count_pixels(head, feed, held, self.masks, n), self.keys)
