"""Scores in the byte order of FITS and HDF5 files, which is not that of most computers."""

import numpy as np
import pytest

from manyhot import evaluate
from manyhot.data.inputs import Reading

COUNTS = Reading(scores="probability", label_values="counts")


@pytest.mark.parametrize("kind", [">f2", ">f4", ">f8", "<f4"])
@pytest.mark.parametrize("as_file", [False, True])
def test_scores_of_either_byte_order_are_read(tmp_path, kind, as_file):
    rng = np.random.default_rng(0)
    counts = rng.multinomial(41, [0.5, 0.4, 0.1], 200)
    scores = rng.dirichlet([1, 1, 1], 200).astype(kind)
    right = counts[np.arange(200), scores.astype(float).argmax(1)] == counts.max(1)
    given = scores
    reading = COUNTS
    if as_file:
        given = tmp_path / "net.npy"
        np.save(given, scores)
        reading = Reading(scores="probability", label_values="counts", rows=[str(i) for i in range(200)])
    found = evaluate(counts, given, resamples=0, reading=reading)
    assert found.value("real1") == pytest.approx(right.mean())
