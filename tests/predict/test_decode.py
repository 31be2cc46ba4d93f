import contextlib
import importlib
import io
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, TiffImagePlugin

from manyhot.predict.decode import _ONE_AT_A_TIME, decode


def encoded(image, ending, **options):
    file = io.BytesIO()
    image.save(file, {"jpg": "JPEG", "tif": "TIFF"}.get(ending, ending.upper()), **options)
    return file.getvalue()


def pixels(data, *points):
    """Decode, and return the colours at some points (x, y)."""
    image = decode(data)
    assert not isinstance(image, str), image
    return [tuple(image[:, y, x].tolist()) for x, y in points]


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_header(width, height):
    """A PNG that claims to be large and holds no pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", 1000) + b"IDAT"


def jpeg_header(width, height):
    """A JPEG that claims to be large and holds no pixels."""
    frame = struct.pack(">BHHB", 8, height, width, 1) + b"\x01\x11\x00"
    return (
        b"\xff\xd8\xff\xc0"
        + struct.pack(">H", len(frame) + 2)
        + frame
        + b"\xff\xda\x00\x08\x01\x01\x00\x00?\x00"
    )


def noise(width=64, height=64):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def planes(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@pytest.mark.parametrize("ending", ["png", "webp", "bmp", "tif", "ppm"])
def test_formats_without_loss(ending):
    image = noise(48, 32)
    options = {"lossless": True} if ending == "webp" else {}
    found = decode(encoded(image, ending, **options))
    assert found.dtype == torch.uint8
    assert found.shape == (3, 32, 48)
    assert found.is_contiguous()
    assert torch.equal(found, planes(image))


@pytest.mark.parametrize("quality", [60, 90, 100])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_as_pillow_decodes_it(quality, mode):
    data = encoded(noise().convert(mode), "jpg", quality=quality)
    with Image.open(io.BytesIO(data)) as image:
        expected = planes(image.convert("RGB"))
    assert (decode(data).int() - expected.int()).abs().max() <= 1


def test_progressive_jpeg():
    data = encoded(noise(), "jpg", progressive=True)
    with Image.open(io.BytesIO(data)) as image:
        assert (decode(data).int() - planes(image).int()).abs().max() <= 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"not a picture", "not an image of a known format"),
        (b"\0" * 128 + b"DICM" + b"\2\0\0\0", "a DICOM file; convert it to PNG or TIFF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image of a known format"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not an image of a known format"),
        (png_header(20_000, 20_000), "more than 178,956,970 pixels"),
        (jpeg_header(20_000, 20_000), "more than 178,956,970 pixels"),
        (png_header(3, 1_000), "3 × 1,000 pixels: longer than 100 times its short side"),
    ],
    ids=["empty", "text", "dicom", "eps", "svg", "bomb", "jpeg-bomb", "thin"],
)
def test_why_an_image_is_skipped(data, reason):
    assert decode(data) == reason


def test_a_large_image_without_pixels_does_not_warn():
    assert decode(png_header(10_000, 10_000)).startswith("cannot be decoded: ")


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "bmp", "gif", "tif", "ppm"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_truncated(ending, share):
    data = encoded(noise(), ending)
    assert isinstance(decode(data[: int(len(data) * share)]), str)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", np.arange(0.2, 1, 0.1))
def test_the_reason_of_a_truncated_photograph(progressive, share):
    data = encoded(noise(256, 256), "jpg", progressive=progressive)
    reason = decode(data[: int(len(data) * share)])
    assert reason == "cannot be decoded: Image is incomplete or truncated"


def test_bytes_after_a_photograph_are_ignored():
    data = encoded(noise(), "jpg")
    assert torch.equal(decode(data + data[100:]), decode(data))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("ending", ["jpg", "png", "gif", "tif", "webp"])
def test_damaged_bytes_are_an_image_or_a_reason(ending, seed):
    rng = np.random.default_rng(seed)
    data = bytearray(encoded(noise(), ending))
    for place in rng.integers(0, len(data), 20):
        data[place] = rng.integers(256)
    found = decode(bytes(data))
    assert isinstance(found, str) or found.shape[0] == 3


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_damaged_headers_of_photographs_are_read_as_by_pillow(monkeypatch, mode, progressive):
    """What is an image when Pillow reads all headers is the same image when it does not."""
    rng, exif = np.random.default_rng(0), Image.Exif()
    exif[0x0112] = 6
    whole = encoded(noise(56, 40).convert(mode), "jpg", progressive=progressive, exif=exif)
    end = whole.find(b"\xff\xda")
    for turn in range(60):
        data = bytearray(whole)
        place = int(rng.integers(2, end))
        if turn % 2:
            data[place] = rng.integers(256)
        else:
            data[place:place] = rng.bytes(turn % 8 + 1)
        found = decode(bytes(data))
        with monkeypatch.context() as patch:
            patch.setattr(
                importlib.import_module("manyhot.predict.decode"), "_is_common_jpeg", lambda data: False
            )
            other = decode(bytes(data))
        both = isinstance(found, str) and isinstance(other, str)
        assert both or torch.equal(found, other)


def test_pillow_reads_no_header_of_a_common_photograph(monkeypatch):
    photographs = [encoded(noise().convert(mode), "jpg") for mode in ("RGB", "L")]
    monkeypatch.setattr("PIL.Image.open", None)
    assert [decode(data).shape for data in photographs] == [(3, 64, 64)] * 2


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_without_a_white(mode):
    data = encoded(Image.new(mode, (4, 4), 70_000), "tif")
    assert decode(data) == f"pixels of mode {mode}, which has no known white level"


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bit_grey_is_scaled(ending):
    grey = np.array([[0, 128 * 257, 255 * 257, 300]], np.uint16)
    data = encoded(Image.fromarray(grey), ending)
    assert pixels(data, (0, 0), (1, 0), (2, 0), (3, 0)) == [(v, v, v) for v in (0, 128, 255, 1)]


def tiff(bits, photometric, row, width):
    """A TIFF of one row of greys."""
    tags = (256, width), (257, 1), (258, bits), (259, 1), (262, photometric), (273, 122), (277, 1), (278, 1)
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in (*tags, (279, len(row))))
    return b"II*\0" + struct.pack("<IH", 8, 9) + entries + b"\0" * 4 + row


@pytest.mark.parametrize(
    ("bits", "photometric", "row", "seen"),
    [
        (16, 1, struct.pack("<2H", 128 * 257, 65535), (128, 255)),
        (16, 0, struct.pack("<2H", 128 * 257, 65535), (127, 0)),
        (12, 1, b"\x80\x0f\xff", (128, 255)),
        (8, 0, b"\x80\xff", (127, 0)),
    ],
)
def test_greys_of_tiff(bits, photometric, row, seen):
    assert pixels(tiff(bits, photometric, row, 2), (0, 0), (1, 0)) == [(v, v, v) for v in seen]


def test_16_bit_maps_are_scaled():
    data = b"P5 3 1 1000\n" + struct.pack(">3H", 0, 500, 1000)
    assert pixels(data, (0, 0), (1, 0), (2, 0)) == [(v, v, v) for v in (0, 128, 255)]


def test_16_bit_colour_is_scaled():
    row = b"\0" + struct.pack(">6H", 65535, 0, 0, 128 * 257, 128 * 257, 128 * 257)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    assert pixels(data, (0, 0), (1, 0)) == [(255, 0, 0), (128, 128, 128)]


def test_cmyk():
    data = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "jpg", quality=100)
    ((red, green, blue),) = pixels(data, (8, 8))
    assert red > 250
    assert max(green, blue) < 5


@pytest.mark.parametrize(
    ("mode", "seen", "through"), [("RGBA", (9, 8, 7, 255), (9, 8, 7, 0)), ("LA", (9, 255), (9, 0))]
)
def test_transparent_is_white(mode, seen, through):
    image = Image.new(mode, (2, 1), seen)
    image.putpixel((1, 0), through)
    opaque = (9, 8, 7) if mode == "RGBA" else (9, 9, 9)
    assert pixels(encoded(image, "png"), (0, 0), (1, 0)) == [opaque, (255, 255, 255)]


def test_palette_with_a_transparent_colour():
    image = Image.new("P", (2, 1), 0)
    image.putpalette([200, 0, 0, 0, 0, 200])
    image.putpixel((1, 0), 1)
    assert pixels(encoded(image, "png"), (0, 0), (1, 0)) == [(200, 0, 0), (0, 0, 200)]
    clear = encoded(image, "png", transparency=bytes([255, 0]))
    assert pixels(clear, (0, 0), (1, 0)) == [(200, 0, 0), (255, 255, 255)]


def test_black_and_white():
    image = Image.new("1", (2, 1), 0)
    image.putpixel((1, 0), 1)
    assert pixels(encoded(image, "png"), (0, 0), (1, 0)) == [(0, 0, 0), (255, 255, 255)]


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "tif"])
def test_an_animation_is_its_first_picture(ending):
    first, second = Image.new("RGB", (4, 4), (255, 0, 0)), Image.new("RGB", (4, 4), (0, 0, 255))
    options = {"lossless": True} if ending == "webp" else {}
    data = encoded(first, ending, save_all=True, append_images=[second], **options)
    assert pixels(data, (0, 0)) == [(255, 0, 0)]


@pytest.mark.parametrize("mode", ["L", "I;16"])
def test_grey_pages_may_be_channels(mode):
    white = 65535 if mode == "I;16" else 255
    first, *others = (Image.new(mode, (4, 4), value) for value in (white, 50, 60))
    data = encoded(first, "tif", save_all=True, append_images=others)
    assert decode(data) == (
        "a TIFF of several greyscale pages of the same size, which may be the channels of one image; save "
        "three of them as RGB or one of them alone, or pass all to manyhot.predict_loader; if they "
        "are pages of a document, split them into one file per page"
    )
    broken = data[: len(encoded(first, "tif")) + 2]  # in the second page
    preview = encoded(first, "tif", save_all=True, append_images=[Image.new(mode, (2, 2))])  # as of GDAL
    for one in (broken, preview):
        assert pixels(one, (0, 0)) == [(255, 255, 255)]


LOCATED = TiffImagePlugin.ImageFileDirectory_v2()
LOCATED[33550] = (10.0, 10.0, 0.0)  # the size of a pixel on the ground


@pytest.mark.parametrize("tags", [None, LOCATED])
@pytest.mark.parametrize(
    ("fourth", "is_opacity"), [([0, 0, 255, 255], True), ([25, 90, 13, 255], False), ([0, 0, 0, 7], None)]
)
def test_a_fourth_band_is_not_opacity(tags, fourth, is_opacity):
    """GDAL declares the fourth band of 8 bits as opacity, also if it is infrared."""
    image = Image.new("RGB", (4, 1), (100, 100, 100))
    image.putalpha(Image.frombytes("L", (4, 1), bytes(fourth)))
    data = encoded(image, "tif", **({} if tags is None else {"tiffinfo": tags}))
    is_opacity = tags is None if is_opacity is None else is_opacity
    shown = [round(100 * a / 255 + 255 * (255 - a) / 255) for a in fourth] if is_opacity else [100] * 4
    seen = [red for red, *_ in pixels(data, *((x, 0) for x in range(4)))]
    assert np.abs(np.subtract(seen, shown)).max() <= 1  # Pillow rounds by itself


# Where the top left corner of the upright picture lies in the stored one, and whether the sides are swapped.
ORIENTATIONS = [
    (1, 0, 0),
    (2, 1, 0),
    (3, 3, 0),
    (4, 2, 0),
    (5, 0, 1),
    (6, 2, 1),
    (7, 3, 1),
    (8, 1, 1),
    (9, 0, 0),
]


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize(("orientation", "corner", "swapped"), ORIENTATIONS)
def test_exif_orientation(ending, orientation, corner, swapped):
    image = Image.new("RGB", (48, 32), "black")
    x, y = [(0, 0), (32, 0), (0, 16), (32, 16)][corner]
    image.paste((255, 255, 255), (x, y, x + 16, y + 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = decode(encoded(image, ending, exif=exif))
    assert upright.shape == ((3, 48, 32) if swapped else (3, 32, 48))
    assert upright[:, 0, 0].min() > 240
    assert upright[:, -1, -1].max() < 15


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_broken_exif_leaves_the_picture(ending):
    data = encoded(noise(), ending, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert torch.equal(decode(data), decode(encoded(noise(), ending)))


@pytest.mark.slow
def test_memory_of_a_large_image(tmp_path):
    """Pillow holds 4 bytes a pixel, the image itself takes 3; it was 15."""
    side = 6000
    Image.new("RGBA", (side, side), (9, 8, 7, 0)).save(tmp_path / "x.png", compress_level=1)
    code = (
        "import pathlib, resource, sys, torch, torchvision.io\n"
        "from manyhot.predict.decode import decode\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "data = pathlib.Path(sys.argv[1]).read_bytes()\n"
        "before = peak()\n"
        "assert int(decode(data).min()) == 255\n"
        "print((peak() - before) * 1024)"
    )
    run = [sys.executable, "-c", code, str(tmp_path / "x.png")]
    took = int(subprocess.run(run, check=True, capture_output=True, text=True).stdout)
    assert took < 10 * side * side


def test_large_images_are_decoded_one_at_a_time(monkeypatch):
    large, small = (encoded(noise(*size), "png") for size in ((8, 8), (4, 4)))
    monkeypatch.setattr(importlib.import_module("manyhot.predict.decode"), "_LARGE", 16)
    with ThreadPoolExecutor(2) as pool, contextlib.ExitStack() as another:
        another.enter_context(_ONE_AT_A_TIME)
        waiting = pool.submit(decode, large)
        assert pool.submit(decode, small).result(timeout=30).shape == (3, 4, 4)
        assert not waiting.done()
        another.close()
        assert waiting.result(timeout=30).shape == (3, 8, 8)


def test_an_image_of_several_strips(monkeypatch):
    monkeypatch.setattr(importlib.import_module("manyhot.predict.decode"), "_STRIP", 200)
    image = noise(64, 33)
    assert torch.equal(decode(encoded(image, "png")), planes(image))


def test_the_bytes_given_are_left_as_they_are():
    data = encoded(noise(), "jpg")
    before = bytes(bytearray(data))
    decode(data)
    assert data == before


@pytest.mark.parametrize("n", range(4, 10))
def test_a_jpeg_that_is_cut_within_the_header_of_its_frame(n):
    data = encoded(Image.new("RGB", (64, 48), "red"), "jpg")
    assert decode(data[: data.index(b"\xff\xc0") + n]) == "cannot be decoded: Truncated File Read"


def with_scans(count, size, after=b"", before=b""):
    """Return a progressive JPEG whose first scan is repeated, each time with the bytes before it."""
    data = encoded(Image.new("RGB", (64, 48), "red"), "jpg", progressive=True)
    frame, scan = data.index(b"\xff\xc2"), data.index(b"\xff\xda")
    head = data[: frame + 5] + struct.pack(">HH", *size) + data[frame + 9 : scan]
    return head + (before + data[scan:-2]) * count + b"\xff\xd9" + after


@pytest.mark.parametrize("before", [b"", b"\xff", b"\xff\x01", b"\xff\xfe\x00\x02"])
def test_a_jpeg_of_many_scans(before):
    """1 MB of 500 scans of 7,000 x 7,000 pixels was decoded for half a minute, and could not be stopped."""
    assert decode(with_scans(101, (7000, 7000), before=before)) == "a JPEG of more than 100 scans"


def test_scans_after_the_end_of_a_jpeg_are_not_counted():
    assert pixels(with_scans(1, (48, 64), after=b"\xff\xda" * 200), (5, 5)) == [(254, 0, 0)]
    data = encoded(Image.new("RGB", (64, 48), "red"), "jpg", exif=b"\xff\xda" * 200)
    assert pixels(data, (5, 5)) == [(254, 0, 0)]


@pytest.mark.parametrize("top", [380, 20_000])
def test_a_dim_fourth_channel_of_sixteen_bits_is_not_opacity(tmp_path, top):
    """A stain that is declared as opacity; its upper bytes are 0, as if the whole image were transparent."""
    values = np.random.default_rng(0).integers(90, top, (40, 50, 4)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "four.tif", values, photometric="rgb", extrasamples=["unassalpha"])
    tifffile.imwrite(tmp_path / "three.tif", values[..., :3].copy(), photometric="rgb")
    four, three = (decode((tmp_path / f"{name}.tif").read_bytes()) for name in ("four", "three"))
    assert torch.equal(four, three)
