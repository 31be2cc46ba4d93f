"""Whether everybody can use the page: by touch, at phone width, with a screen reader, in the dark."""

import io
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest

import raters_page
from raters_page import CLASSES, NAMES, make, served, until, visitors

DESK = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
LYING = PHONE | {"viewport": {"width": 844, "height": 390}}


@pytest.fixture
def visit(chromium):
    with visitors(chromium, offline=True) as visit:
        yield visit


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    folder = tmp_path_factory.mktemp("campaign")
    with served(make(folder, pages=8, classes=range(8), examples=8, raters=20, show_label=True)) as campaign:
        yield campaign


def violations(page):
    """Return what axe finds fault with."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page).response["violations"]
    return [(v["id"], [node["html"] for node in v["nodes"]]) for v in found]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [DESK, DESK | {"color_scheme": "dark"}, PHONE, PHONE | {"color_scheme": "dark"}],
    ids=["light", "dark", "phone", "dark phone"],
)
def test_accessibility_of_each_state(campaign, visit, options):
    ann = visit(campaign.link(f"ann {options}"[:80]), begin=False, **options)
    assert violations(ann.page) == []
    ann.page.get_by_role("button", name="Begin").click()
    ann.settle()
    assert violations(ann.page) == []
    ann.press("1", "s", "Shift+Digit2", "ArrowDown", "n")
    assert violations(ann.page) == []
    for key, words in (("a", "fish"), ("c", "a comment"), ("?", "")):
        ann.press(key)
        ann.page.keyboard.type(words)
        if key == "a":
            ann.page.get_by_role("option", name="goldfish").wait_for()
        assert violations(ann.page) == []
        ann.page.keyboard.press("Escape")
    ann.press("e")
    assert violations(ann.page) == []
    ann.press("e")
    ann.page.context.set_offline(True)
    for _ in range(5):
        ann.page.wait_for_timeout(270)
        ann.page.keyboard.press("Enter")
    ann.page.locator("#trouble").wait_for()
    assert violations(ann.page) == []
    ann.page.context.set_offline(False)
    ann.page.context.clear_cookies()
    ann.page.reload()
    ann.page.get_by_text("Open your invitation link").wait_for()
    assert violations(ann.page) == []


def test_accessibility_of_a_link_that_has_ended(campaign, visit):
    ann = visit(f"{campaign.address}/join/none", begin=False)
    ann.page.get_by_text("This invitation is no longer valid.").wait_for()
    assert violations(ann.page) == []


def test_eight_classes_with_their_examples_fit_a_small_desk(campaign, visit):
    ann = visit(campaign.link("desk"))
    ann.settle()
    fits = """
        [...document.querySelectorAll('#classes > li, #classes img, #classes label, #next')].every((e) => {
          const box = e.getBoundingClientRect();
          return box.height > 20 && box.top >= 0 && box.bottom <= innerHeight && box.right <= innerWidth;
        })"""
    ann.until("[...document.querySelectorAll('.examples img')].every(e => e.complete && e.naturalWidth)")
    assert ann.page.locator("#classes img").count() == 64
    assert ann.page.evaluate(fits)
    assert ann.page.evaluate(
        "document.querySelector('#classes').scrollHeight <= document.querySelector('#classes').clientHeight"
    )


def test_a_phone_by_touch(tmp_path, visit):
    with served(make(tmp_path, pages=2)) as campaign:
        ann = visit(campaign.link(refines=True), **PHONE)
        ann.settle()
        assert ann.page.evaluate("document.documentElement.scrollWidth") == 390
        sizes = ann.page.eval_on_selector_all(
            ".answers span, .main, .actions button, #help-button, #zoom-in, #zoom-out",
            "all => all.map(e => e.getBoundingClientRect().height)",
        )
        assert min(sizes) >= 44
        ann.page.locator("#help-button").tap()
        ann.page.get_by_role("link", name="Disagreements").wait_for()
        ann.page.locator("#help").get_by_role("button", name="Close").tap()
        ann.row(1).locator(".yes").tap()
        ann.row(1).locator(".main").tap()
        ann.row(0).locator(".examples").tap()
        ann.page.locator("#enlarged").get_by_text("a cat with stripes").wait_for()
        assert not ann.page.locator("#hint").evaluate(UNCOVERED)  # of half a hint nobody makes sense
        ann.page.get_by_role("button", name="Close the examples").tap()
        ann.page.get_by_role("button", name="Next", exact=True).tap()
        ann.settle()
        ann.page.get_by_role("button", name="None").tap()
        ann.page.get_by_role("heading", name="All done").wait_for()
        ann.sent()
        until(lambda: len(campaign.votes()) == 6)
        assert sorted(v[-1] for v in campaign.votes().values()) == ["no"] * 5 + ["yes*"]


def scale(rater):
    return rater.page.evaluate(
        "new DOMMatrix(getComputedStyle(document.querySelector('#frame > img')).transform).a"
    )


def test_zoom_and_pan(campaign, visit):
    ann = visit(campaign.link("zoom"))
    ann.settle()
    assert scale(ann) == 1
    ann.page.mouse.move(300, 400)
    ann.page.mouse.wheel(0, -300)
    assert scale(ann) > 1.5
    ann.press("f")
    assert scale(ann) == 1
    ann.press("+", "+")
    assert scale(ann) == pytest.approx(1.96)
    moved = "new DOMMatrix(getComputedStyle(document.querySelector('#frame > img')).transform).e"
    before = ann.page.evaluate(moved)
    ann.press("Shift+ArrowRight")
    assert ann.page.evaluate(moved) < before
    ann.page.mouse.dblclick(300, 400)
    assert scale(ann) == 1
    ann.page.mouse.dblclick(300, 400)
    assert scale(ann) == 2.5
    ann.press("Enter")
    ann.settle()
    assert scale(ann) == 1


def test_each_example_is_its_own_square_of_the_strip(tmp_path, visit):
    campaign = make(tmp_path, pages=1, classes=range(3), examples=9)
    colours = [(25 * n, 220 - 20 * n, 90 * (n % 3)) for n in range(9)]
    for n, colour in enumerate(colours):
        PIL.Image.new("RGB", (96, 96), colour).save(tmp_path / f"e1-{n}.jpg", quality=95)
    shown = []
    with served(campaign):
        ann = visit(campaign.link())
        ann.settle()
        ann.until("[...document.querySelectorAll('.examples img')].every(e => e.complete && e.naturalWidth)")
        for image in ann.row(1).locator(".examples img").all():
            data = PIL.Image.open(io.BytesIO(image.screenshot())).convert("RGB")
            shown.append(data.getpixel((data.width // 2, data.height // 2)))
        strips = ann.page.evaluate(
            "performance.getEntriesByType('resource').map(e => e.name).filter(n => n.includes('/examples/'))"
        )
    assert np.abs(np.array(shown) - colours[:8]).max() <= 12
    assert len(strips) == 3  # one request a class


def box(rater, selector):
    return rater.page.locator(selector).first.bounding_box()


@pytest.mark.parametrize("examples", [0, 4])
def test_nothing_is_cut_off_at_any_width(tmp_path, visit, examples):
    with served(make(tmp_path, pages=1, classes=range(8), examples=examples)) as campaign:
        ann = visit(campaign.link())
        ann.settle()
        for width in (1920, 1440, 1280, 1100, 1001, 1000, 768, 390):
            ann.page.set_viewport_size({"width": width, "height": 720})
            for selector in ("#next", "#back", "#classes > li .main", "#help-button"):
                found = box(ann, selector)
                assert found["x"] >= 0, (width, selector)
                assert found["x"] + found["width"] <= width, (width, selector)
            assert box(ann, "#frame > img")["width"] >= 0.3 * width


def test_without_examples_the_image_has_their_room(tmp_path, visit):
    sizes = {}
    for examples in (0, 4):
        with served(make(tmp_path / str(examples), pages=1, examples=examples)) as campaign:
            ann = visit(campaign.link())
            ann.settle()
            sizes[examples] = box(ann, "#frame")["width"], box(ann, "#classes > li")["height"]
            before = box(ann, ".no span")["x"]
            ann.press("1", "2", "3")
            assert box(ann, ".no span")["x"] == before  # nothing moves when a word is bold
    assert sizes[0][0] > 1.1 * sizes[4][0]
    assert sizes[0][1] < 100 < sizes[4][1]


def test_what_is_said_of_an_image_goes_with_it(campaign, visit):
    ann = visit(campaign.link("toast"))
    ann.settle()
    ann.press("c")
    ann.page.keyboard.type("a remark")
    ann.page.keyboard.press("Enter")
    assert ann.page.locator("#toast").is_visible()
    ann.press("Enter")
    assert not ann.page.locator("#toast").is_visible()


def test_examples_larger_by_hover_and_key(campaign, visit):
    ann = visit(campaign.link("hover"))
    ann.settle()
    ann.until("document.querySelector('.examples img').naturalWidth")
    ann.page.locator(".examples img").first.hover()
    ann.page.locator("#preview").wait_for()
    ann.page.mouse.move(10, 400)
    assert not ann.page.locator("#preview").is_visible()
    ann.press("ArrowDown", "e")
    assert ann.page.inner_text("#enlarged-title") == f"2 {ann.names[1]}"
    ann.press("y")  # answers, and shows the next class
    assert ann.page.inner_text("#enlarged-title") == f"3 {ann.names[2]}"
    assert ann.answers()[:3] == ["", "yes", ""]
    ann.page.keyboard.press("Escape")
    assert not ann.page.locator("#enlarged").is_visible()


def test_what_a_screen_reader_hears(campaign, visit):
    ann = visit(campaign.link("ears"))
    ann.settle()
    assert ann.page.inner_text("#say") == (f"Original label {NAMES[0]}. Classes: {', '.join(ann.names)}.")
    ann.press("1")
    assert ann.page.inner_text("#say") == f"{ann.names[0]}: yes."
    ann.press("s")
    assert ann.page.inner_text("#say") == f"{ann.names[0]}: yes, the main object."
    ann.press("ArrowDown")
    assert ann.page.inner_text("#say") == ann.names[1]


UNCOVERED = """(e) => {
    const box = e.getBoundingClientRect();
    return [box.top + 2, box.bottom - 2].some((y) => e.contains(document.elementFromPoint(box.left + 20, y)));
}"""


@pytest.mark.parametrize("options", [DESK, PHONE, LYING], ids=["desk", "phone", "lying phone"])
def test_the_hint_covers_nothing(campaign, visit, options):
    ann = visit(campaign.link(f"hint {options}"[:80]), **options)
    ann.settle()
    hint, image, first, last = (
        ann.page.locator(s).first.bounding_box() for s in ("#hint", "#frame", ".row", ".actions")
    )
    assert ann.page.locator("#hint").evaluate(UNCOVERED)
    assert options is DESK or image["y"] + image["height"] <= last["y"]
    for other in (image, first, last):
        beside = hint["x"] + hint["width"] <= other["x"] or other["x"] + other["width"] <= hint["x"]
        assert beside or hint["y"] + hint["height"] <= other["y"] or other["y"] + other["height"] <= hint["y"]


@pytest.mark.parametrize("options", [DESK, PHONE], ids=["desk", "phone"])
def test_a_long_definition_can_be_read_without_keys(tmp_path, visit, options, monkeypatch):
    text = "any of several domestic fowl " * 20
    long = replace(CLASSES, definitions=(text, *CLASSES.definitions[1:]))
    monkeypatch.setattr(raters_page, "CLASSES", long)
    with served(make(tmp_path)) as campaign:
        ann = visit(campaign.link(), **options)
        ann.settle()
        definition = ann.row(0).locator(".definition")
        is_cut = definition.evaluate("e => e.scrollHeight > e.clientHeight")
        assert is_cut == (options is DESK)
        definition.click()
        assert ann.page.locator("#enlarged-definition").inner_text() == text.strip()
        assert ann.answers() == [""] * 3


def test_the_hint_is_for_the_first_image_alone(campaign, visit):
    ann = visit(campaign.link("hint"))
    ann.settle()
    assert ann.page.locator("#hint").is_visible()
    ann.press("Enter")
    assert not ann.page.locator("#hint").is_visible()
    ann.page.reload()
    ann.settle()
    assert not ann.page.locator("#hint").is_visible()


def test_an_image_that_is_not_there_is_not_answered_by_mistake(campaign, visit):
    ann = visit(campaign.link("blind"), begin=False)
    ann.page.route("**/images/**", lambda route: route.abort())
    ann.page.get_by_role("button", name="Begin").click()
    ann.page.get_by_text("The image cannot be shown.").wait_for()
    ann.page.wait_for_timeout(300)
    ann.page.keyboard.press("Enter")
    ann.page.keyboard.press("0")
    assert ann.page.inner_text("#say") == "The image cannot be shown."
    ann.page.unroute_all()
    ann.page.get_by_role("button", name="Try again").click()
    ann.settle()
    assert ann.answers() == [""] * 8


def test_an_image_that_is_broken_is_skipped(tmp_path, visit):
    campaign = make(tmp_path, pages=2)
    (tmp_path / "0.jpg").write_bytes(b"broken")
    with served(campaign):
        ann = visit(campaign.link())
        for _ in range(2):
            ann.until("!document.getElementById('image-loading').checkVisibility()")
            ann.page.locator("#frame > img").wait_for(state="attached")
            ann.page.wait_for_timeout(300)
            if ann.page.get_by_role("button", name="Skip image").is_visible():
                ann.page.get_by_role("button", name="Skip image").click()
            else:
                ann.press("Enter")
        ann.page.get_by_role("heading", name="All done").wait_for()
        ann.page.reload()  # it does not come again
        ann.page.get_by_role("heading", name="All done").wait_for()
        assert {image for image, _ in campaign.votes()} == {"1.jpg"}
        assert campaign.rows("SELECT text FROM remarks") == [("The image cannot be shown.",)]
