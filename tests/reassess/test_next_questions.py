"""Which questions are asked next, and which are settled, from tables of votes."""

import itertools

import numpy as np
import pyarrow as pa
import pytest

from manyhot import aggregate, next_questions
from manyhot.errors import InputError, UnknownNameError
from manyhot.tables import golden_from_table, votes_from_table

RATERS = "abcdefg"


def table(answers, who="rater_id"):
    """Return a table of answers given as (image, class, rater, answer)."""
    images, classes, raters, said = zip(*answers, strict=True)
    return pa.table(
        {"image_id": images, "class_id": pa.array(classes, pa.int32()), who: raters, "answer": said}
    )


def golden():
    """Twenty golden questions, ten of each truth; raters are right in eight of ten, in two they say maybe."""
    truths = ["yes"] * 10 + ["no"] * 10
    experts = [(f"g{i}.jpg", 0, f"e{e}", truth) for i, truth in enumerate(truths) for e in range(3)]
    raters = [
        (f"g{i}.jpg", 0, r, "maybe" if i % 10 < 2 else truth)
        for i, truth in enumerate(truths)
        for r in RATERS
    ]
    return golden_from_table(table(experts, "expert_id"), name="golden", n_classes=10), raters


VOTES = [
    # Settled with three equal answers; open with one of each; with a single yes; full with five; a maybe.
    *[("1.jpg", 1, r, "no") for r in "abc"],
    ("2.jpg", 1, "a", "yes"),
    ("2.jpg", 1, "b", "no"),
    ("3.jpg", 1, "a", "yes"),
    *[("4.jpg", 1, r, answer) for r, answer in zip("abcde", ["yes", "no"] * 2 + ["maybe"], strict=True)],
    ("5.jpg", 1, "b", "maybe"),
]


def votes_and_golden(answers=VOTES):
    experts, raters = golden()
    return votes_from_table(table([*raters, *answers]), name="votes", n_classes=10), experts


def aggregated(answers=VOTES, method="golden-bayes"):
    return aggregate(*votes_and_golden(answers), method=method, resamples=0)


def ask(answers=VOTES, **options):
    """Return the next questions, by golden-bayes unless another method is given."""
    votes, experts = votes_and_golden(answers)
    return next_questions(votes, golden=experts, **options)


def asked(found):
    return [name for name in found.questions["image_id"].to_pylist() if not name.startswith("g")]


MATRIX = np.array([[9, 3, 1], [1, 3, 9]]) / 13


def test_quality_is_that_of_the_golden_questions():
    matrices = aggregated().result.matrices
    assert matrices == pytest.approx(np.broadcast_to(MATRIX, matrices.shape))


def reachable(p, left):
    """Return the chance that `left` more answers change the state, over all sequences."""
    total = 0.0
    for answers in itertools.product(range(3), repeat=left):
        there, absent = p * np.prod(MATRIX[1, list(answers)]), (1 - p) * np.prod(MATRIX[0, list(answers)])
        total += (there + absent) * ((there / (there + absent) >= 0.8) != (p >= 0.8))
    return total


def test_questions_in_order_of_expected_change():
    done = aggregated()
    found = ask(budget=100, settled=0.05)
    rows = {(r["image_id"], r["class_id"]): r for r in found.questions.to_pylist()}
    scores = found.questions["score"].to_pylist()
    assert scores == sorted(scores, reverse=True)
    n_votes = np.bincount(done.votes.question)
    for q, p in enumerate(done.p):
        key, left = (done.votes.image_id[q].as_py(), int(done.votes.class_id[q])), max(5 - n_votes[q], 0)
        is_open = left > 0 and reachable(p, left) > 0.05
        assert (key in rows) == is_open
        if is_open:
            row = rows[key]
            best = max(reachable(p, n) / n for n in range(1, left + 1))
            assert (row["p"], row["n_votes"]) == (pytest.approx(p), n_votes[q])
            assert row["score"] == pytest.approx(best)
            assert row["state"] == ("yes" if p >= 0.8 else "no")
    assert set(asked(found)) == {"2.jpg", "3.jpg", "5.jpg"}
    # The 20 golden questions have seven answers each, question 4 has five, question 1 is settled.
    assert (found.n_questions, found.n_full, found.n_settled, found.n_open) == (25, 21, 1, 3)
    expected = sum(reachable(r["p"], 5 - r["n_votes"]) for r in rows.values())
    assert found.changes == pytest.approx(expected)


def test_budget_and_most():
    assert asked(ask(budget=1)) == asked(ask(budget=3))[:1]
    assert set(asked(ask(budget=100, max_answers=6, settled=0.0))) >= {"4.jpg"}


def test_a_small_budget_settles_nothing():
    # Three of 20 golden questions are yes: no single answer lifts a new question to 0.8, several do.
    said = [(f"g{i}.jpg", 0, f"e{e}", "yes" if i < 3 else "no") for i in range(20) for e in range(3)]
    experts = golden_from_table(table(said, "expert_id"), name="golden", n_classes=10)
    votes = votes_from_table(table([*golden()[1], ("5.jpg", 1, "b", "maybe")]), name="votes", n_classes=10)
    new = {"image_id": ["9.jpg"], "class_id": pa.array([4], pa.int32()), "score": [0.5]}
    new |= {"n_models": pa.array([1], pa.int32()), "source": ["union"]}
    found = [next_questions(votes, golden=experts, proposals=pa.table(new), budget=b) for b in (1, 2, 50)]
    assert [len(f.questions) for f in found] == [1, 2, 2]
    assert {(f.n_open, f.n_settled, f.n_full, f.changes) for f in found} == {(2, 0, 20, found[2].changes)}
    assert found[0].questions.to_pylist() == found[2].questions.to_pylist()[:1]


def test_entropy_and_disagreement():
    by_entropy = ask(budget=10, by="entropy").questions
    p = np.array(by_entropy["p"].to_pylist())
    assert (np.diff(np.abs(p - 0.5)) >= -1e-12).all()
    by_disagreement = ask(budget=10, by="disagreement").questions
    # Two answers that differ: (2, 1, 2) / 5 with one more each; one answer: (1, 1, 2) / 4.
    expected = [-sum(s * np.log2(s) for s in (0.4, 0.2, 0.4)), 1.5, 1.5]
    assert by_disagreement["score"].to_pylist() == pytest.approx(expected)
    assert by_disagreement["image_id"].to_pylist()[0] == "2.jpg"


def test_a_rater_is_not_asked_again():
    assert set(asked(ask(budget=100, rater="b"))) == {"3.jpg"}
    assert set(asked(ask(budget=100, rater="g"))) == {"2.jpg", "3.jpg", "5.jpg"}


def test_proposals_that_nobody_answered():
    rows = [("9.jpg", 4), ("2.jpg", 1), ("2.jpg", 5), ("9.jpg", 4)]
    columns = {"image_id": [i for i, _ in rows], "class_id": pa.array([c for _, c in rows], pa.int32())}
    others = {"score": [0.5] * 4, "n_models": pa.array([1] * 4, pa.int32()), "source": ["top1"] * 4}
    experts, raters = golden()
    votes = votes_from_table(table([*raters, *VOTES]), name="votes", n_classes=10)
    proposals = pa.table(columns | others)
    for method in ("golden-bayes", "dawid-skene"):
        found = next_questions(votes, golden=experts, proposals=proposals, method=method, budget=100)
        assert found.n_questions == votes.n_questions + 2
        prior = aggregate(votes, experts, method=method, resamples=0).result.prior[-1]
        found = found.questions.to_pylist()
        new = {(r["image_id"], r["class_id"]): r for r in found if r["n_votes"] == 0}
        assert set(new) == {("9.jpg", 4), ("2.jpg", 5)}
        # What is known before any answer.
        assert [r["p"] for r in new.values()] == pytest.approx([float(prior)] * 2)


def test_equal_questions_keep_their_order():
    votes = [(f"{i}.jpg", 1, "a", "yes") for i in (3, 1, 2)]
    found = ask(votes, budget=2)
    done = aggregated(votes).votes
    order = [n for n in done.image_id.to_pylist() if not n.startswith("g")]
    assert asked(found) == order[:2]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"method": "majority"},
            InputError,
            "This method does not estimate how raters answer when a class is present and "
            "when it is absent.\n"
            "  got:     majority\n  allowed: golden-bayes, auto, dawid-skene, one-coin",
        ),
        (
            {"by": "change"},
            UnknownNameError,
            "There is no ranking 'change'.\n  allowed: expected-change, entropy, disagreement",
        ),
        (
            {"rater": "A"},
            UnknownNameError,
            "There are no answers of the rater 'A'.\n  where:   votes\n  allowed: a, b, c, d, e, f, g\n"
            "  do:      leave the rater out for one of average quality",
        ),
        ({"budget": 0}, InputError, "`budget` is out of range.\n  got:     0\n  allowed: 1 or more"),
        (
            {"max_answers": 0},
            InputError,
            "`max_answers` is out of range.\n  got:     0\n  allowed: 1 or more",
        ),
        ({"settled": 1.0}, InputError, "`settled` is out of range.\n  got:     1.0\n  allowed: 0 to below 1"),
    ],
)
def test_errors(options, error, message):
    with pytest.raises(error) as raised:
        ask(**({"budget": 10} | options))
    assert str(raised.value) == message


def test_inputs_stay_as_they_are():
    votes, experts = votes_and_golden()
    arrays = (votes.question, votes.rater, votes.answer, experts.experts.answer)
    before = [array.copy() for array in arrays]
    next_questions(votes, golden=experts, budget=5)
    assert all(np.array_equal(a, b) for a, b in zip(before, arrays, strict=True))


def careless(seed=1):
    """Three raters who answer 66 questions at random, of which 30 are golden."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(["no", "yes"], 66, p=[0.65, 0.35])
    said = rng.choice(["no", "maybe", "yes"], (66, 3), p=[0.6, 0.1, 0.3])
    votes = [(f"{q}.jpg", 0, "abc"[r], said[q, r]) for q in range(66) for r in range(3)]
    experts = [(f"{q}.jpg", 0, "e", truth[q]) for q in range(30)]
    return votes_from_table(table(votes), name="votes", n_classes=10), golden_from_table(
        table(experts, "expert_id"), name="golden", n_classes=10
    )


def test_careless_raters_settle_nothing_and_that_is_said():
    votes, experts = careless()
    found = next_questions(votes, golden=experts, budget=100)
    done = aggregate(votes, experts, method="golden-bayes", resamples=0)
    assert (found.n_settled + found.n_uncertain, found.n_open) == (66, 0)
    assert found.n_uncertain == np.count_nonzero((done.p > 0.2) & (done.p < 0.8)) > 30
    # Informedness by hand: the chance that yes is answered more readily under yes than under no, and less.
    matrix = np.average(done.result.matrices, axis=0)
    value = sum(matrix[1, a] * matrix[0, b] * np.sign(a - b) for a in range(3) for b in range(3))
    assert found.notes == (
        "an average answer hardly depends on whether the class is present "
        f"(informedness {value:.2f}, estimated from 90 answers to golden questions), so more answers of "
        "this quality would be of little use, and settled states may be wrong; see manyhot agreement",
    )
    lines = list(found.lines())
    assert f"settled     {found.n_settled}  are unlikely to change (`settled`)" in lines
    assert any(line.startswith(f"undecided   {found.n_uncertain}  have a probability") for line in lines)
    by_one = next_questions(votes, golden=experts, budget=1, rater="b")
    assert by_one.notes[0].startswith("an answer of b hardly depends")


def test_without_golden_answers_careless_raters_settle_nothing():
    # In two of the ten draws, three raters agree more often than by chance, by chance.
    found = [next_questions(careless(seed)[0], budget=100) for seed in range(10)]
    undecided = [each for each in found if not each.n_settled and each.n_uncertain > 60]
    assert len(undecided) >= 8
    note = "an average answer hardly depends on whether the class is present"
    assert all(each.notes[0].startswith(note) for each in undecided)


def test_careful_raters_are_not_suspected():
    found = ask(budget=100)
    assert (found.n_uncertain, found.notes) == (0, ())


def test_the_advice_allows_more_answers_than_all_questions_have():
    """With 8 answers to each question, a maximum of 8 was advised after 5, with which none is open."""
    answers = [
        (f"{i}.jpg", 0, r, "yes" if j % 2 else "no") for i in range(9) for j, r in enumerate("abcdefgh")
    ]
    votes = votes_from_table(table(answers), name="votes", n_classes=10)
    assert (
        list(next_questions(votes, budget=5).lines())[-1]
        == "no question is open; to ask further questions, set `max_answers`=11"
    )
