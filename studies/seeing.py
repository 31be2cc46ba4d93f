"""What a trained network says of images; each image is predicted once, whoever asks."""

from __future__ import annotations

from pathlib import Path

from manyhot import Predictions, predict, read_predictions
from manyhot.tables import predictions_file_name


def seen(model: Path, images: Path, out: Path, engine: str) -> Predictions:
    """Return a network's scores of all classes, predicting what is not there yet.

    Parameters
    ----------
    model : Path
        What ``manyhot train`` wrote.
    images : Path
    out : Path
        The folder of the predictions.
    engine : str
        As ``manyhot predict --engine`` takes it.
    """
    done = predict(images, f"trained:{model}", out=out, dense=True, engine=engine)
    return read_predictions(out / predictions_file_name(done.models[0].model))
