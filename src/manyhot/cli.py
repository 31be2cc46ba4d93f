"""The command line: parse, make one public call, print what was written.

Nothing but Typer is imported before a command runs, so that ``--help`` and completion answer at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from manyhot._version import __version__
from manyhot.errors import ManyhotError

if TYPE_CHECKING:
    from manyhot.pipeline import Outcome, Progress
    from manyhot.registry import Entry

app = typer.Typer(
    name="manyhot",
    help="Judge image classifiers on label sets: an image is worth more than a single word.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

HEADLINE = ("top1", "real1", "mla", "variable_topk", "asma")
"""Metrics printed after an evaluation; all are in the files."""


class ManyValues(TyperCommand):
    """A command whose option ``--predictions`` takes one or more values: ``--predictions a.npy b.npy``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the option before each further value, which is what Click understands."""
        spread: list[str] = []
        taking = False
        for arg in args:
            if taking and not arg.startswith("-") and spread[-1] != "--predictions":
                spread.append("--predictions")
            elif arg.startswith("-"):
                taking = arg.partition("=")[0] == "--predictions"
            spread.append(arg)
        return super().parse_args(ctx, spread)


JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object instead of text, for machines.")
]
OutOption = Annotated[
    Path, typer.Option("--out", help="Folder to write to; made if absent.", file_okay=False)
]
RowsOption = Annotated[
    Path | None,
    typer.Option(
        "--rows", help="The image of each row of array files: data-set JSON, CSV, Parquet, or list of ids."
    ),
]

ClassesOption = Annotated[
    Path | None,
    typer.Option("--classes", help="Class list: one key a line, a table with key and name, or imagenet1k."),
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"manyhot {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


@app.command(cls=ManyValues)
def evaluate(
    benchmark: Annotated[
        str | None, typer.Argument(help="A published benchmark, such as imagenet: fetched and judged whole.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Label sets, in any format that holds labels.")
    ] = None,
    predictions: Annotated[
        list[Path] | None,
        typer.Option("--predictions", help="Files and folders of predictions; takes several values."),
    ] = None,
    rows: RowsOption = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", help="Images table: original labels, columns to slice by, pictures."),
    ] = None,
    classes: ClassesOption = None,
    dataset: Annotated[str, typer.Option("--dataset", help="Name of the data set in the results.")] = "",
    out: OutOption = Path("results"),
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric", help="A metric or call string, such as 'jaccard(threshold=0.5)'; repeat for more."
        ),
    ] = None,
    slice_: Annotated[
        list[str] | None,
        typer.Option(
            "--slice", help="Also: class=KEY, class for all, COLUMN or COLUMN=VALUE of the images table."
        ),
    ] = None,
    resamples: Annotated[
        int, typer.Option("--resamples", help="Bootstrap resamples; 0 for no intervals.")
    ] = 1000,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the bootstrap.")] = 0,
    map_resamples: Annotated[
        int,
        typer.Option(
            "--map-resamples", help="Resamples for mAP and macro F1, at most 200; 0 for no interval."
        ),
    ] = 0,
    trust_order: Annotated[
        bool,
        typer.Option("--trust-order", help="Judge rows and classes as they lie, whatever they look like."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Judge models on label sets: results, pairs of models and a report.

    Examples: manyhot evaluate imagenet --out imagenet ·
    manyhot evaluate --labels real.json --predictions resnet50.npy --rows rows.json --out results
    """
    from manyhot import pipeline

    own = (labels, images, classes, dataset)
    _check_usage(benchmark, labels, predictions, any(own))
    options = pipeline.Options(
        tuple(metric) if metric else None, tuple(slice_ or ()), resamples, seed, map_resamples, trust_order
    )
    with _progress() as progress:
        if benchmark is not None:
            outcome = pipeline.evaluate_benchmark(
                benchmark,
                out,
                predictions=predictions or (),
                rows=rows,
                options=options,
                call=_call(),
                progress=progress,
            )
        else:
            assert labels is not None
            outcome = pipeline.evaluate_files(
                labels,
                predictions or (),
                out,
                rows=rows,
                images=images,
                classes=classes,
                dataset=dataset,
                options=options,
                call=_call(),
                progress=progress,
            )
    _print_outcome(outcome, as_json)


@app.command()
def predict(
    folder: Annotated[Path, typer.Argument(help="Folder of images, flat or nested.")],
    model: Annotated[list[str], typer.Option("--model", help="A registered model; repeat for more.")],
    out: OutOption = Path("predictions"),
    top: Annotated[int | None, typer.Option("--top", help="Best classes to keep; 20 by default.")] = None,
    dense: Annotated[bool, typer.Option("--dense", help="Keep the scores of all classes instead.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run image classifiers over a folder of images.

    Example: manyhot predict photos --model efficientnet-lite0 --out predictions
    """
    from manyhot import pipeline

    if dense and top is not None:
        raise typer.BadParameter("--top and --dense exclude each other")
    kept = None if dense else top or 20
    with _progress() as progress:
        written = pipeline.predict_folder(folder, model, out, top=kept, call=_call(), progress=progress)
    _print_written(written, as_json)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Labels, predictions or images in any known format.")],
    target: Annotated[Path, typer.Argument(help="File to write: .parquet or .csv.")],
    rows: RowsOption = None,
    classes: ClassesOption = None,
    scores: Annotated[
        str | None, typer.Option("--scores", help="What scores are: logit, probability or score.")
    ] = None,
    long: Annotated[
        bool, typer.Option("--long", help="CSV with one row for each (image, class) pair.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Convert labels, predictions or images to Parquet or CSV.

    Example: manyhot convert real.json labels.parquet
    """
    from manyhot import pipeline

    written = pipeline.convert(
        source, target, rows=rows, classes=classes, scores=scores, long=long, call=_call()
    )
    _print_written([written], as_json)


@app.command()
def fetch(
    names: Annotated[list[str] | None, typer.Argument(help="Names of the catalogue.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List what can be fetched.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Download published data, verified, into the cache folder; without names, list what there is.

    MANYHOT_MIRROR names a folder or zip archive, laid out by address, to take the files from instead.
    Example: manyhot fetch imagenet-real
    """
    from manyhot import catalog

    if list_ or not names:
        _print_catalog(as_json)
        return
    written: list[Path] = []
    for name in [catalog.entry(n).name for n in names]:
        with _progress() as progress:
            told = (
                None if progress is None else (lambda done, of, n=name: progress(f"fetching {n}", done, of))
            )
            written += catalog.fetch(name, progress=told).values()
    _print_written(written, as_json)


@app.command()
def metrics(as_json: JsonOption = False) -> None:
    """List the metrics, what each is, and its options."""
    from manyhot import registry

    entries = [registry.get("metric", name) for name in registry.names("metric")]
    rows = [(e.name, e.about["better"], _options(e), e.summary) for e in entries]
    if as_json:
        typer.echo(
            json.dumps([dict(zip(("name", "better", "options", "summary"), r, strict=True)) for r in rows])
        )
        return
    _table(("metric", "better", "options", "what it is"), rows)


def _options(entry: Entry) -> str:
    from manyhot import registry

    needed = registry.missing_options(entry)
    return ", ".join(f"{name} (needed)" if name in needed else name for name in registry.options_of(entry))


def main() -> None:
    """Run the command line and exit with its code.

    Codes: 0 done; 1 a bug; 2 wrong usage or unknown name; 3 bad input; 4 an extra is not installed;
    5 data could not be fetched; 6 a result could not be written; 130 interrupted.
    """
    try:
        app(prog_name="manyhot")
    except ManyhotError as error:
        typer.secho(f"Error: {error}", err=True, fg="red" if sys.stderr.isatty() else None)
        sys.exit(error.exit_code)
    except SystemExit as stop:
        # What Typer makes of Ctrl-C, without a word.
        if stop.code == 130:
            typer.echo("Interrupted; nothing half-written was left.", err=True)
        raise


def _call() -> str:
    return shlex.join(["manyhot", *sys.argv[1:]])


def _check_usage(
    benchmark: str | None, labels: Path | None, predictions: list[Path] | None, has_own: bool
) -> None:
    from manyhot.pipeline import BENCHMARKS

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
            "drop --labels, --images, --classes and --dataset"
        )


@contextlib.contextmanager
def _progress() -> Iterator[Progress | None]:
    """Yield a function that draws progress with the time left, or None where nobody watches."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=of)
            # What is done makes room: the next task is what one waits for.
            bars.update(tasks[what], completed=done, total=of, visible=done < of)

        yield show


def _print_outcome(outcome: Outcome, as_json: bool) -> None:
    evaluation = outcome.evaluation
    if as_json:
        numbers = [r for r in evaluation.results.to_pylist() if r["slice"] == "all"]
        numbers = [{k: None if v != v else v for k, v in r.items()} for r in numbers]
        notes = [dataclasses.asdict(n) for n in evaluation.notes]
        typer.echo(
            json.dumps({"results": numbers, "notes": notes, "written": [str(p) for p in outcome.written]})
        )
        return
    _print_headline(outcome)
    _print_notes(outcome)
    _print_written(list(outcome.written), as_json)


def _print_notes(outcome: Outcome, most: int = 5) -> None:
    notes = outcome.evaluation.notes
    for note in notes[:most]:
        typer.secho(f"Note: {note.dataset}, {note.model}: {note.text}.", err=True)
    if len(notes) > most:
        typer.echo(
            f"Note: {len(notes) - most} more, all recorded in results.parquet and the report.", err=True
        )


def _print_headline(outcome: Outcome, most: int = 15) -> None:
    """Print the best models of each data set, and one's own with their rank."""
    import polars as pl

    told = json.loads(outcome.evaluation.about["metrics"])
    wide = outcome.evaluation.summary()
    shown = [m for m in HEADLINE if m in wide.columns] or wide.columns[2:7]
    by = "real1" if "real1" in shown else shown[0]
    for (dataset,), part in wide.group_by("dataset", maintain_order=True):
        ordered = part.sort(by, descending=told[by]["better"] == "higher", nulls_last=True)
        ranked = ordered.with_row_index("rank", 1)
        kept = ranked.filter((pl.col("rank") <= most) | pl.col("model").is_in(list(outcome.highlight)))
        rows = [
            (str(r["rank"]), r["model"], *(_figure(r[m], told[m]["unit"]) for m in shown))
            for r in kept.iter_rows(named=True)
        ]
        typer.echo(f"{dataset}: {len(ranked)} models, best {min(most, len(ranked))} by {by}")
        _table(("", "model", *shown), rows)


def _figure(value: float | None, unit: str) -> str:
    if value is None or value != value:
        return "–"
    return f"{value:.2%}" if unit == "share" else f"{value:.2f}"


def _print_written(written: list[Path], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"written": [str(p) for p in written]}))
        return
    for path in written if len(written) <= 8 else []:
        typer.echo(f"wrote {path}")
    if len(written) > 8:
        typer.echo(f"wrote {len(written)} files to {written[0].parent}")


def _print_catalog(as_json: bool) -> None:
    from manyhot import catalog

    entries = [catalog.entry(name) for name in catalog.names()]
    if as_json:
        keys = ("name", "title", "home", "licence", "citation", "notes", "size")
        typer.echo(
            json.dumps(
                [{k: getattr(e, k) for k in keys} | {"files": [f.path for f in e.files]} for e in entries]
            )
        )
        return
    rows = [
        (e.name, f"{e.size / 1e6:.1f} MB", e.licence, "yes" if catalog.is_cached(e.name) else "no", e.title)
        for e in entries
    ]
    _table(("name", "size", "licence", "cached", "what"), rows)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*head, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*row)
    # Away from a terminal nothing is cut or wrapped: the lines go to a file or another program.
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
