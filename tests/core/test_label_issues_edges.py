"""Label issues where people, classes or numbers are few."""

import numpy as np
import pytest

from made_up_models import ensemble
from manyhot.core.confused_classes import find_merges
from manyhot.core.label_issues import find_issues
from manyhot.core.sets import NO, NO_LABEL, YES, LabelSets


def said(rows):
    """Return what people said of each image: lists of (class, state), None where it does not count."""
    lists = [row or [(0, NO)] for row in rows]
    indptr = np.cumsum([0, *map(len, lists)]).astype(np.int64)
    classes, state = (np.array([pair[i] for row in lists for pair in row]) for i in (0, 1))
    usable = np.array([row is not None for row in rows])
    return indptr, classes.astype(np.int32), state.astype(np.uint8), usable


def known(label, rows):
    indptr, classes, state, usable = said(rows)
    return LabelSets(7, indptr, classes, state, np.asarray(label, np.int32), usable)


def sure(*best, p=0.9):
    """Return probabilities of seven classes, most for one of them."""
    found = np.full((len(best), 7), (1 - p) / 6, np.float32)
    found[np.arange(len(best)), best] = p
    return found


def test_what_was_said_of_an_image_that_is_left_out_does_not_count():
    label = [0, 1]
    found = find_issues(ensemble(label, sure(0, 1), known=known(label, [None, [(1, NO)]])), doubtful=0.0)
    people = dict(zip(found.doubtful.image.tolist(), found.doubtful.people.tolist(), strict=True))
    assert np.isnan(people[0])
    assert people[1] == 1
    assert found.doubtful.image.tolist() == [1, 0]


def test_one_rater_does_not_outweigh_models_that_are_sure():
    label = [0, 0, 0]
    p = np.zeros((3, 7), np.float32)
    p[0, 0] = 1  # people rejected the label, against the models
    p[1, 1] = 1  # nobody was asked, and the models are sure
    p[2, 1] = 1  # people rejected the label, too
    answers = known(label, [[(0, NO)], [(5, NO)], [(0, NO)]])
    found = find_issues(ensemble(label, p, ranks=True, known=answers))
    assert found.doubtful.image.tolist() == [1, 2, 0]
    # 1 is 0.995, since answers may move a score beyond 1.
    assert found.doubtful.score.tolist() == pytest.approx([0.995, 0.995, 0.5])


def test_classes_with_few_images_are_not_merged():
    """Five images of one class and two of the other, each called the other."""
    label = [0] * 5 + [1] * 2
    models = ensemble(label, sure(*[1] * 5, *[0] * 2))
    assert len(find_merges(models)) == 0
    found = find_merges(models, images=2)
    assert (found.a.tolist(), found.b.tolist()) == ([0], [1])


def test_frequent_classes_are_not_one_because_they_are_often_together():
    """Of two independent attributes of 85 % of people, each is with the other one on 85 % of its images."""
    n, rng = 400, np.random.default_rng(0)
    has = rng.random((n, 7)) < [0.85, 0.85, 0.85, 0, 0, 0, 0]
    has[:, 2] = has[:, 0]  # the same attribute by another name
    sets = known([NO_LABEL] * n, [[(int(c), YES) for c in np.flatnonzero(row[:3])] for row in has])
    models = ensemble([NO_LABEL] * n, np.full((n, 7), 1 / 7, np.float32), known=sets)
    found = find_merges(models)
    assert list(zip(found.a, found.b, strict=True)) == [(0, 2)]
    assert found.n_a.tolist() == found.n_b.tolist() == found.n_together.tolist() == [has[:, 0].sum()]


def test_a_class_that_no_model_thinks_possible_is_not_missing():
    label = [0, 0]
    p = np.zeros((2, 7), np.float32)
    p[:, 0], p[:, 1] = 0.75, 0.25
    found = find_issues(ensemble(label, p), missing=0.0)
    assert found.missing.class_id.tolist() == [1, 1]


def test_images_without_numbers_have_no_part_in_confident_learning():
    label = [0, 0, 0, 1, 1, 1]
    p = sure(0, 0, 1, 1, 1, 0)
    whole = find_issues(ensemble(label, p), doubtful=1.0)
    assert whole.doubtful.image.tolist() == [2, 5]
    p[0] = np.nan
    found = find_issues(ensemble(label, p), doubtful=1.0)
    assert found.doubtful.image.tolist() == [2, 5]
    assert found.doubtful.confident.tolist() == [1, 0]


def test_accepted_classes_are_missing_whatever_models_think():
    label = [0]
    found = find_issues(ensemble(label, sure(0), known=known(label, [[(3, YES)]])), missing=0.9)
    assert (found.missing.class_id.tolist(), found.missing.score.tolist()) == ([3], [1])


def test_what_raters_reject_is_listed_whatever_models_think():
    found = find_issues(ensemble([0], sure(0), known=known([0], [[(0, NO)]])))
    assert found.doubtful.score.tolist() == pytest.approx([(1 + (1 + 0.1 / 6 - 0.9) / 2) / 2])
    quiet = find_issues(ensemble([0], sure(0, p=0.99), known=known([0], [[(0, NO)]])), doubtful=0.9)
    assert quiet.doubtful.people.tolist() == [1]
