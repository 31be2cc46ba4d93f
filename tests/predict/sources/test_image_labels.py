import time

import pytest

from manyhot.classes import class_list, from_keys
from manyhot.errors import InputError
from manyhot.predict.sources.image_labels import LabelLookup, base_name, read_image_labels, read_table


def table(tmp_path, text, name="labels.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(read, path):
    with pytest.raises(InputError) as error:
        read(path)
    return str(error.value)


def test_annotations_of_coco_are_no_labels_of_predict(tmp_path):
    (path := tmp_path / "instances.json").write_text('{"images": [], "annotations": [], "categories": []}')
    assert refusal(read_image_labels, path) == (
        "The table has no labels.\n"
        f"  where:   {path}\n"
        "  allowed: a column wnid, label, class, cls, fine_label, key, class_id, target\n"
        "  do:      pass one label for each image; label sets, such as COCO's, are for manyhot evaluate, and "
        "their categories can be passed as `classes`"
    )


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("file_name,wnid,label\na.jpg,n01440764,7\n", [("a.jpg", "n01440764")]),
        ("\ufeffImage_ID, Label \r\na.jpg,7\r\n\r\nb.jpg,\r\n", [("a.jpg", "7"), ("b.jpg", None)]),
        ('path,class\n"a, b.jpg","crane, bird"\n', [("a, b.jpg", "crane, bird")]),
        ("url\nhttps://host/a.jpg\n", [("https://host/a.jpg", None)]),
        ("path\nval\\a.jpg\n", [("val/a.jpg", None)]),
        ("path,label\ra.jpg,7\r", [("a.jpg", "7")]),
        ("path,label\n", []),
    ],
)
def test_columns(tmp_path, text, rows):
    assert read_table(table(tmp_path, text)) == rows


def test_tabs(tmp_path):
    assert read_table(table(tmp_path, "path\tlabel\na.jpg\t7\n", "labels.tsv")) == [("a.jpg", "7")]


IDS = (
    "image_id, filename, file_name, fname, file, filepath, path, image, image_path, image_name, image_index, "
    "imageid, img, img_id, img_name, img_path, image_file, image_filename, img_filename, image_uuid, "
    "patch_id, patch_name, photo_id, id_code, dicom_id, image\\label, bild, datei, dateiname, foto, uri, "
    "url, id, __key__"
)


@pytest.mark.parametrize(
    ("text", "what", "where", "got", "allowed"),
    [
        ("name,label\n", "No column names the images.", "", "name, label", IDS),
        ("", "No column names the images.", "", "nothing", IDS),
        ("path,label\na.jpg,1\n,2\n", "A row has no image.", ", row 3", ",2", "path,label"),
        (
            "path,label\na,b.jpg,1\n",
            "A row is not as long as the header.",
            ", row 2",
            "a,b.jpg,1",
            "path,label",
        ),
        (
            'path,label\n"a.jpg,1\n' + "b" * 300,
            "A row is not as long as the header.",
            ", row 2",
            "a.jpg,1\\n" + "b" * 192,
            "path,label",
        ),
    ],
    ids=["no-column", "empty", "no-name", "comma", "quote"],
)
def test_tables_that_are_refused(tmp_path, text, what, where, got, allowed):
    path = table(tmp_path, text)
    assert refusal(read_table, path) == (
        f"{what}\n  where:   {path}{where}\n  got:     {got}\n  allowed: {allowed}"
    )


def test_files_that_are_refused(tmp_path):
    path = tmp_path / "none.csv"
    assert refusal(read_table, path) == f"The file does not exist.\n  where:   {path}"
    path = table(tmp_path, b"path\ncaf\xe9.jpg\n")
    assert refusal(read_table, path) == (
        "The file is not text.\n"
        f"  where:   {path}\n"
        "  got:     'utf-8' codec can't decode byte 0xe9 in position 8: invalid continuation byte\n"
        "  allowed: UTF-8"
    )
    (tmp_path / "folder.csv").mkdir()
    assert refusal(read_table, tmp_path / "folder.csv") == (
        f"The file cannot be read: not a regular file.\n  where:   {tmp_path}/folder.csv"
    )


def test_a_field_without_end(tmp_path):
    path = table(tmp_path, "path\n" + "a" * 200_000 + "\n")
    assert refusal(read_table, path) == (
        f"The file is not CSV.\n  where:   {path}\n  got:     field larger than field limit (131072)"
    )


def test_lines_end_with_line_feeds_and_carriage_returns_alone(tmp_path):
    path = table(tmp_path, "a\u2028b.jpg\r\nc\x0cd.jpg\re.jpg 7\n", "list.txt")
    assert read_table(path) == [("a\u2028b.jpg", None), ("c\x0cd.jpg", None), ("e.jpg", "7")]


def test_labels_of_images(tmp_path):
    text = "path,label\nval/a.jpg,7\nval/b.jpg,\n./val/a.jpg,7\n"
    assert read_image_labels(table(tmp_path, text)) == {"a.jpg": "7"}
    text = "path,label\nval/a.jpg,7\na.jpg,8\n"
    assert read_image_labels(table(tmp_path, text)) == {"val/a.jpg": "7", "a.jpg": "8"}
    assert read_image_labels(table(tmp_path, "image_id,label\nval/a.jpg,7\n")) == {"val/a.jpg": "7"}


def test_two_labels_of_an_image(tmp_path):
    path = table(tmp_path, "path,label\nval/a.jpg,7\nval//a.jpg,8\n")
    assert refusal(read_image_labels, path) == (
        "An image has two labels.\n"
        f"  where:   {path}\n"
        "  got:     a.jpg: 7 and 8\n"
        "  allowed: one label for each image"
    )


def test_a_table_without_labels(tmp_path):
    path = table(tmp_path, "path,lable\na.jpg,7\n")
    assert refusal(read_image_labels, path) == (
        "The table has no labels.\n"
        f"  where:   {path}\n"
        "  allowed: a column wnid, label, class, cls, fine_label, key, class_id, target"
    )


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("val/a.jpg", "a.jpg"),
        ("ILSVRC2012_val_00000001_n01751748.JPEG", "ILSVRC2012_val_00000001.JPEG"),
        ("n01440764_10026_n01440764.JPEG", "n01440764_10026.JPEG"),
        ("n01440764_10026.JPEG", "n01440764_10026.JPEG"),
        ("https://host/a.jpg?sig=x/y", "a.jpg"),
        ("https://host/image?id=7", "image?id=7"),
        ("https://host/a%2Fb%20c.jpg", "a/b c.jpg"),
        ("s3://bucket/a%20b.jpg", "a%20b.jpg"),
        ("what?.jpg", "what?.jpg"),
    ],
)
def test_base_names(path, name):
    assert base_name(path) == name


def test_labels_are_keys_names_or_numbers():
    labels = LabelLookup(class_list(), strict=True, where="here")
    assert labels.all(["n01443537", "goldfish", "1", 1, "Great White Shark", None]) == [1, 1, 1, 1, 2, None]
    assert LabelLookup(from_keys(["5", "7"]), strict=True, where="here").all(["7", "1"]) == [1, 1]


@pytest.mark.parametrize("label", [-1, "-1"])
def test_what_test_sets_have_instead_of_labels(label):
    assert LabelLookup(class_list(), strict=True, where="here")(label) is None
    assert LabelLookup(from_keys(["-1", "1"]), strict=True, where="here")("-1") == 0


def test_many_folders_that_are_no_class_are_looked_up_at_once():
    """As those of ImageNet-21k are for a model of 1,000 classes; near misses took 6 ms each, two minutes."""
    labels = LabelLookup(class_list(), strict=False, where="here")
    begun = time.process_time()
    assert labels.all(f"n9{i:07}" for i in range(21_000)) == [None] * 21_000
    assert time.process_time() - begun < 2


def test_labels_of_which_none_is_a_class_are_those_of_another_data_set():
    labels = LabelLookup(class_list(), strict=True, where="here")
    assert labels.all(["jellyfisch", "-1", None, "my cat"]) == [None] * 4


@pytest.mark.parametrize("labels", [["goldfisch", "tench"], ["tench", "goldfisch"], [1000], ["1000"], ["-2"]])
def test_labels_that_are_no_class(labels):
    label = next(name for name in labels if name != "tench")
    assert LabelLookup(class_list(), strict=False, where="here")(label) is None
    with pytest.raises(InputError) as error:
        LabelLookup(class_list(), strict=True, where="here").all(labels)
    assert str(error.value) == (
        "A label is not in the class list.\n"
        "  where:   here\n"
        f"  got:     {label}\n"
        "  allowed: keys, names and numbers of the 1,000 classes of imagenet1k\n"
        "  do:      pass the class list of these labels as `classes`"
    )
