"""The figure of the differences of two models by class, whose numbers are those of scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from manyhot import compare

alt = pytest.importorskip("altair")
pytest.importorskip("vl_convert")

from manyhot.evaluate.report import build_report  # noqa: E402
from manyhot.evaluate.report.figures import draw_figures  # noqa: E402
from manyhot.evaluate.report.report_tables import ReportTables  # noqa: E402
from manyhot.report.prerender import prepare  # noqa: E402


def models(n_classes, n_rare):
    """Return the labels of 300 images, of which some classes are on few, and the scores of two models."""
    rng = np.random.default_rng(0)
    hot = rng.random((300, n_classes)) < np.where(np.arange(n_classes) < n_rare, 0.03, 0.4)
    hot[0] = True
    return hot, *(rng.normal(size=(2, *hot.shape)) + hot)


def tables(hot, a, b):
    found = compare({"a": a, "b": b}, labels=hot)
    return ReportTables(
        found.results.table, {"pairs": found.results.pairs, "class_differences": found.classes}
    )


def test_classes_are_in_order_of_their_difference_and_untested_ones_have_no_interval():
    hot, a, b = models(8, 2)
    (figure,) = draw_figures(tables(hot, a, b))
    assert (figure.name, figure.section) == ("class-differences-labels", "classes")
    assert figure.title == "Difference of average precision by class, b − a, labels"
    assert figure.caption.endswith(" Grey circles are classes that were not tested.")
    rows = figure.spec["datasets"]["class-differences-labels-middle"]
    values = [
        100 * np.diff([average_precision_score(y, s) for s in (p, q)])[0]
        for y, p, q in zip(hot.T, a.T, b.T, strict=True)
    ]
    drawn = {row["label"]: row for row in rows}
    assert [row["value"] for row in rows] == sorted((row["value"] for row in rows), reverse=True)
    for c in range(2, 8):
        row = drawn[str(c)]
        assert row["x"] == pytest.approx(values[c], rel=1e-4)
        assert row["lo"] < row["x"] < row["hi"]
        assert (row["text"], row["grey"]) == (f"{hot[:, c].sum()}", None)
    for c in ("0", "1"):
        assert drawn[c]["grey"] == pytest.approx(values[int(c)], rel=1e-4)
        assert drawn[c]["x"] is drawn[c]["lo"] is drawn[c]["hi"] is None


def test_an_untested_class_beyond_the_intervals_of_the_others_is_drawn():
    rng = np.random.default_rng(0)
    hot = np.zeros((300, 3), int)
    hot[:60, 0] = hot[60:120, 1] = hot[120:130, 2] = 1
    a = rng.normal(size=hot.shape) + 2 * hot
    b = a + rng.normal(scale=0.1, size=hot.shape)
    b[120:130, 2] += 20  # the model finds all of the rare class: the largest gain, on 10 images
    (figure,) = draw_figures(tables(hot, a, b))
    rows = {row["label"]: row for row in figure.spec["datasets"]["class-differences-labels-middle"]}
    gain = 100 * (1 - average_precision_score(hot[:, 2], a[:, 2]))
    assert rows["2"]["grey"] == pytest.approx(gain, rel=1e-4)
    assert gain > max(rows[c]["hi"] for c in "01")


def test_the_largest_differences_of_many_classes_are_drawn():
    hot, a, b = models(24, 2)
    (figure,) = draw_figures(tables(hot, a, b))
    assert "the 20 of 22 classes with the largest differences" in figure.caption
    assert "Grey" not in figure.caption
    assert figure.caption.endswith(" 2 classes that could not be tested are left out.")
    sizes = {
        c: abs(average_precision_score(hot[:, c], b[:, c]) - average_precision_score(hot[:, c], a[:, c]))
        for c in range(2, 24)
    }
    largest = sorted(sizes, key=sizes.get)[2:]
    rows = figure.spec["datasets"]["class-differences-labels-middle"]
    assert {row["label"] for row in rows} == set(map(str, largest))


def test_without_a_tested_class_there_is_no_figure():
    assert draw_figures(tables(*models(3, 3))) == ()


def test_the_page_of_two_models_begins_with_classes():
    made = tables(*models(8, 2))
    figures = draw_figures(made)
    report = build_report(made, figures=figures)
    assert next((s.anchor, s.title) for s in report.sections) == ("classes", "Classes")
    assert "class-differences-labels" in prepare(figures).drawn


def test_specification_is_valid_vega_lite():
    (figure,) = draw_figures(tables(*models(8, 2)))
    alt.ConcatChart.validate(dict(figure.spec))
