"""Choices of one class: every format, what is detected, and published votes."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from manyhot import aggregate, read_votes, write_votes
from manyhot.classes import from_keys
from manyhot.errors import InputError, ManyhotError
from manyhot.reassess.answers import VotesReading
from manyhot.tables.votes import COUNTED_CLASS, ONE_CLASS

CHOSEN = [("a", "x", "cat"), ("a", "y", "cat"), ("b", "x", "dog"), ("b", "y", "cat"), ("b", "z", "dog")]
EXPECTED = [
    ("a", "cat", "x", "yes"),
    ("a", "cat", "y", "yes"),
    ("b", "cat", "x", "no"),
    ("b", "cat", "y", "yes"),
    ("b", "cat", "z", "no"),
    ("b", "dog", "x", "yes"),
    ("b", "dog", "y", "no"),
    ("b", "dog", "z", "yes"),
]


def rows(votes):
    keys = votes.class_list.keys
    table = votes.to_table().to_pylist()
    return sorted((r["image_id"], keys[r["class_id"]], r["rater_id"], r["answer"]) for r in table)


def long(path, columns=("task", "worker", "label"), chosen=CHOSEN):
    pl.DataFrame(chosen, schema=list(columns), orient="row").write_csv(path)
    return path


@pytest.mark.parametrize(
    "columns",
    [
        ("task", "worker", "label"),
        ("image_id", "rater_id", "class_id"),
        ("image", "annotator", "class"),
        ("patch_id", "Annotator", "label"),
        ("Filename", "rater", "label"),
    ],
)
def test_one_vote_per_row(columns, tmp_path):
    votes = read_votes(long(tmp_path / "c.csv", columns))
    assert rows(votes) == EXPECTED
    assert (votes.kind, votes.n_classes, votes.n_raters) == (ONE_CLASS, 2, 3)
    again = read_votes(write_votes(votes, tmp_path / "votes.parquet"))
    assert (rows(again), again.kind) == (EXPECTED, ONE_CLASS)


UNSURE = [("b", "w", "Cannot tell"), ("c", "x", "unsure"), ("d", "x", " can't tell"), ("d", "y", "dog")]
"""Three raters who name no class, on c nobody does, and one more vote."""


def test_raters_who_cannot_tell_do_not_vote(tmp_path):
    expected = [*EXPECTED, ("d", "dog", "y", "yes")]
    note = (
        "3 answers without a class (Cannot tell, unsure, can't tell), the only ones on 1 image; if a class "
    )
    note += "is called so, pass the list of all classes as `classes`"
    path = long(tmp_path / "c.csv", chosen=CHOSEN + UNSURE)
    answers, wide = {}, {}
    for image, rater, chosen in CHOSEN + UNSURE:
        answers.setdefault(image, {})[rater] = chosen
        wide.setdefault(rater, {})[image] = chosen
    (tmp_path / "p.json").write_text(json.dumps(answers))
    columns = {rater: [own.get(image) for image in "abcd"] for rater, own in wide.items()}
    pl.DataFrame({"image_id": list("abcd"), **columns}).write_csv(tmp_path / "w.csv")
    for file in (path, tmp_path / "p.json", tmp_path / "w.csv"):
        votes = read_votes(file)
        assert (rows(votes), votes.kind) == (expected, ONE_CLASS)
        assert sorted(votes.left_out[-1]) == sorted(note)  # the words are in the order of the file
        listed = read_votes(file, classes=from_keys(["cat", "dog"]))
        assert (len(listed), listed.left_out) == (len(votes), votes.left_out)
        keys = ["cat", "dog", "cannot tell", "unsure", "can't tell"]
        kept = read_votes(file, classes=from_keys(keys))
        assert not kept.left_out
        assert len(kept.images) == 4
    sets = read_votes(path, format="choices(several=True)")
    assert {(r["image_id"], r["rater_id"]) for r in sets.to_table().to_pylist()} == {
        (image, rater) for image, rater, chosen in [*CHOSEN, UNSURE[3]]
    }


def test_a_rater_who_later_cannot_tell_withdraws_the_vote(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text(
        "image_id,rater_id,label,answered_at\na,x,cat,1\na,x,cannot tell,2\na,y,cat,1\nb,x,cannot tell,1\n"
        "b,x,dog,2\n"
    )
    votes = read_votes(path)
    assert rows(votes) == [("a", "cat", "y", "yes"), ("b", "dog", "x", "yes")]
    assert votes.left_out == (
        "2 answers that a rater gave again later",
        "1 answer without a class (cannot tell); if a class is called so, pass the list of all classes as "
        "`classes`",
    )


def test_peerannot_and_columns_of_raters(tmp_path):
    answers = {}
    for image, rater, chosen in CHOSEN:
        answers.setdefault(image, {})[rater] = chosen
    (tmp_path / "answers.json").write_text(json.dumps(answers))
    assert rows(read_votes(tmp_path / "answers.json")) == EXPECTED
    (tmp_path / "wide.csv").write_text("image_id,x,y,z\na,cat,cat,\nb,dog,cat,dog\n")
    assert rows(read_votes(tmp_path / "wide.csv")) == EXPECTED


def test_answers_as_peerannot_writes_them(tmp_path):
    """Numbers as keys, an indent of 3, and images without answers, as its script for LabelMe writes them."""
    answers = {0: {}, 1: {}, 2: {0: 1, 3: 0}, 3: {3: 1}, 4: {}}
    (tmp_path / "answers.json").write_text(json.dumps(answers, ensure_ascii=False, indent=3))
    votes = read_votes(tmp_path / "answers.json")
    assert sorted(
        (r["image_id"], r["rater_id"]) for r in votes.to_table().to_pylist() if r["answer"] == "yes"
    ) == [
        ("2", "0"),
        ("2", "3"),
        ("3", "3"),
    ]
    assert (votes.n_classes, votes.images.to_pylist()) == (2, ["2", "3"])


@pytest.mark.parametrize("chosen", [1 << 64, -(1 << 64), 1 << 31, 0.5])
def test_answers_that_are_no_class(tmp_path, chosen):
    (tmp_path / "answers.json").write_text(json.dumps({"0": {"ann": chosen}}))
    with pytest.raises(InputError) as error:
        read_votes(tmp_path / "answers.json")
    assert str(error.value) == (
        f"This is not a class.\n  where:   {tmp_path / 'answers.json'}\n  got:     {chosen!r}\n"
        '  allowed: a number or a name for each rater, such as {"0": {"ann": 3}}'
    )


@pytest.mark.parametrize("format", ["%d", "%.18e", "%.1f"])
def test_a_matrix_as_labelme_publishes_it(tmp_path, format):
    """1,000 images, 59 raters, 8 classes and -1 for no answer, as integers or as NumPy writes numbers."""
    rng = np.random.default_rng(0)
    matrix = np.full((1_000, 59), -1)
    for row in matrix:
        row[rng.choice(59, rng.integers(1, 4), replace=False)] = rng.integers(0, 8)
    np.savetxt(tmp_path / "answers.txt", matrix, format)
    votes = read_votes(tmp_path / "answers.txt")
    assert (votes.n_classes, votes.n_raters, votes.kind) == (
        8,
        len(np.unique(np.nonzero(matrix >= 0)[1])),
        ONE_CLASS,
    )
    yes = [r for r in votes.to_table().to_pylist() if r["answer"] == "yes"]
    assert len(yes) == np.count_nonzero(matrix >= 0)
    assert all(matrix[int(r["image_id"]), int(r["rater_id"])] == r["class_id"] for r in yes)


def test_a_matrix_of_shares_is_refused(tmp_path):
    (tmp_path / "answers.txt").write_text("0 1\n0.5 1\n")
    with pytest.raises(InputError) as error:
        read_votes(tmp_path / "answers.txt")
    assert str(error.value) == (
        f"The file is not a matrix of whole numbers.\n  where:   {tmp_path / 'answers.txt'}\n"
        "  got:     could not read 0.5 as a whole number\n"
        "  allowed: one row per image, one column per rater, -1 for no answer"
    )


@pytest.mark.parametrize("type_", [pl.Int8, pl.UInt8, pl.Int16, pl.UInt64])
def test_choices_as_numbers_of_any_width(tmp_path, type_):
    frame = pl.DataFrame({"image_id": ["a", "b"], "rater_id": ["x", "x"], "class_id": [0, 1]})
    frame.with_columns(pl.col("class_id").cast(type_)).write_parquet(tmp_path / "narrow.parquet")
    votes = read_votes(tmp_path / "narrow.parquet", format="choices")
    assert rows(votes) == [("a", "0", "x", "yes"), ("b", "1", "x", "yes")]


ONE_IS_LOWEST = "no vote is for 0, so the classes are 1 to 4; if there is a class 0, "
ZERO_IS_ADDED = "no vote is for 0, but the classes are 0 to 4; if there is no class 0, "


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize(
    ("numbers", "keys", "note"),
    [
        ((1, 2, 3, 4), ("1", "2", "3", "4"), ONE_IS_LOWEST),  # as the columns of counts of the same votes
        ((1, 2, 4), ("0", "1", "2", "3", "4"), ZERO_IS_ADDED),
        ((0, 2, 4), ("0", "1", "2", "3", "4"), ""),
    ],
)
def test_numbers_of_which_none_is_0(tmp_path, numbers, keys, note, as_text):
    """A class 0, for which nobody had voted, was one of the classes of votes for 1 to 4 arms."""
    chosen = [(f"{n}.jpg", rater, n) for n in numbers for rater in ("ann", "bob")]
    path = tmp_path / "votes.parquet"
    frame = pl.DataFrame(chosen, schema=["image_id", "rater", "label"], orient="row")
    frame.with_columns(pl.col("label").cast(pl.String if as_text else pl.UInt8)).write_parquet(path)
    votes = read_votes(path)
    assert votes.class_list.keys == keys
    assert rows(votes) == sorted((image, str(n), rater, "yes") for image, rater, n in chosen)
    notes = [n for n in aggregate(path).notes if n.startswith("no vote is for 0")]
    assert notes == ([f"{note}pass the list of all classes as `classes`"] if note else [])
    assert not [n for n in aggregate(path, classes=keys).notes if n.startswith("no vote is for 0")]


def test_a_matrix_and_sets_of_the_numbers_from_1(tmp_path):
    np.savetxt(tmp_path / "answers.txt", np.array([[1, 2, -1], [3, 3, 1]]), "%d")
    votes = read_votes(tmp_path / "answers.txt")
    yes = [("0", "1", "0"), ("0", "2", "1"), ("1", "1", "2"), ("1", "3", "0"), ("1", "3", "1")]
    assert [row[:3] for row in rows(votes) if row[3] == "yes"] == yes
    chosen = [("a", "ann", 1), ("a", "ann", 3), ("b", "ann", 2), ("c", "ann", None)]
    path = long(tmp_path / "sets.csv", chosen=chosen)
    sets = rows(read_votes(path, format="choices(several=True)"))
    asked = [(image, key) for image in "abc" for key in "123"]
    valid = {("a", "1"), ("a", "3"), ("b", "2")}
    assert sets == [(*pair, "ann", "yes" if pair in valid else "no") for pair in asked]


def test_counts_in_a_column_without_a_name(tmp_path):
    pl.DataFrame({"image_id": ["a"], "cat": [2], " ": [1]}).write_parquet(tmp_path / "counts.parquet")
    with pytest.raises(InputError) as error:
        read_votes(tmp_path / "counts.parquet", format="counts")
    assert str(error.value) == (
        f"A column has no name.\n  where:   {tmp_path / 'counts.parquet'}\n"
        "  allowed: a class name for each column"
    )


@pytest.mark.parametrize("names", [("2", "1", "0"), ("1", "2", "3"), ("0", "1", "2")])
@pytest.mark.parametrize("given", [True, False])
def test_counts_of_classes_that_are_called_by_numbers(tmp_path, names, given):
    """The second column was the class with number 1, whatever its name."""
    pl.DataFrame({"image_id": ["a"], names[0]: [5], names[1]: [0], names[2]: [2]}).write_csv(
        tmp_path / "counts.csv"
    )
    classes = from_keys(sorted(names)) if given else None
    votes = read_votes(tmp_path / "counts.csv", format="counts", classes=classes)
    keys = votes.class_list.keys
    yes = [keys[r["class_id"]] for r in votes.to_table().to_pylist() if r["answer"] == "yes"]
    assert {name: yes.count(name) for name in names} == {names[0]: 5, names[1]: 0, names[2]: 2}


SETS_IN_COLUMNS = 'image_id,ann,bob,cem\na,"cat, dog",dog,\nb,cat,cat,"dog, owl"\nc,owl,"cat, owl",owl\n'


@pytest.mark.parametrize("classes", [None, ["cat", "dog", "owl"]])
def test_cells_with_several_classes_in_columns_of_raters(tmp_path, classes):
    path = tmp_path / "wide.csv"
    path.write_text(SETS_IN_COLUMNS)
    listed = classes and from_keys(classes)
    with pytest.raises(InputError) as error:
        read_votes(path, classes=listed)
    also = "; if the cell is the name of one class, pass the list of all classes as `classes`"
    assert str(error.value) == (
        f"A cell names several classes.\n  where:   {path}\n  got:     cat, dog\n"
        "  allowed: one class per row; or lists of classes\n"
        f"  do:      to divide the cells, pass `format`=\"rater-columns(separator=',')\""
        f"{'' if classes else also}"
    )
    votes = read_votes(path, classes=listed, format="rater-columns(separator=',')")
    keys = votes.class_list.keys
    assert keys == ("cat", "dog", "owl")
    table = votes.to_table().to_pylist()
    assert len(table) == 8 * 3  # eight sets of three classes
    found = {(v["image_id"], v["rater_id"], keys[v["class_id"]]) for v in table if v["answer"] == "yes"}
    assert found == {
        *(("a", "ann", "cat"), ("a", "ann", "dog"), ("a", "bob", "dog")),
        *(("b", "ann", "cat"), ("b", "bob", "cat"), ("b", "cem", "dog"), ("b", "cem", "owl")),
        *(("c", "ann", "owl"), ("c", "bob", "cat"), ("c", "bob", "owl"), ("c", "cem", "owl")),
    }
    assert votes.left_out == ("empty cells (1), which are no answers",)
    whole = from_keys(["cat", "dog", "owl", "cat, dog", "dog, owl", "cat, owl"])
    assert read_votes(path, classes=whole).kind == ONE_CLASS


def test_counts_of_too_many_votes(tmp_path):
    path = tmp_path / "counts.csv"
    path.write_text("image_id,cat,dog\na,2,0\nb,1000000,1\n")
    with pytest.raises(InputError) as error:
        read_votes(path, format="counts")
    assert str(error.value) == (
        f"The counts add up to too many votes.\n  where:   {path}\n"
        "  got:     1,000,003 votes, 1,000,001 of them in row 1\n"
        "  allowed: up to 50,000,000, and up to 1,000,000 on one image\n"
        "  do:      check that these are counts; to evaluate against them, pass them as labels instead"
    )


def test_numbers_are_classes_or_counts(tmp_path):
    (tmp_path / "wide.csv").write_text("image_id,x,y,z\na,0,0,-1\nb,1,0,1\n")
    votes = read_votes(tmp_path / "wide.csv", format="rater-columns", classes=from_keys(["cat", "dog"]))
    assert [(v["image_id"], v["class_id"], v["rater_id"]) for v in votes.to_table().to_pylist()] == [
        (image, ["cat", "dog"].index(c), r) for image, c, r, _ in EXPECTED
    ]
    (tmp_path / "counts.csv").write_text("image_id,cat,dog\na,2,0\nb,1,2\n")
    counts = read_votes(tmp_path / "counts.csv", format="counts")
    assert counts.kind == COUNTED_CLASS
    assert [(i, c, a) for i, c, _, a in rows(counts)].count(("b", "dog", "yes")) == 2
    (tmp_path / "shares.csv").write_text("image_id,cat,dog\na,1,0\nb,0.333333,0.666667\n")
    shares = read_votes(tmp_path / "shares.csv", format="counts(votes=3)")
    assert np.bincount(shares.question[shares.answer == 2]).tolist() == [3, 1, 2]


@pytest.mark.parametrize(
    ("votes", "decimals"),
    [(6, 3), (30, 3), (40, 2), (49, 2)],  # 0.333 + 0.167 + 0.5 and others sum to 1.001; 0.03 is 1 of 40
)
def test_published_shares_are_the_votes_that_were_rounded(tmp_path, votes, decimals):
    rng = np.random.default_rng(votes)
    counts = rng.multinomial(votes, [0.5, 0.3, 0.1, 0.05, 0.03, 0.02], 300)
    counts[7] = 0
    shares = np.round(counts / votes, decimals)
    assert (np.abs(np.delete(shares.sum(axis=1), 7) - 1) > 1e-4).any()
    for cells in (shares, np.where(counts.sum(axis=1, keepdims=True) > 0, shares, np.nan)):
        frame = pl.DataFrame(cells, [*"abcdef"]).fill_nan(None)
        frame.insert_column(0, pl.Series("image_id", range(300))).write_csv(tmp_path / "shares.csv")
        read = read_votes(tmp_path / "shares.csv", format=f"counts(votes={votes})")
        yes, found = read.answer == 2, np.zeros((300, 6), int)
        question = read.question[yes]
        image = np.array(read.image_id.to_pylist(), int)[question]
        np.add.at(found, (image, read.class_id[question]), 1)
        assert (found == counts).all()
        assert read.left_out == ("1 image without votes",)


def test_a_vote_that_is_missing_from_shares(tmp_path):
    (tmp_path / "shares.csv").write_text("image_id,cat,dog\na,0.98,0\nb,0.96,0.04\n")  # 49 of 50
    with pytest.raises(InputError, match=r"(?s)The shares of an image do not sum to 1.*0.98 in 1 of 2 rows"):
        read_votes(tmp_path / "shares.csv", format="counts(votes=50)")


@pytest.mark.parametrize(("cells", "kept"), [(",", 1), ("0,0", 1), ("3,", 0)])
def test_counts_of_images_that_were_not_asked_about(tmp_path, cells, kept):
    (tmp_path / "counts.csv").write_text(f"image_id,cat,dog\na,2,1\nb,{cells}\n")
    if kept:
        result = aggregate(tmp_path / "counts.csv", reading=VotesReading(format="counts"))
        assert "left out of the votes: 1 image without votes" in result.notes
        assert result.labels.table["image_id"].to_pylist() == ["a"]
    else:
        with pytest.raises(InputError) as error:
            read_votes(tmp_path / "counts.csv", format="counts")
        assert str(error.value).endswith(
            "do:      write 0 for classes without votes, or leave all cells of an image without votes empty"
        )


def test_a_matrix_and_arrays(tmp_path):
    (tmp_path / "answers.txt").write_text("0 0 -1\n1 0 1\n")
    labelme = read_votes(tmp_path / "answers.txt")
    assert [
        (r["image_id"], r["rater_id"], r["class_id"])
        for r in labelme.to_table().to_pylist()
        if r["answer"] == "yes"
    ] == [
        ("0", "0", 0),
        ("0", "1", 0),
        ("1", "1", 0),
        ("1", "0", 1),
        ("1", "2", 1),
    ]
    chosen = np.array([[0, 0, -1], [1, 0, 1]])
    np.savez(
        tmp_path / "raters.npz",
        choices=chosen,
        raters=np.tile(["x", "y", "z"], (2, 1)),
        image_id=["a", "b"],
        class_names=["cat", "dog"],
    )
    assert rows(read_votes(tmp_path / "raters.npz")) == EXPECTED
    np.savez(tmp_path / "unknown.npz", **{f"random_label{i + 1}": chosen[:, i] for i in range(3)})
    assert read_votes(tmp_path / "unknown.npz").kind == COUNTED_CLASS


def test_sets_of_classes_are_answers(tmp_path):
    chosen = [("a", "x", "cat"), ("a", "x", "dog"), ("a", "y", "dog"), ("b", "x", None), ("b", "y", "owl")]
    path = long(tmp_path / "sets.csv", chosen=chosen)
    votes = read_votes(path, format="choices(several=True)")
    assert (votes.kind, len(votes)) == ("", 12)  # four sheets, each of three classes
    yes = [r[:3] for r in rows(votes) if r[3] == "yes"]
    assert yes == [("a", "cat", "x"), ("a", "dog", "x"), ("a", "dog", "y"), ("b", "owl", "y")]
    few = read_votes(path, format="choices(several=True, shown='chosen')")
    assert [r for r in rows(few) if r[0] == "b"] == [("b", "owl", "x", "no"), ("b", "owl", "y", "yes")]


def test_answers_and_choices_are_told_apart(tmp_path):
    asked = [("a.jpg:cat", "x", "yes"), ("a.jpg:dog", "x", "no")]
    assert read_votes(long(tmp_path / "k.csv", chosen=asked)).kind == ""
    assert read_votes(long(tmp_path / "u.csv", chosen=[("http://h/a.jpg", "x", "cat")])).kind == ONE_CLASS
    yes = read_votes(long(tmp_path / "y.csv", chosen=[("a", "x", "yes"), ("a", "y", "no")]), format="choices")
    assert (yes.kind, yes.class_list.keys) == (ONE_CLASS, ("no", "yes"))


def test_answers_about_classes_are_no_raters(tmp_path):
    written = ("image", "class", "rater", "answer"), ("Filename", "label", "annotator", "Answer")
    for i, header in enumerate((*written, ("patch_id", "class_name", "worker", "answer"))):
        path = tmp_path / f"{i}.csv"
        path.write_text(",".join(header) + "\na.jpg,dog,gpt,yes\nb.jpg,cat,gpt,no\n")
        votes = read_votes(path)
        assert (votes.kind, rows(votes)) == (
            "",
            [("a.jpg", "dog", "gpt", "yes"), ("b.jpg", "cat", "gpt", "no")],
        )


def test_further_columns_of_answers_are_left_out(tmp_path):
    path = tmp_path / "v.csv"
    path.write_text("image_id,class_name,rater_id,answer,logprob\na,dog,gpt,yes,-0.1\na,cat,gpt,no,-2\n")
    votes = read_votes(path)
    assert rows(votes) == [("a", "cat", "gpt", "no"), ("a", "dog", "gpt", "yes")]
    assert votes.left_out == ("the column 'logprob'",)
    found = aggregate(pl.read_csv(path))
    assert found.labels.table["classes"].to_pylist() == [[0, 1]]
    assert found.labels.table["state"].to_pylist() == [["no", "yes"]]
    assert "left out of the votes: the column 'logprob'" in found.notes
    with pytest.raises(InputError, match="rename the column of raters to expert_id"):
        aggregate(path, golden=path)


def test_one_question_with_a_column_per_rater_needs_its_answers_as_classes(tmp_path):
    (tmp_path / "v.csv").write_text("image,ann,bob\na,Yes,no\nb,yes,yes\n")
    (tmp_path / "v.json").write_text('{"a": {"ann": "yes", "bob": "no"}, "b": {"ann": "yes"}}')
    for name in ("v.csv", "v.json"):
        with pytest.raises(InputError, match=r"All choices are answers(.|\n)* no, yes of ann, bob"):
            read_votes(tmp_path / name)
    votes = read_votes(tmp_path / "v.json", classes=from_keys(["no", "yes"]))
    assert [r[:3] for r in rows(votes) if r[3] == "yes"] == [
        ("a", "no", "bob"),
        ("a", "yes", "ann"),
        ("b", "yes", "ann"),
    ]
    (tmp_path / "q.csv").write_text("image,question,answer\na,Is there a dog?,yes\n")
    with pytest.raises(
        InputError, match=r"does not contain votes(.|\n)*the columns image .text., question .text., answer"
    ):
        read_votes(tmp_path / "q.csv")


CASES = {
    "choosing twice": (
        "task,worker,label\na,x,cat\na,x,dog\n",
        None,
        "A rater chose more than one class for an image.\n  where:   c, image a\n"
        "  got:     rater x: cat, dog\n"
        "  allowed: one class per rater and image\n"
        "  do:      keep one class, or name the column with the times of the votes answered_at, so that the "
        "last one counts, or, if raters chose sets of classes, use the format choices(several=True)",
    ),
    "the same vote twice": (
        "task,worker,label\na,x,cat\na,x,cat\n",
        None,
        "A rater voted more than once for an image.\n  where:   c, image a\n"
        "  got:     rater x: cat, twice\n"
        "  allowed: one class per rater and image\n"
        "  do:      remove the other rows, or name the column with the times of the votes answered_at, so "
        "that the last one counts",
    ),
    "answers without a class": (
        "task,worker,label\na,x,yes\na,y,no\n",
        None,
        "A task does not consist of an image and a class.\n  where:   {path}\n  got:     a\n"
        "  allowed: an image id, ':' and a class, such as photo.jpg:65\n"
        "  do:      pass the separator in `format`: \"crowd-kit(separator='|')\"; "
        "if labels are classes, pass `format`=choices",
    ),
    "classes or counts": (
        "image_id,cat,dog\na,2,0\n",
        None,
        "The numbers in this table may be classes (one column per rater) or counts (one column per class).\n"
        "  where:   {path}\n  got:     the columns image_id, cat, dog\n"
        "  do:      pass the format `rater-columns` or `counts` as `format`",
    ),
    "no counts": (
        "image_id,cat,dog\na,2,0.5\n",
        "counts",
        "A cell is not a count.\n  where:   {path}, row 0, class 1\n  got:     0.5\n"
        "  allowed: whole numbers of at least 0\n"
        "  do:      if these are shares, pass the number of votes per image: counts(votes=50); if votes are "
        "weighted, divide those of each image by their sum, for manyhot evaluate --label-values shares",
    ),
    "negative": (
        "image_id,cat,dog\na,3,-1\n",
        "counts",
        "A cell is not a count.\n  where:   {path}, row 0, class 1\n  got:     -1\n"
        "  allowed: whole numbers of at least 0\n"
        "  do:      if these are shares, pass the number of votes per image: counts(votes=50)",
    ),
    "shares that do not sum to 1": (
        "image_id,cat,dog\na,0.5,0.5\nb,0.5,0.2\n",
        "counts(votes=10)",
        "The shares of an image do not sum to 1.\n  where:   {path}, row 1\n  got:     0.7 in 1 of 2 rows\n"
        "  allowed: shares of at least 0 that sum to 1\n"
        "  do:      if these are counts, pass the format counts, without a number of votes",
    ),
    "shares of other numbers of votes": (
        "image_id,cat,dog\na,0.5,0.5\n",
        "counts(votes=3)",
        "A share does not correspond to a whole number of votes.\n  where:   {path}, row 0, class 0\n"
        "  got:     0.5, which is 1.5 of 3 votes\n  allowed: multiples of 1 / votes\n"
        "  do:      pass the number of votes per image, as in counts(votes=50); if this number differs "
        "between images, evaluate against the shares: manyhot evaluate --label-values shares",
    ),
    "a vote without a rater": (
        "task,worker,label\na,,cat\n",
        None,
        "A vote has no rater.\n  where:   {path}\n  got:     1 of 1 rows\n"
        "  allowed: an image and a rater in each row",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input(case, tmp_path):
    text, format, message = CASES[case]
    path = tmp_path / "c.csv"
    path.write_text(text)
    with pytest.raises(ManyhotError) as error:
        read_votes(path, format=format)
    assert str(error.value) == message.format(path=path)


def test_classes_that_are_not_in_the_list(tmp_path):
    path = long(tmp_path / "c.csv")
    with pytest.raises(ManyhotError) as error:
        read_votes(path, classes=from_keys(["cat", "owl"]))
    assert str(error.value).startswith(
        f"A class is not in the class list.\n  where:   {path}\n  got:     dog\n"
    )
    path = long(tmp_path / "n.csv", chosen=[("a", "x", 0), ("a", "y", 7)])
    with pytest.raises(ManyhotError) as error:
        read_votes(path, classes=from_keys(["cat", "owl"]))
    assert str(error.value) == (
        f"Some votes are for classes that are not in the class list.\n  where:   {path}\n"
        "  got:     7 in 1 of 2 votes\n  allowed: 0 to 1\n"
        "  do:      pass the list of all classes as `classes`"
    )


# Published votes.


def best_of(votes, method="majority"):
    """Return the classes with the highest p of each image, as sets by row number."""
    table = aggregate(votes, method=method).labels.table
    best = [
        {c for c, p in zip(classes, ps, strict=True) if p == max(ps)}
        for classes, ps in zip(table["classes"].to_pylist(), table["p"].to_pylist(), strict=True)
    ]
    return dict(zip(map(int, table["image_id"].to_pylist()), best, strict=True))


SHARED = Path(__file__).parents[2].parent / "shared"


def test_cifar_10n(require):
    path = SHARED / "data" / "votes" / "cifar-10n.npz"
    require(path.is_file(), f"{path}, CIFAR-10N")
    with np.load(path) as file:
        clean, aggre, random = file["clean"], file["aggre"], file["random"]
    best = best_of(path)
    ties = [i for i in range(50_000) if len(best[i]) > 1]
    # Three different votes are a tie, in which the file's own choice is one of the three.
    assert len(ties) == sum(len(set(row)) == 3 for row in random.tolist())
    assert all(aggre[i] in best[i] for i in range(50_000))
    decided = {i: next(iter(best[i])) if len(best[i]) == 1 else aggre[i] for i in range(50_000)}
    wrong = np.mean([decided[i] != clean[i] for i in range(50_000)])
    assert round(float(wrong) * 100, 2) == 9.01


def test_cifar_10h(published):
    path = published("data/cifar10h-counts.npy")
    truth = np.load(published("original_test_labels/cifar10_test_set_original_labels.npy"))
    counts, best, votes = np.load(path), best_of(path), read_votes(path)
    assert all(best[i] == set(np.flatnonzero(counts[i] == counts[i].max())) for i in range(len(counts)))
    yes = votes.question[votes.answer == 2]
    image = np.array(votes.images.to_pylist(), int)[votes.image[yes]]
    assert len(yes) == counts.sum()
    assert round(float((votes.class_id[yes] == truth[image]).mean()) * 100, 2) == 95.24
    right = np.mean([truth[i] == min(best[i]) for i in range(10_000)])  # three ties
    assert round(float(right) * 100, 2) == 99.21


@pytest.mark.parametrize(
    ("name", "confirmed"), [("mnist", 15), ("cifar10", 54), ("cifar100", 585), ("caltech256", 458)]
)
def test_label_errors(name, confirmed, published, tmp_path):
    rows = json.loads(published(f"mturk/{name}_mturk.json").read_text())
    options = ("given", "guessed", "both", "neither")
    lines = [f"{i}," + ",".join(str(r["mturk"].get(o, 0)) for o in options) for i, r in enumerate(rows)]
    path = tmp_path / "counts.csv"
    path.write_text("\n".join(["image_id," + ",".join(options), *lines]) + "\n")
    shares = aggregate(path, format="counts", method="vote-share").labels.table
    given = from_keys(options).index("given")
    lists = (shares[name].to_pylist() for name in ("classes", "p", "n_votes"))
    n_given = [
        round(n[0] * dict(zip(classes, p, strict=True)).get(given, 0))
        for classes, p, n in zip(*lists, strict=True)
    ]
    assert sum(n < 3 for n in n_given) == confirmed


def test_the_last_answer_of_a_rater_counts(tmp_path, message):
    path = tmp_path / "c.csv"
    early, late = "2024-02-01T03:00:00Z", "2024-02-01T03:30:00+00:00"
    written = [("a", "x", "fox", late), ("a", "x", "cat", early), ("a", "y", "cat", early)]
    long(path, ("image_id", "rater_id", "class_id", "answered_at"), written)
    votes = read_votes(path)
    assert rows(votes) == [
        ("a", "cat", "x", "no"),
        ("a", "cat", "y", "yes"),
        ("a", "fox", "x", "yes"),
        ("a", "fox", "y", "no"),
    ]
    assert votes.left_out == ("1 answer that a rater gave again later",)
    assert "left out of the votes: 1 answer that a rater gave again later" in (aggregate(path).notes)
    path.write_text(path.read_text().replace(early, "yesterday"))
    assert message(lambda: read_votes(path)) == (
        f"The column 'answered_at' does not contain times.\n  where:   {path}\n"
        "  got:     2024-02-01T03:30:00+00:00, yesterday\n"
        "  allowed: times such as 2021-03-09T22:16:08Z, all with a time zone or all without, or numbers"
    )
    path.write_text(path.read_text().replace("yesterday", ""))
    assert message(lambda: read_votes(path)) == (
        f"The column 'answered_at' contains an empty value.\n  where:   {path}\n"
        "  got:     1 of 2 rows of raters who answered an image again\n"
        "  allowed: a time in each of these rows, or no such column"
    )


@pytest.mark.parametrize(
    ("early", "late"),
    [
        ("2021-03-09 22:16:08", "2021-03-09 22:16:09"),
        ("2021-03-09T22:16:08.123456788Z", "2021-03-09T22:16:08.123456789Z"),
        ("2021-03-09T22:16:08+02:00", "2021-03-09T21:16:08Z"),
        ("2021-03-09", "2021-03-10"),
        (1615328168.5, 1615328168.75),
        (999, 1000),
    ],
)
def test_times_of_answers(early, late, tmp_path):
    path = tmp_path / "c.csv"
    written = [("a", "x", "fox", late), ("a", "x", "cat", early), ("b", "x", "cat", None)]
    long(path, ("image_id", "rater_id", "class_id", "answered_at"), written)
    assert [row[:2] for row in rows(read_votes(path)) if row[3] == "yes"] == [("a", "fox"), ("b", "cat")]


def test_times_do_not_matter_if_no_rater_answered_an_image_again(tmp_path):
    path = tmp_path / "c.csv"
    written = [("a", "x", "cat", "yesterday"), ("a", "y", "dog", None), ("b", "x", "dog", "3/9/2021")]
    long(path, ("image_id", "rater_id", "class_id", "answered_at"), written)
    assert len(read_votes(path).images) == 2


def test_sets_that_a_rater_chose_again(tmp_path):
    path = tmp_path / "c.csv"
    first, second, click = "2024-02-01T03:00:00Z", "2024-02-02T03:00:00Z", "2024-02-02T03:00:03Z"
    written = [
        *[("a", "x", c, first, 1) for c in ("cat", "dog")],
        ("a", "x", None, second, 3),  # nothing, on second thoughts
        *[("a", "y", "fox", second, 4), ("a", "y", "dog", click, 4)],
        ("a", "y", "cat", first, 2),
    ]
    long(path, ("image_id", "rater_id", "class_id", "answered_at", "page_id"), written)
    votes = read_votes(path, format="choices(several=True)")
    assert [row[1:3] for row in rows(votes) if row[3] == "yes"] == [("dog", "y"), ("fox", "y")]
    assert votes.left_out == ("2 answers that a rater gave again later",)
    # Without pages, a later row may be the next click in the same set.
    long(path, ("image_id", "rater_id", "class_id", "answered_at"), [row[:4] for row in written])
    votes = read_votes(path, format="choices(several=True)")
    assert [row[1:3] for row in rows(votes) if row[3] == "yes"] == [
        ("cat", "x"),
        ("cat", "y"),
        ("dog", "x"),
        ("dog", "y"),
        ("fox", "y"),
    ]
    assert votes.left_out == ()


def test_times_of_sets_of_classes_are_kept(tmp_path):
    path = tmp_path / "votes.csv"
    path.write_text(
        "image_id,rater_id,class_id,shown_at,answered_at\n"
        "a,x,cat,2026-03-09T22:16:00Z,2026-03-09T22:16:02Z\n"
        "a,x,dog,2026-03-09T22:16:00Z,2026-03-09T22:16:08Z\n"
    )
    rows = read_votes(path, format="choices(several=True)").to_table().to_pylist()
    seconds = {(row["shown_at"].second, row["answered_at"].second) for row in rows}
    assert (len(rows), seconds) == (2, {(0, 8)})  # the page is answered with its last click


def cases(decisions, **more):
    """Votes of three raters on 12 images, each of which belongs to one class."""
    rows = [
        {
            "image_id": f"{i}",
            "label": ("gun", "gore")[i % 2],
            "moderator_id": who,
            "decision": decisions(i, j),
        }
        for i in range(12)
        for j, who in enumerate("xyz")
    ]
    return pl.DataFrame(rows).with_columns(**more)


@pytest.mark.parametrize("kind", ["text", "bool", "int"])
def test_decisions_beside_classes_that_were_asked_about(kind, tmp_path, message):
    words = {"text": ("approve", "reject"), "bool": (False, True), "int": (0, 1)}[kind]
    path = tmp_path / "v.parquet"
    cases(lambda i, j: words[(i + j) % 2], page=pl.lit("a")).write_parquet(path)
    assert message(lambda: read_votes(path)) == (
        "The raters of each image name the same class and differ in the column 'decision', so the class "
        "may be what they were asked about.\n"
        f"  where:   {path}\n"
        f"  got:     {', '.join(map(str, words))} for the same class of an image\n"
        "  allowed: image_id, class_id, rater_id and answer, which is yes, maybe or no\n"
        "  do:      rename 'decision' to answer and use these words, or drop it if raters chose the class"
    )
    answers = pl.read_parquet(path).drop("decision").with_columns(answer=pl.lit("yes"))
    answers.write_parquet(path)
    assert {answer for *_, answer in rows(read_votes(path))} == {"yes"}


@pytest.mark.parametrize(
    "decisions",
    [lambda i, j: ("en", "fr")[j % 2], lambda i, j: ("easy", "hard")[i % 3 % 2]],
    ids=["of the rater", "of the image"],
)
def test_columns_that_are_no_decisions(decisions, tmp_path):
    cases(decisions).write_csv(tmp_path / "v.csv")
    assert len(rows(read_votes(tmp_path / "v.csv"))) == 36


def test_marks_are_no_choices(tmp_path):
    path = tmp_path / "votes.csv"
    path.write_text("image,Anna,Ben\n1.jpg,x,\n2.jpg,,x\n3.jpg,x,x\n")
    with pytest.raises(InputError, match="All raters chose the same class") as error:
        aggregate(path)
    assert "got:     x of Anna, Ben" in str(error.value)
    assert aggregate(path, classes=from_keys(["x", "y"])).labels.n_classes == 2
