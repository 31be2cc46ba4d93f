"""core/audit_average_precision.py against numerical derivatives of the metric, and a simulation."""

import numpy as np
import pytest

from manyhot.core.audit_average_precision import linearised_average_precision
from manyhot.core.audit_samples import AuditSample, active_design, uniform_design
from manyhot.core.audited import estimate
from manyhot.core.ranking import map_macro
from manyhot.core.sets import Case, LabelSets


def world(n_images, noise, seed=0):
    """Return people's and proposed label sets and scores, shape (N, 6)."""
    rng = np.random.default_rng(seed)
    p = rng.beta(0.4, 2, (n_images, 6))
    odds = np.log(p / (1 - p))
    scores = (odds + rng.normal(0, 1.5, p.shape)).astype(np.float32)
    return rng.random(p.shape) < p, odds + rng.normal(0, noise, p.shape) > 0, scores


def precision(sets, scores):
    rows = LabelSets.from_lists([np.flatnonzero(row) for row in sets], sets.shape[1])
    return map_macro(Case.from_scores(rows, scores, k=1, kind="logit"))


def test_contributions_are_the_derivatives_of_the_metric():
    people, proposed, scores = world(200, 1)
    scores = np.round(scores)  # ties
    sample = active_design(np.linspace(0.1, 1, 200), 60).draw(np.random.default_rng(1))
    drawn = people[sample.images]
    found = linearised_average_precision(drawn, proposed, scores, sample)
    metric = precision(np.concatenate([drawn, proposed]), np.concatenate([scores[sample.images], scores]))
    weights = np.concatenate([sample.weights, np.zeros(200)])
    for image in range(0, 200, 11):
        changed = weights.copy()
        changed[60 + image] = 1e-7
        slope = (metric.value(changed) - metric.value(weights)) / 1e-7
        here = np.flatnonzero(sample.images == image)
        assert found.proposed[here, 0] == pytest.approx(np.full(len(here), slope), abs=2e-5)
    for row in range(0, 60, 7):
        changed = weights.copy()
        changed[row] += 1e-7
        slope = (metric.value(changed) - metric.value(weights)) / 1e-7
        assert found.audited[row, 0] == pytest.approx(slope, abs=2e-5)
    assert found.alone[0] == pytest.approx(precision(proposed, scores).value(None))
    assert sample.weights @ found.audited[:, 0] == pytest.approx(0, abs=1e-12)


def test_if_all_images_are_audited_the_value_is_exact():
    people, proposed, scores = world(300, 0.5)
    every = AuditSample(uniform_design(300, 300), np.arange(300))
    found = estimate(linearised_average_precision(people, proposed, scores, every), every, power=0.7)
    assert found.value[0] == pytest.approx(precision(people, scores).value(None))


def test_an_image_has_the_weight_of_one_of_all_for_itself():
    people, proposed, scores = (x[:, :1] for x in world(200, 1))
    sample = active_design(np.linspace(0.1, 1, 200), 60).draw(np.random.default_rng(1))
    drawn, s, w = people[sample.images, 0], scores[sample.images, 0], sample.weights
    found = linearised_average_precision(drawn[:, None], proposed, scores, sample)
    expected = 0
    for j in np.flatnonzero(drawn):
        others = np.where(np.arange(60) == j, 0, w * (1 - 1 / 200) / (1 - w[j]))
        hits, depth = others[(s >= s[j]) & drawn].sum(), others[s >= s[j]].sum()
        expected += w[j] * (hits + 1 / 200) / (depth + 1 / 200) / (w @ drawn)
    assert found.base[0] == pytest.approx(expected)


@pytest.mark.slow
def test_intervals_hold_and_proposals_make_them_narrower():
    """Also if proposals hold half of the valid classes."""
    people, proposed, scores = world(3000, 0.5)
    true = precision(people, scores).value(None)
    assert precision(proposed, scores).value(None) > true + 0.05
    rng, held, errors, deviations = np.random.default_rng(2), [], [], []
    for _ in range(400):
        sample = uniform_design(3000, 500).draw(rng)
        values = linearised_average_precision(people[sample.images], proposed, scores, sample)
        found = [estimate(values, sample, power=power) for power in (0.0, "tuned")]
        lo, hi = (ends[0] for ends in found[1].interval("logit"))
        held.append(lo <= true <= hi)
        deviations.append(found[1].value[0] - true)
        errors.append([e.error[0] for e in found])
    assert np.mean(held) > 0.93
    assert np.mean(deviations) == pytest.approx(0, abs=0.003)
    plain, tuned = np.mean(errors, axis=0)
    assert tuned < 0.95 * plain
