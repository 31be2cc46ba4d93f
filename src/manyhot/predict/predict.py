"""Images to files of predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from manyhot.formats import read_classes
from manyhot.formats.writing import PathLike
from manyhot.predict.engines.base import precision_of
from manyhot.predict.find import find_model
from manyhot.predict.ray import engine_of, run_on_ray
from manyhot.predict.run import Notify, PredictResult, PredictSettings, run
from manyhot.predict.sources import open_source


def predict_files(
    source: PathLike,
    models: Sequence[str],
    out: PathLike,
    *,
    labels: PathLike | None = None,
    classes: PathLike | None = None,
    top: int | None = 20,
    engine: str = "auto",
    precision: str = "f32",
    embeddings: bool = False,
    shard: tuple[int, int] = (0, 1),
    workers: int | None = None,
    batch: int | None = None,
    call: str = "",
    notify: Notify | None = None,
) -> list[PredictResult]:
    """Predict the images of a source with each model, into a folder.

    Writes a table of predictions a model, `images.parquet` and `skipped.csv`; with `embeddings` the
    penultimate features, too. A run that ended early goes on where it was.

    Parameters
    ----------
    source : path-like
        See `manyhot.predict.sources.open_source`.
    models : sequence of str
        See `manyhot.predict.find.find_model`.
    out : path-like
    labels : path-like, optional
        CSV with the label of each image.
    classes : path-like, optional
        Class list of the data set: a file, or the name of one that is known.
    top, engine, precision, embeddings, shard, workers, batch
        See `manyhot.predict.run.PredictSettings`.
    notify : callable, optional
        Called with the kind of an event and its values.

    Raises
    ------
    ManyhotError
        As `manyhot.predict.run.run`.
    """
    class_list = None if classes is None else read_classes(classes)
    on_ray = engine_of(engine)
    kind = precision_of(precision)
    settings = PredictSettings(top, on_ray or engine, kind, embeddings, shard, workers, batch, class_list)
    opened = open_source(source, labels=labels)
    if on_ray:
        return run_on_ray(opened, models, Path(out), settings, call, notify)
    done = []
    for name in models:
        network = find_model(name, class_list)
        done.append(run(opened, network, Path(out), settings, call, notify))
        if notify is not None:
            notify("done", {"model": network.name, "done": done[-1]})
    return done
