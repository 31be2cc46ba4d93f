"""Flags of raters, and label sets as golden answers."""

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from manyhot import aggregate, agreement, read_labels
from manyhot.classes import from_keys
from manyhot.reassess.answers import VotesReading

KEYS = ("cat", "dog", "fox")
IMAGES = [f"{i:03d}.jpg" for i in range(120)]
N_GOLDEN = 20


@pytest.fixture
def campaign(tmp_path):
    """Five good raters and one who clicks at random, on images with one of three classes each."""
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 3, len(IMAGES))
    rows = []
    for rater in (*"abcde", "random"):
        wrong = rng.random(len(IMAGES)) < (1 if rater == "random" else 0.1)
        chosen = np.where(wrong, rng.integers(0, 3, len(IMAGES)), truth)
        rows += [(image, rater, KEYS[c]) for image, c in zip(IMAGES, chosen, strict=True)]
    votes = pl.DataFrame(rows, schema=["image_id", "rater_id", "class_id"], orient="row")
    votes.write_csv(tmp_path / "votes.csv")
    golden = [
        ("golden/" + image, KEYS[c], "x", "yes" if c == t else "no")
        for image, t in list(zip(IMAGES, truth, strict=True))[:N_GOLDEN]
        for c in range(3)
    ]
    frame = pl.DataFrame(golden, schema=["image_id", "class_id", "expert_id", "answer"], orient="row")
    frame.with_columns(pl.col("image_id").str.strip_prefix("golden/")).write_csv(tmp_path / "golden.csv")
    sets = frame.filter(pl.col("answer") == "yes").select("image_id", labels="class_id")
    sets.sort("image_id", descending=True).write_csv(tmp_path / "sets.csv")
    (tmp_path / "classes.txt").write_text("\n".join(KEYS))
    return tmp_path


READING = {"format": "choices(several=True)"}


def rater(result, name="random"):
    return next(row for row in result.raters.to_pylist() if row["rater_id"] == name)


def test_few_golden_answers_do_not_clear_a_rater_whom_all_others_contradict(campaign):
    reading = VotesReading(classes=campaign / "classes.txt", **READING)
    votes, golden = pl.read_csv(campaign / "votes.csv"), pl.read_csv(campaign / "golden.csv")
    own = dict(votes.filter(pl.col("rater_id") == "random").select("image_id", "class_id").iter_rows())
    said = [own[image] == key for image, key in golden.select("image_id", "class_id").iter_rows()]
    informedness = 2 * roc_auc_score(golden["answer"] == "yes", said) - 1
    found = rater(agreement(campaign / "votes.csv", campaign / "golden.csv", reading=reading))
    assert found["informedness"] == pytest.approx(informedness, abs=1e-12)
    assert found["informedness_lo"] < 0.2 < found["informedness_hi"]  # too few questions to tell
    assert found["flags"] == ["spammer"]
    alone = rater(agreement(campaign / "votes.csv", reading=reading))
    assert alone["informedness_hi"] < 0.2
    # A rater who is right on golden questions is no spammer, whatever the others say.
    right = {row["image_id"]: row["class_id"] for row in golden.to_dicts() if row["answer"] == "yes"}
    named = pl.col("image_id").replace_strict(right, default=pl.col("class_id"))
    is_random = pl.col("rater_id") == "random"
    better = votes.with_columns(class_id=pl.when(is_random).then(named).otherwise("class_id"))
    more = [votes.with_columns(image_id=f"{i}/" + pl.col("image_id")) for i in range(3)]
    pl.concat([better, *more]).write_csv(campaign / "votes.csv")
    assert rater(agreement(campaign / "votes.csv", reading=reading))["flags"] == ["spammer"]
    assert rater(agreement(campaign / "votes.csv", campaign / "golden.csv", reading=reading))["flags"] == []


def test_label_sets_as_golden_answers(campaign):
    reading = VotesReading(classes=campaign / "classes.txt", **READING)
    expected = agreement(campaign / "votes.csv", campaign / "golden.csv", reading=reading)
    sets = read_labels(campaign / "sets.csv", classes=from_keys(KEYS))
    for golden in (campaign / "sets.csv", sets):
        found = agreement(campaign / "votes.csv", golden, reading=reading)
        assert found.raters.equals(expected.raters)
        assert found.agreement.equals(expected.agreement)
        assert (
            "the golden answers are label sets that do not record which classes were asked about, so each "
            "class that they do not list counts as no"
        ) in found.notes
    written = aggregate(campaign / "votes.csv", golden=campaign / "golden.csv", reading=reading)
    again = aggregate(campaign / "votes.csv", golden=campaign / "sets.csv", reading=reading)
    assert again.labels.table.equals(written.labels.table)


def test_states_of_label_sets_as_golden_answers(campaign):
    """A class that was not asked about is no question, and an unclear one is a maybe."""
    (campaign / "sets.csv").write_text(
        "image_id,class_id,state\n000.jpg,cat,yes\n000.jpg,dog,unclear\n001.jpg,fox,no\n"
    )
    reading = VotesReading(classes=campaign / "classes.txt", **READING)
    found = agreement(campaign / "votes.csv", campaign / "sets.csv", reading=reading)
    assert rater(found)["golden"] == 3
    assert not any("they do not list counts as no" in note for note in found.notes)


def answers_of(raters, seed):
    """Return votes on classes of images: each rater's images and share of wrong answers."""
    rng = np.random.default_rng(seed)
    truth = rng.random((180, 6)) < 0.25
    return pl.DataFrame(
        [
            (f"{i}.jpg", KEYS[c % 3] + str(c), name, "no" if truth[i, c] == (rng.random() < wrong) else "yes")
            for name, images, wrong in raters
            for i in images
            for c in range(6)
        ],
        schema=["image_id", "class_id", "rater_id", "answer"],
        orient="row",
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_rater_is_no_spammer_by_the_answers_of_one_other_rater(seed):
    """The good one was flagged in 11 of 40 draws, since the only other one guesses."""
    guesser = ("guesser", range(30, 180), 0.5)
    pair = [("ann", range(30), 0.05), ("bob", range(30), 0.05), ("good", range(30, 180), 0.05), guesser]
    found = agreement(answers_of(pair, seed), resamples=0)
    assert [rater(found, name)["flags"] for name in ("good", "guesser")] == [[], []]
    assert any(note.startswith("good, guesser: informedness is below 0.2, but they") for note in found.notes)
    # Three who never met contradict the guesser, and nobody but the guesser contradicts them.
    apart = [(f"good{k}", range(30 + 50 * k, 80 + 50 * k), 0.05) for k in range(3)]
    found = agreement(answers_of([guesser, *apart], seed), resamples=0)
    assert [rater(found, name)["flags"] for name in ("guesser", "good0")] == [["spammer"], []]


@pytest.mark.parametrize(
    ("raters", "n_errors", "note"),
    [
        ("xy", 11, "none of 21 pairs"),  # the two make the same errors, but too few of them
        ("x", 20, "only 5 of 15 pairs"),  # those of x and each of the five others
        ("xy", 20, None),  # the pairs of x or y are 11 of 21
    ],
)
def test_pairs_with_too_few_errors_to_find_copiers_are_noted(raters, n_errors, note):
    rows = [
        (f"{i}.jpg", 0, rater, "yes" if rater in raters and i < n_errors else "no")
        for i in range(40)
        for rater in (*"abcde", *raters)
    ]
    votes = pl.DataFrame(rows, schema=["image_id", "class_id", "rater_id", "answer"], orient="row")
    found = agreement(votes, reading=VotesReading(classes=3))
    text = (
        f"{note} of raters could be checked for copying, which needs 20 questions on which at least one of "
        "the two disagrees with the majority of the other raters; see the table rater_pairs"
    )
    assert [n for n in found.notes if "copying" in n] == ([] if note is None else [text])
    copiers = [row["rater_id"] for row in found.raters.to_pylist() if "copier" in row["flags"]]
    assert sorted(copiers) == ([] if note else ["x", "y"])
