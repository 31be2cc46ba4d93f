"""Recalibration of independent classes against scikit-learn, SciPy and the truth of simulated sigmoids."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit
from sklearn.calibration import _SigmoidCalibration
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from manyhot.core.class_recalibration import FEWEST_TO_FIT, fit_classes, fit_platt
from manyhot.core.sets import NO, UNCLEAR, YES, Case, LabelSets
from manyhot.errors import InputError

N, C = 4000, 3
SLOPE, INTERCEPT = np.array([0.6, 1.0, 1.5]), np.array([-0.8, 0.0, 0.5])


def drawn(n, seed=0):
    """Return logits, and classes drawn with the sigmoids of slope times logit plus intercept."""
    rng = np.random.default_rng(seed)
    z = rng.normal(-1, 2, (n, C)).astype(np.float32)
    return z, rng.random((n, C)) < expit(SLOPE * z + INTERCEPT)


def case_of(z, valid, kind):
    sets = LabelSets.from_lists([np.flatnonzero(row) for row in valid], C)
    return Case.from_scores(sets, expit(z) if kind == "probability" else z, kind=kind)


def fitted(case, method, to="sets", unit=None):
    return fit_classes(case, method, to, np.arange(len(case.labels)) if unit is None else unit)


@pytest.mark.parametrize("kind", ["logit", "probability"])
def test_slopes_are_those_of_scikit_learn_and_near_the_truth(kind):
    z, valid = drawn(N)
    found = fitted(case_of(z, valid, kind), "vector")
    for c in range(C):
        platt = _SigmoidCalibration().fit(z[:, c].astype(float), valid[:, c])
        assert (found.slope[c], found.intercept[c]) == pytest.approx((-platt.a_, -platt.b_), abs=2e-3)
        plain = LogisticRegression(C=np.inf).fit(z[:, c : c + 1].astype(float), valid[:, c])
        assert found.slope[c] == pytest.approx(plain.coef_[0, 0], abs=0.02)
    assert found.slope == pytest.approx(SLOPE, rel=0.15)
    assert found.intercept == pytest.approx(INTERCEPT, abs=0.15)
    scores = found.apply(case_of(z, valid, kind))
    expected = expit(found.slope * z.astype(float) + found.intercept)
    assert (expit(scores) if kind == "logit" else scores) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", ["logit", "probability"])
def test_a_temperature_has_the_highest_likelihood_of_all_cells(kind):
    z, valid = drawn(N)
    found = fitted(case_of(z, valid, kind), "temperature")

    def loss(b):
        q = b * z.astype(float)
        return -np.where(valid, log_expit(q), log_expit(-q)).mean()

    best = minimize_scalar(loss, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-9}).x
    assert found.slope == pytest.approx([best] * C, abs=1e-4)
    assert not found.intercept.any()


@pytest.mark.parametrize("kind", ["logit", "probability"])
def test_isotonic_regression_of_each_class_is_that_of_scikit_learn(kind):
    z, valid = drawn(N)
    new, nothing = drawn(500, seed=1)
    scores = fitted(case_of(z, valid, kind), "isotonic").apply(case_of(new, nothing, kind))
    for c in range(C):
        reference = IsotonicRegression(out_of_bounds="clip").fit(expit(z[:, c]).astype(float), valid[:, c])
        assert scores[:, c] == pytest.approx(reference.predict(expit(new[:, c]).astype(float)), abs=1e-5)


def test_separable_classes_have_a_finite_slope():
    z = np.r_[np.full(50, -3.0), np.full(50, 3.0)]
    slope, intercept = fit_platt(z, (z > 0).astype(float))
    # Of Platt's targets, 51 / 52 and 1 / 52.
    assert (slope * 3, intercept) == pytest.approx((np.log(51), 0), abs=1e-5)


def test_only_answers_count():
    """Unclear classes, classes that nobody was asked about and unusable images are left out."""
    z, valid = drawn(N)
    state = np.where(valid, YES, NO)
    state[: N // 4, 0] = UNCLEAR
    asked = np.ones((N, C), bool)
    asked[: N // 4, 1] = False
    rows = [np.flatnonzero(row) for row in asked]
    indptr = np.r_[0, np.cumsum([len(row) for row in rows])]
    usable = np.arange(N) < N - 100
    sets = LabelSets(
        C,
        indptr,
        np.concatenate(rows).astype(np.int32),
        state[asked].astype(np.uint8),
        np.full(N, -1, np.int32),
        usable,
        asked_known=True,
    )
    found = fitted(Case.from_scores(sets, z, kind="logit"), "vector")
    for c, start in ((0, N // 4), (1, N // 4), (2, 0)):
        part = slice(start, N - 100)
        platt = _SigmoidCalibration().fit(z[part, c].astype(float), valid[part, c])
        assert (found.slope[c], found.intercept[c]) == pytest.approx((-platt.a_, -platt.b_), abs=2e-3)
        assert (found.n_yes[c], found.n_no[c]) == (valid[part, c].sum(), (~valid[part, c]).sum())


def test_rare_classes_stay_as_they_are_to_the_last_digit():
    z, valid = drawn(N)
    valid[FEWEST_TO_FIT["vector"] - 1 :, 0] = False
    valid[: FEWEST_TO_FIT["vector"] - 1, 0] = True
    case = case_of(z, valid, "probability")
    found = fitted(case, "vector")
    assert found.fitted.tolist() == [False, True, True]
    assert (found.apply(case)[:, 0] == case.scores[:, 0]).all()
    valid[FEWEST_TO_FIT["vector"] - 1, 0] = True
    assert fitted(case_of(z, valid, "probability"), "vector").fitted.all()


def test_clusters_are_counted_instead_of_images():
    z, valid = drawn(N)
    with pytest.raises(InputError) as error:
        fitted(case_of(z, valid, "logit"), "vector", unit=np.arange(N) % (FEWEST_TO_FIT["vector"] - 1))
    assert str(error.value) == (
        "There are too few images to fit on.\n"
        "  got:     at most 29 with, and as many without, the same class\n"
        "  allowed: at least 30 with, and 30 without\n"
        "  do:      pass more labelled images, or fit on a larger share of them"
    )


def test_a_rounded_0_is_no_evidence_of_a_tiny_probability():
    """A class on images at 0.000 lowers the slope little if 0.000 stands for half of 0.001."""
    rng = np.random.default_rng(3)
    p = expit(rng.normal(-5, 3, 20000))
    valid = rng.random(20000) < p
    rounded = np.round(p, 3).astype(np.float32)[:, None]
    sets = LabelSets.from_lists([[0] if v else [] for v in valid], 1)
    found = fitted(Case.from_scores(sets, rounded, kind="probability"), "vector")
    assert found.slope[0] == pytest.approx(1, abs=0.05)


def test_logits_of_minus_infinity_remain_ruled_out():
    z, valid = drawn(N)
    z[:50, 0] = -np.inf
    valid[:50, 0] = False
    found = fitted(case_of(z, valid, "logit"), "vector")
    scores = found.apply(case_of(z, valid, "logit"))
    assert np.isneginf(scores[:50, 0]).all()
    platt = _SigmoidCalibration().fit(z[50:, 0].astype(float), valid[50:, 0])
    assert found.slope[0] == pytest.approx(-platt.a_, abs=2e-3)


def test_original_labels_and_shares_of_votes():
    z, valid = drawn(N)
    label = np.where(valid.any(axis=1), valid.argmax(axis=1), -1)
    sets = LabelSets.from_lists([np.flatnonzero(row) for row in valid], C, label=label)
    found = fitted(Case.from_scores(sets, z, kind="logit"), "vector", "labels")
    kept = label >= 0
    for c in range(C):
        platt = _SigmoidCalibration().fit(z[kept, c].astype(float), label[kept] == c)
        assert (found.slope[c], found.intercept[c]) == pytest.approx((-platt.a_, -platt.b_), abs=2e-3)
    rng = np.random.default_rng(0)
    p = rng.dirichlet([2, 1, 1], N).astype(np.float32)
    every = np.tile(np.arange(C, dtype=np.int32), N)
    votes = LabelSets(
        C,
        np.arange(0, C * N + 1, C),
        every,
        (p == p.max(axis=1, keepdims=True)).ravel().astype(np.uint8) * YES,
        np.full(N, -1, np.int32),
        np.ones(N, bool),
        p=p.ravel(),
        exclusive=True,
    )
    curve = fitted(Case.from_scores(votes, z, kind="logit"), "isotonic", "votes").curves[1]
    reference = IsotonicRegression().fit(expit(z[:, 1]).astype(float), p[:, 1])
    assert curve.apply(expit(z[:, 1]).astype(float)) == pytest.approx(
        reference.predict(expit(z[:, 1]).astype(float)), abs=1e-5
    )


def test_lists_of_top_classes_are_refused():
    sets = LabelSets.from_lists([[0], [1]], 2)
    lists = Case(sets, np.array([[0], [1]]), kind="probability", listed=np.array([[0.5], [0.4]]))
    with pytest.raises(InputError) as error:
        fitted(lists, "vector")
    assert str(error.value) == (
        "Recalibration of independent classes needs logits or probabilities of all classes.\n"
        "  got:     lists of top classes\n"
        "  allowed: dense predictions whose scores are declared as logit or probability"
    )
