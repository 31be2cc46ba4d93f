"""Zooniverse's classifications as votes, and images to upload."""

import csv
import json

import pyarrow as pa
import pytest

from manyhot import read_votes
from manyhot.classes import ClassList, from_keys
from manyhot.formats import detect
from manyhot.formats.writing import save

COLUMNS = ("classification_id", "user_name", "user_id", "user_ip", "workflow_id", "created_at")


def survey(*choices):
    value = [{"choice": choice, "answers": {"HOWMANY": "1"}, "filters": {}} for choice in choices]
    return [{"task": "T0", "task_label": None, "value": value}]


def write(folder, *rows):
    """Write an export: each row is a user, a subject, a time of day and annotations, with other columns."""
    path = folder / "survey-classifications.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow((*COLUMNS, "metadata", "annotations", "subject_data", "subject_ids"))
        for number, (user, subject, hour, annotations, *more) in enumerate(rows):
            about = {"workflow_id": 7} | (more[0] if more else {})
            fields = about.get("subject", {"retired": None, "Filename": f"{subject}.JPG", "#site": "A"})
            cells = (900 - number, user, "", "24dac7", about["workflow_id"], f"2024-02-01 {hour}:07:00 UTC")
            texts = ({"source": "api"}, annotations, {subject: fields})
            writer.writerow((*cells, *map(json.dumps, texts), subject))
    return path


def yes(votes):
    keys = votes.class_list.keys
    table = votes.to_table().to_pylist()
    return {(r["image_id"], r["rater_id"], keys[r["class_id"]]) for r in table if r["answer"] == "yes"}


ROWS = (
    ("ann", "9", "03", survey("WHITETAILEDDEER", "ELK")),
    ("bob", "9", "03", survey("NOTHINGHERE")),
    ("not-logged-in-ee875be6", "9", "04", survey("ELK")),
    ("ann", "8", "06", survey("WOLF")),  # the rows are not sorted by time
    ("ann", "8", "05", survey("ELK")),
    ("not-logged-in-4e1d0d1b", "8", "05", survey()),
)


def test_a_survey(tmp_path, message):
    path = write(tmp_path, *ROWS)
    assert detect(path).name == "zooniverse"
    votes = read_votes(path)
    assert votes.class_list.keys == ("ELK", "WHITETAILEDDEER", "WOLF")
    assert not votes.class_list.is_complete
    assert yes(votes) == {
        ("9.JPG", "ann", "WHITETAILEDDEER"),
        ("9.JPG", "ann", "ELK"),
        ("9.JPG", "not-logged-in-ee875be6", "ELK"),
        ("8.JPG", "ann", "WOLF"),
    }
    assert len(votes) == 4 * 3  # four answers to a list of three classes
    assert set(votes.rater_id.to_pylist()) == {"ann", "bob", "not-logged-in-ee875be6"}
    assert votes.left_out == (
        "1 classification without a class",  # there is a choice for nothing, so it is no answer
        "1 answer that a rater gave again later",
    )
    assert message(lambda: read_votes(path, format="zooniverse(shown='none')")).startswith(
        "There is no such set of shown classes.\n"
    )
    few = read_votes(path, format="zooniverse(shown='chosen')")
    assert len(few) == 3 * 2 + 1


def test_choices_by_the_names_and_synonyms_of_classes(tmp_path, message):
    path = write(tmp_path, *ROWS)
    keys = ("empty", "white-tailed deer", "elk", "gray wolf")
    synonyms = (("NOTHINGHERE",), (), (), ("WOLF",))
    own = ClassList("species", keys, keys, synonyms, ("",) * 4, ((),) * 4)
    found = yes(read_votes(path, classes=own))
    assert ("9.JPG", "bob", "empty") in found
    assert {("9.JPG", "ann", "white-tailed deer"), ("8.JPG", "ann", "gray wolf")} <= found
    assert message(lambda: read_votes(path, classes=from_keys(keys[1:], "species"))) == (
        f"Choices of raters are not in the class list.\n  where:   {path}\n  got:     WOLF\n"
        "  allowed: white-tailed deer, elk, gray wolf\n"
        "  do:      add the choices to the class list, in a column 'synonyms'; or, if a choice means that "
        "the "
        "image shows none of the classes, pass it in `format`: zooniverse(none='CHOICE')"
    )
    old = write(tmp_path, ("ann", "9", "03", survey("WHTTLDDR")), ("bob", "9", "03", survey("NTHNGHR")))
    votes = read_votes(old, classes=from_keys(keys[1:], "species"))
    assert (yes(votes), votes.n_raters) == ({("9.JPG", "ann", "white-tailed deer")}, 2)


def test_questions(tmp_path, message):
    several = write(
        tmp_path,
        ("ann", "9", "03", [{"task": "T1", "value": ["Elk", "Fox"]}, {"task": "T2", "value": "Day"}]),
        ("bob", "9", "03", [{"task": "T1", "value": []}, {"task": "T2", "value": "Night"}]),
        ("cem", "9", "03", [{"task": "T1", "value": None}]),
    )
    votes = read_votes(several, format="zooniverse(task='T1')")
    assert yes(votes) == {("9.JPG", "ann", "Elk"), ("9.JPG", "ann", "Fox")}
    assert (votes.kind, len(votes), votes.n_raters) == ("", 4, 2)
    single = read_votes(several, format="zooniverse(task='T2')")
    assert (single.kind, yes(single)) == ("one class", {("9.JPG", "ann", "Day"), ("9.JPG", "bob", "Night")})
    assert message(lambda: read_votes(several)) == (
        f"The export contains several tasks.\n  where:   {several}\n"
        "  got:     T2 with 2 answers, T1 with 1 answers\n"
        "  allowed: one task, in which raters chose classes\n"
        "  do:      name it in `format`: zooniverse(task='T2')"
    )
    combo = [{"task": "T3", "value": [{"task": "T0", "value": "Elk"}, {"task": "T5", "value": 3}]}]
    assert yes(read_votes(write(tmp_path, ("ann", "9", "03", combo)))) == {("9.JPG", "ann", "Elk")}


def test_questions_with_one_answer_that_says_there_is_nothing(tmp_path):
    def question(answer):
        return [{"task": "T0", "value": answer}]

    raters = [(f"r{i}", "8", "03", question("Nothing here")) for i in range(9)]
    path = write(
        tmp_path,
        *raters,
        ("ann", "8", "03", question("Deer")),
        ("ann", "9", "03", question("Deer")),
        ("ann", "9", "04", question("Nothing here")),
    )
    votes = read_votes(path)
    assert (votes.kind, votes.class_list.keys, yes(votes)) == ("", ("Deer",), {("8.JPG", "ann", "Deer")})
    assert votes.left_out == ("1 answer that a rater gave again later",)
    answers = [(r["image_id"], r["answer"]) for r in votes.to_table().to_pylist()]
    assert (answers.count(("8.JPG", "no")), answers.count(("9.JPG", "no"))) == (9, 1)
    keys = ("Deer", "Nothing here")
    assert read_votes(path, classes=from_keys(keys, "own")).kind == "one class"  # it is then a class


def test_a_survey_in_which_all_chose_nothing(tmp_path):
    path = write(tmp_path, ("ann", "9", "03", survey("NOTHINGHERE")), ("bob", "8", "03", survey("NTHNGHR")))
    votes = read_votes(path, classes=from_keys(("deer", "cat"), "own"))
    answers = [(r["image_id"], r["answer"]) for r in votes.to_table().to_pylist()]
    assert sorted(answers) == [("8.JPG", "no")] * 2 + [("9.JPG", "no")] * 2


def test_names_of_images(tmp_path, message):
    hidden = {"subject": {"#file_name": "x/a.jpg"}}
    assert yes(read_votes(write(tmp_path, ("ann", "9", "03", survey("ELK"), hidden)))) == {
        ("x/a.jpg", "ann", "ELK")
    }
    path = write(tmp_path, ("ann", "9", "03", survey("ELK"), {"subject": {"photo": "a.jpg", "site": "A"}}))
    assert yes(read_votes(path, format="zooniverse(image='photo')")) == {("a.jpg", "ann", "ELK")}
    assert yes(read_votes(path, format="zooniverse(image='subject_id')")) == {("9", "ann", "ELK")}
    assert message(lambda: read_votes(path)) == (
        f"The subjects have no names of images.\n  where:   {path}, column subject_data\n"
        "  got:     photo, site\n  allowed: a field such as Filename or image\n"
        "  do:      name the field in `format`: zooniverse(image='FIELD'), or pass "
        "zooniverse(image='subject_id')"
    )
    assert message(lambda: read_votes(path, format="zooniverse(image='file')")) == (
        f"A classification has no image.\n  where:   {path}, subject 9\n"
        "  got:     the fields photo, site\n  allowed: the field file"
    )


def test_workflows(tmp_path, message):
    path = write(
        tmp_path,
        ("ann", "9", "03", survey("ELK")),
        ("bob", "9", "03", survey("WOLF"), {"workflow_id": 8}),
    )
    assert yes(read_votes(path, format="zooniverse(workflow=8)")) == {("9.JPG", "bob", "WOLF")}
    assert message(lambda: read_votes(path)) == (
        f"The export contains several workflows.\n  where:   {path}\n  got:     7, 8\n"
        "  allowed: one of them\n  do:      name it in `format`: zooniverse(workflow=7)"
    )


@pytest.mark.parametrize(
    ("annotations", "said"),
    [
        ([{"task": "T0", "value": [{"x": 1, "y": 2}]}], "The export contains no survey or question."),
        ({"T0": "x"}, "The export contains no survey or question."),
    ],
)
def test_other_annotations(tmp_path, message, annotations, said):
    path = write(tmp_path, ("ann", "9", "03", annotations))
    assert message(lambda: read_votes(path)).startswith(f"{said}\n  where:   {path}\n")


def test_a_manifest_of_the_next_questions(tmp_path):
    columns = {
        "image_id": ["b.jpg", "a.jpg", "b.jpg"],
        "class_id": pa.array([0, 1, 1], pa.int32()),
        "score": pa.array([0.2, 0.3, 0.9], pa.float32()),
        "n_models": pa.array([1, 1, 1], pa.int32()),
        "source": ["next"] * 3,
    }
    path = tmp_path / "manifest.csv"
    own = from_keys(("elk", "gray wolf"))
    save(pa.table(columns), path, "zooniverse-manifest", holds="proposals", classes=own)
    assert path.read_text() == "image,#classes\nb.jpg,gray wolf; elk\na.jpg,gray wolf\n"
