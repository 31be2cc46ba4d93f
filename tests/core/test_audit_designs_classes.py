"""core/audit_designs.py against what answers change, computed by loops."""

import numpy as np
import pytest

from manyhot.core.audit_average_precision import Ranking
from manyhot.core.audit_designs import _expected_squares, class_design
from manyhot.core.audit_samples import active_design
from manyhot.errors import InputError


def scores_of(n=300, c=5, seed=0):
    rng = np.random.default_rng(seed)
    odds = rng.normal(-2, 1.5, (n, c)) - np.arange(c)
    return [1 / (1 + np.exp(-odds - rng.normal(0, s, (n, c)))) for s in (0.5, 1.0)]


def tops(scores):
    return sum(np.arange(s.shape[1]) == s.argmax(1)[:, None] for s in scores) > 0


def test_images_are_drawn_by_what_their_answers_change():
    """Of the values of two models, and of their difference."""
    scores = scores_of()
    found = class_design(scores, 60, certain=tops(scores), probability=np.mean(scores, axis=0))
    squares = np.zeros((2, 300))
    for c in range(5):
        order = [np.argsort(np.argsort(-s[:, c])) + 1 for s in scores]
        least = np.minimum(3 / (20 + np.minimum(*order)), 0.5)
        p = np.maximum(np.mean(scores, axis=0)[:, c], least)
        slopes = []
        for s in scores:
            value = Ranking.of(s[:, c]).curve(p).precision
            changed = [
                Ranking.of(s[:, c]).curve(p + 1e-6 * (np.arange(300) == i)).precision for i in range(300)
            ]
            slopes.append((np.array(changed) - value) / 1e-6)
        a, b = slopes
        squares[0] += p * (1 - p) * (a**2 + b**2) / 2
        squares[1] += p * (1 - p) * (a - b) ** 2
    size = (squares / squares.mean(axis=1, keepdims=True)).sum(axis=0)
    expected = 0.9 * active_design(size, 60 / 0.9, uniform=0.3).probability
    assert found.design.probability == pytest.approx(expected, rel=1e-3)
    assert found.design.n_by_stratum.sum() == 60


def test_the_number_of_questions_is_the_requested_one():
    scores = scores_of()
    certain = tops(scores)
    found = class_design(scores, 60, certain=certain, questions=2.5)
    assert found.design.probability @ found.asked.sum(1) == pytest.approx(2.5 * 60, rel=1e-4)
    assert (found.asked[certain] == 1).all()
    pairs = found.design.probability[:, None] * found.asked
    assert pairs.min() == pytest.approx(0.5 * 2.5 * 60 / 1500)  # half of the questions are the same for all
    assert class_design(scores, 60, certain=certain, questions=5).asked.min() > 0.999


def test_more_questions_are_asked_where_answers_change_more():
    """Times the probability of the image, that of a question is proportional to the change."""
    scores = scores_of()
    found = class_design(scores, 60, certain=tops(scores), probability=np.mean(scores, axis=0), questions=2.5)
    pairs = found.design.probability[:, None] * found.asked
    between = (pairs > 1.001 * pairs.min()) & (found.asked < 1)
    size = np.sqrt(_expected_squares(scores, np.mean(scores, axis=0)))
    assert between.sum() > 20
    ratio = (pairs / size)[between]
    assert ratio == pytest.approx(np.full(len(ratio), ratio[0]), rel=1e-3)


def test_one_model_and_a_sample_of_nearly_all_images():
    scores = scores_of()[:1]
    assert class_design(scores, 60, certain=tops(scores)).design.probability.max() <= 0.9
    assert class_design(scores, 300, certain=tops(scores)).design.probability.min() == pytest.approx(1)


def test_too_few_questions():
    scores = scores_of()
    with pytest.raises(InputError) as error:
        class_design(scores, 60, certain=np.ones((300, 5), bool), questions=2)
    assert str(error.value).splitlines() == [
        "There are fewer questions per image than classes that people are always asked about.",
        "  got:     2 questions per image",
        "  allowed: at least 5.00",
    ]
