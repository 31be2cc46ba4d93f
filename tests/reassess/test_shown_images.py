"""Images that raters cannot see are noted before anyone is asked."""

import numpy as np
import pyarrow as pa
import pytest
import tifffile
from PIL import Image

from manyhot.errors import MissingExtraError
from manyhot.predict.decode import decode
from manyhot.predict.sources import open_source
from manyhot.reassess import shown_images
from manyhot.reassess.annotate import open_annotation
from manyhot.reassess.init import init_campaign
from manyhot.reassess.propose import propose
from manyhot.reassess.shown_images import unshown_notes


@pytest.fixture
def tiles(tmp_path, monkeypatch):
    """Six satellite tiles of 12 bands."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiles").mkdir()
    rng = np.random.default_rng(0)
    for i in range(6):
        values = rng.integers(0, 3000, (32, 32, 12)).astype(np.uint16)
        tifffile.imwrite(tmp_path / f"tiles/{i}.tif", values, photometric="minisblack", planarconfig="contig")
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    return tmp_path / "tiles"


def notes_of(places):
    return [*unshown_notes(pa.table({"uri": pa.array(map(str, places), pa.string())}))]


def test_each_step_of_a_campaign_notes_images_that_cannot_be_shown(tiles, capfd):
    """The raters' browsers were the first to find out."""
    text = (
        "5 of 5 images that were tried cannot be shown to raters, such as tiles/0.tif: a TIFF of 12 channels "
        "of 16 bits that are not declared as RGB; save three of them as RGB of 8 or 16 bits, or pass all to "
        "manyhot.predict_loader"
    )
    assert text.endswith(decode((tiles / "0.tif").read_bytes()))  # as predict says
    assert init_campaign("camp", images="tiles", classes="classes.txt").notes[-1] == text
    proposals = propose("camp", rule="all-classes")
    assert proposals.notes[-1] == text
    proposals.write("camp")
    pytest.importorskip("fastapi")
    with open_annotation("camp") as annotation:
        assert text in annotation.notes
    assert capfd.readouterr().err == ""  # Pillow printed a line for each image


def test_images_that_can_be_shown_are_not_noted(tiles, monkeypatch):
    photographs = []
    for i, mode in enumerate(("RGB", "L", "P", "RGBA", "I;16")):
        photographs.append(tiles / f"{i}.png")
        Image.new(mode, (9, 7)).save(photographs[-1])
    assert notes_of(photographs) == []
    broken = tiles / "x.jpg"
    broken.write_bytes(b"no image")
    assert notes_of([*photographs[:2], broken]) == [
        f"1 of 3 images that were tried cannot be shown to raters, such as {broken}: not an image of a known "
        "format"
    ]
    # Neither missing nor remote files are tried, and a few of many are.
    assert notes_of([tiles / "gone.png", "https://example.org/x.png", *photographs[:1]]) == []
    others = [tiles / f"{i}.jpg" for i in range(99)]
    for path in others:
        path.touch()
    (note,) = notes_of(others)
    assert note.startswith("5 of 5 images")
    assert [*unshown_notes(pa.table({"image_id": ["a"]}))] == []

    def missing():
        raise MissingExtraError("Pillow")

    monkeypatch.setattr(shown_images, "load_pillow", missing)
    assert notes_of([broken]) == []


def test_sizes_are_those_that_the_app_admits(tiles):
    """The second of 20 images, which is not decoded: 35 megapixels of a palette are 105 MB as colours."""
    pages = [tiles / f"{i:02}.png" for i in range(20)]
    for page in pages:
        Image.new("1", (9, 7)).save(page)
    Image.new("L", (5000, 7000)).save(pages[0])
    Image.new("P", (5000, 7000)).save(pages[1])
    assert notes_of(pages) == [
        f"1 of 20 images whose headers were read are too large to be shown to raters, such as {pages[1]}: "
        "105,000,000 bytes when decoded, at most 100,000,000"
    ]


def test_what_the_app_does_not_open_is_noted(tiles):
    """Pillow would pass EPS to Ghostscript, so the app does not open it."""
    drawing = tiles / "a.eps"
    Image.new("RGB", (9, 7)).save(drawing)
    assert notes_of([drawing])[0].endswith(f"such as {drawing}: not an image of a known format")


def test_pages_and_files_that_are_not_used_are_named(tiles):
    first, *others = (Image.new("1", (9, 7), i % 2) for i in (1, 0, 0))
    for tile in tiles.iterdir():
        tile.unlink()
    first.save(tiles / "a.tif")
    first.save(tiles / "b.tif", save_all=True, append_images=others, compression="group4")
    (tiles / "c.jp2").touch()
    pages = (
        "1 of 2 images whose headers were read have several pages, such as tiles/b.tif; no page but the "
        "first is used: split them into one file per page"
    )
    assert init_campaign("camp", images="tiles", classes="classes.txt").notes == (
        pages,
        "1 file is not read as an image: 1 .jp2",
    )
    assert propose("camp", rule="all-classes").notes[-1].replace(str(tiles), "tiles") == pages
    assert open_source("tiles").notes[-1] == pages
    assert int(decode((tiles / "b.tif").read_bytes()).min()) == 255  # as in the app: the first page
