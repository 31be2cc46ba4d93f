import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from manyhot.errors import InputError
from manyhot.models import Listed, decode, list_folder


def colours(image, *points):
    return [image.getpixel(point) for point in points]


def png_header(width, height):
    """A PNG that claims to be large and holds no pixels."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return header + struct.pack(">I", 1000) + b"IDAT"


def noise(size=64):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8))


def test_lists_flat_and_nested_in_order_of_the_path(tmp_path):
    for name in (
        "b.JPG",
        "a/z.png",
        "a/b/y.jpeg",
        "a-c.tif",
        ".hidden/x.jpg",
        "._b.JPG",
        "notes.txt",
        "c.WebP",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    listed = list_folder(tmp_path)
    assert [item.image_id for item in listed] == ["y.jpeg", "z.png", "a-c.tif", "b.JPG", "c.WebP"]
    assert listed[0].uri == f"{tmp_path.as_posix()}/a/b/y.jpeg"


def test_the_uri_begins_as_the_folder_was_given(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").touch()
    monkeypatch.chdir(tmp_path)
    assert list_folder("photos") == [Listed("a.png", "photos/a.png")]


def test_folders_called_like_classes_give_labels(tmp_path):
    for name in ("train/n01440764/a.jpg", "train/n01443537/b.jpg", "train/n99999999/c.jpg", "d.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    listed = list_folder(tmp_path, ("n01440764", "n01443537"))
    assert {item.image_id: item.label for item in listed} == {
        "a.jpg": 0,
        "b.jpg": 1,
        "c.jpg": None,
        "d.jpg": None,
    }


def test_links_to_folders_are_followed(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "a.jpg").touch()
    (tmp_path / "view").mkdir()
    (tmp_path / "view" / "n01440764").symlink_to(tmp_path / "store")
    assert list_folder(tmp_path / "view", ("n01440764",))[0].label == 0


def test_two_images_of_one_name(tmp_path):
    for name in ("a/x.jpg", "b/x.jpg", "c/x.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    with pytest.raises(InputError) as error:
        list_folder(tmp_path)
    assert str(error.value) == (
        "Two images have the same base name.\n"
        f"  where:   {tmp_path}\n"
        "  got:     a/x.jpg and b/x.jpg, and 1 more such pairs\n"
        "  allowed: each base name once: it is the image's id in every table\n"
        "  do:      rename one of them, or predict the folders one by one"
    )


def test_no_folder(tmp_path):
    with pytest.raises(InputError) as error:
        list_folder(tmp_path / "photo")
    assert str(error.value) == f"The folder does not exist.\n  where:   {tmp_path / 'photo'}"


def test_a_file_for_a_folder(tmp_path):
    (tmp_path / "a.jpg").touch()
    with pytest.raises(InputError) as error:
        list_folder(tmp_path / "a.jpg")
    assert str(error.value) == (
        "This is not a folder.\n"
        f"  where:   {tmp_path / 'a.jpg'}\n"
        "  allowed: a folder of images, flat or nested"
    )


def test_no_images(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError) as error:
        list_folder(tmp_path)
    assert str(error.value) == (
        "The folder holds no images.\n"
        f"  where:   {tmp_path}\n"
        "  allowed: files ending in .jpg, .jpeg, .png, .webp, .bmp, .gif, .tif, .tiff"
    )


def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(InputError) as error:
        list_folder(tmp_path)
    assert str(error.value) == (
        f"A folder cannot be read: Permission denied.\n  where:   {tmp_path}\n  do:      allow reading it"
    )


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.jpg", b"", "the file is empty"),
        ("text.jpg", b"not a picture", "not an image of a known format"),
        ("page.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image of a known format"),
        ("bomb.png", png_header(20_000, 20_000), "more than 178,956,970 pixels"),
        ("thin.png", png_header(3, 1_000), "3 × 1,000 pixels: longer than 100 times its short side"),
    ],
    ids=["empty", "text", "eps", "bomb", "thin"],
)
def test_why_an_image_is_skipped(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    assert decode(tmp_path / name) == reason


def test_a_large_image_without_pixels_does_not_warn(tmp_path):
    (tmp_path / "large.png").write_bytes(png_header(10_000, 10_000))
    assert str(decode(tmp_path / "large.png")).startswith("cannot be decoded: ")


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "bmp", "gif", "tif"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_truncated(tmp_path, ending, share):
    path = tmp_path / f"x.{ending}"
    noise().save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert isinstance(decode(path), str)


def test_the_reason_of_a_truncated_photograph(tmp_path):
    path = tmp_path / "x.jpg"
    noise().save(path)
    path.write_bytes(path.read_bytes()[:2000])
    assert str(decode(path)).startswith("cannot be decoded: image file is truncated (")


def test_a_dangling_link(tmp_path):
    (tmp_path / "x.jpg").symlink_to(tmp_path / "gone.jpg")
    assert list_folder(tmp_path)[0].image_id == "x.jpg"
    assert decode(tmp_path / "x.jpg") == "cannot be decoded: No such file or directory"


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_without_a_white(tmp_path, mode):
    Image.new(mode, (4, 4), 70_000).save(tmp_path / "x.tif")
    assert decode(tmp_path / "x.tif") == f"pixels of mode {mode}, for which nothing says what is white"


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bit_grey_is_scaled(tmp_path, ending):
    grey = np.array([[0, 128 * 257, 255 * 257, 300]], np.uint16)
    Image.fromarray(grey).save(tmp_path / f"x.{ending}")
    image = decode(tmp_path / f"x.{ending}")
    assert colours(image, (0, 0), (1, 0), (2, 0), (3, 0)) == [(v, v, v) for v in (0, 128, 255, 1)]


def test_cmyk(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "x.jpg", quality=100)
    red, green, blue = decode(tmp_path / "x.jpg").getpixel((8, 8))
    assert red > 250
    assert max(green, blue) < 5


@pytest.mark.parametrize(
    ("mode", "seen", "through"), [("RGBA", (9, 8, 7, 255), (9, 8, 7, 0)), ("LA", (9, 255), (9, 0))]
)
def test_transparent_is_white(tmp_path, mode, seen, through):
    image = Image.new(mode, (2, 1), seen)
    image.putpixel((1, 0), through)
    image.save(tmp_path / "x.png")
    opaque = (9, 8, 7) if mode == "RGBA" else (9, 9, 9)
    assert colours(decode(tmp_path / "x.png"), (0, 0), (1, 0)) == [opaque, (255, 255, 255)]


def test_palette_with_a_transparent_colour(tmp_path):
    image = Image.new("P", (2, 1), 0)
    image.putpalette([200, 0, 0, 0, 0, 200])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "plain.png")
    image.save(tmp_path / "clear.png", transparency=bytes([255, 0]))
    assert colours(decode(tmp_path / "plain.png"), (0, 0), (1, 0)) == [(200, 0, 0), (0, 0, 200)]
    assert colours(decode(tmp_path / "clear.png"), (0, 0), (1, 0)) == [(200, 0, 0), (255, 255, 255)]


def test_an_animation_is_its_first_picture(tmp_path):
    first, second = Image.new("RGB", (4, 4), (255, 0, 0)), Image.new("RGB", (4, 4), (0, 0, 255))
    first.save(tmp_path / "x.gif", save_all=True, append_images=[second])
    assert decode(tmp_path / "x.gif").getpixel((0, 0)) == (255, 0, 0)


def test_the_bytes_decide_not_the_name(tmp_path):
    noise().save(tmp_path / "x.png")
    (tmp_path / "x.png").rename(tmp_path / "x.jpg")
    assert np.array_equal(decode(tmp_path / "x.jpg"), noise())


# Where the top left corner of the upright picture lies in the stored one, and whether the sides are swapped.
@pytest.mark.parametrize(
    ("orientation", "corner", "swapped"),
    [(1, 0, 0), (2, 1, 0), (3, 3, 0), (4, 2, 0), (5, 0, 1), (6, 2, 1), (7, 3, 1), (8, 1, 1), (9, 0, 0)],
)
def test_exif_orientation(tmp_path, orientation, corner, swapped):
    image = Image.new("RGB", (6, 4), "black")
    image.putpixel([(0, 0), (5, 0), (0, 3), (5, 3)][corner], (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "x.png", exif=exif)
    upright = decode(tmp_path / "x.png")
    assert upright.size == ((4, 6) if swapped else (6, 4))
    assert upright.getpixel((0, 0)) == (255, 255, 255)


def test_broken_exif_leaves_the_picture(tmp_path):
    noise().save(tmp_path / "x.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert np.array_equal(decode(tmp_path / "x.png"), noise())
