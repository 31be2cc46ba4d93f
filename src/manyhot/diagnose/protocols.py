"""Label sets of the same images by several protocols, and what of models' results depends on the protocol."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import pyarrow as pa

from manyhot.command import command
from manyhot.core.protocols import COMPONENTS, OTHER_STATES, records_noes
from manyhot.data.inputs import READING, PredictionsLike, Reading
from manyhot.diagnose.page import DiagnosisResult
from manyhot.diagnose.protocol_groups import (
    LabelProtocol,
    ProtocolGroup,
    TopClasses,
    groups_of,
    open_protocols,
    top_classes,
)
from manyhot.diagnose.protocol_rows import ORIGINAL, PROTOCOL_TABLES, ProtocolTables
from manyhot.diagnose.protocol_text import protocol_lines
from manyhot.parameters import RESAMPLES, Positional, Repeated, Resamples, Seed, Shown
from manyhot.run import QUIET, Run
from manyhot.tables import schema
from manyhot.tables.definitions import COUNT, INT, REAL, TEXT, bounds, declare_table, interval

_GROUP = TEXT("group", "the label sets whose shared images are counted: all of them, or the names of two")
_SLICE = TEXT("slice", "all images, or those that raters saw in each protocol", values=("all", "rated"))
_TWO = (TEXT("labels_a", "the first label sets"), TEXT("labels_b", "the second label sets"))
_BY_TWO = (
    _GROUP,
    TEXT("by_a", "the first protocol: label sets, or the original label"),
    TEXT("by_b", "the second protocol"),
)
_OVER = "its 95 % interval over images; null if there is none"

declare_table(
    "protocol_sets",
    (
        _GROUP,
        _SLICE,
        TEXT("labels", "the label sets"),
        COUNT("images", "number of usable images"),
        REAL.nullable("asked", "mean number of classes asked about; null if only valid classes are recorded"),
        COUNT("n_empty", "images without a valid class"),
        REAL("mean_size", "mean number of classes in the non-empty label sets"),
        *interval(
            "several",
            "share of the non-empty label sets that have two or more classes",
            "its 95 % interval (Wilson)",
            value=REAL,
        ),
        COUNT("n", "number of non-empty label sets"),
    ),
)

declare_table(
    "protocol_agreement",
    (
        _GROUP,
        _SLICE,
        TEXT(
            "measure",
            "a relation of two label sets, their Jaccard index, the difference of the shares of sets with "
            "two or more classes (second minus first), or agreement as between raters",
        ),
        REAL("value", "share of images with the relation, or value of another measure"),
        *bounds("lo", "hi", _OVER),
        COUNT("n", "number of images; for agreement as between raters, number of questions or sheets"),
    ),
)

declare_table(
    "protocol_missing",
    (
        _GROUP,
        _SLICE,
        *_TWO,
        TEXT("which", "which labels of the first count", values=("all", ORIGINAL, "other classes")),
        TEXT("state", "what the second protocol says about them", values=OTHER_STATES),
        COUNT("labels", "labels with this state"),
        *interval("share", "their share", _OVER, value=REAL),
        COUNT("n", "labels that count"),
    ),
)

declare_table(
    "protocol_pairs",
    (
        _GROUP,
        *_TWO,
        INT("class_id", "a class that only the first protocol considers valid on an image"),
        TEXT("class_name", "its name"),
        INT("beside_id", "a class that is valid on the same image under the second protocol"),
        TEXT("beside_name", "its name"),
        COUNT("images", "number of such images"),
    ),
)

declare_table(
    "protocol_accuracy",
    (
        _GROUP,
        TEXT("by", "the protocol: label sets, or the original label"),
        TEXT.nullable("model", "the model; null for the mean over models"),
        REAL("value", "share of the images on which the model's top class is right"),
        *bounds("lo", "hi", _OVER),
        INT.nullable("rank", "the model's rank by this protocol; ties share a rank; null for the mean"),
        COUNT(
            "n",
            "number of images with a label set in each protocol and, if any image has one, an original label",
        ),
    ),
)

declare_table(
    "protocol_errors",
    (
        *_BY_TWO,
        TEXT.nullable("model", "the model; null for the mean over models"),
        *interval(
            "difference",
            "accuracy under the second protocol minus accuracy under the first protocol",
            _OVER,
            value=REAL,
        ),
        REAL(
            "errors",
            "number of errors under the first protocol; in the row of the mean, the mean over models",
        ),
        *interval(
            "right", "share of these errors that are right under the second protocol", _OVER, value=REAL
        ),
        COUNT("n", "number of images"),
    ),
)

declare_table(
    "protocol_ranks",
    (
        *_BY_TWO,
        COUNT("models", "number of models"),
        *interval("tau", "Kendall's tau-b of the two rankings", _OVER, value=REAL),
        COUNT("pairs", "pairs of models"),
        COUNT("swapped", "pairs in the opposite order"),
        COUNT("surely", "number of pairs that change places significantly: p_adjusted below 0.05"),
        COUNT("n", "number of images"),
    ),
)

declare_table(
    "protocol_swaps",
    (
        *_BY_TWO,
        TEXT("model_a", "the model that is better under the first protocol"),
        TEXT("model_b", "the model that is better under the second protocol"),
        REAL("difference_a", "value of model_b minus value of model_a under the first protocol"),
        REAL("difference_b", "the same under the second protocol"),
        REAL("p_adjusted", "p-value of the swap, with Holm's correction over all pairs of models"),
        COUNT("n", "number of images"),
    ),
)

declare_table(
    "protocol_variance",
    (
        _GROUP,
        TEXT("component", "what accuracy varies with", values=COMPONENTS),
        *interval("sd", "standard deviation of accuracy without the noise of the images", _OVER, value=REAL),
        REAL("share", "share of this component in the sum of the three variances"),
        COUNT("n", "number of images"),
    ),
)


@dataclass(frozen=True, eq=False)
class Protocols(DiagnosisResult):
    """Label sets of several protocols, compared on the same images.

    Attributes
    ----------
    protocol_sets, protocol_agreement, protocol_missing, protocol_pairs : pyarrow.Table
        The sizes of label sets, how they agree, and which labels each of them lacks.
    protocol_accuracy, protocol_errors, protocol_ranks, protocol_swaps, protocol_variance : pyarrow.Table
        How the results of models depend on the protocol; empty without predictions. See
        `manyhot.tables.TABLES` for the columns of all tables.
    notes, metadata, inputs
        As in `Result`.
    """

    NAMES = PROTOCOL_TABLES

    protocol_sets: pa.Table
    protocol_agreement: pa.Table
    protocol_missing: pa.Table
    protocol_pairs: pa.Table
    protocol_accuracy: pa.Table
    protocol_errors: pa.Table
    protocol_ranks: pa.Table
    protocol_swaps: pa.Table
    protocol_variance: pa.Table

    def lines(self) -> Iterator[str]:
        """Yield how label sets agree, which labels they lack, and how accuracy depends on the protocol."""
        yield from protocol_lines({name: table.to_pylist() for name, table in self.tables.items()})


@command(
    "diagnose protocols",
    out="protocols",
    examples=(
        "manyhot diagnose protocols imagenet-val multilabel.csv",
        "manyhot diagnose protocols ours.csv theirs.csv --predictions predictions",
    ),
)
def diagnose_protocols(
    labels: Annotated[Any, Positional(), Repeated(), Shown("DATASETS")],
    predictions: PredictionsLike = (),
    *,
    resamples: Resamples = RESAMPLES,
    seed: Seed = 0,
    reading: Reading = READING,
    run: Run = QUIET,
) -> Protocols:
    """Compare label sets of the same images, and measure how accuracy and ranks depend on the protocol.

    Label sets are compared like raters who label the same images: image by image, and on the classes that
    raters were asked about for both label sets. With predictions, each model is evaluated under each protocol
    on the same images.

    Parameters
    ----------
    labels
        Two or more label sets of the same images: names of data sets (such as imagenet-val), campaigns or
        files. In Python, also tables and arrays, in a list or in a mapping of names to label sets.
    predictions
        Files or folders of predictions; by default the published predictions of the first label sets that
        have any. Without predictions, only the label sets are compared.
    resamples
        Number of bootstrap resamples of images; 0 for no intervals over images.
    seed
        Seed for the bootstrap.

    Returns
    -------
    Protocols

    Raises
    ------
    UsageError
        If there are fewer than two label sets.
    InputError
        If label sets give an image different original labels.
    MatchError
        If no two label sets share an image, or their class lists differ; also as in `manyhot.evaluate`.

    Examples
    --------
    >>> reading = Reading(n_classes=3)
    >>> sets = {"ours": [[0], [1, 2], [2]], "theirs": [[0], [1], [1]]}
    >>> found = diagnose_protocols(sets, reading=reading)
    >>> {row["measure"]: row["value"] for row in found.protocol_agreement.to_pylist()}["b_in_a"]
    0.3333333333333333
    """
    protocols = open_protocols(labels, reading, run)
    groups, notes = groups_of(protocols)
    top, source = top_classes(labels, protocols, predictions, reading, run)
    classes = next((p.source.classes for p in protocols if p.source.classes is not None), None)
    made = ProtocolTables(resamples, seed, classes)
    for protocol in protocols:
        alone = ProtocolGroup.of(protocol.name, [protocol])
        assert alone is not None
        made.add_sets(alone)
    for group in groups:
        made.add_sets(group)
        made.add_agreement(group)
        if top is not None:
            made.add_models(group, top)
    notes += _notes(top, protocols)
    inputs = {k: v for p in protocols for k, v in p.source.inputs.items()}
    if source is not None:
        notes += source.misfits.notes(source.name)
        inputs |= source.inputs
    tables = {name: pa.Table.from_pylist(rows, schema(name)) for name, rows in made.rows.items()}
    return Protocols(**tables, notes=tuple(notes), inputs=inputs)


def _notes(top: TopClasses | None, protocols: Sequence[LabelProtocol]) -> list[str]:
    """Return what could not be computed, and why, and which label sets are the same."""
    silent = [p.name for p in protocols if not records_noes(p.sets)]
    notes = [
        f"{name} records only valid classes, so agreement statistics of raters are undefined for it"
        for name in silent
    ]
    if top is None:
        notes.append(
            "there are no predictions, so only the label sets are compared; pass some as `predictions`"
        )
    said = ["image_id", "classes", "state"]
    for a, b in itertools.combinations(protocols, 2):
        if a.labels.table.select(said).equals(b.labels.table.select(said)):
            notes.append(
                f"{a.name} and {b.name} contain identical label sets; different benchmarks may use the same "
                "ones"
            )
    return notes
