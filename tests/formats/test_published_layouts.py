"""Published files with small oddities: empty columns, tabs in text files, metadata beside images."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from manyhot import read_labels, read_objects, read_predictions
from manyhot.errors import InputError

BOXES = """Image Index,Finding Label,Bbox [x,y,w,h],,,
1.png,Atelectasis,225.0,547.0,86.7,79.5,,,
2.png,Mass,225.0,547.0,86.7,79.5,,,
2.png,Nodule,25.0,47.0,86.7,79.5,,,
2.png,Nodule,95.0,47.0,86.7,79.5,,,
"""


def sets(labels):
    keys = labels.class_list.keys
    rows = zip(
        labels.image_id.to_pylist(),
        labels.table["classes"].to_pylist(),
        labels.table["state"].to_pylist(),
        strict=True,
    )
    return {i: {keys[c] for c, s in zip(cs, states, strict=True) if s == "yes"} for i, cs, states in rows}


def test_columns_without_name_and_content_are_ignored(tmp_path):
    path = tmp_path / "BBox_List_2017.csv"
    path.write_text(BOXES)  # the header of the NIH ends in three commas
    assert sets(read_labels(path)) == {"1.png": {"Atelectasis"}, "2.png": {"Mass", "Nodule"}}
    path.write_text("image,cat,dog,,,\na,1,0,,,\nb,0,1,,,\n")
    assert sets(read_labels(path)) == {"a": {"cat"}, "b": {"dog"}}
    path.write_text("image,cat,dog,,\na,1,0,,3\nb,0,1,2,\n")  # their content has no name
    with pytest.raises(InputError, match="two columns with the same name"):
        read_labels(path)


@pytest.mark.parametrize("name", ["LandUse_Multilabeled.txt", "LandUse_Multilabeled.tsv"])
def test_text_files_with_tabs_and_a_header_are_tables(tmp_path, name):
    states = pd.DataFrame(
        [[0, 1, 0], [1, 0, 0], [1, 1, 1]],
        pd.Index(["agricultural00", "agricultural01", "airplane00"], name="IMAGE\\LABEL"),
        ["airplane", "bare-soil", "cars"],
    )
    states.to_csv(tmp_path / name, sep="\t")
    expected = {i: {c for c in states.columns if states.loc[i, c]} for i in states.index}
    assert sets(read_labels(tmp_path / name)) == expected


def image_folder(path, splits):
    for split in splits:
        (path / split).mkdir(parents=True)
        rows = []
        for i in range(3):
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path / split / f"{i}.jpg")
            rows.append(json.dumps({"file_name": f"{i}.jpg", "labels": ["haze", "primary"][: i + 1]}))
        (path / split / "metadata.jsonl").write_text("\n".join(rows))


@pytest.mark.parametrize("splits", [["test"], ["train", "test"]])
def test_splits_with_metadata_are_no_classes(tmp_path, splits):
    image_folder(tmp_path / "f", splits)
    with pytest.raises(InputError, match=r"pass .*metadata\.jsonl"):
        read_labels(tmp_path / "f")
    with pytest.raises(InputError, match=r"pass .*test/metadata\.jsonl"):
        read_labels(tmp_path / "f" / "test")
    both = {"haze", "primary"}
    read = sets(read_labels(tmp_path / "f" / "test" / "metadata.jsonl"))
    assert read == {"0.jpg": {"haze"}, "1.jpg": both, "2.jpg": both}


def test_metadata_beside_class_folders_leave_the_classes(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name / f"{name}.jpg")
    (tmp_path / "metadata.csv").write_text("file_name,label\ncat/cat.jpg,x\n")
    assert sets(read_labels(tmp_path)) == {"cat.jpg": {"cat"}, "dog.jpg": {"dog"}}


def test_empty_boxes_in_coco(tmp_path):
    outline = [[1, 2, 5, 2, 5, 6]]
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 10, "height": 20} for i in (1, 2)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [], "segmentation": outline},
            {"id": 2, "image_id": 2, "category_id": 2, "bbox": [1, 1, 3, 3]},
        ],
    }
    path = tmp_path / "c.json"
    path.write_text(json.dumps(content))
    assert sets(read_labels(path)) == {"1.jpg": {"cat"}, "2.jpg": {"dog"}}
    box = read_objects(path).table.select(["x1", "y1", "x2", "y2"]).to_pylist()[0]
    assert list(box.values()) == pytest.approx([0.1, 0.1, 0.5, 0.3])  # 1 to 5 of 10, and 2 to 6 of 20 pixels
    content["annotations"][0]["segmentation"] = []
    path.write_text(json.dumps(content))
    assert sets(read_labels(path)) == {"1.jpg": {"cat"}, "2.jpg": {"dog"}}
    with pytest.raises(InputError, match="An annotation has no box"):
        read_objects(path)


def test_output_of_pipelines_as_json_lines(tmp_path):
    scores = np.random.default_rng(0).random((4, 2))
    lines = [
        [{"label": n, "score": s} for n, s in zip(("cat", "dog"), row, strict=True)]
        for row in scores.tolist()
    ]
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    read = read_predictions(path, rows=list("abcd"), scores="probability")
    assert read.image_id.to_pylist() == list("abcd")
    assert read.class_list.keys == ("cat", "dog")
    assert np.asarray(read.scores) == pytest.approx(scores, abs=1e-6)


def test_label_in_npz(tmp_path):
    one_hot = np.eye(3, dtype=int)
    np.savez(tmp_path / "l.npz", label=one_hot, ids=np.array(list("abc")), classes=np.array(["x", "y", "z"]))
    assert sets(read_labels(tmp_path / "l.npz")) == {"a": {"x"}, "b": {"y"}, "c": {"z"}}
    # Beside scores, label is the original label of each image, and the file contains predictions.
    np.savez(tmp_path / "p.npz", label=np.arange(3), logits=np.random.default_rng(0).normal(size=(3, 3)))
    assert len(read_predictions(tmp_path / "p.npz", rows=list("abc"))) == 3
