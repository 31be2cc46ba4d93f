"""The command line: parse, make one public call, print what was written.

Nothing but Typer is imported before a command runs, so that ``--help`` and completion answer at once.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import sys
import threading
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from manyhot._version import __version__
from manyhot.cli.predicting import print_doctor, print_models, print_predicted, show_events
from manyhot.cli.printing import (
    options_text,
    print_catalog,
    print_comparison,
    print_description,
    print_leaderboard,
    print_outcome,
    print_similar,
    print_table,
    print_undrawn,
    print_written,
    show_progress,
)
from manyhot.errors import ManyhotError

app = typer.Typer(
    name="manyhot",
    help="Judge image classifiers on label sets: an image is worth more than a single word.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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


class LeaderboardFormat(StrEnum):
    """How a leaderboard is written."""

    table = "table"
    csv = "csv"
    markdown = "markdown"
    latex = "latex"
    json = "json"


class SimilarBy(StrEnum):
    """Whose images are searched for."""

    predicted = "predicted"
    label = "label"
    any = "any"


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

MetricOption = Annotated[
    list[str] | None,
    typer.Option(
        "--metric", help="A metric or call string, such as 'jaccard(threshold=0.5)'; repeat for more."
    ),
]

SliceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--slice",
        help="Also: class=KEY, class for all; of the images table COLUMN, COLUMN=VALUE, "
        "'COLUMN>=NUMBER', COLUMN=* for images with a value.",
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
    metric: MetricOption = None,
    slice_: SliceOption = None,
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
    with show_progress() as progress:
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
    print_outcome(outcome, as_json)


@app.command()
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
    from manyhot import pipeline

    with show_progress() as progress:
        done = pipeline.compare_files(
            results,
            out,
            families=families,
            without=without or (),
            best_from=best_from,
            resamples=resamples,
            seed=seed,
            call=_call(),
            progress=progress,
        )
    print_comparison(done, out, as_json)


@app.command()
def describe(
    labels: Annotated[
        list[str], typer.Argument(help="Label sets in any format, or a benchmark such as imagenet.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the tables; without it, print.")
    ] = None,
    rows: Annotated[
        Path | None, typer.Option("--rows", help="Original labels, where a file has none.")
    ] = None,
    classes: ClassesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count labels of images: sizes of label sets, pairs of classes, original labels that were rejected.

    Example: manyhot describe imagenet
    """
    from manyhot import pipeline

    with show_progress() as progress:
        description, written = pipeline.describe_files(
            labels, out, rows=rows, classes=classes, call=_call(), progress=progress
        )
    print_description(description, written, as_json)


@app.command()
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
    from manyhot import pipeline

    if out is not None:
        pipeline.check_apart(results or (), out)
    with show_progress() as progress:
        ranked = pipeline.leaderboard(results or ("timm-results",), by=by, dataset=dataset, progress=progress)
    print_leaderboard(ranked.slice(0, top) if top else ranked, kind.value if kind else "", out)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A folder that evaluate or compare wrote.")],
    title: Annotated[str, typer.Option("--title", help="Title of the report.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Draw the report of a folder anew: one HTML file, its figures as SVG, PNG and CSV, its tables as text.

    Example: manyhot report imagenet
    """
    from manyhot import pipeline

    print_written(pipeline.report_folder(folder, title=title), as_json)
    print_undrawn(as_json)


@app.command()
def predict(
    source: Annotated[
        str,
        typer.Argument(
            help="Images: a folder, a list (.txt, .csv), tar shards, Parquet, a Hugging Face data set "
            "(hf:NAME); a path or an address such as s3://bucket/folder."
        ),
    ],
    model: Annotated[
        list[str],
        typer.Option(
            "--model", help="A model, such as timm/resnet50.a1_in1k; repeat for more. 'manyhot models' lists."
        ),
    ],
    out: OutOption = Path("predictions"),
    labels: Annotated[
        Path | None, typer.Option("--labels", help="CSV with the original label of each image.")
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option("--classes", help="Class list of the data set, where it is not that of the model."),
    ] = None,
    top: Annotated[int | None, typer.Option("--top", help="Best classes to keep; 20 by default.")] = None,
    dense: Annotated[bool, typer.Option("--dense", help="Keep the scores of all classes instead.")] = False,
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="Keep the penultimate features, too.")
    ] = False,
    engine: Annotated[
        str,
        typer.Option(
            "--engine",
            help="auto takes the fastest with the same answers; or torch, openvino, onnx; ray for a cluster.",
        ),
    ] = "auto",
    precision: Annotated[
        str,
        typer.Option(
            "--precision", help="f32; bf16 and f16 are faster on some processors, and change answers."
        ),
    ] = "f32",
    shard: Annotated[
        str, typer.Option("--shard", help="I/N: only part I of N, from 0; the last to finish merges all.")
    ] = "0/1",
    workers: Annotated[int | None, typer.Option("--workers", help="Threads; one a core by default.")] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", help="Images at once; what suits the engine by default.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print events, a JSON object a line, instead of text.")
    ] = False,
) -> None:
    """Run image classifiers over images. Stopped at any moment, the same command goes on where it was.

    Examples: manyhot predict photos --model efficientnet-lite0 --out predictions ·
    manyhot predict 's3://bucket/val-{000..099}.tar' --model timm/resnet50.a1_in1k --shard 3/16
    """
    from manyhot import pipeline

    if dense and top is not None:
        raise typer.BadParameter("--top and --dense exclude each other")
    with show_events(as_json) as notify:
        done = pipeline.predict_files(
            source,
            model,
            out,
            labels=labels,
            classes=classes,
            top=None if dense else top or 20,
            engine=engine,
            precision=precision,
            embeddings=embeddings,
            shard=_shard(shard),
            workers=workers,
            batch=batch,
            call=_call(),
            notify=notify,
        )
    print_predicted(done, out, as_json)


def _shard(text: str) -> tuple[int, int]:
    index, _, of = text.partition("/")
    if not (index.isdigit() and of.isdigit() and int(index) < int(of)):
        raise typer.BadParameter(f"--shard is I/N with I from 0 to N-1, such as 0/4; got {text}")
    return int(index), int(of)


@app.command()
def models(
    pattern: Annotated[
        str, typer.Argument(help="Which, such as 'eva02*' or 'torchvision/*'; all by default.")
    ] = "*",
    as_json: JsonOption = False,
) -> None:
    """List the models that predict takes.

    Example: manyhot models 'eva02*'
    """
    from manyhot import pipeline

    print_models(pipeline.list_models(pattern), pattern, as_json)


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Tell what this machine can predict with, and how to get the rest."""
    from manyhot import pipeline

    print_doctor(pipeline.examine(), as_json)


@app.command()
def similar(
    index: Annotated[Path, typer.Argument(help="Folder that predict --embeddings wrote: where to search.")],
    queries: Annotated[
        Path | None,
        typer.Option(
            "--queries", help="Such a folder too: the images asked about. Those of INDEX by default."
        ),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", help="Whose embeddings, where the folder has several models'.")
    ] = "",
    classes: Annotated[
        SimilarBy,
        typer.Option(
            "--classes", help="Search among images of the best predicted classes, the label, or any."
        ),
    ] = SimilarBy.predicted,
    top: Annotated[int, typer.Option("--top", help="Predicted classes of each image.", min=1)] = 5,
    k: Annotated[int, typer.Option("-k", help="Neighbours for each image and class.", min=1)] = 10,
    out: Annotated[Path, typer.Option("--out", help="File to write: .parquet.", dir_okay=False)] = Path(
        "similar.parquet"
    ),
    as_json: JsonOption = False,
) -> None:
    """Find the nearest images by embedding, of each class that an image may show.

    Example: manyhot similar predictions --queries photos --out similar.parquet
    """
    from manyhot import pipeline

    with show_progress() as progress:
        found, written = pipeline.similar_files(
            index,
            model=model,
            queries=queries,
            k=k,
            classes=classes.value,
            top=top,
            out=out,
            call=_call(),
            progress=progress,
        )
    print_similar(found, written, as_json)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Labels, predictions, images or results in any format.")],
    target: Annotated[Path, typer.Argument(help="File to write: .parquet or .csv.")],
    rows: RowsOption = None,
    classes: ClassesOption = None,
    scores: Annotated[
        str | None, typer.Option("--scores", help="What scores are: logit, probability or score.")
    ] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="The format, or a call string: 'chen(threshold=0.9)'.")
    ] = None,
    long: Annotated[
        bool, typer.Option("--long", help="CSV with one row for each (image, class) pair.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Convert labels, predictions, images or results to Parquet or CSV.

    Example: manyhot convert real.json labels.parquet
    """
    from manyhot import pipeline

    written = pipeline.convert(
        source,
        target,
        rows=rows,
        classes=classes,
        scores=scores,
        format=format_,
        long=long,
        call=_call(),
    )
    print_written([written], as_json)


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
        print_catalog(as_json)
        return
    written: list[Path] = []
    for name in [catalog.entry(n).name for n in names]:
        with show_progress() as progress:
            told = (
                None if progress is None else (lambda done, of, n=name: progress(f"fetching {n}", done, of))
            )
            written += catalog.fetch(name, progress=told).values()
    print_written(written, as_json)


@app.command()
def metrics(as_json: JsonOption = False) -> None:
    """List the metrics, what each is, and its options."""
    from manyhot import registry

    entries = [registry.get("metric", name) for name in registry.names("metric")]
    rows = [(e.name, e.about["better"], options_text(e), e.summary) for e in entries]
    if as_json:
        typer.echo(
            json.dumps([dict(zip(("name", "better", "options", "summary"), r, strict=True)) for r in rows])
        )
        return
    print_table(("metric", "better", "options", "what it is"), rows)


def main() -> None:
    """Run the command line and exit with its code.

    Codes: 0 done; 1 a bug; 2 wrong usage or unknown name; 3 bad input; 4 an extra is not installed;
    5 data could not be fetched; 6 a result could not be written; 130 interrupted.
    """
    if "" in sys.argv[1:]:
        # A variable of the shell that is not set; a folder called nothing would be the current one.
        sys.stderr.write("Error: An argument is empty.\n  do:      check the variables in the command\n")
        sys.exit(2)
    try:
        app(prog_name="manyhot")
    except ManyhotError as error:
        typer.secho(f"Error: {error}", err=True, fg="red" if sys.stderr.isatty() else None)
        _leave(error.exit_code)
    except OSError as error:
        _leave(_refused(error))
    except SystemExit as stop:
        if stop.code == 130:  # what Typer makes of Ctrl-C, without a word
            typer.echo("Interrupted; no file was left half-written.", err=True)
            _leave(130)
        raise


def _leave(code: int) -> NoReturn:
    """Exit, at once where threads are at work."""
    if threading.active_count() > 1:
        # An engine cannot be stopped within a batch, and aborts when Python ends under it.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def _refused(error: OSError) -> int:
    """Say what the system refused, and return the exit code."""
    what = error.strerror or str(error)
    if error.filename is None and error.errno in (errno.ENOSPC, errno.EPIPE, errno.EBADF, errno.EIO):
        # Files raise errors of our own; this is standard output: full, or nobody reads on.
        sys.stderr.write(f"Error: Cannot write to standard output: {what}.\n")
        return 6
    where = "" if error.filename is None else f"\n  where:   {error.filename}"
    sys.stderr.write(f"Error: A file or folder cannot be used: {what}.{where}\n")
    return 3


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
