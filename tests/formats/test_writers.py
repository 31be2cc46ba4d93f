"""Label sets out to other tools' formats and back: what comes back, what does not, and what is refused."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manyhot import convert, read_labels, registry, tables
from manyhot.classes import class_list, from_keys
from manyhot.errors import InputError, MatchError, UnknownNameError
from manyhot.formats.writing import LABEL_FACTS, save
from manyhot.tables import Labels
from manyhot.tables.labels import with_zeros

CLASSES = from_keys(["cat", "dog", "cup", "pot", "é"], "five")
VAL = [f"ILSVRC2012_val_{i:08d}.JPEG" for i in range(1, 50_001)]


def labels_of(columns, classes=CLASSES, **about):
    return Labels(pa.table(columns), len(classes), classes.hash, **about)


@pytest.fixture
def labels():
    """Everything that a labels table can hold."""
    columns = {
        "image_id": ["a.jpg", "b.jpg", "c.png", "d.jpg"],
        "label": pa.array([0, 2, None, 4], pa.int32()),
        "rated": [True, True, True, False],
        "usable": [True, True, True, False],
        "classes": [[0, 4], [1, 2, 3], [3], [4]],
        "state": [["yes", "yes"], ["no", "unclear", "yes"], ["no"], ["yes"]],
        "p": [[0.9, 0.8], [0.1, 0.5, 0.95], [0.3], None],
        "n_votes": [[5, 5], [5, 5, 5], [5], [0]],
        "method": ["majority"] * 4,
        "sources": [["one", "two"]] * 4,
        "conflicts": [[0], [1], [], []],
    }
    return labels_of(columns, asked_known=True, name="mine")


def sets_of(labels):
    """Return the label set of each usable image."""
    rows = labels.table.select(["image_id", "usable", "classes", "state"]).to_pylist()
    return {
        r["image_id"]: [c for c, s in zip(r["classes"], r["state"], strict=True) if s == "yes"]
        for r in rows
        if r["usable"]
    }


SETS = {"a.jpg": [0, 4], "b.jpg": [3], "c.png": []}
OUT = {
    "multilabelfy": ("m.json", {"classes": CLASSES}, ()),
    "fiftyone(folder='/data')": ("f.json", {}, ("p", "unusable images")),
    "hf-labels": ("hub", {}, ("original labels", "unusable images")),
    "hf-labels(split='validation')": ("hub.parquet", {}, ("original labels", "unusable images")),
    "indicator": ("one-hot.csv", {}, ("classes answered no", "unclear classes")),
    "indicator()": ("one-hot.parquet", {}, ("classes answered no", "unclear classes")),
    "coco-labels": ("coco.json", {}, ("classes answered no", "unclear classes")),
    "label-lists": ("lists.json", {"classes": CLASSES}, ()),
}


@pytest.mark.parametrize("to", OUT)
def test_label_sets_come_back(labels, tmp_path, to):
    name, options, keeps = OUT[to]
    saved = save(labels, tmp_path / name, to, classes=CLASSES)
    back = read_labels(tmp_path / name, **options)
    assert sets_of(back) == SETS
    assert back.n_classes == 5
    assert back.class_hash == CLASSES.hash
    assert set(saved.left_out) == set(LABEL_FACTS) - set(keeps)
    assert all(file.is_file() for file in saved.files)


@pytest.mark.parametrize("to", ["hf-labels", "hf-labels(split='validation')"])
def test_original_labels_and_unusable_images_come_back(labels, tmp_path, to):
    save(labels, tmp_path / OUT[to][0], to, classes=CLASSES)
    back = read_labels(tmp_path / OUT[to][0]).table
    assert back["label"].to_pylist() == [0, 2, None, 4]
    assert back["usable"].to_pylist() == [True, True, True, False]


def test_p_comes_back_as_it_was(labels, tmp_path):
    save(labels, tmp_path / "f.json", "fiftyone(folder='/data')", classes=CLASSES)
    assert json.loads((tmp_path / "f.json").read_text(encoding="utf-8")) == {
        "classes": ["cat", "dog", "cup", "pot", "é"],
        "labels": {
            "/data/a.jpg": [{"label": 0, "confidence": 0.9}, {"label": 4, "confidence": 0.8}],
            "/data/b.jpg": [{"label": 3, "confidence": 0.95}],
            "/data/c.png": [],
            "/data/d.jpg": None,
        },
    }
    back = read_labels(tmp_path / "f.json").table
    assert back["p"].to_pylist()[:2] == pa.array([[0.9, 0.8], [0.95]], pa.list_(pa.float32())).to_pylist()
    assert back["usable"].to_pylist() == [True, True, True, False]


def test_what_a_plain_table_lacks_is_not_called_lost(tmp_path):
    plain = labels_of({"image_id": ["a.jpg"], "usable": [True], "classes": [[1]], "state": [["yes"]]})
    for to, (name, _, _) in OUT.items():
        assert save(plain, tmp_path / name, to, classes=CLASSES).left_out == ()


def test_one_column_per_class_for_people_and_their_loaders(labels, tmp_path):
    save(labels, tmp_path / "one-hot.csv", "indicator", classes=CLASSES)
    assert (tmp_path / "one-hot.csv").read_text(encoding="utf-8").splitlines() == [
        "image_id,cat,dog,cup,pot,é",
        "a.jpg,1,,,,1",
        "b.jpg,,0,-1,1,",
        "c.png,,,,0,",
    ]
    assert read_labels(tmp_path / "one-hot.csv").table.select(["classes", "state"]).to_pylist() == (
        labels.table.slice(0, 3).select(["classes", "state"]).to_pylist()
    )
    save(labels, tmp_path / "no.csv", "indicator(not_asked='no')", classes=CLASSES)
    assert (tmp_path / "no.csv").read_text(encoding="utf-8").splitlines()[1:3] == [
        "a.jpg,1,0,0,0,1",
        "b.jpg,0,0,-1,1,0",
    ]
    frame = pd.read_csv(tmp_path / "no.csv", index_col="image_id")
    assert frame.loc["b.jpg"].tolist() == [0, 0, -1, 1, 0]


def test_one_column_per_class_of_complete_label_sets(tmp_path):
    """All classes were asked about, so those that are not listed are no."""
    table = {"image_id": ["a.jpg"], "usable": [True], "classes": [[1]], "state": [["yes"]]}
    complete = labels_of(table, asked_known=True, complete=True)
    save(complete, tmp_path / "one-hot.csv", "indicator", classes=CLASSES)
    assert (tmp_path / "one-hot.csv").read_text(encoding="utf-8").splitlines()[1] == "a.jpg,0,1,0,0,0"


@pytest.mark.parametrize("through", ["", "labels.parquet", "labels.json", "labels.npz"])
def test_unknown_classes_remain_blank_without_a_no(tmp_path, through):
    """Of single positives, the other classes are unknown; those of a list of classes are not."""
    written = "image_id,cat,dog\na.jpg,1,\nb.jpg,,1\nc.jpg,1,1\n"
    (tmp_path / "labels.csv").write_text(written)
    path = tmp_path / "labels.csv"
    if through == "labels.npz":
        known = np.array([[1, np.nan], [np.nan, 1], [1, 1]])
        np.savez(
            tmp_path / through, labels=known, image_id=["a.jpg", "b.jpg", "c.jpg"], classes=["cat", "dog"]
        )
    elif through:
        convert(path, tmp_path / through, to="coco-labels" if through == "labels.json" else None)
    path = tmp_path / (through or "labels.csv")
    assert not read_labels(path).asked_known
    converted = convert(path, tmp_path / "back.csv", to="indicator")
    assert (tmp_path / "back.csv").read_text() == written
    assert converted.notes[-1] == (
        "back.csv has 2 empty cells, for classes that no rater was asked about; "
        "`to`=\"indicator(not_asked='no')\" writes them as 0"
    )
    (tmp_path / "lists.csv").write_text("image,label\na.jpg,cat\nb.jpg,dog\n")
    for source, to in ((path, "indicator(not_asked='no')"), (tmp_path / "lists.csv", "indicator")):
        converted = convert(source, tmp_path / "no.csv", to=to)
        assert (tmp_path / "no.csv").read_text().startswith("image_id,cat,dog\na.jpg,1,0\nb.jpg,0,1\n")
        assert not any("empty" in note for note in converted.notes)


def test_lists_of_names_by_image(labels, tmp_path):
    save(labels, tmp_path / "lists.json", "label-lists", classes=CLASSES)
    assert json.loads((tmp_path / "lists.json").read_text(encoding="utf-8")) == {
        "a.jpg": ["cat", "é"],
        "b.jpg": ["pot"],
        "c.png": [],
    }


@pytest.mark.parametrize("name", ["age", "label", "class", "score", "rater_id"])
def test_a_class_that_could_not_be_read_back_as_a_column_is_refused(tmp_path, message, name):
    classes = from_keys(["cat", name], "two")
    table = {"image_id": ["a.jpg"], "usable": [True], "classes": [[1]], "state": [["yes"]]}
    text = message(lambda: save(labels_of(table, classes), tmp_path / "o.csv", "indicator", classes=classes))
    assert f"got:     {name}" in text
    with pytest.raises(InputError, match="not_asked"):
        save(labels_of(table), tmp_path / "o.csv", "indicator(not_asked='0')", classes=CLASSES)
    assert not list(tmp_path.iterdir())


def test_keys_are_lost_where_names_are_written(tmp_path):
    from dataclasses import replace

    named = replace(CLASSES, keys=("n1", "n2", "n3", "n4", "n5"))
    table = {"image_id": ["a.jpg"], "usable": [True], "classes": [[1]], "state": [["yes"]]}
    saved = save(labels_of(table, named), tmp_path / "hub", "hf-labels", classes=named)
    assert saved.left_out == ("keys of classes",)
    assert read_labels(tmp_path / "hub", classes=named).class_hash == named.hash


def test_imagenet_is_known_again_by_its_names(tmp_path):
    known = class_list()
    table = {"image_id": ["a.jpg"], "usable": [True], "classes": [[134, 517]], "state": [["yes"] * 2]}
    for to, name in (("hf-labels", "hub"), ("fiftyone(folder='/data')", "f.json")):
        saved = save(labels_of(table, known), tmp_path / name, to)
        assert saved.left_out == ()
        back = read_labels(tmp_path / name)
        assert (back.class_hash, sets_of(back)) == (known.hash, {"a.jpg": [134, 517]})


# real.json and Multilabelfy: the published files themselves.


def test_the_published_real_json_comes_out_as_the_same_bytes(published, tmp_path):
    path = published("reassessed-imagenet/bcd006fe12e929f055e0ec7fe39dbf4d64a6881a/real.json")
    saved = save(read_labels(path), tmp_path / "real.json", "real")
    assert saved.left_out == ("method",)
    assert (tmp_path / "real.json").read_bytes() == path.read_bytes()


def test_the_published_multilabelfy_comes_out_as_the_same_bytes(published, tmp_path):
    path = published("imagenetv2_refined_labels.json")
    save(read_labels(path), tmp_path / "m.json", "multilabelfy")
    assert (tmp_path / "m.json").read_bytes() == path.read_bytes()


def real(ids, usable=None, sets=None, classes=None):
    columns = {
        "image_id": ids,
        "usable": usable or [True] * len(ids),
        "classes": pa.array(sets or [[]] * len(ids), pa.list_(pa.int32())),
        "state": pa.array(
            [["yes"] * len(s) for s in sets] if sets else [[]] * len(ids), pa.list_(pa.string())
        ),
    }
    return labels_of(columns, classes or class_list())


def test_real_json_is_written_by_name_not_by_place(tmp_path):
    sets = [[i % 7] for i in range(50_000)]
    usable = [True] * 50_000
    usable[-1] = False  # the first image, for the table is the other way round
    save(real(VAL[::-1], usable, sets[::-1]), tmp_path / "real.json", "real")
    found = json.loads((tmp_path / "real.json").read_text())
    assert found == [[], *sets[1:]]


def test_real_json_of_other_images(tmp_path, message):
    path = tmp_path / "real.json"
    assert message(lambda: save(real(VAL[:-2]), path, "real")) == (
        "real.json must contain all of ImageNet's validation images and no others.\n"
        f"  where:   {path}\n"
        "  got:     2 are missing, such as ILSVRC2012_val_00049999.JPEG\n"
        "  allowed: 50,000 images, ILSVRC2012_val_00000001.JPEG to ILSVRC2012_val_00050000.JPEG\n"
        "  do:      write another format, such as hf-labels or multilabelfy"
    )
    assert message(lambda: save(real([*VAL, "x.JPEG"]), path, "real")) == (
        "real.json must contain all of ImageNet's validation images and no others.\n"
        f"  where:   {path}\n"
        "  got:     50,001 images\n"
        "  allowed: 50,000 images, ILSVRC2012_val_00000001.JPEG to ILSVRC2012_val_00050000.JPEG\n"
        "  do:      write another format, such as hf-labels or multilabelfy"
    )
    assert not list(tmp_path.iterdir())


def test_real_json_over_other_classes(labels, tmp_path, message):
    assert message(lambda: save(labels, tmp_path / "real.json", "real"), MatchError) == (
        "The labels have a different class list.\n"
        "  where:   mine\n"
        f"  got:     imagenet1k: 1,000 classes, hash {class_list().hash}\n"
        f"  allowed: 5 classes, hash {CLASSES.hash}\n"
        "  do:      pass the class list of the labels as `classes`"
    )
    path = tmp_path / "real.json"
    assert message(lambda: save(labels, path, "real", classes=CLASSES)) == (
        f"real.json can contain only classes of ImageNet-1k.\n  where:   {path}\n  got:     5 classes"
    )


# What is refused, whatever the format.


def test_unknown_writer(labels, tmp_path, message):
    assert message(lambda: save(labels, tmp_path / "x", "hf-label"), UnknownNameError) == (
        "There is no writer 'hf-label'.\n"
        f"  allowed: {', '.join(registry.names('writer'))}\n"
        "  do:      did you mean 'hf-labels' or 'coco-labels' or 'tfds-multilabel'?"
    )


def test_a_table_that_the_format_does_not_hold(tmp_path, message):
    path, table = tmp_path / "x.json", pa.table({"image_id": ["a"]})
    for holds, allowed in (("images", ".parquet or .csv, without `to`"), ("votes", "label-studio")):
        assert message(lambda h=holds: save(table, path, "real", holds=h)) == (
            f"The format 'real' does not contain {holds}.\n  where:   {path}\n  allowed: {holds} as {allowed}"
        )


@pytest.mark.parametrize(
    ("to", "name", "allowed"),
    [("real", "real.txt", ".json"), ("fiftyone", "f", ".json"), ("hf-labels", "x.csv", "a folder, .parquet")],
)
def test_another_suffix(labels, tmp_path, message, to, name, allowed):
    (tmp_path / "x.csv").write_text("")
    assert message(lambda: save(labels, tmp_path / name, to)) == (
        f"The format {to!r} has a different suffix.\n  where:   {tmp_path / name}\n  allowed: {allowed}"
    )


@pytest.mark.parametrize("to", ["fiftyone", "hf-labels", "label-studio"])
def test_names_that_nobody_knows(labels, tmp_path, message, to):
    path = tmp_path / ("hub" if to == "hf-labels" else "x.json")
    assert message(lambda: save(labels, path, to)) == (
        "The names of the classes are unknown.\n"
        "  where:   mine\n"
        f"  got:     class list {CLASSES.hash} of 5 classes\n"
        "  do:      pass the class list as `classes`"
    )
    assert not list(tmp_path.iterdir())


def test_names_that_the_labels_know_are_not_asked_for(tmp_path):
    """A campaign's label sets contain the names of its classes."""
    (tmp_path / "labels.csv").write_text("image_id,labels\na.jpg,cat dog\nb.jpg,pot\n")
    labels = read_labels(tmp_path / "labels.csv", classes=["cat", "dog", "pot"])
    save(labels, tmp_path / "hub", "hf-labels")
    back = read_labels(tmp_path / "hub")
    assert back.class_list.names == ("cat", "dog", "pot")
    assert back.table["classes"].to_pylist() == [[0, 1], [2]]


def test_an_option_of_another_kind(labels, tmp_path, message):
    assert message(lambda: save(labels, tmp_path / "hub", "hf-labels(split=1)", classes=CLASSES)) == (
        "The option 'split' must be a string.\n  got:     hf-labels(split=1)\n  allowed: split='…'"
    )


def test_nothing_half_written(labels, tmp_path, monkeypatch):
    monkeypatch.setattr(pq, "write_table", lambda *_, **__: 1 / 0)
    (tmp_path / "h.parquet").write_bytes(b"before")
    with pytest.raises(ZeroDivisionError):
        save(labels, tmp_path / "h.parquet", "hf-labels", classes=CLASSES)
    assert [(f.name, f.read_bytes()) for f in tmp_path.iterdir()] == [("h.parquet", b"before")]


# Hugging Face.


@pytest.fixture
def hub(require, tmp_path, monkeypatch):
    """The library itself, off the network."""
    require(importlib.util.find_spec("datasets"), "datasets, which the extra hub installs")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    import datasets

    datasets.disable_progress_bars()
    return datasets


def test_datasets_reads_the_folder_with_its_names(labels, hub, tmp_path):
    save(labels, tmp_path / "hub", "hf-labels(split='validation')", classes=CLASSES)
    (tmp_path / "hub" / "README.md").write_text("---\nlicense: cc0-1.0\n---\n\n# Mine\n")
    found = hub.load_dataset(str(tmp_path / "hub"), cache_dir=str(tmp_path / "cache"))
    assert list(found) == ["validation"]
    rows = found["validation"]
    assert rows.features["labels"].feature.names == list(CLASSES.names)
    assert rows.features["label"].names == list(CLASSES.names)
    assert rows["image_id"][:] == ["a.jpg", "b.jpg", "c.png", "d.jpg"]
    assert rows["labels"][:] == [[0, 4], [3], [], None]
    assert rows["label"][:] == [0, 2, None, 4]
    assert rows.features["labels"].feature.int2str(rows["labels"][0]) == ["cat", "é"]


def test_datasets_saves_what_manyhot_reads_again(labels, hub, tmp_path):
    save(labels, tmp_path / "hub.parquet", "hf-labels", classes=CLASSES)
    rows = hub.Dataset.from_parquet(str(tmp_path / "hub.parquet"), cache_dir=str(tmp_path / "cache"))
    rows.save_to_disk(str(tmp_path / "disk"))
    assert hub.load_from_disk(str(tmp_path / "disk")).features == rows.features
    back = read_labels(tmp_path / "disk")
    assert (sets_of(back), back.class_hash) == (SETS, CLASSES.hash)


def test_several_splits_on_the_hub(labels, tmp_path, message):
    path = tmp_path / "hub"
    for split in ("train", "test"):
        save(labels, path, f"hf-labels(split={split!r})", classes=CLASSES)
    assert message(lambda: read_labels(path)) == (
        "The folder contains several splits, each of which is a data set.\n"
        f"  where:   {path}\n"
        "  allowed: test, train\n"
        "  do:      choose one: format=\"hf-labels(split='test')\""
    )
    assert sets_of(read_labels(path, format="hf-labels(split='train')")) == SETS
    assert message(lambda: read_labels(path, format="hf-labels(split='val')")).splitlines()[2:4] == [
        "  got:     val",
        "  allowed: test, train",
    ]


def test_a_split_that_is_not_whole(labels, tmp_path, message):
    save(labels, tmp_path / "hub", "hf-labels", classes=CLASSES)
    file = tmp_path / "hub" / "data" / "train-00000-of-00001.parquet"
    file.rename(file.with_name("train-00000-of-00002.parquet"))
    assert message(lambda: read_labels(tmp_path / "hub")) == (
        "The data set is not complete.\n"
        f"  where:   {tmp_path / 'hub'}\n"
        "  got:     no train-00001-of-00002.parquet\n"
        "  do:      create or download it again"
    )
    assert message(lambda: save(labels, tmp_path / "hub", "hf-labels", classes=CLASSES)) == (
        "The folder contains other files of this split, which would also be read.\n"
        f"  where:   {tmp_path / 'hub'}\n"
        "  got:     train-00000-of-00002.parquet\n"
        "  do:      remove them, or write to another folder"
    )


def test_shards_of_a_split_are_read_in_order(labels, tmp_path):
    save(labels, tmp_path / "hub", "hf-labels", classes=CLASSES)
    first = tmp_path / "hub" / "data" / "train-00000-of-00001.parquet"
    table = pq.read_table(first)
    first.unlink()
    for i in (1, 0):
        pq.write_table(table.slice(2 * i, 2), first.with_name(f"train-{i:05d}-of-00002.parquet"))
    back = read_labels(tmp_path / "hub")
    assert back.image_id.to_pylist() == ["a.jpg", "b.jpg", "c.png", "d.jpg"]
    assert sets_of(back) == SETS


def test_a_split_without_a_name(labels, tmp_path, message):
    for split in ("", "../x", "a b"):
        assert message(
            lambda s=split: save(labels, tmp_path / "hub", f"hf-labels(split={s!r})", classes=CLASSES)
        ) == (f"This cannot be the name of a split.\n  got:     {split!r}\n  allowed: letters, digits and _")


# FiftyOne.


class Importer:
    """What fiftyone 1.22.1 does with labels.json: FiftyOneImageClassificationDatasetImporter, by its source.

    ``fiftyone/utils/data/importers.py`` (setup, __next__) and ``parsers.py`` (_parse_label). The library
    itself is too large to be installed for a test.
    """

    def __init__(self, labels, images):
        self.classes, self.targets = labels.get("classes"), labels["labels"]
        self.paths = {str(Path(name).with_suffix("")): f"data/{name}" for name in images}

    def __iter__(self):
        for uuid in sorted(self.targets):
            path = uuid if Path(uuid).is_absolute() else self.paths[uuid]
            yield path, self.label(self.targets[uuid])

    def label(self, target):
        if target is None:
            return None
        assert isinstance(target, list), "a list is what makes Classifications"
        return [(self.classes[one["label"]], one.get("confidence")) for one in target]


def test_fiftyone_finds_images_and_labels(labels, tmp_path):
    wanted = [[("cat", 0.9), ("é", 0.8)], [("pot", 0.95)], [], None]
    images = labels.image_id.to_pylist()
    for folder, start in (("", "data/"), ("/data/val", "/data/val/")):
        to = f"fiftyone(folder={folder!r})" if folder else "fiftyone"
        saved = save(labels, tmp_path / "labels.json", to, classes=CLASSES)
        content = json.loads((tmp_path / "labels.json").read_text(encoding="utf-8"))
        assert [*Importer(content, images)] == [(start + i, w) for i, w in zip(images, wanted, strict=True)]
        assert ("suffixes of image names" in saved.left_out) == (not folder)


def test_fiftyones_names_get_their_suffix(labels, tmp_path):
    save(labels, tmp_path / "f.json", "fiftyone", classes=CLASSES)
    assert read_labels(tmp_path / "f.json").image_id.to_pylist() == ["a", "b", "c", "d"]
    back = read_labels(tmp_path / "f.json", format="fiftyone(suffix='.jpg')")
    assert back.image_id.to_pylist() == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]


def test_fiftyones_single_labels_names_and_no_confidence(tmp_path):
    path = tmp_path / "f.json"
    path.write_text('{"classes": null, "labels": {"x/a": "dog", "b": {"label": "cat"}, "c": ["cat", "dog"]}}')
    back = read_labels(path)
    assert sets_of(back) == {"x/a": [0], "b": [1], "c": [1, 0]}
    assert "p" not in back.table.column_names


def test_images_that_differ_in_their_suffix_alone(tmp_path, message):
    table = {
        "image_id": ["a.jpg", "a.png"],
        "usable": [True, True],
        "classes": [[1], [2]],
        "state": [["yes"]] * 2,
    }
    path = tmp_path / "f.json"
    assert message(lambda: save(labels_of(table), path, "fiftyone", classes=CLASSES), MatchError) == (
        "Two images differ only in their suffix, which FiftyOne drops.\n"
        f"  where:   {path}\n"
        "  got:     a.jpg and a.png\n"
        "  do:      pass their folder in `to`: \"fiftyone(folder='/data/images')\""
    )
    assert message(lambda: save(labels_of(table), path, "fiftyone(folder='data')", classes=CLASSES)) == (
        "The folder of the images is not an absolute path.\n  got:     data"
    )
    assert not path.exists()


HEAD = '{"classes": ["cat", "dog"], "labels": '


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (HEAD + '{"a": [0', "The file is not complete JSON."),
        (HEAD + "[]}", "The file is not a FiftyOne classification data set."),
        (
            HEAD + '{"a": 2}}',
            "This is not a class.\n  where:   {path}, image a\n  got:     2\n  allowed: 0 to 1",
        ),
        (HEAD + '{"a": true}}', "This is not a class.\n  where:   {path}, image a\n  got:     True\n"),
        (HEAD + '{"a": "cow"}}', "This is not a class.\n  where:   {path}, image a\n  got:     'cow'\n"),
        (HEAD + '{"a": [[0]]}}', "This is not a class.\n  where:   {path}, image a\n  got:     [0]\n"),
        (
            HEAD + '{"a": {"label": 0, "confidence": 1.5}}}',
            "This is not a confidence.\n  where:   {path}, image a\n  got:     1.5\n  allowed: 0 to 1",
        ),
        (HEAD + '{"a": [0], "a": [1]}}', "The JSON contains a key twice."),
        (HEAD + '{"x/a": [0], "./x/a": [1]}}', "An image is listed more than once."),
        (HEAD + '{"a": [0, "cat"]}}', "An image lists a class twice."),
        (
            '{"classes": ["cat", "cat"], "labels": {}}',
            "A class is listed twice.\n  where:   {path}, classes\n",
        ),
        ('{"classes": ["cat", 2], "labels": {}}', "The classes are not a list of names.\n"),
    ],
)
def test_broken_files_of_fiftyone(tmp_path, message, content, text):
    path = tmp_path / "f.json"
    path.write_text(content)
    assert message(lambda: read_labels(path)).startswith(text.replace("{path}", str(path)))


def imagenet_labels():
    columns = {
        "image_id": ["a.JPEG", "b.JPEG", "c.JPEG"],
        "label": [0, 2, None],
        "rated": [True, True, True],
        "usable": [True, False, True],
        "classes": [[0, 4, 7], [2], []],
        "state": [["yes", "no", "unclear"], ["yes"], []],
        "n_votes": [[2, 2, 2], [1], []],
    }
    schema = pa.schema([f for f in tables.schema("labels") if f.name in columns])
    return Labels(pa.table(columns, schema), 1000, class_list().hash, asked_known=True, name="mine")


def test_tfds_rows_are_those_of_the_builder(tmp_path):
    saved = save(imagenet_labels(), tmp_path / "rows.parquet", "tfds-multilabel")
    assert pq.read_table(saved.files[0]).to_pylist() == [
        {
            "file_name": "a.JPEG",
            "original_label": 0,
            "correct_multi_labels": [0],
            "unclear_multi_labels": [7],
            "wrong_multi_labels": [4],
            "is_problematic": False,
        },
        {
            "file_name": "b.JPEG",
            "original_label": 2,
            "correct_multi_labels": [2],
            "unclear_multi_labels": [],
            "wrong_multi_labels": [],
            "is_problematic": True,
        },
        {
            "file_name": "c.JPEG",
            "original_label": None,
            "correct_multi_labels": [],
            "unclear_multi_labels": [],
            "wrong_multi_labels": [],
            "is_problematic": False,
        },
    ]
    assert saved.left_out == ("which images were rated", "n_votes")


def test_tfds_json_holds_wordnet_ids(tmp_path):
    saved = save(imagenet_labels(), tmp_path / "human.json", "tfds-multilabel")
    assert json.loads(saved.files[0].read_text(encoding="utf-8")) == {
        "initial_annots": {
            "a.JPEG": {"correct": ["n01440764"], "unclear": ["n01514668"], "wrong": ["n01494475"]},
            "b.JPEG": {"correct": ["n01484850"]},
            "c.JPEG": {},
        },
        "problematic_images": {"b.JPEG": "not usable"},
    }
    assert saved.left_out == ("which images were rated", "n_votes", "original labels")


def test_other_classes_have_no_tfds_layout(labels, tmp_path, message):
    assert message(lambda: save(labels, tmp_path / "x.json", "tfds-multilabel", classes=CLASSES)) == (
        f"The layout supports only classes of ImageNet-1k.\n  where:   {tmp_path / 'x.json'}\n  got:     5 "
        "classes"
    )


LISTS = {
    "hf-labels": ("hub.parquet", "hf-labels"),
    "fiftyone": ("f.json", "fiftyone(folder='/data')"),
    "label-lists": ("l.json", ""),
    "fiftyone-samples": ("samples.json", ""),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_all_classes_answer_no_about_the_others(tmp_path, message, name):
    """Whether annotators looked for all classes is known to them alone."""
    file, to = LISTS[name]
    path = tmp_path / file
    table = {
        "image_id": ["a.jpg", "b.jpg"],
        "usable": [True] * 2,
        "classes": [[1], []],
        "state": [["yes"], []],
    }
    if to:
        save(labels_of(table), path, to, classes=CLASSES)
    elif name == "label-lists":
        path.write_text('{"a.jpg": ["dog"], "b.jpg": []}')
    else:
        label = {"_cls": "Classification", "label": "dog"}
        field = {"_cls": "Classifications", "classifications": []}
        rows = [{"filepath": "a.jpg", "tags": [], "y": field | {"classifications": [label]}}]
        path.write_text(json.dumps({"samples": [*rows, {"filepath": "b.jpg", "tags": [], "y": field}]}))
    plain, whole = (read_labels(path, format=f, classes=CLASSES) for f in (name, f"{name}(unlisted='no')"))
    assert (plain.asked_known, whole.asked_known) == (False, True)
    states = with_zeros(whole).table["state"].to_pylist()
    assert states == [["no", "yes", "no", "no", "no"], ["no"] * 5]
    assert message(lambda: read_labels(path, format=f"{name}(unlisted='maybe')", classes=CLASSES)) == (
        f"The option 'unlisted' is not a state.\n  where:   {path}\n  got:     maybe\n"
        "  allowed: not asked or no"
    )


def test_confidences_do_not_say_that_other_classes_are_absent(labels, tmp_path, message):
    save(labels, tmp_path / "f.json", "fiftyone", classes=CLASSES)
    assert message(lambda: read_labels(tmp_path / "f.json", format="fiftyone(unlisted='no')")) == (
        "The labels have confidences, so a class that is not listed may be uncertain.\n"
        f"  where:   {tmp_path / 'f.json'}\n  got:     unlisted='no'\n  allowed: labels without confidences"
    )
