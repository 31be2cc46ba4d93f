"""Models whose top class is best, but whose probabilities are far from the votes."""

import numpy as np
import pytest

from manyhot import evaluate
from manyhot.data.inputs import Reading
from manyhot.evaluate.report.datasets import build_datasets
from manyhot.report.page import Anchors

COUNTS = Reading(scores="probability", label_values="counts")
N = 400


@pytest.fixture(scope="module")
def votes():
    """Return counts, the probabilities they were drawn from, and the class with the most votes."""
    rng = np.random.default_rng(0)
    p = rng.dirichlet([4, 3, 1], N)
    counts = np.array([rng.multinomial(40, row) for row in p])
    return counts, p, np.eye(3)[counts.argmax(1)]


def about_votes(found):
    return [note.text for note in found.model_notes if note.kind == "votes"]


def test_a_note_names_the_model_that_is_closest_to_the_votes(votes):
    counts, p, one_hot = votes
    sure = 0.98 * one_hot + 0.02 / 3
    found = evaluate(counts, {"sure": sure, "true": p}, reading=COUNTS)
    share = counts / 40
    kl = [(share * (np.log(np.where(share > 0, share, 1)) - np.log(q))).sum(1).mean() for q in (p, sure)]
    assert about_votes(found) == [
        "sure is best by real1, but the probabilities of true are closest to the votes: "
        f"kl_votes is {kl[0]:.3f} instead of {kl[1]:.3f}"
    ]
    assert {"kl_votes", "tv_votes", "ece_votes"} <= set(found._blocks[0].head)


def test_there_is_no_note_if_the_best_model_is_also_the_closest(votes):
    counts, p, _ = votes
    other = 0.5 * p + 0.5 / 3
    other[::4] = other[::4][:, [1, 0, 2]]
    assert about_votes(evaluate(counts, {"true": p, "other": other}, reading=COUNTS)) == []


def test_there_is_no_note_within_noise(votes):
    counts, p, _ = votes
    rng = np.random.default_rng(1)
    twins = [p * np.exp(rng.normal(0, 0.2, p.shape)) for _ in range(2)]
    one, two = (q / q.sum(1, keepdims=True) for q in twins)
    found = evaluate(counts, {"one": one, "two": two}, metrics=["real1", "kl_votes"], reading=COUNTS)
    pair = found.pairs.to_pylist()
    (p_adjusted,) = [r["p_adjusted"] for r in pair if r["metric"] == "kl_votes"]
    assert p_adjusted > 0.05
    assert about_votes(found) == []


def test_the_first_table_of_the_page_shows_the_metrics_against_votes(votes):
    counts, p, one_hot = votes
    found = evaluate(counts, {"sure": 0.98 * one_hot + 0.02 / 3, "true": p}, resamples=0, reading=COUNTS)
    (data,) = build_datasets(found.as_results().table, found.pairs, (), Anchors())
    assert {"real1", "kl_votes", "tv_votes", "ece_votes"} <= {c.metric.name for c in data.columns if c.shown}
