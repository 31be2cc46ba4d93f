"""The page on the accuracy of audits shows the committed results, and the simulations count what they say."""

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from scipy.stats import binomtest, kendalltau

from audits import IDS, N_CLASSES, World
from manyhot import evaluate
from manyhot.core.audit_samples import uniform_design
from manyhot.core.audited import AuditedEstimate
from manyhot.tables import Labels, Predictions

REPO = Path(__file__).parents[1]
sys.path.insert(0, str(REPO / "benchmarks"))
page, tables = import_module("audited_page"), import_module("audited_tables")
data, door = import_module("audited_data"), import_module("audited_evaluate")
core, bins = import_module("audited"), import_module("audited_reliability")

TEXT = page.PAGE.read_text(encoding="utf-8")


def test_the_tables_of_the_page_are_those_of_the_committed_results():
    assert page.with_tables(TEXT) == TEXT
    assert [name for name in page.TABLES if f"% table: {name}\n" not in TEXT] == []


def test_the_simulated_cells_of_evaluate_are_listed():
    rows = pl.read_csv(door.SUMMARY, infer_schema_length=None)
    simulated = set(rows.select("data", "design", "estimator", "proposed_by").unique().iter_rows())
    assert simulated <= {(c.data, c.design, c.estimator, c.proposed_by) for c in door.CELLS}
    assert set(rows["data"]) == set(data.DATA)
    of_real = rows.filter(data="real", design="uniform", estimator="ppi++", proposed_by="labels", slice="all")
    assert set(of_real["metric"]) == set(door.RANKED)


THOUSAND = ("audited_evaluate.csv", "audited.csv", "audited_proposals.csv", "audited_reliability.csv")


@pytest.mark.parametrize("name", THOUSAND)
def test_every_row_has_a_thousand_draws(name):
    rows = pl.read_csv(page.HERE / name, infer_schema_length=None)
    assert set(rows["draws"].drop_nulls()) == {1000}


def test_how_many_coverages_are_surely_below():
    held, intervals = np.array([913, 912, 905, 900]), np.full(4, 1000)
    upper = [binomtest(int(h), 1000).proportion_ci(0.999).high for h in held]
    assert tables.count_below(held, intervals) == sum(u < 0.935 for u in upper) > 0
    assert tables.count_below(np.array([1000]), np.array([1000])) == 0


@pytest.fixture
def drawn():
    """Return true accuracies of six models, and three estimates of them with errors."""
    rng = np.random.default_rng(3)
    true = rng.random(6)
    return true, true + rng.normal(0, 0.2, (3, 6)), rng.uniform(0.05, 0.2, 6)


def estimate_of(value, error):
    n = np.full(len(value), 60.0)
    return AuditedEstimate(value, error, n, np.ones(len(value)), np.zeros(len(value)), value)


def test_the_order_of_models_is_compared_by_kendalls_tau(drawn):
    true, values, error = drawn
    tally = tables.RankTally(true)
    for value in values:
        tally.add(estimate_of(value, error), "")
    found = tables.ranks({k: np.array([v]) for k, v in tally.sums.items()}, None, 3)
    assert found["tau"] == pytest.approx(np.mean([kendalltau(v, true)[0] for v in values]), abs=1e-4)
    first = values.argmax(axis=1)
    assert found["best"] == pytest.approx(np.mean(first == true.argmax()), abs=1e-4)
    assert found["behind"] == pytest.approx(100 * np.mean(true.max() - true[first]), abs=1e-3)
    alone = tables.alone_of(values[0], true)
    assert alone["tau"] == pytest.approx(kendalltau(values[0], true)[0], abs=1e-4)
    assert alone["bias"] == pytest.approx(100 * (values[0] - true).mean(), abs=1e-2)


def test_coverage_and_width_are_those_of_the_intervals(drawn):
    true, values, error = drawn
    tally = tables.Tally(true)
    for value in values:
        tally.add(estimate_of(value, error), "plain")
    found = tables.coverage(tally.sums, tally.sums, 3)
    ends = [estimate_of(value, error).interval() for value in values]
    held = np.mean([(lo <= true) & (true <= hi) for lo, hi in ends], axis=0)
    assert found["coverage"] == pytest.approx(held.mean(), abs=1e-4)
    assert found["least"] == pytest.approx(held.min(), abs=1e-4)
    assert found["half_width"] == pytest.approx(50 * np.median(ends[0][1] - ends[0][0]), abs=1e-3)
    assert found["narrower"] == 1
    assert found["right"] + found["wrong"] == pytest.approx(np.mean([lo > 0 for lo, _ in ends]), abs=1e-4)


@pytest.mark.parametrize("cell", [("uniform", "labels"), ("active", "models"), ("differences", "models")])
def test_a_simulated_draw_is_what_evaluate_computes(cell, monkeypatch):
    """`Simulation.block` compares a draw with `evaluate`; here with label sets in another order, too."""
    world = World(empty=0.02)
    order = np.random.default_rng(0).permutation(len(IDS))
    people = Labels(world.people.table.take(pa.array(order)), N_CLASSES, name="people")
    some = data.DataSet("real", people, world.proposed, list(world.models.values()))
    monkeypatch.setattr(door, "BLOCK", 4)
    monkeypatch.setattr(door, "RANKED", ("real1", "mla", "valid_errors", "precision@5"))
    simulation = door.Simulation(some, door.Cell("real", cell[0], proposed_by=cell[1], models=2))
    values, pairs = simulation.block(120, 0)
    true = evaluate(people, list(world.models.values()), resamples=0, metrics=["real1"])
    (row,) = [r for r in values if r[:3] == ["good", "real1", "all"]]
    draws, intervals, held, width, error, squared, _ = row[3:]
    assert draws == 4
    assert 0 <= held <= intervals <= draws
    assert (width > 0) == (intervals > 0)
    assert squared >= error**2 / draws - 1e-9
    assert simulation.true.filter(pl.col("model") == "good", metric="real1", slice="all")["true"].item() == (
        pytest.approx(true.value("real1", model="good"))
    )
    assert {tuple(r[:2]) for r in pairs} == {("good", "bad")}


def test_a_simulated_reliability_table_is_that_of_evaluate():
    """`ReliabilitySimulation.check` compares them; and it counts the bins that are shown."""
    world = World()
    some = data.DataSet("voc", world.people, world.proposed, [dense(m) for m in world.models.values()])
    rows = [*bins.ReliabilitySimulation(some, door.Cell("voc", models=2)).rows(200, 3)]
    plain = evaluate(world.people, [dense(m) for m in world.models.values()], resamples=0, metrics=["real1"])
    assert len(rows) == plain.confidence["reliability"].num_rows
    assert all(r["held"] <= r["intervals"] <= r["shown"] <= r["draws"] == 3 for r in rows)


def test_images_with_one_top_class_do_not_tell_models_apart():
    rng = np.random.default_rng(0)
    top = rng.integers(0, 3, (60, 4, 5)).astype(np.int16)
    values = core.Images(data.Arrays(top, rng.random((60, 3)) < 0.6, rng.integers(0, 3, 60))).values()
    some = values.of_models([0, 2, 3], np.arange(10, 50))
    assert np.allclose(some.true, values.people[10:50, [0, 2, 3]].mean(0))
    sample = uniform_design(40, 15).draw(rng)
    for pair, (a, b) in enumerate(zip(some.first, some.second, strict=True)):
        models = [[0, 2, 3][a], [0, 2, 3][b]]
        expected = [len(set(top[10 + i, models, 0])) == 1 for i in sample.images]
        assert some.same(sample)[:, pair].tolist() == expected


@pytest.mark.parametrize("proposed_by", ["labels", "models"])
def test_macro_average_precision_alone_is_simulated(proposed_by, monkeypatch):
    """`Simulation.block` compares a draw with `evaluate`; models propose by their scores of all classes."""
    world = World()
    some = data.DataSet("voc", world.people, world.proposed, [dense(m) for m in world.models.values()])
    monkeypatch.setattr(door, "BLOCK", 2)
    cell = door.Cell("voc", proposed_by=proposed_by, models=2)
    values, _ = door.Simulation(some, cell, ["map_macro"]).block(200, 0)
    assert [(*row[:4],) for row in values] == [(m, "map_macro", "all", 2) for m in ("good", "bad")]


def dense(ranked):
    """Return a model's ranking as probabilities of all classes."""
    classes = np.array(ranked.classes)
    scores = np.empty(classes.shape, np.float32)
    np.put_along_axis(scores, classes, np.array([0.6, 0.15, 0.1, 0.07, 0.05, 0.03], np.float32), axis=1)
    about = {"scores": scores, "score_kind": "probability", "n_classes": N_CLASSES}
    return Predictions(ranked.image_id, ranked.model, **about)


def test_a_data_set_that_does_not_exist():
    with pytest.raises(SystemExit, match="There is no data set imagenet: choose of real, multilabelfy"):
        data.open_data("imagenet")
