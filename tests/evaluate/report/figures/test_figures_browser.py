"""What a reader does with figures, in a real browser."""

import json

import pytest

import figure_tables as given

pytest.importorskip("altair")
pytest.importorskip("vl_convert")

from manyhot.evaluate.report.figures import draw_figures
from manyhot.tables import schema
from visits import visitors

PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
PINS = "document.dispatchEvent(new CustomEvent('manyhot:pins', {detail: %s}))"
FIND = "document.dispatchEvent(new CustomEvent('manyhot:find', {detail: %s}))"


@pytest.fixture(scope="module")
def small():
    chosen = (
        "set-sizes",
        "models-val",
        "set-size-accuracy-val",
        "shift-val-v2",
        "drops-val-v2",
        "rank-changes",
    )
    # Points are drawn without a line only where none was fitted.
    unfitted = draw_figures(given.everything(fits=schema("fits").empty_table()), own=["beta"])
    figures = {f.name: f for f in (*unfitted, *draw_figures(given.everything(), own=["beta"]))}
    return given.page_of([figures[name] for name in chosen])


@pytest.fixture(scope="module")
def visits(whole_chromium):
    with visitors(whole_chromium) as visits:
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
    assert view.locator(".fig .panel svg").count() == 2 + 1 + 3 + 2 + 1 + 1
    assert view.evaluate("typeof vegaEmbed") == "undefined", "nothing of the bundle has run"


def test_is_complete_without_script(visit, small):
    page = visit(small, java_script_enabled=False)
    assert page.locator(".fig .panel svg").count() == 10
    assert page.locator("#models-val svg text", has_text="beta").count() == 1
    assert page.locator("#models-val svg[role=img]").get_attribute("aria-label").startswith("5 of 5 models")


def test_comes_alive_near_the_reader(view):
    awaken(view, "models-val")
    assert view.locator("#models-val .live svg").count() == 1
    assert view.locator("#rank-changes[data-live]").count() == 0


DRAWN = """plot => [...plot.querySelectorAll("svg")].map(svg => {
  const { left, top, width, height } = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll("text")].filter(text => text.textContent).map(text => {
    const box = text.getBoundingClientRect();
    return [text.textContent, box.left - left, box.top - top, box.right - left, box.bottom - top];
  });
  return { width, height, texts: texts.sort() };
})"""


WIDE = """() => {
  const { prototype } = CanvasRenderingContext2D;
  const measure = prototype.measureText;
  prototype.measureText = function (text) { return { width: 1.2 * measure.call(this, text).width }; };
}"""


@pytest.mark.parametrize("font", ["", "DejaVu Sans"])
def test_looks_the_same_alive_and_cuts_no_text_in_any_font(visit, small, font):
    page = visit(small)
    if font:
        page.add_style_tag(content=f".fig svg text {{ font-family: {font} !important }}")
        page.evaluate(WIDE)
    for name in ("models-val", "set-size-accuracy-val", "rank-changes"):
        before = page.locator(f"#{name} .plot").evaluate(DRAWN)
        awaken(page, name)
        after = page.locator(f"#{name} .plot").evaluate(DRAWN)
        for still, alive in zip(before, after, strict=True):
            width, height = still["width"], still["height"]
            assert (alive["width"], alive["height"]) == (width, height)
            assert [text for text, *_ in alive["texts"]] == [text for text, *_ in still["texts"]]
            for (text, *was), (_, *place) in zip(still["texts"], alive["texts"], strict=True):
                assert place == pytest.approx(was, abs=1.5), text
                assert all(-2 < v < most + 2 for v, most in zip(place, (width, height) * 2, strict=True)), (
                    text
                )


def test_comes_alive_in_a_page_that_is_never_idle(visit, small):
    page = visit(small)
    page.evaluate("window.requestIdleCallback = (f, o) => o?.timeout && setTimeout(f, o.timeout)")
    awaken(page, "models-val")


def test_names_the_model_pointed_at(view):
    awaken(view, "models-val")
    point_at(view, "models-val")
    view.locator(".fig-tip").wait_for()
    tip = view.locator(".fig-tip").inner_text()
    assert tip.startswith("alpha")
    assert "Top-1, original labels: 70.00 % (69.00 to 71.00)" in tip
    view.mouse.move(2, 2)
    view.wait_for_function("document.querySelector('.fig-tip').hidden")


def test_a_tooltip_goes_when_the_page_is_scrolled_or_tapped_elsewhere(visit, small):
    page = visit(small, **PHONE)
    page.evaluate("document.dispatchEvent(new CustomEvent('manyhot:find', {detail: ''}))")
    awaken(page, "models-val")
    page.touchscreen.tap(*point_at(page, "models-val"))
    page.locator(".fig-tip").wait_for()
    page.evaluate("scrollBy(0, 40)")
    page.locator(".fig-tip").wait_for(state="hidden")
    page.touchscreen.tap(*point_at(page, "models-val", 1))
    page.locator(".fig-tip").wait_for()
    title = page.locator("#models-val figcaption").bounding_box()
    page.touchscreen.tap(title["x"] + 5, title["y"] + 5)
    page.locator(".fig-tip").wait_for(state="hidden")


def test_a_click_pins_in_all_figures(view):
    view.evaluate("window.heard = []; document.addEventListener('manyhot:pins', e => heard.push(e.detail))")
    awaken(view, "models-val")
    place = point_at(view, "models-val")
    view.mouse.click(*place)
    assert view.evaluate("heard") == [["alpha"]]
    awaken(view, "shift-val-v2")
    assert view.locator("#shift-val-v2 .pinned").inner_text() == "1 alpha", "also in what came alive later"
    assert badges(view, "shift-val-v2") == ["1"] * 3, "in each panel"
    awaken(view, "models-val")
    view.mouse.click(*point_at(view, "models-val"))
    assert view.evaluate("heard") == [["alpha"], []]
    assert view.locator(".pinned").count() == 0
    view.wait_for_function("!document.querySelector('.live text[font-size=\"10px\"]')")


def badges(page, name):
    """Return the numbers that the marks of pinned models wear."""
    return page.locator(f"#{name} .live text[font-size='10px']").all_text_contents()


def named_on_marks(page, name):
    found = page.locator(f"#{name} svg text").all_text_contents()
    return sorted(text for text in found if "gamma" in text or "delta" in text)


def test_pinned_models_are_named_below_each_figure_and_numbered_on_their_marks(view):
    view.evaluate(PINS % json.dumps(["gamma", "not here", "delta"]))
    said = ["1 gamma", "2 not here (not in this figure)", "3 delta"]
    numbers = {"set-size-accuracy-val": 2, "drops-val-v2": 3, "rank-changes": 6}
    for name, n in numbers.items():
        written = named_on_marks(view, name)
        awaken(view, name)
        assert view.locator(f"#{name} .pinned li").all_inner_texts() == said
        view.wait_for_function(
            "n => document.querySelectorAll(`#${n[0]} .live text[font-size='10px']`).length === n[1]",
            arg=[name, 2 * n],
        )
        assert set(badges(view, name)) == {"1", "3"}
        assert named_on_marks(view, name) == written, "no other names than those of the drawing"
    colours = view.locator("#drops-val-v2 .pinned i").evaluate_all(
        "all => all.map(i => getComputedStyle(i).backgroundColor)"
    )
    assert len(set(colours)) == 3


def test_listens_to_pins_and_search_of_the_page(view):
    awaken(view, "models-val")
    view.evaluate(PINS % json.dumps(["gamma", "not here"]))
    view.locator("#models-val .pinned", has_text="gamma").wait_for()
    view.evaluate(PINS % "[]")
    view.wait_for_function("!document.querySelector('.live text[font-size=\"10px\"]')")
    marks = "document.querySelectorAll('#models-val .live .mark-symbol path').length"
    before = view.evaluate(marks)
    view.evaluate(FIND % json.dumps("ta del"))
    view.wait_for_function(f"{marks} === {before + 1}")
    view.evaluate(FIND % json.dumps(""))
    view.wait_for_function(f"{marks} === {before}")


def test_only_figures_of_models_are_a_stop_of_the_keyboard_and_say_how(view):
    plot = view.locator("#models-val .plot")
    assert plot.get_attribute("role") == "group"
    assert plot.get_attribute("aria-label").endswith(
        ": use the arrow keys to move between models, and Enter to pin a model"
    )
    stops = view.locator(".fig [tabindex='0']")
    assert stops.evaluate_all("all => all.map(e => e.closest('.fig').id)") == [
        "models-val",
        "set-size-accuracy-val",
        "shift-val-v2",
        "drops-val-v2",
        "rank-changes",
    ]


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
    sizes = page.locator(".panel").evaluate_all(
        "all => all.map(p => [p.clientWidth, p.scrollWidth, parseFloat(p.style.getPropertyValue('--w'))])"
    )
    assert sizes
    for width, content, drawn in sizes:
        assert content >= 0.8 * drawn - 1, "texts of 12 px have 9.6 at least"
        assert content <= max(width, 0.8 * drawn) + 1, "only a drawing that would be smaller scrolls"


def test_the_caption_of_a_lone_small_figure_stands_beside_it(view):
    alone = set(view.locator(".lone").evaluate_all("all => all.map(f => f.id)"))
    assert {"models-val", "drops-val-v2"} <= alone
    assert "shift-val-v2" not in alone, "there is no room beside three panels"
    plot, caption = (view.locator(f"#models-val {e}").bounding_box() for e in (".plot", "figcaption"))
    assert caption["x"] > plot["x"] + plot["width"]
    assert caption["y"] == pytest.approx(plot["y"], abs=4)


def test_links_lead_to_a_figure(visit, small):
    page = visit(small)
    page.locator("#rank-changes h4 a").click()
    assert page.url.endswith("#rank-changes")


@pytest.mark.slow
def test_is_alive_with_very_many_models(visit):
    """How quickly it opens is measured by benchmarks/compare.py."""
    page = visit(given.page_of(draw_figures(given.many())))
    awaken(page, "shift-val-v2")
    point_at(page, "shift-val-v2", 700)
    page.locator(".fig-tip").wait_for()
