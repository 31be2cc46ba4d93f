"""Intervals and comparisons over clusters of images, against plain loops of NumPy and scikit-learn."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from scipy.stats import kurtosis, t
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    coverage_error,
    precision_recall_curve,
    roc_auc_score,
)

import manyhot
from manyhot.data.inputs import Reading
from manyhot.errors import InputError, MatchError, UsageError

C, K, DRAWS = 4, 250, 2000


def draw(n_clusters, seed=0):
    """Return clustered label sets and the scores of two models, as frames by image id."""
    rng = np.random.default_rng(seed)
    number = np.repeat(np.arange(n_clusters), rng.integers(1, 6, n_clusters))
    n, effects = len(number), rng.normal(size=(n_clusters, C))
    y = (effects[number] + rng.normal(size=(n, C)) > 0.7).astype(int)
    shared = 0.8 * rng.normal(size=(n_clusters, C))[number]
    ids = [f"{i:04}.png" for i in rng.permutation(n)]

    def frame(values):
        return pd.DataFrame(values, index=ids, columns=list("wxyz"))

    scores = {m: expit(y * a + shared + rng.normal(size=(n, C))) for m, a in (("first", 1.5), ("second", 1))}
    label = np.argmax(effects[number] + rng.normal(size=(n, C)), 1)
    people = pd.Series([f"p{c}" for c in number], index=ids)
    images = pd.DataFrame(
        {
            "image_id": ids,
            "label": label,
            "patient_id": people.values,
            "view": np.where(rng.random(n) < 0.6, "AP", "PA"),
        }
    )
    return SimpleNamespace(
        number=number,
        y=y,
        score=scores,
        label=label,
        labels=frame(y),
        models={m: frame(s) for m, s in scores.items()},
        people=people,
        images=images,
    )


DATA = draw(K)
READING = Reading(scores="probability")


def evaluate(data=DATA, **options):
    options = {"clusters": data.people, "reading": READING, "metrics": ["real1"]} | options
    return manyhot.evaluate(data.labels, data.models, **options)


def rows(evaluation, metric, **where):
    """Return the results on all images by model."""
    where = {"metric": metric, "slice": "all"} | where
    return {
        row["model"]: row
        for row in evaluation.results.to_pylist()
        if all(row[name] == value for name, value in where.items())
    }


def auroc(y, s):
    return np.mean([roc_auc_score(y[:, c], s[:, c]) for c in range(C)])


def mean_ap(y, s):
    return np.mean([average_precision_score(y[:, c], s[:, c]) for c in range(C)])


def right(y, s):
    """Return whether the best class is valid, of images with a valid class."""
    has = y.any(axis=1)
    return y[has][np.arange(has.sum()), s[has].argmax(axis=1)].mean()


def cluster_bootstrap(number, value, inside=None, draws=DRAWS):
    """Return a value on images of clusters that are drawn with replacement."""
    rng, n_clusters = np.random.default_rng(1), number.max() + 1
    inside = np.ones(len(number), bool) if inside is None else inside
    places = [np.flatnonzero((number == c) & inside) for c in range(n_clusters)]
    drawn = (
        np.concatenate([places[c] for c in rng.integers(0, n_clusters, n_clusters)]) for _ in range(draws)
    )
    return np.array([value(at) for at in drawn])


def cluster_jackknife(number, value):
    """Return a value without each cluster, the standard error, and the degrees of freedom."""
    without = np.array([value(np.flatnonzero(number != c)) for c in np.unique(number)])
    k = len(without)
    df = min(2 * k / kurtosis(without, fisher=False), k - 1)
    return without, np.sqrt((k - 1) * without.var()), df


def assert_percentiles(row, samples):
    """Compare an interval of percentiles with that of other resamples.

    A percentile of 1,000 or 2,000 resamples at 2.5 % has a standard error of 0.085 and 0.06 standard
    deviations: the limit is four of their difference.
    """
    found, expected = (row["lo"], row["hi"]), np.quantile(samples, [0.025, 0.975])
    assert found == pytest.approx(expected, abs=4 * np.hypot(0.085, 0.06) * samples.std())


@pytest.mark.parametrize("model", ["first", "second"])
def test_real1_has_percentiles_of_drawn_clusters(model):
    row = rows(evaluate(), "real1")[model]
    y, s = DATA.y, DATA.score[model]
    assert row["value"] == pytest.approx(right(y, s))
    assert (row["n"], row["n_skipped"]) == (y.any(1).sum(), (~y.any(1)).sum())
    samples = cluster_bootstrap(DATA.number, lambda at: right(y[at], s[at]))
    assert_percentiles(row, samples)


def test_top1_has_percentiles_of_drawn_clusters_on_slices_too():
    reading = Reading(scores="probability", images=DATA.images)
    found = evaluate(metrics=["top1"], slices=["view"], reading=reading)
    best = DATA.score["first"].argmax(1)

    def value(at):
        return accuracy_score(DATA.label[at], best[at])

    assert_percentiles(rows(found, "top1")["first"], cluster_bootstrap(DATA.number, value))
    inside = (DATA.images["view"] == "AP").to_numpy()
    row = rows(found, "top1", slice="view=AP")["first"]
    samples = cluster_bootstrap(DATA.number, value, inside)
    assert row["n"] == inside.sum()
    assert row["hi"] - row["lo"] == pytest.approx(np.diff(np.quantile(samples, [0.025, 0.975]))[0], rel=0.15)


@pytest.mark.parametrize(("metric", "reference"), [("auroc_macro", auroc), ("map_macro", mean_ap)])
def test_rankings_have_the_jackknife_over_clusters(metric, reference):
    data = draw(60, seed=3)
    row, s = rows(evaluate(data, metrics=[metric]), metric)["first"], data.score["first"]
    value = reference(data.y, s)
    assert row["value"] == pytest.approx(value)
    _, error, df = cluster_jackknife(data.number, lambda at: reference(data.y[at], s[at]))
    half = t.ppf(0.975, df) * error / (value * (1 - value))
    # Changes of the images of a cluster are added up, which is exact to first order.
    widths = logit(row["hi"]) - logit(row["lo"]), 2 * half
    assert widths[0] == pytest.approx(widths[1], rel=0.04)
    assert expit((logit(row["hi"]) + logit(row["lo"])) / 2) == pytest.approx(value)


def test_clusters_of_like_images_are_left_out_exactly_in_eleven_point_precision():
    """Ten frames of a scene have the same labels and scores."""
    rng, n_scenes = np.random.default_rng(1), 60
    y = rng.random(n_scenes) < 0.3
    scene, y = np.repeat(np.arange(n_scenes), 10), np.repeat(y, 10)
    scores = np.repeat(rng.normal(size=n_scenes), 10) + 1.5 * y
    found = manyhot.evaluate(
        np.stack([y, ~y], 1).astype(int),
        np.stack([scores, -scores], 1),
        clusters=scene,
        metrics=["map_11point"],
        reading=Reading(scores="logit"),
    )
    (row,) = (r for r in found.results.to_pylist() if r["slice"] == "all")

    def one(y, s):
        precision, recall, _ = precision_recall_curve(y, s)
        return np.mean([precision[recall >= r / 10 - 1e-9].max() for r in range(11)])

    def value(at):
        return np.mean([one(y[at], scores[at]), one(~y[at], -scores[at])])

    everything = value(np.arange(len(y)))
    assert row["value"] == pytest.approx(everything)
    _, error, df = cluster_jackknife(scene, value)
    half = t.ppf(0.975, df) * error / (everything * (1 - everything))
    of_classes = (r for r in found.per_class["class_means"].to_pylist() if r["metric"] == "map_11point")
    for lo, hi in ((row["lo"], row["hi"]), *((r["value_lo"], r["value_hi"]) for r in of_classes)):
        assert logit(hi) - logit(lo) == pytest.approx(2 * half, rel=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_a_cluster_with_many_of_the_images_and_classes_of_its_own_is_left_out_exactly(seed):
    """Almost half of the images are of one of 36 cameras, which alone shows half of the classes."""
    rng, n, n_classes = np.random.default_rng(seed), 600, 20
    camera = np.where(np.arange(n) < 270, 0, 1 + np.arange(n) % 35)
    label = np.where(camera == 0, rng.integers(0, 10, n), rng.integers(10, 20, n))
    y = np.eye(n_classes, dtype=int)[label]
    scores = rng.normal(size=(n, n_classes)) + 1.5 * y
    found = manyhot.evaluate(
        y, scores, clusters=camera, metrics=["map_macro"], reading=Reading(scores="logit")
    )
    (row,) = (r for r in found.results.to_pylist() if r["slice"] == "all")

    def value(at):
        seen = np.flatnonzero(y[at].any(0))
        return np.mean([average_precision_score(y[at, c], scores[at, c]) for c in seen])

    everything = value(np.arange(n))
    assert row["value"] == pytest.approx(everything)
    _, error, df = cluster_jackknife(camera, value)
    half = t.ppf(0.975, df) * error / (everything * (1 - everything))
    assert logit(row["hi"]) - logit(row["lo"]) == pytest.approx(2 * half, rel=0.05)
    (note,) = (note.text for note in found.model_notes if "computed over 36 clusters" in note.text)
    assert "; one of them has 45 % of the images, so intervals may be far too narrow or too wide" in note


def test_map_resamples_draws_clusters():
    found, s = evaluate(metrics=["auroc_macro"], map_resamples=200), DATA.score["first"]
    row = rows(found, "auroc_macro")["first"]
    samples = cluster_bootstrap(DATA.number, lambda at: auroc(DATA.y[at], s[at]), draws=200)
    value = auroc(DATA.y, s)
    half = t.ppf(0.975, 199) * samples.std() / (value * (1 - value))
    # The standard deviation of 200 values has a relative error of 5 %: three errors of the difference of two.
    assert (logit(row["hi"]) - logit(row["lo"])) / 2 == pytest.approx(half, rel=0.21)


@pytest.mark.parametrize(("metric", "reference"), [("real1", right), ("auroc_macro", auroc)])
def test_pairs_are_compared_by_the_jackknife_over_clusters(metric, reference):
    data = draw(80, seed=2)
    (pair,) = evaluate(data, metrics=[metric]).pairs.to_pylist()
    a, b = (data.score[pair[name]] for name in ("model_a", "model_b"))

    def difference(at):
        return reference(data.y[at], b[at]) - reference(data.y[at], a[at])

    _, error, df = cluster_jackknife(data.number, difference)
    value = difference(np.arange(len(data.y)))
    assert pair["difference"] == pytest.approx(value)
    assert pair["hi"] - pair["lo"] == pytest.approx(2 * t.ppf(0.975, df) * error, rel=0.03)
    assert pair["p"] == pytest.approx(2 * t.sf(abs(value) / error, df), rel=0.2)
    # The standard deviation of 200 values has a relative error of 5 %.
    samples = cluster_bootstrap(data.number, difference, draws=200)
    assert error == pytest.approx(samples.std(), rel=0.2)


def test_models_share_the_drawn_clusters():
    found = evaluate(metrics=["real1"])
    samples = {row["model"]: row["values"] for row in found.samples.to_pylist() if row["slice"] == "all"}
    apart = np.array(samples["second"]) - samples["first"]

    def difference(at):
        return right(DATA.y[at], DATA.score["second"][at]) - right(DATA.y[at], DATA.score["first"][at])

    expected = cluster_bootstrap(DATA.number, difference)
    assert apart.std() == pytest.approx(expected.std(), rel=0.12)


def test_compare_gives_the_pairs_of_evaluate():
    pairs = evaluate(metrics=["real1", "auroc_macro"]).pairs.to_pylist()
    options = {"metrics": ["real1", "auroc_macro"], "clusters": DATA.people, "reading": READING}
    found = manyhot.compare(DATA.models, labels=DATA.labels, **options)
    for row, expected in zip(found.results.pairs.to_pylist(), pairs, strict=True):
        assert {name: row[name] for name in expected} == pytest.approx(expected, nan_ok=True)
    assert any("over 250 clusters" in note for note in found.notes)


def test_classes_are_compared_by_the_jackknife_over_clusters():
    data = draw(100, seed=1)
    options = {"metrics": ["auroc_macro"], "clusters": data.people, "reading": READING}
    found = manyhot.compare(data.models, labels=data.labels, **options)
    for c, row in enumerate(found.classes.to_pylist()):

        def difference(at, c=c):
            first, second = (
                average_precision_score(data.y[at, c], data.score[m][at, c]) for m in ("first", "second")
            )
            return second - first

        _, error, df = cluster_jackknife(data.number, difference)
        width = row["difference_hi"] - row["difference_lo"]
        assert width == pytest.approx(2 * t.ppf(0.975, df) * error, rel=0.03)


def test_each_class_has_the_jackknife_over_clusters():
    data = draw(100, seed=1)
    found, s = evaluate(data, metrics=None).per_class, data.score["first"]
    for c, row in enumerate(r for r in found["class_results"].to_pylist() if r["model"] == "first"):
        for name, metric in (("ap", average_precision_score), ("auroc", roc_auc_score)):

            def value(at, c=c, metric=metric):
                return metric(data.y[at, c], s[at, c])

            whole = value(np.arange(len(s)))
            _, error, df = cluster_jackknife(data.number, value)
            half = t.ppf(0.975, df) * error / (whole * (1 - whole))
            assert row[name] == pytest.approx(whole)
            assert logit(row[f"{name}_hi"]) - logit(row[f"{name}_lo"]) == pytest.approx(2 * half, rel=0.03)


def test_a_column_a_series_and_a_mapping_give_the_same_intervals():
    by_column = evaluate(clusters="patient_id", reading=Reading(scores="probability", images=DATA.images))
    expected = by_column.results.drop_columns([])
    for clusters in (DATA.people, DATA.people.sample(frac=1, random_state=0), DATA.people.to_dict()):
        assert evaluate(clusters=clusters).results.equals(expected)


def test_columns_with_commas_in_between_name_clusters_together():
    """Wells of different plates have the same names."""
    number = DATA.number
    images = DATA.images.assign(plate=number // 7, well=[f"A{n % 7}" for n in number])
    by_both = evaluate(clusters="plate, well", reading=Reading(scores="probability", images=images))
    assert by_both.results.equals(evaluate(clusters=DATA.people).results)
    with pytest.raises(InputError, match="There is no column 'row' of clusters"):
        evaluate(clusters="plate,row", reading=Reading(scores="probability", images=images))


def test_an_array_is_matched_to_labels_in_arrays():
    options = {"metrics": ["real1"], "reading": READING}
    found = manyhot.evaluate(DATA.y, DATA.score, clusters=DATA.number, **options)
    samples = cluster_bootstrap(DATA.number, lambda at: right(DATA.y[at], DATA.score["first"][at]))
    assert_percentiles(rows(found, "real1")["first"], samples)
    with pytest.raises(MatchError, match="has no image ids"):
        evaluate(clusters=DATA.number)


def test_the_note_states_the_numbers_of_clusters_and_images():
    n = len(DATA.people)
    exceptions = "; intervals of bins of confidence are still computed over images, and are too narrow"
    (note,) = (note for note in evaluate().model_notes if note.kind == "clusters")
    assert note.text == f"intervals and p-values are computed over 250 clusters with {n:,} images{exceptions}"
    few = draw(12)
    note = next(note for note in evaluate(few).model_notes if note.kind == "clusters")
    assert note.text == (
        f"intervals and p-values are computed over 12 clusters with {len(few.people)} images; with fewer "
        f"than 30 clusters, intervals may be too narrow{exceptions}"
    )
    enough = [note.text for note in evaluate(draw(30)).model_notes if note.kind == "clusters"]
    assert len(enough) == 1
    assert "too narrow" not in enough[0].replace(exceptions, "")
    assert not [n for n in evaluate(resamples=0).model_notes if n.kind == "clusters"]


def test_classes_that_are_in_one_cluster_only_are_noted():
    labels = DATA.labels.copy()
    labels.loc[(DATA.people != "p1").to_numpy(), "z"] = 0
    labels.loc[(DATA.people == "p1").to_numpy(), "z"] = 1
    for metric, expected in (("map_macro", 1), ("real1", 0)):
        found = manyhot.evaluate(labels, DATA.models, metrics=[metric], clusters=DATA.people, reading=READING)
        notes = [
            n.text for n in found.model_notes if n.text.startswith("1 of 4 classes are valid in one cluster")
        ]
        assert len(notes) == expected
    assert not any(
        "valid in one cluster" in note.text for note in evaluate(metrics=["map_macro"]).model_notes
    )


def test_the_note_counts_the_clusters_of_the_images_that_are_predicted():
    """As counted by pandas, of all images that a model predicts, and of the requested slices of them."""
    data = draw(40, seed=5)
    models = {m: of[:70] for m, of in data.models.items()}
    images = data.images.iloc[:70].assign(people=data.people.values[:70])
    views = images.groupby("view")["people"].nunique()
    reading = Reading(scores="probability", images=data.images)
    options = {"clusters": data.people, "metrics": ["real1"], "slices": ["view"], "reading": reading}
    found = manyhot.evaluate(data.labels, models, **options)
    (note,) = (note for note in found.model_notes if note.kind == "clusters")
    n = images["people"].nunique()
    assert n < 30 < data.people.nunique()
    assert note.text.startswith(
        f"intervals and p-values are computed over {n} clusters with 70 images; with fewer than 30 "
        f"clusters, such as view=AP with {views['AP']} and view=PA with {views['PA']}, intervals may be too "
        "narrow"
    )


@pytest.mark.parametrize("metric", ["coverage", "brier_set"])
def test_means_that_are_no_shares_have_an_interval_over_twelve_clusters(metric):
    data = draw(12, seed=2)
    row, s = rows(evaluate(data, metrics=[metric]), metric)["first"], data.score["first"]
    scored = np.flatnonzero(data.y.any(1))

    def brier(y, s):
        return np.mean((s.max(1) - y[np.arange(len(y)), s.argmax(1)]) ** 2)

    def value(at):
        at = np.intersect1d(at, scored)
        return {"coverage": coverage_error, "brier_set": brier}[metric](data.y[at], s[at])

    assert row["value"] == pytest.approx(value(np.arange(len(s))), rel=1e-6)
    _, error, df = cluster_jackknife(data.number, value)
    factor = np.exp(t.ppf(0.975, df) * error / row["value"])
    assert (row["lo"], row["hi"]) == pytest.approx((row["value"] / factor, row["value"] * factor), rel=1e-6)


@pytest.mark.parametrize(
    ("column", "is_likely"),
    [
        ("patient", True),
        ("PatientID", True),
        ("scene_id", True),
        ("Person", True),
        ("identity", True),
        ("patience", False),
    ],
)
def test_a_likely_column_is_suggested(column, is_likely):
    """Its name is enough, so the values here are shuffled."""
    images = DATA.images.rename(columns={"patient_id": column})
    images[column] = np.random.default_rng(0).permutation(images[column])
    texts = suggested(images)
    assert texts == is_likely * [
        f"intervals assume that images are independent, but some of them share a value of {column}: to "
        f"resample these values instead of images, pass {column} as `clusters`"
    ]


def suggested(images, data=DATA):
    found = evaluate(data, clusters=None, reading=Reading(scores="probability", images=images))
    return [note.text for note in found.model_notes if note.kind == "clusters"]


def test_a_column_without_repeated_values_is_not_suggested():
    assert not suggested(DATA.images.assign(patient_id=np.arange(len(DATA.images))))


def test_a_column_within_which_label_sets_are_similar_is_suggested_by_any_name():
    """The factor is that of the standard errors of the frequencies of the classes."""
    data = draw(100, seed=5)
    images = data.images.rename(columns={"patient_id": "swath"}).assign(tile=range(len(data.images)))
    images["other"] = np.random.default_rng(0).permutation(images["swath"])
    (text,) = suggested(images, data)
    own = [cluster_jackknife(data.number, lambda at, c=c: data.y[at, c].mean())[1] for c in range(C)]
    factor = np.sqrt(np.square(own).sum() / (data.y.var(axis=0).sum() / len(data.y)))
    start, icc, given, end = re.split(r"\(intraclass correlation ([\d.]+)\), .* a factor of ([\d.]+)", text)
    assert start == (
        "intervals assume that images are independent, but some of them share a value of swath, and their "
        "label sets are similar "
    )
    assert end == ": to resample these values instead of images, pass swath as `clusters`"
    assert float(given) == pytest.approx(factor, rel=0.05)
    assert 0 < float(icc) < 1


def test_a_named_column_comes_first():
    twice = DATA.images.assign(aaa=DATA.images["patient_id"], zzz=DATA.images["patient_id"])
    (text,) = suggested(twice)
    assert "share a value of patient_id, and their label sets are similar" in text


def test_measured_similarity_is_more_than_a_name():
    """Scenes are three kinds of places here, and say nothing of the labels."""
    images = DATA.images.rename(columns={"patient_id": "clip"})
    images["scene"] = np.array(["city", "highway", "residential"])[DATA.number % 3]
    (text,) = suggested(images)
    assert "share a value of clip, and their label sets are similar (intraclass correlation 0." in text
    images["copy"] = images["clip"]
    (text,) = suggested(images)
    assert re.search(r"a value of copy, .* \(intraclass correlation (0\.\d\d); clip: \1\), so", text)


@pytest.mark.parametrize("what", ["few values", "numbers", "classes", "measurements"])
def test_values_that_are_no_clusters_are_not_suggested(what):
    number, label = DATA.number, DATA.y @ (1, 2, 4, 8)
    values = {
        "few values": [f"season {v}" for v in label % 9],
        "numbers": number,
        "measurements": number / 7,
        "classes": [f"{v}" for v in range(len(label))],
    }
    data, images = DATA, DATA.images.drop(columns="patient_id")
    if what == "classes":  # as many values as classes, and each class has its own
        rng = np.random.default_rng(0)
        own = rng.integers(12, size=len(label))
        y = np.eye(12, dtype=int)[own]
        frame = {"index": DATA.labels.index, "columns": [f"c{i}" for i in range(12)]}
        models = {"first": pd.DataFrame(rng.random(y.shape), **frame)}
        data = SimpleNamespace(labels=pd.DataFrame(y, **frame), models=models, people=DATA.people)
        values["classes"], images = [f"kind {v}" for v in own], images.drop(columns="label")
    assert not suggested(images.assign(column=values[what]), data)


def test_images_without_a_cluster_are_refused():
    ids = sorted(DATA.people.index)[:2]
    for clusters in (DATA.people.drop(ids), DATA.people.mask(DATA.people.index.isin(ids))):
        with pytest.raises(InputError) as caught:
            evaluate(clusters=clusters)
        assert str(caught.value) == (
            "Some images have no cluster.\n"
            "  where:   `clusters`\n"
            f"  got:     2 of {len(DATA.people):,} images, such as {ids[0]}, {ids[1]}\n"
            "  allowed: a value for each labelled image\n"
            "  do:      add the missing values, or leave these images out of the labels"
        )


@pytest.mark.parametrize("name", ["Patient ID", "patient-id", "PATIENT_ID"])
def test_case_spaces_and_hyphens_of_a_column_do_not_matter(name):
    images = DATA.images.rename(columns={"patient_id": name})
    found = evaluate(clusters="patient_id", reading=replace(READING, images=images))
    expected = evaluate(clusters="patient_id", reading=replace(READING, images=DATA.images))
    assert found.results.equals(expected.results)


def test_an_unknown_column_is_refused():
    with pytest.raises(InputError) as caught:
        evaluate(clusters="patient", reading=Reading(scores="probability", images=DATA.images))
    assert str(caught.value) == (
        "There is no column 'patient' of clusters.\n  where:   `clusters`\n  allowed: patient_id, view"
    )
    with pytest.raises(
        InputError, match="pass a table with the column 'patient' as `images`; it can be the file"
    ):
        evaluate(clusters="patient")


def test_what_does_not_allow_for_clusters_is_refused():
    with pytest.raises(UsageError, match="`clusters` with `posterior`"):
        evaluate(posterior=5)
    with pytest.raises(UsageError, match="`clusters` with `audited`"):
        evaluate(audited=DATA.labels[:50])
    with pytest.raises(UsageError, match="`clusters` with `error_consistency`"):
        manyhot.compare(DATA.models, labels=DATA.labels, clusters=DATA.people, error_consistency=True)


def test_results_of_models_with_the_same_clusters_are_joined():
    both = evaluate(metrics=["real1", "auroc_macro"]).pairs.to_pylist()
    parts = [
        manyhot.evaluate(
            DATA.labels,
            {model: scores},
            metrics=["real1", "auroc_macro"],
            clusters=DATA.people,
            reading=READING,
        )
        for model, scores in DATA.models.items()
    ]
    joined = manyhot.compare(*parts).results.pairs.to_pylist()
    for row, expected in zip(joined, both, strict=True):
        assert {name: row[name] for name in expected} == pytest.approx(expected, nan_ok=True)
    other = manyhot.evaluate(
        DATA.labels, {"third": DATA.models["first"]}, metrics=["real1", "auroc_macro"], reading=READING
    )
    with pytest.raises(MatchError, match="clusters 250"):
        manyhot.compare(parts[0], other)


def test_results_state_how_intervals_are_computed():
    about = json.loads(evaluate(metrics=["real1", "map_macro", "brier_set"]).metadata["metrics"])
    found = {name: of["interval"] for name, of in about.items()}
    assert found == {
        "real1": "cluster_bootstrap",
        "map_macro": "cluster_jackknife",
        "brier_set": "cluster_jackknife",
    }


def test_slices_of_classes_allow_for_clusters():
    reading = Reading(scores="probability", images=DATA.images)
    found, plain = (
        evaluate(metrics=["top1"], slices=["class"], clusters=c, reading=reading) for c in (DATA.people, None)
    )
    assert found.results["slice"].to_pylist() == plain.results["slice"].to_pylist()
    widths = [
        np.mean([r["hi"] - r["lo"] for r in of.results.to_pylist() if r["slice"].startswith("class=")])
        for of in (found, plain)
    ]
    assert widths[0] > 1.05 * widths[1]


@pytest.mark.parametrize("command", ["evaluate", "diagnose_classes", "diagnose_calibration"])
def test_the_note_counts_the_clusters_of_images_with_predictions(command):
    predicted = DATA.people.isin([f"p{i}" for i in range(60)]).to_numpy()
    scores = DATA.models["first"][predicted]
    found = getattr(manyhot, command)(DATA.labels, scores, clusters=DATA.people, reading=READING)
    notes = [note.text for note in found.model_notes] if command == "evaluate" else found.notes
    assert any(f"over 60 clusters with {predicted.sum()} images" in note for note in notes), notes


def test_images_without_a_value_of_the_column_can_be_left_out_with_a_condition():
    ids = sorted(DATA.labels.index)[:2]
    images = DATA.images.copy()
    images["patient_id"] = images["patient_id"].mask(images["image_id"].isin(ids))
    with pytest.raises(InputError) as caught:
        evaluate(clusters="patient_id", reading=replace(READING, images=images))
    assert str(caught.value).endswith(
        "  do:      add the missing values, or leave these images out with `where` patient_id=*"
    )
    found = evaluate(clusters="patient_id", reading=replace(READING, images=images, where=("patient_id=*",)))
    everything = evaluate(clusters="patient_id", reading=replace(READING, images=DATA.images))
    first, before = (e.results.to_pylist()[0] for e in (found, everything))
    assert first["n"] + first["n_skipped"] == before["n"] + before["n_skipped"] - 2


def test_drops_are_over_clusters(tmp_path):
    """Between data sets with few clusters: Newcombe's interval from those of both values."""
    data = {"ke": draw(12, seed=1), "mx": draw(40, seed=2)}
    for name, one in data.items():
        evaluate(one, metrics=["real1"], dataset=name).write(tmp_path / name)
    compared = manyhot.compare([tmp_path / "ke", tmp_path / "mx"])
    parts = {name: manyhot.read_results(tmp_path / name).table.to_pylist() for name in data}
    drops = [r for r in compared.drops.to_pylist() if r["dataset_x"] != r["dataset_y"] and r["model"]]
    assert len(drops) == 2
    for row in drops:
        (vx, lx, hx), (vy, ly, hy) = (
            next(
                (r["value"], r["lo"], r["hi"])
                for r in parts[name]
                if (r["model"], r["metric"], r["slice"]) == (row["model"], row["metric_x"], "all")
            )
            for name in data
        )
        assert row["lo"] == pytest.approx(vx - vy - np.hypot(vx - lx, hy - vy), abs=1e-6)
        assert row["hi"] == pytest.approx(vx - vy + np.hypot(hx - vx, vy - ly), abs=1e-6)
    assert compared.notes[-1] == (
        "intervals of drops are computed over clusters of images (12 in ke, 40 in mx); with fewer than 30 "
        "clusters, they may be too narrow"
    )
    lines = list(compared.lines())
    assert any(re.match("metric +drop  95 % over clusters  95 % over families", line) for line in lines)
    compared.write(tmp_path / "both")
    manyhot.report_folder(tmp_path / "both")
    (page,) = (tmp_path / "both").rglob("index.html")
    text = page.read_text(encoding="utf-8")
    assert "95 % over clusters" in text
    assert "The thick bar is its 95 % interval over clusters of images" in text
    assert not re.findall("95 % interval over images|[0-9] over images", text)


def test_names_of_columns_are_folded_only_if_none_is_equal(monkeypatch):
    """Each of 2,007 columns was compared with all others in folded spelling: 8 of 21 s."""
    from manyhot.evaluate import clusters

    monkeypatch.setattr(clusters, "fold_name", None)
    y = np.repeat(np.random.default_rng(0).integers(0, 2, (40, 2)), 5, axis=0)
    ids = [f"{i}.jpg" for i in range(200)]
    images = pd.DataFrame({"image_id": ids, "farm": [f"f{i // 5}" for i in range(200)]})
    frame = pd.DataFrame(y, index=images["image_id"], columns=["cat", "dog"])
    found = manyhot.evaluate(
        frame,
        {"m": frame * 0.5},
        metrics=["hamming(threshold=0.2)"],
        reading=Reading(images=images, scores="probability"),
    )
    assert any("farm" in note for note in found.notes)
