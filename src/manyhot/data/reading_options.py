"""How a call reads foreign data, and which models it includes."""

from __future__ import annotations

import fnmatch
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from manyhot.classes import ClassList, normal_name
from manyhot.errors import InputError, did_you_mean
from manyhot.formats import ClassNamesLike, RowsLike, read_rows
from manyhot.formats.writing import PathLike
from manyhot.parameters import Flattened, PythonOnly, Shown, Was, check_one_of
from manyhot.tables import Images, Objects, Predictions, ScoreKind
from manyhot.tables.image_ids import AUTO
from manyhot.tables.label_values import LabelValues

ImagesTableLike = Annotated[PathLike | Images | Any, Shown("FILE")]
"""An images table: its file or folder, or a data frame with its columns."""

ObjectsLike = Annotated[PathLike | Objects | Any, Shown("FILE")]
"""Locations of objects: a file or folder, or a data frame with the columns of a table with a box per row."""

Conditions = Annotated[Sequence[str], Shown("CONDITION")]
"""Conditions on images, such as ``split=test``."""

ModelPatterns = Annotated[Sequence[str], Shown("NAME")]
"""Patterns of names, such as ``resnet*``."""


@dataclass(frozen=True, repr=False)
class FileReading(Flattened):
    """How a file is read if it does not declare what it contains.

    Attributes
    ----------
    rows
        File that lists the image of each row of an array: one id per line, CSV, Parquet, data-set JSON, or
        the label sets if they are in the same order. In Python, also the ids in a list, an array or an index.
    classes
        Class list: a file with one key per line, a table with the columns key and name, or imagenet1k,
        imagenet-a or imagenet-r. In Python, also a list of names. By default, the names in the files.
    scores
        Kind of the scores of predictions, if the file does not declare it: logit, probability, cosine, or
        none (they only rank classes).
    label_values
        Meaning of the numbers in labels with one column per class, if it is ambiguous: states (0, 1 and -1),
        counts of votes for one class per image, shares of these votes, p (probabilities of classes that can
        be valid together), or yes-of-5 (how many of 5 raters answered yes; any number of raters).
    """

    rows: RowsLike | None = None
    classes: ClassNamesLike | None = None
    scores: ScoreKind | None = None
    label_values: LabelValues | None = None

    def __post_init__(self) -> None:
        if self.rows is not None and not isinstance(self.rows, str | os.PathLike):
            object.__setattr__(self, "rows", read_rows(self.rows))  # an iterator can be read only once

    def row_images(self, classes: ClassList | None = None) -> Images | None:
        """Return the images of the rows of arrays, if `rows` was passed."""
        return None if self.rows is None else read_rows(self.rows, classes=classes)

    def overruled(self, predictions: Predictions) -> Iterator[str]:
        """Yield notes on options that do not apply to predictions, because these declare something else."""
        for option, (own, other) in self._passed(predictions).items():
            if own and other and own != other:
                yield (
                    f"{predictions.model}: the predictions declare {own} themselves, so {other}, passed as "
                    f"`{option}`, does not apply to them"
                )

    def _passed(self, predictions: Predictions) -> dict[str, tuple[str, str | None]]:
        """Return what predictions declare, and what was passed instead, for each option."""
        return {"scores": ("" if predictions.scores is None else predictions.score_kind, self.scores)}


@dataclass(frozen=True, repr=False)
class Reading(FileReading):
    """How input data are read, and which models are included.

    Attributes
    ----------
    models
        Patterns of model names to include, such as 'resnet*'; by default, all models.
    images
        Images table with original labels, or a folder of images. In Python, also a data frame. A text file
        with one image name per line selects these images.
    where
        Conditions on columns of the images table or of the file of label sets: COLUMN=VALUE, such as
        split=test, COLUMN=*, COLUMN= (no value), 'COLUMN>=VALUE' or 'COLUMN<=VALUE', with a number, or a
        date, month or time such as 2026-11-08. If several values of a column are given, any of them may
        match; all other conditions must be met. By default, all images are included. Slices and clusters are
        defined only by columns of the images table; if the file of label sets has these columns, pass it as
        `images` too.
    dataset
        Name of the data set in the tables. By default, the data set's own name.
    trust_order
        Trust the order of rows and classes instead of checking it.
    strict
        Stop with an error at the first predictions file that cannot be used, instead of skipping it with a
        note.
    match
        How to match ids of images that are written differently in different files: auto, exact, path (one id
        is the end of the other), name (without folders), stem (without extension), case (ignoring case),
        number (without leading zeros and .0), several of these joined by +, or a leading folder to remove,
        such as val/.
    label
        Original labels, one per image, for label sets that are arrays or lists; -1 if there is none.
    n_classes
        Number of classes, if labels and scores do not determine it.
    links
        How networks turn logits into probabilities, if the files do not declare it: softmax or sigmoid, or
        NAME=sigmoid for models whose names match a pattern, such as 'resnet*=sigmoid'. By default, the
        softmax is used if raters chose one class per image. Otherwise, sigmoids are used if there are no
        original labels, or if label sets have several classes and the sigmoids of an image add up to about
        the number of its classes.
    score_kind
        The former name of `scores`.
    """

    models: Annotated[ModelPatterns, Was("--model")] = ()
    images: ImagesTableLike | None = None
    where: Conditions = ()
    dataset: str = ""
    trust_order: bool = False
    strict: bool = False
    match: str = AUTO
    label: Annotated[Any, PythonOnly()] = None
    n_classes: Annotated[int, PythonOnly()] = 0
    links: Annotated[Sequence[str], Shown("LINK")] = ()
    score_kind: Annotated[str, PythonOnly()] = field(default="", repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.score_kind:
            warnings.warn("score_kind is called scores now", FutureWarning, stacklevel=3)
            object.__setattr__(self, "scores", self.score_kind)
            object.__setattr__(self, "score_kind", "")
        if isinstance(self.where, str):
            object.__setattr__(self, "where", (self.where,))
        if isinstance(self.links, str):
            object.__setattr__(self, "links", (self.links,))
        for spec in self.links:
            check_one_of(
                spec.rpartition("=")[2],
                ("softmax", "sigmoid"),
                "There is no such link from logits to probabilities.",
                where="`links`",
            )

    def fits(self, model: str) -> bool:
        """Return whether a model is selected."""
        name = normal_name(model)
        return not self.models or any(fnmatch.fnmatchcase(name, normal_name(p)) for p in self.models)

    def linked(self, predictions: Predictions) -> Predictions:
        """Return the predictions with the link that was passed for them, unless they declare a link."""
        return replace(predictions, link=predictions.link or self._link_for(predictions.model))

    def _link_for(self, model: str) -> str:
        """Return the link that was passed for a model; empty if none was."""
        specs = (spec.rpartition("=") for spec in self.links)
        return next((link for p, _, link in specs if fnmatch.fnmatchcase(model, p or "*")), "")

    def _passed(self, predictions: Predictions) -> dict[str, tuple[str, str | None]]:
        links = predictions.link, self._link_for(predictions.model)
        return super()._passed(predictions) | {"links": links}

    def check_some(self, files: Sequence[object], names: Sequence[str]) -> None:
        """Raise an error if no model matches the patterns."""
        if not files:
            raise InputError(
                "No model has such a name.",
                got=" or ".join(self.models),
                allowed=", ".join(names),
                do=did_you_mean(self.models[0], names, 1),
            )

    @property
    def kind_of_arrays(self) -> str:
        """The kind of scores in arrays, which cannot declare a kind themselves."""
        return self.scores or "score"


FILE_READING = FileReading()
READING = Reading()
