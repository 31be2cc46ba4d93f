"""The answer of a model to one image: its best classes, to be shown and not written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from manyhot.predict.in_memory import predict_in_memory
from manyhot.predict.models import find_model
from manyhot.predict.run import PredictSettings
from manyhot.predict.score_kinds import probabilities_note
from manyhot.predict.sources import ImageSource

BEST_SHOWN = 5
"""Number of classes that are shown, unless more or fewer are requested."""


@dataclass(frozen=True)
class Answer:
    """The top classes that a model predicts for one image.

    Attributes
    ----------
    model, image : str
    unit : {"probability", "score"}
        The kind of `values`. Probabilities come from a softmax, unless the model returns probabilities
        itself.
    keys, names : tuple of str
        The classes, best first.
    values : tuple of float
    note : str
        What is wrong with the values if the kind of the scores is not declared; empty otherwise.
    """

    model: str
    image: str
    unit: str
    keys: tuple[str, ...]
    names: tuple[str, ...]
    values: tuple[float, ...]
    note: str = ""

    def lines(self) -> Iterator[str]:
        """Yield the names of the model and the image, and then a line for each class."""
        yield f"{self.model}, {self.image}:"
        for name, value in zip(self.names, self.values, strict=True):
            yield f"  {f'{100 * value:5.1f} %' if self.unit == 'probability' else f'{value:8.3f}'}  {name}"
        if self.note:
            yield self.note

    def to_json(self) -> dict[str, Any]:
        """Return the model, the image and the classes."""
        rows = zip(self.keys, self.names, self.values, strict=True)
        classes = [{"key": key, "name": name, self.unit: value} for key, name, value in rows]
        return {"model": self.model, "image": self.image, "classes": classes}


def answer_for(source: ImageSource, name: str, settings: PredictSettings, top: int | None) -> Answer:
    """Return the top classes that a model predicts for one image.

    Raises
    ------
    ManyhotError
        As in `manyhot.predict`.
    """
    network = find_model(name, settings.classes, **settings.model_options)
    found = predict_in_memory(
        source,
        network,
        top=min(top or BEST_SHOWN, len(settings.classes or network.classes)),
        classes=settings.classes,
        engine=settings.engine,
        precision=settings.engine_options.precision.value,
        workers=1,
    )
    classes, predictions = settings.classes or network.classes, found.predictions
    shares = predictions.confidence()
    assert predictions.classes is not None
    assert predictions.scores is not None
    values = predictions.scores if shares is None else shares
    best = predictions.classes[0].tolist()
    return Answer(
        network.name,
        source.uri,
        "score" if shares is None else "probability",
        tuple(classes.keys[c] for c in best),
        tuple(classes.names[c] for c in best),
        tuple(values[0].astype(float).tolist()),
        probabilities_note(network, predictions.scores),
    )
