"""Thresholds of classes that were chosen on other images, such as a validation split."""

from __future__ import annotations

import hashlib
import heapq
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pyarrow as pa

from manyhot.classes import ClassList
from manyhot.core.array_types import Floats
from manyhot.errors import InputError, MatchError
from manyhot.evaluate.compared_pairs import hashes_of_ids
from manyhot.files import sha256
from manyhot.formats.reading import reading
from manyhot.parameters import Shown
from manyhot.report.text import listed
from manyhot.tables.own_classes import is_class_number

if TYPE_CHECKING:
    import polars as pl

ThresholdsLike = Annotated[Any, Shown("FILE")]
"""Thresholds of classes: the file or the result of ``diagnose classes``, a frame, a mapping of classes to
thresholds, or of models to such mappings."""

THRESHOLDS_FILE = "thresholds.csv"

ON_A_SCALE = {"logit": "logits", "probability": "probabilities", "cosine": "cosines"}
"""Kinds of scores that can be compared with thresholds only of the same kind, and their plural."""

_SHOWN = 5
"""Names in a message."""

_SAMPLED, _DIGITS = 16, 8
"""Hashes of ids in a table of thresholds, and hexadecimal digits of each."""


@dataclass(frozen=True)
class ClassThresholds:
    """The threshold of each class, on the scale of the scores.

    Attributes
    ----------
    by_model : Mapping of str to Mapping of str to float
        The thresholds by class, for each model; those of the model ``""`` apply to all models. NaN if a class
        is never predicted.
    name : str
        Their file, or the parameter.
    inputs : Mapping of str to str
        The sha256 of the file, by its name.
    kinds : Mapping of str to str
        The kind of the scores on which the thresholds of a model were chosen, if it is known.
    chosen_on : Mapping of str to str
        A sample of the images on which the thresholds of a model were chosen, by `sample_of`.
    """

    by_model: Mapping[str, Mapping[str, float]]
    name: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    chosen_on: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, thresholds: ThresholdsLike) -> ClassThresholds:
        """Read thresholds from a table, the folder or the result of ``diagnose classes``, or a mapping.

        A pandas series is read as a mapping from its index to its values.

        Raises
        ------
        InputError
            If the file cannot be read or lacks a column, if a threshold is not a number, or if a class has
            several thresholds.
        """
        if is_mapping(thresholds):
            values = dict(thresholds)
            models = values if values and all(map(is_mapping, values.values())) else {"": values}
            by_model = {
                str(model): {str(name): _number(value, "`thresholds`") for name, value in dict(of).items()}
                for model, of in models.items()
            }
            return cls(by_model, "`thresholds`")
        if isinstance(thresholds, str | os.PathLike):
            path = Path(thresholds)
            return _read(path / THRESHOLDS_FILE if path.is_dir() else path)
        table = getattr(thresholds, "threshold_table", thresholds)  # of diagnose classes
        if callable(thresholds) or not hasattr(table, "columns"):
            raise InputError(
                "Thresholds are neither a file nor a mapping nor a table.",
                got=type(thresholds).__name__,
                allowed=f"{THRESHOLDS_FILE} or the result of diagnose classes, a frame with the columns "
                "class and threshold, or a mapping by class",
                do="call the method: .thresholds()" if callable(thresholds) else None,
            )
        return _of_frame(table, "`thresholds`")

    def of(self, model: str, classes: ClassList | None, n_classes: int, kind: str = "") -> Floats:
        """Return the threshold of each class of a list for a model, shape (C,); NaN if it is never predicted.

        `kind` is the kind of the model's scores.

        Raises
        ------
        MatchError
            If there are no thresholds for the model, if a class has none or is not in the list, or if the
            thresholds were chosen on scores of another kind.
        """
        own = self.kinds.get(self.model_for(model), "")
        if own in ON_A_SCALE and kind in ON_A_SCALE and own != kind:
            raise MatchError(
                f"The thresholds for {model} were chosen on scores of another kind.",
                where=self.name,
                got=f"thresholds of {ON_A_SCALE[own]}, and scores that are {ON_A_SCALE[kind]}",
                allowed=f"scores that are {ON_A_SCALE[own]}",
                do="choose thresholds on scores of this kind, or declare another kind with `scores`",
            )
        of_model = self.by_model[self.model_for(model)]
        too_high = {c: v for c, v in of_model.items() if kind == "probability" and 1 < v < math.inf}
        if too_high:
            name, value = next(iter(too_high.items()))
            raise InputError(
                "A threshold of probabilities is above 1, so its class is never predicted.",
                where=self.name,
                got=f"{value:g} for {name}",
                allowed="0 to 1, or nothing for a class that is never predicted",
                do="divide thresholds in percent by 100",
            )
        lookup = (lambda name: _place(name, n_classes)) if classes is None else classes.find
        found, unknown = dict[int, float](), list[str]()
        for name, value in of_model.items():
            if (place := lookup(name)) is None:
                unknown.append(name)
            elif place in found:
                raise _repeated(self.name, name, "")
            else:
                found[place] = value
        if unknown:
            raise MatchError(
                "Some thresholds are for classes that are not in the class list.",
                where=self.name,
                got=listed(unknown, _SHOWN),
                allowed=f"the {n_classes:,} classes of the labels and predictions",
                do="choose the thresholds with the same class list, or remove these classes",
            )
        if missing := [c for c in range(n_classes) if c not in found]:
            raise MatchError(
                "Some classes have no threshold.",
                where=self.name,
                got=listed([str(c) if classes is None else classes.keys[c] for c in missing], _SHOWN),
                allowed="a row for each class",
                do="add these classes; a class with an empty threshold is never predicted",
            )
        of_classes = np.array([found[c] for c in range(n_classes)])
        # Scores are float32: a larger threshold is beyond all of them, and cannot be cast without a warning.
        too_large = np.abs(of_classes) > np.finfo(np.float32).max
        return np.where(too_large, np.copysign(np.inf, of_classes), of_classes)

    def note(self, model: str, metrics: Sequence[str], image_id: pa.Array) -> str:
        """Return the text of a note that says which metrics of a model use the thresholds on these images."""
        if not metrics:
            return "no metric uses the thresholds; pass `metrics` that do, such as f1_macro"
        own = self.model_for(model)
        of = f", which were chosen for {own}" if own not in ("", model) else ""
        never = [name for name, value in self.by_model[own].items() if math.isnan(value)]
        classes = listed(never, _SHOWN)
        without = (
            f"; classes without a threshold are never predicted, so that their recall is 0: {classes}"
            if never
            else ""
        )
        text = f"{', '.join(metrics)}: with the thresholds of {self.name}{of}{without}"
        sampled = self.chosen_on.get(own, "")
        hashes = set(hashes_of_ids(image_id.to_pylist())) if sampled else set[int]()
        shared = [int(sampled[i : i + _DIGITS], 16) in hashes for i in range(0, len(sampled), _DIGITS)]
        if any(shared):
            which = "all" if all(shared) else "some"
            text += (
                f"; {which} of the images on which these thresholds were chosen are evaluated here, so "
                "values are too high; choose thresholds on other images, such as a validation split"
            )
        return text

    @property
    def key(self) -> str:
        """A hash of the thresholds."""
        return hashlib.sha256(json.dumps(self.by_model, sort_keys=True).encode()).hexdigest()[:16]

    def model_for(self, model: str) -> str:
        """Return the model whose thresholds apply to a model: its own, or the only model of the file."""
        if not self.by_model:
            raise MatchError(
                "The file contains no thresholds.",
                where=self.name,
                do=(
                    "choose some with manyhot diagnose classes --for f1: without this option, models whose "
                    "probabilities add up to 1 predict their top class, and have no thresholds"
                ),
            )
        names = [model] if model in self.by_model else list(self.by_model)
        if len(names) == 1:
            return names[0]
        raise MatchError(
            f"There are no thresholds for {model}.",
            where=self.name,
            got=f"thresholds for {listed(names, _SHOWN)}",
            do="pass predictions with the same model names, or the thresholds of a single model",
        )


def sample_of(image_id: pa.Array) -> str:
    """Return the smallest hashes of ids, as hexadecimal text; empty for numbers."""
    ids = image_id.to_pylist()
    if all(map(is_class_number, ids)):  # rows of an array, and any data set has those
        return ""
    return "".join(f"{one:0{_DIGITS}x}" for one in heapq.nsmallest(_SAMPLED, hashes_of_ids(ids)))


def _read(path: Path) -> ClassThresholds:
    from manyhot.formats.table_files import read_frame  # brings polars

    if not path.is_file():
        raise InputError("The file does not exist.", where=path)
    with reading(path):
        frame = read_frame(path)
    return _of_columns(frame, str(path), {path.name: sha256(path)})


def _of_frame(table: Any, where: str) -> ClassThresholds:
    import polars as pl

    if "class" not in table.columns and type(getattr(table, "index", None)).__name__ == "Index":  # of pandas
        table = table.rename_axis("class").reset_index()
    return _of_columns(pl.DataFrame(table), where, {})


def _of_columns(frame: pl.DataFrame, where: str, inputs: Mapping[str, str]) -> ClassThresholds:
    if not {"class", "threshold"} <= set(frame.columns):
        raise InputError(
            "The table has no thresholds of classes.",
            where=where,
            got=", ".join(frame.columns),
            allowed="the columns class and threshold, and optionally model and scores",
        )
    by_model: dict[str, dict[str, float]] = {}
    models = frame["model"].to_list() if "model" in frame.columns else [""] * len(frame)
    for model, name, value in zip(
        models, map(str, frame["class"].to_list()), frame["threshold"].to_list(), strict=True
    ):
        of_model = by_model.setdefault(model or "", {})
        if name in of_model:
            raise _repeated(where, name, model)
        of_model[name] = _number(value, where)
    about = {
        column: {
            model or "": value or "" for model, value in zip(models, frame[column].to_list(), strict=True)
        }
        for column in ("scores", "chosen_on")
        if column in frame.columns
    }
    return ClassThresholds(by_model, where, inputs, about.get("scores", {}), about.get("chosen_on", {}))


def is_mapping(thresholds: Any) -> bool:
    """Return whether thresholds are a mapping, or a pandas series."""
    return isinstance(thresholds, Mapping) or (
        hasattr(thresholds, "to_dict") and not hasattr(thresholds, "columns")
    )


def _repeated(where: str, name: str, model: str | None) -> InputError:
    return InputError(
        "A class has several thresholds.",
        where=where,
        got=f"{name} of {model}" if model else name,
        do="keep only the rows of one data set and one choice of thresholds",
    )


def _number(value: Any, where: str) -> float:
    try:
        return math.nan if value is None or value == "" else float(value)
    except OverflowError:  # a whole number, which Python cannot cast like "1e400"
        return math.inf if value > 0 else -math.inf
    except (TypeError, ValueError) as error:
        raise InputError("A threshold is not a number.", where=where, got=repr(value)) from error


def _place(name: str, n_classes: int) -> int | None:
    # Python refuses to read a number of more than 4,300 digits.
    is_short = len(name) <= len(str(n_classes))
    return int(name) if is_class_number(name) and is_short and int(name) < n_classes else None
