"""What must hold for every registered rule that proposes labels; one that is not here does not exist."""

import numpy as np
import pytest

from manyhot.core.ensembles import Pairs
from manyhot.registry import Entry, names
from manyhot.testing import check_proposer

SPECS = {
    "union": ["union", "union(k=3)", "union(threshold=0.1)", "union(threshold=1.0, by='score')"],
    "all-classes": ["all-classes"],
    "top-k": ["top-k(k=5, model='b')", "top-k(k=1, model='d')"],
    "real-search": [f"real-search(recall=0.9, by='{by}')" for by in ("probability", "score", "rank")],
    "mean-probability": ["mean-probability(recall=0.9)", "mean-probability(threshold=0.2)"],
    "label-errors": ["label-errors"],
}


def test_every_rule_is_here():
    assert names("proposer") == list(SPECS)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("spec", [s for specs in SPECS.values() for s in specs])
def test_proposer(spec, seed):
    check_proposer(spec, seed=seed)


def best_of_the_first(ensemble):
    """A rule for which the order of models matters."""
    n = len(ensemble)
    return Pairs(np.arange(n), ensemble.top[0][:, 0], np.ones(n), np.ones(n, np.int32))


def coin(ensemble):
    """A rule that is another at each call."""
    image = np.flatnonzero(np.random.default_rng().random(len(ensemble)) < 0.5)
    return Pairs(image, ensemble.top[0][image, 0], np.ones(len(image)), np.ones(len(image), np.int32))


def twice(ensemble):
    """A rule that proposes a pair twice."""
    zeros = np.zeros(2, np.int64)
    return Pairs(zeros, zeros.astype(np.int32), zeros.astype(float), zeros.astype(np.int32))


@pytest.mark.parametrize(
    ("rule", "breach"),
    [
        (best_of_the_first, "odd: the order of models matters"),
        (coin, "odd differs between calls"),
        (twice, "odd: pairs are not distinct and sorted by image and class"),
        (lambda ensemble: None, "odd returns no pairs"),
    ],
)
def test_breaches_are_named(rule, breach):
    with pytest.raises(AssertionError) as error:
        check_proposer(Entry("proposer", "odd", rule))
    assert str(error.value).partition("\n")[0] == breach
