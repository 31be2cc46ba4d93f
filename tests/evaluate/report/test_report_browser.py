"""What a reader does with a report, in a real browser."""

from importlib import import_module
from importlib.util import find_spec

import pytest

from manyhot.evaluate.report import write_report
from manyhot.evaluate.report.report_tables import ReportTables
from report_pages import MODELS, hostile_report, number, pairs_table, parse, results_table, some_rows
from visits import visitors

WIDTH = "document.documentElement.scrollWidth"


@pytest.fixture(scope="module")
def visits(chromium):
    with visitors(chromium) as visits:
        yield visits


@pytest.fixture
def visit(visits, tmp_path):
    """Return a function that opens a page's text; what the console says fails the test."""
    with visits() as visit:

        def visit_text(html, **options):
            path = tmp_path / "index.html"
            path.write_text(html, encoding="utf-8")
            return visit(path.as_uri(), **options)

        yield visit_text


@pytest.fixture
def view(visit, small):
    return visit(small)


def models(page, at=0):
    """Return the names in the rows that can be seen."""
    names = page.locator("table.models").nth(at).locator("tbody tr:visible b")
    return names.all_text_contents()


def head(page, name):
    return page.locator(f"table.models >> nth=0 >> th[data-k='{name}']")


def sorting(page, at=0):
    script = (
        "t => [...t.tHead.rows[0].cells].flatMap(c => c.ariaSort ? [c.dataset.k ?? 'model', c.ariaSort] : [])"
    )
    return page.locator("table.models").nth(at).evaluate(script)


def test_sorts_by_click(view):
    view.locator("table.models >> nth=0 >> th >> nth=0 >> .head").click()
    assert sorting(view) == ["model", "ascending"]
    assert models(view) == sorted([*MODELS, "nothing-counts"])
    head(view, "top1").locator(".head").click()
    assert sorting(view) == ["top1", "descending"]
    assert models(view) == [*MODELS, "nothing-counts"]
    head(view, "top1").locator(".head").click()
    assert sorting(view) == ["top1", "ascending"]
    assert models(view) == [*reversed(MODELS), "nothing-counts"], "what has no value stays last"
    places = view.locator("table.models >> nth=0 >> tbody i").all_text_contents()
    assert places == ["5", "4", "3", "2", "1", ""], "the best is the first, however the table is sorted"
    assert sorting(view, 1) == ["real1", "descending"], "each table is sorted for itself"


def test_sorts_by_keyboard(view):
    head(view, "mla").locator(".head").focus()
    view.keyboard.press("Enter")
    assert sorting(view) == ["mla", "descending"]
    view.keyboard.press(" ")
    assert sorting(view) == ["mla", "ascending"]
    assert view.evaluate("document.activeElement.closest('th').dataset.k") == "mla"


LISTEN = """
window.told = [];
for (const k of ["find", "pins"]) document.addEventListener(`manyhot:${k}`, (e) => told.push([k, e.detail]));
"""


def test_finds_in_tables_and_tells_the_figures(view):
    view.evaluate(LISTEN)
    view.fill("#filter", "NET timm")
    assert models(view) == models(view, 1) == ["timm/resnet50"]
    assert view.text_content("#found") == "1 of 6 models"
    assert view.text_content(".dataset .more >> nth=0").strip() == "1 found, of 6 models"
    assert view.evaluate("told") == [["find", "net timm"]]
    view.fill("#filter", "no such name")
    assert view.text_content("#found") == "no model found"
    assert view.text_content(".dataset .more >> nth=0").strip() == "No model found"
    view.fill("#filter", "")
    assert len(models(view)) == 6
    assert view.text_content("#found") == ""


def test_counts_models_as_the_head_of_the_page_does(visit, write):
    rows = [
        number(f"data-{d}", f"m{i + d}", "top1", "all", 0.5, 100, half=0.1) for d in (0, 1) for i in range(5)
    ]
    page = visit(write(results_table(rows)))
    assert page.text_content(".lead").startswith("5 models evaluated")
    page.fill("#filter", "m")
    assert page.text_content("#found") == "5 of 5 models"


def test_the_theme_is_the_systems_until_it_is_chosen(visit, small):
    page = visit(small, color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    assert page.text_content("#theme") == "Theme: auto"
    page.click("#theme")
    page.wait_for_function("document.querySelector('#theme').textContent === 'Theme: light'")
    assert page.evaluate(ground) == "rgb(255, 255, 255)" != dark
    page.reload()
    page.wait_for_function("document.querySelector('#theme').textContent === 'Theme: light'")
    page.click("#theme")
    assert page.evaluate(ground) == dark


def test_shows_further_columns_and_intervals_as_text(view):
    assert head(view, "top5").count() == 0
    view.click("#menu summary")
    view.check("#menu [data-k=top5]")
    view.uncheck("#menu [data-k=mla]")
    assert head(view, "top5").is_visible()
    assert head(view, "mla").count() == 0
    cells = view.locator("table.models >> nth=0 >> tr >> nth=1 >> td").all_text_contents()
    assert cells == ["70.0", "73.0", "79.0", "82.0", "90.0", "1,000"]
    assert (
        view.locator("table.models >> nth=0 >> td >> nth=4").get_attribute("title") == "89.0 to 91.0, n 1,000"
    )
    view.check("#texts")
    shown = "td => getComputedStyle(td, '::after').display"
    assert view.locator("table.models >> nth=0 >> td >> nth=0").evaluate(shown) == "block"
    view.keyboard.press("Escape")
    assert not view.locator("#menu > div").is_visible()


INVITATION = "Click a model to pin it and to see which other models differ from it beyond noise."


def test_tells_which_models_differ_beyond_noise(view):
    status = view.locator(".compare >> nth=0")
    assert status.text_content() == INVITATION
    view.click("tbody b:text-is('vgg16') >> nth=0")
    assert status.text_content() == ("vgg16 by ReaL: ≈ 2 not different beyond noise, ▲ 1 better, ▽ 1 worse.")
    signs = view.locator("table.models >> nth=0 >> tbody tr").evaluate_all(
        "rows => rows.map(r => ['up', 'eq', 'sel', 'down'].find(c => r.classList.contains(c)))"
    )
    assert signs == ["up", "eq", "sel", "eq", "down", None]
    assert view.locator("table.models >> nth=1 >> tr.sel").count() == 1, "pinned on every data set"
    view.keyboard.press("Escape")
    assert view.locator(".sel, .eq, .up, .down").count() == 0
    assert status.text_content() == INVITATION


def test_pins_are_one_list_for_tables_and_figures(view):
    view.evaluate(LISTEN)
    view.click("tbody b:text-is('vgg16') >> nth=0")
    view.click("tbody b:text-is('alexnet') >> nth=0")
    assert view.evaluate("told") == [["pins", ["vgg16"]], ["pins", ["vgg16", "alexnet"]]]
    assert view.locator("table.models >> nth=0 >> tr.sel b").all_text_contents() == ["vgg16", "alexnet"]
    view.click("#pins button:has-text('vgg16')")
    assert view.locator("table.models >> nth=0 >> tr.sel b").all_text_contents() == ["alexnet"]
    detail = "document.dispatchEvent(new CustomEvent('manyhot:pins', {detail: ['squeezenet']}))"
    view.evaluate(detail)
    assert view.locator("table.models >> nth=0 >> tr.sel b").all_text_contents() == ["squeezenet"]
    view.click("#pins .clear")
    assert view.locator(".sel").count() == 0
    assert view.locator("#pins").is_hidden()


def test_pairs_that_were_not_compared_are_not_called_equal(visit, write):
    tables = results_table(some_rows()), pairs_table(p=lambda i, j: None if i == 0 else 0.001)
    page = visit(write(*tables))
    page.click("tbody b:text-is('timm/resnet50')")
    assert "≈ 0 not different beyond noise, ▲ 0 better, ▽ 0 worse, ? 4 not compared" in page.text_content(
        ".compare"
    )


def test_models_are_chosen_by_keyboard(view):
    first = view.locator("table.models >> nth=0 >> tbody b >> nth=0")
    stops = view.locator("table.models >> nth=0 >> tbody [tabindex='0']")
    assert stops.count() == 1
    first.focus()
    view.keyboard.press("ArrowDown")
    view.keyboard.press("ArrowDown")
    view.keyboard.press("Enter")
    assert view.locator("tr.sel >> nth=0 >> b").get_attribute("aria-pressed") == "true"
    assert view.locator("tr.sel >> nth=0 >> b").text_content() == "vgg16"
    assert stops.text_content() == "vgg16"


def test_pinning_by_keyboard_keeps_the_focus(view):
    view.locator("table.models >> nth=0 >> tbody b >> nth=0").focus()
    view.keyboard.press("ArrowDown")
    view.keyboard.press("Enter")
    view.keyboard.press("ArrowDown")
    assert view.evaluate("document.activeElement.textContent") == "vgg16"


def copied(page, table, kind):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.bring_to_front()  # The clipboard is for who has the focus.
    page.locator(f"{table} .copy button").get_by_text(kind, exact=True).click()
    # Not wait_for_function: where it has to wait, it evaluates a string, which the page's policy forbids.
    page.locator("#said", has_text="Copied").wait_for(state="attached")
    return page.evaluate("navigator.clipboard.readText()")


def test_copies_a_table_of_models(view):
    view.fill("#filter", "vgg")
    text = copied(view, ".dataset >> nth=0 >>", "CSV")
    heads, row = text.splitlines()
    assert heads.startswith("model,top1,top1_lo,top1_hi,top1_n,real1,")
    assert row.startswith("vgg16,66.0,65.0,67.0,1000,69.0,68.0,70.0,960,")
    view.click("#menu summary")
    for key in ("mla", "variable_topk", "asma"):
        view.uncheck(f"#menu [data-k={key}]")
    assert copied(view, ".dataset >> nth=1 >>", "Markdown").splitlines() == [
        "| Model | Top-1 % (n 400) | ReaL % (n 360) |",
        "|---|---:|---:|",
        "| vgg16 | 66.0 (65.0–67.0) | 69.0 (68.0–70.0) |",
    ]


def test_copies_a_table_of_comparisons(view):
    table = "#shift-drops-val-v2"
    view.locator(f"{table} summary").click()
    lines = copied(view, table, "LaTeX").splitlines()
    assert lines[:2] == [r"\begin{tabular}{llrrrrrrr}", r"\toprule"]
    assert lines[2].startswith(
        r"Metric & Model & From & To & Drop & 95 \% over images & 95 \% over families & "
    )
    assert lines[4].startswith(
        r"Top-1 & mean of 3 & 70.00 \% & 60.00 \% & 10.00 & 9.00 to 11.00 & 5.00 to 15.00 & "
    )
    assert lines[4].endswith(r" & -- & 1,000 $\to$ 400 \\")
    assert copied(view, table, "CSV").splitlines()[2] == (
        "Top-1,my/model,70.00 %,59.00 %,11.00,8.00 to 13.00,–,1.00,1000 → 400"
    )


def test_a_link_into_a_closed_table_opens_it(view):
    assert not view.locator("#labels-rejected-val table").is_visible()
    view.evaluate("location.hash = 'labels-rejected-val'")
    view.wait_for_selector("#labels-rejected-val table", state="visible")


@pytest.mark.parametrize("width", [390, 320])
def test_fits_a_phone(visit, small, width):
    page = visit(small, viewport={"width": width, "height": 844})
    assert page.evaluate(WIDTH) == width
    page.click("#menu summary")
    page.check("#menu [data-k=top5]")
    assert page.evaluate(WIDTH) == width


def test_a_table_that_is_cut_at_the_right_says_so(visit, small):
    page = visit(small, viewport={"width": 390, "height": 844})
    box = page.locator("#data-val .box")
    box.scroll_into_view_if_needed()
    page.locator("#data-val .box.cut").wait_for()
    box.evaluate("box => box.scrollTo(box.scrollWidth, 0)")
    page.locator("#data-val .box:not(.cut)").wait_for()


def test_other_tables_are_not_cut_on_a_phone(visit, small):
    """Each row is a block whose cells name their columns."""
    page = visit(small, viewport={"width": 390, "height": 844})
    page.evaluate("for (const d of document.querySelectorAll('details.listing')) d.open = true")
    cut = page.locator(".listing .box").evaluate_all(
        "boxes => boxes.filter(b => b.scrollWidth > b.clientWidth).map(b => b.parentElement.id)"
    )
    assert cut == []
    cell = page.locator("#shift-drops-val-v2 tbody td").nth(1)
    assert cell.evaluate("cell => getComputedStyle(cell, '::before').content") == '"From "'


def test_tables_with_many_columns_fit_a_screen(visit, small):
    page = visit(small)
    page.add_style_tag(content=".listing { content-visibility: visible !important }")
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    too_wide = "all => all.filter(b => b.scrollWidth > b.clientWidth + 1).map(b => b.ariaLabelledBy)"
    assert page.locator(".listing .box").evaluate_all(too_wide) == []
    lines = "all => all.filter(c => c.textContent.length <= 14 && c.offsetHeight > 50).length"
    assert page.locator(".listing tbody :is(th, td)").evaluate_all(lines) == 0, "few words stay on one line"


def test_heads_stay_with_their_rows_in_print(visit, small):
    page = visit(small)
    page.emulate_media(media="print")
    breaks = "rows => rows.slice(0, 4).map(row => getComputedStyle(row).breakBefore)"
    rows = page.locator("table.models >> nth=0 >> tbody tr")
    assert rows.evaluate_all(breaks) == ["avoid", "avoid", "avoid", "auto"]
    assert page.locator("pre").evaluate("pre => getComputedStyle(pre).breakInside") == "avoid"
    after = "p => [getComputedStyle(p).breakAfter, getComputedStyle(p).breakInside]"
    assert page.locator("#pictures > p").evaluate(after) == ["avoid", "avoid"]


def test_prints_in_light_and_without_controls(visit, small):
    page = visit(small, color_scheme="dark")
    page.emulate_media(media="print")
    assert len(models(page)) == 6
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("#bar").is_visible()
    assert not page.locator(".copy >> nth=0").is_visible()
    assert page.locator("#labels-rejected-val table").is_visible(), (
        "what is closed on screen is open on paper"
    )
    assert not page.locator("#theme").is_visible()
    assert page.locator(".box >> nth=0").evaluate("b => b.scrollHeight <= b.clientHeight + 1")


def test_becomes_a_pdf(visit, small):
    page = visit(small, color_scheme="dark")
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    assert 3 <= pdf.count(b"/Type /Page\n") <= 12, "pages"


def test_works_without_scripts(visit, small):
    page = visit(small, java_script_enabled=False)
    for control in ("#theme", ".find", "#menu", "#pins"):
        assert page.locator(control).is_hidden()
    assert page.locator(".models tbody tr").count() == 9
    assert page.locator("nav a").count() == 9


def test_hostile_names_do_nothing(visit, write):
    names, html = hostile_report(write)
    page = visit(html)
    # The search is not shown for so few models, but its names are hostile as well.
    page.evaluate("document.querySelector('.find').hidden = false")
    page.fill("#filter", "ONERROR")
    page.locator("table.models tbody b >> nth=1").click()
    assert page.locator(".compare b").text_content() == names[1]
    assert page.evaluate("typeof pwned") == "undefined"
    assert page.locator("img").count() == 0


def leaderboard(n, n_datasets):
    """Return results of many models on several data sets."""
    names = [f"timm/model_of_a_usual_length_{i:04d}.pretrained_in1k@224" for i in range(n)]
    return names, results_table(
        [
            number(f"data-{d}", model, metric, "all", 0.9 - 0.3 * i / n, 50_000, half=0.004)
            for d in range(n_datasets)
            for i, model in enumerate(names)
            for metric in ("top1", "real1", "mla", "coverage")
        ]
    )


@pytest.fixture(scope="module")
def many(write):
    names, results = leaderboard(1556, 5)
    return names, write(results, highlight=[names[700]])


def test_1556_models_on_five_data_sets_stay_small(many):
    _, html = many
    assert len(html.encode()) < 2_000_000
    n_nodes = sum(1 for node in parse(html).walk())
    assert n_nodes < 6_000


def test_1556_models_stay_small_with_their_figures(tmp_path):
    pytest.importorskip("altair")
    pytest.importorskip("vl_convert")
    names, results = leaderboard(1556, 2)
    page = write_report(tmp_path, ReportTables(results, {}), highlight=[names[700]])
    assert page.stat().st_size < 3_000_000
    root = parse(page.read_text(encoding="utf-8"))
    assert root.all("figure")
    assert sum(1 for node in root.walk()) < 9_000


def test_further_rows_come_when_asked_for(visit, many):
    names, html = many
    page = visit(html)
    first = models(page)
    assert first == [*names[:100], names[700]], "the first, and the user's own wherever it stands"
    assert (
        page.locator(".more >> nth=0")
        .text_content()
        .startswith("101 of 1,556 models are shown. All models are in results.csv.")
    )
    page.click(".dataset .more >> nth=0 >> button:text-is('Show more')")
    assert models(page) == [*names[:200], names[700]]
    assert page.evaluate("document.activeElement.textContent") == names[200 - 99]
    # The other data sets are folded.
    page.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true })")
    page.fill("#filter", "1234")
    assert models(page) == models(page, 4) == [names[1234]]
    row = page.locator("table.models >> nth=0 >> tbody tr")
    assert row.locator("i").text_content() == "1235"
    assert row.locator("td").all_text_contents() == ["66.21", "66.21", "66.21", "50,000"]
    row.locator("b").click()
    page.fill("#filter", "")
    assert models(page, 1) == [*names[:100], names[700], names[1234]], "pinned ones stay in sight"
    page.click(".dataset .more >> nth=0 >> button:has-text('All')")
    assert models(page) == names


def test_rows_built_from_data_look_as_those_that_came(visit, write):
    names, results = leaderboard(120, 1)
    page = visit(write(results, highlight=[names[3]]))
    page.click(".dataset .more button")
    page.click("#menu summary")
    page.check("#menu [data-k=coverage]")
    page.uncheck("#menu [data-k=coverage]")
    rebuilt = page.locator("tbody tr").evaluate_all("rows => rows.map(r => r.outerHTML)")
    fresh = (
        visit(write(results, highlight=[names[3]]))
        .locator("tbody tr")
        .evaluate_all("r => r.map(r => r.outerHTML)")
    )
    assert rebuilt[0] == fresh[0]
    assert rebuilt[3] == fresh[3]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_no_known_barriers(visit, small, scheme, width, require):
    package = "axe_playwright_python"
    require(find_spec(package), "axe, to look for barriers with (pip install axe-playwright-python)")
    axe = import_module(f"{package}.sync_playwright")
    page = visit(small, color_scheme=scheme, viewport={"width": width, "height": 900})
    page.locator("tbody b >> nth=1").click()
    page.add_style_tag(content="* { content-visibility: visible !important }")
    found = axe.Axe().run(page).response["violations"]
    assert [(v["id"], [n["html"] for n in v["nodes"]]) for v in found] == []


def test_no_known_barriers_in_figures_that_are_alive(visit, drawn, require):
    package = "axe_playwright_python"
    require(find_spec(package), "axe, to look for barriers with (pip install axe-playwright-python)")
    axe = import_module(f"{package}.sync_playwright")
    page = visit(drawn)
    page.locator("tbody b >> nth=1").click()
    for name in ("saturation-val", "rank-changes"):
        page.locator(f"#{name}").evaluate("figure => figure.scrollIntoView({ behavior: 'instant' })")
        page.locator(f"#{name} .plot[data-live]").wait_for()
    found = axe.Axe().run(page, context="main").response["violations"]
    assert [(v["id"], [n["html"] for n in v["nodes"]]) for v in found] == []
