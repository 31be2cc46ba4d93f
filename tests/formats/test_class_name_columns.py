"""CSV tables carry the names of their classes, which decide, whatever the order of the numbers."""

import json

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import manyhot as mh
from manyhot import tables
from manyhot.classes import from_keys
from manyhot.formats import read_golden, read_images, read_predictions, read_proposals, read_votes
from manyhot.tables import Labels

KEYS = ("person", "TV, monitor", "car|van", "Bär")
"""Names in an order that is not that of strings, with separators of lists."""

ROWS = {
    "a.jpg": {"person": "yes", "TV, monitor": "unclear", "car|van": "no", "Bär": "no"},
    "b.jpg": {"person": "no", "TV, monitor": "yes", "car|van": "yes", "Bär": "no"},
    "c.jpg": {"person": "no", "TV, monitor": "no", "car|van": "no", "Bär": "yes"},
    "d.jpg": {},
}


def labels_of(rows=ROWS, keys=KEYS, **columns):
    classes = from_keys(keys, "own")
    table = pa.table(
        {
            "image_id": list(rows),
            "usable": [True] * len(rows),
            "classes": pa.array([[keys.index(k) for k in s] for s in rows.values()], pa.list_(pa.int32())),
            "state": pa.array([list(s.values()) for s in rows.values()], pa.list_(pa.string())),
            **columns,
        }
    )
    return Labels(table, len(keys), classes.hash, asked_known=True, name="own", class_list=classes)


def states(labels):
    table = labels.table.select(["image_id", "classes", "state"]).to_pylist()
    keys = labels.class_list.keys
    return {r["image_id"]: {keys[c]: s for c, s in zip(r["classes"], r["state"], strict=True)} for r in table}


@pytest.mark.parametrize("long", [False, True])
def test_label_sets_are_read_back_over_the_same_list(tmp_path, long):
    tables.write_labels(labels_of(), tmp_path / "own.parquet")
    mh.convert(tmp_path / "own.parquet", tmp_path / "own.csv", long=long)
    read = mh.read_labels(tmp_path / "own.csv")
    assert read.class_list.keys == KEYS
    assert read.class_hash == from_keys(KEYS).hash
    assert states(read) == ROWS
    header = (tmp_path / "own.csv").read_text(encoding="utf-8").partition("\n")[0]
    names = "class_id,class_name" if long else "classes,class_names"
    assert header == f"image_id,usable,{names},state"


@pytest.mark.parametrize("long", [False, True])
def test_labels_and_sources_of_merged_label_sets_are_read_back(tmp_path, long):
    more = {
        "label": pa.array([0, 1, 3, 2], pa.int32()),
        "sources": [["x y", "a,b"], ["x y"], ["1"], []],
        "conflicts": pa.array([[1], [], [0, 2], []], pa.list_(pa.int32())),
    }
    tables.write_labels(labels_of(**more), tmp_path / "own.parquet")
    mh.convert(tmp_path / "own.parquet", tmp_path / "own.csv", long=long)
    read = mh.read_labels(tmp_path / "own.csv")
    assert {name: read.table[name].to_pylist() for name in more} == {
        "label": [0, 1, 3, 2],
        "sources": [["x y", "a,b"], ["x y"], ["1"], []],
        "conflicts": [[1], [], [0, 2], []],
    }
    assert states(read) == ROWS


def test_a_class_that_no_row_contains_leaves_no_gap(tmp_path):
    (tmp_path / "few.csv").write_text(
        "image_id,usable,class_id,class_name,state,label,label_name,conflicts\n"
        "a.jpg,true,7,dog,yes,7,dog,3\na.jpg,true,3,zebu,no,7,dog,3\nb.jpg,true,,,,3,zebu,\n"
    )
    read = mh.read_labels(tmp_path / "few.csv")
    assert read.class_list.keys == ("zebu", "dog")  # by their numbers
    assert states(read) == {"a.jpg": {"dog": "yes", "zebu": "no"}, "b.jpg": {}}
    assert read.table["label"].to_pylist() == [1, 0]
    assert read.table["conflicts"].to_pylist() == [[0], []]
    other = mh.read_labels(tmp_path / "few.csv", classes=[*"abc", "zebu", *"efg", "dog"])
    assert other.table["classes"].to_pylist() == [[7, 3], []]
    assert other.table["label"].to_pylist() == [7, 3]


def test_predictions_are_joined_by_name_whatever_the_order_of_their_columns(tmp_path):
    rows = {f"{i}.jpg": {k: "yes" if i % 4 == c else "no" for c, k in enumerate(KEYS)} for i in range(16)}
    tables.write_labels(labels_of(rows), tmp_path / "own.parquet")
    scores = {k: [0.9 if r[k] == "yes" else 0.1 for r in rows.values()] for k in KEYS}
    order = ["TV, monitor", "person", "car|van", "Bär"]  # two are exchanged
    frame = pd.DataFrame({"image_id": list(rows), **{k: scores[k] for k in order}})
    frame.to_csv(tmp_path / "net.csv", index=False)
    options = {"metrics": ["map_macro"], "reading": mh.Reading(scores="probability"), "resamples": 0}
    for long in (False, True):
        mh.convert(tmp_path / "own.parquet", tmp_path / "own.csv", long=long)
        found = mh.evaluate(tmp_path / "own.csv", [tmp_path / "net.csv"], **options)
        assert found.results["value"].to_pylist()[0] == 1
        assert not [note for note in found.notes if "no names" in note]
    # As earlier versions wrote it: the numbers may mean anything.
    pl.read_csv(tmp_path / "own.csv").drop("class_name").write_csv(tmp_path / "old.csv")
    found = mh.evaluate(tmp_path / "old.csv", [tmp_path / "net.csv"], **options)
    assert found.results["value"].to_pylist()[0] < 1
    assert [note for note in found.notes if "no names" in note] == [
        "old: the labels contain numbers of classes and no names, so they are assumed to be positions "
        "among the classes of the predictions: TV, monitor, person, car|van and 1 more; write the names "
        "into the labels, or pass `classes` in the order of the numbers"
    ]


VOTES = "image_id,class_id,class_name,rater_id,answer\na.jpg,1,person,ann,no\nb.jpg,0,Bär,ann,yes\n"


def test_votes_with_names_beside_numbers(tmp_path):
    path = tmp_path / "votes.csv"
    path.write_text(VOTES, encoding="utf-8")
    votes = read_votes(path)
    assert votes.class_list.keys == ("Bär", "person")
    assert dict(zip(votes.image_id.to_pylist(), votes.class_id.tolist(), strict=True)) == {
        "a.jpg": 1,
        "b.jpg": 0,
    }
    path.write_text("image_id,class_name,rater_id,answer\na.jpg,person,ann,no\n", encoding="utf-8")
    assert read_votes(path, classes=KEYS).class_id.tolist() == [0]


@pytest.mark.parametrize("holds", ["votes", "labels", "proposals", "predictions"])
def test_a_number_that_contradicts_its_name_is_refused(tmp_path, message, holds):
    path = tmp_path / "table.csv"
    text = {
        "votes": VOTES,
        "labels": "image_id,class_id,class_name,state\na.jpg,1,person,no\n",
        "proposals": "image_id,class_id,score,n_models,source,class_name\na.jpg,1,0.5,1,x,person\n",
        "predictions": "image_id,class_id,class_name,score\na.jpg,1,person,0.5\n",
    }[holds]
    path.write_text(text, encoding="utf-8")
    read = {
        "votes": read_votes,
        "labels": mh.read_labels,
        "proposals": read_proposals,
        "predictions": read_predictions,
    }[holds]
    assert message(lambda: read(path, classes=from_keys(KEYS, "own"))) == (
        "The number and the name of a class contradict each other.\n"
        f"  where:   {path}\n"
        "  got:     number 1, name person\n"
        "  allowed: number 0 for person; in own, 1 is TV, monitor\n"
        "  do:      pass the class list to which the numbers refer as `classes` or, if the names are right, "
        "write them in place of the numbers"
    )


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            "a.jpg,0,dog,yes\nb.jpg,0,cat,no",
            "A number has two classes.\n  where:   {}\n  got:     0 dog and 0 cat",
        ),
        (
            "a.jpg,0,dog,yes\nb.jpg,1,dog,no",
            "A class has two numbers.\n  where:   {}\n  got:     0 dog and 1 dog",
        ),
        ("a.jpg,0,dog,yes\nb.jpg,1,,no", "A class has a number and no name.\n  where:   {}\n  got:     1"),
    ],
)
def test_names_that_do_not_fit_numbers(tmp_path, message, rows, said):
    path = tmp_path / "labels.csv"
    path.write_text(f"image_id,class_id,class_name,state\n{rows}\n")
    assert message(lambda: mh.read_labels(path)).startswith(said.format(path))


def test_names_of_another_list_are_refused(tmp_path, message):
    path = tmp_path / "labels.csv"
    path.write_text("image_id,class_id,class_name,state\na.jpg,0,dog,yes\n")
    assert message(lambda: mh.read_labels(path, classes=from_keys(KEYS, "own"))) == (
        f"A class is not in the class list.\n  where:   {path}\n  got:     dog\n"
        "  allowed: a key or name of the 4 classes of own\n"
        "  do:      pass the list of all classes as `classes`"
    )


def test_lists_of_names_and_numbers_have_one_length(tmp_path, message):
    path = tmp_path / "labels.csv"
    path.write_text('image_id,classes,class_names,state\na.jpg,0 1,"[""dog""]",yes no\n')
    assert message(lambda: mh.read_labels(path)) == (
        "The lists in the columns 'classes' and 'class_names' differ in length.\n"
        f"  where:   {path}\n  do:      write one name for each class"
    )


@pytest.mark.parametrize("long", [False, True])
def test_names_that_look_like_numbers(tmp_path, long):
    keys = ("3", "007", "1")
    rows = {"a.jpg": {"3": "yes", "007": "no", "1": "no"}, "b.jpg": {"1": "yes"}}
    label = pa.array([0, 2], pa.int32())
    tables.write_labels(labels_of(rows, keys, label=label), tmp_path / "own.parquet")
    mh.convert(tmp_path / "own.parquet", tmp_path / "own.csv", long=long)
    for classes in (None, keys):
        read = mh.read_labels(tmp_path / "own.csv", classes=classes)
        assert read.class_list.keys == keys
        assert states(read) == rows
        assert read.table["label"].to_pylist() == [0, 2]


def test_a_class_may_have_several_names_of_a_class_list(tmp_path):
    (tmp_path / "few.csv").write_text(
        "image_id,class_id,class_name,state\na.jpg,0,tench,yes\nb.jpg,0,n01440764,no\n"
    )
    read = mh.read_labels(tmp_path / "few.csv", classes="imagenet1k")
    assert read.table["classes"].to_pylist() == [[0], [0]]


def test_numbers_of_imagenet_stay_numbers_of_imagenet(tmp_path):
    (tmp_path / "few.csv").write_text("image_id,class_id,class_name,state\na.jpg,0,tench,yes\n")
    read = mh.read_labels(tmp_path / "few.csv")
    assert (read.n_classes, read.class_list) == (1000, None)
    assert read.class_hash == mh.classes.class_list().hash


def test_top_k_predictions_are_read_back_by_name(tmp_path):
    classes = from_keys(KEYS, "own")
    top = np.array([[2, 0], [1, 3]], np.int32)
    scores = np.array([[0.9, 0.1], [0.8, 0.2]], np.float32)
    predictions = tables.Predictions(
        pa.array(["a.jpg", "b.jpg"]),
        "net",
        top,
        scores,
        score_kind="probability",
        n_classes=4,
        class_hash=classes.hash,
        class_list=classes,
    )
    tables.write_predictions(predictions, tmp_path / "net.parquet")
    for long in (False, True):
        mh.convert(tmp_path / "net.parquet", tmp_path / "net.csv", long=long)
        read = read_predictions(tmp_path / "net.csv", scores="probability")
        keys = read.class_list.keys
        assert [[keys[c] for c in row] for row in read.classes] == [
            ["car|van", "person"],
            ["TV, monitor", "Bär"],
        ]


def test_labels_of_images_are_named(tmp_path):
    path = tmp_path / "images.csv"
    path.write_text("image_id,label,label_name\na.jpg,1,person\nb.jpg,0,dog\n")
    images = read_images(path)
    assert images.class_list.keys == ("dog", "person")
    assert images.label.to_pylist() == [1, 0]
    assert images.table["label_name"].to_pylist() == ["person", "dog"]
    # Any column is allowed in this table: texts that name no classes are one.
    path.write_text("image_id,label,label_name\na.jpg,1,a person\nb.jpg,1,people\n")
    assert read_images(path).class_list is None
    assert read_images(path, classes=["dog", "person"]).label.to_pylist() == [1, 1]


def test_answers_keep_their_names_in_parquet(tmp_path):
    golden = pd.DataFrame(
        {"image_id": ["a.jpg"], "class_id": ["Bär"], "expert_id": ["eve"], "answer": ["yes"]}
    )
    golden.to_csv(tmp_path / "golden.csv", index=False)
    (tmp_path / "votes.csv").write_text(
        VOTES.replace(",1,", ",0,").replace(",0,Bär", ",3,Bär"), encoding="utf-8"
    )
    for name, read in (("golden", read_golden), ("votes", read_votes)):
        mh.convert(tmp_path / f"{name}.csv", tmp_path / f"{name}.parquet", classes=KEYS)
        found = read(tmp_path / f"{name}.parquet")
        assert (found.experts if name == "golden" else found).class_list.keys == KEYS
        mh.convert(tmp_path / f"{name}.parquet", tmp_path / f"{name}-2.csv")
        frame = pl.read_csv(tmp_path / f"{name}-2.csv")
        assert [(c, KEYS[c]) for c in frame["class_id"]] == list(
            zip(frame["class_id"], frame["class_name"], strict=True)
        )


def test_fiftyone_keeps_the_names_that_its_file_lists(tmp_path):
    content = {"classes": list(KEYS), "labels": {"a.jpg": ["Bär"], "b.jpg": ["person", "TV, monitor"]}}
    (tmp_path / "labels.json").write_text(json.dumps(content), encoding="utf-8")
    labels = mh.read_labels(tmp_path / "labels.json")
    assert labels.class_list.keys == KEYS
    assert states(labels) == {"a.jpg": {"Bär": "yes"}, "b.jpg": {"person": "yes", "TV, monitor": "yes"}}
