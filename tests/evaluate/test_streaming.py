"""Evaluators that are merged, saved and sent: results do not depend on how images were divided."""

import copy
import io
import itertools
import pickle

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import label_ranking_average_precision_score

from manyhot import Evaluator, evaluate
from manyhot.errors import InputError, MatchError
from manyhot.evaluate.streaming import STATE_VERSION
from manyhot.tables import Labels
from manyhot.tables.frames import FramePart
from manyhot.tables.label_arrays import labels_as_table

RNG = np.random.default_rng(3)
N, C = 60, 5
HOT = RNG.random((N, C)) < 0.4
SCORES = (HOT + RNG.normal(size=(N, C))).astype(np.float32)
LABEL = RNG.integers(0, C, N)
METRICS = ["top1", "real1", "mla", "f1@3", "map_macro", "lrap"]


def made(rows=None, ids=None, *, metrics=METRICS, resamples=0, size=7):
    evaluator = Evaluator(n_classes=C, metrics=metrics, resamples=resamples)
    if rows is not None:
        add(evaluator, rows, ids, size)
    return evaluator


def add(evaluator, rows, ids=None, size=7):
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        names = None if ids is None else [ids[i] for i in part]
        evaluator.update(SCORES[part], HOT[part], LABEL[part], ids=names)


def numbers(evaluator):
    return evaluator.compute().results.drop_columns("model").to_pylist()


def message(make, kind=InputError):
    with pytest.raises(kind) as error:
        make()
    return str(error.value)


IDS = [f"{i}.jpg" for i in RNG.permutation(N)]


def test_values_are_those_of_all_images_and_of_scikit_learn():
    merged = made(np.arange(0, N, 2)) + made(np.arange(1, N, 2))
    whole = evaluate(HOT, SCORES, metrics=METRICS[1:], resamples=0)
    for metric in ("real1", "f1@3", "map_macro", "lrap"):
        assert merged.compute().value(metric) == pytest.approx(whole.value(metric), abs=1e-12)
    shown = HOT.any(1) & ~HOT.all(1)
    expected = label_ranking_average_precision_score(HOT[shown], SCORES[shown])
    assert merged.compute().value("lrap") == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("ids", [None, IDS])
def test_the_order_of_merging_changes_nothing_not_even_an_interval(ids):
    parts = [made(rows, ids, resamples=50) for rows in np.array_split(RNG.permutation(N), 3)]
    results = []
    for order in itertools.permutations(range(3)):
        merged = made(resamples=50)
        merged.merge(*(parts[i] for i in order))
        results.append(numbers(merged))
    one_by_one = parts[2] + (parts[0] + parts[1])
    np.testing.assert_equal(results, [results[0]] * 6)
    np.testing.assert_equal(numbers(one_by_one), results[0])


def test_with_ids_neither_batches_nor_processes_nor_padding_change_a_digit():
    alone = numbers(made(RNG.permutation(N), IDS, resamples=50, size=N))
    parts = [made(np.resize(RNG.permutation(N), N + 3), IDS, resamples=50), made([4, 4, 4, 9], IDS)]
    merged = parts[0] + parts[1]
    np.testing.assert_equal(numbers(merged), alone)
    assert merged.compute().notes[-1] == (
        "labels, model: 7 of 67 rows repeat an id, as in padded data, and were left out"
    )
    (chance,) = made(range(N), IDS).compute().notes
    assert chance.startswith("labels: a ranking at random has map_macro ")


def test_ids_may_be_numbers_in_a_tensor():
    torch = pytest.importorskip("torch")
    evaluator = made(metrics=["real1"])
    evaluator.update(SCORES[:3], HOT[:3], ids=torch.tensor([2, 0, 2]) * 0 + torch.arange(3))
    evaluator.update(SCORES[2:4], HOT[2:4], ids=[2, 3])
    assert evaluator.compute().results["n"][0].as_py() == HOT[:4].any(1).sum()


def test_one_of_two_predictions_of_an_image_is_used_and_said():
    other = SCORES[:2] + 1
    results = []
    for first, second in ((SCORES[:2], other), (other, SCORES[:2])):
        evaluator = Evaluator(n_classes=C, metrics=["lrap"])
        evaluator.update(first, HOT[:2], ids=["a", "b"])
        evaluator.update(second, HOT[:2], ids=["a", "b"])
        results.append((numbers(evaluator), evaluator.compute().notes))
    np.testing.assert_equal(*results)
    assert results[0][1] == (
        "labels: a ranking at random has lrap 66.0%",
        "labels, model: 2 of 4 rows repeat an id, as in padded data, and were left out; "
        "2 of the ids have several predictions, and one of them was used",
    )


def test_an_image_with_two_label_sets_is_refused():
    evaluator = made([0, 1, 2], IDS)
    evaluator.update(SCORES[:2], ~HOT[:2], LABEL[:2], ids=IDS[:2])
    assert message(evaluator.compute, MatchError) == (
        "An image was added with different labels.\n"
        f"  got:     2 such images, for example {', '.join(sorted(IDS[:2]))}\n"
        "  allowed: the same labels whenever an id is added\n"
        "  do:      check that ids are unique in the data set"
    )


def test_the_order_of_classes_in_a_list_is_no_other_label_set():
    evaluator = Evaluator(n_classes=C, metrics=["real1"])
    evaluator.update(SCORES[:1], [[1, 2]], ids=["a"])
    evaluator.update(SCORES[:1], [[2, 1]], ids=["a"])
    assert evaluator.compute().results["n"][0].as_py() == 1


def test_merging_leaves_the_others_as_they_are():
    one, other = made(range(10)), made(range(10, 20))
    before = numbers(one), numbers(other)
    both = one + other
    assert both.compute().results["n"][0].as_py() == 20
    np.testing.assert_equal((numbers(one), numbers(other)), before)
    one.merge(other)
    np.testing.assert_equal(numbers(one), numbers(both))
    np.testing.assert_equal(numbers(other), before[1])


def test_an_evaluator_without_batches_adds_nothing():
    whole = numbers(made(range(N), IDS))
    np.testing.assert_equal(numbers(made() + made(range(N), IDS)), whole)
    np.testing.assert_equal(numbers(sum([made(range(N), IDS), made()], made())), whole)
    with pytest.raises(TypeError):
        made() + 1


@pytest.mark.parametrize(
    ("settings", "where", "got", "allowed"),
    [
        ({"n_classes": 6}, "n_classes", "6", "5"),
        ({"metrics": ["real1", "mla"]}, "metrics", "real1, mla", "real1"),
        ({"scores": "logit"}, "scores", "logit", "score"),
    ],
)
def test_settings_must_agree(settings, where, got, allowed):
    one = Evaluator(**{"n_classes": C, "metrics": ["real1"]})
    other = Evaluator(**{"n_classes": C, "metrics": ["real1"], **settings})
    expected = (
        f"  where:   {where}\n"
        f"  got:     {got}\n"
        f"  allowed: {allowed}\n"
        "  do:      create all evaluators with the same classes, metrics and scores"
    )
    assert message(lambda: one + other) == (
        f"Evaluators with different settings cannot be merged.\n{expected}"
    )
    assert message(lambda: one.load_state_dict(other.state_dict())) == (
        f"The state belongs to an evaluator with different settings.\n{expected}"
    )


def test_ids_for_all_or_for_none():
    evaluator = made(range(5), IDS)
    assert message(lambda: add(evaluator, [5])) == (
        "Some images have ids, and others do not.\n"
        "  where:   this batch\n"
        "  got:     no ids\n"
        "  allowed: ids, as in earlier batches\n"
        "  do:      pass `ids` with all batches or with none"
    )
    other = made(range(5))
    before = numbers(other)
    assert "where:   evaluator 1\n  got:     ids\n  allowed: no ids" in message(
        lambda: other.merge(evaluator)
    )
    np.testing.assert_equal(numbers(other), before)


def test_ids_must_be_as_many_as_images():
    assert message(lambda: made().update(SCORES[:3], HOT[:3], ids=["a", "b"])) == (
        "Images and their ids differ in number.\n"
        "  got:     2 ids\n"
        "  allowed: 3, one for each image of the batch"
    )


def test_ids_order_the_rows_of_frames():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(SCORES[:4], index=list("abcd"))
    evaluator = Evaluator(n_classes=C, metrics=["lrap"])
    evaluator.update(frame.loc[list("dbca")], HOT[:4], ids=list("abcd"))
    whole = evaluate(HOT[:4], SCORES[:4], metrics=["lrap"], resamples=0)
    assert evaluator.compute().value("lrap") == whole.value("lrap")
    with pytest.raises(MatchError):
        evaluator.update(frame, HOT[:4], ids=list("abce"))


def test_columns_of_merged_frames_must_agree():
    pd = pytest.importorskip("pandas")
    evaluators = [Evaluator(n_classes=3, metrics=["real1"]) for _ in range(2)]
    for evaluator, names in zip(evaluators, ("abc", "bac"), strict=True):
        evaluator.update(pd.DataFrame(SCORES[:2, :3], columns=list(names)), [[0], [1]])
    assert message(lambda: evaluators[0] + evaluators[1], MatchError) == (
        "The columns do not match the class list.\n"
        "  where:   evaluator 1\n"
        "  got:     b, a, c\n"
        "  allowed: a, b, c\n"
        "  do:      give the frames of all batches the same columns in the same order, or pass `classes`"
    )


def test_scores_and_classes_are_not_mixed():
    evaluator = made([0, 1])
    assert message(lambda: evaluator.update(np.array([[0, 1]]), [[0]])) == (
        "Some predictions are scores, and others are classes.\n"
        "  where:   this batch\n"
        "  got:     classes, best first\n"
        "  allowed: scores\n"
        "  do:      pass scores over all classes with all batches"
    )


def asked(evaluator):
    """Batches of a labels table that records what was asked, with probabilities."""
    table = labels_as_table(FramePart([[0, 1], [2]], "labels"), FramePart([0, 2], "label"), C).table
    table = table.append_column("p", pa.array([[0.5, 0.9], [1.0]], pa.list_(pa.float32())))
    states = pa.array([["no", "yes"], ["yes"]])
    at = table.column_names.index("state")
    labels = Labels(table.set_column(at, "state", states), C, asked_known=True)
    evaluator.update(SCORES[:2], labels)
    return evaluator


@pytest.mark.parametrize(
    ("metrics", "fill"),
    [
        (METRICS, lambda e: add(e, range(N))),
        (["real1"], lambda e: add(e, [*range(N), 3, 4], IDS)),
        (["top1", "mla"], lambda e: e.merge(made(range(9), metrics=["top1", "mla"]))),
        (METRICS, lambda e: None),
        (["real1", "real1_unasked", "preferred_errors"], asked),
    ],
)
def test_states_survive_pickling_saving_and_copying(metrics, fill):
    evaluator = Evaluator(n_classes=C, metrics=metrics)
    fill(evaluator)
    states = [evaluator.state_dict(), pickle.loads(pickle.dumps(evaluator.state_dict()))]
    torch = pytest.importorskip("torch")
    file = io.BytesIO()
    torch.save(evaluator.state_dict(), file)
    file.seek(0)
    states.append(torch.load(file, weights_only=True))
    for state in states:
        again = Evaluator(n_classes=C, metrics=metrics)
        again.load_state_dict(state)
        assert again.state_dict() == evaluator.state_dict()
        if state["images"]:
            np.testing.assert_equal(numbers(again), numbers(evaluator))
    pickled = pickle.loads(pickle.dumps(evaluator))
    assert pickled.state_dict() == copy.deepcopy(evaluator).state_dict() == evaluator.state_dict()


def test_what_raters_were_asked_is_kept():
    assert asked(Evaluator(n_classes=C, metrics=["real1_unasked"])).compute().value("real1_unasked") == (
        evaluate(
            asked(Evaluator(n_classes=C))._tables(asked(Evaluator(n_classes=C))._images)[0],
            SCORES[:2],
            metrics=["real1_unasked"],
            resamples=0,
        ).value("real1_unasked")
    )


def test_loading_replaces_the_images_and_the_loaded_go_on():
    evaluator = made(range(30), IDS)
    evaluator.load_state_dict(made(range(20), IDS).state_dict())
    add(evaluator, range(20, N), IDS)
    np.testing.assert_equal(numbers(evaluator), numbers(made(range(N), IDS)))
    evaluator.load_state_dict(made().state_dict())
    assert message(evaluator.compute).startswith("There are no batches")


def test_states_that_are_none():
    good = made(range(5)).state_dict()
    own = "version, n_classes, classes, metrics, scores, images"
    for state, got in (
        (7, "int"),
        ({}, ""),
        ({**good, "more": 1}, f"{own}, more"),
    ):
        assert message(lambda state=state: made().load_state_dict(state)) == (
            "This is not the state of an evaluator.\n"
            f"  got:     {got}\n"
            f"  allowed: {own}\n"
            "  do:      pass what Evaluator.state_dict() returned"
        )
    assert message(lambda: made().load_state_dict({**good, "version": 2})) == (
        "The state was written by another version of manyhot.\n"
        "  got:     version 2\n"
        f"  allowed: version {STATE_VERSION}"
    )


def test_damaged_states_change_nothing():
    evaluator, images = made(range(3)), made(range(5)).state_dict()["images"]
    before = numbers(evaluator)
    for data in (b"x", images[:-40], images[: len(images) // 2], b"\0" * 64, "text", 3):
        with pytest.raises(InputError, match="state of an evaluator is damaged"):
            evaluator.load_state_dict({**evaluator.state_dict(), "images": data})
    few = Evaluator(n_classes=C, metrics=METRICS)
    few.update(SCORES[:2], [[0], [4]])
    narrow = {**few.state_dict(), "n_classes": 3}
    with pytest.raises(InputError):  # a class out of range
        Evaluator(n_classes=3, metrics=METRICS).load_state_dict(narrow)
    np.testing.assert_equal(numbers(evaluator), before)


def test_flipped_bytes_are_refused_or_read_as_something_valid():
    images = made(range(5), metrics=["real1"]).state_dict()["images"]
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(images), 200):
        data = bytearray(images)
        data[at] ^= int(rng.integers(1, 256))
        evaluator = Evaluator(n_classes=C, metrics=["real1"])
        try:
            evaluator.load_state_dict({**evaluator.state_dict(), "images": bytes(data)})
        except InputError:
            continue
        evaluator.compute()


@pytest.mark.parametrize(
    ("metrics", "scores", "what"),
    [
        (
            ["f1_macro", "map_macro"],
            None,
            "f1_macro cannot be computed: the predictions are scores of unknown kind",
        ),
        (["ece"], None, "ece cannot be computed: the predictions are scores of unknown kind"),
        (["map_macro", "f1_macro"], "logit", None),
        (["map_macro", "real1", "f1_macro(link='identity', threshold=0.5)"], None, None),
    ],
)
def test_scores_of_the_wrong_kind_are_refused_in_the_first_batch(metrics, scores, what):
    """An epoch is not evaluated in vain; metrics that depend on the labels wait for all batches."""
    evaluator = Evaluator(n_classes=3, metrics=metrics, scores=scores)
    rows = np.array([[2.0, -1.0, 0.5], [0.1, 3.0, -2.0]])
    if what is None:
        evaluator.update(rows, [[0], [1, 2]])
        assert len(evaluator.compute().results)
        return
    with pytest.raises(InputError, match=what):
        evaluator.update(rows, [[0], [1, 2]])
    with pytest.raises(InputError, match="no batches"):
        evaluator.compute()


def test_lists_of_classes_are_refused_for_metrics_of_scores_in_the_first_batch():
    evaluator = Evaluator(n_classes=3, metrics=["real1", "lrap"])
    with pytest.raises(InputError, match="lrap cannot be computed: the predictions are ranks"):
        evaluator.update(np.array([[0, 1], [1, 2]]), [[0], [1, 2]])


def votes_of_one_class():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(C, 0.3), N)
    counts = np.array([rng.multinomial(50, p) for p in shares])
    return counts, 0.7 * shares + 0.3 * rng.dirichlet(np.ones(C), N)


@pytest.mark.parametrize("kind", ["counts", "shares"])
def test_votes_for_one_class_per_image_are_one_distribution(kind):
    counts, scores = votes_of_one_class()
    shares = counts / 50
    evaluator = Evaluator(
        n_classes=C, metrics=["kl_votes", "brier_votes"], scores="probability", label_values=kind
    )
    matrix = counts if kind == "counts" else shares
    for start in range(0, N, 20):
        evaluator.update(scores[start : start + 20], matrix[start : start + 20])
    state = evaluator.state_dict()
    evaluator.load_state_dict(state)
    found = evaluator.compute()
    kl = (shares * np.log(np.where(shares > 0, shares, 1) / scores)).sum(1).mean()
    assert found.value("kl_votes") == pytest.approx(kl, rel=1e-5)
    brier = (shares * ((np.eye(C)[None] - scores[:, None]) ** 2).sum(-1)).sum(1).mean()
    assert found.value("brier_votes") == pytest.approx(brier, rel=1e-5)


def test_votes_for_one_class_beside_sets_are_refused():
    counts, scores = votes_of_one_class()
    evaluator = Evaluator(n_classes=C, metrics=["real1"], scores="probability")
    evaluator.update(scores, counts)
    with pytest.raises(InputError, match="Some labels are votes for one class per image"):
        evaluator.update(scores, np.eye(C, dtype=int)[LABEL])
