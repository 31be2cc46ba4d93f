"""The bits of images of more than 8 bits: what models see, and what a run says of images that are dark."""

import pickle
import struct
import tarfile
import zlib
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
from PIL import Image

import manyhot
from manyhot.errors import MatchError, UsageError
from manyhot.predict.decode import decode
from manyhot.predict.network import Network
from manyhot.predict.run import PredictSettings, run
from manyhot.predict.sources import Decoding, alter_images, open_source, select_images
from manyhot.run import Run
from small_models import COLOURS, SMALL, mean_colour

pytestmark = pytest.mark.usefixtures("quick_trials")

RAMP = np.linspace(0, 4000, 40 * 30).reshape(30, 40).astype(np.uint16)


@pytest.fixture
def radiographs(tmp_path):
    """Four PNG and TIFF files of 12 bits in files of 16 bits."""
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(4):
        Image.fromarray(RAMP + np.uint16(20 * i)).save(folder / f"{i}.{'png' if i % 2 else 'tif'}")
    return folder


def seen(source):
    """Return what models see of the images of a source: the first channel of each."""
    found = {item.image_id: decode(read()) for part in source.parts for item, read in part.items()}
    return {name: image if isinstance(image, str) else image[0].numpy() for name, image in found.items()}


def note(folder, bits=None):
    source = open_source(folder, decoding=Decoding(bits))
    return source.notes


@pytest.mark.parametrize("bits", [12, "12"])
def test_values_are_divided_by_the_white_of_the_bits(radiographs, bits):
    images = seen(open_source(radiographs, decoding=Decoding(bits)))
    assert np.array_equal(images["0.tif"], np.round(RAMP / 4095 * 255))
    assert np.array_equal(images["1.png"], np.round((RAMP + 20) / 4095 * 255))
    assert len(np.unique(images["0.tif"])) == 250  # 4,000 of 4,095 levels


def test_minmax_stretches_each_image(radiographs):
    images = seen(open_source(radiographs, decoding=Decoding("minmax")))
    expected = np.round(255 * (RAMP / 4000))
    for image in images.values():
        assert np.array_equal(image, expected)


def test_without_bits_the_file_format_decides(radiographs):
    images = seen(open_source(radiographs, decoding=Decoding()))
    assert np.array_equal(images["0.tif"], np.round(RAMP / 257))


def test_a_value_that_needs_more_bits_is_a_reason(radiographs):
    images = seen(open_source(radiographs, decoding=Decoding(11)))
    assert images["0.tif"] == "a pixel has the value 4,000, which is outside the range of 11 bits, 0 to 2,047"


def test_bits_are_for_greyscale_of_more_than_8_bits_alone(tmp_path):
    grey = np.arange(120, dtype=np.uint8).reshape(10, 12)
    Image.fromarray(grey).save(tmp_path / "a.png")
    Image.fromarray(np.dstack([grey] * 3)).save(tmp_path / "b.png")
    for bits in (4, "minmax"):
        for image in seen(open_source(tmp_path, decoding=Decoding(bits))).values():
            assert np.array_equal(image, grey)


def test_numbers_without_a_white_level_are_stretched(tmp_path):
    values = np.linspace(-1000, 3000, 120, dtype=np.float32).reshape(10, 12)
    values[0, 0] = np.nan
    Image.fromarray(values).save(tmp_path / "a.tif")
    (image,) = seen(open_source(tmp_path, decoding=Decoding("minmax"))).values()
    inside = np.nan_to_num(values, nan=np.nanmin(values))
    expected = 255 * (inside - inside.min()) / (inside.max() - inside.min())
    assert np.abs(image - expected).max() <= 0.51
    assert "no known white level" in seen(open_source(tmp_path, decoding=Decoding(12)))["a.tif"]


def test_an_image_of_one_value_is_black(tmp_path):
    Image.fromarray(np.full((4, 4), 900, np.uint16)).save(tmp_path / "a.png")
    (image,) = seen(open_source(tmp_path, decoding=Decoding("minmax"))).values()
    assert not image.any()


REFLECTANCES = np.random.default_rng(0).integers(300, 10_001, (9, 7, 3), np.uint16)


def png(values):
    """A PNG of colours of 16 bits, which Pillow does not write."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )


TIFFS = [
    {"byteorder": "<"},
    {"byteorder": ">"},
    {"byteorder": "<", "rowsperstrip": 2},
    {"byteorder": ">", "compression": "zlib", "predictor": True},
    {"byteorder": "<", "planarconfig": "separate"},
    {"byteorder": ">", "planarconfig": "separate"},
]


def colour_file(folder, options, values=REFLECTANCES):
    if options == "png":
        (folder / "a.png").write_bytes(png(values))
        return
    planes = values.transpose(2, 0, 1) if "planarconfig" in options else values
    more = {"extrasamples": ("unassalpha",)} if values.shape[2] == 4 else {}
    tifffile.imwrite(folder / "a.tif", planes, photometric="rgb", **options, **more)


def colours(folder, bits=None):
    source = open_source(folder, decoding=Decoding(bits))
    ((_, read),) = source.parts[0].items()
    image = decode(read())
    return image if isinstance(image, str) else image.permute(1, 2, 0).numpy()


@pytest.mark.parametrize("options", [*TIFFS, "png"])
def test_colours_of_16_bits_are_scaled_as_by_numpy(tmp_path, options):
    colour_file(tmp_path, options)
    low, high = int(REFLECTANCES.min()), int(REFLECTANCES.max())
    stretched = np.round((REFLECTANCES - float(low)) / (high - low) * 255)
    assert np.array_equal(colours(tmp_path, 14), np.round(REFLECTANCES / 16383 * 255))
    assert np.array_equal(colours(tmp_path, "minmax"), stretched)
    assert np.array_equal(colours(tmp_path), REFLECTANCES >> 8)
    assert colours(tmp_path, 13) == (
        f"a pixel has the value {high:,}, which is outside the range of 13 bits, 0 to 8,191"
    )
    assert note(tmp_path) == (
        f"the only image with more than 8 bits per sample uses at most {high:,} of 65,535 levels and is "
        "therefore dark: "
        "pass `bits` 14, or minmax",
    )


@pytest.mark.parametrize("options", [{}, "png"])
def test_transparent_colours_of_16_bits_are_scaled_on_white(tmp_path, options):
    opacity = np.full((9, 7, 1), 65535, np.uint16)
    opacity[:3] = 0
    colour_file(tmp_path, options, np.concatenate([REFLECTANCES, opacity], -1))
    shown = colours(tmp_path, 14)
    assert (shown[:3] == 255).all()
    assert np.array_equal(shown[3:], np.round(REFLECTANCES[3:] / 16383 * 255))
    assert note(tmp_path)[0].startswith("the only image with more than 8 bits")  # although they are opaque


def test_channels_that_are_compressed_one_by_one_have_no_lower_bytes(tmp_path):
    colour_file(tmp_path, {"planarconfig": "separate", "compression": "zlib"})
    assert np.array_equal(colours(tmp_path), REFLECTANCES >> 8)
    assert colours(tmp_path, 14) == (
        "cannot be decoded: 16-bit channels that are compressed separately; save them interleaved"
    )


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize(
    ("values", "photometric", "got"),
    [
        (np.ones((9, 7, 4), np.uint16), "minisblack", "4 channels of 16 bits that are not declared as RGB"),
        (np.ones((9, 7, 3), np.uint16), "minisblack", "3 channels of 16 bits that are not declared as RGB"),
        (
            np.ones((9, 7, 2), np.int16),
            "minisblack",
            "2 signed channels of 16 bits that are not declared as RGB",
        ),
        (np.ones((9, 7, 13), np.uint8), "minisblack", "13 channels of 8 bits that are not declared as RGB"),
        (np.ones((9, 7, 3), np.float32), "rgb", "3 floating-point channels of 32 bits"),
    ],
)
@pytest.mark.parametrize("big", [False, True])
def test_other_channels_are_refused_with_what_they_are(
    tmp_path, planar, compression, values, photometric, got, big
):
    """Pillow decodes the first channel of some of them as greyscale."""
    planes = values if planar == "contig" else values.transpose(2, 0, 1)
    options = {"photometric": photometric, "planarconfig": planar, "compression": compression, "bigtiff": big}
    tifffile.imwrite(tmp_path / "a.tif", planes, **options)
    for bits in (None, "minmax"):
        assert colours(tmp_path, bits) == (
            f"a TIFF of {got}; save three of them as RGB of 8 or 16 bits, or pass all to "
            "manyhot.predict_loader"
        )


def test_greyscale_with_opacity_is_an_image(tmp_path):
    values = np.full((9, 7, 2), 255, np.uint8)
    values[..., 0] = 40
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", extrasamples=("unassalpha",))
    assert (colours(tmp_path) == 40).all()


@pytest.mark.parametrize("bits", [0, 33, -1, 1.5, "twelve", True])
def test_bits_that_do_not_exist(radiographs, bits):
    with pytest.raises(UsageError) as error:
        open_source(radiographs, decoding=Decoding(bits))
    assert str(error.value) == (f"`bits` is out of range.\n  got:     {bits}\n  allowed: 1 to 32, or minmax")


def test_a_note_on_images_that_are_dark(radiographs):
    assert note(radiographs) == (
        "all 4 images with more than 8 bits per sample use at most 4,060 of 65,535 levels and are "
        "therefore dark: "
        "pass `bits` 12, or minmax",
    )
    assert note(radiographs, 12) == note(radiographs, "minmax") == ()


def test_a_note_if_only_some_are_dark(radiographs):
    Image.fromarray(RAMP * 15).save(radiographs / "bright.png")
    assert note(radiographs) == (
        "4 of 5 images with more than 8 bits per sample use at most 4,060 of 65,535 levels and are "
        "therefore dark: "
        "others use up to 60,000, so pass `bits` minmax",
    )


def test_images_that_are_dark_after_the_bits_are_noted(tmp_path):
    """One plate used 400 of 4,095 levels, and was nearly black, without a note."""
    Image.fromarray(RAMP // 10).save(tmp_path / "dark.png")
    assert note(tmp_path, 12) == (
        "the only image with more than 8 bits per sample uses at most 400 of 4,095 levels and is therefore "
        "dark: pass `bits` 9, or minmax",
    )
    Image.fromarray(RAMP).save(tmp_path / "bright.png")
    assert note(tmp_path, 12) == (
        "1 of 2 images with more than 8 bits per sample uses at most 400 of 4,095 levels and is therefore "
        "dark: others use up to 4,000, so pass `bits` minmax",
    )
    assert note(tmp_path, "minmax") == ()


def test_documents_in_archives_and_lists_are_noted(tmp_path):
    """Only those in folders were."""
    pages = [Image.new("RGB", (9, 7), (i, 0, 0)) for i in range(3)]
    pages[0].save(tmp_path / "several.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "one.tif")
    with tarfile.open(tmp_path / "in.tar", "w") as tar:
        for name in ("one.tif", "several.tif"):
            tar.add(tmp_path / name, name)
    (tmp_path / "list.txt").write_text("one.tif\nseveral.tif\n")
    for where in ("in.tar", "list.txt"):
        (text,) = note(tmp_path / where)
        assert text.startswith("1 of 2 images whose headers were read have several pages, such as ")
        assert "several.tif; no page but the first is used" in text


def test_no_note_on_images_that_use_their_levels(tmp_path):
    Image.fromarray(RAMP * 15).save(tmp_path / "bright.png")
    Image.fromarray(np.zeros((5, 5), np.uint16)).save(tmp_path / "black.png")
    Image.new("L", (5, 5), 3).save(tmp_path / "grey.png")
    (tmp_path / "broken.png").write_bytes(b"none")
    (tmp_path / "photo.jpg").write_bytes(b"not opened")
    assert note(tmp_path) == ()


def test_a_few_dark_images_among_many_folders_are_noticed(tmp_path):
    for i in range(100):
        (tmp_path / f"{i:03}").mkdir()
        Image.fromarray(RAMP[::3, ::3] * (1 if i % 4 == 1 else 15)).save(tmp_path / f"{i:03}" / f"{i}.png")
    assert note(tmp_path)[0].startswith("16 of 64 images with more than 8 bits per sample use at most ")


def test_images_in_an_archive(radiographs, tmp_path):
    with tarfile.open(tmp_path / "in.tar", "w") as tar:
        for path in sorted(radiographs.iterdir()):
            tar.add(path, path.name)
    assert note(tmp_path / "in.tar")[0].startswith("all 4 images with more than 8 bits per sample")
    files, packed = (seen(open_source(p, decoding=Decoding(12))) for p in (radiographs, tmp_path / "in.tar"))
    assert {name: image.tolist() for name, image in files.items()} == {
        name: image.tolist() for name, image in packed.items()
    }


def test_the_bits_belong_to_the_key_of_parts_and_travel_with_them(radiographs):
    plain, twelve, ten = (open_source(radiographs, decoding=Decoding(b)) for b in (None, 12, 10))
    assert len({plain.fingerprint, twelve.fingerprint, ten.fingerprint}) == 3
    assert plain.fingerprint == open_source(radiographs).fingerprint
    again = replace(twelve, parts=pickle.loads(pickle.dumps(twelve.parts)))
    chosen = select_images(again, {"0.tif"})
    assert np.array_equal(seen(chosen)["0.tif"], np.round(RAMP / 4095 * 255))
    assert pickle.loads(pickle.dumps(next(twelve.parts[0].items())[1]())).bits == 12


class Inverted:
    key = "inverted"

    def wants(self, image_id):
        return True

    def __call__(self, image_id, pixels):
        return 255 - pixels


def test_altered_images_are_decoded_with_the_bits(radiographs):
    source = alter_images(open_source(radiographs, decoding=Decoding(12)), Inverted())
    image = next(source.parts[0].items())[1]()
    assert np.array_equal(image[0].numpy(), 255 - np.round(RAMP / 4095 * 255))


def test_other_bits_are_another_run(radiographs, tmp_path):
    tint = Network("tint", COLOURS, SMALL, forward=mean_colour)
    out = tmp_path / "out"
    source = open_source(radiographs, decoding=Decoding(12))
    run(source, tint, out, PredictSettings())
    with pytest.raises(MatchError) as error:
        run(open_source(radiographs), tint, out, PredictSettings())
    assert str(error.value) == (
        "The folder contains predictions from another run, which differs in bits.\n"
        f"  where:   {out / 'tint.parquet'}\n"
        "  got:     12\n"
        "  allowed: those of the file format\n"
        "  do:      choose another `out`, or delete these files"
    )
    assert run(source, tint, out, PredictSettings()).merged is None  # complete


def test_predict_says_so_before_it_begins_and_in_the_result(radiographs, tmp_path, monkeypatch):
    (tmp_path / "own_grey.py").write_text(
        "import numpy as np\n"
        "def model():\n"
        "    return lambda images: np.stack([images.mean((1, 2, 3)), images.max((1, 2, 3))], 1)\n"
    )
    monkeypatch.chdir(tmp_path)
    events = []
    noted = manyhot.predict(
        "in", "python:own_grey:model", out="dark", run=Run(on_event=lambda *event: events.append(event))
    )
    assert noted.notes[0].startswith("all 4 images with more than 8 bits per sample")
    assert events[0] == ("note", {"model": "", "text": noted.notes[0]})
    bright = manyhot.predict("in", "python:own_grey:model", out="bright", bits=12)
    assert not any("8 bits" in text for text in bright.notes)
    highest = [
        dict(zip(row["classes"], row["scores"], strict=True))[1]
        for name in ("dark", "bright")
        for row in pq.read_table(tmp_path / name / "python--own_grey.model.parquet").to_pylist()[:1]
    ]
    assert highest[0] < 20 < 230 < highest[1]
