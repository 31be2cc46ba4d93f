"""Whose recall depends on a companion, and how much of that is how one looks: numbers of companions.md.

``python benchmarks/companions.py`` takes half a minute; ``--time`` tells seconds and memory of one run. With
the folder that ``benchmarks/heads.py`` wrote, ``python benchmarks/companions.py heads`` judges those on VOC.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import common

common.quiet()

import polars as pl  # noqa: E402

from manyhot import diagnose_companions, read_labels, read_predictions  # noqa: E402
from manyhot.data.data_sets import Asked, sources  # noqa: E402
from manyhot.data.inputs import Reading  # noqa: E402
from manyhot.formats import read_classes  # noqa: E402

WAYS = (
    ({}, "is not valid"),
    ({"unasked": True}, "is not valid, or was not asked about"),
    ({"unasked": True, "labelled": True}, "the same, on images labelled as the class"),
)


def means(table) -> pl.DataFrame:
    """Return the rows of the mean over models, of pairs that were tested."""
    rows = pl.from_arrow(table)
    return rows.filter(pl.col("model").is_null() & pl.col("p_adjusted").is_not_null())


def named(source) -> Reading:
    return Reading(dataset=source.name)


def counted(source, k: int, way: dict, words: str) -> str:
    found = diagnose_companions(source.sets(), source.models(), k=k, reading=named(source), **way)
    rows = means(found.table)
    sure = rows.filter(pl.col("p_adjusted") < 0.05)["difference"]
    cells = (k, source.name, words, len(rows), (sure > 0).sum(), (sure < 0).sum())
    return f"| {' | '.join(map(str, cells))} | {100 * rows['difference'].mean():+.1f} |"


def models_agree(source) -> str:
    """Say in how many models a pair's difference has the sign of the mean, and is sure without the others."""
    pair = ["main", "companion"]
    table = diagnose_companions(source.sets(), source.models(), reading=named(source)).table
    sure = (
        means(table).filter(pl.col("p_adjusted") < 0.05).select(*pair, pl.col("difference").alias("of_all"))
    )
    each = pl.from_arrow(table).filter(pl.col("model").is_not_null()).join(sure, on=pair)
    same = (each["difference"] * each["of_all"] > 0).mean()
    alone = ((each["difference"] * each["of_all"] > 0) & (each["p_adjusted"] < 0.05)).mean()
    return f"{source.name}: {len(sure)} pairs; same sign in {same:.1%} of models, sure alone in {alone:.0%}"


def imagenet() -> None:
    print("| k | data set | without: the companion … | tested | more often | less often | mean difference |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for source in sources("imagenet", Asked()):
        ways = WAYS if source.sets().asked_known else WAYS[1:]
        for k in (5, 1):
            for way, words in ways:
                print(counted(source, k, way, words))
        print(models_agree(source))


def voc(folder: Path) -> None:
    """Print recall of VOC's classes with and without companions, of the heads."""
    labels = read_labels(folder / "voc" / "labels.parquet")
    heads = [read_predictions(folder / "voc" / f"linear-{head}.parquet") for head in ("softmax", "sigmoid")]
    classes = read_classes(folder / "voc" / "classes.txt")
    for head, way in zip(heads, ({"k": 1}, {"probability": 0.5}), strict=True):
        found = diagnose_companions(labels, head, min_images=15, reading=Reading(classes=classes), **way)
        print(f"\n{head.model}, {way}")
        for row in means(found.table).sort("p_adjusted").head(5).to_dicts():
            lo, hi = 100 * row["lo"], 100 * row["hi"]
            shares = f"{row['recall_with']:.0%} | {row['recall_without']:.0%}"
            images = f"{row['n_with']} and {row['n_without']}"
            difference = f"{100 * row['difference']:+.0f} ({lo:+.0f} to {hi:+.0f})"
            cells = (row["main_name"], row["companion_name"], f"{row['lift']:.2f}", shares, difference)
            print(f"| {' | '.join(cells)} | {row['p_adjusted']:.2g} | {images} |")


def timed() -> None:
    begun = time.perf_counter()
    for source in sources("imagenet", Asked()):
        diagnose_companions(source.sets(), source.models(), reading=named(source))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{time.perf_counter() - begun:.1f} s, {peak:,.0f} MB at most, start of Python included in the latter"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("heads", nargs="?", type=Path, help="what benchmarks/heads.py wrote")
    parser.add_argument("--time", action="store_true")
    given = parser.parse_args()
    if given.time:
        timed()
    elif given.heads:
        voc(given.heads)
    else:
        imagenet()
