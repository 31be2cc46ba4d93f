"""Questions keep their classes from a COCO file over findings and CSV to another tool, and back."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.special import expit

import manyhot as mh
from manyhot.data.inputs import Reading
from manyhot.errors import InputError
from manyhot.reassess.aggregate import aggregate
from manyhot.reassess.answers import VotesReading
from manyhot.reassess.propose import propose
from manyhot.tables import Images, Labels, Predictions

NAMES = ["person", "car", "TV, monitor", "chair"]
"""In the order of their numbers in COCO, which is not the order of the names."""


@pytest.fixture
def coco(tmp_path):
    """40 images with two classes each, and a model that finds one label wrong."""
    images = [{"id": i, "file_name": f"{i:02d}.jpg", "width": 8, "height": 8} for i in range(40)]
    pairs = [(i, c) for i in range(40) for c in {i % 4, (i // 4 + 1) % 4} | ({0} if i == 10 else set())]
    content = {
        "images": images,
        "categories": [{"id": 10 * c + 1, "name": name} for c, name in enumerate(NAMES)],
        "annotations": [
            {"id": n, "image_id": i, "category_id": 10 * c + 1, "bbox": [1, 1, 4, 4]}
            for n, (i, c) in enumerate(pairs)
        ],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    scores = np.full((40, 4), 0.05)
    scores[tuple(np.array([p for p in pairs if p != (10, 0)]).T)] = 0.95
    frame = pd.DataFrame(scores, columns=NAMES)
    frame.insert(0, "image_id", [image["file_name"] for image in images])
    frame[["image_id", *sorted(NAMES)]].to_csv(tmp_path / "net.csv", index=False)
    return path


def test_findings_of_coco_become_tasks_and_corrections(coco, tmp_path):
    reading = Reading(scores="probability")
    mh.find_label_issues(coco, [tmp_path / "net.csv"], reading=reading).write(tmp_path / "found")
    asked = propose(coco, findings=tmp_path / "found")
    row = {"image_id": "10.jpg", "class_id": 0, "class_name": "person"}
    assert [{key: r[key] for key in row} for r in asked.table.to_pylist()] == [row]
    for name in ("questions.csv", "questions.parquet"):
        asked.write(tmp_path / name)
        for classes in (None, coco):
            mh.convert(tmp_path / name, tmp_path / "tasks.json", to="label-studio", classes=classes)
            (task,) = json.loads((tmp_path / "tasks.json").read_text())
            assert task["data"]["classes"] == [{"value": "person"}]
    questions = pd.read_csv(tmp_path / "questions.csv")
    for columns in (["class_id"], ["class_name"], ["class_id", "class_name"]):
        votes = questions[["image_id", *columns]].assign(rater_id="ann", answer="no")
        votes.to_csv(tmp_path / "votes.csv", index=False)
        for reading in (None, VotesReading(classes=coco)):
            options = {} if reading is None else {"reading": reading}
            for given in [tmp_path / "votes.csv", *([votes] if "class_id" in columns else [])]:
                found = aggregate(given, labels=coco, **options)
                assert found.changes.to_pylist() == [
                    {"image_id": "10.jpg", "class_id": 0, "before": "yes", "after": "no"}
                ]


def test_findings_that_number_classes_otherwise_are_noted(coco, tmp_path):
    findings = pd.DataFrame(
        {"kind": ["doubtful-label"], "image_id": ["10.jpg"], "class_a": [3], "name_a": ["person"]}
    )
    found = propose(coco, findings=findings)
    assert found.table["class_id"].to_pylist() == [0]
    assert found.notes == (
        "the findings number the classes in a different order from instances, so the classes were matched by "
        "name",
    )


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("image_id,class_a,class_b,score", ('10.jpg,"",chair,1.0', "11.jpg,car,,0.5")),
        ("image_id,class_a,class_b,score", ("10.jpg,,3,1.0", '11.jpg,1,"",0.5')),
        ("image_id,class_a,name_a", ("10.jpg,3,chair", "11.jpg,1,car")),
    ],
)
def test_findings_of_ones_own_name_or_number_their_classes(coco, tmp_path, header, rows):
    (tmp_path / "own.csv").write_text("\n".join([header, *rows]) + "\n")
    found = propose(coco, findings=tmp_path / "own.csv").table.to_pylist()
    assert sorted((row["image_id"], row["class_id"]) for row in found) == [("10.jpg", 3), ("11.jpg", 1)]


def test_findings_with_names_of_unknown_classes(coco, tmp_path):
    (tmp_path / "own.csv").write_text("image_id,class_b\n10.jpg,chair\n11.jpg,sofa\n")
    with pytest.raises(InputError) as error:
        propose(coco, findings=tmp_path / "own.csv")
    assert "  where:   `findings`, column class_b\n  got:     sofa\n" in str(error.value)


def test_several_findings_on_an_image_with_another_extension(coco):
    """An id that occurs twice was taken for two ids of the same image."""
    findings = pd.DataFrame(
        {"kind": ["doubtful-label"] * 3, "image_id": ["10", "10", "11"], "class_a": [0, 1, 2]}
    )
    found = propose(coco, findings=findings)
    pairs = [(row["image_id"], row["class_id"]) for row in found.table.to_pylist()]
    assert sorted(pairs) == [("10.jpg", 0), ("10.jpg", 1), ("11.jpg", 2)]
    assert found.notes == (
        "the findings: 2 images are matched without regard to extensions, such as 10 with 10.jpg",
    )


IDS = ["a.jpg", "b.jpg"]
LOGITS = np.array([[2.0, 1.0, -1.0, -4.0], [-3.0, -2.5, 0.5, -4.0]], np.float32)


def dense(**more):
    options = {"score_kind": "logit", "n_classes": 4} | more
    return Predictions(pa.array(IDS), "net", scores=LOGITS, **options)


def asked(label=None, known=None, **more):
    columns = {"image_id": pa.array(IDS)} | ({} if label is None else {"label": pa.array(label, pa.int32())})
    images = Images(pa.table(columns), "photos")
    found = propose(images, [dense(**more)], "union(threshold=0.2)", known_labels=known, leave_out="nothing")
    return found, [(r["image_id"], r["class_id"]) for r in found.table.to_pylist()]


SIGMOIDS = [("a.jpg", 0), ("a.jpg", 1), ("a.jpg", 2), ("b.jpg", 2)]
"""Sigmoids of at least 0.2: 0.88, 0.73, 0.27; 0.62. Of the softmax, 0.04 is too little for the third."""


@pytest.mark.parametrize(
    ("label", "link", "expected"),
    [
        (None, "", SIGMOIDS),  # images without original labels, as in `evaluate`
        (None, "softmax", [p for p in SIGMOIDS if p != ("a.jpg", 2)]),
        ([0, 2], "", [p for p in SIGMOIDS if p != ("a.jpg", 2)]),
        ([0, 2], "sigmoid", SIGMOIDS),
    ],
)
def test_logits_become_probabilities_by_the_link(label, link, expected):
    found, pairs = asked(label, link=link)
    assert pairs == expected
    if expected is SIGMOIDS:
        p = expit(LOGITS)[[0, 0, 0, 1], [0, 1, 2, 2]]
        assert found.table["p"].to_pylist() == pytest.approx(p.tolist(), rel=1e-6)


def test_links_can_be_declared_for_the_call(tmp_path):
    labels = Labels(
        pa.table({"image_id": IDS, "usable": [True] * 2, "classes": [[0], [2]], "state": [["yes"]] * 2}), 4
    )
    found = [
        propose(labels, [dense()], "union(threshold=0.2)", leave_out="nothing", reading=Reading(links=link))
        for link in ("sigmoid", "softmax")
    ]
    assert [len(one) for one in found] == [4, 3]


def test_only_probable_classes_are_preselected_with_one_model(tmp_path):
    images = Images(pa.table({"image_id": IDS}), "photos")
    found = propose(images, [dense()], "union(threshold=0.2)", reading=Reading(classes=NAMES))
    assert set(found.table["score"].to_pylist()) == {1.0}  # the share of models
    found.write(tmp_path / "questions.parquet")
    mh.convert(tmp_path / "questions.parquet", tmp_path / "tasks.json", to="label-studio(checked=0.5)")
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    chosen = [t["predictions"][0]["result"][0]["value"]["choices"] for t in tasks]
    assert [sorted(names) for names in chosen] == [["car", "person"], ["TV, monitor"]]


def test_the_probability_of_a_question_is_the_mean_over_models():
    two = [
        Predictions(pa.array(IDS), name, scores=s, score_kind="probability", n_classes=2)
        for name, s in (
            ("one", np.array([[0.9, 0.1], [0.3, 0.2]], np.float32)),
            ("two", np.array([[0.5, 0.7], [0.1, 0.8]], np.float32)),
        )
    ]
    found = propose(Images(pa.table({"image_id": IDS}), "photos"), two, "union", leave_out="nothing")
    rows = [(r["image_id"], r["class_id"], round(r["p"], 6)) for r in found.table.to_pylist()]
    assert rows == [("a.jpg", 0, 0.7), ("a.jpg", 1, 0.4), ("b.jpg", 0, 0.2), ("b.jpg", 1, 0.5)]
