from dataclasses import replace

import numpy as np
import pytest

from manyhot.classes import CLASS_ORDERS
from manyhot.core.order_check import (
    ALL_PREDICTED,
    NONE_PREDICTED,
    accuracy_by_chance,
    are_probabilities,
    constant_scores,
    explain_order,
    one_sided_note,
    relate,
)
from manyhot.core.sets import NO_LABEL, YES, Case, LabelSets

C, EACH = 1000, 4


@pytest.fixture
def truth():
    """Labels of images in the order of their names, and what a model of 60 % accuracy predicts."""
    rng = np.random.default_rng(0)
    label = rng.permutation(np.repeat(np.arange(C), EACH))
    right = rng.random(len(label)) < 0.6
    top1 = np.where(right, label, rng.integers(0, C, len(label)))
    second = np.where(rng.random(len(label)) < 0.3, label, rng.integers(0, C, len(label)))
    return label, np.stack([top1, second], axis=1)


def explain(top, label):
    orders = {name: make(C) for name, make in CLASS_ORDERS.items()}
    return explain_order(top, label, n_classes=C, by_name=lambda: np.arange(len(label)), class_orders=orders)


def test_the_right_order_is_not_accused(truth):
    label, top = truth
    assert explain(top, label) is None


def test_a_weak_model_is_not_accused(truth):
    label, _ = truth
    rng = np.random.default_rng(1)
    top = rng.integers(0, C, (len(label), 5))
    assert explain(top, label) is None


def test_a_handful_of_images_is_not_accused(truth):
    label, top = truth
    assert explain(top[::-1][:50], label[:50]) is None


def test_rows_sorted_by_class_read_in_file_order(truth):
    label, top = truth
    by_class = np.argsort(label, kind="stable")
    assert explain(top[by_class], label) == "rows sorted by class, read in the order of file names"


def test_rows_in_file_order_read_as_sorted_by_class(truth):
    label, top = truth
    by_class = np.argsort(label, kind="stable")
    orders = {name: make(C) for name, make in CLASS_ORDERS.items()}
    found = explain_order(
        top, label[by_class], n_classes=C, by_name=lambda: np.argsort(by_class), class_orders=orders
    )
    assert found == "rows in the order of file names, read as sorted by class"


@pytest.mark.parametrize("name", list(CLASS_ORDERS))
def test_class_orders(truth, name):
    label, top = truth
    index_of = np.argsort(CLASS_ORDERS[name](C))
    assert explain(index_of[top], label) == f"predicted classes given as {name}"
    assert explain(top, index_of[label]) == f"labels given as {name}"


def test_images_that_a_model_gets_wrong_are_not_accused(truth):
    label, top = truth
    rest = np.random.default_rng(0).integers(0, C, (len(label), 2))
    wrong = top[:, 0] != label
    late = np.where(np.random.default_rng(1).random(wrong.sum()) < 0.08, label[wrong], rest[wrong, 1])
    assert explain(np.column_stack([top[wrong], rest[wrong, 0], late]), label[wrong]) is None


def test_worst_first(truth):
    label, top = truth
    rest = np.random.default_rng(0).integers(0, C, (len(label), 3))
    assert explain(np.concatenate([rest, top[:, ::-1]], axis=1), label) == "classes stored worst first"


# Scores of all classes.

K = 20


@pytest.fixture(scope="module")
def weak():
    """Label sets of 600 images, and scores with a mean AUROC of 0.6."""
    rng = np.random.default_rng(3)
    hot = rng.random((600, K)) < 0.1
    hot[~hot.any(1), 0] = True
    return hot, (rng.normal(size=hot.shape) + 0.36 * hot).astype(np.float32)


def scored(hot, scores, kind="logit"):
    indptr = np.concatenate([[0], np.cumsum(hot.sum(1))])
    classes = np.nonzero(hot)[1].astype(np.int32)
    none = np.full(len(hot), NO_LABEL, np.int32)
    sets = LabelSets(hot.shape[1], indptr, classes, np.full(len(classes), YES), none, np.ones(len(hot), bool))
    return Case.from_scores(sets, scores, k=1, kind=kind)


def orders():
    found = {name: make(K) for name, make in CLASS_ORDERS.items()}
    return {name: order for name, order in found.items() if order is not None}


def test_relation_of_scores_and_labels(weak):
    hot, scores = weak
    relation = relate(scored(hot, scores), orders())
    every = [np.corrcoef(hot[:, c], scores[:, c])[0, 1] for c in range(K)]
    assert relation.correlation == pytest.approx(np.mean(every), abs=1e-6)
    assert (relation.n_classes, relation.order, relation.is_chance) == (K, None, False)


def test_random_orders_of_rows_are_chance(weak):
    hot, scores = weak
    rng = np.random.default_rng(5)
    found = [relate(scored(hot, scores[rng.permutation(600)]), orders()) for _ in range(200)]
    assert all(relation.order is None for relation in found)
    # One in a hundred is above all of 99 others; seven or more are so with a probability of 0.4 %.
    assert sum(not relation.is_chance for relation in found) < 7


@pytest.mark.parametrize("name", ["reverse", *orders()])
def test_wrong_orders_of_columns_are_recognised(weak, name):
    hot, scores = weak
    if name == "reverse":
        wrong, cause = scores[:, ::-1], "columns of scores in the reverse order of the classes"
    else:
        wrong, cause = scores[:, orders()[name]], f"columns of scores given as {name}"
    assert relate(scored(hot, wrong), orders()).order == cause


def test_columns_in_any_other_order_are_recognised(weak):
    """As of scores without names, beside label sets whose classes are sorted by name."""
    hot, scores = weak
    rng, scores = np.random.default_rng(6), scores + 0.6 * hot  # a mean AUROC of 0.75
    for _ in range(20):
        relation = relate(scored(hot, scores[:, rng.permutation(K)]), orders())
        assert relation.order == "columns of scores in a different order from the classes"


def test_classes_that_are_confused_are_no_wrong_order(weak):
    """Scores of a class that fit another one better, as where two classes are often in the same image."""
    hot, scores = weak
    mixed = scores.copy()
    mixed[:, 1::2] = scores[:, ::2] + 0.5 * scores[:, 1::2]
    assert relate(scored(hot, mixed), orders()).order is None


@pytest.mark.parametrize("seed", range(6))
def test_rare_classes_that_are_taken_for_others_are_no_wrong_order(seed):
    """Images of five of eight classes get the scores of another class; three classes are right."""
    rng = np.random.default_rng(seed)
    label = rng.choice(8, 191, p=np.array([48, 14, 10, 10, 7, 4, 4, 3]) / 100)
    scores = rng.normal(size=(191, 8))
    scores[np.arange(191), np.array([0, 1, 2, 4, 5, 3, 7, 6])[label]] += 3
    relation = relate(scored(np.eye(8, dtype=bool)[label], scores.astype(np.float32)), {})
    assert (relation.order, relation.is_chance) == (None, False)


def test_classes_of_labels_in_a_wrong_order(weak):
    hot, scores = weak
    name = "indices that start at 1"
    wrong = np.zeros_like(hot)
    wrong[:, np.argsort(orders()[name])] = hot
    assert relate(scored(wrong, scores), orders()).order == f"classes of labels given as {name}"


@pytest.mark.parametrize("n_classes", [3, 4, 5, 20])
def test_negated_scores_are_no_wrong_order(n_classes):
    rng = np.random.default_rng(n_classes)
    hot = np.eye(n_classes, dtype=bool)[rng.integers(0, n_classes, 1000)]
    scores = rng.normal(size=hot.shape) + 3 * hot
    found = {name: make(n_classes) for name, make in CLASS_ORDERS.items()}
    known = {name: order for name, order in found.items() if order is not None}
    negated = relate(scored(hot, -scores.astype(np.float32)), known)
    assert (negated.order, negated.is_chance) == (None, True)
    reverse = relate(scored(hot, scores[:, ::-1].astype(np.float32)), known)
    assert reverse.order == "columns of scores in the reverse order of the classes"


def test_too_little_to_relate(weak):
    hot, scores = weak
    assert relate(scored(hot[:99], scores[:99]), {}) is None
    assert relate(scored(np.eye(K, dtype=bool)[np.arange(600) % 2], scores), {}) is None
    infinite = scores.copy()
    infinite[0, 0] = np.inf
    assert relate(scored(hot, infinite), {}) is None


def test_constant_scores_do_not_count(weak):
    hot, scores = weak
    some = scores.copy()
    some[:, 3] = 7
    assert relate(scored(hot, some), {}).correlation < relate(scored(hot, scores), {}).correlation
    assert constant_scores(scored(hot, some)).tolist() == [3]
    some[-1, 3] = 6
    assert constant_scores(scored(hot, some)).tolist() == []
    assert constant_scores(scored(hot[:50], np.zeros((50, K)))).tolist() == []


def test_logits_that_are_probabilities(weak):
    hot, scores = weak
    probabilities = 1 / (1 + np.exp(-scores))
    assert are_probabilities(scored(hot, probabilities))
    assert not are_probabilities(scored(hot, probabilities, kind="probability"))
    assert one_sided_note(probabilities) == ""
    probabilities[-1, 0] = 1.01
    assert not are_probabilities(scored(hot, probabilities))


def test_logits_that_predict_every_class(weak):
    _, scores = weak
    above = scores - scores.min() + 0.1
    assert (1 / (1 + np.exp(-above)) > 0.5).all()
    assert one_sided_note(above) == ALL_PREDICTED
    assert one_sided_note(above[:50]) == ""
    above[-1, 0] = 0
    assert one_sided_note(above) == ""


def test_logits_that_predict_no_class(weak):
    _, scores = weak
    below = scores - scores.max()  # the highest is 0: a logarithm of 1
    assert (1 / (1 + np.exp(-below)) <= 0.5).all()
    assert one_sided_note(below) == NONE_PREDICTED
    assert one_sided_note(below[:, :1]) == one_sided_note(below[:50]) == ""
    below[-1, 0] = 0.01
    assert one_sided_note(below) == ""


@pytest.fixture
def lists():
    """Label sets of 400 images over 50 classes, and lists of which 2 in 5 begin with a valid class."""
    rng = np.random.default_rng(8)
    hot = rng.random((400, 50)) < 0.03
    hot[np.arange(400), rng.integers(50, size=400)] = True
    top = np.argsort(rng.random((400, 50)), axis=1)[:, :3].astype(np.int32)
    right = np.flatnonzero(rng.random(400) < 0.4)
    top[right, 0] = hot[right].argmax(1)
    return hot, top


def listed(hot, top):
    return replace(scored(hot, np.zeros(hot.shape, np.float32)), scores=None, top=top)


def test_lists_that_are_related_to_the_labels_are_not_chance(lists):
    hot, top = lists
    assert accuracy_by_chance(listed(hot, top)) is None


def test_lists_in_random_orders_are_chance(lists):
    hot, top = lists
    rng = np.random.default_rng(9)
    found = []
    for _ in range(100):
        rows = top[rng.permutation(400)]
        found.append(accuracy_by_chance(listed(hot, rows)))
        assert found[-1] in (None, hot[np.arange(400), rows[:, 0]].mean())
    assert found.count(None) < 5  # one in a hundred is expected, and five have a probability of 0.4 %


def test_lists_of_few_images_or_with_scores_of_all_classes_are_not_tried(lists):
    hot, top = (part[:99] for part in lists)
    assert accuracy_by_chance(listed(hot, top[::-1])) is None
    assert accuracy_by_chance(scored(lists[0], np.zeros(lists[0].shape, np.float32))) is None


def test_labels_that_are_the_same_for_all_images_say_nothing(lists):
    same = np.zeros((400, 50), bool)
    same[:, 7] = True
    assert accuracy_by_chance(listed(same, np.full((400, 1), 7, np.int32))) is None


def test_one_class_for_all_images_is_chance(lists):
    hot, _ = lists
    assert accuracy_by_chance(listed(hot, np.full((400, 1), 7, np.int32))) == hot[:, 7].mean()
