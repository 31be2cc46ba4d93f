"""Suspected label errors, against cleanlab's confident joint."""

import importlib.util

import numpy as np
import pytest

from manyhot.core.ensembles import Ensemble
from manyhot.core.top_classes import top_k
from manyhot.registry import get


@pytest.mark.parametrize("seed", range(4))
def test_the_same_images_as_cleanlab(require, seed):
    require(importlib.util.find_spec("cleanlab"), "cleanlab, which `make test` installs")
    from cleanlab.count import compute_confident_joint

    n, c = 600, 10
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, c, n)
    label = np.where(rng.random(n) < 0.85, truth, rng.integers(0, c, n)).astype(np.int32)
    p = np.exp(rng.normal(size=(n, c)) + 3 * np.eye(c)[truth])
    p /= p.sum(1, keepdims=True)
    joint, suspected = compute_confident_joint(
        label, p, calibrate=False, return_indices_of_off_diagonals=True
    )
    top = top_k(p.astype(np.float32), c)
    values = np.take_along_axis(p, top.astype(int), 1)
    pairs = get("proposer", "label-errors")(Ensemble(c, ("one",), (top,), (values,), (values,), label))
    assert len(pairs) > 20
    assert pairs.image.tolist() == sorted(int(i) for i in suspected)
    ours = np.zeros((c, c), int)
    np.add.at(ours, (label[pairs.image], pairs.class_id), 1)
    off = ~np.eye(c, dtype=bool)
    assert np.array_equal(ours[off], joint[off])
