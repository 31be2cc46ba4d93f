"""The grid, two models image by image, the selection and the printed gallery, in a real browser."""

import csv
import io
import re
from urllib.parse import urlencode

import numpy as np
import pyarrow as pa
import pytest

from gallery_cases import IDS, class_names, dots, images_table_of, one_class, small_gallery
from manyhot.formats import read_images
from manyhot.report.gallery import make_gallery
from manyhot.report.gallery_files import write_gallery
from manyhot.tables import Images, Labels, Predictions

image = pytest.importorskip("PIL.Image")
CELLS = "#grid li"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "gallery"
    write_gallery(small_gallery(tmp_path_factory.mktemp("photos"), image), out)
    return out


@pytest.fixture
def visit(chromium, folder):
    """Return a function that opens the gallery; what the console says fails the test."""
    contexts, said = [], []

    def visit(fragment="", at=folder, **options):
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(8_000)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda r: r.url.startswith(("file:", "data:", "blob:")) or said.append(r.url))
        page.goto((at / "index.html").as_uri() + fragment)
        page.wait_for_function("document.getElementById('position').textContent")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert said == []


def drawn(page, image_id):
    page.wait_for_function("id => document.getElementById('shot').dataset.image === id", arg=image_id)


SHOWN = "links => links.map(a => new URLSearchParams(new URL(a.href).hash.slice(1)).get('image'))"


def in_grid(page):
    """Return the images in sight, by their place in the gallery."""
    return [IDS.index(i) for i in page.locator(f"{CELLS} > a").evaluate_all(SHOWN)]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A gallery of 1,000 images of 100 classes, every seventh of which one of two models gets wrong."""
    ids = [f"{i:04}.jpg" for i in range(1000)]
    label = np.arange(1000) % 100
    images = Images(pa.table({"image_id": ids, "uri": ids, "label": pa.array(label, pa.int32())}))
    wrong = np.where(np.arange(1000) % 7 == 0, (label + 1) % 100, label)
    both = [
        Predictions(pa.array(ids), name, best[:, None].astype(np.int32), None, None, "none", 100)
        for name, best in (("A", label), ("B", wrong))
    ]
    out = tmp_path_factory.mktemp("out") / "many"
    write_gallery(make_gallery(images, None, both, title="many"), out, photographs=dots(image, 1000))
    return out


def test_the_label_has_its_own_row_with_its_place(visit):
    page = visit("#image=valid.jpg")
    drawn(page, "valid.jpg")
    row = page.locator("#guesses tr.label")
    assert row.locator("b").text_content() == "cat"
    assert row.locator("td").first.locator(".beyond").text_content() == "not in its top 3"
    assert row.locator("td").nth(1).locator(".n").text_content() == "50 %"
    assert page.locator("#guesses tr").count() == 4, "three classes of one model, and the label"


def test_a_label_further_down_has_its_rank(visit, tmp_path):
    ids = ["a.jpg", "b.jpg"]
    images = Images(pa.table({"image_id": ids, "uri": ids, "label": pa.array([6, 6], pa.int32())}))
    scores = np.array([[0.3, 0.25, 0.2, 0.1, 0.08, 0.05, 0.02]] * 2, np.float32)
    dense = Predictions(pa.array(ids), "dense", None, scores, None, "probability", 7)
    made = make_gallery(images, None, [dense], class_names(), title="far")
    write_gallery(made, tmp_path / "g", photographs=dots(image, 2))
    page = visit("", tmp_path / "g")
    drawn(page, "a.jpg")
    told = " ".join(page.locator("#told").text_content().split())
    assert told.startswith("The label says ✓ bath tub; dense says ✕ cat, 30 %. The label comes 7th, 2 %.")
    row = page.locator("#guesses tr").nth(1)
    assert row.locator("th b").text_content() == "bath tub"
    assert row.locator(".numbers").text_content() == "2 %7th"


FEW = {
    "few.jpg": {
        0: "",  # four others
        1: "the class has only 2 images",
        2: "this is the only image of the class",
        3: "no image of the class",
        4: "the class has only 1 image",
    }
}


def test_few_images_of_a_class_are_said(visit, tmp_path):
    label = [2, 0, 0, 0, 0, 1, 1, 4]
    ids = ["few.jpg", *(f"{i}.jpg" for i in range(1, 8))]
    images = Images(pa.table({"image_id": ids, "uri": ids, "label": pa.array(label, pa.int32())}))
    given = Predictions(pa.array(ids), "m", np.array([[0, 1, 2, 3, 4]] * 8), None, None, "none", 5)
    made = make_gallery(images, None, [given], title="few")
    write_gallery(made, tmp_path / "g", photographs=dots(image, 8))
    page = visit("", tmp_path / "g")
    drawn(page, "few.jpg")
    rows = page.locator("#guesses tr")
    assert [rows.nth(c).locator(".few").all_text_contents() for c in range(5)] == [
        [text] if text else [] for text in FEW["few.jpg"].values()
    ]
    assert rows.nth(2).locator(".thumbs img").get_attribute("src") == "thumbs/0.jpg", "the example it has"


@pytest.mark.parametrize("width", [390, 900, 1280, 1920, 2560])
def test_similar_images_are_large(visit, many, width):
    page = visit("", many, viewport={"width": width, "height": 900})
    drawn(page, "0000.jpg")
    row = page.locator("#guesses tr").first.locator(".thumbs img:visible")
    widths = row.evaluate_all("images => images.map(i => i.getBoundingClientRect().width)")
    assert len(widths) >= 3
    assert min(widths) >= 120
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_the_grid_shows_what_fits_the_filters(visit):
    page = visit("#view=grid&show=valid")
    assert page.locator("#position").text_content() == "3 images"
    assert in_grid(page) == [1, 8, 11]
    assert page.locator("#shot").is_hidden()
    cell = page.locator(CELLS).first
    assert cell.locator(".name").text_content() == "cat"
    assert cell.locator(".guess").text_content() == "◆dog 98 %"
    cell.locator("a").click()
    drawn(page, "valid.jpg")
    assert page.locator("#position").text_content() == "1 of 3", "the filters stay"
    page.go_back()
    page.wait_for_function("document.getElementById('position').textContent === '3 images'")


def test_g_changes_between_grid_and_image(visit):
    page = visit("#image=three.jpg")
    drawn(page, "three.jpg")
    page.keyboard.press("g")
    assert page.locator("#position").text_content() == "12 images"
    assert page.locator(f"{CELLS}.at a").get_attribute("href").endswith("image=three.jpg")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("g")
    assert page.locator("#position").text_content() == "9 of 12"


def test_the_grid_has_only_what_is_in_sight(visit, many):
    page = visit("#view=grid", many)
    assert page.locator("#position").text_content() == "1,000 images"
    assert 10 < page.locator(CELLS).count() < 100
    assert page.locator(f"{CELLS} a").first.get_attribute("href").endswith("image=0000.jpg")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.wait_for_function("document.querySelector('#grid li:last-child a').href.endsWith('image=0999.jpg')")
    assert page.locator(CELLS).count() < 100
    last = page.locator(CELLS).last.evaluate("li => li.getBoundingClientRect().bottom")
    assert last <= 900, "nothing is cut off"


def test_the_grid_opens_where_the_image_is(visit, many):
    page = visit("#view=grid&image=0700.jpg", many)
    box = page.locator(f"{CELLS}.at").bounding_box()
    assert 0 <= box["y"] < 900


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("PLAIN.jpg", [0, 3]),
        ("fine-gr", [2]),
        ("tub", [8, 11]),
        ("script", [2, 4, 5, 10]),
        ("no such thing", []),
    ],
)
def test_text_is_searched_in_ids_classes_and_kinds(visit, text, found):
    page = visit("#view=grid")
    page.locator("#text").fill(text)
    assert page.locator("#position").text_content() == f"{len(found)} image{'s' * (len(found) != 1)}"
    assert in_grid(page) == found


# First, second: right or valid in both, … as VERDICTS and the second model's classes say.
OUTCOMES = {"both": [0, 1, 3, 7, 8, 9, 11], "b": [2], "neither": [5, 6], "open": [4, 10]}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_two_models_image_by_image(visit, outcome):
    page = visit("#view=pair")
    told = page.locator("#pair-said").text_content()
    assert told == (
        "On 10 images, first/<b>model is right on 7 and second on 8. A prediction is right if it is in the "
        "label set. On images that no rater has seen, it is right if it is the original label."
    )
    named = {
        "both": "both right",
        "b": "only second right",
        "neither": "both wrong",
        "open": "unknown",
    }[outcome]
    button = page.locator("#pair-counts button", has_text=named)
    assert button.text_content() == f"{named} {len(OUTCOMES[outcome])}"
    button.click()
    assert in_grid(page) == OUTCOMES[outcome]
    assert f"outcome={outcome}" in page.evaluate("location.hash")
    button.click()
    assert page.locator("#position").text_content() == "12 images"


def test_each_image_of_two_models_has_both_answers(visit):
    page = visit("#view=pair&" + urlencode({"a": "second", "b": "first/<b>model"}))
    cell = page.locator(CELLS).nth(2)
    assert cell.locator(".of").all_text_contents() == ["A✓dog 50 %", "B✕cat 97 %"]
    cell.locator("a").click()
    drawn(page, IDS[2])


def test_one_model_has_no_view_of_two(visit, tmp_path):
    ids = ["a.jpg", "b.jpg"]
    made = make_gallery(images_table_of(ids), None, [one_class(ids)], title="m")
    write_gallery(made, tmp_path / "g", photographs=dots(image, 2))
    page = visit("#view=pair", tmp_path / "g")
    drawn(page, "a.jpg")
    assert not page.get_by_role("button", name="Two models").is_visible()
    assert not page.locator("#outcome").is_visible()


def saved(page, folder, name=""):
    page.locator("#picked").click()
    if name:
        page.locator("#picks-name").fill(name)
    with page.expect_download() as download:
        page.locator("#picks-save").click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    page.keyboard.press("Escape")
    return path


def test_a_selection_is_a_table_of_images(visit, tmp_path):
    page = visit("#image=valid.jpg")
    drawn(page, "valid.jpg")
    page.keyboard.press("s")
    for place in (2, 3, 10):
        page.evaluate("hash => { location.hash = hash }", "#" + urlencode({"image": IDS[place]}))
        drawn(page, IDS[place])
        page.locator("#pick-one").click()
    page.locator("#pick-one").click()
    page.keyboard.press("g")
    page.locator(CELLS).nth(11).get_by_role("checkbox").check()
    path = saved(page, tmp_path, "look, again")
    assert path.name == "look-again.csv"
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
    assert [r["image_id"] for r in rows] == [IDS[1], IDS[2], IDS[3], IDS[11]]
    assert {r["selection"] for r in rows} == {"look, again"}
    assert [r["label"] for r in rows] == ["0", "1", "1", "6"]
    images = read_images(path)
    assert images.image_id.to_pylist() == [r["image_id"] for r in rows]
    assert images.table["uri"].to_pylist() == [r["uri"] for r in rows]
    assert images.label.to_pylist() == [0, 1, 1, 6]


def test_a_selection_is_kept_and_opened_again(visit, tmp_path):
    page = visit("#view=grid&show=valid")
    page.locator("#picked").click()
    page.locator("#picks-add").click()
    page.keyboard.press("Escape")
    assert page.locator("#picked").text_content() == "Selection (3)"
    path = saved(page, tmp_path)
    page.reload()
    page.wait_for_function("document.getElementById('picked').textContent === 'Selection (3)'")
    page.locator("#pick").select_option("in")
    page.keyboard.press("Escape")
    again = visit("#view=grid")
    again.locator("#picked").click()
    again.locator("#picks-open").set_input_files(path)
    again.wait_for_function("document.getElementById('picks-result').textContent")
    assert again.locator("#picks-result").text_content() == "3 images of selected.csv are selected."
    again.keyboard.press("Escape")
    again.locator("#pick").select_option("in")
    assert in_grid(again) == [1, 8, 11]
    again.locator("#pick").select_option("out")
    assert again.locator("#position").text_content() == "9 images"


def test_hostile_ids_survive_the_file(visit, tmp_path):
    page = visit("#view=grid")
    page.locator("#picked").click()
    page.locator("#picks-add").click()
    page.keyboard.press("Escape")
    path = saved(page, tmp_path)
    assert read_images(path).image_id.to_pylist() == IDS
    page.locator("#picked").click()
    page.locator("#picks-drop").click()
    page.locator("#picks-open").set_input_files(path)
    page.wait_for_function("document.getElementById('picks-result').textContent.startsWith('12 images')")


def test_a_file_of_something_else_says_so(visit, tmp_path):
    (tmp_path / "other.csv").write_text("name,uri\na,b\n")
    (tmp_path / "elsewhere.csv").write_text("image_id\nplain.jpg\ngone.jpg\n")
    page = visit("#view=grid")
    page.locator("#picked").click()
    page.locator("#picks-open").set_input_files(tmp_path / "other.csv")
    page.wait_for_function(
        "document.getElementById('picks-result').textContent === 'other.csv has no column image_id.'"
    )
    page.locator("#picks-open").set_input_files(tmp_path / "elsewhere.csv")
    page.wait_for_function(
        "document.getElementById('picks-result').textContent ==="
        " '1 images of elsewhere.csv are selected; 1 are not in this gallery.'"
    )


def pages_of(page):
    """Print the page, and return the number of its pages and what was on paper."""
    page.evaluate(
        "addEventListener('beforeprint', () => { window.onPaper = [document.querySelectorAll('#grid li')"
        ".length, document.getElementById('printed').textContent] })"
    )
    paper = page.pdf(format="A4", print_background=True)
    return len(re.findall(rb"/Type\s*/Page[^s]", paper)), page.evaluate("window.onPaper")


def test_the_grid_on_paper(visit, many):
    page = visit("#view=grid", many)
    in_sight = page.locator(CELLS).count()
    n_pages, (n_images, text) = pages_of(page)
    assert (n_images, text) == (240, "The first 240 of 1,000 images that match the filters.")
    assert 10 <= n_pages <= 20, "four images a line, and no empty pages for the others"
    assert page.locator(CELLS).count() == in_sight, "as before"


def test_an_image_on_paper(visit):
    page = visit("#image=three.jpg")
    drawn(page, "three.jpg")
    assert pages_of(page)[0] <= 2
    page.emulate_media(media="print")
    assert not page.locator("#filters, nav, footer, #views, #pick-one").filter(visible=True).count()
    boxes = [page.locator(s).first.bounding_box() for s in ("#photo img", "#guesses tr")]
    assert boxes[1]["x"] > boxes[0]["x"] + boxes[0]["width"], "classes stand beside the photograph"
    assert boxes[1]["y"] < boxes[0]["y"] + boxes[0]["height"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("view", ["grid", "pair"])
def test_views_fit_and_can_be_read(visit, view, width, scheme):
    page = visit(f"#view={view}", viewport={"width": width, "height": 844}, color_scheme=scheme)
    assert page.locator(CELLS).count() > 1
    assert page.evaluate("document.documentElement.scrollWidth") == width
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    options = {"preload": False, "resultTypes": ["violations"]}
    found = axe.Axe().run(page, options=options).response["violations"]
    assert [(v["id"], [n["html"] for n in v["nodes"]]) for v in found] == []


def test_without_labels_and_raters_no_class_has_a_verdict(visit, tmp_path):
    ids = ["a.jpg", "b.jpg"]
    images = Images(pa.table({"image_id": ids, "uri": ids}))
    scores = np.array([[0.5, 0.3, 0.2]] * 2, np.float32)
    net = Predictions(pa.array(ids), "net", None, scores, None, "probability", 3)
    made = make_gallery(images, None, [net], class_names(), title="bare")
    write_gallery(made, tmp_path / "g", photographs=dots(image, 2))
    page = visit("", tmp_path / "g")
    drawn(page, "a.jpg")
    told = " ".join(page.locator("#told").text_content().split())
    assert told == "No label; net says cat, 50 %. No rater has seen this image."
    assert page.locator("#guesses th[scope=row]").all_text_contents()[0] == "cat"
    assert page.locator("#models .verdict").all_text_contents() == ["no labels"]
    # The signs of the filters and of the help stay: only those of images are meant.
    assert "".join(page.locator("#shot .sign, #strip .sign").all_text_contents()) == ""
    usable = page.locator("#show option").evaluate_all("all => all.filter(o => !o.hidden).map(o => o.value)")
    assert usable == [""]
    page.keyboard.press("g")
    assert page.locator(f"{CELLS} .guess").first.text_content() == "cat 50 %"


@pytest.mark.parametrize("state", ["yes", "unclear", "no"])
@pytest.mark.parametrize(
    ("label", "told", "badge", "card"),
    [
        (None, "No label; net says cat. No rater has seen this image.", "no labels", "cat"),
        (
            1,
            "The label says ✓ dog; net says ✕ cat. The label comes 2nd. No rater has seen this image.",
            "✕not the label",
            "✕catnot the original label",
        ),
    ],
)
def test_label_sets_that_no_rater_gave_make_nothing_valid(visit, tmp_path, state, label, told, badge, card):
    """Such as a detector's: the sentence, the badge and the card agree."""
    ids = ["a.jpg"]
    images = Images(pa.table({"image_id": ids, "uri": ids, "label": pa.array([label], pa.int32())}))
    columns = {"image_id": ids, "rated": [False], "usable": [True], "classes": [[0]], "state": [[state]]}
    labels = Labels(pa.table({**columns, "p": [[0.5]]}), 3)
    net = Predictions(pa.array(ids), "net", np.array([[0, 1]]), None, None, "none", 3)
    made = make_gallery(images, labels, [net], class_names(), title="detected")
    write_gallery(made, tmp_path / "g", photographs=dots(image, 1))
    page = visit("", tmp_path / "g")
    drawn(page, "a.jpg")
    assert " ".join(page.locator("#told").text_content().split()) == told
    assert page.locator("#models .verdict").all_text_contents() == [badge]
    assert page.locator("#guesses th[scope=row]").first.text_content() == card
    assert not page.locator("#remark").text_content().endswith("found not valid.")
