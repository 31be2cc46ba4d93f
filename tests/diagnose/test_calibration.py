"""What recalibration does: numbers of the images held out, and what is told where there are none."""

import re
from dataclasses import replace

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from scipy.special import expit, softmax
from sklearn.metrics import brier_score_loss, log_loss

import manyhot
from manyhot import Predictions, calibrate, conformal, diagnose_calibration
from manyhot.data.inputs import Reading
from manyhot.diagnose.calibration import Calibration
from manyhot.errors import InputError, MatchError
from manyhot.tables import check, schema
from manyhot.tables.array_inputs import as_labels

N, C = 600, 5
SOFTMAX = "confidences are the softmax of the logits of net; to set another link, pass `links`"
KINDS = [(m, to) for m in ("temperature", "vector", "isotonic") for to in ("labels", "sets")]


@pytest.fixture(scope="module")
def model():
    """Return labels, of which some sets are empty, and a model whose logits are twice too large."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(N, C)).astype(np.float32) * 2
    label = np.array([rng.choice(C, p=row / row.sum()) for row in softmax(logits.astype(float), axis=1)])
    sets = [[] if i % 10 == 0 else {y, (y + 1) % C} if i % 4 == 0 else {y} for i, y in enumerate(label)]
    labels = as_labels([sorted(s) for s in sets], n_classes=C, label=label)
    return labels, Predictions(labels.image_id, "net", scores=2 * logits, score_kind="logit", n_classes=C)


@pytest.fixture(scope="module")
def found(model):
    labels, net = model
    return diagnose_calibration(labels, [net], seed=3, resamples=50, reading=Reading(dataset="made up"))


def lists_of(net, k):
    top = np.argsort(-net.scores, axis=1)[:, :k]
    total = np.log(np.exp(net.scores.astype(float)).sum(1)).astype(np.float32)
    return replace(net, classes=top, scores=np.take_along_axis(net.scores, top, 1), logsumexp=total)


def row_of(table, **wanted):
    (row,) = [r for r in table.to_pylist() if all(r[k] == v for k, v in wanted.items())]
    return row


def test_every_method_is_judged_on_both_events(found):
    table = check(found.calibration, "calibration")
    methods = {(r["method"], r["fitted_to"]) for r in table.to_pylist()}
    assert methods == {("none", None), *KINDS}
    metrics = {"top1", "ece", "nll", "brier", "real1", "ece_set", "nll_mass", "brier_set"}
    assert table.num_rows == len(methods) * len(metrics)
    assert {r["metric"] for r in table.to_pylist()} == metrics
    assert found.notes == (
        SOFTMAX,
        "net: no interval of ece, ece_set: chance increases a calibration error, and each resample increases "
        "it further",
    )


def test_numbers_are_those_of_the_images_held_out(model, found):
    labels, net = model
    rest = calibrate(labels, net, seed=3).predictions
    rows = [
        i for i, image in enumerate(labels.image_id.to_pylist()) if image in set(rest.image_id.to_pylist())
    ]
    label = np.array(labels.table["label"].to_pylist())[rows]
    classes = [labels.table["classes"][i].as_py() for i in rows]
    for method, scores in (("none", net.scores[rows]), ("temperature", None)):
        wanted = {"method": method, "fitted_to": None if method == "none" else "labels"}
        if scores is None:
            scores = calibrate(labels, net, to="labels", seed=3).predictions.scores
        p = softmax(scores.astype(float), axis=1)
        right = p.argmax(1) == label
        there = [i for i, s in enumerate(classes) if s]
        mass = np.mean([-np.log(p[i, classes[i]].sum()) for i in there])
        for metric, expected, n in (
            ("top1", right.mean(), N // 2),
            ("brier", brier_score_loss(right, p.max(1)), N // 2),
            ("nll", log_loss(label, p, labels=range(C)), N // 2),
            ("nll_mass", mass, len(there)),
            ("real1", np.mean([p[i].argmax() in classes[i] for i in there]), len(there)),
        ):
            row = row_of(found.calibration, metric=metric, **wanted)
            assert row["value"] == pytest.approx(expected, rel=1e-5)
            assert (row["n"], row["n_skipped"]) == (n, N // 2 - n)
            assert row["lo"] < row["value"] < row["hi"]
    assert row_of(found.calibration, metric="ece", method="none")["n_fitted"] == 0
    fitted = row_of(found.calibration, metric="ece", method="vector", fitted_to="labels")
    assert fitted["n_fitted"] == N // 2
    of_sets = row_of(found.calibration, metric="ece", method="vector", fitted_to="sets")
    assert of_sets["n_fitted"] == sum(bool(s.as_py()) for s in labels.table["classes"]) - len(there)


def test_recalibration_helps_what_it_is_fitted_to(found):
    for to, metric in (("labels", "ece"), ("sets", "ece_set")):
        before = row_of(found.calibration, metric=metric, method="none")["value"]
        for method in ("temperature", "vector", "isotonic"):
            assert row_of(found.calibration, metric=metric, method=method, fitted_to=to)["value"] < before / 2


def test_temperatures_are_told(model, found):
    labels, net = model
    for to in ("labels", "sets"):
        row = row_of(found.calibration, metric="ece", method="temperature", fitted_to=to)
        rest = calibrate(labels, net, to=to, seed=3).predictions
        kept = np.isin(labels.image_id.to_pylist(), rest.image_id.to_pylist())
        assert net.scores[kept] / rest.scores == pytest.approx(row["temperature"], rel=1e-3)
    assert row_of(found.calibration, metric="ece", method="vector", fitted_to="sets")["temperature"] is None


@pytest.mark.parametrize("cover", ["label", "one", "all"])
def test_prediction_sets_are_those_of_conformal(model, found, cover):
    labels, net = model
    check(found.prediction_sets, "prediction_sets")
    row = row_of(found.prediction_sets, cover=cover)
    expected = conformal(labels, net, cover=cover, seed=3)
    assert row.pop("dataset") == "made up"
    assert row | {"notes": None} == pytest.approx(vars(expected) | {"notes": None})


def test_lists_tell_what_they_do_not_have(model):
    labels, net = model
    found = diagnose_calibration(labels, [lists_of(net, 4)], resamples=0, alpha=0.3)
    assert {r["method"] for r in found.calibration.to_pylist()} == {"none", "temperature", "isotonic"}
    for row in found.calibration.to_pylist():
        assert row["lo"] is None
        if row["metric"] in ("nll", "nll_mass"):
            assert np.isnan(row["value"])
            assert (row["n"], row["n_skipped"]) == (0, N // 2)
        else:
            assert row["n"] > 0
    assert found.notes[:2] == (
        "net: nll, nll_mass undefined: the predictions are lists of top classes, without probabilities or "
        "logits of all classes",
        "net: no vector (labels), no vector (sets): scaling needs logits or probabilities of all classes "
        "(lists of top classes)",
    )


def test_sets_that_lists_do_not_reach(model):
    labels, net = model
    (*_, said) = diagnose_calibration(labels, [lists_of(net, 1)], resamples=0).notes
    what = ", ".join(f"no prediction sets (cover {cover})" for cover in ("label", "one", "all"))
    why = "these prediction sets may contain classes that are not in the lists of top classes"
    assert said.startswith(f"net: {what}: {why} (a threshold of ")


def test_ranks_have_no_confidence(model):
    labels, net = model
    ranks = [
        Predictions(net.image_id, f"r{i}", np.argsort(-net.scores, 1)[:, :3], n_classes=C) for i in range(7)
    ]
    with pytest.raises(InputError) as error:
        diagnose_calibration(labels, ranks)
    assert str(error.value) == (
        "No model has confidences to calibrate.\n"
        "  got:     r0, r1, r2, r3, r4 and 2 more\n"
        "  allowed: probabilities, logits of all classes, or lists of logits with logsumexp\n"
        "  do:      declare the kind of the scores with `scores`; pass cosines, such as those of CLIP, "
        "multiplied by 100 as logits, with `links` softmax"
    )
    found = diagnose_calibration(labels, [ranks[0], net], methods=["isotonic"], resamples=0)
    assert found.calibration["model"].unique().to_pylist() == ["net"]
    assert found.notes == (SOFTMAX, "left out, because they have no confidences: r0")


def multi_label(seed=3, n=400, c=24):
    """Return label sets, original labels, and the logits of a network that was trained with sigmoids."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-3.5, 1.5, size=(n, c)).astype(np.float32)
    sets = [np.flatnonzero(row).tolist() for row in rng.random((n, c)) < 1 / (1 + np.exp(-logits))]
    label = np.array([classes[0] if classes else -1 for classes in sets])
    return as_labels(sets, n_classes=c, label=label), as_labels(sets, n_classes=c), logits


@pytest.mark.parametrize("is_labelled", [True, False])
def test_logits_of_a_sigmoid_network_are_judged_as_its_sigmoids(is_labelled):
    """ECE was 0.234 for the logits and 0.082 for the sigmoids, and logits without labels were skipped."""
    labels = multi_label()[not is_labelled]
    logits, options = multi_label()[2], {"methods": ["isotonic"], "resamples": 0}
    net = Predictions(labels.image_id, "net", scores=logits, score_kind="logit", n_classes=logits.shape[1])
    sigmoids = replace(net, scores=expit(logits), score_kind="probability")
    found, expected = (diagnose_calibration(labels, [p], **options) for p in (net, sigmoids))
    for table in ("calibration", "prediction_sets"):
        assert repr(getattr(found, table).to_pylist()) == repr(getattr(expected, table).to_pylist())
    assert found.notes == (SOFTMAX.replace("softmax", "sigmoid"), *expected.notes)


def test_a_declared_link_is_used_for_the_models_it_names():
    labels, _, logits = multi_label()
    net = Predictions(labels.image_id, "net", scores=logits, score_kind="logit", n_classes=logits.shape[1])
    models, options = [net, replace(net, model="other")], {"methods": ["isotonic"], "resamples": 0}
    found = diagnose_calibration(labels, models, reading=Reading(links="net=softmax"), **options)
    assert found.notes[:3] == (
        "confidences are the sigmoid of the logits of other; to set another link, pass `links`",
        SOFTMAX,
        "calibration errors of sigmoids and of softmax confidences are not comparable",
    )
    in_file = diagnose_calibration(labels, [replace(net, link="softmax")], **options)
    declared = [r for r in found.calibration.to_pylist() if r["model"] == "net"]
    assert repr(in_file.calibration.to_pylist()) == repr(declared)
    with pytest.raises(InputError, match="There is no such link from logits to probabilities"):
        Reading(links="net=logistic")


def test_more_than_three_models_are_one_table_the_best_calibrated_first(model):
    labels, net = model
    models = [replace(net, model=f"x{scale}", scores=net.scores * scale) for scale in (2, 0.5, 1, 0.1)]
    found = diagnose_calibration(labels, models, methods=["temperature"], resamples=0)
    lines = list(found.lines())
    rows = [r for r in found.calibration.to_pylist() if (r["metric"], r["method"]) == ("ece_set", "none")]
    ece = {r["model"]: r["value"] for r in rows}
    names = sorted(ece, key=ece.get)
    assert lines[0].startswith(
        f"The confidence of 4 models is wrong by {ece[names[0]]:.3f} ({names[0]}) to {ece[names[-1]]:.3f} "
        f"({names[-1]}) on average (ECE), and by at most "
    )
    assert lines[2].split("  ")[0] == "model"
    assert [line.split()[:2] for line in lines[3:7]] == [[name, f"{ece[name]:.3f}"] for name in names]
    assert len(lines) == 8


def test_sigmoids_have_a_temperature_but_no_likelihood_of_an_image(model):
    labels, net = model
    sigmoid = (1 / (1 + np.exp(-net.scores))).astype(np.float32)
    found = diagnose_calibration(
        labels, [replace(net, scores=sigmoid, score_kind="probability")], resamples=0, methods=["temperature"]
    )
    fitted = {(r["fitted_to"], r["temperature"] is None) for r in found.calibration.to_pylist()}
    assert fitted == {(None, True), ("labels", False), ("sets", False)}
    assert {r["metric"] for r in found.calibration.to_pylist()} == {
        *("top1", "ece", "brier", "real1", "ece_set", "brier_set")
    }
    (said,) = found.notes
    assert said.startswith("net: no nll, no nll_mass: the probabilities of an image do not add up to 1 (")
    assert found.prediction_sets.num_rows == 3


def test_no_errors_at_all(model):
    labels, net = model
    label = np.array(labels.table["label"].to_pylist())
    perfect = replace(net, scores=5 * np.eye(C, dtype=np.float32)[label])
    alone = as_labels([[y] for y in label], n_classes=C, label=label)
    found = diagnose_calibration(alone, [perfect], methods=["temperature", "isotonic"], resamples=0)
    assert found.notes == (
        "labels: every label set contains only the original label, so the results for label sets and for "
        "original labels are the same",
        "net, temperature (labels): the temperature 0.05 is at an end of the searched range; this happens "
        "if there are no errors or if confidence is uninformative",
        "net, temperature (sets): the temperature 0.05 is at an end of the searched range; this happens if "
        "there are no errors or if confidence is uninformative",
    )
    assert row_of(found.calibration, metric="ece", method="isotonic", fitted_to="sets")["value"] == 0


def test_few_images(model):
    labels, net = model
    few = np.arange(1, 7)
    some = replace(net, image_id=net.image_id.take(pa.array(few)), scores=net.scores[few])
    found = diagnose_calibration(labels, [some], methods=["isotonic"], resamples=0)
    assert found.notes[1] == "net: 594 of 600 images have no prediction and were left out"
    assert found.notes[2] == (
        "net, prediction sets (cover label): each set contains all classes, because an alpha of 0.1 needs "
        "at least 9 images to fit on, and there are only 3"
    )
    row = row_of(found.prediction_sets, cover="one")
    assert (row["threshold"], row["mean_size"], row["coverage"], row["n"]) == (0, C, 1, 3)
    two = replace(net, image_id=net.image_id[1:3], scores=net.scores[1:3])
    lines = list(diagnose_calibration(labels, [two], methods=["isotonic"], resamples=0).lines())
    (line,) = (line for line in lines if line.startswith("the original label"))
    # Wilson's intervals of one image; a mean of one size has none.
    cells = ["the original label", "90.0%", "100.0% (20.7% to 100.0%)", "5.00", "0.0% (0.0–79.3)", "1"]
    assert re.split(r" {2,}", line.strip()) == cells
    one = replace(net, image_id=net.image_id[:1], scores=net.scores[:1])
    with pytest.raises(InputError) as error:
        diagnose_calibration(labels, [one])
    assert str(error.value) == (
        "There are too few images to split into two parts.\n"
        "  got:     0 of 1 images to fit on\n"
        "  allowed: at least one image to fit on and one to evaluate on\n"
        "  do:      pass more images, or change the share to fit on"
    )


def test_images_without_labels(model):
    labels, net = model
    bare = as_labels([[] for _ in range(N)], n_classes=C, label=labels.table["label"].to_pylist())
    found = diagnose_calibration(bare, [net], methods=["temperature"], resamples=0)
    assert {r["fitted_to"] for r in found.calibration.to_pylist()} == {None, "labels"}
    for row in found.calibration.to_pylist():
        of_sets = row["metric"] in ("real1", "ece_set", "nll_mass", "brier_set")
        assert np.isnan(row["value"]) == of_sets
        assert row["n"] == (0 if of_sets else N // 2)
    assert found.notes == (
        "net: no temperature (sets): no image has labels to fit to (no image with a label set)",
        "net: no prediction sets (cover one), no prediction sets (cover all): no image has labels to fit to "
        "(no image)",
    )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"alpha": 2}, "Alpha is not a miscoverage rate.\n  got:     2\n  allowed: above 0, below 1"),
        (
            {"methods": ["platt"]},
            "There is no such 'method' of calibration.\n"
            "  got:     platt\n"
            "  allowed: temperature, vector, isotonic",
        ),
        (
            {"fit": 0},
            "The share of images to fit on is out of range.\n  got:     fit=0\n  allowed: above 0, below 1",
        ),
    ],
)
def test_what_is_refused_at_once(model, options, text):
    labels, net = model
    with pytest.raises(InputError) as error:
        diagnose_calibration(labels, [net], **options)
    assert str(error.value) == text


def test_two_models_of_one_name(model):
    labels, net = model
    with pytest.raises(MatchError) as error:
        diagnose_calibration(labels, [net, net], methods=["isotonic"], resamples=0)
    assert str(error.value) == (
        "Two models have the same name.\n"
        "  got:     net\n"
        "  do:      rename the file; if the file itself names its model: manyhot convert FILE NEW.parquet "
        "--model NAME"
    )


def test_the_same_seed_gives_the_same(model, found):
    labels, net = model
    again = diagnose_calibration(labels, net, seed=3, resamples=50, reading=Reading(dataset="made up"))
    assert again.calibration.to_string() == found.calibration.to_string()
    assert again.prediction_sets.equals(found.prediction_sets)
    other = diagnose_calibration(labels, [net], seed=4, resamples=0, methods=["temperature"])
    rows = (row_of(t.calibration, metric="top1", method="none") for t in (found, other))
    assert len({r["value"] for r in rows}) == 2


def test_calibration_of_events_that_are_not_of_the_same_images():
    row = {"dataset": "mine", "model": "net", "method": "none", "fitted_to": "", "n_fitted": 5}
    numbers = [("top1", 0.9, 0.85, 0.93, 40), ("ece", 0.1, 0.05, 0.2, 30), ("real1", 0.8, None, None, 40)]
    rows = [
        row
        | {
            "metric": m,
            "value": v,
            "lo": lo,
            "hi": hi,
            "n": n,
            "n_skipped": 40 - n,
            "n_unmatched": 0,
            "temperature": None,
        }
        for m, v, lo, hi, n in numbers
    ]
    frame = pl.DataFrame(rows, schema_overrides={"temperature": pl.Float64}, infer_schema_length=None)
    table = frame.select(schema("calibration").names).to_arrow().cast(schema("calibration"))
    found = Calibration(table, schema("prediction_sets").empty_table())
    assert list(found.lines()) == [
        "The confidence of net is wrong by 0.100 on average (ECE), measured on 30 held-out images of mine; "
        "no method makes it smaller. A prediction is right if its top class is the original label.",
        "",
        "mine, net: fitted on 5 images, evaluated on 40 others",
        "",
        "right if the top class is the original label",
        "               right  ECE                  NLL  Brier  images",
        "as it is  90.0% ±5.0  0.100 (0.050–0.200)    –      –  40 / 30",
        "",
        "right if the top class is in the label set: 40 of 40 images",
        "          right  ECE  NLL  Brier",
        "as it is  80.0%    –    –      –",
        "",
    ]


def test_with_single_labels_each_result_is_printed_once(model):
    labels, net = model
    label = labels.table["label"].to_numpy()
    single = as_labels([[int(c)] for c in label], n_classes=C, label=label)
    names = single.table.set_column(0, "image_id", labels.image_id)
    found = diagnose_calibration(replace(single, table=names), [net], methods=["isotonic"], resamples=0)
    lines = list(found.lines())
    assert lines[0].startswith("The confidence of net is wrong by ")
    firsts = [line.split("  ")[0] for line in lines]
    for name in ("as it is", "isotonic (labels)", "the original label"):
        assert firsts.count(name) == 1
    assert not any("(sets)" in line or "label set" in line for line in lines)


def test_images_without_a_prediction_are_counted(model):
    labels, net = model
    some = replace(net, image_id=net.image_id[:500], scores=net.scores[:500])
    notes = diagnose_calibration(labels, [some], methods=["temperature"], resamples=0).notes
    assert "net: 100 of 600 images have no prediction and were left out" in notes


def test_without_original_labels_their_metrics_have_no_rows():
    rng = np.random.default_rng(0)
    labels = (rng.random((120, 6)) < 0.4).astype(int)
    scores = (2 * labels - 1 + rng.normal(size=labels.shape)).astype(np.float32)
    found = manyhot.diagnose_calibration(labels, {"net": scores}, reading=Reading(scores="logit"))
    assert min(found.calibration["n"].to_pylist()) > 0
    assert {"ece_set", "brier_set"} <= set(found.calibration["metric"].to_pylist())
