"""Metrics against distributions of labels, compared with SciPy and scikit-learn."""

import numpy as np
import pytest
from scipy.special import rel_entr, softmax
from scipy.stats import entropy, pearsonr
from sklearn.metrics import log_loss

from manyhot.core.distributions import (
    brier_votes,
    cross_entropy_votes,
    ece_votes,
    entropy_correlation,
    kl_votes,
    tv_votes,
)
from manyhot.core.sets import Case
from manyhot.errors import InputError
from manyhot.registry import get
from manyhot.tables.array_inputs import as_labels
from manyhot.tables.arrays import label_sets
from manyhot.tables.result_tables import vote_metrics

N, C = 300, 6


def voted(seed=0, n=N, c=C):
    """Counts of votes, with images that nobody voted on, and logits of a model."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, c)).astype(np.float32)
    shares = rng.dirichlet(np.ones(c) / 3, n)
    counts = np.array([rng.multinomial(k, p) for k, p in zip(rng.integers(3, 60, n), shares, strict=True)])
    counts[:10] = 0
    return counts, logits


def case_of(counts, scores, kind="logit", label_values="counts"):
    labels = as_labels(counts, n_classes=counts.shape[1], label_values=label_values)
    return Case.from_scores(label_sets(labels), scores, kind=kind)


@pytest.fixture(scope="module")
def exclusive():
    counts, logits = voted()
    q = counts[10:] / counts[10:].sum(1, keepdims=True)
    return case_of(counts, logits), q, softmax(logits[10:].astype(float), axis=1)


def test_likelihoods_are_those_of_the_votes(exclusive):
    case, q, p = exclusive
    # scikit-learn's losses over every (image, class) pair as a row, weighted by its share.
    rows = np.repeat(p, C, axis=0)
    classes = np.tile(np.arange(C), len(p))
    loss = log_loss(classes, rows, sample_weight=q.ravel(), labels=range(C))
    assert cross_entropy_votes(case).value() == pytest.approx(loss, rel=1e-6)
    assert kl_votes(case).value() == pytest.approx(rel_entr(q, p).sum(1).mean(), rel=1e-6)
    assert int(kl_votes(case).scored.sum()) == N - 10
    one_hot = np.eye(C)[classes]
    brier = np.average(((rows - one_hot) ** 2).sum(1), weights=q.ravel())
    assert brier_votes(case).value() == pytest.approx(brier, rel=1e-6)
    assert tv_votes(case).value() == pytest.approx(np.abs(p - q).sum(1).mean() / 2, rel=1e-6)


def test_entropies(exclusive):
    case, q, p = exclusive
    x, y = entropy(q, axis=1), entropy(p, axis=1)
    estimate = entropy_correlation(case)
    assert estimate.value() == pytest.approx(pearsonr(x, y).statistic, abs=1e-6)
    others = [pearsonr(np.delete(x, i), np.delete(y, i)).statistic for i in range(5)]
    expected = [0] * 10 + [value - estimate.value() for value in others]  # the first ten have no votes
    np.testing.assert_allclose(estimate.left_out(None)[:15], expected, atol=1e-7)
    flat = case_of(np.full((20, 2), 5), np.zeros((20, 2), np.float32))
    assert np.isnan(entropy_correlation(flat).value())


def test_calibration_against_votes(exclusive):
    case, q, p = exclusive
    best = p.argmax(1)
    confidence, share = p.max(1), q[np.arange(len(q)), best]
    bins = np.minimum((confidence.astype(np.float32) * 15).astype(int), 14)
    gaps = [abs((confidence - share)[bins == b].sum()) for b in range(15)]
    assert ece_votes(case).value() == pytest.approx(sum(gaps) / len(q), rel=1e-5)
    # A confidence of 1 is in the last bin, in which gaps of both signs add up.
    sure = np.array([[200.0, 0, 0], [np.log(0.97 / 0.03), 0, -200]], np.float32)
    last = case_of(np.array([[3, 1, 0], [4, 0, 0]]), sure)
    assert ece_votes(last).value() == pytest.approx((0.25 - 0.03) / 2, rel=1e-5)
    # With one vote per image, it is the calibration error against label sets.
    one = case_of(np.eye(C, dtype=int)[best] * 3, np.log(p).astype(np.float32))
    assert ece_votes(one).value() == pytest.approx(get("metric", "ece_set")(one).value())


def test_single_votes_are_labels():
    rng = np.random.default_rng(1)
    logits, label = rng.normal(size=(50, C)).astype(np.float32), rng.integers(0, C, 50)
    case = case_of(np.eye(C, dtype=int)[label] * 4, logits)
    loss = log_loss(label, softmax(logits.astype(float), axis=1), labels=range(C))
    assert cross_entropy_votes(case).value() == pytest.approx(loss, rel=1e-6)
    assert kl_votes(case).value() == pytest.approx(loss, rel=1e-6)


def test_classes_that_can_be_valid_together():
    rng = np.random.default_rng(2)
    q = rng.random((40, 3))
    q[rng.random(q.shape) < 0.3] = np.nan  # not asked
    p = rng.random((40, 3)).astype(np.float32)
    case = case_of(q, p, kind="probability", label_values="p")
    there = ~np.isnan(q)
    a, b = q.astype(np.float32)[there].astype(float), p[there].astype(float)
    two = np.stack([1 - b, b], axis=1)
    truth, weights = np.repeat([0, 1], len(a)), np.concatenate([1 - a, a])
    loss = log_loss(truth, np.concatenate([two, two]), sample_weight=weights)
    assert cross_entropy_votes(case).value() == pytest.approx(loss)
    both = rel_entr(np.stack([1 - a, a]), np.stack([1 - b, b])).sum(0)
    assert kl_votes(case).value() == pytest.approx(both.mean())
    assert brier_votes(case).value() == pytest.approx(
        np.average((np.tile(b, 2) - truth) ** 2, weights=weights)
    )
    assert tv_votes(case).value() == pytest.approx(np.abs(a - b).mean())


def test_shares_and_counts_agree():
    counts, logits = voted(3)
    counts = counts[10:]
    shares = counts / counts.sum(1, keepdims=True)
    for name in vote_metrics():
        metric = get("metric", name)
        by_share = metric(case_of(shares, logits[10:], label_values="shares")).value()
        assert by_share == metric(case_of(counts, logits[10:])).value()


def test_probabilities_must_add_up():
    counts, _ = voted()
    case = case_of(counts, np.full((N, C), 0.5, np.float32), kind="probability")
    for metric in (cross_entropy_votes, kl_votes, brier_votes, tv_votes, entropy_correlation):
        with pytest.raises(InputError, match="do not add up to 1"):
            metric(case)
