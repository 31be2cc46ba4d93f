"""Predictions whose rows or columns are in a wrong order: propose and audit treat them as `evaluate` does."""

import numpy as np
import pandas as pd
import pytest

import manyhot as mh
from manyhot.errors import OrderError

N, CLASSES = 300, list("abcde")
RNG = np.random.default_rng(0)
HOT = RNG.random((N, len(CLASSES))) < [0.5, 0.4, 0.3, 0.2, 0.1]
SCORES = 1 / (1 + np.exp(2 - 3 * HOT - RNG.normal(size=HOT.shape)))
FRAME = pd.DataFrame(HOT.astype(int), [f"{i:03}.jpg" for i in range(N)], CLASSES)


@pytest.fixture(params=["propose", "audit"])
def notes(request, tmp_path):
    """Return a function that returns the notes of a command on these scores."""

    def run(scores, labels=FRAME, **options):
        given = {"reading": mh.Reading(scores="probability", **options)}
        if request.param == "audit":
            given |= {"size": 50, "seed": 1, "out": tmp_path / "audit"}
        return " / ".join(getattr(mh, request.param)(labels, {"net": scores}, **given).notes)

    return run


def test_columns_in_reverse_order_are_refused(notes):
    with pytest.raises(OrderError, match="the likely cause is columns of scores in the reverse order"):
        notes(SCORES[:, ::-1])


def test_columns_in_reverse_order_are_used_if_trusted(notes):
    assert "random order" not in notes(SCORES[:, ::-1], trust_order=True)


def test_rows_in_reverse_order_are_noted(notes):
    assert "net: the scores are no more closely related to the labels than if the images" in notes(
        SCORES[::-1]
    )


def test_the_right_order_is_not_noted(notes):
    assert "random order" not in notes(SCORES)


def test_proposals_are_checked_by_known_labels(tmp_path):
    """Images without labels of their own."""
    images = pd.DataFrame({"image_id": FRAME.index})
    images.to_csv(tmp_path / "images.csv", index=False)
    FRAME.rename_axis("image_id").reset_index().to_csv(tmp_path / "known.csv", index=False)
    np.save(tmp_path / "net.npy", SCORES)
    np.save(tmp_path / "wrong.npy", SCORES[:, ::-1])
    reading = mh.Reading(scores="probability", rows=tmp_path / "images.csv", classes=CLASSES)
    given = {"known_labels": tmp_path / "known.csv", "reading": reading}
    assert len(mh.propose(tmp_path / "images.csv", tmp_path / "net.npy", **given).table)
    with pytest.raises(OrderError, match="reverse order"):
        mh.propose(tmp_path / "images.csv", tmp_path / "wrong.npy", **given)
    assert len(mh.propose(tmp_path / "images.csv", tmp_path / "wrong.npy", reading=reading).table)
