"""Errors of models, sorted by what they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot.classes import ClassList
from manyhot.command import command
from manyhot.core.confused_classes import (
    MIN_RATIO,
    MOST_CLUSTERED_CLASSES,
    ConfusionCounts,
    confusion_clusters,
)
from manyhot.core.error_kinds import (
    NOTHING,
    ORDER,
    ErrorContext,
    Errors,
    Sorted,
    lacking,
    severity_of,
    sort_errors,
)
from manyhot.core.order_check import are_probabilities
from manyhot.core.score_threshold import confidence_of, link_of
from manyhot.core.sets import NO_LABEL, Case, LabelSets
from manyhot.data.data_sets import Source
from manyhot.data.inputs import READING, LabelsLike, PredictionsLike, Reading, open_inputs
from manyhot.diagnose.class_errors import errors_by_class
from manyhot.diagnose.evidence import ErrorEvidence, EvidenceFiles
from manyhot.diagnose.first_findings import with_names
from manyhot.diagnose.sorted_errors import LIST_LABEL_ISSUES, ModelErrors, SortedErrors, wrong_labels_sentence
from manyhot.errors import InputError
from manyhot.evaluate.gallery import with_photographs
from manyhot.evaluate.prediction_checks import check_and_note_order
from manyhot.evaluate.slices import case_of
from manyhot.formats.writing import PathLike
from manyhot.parameters import Between, PythonOnly, Shown, Was
from manyhot.predict.similar import similar_images
from manyhot.registry import Entry, get
from manyhot.run import QUIET, Run
from manyhot.tables import STATES, Alignment, Images, Labels, Predictions, align, check_same_classes
from manyhot.tables.arrays import label_sets
from manyhot.tables.skipped_files import SkippedFiles, fitting_models

UNSORTED = "unsorted"
"""The kind of an error that no rule matches."""


@command(
    "diagnose errors",
    out="errors",
    examples=(
        "manyhot diagnose errors imagenet-val --models 'resnet*'",
        "manyhot diagnose errors campaign --min-confidence 0.9 --out campaign",
    ),
)
def diagnose_errors(
    labels: LabelsLike,
    predictions: PredictionsLike = (),
    *,
    event: Literal["label", "set"] | None = None,
    min_confidence: Annotated[float | None, Between(0, 1, ")"), Was("--above")] = None,
    rules: Annotated[Sequence[str], Shown("RULE"), Was("--rule")] = ORDER,
    superclasses: Annotated[PathLike | Mapping[str, Collection[int]] | None, Shown("FILE")] = None,
    collapsed_pairs: Annotated[Collection[tuple[int, int]] | None, PythonOnly()] = None,
    cooccurrence_labels: Annotated[PathLike | Labels | None, Shown("FILE"), Was("--together")] = None,
    non_prototypical: Annotated[PathLike | Collection[str] | None, Shown("FILE")] = None,
    embeddings: Annotated[PathLike | None, Shown("FOLDER")] = None,
    index: Annotated[PathLike | None, Shown("FOLDER")] = None,
    embeddings_model: Annotated[str, Shown("NAME"), Was("--embeddings-of")] = "",
    similar: Annotated[pa.Table | None, PythonOnly()] = None,
    neighbours: Annotated[Images | None, PythonOnly()] = None,
    reading: Reading = READING,
    run: Run = QUIET,
) -> SortedErrors:
    """Sort errors into kinds by the first rule that matches.

    The kinds are a missing label, two classes with the same meaning, a related class such as another breed of
    dog, an object that belongs to no class, another object next to the labelled one, an unusual view, and a
    failure of the model.

    If there are label sets but no original labels, models of independent classes, such as sigmoids, are also
    evaluated on each (image, class) pair: false positives and misses at the threshold that maximises each
    class's F1 are listed, but not sorted into kinds.

    Parameters
    ----------
    labels
        Name of a benchmark, such as imagenet, or of one of its data sets; or a campaign, a folder written by
        predict, a file of label sets, or an images table.
    predictions
        Files or folders of predictions, used instead of the published predictions or those of the campaign.
    event
        What counts as an error: the top class is not the original label ("label"), or it is not in the label
        set ("set"). By default, label if there are original labels, and otherwise set.
    min_confidence
        Sort only errors with a confidence above this value, such as 0.9.
    rules
        Names of rules, or call strings such as 'fine-grained(largest=0.02)', in the order in which they are
        applied; by default those of manyhot. Rules of plug-ins are applied only if they are listed. List them
        before model-failure, which matches all remaining errors.
    superclasses
        Superclasses to use instead of the hierarchy of classes: a JSON file with the classes of each
        superclass, or tsipras for the superclasses published by Tsipras et al.
    collapsed_pairs
        Pairs of a valid class and another class that counts as the same class if it is predicted; by default
        the pairs published for ImageNet.
    cooccurrence_labels
        Label sets in which to count classes that occur together; by default the label sets of the data set.
    non_prototypical
        Table of findings or list of images that raters called unusual views of their class.
    embeddings
        Folder with embeddings of the images, written by manyhot predict --embeddings; or a .npy file with one
        row for each image of `rows`.
    index
        Folder with the embeddings of labelled images among which to search for similar images, written in the
        same way; by default the folder of `embeddings`.
    embeddings_model
        Name of the model whose embeddings are used, if the folder has embeddings from several models.
    similar
        The table ``similar``, with the nearest images of any class first; used instead of embeddings.
    neighbours
        The images listed in `similar`, with their original labels; by default the images of `labels`.

    Returns
    -------
    SortedErrors
        The sorted errors: see ``.table``, ``.count("valid-label")``, and ``.skipped_rules`` for the rules
        that could not be applied.

    Raises
    ------
    InputError
        If an option has an unknown value, no image can be evaluated, there are no predictions, or
        `min_confidence` is set and a model has no confidences.
    MatchError, OrderError
        As in `manyhot.evaluate`.
    UnknownNameError
        If a rule is not registered.

    Examples
    --------
    >>> reading = Reading(label=[0, 2], n_classes=3)
    >>> result = diagnose_errors([[0, 1], [2]], [[1, 0], [0, 2]], reading=reading)
    >>> result.count("valid-label"), result.count("model-failure")
    (1, 1)
    """
    if event not in (None, "label", "set"):
        raise InputError("There is no such event.", got=event, allowed="label, set")
    settings = _Settings(event or "", min_confidence, _entries(rules), reading.trust_order, run.call)
    if similar is None:
        nearest = similar_images(embeddings, index, embeddings_model, run.on_progress, reading.row_images())
        similar, neighbours = nearest.get("similar"), nearest.get("neighbours", neighbours)
    files = EvidenceFiles(
        superclasses, collapsed_pairs, cooccurrence_labels, non_prototypical, (similar, neighbours)
    )
    parts, inputs = [], dict[str, str]()
    for opened in open_inputs(labels, predictions, reading=reading, run=run):
        source = with_photographs(opened, predictions, reading)
        parts.append(_sort_source(source, settings, files, run))
        inputs |= source.inputs
    return SortedErrors.concat(parts, inputs | files.hashes())


def _sort_source(source: Source, settings: _Settings, files: EvidenceFiles, run: Run) -> SortedErrors:
    """Return the errors of all models of a data set."""
    labels = source.sets() if source.images is None else source.sets().with_labels(source.images)
    sets = label_sets(labels)
    settings = replace(settings, event=settings.event or ("label" if sets.labelled.any() else "set"))
    classes = source.classes or labels.known_classes
    evidence = ErrorEvidence(labels, sets, classes)
    context, missing = evidence.context(files, source)
    sorter = _Sorter(labels, sets, context, settings, source.name, source.misfits, classes)
    for done, (model, fitted) in enumerate(fitting_models(source.models(), sorter.fit, source.misfits), 1):
        sorter.add(model, *fitted)
        if run.on_progress:
            run.on_progress(f"sorting errors on {source.name}", done, source.n)
    errors = sorter.finish(missing, [*evidence.notes, *source.misfits.notes(source.name)])
    errors = replace(errors, table=with_names(errors.table, classes), sources=(source,))
    if settings.event == "label":
        return errors
    pairs, counts = errors_by_class(source, labels)
    return replace(errors, class_errors=pairs, class_counts=tuple(counts))


@dataclass(frozen=True)
class _Settings:
    event: str  # empty: by the labels
    min_confidence: float | None
    rules: Sequence[Entry]
    trust_order: bool
    call: str


def _entries(rules: Sequence[str]) -> list[Entry]:
    listed = [rules] if isinstance(rules, str) else list(rules)
    if not listed:
        raise InputError("The list of rules is empty.", do="leave out `rules` to apply the default rules")
    entries = [get("rule", rule) for rule in listed]
    names = [_kind(e) for e in entries]
    twice = [n for n in dict.fromkeys(names) if names.count(n) > 1]
    if twice:
        raise InputError("A rule is listed twice.", got=twice[0], allowed="each rule once, with its options")
    return entries


def _kind(rule: Entry) -> str:
    return rule.name.partition("(")[0]


@dataclass
class _Sorter:
    """Sorts the errors of models, one model at a time."""

    labels: Labels
    sets: LabelSets
    context: ErrorContext
    settings: _Settings
    dataset: str
    misfits: SkippedFiles
    classes: ClassList | None = None
    _unsorted: list[tuple[ModelErrors, Errors]] = field(default_factory=list)
    _notes: list[str] = field(default_factory=list)
    _last: tuple[pa.Array, Alignment, LabelSets] | None = None
    _noted: Alignment | None = None

    def __post_init__(self) -> None:
        n_classes = self.sets.n_classes
        clustered = self.context.lacks("superclasses") and n_classes <= MOST_CLUSTERED_CLASSES
        self._confusions = ConfusionCounts.none(n_classes) if clustered else None
        against_label = self.settings.event == "label"
        self._judged = self.sets.labelled if against_label else self.sets.scored
        if not self._judged.any():
            raise InputError(
                "No usable image has an original label."
                if against_label
                else "No usable image has a label set that is not empty.",
                where=self.labels.name or None,
                got=f"{len(self.labels):,} images",
                do="give original labels, or sort errors against the label sets: event set"
                if against_label
                else "sort errors against the original label: event label",
            )

    def fit(self, predictions: Predictions) -> tuple[Case, Alignment]:
        """Match the predictions of a model to the labels, and raise an error if they do not match."""
        check_same_classes(self.labels, predictions)
        alignment, sets = self._align(predictions)
        case = case_of(sets, predictions, alignment, 1)
        if not self.settings.trust_order:
            check_and_note_order(case, predictions, alignment, self.misfits)
        if self.settings.min_confidence is not None and confidence_of(case) is None:
            raise _no_confidence(predictions)
        return case, alignment

    def add(self, predictions: Predictions, case: Case, alignment: Alignment) -> None:
        """Collect the errors of one model. They are sorted after the confusions of all models are counted."""
        self._note_unmatched(predictions.model, alignment)
        is_sigmoid = case.kind == "logit" and not case.link and link_of(case) == "sigmoid"
        if is_sigmoid and not are_probabilities(case):
            self._notes.append(
                f"{predictions.model}: the confidence is the sigmoid of the top logit; if the network was "
                "trained with a softmax, pass `links`"
            )
        judged, has_top = self._judged[alignment.left], case.top[:, 0] >= 0
        if n_without := int(np.count_nonzero(judged & ~has_top)):
            text = (
                f"{n_without:,} images have no predicted class to sort by, because it lists no class for them"
            )
            self._notes.append(f"{predictions.model}: {text}")
        judged = judged & has_top
        wrong = judged & ~(case.is_label if self.settings.event == "label" else case.hit)[:, 0]
        if self._confusions is not None:
            self._confusions.add(case)
        n = int(np.count_nonzero(judged))
        model = ModelErrors(
            self.dataset, predictions.model, n, len(judged) - n, int(np.count_nonzero(wrong)), {}
        )
        self._unsorted.append((model, self._errors(case, alignment, wrong)))

    def _sorted(self, model: ModelErrors, errors: Errors) -> tuple[ModelErrors, pa.Table]:
        """Sort the errors of one model."""
        errors = replace(errors, context=self.context)
        kinds, severity = sort_errors(errors, self.settings.rules), severity_of(errors)
        known = severity[severity != NOTHING]
        model = replace(
            model,
            counts=self._counts(kinds),
            severity=float(known.mean()) if len(known) else float("nan"),
            n_severity=len(known),
        )
        column = pa.array(severity, pa.int32(), mask=severity == NOTHING)
        table = self._table(model.model, errors, kinds)
        return model, table.append_column("ancestor_height", column)

    def _cluster(self) -> str:
        """Use clusters of confusions as superclasses if there are any; return where superclasses are from."""
        if self.context.groups is not None:
            return "given"
        if self.context.hierarchy is not None:
            return self.context.hierarchy.source or "class list"
        if self._confusions is None:
            return "none"
        groups = confusion_clusters(self._confusions.confused, self._confusions.images)
        if (groups == NOTHING).all():
            return "none"
        self.context = replace(self.context, groups=groups)
        self._notes.append(_on_clusters(self._confusions, groups, self.classes))
        return "confusions"

    def _errors(self, case: Case, alignment: Alignment, wrong: npt.NDArray[np.bool_]) -> Errors:
        """Return the errors above the least confidence, or all of them without one."""
        known = confidence_of(case)
        confidence = np.full(len(wrong), np.nan) if known is None else known
        least = self.settings.min_confidence
        kept = np.flatnonzero(wrong if least is None else wrong & (confidence > least))
        return Errors(
            self.context,
            alignment.left[kept],
            case.top[kept, 0].astype(np.int32),
            case.state[kept, 0],
            confidence[kept].astype(np.float32),
        )

    def finish(self, missing: Mapping[str, str], notes: Sequence[str]) -> SortedErrors:
        """Return the errors of all added models; `missing` explains why a kind of evidence is missing."""
        if not self._unsorted:
            raise InputError(
                "Sorting errors needs predictions, and there are none.",
                do="pass predictions of at least one model",
            )
        superclasses = self._cluster()
        skipped = {
            _kind(rule): "; ".join(missing[need] for need in needs)
            for rule in self.settings.rules
            if (needs := lacking(self.context, rule))
        }
        models, parts = zip(*(self._sorted(*one) for one in self._unsorted), strict=True)
        table = pa.concat_tables(parts).combine_chunks()
        return SortedErrors(
            table,
            models,
            tuple(rule.name for rule in self.settings.rules),
            skipped,
            self.settings.event,
            self.settings.min_confidence,
            superclasses,
            notes=(
                *notes,
                *self._notes,
                *self._unasked(table, skipped),
                *self._cautions(table),
                *_on_confusions(table, skipped),
                *_on_empty_sets(table),
            ),
        )

    def _cautions(self, table: pa.Table) -> list[str]:
        """Return the cautions of rules that matched errors."""
        kinds = set(pc.unique(table["kind"]).to_pylist())
        named = [(_kind(rule), rule.about.get("caution")) for rule in self.settings.rules]
        return [f"{kind} finds {caution}" for kind, caution in named if caution and kind in kinds]

    def _unasked(self, table: pa.Table, skipped: Collection[str]) -> list[str]:
        """Return how many errors may be missing labels, given what people were asked."""
        if not len(table):
            return []
        if wrong := wrong_labels_sentence(skipped, self.settings.min_confidence):
            step = LIST_LABEL_ISSUES.after(self.settings.call)
            return [f"{wrong[0].lower()}{wrong[1:]} To {step.text[:-1]}: {step.command}"]
        if not self.labels.asked_known:
            return [
                "the labels do not record which classes raters were asked about, so errors of any kind "
                "except valid-label may be due to missing labels"
            ]
        unasked = table["state"].null_count
        return [
            f"in {unasked:,} of {len(table):,} errors, no rater was asked about the predicted class, so the "
            "label may be missing"
        ] * bool(unasked)

    @property
    def _kinds(self) -> list[str]:
        return [*map(_kind, self.settings.rules), UNSORTED]

    def _counts(self, kinds: Sorted) -> dict[str, int]:
        """Return the number of errors per kind.

        Skipped rules have no count, since it is not 0 but unknown; `UNSORTED` has none if a rule matches all.
        """
        last, *counts = np.bincount(kinds.kind + 1, minlength=len(self.settings.rules) + 1).tolist()
        rules = self.settings.rules
        left_out = {_kind(rule) for rule in rules if lacking(self.context, rule)}
        if any(_kind(rule) == ORDER[-1] for rule in rules):
            left_out.add(UNSORTED)
        return {k: n for k, n in zip(self._kinds, [*counts, last], strict=True) if k not in left_out}

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
        """Note unmatched images once for all models that list the same images."""
        if alignment is self._noted:
            return
        self._noted = alignment
        for n, what in (
            (alignment.right_only, "predicted images have no labels"),
            (alignment.left_only, "labelled images have no prediction"),
        ):
            if n:
                self._notes.append(f"{model}: {n:,} {what} and were left out")

    def _table(self, model: str, errors: Errors, kinds: Sorted) -> pa.Table:
        rows = pa.array(errors.image)
        label = self.sets.label[errors.image]
        names, states = pa.array(self._kinds), pa.array([None, *STATES])
        kind = np.where(kinds.kind == NOTHING, len(self.settings.rules), kinds.kind)
        n = len(errors)
        return pa.table(
            {
                "kind": names.take(pa.array(kind)),
                "image_id": self.labels.image_id.take(rows),
                "class_a": pa.array(kinds.because, pa.int32(), mask=kinds.because == NOTHING),
                "class_b": pa.array(errors.predicted, pa.int32()),
                "label": pa.array(label, pa.int32(), mask=label == NO_LABEL),
                "state": states.take(pa.array(errors.state)),
                "n_labels": pa.array(self.sets.size[errors.image], pa.int32()),
                "dataset": pa.repeat(pa.scalar(self.dataset, pa.string()), n),
                "model": pa.repeat(pa.scalar(model, pa.string()), n),
                "confidence": pa.array(errors.confidence, mask=np.isnan(errors.confidence)),
            }
        )


def _on_clusters(counts: ConfusionCounts, groups: npt.NDArray[np.int64], classes: ClassList | None) -> str:
    """Return a note about the clusters of confusions that are the superclasses."""
    names = [str(i) for i in range(len(groups))] if classes is None else classes.names
    members = ([names[i] for i in np.flatnonzero(groups == g)] for g in range(groups.max() + 1))
    listed = "; ".join(", ".join(cluster) for cluster in members)
    return (
        f"superclasses are clusters of classes that these models confuse at least {MIN_RATIO:g} times as "
        f"often as an average pair of classes, in {counts.confused.sum():,} wrong predictions: {listed}. "
        "Such "
        "classes need not be related; if you have superclasses, pass `superclasses`"
    )


def _on_confusions(table: pa.Table, skipped: Mapping[str, str]) -> list[str]:
    """Return a note if confusions of related classes cannot be told from other errors."""
    later = ("co-occurrence", "model-failure")
    n = pc.sum(pc.is_in(table["kind"], pa.array(later))).as_py() or 0
    note = (
        f"the rule fine-grained was skipped, so the {n:,} errors of the kinds co-occurrence and "
        "model-failure may be confusions of related classes; pass `superclasses`"
    )
    return [note] * bool(n and "fine-grained" in skipped)


def _on_empty_sets(table: pa.Table) -> list[str]:
    empty = pc.sum(pc.equal(table["n_labels"], 0)).as_py() or 0
    note = f"{empty:,} of {len(table):,} errors are on images with an empty label set"
    return [f"{note}; they are compared with the original label"] * bool(empty)


def _no_confidence(predictions: Predictions) -> InputError:
    if predictions.scores is None:
        got = "classes without scores"
    elif predictions.score_kind == "logit":
        got = "logits of the top classes alone, without logsumexp"
    else:
        got = "scores that are declared as neither logits nor probabilities"
    return InputError(
        f"{predictions.model} has no confidence to compare with the minimum.",
        where=predictions.source or None,
        got=got,
        allowed="logits or probabilities of all classes, or logits of the top classes with logsumexp",
        do="leave out the minimum to sort errors of any confidence, or predict with scores",
    )
