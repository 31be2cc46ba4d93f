"""Tables of spreadsheets: decimal commas, and UTF-16."""

import numpy as np
import pandas as pd
import pytest

import manyhot as mh

IDS = [f"{i}.jpg" for i in range(20)]
SCORES = pd.DataFrame(np.random.default_rng(0).random((20, 3)).round(4), IDS, ["boat", "car", "cat"])


@pytest.mark.parametrize("separator", [";", "\t"])
def test_scores_with_decimal_commas_are_those_with_points(separator, tmp_path):
    SCORES.to_csv(tmp_path / "model.csv", index_label="image_id")
    path = tmp_path / "commas.csv"
    SCORES.to_csv(path, index_label="image_id", sep=separator, decimal=",")
    expected, read = mh.read_predictions(tmp_path / "model.csv"), mh.read_predictions(path)
    np.testing.assert_array_equal(read.scores, SCORES.to_numpy(np.float32))
    np.testing.assert_array_equal(read.scores, expected.scores)


def test_lists_of_classes_keep_their_commas(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("image_id;labels\na.jpg;1,2\nb.jpg;0,1\n")
    assert mh.read_labels(path).table["classes"].to_pylist() == [[1, 2], [0, 1]]


def test_commas_that_may_separate_thousands_are_refused(tmp_path, message):
    path = tmp_path / "model.csv"
    path.write_text("image_id;boat;car\na.jpg;1,234;2,345\nb.jpg;3,456;4,567\n")
    assert message(lambda: mh.read_predictions(path)) == (
        "The commas in a column may be decimal commas or thousands separators.\n"
        f"  where:   {path}, column boat\n"
        "  got:     1,234\n"
        "  allowed: numbers with decimal points, such as 0.5, or with decimal commas and no thousands "
        "separators\n"
        "  do:      write the numbers with decimal points"
    )


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf_16_is_named(encoding, tmp_path, message):
    path = tmp_path / "labels.csv"
    start = "\ufeff" if encoding == "utf-16-be" else ""
    path.write_bytes((start + "image_id,labels\na.jpg,cat\n").encode(encoding))
    for read in (mh.read_labels, mh.read_predictions, mh.read_images):
        assert message(lambda read=read: read(path)) == (
            "The file was not read, because it is in UTF-16.\n"
            f"  where:   {path}\n"
            "  allowed: text in UTF-8\n"
            "  do:      save it as UTF-8, for example as 'CSV UTF-8' in Excel, or with iconv -f UTF-16 "
            "-t UTF-8"
        )
