"""What a report says, read from its HTML."""

import base64
import dataclasses
import hashlib
import importlib
import itertools
import json
import math
import re

import numpy as np
import pyarrow as pa
import pytest

from manyhot import Predictions, Reading, evaluate
from manyhot.errors import InputError, MissingExtraError
from manyhot.evaluate.report import write_report
from manyhot.evaluate.report.report_tables import ReportTables
from report_pages import HOSTILE, MODELS, hostile_report, number, parse, results_table, some_rows


def table_of(page, at=0):
    return page.all("table", "models")[at]


def data_of(page):
    return json.loads(page.one("script", id="data").children[0])


def column(table, name):
    heads = table.one("thead").all("th")
    return next(i for i, head in enumerate(heads) if head.attributes.get("data-k") == name)


def cells(table, name):
    at = column(table, name)
    return [row.children[at] for row in table.one("tbody").all("tr")]


def test_opens_with_what_was_judged(page):
    assert page.one("h1").text == "Models evaluated on label sets"
    said = page.one("p", "lead").text
    assert said == "6 models evaluated on val (1,000 images) and v2 (400 images, 3 models)."
    about = page.all("section", "dataset")[0].one("p", "about").text
    assert about == (
        "6 models, 1,000 images. Skipped images: 40 by ReaL, MLA, Variable top-k and ASMA. "
        "Metrics that are undefined here, because they count no images: ReaL (unasked)."
    )


def test_headings_are_in_order(page):
    levels = [int(n.tag[1]) for n in page.walk() if re.fullmatch("h[1-6]", n.tag)]
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))


def test_models_stand_from_best_to_worst_by_real(page):
    table = table_of(page)
    names = [row.one("b").text for row in table.one("tbody").all("tr")]
    assert names == [*MODELS, "nothing-counts"]
    assert [c.text for c in cells(table, "real1")] == ["73.0", "71.0", "69.0", "67.0", "65.0", "–"]
    places = [row.one("i").text for row in table.one("tbody").all("tr")]
    assert places == ["1", "2", "3", "4", "5", ""]
    assert [h["data-k"] for h in table.all("th") if "aria-sort" in h.attributes] == ["real1"]


def test_a_number_comes_with_its_interval_and_its_n(page):
    table = table_of(page)
    first = cells(table, "real1")[0]
    assert first["title"] == "72.0 to 74.0, n 960"
    assert re.fullmatch(r"--v:[\d.]+;--l:[\d.]+;--h:[\d.]+", first["style"])
    assert table.all("th", data_k="real1")[0].text == "ReaL % 64 74 n 960"


def test_an_undefined_number_is_no_zero(page):
    table = table_of(page)
    undefined, absent = cells(table, "real1")[-1], cells(table, "mla")[-1]
    assert (undefined.text, undefined["title"]) == ("–", "undefined: n 0, 1,000 skipped")
    assert (absent.text, absent["title"]) == ("–", "not evaluated")
    assert "style" not in undefined.attributes
    assert not table.all(data_k="real1_unasked")


def test_further_columns_wait_in_the_menu_and_in_the_data(page):
    keys = [h["data-k"] for h in table_of(page).all("th") if "data-k" in h.attributes]
    assert keys == ["top1", "real1", "mla", "variable_topk", "asma"]
    boxes = {
        n["data-k"]: "checked" in n.attributes
        for n in page.all("input", type="checkbox")
        if "id" not in n.attributes
    }
    assert [k for k, checked in boxes.items() if not checked] == ["top5", "coverage"]
    columns = {c["key"]: c for c in data_of(page)["sets"][0]["columns"]}
    assert not columns["coverage"]["shown"]
    assert columns["coverage"]["value"] == [7.5, 8.5, 9.5, 10.5, 11.5, None]
    assert columns["coverage"]["lo"] is None, "no interval, said once for all models"
    assert columns["real1"]["place"] == [1, 2, 3, 4, 5, None]
    assert columns["real1"]["lo"][0] == 72.0


def test_own_models_stand_out(page):
    own = [row for row in table_of(page).all("tr") if "mine" in row.classes]
    assert [row.one("th").text for row in own] == ["2 my/model yours #"]
    standing = page.all("ul", "standings")[0]
    assert standing.text == (
        "my/model on val is 2nd of 5 by ReaL (71.0 %) and 2nd of 5 by Top-1 (68.0 %). "
        "By ReaL, it does not differ beyond noise from timm/resnet50 and vgg16."
    )
    assert standing.one("a")["href"] == f"#{own[0]['id']}"


@pytest.mark.parametrize("n_models", [1, 2])
def test_a_report_on_some_of_the_labelled_images_says_so(tmp_path, n_models):
    ids, label = [f"{i}.jpg" for i in range(40)], [i % 3 for i in range(40)]
    labels = pa.table({"image_id": ids, "label": label, "classes": [[k] for k in label]})
    best = np.array([[k, (k + 1) % 3] for k in label], np.int32)
    models = [Predictions(pa.array(ids[:n]), f"net{n}", classes=best[:n]) for n in (8, 6)[:n_models]]
    found = evaluate(labels, models, resamples=5, reading=Reading(n_classes=3, dataset="mine"))
    dataclasses.replace(found, own=("net8",)).write(tmp_path)
    page = parse((tmp_path / "report" / "index.html").read_text(encoding="utf-8"))
    fewer = "." if n_models == 1 else " or fewer."
    described = f" All of these images are described here, but models were evaluated only on 8{fewer}"
    assert described in page.one("section", id="labels").text
    if n_models == 1:
        assert page.one("ul", "standings").text == "net8 on mine has 100.0 % by ReaL and 100.0 % by Top-1."


def test_which_models_differ_is_in_the_page(page):
    first, second = data_of(page)["sets"]
    assert second["compare"] == {}
    assert first["compare"]["real1"] == {"order": [0, 1, 2, 3, 4], "runs": ["1=3!", "1=2!", "1=1!", "1=", ""]}


def test_parts_are_in_the_contents_and_each_has_its_heading(page):
    links = [a["href"] for a in page.one("nav").all("a")]
    parts = ["labels", "models", "groups", "shift", "saturation", "ranks", "pictures", "made"]
    assert links == ["#overview", *(f"#{part}" for part in parts)]
    for part in ("overview", *parts):
        section = page.one("section", id=part)
        assert section["aria-labelledby"] == f"{part}-h"
        assert section.one("h2", id=f"{part}-h").one("a", "mark")["href"] == f"#{part}"


def test_every_link_leads_somewhere_and_every_id_is_there_once(page):
    ids = [n["id"] for n in page.walk() if "id" in n.attributes]
    assert len(ids) == len(set(ids))
    links = {a["href"][1:] for a in page.all("a") if a["href"].startswith("#")}
    told = {n[name] for n in page.walk() for name in ("aria-labelledby",) if name in n.attributes}
    assert (links | told) - set(ids) == set()


def test_tables_have_captions_and_heads(page):
    for table in page.all("table"):
        assert table.one("caption").text
        assert all(h["scope"] == "col" for h in table.one("thead").all("th"))
        assert all(
            r.children[0]["scope"] == "row" for r in table.one("tbody").all("tr") if r.children[0].tag == "th"
        )
        widths = {len([c for c in r.children if not isinstance(c, str)]) for r in table.all("tr")}
        assert len(widths) == 1


def texts(page, anchor):
    table = page.one(id=anchor).one("table", "plain")
    return [[c.text for c in row.children if not isinstance(c, str)] for row in table.all("tr")]


def test_drops_of_the_mean_and_of_own_models(page):
    assert texts(page, "shift-drops-val-v2") == [
        ["Metric", "Model", "From", "To", "Drop", "95 % over images", "95 % over families", "Above fit", "n"],
        [
            "Top-1",
            "mean of 3",
            "70.00 %",
            "60.00 %",
            "10.00",
            "9.00 to 11.00",
            "5.00 to 15.00",
            "–",
            "1,000 → 400",
        ],
        ["Top-1 #", "my/model", "70.00 %", "59.00 %", "11.00", "8.00 to 13.00", "–", "1.00", "1,000 → 400"],
        ["ReaL", "mean of 3", "70.00 %", "64.00 %", "6.00", "5.00 to 7.00", "–", "–", "1,000 → 400"],
    ]
    (own,) = page.one(id="shift-drops-val-v2").all("tr", "mine")
    assert own["id"] == "shift-drops-val-v2-my-model-top-1-all-images"


def test_the_caution_stands_once(page):
    text = "Set sizes found under different protocols are not the same quantity"
    assert page.text.count(text) == 1
    assert text in page.one("section", id="overview").text, "with the first finding that it is about"


def test_what_set_sizes_do(page):
    listing = next(n for n in page.all("details", "listing") if n["id"].startswith("shift-sensitivity"))
    assert listing.one("p", "about").text == "First: val; second: v2."
    rows = texts(page, listing["id"])
    assert [r[1] for r in rows[1:]] == ["as published", "threshold of the labels of the first: 0.9"]


def test_orders_and_swaps(page):
    assert texts(page, "ranks-orders")[1:] == [
        ["Top-1 → ReaL", "val", "0.900", "0.800 to 0.950", "5", "1 of 10", "1"]
    ]
    (swaps,) = [n for n in page.all("details", "listing") if n["id"].startswith("ranks-swaps")]
    assert swaps.one("h3").text == "Swapped beyond noise by Top-1 → ReaL, val: 1 pair"
    assert texts(page, swaps["id"]) == [
        ["Better by Top-1", "Better by ReaL", "Ahead by", "Behind by"],
        ["timm/resnet50", "my/model", "2.00", "1.00"],
    ]


def test_the_data_card_says_what_is_not_known(page):
    card = {row[0]: row[1:] for row in texts(page, "labels-card")}
    assert card["Checked by raters"] == ["600", "not recorded"]
    assert card["Licence"] == ["Apache-2.0", "–"]
    assert card["From"] == ["example.org/real", "–"]
    assert "Cite" not in card
    lead = [
        p.text for p in page.one("section", id="labels").children if not isinstance(p, str) and p.tag == "p"
    ]
    assert lead == [
        "val: raters checked 600 of 1,000 images, and were asked about 4,000 (image, class) pairs, of "
        "which 1,200 are valid. Another 100 labels are on images that no rater has seen.",
        "v2: 400 images; the source does not record which of them raters checked. Negative answers are not "
        "recorded, so raters may not have been asked about a class that is not in a label set.",
    ]


def test_long_lists_show_their_first_and_how_many_more(page):
    rejected = page.one("details", id="labels-rejected-val")
    assert rejected.one("h3").text == "Images with an original label that is not in their label set, val: 12"
    assert len(rejected.one("tbody").all("tr")) == 10
    assert rejected.one("p", "more").text == "2 more in rejected.csv."


def test_groups_show_the_median_and_the_range(page):
    rows = texts(page, "groups-val")
    assert rows[0][:4] == ["Images", "n", "Top-1 %", "ReaL %"]
    assert rows[1][:3] == ["one label", "500", "66.0 (62.0–70.0)"]
    assert rows[-1][:3] == ["superclass organism", "10", "80.0"]


def test_groups_show_each_of_few_models_with_its_interval(write):
    rows = texts(parse(write(results_table(some_rows(models=("a", "b"))))), "groups-val")
    assert rows[0][:4] == ["Images", "Model", "n", "Top-1 %"]
    assert [row[:2] for row in rows[1:3]] == [["one label", "a"], ["one label", "b"]]
    assert all(re.fullmatch(r"[\d.]+ \([\d.]+ to [\d.]+\)", row[3]) for row in rows[1:3])


def test_macro_metrics_are_not_shown_by_group(write):
    """A macro metric is a mean over the classes of a group, and these differ from group to group."""
    page = parse(write(results_table(some_rows(metrics=("map_macro", "map_image")))))
    head, *groups = texts(page, "groups-val")
    assert head == ["Images", "n", "mAP (images) %"]
    assert groups[0][0] == "one label"
    text = page.one("section", id="groups").text
    assert "mAP (macro) is left out, because the classes of the groups differ." in text
    assert "Among groups of 30 images or more, mAP (images) of " in text


def test_what_was_not_made_is_left_out(write):
    page = parse(write(results_table(some_rows())))
    assert [a["href"] for a in page.one("nav").all("a")] == ["#overview", "#models", "#groups", "#made"]


def test_figures_stand_in_their_parts(drawn):
    page = parse(drawn)
    for figure in page.all("figure", "fig"):
        section = figure.parent
        while section.tag != "section" or "part" not in section.classes:
            section = section.parent
        assert section["id"] in {"labels", "models", "groups", "shift", "saturation", "ranks"}
    assert page.all("figure", "fig")
    assert page.one("script", id="figure-data")
    levels = [int(n.tag[1]) for n in page.walk() if re.fullmatch("h[1-6]", n.tag)]
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))


def test_the_policy_allows_both_scripts_of_a_page_with_figures(drawn):
    scripts = re.findall(r"<script>(.*?)</script>", drawn, flags=re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert len(digests) == 2
    allowed = " ".join(f"'sha256-{d}'" for d in digests)
    policy = parse(drawn).all("meta", http_equiv="Content-Security-Policy")[0]["content"]
    assert f"script-src {allowed};" in policy
    assert "unsafe-eval" not in policy


def test_the_page_is_composed_before_drawings_are_waited_for(tmp_path, monkeypatch):
    def called(name):
        function = getattr(report, name)
        monkeypatch.setattr(report, name, lambda *a, **options: calls.append(name) or function(*a, **options))

    report, calls = importlib.import_module("manyhot.evaluate.report"), []
    for name in ("draw_figures", "build_report", "prepare"):
        called(name)
    write_report(tmp_path, ReportTables(results_table(some_rows()), {}))
    assert calls == ["draw_figures", "build_report", "prepare"]


def test_a_renderer_that_turns_out_to_be_missing_is_named(tmp_path, monkeypatch):
    def prepare(figures):
        raise MissingExtraError("Figures need vl-convert.", do='pip install "manyhot[report]"')

    monkeypatch.setattr(importlib.import_module("manyhot.evaluate.report"), "prepare", prepare)
    page = write_report(tmp_path, ReportTables(results_table(some_rows()), {})).read_text(encoding="utf-8")
    assert "Figures need vl-convert." in page
    assert "<figure" not in page


def test_without_the_extra_the_page_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "altair", None)
    path = write_report(tmp_path, ReportTables(results_table(some_rows()), {}))
    page = parse(path.read_text(encoding="utf-8"))
    assert page.one("section", id="overview").one("p", "warning").text == (
        'This page has no figures. Figures need Altair. pip install "manyhot[report]"'
    )
    assert not page.all("figure")
    assert len(page.all("script")) == 2


def test_notes_name_the_models_once(page):
    assert page.one("div", id="notes").one("li").text == (
        "val: 20 of 1,020 predicted images have no labels and were left out "
        "(timm/resnet50, my/model and vgg16)"
    )


def test_how_the_numbers_were_made(page):
    made = page.one("section", id="made")
    assert made.one("pre").text == "manyhot evaluate --labels real.json --out results"
    real = next(d for d in made.all("dt") if d.text == "ReaL real1").parent
    assert real.one("dd").text == (
        "Share of images whose top class is in the label set. Images with an empty label set are skipped, "
        "as in the paper. val: n 960, skipped 40; v2: n 360, skipped 40"
    )
    assert "manyhot 9.9, schema 1." in made.text
    others, inputs = made.all("details")
    assert others.one("summary").text == "2 further metrics"
    assert inputs.text == "1 input file real.json " + "ab" * 32


def test_pictures(page):
    cat, broken, new, noise = page.all("article")
    assert cat.one("img")["alt"] == "cat.jpg, labelled class 1"
    assert (cat.one("img")["width"], cat.one("img")["height"]) == ("480", "320")
    assert [c.text for c in cat.all("span", "chip")] == [
        "✓ in the label set class 1",
        "? unclear class 2 (unclear)",
    ]
    sure, ranks = cat.all("div", "seen")
    assert [g.text for g in sure.all("li")] == [
        "? unclear class 2 50.0 %",
        "✓ in the label set class 1 original 25.0 %",
        "✕ not valid class 4 12.5 %",
        "○ not asked class 5 6.2 %",
        "○ not asked class 6 3.1 %",
    ]
    assert sure.all("li")[0]["style"] == "--c:0.5"
    assert not any("style" in li.attributes for li in ranks.all("li"))
    assert broken.one("p", "absent").text == "No picture: not an image of a known format."
    assert "No rater has seen this image." in new.text
    assert new.all("div", "seen")[1].text == "ranks No prediction for this image."
    assert "No class of the list is valid. 1 more asked about, not valid" in noise.one("dl").text


def test_needs_nothing_else(small):
    html = re.sub(r"data:image/jpeg;base64,[\w+/=]+", "data:", small)
    assert not re.search(r"https?:|//\w|@import|url\(", html.replace("// ", ""))
    links = re.findall(r'(?:src|href|action|data|poster|srcset)="([^"]*)"', html)
    assert {link[:1] for link in links} <= {"#", "d"}
    assert all(link.startswith(("#", "data:")) for link in links)


def test_the_policy_allows_our_script_alone(small):
    script = small.rpartition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = parse(small).all("meta", http_equiv="Content-Security-Policy")[0]["content"]
    assert policy == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def test_names_are_text_wherever_they_stand(write):
    names, html = hostile_report(write)
    page = parse(html)
    assert not page.all("img")
    assert len(page.all("script")) == 2
    assert not [a for n in page.walk() for a in n.attributes if a.startswith("on")]
    assert "49" not in page.one("h1").text
    shown = [b.children for b in table_of(page).all("b")]
    assert [c for (c,) in shown] == names
    assert page.one("h1").children == [HOSTILE]
    assert page.one("pre").one("code").children == [HOSTILE]


def test_pairs_in_the_page_cannot_end_the_script(write):
    _, html = hostile_report(write)
    text = parse(html).one("script", id="data").children[0]
    assert "<" not in text
    assert json.loads(text)["sets"][0]["compare"]["top1"]["order"] == [0, 1, 2]


def test_one_model_without_pairs(write):
    page = parse(write(results_table(some_rows(models=MODELS[:1]))))
    assert page.one("p", "lead").text.startswith("1 model evaluated on val (1,000 images).")
    assert not page.all("p", "compare")


def test_only_dense_metrics(write):
    rows = some_rows(metrics=("map_macro", "lrap", "ranking_loss", "coverage"))
    page = parse(write(results_table(rows)))
    heads = [h["data-k"] for h in page.all("th") if h.attributes.get("data-k")]
    assert heads == ["map_macro", "lrap", "coverage", "ranking_loss"]
    assert page.all("th", data_k="map_macro")[0]["aria-sort"] == "descending"


def test_lower_is_better_where_it_is(write):
    page = parse(write(results_table(some_rows(metrics=("ranking_loss",)))))
    names = [row.one("b").text for row in table_of(page).one("tbody").all("tr")]
    assert names == list(reversed(MODELS))
    assert page.one("th", data_k="ranking_loss")["aria-sort"] == "ascending"


def test_a_metric_of_somebody_else_is_shown_under_its_name(write):
    page = parse(write(results_table([number("val", "m", "their metric", "all", 12.5, 10)])))
    assert page.one("th", data_k="their metric").text.startswith("their metric ")
    assert cells(table_of(page), "their metric")[0].text == "12.500"


def test_nothing_but_undefined_numbers(write):
    page = parse(write(results_table([number("val", "m", "real1", "all", math.nan, 0, 7)])))
    assert [row.one("b").text for row in table_of(page).one("tbody").all("tr")] == ["m"]
    about = page.one("section", "dataset").one("p", "about").text
    assert "Metrics that are undefined here, because they count no images: ReaL." in about


def test_a_number_without_interval_says_so(write):
    rows = [number("val", m, "top1", "all", 0.5, 10, half=None) for m in MODELS]
    cell = cells(table_of(parse(write(results_table(rows)))), "top1")[0]
    assert (cell.text, cell["title"]) == ("50.0", "no interval, n 10")
    assert "--l" not in cell["style"]


def test_a_model_far_out_does_not_squeeze_the_others(write):
    models = [f"m{i}" for i in range(12)]
    rows = [
        number("val", m, k, "all", 0.7 + 0.01 * i, 100)
        for i, m in enumerate(models)
        for k in ("top1", "real1")
    ]
    rows += [number("val", "lost", k, "all", 0.001, 100) for k in ("top1", "real1")]
    page = parse(write(results_table(rows)))
    last = cells(table_of(page), "real1")[-1]
    assert (last.text, last.classes) == ("0.1", ["below"])
    assert page.one("th", data_k="real1").text == "ReaL % 65 85 n 100"


def test_the_users_own_model_is_always_on_the_axes(write):
    rows = [
        number("val", f"m{i}", k, "all", 0.7 + 0.01 * i, 100) for i in range(12) for k in ("top1", "real1")
    ]
    rows += [number("val", "lost", k, "all", 0.05, 100) for k in ("top1", "real1")]
    page = parse(write(results_table(rows), highlight=["lost"]))
    assert "below" not in cells(table_of(page), "real1")[-1].classes


def test_n_that_differs_between_models_is_a_range(write):
    rows = [number("val", "a", "top1", "all", 0.5, 8), number("val", "b", "top1", "all", 0.6, 50_000)]
    page = parse(write(results_table(rows)))
    assert page.one("th", data_k="top1").text.endswith("n 8–50,000")
    assert page.all("p", "about")[1].text.startswith("2 models, 8–50,000 images.")


def test_many_models_leave_columns_to_the_csv(write, monkeypatch):
    monkeypatch.setattr(importlib.import_module("manyhot.evaluate.report.datasets"), "MAX_CELLS", 30)
    rows = some_rows() + [number("val", m, k, "all", 0.5, 10) for m in MODELS for k in ("top5", "real5")]
    page = parse(write(results_table(rows)))
    assert (
        "Metrics that are in results.csv but not shown here, for lack of space: ReaL top-5."
        in page.one("section", "dataset").one("p", "about").text
    )
    assert not page.all("th", data_k="real5")


@pytest.mark.parametrize(
    ("rows", "highlight", "message"),
    [
        ([], [], "There are no results to report.\n  do:      evaluate at least one model"),
        (
            [number("val", "m", "top1", "all", 0.5, 10)] * 2,
            [],
            "The results contain a value twice.\n  got:     val, top1, all, m\n"
            "  allowed: one row per data set, model, metric and slice",
        ),
        (
            [number("val", "m", "top1", "all", 0.5, 10)],
            ["mine"],
            "A model to highlight is not in the results.\n  got:     mine",
        ),
    ],
)
def test_what_cannot_be_reported(tmp_path, rows, highlight, message):
    with pytest.raises(InputError) as caught:
        write_report(tmp_path, ReportTables(results_table(rows), {}), highlight=highlight)
    assert str(caught.value) == message
    assert not list(tmp_path.iterdir())
