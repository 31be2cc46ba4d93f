"""The folder of a run: models whose earlier results are replaced are named."""

from threading import Event

import numpy as np
import pytest

from manyhot.evaluate import results
from manyhot.evaluate.evaluate import evaluate


@pytest.fixture
def judged():
    rng = np.random.default_rng(1)
    labels = (rng.random((30, 3)) < 0.5).astype(int)

    def judge(*models, dataset="labels"):
        predictions = {name: rng.random((30, 3)) for name in models}
        return evaluate(labels, predictions, resamples=0, metrics=["map_macro"], dataset=dataset)

    return judge


def test_models_whose_results_are_replaced_are_named(judged, tmp_path):
    def replaced(result):
        result.write(tmp_path)
        return [line for line in result.lines() if "replaced" in line]

    start = f"the earlier results in {tmp_path} were replaced, and those"
    end = "are gone; to keep the results of several runs, write each run to its own folder"
    assert replaced(judged("a", "b", "c")) == []
    assert replaced(judged("a", "b", "c", "d")) == []
    assert replaced(judged("b", "e")) == [f"{start} of a, c, d {end}"]
    assert replaced(judged("b", "e", dataset="other")) == [f"{start} on labels {end}"]
    assert replaced(judged("b", "e", dataset="other")) == []
    (tmp_path / "results.parquet").write_bytes(b"broken")
    assert replaced(judged("z")) == []


def test_models_are_compared_while_numbers_are_written(judged, tmp_path, monkeypatch):
    def write(*args, **options):
        assert compared.wait(30)
        return write_numbers(*args, **options)

    def compare(joined):
        compared.set()
        return compare_results(joined)

    compared, write_numbers, compare_results = Event(), results.write_numbers, results.compare_results
    monkeypatch.setattr(results, "write_numbers", write)
    monkeypatch.setattr(results, "compare_results", compare)
    assert tmp_path / "results.parquet" in judged("a", "b").write(tmp_path)
