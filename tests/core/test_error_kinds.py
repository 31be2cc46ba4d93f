"""Each rule against a plain loop over its definition, and what must hold for every rule."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from manyhot.core.class_hierarchy import Hierarchy
from manyhot.core.cooccurrence import ClassPairs
from manyhot.core.error_kinds import (
    NOTHING,
    ORDER,
    ErrorContext,
    Errors,
    NeighbourLabels,
    RuleMatch,
    rarity_of,
    severity_of,
    shares,
    sort_errors,
)
from manyhot.core.sets import NO_LABEL, UNCLEAR, YES, LabelSets
from manyhot.registry import Entry, get, names
from manyhot.testing import random_case
from manyhot.testing.losses import check_rule, random_errors

SPECS = {
    "valid-label": ["valid-label", "valid-label(unclear=True)"],
    "unclear": ["unclear"],
    "collapsed-pair": ["collapsed-pair"],
    "fine-grained": ["fine-grained(largest=0.2)", "fine-grained(largest=0.25)", "fine-grained"],
    "out-of-vocabulary": ["out-of-vocabulary(largest=0.125, rarity=0.5)", "out-of-vocabulary(largest=0.25)"],
    "co-occurrence": ["co-occurrence(images=1)", "co-occurrence"],
    "non-prototypical": ["non-prototypical"],
    "model-failure": ["model-failure"],
}


def test_every_rule_is_here():
    assert names("rule") == list(SPECS) == list(ORDER)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("spec", [s for specs in SPECS.values() for s in specs])
def test_rule(spec, seed):
    check_rule(spec, seed=seed)


@pytest.mark.parametrize("spec", [s for specs in SPECS.values() for s in specs])
def test_rules_fit_some_errors_and_not_others(spec):
    fits = get("rule", spec)(random_errors(np.random.default_rng(0), e=2000)).fits
    assert fits.any()
    assert spec in ("model-failure", "fine-grained") or not fits.all()


# Each rule against its definition, error by error.


def sets_of(known):
    return [known.valid[a:b].tolist() for a, b in zip(known.indptr, known.indptr[1:], strict=False)]


def by_hand(errors, fits):
    """Return a verdict as plain lists: whether, and by which class, each error fits."""
    lists = sets_of(errors.context)
    found = [
        [v for v in lists[i] if fits(v, p)]
        for i, p in zip(errors.image.tolist(), errors.predicted.tolist(), strict=True)
    ]
    return [bool(f) for f in found], [f[0] if f else NOTHING for f in found]


def same(verdict, expected):
    assert (verdict.fits.tolist(), verdict.because.tolist()) == expected


@pytest.fixture(params=range(3))
def errors(request):
    return random_errors(np.random.default_rng(request.param + 10))


def test_valid_label(errors):
    assert get("rule", "valid-label")(errors).fits.tolist() == [s == YES for s in errors.state]
    with_unclear = get("rule", "valid-label(unclear=True)")(errors)
    assert with_unclear.fits.tolist() == [s in (UNCLEAR, YES) for s in errors.state]


def test_collapsed_pair_goes_one_way(errors):
    pairs = set(map(tuple, errors.context.pairs.tolist()))
    same(get("rule", "collapsed-pair")(errors), by_hand(errors, lambda valid, said: (valid, said) in pairs))


def test_collapsed_pair_with_the_original_label_alone(errors):
    pairs, label = set(map(tuple, errors.context.pairs.tolist())), errors.context.label[errors.image].tolist()
    found = get("rule", "collapsed-pair(original=True)")(errors)
    expected = [(a, b) in pairs for a, b in zip(label, errors.predicted.tolist(), strict=True)]
    assert found.fits.tolist() == expected


@pytest.mark.parametrize("largest", [1, 3, 6, 23, 24])
def test_fine_grained(errors, largest):
    # The tree of random_errors: threes in sixes in one; class 0 lies beneath the root alone, class 1 beside.
    def group(a, b):
        if a == b:
            return 1
        if 1 in (a, b):
            return 25
        if 0 in (a, b):
            return 23
        if a // 3 == b // 3:
            return 3
        if a // 6 == b // 6:
            return 4 if a // 6 == 0 else 6
        return 23

    entry = get("rule", f"fine-grained(largest={largest / 24})")
    same(entry(errors), by_hand(errors, lambda valid, said: group(valid, said) <= largest))


def test_superclasses_that_are_given_count_in_place_of_the_hierarchy(errors):
    groups = np.arange(24) % 5 - 1  # every fifth class has none
    given = replace(errors, context=replace(errors.context, groups=groups))
    same(
        get("rule", "fine-grained")(given),
        by_hand(errors, lambda valid, said: valid == said or (groups[valid] == groups[said] != NOTHING)),
    )


def test_co_occurrence(errors):
    lists = random_case(np.random.default_rng(3)).labels
    known = replace(errors.context, together=ClassPairs.of(lists))
    yes = lists.yes_matrix()[lists.usable].astype(int)
    both, alone = yes.T @ yes, yes.sum(0)
    company = both * yes.any(1).sum() >= np.outer(alone, alone)
    assert (both > 0)[~company].any()
    there = errors.state == YES
    others = errors.take(np.flatnonzero(~there))
    for images in (1, 2, 3):
        rule = get("rule", f"co-occurrence(images={images}, lift=0, related=0, share=0)")
        same(
            rule(replace(others, context=known)),
            by_hand(
                others,
                lambda valid, said, n=images: (
                    valid != said and both[valid, said] >= n and company[valid, said]
                ),
            ),
        )
        # What is in the set is no company, and the image would count for itself.
        assert there.any()
        assert not rule(replace(errors, context=known)).fits[there].any()


@pytest.mark.parametrize("least", [0.5, 1, 1.5, 3])
def test_co_occurrence_needs_a_lift(errors, least):
    """The lower end of the interval of n n_ab / (n_a n_b), by the delta method on multinomial shares."""
    lists = random_case(np.random.default_rng(3)).labels
    yes = lists.yes_matrix()[lists.usable].astype(int)
    n, both, alone = yes.any(1).sum(), yes.T @ yes, yes.sum(0)

    def fits(valid, said):
        ab, a, b = both[valid, said], alone[valid], alone[said]
        if valid == said or ab < 2 or n * ab < a * b:
            return False
        # d log(n ab / (a b)), where a = ab + a only, and b = ab + b only
        cells = np.array([ab, a - ab, b - ab])
        slopes = np.array([1 / ab - 1 / a - 1 / b, -1 / a, -1 / b]) * n
        shares = cells / n
        variance = (slopes**2 @ shares - (slopes @ shares) ** 2) / n
        return np.exp(np.log(n * ab / (a * b)) - 1.959964 * np.sqrt(max(variance, 0))) >= least

    others = errors.take(np.flatnonzero(errors.state != YES))
    others = replace(others, context=replace(errors.context, together=ClassPairs.of(lists)))
    same(get("rule", f"co-occurrence(lift={least}, related=0, share=0)")(others), by_hand(others, fits))


@pytest.mark.parametrize("least", [0.1, 0.3, 0.6])
def test_co_occurrence_needs_a_share_of_the_images_of_the_valid_class(errors, least):
    """Not if the share is clearly smaller, by the upper end of Wilson's interval as SciPy computes it."""
    lists = random_case(np.random.default_rng(3)).labels
    yes = lists.yes_matrix()[lists.usable].astype(int)
    n, both, alone = yes.any(1).sum(), yes.T @ yes, yes.sum(0)

    def fits(valid, said):
        ab, a, b = (int(x) for x in (both[valid, said], alone[valid], alone[said]))
        if valid == said or ab < 2 or n * ab < a * b:
            return False
        return binomtest(ab, a).proportion_ci(method="wilson").high >= least

    others = errors.take(np.flatnonzero(errors.state != YES))
    others = replace(others, context=replace(errors.context, together=ClassPairs.of(lists)))
    rule = get("rule", f"co-occurrence(lift=0, related=0, share={least})")
    same(rule(others), by_hand(others, fits))


def test_a_sofa_is_rarely_with_a_dog_though_a_dog_is_often_on_a_sofa():
    dog, sofa = range(2)
    lists = [[dog, sofa]] * 30 + [[dog]] * 600 + [[sofa]] * 5 + [[2]] * 1400
    sets = LabelSets.from_lists([[dog], [sofa], *lists], 3)
    context = replace(ErrorContext.of(sets), together=ClassPairs.of(sets))
    two = Errors(
        context,
        np.array([0, 1]),
        np.array([sofa, dog], np.int32),
        np.zeros(2, np.uint8),
        np.ones(2, np.float32),
    )
    assert get("rule", "co-occurrence")(two).fits.tolist() == [False, True]
    assert get("rule", "co-occurrence(share=0)")(two).fits.tolist() == [True, True]


def test_a_frequent_class_is_no_company():
    """A person is on half of the images, also of those with a horse: no more often than by chance."""
    often = [[0, 1]] * 20 + [[0]] * 20 + [[1]] * 20 + [[2]] * 20
    rare = [[0, 1]] * 20 + [[0]] * 2 + [[1]] * 2 + [[2]] * 56
    kinds = []
    for sets in (often, rare):
        lists = LabelSets.from_lists([[0], *sets], 3)
        context = replace(ErrorContext.of(lists), together=ClassPairs.of(lists))
        one = Errors(
            context, np.array([0]), np.array([1], np.int32), np.zeros(1, np.uint8), np.ones(1, np.float32)
        )
        kinds.append(bool(get("rule", "co-occurrence")(one).fits[0]))
    assert kinds == [False, True]


def test_a_related_class_is_confused_and_no_company():
    """Dogs and horses are animals: beside a person, a predicted horse is a dog taken for it."""
    paths = [["dog", "animal"], ["horse", "animal"], ["person"], *([f"thing {i}"] for i in range(5))]
    together = [[1, 2]] * 10 + [[i] for i in range(3, 8)] * 10
    lists = LabelSets.from_lists([[0, 2], [2], *together], 8)
    context = replace(ErrorContext.of(lists), together=ClassPairs.of(lists), hierarchy=Hierarchy.of(paths))
    two = Errors(
        context,
        np.array([0, 1]),
        np.array([1, 1], np.int32),
        np.zeros(2, np.uint8),
        np.ones(2, np.float32),
    )
    assert get("rule", "co-occurrence")(two).fits.tolist() == [False, True]
    assert get("rule", "co-occurrence(related=0.2)")(two).fits.tolist() == [True, True]
    unknown = replace(two, context=replace(context, hierarchy=None))
    assert get("rule", "co-occurrence")(unknown).fits.tolist() == [True, True]


def test_a_class_that_is_rarely_with_the_prediction_speaks_against_company():
    """A person explains a horse, but not in a street, where no horse was ever seen."""
    person, horse, car = range(3)
    lists = [[person, horse]] * 30 + [[car]] * 30 + [[person, car]] * 5
    sets = LabelSets.from_lists([[person], [person, car], *lists], 3)
    context = replace(ErrorContext.of(sets), together=ClassPairs.of(sets))
    two = Errors(
        context,
        np.array([0, 1]),
        np.full(2, horse, np.int32),
        np.zeros(2, np.uint8),
        np.ones(2, np.float32),
    )
    assert get("rule", "co-occurrence(lift=1)")(two).fits.tolist() == [True, False]
    often = LabelSets.from_lists([[person], [person, car], *lists, *[[car, horse]] * 30], 3)
    other = replace(two, context=replace(context, together=ClassPairs.of(often)))
    assert get("rule", "co-occurrence(lift=0)")(other).fits.tolist() == [True, True]


def test_unclear(errors):
    assert np.array_equal(get("rule", "unclear")(errors).fits, errors.state == UNCLEAR)


def test_classes_of_different_roots_are_as_far_apart_as_with_one_more_root():
    """The highest errors of all, and not unknown; a class without ancestors has no place in the tree."""
    paths = [
        ("lion", "cats", "mammals"),
        ("dog", "dogs", "mammals"),
        ("owl", "owls", "birds"),
        ("eel", "fish"),
    ]
    a, b = np.triu_indices(4)
    rooted = Hierarchy.of([(*path, "animals") for path in paths])
    assert Hierarchy.of(paths).height(a, b).tolist() == rooted.height(a, b).tolist()
    assert rooted.height(np.array([0, 0, 2]), np.array([1, 2, 3])).tolist() == [2, 3, 3]
    unknown = Hierarchy.of([*paths, ("stone",)])
    assert unknown.height(np.array([0, 4]), np.array([4, 4])).tolist() == [NOTHING, 0]


@pytest.mark.parametrize("seed", range(5))
def test_heights_are_those_of_a_tree_that_is_built_node_by_node(seed):
    """Random trees in which any node may be a class, so that leaves have different depths."""
    rng = np.random.default_rng(seed)
    parent = {node: int(rng.integers(node)) for node in range(1, 40)} | {0: None}
    chosen = rng.permutation(40)[:20]

    def up(node):
        return [] if node is None else [node, *up(parent[node])]

    tree = Hierarchy.of([[str(node) for node in up(node)] for node in chosen])
    a, b = (pair.ravel() for pair in np.meshgrid(*[np.arange(20)] * 2))
    expected = []
    for one, other in zip(chosen[a], chosen[b], strict=True):
        lowest = next(node for node in up(one) if node in up(other))
        above = [up(node).index(lowest) for node in chosen if lowest in up(node)]
        expected.append(0 if one == other else max(above))
    assert tree.height(a, b).tolist() == expected


def test_a_class_that_is_the_root_of_others_has_a_place():
    """Iconclass: 4 has no hypernym but is one; the farthest class below the extra root is 48C."""
    paths = [("48C", "48", "4"), ("4",), ("9",), ("94", "9"), ("1",)]
    height = Hierarchy.of(paths).height(np.array([0, 0, 1, 0]), np.array([1, 2, 3, 4]))
    assert height.tolist() == [2, 3, 3, NOTHING]


def test_severity_is_the_height_of_the_lowest_common_ancestor():
    """By hand: a terrier and a hound are dogs; a cat is an animal, as dogs are; a stone is none of these."""
    paths = [
        ["terrier", "dog", "animal"],
        ["hound", "dog", "animal"],
        ["cat", "animal"],
        ["stone"],
    ]
    tree = Hierarchy.of(paths)
    pairs = {(0, 0): 0, (0, 1): 1, (0, 2): 2, (2, 0): 2, (0, 3): NOTHING}
    a, b = np.array(list(pairs)).T
    assert tree.height(a, b).tolist() == list(pairs.values())
    lists = LabelSets.from_lists([[2, 1], [3], []], 4, label=[2, 3, 1])
    context = replace(ErrorContext.of(lists), hierarchy=tree)
    three = Errors(
        context, np.arange(3), np.zeros(3, np.int32), np.zeros(3, np.uint8), np.ones(3, np.float32)
    )
    assert severity_of(three).tolist() == [1, NOTHING, 1]
    assert severity_of(replace(three, context=replace(context, hierarchy=None))).tolist() == [NOTHING] * 3


def test_groups_have_the_sizes_of_a_larger_list():
    larger = [["terrier", "dog", "animal"], ["hound", "dog", "animal"], ["cat", "animal"], ["stone"]]
    tree = Hierarchy.of([["dog", "animal"], ["cat", "animal"]], larger, "somewhere")
    assert tree.group_size(np.array([0, 0]), np.array([1, 0])).tolist() == [3, 1]
    assert (tree.n_counted, tree.source) == (4, "somewhere")


def test_out_of_vocabulary_needs_a_rare_image_and_a_neighbour_of_the_superclass(errors):
    near = errors.context.neighbours
    verdict = get("rule", "out-of-vocabulary(largest=0.125, rarity=0.5)")(errors)
    for i, said, fits, because in zip(
        errors.image, errors.predicted, verdict.fits, verdict.because, strict=True
    ):
        kin = [
            c
            for c in near.classes[i]
            if c >= 0 and (c == said or (c // 3 == said // 3 and {c, said}.isdisjoint({0, 1})))
        ]
        rare = near.rarity[i] >= 0.5
        assert fits == (rare and bool(kin))
        assert because == (kin[0] if fits else NOTHING)


def test_non_prototypical(errors):
    assert np.array_equal(get("rule", "non-prototypical")(errors).fits, errors.context.listed[errors.image])


# What is known.


def test_errors_are_held_against_the_set_and_without_one_against_the_label():
    sets = LabelSets.from_lists([[4, 2], [], [], [1]], 5, label=[2, 3, NO_LABEL, 0])
    assert sets_of(ErrorContext.of(sets)) == [[4, 2], [3], [], [1]]


def test_rarity():
    found = rarity_of(np.array([0.9, 0.1, np.nan, 0.5, 0.5]))
    assert np.array_equal(found, [0, 0.75, np.nan, 0.25, 0.25], equal_nan=True)
    assert np.isnan(rarity_of(np.full(3, np.nan))).all()


def test_group_sizes_of_a_chain():
    tree = Hierarchy.of([["a", "x", "r"], ["b", "x", "r"], ["x", "r"], ["c", "r"], ["d"]])
    a, b = np.array([0, 0, 0, 0, 0, 2]), np.array([0, 1, 2, 3, 4, 0])
    assert tree.group_size(a, b).tolist() == [1, 3, 3, 4, 6, 3]


# The order.


def rule_of(name, fits, **about):
    def rule(errors):
        found = np.isin(errors.image, fits)
        return RuleMatch(found, np.where(found, 7, NOTHING).astype(np.int32))

    return Entry("rule", name, rule, about)


def test_the_first_rule_that_fits_decides_and_rules_without_their_needs_rest():
    sets = LabelSets.from_lists([[0]] * 5, 8)
    image = np.arange(5)
    errors = Errors(
        ErrorContext.of(sets), image, image.astype(np.int32), np.zeros(5, np.uint8), np.ones(5, np.float32)
    )
    rules = [rule_of("a", [1, 2]), rule_of("rests", [0, 1, 2, 3], needs=("pairs",)), rule_of("b", [2, 3])]
    found = sort_errors(errors, rules)
    assert found.kind.tolist() == [NOTHING, 0, 0, 2, NOTHING]
    assert found.because.tolist() == [NOTHING, 7, 7, 7, NOTHING]


def test_shares():
    assert shares({"a": 1, "b": 3}) == {"a": 0.25, "b": 0.75}
    assert all(np.isnan(share) for share in shares({"a": 0, "b": 0}).values())


# The check itself.


def fits_all(errors):
    return RuleMatch(np.ones(len(errors), bool), np.full(len(errors), NOTHING, np.int32))


def by_rank(errors):
    """A rule for which other errors matter."""
    return replace(fits_all(errors), fits=np.arange(len(errors)) % 2 == 0)


def low_classes(errors):
    """A rule for which the numbering of classes matters."""
    return replace(fits_all(errors), fits=errors.predicted < 12)


def changes(errors):
    """A rule that changes what it is given."""
    errors.confidence[0] = 2
    return fits_all(errors)


@pytest.mark.parametrize(
    ("rule", "about", "breach"),
    [
        (by_rank, {}, "odd: whether the rule matches an error depends on other errors"),
        (low_classes, {}, "odd: the numbering of classes matters"),
        (changes, {}, "inputs were changed"),
        (lambda errors: None, {}, "odd returns no verdict"),
        (
            lambda errors: replace(fits_all(errors), fits=errors.context.listed[errors.image]),
            {},
            "odd uses listed without declaring it",
        ),
        (fits_all, {"needs": ("text",)}, "odd needs unknown inputs: text"),
        (
            lambda errors: replace(fits_all(errors), because=np.full(len(errors), 24, np.int32)),
            {},
            "odd: no such class",
        ),
    ],
)
def test_breaches_are_named(rule, about, breach):
    with pytest.raises(AssertionError) as error:
        check_rule(Entry("rule", "odd", rule, about))
    assert str(error.value).partition("\n")[0] == breach


def test_neighbours_that_are_not_known_are_not_rare():
    errors = random_errors(np.random.default_rng(0))
    nowhere = NeighbourLabels(np.full((80, 3), NOTHING), np.full(80, np.nan))
    found = get("rule", "out-of-vocabulary")(
        replace(errors, context=replace(errors.context, neighbours=nowhere))
    )
    assert not found.fits.any()
