"""Similar images whose embeddings come without labels of the data set's own classes."""

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from sklearn.neighbors import NearestNeighbors

from manyhot import Reading, diagnose_errors, diagnose_groups, find_label_issues, tables
from manyhot.classes import class_list
from manyhot.errors import InputError

N, CLASSES = 60, ["ant", "bee", "cow"]
RNG = np.random.default_rng(0)
LABEL = RNG.integers(0, 3, N)
VECTORS = (np.eye(3)[LABEL] + RNG.normal(size=(N, 3)) * 0.4).astype(np.float32)
IDS = [f"{CLASSES[c]}/{i:02}.jpg" for i, c in enumerate(LABEL)]


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    """Labels and scores of own classes, and a folder as a network of ImageNet's classes writes it."""
    monkeypatch.chdir(tmp_path)
    pl.DataFrame({"image": IDS, "label": [CLASSES[c] for c in LABEL]}).write_csv("l.csv")
    p = RNG.dirichlet(np.ones(3), N)
    pl.DataFrame(p, CLASSES).insert_column(0, pl.Series("image", IDS)).write_csv("s.csv")
    np.save("E.npy", VECTORS)
    Path("pred/embeddings").mkdir(parents=True)
    names = pa.array([i.rpartition("/")[2] for i in IDS])
    imagenet = class_list()
    network = tables.Predictions(
        names, "net", classes=np.zeros((N, 1), np.int32), n_classes=1000, class_hash=imagenet.hash
    )
    tables.write_predictions(network, "pred/net.parquet")
    np.save("pred/embeddings/net.npy", VECTORS)
    tables.write(pa.table({"image_id": names}), "pred/images.parquet", "images")
    return names


def shares_against(found):
    """Return the evidence of similar images against each label."""
    table = found.to_polars().filter(pl.col("kind") == "doubtful-label")
    return dict(table.select("image_id", "neighbours").iter_rows())


def expected():
    near = NearestNeighbors(n_neighbors=11, metric="cosine").fit(VECTORS.astype(float))
    rows = near.kneighbors(return_distance=False)[:, :10]
    return {i: float(np.mean(LABEL[r] != y)) for i, r, y in zip(IDS, rows, LABEL, strict=True)}


def issues(embeddings, **options):
    reading = Reading(scores="probability", **options)
    return find_label_issues("l.csv", "s.csv", embeddings=embeddings, min_doubtful=0, reading=reading)


def test_a_network_of_other_classes(files):
    assert shares_against(issues("pred")) == pytest.approx(expected())
    # Labels in the class list of the network are not the labels of the data set.
    wrong = pa.table({"image_id": files, "label": pa.array(1 - (LABEL > 0), pa.int32())})
    tables.write(wrong, "pred/images.parquet", "images", about={"classes": class_list().hash})
    assert shares_against(issues("pred")) == pytest.approx(expected())


def test_an_array_of_embeddings():
    assert shares_against(issues("E.npy", rows="l.csv")) == pytest.approx(expected())
    reading = Reading(scores="probability", rows="l.csv")
    found = diagnose_errors("l.csv", "s.csv", embeddings="E.npy", reading=reading)
    assert "out-of-vocabulary" not in found.skipped_rules
    with pytest.raises(InputError, match="The rows of an array of embeddings have no image ids"):
        issues("E.npy")
    np.save("short.npy", VECTORS[1:])
    with pytest.raises(InputError, match="The number of embeddings differs"):
        issues("short.npy", rows="l.csv")
    with pytest.raises(InputError, match="The file does not exist"):
        issues("none.npy", rows="l.csv")


def test_groups_read_the_same_arrays(monkeypatch):
    monkeypatch.setattr("manyhot.diagnose.groups_attributes._OWN_CLUSTERS", 20)  # images per cluster

    def groups(path, rows):
        reading = Reading(scores="probability", rows=rows)
        return diagnose_groups("l.csv", "s.csv", embeddings=path, min_images=5, reading=reading)

    found = [groups("pred", None), groups("E.npy", "l.csv")]
    assert found[0].groups.equals(found[1].groups)
    assert found[1].metadata["tested"] != "0"
    with pytest.raises(InputError, match="The rows of an array of embeddings have no image ids"):
        groups("E.npy", None)


def test_other_images_without_labels_are_refused():
    tables.write(pa.table({"image_id": [f"x{i}" for i in range(N)]}), "pred/images.parquet", "images")
    with pytest.raises(InputError, match="The similar images have no original labels"):
        issues("pred")
