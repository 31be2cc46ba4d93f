import numpy as np
import pytest

from manyhot.classes import CLASS_ORDERS
from manyhot.core.order_check import explain_order

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
