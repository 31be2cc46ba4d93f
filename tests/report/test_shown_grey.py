"""Images of more than 8 bits in reports, and in what measures images."""

import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from manyhot.report.pictures import decoded, load_pillow


def radiograph():
    """12 bits: a ramp from 200 to 3,200, and a burned-in mark of 4,095."""
    values = np.linspace(200, 3200, 200 * 100).reshape(100, 200).astype(np.uint16)
    values[:4, :10] = 4095
    return values


def encoded(values, ending, **options):
    file = io.BytesIO()
    Image.fromarray(values).save(file, {"tif": "TIFF", "png": "PNG"}[ending], **options)
    return file.getvalue()


def greys(data, **options):
    small, reason = decoded(load_pillow(), lambda: data, 480, **options)
    assert reason == ""
    assert small.mode == "RGB"
    return np.asarray(small)[..., 0].astype(int)


@pytest.mark.parametrize("kind", ["png", "tif", "float.tif"])
def test_twelve_bits_use_the_greys_of_a_screen(kind):
    values = radiograph().astype(np.float32) if kind == "float.tif" else radiograph()
    seen = greys(encoded(values, kind.rpartition(".")[2]))
    middle = 255 * (values[50].astype(float) - 215) / (3185 - 215)  # percentiles 0.5 and 99.5
    assert np.abs(seen[50] - middle).max() <= 3
    assert seen[0, 0] == seen[-1, -1] == 255


def test_the_lowest_value_is_white_if_the_file_says_so():
    row = struct.pack("<4H", 0, 1000, 2000, 3000)
    tags = (256, 4), (257, 1), (258, 16), (259, 1), (262, 0), (273, 122), (277, 1), (278, 1), (279, 8)
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    data = b"II*\0" + struct.pack("<IH", 8, 9) + entries + b"\0" * 4 + row
    assert greys(data)[0].tolist() == pytest.approx([255, 170, 85, 0], abs=2)


def test_what_measures_brightness_gets_the_values_as_they_are():
    seen = greys(encoded(radiograph(), "png"), windowed=False)
    assert np.abs(seen - radiograph() / 256).max() <= 1


def test_colours_of_sixteen_bits_use_the_levels_of_a_screen():
    """Reference: the percentiles and a straight line by NumPy, with one window for all channels."""
    values = np.random.default_rng(0).integers(300, 9000, (60, 50, 3)).astype(np.uint16)
    values[:2, :2] = 65535
    file = io.BytesIO()
    tifffile.imwrite(file, values, photometric="rgb")
    small, _ = decoded(load_pillow(), file.getvalue, 480)
    low, high = np.percentile(values, (0.5, 99.5))
    expected = 255 * np.clip((values - low) / (high - low), 0, 1)
    assert np.abs(np.asarray(small) - expected).max() <= 0.51
    plain, _ = decoded(load_pillow(), file.getvalue, 480, windowed=False)
    assert np.array_equal(np.asarray(plain), values >> 8)
