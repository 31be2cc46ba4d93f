"""Aggregation of the published votes on bluebirds (Welinder et al. 2010), with their truth."""

import re

import numpy as np
import pytest

from manyhot.core.aggregation import majority
from manyhot.core.answers import Answers
from manyhot.core.dawid_skene import auto, dawid_skene, one_coin


@pytest.fixture(scope="module")
def bluebirds(published):
    """Return 39 raters' answers to 108 questions, and the truth of each."""
    text = published("demo/bluebirds/labels.yaml").read_text()
    truth = dict(re.findall(r"(\d+): (true|false)", published("demo/bluebirds/gt.yaml").read_text()))
    number = {image: i for i, image in enumerate(sorted(truth))}
    raters = re.findall(r"\d+: \{([^}]*)\}", text)
    rows = [
        (number[image], r, 2 * (answer == "true"))
        for r, row in enumerate(raters)
        for image, answer in re.findall(r"(\d+): (true|false)", row)
    ]
    question, rater, answer = np.array(rows).T
    answers = Answers(question, rater, answer.astype(np.int8), len(number), len(raters))
    return answers, np.array([truth[image] == "true" for image in number])


def test_the_files_are_those_of_the_paper(bluebirds):
    answers, truth = bluebirds
    assert (answers.n_questions, answers.n_raters, len(answers), truth.sum()) == (108, 39, 108 * 39, 48)


# Published values: majority 75.93 %, Dawid-Skene 89.81 %. One-coin must not be worse than the majority,
# although its likelihood alone is highest where nearly all birds are of one kind, with 58.3 % right.
@pytest.mark.parametrize(("method", "least"), [(majority, 82), (auto, 97), (dawid_skene, 97), (one_coin, 82)])
def test_right_answers(bluebirds, method, least):
    answers, truth = bluebirds
    right = np.count_nonzero((method(answers).p > 0.5) == truth)
    assert right >= least


def test_auto_does_not_believe_one_coin(bluebirds):
    assert auto(bluebirds[0]).weights["one-coin"] < 0.05
