"""Images to files of predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from manyhot import tables
from manyhot.pipeline.common import PathLike, Progress


def predict_folder(
    source: PathLike,
    models: Sequence[str],
    out: PathLike,
    *,
    top: int | None = 20,
    call: str = "",
    progress: Progress | None = None,
) -> list[Path]:
    """Predict the images of a folder with each model and write predictions, images and skipped images.

    Parameters
    ----------
    source : path-like
        A folder of images.
    models : sequence of str
        Registered names.
    out : path-like
    top : int, optional
        How many of the best classes to keep; None keeps the scores of all.
    """
    from manyhot.models.predict import predict, write_skipped

    out, written = Path(out), []
    for model in models:
        told = None if progress is None else (lambda done, of, m=model: progress(m, done, of))
        result = predict(source, model, top=top, progress=told)
        name = tables.predictions_file_name(model)
        written.append(tables.write_predictions(result.predictions, out / name, call=call))
    written.append(tables.write(result.images.table, out / "images.parquet", "images", call=call))
    written.append(write_skipped(result.skipped, out / "skipped.csv"))
    return written
