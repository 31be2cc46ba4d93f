"""What a gallery takes from findings, of confidences that round, and when it is stopped."""

import json

import numpy as np
import pyarrow as pa
import pytest
from gallery_cases import images_table_of, one_class

from manyhot.report.gallery import make_gallery
from manyhot.report.gallery_files import WHOLE, write_gallery
from manyhot.tables import Images, Predictions

image = pytest.importorskip("PIL.Image")


def test_findings_of_no_model_are_of_all():
    ids = ["a.jpg", "b.jpg"]
    findings = pa.table(
        {"kind": ["fine-grained"], "image_id": ["b.jpg"], "model": pa.array([None], pa.string())}
    )
    models = [one_class(ids), Predictions(pa.array(ids), "other", np.zeros((2, 1), np.int32))]
    gallery = make_gallery(images_table_of(ids), None, models, findings=findings)
    assert [shot.kinds for shot in gallery.shots] == [("", ""), ("fine-grained", "fine-grained")]


def test_what_rounding_takes_above_1_is_drawn_as_1(tmp_path):
    scores = np.array([[1.00005]], np.float32)
    model = Predictions(pa.array(["a.jpg"]), "m", np.array([[0]]), scores, None, "probability", 2)
    write_gallery(make_gallery(images_table_of(["a.jpg"]), None, [model]), tmp_path / "g")
    text = (tmp_path / "g" / "data" / "index.js").read_text()
    assert json.loads(text.partition("(")[2][:-3])["sure"] == [[WHOLE]]


def test_when_it_is_stopped_no_further_photograph_is_written(tmp_path):
    image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    ids = [f"{i}" for i in range(2000)]
    images = Images(
        pa.table(
            {
                "image_id": ids,
                "uri": [str(tmp_path / "a.png")] * len(ids),
                "label": pa.array([0] * len(ids), pa.int32()),
            }
        )
    )

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_gallery(make_gallery(images, None, [one_class(ids)]), tmp_path / "g", progress=stop)
    assert len(list((tmp_path / "g" / "photos").iterdir())) < len(ids)
