"""The JSON of SpeciesNet and MegaDetector; reference: scikit-learn and plain Python on the same content."""

import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

import manyhot
from manyhot import read_predictions
from manyhot.errors import InputError
from manyhot.formats import detect

COYOTE = "8fab7abb;mammalia;carnivora;canidae;canis;latrans;coyote"
BLANK = "9810dac2;;;;;;blank"
DEER = "11111111;mammalia;artiodactyla;cervidae;;;deer"
OTHER_DEER = "22222222;mammalia;artiodactyla;tragulidae;;;deer"


def species(path, found, **more):
    entries = [
        {"filepath": f"images/{name}", "classifications": {"classes": labels, "scores": scores}} | more
        for name, labels, scores in found
    ]
    failed = {"filepath": "images/broken.jpg", "failures": ["CLASSIFIER"]}
    path.write_text(json.dumps({"predictions": [*entries, failed]}, indent=1))
    return path


@pytest.mark.parametrize("more", [{}, {"detections": [{"category": "1", "conf": 0.8, "bbox": [0, 0, 1, 1]}]}])
def test_the_classes_of_speciesnet_have_common_names_and_probabilities(tmp_path, more):
    more |= {"prediction": COYOTE, "prediction_score": 0.75, "model_version": "4.0.1a"}
    found = [("a.jpg", [COYOTE, BLANK], [0.75, 0.125]), ("b.jpg", [BLANK], [0.5])]
    predictions = read_predictions(species(tmp_path / "speciesnet.json", found, **more))
    keys = predictions.class_list.keys
    assert predictions.image_id.to_pylist() == ["images/a.jpg", "images/b.jpg"]
    assert [[keys[c] for c in row if c >= 0] for row in predictions.classes] == [
        ["coyote", "blank"],
        ["blank"],
    ]
    assert predictions.scores[0].tolist() == [0.75, 0.125]
    assert (predictions.model, predictions.score_kind) == ("speciesnet", "probability")


def test_labels_that_share_a_common_name_are_kept_whole(tmp_path):
    found = [("a.jpg", [DEER, OTHER_DEER, COYOTE, "33333333;mammalia;;;;;"], [0.4, 0.3, 0.2, 0.1])]
    predictions = read_predictions(species(tmp_path / "p.json", found))
    assert set(predictions.class_list.keys) == {DEER, OTHER_DEER, "coyote", "33333333;mammalia;;;;;"}


def detections(path, images, first="info"):
    parts = {
        "info": {"detector": "md_v5a.0.0.pt", "format_version": "1.3"},
        "detection_categories": {"1": "animal", "2": "person", "3": "vehicle"},
        "images": images,
    }
    path.write_text(json.dumps({first: parts.pop(first)} | parts))
    return path


def box(category, conf):
    return {"category": category, "conf": conf, "bbox": [0.1, 0.2, 0.3, 0.4], "classifications": [["0", 0.6]]}


def photographs(n):
    """Up to three boxes of each image, and the highest confidence of each category by a plain loop."""
    rng = np.random.default_rng(0)
    images, highest = [], np.zeros((n, 3))
    for i in range(n):
        boxes = [(int(rng.integers(3)), round(float(rng.random()), 3)) for _ in range(rng.integers(4))]
        for category, conf in boxes:
            highest[i, category] = max(highest[i, category], conf)
        images.append({"file": f"{i}.jpg", "detections": [box(str(c + 1), conf) for c, conf in boxes]})
    return images, highest


@pytest.mark.parametrize("first", ["info", "images", "detection_categories"])
def test_each_category_of_megadetector_has_its_highest_confidence(tmp_path, first):
    images, highest = photographs(40)
    failed = [{"file": "x.jpg", "failure": "image access"}, {"file": "y.jpg", "detections": None}]
    path = detections(tmp_path / "md.json", images + failed, first)
    predictions = read_predictions(path)
    assert predictions.class_list.keys == ("animal", "person", "vehicle")
    assert predictions.image_id.to_pylist() == [f"{i}.jpg" for i in range(40)]
    np.testing.assert_array_equal(predictions.scores, highest.astype(np.float32))
    assert detect(path).name == "megadetector"  # no labels in COCO's format


def test_average_precision_of_megadetector(tmp_path):
    images, highest = photographs(60)
    valid = np.random.default_rng(1).random((60, 3)) < 0.3 + 0.4 * (highest > 0.5)
    names = np.array(["animal", "person", "vehicle"])
    rows = "".join(f"{i}.jpg,{';'.join(names[row])}\n" for i, row in enumerate(valid))
    (tmp_path / "labels.csv").write_text(f"image_id,labels\n{rows}")
    path = detections(tmp_path / "md.json", images)
    found = manyhot.evaluate(tmp_path / "labels.csv", path, metrics=["map_macro"], resamples=0)
    expected = np.mean(
        [average_precision_score(valid[:, c], highest[:, c].astype(np.float32)) for c in range(3)]
    )
    assert found.value("map_macro") == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("content", "tool"),
    [
        (
            {"predictions": [{"filepath": "a", "classifications": {"classes": ["b"], "scores": []}}]},
            "SpeciesNet",
        ),
        (
            {"images": [{"file": "a", "detections": [box("7", 1)]}], "detection_categories": {}},
            "MegaDetector",
        ),
        ({"images": [{"file": "a", "detections": [{"conf": 1}]}]}, "MegaDetector"),
    ],
)
def test_entries_that_are_broken(tmp_path, content, tool):
    (tmp_path / "p.json").write_text(json.dumps(content))
    with pytest.raises(InputError) as error:
        read_predictions(tmp_path / "p.json")
    assert str(error.value).startswith(f"An entry is not in the format of {tool}.\n  where:   {tmp_path}")


def test_files_without_predictions(tmp_path):
    species(tmp_path / "p.json", [])
    with pytest.raises(InputError, match=r"^The file of SpeciesNet contains no predictions\."):
        read_predictions(tmp_path / "p.json")
