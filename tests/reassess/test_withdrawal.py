"""Questions are taken from the proposals of a campaign: images, classes and single questions."""

import json

import pyarrow as pa
import pytest
from PIL import Image

from manyhot import tables
from manyhot.errors import InputError, MatchError, UnknownNameError, UsageError
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
    propose(campaign, rule="all-classes", add=True).write(campaign)
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
