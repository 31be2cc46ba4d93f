"""The commands around predicting: predict, models, doctor, similar."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from manyhot.cli.events import print_files, show_events
from manyhot.cli.options import JsonOption, OutOption, call
from manyhot.cli.printing import print_doctor, print_models, print_similar, show_progress


class SimilarBy(StrEnum):
    """Whose images are searched for."""

    predicted = "predicted"
    label = "label"
    any = "any"


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
        bool, typer.Option("--embeddings", help="Keep the penultimate features, too: for similar.")
    ] = False,
    engine: Annotated[
        str,
        typer.Option(
            "--engine",
            help="auto takes the fastest with the same answers; or torch, openvino, onnx; ray or ray:ENGINE "
            "for a cluster.",
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
    from manyhot.predict.predict import predict_files

    if dense and top is not None:
        raise typer.BadParameter("--top and --dense exclude each other")
    with show_events(out, as_json) as notify:
        done = predict_files(
            source,
            list(dict.fromkeys(model)),
            out,
            labels=labels,
            classes=classes,
            top=None if dense else 20 if top is None else top,
            engine=engine,
            precision=precision,
            embeddings=embeddings,
            shard=_shard(shard),
            workers=workers,
            batch=batch,
            call=call(),
            notify=notify,
        )
    if not as_json:
        print_files(done, out)


def _shard(text: str) -> tuple[int, int]:
    index, _, of = text.partition("/")
    if not (index.isdigit() and of.isdigit() and int(index) < int(of)):
        raise typer.BadParameter(f"--shard is I/N with I from 0 to N-1, such as 0/4; got {text}")
    return int(index), int(of)


def models(
    pattern: Annotated[
        str, typer.Argument(help="Which, such as 'eva02*' or 'torchvision/*'; all by default.")
    ] = "*",
    as_json: JsonOption = False,
) -> None:
    """List the models that predict takes.

    Example: manyhot models 'eva02*'
    """
    from manyhot.predict.find import list_models

    print_models(list_models(pattern), pattern, as_json)


def doctor(as_json: JsonOption = False) -> None:
    """Tell what this machine can predict with, and how to get the rest."""
    from manyhot.predict.doctor import examine

    print_doctor(examine(), as_json)


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
    from manyhot.predict.similar import similar_files

    with show_progress() as progress:
        found, written = similar_files(
            index,
            model=model,
            queries=queries,
            k=k,
            classes=classes.value,
            top=top,
            out=out,
            call=call(),
            progress=progress,
        )
    print_similar(found, written, as_json)
