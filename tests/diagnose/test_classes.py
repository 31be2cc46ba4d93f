"""The command from arrays and files to a page: what it prints, writes, leaves out and refuses."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score
from typer.testing import CliRunner

from manyhot import Reading, cli, diagnose_classes, evaluate, tables
from manyhot.diagnose.page import report_folder
from manyhot.errors import InputError
from manyhot.tables import Labels, Predictions

N, C = 300, 4
CLASSES = ["cat", "dog", "chair", "parrot"]


@pytest.fixture
def arrays():
    """A matrix of label sets, of which the last class is on no image, and scores."""
    rng = np.random.default_rng(0)
    valid = rng.random((N, C)) < [0.4, 0.2, 0.05, 0]
    return valid, (rng.normal(size=(N, C)) + 2 * valid).astype(np.float32)


@pytest.fixture
def files(arrays, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    valid, scores = arrays
    ids = [f"{i:03}.jpg" for i in range(N)]
    state = np.where(valid, "yes", "no").ravel()
    rows = {"image_id": np.repeat(ids, C), "class_id": CLASSES * N, "state": state}
    pl.DataFrame(rows).write_csv("labels.csv")
    np.save("net.npy", scores)
    np.save("top.npy", np.argsort(-scores, axis=1)[:, :2])
    Path("rows.txt").write_text("\n".join(ids))
    Path("classes.txt").write_text("\n".join(CLASSES))


def run(*words, predictions="net.npy"):
    given = ["labels.csv", "--predictions", predictions, "--rows", "rows.txt", "--classes", "classes.txt"]
    return CliRunner().invoke(cli.app, ["diagnose", "classes", *given, *words])


def test_the_command_prints_the_worst_classes_and_writes_files(files, arrays):
    done = run("--out", "out")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    valid, scores = arrays
    values = [average_precision_score(valid[:, c], scores[:, c]) for c in range(3)]
    assert lines[0] == "labels, net: over 3 classes and 300 images"
    macro, micro = ([roc_auc_score(valid[:, c], scores[:, c]) for c in range(3)], valid.ravel())
    means = (np.mean(values), np.mean(macro), roc_auc_score(micro, scores.ravel()))
    for line, label, value in zip((2, 4, 5), ("mAP", "AUROC", "AUROC"), means, strict=True):
        assert lines[line].split()[0::2][:2] == [label, f"{value:.1%}"]
    assert lines[3].startswith("mAP (11 points)")
    assert lines[7] == "thresholds for the largest F1, by cross-fitting"
    assert lines[8].split() == ["class", "images", "AP", "AUROC", "threshold", "precision", "recall", "F1"]
    n = valid.sum(axis=0)[:3]
    order = np.lexsort((values, n < 30))  # the rarest class has the lowest AP, and comes last
    assert [line.split()[0] for line in lines[9:12]] == [CLASSES[c] for c in order]
    assert order[-1] == np.argmin(values) == np.argmin(n)
    assert [int(line.split()[1]) for line in lines[9:12]] == n[order].tolist()
    assert lines[12] == "AP and AUROC have no interval for classes with fewer than 30 images"
    assert lines[13] == "classes with undefined numbers: 1 on no image"
    names = ("class_results", "class_confusions", "class_curves", "class_means")
    written = {f"{name}.{suffix}" for name in names for suffix in ("parquet", "csv")} | {"thresholds.csv"}
    assert lines[15:] == ["wrote 10 files to out", "report: out/report/index.html"]
    assert {path.name for path in Path("out").iterdir()} == written | {"report"}
    about = tables.metadata(tables.read("out/class_results.parquet", "class_results"))
    said = {key: about[key] for key in ("folds", "masked", "seed")}
    assert said == {"folds": "5", "masked": "false", "seed": "0"}
    assert set(json.loads(about["inputs"])) == {"labels.csv", "net.npy", "rows.txt", "classes.txt"}
    first = Path("out/class_confusions.parquet").read_bytes()
    assert run("--out", "out").exit_code == 0
    assert Path("out/class_confusions.parquet").read_bytes() == first


def test_thresholds_can_be_loaded(files, arrays):
    found = diagnose_classes("labels.csv", "net.npy", reading=Reading(rows="rows.txt", classes="classes.txt"))
    found.write("out")
    with Path("out/thresholds.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == CLASSES
    thresholds = np.array([float(row["threshold"]) for row in rows])
    assert list(found.thresholds()) == CLASSES
    assert np.array_equal(thresholds, [*found.thresholds().values()], equal_nan=True)
    assert np.isnan(thresholds).tolist() == [False, False, False, True]
    predicted = arrays[1] >= thresholds
    assert predicted[:, :3].any(axis=0).all()
    assert not predicted[:, 3].any()


def test_arrays_give_the_same(files, arrays):
    reading = Reading(rows="rows.txt", classes="classes.txt")
    by_files = diagnose_classes("labels.csv", "net.npy", reading=reading).class_results.to_pydict()
    by_arrays = diagnose_classes(*arrays).class_results.to_pydict()
    for name in ("ap", "threshold", "f1", "n_predicted", "n_right"):
        assert by_arrays[name][:3] == by_files[name][:3]
    assert by_arrays["name"] == ["0", "1", "2", "3"]
    assert by_files["n_unasked"] == [0] * 4
    assert by_arrays["n_unasked"] == [0] * 4  # a full matrix says no for 0


def test_a_softmax_has_no_thresholds(files, arrays):
    scores = np.exp(arrays[1])
    np.save("net.npy", scores / scores.sum(axis=1, keepdims=True))
    done = run("--scores", "probability", "--out", "out")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[7] == "predicted: the top class of each image"
    rows = pl.read_csv("out/class_results.csv")
    top = np.bincount(scores.argmax(axis=1), minlength=C)
    assert dict(rows.select("name", "n_predicted").rows()) == dict(zip(CLASSES, top.tolist(), strict=True))
    assert set(rows["goal"]) == {"top"}
    assert pl.read_csv("out/thresholds.csv").is_empty()
    reading = Reading(rows="rows.txt", classes="classes.txt", scores="probability")
    found = diagnose_classes("labels.csv", "net.npy", reading=reading)
    with pytest.raises(InputError, match="The top class of each image is predicted, so there are no thresh"):
        found.thresholds()
    f1 = run("--scores", "probability", "--for", "f1", "--out", "f1")
    assert "thresholds for the largest F1, by cross-fitting" in f1.stdout
    assert pl.read_csv("f1/thresholds.csv").height == C


def test_clusters_of_images(files):
    pl.DataFrame({"image_id": [f"{i:03}.jpg" for i in range(N)], "camera": np.arange(N) // 10}).write_csv(
        "i.csv"
    )
    done = run("--images", "i.csv", "--clusters", "camera", "--out", "out")
    assert done.exit_code == 0, done.output
    assert "intervals and p-values are computed over 30 clusters of camera with 300 images" in done.output
    assert run("--images", "i.csv", "--out", "alone").exit_code == 0
    by_cluster, by_image = (pl.read_csv(f"{name}/class_results.csv") for name in ("out", "alone"))
    assert by_cluster["ap"].to_list()[:3] == by_image["ap"].to_list()[:3]
    assert by_cluster["ap_lo"].to_list()[0] != by_image["ap_lo"].to_list()[0]
    done = run("--images", "i.csv", "--clusters", "site")
    assert "There is no column 'site' of clusters." in str(done.exception)


def test_goals_on_the_command_line(files):
    done = run("--for", "recall", "--at", "0.9", "--json", "--folds", "3", "--curves", "1")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    fitted = [r for r in found["class_results"] if r["threshold"] is not None]
    assert len(fitted) == 3
    assert len({r["class_id"] for r in found["class_curves"]}) == 1
    text = run("--for", "recall", "--at", "0.9").stdout
    assert "thresholds for a recall of 90 %, by cross-fitting" in text
    text = run("--for", "fpr", "--at", "0.125").stdout
    assert "thresholds for a false positive rate of 12.5 %, by cross-fitting" in text


@pytest.mark.parametrize(("goal", "measure"), [("recall", "precision"), ("precision", "recall")])
def test_a_page_for_a_goal_begins_with_what_the_goal_costs(files, goal, measure):
    """It began with the average precision, whatever the goal was."""
    text = run("--for", goal, "--at", "0.6", "--out", "out").stdout
    rows = pl.read_parquet("out/class_results.parquet").filter(pl.col("n_positives") >= 30)
    worst = rows.sort(measure).row(0, named=True)
    page = Path("out/report/index.html").read_text().replace("\xa0", " ").replace("\u202f", " ")
    sentence = f"On labels, with thresholds for a {goal} of 60 %, the lowest {measure} of net "
    sentence += "among classes with 30 images or more is that of "
    assert f"{sentence}{worst['name']}: {100 * worst[measure]:.0f} % (" in page, text
    assert page.index(sentence) < page.index("On labels, the mean average precision of net")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--for", "precision"),
            "The precision that a threshold must reach is missing.\n"
            "  allowed: above 0, up to 1\n  do:      pass --at, such as 0.9",
        ),
        (
            ("--at", "0.5"),
            "The goal f1 has no minimum precision or recall.\n  got:     0.5\n"
            "  do:      leave out --at, or set --for to precision, recall or fpr",
        ),
    ],
)
def test_goals_that_do_not_fit(files, words, message):
    assert str(run(*words).exception) == message


def test_models_without_scores_are_left_out(files):
    done = run("--predictions", "top.npy", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert {r["model"] for r in found["class_results"]} == {"net"}
    assert "models without scores of all classes are left out: top" in found["notes"]
    alone = run(predictions="top.npy")
    assert str(alone.exception) == (
        "No model has scores of all classes.\n  got:     top\n  allowed: scores of all classes\n"
        "  do:      pass files with a score for each class, such as .npy of shape (images, classes)"
    )


def test_masked_needs_recorded_answers(files, arrays):
    valid, scores = arrays
    with pytest.raises(InputError) as error:
        diagnose_classes([np.flatnonzero(row).tolist() for row in valid], scores, masked=True)
    assert str(error.value) == (
        "Only valid classes are recorded, so no class is known to be absent.\n  where:   labels\n"
        "  do:      leave out `masked` to count all other classes as not valid"
    )
    assert run("--masked").exit_code == 0


@pytest.mark.parametrize("rate", [1, 0.3])
def test_answers_that_depend_on_the_predictions_are_noted(rate):
    """With all of the *yes* answers and 30 % of the *no*, precision is that of the answered pairs."""
    rng = np.random.default_rng(1)
    valid = rng.random((2000, 3)) < 0.1
    scores = (2.5 * valid + rng.normal(0, 1.2, (2000, 3))).astype(np.float32)
    is_known = rng.random(valid.shape) < np.where(valid, rate, 0.3)
    found = diagnose_classes(np.where(is_known, valid, np.nan), scores, masked=True, scores="logit")
    predicted = scores >= list(found.thresholds().values())
    true = (valid & predicted).sum() / predicted.sum()
    rows = found.class_results.to_pylist()
    precision = sum(r["n_right"] for r in rows) / sum(r["n_predicted"] for r in rows)
    notes = [note for note in found.notes if "so answers were not recorded at random" in note]
    if rate == 1:
        n = predicted[is_known.any(axis=1)].sum()
        without = (predicted & ~is_known)[is_known.any(axis=1)].sum()
        assert precision > true + 0.2
        assert f"{without:,} of {n:,} predictions at the thresholds are left out" in notes[0]
    else:
        assert precision == pytest.approx(true, abs=0.05)
        assert notes == []


def test_which_model_the_thresholds_are_of(arrays):
    valid, scores = arrays
    found = diagnose_classes(valid, {"a": scores, "b": -scores})
    a, b = found.thresholds(model="a"), found.thresholds(model="b", dataset="labels")
    assert list(a) == list(b) == ["0", "1", "2", "3"]
    assert a != b
    with pytest.raises(InputError) as error:
        found.thresholds()
    assert str(error.value) == (
        "2 models match.\n  allowed: a on labels; b on labels\n  do:      name the model and the data set"
    )
    with pytest.raises(InputError, match=r"^No models match\.\n  got:     c\n"):
        found.thresholds(model="c")


def test_the_page_has_the_chapter(files):
    pytest.importorskip("altair")
    assert run("--out", "out").exit_code == 0
    page = Path("out/report/index.html").read_text(encoding="utf-8")
    titles = re.findall(r"<h[23] [^>]*>(?:<a [^>]*>)?([^<]+)", page)
    assert [title.strip() for title in titles] == [
        "Classes, the worst first",
        "Average precision of classes, net, labels",
        "What is predicted instead of missed classes, net, labels",
        "Precision-recall and ROC curves of the worst classes, net, labels",
        "Classes, net, labels",
        "Wrongly predicted classes and the classes that are present, net, labels",
        "Method",
    ]
    assert "The threshold of a class is the one with the largest F1." in page
    assert "none, on no image" in page
    first = Path("out/report/index.html").read_bytes()
    report_folder("out")
    assert Path("out/report/index.html").read_bytes() == first


def test_evaluate_writes_the_same_where_there_are_no_original_labels(files):
    reading = Reading(rows="rows.txt", classes="classes.txt")
    found = evaluate("labels.csv", ["net.npy", "top.npy"], resamples=0, reading=reading)
    own = diagnose_classes("labels.csv", "net.npy", reading=reading)
    for name, table in own.tables.items():
        assert str(found.per_class[name].to_pylist()) == str(table.to_pylist())  # with NaN
    one = evaluate("labels.csv", "net.npy", metrics=["map_macro"], resamples=0, reading=reading)
    assert set(one.per_class) == set(own.tables)  # whatever the metrics
    found.write("out")
    written = tables.read("out/class_results.parquet", "class_results")
    assert str(written.to_pylist()) == str(own.class_results.to_pylist())
    assert pl.read_csv("out/class_confusions.csv").height == own.class_confusions.num_rows
    page = Path("out/report/index.html").read_text(encoding="utf-8")
    assert '<section id="classes"' in page
    assert "Average precision of classes, net, labels" in page
    # Original labels, in the same folder: the tables of the run before are removed.
    labels = pl.DataFrame({"image_id": [f"{i:03}.jpg" for i in range(N)], "label": [i % 3 for i in range(N)]})
    labels.with_columns(classes=pl.concat_list("label")).write_parquet("originals.parquet")
    again = evaluate("originals.parquet", "net.npy", resamples=0, reading=reading)
    assert again.per_class == {}
    again.write("out")
    assert not Path("out/class_results.parquet").exists()
    assert '<section id="classes"' not in Path("out/report/index.html").read_text(encoding="utf-8")


def test_folds_do_not_depend_on_the_order_of_images(arrays):
    valid, scores = arrays
    ids = pa.array([f"{i:03}.jpg" for i in range(N)])
    order = np.random.default_rng(1).permutation(N)

    def thresholds(rows):
        lists = pa.array([np.flatnonzero(row).tolist() for row in valid[rows]], pa.list_(pa.int32()))
        states = pa.array([["yes"] * len(row) for row in lists], pa.list_(pa.string()))
        columns = {"image_id": ids.take(rows), "usable": [True] * N, "classes": lists, "state": states}
        model = Predictions(ids, "net", scores=scores, n_classes=C)
        return diagnose_classes(Labels(pa.table(columns), C), [model]).class_results

    assert repr(thresholds(order).to_pydict()) == repr(thresholds(np.arange(N)).to_pydict())


@pytest.mark.parametrize(
    ("goal", "at", "why"), [("recall", 0.9, True), ("recall", 0.7, False), ("f1", None, False)]
)
def test_a_recall_that_boxes_do_not_reach_is_noted(goal, at, why):
    """Images without a box have a score of 0, on a fifth of the images of the class."""
    rng = np.random.default_rng(1)
    valid = rng.random((400, 2)) < 0.3
    has_box = np.where(valid, rng.random(valid.shape) < 0.8, rng.random(valid.shape) < 0.05)
    scores = (has_box * (0.3 + 0.7 * rng.random(valid.shape))).astype(np.float32)
    boxed = [(scores[valid[:, c], c] > 0).mean() for c in range(2)]
    assert all(0.75 < share < 0.9 for share in boxed)
    found = diagnose_classes(
        valid.astype(int), scores, goal=goal, at=at, reading=Reading(scores="probability")
    )
    notes = [note for note in found.notes if "lowest score" in note]
    assert [value == 0 for value in found.thresholds().values()] == [why, why]
    expected = (
        "the threshold of 0, 1 is the lowest score, so that the class is predicted on every image, because "
        "no higher threshold has a recall of 90%"
    )
    assert [note.partition(": ")[2] for note in notes] == ([expected] if why else [])


def test_a_perfect_class_has_no_interval_for_another_reason_than_few_images():
    rng = np.random.default_rng(0)
    valid = rng.random((400, 2)) < 0.3
    scores = np.stack([0.2 + 0.6 * valid[:, 0], rng.random(400)], axis=1)
    ids = [f"i{k}" for k in range(400)]
    labels, model = (
        pa.table({"image_id": ids, "perfect": v[:, 0], "other": v[:, 1]}) for v in (valid.astype(int), scores)
    )
    text = "\n".join(diagnose_classes(labels, {"m": model}, scores="probability").lines())
    assert "AP and AUROC have no interval if leaving out images does not change the value" in text
    assert "fewer than 30 images" not in text
