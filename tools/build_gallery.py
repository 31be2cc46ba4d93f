"""Make the gallery of the docs: its pictures, and the page that shows them.

    manyhot evaluate imagenet --out imagenet
    manyhot evaluate tsipras --out tsipras
    manyhot compare timm-results --out timm
    .venv/bin/python tools/build_gallery.py imagenet tsipras timm

Reads the folders that the commands wrote and writes ``docs/guides/evaluate/figures.md`` and
``docs/images/gallery/``. The sentences are filled with numbers from the tables; none is typed here.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from manyhot.evaluate.report.figures import draw_figures
from manyhot.evaluate.report.report_tables import ReportTables, read_tables
from manyhot.report.export import save_figures

DOCS = Path(__file__).resolve().parent.parent / "docs"
PICTURES = DOCS / "images" / "gallery"
V1, V2 = "imagenet-val", "imagenetv2-matched-frequency"

HEAD = """# Figures

% Written by tools/build_gallery.py; change it there.

These figures come from real runs. In the report of a run, `report/index.html`, they are interactive: you
can hover over a model to see its name, click it to highlight it in all figures, and search for it. The
command below each figure creates it. The numbers in the text come from the tables of the same run.
"""


@dataclass(frozen=True)
class Entry:
    """A picture of the gallery: the folder and the figure it is, its heading, and what it shows."""

    folder: str
    figure: str
    heading: str
    shows: Callable[[Tables], str]


class Tables:
    """The tables of a folder, and the look-ups that sentences need."""

    def __init__(self, read: ReportTables) -> None:
        self._read = read

    def __getitem__(self, name: str) -> pl.DataFrame:
        return pl.DataFrame(pl.from_arrow(self._read[name]))

    def row(self, name: str, *where: pl.Expr, **equal: Any) -> dict[str, Any]:
        """Return the one row that matches."""
        found = self[name].filter(*where, *(pl.col(c) == v for c, v in equal.items()))
        return found.row(0, named=True) if len(found) == 1 else _fail(f"{len(found)} rows of {name}: {equal}")

    def drop(self, **equal: Any) -> dict[str, Any]:
        """Return the mean drop between two places."""
        return self.row("drops", pl.col("model").is_null(), **equal)

    def multi(self, dataset: str, *, empty: bool = False) -> str:
        """Return the share of label sets, those that are not empty or all, that have two labels or more."""
        card = self.row("datasets", dataset=dataset)
        n = card["images"] - card["unusable"] - (0 if empty else card["empty"])
        return _percent(card["multi"] / n)


def _fail(what: str) -> Any:
    raise SystemExit(f"build_gallery: {what}")


def _percent(share: float, digits: int = 1) -> str:
    return f"{share:.{digits}%}".replace("%", " %")


def _points(share: float) -> str:
    return f"{share * 100:.1f}"


def _between(row: dict[str, Any], lo: str, hi: str) -> str:
    return f"{_points(row[lo])} to {_points(row[hi])}"


def _set_sizes(t: Tables) -> str:
    return (
        f"On ImageNet's validation set (ReaL), {t.multi(V1)} of the non-empty label sets have two or more "
        f"labels. On ImageNetV2 (Multilabelfy), which was labelled under a different protocol, "
        f"{t.multi(V2)} do. The figure includes empty label sets, so its shares are "
        f"{t.multi(V1, empty=True)} and {t.multi(V2, empty=True)}."
    )


def _class_pairs(t: Tables) -> str:
    best = [t["class_pairs"].filter(pl.col("dataset") == d).row(0, named=True) for d in (V1, V2)]
    pairs = [f"*{r['name_a']}* and *{r['name_b']}* ({r['images']} images)" for r in best]
    return f"The most frequent pairs are {pairs[0]} on the validation set and {pairs[1]} on ImageNetV2."


def _by_set(t: Tables) -> str:
    gain = t.drop(dataset_x=V1, dataset_y=V1, metric_x="top1", metric_y="real1")
    return (
        f"The mean accuracy of {gain['n_models']} models is {_points(-gain['drop'])} points higher under "
        "label sets than under original labels."
    )


def _by_size(t: Tables) -> str:
    value = {
        (r["metric"], r["slice"]): r["value"]
        for r in t["results"]
        .filter(pl.col("dataset") == V1)
        .group_by("metric", "slice")
        .agg(pl.col("value").median())
        .to_dicts()
    }
    one, four = (value["top1", f"n_labels{s}"] for s in ("=1", ">=4"))
    return (
        f"Under original labels, the accuracy of the median model falls from {_percent(one)} on images with "
        f"one label to {_percent(four)} on images with four or more labels; under label sets, it is still "
        f"{_percent(value['real1', 'n_labels>=4'])}."
    )


def _objects(t: Tables) -> str:
    mean = t.drop(slice_x="annotation=*", slice_y="n_objects>=2")
    return (
        f"On images with two or more objects, {mean['n_models']} networks lose {_points(mean['drop'])} "
        "points of top-1 on "
        f"average ({_between(mean, 'lo', 'hi')} over images, "
        f"{_between(mean, 'lo_models', 'hi_models')} over families)."
    )


def _shift(t: Tables) -> str:
    top, real = (
        t.row("fits", dataset_x=V1, dataset_y=V2, metric_x=m, metric_y=m, scale="probit", models="all")
        for m in ("top1", "real1")
    )
    return (
        "On probit axes, accuracy on one data set is nearly a linear function of accuracy on the other: R² "
        f"is {top['r2']:.3f} under original labels and {real['r2']:.3f} under label sets."
    )


def _drops(t: Tables) -> str:
    top, real = (t.drop(dataset_x=V1, dataset_y=V2, metric_x=m, metric_y=m) for m in ("top1", "real1"))
    return (
        f"On average, {top['n_models']} models lose {_points(top['drop'])} points "
        f"({_between(top, 'lo', 'hi')}) under original labels "
        f"and {_points(real['drop'])} ({_between(real, 'lo', 'hi')}) under label sets."
    )


def _sensitivity(t: Tables) -> str:
    found = {
        a: t.row("sensitivity", metric="real1", analysis=a)["drop"]
        for a in ("as published", "sizes of y", "sizes of x")
    }
    return (
        f"Under label sets, the loss is {_points(found['as published'])} points as published, "
        f"{_points(found['sizes of y'])} points with the set sizes of ImageNetV2, and "
        f"{_points(found['sizes of x'])} points with the set sizes of the validation set. None of these "
        "values is a correction."
    )


def _robustness(t: Tables) -> str:
    rows = t["drops"].filter(
        pl.col("dataset_y") == V2, pl.col("metric_x") == "top1", pl.col("model").is_not_null()
    )
    near = rows.filter(pl.col("above_fit").abs() < 0.01).height
    return (
        f"For {near:,} of {len(rows):,} rows, accuracy on ImageNetV2 is within one point of the value that "
        "the fitted line predicts from accuracy on ImageNet: hardly any model is more robust than its "
        "accuracy predicts."
    )


def _natural(t: Tables) -> str:
    mean = t.drop(dataset_y="imagenet-a", metric_x="top1")
    return (
        f"The mean accuracy of {mean['n_models']:,} rows is {_percent(mean['value_x'])} on ImageNet's images "
        f"of 200 classes, and {_percent(mean['value_y'])} on the images of ImageNet-A, which were selected "
        "to be hard."
    )


def _saturation(t: Tables) -> str:
    rows = t["fits"].filter(pl.col("metric_y") == "real1", pl.col("scale") == "plain")
    whole, best = (rows.filter(pl.col("models") == m).row(0, named=True) for m in ("all", "x>=0.85"))
    return (
        f"One point of top-1 corresponds to {whole['slope']:.3f} points of ReaL accuracy over all "
        f"{whole['n']:,} rows, and to "
        f"{best['slope']:.3f} ({best['slope_lo']:.3f} to {best['slope_hi']:.3f}) among the "
        f"{best['n']} rows with a top-1 of 85 % or more."
    )


def _label_errors(t: Tables) -> str:
    best = (
        t["results"]
        .filter(pl.col("dataset") == V1, pl.col("metric") == "top1", pl.col("slice") == "all")
        .sort("value", descending=True)["model"][0]
    )
    row = t.row("results", dataset=V1, metric="valid_errors", slice="all", model=best)
    return (
        f"For {_percent(row['value'])} ({_between(row, 'lo', 'hi')}) of the {row['n']:,} errors of "
        f"{best.replace('_', chr(92) + '_')}, the predicted class is in the label set."
    )


def _parameters(t: Tables) -> str:
    best = (
        t["results"]
        .filter(pl.col("dataset") == V1, pl.col("metric") == "real1", pl.col("slice") == "all")
        .join(t["models"], on="model")
    )
    large = best.sort("params").row(-1, named=True)
    top = best.sort("value").row(-1, named=True)
    return (
        f"Among {len(best):,} rows, the most accurate model has {top['params']:,.0f} million parameters and "
        f"an accuracy of {_percent(top['value'])}; the largest model has {large['params']:,.0f} million "
        f"parameters and an accuracy of {_percent(large['value'])}."
    )


def _kinds(t: Tables) -> str:
    judged = t["results"].filter(
        pl.col("dataset") == V1, pl.col("metric") == "real1", pl.col("slice") == "all"
    )
    models = t["models"].join(judged, on="model", how="semi")
    one = models.filter(pl.col("pretraining") == "in-1k").height
    return (
        f"The {len(models):,} rows belong to {models['family'].n_unique()} families. According to their "
        f"names, {one:,} of the models were trained on ImageNet-1k only."
    )


def _agreement(t: Tables) -> str:
    row = t.row("ranks", dataset_x=V1, dataset_y=V2, metric_x="top1", metric_y="top1")
    within = t.row("ranks", dataset_x=V1, dataset_y=V1, metric_x="top1", metric_y="real1")
    return (
        f"From one data set to the other, {row['n_swapped']} of {row['n_pairs']:,} pairs of models "
        "change order, "
        f"{row['n_beyond_noise'] or 'none'} of them beyond noise; from original labels to label sets, "
        f"{within['n_swapped']} pairs do, {within['n_beyond_noise'] or 'none'} of them beyond noise."
    )


def _changes(t: Tables) -> str:
    row = t.row("ranks", dataset_x=V1, dataset_y=V2, metric_x="real1", metric_y="real1")
    return (
        f"Under label sets, Kendall's tau between the two data sets is {row['tau']:.3f} "
        f"({row['lo']:.3f} to {row['hi']:.3f} over images)."
    )


ENTRIES = (
    Entry("imagenet", "set-sizes", "How many labels do images have?", _set_sizes),
    Entry("imagenet", "class-pairs", "Which classes occur together?", _class_pairs),
    Entry("imagenet", f"saturation-{V1}", "Original labels against label sets", _by_set),
    Entry("imagenet", f"set-size-accuracy-{V1}", "Is it harder with more labels?", _by_size),
    Entry("tsipras", f"objects-{V1}", "How do several objects affect top-1 accuracy?", _objects),
    Entry("imagenet", f"shift-{V1}-{V2}", "Accuracy on other images", _shift),
    Entry("imagenet", f"drops-{V1}-{V2}", "How much do models lose on other images?", _drops),
    Entry("imagenet", f"sensitivity-{V1}-{V2}", "How much of the loss is due to the protocol?", _sensitivity),
    Entry(
        "timm", f"robustness-{V1}-{V2}", "Is any model more robust than its accuracy predicts?", _robustness
    ),
    Entry(
        "timm",
        "shift-imagenet-val-a-classes-imagenet-a",
        "How do models do on images selected to be hard?",
        _natural,
    ),
    Entry("timm", f"saturation-{V1}", "Has accuracy saturated?", _saturation),
    Entry("imagenet", f"label-errors-{V1}", "How many errors are valid predictions?", _label_errors),
    Entry("timm", f"parameters-{V1}", "Are larger models more accurate?", _parameters),
    Entry("timm", f"kinds-{V1}", "Which kinds of models are accurate?", _kinds),
    Entry(
        "imagenet", "rank-agreement", "Do metrics and data sets rank models in the same order?", _agreement
    ),
    Entry("imagenet", "rank-changes", "Which models change rank?", _changes),
)
"""What the gallery shows, in the order in which it does."""


def main() -> None:
    """Draw the figures of the folders that are given and write the page."""
    folders = {Path(f).resolve().name: Path(f) for f in sys.argv[1:]}
    missing = {e.folder for e in ENTRIES} - set(folders)
    if missing:
        _fail(f"give the folders {', '.join(sorted(missing))}")
    read = {name: read_tables(path) for name, path in folders.items()}
    drawn = {name: {f.name: f for f in draw_figures(tables)} for name, tables in read.items()}
    shutil.rmtree(PICTURES, ignore_errors=True)
    PICTURES.mkdir(parents=True)
    parts = [HEAD]
    for entry in ENTRIES:
        figure = drawn[entry.folder][entry.figure]
        name = f"{entry.folder}-{entry.figure}.svg"
        with tempfile.TemporaryDirectory() as folder:
            save_figures([figure], Path(folder))
            # Vector graphics are a tenth of the size of pictures, and sharp.
            shutil.copyfile(Path(folder) / f"{entry.figure}.svg", PICTURES / name)
        parts.append(
            f"## {entry.heading}\n\n![{_plain(figure.alt)}](../../images/gallery/{name})\n\n"
            f"{entry.shows(Tables(read[entry.folder]))}\n\n{figure.caption}\n\n"
            f"```console\n{_command(read[entry.folder], entry.folder)}\n```\n"
        )
    (DOCS / "guides" / "evaluate" / "figures.md").write_text("\n".join(parts), encoding="utf-8")


def _plain(alt: str) -> str:
    return alt.replace("[", "(").replace("]", ")").replace("_", r"\_").replace("*", r"\*")


def _command(tables: ReportTables, folder: str) -> str:
    """Return the command that made the tables, with the folder as it is called here."""
    words = tables.about.get("call", "").split()
    if "--out" not in words:
        _fail(f"{folder} was not made by a command with --out")
    words[words.index("--out") + 1] = folder
    return " ".join(words)


if __name__ == "__main__":
    main()
