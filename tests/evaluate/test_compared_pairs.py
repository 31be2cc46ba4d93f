"""Comparisons of all pairs, of no pairs, and with a reference: tables, ranks, sentences and pages."""

import json
import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import norm
from sklearn.metrics import average_precision_score

from audits import World
from forking import commands
from manyhot import Labels, Predictions, Reading, compare, diagnose_robustness, evaluate, leaderboard
from manyhot.core import resampling
from manyhot.core.resampling import Bootstrap
from manyhot.errors import UnknownNameError, UsageError
from manyhot.evaluate import compared_pairs, ranks
from manyhot.evaluate.compared_pairs import ComparedPairs
from manyhot.evaluate.joined_models import join
from manyhot.evaluate.pairwise import noise_line, to_best
from manyhot.evaluate.ranks import image_groups, rank_models
from manyhot.tables import write_labels, write_predictions
from manyhot.tables.result_tables import accuracies, read_results_folder
from report_pages import parse

N, C = 400, 4
READING = Reading(n_classes=C, dataset="mine", trust_order=True, scores="logit")
END = ("mine", "real1", "all")
SHARES = {"first": 0.5, "near": 0.64, "mid": 0.64, "best": 0.9, "last": 0.3}


def make_models():
    """Return labels and scores; the best class is right on about a share of the images.

    On 60 images, mid is right and near is wrong; on 50, it is the other way round.
    """
    rng = np.random.default_rng(3)
    label = rng.integers(0, C, N)
    right = {name: rng.random(N) < share for name, share in SHARES.items()}
    right["near"] = right["mid"].copy()
    right["near"][np.flatnonzero(right["mid"])[:60]] = False
    right["near"][np.flatnonzero(~right["mid"])[:50]] = True
    models = {}
    for name, is_right in right.items():
        top = np.where(is_right, label, (label + 1) % C)
        models[name] = (np.eye(C)[top] + rng.normal(0, 0.1, (N, C))).astype(np.float32)
    return label, models


IDS = np.array([f"i{i}" for i in range(N)])


def on(rows, data, names=SHARES):
    """Return labels of some images, and predictions of models for some."""
    label, models = data
    columns = {
        "image_id": IDS[rows].tolist(),
        "usable": [True] * len(rows),
        "classes": pa.array([[k] for k in label[rows].tolist()], pa.list_(pa.int32())),
        "state": [["yes"]] * len(rows),
    }
    return Labels(pa.table(columns), C), [predicted(name, rows, models) for name in names]


def predicted(name, rows, models):
    return Predictions(pa.array(IDS[rows]), name, scores=models[name][rows], n_classes=C)


@pytest.fixture(scope="module")
def data():
    return make_models()


def judge(data, metrics=("real1",), **options):
    label, models = data
    reading = replace(READING, label=label.tolist())
    return evaluate([[k] for k in label.tolist()], models, metrics=metrics, reading=reading, **options)


METRICS = ("real1", "mla", "variable_topk", "map_macro", "nll", "top1")


@pytest.fixture(scope="module")
def judged(data):
    """Evaluations by what is compared."""
    return {name: judge(data, METRICS, compare_with=name) for name in (None, "all", "none", "mid", "last")}


def pairs_of(evaluation, metric):
    rows = [r for r in evaluation.pairs.to_pylist() if r["metric"] == metric]
    return {(r["model_a"], r["model_b"]): r for r in rows}


def holm_by_hand(p):
    order, adjusted, most = sorted(p, key=p.get), {}, 0.0
    for i, name in enumerate(order):
        most = max(most, min(1, (len(p) - i) * p[name]))
        adjusted[name] = most
    return adjusted


def test_up_to_300_models_all_pairs_are_compared_by_default(judged):
    assert judged[None].pairs.equals(judged["all"].pairs)
    names = list(SHARES)
    every = {(a, b) for i, a in enumerate(names) for b in names[i + 1 :]}
    for metric in METRICS:
        assert set(pairs_of(judged[None], metric)) == every


@pytest.mark.parametrize("reference", ["mid", "last"])
def test_a_reference_is_compared_with_each_other_model(data, judged, reference):
    label, models = data
    found = pairs_of(judged[reference], "real1")
    assert list(found) == [(reference, name) for name in SHARES if name != reference]
    right = {name: (scores.argmax(1) == label).astype(float) for name, scores in models.items()}
    p = {}
    for (_, name), row in found.items():
        change = right[name] - right[reference]
        assert row["difference"] == pytest.approx(change.mean())
        assert row["n"] == N
        p[name] = 2 * norm.sf(abs(change.mean()) / (change.std() / np.sqrt(N)))
        assert row["p"] == pytest.approx(p[name])
    assert {b: row["p_adjusted"] for (_, b), row in found.items()} == pytest.approx(holm_by_hand(p))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("reference", ["mid", "last"])
def test_a_pair_has_the_same_numbers_whatever_else_is_compared(judged, metric, reference):
    every = pairs_of(judged["all"], metric)
    found = pairs_of(judged[reference], metric)
    assert len(found) == len(SHARES) - 1
    for (a, b), row in found.items():
        sign, same = (1, every[a, b]) if (a, b) in every else (-1, every[b, a])
        ends = sorted((sign * same["lo"], sign * same["hi"]))
        assert row["difference"] == pytest.approx(sign * same["difference"], rel=1e-12)
        assert [row["lo"], row["hi"]] == pytest.approx(ends, rel=1e-9, abs=1e-12)
        assert (row["p"], row["n"]) == (pytest.approx(same["p"], rel=1e-8), same["n"])


def test_what_is_compared_is_recorded(judged):
    def recorded(name):
        return ComparedPairs.of(judged[name].metadata, "mine")

    assert recorded(None) == recorded("all") == ComparedPairs("all")
    assert recorded("none") == ComparedPairs("none")
    assert recorded("mid") == ComparedPairs("reference", "mid")
    assert ComparedPairs.of({}, "mine") == ComparedPairs("all")  # earlier versions compared all or had none


def test_without_pairs_models_of_the_same_images_are_ranked_together(judged):
    for name in ("none", "mid", "all"):
        results = judged[name].as_results()
        assert sorted(map(sorted, image_groups(results, END))) == [sorted(SHARES)]
        ranked = rank_models(results)
        assert ranked["model"].to_pylist() == ["best", "mid", "near", "first", "last"]
        assert ranked["rank"].to_pylist() == [1, 2, 3, 4, 5]


def test_resampled_values_are_not_copied_to_tell_which_images_count(judged, monkeypatch):
    filtered, at_end = [], ranks.at_end
    monkeypatch.setattr(ranks, "at_end", lambda table, end: filtered.append(table) or at_end(table, end))
    results = judged["all"].as_results()
    image_groups(results, END)
    assert len(filtered) == 2  # of results and of samples
    assert not any(pa.types.is_list(of) for table in filtered for of in table.schema.types)


def test_the_best_rank_is_only_known_if_all_pairs_are_compared(judged):
    ranked = rank_models(judged["all"].as_results()).to_pylist()
    best = {row["model"]: row["best_rank"] for row in ranked}
    assert best == {"best": 1, "mid": 2, "near": 2, "first": 4, "last": 5}
    for name in ("none", "mid"):
        assert rank_models(judged[name].as_results())["best_rank"].null_count == len(SHARES)


def test_models_on_other_images_are_apart_without_pairs(data):
    """Both have 300 images, so only the stored hash tells that they are not the same."""
    labels, _ = on(np.arange(N), data)
    rows = {name: np.arange(300) + 100 * (name in ("mid", "best")) for name in SHARES}
    parts = [predicted(name, part, data[1]) for name, part in rows.items()]
    for compare_with in ("none", "all", "first"):
        found = evaluate(labels, parts, metrics=["real1"], compare_with=compare_with, reading=READING)
        groups = image_groups(found.as_results(), END)
        assert sorted(map(sorted, groups)) == [["best", "mid"], ["first", "last", "near"]]
    # with the reference, models on other images are listed without a difference
    rows = pairs_of(found, "real1")
    assert {b for (_, b), row in rows.items() if np.isnan(row["difference"])} == {"best", "mid"}
    # files of earlier versions have no hashes: who could not be paired was evaluated on other images
    every = evaluate(labels, parts, metrics=["real1"], reading=READING).as_results()
    old = replace(every, samples=every.samples.drop(["images"]))
    assert sorted(map(sorted, image_groups(old, END))) == [["best", "mid"], ["first", "last", "near"]]


def test_the_hash_is_of_the_images_in_any_order(data):
    order = np.random.default_rng(0).permutation(N)

    def digests(rows):
        found = evaluate(*on(rows, data), metrics=["real1"], reading=READING)
        return set(found.samples["images"].to_pylist())

    assert len(digests(np.arange(N))) == 1
    assert digests(np.arange(N)) == digests(order) != digests(order[:-1])


def numbers_of(samples):
    """The resampled accuracies; what further pairs need is stored only where pairs are compared."""
    rows = samples.select(["model", "metric", "slice", "values", "images"]).to_pylist()
    return [row for row in rows if row["metric"] in accuracies()]


def test_more_models_than_300_are_not_compared_by_default(data, monkeypatch):
    monkeypatch.setattr(compared_pairs, "MAX_COMPARED", 4)
    found = judge(data, METRICS)
    assert not len(found.pairs)
    assert ComparedPairs.of(found.metadata, "mine") == ComparedPairs("none")
    note = (
        "no pairs of models are compared, because there are more than 4 models (5); to compare all with "
        "one of them, pass its name as `compare_with`; to compare all pairs, pass all"
    )
    assert f"mine: {note}" in found.notes
    assert [(n.kind, n.text) for n in found.model_notes if n.kind == "pairs"] == [("pairs", note)]
    lines = "\n".join(found.lines())
    assert "1  best" in lines
    assert "beyond noise" not in lines
    assert "ithin noise" not in lines
    every = judge(data, METRICS, compare_with="all")
    assert found.to_polars().equals(every.to_polars())  # all else is the same
    assert numbers_of(found.samples) == numbers_of(every.samples)
    for compare_with, n in (("all", 10), ("mid", 4)):
        asked = judge(data, METRICS, compare_with=compare_with)
        assert len(pairs_of(asked, "real1")) == n
        assert not [n for n in asked.model_notes if n.kind == "pairs"]


def test_nobody_is_told_about_pairs_that_were_not_requested(judged, data):
    for found in (judged["none"], judge(data, resamples=0)):
        assert not [n for n in found.model_notes if n.kind == "pairs"]
        assert ComparedPairs.of(found.metadata, "mine") == ComparedPairs("none")


def test_a_data_set_without_the_reference_has_no_pairs():
    compared = ComparedPairs.choose("x", ["a", "b"])
    assert compared == ComparedPairs("none")
    assert compared.note("x", 2) == "no models are compared with x, which was not evaluated on this data set"
    assert compared.note("x", 1) == ComparedPairs.choose("a", ["a", "b"]).note("a", 2) == ""


def test_an_unknown_reference(data):
    with pytest.raises(UnknownNameError) as error:
        judge(data, compare_with="besst")
    assert str(error.value) == (
        "There is no model 'besst' to compare with.\n"
        "  where:   `compare_with`\n"
        "  allowed: best, first, last, mid, near\n"
        "  do:      did you mean 'best'?"
    )
    with pytest.raises(UnknownNameError, match=r"do: +pass all to compare all pairs"):
        judge(data, compare_with="xyz")
    with pytest.raises(UnknownNameError, match="There is no model 'xyz' to compare with"):
        compare(data[1], labels=[[k] for k in data[0].tolist()], reading=READING, compare_with="xyz")


def test_results_have_no_option_of_predictions(judged):
    with pytest.raises(UsageError, match=r"got: +`compare_with`"):
        compare(judged["all"], compare_with="mid")


def test_the_sentence_counts_models_that_are_better_and_worse(judged):
    base, found = to_best(judged["mid"].as_results(), "mine")
    assert base == "mid"
    assert [d.model for d in found] == ["best", "near", "first", "last"]
    assert noise_line(base, found) == (
        "Compared with mid: 1 better and 2 worse beyond noise; within noise: near "
        "(paired differences of real1, Holm's correction for these 4 comparisons)."
    )
    assert noise_line(base, found) in list(judged["mid"].lines())


def test_a_reference_that_is_the_best_is_the_best(data, judged):
    found = judge(data, compare_with="best")
    line = noise_line(*to_best(found.as_results(), "mine"))
    start = "best is better than all others beyond noise (paired differences of real1, Holm's correction for "
    assert line == f"{start}these 4 comparisons)."
    # Without a reference, the best is chosen on the same images.
    line = noise_line(*to_best(judged["all"].as_results(), "mine"))
    assert line == f"{start}all 10 compared pairs)."


def test_models_that_were_not_tested_are_not_among_all_others(judged):
    base, found = to_best(judged["all"].as_results(), "mine")
    assert noise_line(base, [*found[:-1], replace(found[-1], p=None, p_adjusted=None)]) == (
        "best is better than 3 of 4 others beyond noise (paired differences of real1, Holm's correction for "
        f"all 10 compared pairs; not compared, because they have no p: {found[-1].model})."
    )


def test_compare_shows_the_differences_to_the_reference(data):
    label, models = data
    sets = [[k] for k in label.tolist()]
    made = compare(models, labels=sets, metrics=["real1"], reading=READING, compare_with="mid")
    lines = list(made.lines())
    assert lines[0] == "mine: differences to mid by real1"
    right = {name: (scores.argmax(1) == label).astype(float) for name, scores in models.items()}
    for row in made.to_json()["differences"]:
        assert row["model_a"] == "mid"
        assert row["difference"] == pytest.approx((right[row["model_b"]] - right["mid"]).mean())
    none = compare(models, labels=sets, metrics=["real1"], reading=READING, compare_with="none")
    assert [row["lo"] for row in none.to_json()["differences"]] == [None] * (len(models) - 1)
    assert none.answers == []


def test_two_models_without_a_comparison_have_no_interval(data):
    label, models = data
    two = {name: models[name] for name in ("first", "best")}
    sets = [[k] for k in label.tolist()]
    made = compare(two, labels=sets, metrics=["real1"], reading=READING, compare_with="none")
    text = "\n".join(made.lines())
    assert "of real1 compared with first, without an interval (n 400)" in text
    assert "No difference" not in text
    # with either as the reference, the answer is that of all pairs
    every = compare(two, labels=sets, metrics=["real1"], reading=READING)
    for name in two:
        other = compare(two, labels=sets, metrics=["real1"], reading=READING, compare_with=name)
        assert other.answers == every.answers


def test_swaps_beyond_noise_are_unknown_unless_all_pairs_are_compared(judged):
    for name, known in (("all", True), ("none", False), ("mid", False)):
        found = judged[name].comparison
        assert found.ranks.num_rows
        assert (found.ranks["n_beyond_noise"].null_count == 0) == known
        assert "no of them" not in "\n".join(found.lines())


def test_results_of_several_calls_are_on_the_same_images(data):
    """Their models are ranked together, but pairs between the calls are not compared."""
    label, models = data
    parts = [
        judge((label, {n: models[n] for n in names})).as_results()
        for names in (("first", "near", "mid"), ("best", "last"))
    ]
    joined = join(parts, several_models=True)
    assert ComparedPairs.of(joined.about, "mine") == ComparedPairs("some")
    assert sorted(map(sorted, image_groups(joined, END))) == [sorted(SHARES)]
    ranked = rank_models(joined)
    assert ranked["model"].to_pylist() == ["best", "mid", "near", "first", "last"]
    assert ranked["best_rank"].null_count == len(SHARES)
    base, found = to_best(joined, "mine")
    assert (base, {d.model for d in found if d.p is not None}) == ("best", {"last"})
    assert noise_line(base, found) == ""
    # Holm over the 3 pairs of the first call and the one of the second, by hand.
    rows = sorted(joined.pairs.to_pylist(), key=lambda row: row["p"])
    steps = np.maximum.accumulate([min(1, (4 - i) * row["p"]) for i, row in enumerate(rows)])
    assert [row["p_adjusted"] for row in rows] == pytest.approx(steps.tolist())
    assert {d.n_compared for d in found if d.p is not None} == {4}


@pytest.mark.parametrize("name", ["all", "none", "mid"])
def test_written_results_are_read_again(judged, name, tmp_path):
    judged[name].write(tmp_path)
    results = read_results_folder(tmp_path)
    assert ComparedPairs.of(results.about, "mine") == ComparedPairs.of(judged[name].metadata, "mine")
    columns = ["rank", "best_rank", "model", "mine real1", "lo", "hi", "n"]
    ranked = rank_models(judged[name].as_results()).select(columns)
    assert leaderboard([tmp_path]).ranked.select(columns).equals(ranked)
    again = compare(tmp_path)
    assert list(again.answers) == [noise_line(*to_best(results, "mine"))] * (name != "none")
    again.write(tmp_path / "again")
    stored = read_results_folder(tmp_path / "again")
    assert ComparedPairs.of(stored.about, "mine") == ComparedPairs.of(results.about, "mine")
    compared = json.loads(results.about["compared_pairs"])["mine"]
    assert compared == {"pairs": "reference" if name == "mid" else name, "reference": "mid" * (name == "mid")}


def page(evaluation, folder):
    evaluation.write(folder)
    return parse((folder / "report" / "index.html").read_text(encoding="utf-8")).text


def test_the_page_ranks_the_models_that_the_terminal_ranks(data, tmp_path):
    """A model of other images was third on the page, and *not ranked* on the terminal."""
    labels, models = on(np.arange(N), data)
    models[1] = predicted("near", np.arange(3, N), data[1])
    found = evaluate(labels, models, metrics=["real1"], resamples=50, reading=READING)
    rows = parse_rows(found, tmp_path)
    leaderboard = rank_models(found.as_results())
    ranks = zip(leaderboard["model"].to_pylist(), leaderboard["rank"].to_pylist(), strict=True)
    assert rows == [(name, str(rank or "")) for name, rank in ranks]
    assert rows[-1] == ("near", "")


def parse_rows(found, folder):
    found.write(folder)
    text = (folder / "report" / "index.html").read_text(encoding="utf-8")
    return [(name, rank) for rank, name in re.findall(r'<th scope="row"><i>(.*?)</i> <b>(.*?)</b>', text)]


def test_the_page_says_what_is_not_compared(judged, data, tmp_path, monkeypatch):
    own = replace(judged["mid"], own=("near", "first"))
    text = page(own, tmp_path / "mid")
    assert "The other models are compared only with mid." in text
    assert "near on Mine is 3rd of 5" in text or "near on mine is 3rd of 5" in text
    assert "it does not differ beyond noise from mid, and was not compared with 3 other models." in text
    apart = "from every other model that it was compared with, and was not compared with 3 other models."
    assert f"it differs beyond noise {apart}" in text
    text = page(judged["none"], tmp_path / "none")
    assert "No pairs of models are compared." in text
    assert "whether other models differ from it beyond noise was not tested" in text
    monkeypatch.setattr(compared_pairs, "MAX_COMPARED", 4)
    text = page(judge(data), tmp_path / "default")
    assert "no pairs of models are compared, because there are more than 4 models (5)" in text.lower()
    text = page(judged["all"], tmp_path / "all")
    assert "compared only with" not in text
    assert "No pairs" not in text


def test_an_audit_is_compared_with_a_reference():
    world = World()
    every = world.evaluate(120)[1]
    found = world.evaluate(120, compare_with="good")[1]
    others = pairs_of(every, "real1")
    rows = pairs_of(found, "real1")
    assert rows
    assert {a for a, _ in rows} == {"good"}
    for (a, b), row in rows.items():
        same = others.get((a, b)) or others[b, a]
        sign = 1 if (a, b) in others else -1
        assert row["difference"] == pytest.approx(sign * same["difference"])
        assert row["p"] == pytest.approx(same["p"])
        assert row["alone"] == pytest.approx(sign * same["alone"])
    none = world.evaluate(120, compare_with="none")[1]
    assert not len(none.pairs)
    assert len(none.samples) == len(every.samples)


def test_draws_of_label_sets_compare_the_same_pairs():
    rng = np.random.default_rng(0)
    p = rng.beta(0.3, 0.3, (200, 4))
    models = {
        name: (p + rng.normal(0, s, p.shape)).astype(np.float32)
        for name, s in (("a", 0.1), ("b", 0.3), ("c", 1))
    }
    options = {"metrics": ["real1"], "posterior": 20, "resamples": 40, "reading": Reading(label_values="p")}
    tables = {
        name: evaluate(p, models, compare_with=name, **options).posterior["posterior_pairs"].to_pylist()
        for name in ("all", "b", "none")
    }
    assert [(r["model_a"], r["model_b"]) for r in tables["all"]] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [(r["model_a"], r["model_b"]) for r in tables["b"]] == [("b", "a"), ("b", "c")]
    assert tables["b"][0]["difference"] == pytest.approx(-tables["all"][0]["difference"])
    assert tables["b"][1] == tables["all"][2]
    assert tables["none"] == []


def test_the_command_names_the_option(data, tmp_path):
    labels, models = on(np.arange(N), data)
    write_labels(labels, tmp_path / "labels.parquet")
    for model in models:
        write_predictions(model, tmp_path / "models" / f"{model.model}.parquet")
    call = ["evaluate", "labels.parquet", "--predictions", "models", "--metric", "real1", "--resamples", 50]
    done = commands.run(*call, "--compare-with", "mid", cwd=tmp_path)
    assert "Compared with mid: 1 better" in done.stdout
    failed = commands.run(*call, "--compare-with", "bst", cwd=tmp_path, code=2)
    assert "--compare-with" in failed.stderr
    assert "did you mean 'best'?" in failed.stderr


def relabelled(data, **options):
    """Return results on old and on corrected labels of the same images, and which images are right."""
    label, models = data
    rng = np.random.default_rng(8)
    new = np.where(rng.random(N) < 0.1, (label + 1) % C, label)
    found = {
        name: evaluate(
            [[k] for k in labels.tolist()],
            models,
            metrics=["top1", "real1"],
            reading=replace(READING, label=label.tolist(), dataset=name),
            **{"resamples": 1000, **options.get(name, {})},
        )
        for name, labels in (("old", label), ("new", new))
    }
    right = {name: scores.argmax(1)[:, None] == np.stack([label, new], 1) for name, scores in models.items()}
    return found, right


def drop_rows(found, metric):
    drops = compare(found["old"], found["new"]).drops.to_pylist()
    own = [r for r in drops if r["metric_x"] == r["metric_y"] == metric]
    return {r["model"]: r for r in own if r["dataset_x"] != r["dataset_y"]}


def test_old_and_new_labels_of_the_same_images_are_compared_on_the_same_resamples(data):
    """The interval of the change was that of independent images: ±2.09 points where nothing changed."""
    found, right = relabelled(data)
    same = drop_rows(found, "top1")
    assert {(r["drop"], r["lo"], r["hi"]) for r in same.values()} == {(0, 0, 0)}
    rows = drop_rows(found, "real1")
    for model, both in right.items():
        change = both[:, 0].astype(float) - both[:, 1]
        error = change.std() / np.sqrt(N)
        assert rows[model]["drop"] == pytest.approx(change.mean())
        ends = (change.mean() - 1.96 * error, change.mean() + 1.96 * error)
        assert (rows[model]["lo"], rows[model]["hi"]) == pytest.approx(ends, abs=0.2 * error)


@pytest.mark.parametrize("options", [{"seed": 1}, {"resamples": 999}])
def test_other_resamples_of_the_same_images_are_not_paired(data, options):
    found, _ = relabelled(data, new=options)
    row = drop_rows(found, "top1")["mid"]
    p = SHARES["mid"]
    assert row["hi"] - row["lo"] == pytest.approx(2 * 1.96 * np.sqrt(2 * p * (1 - p) / N), rel=0.15)


def test_it_is_said_why_data_sets_without_accuracies_are_not_compared(data):
    label, models = data
    y = np.eye(C, dtype=int)[label]
    found = [
        evaluate(y, models, metrics=["ranking_loss"], resamples=0, reading=replace(READING, dataset=name))
        for name in ("old", "new")
    ]
    assert (
        "old and new have 5 models in common and are not compared, because no accuracy, such as real1 or "
        "map_macro, is known for both."
    ) in list(compare(*found).lines())


def test_multi_label_metrics_drop_with_the_interval_of_independent_images():
    """Newcombe's method 10, from the intervals of this week and of last week, whose images differ."""
    rng, weeks, expected = np.random.default_rng(0), [], {}
    for week, gap in (("last", 0.5), ("this", 0.2)):
        y = (rng.random((500, 2)) < 0.3).astype(int)
        scores = (rng.random((500, 2)) + gap * y) / 1.5
        ids = [f"{week}{i}" for i in range(500)]
        labels, model = (pa.table({"image_id": ids, "a": v[:, 0], "b": v[:, 1]}) for v in (y, scores))
        metrics = ["map_macro", "f1_macro", "recall_micro", "hamming"]
        weeks.append(evaluate(labels, {"m": model}, metrics=metrics, scores="probability", dataset=week))
        hit = (scores >= 0.5) & (y > 0)
        f1 = 2 * hit.sum(0) / ((scores >= 0.5).sum(0) + y.sum(0))
        expected[week] = {
            "recall_micro": hit.sum() / y.sum(),
            "f1_macro": f1.mean(),
            "map_macro": np.mean([average_precision_score(y[:, c], scores[:, c]) for c in range(2)]),
        }
    found = compare(*weeks)
    rows = {r["metric_x"]: r for r in found.drops.to_pylist() if r["model"] == "m"}
    assert rows.keys() == expected["last"].keys()  # and not hamming, which is lower if it is better
    for metric, row in rows.items():
        (x, lx, ux), (y, ly, uy) = (
            (r["value"], r["lo"], r["hi"])
            for e in weeks
            for r in e.results.to_pylist()
            if (r["metric"], r["slice"]) == (metric, "all")
        )
        drop = expected["last"][metric] - expected["this"][metric]
        assert row["drop"] == pytest.approx(drop, abs=1e-6)
        near = 0.1 * (row["hi"] - row["lo"]) if metric == "recall_micro" else 1e-6  # which is resampled
        assert row["lo"] == pytest.approx(drop - np.hypot(x - lx, uy - y), abs=near)
        assert row["hi"] == pytest.approx(drop + np.hypot(ux - x, y - ly), abs=near)
    mean = next(r for r in found.mean_drops if r["metric_x"] == "map_macro")
    assert (mean["lo"], mean["hi"]) == (rows["map_macro"]["lo"], rows["map_macro"]["hi"])


def test_drops_where_all_predictions_are_right_have_a_width():
    """Wilson's upper end of 0 wrong of n is z² / (n + z²), and so are both ends of Newcombe's drop."""
    images, found = (300, 500), []
    for seed, (name, n) in enumerate(zip(("last", "this"), images, strict=True)):
        y = np.random.default_rng(seed).integers(0, C, n)
        models = dict.fromkeys("ab", np.eye(C, dtype=np.float32)[y])
        sets = [[c] for c in y.tolist()]
        options = {"label": y, "dataset": name, "scores": "probability"}
        found.append(evaluate(sets, models, metrics=["top1"], reading=replace(READING, **options)))
    last, this = (1.959964**2 / (n + 1.959964**2) for n in images)
    rows = [*compare(*found).drops.to_pylist(), *diagnose_robustness(found).losses.to_pylist()]
    assert len(rows) == 6
    for row in rows:
        assert (row["lo"], row["hi"]) == pytest.approx((-last, this), abs=1e-6)


def test_resamples_that_are_drawn_otherwise_have_another_hash(monkeypatch):
    """Results of an earlier version, which drew many images one by one, are not paired with new ones."""
    ids, bootstrap = pa.array(["a", "b", "c"]), Bootstrap(np.ones((1, 3), bool), 10, seed=0)
    one_by_one = compared_pairs.drawn_images("mine", ids, bootstrap)["drawn_images"]
    assert compared_pairs.drawn_images("mine", ids, bootstrap)["drawn_images"] == one_by_one
    monkeypatch.setattr(resampling, "_MANY", 2)
    assert compared_pairs.drawn_images("mine", ids, bootstrap)["drawn_images"] != one_by_one
