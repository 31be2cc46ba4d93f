"""The interchange tables: names, columns and allowed values; and the declaration of features' tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from manyhot.core.answers import ANSWERS
from manyhot.errors import InputError
from manyhot.registry import load_kind


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    required : bool
        Whether the table must have the column.
    nullable : bool
        Whether values may be null.
    values : tuple of str
        The allowed values; empty for any.
    """

    name: str
    type: pa.DataType
    doc: str
    required: bool = True
    nullable: bool = False
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class ColumnType:
    """A column type. Calling it with a name and a description returns a column."""

    type: pa.DataType

    def __call__(self, name: str, doc: str, *, values: tuple[str, ...] = ()) -> Column:
        """Return a column without nulls."""
        return Column(name, self.type, doc, values=values)

    def nullable(self, name: str, doc: str, *, values: tuple[str, ...] = ()) -> Column:
        """Return a column whose values may be null."""
        return Column(name, self.type, doc, nullable=True, values=values)

    def optional(self, name: str, doc: str, *, values: tuple[str, ...] = ()) -> Column:
        """Return a column that may be missing and whose values may be null."""
        return Column(name, self.type, doc, required=False, nullable=True, values=values)


TEXT, TEXTS = ColumnType(pa.string()), ColumnType(pa.list_(pa.string()))
INT, INTS = ColumnType(pa.int32()), ColumnType(pa.list_(pa.int32()))
REAL, REALS = ColumnType(pa.float64()), ColumnType(pa.list_(pa.float64()))
FLOAT32, FLOATS32 = ColumnType(pa.float32()), ColumnType(pa.list_(pa.float32()))
COUNT, FLAG, TIME = ColumnType(pa.int64()), ColumnType(pa.bool_()), ColumnType(pa.timestamp("us", "UTC"))
OUTLINES, BYTES = ColumnType(pa.list_(pa.list_(pa.float32()))), ColumnType(pa.binary())

ITS = "its 95 % interval"


def bounds(
    lo: str, hi: str, of: str = ITS, *, column: Callable[[str, str], Column] = REAL.nullable
) -> tuple[Column, Column]:
    """Return the columns of both ends of an interval."""
    return column(lo, f"lower end of {of}"), column(hi, f"upper end of {of}")


def interval(
    name: str,
    doc: str,
    of: str = ITS,
    *,
    value: Callable[[str, str], Column] = REAL.nullable,
    ends: Callable[[str, str], Column] = REAL.nullable,
) -> tuple[Column, Column, Column]:
    """Return the columns of a value and of both ends of its interval, ``…_lo`` and ``…_hi``."""
    return value(name, doc), *bounds(f"{name}_lo", f"{name}_hi", of, column=ends)


STATES = ("no", "unclear", "yes")
CONTROLS = 2
"""Images with a control that a row of shortcuts is testable from: of one no interval is above 0."""

_NULL_WITHOUT = "95 % interval, null without one"

AUDITED = (
    TEXT.optional("estimator", "in an audit: ppi++, difference or sample; null if no label sets are used"),
    COUNT.optional(
        "n_audited", "in an audit: number of counted images about which people answered questions"
    ),
    REAL.optional("alone", "in an audit: the value on the proposed label sets alone"),
)
"""Columns of results and pairs that only audits have."""

_declared: dict[str, tuple[Column, ...]] = {
    "classes": (
        INT("class_id", "position in the class list, from 0"),
        TEXT("key", "WordNet id or folder name"),
        TEXT("name", "readable and unique name"),
        TEXTS.optional("synonyms", "other names"),
        TEXT.optional("definition", "definition of the class"),
        TEXTS.optional("hypernyms", "path to the root of the hierarchy, nearest first"),
    ),
    "images": (
        TEXT("image_id", "name of the file with extension, and with folders if there are any"),
        TEXT.optional("uri", "address of the image"),
        INT.optional("label", "the original single label; null if there is none"),
        INT.optional("width", "width in pixels"),
        INT.optional("height", "height in pixels"),
        TEXT.optional("split", "such as train or val"),
    ),
    "predictions": (
        TEXT("image_id", "as in images"),
        INTS.optional("classes", "predicted classes, best first; absent when scores are dense"),
        FLOATS32.optional(
            "scores", "scores of `classes`, or of all classes in class order; float16 or float32"
        ),
        FLOAT32.optional(
            "logsumexp", "logsumexp over the logits of all classes, which gives probabilities in top-k files"
        ),
        FLOAT32.optional(
            "entropy",
            "for averaged predictions: entropy of the mean probabilities of all classes, in nats; if "
            "several classes can be valid together, the sum over the classes",
        ),
        FLOAT32.optional(
            "mutual_information",
            "for averaged predictions: part of the entropy that is due to disagreement among the models, in "
            "nats",
        ),
        FLOATS32.optional(
            "class_mutual_information",
            "mutual information for each of `scores`, if several classes can be valid together",
        ),
    ),
    "proposals": (
        TEXT("image_id", "as in images"),
        INT("class_id", "as in classes"),
        REAL("score", "score from the rule that proposed the class"),
        INT("n_models", "number of models that proposed the class"),
        TEXT("source", "the rule; for questions about findings, their kind"),
        TEXT.optional("class_name", "name of the class, if it is known"),
        FLOAT32.optional("p", "mean probability of the class over the models, if all have probabilities"),
    ),
    "votes": (
        TEXT("image_id", "as in images"),
        INT("class_id", "as in classes"),
        TEXT("rater_id", "the rater"),
        TEXT("answer", "the answer", values=ANSWERS),
        FLAG.optional("main", "whether it is the main object"),
        TEXT.optional("page_id", "the page that was shown"),
        TIME.optional("shown_at", "when the page was shown"),
        TIME.optional("answered_at", "when the question was answered"),
        INT.optional("round", "round of answers: 0 is the first, 1 the refinement, …"),
    ),
    "golden": (
        TEXT("image_id", "as in images"),
        INT("class_id", "as in classes"),
        TEXT("expert_id", "the expert"),
        TEXT("answer", "the answer", values=ANSWERS),
    ),
    "remarks": (
        TEXT("image_id", "as in images"),
        TEXT("rater_id", "the rater"),
        TEXT.optional("text", "the comment"),
        INT.optional("missing_class_id", "a class that is missing"),
        TIME.optional("at", "time of the remark"),
    ),
    "labels": (
        TEXT("image_id", "as in images"),
        INT.optional("label", "the original single label; null if unknown"),
        FLAG.optional("rated", "whether raters have seen the image; null if unknown"),
        FLAG("usable", "false if the image is left out"),
        INTS("classes", "all classes asked about; a class that is not listed was not asked about"),
        TEXTS("state", "state of each class; the classes with state yes are the label set", values=STATES),
        FLOATS32.optional("p", "probability that each class is valid"),
        INTS.optional("n_votes", "number of answers to each class"),
        TEXT.optional("method", "method by which the states were determined"),
        TEXTS.optional("sources", "in merged label sets: sources with an answer about the image"),
        INTS.optional(
            "conflicts", "in merged label sets: classes with the state yes in one source and no in another"
        ),
    ),
    "class_changes": (
        INT("class_id", "as in classes"),
        TEXT("key", "key of the class"),
        TEXT("column", "the column of classes that was changed: name or definition"),
        TEXT("before", "the old wording"),
        TEXT("after", "the new wording"),
        INT("n_answers", "number of answers about the class that were given before the change"),
        TIME("at", "time of the change"),
    ),
    "audit_sample": (
        TEXT("image_id", "as in images; all images that could be drawn"),
        REAL("probability", "probability that the image is drawn, above 0 and at most 1"),
        TEXT.nullable("stratum", "group with a fixed number of drawn images; null without groups"),
        INT.nullable(
            "place", "position of the drawn image in the order of annotation, from 0; null if not drawn"
        ),
    ),
    "results": (
        TEXT("dataset", "the data set"),
        TEXT("model", "the model"),
        TEXT("metric", "a registered name, with its options; for transfer, METHOD/NAME"),
        TEXT("slice", "the slice of images"),
        REAL("value", "the value; NaN if undefined"),
        *bounds("lo", "hi", f"the {_NULL_WITHOUT}"),
        COUNT("n", "number of images that the metric counts"),
        COUNT(
            "n_skipped",
            "number of skipped images; n + n_skipped is the number of aligned images in the slice",
        ),
        *AUDITED,
    ),
    "pairs": (
        TEXT("dataset", "the data set"),
        TEXT("metric", "a registered name, with its options"),
        TEXT("slice", "the slice of images"),
        TEXT(
            "model_a",
            "the reference that all models are compared with, or else the model of the pair that was passed "
            "first",
        ),
        TEXT("model_b", "the other model"),
        REAL(
            "difference",
            "value of model_b minus value of model_a; in an audit, estimated from paired differences",
        ),
        *bounds("lo", "hi", "the 95 % interval of difference"),
        REAL.nullable("p", "two-sided p-value for a difference of 0"),
        REAL.nullable(
            "p_adjusted", "p with Holm's correction over all compared pairs of the data set, metric and slice"
        ),
        COUNT("n", "number of images that the metric counts for both models"),
        *AUDITED,
    ),
    "models": (
        TEXT("model", "as in results"),
        TEXT.optional("family", "family of architectures, such as resnet"),
        TEXT.optional("pretraining", "data of the pretraining before ImageNet-1k; in-1k if there are none"),
        TEXT.optional("group", "group in a comparison at equal accuracy; null if the model is in no group"),
        REAL.optional("params", "number of parameters, in millions"),
        INT.optional("img_size", "side of the input images, in pixels"),
    ),
    "samples": (
        TEXT("dataset", "the data set"),
        TEXT("model", "the model"),
        TEXT("metric", "a registered name, with its options"),
        TEXT("slice", "the slice of images"),
        FLOATS32(
            "values",
            "the value in each resample; all rows of a data set share the resamples. Empty if the metric is "
            "not resampled",
        ),
        TEXT.optional(
            "images",
            "hash of the ids of the images that the metric counts; equal for models evaluated on the same "
            "images; null for slices, and if unknown",
        ),
        BYTES.optional(
            "counted",
            "whether each labelled image counts, eight images per byte as in numpy.packbits; null unless "
            "models of other results can be compared with this one",
        ),
        BYTES.optional(
            "right",
            "whether each image is in the numerator, in the same form; null unless the value is a share",
        ),
        FLOATS32.optional(
            "changes",
            "change of the value when each counted image in turn is left out; null unless pairs are "
            "compared by "
            "the jackknife",
        ),
    ),
    "objects": (
        TEXT("image_id", "as in images"),
        INT("class_id", "as in classes"),
        FLOAT32("x1", "left end of the box, as a fraction of the width"),
        FLOAT32("y1", "upper end, as a fraction of the height"),
        FLOAT32("x2", "right end; the box is half-open"),
        FLOAT32("y2", "lower end"),
        FLAG(
            "ignore", "whether the object is difficult or a crowd, so that it is neither a label nor an error"
        ),
        TEXT.optional("class", "key of the class"),
        FLOAT32.optional("score", "score of a detector; not stored for objects that people annotated"),
        OUTLINES.optional("polygons", "outlines, each x, y, x, y, … as fractions of width and height"),
        BYTES.optional("mask", "PNG of the same size as the image; pixels on the object are not 0"),
    ),
    "findings": (
        TEXT("kind", "what was found"),
        TEXT.optional("image_id", "the image; null for a finding on classes"),
        INT.optional("class_a", "one class of a pair; for an error, the class that decided its kind, if any"),
        INT.optional("class_b", "the other class of a pair; for an error, the predicted class"),
        INT.optional("label", "for an error: the original label"),
        TEXT.optional("state", "for an error: the raters' answer about the predicted class", values=STATES),
        INT.optional(
            "n_labels",
            "for an error: number of classes in the label set; 0 if compared with the original label",
        ),
        TEXT.optional("dataset", "for an error: the data set"),
        TEXT.optional("model", "for an error: the model"),
        FLOAT32.optional("confidence", "for an error: probability of the predicted class"),
        INT.optional(
            "ancestor_height",
            "for an error: height of the lowest common ancestor of the predicted class and the closest valid "
            "class, or of a root above both; null without a hierarchy, or if one of them is not in it",
        ),
    ),
}

OPEN_ENDED = {"images", "findings"}
"""Tables with arbitrary additional columns: slices of images, evidence of findings."""


_renamed: dict[str, Mapping[str, str]] = {"pairs": {"diff": "difference"}}


def declare_table(name: str, columns: Sequence[Column], *, renamed: Mapping[str, str] | None = None) -> None:
    """Declare a table of a feature, in the module of that feature.

    Parameters
    ----------
    columns : sequence of Column
    renamed : mapping of str to str, optional
        The current name of each renamed column, by its name in files of earlier versions.

    Raises
    ------
    InputError
        If another table has the name.
    """
    if _declared.setdefault(name, tuple(columns)) != tuple(columns):
        raise InputError(f"The table {name!r} is declared twice.", do="choose another name for one of them")
    _renamed[name] = renamed or {}


def rename_columns(table: pa.Table, name: str) -> pa.Table:
    """Return the table with current names for columns that earlier versions named differently."""
    renamed = _renamed.get(name, {})
    now = [renamed.get(column, column) for column in table.column_names]
    return table if now == table.column_names else table.rename_columns(now)


class _Tables(Mapping[str, tuple[Column, ...]]):
    """Interchange tables and features' tables; modules of features are imported at the first look-up."""

    def __getitem__(self, name: str) -> tuple[Column, ...]:
        if name not in _declared:
            load_kind("table")
        return _declared[name]

    def __iter__(self) -> Iterator[str]:
        load_kind("table")
        return iter(_declared)

    def __len__(self) -> int:
        load_kind("table")
        return len(_declared)


TABLES: Mapping[str, tuple[Column, ...]] = _Tables()
"""The columns of all tables, by name."""
