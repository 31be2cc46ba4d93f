from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, softmax

from manyhot.core.score_threshold import (
    LINKS,
    adds_up_to_one,
    confidence_of,
    in_double_precision,
    least_of,
    least_score,
    link_of,
)
from manyhot.core.sets import Case, LabelSets
from manyhot.errors import InputError


def case_with(kind, *, label=None, n=40):
    scores = np.random.default_rng(2).normal(0, 3, (n, 5)).astype(np.float32)
    labels = LabelSets.from_lists([[0]] * n, 5, label=label)
    return Case.from_scores(labels, scores, kind=kind)


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_least_score_is_the_one_with_this_probability(threshold):
    case = case_with("logit")
    scores = case.scores.astype(np.float64)
    for link, p in (("sigmoid", expit(scores)), ("softmax", softmax(scores, axis=1))):
        least = least_score(case, threshold, link)
        image, classes = np.divmod(np.arange(scores.size), scores.shape[1])
        reached = case.scores.ravel() >= least_of(least, image, classes)
        assert (reached == (p >= threshold).ravel()).all()


def test_logits_have_a_softmax_where_images_have_an_original_label():
    assert link_of(case_with("logit")) == "sigmoid"
    assert link_of(case_with("logit", label=[1] * 40)) == "softmax"
    assert link_of(case_with("logit", label=[1] * 40), "sigmoid") == "sigmoid"


def test_the_confidence_follows_the_link():
    case = case_with("logit")
    assert np.allclose(confidence_of(case), expit(case.scores.astype(float)).max(1))
    assert np.allclose(confidence_of(replace(case, link="softmax")), softmax(case.scores, axis=1).max(1))
    assert confidence_of(case_with("cosine")) is None


@pytest.mark.parametrize("link", LINKS)
def test_probabilities_need_no_link(link):
    case = case_with("probability")
    assert link_of(case, link) == "identity"
    assert least_score(case, 0.7, link) == np.float32(0.7)


@pytest.mark.parametrize("kind", ["cosine", "score", "none"])
def test_scores_of_another_kind_have_no_probabilities(kind):
    case = case_with(kind)
    assert [link_of(case, link) for link in LINKS] == ["", "", "", "identity"]
    assert least_score(case, 0.5, "sigmoid") is None
    assert least_score(case, 3, "identity") == 3


def test_rounded_probabilities_of_a_softmax_add_up_to_one():
    """Three decimals of 200 classes, an image without scores, and scores of unknown kind."""
    rng = np.random.default_rng(0)
    p = np.round(softmax(rng.normal(0, 2, (200, 200)), axis=1), 3).astype(np.float32)
    assert np.abs(p.sum(1) - 1).max() > 0.002
    p[5] = 0
    labels = LabelSets.from_lists([[0]] * 200, 200)
    assert adds_up_to_one(Case.from_scores(labels, p, kind="probability"))
    assert adds_up_to_one(Case.from_scores(labels, p, kind="none"))
    p[:20] = 0
    assert not adds_up_to_one(Case.from_scores(labels, p, kind="probability"))
    assert not adds_up_to_one(
        Case.from_scores(labels, rng.random((200, 200), np.float32), kind="probability")
    )


def test_ranks_have_no_scores():
    case = replace(case_with("logit"), scores=None)
    assert [link_of(case, link) for link in LINKS] == [""] * 4


def test_an_unknown_link():
    with pytest.raises(InputError) as error:
        link_of(case_with("logit"), "probit")
    assert str(error.value) == (
        "There is no such link between scores and probabilities.\n"
        "  got:     probit\n"
        "  allowed: auto, sigmoid, softmax, identity"
    )


def test_a_threshold_on_probabilities_is_a_probability():
    with pytest.raises(InputError) as error:
        least_score(case_with("logit"), -2.5)
    assert str(error.value) == (
        "The threshold is not a probability.\n"
        "  got:     -2.5\n"
        "  allowed: a probability, 0 to 1, also for logits; with link='identity', a score as it is stored"
    )


@pytest.mark.parametrize("decimals", [3, 17])
def test_float64_scores_reach_the_same_thresholds(decimals):
    rng = np.random.default_rng(0)
    scores = np.round(np.append(rng.normal(size=2000), rng.random(2000)), decimals)
    single = scores.astype(np.float32)
    threshold = single[:500].astype(np.float64)
    stored = in_double_precision(threshold)
    assert ((scores[:, None] >= stored) == (single[:, None] >= single[:500])).all()
    assert (single[:, None].astype(np.float64) >= stored).sum() == (single[:, None] >= single[:500]).sum()
    assert (stored.astype(np.float32) == single[:500]).all()
    special = np.array([np.nan, np.inf, -np.inf, 0.0])
    assert np.array_equal(in_double_precision(special), special, equal_nan=True)
