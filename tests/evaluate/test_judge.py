from dataclasses import replace

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import compute as pc
from scipy.special import expit, log_softmax, softmax
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, f1_score

from manyhot import evaluate, read_images, read_labels, read_predictions
from manyhot.classes import class_list, from_keys
from manyhot.data.inputs import Reading
from manyhot.errors import InputError, MatchError, OrderError, UnknownNameError, UsageError
from manyhot.evaluate import columns
from manyhot.run import Run
from manyhot.tables import Images, Labels, Predictions, write_predictions
from manyhot.tables.array_inputs import as_labels


def message(make, kind):
    with pytest.raises(kind) as error:
        make()
    return str(error.value)


def test_progress_counts_the_models_and_ends_with_the_intervals():
    labels, steps = as_labels([[0], [1]], n_classes=2), []
    models = {name: np.array([[0], [1]]) for name in "ab"}
    run = Run(on_progress=lambda what, *step: steps.append(step) if what.startswith("evaluating") else None)
    evaluate(labels, models, reading=Reading(n_classes=2, trust_order=True), resamples=0, run=run)
    assert steps == [(1, 3), (2, 3), (3, 3)]


@pytest.fixture(scope="module")
def published_val(published):
    rows = read_images(published("imagenet-validation-original.json"))
    labels = read_labels(published("real.json")).with_labels(rows)
    models = [
        read_predictions(published(f"imagenet-validation-original/{m}.npy"), rows=rows)
        for m in ("alexnet", "vgg16", "resnet50", "resnet152")
    ]
    names = ["alexnet", "vgg16", "resnet50", "resnet152"]
    return labels, [Predictions(p.image_id, n, p.classes) for p, n in zip(models, names, strict=True)], rows


@pytest.fixture(scope="module")
def judged(published_val):
    labels, models, _ = published_val
    return evaluate(labels, models, slices=["class=n01440764"], resamples=400)


def row(evaluation, **where):
    frame = evaluation.to_polars().filter(*(pl.col(c) == v for c, v in where.items()))
    (found,) = frame.to_dicts()
    return found


def test_published_values_of_resnet50(judged):
    for metric, value, n in (
        ("top1", 0.76130, 50_000),
        ("top5", 0.92862, 50_000),
        ("real1", 0.82958, 46_837),
    ):
        found = row(judged, model="resnet50", metric=metric, slice="all")
        assert round(found["value"], 5) == value
        assert (found["n"], found["n_skipped"]) == (n, 50_000 - n)
        assert found["lo"] < found["value"] < found["hi"]


def test_published_values_of_others(judged):
    values = {
        m: row(judged, model=m, metric="top1", slice="all")["value"]
        for m in ("alexnet", "vgg16", "resnet152")
    }
    assert {m: round(v, 5) for m, v in values.items()} == {
        "alexnet": 0.56518,
        "vgg16": 0.71592,
        "resnet152": 0.78312,
    }


def test_published_values_on_imagenetv2(published):
    rows = read_images(published("imagenetv2-b-33.json"))
    labels = read_labels(published("imagenetv2_refined_labels.json"))
    model = read_predictions(published("imagenetv2-b-33/resnet50.npy"), rows=rows)
    found = evaluate(labels, [model], resamples=0, reading=Reading(images=rows))
    assert found.value("top1") == 0.6333
    real = row(found, metric="real1", slice="all")
    assert (round(real["value"], 5), real["n"], real["n_skipped"]) == (0.75372, 9_871, 129)


def test_original_labels_as_a_model(published_val):
    labels, _, rows = published_val
    original = Predictions(rows.image_id, "original", rows.label.to_numpy().astype(np.int32)[:, None])
    assert round(evaluate(labels, [original], metrics=["real1"], resamples=0).value("real1"), 5) == 0.90023


def test_slices_add_up(judged):
    frame = judged.to_polars().filter(model="resnet50", metric="top1")
    n = dict(frame.select("slice", "n").iter_rows())
    assert [n[f"n_labels{s}"] for s in ("=1", "=2", "=3", ">=4")] == [
        39394,
        5408,
        1319,
        411 + 161 + 88 + 41 + 13 + 2,
    ]
    assert [n[f"superclass={s}"] for s in ("organism", "artifact", "other")] == [20_500, 26_100, 3_400]
    assert n["class=n01440764"] == 50


def test_class_slices_have_wilson_intervals(judged):
    found = row(judged, model="resnet50", metric="top1", slice="class=n01440764")
    k = round(found["value"] * found["n"])
    expected = binomtest(k, found["n"]).proportion_ci(0.95, method="wilson")
    assert (found["lo"], found["hi"]) == (pytest.approx(expected.low), pytest.approx(expected.high))


def test_wrong_row_order_is_refused(published_val, published):
    labels, _, _ = published_val
    by_name = Images(pa.table({"image_id": labels.image_id, "label": labels.table["label"]}))
    model = read_predictions(published("imagenet-validation-original/resnet50.npy"), rows=by_name)
    assert message(lambda: evaluate(labels, [model], resamples=0), OrderError) == (
        "The predictions of imagenet-validation-original--resnet50 do not match the labels in the "
        "present order; the likely cause is rows sorted by class, read in the order of file names.\n"
        f"  where:   {model.source}\n"
        "  got:     top-1 accuracy 0.0011\n"
        "  do:      pass the order of the rows (`rows`) or columns (`classes`) of the file, or `trust_order` "
        "if the present order is correct"
    )


def test_the_file_that_is_stored_worst_first_is_refused(published):
    rows = read_images(published("imagenetv2-b-33.json"))
    labels = read_labels(published("imagenetv2_refined_labels.json"))
    model = read_predictions(published("imagenetv2-b-33/fv_16k.npy"), rows=rows)
    text = message(lambda: evaluate(labels, [model], resamples=0, reading=Reading(images=rows)), OrderError)
    assert text.startswith(
        "The predictions of imagenetv2-b-33--fv_16k do not match the labels in the present order; the likely "
        "cause is classes stored worst first.\n"
    )
    trusted = evaluate(labels, [model], resamples=0, reading=Reading(images=rows, trust_order=True))
    assert trusted.value("top1") == 0.0247


def small_labels(n=3, **changes):
    columns = {
        "image_id": [f"{i}.jpg" for i in range(n)],
        "label": pa.array(range(n), pa.int32()),
        "usable": [True] * n,
        "classes": [[i] for i in range(n)],
        "state": [["yes"]] * n,
    } | changes
    return Labels(pa.table(columns), 10, name="L")


def model(ids, classes=None, name="m", **about):
    classes = (
        np.tile(np.arange(5, dtype=np.int32), (len(ids), 1))
        if classes is None
        else np.array(classes, np.int32)
    )
    return Predictions(pa.array(ids), name, classes, **about)


def test_partial_overlap_goes_on_and_is_recorded():
    found = evaluate(small_labels(), [model(["1.jpg", "x.jpg", "0.jpg"], [[1], [0], [0]])], resamples=10)
    assert found.value("top1") == 1.0
    assert row(found, metric="top1", slice="all")["n"] == 2
    assert [(n.model, n.kind, n.n, n.text) for n in found.model_notes] == [
        ("m", "predictions_unmatched", 1, "1 of 3 predicted images have no labels and were left out"),
        ("m", "labels_unmatched", 1, "1 of 3 labelled images have no prediction and were left out"),
        (
            "m",
            "no_interval",
            3,
            "no interval of mla, asma: leaving out images does not change the value",
        ),
    ]


def test_order_of_rows_does_not_matter():
    rng = np.random.default_rng(0)
    labels = small_labels(9)
    ids, classes = (
        np.array(labels.image_id.to_pylist()),
        rng.permuted(np.tile(np.arange(10), (9, 1)), axis=1)[:, :5],
    )
    order = rng.permutation(9)
    one = evaluate(labels, [model(ids.tolist(), classes)], resamples=50)
    other = evaluate(labels, [model(ids[order].tolist(), classes[order])], resamples=50)
    assert one.to_polars().equals(other.to_polars())


def test_models_may_be_resampled_in_batches(monkeypatch):
    rng = np.random.default_rng(0)
    ids = [f"{i}.jpg" for i in range(300)]
    labels = small_labels(
        300, label=pa.array(np.arange(300) % 10, pa.int32()), classes=[[i % 10] for i in range(300)]
    )
    models = [
        model(ids, rng.permuted(np.tile(np.arange(10), (300, 1)), axis=1)[:, :5], f"m{i}") for i in range(5)
    ]
    together = evaluate(labels, models, resamples=100)
    monkeypatch.setattr(columns, "_BATCH", 2)
    monkeypatch.setattr(columns, "_BATCH_BYTES", 1)
    batches = evaluate(labels, models, resamples=100)
    for name in ("lo", "hi"):
        np.testing.assert_allclose(batches.to_polars()[name], together.to_polars()[name], atol=1e-6)
    assert (
        batches.pairs.num_rows
        == together.pairs.num_rows
        == 10 * len(set(together.pairs["metric"].to_pylist()))
    )


def test_models_on_different_images_are_not_compared():
    labels = small_labels(9)
    ids = labels.image_id.to_pylist()
    models = [
        model(ids[:6], np.arange(6)[:, None], "a"),
        model(ids[3:], np.arange(3, 9)[:, None], "b"),
        model(ids[:6], np.arange(6)[:, None], "c"),
    ]
    found = evaluate(labels, models, metrics=["top1", "mla"], resamples=20)
    pairs = pl.from_arrow(found.pairs).filter(metric="top1")
    assert pairs.select("model_a", "model_b", "n").rows() == [("a", "b", 3), ("a", "c", 6), ("b", "c", 3)]
    assert pairs["difference"].is_nan().to_list() == [True, False, True]
    assert pairs["p_adjusted"].is_nan().to_list() == [True, False, True]


def test_asma_of_a_class_is_a_mean_over_set_sizes_too():
    labels = small_labels(
        3,
        label=pa.array([0, 0, 0], pa.int32()),
        classes=[[0], [0, 1], [0, 2]],
        state=[["yes"], ["yes"] * 2, ["yes"] * 2],
    )
    found = evaluate(
        labels,
        [model(labels.image_id.to_pylist(), [[0, 1], [5, 6], [0, 2]])],
        metrics=["asma", "mla"],
        slices=["class"],
    )
    assert (
        row(found, metric="asma", slice="class=0")["value"]
        == row(found, metric="asma", slice="all")["value"]
        == 0.75
    )
    assert row(found, metric="asma", slice="class=0")["lo"] is None
    assert row(found, metric="mla", slice="class=0")["lo"] is not None


def test_precision_looks_as_deep_as_it_is_asked_to():
    labels = small_labels(9)
    scores = np.eye(10, dtype=np.float32)[:9]
    found = evaluate(
        labels, [Predictions(labels.image_id, "d", scores=scores)], metrics=["precision@8"], resamples=0
    )
    assert found.value("precision@8") == 1 / 8


def test_a_metric_without_its_option():
    made = lambda: evaluate(small_labels(), [model(["0.jpg"])], metrics=["accuracy_at_coverage"])  # noqa: E731
    assert message(made, InputError) == (
        "The metric 'accuracy_at_coverage' needs its option 'coverage'.\n"
        "  got:     accuracy_at_coverage\n"
        "  do:      such as accuracy_at_coverage(coverage=0.5)"
    )


def test_no_overlap():
    assert message(lambda: evaluate(small_labels(), [model(["x"])]), MatchError) == (
        "No images are in both L and m.\n"
        "  got:     ids such as x\n"
        "  allowed: ids such as 0.jpg, 1.jpg\n"
        "  do:      pass the file with the images of each row, or labels of the same data set"
    )


def test_two_models_of_one_name():
    models = [model(["0.jpg"]), model(["0.jpg"], source="second.npy")]
    assert message(lambda: evaluate(small_labels(), models), MatchError) == (
        "Two models have the same name.\n"
        "  where:   second.npy\n"
        "  got:     m\n"
        "  do:      rename the file; if the file itself names its model: manyhot convert FILE NEW.parquet "
        "--model NAME"
    )


def test_predicted_class_out_of_range():
    made = lambda: evaluate(small_labels(), [model(["0.jpg", "1.jpg"], [[3], [10]])])  # noqa: E731
    assert message(made, InputError) == (
        "A predicted class is out of range.\n"
        "  where:   m\n"
        "  got:     10\n"
        "  allowed: 0 to 9\n"
        "  do:      check which class list the model predicts over"
    )


@pytest.mark.parametrize("n_classes", [3, 5])
def test_default_metrics_that_count_no_image_are_left_out(n_classes):
    """Fewer than five classes have no top five; a metric that is asked for is given in any case."""
    rng = np.random.default_rng(0)
    label, scores = rng.integers(n_classes, size=40), rng.random((40, n_classes))
    found = evaluate(label, {"m": scores}, resamples=0)
    values = {r["metric"]: (r["value"], r["n"]) for r in found.results.to_pylist() if r["slice"] == "all"}
    expected = {"top1": (pytest.approx((scores.argmax(axis=1) == label).mean()), 40)}
    assert values == expected | ({"top5": (1.0, 40)} if n_classes == 5 else {})
    asked = evaluate(label, {"m": scores}, metrics=["top1", "top5"], resamples=0)
    assert {r["metric"] for r in asked.results.to_pylist()} == {"top1", "top5"}


def test_unknown_metric():
    made = lambda: evaluate(small_labels(), [model(["0.jpg"])], metrics=["reall1"])  # noqa: E731
    lines = message(made, UnknownNameError).splitlines()
    assert lines[0] == "There is no metric 'reall1'."
    assert lines[1].startswith("  allowed: top1, top5, real1, real5, mla,")
    assert lines[2] == "  do:      did you mean 'real1' or 'recall_micro' or 'recall_macro'?"
    assert len(lines) == 3


def test_unknown_slice():
    made = lambda: evaluate(small_labels(), [model(["0.jpg"])], slices=["camera"])  # noqa: E731
    assert message(made, InputError) == (
        "There is no slice 'camera'.\n"
        "  allowed: class, class=KEY\n"
        "  do:      pass a table with the column 'camera' as `images`; it can be the file of label sets"
    )


@pytest.mark.parametrize("spec", ["", "=1"])
def test_slices_of_original_labels_are_called_class(spec):
    made = lambda: evaluate(small_labels(), [model(["0.jpg"])], slices=[f"label{spec}"])  # noqa: E731
    assert message(made, InputError) == (
        f"There is no slice 'label{spec}'.\n"
        "  allowed: class, class=KEY\n"
        f"  do:      the slices of original labels are called class: write class{spec}"
    )


def test_slices_by_columns_of_the_images_table():
    images = Images(pa.table({"image_id": ["2.jpg", "0.jpg", "1.jpg"], "camera": ["x", "y", "x"]}))
    labels = small_labels()
    found = evaluate(
        labels,
        [model(labels.image_id.to_pylist(), [[0], [0], [2]])],
        slices=["camera"],
        resamples=0,
        reading=Reading(images=images),
    )
    assert row(found, metric="top1", slice="camera=x")["value"] == 0.5
    assert row(found, metric="top1", slice="camera=y")["n"] == 1


IMAGES = Images(
    pa.table(
        {
            "image_id": ["0.jpg", "1.jpg", "2.jpg", "9.jpg"],
            "objects": pa.array([1, 3, None, 5], pa.int32()),
            "camera": ["x", "y", "x", "z"],
        }
    )
)


@pytest.mark.parametrize(
    ("spec", "n"),
    [
        ("objects=*", 2),
        ("objects=", 1),
        ("objects>=2", 1),
        ("objects>=0.5", 2),
        ("objects<=1", 1),
        ("objects=3", 1),
    ],
)
def test_slices_by_numbers_and_by_what_is_known(spec, n):
    labels = small_labels()
    found = evaluate(
        labels,
        [model(labels.image_id.to_pylist())],
        slices=[spec],
        resamples=10,
        reading=Reading(images=IMAGES),
    )
    assert row(found, metric="top1", slice=spec)["n"] == n
    samples = pl.DataFrame(pl.from_arrow(found.samples)).filter(metric="top1")
    assert samples["slice"].to_list() == ["all", spec]
    assert samples["values"].list.len().to_list() == [10, 10]


@pytest.mark.parametrize(
    ("values", "n_without"),
    [(["a", "b", None], 1), (["a", "", None], 2), ([["a"], [], None], 2), (["a", "b", "a"], 0)],
)
def test_images_without_a_value_are_counted_and_are_a_slice_on_request(values, n_without):
    labels, images = (
        small_labels(),
        Images(pa.table({"image_id": ["0.jpg", "1.jpg", "2.jpg"], "group": values})),
    )
    ask = lambda *slices: evaluate(  # noqa: E731
        labels,
        [model(["0.jpg", "1.jpg", "2.jpg"])],
        slices=slices,
        resamples=0,
        reading=Reading(images=images),
    )
    found = ask("group")
    assert (
        sum(row(found, metric="top1", slice=f"group={v}")["n"] for v in "ab" if v in str(values))
        == 3 - n_without
    )
    remark = f"{n_without} of 3 images have no value of group, and are in none of its slices: "
    assert any(remark in note.text for note in found.model_notes) == bool(n_without)
    if n_without:
        both = ask("group", "group=")
        assert row(both, metric="top1", slice="group=")["n"] == n_without
        assert not any("no value of group" in note.text for note in both.model_notes)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (
            "camera>=2",
            "The slice 'camera>=2' compares values that are neither numbers nor dates.\n"
            "  got:     a column of string, such as x\n"
            "  allowed: a column of numbers and a number, or a column of dates or times and a date such as "
            "2026-11-08",
        ),
        (
            "objects>=many",
            "The slice 'objects>=many' compares values that are neither numbers nor dates.\n"
            "  got:     a column of int32, such as 1\n"
            "  allowed: a column of numbers and a number, or a column of dates or times and a date such as "
            "2026-11-08",
        ),
        ("objects>=7", "No image is in the slice 'objects>=7'.\n  allowed: 1, 3"),
    ],
)
def test_slices_that_cannot_be_made(spec, text):
    made = lambda: evaluate(small_labels(), [model(["0.jpg"])], slices=[spec], reading=Reading(images=IMAGES))  # noqa: E731
    assert message(made, InputError) == text


def test_sizes_of_rated_images_where_others_were_not_rated():
    labels = small_labels(rated=[True, False, None])
    found = evaluate(labels, [model(["0.jpg", "1.jpg", "2.jpg"])], resamples=0)
    assert row(found, metric="top1", slice="rated=true,n_labels=1")["n"] == 1
    labels = small_labels(rated=[True, True, True])
    found = evaluate(labels, [model(["0.jpg", "1.jpg", "2.jpg"])], resamples=0)
    assert "rated=true,n_labels=1" not in found.to_polars()["slice"].to_list()


def test_samples_are_what_intervals_are_made_of(judged):
    samples = pl.DataFrame(pl.from_arrow(judged.samples)).filter(metric="real1", model="resnet50")
    (values,) = samples["values"].to_list()
    found = row(judged, model="resnet50", metric="real1", slice="all")
    assert np.quantile(values, [0.025, 0.975]) == pytest.approx([found["lo"], found["hi"]], abs=1e-6)
    assert len(values) == 400


def test_without_original_labels_top1_is_undefined():
    labels = small_labels(label=pa.nulls(3, pa.int32()))
    found = evaluate(labels, [model(["0.jpg", "1.jpg"])], metrics=["top1"], resamples=10)
    top = row(found, metric="top1", slice="all")
    assert (np.isnan(top["value"]), top["lo"], top["n"], top["n_skipped"]) == (True, None, 0, 2)


def test_without_original_labels_only_metrics_of_label_sets_are_computed():
    labels = small_labels(label=pa.nulls(3, pa.int32()))
    found = evaluate(labels, [model(["0.jpg", "1.jpg"])], resamples=0)
    metrics = set(found.results["metric"].to_pylist())
    assert {"real1", "variable_topk", "asma"} <= metrics
    assert not metrics & {"top1", "top5", "mla", "valid_errors"}


@pytest.mark.parametrize("metric", ["map_macro", "jaccard(threshold=0.5)"])
def test_dense_metrics_cannot_be_computed_from_ranks(metric):
    made = lambda: evaluate(small_labels(), [model(["0.jpg"])], metrics=[metric])  # noqa: E731
    needs = "scores over all classes" if metric == "map_macro" else "probabilities or logits of all classes"
    instead = (
        "if the predicted classes of an image are a set, write them as one column of 0 and 1 per class, or "
        "convert the file with manyhot convert and --format 'tag-lists(sets=True)'"
    )
    assert message(made, InputError) == (
        f"{metric} cannot be computed: the predictions are ranks, without {needs}.\n  where:   m"
        + (f"\n  do:      {instead}" if "threshold" in metric else "")
    )
    beside = evaluate(
        small_labels(), [model(["0.jpg"])], metrics=["real1", metric]
    )  # one of two is only noted
    assert set(beside.results["metric"].to_pylist()) == {"real1"}
    assert any(
        f"{metric} skipped: the predictions are ranks, without {needs}" in note for note in beside.notes
    )


def test_metrics_of_unknown_scores_are_refused():
    labels, models = scored_models()
    made = lambda: evaluate(labels, [models["scores"]], metrics=["ece"], resamples=0)  # noqa: E731
    assert message(made, InputError) == (
        "ece cannot be computed: the predictions are scores of unknown kind, without the probability of the "
        "top class.\n"
        "  where:   scores\n"
        "  do:      declare their kind with `scores`"
    )
    scores = models["scores"].scores
    cosines = replace(models["scores"], scores=scores / np.abs(scores).max(), score_kind="cosine")
    made = lambda: evaluate(labels, [cosines], metrics=["f1_macro"], resamples=0)  # noqa: E731
    assert message(made, InputError) == (
        "f1_macro cannot be computed: the predictions are cosines, without probabilities or logits of all "
        "classes.\n"
        "  where:   scores\n"
        "  do:      use link='identity' for a threshold on the scores as they are stored"
    )
    raw = evaluate(labels, [cosines], metrics=["f1_macro(threshold=0.1, link='identity')"], resamples=0)
    assert 0 < raw.results["value"][0].as_py() < 1


def multi_label(kind="logit", n=60, c=6):
    """Return label sets without original labels, as a matrix, and scores that are worth something."""
    rng = np.random.default_rng(4)
    scores = 2 * rng.normal(size=(n, c))
    return (scores + rng.normal(size=(n, c)) > 1).astype(int), scores, Reading(scores=kind)


SOFTMAX = (
    "the probability of a class is the softmax of its logit, because the sigmoids of an image do not add "
    "up to about its number of valid classes; if the network was trained with sigmoids, pass `links`"
)


def sigmoid_network(n=300, c=24):
    """Return label sets, original labels and the logits of a network that was trained with sigmoids."""
    rng = np.random.default_rng(5)
    scores = rng.normal(-3.5, 1.5, size=(n, c))
    y = (rng.random((n, c)) < expit(scores)).astype(int)
    return y, np.where(y.any(axis=1), y.argmax(axis=1), -1), scores


def test_the_link_of_a_sigmoid_network_does_not_depend_on_original_labels():
    """F1 fell from 53.0 to 26.6 % when images with a column of labels were passed."""
    y, label, scores = sigmoid_network()
    reading, options = Reading(scores="logit"), {"metrics": ["f1_macro", "ece_set"], "resamples": 0}
    alone = evaluate(y, scores, reading=reading, **options)
    labelled = evaluate(y, scores, reading=replace(reading, label=label), **options)
    for metric in options["metrics"]:
        assert labelled.value(metric) == alone.value(metric)
    (note,) = labelled.notes
    assert note == (
        "labels, model: f1_macro, ece_set: the probability of a class is the sigmoid of its logit, because "
        "the sigmoids of an image add up to about its number of valid classes; if the network was trained "
        "with a softmax, pass `links`"
    )


def test_shifted_logits_are_those_of_a_softmax():
    y, label, scores = sigmoid_network()
    reading = Reading(scores="logit", label=label)
    found = evaluate(y, scores + 3.5, metrics=["ece_set"], resamples=0, reading=reading)
    p = evaluate(y, softmax(scores, axis=1), metrics=["ece_set"], resamples=0, scores="probability")
    assert found.value("ece_set") == pytest.approx(p.value("ece_set"), abs=1e-5)


@pytest.mark.parametrize("c", [5, 8, 20, 60])
def test_a_softmax_network_is_not_taken_for_one_with_sigmoids(c):
    """Its single label is one of an image's classes; also if it gives logarithms of probabilities."""
    rng = np.random.default_rng(c)
    label = rng.integers(0, c, 40 * c)
    x = 3 * np.eye(c)[label] + rng.normal(size=(len(label), c))
    y = np.eye(c, dtype=int)[label]
    y[np.arange(len(label)), rng.integers(0, c, len(label))] = 1
    scores = LogisticRegression(max_iter=2000).fit(x, label).decision_function(x)
    reading, options = Reading(scores="logit", label=label), {"metrics": ["ece_set"], "resamples": 0}
    p = evaluate(y, softmax(scores, axis=1), scores="probability", **options).value("ece_set")
    for logits in (scores, log_softmax(scores, axis=1)):
        assert evaluate(y, logits, reading=reading, **options).value("ece_set") == pytest.approx(p, abs=1e-5)


@pytest.mark.parametrize(("shift", "is_softmax"), [(0, True), (-5, False)])
def test_sigmoids_that_add_up_to_half_of_the_classes_have_a_note(shift, is_softmax):
    """As soon as one image of a long-tailed set had two labels, F1 of a softmax network was 0.7 %."""
    rng = np.random.default_rng(0)
    label = rng.integers(60, size=200)
    logits = rng.normal(size=(200, 60)) + 6 * np.eye(60)[label] + shift
    sets = [[int(c)] for c in label]
    sets[0].append((sets[0][0] + 1) % 60)
    options = {"n_classes": 60, "scores": "logit", "metrics": ["f1_micro"], "resamples": 0}
    (note,) = [n.text for n in evaluate(sets, logits, **options).model_notes if n.kind == "link"]
    why = (
        f", although the sigmoids of an image add up to {expit(logits).sum(axis=1).mean():.0f} of the 60 "
        "classes, as they do if the network was trained with a softmax; in this case, pass `links` softmax"
    )
    assert note == "f1_micro: the probability of a class is the sigmoid of its logit" + why * is_softmax
    declared = evaluate(sets, logits, links="softmax", **options)
    p = evaluate(sets, softmax(logits, axis=1), **options | {"scores": "probability"})
    assert declared.value("f1_micro") == pytest.approx(p.value("f1_micro"), abs=1e-9)


def test_links_of_some_models_are_declared_and_not_comparable_with_others():
    y, label, scores = sigmoid_network()
    reading = Reading(scores="logit", label=label, links=["b=softmax"])
    found = evaluate(y, {"a": scores, "b": scores}, metrics=["ece_set"], resamples=0, reading=reading)
    p = evaluate(y, softmax(scores, axis=1), metrics=["ece_set"], resamples=0, scores="probability")
    assert found.value("ece_set", model="b") == pytest.approx(p.value("ece_set"), abs=1e-5)
    assert found.value("ece_set", model="a") != found.value("ece_set", model="b")
    assert found.notes[0] == (
        "labels: metrics based on probabilities are not comparable across links: the probabilities of 1 "
        "model are "
        "sigmoids, and those of 1 a softmax; to declare how networks were trained, pass `links`"
    )


def test_a_declared_link_is_stored_in_the_file(tmp_path):
    scores = sigmoid_network()[2].astype(np.float32)
    ids = pa.array([f"{i}.jpg" for i in range(len(scores))])
    net = Predictions(ids, "net", scores=scores, score_kind="logit", n_classes=24, link="sigmoid")
    assert read_predictions(write_predictions(net, tmp_path / "net.parquet")).link == "sigmoid"


def test_multi_label_data_get_the_metrics_of_multi_label_classification():
    y, scores, reading = multi_label()
    found = evaluate(y, scores, resamples=0, reading=reading)
    metrics = ["map_macro", "map_micro", "map_image", "f1_micro", "f1_macro"]
    assert found.summary().columns == ["dataset", "model", *metrics]
    reference = f1_score(y, scores > 0, average="macro", zero_division=np.nan)
    assert found.value("f1_macro") == pytest.approx(reference)
    assert found.notes[0] == (
        "labels, model: f1_micro, f1_macro: the probability of a class is the sigmoid of its logit"
    )
    assert found.notes[1].startswith("labels: a ranking at random has map_macro ")
    softmaxed = evaluate(y, scores, metrics=["f1_macro(link='softmax')"], resamples=0, reading=reading)
    reference = f1_score(y, softmax(scores, axis=1) >= 0.5, average="macro", zero_division=np.nan)
    assert softmaxed.results["value"][0].as_py() == pytest.approx(reference)


def test_it_is_said_why_the_default_metrics_of_models_differ():
    y, scores, reading = multi_label()
    found = evaluate(y, {"dense": scores, "lists": np.argsort(-scores)[:, :5]}, resamples=0, reading=reading)
    assert found.notes[0] == (
        "labels: because there are no original labels, the default metrics of models with scores of all "
        "classes (1) are mAP and F1, and those of the others (1) are rank metrics; to compare all of them, "
        "pass `metrics`, such as real1"
    )


def test_metrics_that_need_a_declared_kind_are_skipped_by_default():
    y, scores, _ = multi_label()
    found = evaluate(y, scores, resamples=0)
    assert found.summary().columns[2:] == ["map_macro", "map_micro", "map_image"]
    assert found.notes[0] == (
        "labels, model: f1_micro, f1_macro skipped: the predictions are scores of unknown kind, without "
        "probabilities or logits of all classes; declare their kind with `scores`"
    )


def test_a_confidence_of_logits_without_original_labels_is_a_sigmoid():
    y, scores, reading = multi_label()
    found = evaluate(y, scores, metrics=["brier_set"], resamples=0, reading=reading)
    best, rows = scores.argmax(axis=1), np.flatnonzero(y.any(axis=1))
    reference = brier_score_loss(y[rows, best[rows]], expit(scores[rows, best[rows]]))
    assert found.value("brier_set") == pytest.approx(reference)
    assert found.notes == (
        "labels, model: brier_set: the probability of a class is the sigmoid of its logit",
    )


@pytest.mark.parametrize("metric", ["ece_set", "mce_set", "classwise_ece_set", "aurc_set", "error_auroc_set"])
def test_confidences_of_logits_of_independent_classes_are_those_of_their_probabilities(metric):
    y, scores, reading = multi_label()
    found = evaluate(y, scores, metrics=[metric], resamples=0, reading=reading)
    probability = evaluate(y, expit(scores), metrics=[metric], resamples=0, scores="probability")
    assert found.value(metric) == pytest.approx(probability.value(metric), abs=1e-6)


def test_a_confidence_of_logits_with_original_labels_remains_a_softmax():
    y, scores, reading = multi_label()
    label = np.where(y.any(axis=1), y.argmax(axis=1), -1)
    found = evaluate(y, scores, metrics=["brier_set"], resamples=0, reading=replace(reading, label=label))
    best, rows = scores.argmax(axis=1), np.flatnonzero(y.any(axis=1))
    p = softmax(scores, axis=1)[rows, best[rows]]
    assert found.value("brier_set") == pytest.approx(brier_score_loss(y[rows, best[rows]], p))
    assert found.notes == (f"labels, model: brier_set: {SOFTMAX}",)


def test_a_likelihood_of_logits_without_original_labels_is_refused():
    y, scores, reading = multi_label()
    made = lambda: evaluate(y, scores, metrics=["nll_mass"], resamples=0, reading=reading)  # noqa: E731
    assert message(made, InputError) == (
        "nll_mass cannot be computed: the probability of a class is the sigmoid of its logit, and the "
        "probabilities of an image do not add up to 1.\n"
        "  where:   model\n"
        "  do:      if the network was trained with a softmax, pass `links`, such as softmax"
    )
    p = softmax(scores.astype(np.float64), axis=1)
    known = evaluate(y, p, metrics=["nll_mass"], resamples=0, scores="probability").value("nll_mass")
    rows = np.flatnonzero(y.any(axis=1))
    assert known == pytest.approx(-np.log((p * y).sum(axis=1)[rows]).mean(), abs=1e-5)


def test_a_masked_metric_needs_answers():
    y, scores, _ = multi_label()
    sets = [np.flatnonzero(row).tolist() for row in y]
    made = lambda: evaluate(sets, scores, metrics=["map_macro(masked=True)"], resamples=0)  # noqa: E731
    assert message(made, InputError) == (
        "map_macro(masked=True) cannot be computed: the labels do not record which classes were answered "
        "no.\n"
        "  where:   model"
    )
    full = evaluate(y, scores, metrics=["map_macro(masked=True)", "map_macro"], resamples=0)
    assert full.value("map_macro(masked=True)") == full.value("map_macro")


def test_a_value_is_looked_up_by_another_name_of_its_metric():
    y, scores, reading = multi_label()
    found = evaluate(y, scores, metrics=["mAP", "map_macro"], resamples=0, reading=reading)
    assert found.value("mAP") == found.value("map_macro")
    assert len(found.results.filter(pc.equal(found.results["slice"], "all"))) == 1


def test_dense_models_get_dense_metrics_and_intervals_on_request():
    rng = np.random.default_rng(0)
    labels = small_labels(9)
    dense = Predictions(labels.image_id, "d", scores=rng.normal(size=(9, 10)).astype(np.float32))
    found = evaluate(labels, [dense, model(["0.jpg"])], resamples=20, map_resamples=20)
    frame = found.to_polars().filter(metric="map_macro", slice="all")
    assert frame["model"].to_list() == ["d"]
    assert frame["lo"].is_not_null().all()
    assert found.to_polars().filter(metric="map_image", model="d", slice="all")["lo"].is_not_null().all()


def test_too_many_resamples_for_map():
    made = lambda: evaluate(small_labels(), [model(["0.jpg"])], map_resamples=201)  # noqa: E731
    assert message(made, InputError) == (
        "`map_resamples` is out of range.\n  got:     201\n  allowed: 0 to 200"
    )


def test_the_same_seed_gives_the_same_numbers(published_val):
    labels, models, _ = published_val
    one, two = (
        evaluate(labels, models[:2], metrics=["real1", "mla"], resamples=50, seed=4) for _ in range(2)
    )
    assert one.to_polars().equals(two.to_polars())
    assert pl.from_arrow(one.pairs).equals(pl.from_arrow(two.pairs))


def test_evaluate_takes_lists_and_arrays():
    scores = np.array([[0.1, 0.7, 0.2], [0.5, 0.1, 0.4]])
    for labels in ([[1, 2], [2]], np.array([[False, True, True], [False, False, True]])):
        assert (
            evaluate(
                labels, {"a": scores}, metrics=["real1"], resamples=0, reading=Reading(n_classes=3)
            ).value("real1")
            == 0.5
        )
    assert evaluate(np.array([1, 0]), scores, resamples=0).value("top1") == 1.0


def test_class_list_is_known_by_its_hash():
    known = class_list()
    labels = Labels(small_labels().table, 1000, known.hash, name="L")
    found = evaluate(labels, [model(["0.jpg"])], resamples=0)
    assert "superclass=organism" in found.to_polars()["slice"].to_list()


def test_lists_with_hypernyms_that_are_not_wordnets_have_no_superclass_slices():
    """All classes would be in superclass=other."""
    taxa = replace(from_keys(["lion", "cat", "dog"]), hypernyms=(("Felidae",), ("Felidae",), ("Canidae",)))
    scores = np.eye(3, dtype=np.float32)
    found = evaluate(np.array([0, 1, 2]), scores, resamples=0, reading=Reading(classes=taxa))
    assert not [name for name in found.to_polars()["slice"].unique() if name.startswith("superclass=")]


UNCERTAIN = ("ece", "ece_set", "brier", "aurc_set")
CALIBRATION = tuple(
    f"{name}{end}"
    for name in ("ece", "ece_mass", "ece_debiased", "mce", "classwise_ece")
    for end in ("", "_set")
)


def scored_models(seed=0, n=60, c=12):
    """Return labels, dense logits, and the same as lists with and without logsumexp."""
    rng = np.random.default_rng(seed)
    logits = (3 * rng.normal(size=(n, c))).astype(np.float32)
    label = np.where(rng.random(n) < 0.6, logits.argmax(1), rng.integers(0, c, n))
    labels = as_labels(
        [[a] if i % 2 else [a, (a + 1) % c] for i, a in enumerate(label)], n_classes=c, label=label
    )
    top = np.argsort(-logits, axis=1)[:, :5]
    listed = np.take_along_axis(logits, top, 1)
    total = np.log(np.exp(logits.astype(np.float64)).sum(1)).astype(np.float32)
    ids = labels.image_id
    mixed = np.arange(n)[::-1]  # another order of images
    models = {
        "dense": Predictions(ids, "dense", scores=logits, score_kind="logit", n_classes=c),
        "list": Predictions(
            ids.take(pa.array(mixed)), "list", top[mixed], listed[mixed], total[mixed], "logit", c
        ),
        "logits alone": Predictions(ids, "logits alone", top, listed, None, "logit", c),
        "ranks": Predictions(ids, "ranks", top, n_classes=c),
        "scores": Predictions(ids, "scores", scores=logits, score_kind="score", n_classes=c),
    }
    return labels, models


def test_confidence_of_a_list_is_that_of_dense_scores():
    labels, models = scored_models()
    judged = evaluate(
        labels, [models["dense"], models["list"]], metrics=UNCERTAIN, resamples=20, map_resamples=10
    )
    for metric in UNCERTAIN:
        dense = judged.value(metric, model="dense")
        assert 0 < dense < 1
        assert judged.value(metric, model="list") == pytest.approx(dense, abs=1e-5)
    rows = [r for r in judged.results.to_pylist() if r["slice"] == "all"]
    some = [r for r in rows if r["metric"] not in CALIBRATION]
    assert all(r["lo"] < r["value"] + 0.1 and r["hi"] > r["lo"] for r in some)


def test_calibration_errors_have_no_interval_and_a_note_says_why():
    labels, models = scored_models()
    judged = evaluate(labels, [models["dense"]], metrics=CALIBRATION, resamples=20, map_resamples=10)
    assert {r["lo"] for r in judged.results.to_pylist()} == {None}
    assert [note.text for note in judged.model_notes if note.kind == "no_interval"] == [
        f"no interval of {', '.join(CALIBRATION)}: chance increases a calibration error, and each resample "
        "increases it further"
    ]


def test_without_confidence_a_note_says_what_is_missing():
    labels, models = scored_models()
    judged = evaluate(labels, models.values(), metrics=["ece", "brier_set", "nll", "top1"], resamples=0)
    lack = "without the probability of the top class"
    alone = "the predictions are lists of logits without logsumexp"
    unknown = "the predictions are scores of unknown kind"
    every = "without probabilities or logits of all classes"
    declare = "declare their kind with `scores`"
    assert [(n.model, n.kind, n.text) for n in judged.model_notes] == [
        ("dense", "link", f"ece, brier_set, nll: {SOFTMAX}"),
        ("list", "needs_probabilities", f"nll skipped: the predictions are lists of top classes, {every}"),
        ("logits alone", "needs_confidence", f"ece, brier_set skipped: {alone}, {lack}"),
        ("logits alone", "needs_probabilities", f"nll skipped: {alone}, {every}"),
        ("ranks", "needs_confidence", f"ece, brier_set skipped: the predictions are ranks, {lack}"),
        ("ranks", "needs_probabilities", f"nll skipped: the predictions are ranks, {every}"),
        ("scores", "needs_confidence", f"ece, brier_set skipped: {unknown}, {lack}; {declare}"),
        ("scores", "needs_probabilities", f"nll skipped: {unknown}, {every}; {declare}"),
    ]
    assert set(judged.results.filter(pc.equal(judged.results["metric"], "nll"))["model"].to_pylist()) == {
        "dense"
    }


def test_a_bad_probability_is_told_with_its_file_and_image():
    _, models = scored_models()
    p = np.full((60, 12), 1 / 12, np.float32)
    p[7, 3] = 5.0
    with pytest.raises(InputError) as error:
        replace(models["dense"], scores=p, score_kind="probability", source="bad.parquet")
    assert error.value.details["where"] == "bad.parquet, image 7"
    assert error.value.details["got"] == "5"


def scores_of(classes, seed=0):
    """Scores of 200 images, each of one class, that are related to the classes."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(200, 4)) + 1.5 * np.eye(4)[classes]).astype(np.float32)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda s: s, None),
        (
            lambda s: s[::-1],
            "the scores are no more closely related to the labels than if the images were in random order "
            "(mean correlation {:.3f} over 4 classes): check the order of rows and classes",
        ),
        (
            lambda s: np.where([False, True, False, False], 1, s),
            "the scores of b are the same for all images, in float32 precision",
        ),
        (
            lambda s: 1 / (1 + np.exp(-s)),
            "the scores are declared as logits, but all are between 0 and 1, as probabilities are: pass "
            "their kind as `scores`; if other models have logits, run this first: manyhot convert FILE "
            "NEW.parquet --scores probability",
        ),
    ],
)
def test_doubts_about_scores(change, text):
    classes = np.random.default_rng(1).integers(0, 4, 200)
    scores = change(scores_of(classes))
    labels = [["abcd"[c]] for c in classes]
    found = evaluate(labels, {"m": scores}, classes=list("abcd"), scores="logit", metrics=["map_macro"])
    notes = [n.text for n in found.model_notes if n.kind == "scores"]
    if text is not None:
        each = [np.corrcoef(classes == c, scores[:, c])[0, 1] for c in range(4) if scores[:, c].std()]
        text = text.format(np.mean(each))
    assert notes == ([] if text is None else [text])


def test_columns_of_scores_in_the_reverse_order():
    classes = np.random.default_rng(1).integers(0, 4, 200)
    scores = scores_of(classes)[:, ::-1]
    each = [np.corrcoef(classes == c, scores[:, c])[0, 1] for c in range(4)]
    with pytest.raises(OrderError) as error:
        evaluate([["abcd"[c]] for c in classes], {"m": scores}, classes=list("abcd"), scores="logit")
    assert str(error.value) == (
        "The predictions of m do not match the labels in the present order; the likely cause is columns of "
        "scores in the reverse order of the classes.\n"
        f"  got:     a mean correlation of {np.mean(each):.3f} of scores and labels\n"
        "  do:      pass the order of the rows (`rows`) or columns (`classes`) of the file, or `trust_order` "
        "if the present order is correct"
    )


def test_arrays_have_no_images_of_a_benchmark():
    """Before anything is downloaded."""
    with pytest.raises(UsageError) as error:
        evaluate("imagenet", {"m": np.zeros((3, 4))})
    assert str(error.value) == (
        "Predictions for a benchmark must name their images, but arrays and frames do not.\n"
        "  where:   `predictions`\n"
        "  got:     dict\n"
        "  allowed: paths of files, or tables: mh.Predictions(image_id, model, scores=scores)\n"
        "  do:      pass the file, and the images of its rows as `rows`"
    )
