"""The tables that pictures of confidence are drawn from, against counts by hand."""

import numpy as np
import pytest

from manyhot import evaluate
from manyhot.data.inputs import Reading
from manyhot.errors import InputError
from manyhot.tables import check
from proportions import proportion_ends


@pytest.fixture(scope="module")
def judged():
    """Ten images at 0.9, valid in nine, labelled so in six; two at 0.6; one unlabelled, one without a set."""
    sets = [[0]] * 6 + [[0, 1]] * 3 + [[1]] + [[0], [1]] + [[0], []]
    label = [0] * 6 + [1] * 4 + [0, 1] + [-1, 0]
    p = np.array([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 2 + [[0.9, 0.1]] * 2, np.float32)
    ranks = np.zeros((14, 1), int)
    reading = Reading(label=label, trust_order=True, n_classes=2, scores="probability")
    return evaluate(sets, {"sure": p, "ranks": ranks}, resamples=0, reading=reading)


def rows(table, **wanted):
    return [r for r in table.to_pylist() if all(r[k] == v for k, v in wanted.items())]


def test_bins_count_images_that_have_both(judged):
    table = check(judged.confidence["reliability"], "reliability")
    assert set(table["model"].to_pylist()) == {"sure"}
    for event, right in (("label", 6), ("set", 9)):
        whole, low, high = rows(table, event=event)
        assert (whole["from"], whole["to"], whole["n"]) == (0, 1, 12)
        assert whole["confidence"] == pytest.approx((10 * 0.9 + 2 * 0.6) / 12, abs=1e-6)
        assert whole["right"] == pytest.approx((right + 1) / 12)
        assert (low["from"], low["to"], low["n"]) == (9 / 15, 10 / 15, 2)
        assert (high["from"], high["to"], high["n"]) == (13 / 15, 14 / 15, 10)
        assert high["right"] == pytest.approx(right / 10)
        assert (high["lo"], high["hi"]) == pytest.approx(proportion_ends(right, 10))


def test_risk_by_coverage(judged):
    table = check(judged.confidence["risk_coverage"], "risk_coverage")
    for event, wrong in (("label", 4), ("set", 1)):
        sure, everything = rows(table, event=event)
        assert (sure["n"], everything["n"]) == (10, 12)
        assert sure["coverage"] == pytest.approx(10 / 12)
        assert sure["risk"] == pytest.approx(wrong / 10)
        assert sure["confidence"] == pytest.approx(0.9, abs=1e-6)
        assert everything["risk"] == pytest.approx((wrong + 1) / 12)


def test_a_curve_has_a_hundred_points_and_ends_at_all_images():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(1000, 5)).astype(np.float32)
    label = rng.integers(0, 5, 1000)
    judged = evaluate(label, logits, resamples=0, reading=Reading(scores="logit", trust_order=True))
    found = rows(judged.confidence["risk_coverage"], event="label")
    assert [r["n"] for r in found] == list(range(10, 1001, 10))
    confidence = np.exp(logits).max(1) / np.exp(logits).sum(1)
    surest = np.argsort(-confidence)[:300]
    assert found[29]["risk"] == pytest.approx(np.mean(logits.argmax(1)[surest] != label[surest]))
    assert found[29]["confidence"] == pytest.approx(confidence[surest[-1]], abs=1e-6)


def test_probabilities_that_are_none_are_refused(tmp_path):
    """Also where no metric of probabilities was asked for, and for the first of several files."""
    bad = np.full((3, 2), [0.5, 3.0], np.float32)
    np.save(tmp_path / "bad.npy", bad)
    for given, where in (
        ({"bad": bad}, "bad, image 0"),
        (tmp_path / "bad.npy", f"{tmp_path / 'bad.npy'}, image 0"),
    ):
        with pytest.raises(InputError) as error:
            evaluate([[0], [1], [0]], given, rows=["0", "1", "2"], n_classes=2, scores="probability")
        assert str(error.value) == (
            "A probability is not between 0 and 1.\n"
            f"  where:   {where}\n"
            "  got:     3\n"
            "  allowed: 0 to 1\n"
            "  do:      divide percentages by 100, or "
            "declare the kind with `scores`: logit, probability or none; a list of logits needs "
            "logsumexp over all classes"
        )
