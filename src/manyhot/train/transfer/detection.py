"""torchvision detectors on the maps of a backbone, and their COCO metrics."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.fcos import FCOSHead
from torchvision.ops import MultiScaleRoIAlign

from manyhot.core.detection import Boxes
from manyhot.extras import required
from manyhot.train.transfer.feature_maps import (
    Backbone,
    Bools,
    Indices,
    MapFeed,
    OnEpoch,
    Pyramid,
    fit_head,
    head_outputs,
    laid_out,
)
from manyhot.train.transfer.methods import DetectionSettings

_MOST = 100  # Boxes of an image, as in COCO.
_LEAST = 0.05  # Score of a box that is kept, as torchvision has it of its other detectors.
_COCO = 1000.0  # Sides of an image for COCO's tools, which have areas: boxes are shares of them here.


class _MapBackbone(nn.Module):
    """Replacement for the backbone of a detector: returns the pyramid over maps that were set before."""

    def __init__(self, pyramid: Pyramid) -> None:
        super().__init__()
        self.pyramid, self.out_channels = pyramid, pyramid.out_channels
        self.maps: list[Tensor] = []

    def forward(self, _: Tensor) -> OrderedDict[str, Tensor]:
        return OrderedDict((str(i), m) for i, m in enumerate(self.pyramid(self.maps)))


class Detector(nn.Module):
    """A detector over feature maps."""

    def __init__(self, backbone: Backbone, n_classes: int, settings: DetectionSettings) -> None:
        super().__init__()
        self.size = backbone.preprocessing.size[0]
        self.map_backbone = _MapBackbone(Pyramid(backbone, settings.channels))
        # Images of nothing go in, which are not to be resized.
        sides = {
            "min_size": self.size,
            "max_size": self.size,
            "image_mean": [0.0] * 3,
            "image_std": [1.0] * 3,
        }
        self.inner = _BUILT[settings.detector](self.map_backbone, n_classes, settings, sides)
        self.first = 1 if settings.detector == "faster-rcnn" else 0  # It counts the background as 0.

    def forward(self, maps: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        """Return losses by name in training mode, and otherwise boxes, classes and scores per image."""
        n = len(maps[0])
        self.map_backbone.maps = maps
        nothing = torch.zeros(1, 1, 1).expand(3, self.size, self.size)
        try:
            return self.inner([nothing] * n, targets)
        finally:
            self.map_backbone.maps = []


def _fcos(backbone: _MapBackbone, n: int, settings: DetectionSettings, sides: dict[str, Any]) -> Any:
    # Images are small: an object is for the level at whose stride its longest reach is 2 to 4 cells.
    sizes = tuple((s / 2,) for s in backbone.pyramid.strides)
    anchors = AnchorGenerator(sizes, ((1.0,),) * len(sizes))
    head = FCOSHead(backbone.out_channels, 1, n, settings.convs)
    return detection.FCOS(backbone, n, anchor_generator=anchors, head=head, score_thresh=_LEAST, **sides)


def _retinanet(backbone: _MapBackbone, n: int, settings: DetectionSettings, sides: dict[str, Any]) -> Any:
    sizes = tuple(tuple(3 * s * 2 ** (i / 3) for i in range(3)) for s in backbone.pyramid.strides)
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
    return detection.RetinaNet(backbone, n, anchor_generator=anchors, **sides)


def _faster_rcnn(backbone: _MapBackbone, n: int, settings: DetectionSettings, sides: dict[str, Any]) -> Any:
    sizes = tuple((3 * s, 4.2 * s) for s in backbone.pyramid.strides)
    levels = [str(i) for i in range(len(sizes))]
    return detection.FasterRCNN(
        backbone,
        rpn_anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes)),
        box_roi_pool=MultiScaleRoIAlign(levels, 7, 2),
        box_head=TwoMLPHead(backbone.out_channels * 49, 256),
        box_predictor=FastRCNNPredictor(256, n + 1),
        rpn_pre_nms_top_n_train=500,
        rpn_post_nms_top_n_train=200,
        rpn_pre_nms_top_n_test=500,
        rpn_post_nms_top_n_test=200,
        rpn_batch_size_per_image=64,
        box_batch_size_per_image=32,
        **sides,
    )


_BUILT = {"fcos": _fcos, "retinanet": _retinanet, "faster-rcnn": _faster_rcnn}


def fit_detector(
    backbone: Backbone,
    feed: MapFeed,
    rows: Indices,
    boxes: Sequence[Boxes],
    n_classes: int,
    settings: DetectionSettings,
    seed: int,
    progress: OnEpoch | None = None,
) -> Detector:
    """Fit a detector to images.

    Parameters
    ----------
    rows : ndarray of int, shape (n,)
        The images to fit on.
    boxes : sequence of Boxes
        Boxes by row, as shares of width and height. Ignored boxes are left out, so their areas are treated as
        background.
    seed : int
        Seed for the initial weights, the order and the mirroring.
    progress : callable, optional
    """
    torch.manual_seed(seed)
    detector = laid_out(Detector(backbone, n_classes, settings))

    def loss(maps: list[Tensor], batch: Indices, mirrored: Bools) -> Tensor:
        targets = [_targets(boxes[r], m, detector) for r, m in zip(batch, mirrored, strict=True)]
        total: Tensor = sum(detector(maps, targets).values(), torch.zeros(()))
        return total

    fit_head(detector, loss, feed, rows, settings, seed, progress)
    return detector


def _targets(boxes: Boxes, mirrored: bool, detector: Detector) -> dict[str, Tensor]:
    keep = np.ones(len(boxes.box), bool) if boxes.ignore is None else ~boxes.ignore
    box = boxes.box[keep].copy()
    if mirrored:
        box[:, [0, 2]] = 1 - box[:, [2, 0]]
    return {
        "boxes": torch.from_numpy(box * detector.size).float().reshape(-1, 4),
        "labels": torch.from_numpy(boxes.class_id[keep].astype(np.int64)) + detector.first,
    }


def detect_objects(detector: Detector, feed: MapFeed, rows: Indices) -> list[Boxes]:
    """Return the boxes that a detector finds, as shares of width and height, at most 100 per image."""
    detected: list[Boxes] = []
    for _, boxes in head_outputs(detector, feed, rows):
        best = boxes["scores"].argsort(descending=True, stable=True)[:_MOST]
        box, label, score = (boxes[k][best].numpy() for k in ("boxes", "labels", "scores"))
        detected.append(
            Boxes((box / detector.size).astype(float), label - detector.first, score.astype(float))
        )
    return detected


def coco_metrics(
    there: Sequence[Boxes], detected: Sequence[Boxes], n_classes: int
) -> tuple[dict[str, float], npt.NDArray[np.float64]]:
    """Return COCO's average precision and recall, and the average precision of each class.

    The metrics are computed by faster-coco-eval. Ignored objects are crowds, in which detections do not
    count.

    Returns
    -------
    metrics : dict of str to float
        ``ap``, ``ap50``, ``ap75`` and ``ar100``; NaN without objects.
    classes : ndarray of float, shape (C,)
        ``ap`` of each class; NaN without objects.
    """
    coco = required("faster_coco_eval", "COCO's metrics", '"manyhot[train]"')
    truth = coco.COCO(_dataset(there, n_classes))
    evaluated = coco.COCOeval_faster(truth, truth.loadRes(_results(detected)), "bbox")
    evaluated.evaluate()
    evaluated.accumulate()
    precision, recall = (evaluated.eval[k] for k in ("precision", "recall"))
    ap = _mean(precision[:, :, :, 0, -1])
    metrics = {
        "ap": ap,
        "ap50": _mean(precision[0, :, :, 0, -1]),
        "ap75": _mean(precision[5, :, :, 0, -1]),
        "ar100": _mean(recall[:, :, 0, -1]),
    }
    return metrics, np.array([_mean(precision[:, :, c, 0, -1]) for c in range(n_classes)])


def _mean(values: npt.NDArray[Any]) -> float:
    known = values[values > -1]
    return float(known.mean()) if known.size else float("nan")


def _dataset(there: Sequence[Boxes], n_classes: int) -> dict[str, Any]:
    rows = []
    for i, boxes in enumerate(there):
        crowd = np.zeros(len(boxes.box)) if boxes.ignore is None else boxes.ignore
        for box, c, ignored in zip(boxes.box, boxes.class_id, crowd, strict=True):
            rows.append({"image_id": i, "category_id": int(c), "iscrowd": int(ignored), **_corner(box)})
    return {
        "images": [{"id": i, "width": _COCO, "height": _COCO} for i in range(len(there))],
        "categories": [{"id": c, "name": str(c)} for c in range(n_classes)],
        "annotations": [{"id": i + 1, **row} for i, row in enumerate(rows)],
    }


def _results(detected: Sequence[Boxes]) -> list[dict[str, Any]]:
    return [
        {"image_id": i, "category_id": int(c), "score": float(s), **_corner(box)}
        for i, boxes in enumerate(detected)
        if boxes.score is not None
        for box, c, s in zip(boxes.box, boxes.class_id, boxes.score, strict=True)
    ]


def _corner(box: npt.NDArray[np.float64]) -> dict[str, Any]:
    x1, y1, x2, y2 = (float(v) * _COCO for v in box)
    return {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
