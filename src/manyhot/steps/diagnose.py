"""Labels and predictions to errors, sorted by what they are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from manyhot.classes import ClassList, class_list_of
from manyhot.core.sets import NO_LABEL, Case, LabelSets
from manyhot.core.sorting import (
    NOTHING,
    ORDER,
    Errors,
    Known,
    Sorted,
    lacking,
    sort_errors,
)
from manyhot.errors import InputError
from manyhot.registry import Entry, get
from manyhot.steps.cases import case_of
from manyhot.steps.evaluate import check_order
from manyhot.steps.evidence import World
from manyhot.steps.findings import ModelErrors, SortedErrors
from manyhot.steps.misfits import Misfits, fitting
from manyhot.steps.sets import label_sets
from manyhot.tables import (
    STATES,
    Alignment,
    Images,
    Labels,
    Predictions,
    align,
    check_same_classes,
)

EVENTS = ("label", "set")
"""What an error is: the best class is not the original label; it is not in the label set."""

UNSORTED = "unsorted"
"""The kind of an error that no rule fitted."""

Progress = Callable[[int, str], None]


def diagnose_errors(
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
    misfits: Misfits | None = None,
    progress: Progress | None = None,
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
        As in `manyhot.steps.evaluate.evaluate`.
    dataset : str
        Its name; that of the labels by default.
    misfits : Misfits, optional
        As in `manyhot.steps.evaluate.evaluate`.
    progress : callable, optional
        Called with the number of models done and the name of the last.

    Raises
    ------
    InputError
        For choices that do not exist; if no image can be judged; if a model has no confidence and `above` is
        given; if there are no predictions.
    MatchError, OrderError
        As in `manyhot.steps.evaluate.evaluate`.
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
    misfits = misfits or Misfits()
    for done, (model, fitted) in enumerate(fitting(predictions, sorter.fit, misfits), 1):
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
    known: Known
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
