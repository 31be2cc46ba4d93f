"""Whether a shortcut is gone: never where the held-out images do not say so."""

import numpy as np
import pytest

from manyhot.core.companion_effects import Estimated
from manyhot.train.mitigate.held_out import HeldOutMetric
from manyhot.train.mitigate.mitigation_result import all_gone, best_treatment, sentences
from manyhot.train.mitigate.verdict import reason_of, removal_verdict

ALL = (50, 50, 500, 500)


def metrics(hits=None, **values):
    """Return metrics from value, lower and upper end; the rates from the two rates."""
    return {
        name: HeldOutMetric(Estimated(*ends, 100), np.zeros(3), hits if name == "lost_fitted" else None)
        for name, ends in values.items()
    }


def rates(with_it, without):
    return {"called_with": (with_it, 0, 1), "called_without": (without, 0, 1)}


def told(recall, hallucination, called=(0.03, 0.03), **more):
    return metrics(recall_gap=recall, hallucination_gap=hallucination, **rates(*called), **more)


DEPENDS = told((0.9, 0.8, 0.95), (0.8, 0.75, 0.85), (0.8, 0.0))


@pytest.mark.parametrize(
    ("recall", "hallucination", "called", "verdict"),
    [
        ((0.02, -0.1, 0.14), (0.0, -0.01, 0.01), (0.03, 0.03), "gone"),
        ((0.02, -0.1, 0.14), (0.005, -0.01, 0.02), (0.035, 0.03), "gone"),
        # 1.33 times as often: the interval contains 0, but this is no all-clear.
        ((0.02, -0.1, 0.14), (0.01, -0.01, 0.03), (0.04, 0.03), "partly gone"),
        # Up to 2 points more, or up to twice as many, may be left; here up to 2.8 points of 2.8 and of 2.3 %.
        ((0.02, -0.1, 0.14), (-0.005, -0.04, 0.028), (0.023, 0.028), "gone"),
        ((0.02, -0.1, 0.14), (-0.005, -0.04, 0.028), (0.018, 0.023), "not judged"),
        # Too few images: up to 30 points may be left.
        ((0.02, -0.26, 0.31), (0.0, -0.01, 0.01), (0.03, 0.03), "not judged"),
        ((0.2, 0.05, 0.35), (0.0, -0.01, 0.01), (0.03, 0.03), "partly gone"),
        ((0.02, -0.1, 0.14), (0.05, 0.02, 0.08), (0.08, 0.03), "partly gone"),
        ((0.8, 0.7, 0.9), (0.78, 0.7, 0.83), (0.78, 0.0), "not gone"),
        # Overshot: now the companion speaks against the class.
        ((-0.4, -0.5, -0.3), (0.0, -0.01, 0.01), (0.03, 0.03), "partly gone"),
        ((-0.1, -0.17, -0.03), (0.0, -0.01, 0.01), (0.03, 0.03), "partly gone"),
    ],
)
def test_what_is_said_of_a_treated_head(recall, hallucination, called, verdict):
    assert removal_verdict(told(recall, hallucination, called), DEPENDS, ALL) == verdict


def test_no_all_clear_at_the_cost_of_images_without_the_companion():
    """Newcombe's paired interval of 70 of 100 instead of 80 of the same is below 0; of 78, it is not."""

    def right(n):
        own = told((0.02, -0.1, 0.14), (0.0, -0.01, 0.01))
        hits = np.arange(100) < n
        return own | {"accuracy_without": HeldOutMetric(Estimated(n / 100, 0, 1, 100), np.zeros(3), hits)}

    before = DEPENDS | {"accuracy_without": right(80)["accuracy_without"]}
    assert removal_verdict(right(78), before, ALL) == "gone"
    assert removal_verdict(right(70), before, ALL) == "partly gone"


def test_what_is_said_of_the_head_without_treatment():
    assert removal_verdict(DEPENDS, None, ALL) == "present"
    clean = told((0.02, -0.1, 0.14), (0.0, -0.01, 0.01))
    assert removal_verdict(clean, None, ALL) == "not present"
    hidden = told((-0.1, -0.17, -0.03), (0.0, -0.01, 0.01))
    assert removal_verdict(hidden, None, ALL) == "not present"


def test_where_only_the_fill_was_learnt():
    """Lost under the fill fitted on falls from 40 of 40 to 0; gaps on original images stay."""
    before = DEPENDS | metrics(np.ones(40, bool), lost_fitted=(1.0, 0.9, 1.0))
    after = told((0.83, 0.7, 0.9), (0.78, 0.7, 0.83), (0.78, 0.0))
    after |= metrics(np.zeros(40, bool), lost_fitted=(0.0, 0.0, 0.1))
    assert removal_verdict(after, before, ALL) == "replaced by the fill"


@pytest.mark.parametrize("counts", [(50, 0, 500, 500), (50, 50, 0, 500)])
def test_without_counterexamples_pasted_objects_and_the_other_fill_judge(counts):
    """If no held-out image shows one class alone, altered images judge, unless heads were fitted on such."""
    clean = told((np.nan,) * 3, (0.0, -0.01, 0.01)) if counts[1] == 0 else told((0.02, -0.1, 0.14), (0, 0, 0))
    clean |= metrics(pasted_gap=(0.0, -0.01, 0.01), lost=(0.05, 0.01, 0.1))
    if counts[1] == 0:
        # Something is always lost by a hole, so the other fill alone never says that nothing is.
        assert removal_verdict(clean, DEPENDS, counts) != "gone"
    else:
        assert removal_verdict(clean, DEPENDS, counts) == "gone"
        assert removal_verdict(clean, DEPENDS, counts, pasted=True) == "not judged"


FEW = (50, 9, 4, 300)
"""Held-out images, too few of which show one of the two alone."""


@pytest.mark.parametrize(
    ("gap", "pasted", "verdict"),
    [
        ((0.116, 0.067, 0.176), False, "not gone"),
        ((-0.006, -0.01, 0.01), False, "gone"),
        # What heads were fitted on shows a dependence that is left, but never that there is none.
        ((0.05, 0.02, 0.09), True, "partly gone"),
        ((0.16, 0.1, 0.2), True, "not gone"),
        ((-0.006, -0.01, 0.01), True, "not judged"),
    ],
)
def test_images_like_those_that_a_head_was_fitted_on_only_show_what_is_left(gap, pasted, verdict):
    lost = metrics(lost=(0.02, -0.01, 0.06))
    before = lost | metrics(pasted_gap=(0.17, 0.12, 0.24))
    assert removal_verdict(before, None, FEW) == "present"
    assert removal_verdict(lost | metrics(pasted_gap=gap), before, FEW, pasted=pasted) == verdict


def by_patches(gap, recall=(0.02, -0.08, 0.12), pasted=0.03, without=0.03, patched=0.03, **more):
    """What is measured if companions of other held-out images and patches judge."""
    called = metrics(called_pasted=(pasted, 0, 1), called_without=(without, 0, 1))
    called |= metrics(called_patched=(patched, 0, 1))
    return called | metrics(patched_gap=gap, patched_recall_gap=recall, lost=(0.1, 0.06, 0.2), **more)


WITH_TAG = by_patches((0.6, 0.5, 0.7), (0.7, 0.6, 0.8), 0.6, 0.0)


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        # A hole loses 10 % of the images of the class; a patch of other content instead of the tag, 2 %.
        (by_patches((0.0, -0.01, 0.01)), "gone"),
        (by_patches((0.05, 0.02, 0.08), pasted=0.08), "partly gone"),
        (by_patches((0.5, 0.4, 0.6), (0.6, 0.5, 0.7), 0.5), "not gone"),
        (by_patches((0.0, -0.01, 0.01), (0.1, 0.01, 0.2)), "partly gone"),
        # The patch may itself resemble the class, or hide it: 1.33 times as often as without, or as with it.
        (by_patches((-0.01, -0.02, 0.01), pasted=0.04, patched=0.05), "partly gone"),
        (by_patches((0.01, -0.01, 0.02), pasted=0.04, without=0.05), "partly gone"),
        (by_patches((-0.03, -0.05, -0.01)), "gone"),
        (by_patches((-0.03, -0.05, -0.01), pasted_gap=(-0.03, -0.05, -0.01)), "partly gone"),
        (by_patches((0.0, -0.04, 0.04)), "not judged"),
    ],
)
def test_without_counterexamples_companions_of_held_out_images_and_patches_judge(after, verdict):
    assert removal_verdict(WITH_TAG, None, FEW) == "present"
    assert removal_verdict(after, WITH_TAG, FEW, pasted=True) == verdict


def test_copies_that_do_not_act_on_the_untreated_head_show_nothing():
    before = by_patches((0.0, -0.01, 0.01), (0.7, 0.6, 0.8))
    after = by_patches((0.0, -0.01, 0.01))
    assert removal_verdict(before, None, FEW) == "present"
    assert removal_verdict(after, before, FEW, pasted=True) == "not judged"
    assert reason_of("not judged", after, before, FEW, ("dog", "tag"), pasted=True) == (
        "tag pasted in hardly changes the head without treatment. Add images, or hold out more."
    )


def test_original_images_come_before_patches_of_which_the_narrower_interval_decides():
    clean = told((0.02, -0.1, 0.14), (0.0, -0.01, 0.01)) | by_patches((0.5, 0.4, 0.6))
    assert removal_verdict(clean, DEPENDS, ALL) == "gone"
    counts, after = (17, 14, 2, 155), by_patches((0.0, -0.01, 0.01))
    wide, surely = metrics(recall_gap=(0.17, -0.11, 0.44)), metrics(recall_gap=(0.3, 0.1, 0.5))
    assert removal_verdict(after | wide, WITH_TAG, counts, pasted=True) == "gone"
    assert removal_verdict(after | surely, WITH_TAG, counts, pasted=True) == "partly gone"


@pytest.mark.parametrize(("n", "verdict"), [(795, "gone"), (750, "partly gone")])
def test_an_accuracy_that_is_surely_more_than_two_points_lower_is_no_all_clear(n, verdict):
    """Of 1,000 images, 800 before; Newcombe's paired interval of 750 ends at -3.6 points."""

    def right(n):
        hits = np.arange(1000) < n
        return {"accuracy_patched": HeldOutMetric(Estimated(n / 1000, 0, 1, 1000), np.zeros(3), hits)}

    after, before = by_patches((0.0, -0.01, 0.01)) | right(n), WITH_TAG | right(800)
    assert removal_verdict(after, before, FEW, pasted=True) == verdict


def test_without_enough_images_the_treatment_with_the_least_effect_of_pasting_is_described():
    rows = [
        {"treatment": treatment, "metric": name, "value": value, "n": n, "verdict": verdict}
        for treatment, verdict, hallucination, pasted in (
            ("none", "present", 0.0, 0.12),
            ("reweighting", "not judged", -0.2, 0.08),
            ("uncapped augmentation", "not judged", 0.0, -0.006),
        )
        for name, value, n in (
            ("called_with", 0.0, 4),
            ("hallucination_gap", hallucination, 304),
            ("pasted_gap", pasted, 150),
        )
    ]
    assert best_treatment(rows) == "uncapped augmentation"


def test_the_sentence_names_what_pasting_shows_if_too_few_images_show_the_companion_alone():
    rows = [
        {
            "main_name": "dog",
            "companion_name": "tag",
            "model": "net",
            "treatment": treatment,
            "verdict": verdict,
        }
        | {"metric": name, "value": value, "lo": lo, "hi": hi, "n": n}
        for treatment, verdict, gap in (
            ("none", "present", (0.174, 0.116, 0.242)),
            ("augmentation", "not judged", (0.026, -0.005, 0.066)),
        )
        for name, (value, lo, hi), n in (
            ("called_with", (0.0, 0.0, 0.66), 2),
            ("called_without", (0.019, 0.005, 0.055), 155),
            ("pasted_gap", gap, 155),
        )
    ]
    (said,) = sentences(rows)
    assert said.endswith(
        "If tag is pasted into 155 images without dog, dog is predicted more often by 2.6 (−0.5 to 6.6) "
        "points, before by 17.4 (11.6 to 24.2)."
    )


@pytest.mark.parametrize(
    ("gap", "verdict"),
    [
        ((-0.01, -0.04, 0.02), "gone"),
        # Pasting anything hides a part of some images: up to 2 points show no dependence.
        ((-0.03, -0.06, -0.01), "gone"),
        # The recall gap of 100 images contains 0, but the same images are recognised less often with it.
        ((-0.1, -0.15, -0.04), "partly gone"),
        ((0.06, 0.02, 0.1), "partly gone"),
    ],
)
def test_the_same_images_of_the_class_with_and_without_the_companion(gap, verdict):
    before = DEPENDS | metrics(pasted_recall_gap=(0.9, 0.8, 0.95))
    after = told((-0.05, -0.18, 0.09), (0.0, -0.015, 0.016), (0.026, 0.026)) | metrics(pasted_recall_gap=gap)
    assert removal_verdict(after, before, ALL) == verdict
    few = {k: HeldOutMetric(Estimated(*gap, 9), m.samples) for k, m in metrics(pasted_recall_gap=gap).items()}
    assert removal_verdict(after | few, before, ALL) == "gone"


def test_one_image_that_is_lost_is_no_shortcut():
    """1 of 47: the lower end of a share is above 0 as soon as one image is lost, if only by the hole."""
    counts = (47, 7, 200, 200)
    clean = told((-0.1, -0.3, 0.3), (0.0, -0.01, 0.01)) | metrics(lost=(0.021, 0.001, 0.111))
    assert removal_verdict(clean, None, counts) == "not judged"
    missing = reason_of("not judged", clean, None, counts, ("dog", "frame"))
    assert missing == (
        "2.1 % of images lose the class without the companion, which may be due to the hole itself. "
        "Add images, or hold out more."
    )
    surely = clean | metrics(lost=(0.3, 0.19, 0.44))
    assert removal_verdict(surely, None, counts) == "present"
    assert removal_verdict(clean, surely, counts) == "not judged"


def test_a_companion_that_speaks_against_the_class():
    before = told((-0.5, -0.6, -0.4), (-0.2, -0.3, -0.1), (0.0, 0.2))
    after = told((-0.02, -0.14, 0.1), (-0.01, -0.03, 0.01), (0.02, 0.03))
    assert removal_verdict(before, None, ALL, negative=True) == "present"
    assert removal_verdict(after, before, ALL, negative=True) == "gone"


def row(treatment, verdict, metric, value, n=100):
    names = {"main_name": "dog", "companion_name": "frame", "model": "net, softmax"}
    ends = {"lo": value - 0.01, "hi": value + 0.01}
    return (
        names | {"treatment": treatment, "verdict": verdict, "metric": metric, "value": value, "n": n} | ends
    )


def rows(treatment, verdict, with_it, without, gap, top1, reason=None):
    values = {"called_with": with_it, "called_without": without, "recall_gap": gap, "top1": top1}
    return [row(treatment, verdict, metric, value) | {"reason": reason} for metric, value in values.items()]


def test_the_first_sentence():
    none = rows("none", "present", 0.79, 0.0, 0.9, 0.48)
    replaced = "less is lost with the fill used for fitting, but not on original images"
    capped = rows("augmentation", "replaced by the fill", 0.77, 0.0, 0.8, 0.483, replaced)
    whole = rows("uncapped augmentation", "gone", 0.031, 0.029, 0.02, 0.7)
    numbers = (
        "Images without dog are called dog in 3.1 % of 100 cases with frame (79.0 % before), and in 2.9 % "
        "of 100 cases without frame. Recall gap 2 (1 to 3) points. Top-1 70.0 % (48.0 % before)."
    )
    head = "dog and frame, net, softmax: "
    start = f"{head}a shortcut was present, and it is "
    assert list(sentences(none + capped + whole)) == [f"{start}gone with uncapped augmentation. {numbers}"]
    (said,) = sentences(none + capped)
    assert said.startswith(
        f"{start}not gone, but replaced by the fill with augmentation: {replaced}. "
        "Images without dog are called dog in 77.0 % of 100"
    )
    (said,) = sentences(none)
    assert said.startswith(f"{start}not gone, because no treatment is possible. ")
    absent = rows("none", "not present", 0.03, 0.03, 0.0, 0.7)
    (said,) = sentences(absent + whole)
    assert said.startswith("dog and frame, net, softmax: the head without treatment shows no shortcut. ")
    partly = rows("augmentation", "partly gone", 0.2, 0.03, 0.3, 0.6, "dog is predicted more often")
    unknown = rows("augmentation", "not judged", 0.2, 0.03, 0.3, 0.6, "too few.")
    few = "9 images are too few to show whether any of it is left"
    (said,) = sentences(none + rows("augmentation", "partly gone", 0.2, 0.03, 0.3, 0.6, few))
    assert said.startswith(
        f"{start}at least partly gone, but perhaps not fully, with augmentation: {few}. Images "
    )
    (said,) = sentences(none + partly)
    why = "with augmentation: dog is predicted more often. Images without dog"
    assert said.startswith(f"{start}not gone, but only partly gone {why}")
    (said,) = sentences(none + unknown)
    undecided = "is not judged: too few. Images without dog are called dog in 20.0 %"
    assert said.startswith(f"{head}a shortcut was present. Whether it is gone with augmentation {undecided}")


def test_among_equal_verdicts_what_is_left_of_the_shortcut_decides():
    """An overshoot is no part of the shortcut; where nothing is left, fewer called the class is better."""
    none = rows("none", "present", 0.79, 0.0, 0.9, 0.48)
    capped = rows("augmentation", "partly gone", 0.18, 0.05, 0.1, 0.6)
    overshot = rows("uncapped augmentation", "partly gone", 0.01, 0.05, -0.4, 0.6)
    assert best_treatment(none + capped + overshot) == "uncapped augmentation"
    capped = rows("augmentation", "gone", 0.05, 0.05, -0.01, 0.6)
    other = rows("uncapped augmentation", "gone", 0.03, 0.03, -0.02, 0.6)
    assert best_treatment(none + capped + other) == "uncapped augmentation"
    against = rows("none", "present", 0.0, 0.2, -0.5, 0.48)
    assert best_treatment(against + capped + overshot) == "augmentation"
    hidden = rows("none", "not present", 0.02, 0.05, -0.08, 0.6)
    assert best_treatment(hidden + capped + other) == "uncapped augmentation"


def test_the_first_sentence_is_about_a_treated_head():
    """Neither head is judged, and the untreated one has smaller gaps: the sentence is about the other."""
    few = "3 held-out images show frame without dog, and 10 are needed. Add such images."
    none = [r | {"reason": few} for r in rows("none", "not judged", 0.0, 0.04, 0.0, 0.9)]
    treated = [r | {"reason": few} for r in rows("augmentation", "not judged", 0.0, 0.04, 0.1, 0.9)]
    (said,) = sentences(none + treated)
    head = "dog and frame, net, softmax: whether a shortcut was present"
    assert said.startswith(f"{head}, and whether it is gone with augmentation, is not judged: {few} Images ")
    assert best_treatment(none) == ""
    (said,) = sentences(none)
    assert said.startswith(f"{head} is not judged: {few} No treatment is possible. Images ")
    (said,) = sentences(none + rows("augmentation", "gone", 0.03, 0.03, 0.0, 0.9))
    assert said.startswith(f"{head} is not judged: {few} With augmentation, there is none. Images ")
    (said,) = sentences(none + rows("augmentation", "not gone", 0.9, 0.03, 0.9, 0.9, "dog is missed"))
    assert said.startswith(
        f"{head} is not judged: {few} With augmentation, it is not gone: dog is missed. Images "
    )


@pytest.mark.parametrize(
    ("recall", "hallucination", "called", "counts", "missing"),
    [
        (
            (0.02, -0.1, 0.14),
            (0.0, -0.01, 0.01),
            (0.03, 0.03),
            (50, 50, 3, 500),
            "3 held-out images show frame without dog, and 10 are needed. Add such images",
        ),
        (
            (0.02, -0.1, 0.14),
            (0.0, -0.01, 0.01),
            (0.03, 0.03),
            (50, 1, 500, 9),
            "9 held-out images show neither dog nor frame, and 10 are needed; 1 held-out image shows dog "
            "without frame, and 10 are needed. Add such images",
        ),
        (
            (0.02, -0.26, 0.31),
            (0.0, -0.01, 0.01),
            (0.03, 0.03),
            ALL,
            "the interval of the recall gap reaches 31.0 points, and at most 30 points are allowed. "
            "Add images",
        ),
        (
            (0.02, -0.1, 0.14),
            (-0.005, -0.04, 0.028),
            (0.018, 0.023),
            ALL,
            "the interval of the hallucination gap reaches 2.8 points, and at most 2.3 points are allowed. "
            "Add images",
        ),
    ],
)
def test_what_is_missing(recall, hallucination, called, counts, missing):
    measured = told(recall, hallucination, called)
    assert removal_verdict(measured, DEPENDS, counts) == "not judged"
    said = reason_of("not judged", measured, DEPENDS, counts, ("dog", "frame"))
    assert said == f"{missing}, or hold out more."


def test_what_is_missing_if_the_head_without_treatment_is_not_judged():
    measured = told((0.02, -0.1, 0.14), (0.01, -0.01, 0.03), (0.04, 0.03))
    assert removal_verdict(measured, None, ALL) == "not judged"
    assert removal_verdict(measured, measured, ALL) == "not judged"  # nor is the treated one: none was there
    assert reason_of("not judged", measured, None, ALL, ("dog", "frame")) == (
        "images without dog are called dog 1.33 times as often with frame as without it (4.0 % and 3.0 %); "
        "the limit is 1.2 times. Add images, or hold out more."
    )


def test_the_next_step_depends_on_what_is_left():
    none, gone = (rows(t, v, 0.1, 0.1, 0.1, 0.9) for t, v in (("none", "present"), ("augmentation", "gone")))
    assert all_gone(none + gone)
    assert not all_gone(none + gone + [r | {"main_name": "cat"} for r in none])
    assert all_gone(rows("none", "not present", 0.1, 0.1, 0.1, 0.9))
    assert not all_gone(none + rows("augmentation", "not judged", 0.1, 0.1, 0.1, 0.9))


SMALL = told((0.02, -0.1, 0.14), (0.0, -0.01, 0.01))
OTHERS = "images without dog are called dog"
GAP = "dog is predicted {} often on its images with frame than without (recall gap {} points)"


@pytest.mark.parametrize(
    ("measured", "counts", "verdict", "reason"),
    [
        (
            told((0.02, -0.1, 0.14), (0.013, -0.002, 0.02), (0.015, 0.002)),
            ALL,
            "partly gone",
            "the hallucination gap, 80.0 points before, is now at most 2.0 points, and 100 images are too "
            "few to show whether any of it is left",
        ),
        (
            told((0.02, -0.1, 0.14), (0.01, -0.002, 0.02), (0.01, 0.0)),
            ALL,
            "partly gone",
            "the hallucination gap, 80.0 points before, is now at most 2.0 points, and 100 images are too "
            "few to show whether any of it is left",
        ),
        (
            told((0.2, 0.05, 0.35), (0.0, -0.01, 0.01)),
            ALL,
            "partly gone",
            GAP.format("more", "20.0 (5.0 to 35.0)"),
        ),
        (
            told((-0.4, -0.5, -0.3), (0.0, -0.01, 0.01)),
            ALL,
            "partly gone",
            GAP.format("less", "−40.0 (−50.0 to −30.0)"),
        ),
        (
            told((0.8, 0.7, 0.9), (0.78, 0.7, 0.83), (0.78, 0.0)),
            ALL,
            "not gone",
            f"{OTHERS} more often with frame than without (hallucination gap 78.0 (70.0 to 83.0) points); "
            f"{GAP.format('more', '80.0 (70.0 to 90.0)')}; {OTHERS} on 78.0 % with frame, and on none "
            "without it",
        ),
        (
            SMALL | metrics(pasted_recall_gap=(-0.1, -0.15, -0.04)),
            ALL,
            "partly gone",
            "dog is predicted less often on its images after frame is pasted in (recall gap with a pasted "
            "companion −10.0 (−15.0 to −4.0) points)",
        ),
        (
            metrics(pasted_gap=(0.05, 0.02, 0.08), recall_gap=(0.02, -0.1, 0.14)),
            (50, 50, 0, 500),
            "partly gone",
            f"{OTHERS} more often after frame is pasted in (gap with a pasted companion 5.0 (2.0 to 8.0) "
            "points)",
        ),
        (
            metrics(hallucination_gap=(0.0, -0.01, 0.01), lost=(0.3, 0.19, 0.44), **rates(0.03, 0.03)),
            (50, 0, 500, 500),
            "partly gone",
            "dog is lost without frame on more images than the 5 % that any hole costs (share lost without "
            "the companion 30.0 (19.0 to 44.0) %)",
        ),
        (SMALL, ALL, "gone", ""),
    ],
)
def test_the_reason_of_a_verdict(measured, counts, verdict, reason):
    """Both gaps of the first contain 0; all others have the interval that decides."""
    before = DEPENDS | metrics(pasted_gap=(0.8, 0.7, 0.9), lost=(0.9, 0.8, 0.95))
    before |= metrics(pasted_recall_gap=(0.9, 0.8, 0.95))
    assert removal_verdict(measured, before, counts) == verdict
    assert reason_of(verdict, measured, before, counts, ("dog", "frame")) == reason


def test_the_reason_if_only_the_fill_was_learnt_or_the_accuracy_is_lower():
    before = DEPENDS | metrics(np.ones(40, bool), lost_fitted=(1.0, 0.9, 1.0))
    after = told((0.83, 0.7, 0.9), (0.78, 0.7, 0.83), (0.78, 0.0))
    after |= metrics(np.zeros(40, bool), lost_fitted=(0.0, 0.0, 0.1))
    verdict = removal_verdict(after, before, ALL)
    reason = reason_of(verdict, after, before, ALL, ("dog", "frame"))
    assert verdict == "replaced by the fill"
    assert reason.startswith(
        f"less is lost with the fill used for fitting, but not on original images; {OTHERS} more often"
    )

    def right(n):
        hits = np.arange(100) < n
        return {"accuracy_without": HeldOutMetric(Estimated(n / 100, 0, 1, 100), np.zeros(3), hits)}

    # Newcombe's paired interval, his method 10, of 80 and 70 of 100 where all 70 are among the 80.
    said = reason_of("partly gone", SMALL | right(70), DEPENDS | right(80), ALL, ("dog", "frame"))
    assert said.startswith("the accuracy on images without frame is lower than without treatment (−10.0 (−")
