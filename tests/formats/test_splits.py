"""Which files of images are of which split."""

import pytest

from manyhot.formats.splits import are_splits, split_of_file


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("data/train-00000-of-00002.parquet", "train"),
        ("data/balanced_test-00001-of-00002.parquet", "balanced_test"),  # the hub takes any word
        ("data/validation-00000-of-00001-0123456789abcdef.parquet", "validation"),
        ("train.parquet", "train"),
        ("train/x.parquet", "train"),
        ("Test/2024/shard-7.tar", "Test"),
        ("train-000000.tar", "train"),
        ("imagenet1k-train-0000.tar", "train"),
        ("val2017.tar.gz", "val"),
        ("train/test-0.tar", "test"),  # the name of a file is nearer than that of its folder
        ("train/train-test-0.tar", "train"),
        ("train-test-0.tar", None),
        ("latest.parquet", None),
        ("trains/protest.parquet", None),
        ("x.parquet", None),
    ],
)
def test_the_split_of_a_file(path, split):
    assert split_of_file(path) == split


@pytest.mark.parametrize(
    ("has_folders", "expected"),
    [
        ({"train": False, "val": False}, True),
        ({"train": True}, True),
        ({"train": True, "Test": True, "masks": False}, True),
        ({"train": False}, False),  # a class of this name
        ({"train": True, "masks": True}, False),
        ({"cat": False, "dog": False}, False),
    ],
)
def test_folders_that_are_splits(has_folders, expected):
    assert are_splits(has_folders) == expected
