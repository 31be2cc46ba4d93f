"""Models with different class lists: the same results in any order, and a note on what only models have."""

import json
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.special import softmax
from sklearn.metrics import average_precision_score

from manyhot import Reading, evaluate, init_campaign
from manyhot.classes import class_list
from manyhot.errors import InputError, MatchError

N, NAMES = 240, [f"sp{i}" for i in range(6)]
RNG = np.random.default_rng(0)
TRUTH = RNG.integers(6, size=N)
LOGITS = RNG.normal(size=(N, 6)) + 2 * np.eye(6)[TRUTH]
MORE = RNG.normal(size=(N, 3)) + 1
IDS = [f"{i:03}.jpg" for i in range(N)]
UNNAMED = (
    "the labels do not have {} of the classes or other columns of the predictions: {}; they count as "
    "not valid on all images, except in metrics with masked=True; to leave them out, pass the list of the "
    "labels' classes as `classes`, in which `synonyms` can contain other names of these classes"
)

LACKING = (
    "six has no scores for extra0, extra1, new and 1 more, which only other models predict, and counts as "
    "never predicting these classes, so metrics over all classes, such as hamming, differ from those without "
    "these models; to fix the classes, pass their list as `classes`"
)

NO_SP0 = (
    "five has no scores for sp0 (1 of the {} classes): it counts as never predicting this class, and has no "
    "values of metrics that need scores of all classes; to evaluate all models on the classes that this one "
    "predicts, pass their list as `classes`"
)


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    """Labels, and models: all classes, three more classes, two more, and one class too few."""
    monkeypatch.chdir(tmp_path)
    pl.DataFrame({"image_id": IDS, "label": [NAMES[c] for c in TRUTH]}).write_csv("labels.csv")
    matrix = dict(zip(NAMES, np.eye(6, dtype=int)[TRUTH].T, strict=True))
    pl.DataFrame({"image_id": IDS, **matrix}).write_csv("matrix.csv")
    write("six", LOGITS, NAMES)
    write("more", np.hstack([MORE, LOGITS]), ["extra0", "extra1", "new", *NAMES])
    write("two", np.hstack([LOGITS, MORE[:, 1:] - 2]), [*NAMES, "new", "other"])
    write("five", LOGITS[:, 1:], NAMES[1:])


def write(name, scores, columns):
    pl.DataFrame({"image_id": IDS, **dict(zip(columns, scores.T, strict=True))}).write_csv(f"{name}.csv")


def values(names, labels="labels.csv", **options):
    metrics = ["top1", "map_macro", "ece"] if labels == "labels.csv" else ["map_macro", "real1"]
    options = {"scores": "logit", "metrics": metrics, "resamples": 0, **options}
    found = evaluate(labels, [f"{n}.csv" for n in names], **options)
    rows = found.results.to_pylist()
    return {(r["model"], r["metric"]): (r["value"], r["n"]) for r in rows if r["slice"] == "all"}, [
        n.text for n in found.model_notes
    ]


@pytest.mark.parametrize("labels", ["labels.csv", "matrix.csv"])
def test_results_do_not_depend_on_the_order_or_the_other_models(labels):
    alone = {name: values([name], labels)[0] for name in ("six", "more", "two")}
    for names in permutations(("six", "more", "two", "five")):
        found, notes = values(names, labels)
        assert {model for model, _ in found} == {"six", "more", "two", "five"}
        for name, expected in alone.items():
            for key, (value, n) in expected.items():
                assert found[key] == (pytest.approx(value, abs=1e-12), n), (name, key)
        assert NO_SP0.format(10) in notes
        assert UNNAMED.format(4, "extra0, extra1, new, other") in notes
        assert LACKING in notes
        assert not [note for note in notes if "same for all images" in note]


def test_values_are_those_of_scikit_learn():
    found, _ = values(["more", "six"])
    wide = np.hstack([MORE, LOGITS])
    assert found["six", "top1"][0] == pytest.approx(np.mean(LOGITS.argmax(1) == TRUTH))
    assert found["more", "top1"][0] == pytest.approx(np.mean(wide.argmax(1) - 3 == TRUTH))
    own = np.mean([average_precision_score(c == TRUTH, LOGITS[:, c]) for c in range(6)])
    assert found["six", "map_macro"][0] == pytest.approx(own, abs=1e-6)
    assert found["more", "map_macro"][0] == pytest.approx(own, abs=1e-6)


def test_one_model_with_more_classes_has_a_note():
    assert UNNAMED.format(3, "extra0, extra1, new") in values(["more"])[1]
    assert not [note for note in values(["six"])[1] if "do not have" in note]


@pytest.mark.parametrize("names", [["five"], ["five", "six"], ["six", "five"]])
@pytest.mark.parametrize("labels", ["labels.csv", "matrix.csv"])
def test_a_class_that_a_model_lacks_is_never_predicted(labels, names):
    metrics = ["real1", "map_macro"][: len(names)]
    found, notes = values(names, labels, metrics=metrics)
    right = np.mean(LOGITS[:, 1:].argmax(1) + 1 == TRUTH)
    assert found["five", "real1"] == (pytest.approx(right), N)
    assert ("five", "map_macro") not in found
    assert NO_SP0.format(6) in notes
    if len(names) > 1:
        assert [note for note in notes if note.startswith("map_macro skipped: the predictions are scores of")]


def test_confidence_of_a_model_that_lacks_a_class_is_its_own():
    """The softmax is over the classes that it has."""
    found, _ = values(["five"], metrics=["ece"])
    p = softmax(LOGITS[:, 1:], axis=1)
    right, top = p.argmax(1) + 1 == TRUTH, p.max(1)
    bins = np.clip(np.ceil(top * 15).astype(int) - 1, 0, 14)
    ece = sum(abs(right[bins == b].sum() - top[bins == b].sum()) for b in range(15)) / N
    assert found["five", "ece"][0] == pytest.approx(ece, abs=1e-6)


def test_names_that_differ_only_in_case_are_noted():
    write("loud", LOGITS, [*NAMES[:4], "SP4", "Sp5"])
    told = (
        "{}: 2 of 6 classes are matched although they are written differently (upper and lower case, or "
        "underscores): {}; if they are different classes, rename them"
    )
    found, notes = values(["loud"])
    assert found["loud", "top1"][0] == pytest.approx(np.mean(LOGITS.argmax(1) == TRUTH))
    assert told.format("labels", "sp4 as SP4, sp5 as Sp5") in notes
    _, notes = values(["loud"], "matrix.csv")
    assert told.format("loud", "SP4 as sp4, Sp5 as sp5") in notes
    assert not [note for note in values(["six"])[1] if "written differently" in note]


def test_other_classes_instead_of_missing_ones_are_refused():
    """The same class may only be called differently."""
    write("misnamed", LOGITS, ["sp_0", *NAMES[1:]])
    with pytest.raises(MatchError, match="misnamed has no scores for some classes"):
        values(["misnamed"])
    with pytest.raises(InputError, match="A class has no column of scores"):
        values(["misnamed"], classes=NAMES)


def test_the_error_names_the_classes_that_a_model_lacks():
    with pytest.raises(InputError) as error:
        evaluate("labels.csv", ["five.csv"], scores="logit", metrics=["map_macro"])
    assert str(error.value) == (
        "map_macro cannot be computed: the predictions are scores of classes other than sp0, without scores "
        "over all classes.\n"
        "  where:   five.csv\n"
        "  do:      pass the list of the classes that the model predicts as `classes`, or predict the "
        "others, too"
    )


def test_init_names_the_classes_that_it_leaves_out():
    found = init_campaign(
        "camp", images="labels.csv", predictions=["more.csv"], classes=NAMES, scores="logit"
    )
    assert found.notes == (
        "more: the scores of extra0, extra1, new were left out, because these classes are not in the class "
        "list; the other scores are unchanged, so probabilities may not add up to 1",
    )


def test_a_list_selects_classes_of_single_labels():
    """The images of other classes have an empty label set, as if each image had several rows."""
    metrics = {
        "scores": "logit",
        "metrics": ["real1", "map_macro"],
        "resamples": 0,
        "classes": ["sp1", "sp4"],
    }
    chosen = np.isin(TRUTH, (1, 4))
    right = (LOGITS[:, 4] > LOGITS[:, 1])[chosen] == (TRUTH == 4)[chosen]
    ap = np.mean([average_precision_score(c == TRUTH, LOGITS[:, c]) for c in (1, 4)])
    for labels in ("labels.csv", pl.read_csv("labels.csv")):
        found = evaluate(labels, ["six.csv"], **metrics)
        assert found.value("real1") == pytest.approx(right.mean())
        assert found.value("map_macro") == pytest.approx(ap, abs=1e-6)
        told = f"{N - chosen.sum():,} of {N:,} images with valid classes keep none"
        assert [note.text for note in found.model_notes if told in note.text]


def test_files_of_several_processes_are_recognised():
    for rank in range(3):
        rows = np.arange(rank, N, 3)
        np.savez(f"rank{rank}.npz", logits=LOGITS[rows], ids=np.array(IDS)[rows], class_names=np.array(NAMES))
    _, notes = read_files(["rank0.npz", "rank1.npz", "rank2.npz"])
    part = (
        "rank0 and rank{} are predictions of different images; if their files are parts of the predictions "
        "of one model, such as those of several processes, join them into one file, as the page 'Your own "
        "data' shows"
    )
    assert [note for note in notes if "are parts" in note] == [part.format(1), part.format(2)]
    np.savez("net2.npz", logits=LOGITS, ids=np.array(IDS), class_names=np.array(NAMES))
    assert not [note for note in read_files(["rank0.npz", "net2.npz"])[1] if "are parts" in note]


def test_files_of_one_image_each_are_noted_once():
    for i in range(3):
        scores = dict(zip(NAMES, LOGITS[i].tolist(), strict=True))
        Path(f"part{i}.json").write_text(json.dumps({"image": IDS[i], "scores": scores}))
    _, notes = read_files([f"part{i}.json" for i in range(3)])
    assert [note for note in notes if "join them" in note] == [
        "each of the 3 files contains one image, and is read as a model; if all are of one model, join them "
        "into one file, as the page 'Your own data' shows"
    ]
    Path("part1.json").write_text(Path("part0.json").read_text())  # two models
    assert not [n for n in read_files(["part0.json", "part1.json"])[1] if "join them" in n]


@pytest.mark.parametrize("form", ["npz", "csv"])
def test_equal_rows_of_an_image_count_once(form):
    rows = np.r_[np.arange(N), :4]
    wide, ids = LOGITS[rows], np.array(IDS)[rows]

    def write_rows(scores):
        if form == "npz":
            np.savez("net.npz", logits=scores, ids=ids, class_names=np.array(NAMES))
        else:
            columns = dict(zip(NAMES, scores.T, strict=True))
            pl.DataFrame({"image_id": ids, **columns}).write_csv("net.csv")

    write_rows(wide)
    found, notes = read_files([f"net.{form}"])
    assert found["net", "top1"] == (pytest.approx(np.mean(LOGITS.argmax(1) == TRUTH)), N)
    told = "net: 4 of 244 rows repeat an image with the same values, as in padded data, and were left out"
    assert told in notes
    wide[-1, 0] += 1
    write_rows(wide)
    with pytest.raises(MatchError, match="An image is listed more than once"):
        read_files([f"net.{form}"])


def read_files(files):
    found = evaluate("labels.csv", files, scores="logit", metrics=["top1"], resamples=0)
    rows = [r for r in found.results.to_pylist() if r["slice"] == "all"]
    return {(r["model"], r["metric"]): (r["value"], r["n"]) for r in rows}, [
        n.text for n in found.model_notes
    ]


@pytest.mark.parametrize("form", ["npz", "frame", "csv"])
@pytest.mark.parametrize("values", ["keys", "names", "numbers"])
def test_columns_in_another_order_than_imagenet_are_joined_by_name(form, values):
    pd = pytest.importorskip("pandas")
    imagenet, rng = class_list(), np.random.default_rng(0)
    classes = rng.integers(0, 1000, 120)
    scores = rng.normal(size=(120, 1000)).astype(np.float32)
    scores[np.arange(120), classes] += 6
    order = np.argsort(imagenet.names)
    keys, ids = np.array(imagenet.keys)[order], [f"{i}.jpg" for i in range(120)]
    frame = pd.DataFrame(scores[:, order], ids, keys)
    labels = {"keys": imagenet.keys, "names": imagenet.names, "numbers": range(1000)}[values]
    pd.DataFrame({"image_id": ids, "label": [labels[c] for c in classes]}).to_csv("labels.csv", index=False)
    np.savez("net.npz", logits=scores[:, order], ids=ids, class_names=keys)
    frame.to_csv("net.csv", index_label="image_id")
    predictions = {"frame": frame} if form == "frame" else f"net.{form}"
    results = evaluate("labels.csv", predictions, scores="logit", metrics=["top1"], resamples=0)
    assert results.value("top1") == (scores.argmax(1) == classes).mean() > 0.9
    series = pd.Series([labels[c] for c in classes], index=ids)
    if form == "frame":
        results = evaluate(series, predictions, scores="logit", metrics=["top1"], resamples=0)
        assert results.value("top1") == (scores.argmax(1) == classes).mean()


def test_a_background_column_before_those_of_imagenet_is_refused():
    imagenet, ids = class_list(), [f"{i}.jpg" for i in range(80)]
    pl.DataFrame({"image_id": ids, "label": imagenet.keys[:80]}).write_csv("labels.csv")
    scores = np.eye(1001, dtype=np.float32)[1:81]
    with pytest.raises(MatchError) as error:
        evaluate("labels.csv", {"net": scores}, rows=ids, scores="logit", metrics=["top1"])
    assert str(error.value) == (
        "net has more columns than the labels have classes, and its columns have no names.\n"
        "  got:     1,001 columns\n"
        "  allowed: 1,000, one for each of n01440764, n01443537, n01484850 and 997 more\n"
        "  do:      leave out the first column, which is the class background in models of TensorFlow"
    )
    found = evaluate("labels.csv", {"net": scores[:, 1:]}, rows=ids, scores="logit", metrics=["top1"])
    assert found.value("top1") == 1


@pytest.mark.parametrize("kind", ["counts", "shares"])
def test_declared_label_values_of_a_table_are_read(kind):
    rng = np.random.default_rng(1)
    counts = rng.multinomial(50, [0.4, 0.3, 0.2, 0.1], 60)
    shares, label = counts / 50, rng.integers(0, 4, 60)
    probabilities = rng.dirichlet(np.ones(4), 60).astype(np.float32)
    names, values = list("abcd"), counts if kind == "counts" else shares
    columns = dict(zip(names, values.T, strict=True))
    table = pl.DataFrame({"image_id": IDS[:60], "label": [names[c] for c in label], **columns})
    table.write_csv("both.csv")
    np.savez("net.npz", probs=probabilities, ids=IDS[:60], class_names=names)
    options = {"metrics": ["kl_votes", "top1"], "resamples": 0, "scores": "probability"}
    found = evaluate("both.csv", "net.npz", reading=Reading(label_values=kind), **options)
    kl = (shares * np.log(np.where(shares > 0, shares, 1) / probabilities)).sum(1).mean()
    assert found.value("kl_votes") == pytest.approx(kl, rel=1e-5)
    assert found.value("top1") == (probabilities.argmax(1) == label).mean()
    with pytest.raises(InputError, match="`label_values` applies only to a frame"):
        evaluate(table, "net.npz", reading=Reading(label_values=kind), **options)


def test_a_passed_class_list_does_not_refuse_a_model_that_lacks_one_of_its_classes():
    write("older", LOGITS[:, :5], NAMES[:5])
    found, notes = values(["older"], classes=NAMES)
    assert found["older", "top1"][0] == pytest.approx(np.mean(LOGITS[:, :5].argmax(axis=1) == TRUTH))
    assert values(["older"])[0] == found
    named = {"class_names": np.array(NAMES[:5]), "image_id": np.array(IDS)}
    np.savez("array.npz", logits=LOGITS[:, :5], **named)
    array = evaluate(
        "labels.csv", ["array.npz"], scores="logit", metrics=["top1"], classes=NAMES, resamples=0
    )
    assert array.value("top1") == found["older", "top1"][0]
    assert any("older has no scores for sp5 (1 of the 6 classes)" in note for note in notes)


def test_a_score_of_one_of_two_classes(tmp_path, monkeypatch):
    """With one class, every top class is right; with both, accuracy is that at a threshold of 0.5."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    water = rng.random(400) < 0.3
    score = np.clip(0.3 + 0.4 * water + rng.normal(0, 0.2, 400), 0.01, 0.99)
    ids = [f"{i}.jpg" for i in range(400)]
    names = np.where(water, "waterbird", "landbird")
    pl.DataFrame({"image_id": ids, "label": names}).write_csv("labels.csv")
    predictions = pl.DataFrame({"image_id": ids, "waterbird": score})
    reading = Reading(scores="probability")
    found = evaluate("labels.csv", {"net": predictions}, reading=reading)
    advice = "add a column with 1 minus this score"
    assert any(note.endswith(advice) for note in found.notes)
    with pytest.raises(InputError, match="there is only one class, so it is always the top class") as error:
        evaluate("labels.csv", {"net": predictions}, reading=replace(reading, classes=["waterbird"]))
    assert advice in str(error.value)
    both = predictions.with_columns(landbird=1 - pl.col("waterbird"))
    found = evaluate("labels.csv", {"net": both}, reading=reading)
    assert found.results.to_pylist()[0]["value"] == pytest.approx(((score > 0.5) == water).mean())


def test_a_column_y_of_a_frame_is_no_class_beside_metadata():
    frame = pl.DataFrame({"image_id": ["a", "b"], "y": [0, 1], "place": [1, 0]})
    scores = np.eye(2)
    with pytest.raises(InputError, match="A column is named like the label of each image") as error:
        evaluate(frame, {"net": scores})
    assert "rename 'y' to label" in str(error.value)
    assert evaluate(frame, {"net": scores}, reading=Reading(classes=["y", "place"])).results.num_rows
