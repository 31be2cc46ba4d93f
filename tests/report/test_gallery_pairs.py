"""A gallery of multi-label images: false positives, misses and doubtful labels are named."""

import json

import numpy as np
import pyarrow as pa
import pytest

from gallery_cases import class_names
from manyhot.report.gallery import make_gallery
from manyhot.report.gallery_files import write_gallery
from manyhot.tables import Images, Labels, Predictions
from visits import visitors

image = pytest.importorskip("PIL.Image")

IDS = ["none.png", "wrong.png", "missed.png", "both.png"]
SETS = [[], [1], [0, 6], [5]]
P = np.array(
    [
        [0.1, 0.2, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.1, 0.9, 0.0, 0.0, 0.8, 0.0, 0.0],
        [0.9, 0.5, 0.4, 0.3, 0.2, 0.1, 0.02],
        [0.1, 0.2, 0.0, 0.0, 0.7, 0.2, 0.0],
    ],
    np.float32,
)
ERRORS = [
    ("wrong.png", 4, "false positive", 0.8, 0.6),
    ("missed.png", 6, "miss", 0.02, 0.3),
    ("both.png", 4, "false positive", 0.7, 0.6),
    ("both.png", 5, "miss", 0.2, float("nan")),
]


def labels():
    states = [["yes"] * len(s) for s in SETS]
    columns = {
        "image_id": IDS,
        "usable": [True] * 4,
        "classes": pa.array(SETS, pa.list_(pa.int32())),
        "state": states,
    }
    return Labels(pa.table(columns), 7, asked_known=False, name="rays")


def pair_errors():
    columns = dict(
        zip(
            ("image_id", "class_id", "error", "probability", "threshold"),
            zip(*ERRORS, strict=True),
            strict=True,
        )
    )
    return pa.table({**columns, "model": ["net"] * len(ERRORS)})


def gallery(folder, findings):
    uris = [str(folder / i) for i in IDS]
    for uri, shade in zip(uris, (0, 80, 160, 240), strict=True):
        image.new("RGB", (60, 40), (shade,) * 3).save(uri)
    images = Images(pa.table({"image_id": IDS, "uri": uris}))
    net = Predictions(pa.array(IDS), "net", None, P, None, "probability", 7)
    return make_gallery(images, labels(), [net], class_names(), findings=findings)


@pytest.fixture(scope="module")
def visit(chromium, tmp_path_factory):
    with visitors(chromium) as visits, visits() as visit:

        def opened(findings, fragment, **options):
            out = tmp_path_factory.mktemp("gallery")
            (out / "photographs").mkdir()
            write_gallery(gallery(out / "photographs", findings), out / "gallery")
            page = visit((out / "gallery" / "index.html").as_uri() + fragment, **options)
            page.wait_for_function("document.getElementById('position').textContent")
            return page

        yield opened


def told(visit, image_id, findings):
    page = visit(findings, f"#image={image_id}")
    page.wait_for_function("document.getElementById('told').textContent")
    return page, page.locator("#told").text_content().replace("\u00a0", " ")


def test_each_error_has_its_model_class_kind_and_verdict(tmp_path):
    made = gallery(tmp_path, [pair_errors()])
    assert [shot.verdicts for shot in made.shots] == [("right",), ("wrong",), ("wrong",), ("wrong",)]
    assert [shot.kinds for shot in made.shots] == [
        ("",),
        ("false positive",),
        ("miss",),
        ("false positive and miss",),
    ]
    # The most confident error of an image comes first: a miss at 20 % is surer than a false positive at 70 %.
    assert [[e.class_id for e in shot.pair_errors] for shot in made.shots] == [[], [4], [6], [5, 4]]


def test_a_false_positive_is_named_with_its_threshold(visit):
    page, text = told(visit, "wrong.png", [pair_errors()])
    # Class 4 of the class list is "cup & saucer".
    assert text == "net predicts ✕ cup & saucer, 80 %. It is not in the label set (predicted from 60 %)."
    first = page.locator("#guesses tr").first
    assert first.locator("b").text_content() == "cup & saucer"
    assert first.locator(".pair-error").text_content() == "false positive"
    assert page.locator("#models .kind").text_content() == "false positive"
    assert page.locator("#overall").text_content() == "net makes 2 false positives and 2 misses on 4 images."


def test_a_miss_beyond_the_top_classes_has_a_row(visit):
    page, text = told(visit, "missed.png", [pair_errors()])
    assert text == "net misses ✓ bath tub, 2 %. It is valid (predicted from 30 %)."
    first = page.locator("#guesses tr").first
    assert first.locator(".n").text_content() == "2 %"
    assert first.locator(".pair-error").text_content() == "missed"


def test_an_image_without_errors(visit):
    page, text = told(visit, "none.png", [pair_errors()])
    assert text == "No false positive or miss."
    assert page.locator("#models .verdict").text_content() == "✓right"


def test_an_error_without_a_threshold_and_another_error(visit):
    _, text = told(visit, "both.png", [pair_errors()])
    assert text == "net misses ✓ tub, 20 %. It is valid. 1 more error on this image."


def test_the_grid_names_the_error_and_the_label_set(visit):
    page = visit([pair_errors()], "#view=grid")
    texts = [text.replace("\u00a0", " ") for text in page.locator("#grid li").all_text_contents()]
    assert texts == [
        "empty label set✓no error",
        "dog✕cup & saucer 80 %",
        "cat, bath tub✕missed: bath tub 2 %",
        "tub✕missed: tub 20 %",
    ]


def test_a_doubtful_label_stands_in_the_heading(visit):
    found = pa.table({"image_id": ["missed.png"], "finding": ["doubtful label: bath tub"]})
    _, text = told(visit, "missed.png", [found])
    assert text.startswith("Doubtful label: bath tub; net says ✓ cat, 90 %.")


def test_examples_of_a_class_are_images_whose_label_sets_contain_it(tmp_path):
    made = gallery(tmp_path, [])
    assert made.n_members == {1: 1, 0: 1, 6: 1, 5: 1}
    none, wrong, *_ = made.shots
    assert none.similar[1] == (IDS.index("wrong.png"),)
    assert wrong.similar[0] == (IDS.index("missed.png"),)


@pytest.mark.parametrize("width", [390, 1400, 1900])
def test_the_photograph_and_the_classes_do_not_overlap(visit, width):
    """Without images of the classes, they are beside the photograph, or below it on a telephone."""
    page = visit([pair_errors()], "#image=none.png", viewport={"width": width, "height": 900})
    page.wait_for_function("document.getElementById('told').textContent")
    page.evaluate("document.querySelector('#shot').classList.add('alone')")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    photo, classes = (page.locator(name).bounding_box() for name in ("figure", "#seen"))
    if width == 390:
        assert classes["y"] >= photo["y"] + photo["height"]
        assert classes["width"] == photo["width"] > 300
    else:
        assert classes["x"] >= photo["x"] + photo["width"]
        assert classes["y"] == photo["y"]


def test_a_gallery_without_such_errors_says_nothing_of_them(tmp_path):
    write_gallery(gallery(tmp_path, []), tmp_path / "gallery")
    index = (tmp_path / "gallery/data/index.js").read_text().partition("(")[2].removesuffix(");\n")
    assert json.loads(index)["pairs"] == []
