"""`aggregate` on choices: labels, files, history and what follows."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.stats import norm
from sklearn.metrics import cohen_kappa_score, recall_score
from tests.helpers.choice_campaigns import campaign, right
from typer.testing import CliRunner

import manyhot as mh
from manyhot import cli
from manyhot.core.raters import ChoiceQuality
from manyhot.errors import InputError


def test_label_sets_and_files(tmp_path):
    truth, frame = campaign(300)
    frame.to_csv(tmp_path / "c.csv", index=False)
    result = mh.aggregate(tmp_path / "c.csv")
    assert result.notes[0] == "these are choices: each vote is one of 3 classes"
    assert result.labels.class_list.keys == ("cat", "dog", "owl")
    assert right(result, truth) > 0.9
    assert right(result, truth) == right(mh.aggregate(frame), truth)
    assert result.to_json()["votes"] == 900
    sums = [sum(p) for p in result.labels.table["p"].to_pylist()]
    assert 0.97 < min(sums) <= max(sums) <= 1 + 1e-6
    by_rater = dict(zip(*(result.raters[c].to_pylist() for c in ("rater_id", "sensitivity")), strict=True))
    assert by_rater["ann"] > max(by_rater["bob"], by_rater["eve"]) + 0.1
    written = {p.name for p in result.write(tmp_path / "labels.parquet")}
    assert "labels-matrices.parquet" in written
    assert np.isclose(pa.compute.sum(result.matrices["n"]).as_py(), 900, rtol=0.02)
    labels = mh.read_labels(tmp_path / "labels.parquet")
    predictions = pd.DataFrame(
        np.eye(3)[np.searchsorted(["cat", "dog", "owl"], truth)],
        [f"{i}.jpg" for i in range(300)],
        ["cat", "dog", "owl"],
    )
    assert mh.evaluate(labels, {"perfect": predictions}, resamples=0).value("map_image") > 0.9
    again = mh.aggregate(tmp_path / "c.csv", start=tmp_path / "labels.parquet")
    np.testing.assert_allclose(again.p, result.p, atol=0.01)


def test_counts_have_no_raters(tmp_path):
    (tmp_path / "c.csv").write_text("image_id,cat,dog\na,2,0\nb,1,2\nc,1,1\n")
    result = mh.aggregate(tmp_path / "c.csv", format="counts")
    assert result.method == "vote-share"
    assert (len(result.raters), len(result.matrices)) == (0, 0)
    assert result.labels.table["state"].to_pylist() == [["yes"], ["no", "yes"], ["yes", "yes"]]
    majority = mh.aggregate(tmp_path / "c.csv", format="counts", method="majority")
    assert majority.labels.table["state"].to_pylist() == [["yes"], ["no", "yes"], ["unclear", "unclear"]]
    agreement = mh.agreement(tmp_path / "c.csv", format="counts")
    assert len(agreement.raters) == len(agreement.rater_pairs) == 0


@pytest.fixture
def ties(tmp_path):
    """Return a file of counts with a plurality, two ties (one is not of halves), and a clear majority."""
    rows = "a,46,44,10\nb,50,50,0\nc,40,40,20\nd,90,5,5\n"
    (tmp_path / "ties.csv").write_text(f"image_id,smooth,features,artifact\n{rows}")
    return tmp_path / "ties.csv"


@pytest.mark.parametrize(
    ("options", "sizes"),
    [({}, [0, 2, 0, 1]), ({"threshold": 0.501}, [0, 0, 0, 1]), ({"method": "majority"}, [1, 0, 0, 1])],
)
def test_label_sets_of_the_same_counts(ties, options, sizes):
    done = mh.aggregate(ties, format="counts", **options)
    assert [row.count("yes") for row in done.labels.table["state"].to_pylist()] == sizes
    tied = [note for note in done.notes if "tied" in note]
    expected = (
        "two classes are tied on 1 of the 4 images: their p of 0.5 reaches the threshold of 0.5, so both are "
        "valid. To require more than half of the votes, pass a `threshold` above 0.5, such as 0.501"
    )
    assert tied == ([] if options else [expected])
    plurality = mh.describe(ties).to_json()["set_sizes"]
    assert [row["images"] for row in plurality] == [0, 2, 2]


def test_the_terminal_shows_the_number_of_unclear_pairs(ties, tmp_path):
    done = mh.aggregate(ties, format="counts", threshold=0.8, unclear_from=0.4)
    shares = np.array([[46, 44, 10], [50, 50, 0], [40, 40, 20], [90, 5, 5]]) / 100
    n = int(((shares >= 0.4) & (shares < 0.8)).sum())
    assert done.to_json()["unclear"] == n == 6
    assert "unclear      6  (image, class) pairs, in no label set" in list(done.lines())
    done.write(tmp_path / "u.parquet")
    lines = list(mh.describe(tmp_path / "u.parquet").lines())
    assert any(line.split() == f"unclear {n} of 11 (image, class) pairs".split() for line in lines)
    without = mh.aggregate(ties, format="counts", threshold=0.8)
    assert not any(line.startswith("unclear") for line in without.lines())


def test_counts_that_many_images_reach_may_be_yes_answers(tmp_path):
    rng = np.random.default_rng(0)
    yes = rng.binomial(5, np.where(rng.random((60, 12)) < 0.3, 0.9, 0.05))
    pd.DataFrame(yes, columns=list("abcdefghijkl")).to_csv(tmp_path / "y.csv", index_label="image")
    n = int((yes == 5).any(1).sum())
    said = f"no class has more than 5 votes, which {n} of 60 images reach with different numbers of votes"
    notes = mh.aggregate(tmp_path / "y.csv", format="counts").notes
    assert [said in note and "`label_values`=yes-of-5" in note for note in notes].count(True) == 1
    shares = rng.dirichlet(np.full(12, 0.05), 60)
    choices = [rng.multinomial(rng.integers(47, 64), share) for share in shares]
    pd.DataFrame(choices, columns=list("abcdefghijkl")).to_csv(tmp_path / "c.csv", index_label="image")
    assert not any("no class has more" in n for n in mh.aggregate(tmp_path / "c.csv", format="counts").notes)


def test_one_rater_and_no_disagreement():
    frame = pd.DataFrame({"task": ["a", "b"], "worker": ["x"] * 2, "label": ["cat", "dog"]})
    alone = mh.aggregate(frame)
    assert 0.5 < min(max(p) for p in alone.labels.table["p"].to_pylist()) < 1
    assert any("there is only one rater" in note for note in alone.notes)
    agreed = pd.concat([frame.assign(worker=w) for w in "xyz"])
    assert mh.aggregate(agreed).labels.table["state"].to_pylist() == [["yes"], ["yes"]]


@pytest.mark.parametrize("method", ["golden-bayes", "yes-share", "yes-share(maybe='half')"])
def test_methods_for_answers(method):
    _, frame = campaign(5)
    with pytest.raises(InputError) as error:
        mh.aggregate(frame, method=method)
    assert str(error.value) == (
        "This method is not for votes for one class of all.\n  where:   `method`\n"
        f"  got:     {method}, which is for answers yes, maybe and no\n"
        "  allowed: for votes for one class of all: majority, vote-share, one-coin, dawid-skene, auto\n"
        "  do:      choose one of these methods"
    )


def test_methods_for_choices():
    answers = pd.DataFrame({"image_id": ["a"], "class_id": [0], "rater_id": ["x"], "answer": ["yes"]})
    with pytest.raises(InputError) as error:
        mh.aggregate(answers, method="vote-share")
    assert str(error.value) == (
        "This method is not for answers yes, maybe and no.\n  where:   `method`\n"
        "  got:     vote-share, which is for votes for one class of all\n"
        "  allowed: for answers yes, maybe and no: majority, yes-share, source-share, golden-bayes, "
        "dawid-skene, one-coin, auto\n"
        "  do:      choose one of these methods"
    )
    _, frame = campaign(5)
    with pytest.raises(InputError) as error:
        mh.aggregate(frame, method="dawid-skene(hard=True)")
    assert str(error.value) == (
        "The aggregator of class votes 'dawid-skene' has no option 'hard'.\n"
        "  got:     dawid-skene(hard=True)\n  allowed: matrices, smoothing, iterations, tolerance"
    )


REMARK = (
    "the labels were aggregated from votes for one class per image; p is the probability of each class, and "
    "metrics that use votes use p instead"
)
AGAINST_VOTES = ("cross_entropy_votes", "kl_votes", "brier_votes", "tv_votes")


def reference(rows, q):
    """Return the metrics against votes by plain loops over images; p is divided by its sum."""
    sums = np.zeros(4)
    for row, prediction in zip(rows, q, strict=True):
        p = np.zeros(len(prediction))
        p[row["classes"]] = row["p"]
        p /= p.sum()
        cross = -sum(a * np.log(b) for a, b in zip(p, prediction, strict=True) if a)
        entropy = -sum(a * np.log(a) for a in p if a)
        brier = sum(p[k] * np.sum((prediction - np.eye(len(p))[k]) ** 2) for k in range(len(p)))
        sums += [cross, cross - entropy, brier, np.abs(p - prediction).sum() / 2]
    return sums / len(rows)


@pytest.mark.parametrize("method", ["vote-share", "dawid-skene", "one-coin", "auto"])
def test_metrics_against_votes_work_on_the_result(tmp_path, monkeypatch, method):
    """In Python and on the terminal, without saying that the labels are votes."""
    monkeypatch.chdir(tmp_path)
    _, frame = campaign(60)
    keys, ids = ["cat", "dog", "owl"], [f"{i}.jpg" for i in range(60)]
    q = np.random.default_rng(3).dirichlet([1, 1, 1], 60)
    predictions = pd.DataFrame(q, ids, keys)
    result = mh.aggregate(frame, method=method)
    assert result.labels.exclusive
    reading = mh.Reading(scores="probability")
    found = mh.evaluate(result.labels, {"net": predictions}, resamples=0, reading=reading)
    rows = {r["image_id"]: r for r in result.labels.table.to_pylist()}
    expected = reference([rows[i] for i in ids], q)
    assert [found.value(m) for m in AGAINST_VOTES] == pytest.approx(expected, rel=1e-5)
    assert f"votes: {REMARK}" in found.notes
    frame.to_csv("choices.csv", index=False)
    predictions.rename_axis("image_id").to_csv("net.csv")
    for words in (
        ["aggregate", "choices.csv", "--method", method, "--out", "labels.parquet"],
        ["evaluate", "labels.parquet", "--predictions", "net.csv", "--scores", "probability", "--out", "r"],
    ):
        done = CliRunner().invoke(cli.app, words)
        assert done.exit_code == 0, done.output
    stored = pd.read_csv("r/results.csv").query("slice == 'all'").set_index("metric")["value"]
    assert [stored[m] for m in AGAINST_VOTES] == pytest.approx(expected, rel=1e-5)


def test_shuffled_rows_change_no_digit():
    _, frame = campaign(200)
    result = mh.aggregate(frame)
    for seed in range(3):
        shuffled = mh.aggregate(frame.sample(frac=1, random_state=seed))
        assert shuffled.labels.table.equals(result.labels.table)
        assert shuffled.matrices.equals(result.matrices)
        assert shuffled.result.weights == result.result.weights


def test_agreement_counts_all_classes():
    krippendorff = pytest.importorskip("krippendorff")
    _, frame = campaign(80)
    found = mh.agreement(frame, resamples=0)
    wide = frame.assign(label=frame["label"].map({"cat": 0, "dog": 1, "owl": 2}))
    data = wide.pivot(index="worker", columns="task", values="label").to_numpy(float)
    expected = krippendorff.alpha(data, level_of_measurement="nominal", value_domain=[0, 1, 2])
    for measure in ("alpha_nominal", "alpha_jaccard", "alpha_masi"):
        assert found.value(measure) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(found.value("alpha_ordinal"))
    assert (
        "agreement is measured on chosen classes, which have no order even if they are called 1 to 5, so "
        "alpha_ordinal is undefined" in found.notes
    )


def _inspectors(n_raters, n=400):
    """Return choices of raters who are right on about 96 % of images; the last is `lazy` and says ok."""
    rng = np.random.default_rng(0)
    classes = np.array(["ok", "scratch", "dent", "stain"])
    truth = rng.choice(4, n, p=[0.7, 0.1, 0.1, 0.1])
    chosen = np.where(rng.random((n, n_raters)) < 0.95, truth[:, None], rng.integers(4, size=(n, n_raters)))
    wide = pd.DataFrame(classes[chosen], [f"{i}.jpg" for i in range(n)], [f"r{i}" for i in range(n_raters)])
    return wide, classes


def _long(wide):
    long = wide.melt(ignore_index=False, var_name="worker", value_name="label")
    return long.reset_index(names="task")


@pytest.mark.parametrize("n_raters", [2, 3, 5])
def test_honest_raters_agree_by_chance_as_cohen_says_and_are_no_spammers(n_raters):
    wide, classes = _inspectors(n_raters)
    found = mh.agreement(_long(wide))
    for row in found.rater_pairs.to_pylist():
        a, b = wide[row["rater_a"]], wide[row["rater_b"]]
        assert row["kappa"] == pytest.approx(cohen_kappa_score(a, b), abs=1e-12)
        assert (row["n"], row["agreement"]) == (400, pytest.approx((a == b).mean()))
    for row in (*found.raters.to_pylist(), *mh.aggregate(_long(wide)).raters.to_pylist()):
        own, others = wide[row["rater_id"]], wide.drop(columns=row["rater_id"])
        assert (row["votes"], row["flags"]) == (400, [])
        assert row["agreement"] == pytest.approx(others.eq(own, axis=0).to_numpy().mean())
        counts = np.stack([others.eq(c).sum(axis=1) for c in classes], 1)
        decided = 2 * counts.max(1) > n_raters - 1
        truth, said = classes[counts.argmax(1)][decided], own[decided]
        of_class = [
            recall_score(truth == c, said == c) + recall_score(truth != c, said != c) - 1 for c in classes
        ]
        share = [(truth == c).mean() for c in classes]
        assert row["informedness"] == pytest.approx(np.dot(of_class, share), abs=1e-12)
        assert row["informedness_lo"] > 0.7


def test_raters_who_always_choose_one_class_or_guess_are_spammers():
    wide, classes = _inspectors(3)
    guesses = np.random.default_rng(1).choice(classes, 400, p=[0.7, 0.1, 0.1, 0.1])
    found = mh.agreement(_long(wide.assign(lazy="ok", guess=guesses))).raters.to_pylist()
    assert {r["rater_id"]: r["flags"] for r in found} == {
        "r0": [], "r1": [], "r2": [], "lazy": ["spammer"], "guess": ["spammer"]
    }  # fmt: skip
    assert next(r["informedness"] for r in found if r["rater_id"] == "lazy") == pytest.approx(0, abs=1e-12)


def test_golden_answers_about_classes_that_nobody_chose_count():
    wide, _ = _inspectors(2, 40)
    wide[:] = "ok"
    wide.iloc[-2:] = "dent"
    golden = pd.DataFrame(
        {"image_id": wide.index[:30], "class_id": 0, "expert_id": "x", "answer": ["yes"] * 30}
    )  # classes: dent, ok
    raters = mh.agreement(_long(wide), golden).raters.to_pylist()
    assert [(r["golden"], r["golden_sensitivity"]) for r in raters] == [(30, 0.0)] * 2


def test_the_interval_of_informedness_contains_the_expected_value():
    """In 4,000 draws of 60 images, about as often as 95 % intervals should."""
    rng = np.random.default_rng(0)
    prior, k, n, draws = np.array([0.5, 0.3, 0.2]), 3, 60, 4000
    truth = rng.choice(k, (draws, n), p=prior)
    chosen = np.where(rng.random((draws, n)) < 0.7, truth, rng.integers(k, size=(draws, n)))
    quality = ChoiceQuality(np.repeat(np.arange(draws), n), truth.ravel(), chosen.ravel(), draws)
    _, lo, hi = quality.informedness()
    assert 0.93 < ((lo <= 0.7) & (hi >= 0.7)).mean() < 0.97


@pytest.mark.parametrize("form", ["label sets", "golden table", "valid classes only"])
def test_informedness_on_golden_choices_is_the_mean_over_classes(form):
    """On golden answers, whoever always chose the most frequent class was among the best raters."""
    wide, classes = _inspectors(3)
    rng = np.random.default_rng(2)
    truth = rng.choice(classes, 120, p=[0.7, 0.1, 0.1, 0.1])
    wide = wide.assign(lazy="ok").iloc[:200]
    images = wide.index[:120]
    for name, share in (("r0", 0.9), ("r1", 0.6), ("r2", 0.3)):
        wide.loc[images, name] = np.where(rng.random(120) < share, truth, rng.choice(classes, 120))
    golden = pd.DataFrame({"image_id": images, "labels": [[t] for t in truth]})
    if form != "label sets":
        shown = truth[:, None] == sorted(classes)
        image, class_id = np.nonzero(shown if form == "valid classes only" else shown | True)
        answer = np.where(shown[image, class_id], "yes", "no")
        golden = pd.DataFrame({"image_id": images[image], "class_id": class_id, "expert_id": "x"})
        golden["answer"] = answer
    found = mh.agreement(_long(wide), golden)
    for row in found.raters.to_pylist():
        own = wide.loc[images, row["rater_id"]].to_numpy()
        of_class = [(own == c)[truth == c].mean() + (own != c)[truth != c].mean() - 1 for c in classes]
        mean = np.dot(of_class, [(truth == c).mean() for c in classes])
        assert row["informedness"] == pytest.approx(mean, abs=1e-12)
        assert row["measured_on"] == "golden answers"
        assert row["flags"] == (["spammer"] if row["rater_id"] == "lazy" else [])
    lazy = next(row for row in found.raters.to_pylist() if row["rater_id"] == "lazy")
    n = np.array([(truth == "ok").sum(), (truth != "ok").sum()])
    half = np.hypot(*(1 - n / (n + norm.ppf(0.975) ** 2)))  # Wilson's intervals of n of n
    ends = [lazy["informedness_lo"], lazy["informedness_hi"]]
    assert ends == pytest.approx([-half, half], abs=1e-12)
    assert "-0.0000" not in "\n".join(found.lines())
    again = mh.aggregate(_long(wide), golden=golden).raters
    assert again.select(["informedness", "flags"]).equals(found.raters.select(["informedness", "flags"]))


def test_golden_images_without_exactly_one_valid_class_say_nothing_about_informedness():
    wide, classes = _inspectors(3, 100)
    sets = [[*classes[:2]], [], *([c] for c in wide["r0"].iloc[2:50])]
    golden = pd.DataFrame({"image_id": wide.index[:50], "labels": sets})
    found = mh.agreement(_long(wide), golden)
    note = "informedness is measured on 48 of 50 golden images: those with exactly one valid class"
    assert note in found.notes
    assert note in mh.aggregate(_long(wide), golden=golden).notes
    assert found.raters.to_pylist()[0]["informedness"] == 1
    one = pd.DataFrame({"image_id": wide.index[:50], "labels": [["ok"]] * 50})  # separates no two classes
    alone, only_ok = mh.agreement(_long(wide)), mh.agreement(_long(wide), one)
    assert only_ok.raters["informedness"].equals(alone.raters["informedness"])
    assert set(only_ok.raters["measured_on"].to_pylist()) == {"other raters"}
