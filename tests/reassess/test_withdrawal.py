"""Questions are taken from the proposals of a campaign: images, classes and single questions."""

import json

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from manyhot import Predictions, Reading, tables
from manyhot.errors import InputError, MatchError, UnknownNameError, UsageError
from manyhot.formats import open_class_list
from manyhot.reassess.audit import audit
from manyhot.reassess.init import init_campaign
from manyhot.reassess.propose import propose

CLASSES = "key,name\nn0,tench\nn1,goldfish\nn2,shark\n"
EVERY = {(f"{n}.png", c) for n in range(4) for c in range(3)}


@pytest.fixture
def campaign(tmp_path):
    """A campaign that asks about all three classes of four images, and has votes."""
    (tmp_path / "photos").mkdir()
    for n in range(4):
        Image.new("RGB", (8, 8), (50 * n, 0, 0)).save(tmp_path / "photos" / f"{n}.png")
    (tmp_path / "classes.csv").write_text(CLASSES)
    folder = tmp_path / "campaign"
    init_campaign(folder, images=tmp_path / "photos", classes=tmp_path / "classes.csv")
    propose(folder, rule="all-classes").write(folder)
    (folder / "votes.parquet").write_bytes(b"answers")  # as if raters had answered
    return folder


def pairs(found):
    return {(row["image_id"], row["class_id"]) for row in found.table.to_pylist()}


@pytest.mark.parametrize(
    ("name", "text", "gone", "whole"),
    [
        ("images.txt", "1.png\n3.png\n", {(i, c) for i, c in EVERY if i in ("1.png", "3.png")}, (2, 0)),
        ("images.csv", "filename\nphotos/1.png\n", {(i, c) for i, c in EVERY if i == "1.png"}, (1, 0)),
        ("classes.csv", "class\ngoldfish\n", {(i, c) for i, c in EVERY if c == 1}, (0, 1)),
        ("ids.csv", "class_id\n2\n0\n", {(i, c) for i, c in EVERY if c != 1}, (0, 2)),
        ("pairs.csv", "image_id,class\n0.png,shark\n1.png,tench\n", {("0.png", 2), ("1.png", 0)}, (0, 0)),
        (
            "mixed.csv",
            "image_id,class\n0.png,\n,shark\n1.png,tench\n",
            {(i, c) for i, c in EVERY if i == "0.png" or c == 2} | {("1.png", 0)},
            (1, 1),
        ),
    ],
)
def test_what_is_withdrawn(campaign, tmp_path, name, text, gone, whole):
    (tmp_path / name).write_text(text)
    found = propose(campaign, without=tmp_path / name)
    assert pairs(found) == EVERY - gone
    found.write(campaign)  # although raters are answering
    standing = tables.read(campaign / "proposals.parquet", "proposals")
    assert len(standing) == 12 - len(gone)
    about = tables.metadata(standing)
    assert json.loads(about["rule"])["rule"] == "all-classes"
    assert json.loads(about["history"]) == [
        {"rule": "all-classes", "questions": 12},
        {"without": name, "questions": len(gone), "images": whole[0], "classes": whole[1]},
    ]
    note = (
        f"{len(gone)} of 12 questions were withdrawn; {whole[0]} images and {whole[1]} classes have no "
        "questions left"
    )
    assert found.notes[-1] == note


def test_questions_come_back_with_a_rule(campaign):
    propose(campaign, without=pa.table({"class": ["shark"]})).write(campaign)
    kept = propose(campaign, rule="all-classes", add=True, without=pa.table({"image_id": ["0.png"]}))
    assert pairs(kept) == {(i, c) for i, c in EVERY if i != "0.png"}
    assert not any("withdrawn earlier" in note for note in kept.notes)
    again = propose(campaign, rule="all-classes", add=True)
    assert any("withdrawn earlier" in note for note in again.notes)
    again.write(campaign)
    about = tables.metadata(tables.read(campaign / "proposals.parquet", "proposals"))
    assert json.loads(about["history"]) == [
        {"rule": "all-classes", "questions": 12},
        {"without": "a table", "questions": 4, "images": 0, "classes": 1},
        {"rule": "all-classes", "questions": 4},
    ]


def test_what_cannot_be_withdrawn(campaign):
    with pytest.raises(MatchError, match=r"No question of the campaign is withdrawn\."):
        propose(campaign, without=pa.table({"image_id": ["0.png"], "class_id": [7]}))
    with pytest.raises(InputError, match=r"These are not questions\."):
        propose(campaign, without=pa.table({"colour": ["red"]}))
    with pytest.raises(UsageError, match=r"without applying a rule"):
        propose(campaign, without=pa.table({"class": ["shark"]}), known_labels=["x"])
    with pytest.raises(UnknownNameError, match="'whale'"):
        propose(campaign, without=pa.table({"class": ["whale"]}))


def test_one_class_by_name(campaign):
    propose(campaign, without=pa.table({"class": ["shark"]})).write(campaign)
    more = propose(campaign, rule="all-classes(classes='shark')", add=True)
    assert pairs(more) == EVERY
    assert more.notes[-1] == "4 questions were added to the 8 of the campaign"
    with pytest.raises(UnknownNameError, match="'whale'"):
        propose(campaign, rule="all-classes(classes=['whale'])", add=True)


def test_an_audit_says_that_it_draws_from_images_about_which_nothing_is_asked(campaign, tmp_path):
    scores = np.eye(4, 3, dtype=np.float32) / 2
    ids, classes = pa.array([f"{n}.png" for n in range(4)]), open_class_list(campaign / "classes.parquet")
    model = Predictions(ids, "net", scores=scores, score_kind="score", n_classes=3, class_hash=classes.hash)
    drawn = audit(campaign, [model], size=2, rule="union(k=1)", out=tmp_path / "one")
    assert not any("withdrawn" in note for note in drawn.notes)
    propose(campaign, without=pa.table({"image_id": ["0.png"]})).write(campaign)
    drawn = audit(campaign, [model], size=2, rule="union(k=1)", out=tmp_path / "two")
    assert any("withdrawn" in note for note in drawn.notes)


def test_some_images_of_a_campaign(campaign):
    """The description of the campaign is of all its images."""
    images = tables.read(campaign / "images.parquet", "images")
    private = pa.array([name == "0.png" for name in images["image_id"].to_pylist()])
    tables.write(images.append_column("private", private), campaign / "images.parquet", "images")
    found = propose(campaign, rule="all-classes", reading=Reading(where=["private=false"]))
    assert pairs(found) == {(i, c) for i, c in EVERY if i != "0.png"}
