"""Tables of spreadsheets: decimal commas, and UTF-16."""

import numpy as np
import pandas as pd
import pytest

import manyhot as mh
from manyhot.errors import InputError, ManyhotError

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


def _with_commas(path, cell):
    rows = [[name, *(f"{value}".replace(".", ",") for value in row)] for name, row in SCORES.iterrows()]
    rows[7][2] = cell
    path.write_text("\n".join(map(";".join, [["image_id", *SCORES.columns], *rows])))
    return path


@pytest.mark.parametrize(
    ("cell", "where", "got"),
    [
        ("#REF!", "column car, row 8 below the header", "#REF!"),
        ("01. Jan", "column car, row 8 below the header", "01. Jan"),
        ("NA", "image 7.jpg, class car", "1 of 60"),
        ("0.731", "column car", f"{SCORES['car'].iloc[0]} and 0.731".replace(".", ",", 1)),
    ],
)
def test_one_wrong_cell_among_decimal_commas_is_named(cell, where, got, tmp_path):
    path = _with_commas(tmp_path / "model.csv", cell)
    with pytest.raises(ManyhotError) as error:
        mh.read_predictions(path)
    text = str(error.value)
    assert f"{where}\n" in text
    assert f"got:     {got}\n" in text


def test_points_beside_decimal_commas_may_separate_thousands(tmp_path, message):
    path = tmp_path / "images.csv"
    path.write_text("image_id;height;area\na.jpg;749;0,5\nb.jpg;1.020;0,7\n")
    assert message(lambda: mh.read_images(path)) == (
        "The points in a column may be decimal points or thousands separators.\n"
        f"  where:   {path}, column height\n"
        "  got:     1.020\n"
        "  allowed: numbers with decimal points, such as 0.5, or with decimal commas and no thousands "
        "separators\n"
        "  do:      write the numbers with decimal points"
    )
    path.write_text("image_id;latitude;area\na.jpg;52.51234;0,5\nb.jpg;13.020;0,7\n")
    assert mh.read_images(path).table["latitude"].to_pylist() == [52.51234, 13.02]


@pytest.mark.parametrize(("no", "yes"), [("nein", "ja"), ("", "x"), ("-", "+"), ("2", "3")])
def test_a_column_called_like_a_class_is_not_dropped(no, yes, tmp_path):
    labels = (SCORES > 0.5).astype(int)
    labels["car"] = [yes if valid else no for valid in labels["car"]]
    labels.to_csv(tmp_path / "labels.csv", index_label="image_id")
    SCORES.to_csv(tmp_path / "model.csv", index_label="image_id")
    row, cell = next((i + 1, c) for i, c in enumerate(labels["car"]) if c)
    files = tmp_path / "labels.csv", [tmp_path / "model.csv"]
    for classes in (None, list(SCORES.columns)):
        with pytest.raises(InputError, match="column") as error:
            mh.evaluate(*files, reading=mh.Reading(classes=classes, scores="probability"))
        text = str(error.value)
        assert ", column car" in text
        assert f"got:     {cell}" in text.replace("'", "")
        assert f"car, row {row} below the header" in text or cell.isdigit()
    fine = mh.evaluate(*files, reading=mh.Reading(classes=["boat", "cat"], scores="probability"))
    assert fine.results.num_rows  # the column is none of the classes that count


def test_a_text_column_of_scores_called_like_a_class_is_not_dropped(tmp_path):
    (SCORES > 0.5).astype(int).to_csv(tmp_path / "labels.csv", index_label="image_id")
    scores = SCORES.assign(car=[f"{100 * value:.1f} %" for value in SCORES["car"]])
    scores.to_csv(tmp_path / "model.csv", index_label="image_id")
    with pytest.raises(ManyhotError) as error:
        mh.evaluate(
            tmp_path / "labels.csv", [tmp_path / "model.csv"], reading=mh.Reading(scores="probability")
        )
    assert "column car, row 1 below the header" in str(error.value)


@pytest.mark.parametrize(
    ("start", "end", "text"),
    [
        ("sep=;\n", "", "delete this line, which only Excel reads"),
        ("Model A;;;\n", "", "delete rows above the header, such as a title"),
        ("", ";;;\n;;;\n", "row 21 below the header\n  do:      delete the row, also if it is empty"),
    ],
)
def test_what_spreadsheets_add_is_named(start, end, text, tmp_path):
    path = tmp_path / "model.csv"
    path.write_text(start + SCORES.to_csv(index_label="image_id", sep=";", decimal=",") + end)
    with pytest.raises(InputError) as error:
        mh.read_predictions(path)
    assert text in str(error.value)


def test_line_ends_of_old_macs_are_named(tmp_path):
    path = tmp_path / "model.csv"
    path.write_text(SCORES.to_csv(index_label="image_id", lineterminator="\r"), newline="")
    with pytest.raises(InputError, match="the line end of old Macs"):
        mh.read_predictions(path)


def test_an_empty_column_of_remarks_is_no_class(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("image_id;cat;Bemerkung\na.jpg;1;\nb.jpg;0;\n")
    assert mh.read_labels(path).class_list.names == ("cat",)
