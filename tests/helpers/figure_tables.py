"""Small tables for figures, with numbers that can be told by heart."""

import base64
import hashlib

import pyarrow as pa
from jinja2 import Environment, PackageLoader

from manyhot.evaluate.report.report_tables import ReportTables
from manyhot.report.prerender import DATA_ID, prepare
from manyhot.tables import schema

V1, V2 = "val", "v2"
MODELS = ("alpha", "beta", "gamma", "delta", "omega's <b>&")
SHAPES = ("n_labels=1", "n_labels=2", "n_labels=3", "n_labels>=4")
OBJECTS = ("annotation=*", "n_objects=1", "n_objects>=2")
METRICS = ("top1", "real1", "variable_topk")


def value(dataset, metric, model, slice="all", models=MODELS):
    """The value of everything: 70 % less a little for each model, data set and group."""
    m = models.index(model) if model in models else 0
    groups = {"all": 0, "annotation=*": 0, "n_objects=1": 1, "n_objects>=2": 10}
    group = groups.get(slice, 5 * (SHAPES.index(slice) + 1) if slice in SHAPES else 0)
    of = {"top1": 0, "real1": 8, "variable_topk": 5, "valid_errors": -35}.get(metric, 3)
    return round(
        0.70
        + 0.01 * (of - group - 10 * (dataset == V2))
        - min(0.013, 0.4 / len(models)) * m
        + (m == 2) * (of == 8) * 0.02,
        4,
    )


def table(name, rows):
    return pa.Table.from_pylist(rows, schema=schema(name))


def results(
    models=MODELS, datasets=(V1, V2), metrics=(*METRICS, "valid_errors"), slices=("all", *SHAPES, *OBJECTS)
):
    rows = []
    for d in datasets:
        for m in models:
            for k in metrics:
                for s in slices:
                    v = value(d, k, m, s, models)
                    rows.append(
                        {"dataset": d, "model": m, "metric": k, "slice": s, "value": v, "lo": v - 0.01}
                        | {"hi": v + 0.01, "n": 1000 if s == "all" else 250, "n_skipped": 0}
                    )
    return table("results", rows)


def ends(x, y):
    names = ("dataset", "metric", "slice")
    pairs = [
        (f"{n}_{side}", v) for side, end in (("x", x), ("y", y)) for n, v in zip(names, end, strict=True)
    ]
    return dict(pairs)


def compared():
    across = [((V1, k, "all"), (V2, k, "all")) for k in METRICS]
    return [*across, *(((d, "top1", "all"), (d, "real1", "all")) for d in (V1, V2))]


def drops(models=MODELS, pairs=None):
    pairs = (
        [*compared(), ((V1, "top1", "annotation=*"), (V1, "top1", "n_objects>=2"))]
        if pairs is None
        else pairs
    )
    rows = []
    for x, y in pairs:
        own = []
        for i, m in enumerate(models):
            a, b = (value(e[0], e[1], m, e[2], models) for e in (x, y))
            own.append((a, b))
            rows.append(_drop(x, y, m, a, b, 0.001 * (i - 1)))
        a, b = (sum(v) / len(own) for v in zip(*own, strict=True))
        rows.append(_drop(x, y, None, a, b, None) | {"lo_models": a - b - 0.02, "hi_models": a - b + 0.02})
    return table("drops", rows)


def _drop(x, y, model, a, b, above):
    return ends(x, y) | {
        "model": model,
        "value_x": a,
        "value_y": b,
        "drop": a - b,
        "lo": a - b - 0.01,
        "hi": a - b + 0.01,
        "lo_models": None,
        "hi_models": None,
        "above_fit": above,
        "n_x": 1000,
        "n_y": 1000,
        "n_models": 5 if model is None else 1,
    }


def fits():
    rows = [
        ends(x, y)
        | {
            "models": which,
            "scale": scale,
            "slope": slope,
            "slope_lo": slope - 0.05,
            "slope_hi": slope + 0.05,
        }
        | {
            "intercept": -0.05,
            "intercept_lo": -0.06,
            "intercept_hi": -0.04,
            "r2": 0.99,
            "n": 5,
            "n_families": 3,
        }
        for x, y in compared()
        for which, slope in (("all", 0.9), ("x>=0.68", 0.4))
        for scale in ("plain", "logit", "probit")
    ]
    return table("fits", rows)


def ranks(dense=False):
    columns = [(d, k, "all") for k in METRICS for d in (V1, V2)]
    pairs = [(x, y) for i, x in enumerate(columns) for y in columns[i + 1 :]] if dense else compared()
    rows = [
        ends(x, y)
        | {"tau": 0.9 - 0.02 * i, "lo": 0.5, "hi": 0.95, "lo_models": 0.4, "hi_models": 0.99}
        | {"n_models": 5, "n_pairs": 10, "n_swapped": 2, "n_beyond_noise": 1}
        for i, (x, y) in enumerate(pairs)
    ]
    return table("ranks", rows)


def sensitivity():
    analyses = [("as published", None), ("sizes of y", None), ("threshold at x", 0.5)]
    rows = [
        {"dataset_x": V1, "dataset_y": V2, "metric": "real1", "analysis": a, "threshold": t, "value_x": 0.78}
        | {"value_y": 0.68 + 0.02 * i, "drop": 0.10 - 0.02 * i, "lo_models": 0.09 - 0.02 * i}
        | {
            "hi_models": 0.11 - 0.02 * i,
            "multi_x": 0.2,
            "multi_y": 0.4,
            "n_x": 900,
            "n_y": 900,
            "n_models": 5,
        }
        for i, (a, t) in enumerate(analyses)
    ]
    return table("sensitivity", rows)


def set_sizes():
    counts = {V1: (50, 700, 150, 50, 30, 10, 6, 4), V2: (10, 500, 300, 100, 50, 30, 10)}
    rows = [
        {"dataset": d, "size": i, "images": n, "share": n / sum(of)}
        for d, of in counts.items()
        for i, n in enumerate(of)
    ]
    return table("set_sizes", rows)


def class_pairs():
    rows = [
        {
            "dataset": d,
            "class_a": 2 * i,
            "class_b": 2 * i + 1,
            "name_a": f"class {i}, also",
            "name_b": f"other {i}",
        }
        | {"images": 100 - i, "images_a": 200, "images_b": 150}
        for d in (V1, V2)
        for i in range(20)
    ]
    return table("class_pairs", rows)


def models(names=MODELS):
    kinds = ("resnet", "vit"), ("in-1k", "jft"), (224, 384)
    rows = [
        {"model": m, "family": kinds[0][i % 2], "pretraining": kinds[1][i % 2], "params": 5.0 * (i + 1)}
        | {"img_size": kinds[2][i % 2]}
        for i, m in enumerate(names)
    ]
    return table("models", rows)


def everything(**changed):
    beside = {
        "drops": drops(),
        "fits": fits(),
        "ranks": ranks(),
        "sensitivity": sensitivity(),
        "set_sizes": set_sizes(),
        "class_pairs": class_pairs(),
        "models": models(),
    }
    return ReportTables(changed.pop("results", results()), beside | changed)


def many(n=1556):
    """As many models as timm has, on two data sets."""
    names = tuple(f"family{i % 40}_variant_{i}.some_pretraining_in1k@{224 + i % 5}" for i in range(n))
    pairs = [((V1, k, "all"), (V2, k, "all")) for k in ("top1", "real1")]
    found = results(names, metrics=("top1", "real1"), slices=("all",))
    return ReportTables(found, {"drops": drops(names, pairs), "models": models(names), "fits": fits()})


def page_of(figures, beside=False):
    """Return a page that holds nothing but figures, under the policy of a report."""
    page = prepare(figures)
    environment = Environment(loader=PackageLoader("manyhot.report"), autoescape=True)
    macro = environment.get_template("figure.html").module.figures_of
    digest = base64.b64encode(hashlib.sha256(page.script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'"
    )
    body = str(macro(figures, page.drawn, beside, 4))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Figures</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        "<style>:root { color-scheme: light dark } body { background: var(--f-paper) }\n"
        f"{page.style}</style></head>"
        f'<body>{body}<script type="application/json" id="{DATA_ID}">{page.data}</script>'
        f"<script>{page.script}</script></body></html>"
    )
