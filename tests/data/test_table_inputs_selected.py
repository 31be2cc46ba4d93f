"""`classes` selects classes in labels of every form, and a class for nothing needs no scores."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from manyhot import convert, diagnose_classes, evaluate, read_labels
from manyhot.errors import InputError
from manyhot.tables.labels import write_labels

NAMES = ["bird", "cat", "dog"]
RNG = np.random.default_rng(3)
TRUTH = (RNG.random((40, 3)) < 0.4).astype(int)
IDS = [f"{i:02d}.jpg" for i in range(40)]
SCORES = pd.DataFrame(RNG.random((40, 3)).round(3), IDS, NAMES)
CHOSEN = ["dog", "cat"]
SETS = [[n for n, is_valid in zip(NAMES, row, strict=True) if is_valid] for row in TRUTH]
PAIRS = [(i, c) for i, names in enumerate(SETS) for c in names]
N_EMPTY = sum(names == ["bird"] for names in SETS)
N_VALID = sum(names != [] for names in SETS)
BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox>"


def rows(path, header, lines):
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def coco(path, *, is_partial):
    numbers = {name: i for i, name in enumerate(NAMES, 1)}
    absent = [[numbers[n] for n in NAMES if n not in names] for names in SETS]
    images = [{"id": i, "file_name": name, "width": 9, "height": 9} for i, name in enumerate(IDS)]
    if is_partial:
        images = [image | {"neg_category_ids": a} for image, a in zip(images, absent, strict=True)]
    about = [
        {"id": k, "image_id": i, "category_id": numbers[c], "bbox": [0, 0, 3, 3]}
        for k, (i, c) in enumerate(PAIRS)
    ]
    categories = [{"id": i, "name": name} for name, i in numbers.items()]
    path.write_text(json.dumps({"images": images, "annotations": about, "categories": categories}))
    return path


def voc(folder):
    (folder / "Annotations").mkdir()
    for name, names in zip(IDS, SETS, strict=True):
        found = "".join(f"<object><name>{n}</name>{BOX}</object>" for n in names)
        size = "<size><width>9</width><height>9</height></size>"
        text = f"<annotation><filename>{name}</filename>{size}{found}</annotation>"
        (folder / "Annotations" / f"{name[:2]}.xml").write_text(text)
    return folder


def open_images(path):
    lines = [
        f"{i},verification,{n},{v}"
        for i, row in zip(IDS, TRUTH, strict=True)
        for n, v in zip(NAMES, row, strict=True)
    ]
    return rows(path, "ImageID,Source,LabelName,Confidence", lines)


def table(path):
    frame = pd.DataFrame(TRUTH, IDS, NAMES)
    frame.to_csv(path / "one-hot.csv", index_label="image")
    write_labels(read_labels(path / "one-hot.csv"), path / "labels.parquet")
    return path / "labels.parquet"


FORMS = {
    "lists": lambda p: rows(
        p / "l.csv", "image,labels", [f"{IDS[i]},{'|'.join(s)}" for i, s in enumerate(SETS)]
    ),
    "Planet": lambda p: rows(
        p / "l.csv", "image,tags", [f"{IDS[i]},{' '.join(s)}" for i, s in enumerate(SETS)]
    ),
    "rows": lambda p: rows(
        p / "l.csv", "image,label", [f"{IDS[i]},{c}" for i, c in PAIRS] + [f"{i}," for i in IDS]
    ),
    "JSON": lambda p: (
        (p / "l.json").write_text(json.dumps(dict(zip(IDS, SETS, strict=True)))) and p / "l.json"
    ),
    "Open Images": lambda p: open_images(p / "l.csv"),
    "COCO": lambda p: coco(p / "l.json", is_partial=False),
    "LVIS": lambda p: coco(p / "l.json", is_partial=True),
    "VOC": voc,
    "labels table": table,
    "objects of Python": lambda p: read_labels(table(p)),
    "a frame of lists": lambda p: pd.DataFrame({"image": IDS, "labels": SETS}),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_classes_select_classes(tmp_path, form):
    labels = form(tmp_path)
    truth, scores = pd.DataFrame(TRUTH, IDS, NAMES)[CHOSEN], SCORES[CHOSEN]
    expected = average_precision_score(truth, scores, average="macro")
    about = {"scores": "probability", "classes": CHOSEN}
    note = (
        "1 class of the labels is not in the class list, and is left out: bird; "
        f"{N_EMPTY} of {N_VALID} images with valid classes keep none"
    )
    if form is voc:  # its list is that of the challenge
        more = (
            "18 classes of the labels are not in the class list, and are left out: aeroplane, bicycle, bird, "
        )
        note = note.replace(note.partition(";")[0], f"{more}boat, bottle and 13 more")
    SCORES.to_csv(tmp_path / "net.csv", index_label="image")
    for models in (tmp_path / "net.csv", scores):
        found = evaluate(labels, models, metrics=["map_macro"], **about)
        assert found.value("map_macro") == pytest.approx(expected, abs=1e-9)
        assert any(text.endswith(note) for text in found.notes)
    found = diagnose_classes(labels, tmp_path / "net.csv", **about)
    assert set(found.class_results["class_id"].to_pylist()) == {0, 1}
    assert any(text.endswith(note) for text in found.notes)
    if isinstance(labels, type(tmp_path)):
        converted = convert(labels, tmp_path / "out.csv", classes=CHOSEN, to="indicator")
        assert note in converted.notes
        written = pd.read_csv(tmp_path / "out.csv", index_col=0).reindex(IDS)
        assert (written == truth).all(axis=None)


def test_a_list_without_any_class_of_the_labels_is_refused(tmp_path):
    path = FORMS["lists"](tmp_path)
    with pytest.raises(ValueError, match="A class is not in the class list"):
        evaluate(path, SCORES, classes=["kitten"], scores="probability")


@pytest.mark.parametrize("form", ["lists", "columns"])
def test_classes_for_nothing_need_no_scores(tmp_path, form):
    """ChestX-ray14 has the class No Finding, which most of its models do not predict."""
    names = ["No Finding" if names == [] else "|".join(names) for names in SETS]
    path = rows(
        tmp_path / "l.csv",
        "Image Index,Finding Labels",
        [f"{i},{n}" for i, n in zip(IDS, names, strict=True)],
    )
    if form == "columns":
        nothing = (TRUTH.sum(axis=1) == 0).astype(int)
        path = tmp_path / "columns.csv"
        pd.DataFrame(TRUTH, IDS, NAMES).assign(**{"No Finding": nothing}).to_csv(path, index_label="image")
    expected = average_precision_score(TRUTH, SCORES, average="macro")
    for classes in (None, NAMES):
        found = evaluate(path, SCORES, scores="probability", metrics=["map_macro"], classes=classes)
        assert found.value("map_macro") == pytest.approx(expected, abs=1e-9)
        assert any("No Finding" in note and "left out" in note for note in found.notes)
    with pytest.raises(InputError, match="No Finding"):
        evaluate(path, SCORES[["bird", "dog"]], scores="probability", metrics=["map_macro"])


def test_classes_that_nobody_was_asked_about_need_no_scores(tmp_path):
    path = tmp_path / "l.csv"
    pd.DataFrame(TRUTH, IDS, NAMES).assign(remark2=None).to_csv(path, index_label="image")
    found = evaluate(path, SCORES, scores="probability", metrics=["map_macro"])
    assert found.value("map_macro") == pytest.approx(average_precision_score(TRUTH, SCORES), abs=1e-9)
    assert any("no rater was asked about: remark2" in note for note in found.notes)


@pytest.mark.parametrize("n_fewest", [0, 2])
def test_names_with_commas_among_some_of_the_classes(tmp_path, n_fewest):
    """All cells are lists, or some are single names; each name of the class list is one class."""
    names = ["Arable land", "Beaches, dunes, sands", "Pastures", "Water"]
    hot = np.random.default_rng(1).random((60, 4)) < 0.5
    hot[hot.sum(1) < n_fewest] = True
    cells = [", ".join(n for n, is_valid in zip(names, row, strict=True) if is_valid) for row in hot]
    pd.DataFrame({"patch_id": range(60), "labels": cells}).to_csv(tmp_path / "l.csv", index=False)
    chosen = ["Pastures", "Beaches, dunes, sands"]
    (tmp_path / "c.txt").write_text("\n".join(chosen))
    convert(tmp_path / "l.csv", tmp_path / "l.parquet", classes=tmp_path / "c.txt")
    sets = read_labels(tmp_path / "l.parquet", classes=tmp_path / "c.txt").table["classes"].to_pylist()
    assert [sorted(own) for own in sets] == [
        [i for i, name in enumerate(chosen) if row[names.index(name)]] for row in hot
    ]


def test_names_of_several_classes_are_called_ambiguous(tmp_path):
    rows(tmp_path / "th.csv", "key,synonyms", ["lamps,lights", "windows,lights", "cars,automobiles"])
    tags = rows(tmp_path / "tags.csv", "image,tags", ["a,cars|lights", "b,automobiles", "c,lamps|windows"])
    end = "0 of 3 images with valid classes keep none"
    made = convert(tags, tmp_path / "out.json", classes=tmp_path / "th.csv", to="label-lists")
    note = "1 class of the labels is ambiguous, and is left out: lights (ambiguous: lamps, windows)"
    assert f"{note}; {end}" in made.notes
    tags.write_text(tags.read_text().replace("b,auto", "b,mills|auto"))
    made = convert(tags, tmp_path / "out.json", classes=tmp_path / "th.csv", to="label-lists")
    assert (
        "2 classes of the labels are not in the class list or ambiguous, and are left out: "
        f"lights (ambiguous: lamps, windows), mills; {end}"
    ) in made.notes
    with pytest.raises(InputError) as error:
        read_labels(tags, classes=tmp_path / "th.csv")
    assert str(error.value) == (
        "2 classes of th have the name 'lights'.\n"
        "  allowed: lamps (lamps, class 0), windows (windows, class 1)\n"
        "  do:      use the key or the full name"
    )
