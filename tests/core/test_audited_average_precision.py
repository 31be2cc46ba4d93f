"""core/audit_average_precision.py against loops, numerical derivatives, scikit-learn, and a simulation."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from manyhot.core.audit_average_precision import (
    Ranking,
    _regression,
    audited_average_precision,
    doubt_of_classes,
)
from manyhot.core.audit_designs import class_design
from manyhot.core.audit_samples import AuditSample, active_design, uniform_design
from manyhot.core.audited import estimate, side_by_side
from manyhot.core.ranking import map_macro
from manyhot.core.sets import Case, LabelSets


def world(n_images, noise, seed=0):
    """Return people's and proposed label sets and scores, shape (N, 6)."""
    rng = np.random.default_rng(seed)
    p = rng.beta(0.4, 2, (n_images, 6))
    odds = np.log(p / (1 - p))
    scores = (odds + rng.normal(0, 1.5, p.shape)).astype(np.float32)
    return rng.random(p.shape) < p, odds + rng.normal(0, noise, p.shape) > 0, scores


def map_of(sets, scores):
    rows = LabelSets.from_lists([np.flatnonzero(row) for row in sets], sets.shape[1])
    return map_macro(Case.from_scores(rows, scores, k=1, kind="logit")).value(None)


def loop(label, scores):
    """Return T and P as they are defined."""
    n, total = range(len(label)), 0.0
    for i in n:
        above = sum(label[j] for j in n if j != i and scores[j] >= scores[i])
        total += label[i] * (1 + above) / sum(scores[j] >= scores[i] for j in n)
    return total, sum(label)


def test_the_precision_of_valid_classes_is_that_of_the_metric():
    people, _, scores = world(200, 1)
    scores = np.round(scores)  # ties
    found = [Ranking.of(s).curve(y.astype(float)).precision for s, y in zip(scores.T, people.T, strict=True)]
    assert np.mean(found) == pytest.approx(map_of(people, scores))


def test_labels_may_be_any_numbers_and_slopes_are_derivatives():
    rng = np.random.default_rng(2)
    scores, label = rng.integers(0, 9, 40).astype(float), rng.normal(1, 1, 40)
    curve = Ranking.of(scores).curve(label)
    total, positives = loop(label, scores)
    assert (curve.precision, curve.total) == pytest.approx((total / positives, positives))
    for i in range(0, 40, 7):
        without = np.where(np.arange(40) == i, 0, label)
        fewer = loop(without, scores)[0]
        assert total - fewer == pytest.approx(label[i] * curve.slope[i])  # linear, so exactly


def test_what_leaving_out_an_answer_changes_is_exact():
    people, _, scores = (x[:, 0] for x in world(200, 1))
    label = people + 0.1
    curve = Ranking.of(scores).curve(label)
    for i in (3, 50, 199):
        d = 0.7
        less = Ranking.of(scores).curve(label - d * (np.arange(200) == i)).precision
        change = d * (curve.slope[i] - curve.precision) / (curve.total - d)
        assert curve.precision - less == pytest.approx(change)


def test_influences_are_derivatives_by_the_weight_of_an_image():
    """Two images of one score and a label each are one image of twice the weight, but for own positives."""
    people, _, scores = (x[:, 0] for x in world(3000, 1))
    curve = Ranking.of(scores).curve(people.astype(float))
    for i in (1, 7, 20, 44):
        more = np.append(scores, scores[i]), np.append(people, people[i]).astype(float)
        change = Ranking.of(more[0]).curve(more[1]).precision - curve.precision
        assert curve.influence(people.astype(float))[i] == pytest.approx(change, abs=2e-5)


def test_the_regression_is_that_of_scikit_learn():
    """Its one penalty is that of the class intercepts; a feature that is larger has a smaller one."""
    people, proposed, scores = world(60, 1)
    features = np.stack([scores, proposed]).astype(float)
    asked = np.random.default_rng(0).random(people.shape) < 0.7
    slopes, intercepts = _regression(people, asked, features)
    classes = np.broadcast_to(np.eye(6), (60, 6, 6)).reshape(-1, 6)
    x = np.concatenate([features.reshape(2, -1).T * 10**0.5, classes], axis=1)
    here = asked.ravel()
    fitted = LogisticRegression(C=1, tol=1e-9, max_iter=10_000).fit(x[here], people.ravel()[here])
    assert slopes / 10**0.5 == pytest.approx(fitted.coef_[0, :2], abs=1e-4)
    assert intercepts == pytest.approx(fitted.intercept_ + fitted.coef_[0, 2:], abs=1e-3)


@pytest.mark.parametrize("are_drawn", [True, False])
def test_the_value_is_what_the_equations_give(are_drawn):
    """If questions are drawn, rare ones count less, half of the excess is subtracted, errors are added."""
    people, proposed, scores = world(60, 1)
    rng = np.random.default_rng(1)
    sample = active_design(np.linspace(0.1, 1, 60), 30).draw(rng)
    probability = np.linspace(0.1, 1, 6) * np.ones((30, 1))
    asked = np.where(rng.random((30, 6)) < probability, probability, 0) if are_drawn else np.ones((30, 6))
    chance = sample.probability[:, None] * asked
    limit = 6 * chance[chance > 0].min() if are_drawn else 0
    answers = people[sample.images] & (asked > 0)
    values = audited_average_precision(answers, proposed, scores, sample, asked=asked if are_drawn else None)
    found = estimate(values, sample, power=1.0)
    weights = np.array([[x**-0.5 if x else 0 for x in row] for row in chance])
    weights *= (weights > 0).sum() / weights.sum()
    weights = weights if are_drawn else np.ones((30, 6))
    features = np.stack([scores, proposed]).astype(float)
    centre = features[:, sample.images].mean(axis=(1, 2))
    spread = features[:, sample.images].std(axis=(1, 2))
    standard = ((features.T - centre) / spread).T
    slopes, intercepts = _regression(answers, weights, standard[:, sample.images])
    precisions, errors, excesses = [], [], []
    for c in range(6):
        p = expit(intercepts[c] + slopes @ standard[:, :, c])
        pairs = [(i, x, a) for i, x, a in zip(sample.images, chance[:, c], answers[:, c], strict=True) if x]
        rare = [(i, x) for i, x, _ in pairs if x < limit]
        expected = min(sum(p[i] / x for i, x in rare), p.sum())
        variance = sum((1 - x) / x**2 * p[i] * (1 - p[i]) for i, x in rare)
        trust = (1.75 * expected) ** 2 / ((1.75 * expected) ** 2 + variance) if rare else 1
        label = p.copy()
        for i, x, a in pairs:
            label[i] += (trust if (i, x) in rare else 1) * (a - p[i]) / x
        total, positives = loop(label, scores[:, c])
        precision, each = total / positives, np.eye(60)
        slope = {i: loop(label + each[i], scores[:, c])[0] - total - precision for i, _ in rare}
        count = sum(p[i] / x for i, x in rare)
        change = sum(p[i] / x * slope[i] for i, x in rare) / count / positives if rare else 0
        errors.append((1 - trust) * 1.75 * expected * change)
        excesses.append(-change * trust**2 * variance / positives)
        precisions.append(precision - excesses[-1] / 2)
    assert (1 < np.count_nonzero(errors) < 6) if are_drawn else not any(errors)
    assert found.value[0] == pytest.approx(np.mean(precisions))
    assert values.further[:, 0] * 6 == pytest.approx([*errors, sum(excesses)])
    assert found.alone[0] == pytest.approx(map_of(proposed, scores))


def test_without_features_the_regression_knows_how_often_classes_are_valid():
    people, proposed, scores = world(300, 1)
    sample = uniform_design(300, 100).draw(np.random.default_rng(0))
    slopes, intercepts = _regression(people[sample.images], np.ones((100, 6), bool), np.zeros((0, 100, 6)))
    assert len(slopes) == 0
    assert intercepts == pytest.approx(logit(people[sample.images].mean(0)), abs=0.2)
    plain = audited_average_precision(people[sample.images], proposed, scores, sample, features=())
    other = audited_average_precision(people[sample.images], ~proposed, scores, sample, features=())
    assert plain.audited == pytest.approx(other.audited)


def test_if_all_images_are_audited_the_value_is_exact():
    people, proposed, scores = world(300, 0.5)
    people[:, 2] = False  # a class that no image has does not count, though it is proposed
    every = AuditSample(uniform_design(300, 300), np.arange(300))
    found = estimate(audited_average_precision(people, proposed, scores, every), every, power=1.0)
    assert found.value[0] == pytest.approx(map_of(people, scores))


def test_if_all_are_asked_about_all_images_rare_questions_change_nothing():
    people, proposed, scores = world(300, 0.5)
    every = AuditSample(uniform_design(300, 300), np.arange(300))
    values = audited_average_precision(people, proposed, scores, every, asked=np.ones((300, 6)))
    assert estimate(values, every, power=1.0).value[0] == pytest.approx(map_of(people, scores))
    assert (values.further == 0).all()


def test_questions_that_are_asked_about_all_classes_have_no_further_error():
    people, proposed, scores = world(300, 0.5)
    sample = uniform_design(300, 100).draw(np.random.default_rng(0))
    values = audited_average_precision(people[sample.images], proposed, scores, sample)
    assert (values.further == 0).all()


def test_a_class_with_few_positives_needs_its_first_images():
    people, _, scores = world(400, 1)
    people[:, 0], first = False, np.argsort(-scores[:, 0])
    others = np.setdiff1d(np.arange(400), first[:20])
    for n_first, expected in (
        (7, ""),
        (6, "for 1 of 6 classes, the sample contains fewer than 5 positives, "),
    ):
        images = np.concatenate([first[:n_first], others[: 100 - n_first]])
        doubt = doubt_of_classes(people[images], scores, AuditSample(uniform_design(400, 100), images))
        more = "and fewer than 7 of the 20 images with the highest scores" if expected else ""
        assert doubt == expected + more


@pytest.mark.slow
def test_intervals_hold_also_of_a_difference_and_proposals_make_them_narrower():
    people, proposed, scores = world(3000, 0.5)
    scores = np.stack([scores, scores + np.random.default_rng(1).normal(0, 1, scores.shape)])
    true = np.array([map_of(people, s) for s in scores])
    true = np.append(true, true[0] - true[1])
    assert map_of(proposed, scores[0]) > true[0] + 0.05
    rng, held, errors, off = np.random.default_rng(2), [], [], []
    for _ in range(400):
        sample = uniform_design(3000, 500).draw(rng)
        found = []
        for features in (scores, ()):
            values = [
                audited_average_precision(people[sample.images], proposed, s, sample, features=features)
                for s in scores
            ]
            both = side_by_side(values)
            pair = both.differences(np.array([0]), np.array([1]))
            found.append(estimate(side_by_side([both, pair]), sample, power=1.0))
        lo, hi = found[0].interval()
        held.append((lo <= true) & (true <= hi))
        off.append(found[0].value - true)
        errors.append([e.error for e in found])
    assert (np.mean(held, axis=0) > 0.93).all()
    assert np.mean(off, axis=0) == pytest.approx([0, 0, 0], abs=0.003)
    informed, plain = np.mean(errors, axis=0)
    assert (informed < 0.95 * plain).all()


@pytest.mark.slow
def test_intervals_hold_if_most_questions_are_rare():
    """Most positives have low scores, so that people are rarely asked about them."""
    rng, (n, c) = np.random.default_rng(5), (2000, 10)
    share = np.geomspace(0.02, 0.2, c)
    people = rng.random((n, c)) < share
    first = rng.normal(size=(n, c)) + 2.5 * people + np.log(share)
    scores = [first, first + rng.normal(0, 0.7, (n, c))]
    true = np.array([map_of(people, s) for s in scores])
    true = np.append(true, true[0] - true[1])
    certain = sum(np.arange(c) == s.argmax(1)[:, None] for s in scores) > 0
    design = class_design(scores, 300, certain=certain, probability=expit(first), questions=3)
    held, off = [], []
    for _ in range(300):
        sample = design.design.draw(rng)
        chance = design.asked[sample.images]
        asked = np.where(rng.random(chance.shape) < chance, chance, 0)
        values = [
            audited_average_precision(
                people[sample.images] & (asked > 0), s > 0, s, sample, features=scores, asked=asked
            )
            for s in scores
        ]
        both = side_by_side(values)
        pair = both.differences(np.array([0]), np.array([1]))
        found = replace(estimate(side_by_side([both, pair]), sample, power=1.0), checked=False)
        lo, hi = found.interval()
        held.append((lo <= true) & (true <= hi))
        off.append(found.value - true)
    assert (np.mean(held, axis=0) > 0.92).all()
    assert np.abs(np.mean(off, axis=0)).max() < 0.02
