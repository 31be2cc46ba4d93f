"""The mean over calibrated models and confident learning, against loops over dense probabilities."""

import numpy as np
import pytest

from manyhot.core.confident_learning import class_thresholds, confident_classes
from manyhot.core.ensembles import Ensemble, mean_probabilities
from manyhot.core.sets import NO_LABEL, LabelSets
from manyhot.core.top_classes import top_k
from manyhot.registry import get

N, C, M = 120, 8, 3


@pytest.fixture
def dense():
    """Return dense probabilities of three models, noisy labels, and an ensemble that lists all classes."""
    rng = np.random.default_rng(5)
    truth = rng.integers(0, C, N)
    label = np.where(rng.random(N) < 0.8, truth, rng.integers(0, C, N)).astype(np.int32)
    label[:4] = NO_LABEL
    p = np.exp(rng.normal(size=(M, N, C)) + 3 * np.eye(C)[truth])
    p = (p / p.sum(2, keepdims=True)).astype(np.float32)
    tops = tuple(top_k(each, C) for each in p)
    values = tuple(np.take_along_axis(each, t.astype(int), 1) for each, t in zip(p, tops, strict=True))
    return p, label, Ensemble(C, ("a", "b", "c"), tops, values, values, label)


def suspected(p, label):
    """Return image, class and margin by equations 1 and 2 of Northcutt et al. 2021, written out."""
    thresholds = [
        np.mean([p[i, j] for i in range(N) if label[i] == j]) if (label == j).any() else np.inf
        for j in range(C)
    ]
    found = []
    for i in range(N):
        if label[i] == NO_LABEL:
            continue
        confident = [j for j in range(C) if p[i, j] >= thresholds[j]]
        if confident:
            j = max(confident, key=lambda j: p[i, j])
            if j != label[i]:
                found.append((i, j, p[i, j] - p[i, label[i]]))
    return found


def test_label_errors_against_the_paper(dense):
    p, label, ensemble = dense
    expected = suspected(p.astype(np.float64).mean(0), label)
    pairs = get("proposer", "label-errors")(ensemble)
    assert len(expected) > 10
    assert list(zip(pairs.image.tolist(), pairs.class_id.tolist(), strict=True)) == [
        (i, j) for i, j, _ in expected
    ]
    np.testing.assert_allclose(pairs.score, [s for _, _, s in expected], atol=1e-6)
    best = p.argmax(2)
    assert pairs.n_models.tolist() == [int((best[:, i] == j).sum()) for i, j, _ in expected]


def test_a_class_without_images_is_never_suspected():
    limits = class_thresholds(np.array([0.5, 0.7]), np.array([0, 0]), 3)
    assert limits.tolist() == [pytest.approx(0.6), np.inf, np.inf]
    best, value = confident_classes(np.array([[0.1, 0.9, 0.0], [0.7, 0.2, 0.1]]), limits)
    assert best.tolist() == [NO_LABEL, 0]
    assert value.tolist() == [0, 0.7]


def test_mean_of_calibrated_models(dense):
    p, _, ensemble = dense
    temperatures = np.array([0.5, 1.0, 2.0])
    powered = [each.astype(np.float64) ** (1 / t) for each, t in zip(p, temperatures, strict=True)]
    expected = np.mean([each / each.sum(1, keepdims=True) for each in powered], axis=0)
    found = np.concatenate([mean for _, mean in mean_probabilities(ensemble, temperatures)])
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_threshold_is_the_highest_that_reaches_the_recall(dense):
    p, label, ensemble = dense
    known = LabelSets.from_lists([[c] if c >= 0 else [] for c in label], C, label=label)
    known = LabelSets(
        C, known.indptr, known.classes, known.state, np.full(N, NO_LABEL, np.int32), known.usable
    )
    unlabelled = Ensemble(
        C, ensemble.names, ensemble.top, ensemble.scores, ensemble.probabilities, known.label, known
    )
    pairs = get("proposer", "mean-probability(recall=0.9)")(unlabelled)
    temperatures = np.array(list(pairs.about["temperatures"].values()))
    mean = np.concatenate([m for _, m in mean_probabilities(unlabelled, temperatures)])
    own = np.sort(mean[np.arange(N), label][label >= 0])[::-1]
    needed = int(np.ceil(0.9 * len(own)))
    assert pairs.about["threshold"] == pytest.approx(own[needed - 1])
    expected = np.argwhere(mean >= pairs.about["threshold"])
    assert np.array_equal(np.stack([pairs.image, pairs.class_id], 1), expected)
    powered = p.astype(np.float64) ** (1 / temperatures[:, None, None])
    alone = powered / powered.sum(2, keepdims=True) >= pairs.about["threshold"]
    assert np.array_equal(pairs.n_models, alone.sum(0)[expected[:, 0], expected[:, 1]])


def test_temperatures_are_fitted_on_original_labels_where_no_set_is_known(dense):
    _, label, ensemble = dense
    keep = np.flatnonzero(label >= 0)
    known = LabelSets.from_lists(label[keep, None], C, label=label[keep])
    part = ensemble.take(keep)
    given = Ensemble(C, part.names, part.top, part.scores, part.probabilities, part.label, known)
    spec = "mean-probability(threshold=0.3)"
    ours, theirs = (get("proposer", spec)(e).about["temperatures"] for e in (ensemble, given))
    assert ours == pytest.approx(theirs)
