"""The commands that say what models lose elsewhere: diagnose robustness, diagnose corruptions."""

from __future__ import annotations

import contextlib
import datetime
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manyhot.cli.diagnosing import ImagesOption, ModelsOption, PredictionsOption, TrustOrderOption
from manyhot.cli.options import ClassesOption, JsonOption, OutOption, RowsOption, call
from manyhot.cli.printing import counts, print_table, print_written, say, show_progress

if TYPE_CHECKING:
    from manyhot.diagnose.robustness import Robustness
    from manyhot.formats.writing import Progress

Row = dict[str, Any]

LINE_EVERY_S = 60.0
"""Seconds between two lines of progress where nobody watches."""

FEW = 8
"""Models up to which each is printed beside their mean."""

ResamplesOption = Annotated[
    int, typer.Option("--resamples", help="Bootstrap resamples; 0 for no intervals and no shares.", min=0)
]


def robustness(
    datasets: Annotated[
        list[str],
        typer.Argument(
            help="Benchmarks such as imagenet, or data sets of them; label sets, images, campaigns; or "
            "results: folders that evaluate wrote, timm-results."
        ),
    ],
    base: Annotated[
        str, typer.Option("--base", help="The data set that others are compared with; the first by default.")
    ] = "",
    predictions: PredictionsOption = None,
    models: ModelsOption = None,
    without: Annotated[
        list[str] | None,
        typer.Option("--without", help="Models to leave out, such as 'fv_*'; repeat for more."),
    ] = None,
    rows: RowsOption = None,
    images: ImagesOption = None,
    classes: ClassesOption = None,
    resamples: ResamplesOption = 1000,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the bootstrap.", min=0)] = 0,
    trust_order: TrustOrderOption = False,
    out: OutOption = Path("robustness"),
    as_json: JsonOption = False,
) -> None:
    """Measure what models lose from one data set to another, and what share of it is missing labels.

    Under original labels and under label sets, on the images that both can judge.

    Examples: manyhot diagnose robustness imagenet · manyhot diagnose robustness timm-results ·
    manyhot diagnose robustness mine/labels.parquet other/labels.parquet --predictions predictions
    """
    from manyhot.diagnose.robustness import diagnose_robustness_files

    with show_progress() as progress:
        found, written = diagnose_robustness_files(
            datasets,
            out,
            base=base,
            predictions=predictions or (),
            models=models or (),
            without=without or (),
            rows=rows,
            images=images,
            classes=classes,
            resamples=resamples,
            seed=seed,
            trust_order=trust_order,
            call=call(),
            progress=progress,
        )
    if as_json:
        _print_json(found, written)
        return
    print_losses(found.losses.to_pylist())
    _print_rest(found, written)


def corruptions(
    source: Annotated[str, typer.Argument(help="Images, as for predict.")],
    model: Annotated[list[str], typer.Option("--model", help="A model, as for predict; repeat for more.")],
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            help="Label sets; or images with original labels, as a table or CSV. By default what the "
            "source tells.",
        ),
    ] = None,
    images: ImagesOption = None,
    classes: ClassesOption = None,
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", help="A corruption, such as fog; repeat for more. All fifteen by default."),
    ] = None,
    severity: Annotated[
        list[int] | None,
        typer.Option("--severity", help="1 to 5; repeat for more. All by default.", min=1, max=5),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", help="Images to take, by a hash of their ids.", min=1)
    ] = None,
    baseline: Annotated[
        str,
        typer.Option(
            "--baseline",
            help="The model whose errors others are divided by. On ImageNet's classes alexnet by default, "
            "whose errors are published.",
        ),
    ] = "",
    dense: Annotated[
        bool, typer.Option("--dense", help="Keep the scores of all classes: for average precision.")
    ] = False,
    engine: Annotated[str, typer.Option("--engine", help="As for predict.")] = "auto",
    workers: Annotated[int | None, typer.Option("--workers", help="Threads; one a core by default.")] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", help="Images at once; what suits the engine by default.")
    ] = None,
    resamples: ResamplesOption = 1000,
    seed: Annotated[
        int, typer.Option("--seed", help="Seed of corruptions, choice of images and bootstrap.", min=0)
    ] = 0,
    out: OutOption = Path("corruptions"),
    as_json: JsonOption = False,
) -> None:
    """Corrupt images as ImageNet-C does, and measure what models lose and what share is missing labels.

    Each corrupted copy is made while it is predicted, into a folder of its own, such as fog-3. Stopped at any
    moment, the same command goes on where it was.

    Example: manyhot diagnose corruptions photos --labels labels.parquet --model efficientnet-lite0 --kind fog
    """
    from manyhot.diagnose.corruptions import diagnose_corruptions_files

    with _progress() as progress:
        found, written = diagnose_corruptions_files(
            source,
            model,
            out,
            labels=labels,
            images=images,
            classes=classes,
            kinds=kind or (),
            severities=severity or (),
            limit=limit,
            baseline=baseline,
            dense=dense,
            engine=engine,
            workers=workers,
            batch=batch,
            resamples=resamples,
            seed=seed,
            call=call(),
            progress=progress,
        )
    if as_json:
        _print_json(found, written)
        return
    print_corruptions(found)
    _print_rest(found, written)


@contextlib.contextmanager
def _progress() -> Iterator[Progress | None]:
    """Yield what draws progress; where nobody watches it says a line a minute, as predict does."""
    if sys.stderr.isatty():
        with show_progress() as progress:
            yield progress
        return
    begun = last = time.monotonic()

    def tell(what: str, done: int, of: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < LINE_EVERY_S or not done:
            return
        last = now
        left = datetime.timedelta(seconds=round((now - begun) * (of - done) / done))
        say(f"{what}: {done:,} of {of:,}, {left} left", err=True)

    yield tell


def _print_json(found: Robustness, written: Sequence[Path]) -> None:
    told: dict[str, Any] = {name: _plain(t.to_pylist()) for name, t in found.tables.items()}
    typer.echo(json.dumps(told | {"notes": found.notes, "written": [str(p) for p in written]}))


def _plain(rows: Sequence[Row]) -> list[Row]:
    return [{k: None if v != v else v for k, v in r.items()} for r in rows]


def _print_rest(found: Robustness, written: list[Path]) -> None:
    for note in found.notes:
        say(f"Note: {note}.", err=True)
    print_written(written, False)


def print_losses(rows: Sequence[Row]) -> None:
    """Print what is lost between each two data sets: on average, and by each model if they are few."""
    for base, dataset in dict.fromkeys((r["base"], r["dataset"]) for r in rows):
        of = [r for r in rows if (r["base"], r["dataset"]) == (base, dataset)]
        models = {r["model"] for r in of} - {None}
        shown = [r for r in of if r["model"] is None or len(models) <= FEW]
        share = any(r["share"] is not None for r in shown)
        more = ", and what share of those of top1 is missing labels" if share else ""
        say(f"{base} → {dataset}: points lost{more}")
        head = ("model", "metric", "lost", *(["missing labels"] if share else []), "images")
        print_table(head, [_line(r, share) for r in shown])
        typer.echo()


def _line(row: Row, share: bool) -> tuple[str, ...]:
    lost, missing = _loss(row)
    images = f"{row['n_base']:,} → {row['n']:,}"
    return (_named(row), row["metric"], lost, *([missing] if share else []), images)


def _named(row: Row) -> str:
    return row["model"] or f"mean of {row['n_models']:,}"


def _loss(row: Row) -> tuple[str, str]:
    return _points(row["loss"], row["lo"], row["hi"]), _percent(
        row["share"], row["share_lo"], row["share_hi"]
    )


def _points(value: float | None, lo: float | None, hi: float | None) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.1f}" + ("" if lo is None or hi is None else f" ({100 * lo:.1f} to {100 * hi:.1f})")


def _percent(value: float | None, lo: float | None, hi: float | None) -> str:
    if value is None:
        return "–"
    # Rounded first: what is a little below 0 is 0, and not -0.
    whole, low, high = (f"{round(v or 0.0, 2) + 0.0:.0%}" for v in (value, lo, hi))
    return whole if lo is None or hi is None else f"{whole} ({low} to {high})"


def print_corruptions(found: Robustness) -> None:
    """Print for each model what it loses by each kind of corruption, and its corruption errors."""
    losses, errors = found.losses.to_pylist(), found.corruption_errors.to_pylist()
    clean = {(r["model"], r["metric"]): r for r in found.robustness.to_pylist() if r["kind"] == "clean"}
    for model in dict.fromkeys(r["model"] for r in losses if r["model"] is not None):
        of = [r for r in losses if r["model"] == model and r["severity"] is None]
        metrics = list(dict.fromkeys(r["metric"] for r in of))
        images = counts(clean[model, m]["n"] for m in metrics)
        say(f"{of[0]['dataset']}, {model}: {images} pictures as they are")
        say(", ".join(_clean(clean[model, m]) for m in metrics))
        say("points lost, on average over severities")
        share = [] if "real1" not in metrics else ["missing labels"]
        head = ("", *metrics, *share, "images")
        print_table(head, [_kind(of, kind, metrics) for kind in _kinds(of)])
        typer.echo()
    print_errors([r for r in errors if r["kind"] is None])


def _kinds(rows: Sequence[Row]) -> list[str | None]:
    return [*dict.fromkeys(r["kind"] for r in rows if r["kind"] is not None), None]


def _kind(rows: Sequence[Row], kind: str | None, metrics: Sequence[str]) -> tuple[str, ...]:
    by = {r["metric"]: r for r in rows if r["kind"] == kind}
    share = [_loss(by["real1"])[1]] if "real1" in by else []
    losses = (_loss(by[m])[0] if m in by else "–" for m in metrics)
    return (kind or "all", *losses, *share, counts(by[m]["n"] for m in metrics if m in by))


def _clean(row: Row) -> str:
    ends = "" if row["lo"] is None else f" ({100 * row['lo']:.1f} to {100 * row['hi']:.1f})"
    return f"{row['metric']} {row['value']:.1%}{ends}"


def print_errors(rows: Sequence[Row]) -> None:
    """Print mean errors on corrupted pictures, and mean corruption errors where there is a baseline."""
    names = ("error", "ce", "relative")
    cells = [
        (
            r["model"],
            f"1 - {r['metric']}",
            *(_percent(*(r[n + e] for e in ("", "_lo", "_hi"))) for n in names),
            f"{r['n']:,}",
        )
        for r in rows
    ]
    baselines = ", ".join(dict.fromkeys(r["baseline"] for r in rows if r["baseline"]))
    over = f", over those of {baselines}" if baselines else ""
    say(f"mean errors on corrupted pictures{over}")
    print_table(("model", "error", "mean", "mCE", "relative mCE", "images"), cells)
    typer.echo()
