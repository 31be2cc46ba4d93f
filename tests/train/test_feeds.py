"""Features as batches: each image once in an epoch, whole, as it is or mirrored."""

import numpy as np
import torch

from manyhot.train.feeds import FeatureFeed
from manyhot.train.order import BatchPlan


def test_features_come_once_an_epoch_with_their_rows_and_whole_images():
    features = np.arange(20, dtype=np.float32).reshape(10, 2, 1)  # of image i: 2 i, and mirrored 2 i + 1
    rows, at = np.arange(10) * 10, np.array([0, 2, 3, 4, 6, 7, 8, 9])
    feed = FeatureFeed(features, rows, at, BatchPlan(batch=4, lanes=1, seed=0, n=8), "cpu")
    epochs = [list(feed.epoch(epoch, 0)) for epoch in range(3)]
    for fed in epochs:
        assert sorted(torch.cat([f.batch.rows for f in fed]).tolist()) == rows[at].tolist()
        for f in fed:
            torch.testing.assert_close(f.x[:, 0], f.batch.rows / 5 + f.batch.mirrored)
            torch.testing.assert_close(f.batch.boxes, torch.tensor([[0.0, 0.0, 1.0, 1.0]] * 4))
            assert f.mix is None
    assert len({tuple(torch.cat([f.batch.rows for f in fed]).tolist()) for fed in epochs}) == 3
    assert {bool(m) for fed in epochs for f in fed for m in f.batch.mirrored} == {False, True}
    (last,) = feed.epoch(2, 1)  # resumed
    torch.testing.assert_close(last.x, epochs[2][1].x)
