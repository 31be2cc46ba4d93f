"""Predicted classes without scores in files and mappings: the same as frames of lists, and by hand."""

import json

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.metrics import f1_score

from forking import commands
from manyhot import Reading, evaluate, read_predictions
from manyhot.classes import from_keys
from manyhot.errors import InputError, MatchError
from manyhot.formats import detect

IMAGES = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
TAGS = [["dog"], ["cat", "dog"], [], ["cow", "cat"]]
TRUTH = {"a.jpg": ["dog"], "b.jpg": ["dog"], "c.jpg": ["cat"], "d.jpg": ["cow"]}
RIGHT = 2 / 4  # the first tags of a.jpg and d.jpg; an empty list is wrong


def cells(join):
    return [join(tags) for tags in TAGS]


def lines(key):
    return "".join(json.dumps({"file_name": i, key: t}) + "\n" for i, t in zip(IMAGES, TAGS, strict=True))


def table(column, values):
    return pd.DataFrame({"image": IMAGES, column: values})


FILES = {
    "cells.csv": lambda p: table("tags", cells(";".join)).to_csv(p, index=False),
    "lists.csv": lambda p: table("tags", cells(str)).to_csv(p, index=False),
    "predicted.csv": lambda p: table("predicted_labels", cells("|".join)).to_csv(p, index=False),
    "rows.tsv": lambda p: table("prediction", TAGS).explode("prediction").to_csv(p, sep="\t", index=False),
    "lists.parquet": lambda p: table("tags", TAGS).to_parquet(p),
    "tags.jsonl": lambda p: p.write_text(lines("tags")),
    "tags.json": lambda p: p.write_text(
        json.dumps([json.loads(line) for line in lines("tags").splitlines()])
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_tags_are_predictions(name, tmp_path):
    path = tmp_path / name
    FILES[name](path)
    found = read_predictions(path)
    assert found.image_id.to_pylist() == IMAGES
    assert (found.scores, found.score_kind, found.model) == (None, "none", path.stem)
    names = [[found.class_list.keys[c] for c in row if c >= 0] for row in found.classes.tolist()]
    assert names == TAGS
    assert evaluate(TRUTH, path, metrics=["real1"], resamples=0).value("real1") == RIGHT
    assert detect(path, ("predictions",)) is None  # only where the caller says so


def test_mappings_of_tags_are_models_as_series_of_lists_are():
    by_image = dict(zip(IMAGES, TAGS, strict=True))
    first = {image: tags[0] if tags else "cow" for image, tags in by_image.items()}
    models = {"series": pd.Series(TAGS, IMAGES)}
    values = [
        evaluate(TRUTH, {"ram": model}, metrics=["real1"], resamples=0).value("real1")
        for model in (by_image, first, models["series"])
    ]
    assert values == [RIGHT] * 3


def test_numbers_are_classes_of_the_list(tmp_path):
    (tmp_path / "p.csv").write_text("image,prediction\na.jpg,2\nb.jpg,0\n")
    (tmp_path / "c.txt").write_text("cat\ncow\ndog\n")
    (tmp_path / "l.csv").write_text("image,labels\na.jpg,dog\nb.jpg,cow\n")
    done = commands.run(
        *("evaluate", "l.csv", "--predictions", "p.csv", "--classes", "c.txt", "--metric", "real1"),
        *("--resamples", 0),
        cwd=tmp_path,
    )
    assert "50.00%" in done.stdout


def test_a_class_that_is_named_twice_counts_at_its_first_place(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"image": "a.jpg", "tags": ["dog", "cat", "dog"]}\n')
    found = read_predictions(tmp_path / "p.jsonl")
    assert [found.class_list.keys[c] for c in found.classes[0]] == ["dog", "cat"]


def test_the_true_label_beside_the_predicted_one_is_not_read(tmp_path):
    (tmp_path / "p.csv").write_text("image,label,prediction\na.jpg,dog,cat\nb.jpg,cat,cat\n")
    truth = {"a.jpg": ["dog"], "b.jpg": ["cat"]}
    found = evaluate(truth, tmp_path / "p.csv", metrics=["real1"], resamples=0)
    assert found.value("real1") == 0.5
    assert read_predictions(tmp_path / "p.csv").notes == (
        "the predicted classes are read from 'prediction', and not from label",
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.csv", "image,labels\na.jpg,dog\n"),
        ("l.jsonl", '{"image": "a.jpg", "labels": ["dog"]}\n'),
        ("l.json", '{"a.jpg": ["dog"]}'),
    ],
)
def test_label_sets_are_refused_unless_their_format_is_named(name, text, tmp_path):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_predictions(path)
    assert str(caught.value).endswith(
        "  do:      if the file contains scores, rename their column or key to score; if it names predicted "
        "classes without scores, rename their column or key to tags, or convert the file: manyhot convert "
        f"{name} predictions.parquet --format tag-lists; otherwise, pass it as labels"
    )
    assert read_predictions(path, format="tag-lists").class_list.keys == ("dog",)


def test_a_folder_of_predictions_does_not_take_tags_for_a_model(tmp_path):
    (tmp_path / "tags.jsonl").write_text(lines("tags"))
    (tmp_path / "net.csv").write_text("image,cat,dog\na.jpg,0.3,0.7\n")
    found = evaluate(TRUTH, tmp_path, metrics=["real1"], resamples=0)
    assert found.results["model"].unique().to_pylist() == ["net"]
    assert any("name classes without scores, as label sets do: tags.jsonl" in note for note in found.notes)


@pytest.mark.parametrize(
    "text",
    [
        '{"id": 1, "data": {"image": "a.jpg"}, "annotations": [], "tags": ["dog"]}\n',
        '{"image": "a.jpg", "tags": ["dog"], "rater_id": "x", "answer": "yes"}\n',
    ],
)
def test_other_tables_with_tags_are_no_predictions(text, tmp_path):
    (tmp_path / "other.jsonl").write_text(text)
    with pytest.raises(InputError):
        read_predictions(tmp_path / "other.jsonl")


@pytest.mark.parametrize(("column", "cells"), [("Rang", ("2", "1")), ("Konfidenz", ("12,5 %", "87,5 %"))])
def test_rows_whose_order_another_column_may_tell_are_refused(column, cells, tmp_path, message):
    path = tmp_path / "model.csv"
    orders = [cells, cells[::-1], cells]  # of class a, and of class b
    rows = [f"{i}.jpg;{n};{c}" for i, order in enumerate(orders) for n, c in zip("ab", order, strict=True)]
    path.write_text("\n".join([f"image_id;prediction;{column}", *rows]))
    shown = ", ".join(c if c.isdigit() else repr(c) for c in (*cells, cells[1]))
    assert message(lambda: read_predictions(path)) == (
        "A column that is not read differs between the predicted classes of an image, so their order is "
        "unknown.\n"
        f"  where:   {path}, column {column}\n"
        f"  got:     {shown}\n"
        "  allowed: a column score or rank of numbers; or no such column, and the top class first\n"
        "  do:      rename the column to score or rank and write its cells as numbers, or remove it"
    )
    if column == "Rang":
        path.write_text("\n".join(["image_id;prediction;rank", *rows]))
        assert read_predictions(path).classes[:, 0].tolist() == [1, 0, 1]


def test_sets_without_an_order(tmp_path):
    """A submission lists the numbers of the classes in ascending order; F1 by scikit-learn."""
    rng = np.random.default_rng(0)
    truth = rng.random((60, 6)) < 0.4
    found = truth ^ (rng.random((60, 6)) < 0.2)
    classes = [*"abcdef"]
    for name, column, sets in (("truth", "labels", truth), ("net", "predicted", found)):
        cells = ["|".join(classes[c] for c in np.flatnonzero(row)) for row in sets]
        pd.DataFrame({"image_id": range(60), column: cells}).to_csv(tmp_path / f"{name}.csv", index=False)
    ranked = read_predictions(tmp_path / "net.csv", classes=classes)
    assert ranked.notes[-1].startswith(
        "the predicted classes of each image are in the order of the class list"
    )
    assert ranked.notes[-1].endswith('manyhot convert net.csv sets.parquet --format "tag-lists(sets=True)"')
    sets = read_predictions(tmp_path / "net.csv", classes=classes, format="tag-lists(sets=True)")
    assert (sets.score_kind, sets.notes) == ("probability", ())
    assert (sets.scores == found).all()
    options = {"metrics": ["f1_macro", "f1_micro"], "reading": Reading(classes=classes)}
    rows = evaluate(tmp_path / "truth.csv", [sets], **options).results.to_pylist()
    expected = [f1_score(truth, found, average=average) for average in ("macro", "micro")]
    assert [row["value"] for row in rows if row["slice"] == "all"] == pytest.approx(expected)
    with pytest.raises(InputError, match="ranks") as error:
        evaluate(tmp_path / "truth.csv", [ranked], **options)
    assert "write them as one column of 0 and 1 per class" in str(error.value)


@pytest.mark.parametrize("wrap", ["{}", "[{}]"])
@pytest.mark.parametrize("odd", ["", "none"])
def test_an_odd_cell_does_not_keep_the_others_whole(tmp_path, wrap, odd):
    """One *none* made classes of all cells; NumPy prints lists without commas."""
    sets = [[1, 272], [5], [1, 5], [272]]
    cells = [wrap.format(" ".join(map(str, own))) for own in sets]
    frame = pl.DataFrame({"id": [*"abcde"], "predicted": [*cells, odd]})
    frame.write_csv(tmp_path / "t.csv")
    classes = from_keys(("1", "5", "272"), "own")
    tags = read_predictions(tmp_path / "t.csv", classes=classes, format="tag-lists(sets=True)")
    found = [[int(classes.keys[i]) for i in np.flatnonzero(row)] for row in tags.scores]
    assert found == [*sets, []]


def test_words_of_an_unknown_name_are_no_classes(tmp_path):
    """Spaces divide cells only if they divide most of them into names of the class list."""
    frame = pl.DataFrame({"id": [*"abc"], "predicted": ["tiger shark", "great white shark", "tiger"]})
    frame.write_csv(tmp_path / "t.csv")
    classes = from_keys(("tiger", "shark", "great"), "own")
    tags = read_predictions(tmp_path / "t.csv", classes=classes, format="tag-lists(sets=True)")
    assert tags.unlisted == ("great white shark", "tiger shark")


def test_two_lists_of_an_image_are_refused_unless_they_are_equal(tmp_path):
    (tmp_path / "t.csv").write_text("id,predicted\na,cat dog\nb,dog\na,cat dog\n")
    tags = read_predictions(tmp_path / "t.csv", format="tag-lists(sets=True, separator=' ')")
    assert tags.image_id.to_pylist() == ["a", "b"]
    (tmp_path / "t.csv").write_text("id,predicted\na,cat dog\nb,dog\na,cow\n")
    with pytest.raises(MatchError, match="listed more than once") as error:
        read_predictions(tmp_path / "t.csv", format="tag-lists(sets=True, separator=' ')")
    assert "1 id, such as a\n" in str(error.value)
