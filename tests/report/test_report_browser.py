"""What a reader does with a report, in a real browser."""

import pytest
from report_pages import MODELS, pairs_table, parse, results_table, some_rows
from test_report_page import hostile_report

WIDTH = "document.documentElement.scrollWidth"


@pytest.fixture
def visit(chromium, tmp_path):
    """Return a function that opens a page's text; what the console says fails the test."""
    contexts, said = [], []

    def visit(html, **options):
        path = tmp_path / "index.html"
        path.write_text(html, encoding="utf-8")
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda r: r.url.startswith(("file:", "data:")) or said.append(r.url))
        page.goto(path.as_uri())
        return page

    yield visit
    for context in contexts:
        context.close()
    assert said == []


@pytest.fixture
def view(visit, small):
    return visit(small)


def models(page, at=0):
    """Return the names in the rows that can be seen."""
    names = page.locator("table").nth(at).locator("tbody tr:visible b")
    return names.all_text_contents()


def head(page, name):
    return page.locator(f"table >> nth=0 >> th[data-k='{name}']")


def sorting(page, at=0):
    script = (
        "t => [...t.tHead.rows[0].cells].flatMap(c => c.ariaSort ? [c.dataset.k ?? 'model', c.ariaSort] : [])"
    )
    return page.locator("table").nth(at).evaluate(script)


def test_sorts_by_click(view):
    view.locator("table >> nth=0 >> th >> nth=0 >> .head").click()
    assert sorting(view) == ["model", "ascending"]
    assert models(view) == sorted([*MODELS, "nothing-counts"])
    head(view, "top1").locator(".head").click()
    assert sorting(view) == ["top1", "descending"]
    assert models(view) == [*MODELS, "nothing-counts"]
    head(view, "top1").locator(".head").click()
    assert sorting(view) == ["top1", "ascending"]
    assert models(view) == [*reversed(MODELS), "nothing-counts"], "what has no value stays last"
    places = view.locator("table >> nth=0 >> tbody i").all_text_contents()
    assert places == ["5", "4", "3", "2", "1", ""]
    assert sorting(view, 1) == ["real1", "descending"], "each table is sorted for itself"


def test_sorts_by_keyboard(view):
    head(view, "mla").locator(".head").focus()
    view.keyboard.press("Enter")
    assert sorting(view) == ["mla", "descending"]
    view.keyboard.press(" ")
    assert sorting(view) == ["mla", "ascending"]
    assert view.evaluate("document.activeElement.closest('th').dataset.k") == "mla"


def test_filters_in_tables_and_figures(view):
    view.fill("#filter", "NET timm")
    assert models(view) == models(view, 1) == ["timm/resnet50"]
    assert view.text_content("#found") == "1 of 6 models"
    assert view.locator(".scatter >> nth=0 >> .pt:not(.off)").count() == 1
    view.fill("#filter", "")
    assert len(models(view)) == 6
    assert view.text_content("#found") == "6 models"
    assert view.locator(".off").count() == 0


def test_the_theme_is_the_systems_until_it_is_chosen(visit, small):
    page = visit(small, color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    assert page.text_content("#theme") == "Theme: auto"
    page.click("#theme")
    assert page.text_content("#theme") == "Theme: light"
    assert page.evaluate(ground) == "rgb(255, 255, 255)" != dark
    page.reload()
    assert page.text_content("#theme") == "Theme: light"
    page.click("#theme")
    assert page.evaluate(ground) == dark


def test_shows_further_columns_and_intervals_as_text(view):
    assert not head(view, "top5").is_visible()
    view.click("#menu summary")
    view.check("#menu [data-k=top5]")
    view.uncheck("#menu [data-k=mla]")
    assert head(view, "top5").is_visible()
    assert not head(view, "mla").is_visible()
    view.check("#texts")
    shown = "td => getComputedStyle(td, '::after').display"
    assert view.locator("table >> nth=0 >> td >> nth=0").evaluate(shown) == "block"
    view.keyboard.press("Escape")
    assert not view.locator("#menu > div").is_visible()


def test_tells_which_models_differ_beyond_noise(view):
    status = view.locator(".compare >> nth=0")
    assert status.text_content() == "Click a model to see which others it differs from beyond noise."
    view.click("tbody b:text-is('vgg16') >> nth=0")
    assert status.text_content() == (
        "vgg16 by ReaL: ≈ 2 not different beyond noise, ▲ 1 better, ▽ 1 worse. Esc clears."
    )
    signs = view.locator("table >> nth=0 >> tbody tr").evaluate_all(
        "rows => rows.map(r => ['up', 'eq', 'sel', 'down'].find(c => r.classList.contains(c)))"
    )
    assert signs == ["up", "eq", "sel", "eq", "down", None]
    assert view.locator("table >> nth=1 >> tr.sel").count() == 1, "chosen on every data set"
    view.keyboard.press("Escape")
    assert view.locator(".sel, .eq, .up, .down").count() == 0


def test_pairs_that_were_not_compared_are_not_called_equal(visit, write):
    tables = results_table(some_rows()), pairs_table(p=lambda i, j: None if i == 0 else 0.001)
    page = visit(write(*tables))
    page.click("tbody b:text-is('timm/resnet50')")
    assert "≈ 0 not different beyond noise, ▲ 0 better, ▽ 0 worse, ? 4 not compared" in page.text_content(
        ".compare"
    )


def test_models_are_chosen_by_keyboard(view):
    first = view.locator("table >> nth=0 >> tbody b >> nth=0")
    stops = view.locator("table >> nth=0 >> tbody [tabindex='0']")
    assert stops.count() == 1
    first.focus()
    view.keyboard.press("ArrowDown")
    view.keyboard.press("ArrowDown")
    view.keyboard.press("Enter")
    assert view.locator("tr.sel >> nth=0 >> b").get_attribute("aria-pressed") == "true"
    assert view.locator("tr.sel >> nth=0 >> b").text_content() == "vgg16"
    assert stops.text_content() == "vgg16"


def test_pointing_at_a_model_names_it_in_the_figures(view):
    view.locator("table >> nth=0 >> tbody b >> nth=2").hover()
    assert view.locator(".scatter >> nth=0 >> .readout").text_content().startswith("vgg16: Top-1 66.0 %")
    assert view.locator(".hot").count() == 2 * (1 + 1 + 3), "row, point and lines, on both data sets"


def test_a_figure_is_one_stop_and_arrows_lead_through_it(view):
    points = view.locator(".scatter >> nth=0 >> .pt[tabindex='0']")
    assert points.count() == 1
    points.focus()
    view.keyboard.press("ArrowRight")
    assert view.evaluate("document.activeElement.querySelector('title').textContent").startswith("vgg16:")


@pytest.mark.parametrize("width", [390, 320])
def test_fits_a_phone(visit, small, width):
    page = visit(small, viewport={"width": width, "height": 844})
    assert page.evaluate(WIDTH) == width
    page.click("#menu summary")
    page.check("#menu [data-k=top5]")
    assert page.evaluate(WIDTH) == width


def test_prints_all_rows_in_light_and_no_controls(visit, small):
    page = visit(small, color_scheme="dark")
    page.fill("#filter", "vgg")
    page.emulate_media(media="print")
    assert len(models(page)) == 6
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("#bar").is_visible()
    assert not page.locator("#theme").is_visible()
    assert page.locator(".box >> nth=0").evaluate("b => b.scrollHeight <= b.clientHeight + 1")


def test_works_without_scripts(visit, small):
    page = visit(small, java_script_enabled=False)
    assert page.locator("#bar").is_hidden()
    assert page.locator("tbody tr").count() == 9
    assert page.locator(".scatter circle").count() == 8
    point = page.locator(".pt:not(.named) text")
    assert point.count() == 0 or not point.first.is_visible()


def test_hostile_names_do_nothing(visit, write):
    names, html = hostile_report(write)
    page = visit(html)
    page.fill("#filter", "ONERROR")
    page.locator("table tbody b >> nth=1").click()
    assert page.locator(".compare b").text_content() == names[1]
    assert page.evaluate("typeof pwned") == "undefined"
    assert page.locator("img").count() == 0


def test_a_thousand_models_open_in_seconds(visit, write):
    names = [f"timm/model_{i:04d}.in1k" for i in range(1000)]
    rows = some_rows(models=names)
    rows = [(*row[:4], row[4] % 1, row[4] % 1, row[4] % 1, *row[7:]) for row in rows]
    html = write(results_table(rows), highlight=names[500:501])
    assert len(html) < 2_000_000
    assert len(parse(html).all("path", "ln")) == 3000
    page = visit(html)
    took = page.evaluate("performance.timing.loadEventEnd - performance.timing.navigationStart")
    assert took < 10_000
