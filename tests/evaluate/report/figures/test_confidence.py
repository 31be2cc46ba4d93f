"""The figures of confidence: both events in one picture, from tables whose numbers are known."""

import json

import pyarrow as pa
import pytest
from pyarrow import compute as pc

import figure_tables as given
from manyhot.evaluate.report.report_tables import ReportTables
from manyhot.tables import schema

alt = pytest.importorskip("altair")

from manyhot.evaluate.report.figures import draw_figures  # noqa: E402

MODELS = ("alpha", "beta", "gamma", "delta")


def tables(models=MODELS):
    bins, curve = [], []
    for model in models:
        for event, right in (("label", 0.6), ("set", 0.9)):
            at = {"dataset": "val", "model": model, "event": event, "confidence": 0.9, "n": 10}
            bins.append({**at, "from": 0.0, "to": 1.0, "right": right - 0.1, "lo": 0.3, "hi": 0.95, "n": 12})
            bins.append({**at, "from": 13 / 15, "to": 14 / 15, "right": right, "lo": 0.4, "hi": 0.98})
            curve.append({**at, "coverage": 0.8, "risk": 1 - right})
            curve.append({**at, "coverage": 1.0, "risk": 1.1 - right, "n": 12})
    made = {"reliability": bins, "risk_coverage": curve}
    return {n: pa.Table.from_pylist(rows, schema=schema(n)) for n, rows in made.items()}


def drawn(own=(), models=MODELS):
    given_tables = given.everything()
    all_tables = ReportTables(given_tables.results, {**given_tables.beside, **tables(models)})
    return [f for f in draw_figures(all_tables, own=own) if f.section == "trust"]


def test_at_most_three_models_own_ones_first():
    assert [f.name for f in drawn()] == ["trust-val-alpha", "trust-val-beta", "trust-val-gamma"]
    assert drawn(own=["delta"])[0].name == "trust-val-delta"
    assert "3 of 4 models with confidences are drawn." in drawn()[0].caption
    assert "are drawn" not in drawn(models=["alpha"])[0].caption


def test_a_model_without_bins_has_no_figure():
    """With few audited images, a model may have values over all images, but no bin with enough of them."""
    made = tables()
    bins = made["reliability"]
    alpha = pc.and_(pc.equal(bins["model"], "alpha"), pc.greater(bins["from"], 0))
    made["reliability"] = bins.filter(pc.invert(alpha))
    given_tables = given.everything()
    all_tables = ReportTables(given_tables.results, {**given_tables.beside, **made})
    found = [f for f in draw_figures(all_tables) if f.section == "trust"]
    assert [f.name for f in found] == ["trust-val-beta", "trust-val-gamma", "trust-val-delta"]


def test_both_events_are_in_one_picture():
    (figure,) = drawn(models=["alpha"])
    alt.ConcatChart.validate(dict(figure.spec))
    bins = figure.spec["datasets"]["trust-val-alpha-bins"]
    assert [(r["event"], r["x"], r["y"], r["n"]) for r in bins] == [
        ("original label", 90, 60, 10),
        ("label set", 90, 90, 10),
    ]
    curve = figure.spec["datasets"]["trust-val-alpha-curve"]
    assert [(r["event"], r["coverage"], r["risk"]) for r in curve] == [
        ("original label", 80, 40),
        ("original label", 100, 50),
        ("label set", 80, 10),
        ("label set", 100, 20),
    ]
    assert figure.alt == (
        "Mean confidence 90.0 %. The top class is the original label on 50.0 % of the images, and in the "
        "label set on 80.0 %."
    )
    assert "Both panels count the 12 images that have an original label and a label set." in figure.caption
    assert '"clip"' not in json.dumps(figure.spec["concat"])


def test_both_panels_name_the_events():
    (figure,) = drawn(models=["alpha"])
    for panel in ("bins", "curve"):
        named = figure.spec["datasets"][f"trust-val-alpha-{panel}-names"]
        assert [r["event"] for r in named] == ["original label", "label set"]
        assert named[0]["high"] > named[1]["high"]
