"""Whose errors findings are that name no model."""

import numpy as np
import pyarrow as pa

from gallery_cases import images_table_of, one_class
from manyhot.report.gallery import make_gallery
from manyhot.tables import Predictions


def test_findings_of_no_model_are_of_all():
    ids = ["a.jpg", "b.jpg"]
    findings = pa.table(
        {"kind": ["fine-grained"], "image_id": ["b.jpg"], "model": pa.array([None], pa.string())}
    )
    models = [one_class(ids), Predictions(pa.array(ids), "other", np.zeros((2, 1), np.int32))]
    gallery = make_gallery(images_table_of(ids), None, models, findings=[findings])
    assert [shot.kinds for shot in gallery.shots] == [("", ""), ("fine-grained", "fine-grained")]
