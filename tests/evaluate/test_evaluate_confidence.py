"""From files of scores to the tables and pictures of confidence; without scores, none are left."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manyhot import (
    Labels,
    Predictions,
    Reading,
    as_labels,
    evaluate,
    leaderboard,
    write_labels,
    write_predictions,
)
from manyhot.diagnose.page import report_folder

N, C = 200, 5


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    logits = (3 * rng.normal(size=(N, C))).astype(np.float32)
    label = np.where(rng.random(N) < 0.7, logits.argmax(1), rng.integers(0, C, N))
    made = as_labels([[a, (a + 1) % C] for a in label], n_classes=C, label=label)
    ids = pa.array([f"{i}.jpg" for i in range(N)])
    table = made.table.set_column(0, "image_id", ids)
    write_labels(Labels(table, C, name="made up"), tmp_path / "labels.parquet")
    top = np.argsort(-logits, axis=1)[:, :3]
    total = np.log(np.exp(logits).sum(1)).astype(np.float32)
    listed = np.take_along_axis(logits, top, 1)
    models = [
        Predictions(ids, "sharp", top, listed, total, "logit", C),
        Predictions(ids, "flat", scores=logits / 3, score_kind="logit", n_classes=C),
        Predictions(ids, "ranks", top, n_classes=C),
    ]
    for model in models:
        write_predictions(model, tmp_path / f"{model.model}.parquet")
    return tmp_path


def run(files, *names, metrics=None):
    reading = Reading(dataset="made up", trust_order=True)
    predictions = [files / f"{name}.parquet" for name in names]
    judged = evaluate(files / "labels.parquet", predictions, metrics=metrics, resamples=20, reading=reading)
    judged.write(files / "out")


def test_tables_and_pictures_are_there_where_confidences_are(files):
    run(files, "sharp", "flat", "ranks", metrics=("top1", "ece", "ece_set"))
    table = pq.read_table(files / "out" / "reliability.parquet")
    assert set(table["model"].to_pylist()) == {"sharp", "flat"}
    assert (files / "out" / "risk_coverage.csv").is_file()
    page = (files / "out" / "report" / "index.html").read_text(encoding="utf-8")
    assert 'id="trust"' in page
    assert "Confidence of sharp, made up" in page
    report_folder(files / "out")
    assert (files / "out" / "report" / "figures" / "trust-made-up-sharp.svg").is_file()
    ranked = leaderboard([files / "out"], by="ece").ranked
    found = [v for v in ranked["made up ece"].to_pylist() if v is not None and v == v]
    assert len(found) == 2
    assert found == sorted(found), "the smallest error first"


def test_what_an_earlier_run_left_is_removed(files):
    run(files, "sharp")
    run(files, "ranks")
    assert not list((files / "out").glob("reliability.*"))
    assert not list((files / "out").glob("risk_coverage.*"))
    assert 'id="trust"' not in (files / "out" / "report" / "index.html").read_text(encoding="utf-8")
