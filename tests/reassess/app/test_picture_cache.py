"""Images of all kinds, whole and broken, as the browser gets them."""

import io
import os
import struct
import tarfile
import threading
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageCms
import pytest
import tifffile
from fastapi.testclient import TestClient

from manyhot.errors import InputError
from manyhot.reassess.app import create_app, picture_cache
from manyhot.reassess.app.access import Buckets
from manyhot.reassess.app.picture_cache import PictureCache
from manyhot.reassess.app.store import CampaignSettings, Example, ImageQuestions, Store
from noted_photographs import ENDINGS, LEFT, PROFILE, RIGHT, SECRET, TURNED, write_photograph
from stores import classes


@pytest.fixture
def made(tmp_path):
    return PictureCache(tmp_path / "cache")


def shown(made, path, size="small"):
    return PIL.Image.open(io.BytesIO(made.read(str(path), size)))


def colour(image, at=(5, 5)):
    return np.array(image.convert("RGB").getpixel(at))


def saved(path, image, **more):
    image.save(path, **more)
    return path


def plain(mode="RGB", size=(400, 300), value=(200, 30, 60)):
    return PIL.Image.new(mode, size, value)


@pytest.mark.parametrize(("size", "longer"), [("small", 256), ("large", 1280)])
def test_the_longer_side(made, tmp_path, size, longer):
    path = saved(tmp_path / "a.png", plain(size=(3000, 1500)))
    assert shown(made, path, size).size == (longer, longer // 2)


def test_a_small_image_stays_as_it_is(made, tmp_path):
    assert shown(made, saved(tmp_path / "a.png", plain(size=(40, 30)))).size == (40, 30)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "gif", "tif", "bmp", "ppm", "mpo", "jp2"])
def test_kinds(made, tmp_path, ending):
    found = colour(shown(made, saved(tmp_path / f"a.{ending}", plain())))
    assert np.abs(found - (200, 30, 60)).max() <= 6


def test_a_kind_that_pillow_lacks_is_no_obstacle(made, tmp_path, monkeypatch):
    monkeypatch.setattr(picture_cache, "_KINDS", ("LACKING", *picture_cache._KINDS))
    assert shown(made, saved(tmp_path / "a.png", plain())).size == (256, 192)


def test_cmyk(made, tmp_path):
    path = saved(tmp_path / "a.jpg", PIL.Image.new("CMYK", (40, 30), (0, 255, 255, 0)))
    assert np.abs(colour(shown(made, path)) - (255, 0, 0)).max() <= 6


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits_are_not_clipped_to_white(made, tmp_path, ending):
    values = np.full((30, 40), 0x8000, np.uint16)
    path = saved(tmp_path / f"a.{ending}", PIL.Image.fromarray(values))
    assert np.abs(colour(shown(made, path)) - 128).max() <= 2


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_twelve_of_sixteen_bits_are_not_black(made, tmp_path, ending):
    values = np.linspace(200, 3200, 240 * 180).reshape(180, 240).astype(np.uint16)
    found = shown(made, saved(tmp_path / f"a.{ending}", PIL.Image.fromarray(values)))
    greys = np.asarray(found.convert("L"), float)
    assert np.abs(greys[:, 120] - 255 * (values[:, 120] / 3000 - 200 / 3000)).max() <= 5


def test_reflectances_of_sixteen_bits_are_not_black(made, tmp_path):
    """Reference: the percentiles of all channels and a straight line, by NumPy."""
    ramp = np.linspace(300, 3000, 240 * 180).reshape(180, 240)
    values = np.dstack([ramp, 0.75 * ramp, 0.5 * ramp]).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb")
    low, high = np.percentile(values, (0.5, 99.5))
    expected = 255 * np.clip((values - low) / (high - low), 0, 1)
    assert np.abs(np.asarray(shown(made, tmp_path / "a.tif"), float) - expected).mean() <= 2


def test_one_bit_palette_and_grey(made, tmp_path):
    assert colour(shown(made, saved(tmp_path / "a.png", PIL.Image.new("1", (9, 9), 1)))).tolist() == [255] * 3
    grey = colour(shown(made, saved(tmp_path / "b.png", PIL.Image.new("L", (9, 9), 90))))
    assert np.abs(grey - 90).max() <= 2
    palette = colour(shown(made, saved(tmp_path / "c.png", plain().convert("P"))))
    assert np.abs(palette - (200, 30, 60)).max() <= 30


@pytest.mark.parametrize("ending", ["tif", "png"])
def test_scans_in_black_and_white_need_one_byte_a_pixel(made, tmp_path, ending):
    """A4 at 600 dpi; they were refused as if they were decoded to colours."""
    page = PIL.Image.new("1", (4960, 7016), 1)
    page.paste(0, (0, 0, 2480, 7016))
    options = {"compression": "group4"} if ending == "tif" else {}
    found = shown(made, saved(tmp_path / f"a.{ending}", page, **options), "large")
    assert found.size == (905, 1280)
    assert [colour(found, (x, 600)).tolist() for x in (200, 700)] == [[0] * 3, [255] * 3]


def test_what_is_transparent_is_white(made, tmp_path):
    path = saved(tmp_path / "a.png", PIL.Image.new("RGBA", (40, 30), (0, 0, 0, 0)))
    assert colour(shown(made, path)).tolist() == [255, 255, 255]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_half_transparent_is_mixed_with_white(made, tmp_path, mode):
    bands = np.random.default_rng(0).integers(0, 256, (600, 800, len(mode)), np.uint8)
    image = PIL.Image.fromarray(bands).resize((800, 600), box=(0, 0, 8, 6))
    path = saved(tmp_path / "a.png", image)
    colours, alpha = (np.asarray(image.convert(m), float) for m in ("RGBA", "LA"))
    share = alpha[..., 1:] / 255
    white = PIL.Image.fromarray(np.uint8(colours[..., :3] * share + 255 * (1 - share) + 0.5))
    white.thumbnail((256, 256), PIL.Image.Resampling.LANCZOS)
    found = np.asarray(shown(made, path).convert("RGB"), float)
    assert np.abs(found - np.asarray(white, float)).mean() < 2


def test_turned_as_the_camera_says_and_nothing_else_of_its_notes(made, tmp_path):
    image = plain(size=(40, 20))
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    exif[0x010F] = "the maker"
    path = saved(tmp_path / "a.jpg", image, exif=exif)
    found = shown(made, path)
    assert found.size == (20, 40)
    assert b"the maker" not in made.read(str(path), "small")
    assert not dict(found.getexif())


@pytest.mark.parametrize("ending", ["gif", "mpo"])
def test_of_moving_images_the_first(made, tmp_path, ending):
    frames = [plain(value=(250, 0, 0)), plain(value=(0, 250, 0))]
    path = tmp_path / f"a.{ending}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert np.abs(colour(shown(made, path)) - (250, 0, 0)).max() <= 6


def bomb():
    """Return a PNG of 60,000 × 60,000 pixels in 200 bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0" * 99))
        + chunk(b"IEND", b"")
    )


def cut():
    data = io.BytesIO()
    PIL.Image.effect_noise((400, 300), 50).save(data, "JPEG")
    return data.getvalue()[:4000]


BROKEN = {
    "cut.jpg": cut(),
    "bomb.png": bomb(),
    "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "program.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
    "empty.jpg": b"",
    "text.jpg": b"no image",
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_decoded_is_refused(made, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(BROKEN[name])
    with pytest.raises(InputError) as raised:
        made.read(str(path), "small")
    assert raised.value.what == "The image cannot be decoded."
    assert raised.value.details["where"] == str(path)


def test_the_reason_for_an_image_that_is_too_large_has_no_name_of_a_python_class(made, tmp_path, monkeypatch):
    """Users read ``TooLargeError: 9 × 7 pixels…``."""
    monkeypatch.setattr(picture_cache, "MAX_PIXELS", 10)
    PIL.Image.new("RGB", (9, 7)).save(tmp_path / "a.png")
    with pytest.raises(InputError) as raised:
        made.read(str(tmp_path / "a.png"), "small")
    assert raised.value.details["got"] == "9 × 7 pixels, at most 10 in all"


def test_large_files_are_not_read(made, tmp_path, monkeypatch):
    monkeypatch.setattr(picture_cache, "MAX_FILE_BYTES", 1000)
    path = tmp_path / "a.jpg"
    path.write_bytes(b"x" * 1001)
    with pytest.raises(InputError) as raised:
        made.read(str(path), "small")
    assert str(raised.value) == (
        f"The image is too large.\n  where:   {path}\n  got:     more than 1,000 bytes\n"
        "  allowed: at most 1,000 bytes"
    )


@pytest.mark.parametrize("name", ["nowhere.jpg", "nowhere/a.jpg", "a\0b.jpg", ""])
def test_what_is_not_there(made, tmp_path, name):
    with pytest.raises(InputError):
        made.read(f"{tmp_path}/{name}", "small")


def test_a_folder_a_loop_and_a_pipe_keep_nobody_waiting(made, tmp_path):
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    for name in (".", "loop.jpg", "pipe.jpg"):
        with pytest.raises(InputError):
            made.read(f"{tmp_path}/{name}", "small")


def test_a_member_of_an_archive(made, tmp_path):
    path = saved(tmp_path / "a.png", plain())
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        tar.add(path, "./photos/a.png")
    path.unlink()
    assert shown(made, tmp_path / "all.tar" / "photos" / "a.png").size == (256, 192)
    with pytest.raises(InputError, match="The image does not exist"):
        made.read(str(tmp_path / "all.tar" / "photos" / "b.png"), "small")


def test_through_fsspec(made):
    fsspec = pytest.importorskip("fsspec")
    data = io.BytesIO()
    plain().save(data, "PNG")
    fsspec.filesystem("memory").pipe("/bucket/a.png", data.getvalue())
    assert shown(made, "memory://bucket/a.png").size == (256, 192)
    with pytest.raises(InputError, match=r"The image cannot be read\.") as raised:
        made.read("memory://bucket/b.png", "small")
    assert raised.value.details["where"] == "memory://bucket/b.png"


def files(made):
    return sorted(path for path in made._cache.rglob("*") if path.is_file())


def test_made_once(made, tmp_path):
    path = saved(tmp_path / "a.png", plain())
    first = made.read(str(path), "small")
    path.unlink()
    assert made.read(str(path), "small") == first
    assert [f.read_bytes() for f in files(made)] == [first]


def test_the_folder_may_go_while_we_run(made, tmp_path):
    import shutil

    path = saved(tmp_path / "a.png", plain())
    first = made.read(str(path), "small")
    shutil.rmtree(made._cache)
    assert made.read(str(path), "small") == first


def test_a_file_that_was_never_written_to_the_end_is_made_anew(made, tmp_path):
    path = saved(tmp_path / "a.png", plain())
    first = made.read(str(path), "small")
    files(made)[0].write_bytes(b"")
    assert made.read(str(path), "small") == first
    assert files(made)[0].read_bytes() == first


@pytest.mark.parametrize("why", ["full", "file"])
def test_where_nothing_can_be_kept_images_are_shown_nevertheless(tmp_path, monkeypatch, why):
    made = PictureCache(tmp_path / "cache")
    path = saved(tmp_path / "a.png", plain())
    if why == "file":  # the folder cannot be made
        (tmp_path / "cache").write_bytes(b"")
    else:

        def full(*_, **__):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(picture_cache.os, "fdopen", full)
    assert shown(made, path).size == (256, 192)
    if why == "full":
        assert files(made) == []


def test_many_at_once(made, tmp_path):
    path = saved(tmp_path / "a.png", plain(size=(2000, 1500)))
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(PictureCache(made._cache).read(str(path), "small")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert len(files(made)) == 1


class Held:
    """A function that returns when it is let go, and notes what it was called with."""

    def __init__(self, function):
        self.function, self.calls = function, []
        self.began, self.go = threading.Event(), threading.Event()

    def __call__(self, *args):
        self.calls.append(args)
        self.began.set()
        assert self.go.wait(30)
        return self.function(*args)


def at_once(held, *asks):
    """Ask in a thread each; what is held is let go when all of them ask. Return what they got."""
    came, got = threading.Semaphore(0), []

    def run(ask):
        came.release()
        got.append(ask())

    threads = [threading.Thread(target=run, args=(ask,)) for ask in asks]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert came.acquire(timeout=30)
    assert held.began.wait(30)
    held.go.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return got


def test_an_image_that_many_ask_for_at_once_is_read_once(made, tmp_path, monkeypatch):
    path = str(saved(tmp_path / "a.png", plain()))
    held = Held(picture_cache.read_picture)
    monkeypatch.setattr(picture_cache, "read_picture", held)
    assert len(set(at_once(held, *[lambda: made.read(path, "small")] * 8))) == 1
    assert held.calls == [(path,)]


def test_an_image_that_cannot_be_made_may_be_asked_for_again(made, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"no image")
    with pytest.raises(InputError):
        made.read(str(path), "small")
    assert shown(made, saved(path, plain())).size == (256, 192)
    assert made._making == {}


def test_the_index_of_an_archive_is_read_once_by_many_who_ask_at_once(made, tmp_path, monkeypatch):
    names = [f"{n}.png" for n in range(8)]
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        for n, name in enumerate(names):
            tar.add(saved(tmp_path / name, plain(value=(30 * n, 0, 0))), name)
    held = Held(tarfile.open)
    monkeypatch.setattr(picture_cache.tarfile, "open", held)
    asks = [partial(made.read, f"{tmp_path}/all.tar/{name}", "small") for name in names]
    assert len(set(at_once(held, *asks))) == 8
    assert len(held.calls) == 1


# ── Strips ──


def coloured(folder, count):
    """Return images in as many colours, each wide or high, and the colours."""
    colours = [(40 + 20 * n, 200 - 15 * n, 30 * (n % 3)) for n in range(count)]
    sizes = [(300, 200), (200, 300), (40, 40)]
    paths = [
        str(saved(folder / f"{n}.png", plain(size=sizes[n % 3], value=c))) for n, c in enumerate(colours)
    ]
    return paths, colours


def tiles(data):
    """Return the colours at the middle and near the corners of each square of a strip."""
    with PIL.Image.open(io.BytesIO(data)) as image:
        assert image.size == (9 * 192, 192)
        pixels = np.asarray(image).astype(int)
    return [pixels[[5, 96, 186], [192 * n + 5, 192 * n + 96, 192 * n + 186]] for n in range(9)]


def test_a_strip_has_a_square_for_each_image_and_grey_after_them(made, tmp_path):
    paths, colours = coloured(tmp_path, 5)
    data, whole = made.strip(paths)
    assert whole
    for found, colour in zip(tiles(data), colours + [(128, 128, 128)] * 4, strict=True):
        assert np.abs(found - colour).max() <= 8


def test_a_strip_is_made_once(made, tmp_path):
    paths, _ = coloured(tmp_path, 3)
    data, _ = made.strip(paths)
    for path in paths:
        Path(path).unlink()
    assert made.strip(paths) == (data, True)


def test_a_strip_that_many_ask_for_at_once_is_made_once(made, tmp_path, monkeypatch):
    paths, _ = coloured(tmp_path, 3)
    held = Held(picture_cache._shrink)
    monkeypatch.setattr(picture_cache, "_shrink", held)
    assert len(set(at_once(held, *[lambda: made.strip(paths)] * 8))) == 1
    assert len(held.calls) == 3


def test_a_strip_lacks_what_cannot_be_read_until_it_can(made, tmp_path):
    paths, colours = coloured(tmp_path, 3)
    Path(paths[1]).rename(tmp_path / "away.png")
    data, whole = made.strip(paths)
    assert not whole
    assert np.abs(tiles(data)[1] - 128).max() <= 8
    assert np.abs(tiles(data)[2] - colours[2]).max() <= 8
    (tmp_path / "away.png").rename(paths[1])
    data, whole = made.strip(paths)
    assert whole
    assert np.abs(tiles(data)[1] - colours[1]).max() <= 8


def test_colours_of_a_strip_are_those_that_a_profile_means(made, tmp_path):
    # A profile whose red and green are changed over: what it calls red is seen as green.
    profile = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()
    swapped = profile.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")
    broken = b"x" * 16 + b"RGB " + b"x" * 200
    swapped, broken = (
        saved(tmp_path / f"{n}.png", plain(value=(220, 40, 60)), icc_profile=p)
        for n, p in enumerate((swapped, broken))
    )
    data, whole = made.strip([str(swapped), str(broken)])
    assert whole
    assert np.abs(tiles(data)[0] - (40, 220, 60)).max() <= 12
    assert np.abs(tiles(data)[1] - (220, 40, 60)).max() <= 12


# ── What else is in a file ──


@pytest.mark.parametrize("ending", ENDINGS)
def test_of_what_is_written_in_a_file_raters_get_its_colour_profile_alone(tmp_path, ending):
    path = str(write_photograph(tmp_path / f"a.{ending}"))
    store = Store(f"sqlite:///{tmp_path}/votes.sqlite")
    store.fill(
        [ImageQuestions("a", path, 0, (0,))], [Example(0, "a", path)], CampaignSettings(raters=1), "source"
    )
    app = create_app(store, classes(), tmp_path / "cache", title="fish")
    with TestClient(app, "http://127.0.0.1") as client:
        client.post("/join/" + store.invite("ann"))
        known = app.state.context
        places, strip = (known.image_address(1), known.example_address(0, 1)), known.strip_address(0)
        addresses = [f"{place}/{size}" for place in places for size in picture_cache.SIDES]
        answers = {address: client.get(address) for address in (*addresses, strip)}
    store.close()
    assert {a: answer.status_code for a, answer in answers.items()} == dict.fromkeys(answers, 200)
    got = {address: answer.content for address, answer in answers.items()}
    assert SECRET in Path(path).read_bytes()
    assert not [address for address, data in got.items() if SECRET in data]
    for address in addresses:
        found = PIL.Image.open(io.BytesIO(got[address]))
        assert not {"comment", "exif", "photoshop", "xmp"} & set(found.info)
        assert found.info.get("icc_profile") == (PROFILE if ending in TURNED else None)
        assert (found.width < found.height) == (ending in TURNED)
        middle = np.array(found.size) // 2
        first, second = (middle // 2).tolist(), (middle * 3 // 2).tolist()
        assert np.abs(colour(found, first) - LEFT).max() <= 12
        assert np.abs(colour(found, second) - RIGHT).max() <= 12
    corners = tiles(got[strip])[0]
    for corner, expected in ((corners[0], LEFT), (corners[2], RIGHT)):
        assert np.abs(corner - expected).max() <= 12


def test_a_file_of_an_earlier_version_with_its_comment_is_made_anew(made, tmp_path, monkeypatch):
    path = write_photograph(tmp_path / "a.jpg")
    with monkeypatch.context() as patch:
        patch.setattr(picture_cache, "_VERSION", 1)
        earlier = made._path(str(picture_cache.SIDES["small"]), str(path))
    earlier.parent.mkdir(parents=True)
    earlier.write_bytes(path.read_bytes())
    assert SECRET not in made.read(str(path), "small")


@pytest.mark.parametrize(
    ("mode", "name", "fine"),
    [
        ("RGB", "a.png", False),
        ("P", "a.png", False),
        ("P", "a.gif", False),
        ("1", "a.png", True),
        ("L", "a.png", True),
        ("RGB", "a.jpg", True),
    ],
)
def test_what_takes_too_much_memory_is_not_decoded(tmp_path, mode, name, fine):
    PIL.Image.new(mode, (6000, 6000)).save(
        tmp_path / name
    )  # 108 MB in the three bands of a palette's colours
    pictures = PictureCache(tmp_path / "cache")
    if fine:
        assert pictures.read(str(tmp_path / name), "small")
        return
    with pytest.raises(InputError, match="108,000,000 bytes when decoded, at most 100,000,000"):
        pictures.read(str(tmp_path / name), "small")


@pytest.mark.parametrize(
    ("mode", "more", "needed"),
    [
        ("RGB", {"subsampling": 0}, 2 * 6000 * 6000 * 3),
        ("RGB", {"subsampling": 1}, 2 * 6000 * 6000 * 2),
        ("RGB", {"subsampling": 2}, None),  # as most encoders write it
        ("CMYK", {"subsampling": 0}, 2 * 6000 * 6000 * 4),
        ("L", {}, None),
        ("RGB", {"subsampling": 0, "progressive": False}, None),
    ],
    ids=["4:4:4", "4:2:2", "4:2:0", "CMYK", "grey", "baseline"],
)
def test_a_progressive_jpeg_that_takes_too_much_memory_is_not_decoded(
    made, tmp_path, monkeypatch, mode, more, needed
):
    monkeypatch.setattr(picture_cache, "MAX_COEFFICIENTS", 3 * 6000 * 6000)
    path = tmp_path / "a.jpg"
    PIL.Image.new(mode, (6000, 6000)).save(path, **{"progressive": True} | more)
    if needed is None:
        assert made.read(str(path), "small")
        return
    with pytest.raises(
        InputError, match=f"{needed:,} bytes to decode a progressive JPEG, at most 108,000,000"
    ):
        made.read(str(path), "small")


@pytest.mark.parametrize(("side", "alone"), [(5000, True), (1000, False)])
def test_large_images_are_decoded_one_at_a_time(made, tmp_path, monkeypatch, side, alone):
    smaller, found = picture_cache._smaller, []

    def look(*args):
        found.append(picture_cache._DECODING_LARGE.locked())
        return smaller(*args)

    monkeypatch.setattr(picture_cache, "_smaller", look)
    made.read(str(saved(tmp_path / "a.png", plain(size=(side, side)))), "small")
    assert found == [alone]


def test_images_that_were_never_made_are_limited(tmp_path):
    """One rater who asks for the examples of all classes would take most of a core."""
    PIL.Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    store = Store(f"sqlite:///{tmp_path}/db.sqlite")
    shown = [Example(c, f"{c}.png", str(tmp_path / "a.png")) for c in range(3)]
    shown += [Example(c, f"again{c}.png", str(tmp_path / "a.png")) for c in range(3) for _ in range(c)]
    store.fill(
        [ImageQuestions("a.png", str(tmp_path / "a.png"), 0, (0, 1, 2))], shown, CampaignSettings(), "x"
    )
    app = create_app(store, classes(), tmp_path / "cache", title="x")
    app.state.context.limits.made = Buckets((0.001, 120.0))
    with TestClient(app) as client:
        invitation = store.invite("ann")
        client.post(f"/join/{invitation}")
        address = app.state.context.strip_address
        assert [client.get(address(c)).status_code for c in (0, 0, 1, 2)] == [200, 200, 200, 429]
        assert client.get(address(2)).headers["retry-after"].isdigit()
        again = TestClient(app)
        again.post(f"/join/{invitation}")
        assert again.get(address(2)).status_code == 429  # another session of the same rater
        image = app.state.context.image_address(1)
        assert client.get(f"{image}/large").status_code == 429
        bob = TestClient(app)
        bob.post(f"/join/{store.invite('bob')}")
        assert bob.get(address(2)).status_code == 200
        assert client.get(address(2)).status_code == 200  # made by now
        assert bob.get(f"{image}/large").status_code == 200
        assert client.get(f"{image}/large").status_code == 200
    store.close()


@pytest.mark.parametrize("top", [380, 20_000])
def test_a_dim_fourth_channel_of_sixteen_bits_is_not_opacity(made, tmp_path, top):
    """A stain that is declared as opacity; its upper bytes are 0, as if the whole image were transparent."""
    rng = np.random.default_rng(0)
    values = rng.integers(90, top, (120, 160, 4)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "four.tif", values, photometric="rgb", extrasamples=["unassalpha"])
    tifffile.imwrite(tmp_path / "three.tif", values[..., :3].copy(), photometric="rgb")
    four, three = (np.asarray(shown(made, tmp_path / f"{name}.tif")) for name in ("four", "three"))
    assert (four == three).all()
