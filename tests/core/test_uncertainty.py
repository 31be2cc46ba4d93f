"""Entropy and mutual information of averaged predictions, against brute force over the members."""

import math

import numpy as np
import pytest
from scipy.special import expit, softmax
from scipy.stats import entropy

from manyhot.core.uncertainty import Average, member_probabilities, uncertainty_of
from manyhot.errors import InputError

M, N, C = 5, 40, 7


@pytest.fixture(scope="module")
def logits():
    """Return logits that members agree on in part."""
    rng = np.random.default_rng(0)
    return rng.normal(0, 2, (1, N, C)) + rng.normal(0, 1.5, (M, N, C))


def test_exclusive_classes(logits):
    p = softmax(logits, axis=2)
    found = Average.of(iter(p), multilabel=False)
    assert found.mean == pytest.approx(p.mean(0), abs=1e-12)
    # The information is the mean divergence of the members from their mean.
    divergence = np.mean([entropy(member, p.mean(0), axis=1) for member in p], axis=0)
    assert found.mutual_information[:, 0] == pytest.approx(divergence, abs=1e-12)
    of = uncertainty_of(found.mean, found.mutual_information, multilabel=False)
    assert of.entropy == pytest.approx(entropy(p.mean(0), axis=1), abs=1e-6)
    assert of.mutual_information == pytest.approx(divergence, abs=1e-6)
    assert of.by_class is None
    assert len(of) == N
    # It is that of the joint distribution of member and class, too.
    joint = p[:, 0] / M
    independent = joint.sum(1, keepdims=True) * joint.sum(0)
    assert found.mutual_information[0, 0] == pytest.approx((joint * np.log(joint / independent)).sum())


def test_independent_classes(logits):
    p = expit(logits)
    found = Average.of(iter(p), multilabel=True)
    both = np.stack([p, 1 - p])
    mean = both.mean(1)
    divergence = (both * np.log(both / mean[:, None])).sum(0).mean(0)
    assert found.mutual_information == pytest.approx(divergence, abs=1e-12)
    of = uncertainty_of(found.mean, found.mutual_information, multilabel=True)
    assert of.by_class == pytest.approx(divergence, abs=1e-6)
    assert of.mutual_information == pytest.approx(divergence.sum(1), abs=1e-5)
    assert of.entropy == pytest.approx(entropy(mean, axis=0).sum(1), abs=1e-5)
    top = np.argsort(-p.mean(0), axis=1)[:, :3]
    assert of.of_classes(top).by_class == pytest.approx(np.take_along_axis(divergence, top, 1), abs=1e-6)
    few = of.take(np.array([4, 1]))
    assert few.by_class == pytest.approx(divergence[[4, 1]], abs=1e-6)
    assert few.entropy.tolist() == of.entropy[[4, 1]].tolist()


def test_two_sure_members_that_disagree_and_two_that_agree():
    sure = np.array([[1.0, 0.0], [1.0, 0.0]])
    other = np.array([[0.0, 1.0], [1.0, 0.0]])
    found = Average.of([sure, other], multilabel=False)
    assert found.mutual_information[:, 0].tolist() == [pytest.approx(math.log(2)), 0]
    same = np.random.default_rng(1).dirichlet(np.ones(50), 200)
    assert (Average.of([same] * 3, multilabel=False).mutual_information >= 0).all()
    assert Average.of([same] * 3, multilabel=False).mutual_information == pytest.approx(0, abs=1e-12)


def test_probabilities_of_members(logits):
    one = logits[0].astype(np.float32)
    found = {m: member_probabilities(one, "logit", multilabel=m, name="net") for m in (False, True)}
    assert found[False] == pytest.approx(softmax(one.astype(float), axis=1), abs=1e-12)
    assert found[True] == pytest.approx(expit(one.astype(float)), abs=1e-12)
    sigmoids = expit(one)
    assert member_probabilities(sigmoids, "probability", multilabel=True, name="net") == pytest.approx(
        sigmoids
    )
    half = np.full((1, 3), 0.5)
    with pytest.raises(InputError) as error:
        member_probabilities(half, "probability", multilabel=False, name="net")
    assert str(error.value) == (
        "The probabilities of an image do not add up to 1.\n"
        "  where:   net\n"
        "  got:     1.5\n"
        "  allowed: 1 ± 0.02\n"
        "  do:      if several classes can be valid together, add multilabel=True in brackets after the "
        "model's name"
    )
    for wrong in (-0.5, 1.5, np.nan):
        with pytest.raises(InputError, match="A probability is not between 0 and 1"):
            member_probabilities(half * 0 + wrong, "probability", multilabel=True, name="net")
