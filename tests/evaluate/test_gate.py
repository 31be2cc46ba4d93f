"""Gates of a comparison on all images, slices and classes: against paired tests of the images by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from forking import commands
from manyhot import Reading, compare
from manyhot.core.resampling import LEVEL
from manyhot.diagnose.page import report_folder
from manyhot.errors import InputError, UsageError
from manyhot.evaluate.slice_differences import markdown

N = 1200
IDS = [f"{i}.png" for i in range(N)]
CAMERA = np.arange(N) % 6


def judged(lost, **options):
    """Compare a model that is right on 90 % of the images with one that loses a share on each camera."""
    rng = np.random.default_rng(1)
    old = rng.random(N) < 0.9
    new = old & (rng.random(N) >= np.asarray(lost)[CAMERA])
    models = {
        name: pd.DataFrame(np.stack([right, ~right], 1).astype(float), IDS, ["ok", "dent"])
        for name, right in (("old", old), ("new", new))
    }
    labels = pd.DataFrame(np.tile([1, 0], (N, 1)), IDS, ["ok", "dent"])
    images = pd.DataFrame({"image_id": IDS, "camera": [f"c{c}" for c in CAMERA]})
    reading = Reading(images=images, trust_order=True)
    found = compare(models, labels=labels, metrics=["real1"], slices=["camera"], reading=reading, **options)
    return found, old.astype(int) - new


def worst(loss, margin, level):
    """Return the cameras on which the whole interval of the loss is above a margin, by a paired z-test."""
    z, by_camera = norm.ppf((1 + level) / 2), [loss[c == CAMERA] for c in range(6)]
    return [
        f"camera=c{c}"
        for c, own in enumerate(by_camera)
        if 100 * (own.mean() - z * own.std() / 200**0.5) > margin
    ]


def line_of(found, start):
    (line,) = [line for line in found.lines() if line.startswith(start)]
    return line


@pytest.mark.parametrize("lost", [(0, 0, 0, 0, 0, 0.2), (0.3, 0, 0.25, 0, 0, 0), (0, 0, 0, 0, 0, 0.03)])
def test_a_slice_fails_if_its_loss_is_shown_among_all_slices(lost):
    found, loss = judged(lost, fail_if_worse=1, fail_on=["slices"], resamples=4000)
    expected = worst(loss, 1, 1 - (1 - LEVEL) / 6)
    how = "(95 % intervals, widened for 6 slices)."
    lines = list(found.lines())
    if expected:
        assert f"Failed: new loses more than 1.00 points of real1 on {', '.join(expected)} {how}" in lines
    else:
        # Alone, the slice would fail: one of six does so by chance more often.
        assert worst(loss, 0, LEVEL) == ["camera=c5"]
        assert (
            f"Passed: a loss of more than 1.00 points of real1 is not shown on any of 6 slices {how}" in lines
        )
    assert (found.exit_code, found.is_worse) == ((7, True) if expected else (0, False))
    assert found.to_json()["verdicts"] == [line for line in lines if line.startswith(("Failed", "Passed"))]


def test_a_slice_that_is_worse_alone_can_be_chance():
    failed = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        noise = {m: rng.random(N) < 0.8 for m in ("old", "new")}
        models = {
            m: pd.DataFrame(np.stack([right, ~right], 1).astype(float), IDS, ["ok", "dent"])
            for m, right in noise.items()
        }
        labels = pd.DataFrame(np.tile([1, 0], (N, 1)), IDS, ["ok", "dent"])
        images = pd.DataFrame({"image_id": IDS, "camera": [f"c{c}" for c in CAMERA]})
        options = {"slices": ["camera"], "metrics": ["real1"], "resamples": 400, "fail_on": "slices"}
        reading = Reading(images=images, trust_order=True)
        failed += compare(models, labels=labels, fail_if_worse=0, reading=reading, **options).exit_code == 7
    assert failed <= 6  # 2.5 % on all images and 2.5 % on the slices: 99.8 % of such data sets


def test_non_inferiority_must_be_shown():
    found, loss = judged([0.02] * 6, fail_if_worse=2, non_inferior=True)
    high = 100 * (loss.mean() + 1.96 * loss.std() / N**0.5)
    assert high > 2
    assert found.exit_code == 7
    line = line_of(found, "Failed: a loss of more than 2.00 points of real1 is not excluded (95 % interval ")
    assert float(line.split()[-1].rstrip(").")) == pytest.approx(high, abs=0.25)
    assert judged([0.02] * 6, fail_if_worse=2)[0].exit_code == 0
    passed, _ = judged([0.02] * 6, fail_if_worse=np.ceil(high), non_inferior=True)
    assert passed.exit_code == 0
    line_of(passed, "Passed: new does not lose more than ")


def test_non_inferiority_must_be_shown_on_each_slice():
    lost = (0, 0, 0, 0, 0, 0.1)
    found, loss = judged(lost, fail_if_worse=6, non_inferior=True, fail_on="slices")
    assert 100 * loss[CAMERA == 5].mean() + 196 * loss[CAMERA == 5].std() / 200**0.5 > 6
    line_of(found, "Passed: new does not lose more than 6.00 points of real1 (")
    line_of(found, "Failed: a loss of more than 6.00 points of real1 is not excluded on camera=c5.")
    passed, _ = judged(lost, fail_if_worse=20, non_inferior=True, fail_on="slices")
    line_of(passed, "Passed: new does not lose more than 20.00 points of real1 on any of 6 slices.")
    assert (found.exit_code, passed.exit_code) == (7, 0)


def scored(gain):
    """Return scores of four kinds of defects; the last one is on too few images for an interval."""
    rng, hot = np.random.default_rng(3), np.zeros((2000, 4), int)
    for k, (a, b) in enumerate([(0, 200), (200, 260), (300, 400), (500, 510)]):
        hot[a:b, k] = 1
    models = [1 / (1 + np.exp(-(rng.normal(0, 1, hot.shape) + hot * g - 2))) for g in ((3, 4, 3, 3), gain)]
    return hot, dict(zip(("v1", "v2"), models, strict=True))


KINDS = ["scratch", "dent", "stain", "burr"]


def test_a_class_fails_although_the_mean_passes(tmp_path):
    hot, models = scored((3.4, 2, 3.2, 3))
    options = {"metrics": ["f1_micro"], "reading": Reading(scores="probability", classes=KINDS)}
    found = compare(
        models, labels=hot, fail_if_worse=1, fail_on=["classes"], summary=tmp_path / "pr.md", **options
    )
    line = (
        "Failed: v2 loses more than 1.00 points of average precision on dent (95 % intervals, widened for 3 "
        "classes; without an interval: burr)."
    )
    assert line_of(found, "Failed") == line
    assert line_of(found, "Passed").startswith(
        "Passed: a loss of more than 1.00 points of f1_micro is possible"
    )
    assert found.exit_code == 7
    assert (tmp_path / "pr.md").read_text().startswith(f"### labels: {line}\n\nPassed: ")
    assert compare(models, labels=hot, fail_if_worse=1, **options).exit_code == 0
    strict = compare(models, labels=hot, fail_if_worse=90, fail_on=["classes"], non_inferior=True, **options)
    assert line_of(strict, "Failed") == (
        "Failed: a loss of more than 90.00 points of average precision is not excluded on burr; without an "
        "interval: burr."
    )


@pytest.mark.parametrize("non_inferior", [False, True])
def test_a_head_that_was_not_retrained_passes(non_inferior):
    """The scores of its classes are the same, so no test of them is needed, nor corrected for."""
    hot, models = scored((1, 1, 1, 1))
    new = models["v1"].copy()
    new[:, 1] *= np.random.default_rng(5).uniform(0.95, 1, len(new))
    many = hot.sum(0) >= 30
    found = compare(
        {"v1": models["v1"][:, many], "v2": new[:, many]},
        labels=hot[:, many],
        metrics=["f1_micro"],
        fail_if_worse=20,
        fail_on=["classes"],
        non_inferior=non_inferior,
        reading=Reading(scores="probability", classes=[k for k, has in zip(KINDS, many, strict=True) if has]),
    )
    line = next(line for line in found.lines() if "of average precision" in line and "Passed" in line)
    same = ", ".join(k for i, k in enumerate(KINDS) if many[i] and i != 1)
    assert non_inferior or line.endswith(
        f"(95 % intervals, widened for 1 class; the same for both models: {same})."
    )
    assert found.exit_code == 0


def test_a_candidate_without_some_images_is_not_passed():
    """Half of the inference job crashed: the images of one class are missing."""
    hot, models = scored((1, 1, 1, 1))
    ids = np.array([f"{i}.png" for i in range(len(hot))])
    kept = hot[:, 0] == 0
    frames = {
        "v1": pd.DataFrame(models["v1"], ids, KINDS),
        "v2": pd.DataFrame(models["v1"][kept], ids[kept], KINDS),
    }
    labels, reading = pd.DataFrame(hot, ids, KINDS), Reading(scores="probability")
    options = {"labels": labels, "metrics": ["f1_micro"], "fail_if_worse": 5}
    found = compare(frames, reading=reading, **options)
    assert line_of(found, "Not decided") == (
        f"Not decided: v2 has no prediction for {(~kept).sum():,} of the {len(ids):,} images that v1 "
        "predicts; if this is intended, pass a list of the other images as `images`."
    )
    assert (found.exit_code, found.is_worse) == (3, None)
    fuller = compare({"v2": frames["v2"], "v1": frames["v1"]}, reading=reading, **options)
    assert fuller.exit_code == 0


def test_a_model_without_the_deciding_metric_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hot, models = scored((1, 1, 1, 1))
    ids = pd.Index([f"{i}.png" for i in range(len(hot))], name="image")
    for name, table in (("labels", hot), *models.items()):
        pd.DataFrame(table, ids, KINDS).to_csv(f"{name}.csv")
    pd.DataFrame(models["v2"], ids, KINDS).drop(columns="burr").to_csv("v2.csv")
    options = {"fail_if_worse": 5, "reading": Reading(scores="probability")}
    with pytest.raises(InputError, match="Only one of the models has a value of the deciding metric, "):
        compare("v1.csv", "v2.csv", labels="labels.csv", **options)
    found = compare("v1.csv", "v2.csv", labels="labels.csv", metrics=["f1_micro", "real1"], **options)
    assert found.is_worse is not None


def test_without_intervals_of_classes_it_is_not_decided():
    hot, models = scored((1, 1, 1, 1))
    few = np.r_[0:20, 200:220, 300:320, 500:510, 600:2000]
    small = {name: scores[few] for name, scores in models.items()}
    reading = Reading(scores="probability", classes=KINDS)
    found = compare(
        small, labels=hot[few], metrics=["f1_micro"], fail_if_worse=90, fail_on="classes", reading=reading
    )
    line_of(
        found,
        "Not decided: whether v2 loses more than 90.00 points of average precision on classes: none has an "
        "interval.",
    )
    assert found.exit_code == 3


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        (
            {"fail_on": ["slices"]},
            UsageError,
            "The margin of the loss is missing.\n  got:     `fail_on`\n"
            "  do:      pass the margin as `fail_if_worse`",
        ),
        (
            {"non_inferior": True},
            UsageError,
            "The margin of the loss is missing.\n  got:     `non_inferior`\n"
            "  do:      pass the margin as `fail_if_worse`",
        ),
        (
            {"fail_if_worse": 1, "fail_on": ["classes"]},
            InputError,
            "The comparison cannot fail on classes, because no classes were compared.\n  where:   `fail_on`\n"
            "  got:     classes\n  allowed: two models with scores of all classes, and `labels`",
        ),
        (
            {"fail_if_worse": 1, "fail_on": ["slices"]},
            UsageError,
            "The comparison cannot fail on slices, because no slices were compared.\n  where:   `fail_on`\n"
            "  got:     slices\n  do:      pass `slices`, with predictions, `labels` and `resamples` above 0",
        ),
        (
            {"fail_if_worse": 1, "fail_on": ["camera"]},
            InputError,
            "There is no such part of a gate.\n  where:   `fail_on`\n  got:     camera\n"
            "  allowed: slices, classes",
        ),
    ],
)
def test_gates_that_do_not_fit(options, error, text):
    models = {"a": [[0]] * 40, "b": [[1]] * 40}
    with pytest.raises(error) as caught:
        compare(models, labels=[[0]] * 40, metrics=["real1"], reading=Reading(n_classes=2), **options)
    assert str(caught.value) == text


def test_the_command(tmp_path):
    hot, models = scored((3.4, 2, 3.2, 3))
    ids = [f"{i}.png" for i in range(len(hot))]
    for name, values in (*models.items(), ("labels", hot)):
        pd.DataFrame(values, columns=KINDS).assign(image_id=ids).to_csv(tmp_path / f"{name}.csv", index=False)
    done = commands.run(
        *("compare", "v1.csv", "v2.csv", "--labels", "labels.csv", "--scores", "probability"),
        *("--metric", "f1_micro", "--fail-if-worse", 1, "--fail-on", "classes", "--non-inferior"),
        cwd=tmp_path,
        code=7,
    )
    assert "is not excluded on dent" in done.stdout


def test_a_difference_that_is_the_same_on_all_images_decides_nothing():
    """It had an interval of width 0, by which the gate failed or passed, on two images and on 250."""
    for n in (2, 40, 250):
        rng = np.random.default_rng(n)
        labels = np.zeros((n, 5), int)
        labels[np.arange(n), rng.integers(0, 3, n)] = 1
        first = np.where((labels == 1) ^ (rng.random(labels.shape) < 0.2), 5.0, -5.0)
        first[:, 4] = -5
        second = first.copy()
        second[:, 4] = 5  # a false positive on each image
        share = ((second > 0) != labels).mean() - ((first > 0) != labels).mean()
        for models in ({"a": first, "b": second}, {"b": second, "a": first}):
            for non_inferior in (False, True):
                made = compare(
                    models,
                    labels=labels,
                    metrics=["hamming"],
                    reading=Reading(scores="logit"),
                    fail_if_worse=0.5,
                    non_inferior=non_inferior,
                )
                (row,) = made.to_json()["differences"]
                sign = 1 if row["model_b"] == "b" else -1
                assert row["difference"] == pytest.approx(sign * share)
                assert (row["lo"], row["hi"], row["p"]) == (None, None, None)
                assert made.exit_code == InputError.exit_code
                assert line_of(made, "Not decided: ").endswith(
                    "because the difference has no interval: it is the same for any choice of images."
                )


@pytest.mark.parametrize(("metric", "code"), [("coverage", 3), ("lrap", 0)])
def test_models_with_the_same_ranks(metric, code):
    """Only a metric between 0 and 1 has an interval around 0, by how many other images may differ."""
    rng = np.random.default_rng(4)
    labels, scores = (rng.random((5000, 5)) < 0.4).astype(int), rng.normal(size=(5000, 5))
    labels[:, 0], labels[:, 1] = 1, 0  # all images count
    made = compare(
        {"a": scores, "b": 2 * scores},
        labels=labels,
        metrics=[metric],
        reading=Reading(scores="logit"),
        fail_if_worse=0.5,
    )
    (row,) = made.to_json()["differences"]
    assert (row["difference"], row["p"], made.exit_code) == (0, 1, code)
    half = norm.ppf(0.975) * np.append(np.zeros(5000), [1, -1]).std() / 5002**0.5
    assert (row["lo"], row["hi"]) == ((None, None) if code else pytest.approx((-half, half)))


def test_the_page_and_the_summary_begin_with_what_failed(tmp_path):
    """The headline of the page was that the model is better."""
    hot, models = scored((7, 3, 7, 6))
    found = compare(
        models,
        labels=hot,
        metrics=["map_micro"],
        fail_if_worse=1,
        fail_on=["classes"],
        reading=Reading(scores="probability", classes=KINDS),
    )
    assert "v2 is better than v1" in "\n".join(found.lines())
    found.write(tmp_path / "compared")
    summary = markdown(found.results, found.verdicts, found.notes)
    assert summary.partition("\n")[0].endswith(
        "average precision on dent (95 % intervals, widened for 3 classes; without an interval: burr)."
    )
    assert "### labels: Failed: v2 loses more" in summary
    report_folder(tmp_path / "compared")
    page = (tmp_path / "compared/report/index.html").read_text()
    failed, better = page.index("Failed: v2 loses more than 1.00 points"), page.index("v2 is better than v1")
    assert failed < page.index("Passed: ") < better


def test_a_model_that_lacks_a_class_is_said_to_lack_it(tmp_path, monkeypatch):
    """The error was that there is one model, with the exit code of wrong usage."""
    monkeypatch.chdir(tmp_path)
    hot, models = scored((1, 1, 1, 1))
    ids = pd.Index([f"{i}.png" for i in range(len(hot))], name="image")
    pd.DataFrame(hot, ids, KINDS).to_csv("labels.csv")
    pd.DataFrame(models["v1"], ids, KINDS).to_csv("v1.csv")
    pd.DataFrame(models["v2"], ids, KINDS).drop(columns="burr").to_csv("v2.csv")
    options = {"labels": "labels.csv", "metrics": ["map_macro"], "reading": Reading(scores="probability")}
    with pytest.raises(InputError, match=r"v2: map_macro skipped: .* classes other than burr") as gate:
        compare("v1.csv", "v2.csv", fail_if_worse=1, **options)
    assert gate.value.exit_code == 3
    with pytest.raises(InputError, match=r"v2: map_macro skipped: .* classes other than burr"):
        compare("v1.csv", "v2.csv", **options).write("compared")


@pytest.mark.parametrize(
    ("metric", "why"),
    [("top1", "top1 is undefined on these images"), ("classwise_ece_asked", "not resampled")],
)
def test_why_there_is_no_interval(metric, why):
    hot, models = scored((1, 1, 1, 1))
    found = compare(
        models,
        labels=hot,
        metrics=[metric],
        fail_if_worse=1,
        reading=Reading(scores="probability", classes=KINDS),
    )
    assert (why in line_of(found, "Not decided"), found.exit_code) == (True, 3)
