"""Corrected label sets, written in the form of the CSV file that was corrected."""

import pyarrow as pa
import pytest
from pyarrow import csv

from manyhot import aggregate, convert
from manyhot.errors import InputError, MatchError
from manyhot.formats import read_classes, read_labels
from manyhot.reassess.answers import VotesReading


def corrected(tmp_path, text, answers, *, name="labels.csv"):
    """Return the rows of a file after corrections, and the notes; one answer corrects a class."""
    original = tmp_path / name
    original.write_text(text, encoding="utf-8")
    votes = pa.table(
        {
            "image_id": [image for image, *_ in answers],
            "class_id": [class_id for _, class_id, _ in answers],
            "rater_id": ["ann"] * len(answers),
            "answer": [answer for *_, answer in answers],
        }
    )
    aggregate(votes, labels=original).write(tmp_path / "corrected.parquet")
    target = tmp_path / f"corrected{original.suffix}"
    made = convert(
        tmp_path / "corrected.parquet", target, to=f"corrected-csv(original='{original.as_posix()}')"
    )
    return target.read_text(encoding="utf-8").splitlines(), made.notes


SINGLE = """filename,label,split
sub/z.jpg,cat,train
sub/a.jpg,dog,val
sub/b.jpg,cow,"train, too"
sub/007.jpg,cat,
"""


def test_single_labels_keep_columns_ids_and_order(tmp_path):
    answers = [("sub/z.jpg", "cat", "no"), ("sub/z.jpg", "dog", "yes"), ("sub/a.jpg", "dog", "yes")]
    rows, _ = corrected(tmp_path, SINGLE, answers)
    assert rows == SINGLE.replace("sub/z.jpg,cat", "sub/z.jpg,dog").splitlines()
    again = read_labels(tmp_path / "corrected.csv")
    assert again.are_original
    assert again.image_id.to_pylist() == ["sub/z.jpg", "sub/a.jpg", "sub/b.jpg", "sub/007.jpg"]


def test_labels_parquet_has_the_order_of_the_file(tmp_path):
    """Rows of an array that fit the labels before the correction also fit them afterwards."""
    corrected(tmp_path, SINGLE, [("sub/a.jpg", "dog", "yes")])
    again = read_labels(tmp_path / "corrected.parquet")
    assert again.image_id.to_pylist() == ["sub/z.jpg", "sub/a.jpg", "sub/b.jpg", "sub/007.jpg"]


def test_several_or_no_labels_left_in_a_single_column_are_noted(tmp_path):
    answers = [("sub/z.jpg", "dog", "yes"), ("sub/a.jpg", "dog", "no")]
    rows, notes = corrected(tmp_path, SINGLE, answers)
    assert rows[1:3] == ["sub/z.jpg,cat|dog,train", "sub/a.jpg,,val"]
    assert "corrected images without a valid class: 1; their cells in 'label' are empty" in notes
    assert (
        "corrected images with several valid classes: 1; their cells in 'label' list them, separated by '|'"
    ) in notes


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (("cat;dog", "dog", "cow"), ("cat;cow", "dog", "")),
        (("cat dog", "dog", "cow"), ("cat cow", "dog", "")),
        (("cat; dog", "dog", "cow"), ("cat; cow", "dog", "")),
        (("\"['cat', 'dog']\"", "['dog']", "['cow']"), ("\"['cat', 'cow']\"", "['dog']", "[]")),
    ],
)
def test_lists_of_names_keep_their_separator(tmp_path, cells, expected):
    ids = ("a.jpg", "b.jpg", "c.jpg")

    def text(values):
        return "image,tags\n" + "".join(f"{i},{v}\n" for i, v in zip(ids, values, strict=True))

    answers = [("a.jpg", "dog", "no"), ("a.jpg", "cow", "yes"), ("c.jpg", "cow", "no")]
    rows, _ = corrected(tmp_path, text(cells), answers)
    assert rows == text(expected).splitlines()


def test_rows_of_one_label_each_are_removed_and_added(tmp_path):
    text = "image,label,source\nb,cat,x\na,dog,x\nb,dog,y\nc,cow,z\n"
    answers = [
        *(("b", "cat", "no"), ("b", "cow", "yes")),  # replaced in its row
        *(("a", "cow", "yes"), ("c", "cow", "no")),  # added; removed, so that an empty cell is left
    ]
    rows, notes = corrected(tmp_path, text, answers)
    # The sources said nothing of the new labels.
    assert rows == "image,label,source\nb,cow,\na,dog,x\na,cow,\nb,dog,y\nc,,z".splitlines()
    assert "rows with a new class: 2; their cells in 'source' are empty" in notes


def test_new_rows_keep_what_is_of_the_image(tmp_path):
    text = "image,label,title,keyworder\na,cat,Yard,ann\na,dog,Yard,bob\nb,cow,Street,ann\n"
    rows, _ = corrected(tmp_path, text, [("a", "cow", "yes")])
    assert rows[1:] == ["a,cat,Yard,ann", "a,dog,Yard,bob", "a,cow,Yard,", "b,cow,Street,ann"]


def test_names_stay_as_they_are_written_and_are_listed_once(tmp_path):
    (tmp_path / "classes.csv").write_text("key,name,synonyms\ncars,cars,automobiles\ncarts,carts,Karren\n")
    classes, original = read_classes(tmp_path / "classes.csv"), tmp_path / "labels.csv"
    original.write_text("image,tags\na,automobiles\nb,cars\nc,Karren|carts\n")
    votes = {"image_id": ["a", "b", "c"], "class_id": ["carts", "carts", "cars"]}
    votes |= {"rater_id": ["ann"] * 3, "answer": ["yes"] * 3}
    aggregate(pa.table(votes), labels=original, reading=VotesReading(classes=classes)).write(
        tmp_path / "corrected.parquet"
    )
    to = f"corrected-csv(original='{original.as_posix()}')"
    convert(tmp_path / "corrected.parquet", tmp_path / "out.csv", to=to, classes=classes)
    assert (
        tmp_path / "out.csv"
    ).read_text() == "image,tags\na,automobiles|carts\nb,cars|carts\nc,Karren|cars\n"


@pytest.mark.parametrize("rows", [("a,cars|local", "b,local", "c,"), ("a,cars", "a,local", "b,local", "c,")])
def test_names_outside_the_class_list_are_kept(tmp_path, rows):
    """Part of a thesaurus is corrected; in lists, and with a row for each name."""
    original, head = tmp_path / "labels.csv", "image,tags"
    original.write_text("\n".join([head, *rows]) + "\n")
    votes = {"image_id": ["a", "a", "c"], "class_id": ["cars", "ships", "ships"], "rater_id": ["ann"] * 3}
    votes["answer"] = ["no", "yes", "yes"]
    part = VotesReading(classes=["cars", "ships"])
    found = aggregate(pa.table(votes), labels=original, reading=part)
    assert (
        "labels: 1 class of the labels is not in the class list, and is left out: local; 1 of 2 images with "
        "valid classes keep none"
    ) in found.notes
    assert found.labels.notes == ()  # not again by the next function
    found.write(tmp_path / "corrected.parquet")
    made = convert(
        tmp_path / "corrected.parquet",
        tmp_path / "out.csv",
        to=f"corrected-csv(original='{original.as_posix()}')",
        classes=["cars", "ships"],
    )
    lists = dict[str, set[str]]()
    for line in (tmp_path / "out.csv").read_text().splitlines()[1:]:
        image, names = line.split(",")
        lists.setdefault(image, set()).update(names.split("|"))
    assert lists == {"a": {"local", "ships"}, "b": {"local"}, "c": {"ships"}}
    assert "names in 'tags' that are not in the class list, or ambiguous, are kept: local" in made.notes


def test_unclear_names_that_are_left_out_are_counted(tmp_path):
    _, notes = corrected(tmp_path, "image,tags\na,cat;dog\nb,dog\n", [("a", "dog", "maybe")])
    assert any(
        n.startswith("classes that are left out because raters' answers leave them unclear: 1;")
        for n in notes
    )


def test_columns_of_classes_change_only_where_raters_answered(tmp_path):
    text = "image\tage\tcat\tdog\nb\t3\tTrue\tFalse\na\t1\tFalse\tTrue\n"
    rows, _ = corrected(tmp_path, text, [("a", "cat", "yes"), ("a", "dog", "maybe")], name="labels.tsv")
    assert rows == ["image\tage\tcat\tdog", "b\t3\tTrue\tFalse", "a\t1\tTrue\t-1"]


def test_ids_may_be_written_differently(tmp_path):
    (tmp_path / "own.csv").write_text("image,label\nphotos/z.jpg,cat\nphotos/a.jpg,dog\n", encoding="utf-8")
    labels = pa.table({"image": ["a", "z", "y"], "label": ["dog", "dog", "cat"]})
    csv.write_csv(labels, tmp_path / "short.csv")
    made = convert(
        tmp_path / "short.csv",
        tmp_path / "new.csv",
        to=f"corrected-csv(original='{(tmp_path / 'own.csv').as_posix()}')",
    )
    rows = (tmp_path / "new.csv").read_text(encoding="utf-8").splitlines()
    assert rows == ["image,label", "photos/z.jpg,dog", "photos/a.jpg,dog"]
    assert "label sets of 1 image that own.csv does not list" in made.left_out


def test_without_a_file_of_the_same_images_nothing_is_written(tmp_path):
    (tmp_path / "labels.csv").write_text("image,label\na,cat\nb,dog\n", encoding="utf-8")
    (tmp_path / "other.csv").write_text("image,label\nx,cat\ny,dog\n", encoding="utf-8")
    with pytest.raises(
        InputError, match="Corrected labels are written in the layout of an existing CSV file"
    ):
        convert(tmp_path / "labels.csv", tmp_path / "new.csv", to="corrected-csv")
    with pytest.raises(MatchError, match="None of the images of the CSV file has a label set"):
        convert(
            tmp_path / "labels.csv",
            tmp_path / "new.csv",
            to=f"corrected-csv(original='{(tmp_path / 'other.csv').as_posix()}')",
        )
    with pytest.raises(InputError, match="would overwrite an input"):
        convert(
            tmp_path / "other.csv",
            tmp_path / "labels.csv",
            to=f"corrected-csv(original='{(tmp_path / 'labels.csv').as_posix()}')",
        )
    assert not (tmp_path / "new.csv").exists()
