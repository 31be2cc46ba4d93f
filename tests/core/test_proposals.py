"""Rules that propose labels, by hand; what is left out, what is found; and errors with their whole text."""

from dataclasses import replace

import numpy as np
import pytest

from manyhot.core.ensembles import Ensemble, Pairs
from manyhot.core.proposal_coverage import count_coverage, held_out
from manyhot.core.proposals import apply_rule
from manyhot.core.sets import LabelSets
from manyhot.errors import InputError
from manyhot.registry import get
from manyhot.testing import random_ensemble

# Three images of five classes, two models. The first is sure of class 0 with all models; the second has two
# objects; the third has no original label.
TOP = (np.array([[0, 1, 2], [1, 2, 3], [4, 3, 2]]), np.array([[0, 2, 1], [2, 1, 0], [3, 1, -1]]))
P = (
    np.array([[0.9, 0.05, 0.04], [0.5, 0.4, 0.1], [0.6, 0.3, 0.1]], np.float32),
    np.array([[0.8, 0.15, 0.01], [0.6, 0.3, 0.02], [0.9, 0.1, 0]], np.float32),
)


def ensemble(*, sets=None, label=(0, 1, -1), usable=None, scores=True, asked=None):
    known = None
    if sets is not None:
        known = LabelSets.from_lists(sets, 5, label=label, usable=usable)
    given = P if scores else (None, None)
    return Ensemble(5, ("one", "two"), TOP, given, given, np.array(label, np.int32), known)


def listed(pairs):
    return list(zip(pairs.image.tolist(), pairs.class_id.tolist(), pairs.n_models.tolist(), strict=True))


def apply(spec, e):
    return listed(get("proposer", spec)(e))


def test_union_of_the_best_classes():
    pairs = get("proposer", "union")(ensemble())
    assert listed(pairs) == [(0, 0, 2), (1, 1, 1), (1, 2, 1), (2, 3, 1), (2, 4, 1)]
    assert pairs.score.tolist() == [1, 0.5, 0.5, 0.5, 0.5]


def test_union_over_a_threshold():
    assert apply("union(threshold=0.3)", ensemble()) == [
        (0, 0, 2),
        (1, 1, 2),
        (1, 2, 2),
        (2, 3, 2),
        (2, 4, 1),
    ]


def test_union_with_a_threshold_a_model():
    assert apply("union(threshold={'one': 0.35, 'two': 0.1}, by='score')", ensemble()) == [
        (0, 0, 2),
        (0, 2, 1),
        (1, 1, 2),
        (1, 2, 2),
        (2, 1, 1),
        (2, 3, 1),
        (2, 4, 1),
    ]


def test_the_best_classes_are_there_whatever_the_threshold():
    assert apply("union(threshold=2.0)", ensemble()) == apply("union", ensemble())


def test_top_k_of_one_model():
    pairs = get("proposer", "top-k(k=2, model='two')")(ensemble())
    assert listed(pairs) == [(0, 0, 1), (0, 2, 1), (1, 1, 1), (1, 2, 1), (2, 1, 1), (2, 3, 1)]
    np.testing.assert_allclose(pairs.score, [0.8, 0.15, 0.3, 0.6, 0.1, 0.9], rtol=1e-6)
    assert pairs.about == {"model": "two"}


def test_top_k_of_ranks_alone():
    alone = ensemble(scores=False).only([0])
    assert get("proposer", "top-k(k=3)")(alone).score.tolist() == [
        1,
        1 / 2,
        1 / 3,
        1,
        1 / 2,
        1 / 3,
        1 / 3,
        1 / 2,
        1,
    ]


def test_short_lists_are_no_class():
    assert [c for i, c, _ in apply("top-k(k=3, model='two')", ensemble()) if i == 2] == [1, 3]


def test_the_search_by_hand():
    # The second image's set is {1, 2}: the second model finds class 2 at depth 1. The first needs depth 2,
    # which asks about class 1 of the first image, too.
    e = ensemble(sets=[[0], [1, 2], []], usable=[True, True, False])
    pairs = get("proposer", "real-search(by='rank')")(e)
    assert pairs.about == {
        "models": {"two": 1},
        "search": "all",
        "searched_recall": 1.0,
        "searched_precision": 1.0,
    }
    assert listed(pairs) == [(0, 0, 1), (1, 2, 1), (2, 3, 1)]


def test_the_search_leaves_out_all_models_where_none_is_needed():
    e = ensemble(sets=[[0], [1], []], usable=[True, True, False])
    proposed = apply_rule(e, get("proposer", "real-search(by='rank')"))
    assert proposed.pairs.about["models"] == {}
    assert proposed.left_out.all()


def test_original_labels_are_added_and_agreed_images_left_out():
    proposed = apply_rule(ensemble(label=(0, 4, -1)), get("proposer", "union"))
    assert listed(proposed.pairs) == [(1, 1, 1), (1, 2, 1), (1, 4, 0), (2, 3, 1), (2, 4, 1)]
    assert proposed.label_only.tolist() == [False, False, True, False, False]
    assert proposed.left_out.tolist() == [True, False, False]


def test_what_is_left_out():
    deep = get("proposer", "union(k=2)")
    assert apply_rule(ensemble(), deep).left_out.tolist() == [False, False, False]
    assert apply_rule(ensemble(), deep, leave_out="models").left_out.tolist() == [True, False, False]
    everything = apply_rule(ensemble(), get("proposer", "union"), leave_out="nothing")
    assert everything.left_out.tolist() == [False, False, False]
    assert listed(everything.pairs)[0] == (0, 0, 2)


def test_coverage_by_hand():
    e = ensemble(sets=[[0, 3], [1, 2], [0]], usable=[True, True, False])
    c = count_coverage(e, apply_rule(e, get("proposer", "union")))
    # The first image is left out: its label stands, its class 3 is missed. The second asks two questions.
    assert (c.labels.tolist(), c.proposed.tolist()) == ([2, 2], [1, 2])
    assert (c.questions.tolist(), c.valid.tolist(), c.unasked.tolist()) == ([0, 2], [0, 2], [0, 0])


def test_questions_that_the_known_sets_do_not_answer():
    e = ensemble(sets=[[0], [1], []], usable=[True, True, False])
    e = replace(e, label_sets=replace(e.label_sets, asked_known=True))
    c = count_coverage(e, apply_rule(e, get("proposer", "union")))
    assert (c.valid.tolist(), c.unasked.tolist()) == ([0, 1], [0, 1])


def test_held_out_images_are_judged_by_rules_that_have_not_seen_them():
    e = random_ensemble(np.random.default_rng(0))
    seen = []

    def rule(e):
        seen.append(e.known_images)
        return get("proposer", "union")(e)

    known = e.known_images
    c = held_out(e, rule, folds=3)
    plain = count_coverage(e, apply_rule(e, rule))
    for name in ("labels", "proposed", "questions", "valid", "unasked"):
        assert np.array_equal(getattr(c, name), getattr(plain, name))
    for fold in range(3):
        assert np.array_equal(np.setdiff1d(known, seen[fold]), known[fold::3])


def test_a_searched_rule_is_less_precise_where_it_was_not_searched():
    worse = []
    for seed in range(5):
        e = random_ensemble(np.random.default_rng(seed), n=300)
        rule = get("proposer", "real-search(recall=0.95)")
        inside, outside = count_coverage(e, apply_rule(e, rule)), held_out(e, rule)
        worse.append(
            outside.proposed.sum() / outside.labels.sum() < inside.proposed.sum() / inside.labels.sum()
        )
    assert sum(worse) >= 4


def error_of(spec, e, **more):
    with pytest.raises(InputError) as error:
        apply_rule(e, get("proposer", spec), **more)
    return str(error.value)


def test_thresholds_of_ranks():
    expected = (
        "The predictions of one have no probabilities.\n"
        "  got:     only ranks\n"
        "  allowed: predictions with probabilities, such as those of manyhot predict\n"
        "  do:      use a rule that needs only ranks, such as union(k=5)"
    )
    ranks = ensemble(scores=False, sets=[[0], [1, 2], []])
    for spec in ("union(threshold=0.1)", "mean-probability", "label-errors", "real-search"):
        assert error_of(spec, ranks) == expected


def test_probabilities_of_scores():
    e = replace(ensemble(), probabilities=(None, None))
    assert error_of("union(threshold=0.1)", e) == (
        "The predictions of one have no probabilities.\n"
        "  got:     scores without their sum over all classes\n"
        "  allowed: predictions with probabilities, such as those of manyhot predict\n"
        "  do:      use a rule that needs only ranks, such as union(k=5)"
    )


def test_a_threshold_of_something_else():
    assert error_of("union(threshold=0.1, by='logit')", ensemble()) == (
        "A threshold cannot be applied to this.\n  got:     logit\n  allowed: probability, score"
    )


def test_a_model_without_a_threshold():
    assert error_of("union(threshold={'one': 0.1})", ensemble()) == (
        "The model 'two' has no threshold.\n  got:     one\n  allowed: one, two"
    )
    assert error_of("union(threshold={'one': 0.1, 'two': 0.1, 'tow': 0.2})", ensemble()) == (
        "There is a threshold for 'tow', but no predictions.\n  got:     one, two, tow\n  allowed: one, two"
    )


def test_lists_that_are_too_short():
    assert error_of("top-k(model='one')", ensemble()) == (
        "The lists of one are too short.\n"
        "  got:     3 classes per image\n"
        "  allowed: 20 or more\n"
        "  do:      predict again with manyhot predict --top 20, or lower `k`"
    )


def test_no_classes_at_all():
    assert error_of("union(k=0)", ensemble()) == (
        "The number of classes k is invalid.\n  got:     0\n  allowed: integers of at least 1"
    )


def test_one_model_of_several():
    assert error_of("top-k(k=2)", ensemble()) == (
        "The rule top-k needs a single model.\n"
        "  got:     2 models\n"
        "  allowed: one, two\n"
        '  do:      choose one: top-k(model="one")'
    )
    assert error_of("top-k(k=2, model='three')", ensemble()) == (
        "There are no predictions of 'three'.\n  allowed: one, two\n"
        '  do:      choose one: top-k(model="one")'
    )


def test_nothing_known():
    assert error_of("real-search", ensemble()) == (
        "The rule real-search needs known label sets.\n"
        "  got:     none\n"
        "  allowed: label sets or golden answers for some of the images\n"
        "  do:      pass them as `known_labels`"
    )
    assert error_of("mean-probability", ensemble()) == (
        "The rule mean-probability needs known label sets.\n"
        "  got:     none\n"
        "  allowed: label sets or golden answers for some of the images\n"
        "  do:      pass a threshold: mean-probability(threshold=0.05)"
    )


def test_recall_out_of_reach():
    e = ensemble(sets=[[0, 4], [1, 2], []], usable=[True, True, False])
    assert error_of("real-search(by='rank')", e) == (
        "No choice of models reaches this recall on the known label sets.\n"
        "  got:     recall 0.97\n"
        "  allowed: up to 0.7500, the recall of all models together\n"
        "  do:      lower the recall, add models, or predict longer lists"
    )
    assert error_of("mean-probability", e) == (
        "No threshold reaches this recall on the known label sets.\n"
        "  got:     recall 0.97\n"
        "  allowed: up to 0.7500, the recall of all listed classes\n"
        "  do:      lower the recall, add models, or predict longer lists"
    )


def test_recall_that_is_no_share():
    assert error_of("real-search(recall=97)", ensemble()) == (
        "The recall is not a share.\n  got:     97\n  allowed: above 0, at most 1"
    )


def test_nothing_to_fit_temperatures_on():
    assert error_of("mean-probability(threshold=0.1)", ensemble(label=(-1, -1, -1))) == (
        "There are no labels for fitting temperatures.\n"
        "  got:     no known label set and no original label\n"
        "  allowed: known label sets or original labels for some of the images"
    )


def test_another_kind_of_images_to_leave_out():
    assert error_of("union", ensemble(), leave_out="all") == (
        "Such images cannot be left out.\n  got:     all\n  allowed: proposals, models, nothing"
    )


def test_more_classes_than_a_block_holds():
    # 3,000,000 classes: one image a block.
    top = (np.array([[2_999_999, 0], [5, 6]], np.int32),)
    e = Ensemble(3_000_000, ("one",), top, (None,), (None,), np.array([1, 5], np.int32))
    assert listed(apply_rule(e, get("proposer", "union")).pairs) == [(0, 1, 0), (0, 2_999_999, 1)]


def test_pairs_are_kept_by_a_mask():
    pairs = Pairs(np.arange(3), np.arange(3, dtype=np.int32), np.arange(3.0), np.ones(3, np.int32), {"a": 1})
    kept = pairs.where(np.array([True, False, True]))
    assert (kept.image.tolist(), kept.about) == ([0, 2], {"a": 1})
