"""Votes of sheets that are converted into a campaign."""

import numpy as np
import polars as pl
import pytest
from PIL import Image

from manyhot.data.convert import convert
from manyhot.errors import MatchError
from manyhot.formats import read_votes
from manyhot.reassess.aggregate import aggregate
from manyhot.reassess.init import init_campaign

ROUND = [("0.png", "ann", "cat"), ("0.png", "bob", "cat"), ("1.png", "ann", "dog"), ("1.png", "bob", "dog")]


def sheet(name, rows, column="labels"):
    pl.DataFrame(rows, schema=["image_id", "rater_id", column], orient="row").write_csv(name)


@pytest.fixture
def campaign(tmp_path, monkeypatch):
    """A campaign that got the class sofa after its first round, whose form had only cats and dogs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pool").mkdir()
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 255, (8, 8, 3)).astype("u1")
        Image.fromarray(pixels).save(tmp_path / "pool" / f"{i}.png")
    (tmp_path / "two.txt").write_text("cat\ndog\n")
    (tmp_path / "three.txt").write_text("cat\ndog\nsofa\n")
    init_campaign("camp", images="pool", classes="two.txt")
    init_campaign("camp", images="pool", classes="three.txt", add=True)
    sheet("round1.csv", ROUND)
    return tmp_path / "camp"


def answers(path="camp"):
    """The answers of the campaign as rows: image, class, rater, answer."""
    table = read_votes(path).to_table().select(["image_id", "class_id", "rater_id", "answer"])
    return sorted(tuple(row.values()) for row in table.to_pylist())


ASKED = sorted(
    (image, class_id, rater, "yes" if (class_id == 0) == (image == "0.png") else "no")
    for image in ("0.png", "1.png")
    for class_id in (0, 1)
    for rater in ("ann", "bob")
)
"""The answers of the first round: two images, two raters, two classes."""


def test_no_answer_is_invented_for_a_class_that_no_form_had(campaign):
    notes = convert("round1.csv", "camp/votes.parquet").notes
    assert notes == (
        "classes that no rater chose, which count as not asked about: sofa; if raters could choose them, "
        "pass the classes that raters could choose as `classes`, such as camp/classes.parquet",
    )
    assert answers() == ASKED
    assert aggregate("camp").labels.table["classes"].to_pylist() == [[0, 1], [0, 1], []]


def test_classes_that_are_passed_were_asked_about(campaign):
    assert convert("round1.csv", "camp/votes.parquet", classes="three.txt").notes == ()
    sofa = [(image, 2, rater, "no") for image in ("0.png", "1.png") for rater in ("ann", "bob")]
    assert answers() == sorted([*ASKED, *sofa])


def test_raters_who_chose_nothing_answered_all_questions(campaign):
    sheet("none.csv", [("0.png", "ann", ""), ("1.png", "ann", "")])
    convert("none.csv", "camp/votes.parquet", format="choices(several=True)")
    assert answers() == sorted((f"{i}.png", c, "ann", "no") for i in (0, 1) for c in range(3))


@pytest.mark.parametrize("order", ["cat\ndog\n", "dog\ncat\n"])
def test_votes_over_the_list_of_the_form_are_matched_by_name(campaign, order):
    (campaign.parent / "form.txt").write_text(order)
    convert("round1.csv", "camp/votes.parquet", classes="form.txt")
    assert answers() == ASKED
    assert aggregate("camp").labels.n_classes == 3


def test_a_votes_table_over_another_list_is_matched_by_name(campaign):
    (campaign.parent / "form.txt").write_text("dog\ncat\n")
    convert("round1.csv", "own.parquet", classes="form.txt")
    convert("own.parquet", "camp/votes.parquet")
    assert answers() == ASKED


def test_votes_for_a_class_that_the_campaign_lacks_are_refused(campaign):
    sheet("fox.csv", [("0.png", "ann", "fox"), ("1.png", "ann", "dog")])
    convert("fox.csv", "fox.parquet")
    with pytest.raises(MatchError) as error:
        convert("fox.parquet", "camp/votes.parquet")
    assert str(error.value) == (
        "The votes are about classes that are not in the class list.\n"
        "  where:   fox\n"
        "  got:     fox\n"
        "  allowed: the 3 classes of classes\n"
        "  do:      add these classes at the end of the list (of a campaign: manyhot init CAMPAIGN --images "
        "IMAGES --classes LIST --add), or as `synonyms` of classes"
    )
    assert not (campaign / "votes.parquet").exists()


def test_check_boxes_that_nobody_ticked_were_offered(campaign):
    """Mechanical Turk's columns name the classes, so that sofa is a class that workers could choose."""
    row = {"HITId": "h", "AssignmentId": "a", "WorkerId": "ann", "AssignmentStatus": "Approved"}
    boxes = {"Answer.x.cat": "true", "Answer.x.dog": "false", "Answer.x.sofa": "false"}
    pl.DataFrame([{**row, "SubmitTime": "", "Input.image": "0.png", **boxes}]).write_csv("turk.csv")
    assert convert("turk.csv", "camp/votes.parquet").holds == "votes"
    assert answers() == [("0.png", 0, "ann", "yes"), ("0.png", 1, "ann", "no"), ("0.png", 2, "ann", "no")]
