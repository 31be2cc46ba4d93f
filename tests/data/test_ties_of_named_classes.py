"""Tied scores are broken by the class ids of the labels, whatever the names of the classes."""

import numpy as np
import polars as pl
import pytest

import manyhot as mh

KEYS = ["dog", "cat", "ant"]


@pytest.fixture
def files(tmp_path):
    """Write labels and rounded scores, which have many ties, with columns named after the classes."""
    rng = np.random.default_rng(1)
    valid = rng.random((300, 3)) < 0.5
    valid[~valid.any(axis=1), 0] = True
    scores = (valid + rng.normal(size=valid.shape)).round()
    ids = {"image_id": [f"i{i}.jpg" for i in range(len(valid))]}
    hot = {k: valid[:, j].astype(int) for j, k in enumerate(KEYS)}
    pl.DataFrame(ids | hot).write_csv(tmp_path / "labels.csv")
    pl.DataFrame(ids | {k: scores[:, j] for j, k in enumerate(KEYS)}).write_csv(tmp_path / "scores.csv")
    return tmp_path, valid[np.arange(len(valid)), scores.argmax(axis=1)].mean()


@pytest.mark.parametrize("columns", [KEYS, ["ant", "dog", "cat"]])
@pytest.mark.parametrize("in_memory", [False, True])
def test_the_class_with_the_lower_id_is_the_top_class(files, columns, in_memory):
    folder, expected = files
    scores = pl.read_csv(folder / "scores.csv").select("image_id", *columns)
    scores.write_csv(folder / "model.csv")
    labels = pl.read_csv(folder / "labels.csv") if in_memory else folder / "labels.csv"
    model = scores if in_memory else folder / "model.csv"
    options = {"resamples": 0, "scores": "logit"}
    found = mh.evaluate(labels, model, metrics=["real1"], **options)
    assert found.value("real1") == pytest.approx(expected, abs=1e-12)


def test_class_ids_are_those_of_the_labels(files):
    folder, _ = files
    found = mh.diagnose_classes(folder / "labels.csv", folder / "scores.csv", scores="logit")
    table = found.tables["class_results"]
    named = dict(zip(table["class_id"].to_pylist(), table["name"].to_pylist(), strict=True))
    assert named == dict(enumerate(KEYS))
