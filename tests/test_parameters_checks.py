"""Numbers that callers of the steps about votes give: what is none is refused, with the whole message."""

import math

import numpy as np
import pyarrow as pa
import pytest

import manyhot as mh
from manyhot import registry
from manyhot.errors import ManyhotError
from manyhot.parameters import check_count, check_one_of, check_share
from manyhot.reassess.propose import propose
from manyhot.tables import Images, Predictions

VOTES = pa.table(
    {
        "image_id": ["a.jpg"] * 4 + ["b.jpg"] * 2,
        "class_id": [0, 0, 1, 1, 2, 2],
        "rater_id": ["x", "y"] * 3,
        "answer": ["yes", "yes", "no", "yes", "no", "no"],
    }
)
GOLDEN = pa.table(
    {"image_id": ["a.jpg"] * 2, "class_id": [0, 1], "expert_id": ["e"] * 2, "answer": ["yes", "no"]}
)
ELSEWHERE = GOLDEN.set_column(0, "image_id", pa.array(["q.jpg"] * 2))


def message(work, *arguments, **options):
    with pytest.raises(ManyhotError) as error:
        work(*arguments, **options)
    return str(error.value)


DRAWS = [
    ({"resamples": -1}, "`resamples` is out of range.\n  got:     -1\n"),
    ({"resamples": 1.5}, "`resamples` is not a whole number.\n  got:     1.5\n"),
    ({"resamples": True}, "`resamples` is not a whole number.\n  got:     True\n"),
    ({"seed": -1}, "`seed` is out of range.\n  got:     -1\n"),
    ({"seed": None}, "`seed` is not a whole number.\n  got:     None\n"),
    ({"seed": "a"}, "`seed` is not a whole number.\n  got:     'a'\n"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "said"), DRAWS)
def test_draws_that_are_none(given, said):
    whole = f"{said}  allowed: 0 or more"
    models = [Predictions(pa.array(["a.jpg"]), "one", np.array([[0]]), n_classes=3)]
    images = Images(pa.table({"image_id": ["a.jpg"], "label": pa.array([0], pa.int32())}), "images")
    # Without golden answers nothing is drawn: the number is wrong all the same.
    for work in (mh.aggregate, mh.agreement):
        assert message(work, VOTES, **given) == message(work, VOTES, GOLDEN, **given) == whole
    assert message(propose, images, models, **given) == whole


def test_numbers_of_numpy_are_numbers():
    found = mh.agreement(VOTES, resamples=np.int64(3), seed=np.uint8(1))
    assert found.value("fleiss_kappa") == mh.agreement(VOTES, resamples=0).value("fleiss_kappa")
    assert mh.aggregate(VOTES, threshold=np.float64(0.5)).threshold == 0.5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"threshold": "x"}, "`threshold` is not a number.\n  got:     'x'\n  allowed: above 0 to 1"),
        ({"threshold": True}, "`threshold` is not a number.\n  got:     True\n  allowed: above 0 to 1"),
        ({"min_precision": "x"}, "`min_precision` is not a number.\n  got:     'x'\n  allowed: above 0 to 1"),
        ({"min_recall": math.nan}, "`min_recall` is not a number.\n  got:     nan\n  allowed: above 0 to 1"),
        ({"unclear_from": math.nan}, "`unclear_from` is not a number.\n  got:     nan\n  allowed: 0 to 1"),
        ({"unclear_from": "a"}, "`unclear_from` is not a number.\n  got:     'a'\n  allowed: 0 to 1"),
        ({"unclear_from": -1}, "`unclear_from` is out of range.\n  got:     -1\n  allowed: 0 to 1"),
        (
            {"unclear_from": 0.9},
            "The minimum probability of an unclear class is above the threshold.\n  where:   "
            "`unclear_from`\n  got:     0.9\n"
            "  allowed: 0 to 0.8, the threshold",
        ),
        *(
            (
                {"original_classes": value},
                f"This is not a list of classes.\n  where:   `original_classes`\n  got:     {got}\n"
                "  allowed: class ids from 0 to 2, such as [0, 1]",
            )
            for value, got in (([0, 99], "99"), ([-1], "-1"), (5, "5"), ([1.5], "1.5"))
        ),
        (
            {"method": 3},
            "There is no aggregator '3'.\n"
            f"  allowed: {', '.join(registry.names('aggregator'))}",
        ),
    ],
)  # fmt: skip
def test_options_of_aggregate(options, said):
    assert message(mh.aggregate, VOTES, GOLDEN, **options) == said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"budget": "3"}, "`budget` is not a whole number.\n  got:     '3'\n  allowed: 1 or more"),
        ({"budget": 1.5}, "`budget` is not a whole number.\n  got:     1.5\n  allowed: 1 or more"),
        ({"max_answers": 2.5}, "`max_answers` is not a whole number.\n  got:     2.5\n  allowed: 1 or more"),
        ({"settled": "x"}, "`settled` is not a number.\n  got:     'x'\n  allowed: 0 to below 1"),
    ],
)
def test_options_of_next(options, said):
    assert message(mh.next_questions, VOTES, **{"budget": 3} | options) == said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seconds": "x"}, "`seconds` is not a number.\n  got:     'x'\n  allowed: above 0"),
        ({"seconds": math.inf}, "`seconds` is out of range.\n  got:     inf\n  allowed: above 0"),
        ({"raters": 2.5}, "`raters` is not a whole number.\n  got:     2.5\n  allowed: 1 or more"),
    ],
)
def test_options_of_propose(options, said):
    images = Images(pa.table({"image_id": ["a.jpg"], "label": pa.array([0], pa.int32())}), "images")
    assert message(propose, images, [], **options) == said


# What is to be known about numbers.


def test_one_rater_only():
    alone = VOTES.filter(pa.array([True, False] * 3))
    said = "there is only one rater, so the answers cannot be compared with those of another rater"
    assert said in mh.aggregate(alone, method="majority").notes
    assert said not in mh.aggregate(VOTES, method="majority").notes
    assert mh.aggregate(alone, method="dawid-skene").notes == (
        f"{said}, and the method cannot estimate the quality of the rater; majority takes answers at face "
        "value",
    )
    assert "no question was answered by two raters, so agreement cannot be measured" in (
        mh.agreement(alone).notes
    )


def said_of(rows):
    """Return votes of a text for each question, a letter for each rater's answer."""
    given = [(q, r, a) for q, row in enumerate(rows) for r, a in enumerate(row) if a != " "]
    return pa.table(
        {
            "image_id": [f"{q}.jpg" for q, _, _ in given],
            "class_id": pa.array([0] * len(given), pa.int32()),
            "rater_id": [f"r{r}" for _, r, _ in given],
            "answer": [{"y": "yes", "m": "maybe", "n": "no"}[a] for _, _, a in given],
        }
    )


FEW = ["ny yn", "yyynn", "ynnyn", "yyyyy", "ynnnn"]


def one_tie(questions):
    return (
        f"the answers to 1 of the {questions} questions are tied: their p of 0.5 reaches the threshold of "
        "0.5, so the class is valid. To require more than half of the answers, pass a `threshold` above 0.5, "
        "such as 0.501"
    )


@pytest.mark.parametrize(
    ("rows", "method", "notes"),
    [
        (FEW, "dawid-skene", ()),
        (FEW, "one-coin", ()),
        # Nobody says yes: that none is found is no surprise.
        (["nnn", "nmn", "mnn"], "dawid-skene", ()),
        # Closed forms learn nothing from the votes alone.
        (FEW, "majority", (one_tie(5),)),
        (
            ["y ", " n", "n ", " y"],
            "one-coin",
            (
                "no question was answered by two raters, so one-coin cannot compare raters, and its "
                "estimates are unreliable; majority takes answers at face value",
            ),
        ),
    ],
)
def test_a_fit_that_contradicts_its_answers_says_so(rows, method, notes):
    assert mh.aggregate(said_of(rows), method=method).notes == notes


def test_golden_questions_that_nobody_was_asked():
    assert mh.aggregate(VOTES, ELSEWHERE, method="majority").notes == (
        one_tie(3),
        "there are no votes on golden questions, so precision and recall are unknown",
    )
    assert mh.agreement(VOTES, ELSEWHERE).notes[0] == (
        "no rater answered a golden question, so raters are compared with the majority of the other raters"
    )


@pytest.mark.parametrize("value", [float("nan"), -0.1, 1.1, True, "0.5"])
def test_what_is_no_share_is_refused(value):
    assert message(check_share, value, "This is no share.") == (
        f"This is no share.\n  got:     {value}\n  allowed: above 0, up to 1"
    )


def test_the_ends_of_a_share_are_fine_where_they_are_said_to_be():
    check_share(np.float32(1), "")
    check_share(0, "", zero=True)
    for value, ends in ((0, {}), (1, {"one": False})):
        with pytest.raises(ManyhotError):
            check_share(value, "", **ends)


def test_counts_are_whole_numbers_from_a_least_one():
    check_count(np.int64(3), "", least=3)
    assert message(check_count, 2, "Too few.", least=3, allowed="3 and up") == (
        "Too few.\n  got:     2\n  allowed: 3 and up"
    )
    assert (
        message(check_count, True, "No count.", got="k=True", allowed=None) == "No count.\n  got:     k=True"
    )
    assert message(check_count, 1.0, "No count.") == "No count.\n  got:     1.0\n  allowed: 1 and up"


def test_one_of_lists_the_names():
    check_one_of("a", iter("ab"), "")
    assert message(check_one_of, "c", iter("ab"), "Neither.", where="here") == (
        "Neither.\n  where:   here\n  got:     c\n  allowed: a, b"
    )
