"""Slices that were requested are the first part of a report, and in sight."""

import re

import numpy as np
import pyarrow as pa
import pytest

from manyhot import evaluate
from manyhot.tables import Images
from manyhot.tables.array_inputs import as_labels


def page(out, **options):
    rng = np.random.default_rng(0)
    truth = rng.integers(4, size=(80, 2))
    labels = as_labels([sorted({*row}) for row in truth.tolist()], n_classes=4)
    images = Images(pa.table({"image_id": labels.image_id, "camera": ["north", "south"] * 40}))
    scores = rng.random((80, 4), np.float32) + np.eye(4)[truth[:, 0]]
    found = evaluate(labels, {"net": scores}, images=images, scores="logit", resamples=0, **options)
    found.write(out)
    text = (out / "report/index.html").read_text(encoding="utf-8")
    parts = re.findall(r'<section id="([\w-]+)" class="part"', text)
    (tag,) = re.findall(r'<(\w+)[^>]*>\s*(?:<summary>)?<h3 id="groups-[^>]*>By group of images', text)
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", text[text.index("By group of images") :], re.DOTALL)
    return parts, tag, re.sub("<[^>]+>", " ", rows[1])


@pytest.mark.parametrize("requested", ["camera", "camera=south"])
def test_requested_slices_come_first_and_are_in_sight(tmp_path, requested):
    parts, tag, first = page(tmp_path, slices=[requested])
    assert parts[0] == "groups"
    assert tag == "div"
    assert "camera" in first


def test_other_slices_are_folded(tmp_path):
    parts, tag, first = page(tmp_path)
    assert "groups" in parts[1:]
    assert tag == "details"
    assert "camera" not in first


def test_requested_slices_are_shown_even_if_their_values_cannot_be_compared(tmp_path):
    parts, tag, first = page(tmp_path, slices=["camera=south"], metrics=["map_macro"])
    assert parts[0] == "groups"
    assert tag == "div"
    assert "south" in first
    text = (tmp_path / "report/index.html").read_text(encoding="utf-8")
    assert "Each value is a mean over the classes of its group, which may differ between groups." in text
