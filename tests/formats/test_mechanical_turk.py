"""Batch results of Mechanical Turk as votes."""

import csv
import json
from datetime import UTC, datetime

import pytest

from manyhot import agreement, read_votes
from manyhot.classes import from_keys
from manyhot.errors import InputError, ManyhotError
from manyhot.formats import detect

FIRST = {"HITId": "3H", "WorkerId": "W1", "AssignmentStatus": "Approved"}
URL = "https://bucket.s3.amazonaws.com/voc/"


def write(folder, *rows, name="Batch_1_batch_results.csv"):
    """Write batch results: each row is an image, a worker and the answers, with other columns."""
    path = folder / name
    filled = []
    for number, (image, worker, answers) in enumerate(rows):
        about = {"AssignmentId": f"3A{number}", "WorkerId": worker, "Input.image_url": f"{URL}{image}"}
        filled.append(FIRST | about | answers)
    columns = list(dict.fromkeys(column for row in filled for column in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(filled)
    return path


def yes(votes):
    keys = votes.class_list.keys
    table = votes.to_table().to_pylist()
    return {(r["image_id"], r["rater_id"], keys[r["class_id"]]) for r in table if r["answer"] == "yes"}


SETS = (("a.jpg", "W1", ["cat", "dog"]), ("a.jpg", "W2", ["dog"]), ("b.jpg", "W1", []))
CHOSEN = {("voc/a.jpg", "W1", "cat"), ("voc/a.jpg", "W1", "dog"), ("voc/a.jpg", "W2", "dog")}


@pytest.mark.parametrize(
    "written",
    [
        lambda chosen: {"Answer.taskAnswers": json.dumps([{"category": {"labels": chosen}, "remark": "no"}])},
        lambda chosen: {"Answer.category": json.dumps({"labels": chosen}), "Answer.remark": "[sic] good"},
        lambda chosen: {"Answer.category.labels": json.dumps(chosen)},
        lambda chosen: {"Answer.category.labels": "|".join(chosen)},
        lambda chosen: {"Answer.labels": "|".join(chosen)},
        lambda chosen: {f"Answer.category.{c}": str(c in chosen).lower() for c in ("cat", "dog")},
        lambda chosen: {f"Answer.{c}.on": c in chosen for c in ("cat", "dog")},
        lambda chosen: {"Answer.taskAnswers": json.dumps([{c: {"on": c in chosen} for c in ("cat", "dog")}])},
        lambda chosen: {
            "Answer.taskAnswers": json.dumps([{"category": {c: c in chosen for c in ("cat", "dog")}}])
        },
    ],
)
def test_sets_of_classes_in_each_way_of_writing_them(tmp_path, written):
    path = write(tmp_path, *((image, worker, written(chosen)) for image, worker, chosen in SETS))
    assert detect(path).name == "mechanical-turk"
    votes = read_votes(path)
    assert votes.kind == ""
    assert yes(votes) == CHOSEN
    assert len(votes) == 6  # each worker was asked about both classes, also where none was chosen


@pytest.mark.parametrize(
    "written",
    [
        lambda name: {"Answer.category": name},
        lambda name: {"Answer.category.label": name},
        lambda name: {"Answer.taskAnswers": json.dumps([{"category": {"label": name}}])},
    ],
)
def test_one_class_per_image(tmp_path, written):
    rows = [("a.jpg", "W1", "dog"), ("a.jpg", "W2", "cat"), ("b.jpg", "W1", "")]
    votes = read_votes(write(tmp_path, *((image, worker, written(name)) for image, worker, name in rows)))
    assert votes.kind == "one class"
    assert yes(votes) == {("voc/a.jpg", "W1", "dog"), ("voc/a.jpg", "W2", "cat")}
    assert votes.left_out == ("1 assignment without a class",)


def test_a_worker_who_cannot_tell_does_not_vote(tmp_path):
    chosen = [("a.jpg", "W1", "dog"), ("a.jpg", "W2", "Cannot tell"), ("b.jpg", "W1", "unsure")]
    path = write(tmp_path, *((image, worker, {"Answer.category": name}) for image, worker, name in chosen))
    votes = read_votes(path)
    assert (votes.kind, votes.class_list.keys) == ("one class", ("dog",))
    assert yes(votes) == {("voc/a.jpg", "W1", "dog")}
    assert votes.left_out == (
        "2 answers without a class (Cannot tell, unsure), the only ones on 1 image; if a class is called "
        "so, pass the list of all classes as `classes`",
    )
    listed = read_votes(path, classes=from_keys(["dog", "cannot tell", "unsure"]))
    assert len(yes(listed)) == 3


def test_rejected_assignments_are_left_out_and_counted(tmp_path):
    rejected = {"Answer.category": "cat", "AssignmentStatus": "Rejected"}
    rows = ("a.jpg", "W1", {"Answer.category": "dog"}), ("a.jpg", "W2", rejected), ("b.jpg", "W2", rejected)
    votes = read_votes(write(tmp_path, *rows))
    assert yes(votes) == {("voc/a.jpg", "W1", "dog")}
    assert votes.left_out == ("2 rejected assignments",)


def test_times_and_the_last_answer(tmp_path):
    early = {"SubmitTime": "Mon Nov 02 10:00:20 PST 2026", "WorkTimeInSeconds": "20"}
    late = {"SubmitTime": "2026-11-02T18:30:00Z", "AcceptTime": "Mon Nov 02 10:29:00 PST 2026"}
    rows = (
        ("a.jpg", "W1", {"Answer.labels": "cat|dog"} | late),
        ("a.jpg", "W1", {"Answer.labels": "cat"} | early),
        ("b.jpg", "W1", {"Answer.labels": "dog"} | early),
    )
    votes = read_votes(write(tmp_path, *rows))
    assert yes(votes) == {("voc/a.jpg", "W1", "cat"), ("voc/a.jpg", "W1", "dog"), ("voc/b.jpg", "W1", "dog")}
    assert votes.left_out == ("1 answer that a rater gave again later",)
    times = {
        (row["image_id"], row["page_id"]): (row["shown_at"], row["answered_at"])
        for row in votes.to_table().to_pylist()
    }
    day = datetime(2026, 11, 2, 18, tzinfo=UTC)  # 10 o'clock in the west of America
    assert times == {
        ("voc/a.jpg", "3A0"): (day.replace(minute=29), day.replace(minute=30)),
        ("voc/b.jpg", "3A2"): (day, day.replace(second=20)),
    }
    assert "too fast" not in str(agreement(votes))


def test_times_that_cannot_be_read_are_noted(tmp_path):
    rows = (("a.jpg", "W1", {"Answer.category": "dog", "SubmitTime": "2/11/26 10:00"}),)
    votes = read_votes(write(tmp_path, *rows))
    assert votes.left_out == ("1 time of submission, such as '2/11/26 10:00'",)
    assert "answered_at" not in votes.more.column_names


def test_none_of_the_classes(tmp_path):
    rows = (
        ("a.jpg", "W1", {"Answer.category": "Dog"}),
        ("a.jpg", "W2", {"Answer.category": "None of the above"}),
    )
    votes = read_votes(write(tmp_path, *rows), classes=from_keys(["cat", "dog"]))
    assert votes.kind == ""
    assert [(r["rater_id"], r["class_id"], r["answer"]) for r in votes.to_table().to_pylist()] == [
        ("W1", 0, "no"),
        ("W2", 0, "no"),
        ("W1", 1, "yes"),
        ("W2", 1, "no"),
    ]


def refused(path, **options):
    with pytest.raises(InputError) as error:
        read_votes(path, **options)
    return str(error.value)


def test_several_questions_are_refused_until_one_is_named(tmp_path):
    answers = {"Answer.taskAnswers": json.dumps([{"animal": {"label": "dog"}, "light": {"label": "day"}}])}
    path = write(tmp_path, ("a.jpg", "W1", answers))
    assert refused(path) == (
        f"The file has several questions.\n  where:   {path}\n"
        "  got:     animal with 1 answer, light with 1 answer\n"
        "  allowed: one question, in which raters chose classes\n"
        "  do:      name it in `format`: mechanical-turk(question='animal')"
    )
    votes = read_votes(path, format="mechanical-turk(question='light')")
    assert yes(votes) == {("voc/a.jpg", "W1", "day")}


def test_files_without_classes_or_images_are_refused(tmp_path):
    path = write(tmp_path, ("a.jpg", "W1", {"Answer.taskAnswers": json.dumps([{"age": 31}])}))
    assert refused(path) == (
        f"No question has classes as answers.\n  where:   {path}\n  got:     Answer.taskAnswers\n"
        "  allowed: one question, in which raters chose classes"
    )
    path.write_text("HITId,AssignmentId,WorkerId,Input.left,Input.right,Answer.category\n1,2,3,a,b,dog\n")
    assert refused(path) == (
        f"It is unknown which field is the image.\n  where:   {path}\n  got:     Input.left, Input.right\n"
        "  allowed: a column such as Input.image_url\n"
        "  do:      name the field in `format`: mechanical-turk(image='FIELD')"
    )
    assert yes(read_votes(path, format="mechanical-turk(image='right')")) == {("b", "3", "dog")}


@pytest.mark.parametrize(
    "answer",
    [
        "[" * 5000 + "]" * 5000,
        '[{"a": {"label": "x"}, "a": {}}]',
        '[{"a": {"labels": [' + "9" * 50 + "]}}]",
        "{}]",
    ],
)
def test_hostile_answers_are_refused(tmp_path, answer):
    with pytest.raises(ManyhotError):
        read_votes(write(tmp_path, ("a.jpg", "W1", {"Answer.taskAnswers": answer})))
