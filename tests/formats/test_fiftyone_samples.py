"""FiftyOne's exported samples: labels, predictions, and findings as tags."""

import json

import numpy as np
import pyarrow as pa
import pytest

from manyhot import read_labels, read_predictions
from manyhot.classes import from_keys
from manyhot.data.convert import convert
from manyhot.errors import MatchError
from manyhot.formats.writing import save
from manyhot.tables import write


def one(label, confidence=None):
    return {
        "_id": {"$oid": "5f0e"},
        "_cls": "Classification",
        "tags": [],
        "label": label,
        "confidence": confidence,
        "logits": None,
    }


def several(*labels):
    return {"_cls": "Classifications", "classifications": [one(*label) for label in labels], "logits": None}


def boxes(*labels):
    detections = [{"_cls": "Detection", "label": k, "bounding_box": [0, 0, 0.5, 0.5]} for k in labels]
    return {"_cls": "Detections", "detections": detections}


def sample(name, **fields):
    start = {"_id": {"$oid": name}, "filepath": f"data/{name}.jpg", "tags": ["val"], "metadata": None}
    return start | {"_media_type": "image", "_rand": 0.5} | fields


SAMPLES = [
    sample("a", ground_truth=several(("dog",), ("cat",)), resnet50=several(("cat", 0.25), ("dog", 0.75))),
    sample("b", ground_truth=several(), resnet50=several(("horse", 0.5))),
    sample("c", ground_truth=None, resnet50=None),
]


def export(folder, samples=SAMPLES, **about):
    folder.mkdir(exist_ok=True)
    (folder / "samples.json").write_text(json.dumps({"samples": samples}))
    (folder / "metadata.json").write_text(json.dumps({"name": "x", "version": "1.22.1"} | about))
    return folder


def test_labels(tmp_path):
    labels = read_labels(export(tmp_path / "export"))
    assert labels.image_id.to_pylist() == ["a.jpg", "b.jpg", "c.jpg"]
    assert (labels.class_list.keys, labels.class_list.is_complete) == (("cat", "dog"), False)
    assert labels.table["classes"].to_pylist() == [[1, 0], [], []]
    assert labels.table["usable"].to_pylist() == [True, True, False]
    assert "p" not in labels.table.column_names
    alone = read_labels(tmp_path / "export" / "samples.json")
    assert alone.table.equals(labels.table)


def test_classes_that_the_data_set_lists(tmp_path):
    folder = export(tmp_path, classes={"ground_truth": ["horse", "dog", "cat"]}, default_classes=["x"])
    labels = read_labels(folder)
    assert (labels.class_list.keys, labels.class_list.is_complete) == (("horse", "dog", "cat"), True)
    assert labels.table["classes"].to_pylist() == [[1, 2], [], []]
    own = from_keys(("cat", "dog"))
    assert read_labels(folder, classes=own).class_hash == own.hash


def test_other_fields(tmp_path, message):
    samples = [sample("a", tagged=one("cat", 0.5), objects=boxes("dog", "cat", "dog"))]
    path = export(tmp_path, samples)
    assert message(lambda: read_labels(path)) == (
        "The field with the labels is ambiguous.\n"
        f"  where:   {path}\n  got:     tagged, objects\n  allowed: tagged, objects\n"
        "  do:      choose one: format=\"fiftyone-samples(field='tagged')\""
    )
    tagged = read_labels(path, format="fiftyone-samples(field='tagged')")
    assert tagged.table.select(["label", "classes", "p"]).to_pylist() == [
        {"label": 0, "classes": [0], "p": [0.5]}
    ]
    objects = read_labels(path, format="fiftyone-samples(field='objects')")
    assert objects.table["classes"].to_pylist() == [[1, 0]]
    assert "do not have this field" in message(
        lambda: read_labels(path, format="fiftyone-samples(field='z')")
    )


def test_predictions(tmp_path):
    path = export(tmp_path) / "samples.json"
    found = read_predictions(path, format="fiftyone-predictions(field='resnet50')")
    assert (found.model, found.score_kind) == ("resnet50", "probability")
    assert found.image_id.to_pylist() == ["a.jpg", "b.jpg"]  # c has no prediction
    assert found.class_list.keys == ("cat", "dog", "horse")
    assert found.classes.tolist() == [[1, 0], [2, -1]]
    assert found.scores.tolist() == [[0.75, 0.25], [0.5, -np.inf]]


def test_dense_predictions(tmp_path):
    path = export(tmp_path, [sample("a", predictions=several(("dog", 0.75), ("cat", 0.5)))]) / "samples.json"
    found = read_predictions(path)
    assert found.is_dense
    assert found.scores.tolist() == [[0.5, 0.75]]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            several(("cat", 1.5)),
            "This is not a confidence.\n  where:   {}, sample 0\n  got:     1.5\n  allowed: 0 to 1",
        ),
        (several(("cat",)), "A prediction has no confidence.\n  where:   {}, sample 0\n  got:     'cat'"),
        (several((7, 0.5)), "An entry is not a label.\n  where:   {}, sample 0\n"),
    ],
)
def test_predictions_that_are_refused(tmp_path, message, value, said):
    path = export(tmp_path, [sample("a", predictions=value)]) / "samples.json"
    assert message(lambda: read_predictions(path)).startswith(said.format(path))


FINDINGS = {
    "kind": ["doubtful-label", "missing-label", "doubtful-label", "confused"],
    "image_id": ["a.jpg", "a.jpg", "z.jpg", None],
}


def test_findings_become_tags(tmp_path):
    """The file that FiftyOne exported differs in tags only, as it is imported as a whole."""
    path = export(tmp_path / "export") / "samples.json"
    write(pa.table(FINDINGS), tmp_path / "findings.parquet", "findings")
    done = convert(
        tmp_path / "findings.parquet", tmp_path / "tagged.json", to=f"fiftyone-samples(samples={str(path)!r})"
    )
    before = json.loads(path.read_text())["samples"]
    after = json.loads((tmp_path / "tagged.json").read_text())["samples"]
    assert [s.pop("tags") for s in after] == [["val", "doubtful-label", "missing-label"], ["val"], ["val"]]
    assert [{k: v for k, v in s.items() if k != "tags"} for s in before] == after
    assert done.notes == (
        "tagged.json does not contain findings on 1 image without a sample, findings on classes, "
        "the evidence of findings",
    )
    assert read_labels(tmp_path / "tagged.json").table.equals(read_labels(path).table)


def test_tags_that_are_refused(tmp_path, message):
    path = export(tmp_path) / "samples.json"
    table = pa.table({"kind": ["x"], "image_id": ["z.jpg"]})
    to = f"fiftyone-samples(samples={str(path)!r})"
    assert message(lambda: save(table, tmp_path / "t.json", to, holds="findings"), MatchError) == (
        f"No finding is about an image of the samples.\n  where:   {path}\n"
        "  got:     images such as a.jpg, b.jpg\n  allowed: images such as z.jpg"
    )
    assert message(lambda: save(table, tmp_path / "t.json", "fiftyone-samples", holds="findings")) == (
        f"Tags can be added only to samples that FiftyOne exported.\n  where:   {tmp_path / 't.json'}\n"
        "  do:      pass them in `to`: \"fiftyone-samples(samples='export/samples.json')\""
    )
    (tmp_path / "l.json").write_text('{"samples": [{"path": 1}]}')
    assert message(lambda: read_labels(tmp_path / "l.json")) == (
        f"The file does not contain FiftyOne samples.\n  where:   {tmp_path / 'l.json'}\n"
        "  allowed: an object with 'samples', a list of objects with 'filepath'"
    )
