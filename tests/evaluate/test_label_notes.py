"""Notes on unclear classes, and on metrics that label sets would have with scores of all classes."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score

from manyhot import (
    Evaluator,
    Reading,
    compare,
    diagnose_calibration,
    diagnose_classes,
    evaluate,
    find_label_issues,
    read_labels,
)
from manyhot.classes import from_keys
from manyhot.evaluate.pairwise import differences
from manyhot.tables import Labels, Predictions
from manyhot.tables.labels import write_labels

CLASSES = from_keys(["cat", "dog", "cup"])
IDS = [f"{i}.jpg" for i in range(40)]
TRUTH = (np.random.default_rng(3).random((40, 3)) < 0.4).astype(np.int8)
UNCLEAR = [(0, 1), (4, 0), (9, 2)]
SCORES = np.random.default_rng(4).random((40, 3)).astype(np.float32)


def labels(unclear=UNCLEAR, **columns):
    words = np.where(TRUTH, "yes", "no").astype(object)
    for row, column in unclear:
        words[row, column] = "unclear"
    table = {"image_id": IDS, "usable": [True] * 40, "classes": [[0, 1, 2]] * 40, "state": words.tolist()}
    return Labels(pa.table(table | columns), 3, CLASSES.hash, True, name="mine", class_list=CLASSES)


def model(top=None):
    known = {"n_classes": 3, "class_hash": CLASSES.hash, "class_list": CLASSES, "score_kind": "probability"}
    if top is None:
        return Predictions(pa.array(IDS), "m", scores=SCORES, **known)
    order = np.argsort(-SCORES, axis=1)[:, :top].astype(np.int32)
    return Predictions(pa.array(IDS), "m", order, np.take_along_axis(SCORES, order, axis=1), **known)


def run(sets, predictions, **options):
    return evaluate(sets, [predictions], resamples=0, trust_order=True, **options)


def notes_of(result, kind):
    return [note["text"] for note in result.to_json()["notes"] if note["kind"] == kind]


def test_unclear_pairs_count_as_not_valid_and_a_note_says_so():
    result = run(labels(), model())
    (text,) = notes_of(result, "unclear")
    assert text.startswith(
        "3 pairs of an image and a class are unclear and count as not valid in map_macro, "
    )
    assert text.endswith("; to leave them out, pass `metrics`, such as 'map_macro(masked=True)'")
    clear = np.ones_like(TRUTH, bool)
    for row, column in UNCLEAR:
        clear[row, column] = False
    as_no = [average_precision_score(TRUTH[:, c] * clear[:, c], SCORES[:, c]) for c in range(3)]
    without = [average_precision_score(TRUTH[clear[:, c], c], SCORES[clear[:, c], c]) for c in range(3)]
    assert result.value("map_macro") == pytest.approx(np.mean(as_no), abs=1e-7)
    masked = run(labels(), model(), metrics=["map_macro(masked=True)"])
    assert masked.value("map_macro(masked=True)") == pytest.approx(np.mean(without), abs=1e-7)
    assert not notes_of(masked, "unclear")


def test_one_pair_and_none():
    (text,) = notes_of(run(labels(UNCLEAR[:1]), model()), "unclear")
    assert text.startswith("1 pair of an image and a class is unclear and counts as not valid in ")
    assert not notes_of(run(labels(()), model()), "unclear")


def test_lists_of_the_best_classes_say_why_there_is_no_map():
    assert notes_of(run(labels(), model(top=2)), "needs_scores") == [
        "mAP and F1 are left out, because they need scores of all classes of the label sets, and no model "
        "has them; predict or export these scores"
    ]
    chosen = run(labels(), model(top=2), metrics=["real1"])
    original = run(labels(label=pa.array([0] * 40, pa.int32())), model(top=2))
    for other in (chosen, original, run(labels(), model())):
        assert not notes_of(other, "needs_scores")


NAMES = [f"c{k}" for k in range(4)]
IMAGES = [f"{i}.jpg" for i in range(300)]
RNG = np.random.default_rng(0)
YES = RNG.random((300, 4)) < 0.4
MODEL = (YES * 0.4 + RNG.random((300, 4)) * 0.6).round(3)


def csv(path, values, names, ids=IMAGES):
    """Write a table with a column for each class, in which NaN is an empty cell."""
    cells = [["" if np.isnan(v) else f"{v:g}" for v in row] for row in values]
    rows = [f"{name},{','.join(row)}" for name, row in zip(ids, cells, strict=True)]
    path.write_text("\n".join([f"image,{','.join(names)}", *rows]), encoding="utf-8")
    return path


def blank(share, *, negatives=True):
    """Return labels of which a share has no answer, and the answers that there are."""
    rng = np.random.default_rng(1)
    values = np.where(rng.random(YES.shape) < share, np.nan, YES)
    values = values if negatives else np.where(values == 0, np.nan, values)
    return values, ~np.isnan(values)


def averages(values, scores):
    """Return the average precision of each class on images with an answer, and with all others as no."""
    asked, usable = ~np.isnan(values), ~np.isnan(values).all(axis=1)
    masked = [
        average_precision_score(v[a], s[a]) for v, a, s in zip(values.T, asked.T, scores.T, strict=True)
    ]
    filled = np.nan_to_num(values)[usable]
    return masked, [average_precision_score(v, s) for v, s in zip(filled.T, scores[usable].T, strict=True)]


@pytest.mark.parametrize("share", [0.3, 0.6, 0.85])
@pytest.mark.parametrize("form", ["csv", "array"])
def test_pairs_without_an_answer_are_counted_whatever_their_share(share, form, tmp_path):
    values, asked = blank(share)
    sets = values if form == "array" else csv(tmp_path / "labels.csv", values, NAMES)
    scores = MODEL if form == "array" else csv(tmp_path / "m.csv", MODEL, NAMES)
    options = {"scores": "probability", "resamples": 0}
    result = evaluate(sets, {"m": scores} if form == "array" else [scores], metrics=["map_macro"], **options)
    usable = asked.any(axis=1)
    n, of = np.count_nonzero(~asked[usable]), 4 * np.count_nonzero(usable)
    assert notes_of(result, "not asked") == [
        f"{n:,} pairs of an image and a class ({n / of:.1%}) are without an answer and count as not valid in "
        "map_macro; to leave them out, pass `metrics`, such as 'map_macro(masked=True)'"
    ]
    masked = evaluate(
        sets, {"m": scores} if form == "array" else [scores], metrics=["map_macro(masked=True)"], **options
    )
    assert not notes_of(masked, "not asked")
    of_asked, as_no = map(np.mean, averages(values, MODEL))
    assert result.value("map_macro") == pytest.approx(as_no)
    assert masked.value("map_macro(masked=True)") == pytest.approx(of_asked)


@pytest.mark.parametrize("form", ["csv", "array", "parquet"])
def test_single_positives_have_no_negatives(form, tmp_path):
    values, asked = blank(0.7, negatives=False)
    sets = values if form == "array" else csv(tmp_path / "labels.csv", values, NAMES)
    if form == "parquet":
        sets = write_labels(read_labels(sets), tmp_path / "labels.parquet")
    scores = MODEL if form == "array" else csv(tmp_path / "m.csv", MODEL, NAMES)
    result = evaluate(
        sets,
        {"m": scores} if form == "array" else [scores],
        metrics=["map_macro"],
        scores="probability",
        resamples=0,
    )
    usable = asked.any(axis=1)
    n, of = np.count_nonzero(~asked[usable]), 4 * np.count_nonzero(usable)
    assert notes_of(result, "not asked") == [
        f"{n:,} pairs of an image and a class ({n / of:.1%}) are without an answer and count as not valid in "
        "map_macro; the labels contain positives but no negatives, so no metric can leave them out"
    ]


def test_lists_and_full_matrices_have_no_pairs_without_an_answer():
    lists = [[NAMES[c] for c in np.flatnonzero(row)] or [NAMES[0]] for row in YES]
    for sets in (lists, YES, YES.astype(int)):
        result = evaluate(sets, {"m": MODEL}, scores="probability", resamples=0, classes=NAMES)
        assert not notes_of(result, "not asked")


def test_only_evaluated_images_count(tmp_path):
    values = YES.astype(float)
    values[:150, 0], values[150:160, 1] = -1, np.nan  # 1 answers are left for each of these images
    labels_file = csv(tmp_path / "labels.csv", values, NAMES)
    half = csv(tmp_path / "half.csv", MODEL[150:], NAMES, IMAGES[150:])
    result = evaluate(labels_file, [half], metrics=["map_macro"], scores="probability", resamples=0)
    assert not notes_of(result, "unclear")
    (text,) = notes_of(result, "not asked")
    assert text.startswith("10 pairs of an image and a class (1.7%) are")
    whole = evaluate(
        labels_file,
        [half, csv(tmp_path / "m.csv", MODEL, NAMES)],
        metrics=["map_macro"],
        scores="probability",
    )
    (text,) = notes_of(whole, "unclear")
    assert text.startswith("150 pairs of an image and a class are unclear")


def test_classes_that_only_the_predictions_have(tmp_path):
    # Eight further classes, and a column that is no class.
    more = [f"c{k}" for k in range(4, 12)]
    wide = np.hstack([MODEL, RNG.random((300, 9)).round(3)])
    labels_file = csv(tmp_path / "labels.csv", YES, NAMES)
    model_file = csv(tmp_path / "m.csv", wide, [*NAMES, *more, "entropy"])
    options = {"scores": "probability", "resamples": 0}
    result = evaluate(labels_file, [model_file], **options)
    note = (
        "the labels do not have 9 of the classes or other columns of the predictions: c10, c11, c4, c5, c6, "
        "c7, c8, c9, entropy; they count as not valid on all images, except in metrics with masked=True; to "
        "leave them out, pass the list of the labels' classes as `classes`, in which `synonyms` can contain "
        "other names of these classes"
    )
    assert notes_of(result, "classes") == [note]
    assert not notes_of(result, "not asked")  # the same pairs are not counted again
    predicted = MODEL >= 0.5
    absent = np.hstack([YES, np.zeros((300, 9), bool)])
    assert result.value("f1_micro") == pytest.approx(f1_score(absent, wide >= 0.5, average="micro"))

    selected = evaluate(labels_file, [model_file], classes=NAMES, **options)
    assert note not in notes_of(selected, "classes")
    for average in ("micro", "macro"):
        expected = f1_score(YES, predicted, average=average)
        assert selected.value(f"f1_{average}") == pytest.approx(expected)
        spec = f"f1_{average}(masked=True)"
        masked = evaluate(labels_file, [model_file], metrics=[spec], **options)
        assert masked.value(spec) == pytest.approx(expected)
    assert selected.value("map_macro") == pytest.approx(average_precision_score(YES, MODEL, average="macro"))


def test_classes_that_are_in_no_list_are_named(tmp_path):
    """Lists may lack a class because no image shows it, or because nobody looked for it: its scores count."""
    lists = [[NAMES[c] for c in np.flatnonzero(row[:2])] or ["c0"] for row in YES]
    rows = [f"{name},{' '.join(one)}" for name, one in zip(IMAGES, lists, strict=True)]
    (tmp_path / "labels.csv").write_text("\n".join(["image,labels", *rows]), encoding="utf-8")
    model_file = csv(tmp_path / "m.csv", MODEL, NAMES)
    result = evaluate(tmp_path / "labels.csv", [model_file], scores="probability", resamples=0)
    (note,) = notes_of(result, "classes")
    assert note.startswith(
        "the labels do not have 2 of the classes or other columns of the predictions: c2, c3; "
    )


def test_tags_that_are_in_no_list_are_named(tmp_path):
    """A tagger's own words count as wrong, so they are named whatever the form of the labels."""
    (tmp_path / "l.csv").write_text(
        "image,labels\n" + "".join(f"{i},{['cat', 'dog'][i % 2]}\n" for i in range(40))
    )
    tags = [{"image": str(i), "tags": ["puppy" if i % 2 else "cat"], "scores": [0.9]} for i in range(40)]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, tags)))
    options = {"scores": "probability", "metrics": ["real1"], "resamples": 0}
    result = evaluate(tmp_path / "l.csv", [tmp_path / "m.jsonl"], **options)
    assert result.value("real1") == 0.5
    (note,) = notes_of(result, "classes")
    assert note.startswith("the labels do not have 1 of the classes of the predictions: puppy; it counts as ")
    assert note.endswith("in which `synonyms` can contain other names of these classes")


def test_the_classes_of_a_model_are_counted_in_each_ranking(tmp_path):
    wide = np.hstack([MODEL, RNG.random((300, 8)).round(3)])
    names = [f"c{k}" for k in range(12)]
    labels_file, model_file = csv(tmp_path / "l.csv", YES, NAMES), csv(tmp_path / "m.csv", wide, names)
    found = diagnose_classes(labels_file, [model_file], scores="probability")
    means = {row["metric"]: row for row in found.class_means.to_pylist()}
    absent = np.hstack([YES, np.zeros((300, 8), bool)])
    assert means["auroc_micro"]["value"] == pytest.approx(roc_auc_score(absent.ravel(), wide.ravel()))
    assert (means["auroc_micro"]["n_classes"], means["auroc_macro"]["n_classes"]) == (12, 4)
    (line,) = (line for line in found.lines() if line.startswith("AUROC (micro)"))
    assert line.endswith("over 12 classes")
    assert "over 4 classes and 300 images" in str(found)
    masked = diagnose_classes(labels_file, [model_file], scores="probability", masked=True)
    means = {row["metric"]: row for row in masked.class_means.to_pylist()}
    assert means["auroc_micro"]["value"] == pytest.approx(roc_auc_score(YES.ravel(), MODEL.ravel()))
    assert means["auroc_micro"]["n_classes"] == 4
    assert "12 classes" not in "\n".join(masked.lines())


def test_classes_of_a_diagnosis_are_noted_and_masked(tmp_path):
    values, asked = blank(0.6)
    labels_file, model_file = csv(tmp_path / "l.csv", values, NAMES), csv(tmp_path / "m.csv", MODEL, NAMES)
    found = diagnose_classes(labels_file, [model_file], scores="probability")
    usable = asked.any(axis=1)
    n, of = np.count_nonzero(~asked[usable]), 4 * np.count_nonzero(usable)
    assert found.notes == (
        f"l: {n:,} pairs of an image and a class ({n / of:.1%}) are without an answer and count as not valid "
        "in AP, AUROC, precision, recall, F1; to leave them out, pass `masked`",
    )
    masked = diagnose_classes(labels_file, [model_file], scores="probability", masked=True)
    assert not masked.notes
    assert "masked (without unclear and unanswered pairs)" in str(masked)
    assert masked.class_results["ap"].to_pylist() == pytest.approx(averages(values, MODEL)[0])


def test_tables_of_classes_are_masked_like_the_first_metric(tmp_path):
    values, _ = blank(0.5)
    other = (YES * 0.2 + np.random.default_rng(5).random((300, 4)) * 0.8).round(3)
    labels_file = csv(tmp_path / "l.csv", values, NAMES)
    models = [csv(tmp_path / "a.csv", other, NAMES), csv(tmp_path / "b.csv", MODEL, NAMES)]
    masked, plain = "map_macro(masked=True)", "map_macro"
    of_masked, of_plain = averages(values, MODEL)
    mixed = "tables of classes {} unclear and unanswered pairs{}, as does {}, the first of these metrics"
    for metrics, expected, note in (
        ([masked], of_masked, ""),
        ([plain], of_plain, ""),
        ([masked, plain], of_masked, mixed.format("leave out", "", masked)),
        ([plain, masked], of_plain, mixed.format("count", " as not valid", plain)),
    ):
        options = {"scores": "probability", "metrics": metrics, "resamples": 100}
        compared = compare(*models, labels=labels_file, **options)
        by_class = compared.classes.to_pylist()
        assert [row["ap_model"] for row in by_class] == pytest.approx(expected)
        assert {row["masked"] for row in by_class} == {expected is of_masked}
        title = "average precision by class"
        assert (
            f"{title}, masked (without" in str(compared)
            if expected is of_masked
            else f"{title}: " in str(compared)
        )
        result = evaluate(labels_file, [models[1]], **options)
        assert result.per_class["class_results"]["ap"].to_pylist() == pytest.approx(expected)
        assert notes_of(result, "classes") == ([note] if note else [])
        assert (f"l: {note}" in compared.notes) == bool(note)


def test_ties_are_noted_if_a_metric_depends_on_the_top_class():
    tied = np.where(MODEL > 0.4, 1.0, 0.0)
    for metrics, count in ((["map_macro"], 0), (["f1_micro"], 0), (["map_macro", "real1"], 1)):
        result = evaluate(YES, {"m": tied}, scores="probability", resamples=0, metrics=metrics)
        ties = [text for text in notes_of(result, "scores") if "belongs to several classes" in text]
        assert len(ties) == count, metrics


@pytest.mark.parametrize("way", ["batches", "merged", "state"])
def test_batches_with_and_without_empty_cells_are_one_matrix(way):
    """A small batch may contain no empty cell, or no negative, by chance."""
    values, _ = blank(0.4)
    values[:20] = YES[:20]
    values[20:40] = np.where(values[20:40] == 0, np.nan, values[20:40])
    spec = "map_macro(masked=True)"
    expected = evaluate(values, {"m": MODEL}, metrics=["map_macro", spec], scores="probability", resamples=0)
    parts = [slice(20, 40), slice(0, 20), slice(40, 300)]
    settings = {"n_classes": 4, "metrics": ["map_macro", spec], "scores": "probability", "resamples": 0}
    evaluators = [Evaluator(**settings) for _ in parts]
    whole = Evaluator(**settings)
    for part, one in zip(parts, evaluators, strict=True):
        for each in (one, whole):
            each.update(MODEL[part].astype(np.float32), values[part])
    if way == "merged":
        whole = sum(evaluators[1:], evaluators[0])
    elif way == "state":
        state, whole = whole.state_dict(), Evaluator(**settings)
        whole.load_state_dict(state)
    found = whole.compute()
    assert found.value(spec) == pytest.approx(expected.value(spec), abs=1e-6)
    assert found.value(spec) == pytest.approx(np.mean(averages(values, MODEL)[0]), abs=1e-6)
    assert notes_of(found, "not asked") == notes_of(expected, "not asked")


def test_batches_of_single_positives_have_no_negatives():
    values, _ = blank(0.5, negatives=False)
    evaluator = Evaluator(n_classes=4, metrics=["map_macro"], scores="probability", resamples=0)
    for part in (slice(0, 100), slice(100, 300)):
        evaluator.update(MODEL[part].astype(np.float32), values[part])
    (text,) = notes_of(evaluator.compute(), "not asked")
    assert text.endswith("the labels contain positives but no negatives, so no metric can leave them out")


@pytest.mark.parametrize("name", ["weight", "Sampling_Weight", "inclusion_prob", "image_weights"])
def test_a_column_of_sampling_weights_is_noted(name):
    ids = [f"i{k}" for k in range(40)]
    labels = pa.table(
        {"image_id": ids, "a": [k % 2 for k in range(40)], "b": [k % 3 == 0 for k in range(40)]}
    )
    scores = pa.table({"image_id": ids, "a": np.linspace(0, 1, 40), "b": np.linspace(1, 0, 40)})
    images = pa.table({"image_id": ids, name: np.linspace(1, 9, 40), "weight_kg": np.linspace(1, 9, 40)})
    options = {"scores": "probability", "images": images}
    for found in (
        evaluate(labels, {"m": scores}, **options),
        compare({"m": scores, "other": scores}, labels=labels, **options),
        diagnose_classes(labels, {"m": scores}, **options),
    ):
        (note,) = (note for note in found.notes if "each image counts once" in note)
        assert f"and {name} is not used" in note


@pytest.mark.parametrize("beside", ["labels", "images", "both"])
def test_each_command_notes_sampling_weights_wherever_they_are(tmp_path, beside):
    """And only once, and not if a class has this name."""
    ids, rng = [f"i{k}.jpg" for k in range(60)], np.random.default_rng(0)
    weight = np.where(rng.random(60) < 0.5, 1.25, 20)
    hot = pd.DataFrame({"image_id": ids, "a": np.arange(60) % 2, "b": np.arange(60) % 3 == 0}).astype(
        {"b": int}
    )
    scores = pd.DataFrame({"image_id": ids, "a": rng.random(60), "b": rng.random(60)})
    labels = hot if beside == "images" else hot.assign(weight=weight)
    labels.to_csv(tmp_path / "labels.csv", index=False)
    scores.to_csv(tmp_path / "m.csv", index=False)
    scores.to_csv(tmp_path / "other.csv", index=False)
    more = {"classes": ["a", "b"], "scores": "probability"}
    if beside != "labels":
        hot[["image_id"]].assign(weight=weight).to_csv(tmp_path / "images.csv", index=False)
        more["images"] = tmp_path / "images.csv"
    of, one = tmp_path / "labels.csv", tmp_path / "m.csv"
    for found in (
        evaluate(of, one, **more),
        compare(one, tmp_path / "other.csv", labels=of, **more),
        diagnose_classes(of, one, **more),
        diagnose_calibration(of, one, resamples=0, **more),
        find_label_issues(of, one, **more),
    ):
        assert sum("each image counts once, and weight is not used" in note for note in found.notes) == 1
    if beside == "labels":
        hot.assign(weight=hot["a"]).to_csv(of, index=False)
        scores.assign(weight=scores["a"]).to_csv(one, index=False)
        found = evaluate(of, one, scores="probability")
        assert not any("counts once" in note for note in found.notes)


def test_a_random_ranking_has_no_known_value_where_some_classes_were_not_asked_about():
    assert len(notes_of(run(labels(unclear=[]), model()), "chance")) == 1
    some = [[0, 1, 2], *[[0, 1]] * 39]  # about dog and cat alone, of all images but the first
    words = [["yes" if TRUTH[i, c] else "no" for c in own] for i, own in enumerate(some)]
    assert notes_of(run(labels(classes=some, state=words), model()), "chance") == []


@pytest.mark.parametrize("n_absent", [0, 1])
def test_a_class_that_is_never_absent_is_left_out_and_noted(n_absent):
    """Radiologists write "no finding" or nothing: any scores then have an average precision of 1."""
    rng = np.random.default_rng(0)
    hot = rng.random((200, 3)) < 0.3
    only = np.where(hot.any(axis=1), np.nan, 1.0)
    only[np.flatnonzero(hot.any(axis=1))[:n_absent]] = 0
    names = ["edema", "nodule", "mass", "no finding"]
    truth = np.column_stack([hot.astype(float), only])
    labels = pd.DataFrame(truth, columns=names)
    scores, other = (pd.DataFrame(rng.random((200, 4)), columns=names) for _ in "ab")
    counted = names[: 3 + n_absent]
    known = {c: labels[c].notna() for c in names}

    def mean(metric, of, classes=counted, threshold=None):
        values = of if threshold is None else of >= threshold
        return np.mean([metric(labels[c][known[c]], values[c][known[c]]) for c in classes])

    expected = {
        "map_macro(masked=True)": mean(average_precision_score, scores),
        "auroc_macro(masked=True)": mean(roc_auc_score, scores),
        "f1_macro(masked=True)": mean(f1_score, scores, threshold=0.5),
        "precision_macro(masked=True)": mean(precision_score, scores, threshold=0.5),
        "recall_macro(masked=True)": mean(recall_score, scores, names, threshold=0.5),
    }
    reading = Reading(scores="probability")
    judged = evaluate(labels, {"net": scores}, metrics=list(expected), resamples=50, reading=reading)
    values = {metric: judged.value(metric) for metric in expected}
    assert values == pytest.approx(expected)

    stream = Evaluator(scores="probability", metrics=list(expected), classes=names)
    for part in (slice(0, 77), slice(77, None)):
        stream.update(scores[part].reset_index(drop=True), labels[part].reset_index(drop=True))
    streamed = stream.compute()
    assert {metric: streamed.value(metric) for metric in expected} == pytest.approx(expected)

    by_class = diagnose_classes(labels, {"net": scores}, masked=True, goal="fpr", at=0.2, reading=reading)
    rows = by_class.class_results.to_pylist()
    aps = {r["name"]: r["ap"] for r in rows if not np.isnan(r["ap"])}
    assert list(aps) == counted
    assert np.mean([*aps.values()]) == pytest.approx(expected["map_macro(masked=True)"])
    means = {r["metric"]: (r["value"], r["n_classes"]) for r in by_class.class_means.to_pylist()}
    assert means["map_macro"] == (pytest.approx(expected["map_macro(masked=True)"]), len(counted))
    if not n_absent:
        (row,) = [r for r in rows if r["name"] == "no finding"]
        assert row["reason"] == "no negatives"
        assert np.isnan([row[k] for k in ("threshold", "auroc", "precision", "recall", "f1")]).all()

    compared = compare({"a": scores, "b": other}, labels=labels, metrics=[*expected][:1], reading=reading)
    tested = {r["key"]: (r["ap_reference"], r["ap_model"]) for r in compared.classes.to_pylist()}
    for c in counted:
        pair = (mean(average_precision_score, of, [c]) for of in (scores, other))
        assert tested[c] == pytest.approx(tuple(pair))
    assert np.isnan(tested["no finding"]).all() == (n_absent == 0)
    difference = np.subtract(*(mean(average_precision_score, of) for of in (other, scores)))
    assert differences(compared.results, "labels")[0].difference == pytest.approx(difference)

    for notes in (judged.notes, by_class.notes, compared.notes):
        assert any("no finding: no image is known to be without it" in n for n in notes) == (n_absent == 0)


def test_means_over_different_classes_on_slices_are_noted_once():
    """Hospital B implants no pacemakers: its mean is over the classes that are harder for the model."""
    rng = np.random.default_rng(0)
    hot, hospital = rng.random((400, 3)) < 0.3, np.where(np.arange(400) % 2, "A", "B")
    hot[hospital == "B", 2] = False
    names, ids = ["edema", "effusion", "pacemaker"], [f"i{i}" for i in range(400)]
    labels = pd.DataFrame(hot.astype(int), ids, names)
    scores = pd.DataFrame(rng.random(hot.shape) + hot * [0.2, 0.2, 2], ids, names)
    other = pd.DataFrame(rng.random(hot.shape), ids, names)
    sex = np.where(np.arange(400) % 3, "F", "M")
    images = pd.DataFrame({"image_id": ids, "hospital": hospital, "sex": sex})
    reading = Reading(scores="logit", images=images)
    about = {"metrics": ["auroc_macro", "f1_macro", "top1"], "slices": ["hospital", "sex"], "resamples": 50}
    judged = evaluate(labels, {"net": scores}, **about, reading=reading)
    compared = compare({"net": scores, "other": other}, labels=labels, **about, reading=reading)
    expected = {of: [c for c in names if labels[c][hospital == of].nunique() == 2] for of in ("A", "B")}
    for of, classes in expected.items():
        rows = hospital == of
        value = np.mean([roc_auc_score(labels[c][rows], scores[c][rows]) for c in classes])
        assert judged.value("auroc_macro", slice=f"hospital={of}") == pytest.approx(value)
    for notes in (judged.notes, compared.notes):
        (note,) = [n for n in notes if "over different classes" in n]
        assert (
            "auroc_macro, f1_macro are means over different classes on the slices of hospital: 3 on all, "
            in note
        )
        for of, classes in expected.items():
            assert f"{len(classes)} on hospital={of}" in note
        assert "not all of them include pacemaker" in note
    both = Reading(scores="logit", images=images, classes=expected["B"])
    for notes in (
        evaluate(labels, {"net": scores}, **about, reading=both).notes,
        evaluate(labels, {"net": scores}, **about | {"slices": ["sex"]}, reading=reading).notes,
    ):
        assert not [n for n in notes if "over different classes" in n]
