"""The worst slice of each model: against SciPy's Wilson intervals, by simulation, and where users see it."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import binomtest

import manyhot as mh
from manyhot.core.share_intervals import proportion_interval
from manyhot.evaluate.worst_slices import _worst
from manyhot.tables.result_tables import ModelValue

N = {"water": 60, "land": 90, "city": 50}
RIGHT = {"erm": {"water": 30, "land": 88, "city": 45}, "dro": {"water": 51, "land": 75, "city": 40}}


def write_inputs():
    """Write labels, places and two models that are right on known numbers of images of each place."""
    places = [place for place, n in N.items() for _ in range(n)]
    ids = [f"{i:03}.jpg" for i in range(len(places))]
    pl.DataFrame({"image_id": ids, "place": places}).write_csv("images.csv")
    pl.DataFrame({"image_id": ids, "label": ["bird"] * len(ids)}).write_csv("labels.csv")
    for model, counts in RIGHT.items():
        right = np.concatenate([np.arange(n) < counts[place] for place, n in N.items()])
        score = np.where(right, 0.9, 0.2)
        frame = {"image_id": ids, "bird": score, "plane": 1 - score, "ship": np.zeros(len(ids))}
        pl.DataFrame(frame).write_csv(f"{model}.csv")


@pytest.fixture
def evaluation(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_inputs()
    models = ["erm.csv", "dro.csv"]
    return mh.evaluate(
        "labels.csv", predictions=models, images="images.csv", slices=["place"], metrics=["top1"]
    )


def test_worst_slice_and_its_interval(evaluation, tmp_path):
    evaluation.write(tmp_path / "out")
    frame = pl.read_csv(tmp_path / "out" / "worst_slices.csv")
    assert frame.select("model", "column", "metric", "slice", "n", "n_slices").rows() == [
        ("erm", "place", "top1", "place=water", 60, 3),
        ("dro", "place", "top1", "place=city", 50, 3),
    ]
    for row in frame.iter_rows(named=True):
        tests = {place: binomtest(RIGHT[row["model"]][place], n) for place, n in N.items()}
        assert row["value"] == min(test.statistic for test in tests.values())
        low = min(test.proportion_ci(method="wilson").low for test in tests.values())
        high = min(test.proportion_ci(1 - 0.05 / 3, method="wilson").high for test in tests.values())
        assert (row["value_lo"], row["value_hi"]) == pytest.approx((low, high), abs=1e-9)


def test_lines_and_page(evaluation, tmp_path):
    lines = list(evaluation.lines())
    (worst,) = (line.split() for line in lines if line.startswith("worst of place"))
    assert worst[3] == "80.00%"  # dro is the better model, and comes first
    assert any(line.startswith("Best on its worst slice of place: dro, 80.00%") for line in lines)
    evaluation.write(tmp_path / "out")
    page = (tmp_path / "out" / "report" / "index.html").read_text()
    assert "The worst of 3 slices by place" in page


def test_lower_is_better_and_one_slice():
    values = {"a": ModelValue(0.2, 0.1, 0.35, 40), "b": ModelValue(0.5, 0.38, 0.62, 70)}
    worst = _worst(values, is_share=True, is_lower=True)
    mirrored = {name: ModelValue(1 - v.value, 1 - v.hi, 1 - v.lo, v.n) for name, v in values.items()}
    higher = _worst(mirrored, is_share=True, is_lower=False)
    assert worst["slice"] == higher["slice"] == "b"
    assert (worst["value_lo"], worst["value_hi"]) == pytest.approx(
        (1 - higher["value_hi"], 1 - higher["value_lo"])
    )


def test_a_slice_without_an_interval_leaves_none():
    values = {"a": ModelValue(0.9, None, None, 3), "b": ModelValue(0.5, 0.38, 0.62, 70)}
    assert "value_lo" not in _worst(values, is_share=True, is_lower=False)


@pytest.mark.parametrize("shares", [(0.8, 0.8, 0.8, 0.8), (0.95, 0.7, 0.9, 0.85), (1.0, 0.98, 0.97, 0.97)])
def test_intervals_contain_the_worst_true_value(shares):
    rng, n = np.random.default_rng(0), np.array([40, 60, 100, 800])
    counts = rng.binomial(n, shares, (2000, 4))
    lows, highs = proportion_interval(counts, n)
    contained = 0
    for row, low, high in zip(counts / n, lows, highs, strict=True):
        own = {str(i): ModelValue(*v) for i, v in enumerate(zip(row, low, high, n, strict=True))}
        worst = _worst(own, is_share=True, is_lower=False)
        contained += worst["value_lo"] <= min(shares) <= worst["value_hi"]
    assert contained / 2000 >= 0.94  # 95 %, less two standard errors of the simulation
