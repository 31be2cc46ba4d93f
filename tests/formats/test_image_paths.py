"""Addresses of images: different images have different names, whatever their addresses share."""

import pytest

from manyhot.formats.image_paths import names_in_addresses

SIGNED = "https://b.s3.amazonaws.com/a/1.jpg?X-Amz-Date={}&X-Amz-Signature={}"


@pytest.mark.parametrize(
    ("names"),
    [
        {"s3://bucket/a/1.jpg": "a/1.jpg", "s3://bucket/b/1.jpg": "b/1.jpg"},
        {"/data/upload/1/0123abcd-x.jpg": "x.jpg", "/data/upload/1/0123abce-y.jpg": "y.jpg"},
        {
            "/data/upload/1/0123abcd-x.jpg": "0123abcd-x.jpg",
            "/data/upload/1/0123abce-x.jpg": "0123abce-x.jpg",
        },
        {f"/data/local-files/?d=a/3.tif#page={p}": f"a/3.tif#page={p}" for p in range(4)},
        {f"https://host/a/3.tif?page={p}": f"a/3.tif?page={p}" for p in range(4)},
        {f"https://host/view?file=a%20b&page={p}": f"view?file=a%20b&page={p}" for p in range(4)},
        {"https://host/a/3.tif?width=800": "a/3.tif"},
        {SIGNED.format(1, "ab"): "a/1.jpg", SIGNED.format(2, "cd"): "a/1.jpg"},
        {"s3://train/1.jpg": "s3://train/1.jpg", "s3://test/1.jpg": "s3://test/1.jpg"},
    ],
)
def test_names_in_addresses(names):
    assert names_in_addresses(dict.fromkeys(names, "a file")) == names
