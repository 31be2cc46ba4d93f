"""Separation of out-of-distribution images, against scikit-learn, brute force and simulation."""

import numpy as np
import pytest
from scipy.special import logsumexp, softmax
from scipy.stats import entropy, norm
from sklearn.metrics import roc_auc_score, roc_curve

from manyhot.core.ood import OOD_SCORES, auroc, confidence_scores, fpr_at_tpr
from manyhot.core.sets import Case, LabelSets
from manyhot.errors import InputError


def drawn(rng, m, n, decimals=8, shift=1.0):
    return np.round(rng.normal(shift, 1, m), decimals), np.round(rng.normal(0, 1, n), decimals)


@pytest.mark.parametrize("decimals", [0, 8])
def test_auroc_is_that_of_scikit_learn(decimals):
    inside, outside = drawn(np.random.default_rng(0), 70, 50, decimals)
    kind = np.repeat([1, 0], [70, 50])
    found = auroc(inside, outside)
    assert found.value == pytest.approx(roc_auc_score(kind, np.concatenate([inside, outside])))
    wins = (inside[:, None] > outside) + 0.5 * (inside[:, None] == outside)
    variance = wins.mean(1).var(ddof=1) / 70 + wins.mean(0).var(ddof=1) / 50  # DeLong
    half = 1.96 * np.sqrt(variance)
    assert (found.hi - found.lo) / 2 == pytest.approx(half, rel=0.1)
    assert found.lo < found.value < found.hi


@pytest.mark.parametrize("decimals", [0, 1, 8])
@pytest.mark.parametrize("m", [40, 41, 57])
def test_fpr_is_read_off_the_curve_of_scikit_learn(decimals, m):
    inside, outside = drawn(np.random.default_rng(1), m, 50, decimals)
    kind = np.repeat([1, 0], [m, 50])
    fpr, tpr, _ = roc_curve(kind, np.concatenate([inside, outside]), drop_intermediate=False)
    assert fpr_at_tpr(inside, outside, np.random.default_rng(0)).value == fpr[np.argmax(tpr >= 0.95 - 1e-12)]


@pytest.mark.parametrize(("m", "n", "shift"), [(200, 100, 1.5), (60, 300, 3.0)])
def test_intervals_hold_over_draws(m, n, shift):
    rng, repeats = np.random.default_rng(2), 600
    truths = (norm.cdf(shift / np.sqrt(2)), norm.sf(norm.ppf(0.05) + shift))
    held = np.zeros((repeats, 2))
    for i in range(repeats):
        data = drawn(rng, m, n, shift=shift)
        found = (auroc(*data), fpr_at_tpr(*data, rng))
        held[i] = [f.lo <= truth <= f.hi for f, truth in zip(found, truths, strict=True)]
    assert (held.mean(axis=0) >= 0.935 - 2 * np.sqrt(0.05 * 0.95 / repeats)).all()


def test_edges():
    rng = np.random.default_rng(3)
    few = auroc(np.arange(29.0), np.arange(40.0)), fpr_at_tpr(np.arange(29.0), np.arange(40.0), rng)
    assert all(np.isnan([f.lo, f.hi]).all() and 0 < f.value < 1 for f in few)
    apart = np.ones(50), np.zeros(50)
    assert auroc(*apart).value == 1
    assert np.isnan(auroc(*apart).lo)
    found = fpr_at_tpr(*apart, rng)
    assert (found.value, found.lo) == (0, 0)
    assert 0.02 < found.hi < 0.1
    assert np.isnan(auroc(np.empty(0), np.ones(3)).value)
    assert np.isnan(fpr_at_tpr(np.ones(3), np.empty(0), rng).value)


def test_scores_are_those_of_scipy():
    logits = np.random.default_rng(4).normal(size=(600, 7)).astype(np.float32) * 3
    labels = LabelSets.from_lists([[0]] * 600, 7)
    p = softmax(logits.astype(float), axis=1)
    case = Case.from_scores(labels, logits, kind="logit")
    expected = (p.max(1), -entropy(p, axis=1), logsumexp(logits.astype(float), axis=1))
    single = [score for score in OOD_SCORES if score != "mutual_information"]
    for score, values in zip(single, expected, strict=True):
        assert confidence_scores(case, score) == pytest.approx(values, abs=1e-5)
    same = Case.from_scores(labels, p.astype(np.float32), kind="probability")
    assert confidence_scores(same, "entropy") == pytest.approx(expected[1], abs=1e-5)
    sigmoids = Case.from_scores(labels, (0.6 * np.ones((600, 7))).astype(np.float32), kind="probability")
    with pytest.raises(InputError, match="do not add up to 1"):
        confidence_scores(sigmoids, "entropy")
