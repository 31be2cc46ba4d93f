"""A fit on some images, applied to other predictions of the model; with sigmoids, class by class."""

import json

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.special import expit, log_softmax, logit
from sklearn.calibration import _SigmoidCalibration
from sklearn.metrics import brier_score_loss, log_loss
from typer.testing import CliRunner

from manyhot import Predictions, calibrate, cli, evaluate
from manyhot.errors import InputError, MatchError, UsageError
from manyhot.evaluate.calibrate import Recalibrated
from manyhot.tables.array_inputs import as_labels

CLASSES = ["dent", "glass", "scratch"]


def month(n, seed, prefix):
    """Return probabilities that are too high and too extreme, and labels drawn from the true ones."""
    rng = np.random.default_rng(seed)
    true = rng.normal(-2, 1.5, (n, 3))
    ids = [f"{prefix}{i:04}.jpg" for i in range(n)]
    found = (rng.random(true.shape) < expit(true)).astype(int)
    said = expit(1.8 * true + 1).astype(np.float32)
    frame = (pd.DataFrame(values, columns=CLASSES, index=ids) for values in (found, said))
    return *(f.rename_axis("image_id") for f in frame), true


@pytest.fixture(scope="module")
def months():
    """Return labels and probabilities of January and February, and the true logits of February."""
    january, february = month(3000, 0, "jan"), month(2000, 1, "feb")
    return *january[:2], *february


@pytest.fixture
def files(months, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "feb").mkdir()
    names = "labels.csv", "net.csv", "feb-labels.csv", "feb/net.csv"
    for frame, name in zip(months, names, strict=False):
        frame.to_csv(name)
    return tmp_path


def refused(kind, *given, **options):
    with pytest.raises(kind) as error:
        calibrate(*given, **{"scores": "probability", **options})
    return str(error.value)


@pytest.mark.parametrize("method", ["vector", "isotonic"])
def test_a_fit_on_january_makes_february_better(months, method):
    valid, said, new_valid, new, true = months
    found = calibrate(valid, {"net": said}, method=method, apply={"net": new}, scores="probability")
    assert (found.fit.n_fitted, len(found.predictions), found.notes) == (3000, 2000, ())
    assert found.predictions.is_dense
    p = found.predictions.scores
    for c, name in enumerate(CLASSES):
        y = new_valid[name]
        assert brier_score_loss(y, p[:, c]) < brier_score_loss(y, new[name]) - 0.005
        assert abs(p[:, c] - expit(true[:, c])).mean() < abs(new[name] - expit(true[:, c])).mean() / 2
        if method == "vector":
            assert log_loss(y, p[:, c]) < log_loss(y, new[name]) - 0.02
            platt = _SigmoidCalibration().fit(logit(said[name].to_numpy(float)), valid[name])
            assert p[:, c] == pytest.approx(platt.predict(logit(new[name].to_numpy(float))), abs=1e-4)
    models = [Predictions(found.predictions.image_id, "net", scores=new.to_numpy(), score_kind="probability")]
    both = [*models, found.predictions]
    metric, rows = "classwise_ece_asked", list(new.index)
    results = evaluate(new_valid.to_numpy(), both, metrics=[metric], resamples=0, rows=rows)
    before, after = (results.value(metric, model=m.model) for m in both)
    assert after < before / 2


def test_the_command_does_the_same_and_files_keep_all_classes(files, months):
    valid, said, _, new, _ = months
    line = "calibrate labels.csv --predictions net.csv --scores probability --method vector --apply feb"
    run = CliRunner().invoke(cli.app, [*line.split(), "--out", "out.parquet"])
    assert run.exit_code == 0, run.output
    expected = calibrate(valid, {"net": said}, method="vector", apply={"net": new}, scores="probability")
    lines = run.stdout.splitlines()
    assert lines[:2] == [
        "net, vector (sets): the sigmoid of each class, fitted on 3,000 images",
        "recalibrated: 2,000 other images",
    ]
    assert lines[3].split() == ["class", "with", "without", "slope", "intercept"]
    n = int(valid["dent"].sum())
    assert lines[4].split()[:3] == ["dent", f"{n:,}", f"{3000 - n:,}"]
    written = pl.read_parquet("out.parquet")
    assert written["image_id"].to_list() == list(new.index)
    assert np.array(written["scores"].to_list()) == pytest.approx(expected.predictions.scores, abs=1e-5)
    run = CliRunner().invoke(cli.app, [*line.split(), "--out", "out.csv", "--json"])
    assert pl.read_csv("out.csv").columns == ["image_id", *CLASSES]
    rows = json.loads(run.stdout)["classes"]
    assert [row["class"] for row in rows] == CLASSES
    assert rows[0]["slope"] == pytest.approx(expected.fit.each.slope[0], abs=1e-4)
    results = evaluate("feb-labels.csv", ["out.parquet"], metrics=["classwise_ece_asked"], resamples=0)
    assert results.value("classwise_ece_asked") < 0.03


def test_columns_are_matched_by_name_and_logits_by_their_link(months):
    valid, said, _, new, _ = months
    shuffled = {"net": new[["scratch", "dent", "glass"]]}
    expected = calibrate(valid, {"net": said}, method="vector", apply={"net": new}, scores="probability")
    found = calibrate(valid, {"net": said}, method="vector", apply=shuffled, scores="probability")
    assert (found.predictions.scores == expected.predictions.scores).all()
    logits = [{"net": frame.map(logit)} for frame in (said, new)]
    found = calibrate(valid, logits[0], method="vector", apply=logits[1], scores="logit")
    assert found.predictions.score_kind == "logit"
    assert found.predictions.link == "sigmoid"
    assert expit(found.predictions.scores) == pytest.approx(expected.predictions.scores, abs=1e-4)
    assert found.notes == ("probabilities are the sigmoid of the logits; to set a link, pass `links`",)


def test_a_softmax_is_applied_to_other_images_too():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(1500, 4)).astype(np.float32) * 2
    label = [rng.choice(4, p=row / row.sum()) for row in np.exp(log_softmax(logits.astype(float), axis=1))]
    labels = as_labels([[y] for y in label], n_classes=4, label=label)
    net, other = (
        Predictions(ids, "net", scores=3 * z, score_kind="logit", n_classes=4, link="softmax")
        for ids, z in ((labels.image_id, logits), (labels.image_id.slice(0, 200), logits[:200] + 5))
    )
    found = calibrate(labels, net, apply=[other])
    assert found.fit.temperature == pytest.approx(3, rel=0.1)
    assert found.predictions.scores == pytest.approx(other.scores / found.fit.temperature, rel=1e-5)
    lists = Predictions(
        other.image_id,
        "net",
        classes=np.argsort(-other.scores, axis=1)[:, :2],
        scores=-np.sort(-np.exp(log_softmax(other.scores, axis=1)), axis=1)[:, :2],
        score_kind="probability",
        n_classes=4,
    )
    assert refused(MatchError, labels, net, apply=[lists]) == (
        "The fit is for scores of all classes.\n  where:   net\n  got:     scores of top classes"
    )


def test_another_model_is_refused_unless_it_is_said_to_be_the_same(months):
    valid, said, _, new, _ = months
    assert refused(MatchError, valid, {"val": said}, apply={"test": new}) == (
        "The fit is for another model.\n"
        "  where:   `apply`\n"
        "  got:     test\n"
        "  allowed: val\n"
        "  do:      if it is the same model under another name, pass `same_model`"
    )
    assert "  do:" not in refused(MatchError, valid, {"val": said}, apply={"a": new, "b": new})
    found = calibrate(valid, {"val": said}, apply={"test": new}, same_model=True, scores="probability")
    assert found.predictions.model == "test, temperature (sets)"


def test_other_classes_are_refused(months):
    valid, said, _, new, _ = months
    more = {"net": new.assign(fire=0.3)}
    assert refused(MatchError, valid, {"net": said}, apply=more) == (
        "The fit is for other classes.\n"
        "  where:   net\n"
        "  got:     also fire\n"
        "  allowed: the 3 classes that were fitted"
    )
    less = refused(MatchError, valid, {"net": said}, apply={"net": new[["dent", "glass"]]})
    (got,) = (line for line in less.splitlines() if line.startswith("  got:"))
    assert got.split()[-1] == "scratch"
    numbers = refused(MatchError, valid.to_numpy(), {"net": said.to_numpy()}, apply={"net": new})
    assert numbers == (
        "The fit is for other classes.\n"
        "  where:   net\n"
        "  got:     classes with names\n"
        "  allowed: the 3 classes by number"
    )


def test_another_activation_is_refused(months):
    valid, said, _, new, _ = months
    shares = new.div(new.sum(axis=1), axis=0)
    assert refused(MatchError, valid, {"net": said}, apply={"net": shares}) == (
        "The fit is for probabilities of a sigmoid, but these predictions use a softmax.\n"
        "  where:   net\n"
        "  got:     probabilities that add up to 1\n"
        "  allowed: predictions like those that were fitted"
    )
    own = said.div(said.sum(axis=1), axis=0)
    assert refused(MatchError, valid, {"net": own}, apply={"net": new}).splitlines()[2] == (
        "  got:     probabilities that do not add up to 1"
    )
    # The probabilities of one image may add up to 1 by chance.
    one = pd.DataFrame([[0.5, 0.3, 0.2]], columns=CLASSES, index=["a.jpg"])
    assert len(calibrate(valid, {"net": said}, apply={"net": one}, scores="probability").predictions) == 1


def test_a_share_to_fit_on_and_other_predictions_exclude_each_other(months):
    valid, said, _, new, _ = months
    assert refused(UsageError, valid, {"net": said}, apply={"net": new}, fit=0.3) == (
        "With `apply`, all labelled images are used for fitting.\n  got:     `fit`=0.3"
    )


def test_rare_classes_are_named_and_unchanged(months):
    valid, said, _, new, _ = months
    rare = valid.assign(glass=[1] * 29 + [0] * (len(valid) - 29))
    found = calibrate(rare, {"net": said}, method="vector", apply={"net": new}, scores="probability")
    assert found.notes == (
        "classes that are not recalibrated, because fewer than 30 images show them, or fewer "
        "than 30 images do not: glass",
    )
    assert (found.predictions.scores[:, 1] == new["glass"].to_numpy()).all()
    (line,) = (line for line in found.lines() if line.split()[:3] == ["glass", "29", "2,971"])
    assert line.split()[3:] == ["as", "it", "was"]


def test_no_cluster_is_in_both_halves(files, months):
    valid = months[0]
    claim = {image: f"C{i // 10}" for i, image in enumerate(valid.index)}
    images = pd.Series(claim, name="patient_id").rename_axis("image_id")
    images.to_csv("photos.csv")
    options = {"scores": "probability", "images": "photos.csv"}
    (note,) = calibrate("labels.csv", "net.csv", **options).notes
    assert note.startswith("some images share a value of patient_id")
    assert note.endswith("; to keep them in one part, use `clusters`")
    found = calibrate("labels.csv", "net.csv", clusters="patient_id", **options)
    assert found.notes == ()
    rest = [claim[image] for image in found.predictions.image_id.to_pylist()]
    assert len(rest) == found.fit.n_fitted == 1500
    assert {rest.count(one) for one in rest} == {10}
    assert max(found.fit.each.n_yes) <= 150


def test_inputs_are_not_overwritten(files):
    for out in ("net.csv", "feb/net.csv"):
        with pytest.raises(InputError, match="The output would overwrite an input"):
            Recalibrated.check_out(out, ["labels.csv", "net.csv", "feb/net.csv"])
    with pytest.raises(InputError) as error:
        Recalibrated.check_out("out.json", [])
    assert str(error.value) == (
        "Cannot write this kind of file.\n  where:   out.json\n  allowed: .parquet, .csv"
    )
