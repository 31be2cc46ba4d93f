"""`diagnose difficulty` on made answers, and on the published models."""

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from manyhot import Reading, diagnose_difficulty, diagnose_errors
from manyhot.diagnose.difficulty import typical_rows
from manyhot.diagnose.page import write_diagnosis
from manyhot.tables import Labels, Predictions
from manyhot.tables.array_inputs import as_labels
from report_pages import parse

READING = Reading(n_classes=4, trust_order=True, dataset="mine")

LABEL = [0, 0, 0, 1, 1, 2]
SETS = [[0], [1], [0], [1, 2], [3], [2]]
TOP = np.array(
    [
        [0, 0, 0, 0],  # all right by both
        [1, 1, 1, 2],  # none right by the label, three of four by the label set
        [1, 1, 1, 1],  # none right: all agree on a class that is not valid
        [2, 2, 1, 0],  # a quarter right by the label, three quarters by the set
        [1, 1, 1, 0],  # most answer the label, which is not valid
        [2, 3, 3, 0],  # one right; two agree
    ]
)


@pytest.fixture(scope="module")
def found():
    labels = as_labels(SETS, n_classes=4, label=LABEL)
    models = {name: TOP[:, [i]] for i, name in enumerate("abcd")}
    return diagnose_difficulty(labels, models, reading=READING)


def test_images_have_counts_and_the_common_answer(found):
    rows = {row["image_id"]: row for row in found.difficulty.to_pylist()}
    assert [rows[str(i)]["right_top1"] for i in range(6)] == [4, 0, 0, 1, 3, 1]
    assert [rows[str(i)]["right_real1"] for i in range(6)] == [4, 3, 0, 3, 0, 1]
    assert [rows[str(i)]["answer_id"] for i in range(6)] == [0, 1, 1, 2, 1, 3]
    assert [rows[str(i)]["answer_share"] for i in range(6)] == [1, 0.75, 1, 0.5, 0.75, 0.5]
    assert [rows[str(i)]["answer_is"] == "valid" for i in range(6)] == [True, True, False, True, False, False]
    assert (rows["3"]["label"], rows["3"]["valid"], rows["3"]["models"]) == ("1", ["1", "2"], 4)


def test_images_to_reassess_come_first(found):
    assert found.difficulty["image_id"].to_pylist() == ["2", "4", "5", "0", "1", "3"]
    head = (
        "to re-assess first: on 2 images, most models agree on a class that is not in the label set "
        "(the labels do not record whether raters were asked about it)\n"
    )
    first = [line.split()[0] for line in str(found).split(head)[1].splitlines()]
    assert first == ["image", "2", "4", "Read", "Read", "Read"]


def test_groups_count_kinds_and_what_label_sets_explain(found):
    groups = pl.from_arrow(found.difficulty_groups).filter(group="all")
    kinds = {m: dict(groups.filter(metric=m).select("kind", "images").iter_rows()) for m in ("top1", "real1")}
    assert kinds["top1"] == {"none": 2, "few": 0, "split": 3, "most": 0, "all": 1}
    assert kinds["real1"] == {"none": 2, "few": 0, "split": 3, "most": 0, "all": 1}
    (none,) = groups.filter(metric="top1", kind="none").to_dicts()
    assert (none["right_by_set"], none["n"]) == (1, 6)
    z, p, n = 1.959964, 2 / 6, 6  # Wilson 1927
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    assert (none["lo"], none["hi"]) == pytest.approx((centre - half, centre + half), abs=1e-6)


def test_the_answer_comes_first_on_the_terminal_and_the_page(found, tmp_path):
    first, second, *_ = str(found).splitlines()
    assert first == (
        "mine: on 2 of 6 images (33.3 %, 9.7 to 70.0), no model is right by the original label; on 1 of "
        "these (50.0 %, 2.6 to 97.4), at least half of the models are right by the label set."
    )
    assert second.startswith("By label sets, no model is right on 2 images, all models are right on ")
    found.write(tmp_path)
    page = parse(write_diagnosis(tmp_path).read_text(encoding="utf-8"))
    assert first.removesuffix(".") in page.text
    assert "Images to re-assess first" in page.text
    assert "Images that no model, half of the models, or all models get right" in page.text
    assert "gallery-difficulty" not in page.text
    assert page.all("figure")


def test_examples_are_of_three_kinds(found):
    rows = [(row["kind"], row["image_id"]) for row in typical_rows(found.difficulty)]
    # By label sets, 2 and 4 are wrong for all; on 2, more models agree. 1, 3 and 5 divide the models.
    none, split, every = "no model is right", "models are divided", "all models are right"
    assert rows == [(none, "2"), (none, "4"), (split, "1"), (split, "3"), (split, "5"), (every, "0")]


def test_images_are_counted_by_the_kind_of_their_most_frequent_error(found):
    """The kinds of errors of a model that makes the most frequent ones, as `diagnose errors` sorts them."""
    wrong = [(i, [c for c in row if c != LABEL[i]]) for i, row in enumerate(TOP.tolist())]
    most = {i: min(set(c), key=lambda x: (-c.count(x), x)) for i, c in wrong if c}
    answers = np.array([[most.get(i, LABEL[i])] for i in range(6)])
    labels = as_labels(SETS, n_classes=4, label=LABEL)
    errors = diagnose_errors(labels, {"most": answers}, reading=READING).table
    images = {}
    for row in errors.to_pylist():
        images.setdefault(row["kind"], set()).add(row["image_id"])
    groups = pl.from_arrow(found.difficulty_groups).filter(
        pl.col("group").str.starts_with("error="), metric="real1", kind="none"
    )
    assert dict(groups.select("group", "n").iter_rows()) == {f"error={k}": len(v) for k, v in images.items()}
    none = {f"error={k}": len(v & {"2", "4"}) for k, v in images.items()}
    assert dict(groups.select("group", "images").iter_rows()) == none


def test_a_gallery_shows_the_examples(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for i in range(6):
        image.new("RGB", (8, 8), "orange").save(tmp_path / f"{i}.png")
    lines = "".join(f"{i},{tmp_path / str(i)}.png,{LABEL[i]}\n" for i in range(6))
    (tmp_path / "images.csv").write_text(f"image_id,uri,label\n{lines}", encoding="utf-8")
    labels = as_labels(SETS, n_classes=4, label=LABEL)
    models = {name: TOP[:, [i]] for i, name in enumerate("abcd")}
    reading = Reading(n_classes=4, trust_order=True, dataset="mine", images=tmp_path / "images.csv")
    made = diagnose_difficulty(labels, models, reading=reading)
    written = made.write(tmp_path / "out")
    gallery = tmp_path / "out" / "gallery-difficulty"
    assert gallery / "index.html" in written
    assert len(list((gallery / "photos").iterdir())) == 6
    kinds = '"kinds":["all models are right","models are divided","no model is right"]'
    assert kinds in (gallery / "data" / "index.js").read_text(encoding="utf-8")
    page = (tmp_path / "out" / "report" / "index.html").read_text(encoding="utf-8")
    assert '<a href="../gallery-difficulty/index.html">See these images.</a>' in page
    assert made.hints == []


def test_without_photographs_the_way_to_a_gallery_is_printed(found, tmp_path):
    found.write(tmp_path)
    assert not (tmp_path / "gallery-difficulty").exists()
    told = [line for line in str(found).splitlines() if not line.startswith("Read ")]
    assert told[-1] == "to get a gallery of these images, pass a table with their photographs as `images`"


def test_slices_are_groups(tmp_path):
    ids = "".join(f"{i},{LABEL[i]},{'ab'[i % 2]}\n" for i in range(6))
    (tmp_path / "images.csv").write_text(f"image_id,label,source\n{ids}", encoding="utf-8")
    labels = as_labels(SETS, n_classes=4, label=LABEL)
    models = {name: TOP[:, [i]] for i, name in enumerate("abcd")}
    reading = Reading(n_classes=4, trust_order=True, dataset="mine", images=tmp_path / "images.csv")
    made = diagnose_difficulty(labels, models, slices=["source"], reading=reading)
    groups = pl.from_arrow(made.difficulty_groups).filter(metric="real1", kind="none")
    assert dict(groups.select("group", "images").iter_rows())["source=a"] == 2


def test_without_label_sets_what_they_explain_is_unknown():
    labels = as_labels([[]] * 6, n_classes=4, label=LABEL)
    made = diagnose_difficulty(labels, {name: TOP[:, [i]] for i, name in enumerate("abcd")}, reading=READING)
    assert set(made.difficulty_groups["metric"].to_pylist()) == {"top1"}
    assert made.difficulty_groups["right_by_set"].null_count == made.difficulty_groups.num_rows
    assert made.difficulty["right_real1"].null_count == 6
    assert "no model is right by the original label" in str(made)
    assert "label sets" not in str(made)


def test_what_nobody_was_asked_about_is_not_refuted(tmp_path):
    """A file of single labels is not rated; voted labels list the answers, and a matrix every answer."""
    (tmp_path / "labels.csv").write_text("filename,label\n0.jpg,x\n1.jpg,y\n2.jpg,x\n", encoding="utf-8")
    (tmp_path / "scores.csv").write_text(
        "filename,x,y,z\n0.jpg,.2,.7,.1\n1.jpg,.1,.8,.1\n2.jpg,.1,.7,.2\n", encoding="utf-8"
    )
    reading = Reading(scores="probability")
    single = diagnose_difficulty(tmp_path / "labels.csv", tmp_path / "scores.csv", reading=reading)
    assert answers_of(single) == {"0.jpg": "not asked", "1.jpg": "valid", "2.jpg": "not asked"}
    assert "on 2 images, most models agree on" in str(single)
    assert "(no rater was asked about it)" in str(single)
    # The label sets are the labels, so nothing is said by label sets.
    assert "label sets" not in str(single)
    assert set(single.difficulty_groups["metric"].to_pylist()) == {"top1"}

    columns = ("image_id", "rated", "usable", "classes", "state")
    rows = [
        ("0", True, True, [0, 1], ["yes", "no"]),
        ("1", True, True, [0, 1], ["yes", "unclear"]),
        ("2", True, True, [0], ["yes"]),
        ("3", False, True, [0], ["yes"]),
        ("4", True, True, [1], ["yes"]),
    ]
    table = pa.Table.from_pylist([dict(zip(columns, row, strict=True)) for row in rows])
    for asked_known, unlisted in ((True, "not asked"), (False, "unrecorded")):
        labels = Labels(table, 3, asked_known=asked_known)
        found = diagnose_difficulty(labels, {"net": np.ones((5, 1), np.int32)}, reading=READING)
        expected = {"0": "refuted", "1": "unclear", "2": unlisted, "3": "not asked", "4": "valid"}
        assert answers_of(found) == expected
    assert (
        "(raters refuted it on 1, it is unclear on 1, no rater was asked about it on 1, "
        "the labels do not record whether raters were asked about it on 1)"
    ) in str(found)

    last_two = table.slice(3).set_column(0, "image_id", pa.array(["0", "1"]))
    matrix = Labels(last_two, 3, asked_known=True, complete=True)
    found = diagnose_difficulty(matrix, {"net": np.ones((2, 1), np.int32)}, reading=READING)
    assert answers_of(found) == {"0": "refuted", "1": "valid"}


def test_of_wrong_answers_the_surest_come_first():
    p = np.array([[0.4, 0.6, 0], [0.1, 0.9, 0], [0.05, 0.95, 0], [0.3, 0.7, 0]], np.float32)
    reading = Reading(scores="probability", trust_order=True)
    one = diagnose_difficulty([0, 0, 1, 0], {"net": p}, reading=reading).difficulty
    assert one["image_id"].to_pylist() == ["1", "3", "0", "2"]
    assert one["margin"].to_pylist() == pytest.approx([-0.8, -0.4, -0.2, 0.9], abs=1e-6)
    both = diagnose_difficulty([0, 0, 1, 0], {"net": p, "other": p[:, [1, 0, 2]]}, reading=reading).difficulty
    assert both["margin"].to_pylist() == pytest.approx([0] * 4, abs=1e-6)
    ranks = diagnose_difficulty([0, 0, 1, 0], {"net": p.argmax(axis=1)[:, None]}, reading=READING).difficulty
    assert ranks["entropy"].null_count == ranks["margin"].null_count == 4


def answers_of(found):
    table = found.difficulty
    return dict(zip(table["image_id"].to_pylist(), table["answer_is"].to_pylist(), strict=True))


@pytest.mark.slow
def test_what_no_published_model_gets_right_is_mostly_no_error(mirror, monkeypatch):
    """Recomputed outside manyhot: of 2,050 images wrong for 64 networks, half of them are right on 1,176."""
    monkeypatch.setenv("MANYHOT_MIRROR", str(mirror))
    found = diagnose_difficulty("imagenet-val", models=["[!f]*", "fb*"])
    groups = pl.from_arrow(found.difficulty_groups).filter(group="all", metric="top1", kind="none")
    (row,) = groups.to_dicts()
    assert (row["images"], row["right_by_set"], row["n"]) == (2050, 1176, 46_837)
    assert found.difficulty["models"][0].as_py() == 64


@pytest.mark.parametrize("n_models", [1, 2])
def test_images_without_a_prediction_are_noted(n_models):
    labels = as_labels(SETS, n_classes=4, label=LABEL)
    ids = labels.image_id.to_pylist()
    some = Predictions(pa.array(ids[:4]), "some", classes=TOP[:4, [0]].astype(np.int32), n_classes=4)
    every = Predictions(pa.array(ids), "every", classes=TOP[:, [1]].astype(np.int32), n_classes=4)
    found = diagnose_difficulty(labels, [some, every][:n_models], reading=READING)
    end = ": all models must have one" if n_models == 2 else ""
    assert f"mine: 2 of 6 labelled images have no prediction and were left out{end}" in found.notes
    assert len(found.difficulty) == 4


@pytest.mark.parametrize(
    ("n_models", "end"),
    [
        (1, "By label sets, no model is right on 3 images, and all models are right on 3 images."),
        (
            2,
            "By label sets, no model is right on 3 images, all models are right on 1 image, and some of the "
            "models on 2 images.",
        ),
    ],
)
def test_sentences_on_few_models(n_models, end):
    """By sets, `b` is wrong on images 2, 4 and 5, and `d` on all but the first."""
    labels = as_labels(SETS, n_classes=4, label=LABEL)
    models = {name: TOP[:, [i]] for name, i in [("b", 1), ("d", 3)][:n_models]}
    found = diagnose_difficulty(labels, models, reading=READING)
    assert list(found.lines())[1] == end
    groups = set(found.difficulty_groups["group"].to_pylist())
    assert any(name.startswith("error=") for name in groups) == (n_models > 1)
