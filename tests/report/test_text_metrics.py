"""How metrics are presented: by what they register, else by the results' metadata, else by their name."""

import numpy as np
import pytest

import manyhot as mh
from manyhot import registry
from manyhot.core.estimates import mean_over
from manyhot.evaluate.report import write_report
from manyhot.evaluate.report.report_tables import ReportTables
from manyhot.report.text import Metric, metric, metrics_of


@pytest.fixture
def own_entries(monkeypatch):
    registry.names("metric")  # first: what a module registers while it is imported would be lost
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))


@pytest.mark.parametrize("name", registry.names("metric"))
def test_every_metric_registers_what_a_report_shows(name):
    about, shown = registry.get("metric", name).about, metric(name)
    assert shown.label == about["label"]
    assert 0 < len(shown.definition) <= 200
    assert shown.lower_is_better == (about["better"] == "lower")


def test_labels_are_told_apart():
    labels = [metric(name).label for name in registry.names("metric")]
    assert len(set(labels)) == len(labels)


def test_metrics_that_are_not_registered_are_described_by_the_results():
    metadata = {"mine": {"definition": "What mine is.", "better": "lower"}}
    plain = Metric("mine", "mine", "What mine is.", True, False, "mine", "mine", given_unit="")
    assert metric("mine", metadata) == plain
    assert metric("mine").definition == "No description; see the package that registers the metric."
    metadata["mine"] |= {"label": "Mine", "unit": "share"}
    assert metric("mine", metadata) == Metric("mine", "Mine", "What mine is.", True, True, "Mine", "Mine")


def test_what_a_metric_registers_counts_more_than_metadata_written_before():
    before = {"brier": {"definition": "Brier score.", "better": "lower", "unit": "share"}}
    assert metric("brier", before) == metric("brier")


def test_call_strings_keep_their_options():
    assert metric("precision@10").label == "Precision@10"
    assert metric("variable_topk(exact=True)").label == "Variable top-k (exact=True)"
    assert metric("coverage").text(3.25, 1) == "3.2"
    assert metric("top1").text(float("nan"), 2) == "–"


def reciprocal_cost(case):
    """Share of label sets without the second class.

    An invented number.

    Notes
    -----
    This is not shown.
    """
    return mean_over(~case.hit[:, 1], case.labels.scored)


def test_a_new_metric_is_named_in_its_own_file_alone(own_entries, tmp_path):
    """One decorator gives it a name, a unit and a direction: computed by default, in the report."""
    about = {"label": "Second cost", "better": "lower", "unit": "share", "default": True, "headline": True}
    registry.register("metric", "second_cost", **about)(reciprocal_cost)
    labels = [[0, 1], [2], [1], [0, 2]]
    models = {"good": np.array([[0, 1], [2, 0], [1, 0], [0, 2]]), "bad": np.array([[2, 0], [0, 1]] * 2)}
    judged = mh.evaluate(labels, models, resamples=0, reading=mh.Reading(n_classes=3, dataset="toy"))
    page = write_report(tmp_path, ReportTables(judged.results, {})).read_text("utf-8")
    assert (
        '<th scope="col" data-k="second_cost" title="Share of label sets without the second class. ' in page
    )
    assert '<span class="head">Second cost %</span>' in page
    assert '"key":"second_cost","label":"Second cost","unit":" %"' in page
    assert '"title":"Share of label sets without the second class. An invented number.","lower":true' in page
    assert '"value":[50.0,75.0]' in page
    assert "This is not shown" not in page


def test_results_name_a_metric_where_its_package_is_absent(own_entries, tmp_path):
    registry.register("metric", "second_cost", label="Second cost", better="lower", unit="")(reciprocal_cost)
    judged = mh.evaluate(np.eye(2, dtype=int), np.array([[0, 1], [0, 1]]), metrics=["second_cost"])
    del registry._entries["metric", "second_cost"]
    results = judged.as_results().table
    shown = metrics_of(results)("second_cost")
    assert (shown.label, shown.unit, shown.lower_is_better) == ("Second cost", "", True)
    page = write_report(tmp_path, ReportTables(results, {})).read_text("utf-8")
    assert '<span class="head">Second cost</span>' in page


def test_negative_values_have_a_minus_sign_on_pages_and_a_hyphen_on_terminals():
    """The first sentence of a page said -0.21, and its tables −0.21."""
    from manyhot.evaluate.pairwise import _value
    from manyhot.evaluate.report.datasets import MetricColumn, Value

    correlation = metric("entropy_correlation")
    assert correlation.text(-0.212, 2) == "−0.21"
    assert correlation.text(-0.001, 2) == "0.00"
    value = Value(-0.212, -0.3, -0.1, 50, 0)
    sentence = MetricColumn(correlation, True, 2, (value,)).in_full(value)
    assert sentence == "−0.21 (95 % interval −0.30 to −0.10, n 50)"
    assert _value(correlation, -0.212) == "-0.2120"
