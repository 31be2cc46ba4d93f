"""Small tables for a report, and a parser to look at its page with."""

import json
import math
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa

from manyhot.tables import Labels, Predictions, schema
from manyhot.tables.definitions import TABLES

VOID = {"meta", "link", "input", "img", "hr", "br"}
MODELS = ("timm/resnet50", "my/model", "vgg16", "alexnet", "squeezenet")
SIZES = ("n_labels=1", "n_labels=2", "n_labels=3", "n_labels>=4")


class Node:
    """An element of a page."""

    def __init__(self, tag, attributes, parent):
        self.tag, self.attributes, self.parent, self.children = tag, attributes, parent, []

    def __getitem__(self, name):
        return self.attributes[name]

    @property
    def classes(self):
        return (self.attributes.get("class") or "").split()

    @property
    def text(self):
        parts = (c if isinstance(c, str) else c.text for c in self.children)
        return " ".join("".join(parts).split())

    def walk(self):
        yield self
        for child in self.children:
            if isinstance(child, Node):
                yield from child.walk()

    def all(self, tag=None, cls=None, **attributes):
        return [
            n
            for n in self.walk()
            if tag in (None, n.tag)
            and (cls is None or cls in n.classes)
            and all(n.attributes.get(k.replace("_", "-")) == v for k, v in attributes.items())
        ]

    def one(self, *args, **kwargs):
        (found,) = self.all(*args, **kwargs)
        return found


class Parser(HTMLParser):
    """Builds nodes, and fails on tags that are not closed in order."""

    def __init__(self):
        super().__init__()
        self.at = self.root = Node("root", {}, None)

    def handle_starttag(self, tag, attributes):
        assert len(dict(attributes)) == len(attributes), f"<{tag}> has an attribute twice"
        node = Node(tag, dict(attributes), self.at)
        self.at.children.append(node)
        if tag not in VOID:
            self.at = node

    def handle_startendtag(self, tag, attributes):
        self.at.children.append(Node(tag, dict(attributes), self.at))

    def handle_endtag(self, tag):
        assert self.at.tag == tag, f"</{tag}> closes <{self.at.tag}>"
        self.at = self.at.parent

    def handle_data(self, data):
        self.at.children.append(data)


def parse(text):
    parser = Parser()
    parser.feed(text)
    parser.close()
    assert parser.at is parser.root
    return parser.root


def number(dataset, model, metric, slice, value, n, n_skipped=0, half=0.01):
    known = math.isfinite(value) and half is not None
    lo, hi = (value - half, value + half) if known else (None, None)
    return (dataset, model, metric, slice, value, lo, hi, n, n_skipped)


def results_table(rows, **about):
    names = schema("results").names
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    about = {"table": "results", "schema": "1", "version": "9.9", "call": "", "inputs": "{}", **about}
    table = pa.table(columns, schema=schema("results"))
    return table.replace_schema_metadata({f"manyhot.{k}": v for k, v in about.items()})


def some_rows(
    dataset="val", models=MODELS, n=1000, metrics=("top1", "real1", "mla", "variable_topk", "asma")
):
    rows = []
    for i, model in enumerate(models):
        for j, metric in enumerate(metrics):
            value = round(0.7 - 0.02 * i + 0.03 * j, 4)
            skipped = 0 if metric == "top1" else 40
            rows.append(number(dataset, model, metric, "all", value, n - skipped, skipped))
            for k, size in enumerate(SIZES):
                rows.append(number(dataset, model, metric, size, value - 0.1 * k, n // 2 ** (k + 1)))
    return rows


def pairs_table(
    dataset="val", models=MODELS, metrics=("top1", "real1"), p=lambda i, j: 0.5 if j - i == 1 else 0.001
):
    rows = [
        (dataset, metric, "all", a, b, 0.02 * (j - i), 0.0, 0.1, p(i, j), p(i, j), 1000)
        for metric in metrics
        for i, a in enumerate(models)
        for j, b in enumerate(models)
        if i < j
    ]
    names = schema("pairs").names
    return pa.table({name: [row[i] for row in rows] for i, name in enumerate(names)}, schema=schema("pairs"))


def small_tables():
    rows = some_rows() + some_rows("v2", MODELS[:3], n=400)
    rows += [number("val", m, "top5", "all", 0.9 - 0.01 * i, 1000) for i, m in enumerate(MODELS)]
    rows += [number("val", m, "coverage", "all", 7.5 + i, 960, 40, half=None) for i, m in enumerate(MODELS)]
    rows += [number("val", m, "real1_unasked", "all", math.nan, 0, 1000) for m in MODELS]
    rows += [number("val", "nothing-counts", m, "all", math.nan, 0, 1000) for m in ("top1", "real1")]
    rows += [number("val", "timm/resnet50", "top1", "superclass=organism", 0.8, 10)]
    inputs = '{"real.json": "' + "ab" * 32 + '"}'
    return results_table(rows, inputs=inputs), pairs_table()


ENDS = {
    "dataset_x": "val",
    "metric_x": "top1",
    "slice_x": "all",
    "dataset_y": "v2",
    "metric_y": "top1",
    "slice_y": "all",
}


def rows_of(name, *rows):
    """Return a table from the columns that matter; the others are null, or 0 where they may not be."""
    blank = {"double": 0.0, "int64": 0, "int32": 0}
    columns = {c.name: None if c.nullable else blank.get(str(c.type)) for c in TABLES[name]}
    return pa.Table.from_pylist([{**columns, **row} for row in rows], schema=schema(name))


def drop(value, lo=None, hi=None, model=None, **other):
    """Return a row of the drops table, of the mean over 3 models unless a model is named."""
    one = {"model": model, "n_models": 1 if model else 3, "n_x": 1000, "n_y": 400}
    return {**ENDS, "value_x": 0.7, "value_y": 0.7 - value, "drop": value, "lo": lo, "hi": hi, **one, **other}


def fit(slope, lo=None, hi=None, models="all", **other):
    on = {**ENDS, "dataset_y": "val", "metric_y": "real1"}
    ends = {
        "slope_lo": lo,
        "slope_hi": hi,
        "models": models,
        "scale": "plain",
        "n": 5,
        "n_families": 3,
        "r2": 0.9,
    }
    return {**on, "slope": slope, "intercept": 0.1, **ends, **other}


def rank(tau, swapped, beyond=None, **other):
    on = {**ENDS, "dataset_y": "val", "metric_y": "real1", "n_models": 5, "n_pairs": 10}
    return {**on, "tau": tau, "n_swapped": swapped, "n_beyond_noise": beyond, **other}


def compared():
    """Return the tables that comparisons and descriptions of small tables would give."""
    ends = {**ENDS, "dataset_y": "val", "metric_y": "real1"}
    swap = {
        **ends,
        "difference_x": 0.02,
        "difference_y": -0.01,
        "p_x": 0.01,
        "p_y": 0.02,
        "beyond_noise": True,
    }
    sensitivity = {
        "dataset_x": "val",
        "dataset_y": "v2",
        "metric": "real1",
        "n_models": 3,
        "n_x": 960,
        "n_y": 390,
    }
    card = {"images": 1000, "labels": 1300, "empty": 40, "multi": 200, "labelled": 1000, "rejected": 50}
    return {
        "drops": rows_of(
            "drops",
            drop(0.1, 0.09, 0.11, lo_models=0.05, hi_models=0.15),
            *(drop(0.1 + 0.01 * i, 0.08, 0.13, m, above_fit=0.01) for i, m in enumerate(MODELS[:3])),
            drop(0.06, 0.05, 0.07, metric_x="real1", metric_y="real1"),
        ),
        "fits": rows_of("fits", fit(0.8, 0.7, 0.9), fit(0.4, 0.3, 0.5, "x>=0.65", n=3)),
        "ranks": rows_of("ranks", rank(0.9, 1, 1, lo=0.8, hi=0.95)),
        "swaps": rows_of("swaps", {**swap, "model_a": MODELS[0], "model_b": MODELS[1]}),
        "sensitivity": rows_of(
            "sensitivity",
            {**sensitivity, "analysis": "as published", "value_x": 0.8, "value_y": 0.74, "drop": 0.06},
            {**sensitivity, "analysis": "threshold at x", "threshold": 0.9, "value_x": 0.79, "drop": 0.05},
        ),
        "datasets": rows_of(
            "datasets",
            {
                "dataset": "val",
                **card,
                "rated": 600,
                "asked": 4000,
                "confirmed": 1200,
                "method": "ReaL",
                "licence": "Apache-2.0",
                "home": "example.org/real",
            },
            {"dataset": "v2", **card, "images": 400, "labelled": 400},
        ),
        "set_sizes": rows_of(
            "set_sizes",
            *(
                {"dataset": "val", "size": i, "images": n, "share": n / 1000}
                for i, n in enumerate((40, 760, 200))
            ),
        ),
        "class_pairs": rows_of(
            "class_pairs",
            {
                "dataset": "val",
                "name_a": "cup",
                "name_b": "mug",
                "images": 20,
                "images_a": 30,
                "images_b": 40,
            },
        ),
        "rejected": rows_of(
            "rejected",
            *(
                {
                    "dataset": "val",
                    "image_id": f"{i}.jpg",
                    "label_name": "hammer",
                    "names": ["drill"],
                    "classes": [1],
                }
                for i in range(12)
            ),
        ),
    }


def small_notes():
    text = "20 of 1,020 predicted images have no labels and were left out"
    return [
        {"dataset": "val", "model": m, "kind": "predictions_unmatched", "n": 20, "text": text}
        for m in MODELS[:3]
    ]


def picture_labels(ids, asked_known=True):
    table = pa.table(
        {
            "image_id": [ids[0], ids[1], ids[3]],
            "label": pa.array([1, 2, 3], pa.int32()),
            "usable": [True, True, True],
            "classes": pa.array([[1, 2, 4], [2], [3]], pa.list_(pa.int32())),
            "state": [["yes", "unclear", "no"], ["yes"], ["no"]],
        }
    )
    return Labels(table, 9, asked_known=asked_known, name="photos")


def picture_predictions(ids):
    best = np.array([[2, 1, 4, 5, 6], [2, 3, 4, 5, 6], [1, 0, 8, 5, 6], [3, 0, 8, 5, 6]], np.int32)
    share = np.tile(np.array([0.5, 0.25, 0.125, 0.0625, 0.03125], np.float32), (4, 1))
    return [
        Predictions(pa.array(ids), "sure", best, share, None, "probability", 9),
        Predictions(pa.array(ids[:1]), "ranks", best[:1], n_classes=9),
    ]


HOSTILE = '</script><img src=x onerror="pwned=1">\'{{7*7}}\u2028&amp;'


def hostile_report(write):
    names = [f"{HOSTILE}{i}" for i in range(3)]
    rows = [*some_rows(HOSTILE, names), number(HOSTILE, names[0], HOSTILE, "all", 0.5, 3)]
    note = {"dataset": HOSTILE, "model": names[0], "kind": "x", "n": 1, "text": HOSTILE}
    return names, write(
        results_table(rows, call=HOSTILE, version=HOSTILE, inputs=json.dumps({HOSTILE: HOSTILE})),
        pairs_table(HOSTILE, names),
        notes=[note],
        highlight=names[:1],
        title=HOSTILE,
    )
