"""Doubtful labels against cleanlab: the same images, in the same order, on the same input."""

import importlib.util

import numpy as np
import pytest

import manyhot


@pytest.mark.parametrize("seed", range(4))
def test_the_order_is_that_of_cleanlab(require, seed):
    require(importlib.util.find_spec("cleanlab"), "cleanlab, which `make test` installs")
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_ensemble_scores, get_label_quality_scores

    n, c = 600, 10
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, c, n)
    label = np.where(rng.random(n) < 0.85, truth, rng.integers(0, c, n))
    p = np.exp(rng.normal(size=(n, c)) + 3 * np.eye(c)[truth]).astype(np.float32)
    p /= p.sum(1, keepdims=True)
    # Of all images by self-confidence; of those that confident learning suspects which, and in which order.
    quality = get_label_quality_scores(label, p, method="self_confidence")
    reading = manyhot.Reading(scores="probability")
    every = manyhot.find_label_issues(label, p, min_doubtful=0, reading=reading).of_kind("doubtful-label")
    at = np.array(every["image_id"].to_pylist(), int)
    assert len(at) == n
    np.testing.assert_allclose(every["score"].to_numpy(), 1 - quality[at], atol=1e-6)
    suspected = find_label_issues(
        label, p, filter_by="confident_learning", return_indices_ranked_by="self_confidence", n_jobs=1
    )
    rows = every.filter(every["confident_class"].is_valid())["image_id"].to_pylist()
    assert len(rows) > 20
    assert [int(i) for i in rows] == suspected.tolist()
    # Of several models as cleanlab has it of several that weigh the same.
    q = np.exp(rng.normal(size=(n, c)) + 2 * np.eye(c)[truth]).astype(np.float32)
    q /= q.sum(1, keepdims=True)
    two = manyhot.find_label_issues(label, {"p": p, "q": q}, min_doubtful=0, reading=reading)
    quality = get_label_quality_ensemble_scores(
        label, [p, q], method="self_confidence", weight_ensemble_members_by="uniform", verbose=False
    )
    rows = two.of_kind("doubtful-label")
    at = np.array(rows["image_id"].to_pylist(), int)
    np.testing.assert_allclose(rows["score"].to_numpy(), 1 - quality[at], atol=1e-6)


@pytest.mark.parametrize("seed", range(16))
def test_confident_classes_are_exactly_the_set_of_cleanlab(require, seed):
    require(importlib.util.find_spec("cleanlab"), "cleanlab, which `make test` installs")
    from cleanlab.filter import find_label_issues

    rng = np.random.default_rng(seed)
    n, c = int(rng.integers(60, 500)), int(rng.integers(2, 12))
    truth = rng.choice(c, n, p=rng.dirichlet(np.full(c, 2.0)))
    label = np.where(rng.random(n) < 0.75, truth, rng.integers(0, c, n))
    label[:c] = np.arange(c)
    p = np.exp(rng.normal(size=(n, c)) + rng.uniform(0.3, 3) * np.eye(c)[truth])
    p /= p.sum(1, keepdims=True)
    if seed % 2:  # ties within and between images
        p = np.maximum(np.round(p * 8), 0.1)
        p /= p.sum(1, keepdims=True)
    p = p.astype(np.float32).astype(np.float64)
    suspected = find_label_issues(label, p, filter_by="confident_learning", n_jobs=1)
    found = manyhot.find_label_issues(
        label, p, min_doubtful=0, reading=manyhot.Reading(scores="probability")
    ).of_kind("doubtful-label")
    ours = found.filter(found["confident_class"].is_valid())["image_id"].to_pylist()
    assert sorted(map(int, ours)) == np.flatnonzero(suspected).tolist()
    assert len(ours) > 0
