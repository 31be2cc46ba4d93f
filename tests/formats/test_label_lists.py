"""Names of classes in a column of a table, in JSON and in JSON lines."""

import csv
import json

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.preprocessing import MultiLabelBinarizer

from manyhot import read_images, read_labels, read_predictions
from manyhot.classes import class_list, from_keys
from manyhot.data.table_inputs import labels_of_table
from manyhot.errors import InputError, MatchError
from manyhot.formats import detect
from manyhot.tables.arrays import label_sets

IDS = ["a.jpg", "b.jpg", "c.jpg"]
SETS = [["dog", "cat"], [], ["polar bear", "cat"]]
NAMES = ("cat", "dog", "polar bear")


def sets(labels):
    keys = (labels.class_list or class_list()).keys
    return [{keys[c] for c in classes} for classes in labels.table["classes"].to_pylist()]


def matrix(labels):
    """Return the label sets as scikit-learn's binarizer does."""
    both = label_sets(labels)
    table = [[0] * labels.n_classes for _ in range(len(labels))]
    for row, column in zip(both.rows, both.classes, strict=True):
        table[row][column] = 1
    return table


def check(labels, expected=SETS):
    binarizer = MultiLabelBinarizer().fit(expected)
    assert labels.image_id.to_pylist() == IDS
    assert labels.class_list.keys == tuple(binarizer.classes_)
    assert not labels.class_list.is_complete  # other classes may occur on no image
    assert matrix(labels) == binarizer.transform(expected).tolist()
    assert not labels.asked_known


@pytest.mark.parametrize("separator", [";", ",", "|", "; ", ", "])
@pytest.mark.parametrize(
    "header",
    [
        ("image", "labels"),
        ("filename", "label"),
        ("file_name", "tags"),
        ("Image Index", "Finding Labels"),
        ("PATH", "Classes"),
        ("image_id", "label"),
        ("id", "classes"),
    ],
)
def test_names_in_a_cell(tmp_path, header, separator):
    with (tmp_path / "l.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*header, "note"])
        writer.writerows([i, separator.join(s), "x"] for i, s in zip(IDS, SETS, strict=True))
    check(read_labels(tmp_path / "l.csv"))


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separators_of_tables(tmp_path, separator, suffix):
    path = tmp_path / f"l.{suffix}"
    frame = pd.DataFrame({"image": IDS, "labels": ["|".join(s) for s in SETS]})
    frame.to_csv(path, index=False, sep=separator, encoding="utf-8-sig", lineterminator="\r\n")
    check(read_labels(path))


@pytest.mark.parametrize("name", ["patch_id", "Photo ID", "image-file", "img_path", "uuid"])
def test_other_names_of_the_column_of_images(tmp_path, name):
    path = tmp_path / "l.csv"
    path.write_text(f"{name},label\na.jpg,cat\na.jpg,dog\n")
    assert read_labels(path).image_id.to_pylist() == ["a.jpg"]
    path.write_text("filename,patch,photo\na.jpg,1,0\nb.jpg,0,1\n")  # words that are classes elsewhere
    assert read_labels(path).class_list.keys == ("patch", "photo")


@pytest.mark.parametrize("written", [str, lambda s: str(s).replace("', '", "' '"), json.dumps])
def test_lists_that_are_written_as_text(tmp_path, written):
    frame = pd.DataFrame({"image": IDS, "labels": [written(s) for s in SETS]})
    frame.to_csv(tmp_path / "l.csv", index=False)
    check(read_labels(tmp_path / "l.csv"))


def test_planet(tmp_path):
    """Kaggle's Planet has tags separated by spaces, of images without suffix."""
    (tmp_path / "l.csv").write_text("image_name,tags\ntrain_0,haze primary\ntrain_1,clear primary water\n")
    labels = read_labels(tmp_path / "l.csv")
    assert labels.image_id.to_pylist() == ["train_0", "train_1"]
    assert sets(labels) == [{"haze", "primary"}, {"clear", "primary", "water"}]


def test_one_name_per_row(tmp_path):
    (tmp_path / "l.csv").write_text(
        "image,label\nb.jpg,polar bear\na.jpg,cat\nb.jpg,cat\nc.jpg,\nb.jpg,cat\n"
    )
    labels = read_labels(tmp_path / "l.csv")
    assert labels.image_id.to_pylist() == ["b.jpg", "a.jpg", "c.jpg"]
    assert sets(labels) == [{"polar bear", "cat"}, {"cat"}, set()]
    assert "label" not in labels.table.column_names
    (tmp_path / "l.csv").write_text("image,label\nb.jpg,polar bear\na.jpg,cat\n")
    labels = read_labels(tmp_path / "l.csv")
    # The only label of each image is also its original label, as in folders of images.
    assert (labels.table["label"].to_pylist(), sets(labels)) == ([1, 0], [{"polar bear"}, {"cat"}])


def test_images_with_original_labels_are_no_lists(tmp_path):
    path = tmp_path / "l.csv"
    path.write_text("image_id,label,split\na.jpg,cat,x\nb.jpg,dog,y\n")
    assert detect(path).name == "images-table"
    assert len(read_images(path)) == 2
    path.write_text("image_id,label,split\na.jpg,cat,x\na.jpg,dog,y\n")
    assert sets(read_labels(path)) == [{"cat", "dog"}]


@pytest.mark.parametrize(
    "cell",
    ["great white shark, white shark, man-eater, man-eating shark, Carcharodon carcharias", "n01484850"],
)
def test_names_of_imagenet(tmp_path, cell):
    (tmp_path / "l.csv").write_text(f'image,label\na.jpg,"{cell}"\nb.jpg,n01440764\n')
    labels = read_labels(tmp_path / "l.csv")
    assert labels.table["classes"].to_pylist() == [[2], [0]]
    assert (labels.n_classes, labels.class_hash, labels.class_list) == (1000, class_list().hash, None)
    assert labels.assumed == cell.startswith("great")


def test_classes_that_are_passed(tmp_path, message):
    classes = from_keys(("dog", "polar bear", "cat", "horse"), "mine")
    path = tmp_path / "l.csv"
    path.write_text("image,labels\na.jpg,polar bear\nb.jpg,Dog\n")
    labels = read_labels(path, classes=classes)  # whole cells are names, so spaces do not separate
    assert (labels.table["classes"].to_pylist(), labels.class_hash) == ([[1], [0]], classes.hash)
    path.write_text("image,labels\na.jpg,0 2\nb.jpg,3\n")
    assert read_labels(path, classes=classes).table["classes"].to_pylist() == [[0, 2], [3]]
    assert read_labels(path).assumed
    path.write_text("image,labels\na.jpg,cow\n")
    assert message(lambda: read_labels(path, classes=classes)) == (
        f"A class is not in the class list.\n  where:   {path}\n  got:     cow\n"
        "  allowed: 0 to 3, or a key or name of mine\n"
        "  do:      pass a list with this class as `classes`, or remove the value if it is not a class"
    )


def test_a_separator_that_is_passed(tmp_path):
    (tmp_path / "l.csv").write_text("image,labels\na.jpg,great dane/cat\nb.jpg,dog\n")
    labels = read_labels(tmp_path / "l.csv", format="label-lists(separator='/')")
    assert sets(labels) == [{"great dane", "cat"}, {"dog"}]


@pytest.mark.parametrize("kind", [list, ";".join])
def test_parquet(tmp_path, kind):
    frame = pd.DataFrame({"file_name": [f"val/{i}" for i in IDS], "labels": list(map(kind, SETS))})
    frame.to_parquet(tmp_path / "l.parquet")
    labels = read_labels(tmp_path / "l.parquet")
    assert [i.rpartition("/")[2] for i in labels.image_id.to_pylist()] == IDS
    assert matrix(labels) == MultiLabelBinarizer().fit_transform(SETS).tolist()


def test_image_columns_of_hugging_face(tmp_path):
    images = [{"bytes": b"x" * 9, "path": name} for name in IDS]
    pq.write_table(pa.table({"image": images, "labels": SETS}), tmp_path / "l.parquet")
    check(read_labels(tmp_path / "l.parquet"))


def as_lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


ROWS = [{"file_name": i, "labels": s} for i, s in zip(IDS, SETS, strict=True)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.json", json.dumps(dict(zip(IDS, SETS, strict=True)))),
        ("l.json", json.dumps(dict(zip(IDS, SETS, strict=True)), indent=1)),
        ("l.json", json.dumps(ROWS)),
        ("l.json", json.dumps({"image": IDS, "labels": SETS})),
        ("l.json", as_lines(ROWS)),
        ("l.jsonl", as_lines(ROWS)),
        ("l.jsonl", as_lines({"Image": r["file_name"], "id": 7, "tags": r["labels"]} for r in ROWS)),
    ],
)
def test_json(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    check(read_labels(tmp_path / name))


@pytest.mark.parametrize("mark", [" | ", "|", "; ", ", "])
@pytest.mark.parametrize("form", ["lines", "by image"])
def test_strings_in_json_are_read_like_cells(tmp_path, mark, form):
    tags = {"a.jpg": ["dog", "polar bear"], "b.jpg": ["dog", "cat"], "c.jpg": ["polar bear"]}
    tags |= {"d.jpg": ["cat"], "e.jpg": ["dog"]}
    texts = {image: mark.join(names) for image, names in tags.items()}
    path = tmp_path / ("l.json" if form == "by image" else "l.jsonl")
    lines = "".join(json.dumps({"image": i, "tags": t}) + "\n" for i, t in texts.items())
    path.write_text(json.dumps(texts) if form == "by image" else lines)
    labels = read_labels(path)
    keys = labels.class_list.keys
    assert keys == ("cat", "dog", "polar bear")
    assert [sorted(keys[c] for c in row) for row in labels.table["classes"].to_pylist()] == [
        sorted(names) for names in tags.values()
    ]


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_classes_that_differ_only_in_case_are_noted(tmp_path, suffix):
    path, names = tmp_path / f"l.{suffix}", ["TV", "tv", "Tv", "cat", "polar_bear", "polar bear"]
    lines = "".join(json.dumps({"image": f"{i}.jpg", "tags": [name]}) + "\n" for i, name in enumerate(names))
    rows = "".join(f"{i}.jpg,{name}|\n" for i, name in enumerate(names))
    path.write_text(lines if suffix == "jsonl" else f"image,tags\n{rows}")
    labels = read_labels(path)
    assert len(labels.class_list) == 6
    assert labels.notes == (
        "names that differ only in case or underscores are read as different classes: TV and Tv and "
        "tv, polar bear and polar_bear; if they are the same class, write them in the same way",
    )
    assert read_labels(path, classes=names).notes == ()


def test_a_comma_in_json_may_be_part_of_a_name(tmp_path):
    path = tmp_path / "l.json"
    path.write_text(json.dumps({"a.jpg": "Transport, road", "b.jpg": "cat"}))
    with pytest.raises(InputError, match="Commas may separate"):
        read_labels(path)
    whole = read_labels(path, format="label-lists(separator='|')")
    assert whole.class_list.keys == ("Transport, road", "cat")


def test_values_in_json(tmp_path):
    path = tmp_path / "l.jsonl"
    path.write_text(as_lines([{"image": "a", "labels": None}, {"image": "b", "labels": "brown dog"}]))
    labels = read_labels(path)
    assert (labels.table["usable"].to_pylist(), sets(labels)) == ([False, True], [set(), {"brown dog"}])
    path = tmp_path / "l.json"
    path.write_text('{"a.jpg": [0, 3], "b.jpg": []}')
    classes = from_keys((*NAMES, "horse"))
    assert read_labels(path, classes=classes).table["classes"].to_pylist() == [[0, 3], []]
    path.write_text('{"a.jpg": [], "b.jpg": ["cat"]}')  # the first list says nothing
    assert sets(read_labels(path)) == [set(), {"cat"}]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "l.csv",
            "image,labels\na.jpg,cat;dog\na.jpg,cow\n",
            "An image is listed more than once.\n  where:   {stem}\n  got:     1 id{s}, such as a.jpg\n"
            "  allowed: each image_id once\n  do:      retain one row per image",
        ),
        (
            "l.jsonl",
            '{"image": "a", "labels": ["x"]}\n{"image": "b"}\n',
            "The entry does not contain the name and the classes of an image.\n  where:   {path}, line 2\n"
            '  got:     image\n  allowed: an object such as {{"image": "a.jpg", "labels": ["cat"]}}',
        ),
        (
            "l.jsonl",
            '{"image": "a", "labels": [["x"]]}\n',
            "This is not a class.\n  where:   {path}, line 1\n  got:     ['x']\n"
            "  allowed: a name or a whole number",
        ),
        (
            "l.json",
            '{"a.jpg": ["x"], "b.jpg": [true]}',
            "This is not a class.\n  where:   {path}, image b.jpg\n  got:     True\n"
            "  allowed: a name or a whole number",
        ),
        (
            "l.json",
            '{"image": ["a"], "labels": [["x"], ["y"]]}',
            "The lists of images and classes differ in length.\n  where:   {path}\n  got:     1 and 2",
        ),
        (
            "l.json",
            '{"a.jpg": [0, 1, 0, 0]}',
            "An image lists a class twice.\n  where:   {stem}, image a.jpg\n  got:     class 0\n"
            "  do:      the row looks like 0 and 1 for each class: pass an array with one column per class, "
            "such as np.array(rows)",
        ),
    ],
)
def test_lists_that_are_refused(tmp_path, message, name, text, said):
    path = tmp_path / name
    path.write_text(text)
    got = message(lambda: read_labels(path))
    expected = said.format(path=path, stem=path.stem, s="s" if "1 ids" in got else "")
    assert got == expected


def test_an_image_that_json_lists_twice(tmp_path, message):
    path = tmp_path / "l.jsonl"
    path.write_text('{"image": "a", "labels": []}\n' * 2)
    assert "An image is listed more than once." in message(lambda: read_labels(path), MatchError)


def write_answers(path, rows):
    """Write entries as Prodigy does, with keys that are not read."""
    lines = [
        json.dumps({"image": i, "label": label, "_task_hash": n, "_view_id": "classification", "answer": a})
        for n, (i, label, a) in enumerate(rows)
    ]
    path.write_text("\n".join(lines) if path.suffix == ".jsonl" else f"[{', '.join(lines)}]")


@pytest.mark.parametrize("suffix", ["jsonl", "json"])
@pytest.mark.parametrize("classes", [None, ("cat", "dog", "owl")])
def test_answers_of_prodigy(tmp_path, suffix, classes):
    path = tmp_path / f"l.{suffix}"
    rows = [("a", "cat", "accept"), ("a", "dog", "reject"), ("b", "cat", "reject"), ("c", "dog", "ignore")]
    write_answers(path, [*rows, ("b", "dog", "ignore"), ("d", "dog", "accept"), ("d", "dog", "accept")])
    labels = read_labels(path, classes=classes and from_keys(classes))
    table = labels.table.to_pylist()
    found = {(r["image_id"], c, s) for r in table for c, s in zip(r["classes"], r["state"], strict=True)}
    assert found == {("a", 0, "yes"), ("a", 1, "no"), ("b", 0, "no"), ("d", 1, "yes")}
    assert labels.image_id.to_pylist() == ["a", "b", "d"]
    assert labels.asked_known
    assert "left out: 2 rows with the answer ignore" in labels.notes
    write_answers(path, [("a", "cat", "accept"), ("a", "dog", "accept"), ("b", "cat", "accept")])
    labels = read_labels(path, classes=classes and from_keys(classes))
    assert labels.table["classes"].to_pylist() == [[0, 1], [0]]
    assert not labels.asked_known


def test_answers_of_prodigy_about_lists_of_classes(tmp_path):
    path = tmp_path / "l.jsonl"
    lists = [("a", ["cat", "dog"], "accept"), ("b", ["cat"], "reject"), ("c", [], "ignore")]
    write_answers(path, lists)
    labels = read_labels(path)
    assert labels.image_id.to_pylist() == ["a"]
    assert labels.table["state"].to_pylist() == [["yes", "yes"]]
    assert "left out: 2 rows with the answer reject or ignore" in labels.notes


def test_a_class_that_is_accepted_and_rejected(tmp_path, message):
    path = tmp_path / "l.jsonl"
    write_answers(path, [("a", "cat", "accept"), ("b", "cat", "reject"), ("a", "cat", "reject")])
    assert message(lambda: read_labels(path)) == (
        f"A class of an image is both accepted and rejected.\n  where:   {path}, line 3\n"
        "  got:     cat of a\n  allowed: one answer about each class of an image\n"
        "  do:      remove the other answer; to decide between raters, write a table with the columns "
        "image_id, class_id, rater_id and answer (yes or no) for manyhot aggregate"
    )


def test_fractions_are_no_classes(tmp_path, message):
    path = tmp_path / "l.csv"
    path.write_text("image,labels\na,1.5\nb,2\n")
    assert message(lambda: read_labels(path)) == (
        f"These are not classes.\n  where:   {path}, column labels\n  got:     Float64\n"
        "  allowed: names or whole numbers"
    )
    path.write_text("image,note\na,x\n")
    assert message(lambda: read_labels(path, format="label-lists")) == (
        f"The table has no column of class names.\n  where:   {path}\n  got:     image, note\n"
        "  allowed: image_id, filename, path or id, and labels, tags, classes or label"
    )


def test_an_image_on_two_lines_is_an_error_that_names_the_file(tmp_path):
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps({"image_id": "a", "classes": [c]}) + "\n" for c in ("cat", "dog")))
    with pytest.raises(MatchError) as error:
        read_labels(path)
    assert str(error.value).startswith(f"An image is listed more than once.\n  where:   {path}\n")


COMMAS = {
    "one row each": 'image,label\na.jpg,"Complex, mixed"\nb.jpg,Pastures\n',
    "several rows of lists": 'image,labels\na.jpg,"Complex, mixed"\na.jpg,Pastures\nb.jpg,Pastures\n',
    "no space": 'image,label\na.jpg,"Complex,mixed"\nb.jpg,Pastures\n',
    "a name that is part of another": 'image,label\na.jpg,"Complex, mixed"\nb.jpg,Complex\n',
    "semicolons": "image;label\na.jpg;Complex, mixed\nb.jpg;Pastures\n",
    "label sets": 'image_id,classes\na.jpg,"Complex, mixed"\nb.jpg,Pastures\n',
}


@pytest.mark.parametrize("written", COMMAS.values(), ids=COMMAS)
def test_names_with_a_comma_are_not_divided_in_silence(tmp_path, message, written):
    path = tmp_path / "l.csv"
    path.write_text(written)
    comma = "Complex,mixed" if "Complex,mixed" in written else "Complex, mixed"
    column, other = (
        word if word in written else also for word, also in (("classes", "label"), ("Pastures", "Complex"))
    )
    column = "labels" if "labels" in written else column
    absent = "Complex" if other == "Pastures" else "mixed"
    assert message(lambda: read_labels(path)) == (
        "Commas may separate the classes of an image or be part of the names of classes.\n"
        f"  where:   {path}, column {column}\n"
        f"  got:     {comma}, beside {other}; no image has only {absent}\n"
        "  allowed: cells in which each name also occurs alone, or names that are separated by | or ;\n"
        "  do:      pass the list of all classes as `classes`, which resolves this; or read the file with "
        "manyhot convert or read_labels and a format: label-lists(separator=',') divides the cells, and "
        "label-lists(separator='|') keeps them whole"
    )
    classes = from_keys((comma, other, "Water"))
    labels = read_labels(path, classes=classes)
    found = dict(zip(labels.image_id.to_pylist(), labels.table["classes"].to_pylist(), strict=True))
    assert found == {"a.jpg": [0, 1] if "\na.jpg,P" in written else [0], "b.jpg": [1]}
    divided = from_keys(("Complex", "mixed", "Pastures"))
    if "\na.jpg,P" not in written:
        assert read_labels(path, classes=divided).table["classes"].to_pylist()[0] == [0, 1]
    if column == "label":
        whole = read_labels(path, format="label-lists(separator='|')")
        assert whole.class_list.keys == (comma, other) if other == "Pastures" else (other, comma)


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        (["cat, dog", "dog", "cat", "elk"], {"cat", "dog", "elk"}),  # each name also stands alone
        (["cat, dog", "elk, cat"], {"cat", "dog", "elk"}),  # only lists
        (["cat,dog", "cat", "elk"], {"cat", "dog", "elk"}),  # a shared name, and commas without spaces
        (["cat,dog", "dog,elk", "polar bear"], {"cat", "dog", "elk", "polar bear"}),
        (["cat|dog, small", "elk"], {"cat", "dog, small", "elk"}),  # bars divide
    ],
)
def test_commas_that_divide_cells(tmp_path, cells, names):
    pd.DataFrame({"image": range(len(cells)), "label": cells}).to_csv(tmp_path / "l.csv", index=False)
    assert set(read_labels(tmp_path / "l.csv").class_list.keys) == names


@pytest.mark.parametrize("column", ["label", "labels"])
def test_names_that_share_a_first_part_are_no_lists(tmp_path, column):
    """PlantVillage has two classes of *Pepper,_bell*. In a column of tags, these are as likely to be tags."""
    cells = ["Pepper,_bell___healthy", "Pepper,_bell___Bacterial_spot", "Tomato___healthy"] * 2
    pd.DataFrame({"image": range(6), column: cells}).to_csv(tmp_path / "l.csv", index=False)
    if column == "label":
        with pytest.raises(InputError, match="part of the names of classes"):
            read_labels(tmp_path / "l.csv")
    else:
        assert len(read_labels(tmp_path / "l.csv").class_list.keys) == 4


def test_commas_between_names_or_numbers_of_the_class_list(tmp_path):
    path = tmp_path / "l.csv"
    path.write_text('image,label\na.jpg,"tench, goldfish"\nb.jpg,cock\n')
    assert read_labels(path).table["classes"].to_pylist() == [[0, 1], [7]]
    path.write_text('image,label\na.jpg,"1, 2"\nb.jpg,3\n')
    assert read_labels(path).table["classes"].to_pylist() == [[1, 2], [3]]


ROWS = [(f"{i:02}.jpg", "abc"[i % 3]) for i in range(30)]


def table_of(tmp_path, rows, column="label"):
    path = tmp_path / "sets.csv"
    pd.DataFrame(rows, columns=["filename", column]).to_csv(path, index=False)
    return path


def original(labels):
    """Return the original label of each image by name, or None if there are no original labels."""
    if "label" not in labels.table.column_names:
        return None
    names = [None if c is None else labels.class_list.keys[c] for c in labels.table["label"].to_pylist()]
    return dict(zip(labels.image_id.to_pylist(), names, strict=True))


def test_an_empty_cell_among_single_labels_is_an_image_without_a_label(tmp_path):
    labels = read_labels(table_of(tmp_path, [*ROWS, ("30.jpg", None)]))
    assert original(labels) == {**dict(ROWS), "30.jpg": None}
    assert labels.table["usable"].to_pylist() == [True] * 30 + [False]
    assert labels.notes == (
        "1 of 31 images have an empty cell instead of a label and are left out; if these images have none of "
        "the classes, call the column 'labels', or write a class such as 'empty' into the cells",
    )
    frame = pd.DataFrame({"filename": [*dict(ROWS), "30.jpg"], "label": [*dict(ROWS).values(), None]})
    assert original(labels_of_table(frame, None)) == original(labels)


@pytest.mark.parametrize(
    ("column", "options"), [("labels", ""), ("label", "label-lists(unlisted='no')")], ids=["plural", "no"]
)
def test_an_empty_cell_among_lists_is_an_empty_set(tmp_path, column, options):
    labels = read_labels(table_of(tmp_path, [*ROWS, ("30.jpg", None)], column), format=options or None)
    assert original(labels) is None
    assert sets(labels) == [*({label} for _, label in ROWS), set()]
    assert all(labels.table["usable"].to_pylist())
    assert labels.notes == ()


def test_repeated_rows_count_once(tmp_path):
    labels = read_labels(table_of(tmp_path, [*ROWS, ROWS[5], ROWS[5], ROWS[7]]))
    assert original(labels) == dict(ROWS)
    assert labels.notes == (
        "the column 'label' has 33 rows for 30 images: rows that repeat a label count once",
    )


def test_an_image_with_a_label_and_an_empty_cell_has_the_label(tmp_path):
    labels = read_labels(table_of(tmp_path, [*ROWS, ("05.jpg", None)]))
    assert original(labels) == dict(ROWS)
    assert all(labels.table["usable"].to_pylist())


def test_a_few_images_with_different_labels_are_counted(tmp_path):
    labels = read_labels(table_of(tmp_path, [*ROWS, ("00.jpg", "b"), ("03.jpg", "c")]))
    assert original(labels) is None
    assert sets(labels)[:4] == [{"a", "b"}, {"b"}, {"c"}, {"a", "c"}]
    assert labels.notes == (
        "2 of 30 images have rows with different labels in the column 'label', so the labels are read as "
        "label sets, and there are no original labels; if each image has one label, remove the other rows",
    )


def test_data_in_which_many_images_have_several_labels_are_label_sets_without_a_note(tmp_path):
    more = [(f"{i:02}.jpg", "abc"[(i + 1) % 3]) for i in range(10)]
    labels = read_labels(table_of(tmp_path, [*ROWS, *more, ("30.jpg", None)]))
    assert original(labels) is None
    assert sets(labels)[:2] == [{"a", "b"}, {"b", "c"}]
    assert sets(labels)[-1] == set()
    assert all(labels.table["usable"].to_pylist())
    assert labels.notes == ()


LAND = ("Arable land", "Beaches, dunes, sands", "Marine waters", "sands")


@pytest.mark.parametrize("separator", [", ", "; ", "|"])
@pytest.mark.parametrize("has_single", [True, False])
def test_names_of_the_class_list_are_not_divided_at_separators(tmp_path, has_single, separator):
    names = [name.replace(", ", separator) for name in LAND]
    sets = [[0, 1], [1, 2], [0, 1, 2], [0, 2, 3], [1, 3], *([[0], [1]] if has_single else [])]
    cells = [separator.join(names[i] for i in own) for own in sets]
    for columns in (["patch_id", "labels"], ["image_id", "classes", "state"][:2]):
        table = pd.DataFrame({columns[0]: [f"t{i}" for i in range(len(sets))], columns[1]: cells})
        table.to_csv(tmp_path / "l.csv", index=False)
        if columns[1] == "classes" and separator != ", ":
            continue
        labels = read_labels(tmp_path / "l.csv", classes=from_keys(names))
        assert [sorted(own) for own in labels.table["classes"].to_pylist()] == sets


@pytest.mark.parametrize("separator", [" / ", " : ", "\n", ", ", " | ", "; "])
def test_the_separator_is_the_one_between_names_of_the_class_list(tmp_path, separator):
    """Iconclass notations contain commas and slashes; the cells are those of a museum's export."""
    sets = [["11H(JEROME)", "61B2(MÜLLER, JOHANN)1"], ["31A71"], ["31A71", "25/A"]]
    cells = [separator.join(names) for names in sets]
    pd.DataFrame({"image": ["a", "b", "c"], "tags": cells}).to_csv(tmp_path / "l.csv", index=False)
    classes = from_keys(["11H(JEROME)", "61B2(MÜLLER, JOHANN)1", "31A71", "25/A", "unused"])
    labels = read_labels(tmp_path / "l.csv", classes=classes)
    assert labels.table["classes"].to_pylist() == [[0, 1], [2], [2, 3]]


def test_line_breaks_in_cells_separate_names(tmp_path):
    """A list that is typed into a spreadsheet."""
    pd.DataFrame({"image": ["a", "b"], "label": ["cat\nroad, wet", "road, wet"]}).to_csv(tmp_path / "l.csv")
    labels = read_labels(tmp_path / "l.csv")
    keys = labels.class_list.keys
    assert [[keys[c] for c in own] for own in labels.table["classes"].to_pylist()] == [
        ["cat", "road, wet"],
        ["road, wet"],
    ]


def test_commas_of_names_that_overlap_leave_no_part_unknown(tmp_path):
    (tmp_path / "l.csv").write_text('image,labels\na,"A, B, C"\nb,"B, C, A"\nc,"A, B, A"\n')
    labels = read_labels(tmp_path / "l.csv", classes=from_keys(("A", "A, B", "B, C")))
    assert labels.table["classes"].to_pylist() == [[0, 2], [2, 0], [1, 0]]


def test_a_name_that_is_not_in_the_class_list_is_named_although_there_are_commas(tmp_path, message):
    (tmp_path / "l.csv").write_text('image,labels\na,"Beaches, dunes, sands, Bog"\nb,Arable land\n')
    text = message(lambda: read_labels(tmp_path / "l.csv", classes=from_keys(LAND[:3])))
    assert text.startswith("A class is not in the class list.\n")
    assert "got:     Bog\n" in text


def test_names_that_only_occur_side_by_side_are_noted(tmp_path):
    sets = [LAND[:2], LAND[1:3], LAND[:3], (LAND[0], LAND[2])]
    table = pd.DataFrame({"patch_id": range(4), "labels": [", ".join(own) for own in sets]})
    table.to_csv(tmp_path / "l.csv", index=False)
    assert read_labels(tmp_path / "l.csv").notes == (
        "the column 'labels' is divided at commas, but 'Beaches' and 'dunes' only occur side by side; if "
        "commas are part of names, pass the list of all classes as `classes`",
    )
    assert not read_labels(tmp_path / "l.csv", format="label-lists(separator=',')").notes
    assert not read_labels(tmp_path / "l.csv", classes=from_keys(LAND)).notes


@pytest.mark.parametrize("columns", [("patch_id", "label", "annotator"), ("image_id", "label", "Rater")])
def test_labels_of_several_raters_are_noted(tmp_path, columns):
    rows = [
        ("a", "cat", "ann"),
        ("a", "cat", "bob"),
        ("b", "dog", "ann"),
        ("b", "cat", "bob"),
        ("c", "cat", "ann"),
    ]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "l.csv", index=False)
    labels = read_labels(tmp_path / "l.csv")
    assert labels.notes[-1] == (
        f"2 of 3 images have labels of several raters (column '{columns[2]}'): their label sets contain what "
        "any of them chose; to decide between raters, use manyhot aggregate"
    )
    assert [len(own) for own in labels.table["classes"].to_pylist()] == [1, 2, 1]
    one = [(image, label, "ann") for image, label, _ in rows]  # one rater who gives an image several labels
    pd.DataFrame(one, columns=columns).to_csv(tmp_path / "l.csv", index=False)
    assert not any("raters" in note for note in read_labels(tmp_path / "l.csv").notes)


def test_raters_who_cannot_tell_add_no_class(tmp_path):
    rows = [("a", "cat", "ann"), ("a", "unsure", "bob"), ("b", "dog", "ann"), ("b", "cat", "bob")]
    pd.DataFrame(rows, columns=("image_id", "label", "rater")).to_csv(tmp_path / "l.csv", index=False)
    labels = read_labels(tmp_path / "l.csv")
    assert labels.table["classes"].to_pylist() == [[0], [1, 0]]
    assert labels.notes[0] == (
        "left out: 1 answer without a class (unsure); if a class is called so, pass the list of all classes "
        "as `classes`"
    )
    listed = read_labels(tmp_path / "l.csv", classes=from_keys(["cat", "dog", "unsure"]))
    assert listed.table["classes"].to_pylist() == [[0, 2], [1, 0]]
    one = [(image + rater, label, rater) for image, label, rater in rows]  # labels, not votes
    pd.DataFrame(one, columns=("image_id", "label", "rater")).to_csv(tmp_path / "l.csv", index=False)
    labels = read_labels(tmp_path / "l.csv", format="label-lists")
    assert labels.class_list.keys == ("cat", "dog", "unsure")


def test_confidences_of_labels_are_not_dropped_in_silence(tmp_path, message):
    path = tmp_path / "l.csv"
    path.write_text("patch_id,label,confidence\na,cat,0.9\na,dog,0.2\nb,cat,0.7\n")
    text = message(lambda: read_labels(path))
    assert text.endswith(
        "do:      pass it as predictions; if these are labels, remove the rows that do not count, and "
        "convert the file: manyhot convert l.csv labels.parquet --format label-lists"
    )
    labels = read_labels(path, format="label-lists")
    assert [len(own) for own in labels.table["classes"].to_pylist()] == [2, 1]
    assert labels.notes[-1] == (
        "the column 'confidence' was not read: all labels of the file count, also uncertain ones"
    )


def test_lists_that_are_null_are_counted(tmp_path):
    path = tmp_path / "l.parquet"
    pl.DataFrame({"image_id": ["a", "b", "c"], "labels": [["cat"], None, []]}).write_parquet(path)
    labels = read_labels(path)
    assert labels.table["usable"].to_pylist() == [True, False, True]
    assert labels.notes == (
        "1 of 3 images have null instead of a list of classes and are left out; if these images have none of "
        "the classes, replace null by an empty list",
    )


@pytest.mark.parametrize(
    "cells",
    [
        ['{"gun": true, "gore": false}', '{"gun": false, "gore": false}'],
        ["{'gun': True, 'gore': False}", "{'gun': False, 'gore': True}"],
        ['[{"name": "gun", "by": "ann"}, {"name": "gore", "by": "ann"}]', "[]"],
    ],
)
def test_objects_in_cells_are_no_names(tmp_path, message, cells):
    path = tmp_path / "l.csv"
    pl.DataFrame({"image_id": ["a", "b"], "labels": cells}).write_csv(path)
    assert message(lambda: read_labels(path)) == (
        "The cells are JSON objects, not names of classes.\n"
        f"  where:   {path}, column labels\n"
        f"  got:     {cells[0]}\n"
        '  allowed: names such as cat|dog, or lists of names such as ["cat", "dog"]\n'
        "  do:      write the names of the valid classes of each image, or one column of 0 and 1 per class"
    )


@pytest.mark.parametrize("ids", ["image", "image_id"])
def test_names_in_several_rows_of_an_image_may_have_commas(ids, tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text(f'{ids},label\na.jpg,"Complex, mixed"\na.jpg,Pastures\nb.jpg,Pastures\n')
    labels = read_labels(path)
    assert labels.class_list.names == ("Complex, mixed", "Pastures")
    assert labels.table["classes"].to_pylist() == [[0, 1], [1]]


def test_names_of_two_words_that_are_divided_at_spaces_are_noted(tmp_path):
    path = tmp_path / "labels.csv"
    names = ["Aphis fabae", "Aphis gossypii", "Myzus persicae", "Thrips", "Aphis"]
    path.write_text("image_id,labels\n" + "".join(f"{i}.jpg,{name}\n" for i, name in enumerate(names)))
    (note,) = read_labels(path).notes
    assert note == (
        "the column 'labels' is divided at spaces, but 'fabae' is never the first or only word of a cell, as "
        "in 'Aphis fabae'; if spaces are part of names, rename the column to label, or pass the list of all "
        "classes as `classes`"
    )
    assert read_labels(path, classes=from_keys(names)).notes == ()
    path.write_text("image_id,labels\na,clear primary\nb,haze clear\nc,haze primary\nd,primary road\n")
    assert read_labels(path).notes == ()


def test_names_without_letters_and_digits_are_noted(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("image,label\na,cat\nb,?\nc,-\n")
    assert read_labels(path).notes == (
        "names without letters and digits are read as classes, too: -, ?; if they mean that there is no "
        "answer, "
        "leave these cells empty, and if they separate names, write | between names",
    )


def test_decimal_ids_in_json_are_refused_with_what_to_do(tmp_path, message):
    path, model = tmp_path / "l.json", tmp_path / "m.json"
    path.write_text('[{"id": 1998.10, "tags": ["cars"]}, {"id": 1998.1, "tags": []}]')
    model.write_text('[{"id": 1998.10, "scores": {"cars": 0.2}}]')
    for file, read in ((path, read_labels), (model, read_predictions)):
        assert message(lambda file=file, read=read: read(file)) == (
            "The id of an image is a decimal number, which loses zeros at its end.\n"
            f"  where:   {file}, entry 0\n"
            "  got:     1998.1\n  allowed: a string or a whole number\n"
            '  do:      write ids in quotes, such as "1998.10"'
        )
