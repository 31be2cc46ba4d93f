"""core/audit_cross_fitting.py: fits that would be wrong without folds."""

import numpy as np
import pytest

from audits import coverage, images
from manyhot.core.audit_cross_fitting import cross_fitted, least_squares
from manyhot.core.audit_samples import uniform_design
from manyhot.core.audited import LinearisedValues, estimate
from manyhot.errors import InputError


def memorised(y, sample):
    """Return a fit that is right on the images it has seen, and says 0.9 of all others."""

    def fit(rows):
        proposed = np.full((len(sample), 1), 0.9)
        proposed[rows] = y[sample.images[rows]]
        return proposed, np.array([0.9])

    return fit


def test_values_that_are_fitted_to_answers_are_cross_fitted():
    y, _ = images(1200, models=1)
    design, rng = uniform_design(1200, 250), np.random.default_rng(0)

    def interval(sample):
        drawn = y[sample.images]
        return estimate(cross_fitted(memorised(y, sample), drawn, sample, rng=rng), sample, power=1.0)

    held, _, bias = coverage(design, interval, y.mean(0), draws=800)
    assert held[0] == pytest.approx(0.95, abs=0.025)
    assert bias[0] == pytest.approx(0, abs=0.003)
    sample = design.draw(rng)
    every = np.arange(250)
    proposed, mean = memorised(y, sample)(every)
    naive = estimate(LinearisedValues(y[sample.images], proposed, mean, np.zeros(1), mean), sample, power=1.0)
    assert (naive.value[0], naive.error[0]) == (pytest.approx(0.9), pytest.approx(0))


def test_regression_on_features_has_the_errors_of_its_residuals():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2000, 2, 3))
    slopes = np.array([[1.0, 2, 0], [0, -1, 3]])
    noise = rng.normal(0, 0.5, (2000, 2))
    y = 5 + (features * slopes).sum(2) + noise

    def interval(sample):
        drawn = y[sample.images]
        fit = least_squares(drawn, features[sample.images], features.mean(0))
        return estimate(cross_fitted(fit, drawn, sample, rng=rng), sample, power=1.0)

    held, *_ = coverage(uniform_design(2000, 200), interval, y.mean(0), draws=300)
    assert held == pytest.approx(np.full(2, 0.95), abs=0.03)
    found = interval(uniform_design(2000, 200).draw(rng))
    assert found.error == pytest.approx(0.5 * np.sqrt(0.9 / 200), rel=0.12)


def test_folds_of_fewer_than_two_images_are_refused():
    sample = uniform_design(50, 9).draw(np.random.default_rng(0))
    with pytest.raises(InputError) as error:
        cross_fitted(
            memorised(np.zeros((50, 1)), sample),
            np.zeros((9, 1)),
            sample,
            folds=5,
            rng=np.random.default_rng(),
        )
    assert str(error.value) == (
        "The images cannot be divided into `folds` folds.\n  got:     5\n  allowed: 2 to 4"
    )
