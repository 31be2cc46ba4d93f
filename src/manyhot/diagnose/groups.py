"""Find groups of images on which a model is worse, and properties of images that go with labels."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.command import command, takes_fields
from manyhot.core.array_types import Bools, Ints
from manyhot.core.clusters import Clusters
from manyhot.core.operating_points import OperatingPoints
from manyhot.core.sets import NOT_ASKED, LabelSets
from manyhot.data.data_sets import Source, brings_predictions, open_images
from manyhot.data.inputs import READING, LabelsLike, PredictionsLike, Reading, open_inputs, open_labels
from manyhot.data.reading_options import ImagesTableLike, ObjectsLike
from manyhot.data.table_inputs import open_objects
from manyhot.diagnose.classes import in_order_of_ids
from manyhot.diagnose.groups_attributes import (
    ImageGroup,
    PatternSearch,
    class_groups,
    cluster_groups,
    measured_groups,
    metadata_groups,
    other_labels,
    presence_groups,
    source_groups,
)
from manyhot.diagnose.groups_clusters import image_clusters, likely_cluster_note, permutation_note
from manyhot.diagnose.groups_evidence import GroupEvidence, embeddings_of
from manyhot.diagnose.groups_findings import (
    GROUP_SETTINGS,
    GroupFinding,
    GroupSettings,
    MarkedImages,
    Tested,
    find_groups,
    marked_images,
    of_model,
    unseen_half,
    with_models_in_sentences,
)
from manyhot.diagnose.groups_outcomes import (
    NamedOutcome,
    asked_pairs,
    class_points,
    is_multi_label,
    label_outcomes,
    model_outcomes,
    set_outcomes,
    stratum_of,
    threshold_outcomes,
    unanswered_notes,
    unpredicted_outcomes,
)
from manyhot.diagnose.groups_rates import (
    describing,
    error_counts,
    rate_rows,
    untested_misses,
    untested_values,
)
from manyhot.diagnose.groups_result import WeakGroups, groups_result
from manyhot.diagnose.image_statistics import STATISTICS, MeasuredImages, measure_images, statistics_place
from manyhot.errors import InputError
from manyhot.evaluate.gallery import photographed, with_photographs
from manyhot.evaluate.result_rows import unmatched_note
from manyhot.evaluate.slices import ModelCase, labels_of, model_cases
from manyhot.files import hashes_of
from manyhot.formats.writing import PathLike
from manyhot.parameters import Shown
from manyhot.predict.embeddings import Embedded
from manyhot.report.text import counted
from manyhot.run import QUIET, Run
from manyhot.tables import Images, Labels, Row
from manyhot.tables.arrays import label_sets
from manyhot.tables.image_ids import ids_like


@takes_fields
@command(
    "diagnose groups",
    out="groups",
    examples=(
        "manyhot diagnose groups predictions",
        "manyhot diagnose groups labels.csv --predictions predictions --metadata hospital.csv",
    ),
)
def diagnose_groups(
    labels: LabelsLike,
    predictions: PredictionsLike = (),
    *,
    metadata: ImagesTableLike | None = None,
    objects: ObjectsLike | None = None,
    embeddings: Annotated[PathLike | None, Shown("FOLDER")] = None,
    clusters: Annotated[str | None, Shown("COLUMN")] = None,
    settings: GroupSettings = GROUP_SETTINGS,
    reading: Reading = READING,
    run: Run = QUIET,
) -> WeakGroups:
    """Find groups of images on which a model is worse, and image properties that are associated with labels.

    No annotations are needed. Groups are defined by the pixels (frames, tags, bands, text, pasted objects,
    brightness, tint, sharpness, size), the files (format, compression, camera, source), metadata, other
    classes of the label sets, objects, and clusters of embeddings. Images of a class are compared with other
    images of the same class. In multi-label data, images with a class are compared with images without it,
    and a class counts as predicted if it reaches the threshold with the largest F1 or, for a softmax, if it
    is the top class. The p-values are corrected for the whole search.

    Parameters
    ----------
    labels
        Label sets; or a campaign, a folder written by predict, or the name of a data set. Photographs are
        read once, from the locations in the images table (`images`). The statistics of the photographs are
        stored next to this table.
    predictions
        Files or folders of predictions. Without predictions, only properties associated with labels are
        listed.
    metadata
        A table with the column image_id. Each other column defines groups: one for each value or, for
        measurements, one for the lowest and one for the highest values.
    objects
        Objects in the images, from annotations or from a detector, as for diagnose shortcuts. For each
        object, the images with it and the images without it are two groups.
    embeddings
        Folder with embeddings of the images, written by manyhot predict --embeddings, or a .npy file with one
        row for each image of `rows`; by default, the folder of the labels, if it contains embeddings.
    clusters
        Column of the metadata or of the images table that identifies images that depend on each other, such
        as patient_id. To compute p-values, outcomes are then permuted within clusters, and between clusters
        with the same number of images. This column does not define groups.

    Returns
    -------
    WeakGroups

    Raises
    ------
    InputError
        If nothing defines groups, a file cannot be read, or an image has no cluster.
    MatchError, OrderError
        As in `manyhot.evaluate`.
    """
    evidence = GroupEvidence(
        open_images(metadata, None),
        None if objects is None else open_objects(objects),
        embeddings_of(embeddings, labels, reading),
        clusters,
        reading,
    )
    n_clusters, n_tested, n_tested_labels, n_untested, n_misses, n_predicted = 0, 0, 0, 0, 0, 0
    findings, measured, notes, inputs = list[GroupFinding](), list[pa.Table](), list[str](), dict[str, str]()
    models, rates = list[str](), list[Row]()
    opened = _sources(labels, predictions, reading, run)
    sources = [with_photographs(source, predictions, reading) for source in opened]
    for source in sources:
        search = _Search.of(source, labels, evidence, settings, run)
        own = search.findings(reading, run)
        measured.append(search.statistics(own))
        findings += own
        models += search.models
        rates += search.rates
        n_tested += search.n_tested(of_labels=False)
        n_tested_labels += search.n_tested(of_labels=True)
        n_untested += search.n_untested
        n_misses += len(search.untested_misses)
        n_predicted += int(search.predicted.sum())
        n_clusters += 0 if search.clusters is None else search.clusters.n
        notes += [*search.notes, *source.misfits.notes(source.name)]
        inputs |= source.inputs
    inputs |= hashes_of((metadata, objects))
    marks = search.marks(findings) if len(sources) == 1 else None
    if len(set(models)) > 1:
        findings = with_models_in_sentences(findings)
    return groups_result(
        findings,
        measured,
        sources,
        tuple(dict.fromkeys(notes)),
        inputs,
        {
            **vars(settings),
            **{"models": len(models), "images": sum(map(len, measured)), "clusters": n_clusters},
            **{"tested": n_tested, "tested_labels": n_tested_labels, "untested": n_untested},
            **{"untested_misses": n_misses, "predicted": n_predicted},
        },
        marks,
        rates,
    )


def _sources(
    labels: LabelsLike, predictions: PredictionsLike, reading: Reading, run: Run
) -> Iterator[Source]:
    """Yield the data sets; label sets without predictions will do."""
    has_no_models = isinstance(predictions, list | tuple) and not predictions
    if has_no_models and not (isinstance(labels, str | os.PathLike) and brings_predictions(labels)):
        return open_labels(labels, reading=reading, run=run)
    return open_inputs(labels, predictions, reading=reading, run=run)


@dataclass(eq=False)
class _Search:
    """The groups of a data set."""

    source: Source
    labels: Labels
    sets: LabelSets
    stratum: Ints
    names: Sequence[str]
    settings: GroupSettings
    images: Images | None = None
    measured: MeasuredImages | None = None
    groups: list[ImageGroup] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    clusters: Clusters | None = None
    columns: pa.Table = field(default_factory=lambda: pa.table({}))
    rates: list[Row] = field(default_factory=list)
    tested: dict[str | None, Tested] = field(default_factory=dict)
    n_untested: int = 0
    untested_misses: set[str] = field(default_factory=set)  # by some model
    predicted: Bools = field(default_factory=lambda: np.zeros(0, bool))  # by all models

    @classmethod
    def of(
        cls, source: Source, labels: LabelsLike, evidence: GroupEvidence, settings: GroupSettings, run: Run
    ) -> _Search:
        table = labels_of(source)
        if is_multi_label(label_sets(table)):
            # In the order of ids, thresholds are those of diagnose classes.
            table = in_order_of_ids(table)
        counts = stratum_of(label_sets(table)) >= 0
        if counts.any():  # quantiles and clusters are those of the images that can count
            table = replace(table, table=table.table.filter(pa.array(counts)))
        source = replace(source, labels=table)
        sets = label_sets(table)
        classes = source.classes or table.known_classes
        names = classes.names if classes else [f"class {i}" for i in range(sets.n_classes)]
        made = cls(source, table, sets, stratum_of(sets), names, settings)
        made.predicted = np.ones(len(sets), bool)
        left_out = f"{len(counts) - len(sets):,} of {len(counts):,} images"
        if len(counts) > len(sets) and not any(left_out in note for note in source.misfits.remarks):
            made.notes.append(f"{source.name}: {left_out} have no label and are left out")
        if made.is_multi_label:
            notes = unanswered_notes(table, names, source.unlabelled, masked=made.masked)
            made.notes += (f"{source.name}: {note}" for note in notes)
        made._set_clusters(evidence)
        made._measure(statistics_place(labels, source, evidence.reading), run)
        made._group(evidence)
        if not made.groups:
            raise InputError(
                "Nothing defines groups of these images.",
                where=source.name or None,
                allowed="an images table with the column uri, `metadata`, `objects` or `embeddings`",
                do="pass the folder that manyhot predict wrote as `images`, or a table as `metadata`",
            )
        return made

    @property
    def is_multi_label(self) -> bool:
        """Whether each class is examined separately, by comparing images with it and images without it."""
        return is_multi_label(self.sets)

    @cached_property
    def masked(self) -> bool:
        """Whether images are left out for classes that no rater was asked about, if there are any."""
        sets, n_classes = self.sets, self.sets.n_classes - len(self.source.unlabelled)
        n_asked, n_images = np.count_nonzero(sets.usable[sets.rows]), np.count_nonzero(sets.usable)
        has_blanks = bool(n_asked < n_images * n_classes)
        can_mask = self.is_multi_label and sets.unlisted == NOT_ASKED and has_blanks
        return can_mask and not self.settings.unmasked

    @property
    def seen(self) -> Bools:
        """Whether each image is in the half of the data set that is searched for patterns."""
        return unseen_half(len(self.sets), self.settings.seed, self._cluster_of_image)

    @property
    def _cluster_of_image(self) -> Ints | None:
        return None if self.clusters is None else self.clusters.number

    def _set_clusters(self, evidence: GroupEvidence) -> None:
        """Read the clusters; note what they change, or that a column may contain some."""
        found = evidence.columns(self.labels), self._own_columns()
        tables = [table for table in found if table is not None]
        if evidence.clusters is not None:
            self.clusters = image_clusters(evidence.clusters, tables, self.source.name, self.labels.image_id)
            note = permutation_note(self.clusters, evidence.clusters)
            self.notes.append(f"{self.source.name}: {note}")
        elif note := likely_cluster_note(tables, self.labels):
            self.notes.append(f"{self.source.name}: {note}")

    def _own_columns(self) -> pa.Table | None:
        """Return the images table, one row for each image."""
        if (images := self.source.images) is None:
            return None
        return images.table.take(pc.index_in(self.labels.image_id, images.image_id))

    def _measure(self, cache: Path | None, run: Run) -> None:
        if self.source.images is None or not photographed(self.source):
            self.notes.append(
                f"{self.source.name}: the locations of the photographs are unknown, so no groups are defined "
                "by pixels"
            )
            return
        images = self._own_columns()
        assert images is not None  # for the type checker
        column = images.column_names.index("image_id")
        self.images = Images(images.set_column(column, "image_id", self.labels.image_id))
        uris = self.images.table["uri"].to_pylist()
        self.measured = measure_images(self.labels.image_id, uris, cache, run)
        lost = int((~self.measured.is_measured).sum())
        if lost:
            reason = self.measured.table["skipped"].drop_null()[0].as_py()
            self.notes.append(
                f"{lost:,} of {len(self.sets):,} photographs were not measured; first reason: {reason}"
            )

    def _group(self, evidence: GroupEvidence) -> None:
        if self.measured is not None and self.images is not None:
            self.groups += measured_groups(self.measured)
            self.groups += source_groups(self.images.table["uri"].to_pylist(), self._codes())
        if self.is_multi_label:
            yes, usable = self.sets.yes_matrix(), self.sets.usable
            self.groups += class_groups(
                yes, usable, self.names, asked_pairs(self.sets) if self.masked else None
            )
        else:
            own = other_labels(self.sets, self.stratum)
            self.groups += class_groups(own, self.sets.scored, self.names)
        self.columns = describing(self._own_columns(), evidence.columns(self.labels), evidence.clusters)
        self.groups += metadata_groups(self.columns)
        if (present := evidence.present(self.labels)) is not None:
            self.groups += presence_groups(*present)
        if evidence.embedded is not None:
            self._cluster(evidence.embedded)

    def _cluster(self, embedded: Embedded) -> None:
        ids = ids_like(
            embedded.image_id,
            self.labels.image_id,
            name="the embeddings",
            other_name=self.labels.name or "the labels",
        ).ids
        at = np.asarray(pc.fill_null(pc.index_in(ids, self.labels.image_id), -1).to_numpy())
        vectors = embedded.vectors[at >= 0]
        self.groups += cluster_groups(
            vectors, at[at >= 0], len(self.sets), self._contents, self.settings.seed
        )

    def _codes(self) -> Ints:
        """Return a code of the class, or of the label set, of each image."""
        if not self.is_multi_label:
            return self.stratum
        return np.unique(np.packbits(self.sets.yes_matrix(), axis=1), axis=0, return_inverse=True)[1].ravel()

    def _contents(self, inside: Bools) -> str:
        """Return the most frequent class of a cluster."""
        if self.is_multi_label:
            count, n = self.sets.yes_matrix()[inside].sum(axis=0), int(inside.sum())
        else:
            own = self.stratum[inside & (self.stratum >= 0)]
            count, n = np.bincount(own, minlength=1), len(own)
        return f", {100 * count.max() / n:.0f} % {self.names[int(count.argmax())]}" if count.max() else ""

    def findings(self, reading: Reading, run: Run) -> list[GroupFinding]:
        """Return the properties associated with labels, and the groups on which one of the models is weak."""
        least = self.settings.min_images
        if self.is_multi_label:
            own = set_outcomes(self.sets, least, masked=self.masked)
        else:
            own = label_outcomes(self.stratum, self.sets.n_classes, least)
        patterns = self._patterns([(o.outcome.event, o.outcome.counts & ~o.outcome.event) for o in own], run)
        found = self._find(None, own, patterns)
        # They were found without any prediction, so all images may show what a model makes of them.
        by_label = [replace(pattern, is_searched=False) for pattern in self._patterns_of_labels]
        associated = list(dict.fromkeys(f.row["class_id"] for f in found))
        for model in model_cases(self.source, depth=1, trust_order=reading.trust_order, run=run):
            points, reason = (
                class_points(model.case, masked=self.masked) if self.is_multi_label else (None, "")
            )
            if reason:
                self.notes.append(f"{model.model}: {reason}")
            outcomes = self._outcomes(model, points, associated)
            of = {"dataset": self.source.name, "model": model.model}
            self.models.append(model.model)
            self._leave_out_unpredicted(model)
            called = [o.outcome for o in outcomes if o.kind == "called"]
            patterns = self._patterns([(o.event, o.counts & ~o.event) for o in called], run)
            found += self._find(model.model, outcomes, [*by_label, *patterns])
            counts = error_counts(model.case, points, masked=self.masked)
            tested = self.tested[model.model]
            rates = rate_rows(of, counts, model.rows, self.columns, self._cluster_of_image, tested)
            self.rates += (rows := list(rates))
            if points is not None:
                none, note = untested_misses(rows, self.columns, tested, len(points.fitted), least)
                self.untested_misses |= none
                self.notes += [f"{model.model}: {note}"] if note else []
        searches: list[str | None] = [*self.models] or [None]
        by_all = set.intersection(*(self._names_of_tested(model) for model in searches))
        self.n_untested, notes = untested_values(self.columns, by_all, least, self.predicted)
        self.notes += [f"{self.source.name}: {note}" for note in notes]
        return found

    def _leave_out_unpredicted(self, model: ModelCase) -> None:
        """Note the images for which a model has no prediction."""
        has_prediction = np.zeros(len(self.sets), bool)
        has_prediction[model.rows] = True
        self.predicted &= has_prediction
        if lost := int((~has_prediction).sum()):
            note = unmatched_note("", "", "labels_unmatched", lost, len(model.rows))
            self.notes.append(f"{model.model}: {note.text}")

    def n_tested(self, *, of_labels: bool) -> int:
        """Return how many groups were tested, on labels or on at least one model."""
        models = [None] if of_labels else self.models
        return len(set[str]().union(*(self._names_of_tested(model) for model in models)))

    def _names_of_tested(self, model: str | None) -> set[str]:
        """Return the names of the groups that were tested for any outcome."""
        return set[str]().union(*self.tested[model].values())

    def _outcomes(
        self, model: ModelCase, points: OperatingPoints | None, associated: Collection[int]
    ) -> list[NamedOutcome]:
        """Return the outcomes in which a model can be worse in a group."""
        case, of, settings = model.case, (model.rows, self.stratum), self.settings
        is_multi = self.is_multi_label
        none = unpredicted_outcomes(case.top[:, 0], *of, multi_label=is_multi)
        if points is not None:
            return [*threshold_outcomes(case, points, *of, settings.min_images, associated), *none]
        least, confidence = settings.min_images, settings.min_confidence
        found = model_outcomes(
            case, *of, least, confidence, associated, multi_label=is_multi, masked=self.masked
        )
        return [*found, *none]

    _patterns_of_labels: list[ImageGroup] = field(default_factory=list)

    def _find(
        self, model: str | None, outcomes: Sequence[NamedOutcome], patterns: Sequence[ImageGroup]
    ) -> list[GroupFinding]:
        if model is None:
            self._patterns_of_labels = list(patterns)
        found, self.tested[model], small = find_groups(
            [*self.groups, *patterns], self.seen, outcomes, self.names, self.settings, self._cluster_of_image
        )
        if small and model is not None:
            most = max(small, key=lambda name: small[name])
            self.notes.append(
                f"{model}: errors or predictions are more frequent beyond chance, but by less than "
                f"{100 * self.settings.min_difference:g} points, in {counted(len(small), 'group')}: at most "
                f"{100 * small[most]:.1f} points ({most}); to list such groups, lower `min_difference`"
            )
        return of_model(found, self.source.name, model)

    def _patterns(self, pairs: Sequence[tuple[Bools, Bools]], run: Run) -> list[ImageGroup]:
        """Return the patterns that recur in the first images of each pair and not in the second."""
        if self.measured is None:
            return []
        search = PatternSearch(self.measured, self.seen, self.settings.seed)
        found: dict[str, ImageGroup] = {}
        for done, (chosen, others) in enumerate(pairs, 1):
            for group in search.groups(chosen, others, self.settings.min_images):
                found.setdefault(group.name, group)
            if run.on_progress:
                run.on_progress("searching for patterns that recur", done, len(pairs))
        return list(found.values())

    def marks(self, findings: Sequence[GroupFinding]) -> MarkedImages | None:
        """Return the frames, tags and bands of the findings, with the images that have them."""
        classes = self.source.classes or self.labels.known_classes
        if self.measured is None:
            return None
        return marked_images(findings, self.labels, classes, self.measured.is_measured.tolist())

    def statistics(self, findings: Sequence[GroupFinding]) -> pa.Table:
        """Return the table of the statistics of the images, with the groups of each image."""
        names: list[list[str]] = [[] for _ in range(len(self.sets))]
        for finding in findings:
            for i in np.flatnonzero(finding.inside).tolist():
                if finding.row["name"] not in names[i]:
                    names[i].append(finding.row["name"])
        columns = {"image_id": self.labels.image_id}
        if self.images is not None:
            columns["uri"] = self.images.table["uri"]
        columns["label"] = pa.array(self.sets.label, pa.int32(), mask=self.sets.label < 0)
        if self.measured is not None:
            columns |= {name: self.measured.table[name] for name in STATISTICS}
        return pa.table({**columns, "groups": pa.array(names, pa.list_(pa.string()))})
