"""Votes of several raters in published tables: tags in one cell, boxes of readers, and a row per reader."""

import numpy as np
import pandas as pd
import pytest

from manyhot import aggregate, agreement, read_labels, read_votes
from manyhot.classes import from_keys
from manyhot.errors import InputError

TAGS = ("haze", "primary", "water", "road")


def answers(votes):
    """Return the answers as a dict of (image, class, rater)."""
    keys = votes.class_list.keys
    rows = votes.to_table().to_pylist()
    found = {(r["image_id"], keys[r["class_id"]], r["rater_id"]): r["answer"] for r in rows}
    assert len(found) == len(rows)
    return found


def tag_sets(n=40):
    rng = np.random.default_rng(0)
    drawn = {(f"t{i}", r): rng.random(4) < (0.2, 0.9, 0.3, 0.3) for i in range(n) for r in "abc"}
    return {
        pair: [tag for tag, is_valid in zip(TAGS, valid, strict=True) if is_valid]
        for pair, valid in drawn.items()
    }


def write_tags(path, column, separator=" "):
    rows = [(image, rater, separator.join(tags)) for (image, rater), tags in tag_sets().items()]
    pd.DataFrame(rows, columns=["image_name", "annotator", column]).to_csv(path, index=False)
    return path


@pytest.mark.parametrize("separator", [" ", ", ", ";"])
@pytest.mark.parametrize("classes", [None, TAGS])
def test_tags_of_several_raters_are_votes(tmp_path, separator, classes):
    path = write_tags(tmp_path / "t.csv", "tags", separator)
    votes = read_votes(path, classes=classes and from_keys(classes))
    expected = {
        (image, tag, rater): "yes" if tag in tags else "no"
        for (image, rater), tags in tag_sets().items()
        for tag in TAGS
    }
    assert answers(votes) == expected
    assert votes.kind == ""
    labels = aggregate(path, method="majority", classes=classes and list(classes)).labels
    n_yes = {}
    for (image, tag, _), answer in expected.items():
        n_yes[image, tag] = n_yes.get((image, tag), 0) + (answer == "yes")
    n_valid = sum(states.count("yes") for states in labels.table["state"].to_pylist())
    assert n_valid == sum(n >= 2 for n in n_yes.values())


def test_tags_of_several_raters_as_labels_are_those_of_any(tmp_path):
    labels = read_labels(write_tags(tmp_path / "t.csv", "tags"))
    union = {}
    for (image, _), tags in tag_sets().items():
        union.setdefault(image, set()).update(tags)
    keys = labels.class_list.keys
    found = {
        image: {keys[c] for c in classes}
        for image, classes in zip(
            labels.image_id.to_pylist(), labels.table["classes"].to_pylist(), strict=True
        )
    }
    assert found == union
    assert any("to decide between raters, use manyhot aggregate" in note for note in labels.notes)


@pytest.mark.parametrize("classes", [None, TAGS])
def test_several_tags_in_a_column_of_one_class_are_refused(tmp_path, classes):
    path = write_tags(tmp_path / "t.csv", "label")
    with pytest.raises(InputError, match="A cell names several classes") as error:
        read_votes(path, classes=classes and from_keys(classes))
    assert "choices(separator=' ')" in str(error.value)
    divided = read_votes(path, format="choices(separator=' ')", classes=classes and from_keys(classes))
    assert sum(a == "yes" for a in answers(divided).values()) == sum(map(len, tag_sets().values()))


def test_names_of_several_words_are_still_one_class(tmp_path):
    names = ["polar bear", "black bear", "brown bear", "bear", "red fox", "arctic fox"]
    rows = [(f"{i}.jpg", r, names[(i + r) % 6]) for i in range(12) for r in range(3)]
    pd.DataFrame(rows, columns=["image", "annotator", "label"]).to_csv(tmp_path / "n.csv", index=False)
    assert read_votes(tmp_path / "n.csv").class_list.keys == tuple(sorted(names))


VINDR = """image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max
a1,Cardiomegaly,3,R9,10,10,50,50
a1,Cardiomegaly,3,R9,60,10,90,50
a1,Cardiomegaly,3,R10,12,11,52,51
a1,Nodule/Mass,8,R10,90,90,99,99
b2,No finding,14,R9,,,,
b2,No finding,14,R10,,,,
"""


@pytest.mark.parametrize("rater", ["rad_id", "rad_ID", "reader", "radiologist", "annotator_id"])
def test_boxes_of_several_readers_are_one_vote_per_class(tmp_path, rater):
    path = tmp_path / "train.csv"
    path.write_text(VINDR.replace("rad_id", rater))
    chosen = {("a1", "R9"): ["Cardiomegaly"], ("a1", "R10"): ["Cardiomegaly", "Nodule/Mass"]}
    chosen |= {("b2", "R9"): ["No finding"], ("b2", "R10"): ["No finding"]}
    for text in (VINDR, VINDR.replace("class_id", "number"), VINDR.replace("class_name", "finding")):
        path.write_text(text.replace("rad_id", rater))
        votes, has_names = read_votes(path), "class_name" in text
        names = {"Cardiomegaly": "3", "Nodule/Mass": "8", "No finding": "14"}
        sets = {p: {n if has_names else names[n] for n in found} for p, found in chosen.items()}
        read = answers(votes)
        assert {p: {c for i, c, r in read if (i, r) == p and read[i, c, r] == "yes"} for p in sets} == sets
        n_classes = 3 if has_names else 15
        assert len(read) == 4 * n_classes
    with pytest.raises(InputError, match=r"manyhot aggregate .*train\.csv --out labels\.parquet"):
        read_labels(path)


FORM = """Timestamp,Email Address,Image,cat,dog
11/2/2026 16:27:20,ann@school.example,a.jpg,TRUE,FALSE
11/2/2026 16:28:00,bob@school.example,a.jpg,TRUE,TRUE
"""


def test_answers_to_a_form_with_check_boxes(tmp_path):
    path = tmp_path / "form.csv"
    path.write_text(FORM)
    assert answers(read_votes(path)) == {
        ("a.jpg", "cat", "ann@school.example"): "yes",
        ("a.jpg", "dog", "ann@school.example"): "no",
        ("a.jpg", "cat", "bob@school.example"): "yes",
        ("a.jpg", "dog", "bob@school.example"): "yes",
    }


@pytest.mark.parametrize(
    ("columns", "do"),
    [
        (
            ("Email Address", "Image", "What is it?"),
            "rename the column of raters to rater_id, and the column of chosen classes to labels",
        ),
        (
            ("Email Address", "What is it? [a.jpg]", "What is it? [b.jpg]"),
            "rename the column with the names of the images to image_id; if each image has a column, write "
            "one row per image and one column per rater",
        ),
    ],
)
def test_what_to_do_with_other_answers_to_forms(tmp_path, columns, do):
    pd.DataFrame([("x@y.example", "cat", "dog")], columns=columns).to_csv(tmp_path / "form.csv", index=False)
    with pytest.raises(InputError) as error:
        read_votes(tmp_path / "form.csv")
    assert str(error.value).endswith(f"\n  do:      {do}")


def write_study(path, cells, rater="rad_ID"):
    rng = np.random.default_rng(1)
    rows = [(f"i{i}", f"R{k}", 50 + i, *rng.choice(cells, 3)) for i in range(30) for k in range(3)]
    frame = pd.DataFrame(rows, columns=["image_id", rater, "Age", "Edema", "Lung Opacity", "No finding"])
    frame.to_csv(path, index=False)
    return frame


@pytest.mark.parametrize(
    "cells",
    [
        {1: "yes", 0: "no"},
        {1: "yes", 0: "no", -1: "maybe", "": None},
        {"present": "yes", "Absent": "no", "can't tell": "maybe", "": None},
        {"yes": "yes", "no": "no", "unsure": "maybe", "uncertain": "maybe"},
    ],
)
def test_one_row_per_image_and_reader(tmp_path, cells):
    frame = write_study(tmp_path / "s.csv", np.array([*cells], object))
    votes = read_votes(tmp_path / "s.csv")
    expected = {
        (row["image_id"], name, row["rad_ID"]): cells[row[name]]
        for _, row in frame.iterrows()
        for name in ("Edema", "Lung Opacity", "No finding")
        if cells[row[name]] is not None
    }
    assert answers(votes) == expected
    for read in (aggregate, agreement):
        read(tmp_path / "s.csv")
    with pytest.raises(InputError, match=r"manyhot aggregate .*s\.csv --out labels\.parquet"):
        read_labels(tmp_path / "s.csv")


def test_agreement_of_a_reader_study_in_memory():
    frame = pd.DataFrame(
        {"image_id": list("aabb"), "reader": ["x", "y"] * 2, "Edema": [1, 0, 0, 0], "Mass": [0, 0, 1, 1]}
    )
    assert agreement(frame).value("pairwise") == pytest.approx(3 / 4)


def test_rows_of_a_reader_study_that_are_repeated(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("image_id,reader,Edema,Mass\na,x,1,0\na,x,1,0\na,y,0,\n")
    assert answers(read_votes(path)) == {
        ("a", "Edema", "x"): "yes",
        ("a", "Mass", "x"): "no",
        ("a", "Edema", "y"): "no",
    }
    path.write_text("image_id,reader,Edema,Mass\na,x,1,0\na,x,0,0\na,y,0,1\n")
    with pytest.raises(InputError, match="A rater answered a question twice"):
        read_votes(path)


def test_a_reader_beside_labels_of_each_image_is_metadata(tmp_path):
    (tmp_path / "l.csv").write_text("image_id,reader,Edema,Mass\na,x,1,0\nb,x,0,1\nc,y,0,0\n")
    labels = read_labels(tmp_path / "l.csv")
    assert labels.class_list.keys == ("Edema", "Mass")
    assert labels.image_id.to_pylist() == ["a", "b", "c"]


def test_words_of_readers_in_votes(tmp_path):
    words = {
        "present": "yes",
        "Absent ": "no",
        "can't tell": "maybe",
        "unsure": "maybe",
        "uncertain": "maybe",
    }
    rows = [("a", f"c{i}", "x", word) for i, word in enumerate(words)]
    pd.DataFrame(rows, columns=["image_id", "class", "reader", "answer"]).to_csv(
        tmp_path / "v.csv", index=False
    )
    read = answers(read_votes(tmp_path / "v.csv"))
    assert read == {("a", f"c{i}", "x"): answer for i, answer in enumerate(words.values())}


@pytest.mark.parametrize("column", ["id_code", "dicom_id", "Image Index", "img_filename"])
def test_names_of_images_in_published_tables(tmp_path, column):
    (tmp_path / "l.csv").write_text(f"{column},Edema,Mass\na,1,0\nb,0,1\n")
    assert read_labels(tmp_path / "l.csv").image_id.to_pylist() == ["a", "b"]


def test_times_of_rows_are_those_of_their_answers(tmp_path):
    begun = pd.Timestamp("2026-11-03T08:00:00Z")
    rows = [
        (f"{i}.tif", rater, begun + pd.Timedelta(minutes=i), begun + pd.Timedelta(minutes=i, seconds=s), 1, 0)
        for i in range(12)
        for rater, s in (("ann", 12), ("bob", 11), ("eve", 1))
    ]
    names = ["image_id", "rater_id", "shown_at", "answered_at", "table", "stamp"]
    table = pd.DataFrame(rows, columns=names)
    table.to_csv(tmp_path / "votes.csv", index=False)
    votes = read_votes(tmp_path / "votes.csv")
    assert votes.left_out == ()
    seconds = {
        (r["rater_id"], (r["answered_at"] - r["shown_at"]).total_seconds())
        for r in votes.to_table().to_pylist()
    }
    assert seconds == {("ann", 12.0), ("bob", 11.0), ("eve", 1.0)}
    assert [r["rater_id"] for r in agreement(votes).raters.to_pylist() if "fast" in str(r["flags"])] == [
        "eve"
    ]
