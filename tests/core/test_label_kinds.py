"""Kinds of several labels: by hand, and against plain loops over images."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from manyhot.classes import class_list
from manyhot.core.class_hierarchy import FAR, Hierarchy
from manyhot.core.label_kinds import (
    LABEL_KINDS,
    UNKNOWN,
    Rules,
    image_kinds,
    mutual_confusion,
    share_together,
)
from manyhot.core.sets import NO, YES, LabelSets

# 0 and 1 siblings, 2 their cousin, 3 and 4 apart; 3 and 4 are called by both names.
PATHS = [("a", "dog", "animal"), ("b", "dog", "animal"), ("c", "cat", "animal"), ("d",), ("e",)]
ONE, SEVERAL, AMBIGUOUS, SYNONYMS = range(4)


def sets_of(images, n_classes=5, usable=None):
    """Return label sets of images given as {class: state}."""
    indptr = np.concatenate([[0], np.cumsum([len(i) for i in images])]).astype(np.int64)
    classes = np.array([c for i in images for c in i], np.int32)
    state = np.array([s for i in images for s in i.values()], np.uint8)
    n = len(images)
    usable = np.ones(n, bool) if usable is None else usable
    return LabelSets(n_classes, indptr, classes, state, np.full(n, -1, np.int32), usable, True)


def yes(*classes):
    return dict.fromkeys(classes, YES)


def confusion_of(*pairs):
    confusion = np.zeros((5, 5))
    for a, b in pairs:
        confusion[a, b] = confusion[b, a] = 0.9
    return confusion


def test_mutual_confusion_by_hand():
    one = np.array([[0, 1, 2], [0, 1, 2], [1, 0, 2], [1, 2, 0]])
    two = np.array([[0, 2, 1], [2, 1, 0], [1, 0, 2], [-1, -1, -1]])
    found = mutual_confusion([one, two], 3)
    # 0 first: 1 second twice, 2 once; 1 first: 0 second twice, 2 once; 2 first: 1 second once.
    assert found == pytest.approx(np.array([[0, 2 / 3, 0], [2 / 3, 0, 1 / 3], [0, 1 / 3, 0]]))


def test_steps_in_the_hierarchy_by_hand():
    a, b = np.array([0, 0, 0, 3, 3]), np.array([1, 2, 0, 4, 0])
    assert Hierarchy.of(PATHS).distance(a, b).tolist() == [2, 4, 0, FAR, FAR]


def test_a_class_beneath_another():
    paths = [("dog", "animal"), ("husky", "dog", "animal")]
    assert Hierarchy.of(paths).distance(np.array([0]), np.array([1])).tolist() == [1]


def test_steps_in_imagenets_hierarchy():
    classes = class_list()
    ids = [[step.partition(" ")[0] for step in path] for path in classes.hypernyms]
    paths = [[key, *up] for key, up in zip(classes.keys, ids, strict=True)]
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 1000, (2, 500))
    expected = [
        min(paths[i].index(step) + paths[j].index(step) for step in set(paths[i]) & set(paths[j]))
        for i, j in zip(a, b, strict=True)
    ]
    assert Hierarchy.of(paths).distance(a, b).tolist() == expected


def test_share_together_by_hand():
    images = [yes(3, 4), yes(4, 3), {3: YES, 4: NO}, {3: NO, 4: NO}, yes(3), {0: NO, 3: YES, 4: YES}]
    pair, share, n = share_together(sets_of(images))
    # 3 and 4 were asked about together five times; one image has neither.
    found = dict(zip(pair.tolist(), zip(share.tolist(), n.tolist(), strict=True), strict=True))
    assert found == {3 * 5 + 4: (3 / 4, 4), 0 * 5 + 3: (0.0, 1), 0 * 5 + 4: (0.0, 1)}


def kinds_of(images, n_objects=None, usable=None):
    together = [yes(3, 4)] * 10
    sets = sets_of([*images, *together], usable=usable)
    counted = None if n_objects is None else np.array([*n_objects, *[UNKNOWN] * 10])
    found = image_kinds(sets, confusion_of((0, 1), (3, 4)), PATHS, n_objects=counted)
    assert found.kind[len(images) :].tolist() == [SYNONYMS] * 10
    return found.kind[: len(images)].tolist()


def test_kinds_by_hand():
    images = [yes(0), {}, yes(0, 1), yes(0, 2), yes(0, 3), yes(3, 4), yes(0, 3, 4), {0: YES, 3: NO}]
    # Mixed up but never both; cousins, four steps apart; nothing in common; names; names and a dog.
    assert kinds_of(images) == [ONE, UNKNOWN, AMBIGUOUS, AMBIGUOUS, SEVERAL, SYNONYMS, SEVERAL, ONE]


def test_what_raters_counted_goes_before_what_labels_tell():
    images = [yes(0), {}, yes(0, 1), yes(0, 3), yes(3, 4), yes(3, 4), {}]
    counted = [2, 3, 2, 1, 1, 2, 1]
    assert kinds_of(images, counted) == [SEVERAL, SEVERAL, SEVERAL, AMBIGUOUS, SYNONYMS, SEVERAL, UNKNOWN]


def test_images_that_are_not_usable_have_no_kind():
    usable = np.array([False, True, *[True] * 10])
    assert kinds_of([yes(0, 3), yes(0, 3)], usable=usable) == [UNKNOWN, SEVERAL]


def test_names_need_enough_images():
    sets = sets_of([yes(3, 4)] * 9)
    assert set(image_kinds(sets, confusion_of((3, 4)), PATHS).kind) == {AMBIGUOUS}
    few = Rules(together_images=9)
    assert set(image_kinds(sets, confusion_of((3, 4)), PATHS, rules=few).kind) == {SYNONYMS}


def test_no_names_where_nobody_knows_who_was_asked():
    sets = replace(sets_of([yes(3, 4)] * 20), asked_known=False)
    assert set(image_kinds(sets, confusion_of((3, 4)), PATHS).kind) == {AMBIGUOUS}
    assert [len(column) for column in share_together(sets)] == [0, 0, 0]


def loop_kind(classes, joined, names):
    """Return the kind of a set of classes, whose connected parts are found by merging sets."""

    def parts(pairs):
        groups = [{c} for c in classes]
        for a, b in itertools.combinations(classes, 2):
            if (a, b) in pairs:
                merged = [g for g in groups if g & {a, b}]
                groups = [g for g in groups if not g & {a, b}] + [set.union(*merged)]
        return len(groups)

    if len(classes) < 2:
        return ONE if classes else UNKNOWN
    if parts(joined) > 1:
        return SEVERAL
    return SYNONYMS if parts(names) == 1 else AMBIGUOUS


def test_kinds_equal_the_loop():
    rng = np.random.default_rng(0)
    c, n = 12, 400
    images = [
        {int(k): int(rng.choice([NO, YES], p=[0.3, 0.7])) for k in rng.permutation(c)[: rng.integers(0, 5)]}
        for _ in range(n)
    ]
    confusion = rng.random((c, c))
    confusion = np.minimum(confusion, confusion.T)
    paths = [(f"class {i}", f"group {i // 2}") for i in range(c)]
    rules = Rules(confusion=0.4, distance=2, together=0.45, together_images=5)
    found = image_kinds(sets_of(images, c), confusion, paths, rules=rules)
    joined, names = set(), set()
    for a, b in itertools.combinations(range(c), 2):
        both = [(i[a] == YES, i[b] == YES) for i in images if a in i and b in i]
        either = [x and y for x, y in both if x or y]
        mixed = confusion[a, b] >= 0.4
        joined |= {(a, b), (b, a)} if mixed or a // 2 == b // 2 else set()
        names |= {(a, b), (b, a)} if mixed and len(either) >= 5 and np.mean(either) >= 0.45 else set()
    expected = [loop_kind([k for k, s in i.items() if s == YES], joined, names) for i in images]
    assert set(expected) == {UNKNOWN, *range(len(LABEL_KINDS))}
    assert found.kind.tolist() == expected
