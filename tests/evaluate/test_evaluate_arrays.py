import json
import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.metrics import average_precision_score, f1_score

from manyhot import Evaluator, aggregate, diagnose_errors, evaluate
from manyhot.data.inputs import Reading
from manyhot.errors import InputError


def message(make, kind=InputError):
    with pytest.raises(kind) as error:
        make()
    return str(error.value)


SETS = [[0], [1, 2], [], [3]]
SCORES = np.array([[3, 1, 0, 0], [0, 1, 2, 3], [1, 0, 0, 0], [0, 0, 0, 1]], np.float32)


def test_batches_give_what_the_whole_gives():
    evaluator = Evaluator(n_classes=4)
    for part in (slice(0, 1), slice(1, 3), slice(3, 4)):
        evaluator.update(SCORES[part], SETS[part], [0, 1, 2, -1][part])
    whole = evaluate(SETS, {"model": SCORES}, resamples=0, reading=Reading(label=[0, 1, 2, -1]))
    metrics = [m for m in evaluator.metrics if m != "top5"]
    batched = evaluator.compute()
    for metric in metrics:
        np.testing.assert_equal(batched.value(metric), whole.value(metric))
    assert batched.value("top1") == 1 / 3
    assert batched.value("real1") == 2 / 3


@pytest.mark.parametrize("metrics", [["lrap"], ["real1", "map_macro"]])
def test_dense_metrics_keep_the_scores(metrics):
    evaluator = Evaluator(n_classes=4, metrics=metrics)
    evaluator.update(SCORES[:2], SETS[:2])
    evaluator.update(SCORES[2:], SETS[2:])
    whole = evaluate(SETS, SCORES, metrics=metrics, resamples=0)
    assert [evaluator.compute().value(m) for m in metrics] == [whole.value(m) for m in metrics]


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
def test_tensors(kind):
    torch = pytest.importorskip("torch")
    evaluator = Evaluator(n_classes=4, metrics=["real1"])
    evaluator.update(
        torch.tensor(SCORES, dtype=getattr(torch, kind), requires_grad=True), torch.eye(4)[:4] > 0
    )
    assert evaluator.compute().value("real1") == 0.5


def test_reset_forgets():
    evaluator = Evaluator(n_classes=4)
    evaluator.update(SCORES, SETS)
    evaluator.reset()
    assert message(evaluator.compute) == (
        "There are no batches to compute results from.\n  do:      call update() with a batch first"
    )


def test_a_bad_batch_is_not_added():
    evaluator = Evaluator(n_classes=4, metrics=["real1"])
    evaluator.update(SCORES, SETS)
    with pytest.raises(InputError):
        evaluator.update(SCORES * np.nan, SETS)
    assert evaluator.compute().value("real1") == 2 / 3


def test_lengths_must_agree():
    assert message(lambda: evaluate(SETS, {"m": SCORES[:3]})) == (
        "Predictions and labels, which are matched by position, differ in length.\n"
        "  where:   m\n"
        "  got:     3 rows\n"
        "  allowed: 4\n"
        "  do:      pass tables with image ids to evaluate only some images"
    )
    assert message(lambda: evaluate(SETS, SCORES, reading=Reading(label=[0, 1]))) == (
        "Original labels and label sets differ in length.\n  got:     2\n  allowed: 4"
    )


def test_the_number_of_classes_comes_from_a_matrix():
    multi_hot = np.zeros((4, 7), int)
    multi_hot[range(4), range(4)] = 1
    assert evaluate(multi_hot, np.array([[0], [1], [5], [3]]), resamples=0).value("real1") == 0.75
    assert message(lambda: evaluate(SETS, np.array([[0]] * 4))) == (
        "The number of classes is unknown.\n  do:      pass n_classes"
    )


def test_a_number_that_is_not_there():
    found = evaluate(SETS, {"a": SCORES, "b": SCORES}, metrics=["real1"], resamples=0)
    assert message(lambda: found.value("real1")) == (
        "2 numbers match.\n"
        "  got:     metric=real1, slice=all\n"
        "  allowed: metric: real1; model: a, b; dataset: labels\n"
        "  do:      name the model and the data set"
    )
    assert message(lambda: found.value("reall", model="a")).startswith("No numbers match.\n")


def test_no_metric_is_not_the_usual_ones():
    assert message(lambda: evaluate(SETS, SCORES, metrics=[])) == (
        "No metric is selected.\n  do:      leave out `metrics` to use the default metrics"
    )


def test_notebook_shows_the_values():
    shown = evaluate(SETS, {"<b>": SCORES}, metrics=["real1"], resamples=0)._repr_html_()
    assert "real1" in shown
    assert "<b>" not in shown.replace("<b>", "", 0) or "&lt;b&gt;" in shown


def test_a_notebook_shows_the_blocks_that_a_terminal_prints():
    """Models of other images are apart, each with its n, above the same notes."""
    frame = pd.DataFrame(np.eye(4, dtype=np.float32), list("abcd"), list("wxyz"))
    models = {"all": frame, "some": frame.iloc[:3], "few": frame.iloc[1:3]}
    labels = pd.DataFrame({"image_id": list("abcd"), "tags": [[name] for name in "wxyz"]})
    found = evaluate(labels, models, metrics=["map_image"], resamples=0, reading=Reading(scores="none"))
    shown = found._repr_html_()
    text = re.sub(r"<[^>]+>", " ", shown)
    assert text.split() == " ".join(str(found).replace("Note: ", "").split()).replace("out.", "out").split()
    assert re.findall(r"images</td><td[^>]*>(\d)", shown) == ["4", "3", "2"]


def test_what_does_not_fit_32_bits_does_not_wrap_around():
    with pytest.raises(InputError):
        evaluate([[2**32]], [[0]], reading=Reading(n_classes=4))
    with pytest.raises(InputError):
        evaluate([[0]], np.array([[2**32]]), reading=Reading(n_classes=4))


def test_the_evaluator_looks_as_deep_as_its_metrics():
    scores = np.eye(40, dtype=np.float32)
    evaluator = Evaluator(n_classes=40, metrics=["precision@25"])
    evaluator.update(scores, [[i] for i in range(40)])
    assert evaluator.compute().value("precision@25") == pytest.approx(1 / 25)


def test_frames_and_series():
    pd = pytest.importorskip("pandas")
    found = evaluate(pd.Series([1, 0, 2, 3]), pd.DataFrame(SCORES), resamples=0, reading=Reading(n_classes=4))
    assert found.value("top1") == 0.25


def test_lists_of_different_lengths():
    assert message(lambda: evaluate([[0], [1]], [[0, 1], [1]], reading=Reading(n_classes=4))) == (
        "Lists of predictions with different lengths do not form an array.\n"
        "  where:   model\n"
        "  do:      pad short lists with -1"
    )


def test_one_metric_may_be_given_as_it_is_and_twice_is_once():
    found = evaluate(
        SETS, SCORES, metrics="real1", slices="class=1", resamples=0, reading=Reading(label=[0, 1, 2, 3])
    )
    assert found.to_polars().filter(slice="all")["metric"].to_list() == ["real1"]
    assert len(evaluate(SETS, SCORES, metrics=["real1", "real1"], resamples=0)) == len(
        evaluate(SETS, SCORES, metrics=["real1"], resamples=0)
    )


def test_negative_seed():
    assert message(lambda: evaluate(SETS, SCORES, seed=-1)) == (
        "`seed` is out of range.\n  got:     -1\n  allowed: 0 or more"
    )


@pytest.mark.parametrize("resamples", [1, 2])
def test_few_resamples(resamples):
    found = evaluate(SETS, {"a": SCORES, "b": -SCORES}, metrics=["real1"], resamples=resamples)
    assert found.pairs.num_rows == 1


def test_what_scores_are_is_said_and_not_guessed():
    """Of logits the softmax is the confidence; the same numbers are none, unless they are called so."""
    sets, label = [[0], [1]], [0, 1]
    logits = np.array([[2.0, 0.0], [3.0, 0.0]], np.float32)
    p = 1 / (1 + np.exp(-logits[:, 0].astype(float)))
    expected = ((p[0] - 1) ** 2 + p[1] ** 2) / 2
    told = evaluate(
        sets, logits, metrics=["brier"], resamples=0, reading=Reading(label=label, scores="logit")
    )
    assert told.value("brier") == pytest.approx(expected, abs=1e-6)
    assert message(lambda: evaluate(sets, logits, metrics=["brier"], reading=Reading(label=label))) == (
        "brier cannot be computed: the predictions are scores of unknown kind, without the probability of "
        "the top class.\n"
        "  where:   model\n"
        "  do:      declare their kind with `scores`"
    )
    evaluator = Evaluator(n_classes=2, metrics=["brier"], scores="logit")
    evaluator.update(logits[:1], sets[:1], label[:1])
    evaluator.update(logits[1:], sets[1:], label[1:])
    assert evaluator.compute().value("brier") == pytest.approx(expected, abs=1e-6)
    softmax = np.stack([p, 1 - p], axis=1).astype(np.float32)
    told = evaluate(
        sets, softmax, metrics=["brier"], resamples=0, reading=Reading(label=label, scores="probability")
    )
    assert told.value("brier") == pytest.approx(expected, abs=1e-6)
    assert message(
        lambda: evaluate(sets, logits, metrics=["brier"], reading=Reading(label=label, scores="probability"))
    ).startswith("A probability is not between 0 and 1.\n  where:   model, image 0\n  got:     2\n")
    assert message(lambda: evaluate(sets, logits, reading=Reading(label=label, scores="logits"))) == (
        "There is no such kind of scores.\n"
        "  where:   model\n"
        "  got:     logits\n"
        "  allowed: logit, probability, cosine, none"
    )


def test_errors_of_arrays_above_a_confidence():
    logits = np.array([[0.0, 3.0], [0.0, 1.0]], np.float32)  # 95 and 73 %
    found = diagnose_errors(
        [[0], [0]], logits, min_confidence=0.9, reading=Reading(label=[0, 0], scores="logit")
    )
    assert found.table["image_id"].to_pylist() == ["0"]
    assert found.table["confidence"].to_pylist() == pytest.approx([1 / (1 + np.exp(-3.0))], abs=1e-6)


def test_a_metric_that_does_not_fit_is_named_and_the_others_are_computed():
    rng = np.random.default_rng(0)
    hot = (rng.random((200, 4)) < 0.4).astype(int)
    sigmoids = 1 / (1 + np.exp(1.5 - 3 * hot - rng.normal(size=hot.shape)))  # whose sums are not 1
    options = {"resamples": 0, "reading": Reading(scores="probability")}
    found = evaluate(hot, {"net": sigmoids}, metrics=["nll_mass", "f1_micro"], **options)
    assert found.value("f1_micro") == pytest.approx(f1_score(hot, sigmoids >= 0.5, average="micro"))
    assert set(found.results["metric"].to_pylist()) == {"f1_micro"}
    assert any(
        "nll_mass left out: The probabilities of an image do not add up to 1" in n for n in found.notes
    )
    with pytest.raises(InputError, match="do not add up to 1"):
        evaluate(hot, {"net": sigmoids}, metrics=["nll_mass"], **options)


def test_one_class_has_no_ranking_of_classes_within_an_image():
    rng = np.random.default_rng(0)
    hot = (rng.random((200, 2)) < 0.4).astype(int)
    scores = (hot + rng.normal(size=hot.shape)).astype(np.float32)
    for n_classes in (1, 2):
        found = evaluate(hot[:, :n_classes], {"net": scores[:, :n_classes]}, resamples=0)
        metrics = set(found.results["metric"].to_pylist())
        assert "map_macro" in metrics
        assert ("map_image" in metrics) == (n_classes > 1)


def test_classes_that_nobody_chose_are_answered(tmp_path):
    """Choices of three raters: after aggregation, masked AP of decided images is scikit-learn's."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 6, 200)
    chosen = np.where(rng.random((200, 3)) < 0.25, rng.integers(0, 6, (200, 3)), label[:, None])
    table = {"image_id": [f"{i:03}" for i in range(200)]}
    table |= {f"ann{j}": [f"c{k}" for k in chosen[:, j]] for j in range(3)}
    pl.DataFrame(table).write_csv(tmp_path / "votes.csv")
    labels = aggregate(tmp_path / "votes.csv", method="vote-share").labels
    scores = rng.random((200, 6)) + np.eye(6)[label]
    metrics = ["real1_unasked", "map_macro(masked=True)"]
    frame = pd.DataFrame(scores, table["image_id"], [f"c{k}" for k in range(6)])
    found = evaluate(labels, {"net": frame}, scores="logit", metrics=metrics, resamples=0)
    valid = np.stack([(chosen == c).sum(1) for c in range(6)], 1) >= 2
    decided = valid.any(1)
    assert 0 < (~decided).sum() < 50
    expected = [average_precision_score(valid[decided, c], scores[decided, c]) for c in range(6)]
    assert found.value("real1_unasked") == 0
    assert found.value("map_macro(masked=True)") == pytest.approx(np.mean(expected), rel=1e-5)


def test_notes_say_how_many_images_short_lists_leave_out(tmp_path):
    """Lists that are cut at a score of 0.5, counted with plain loops."""
    rng, classes = np.random.default_rng(0), list("abcdef")
    valid = rng.random((200, 6)) < 0.4
    scores = 0.35 * valid + 0.65 * rng.random((200, 6))
    ids = [f"{i}.jpg" for i in range(200)]
    lists = {
        image: {c: float(s) for c, s in zip(classes, row, strict=True) if s >= 0.5}
        for image, row in zip(ids, scores, strict=True)
    }
    (tmp_path / "p.json").write_text(json.dumps(lists))
    labels = pd.DataFrame(valid.astype(int), ids, classes)
    about = {"scores": "probability", "resamples": 0}
    metrics = ["real1", "real5", "precision@k(k=2)", "variable_topk"]
    found = evaluate(labels, [tmp_path / "p.json"], metrics=metrics, **about)
    expected = {}
    for name in metrics:
        n = n_short = 0
        for image, row in zip(ids, valid, strict=True):
            depth = {"real1": 1, "real5": 5, "precision@k(k=2)": 2, "variable_topk": int(row.sum())}[name]
            if row.any():
                fits = max(len(lists[image]), 1) >= depth  # an empty list is wrong
                n, n_short = n + fits, n_short + (not fits)
        expected[name] = (n, n_short)
    assert expected.pop("real1")[1] == 0
    notes = [note for note in found.notes if "too few predicted classes" in note]
    assert len(notes) == len(expected)
    for name, (n, n_short) in expected.items():
        said = f"{name}: {n:,} of {n + n_short:,} images count, because the lists of the other {n_short:,} "
        assert any(said in note for note in notes), (said, notes)
    dense = evaluate(labels, pd.DataFrame(scores, ids, classes), metrics=metrics, **about)
    assert not any("too few" in note for note in dense.notes)
