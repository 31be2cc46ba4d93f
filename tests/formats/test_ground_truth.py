"""SageMaker Ground Truth: output manifests as labels, and workers' answers as votes."""

import json

import pytest

from manyhot import read_labels, read_votes
from manyhot.errors import InputError, ManyhotError
from manyhot.formats import detect

BUCKET = "s3://bucket/voc/"
KINDS = "groundtruth/image-classification", "groundtruth/image-classification-multilabel"


def one(image, number, name, **more):
    about = {"class-name": name, "confidence": 0.9, "type": KINDS[0], "human-annotated": "yes"}
    return {"source-ref": f"{BUCKET}{image}", "species": number, "species-metadata": about | more}


def several(image, names, confidences):
    about = {"class-map": names, "confidence-map": confidences, "type": KINDS[1], "human-annotated": "yes"}
    numbers = [int(number) for number in names]
    return {"source-ref": f"{BUCKET}{image}", "tags": numbers, "tags-metadata": about}


def write(folder, *rows, name="output.manifest"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def sets(labels):
    keys = labels.class_list.keys
    rows = labels.table.select(["image_id", "classes"]).to_pylist()
    return {row["image_id"]: [keys[c] for c in row["classes"]] for row in rows}


@pytest.mark.parametrize("name", ["output.manifest", "output.jsonl", "output.json"])
def test_several_classes_per_image(tmp_path, name):
    names, confidences = {"1": "bicycle", "0": "person", "8": "clothing"}, {"1": 0.95, "0": 0.77, "8": 0.2}
    path = write(tmp_path, several("a.jpg", names, confidences), several("b.jpg", {}, {}), name=name)
    assert detect(path, ("labels",)).name == "ground-truth"
    labels = read_labels(path)
    assert labels.class_list.keys == ("bicycle", "clothing", "person")  # 2 to 7 are unknown
    assert sets(labels) == {"voc/a.jpg": ["bicycle", "person", "clothing"], "voc/b.jpg": []}
    assert "p" not in labels.table.column_names
    labels = read_labels(path, format="ground-truth(least=0.5, unlisted='no')")
    assert sets(labels)["voc/a.jpg"] == ["bicycle", "person"]
    assert labels.complete


def test_one_class_per_image(tmp_path):
    failed = {"source-ref": f"{BUCKET}c.jpg", "species-metadata": {"failure-reason": "ClientError"}}
    path = write(tmp_path, one("a.jpg", 1, "ant"), one("b.jpg", "0", "zebra"), failed)
    labels = read_labels(path)
    assert labels.class_list.keys == ("zebra", "ant")  # in the order of their numbers
    assert sets(labels) == {"voc/a.jpg": ["ant"], "voc/b.jpg": ["zebra"], "voc/c.jpg": []}
    assert labels.table["usable"].to_pylist() == [True, True, False]


def test_original_labels_of_one_class_per_image(tmp_path):
    labels = read_labels(write(tmp_path, one("a.jpg", 1, "ant"), one("b.jpg", 0, "zebra")))
    assert labels.table["label"].to_pylist() == [1, 0]


def refused(path, read=read_labels):
    with pytest.raises(InputError) as error:
        read(path)
    return str(error.value)


def test_manifests_that_are_refused(tmp_path):
    path = write(tmp_path, one("a.jpg", 1, "ant"), one("b.jpg", 1, "zebra"))
    assert refused(path) == (
        "The numbers and the names of classes differ between lines, as if two jobs were mixed.\n"
        f"  where:   {path}, image voc/b.jpg\n"
        "  got:     class 1 is zebra; it is ant on another line\n"
        "  do:      read the manifest of each job separately"
    )
    path = write(tmp_path, one("a.jpg", 1, "ant") | several("a.jpg", {"0": "x"}, {}))
    assert refused(path) == (
        f"The manifest has several label attributes.\n  where:   {path}\n  got:     species, tags\n"
        "  allowed: species, tags\n  do:      name it in `format`: ground-truth(attribute='species')"
    )
    assert sets(read_labels(path, format="ground-truth(attribute='tags')")) == {"voc/a.jpg": ["x"]}
    boxes = {"source-ref": "a", "b": {}, "b-metadata": {"type": "groundtruth/object-detection"}}
    assert refused(write(tmp_path, boxes)) == (
        f"The manifest contains no classes.\n  where:   {path}\n  got:     b\n"
        f"  allowed: metadata of the type {KINDS[0]} or {KINDS[1]}"
    )
    assert refused(write(tmp_path, one("a.jpg", True, "ant"))) == (
        f"This is not the number of a class.\n  where:   {path}, line 1\n  got:     True\n"
        "  allowed: whole numbers from 0"
    )


@pytest.mark.parametrize(
    "row",
    [
        one("a.jpg", 10**30, "ant"),
        one("a.jpg", -1, "ant"),
        one("a.jpg", [1, 1], "ant"),
        one("a.jpg", 1, None),
        one("a.jpg", 1, "ant", confidence=float("nan")),
        one("a.jpg", 1, "ant", **{"class-map": [1]}),
        {"source-ref": "x://[", "species": 1, "species-metadata": {"type": KINDS[0], "class-name": "ant"}},
    ],
)
def test_hostile_lines_are_refused(tmp_path, row):
    with pytest.raises(ManyhotError):
        read_labels(write(tmp_path, row))


def answers(image, **chosen):
    """Return the answers of workers to an image, in a file of the folder consolidation-request."""
    made = [
        {"workerId": worker, "annotationData": {"content": json.dumps(content)}}
        for worker, content in chosen.items()
    ]
    return {"datasetObjectId": "0", "dataObject": {"s3Uri": f"{BUCKET}{image}"}, "annotations": made}


def yes(votes):
    keys = votes.class_list.keys
    table = votes.to_table().to_pylist()
    return {(r["image_id"], r["rater_id"], keys[r["class_id"]]) for r in table if r["answer"] == "yes"}


def test_sets_of_workers(tmp_path):
    def chosen(*names):
        return {"crowd-image-classifier-multi-select": {"labels": names}}

    path = tmp_path / "2026-11-02_10:00:00.json"
    path.write_text(json.dumps([answers("a.jpg", w1=chosen("cat", "dog"), w2=chosen())]))
    assert detect(path).name == "ground-truth-answers"
    votes = read_votes(path)
    assert votes.kind == ""
    assert yes(votes) == {("voc/a.jpg", "w1", "cat"), ("voc/a.jpg", "w1", "dog")}
    assert len(votes) == 4


def test_one_class_of_workers(tmp_path):
    def chosen(name):
        return {"crowd-image-classifier": {"label": name}}

    path = tmp_path / "answers.json"
    path.write_text(json.dumps([answers("a.jpg", w1=chosen("cat"), w2=chosen("dog"))]))
    votes = read_votes(path)
    assert votes.kind == "one class"
    assert yes(votes) == {("voc/a.jpg", "w1", "cat"), ("voc/a.jpg", "w2", "dog")}


def test_answers_that_are_refused(tmp_path):
    path = tmp_path / "answers.json"
    path.write_text(json.dumps({"answers": [{"answerContent": {}, "workerId": "w"}]}))
    assert refused(path, read_votes) == (
        f"The file contains answers about an image, but does not name the image.\n  where:   {path}\n"
        "  got:     a file of the folder worker-response\n"
        "  do:      pass the files of the folder annotations/consolidated-annotation/consolidation-request"
    )
    good = answers("a.jpg", w1={"crowd-image-classifier": {"label": "cat"}})
    for broken in (
        good | {"dataObject": {"content": "a text"}},
        good | {"annotations": [{"annotationData": {"content": "{}"}}]},
        good | {"annotations": [{"workerId": "w", "annotationData": {"content": "[" * 9000}}]},
        good | {"annotations": [{"workerId": "w", "annotationData": {"content": "{}"}}]},
    ):
        path.write_text(json.dumps([broken]))
        with pytest.raises(ManyhotError):
            read_votes(path)
