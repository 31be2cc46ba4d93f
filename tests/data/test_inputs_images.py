"""Original labels in one table, and the places of the photographs in another."""

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv

from manyhot.data.inputs import Reading, open_inputs, open_labels
from manyhot.errors import InputError
from manyhot.formats import read_labels_or_originals
from manyhot.tables.arrays import label_sets


@pytest.fixture
def files(tmp_path):
    labels = pa.table({"image_id": ["b.jpg", "a.jpg"], "label": ["dog", "cat"]})
    images = pa.table({"image_id": ["a.jpg", "b.jpg"], "uri": ["photos/a.jpg", "photos/b.jpg"]})
    for name, table in (("labels", labels), ("images", images)):
        csv.write_csv(table, tmp_path / f"{name}.csv")
    return tmp_path / "labels.csv", tmp_path / "images.csv"


def check_joined(source):
    images = source.images
    label = dict(zip(images.image_id.to_pylist(), images.label.to_pylist(), strict=True))
    names = source.classes.keys
    assert {name: names[c] for name, c in label.items()} == {"a.jpg": "cat", "b.jpg": "dog"}
    uris = dict(zip(images.image_id.to_pylist(), images.table["uri"].to_pylist(), strict=True))
    assert {name: uri.rpartition("/")[2] for name, uri in uris.items()} == {n: n for n in ("a.jpg", "b.jpg")}


def test_labels_alone(files):
    labels, images = files
    (source,) = open_labels(labels, reading=Reading(images=images))
    check_joined(source)


def test_labels_beside_predictions_in_memory(files):
    labels, images = files
    scores = np.array([[0.9, 0.1], [0.2, 0.8]])
    (source,) = open_inputs(labels, {"net": scores}, reading=Reading(images=images, scores="probability"))
    check_joined(source)


def test_original_labels_are_label_sets_that_nobody_rated(files):
    labels = read_labels_or_originals(files[0])
    names = dict(zip(labels.image_id.to_pylist(), label_sets(labels).label.tolist(), strict=True))
    assert {name: labels.class_list.keys[c] for name, c in names.items()} == {"a.jpg": "cat", "b.jpg": "dog"}
    assert labels.table["rated"].to_pylist() == [False, False]


def test_images_without_labels_are_refused_as_before(files):
    with pytest.raises(InputError, match="The file does not contain labels"):
        read_labels_or_originals(files[1])
