"""The prior of raters against SciPy's distribution of counts."""

import numpy as np
import pytest
from scipy.special import gammaln
from scipy.stats import dirichlet_multinomial

from manyhot.core.dirichlet_priors import log_marginal


def test_the_probability_of_counts_is_scipys_for_each_rater_and_prior():
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 6, (7, 2, 3))
    priors = rng.uniform(0.2, 9, (4, 2, 3))
    n = counts.sum(-1)
    ways = (gammaln(n + 1) - gammaln(counts + 1).sum(-1)).sum(-1)  # SciPy counts the orders of the answers
    found = log_marginal(counts.astype(float), priors)
    assert found.shape == (4, 7)
    for prior, of_raters in zip(priors, found, strict=True):
        expected = sum(dirichlet_multinomial(prior[k], n[:, k]).logpmf(counts[:, k]) for k in range(2))
        assert of_raters == pytest.approx(expected - ways)
        assert log_marginal(counts.astype(float), prior) == pytest.approx(of_raters)
