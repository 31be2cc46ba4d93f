"""The sentences of the overview, whole, in every case that they must stay true in."""

import math

import pytest

from manyhot.evaluate.report import build_report
from manyhot.evaluate.report.report_tables import ReportTables
from report_pages import MODELS, drop, fit, number, pairs_table, rank, results_table, rows_of, some_rows

SHIFT = "From val (1,000 images) to v2 (400), Top-1 with original labels"
OBJECTS = {"dataset_y": "val", "slice_x": "annotation=*", "slice_y": "n_objects>=2", "n_x": 1000, "n_y": 216}


def found(results=None, pairs=None, **tables):
    results = results_table(some_rows()) if results is None else results
    given = {name: rows_of(name, *rows) for name, rows in tables.items()}
    given |= {} if pairs is None else {"pairs": pairs}
    return build_report(ReportTables(results, given)).findings


def first(kind, **tables):
    (finding, *_) = found(**tables)
    assert finding.kind == kind
    return finding.figure, finding.sentence


def each(*drops, **other):
    return [drop(d, model=f"m{i}", **other) for i, d in enumerate(drops)]


def test_the_effect_of_several_objects():
    mean = drop(0.107, 0.093, 0.121, lo_models=0.104, hi_models=0.11, **OBJECTS)
    assert first("objects", drops=[mean, *each(0.1, 0.11, 0.12, **OBJECTS)]) == (
        "−10.7 points",
        "From the 1,000 images of val with any annotation to the 216 with two or more objects, Top-1 "
        "with original labels falls by 10.7 points on average over 3 models, and for each of them (95 % "
        "interval 9.3 to 12.1 over images, 10.4 to 11.0 over families of models).",
    )


def test_objects_come_before_labels_and_two_or_more_before_the_others():
    rows = [
        drop(0.2, **{**OBJECTS, "slice_y": "n_labels>=2"}),
        drop(-0.01, **{**OBJECTS, "slice_y": "n_objects=1"}),
        drop(0.1, **{**OBJECTS, "slice_x": "all"}),
    ]
    assert first("objects", drops=rows)[1] == (
        "From all 1,000 images of val to the 216 with two or more objects, Top-1 with original labels "
        "falls by 10.0 points on average over 3 models (no interval)."
    )


@pytest.mark.parametrize(
    ("rows", "figure", "said"),
    [
        (
            [drop(0.1, 0.09, 0.11), *each(0.1, 0.2, -0.01)],
            "−10.0 points",
            "falls by 10.0 points on average over 3 models, and for 2 of them (95 % interval 9.0 to 11.0 "
            "over images; none over families of models).",
        ),
        (
            [drop(0.1, 0.09, 0.11), *each(0.1, 0.2)],
            "−10.0 points",
            "falls by 10.0 points on average over 3 models (95 % interval 9.0 to 11.0 over images; none over "
            "families of models).",
        ),
        (
            [drop(-0.02, -0.03, -0.01), *each(-0.01, -0.02, -0.03)],
            "+2.0 points",
            "rises by 2.0 points on average over 3 models, and for each of them (95 % interval 1.0 to "
            "3.0 over images; none over families of models).",
        ),
        (
            [drop(0.002, -0.01, 0.014)],
            "−0.20 points",
            "does not change beyond noise: it falls by 0.20 points on average over 3 models (95 % "
            "interval −1.00 to 1.40 over images; none over families of models).",
        ),
        (
            [drop(0.05, 0.04, 0.06, lo_models=-0.01, hi_models=0.1)],
            "−5.0 points",
            "does not change beyond noise: it falls by 5.0 points on average over 3 models (95 % "
            "interval 4.0 to 6.0 over images, −1.0 to 10.0 over families of models).",
        ),
        ([drop(0.0)], "0.00 points", "stays the same on average over 3 models (no interval)."),
        (
            [drop(0.1, math.nan, math.nan, n_models=1), drop(0.1, model="only")],
            "−10.0 points",
            "falls by 10.0 points for only (no interval).",
        ),
        ([drop(0.01, n_models=1)], "−1.0 points", "falls by 1.0 point for the one model (no interval)."),
    ],
)
def test_a_shift_by_one_metric(rows, figure, said):
    assert first("shift", drops=rows) == (figure, f"{SHIFT} {said}")


def test_a_shift_by_one_label_and_on_label_sets_comes_with_the_warning():
    real = {"metric_x": "real1", "metric_y": "real1", "n_x": 960, "n_y": 390}
    (finding, *_) = found(drops=[drop(0.06, 0.05, 0.07, **real), drop(0.1, 0.09, 0.11)])
    assert finding.sentence == (
        f"{SHIFT} falls by 10.0 points on average over 3 models (95 % interval 9.0 to 11.0 over images; "
        "none over families of models). ReaL, computed on label sets (960 and 390 images), falls by 6.0 "
        "points (95 % interval 5.0 to 7.0 over images; none over families of models)."
    )
    assert finding.caution == (
        "Set sizes found under different protocols are not the same quantity, and neither are accuracies "
        "on them."
    )
    assert (finding.section, finding.where) == ("shift", "Shift between data sets")


def test_on_label_sets_over_fewer_models_says_over_how_many():
    real = {"metric_x": "real1", "metric_y": "real1", "n_models": 2}
    (finding, *_) = found(drops=[drop(0.1), drop(-0.03, **real)])
    assert (
        ". ReaL, computed on label sets (1,000 and 400 images), rises by 3.0 points on average over 2 "
        "models (no" in (finding.sentence)
    )


def test_a_metric_where_less_is_better_and_that_is_no_share():
    row = drop(-1.5, -1.75, -1.25, metric_x="coverage", metric_y="coverage")
    assert first("shift", drops=[row]) == (
        "+1.500",
        "From val (1,000 images) to v2 (400), Coverage error rises by 1.500 on average over 3 models (95 % "
        "interval 1.250 to 1.750 over images; none over families of models).",
    )


def test_of_several_shifts_the_one_judged_both_ways_then_the_first():
    other = {"dataset_y": "sketch"}
    rows = [drop(0.3, **other), drop(0.1), drop(0.2, metric_x="real1", metric_y="real1", **other)]
    assert "to sketch (400)" in first("shift", drops=rows)[1]
    results = results_table([*some_rows("val"), *some_rows("sketch"), *some_rows("v2")])
    assert "to sketch (400)" in first("shift", results=results, drops=[drop(0.1), drop(0.3, **other)])[1]


def test_what_is_undefined_is_no_finding():
    rows = {"drops": [drop(math.nan)], "fits": [fit(math.nan)], "ranks": [rank(math.nan, 0)]}
    assert {f.kind for f in found(**rows)} == {"best"}


def test_saturation():
    assert first(
        "saturation", fits=[fit(0.81, 0.77, 0.85, n=1556), fit(0.39, 0.3, 0.5, "x>=0.85", n=271)]
    ) == (
        "0.39 points",
        "On val, a point of Top-1 goes with 0.81 points (95 % interval 0.77 to 0.85 over families of "
        "models) of ReaL over all 1,556 models, and with 0.39 points (95 % interval 0.30 to 0.50 over "
        "families of models) among the 271 at 85 % and more.",
    )


def test_saturation_that_may_be_complete():
    fits = [fit(0.8, 0.7, 0.9), fit(0.1, -0.1, 0.3, "x>=0.85", n=9)]
    assert first("saturation", fits=fits)[1] == (
        "On val, a point of Top-1 goes with 0.80 points (95 % interval 0.70 to 0.90 over families of "
        "models) of ReaL over all 5 models, and with 0.10 points (95 % interval −0.10 to 0.30 over "
        "families of models) among the 9 at 85 % and more, which may be none."
    )


def test_a_slope_without_an_interval_is_no_finding():
    assert "saturation" not in [f.kind for f in found(fits=[fit(0.8, n_families=1)])]


@pytest.mark.parametrize(
    ("row", "swapped", "between"),
    [
        (
            rank(0.95, 60, 3, lo=0.9, hi=0.97, lo_models=0.85, hi_models=0.99),
            "60 of 10 pairs change order, 3 of them beyond noise",
            "(95 % interval 0.90 to 0.97 over images, 0.85 to 0.99 over families of models).",
        ),
        (rank(0.95, 1, 0), "1 of 10 pairs changes order, none of them beyond noise", "(no interval)."),
        (rank(0.95, 2), "2 of 10 pairs change order; whether beyond noise was not tested", "(no interval)."),
        (rank(0.95, 0), "None of 10 pairs changes order", "(no interval)."),
    ],
)
def test_ranks(row, swapped, between):
    middle = "Kendall's tau between the orders of 5 models by Top-1 and by ReaL on val is 0.95"
    assert first("ranks", ranks=[row])[1] == f"{swapped}. {middle} {between}"


def test_ranks_on_two_data_sets():
    row = rank(-0.5, 4, dataset_y="v2", metric_y="top1", lo_models=-0.8, hi_models=0.1)
    assert first("ranks", ranks=[row])[1] == (
        "4 of 10 pairs change order; whether beyond noise was not tested. Kendall's tau between the orders "
        "of 5 models by Top-1 on val and by Top-1 on v2 is −0.50 (95 % interval −0.80 to 0.10 over families "
        "of models; none over images)."
    )


def test_data_sets_are_called_what_people_call_them():
    row = drop(0.1, dataset_x="imagenet-val", dataset_y="imagenetv2-matched-frequency")
    (finding, *_) = found(drops=[row])
    assert finding.about == "Top-1 from ImageNet validation to ImageNetV2"
    assert finding.sentence.startswith("From ImageNet validation (1,000 images) to ImageNetV2 (400), Top-1")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("a", "b"), "2 models"),
        (("a@224", "a@288", "b@288"), "3 models, counted at each image size (2 otherwise),"),
        (("a@224",), "1 model, counted at each image size (1 otherwise),"),
        (("a@224", "b"), "2 models"),
    ],
)
def test_a_model_may_be_counted_at_each_image_size(names, said):
    rows = [number("val", m, "top1", "all", 0.5, 100) for m in names]
    rows.append(number("v2", "only here", "top1", "all", 0.5, 100))
    assert build_report(ReportTables(results_table(rows), {})).lead == f"{said} evaluated"


def test_the_share_of_errors_that_are_none():
    rows = [number("val", m, "valid_errors", "all", 0.2 + 0.1 * i, 300) for i, m in enumerate(MODELS[:3])]
    assert first("errors", results=results_table([*some_rows(), *rows])) == (
        "20–40 %",
        "On val, the share of Top-1 errors in which the top class is in the label set ranges from 20.0 % "
        "(95 % interval 19.0 to 21.0, n 300) for timm/resnet50 to 40.0 % (95 % interval 39.0 to 41.0, n "
        "300) for vgg16, among 3 models.",
    )
    one = [number("val", "a", "valid_errors", "all", 0.25, 300, half=None)]
    assert first("errors", results=results_table(one)) == (
        "25 %",
        "For a on val, the top class is in the label set in 25.0 % (n 300) of the Top-1 errors.",
    )


def best(*values, pairs=None, **options):
    rows = [number("val", f"m{i}", "top1", "all", v, 100, **options) for i, v in enumerate(values)]
    return first("best", results=results_table(rows), pairs=pairs)


def test_the_best_model():
    told = "m0 is best of 3 models by Top-1 on val: 70.0 % (95 % interval 69.0 to 71.0, n 100); "
    untested = "whether other models differ from it beyond noise was not tested."
    assert best(0.7, 0.6, 0.5) == ("70.0 %", told + untested)
    names = ("m0", "m1", "m2")
    one = pairs_table("val", names, ("top1",))
    assert best(0.7, 0.6, 0.5, pairs=one)[1] == told + "beyond noise, it does not differ from m1."
    none = pairs_table("val", names, ("top1",), p=lambda i, j: 0.001)
    assert best(0.7, 0.6, 0.5, pairs=none)[1] == told + "every other model differs from it beyond noise."
    some = pairs_table("val", names, ("top1",), p=lambda i, j: None if j == 2 else 0.001)
    assert best(0.7, 0.6, 0.5, pairs=some)[1] == (
        told + "1 of 2 other models differs from it beyond noise, and m2 was not compared with it."
    )
    unknown = pairs_table("val", names, ("top1",), p=lambda i, j: None)
    assert best(0.7, 0.6, 0.5, pairs=unknown)[1] == told + untested


def test_the_best_of_equals_and_the_only_one():
    assert best(0.7, 0.7, 0.5, half=None)[1] == (
        "m0 and m1 are best of 3 models by Top-1 on val: 70.0 % (n 100); whether other models differ from "
        "m0 beyond noise was not tested."
    )
    assert best(0.7, math.nan)[1] == (
        "m0 is the only model with a value: 70.0 % (95 % interval 69.0 to 71.0, n 100) by Top-1 on val."
    )


def test_the_best_where_less_is_better():
    rows = [
        number("val", f"m{i}", "ranking_loss", "all", v, 100, half=None)
        for i, v in enumerate((0.3, 0.1, 0.2))
    ]
    assert first("best", results=results_table(rows))[1].startswith(
        "m1 is best of 3 models by Ranking loss on val: 10.0 %"
    )


def two(a, b, *, metric="top1", pairs=None, call=""):
    rows = [number("val", m, metric, "all", v, 100) for m, v in (("a", a), ("b", b))]
    tables = {} if pairs is None else {"pairs": pairs}
    return build_report(ReportTables(results_table(rows), tables), call=call)


def pair(a, b, difference, p):
    row = {"dataset": "val", "metric": "top1", "slice": "all", "model_a": a, "model_b": b, "n": 100}
    ends = {
        "difference": difference,
        "lo": difference - 0.05,
        "hi": difference + 0.05,
        "p": p,
        "p_adjusted": p,
    }
    return rows_of("pairs", row | ends)


def test_the_second_of_two_models_is_compared_with_the_first():
    """The sentence is that of the terminal; see tests/evaluate/test_compare_models.py."""
    size = "10.00 points of Top-1 (95 % interval 5.00 to 15.00, p < 0.001, n 100)"
    (verdict,) = two(0.6, 0.7, pairs=pair("a", "b", -0.1, 0.0004)).two_models
    assert verdict.sentence == f"b is better than a by {size}."
    heads = ["Metric", "a", "b", "Difference", "95 % interval", "p", "n"]
    assert [head.text for head in verdict.table.heads] == heads
    cells = ("Top-1", "60.00 %", "70.00 %", "+10.00", "5.00 to 15.00", "<0.001", "100")
    assert [row.cells for row in verdict.table.rows] == [cells]
    (verdict,) = two(0.7, 0.6, pairs=pair("a", "b", 0.1, 0.0004)).two_models
    assert verdict.sentence == f"b is worse than a by {size}."
    assert verdict.table.rows[0].cells[1:4] == ("70.00 %", "60.00 %", "−10.00")


def test_two_models_that_do_not_differ_beyond_noise():
    (verdict,) = two(0.7, 0.68, pairs=pair("a", "b", 0.02, 0.43)).two_models
    assert verdict.sentence.startswith("No difference between a and b can be shown: ")
    assert verdict.table.rows[0].cells[3:] == ("−2.00", "−7.00 to 3.00", "0.430", "100")
    (verdict,) = two(0.7, 0.68).two_models
    assert verdict.sentence == "b has -2.00 points of Top-1 compared with a, without an interval (n 100)."
    assert verdict.table.rows[0].cells[3:] == ("−2.00", "–", "–", "100")


def test_two_models_have_no_ranks():
    rows = [number("val", m, "top1", "all", v, 100) for m, v in (("a", 0.7), ("b", 0.6))]
    report = build_report(ReportTables(results_table(rows), {"ranks": rows_of("ranks", rank(1.0, 0))}))
    assert report.title == "a and b"
    rows = [number("val", m, "top1", "all", v, 100) for m, v in (("b", 0.6), ("a", 0.7))]
    assert build_report(ReportTables(results_table(rows), {})).title == "b and a", "as passed"
    assert report.findings == ()
    assert [s.anchor for s in report.sections] == ["models"]


def test_one_of_two_models_without_a_value_is_no_comparison():
    report = two(0.7, math.nan)
    assert report.two_models == ()
    assert [f.kind for f in report.findings] == ["best"]


def test_a_comparison_has_its_own_title_and_begins_with_what_is_compared():
    rows = [number(d, m, "top1", "all", 0.5, 100) for d in ("val", "v2") for m in "abc"]
    tables = ReportTables(results_table(rows), {"drops": rows_of("drops", drop(0.1))})
    report = build_report(tables, call="manyhot compare results --out out")
    assert report.title == "How accuracy changes between data sets"
    assert report.lead == "The results of 3 models compared"
    assert [s.anchor for s in report.sections] == ["shift", "models"]
    report = build_report(tables, call="manyhot evaluate imagenet")
    assert report.title == "Models evaluated on label sets"
    assert [s.anchor for s in report.sections] == ["models", "shift"]


def test_nothing_is_defined():
    assert found(results=results_table([number("val", "m", "real1", "all", math.nan, 0, 7)])) == ()


def test_three_findings_in_order_of_importance():
    rows = {
        "drops": [drop(0.1), drop(0.1, **OBJECTS)],
        "fits": [fit(0.8, 0.7, 0.9)],
        "ranks": [rank(0.9, 1)],
    }
    assert [f.kind for f in found(**rows)] == ["objects", "shift", "ranks"]
    rows["fits"].append(fit(0.4, 0.3, 0.5, "x>=0.85"))
    assert [f.kind for f in found(**rows)] == ["objects", "shift", "saturation"]


def test_a_large_number_that_may_be_none_says_so():
    real = {"metric_x": "real1", "metric_y": "real1"}
    (finding, *_) = found(drops=[drop(0.1, 0.09, 0.11), drop(0.01, -0.01, 0.03, **real)])
    assert finding.about == "Top-1 from val to v2; −1.0 points by ReaL (not beyond noise)"
    (finding, *_) = found(drops=[drop(0.01, -0.01, 0.03, **OBJECTS)])
    assert finding.about == "Top-1 on images with two or more objects (not beyond noise)"
