"""Decisions where raters disagreed: votes of round 1 that stand, count, or are left out."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

import manyhot
from manyhot.errors import InputError
from manyhot.reassess.agreement import agreement
from manyhot.tables.votes import votes_from_table

START = datetime(2026, 1, 1, tzinfo=UTC)


def votes(*rows, name="votes"):
    """Return votes: image, class, rater, answer, round, in the order of their coming."""
    columns = list(zip(*rows, strict=True))
    table = pa.table(
        {
            "image_id": columns[0],
            "class_id": pa.array(columns[1], pa.int32()),
            "rater_id": columns[2],
            "answer": columns[3],
            "answered_at": pa.array(
                [START + timedelta(seconds=i) for i in range(len(rows))], pa.timestamp("us", "UTC")
            ),
            "round": pa.array(columns[4], pa.int32()),
        }
    )
    return votes_from_table(table, name=name, n_classes=3)


FIRST = [
    ("a", 0, "x", "yes", 0),
    ("a", 0, "y", "no", 0),
    ("a", 0, "z", "no", 0),
    ("a", 1, "x", "yes", 0),
    ("a", 1, "y", "yes", 0),
    ("a", 1, "z", "no", 0),
    ("b", 2, "x", "no", 0),
    ("b", 2, "y", "yes", 0),
    ("b", 2, "z", "yes", 0),
    ("b", 0, "x", "no", 0),
    ("b", 0, "y", "no", 0),
    ("b", 0, "z", "no", 0),
]
DECIDED = [
    ("a", 0, "x", "no", 1),
    ("a", 1, "owner", "no", 1),
    ("b", 2, "owner", "maybe", 1),
    ("a", 0, "owner", "yes", 1),  # the last decision counts
]


def states(done):
    rows = done.labels.table.to_pylist()
    return {
        (r["image_id"], c): (s, round(p, 3))
        for r in rows
        for c, s, p in zip(r["classes"], r["state"], r["p"], strict=True)
    }


def test_decisions_stand_whatever_the_method_says():
    done = manyhot.aggregate(votes(*FIRST, *DECIDED), method="yes-share")
    third = round(1 / 3, 3)
    assert states(done) == {
        ("a", 0): ("yes", 1.0),
        ("a", 1): ("no", 0.0),
        ("b", 2): ("unclear", round(2 / 3, 3)),
        ("b", 0): ("no", 0.0),
    }
    # What the method found rests on the first answers alone.
    assert sorted(done.p.round(3).tolist()) == [0, third, 0.667, 0.667]
    assert done.notes[-1] == (
        "3 questions on which raters disagreed were decided; "
        "their state and p come from the decision, not from the method"
    )
    assert sorted(done.raters["rater_id"].to_pylist()) == ["x", "y", "z"]
    assert done.labels.table["n_votes"].to_pylist() == [[3, 3], [3, 3]]


def test_decisions_count_as_answers():
    done = manyhot.aggregate(votes(*FIRST, *DECIDED), method="yes-share", refined="counts")
    # x changes to no on class 0 of a; the owner is a fourth rater.
    assert states(done)["a", 0] == ("no", 0.25)
    assert states(done)["a", 1] == ("yes", 0.5)
    assert states(done)["b", 2] == ("yes", 0.5)
    assert sorted(done.raters["rater_id"].to_pylist()) == ["owner", "x", "y", "z"]


def test_decisions_are_left_out():
    done = manyhot.aggregate(votes(*FIRST, *DECIDED), method="yes-share", refined="ignored")
    assert states(done) == states(manyhot.aggregate(votes(*FIRST), method="yes-share"))
    assert done.notes[-1] == "3 questions on which raters disagreed were decided; these decisions are ignored"


def test_an_unknown_reading_is_refused():
    with pytest.raises(InputError) as error:
        manyhot.aggregate(votes(*FIRST), refined="rules")
    assert str(error.value) == (
        "Decisions cannot be used like this.\n  where:   `refined`\n  got:     rules\n"
        "  allowed: decides, counts, ignored"
    )


def test_agreement_is_of_the_first_answers():
    with_them, without = (agreement(v, resamples=0) for v in (votes(*FIRST, *DECIDED), votes(*FIRST)))
    assert with_them.agreement.equals(without.agreement)
    assert with_them.raters.equals(without.raters)


def test_the_table_comes_back_whole():
    given = votes(*FIRST, *DECIDED)
    again = votes_from_table(given.to_table(), name="again", n_classes=3)
    assert len(given) == len(again) == 12
    assert again.to_table().equals(given.to_table())
    assert len(given.to_table()) == 16


def test_votes_of_one_later_round_are_votes():
    later = [(*row[:4], 1) for row in FIRST]
    assert votes(*later).refined is None
    assert len(votes(*later)) == 12
