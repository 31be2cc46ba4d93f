"""CelebA's and PASCAL VOC's text files, and text files that are not lists of names."""

from io import StringIO

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from manyhot import convert, evaluate, read_images, read_labels
from manyhot.classes import from_keys
from manyhot.errors import ManyhotError
from manyhot.formats import detect
from manyhot.tables.labels import with_zeros

ATTRIBUTES = (
    "3\n5_o_Clock_Shadow Smiling Young \n000001.jpg -1  1  1\n000002.jpg  1 -1  1\n000003.jpg -1 -1 -1\n"
)
"""Spaces as in the published file."""


def states(labels):
    keys, found = labels.class_list.keys, {}
    for row in with_zeros(labels).table.select(["image_id", "classes", "state"]).to_pylist():
        found[row["image_id"]] = {keys[c]: s for c, s in zip(row["classes"], row["state"], strict=True)}
    return found


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_attributes_of_celeba(tmp_path, end):
    path = tmp_path / "list_attr_celeba.txt"
    path.write_bytes(ATTRIBUTES.replace("\n", end).encode())
    assert detect(path).name == "celeba-attributes"
    labels = read_labels(path)
    assert labels.class_list.keys == ("5_o_Clock_Shadow", "Smiling", "Young")
    assert (labels.asked_known, labels.complete) == (True, True)
    convert(path, tmp_path / "l.csv", to="indicator")
    # pandas reads the file as its authors describe it
    body = ATTRIBUTES.partition("\n")[2]
    expected = pd.read_csv(StringIO("image_id " + body), sep=r"\s+", index_col="image_id") == 1
    written = pd.read_csv(tmp_path / "l.csv", index_col="image_id")
    assert written.astype(bool).equals(expected)
    labels = read_labels(path, classes=from_keys(("Young", "Smiling", "Hat")))
    assert labels.table["classes"].to_pylist() == [[0, 1], [0, 1], [0, 1]]
    assert labels.table["state"].to_pylist()[1] == ["yes", "no"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("3\n", "4\n"), "The number of images differs from the number in the first line."),
        (("000003.jpg -1 -1 -1", "000003.jpg -1 -1"), "A line does not contain a name and a number"),
        (("000003.jpg -1 -1 -1", "000003.jpg -1 -1 x"), "A line does not contain a name and a number"),
        (("000003.jpg", "000001.jpg"), "An image is listed more than once."),
    ],
)
def test_broken_attributes(tmp_path, message, change, said):
    path = tmp_path / "list_attr_celeba.txt"
    path.write_text(ATTRIBUTES.replace(*change))
    assert said in message(lambda: read_labels(path), ManyhotError)


DEEPFASHION = (
    "3\nimage_name  attribute_labels\nimg/Tee/1.jpg      1 -1  0\nimg/Tee/2.jpg     -1  1  0\n"
    "img/Tee/3.jpg      0  0  1\n"
)
NAMES = "3\nattribute_name  attribute_type\na-line    3\nabstract print      1\nsplit   2\n"


@pytest.mark.parametrize("folder", [".", "../Anno"])
def test_attributes_of_deepfashion(tmp_path, message, folder):
    """1 is yes, -1 no and 0 unknown; another file contains the names, of which split is also metadata."""
    place = tmp_path / "Anno_coarse"
    (place / folder).mkdir(parents=True)
    (path := place / "list_attr_img.txt").write_text(DEEPFASHION)
    assert detect(path).name == "celeba-attributes"
    assert "  do:      copy list_attr_cloth.txt " in message(lambda: read_labels(path))
    (names := place / folder / "list_attr_cloth.txt").write_text(NAMES)
    labels = read_labels(path)
    keys = labels.class_list.keys
    assert keys == ("a-line", "abstract print", "split")
    table = pd.read_csv(path, sep=r"\s+", skiprows=2, header=None, index_col=0)
    words = {1: "yes", -1: "no"}
    expected = {
        image: {key: words[v] for key, v in zip(keys, row, strict=True) if v}
        for image, row in zip(table.index, table.to_numpy(), strict=True)
    }
    assert states(labels) == expected
    assert labels.notes == ("4 zeros of the labels are read as not asked, because -1 means no",)
    assert states(read_labels(path, classes=from_keys(keys))) == expected
    names.write_text(NAMES.replace("split   2\n", ""))
    assert "3 attributes per image, and 2 names in" in message(lambda: read_labels(path))


def test_zeros_are_unknown_beside_minus_one_only(tmp_path):
    path = tmp_path / "list_attr_img.txt"
    path.write_text("2\na-line floral\n1.jpg 1 0\n2.jpg 0 1\n")
    no_minus_one = read_labels(path)
    assert states(no_minus_one)["1.jpg"] == {"a-line": "yes", "floral": "no"}
    assert not no_minus_one.notes
    path.write_text("3\na-line floral\n1.jpg 1 0\n2.jpg 0 1\n3.jpg -1 -1\n")
    assert states(read_labels(path)) == {
        "1.jpg": {"a-line": "yes"},
        "2.jpg": {"floral": "yes"},
        "3.jpg": {"a-line": "no", "floral": "no"},
    }


def test_the_advice_on_categories_of_deepfashion_makes_their_labels(tmp_path, message, monkeypatch):
    path = tmp_path / "list_category_img.txt"
    path.write_text("3\nimage_name  category_label\nimg/1.jpg    2\nimg/2.jpg    1\nimg/3.jpg    2\n")
    (tmp_path / "list_category_cloth.txt").write_text(
        "2\ncategory_name  category_type\nAnorak  1\nButton-Down  1\n"
    )
    text = message(lambda: read_labels(path))
    monkeypatch.chdir(tmp_path)
    exec(text.partition("in Python: ")[2], {})
    labels = read_labels(tmp_path / "list_category_img.csv")
    valid = {i: [c for c, state in of.items() if state == "yes"] for i, of in states(labels).items()}
    assert valid == {
        "img/1.jpg": ["Button-Down"],
        "img/2.jpg": ["Anorak"],
        "img/3.jpg": ["Button-Down"],
    }


def test_the_advice_on_lines_below_a_header_leaves_the_header_out(tmp_path, message, monkeypatch):
    path = tmp_path / "list.txt"
    path.write_text(ROWS["landmarks"])
    monkeypatch.chdir(tmp_path)
    exec(message(lambda: read_images(path)).partition("in Python: ")[2])
    written = pd.read_csv(tmp_path / "list.csv", dtype=str)
    assert written.to_numpy().tolist() == [line.split() for line in ROWS["landmarks"].splitlines()[2:]]


def test_the_partition_of_celeba_selects_images(tmp_path):
    rng = np.random.default_rng(0)
    names, ids = ["Smiling", "Young"], [f"{i:06d}.jpg" for i in range(1, 91)]
    values = np.where(rng.random((90, 2)) < 0.4, 1, -1)
    scores = pd.DataFrame(rng.random((90, 2)), ids, names)
    parts = np.repeat([0, 1, 2], 30)
    lines = [f"{i} {a:2d} {b:2d}" for i, (a, b) in zip(ids, values, strict=True)]
    (tmp_path / "list_attr_celeba.txt").write_text("\n".join(["90", " ".join(names) + " ", *lines]) + "\n")
    partition = tmp_path / "list_eval_partition.txt"
    partition.write_text("".join(f"{i} {part}\n" for i, part in zip(ids, parts, strict=True)))
    images = read_images(partition).table
    assert images["partition"].to_pylist() == parts.tolist()
    assert images["split"].to_pylist() == ["train"] * 30 + ["val"] * 30 + ["test"] * 30
    about = {"scores": "probability", "metrics": ["map_macro"]}
    labels = pd.DataFrame((values == 1).astype(int), ids, names)[parts == 2]
    expected = evaluate(labels, scores[parts == 2], **about).value("map_macro")
    for where in ("split=test", "partition=2"):
        found = evaluate(
            tmp_path / "list_attr_celeba.txt", scores, images=str(partition), where=where, **about
        )
        assert found.value("map_macro") == expected
    partition.write_text(f"{partition.read_text()}x.jpg 3\n")
    with pytest.raises(Exception, match="not the number of a CelebA partition"):
        read_images(partition)


def test_attributes_of_celeba_are_rows_and_slices(tmp_path):
    """One file contains the labels, the images of the rows of an array, and the columns of the slices."""
    rng = np.random.default_rng(0)
    values = np.where(rng.random((60, 2)) < 0.4, 1, -1)
    order = rng.permutation(60)  # not in the order of the names
    lines = [f"{i:06d}.jpg {a:2d} {b:2d}" for i, (a, b) in zip(order, values, strict=True)]
    path = tmp_path / "list_attr_celeba.txt"
    path.write_text("\n".join(["60", "Young Male ", *lines]) + "\n")
    assert detect(path).name == "celeba-attributes"  # still labels, unless the caller says otherwise
    table = read_images(path).table
    assert table["image_id"].to_pylist() == [line.split()[0] for line in lines]
    assert np.stack([table["Young"], table["Male"]], axis=1).tolist() == values.tolist()
    scores = rng.random((60, 2))
    np.save(tmp_path / "p.npy", scores)
    found = evaluate(
        path,
        str(tmp_path / "p.npy"),
        rows=path,
        images=str(path),
        slices=["Male"],
        scores="probability",
        metrics=["subset_accuracy", "map_macro"],
        resamples=0,
    )
    of_slice = {r["slice"]: (r["value"], r["n"]) for r in found.results.to_pylist() if r["metric"][0] == "s"}
    right = ((scores >= 0.5) == (values == 1)).all(axis=1)
    for value in (1, -1):
        inside = values[:, 1] == value
        assert of_slice[f"Male={value}"] == (pytest.approx(right[inside].mean()), inside.sum())
    precision = average_precision_score(values == 1, scores, average="macro")
    assert found.value("map_macro") == pytest.approx(precision)


def test_image_sets_of_voc(tmp_path, message):
    path = tmp_path / "cat_val.txt"
    path.write_text("000005 -1\n000007  1\n000009  0\n")
    assert detect(path).name == "voc-image-sets"
    assert states(read_labels(path)) == {
        "000005": {"cat": "no"},
        "000007": {"cat": "yes"},
        "000009": {"cat": "unclear"},
    }
    (tmp_path / "bird_val.txt").write_text("000005  1\n000007 -1\n000011 -1\n")
    (tmp_path / "val.txt").write_text("000005\n000007\n000009\n")
    labels = read_labels(tmp_path)
    assert labels.class_list.keys == ("bird", "cat")
    assert states(labels) == {
        "000005": {"bird": "yes", "cat": "no"},
        "000007": {"bird": "no", "cat": "yes"},
        "000009": {"cat": "unclear"},
        "000011": {"bird": "no"},
    }
    (tmp_path / "cat_train.txt").write_text("000001 -1\n")
    assert message(lambda: read_labels(tmp_path)) == (
        f"The folder has several splits.\n  where:   {tmp_path}\n"
        "  got:     train, val\n  allowed: train, val\n"
        "  do:      pass the format voc-image-sets(split='val') to manyhot convert or read_labels"
    )
    labels = read_labels(tmp_path, format="voc-image-sets(split='train')")
    assert states(labels) == {"000001": {"cat": "no"}}
    over = read_labels(path, classes=from_keys(("dog", "cat")))
    assert over.table["classes"].to_pylist() == [[1], [1], [1]]


ROWS = {
    "labels of Caffe": "ILSVRC2012_val_00000001.JPEG 65\nILSVRC2012_val_00000002.JPEG 970\n",
    "numbers as names": "000005 -0.5\n000007  1.25e-3\n",
    "landmarks": "2\nlefteye_x lefteye_y\n000001.jpg 165 184\n000002.jpg 140 204\n",
}


@pytest.mark.parametrize("written", ROWS.values(), ids=ROWS)
def test_rows_of_numbers_are_no_names(tmp_path, message, written):
    path = tmp_path / "list.txt"
    path.write_text(written)
    n = 2 if "eye" in written else 1
    row = next(line for line in written.splitlines() if line.startswith(("ILSVRC", "0000")))
    columns = "'image_id', 'lefteye_x', 'lefteye_y'" if n == 2 else "'image_id', 'a'"
    skipped = "skiprows=2, " * (n == 2)
    assert message(lambda: read_images(path)) == (
        "The lines of the text file are not only names of images: numbers follow each name.\n"
        f"  where:   {path}\n  got:     {row}\n"
        "  allowed: one name per line, which may contain spaces, or the text files of CelebA, DeepFashion or "
        "PASCAL VOC\n"
        "  do:      write the file as CSV, whose columns have names, for example in Python: "
        "import pandas as pd; table = pd.read_csv('list.txt', sep=r'\\s+', "
        f"{skipped}header=None, dtype={{'image_id': str}}, names=[{columns}]); "
        "table.to_csv('list.csv', index=False)"
    )


@pytest.mark.parametrize(
    "names", [["scan 1", "scan 2"], ["my cat.jpg", "my dog.jpg"], ["a 1"], ["1", "2"], ["a b", "c 1"]]
)
def test_names_with_spaces_are_names(tmp_path, names):
    (tmp_path / "list.txt").write_text("\n".join(names) + "\n")
    assert read_images(tmp_path / "list.txt").image_id.to_pylist() == names


def test_states_are_no_names(tmp_path, message, monkeypatch):
    """NUS-WIDE has one file of 0 and 1 for each class, beside a list of images."""
    path = tmp_path / "Labels_cat_Test.txt"
    path.write_text("0\n1\n0\n")
    (tmp_path / "TestImagelist.txt").write_text("a\\0001.jpg\nb\\0002.jpg\na\\0003.jpg\n")
    text = message(lambda: read_images(path))
    assert text.startswith("The lines of the text file are 0 and 1, not names of images.\n")
    monkeypatch.chdir(tmp_path)
    exec(text.partition("in Python: ")[2])
    labels = with_zeros(read_labels(tmp_path / "labels.csv"))
    assert labels.image_id.to_pylist() == ["a/0001.jpg", "b/0002.jpg", "a/0003.jpg"]
    assert labels.table["state"].to_pylist() == [["no"], ["yes"], ["no"]]
