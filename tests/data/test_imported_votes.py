"""Votes of sheets that are converted into a campaign."""

import numpy as np
import polars as pl
import pytest
from PIL import Image

from manyhot.data.convert import convert
from manyhot.errors import InputError, MatchError
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


WEEK = [("0.png", "cem", "cat"), ("1.png", "cem", "cat")]
"""The answers of another rater, whose second one differs from those of the first round."""

ADDED = [("0.png", 0, "cem", "yes"), ("0.png", 1, "cem", "no"), ("1.png", 0, "cem", "yes")]
ADDED += [("1.png", 1, "cem", "no")]


def test_a_second_sheet_does_not_replace_the_first(campaign):
    convert("round1.csv", "camp/votes.parquet")
    before = (campaign / "votes.parquet").read_bytes()
    sheet("week2.csv", WEEK)
    with pytest.raises(InputError) as error:
        convert("week2.csv", "camp/votes.parquet")
    assert str(error.value) == (
        "The output would replace answers that are not among the new ones.\n"
        "  where:   camp/votes.parquet\n"
        "  got:     8 of 8 answers, such as that of ann on 0.png\n"
        "  do:      pass `add` to keep them and add the new ones; to replace them, remove the file first"
    )
    assert (campaign / "votes.parquet").read_bytes() == before
    sheet("both.csv", [*ROUND, *WEEK])
    convert("both.csv", "camp/votes.parquet")  # a sheet that has grown
    assert answers() == sorted([*ASKED, *ADDED])


@pytest.mark.parametrize("folder", ["", "pool/"])
def test_sheets_are_added(campaign, folder):
    convert("round1.csv", "camp/votes.parquet")
    sheet("week2.csv", [(folder + image, rater, chosen) for image, rater, chosen in WEEK])
    added = convert("week2.csv", "camp/votes.parquet", classes="two.txt", add=True)
    assert added.notes == ("4 answers were added to the 8 of the campaign",)
    assert answers() == sorted([*ASKED, *ADDED])
    again = convert("week2.csv", "camp/votes.parquet", classes="two.txt", add=True)
    assert again.notes == (
        "0 answers were added to the 12 of the campaign, which already contained 4 others",
    )
    assert answers() == sorted([*ASKED, *ADDED])


def test_sheets_of_one_class_per_image_are_added(campaign):
    """Raters answered no to each class that a rater of another sheet chose for the image."""
    sheet("round1.csv", ROUND, "label")
    sheet("week2.csv", WEEK, "label")
    convert("round1.csv", "camp/votes.parquet")
    convert("week2.csv", "camp/votes.parquet", add=True)
    of_one = [("0.png", 0, rater, "yes") for rater in ("ann", "bob", "cem")]
    both = [row for row in (*ASKED, *ADDED) if row[0] == "1.png"]
    assert answers() == sorted([*of_one, *both])
    assert read_votes("camp").kind == "one class"
    sheet("sets.csv", WEEK)
    with pytest.raises(InputError, match="Votes of these kinds cannot be in one file"):
        convert("sets.csv", "camp/votes.parquet", add=True)


def test_another_answer_is_later_or_refused(campaign):
    convert("round1.csv", "camp/votes.parquet")
    (campaign.parent / "other.csv").write_text("image_id,class,rater_id,answer\n0.png,cat,ann,no\n")
    with pytest.raises(MatchError, match="A rater answered a question twice"):
        convert("other.csv", "camp/votes.parquet", add=True)
    assert answers() == ASKED


@pytest.mark.parametrize("target", ["other.parquet", "camp/other.parquet"])
def test_votes_are_only_added_to_those_of_a_campaign(campaign, target):
    with pytest.raises(InputError) as error:
        convert("round1.csv", target, add=True)
    assert str(error.value) == (
        "Only votes can be added, to those of a campaign.\n"
        f"  where:   {target}\n"
        "  got:     votes\n"
        "  allowed: votes, and votes.parquet in the folder of a campaign\n"
        "  do:      leave out `add`"
    )
    with pytest.raises(InputError, match="There are no votes to which new ones can be added"):
        convert("round1.csv", "camp/votes.parquet", add=True)
