"""Models whose top class is best, but whose probabilities are far from the votes."""

import html
import re

import numpy as np
import pytest

from manyhot import compare, evaluate
from manyhot.data.inputs import Reading
from manyhot.evaluate.ranks import best_and_closest
from manyhot.evaluate.report.datasets import build_datasets
from manyhot.report.page import Anchors
from manyhot.tables import Results
from report_pages import number, results_table

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


def page_of(found, folder):
    """Return the text of the page from its overview on."""
    found.write(folder)
    text = re.sub(r"<(script|style).*?</\1>", "", (folder / "report" / "index.html").read_text(), flags=re.S)
    text = " ".join(html.unescape(re.sub("<[^>]+>", " ", text)).split())
    return text.partition(" Overview # ")[2]


def smoothed(one_hot):
    return 0.98 * one_hot + 0.02 / 3


def test_the_first_sentences_name_the_best_and_the_closest_of_two_models(votes, tmp_path):
    counts, p, one_hot = votes
    found = evaluate(counts, {"sure": smoothed(one_hot), "true": p}, reading=COUNTS)
    (note,) = about_votes(found)
    (line,) = (line for line in found.lines() if line.startswith("sure"))
    assert line.startswith(f"{note}. true is worse than sure by ")
    assert not any(note in shown for shown in found.notes)  # once is enough
    sentence = note.replace("real1", "ReaL").replace("kl_votes", "KL (votes)")
    assert page_of(found, tmp_path).startswith(f"{sentence}. true is worse than sure by ")
    for sentence in ("no class was found valid.", "or votes for one class are tied between them."):
        assert sentence in page_of(found, tmp_path)
    compared = compare(found)
    assert f"{note}." in list(compared.lines())


def test_the_first_sentence_on_three_models_names_both(votes, tmp_path):
    counts, p, one_hot = votes
    models = {"sure": smoothed(one_hot), "true": p, "flat": 0.5 * p + 0.5 / 3}
    found = evaluate(counts, models, reading=COUNTS)
    clause = about_votes(found)[0].partition(", ")[2].replace("kl_votes", "KL (votes)")
    page = page_of(found, tmp_path)
    assert page.partition("sure is best of 3 models by ReaL on ")[2].partition(clause)[2][:1] == "."
    assert page.index(clause) < page.index("Models on ")


def test_without_intervals_the_sentence_stands_alone(votes):
    counts, p, one_hot = votes
    found = evaluate(counts, {"sure": smoothed(one_hot), "true": p}, resamples=0, reading=COUNTS)
    assert f"{about_votes(found)[0]}." in list(found.lines())


def test_a_model_that_ties_with_the_best_and_is_closest_is_no_contradiction(votes):
    counts, p, _ = votes
    flat = 0.5 * p + 0.5 / 3  # the same top classes
    assert about_votes(evaluate(counts, {"flat": flat, "true": p}, reading=COUNTS)) == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"a": (0.8, 0.9), "b": (0.7, 0.1)}, ("a is best by real1", "b")),
        ({"a": (0.8, None), "b": (0.7, 0.1), "c": (0.6, 0.05)}, ()),  # nobody knows how far a is
        ({"a": (0.8, 0.9), "b": (0.8, 0.1)}, ()),  # both are best
        ({"a": (0.8, 0.1), "b": (0.7, 0.1)}, ()),
        ({"a": (0.8, None), "b": (0.7, None)}, ()),
    ],
)
def test_best_and_closest(values, expected):
    """The first number is real1, the second kl_votes; None if a model has no probabilities."""
    rows = [
        number("d", model, metric, "all", value, 100)
        for model, of in values.items()
        for metric, value in zip(("real1", "kl_votes"), of, strict=True)
        if value is not None
    ]
    found = best_and_closest(Results(results_table(rows)), "d")
    assert found[:1] == expected[:1]
    assert len(found) == len(expected)
    if found:
        assert f"probabilities of {expected[1]} are closest" in found[1]
