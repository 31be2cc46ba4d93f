"""Images with original labels and nothing else, as `manyhot predict` leaves them."""

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manyhot import Labels, Predictions, as_labels, evaluate, init_campaign, write_labels, write_predictions
from manyhot.errors import InputError

N, C = 50, 7
RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(N, C)).astype(np.float32)
LABEL = np.where(RNG.random(N) < 0.6, SCORES.argmax(1), RNG.integers(0, C, N))
IDS = [f"{i}.jpg" for i in range(N)]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    # The last image has no label.
    label = pa.array([*LABEL[:-1].tolist(), None], pa.int32())
    pq.write_table(pa.table({"image_id": IDS, "label": label}), "photos/images.parquet")
    rows = "".join(f"{name},{c}\n" for name, c in zip(IDS[:-1], LABEL, strict=False))
    (tmp_path / "photos.csv").write_text("image_id,label\n" + rows)
    model = Predictions(pa.array(IDS), "net", scores=SCORES, score_kind="logit", n_classes=C)
    write_predictions(model, tmp_path / "photos" / "net.parquet")


def judged(labels, metrics=None):
    done = evaluate(labels, ["photos/net.parquet"], metrics=metrics, resamples=9)
    done.write("out")
    found = done.to_polars().filter(slice="all")
    return done, {r["metric"]: (r["value"], r["n"]) for r in found.iter_rows(named=True)}


@pytest.mark.parametrize("labels", ["photos", "photos/images.parquet", "photos.csv"])
def test_the_label_alone_is_judged(labels):
    done, found = judged(labels)
    best = np.argsort(-SCORES[:-1], axis=1, kind="stable")
    right = best == LABEL[:-1, None]
    assert found == {
        "top1": (pytest.approx(right[:, 0].mean()), N - 1),
        "top5": (pytest.approx(right[:, :5].any(1).mean()), N - 1),
    }
    assert (done.to_polars()["dataset"] == labels.split("/")[-1].split(".")[0]).all()
    assert pl.read_csv("out/results.csv")["metric"].unique().sort().to_list() == ["top1", "top5"]


def test_other_metrics_on_request():
    _, found = judged("photos", ("ece",))
    assert found.keys() == {"ece"}


def test_images_without_labels():
    pq.write_table(pa.table({"image_id": IDS}), "photos/images.parquet")
    with pytest.raises(InputError) as error:
        judged("photos")
    assert str(error.value) == (
        "The images have no original labels.\n"
        "  where:   photos\n"
        "  allowed: an images table with the column 'label', or label sets\n"
        "  do:      pass label sets, or original labels (manyhot predict --labels); or let people label a "
        "sample: manyhot audit"
    )


def test_a_folder_with_label_sets_is_judged_on_them():
    made = as_labels([[c, (c + 1) % C] for c in LABEL], n_classes=C, label=LABEL)
    table = made.table.set_column(0, "image_id", pa.array(IDS))
    write_labels(Labels(table, C, name="sets"), "photos/labels.parquet")
    _, found = judged("photos")
    best = SCORES.argmax(1)
    assert found["real1"] == (pytest.approx(((best == LABEL) | (best == (LABEL + 1) % C)).mean()), N)


def test_a_campaign_without_label_sets():
    Path("classes.txt").write_text("\n".join(f"c{i}" for i in range(C)))
    init_campaign("c", images="photos", classes="classes.txt", predictions=["photos/net.parquet"])
    with pytest.raises(InputError) as error:
        judged("c")
    assert str(error.value) == (
        "The campaign has no label sets yet.\n"
        "  where:   c\n"
        "  do:      make them from its votes: manyhot aggregate c"
    )
