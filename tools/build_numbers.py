"""Make the numbers of the docs: published numbers beside ours, and the findings on the page about ImageNet.

    manyhot benchmarks --out numbers/benchmarks
    manyhot diagnose difficulty imagenet-val --out numbers/difficulty
    manyhot evaluate imagenet --out numbers/imagenet
    manyhot evaluate imagenet-x --out numbers/imagenet-x
    .venv/bin/python tools/build_numbers.py numbers

Reads the tables that the commands wrote, and writes ``docs/numbers/benchmarks.csv`` and
``docs/numbers/findings.csv``, from which ``docs/generated.py`` makes the pages. No number is typed here.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from manyhot.core.share_intervals import wilson_interval
from manyhot.diagnose.benchmarks.run_benchmarks import shown_value, summaries

NUMBERS = Path(__file__).resolve().parent.parent / "docs" / "numbers"
V1, V2 = "imagenet-val", "imagenetv2-matched-frequency"
ALL_FACTORS = "factor=average"

COLUMNS = ("name", "subject", "published", "value", "n", "verdict", "farthest", "missing")
"""Columns of the numbers; what is declared with the published ones is read from there.

`farthest` marks the number of an entry that is farthest off, and `missing` says what a number that was not
computed lacks.
"""


def numbers(folder: Path) -> str:
    """Return published numbers beside ours, as CSV."""
    rows = pl.read_parquet(folder / "benchmarks" / "benchmarks.parquet").to_dicts()
    farthest = {id(summary.farthest) for summary in summaries(rows)}
    return _as_csv(COLUMNS, (_number(row, is_farthest=id(row) in farthest) for row in rows))


def _number(row: Mapping[str, Any], *, is_farthest: bool) -> dict[str, Any]:
    missing = row["reason"] if row["verdict"] == "not computed" else ""
    marked = "yes" if is_farthest else ""
    return {**row, "value": shown_value(row), "farthest": marked, "missing": missing}


def findings(folder: Path) -> str:
    """Return the numbers of the findings, with their intervals and n, as CSV."""
    rows = [*_never_right(folder), *_drops(folder), *_factors(folder)]
    return _as_csv(("name", "value", "lo", "hi", "n"), rows)


def _never_right(folder: Path) -> Iterable[dict[str, Any]]:
    """Yield the images that no model gets right by the label, and how many of them are right by the set."""
    groups = pl.read_parquet(folder / "difficulty" / "difficulty_groups.parquet")
    row = groups.filter(group="all", metric="top1", kind="none").row(0, named=True)
    yield {"name": "never right", **{c: row[c] for c in ("lo", "hi", "n")}, "value": row["share"]}
    by_set = groups.filter(group="all", metric="real1", kind="none").row(0, named=True)
    yield {"name": "never right by set", "value": by_set["images"], "n": by_set["n"]}
    lo, hi = wilson_interval(row["right_by_set"], row["images"])
    share = row["right_by_set"] / row["images"]
    yield {"name": "right by set", "value": share, "lo": float(lo), "hi": float(hi), "n": row["images"]}
    models = pl.read_parquet(folder / "difficulty" / "difficulty.parquet")["models"].max()
    yield {"name": "models", "value": models, "n": models}


def _drops(folder: Path) -> Iterable[dict[str, Any]]:
    """Yield the mean losses from ImageNet to ImageNetV2, with intervals over images and families."""
    rows = pl.read_parquet(folder / "imagenet" / "drops.parquet").filter(
        pl.col("model").is_null(), dataset_x=V1, dataset_y=V2
    )
    for metric in ("top1", "real1"):
        row = rows.filter(metric_x=metric, metric_y=metric).row(0, named=True)
        for name, lo, hi, n in (
            ("over images", "lo", "hi", "n_y"),
            ("over families", "lo_models", "hi_models", "n_models"),
        ):
            ends = {"lo": row[lo], "hi": row[hi], "n": row[n]}
            yield {"name": f"{metric} loss {name}", "value": row["drop"], **ends}
        yield {"name": f"{metric} images", "value": row["n_x"], "n": row["n_x"]}


def _factors(folder: Path) -> Iterable[dict[str, Any]]:
    """Yield how error ratios of factors change with label sets: how many surely, how many stay, and one."""
    rows = pl.read_parquet(folder / "imagenet-x" / "error_ratios.parquet").filter(
        pl.col("model").is_null(), pl.col("slice") != ALL_FACTORS
    )
    lo, hi = rows["error_ratio_difference_lo"], rows["error_ratio_difference_hi"]
    for name, surely in (("lower", hi < 0), ("higher", lo > 0)):
        found = ", ".join(rows.filter(surely)["slice"].str.strip_prefix("factor="))
        yield {"name": f"factors {name}: {found}", "value": int(surely.sum()), "n": len(rows)}
    hard = rows.filter(pl.col("error_ratio_x") > 1)
    still = int((hard["error_ratio_y"] > 1).sum())
    yield {"name": "factors above 1 by label, and by set", "value": still, "n": len(hard)}
    models = int(rows["n_models"].max())
    yield {"name": "models of factors", "value": models, "n": models}
    row = rows.filter(slice="factor=subcategory").row(0, named=True)
    for column in ("error_ratio_x", "error_ratio_y", "error_ratio_difference"):
        ends = {"lo": row[f"{column}_lo"], "hi": row[f"{column}_hi"]}
        n = row["n_x" if column == "error_ratio_x" else "n_y"]
        yield {"name": f"subcategory {column}", "value": row[column], **ends, "n": n}


def _as_csv(columns: tuple[str, ...], rows: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    return text.getvalue()


def main() -> None:
    """Write both files from the folder that is given."""
    folder = Path(sys.argv[1])
    NUMBERS.mkdir(exist_ok=True)
    (NUMBERS / "benchmarks.csv").write_text(numbers(folder), encoding="utf-8")
    (NUMBERS / "findings.csv").write_text(findings(folder), encoding="utf-8")


if __name__ == "__main__":
    main()
