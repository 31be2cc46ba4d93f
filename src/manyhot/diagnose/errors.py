"""Labels and predictions to errors, sorted by what they are.

Published data, campaigns or files in, sorted errors out.

Sorted errors as they come out: findings, counts, and what the reader must know about them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot import tables
from manyhot.classes import ClassList, class_list_of
from manyhot.core.error_kinds import (
    NOTHING,
    ORDER,
    ErrorContext,
    Errors,
    Sorted,
    lacking,
    shares,
    sort_errors,
)
from manyhot.core.sets import NO_LABEL, Case, LabelSets
from manyhot.data import catalog
from manyhot.data.inputs import Asked, Source, sources
from manyhot.diagnose.evidence import World
from manyhot.errors import InputError
from manyhot.evaluate.judge import check_order
from manyhot.evaluate.slices import case_of
from manyhot.files import sha256
from manyhot.formats import detect, read_findings, read_images, read_labels
from manyhot.formats.tabular import write_csv
from manyhot.formats.tsipras import read_superclasses
from manyhot.formats.writing import PathLike, Progress, check_apart, check_place
from manyhot.predict.similar import similar_images
from manyhot.registry import Entry, get
from manyhot.tables import STATES, Alignment, Images, Labels, Predictions, align, check_same_classes
from manyhot.tables.arrays import as_tables
from manyhot.tables.sets import label_sets
from manyhot.tables.skipped_files import SkippedFiles, fitting_models

EVENTS = ("label", "set")
"""What an error is: the best class is not the original label; it is not in the label set."""


UNSORTED = "unsorted"
"""The kind of an error that no rule fitted."""


ModelProgress = Callable[[int, str], None]


def diagnose_error_tables(
    labels: Labels,
    predictions: Iterable[Predictions],
    *,
    event: str = "label",
    above: float | None = None,
    rules: Sequence[str] = ORDER,
    images: Images | None = None,
    classes: ClassList | None = None,
    superclasses: Mapping[str, Collection[int]] | None = None,
    pairs: Collection[tuple[int, int]] | None = None,
    together: Labels | None = None,
    non_prototypical: Collection[str] | None = None,
    similar: pa.Table | None = None,
    neighbours: Images | None = None,
    trust_order: bool = False,
    dataset: str = "",
    misfits: SkippedFiles | None = None,
    progress: ModelProgress | None = None,
) -> SortedErrors:
    """Sort the errors of models by what they are: the first rule that fits decides.

    Parameters
    ----------
    labels : Labels
    predictions : iterable of Predictions
        One model at a time.
    event : {"label", "set"}
        An error is a best class that is not the original label, or one that is not in the label set.
    above : float, optional
        Sort errors of greater confidence only, 0 to 1.
    rules : sequence of str
        Registered rules or call strings, in the order in which they are asked.
    images : Images, optional
        Original labels where `labels` has none.
    classes : ClassList, optional
        Gives the hierarchy; the list that the labels name by default.
    superclasses : mapping of str to collection of int, optional
        Classes of each superclass, in place of the hierarchy.
    pairs : collection of (int, int), optional
        A valid class, and one whose prediction says the same of it; those published for ImageNet by default.
    together : Labels, optional
        Where to count which classes are valid together; `labels` by default.
    non_prototypical : collection of str, optional
        Ids of images that people called non-prototypical.
    similar : pyarrow.Table, optional
        The table ``similar`` of the images among all classes, nearest first: ``classes="any"``.
    neighbours : Images, optional
        Original labels of the images in it; by default those of `labels`.
    trust_order : bool
        As in `manyhot.evaluate.judge.evaluate`.
    dataset : str
        Its name; that of the labels by default.
    misfits : Misfits, optional
        As in `manyhot.evaluate.judge.evaluate`.
    progress : callable, optional
        Called with the number of models done and the name of the last.

    Raises
    ------
    InputError
        For choices that do not exist; if no image can be judged; if a model has no confidence and `above` is
        given; if there are no predictions.
    MatchError, OrderError
        As in `manyhot.evaluate.judge.evaluate`.
    UnknownNameError
        If a rule is not registered.
    """
    _check_choices(event, above)
    entries = _rules(rules)
    labels = labels if images is None else labels.with_labels(images)
    sets = label_sets(labels)
    world = World(labels, sets, classes or class_list_of(labels.class_hash))
    known, lack = world.known(superclasses, pairs, together, non_prototypical, similar, neighbours)
    sorter = _Sorter(labels, sets, known, entries, event, above, trust_order, dataset or labels.name)
    misfits = misfits or SkippedFiles()
    for done, (model, fitted) in enumerate(fitting_models(predictions, sorter.fit, misfits), 1):
        sorter.add(model, *fitted)
        if progress:
            progress(done, model.model)
    return sorter.finish(lack, [*world.notes, *misfits.notes(sorter.dataset)])


def _check_choices(event: str, above: float | None) -> None:
    if event not in EVENTS:
        raise InputError("There is no such event.", got=event, allowed=", ".join(EVENTS))
    if above is not None and not 0 <= above < 1:
        raise InputError(
            "The confidence to sort errors above is out of range.", got=above, allowed="0 up to 1"
        )


def _rules(specs: Sequence[str]) -> list[Entry]:
    listed = [specs] if isinstance(specs, str) else list(specs)
    if not listed:
        raise InputError("No rule was asked for.", do="leave rules out for the usual ones")
    entries = [get("rule", spec) for spec in listed]
    names = [_kind(e) for e in entries]
    twice = [n for n in dict.fromkeys(names) if names.count(n) > 1]
    if twice:
        raise InputError("A rule is asked twice.", got=twice[0], allowed="each rule once, with its options")
    return entries


def _kind(rule: Entry) -> str:
    return rule.name.partition("(")[0]


@dataclass
class _Sorter:
    """Sorts the errors of models one by one; the parameters are those of `diagnose_errors`."""

    labels: Labels
    sets: LabelSets
    known: ErrorContext
    rules: list[Entry]
    event: str
    above: float | None
    trust_order: bool
    dataset: str
    _models: list[ModelErrors] = field(default_factory=list)
    _tables: list[pa.Table] = field(default_factory=list)
    _notes: list[str] = field(default_factory=list)
    _last: tuple[pa.Array, Alignment, LabelSets] | None = None
    _noted: Alignment | None = None

    def __post_init__(self) -> None:
        judged = self.sets.labelled if self.event == "label" else self.sets.scored
        if not judged.any():
            raise InputError(
                "No usable image has an original label."
                if self.event == "label"
                else "No usable image has a label set that is not empty.",
                where=self.labels.name or None,
                got=f"{len(self.labels):,} images",
                do="give original labels, or ask for errors against the label sets: event set"
                if self.event == "label"
                else "ask for errors against the original label: event label",
            )
        self._judged = judged

    def fit(self, predictions: Predictions) -> tuple[Case, Alignment]:
        """Return a model beside the labels; refuse one that does not fit them."""
        check_same_classes(self.labels, predictions)
        alignment, sets = self._align(predictions)
        case = case_of(sets, predictions, alignment, 1)
        if not self.trust_order:
            check_order(case, predictions, alignment)
        if self.above is not None and case.confidence is None:
            raise _no_confidence(predictions)
        return case, alignment

    def add(self, predictions: Predictions, case: Case, alignment: Alignment) -> None:
        """Sort the errors of one model."""
        self._note_unmatched(predictions.model, alignment)
        judged = self._judged[alignment.left] & (case.top[:, 0] >= 0)
        wrong = judged & ~(case.is_label if self.event == "label" else case.hit)[:, 0]
        errors = self._errors(case, alignment, wrong)
        found = sort_errors(errors, self.rules)
        n = int(np.count_nonzero(judged))
        self._models.append(
            ModelErrors(
                self.dataset,
                predictions.model,
                n,
                len(judged) - n,
                int(np.count_nonzero(wrong)),
                self._counts(found),
            )
        )
        self._tables.append(self._table(predictions.model, errors, found))

    def _errors(self, case: Case, alignment: Alignment, wrong: npt.NDArray[np.bool_]) -> Errors:
        """Return the errors above the confidence asked for, all of them where none is."""
        confidence = np.full(len(wrong), np.nan) if case.confidence is None else case.confidence
        kept = np.flatnonzero(wrong if self.above is None else wrong & (confidence > self.above))
        return Errors(
            self.known,
            alignment.left[kept],
            case.top[kept, 0].astype(np.int32),
            case.state[kept, 0],
            confidence[kept].astype(np.float32),
        )

    def finish(self, lack: Mapping[str, str], notes: Sequence[str]) -> SortedErrors:
        """Return the errors of all models added."""
        if not self._models:
            raise InputError("There are no predictions whose errors to sort.", do="give at least one model")
        resting = {
            _kind(rule): "; ".join(lack[need] for need in missing)
            for rule in self.rules
            if (missing := lacking(self.known, rule))
        }
        table = pa.concat_tables(self._tables).combine_chunks()
        told = [*notes, *self._notes, *self._unasked(table), *self._cautions(table), *_on_empty_sets(table)]
        return SortedErrors(
            table,
            tuple(self._models),
            tuple(rule.name for rule in self.rules),
            resting,
            tuple(told),
            self.event,
            self.above,
        )

    def _cautions(self, table: pa.Table) -> list[str]:
        """Say what is known against rules that took errors."""
        found = set(pc.unique(table["kind"]).to_pylist())
        named = [(_kind(rule), rule.about.get("caution")) for rule in self.rules]
        return [f"{kind} finds {caution}" for kind, caution in named if caution and kind in found]

    def _unasked(self, table: pa.Table) -> list[str]:
        """Say how many errors may be labels that are missing, for all that people were asked."""
        if not len(table):
            return []
        if not self.labels.asked_known:
            return [
                "the labels do not tell which classes people were asked about: errors of any kind but "
                "valid-label may be labels that are missing"
            ]
        unasked = table["state"].null_count
        return [
            f"{unasked:,} of {len(table):,} errors name a class that nobody was asked about: they may be "
            "labels that are missing"
        ] * bool(unasked)

    @property
    def _kinds(self) -> list[str]:
        return [*map(_kind, self.rules), UNSORTED]

    def _counts(self, found: Sorted) -> dict[str, int]:
        """Return the errors of each kind.

        Left out are rules that rest, whose count is not 0 but unknown, and what is unsorted if all is sorted.
        """
        last, *counts = np.bincount(found.kind + 1, minlength=len(self.rules) + 1).tolist()
        rest = {_kind(rule) for rule in self.rules if lacking(self.known, rule)}
        if any(_kind(rule) == ORDER[-1] for rule in self.rules):
            rest.add(UNSORTED)
        return {k: n for k, n in zip(self._kinds, [*counts, last], strict=True) if k not in rest}

    def _align(self, predictions: Predictions) -> tuple[Alignment, LabelSets]:
        # Models of one data set usually list the same images in the same order.
        if self._last is None or not self._last[0].equals(predictions.image_id):
            name = self.labels.name or "the labels"
            alignment = align(
                self.labels.image_id, predictions.image_id, left_name=name, right_name=predictions.model
            )
            sets = self.sets if not alignment.left_only else self.sets.take(alignment.left)
            self._last = (predictions.image_id, alignment, sets)
        return self._last[1:]

    def _note_unmatched(self, model: str, alignment: Alignment) -> None:
        """Say it of the first model of those that list the same images."""
        if alignment is self._noted:
            return
        self._noted = alignment
        for n, what in (
            (alignment.right_only, "predicted images have no labels"),
            (alignment.left_only, "labelled images have no prediction"),
        ):
            if n:
                self._notes.append(f"{model}: {n:,} {what} and were left out")

    def _table(self, model: str, errors: Errors, found: Sorted) -> pa.Table:
        rows = pa.array(errors.image)
        label = self.sets.label[errors.image]
        names, states = pa.array(self._kinds), pa.array([None, *STATES])
        kind = np.where(found.kind == NOTHING, len(self.rules), found.kind)
        n = len(errors)
        return pa.table(
            {
                "kind": names.take(pa.array(kind)),
                "image_id": self.labels.image_id.take(rows),
                "class_a": pa.array(found.because, pa.int32(), mask=found.because == NOTHING),
                "class_b": pa.array(errors.predicted, pa.int32()),
                "label": pa.array(label, pa.int32(), mask=label == NO_LABEL),
                "state": states.take(pa.array(errors.state)),
                "n_labels": pa.array(self._size[errors.image], pa.int32()),
                "dataset": pa.repeat(pa.scalar(self.dataset, pa.string()), n),
                "model": pa.repeat(pa.scalar(model, pa.string()), n),
                "confidence": pa.array(errors.confidence, mask=np.isnan(errors.confidence)),
            }
        )

    @cached_property
    def _size(self) -> npt.NDArray[np.int64]:
        return self.sets.size


def _on_empty_sets(table: pa.Table) -> list[str]:
    empty = pc.sum(pc.equal(table["n_labels"], 0)).as_py() or 0
    said = f"{empty:,} of {len(table):,} errors are on images with an empty label set"
    return [f"{said}: held against the original label"] * bool(empty)


def _no_confidence(predictions: Predictions) -> InputError:
    if predictions.scores is None:
        got = "classes without scores"
    elif predictions.score_kind == "logit":
        got = "logits of the best classes alone, without logsumexp"
    else:
        got = "scores that rank classes and are no logits or probabilities"
    return InputError(
        f"{predictions.model} has no confidence that could be above anything.",
        where=predictions.source or None,
        got=got,
        allowed="logits or probabilities over all classes, or of the best ones with logsumexp",
        do="leave `above` out to sort errors of any confidence, or predict with scores",
    )


def diagnose_errors(
    labels: Any,
    predictions: Any,
    *,
    label: Any = None,
    n_classes: int | None = None,
    score_kind: str = "score",
    event: str = "label",
    above: float | None = None,
    rules: Sequence[str] = ORDER,
    images: Images | None = None,
    classes: ClassList | None = None,
    superclasses: Mapping[str, Collection[int]] | None = None,
    pairs: Collection[tuple[int, int]] | None = None,
    together: Labels | None = None,
    non_prototypical: Collection[str] | None = None,
    similar: pa.Table | None = None,
    neighbours: Images | None = None,
    trust_order: bool = False,
    dataset: str = "",
) -> SortedErrors:
    """Sort the errors of one or many models by what they are; see the page *Sorting errors*.

    Parameters
    ----------
    labels, predictions, label, n_classes, score_kind
        As in `evaluate`.
    event, above, rules, images, classes, superclasses, pairs, together, non_prototypical, similar, neighbours
        As in `manyhot.diagnose.errors.diagnose_error_tables`.
    trust_order, dataset
        As in `evaluate`.

    Returns
    -------
    SortedErrors
        ``.table``, ``.count("valid-label")``, ``.resting``: the rules that could not run, and why.

    Raises
    ------
    InputError, MatchError, OrderError, UnknownNameError
        As in `manyhot.diagnose.errors.diagnose_error_tables`.

    Examples
    --------
    >>> found = diagnose_errors([[0, 1], [2]], [[1, 0], [0, 2]], label=[0, 2], n_classes=3)
    >>> found.count("valid-label"), found.count("model-failure")
    (1, 1)
    """
    labels, models = as_tables(labels, predictions, n_classes, label, score_kind, classes)
    return diagnose_error_tables(
        labels,
        models,
        event=event,
        above=above,
        rules=rules,
        images=images,
        classes=classes,
        superclasses=superclasses,
        pairs=pairs,
        together=together,
        non_prototypical=non_prototypical,
        similar=similar,
        neighbours=neighbours,
        trust_order=trust_order,
        dataset=dataset,
    )


MISTAKES = "imagenet-mistakes"
"""The entry of the catalogue whose experts called images of ImageNet's validation set non-prototypical."""


VALIDATED = "imagenet-val-predictions"
"""The entry with predictions of these images."""


NON_PROTOTYPICAL = "non-prototypical"
"""Their category."""


def diagnose_errors_files(
    source: PathLike,
    out: PathLike = "findings.parquet",
    *,
    predictions: Sequence[PathLike] = (),
    models: Sequence[str] = (),
    event: str = "label",
    above: float | None = None,
    rules: Sequence[str] | None = None,
    rows: PathLike | None = None,
    images: PathLike | None = None,
    classes: PathLike | None = None,
    superclasses: PathLike | None = None,
    together: PathLike | None = None,
    non_prototypical: PathLike | None = None,
    embeddings: PathLike | None = None,
    index: PathLike | None = None,
    embeddings_of: str = "",
    trust_order: bool = False,
    call: str = "",
    progress: Progress | None = None,
) -> tuple[SortedErrors, list[Path]]:
    """Sort the errors of models by what they are, and write the table ``findings``.

    Parameters
    ----------
    source : path-like
        A benchmark or one of its data sets, such as ``imagenet-val``; a campaign; a folder that ``manyhot
        predict`` wrote; label sets or an images table, in any format.
    out : path-like
        A Parquet file. Beside it ``…-counts.csv`` is written: a row is a model and a kind.
    predictions : sequence of path-like
        Files and folders of predictions; in place of the published models or those of the campaign or folder.
    models : sequence of str
        Patterns of names, such as ``resnet*``; all models by default.
    event, above, rules, trust_order
        As in `manyhot.diagnose.errors.diagnose_error_tables`.
    rows, images, classes
        As in `manyhot.evaluate_files`.
    superclasses : path-like, optional
        A file as `manyhot.formats.tsipras.read_superclasses` reads it, or ``tsipras``: those published.
    together : path-like, optional
        Label sets in which to count which classes are valid together; those of `source` by default.
    non_prototypical : path-like, optional
        Findings or images in any format; of findings with a column ``category`` those that say so. By default
        of ImageNet's validation set those published.
    embeddings : path-like, optional
        A folder that ``manyhot predict --embeddings`` wrote of the images.
    index : path-like, optional
        Such a folder of labelled images to look for similar ones in, best those the models were trained on;
        `embeddings` itself by default.
    embeddings_of : str
        The model whose embeddings they are; not needed where `embeddings` has those of one model.

    Raises
    ------
    ManyhotError
        For each kind of bad input; nothing is written then.
    """
    out = Path(out)
    if out.suffix.lower() != ".parquet":
        raise InputError("Cannot write this kind of file.", where=out, allowed=".parquet")
    asked = Asked(predictions, models, rows, images, classes, progress)
    files = (rows, images, classes, superclasses, together, non_prototypical)
    beside = out.with_name(f"{out.stem}-counts.csv")
    for path in (out, beside):
        check_apart([source, *predictions, *files], path)
    check_place(out, "findings")
    options: dict[str, Any] = {"event": event, "above": above, "trust_order": trust_order}
    if rules is not None:
        options["rules"] = rules
    options |= similar_images(embeddings, index, embeddings_of, progress)
    parts = list(sources(source, asked))
    found = []
    for part in parts:
        labels = part.sets()
        known = _evidence(part, labels, superclasses, together, non_prototypical)
        found.append(_sort(part, labels, options | known, progress))
    done = SortedErrors.concat(found)
    inputs = {name: told for part in parts for name, told in part.inputs.items()}
    inputs |= {Path(p).name: sha256(p) for p in files if p and Path(p).is_file()}
    written = tables.write(done.table, out, "findings", call=call, inputs=inputs, about=_about(done))
    return done, [written, write_csv(counts_table(done), beside)]


def _sort(
    part: Source, labels: Labels, options: Mapping[str, Any], progress: Progress | None
) -> SortedErrors:
    def told(done: int, _: str) -> None:
        assert progress is not None
        progress(f"sorting errors on {part.name}", done, part.n)

    return diagnose_error_tables(
        labels,
        part.models(),
        images=part.images,
        classes=part.classes,
        dataset=part.name,
        misfits=part.misfits,
        progress=told if progress else None,
        **options,
    )


def _about(done: SortedErrors) -> dict[str, str]:
    return {
        "rules": json.dumps(done.rules),
        "resting": json.dumps(done.resting, ensure_ascii=False),
        "notes": json.dumps(done.notes, ensure_ascii=False),
        "event": done.event,
        "above": json.dumps(done.above),
    }


def counts_table(found: SortedErrors) -> pa.Table:
    """Return how many errors of each model are of each kind, with share and n; null where a rule rested."""
    kinds = list(dict.fromkeys(kind for m in found.models for kind in m.counts))
    rows = [
        {
            "dataset": m.dataset,
            "model": m.model,
            "kind": kind,
            "errors": m.counts[kind],
            "share": m.shares[kind],
            "n_sorted": m.n_sorted,
            "n_errors": m.n_errors,
            "n": m.n,
            "n_skipped": m.n_skipped,
        }
        for m in found.models
        for kind in kinds
        if kind in m.counts
    ]
    return pl.DataFrame(rows, infer_schema_length=None).to_arrow()


def _published_list(part: Source) -> list[str] | None:
    """Return the images of ImageNet's validation set that experts called non-prototypical."""
    if part.published is None or part.published.predictions != VALIDATED:
        return None
    files = [f.path for f in catalog.catalog_entry(MISTAKES).files if f.path.endswith("_mistakes.json")]
    return [i for path in catalog.fetch(MISTAKES, only=files).values() for i in listed_ids(path)]


def listed_ids(path: PathLike) -> list[str]:
    """Return the images that a file lists as non-prototypical.

    Parameters
    ----------
    path : path-like
        Findings, of which those of the category count where they have one; or images, in any format.
    """
    path = Path(path)
    if path.is_file() and detect(path, ("findings",)) is not None:
        table = read_findings(path)
        if "category" in table.column_names:
            table = table.filter(pa.compute.equal(table["category"], NON_PROTOTYPICAL))
        return [i for i in table["image_id"].to_pylist() if i is not None]
    ids: list[str] = read_images(path).image_id.to_pylist()
    return ids


def _evidence(
    part: Source,
    labels: Labels,
    superclasses: PathLike | None,
    together: PathLike | None,
    non_prototypical: PathLike | None,
) -> dict[str, Any]:
    """Return what is known beside labels and predictions, as `diagnose_errors` takes it."""
    listed = _published_list(part) if non_prototypical is None else listed_ids(non_prototypical)
    found: dict[str, Any] = {"non_prototypical": listed}
    if together is not None:
        found["together"] = read_labels(together, classes=part.classes)
    if superclasses is not None:
        path = superclasses
        if str(path) == "tsipras" and not Path(path).exists():
            path = catalog.fetch_file("tsipras", "superclasses.npy")
        found["superclasses"] = read_superclasses(path, labels.n_classes, part.classes)
    return found


@dataclass(frozen=True)
class ModelErrors:
    """How many errors of one model are of which kind.

    Attributes
    ----------
    dataset, model : str
    n, n_skipped : int
        Images judged; images in common that are not usable, or have no label or no prediction to judge.
    n_errors : int
        Errors, of any confidence.
    counts : dict of str to int
        Errors above the confidence asked for, by kind.
    """

    dataset: str
    model: str
    n: int
    n_skipped: int
    n_errors: int
    counts: dict[str, int]

    @property
    def n_sorted(self) -> int:
        """Errors above the confidence asked for."""
        return sum(self.counts.values())

    @property
    def shares(self) -> dict[str, float]:
        """The share of each kind; NaN where there is no error."""
        return shares(self.counts)


@dataclass(frozen=True, eq=False)
class SortedErrors:
    """Errors with their kinds, and what the reader must know about them.

    Attributes
    ----------
    table : pyarrow.Table
        The table ``findings``: `kind`, `image_id`, `class_a` (the class that decided; null where none did),
        `class_b` (the predicted one), `label`, `state`, `n_labels`, `dataset`, `model`, `confidence`.
    models : tuple of ModelErrors
    rules : tuple of str
        As they were asked.
    resting : dict of str to str
        Rules that could not run, and why.
    notes : tuple of str
    event : str
        One of `EVENTS`.
    above : float or None
    """

    table: pa.Table
    models: tuple[ModelErrors, ...]
    rules: tuple[str, ...]
    resting: dict[str, str]
    notes: tuple[str, ...]
    event: str
    above: float | None

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __repr__(self) -> str:
        return (
            f"SortedErrors({len(self):,} errors of {len(self.models)} models, {len(self.resting)} rules rest)"
        )

    def count(self, kind: str, *, model: str | None = None) -> int:
        """Return the errors of a kind, of one model or of all.

        Raises
        ------
        InputError
            If no rule finds this kind, or there is no such model.
        """
        found = [m for m in self.models if model in (None, m.model)]
        if not found:
            names = ", ".join(dict.fromkeys(m.model for m in self.models))
            raise InputError("There is no such model.", got=model, allowed=names)
        if kind not in found[0].counts:
            raise InputError("There is no such kind of error.", got=kind, allowed=", ".join(found[0].counts))
        return sum(m.counts[kind] for m in found)

    def to_polars(self) -> object:
        """Return the findings as a polars.DataFrame."""
        import polars as pl

        return pl.from_arrow(self.table)

    @classmethod
    def concat(cls, parts: Sequence[SortedErrors]) -> SortedErrors:
        """Join the errors of several data sets, sorted by the same rules."""
        if len(parts) == 1:
            return parts[0]
        first = parts[0]
        return cls(
            pa.concat_tables([p.table for p in parts]),
            tuple(m for p in parts for m in p.models),
            first.rules,
            _joined_resting(parts),
            tuple(f"{p.models[0].dataset}: {note}" for p in parts for note in p.notes),
            first.event,
            first.above,
        )


def _joined_resting(parts: Sequence[SortedErrors]) -> dict[str, str]:
    """Return why rules rest, and on which data set where not for one reason on all."""
    found: dict[str, str] = {}
    for rule in dict.fromkeys(rule for p in parts for rule in p.resting):
        whys = [p.resting.get(rule) for p in parts]
        if len(set(whys)) == 1:
            found[rule] = str(whys[0])
        else:
            told = zip(parts, whys, strict=True)
            found[rule] = "; ".join(f"{p.models[0].dataset}: {why}" for p, why in told if why)
    return found
