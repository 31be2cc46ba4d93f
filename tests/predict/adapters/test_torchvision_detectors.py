"""Detectors of torchvision: what manyhot returns is what torchvision returns."""

import numpy as np
import pytest

from manyhot.errors import InputError, UnknownNameError
from manyhot.predict.adapters.torchvision_detectors import TORCHVISION_DETECTORS
from manyhot.predict.detector import best_boxes, find_detector

torch = pytest.importorskip("torch")
models = pytest.importorskip("torchvision.models")

SMALL = ("ssdlite320_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn")


def pixels(height=48, width=64):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, height, width), np.uint8))


@pytest.fixture(params=SMALL)
def checkpoint(request, tmp_path):
    """The name of a detector, its weights in a file, and torchvision's module with its post-processing."""
    torch.manual_seed(0)
    lowest = TORCHVISION_DETECTORS[request.param][0]
    module = models.get_model(request.param, weights=None, weights_backbone=None, **{lowest: 0.01}).eval()
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if weight.ndim > 1 and ("head" in name or "predictor" in name):
                weight.mul_(4)  # random weights are sure of nothing
    torch.save(module.state_dict(), tmp_path / "weights.pth")
    return request.param, tmp_path / "weights.pth", module


def test_boxes_are_those_of_torchvision(checkpoint):
    name, path, module = checkpoint
    detector = find_detector(f"torchvision/{name}(checkpoint={str(path)!r})")
    image = pixels()
    found = detector.detect(image)
    with torch.inference_mode():
        (theirs,) = module([image / 255])
    categories = models.get_model_weights(name).DEFAULT.meta["categories"]
    labels = [categories[i] for i in theirs["labels"]]
    used = np.array([label not in ("__background__", "N/A") for label in labels])
    assert used.sum() > 5
    assert [detector.classes.keys[c] for c in found.class_id] == list(np.array(labels)[used])
    np.testing.assert_allclose(found.score, theirs["scores"].numpy()[used], rtol=1e-5)
    np.testing.assert_allclose(
        found.boxes * [64, 48, 64, 48], theirs["boxes"].numpy()[used], rtol=1e-4, atol=1e-3
    )
    for class_id in range(len(detector.classes)):
        assert found.presence[class_id] == np.float32(found.score[found.class_id == class_id].max(initial=0))


def test_the_classes_are_cocos_80_with_other_names():
    detector = find_detector("torchvision/ssdlite320_mobilenet_v3_large(weights='none')")
    assert len(detector.classes) == 80
    assert detector.classes.keys[detector.classes.index("tvmonitor")] == "tv"
    assert detector.notes == (
        "torchvision/ssdlite320_mobilenet_v3_large has random weights: its boxes are meaningless",
    )


def test_own_categories(tmp_path):
    (tmp_path / "own.txt").write_text("nut\nbolt\n")
    name = "ssdlite320_mobilenet_v3_large"
    torch.save(
        models.get_model(name, weights=None, weights_backbone=None, num_classes=3).state_dict(),
        tmp_path / "own.pth",
    )
    options = f"checkpoint={str(tmp_path / 'own.pth')!r}, categories={str(tmp_path / 'own.txt')!r}"
    detector = find_detector(f"torchvision/{name}({options})")
    assert detector.classes.keys == ("nut", "bolt")
    assert len(detector.detect(pixels()).presence) == 2
    with pytest.raises(InputError) as caught:
        find_detector(f"torchvision/{name}(checkpoint={str(tmp_path / 'own.pth')!r})")
    assert str(caught.value).startswith("The checkpoint cannot be loaded into the detector.\n")
    assert "categories='FILE' for classes other than COCO's" in str(caught.value)


def test_names_and_weights_that_do_not_exist():
    with pytest.raises(UnknownNameError, match=r"did you mean 'torchvision/retinanet_resnet50_fpn'"):
        find_detector("torchvision/retinanet_resnet50")
    with pytest.raises(InputError) as caught:
        find_detector("torchvision/ssd300_vgg16(weights='V9')")
    assert str(caught.value) == (
        "torchvision has no weights 'V9' for ssd300_vgg16.\n  allowed: DEFAULT, COCO_V1, none"
    )
    with pytest.raises(InputError) as caught:
        find_detector("torchvision/ssd300_vgg16(checkpoint='absent.pth')")
    assert str(caught.value) == "The checkpoint does not exist.\n  where:   absent.pth"


@pytest.mark.parametrize("name", TORCHVISION_DETECTORS)
def test_the_overlaps_are_torchvisions_defaults(name):
    """Read off its signatures, so that a new release that changes one is noticed."""
    import inspect

    detection = models.detection
    kinds = {
        "fasterrcnn": (detection.FasterRCNN, "box_nms_thresh"),
        "fcos": (detection.FCOS, "nms_thresh"),
        "retinanet": (detection.RetinaNet, "nms_thresh"),
        "ssd300": (detection.ssd.SSD, "nms_thresh"),
    }
    kind, option = kinds.get(name.partition("_")[0], (None, ""))
    if kind is None:  # ssdlite sets its own
        source = inspect.getsource(detection.ssdlite320_mobilenet_v3_large)
        assert f'"nms_thresh": {TORCHVISION_DETECTORS[name][1]}' in source
    else:
        assert inspect.signature(kind).parameters[option].default == TORCHVISION_DETECTORS[name][1]


def test_best_boxes_are_those_of_each_class():
    boxes = np.array([[0, 0, 1, 1], [0, 0, 1, 0.9], [0, 0, 1, 0.8], [0.5, 0.5, 0.6, 0.6]])
    kept = best_boxes(boxes, np.array([0, 0, 1, 0]), np.array([0.5, 0.9, 0.4, 0.1]), 0.5)
    assert kept.tolist() == [1, 2, 3]
