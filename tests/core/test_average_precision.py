"""Average precision of boxes, against COCO's own tools, worked examples, and what weights mean."""

import numpy as np
import pytest
from faster_coco_eval import COCO, COCOeval_faster

from manyhot.core.detection import OVERLAPS, Boxes, box_average_precision, match, overlaps


def boxes(*rows, score=None, ignore=None):
    table = np.array(rows, float).reshape(-1, 4)
    label = np.zeros(len(table), int)
    if score is not None:
        return Boxes(table, label, np.array(score, float))
    return Boxes(table, label, None, np.zeros(len(table), bool) if ignore is None else np.array(ignore))


def precision(there, found, weights=None):
    return box_average_precision(match(there, found, 0), weights)


def test_a_worked_example():
    """Three objects; ranked right, wrong, right: precision 1 up to a recall of 1/3, then 2/3 up to 2/3."""
    there = [boxes((0, 0, 10, 10), (20, 0, 30, 10)), boxes((0, 0, 10, 10))]
    found = [
        boxes((0, 0, 10, 10), (20, 0, 30, 10), score=[0.9, 0.5]),
        boxes((50, 50, 60, 60), score=[0.7]),
    ]
    recalls = np.linspace(0, 1, 101)
    expected = np.where(recalls <= 1 / 3, 1, np.where(recalls <= 2 / 3, 2 / 3, 0)).mean()
    np.testing.assert_allclose(precision(there, found), [[expected] * 10])


def test_overlap_decides_at_which_thresholds_a_box_is_right():
    there, found = [boxes((0, 0, 10, 10))], [boxes((0, 0, 10, 7.2), score=[0.9])]
    assert overlaps(found[0].box, there[0].box, np.array([False]))[0, 0] == pytest.approx(0.72)
    assert precision(there, found)[0].tolist() == [1.0] * 5 + [0.0] * 5


def test_a_second_box_on_the_same_object_is_wrong_and_one_in_an_ignored_object_does_not_count():
    there = [boxes((0, 0, 10, 10), (20, 20, 40, 40), ignore=[False, True])]
    twice = [boxes((0, 0, 10, 10), (0, 0, 10, 10), (22, 22, 30, 30), score=[0.5, 0.9, 0.95])]
    matched = match(there, twice, 0)
    assert matched.objects.tolist() == [1]
    assert matched.right[0].tolist() == [False, True, False]
    assert matched.counts[0].tolist() == [False, True, True]
    assert precision(there, twice)[0, 0] == 1.0


def test_without_objects_it_is_not_known_and_without_boxes_it_is_0():
    assert np.isnan(precision([boxes()], [boxes((0, 0, 1, 1), score=[0.5])])).all()
    assert precision([boxes((0, 0, 1, 1))], [boxes(score=[])]).tolist() == [[0.0] * 10]


def random_images(seed, n=25, classes=3):
    rng = np.random.default_rng(seed)
    there, found = [], []
    for _ in range(n):
        k = rng.integers(0, 5)
        corner, size = rng.uniform(0, 60, (k, 2)), rng.uniform(10, 40, (k, 2))
        box, label = np.hstack([corner, corner + size]), rng.integers(0, classes, k)
        there.append(Boxes(box, label, None, rng.random(k) < 0.2))
        near = np.vstack([box, box, rng.uniform(0, 50, (3, 4)) + np.array([0, 0, 50, 50])])
        near = near + rng.normal(0, 3, near.shape)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        guessed = np.concatenate([label, label, rng.integers(0, classes, 3)])
        found.append(Boxes(near, guessed, rng.random(len(near)).round(2)))  # some scores are equal
    return there, found


def coco(there, found, classes=3):
    def told(box):
        x1, y1, x2, y2 = box.tolist()
        return {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}

    rows = [
        {"image_id": i, "category_id": int(c), "iscrowd": int(g), **told(b)}
        for i, x in enumerate(there)
        for b, c, g in zip(x.box, x.class_id, x.ignore, strict=True)
    ]
    known = COCO(
        {
            "images": [{"id": i, "width": 100, "height": 100} for i in range(len(there))],
            "categories": [{"id": c, "name": str(c)} for c in range(classes)],
            "annotations": [{"id": i + 1, **r} for i, r in enumerate(rows)],
        }
    )
    results = [
        {"image_id": i, "category_id": int(c), "score": float(s), **told(b)}
        for i, x in enumerate(found)
        for b, c, s in zip(x.box, x.class_id, x.score, strict=True)
    ]
    evaluated = COCOeval_faster(known, known.loadRes(results), "bbox", separate_eval=True)
    evaluated.evaluate()
    evaluated.accumulate()
    return evaluated.eval["precision"][:, :, :, 0, -1].mean(1)


@pytest.mark.parametrize("seed", range(5))
def test_it_is_that_of_coco(seed):
    there, found = random_images(seed)
    expected = coco(there, found)
    for c in range(3):
        own = box_average_precision(match(there, found, c))[0]
        np.testing.assert_allclose(own, expected[:, c], atol=1e-6)


def test_weights_drop_images_and_repeat_them():
    there, found = random_images(9)
    matched = match(there, found, 1)
    some = np.arange(len(there)) % 2
    rows = np.flatnonzero(some)
    fewer = match([there[i] for i in rows], [found[i] for i in rows], 1)
    np.testing.assert_allclose(box_average_precision(matched, [some]), box_average_precision(fewer))
    np.testing.assert_allclose(box_average_precision(matched, [some * 3]), box_average_precision(fewer))
    many = np.random.default_rng(0).integers(0, 3, (300, len(there)))
    one_by_one = np.concatenate([box_average_precision(matched, [row]) for row in many])
    np.testing.assert_array_equal(box_average_precision(matched, many), one_by_one)
    assert box_average_precision(matched).shape == (1, len(OVERLAPS))
