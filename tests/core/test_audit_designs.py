"""Designs of audits by what models predict."""

import numpy as np
import pytest

from manyhot.core.audit_designs import (
    PREFERENCES,
    chosen_by_others,
    count_apart,
    count_candidates,
    design_by_models,
    expected_squares,
    share_of_others,
)
from manyhot.errors import InputError


def best_classes(n=400, m=5, seed=0):
    rng = np.random.default_rng(seed)
    right = rng.integers(0, 8, n)
    wrong = rng.random((n, m)) < rng.beta(0.5, 1.5, n)[:, None]
    return np.where(wrong, rng.integers(0, 8, (n, m)), right[:, None])


def message(make):
    with pytest.raises(InputError) as error:
        make()
    return str(error.value)


def test_share_of_others_is_that_of_a_loop():
    best = best_classes(50)
    loop = [[np.mean([row[j] == row[m] for j in range(5) if j != m]) for m in range(5)] for row in best]
    assert np.allclose(share_of_others(best), loop)


@pytest.mark.parametrize("m", [1, 2, 3, 5, 10])
def test_chosen_by_others_is_that_of_a_loop(m):
    best = best_classes(200, m)
    for row, found in zip(best, chosen_by_others(best), strict=True):
        for j in range(m):
            others = np.delete(row, j)
            classes, counts = np.unique(others, return_counts=True)
            proposed = set(classes[2 * counts >= m - 1])
            if m > 1:
                proposed.add(classes[np.argmax(counts)])
            assert found[j] == (row[j] in proposed)


@pytest.mark.parametrize("m", [1, 2, 5, 25])
def test_candidates_are_those_of_a_loop(m):
    best = best_classes(60, m)
    loop = [sum(np.count_nonzero(row == c) * 10 >= m for c in set(row.tolist())) for row in best]
    assert count_candidates(best).tolist() == loop


def test_expected_squares():
    best = np.array([[1, 1, 1], [1, 1, 2]])
    p = np.array([[2.5, 2.5, 2.5], [1.5, 1.5, 0.5]]) / 3
    assert np.allclose(expected_squares(best), p * (1 - p))
    confidence = np.array([[0.9], [0.5]])
    assert np.allclose(expected_squares(best[:, :1], confidence), confidence * (1 - confidence))


@pytest.mark.parametrize("prefer", PREFERENCES)
@pytest.mark.parametrize("m", [2, 5])
def test_sizes_are_kept_and_every_image_has_a_chance(prefer, m):
    best = best_classes(m=m)
    confidence = np.random.default_rng(1).random(best.shape)
    made = design_by_models(prefer, best, 60, confidence)
    p = made.design.probability
    assert 0 < p.min() <= p.max() <= 1
    assert made.design.n_by_stratum.sum() == 60
    assert (made.design.stratum is None) is (made.names() is None)
    sample = made.design.draw(np.random.default_rng(0))
    assert len(sample) == 60


def test_images_on_which_models_differ_are_drawn_more_often():
    best = best_classes()
    differ = share_of_others(best).min(axis=1) < 1
    for prefer in ("size", "active", "differences"):
        p = design_by_models(prefer, best, 60).design.probability
        assert p[differ].mean() > 1.15 * p[~differ].mean()


def test_a_pair_is_audited_where_its_best_classes_differ():
    best = best_classes(2000, 2)
    differ = best[:, 0] != best[:, 1]
    made = design_by_models("differences", best, 400)
    images = made.design.draw(np.random.default_rng(0)).images
    same = np.count_nonzero(~differ) / np.count_nonzero(differ)
    assert np.count_nonzero(differ[images]) == round(count_apart(400, same))
    assert set(made.names()[differ]) == {"two top classes"}


def test_a_pair_that_differs_on_few_images_has_all_of_them():
    best = np.zeros((500, 2), int)
    best[:20, 1] = 1
    p = design_by_models("differences", best, 100).design.probability
    assert (p[:20] == 1).all()
    assert np.isclose(p.sum(), 100)
    same = np.zeros((500, 2), int)
    assert design_by_models("differences", same, 100).kind == "uniform"


def test_what_a_design_cannot_do():
    best = best_classes(m=1)
    assert message(lambda: design_by_models("active", best, 60)) == (
        "The design needs several models, or one with probabilities.\n"
        "  got:     one model without probabilities\n"
        "  do:      predict with more models, or set `design` to uniform"
    )
    assert message(lambda: design_by_models("differences", best, 60)) == (
        "The design needs models to compare.\n"
        "  got:     one model\n"
        "  allowed: two models or more\n"
        "  do:      pass another model, or set `design` to uniform"
    )
    assert message(lambda: design_by_models("confidence", best, 60)) == (
        "The design needs probabilities of all models.\n"
        "  got:     a model without probabilities\n"
        "  do:      set `design` to size or uniform"
    )
    assert message(lambda: design_by_models("best", best, 60)) == (
        "There is no such audit design.\n"
        "  where:   `design`\n"
        "  got:     best\n"
        "  allowed: uniform, size, confidence, active, differences"
    )


def test_half_of_a_sample_by_confidence_is_uniform():
    """A model may be far too confident: the tenths of which it is sure keep half of their images."""
    confidence = np.concatenate([np.full(800, 0.99999), np.linspace(0.3, 0.9, 200)])[:, None]
    best = np.zeros((1000, 1), int)
    design = design_by_models("confidence", best, 200, confidence).design
    squares = confidence[:, 0] * (1 - confidence[:, 0])
    deviation = np.array([np.sqrt(squares[design.places == k].mean()) for k in range(10)])
    expected = 100 * deviation / deviation.sum() + 10
    counts = np.array([design.probability[design.places == k].sum() for k in range(10)])
    assert np.abs(counts - expected).max() <= 1
    assert counts.min() == pytest.approx(10)
