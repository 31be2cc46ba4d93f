"""CLIP's cosines × 100, declared as logits or as cosines."""

import numpy as np
import pytest

import manyhot
from manyhot.core.order_check import ALL_PREDICTED, NONE_PREDICTED
from manyhot.data.inputs import Reading
from manyhot.errors import InputError

K = 8


@pytest.fixture
def labels():
    return (np.random.default_rng(0).random((150, K)) < 0.3).astype(int)


@pytest.fixture
def cosines(labels):
    noise = np.random.default_rng(1).normal(0, 0.02, labels.shape)
    return (0.22 + 0.05 * labels + noise).astype(np.float32)


def find(labels, values, **reading):
    return manyhot.find_label_issues(labels, {"clip": values}, reading=Reading(**reading))


def diagnose(labels, values, **reading):
    return manyhot.diagnose_calibration(labels, {"clip": values}, reading=Reading(**reading))


def judge(labels, values, **reading):
    return manyhot.evaluate(labels, {"clip": values}, metrics=["f1_micro"], reading=Reading(**reading))


@pytest.mark.parametrize("run", [judge, find, diagnose])
def test_logits_that_predict_every_class_are_noted(labels, cosines, run):
    noted = [ALL_PREDICTED in str(note) for note in run(labels, 100 * cosines, scores="logit").notes]
    assert any(noted)
    quiet = (
        (100 * cosines - 25, {"scores": "logit"}),
        (100 * cosines, {"scores": "logit", "links": ["softmax"]}),
    )
    for values, reading in quiet:
        assert ALL_PREDICTED not in str(run(labels, values, **reading).notes)


@pytest.mark.parametrize("run", [judge, find, diagnose])
def test_logits_that_predict_no_class_are_noted(labels, run):
    noise = np.random.default_rng(1).normal(0, 0.05, labels.shape)
    p = np.clip(np.where(labels, 0.8, 0.1) + noise, 0.01, 0.99)
    noted = [NONE_PREDICTED in str(note) for note in run(labels, np.log(p), scores="logit").notes]
    assert any(noted)
    quiet = ((p, {"scores": "probability"}), (np.log(p / (1 - p)), {"scores": "logit"}))
    for values, reading in quiet:
        assert NONE_PREDICTED not in str(run(labels, values, **reading).notes)
    if run is judge:  # the way out that the note names
        assert run(labels, np.log(p), scores="logit").value("f1_micro") == 0
        assert run(labels, np.exp(np.log(p)), scores="probability").value("f1_micro") > 0.95


@pytest.mark.parametrize("run", [judge, find, diagnose])
def test_scaled_cosines_are_no_cosines(labels, cosines, run):
    with pytest.raises(InputError) as error:
        run(labels, 100 * cosines, scores="cosine")
    assert str(error.value).startswith("A cosine is not between -1 and 1.\n")
    assert str(error.value).endswith(
        f"  got:     {100 * cosines.max():g}\n  allowed: -1 to 1\n"
        "  do:      divide scaled cosines by their scale, or declare the kind with `scores`: logit or none"
    )


def test_what_to_do_with_cosines_where_probabilities_are_needed(labels, cosines):
    for run in (diagnose, lambda *args, **reading: manyhot.evaluate(*args, metrics=["ece_set"], **reading)):
        with pytest.raises(InputError) as error:
            run(labels, cosines, scores="cosine")
        assert str(error.value).endswith(
            "pass cosines, such as those of CLIP, multiplied by 100 as logits, with `links` softmax"
        )
