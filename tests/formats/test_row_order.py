"""The rows of a table may be in any order: its content is the same."""

import csv
import itertools
import json

import numpy as np
import pytest

from manyhot import registry
from manyhot.classes import ClassList, class_list, class_list_of
from manyhot.formats import (
    read_golden,
    read_images,
    read_labels,
    read_objects,
    read_predictions,
    read_proposals,
    read_results,
    read_votes,
)

READERS = {
    "labels": read_labels,
    "predictions": read_predictions,
    "images": read_images,
    "votes": read_votes,
    "golden": read_golden,
    "proposals": read_proposals,
    "results": read_results,
    "objects": read_objects,
}


def shown(subject, *choices):
    value = [{"choice": choice, "answers": {}, "filters": {}} for choice in choices]
    return json.dumps([{"task": "T0", "value": value}]), json.dumps({subject: {"Filename": f"{subject}.JPG"}})


TABLES = {
    "open-images": [
        ("ImageID", "Source", "LabelName", "Confidence"),
        *(("b", "verification", "/m/1", 1), ("a", "verification", "/m/2", 0)),
        *(("b", "verification", "/m/2", 1), ("c", "machine", "/m/1", 0.9), ("a", "machine", "/m/1", 0.2)),
        *(("c", "crowd", "/m/2", 1), ("c", "verification", "/m/2", 0), ("a", "machine", "/m/3", 0.8)),
    ],
    "open-images (boxes)": [
        ("ImageID", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax"),
        *(("b", "/m/1", 1, 0, 1, 0, 1), ("a", "/m/2", 1, 0, 1, 0, 1), ("b", "/m/2", 1, 0, 1, 0, 1)),
        *(("a", "/m/3", 1, 0, 1, 0, 1), ("b", "/m/1", 1, 0, 0.5, 0, 0.5)),
    ],
    "label-lists": [
        ("image", "label"),
        *(("b", "cat"), ("a", "dog"), ("b", "dog"), ("c", "cat"), ("a", "elk"), ("d", "")),
    ],
    "labels-table": [
        ("image_id", "class_id", "state", "p", "usable"),
        *(("b", "cat", "yes", 0.9, True), ("a", "dog", "no", 0.1, True), ("b", "dog", "unclear", 0.5, True)),
        *(("a", "cat", "yes", 0.8, True), ("c", "dog", "yes", 0.7, False), ("d", "", "", "", True)),
    ],
    "predictions-table": [
        ("image_id", "class_id", "score", "logsumexp"),
        *(("b", "cat", 0.9, 2), ("a", "dog", 0.1, 1), ("b", "dog", 0.5, 2), ("a", "cat", 0.8, 1)),
    ],
    "prediction-lists": [
        ("image", "class", "score"),
        *(("b", "cat", 0.9), ("a", "dog", 0.1), ("b", "dog", 0.5), ("a", "cat", 0.8), ("c", "dog", 0.3)),
    ],
    "tag-lists": [
        ("image", "tags"),
        *(("b", "cat;dog"), ("a", "dog"), ("d", ""), ("c", "elk;cat")),
    ],
    "indicator": [("image", "cat", "dog"), ("b", 1, 0), ("a", "", -1), ("c", 0, 1)],
    "score-columns": [("image", "cat", "dog"), ("b", 0.1, 0.2), ("a", 0.3, 0.4), ("c", 0.5, 0.6)],
    "images-table": [("image_id", "label", "site"), ("b", "elk", 1), ("a", "cat", 2), ("c", "dog", 1)],
    "objects-table": [
        ("image_id", "class", "x1", "y1", "x2", "y2"),
        *(("b", "cat", 0, 0, 1, 1), ("a", "dog", 0, 0, 0.5, 1), ("b", "cat", 0, 0, 0.5, 0.5)),
    ],
    "votes-table": [
        ("image_id", "class_id", "rater_id", "answer"),
        *(("b", "cat", "ann", "yes"), ("a", "dog", "bob", "no"), ("b", "cat", "bob", "maybe")),
        *(("a", "dog", "ann", "yes"), ("b", "dog", "bob", "no")),
    ],
    "golden-table": [
        ("image_id", "class_id", "expert_id", "answer"),
        *(("b", "cat", "ann", "yes"), ("a", "dog", "bob", "no"), ("b", "cat", "bob", "maybe")),
    ],
    "crowd-kit": [
        ("task", "worker", "label"),
        *(("b:cat", "ann", "yes"), ("a:dog", "bob", "no"), ("b:cat", "bob", "no"), ("a:dog", "ann", "yes")),
    ],
    "choices": [
        ("image_id", "rater_id", "class_id", "answered_at"),
        *(("b", "ann", "cat", "2026-01-02T00:00:00Z"), ("a", "bob", "dog", "2026-01-01T00:00:00Z")),
        *(("b", "ann", "dog", "2026-01-01T00:00:00Z"), ("a", "ann", "elk", "2026-01-03T00:00:00Z")),
    ],
    "choices(several=True)": [
        ("image_id", "rater_id", "class_id"),
        *(("b", "ann", "cat"), ("a", "bob", "dog"), ("b", "ann", "dog"), ("a", "ann", ""), ("b", "bob", "")),
    ],
    "rater-columns": [("image_id", "ann", "bob"), ("b", "cat", "dog"), ("a", "elk", ""), ("c", "", "cat")],
    "rater-rows": [
        ("image_id", "rater_id", "cat", "dog"),
        *(("b", "ann", 1, 0), ("a", "bob", 0, ""), ("b", "bob", 0, 1), ("a", "ann", -1, 1)),
    ],
    "counts": [("image_id", "cat", "dog"), ("b", 3, 0), ("a", 1, 2), ("c", 0, 1)],
    "mechanical-turk": [
        ("HITId", "AssignmentId", "WorkerId", "AssignmentStatus", "Input.image", "Answer.animal.label"),
        *(("1", "1", "W1", "Approved", "b.jpg", "cat"), ("2", "2", "W2", "Approved", "a.jpg", "dog")),
        *(("1", "3", "W2", "Approved", "b.jpg", "dog"), ("2", "4", "W1", "Rejected", "a.jpg", "elk")),
    ],
    "zooniverse": [
        (
            *("classification_id", "user_name", "user_id", "workflow_id", "created_at"),
            *("annotations", "subject_data"),
        ),
        *(
            (number, user, "", 7, f"2024-02-01 0{number}:00:00 UTC", *shown(subject, *choices))
            for number, (user, subject, *choices) in enumerate(
                (
                    *(("ann", "9", "ELK", "DEER"), ("bob", "8", "WOLF"), ("bob", "9", "ELK")),
                    *(("ann", "8", "ELK"), ("ann", "8", "WOLF")),
                )
            )
        ),
    ],
    "proposals-table": [
        ("image_id", "class_id", "score", "n_models", "source"),
        *(("b", 1, 0.5, 2, "x"), ("a", 2, 0.4, 1, "x"), ("b", 0, 0.3, 1, "y"), ("a", 1, 0.9, 2, "y")),
    ],
    "results-table": [
        ("dataset", "model", "metric", "slice", "value", "lo", "hi", "n", "n_skipped"),
        *(("d", "x", "real1", "all", 0.5, 0.4, 0.6, 9, 1), ("d", "y", "real1", "all", 0.7, 0.6, 0.8, 9, 1)),
        *(("d", "x", "mla", "all", 0.3, 0.2, 0.4, 9, 1), ("d", "y", "mla", "all", 0.4, 0.3, 0.5, 9, 1)),
    ],
    "timm-inference": [
        ("filename", "index_0", "prob_0", "index_1", "prob_1"),
        *(("b.jpg", 1, 0.5, 7, 0.3), ("a.jpg", 2, 0.6, 9, 0.2), ("c.jpg", 999, 0.7, 0, 0.1)),
    ],
    "multilabel-csv": [
        (
            *("id", "original_label", "proposed_labels", "unclear_multi_labels", "wrong_multi_labels"),
            "is_problematic",
        ),
        *(("b", 1, "1, 2", "", "3", "False"), ("a", 2, "2", "7", "", "False"), ("c", 5, "", "", "5", "True")),
    ],
}
"""A header and rows, in which those of an image are not next to each other, if an image may have several."""


def test_each_reader_of_csv_is_tested():
    formats = {e.name: e.about["holds"] for e in registry.entries("format") if ".csv" in e.about["suffixes"]}
    tested = {name.partition(" ")[0].partition("(")[0] for name in TABLES}
    # The rows of a class list are numbered, and a row of published results is a model.
    assert {name for name, holds in formats.items() if holds not in ("classes", "results")} <= tested


@pytest.mark.parametrize("name", TABLES)
def test_any_order_of_the_rows_gives_the_same_content(tmp_path, name):
    header, *rows = TABLES[name]
    first = content(tmp_path, name, header, rows)
    assert first
    orders = list(itertools.permutations(range(len(rows))))
    for order in np.random.default_rng(0).permutation(len(orders))[:60]:
        shuffled = [rows[i] for i in orders[order]]
        assert content(tmp_path, name, header, shuffled) == first, shuffled


def content(folder, name, header, rows):
    """Return what a file contains, without the order of images and classes."""
    path = folder / "table.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    format = name.partition(" ")[0]
    entry = registry.get("format", format)
    return comparable(READERS[entry.about["holds"]](path, format=format), entry.about["holds"])


def comparable(found, holds):
    if holds == "golden":
        found, holds = found.experts, "votes"
    own = (
        getattr(found, "class_list", None) or class_list_of(getattr(found, "class_hash", "")) or class_list()
    )
    assert isinstance(own, ClassList)
    if holds == "votes":
        rows = found.to_table().to_pylist()
        return sorted((r["image_id"], own.keys[r["class_id"]], r["rater_id"], r["answer"]) for r in rows)
    if holds == "predictions":
        table = found.to_table().to_pylist()
        return {row.pop("image_id"): named(row, own) for row in table}
    if holds in ("labels", "images"):
        return {row.pop("image_id"): named(row, own) for row in found.table.to_pylist()}
    table = found if holds == "proposals" else found.table
    columns = set(table.column_names)
    rows = table.to_pylist()
    keys = found.keys if holds == "objects" else ()
    for row in rows:
        if "class_id" in columns and keys:
            row["class_id"] = keys[row["class_id"]]
    return sorted(rows, key=repr)


def named(row, own):
    """Return a row whose lists are values by class."""
    classes = row.pop("classes", None)
    if row.get("label") is not None:
        row["label"] = own.keys[row["label"]]
    if classes is not None:
        lists = [name for name, value in row.items() if isinstance(value, list)]
        values = zip(*(row.pop(name) for name in lists), strict=True) if lists else [()] * len(classes)
        row["by class"] = {own.keys[c]: v for c, v in zip(classes, values, strict=True)}
    return row
