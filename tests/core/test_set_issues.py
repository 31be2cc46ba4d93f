"""Wrong and missing classes of label sets, against cleanlab's multi-label functions and plain loops."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest

from made_up_models import C, ensemble
from manyhot.core.rater_weights import rater_evidence
from manyhot.core.set_issues import find_set_issues, set_thresholds, suspected_cells
from manyhot.core.sets import NO, NO_LABEL, UNCLEAR, YES, LabelSets

N = 200


def made(seed, rounded=False):
    """Return label sets with errors as a matrix, and probabilities of the sets without."""
    rng = np.random.default_rng(seed)
    truth = rng.random((N, C)) < rng.uniform(0.15, 0.5, C)
    given = truth ^ (rng.random((N, C)) < 0.08)
    q = 1 / (1 + np.exp(-(rng.normal(size=(N, C)) * 1.2 + 3 * truth - 1.5)))
    q = np.clip(np.round(q * 8) / 8, 0.05, 0.95) if rounded else q
    return given, q.astype(np.float32)


def sets_of(given, **columns):
    rows, classes = np.nonzero(given)
    return LabelSets(
        C,
        np.searchsorted(rows, np.arange(len(given) + 1)),
        classes.astype(np.int32),
        np.full(len(rows), YES, np.uint8),
        np.full(len(given), NO_LABEL, np.int32),
        np.ones(len(given), bool),
        **columns,
    )


def models(given, q):
    return ensemble(np.full(len(given), NO_LABEL), q, known=sets_of(given))


@pytest.mark.parametrize("seed", range(16))
def test_the_set_and_the_scores_are_those_of_cleanlab(require, seed):
    require(importlib.util.find_spec("cleanlab"), "cleanlab, which `make test` installs")
    from cleanlab.multilabel_classification.filter import (
        find_label_issues,
        find_multilabel_issues_per_class,
    )
    from cleanlab.multilabel_classification.rank import get_label_quality_scores_per_class

    given, q = made(seed, rounded=seed % 2 == 1)
    lists, p = [np.flatnonzero(row).tolist() for row in given], q.astype(np.float64)
    theirs = find_multilabel_issues_per_class(lists, p, filter_by="confident_learning", n_jobs=1)
    issues = find_set_issues(models(given, q), doubtful=0, missing=0)
    ours = np.zeros((N, C), bool)
    for part in (issues.doubtful, issues.missing):
        at = part.confident != NO_LABEL
        ours[part.image[at], part.class_id[at]] = True
    assert np.array_equal(ours, theirs)
    assert theirs.sum() > 10
    assert np.array_equal(ours.any(1), find_label_issues(lists, p, filter_by="confident_learning", n_jobs=1))
    quality = np.full((N, C), np.nan)
    for part in (issues.doubtful, issues.missing):
        quality[part.image, part.class_id] = 1 - part.score
    np.testing.assert_allclose(quality, get_label_quality_scores_per_class(lists, p), atol=1e-9)


def confirmed(given, truth, n):
    """Return confirmed label sets of all classes of the first n images; the others have none."""
    classes = np.tile(np.arange(C, dtype=np.int32), n)
    p = np.where(truth[:n], 0.9999, 0.0001).ravel().astype(np.float32)
    state = np.where(truth[:n], YES, NO).ravel().astype(np.uint8)
    usable = np.arange(N) < n
    label = np.full(N, NO_LABEL, np.int32)
    indptr = np.minimum(np.arange(N + 1), n) * C
    return LabelSets(C, indptr, classes, state, label, usable, p=p)


@pytest.mark.parametrize("seed", range(4))
def test_images_without_answers_have_the_issues_of_cleanlab_and_agreement_is_no_issue(require, seed):
    require(importlib.util.find_spec("cleanlab"), "cleanlab, which `make test` installs")
    from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class

    given, q = made(seed)
    truth, n = q > 0.5, 80
    lists = [np.flatnonzero(row).tolist() for row in given]
    theirs = find_multilabel_issues_per_class(
        lists, q.astype(np.float64), filter_by="confident_learning", n_jobs=1
    )
    answers = confirmed(given, truth, n)
    alone = find_set_issues(models(given, q), doubtful=1, missing=1)
    found = find_set_issues(models(given, q), answers, unasked=1, settled=True)
    ours = np.zeros((N, C), bool)
    for one, two in ((alone.doubtful, found.doubtful), (alone.missing, found.missing)):
        ours[two.image, two.class_id] = True
        nobody, before = two.image >= n, one.image >= n
        for field in ("image", "class_id", "score", "models", "confident"):
            np.testing.assert_array_equal(getattr(two, field)[nobody], getattr(one, field)[before])
    assert np.array_equal(ours[n:], theirs[n:])
    assert np.array_equal(ours[:n], given[:n] != truth[:n])


def test_kinds_order_and_counts():
    given, q = made(3)
    issues = find_set_issues(models(given, q))
    assert (issues.n, issues.n_skipped) == (N, 0)
    assert given[issues.doubtful.image, issues.doubtful.class_id].all()
    assert not given[issues.missing.image, issues.missing.class_id].any()
    for part in (issues.doubtful, issues.missing):
        order = np.lexsort((part.class_id, part.image, -part.score))
        assert order.tolist() == list(range(len(part)))
        assert ((part.score >= 0.5) | (part.confident != NO_LABEL)).all()


def test_unclear_classes_and_images_without_numbers_are_left_out():
    given, q = made(4)
    known = sets_of(given)
    state = known.state.copy()
    state[:3] = UNCLEAR
    q[10] = np.nan
    known = replace(known, state=state)
    several = ensemble(np.full(N, NO_LABEL), q, known=known)
    issues = find_set_issues(several, doubtful=0, missing=0)
    assert (issues.n, issues.n_skipped) == (N - 1, 1)
    listed = set()
    for part in (issues.doubtful, issues.missing):
        listed |= set(zip(part.image.tolist(), part.class_id.tolist(), strict=True))
    unclear = {(int(i), int(c)) for i, c in zip(known.rows[:3], known.classes[:3], strict=True)}
    assert not listed & unclear
    assert len(listed) == (N - 1) * C - 3
    limits = set_thresholds(several)
    keep = np.delete(np.arange(N), 10)
    yes = given.copy()
    yes[known.rows[:3], known.classes[:3]] = False
    assert limits[1] == pytest.approx([q[keep, c][yes[keep, c]].mean() for c in range(C)], rel=1e-5)


def test_a_class_that_no_image_has_is_never_suspected():
    q = np.full((4, C), 0.9, np.float32)
    given = np.zeros((4, C), bool)
    given[:, 0] = True
    limits = set_thresholds(models(given, q))
    assert np.isinf(limits[1, 1:]).all()
    assert not suspected_cells(q.astype(float), given, limits)[:, 1:].any()


def test_what_raters_say_is_listed_whatever_models_say():
    given, q = made(6)
    image, class_id = np.argwhere(~given & (q < 0.1))[0]
    answers = LabelSets(
        C,
        (np.arange(N + 1) > image).astype(np.int64),
        np.array([class_id], np.int32),
        np.array([YES], np.uint8),
        np.full(N, NO_LABEL, np.int32),
        np.ones(N, bool),
        p=np.ones(1, np.float32),
        n_votes=np.full(1, 5, np.float32),
    )
    found = [find_set_issues(models(given, q), a).missing for a in (None, answers)]
    assert [(image, class_id) in zip(f.image, f.class_id, strict=True) for f in found] == [False, True]


def test_several_raters_count_as_far_as_they_know():
    rng = np.random.default_rng(5)
    given, q = made(5)
    truth = q > 0.5
    yes = rng.binomial(5, np.where(truth, 0.9, 0.1)) / 5
    _, classes = np.nonzero(np.ones((N, C)))
    answers = LabelSets(
        C,
        np.arange(N + 1) * C,
        classes.astype(np.int32),
        np.where(yes.ravel() > 0.5, YES, NO).astype(np.uint8),
        np.full(N, NO_LABEL, np.int32),
        np.ones(N, bool),
        p=yes.ravel().astype(np.float32),
        n_votes=np.full(N * C, 5, np.float32),
    )
    alone = find_set_issues(models(given, q), doubtful=0, missing=0)
    both = find_set_issues(models(given, q), answers, doubtful=0, missing=0)
    for one, two in ((alone.doubtful, both.doubtful), (alone.missing, both.missing)):
        assert np.isnan(one.people).all()
        people = yes[two.image, two.class_id]
        assert two.people == pytest.approx(1 - people if two is both.doubtful else people, abs=1e-6)
        five = np.full(len(two), 5.0)
        weight, expected = rater_evidence(two.people, five, two.models, two.class_id)
        plain = two.models + weight * (two.people - expected)
        assert two.score == pytest.approx(np.clip(plain, 0, 1), abs=0.01)
        assert (np.diff(plain) <= 1e-12).all()
        assert len(one) == len(two)
