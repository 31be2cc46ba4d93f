"""Intervals and pairs of metrics that are no means over images: mAP, AUROC and macro F1."""

import json
from functools import cache

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.stats import kurtosis, t
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score

from manyhot import compare, evaluate
from manyhot.evaluate.slices import ALL
from manyhot.tables import Predictions
from manyhot.tables.array_inputs import as_labels

N, C = 160, 3
REFERENCES = {
    "map_macro": average_precision_score,
    "auroc_macro": roc_auc_score,
    "f1_macro(threshold=0.5, link='identity')": lambda yes, scores: f1_score(
        yes, scores >= 0.5, average="macro"
    ),
}
MICRO = {
    "map_micro": lambda yes, scores: average_precision_score(yes.ravel(), scores.ravel()),
    "auroc_micro": lambda yes, scores: roc_auc_score(yes.ravel(), scores.ravel()),
}
EVERY = [*REFERENCES, *MICRO, "map_11point"]


@cache
def data(n=N, share=0.3):
    """Return label sets, and the scores of two models that agree in part."""
    rng = np.random.default_rng(0)
    yes, common = rng.random((n, C)) < share, rng.normal(size=(n, C))
    models = {
        name: (common + rng.normal(size=(n, C)) + gain * yes).astype(np.float32)
        for name, gain in (("a", 1.5), ("b", 1.2))
    }
    return yes, models


@cache
def judged(**options):
    yes, models = data()
    return evaluate(yes, models, metrics=EVERY, resamples=20, **options)


def numbers(evaluation, slice=ALL):
    rows = evaluation.to_polars().filter(slice=slice).to_dicts()
    return {(r["metric"], r["model"]): r for r in rows}


def without_each(reference, yes, scores):
    return np.array([reference(np.delete(yes, i, 0), np.delete(scores, i, 0)) for i in range(len(yes))])


@pytest.mark.parametrize("metric", EVERY)
def test_each_has_an_interval_and_its_models_are_compared(metric):
    for model in "ab":
        found = numbers(judged())[metric, model]
        assert 0 < found["lo"] < found["value"] < found["hi"] < 1
        assert found["n"] == N
    (pair,) = pl.from_arrow(judged().pairs).filter(metric=metric).to_dicts()
    values = [numbers(judged())[metric, model]["value"] for model in "ab"]
    assert pair["difference"] == pytest.approx(values[1] - values[0])
    assert (pair["lo"] + pair["hi"]) / 2 == pytest.approx(pair["difference"])
    assert pair["p"] == pair["p_adjusted"]
    assert (pair["p"] < 0.05) == (pair["lo"] > 0 or pair["hi"] < 0)
    assert pair["n"] == N
    assert {n.kind for n in judged().model_notes} == {"chance"}


@pytest.mark.parametrize("metric", [*REFERENCES, *MICRO])
def test_a_pair_is_that_of_the_plain_jackknife(metric):
    yes, models = data()
    reference = (REFERENCES | MICRO)[metric]
    values = without_each(reference, yes, models["a"]) - without_each(reference, yes, models["b"])
    df = 2 * N / kurtosis(values, fisher=False)
    error = np.sqrt((N - 1) * values.var())
    (pair,) = pl.from_arrow(judged().pairs).filter(metric=metric).to_dicts()
    near = {"rel": 0.03 if metric in MICRO else 1e-4}
    assert (pair["hi"] - pair["lo"]) / 2 == pytest.approx(t.ppf(0.975, df) * error, **near)
    assert pair["p"] == pytest.approx(2 * t.sf(abs(pair["difference"]) / error, df), **near)


def test_a_slice_is_the_data_set_of_its_images():
    yes, models = data()
    one = yes.sum(1) == 1
    alone = evaluate(yes[one], {m: s[one] for m, s in models.items()}, metrics=EVERY, resamples=20)
    sliced = numbers(judged(), "n_labels=1")
    for key, found in numbers(alone).items():
        assert found["n"] == one.sum()
        for column in ("value", "lo", "hi"):
            assert sliced[key][column] == pytest.approx(found[column], abs=1e-9)


def test_images_in_another_order_are_paired_alike():
    yes, models = data()
    moved = np.random.default_rng(1).permutation(N)
    ids = np.array([f"{i:03}" for i in range(N)])
    frames = {
        "a": pl.DataFrame(models["a"], schema=["x", "y", "z"]).with_columns(image_id=ids),
        "b": pl.DataFrame(models["b"][moved], schema=["x", "y", "z"]).with_columns(image_id=ids[moved]),
    }
    labels = pl.DataFrame(yes, schema=["x", "y", "z"]).with_columns(image_id=ids)
    found = pl.from_arrow(evaluate(labels, frames, metrics=EVERY, resamples=20).pairs)
    expected = pl.from_arrow(judged().pairs)
    assert found["metric"].to_list() == expected["metric"].to_list()
    for column in ("difference", "lo", "hi", "p"):
        np.testing.assert_allclose(found[column], expected[column], rtol=1e-5)


def test_models_on_other_images_are_not_compared():
    yes, models = data()
    labels = as_labels([np.flatnonzero(row) for row in yes], n_classes=C)
    kept = {"a": N, "b": 120, "a again": N}
    frames = [
        Predictions(labels.image_id[:n], m, scores=models[m[0]][:n], n_classes=C) for m, n in kept.items()
    ]
    found = evaluate(labels, frames, metrics=["map_macro"], resamples=20)
    pairs = {
        (r["model_a"], r["model_b"]): (r["difference"], r["p"]) for r in pl.from_arrow(found.pairs).to_dicts()
    }
    assert np.isnan([pairs["a", "b"], pairs["b", "a again"]]).all()
    assert pairs["a", "a again"] == (0, 1)


def test_too_few_positives_have_no_interval_and_no_p_for_a_reason():
    yes, models = data()
    few = {m: s[:25] for m, s in models.items()}
    found = evaluate(yes[:25], few, metrics=["map_macro", "auroc_macro", "map_micro", "lrap"], resamples=20)
    rows = numbers(found)
    assert [rows[m, "a"]["lo"] for m in ("map_macro", "auroc_macro", "map_micro")] == [None] * 3
    assert rows["lrap", "a"]["lo"] is not None
    pairs = pl.from_arrow(found.pairs).filter(metric="map_macro").to_dicts()
    assert [np.isnan(pairs[0][c]) for c in ("difference", "lo", "hi", "p")] == [False, True, True, True]
    counts = yes[:25].sum(0)
    n, m = (round((1 / c).sum() ** 2 / (1 / c**3).sum()) for c in (counts, np.minimum(counts, 25 - counts)))
    texts = (
        f"no interval of map_macro: too few positives ({n} effective, at least 30 needed)",
        f"no interval of auroc_macro: too few positives or negatives ({m} effective, at least 30 needed)",
        "no interval of map_micro: there are fewer than 30 positives",
    )
    assert (1 / counts).sum() ** 2 / (1 / counts**3).sum() < 30
    assert counts.sum() < 30
    assert [n.text for n in found.model_notes if n.model == "a"] == list(texts)
    assert {(n.kind, n.n) for n in found.model_notes} == {("no_interval", 25), ("chance", 25)}
    assert found.notes[:-1] == tuple(f"labels, 2 models: {text}" for text in texts)
    assert [n["text"] for n in found.to_json()["notes"][:3]] == list(texts)


def test_a_note_names_the_rare_classes_without_which_there_is_an_interval():
    names = ["common", "usual", "hernia", "frequent"]
    rng = np.random.default_rng(1)
    yes = rng.random((900, 4)) < np.array([0.3, 0.2, 0.01, 0.25])
    models = {
        m: (gain * yes + rng.normal(size=yes.shape)).astype(np.float32)
        for m, gain in (("a", 1.5), ("b", 1.0))
    }
    metrics = ["map_macro", "auroc_macro"]
    few, counts = yes[:, 2].sum(), yes.sum(0)
    number = round((1 / counts).sum() ** 2 / (1 / counts**3).sum())
    rest = f"; without hernia ({few}), there is an interval: pass the list of the other classes as `classes`"
    frames = [pd.DataFrame(values, columns=names) for values in (yes, *models.values())]
    for frame in frames:
        frame.index = [f"{i}.jpg" for i in range(900)]
    found = evaluate(frames[0], dict(zip("ab", frames[1:], strict=True)), metrics=metrics, resamples=20)
    texts = [n.text for n in found.model_notes if n.kind == "no_interval" and n.model == "a"]
    assert texts == [
        f"no interval of {metric}: too few {cases} ({number} effective, at least 30 needed){rest}"
        for metric, cases in zip(metrics, ("positives", "positives or negatives"), strict=True)
    ]
    # With the list of the other classes, there are intervals and p-values.
    others = [0, 1, 3]
    kept = {m: values[:, others] for m, values in models.items()}
    found = evaluate(yes[:, others], kept, metrics=metrics, resamples=20)
    assert all(row["lo"] is not None for row in numbers(found).values())
    assert not any(n.kind == "no_interval" for n in found.model_notes)
    assert np.isfinite([pair["p"] for pair in found.pairs.to_pylist()]).all()


def test_perfect_predictions_have_no_interval_for_a_reason():
    yes, _ = data()
    found = evaluate(yes, {"right": yes.astype(np.float32)}, metrics=["map_macro", "map_micro"], resamples=20)
    assert [r["lo"] for r in numbers(found).values()] == [None, None]
    note = found.model_notes[0]
    assert note.text == "no interval of map_macro, map_micro: leaving out images does not change the value"


def test_on_request_intervals_are_by_the_bootstrap():
    """The interval over all images is then that of resamples, and pairs are as they were."""
    boot = judged(map_resamples=200)
    assert pl.from_arrow(boot.pairs).equals(pl.from_arrow(judged().pairs))
    for key, found in numbers(boot).items():
        other = numbers(judged())[key]
        assert found["value"] == other["value"]
        assert found["lo"] != other["lo"]
        assert found["hi"] - found["lo"] == pytest.approx(other["hi"] - other["lo"], rel=0.35)


def methods(evaluation):
    return {name: m.get("interval") for name, m in json.loads(evaluation.metadata["metrics"]).items()}


def test_results_record_how_each_interval_is_computed():
    yes, models = data()
    assert set(methods(judged()).values()) == {"jackknife"}
    assert set(methods(judged(map_resamples=3)).values()) == {"resampled"}
    both = evaluate(yes, models, metrics=["lrap", "map_macro", "ece"], scores="logit", resamples=20)
    assert methods(both) == {"lrap": "jackknife", "map_macro": "jackknife", "ece": None}
    many = evaluate(*(np.tile(a, (2, 1)) for a in (yes, models["a"])), metrics=["lrap"], resamples=20)
    assert methods(many) == {"lrap": "bootstrap"}  # not for few images
    wilson = evaluate([[0], [1]], [[1, 0], [0, 1]], metrics=["real1_unasked"], classes=["a", "b"])
    assert methods(wilson) == {"real1_unasked": "wilson"}
    assert set(methods(evaluate(yes, models, metrics=EVERY, resamples=0)).values()) == {None}


def test_without_resamples_there_are_no_intervals():
    yes, models = data()
    found = evaluate(yes, models, metrics=EVERY, resamples=0)
    assert found.to_polars()["lo"].is_null().all()
    assert found.pairs.num_rows == 0


def over_positives(score, yes, predicted):
    return score(yes, predicted, average="macro", labels=np.flatnonzero(yes.any(0)), zero_division=0)


def f1_of_averages(yes, predicted, **options):
    precision = precision_score(yes, predicted, **options)
    recall = recall_score(yes, predicted, **options | {"zero_division": np.nan})
    return 2 * precision * recall / (precision + recall)


MACRO = {"f1_macro": f1_score, "precision_macro": precision_score, "f1_of_averages": f1_of_averages}


def with_a_class_that_no_image_has():
    """Return label sets, and two models, of which one predicts a class that no image has, on one image."""
    rng = np.random.default_rng(1)
    yes = np.pad(rng.random((200, 2)) < 0.4, ((0, 0), (0, 1)))
    first = np.where(rng.random((200, 3)) < 0.1, ~yes, yes)
    second = np.where(rng.random((200, 3)) < 0.05, ~yes, yes)
    first[:, 2] = second[:, 2] = False
    second[-1, 2] = True
    return yes, {"first": first * 0.8 + 0.1, "second": second * 0.8 + 0.1}


@pytest.mark.parametrize("resamples", [0, 20])
def test_macro_averages_are_compared_over_the_classes_with_positives(tmp_path, resamples):
    yes, models = with_a_class_that_no_image_has()
    options = {"scores": "probability", "metrics": [*MACRO], "resamples": resamples}
    found = compare(models, labels=yes, **options)
    predicted = {name: scores > 0.5 for name, scores in models.items()}
    for metric, score in MACRO.items():
        one, other = (over_positives(score, yes, predicted[name]) for name in models)
        (row,) = (d for d in found.to_json()["differences"] if d["metric"] == metric)
        assert row["difference"] == pytest.approx(other - one)
        whole = score(yes, predicted["second"], average="macro", zero_division=0)
        assert row["b"] == pytest.approx(whole)  # the value itself is that of all three classes
        assert row["b"] < row["a"] + row["difference"]
        if resamples:
            keep = [np.delete(np.arange(200), i) for i in range(200)]
            changes = [
                over_positives(score, yes[k], predicted["second"][k])
                - over_positives(score, yes[k], predicted["first"][k])
                for k in keep
            ]
            error = np.sqrt(199 / 200 * np.sum((changes - np.mean(changes)) ** 2))
            df = 200 * 2 / kurtosis(changes, fisher=False)
            half = t.ppf(0.975, min(df, 199)) * error
            assert (row["lo"], row["hi"]) == pytest.approx(
                (row["difference"] - half, row["difference"] + half), rel=1e-3
            )
    note = (
        "labels, second: a class without positives that the model predicts counts as 0 in f1_macro, "
        "precision_macro, f1_of_averages (differences between models leave it out): 2"
    )
    assert note in found.notes
    # Those of models that were evaluated one by one and joined are the same.
    for name, scores in models.items():
        evaluate(yes, {name: scores}, **options).write(tmp_path / name)
    joined = compare(tmp_path / "first", tmp_path / "second")
    assert joined.to_json()["differences"] == found.to_json()["differences"]


def test_macro_averages_are_compared_over_the_classes_of_each_slice():
    yes, models = with_a_class_that_no_image_has()
    parts = np.repeat(["start", "end"], 100)
    images = pd.DataFrame({"image_id": [str(i) for i in range(200)], "part": parts})
    found = compare(
        models, labels=yes, images=images, slices=["part"], scores="probability", metrics=["f1_macro"]
    )
    by_slice = {d["slice"]: d["difference"] for d in found.to_json()["differences"]}
    for part in ("start", "end"):
        one, other = (
            over_positives(f1_score, yes[parts == part], scores[parts == part] > 0.5)
            for scores in models.values()
        )
        assert by_slice[f"part={part}"] == pytest.approx(other - one)


def test_models_that_differ_by_rounding_have_the_interval_of_equal_models():
    rng = np.random.default_rng(3)
    yes = rng.random((1000, 20)) < 0.07
    scores = (0.2 + 0.06 * yes + 0.02 * rng.normal(size=yes.shape)).astype(np.float32)
    rounded = (1 / (1 + np.exp(-(scores - 0.235) * 110))).astype(np.float32)
    values = [average_precision_score(yes.ravel(), s.ravel()) for s in (scores, rounded)]
    assert 0 < abs(values[1] - values[0]) < 1e-6
    metrics = ["map_micro", "map_macro"]
    found = compare({"a": scores, "b": rounded}, labels=yes, scores="none", metrics=metrics)
    half = 1.959964 * np.append(np.zeros(1000), [1, -1]).std() / np.sqrt(1002)
    for row in found.to_json()["differences"]:
        assert (row["lo"], row["hi"]) == pytest.approx((-half, half))
