"""Where the original label stands among a model's classes."""

import numpy as np
import pyarrow as pa
import pytest

from gallery_cases import FIRST, IDS, LABEL, images_table, model
from manyhot.report.gallery import make_gallery
from manyhot.report.gallery_labels import LabelPlace, label_places
from manyhot.tables import Images, Predictions

RNG = np.random.default_rng(7)


def images(n, label=None):
    label = [0] * n if label is None else label
    return Images(pa.table({"image_id": [str(i) for i in range(n)], "label": pa.array(label, pa.int32())}))


def test_the_rank_in_scores_of_all_classes_is_that_of_sorting_them():
    n, n_classes = 5000, 30
    scores = RNG.integers(0, 12, (n, n_classes)).astype(np.float32)  # many are equal
    label = RNG.integers(0, n_classes, n).tolist()
    shown = images(n, label)
    rows = RNG.permutation(n)
    ids = pa.array([str(i) for i in rows])
    places = label_places(shown, label, Predictions(ids, "m", None, scores[rows], None, "logit", n_classes))
    for i in range(n):
        order = sorted(range(n_classes), key=lambda c: (-scores[i, c], c))
        share = np.exp(scores[i, label[i]].astype(float)) / np.exp(scores[i].astype(float)).sum()
        assert (places[i].rank, places[i].n_listed) == (order.index(label[i]) + 1, n_classes)
        assert places[i].confidence == pytest.approx(share, rel=1e-4)


def test_the_rank_in_a_list():
    classes = np.array([[3, 1, 2], [1, 3, -1], [2, 1, 0], [-1, -1, -1], [1, 2, 3]])
    scores = np.array([[0.5, 0.3, 0.1]] * 5, np.float32)
    ids = pa.array([str(i) for i in range(5)])
    label = [2, 2, None, 1, 1]
    given = Predictions(ids, "m", classes, scores, None, "probability", 4)
    assert label_places(images(6, [*label, 1]), [*label, 1], given) == [
        LabelPlace(3, 3, pytest.approx(0.1)),
        LabelPlace(None, 2, None),
        None,
        None,
        LabelPlace(1, 3, pytest.approx(0.5)),
        None,
    ]


def test_a_label_that_is_no_class_of_the_model_has_no_rank():
    scores = np.array([[1.0, 2.0, 0.0]], np.float32)
    given = Predictions(pa.array(["0"]), "m", None, scores, None, "none", 3)
    assert label_places(images(1, [3]), [3], given) == [LabelPlace(None, 3, None)]


def test_a_list_without_scores_tells_the_rank_alone():
    (place,) = label_places(images(1, [2]), [2], Predictions(pa.array(["0"]), "m", np.array([[1, 2]])))
    assert place == LabelPlace(2, 2, None)


def test_the_label_has_a_row_and_images_where_no_model_predicts_it():
    gallery = make_gallery(images_table(IDS), None, [model("first", FIRST)])
    shot = gallery.shots[1]  # labelled cat, which is not among dog and the two classes after it
    assert 0 not in [c for c, _ in shot.seen[0]]
    assert shot.label_places == (LabelPlace(None, 3, None),)
    assert set(shot.states) == {0, 1, 2, 3}
    assert set(shot.similar[0]) == {i for i, c in enumerate(LABEL) if c == 0 and i != 1}
