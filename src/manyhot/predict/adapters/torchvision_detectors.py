"""Detectors of torchvision, with its own preprocessing and post-processing."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from manyhot.classes import ClassList, from_keys
from manyhot.errors import InputError
from manyhot.extras import required
from manyhot.formats import read_classes
from manyhot.predict.adapters.torchvision import with_checkpoint, with_fetched
from manyhot.predict.detector import LOWEST_SCORE, Detections, ObjectDetector
from manyhot.registry import register

TORCHVISION_DETECTORS = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": ("box_score_thresh", 0.5),
    "fasterrcnn_mobilenet_v3_large_fpn": ("box_score_thresh", 0.5),
    "fasterrcnn_resnet50_fpn": ("box_score_thresh", 0.5),
    "fasterrcnn_resnet50_fpn_v2": ("box_score_thresh", 0.5),
    "fcos_resnet50_fpn": ("score_thresh", 0.6),
    "retinanet_resnet50_fpn": ("score_thresh", 0.5),
    "retinanet_resnet50_fpn_v2": ("score_thresh", 0.5),
    "ssd300_vgg16": ("score_thresh", 0.45),
    "ssdlite320_mobilenet_v3_large": ("score_thresh", 0.55),
}
"""torchvision's detectors of boxes, each with its name of the lowest score, and its overlap."""

_SYNONYMS = {
    "airplane": ("aeroplane",),
    "motorcycle": ("motorbike",),
    "couch": ("sofa",),
    "tv": ("tvmonitor", "television"),
    "dining table": ("diningtable",),
    "potted plant": ("pottedplant",),
}
"""Other names of COCO's categories, by which the classes of other data sets are matched."""

_UNUSED = ("__background__", "N/A")


def torchvision_detector(
    name: str, *, weights: str = "DEFAULT", checkpoint: str = "", categories: str = ""
) -> ObjectDetector:
    """Load a torchvision detector with its own post-processing.

    Parameters
    ----------
    name : str
        One of `TORCHVISION_DETECTORS`.
    weights : str
        torchvision's name of the weights, or ``none`` for random ones, to try out a pipeline.
    checkpoint : str
        A local file with a state dict that replaces the published weights.
    categories : str
        A file with the classes of the checkpoint, without the background, if they are not those of COCO.

    Raises
    ------
    FetchError
        If the weights cannot be fetched.
    InputError
        If the weights, the checkpoint or the file of categories do not exist, or do not match.
    """
    torch: Any = required("torch", f"The detector 'torchvision/{name}'")
    models: Any = required("torchvision.models", f"The detector 'torchvision/{name}'")
    published = _published(models, name, "DEFAULT" if weights == "none" else weights)
    own = read_classes(categories).keys if categories else None
    outputs = ["__background__", *own] if own else list(published.meta["categories"])
    module = _module(models, name, published, len(outputs), random=weights == "none", checkpoint=checkpoint)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module.eval().requires_grad_(False).to(device)
    classes, class_of = _classes(outputs, name)

    def detect(pixels: Any) -> Detections:
        with torch.inference_mode():
            (found,) = module([pixels.to(device).float() / 255])
        boxes, label, score = (found[key].cpu().numpy() for key in ("boxes", "labels", "scores"))
        of, (height, width) = class_of[label], pixels.shape[1:]  # boxes are in pixels, by descending score
        boxes, of, score = boxes[of >= 0], of[of >= 0], score[of >= 0].astype(np.float64)
        presence = np.zeros(len(classes), np.float32)
        np.maximum.at(presence, of, score.astype(np.float32))
        return Detections(boxes / np.array([width, height] * 2, np.float64), of, score, presence)

    is_random = weights == "none" and not checkpoint
    notes = (f"torchvision/{name} has random weights: its boxes are meaningless",) if is_random else ()
    about = {"weights": "random" if is_random else checkpoint or published.url}
    return ObjectDetector(
        f"torchvision/{name}", classes, detect, TORCHVISION_DETECTORS[name][1], 1, about, notes
    )


def _published(models: Any, name: str, tag: str) -> Any:
    kinds = models.get_model_weights(name)
    if tag not in kinds.__members__:
        raise InputError(
            f"torchvision has no weights {tag!r} for {name}.",
            allowed=", ".join([*dict.fromkeys(("DEFAULT", *kinds.__members__)), "none"]),
        )
    return kinds[tag]


def _module(models: Any, name: str, published: Any, n_outputs: int, *, random: bool, checkpoint: str) -> Any:
    options: dict[str, Any] = {TORCHVISION_DETECTORS[name][0]: LOWEST_SCORE}
    if random or checkpoint:
        module = models.get_model(name, weights=None, weights_backbone=None, num_classes=n_outputs, **options)
        if not checkpoint:
            return module
        allowed = f"a state dict of torchvision's {name}; categories='FILE' for classes other than COCO's"
        return with_checkpoint(module, checkpoint, "detector", allowed)
    return with_fetched(models, name, published, **options)


def _classes(outputs: list[str], name: str) -> tuple[ClassList, Any]:
    """Return the class list, and the class of each output; -1 for the background and unused numbers."""
    keys = [key for key in outputs if key not in _UNUSED]
    classes = replace(from_keys(keys, name), synonyms=tuple(_SYNONYMS.get(key, ()) for key in keys))
    at = {key: i for i, key in enumerate(keys)}
    return classes, np.array([at.get(key, -1) for key in outputs])


for _name in TORCHVISION_DETECTORS:
    register("detector", f"torchvision/{_name}", classes="COCO's 80, or own", source="pytorch.org")(
        partial(torchvision_detector, _name)
    )
