"""Judge a merged label set of ImageNet's validation images: ReaL, Shankar et al., Tsipras et al., mistakes.

Shankar et al.'s labels state no licence. Save them where ``manyhot aggregate --sources
imagenet-multilabel`` asks for them, or pass the file: ``python benchmarks/merged_labels.py --multilabel
multilabel.csv``. The script prints what docs/guides/reassess/merged-labels.md shows, and writes
``merged_labels.csv``:

- *held-out*: how well the other sources predict the answers of each (precision, recall, specificity, kappa);
- *golden*: precision and recall on ReaL's golden questions, which five experts answered;
- *rule*: the sizes of the label sets by this and other rules, and the mean accuracy of 64 networks;
- *disagreement*: kinds of 200 pairs, drawn by a seed, on which one source says yes and another no;
- *change*: mean difference of real1 by ReaL and by the merged set, Kendall's tau, pairs that change places;
- *accuracy*: real1 and mla of 67 models by ReaL and by the merged set.

``merged_disagreements.csv`` says of what kind each of the 200 pairs is. They were sorted once, by reading
the name of the class, the names of the other classes of the image, and what each source says about them. No
pictures were looked at. The kinds are: *near classes*, two names for what may be one object, such as two
breeds of dogs; *original label alone*, where no other class fits; *another object*; *part, content or
setting* of another object, such as a car wheel or the beach; *same thing or nested*, such as screen and
monitor. The file contains neither images nor answers, because these must not be passed on.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import common

common.quiet()

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402
from scipy.stats import kendalltau  # noqa: E402

import manyhot  # noqa: E402
from manyhot.classes import class_list  # noqa: E402
from manyhot.core.share_intervals import proportion_interval  # noqa: E402
from manyhot.data import catalog  # noqa: E402
from manyhot.reassess.merged import MergedLabels  # noqa: E402

OUT = Path(__file__).with_suffix(".csv")
KINDS = Path(__file__).with_name("merged_disagreements.csv")
VERSION = "c27adaae2f99"
"""The version of the label set that was drawn from."""

DRAWN, SEED, RESAMPLES = 200, 0, 1000
PREDICTIONS, ROWS = "imagenet-val-predictions", "imagenet-validation-original.json"
HEADS = ("part", "what", "measure", "value", "lo", "hi", "n")
RULES = {
    "source-share": {},
    "any source says yes": {"threshold": 0.01},
    "all sources asked say yes": {"threshold": 1.0},
    "dawid-skene": {"method": "dawid-skene"},
}
Row = tuple[str, str, str, float, float | None, float | None, int]


def sources(multilabel: str) -> list[str]:
    """Return the sources: the mistakes are by the experts who revised Shankar et al.'s labels."""
    return ["imagenet-real", f"{multilabel}+imagenet-mistakes", "tsipras"]


def held_out(merged: MergedLabels) -> Iterator[Row]:
    for row in merged.held_out.to_pylist():
        if row["value"] is not None:
            what = f"{_short(row['source'])} by {_short(row['others'])}"
            yield "held-out", what, row["measure"], row["value"], row["lo"], row["hi"], row["n"]


def _short(source: str) -> str:
    return "experts" if source.endswith("+imagenet-mistakes") else source


def golden(given: list[str]) -> Iterator[Row]:
    experts = catalog.fetch("imagenet-real")["golden.npz"]
    by = {
        "ReaL": manyhot.aggregate("imagenet-real", method="golden-bayes"),
        "merged": manyhot.aggregate(sources=given, golden=experts),
    }
    for name, found in by.items():
        row = found.to_json()["at_threshold"]
        for measure in ("precision", "recall"):
            ends = row[f"{measure}_lo"], row[f"{measure}_hi"]
            yield "golden", name, measure, row[measure], *ends, row["n_questions"]


def sets_of(labels: manyhot.Labels, n_classes: int = 1000) -> np.ndarray:
    """Return whether each class is valid, shape (n, C), for images in the order of their ids."""
    frame = pl.DataFrame(labels.table).sort("image_id").with_row_index()
    pairs = (
        frame.select("index", "classes", "state").explode("classes", "state").filter(pl.col("state") == "yes")
    )
    valid = np.zeros((len(labels), n_classes), bool)
    valid[pairs["index"].to_numpy(), pairs["classes"].to_numpy()] = True
    return valid


def top_classes() -> tuple[list[str], np.ndarray]:
    """Return the names of the models and their best classes, shape (n, M), in the order of the image ids."""
    files = catalog.fetch(PREDICTIONS)
    rows = manyhot.read_images(files[ROWS])
    order = np.argsort(np.array(rows.image_id.to_pylist()))
    named = [(p.model, p.classes[order, 0]) for p in common_models(rows)]
    return [name for name, _ in named], np.stack([best for _, best in named], 1)


def common_models(rows: manyhot.Images) -> Iterator[manyhot.Predictions]:
    for name, predictions in common.models(rows):
        if not name.startswith("fv_"):  # Fisher vectors are no networks
            yield predictions


def rules(merged: MergedLabels, given: list[str], top: np.ndarray) -> Iterator[Row]:
    for name, options in RULES.items():
        found = manyhot.aggregate(sources=given, **options) if options else merged
        valid = sets_of(found.labels)
        size, n = valid.sum(1), len(valid)
        unclear = sum(row.count("unclear") for row in found.labels.table["state"].to_pylist())
        counts = {"labels": int(size.sum()), "unclear": unclear}
        counts |= {"two or more": int((size > 1).sum()), "empty": int((size == 0).sum())}
        for measure, value in counts.items():
            yield "rule", name, measure, value, None, None, n
        hit = valid[np.arange(n)[:, None], top][size > 0]
        yield "rule", name, "mean real1", float(hit.mean()), None, None, len(hit)


def disagreements(merged: MergedLabels, show: bool) -> Iterator[Row]:
    if merged.version != VERSION:
        raise SystemExit(f"The pairs were drawn from version {VERSION}; this is {merged.version}.")
    conflicts = pl.DataFrame(merged.source_answers).filter("conflict").sort("image_id", "class_id")
    drawn = np.sort(np.random.default_rng(SEED).choice(len(conflicts), DRAWN, replace=False))
    names = class_list().names
    with KINDS.open(newline="", encoding="utf-8") as file:
        kinds = list(csv.DictReader(file))
    for row, kind in zip(conflicts[drawn].to_dicts(), kinds, strict=True):
        assert names[row["class_id"]] == kind["class"], f"place {kind['place']} is another class"
        if show:
            print(row["image_id"], kind["class"], row["yes"], row["no"], kind["kind"], sep="\t")
    for kind, n in Counter(k["kind"] for k in kinds).most_common():
        lo, hi = proportion_interval(n, DRAWN)
        yield "disagreement", kind, "share", n / DRAWN, float(lo), float(hi), DRAWN


def accuracies(path: Path) -> Iterator[Row]:
    """Yield the accuracies of all 67 models, by manyhot evaluate."""
    files = catalog.fetch(PREDICTIONS)
    own = [file for name, file in files.items() if name.endswith(".npy")]
    options = {"metrics": ["real1", "mla"], "resamples": RESAMPLES}
    by = {
        "ReaL": manyhot.evaluate("imagenet-val", **options),
        "merged": manyhot.evaluate(path, own, rows=files[ROWS], **options),
    }
    for name, found in by.items():
        for r in found.results.to_pylist():
            if r["slice"] == "all":
                yield "accuracy", r["model"], f"{r['metric']} by {name}", r["value"], r["lo"], r["hi"], r["n"]


def changes(real: np.ndarray, merged: np.ndarray, top: np.ndarray) -> Iterator[Row]:
    """Yield what changes from ReaL to the merged set, with a bootstrap over images of both at once."""
    every = np.arange(len(top))[:, None]
    hits = [valid[every, top].astype(np.float32) for valid in (real, merged)]
    counted = np.stack([valid.any(1) for valid in (real, merged)], 1).astype(np.float32)
    rng, n = np.random.default_rng(SEED), len(top)
    drawn = []
    for weights in (np.ones(n, np.float32), *(_weights(rng, n) for _ in range(RESAMPLES))):
        accuracy = [weights @ hit / (weights @ counted[:, i]) for i, hit in enumerate(hits)]
        signs = [np.sign(np.subtract.outer(a, a)) for a in accuracy]
        swapped = np.count_nonzero(np.triu(signs[0] != signs[1]))
        drawn.append((np.mean(accuracy[1] - accuracy[0]), kendalltau(*accuracy)[0], swapped))
    values = np.array(drawn)
    lo, hi = np.percentile(values[1:], (2.5, 97.5), axis=0)
    names = ("mean difference of real1", "Kendall's tau of real1", "pairs that change places")
    for name, value, low, high in zip(names, values[0], lo, hi, strict=True):
        yield "change", "64 networks", name, float(value), float(low), float(high), n


def _weights(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float32)


def table(rows: list[Row]) -> Iterator[str]:
    for part, what, measure, value, lo, hi, n in rows:
        ends = "" if lo is None else f"{lo:.4f} to {hi:.4f}"
        yield f"{part:13} {what:34} {measure:26} {value:12.4f} {ends:18} {n:7,}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--multilabel", default="imagenet-multilabel", help="file of Shankar et al.'s labels")
    parser.add_argument("--show", action="store_true", help="print the 200 disagreements, too")
    options = parser.parse_args()
    given = sources(options.multilabel)
    merged = manyhot.aggregate(sources=given)
    assert isinstance(merged, MergedLabels)
    _, top = top_classes()
    real = sets_of(manyhot.read_labels(catalog.fetch("imagenet-real")["real.json"]))
    rows = [
        *held_out(merged),
        *golden(given),
        *rules(merged, given, top),
        *disagreements(merged, options.show),
    ]
    rows += changes(real, sets_of(merged.labels), top)
    with tempfile.TemporaryDirectory() as folder:
        (path, *_) = merged.write(Path(folder) / "merged.parquet")
        rows += accuracies(path)
    with OUT.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADS)
        writer.writerows(
            (*row[:3], *("" if v is None else f"{v:.6g}" for v in row[3:6]), row[6]) for row in rows
        )
    print(f"version {merged.version}", *table(rows), sep="\n")


if __name__ == "__main__":
    main()
