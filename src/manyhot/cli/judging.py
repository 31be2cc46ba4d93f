"""The commands that judge: evaluate, compare, leaderboard, report."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from manyhot.cli.numbers import print_comparison, print_leaderboard, print_outcome
from manyhot.cli.options import (
    ClassesOption,
    JsonOption,
    MetricOption,
    OutOption,
    RowsOption,
    SliceOption,
    call,
)
from manyhot.cli.printing import (
    print_undrawn,
    print_written,
    show_progress,
)


class LeaderboardFormat(StrEnum):
    """How a leaderboard is written."""

    table = "table"
    csv = "csv"
    markdown = "markdown"
    latex = "latex"
    json = "json"


def evaluate(
    benchmark: Annotated[
        str | None, typer.Argument(help="A published benchmark, such as imagenet: fetched and judged whole.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            help="Label sets, in any format that holds labels, or a campaign; or an images table, or a "
            "folder that predict wrote, for the original labels alone.",
        ),
    ] = None,
    predictions: Annotated[
        list[Path] | None,
        typer.Option("--predictions", help="Files and folders of predictions; takes several values."),
    ] = None,
    rows: RowsOption = None,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            help="Images table, or a folder that predict wrote: original labels, columns to slice by, "
            "photographs.",
        ),
    ] = None,
    classes: ClassesOption = None,
    dataset: Annotated[str, typer.Option("--dataset", help="Name of the data set in the results.")] = "",
    out: OutOption = Path("results"),
    metric: MetricOption = None,
    slice_: SliceOption = None,
    resamples: Annotated[
        int, typer.Option("--resamples", help="Bootstrap resamples; 0 for no intervals.")
    ] = 1000,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the bootstrap.")] = 0,
    map_resamples: Annotated[
        int,
        typer.Option(
            "--map-resamples",
            help="Resamples for mAP, macro F1 and calibration, at most 200; 0 for no interval.",
        ),
    ] = 0,
    trust_order: Annotated[
        bool,
        typer.Option("--trust-order", help="Judge rows and classes as they lie, whatever they look like."),
    ] = False,
    gallery: Annotated[
        int | None,
        typer.Option(
            "--gallery",
            help="Images up to which the report has a gallery, if their photographs are at hand; 0 for none.",
            min=0,
            show_default="1000",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Judge models on label sets: results, pairs of models and a report.

    Examples: manyhot evaluate imagenet --out imagenet ·
    manyhot evaluate --labels real.json --predictions resnet50.npy --rows rows.json --out results
    """
    from manyhot.evaluate.benchmark import evaluate_benchmark
    from manyhot.evaluate.evaluate import Options, evaluate_files

    own = (labels, images, classes, dataset, gallery is not None)
    _check_usage(benchmark, labels, predictions, any(own))
    options = Options(
        tuple(metric) if metric else None, tuple(slice_ or ()), resamples, seed, map_resamples, trust_order
    )
    with show_progress() as progress:
        if benchmark is not None:
            outcome = evaluate_benchmark(
                benchmark,
                out,
                predictions=predictions or (),
                rows=rows,
                options=options,
                call=call(),
                progress=progress,
            )
        else:
            assert labels is not None
            outcome = evaluate_files(
                labels,
                predictions or (),
                out,
                rows=rows,
                images=images,
                classes=classes,
                dataset=dataset,
                gallery=gallery,
                options=options,
                call=call(),
                progress=progress,
            )
    print_outcome(outcome, as_json)


def compare(
    results: Annotated[
        list[str],
        typer.Argument(
            help="Folders with results, results as Parquet or CSV, timm's CSVs, or timm-results; "
            "the first data set is the one that others are compared with."
        ),
    ],
    out: OutOption = Path("comparison"),
    without: Annotated[
        list[str] | None,
        typer.Option("--without", help="Leave out models whose names fit, such as 'fv_*'; repeat for more."),
    ] = None,
    families: Annotated[
        Path | None,
        typer.Option("--families", help="CSV with model and family, where names do not tell the family."),
    ] = None,
    best_from: Annotated[
        float, typer.Option("--best-from", help="Value from which models count as the best.")
    ] = 0.85,
    resamples: Annotated[int, typer.Option("--resamples", help="Resamples of families.")] = 2000,
    seed: Annotated[int, typer.Option("--seed", help="Seed of these.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Compare models between data sets and metrics: drops, fits and orders.

    manyhot report draws them.

    Examples: manyhot compare timm-results --out timm ·
    manyhot compare results-a results-b --out comparison
    """
    from manyhot.evaluate.leaderboard import compare_files

    with show_progress() as progress:
        done = compare_files(
            results,
            out,
            families=families,
            without=without or (),
            best_from=best_from,
            resamples=resamples,
            seed=seed,
            call=call(),
            progress=progress,
        )
    print_comparison(done, out, as_json)


def leaderboard(
    results: Annotated[
        list[str] | None, typer.Argument(help="As for compare; timm-results by default.")
    ] = None,
    by: Annotated[str, typer.Option("--by", help="Metric to rank by; real1 where it is there.")] = "",
    dataset: Annotated[
        str, typer.Option("--dataset", help="Data set to rank on; the first by default.")
    ] = "",
    top: Annotated[int, typer.Option("--top", help="Models to show; 0 for all.", min=0)] = 20,
    kind: Annotated[
        LeaderboardFormat | None,
        typer.Option(
            "--format", help="How to write them; by default a table, or what the file's suffix says."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write: .csv, .json, .md or .tex.", dir_okay=False)
    ] = None,
) -> None:
    """Rank models, with intervals and what is known about them.

    Examples: manyhot leaderboard --top 10 · manyhot leaderboard results --by mla --format markdown
    """
    from manyhot.evaluate.leaderboard import leaderboard as leaderboard_leaderboard
    from manyhot.formats.writing import check_apart

    if out is not None:
        check_apart(results or (), out)
    with show_progress() as progress:
        ranked = leaderboard_leaderboard(
            results or ("timm-results",), by=by, dataset=dataset, progress=progress
        )
    print_leaderboard(ranked.slice(0, top) if top else ranked, kind.value if kind else "", out)


def report(
    folder: Annotated[Path, typer.Argument(help="A folder that evaluate or compare wrote.")],
    title: Annotated[str, typer.Option("--title", help="Title of the report.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Draw the report of a folder anew: one HTML file, its figures as SVG, PNG and CSV, its tables as text.

    Example: manyhot report imagenet
    """
    from manyhot.diagnose.page import report_folder

    print_written(report_folder(folder, title=title), as_json)
    print_undrawn(as_json)


def _check_usage(
    benchmark: str | None, labels: Path | None, predictions: list[Path] | None, has_own: bool
) -> None:
    from manyhot.data.benchmarks import BENCHMARKS

    swallowed = [str(p) for p in predictions or () if str(p) in BENCHMARKS and not p.exists()]
    if benchmark is None and swallowed:
        raise typer.BadParameter(f"name the benchmark first: manyhot evaluate {swallowed[0]} --predictions …")
    if benchmark is None and (labels is None or not predictions):
        raise typer.BadParameter(
            "give --labels and --predictions, or the name of a benchmark such as imagenet"
        )
    if benchmark is not None and has_own:
        raise typer.BadParameter(
            f"the benchmark {benchmark} brings its own labels: "
            "drop --labels, --images, --classes, --dataset and --gallery"
        )
