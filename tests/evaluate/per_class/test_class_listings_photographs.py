"""The worst classes in photographs: which images, and what a broken file or a missing photograph does."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from manyhot import Reading, evaluate
from manyhot.errors import InputError
from manyhot.evaluate.per_class.class_listings import PHOTOGRAPHED_CLASSES, PHOTOGRAPHS, read_albums
from manyhot.evaluate.write import write_page

image = pytest.importorskip("PIL.Image")
CLASSES = ["bus", "car", "cat", "cup", "dog"]
READING = Reading(rows="rows.txt", classes="classes.txt", images="images.csv")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Label sets, scores and photographs of one colour each; return the first two."""
    monkeypatch.chdir(tmp_path)
    rng, n = np.random.default_rng(3), 60
    valid = rng.random((n, 5)) < 0.4
    scores = (valid * [0.1, 0.2, 0.3, 0.4, 0.5] + rng.random((n, 5))).astype(np.float32)
    np.save("net.npy", scores)
    ids = [f"i{i}" for i in range(n)]
    for i, name in enumerate(ids):
        image.new("RGB", (40, 30), (4 * i, 4 * i, 4 * i)).save(f"{name}.png")
    Path("rows.txt").write_text("\n".join(ids))
    Path("classes.txt").write_text("\n".join(CLASSES))
    rows = [f"{i},{','.join(str(int(v)) for v in row)}" for i, row in zip(ids, valid, strict=True)]
    Path("labels.csv").write_text("\n".join([f"image_id,{','.join(CLASSES)}", *rows]))
    Path("images.csv").write_text("\n".join(["image_id,uri", *(f"{i},{tmp_path / i}.png" for i in ids)]))
    return valid, scores


def written():
    evaluate("labels.csv", ["net.npy"], gallery=0, reading=READING).write("out")
    return read_albums(Path("out/class_pictures.json"))


def test_the_highest_of_the_wrong_and_the_lowest_of_the_valid(home):
    valid, scores = home
    precision = [average_precision_score(valid[:, c], scores[:, c]) for c in range(5)]
    albums = written()
    worst = np.argsort(precision)[:PHOTOGRAPHED_CLASSES]
    assert [a.title for a in albums] == [CLASSES[c] for c in worst]
    for album, c in zip(albums, worst, strict=True):
        order = np.argsort(scores[:, c])
        wrong = [f"i{i}" for i in order[::-1] if not valid[i, c]][:PHOTOGRAPHS]
        missed = [f"i{i}" for i in order if valid[i, c]][:PHOTOGRAPHS]
        assert [[p.title for p in strip.pictures] for strip in album.strips] == [wrong, missed]
        for shown in (p for strip in album.strips for p in strip.pictures):
            row = int(shown.title[1:])
            assert float(shown.text) == pytest.approx(scores[row, c], abs=0.005)
            with image.open(io.BytesIO(base64.b64decode(shown.uri.partition(",")[2]))) as decoded:
                assert abs(decoded.convert("L").getpixel((20, 15)) - 4 * row) <= 2


def test_the_report_shows_them_again(home):
    (first, *_) = written()
    page = Path("out/report/index.html").read_text(encoding="utf-8")
    assert all(p.uri in page for strip in first.strips for p in strip.pictures)
    Path("i0.png").unlink()
    write_page("out", beside=False)
    assert Path("out/report/index.html").read_text(encoding="utf-8") == page


def test_without_photographs_those_of_an_earlier_run_are_removed(home):
    written()
    for path in Path().glob("*.png"):
        path.unlink()
    assert written() == ()
    assert (
        "photographs"
        not in Path("out/report/index.html").read_text(encoding="utf-8").partition("</style>")[2]
    )


def test_a_broken_file(home):
    written()
    path = Path("out/class_pictures.json")
    path.write_text(json.dumps([{"title": "cat"}]))
    with pytest.raises(InputError) as error:
        write_page("out", beside=False)
    assert str(error.value) == (
        "The file does not contain the photographs of classes.\n"
        f"  where:   {path}\n"
        "  got:     'strips'\n"
        "  do:      run manyhot evaluate again, or delete the file to get a report without them"
    )
