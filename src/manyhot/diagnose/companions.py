"""Which classes are valid together, and whose recall depends on a companion."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot.command import command
from manyhot.console import table_lines
from manyhot.core.array_types import Bools, Floats
from manyhot.core.cooccurrence import ClassPairs, CompanionImages, difference_of_means, permutation_p
from manyhot.core.model_pairs import holm
from manyhot.core.score_threshold import linked
from manyhot.core.share_intervals import proportion_interval
from manyhot.data.data_sets import Source
from manyhot.data.inputs import READING, LabelsLike, PredictionsLike, Reading, open_inputs
from manyhot.diagnose.page import DiagnosisResult
from manyhot.errors import InputError, counted, first_names
from manyhot.evaluate.slices import ModelCase, labels_of, model_cases
from manyhot.parameters import AtLeast, Count, Probability, Was
from manyhot.run import QUIET, Run
from manyhot.tables import Labels, Row, schema
from manyhot.tables.arrays import label_sets
from manyhot.tables.definitions import COUNT, INT, ITS, REAL, TEXT, bounds, declare_table, interval

Columns = Mapping[str, Any]
MIN_IMAGES = 25
"""Minimum number of images with both classes for a pair to be tested."""

PRINTED_PER_DATASET = 10
"""Pairs that the terminal shows for a data set."""

declare_table(
    "companions",
    (
        TEXT("dataset", "the data set"),
        INT("main", "the class that is looked for"),
        INT("companion", "another class that is valid on some of the same images"),
        TEXT("main_name", "name of main"),
        TEXT("companion_name", "name of companion"),
        COUNT("both", "number of images on which both classes are valid"),
        *interval(
            "lift",
            "number of images with both classes, divided by the number expected by chance",
            value=REAL,
            ends=REAL,
        ),
        *interval(
            "odds_ratio",
            "odds that one class is valid given that the other is valid, divided by the odds given that the "
            "other is not valid",
            value=REAL,
            ends=REAL,
        ),
        TEXT.nullable("model", "the model; null for the mean over models"),
        COUNT("n_models", "number of models averaged; 1 for a single model"),
        *interval("recall_with", "recall of main on images with both classes", f"{ITS} (Wilson)", value=REAL),
        *interval(
            "recall_without",
            "recall of main on images with main but without the companion",
            f"{ITS} (Wilson)",
            value=REAL,
        ),
        REAL("difference", "recall_with minus recall_without; NaN if n_with or n_without is 0"),
        *bounds("lo", "hi", f"{ITS} over images", column=REAL),
        REAL("p", "probability of a difference at least this large if the companion had no effect"),
        REAL.nullable(
            "p_adjusted",
            "p adjusted by Holm's method for all tested pairs of the model; null if the pair was not tested",
        ),
        COUNT("n_with", "number of images with main and the companion"),
        COUNT("n_without", "number of images with main but without the companion"),
    ),
    renamed={"diff": "difference"},
)


@dataclass(frozen=True, eq=False)
class Companions(DiagnosisResult):
    """Pairs of classes that are valid together, and how the recall of one depends on the other.

    Attributes
    ----------
    table : pyarrow.Table
        The table ``companions``; see `manyhot.tables.TABLES`.
    min_images : int
        Minimum number of images with both classes for a pair to be tested.
    notes, metadata, inputs
        As in `Result`.
    """

    NAMES = ("companions",)

    table: pa.Table
    min_images: int = MIN_IMAGES

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The ordered pairs (main, companion) with enough images to test."""
        of = self.table.select(["main", "companion", "both"]).to_pydict()
        found = zip(*of.values(), strict=True)
        return list(dict.fromkeys((a, b) for a, b, both in found if both >= self.min_images))

    def to_json(self) -> dict[str, Any]:
        """Return the notes and, for pairs with enough images, the means over models."""
        rows = [r for r in self._means() if r["both"] >= self.min_images]
        return {
            "tested": [{k: None if v != v else v for k, v in r.items()} for r in rows],
            "notes": self.notes,
        }

    def lines(self) -> Iterator[str]:
        """Yield the number of pairs, and the pairs with the clearest differences."""
        rows, unmatched = self._means(), json.loads(self.metadata.get("unmatched", "{}"))
        for dataset in dict.fromkeys(r["dataset"] for r in rows):
            own = [r for r in rows if r["dataset"] == dataset]
            yield from _set_lines(dataset, own, self.min_images, unmatched.get(dataset))

    def _means(self) -> list[Row]:
        return [r for r in self.table.to_pylist() if r["model"] is None]


@command(
    "diagnose companions",
    out="companions",
    examples=(
        "manyhot diagnose companions imagenet",
        "manyhot diagnose companions campaign --min-images 50 --out diagnosis",
    ),
)
def diagnose_companions(
    labels: LabelsLike,
    predictions: PredictionsLike = (),
    *,
    k: Count | None = None,
    probability: Probability | None = None,
    min_images: Annotated[int, AtLeast(1), Was("--least")] = MIN_IMAGES,
    labelled: bool = False,
    unasked: bool = False,
    reading: Reading = READING,
    run: Run = QUIET,
) -> Companions:
    """Measure which classes are valid together, and how the recall of one depends on the other.

    If a class is found more often in images with its companion, a model may rely on the companion. Test such
    pairs with diagnose shortcuts.

    Parameters
    ----------
    labels
        Name of a benchmark, such as imagenet, or of one of its data sets; or a campaign, a folder written by
        predict, a file of label sets, or an images table.
    predictions
        Files or folders of predictions, used instead of the published predictions or those of the campaign.
    k
        A class counts as found if it is among the top k classes; by default 5 or, with five or fewer classes,
        one less than their number. If k is smaller than a label set, a class is harder to find in images with
        a companion.
    probability
        Minimum probability at which a class counts as found, used instead of k, for example for sigmoid
        outputs. Models without probabilities of all classes are skipped.
    min_images
        Minimum number of images with both classes for a pair to be tested.
    labelled
        Measure the recall of a class only on images whose original label is this class.
    unasked
        Count a companion as absent even if no rater was asked about it.

    Returns
    -------
    Companions

    Raises
    ------
    InputError
        If all models are skipped, k or another option is out of range, or `labelled` is set and there are no
        original labels.
    MatchError, OrderError
        As in `manyhot.evaluate`.

    Notes
    -----
    The same k is used for all images. If k were the size of each image's label set, classes would be easier
    to find in images with companions.
    """
    parts, inputs, found = [], dict[str, str](), list[str]()
    for source in open_inputs(labels, predictions, reading=reading, run=run):
        sets = labels_of(source)
        classes = source.classes or sets.known_classes
        names = list(classes.names) if classes else [str(i) for i in range(sets.n_classes)]
        found_if = FoundIf(k or max(1, min(_K, sets.n_classes - 1)), probability)
        found.append(str(found_if))
        judge = _Judge(
            sets,
            names,
            source.name,
            found_if,
            min_images=min_images,
            labelled=labelled,
            unasked=unasked,
        )
        parts.append(judge.judged(source, reading.trust_order, run))
        inputs |= source.inputs
    metadata = {"least": str(min_images), "found": "; ".join(dict.fromkeys(found))}
    metadata |= {"labelled": json.dumps(labelled), "unasked": json.dumps(unasked)}
    metadata["unmatched"] = json.dumps({name: n for part in parts for name, n in part.metadata.items()})
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    table = pa.concat_tables([part.table for part in parts])
    return Companions(table, min_images, notes=notes, metadata=metadata, inputs=inputs)


ONE_FOUND = (
    "only one of two valid classes can be the top class, so a lower recall with the companion is to be "
    "expected"
)


_K = 5
"""Classes among which a class counts as found, by default."""


@dataclass(frozen=True)
class FoundIf:
    """When a class counts as found."""

    k: int
    probability: float | None

    def __str__(self) -> str:
        if self.probability is None:
            return f"among the best {self.k}"
        return f"probability >= {self.probability:g}"


@dataclass
class _Judge:
    """Adds up which classes each model finds; the settings are those of `diagnose_companions`."""

    labels: Labels
    names: Sequence[str]
    dataset: str
    found_if: FoundIf
    min_images: int
    labelled: bool
    unasked: bool
    models: list[str] = field(default_factory=list)
    _without: list[str] = field(default_factory=list)
    _parts: list[Columns] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.labels.n_classes < 2:
            raise InputError("A class can only have a companion among other classes.", got="1 class")
        if self.found_if.k >= self.labels.n_classes:
            allowed = f"1 to {self.labels.n_classes - 1:,}"
            raise InputError(
                "With this k, either every class is found or none is.", got=self.found_if.k, allowed=allowed
            )
        self.sets = label_sets(self.labels)
        if self.labelled and not self.sets.labelled.any():
            raise InputError(
                "The images have no original labels.",
                where=self.labels.name or None,
                do="pass a table with the column 'label' as `images`, or leave out `labelled`",
            )
        self.together = ClassPairs.of(self.sets)
        self.pairs = _ordered(self.together, self.names)
        main, companion = self.pairs["main"], self.pairs["companion"]
        self.tested = self.pairs["both"] >= self.min_images
        self.beside = CompanionImages.of(
            self.sets, main, companion, labelled=self.labelled, rest=self.unasked
        )
        self.few = replace(self.beside, main=main[self.tested], companion=companion[self.tested])
        # Number of models that found each class of each image, and whether all of them predict the image.
        self._found = np.zeros(len(self.beside.rows))
        self._complete = np.ones(len(self.beside.rows), bool)
        self._predicted = np.ones(len(self.sets), bool)

    def judged(self, source: Source, trust_order: bool, run: Run) -> Companions:
        """Return the recall of classes with and without companions, for all models of a data set."""
        for model in model_cases(source, depth=self.found_if.k, trust_order=trust_order, run=run):
            self.add(model.model, *self.look(model))
        done = self.finish()
        return replace(done, notes=(*done.notes, *source.misfits.notes(self.dataset)))

    def add(self, model: str, hits: Floats | None, complete: Bools) -> None:
        if hits is None:
            self._without.append(model)
            return
        self.models.append(model)
        self._found += hits
        self._complete &= complete
        pairs = {name: values[self.tested] for name, values in self.pairs.items()}
        measured = _measured(self.few, hits, complete, self.tested[self.tested])
        self._parts.append({**pairs, **measured, "model": model, "n_models": 1})

    def finish(self) -> Companions:
        if not self.models:
            raise InputError(
                "No model has probabilities of all classes, which `probability` needs.",
                got=", ".join(self._without[:5]) or "no predictions",
                allowed="probabilities or logits of all classes",
                do="leave out `probability` to use the top k classes",
            )
        mean = _measured(self.beside, self._found / len(self.models), self._complete, self.tested)
        about = {"model": None, "n_models": len(self.models)}
        table = pa.concat_tables(
            [_table(p, self.dataset) for p in ({**self.pairs, **mean, **about}, *self._parts)]
        )
        absent = int(np.count_nonzero(~self._predicted))
        metadata = {self.dataset: f"{absent:,} of {len(self.sets):,}"} if absent else {}
        return Companions(table, self.min_images, notes=tuple(self._notes()), metadata=metadata)

    def _notes(self) -> Iterator[str]:
        if not self.sets.asked_known:
            yield (
                f"{self.dataset}: only valid classes are recorded, so raters may not have been asked about "
                "a companion that is not listed"
            )
        if self.found_if.k == 1 and self.found_if.probability is None:
            yield f"with k = 1, {ONE_FOUND}"
        if self._without:
            yield (
                f"{self.dataset}: models without probabilities of all classes are left out: "
                f"{first_names(self._without)}"
            )
        if unknown := int(np.count_nonzero(~self._complete)):
            yield (
                f"{self.dataset}: {unknown:,} of {len(self._complete):,} valid classes are left out of the "
                "means, because a model has no prediction for the image or predicts fewer than "
                f"{self.found_if.k:,} classes"
            )
        if not self.tested.any():
            most = int(self.pairs["both"].max(initial=0))
            yield (
                f"{self.dataset}: no two classes are both valid on at least {self.min_images:,} "
                f"images; the highest number of images for any pair is {most:,}"
            )

    def look(self, model: ModelCase) -> tuple[Floats | None, Bools]:
        """Return which valid classes are found (None without probabilities), and which can be judged."""
        case, place = model.case, np.full(len(self.sets), -1)
        place[model.rows] = np.arange(len(model.rows))
        self._predicted &= place >= 0
        row = place[self.beside.rows]
        ranked = row >= 0
        if self.found_if.probability is None:
            top = case.top[:, : self.found_if.k]
            ranked &= case.reaching(self.found_if.k, np.ones(len(top), bool))[row]
            hit = (top[row] == self.beside.classes[:, None]).any(axis=1)
        elif case.has_probabilities:
            hit = linked(case).probability_of(row, self.beside.classes) >= self.found_if.probability
        else:
            return None, ranked
        return (hit & ranked).astype(float), ranked


def _ordered(pairs: ClassPairs, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """Return columns of all pairs in both orders, by class and companion."""
    main, companion = np.concatenate([pairs.a, pairs.b]), np.concatenate([pairs.b, pairs.a])
    order, of = np.lexsort((companion, main)), np.tile(np.arange(len(pairs.a)), 2)
    text = np.asarray(names, object)
    columns = {"main": main, "companion": companion}
    columns |= {"main_name": text[main], "companion_name": text[companion]}
    columns["both"] = pairs.both[of]
    for name, ends in (("lift", pairs.lift()), ("odds_ratio", pairs.odds_ratio())):
        columns |= {f"{name}{end}": v[of] for end, v in zip(("", "_lo", "_hi"), ends, strict=True)}
    return {name: values[order] for name, values in columns.items()}


def _measured(beside: CompanionImages, values: Floats, complete: Bools, tested: Bools) -> Columns:
    """Return columns of recall with and without, and of their difference."""
    values = np.where(complete, values, 0)
    n, sums, squares, cubes = (beside.sums(v) for v in (complete.astype(float), values, values**2, values**3))
    value, lo, hi = difference_of_means(n, sums, squares)
    p = permutation_p(n, sums, np.stack([squares.sum(axis=0), cubes.sum(axis=0)]))
    with np.errstate(invalid="ignore"):
        recall = sums / n
    adjusted = holm(np.where(tested, p, np.nan))
    # A mean over models varies less than a share, so that its interval is too long rather than too short.
    ends = [
        pa.array(end, from_pandas=True)
        for end in np.stack(proportion_interval(sums, n), axis=1).reshape(4, -1)
    ]
    columns = {
        "recall_with": recall[0],
        "recall_with_lo": ends[0],
        "recall_with_hi": ends[1],
        "recall_without": recall[1],
        "recall_without_lo": ends[2],
        "recall_without_hi": ends[3],
        "difference": value,
        "lo": lo,
        "hi": hi,
        "p": p,
    }
    columns |= {"n_with": n[0].astype(np.int64), "n_without": n[1].astype(np.int64)}
    return columns | {"p_adjusted": pa.array(adjusted, mask=np.isnan(adjusted))}


def _table(columns: Columns, dataset: str) -> pa.Table:
    n, given = len(columns["both"]), {**columns, "dataset": dataset}

    def column(value: Any, kind: pa.DataType) -> pa.Array:
        alone = value is None or isinstance(value, str | int)
        return pa.repeat(pa.scalar(value, kind), n) if alone else pa.array(value).cast(kind)

    of = schema("companions")
    return pa.table([column(given[f.name], f.type) for f in of], schema=of)


def _set_lines(dataset: str, rows: list[Row], min_images: int, unmatched: str | None) -> Iterator[str]:
    """Yield the lines of a data set, of which `unmatched` images have no prediction of some model."""
    n_pairs, n_tested = len(rows) // 2, sum(r["both"] >= min_images for r in rows) // 2
    n_models = rows[0]["n_models"]
    judged = f"{dataset}, {counted(n_models, 'model')}: {counted(n_pairs, 'pair')} of classes"
    yield f"{judged}, {n_tested:,} on {min_images:,} images or more"
    if unmatched:
        yield f"left out: {unmatched} images, because a model has no prediction for them"
    testable = [r for r in rows if r["p_adjusted"] is not None]
    untestable = sum(r["both"] >= min_images for r in rows) - len(testable)
    sure = [r["difference"] > 0 for r in testable if r["p_adjusted"] < 0.05]
    if testable:
        yield (
            f"tested pairs: {len(testable):,}; with the companion, the class is found more often in "
            f"{sum(sure):,} and less often in {len(sure) - sum(sure):,} of these pairs, with an adjusted p "
            "below 0.05"
        )
    if n_models and untestable:
        yield (
            f"pairs that cannot be tested: {untestable:,}, because there are no images with the companion or "
            "none without it"
        )
    if not testable:
        return
    yield ""
    head = ("class", "companion", "lift", "with", "without", "difference", "adjusted p", "images")
    order = sorted(
        testable, key=lambda r: (r["p_adjusted"], -abs(r["difference"]), r["main"], r["companion"])
    )
    yield from table_lines(head, [_cells(r) for r in order[:PRINTED_PER_DATASET]])
    yield ""


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row["main_name"],
        row["companion_name"],
        # Short, so that a row fits into 100 columns; the farther end of the interval.
        f"{row['lift']:.3g} ±{round(max(row['lift'] - row['lift_lo'], row['lift_hi'] - row['lift']), 2):.3g}",
        f"{row['recall_with']:.0%}",
        f"{row['recall_without']:.0%}",
        f"{100 * row['difference']:+.0f} ({100 * row['lo']:+.0f} to {100 * row['hi']:+.0f})",
        f"{row['p_adjusted']:.2g}" if row["p_adjusted"] >= 1e-4 else "< 0.0001",
        f"{row['n_with']:,} and {row['n_without']:,}",
    )
