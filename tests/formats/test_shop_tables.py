"""Tables of a shop: quotes in headers, codes that look like numbers, and CSV files of Excel."""

import csv

import numpy as np
import pandas as pd
import pytest

import manyhot as mh
from manyhot.formats import read_classes
from manyhot.tables.image_conditions import images_with, selected_images

NAMES = ('heel 3"', "blau", '"gold"', 'a""b', 'a, "b"')


@pytest.mark.parametrize("separator", [",", ";"])
def test_quotes_in_a_header_are_those_of_the_file(separator, tmp_path):
    states = np.random.default_rng(0).integers(0, 2, (12, len(NAMES)))
    path = tmp_path / "labels.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = ([f"{i}.jpg", *row] for i, row in enumerate(states))
        csv.writer(file, delimiter=separator).writerows([["image", *NAMES], *rows])
    assert mh.read_labels(path).known_classes.names == NAMES
    for again in ("again.csv", "twice.csv"):
        mh.convert(path, tmp_path / again, to="indicator")
        path = tmp_path / again
        frame = pd.read_csv(path, index_col=0)
        assert tuple(frame.columns) == NAMES
        np.testing.assert_array_equal(frame, states)


def test_scores_of_classes_with_quotes_have_these_names(tmp_path):
    path = tmp_path / "model.csv"
    scores = pd.DataFrame(np.random.default_rng(1).random((9, len(NAMES))).round(4), columns=NAMES)
    written = scores.set_axis([f"{i}.jpg" for i in range(9)])
    written.to_csv(path, index_label="image", sep=";", decimal=",")
    read = mh.read_predictions(path, classes=NAMES)
    np.testing.assert_array_equal(read.scores, scores.to_numpy(np.float32))


def test_corrected_csv_keeps_quotes_in_the_header(tmp_path):
    original = tmp_path / "labels.csv"
    original.write_text('image,"heel 3""",blau\na.jpg,1,0\nb.jpg,0,1\n')
    labels = pd.DataFrame({'heel 3"': [0, 0], "blau": [0, 1]}, ["a.jpg", "b.jpg"])
    labels.to_csv(tmp_path / "new.csv", index_label="image")
    to = f"corrected-csv(original='{original.as_posix()}')"
    mh.convert(tmp_path / "new.csv", tmp_path / "corrected.csv", to=to)
    assert (tmp_path / "corrected.csv").read_text() == 'image,"heel 3""",blau\na.jpg,0,0\nb.jpg,0,1\n'


N = 60
CODES = pd.DataFrame(
    {
        "image_id": [f"{i}.jpg" for i in range(N)],
        "sku": ["0012", "12", "12E0"] * (N // 3),
        "season": ["24.1", "24.10"] * (N // 2),
        "version": ["1.0", "1", "2.0", ""] * (N // 4),
        "price": [f"{p:.2f}" for p in np.random.default_rng(2).permutation(N) / 7],
        "change": ["-0.0", "0.0", "0.5"] * (N // 3),
    }
)
"""Codes of which two are the same number, prices of which none are, and a rounded negative number."""


def _images(tmp_path, separator):
    path = tmp_path / "images.csv"
    written = CODES.apply(lambda c: c.str.replace(".", ",")) if separator == ";" else CODES
    written.assign(image_id=CODES["image_id"]).to_csv(path, sep=separator, index=False)
    return path


def _chosen(images, condition):
    return selected_images([condition], images.image_id, images, "").tolist()


@pytest.mark.parametrize("separator", [",", ";"])
def test_codes_that_are_the_same_number_are_different_values(separator, tmp_path):
    images = mh.read_images(_images(tmp_path, separator))
    for column in ("sku", "season", "version"):
        values = images.table[column]
        masks = images_with(column, values.combine_chunks(), what="slice")
        expected = {f"{column}={v}": CODES[column] == v for v in set(CODES[column]) - {""}}
        assert masks.keys() == expected.keys()
        for condition, mask in expected.items():
            assert masks[condition].tolist() == mask.tolist()
            assert _chosen(images, condition) == mask.tolist()
        assert values.null_count == (CODES[column] == "").sum()
        assert _chosen(images, f"{column}>=1.5") == (pd.to_numeric(CODES[column]) >= 1.5).tolist()


@pytest.mark.parametrize("separator", [",", ";"])
def test_other_numbers_remain_numbers(separator, tmp_path):
    images = mh.read_images(_images(tmp_path, separator))
    for column in ("price", "change"):
        np.testing.assert_array_equal(images.table[column].to_numpy(), pd.to_numeric(CODES[column]))
    assert _chosen(images, "price<=4") == (pd.to_numeric(CODES["price"]) <= 4).tolist()
    price = next(p for p in CODES["price"] if p.endswith("0"))  # 5.10 is the number 5.1
    assert _chosen(images, f"price={price}") == (CODES["price"] == price).tolist()


@pytest.mark.parametrize("as_frame", [False, True])
def test_slices_of_codes_have_the_values_of_their_images(as_frame, tmp_path):
    rng = np.random.default_rng(3)
    states, scores = rng.integers(0, 2, (N, 2)), rng.random((N, 2)).round(4)
    for name, values in (("labels", states), ("model", scores)):
        frame = pd.DataFrame(values, CODES["image_id"], ["red", "blue"])
        frame.to_csv(tmp_path / f"{name}.csv", index_label="image_id")
    result = mh.evaluate(
        tmp_path / "labels.csv",
        [tmp_path / "model.csv"],
        scores="probability",
        images=pd.read_csv(_images(tmp_path, ","), dtype=str) if as_frame else _images(tmp_path, ","),
        metrics=["f1_micro"],
        slices=["season"],
        clusters="sku",
        resamples=100,
    )
    values = {row["slice"]: row["value"] for row in result.to_polars().to_dicts()}
    assert sum("the column season of " in line for line in result.read) == 1
    assert (
        sum("as text: 24.1 and 24.10 are two values, although they are" in line for line in result.read) == 1
    )
    assert sum("as text: 0012 and 12 are two values, although they are" in line for line in result.read) == 1
    for season in ("24.1", "24.10"):
        rows = CODES["season"] == season
        yes, predicted = states[rows] == 1, scores[rows] >= 0.5
        f1 = 2 * (yes & predicted).sum() / (yes.sum() + predicted.sum())
        assert values[f"season={season}"] == pytest.approx(f1)
    assert any("3 clusters of sku" in str(note) for note in result.notes)


@pytest.mark.parametrize("stores", [("0012", "0013", "0120"), ("0012", "13E0", "12")])
def test_columns_of_codes_are_no_classes(stores, tmp_path):
    path = tmp_path / "labels.csv"
    rows = [f"{image}.jpg,{store}" for image, store in zip("abc", stores, strict=True)]
    for read, cells in (
        (mh.read_labels, ("1,0", "0,1", "1,1")),
        (mh.read_predictions, ("0.5,0.25", "0.75,1", "1,0.5")),
    ):
        text = [f"{row},{cell}" for row, cell in zip(rows, cells, strict=True)]
        path.write_text("\n".join(["image,store,red,blue", *text]) + "\n")
        assert read(path).known_classes.names == ("red", "blue")
        if read == mh.read_labels:
            frame = pd.read_csv(path, dtype={"store": str}).set_index("image")
            assert f"{frame[['red', 'blue']].to_numpy().sum()} labels" in str(mh.describe(frame))
            mh.convert(path, tmp_path / "read.csv", to="indicator")
            states = pd.read_csv(tmp_path / "read.csv", index_col=0)
            pd.testing.assert_frame_equal(states, frame[["red", "blue"]], check_names=False)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_corrected_csv_keeps_the_bom_and_the_line_ends(start, end, tmp_path):
    lines = ["Datei;Tags;Preis", 'a.jpg;grün|kurz;"1;5"', "b.jpg;blau;2,50", "c.jpg;blau;", ""]
    original = tmp_path / "labels.csv"
    original.write_bytes((start + end.join(lines)).encode())
    (tmp_path / "votes.csv").write_text("image_id,class_id,rater_id,answer\na.jpg,kurz,ann,no\n")
    mh.aggregate(tmp_path / "votes.csv", labels=original).write(tmp_path / "new.parquet")
    to = f"corrected-csv(original='{original.as_posix()}')"
    mh.convert(tmp_path / "new.parquet", tmp_path / "corrected.csv", to=to)
    expected = original.read_bytes().replace("grün|kurz".encode(), "grün".encode())
    assert (tmp_path / "corrected.csv").read_bytes() == expected


def test_two_names_of_one_class_are_refused_by_all_commands(tmp_path, message):
    """Of tables of columns, with a class list in which one is a synonym, and by case."""
    (tmp_path / "classes.csv").write_text("key,name,synonyms\ntee,Tee,t-shirt\nbag,Bag,\n")
    one, two = "image_id,Tee,Bag\n", "image_id,Tee,t-shirt,Bag\n"
    (tmp_path / "labels.csv").write_text(f"{two}a.jpg,1,0,0\nb.jpg,0,1,0\nc.jpg,0,0,1\n")  # none has both
    (tmp_path / "model.csv").write_text(f"{one}a.jpg,0.9,0.3\nb.jpg,0.2,0.1\nc.jpg,0.1,0.9\n")
    labels, model, classes = (tmp_path / f"{name}.csv" for name in ("labels", "model", "classes"))
    for call in (
        lambda: mh.read_labels(labels, classes=read_classes(classes)),
        lambda: mh.describe(labels, classes=classes),
        lambda: mh.convert(labels, tmp_path / "converted.csv", to="indicator", classes=classes),
        lambda: mh.evaluate(labels, [model], classes=classes),
    ):
        assert message(call) == (
            f"A class has more than one column.\n  where:   {labels}\n  got:     Tee, t-shirt\n"
            "  do:      drop or rename one of them"
        )
    for names in ("Tee|tee", "tee"):  # an image with both names, or none
        labels.write_text(f"image_id,labels\na.jpg,{names}\nb.jpg,Tee\nc.jpg,Bag\n")
        assert message(lambda: mh.evaluate(labels, [model])) == (
            "Two classes of a table are the same class.\n  where:   labels\n"
            "  got:     Tee and tee, which are Tee\n  allowed: each class once\n"
            "  do:      write both names in the same way, or drop or rename one of the columns"
        )
    labels.write_text(f"{one}a.jpg,1,0\nb.jpg,1,0\nc.jpg,0,1\n")
    model.write_text("image_id,Tee,tee,Bag\na.jpg,0.9,0.3,0\nb.jpg,0.2,0.1,0\nc.jpg,0.1,0.9,0\n")
    assert message(lambda: mh.evaluate(labels, [model])) == (
        f"Two classes of a table are the same class.\n  where:   {model}\n"
        "  got:     Tee and tee, which are Tee\n  allowed: each class once\n"
        "  do:      write both names in the same way, or drop or rename one of the columns"
    )


@pytest.mark.parametrize(("yes", "no"), [("ja", "nein"), ("x", ""), ("✓", "✗"), ("sí", "no")])
def test_words_for_yes_in_another_language_are_refused_with_what_to_do(yes, no, tmp_path, message):
    path = tmp_path / "labels.csv"
    path.write_text(f"image_id,red,blue\na.jpg,{yes},{no}\nb.jpg,{no},{yes}\n")
    assert message(lambda: mh.describe(path)).endswith(
        "do:      if the text columns are classes, write 1 or yes and 0 or no into their cells; if one "
        "contains the names of classes, rename it to labels"
    )
    path.write_text(path.read_text().replace(f",{yes}", ",1").replace(f",{no}", ",0"))
    assert "2 labels" in str(mh.describe(path))


@pytest.mark.parametrize(
    ("own", "theirs", "advice"),
    [
        ("https://cdn.x/a/{}.jpg?w=300", ["{}.jpg"], "remove what follows the question mark of URLs"),
        ("SKU{}", ["SKU{}_1.jpg", "SKU{}_2.jpg"], "each photograph has a row with the labels of its product"),
    ],
)
def test_ids_of_urls_and_of_products_are_advised_on(own, theirs, advice, tmp_path, message):
    labels = "".join(f"{own.format(i)},red\n{own.format(i + 9)},blue\n" for i in range(9))
    (tmp_path / "labels.csv").write_text(f"image_id,labels\n{labels}")
    scores = "".join(f"{one.format(i)},0.4,0.6\n" for i in range(18) for one in theirs)
    (tmp_path / "model.csv").write_text(f"image_id,red,blue\n{scores}")
    text = message(lambda: mh.evaluate(tmp_path / "labels.csv", [tmp_path / "model.csv"]))
    assert text.startswith("No images are in both")
    assert advice in text
