"""Dense scores that are read in blocks are those that are read at once, and need the memory that is said."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manyhot.errors import InputError
from manyhot.formats import read_predictions
from manyhot.tables import Predictions, predictions_files, read, read_dense, unpacked, write_predictions

N, C = 2_500, 8


def written(folder, dtype=np.float16):
    scores = np.random.default_rng(0).normal(size=(N, C)).astype(dtype)
    ids = [f"{i}.png" for i in range(N)]
    made = Predictions(pa.array(ids), "dense", scores=scores, score_kind="logit", n_classes=C)
    return scores, write_predictions(made, folder / "dense.parquet")


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_scores_read_in_blocks_are_those_written(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(predictions_files, "_MANY_SCORES", N * C)
    scores, path = written(tmp_path, dtype)
    found = read_dense(path, model="file")
    assert found.scores.dtype == dtype
    np.testing.assert_array_equal(found.scores, scores)
    whole = predictions_files.predictions_from_table(
        read(path, "predictions"), model="file", source=str(path)
    )
    assert found.image_id.equals(whole.image_id)
    same = ("model", "score_kind", "n_classes", "class_hash", "source", "class_list")
    assert all(getattr(found, name) == getattr(whole, name) for name in same)


def test_other_predictions_are_not_read_in_blocks(tmp_path, monkeypatch):
    _, path = written(tmp_path)
    assert read_dense(path, model="file") is None  # few scores
    monkeypatch.setattr(predictions_files, "_MANY_SCORES", 1)
    table = pq.read_table(path)
    ragged = table.set_column(1, "scores", [[[1.0, 2.0]] * (N - 1) + [[1.0]]])
    pq.write_table(ragged, tmp_path / "ragged.parquet")
    assert read_dense(tmp_path / "ragged.parquet", model="file") is None
    pq.write_table(table.append_column("logsumexp", [[0.0] * N]), tmp_path / "more.parquet")
    assert read_dense(tmp_path / "more.parquet", model="file") is None


def test_a_damaged_file_and_nulls_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(predictions_files, "_MANY_SCORES", 1)
    _, path = written(tmp_path)
    table = pq.read_table(path)
    holed = table.set_column(1, "scores", [[[1.0, None]] * N])
    pq.write_table(holed, tmp_path / "holed.parquet")
    with pytest.raises(InputError, match="A list of scores contains an empty value"):
        read_dense(tmp_path / "holed.parquet", model="file")
    content = path.read_bytes()
    path.write_bytes(content[:1000] + bytes(2000) + content[3000:])
    with pytest.raises(InputError):
        read_predictions(path)


def test_scores_that_need_more_memory_than_is_free_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(predictions_files, "_MANY_SCORES", 1)
    monkeypatch.setattr(unpacked, "free_memory", lambda: 60_000)
    _, path = written(tmp_path)
    with pytest.raises(InputError) as refused:
        read_predictions(path)
    assert str(refused.value) == (
        "The scores of all classes need more memory than is free.\n"
        f"  where:   {path}\n"
        "  got:     2,500 images × 8 classes, for which 0.0 GB would be allocated\n"
        "  allowed: at most 0.0 GB, which are free\n"
        "  do:      keep only the top classes of each image, as manyhot predict does without --dense"
    )
    np.save(tmp_path / "dense.npy", np.zeros((N, C)))
    with pytest.raises(InputError, match="need more memory than is free"):
        read_predictions(tmp_path / "dense.npy", rows=[f"{i}.png" for i in range(N)])
