"""`history` of `aggregate`: raters of an earlier campaign, for both kinds of votes."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from tests.helpers.choice_campaigns import campaign, right
from typer.testing import CliRunner

import manyhot as mh
from manyhot import cli
from manyhot.errors import InputError
from manyhot.tables import metadata, read

SKILL = {"ann": (0.95, 0.9), "bob": (0.6, 0.55), "cem": (0.6, 0.65), "dot": (0.9, 0.5), "eve": (0.55, 0.6)}
"""Specificity and sensitivity."""


def answers(n, seed=0, raters=SKILL):
    """Return the truth of n questions, and a frame with the answer of each rater."""
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.4
    chance = np.array([raters[r] for r in raters])[:, truth.astype(int)]
    yes = truth == (rng.random(chance.shape) < chance)
    columns = {
        "image_id": np.tile([f"{i}.jpg" for i in range(n)], len(raters)),
        "class_id": 0,
        "rater_id": np.repeat(list(raters), n),
        "answer": np.where(yes, "yes", "no").ravel(),
    }
    return truth, pd.DataFrame(columns)


def test_choices_of_an_earlier_campaign():
    _, before = campaign(500)
    truth, now = campaign(12, seed=1)
    matrices = mh.aggregate(before).matrices
    with_history = mh.aggregate(now, history=matrices, method="one-coin")
    assert right(with_history, truth) >= right(mh.aggregate(now, method="majority"), truth)
    counts = with_history.matrices.to_pandas().groupby("rater_id")["n"].sum()
    assert counts["ann"] == pytest.approx(512, rel=0.02)  # both campaigns, for the next one


def test_the_table_counts_answers_by_the_probability_of_their_truth():
    _, frame = answers(30)
    result = mh.aggregate(frame, method="yes-share")
    p = dict(zip(result.votes.image_id.to_pylist(), result.p, strict=True))
    expected = {}
    for row in frame.itertuples():
        for name, share in (("yes", p[row.image_id]), ("no", 1 - p[row.image_id])):
            cell = (row.rater_id, name, row.answer)
            expected[cell] = expected.get(cell, 0) + share
    found = {(r["rater_id"], r["truth"], r["chosen"]): r["n"] for r in result.matrices.to_pylist()}
    assert found == pytest.approx({cell: n for cell, n in expected.items() if n >= 0.001})


@pytest.mark.parametrize("method", ["auto", "one-coin", "dawid-skene", "dawid-skene(hard=True)"])
def test_answers_of_an_earlier_campaign(method):
    """Twenty questions by five raters, after 500."""
    found = []
    for seed in range(6):
        _, before = answers(500, seed)
        truth, now = answers(20, 100 + seed)
        history = mh.aggregate(before, method=method).matrices
        for earlier in (None, history):
            result = mh.aggregate(now, method=method, history=earlier, resamples=0)
            p = dict(zip(result.votes.image_id.to_pylist(), result.p, strict=True))
            of_truth = [p[f"{i}.jpg"] if t else 1 - p[f"{i}.jpg"] for i, t in enumerate(truth)]
            found.append((np.mean(np.array(of_truth) > 0.5), -np.log(of_truth).mean()))
    without, with_history = np.array(found).reshape(-1, 2, 2).mean(0)
    assert with_history[0] > without[0] + 0.02
    assert with_history[1] < without[1] - 0.05


def test_a_campaign_passes_on_what_it_knows(tmp_path):
    _, before = answers(200)
    _, now = answers(10, seed=1)
    before.to_csv(tmp_path / "before.csv", index=False)
    now.to_csv(tmp_path / "now.csv", index=False)
    calls = (["before.csv", "--out", "old"], ["now.csv", "--history", "old", "--out", "new"])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        for words in calls:
            done = CliRunner().invoke(cli.app, ["aggregate", *words, "--method", "dawid-skene"])
            assert done.exit_code == 0, done.output
    counts = read(tmp_path / "new" / "labels-matrices.parquet", "matrices").to_pandas()
    assert counts.groupby("rater_id")["n"].sum().tolist() == pytest.approx([210] * 5, rel=0.02)
    inputs = json.loads(metadata(read(tmp_path / "new" / "labels.parquet", "labels"))["inputs"])
    assert set(inputs) == {"now.csv", "labels-matrices.parquet"}


def matrices_of(**changes):
    columns = {"rater_id": ["ann"], "truth": ["yes"], "chosen": ["yes"], "n": [1.0]}
    return pa.table(columns | changes)


OTHER_KIND = "The earlier campaign has a different kind of votes.\n  where:   `history`\n"
SAME_KIND = "\n  do:      omit `history`, or pass a campaign with the same kind of votes"
REFUSED = {
    "start": (
        lambda: mh.aggregate(answers(5)[1], start=matrices_of()),
        "`start` needs votes in which raters choose one of all classes.\n  where:   votes\n"
        "  got:     answers yes, maybe and no\n  do:      omit `start`",
    ),
    "choices for answers": (
        lambda: mh.aggregate(answers(5)[1], history=matrices_of(truth=["cat"], chosen=["dog"])),
        f"{OTHER_KIND}  got:     choices of one class of all, such as cat\n"
        f"  allowed: answers yes, maybe and no{SAME_KIND}",
    ),
    "answers for choices": (
        lambda: mh.aggregate(campaign(5)[1], history=matrices_of()),
        f"{OTHER_KIND}  got:     answers yes, maybe and no\n"
        f"  allowed: choices of one class of all{SAME_KIND}",
    ),
    "other raters": (
        lambda: mh.aggregate(answers(5)[1], history=matrices_of(rater_id=["zoe"])),
        "No rater of the earlier campaign occurs among the votes.\n  where:   `history`\n"
        "  got:     raters such as zoe\n  allowed: raters such as ann, bob\n"
        "  do:      omit `history`, or give raters the same names",
    ),
    "other raters of choices": (
        lambda: mh.aggregate(
            campaign(5)[1], history=matrices_of(rater_id=["zoe"], truth=["cat"], chosen=["cat"])
        ),
        "No rater and class of the earlier campaign occurs among the votes.\n  where:   `history`\n"
        "  got:     raters such as zoe\n  allowed: raters such as ann, bob\n"
        "  do:      omit `history`, or give raters and classes the same names",
    ),
    "a negative number": (
        lambda: mh.aggregate(answers(5)[1], history=matrices_of(n=[-2.0])),
        "A number of answers is negative, infinite or NaN.\n  where:   `history`\n  got:     -2.0\n"
        "  allowed: 0 or more",
    ),
    "a method that does not learn from answers": (
        lambda: mh.aggregate(answers(5)[1], history=matrices_of(), method="majority"),
        "This method does not use `history`, because it does not learn how good raters are.\n"
        "  where:   `method`\n  got:     majority\n  allowed: dawid-skene, one-coin, auto\n"
        "  do:      choose one of these methods, or omit `history`",
    ),
    "a method for choices that does not learn from answers": (
        lambda: mh.aggregate(campaign(5)[1], start=matrices_of(), method="vote-share"),
        "This method does not use `start`, because it does not learn how good raters are.\n"
        "  where:   `method`\n  got:     vote-share\n  allowed: one-coin, dawid-skene, auto\n"
        "  do:      choose one of these methods, or omit `start`",
    ),
    "three truths": (
        lambda: mh.aggregate(answers(5)[1], history=matrices_of(), method="dawid-skene(truth='answers')"),
        "Using raters' history requires binary truths.\n  got:     history and truth='answers'\n"
        "  allowed: truth='binary'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    work, message = REFUSED[case]
    with pytest.raises(InputError) as error:
        work()
    assert str(error.value) == message


def test_labels_without_the_table(tmp_path):
    _, frame = answers(5)
    path = tmp_path / "labels.parquet"
    mh.aggregate(frame).write(path)
    (tmp_path / "labels-matrices.parquet").unlink()
    with pytest.raises(InputError) as error:
        mh.aggregate(frame, history=path)
    assert str(error.value) == (
        f"The table `matrices` that belongs to these labels is missing.\n  where:   {path}\n"
        f"  got:     no {path.stem}-matrices.parquet next to it\n"
        "  do:      aggregate the votes of this campaign again"
    )
