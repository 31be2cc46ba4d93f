"""Axes, comparisons, pictures, colours."""

import base64
import io
import re
from importlib.resources import files

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhot.errors import MissingExtraError
from manyhot.evaluate.report.datasets import DIFFERENT, SAME, UNKNOWN, Differences
from manyhot.report.figure import Axis, fences
from manyhot.report.pictures import MAX_BYTES, make_pictures
from manyhot.tables import Images, Predictions
from noted_photographs import ENDINGS, PROFILE, SECRET, TURNED, write_photograph
from report_pages import picture_labels, picture_predictions

Image = pytest.importorskip("PIL.Image")


@given(st.lists(st.floats(0, 100), min_size=1))
def test_an_axis_holds_its_values(values):
    axis = Axis.over(values, percent=True)
    assert 0 <= axis.lo <= min(values) + 1e-6
    assert max(values) - 1e-6 <= axis.hi <= 100
    assert axis.lo < axis.hi
    assert all(axis.lo - 1e-6 <= t <= axis.hi + 1e-6 for t in axis.ticks)
    assert len(axis.ticks) <= 8


def test_an_axis_has_round_ends():
    axis = Axis.over([56.1, 82.9], percent=True, n_ticks=6)
    assert (axis.lo, axis.hi, axis.ticks) == (55, 85, (55, 60, 65, 70, 75, 80, 85))
    assert axis.at(70, 0, 100) == 50


def test_fences_leave_out_what_is_far_out_only():
    values = [70.0, 71, 72, 73, 74, 75, 76, 77, 20]
    low, high = fences(values)
    assert 20 < low < 70
    assert high > 77
    assert fences(values[-5:]) == (-np.inf, np.inf)
    assert fences([1.0] * 9 + [50.0]) == (-np.inf, np.inf)


def test_runs_are_the_upper_triangle_in_order():
    states = np.array([[UNKNOWN, SAME, DIFFERENT], [SAME, UNKNOWN, UNKNOWN], [DIFFERENT, UNKNOWN, UNKNOWN]])
    assert Differences((2, 0, 1), states.astype(np.uint8)).runs() == ["1!1?", "1=", ""]


def pictures_of(folder, ids, labels=None, predictions=()):
    images = Images(pa.table({"image_id": ids, "uri": [str(folder / i) for i in ids]}))
    return make_pictures(images, labels or picture_labels([*ids, "b", "c", "d"]), predictions).pictures


def test_dense_scores_and_a_list_of_the_best_show_the_same(tmp_path):
    ids = ["a.jpg", "b.jpg"]
    logits = np.random.default_rng(0).normal(size=(2, 9)).astype(np.float32)
    order = np.argsort(-logits, axis=1)[:, :6].astype(np.int32)
    total = np.log(np.exp(logits).sum(1))
    dense = Predictions(pa.array(ids[::-1]), "m", None, logits[::-1], None, "logit", 9)
    best = np.take_along_axis(logits, order, axis=1)
    top = Predictions(pa.array(ids), "m", order, best, total, "logit", 9)
    labels = picture_labels([*ids, "x", "y"])
    for picture in pictures_of(tmp_path, ids, labels, [dense, top]):
        one, other = (s.guesses for s in picture.seen)
        assert [g.judged for g in one] == [g.judged for g in other]
        assert [g.confidence for g in one] == pytest.approx([g.confidence for g in other], rel=1e-5)
        assert len(one) == 5


def test_scores_that_are_no_probabilities_give_ranks_only(tmp_path):
    p = picture_predictions(["a.jpg", "b", "c", "d"])[0]
    ranked = Predictions(p.image_id, "m", p.classes, p.scores, None, "score", 9)
    (picture,) = pictures_of(tmp_path, ["a.jpg"], predictions=[ranked])
    assert [g.confidence for g in picture.seen[0].guesses] == [None] * 5


def test_a_class_nobody_is_known_to_have_asked_about_is_not_called_unasked(tmp_path):
    labels = picture_labels(["a.jpg", "b", "c", "d"], asked_known=False)
    (picture,) = pictures_of(tmp_path, ["a.jpg"], labels, picture_predictions(["a.jpg", "b", "c", "d"])[:1])
    states = [g.judged.state for g in picture.seen[0].guesses]
    assert states == ["unclear", "yes", "no", "unrecorded", "unrecorded"]


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("absent.jpg", "the file does not exist"),
        ("https://example.org/cat.jpg", "not a file on this computer"),
        (None, "the images table has no uri for this image"),
        ("text.jpg", "not an image of a known format"),
        ("folder", "not a file"),
        ("cut.png", "cannot be decoded: OSError"),
        ("huge.jpg", "268,435,457 bytes: more than 268,435,456"),
        ("/dev/null", "not a file"),
    ],
)
def test_a_picture_that_cannot_be_shown_says_why(tmp_path, monkeypatch, uri, reason):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "folder").mkdir()
    with (tmp_path / "huge.jpg").open("wb") as sparse:
        sparse.truncate(MAX_BYTES + 1)
    Image.effect_noise((64, 64), 50).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:1000])
    images = Images(pa.table({"image_id": ["a"], "uri": pa.array([uri], pa.string())}))
    (picture,) = make_pictures(images, picture_labels(["a", "b", "c", "d"]), []).pictures
    assert (picture.thumbnail, picture.reason) == (None, reason)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_every_kind_of_pixels_becomes_a_small_jpeg(tmp_path, mode):
    name = {"CMYK": "a.tif", "F": "a.tif"}.get(mode, "a.png")
    Image.new(mode, (1200, 300)).save(tmp_path / name)
    (picture,) = pictures_of(tmp_path, [name])
    assert picture.reason == ""
    assert (picture.thumbnail.width, picture.thumbnail.height) == (480, 120)
    assert picture.thumbnail.uri.startswith("data:image/jpeg;base64,/9j/")


def test_a_photograph_stands_upright(tmp_path):
    photo = Image.new("RGB", (60, 40))
    exif = photo.getexif()
    exif[0x0112] = 6
    photo.save(tmp_path / "a.jpg", exif=exif)
    (picture,) = pictures_of(tmp_path, ["a.jpg"])
    assert (picture.thumbnail.width, picture.thumbnail.height) == (40, 60)


@pytest.mark.parametrize("ending", ENDINGS)
def test_of_what_is_written_in_a_file_a_report_has_the_colour_profile_alone(tmp_path, ending):
    write_photograph(tmp_path / f"a.{ending}")
    (picture,) = pictures_of(tmp_path, [f"a.{ending}"])
    data = base64.b64decode(picture.thumbnail.uri.partition(",")[2])
    assert SECRET not in data
    found = Image.open(io.BytesIO(data))
    assert not {"comment", "exif", "photoshop", "xmp"} & set(found.info)
    assert found.info.get("icc_profile") == (PROFILE if ending in TURNED else None)
    assert (found.width < found.height) == (ending in TURNED)


def test_pictures_need_pillow(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL.ImageOps", None)
    with pytest.raises(MissingExtraError) as caught:
        pictures_of(tmp_path, ["a.jpg"])
    assert str(caught.value) == (
        'A report with pictures needs Pillow.\n  do:      pip install "manyhot[report]"'
    )


def luminance(colour):
    colour = colour if len(colour) == 7 else "#" + "".join(c * 2 for c in colour[1:])
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_can_be_read_on_every_ground(theme):
    css = (files("manyhot.report") / "templates" / "report.css").read_text()
    pairs = re.findall(r"--(\w+): light-dark\((#\w+), (#\w+)\)", css)
    colours = {name: light if theme == "light" else dark for name, light, dark in pairs}
    inks = ("ink", "muted", "accent", "m0", "m1", "m2", "m3", "yes", "unclear", "no")
    for ground in ("paper", "raised", "soft", "tint"):
        for ink in inks:
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
        assert contrast(colours["edge"], colours[ground]) >= 3, ("edges of controls", ground)
