"""Numbers beside names of classes are names, too, such as 2 beside 25F23(LION) of Iconclass."""

from pathlib import Path

import pytest

import manyhot as mh
from manyhot.classes import from_keys
from manyhot.errors import InputError
from manyhot.formats import read_golden, read_images, read_predictions, read_votes

NOTATIONS = ["11H(JEROME)", "25F23(LION)", "48C7323"]
QUESTIONS = "image_id,{},{},answer\na.tif,1,ann,no\na.tif,2,ann,yes\n"


def write(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_label_sets_leave_numbers_out_that_are_not_listed(tmp_path):
    text = "image,tags\na.tif,2|25|25F23(LION)\nb.tif,1|11H(JEROME)\nc.tif,0\n"
    keys = [*NOTATIONS, "0", "1", "2", "25"]
    labels = mh.read_labels(write(tmp_path, "l.csv", text), classes=from_keys(keys, "list"))
    sets = [{keys[i] for i in ids} for ids in labels.table["classes"].to_pylist()]
    assert sets == [{"2", "25", "25F23(LION)"}, {"1", "11H(JEROME)"}, {"0"}]
    listed = write(tmp_path, "classes.txt", "\n".join(NOTATIONS) + "\n")
    with pytest.raises(InputError, match=r"not in the class list"):
        mh.read_labels(tmp_path / "l.csv", classes=listed)


def test_a_column_of_scores_is_not_that_of_another_class(tmp_path):
    path = write(tmp_path, "s.csv", "image_id,11H(JEROME),25F23(LION),2\na.tif,0.1,0.2,0.9\n")
    with pytest.raises(InputError, match="A class has no column of scores") as error:
        read_predictions(path, classes=from_keys(NOTATIONS, "list"))
    assert "48C7323" in str(error.value)


@pytest.mark.parametrize("header", ["0,1,2,loss", "0,1,2,width"])
def test_columns_of_numbers_beside_others_are_ids(tmp_path, header):
    path = write(tmp_path, "s.csv", f"image_id,{header}\na.tif,0.1,0.2,0.7,0.5\n")
    found = read_predictions(path, classes=from_keys(NOTATIONS, "list"), scores="probability")
    assert found.scores.tolist() == [pytest.approx([0.1, 0.2, 0.7])]


@pytest.mark.parametrize("column", ["class", "label", "class_name"])
@pytest.mark.parametrize(("read", "who"), [(read_votes, "rater_id"), (read_golden, "expert_id")])
def test_numbers_in_a_column_of_names_are_keys(tmp_path, column, read, who):
    path = write(tmp_path, "v.csv", QUESTIONS.format(column, who))
    found = read(path, classes=from_keys(["1", "11", "11F", "2"], "list"))
    assert found.to_table()["class_id"].to_pylist() == [0, 3]


def test_numbers_among_names_in_class_id_are_keys(tmp_path):
    text = QUESTIONS.format("class_id", "rater_id") + "a.tif,25F23(LION),ann,yes\na.tif,94,ann,no\n"
    path = write(tmp_path, "v.csv", text)
    votes = read_votes(path, classes=from_keys(["1", "2", "25F23(LION)", "94"], "list"))
    assert votes.to_table()["class_id"].to_pylist() == [0, 1, 2, 3]


def test_numbers_that_can_only_be_keys_of_some_classes(tmp_path):
    path = write(tmp_path, "v.csv", "image_id,class_id,rater_id,answer\na.tif,1,ann,no\na.tif,94,ann,yes\n")
    votes = read_votes(path, classes=from_keys(["11F", "1", "94"], "list"))
    assert votes.to_table()["class_id"].to_pylist() == [1, 2]


def test_imagenet_has_no_classes_with_numbers_as_names(tmp_path):
    path = write(tmp_path, "l.csv", "image_id,label\na.jpg,n01440764\nb.jpg,1\n")
    assert read_images(path).label.to_pylist() == [0, 1]


def test_ranks_of_an_image_differ(tmp_path):
    text = "image_id,rank,class_id,logit\na.jpg,3,0,1.5\na.jpg,3,7,2.5\n"
    with pytest.raises(InputError, match="Two classes of an image have the same rank"):
        read_predictions(write(tmp_path, "merged.csv", text))


@pytest.mark.parametrize("column", ["epoch", "checkpoint", "Seed"])
def test_two_runs_in_one_table(tmp_path, column):
    rows = ["a.jpg,10,cat,0.6", "b.jpg,10,dog,0.7", "a.jpg,90,dog,0.9", "b.jpg,90,dog,0.8"]
    path = write(tmp_path, "both.csv", "\n".join([f"image_id,{column},class,score", *rows]))
    with pytest.raises(InputError, match="several predictions of an image") as error:
        read_predictions(path)
    assert "10, 90" in str(error.value)
    # Shards of one run each, such as those of two jobs.
    write(tmp_path, "shards.csv", "\n".join([f"image_id,{column},class,score", rows[0], rows[3]]))
    assert len(read_predictions(Path(tmp_path) / "shards.csv").image_id) == 2
