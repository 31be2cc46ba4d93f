"""Models that list their images in orders of their own, or not all of them."""

import numpy as np
import pyarrow as pa

from manyhot import diagnose_errors
from manyhot.tables import Predictions
from manyhot.tables.array_inputs import as_labels


def test_models_whose_images_stand_in_another_order():
    labels = as_labels([[0], [1], [2], [0]], n_classes=3, label=[0, 1, 2, 0])
    ids, best = labels.image_id.to_pylist(), np.array([0, 2, 2, 1])

    def model(name, order):
        return Predictions(pa.array([ids[i] for i in order]), name, best[order][:, None], n_classes=3)

    found = diagnose_errors(labels, [model("a", [0, 1, 2, 3]), model("b", [3, 2, 1, 0]), model("c", [1, 0])])
    wrong = {}
    for row in found.table.select(["model", "image_id", "class_b"]).to_pylist():
        wrong.setdefault(row["model"], {})[row["image_id"]] = row["class_b"]
    assert wrong["a"] == wrong["b"] == {ids[1]: 2, ids[3]: 1}
    assert wrong["c"] == {ids[1]: 2}
    assert [(m.n, m.n_errors) for m in found.models] == [(4, 2), (4, 2), (2, 1)]
