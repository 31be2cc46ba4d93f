"""Recall beside companions: numbers by hand, planted dependence, and what is told where there is none."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import false_discovery_control, fisher_exact

from manyhot import Predictions, as_labels, diagnose_companions
from manyhot.core.model_pairs import holm
from manyhot.errors import InputError, MatchError
from manyhot.tables import check

CAT, SOFA, DOG = range(3)
C = 6
SETS = [[CAT, SOFA]] * 30 + [[CAT]] * 40 + [[SOFA]] * 20 + [[DOG]] * 10


def labels_of(sets, **options):
    return as_labels(sets, n_classes=C, **options)


def model(labels, best, name="net"):
    """Return a model that gives one class an image."""
    ids = labels.image_id
    return Predictions(ids, name, np.asarray(best)[:, None], n_classes=C)


def net(labels, found_with, found_without, name="net"):
    """Return a model that finds the cat in so many images with a sofa, and without."""
    best = np.full(100, 5)
    best[:found_with] = CAT
    best[30 : 30 + found_without] = CAT
    return model(labels, best, name)


def row_of(found, main=CAT, companion=SOFA, of=None):
    (row,) = [
        r for r in found.table.to_pylist() if (r["main"], r["companion"], r["model"]) == (main, companion, of)
    ]
    return row


def test_numbers_by_hand():
    labels = labels_of(SETS)
    found = diagnose_companions(labels, [net(labels, 30, 20, "a"), net(labels, 24, 20, "b")], k=1)
    check(found.table, "companions")
    mean, a, b = (row_of(found, of=of) for of in (None, "a", "b"))
    assert (mean["recall_with"], mean["recall_without"], mean["n_models"]) == (0.9, 0.5, 2)
    assert (a["recall_with"], b["recall_with"], b["difference"]) == (1.0, 0.8, pytest.approx(0.3))
    assert {r["n_with"] for r in (mean, a, b)} == {30}
    assert {r["n_without"] for r in (mean, a, b)} == {40}
    assert mean["lift"] == pytest.approx(100 * 30 / (70 * 50))
    assert mean["odds_ratio"] == pytest.approx(30.5 * 10.5 / (40.5 * 20.5))
    assert found.pairs == [(CAT, SOFA), (SOFA, CAT)]
    assert (row_of(found, SOFA, CAT)["recall_with"], row_of(found, SOFA, CAT)["n_without"]) == (0.0, 20)


def test_the_mean_over_models_is_no_surer_than_one_of_them():
    labels = labels_of(SETS)
    one = row_of(diagnose_companions(labels, net(labels, 24, 20), k=1))
    same = [net(labels, 24, 20, f"net {i}") for i in range(50)]
    many = row_of(diagnose_companions(labels, same, k=1))
    for column in ("difference", "lo", "hi", "p"):
        assert many[column] == pytest.approx(one[column])


def test_p_is_near_fishers_and_adjusted_by_holm():
    rng = np.random.default_rng(0)
    sets = [sorted({int(c) for c in rng.integers(0, C, 3)}) for _ in range(600)]
    labels = labels_of(sets)
    found = diagnose_companions(labels, model(labels, rng.integers(0, C, 600)), k=1)
    rows = [r for r in found.table.to_pylist() if r["model"] is None]
    assert len(rows) == C * (C - 1)
    for row in rows:
        n = np.array([row["n_with"], row["n_without"]])
        hits = np.rint(n * [row["recall_with"], row["recall_without"]]).astype(int)
        exact = fisher_exact(np.stack([hits, n - hits])).pvalue
        assert row["p"] <= exact * 1.1 + 0.01
    p, adjusted = (np.array([r[k] for r in rows]) for k in ("p", "p_adjusted"))
    assert adjusted == pytest.approx(holm(p))
    assert (adjusted >= false_discovery_control(p) - 1e-9).all()


def test_what_nobody_was_asked_about_is_not_without():
    """Ten of the forty images without a sofa were asked about it; of five it was unclear."""
    labels = labels_of(SETS)
    states = [dict.fromkeys(s, "yes") for s in SETS]
    for i in range(30, 40):
        states[i][SOFA] = "no"
    for i in range(40, 45):
        states[i][SOFA] = "unclear"
    table = labels.table
    for name, lists in (("classes", [[*s] for s in states]), ("state", [[*s.values()] for s in states])):
        column = pa.array(lists, table[name].type)
        table = table.set_column(table.column_names.index(name), name, column)
    asked = replace(labels, table=table, asked_known=True)
    given = net(labels, 30, 20)
    assert row_of(diagnose_companions(asked, given, k=1))["n_without"] == 10
    assert row_of(diagnose_companions(asked, given, k=1, unasked=True))["n_without"] == 35
    assert diagnose_companions(asked, given, k=1).notes == (
        "with k = 1, only one of two valid classes can be the top class, so a lower recall with the "
        "companion is to be expected",
    )
    assert diagnose_companions(labels, given, k=1).notes[0] == (
        "labels: only valid classes are recorded, so raters may not have been asked about a companion that "
        "is not listed"
    )


def test_only_images_labelled_as_the_class():
    label = [CAT if i % 3 else SOFA for i in range(30)] + [CAT] * 40 + [SOFA] * 20 + [DOG] * 10
    labels = labels_of(SETS, label=label)
    row = row_of(diagnose_companions(labels, net(labels, 30, 20), k=1, labelled=True))
    assert (row["n_with"], row["n_without"], row["both"]) == (20, 40, 30)


def test_sigmoids_find_what_is_probable():
    labels = labels_of(SETS)
    p = np.full((100, C), 0.1, np.float32)
    p[:15, CAT] = 0.5
    p[:, SOFA] = 0.9
    dense = Predictions(labels.image_id, "sigmoid", scores=p, score_kind="probability", n_classes=C)
    ranks = net(labels, 30, 20, "ranks")
    found = diagnose_companions(labels, [dense, ranks], probability=0.5)
    assert (row_of(found)["recall_with"], row_of(found)["n_models"]) == (0.5, 1)
    assert found.notes[-1] == "labels: models without probabilities of all classes are left out: ranks"
    with pytest.raises(InputError) as error:
        diagnose_companions(labels, ranks, probability=0.5)
    assert str(error.value) == (
        "No model has probabilities of all classes, which `probability` needs.\n"
        "  got:     ranks\n"
        "  allowed: probabilities or logits of all classes\n"
        "  do:      leave out `probability` to use the top k classes"
    )


def test_images_that_a_model_does_not_know_are_in_no_mean():
    labels = labels_of(SETS)
    whole, half = net(labels, 30, 20, "whole"), net(labels, 30, 20, "half")
    half = replace(half, image_id=half.image_id[10:], classes=half.classes[10:])
    found = diagnose_companions(labels, [whole, half], k=1)
    assert [row_of(found, of=of)["n_with"] for of in (None, "whole", "half")] == [20, 30, 20]
    assert found.notes[-1] == (
        "labels: 20 of 130 valid classes are left out of the means, because a model has no prediction for "
        "the image or predicts "
        "fewer than 1 classes"
    )
    shuffled = np.random.default_rng(0).permutation(100)
    other = Predictions(labels.image_id.take(shuffled), "net", whole.classes[shuffled], n_classes=C)
    assert row_of(diagnose_companions(labels, other, k=1)) == row_of(diagnose_companions(labels, whole, k=1))


def test_few_images_and_no_pairs():
    labels = labels_of(SETS)
    found = diagnose_companions(labels, net(labels, 30, 20), k=1, min_images=31)
    assert found.pairs == []
    assert {r["model"] for r in found.table.to_pylist()} == {None}
    assert {r["p_adjusted"] for r in found.table.to_pylist()} == {None}
    assert found.notes[-1] == (
        "labels: no two classes are both valid on at least 31 images; the highest number of images for any "
        "pair is 30"
    )
    alone = labels_of([[CAT]] * 100)
    found = diagnose_companions(alone, model(alone, [CAT] * 100), k=1)
    assert found.table.num_rows == 0
    assert found.notes[-1].endswith("the highest number of images for any pair is 0")


def refused(*given, **options):
    with pytest.raises((InputError, MatchError)) as error:
        diagnose_companions(*given, **options)
    return str(error.value)


@pytest.mark.parametrize(("n_classes", "k"), [(2, 1), (3, 2), (6, 5), (30, 5)])
def test_k_is_five_or_all_but_one_of_fewer_classes(n_classes, k):
    rng = np.random.default_rng(0)
    truth, scores = rng.random((40, n_classes)) < 0.6, rng.random((40, n_classes))
    found = diagnose_companions(truth, scores, min_images=1)
    np.testing.assert_equal(
        found.table.to_pylist(), diagnose_companions(truth, scores, k=k, min_images=1).table.to_pylist()
    )
    assert found.metadata["found"] == f"among the best {k}"


def test_what_cannot_be_asked():
    labels = labels_of(SETS)
    given = net(labels, 30, 20)
    assert refused(labels, given, k=6) == (
        "With this k, either every class is found or none is.\n  got:     6\n  allowed: 1 to 5"
    )
    said = "A class can only have a companion among other classes.\n  got:     1 class"
    assert refused(np.ones((4, 1)), np.ones((4, 1))) == said
    assert refused(labels, given, probability=1.5) == (
        "`probability` is out of range.\n  got:     1.5\n  allowed: above 0 to 1"
    )
    assert refused(labels, given, min_images=0) == (
        "`min_images` is out of range.\n  got:     0\n  allowed: 1 or more"
    )
    assert refused(labels, given, labelled=True) == (
        "The images have no original labels.\n"
        "  where:   labels\n"
        "  do:      pass a table with the column 'label' as `images`, or leave out `labelled`"
    )
    assert refused(labels, []) == (
        "No model has probabilities of all classes, which `probability` needs.\n"
        "  got:     no predictions\n"
        "  allowed: probabilities or logits of all classes\n"
        "  do:      leave out `probability` to use the top k classes"
    )
    assert refused(labels, [given, given], k=1).startswith("Two models have the same name.")


@pytest.mark.parametrize("link", ["", "sigmoid"])
def test_logits_of_independent_classes_become_sigmoids(link):
    """The recall is the share of logits above log(p / (1 - p)), however high the other logits are."""
    rng = np.random.default_rng(0)
    labels = labels_of(SETS)
    valid = np.array([[c in s for c in range(C)] for s in SETS])
    logits = (6 * (valid - 0.5) + rng.normal(0, 2, valid.shape)).astype(np.float32)
    net = Predictions(labels.image_id, "net", scores=logits, score_kind="logit", n_classes=C, link=link)
    for probability in (0.5, 0.8):
        found = diagnose_companions(labels, [net], probability=probability)
        reached = logits[:, CAT] >= np.log(probability / (1 - probability))
        row = row_of(found)
        assert (row["recall_with"], row["recall_without"]) == (reached[:30].mean(), reached[30:70].mean())
