"""The sentence at the head of a gallery, counted by hand."""

import numpy as np
import pyarrow as pa
import pytest

from gallery_cases import FIRST, SECOND, images_table_of, labels_table, model, small_gallery
from manyhot.report.gallery import make_gallery
from manyhot.report.gallery_files import totals_sentence, write_gallery
from manyhot.tables import Images, Predictions

image = pytest.importorskip("PIL.Image")
IDS = [f"{i}.jpg" for i in range(5)]
MIXED = "By the label set or, for images that no rater has seen, by the label"


def says(name, classes):
    return Predictions(pa.array(IDS[: len(classes)]), name, np.array(classes)[:, None], None, None, "none", 3)


def sentence(models, labelled=True):
    table = images_table_of(IDS).table
    images = Images(table if labelled else table.drop_columns(["label"]))
    return totals_sentence(make_gallery(images, None, models))


@pytest.mark.parametrize(
    ("models", "told"),
    [
        ([says("net", [0, 0, 0, 1, 2])], "By the label, net is right on 3 of 5 images (2 wrong)."),
        ([says("net", [0] * 5)], "By the label, net is right on 5 of 5 images."),
        (
            [says("a", [0] * 5), says("b", [1, 0])],
            "By the label, a is right on 5 of 5 images; "
            "b is right on 1 of 5 images (1 wrong, 3 not predicted).",
        ),
        (
            [says(name, [0] * n + [1] * (5 - n)) for name, n in (("a", 2), ("b", 5), ("c", 1), ("d", 3))],
            "By the label, 4 models are right on 1 (c) to 5 (b) of 5 images.",
        ),
        (
            [says(name, [0, 0, 1, 1, 1]) for name in "abcd"],
            "By the label, each of the 4 models is right on 2 of 5 images.",
        ),
        ([], ""),
    ],
)
def test_by_the_label(models, told):
    assert sentence(models) == told


def test_without_labels_no_model_is_right():
    told = sentence([says("net", [0] * 5)], labelled=False)
    assert told == "The images have no original labels, and no rater has seen them."


def test_by_the_label_set():
    """Of the small gallery, one image was seen by no rater; of that gallery without it, all were seen."""
    given = labels_table()
    ids, label = given.image_id, given.table["label"]
    images = Images(pa.table({"image_id": ids, "uri": ids, "label": label}))
    pair = [model("first", FIRST), model("second", SECOND)]
    assert totals_sentence(make_gallery(images, given, pair)) == (
        f"{MIXED}, first is right on 7 of 11 images (2 wrong, 1 unclear, 1 not asked); "
        "second is right on 9 of 11 images (1 wrong, 1 not predicted). 1 image has no valid class."
    )
    seen = Images(images.table.filter(given.table["rated"]))
    assert totals_sentence(make_gallery(seen, given, pair[:1])) == (
        "By the label set, first is right on 6 of 10 images (2 wrong, 1 unclear, 1 not asked). "
        "1 image has no valid class."
    )


def test_the_page_begins_with_it(tmp_path):
    """Names of models are text, and may look like a placeholder."""
    write_gallery(small_gallery(tmp_path, image, title="{{ n }}"), tmp_path / "g")
    page = (tmp_path / "g" / "index.html").read_text(encoding="utf-8")
    assert f'<p id="overall">{MIXED}, first/&lt;b&gt;model is right on 7 of 11 images (2 wrong' in page
    assert "<h1>{{ n }} <small>12 images</small></h1>" in page
