"""Notes on aggregated votes: what is missing to learn from them, and what contradicts them."""

import numpy as np
import pyarrow as pa
import pytest

import manyhot as mh
from manyhot.core.aggregation import Aggregate
from manyhot.core.answers import Answers
from manyhot.errors import InputError, MatchError
from manyhot.reassess.aggregation_notes import fit_notes
from manyhot.tables import votes_from_table


def votes_of(rows, **changes):
    """Return votes of a text for each question, a letter for each rater's answer."""
    cells = [(q, r, a) for q, row in enumerate(rows) for r, a in enumerate(row) if a != " "]
    columns = {
        "image_id": [f"{q}.jpg" for q, _, _ in cells],
        "class_id": pa.array([0] * len(cells), pa.int32()),
        "rater_id": [f"r{r}" for _, r, _ in cells],
        "answer": [{"y": "yes", "m": "maybe", "n": "no"}[a] for _, _, a in cells],
    }
    return pa.table(columns | changes)


ALONE = (
    "there is only one rater, but estimating the quality of raters requires 3 or more; answers are taken at "
    "face value"
)
TWO = ALONE.replace("there is only one rater", "there are only two raters")
SPLIT = (
    "the raters disagree on 2 of the 3 questions that both answered. For these questions, p is 0.5, and the "
    "class is not valid; to make it unclear, set `unclear_from` to 0.5"
)
UNCOMPARED = (
    "no question was answered by two raters, so the quality of raters cannot be estimated; answers are taken "
    "at face value"
)
AGREED = (
    "raters agree on all 6 questions that two or more raters answered, so auto cannot learn how often "
    "raters err; if they err together, p is too close to 0 or 1"
)
CHANCE = (
    "raters agree little more often than by chance, so their answers are inconclusive, and p is pulled "
    "towards 0.5 (weight of chance {}): ask other raters, or add golden questions and use golden-bayes"
)
ALIKE = (
    "some raters gave the same answer to all of their questions (at least 10 per rater), so their answers "
    "carry little information: r3"
)


def random_rows(n, raters, share=0.3):
    rng = np.random.default_rng(0)
    return ["".join(np.where(rng.random(raters) < share, "y", "n")) for _ in range(n)]


def careful_rows(n, raters, skill=0.9):
    rng = np.random.default_rng(0)
    truth = rng.random(n) < 0.4
    return ["".join(np.where(t == (rng.random(raters) < skill), "y", "n")) for t in truth]


@pytest.mark.parametrize(
    ("rows", "notes"),
    [
        (["y", "n", "y", "n"], (ALONE,)),
        (["yy", "ny", "yn", "y "], (TWO, SPLIT)),
        (["y  ", " n ", "n  ", "  y"], (UNCOMPARED,)),
        (["yyy", "nnn", "yyy", "nnn", "yyy", "nnn"], (AGREED,)),
        (careful_rows(60, 3), ()),
        ([row + "n" for row in careful_rows(60, 3)], (ALIKE,)),
    ],
    ids=[
        "one rater",
        "two raters",
        "one vote a question",
        "all agree",
        "careful",
        "one says no to all",
    ],
)
def test_what_is_missing_to_learn_from_answers(rows, notes):
    assert mh.aggregate(votes_of(rows)).notes == notes


@pytest.mark.parametrize("method", ["majority", "yes-share"])
def test_ties_that_reach_the_threshold_are_counted(method):
    rows = ["yn ", "ny ", "yyn", "nn ", "y  "]
    done = mh.aggregate(votes_of(rows), method=method)
    assert done.labels.table["state"].to_pylist() == [["yes"], ["yes"], ["yes"], ["no"], ["yes"]]
    assert done.notes == (
        "the answers to 2 of the 5 questions are tied: their p of 0.5 reaches the threshold of 0.5, so the "
        "class is valid. To require more than half of the answers, pass a `threshold` above 0.5, such as "
        "0.501",
    )
    done = mh.aggregate(votes_of(rows), method=method, threshold=0.501)
    assert done.labels.table["state"].to_pylist() == [["no"], ["no"], ["yes"], ["no"], ["yes"]]
    assert done.notes == ()


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_raters_at_chance_leave_p_in_the_middle(share):
    done = mh.aggregate(votes_of(random_rows(66, 3, share)))
    assert ((done.p > 0.2) & (done.p < 0.8)).all()
    weight = done.result.weights["chance"]
    assert weight > 0.5
    assert done.notes == (CHANCE.format(f"{weight:.2f}"),)
    assert done.to_json()["weights"] == done.result.weights
    line = next(line for line in done.lines() if line.startswith("auto: "))
    assert line.startswith(f"auto: chance {weight:.2f}, ")
    assert line.endswith(", by the likelihood of held-out answers")


@pytest.mark.parametrize(("p", "word"), [(0.0, "yes"), (1.0, "no")])
def test_a_fit_that_contradicts_its_answers_says_so(p, word):
    rows = ["ny yn", "yyynn", "ynnyn", "yyyyy" if word == "yes" else "nnnnn", "ynnnn"]
    votes = votes_from_table(votes_of(rows), name="votes", n_classes=1)
    answers = Answers(votes.question, votes.rater, votes.answer, votes.n_questions, votes.n_raters)
    fit = Aggregate(np.full(5, p), iterations=1)
    too_few = "there may be too few answers to learn from; majority takes answers at face value"
    assert list(fit_notes(votes, answers, fit, "mine", 0.8)) == [
        f"mine estimates that {word} is true for none of 5 questions, but raters answered {word} to 5: "
        f"{too_few}",
        "mine decides against all raters on 1 of the 1 questions on which they agree: the raters may be "
        f"unreliable, or {too_few}",
    ]


# Bad input.

GOLDEN = {"image_id": ["0.jpg"] * 2, "class_id": [0, 0], "expert_id": ["e", "f"], "answer": ["yes", "no"]}


@pytest.mark.parametrize(
    ("work", "kind", "message"),
    [
        (
            lambda: mh.aggregate(votes_of(["yn", "yy"], class_id=[0, 0, 1, 1]), classes=1),
            InputError,
            "A class is out of range.\n  where:   votes, image 1.jpg and 1 more\n  got:     1\n"
            "  allowed: 0 to 0\n  do:      correct it, or pass the list of all classes as `classes`",
        ),
        (
            lambda: mh.aggregate(votes_of(["yn", "yy"]), images=pa.table({"image_id": ["0.jpg"]})),
            MatchError,
            "Some votes are about images that are not in the images table.\n  where:   votes\n"
            "  got:     1 of 2, such as 1.jpg\n  allowed: ids such as 0.jpg\n"
            "  do:      pass the images of the votes, or remove these votes",
        ),
        (
            lambda: mh.aggregate(votes_of(["yn"]), pa.table(GOLDEN | {"expert_id": ["e", "e"]})),
            MatchError,
            "An expert answered a question twice.\n  where:   golden, image 0.jpg, class 0\n"
            "  got:     expert e\n"
            "  allowed: one answer per expert and question, or a column `round` or `answered_at` that "
            "gives their order\n"
            "  do:      remove one of the answers",
        ),
    ],
)
def test_bad_input(work, kind, message):
    with pytest.raises(kind) as error:
        work()
    assert str(error.value) == message


def test_experts_who_contradict_each_other():
    notes = mh.aggregate(votes_of(["yn", "yy"]), pa.table(GOLDEN), method="majority").notes
    assert "experts are equally divided on 1 golden questions, whose true answer is taken to be no" in notes
