"""Labels that are doubtful or missing, and classes that may be one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot.classes import class_list_of
from manyhot.command import command
from manyhot.console import table_lines
from manyhot.core.ensembles import Ensemble
from manyhot.core.label_issues import Issues, Merges, find_issues, find_merges, uses_probabilities
from manyhot.core.sets import NO_LABEL
from manyhot.data.data_sets import Source
from manyhot.data.inputs import (
    READING,
    LabelsLike,
    ModelPatterns,
    PredictionsLike,
    Reading,
    open_inputs,
)
from manyhot.diagnose.evidence import ErrorEvidence
from manyhot.diagnose.first_findings import (
    FIRST_FINDINGS,
    finding_lines,
    first_findings,
    name_of_class,
    with_names,
    write_first_gallery,
)
from manyhot.errors import InputError
from manyhot.files import sha256
from manyhot.formats import read_labels
from manyhot.formats.writing import PathLike
from manyhot.parameters import PythonOnly, Share, Shown, Was
from manyhot.predict.similar import similar_images
from manyhot.reassess.ensemble import ensemble_of
from manyhot.result import Result
from manyhot.run import QUIET, Run
from manyhot.tables import Images, Labels, Predictions, Row
from manyhot.tables.arrays import label_sets, single_labels
from manyhot.tables.labels import with_ids_like

ISSUES = {
    "doubtful-label": "the original label may be wrong",
    "missing-label": "another class may be there, too",
    "merge-classes": "two classes may be one",
}
"""The kinds of label issues, and what they say."""

DOUBTFUL, MISSING, MERGES = ISSUES

_COLUMNS = (
    ("kind", pa.string()),
    ("image_id", pa.string()),
    ("class_a", pa.int32()),
    ("class_b", pa.int32()),
    ("dataset", pa.string()),
    ("rank", pa.int32()),
    ("score", pa.float64()),
    ("models", pa.float64()),
    ("neighbours", pa.float64()),
    ("people", pa.float64()),
    ("n_models", pa.int32()),
    ("confident_class", pa.int32()),
    ("together", pa.float64()),
    ("a_as_b", pa.float64()),
    ("b_as_a", pa.float64()),
    ("n_together", pa.int32()),
    ("n_a", pa.int32()),
    ("n_b", pa.int32()),
)
"""The columns of the findings; evidence is null where there is none."""


@dataclass(frozen=True, eq=False)
class LabelIssues(Result):
    """Doubtful labels, missing labels and classes to merge.

    Attributes
    ----------
    table : pyarrow.Table
        The table ``findings``, sorted by score within each kind, highest first; see the page *Label issues*.
    models : tuple of str
    n, n_skipped : int
        Number of images with an original label and evidence about it, and number of other images.
    sources : tuple of Source
        The data sets, whose photographs the gallery shows.
    hints : list of str
        What `write` could not do, and how to get it.
    notes, metadata, inputs
        As in `Result`.
    """

    NAMES = ("findings",)

    table: pa.Table
    models: tuple[str, ...]
    n: int
    n_skipped: int
    sources: tuple[Source, ...] = field(default=(), repr=False)
    hints: list[str] = field(default_factory=list, repr=False)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __repr__(self) -> str:
        counts = ", ".join(f"{self.count(kind):,} {kind}" for kind in ISSUES)
        return f"LabelIssues({counts}; {self.n:,} images)"

    @property
    def tables(self) -> dict[str, pa.Table]:
        """The table by its name."""
        return {"findings": self.table}

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of issues: doubtful-label, missing-label and merge-classes."""
        return tuple(ISSUES)

    def count(self, kind: str) -> int:
        """Return the number of findings of a kind.

        Raises
        ------
        InputError
            If there is no such kind.
        """
        return len(self.of_kind(kind))

    def of_kind(self, kind: str) -> pa.Table:
        """Return the findings of a kind, highest score first.

        Raises
        ------
        InputError
            If there is no such kind.
        """
        if kind not in ISSUES:
            raise InputError("There is no such kind of issue.", got=kind, allowed=", ".join(ISSUES))
        return self.table.filter(pc.equal(self.table["kind"], kind))

    def to_polars(self) -> pl.DataFrame:
        """Return the findings as a polars.DataFrame."""
        return pl.DataFrame(self.table)

    def lines(self) -> Iterator[str]:
        """Yield the number of issues of each kind, the first issues, and the classes to merge."""
        yield f"{self.n:,} labelled images, {len(self.models):,} model{'' if len(self.models) == 1 else 's'}"
        rows = [(kind, f"{self.count(kind):,}", meaning) for kind, meaning in ISSUES.items()]
        yield from table_lines(("issue", "number", ""), rows)
        yield ""
        yield from finding_lines(self.first, self.table, "score", "suggested")
        yield from self.hints
        if merges := self.of_kind(MERGES).slice(0, FIRST_FINDINGS).to_pylist():
            yield ""
            named = ([name_of_class(r, end) for end in ("class_a", "class_b")] for r in merges)
            cells = [(*names, f"{r['score']:.2f}") for names, r in zip(named, merges, strict=True)]
            yield from table_lines(("classes that may be one", "", "score"), cells)
        yield ""

    @property
    def first(self) -> list[Row]:
        """The first ten issues of images, those of the highest score first."""
        return first_findings(self.table, "score")

    def to_json(self) -> dict[str, Any]:
        """Return the count of each kind, which ``--json`` prints; the findings are in the table."""
        return {
            "counts": {kind: self.count(kind) for kind in ISSUES},
            "models": self.models,
            "n": self.n,
            "n_skipped": self.n_skipped,
            "first": self.first,
            "notes": self.notes,
        }

    def write(self, out: PathLike, *, run: Run = QUIET) -> list[Path]:
        """Write the issues and, if `out` is a folder and there are photographs, a gallery of the first."""
        written = super().write(out, run=run)
        if self.is_file(out):
            return written
        gallery, hint = write_first_gallery(self.sources, self.first, self.table, Path(out) / "gallery", run)
        self.hints[:] = [hint] if hint else []
        return [*written, *gallery]

    @classmethod
    def concat(cls, parts: Sequence[LabelIssues], inputs: Mapping[str, str]) -> LabelIssues:
        """Join the issues of several data sets."""
        several = len(parts) > 1
        names = [p.table["dataset"][0].as_py() if several and len(p) else "" for p in parts]
        named = zip(names, parts, strict=True)
        models = tuple(dict.fromkeys(m for p in parts for m in p.models))
        return cls(
            pa.concat_tables([p.table for p in parts]),
            models,
            sum(p.n for p in parts),
            sum(p.n_skipped for p in parts),
            sources=tuple(source for p in parts for source in p.sources),
            notes=tuple(f"{name}: {note}" if name else note for name, p in named for note in p.notes),
            metadata={"models": "\n".join(models)},
            inputs=inputs,
        )


@dataclass(frozen=True)
class _Thresholds:
    doubtful: float
    missing: float
    together: float
    confused: float


@command(
    "diagnose labels",
    out="label-issues",
    examples=(
        "manyhot diagnose labels imagenet-val --models 'resnet*'",
        "manyhot diagnose labels predictions --embeddings predictions",
    ),
)
def find_label_issues(
    labels: LabelsLike,
    predictions: PredictionsLike = (),
    *,
    models: ModelPatterns = (),
    confirmed_labels: Annotated[PathLike | Labels | None, Shown("FILE"), Was("--votes")] = None,
    no_confirmed_labels: Annotated[bool, Was("--no-votes")] = False,
    min_doubtful: Annotated[Share, Was("--doubtful")] = 0.5,
    min_missing: Annotated[Share, Was("--missing")] = 0.2,
    min_together: Annotated[Share, Was("--together")] = 0.7,
    min_confused: Annotated[Share, Was("--confused")] = 0.2,
    embeddings: Annotated[PathLike | None, Shown("FOLDER")] = None,
    index: Annotated[PathLike | None, Shown("FOLDER")] = None,
    embeddings_model: Annotated[str, Shown("NAME"), Was("--embeddings-of")] = "",
    similar: Annotated[pa.Table | None, PythonOnly()] = None,
    neighbours: Annotated[Images | None, PythonOnly()] = None,
    reading: Reading = READING,
    run: Run = QUIET,
) -> LabelIssues:
    """Rank doubtful labels, missing labels, and pairs of classes that may be the same class.

    The evidence consists of predictions, similar images and raters' answers. The models must not have been
    trained on these images.

    Parameters
    ----------
    labels
        Name of a benchmark, such as imagenet, or of one of its data sets; or a campaign, a folder written by
        predict, a file of label sets, or an images table.
    predictions
        Files or folders of predictions, used instead of the published predictions or those of the campaign.
    models
        Patterns of names of models to include, such as 'resnet*'.
    confirmed_labels
        Label sets from raters, used instead of those of the data set. The answers of raters overrule other
        evidence about a class.
    no_confirmed_labels
        Ignore the raters' answers.
    min_doubtful
        Minimum score of a doubtful label, from 0 to 1.
    min_missing
        Minimum score of a missing label, from 0 to 1.
    min_together
        Minimum share of the images of each class that have both labels, for two classes to be merged.
    min_confused
        Minimum share of the images of each class that are predicted as the other class, for two classes to be
        merged.
    embeddings
        Folder with embeddings of the images, written by predict --embeddings.
    index
        Folder with embeddings of labelled images, written in the same way, in which to search for similar
        images; by default the folder of --embeddings.
    embeddings_model
        Name of the model to take embeddings from, if the folder has embeddings of several models.
    similar
        The table ``similar``, with the nearest images of any class first; used instead of embeddings.
    neighbours
        The images listed in `similar`, with their original labels; by default the images of `labels`.
    reading
        How files are read. A list or array with one class per image contains original labels, with -1 for
        none.
    run
        Command line of the call, and callback for its progress.

    Returns
    -------
    LabelIssues
        With ``.of_kind("doubtful-label")`` and ``.to_polars()``.

    Raises
    ------
    InputError
        If there are no predictions or no original labels, or scores do not match their declared kind.
    MatchError
        If predictions are over another class list or are missing for some images, or none of the confirmed
        label sets belongs to these images.

    Notes
    -----
    A model that was trained on these images has learned their labels, including the wrong ones. This cannot
    be checked here.

    Examples
    --------
    >>> import numpy as np
    >>> p = np.array([[0.9, 0.1], [0.2, 0.8], [0.95, 0.05]])
    >>> issues = find_label_issues([0, 1, 1], p, reading=Reading(scores="probability"))
    >>> issues.of_kind("doubtful-label")["image_id"].to_pylist()
    ['2']
    """
    if confirmed_labels is not None and no_confirmed_labels:
        raise InputError(
            "Confirmed labels are both passed and ignored.", got=confirmed_labels, do="leave one of them out"
        )
    thresholds = _Thresholds(min_doubtful, min_missing, min_together, min_confused)
    if similar is None:
        nearest = similar_images(embeddings, index, embeddings_model, run.on_progress)
        similar, neighbours = nearest.get("similar"), nearest.get("neighbours", neighbours)
    parts, inputs = [], dict[str, str]()
    for source in open_inputs(labels, predictions, models=models, reading=reading, run=run):
        is_original = source.labels is not None and source.labels.are_original
        votes = None if no_confirmed_labels or is_original else source.labels
        if confirmed_labels is not None:
            votes = _read(confirmed_labels, source, reading.match)
        part = _find(source, votes, _Neighbours(similar, neighbours), thresholds, reading.n_classes, run)
        parts.append(part)
        inputs |= source.inputs
    if isinstance(confirmed_labels, str | os.PathLike) and Path(confirmed_labels).is_file():
        inputs[Path(confirmed_labels).name] = sha256(confirmed_labels)
    return LabelIssues.concat(parts, inputs)


def _read(labels: PathLike | Labels, source: Source, match: str) -> Labels:
    """Return confirmed labels, with the ids of the data set."""
    confirmed = labels if isinstance(labels, Labels) else read_labels(labels, classes=source.classes)
    table = source.images if source.labels is None else source.labels
    if table is None:
        return confirmed
    name = source.name or "the images"
    confirmed, like = with_ids_like(confirmed, table.image_id, other_name=name, match=match)
    source.misfits.add_matched(name, confirmed.name or "confirmed labels", like)
    return confirmed


@dataclass(frozen=True, eq=False)
class _Neighbours:
    """The table of similar images, and the labels of those that were searched."""

    similar: pa.Table | None
    searched: Images | None


def _find(
    source: Source,
    votes: Labels | None,
    neighbours: _Neighbours,
    thresholds: _Thresholds,
    n_classes: int,
    run: Run,
) -> LabelIssues:
    """Return the issues of a data set."""
    predictions = []
    for done, model in enumerate(source.models(), 1):
        predictions.append(model)
        if run.on_progress:
            run.on_progress(f"reading predictions on {source.name}", done, source.n)
    images = _images_of(source)
    ensemble = _ensemble(source, images, predictions, n_classes, votes)
    notes = [*source.misfits.notes(), *_notes(ensemble)]
    near, alone = None, None
    if neighbours.similar is not None:
        near, alone, more = _near(images, neighbours.similar, neighbours.searched, ensemble.n_classes)
        notes += more
    issues = find_issues(
        ensemble,
        near,
        alone,
        doubtful=thresholds.doubtful,
        missing=thresholds.missing,
        name=lambda row: f"image {images.image_id[row]}",
    )
    merges = find_merges(ensemble, together=thresholds.together, confused=thresholds.confused)
    if issues.n_skipped:
        notes.append(
            f"{issues.n_skipped:,} of {len(ensemble):,} images have no original label or have non-finite "
            "scores, so no doubtful label is reported for them"
        )
    rows = [
        _image_rows(DOUBTFUL, images, ensemble, issues.doubtful),
        _image_rows(MISSING, images, ensemble, issues.missing),
        _merge_rows(merges),
    ]
    table = pa.concat_tables([_filled(columns, source.name) for columns in rows]).combine_chunks()
    table = with_names(
        table, source.classes or class_list_of(next((p.class_hash for p in predictions if p.class_hash), ""))
    )
    return LabelIssues(
        table, ensemble.names, issues.n, issues.n_skipped, sources=(source,), notes=tuple(notes)
    )


def _ensemble(
    source: Source,
    images: Images,
    predictions: Sequence[Predictions],
    n_classes: int,
    votes: Labels | None,
) -> Ensemble:
    if not predictions:
        raise InputError(
            "Finding label issues needs predictions, and there are none.",
            do="predict the images with a model",
        )
    classes = source.classes
    n_classes = len(classes) if classes else source.labels.n_classes if source.labels else n_classes
    n_classes = n_classes or max(p.n_classes for p in predictions)
    if not n_classes:
        raise InputError("The number of classes is not known.", do="pass the class list")
    class_hash = classes.hash if classes else next((p.class_hash for p in predictions if p.class_hash), "")
    return _without_fillers(ensemble_of(images, predictions, n_classes, class_hash, votes, source.misfits))


def _notes(ensemble: Ensemble) -> list[str]:
    if uses_probabilities(ensemble):
        return []
    ranks = [m for m, known in zip(ensemble.names, ensemble.probabilities, strict=True) if known is None]
    more = f" and {len(ranks) - 3:,} more" if len(ranks) > 3 else ""
    who = f"{', '.join(ranks[:3])}{more} {'has' if len(ranks) == 1 else 'have'}"
    return [
        f"{who} no probabilities, so only the top class of each model counts, and confident learning is "
        "skipped"
    ]


def _without_fillers(ensemble: Ensemble) -> Ensemble:
    """Give the unfilled places of short lists no probability, where the file fills them with -inf."""
    clean = tuple(
        None if p is None else np.where(top < 0, 0, p).astype(p.dtype)
        for top, p in zip(ensemble.top, ensemble.probabilities, strict=True)
    )
    return replace(ensemble, probabilities=clean)


def _near(
    images: Images, similar: pa.Table, searched: Images | None, n_classes: int
) -> tuple[npt.NDArray[np.integer] | None, npt.NDArray[np.bool_], list[str]]:
    """Return labels of similar images, which images they are no evidence about, and notes."""
    labels = single_labels(images, n_classes)
    evidence = ErrorEvidence(labels, label_sets(labels), None)
    nearest = evidence.neighbours(similar, searched)
    if searched is not None:
        searched, _ = with_ids_like(searched, images.image_id, other_name="the images")
    alone = _alone(images, images if searched is None else searched)
    n = int(np.count_nonzero(alone))
    if nearest is None or not n:
        return None if nearest is None else nearest.classes, alone, evidence.notes
    note = f"{n:,} of {len(alone):,} images have a label that no other searched image has"
    return nearest.classes, alone, [*evidence.notes, f"{note}, so neighbours are no evidence about it"]


def _alone(images: Images, searched: Images) -> npt.NDArray[np.bool_]:
    """Return which images have a label that no other of the images searched has, shape (n,)."""
    label, there = pc.fill_null(images.label, NO_LABEL), pc.fill_null(searched.label, NO_LABEL)
    own = pc.fill_null(there.take(pc.index_in(images.image_id, searched.image_id)), NO_LABEL)
    known = [y.to_numpy(zero_copy_only=False) for y in (label, there, own)]
    count = np.bincount(known[1] + 1, minlength=int(known[0].max()) + 2)[known[0] + 1]
    alone: npt.NDArray[np.bool_] = (known[0] != NO_LABEL) & (count == (known[2] == known[0]))
    return alone


def _image_rows(kind: str, images: Images, ensemble: Ensemble, issues: Issues) -> dict[str, pa.Array]:
    label = ensemble.label[issues.image]
    return {
        "kind": pa.repeat(kind, len(issues)),
        "image_id": images.image_id.take(pa.array(issues.image)),
        "class_a": _classes(label),
        "class_b": _classes(issues.class_id),
        "rank": pa.array(np.arange(1, len(issues) + 1, dtype=np.int32)),
        "score": _reals(issues.score),
        "models": _reals(issues.models),
        "neighbours": _reals(issues.neighbours),
        "people": _reals(issues.people),
        "n_models": pa.array(issues.n_models.astype(np.int32)),
        "confident_class": _classes(issues.confident),
    }


def _merge_rows(merges: Merges) -> dict[str, pa.Array]:
    return {
        "kind": pa.repeat(MERGES, len(merges)),
        "class_a": _classes(merges.a),
        "class_b": _classes(merges.b),
        "rank": pa.array(np.arange(1, len(merges) + 1, dtype=np.int32)),
        "score": _reals(merges.score),
        "together": _reals(merges.together),
        "a_as_b": _reals(merges.a_as_b),
        "b_as_a": _reals(merges.b_as_a),
        **{name: pa.array(getattr(merges, name).astype(np.int32)) for name in ("n_together", "n_a", "n_b")},
    }


def _filled(columns: dict[str, pa.Array], dataset: str) -> pa.Table:
    n = len(columns["kind"])
    columns["dataset"] = pa.repeat(pa.scalar(dataset, pa.string()), n)
    arrays = [columns.get(name, pa.nulls(n, kind)).cast(kind) for name, kind in _COLUMNS]
    return pa.table(arrays, names=[name for name, _ in _COLUMNS])


def _classes(values: npt.NDArray[np.integer]) -> pa.Array:
    return pa.array(values.astype(np.int32), mask=values == NO_LABEL)


def _reals(values: npt.NDArray[np.float64]) -> pa.Array:
    return pa.array(values, mask=np.isnan(values))


def _images_of(source: Source) -> Images:
    labels = source.labels
    if source.images is not None or labels is None:
        assert source.images is not None
        return source.images
    if "label" not in labels.table.column_names:
        raise InputError(
            "The label sets have no original labels.",
            where=labels.name or None,
            allowed="a column label",
            do="add the column, or pass a table with the original label of each image as `images`; label "
            "sets alone are not checked, but manyhot diagnose classes shows which classes are confused",
        )
    return Images(labels.table.select(["image_id", "label"]), labels.name)
