"""SSD MobileNetV2: decoding against a plain loop, and the adapter on a made-up network.

``benchmarks/detector.py`` runs the real weights, which are 33 MB to download.
"""

import hashlib
import io
import math
import tarfile

import numpy as np
import pytest

from manyhot.core.detection import AnchorLayout
from manyhot.errors import InputError
from manyhot.predict.adapters import objectron
from manyhot.predict.adapters.objectron import CLASSES, class_list_of_objectron, detections_of
from manyhot.predict.detector import find_detector

openvino = pytest.importorskip("openvino")
torch = pytest.importorskip("torch")

N, C = 1917, len(CLASSES)
ANCHORS = AnchorLayout().anchors()


def network(path, offsets, logits):
    """Write a network with the inputs and outputs of the real one.

    The logits of the person are raised by the mean of the red channel, between -1 and 1.
    """
    ops = openvino.opset13
    image = ops.parameter([1, 300, 300, 3], np.float32, name="image")
    red = ops.reduce_mean(
        ops.strided_slice(image, [0, 0, 0, 0], [1, 300, 300, 1], [1, 1, 1, 1], [], []),
        np.array([1, 2, 3]),
        keep_dims=False,
    )
    person = np.zeros((1, N, 1 + C), np.float32)
    person[:, :, 1 + CLASSES.index("Person")] = 1
    raised = ops.add(ops.constant(logits[None]), ops.multiply(ops.constant(person), red))
    boxes = ops.add(ops.constant(offsets[None]), ops.multiply(red, ops.constant(np.float32(0))))
    openvino.save_model(openvino.Model([boxes, raised], [image]), str(path), compress_to_fp16=False)
    return path


def outputs():
    rng = np.random.default_rng(1)
    offsets = rng.normal(scale=0.3, size=(N, 4)).astype(np.float32)
    logits = np.full((N, 1 + C), -9, np.float32)
    rows = rng.choice(N, 60, replace=False)
    logits[rows, rng.integers(0, 1 + C, 60)] = rng.uniform(-3, 3, 60)
    return offsets, logits


def by_loops(offsets, logits, overlap):
    """Return boxes by descending score, decoded and suppressed one by one."""
    found = []
    for (ty, tx, th, tw), (y, x, h, w), row in zip(offsets.tolist(), ANCHORS.tolist(), logits, strict=True):
        cy, cx = ty / 10 * h + y, tx / 10 * w + x
        high, wide = math.exp(th / 5) * h, math.exp(tw / 5) * w
        box = [min(max(v, 0), 1) for v in (cx - wide / 2, cy - high / 2, cx + wide / 2, cy + high / 2)]
        for class_id, logit in enumerate(row[1:].tolist()):
            score = 1 / (1 + math.exp(-logit))
            if score >= 0.01:
                found.append((score, class_id, box))
    kept = []
    for score, class_id, box in sorted(found, key=lambda one: -one[0]):
        if all(class_id != other or iou(box, b) <= overlap for _, other, b in kept):
            kept.append((score, class_id, box))
    return kept[:100]


def iou(a, b):
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    area = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(area) - width * height)


@pytest.mark.parametrize("overlap", [0.1, 0.5])
def test_outputs_are_decoded_as_by_loops(overlap):
    offsets, logits = outputs()
    found = detections_of(offsets, logits, ANCHORS, overlap)
    wanted = by_loops(offsets, logits, overlap)
    assert found.class_id.tolist() == [class_id for _, class_id, _ in wanted]
    np.testing.assert_allclose(found.score, [score for score, _, _ in wanted], rtol=1e-6)
    np.testing.assert_allclose(found.boxes, [box for _, _, box in wanted], atol=1e-6)


def test_presence_is_the_highest_score_anywhere():
    offsets, logits = outputs()
    presence = detections_of(offsets, logits, ANCHORS, 0.5).presence
    np.testing.assert_allclose(presence, 1 / (1 + np.exp(-logits[:, 1:].max(axis=0))), rtol=1e-6)


def test_a_network_gets_pixels_between_minus_one_and_one(tmp_path):
    offsets, logits = outputs()
    logits[:, 1:] = -9
    logits[7, 1 + CLASSES.index("Person")] = 0
    path = network(tmp_path / "net.xml", offsets, logits)
    detector = find_detector(f"objectron-ssd(file={str(path)!r})")
    for value, shift in ((0, -1), (255, 1), (51, -0.6)):
        image = torch.full((3, 20, 31), value, dtype=torch.uint8)
        found = detector.detect(image)
        assert [detector.classes.keys[c] for c in found.class_id] == ["Person"]
        assert found.score[0] == pytest.approx(1 / (1 + math.exp(-shift)), abs=1e-3)


def test_a_network_with_other_outputs(tmp_path):
    offsets, logits = outputs()
    path = network(tmp_path / "net.xml", offsets, logits)
    graph = openvino.Core().read_model(path)
    graph = openvino.Model(graph.results[:1], graph.get_parameters())
    other = tmp_path / "other.xml"
    openvino.save_model(graph, str(other))
    with pytest.raises(InputError) as caught:
        find_detector(f"objectron-ssd(file={str(other)!r})")
    assert str(caught.value) == (
        "The network does not have the outputs of this detector.\n"
        f"  where:   {other}\n"
        "  got:     [1917, 4]\n"
        "  allowed: boxes [1917, 4] and logits [1917, 24] of each image"
    )


def test_an_overlap_that_is_no_share():
    with pytest.raises(InputError, match=r"^The overlap is not a share"):
        find_detector("objectron-ssd(overlap=2)")


def test_classes_have_the_names_that_others_use():
    classes = class_list_of_objectron()
    assert classes.keys[classes.index("cow")] == "Cattle"
    assert classes.keys[classes.index("tvmonitor")] == "Computer monitor"
    assert len(classes) == 23


def test_the_network_is_unpacked_from_the_package_once(tmp_path, monkeypatch):
    """Only the part behind the label map, and only if the cache does not hold it."""
    content = b"TFL3"
    archive = tmp_path / "package.tgz"
    with tarfile.open(archive, "w:gz") as packed:
        member = tarfile.TarInfo(objectron._MEMBER)
        member.size = objectron._START + len(content)
        packed.addfile(member, io.BytesIO(b"?" * objectron._START + content))
    fetched = []
    monkeypatch.setattr(objectron, "fetch_file", lambda *names: fetched.append(names) or archive)
    monkeypatch.setattr(objectron, "_SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.setenv("MANYHOT_CACHE", str(tmp_path / "cache"))
    for _ in range(2):
        assert objectron._network_file().read_bytes() == content
    assert fetched == [("objectron", "objectron-0.4.1675468480.tgz")]
