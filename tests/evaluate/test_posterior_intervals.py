"""Results under the posterior of the label sets, compared with exact expectations."""

import re

import numpy as np
import pyarrow as pa
import pytest

from manyhot import evaluate
from manyhot.data.inputs import Reading
from manyhot.errors import InputError
from manyhot.evaluate.posterior import decided_lines
from manyhot.evaluate.report.report_tables import read_tables

N = 500


def data(seed=0):
    rng = np.random.default_rng(seed)
    p = rng.beta(0.3, 0.3, (N, 4))
    good = (p + rng.normal(0, 0.2, p.shape)).astype(np.float32)
    bad = rng.normal(size=p.shape).astype(np.float32)
    return p, {"good": good, "bad": bad, "again": good}


@pytest.fixture(scope="module")
def judged():
    p, models = data()
    reading = Reading(label_values="p")
    metrics = ["precision@1", "real1", "map_macro"]
    return evaluate(p, models, metrics=metrics, posterior=200, resamples=600, reading=reading)


def rows(evaluation, table, **where):
    found = evaluation.posterior[table].to_pylist()
    return [r for r in found if all(r[k] == v for k, v in where.items())]


def test_the_value_is_the_expectation(judged):
    p, models = data()
    best = models["good"].argmax(1)
    # Given that the drawn set is not empty; the classes are independent.
    empty = np.prod(1 - p, axis=1)
    expected = p[np.arange(N), best].sum() / (1 - empty).sum()
    (row,) = rows(judged, "posterior", model="good", metric="real1")
    assert row["value"] == pytest.approx(expected, abs=0.003)
    assert row["fixed"] == judged.value("real1", model="good")
    assert (row["draws"], row["n"]) == (200, pytest.approx((1 - empty).sum(), abs=3))


def test_intervals_contain_one_another(judged):
    for row in rows(judged, "posterior"):
        assert row["lo"] < row["value"] < row["hi"]
        if row["metric"] == "real1":
            assert row["hi"] - row["lo"] > row["hi_raters"] - row["lo_raters"] > 0
    (row,) = rows(judged, "posterior", model="good", metric="real1")
    p, models = data()
    best = p[np.arange(N), models["good"].argmax(1)]
    spread = np.sqrt((best * (1 - best)).sum()) / N
    assert (row["hi_raters"] - row["lo_raters"]) / 3.92 == pytest.approx(spread, rel=0.25)


def test_orders_of_models(judged):
    (row,) = rows(judged, "posterior_pairs", model_a="good", model_b="bad", metric="real1")
    assert (row["above"], row["above_raters"]) == (0, 0)
    assert row["decided"]
    assert row["decided_fixed"]
    assert row["lo"] < row["difference"] < row["hi"] < 0
    (row,) = rows(judged, "posterior_pairs", model_a="good", model_b="again", metric="real1")
    assert (row["above"], row["difference"], row["decided"]) == (0.5, 0, False)
    (line,) = [line for line in judged.lines() if "pairs of models with a clear difference in ReaL" in line]
    assert ": 2 of 3 on the label sets themselves, and 2 of these under the posterior" in line


def test_metrics_with_the_same_pairs_share_a_line_and_undefined_ones_have_none():
    pair = {"dataset": "d", "decided": True, "decided_fixed": True, "difference": 0.1}
    rows = [pair | {"metric": metric} for metric in ("real1", "variable_topk", "mla")]
    rows[2]["difference"] = float("nan")
    lines = list(decided_lines({"posterior_pairs": pa.Table.from_pylist(rows)}))
    assert lines == [
        "d, pairs of models with a clear difference in ReaL, Variable top-k: 1 of 1 on the label sets "
        "themselves, and 1 of "
        "these under the posterior of the label sets as well"
    ]


def test_labels_without_probabilities():
    with pytest.raises(InputError) as error:
        evaluate([[0], [1]], np.eye(2, dtype=np.float32), posterior=5)
    assert str(error.value) == (
        "The labels have no probabilities from which label sets can be drawn.\n"
        "  where:   labels\n"
        "  allowed: labels with the column p, from votes or counts of votes\n"
        "  do:      leave out `posterior`, or aggregate the votes: manyhot aggregate DATASET"
    )


def test_tables_are_written(judged, tmp_path):
    names = {path.name for path in judged.write(tmp_path)}
    assert {"posterior.parquet", "posterior_pairs.parquet"} <= names


def test_the_report_has_a_part(judged, tmp_path):
    judged.write(tmp_path)
    page = (tmp_path / "report" / "index.html").read_text()
    (row,) = rows(judged, "posterior", model="good", metric="real1")
    shown, lo, hi, lo_raters, hi_raters, fixed = (
        f"{100 * row[c]:.2f}" for c in ("value", "lo", "hi", "lo_raters", "hi_raters", "fixed")
    )
    assert ", pairs of models with a clear difference in ReaL" in page
    assert ": 2 of 3 on the label sets themselves, and 2 of these" in page
    for cell in (f"{fixed} %", f"{shown} % ({lo} to {hi})", f"{lo_raters} to {hi_raters}"):
        assert re.search(rf"<td[^>]*>{re.escape(cell)}</td>", page), cell
    found = read_tables(tmp_path)
    assert found["posterior"].equals(judged.posterior["posterior"])
    # A later run without draws leaves none of an earlier one.
    p, models = data()
    evaluate(p, models, metrics=["real1"], reading=Reading(label_values="p")).write(tmp_path)
    assert not (tmp_path / "posterior.parquet").exists()
    assert "What raters leave open" not in (tmp_path / "report" / "index.html").read_text()


def test_the_part_about_one_model(tmp_path):
    p, models = data()
    reading = Reading(label_values="p", dataset="made up")
    found = evaluate(p, {"good": models["good"]}, metrics=["real1"], posterior=20, reading=reading)
    found.write(tmp_path)
    (row,) = found.posterior["posterior"].to_pylist()
    value, lo, hi, fixed = (f"{100 * row[c]:.2f}" for c in ("value", "lo", "hi", "fixed"))
    assert (
        f"made up: ReaL of good is {value} % ({lo} to {hi}) under the posterior of the label sets, and "
        f"{fixed} % on the label sets themselves (n {row['n']:,})."
    ) in (tmp_path / "report" / "index.html").read_text()
    printed = list(found.lines())
    title = printed.index("made up: values under the posterior of the label sets, 20 draws")
    assert (
        printed[title + 2].split()
        == (
            f"good real1 {fixed} % {value} % ({lo} to {hi}) {100 * row['lo_raters']:.2f} to "
            f"{100 * row['hi_raters']:.2f} {row['n']:,}"
        ).split()
    )
