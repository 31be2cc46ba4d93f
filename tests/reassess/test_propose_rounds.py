"""Further rounds of a campaign: questions about images and classes that were added to it."""

import polars as pl
import pytest
from PIL import Image

from manyhot import Reading
from manyhot.data.convert import convert
from manyhot.errors import InputError
from manyhot.reassess.aggregate import aggregate
from manyhot.reassess.init import init_campaign
from manyhot.reassess.propose import propose


def photographs(folder, numbers):
    folder.mkdir()
    for n in numbers:
        Image.new("RGB", (8, 8), (20 * n, 0, 0)).save(folder / f"{n}.png")


@pytest.fixture(params=[True, False], ids=["label sets", "no label sets"])
def rounds(request, tmp_path, monkeypatch):
    """A campaign with votes on six images, to which three more were added."""
    monkeypatch.chdir(tmp_path)
    photographs(tmp_path / "one", range(6))
    photographs(tmp_path / "two", range(6, 9))
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    (tmp_path / "two.txt").write_text("6.png\n7.png\n8.png\n")
    init_campaign("camp", images="one", classes="classes.txt")
    propose("camp", rule="all-classes").write("camp")
    rows = [(f"{i}.png", rater, "cat" if i % 2 else "dog") for i in range(6) for rater in "abc"]
    pl.DataFrame(rows, schema=["image_id", "rater_id", "labels"], orient="row").write_csv("v.csv")
    convert("v.csv", "camp/votes.parquet")
    if request.param:
        aggregate("camp").write("camp")
    init_campaign("camp", images="two", classes="classes.txt", add=True)
    return tmp_path / "camp"


def new_pairs(found):
    """The proposed questions about the images of the second round."""
    rows = found.table.select(["image_id", "class_id"]).to_pylist()
    return sorted(tuple(row.values()) for row in rows if row["image_id"] >= "6.png")


@pytest.mark.parametrize("listed", ["6.png\n7.png\n8.png\n", "two/6.png\ntwo/7.png\ntwo/8.png\n"])
def test_listed_images_need_no_label_sets(rounds, listed):
    (rounds.parent / "list.txt").write_text(listed)
    found = propose("camp", rule="all-classes", reading=Reading(images="list.txt"))
    assert len(found) == found.n_images * 2 == 6
    assert new_pairs(found) == [(f"{n}.png", c) for n in (6, 7, 8) for c in (0, 1)]


def test_listed_images_that_the_campaign_lacks_are_noted(rounds):
    (rounds.parent / "list.txt").write_text("5.png\n8.png\nx.png\n")
    found = propose("camp", rule="all-classes", reading=Reading(images="list.txt"))
    assert set(found.table["image_id"].to_pylist()) == {"5.png", "8.png"}
    assert found.notes == ("listed images that are not in the campaign: 1",)


def test_a_list_of_other_images_is_refused(rounds):
    (rounds.parent / "list.txt").write_text("x.png\ny.png\n")
    with pytest.raises(InputError) as error:
        propose("camp", rule="all-classes", reading=Reading(images="list.txt"))
    assert str(error.value) == (
        "None of the listed images is in the campaign.\n"
        "  where:   list\n"
        "  got:     x.png, y.png\n"
        "  allowed: images such as 0.png, 1.png\n"
        "  do:      pass a file with the name of one image on each line"
    )


def test_original_labels_of_listed_images_are_proposed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pl.DataFrame({"image_id": ["a", "b"], "label": [0, 1]}).write_csv("images.csv")
    pl.DataFrame({"image_id": ["a", "b"], "classes": ["1", "0"]}).write_csv("one.csv")
    (tmp_path / "classes.txt").write_text("cat\ndog\ncup\n")
    (tmp_path / "b.txt").write_text("b\n")
    init_campaign("camp", images="images.csv", classes="classes.txt", predictions=["one.csv"])
    found = propose("camp", reading=Reading(images="b.txt"))
    rows = found.table.select(["image_id", "class_id", "source"]).to_pylist()
    assert sorted(tuple(row.values()) for row in rows) == [("b", 0, "union"), ("b", 1, "label")]


@pytest.mark.parametrize("listed", [None, "two.txt"])
def test_the_cost_of_a_round_is_that_of_its_new_questions(rounds, listed):
    found = propose("camp", rule="all-classes", add=True, reading=Reading(images=listed))
    n_images = 9 if listed is None else 3
    assert [" ".join(line.split()) for line in found.lines()][1:4] == [
        "questions 6 about 3 images, 2.00 an image",
        f"left out 0 of {n_images} images, which need no question",
        "hours 0.0 5 answers each, 5 seconds an answer",
    ]
    assert found.hours == 6 * 5 * 5 / 3600  # two classes of three images, five answers of five seconds
    shown = found.to_json()
    assert (shown["images"], shown["left_out"], shown["questions"], shown["per_image"]) == (n_images, 0, 6, 2)
    assert len(found.table) == 18  # with the twelve questions of the first round
    found.write("camp")
    again = propose("camp", rule="all-classes", add=True, reading=Reading(images=listed))
    assert (again.n_new, again.n_asked, again.n_left_out, again.hours) == (0, 0, 0, 0)


def test_withdrawn_questions_of_a_round_cost_nothing(rounds):
    without = pl.DataFrame({"image_id": ["0.png", "8.png"]})
    found = propose("camp", rule="all-classes", add=True, without=without, reading=Reading(images="two.txt"))
    assert (len(found), found.n_standing, found.n_new, found.n_asked, found.n_left_out) == (14, 10, 4, 2, 1)
    assert propose("camp", without=without[:1], reading=Reading(images="two.txt")).n_left_out == 3
