"""What a reader does with figures, in a real browser."""

import json

import figure_tables as given
import pytest

pytest.importorskip("altair")
pytest.importorskip("vl_convert")

from manyhot.report.figures import draw_figures

PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
PINS = "document.dispatchEvent(new CustomEvent('manyhot:pins', {detail: %s}))"
FIND = "document.dispatchEvent(new CustomEvent('manyhot:find', {detail: %s}))"


@pytest.fixture(scope="module")
def small():
    chosen = (
        "set-sizes",
        "models-val",
        "shift-val-v2",
        "set-size-accuracy-val",
        "drops-val-v2",
        "rank-changes",
    )
    figures = draw_figures(given.everything(), own=["beta"], command="manyhot report results")
    return given.page_of([f for f in figures if f.name in chosen])


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


def awaken(page, name):
    """Come near a figure, and wait until it is alive."""
    page.mouse.move(20, 20)
    page.locator(f"#{name}").scroll_into_view_if_needed()
    page.locator(f"#{name} .plot[data-live]").wait_for()


def point_at(page, name, at=0):
    """Move the pointer onto the mark of a model, and return where it is."""
    mark = page.locator(f"#{name} .live .mark-symbol path").nth(at).bounding_box()
    place = (mark["x"] + mark["width"] / 2, mark["y"] + mark["height"] / 2)
    page.mouse.move(*place)
    return place


def texts(page, name):
    return page.locator(f"#{name} .live text").all_text_contents()


def test_is_complete_before_anyone_moves(view):
    view.wait_for_timeout(300)
    assert view.locator("[data-live]").count() == 0
    assert view.locator(".fig .panel svg").count() == 2 + 1 + 3 + 3 + 1 + 1
    assert view.evaluate("typeof vegaEmbed") == "undefined", "nothing of the bundle has run"


def test_is_complete_without_script(visit, small):
    page = visit(small, java_script_enabled=False)
    assert page.locator(".fig .panel svg").count() == 11
    assert page.locator("#models-val svg text", has_text="beta").count() == 1
    assert page.locator("#models-val svg[role=img]").get_attribute("aria-label").startswith("5 of 5 models")


def test_comes_alive_near_the_reader(view):
    awaken(view, "models-val")
    assert view.locator("#models-val .live svg").count() == 1
    assert view.locator("#rank-changes[data-live]").count() == 0


def test_looks_the_same_alive(view):
    before = view.locator("#models-val .panel").bounding_box()
    still = texts_of_static(view, "models-val")
    awaken(view, "models-val")
    after = view.locator("#models-val .panel").bounding_box()
    assert (after["width"], after["height"]) == pytest.approx((before["width"], before["height"]), abs=2)
    assert set(texts(view, "models-val")) == set(still)


def texts_of_static(page, name):
    return page.locator(f"#{name} svg text").all_text_contents()


def test_names_the_model_pointed_at(view):
    awaken(view, "models-val")
    point_at(view, "models-val")
    view.locator(".fig-tip").wait_for()
    tip = view.locator(".fig-tip").inner_text()
    assert tip.startswith("alpha")
    assert "Top-1, original labels: 70.00 % (69.00 to 71.00)" in tip
    assert texts(view, "models-val").count("alpha") == 1
    view.mouse.move(2, 2)
    view.wait_for_function("document.querySelector('.fig-tip').hidden")


def test_a_click_pins_in_all_figures(view):
    view.evaluate("window.heard = []; document.addEventListener('manyhot:pins', e => heard.push(e.detail))")
    awaken(view, "models-val")
    place = point_at(view, "models-val")
    view.mouse.click(*place)
    assert view.evaluate("heard") == [["alpha"]]
    awaken(view, "shift-val-v2")
    assert texts(view, "shift-val-v2").count("alpha") == 3, "also in what came alive later, in each panel"
    awaken(view, "models-val")
    view.mouse.click(*point_at(view, "models-val"))
    assert view.evaluate("heard") == [["alpha"], []]
    view.mouse.move(2, 2)
    view.wait_for_function(
        "![...document.querySelectorAll('.live text')].some(t => t.textContent === 'alpha')"
    )


def test_listens_to_pins_and_search_of_the_page(view):
    awaken(view, "models-val")
    view.evaluate(PINS % json.dumps(["gamma", "not here"]))
    view.wait_for_function(
        "[...document.querySelectorAll('#models-val text')].some(t => t.textContent === 'gamma')"
    )
    view.evaluate(PINS % "[]")
    marks = "document.querySelectorAll('#models-val .live .mark-symbol path').length"
    before = view.evaluate(marks)
    view.evaluate(FIND % json.dumps("ta del"))
    view.wait_for_function(f"{marks} === {before + 1}")
    view.evaluate(FIND % json.dumps(""))
    view.wait_for_function(f"{marks} === {before}")


def test_goes_from_model_to_model_by_keyboard(view):
    awaken(view, "models-val")
    view.locator("#models-val .plot").focus()
    view.keyboard.press("ArrowRight")
    readout = view.locator("#models-val .readout")
    assert readout.inner_text().startswith("alpha, Top-1, original labels: 70.00 %")
    view.keyboard.press("End")
    assert readout.inner_text().startswith("omega's <b>&, ")
    view.evaluate("window.heard = []; document.addEventListener('manyhot:pins', e => heard.push(e.detail))")
    view.keyboard.press("Enter")
    assert view.evaluate("heard") == [["omega's <b>&"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_follows_the_theme(visit, small, scheme):
    page = visit(small, color_scheme=scheme)
    awaken(page, "models-val")
    ink = "getComputedStyle(document.querySelector('#models-val .live .role-axis-title text')).fill"
    assert page.evaluate(ink) == {"light": "rgb(21, 25, 29)", "dark": "rgb(232, 235, 238)"}[scheme]


def test_fits_a_phone(visit, small):
    page = visit(small, **PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    wide = page.locator(".panel").evaluate_all(
        "all => all.filter(p => p.scrollWidth > p.clientWidth + 1).map(p => p.closest('.fig').id)"
    )
    assert wide in ([], ["rank-changes"]), "only the widest is scrolled"


def test_links_lead_to_a_figure(visit, small):
    page = visit(small)
    page.locator("#rank-changes h4 a").click()
    assert page.url.endswith("#rank-changes")
    assert page.locator("#rank-changes details code").text_content() == "manyhot report results"


def test_opens_quickly_with_very_many_models(visit):
    page = visit(given.page_of(draw_figures(given.many())))
    page.wait_for_load_state("load")
    timing = page.evaluate("performance.timing.loadEventEnd - performance.timing.navigationStart")
    assert timing < 1000
    awaken(page, "shift-val-v2")
    point_at(page, "shift-val-v2", 700)
    page.locator(".fig-tip").wait_for()
