"""The tables of docs/explanation/uncertainty.md, from the results of benchmarks/uncertain_labels.py.

    python benchmarks/uncertain_labels_tables.py

prints them. A test compares the page with them, cell by cell.
"""

from __future__ import annotations

import csv
from pathlib import Path

RESULTS = Path(__file__).with_suffix("").with_name("uncertain_labels.csv")
COLUMNS = ("part", "table", "model", "measure", "by", "value", "lo", "hi", "n", "n_other")
"""``n_other`` counts errors, empty sets, out-of-distribution images or members."""

METRICS = {"right": "right", "ece": "`ece`", "error_auroc": "`error_auroc`", "aurc": "`aurc`"}
SCORES = ("confidence", "entropy", "mutual information")
OF_LABEL = {"right": ("top1", "real1")} | {m: (m, f"{m}_set") for m in ("ece", "error_auroc", "aurc")}
"""The metric by label and the metric by label set of each measure."""

ENSEMBLES = {
    "five bootstrapped heads": "photographs that the head is fitted on",
    "heads on four backbones": "backbones",
    "two fine-tuned networks": "seeds of the training of all layers",
    "its 50 passes": "units that are dropped",
    "five bootstrapped sigmoid heads": "photographs that the head is fitted on",
    "sigmoid heads on four backbones": "backbones",
}
"""What the members of each average differ in."""


def row(part, table, model, measure, by, value, lo=None, hi=None, n=None, n_other=None):
    """Return a result, rounded to five digits, of which pages show three."""
    numbers = [None if x is None or x != x else round(float(x), 5) for x in (value, lo, hi)]
    counts = [None if x is None else int(x) for x in (n, n_other)]
    return dict(zip(COLUMNS, (part, table, model, measure, str(by), *numbers, *counts), strict=True))


def read(path=RESULTS):
    """Return the results."""
    with path.open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    kinds = {"value": float, "lo": float, "hi": float, "n": int, "n_other": int}
    return [{k: (kinds[k](v) if v else None) if k in kinds else v for k, v in r.items()} for r in found]


def replace_part(part, rows, path=RESULTS):
    """Write the results of a part in place of its earlier ones."""
    others = [r for r in read(path) if r["part"] != part] if path.exists() else []
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted([*others, *rows], key=lambda r: r["part"]))


def tables(rows):
    """Yield each table of the page, as lines of Markdown."""
    of = {(r["part"], r["table"], r["model"], r["measure"], r["by"]): r for r in rows}
    yield _single(of, "cifar", "out of fold", "10,000 images")
    yield [
        "| nominal coverage | fitted to | coverage of that, 5,000 images | coverage of a person's answer "
        "| mean size |",
        "| --- | --- | --- | --- | --- |",
        *(line for alpha in ("90 %", "95 %") for line in _conformal(of, alpha)),
    ]
    models = list(dict.fromkeys(r["model"] for r in rows if (r["part"], r["table"]) == ("voc", "metrics")))
    yield [
        "| | members differ in | right, by label: members, average | two members disagree "
        "| mutual information, nats |",
        "| --- | --- | --- | --- | --- |",
        *(_ensemble(of, model) for model in models if model in ENSEMBLES),
    ]
    for sigmoid in (False, True):
        chosen = [m for m in models if ("sigmoid" in m) == sigmoid]
        yield [
            "| 1,095 images | measure | by label | by label set |",
            "| --- | --- | --- | --- |",
            *(line for model in chosen for line in _metrics(of, model)),
        ]
    yield [
        "| 1,095 images | score | by label | by label set |",
        "| --- | --- | --- | --- |",
        *(line for model in models if model in ENSEMBLES for line in _errors(of, model)),
    ]
    yield [
        "| | score | all, 236 images | no class, 45 images |",
        "| --- | --- | --- | --- |",
        *(line for model in models for line in _ood(of, model)),
    ]
    yield _single(of, "ranks", "share of 67 networks", "")


def _single(of, part, model, what):
    """Return the table of one model, whose columns may count different images."""
    n = [of[part, "metrics", model, "right", by]["n"] for by in ("label", "set")]
    counts = ["", ""] if what else [f", {x:,} images" for x in n]
    lines = [f"| {what} | by label{counts[0]} | by label set{counts[1]} |".replace("|  |", "| |")]
    lines.append("| --- | --- | --- |")
    for measure, metrics in OF_LABEL.items():
        name = ", ".join(f"`{metric}`" for metric in metrics)
        name = f"right ({name})" if measure == "right" else name
        cells = [cell(of[part, "metrics", model, measure, by]) for by in ("label", "set")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def cell(r):
    """Return a value with its interval."""
    ends = "" if r["lo"] is None else f" ({r['lo']:.3f} to {r['hi']:.3f})"
    return f"{r['value']:.3f}{ends}"


def _conformal(of, alpha):
    for i, cover in enumerate(("label", "drawn", "drawn_all")):
        r, answer, size = (of["cifar", "sets", cover, m, alpha] for m in ("coverage", "answer", "size"))
        ends = f"({100 * r['lo']:.1f} to {100 * r['hi']:.1f})"
        start = "" if i else f"{alpha} "
        yield (
            f"| {start}| `{cover}` | {100 * r['value']:.1f} % {ends} | {100 * answer['value']:.1f} % "
            f"| {size['value']:.2f} |"
        )


def _ensemble(of, model):
    low, high, apart, information = (
        of["voc", "members", model, m, "label"] for m in ("lowest", "highest", "disagreement", "information")
    )
    right = of["voc", "metrics", model, "right", "label"]["value"]
    return (
        f"| {model} | {ENSEMBLES[model]} | {low['value']:.3f} to {high['value']:.3f}, {right:.3f} "
        f"| {100 * apart['value']:.1f} % | {information['value']:.3f} |"
    )


def _metrics(of, model):
    for i, (measure, name) in enumerate(METRICS.items()):
        cells = [cell(of["voc", "metrics", model, measure, by]) for by in ("label", "set")]
        yield f"| {'' if i else model + ' '}| {name} | {' | '.join(cells)} |"


def _errors(of, model):
    for i, score in enumerate(SCORES):
        found = [of["voc", "errors", model, score, by] for by in ("label", "set")]
        start = "" if i else f"{model}, {found[0]['n_other']:,} and {found[1]['n_other']:,} errors "
        yield f"| {start}| {score} | {' | '.join(map(cell, found))} |"


def _ood(of, model):
    scores = [s for s in SCORES if ("voc", "ood", model, s, "all") in of]
    for i, score in enumerate(scores):
        cells = [cell(of["voc", "ood", model, score, by]) for by in ("all", "no class")]
        yield f"| {'' if i else model + ' '}| {score} | {' | '.join(cells)} |"


if __name__ == "__main__":
    print("\n\n".join("\n".join(lines) for lines in tables(read())))
