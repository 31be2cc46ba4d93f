"""One model's predictions as a table and as arrays."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from manyhot.classes import ClassList, class_list_of, normal_name
from manyhot.core.array_types import AnyFloats, Bools, Floats32, Ints
from manyhot.core.softmax import SLACK, not_a_probability
from manyhot.core.uncertainty import Uncertainty
from manyhot.errors import InputError, MatchError, first_names
from manyhot.parameters import check_one_of
from manyhot.tables.class_list_unions import OverClasses, keys_not_in
from manyhot.tables.frames import check_range, check_unique, one_chunk
from manyhot.tables.labels import Labels, keys_in_metadata
from manyhot.tables.state_lists import ragged

ScoreKind = Literal["logit", "probability", "cosine", "none"]
"""Kinds of predicted scores. ``none`` only ranks classes."""

SCORE_KINDS = (*get_args(ScoreKind), "score")
"""The kinds, and ``score`` for scores of which nobody declared the kind."""

SCORES_ASSUMED = "scores_assumed"
"""The metadata of predictions whose scores are taken for logits because nobody declared their kind."""


@dataclass(frozen=True, eq=False)
class Predictions(OverClasses):
    """One model's predictions: ranks, ranks with scores, or scores over all classes.

    Attributes
    ----------
    image_id : pyarrow.Array of string, shape (n,)
    model : str
    classes : ndarray of int, shape (n, k), optional
        Classes, best first; shorter lists are padded with -1. None if `scores` is dense. The array is
        column-major, and int16 if classes fit.
    scores : ndarray of float16 or float32, shape (n, k) or (n, C), optional
    logsumexp : ndarray of float32, shape (n,), optional
    score_kind : str
        One of `SCORE_KINDS`.
    n_classes : int
        Number of classes C; 0 if unknown.
    class_hash : str
        The hash of the class list; empty if unknown.
    source : str
        The file of the predictions, for messages.
    inputs : Mapping of str to str
        The sha256 of other files of the predictions, by file name.
    class_list : ClassList, optional
        The classes that the file itself names, as in `Labels`.
    assumed : bool
        Whether the number of classes of ImageNet-1k is only assumed, as in `Labels`.
    uncertainty : Uncertainty, optional
        The uncertainty of averaged predictions, such as those of an ensemble.
    link : {"", "softmax", "sigmoid"}
        How the network turns logits into probabilities; empty if nobody declared it.
    scores_assumed : bool
        Whether the kind of the scores is only assumed, because nobody declared it.
    unlisted : tuple of str
        Columns of numbers in the file that are not classes of the list with which it was read.
    unread : tuple of (str, int, str)
        Columns that are not read as scores, as in `Labels`.
    notes : tuple of str
        What was changed when the file was read.
    lacking : tuple of str
        Classes of the labels for which the model has no scores. They are in none of its lists.
    by_name : bool
        Whether the file itself, or the columns of a frame, name the class of each score. If so, the order of
        classes cannot be wrong.
    """

    image_id: pa.Array
    model: str
    classes: Ints | None = None
    scores: AnyFloats | None = None
    logsumexp: Floats32 | None = None
    score_kind: str = "none"
    n_classes: int = 0
    class_hash: str = ""
    source: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    class_list: ClassList | None = None
    assumed: bool = False
    uncertainty: Uncertainty | None = None
    link: str = ""
    scores_assumed: bool = False
    unlisted: tuple[str, ...] = ()
    unread: tuple[tuple[str, int, str], ...] = ()
    notes: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    by_name: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.image_id, pa.ChunkedArray):  # a column of a table
            object.__setattr__(self, "image_id", one_chunk(self.image_id))
        if self.classes is not None:
            object.__setattr__(self, "classes", _compact(self.classes))
        if self.scores is not None and not self.scores.dtype.isnative:  # as read from FITS or HDF5
            object.__setattr__(self, "scores", self.scores.astype(self.scores.dtype.newbyteorder("=")))
        object.__setattr__(self, "model", normal_name(self.model))
        _check_predictions(self)

    def __len__(self) -> int:
        return len(self.image_id)

    def __repr__(self) -> str:
        kind = "dense" if self.is_dense else f"top {self.classes.shape[1]}"  # type: ignore[union-attr]
        return f"Predictions({self.model!r}, {len(self):,} images, {kind})"

    def take(self, rows: Ints) -> Predictions:
        """Return the predictions of some images, in this order."""
        return replace(
            self,
            image_id=self.image_id.take(pa.array(rows)),
            classes=None if self.classes is None else self.classes[rows],
            scores=None if self.scores is None else self.scores[rows],
            logsumexp=None if self.logsumexp is None else self.logsumexp[rows],
            uncertainty=None if self.uncertainty is None else self.uncertainty.take(rows),
        )

    @property
    def is_dense(self) -> bool:
        """Whether `scores` covers all classes."""
        return self.classes is None

    def in_full(self) -> Predictions:
        """Return the predictions with dense scores, if each list contains all classes with their scores."""
        if self.classes is None or self.scores is None or not len(self):
            return self
        if self.classes.shape[1] != self.n_classes or self.classes.min() < 0:
            return self
        order = np.argsort(self.classes, axis=1)  # each class once: its place in the list
        unsure = self.uncertainty
        if unsure is not None and unsure.by_class is not None:
            unsure = replace(unsure, by_class=np.take_along_axis(unsure.by_class, order, axis=1))
        scores = np.take_along_axis(self.scores, order, axis=1)
        return replace(self, classes=None, scores=scores, logsumexp=None, uncertainty=unsure)

    def declared(self, kind: str) -> Predictions:
        """Return the predictions with the kind of their scores set, unless they declare a kind themselves.

        Rank-only predictions are unchanged. The kind ``score`` declares nothing.
        """
        is_open = self.score_kind in ("score", "none") or self.scores_assumed
        if self.scores is None or kind == "score" or not is_open:
            return self
        return replace(self, score_kind=kind, scores_assumed=False)

    def confidence(self, undeclared: str = "softmax") -> Floats32 | None:
        """Return the probability of each entry of `scores`, with the same shape; None if unknown.

        It is the softmax of logits, for which a top-k list needs `logsumexp`, or their sigmoid if that is the
        `link`, or if no link was declared and `undeclared` is ``sigmoid``.
        """
        if self.scores is None or self.score_kind not in ("logit", "probability"):
            return None
        scores = self.scores.astype(np.float32)
        if self.score_kind == "probability":
            return scores
        if (self.link or undeclared) == "sigmoid":
            from scipy.special import expit  # predicting does without SciPy

            return np.asarray(expit(scores))
        total = self.totals()
        if total is None:
            return None
        with np.errstate(invalid="ignore", over="ignore"):  # infinite logits give NaN
            return np.asarray(np.exp(scores - total[:, None]), np.float32)

    def totals(self) -> Floats32 | None:
        """Return the logarithm of the summed exponentials of logits; None if unknown, NaN if infinite."""
        total = self.logsumexp
        if total is None and self.is_dense:
            assert self.scores is not None
            total = np.logaddexp.reduce(self.scores, axis=1, dtype=np.float32)
        if total is None:
            return None
        # An infinite total would give zeros, which look like probabilities.
        return np.asarray(np.where(np.isposinf(total), np.nan, total), np.float32)

    def to_table(self) -> pa.Table:
        """Return the predictions table."""
        columns: dict[str, Any] = {"image_id": self.image_id}
        drop = None if self.classes is None else self.classes < 0
        if self.classes is not None:
            columns["classes"] = _list_column(self.classes.astype(np.int32), drop)
        if self.scores is not None:
            columns["scores"] = _list_column(self.scores, drop)
        if self.logsumexp is not None:
            columns["logsumexp"] = pa.array(self.logsumexp, pa.float32())
        if self.uncertainty is not None:
            for name, values in uncertainty_columns(self.uncertainty).items():
                columns[name] = _list_column(values, drop) if values.ndim == 2 else pa.array(values)
        return pa.table(columns)

    def to_polars(self) -> Any:
        """Return the table as a polars.DataFrame."""
        import polars as pl

        return pl.from_arrow(self.to_table())

    def about(self) -> dict[str, str]:
        """Return the metadata of the file."""
        return {
            "model": self.model,
            "scores": self.score_kind,
            "n_classes": str(self.n_classes),
            "classes": self.class_hash,
            **({"link": self.link} if self.link else {}),
            **({SCORES_ASSUMED: "true"} if self.scores_assumed else {}),
            **keys_in_metadata(self.class_list),
        }


def predictions_file_name(model: str) -> str:
    """Return the file name of a model's predictions, in which ``/`` becomes ``--``."""
    return model.replace("/", "--") + ".parquet"


def distinct_names(models: Iterable[tuple[str, str]]) -> list[str]:
    """Return unique names of models. Equal names are extended by the folders of the models."""
    listed = list(models)
    names = [name for name, _ in listed]
    for depth in itertools.count(1):
        if len(set(names)) == len(names) or depth > 8:
            return names
        twice = {name for name in names if names.count(name) > 1}
        names = [
            "/".join([*Path(file).parts[-depth - 1 : -1], own]) if name in twice and file else name
            for name, (own, file) in zip(names, listed, strict=True)
        ]
    raise AssertionError  # for the type checker


def check_same_classes(labels: Labels, predictions: Predictions) -> None:
    """Check that predictions have the class list of the labels.

    Raises
    ------
    MatchError
        If the numbers of classes or the hashes of the class lists are known and differ.
    """
    check_class_list(predictions, labels.n_classes, labels.class_hash, labels.name or "the labels")


def check_class_list(predictions: Predictions, n_classes: int, class_hash: str, name: str) -> None:
    """Check that predictions have this class list, which is called `name` in messages.

    Raises
    ------
    MatchError
        If the numbers of classes or the hashes are known and differ.
    """
    theirs, own = predictions.n_classes, predictions.class_list
    target = class_list_of(class_hash)
    if own is not None and target is not None and (strange := keys_not_in(own, target)):
        raise MatchError(
            f"{predictions.model} predicts classes that are not in the class list of {name}.",
            where=predictions.source or None,
            got=f"{first_names(strange, 3)} ({len(strange):,} of {len(own):,} names)",
            allowed=f"keys, names and descriptions of the {len(target):,} classes of {target.name}",
            do="rename these classes, or leave them out of the predictions",
        )
    if n_classes and theirs and n_classes != theirs:
        raise MatchError(
            f"{predictions.model} has a different number of classes from {name}.",
            where=predictions.source or None,
            got=f"{theirs:,} classes",
            allowed=f"{n_classes:,} classes",
            do="predict again with the same class list, or convert the file",
        )
    if class_hash and predictions.class_hash and class_hash != predictions.class_hash:
        raise MatchError(
            f"{predictions.model} has a different class list from {name}.",
            where=predictions.source or None,
            got=f"class list {predictions.class_hash}",
            allowed=f"class list {class_hash}",
            do="predict again with the same class list, or convert the file",
        )


UNCERTAINTY_COLUMNS = {
    "entropy": "entropy",
    "mutual_information": "mutual_information",
    "class_mutual_information": "by_class",
}
"""The columns of an uncertainty, and its attributes."""


def uncertainty_columns(uncertainty: Uncertainty) -> dict[str, Floats32]:
    """Return the columns of an uncertainty in the predictions table."""
    every = {name: getattr(uncertainty, own) for name, own in UNCERTAINTY_COLUMNS.items()}
    return {name: values for name, values in every.items() if values is not None}


def uncertainty_from_columns(columns: Mapping[str, Floats32]) -> Uncertainty | None:
    """Return the uncertainty in the columns of a predictions table; None if the columns are missing."""
    if not {"entropy", "mutual_information"} <= columns.keys():
        return None
    return Uncertainty(**{UNCERTAINTY_COLUMNS[name]: values for name, values in columns.items()})


def _check_predictions(p: Predictions) -> None:
    where = p.source or p.model
    if not p.model.strip() or not p.model.isprintable():
        raise InputError(
            "The name of a model is not one line of printable text.",
            where=p.source or None,
            got=repr(p.model),
            do="rename the model",
        )
    if p.classes is None and p.scores is None:
        raise InputError("Predictions need classes, scores or both.", where=where)
    if p.score_kind not in SCORE_KINDS:
        check_one_of(p.score_kind, get_args(ScoreKind), "There is no such kind of scores.", where=where)
    for name in ("classes", "scores", "logsumexp", "uncertainty"):
        array = getattr(p, name)
        if array is not None and len(array) != len(p):
            raise InputError(
                f"The number of rows of {name} differs from the number of images.",
                where=where,
                got=f"{len(array):,}",
                allowed=f"{len(p):,}",
            )
    check_unique(p.image_id, where)
    if p.classes is not None:
        _check_top(p.classes, p, where)
    elif p.n_classes and p.scores is not None and p.scores.shape[1] != p.n_classes:
        raise InputError(
            "The scores and the class list have different numbers of classes.",
            where=where,
            got=f"{p.scores.shape[1]:,} columns",
            allowed=f"{p.n_classes:,}",
            do="pass the class list of the model as `classes`",
        )
    if p.scores is not None:
        _check_scores(p.scores, p.classes, p, where)
    if p.uncertainty is not None and p.uncertainty.by_class is not None:
        scores, by_class = getattr(p.scores, "shape", ()), p.uncertainty.by_class.shape
        if scores != by_class:
            raise InputError(
                "The mutual information of classes and the scores differ in shape.",
                where=where,
                got=f"shape {by_class}",
                allowed=f"shape {scores}",
            )


def _compact(classes: Ints) -> Ints:
    # By rank, because metrics read all top classes, then all second ones; 16 bits halve the memory read.
    fits = classes.size == 0 or (classes.min() >= -1 and classes.max() < 2**15)
    return np.asfortranarray(classes, dtype=np.int16 if fits else np.int32)


def _check_top(classes: Ints, p: Predictions, where: str) -> None:
    if classes.ndim != 2 or classes.shape[1] == 0:
        raise InputError(
            "Predicted classes do not have one row per image.", where=where, got=f"shape {classes.shape}"
        )
    _check_twice(classes, p, where)
    if classes.size and classes.min() >= 0 and (not p.n_classes or classes.max() < p.n_classes):
        return  # The usual case, in two passes; the rest takes ten.
    filled = classes >= 0
    if (classes < -1).any() or (filled[:, 1:] & ~filled[:, :-1]).any():
        row = int(np.flatnonzero((classes < -1).any(1) | (filled[:, 1:] & ~filled[:, :-1]).any(1))[0])
        raise InputError(
            "A class is out of range.",
            where=f"{where}, image {p.image_id[row]}",
            got=classes[row].tolist(),
            allowed="0 or more; -1 only after the last class of a short list",
        )
    if p.n_classes:
        rows, _ = np.nonzero(filled)
        check_range(classes[filled], rows, p.image_id, p.n_classes, where)


def _check_twice(classes: Ints, p: Predictions, where: str) -> None:
    for start, twice in _repeated(classes):
        if twice.any():
            row = start + int(np.argmax(twice))
            raise InputError(
                "A class is predicted twice for one image.",
                where=f"{where}, image {p.image_id[row]}",
                got=classes[row].tolist(),
                allowed="each class once",
                do="integers are classes, best first; if these are scores, pass floats"
                if p.scores is None
                else "if these are several boxes of a class, keep the highest score of each image and class; "
                "if rows or entries are repeated, drop the repeated ones",
            )


_FEW_PLACES, _BLOCK = 12, 1 << 20


def _repeated(classes: Ints) -> Iterator[tuple[int, Bools]]:
    """Yield the first row of a block of rows, and of each row whether a class occurs twice.

    Few places are compared column by column: ten comparisons of 50,000 for the usual five; sorting takes
    thirty times as long. A full ranking of 1,000 classes would be 499,500 comparisons, so its rows are
    sorted.
    """
    if classes.shape[1] <= _FEW_PLACES:
        for place, later in itertools.combinations(classes.T, 2):
            yield 0, (place == later) & (place >= 0)
        return
    step = max(1, _BLOCK // classes.shape[1])
    for start in range(0, len(classes), step):
        ordered = np.sort(classes[start : start + step], axis=1)
        yield start, ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(axis=1)


def _check_probabilities(scores: AnyFloats, classes: Ints | None, p: Predictions, where: str) -> None:
    """Raise an error for scores that are declared as probabilities and cannot be any."""
    bad = (scores < 0) | (scores > 1 + SLACK)
    if classes is not None:
        bad &= classes >= 0
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise not_a_probability(float(scores[row, column]), f"{where}, {_place(p, classes, row, column)}")


def _place(p: Predictions, classes: Ints | None, row: int, column: int) -> str:
    """Return the image of a score, and its class if it is named, for a message."""
    image, own = f"image {p.image_id[int(row)]}", p.class_list
    at = column if classes is None else int(classes[row, column])
    return image if own is None or not 0 <= at < len(own) else f"{image}, class {own.names[at]}"


def _check_scores(scores: AnyFloats, classes: Ints | None, p: Predictions, where: str) -> None:
    if classes is not None and scores.shape != classes.shape:
        raise InputError(
            "Scores and predicted classes differ in shape.",
            where=where,
            got=f"shape {scores.shape}",
            allowed=f"shape {classes.shape}",
        )
    if classes is not None and (scores[:, 1:] > scores[:, :-1]).any():
        row = int(np.flatnonzero((scores[:, 1:] > scores[:, :-1]).any(1))[0])
        raise InputError(
            "Predicted classes are not in the order of their scores.",
            where=f"{where}, image {p.image_id[row]}",
            got=f"classes {classes[row].tolist()} with scores {scores[row].tolist()}",
            allowed="best first",
        )
    if p.score_kind == "probability" and scores.size and (scores.min() < 0 or scores.max() > 1 + SLACK):
        _check_probabilities(scores, classes, p, where)
    if p.score_kind == "cosine" and scores.size:
        _check_cosines(scores, where)
    # The sum is NaN if any score is, with a fifth of isnan's memory traffic; inf - inf is handled below.
    with np.errstate(invalid="ignore", over="ignore"):
        suspicious = not np.isfinite(scores.sum(dtype=np.float64))
    if not suspicious:
        return
    bad = np.isnan(scores)
    if classes is not None:
        bad &= classes >= 0
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise InputError(
            "Scores are not a number (NaN).",
            where=f"{where}, {_place(p, classes, row, column)}",
            got=f"{np.count_nonzero(bad):,} of {scores.size:,}",
            allowed="finite numbers",
            do="run predict on these images again (half precision overflows to NaN in some models), or leave "
            "images without scores out of the predictions",
        )
    if n := np.count_nonzero(np.isposinf(scores)):
        note = f"{n:,} of {scores.size:,} scores are infinite, and rank first: half precision may overflow"
        object.__setattr__(p, "notes", tuple(dict.fromkeys((*p.notes, note))))


def _check_cosines(scores: AnyFloats, where: str) -> None:
    least, most = float(scores.min(where=np.isfinite(scores), initial=0)), float(scores.max())
    if least < -1 - SLACK or most > 1 + SLACK:
        raise InputError(
            "A cosine is not between -1 and 1.",
            where=where,
            got=f"{most if most > 1 + SLACK else least:g}",
            allowed="-1 to 1",
            do="divide scaled cosines by their scale, or declare the kind with `scores`: logit or none",
        )


def _list_column(values: npt.NDArray[Any], drop: Bools | None) -> pa.Array:
    n, k = values.shape
    if drop is None or not drop.any():
        return ragged(np.full(n, k), pa.array(values.ravel()))
    return ragged((~drop).sum(1), pa.array(values[~drop]))
