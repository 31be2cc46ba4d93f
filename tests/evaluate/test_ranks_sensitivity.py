"""Sensitivity to how label sets were found, worked out by hand."""

import math

import pyarrow as pa
import pytest
from pyarrow import compute as pc

from manyhot.evaluate.ranks import sensitivity
from manyhot.tables import Results, schema

SIZES = ("n_labels=1", "n_labels=2", "n_labels=3", "n_labels>=4")
COUNTS = {"x": (80, 10, 6, 4), "y": (40, 30, 20, 10), "rated": (20, 10, 6, 4)}
VALUES = {"x": (0.9, 0.5, 0.4, 0.2), "y": (0.8, 0.6, 0.5, 0.3), "rated": (0.6, 0.5, 0.4, 0.2)}


def table(names, metric="real1"):
    """Two models, one a tenth below the other, on sizes of sets that are named in COUNTS."""
    rows = []
    for dataset, source, prefix in names:
        counts, values = COUNTS[source], VALUES[source]
        total = sum(c * v for c, v in zip(counts, values, strict=True)) / sum(counts)
        slices = [(f"{prefix}{s}", v, c) for s, v, c in zip(SIZES, values, counts, strict=True)]
        slices.append((prefix.rstrip(",") or "all", total, sum(counts)))
        for model, less in (("resnet50", 0.0), ("vgg16", 0.1)):
            rows += [
                {"dataset": dataset, "model": model, "metric": metric, "slice": s, "value": v - less, "n": c}
                | {"lo": None, "hi": None, "n_skipped": 0}
                for s, v, c in slices
            ]
    return Results(pa.Table.from_pylist(rows, schema=schema("results")))


def analyse(results, thresholds=None):
    rows = sensitivity(results, thresholds, lambda m: m).to_pylist()
    return {(r["analysis"], r["threshold"]): r for r in rows}


def weighted(values, counts):
    return sum(v * c for v, c in zip(values, counts, strict=True)) / sum(counts)


def test_each_analysis_by_hand():
    found = analyse(table([("v1", "x", ""), ("v1", "rated", "rated=true,"), ("v2", "y", "")]))
    x, y = VALUES["x"], VALUES["y"]
    less = 0.05  # the mean of the two models
    assert list(found) == [
        ("as published", None),
        ("sizes of y", None),
        ("sizes of x", None),
        ("rated at x", None),
        ("rated, sizes of y", None),
    ]
    expected = {
        "as published": (weighted(x, COUNTS["x"]), weighted(y, COUNTS["y"]), 0.2, 0.6),
        "sizes of y": (weighted(x, COUNTS["y"]), weighted(y, COUNTS["y"]), 0.6, 0.6),
        "sizes of x": (weighted(x, COUNTS["x"]), weighted(y, COUNTS["x"]), 0.2, 0.2),
        "rated at x": (weighted(VALUES["rated"], COUNTS["rated"]), weighted(y, COUNTS["y"]), 0.5, 0.6),
        "rated, sizes of y": (weighted(VALUES["rated"], COUNTS["y"]), weighted(y, COUNTS["y"]), 0.6, 0.6),
    }
    for (analysis, _), row in found.items():
        value_x, value_y, multi_x, multi_y = expected[analysis]
        assert row["value_x"] == pytest.approx(value_x - less), analysis
        assert row["value_y"] == pytest.approx(value_y - less), analysis
        assert row["drop"] == pytest.approx(value_x - value_y), analysis
        share = COUNTS["y"] if analysis == "rated, sizes of y" else None
        if share is None:
            assert row["multi_x"] == pytest.approx(multi_x), analysis
        assert row["multi_y"] == pytest.approx(multi_y), analysis
        assert (row["n_models"], row["n_y"]) == (2, 100)


def test_equal_values_within_sizes_leave_no_drop():
    """Where only the mix of sizes differs, re-weighting takes the whole drop away."""
    results = table([("v1", "x", ""), ("v2", "y", "")])
    rows = [r | {"value": r["value"]} for r in results.table.to_pylist()]
    at_x = {(r["model"], r["slice"]): r["value"] for r in rows if r["dataset"] == "v1"}
    for r in rows:
        if r["dataset"] == "v2" and r["slice"] != "all":
            r["value"] = at_x[r["model"], r["slice"]]
    made = Results(pa.Table.from_pylist(rows, schema=schema("results")))
    found = analyse(made)
    assert found["sizes of y", None]["drop"] == pytest.approx(0, abs=1e-12)
    assert found["sizes of x", None]["drop"] == pytest.approx(0, abs=1e-12)


def test_thresholds_are_ordered_and_only_of_label_sets():
    names = [(f"v1 p>={t}", "rated", "") for t in (0.95, 0.5)]
    both = table([("v1", "x", ""), ("v2", "y", "")])
    found = analyse(both, table(names))
    assert [at for analysis, at in found if analysis == "threshold at x"] == [0.5, 0.95]
    row = found["threshold at x", 0.5]
    assert row["value_x"] == pytest.approx(weighted(VALUES["rated"], COUNTS["rated"]) - 0.05)
    assert row["multi_x"] == pytest.approx(0.5)
    top1 = analyse(table([("v1", "x", ""), ("v2", "y", "")], "top1"), table(names, "top1"))
    assert not [a for a, _ in top1 if a == "threshold at x"]


def test_families_give_the_interval():
    results = table([("v1", "x", ""), ("v2", "y", "")])
    assert analyse(results)["as published", None]["lo_models"] is None  # two models are too few
    copies = [
        results.table.set_column(1, "model", pa.array(f"{m} {i}" for m in results.table["model"].to_pylist()))
        for i in range(4)
    ]
    row = analyse(Results(pa.concat_tables(copies)))["as published", None]
    drop = weighted(VALUES["x"], COUNTS["x"]) - weighted(VALUES["y"], COUNTS["y"])
    # All models drop alike, so redrawing them changes nothing.
    assert (row["lo_models"], row["hi_models"]) == (pytest.approx(drop), pytest.approx(drop))


def test_top1_is_held_against_images_with_labels():
    found = analyse(table([("v1", "x", ""), ("v2", "y", "")], "top1"))
    row = found["not empty", None]
    assert list(found)[:2] == [("as published", None), ("not empty", None)]
    assert row["value_x"] == pytest.approx(weighted(VALUES["x"], COUNTS["x"]) - 0.05)


def test_without_sizes_there_is_nothing_to_analyse():
    results = table([("v1", "x", ""), ("v2", "y", "")])
    few = results.table.filter(pa.array([r["slice"] == "all" for r in results.table.to_pylist()]))
    assert analyse(Results(few)) == {}


@pytest.mark.filterwarnings("error")
def test_a_metric_that_counts_no_image_is_not_analysed():
    """As top1 without original labels; a warning of NumPy was shown on the terminal."""
    found = table([("v1", "x", ""), ("v2", "y", "")], "top1")
    is_first = pc.equal(found.table["dataset"], "v1")
    nothing = pc.if_else(is_first, 0, found.table["n"]).cast(pa.int64())
    undefined = pc.if_else(is_first, math.nan, found.table["value"])
    changed = {"n": nothing, "value": undefined}
    columns = {name: changed.get(name, found.table[name]) for name in found.table.column_names}
    assert analyse(Results(pa.table(columns, schema=found.table.schema))) == {}


def test_undefined_models_are_left_out():
    results = table([("v1", "x", ""), ("v2", "y", "")])
    rows = results.table.to_pylist()
    for r in rows:
        if r["model"] == "vgg16" and r["dataset"] == "v1":
            r["value"] = math.nan
    left = Results(pa.Table.from_pylist(rows, schema=schema("results")))
    assert analyse(left) == {}  # one model is no comparison
    other = results.table.set_column(
        1, "model", pa.array(f"{m} b" for m in results.table["model"].to_pylist())
    )
    found = analyse(Results(pa.concat_tables([left.table, other])))
    assert {r["n_models"] for r in found.values()} == {3}
