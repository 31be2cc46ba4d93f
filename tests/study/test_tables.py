"""Tables and pages of studies: effects by scipy, verdicts in words, the page as it is read."""

import csv
import html
import re

import altair as alt
import numpy as np
import pytest
from scipy import stats

import toys
from manyhot import tables
from manyhot.core.model_pairs import holm
from manyhot.report import text as drawn
from manyhot.report.prerender import draw_panels
from manyhot.study import Measurement, RunMeasure, StudyMetric
from manyhot.study.claims import difference, effects_table, evidence, fixed_sentence, format_value, p_value
from manyhot.study.effect_figures import draw_effects, draw_seeds
from manyhot.study.plan import RunMeasurement
from manyhot.study.study import keep_answer
from manyhot.study.tables import Measurements
from toys import claim, study

POINTS, PLAIN = StudyMetric("map", "mAP", percent=True), StudyMetric("nll", "NLL", "lower")


def plain(run):
    """Return numbers without resamples, and an error that is less where the number is more."""
    value = toys.take(run)[0].value
    return [Measurement("map", value, 40), Measurement("nll", 2 - value, 40)]


def without_resamples(**given):
    return study(measures=(RunMeasure("judged", "Judged.", plain, (toys.METRIC, PLAIN)),), **given)


def values(answer, metric, arm, data_set):
    rows = tables.read(answer.written[0], "runs").to_pylist()
    return np.array(
        [r["value"] for r in rows if (r["metric"], r["arm"], r["dataset"]) == (metric, arm, data_set)]
    )


def test_without_resamples_an_effect_is_a_paired_t_test(given, trainer):
    answer, _ = given(without_resamples(claims=(claim(data_sets=("voc",)),)))
    pooled, single = answer.effects.to_pylist()
    a, b = (values(answer, "map", arm, "voc") for arm in ("sets", "label"))
    wanted = stats.ttest_rel(a, b)
    assert (pooled["value"], pooled["value_against"]) == pytest.approx((a.mean(), b.mean()))
    assert pooled["p"] == pooled["p_adjusted"] == single["p"] == pytest.approx(wanted.pvalue)
    assert (single["lo"], single["hi"]) == pytest.approx(tuple(wanted.confidence_interval(0.95)))
    assert (pooled["dataset"], single["dataset"], single["p_adjusted"]) == (None, "voc", None)
    assert (pooled["n_seeds"], pooled["n_pairs"], pooled["wins"], pooled["df"]) == (3, 1, 1, pytest.approx(2))


def test_less_is_better_where_the_metric_says_so(given, trainer):
    claims = (claim(metric="map"), claim(name="nll", metric="nll"))
    answer, _ = given(without_resamples(claims=claims))
    more, less = (r for r in answer.effects.to_pylist() if r["dataset"] is None)
    assert (less["effect"], less["lo"], less["p"]) == pytest.approx((more["effect"], more["lo"], more["p"]))
    assert (less["verdict"], less["value"] < less["value_against"]) == ("better", True)
    assert re.search(
        r"NLL \S+ against \S+: −0\.\d+, 95 % interval −0\.\d+ to −0\.\d+, lower is better",
        answer.sentences[1],
    )


def test_resamples_of_images_widen_the_interval_of_means(given, trainer):
    answer, _ = given(study(claims=(claim(),)))
    mean = next(r for r in tables.read(answer.written[2], "means").to_pylist() if r["arm"] == "sets")
    value = values(answer, "map", "sets", "voc")[::2]
    lo = value.mean() - stats.t(2).ppf(0.975) * stats.sem(value)
    assert mean["lo"] < lo
    # The draws of a data set are the same for both arms, and nothing of them is left in the difference.
    assert max(r["error_images"] for r in answer.effects.to_pylist()) < 1e-12


def test_claims_on_two_metrics_and_on_a_number(given, trainer):
    half = claim(name="half", arm="label", against="", than=0.5, margin=0.02)
    same = claim(name="same", arm="label", against="", than="map", margin=0.02)
    across = claim(name="across", metric="share", arm="all", against="", than=0.5)
    answer, _ = given(study(claims=(half, same, across)))
    rows = {r["claim"]: r for r in answer.effects.to_pylist() if r["dataset"] is None}
    assert (rows["half"]["value_against"], rows["half"]["against"]) == (0.5, "0.5")
    assert rows["half"]["error_images"] > 0
    assert (rows["same"]["effect"], rows["same"]["verdict"]) == (0, "undecided")
    assert "0.0 points, no interval, as nothing varies; margin 2.0 points" in answer.sentences[1]
    # Six numbers of three arms are there at each seed.
    assert (rows["across"]["value"], rows["across"]["verdict"]) == (pytest.approx(0.061), "worse")
    assert "better in 0 of 2 data sets" in answer.sentences[2]


LITTLE = ", perhaps by less than matters"


def rows_of(mean, *single, **given):
    """Return the row over all pairs, and one of each pair."""
    row = {"lo": 0.0, "hi": 0.2, "error_seeds": 0.1, "p_adjusted": None, "q": None, "q_p": None}
    row |= {"value": 0.5, "value_against": 0.4, "effect": 0.1, **given}
    return [{**row, "verdict": v, "effect": 0.1 * (-1) ** i} for i, v in enumerate((mean, *single))]


@pytest.mark.parametrize(
    ("single", "told"),
    [
        (("undecided", "better", "worse"), "1 of 3 {} (−10.0, +10.0, −10.0), {}: 1 better, 1 worse"),
        (("undecided", "worse" + LITTLE), "1 of 2 {} (−10.0, +10.0), {}: 0 better, 1 worse"),
        (("better" + LITTLE, "better"), "1 of 2 {} (−10.0, +10.0), {}: 2 better, 0 worse"),
    ],
)
def test_every_pair_is_told_with_what_it_decides_by_itself(single, told):
    said = evidence(claim(), rows_of("undecided", *single), {"map": POINTS}, 1)
    told = told.format("pairs of data set and network", "each by itself")
    assert said.endswith(f"; better in {told}")


def test_pairs_that_differ_are_told():
    rows = rows_of("better", "better", "undecided", q=7.25, q_p=0.012)
    assert evidence(claim(), rows, {"map": POINTS}, 1).endswith(
        "1 better, 0 worse; these differ (Cochran's Q 7.2, p = 0.012)"
    )
    assert "Cochran" not in evidence(
        claim(), rows_of("better", "better", "same", q=1.0, q_p=0.3), {"map": POINTS}, 1
    )


def test_what_holms_correction_leaves_undecided_is_marked():
    def told(lo, main=True):
        rows = rows_of("undecided", "undecided", lo=lo, p_adjusted=0.07)
        return evidence(claim(main=main), rows, {"map": POINTS}, 4).rpartition("; ")[2]

    mark = ", so that the claim is undecided although the interval excludes 0"
    assert told(-0.1) == "p = 0.07, adjusted for 4 main claims"
    assert told(0.01) == "p = 0.07, adjusted for 4 main claims" + mark
    assert told(0.01, main=False) == "p = 0.07, adjusted for 4 claims" + mark


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        ("better", "Sets help."),
        ("worse" + LITTLE, "Sets harm, perhaps by less than matters."),
        ("same", "Sets make no difference."),
        ("goes both ways", "Goes both ways: sets against label in mAP."),
        ("undecided", "Undecided: sets against label in mAP."),
        ("not run", "Not run: sets against label in mAP."),
    ],
)
def test_the_sentence_of_each_verdict(verdict, said):
    assert fixed_sentence(claim(), {"verdict": verdict}, {"map": POINTS}) == said


def test_main_claims_are_adjusted_among_themselves(given, trainer):
    """Holm's p: of a main claim over the main claims, of a further one over all."""
    claims = [claim(name=f"{i}", main=i < 2, than=0.49 + i / 200, against="") for i in range(4)]
    answer, _ = given(study(claims=tuple(claims)))
    rows = [r for r in answer.effects.to_pylist() if r["dataset"] is None]
    p = [r["p"] for r in rows]
    assert [r["p_adjusted"] for r in rows[:2]] == pytest.approx(list(holm(np.array(p[:2]))))
    assert [r["p_adjusted"] for r in rows[2:]] == pytest.approx(list(holm(np.array(p))[2:]))
    assert "adjusted for 2 main claims" in answer.sentences[0]
    assert "adjusted for 4 claims" in answer.sentences[3]


def values_of(runs):
    """Return the values of the table ``runs``, which has no resamples."""
    return Measurements(
        [
            (
                row["measure"],
                RunMeasurement(
                    row["dataset"],
                    row["network"],
                    row["arm"],
                    row["seed"],
                    Measurement(row["metric"], row["value"], row["n"], row["slice"]),
                ),
            )
            for row in runs.to_pylist()
        ]
    )


def test_effects_can_be_recomputed_from_the_values_and_the_table_of_variances(given, trainer):
    """Without a resample: all that they need is in `runs` and `differences`."""
    half = claim(name="half", arm="label", against="", than=0.5, margin=0.02)
    toy = study(claims=(claim(), half, claim(name="across", metric="share", arm="all", against="", than=0.5)))
    answer, _ = given(toy)
    differences, runs = (
        tables.read(answer.written[0].parent / f"{n}.parquet", n) for n in ("differences", "runs")
    )
    again = effects_table(toy, values_of(runs), differences)
    assert again.equals(answer.effects)
    rows = differences.to_pylist()
    assert [r["variance_images"] is None for r in rows] == [r["claim"] == "across" for r in rows]
    effects = {(r["claim"], r["dataset"]): r for r in answer.effects.to_pylist()}
    for row in rows:
        effect = effects[row["claim"], row["dataset"]]
        assert row["difference"] == pytest.approx(effect["effect"])
        assert row["variance_seeds"] == pytest.approx(effect["error_seeds"] ** 2)
        error = effect["error_images"]
        assert row["variance_images"] == (error if error is None else pytest.approx(error**2))
        # Two data sets of 50 resamples each, whose variances are alike: of their mean, the sum of 49 and 49.
        if row["claim"] == "half":
            assert row["df_images"] == pytest.approx(49 if row["dataset"] else 98, rel=0.1)


def test_a_variance_over_images_that_is_undefined_gives_no_interval(given, trainer):
    def take(run):
        return [Measurement("map", toys.take(run)[0].value, 40, replicates=np.full(9, np.nan))]

    answer, _ = given(study(measures=(RunMeasure("judged", "", take, (toys.METRIC,)),), claims=(claim(),)))
    assert [r["lo"] for r in answer.effects.to_pylist()] == [None] * 3


def test_a_verdict_that_may_be_smaller_than_the_margin_is_marked_in_its_name(given, trainer):
    answer, _ = given(study(claims=(claim(margin=0.046),)))
    assert answer.effects["verdict"][0].as_py() == "better" + LITTLE
    page = answer.page.read_text()
    assert re.findall(r'class="verdict (\S+)"><b>([^<]+)', page) == [("better", "Better, perhaps little")]
    assert "Sets help, perhaps by less than matters. " in re.sub("<[^>]+>", "", page)


def test_what_a_verdict_is_called(given, trainer):
    ranked = claim(
        name="across", metric="share", arm="all", against="", than=0.5, called=("More alike", "Different")
    )
    answer, _ = given(study(claims=(ranked, claim())))
    page = answer.page.read_text()
    assert re.findall(r'class="verdict (\S+)"><b>([^<]+)', page) == [
        ("told", "Different"),
        ("better", "Better"),
    ]
    assert "more alike in 0 of 2 data sets" in answer.sentences[0]
    assert re.search("<td[^>]*>different", page)


@pytest.mark.parametrize(
    ("gain", "margin", "said"),
    [
        (0.05, 0.01, "Sets help (mAP "),
        (-0.05, 0.01, "Sets harm (mAP "),
        (0.0, 0.5, "Sets make no difference (mAP "),
        (0.004, 1e-6, "Undecided: sets against label in mAP ("),
    ],
)
def test_the_sentence_is_that_of_the_rule(given, trainer, monkeypatch, gain, margin, said):
    monkeypatch.setitem(toys.GAIN, "sets", gain)
    answer, _ = given(without_resamples(claims=(claim(margin=margin),)))
    assert answer.sentences[0].startswith(said)
    assert ("; margin " in answer.sentences[0]) == (abs(gain) < 0.05)


def test_numbers_that_are_undefined_are_left_out(given, trainer):
    def some(run):
        return [Measurement("map", np.nan if run.seed == 1 else toys.take(run)[0].value, 40)]

    answer, _ = given(study(measures=(RunMeasure("judged", "", some, (toys.METRIC,)),), claims=(claim(),)))
    pooled = answer.effects.to_pylist()[0]
    assert (pooled["n_seeds"], pooled["n_pairs"]) == (4, 2)


def test_numbers_in_words():
    assert [format_value(POINTS, v) for v in (0.1234, -0.1234, 0.0, np.nan)] == ["12.3", "−12.3", "0.0", "–"]
    # An end of an interval that is not 0 is not shown as 0: the verdict hangs on its side.
    assert [format_value(POINTS, -0.00012), format_value(PLAIN, 0.0002), format_value(PLAIN, -1e-9)] == [
        "−0.01",
        "0.0002",
        "0.000",
    ]
    assert [difference(POINTS, 0.012), difference(PLAIN, -0.0123)] == ["+1.2 points", "−0.012"]
    assert [difference(POINTS, 1e-17), difference(POINTS, 0.0)] == ["0.0 points", "0.0 points"]
    assert [p_value(0.01234), p_value(0.0002)] == ["= 0.012", "< 0.001"]


def test_a_page_without_results_has_no_heading_of_results(given, trainer):
    def undefined(run):
        return [Measurement("map", np.nan, 0)]

    measures = (RunMeasure("judged", "Judged.", undefined, (toys.METRIC,)),)
    page = given(study(measures=measures))[0].page.read_text()
    assert 'href="#results"' not in page
    assert ">Results<" not in page
    page = given(study())[0].page.read_text()
    assert 'href="#results"' in page


def test_panels_of_seeds_are_in_rows(given, trainer):
    """Beside their text, six panels were a column of 250 pixels."""
    page = given(study())[0].page.read_text()
    assert page.index("main .fig.lone:not(#forest) { display: block; }") < page.index("</style>")


def test_the_page_tells_what_the_tables_hold_and_is_the_same_each_time(given, trainer, tmp_path):
    answer, _ = given(study(), call="manyhot study toy.py --out out")
    text = answer.page.read_text()
    said = html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", text)))
    for sentence in answer.sentences:
        start, evidence = sentence.rstrip(".").split(" (", 1)
        assert f"{start}. ({evidence}" in said
    mean = next(r for r in tables.read(answer.written[2], "means").to_pylist() if r["arm"] == "cleaned")
    assert f"{100 * mean['value']:.1f} ± {50 * (mean['hi'] - mean['lo']):.1f}" in said
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    for told in (
        "Do sets help?",
        "Nothing was trained.",
        "Training 18 networks took 0 s on ",
        "Seeds: 0, 1, 2.",
        "It is a toy.",
        "With 3 seeds, intervals are rough",
        "The rule. Differences are taken at equal seeds",
        "manyhot study toy.py --out out",
    ):
        assert told in said
    assert "<script" not in text
    assert "http" not in re.sub(r"http-equiv", "", text)
    assert len(text) < 300_000
    before = answer.page.read_bytes()
    assert given(study(), call="manyhot study toy.py --out out")[0].page.read_bytes() == before


def test_figures_are_what_altair_allows_and_fit_a_phone(given, trainer):
    answer, _ = given(study())
    found = {
        name: tables.read(path, name)
        for name, path in zip(("runs", "means", "effects"), answer.written[::2], strict=False)
    }
    metrics = {name: drawn.Metric(name, name, "") for name in ("map", "share")}
    figures = draw_effects(found["effects"], metrics)
    figures += draw_seeds(found["runs"], found["means"], ["map"], metrics)
    assert [f.name for f in figures] == ["forest", "seeds-voc-small", "seeds-cifar-small"]
    for figure in figures:
        alt.ConcatChart.validate(dict(figure.spec))
        for panel in draw_panels(figure):
            # A wider figure would be hard to read on a phone.
            assert float(re.match(r'<svg [^>]*?width="([\d.]+)"', panel)[1]) <= 490
    assert draw_effects(found["effects"].slice(0, 0), metrics) == []


def test_names_cannot_bend_the_page(given, trainer):
    text = given(study(title="<b>A & B", limits=("<script>alert(1)</script>",)))[0].page.read_text()
    assert "&lt;b&gt;A &amp; B" in text
    assert "<script" not in text


def test_an_answer_is_kept_as_csv_and_page(given, trainer, tmp_path):
    answer, _ = given(study())
    kept = keep_answer(answer, tmp_path / "out", tmp_path / "answers")
    assert [p.name for p in kept] == ["runs.csv", "means.csv", "effects.csv", "differences.csv", "index.html"]
    assert kept[0].parent == tmp_path / "answers/toy"
    rows = list(csv.DictReader(kept[2].read_text().splitlines()))
    assert [r["sentence"] for r in rows if r["sentence"]] == answer.sentences
    assert [float(r["effect"]) for r in rows] == answer.effects["effect"].to_pylist()
    assert kept[4].read_bytes() == answer.page.read_bytes()
