"""Classes whose names are numbers, such as codes of policies, in another order than their positions."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

import manyhot as mh

N = 200
CODES = [["0", "1", "3", "2"], ["1", "2", "3"], ["103", "101", "102"], ["02", "01"]]
IDS = [f"i{k}" for k in range(N)]


def data(codes, folder):
    """Return the average precision of each code, labels and scores in all forms, as frames and as files."""
    rng = np.random.default_rng(0)
    y = (rng.random((N, len(codes))) < 0.3).astype(int)
    y[:, 0] |= y.sum(1) == 0  # each image is listed
    s = (rng.random(y.shape) * 0.6 + 0.2 * y).astype(np.float32)
    truth = {int(c): average_precision_score(y[:, i], s[:, i]) for i, c in enumerate(codes)}
    wide, scores = (pd.DataFrame(v, pd.Index(IDS, name="image_id"), codes) for v in (y, s))

    def long(frame, name):
        frame = frame.reset_index().melt("image_id", var_name="label", value_name=name)
        return frame.sample(frac=1, random_state=0)

    stated = long(wide, "present")
    listed = stated[stated.present == 1].drop(columns="present")
    labels = {"wide": wide, "stated": stated, "listed": listed}
    labels["whole numbers"] = stated.assign(label=stated.label.astype(int))
    rows = [[c for c, k in zip(codes, v, strict=True) if k] for v in y]
    labels["lists"] = pd.DataFrame({"image_id": IDS, "labels": rows})
    tables = {"wide": scores, "long": long(scores, "score")}
    tables["numbered"] = scores.set_axis([int(c) for c in codes], axis=1)
    for name in ("wide", "stated", "listed"):
        labels[name].to_csv(folder / f"{name}.csv", index=name == "wide")
        labels[f"{name}.csv"] = str(folder / f"{name}.csv")
    scores.to_csv(folder / "scores.csv")
    files = {"wide.csv": str(folder / "scores.csv")}
    return truth, labels, {name: {"m": table} for name, table in tables.items()} | files


def precision(labels, scores, classes=None):
    found = mh.diagnose_classes(labels, scores, scores="probability", classes=classes)
    table = found.class_results.to_pandas()
    return dict(zip(table.key.astype(int), table.ap, strict=True)), found.notes


@pytest.mark.parametrize("codes", CODES)
def test_labels_are_names_if_the_scores_have_these_names(codes, tmp_path):
    truth, labels, scores = data(codes, tmp_path)
    for name, own in labels.items():
        if name == "wide" and codes[0] == "02":
            continue  # names of columns that are texts are compared as they are
        for kind, of in scores.items():
            if (kind == "numbered" and codes[0] == "02") or (kind == "long" and "wide" not in name):
                continue  # two tables of numbers have no names
            if (name, kind, min(codes)) == ("wide", "long", "0"):
                continue
            assert precision(own, of)[0] == pytest.approx(truth, abs=1e-6), (name, kind)


@pytest.mark.parametrize("codes", CODES)
def test_labels_are_names_if_the_class_list_has_these_names(codes, tmp_path):
    truth, labels, scores = data(codes, tmp_path)
    for name in ("wide", "wide.csv", "stated", "listed", "listed.csv", "lists"):
        for kind in ("wide", "long", "wide.csv"):
            found, notes = precision(labels[name], scores[kind], codes)
            assert found == pytest.approx(truth, abs=1e-6), (name, kind)
            assert not [note for note in notes if "position" in note or "order" in note]


def test_numbers_that_may_also_be_positions_have_a_note(tmp_path):
    _, labels, scores = data(["0", "1", "3", "2"], tmp_path)
    assert precision(labels["stated.csv"], scores["wide.csv"])[1] == (
        "stated: the numbers of classes in the labels are read as names, because the predictions have "
        "classes of these names: 2 is the class 2, not 3, which is at position 2; if they are positions, "
        "write the names into the labels",
    )
    _, labels, scores = data(["101", "103"], tmp_path)
    assert precision(labels["stated.csv"], scores["wide.csv"])[1] == ()


def test_columns_of_an_array_are_positions(tmp_path):
    truth, labels, scores = data(["0", "1", "3", "2"], tmp_path)
    array = pd.DataFrame(scores["wide"]["m"].to_numpy(), IDS)  # its columns are 0, 1, 2, 3: no names
    assert precision(labels["wide"], {"m": array}, ["0", "1", "3", "2"])[0] == pytest.approx(truth, abs=1e-6)


def test_a_single_label_per_image(tmp_path):
    codes = ["0", "1", "3", "2"]
    label = np.arange(N) % 4
    pd.DataFrame({"image_id": IDS, "label": label}).to_csv(tmp_path / "l.csv", index=False)
    scores = pd.DataFrame({c: (label == int(c)) * 0.9 for c in codes}, pd.Index(IDS, name="image_id"))
    scores.to_csv(tmp_path / "s.csv")
    found = mh.evaluate(
        tmp_path / "l.csv", tmp_path / "s.csv", scores="probability", metrics=["top1"], resamples=0
    )
    assert found.value("top1") == 1


def test_votes_on_numbers_that_can_only_be_keys(tmp_path):
    votes = pd.DataFrame({"image_id": ["a", "b"], "class_id": [103, 101], "rater_id": "x", "answer": "yes"})
    for frame in (votes, votes.astype({"class_id": str})):
        labels = mh.aggregate(frame, method="majority", classes=["103", "101", "102"]).labels
        assert labels.table["classes"].to_pylist() == [[0], [1]]
    # As documented, a number that is a position remains one.
    votes["class_id"] = [1, 2]
    labels = mh.aggregate(votes, method="majority", classes=["1", "2", "3"]).labels
    assert labels.table["classes"].to_pylist() == [[1], [2]]
