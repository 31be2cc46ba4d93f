"""Votes in frames are read as votes in files are, with the same formats and options."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import manyhot as mh
from manyhot.errors import InputError, UnknownNameError, UsageError

NAMES = ["cat", "dog", "owl"]
CHOSEN = [
    *[("a", "x", "cat"), ("a", "x", "dog"), ("a", "y", "dog"), ("a", "z", "dog")],
    *[("b", "x", None), ("b", "y", "owl"), ("b", "z", "owl")],
    *[("c", "x", "cat"), ("c", "y", "cat"), ("c", "z", "cat"), ("c", "z", "owl")],
]
SETS = "choices(several=True)"


def frame():
    return pd.DataFrame(CHOSEN, columns=["image_id", "worker", "class"])


def kappa_by_hand():
    """Return Fleiss' kappa of three raters on the nine questions about three images and three classes."""
    chosen = {row[:2]: {c for *pair, c in CHOSEN if tuple(pair) == row[:2]} for row in CHOSEN}
    yes = np.array([sum(name in chosen[i, r] for r in "xyz") for i in "abc" for name in NAMES])
    agreed = (yes * (yes - 1) + (3 - yes) * (2 - yes)) / 6
    share = yes.sum() / 27
    by_chance = share**2 + (1 - share) ** 2
    return (agreed.mean() - by_chance) / (1 - by_chance)


def kappa(votes, **options):
    return mh.agreement(votes, classes=NAMES, **options).value("fleiss_kappa")


@pytest.mark.parametrize("as_frame", [lambda f: f, pl.from_pandas, pa.Table.from_pandas])
def test_the_format_of_frames(as_frame, tmp_path):
    frame().to_csv(tmp_path / "votes.csv", index=False)
    assert kappa(tmp_path / "votes.csv", format=SETS) == pytest.approx(kappa_by_hand())
    assert kappa(as_frame(frame()), format=SETS) == pytest.approx(kappa_by_hand())


def test_lists_of_chosen_classes():
    lists = frame().groupby(["image_id", "worker"])["class"].agg(lambda c: list(c.dropna())).reset_index()
    assert kappa(lists) == kappa(lists, format=SETS) == pytest.approx(kappa_by_hand())
    lists["class"] = [[NAMES.index(c) for c in chosen] for chosen in lists["class"]]
    assert kappa(lists) == pytest.approx(kappa_by_hand())
    lists["class"] = ["|".join(NAMES[c] for c in chosen) for chosen in lists["class"]]
    assert kappa(lists, format="choices(separator='|')") == pytest.approx(kappa_by_hand())


def test_formats_that_do_not_apply():
    with pytest.raises(UnknownNameError, match="There is no format 'nonsense'"):
        mh.aggregate(frame(), classes=NAMES, format="nonsense(x=1)")
    votes = mh.aggregate(frame(), classes=NAMES, format=SETS).votes
    for read, what in ((votes, "votes that are already read"), ("imagenet-real", "the published votes")):
        with pytest.raises(UsageError) as error:
            mh.agreement(read, format=SETS)
        assert "`format` applies only to votes in a file or a frame." in str(error.value)
        assert what in str(error.value)


def test_answers_of_crowd_kit_are_not_classes():
    rows = [("a:cat", "x", "yes"), ("a:cat", "y", "no"), ("b:dog", "x", "no"), ("b:dog", "y", "no")]
    votes = mh.aggregate(pd.DataFrame(rows, columns=["task", "worker", "label"]), classes=NAMES).votes
    assert (votes.kind, len(votes), votes.n_questions) == ("", 4, 2)


@pytest.mark.parametrize("classes", [None, NAMES])
def test_a_cell_with_several_classes(classes):
    joined = frame().assign(**{"class": ["cat|dog", "cat", "dog", "cat", *["owl"] * 7]})
    joined = joined.drop_duplicates(["image_id", "worker"])
    with pytest.raises(InputError) as error:
        mh.aggregate(joined, classes=classes)
    also = "; if the cell is the name of one class, pass the list of all classes as `classes`"
    assert str(error.value) == (
        "A cell names several classes.\n  where:   votes\n  got:     cat|dog\n"
        "  allowed: one class per row; or lists of classes\n"
        f"  do:      to divide the cells, pass `format`=\"choices(separator='|')\"{'' if classes else also}"
    )
    assert mh.aggregate(joined, classes=["cat|dog", *NAMES]).votes.kind == "one class"


def test_two_sets_of_a_rater():
    rows = {"image_id": ["a", "a"], "worker": ["x", "x"], "class": [["cat"], ["dog", "owl"]]}
    with pytest.raises(InputError) as error:
        mh.aggregate(pd.DataFrame(rows), classes=NAMES)
    assert str(error.value) == (
        "A rater chose two sets of classes for an image.\n  where:   votes, image a\n  got:     rater x\n"
        "  allowed: one row per rater and image, or a column 'answered_at' that gives their order"
    )
    votes = mh.aggregate(pd.DataFrame({**rows, "answered_at": [2, 1]}), classes=NAMES).votes
    assert [r["answer"] for r in votes.to_table().to_pylist()] == ["yes", "no", "no"]


def test_only_texts_are_divided():
    with pytest.raises(InputError) as error:
        mh.aggregate(frame().assign(**{"class": 0}), classes=NAMES, format="choices(separator='|')")
    assert str(error.value) == (
        "Only text can be split into classes.\n  where:   votes, column class\n"
        "  got:     separator='|', and a column of type Int64\n  do:      leave out `separator`"
    )


def test_golden_label_sets_may_be_frames_and_label_sets_over_the_classes_in_another_order(tmp_path):
    """Rater x says yes to every question, so the accuracy on golden questions is the share of valid ones."""
    rng = np.random.default_rng(0)
    valid = rng.random((30, 2)) < 0.6
    ids = [f"i{k}" for k in range(30)]
    questions = [(i, name, "x", "yes") for i in ids for name in ("cat", "dog")]
    votes = pd.DataFrame(questions, columns=["image_id", "class", "rater_id", "answer"])
    wide = pd.DataFrame({"image_id": ids, "dog": valid[:, 1].astype(int), "cat": valid[:, 0].astype(int)})
    wide.to_csv(tmp_path / "golden.csv", index=False)
    lists = [[name for name, v in zip(("cat", "dog"), row, strict=True) if v] for row in valid]
    rows = [
        (i, n, "e", "yes" if v else "no")
        for i, r in zip(ids, valid, strict=True)
        for n, v in zip(("cat", "dog"), r, strict=True)
    ]
    forms = {
        "file": tmp_path / "golden.csv",
        "wide": wide,
        "index": wide.set_index("image_id"),
        "polars": pl.from_pandas(wide),
        "lists": pd.DataFrame({"image_id": ids, "labels": lists}),
        "long": wide.melt("image_id", var_name="label", value_name="present"),
        "label sets": mh.read_labels(tmp_path / "golden.csv"),  # over dog, cat
        "answers": pd.DataFrame(rows, columns=["image_id", "class", "expert_id", "answer"]),
    }
    for name, golden in forms.items():
        assert mh.agreement(votes, golden=golden).value("golden_accuracy") == valid.mean(), name
    one = wide[["image_id", "cat"]].melt("image_id", var_name="label", value_name="present")
    assert mh.agreement(votes, golden=one).value("golden_accuracy") == valid[:, 0].mean()


@pytest.mark.parametrize("kind", ["csv", "parquet", "frame", "numbers"])
def test_golden_answers_may_be_a_label_per_image(kind, tmp_path):
    """In the columns image_id and label, which elsewhere are original labels; accuracy by hand."""
    chosen = {"u1": ["s", "f", "a", "s"], "u2": ["s", "s", "a", "f"]}
    rows = [(i, u, c) for u, answers in chosen.items() for i, c in zip("abcd", answers, strict=True)]
    votes = pd.DataFrame(rows, columns=["image_id", "rater", "label"])
    experts = pd.DataFrame({"image_id": list("abc"), "label": ["s", "f", None], "ra": [1.5, 2.5, 3.5]})
    if kind == "numbers":
        numbers = {"a": 0, "f": 1, "s": 2}
        votes["label"] = votes["label"].map(numbers)
        experts = experts.iloc[:2].assign(label=[2, 1])
    golden = tmp_path / "experts.csv" if kind != "parquet" else tmp_path / "experts.parquet"
    experts.to_parquet(golden) if kind == "parquet" else experts.to_csv(golden, index=False)
    golden = experts if kind == "frame" else golden
    found = mh.agreement(votes, golden=golden)
    # Two images, on which u1 is right about all three classes, and u2 is wrong about two of those of one.
    by_rater = {r["rater_id"]: (r["golden"], r["golden_accuracy"]) for r in found.raters.to_pylist()}
    assert by_rater == {"u1": (6, 1.0), "u2": (6, pytest.approx(4 / 6))}
    assert any("each class that they do not list counts as no" in note for note in found.notes)
    left_out = "1 of 3 images have an empty cell instead of a label and are left out"
    assert any(left_out in note for note in found.notes) == (kind != "numbers")


def test_golden_tables_without_labels_say_which_column_is_missing(tmp_path):
    (tmp_path / "e.csv").write_text("image_id,morphology\na,s\n")
    with pytest.raises(InputError) as error:
        mh.agreement(frame(), classes=NAMES, format=SETS, golden=tmp_path / "e.csv")
    assert error.value.details["do"] == "rename the column with the experts' classes to label"


def test_skipped_questions_and_further_columns_of_votes_are_named():
    rows = [(f"i{k}", "cat", r, "yes" if k % 2 else "no", "2026-09-01") for k in range(8) for r in "xy"]
    votes = pd.DataFrame(rows, columns=["image_id", "class", "rater_id", "answer", "decided_at"])
    assert "left out of the votes: the column 'decided_at'" in mh.agreement(votes).notes
    votes.loc[0, "answer"] = None
    with pytest.raises(InputError, match="leave out the rows without an answer"):
        mh.agreement(votes)
