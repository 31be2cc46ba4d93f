"""A run over many models that is killed goes on after the last batch, and gives the same bytes."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manyhot import evaluate
from manyhot.evaluate import columns, judge, judged_batches, judging
from manyhot.run import Run
from manyhot.tables import Labels, Predictions, write_labels, write_predictions

N, C, MODELS, BATCH = 400, 6, 11, 3
IDS = pa.array([f"{i:03d}.png" for i in range(N)])

RUN = """
import json, os, signal, sys
from manyhot import evaluate
from manyhot.evaluate import columns
from manyhot.run import Run
columns._BATCH = 3
columns._BATCH_BYTES = 0
last = int(sys.argv[1])
def progress(what, done, of):
    if done == last:
        os.kill(os.getpid(), signal.SIGKILL)
run = Run("manyhot evaluate", progress)
found = evaluate("labels.parquet", "models", resamples=50, run=run, **json.loads(sys.argv[2]))
found.write("o")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Labels, and lists of scores of eleven models, of which one predicts fewer images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MANYHOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(columns, "_BATCH", BATCH)
    monkeypatch.setattr(columns, "_BATCH_BYTES", 0)
    rng = np.random.default_rng(0)
    label = rng.integers(0, C, N)
    table = {"image_id": IDS, "label": pa.array(label, pa.int32()), "usable": [True] * N}
    table |= {"classes": [[int(y)] for y in label], "state": [["yes"]] * N}
    write_labels(Labels(pa.table(table), C, "", True), "labels.parquet")
    (tmp_path / "models").mkdir()
    for i in range(MODELS):
        write_model(i, label)
    return tmp_path


def write_model(i, label, seed=None, n=N):
    rng = np.random.default_rng(100 + i if seed is None else seed)
    logits = rng.normal(size=(N, C)) + 2 * (np.arange(C) == label[:, None])
    best = np.argsort(-logits, axis=1)[:, :3]
    scores = np.take_along_axis(logits, best, 1).astype(np.float32)
    total = np.logaddexp.reduce(logits, axis=1).astype(np.float32)
    some = slice(0, N - 50 if i == 8 else n)
    made = Predictions(
        IDS[some], f"m{i:02d}", best[some].astype(np.int32), scores[some], total[some], "logit", C
    )
    write_predictions(made, f"models/m{i:02d}.parquet")


def labels_of():
    return pq.read_table("labels.parquet")["label"].to_numpy()


def judged(**options):
    """Evaluate as a command does, and return the bytes of the files, and the models that were judged."""
    names = list[str]()
    add = judge.Judge.add

    def told(self, predictions, *fitted):
        names.append(predictions.model)
        return add(self, predictions, *fitted)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge.Judge, "add", told)
        evaluate("labels.parquet", "models", resamples=50, run=Run("manyhot evaluate"), **options).write("o")
    written = {path.name: path.read_bytes() for path in Path("o").iterdir() if path.is_file()}
    return written, names


def killed(after, **options):
    """Evaluate in a process that is killed after so many models."""
    command = [sys.executable, "-c", RUN, str(after), json.dumps(options)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL


def kept(folder):
    return sorted(path.name for path in folder.glob("cache/judged/*/*"))


@pytest.mark.parametrize(
    "options", [{}, {"compare_with": "m07"}, {"compare_with": "all", "metrics": ["aurc", "mla"]}]
)
def test_a_killed_run_goes_on_after_its_last_batch(folder, options):
    expected, names = judged(**options)
    assert len(names) == MODELS
    assert kept(folder) == []
    killed(8, **options)
    assert kept(folder) == ["0000.npz", "0001.npz"]
    found, names = judged(**options)
    assert names == [f"m{i:02d}" for i in range(6, MODELS)]
    assert found == expected
    assert kept(folder) == []


def test_clusters_that_only_models_of_kept_batches_predict(folder):
    for i in range(6, MODELS):
        write_model(i, labels_of(), n=N - 50)
    clusters = {image_id: i // 10 for i, image_id in enumerate(IDS.to_pylist())}
    expected, _ = judged(clusters=clusters)
    assert any(b"over 40 clusters with 400 images" in content for content in expected.values())
    killed(8, clusters=clusters)
    found, names = judged(clusters=clusters)
    assert names == [f"m{i:02d}" for i in range(6, MODELS)]
    assert found == expected


def test_nothing_of_other_labels_options_or_versions_is_used(folder, monkeypatch):
    killed(8)
    for options in ({"metrics": ["top1"]}, {"seed": 1}, {"compare_with": "none"}, {"slices": ["class"]}):
        assert len(judged(**options)[1]) == MODELS
        assert kept(folder) == ["0000.npz", "0001.npz"]
    monkeypatch.setattr(judged_batches, "__version__", "another")
    assert len(judged()[1]) == MODELS
    monkeypatch.undo()


def test_changed_predictions_are_judged_with_all_after_them(folder):
    killed(10)
    write_model(4, labels_of(), seed=7)
    expected_after = [f"m{i:02d}" for i in range(3, MODELS)]
    found, names = judged()
    # The first models are read again, and their batch is used, but that of the changed model is not.
    assert names == expected_after
    assert found == judged()[0]


def test_a_model_that_is_gone_and_one_that_is_new(folder):
    killed(10)
    Path("models/m10.parquet").unlink()
    Path("models/m08.parquet").unlink()
    found, names = judged()
    assert names == ["m06", "m07", "m09"]
    assert found == judged()[0]


def test_damaged_batches_are_not_used(folder):
    killed(10)
    (path,) = folder.glob("cache/judged/*/0001.npz")
    path.write_bytes(path.read_bytes()[:-100])
    found, names = judged()
    assert names == [f"m{i:02d}" for i in range(3, MODELS)]
    assert found == judged()[0]


def test_a_file_that_cannot_be_used_is_noted_again(folder):
    (folder / "models" / "m02.parquet").write_bytes(b"nothing")
    expected, _ = judged()
    killed(8)
    found, names = judged()
    assert len(names) == 4
    assert found == expected


@pytest.mark.parametrize("size", [1, 3])
def test_batches_of_any_size_give_the_same(folder, monkeypatch, size):
    """To the last digit, in the same order: also without an interval, and if models count other images."""
    label = labels_of()
    for i in (1, 5):  # always right: f1@3 is the same on all images
        best = (label[:, None] + np.arange(3)) % C
        made = Predictions(IDS, f"m{i:02d}", best.astype(np.int32), n_classes=C)
        write_predictions(made, f"models/m{i:02d}.parquet")

    def judged_in(batch):
        monkeypatch.setattr(columns, "_BATCH", batch)
        return evaluate("labels.parquet", "models", resamples=50, metrics=["f1@3", "mla", "aurc", "real1"])

    expected, found = judged_in(MODELS + 1), judged_in(size)
    assert [n.model for n in expected.model_notes if n.kind == "no_interval"] == ["m01", "m05"]
    assert found.model_notes == expected.model_notes
    for name in ("results", "pairs", "samples"):
        rows, others = (repr(getattr(of, name).to_pylist()) for of in (found, expected))
        assert rows == others, name


def test_few_models_and_calls_from_python_keep_nothing(folder, monkeypatch):
    monkeypatch.setattr(judging, "KeptBatches", None)
    evaluate("labels.parquet", "models", resamples=50)
    monkeypatch.setattr(columns, "_BATCH", MODELS + 1)
    evaluate("labels.parquet", "models", resamples=50, run=Run("manyhot evaluate"))


def test_models_without_rows():
    batch = judged_batches.JudgedBatch()
    batch.add_rows([])
    assert batch.restored_rows(dict) == []
