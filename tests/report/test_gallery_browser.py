"""What a reader does with a gallery, in a real browser, from ``file://``."""

from urllib.parse import urlencode

import pytest

from gallery_cases import (
    FIRST,
    HOSTILE,
    IDS,
    NAMES,
    class_names,
    dots,
    images_table,
    images_table_of,
    labels_table,
    model,
    one_class,
    photographs,
    small_gallery,
)
from manyhot.report.gallery import make_gallery
from manyhot.report.gallery_files import PART, write_gallery
from visits import visitors

image = pytest.importorskip("PIL.Image")
WIDTH = "document.documentElement.scrollWidth"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "a gallery #1"
    write_gallery(small_gallery(tmp_path_factory.mktemp("photos"), image), out)
    return out


@pytest.fixture(scope="module")
def visits(chromium):
    with visitors(chromium) as visits:
        yield visits


@pytest.fixture
def visit(visits, folder):
    """Return a function that opens the gallery; what the console says fails the test."""
    with visits() as visit:

        def visit_gallery(fragment="", at=folder, **options):
            page = visit((at / "index.html").as_uri() + fragment, **options)
            page.wait_for_function("document.getElementById('position').textContent")
            return page

        yield visit_gallery


def shown(page):
    """Return the image that is drawn, once it is."""
    page.wait_for_function(
        "document.getElementById('shot').dataset.image ==="
        " (new URLSearchParams(location.hash.slice(1)).get('image') ?? undefined)"
    )
    return page.locator("#shot").get_attribute("data-image")


def all_shown(page):
    """Page through all images that fit the filters, from the first, and return them."""
    page.locator("h1").click()
    page.keyboard.press("Home")
    found = [shown(page)]
    while page.locator("#next").is_enabled():
        page.keyboard.press("ArrowRight")
        found.append(shown(page))
    return [IDS.index(i) for i in found]


def test_the_first_image(visit):
    page = visit()
    assert shown(page) == IDS[0]
    assert page.locator("#position").text_content() == "1 of 12"
    assert page.locator("#label").text_content() == "cat"
    assert page.locator("#photo img").evaluate("i => i.decode().then(() => i.naturalWidth)") == 300
    assert page.locator("#models .verdict").all_text_contents() == ["✓right", "✓right"]
    row = page.locator("#guesses tr").first
    assert row.locator("b").text_content() == "cat"
    assert row.locator(".n").all_text_contents() == ["99 %", "50 %"]
    widths = row.locator(".track i").evaluate_all("bars => bars.map(b => b.style.width)")
    assert widths == ["99%", "50%"]


def test_wrong_but_valid_is_told_by_colour_and_sign(visit):
    page = visit("#image=valid.jpg")
    assert shown(page) == "valid.jpg"
    assert page.locator("#models .verdict").all_text_contents() == ["◆“wrong” but valid", "✓right"]
    assert page.locator("#set .chip").all_text_contents() == ["✓cat", "◆dog"]
    dog = page.locator("#guesses tr").first
    assert dog.locator("th").text_content() == "◆dogvalid, not the original label"
    colours = page.locator("#set .chip").evaluate_all("c => c.map(e => getComputedStyle(e).color)")
    assert len(set(colours)) == 2


SENTENCES = {
    "plain.jpg": "The label says ✓ cat; both models say so, up to 99 %.",
    "valid.jpg": "The label says ✓ cat; first/<b>model says ◆ dog, 98 %. "
    "The label is not among the top 3. Both are valid.",
    IDS[2]: "The label says ✓ dog; first/<b>model says ✕ cat, 97 %. The label comes 2nd, 2 %. "
    "It is not valid.",
    "unclear.jpg": f"The label says ✓ {HOSTILE}; first/<b>model says ? {NAMES[3]}, 70 %. "
    "The label is not among the top 3. Raters disagree about it.",
    "refuted.jpg": f"The label says ! {HOSTILE}; both models say so, up to 90 %. Raters found it not valid.",
    "nobody.jpg": "The label says ✓ cup & saucer; both models say so, up to 90 %. "
    "No rater has seen this image.",
    "last.jpg": "The label says ✓ bath tub; second says ◆ tub, 96 %. The label comes 2nd, 2 %. "
    "Both are valid.",
    IDS[10]: f"The label says ✓ dog; first/<b>model says ○ {HOSTILE}, 40 %. "
    "The label is not among the top 3. No rater was asked about it.",
}


@pytest.mark.parametrize("image_id", SENTENCES)
def test_a_sentence_tells_it_at_a_glance(visit, image_id):
    page = visit("#" + urlencode({"image": image_id}))
    shown(page)
    assert " ".join(page.locator("#told").text_content().split()) == SENTENCES[image_id]
    assert page.title() == f"{image_id} · Small & {HOSTILE}"


def test_the_sentence_is_about_the_models_that_are_meant(visit):
    page = visit("#" + urlencode({"image": "last.jpg", "model": "first/<b>model"}))
    shown(page)
    told = " ".join(page.locator("#told").text_content().split())
    assert told == "The label says ✓ bath tub; first/<b>model says so, 80 %."


def test_where_models_disagree_the_sentence_is_about_the_other_side(visit):
    page = visit("#show=disagree&image=three.jpg")
    shown(page)
    told = " ".join(page.locator("#told").text_content().split())
    assert told == (
        "The label says ✓ cup & saucer; first/<b>model says ◆ tub, 55 %. The label is not among the top 3. "
        "Both are valid."
    )


def test_pages_by_keys(visit):
    page = visit()
    page.keyboard.press("ArrowRight")
    assert shown(page) == IDS[1]
    page.keyboard.press("End")
    assert shown(page) == IDS[-1]
    page.keyboard.press("ArrowRight")
    assert shown(page) == IDS[-1]
    page.keyboard.press("ArrowLeft")
    assert shown(page) == IDS[-2]
    page.keyboard.press("Home")
    assert shown(page) == IDS[0]
    page.locator("#next").click()
    assert shown(page) == IDS[1]
    assert all_shown(page) == list(range(12))


def test_question_mark_shows_the_keys(visit):
    page = visit()
    page.keyboard.press("?")
    assert page.get_by_role("dialog").is_visible()
    page.keyboard.press("ArrowRight")
    assert shown(page) == IDS[0], "no paging behind the dialog"
    page.keyboard.press("Escape")
    assert not page.locator("#keys").is_visible()


def test_slash_searches_and_escape_clears(visit):
    page = visit()
    page.keyboard.press("/")
    page.keyboard.type("tub")
    assert page.locator("#class").input_value() == "tub"
    # Class 5 itself: in a label set, or said first.
    assert page.locator("#position").text_content() == "1 of 2"
    page.keyboard.press("ArrowLeft")
    assert shown(page) == "three.jpg", "arrows move in the text, not between images"
    page.keyboard.press("Escape")
    assert page.locator("#position").text_content() == "9 of 12", "the image stays"


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"show": "valid"}, [1, 8, 11]),
        ({"show": "valid", "above": "0.9"}, [1, 11]),
        ({"show": "valid", "above": "0.9", "model": "second"}, [11]),
        ({"show": "wrong"}, [2]),
        ({"show": "unasked"}, [10]),
        ({"show": "unclear"}, [4]),
        ({"show": "right"}, [0, 1, 2, 3, 4, 7, 8, 9, 11]),
        ({"show": "wrong", "above": "0.95"}, [2]),
        ({"show": "refuted"}, [5, 6]),
        ({"show": "disagree"}, [1, 2, 4, 8, 11]),
        ({"show": "disagree", "above": "0.95"}, [1, 2, 11]),
        ({"above": "0.95"}, [0, 1, 2, 9, 11]),
        ({"size": "0"}, [6]),
        ({"size": "2"}, [1, 11]),
        ({"size": "3"}, [8]),
        ({"kind": "fine-grained"}, [2]),
        ({"class": "dog"}, [1, 2, 3, 10]),
        ({"class": "TUB"}, [8, 11]),
        ({"class": "bath"}, [8, 11]),
        ({"class": "script"}, [4, 5, 10]),
    ],
)
def test_filters(visit, filters, found):
    page = visit()
    for name, value in filters.items():
        box = page.locator(f"#{name}")
        box.fill(value) if name == "class" else box.select_option(value)
    assert all_shown(page) == found
    again = visit("#" + page.evaluate("location.hash.slice(1)"))
    assert shown(again) == IDS[found[-1]], "the address is the place"
    assert again.locator("#position").text_content() == f"{len(found)} of {len(found)}"


def test_nothing_fits(visit):
    page = visit("#show=wrong&above=0.99")
    assert page.locator("#position").text_content() == "0 images"
    assert page.get_by_text("No image matches these filters.").is_visible()
    page.get_by_role("button", name="clear").click()
    assert page.locator("#position").text_content() == "1 of 12"


def test_links_follow_the_address_bar(visit):
    page = visit("#image=three.jpg")
    assert shown(page) == "three.jpg"
    page.evaluate("location.hash = '#image=last.jpg&size=2'")
    page.wait_for_function("document.getElementById('position').textContent === '2 of 2'")
    assert shown(page) == "last.jpg"


@pytest.mark.parametrize(
    "fragment", ["#image=gone.jpg", "#show=<b>&above=x&kind=no&model=%00", "#%", "#&&=="]
)
def test_broken_links_show_the_first_image(visit, fragment):
    assert shown(visit(fragment)) == IDS[0]


@pytest.mark.parametrize("image_id", IDS)
def test_hostile_names_are_text(visit, image_id):
    page = visit("#" + urlencode({"image": image_id}))
    assert shown(page) == image_id
    assert page.locator("#name").text_content() == image_id
    assert page.evaluate("window.owned") is None
    assert page.locator("main img[onerror], main script").count() == 0


def test_hostile_class_names_are_text(visit):
    page = visit("#image=unclear.jpg")
    shown(page)
    assert page.locator("#label").text_content() == HOSTILE
    assert page.locator("#set .chip").all_text_contents() == [f"✓{HOSTILE}", f"?{NAMES[3]}"]
    assert page.evaluate("window.owned") is None


def test_a_broken_photograph_says_so(visit):
    page = visit("#image=broken.jpg")
    shown(page)
    assert page.locator("#photo").text_content() == "No picture: not an image of a known format."


def test_similar_images_are_links_and_never_the_image_itself(visit):
    page = visit("#image=plain.jpg")
    shown(page)
    cats = page.locator("#guesses tr").first.locator(".thumbs img")
    assert [s.rpartition("/")[2] for s in cats.evaluate_all("i => i.map(e => e.src)")] == ["1.jpg"]
    cats.first.click()
    page.wait_for_function("document.getElementById('shot').dataset.image === 'valid.jpg'")


def test_without_any_other_image_of_its_classes_there_is_no_column_for_them(visit, tmp_path):
    made = make_gallery(images_table_of(["one.jpg"]), None, [one_class(["one.jpg"])], title="one")
    write_gallery(made, tmp_path / "g", photographs=dots(image, 1))
    page = visit("", tmp_path / "g")
    shown(page)
    assert page.locator(".similar:visible").count() == 0
    assert page.locator("#beside").text_content() == "The gallery contains no other images of these classes."


@pytest.fixture(scope="module")
def twelve(tmp_path_factory):
    """A gallery of as many models as a conference paper compares."""
    models = [model(f"vit_large_patch14_clip_336.openai_ft_in12k_in1k@{i}", FIRST) for i in range(12)]
    given = photographs(tmp_path_factory.mktemp("photos"), image)
    made = make_gallery(images_table(given), labels_table(), models, class_names(), title="twelve")
    out = tmp_path_factory.mktemp("out") / "twelve"
    write_gallery(made, out)
    return out


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("which", ["folder", "twelve"])
def test_fits_and_can_be_read(visit, request, scheme, width, which):
    at = request.getfixturevalue(which)
    page = visit("#image=three.jpg", at, viewport={"width": width, "height": 844}, color_scheme=scheme)
    shown(page)
    assert page.evaluate(WIDTH) == width
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    # Preloading is axe's own reading of style sheets, which file:// forbids.
    options = {"preload": False, "resultTypes": ["violations"]}
    found = axe.Axe().run(page, options=options).response["violations"]
    assert [(v["id"], [n["html"] for n in v["nodes"]]) for v in found] == []


def test_one_model_without_scores_has_no_filters_that_need_more(visit, tmp_path):
    ids = [f"{i}.jpg" for i in range(2 * PART + 1)]
    made = make_gallery(images_table_of(ids), None, [one_class(ids)], title="m")
    write_gallery(made, tmp_path / "g", photographs=dots(image, len(ids)))
    page = visit("#" + urlencode({"image": f"{2 * PART}.jpg"}), tmp_path / "g")
    assert shown(page) == f"{2 * PART}.jpg", "of the last part"
    for hidden in ("#above", "#by-model", "#size", "#kind"):
        assert not page.locator(hidden).is_visible()
    assert page.locator("#guesses .n").all_text_contents() == ["1."]
    assert page.locator("#guesses .track:visible").count() == 0
