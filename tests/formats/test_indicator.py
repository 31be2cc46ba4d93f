"""One column per class: 0 and 1 are labels, fractions are scores, and other columns are neither."""

import csv
import shlex

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.preprocessing import MultiLabelBinarizer

from manyhot import evaluate, read_labels, read_predictions
from manyhot.classes import class_list, from_keys
from manyhot.data.convert import convert
from manyhot.data.inputs import open_inputs
from manyhot.errors import InputError, MatchError
from manyhot.formats import detect
from manyhot.formats.prediction_folders import prediction_files
from manyhot.tables.labels import with_zeros

IDS = ["a.jpg", "b.jpg", "c.jpg"]
SETS = [{"dog"}, set(), {"cat", "great white shark"}]
NAMES = ["cat", "dog", "great white shark"]
MATRIX = np.array([[0, 1, 0], [0, 0, 0], [1, 0, 1]])
"""The states of SETS in the order of NAMES."""


def frame(**more):
    columns = dict(zip(NAMES, MATRIX.T, strict=True))
    # Classes are in the order of the columns, which differs from the sorted names.
    return pd.DataFrame({"filename": IDS} | more | {name: columns[name] for name in reversed(NAMES)})


def sets(labels, state="yes"):
    keys, table = (labels.class_list or class_list()).keys, with_zeros(labels).table
    rows = zip(table["classes"].to_pylist(), table["state"].to_pylist(), strict=True)
    return [{keys[c] for c, s in zip(classes, states, strict=True) if s == state} for classes, states in rows]


def write(path, table, **options):
    if path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, **options)
    return path


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
@pytest.mark.parametrize("kind", [int, float, bool])
def test_label_sets(tmp_path, suffix, kind):
    table = frame().astype(dict.fromkeys(NAMES, kind))
    labels = read_labels(write(tmp_path / f"l.{suffix}", table, **({"sep": "\t"} if suffix == "tsv" else {})))
    assert labels.image_id.to_pylist() == IDS
    assert labels.class_list.keys == tuple(reversed(NAMES))
    assert labels.class_list.is_complete
    assert (labels.n_classes, labels.class_hash) == (3, labels.class_list.hash)
    assert sets(labels) == SETS
    assert sets(labels, "no") == [set(NAMES) - s for s in SETS]
    assert labels.asked_known
    # The zeros are not stored; a file that is written contains them.
    assert labels.complete
    assert labels.table["state"].to_pylist() == [["yes"] * len(s) for s in SETS]


def test_as_scikit_learn_and_pandas(tmp_path):
    binarizer = MultiLabelBinarizer()
    table = pd.DataFrame(binarizer.fit_transform(SETS), columns=binarizer.classes_, index=IDS)
    labels = read_labels(write(tmp_path / "a.csv", table.rename_axis("image_id").reset_index()))
    assert (labels.class_list.keys, sets(labels)) == (tuple(binarizer.classes_), SETS)
    table.to_csv(tmp_path / "index.csv")  # the first column has no name
    assert read_labels(tmp_path / "index.csv").image_id.to_pylist() == IDS
    one = pd.DataFrame({"image_id": IDS, "label": ["dog", "cat", "dog"]})
    labels = read_labels(write(tmp_path / "d.csv", pd.get_dummies(one, columns=["label"])))
    assert (labels.class_list.keys, sets(labels)) == (("cat", "dog"), [{"dog"}, {"cat"}, {"dog"}])


def test_only_common_prefixes_are_removed(tmp_path):
    text = "image_id,label_cat,label_dog,split_train,split_test\na,1,0,1,0\nb,0,1,0,1\n"
    (tmp_path / "d.csv").write_text(text)
    assert read_labels(tmp_path / "d.csv").class_list.keys == (
        "label_cat",
        "label_dog",
        "split_train",
        "split_test",
    )
    labels = read_labels(tmp_path / "d.csv", format="indicator(prefix='label_')")
    assert (labels.class_list.keys, sets(labels)) == (("cat", "dog"), [{"cat"}, {"dog"}])
    classes = from_keys(("dog", "cat"))
    labels = read_labels(tmp_path / "d.csv", classes=classes)
    assert (labels.class_hash, sets(labels)) == (classes.hash, [{"cat"}, {"dog"}])


CHEXPERT = """\
Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Cardiomegaly,Lung Lesion,Edema
valid/patient1/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,0.0,,-1.0
valid/patient2/study1/view1_lateral.jpg,Male,1,Lateral,,,1.0,,
"""


def test_chexpert(tmp_path):
    """Irvin et al. 2019: 1 is positive, 0 negative, -1 uncertain, and empty is not mentioned."""
    (tmp_path / "train.csv").write_text(CHEXPERT)
    labels = read_labels(tmp_path / "train.csv")
    # A class that no report mentions is a class, too; if it is a column of notes, a note names it.
    assert labels.class_list.keys == ("No Finding", "Cardiomegaly", "Lung Lesion", "Edema")
    assert labels.notes == (
        "the labels have empty columns, for classes that no rater was asked about: Lung Lesion",
    )
    assert sets(labels) == [{"No Finding"}, {"Cardiomegaly"}]
    assert sets(labels, "no") == [{"Cardiomegaly"}, set()]
    assert sets(labels, "unclear") == [{"Edema"}, set()]
    assert labels.asked_known
    findings = from_keys(("No Finding", "Cardiomegaly", "Lung Lesion", "Edema"))
    labels = read_labels(
        tmp_path / "train.csv", classes=findings, format="indicator(minus_one='not asked', empty='no')"
    )
    assert labels.table["classes"].to_pylist() == [[0, 1, 2], [0, 1, 2, 3]]
    assert labels.table["state"].to_pylist() == [["yes", "no", "no"], ["no", "yes", "no", "no"]]
    # U-Ones and U-Zeros, which its authors compare.
    for state in ("yes", "no"):
        labels = read_labels(tmp_path / "train.csv", format=f"indicator(minus_one='{state}')")
        assert sets(labels, state)[0] >= {"Edema"}
    with pytest.raises(InputError, match="The option 'empty' is not a state"):
        read_labels(tmp_path / "train.csv", format="indicator(empty='yes')")


def test_notes_on_columns_that_are_not_read(tmp_path):
    path = tmp_path / "l.csv"
    path.write_text("image,age,cat,fish,remarks,dog,where\na,3,1,2,,0,x\nb,2,0,0,,1,y\nc,4,0,1,,1,z\n")
    labels = read_labels(path)
    assert labels.class_list.keys == ("cat", "dog")
    codes = "columns of the labels with numbers other than 0, 1 and -1 are not read as classes: fish"
    assert labels.notes == (codes,)
    assert convert(path, tmp_path / "l.parquet").notes == labels.notes
    evaluated = pd.DataFrame({"cat": [0.9, 0.2, 0.1], "dog": [0.3, 0.8, 0.6]}, index=["a", "b", "c"])
    assert f"l: {codes}" in evaluate(path, evaluated, scores="probability", metrics=["map_macro"]).notes
    labels = read_labels(path, classes=from_keys(("cat", "elk")))
    assert labels.notes == (
        "columns of zeros and ones that are not in the class list are left out of the labels: dog",
    )


def test_an_empty_column_without_the_prefix_of_the_others_is_no_class(tmp_path):
    (tmp_path / "l.csv").write_text("image,label_cat,label_dog,label_elk,scanner\na,1,0,,\nb,0,1,,\n")
    labels = read_labels(tmp_path / "l.csv")
    assert labels.class_list.keys == ("cat", "dog", "elk")
    assert labels.table["state"].to_pylist() == [["yes", "no"], ["no", "yes"]]


def test_tables_without_zeros_do_not_record_what_was_asked(tmp_path):
    (tmp_path / "l.csv").write_text("image,cat,dog\na,1,\nb,,1\n")
    labels = read_labels(tmp_path / "l.csv")
    assert (sets(labels), labels.asked_known) == ([{"cat"}, {"dog"}], False)


def test_minus_one_that_may_mean_no(tmp_path, message):
    """CelebA writes -1 for no; read as unclear, no class would have a negative."""
    path = tmp_path / "celeba.csv"
    path.write_text("image_id,Smiling,Young\n1.jpg,1,-1\n2.jpg,-1,1\n")
    assert message(lambda: read_labels(path)) == (
        "The table contains 1 and -1 but no 0, so -1 may mean no.\n"
        f"  where:   {path}\n"
        "  do:      if it does, write 0 instead of -1; for label sets, this is done by manyhot convert "
        f"{path} labels.parquet "
        "--format \"indicator(minus_one='no')\"; in Python, pass what read_labels returns with this format"
    )
    labels = read_labels(path, format="indicator(minus_one='no')")
    assert (sets(labels), sets(labels, "no")) == ([{"Smiling"}, {"Young"}], [{"Young"}, {"Smiling"}])
    convert(path, tmp_path / "labels.parquet", format="indicator(minus_one='no')")  # as the message says
    assert read_labels(tmp_path / "labels.parquet").table["classes"].to_pylist() == [[0, 1], [0, 1]]
    path.write_text("image_id,Smiling,Young,Bald\n1.jpg,1,-1,\n2.jpg,-1,1,\n")
    assert "-1 may mean no" in message(lambda: read_labels(path))
    rows = [f"{i}.jpg,{1 if i % 2 else -1},-1" for i in range(100)]
    # A cell that nobody knows is no sign that -1 means unclear: all but these two would be unclear.
    path.write_text("\n".join(["image_id,Smiling,Young", *rows, "a.jpg,0,1"]))
    assert "hardly any 0, so -1 may mean no" in message(lambda: read_labels(path))
    path.write_text("\n".join(["image_id,Smiling,Young", *rows, "a.jpg,1,1", "b.jpg,,1"]))
    assert "150 cells of -1, and 1 of 0 or empty" in message(lambda: read_labels(path))
    declared = read_labels(path, format="indicator(minus_one='unclear')")
    assert sets(declared, "unclear")[:2] == [{"Smiling", "Young"}, {"Young"}]
    path.write_text("\n".join(["image_id,Smiling,Young", *rows, *(f"{i}.png,0,1" for i in range(2))]))
    assert sets(read_labels(path), "unclear")[0] == {"Smiling", "Young"}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_separators_quotes_and_marks(tmp_path, separator, quoting, end, encoding):
    path = tmp_path / "l.csv"
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file, delimiter=separator, quoting=quoting, lineterminator=end)
        writer.writerows([["filename", "caf\u00e9, bar; pub", "dog"], ["a;b,c.jpg", 1, 0], ["007", 0, 1]])
    labels = read_labels(path)
    assert labels.class_list.keys == ("caf\u00e9, bar; pub", "dog")
    assert (labels.image_id.to_pylist(), sets(labels)) == (
        ["a;b,c.jpg", "007"],
        [{"caf\u00e9, bar; pub"}, {"dog"}],
    )


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_metadata_are_no_classes(tmp_path, suffix):
    more = {"Age": [1, 0, 1], "sex": ["f", "m", None], "bytes": [10, 20, 5], "is_valid": [True, False, False]}
    labels = read_labels(write(tmp_path / f"l.{suffix}", frame(**more)))
    assert labels.class_list.keys == tuple(reversed(NAMES))
    # With a class list, only its classes count, whatever else has 0 and 1.
    classes = from_keys(("dog", "is_valid"))
    labels = read_labels(tmp_path / f"l.{suffix}", classes=classes)
    table = with_zeros(labels).table
    assert table["classes"].to_pylist() == [[0, 1]] * 3
    assert table["state"].to_pylist() == [["yes", "yes"], ["no", "no"], ["no", "no"]]


def test_numbers_as_names_and_names_of_imagenet(tmp_path):
    (tmp_path / "n.csv").write_text("image_id,0,10,2\na,1,0,1\nb,0,1,0\n")
    assert read_labels(tmp_path / "n.csv").class_list.keys == ("0", "10", "2")
    imagenet = class_list()
    keys = list(reversed(imagenet.keys))
    columns = {"image_id": ["a", "b"]} | {key: [int(key == "n01440764"), 0] for key in keys}
    pl.DataFrame(columns).write_csv(tmp_path / "i.csv")
    labels = read_labels(tmp_path / "i.csv")
    assert (labels.class_hash, labels.class_list, sets(labels)[0]) == (imagenet.hash, None, {"n01440764"})


def test_columns_that_leave_it_open(tmp_path, message):
    path = tmp_path / "l.csv"
    rows = "".join(f"{i}.jpg,{i % 2},{3 if i == 7 else i % 2}\n" for i in range(20))
    path.write_text(f"image_id,cat,dog\n{rows}")
    refused = (
        "The column of a class contains values other than 0 and 1.\n"
        f"  where:   {path}, column dog\n"
        "  got:     3 in 1 of 20 cells\n"
        "  allowed: 1, 0, -1 or nothing; or yes, no, maybe or nothing\n"
        "  do:      correct them, or pass a class list without this column as `classes`"
    )
    assert message(lambda: read_labels(path)) == refused
    assert message(lambda: read_labels(path, classes=from_keys(("dog",)))) == refused
    assert len(read_labels(path, classes=from_keys(("cat",)))) == 20
    path.write_text("image_id,cat,dog,weight\na,1,0,0.5\nb,0,1,2.5\n")
    assert message(lambda: read_labels(path)) == (
        "Some columns contain zeros and ones, and others contain fractions, so the classes are ambiguous.\n"
        f"  where:   {path}\n"
        "  got:     0 and 1 in cat, dog; fractions in weight\n"
        "  do:      pass the class list as `classes`, or the file as predictions if these are scores"
    )
    path.write_text("image_id,cat,dog\na,x,0\nb,y,1\n")
    assert message(lambda: read_labels(path, classes=from_keys(("cat", "dog")))) == (
        "The column of a class does not contain numbers.\n"
        f"  where:   {path}, column cat, row 1 below the header\n"
        "  got:     x\n"
        "  allowed: 1, 0, -1 or nothing; or yes, no, maybe or nothing"
    )
    assert message(lambda: read_labels(path, classes=from_keys(("horse",), "mine"))) == (
        "No column is named after a class of the class list.\n"
        f"  where:   {path}\n"
        "  got:     columns cat, dog\n"
        "  allowed: keys and names of mine, such as horse\n"
        "  do:      name the columns of classes like these; if the table contains neither labels nor "
        "predictions, drop its columns of numbers and booleans"
    )
    path.write_text("image_id,cat,Cat\na,1,0\n")
    assert message(lambda: read_labels(path, classes=from_keys(("cat",)))) == (
        f"A class has more than one column.\n  where:   {path}\n  got:     cat, Cat\n"
        "  do:      drop or rename one of them"
    )
    path.write_text("image_id,cat,cat\na,1,0\n")
    assert message(lambda: read_labels(path)) == (
        f"The table has two columns with the same name.\n  where:   {path}\n  got:     'cat'\n"
        "  do:      drop or rename one of them"
    )
    path.write_text("image_id,cat\na,1\na,0\n")
    assert "An image is listed more than once." in message(lambda: read_labels(path))
    assert message(lambda: read_labels(path, format="indicator(empty='maybe')")) == (
        f"The option 'empty' is not a state.\n  where:   {path}\n  got:     maybe\n"
        "  allowed: unclear, not asked, no"
    )


def test_a_table_without_images_says_what_it_contains(tmp_path, message):
    path = tmp_path / "l.csv"
    path.write_text("title,cat,size,note\na,1,30,\nb,0,20,\n")
    assert message(lambda: read_labels(path)) == (
        "The file does not contain labels.\n"
        f"  where:   {path}\n"
        "  got:     no known format with suffix '.csv', and the columns title (text), cat (0 and 1), "
        "size (whole numbers), note (empty)\n"
        "  allowed: multilabel-csv: id, original_label and proposed_labels; "
        "open-images: ImageID, LabelName and Confidence; "
        "label-lists: image_id, filename, path or id, and labels, tags, classes or label; "
        "indicator: image_id, filename, path or id, and one column of 0 and 1 per class; "
        "labels-table: image_id and classes, or image_id, class_id and state; "
        "other suffixes: .json, .jsonl, .manifest, .npy, .npz, .parquet, .pkl, .tsv, .txt, folder\n"
        "  do:      rename the column with the names of the images to image_id"
    )


SCORES = np.array([[0.25, 0.75, 1], [0, 1, 0.5], [0.125, 1e-3, 0]], np.float32)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_scores(tmp_path, suffix):
    table = pd.DataFrame(SCORES[:, ::-1], columns=NAMES[::-1])
    table.insert(0, "image", IDS)
    path = write(tmp_path / f"resnet.{suffix}", table)
    assert detect(path).name == "score-columns"
    found = read_predictions(path, scores="probability")
    assert (found.model, found.score_kind, found.n_classes) == ("resnet", "probability", 3)
    assert (found.class_list.keys, found.class_list.is_complete) == (tuple(reversed(NAMES)), True)
    assert found.scores.tolist() == SCORES[:, ::-1].tolist()
    over = read_predictions(path, classes=from_keys(NAMES))
    assert over.scores.tolist() == SCORES.tolist()


@pytest.mark.parametrize("seed", range(20))
def test_labels_and_scores_are_never_confused(tmp_path, seed):
    rng = np.random.default_rng(seed)
    n, c = int(rng.integers(1, 30)), int(rng.integers(2, 8))
    values = rng.random((n, c)) if seed % 2 else rng.integers(0, 2, (n, c)).astype(float)
    if seed % 2:
        values[:, rng.random(c) < 0.4] = 0  # classes that a model never predicts
        values[0, 0] = 0.5
    table = pd.DataFrame(values.round(3), columns=[f"c{i}" for i in range(c)])
    table.insert(0, "image_id", [f"{i}.jpg" for i in range(n)])
    path = write(tmp_path / "t.csv", table)
    assert read_predictions(path).scores.shape == (n, c)
    if seed % 2 == 0:
        assert detect(path).about["holds"] == "labels"
        with pytest.raises(ValueError, match="contains no predictions"):
            prediction_files([tmp_path])
    elif ((values == 0) | (values == 1)).all(axis=0).sum() <= c / 2:
        assert detect(path).about["holds"] == "predictions"
        with pytest.raises(ValueError, match="does not contain labels"):
            read_labels(path)
    else:
        with pytest.raises(ValueError, match="zeros and ones, and others contain fractions"):
            read_labels(path)


def test_fractions_in_later_rows(tmp_path, message):
    """A file is recognised by its first rows, but its reader checks all of them."""
    path = tmp_path / "t.csv"
    rows = "".join(f"{i}.jpg,{i % 2},1\n" for i in range(3000))
    path.write_text(f"image_id,cat,dog\n{rows}x.jpg,0.5,0.25\n")
    assert message(lambda: read_labels(path)) == (
        f"No column contains only zeros and ones.\n  where:   {path}\n"
        "  got:     image_id (text), cat (numbers), dog (numbers)\n"
        "  allowed: one column per class with 1, 0, -1 or nothing; or yes, no, maybe or nothing"
    )
    assert read_predictions(path).scores[-1].tolist() == [0.5, 0.25]


def test_a_folder_of_predictions_has_no_labels(tmp_path):
    (tmp_path / "labels.csv").write_text("image_id,cat,dog\na,1,0\n")
    (tmp_path / "m.csv").write_text("image_id,cat,dog\na,0.5,0\n")
    assert [p.name for p in prediction_files([tmp_path])] == ["m.csv"]
    assert read_predictions(tmp_path / "labels.csv").scores.tolist() == [[1, 0]]  # as it was asked for


def test_scores_that_leave_it_open(tmp_path, message):
    path = tmp_path / "m.csv"
    path.write_text("image_id,cat,dog,patient\na,0.5,0.25,17\nb,0.5,1,18\n")
    assert message(lambda: read_predictions(path)) == (
        "Some columns contain fractions, and others contain whole numbers, so the classes are ambiguous.\n"
        f"  where:   {path}\n"
        "  got:     whole numbers in patient\n"
        "  do:      drop the columns that are not scores, or pass the class list as `classes`"
    )
    assert read_predictions(path, classes=from_keys(("cat", "dog"))).scores.shape == (2, 2)
    assert message(lambda: read_predictions(path, classes=from_keys(("cat", "dog", "horse")))) == (
        "A class has no column of scores.\n"
        f"  where:   {path}\n"
        "  got:     none for 1 of 3 classes, such as horse, and a column patient\n"
        "  allowed: a column for each class of the list, or no other columns of numbers\n"
        "  do:      rename columns of classes as in the list, and drop other columns"
    )
    path.write_text("image_id,dog,cat\na,0.5,0.25\nb,0.5,1\n")
    older = read_predictions(path, classes=from_keys(("horse", "cat", "dog")))
    assert (older.scores.tolist(), older.class_list.keys) == ([[0.25, 0.5], [1, 0.5]], ("cat", "dog"))
    path.write_text("image_id,cat,dog\na,0.5,0.25\nb,,1\n")
    assert message(lambda: read_predictions(path)) == (
        "Scores are not a number (NaN).\n"
        f"  where:   {path}, image b, class cat\n"
        "  got:     1 of 4\n"
        "  allowed: finite numbers\n"
        "  do:      run predict on these images again (half precision overflows to NaN in some models), or "
        "leave images without scores out of the predictions"
    )
    path.write_text("image_id,cat\na,x\n")
    assert message(lambda: read_predictions(path, format="score-columns")) == (
        f"No column contains scores.\n  where:   {path}\n  got:     image_id (text), cat (text)\n"
        "  allowed: one column of numbers per class"
    )


def test_a_cell_that_is_not_a_number(tmp_path, message):
    path, rows = tmp_path / "p.csv", [f"{i},0.5,0.25" for i in range(20)]
    for odd, row in (([*rows[:7], "7,0.5,ERR", *rows[8:]], 8), ([*rows, "image,cat,dog", *rows], 21)):
        path.write_text("\n".join(["image,cat,dog", *odd]) + "\n")
        column, got = ("dog", "ERR") if row == 8 else ("cat", "cat")
        said = (
            "A score is not a number.\n"
            f"  where:   {path}, column {column}, row {row} below the header\n"
            f"  got:     {got}\n"
            "  allowed: numbers\n"
            "  do:      correct the cell, leave the row out if the image has no scores, or drop the column "
            "if it is not a class"
        )
        assert message(lambda: read_predictions(path)) == said
        assert message(lambda: read_predictions(path, classes=from_keys(("cat", "dog")))) == said
    runs = "".join(f"{row},{'x' if row == rows[3] else 1}\n" for row in rows)
    path.write_text(f"image,cat,dog,run\n{runs}")
    assert read_predictions(path, classes=from_keys(("cat", "dog"))).scores.shape == (20, 2)


def test_a_column_that_is_no_class_is_named(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("image,cat,dog,latency\na,0.5,0.25,13.2\nb,0.5,0.25,13.5\n")
    with pytest.raises(InputError, match=r"where:   .*image a, class latency"):
        read_predictions(path, scores="probability")


def test_one_score_for_each_image_needs_a_class(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("image_id,score\na,0.5\nb,0.25\n")
    with pytest.raises(InputError, match="rename the column of scores to this class"):
        read_predictions(path)


def test_all_columns_to_rename_are_named(tmp_path):
    path = tmp_path / "l.csv"
    path.write_text("Bilddatei,Fehlerart\na.jpg,ok\nb.jpg,dent\n")
    with pytest.raises(InputError, match="to image_id, and a column with the names of classes to labels"):
        read_labels(path)


def test_two_columns_of_scores_with_the_same_name(tmp_path, message):
    path = tmp_path / "p.csv"
    path.write_text("image_id,crow,sparrow,sparrow\na.jpg,.1,.7,.2\nb.jpg,.3,.3,.4\n")
    assert message(lambda: read_predictions(path)) == (
        f"The table has two columns with the same name.\n  where:   {path}\n  got:     'sparrow'\n"
        "  do:      drop or rename one of them"
    )


def test_very_wide_tables(tmp_path, message):
    path = tmp_path / "w.csv"
    names = ",".join(f"c{i}" for i in range(5000))
    path.write_text(f"image_id,{names}\na{',1' * 5000}\n")
    assert read_labels(path).n_classes == 5000
    path.write_text(f"image_id{',c' * 200_000}\na{',1' * 200_000}\n")
    assert message(lambda: read_labels(path)) == (
        "The table has two columns with the same name.\n"
        f"  where:   {path}\n  got:     'c'\n  do:      drop or rename one of them"
    )
    path.write_text("image_id," + ",".join(map(str, range(200_001))) + "\n")
    assert message(lambda: read_labels(path)) == (
        "The table has too many columns.\n"
        f"  where:   {path}\n  got:     200,002\n  allowed: up to 200,000\n"
        "  do:      check the separator, or use Parquet"
    )


def test_types_of_columns_that_only_late_rows_show(tmp_path):
    """Types are inferred from the first 10,000 rows, and again from all if later ones differ."""
    n = 10_050
    table = pd.DataFrame({"image_id": [f"{i}.jpg" for i in range(n)], "cat": [0, 1] * (n // 2)})
    table["dog"] = pd.Series([np.nan] * (n - 2) + [1, 0])
    labels = read_labels(write(tmp_path / "late.csv", table))
    assert sets(labels)[-3:] == [{"cat"} if i % 2 else set() for i in (n - 3,)] + [{"dog"}, {"cat"}]
    assert not labels.complete  # an empty cell was not asked about
    table["dog"] = [0] * (n - 1) + [0.25]
    scores = read_predictions(write(tmp_path / "scores.csv", table))
    assert scores.scores[-1].tolist() == [1, 0.25]


def test_detection_and_reading_of_many_rows_give_the_values_of_pandas(tmp_path):
    rng = np.random.default_rng(0)
    matrix = (rng.random((12_000, 3)) < 0.3).astype(int)
    table = pd.DataFrame(matrix, columns=list("abc"))
    table.insert(0, "image_id", [f"{i}.jpg" for i in range(len(table))])
    for suffix in ("csv", "parquet"):
        labels = read_labels(write(tmp_path / f"many.{suffix}", table))
        stored = with_zeros(labels).table["state"].to_pylist()
        assert (np.array(stored) == "yes").astype(int).tolist() == matrix.tolist()


def test_complete_labels_over_a_longer_class_list(tmp_path, monkeypatch):
    """A class that a file of 0 and 1 does not have was not answered no."""
    monkeypatch.chdir(tmp_path)
    pd.DataFrame({"image_id": IDS, "cat": [1, 0, 1], "dog": [0, 1, 0]}).to_csv("l.csv", index=False)
    columns = {"cat": [0.9, 0.2, 0.7], "dog": [0.1, 0.8, 0.3], "fox": [0.6, 0.1, 0.9]}
    scores = pd.DataFrame({"image_id": IDS, **columns})
    scores.to_csv("s.csv", index=False)
    (source,) = open_inputs("l.csv", "s.csv")
    assert not source.labels.complete
    assert [len(c) for c in source.labels.table["classes"].to_pylist()] == [2, 2, 2]


def test_cells_in_words(tmp_path):
    """The words of manyhot's own tables, as colleagues fill in a sheet: an empty cell was not asked about."""
    path = tmp_path / "sheet.csv"
    path.write_text("file,bus,car,cat\na.jpg,yes,No,maybe\nb.jpg,,YES,no\n")
    labels = read_labels(path)
    assert labels.class_list.keys == ("bus", "car", "cat")
    rows = labels.table.select(["classes", "state"]).to_pylist()
    answers = [dict(zip(row["classes"], row["state"], strict=True)) for row in rows]
    assert answers == [{0: "yes", 1: "no", 2: "unclear"}, {1: "yes", 2: "no"}]


def test_fractions_as_labels_lead_to_what_reads_them(tmp_path):
    path = tmp_path / "soft labels.csv"
    path.write_text("file,bus,car\na.jpg,1,0.5\nb.jpg,0.5,0\nc.jpg,0,1\n")
    with pytest.raises(InputError) as error:
        read_labels(path)
    command = str(error.value).partition("manyhot ")[2]
    words = shlex.split(command)
    assert words[:4] == ["convert", "soft labels.csv", "labels.parquet", "--label-values"]
    convert(path, tmp_path / words[2], label_values=words[4])
    assert read_labels(tmp_path / "labels.parquet").table["p"].to_pylist() == [[1, 0.5], [0.5, 0], [0, 1]]


@pytest.mark.parametrize("yes_no", [("Y", "N"), ("1", "0")])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_one_odd_cell_in_the_column_of_a_class(tmp_path, message, yes_no, suffix):
    yes, no = yes_no
    cells = [yes, no, no, "escalated", *[no] * 16]
    frame = pl.DataFrame({"image": [f"{i}" for i in range(20)], "gun": [no] * 19 + [yes], "gore": cells})
    path = tmp_path / f"l{suffix}"
    (frame.write_csv if suffix == ".csv" else frame.write_parquet)(path)
    for classes in (None, from_keys(["gun", "gore"], "policies")):
        assert message(lambda classes=classes: read_labels(path, classes=classes)) == (
            "The column of a class contains a cell that is not an answer.\n"
            f"  where:   {path}, column gore, row 4 below the header\n"
            "  got:     escalated\n"
            "  allowed: 1, 0, -1 or nothing; or yes, no, maybe or nothing\n"
            "  do:      correct the cell, leave it empty if nobody was asked, or drop the column if it is "
            "not a class"
        )


def test_booleans_of_german_spreadsheets_beside_numbers(tmp_path, message):
    """The advice was to pass the labels as predictions of the side columns."""
    path = tmp_path / "de.csv"
    rows = "image_id;Stempel;Tabelle;Ocr_conf\na.tif;{0};{1};0,93\nb.tif;{1};{1};0,81\n"
    path.write_text(rows.format("WAHR", "FALSCH"))
    labels = read_labels(path, classes=from_keys(("Stempel", "Tabelle")))
    assert [sorted(row) for row in sets(labels)] == [["Stempel"], []]
    path.write_text(rows.format("ja", "nein"))
    assert (
        "  do:      if the text columns are classes, write 1 or yes and 0 or no into their cells;"
        in message(lambda: read_labels(path))
    )


def test_messages_describe_no_more_columns_than_they_show(tmp_path, monkeypatch):
    """All of 2,007 columns of CellProfiler were parsed for a message that shows eight: 9 s."""
    from manyhot.formats import number_columns

    parsed, value_column = [], number_columns._value_column
    monkeypatch.setattr(number_columns, "_value_column", lambda c: parsed.append(c.name) or value_column(c))
    path = tmp_path / "cells.csv"
    path.write_text(",".join(f"f{i}" for i in range(2000)) + "\n" + ",".join("x" * 2000) + "\n")
    assert number_columns.describe_columns(path)[7:9] == ["f7 (text)", "f8"]
    assert parsed == [f"f{i}" for i in range(8)]


def test_columns_with_many_other_texts_are_noted(tmp_path):
    texts = {
        "smoker": ["yes", "no", "unknown", "no"],
        "remark": ["", "", "", "blurred"],
        "patient": ["f", "m", "f", "f"],
        "market": ["DE", "no", "FR", "BR"],
    }
    path = tmp_path / "l.csv"
    pl.DataFrame({"image": ["a", "b", "c", "d"], "cat": ["t", "f", "f", "t"], **texts}).write_csv(path)
    labels = read_labels(path)
    assert labels.class_list.keys == ("cat",)
    assert labels.table["classes"].to_pylist() == [[0], [], [], [0]]
    assert labels.notes == (
        "columns of the labels in which some cells contain text other than yes, no and maybe are not read "
        "as classes: smoker",
    )


LONG = "image,term,keyworder,present\na.tif,cars,ann,1\nb.tif,ships,ben,0\n"
NAMED = "if a column names the class of each row ('term', 'keyworder'), rename it to class"


def test_a_long_table_without_a_column_of_classes(tmp_path, message):
    """With one row per image, *present* may be the class; with several, it is not."""
    path = tmp_path / "long.csv"
    path.write_text(LONG)
    assert read_labels(path).notes == (f"the only class is 'present': {NAMED}",)
    path.write_text(LONG + "a.tif,ships,ann,1\n")
    assert message(lambda: read_labels(path), MatchError) == (
        f"An image is listed more than once.\n  where:   {path}\n  got:     1 id, such as a.tif\n"
        f"  allowed: each image_id once\n  do:      {NAMED}; otherwise, retain one row per image"
    )
    path.write_text(path.read_text().replace("term", "class"))
    assert read_labels(path).table.select(["image_id", "state"]).to_pylist() == [
        {"image_id": "a.tif", "state": ["yes", "yes"]},
        {"image_id": "b.tif", "state": ["no"]},
    ]


@pytest.mark.parametrize("text", ["image,present\na,1\nb,0\n", "image,city,defect\na,Ulm,1\nb,Bonn,0\n"])
def test_a_single_class_is_not_questioned(tmp_path, text):
    (tmp_path / "one.csv").write_text(text)
    assert read_labels(tmp_path / "one.csv").notes == ()


def test_the_only_column_of_texts_may_be_the_classes(tmp_path, message):
    (tmp_path / "de.csv").write_text("Datei,Schlagwörter\na.tif,Autos|Schiffe\n")
    assert message(lambda: read_labels(tmp_path / "de.csv")).endswith(
        "do:      if 'Schlagwörter' contains the names of classes, rename it to labels; if it is a class, "
        "write 1 or yes and 0 or no into its cells"
    )


def test_a_column_named_like_the_label_is_no_class_beside_metadata(tmp_path, message):
    """As in Waterbirds' metadata.csv, where y is the label of each image and place its background."""
    path = tmp_path / "metadata.csv"
    path.write_text("img_id,img_filename,y,split,place\n1,a.jpg,0,2,1\n2,b.jpg,1,2,1\n3,c.jpg,0,2,0\n")
    assert message(lambda: read_labels(path)) == (
        "A column is named like the label of each image, and other columns of 0 and 1 may be metadata.\n"
        f"  where:   {path}\n  got:     y, beside place\n"
        "  do:      rename 'y' to label if it is the label of each image; if all these columns are "
        "classes, pass the class list as `classes`"
    )
    assert read_labels(path, classes=from_keys(["y", "place"])).n_classes == 2
    path.write_text("image,x,y\na.jpg,0,1\nb.jpg,1,1\n")
    assert read_labels(path).n_classes == 2
