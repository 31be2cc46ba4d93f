"""Images, predictions, votes and similar images to doubtful labels, missing labels and classes to merge.

Published data, campaigns, folders or files in; doubtful and missing labels out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot import tables
from manyhot.classes import class_list_of
from manyhot.core.ensembles import Ensemble
from manyhot.core.label_issues import Issues, Merges, find_issues, find_merges, uses_probabilities
from manyhot.core.sets import NO_LABEL
from manyhot.data.inputs import Asked, Source, sources
from manyhot.diagnose.evidence import World
from manyhot.errors import InputError
from manyhot.files import sha256
from manyhot.formats import read_labels
from manyhot.formats.writing import PathLike, Progress, check_apart, check_place
from manyhot.predict.similar import similar_images
from manyhot.reassess.ensemble import ensemble_of
from manyhot.tables import FramePart, Images, Labels, Predictions, align_rows, read_frame_part
from manyhot.tables.arrays import ids_of, in_class_order, label_column, on_host, prediction_of, read_models
from manyhot.tables.sets import label_sets, single_labels
from manyhot.tables.skipped_files import SkippedFiles

KINDS = ("doubtful-label", "missing-label", "merge-classes")
"""What is found."""


COLUMNS = (
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
"""The columns of the findings, whose evidence is null where it says nothing."""


@dataclass(frozen=True, eq=False)
class LabelIssues:
    """Doubtful labels, missing labels and classes to merge, and what the reader must know about them.

    Attributes
    ----------
    table : pyarrow.Table
        The table ``findings``, worst first within each kind; see the page *Label issues*.
    models : tuple of str
    n, n_skipped : int
        Images with an original label that something is known about; those without.
    notes : tuple of str
    """

    table: pa.Table
    models: tuple[str, ...]
    n: int
    n_skipped: int
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __repr__(self) -> str:
        told = ", ".join(f"{self.count(kind):,} {kind}" for kind in KINDS)
        return f"LabelIssues({told}; {self.n:,} images)"

    @property
    def kinds(self) -> tuple[str, ...]:
        """What can be found: `KINDS`."""
        return KINDS

    def count(self, kind: str) -> int:
        """Return how many findings are of a kind, one of `KINDS`.

        Raises
        ------
        InputError
            If there is no such kind.
        """
        return len(self.of(kind))

    def of(self, kind: str) -> pa.Table:
        """Return the findings of a kind, one of `KINDS`, worst first.

        Raises
        ------
        InputError
            If there is no such kind.
        """
        if kind not in KINDS:
            raise InputError("There is no such kind of issue.", got=kind, allowed=", ".join(KINDS))
        return self.table.filter(pc.equal(self.table["kind"], kind))

    def to_polars(self) -> Any:
        """Return the findings as a polars.DataFrame."""
        import polars as pl

        return pl.from_arrow(self.table)

    @classmethod
    def concat(cls, parts: Sequence[LabelIssues]) -> LabelIssues:
        """Join what was found in several data sets."""
        if len(parts) == 1:
            return parts[0]
        named = [(p.table["dataset"][0].as_py() if len(p) else "", p) for p in parts]
        return cls(
            pa.concat_tables([p.table for p in parts]),
            tuple(dict.fromkeys(m for p in parts for m in p.models)),
            sum(p.n for p in parts),
            sum(p.n_skipped for p in parts),
            tuple(f"{name}: {note}" if name else note for name, p in named for note in p.notes),
        )


def find_issues_in_tables(
    images: Images,
    predictions: Sequence[Predictions],
    *,
    votes: Labels | None = None,
    similar: pa.Table | None = None,
    neighbours: Images | None = None,
    n_classes: int = 0,
    class_hash: str = "",
    doubtful: float = 0.5,
    missing: float = 0.2,
    together: float = 0.7,
    confused: float = 0.2,
    dataset: str = "",
    misfits: SkippedFiles | None = None,
) -> LabelIssues:
    """Rank original labels that are doubtful, labels that are missing, and classes that may be one.

    Parameters
    ----------
    images : Images
        With original labels.
    predictions : sequence of Predictions
        One a model, each of all images. The models must not have been trained on these images: a model knows
        the labels that it learned, wrong ones too. Nothing here can check that.
    votes : Labels, optional
        Label sets that people made of some of the images. Where they were asked about a class they decide.
    similar : pyarrow.Table, optional
        The table ``similar`` of the images, of any class.
    neighbours : Images, optional
        The images that `similar` found, with their labels; `images` by default.
    n_classes, class_hash
        The class list; that of the predictions by default.
    doubtful, missing : float
        As in `manyhot.core.label_issues.find_issues`.
    together, confused : float
        As in `manyhot.core.label_issues.find_merges`.
    dataset : str
        The name in the findings.
    misfits : Misfits, optional
        As in `manyhot.evaluate.judge.evaluate`.

    Raises
    ------
    InputError
        If there are no predictions, no original labels, or as the functions above.
    MatchError
        If predictions are over another class list or lack images, or no label set is of these images.
    """
    if not predictions:
        raise InputError(
            "There are no predictions to find label issues with.", do="predict the images with a model"
        )
    n_classes = n_classes or max(p.n_classes for p in predictions)
    if not n_classes:
        raise InputError("The number of classes is not known.", do="give the class list")
    class_hash = class_hash or next((p.class_hash for p in predictions if p.class_hash), "")
    misfits = misfits or SkippedFiles()
    ensemble = _without_fillers(ensemble_of(images, predictions, n_classes, class_hash, votes, misfits))
    notes = [*misfits.notes(), *_notes(ensemble)]
    near, alone = None, None
    if similar is not None:
        near, alone, more = _near(images, similar, neighbours, n_classes)
        notes += more
    found = find_issues(
        ensemble,
        near,
        alone,
        doubtful=doubtful,
        missing=missing,
        name=lambda row: f"image {images.image_id[row]}",
    )
    merges = find_merges(ensemble, together=together, confused=confused)
    if found.n_skipped:
        notes.append(
            f"{found.n_skipped:,} of {len(ensemble):,} images have no original label, or scores that are no "
            "numbers: none of their labels is doubted"
        )
    parts = [
        _image_rows(KINDS[0], images, ensemble, found.doubtful),
        _image_rows(KINDS[1], images, ensemble, found.missing),
        _merge_rows(merges),
    ]
    table = pa.concat_tables([_filled(part, dataset) for part in parts]).combine_chunks()
    return LabelIssues(table, ensemble.names, found.n, found.n_skipped, tuple(notes))


def _notes(ensemble: Ensemble) -> list[str]:
    if uses_probabilities(ensemble):
        return []
    ranks = [m for m, known in zip(ensemble.names, ensemble.probabilities, strict=True) if known is None]
    more = f" and {len(ranks) - 3:,} more" if len(ranks) > 3 else ""
    who = f"{', '.join(ranks[:3])}{more} {'has' if len(ranks) == 1 else 'have'}"
    return [f"{who} no probabilities: the best class of each model counts, and confident learning rests"]


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
    """Return labels of similar images, of which images they say nothing, and notes."""
    labels = single_labels(images, n_classes)
    world = World(labels, label_sets(labels), None)
    found = world.neighbours(similar, searched)
    alone = _alone(images, searched or images)
    n = int(np.count_nonzero(alone))
    if found is None or not n:
        return None if found is None else found.classes, alone, world.notes
    said = f"{n:,} of {len(alone):,} images have a label that no other image searched has"
    return found.classes, alone, [*world.notes, f"{said}: neighbours say nothing of it"]


def _alone(images: Images, searched: Images) -> npt.NDArray[np.bool_]:
    """Return which images have a label that no other of the images searched has, shape (n,)."""
    label, there = pc.fill_null(images.label, NO_LABEL), pc.fill_null(searched.label, NO_LABEL)
    own = pc.fill_null(there.take(pc.index_in(images.image_id, searched.image_id)), NO_LABEL)
    known = [y.to_numpy(zero_copy_only=False) for y in (label, there, own)]
    count = np.bincount(known[1] + 1, minlength=int(known[0].max()) + 2)[known[0] + 1]
    alone: npt.NDArray[np.bool_] = (known[0] != NO_LABEL) & (count == (known[2] == known[0]))
    return alone


def _image_rows(kind: str, images: Images, ensemble: Ensemble, found: Issues) -> dict[str, pa.Array]:
    label = ensemble.label[found.image]
    return {
        "kind": pa.repeat(kind, len(found)),
        "image_id": images.image_id.take(pa.array(found.image)),
        "class_a": _classes(label),
        "class_b": _classes(found.class_id),
        "rank": pa.array(np.arange(1, len(found) + 1, dtype=np.int32)),
        "score": _numbers(found.score),
        "models": _numbers(found.models),
        "neighbours": _numbers(found.neighbours),
        "people": _numbers(found.people),
        "n_models": pa.array(found.n_models.astype(np.int32)),
        "confident_class": _classes(found.confident),
    }


def _merge_rows(found: Merges) -> dict[str, pa.Array]:
    return {
        "kind": pa.repeat(KINDS[2], len(found)),
        "class_a": _classes(found.a),
        "class_b": _classes(found.b),
        "rank": pa.array(np.arange(1, len(found) + 1, dtype=np.int32)),
        "score": _numbers(found.score),
        "together": _numbers(found.together),
        "a_as_b": _numbers(found.a_as_b),
        "b_as_a": _numbers(found.b_as_a),
        **{name: pa.array(getattr(found, name).astype(np.int32)) for name in ("n_together", "n_a", "n_b")},
    }


def _filled(columns: dict[str, pa.Array], dataset: str) -> pa.Table:
    n = len(columns["kind"])
    columns["dataset"] = pa.repeat(pa.scalar(dataset, pa.string()), n)
    arrays = [columns.get(name, pa.nulls(n, kind)).cast(kind) for name, kind in COLUMNS]
    return pa.table(arrays, names=[name for name, _ in COLUMNS])


def _classes(values: npt.NDArray[np.integer]) -> pa.Array:
    return pa.array(values.astype(np.int32), mask=values == NO_LABEL)


def _numbers(values: npt.NDArray[np.float64]) -> pa.Array:
    return pa.array(values, mask=np.isnan(values))


def find_label_issues(
    images: Any,
    predictions: Any,
    *,
    score_kind: str = "score",
    votes: Labels | None = None,
    n_classes: int | None = None,
    similar: pa.Table | None = None,
    neighbours: Images | None = None,
    doubtful: float = 0.5,
    missing: float = 0.2,
    together: float = 0.7,
    confused: float = 0.2,
    dataset: str = "",
) -> LabelIssues:
    """Rank original labels that are doubtful, labels that are missing, and pairs of classes that may be one.

    Parameters
    ----------
    images : Images or array-like of int, shape (n,)
        Original labels; -1 where there is none.
    predictions : Predictions, iterable of Predictions, array, or mapping of model names to arrays
        As in `evaluate`, by models that were not trained on these images.
    score_kind : str
        What scores given as arrays are: ``probability``, ``logit``, or ``score``, which only rank.
    votes : Labels, optional
        Label sets that people made; where they were asked about a class they decide.
    n_classes : int, optional
        C, where the predictions do not tell it.
    similar, neighbours, doubtful, missing, together, confused, dataset
        As in `manyhot.diagnose.labels.find_issues_in_tables`.

    Returns
    -------
    LabelIssues
        ``.of("doubtful-label")``, ``.to_polars()``.

    Raises
    ------
    InputError, MatchError
        As in `manyhot.diagnose.labels.find_issues_in_tables`.

    Examples
    --------
    >>> import numpy as np
    >>> p = np.array([[0.9, 0.1], [0.2, 0.8], [0.95, 0.05]])
    >>> found = find_label_issues([0, 1, 1], p, score_kind="probability")
    >>> found.of("doubtful-label")["image_id"].to_pylist()
    ['2']
    """
    given, parts = read_models(predictions)
    classes = None if votes is None else class_list_of(votes.class_hash)
    if not isinstance(images, Images):
        own, *parts = align_rows([read_frame_part(images, "images"), *parts])
        label = np.asarray(on_host(own.values))
        if label.ndim != 1 or label.dtype.kind not in "iu":
            raise InputError(
                "Original labels are one class an image.",
                got=f"shape {label.shape} of {label.dtype}",
                allowed="(n,) integers, or an images table",
            )
        columns = {"image_id": ids_of(own, len(label)), "label": label_column(label, len(label))}
        images = Images(pa.table(columns), "labels")
    # Original labels are numbers of classes, in the order of which the columns must be.
    (_, *parts), class_hash = in_class_order([FramePart((), "images"), *parts], classes)
    given += [prediction_of(p, n_classes or 0, score_kind, class_hash) for p in parts]
    # Tables know what their scores are; those of arrays count as scores until somebody says more.
    given = [
        replace(p, score_kind=score_kind) if p.is_dense and p.score_kind == "score" and not p.source else p
        for p in given
    ]
    return find_issues_in_tables(
        images,
        given,
        votes=votes,
        similar=similar,
        neighbours=neighbours,
        n_classes=n_classes or 0,
        doubtful=doubtful,
        missing=missing,
        together=together,
        confused=confused,
        dataset=dataset,
    )


def find_label_issues_files(
    source: PathLike,
    out: PathLike = "label-issues.parquet",
    *,
    predictions: Sequence[PathLike] = (),
    models: Sequence[str] = (),
    votes: PathLike | None = None,
    no_votes: bool = False,
    rows: PathLike | None = None,
    images: PathLike | None = None,
    classes: PathLike | None = None,
    embeddings: PathLike | None = None,
    index: PathLike | None = None,
    embeddings_of: str = "",
    doubtful: float = 0.5,
    missing: float = 0.2,
    together: float = 0.7,
    confused: float = 0.2,
    call: str = "",
    progress: Progress | None = None,
) -> tuple[LabelIssues, list[Path]]:
    """Find label errors, missing labels and classes that are one, and write the table ``findings``.

    Parameters
    ----------
    source : path-like
        A benchmark or one of its data sets, such as ``imagenet-val``; a campaign; a folder that ``manyhot
        predict`` wrote; an images table or label sets, in any format.
    out : path-like
        A Parquet file.
    predictions : sequence of path-like
        Files and folders of predictions; in place of the published models or those of the campaign or folder.
    models : sequence of str
        Patterns of names, such as ``resnet*``; all models by default.
    votes : path-like, optional
        Label sets that people made, in any format; those of `source` by default.
    no_votes : bool
        Pass over what people said.
    rows, images, classes
        As in `manyhot.evaluate_files`.
    embeddings, index, embeddings_of
        As in `manyhot.diagnose_errors_files`.
    doubtful, missing, together, confused
        As in `manyhot.diagnose.labels.find_issues_in_tables`.

    Raises
    ------
    ManyhotError
        For each kind of bad input; nothing is written then.
    """
    out = Path(out)
    if out.suffix.lower() != ".parquet":
        raise InputError("Cannot write this kind of file.", where=out, allowed=".parquet")
    check_apart([source, *predictions, rows, images, classes, votes], out)
    check_place(out, "findings")
    if votes is not None and no_votes:
        raise InputError("Votes are given, and to be passed over.", got=votes, do="leave one of them out")
    options: dict[str, Any] = {"doubtful": doubtful, "missing": missing}
    options |= {"together": together, "confused": confused}
    options |= similar_images(embeddings, index, embeddings_of, progress)
    asked = Asked(predictions, models, rows, images, classes, progress)
    parts = list(sources(source, asked))
    done = LabelIssues.concat([_find(part, votes, no_votes, options, progress) for part in parts])
    inputs = {name: told for part in parts for name, told in part.inputs.items()}
    files = (rows, images, classes, votes)
    inputs |= {Path(p).name: sha256(p) for p in files if p and Path(p).is_file()}
    about = {"notes": json.dumps(done.notes, ensure_ascii=False), "models": "\n".join(done.models)}
    return done, [tables.write(done.table, out, "findings", call=call, inputs=inputs, about=about)]


def _find(
    part: Source,
    votes: PathLike | None,
    no_votes: bool,
    options: Mapping[str, Any],
    progress: Progress | None,
) -> LabelIssues:
    read = []
    for done, found in enumerate(part.models(), 1):
        read.append(found)
        if progress is not None:
            progress(f"reading predictions on {part.name}", done, part.n)
    said = part.labels if votes is None else read_labels(votes, classes=part.classes)
    return find_issues_in_tables(
        _images_of(part),
        read,
        votes=None if no_votes else said,
        n_classes=len(part.classes) if part.classes else part.labels.n_classes if part.labels else 0,
        class_hash=part.classes.hash if part.classes else "",
        dataset=part.name,
        misfits=part.misfits,
        **options,
    )


def _images_of(part: Source) -> Images:
    labels = part.labels
    if part.images is not None or labels is None:
        assert part.images is not None
        return part.images
    if "label" not in labels.table.column_names:
        raise InputError(
            "The label sets do not tell the original labels.",
            where=labels.name or None,
            allowed="a column label",
            do="give the images table: --images FILE",
        )
    return Images(labels.table.select(["image_id", "label"]), labels.name)
