"""Findings become questions, and answers correct label sets; compared with a plain loop."""

import json

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import manyhot as mh
from manyhot.errors import InputError, MatchError, UsageError
from manyhot.reassess.aggregate import aggregate
from manyhot.reassess.answers import VotesReading
from manyhot.reassess.init import init_campaign
from manyhot.reassess.propose import propose
from manyhot.reassess.status import campaign_status
from manyhot.run import Run

CLASSES = ["Auto", "Hund", "Kätzchen", "Kuh"]


def answers(rows):
    """Return votes from an image, a class and the answers of raters 0, 1, …"""
    listed = [(i, c, f"r{k}", a) for i, c, given in rows for k, a in enumerate(given)]
    return pd.DataFrame(listed, columns=["image_id", "class_id", "rater_id", "answer"])


@pytest.fixture
def sets(tmp_path):
    """A file of label sets as names."""
    path = tmp_path / "labels.csv"
    path.write_text("image,labels\na.jpg,Hund; Auto\nb.jpg,Kuh\nc.jpg,Kätzchen; Kuh\nd.jpg,\n")
    return path


def states(labels):
    table = labels.table.to_pylist()
    return {r["image_id"]: dict(zip(r["classes"], r["state"], strict=True)) for r in table}


def test_answers_of_two_raters(sets):
    votes = answers(
        [
            ("a.jpg", "Auto", ("no", "no")),  # removed
            ("b.jpg", "Kuh", ("yes", "no")),  # a disagreement
            ("c.jpg", "Auto", ("yes", "yes")),  # added
            ("c.jpg", "Kuh", ("yes", "yes")),  # confirmed
            ("d.jpg", "Hund", ("no", "no")),
        ]
    )
    found = aggregate(votes, labels=sets, reading=VotesReading(classes=CLASSES))
    assert states(found.labels) == {
        "a.jpg": {0: "no", 1: "yes"},
        "b.jpg": {3: "unclear"},
        "c.jpg": {0: "yes", 2: "yes", 3: "yes"},
        "d.jpg": {1: "no"},
    }
    assert found.labels.table["rated"].to_pylist() == [True] * 4
    assert found.labels.table["n_votes"].to_pylist() == [[2, 0], [2], [2, 0, 2], [2]]
    assert found.to_json()["corrections"] == {"removed": 1, "added": 1, "unclear": 1, "kept": 2}
    changed = [(r["image_id"], r["before"], r["after"]) for r in found.changes.to_pylist()]
    assert changed == [
        ("a.jpg", "yes", "no"),
        ("b.jpg", "yes", "unclear"),
        ("c.jpg", None, "yes"),
        ("c.jpg", "yes", "yes"),
        ("d.jpg", None, "no"),
    ]
    text = "\n".join(found.lines())
    assert "1  removed, 1 added, 1 unclear, of 5 asked about" in text
    assert "2  valid classes in labels that raters were not asked about" in text
    assert "original label" not in text


@pytest.mark.parametrize("shift", [0, 1])
def test_answers_about_classes_in_another_order_are_noted(shift):
    rng = np.random.default_rng(0)
    truth = rng.random((150, 8)) < 0.25
    names = [f"{i}.jpg" for i in range(150)]
    given = pd.DataFrame(truth & (rng.random((150, 8)) < 0.95), names, [f"class {c}" for c in range(8)])
    rows = [
        (names[i], (c + shift) % 8, ("yes", "yes") if truth[i, c] else ("no", "no"))
        for i in range(150)
        for c in range(8)
    ]
    notes = aggregate(answers(rows), labels=given.astype(int)).notes
    starts = "the answers do not match the label sets in the present order of the classes (mean correlation "
    assert [note.startswith(starts) for note in notes].count(True) == shift


@pytest.mark.parametrize("seed", range(5))
def test_random_answers_by_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    images = [f"{i}.jpg" for i in range(40)]
    given = pd.DataFrame(rng.random((40, 4)) < 0.4, images, CLASSES).astype(int)
    asked = {
        (images[i], c): tuple(rng.choice(["yes", "no"], 2)) for i, c in rng.integers(0, (40, 4), (60, 2))
    }
    votes = answers([(i, CLASSES[c], a) for (i, c), a in asked.items()])
    labels = aggregate(votes, labels=given.sample(frac=1, random_state=seed)).labels
    found, keys = states(labels), labels.class_list.keys
    for image in images:
        for c, name in enumerate(CLASSES):
            expected = "yes" if given.loc[image, name] else "no"
            if (image, c) in asked:
                n = asked[image, c].count("yes")
                expected = ("no", "unclear", "yes")[n]
            assert found[image][keys.index(name)] == expected, (image, name)


def test_what_the_label_sets_record_is_kept(sets, tmp_path):
    whole = mh.read_labels(sets)
    table = whole.table.append_column("rated", pa.array([True, False, False, None]))
    table = table.append_column("label", pa.array([0, 3, None, None], pa.int32()))
    table = table.append_column("p", pa.array([[0.9, 0.8], [1.0], [0.7, 0.6], []], pa.list_(pa.float32())))
    labels = mh.Labels(table, 4, whole.class_hash, name="sets", class_list=whole.class_list)
    found = aggregate(answers([("c.jpg", "Kuh", ("no",))]), labels=labels).labels
    assert found.table["rated"].to_pylist() == [True, False, True, True]
    assert found.table["label"].to_pylist() == [0, 3, None, None]
    assert found.table["p"].to_pylist()[0] == pytest.approx([0.8, 0.9])  # sorted by class
    assert found.table["method"].to_pylist() == [None, None, "auto", None]
    assert found.name == "sets-corrected"
    assert not found.asked_known  # nobody looked for the other classes


def test_bad_input(sets):
    votes = answers([("x.jpg", "Hund", ("no",))])
    with pytest.raises(
        MatchError, match="Raters answered questions about images that are not in the label sets"
    ):
        aggregate(votes, labels=sets)
    with pytest.raises(InputError, match="not in the class list"):
        aggregate(answers([("a.jpg", "Maus", ("no",))]), labels=sets)
    with pytest.raises(UsageError, match="either merged or corrected"):
        aggregate(labels=sets, sources=[sets, sets])
    with pytest.raises(UsageError, match="nothing to aggregate"):
        aggregate(labels=sets)
    with pytest.raises(InputError, match="manyhot aggregate CAMPAIGN --labels FILE"):
        aggregate(sources=[sets])


@pytest.fixture
def findings(sets, tmp_path):
    """The findings of `manyhot diagnose labels`, whose classes are numbered in another order."""
    folder = tmp_path / "label-issues"
    order = ["Kuh", "Kätzchen", "Hund", "Auto"]
    scores = pd.DataFrame(
        [
            [0.01, 0.02, 0.98, 0.03],
            [0.03, 0.02, 0.97, 0.01],
            [0.98, 0.04, 0.02, 0.01],
            [0.02, 0.01, 0.03, 0.02],
        ],
        pd.Index(["a.jpg", "b.jpg", "c.jpg", "d.jpg"], name="image_id"),
        order,
    )
    scores.to_csv(tmp_path / "net.csv")
    reading = mh.Reading(scores="probability", classes=order)
    mh.find_label_issues(sets, [tmp_path / "net.csv"], min_doubtful=0.5, reading=reading).write(folder)
    return folder


EXPECTED = {
    ("a.jpg", "Auto", "doubtful-label"),
    ("b.jpg", "Kuh", "doubtful-label"),
    ("b.jpg", "Hund", "missing-label"),
    ("c.jpg", "Kätzchen", "doubtful-label"),
}


def named(proposals):
    rows = proposals.to_pylist()
    return {(r["image_id"], CLASSES[r["class_id"]], r["source"]) for r in rows}


def test_findings_become_questions_about_classes_with_the_same_names(sets, findings, tmp_path):
    home = tmp_path / "campaign"
    init_campaign(home, images=sets, classes=CLASSES, run=Run())
    found = propose(home, findings=findings)
    assert named(found.table) == EXPECTED
    assert found.table["class_name"].to_pylist() == [CLASSES[c] for c in found.table["class_id"].to_pylist()]
    assert "models" not in "".join(found.lines())
    found.write(home / "proposals.parquet")
    assert campaign_status(home).command == f"manyhot annotate {home}"
    # Some of them, in a table that a person has edited, and in Python.
    some = pl.read_csv(findings / "findings.csv").head(2)
    some.write_csv(tmp_path / "some.csv")
    for chosen in (tmp_path / "some.csv", some, some.to_pandas()):
        assert len(propose(home, findings=chosen).table) == 2
    assert named(propose(sets, findings=findings, reading=mh.Reading(classes=CLASSES)).table) == EXPECTED


def test_from_findings_to_corrected_label_sets(sets, findings, tmp_path):
    home = tmp_path / "campaign"
    init_campaign(home, images=sets, classes=CLASSES)
    propose(home, findings=findings).write(home / "proposals.parquet")
    asked = pl.read_parquet(home / "proposals.parquet")
    says = [
        (r["image_id"], r["class_name"], ("no", "no")) for r in asked.to_dicts() if "doubt" in r["source"]
    ]
    votes = answers([*says, ("b.jpg", "Hund", ("yes", "yes"))])
    votes.to_csv(tmp_path / "votes.csv", index=False)
    mh.convert(tmp_path / "votes.csv", home / "votes.parquet")
    found = aggregate(home, labels=sets)
    valid = {i: {CLASSES[c] for c, s in of.items() if s == "yes"} for i, of in states(found.labels).items()}
    assert valid == {"a.jpg": {"Hund"}, "b.jpg": {"Hund"}, "c.jpg": {"Kuh"}, "d.jpg": set()}
    found.write(tmp_path / "corrected.parquet")
    again = mh.read_labels(tmp_path / "corrected.parquet")
    assert states(again) == states(found.labels)
    assert json.dumps(found.to_json()["corrections"])


def test_no_findings_are_no_questions(sets, tmp_path):
    """Neither a result nor the folder that it wrote."""
    right = [[1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 1], [0, 0, 0, 0]]
    scores = pd.DataFrame(np.array(right) * 0.96 + 0.02, [f"{x}.jpg" for x in "abcd"], CLASSES)
    none = mh.find_label_issues(sets, {"net": scores}, min_doubtful=0.5, scores="probability")
    assert not len(none.table)
    none.write(tmp_path / "none")
    for findings in (none, tmp_path / "none"):
        with pytest.raises(InputError, match="There are no findings to ask about"):
            propose(sets, findings=findings, reading=mh.Reading(classes=CLASSES))


def test_findings_that_cannot_be_asked_about(sets, findings, tmp_path):
    few = tmp_path / "few.csv"
    few.write_text("image,labels\na.jpg,Hund; Auto\n")
    with pytest.raises(MatchError, match="No finding is about these images"):
        propose(["Hund", "Auto"], findings=findings, reading=mh.Reading(classes=CLASSES))
    with pytest.raises(InputError, match="class of the findings is not in the class list"):
        propose(few, findings=findings, reading=mh.Reading(classes=["Hund", "Auto"]))
    with pytest.raises(UsageError, match="neither predictions nor known labels"):
        propose(sets, [tmp_path / "net.csv"], findings=findings)
    with pytest.raises(InputError, match="These are not findings on images"):
        propose(sets, findings=pl.DataFrame({"image_id": ["a.jpg"], "class_id": [1]}))
