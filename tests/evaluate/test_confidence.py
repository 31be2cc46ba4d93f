"""Recalibrated predictions and prediction sets: who is fitted on, who is judged, what is refused."""

from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax

from manyhot import Predictions, calibrate, conformal, diagnose_calibration, diagnose_sets, evaluate
from manyhot.errors import InputError
from manyhot.tables.array_inputs import as_labels

N, C = 800, 6


@pytest.fixture(scope="module")
def model():
    """Return labels and a model whose logits are three times too large."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(N, C)).astype(np.float32) * 2
    p = np.exp(log_softmax(logits, axis=1))
    label = np.array([rng.choice(C, p=row / row.sum()) for row in p.astype(float)])
    second = np.argsort(-logits, axis=1)[:, 1]
    sets = [sorted({a, b} if i % 4 == 0 else {a}) for i, (a, b) in enumerate(zip(label, second, strict=True))]
    labels = as_labels(sets, n_classes=C, label=label)
    return labels, Predictions(labels.image_id, "net", scores=3 * logits, score_kind="logit", n_classes=C)


def lists_of(predictions, k):
    top = np.argsort(-predictions.scores, axis=1)[:, :k]
    total = np.log(np.exp(predictions.scores.astype(float)).sum(1)).astype(np.float32)
    listed = np.take_along_axis(predictions.scores, top, 1)
    return replace(predictions, classes=top, scores=listed, logsumexp=total)


@pytest.mark.parametrize("method", ["temperature", "vector", "isotonic"])
@pytest.mark.parametrize(("to", "metric"), [("labels", "ece"), ("sets", "ece_set")])
def test_what_is_fitted_is_better_on_other_images(model, method, to, metric):
    labels, net = model
    fitted = calibrate(labels, net, method=method, to=to).predictions
    assert len(fitted) == N // 2
    assert fitted.model == f"net, {method} ({to})"
    kept = set(fitted.image_id.to_pylist())
    rows = [i for i, image in enumerate(labels.image_id.to_pylist()) if image in kept]
    before = replace(net, image_id=labels.image_id.take(pa.array(rows)), scores=net.scores[rows])
    judged = evaluate(labels, [before, fitted], metrics=[metric, "top1"], resamples=0)
    assert judged.value(metric, model="net") > 0.2
    assert judged.value(metric, model=fitted.model) < 0.1
    if method != "vector":
        assert judged.value("top1", model=fitted.model) == judged.value("top1", model="net")


def test_the_others_are_other_images(model):
    labels, net = model
    one, two = (set(calibrate(labels, net, seed=s).predictions.image_id.to_pylist()) for s in (0, 1))
    assert one != two
    few = calibrate(labels, net, fit=0.9).predictions
    assert len(few) == N // 10


def test_none_of_the_images_that_are_judged_was_fitted_on(model):
    labels, net = model
    rest = calibrate(labels, net, to="labels").predictions
    mine = np.flatnonzero(~np.isin(labels.image_id.to_pylist(), rest.image_id.to_pylist()))
    label = np.array(labels.table["label"].to_pylist())[mine]

    def nll(t):
        return -log_softmax(net.scores[mine].astype(float) / t, axis=1)[np.arange(len(mine)), label].mean()

    expected = minimize_scalar(nll, bounds=(0.5, 10), method="bounded").x
    others = np.setdiff1d(np.arange(N), mine)
    assert net.scores[others] / rest.scores == pytest.approx(expected, rel=1e-3)


def test_isotonic_of_lists_is_that_of_all_scores(model):
    labels, net = model
    dense, lists = (calibrate(labels, p, method="isotonic").predictions for p in (net, lists_of(net, 3)))
    # Between two steps that are close, a rounding of the confidence goes a long way.
    assert dense.scores == pytest.approx(lists.scores, abs=1e-3)
    assert (dense.classes == lists.classes).all()


@pytest.mark.parametrize("to", ["labels", "sets"])
def test_a_temperature_of_lists_is_nearly_that_of_all_scores(model, to):
    labels, net = model
    dense, lists = (calibrate(labels, p, to=to).predictions for p in (net, lists_of(net, 5)))
    best = np.exp(log_softmax(dense.scores.astype(float), axis=1)).max(1)
    assert lists.scores[:, 0] == pytest.approx(best, abs=0.02)
    assert (lists.scores.sum(1) <= 1 + 1e-6).all()


@pytest.mark.parametrize(
    ("cover", "as_list"),
    [("label", False), ("one", False), ("all", False), ("label", True), ("one", True)],
)
def test_coverage_is_measured_on_other_images(model, cover, as_list):
    labels, net = model
    found = conformal(labels, lists_of(net, 5) if as_list else net, cover=cover, alpha=0.2)
    assert (found.model, found.cover, found.alpha) == ("net", cover, 0.2)
    assert (found.n_fitted, found.n) == (N // 2, N // 2)
    assert found.lo <= found.coverage <= found.hi
    assert found.lo < 0.8 < found.hi + 0.02
    assert 0 < found.mean_size_lo < found.mean_size < found.mean_size_hi < C
    assert 0 <= found.share_empty_lo <= found.share_empty <= found.share_empty_hi < 1
    assert found.n_skipped == 0
    same = conformal(labels, net, cover=cover, alpha=0.2)
    assert asdict(same) | {"notes": None} == pytest.approx(asdict(found) | {"notes": None})


def refused(make):
    with pytest.raises(InputError) as error:
        make()
    return str(error.value)


@pytest.mark.parametrize("total", [np.inf, np.nan])
def test_a_total_that_is_none_is_no_confidence_of_0(model, total):
    labels, net = model
    lists = lists_of(net, 3)
    lists.logsumexp[7] = total
    for make in (
        lambda: calibrate(labels, lists),
        lambda: calibrate(labels, lists, method="isotonic"),
        lambda: conformal(labels, lists),
        lambda: evaluate(labels, [lists], metrics=["ece"]),
    ):
        assert refused(make).splitlines()[:3] == [
            "A probability is not between 0 and 1.",
            f"  where:   net, image {labels.image_id[7]}",
            "  got:     nan",
        ]


@pytest.mark.parametrize("method", ["temperature", "vector", "isotonic"])
def test_nothing_to_fit_to(model, method):
    _, net = model
    bare = as_labels([[] for _ in range(N)], n_classes=C, label=[0] * N)
    for predictions in (net,) if method == "vector" else (net, lists_of(net, 3)):
        assert refused(lambda p=predictions: calibrate(bare, p, method=method)) == (
            "No image has labels to fit to.\n"
            "  got:     no image with a label set\n"
            "  allowed: images with labels in the split used for fitting"
        )


def test_what_is_refused(model):
    labels, net = model
    assert refused(lambda: calibrate(labels, net, method="platt")) == (
        "There is no such 'method' of calibration.\n"
        "  got:     platt\n"
        "  allowed: temperature, vector, isotonic"
    )
    assert refused(lambda: calibrate(labels, net, to="set")) == (
        "There is no such 'to' of calibration.\n  got:     set\n  allowed: labels, sets, votes"
    )
    assert refused(lambda: conformal(labels, net, fit=1.0)) == (
        "The share of images to fit on is out of range.\n  got:     fit=1.0\n  allowed: above 0, below 1"
    )
    ranks = Predictions(net.image_id, "net", np.argsort(-net.scores, axis=1)[:, :3], n_classes=C)
    assert refused(lambda: conformal(labels, ranks)) == (
        "Prediction sets need probabilities.\n"
        "  where:   net\n"
        "  got:     ranks\n"
        "  allowed: probabilities, logits of all classes, or lists of logits with logsumexp"
    )
    assert refused(lambda: calibrate(labels, ranks, method="isotonic")) == (
        "Isotonic calibration needs the probability of the top class.\n"
        "  got:     ranks, or scores that are declared as neither logits nor probabilities\n"
        "  allowed: probabilities, logits of all classes, or lists of logits with logsumexp"
    )
    assert refused(lambda: calibrate(labels, lists_of(net, 3), method="vector")).splitlines()[:2] == [
        "Scaling needs logits or probabilities of all classes.",
        "  got:     lists of top classes",
    ]


@pytest.mark.parametrize("as_lists", [True, False])
def test_a_softmax_that_is_taken_for_sigmoids_has_the_note_of_evaluate(as_lists):
    """One-hot labels of a single class: the recall of the prediction sets was 11.2 %, not 30.0 %."""
    rng = np.random.default_rng(0)
    y = rng.integers(10, size=300)
    logits = rng.normal(size=(300, 10)) + 3 * np.eye(10)[y]
    labels = [[int(c)] for c in y] if as_lists else np.eye(10, dtype=int)[y]
    total = expit(logits).sum(axis=1).mean()
    why = (
        f"although the sigmoids of an image add up to {total:.0f} of the 10 classes, as they do if the "
        "network was trained with a softmax; in this case, pass `links` softmax"
    )
    calls = (
        lambda **k: evaluate(labels, logits, metrics=["ece_set"], resamples=0, **k),
        lambda **k: diagnose_sets(labels, logits, precision=0.6, **k),
        lambda **k: conformal(labels, logits, **k),
        lambda **k: calibrate(labels, logits, **k),
        lambda **k: diagnose_calibration(labels, logits, methods=["temperature"], resamples=0, **k),
    )
    for call in calls:
        assert sum(why in note for note in call(scores="logit").notes) == 1
        assert not any("although" in note for note in call(scores="logit", links=["softmax"]).notes)


def test_zeros_have_a_note_with_what_they_make_up_of_the_mean():
    """The same probabilities in half precision had an nll that was lower by 3.77 nats, without a note."""
    p = np.full((100, 4), 0.25, np.float32)
    p[:10] = 0, 0.5, 0.25, 0.25
    models = {"half": p.astype(np.float16), "single": p}
    found = evaluate(np.zeros(100, int), models, metrics=["nll"], scores="probability", resamples=0)
    notes = {n.model: n.text for n in found.model_notes if n.kind == "zeros"}
    for model, least, shown in (("half", 2.0**-24, "6e-08"), ("single", 2.0**-126, "1e-38")):
        lost = -np.log(least) * 0.1
        value = lost + 0.9 * np.log(4)
        assert found.value("nll", model=model) == pytest.approx(value)
        assert notes[model] == (
            "nll: 10 images of 100 have a label with a probability of 0, whose logarithm is infinite; it was "
            f"replaced by {shown}, which makes up {lost:.3g} of the {value:.3g} nats"
        )
    apart = "metrics of log probabilities are not comparable"
    assert any(apart in note for note in found.notes)
    same = evaluate(np.zeros(100, int), {"a": p, "b": p}, metrics=["nll"], scores="probability", resamples=0)
    assert not any(apart in note for note in same.notes)


@pytest.mark.parametrize(("scale", "verb"), [(1.015, "lowers"), (0.99, "raises"), (1, "")])
def test_sums_of_probabilities_that_are_not_one_are_noted_with_their_effect(scale, verb):
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(5), 200) * 0.98
    y = rng.integers(5, size=200)
    models = {"net": p / 0.98 * scale, "half": (p / 0.98).astype(np.float16)}
    found = evaluate(y, models, metrics=["nll", "top1"], scores="probability", resamples=0)
    notes = {n.model: n.text for n in found.model_notes if n.kind == "sums"}
    assert notes.keys() == ({"net"} if verb else set())  # rounding to half precision is no such difference
    if verb:
        effect = abs(found.value("nll", model="net") - found.value("nll", model="half"))
        assert (
            f"add up to {scale:.3f} on average, not to 1, which {verb} nll by {effect:.2g} nats"
            in notes["net"]
        )


def test_rounded_probabilities_are_the_reason_of_a_temperature_at_its_bound():
    """`calibrate` was silent, and `diagnose calibration` said that confidence was uninformative."""
    rng = np.random.default_rng(0)
    y = rng.integers(4, size=400)
    logits = rng.normal(size=(400, 4)) + 2 * np.eye(4)[y]
    p = np.exp(log_softmax(6 * logits, axis=1)).round(2)
    p = (p / p.sum(axis=1, keepdims=True)).astype(np.float32)
    options = {"scores": "probability", "fit": 0.99}
    n = int((p[np.arange(400), y] == 0).sum())
    found = calibrate(y, p, to="labels", **options)
    assert found.fit.temperature == pytest.approx(20)
    (note,) = [note for note in found.notes if "at an end" in note]
    n_in_note = int(note.partition("valid classes of ")[2].split()[0])
    assert n - 4 <= n_in_note <= n  # four images are held out
    judged = diagnose_calibration(y, p, scores="probability", methods=["temperature"], resamples=0)
    assert any("have a probability of 0, as rounded numbers do" in note for note in judged.notes)
    assert "no method makes it smaller" not in str(judged)
    assert not any("at an end" in note for note in calibrate(y, logits, scores="logit", to="labels").notes)
