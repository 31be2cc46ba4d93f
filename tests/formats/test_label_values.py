"""Labels that are counts of votes, shares of votes or probabilities, in files and in memory."""

import numpy as np
import pandas as pd
import pytest

from manyhot import describe, evaluate, read_labels
from manyhot.classes import from_keys
from manyhot.data.inputs import Reading, open_labels
from manyhot.errors import InputError
from manyhot.tables.array_inputs import as_labels
from manyhot.tables.label_values import are_counts
from manyhot.tables.labels import write_labels

NAMES = ["cat", "dog", "fox"]
COUNTS = np.array([[3, 1, 0], [0, 2, 2], [4, 0, 0]])
SHARES = COUNTS / COUNTS.sum(1, keepdims=True)
IDS = ["a.jpg", "b.jpg", "c.jpg"]


def write(path, values):
    frame = pd.DataFrame({"image_id": IDS} | dict(zip(NAMES, values.T, strict=True)))
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
    return path


def check(labels, p, n_votes=None):
    assert labels.exclusive
    assert labels.asked_known
    table = labels.table
    assert table["classes"].to_pylist() == [[0, 1, 2]] * 3
    assert np.array(table["p"].to_pylist()) == pytest.approx(p)
    assert table["state"].to_pylist() == [["yes", "no", "no"], ["no", "yes", "yes"], ["yes", "no", "no"]]
    assert ("n_votes" in table.column_names) == (n_votes is not None)
    if n_votes is not None:
        assert table["n_votes"].to_pylist() == n_votes


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_one_class_an_image_is_no_count(tmp_path, suffix):
    assert not are_counts(np.eye(3))
    labels = read_labels(write(tmp_path / f"l.{suffix}", np.eye(3, dtype=int)))
    assert "n_votes" not in labels.table.column_names


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_columns_of_counts(tmp_path, suffix):
    labels = read_labels(write(tmp_path / f"l.{suffix}", COUNTS))
    check(labels, SHARES, [[4] * 3] * 3)
    assert labels.class_list.keys == tuple(NAMES)
    assert labels.image_id.to_pylist() == IDS


def test_columns_of_shares_must_be_declared(tmp_path):
    path = write(tmp_path / "l.csv", SHARES)
    check(read_labels(path, label_values="shares"), SHARES)
    check(read_labels(path, format="indicator(label_values='shares')"), SHARES)
    with pytest.raises(InputError, match=r"got: +predictions \(score-columns\)"):
        read_labels(path)
    labels = read_labels(path, label_values="p")
    assert not labels.exclusive
    assert labels.table["state"].to_pylist()[1] == ["no", "yes", "yes"]


def test_arrays_in_files(tmp_path):
    np.save(tmp_path / "l.npy", COUNTS)
    labels = read_labels(tmp_path / "l.npy")
    check(labels, SHARES, [[4] * 3] * 3)
    assert labels.image_id.to_pylist() == ["0", "1", "2"]
    (tmp_path / "rows.txt").write_text("\n".join(IDS))
    assert read_labels(tmp_path / "l.npy", rows=tmp_path / "rows.txt").image_id.to_pylist() == IDS
    np.savez(tmp_path / "l.npz", y=COUNTS, image_id=IDS, classes=NAMES)
    check(read_labels(tmp_path / "l.npz"), SHARES, [[4] * 3] * 3)
    np.save(tmp_path / "ranks.npy", np.array([[5, 3, 1], [2, 9, 4]]))
    with pytest.raises(InputError, match="does not contain labels"):
        read_labels(tmp_path / "ranks.npy")


def test_arrays_and_frames_in_memory():
    check(as_labels(COUNTS), SHARES, [[4] * 3] * 3)
    frame = pd.DataFrame(COUNTS, index=IDS, columns=NAMES)
    labels = as_labels(frame)
    check(labels, SHARES, [[4] * 3] * 3)
    assert labels.image_id.to_pylist() == IDS
    check(as_labels(SHARES, label_values="shares"), SHARES)


def test_images_without_votes():
    labels = as_labels(np.array([[3, 0], [0, 0], [3, 3]]), label_values="counts")
    assert labels.table["classes"].to_pylist() == [[0, 1], [], [0, 1]]


@pytest.mark.parametrize("empty", [np.nan, 0])
@pytest.mark.parametrize("kind", ["counts", "shares"])
@pytest.mark.parametrize("form", ["matrix", "frame", "l.csv", "l.parquet", "l.npy"])
def test_images_that_were_not_asked_about_are_skipped(tmp_path, monkeypatch, form, kind, empty):
    """A catalogue leaves cells empty where a question was not asked, or writes zeros. It was refused."""
    monkeypatch.chdir(tmp_path)
    votes = np.array([[30, 10, 2], [empty] * 3, [12, 18, 12], [empty] * 3, [20, 20, 2]])
    asked, frame = np.array([0, 2, 4]), pd.DataFrame(votes, [f"{i}" for i in range(5)], NAMES)
    if kind == "shares":
        frame = frame.div(frame.sum(axis=1).where(lambda total: total > 0), axis=0).fillna(empty).round(3)
    table = frame.rename_axis("image_id").reset_index()
    if form.endswith(".csv"):
        table.to_csv(form, index=False)
    elif form.endswith(".parquet"):
        table.to_parquet(form)
    else:
        np.save("l.npy", frame.to_numpy())
    labels = {"matrix": frame.to_numpy(), "frame": frame}.get(form, form)
    rng = np.random.default_rng(0)
    scores = rng.dirichlet([1, 1, 1], 5).astype(np.float32)
    model = pd.DataFrame(scores, frame.index, NAMES)
    reading = Reading(scores="probability", label_values=kind)
    found = evaluate(labels, {"net": scores if form == "matrix" else model}, resamples=0, reading=reading)
    p = frame.to_numpy()[asked] / frame.to_numpy()[asked].sum(axis=1, keepdims=True)
    kl = (p * np.log(p / scores[asked])).sum(axis=1).mean()
    (row,) = [r for r in found.results.to_pylist() if r["metric"] == "kl_votes" and r["slice"] == "all"]
    assert (row["value"], row["n"], row["n_skipped"]) == (pytest.approx(kl, rel=1e-5), 3, 2)
    (described,) = describe(labels, label_values=kind).datasets.to_pylist()
    assert (described["unusable"], described["empty"]) == (2, 0)


def test_empty_rows_among_counts_do_not_hide_that_they_are_counts():
    counts = np.array([[30, 10, 2], [np.nan] * 3, [12, 18, 12]])
    assert as_labels(counts).exclusive
    assert as_labels(counts).table["usable"].to_pylist() == [True, False, True]


@pytest.mark.parametrize(
    ("shares", "allowed"),
    [
        ([0.17] * 6, ""),  # 1 / 6, each rounded up by 0.0033: 1.02
        ([0.08] * 12, ""),  # 1 / 12: 0.96
        ([0.333] * 3, ""),
        ([0.07] * 12, "0.84; 1 of 2 images are affected\n  allowed: 1 ± 0.06"),  # 12 halves of 0.01
        ([0.071] * 12, "0.852; 1 of 2 images are affected\n  allowed: 1 ± 0.02"),
        ([0.5, 0.25, 0.2], "0.95; 1 of 2 images are affected\n  allowed: 1 ± 0.02"),
    ],
)
def test_rounded_shares_may_miss_1_by_what_rounding_explains(shares, allowed):
    """Each of k shares is off by at most half a unit of the last decimal."""
    values = np.stack([shares, np.eye(len(shares))[0]])
    if allowed:
        with pytest.raises(InputError) as error:
            as_labels(values, label_values="shares")
        assert allowed in str(error.value)
    else:
        p = as_labels(values, label_values="shares").table["p"].to_pylist()[0]
        assert p == pytest.approx([1 / len(shares)] * len(shares), abs=1e-7)


def test_states_are_still_states(tmp_path):
    path = write(tmp_path / "l.csv", np.array([[1, 0, 0], [0, 1, 1], [7, 0, 0]]))
    with pytest.raises(InputError, match="contains values other than 0 and 1"):
        read_labels(path, label_values="states", classes=from_keys(NAMES))
    labels = read_labels(write(tmp_path / "m.csv", (COUNTS > 0).astype(int)))
    assert not labels.exclusive
    assert "p" not in labels.table.column_names
    assert read_labels(tmp_path / "m.csv", label_values="counts").exclusive


def test_a_written_table_stays_exclusive(tmp_path):
    labels = as_labels(COUNTS)
    check(read_labels(write_labels(labels, tmp_path / "l.parquet")), SHARES, [[4] * 3] * 3)
    (source,) = open_labels(tmp_path / "l.parquet")
    assert source.misfits.remarks == [
        "the labels are votes for one class per image; p is the share of the votes, and the label set is the "
        "class with the most votes"
    ]


def test_defaults_for_votes():
    rng = np.random.default_rng(0)
    counts, logits = rng.multinomial(9, [0.5, 0.3, 0.2], 40), rng.normal(size=(40, 3)).astype(np.float32)
    result = evaluate(counts, logits, resamples=0, reading=Reading(scores="logit"))
    metrics = set(result.results["metric"].to_pylist())
    votes = {"cross_entropy_votes", "kl_votes", "brier_votes", "tv_votes", "entropy_correlation", "ece_votes"}
    assert {"real1", *votes} <= metrics
    assert "f1_macro" not in metrics
    sets = evaluate((counts > 2).astype(int), logits, resamples=0, reading=Reading(scores="logit"))
    assert not votes & set(sets.results["metric"].to_pylist())
    with pytest.raises(InputError) as error:
        evaluate((counts > 2).astype(int), logits, metrics=["kl_votes"], reading=Reading(scores="logit"))
    assert str(error.value) == (
        "kl_votes cannot be computed: the labels have no shares of votes or probabilities (column p).\n"
        "  where:   model\n"
        "  do:      pass counts of votes, or labels from manyhot aggregate"
    )


COUNT = "A count of votes is not a whole number of at least 0.\n  where:   labels, image 0, class 1\n"
BAD = [
    (
        [[3, -1], [2, 2]],
        "counts",
        f"{COUNT}  got:     -1; 1 such cells\n  allowed: 0, 1, 2, …",
    ),
    (
        [[3, 1.5], [2, 2]],
        "counts",
        f"{COUNT}  got:     1.5; 1 such cells\n  allowed: 0, 1, 2, …\n"
        "  do:      divide weighted votes of each image by their sum, and pass `label_values`=shares",
    ),
    (
        [[3, np.nan], [2, 2]],
        "counts",
        f"{COUNT}  got:     nothing; 1 such cells\n  allowed: 0, 1, 2, …\n"
        "  do:      write 0 for classes without votes, or leave all cells of an image without votes empty",
    ),
    (
        [[0.5, 0.5], [0.9, 0.3]],
        "shares",
        "The shares of an image do not add up to 1.\n  where:   labels, image 1\n"
        "  got:     1.2; 1 of 2 images are affected\n  allowed: 1 ± 0.02\n"
        "  do:      if several classes can be valid together, pass `label_values`=p",
    ),
    (
        [[0.5, 0.5], [1.9, -0.9]],
        "shares",
        "A vote share is not between 0 and 1.\n  where:   labels, image 1, class 0\n"
        "  got:     1.9; 2 such cells\n  allowed: 0 to 1",
    ),
    (
        [[0.5, 2], [0.9, 0.3]],
        "p",
        "A probability is not between 0 and 1.\n  where:   labels, image 0, class 1\n"
        "  got:     2; 1 such cells\n  allowed: 0 to 1, or nothing",
    ),
    (
        [[0.5, 0.5], [0.9, 0.1]],
        None,
        "The labels are not a matrix of zeros and ones, and the meaning of their numbers is unclear.\n"
        "  where:   labels\n  got:     4 numbers other than 0, 1 and -1, such as 0.5\n"
        "  allowed: 0, 1 and -1; or counts of votes\n"
        "  do:      pass `label_values`: counts (each rater chose one class per image), yes-of-5 (5 "
        "raters answered yes or no to each class), shares or p; if the numbers count objects, write 1 in "
        "place of each number above 0; if they are scores, pass them as predictions",
    ),
    (
        [[0.5, 0.5]],
        "votes",
        "There is no such kind of label values.\n  where:   labels\n  got:     votes\n"
        "  allowed: states, counts, shares, p, yes-of-5 (or another number of raters)",
    ),
]


@pytest.mark.parametrize(("values", "kind", "message"), BAD)
def test_whole_messages(values, kind, message):
    with pytest.raises(InputError) as error:
        as_labels(np.array(values), label_values=kind)
    assert str(error.value) == message


def test_other_formats_have_no_values(tmp_path):
    (tmp_path / "l.csv").write_text("image_id,label\na,cat\n")
    with pytest.raises(InputError) as error:
        read_labels(tmp_path / "l.csv", label_values="counts", format="label-lists")
    assert str(error.value) == (
        f"The format 'label-lists' has no `label_values`.\n  where:   {tmp_path / 'l.csv'}\n"
        "  got:     label_values=counts\n"
        "  allowed: a table with one column of numbers per class, or an array"
    )
    with pytest.raises(InputError, match="applies only to a matrix of numbers"):
        as_labels([[0], [1]], n_classes=2, label_values="counts")


def flags_and_ids(n=40):
    """Two classes of zeros and ones, and numbers of products."""
    flags = np.random.default_rng(0).random((n, 2)) < 0.3
    return pd.DataFrame(flags.astype(int), columns=["red", "blue"]).assign(product_id=10**6 + np.arange(n))


def test_ids_beside_zeros_and_ones_are_no_counts(tmp_path, message):
    frame = flags_and_ids()
    assert message(lambda: as_labels(frame)) == (
        "The labels are not a matrix of zeros and ones, and the meaning of their numbers is unclear.\n"
        "  where:   labels\n"
        "  got:     40 numbers other than 0, 1 and -1, such as 1e+06\n"
        "  allowed: 0, 1 and -1; or counts of votes\n"
        "  do:      rename 'product_id' to image_id if it contains the ids of the images, or drop it"
    )
    frame.assign(image_id=[f"{i}.jpg" for i in range(40)]).to_csv(tmp_path / "l.csv", index=False)
    labels = read_labels(tmp_path / "l.csv")
    assert labels.class_list.keys == ("red", "blue")
    expected = [np.flatnonzero(row).tolist() for row in frame[["red", "blue"]].to_numpy()]
    assert labels.table["classes"].to_pylist() == expected
    assert any("product_id" in note for note in labels.notes)


def test_only_votes_for_several_classes_are_counts():
    votes = np.random.default_rng(0).multinomial(12, [0.5, 0.4, 0.1], size=40)
    votes[0] = [6, 6, 1]
    assert are_counts(votes.astype(float))
    assert not are_counts(np.column_stack([votes[:, 0] * 0 + 12, votes[:, 1:] > 4]).astype(float))
    assert not are_counts(np.column_stack([votes, 100 + np.arange(40)]).astype(float))


def flags_and_numbers(n, share=0.5):
    """Three classes, and a price and a stock whose sums are as similar as numbers of votes."""
    rng = np.random.default_rng(0)
    flags = (rng.random((n, 3)) < share).astype(int)
    return flags, np.column_stack([flags, rng.integers(25, 60, n), rng.integers(10, 40, n)])


def test_classes_beside_two_columns_of_numbers_are_no_votes(tmp_path):
    flags, values = flags_and_numbers(300)
    values[0, 3:] = 30  # a tie, as votes have and lists of top classes have not
    frame = pd.DataFrame(values, columns=["red", "blue", "sale", "price", "stock"])
    frame.assign(image=[f"{i}.jpg" for i in range(300)]).to_csv(tmp_path / "l.csv", index=False)
    labels = read_labels(tmp_path / "l.csv")
    assert labels.class_list.keys == ("red", "blue", "sale")
    assert labels.table["classes"].to_pylist() == [np.flatnonzero(row).tolist() for row in flags]
    assert not labels.exclusive
    assert any("not read as classes: price, stock" in note for note in labels.notes)
    with pytest.raises(InputError, match="the meaning of their numbers is unclear"):
        as_labels(frame)


def test_rare_ones_beside_larger_numbers_are_refused(tmp_path):
    """Classes with one vote at most, or rare labels beside a price and a stock: nobody can know."""
    flags, values = flags_and_numbers(300, share=0.03)
    values[0, 3:] = 30
    frame = pd.DataFrame(values, columns=["red", "blue", "sale", "price", "stock"])
    path = tmp_path / "l.csv"
    frame.assign(image=[f"{i}.jpg" for i in range(300)]).to_csv(path, index=False)
    np.save(tmp_path / "l.npy", values)
    for read in (
        lambda: read_labels(path),
        lambda: read_labels(tmp_path / "l.npy"),
        lambda: as_labels(frame),
    ):
        with pytest.raises(InputError, match=r"`label_values`: counts .* states if 0 and 1 are the labels"):
            read()
    assert read_labels(path, label_values="counts").exclusive
    labels = read_labels(path, label_values="states")
    assert labels.table["classes"].to_pylist() == [np.flatnonzero(row).tolist() for row in flags]


@pytest.mark.parametrize("seed", range(20))
def test_votes_with_rare_classes_are_not_taken_for_labels(seed):
    """Simulated choices of different numbers of raters are read or refused, never read as label sets."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.geomspace(1, 0.001, 20), 200)
    choices = np.array([rng.multinomial(rng.integers(10, 25), share) for share in shares]).astype(float)
    assert are_counts(choices)
    if (choices.max(axis=0) == 1).sum() < 3:
        assert are_counts(choices, "choices")
    else:
        with pytest.raises(InputError, match="larger numbers, which may be votes"):
            are_counts(choices, "choices")


def test_counts_of_animals_are_no_votes(tmp_path):
    # Some photographs show no animal, some 60: raters are about as many on each image.
    rng = np.random.default_rng(1)
    animals = (rng.random((100, 3)) < 0.5) * rng.integers(10, 60, (100, 3))
    assert not are_counts(animals.astype(float))
    with pytest.raises(
        InputError, match="if the numbers count objects, write 1 in place of each number above 0"
    ):
        as_labels(animals)
    path = tmp_path / "l.csv"
    pd.DataFrame(animals, columns=NAMES).assign(image=[f"{i}.jpg" for i in range(100)]).to_csv(
        path, index=False
    )
    with pytest.raises(InputError, match="if they count objects, write 1 in place of each number above 0"):
        read_labels(path)
    assert read_labels(path, label_values="counts").exclusive
    votes = np.array([[10, 10, 0], [20, 6, 4]])
    assert are_counts(votes.astype(float))
    assert not are_counts(np.vstack([votes, [61, 0, 0]]).astype(float))


def test_votes_may_differ_threefold_and_no_more():
    assert are_counts(np.array([[5.0, 5, 0], [16, 14, 0]]))
    assert not are_counts(np.array([[5.0, 5, 0], [16, 15, 0]]))


@pytest.mark.parametrize("first", [0, 1])
def test_a_column_of_row_numbers_is_named(first):
    votes = np.random.default_rng(0).multinomial(12, [0.5, 0.4, 0.1], size=20)
    frame = pd.DataFrame(votes, columns=NAMES).assign(product=first + np.arange(20))
    with pytest.raises(InputError, match="rename 'product' to image_id"):
        as_labels(frame)


def yes_of_raters(n=100, n_raters=5):
    """Return how many raters answered yes to each of 17 tags, on images with 10 to 30 such answers."""
    rng = np.random.default_rng(0)
    valid = rng.random((n, 17)) < np.r_[0.95, np.full(16, 0.12)]
    yes = rng.binomial(n_raters, np.where(valid, 0.9, 0.05))
    return yes[(yes.sum(1) >= 10) & (yes.sum(1) <= 30)]


def test_yes_answers_to_each_class_are_no_choices(tmp_path):
    yes, path = yes_of_raters(), tmp_path / "l.csv"
    assert not are_counts(yes.astype(float))
    names, ids = [f"tag{i}" for i in range(17)], [f"{i}.jpg" for i in range(len(yes))]
    frame = pd.DataFrame(yes, ids, names)
    frame.to_csv(path, index_label="image_name")
    np.save(tmp_path / "l.npy", yes)
    for read in (read_labels, lambda path: as_labels(frame)):
        with pytest.raises(InputError, match=r"yes-of-5 \(5 raters answered yes or no to each class\)"):
            read(path)
    expected = [[bool(v >= 3) for v in row] for row in yes.tolist()]  # of 5 raters, 3 are more than half
    labels = read_labels(path, label_values="yes-of-5")
    in_array = read_labels(tmp_path / "l.npy", label_values="yes-of-5")
    for table in (labels.table, in_array.table, as_labels(frame, label_values="yes-of-5").table):
        assert [[s == "yes" for s in row] for row in table["state"].to_pylist()] == expected
        assert np.array(table["p"].to_pylist()) == pytest.approx(yes / 5)
        assert {n for row in table["n_votes"].to_pylist() for n in row} == {5}
    assert not labels.exclusive
    for kind, said in (("yes-of-4", "not a count of raters who answered yes"), ("yes-of-0", "no such kind")):
        with pytest.raises(InputError, match=said):
            read_labels(path, label_values=kind)


def test_an_empty_cell_among_yes_answers_was_not_asked(tmp_path):
    (tmp_path / "l.csv").write_text("image,cat,dog\na,3,\nb,0,1\n")
    labels = read_labels(tmp_path / "l.csv", label_values="yes-of-3")
    assert labels.table["classes"].to_pylist() == [[0], [0, 1]]
    assert labels.table["state"].to_pylist() == [["yes"], ["no", "no"]]


def test_choices_of_different_numbers_of_raters_are_still_counts():
    # As in CIFAR-10H, where 47 to 63 people chose one class per image, and often all the same.
    rng = np.random.default_rng(3)
    shares = rng.dirichlet(np.full(10, 0.05), 500)
    choices = np.array([rng.multinomial(rng.integers(47, 64), share) for share in shares])
    assert are_counts(choices.astype(float))
