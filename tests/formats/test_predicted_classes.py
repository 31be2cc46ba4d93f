"""Which of several columns of classes contains the predicted ones."""

import json

import numpy as np
import polars as pl
import pytest

import manyhot
from manyhot import read_predictions
from manyhot.data.convert import convert
from manyhot.errors import InputError

TRUTH = ["dog", "cat", "dog", "cat"]
PREDICTED = ["cat", "cat", "dog", "dog"]
ROWS = {"image": ["a.jpg", "b.jpg", "c.jpg", "d.jpg"], "truth": TRUTH, "guess": PREDICTED}
FRAME = pl.DataFrame(ROWS | {"score": [0.9, 0.8, 0.7, 0.6]})


def written(frame, path):
    if path.suffix == ".csv":
        frame.write_csv(path)
    elif path.suffix == ".parquet":
        frame.write_parquet(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in frame.iter_rows(named=True)))
    return path


def top_names(predictions):
    return [predictions.class_list.keys[row[0]] for row in predictions.classes]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
@pytest.mark.parametrize(
    ("truth", "guess"),
    [
        ("label", "prediction"),
        ("class", "pred"),
        ("labels", "predictions"),
        ("label", "predicted"),
        ("true_label", "pred_label"),
        ("class_id", "predicted_class"),
    ],
)
def test_predicted_classes_are_read_and_other_classes_are_noted(tmp_path, suffix, truth, guess):
    frame = FRAME.rename({"truth": truth, "guess": guess})
    for columns in (frame.columns, frame.columns[::-1]):
        read = read_predictions(written(frame.select(columns), tmp_path / f"m{suffix}"), scores="probability")
        assert dict(zip(read.image_id.to_pylist(), top_names(read), strict=True)) == dict(
            zip(ROWS["image"], PREDICTED, strict=True)
        )
        note = f"the predicted classes are read from {guess!r}; the classes in {truth!r} are not read"
        assert read.notes == (() if truth == "true_label" else (note,))


def test_a_predictions_table_with_the_true_class(tmp_path):
    frame = FRAME.rename({"image": "image_id", "truth": "class_id", "guess": "prediction"})
    assert top_names(read_predictions(written(frame, tmp_path / "m.csv"))) == PREDICTED


def test_accuracy_is_that_of_the_predicted_classes(tmp_path):
    labels = written(FRAME.select("image", label="truth"), tmp_path / "labels.csv")
    frame = FRAME.rename({"truth": "label", "guess": "prediction"})
    done = manyhot.evaluate(labels, {"m": frame}, scores="probability", metrics=["real1"], resamples=0)
    assert done.value("real1") == np.mean(np.array(TRUTH) == np.array(PREDICTED)) == 0.5
    assert any("'label' are not read" in note for note in done.notes)
    convert(written(frame, tmp_path / "m.csv"), tmp_path / "out.csv", scores="probability", long=True)
    assert pl.read_csv(tmp_path / "out.csv")["class"].to_list() == PREDICTED


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_two_columns_of_classes_that_may_both_be_predicted(tmp_path, suffix, message):
    path = written(FRAME.rename({"truth": "label", "guess": "class"}), tmp_path / f"m{suffix}")
    assert message(lambda: read_predictions(path)) == (
        "Two columns contain classes, and either may be the predicted ones.\n"
        f"  where:   {path}\n"
        "  got:     label: cat, dog; class: cat, dog\n"
        "  allowed: one column of classes, or names of the predicted classes in the column 'prediction'\n"
        "  do:      rename the column of the predicted classes to prediction, or drop the other one"
    )


def test_decisions_in_a_column_called_pred_are_no_classes(tmp_path):
    frame = FRAME.select("image", "score", label="truth", pred=pl.Series([1, 0, 0, 1]))
    with pytest.raises(InputError, match="Two columns contain classes"):
        read_predictions(written(frame, tmp_path / "m.csv"))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_numbers_beside_their_names_are_the_same_classes(tmp_path, suffix):
    frame = FRAME.with_columns(class_id=pl.col("guess").replace_strict({"cat": 0, "dog": 1})).drop("truth")
    path = written(frame.rename({"guess": "class_name"}), tmp_path / f"m{suffix}")
    read = read_predictions(path, classes=["cat", "dog"])
    assert top_names(read) == PREDICTED
    assert read.notes == ()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_true_labels_beside_columns_of_scores(tmp_path, suffix):
    scores = {"cat": [0.9, 0.8, 0.3, 0.4], "dog": [0.1, 0.2, 0.7, 0.6]}
    frame = FRAME.select("image", label="truth").with_columns(**{k: pl.Series(v) for k, v in scores.items()})
    read = read_predictions(written(frame, tmp_path / f"m{suffix}"), scores="probability")
    assert read.class_list.keys == ("cat", "dog")
    np.testing.assert_array_equal(read.scores, np.array(list(scores.values()), np.float32).T)
    for other in (frame, frame.to_pandas().set_index("image")):
        with pytest.raises(InputError, match="contain text, and others contain fractions"):
            manyhot.evaluate({i: [t] for i, t in zip(ROWS["image"], TRUTH, strict=True)}, {"m": other})
    unknown = written(frame.with_columns(label=pl.lit("sky")), tmp_path / f"m{suffix}")
    with pytest.raises(InputError, match="does not contain predictions"):
        read_predictions(unknown)


def test_frames_of_ranks_may_have_gaps():
    ranks = pl.DataFrame({"image": ["a", "b"], "first": ["dog", "cat"], "second": [None, "dog"]})
    done = manyhot.evaluate({"a": ["dog"], "b": ["dog"]}, {"m": ranks.to_pandas()}, metrics=["real1"])
    assert done.value("real1") == 0.5


@pytest.mark.parametrize(("kind", "column"), [("probability", "prob"), ("logit", "logit")])
def test_the_declared_kind_selects_the_column_of_scores(tmp_path, kind, column):
    frame = FRAME.select("image", label="guess", logit=pl.Series([2.0, 1, 3, 4]), prob=pl.Series([0.5] * 4))
    read = read_predictions(written(frame, tmp_path / "m.csv"), scores=kind)
    assert read.score_kind == kind
    np.testing.assert_array_equal(read.scores[:, 0], frame[column].to_numpy())
