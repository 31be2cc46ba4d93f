"""Votes and golden answers: tables, crowd-kit's columns, ReaL's archives, and what is wrong with them."""

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manyhot import read_golden, read_votes, write_golden, write_votes
from manyhot.classes import class_list, from_keys
from manyhot.errors import InputError, ManyhotError, MatchError
from manyhot.reassess.answers import open_votes
from manyhot.tables import Images, find_questions, votes_from_table

VAL = [f"ILSVRC2012_val_{i:08d}.JPEG" for i in (1, 2)]
ROWS = {
    "image_id": ["a.jpg", "a.jpg", "b.jpg", "a.jpg"],
    "class_id": [3, 0, 3, 3],
    "rater_id": ["ann", "ann", "007", "bob"],
    "answer": ["yes", "no", "maybe", "no"],
}


def rows(votes):
    return sorted(map(tuple, pl.from_arrow(votes.to_table()).select(*ROWS).rows()))


EXPECTED = sorted(zip(*ROWS.values(), strict=True))


def as_csv(path, columns=ROWS):
    pl.DataFrame(columns).write_csv(path)
    return path


def test_one_table_in_every_form(tmp_path):
    votes = read_votes(as_csv(tmp_path / "v.csv"))
    assert rows(votes) == EXPECTED
    assert (len(votes), votes.n_questions, votes.n_raters, votes.n_classes) == (4, 3, 3, 1000)
    own = read_votes(write_votes(votes, tmp_path / "votes.parquet", call="manyhot …"))
    assert rows(own) == EXPECTED
    assert (own.n_classes, own.class_hash, own.name) == (1000, votes.class_hash, "v")
    assert rows(read_votes(tmp_path)) == EXPECTED  # a campaign folder
    for image, rater in (("patch_id", "rater_id"), ("filename", "annotator"), ("Image", "worker")):
        own = [image, "class_id", rater, "answer"]
        hand = as_csv(tmp_path / "hand.csv", dict(zip(own, ROWS.values(), strict=True)))
        assert rows(read_votes(hand)) == EXPECTED
    pq.write_table(pa.table(ROWS), tmp_path / "foreign.parquet")
    assert rows(read_votes(tmp_path / "foreign.parquet")) == EXPECTED
    tasks = {"task": ["./a.jpg:3", "a.jpg:tench", "b.jpg:n01484850", "a.jpg:3"]}
    kit = as_csv(tmp_path / "kit.csv", tasks | {"worker": ROWS["rater_id"], "label": ROWS["answer"]})
    assert rows(read_votes(kit)) == sorted(
        [
            ("a.jpg", 3, "ann", "yes"),
            ("a.jpg", 0, "ann", "no"),
            ("b.jpg", 2, "007", "maybe"),
            ("a.jpg", 3, "bob", "no"),
        ]
    )


def test_what_stands_between_image_and_class_is_an_option(tmp_path):
    columns = {"task": ["a:b.jpg | 3", "a:b.jpg | 1"], "worker": ["x", "x"], "label": ["yes", "no"]}
    votes = read_votes(as_csv(tmp_path / "kit.csv", columns), format="crowd-kit(separator=' | ')")
    assert rows(votes) == [("a:b.jpg", 1, "x", "no"), ("a:b.jpg", 3, "x", "yes")]


def test_classes_by_name_of_ones_own_list(tmp_path):
    columns = ROWS | {"class_id": ["dog", "cat", "dog", "dog"]}
    votes = read_votes(as_csv(tmp_path / "v.csv", columns), classes=from_keys(["cat", "dog"]))
    assert votes.class_id.tolist() == [0, 1, 1]
    assert votes.n_classes == 2


def test_golden_answers(tmp_path):
    columns = {"image_id": ["a", "a", "b"], "class_id": [1, 1, 2], "expert_id": ["x", "y", "x"]}
    golden = read_golden(as_csv(tmp_path / "g.csv", columns | {"answer": ["yes", "no", "no"]}))
    assert len(golden) == 2
    assert golden.raters is None
    again = read_golden(write_golden(golden, tmp_path / "golden.parquet"))
    assert again.to_table().to_pylist() == golden.to_table().to_pylist()
    assert len(read_golden(tmp_path)) == 2


def real(path, tensor, info=None, ids=None):
    info = np.array([[n, "1"] for n in VAL]) if info is None else info
    np.savez(path, tensor=tensor, info=info, ids=np.array([4, 7]) if ids is None else ids)
    return path


def one_hot(*said):
    tensor = np.zeros((2, 2, 3))
    for rater, question, answer in said:
        tensor[rater, question, answer] = 1
    return tensor


def test_real_archives(tmp_path):
    votes = read_votes(real(tmp_path / "raters.npz", one_hot((0, 0, 2), (0, 1, 0), (1, 1, 1))))
    assert rows(votes) == [(VAL[0], 1, "4", "yes"), (VAL[1], 1, "4", "no"), (VAL[1], 1, "7", "maybe")]
    real(tmp_path / "raters_golden.npz", one_hot((0, 0, 2), (1, 1, 0)))
    golden = read_golden(real(tmp_path / "golden.npz", one_hot((0, 0, 2), (1, 0, 2), (0, 1, 0), (1, 1, 0))))
    assert len(golden.raters) == 2
    assert golden.experts.answer.tolist() == [2, 0, 2, 0]


def test_published_votes(mirror, release):
    folder = release("reassessed-imagenet/bcd006fe", "raters.npz", "golden.npz", "raters_golden.npz")
    votes, golden = read_votes(folder / "raters.npz"), read_golden(folder / "golden.npz")
    assert (len(votes), votes.n_questions, votes.n_raters, len(votes.images)) == (
        924_810,
        184_962,
        85,
        24_889,
    )
    assert np.bincount(votes.answer).tolist() == [729_424, 78_942, 116_444]
    assert (np.bincount(votes.question) == 5).all()
    assert (len(golden), golden.experts.n_raters, golden.raters.n_raters) == (1135, 5, 78)
    assert (find_questions(golden.experts, votes) >= 0).all()
    with np.load(folder / "raters.npz") as file:
        info, ids = file["info"], file["ids"]
    for vote in (0, 500_000, 924_809):
        question = votes.question[vote]
        assert [votes.image_id[int(question)].as_py(), str(votes.class_id[question])] == info[
            question
        ].tolist()
        assert votes.rater_id[int(votes.rater[vote])].as_py() == str(ids[votes.rater[vote]])


def table(**more):
    return pa.table({k: v * 2 for k, v in ROWS.items()} | more)


def test_a_change_of_mind_is_the_last_answer():
    changed = ["yes", "no", "maybe", "no", "no", "no", "yes", "yes"]
    votes = votes_from_table(table(answer=changed, round=[2, 2, 2, 2, 3, 1, 3, 3]), name="v", n_classes=5)
    assert len(votes) == 4
    assert rows(votes) == sorted(
        [
            ("a.jpg", 0, "ann", "no"),
            ("a.jpg", 3, "ann", "no"),
            ("a.jpg", 3, "bob", "yes"),
            ("b.jpg", 3, "007", "yes"),
        ]
    )
    assert sorted(votes.more["round"].to_pylist()) == [2, 3, 3, 3]


def test_questions_are_found_by_image_and_class():
    votes = votes_from_table(pa.table(ROWS), name="v", n_classes=5)
    other = {
        "image_id": ["b.jpg", "c.jpg", "a.jpg"],
        "class_id": [3, 3, 1],
        "rater_id": ["x"] * 3,
        "answer": ["no"] * 3,
    }
    asked = votes_from_table(pa.table(other), name="o", n_classes=9)
    found = find_questions(asked, votes)
    by_hand = {("b.jpg", 3): True, ("c.jpg", 3): False, ("a.jpg", 1): False}
    for i, at in enumerate(found):
        question = (asked.image_id[i].as_py(), int(asked.class_id[i]))
        assert (at >= 0) == by_hand[question]
        if at >= 0:
            assert (votes.image_id[int(at)].as_py(), int(votes.class_id[at])) == question


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (["Yes", " NO ", "maybe", "yes"], ["yes", "no", "maybe", "yes"]),
        (["TRUE", "False", "maybe", "true"], ["yes", "no", "maybe", "yes"]),
        ([1, 0, 0, 1], ["yes", "no", "no", "yes"]),
        ([True, False, False, True], ["yes", "no", "no", "yes"]),
    ],
)
def test_answers_of_other_tools(tmp_path, written, read):
    expected = sorted(zip(*(ROWS | {"answer": read}).values(), strict=True))
    assert rows(read_votes(as_csv(tmp_path / "v.csv", ROWS | {"answer": written}))) == expected
    assert rows(open_votes(pl.DataFrame(ROWS | {"answer": written})).votes) == expected


def test_one_number_alone_is_no_answer(tmp_path):
    with pytest.raises(InputError, match="'1' in 4 of 4 rows"):
        read_votes(as_csv(tmp_path / "v.csv", ROWS | {"answer": [1] * 4}))


# Bad input: whole messages.


def crowd_kit(path, task, label="yes"):
    return as_csv(path, {"task": [task], "worker": ["w"], "label": [label]})


BAD = {
    "unknown answers": (
        lambda p: read_votes(as_csv(p / "v.csv", ROWS | {"answer": ["yes", "1", "dunno", "no"]})),
        "A value is not an answer.\n  where:   {folder}/v.csv\n  got:     '1' in 1, 'dunno' in 1 of 4 rows\n"
        "  allowed: no, maybe, yes\n"
        "  do:      use these words; true and false are also accepted, and so are 1 and 0 if both occur and "
        "there is no other value",
    ),
    "answers as numbers": (
        lambda p: read_votes(as_csv(p / "v.csv", ROWS | {"answer": [1, 0, 2, 1]})),
        "A value is not an answer.\n  where:   {folder}/v.csv\n  got:     "
        "'1' in 2, '0' in 1, '2' in 1 of 4 rows\n  allowed: no, maybe, yes\n"
        "  do:      use these words; true and false are also accepted, and so are 1 and 0 if both occur and "
        "there is no other value",
    ),
    "an unknown class": (
        lambda p: read_votes(as_csv(p / "v.csv", ROWS | {"class_id": [3, 1000, 3, 3]})),
        "A class is out of range.\n  where:   v, image a.jpg\n  got:     1000\n  allowed: 0 to 999\n"
        "  do:      correct it, or pass the list of all classes as `classes`",
    ),
    "a class that nobody knows": (
        lambda p: read_votes(
            as_csv(p / "v.csv", ROWS | {"class_id": ["3", "unicorn", "3", "3"]}), classes=class_list()
        ),
        "A class is not in the class list.\n  where:   {folder}/v.csv\n  got:     unicorn\n"
        "  allowed: 0 to 999, or a key or name of imagenet1k\n"
        "  do:      pass a list with this class as `classes`, or remove the value if it is not a class",
    ),
    "a rater twice": (
        lambda p: votes_from_table(table(), name="v", n_classes=5),
        "A rater answered a question twice.\n  where:   v, image a.jpg, class 0 and 3 more\n"
        "  got:     rater ann\n"
        "  allowed: one answer per rater and question, or a column `round` or `answered_at` that gives their "
        "order\n"
        "  do:      remove one of the answers",
    ),
    "a rater twice in one round": (
        lambda p: votes_from_table(table(round=[0] * 8), name="v", n_classes=5),
        "A rater answered a question twice.\n  where:   v, image a.jpg, class 0 and 3 more\n"
        "  got:     rater ann, with the same round and time\n"
        "  allowed: one answer per rater and question, or a column `round` or `answered_at` that gives their "
        "order\n"
        "  do:      remove one of the answers",
    ),
    "an expert twice": (
        lambda p: read_golden(
            as_csv(
                p / "g.csv",
                {"image_id": ["a"] * 2, "class_id": [1] * 2, "expert_id": ["x"] * 2, "answer": ["no"] * 2},
            )
        ),
        "An expert answered a question twice.\n  where:   g, image a, class 1\n  got:     expert x\n"
        "  allowed: one answer per expert and question, or a column `round` or `answered_at` that "
        "gives their order\n"
        "  do:      remove one of the answers",
    ),
    "a task without a class": (
        lambda p: read_votes(crowd_kit(p / "k.csv", "a.jpg")),
        "A task does not consist of an image and a class.\n  where:   {folder}/k.csv\n  got:     a.jpg\n"
        "  allowed: an image id, ':' and a class, such as photo.jpg:65\n"
        "  do:      pass the separator in `format`: \"crowd-kit(separator='|')\"; "
        "if labels are classes, pass `format`=choices",
    ),
    "an answer of crowd-kit's": (
        lambda p: read_votes(
            as_csv(p / "k.csv", {"task": ["a.jpg:1"] * 2, "worker": ["w", "v"], "label": ["yes", "cat"]})
        ),
        "A value is not an answer.\n  where:   {folder}/k.csv\n  got:     'cat' in 1 of 2 rows\n"
        "  allowed: no, maybe, yes\n"
        "  do:      use these words; true and false are also accepted, and so are 1 and 0 if both occur and "
        "there is no other value",
    ),
    "no votes": (
        lambda p: read_votes(as_csv(p / "v.csv", {k: [] for k in ROWS})),
        "The file has no rows.\n  where:   {folder}/v.csv",
    ),
    "two answers in ReaL's archive": (
        lambda p: read_votes(real(p / "raters.npz", one_hot((0, 0, 2), (0, 0, 1)))),
        "A rater's answer to a question is not one of the three answers.\n  where:   {folder}/raters.npz, "
        "rater 0\n  allowed: 1 for one of no, maybe, yes and 0 for the others; all 0 for no answer",
    ),
    "a tensor of another shape": (
        lambda p: read_votes(real(p / "raters.npz", np.zeros((2, 3, 3)))),
        "The file is not ReaL's table of answers.\n  where:   {folder}/raters.npz\n"
        "  got:     tensor of float64 (2, 3, 3)\n"
        "  allowed: tensor of float64 (2, 2, 3): raters, questions and the answers no, maybe, yes",
    ),
    "names that are none": (
        lambda p: read_votes(real(p / "raters.npz", one_hot(), info=np.array([["a.jpg", "1"]] * 2))),
        "This is not an image of ImageNet's validation set.\n  where:   {folder}/raters.npz\n"
        "  got:     'a.jpg'\n"
        "  allowed: ILSVRC2012_val_00000001.JPEG to ILSVRC2012_val_00050000.JPEG",
    ),
    "info of numbers": (
        lambda p: read_votes(real(p / "raters.npz", one_hot(), info=np.zeros((2, 2)))),
        "The file is not ReaL's table of answers.\n  where:   {folder}/raters.npz\n"
        "  got:     info of float64 (2, 2), ids of int64 (2,)\n"
        "  allowed: info of text (n, 2), ids of int64 (r,)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case, tmp_path):
    work, message = BAD[case]
    with pytest.raises(ManyhotError) as error:
        work(tmp_path)
    assert str(error.value) == message.format(folder=tmp_path)


def test_votes_on_unknown_images():
    votes = votes_from_table(pa.table(ROWS), name="v", n_classes=5)
    with pytest.raises(MatchError) as error:
        votes.check_known(Images(pa.table({"image_id": ["a.jpg", "z.jpg", "y.jpg"]})))
    assert str(error.value) == (
        "Some votes are about images that are not in the images table.\n  where:   v\n"
        "  got:     1 of 2, such as b.jpg\n  allowed: ids such as a.jpg, z.jpg\n"
        "  do:      pass the images of the votes, or remove these votes"
    )


def test_golden_files_are_not_taken_for_votes(tmp_path):
    columns = {"image_id": ["a"], "class_id": [1], "expert_id": ["x"], "answer": ["no"]}
    with pytest.raises(InputError) as error:
        read_votes(as_csv(tmp_path / "g.csv", columns))
    assert str(error.value) == (
        f"The file does not contain votes.\n  where:   {tmp_path}/g.csv\n  got:     golden (golden-table)\n"
        "  allowed: votes-table: image_id, class_id, rater_id and answer; "
        "crowd-kit: task, worker and label; "
        "zooniverse: classification_id, user_name, annotations, subject_data; "
        "mechanical-turk: HITId, AssignmentId, WorkerId; "
        "choices: image_id, rater_id and class_id, or task, worker and label; "
        "rater-columns: image_id and one column per rater; "
        "rater-rows: image_id, rater_id, and one column of 0 and 1 per class; "
        "counts: image_id and one column per class; "
        "other suffixes: .json, .npy, .npz, .parquet, .tsv, .txt, folder\n"
        "  do:      pass it as golden"
    )
