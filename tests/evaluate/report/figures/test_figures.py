"""Figures from small tables whose numbers are known."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import figure_tables as given
from manyhot.errors import MissingExtraError, OutputError
from manyhot.evaluate.report.report_tables import BESIDE, ReportTables
from manyhot.tables import schema

alt = pytest.importorskip("altair")
vl_convert = pytest.importorskip("vl_convert")

from manyhot.evaluate.report.figures import draw_figures  # noqa: E402
from manyhot.evaluate.report.figures.bars import strips  # noqa: E402
from manyhot.evaluate.report.figures.panel import (  # noqa: E402
    NAME_SIZE,
    Panel,
    compose,
    line_said,
)
from manyhot.evaluate.report.figures.scatter import plain_side, probit_side, scatter, shown, shown_both  # noqa: E402
from manyhot.report import prerender  # noqa: E402
from manyhot.report.export import save_figures  # noqa: E402
from manyhot.report.figure import SECTIONS  # noqa: E402
from manyhot.report.prerender import draw_panels, draw_whole, prepare  # noqa: E402
from manyhot.report.svg import lean, width  # noqa: E402

OWN = ("beta",)


@pytest.fixture(scope="module")
def figures():
    return draw_figures(given.everything(), own=OWN)


@pytest.fixture(scope="module")
def by_name(figures):
    return {figure.name: figure for figure in figures}


@pytest.fixture(scope="module")
def page(figures):
    return prepare(figures)


def rows(figure, name):
    return figure.spec["datasets"][name]


def row(figure, name, **wanted):
    (found,) = [r for r in rows(figure, name) if all(r.get(k) == v for k, v in wanted.items())]
    return found


def test_all_are_there_in_reading_order(figures):
    assert [f.name for f in figures] == [
        "set-sizes",
        "class-pairs",
        "set-size-accuracy-val",
        "objects-val",
        "set-size-accuracy-v2",
        "objects-v2",
        "shift-val-v2",
        "drops-val-v2",
        "robustness-val-v2",
        "sensitivity-val-v2",
        "saturation-val",
        "saturation-v2",
        "label-errors-val",
        "label-errors-v2",
        "parameters-val",
        "kinds-val",
        "rank-agreement",
        "rank-changes",
    ]
    places = [SECTIONS.index(f.section) for f in figures]
    assert places == sorted(places)


def test_every_figure_is_valid_and_told_in_words(figures):
    for figure in figures:
        alt.ConcatChart.validate(dict(figure.spec))  # as a whole, not once more at each level
        assert figure.title
        assert len(figure.caption) > 60
        assert len(figure.alt) > 10
        assert figure.data.num_rows


def test_nothing_is_clipped_and_what_lies_beyond_the_axes_is_not_drawn(figures):
    assert '"clip"' not in json.dumps([f.spec["concat"] for f in figures]), "clipping cuts marks in half"
    drawn = {"model": ["a", "b", "a"], "label": ["x", "x", "y"], "x": [1.0, 9.0, 2.0], "lo": [0.5, 8.0, 1.0]}
    side = plain_side(["x"], [1.0, 2.0], percent=False)
    panel = strips("s", drawn, {"label": ["x", "y"], "x": [1.0, 2.0]}, side)
    assert panel.sheets["s"]["model"] == ["a", "a"]
    assert panel.beyond == ("b",)
    assert compose([panel])["usermeta"]["beyond"] == ["b"], "the page says so of a pinned model"


def test_named_points_stay_readable_while_others_are_set_off(by_name):
    layers = by_name["robustness-val-v2"].spec["concat"][0]["layer"]
    names = [layer["mark"] for layer in layers if layer["mark"]["type"] == "text"]
    assert len(names) >= 3
    assert not any("busy" in json.dumps(mark.get("opacity", "")) for mark in names)


def test_figures_that_are_alone_in_their_row_are_known(page):
    """What has room beside it has no caption at its side; what is wider than 900 pixels, neither."""
    alone = {name for name, drawn in page.drawn.items() if drawn.lone}
    assert {"objects-val", "sensitivity-val-v2", "rank-agreement"} <= alone
    assert not {"set-sizes", "drops-val-v2", "label-errors-val"} & alone
    assert page.drawn["set-sizes"].width + page.drawn["class-pairs"].width < 1200, "they stand side by side"


def test_axes_are_titled_in_words_with_units(by_name):
    def titles(name):
        text = json.dumps(by_name[name].spec["concat"])
        return {part.split('"')[0] for part in text.split('"title": "')[1:]}

    assert titles("label-errors-val") == {
        "Top-1 accuracy, original labels (%)",
        "Errors that are in the label set (%)",
    }
    assert titles("saturation-val") == {
        "Top-1 accuracy, original labels (%)",
        "ReaL accuracy: top class in the label set (%)",
    }
    assert "On val (%)" in titles("shift-val-v2")
    assert titles("parameters-val") >= {"Parameters (millions)"}
    assert titles("drops-val-v2") == {"Points lost from val to v2"}


def test_set_sizes_are_the_tables(by_name):
    figure = by_name["set-sizes"]
    assert row(figure, "sizes-0", label="1") == {"label": "1", "value": 70.0, "text": "70.0 %", "images": 700}
    assert row(figure, "sizes-0", label="6 +")["images"] == 10, "the large sizes together"
    assert [r["label"] for r in rows(figure, "sizes-1")] == ["none", "1", "2", "3", "4", "5", "6 +"]
    assert re.findall(r"[\d.]+ %", figure.alt) == ["25.0 %", "49.0 %"], "two or more of 1,000 images"
    assert "25.0 % in val and 49.0 % in v2" in figure.alt


def test_most_frequent_pairs(by_name):
    found = rows(by_name["class-pairs"], "pairs-0")
    assert len(found) == 8
    assert found[0] == {
        "label": "class 0 + other 0",
        "value": 100,
        "text": "100",
        "images_a": 200,
        "images_b": 150,
    }


@pytest.fixture(scope="module")
def unfitted():
    """Return the figures of models through which no line was fitted."""
    drawn = draw_figures(given.everything(fits=schema("fits").empty_table()), own=OWN)
    return {figure.name: figure for figure in drawn}


def test_scatter_is_the_results(unfitted):
    found = row(unfitted["models-val"], "models", model="beta")
    assert (found["x"], found["y"]) == (68.7, 76.7)
    assert (found["x_lo"], found["x_hi"], found["y_lo"], found["y_hi"]) == (67.7, 69.7, 75.7, 77.7)
    assert unfitted["models-val"].alt.startswith("5 of 5 models have a higher accuracy under label sets")


def test_points_are_drawn_once(by_name, unfitted):
    """Where a line is fitted, the figure with the line has the same points."""
    assert {"models-val", "models-v2"} <= set(unfitted)
    assert not {"models-val", "models-v2"} & set(by_name)
    assert {"saturation-val", "saturation-v2"} <= set(by_name)


def test_two_models_have_no_lines_ranks_or_kinds():
    two = given.MODELS[:2]
    drawn = draw_figures(given.everything(results=given.results(two), drops=given.drops(two)))
    sections = {figure.section for figure in drawn}
    assert sections == {"labels", "groups", "shift"}
    names = {figure.name for figure in drawn}
    assert not {name for name in names if name.startswith(("shift-", "robustness-"))}
    (sizes,) = [f for f in drawn if f.name == "set-size-accuracy-val"]
    assert {r["model"] for r in rows(sizes, "top1-own")} == set(two), "both are named"
    assert "top1-middle" not in sizes.spec["datasets"], "two models have no median"


def test_names_of_models_are_no_kinds():
    """Families of one model each are file names."""
    alone = given.models().set_column(
        given.models().column_names.index("family"), "family", pa.array(given.MODELS, pa.string())
    )
    drawn = {f.name: f for f in draw_figures(given.everything(models=alone))}
    titles = [panel["title"] for panel in drawn["kinds-val"].spec["concat"]]
    assert titles == ["By the data seen before ImageNet", "By image size (pixels a side)"]


def test_own_models_are_set_off(by_name):
    for name in ("saturation-val", "shift-val-v2", "set-size-accuracy-val", "rank-changes", "kinds-val"):
        params = {p["name"]: p["value"] for p in by_name[name].spec["params"]}
        assert params["own"] == {"beta": 1}
    assert [r["model"] for r in rows(by_name["saturation-val"], "saturation-0-own")] == ["beta"]


def test_accuracy_by_set_size(by_name):
    figure = by_name["set-size-accuracy-val"]
    assert len(figure.spec["concat"]) == 2, "two data sets stand side by side"
    assert row(figure, "top1", model="alpha", step="1|250")["y"] == 65.0
    assert row(figure, "top1", model="alpha", step="4 or more|250")["y"] == 50.0
    assert row(figure, "top1-middle", step="1|250")["y"] == pytest.approx(62.4), "the median of five"


def test_several_objects(by_name):
    figure = by_name["objects-val"]
    assert row(figure, "objects", model="alpha", step="Two or more|250")["y"] == 60.0
    assert (
        "10.0 points lower on average (95 % interval 9.0 to 11.0 over images, 8.0 to 12.0 over families"
        in figure.alt
    )
    assert {r["y"] for r in rows(figure, "object-drops")} == {10.0}
    assert "mean 10.0 points" in json.dumps(rows(figure, "object-drops-fit-0"))


def shift_on(scale, **r2):
    """Return the figure of shift where lines on the scales explain these shares of the variance."""
    fits = given.fits().to_pylist()
    for fit in fits:
        fit["r2"] = r2.get(fit["scale"], fit["r2"])
    table = pa.Table.from_pylist(fits, schema=schema("fits"))
    (figure,) = [f for f in draw_figures(given.everything(fits=table), own=OWN) if f.section == "shift"][:1]
    assert set(figure.data["scale"].to_pylist()) == {scale}
    return figure


def test_shift_is_drawn_on_the_axes_on_which_it_is_straight():
    assert "inverse of the normal distribution" not in shift_on("plain", plain=0.999, probit=0.9).caption
    assert "inverse of the normal distribution" in shift_on("probit", plain=0.9, probit=0.999).caption
    shift_on("probit", plain=0.9, probit=0.9)


def test_shift_draws_points_fit_and_equals():
    figure = shift_on("plain", plain=0.999)
    assert [p["title"]["subtitle"] for p in figure.spec["concat"]] == ["Slope 0.90 (0.85 to 0.95)"] * 3
    found = row(figure, "plain-top1", model="alpha")
    assert (found["x"], found["y"], found["x_lo"], found["y_hi"]) == (70.0, 60.0, 69.0, 61.0)
    line = rows(figure, "plain-top1-fit-0")
    slope = (line[1]["y"] - line[0]["y"]) / (line[1]["x"] - line[0]["x"])
    assert slope == pytest.approx(0.9, abs=1e-3)
    assert line[0]["y"] == pytest.approx(0.9 * line[0]["x"] - 5, abs=1e-2)


def test_probit_axes_have_ticks_in_percent(by_name):
    figure = by_name["shift-val-v2"]
    found = row(figure, "probit-top1", model="alpha")
    assert found["x"] == pytest.approx(0.5244, abs=1e-4), "the normal quantile of 0.7"
    assert found["p_x"] == 70.0
    ticks = figure.spec["concat"][0]["layer"][0]["encoding"]["y"]["axis"]["values"]
    assert ticks == [0.1004, 0.151, 0.2019, 0.2533]
    assert {f">{label}<" in draw_panels(figure)[0] for label in (54, 56, 58, 60)} == {True}


def test_probit_axes_below_a_half_are_labelled():
    side = probit_side(["y"], [0.05, 0.75])
    assert side.labels.startswith('["10", "30", "50", "70"][indexof([-1.2816, -0.5244, 0.0, 0.5244], ')


def test_mean_drops_carry_both_intervals(by_name):
    figure = by_name["drops-val-v2"]
    found = row(figure, "drops-middle", label="Top-1, original labels")
    assert found["x"] == 10.0
    assert (found["inner_lo"], found["inner_hi"], found["lo"], found["hi"]) == (9.0, 11.0, 8.0, 12.0)
    assert found["text"] == "10.0 (9.0 to 11.0)"
    assert len(rows(figure, "drops")) == 15


def test_robustness_names_the_extremes(by_name):
    figure = by_name["robustness-val-v2"]
    found = {r["model"]: r for r in rows(figure, "above-top1")}
    assert found["alpha"]["y"] == -0.1
    named = [r["model"] for r in rows(figure, "above-top1-names")]
    assert named[:2] == [given.MODELS[-1], "alpha"]
    assert "alpha is lowest (−0.1" in figure.alt


def test_what_is_named_is_on_the_axes_and_inside_the_panel():
    sheet = {
        "model": ["a" * 60, *"bcdefgh", "z" * 60],
        "x": [10.0, *map(float, range(80, 87)), 87.0],
        "y": [9.0, *[0.0] * 7, -9.0],
    }
    x, y = plain_side(["x"], sheet["x"]), plain_side(["y"], [-11.0, 11.0], percent=False)
    ends = (sheet["model"][0], sheet["model"][-1])
    panel = scatter("s", sheet, x, y, title="", tips=[], first=ends)
    assert panel.beyond == ()
    assert [*panel.sheets["s-names"]["model"]][:2] == [*ends]
    for place, text in zip(*(panel.sheets["s-names"][c] for c in ("x", "text")), strict=True):
        assert len(text) <= 36
        half = 0.5 * width(text, NAME_SIZE) / panel.width * (x.domain[1] - x.domain[0])
        assert x.domain[0] <= place - half + 1e-9
        assert place + half <= x.domain[1] + 1e-9


def test_a_few_far_models_are_cut_off_only_where_they_squeeze_the_others():
    near = [70.0 + i for i in range(20)]
    assert shown([20.0, *near]) == near, "20 of 70 points of the axis"
    assert shown([60.0, *near]) == [60.0, *near]
    sheet = {"x": [20.0, *near], "y": [75.0, *near]}
    assert shown_both(sheet) == (near, near)


def test_a_line_says_whom_it_is_fitted_to_beyond_the_axes():
    panel = Panel([], {}, 1, 1, {"text": "Top-1", "subtitle": "Slope 1.00"}, beyond=("far",))
    assert line_said(panel).title == {
        "text": "Top-1",
        "subtitle": ["Slope 1.00", "The line is also fitted to far beyond the axes."],
    }


def test_sensitivity_warns_and_stands_on_one_axis(by_name, tmp_path):
    figure = by_name["sensitivity-val-v2"]
    save_figures([figure], tmp_path)
    drawn = (tmp_path / "sensitivity-val-v2.svg").read_text()
    assert "Set sizes found under different protocols are not the same quantity" in drawn, "outside of a page"
    found = rows(figure, "sensitivity")
    assert [r["x"] for r in found[:3]] == [10.0, 8.0, 6.0]
    assert (found[0]["first"], found[0]["second"]) == ("10.0", "20 % and 40 %")
    assert found[2]["label"] == "First set, labels from probability 0.5 on"
    heads = rows(figure, "sensitivity-groups")
    assert (heads[0]["row"], heads[0]["end"], heads[0]["level"]) == (0, 3, 10.0)
    assert "10.0 points as published; 6.0 to 10.0, depending on the analysis" in figure.alt


def test_odd_letters_in_names_can_be_drawn():
    odd = ("\u2028", "\u2029", "\x00", "\x1b", "\b", "\uffff", "\\u2028", "\"</svg>'")
    names = (*(f"one{letter}" for letter in odd), "two", "three")
    found = draw_figures(
        ReportTables(given.results(names), {"drops": given.drops(names)}), own=names[: len(odd)]
    )
    page = prepare(found)
    for figure in found:
        ET.fromstring(draw_whole(figure))
    assert page.drawn["models-val"].svg.count(">one") == len(odd)


def test_saturation_has_a_panel_a_fit(by_name):
    figure = by_name["saturation-val"]
    assert figure.title == "What a point of top-1 accuracy is worth on label sets, val"
    titles = [p["title"]["text"] for p in figure.spec["concat"]]
    assert titles == ["All models (5)", "Models from 68 % on (5)"]
    assert figure.spec["concat"][1]["title"]["subtitle"] == "Slope 0.40 (0.35 to 0.45)"
    assert [r["model"] for r in rows(figure, "saturation-1")] == ["alpha", "beta"]


def test_label_errors(by_name):
    figure = by_name["label-errors-val"]
    assert row(figure, "errors", model="alpha")["y"] == 35.0
    assert figure.alt == (
        "In 35.0 % of the errors of alpha, the most accurate model (70.0 %), the top class is in the label "
        "set."
    )


def test_kinds_are_in_order_of_their_medians(by_name):
    figure = by_name["kinds-val"]
    found = rows(figure, "kind-family-middle")
    assert [r["label"] for r in found] == ["resnet (3)", "vit (2)"]
    assert [r["x"] for r in found] == sorted((r["x"] for r in found), reverse=True)
    assert rows(figure, "kind-pretraining-middle")[0]["label"] == "ImageNet-1k only (3)"


def test_agreement_is_a_list_where_few_pairs_are_known(by_name):
    figure = by_name["rank-agreement"]
    found = rows(figure, "agreement-middle")
    assert found[0]["label"] == "Top-1: val and v2"
    assert (found[0]["x"], found[0]["inner_lo"], found[0]["lo"]) == (0.9, 0.5, 0.4)
    assert "1 of them beyond noise" in found[0]["swaps"]


def test_agreement_is_a_square_where_most_are():
    (figure, *_) = [
        f for f in draw_figures(given.everything(ranks=given.ranks(dense=True))) if f.name == "rank-agreement"
    ]
    assert len(rows(figure, "agreement")) == 15
    assert rows(figure, "agreement")[0]["text"] == "0.90"
    assert len(draw_panels(figure)) == 1


def test_bump_names_own_models_and_movers(by_name):
    figure = by_name["rank-changes"]
    assert [r["y"] for r in rows(figure, "bump") if r["model"] == "alpha"] == [1] * 6
    hues = {r["model"]: r["hue"] for r in rows(figure, "bump-ends")}
    assert hues["beta"] == "own"
    assert len(rows(figure, "bump-ends")) == 2 * len(hues)


def test_bump_of_many_draws_the_best_and_own():
    names = [f"m{i:03}" for i in range(100)]
    found = draw_figures(ReportTables(given.results(tuple(names), slices=("all",)), {}), own=["m099"])
    (figure,) = [f for f in found if f.name == "rank-changes"]
    drawn = {r["model"] for r in rows(figure, "bump")}
    assert len(drawn) == 41
    assert "m099" in drawn
    assert "Only the best 40 and your own of 100 models are drawn" in figure.caption


@pytest.fixture(scope="module")
def names_of_all():
    return {figure.name for figure in draw_figures(given.everything())}


@pytest.mark.parametrize(
    "name",
    sorted({*BESIDE} & {"drops", "fits", "ranks", "sensitivity", "set_sizes", "class_pairs", "models"}),
)
def test_an_absent_table_gives_no_figure(name, names_of_all):
    tables = given.everything()
    without = ReportTables(tables.results, {k: t for k, t in tables.beside.items() if k != name})
    after = {f.name for f in draw_figures(without)}
    # Without a fitted line, the same points are drawn without it.
    assert after - {"models-val", "models-v2"} < names_of_all or name == "drops"


def test_no_results_give_no_figures():
    assert draw_figures(ReportTables(schema("results").empty_table(), {})) == ()


def test_one_model_is_no_reason_to_fail():
    found = draw_figures(ReportTables(given.results(("alone",)), {"drops": given.drops(("alone",))}))
    assert prepare(found).drawn


def test_without_altair_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(MissingExtraError) as caught:
        draw_figures(given.everything())
    assert str(caught.value) == 'Figures need Altair.\n  do:      pip install "manyhot[report]"'


def test_without_vl_convert_it_says_what_to_install(monkeypatch, figures):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(MissingExtraError, match="Figures need vl-convert"):
        draw_panels(draw_figures(given.everything())[0])


def test_drawings_are_well_formed_and_need_nothing_else(figures, page):
    for figure in figures:
        whole = draw_whole(figure)
        ET.fromstring(whole)
        text = whole.replace("http://www.w3.org/2000/svg", "", 1)
        assert "http" not in text
        assert "NaN" not in text
    assert "http" not in page.data
    ids = [part.split('"')[0] for drawn in page.drawn.values() for part in drawn.svg.split(' id="')[1:]]
    assert len(ids) == len(set(ids))


def test_hostile_names_stay_text(page):
    assert "<b>" not in "".join(drawn.svg for drawn in page.drawn.values())
    assert "<" not in page.data


def svg(inside):
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">{inside}</svg>'


def test_a_point_is_a_few_bytes():
    look = 'fill="var(--f-mark)" d="M3,0A3,3,0,1,1,-3,0A3,3,0,1,1,3,0"'
    marks = "".join(f'<path transform="translate({i}.123,5)" {look}/>' for i in range(3))
    style = 'stroke="var(--f-mark)" stroke-width="6" stroke-linecap="round"'
    assert lean(svg(f'<g class="a" role="b">{marks}</g>'), "p").endswith(
        f'<path {style} d="M0.1 5h0M1.1 5h0M2.1 5h0"/></svg>'
    )


def test_lines_are_steps_that_do_not_drift():
    lines = "".join(
        f'<path stroke="red" d="M0,{i}L10.04,{i}.04L20.08,{i}.08L30.12,{i}.12"/>' for i in range(2)
    )
    assert 'd="M0 0l10 0l10.1 0.1l10 0M0 1l10 0l10.1 0.1l10 0"' in lean(svg(lines), "p")


def test_saves_all_four_files(figures, tmp_path):
    paths = save_figures(figures[:2], tmp_path / "figures")
    assert [p.name for p in paths[:4]] == [
        "set-sizes.svg",
        "set-sizes-dark.svg",
        "set-sizes.png",
        "set-sizes.csv",
    ]
    light, dark = (p.read_text() for p in paths[:2])
    assert "var(" not in light + dark
    assert "<title>How many labels images have</title>" in light
    assert 'fill="#ffffff"' in light
    assert 'fill="#121518"' in dark
    assert paths[2].read_bytes().startswith(b"\x89PNG")
    assert paths[3].read_text().splitlines()[1] == '"val",0,50,0.05'


def test_a_full_disk_leaves_nothing_half_written(figures, tmp_path, monkeypatch):
    save_figures(figures[:1], tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    write = Path.write_bytes

    def full(path, content):
        write(path, content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="The disk is full"):
        save_figures(figures[:1], tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


SCRIPT = """
import sys, hashlib, pathlib
sys.path.insert(0, sys.argv[1])
import figure_tables as given
import pyarrow as pa
from manyhot.evaluate.report.figures import draw_figures
from manyhot.report.prerender import prepare
from manyhot.report.export import save_figures
figures = draw_figures(given.everything(), own=["beta", "alpha"])
page = prepare(figures)
drawn = [figure.svg for figure in page.drawn.values()]
digest = hashlib.sha256("".join([page.data, page.style, page.script, *drawn]).encode())
chosen = [f for f in figures if f.name in ("shift-val-v2", "rank-changes")]
for path in save_figures(chosen, pathlib.Path(sys.argv[2])):
    digest.update(path.read_bytes())
print(digest.hexdigest())
"""


@pytest.mark.slow
def test_two_processes_make_the_same_bytes(tmp_path, monkeypatch, capsys):
    """This one and another, which hashes texts otherwise and has kept nothing."""
    words = ["-c", str(Path(__file__).parents[3] / "helpers"), str(tmp_path)]
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    environment = os.environ | {"PYTHONHASHSEED": seed, "MANYHOT_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, words[0], SCRIPT, *words[1:]]
    other = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    monkeypatch.setattr(sys, "argv", words)
    exec(SCRIPT, {})
    assert capsys.readouterr().out == other
    assert re.fullmatch(r"[0-9a-f]{64}\n", other)


@pytest.mark.parametrize("left", ["nothing", "damaged", "a folder", "read-only"])
def test_the_renderer_is_kept(tmp_path, monkeypatch, left):
    """Made once; made again where what was kept is not whole, or cannot be there."""
    made = []
    monkeypatch.setattr(vl_convert, "javascript_bundle", lambda snippet: made.append(snippet) or "</script>é")
    monkeypatch.setenv("MANYHOT_CACHE", str(tmp_path / "cache"))
    kept = tmp_path / "cache" / f"vega-{vl_convert.__version__}.js"
    if left == "read-only":
        kept.parent.touch()
    elif left == "a folder":
        kept.mkdir(parents=True)
    for _ in range(2):
        assert prerender._bundle() == "<\\/script>é"
        if left == "damaged":
            kept.write_bytes(kept.read_bytes()[:-1])
    assert made == ["window.vegaEmbed=vegaEmbed;"] * (1 if left == "nothing" else 2)


def test_many_models_make_a_small_page():
    figures = draw_figures(given.many())
    page = prepare(figures)
    drawn = sum(len(figure.svg) for figure in page.drawn.values())
    n_panels = sum(len(f.spec["concat"]) for f in figures)
    assert drawn < 50_000 * n_panels
    assert drawn < 1_500_000
    assert len(page.data) < 1_000_000
    assert len(page.script) < 1_000_000


def test_figures_are_made_from_files_alike(tmp_path, figures):
    from manyhot import tables as io
    from manyhot.evaluate.report.report_tables import read_tables

    given_tables = given.everything()
    for name, table in {"results": given_tables.results, **given_tables.beside}.items():
        io.write(table, tmp_path / f"{name}.parquet", name)
    assert pq.read_table(tmp_path / "drops.parquet").num_rows
    again = draw_figures(read_tables(tmp_path), own=OWN)
    assert [f.spec for f in again] == [f.spec for f in figures]
