"""Models on one data set: accuracy on original labels against accuracy on label sets."""

from __future__ import annotations

from manyhot.report.figure import Figure
from manyhot.report.figures.numbers import Numbers, column
from manyhot.report.figures.panel import beyond_said, compose, points_said
from manyhot.report.figures.scatter import plain_side, scatter, shown_both
from manyhot.report.figures.words import axis, short, slug
from manyhot.report.words import called, counted


def draw_models(numbers: Numbers) -> list[Figure]:
    """Return the figures of the section."""
    drawn = (top1_against_real(numbers, dataset) for dataset in numbers.datasets)
    return [figure for figure in drawn if figure is not None]


def top1_against_real(numbers: Numbers, dataset: str) -> Figure | None:
    """Return ReaL against top-1 accuracy, a point a model."""
    both = numbers.both((dataset, "top1"), (dataset, "real1"))
    if both.is_empty():
        return None
    sheet = {"model": column(both, "model")} | {
        name: column(both, name, 100) for name in ("x", "x_lo", "x_hi", "y", "y_lo", "y_hi")
    }
    xs, ys = shown_both(sheet)
    panel = scatter(
        "models",
        sheet,
        plain_side([axis("top1")], xs),
        plain_side([axis("real1")], ys),
        title="",
        tips=[
            (short("top1"), "x", "2", " %", "x_lo", "x_hi"),
            (short("real1"), "y", "2", " %", "y_lo", "y_hi"),
        ],
        equal=True,
        own=numbers.own,
        width=400,
        height=320,
    )
    gains = both.filter(both["y"] > both["x"]).height
    return Figure(
        f"models-{slug(dataset)}",
        "models",
        dataset,
        f"Original labels against label sets, {called(dataset)}",
        f"{points_said(both.height, 'the 95 % intervals')} On the dashed line both accuracies are the "
        "same; a model above it gains from being judged on label sets." + beyond_said([panel]),
        f"{gains:,} of {counted(both.height, 'model')} have a higher accuracy on label sets than on original "
        f"labels. Top-1 accuracy is {min(sheet['x']):.1f} to {max(sheet['x']):.1f} %, ReaL accuracy "
        f"{min(sheet['y']):.1f} to {max(sheet['y']):.1f} %.",
        compose([panel], numbers.own),
        both.drop("x_n", "y_n").to_arrow(),
    )
