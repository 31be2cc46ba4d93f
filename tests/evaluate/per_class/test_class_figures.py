"""Figures of classes: valid, with the numbers of the tables, and nothing where there is nothing to show."""

import json

import numpy as np
import pytest

from manyhot.classes import from_keys
from manyhot.core.sets import NO, YES
from manyhot.evaluate.per_class.class_tables import ClassTables, of_models, worst_first
from scored_states import case_of, draw

alt = pytest.importorskip("altair")
vl_convert = pytest.importorskip("vl_convert")

from manyhot.evaluate.per_class.class_figures import DRAWN_CLASSES, MATRIX, draw_classes  # noqa: E402
from manyhot.report.prerender import draw_panels  # noqa: E402

NAMES = [f"class <{c}> & co" for c in range(40)]


def made(*models, n_classes=40):
    tables = ClassTables("my data", n_classes, from_keys(NAMES[:n_classes]))
    for i, case in enumerate(models):
        assert tables.add(f"net/{i}", case)
    return tables.tables()


@pytest.fixture(scope="module")
def tables():
    cases = []
    for seed in (0, 1):
        state, scores, _ = draw(0, n=400, n_classes=40)
        noise = np.random.default_rng(seed).normal(size=scores.shape)
        cases.append(case_of(state, (scores + seed * noise).astype(np.float32)))
    return made(*cases)


@pytest.fixture(scope="module")
def figures(tables):
    return {figure.name: figure for figure in draw_classes(tables)}


def test_figures_are_valid_and_described(figures):
    assert list(figures) == ["class-ap-my-data", "class-confusions-my-data", "class-curves-my-data"]
    for figure in figures.values():
        alt.ConcatChart.validate(dict(figure.spec))
        assert "net/0, my data" in figure.title
        assert len(figure.caption) > 60
        assert len(figure.alt) > 40
        assert figure.section == "classes"
        assert figure.data.num_rows
        for svg in draw_panels(figure):
            assert "<script" not in svg


def test_average_precision_of_the_worst_classes(tables, figures):
    figure = figures["class-ap-my-data"]
    rows = worst_first(of_models(tables["class_results"])["my data", "net/0"])
    drawn = figure.spec["datasets"]["class-ap-my-data-middle"]
    assert [r["label"] for r in drawn] == [r["name"] for r in rows[:DRAWN_CLASSES]]
    assert drawn[0]["x"] == pytest.approx(100 * rows[0]["ap"], rel=1e-4)
    assert drawn[0]["text"] == str(rows[0]["n_positives"])
    assert drawn[0]["prevalence"] == pytest.approx(rows[0]["n_positives"] / 4)
    others = figure.spec["datasets"]["class-ap-my-data"]
    assert {r["model"] for r in others} == {"net/1"}
    assert f"{DRAWN_CLASSES} of 39 classes" in figure.caption
    assert figure.caption.endswith("Thin blue marks are those of net/1.")


def test_curves_hold_the_operating_point(tables, figures):
    sheets = figures["class-curves-my-data"].spec["datasets"]
    results = of_models(tables["class_results"])["my data", "net/0"]
    ids = {r["class_id"] for r in of_models(tables["class_curves"])["my data", "net/0"]}
    assert len(ids) == 4
    for c in ids:
        (point,) = sheets[f"class-curves-my-data-precision-recall-{c}-point"]
        row = results[c]
        assert (point["x"], point["y"]) == (
            pytest.approx(100 * row["recall"], rel=1e-4),
            pytest.approx(100 * row["precision"], rel=1e-4),
        )
        (point,) = sheets[f"class-curves-my-data-roc-{c}-point"]
        wrong = (row["n_predicted"] - row["n_right"]) / row["n_negatives"]
        assert point["x"] == pytest.approx(100 * wrong, rel=1e-4)
    steps = json.dumps(figures["class-curves-my-data"].spec["concat"]).count("step-before")
    assert steps == 4, "a precision holds from the recall of the point before"


def test_the_matrix_counts_what_is_predicted_instead(tables, figures):
    cells = figures["class-confusions-my-data"].spec["datasets"]["class-confusions-my-data"]
    rows = of_models(tables["class_confusions"])["my data", "net/0"]
    pairs = {(r["predicted_name"], r["present_name"]): r for r in rows}
    predicted = {c["predicted"] for c in cells} - {"nothing"}
    assert 2 < len(predicted) <= MATRIX
    assert 2 < len({c["present"] for c in cells}) <= MATRIX
    for cell in cells:
        name = None if cell["predicted"] == "nothing" else cell["predicted"]
        assert cell["n"] == pairs[name, cell["present"]]["n_instead"] > 0


def test_nothing_is_drawn_without_data():
    assert draw_classes({}) == ()
    state = np.full((20, 3), NO, np.uint8)
    scores = np.random.default_rng(0).random((20, 3), np.float32)
    assert draw_classes(made(case_of(state, scores), n_classes=3)) == ()
    state[:3] = YES
    few = draw_classes(made(case_of(state, scores), n_classes=3))
    assert [figure.name for figure in few] == ["class-ap-my-data"], "no class has a threshold"
