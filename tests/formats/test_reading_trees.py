"""Labels that lie in folders: ImageFolder trees and Hugging Face data sets."""

import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manyhot import read_images, read_labels, read_predictions
from manyhot.classes import class_list, from_keys
from manyhot.formats import detect


def tree(root, **folders):
    for folder, names in folders.items():
        (root / folder).mkdir(parents=True)
        for name in names:
            (root / folder / name).parent.mkdir(exist_ok=True)
            (root / folder / name).touch()
    return root


def test_folders_by_word_net_id(tmp_path):
    tree(tmp_path, n01443537=["b.JPEG", "notes.txt"], n01440764=["a.png", "sub/c.jpg"], **{".git": ["x.jpg"]})
    labels = read_labels(tmp_path)
    assert labels.table["image_id"].to_pylist() == ["a.png", "c.jpg", "b.JPEG"]
    assert labels.table["label"].to_pylist() == [0, 0, 1]
    assert labels.table["classes"].to_pylist() == [[0], [0], [1]]
    assert labels.table["rated"].to_pylist() == [False] * 3
    assert labels.class_hash == class_list().hash
    assert detect(tmp_path).name == "image-folder"


def test_folders_by_class_name(tmp_path):
    tree(tmp_path, tench=["a.jpg"], goldfish=["b.jpg"])
    labels = read_labels(tmp_path)
    assert dict(zip(labels.image_id.to_pylist(), labels.table["label"].to_pylist(), strict=True)) == {
        "a.jpg": 0,
        "b.jpg": 1,
    }


def test_numbers_sort_as_numbers(tmp_path):
    tree(tmp_path, **{str(i): [f"{i}.jpeg"] for i in range(1000)})
    labels = read_labels(tmp_path)
    assert labels.table["label"].to_pylist() == [
        int(name.split(".")[0]) for name in labels.image_id.to_pylist()
    ]
    # A thousand numbers do not say that they are ImageNet's.
    assert (labels.n_classes, labels.class_hash) == (1000, "")


def test_own_classes_are_the_sorted_folder_names(tmp_path):
    tree(tmp_path, dog=["d.jpg"], cat=["c.jpg"], empty=[])
    labels = read_labels(tmp_path)
    assert labels.table["label"].to_pylist() == [0, 1]
    assert (labels.n_classes, labels.class_hash) == (3, from_keys(["cat", "dog", "empty"]).hash)


def test_numbers_of_ones_own(tmp_path):
    tree(tmp_path, **{"1": ["a.jpg"], "2": ["b.jpg"], "10": ["c.jpg"]})
    labels = read_labels(tmp_path)
    assert labels.table["label"].to_pylist() == [0, 1, 2]
    assert labels.class_hash == from_keys(["1", "2", "10"]).hash


def test_folders_over_a_class_list(tmp_path, message):
    tree(tmp_path / "good", dog=["d.jpg"], **{"2": ["c.jpg"]})
    labels = read_labels(tmp_path / "good", classes=from_keys(["cat", "dog", "horse"]))
    assert dict(zip(labels.image_id.to_pylist(), labels.table["label"].to_pylist(), strict=True)) == {
        "c.jpg": 2,
        "d.jpg": 1,
    }
    tree(tmp_path / "bad", ant=["d.jpg"])
    assert message(lambda: read_labels(tmp_path / "bad", classes=from_keys(["cat", "dog"], "pets"))) == (
        "The name of a folder is not a class.\n"
        f"  where:   {tmp_path / 'bad'}\n"
        "  got:     ant\n"
        "  allowed: keys and names of pets, or 0 to 1\n"
        "  do:      pass the class list of these folders, or move the folder away"
    )


def test_one_name_in_two_folders(tmp_path):
    """Base names are ids where they are unique; otherwise, paths are."""
    tree(tmp_path, n01440764=["a.jpg"], n01443537=["a.jpg", "deep/b.jpg"])
    assert read_labels(tmp_path).image_id.to_pylist() == [
        "n01440764/a.jpg",
        "n01443537/a.jpg",
        "n01443537/deep/b.jpg",
    ]


def test_folders_with_their_labels_in_json_are_no_classes(tmp_path, message):
    """BigEarthNet v1: a folder per image, with a file per band and a JSON with the labels."""
    names = [f"S2A_{i:02}" for i in range(3)]
    tree(tmp_path, **{name: [f"{name}_B02.tif", f"{name}_B03.tif"] for name in names})
    for i, name in enumerate(names):
        content = {"corresponding_s1": "", "labels": [["Sea and ocean"], ["Pastures", "Water bodies"]][i % 2]}
        (tmp_path / name / f"{name}_labels_metadata.json").write_text(json.dumps(content))
    assert message(lambda: read_labels(tmp_path)) == (
        "The labels of each folder are in a JSON file beside its images, so the folders are not classes.\n"
        f"  where:   {tmp_path}\n  got:     3 folders with one JSON file each, such as "
        "S2A_00/S2A_00_labels_metadata.json\n  allowed: one folder of images per class, or label sets in one "
        "file\n  do:      write the labels of all images to one file, such as a table with the columns "
        'image_id and labels, or JSON such as {"S2A_00": ["sea", "beach"]}'
    )
    images = read_images(tmp_path)
    assert len(images) == 6
    assert images.label is None
    (tmp_path / names[0] / f"{names[0]}_labels_metadata.json").write_text('{"note": "no labels"}')
    assert read_labels(tmp_path).class_list.keys == tuple(names)


def test_folder_of_no_kind(tmp_path, message):
    tree(tmp_path, docs=["readme.md"])
    text = message(lambda: read_labels(tmp_path))
    assert text.startswith(
        f"The folder does not contain labels.\n  where:   {tmp_path}\n"
        "  got:     a folder of no known format\n  allowed: "
    )
    assert message(lambda: read_labels(tmp_path, format="image-folder")) == (
        f"The folder contains no folders of images.\n  where:   {tmp_path}\n  allowed: one folder per class, "
        "with .jpg, .jpeg, .png, .webp, .bmp, .gif, .tif, .tiff, .ppm, .pgm"
    )
    assert message(lambda: read_predictions(tmp_path)) == (
        f"This is a folder, not a file.\n  where:   {tmp_path}"
    )
    assert message(lambda: read_images(tmp_path)) == (
        f"The folder does not contain images.\n  where:   {tmp_path}\n  got:     a folder of no known "
        "format\n  allowed: photographs: images in the folder itself, or in one folder per class; other "
        "suffixes: .csv, .json, .jsonl, "
        ".parquet, "
        ".pkl, .tsv, .txt"
    )
    assert message(lambda: read_labels(tmp_path, format="chen")) == (
        f"This is a folder, not a file.\n  where:   {tmp_path}"
    )


@pytest.mark.parametrize(
    ("files", "got"),
    [
        (["train/n01440764/a.JPEG", "val/n01443537/b.JPEG"], "train, val"),
        (["Train/a.JPEG", "Test/b.JPEG"], "Test, Train"),
        (["train/cat/a.JPEG"], "train"),
        (["test/dent/a.png", "train/good/b.png", "zz_masks/dent/a.png"], "test, train, zz_masks"),
    ],
)
def test_folder_of_splits(tmp_path, message, files, got):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    assert message(lambda: read_labels(tmp_path)) == (
        f"The folder contains splits, each with folders of images.\n  where:   {tmp_path}\n  got:     {got}\n"
        f"  allowed: one folder per class\n  do:      pass the folder of a split, such as "
        f"{tmp_path / got.partition(',')[0]}"
    )


def test_splits_of_mvtec_beside_masks(tmp_path, message):
    for name in ("train/good/0.png", "test/good/0.png", "test/dent/1.png", "ground_truth/dent/1_mask.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    refused = message(lambda: read_labels(tmp_path))
    assert refused.startswith("The folder contains splits, each with folders of images.\n")
    assert refused.endswith(f"do:      pass the folder of a split, such as {tmp_path / 'test'}")
    assert read_labels(tmp_path / "test").class_list.keys == ("dent", "good")


@pytest.mark.parametrize("split", ["", "train"])
def test_yolo_is_refused_as_labels_and_has_images_without_labels(tmp_path, message, split):
    """All images had the label ``images``."""
    for folder, name in (("images", "a.jpg"), ("labels", "a.txt")):
        (tmp_path / folder / split).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / split / name).write_text("0 .5 .5 .1 .1")
    text = "/".join(filter(None, ("labels", split, "a.txt")))
    assert message(lambda: read_labels(tmp_path)) == (
        f"The folder is in the layout of YOLO, so its folders are not classes.\n  where:   {tmp_path}\n"
        f"  got:     images, and labels in files such as {text}\n"
        "  allowed: one folder of images per class, or label sets in one file\n"
        "  do:      write the names of the classes of each image to one file, such as a table with the "
        "columns image_id and labels, or convert the data set to COCO's JSON; the images alone are in "
        f"{tmp_path / 'images'}"
    )
    images = read_images(tmp_path)
    assert (images.image_id.to_pylist(), "label" in images.table.column_names) == (["a.jpg"], False)
    (tmp_path / text).unlink()  # two classes with these names
    assert read_labels(tmp_path).class_list.keys == ("images", "labels")


def test_a_train_is_no_split(tmp_path):
    tree(tmp_path / "one", train=["a.jpg"])
    tree(tmp_path / "several", train=["a.jpg"], car=["b.jpg"])
    assert len(read_labels(tmp_path / "one")) == 1
    assert len(read_labels(tmp_path / "several")) == 2


@pytest.mark.parametrize("target", ["..", "../../b"])
def test_links_in_a_circle(tmp_path, message, target):
    root = tree(tmp_path / "root", a=["x.jpg"], b=["y.jpg"])
    tree(root / "b", deep=["z.jpg"])
    link = root / "b" / "deep" / "again" if target == "../../b" else root / "a" / "again"
    link.symlink_to(target)
    back = root / "b" if target == "../../b" else root
    assert message(lambda: read_labels(root)) == (
        f"A link leads back to a folder above it.\n  where:   {link}\n  got:     a link to {back}\n"
        "  do:      remove the link"
    )


def test_links_that_lead_elsewhere_are_followed(tmp_path):
    tree(tmp_path / "elsewhere", n01440764=["a.jpg"])
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "n01440764").symlink_to(tmp_path / "elsewhere" / "n01440764")
    assert read_labels(tmp_path / "root").image_id.to_pylist() == ["a.jpg"]


@pytest.mark.parametrize("name", [b"n01440764/\xff.JPEG", b"\xff/a.JPEG"])
def test_names_that_are_no_text(tmp_path, message, name):
    path = os.path.join(os.fsencode(tmp_path), name)  # noqa: PTH118
    os.makedirs(os.path.dirname(path))  # noqa: PTH103, PTH120
    os.close(os.open(path, os.O_CREAT))
    bad = max(name.split(b"/"))
    assert message(lambda: read_labels(tmp_path)) == (
        f"The name of a file or folder is not UTF-8.\n  where:   {tmp_path}\n  got:     {bad!r}\n"
        "  do:      rename it"
    )


NAMES = ["cat", "dog", "horse"]
LABEL = {"names": NAMES, "_type": "ClassLabel"}
FEATURES = {
    "image": {"_type": "Image"},
    "labels": {"feature": LABEL, "_type": "List"},
    "label": LABEL,
}
"""As datasets 5.2 writes them; see `test_layouts_of_earlier_releases`."""


def pictures(*names, size=4):
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    return pa.array([{"bytes": b"x" * size, "path": name} for name in names], kind)


def rows():
    return pa.table(
        {
            "image": pictures(
                "ILSVRC2012_val_00000001_n01751748.JPEG", "in/b.jpg", "n01440764_12_n01440764.JPEG"
            ),
            "labels": pa.array([[0, 2], [], None], pa.list_(pa.int64())),
            "label": pa.array([0, 1, -1], pa.int64()),
        }
    )


def save_to_disk(folder, table, features, shards=1):
    """Write the layout of datasets.Dataset.save_to_disk: JSON, and Arrow streams."""
    folder.mkdir(parents=True)
    files = [f"data-{i:05d}-of-{shards:05d}.arrow" for i in range(shards)]
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    for i, name in enumerate(files):
        part = table.take(list(range(len(table)))[i::shards])
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(part)
    state = {"_data_files": [{"filename": f} for f in files], "_fingerprint": "0", "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"description": "", "features": features}))
    return folder


def to_parquet(path, table, features):
    told = json.dumps({"info": {"features": features}})
    pq.write_table(table.replace_schema_metadata({"huggingface": told}), path)
    return path


@pytest.mark.parametrize("kind", ["folder", "shards", "parquet"])
def test_hugging_face_data_set(tmp_path, kind):
    path = tmp_path / "pets"
    if kind == "parquet":
        path = to_parquet(tmp_path / "pets.parquet", rows(), FEATURES)
    else:
        save_to_disk(path, rows(), FEATURES, shards=2 if kind == "shards" else 1)
    labels = read_labels(path)
    found = {row["image_id"]: row for row in labels.table.to_pylist()}
    assert {name: row["classes"] for name, row in found.items()} == {
        "ILSVRC2012_val_00000001.JPEG": [0, 2],
        "b.jpg": [],
        "n01440764_12.JPEG": [],
    }
    assert [row["usable"] for row in found.values()].count(False) == 1
    assert not found["n01440764_12.JPEG"]["usable"]
    assert {name: row["label"] for name, row in found.items()} == {
        "ILSVRC2012_val_00000001.JPEG": 0,
        "b.jpg": 1,
        "n01440764_12.JPEG": None,
    }
    assert (labels.n_classes, labels.class_hash) == (3, from_keys(NAMES).hash)
    assert (labels.name, labels.asked_known, detect(path).name) == ("pets", False, "hf-labels")


@pytest.mark.parametrize(
    "feature",
    [
        {"feature": LABEL, "length": -1, "_type": "Sequence"},
        {"feature": LABEL, "_type": "LargeList"},
        [LABEL],
        {
            "feature": {"num_classes": 3, "names_file": None, "id": None, **LABEL},
            "id": None,
            "_type": "Sequence",
        },
    ],
)
def test_layouts_of_earlier_releases(tmp_path, feature):
    path = save_to_disk(tmp_path / "d", rows(), {"image": {"_type": "Image"}, "labels": feature})
    assert read_labels(path).table["classes"].to_pylist() == [[0, 2], [], []]


def test_single_labels_are_sets_of_one(tmp_path):
    table = pa.table({"file_name": ["x/a.png", "b.png", "c.png"], "label": [2, 0, None]})
    features = {"file_name": {"dtype": "string", "_type": "Value"}, "label": LABEL}
    labels = read_labels(to_parquet(tmp_path / "d.parquet", table, features))
    assert labels.table["image_id"].to_pylist() == ["a.png", "b.png", "c.png"]
    assert labels.table["classes"].to_pylist() == [[2], [0], []]
    assert labels.table["label"].to_pylist() == [2, 0, None]
    assert labels.table["usable"].to_pylist() == [True, True, False]


def test_class_list_of_a_feature(tmp_path):
    known = class_list()
    lines = [", ".join((name, *more)) for name, more in zip(known.names, known.synonyms, strict=True)]
    table = pa.table({"image_id": ["a"], "label": [517]})
    features = {"image_id": {"_type": "Value"}, "label": {"names": lines, "_type": "ClassLabel"}}
    labels = read_labels(to_parquet(tmp_path / "d.parquet", table, features))
    assert labels.class_hash == known.hash
    features["label"]["names"] = lines[::-1]
    to_parquet(tmp_path / "d.parquet", table, features)
    assert read_labels(tmp_path / "d.parquet").class_hash == from_keys(lines[::-1]).hash
    assert read_labels(tmp_path / "d.parquet", classes=known).table["label"].to_pylist() == [999 - 517]


def test_names_are_looked_up_in_a_class_list(tmp_path, message):
    path = save_to_disk(tmp_path / "d", rows(), FEATURES)
    labels = read_labels(path, classes=from_keys(["horse", "cat", "dog"]))
    assert labels.table["classes"].to_pylist() == [[1, 0], [], []]
    assert message(lambda: read_labels(path, classes=from_keys(["cat", "dog"], "pets"))) == (
        f"A name in the file is not in the class list.\n  where:   {path}\n  got:     horse\n"
        "  allowed: keys and names of pets, or 0 to 1\n"
        "  do:      omit the class list, because the data set has its own"
    )


def test_several_splits(tmp_path, message):
    root = tmp_path / "d"
    save_to_disk(root / "train", rows(), FEATURES)
    save_to_disk(root / "test", rows(), FEATURES)
    (root / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert message(lambda: read_labels(root)) == (
        f"The folder contains several splits, each of which is a data set.\n"
        f"  where:   {root}\n  allowed: train, test\n"
        f"  do:      pass the folder of a split, such as {root / 'train'}"
    )
    assert len(read_labels(root / "test")) == 3


def test_several_columns_of_labels(tmp_path, message):
    table = pa.table({"image_id": ["a"], "fine": [1], "coarse": [0]})
    path = to_parquet(
        tmp_path / "d.parquet", table, {"image_id": {"_type": "Value"}, "fine": LABEL, "coarse": LABEL}
    )
    assert message(lambda: read_labels(path)) == (
        f"The column of labels is ambiguous.\n  where:   {path}\n  got:     fine, coarse\n"
        "  allowed: fine, coarse\n  do:      choose one: format=\"hf-labels(column='fine')\""
    )
    chosen = read_labels(path, format="hf-labels(column='coarse')")
    assert chosen.table["classes"].to_pylist() == [[0]]
    assert message(lambda: read_labels(path, format="hf-labels(column='coarce')")) == (
        f"No column contains class labels.\n  where:   {path}\n  got:     coarce\n"
        "  allowed: fine, coarse\n  do:      choose one: format=\"hf-labels(column='fine')\""
    )


def test_images_without_names(tmp_path, message):
    table = pa.table({"image": pictures("a.jpg", None), "label": [0, 1]})
    path = to_parquet(tmp_path / "d.parquet", table, {"image": {"_type": "Image"}, "label": LABEL})
    assert message(lambda: read_labels(path)) == (
        f"An image has no name.\n  where:   {path}\n  got:     1 without a path in 'image'\n"
        "  do:      add a column 'image_id'"
    )
    nameless = to_parquet(tmp_path / "n.parquet", table.select(["label"]), {"label": LABEL})
    assert read_labels(nameless).image_id.to_pylist() == ["0", "1"]
    assert read_labels(nameless, rows=["a", "b"]).image_id.to_pylist() == ["a", "b"]
    assert message(lambda: read_labels(nameless, rows=["a"])) == (
        f"The labels and the row order have different numbers of rows.\n  where:   {nameless}\n"
        "  got:     2 rows\n  allowed: 1\n  do:      pass the row order of this file"
    )


def test_labels_that_the_feature_has_no_name_for(tmp_path, message):
    table = pa.table({"image_id": ["a"], "label": [3]})
    path = to_parquet(tmp_path / "d.parquet", table, {"image_id": {"_type": "Value"}, "label": LABEL})
    assert message(lambda: read_labels(path)) == (
        f"A label is out of range.\n  where:   {path}, column label\n  got:     3\n  allowed: 0 to 2"
    )


@pytest.mark.parametrize("harm", ["cut", "no info", "no data"])
def test_incomplete_folder(tmp_path, message, harm):
    path = save_to_disk(tmp_path / "d", rows(), FEATURES)
    if harm == "cut":
        file = path / "data-00000-of-00001.arrow"
        file.write_bytes(file.read_bytes()[:300])
        assert message(lambda: read_labels(path)).startswith(
            f"The data set is not complete.\n  where:   {path}\n"
        )
    elif harm == "no info":
        (path / "dataset_info.json").unlink()
        assert message(lambda: read_labels(path)) == (
            f"The folder is not a complete saved data set.\n  where:   {path}\n"
            "  got:     no dataset_info.json"
        )
    else:
        (path / "state.json").write_text("{}")
        assert message(lambda: read_labels(path)) == (
            f"The folder was not written by save_to_disk.\n  where:   {path}\n"
            "  got:     no data files\n  do:      save it again with datasets 2.0 or later"
        )


NOT_SAVED = (
    "The folder was not written by save_to_disk.\n  where:   {}\n"
    "  got:     no data files\n  do:      save it again with datasets 2.0 or later"
)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ([1], NOT_SAVED),
        (None, NOT_SAVED),
        ({"_data_files": None}, NOT_SAVED),
        ({"_data_files": ["a.arrow"]}, NOT_SAVED),
        ({"_data_files": [{}]}, NOT_SAVED),
        ({"_data_files": []}, "The data set has no rows.\n  where:   {}"),
        (
            {"_data_files": [{"filename": "b.arrow"}]},
            "The data set is not complete.\n  where:   {}\n  got:     no b.arrow\n"
            "  do:      create or download it again",
        ),
    ],
)
def test_strange_states(tmp_path, message, state, said):
    path = save_to_disk(tmp_path / "d", rows(), FEATURES)
    (path / "state.json").write_text(json.dumps(state))
    assert message(lambda: read_labels(path)) == said.format(path)


@pytest.mark.parametrize("kind", ["folder", "parquet"])
@pytest.mark.parametrize("names", [5, "abc", {"a": 1}])
def test_names_that_are_no_list(tmp_path, message, kind, names):
    features = {"image": {"_type": "Image"}, "labels": [{"names": names, "_type": "ClassLabel"}]}
    path = tmp_path / "d.parquet"
    if kind == "folder":
        path = save_to_disk(tmp_path / "d", rows(), features)
    else:
        to_parquet(path, rows(), features)
    assert message(lambda: read_labels(path)) == (
        f"The class names of a feature are not a list.\n  where:   {path}, feature labels\n"
        "  allowed: a list with the name of each class"
    )


def test_features_that_are_no_json(tmp_path, message):
    path = tmp_path / "d.parquet"
    pq.write_table(rows().replace_schema_metadata({"huggingface": '{"info": '}), path)
    assert message(lambda: read_labels(path)) == (
        f"The file is not complete JSON.\n  where:   {path}, schema metadata 'huggingface'\n"
        "  got:     Expecting value: line 1 column 10 (char 9)\n  do:      create or download it again"
    )


@pytest.mark.parametrize("kind", ["folder", "parquet"])
def test_a_feature_without_its_column(tmp_path, message, kind):
    table = rows().drop_columns(["labels"])
    path = tmp_path / "d.parquet"
    if kind == "folder":
        path = save_to_disk(tmp_path / "d", table, FEATURES)
    else:
        to_parquet(path, table, FEATURES)
    file = path / "data-00000-of-00001.arrow" if kind == "folder" else path
    assert message(lambda: read_labels(path)) == (
        f"A feature of the data set has no column.\n  where:   {file}\n  got:     labels\n"
        "  allowed: image, label"
    )


def test_a_column_that_is_none_of_images(tmp_path, message):
    table = pa.table({"image": ["a"], "label": [1]})
    path = save_to_disk(tmp_path / "d", table, {"image": {"_type": "Image"}, "label": LABEL})
    file = path / "data-00000-of-00001.arrow"
    assert message(lambda: read_labels(path)) == (
        f"The column does not contain images.\n  where:   {file}, column image\n  got:     string\n"
        "  allowed: a struct with `path`"
    )


OTHER = "These are not classes.\n  where:   {}, column labels\n  got:     {}\n  allowed: {}"
LISTS, WHOLE = "lists of whole numbers, 0 to 2", "whole numbers, 0 to 2"


@pytest.mark.parametrize(
    ("labels", "got"),
    [
        ([[0.5], [1.0]], "double"),
        ([["a"], [None]], "string"),
        ([[True], [False]], "bool"),
        ([[2**40], [1]], "Integer value 1099511627776 not in range: -2147483648 to 2147483647"),
        ([0, 1], "a column of int64"),
        (["a", "b"], "a column of string"),
        ([{"a": 1}, {"a": 2}], "a column of struct<a: int64>"),
        ([None, None], "a column of null"),
    ],
)
def test_lists_of_other_things(tmp_path, message, labels, got):
    features = {"image_id": {"_type": "Value"}, "labels": [LABEL]}
    path = to_parquet(tmp_path / "d.parquet", pa.table({"image_id": ["a", "b"], "labels": labels}), features)
    allowed = LISTS if got.startswith("a column") else WHOLE
    assert message(lambda: read_labels(path)) == OTHER.format(path, got, allowed)


@pytest.mark.parametrize(
    ("labels", "got"),
    [
        (["a", "b"], "string"),
        ([[0], [1]], "list<element: int64>"),
        ([0.0, 1.5], "Float value 1.500000 was truncated converting to int64"),
    ],
)
def test_single_labels_that_are_other_things(tmp_path, message, labels, got):
    features = {"image_id": {"_type": "Value"}, "labels": LABEL}
    path = to_parquet(tmp_path / "d.parquet", pa.table({"image_id": ["a", "b"], "labels": labels}), features)
    assert message(lambda: read_labels(path)) == OTHER.format(path, got, WHOLE)


def test_whole_numbers_with_gaps_may_be_floats(tmp_path):
    features = {"image_id": {"_type": "Value"}, "labels": LABEL}
    table = pa.table({"image_id": ["a", "b"], "labels": [2.0, None]})
    labels = read_labels(to_parquet(tmp_path / "d.parquet", table, features))
    assert labels.table["label"].to_pylist() == [2, None]


def test_a_null_within_a_list(tmp_path, message):
    features = {"image_id": {"_type": "Value"}, "labels": [LABEL]}
    table = pa.table({"image_id": ["a", "b"], "labels": [[0, None], [1]]})
    path = to_parquet(tmp_path / "d.parquet", table, features)
    assert message(lambda: read_labels(path)) == (
        f"A list of classes contains an empty value.\n  where:   {path}, column labels\n"
        "  allowed: whole numbers, 0 to 2"
    )


# A pool must outlive what was made from it, wherever Arrow keeps that.
USUAL = pa.default_memory_pool()
WATCHED = pa.proxy_memory_pool(USUAL)


@pytest.mark.parametrize("kind", ["folder", "parquet"])
def test_pictures_are_not_loaded(tmp_path, kind):
    n = 64
    table = pa.table(
        {"image": pictures(*(f"{i}.jpg" for i in range(n)), size=2**20), "label": np.zeros(n, np.int64)}
    )
    features = {"image": {"_type": "Image"}, "label": LABEL}
    path = tmp_path / "d"
    if kind == "folder":
        save_to_disk(path, table, features)
    else:
        path = to_parquet(tmp_path / "d.parquet", table, features)
    del table
    pa.set_memory_pool(WATCHED)
    try:
        assert len(read_labels(path)) == n
    finally:
        pa.set_memory_pool(USUAL)
    # At no time was one of the 64 pictures in Arrow's memory.
    assert WATCHED.max_memory() < 2**20


def test_a_plain_table_is_none_of_hugging_face(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"image_id": ["a"], "classes": [[1]], "label": [1]}), path)
    assert detect(path, ("labels",)).name == "labels-table"
