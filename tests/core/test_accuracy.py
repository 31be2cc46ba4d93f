"""Each metric against its definition written out as a loop over images."""

from dataclasses import replace

import numpy as np
import pytest

from manyhot.core.accuracy import valid_errors
from manyhot.core.sets import NO, NO_LABEL, NOT_ASKED, UNCLEAR, YES, Case, LabelSets
from manyhot.errors import InputError
from manyhot.registry import get
from manyhot.testing import random_case


def images(case):
    """Yield each image in plain Python: predictions, set, accepted classes, asked classes, label, usable."""
    labels = case.labels
    for i in range(len(labels)):
        part = slice(labels.indptr[i], labels.indptr[i + 1])
        states = dict(zip(labels.classes[part].tolist(), labels.state[part].tolist(), strict=True))
        yield (
            case.top[i].tolist(),
            {c for c, s in states.items() if s == YES},
            {c for c, s in states.items() if s >= UNCLEAR},
            set(states),
            int(labels.label[i]),
            bool(labels.usable[i]),
        )


def mean(values):
    return (float(np.mean(values)), len(values)) if values else (np.nan, 0)


def loop_top(case, k):
    judged = [(top, label) for top, _, _, _, label, usable in images(case) if usable and label != NO_LABEL]
    return mean([label in top[:k] for top, label in judged])


def loop_real(case, k):
    return mean([bool(s & set(top[:k])) for top, s, _, _, _, usable in images(case) if usable and s])


def loop_mla(case):
    classes = {}
    for top, _, accepted, _, label, usable in images(case):
        if usable and accepted and label != NO_LABEL:
            classes.setdefault(label, []).append(top[0] in accepted)
    return float(np.mean([np.mean(v) for v in classes.values()])), sum(map(len, classes.values()))


def loop_variable(case, exact=False):
    values = {}
    for top, s, _, _, _, usable in images(case):
        if usable and s and len(s) <= len(top):
            found = len(s & set(top[: len(s)])) / len(s)
            values.setdefault(min(len(s), 4), []).append(found == 1 if exact else found)
    return values


def loop_asma(case, exact=False):
    values = loop_variable(case, exact)
    return float(np.mean([np.mean(v) for v in values.values()])), sum(map(len, values.values()))


def loop_at_k(case, which, k):
    values = []
    for top, s, _, _, _, usable in images(case):
        if usable and s:
            hits = len(s & set(top[:k]))
            p, r = hits / k, hits / len(s)
            f1 = 2 * p * r / (p + r) if hits else 0.0
            values.append({"precision": p, "recall": r, "f1": f1}[which])
    return mean(values)


REFERENCES = {
    "top1": lambda c: loop_top(c, 1),
    "top5": lambda c: loop_top(c, 5),
    "real1": lambda c: loop_real(c, 1),
    "real5": lambda c: loop_real(c, 5),
    "mla": loop_mla,
    "variable_topk": lambda c: mean([v for values in loop_variable(c).values() for v in values]),
    "variable_topk(exact=True)": lambda c: mean(
        [v for values in loop_variable(c, True).values() for v in values]
    ),
    "asma": loop_asma,
    "asma(exact=True)": lambda c: loop_asma(c, True),
    "precision@3": lambda c: loop_at_k(c, "precision", 3),
    "recall@3": lambda c: loop_at_k(c, "recall", 3),
    "f1@3": lambda c: loop_at_k(c, "f1", 3),
}


@pytest.mark.parametrize("dense", [True, False], ids=["dense", "ranks"])
@pytest.mark.parametrize("spec", list(REFERENCES))
def test_equals_the_loop(spec, dense):
    for seed in range(5):
        case = random_case(np.random.default_rng(seed), dense=dense)
        estimate = get("metric", spec)(case)
        value, n = REFERENCES[spec](case)
        assert estimate.value() == pytest.approx(value, rel=1e-12)
        assert np.count_nonzero(estimate.scored) == n


def test_unasked_counts_misses_that_nobody_was_asked_about():
    for seed in range(5):
        case = random_case(np.random.default_rng(seed))
        misses = [
            (top[0] not in asked)
            for top, s, _, asked, _, usable in images(case)
            if usable and s and top[0] not in s
        ]
        assert get("metric", "real1_unasked")(case).value() == pytest.approx(np.mean(misses))
        wrong = [
            (c not in asked)
            for top, s, _, asked, _, usable in images(case)
            if usable and s and len(s) <= len(top)
            for c in top[: len(s)]
            if c not in s
        ]
        assert get("metric", "variable_topk_unasked")(case).value() == pytest.approx(np.mean(wrong))


@pytest.mark.parametrize("name", ["real1", "real5", "mla", "variable_topk", "asma"])
def test_unasked_is_unknown_where_only_valid_classes_are_recorded(name):
    case = Case(
        LabelSets.from_lists([[0], [1, 2]], 9, label=[0, 1]), np.array([[1, 2, 3, 4, 5], [1, 0, 3, 4, 5]])
    )
    estimate = get("metric", f"{name}_unasked")(case)
    assert np.isnan(estimate.value())
    assert not estimate.scored.any()


def test_not_enough_places_is_not_a_miss():
    case = Case(LabelSets.from_lists([[0], [0, 1, 2]], 9, label=[0, 0]), np.array([[0, 1], [0, 1]]))
    for spec in ("top5", "real5", "precision@3"):
        assert not get("metric", spec)(case).scored.any()
    assert get("metric", "variable_topk")(case).scored.tolist() == [True, False]


def test_lists_of_different_lengths_are_judged_as_far_as_they_go():
    labels = LabelSets.from_lists([[0], [0, 1], [2], [1]], 9, label=[0, 1, 2, 1])
    case = Case(labels, np.array([[0, 1, 2], [0, -1, -1], [-1, -1, -1], [2, 1, -1]]))
    scored = {
        m: get("metric", m)(case).scored.tolist()
        for m in ("top1", "real1", "mla", "variable_topk", "recall@2")
    }
    # The third list is empty: the model says that nothing is there, which is wrong.
    assert scored == {
        "top1": [True, True, True, True],
        "real1": [True, True, True, True],
        "mla": [True, True, True, True],
        "variable_topk": [True, False, True, True],
        "recall@2": [True, False, False, True],
    }
    right = {m: get("metric", m)(case).num.tolist() for m in ("top1", "real1", "mla", "variable_topk")}
    first = [True, True, False, False]
    assert right == {
        "top1": [True, False, False, False],
        "real1": first,
        "mla": first,
        "variable_topk": [1, 0, 0, 0],
    }


def test_an_empty_list_is_a_miss_but_not_of_a_class_that_nobody_asked_about():
    labels = replace(LabelSets.from_lists([[0], [1], [1]], 9, label=[0, 1, 1]), asked_known=True)
    case = Case(labels, np.array([[0], [2], [-1]]))
    for name in ("real1_unasked", "mla_unasked", "variable_topk_unasked"):
        estimate = get("metric", name)(case)
        assert estimate.scored.tolist() == [False, True, True]
        assert estimate.value() == pytest.approx(1 / 2)
    # Without a top class, there is nothing that could be valid or asked about.
    for name in ("valid_errors", "errors_asked"):
        assert get("metric", name)(case).scored.tolist() == [False, True, False]


def test_known_by_hand():
    labels = LabelSets.from_lists([[0], [1, 2], [], [3, 4, 5]], 6, label=[0, 2, 1, 0])
    case = Case(labels, np.array([[0, 1, 2, 3, 4], [2, 0, 1, 3, 4], [1, 2, 3, 4, 5], [3, 4, 0, 1, 2]]))
    values = {m: get("metric", m)(case).value() for m in ("top1", "real1", "variable_topk", "asma", "mla")}
    assert values == pytest.approx(
        {
            "top1": 3 / 4,
            "real1": 1.0,
            "variable_topk": (1 + 1 / 2 + 2 / 3) / 3,
            "asma": (1 + 1 / 2 + 2 / 3) / 3,
            "mla": 1.0,
        }
    )
    assert NOT_ASKED == 0


def test_k_of_zero_is_refused():
    case = random_case(np.random.default_rng(0))
    with pytest.raises(InputError) as error:
        get("metric", "recall@0")(case)
    assert str(error.value) == ("k is not a number of classes.\n  got:     k=0\n  allowed: 1 and up")


def test_valid_errors_by_hand():
    """Of four errors, two predict another class of the set; the others do not count."""
    sets = [[0], [0, 1], [1], [2], [], [0, 3], [1]]
    label = [0, 0, 0, 2, 0, 0, NO_LABEL]
    top = np.array([[0], [1], [1], [3], [1], [4], [1]], np.int32)
    found = valid_errors(Case(LabelSets.from_lists(sets, 5, label=label), top))
    # right; in the set; label rejected, prediction valid; wrong; empty set; wrong; no label
    assert found.scored.tolist() == [False, True, True, True, False, True, False]
    assert found.value() == 2 / 4


def errors_by_hand():
    """Return seven errors of all kinds, an image that is right and one that is unusable."""
    asked = [
        {0: (YES, 0.9), 1: (YES, 0.95)},  # the model says 1: accepted and preferred
        {0: (YES, 0.9), 1: (NO, 0.1)},  # refused
        {0: (YES, 0.9), 1: (UNCLEAR, 0.9)},  # unclear, and as likely as the original label
        {0: (YES, 0.9)},  # nobody was asked
        {0: (NO, 0.1), 1: (NO, 0.3)},  # an empty set: refused, and yet likelier than the original label
        {1: (YES, 0.9)},  # accepted; nobody was asked about the original label
        {0: (YES, 0.9), 1: (YES, np.nan)},  # accepted; nothing tells its probability
        {1: (YES, 1.0)},  # right
        {0: (YES, 0.9), 1: (YES, 1.0)},  # unusable
    ]
    pairs = [(c, *what) for image in asked for c, what in image.items()]
    classes, state, p = (np.array(column) for column in zip(*pairs, strict=True))
    label = np.array([0, 0, 0, 0, 0, 0, 0, 1, 0], np.int32)
    indptr = np.concatenate([[0], np.cumsum([len(a) for a in asked])])
    usable = np.array([True] * 8 + [False])
    sets = LabelSets(
        3,
        indptr,
        classes.astype(np.int32),
        state.astype(np.uint8),
        label,
        usable,
        True,
        p.astype(np.float32),
    )
    return Case(sets, np.full((9, 1), 1, np.int32))


@pytest.mark.parametrize(
    ("metric", "right", "n"), [("errors_asked", 6, 7), ("accepted_errors", 3, 6), ("preferred_errors", 2, 4)]
)
def test_errors_by_hand(metric, right, n):
    found = get("metric", metric)(errors_by_hand())
    assert (np.count_nonzero(found.num), np.count_nonzero(found.scored)) == (right, n)
    assert found.value() == pytest.approx(right / n)


def loop_errors(case):
    """Yield state and probability of the best class and of the original label, for each top-1 error."""
    labels = case.labels
    for i in range(len(labels)):
        part = slice(labels.indptr[i], labels.indptr[i + 1])
        known = {
            int(c): (int(s), float(p))
            for c, s, p in zip(labels.classes[part], labels.state[part], labels.p[part], strict=True)
        }
        best, label = int(case.top[i, 0]), int(labels.label[i])
        if labels.usable[i] and label != NO_LABEL and best != label:
            yield known.get(best), known.get(label)


def test_errors_equal_the_loop():
    for seed in range(5):
        case = random_case(np.random.default_rng(seed))
        errors = list(loop_errors(case))
        asked = [best for best, _ in errors if best]
        both = [best[1] > label[1] for best, label in errors if best and label]
        expected = {
            "errors_asked": mean([best is not None for best, _ in errors]),
            "accepted_errors": mean([state == YES for state, _ in asked]),
            "preferred_errors": mean(both),
        }
        for name, (value, n) in expected.items():
            estimate = get("metric", name)(case)
            assert (estimate.value(), np.count_nonzero(estimate.scored)) == (pytest.approx(value), n)


@pytest.mark.parametrize("metric", ["errors_asked", "accepted_errors", "preferred_errors"])
def test_errors_are_unknown_where_only_valid_classes_are_recorded(metric):
    case = Case(LabelSets.from_lists([[0], [1, 2]], 9, label=[0, 1]), np.array([[1], [1]]))
    estimate = get("metric", metric)(case)
    assert np.isnan(estimate.value())
    assert not estimate.scored.any()


def test_no_preference_without_probabilities():
    case = errors_by_hand()
    estimate = get("metric", "preferred_errors")(Case(replace(case.labels, p=None), case.top))
    assert not estimate.scored.any()
    assert np.isnan(estimate.value())


def test_no_preference_where_it_is_unknown_who_was_asked():
    """The probability of a class that nobody was asked about is not one of raters."""
    case = errors_by_hand()
    estimate = get("metric", "preferred_errors")(Case(replace(case.labels, asked_known=False), case.top))
    assert np.isnan(estimate.value())


def test_probability_of_a_class():
    labels = errors_by_hand().labels
    found = labels.p_of(np.array([1, 1, 0, 2, -1, 0, 1, 1, 0]))
    assert found == pytest.approx([0.95, 0.1, 0.9, np.nan, np.nan, np.nan, np.nan, 1, 0.9], nan_ok=True)
    assert labels.take(np.array([8, 0])).p_of(np.array([0, 1])) == pytest.approx([0.9, 0.95])
