"""The images on which a class is ranked worst, against a plain loop over all images."""

import numpy as np
import pytest

from manyhot.core.difficulty import extreme_images
from manyhot.core.sets import NO, UNCLEAR, YES, Case, LabelSets


@pytest.mark.parametrize("n", [1, 4, 100])
def test_equal_to_a_loop(n):
    rng = np.random.default_rng(1)
    images, c = 60, 3
    state = rng.choice([NO, UNCLEAR, YES, 255], size=(images, c))  # 255: not asked
    asked = [np.flatnonzero(row != 255) for row in state]
    sets = LabelSets(
        c,
        np.cumsum([0, *map(len, asked)]),
        np.concatenate(asked).astype(np.int32),
        np.concatenate([row[ids] for row, ids in zip(state, asked, strict=True)]).astype(np.uint8),
        np.full(images, -1, np.int32),
        rng.random(images) < 0.8,
    )
    scores = rng.integers(0, 9, (images, c)).astype(np.float16)
    case = Case.from_scores(sets, scores, k=c)
    for class_id in range(c):
        usable = [i for i in range(images) if sets.usable[i]]
        without = [i for i in usable if state[i, class_id] in (NO, 255)]
        valid = [i for i in usable if state[i, class_id] == YES]
        wrong, missed = extreme_images(case, class_id, n)
        assert wrong.tolist() == sorted(without, key=lambda i: -scores[i, class_id])[:n]
        assert missed.tolist() == sorted(valid, key=lambda i: scores[i, class_id])[:n]
