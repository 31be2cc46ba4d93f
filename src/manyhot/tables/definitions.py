"""What the tables are: their names, columns and the values that these may hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from manyhot.core.answers import ANSWERS
from manyhot.errors import InputError
from manyhot.registry import load_kind
from manyhot.tables.columns import (
    BYTES,
    COUNT,
    FLAG,
    FLOAT32,
    FLOATS32,
    INT,
    INTS,
    ITS,
    OUTLINES,
    REAL,
    TEXT,
    TEXTS,
    TIME,
    Column,
    bounds,
)

STATES = ("no", "unclear", "yes")
CONTROLS = 2
"""Images with a control from which on a row of shortcuts is testable: with one, no interval is above 0."""

_IMAGES = f"{ITS} over images"
_WILSON = f"{ITS} (Wilson)"
_NEWCOMBE = f"{ITS} (Newcombe)"
_BOOTSTRAP = f"{ITS} (bootstrap)"
_NULL_WITHOUT = "95 % interval, null without one"


_declared: dict[str, tuple[Column, ...]] = {
    "classes": (
        INT("class_id", "position in the class list, from 0"),
        TEXT("key", "WordNet id or folder name"),
        TEXT("name", "readable, unique"),
        TEXTS.optional("synonyms", "other names"),
        TEXT.optional("definition", "what the class is"),
        TEXTS.optional("hypernyms", "path to the root of the hierarchy, nearest first"),
    ),
    "images": (
        TEXT("image_id", "base name with extension"),
        TEXT.optional("uri", "where the image lies"),
        INT.optional("label", "the original single label, null if there is none"),
        INT.optional("width", "pixels"),
        INT.optional("height", "pixels"),
        TEXT.optional("split", "such as train or val"),
    ),
    "predictions": (
        TEXT("image_id", "as in images"),
        INTS.optional("classes", "predicted classes, best first; absent when scores are dense"),
        FLOATS32.optional("scores", "of `classes`, or of all classes in class order; float16 or float32"),
        FLOAT32.optional(
            "logsumexp", "over the logits of all classes, so that a top-k file gives probabilities"
        ),
    ),
    "proposals": (
        TEXT("image_id", "as in images"),
        INT("class_id", "as in classes"),
        REAL("score", "of the rule that proposed it"),
        INT("n_models", "models that proposed it"),
        TEXT("source", "the rule"),
    ),
    "votes": (
        TEXT("image_id", "as in images"),
        INT("class_id", "as in classes"),
        TEXT("rater_id", "who answered"),
        TEXT("answer", "the answer", values=ANSWERS),
        FLAG.optional("main", "whether it is the main object"),
        TEXT.optional("page_id", "the page that was shown"),
        TIME.optional("shown_at", "when it was shown"),
        TIME.optional("answered_at", "when it was answered"),
        INT.optional("round", "0 first, 1 refinement, …"),
    ),
    "golden": (
        TEXT("image_id", "as in images"),
        INT("class_id", "as in classes"),
        TEXT("expert_id", "who answered"),
        TEXT("answer", "the answer", values=ANSWERS),
    ),
    "remarks": (
        TEXT("image_id", "as in images"),
        TEXT("rater_id", "who wrote"),
        TEXT.optional("text", "the comment"),
        INT.optional("missing_class_id", "a class that is missing"),
        TIME.optional("at", "when"),
    ),
    "labels": (
        TEXT("image_id", "as in images"),
        INT.optional("label", "the original single label, null if unknown"),
        FLAG.optional("rated", "whether raters saw the image; null where the source does not say"),
        FLAG("usable", "false: leave the image out"),
        INTS("classes", "every class asked about; a class that is not listed was not asked about"),
        TEXTS("state", "of each class; the label set is the classes with state yes", values=STATES),
        FLOATS32.optional("p", "probability that each class is valid"),
        INTS.optional("n_votes", "answers from which each state was derived"),
        TEXT.optional("method", "how the states were derived"),
    ),
    "results": (
        TEXT("dataset", "the data set judged on"),
        TEXT("model", "the model judged"),
        TEXT("metric", "a registered name, with its options; of transfer METHOD/NAME"),
        TEXT("slice", "which images"),
        REAL("value", "the value; NaN where it is undefined"),
        *bounds("lo", "hi", f"the {_NULL_WITHOUT}"),
        COUNT("n", "images counted"),
        COUNT("n_skipped", "images of the slice left out; n + n_skipped are the aligned images"),
    ),
    "pairs": (
        TEXT("dataset", "the data set judged on"),
        TEXT("metric", "a registered name, with its options"),
        TEXT("slice", "which images"),
        TEXT("model_a", "one model"),
        TEXT("model_b", "the other"),
        REAL("diff", "value of model_a minus that of model_b"),
        *bounds("lo", "hi", "the 95 % interval of diff"),
        REAL.nullable("p", "two-sided, that diff is 0"),
        REAL.nullable("p_adjusted", "Holm over all pairs of the data set, metric and slice"),
        COUNT("n", "images that count for both models"),
    ),
    "models": (
        TEXT("model", "as in results"),
        TEXT.optional("family", "its family of architectures, such as resnet"),
        TEXT.optional("pretraining", "the data it was pre-trained on before ImageNet-1k; in-1k where none"),
        REAL.optional("params", "parameters, in millions"),
        INT.optional("img_size", "side of its input images, in pixels"),
    ),
    "samples": (
        TEXT("dataset", "the data set judged on"),
        TEXT("model", "the model judged"),
        TEXT("metric", "a registered name, with its options"),
        TEXT("slice", "which images"),
        FLOATS32(
            "values", "the value in each resample; the resamples are the same for all rows of a data set"
        ),
    ),
    "objects": (
        TEXT("image_id", "as in images"),
        INT("class_id", "as in classes"),
        FLOAT32("x1", "left end of the box, as a fraction of the width"),
        FLOAT32("y1", "upper end, as a fraction of the height"),
        FLOAT32("x2", "right end; the box is half-open"),
        FLOAT32("y2", "lower end"),
        FLAG("ignore", "too difficult, or a crowd: neither right nor wrong"),
        TEXT.optional("class", "key of the class"),
        OUTLINES.optional("polygons", "outlines, each x, y, x, y, … as fractions of width and height"),
        BYTES.optional("mask", "PNG as large as the image: not 0 where the object is"),
    ),
    "findings": (
        TEXT("kind", "what was found"),
        TEXT.optional("image_id", "the image, null for a finding on classes"),
        INT.optional("class_a", "one class of a pair; of an error the one that decided on its kind, if any"),
        INT.optional("class_b", "the other; of an error the predicted class"),
        INT.optional("label", "of an error: the original label"),
        TEXT.optional("state", "of an error: what people said about the predicted class", values=STATES),
        INT.optional("n_labels", "of an error: classes in the label set; 0: held against the original label"),
        TEXT.optional("dataset", "of an error: the data set"),
        TEXT.optional("model", "of an error: whose it is"),
        FLOAT32.optional("confidence", "of an error: probability of the predicted class"),
    ),
}

OPEN_ENDED = {"images", "findings"}
"""Tables whose extra columns mean something: slices of images, evidence of findings."""


def declare_table(name: str, columns: Sequence[Column]) -> None:
    """Declare the table of a feature, beside the feature.

    Raises
    ------
    InputError
        If another table has the name.
    """
    if _declared.setdefault(name, tuple(columns)) != tuple(columns):
        raise InputError(f"The table {name!r} is declared twice.", do="choose another name for one of them")


class _Tables(Mapping[str, tuple[Column, ...]]):
    """Interchange tables, and those of features, whose modules are imported when one of them is looked up."""

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
"""The columns of every table, by its name."""
