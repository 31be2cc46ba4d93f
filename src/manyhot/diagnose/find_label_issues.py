"""Find labels that are doubtful or missing, and classes that may be one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot.classes import class_list_of
from manyhot.command import command
from manyhot.core.confused_classes import find_merges
from manyhot.core.ensembles import Ensemble
from manyhot.core.label_issues import find_issues, uses_probabilities
from manyhot.core.set_issues import find_set_issues
from manyhot.core.sets import NO_LABEL, LabelSets
from manyhot.data.data_sets import Source
from manyhot.data.inputs import READING, LabelsLike, PredictionsLike, Reading, open_inputs
from manyhot.diagnose.evidence import ErrorEvidence
from manyhot.diagnose.label_issues_table import (
    GIVEN_SETS,
    ONLY_SETS,
    SUSPECTED,
    LabelIssues,
    issues_table,
    unlisted_notes,
)
from manyhot.errors import InputError, first_names
from manyhot.evaluate.gallery import with_photographs
from manyhot.evaluate.requirements import DECLARE_KIND
from manyhot.evaluate.result_rows import unmatched_note
from manyhot.evaluate.slices import order_check_of
from manyhot.files import sha256
from manyhot.formats import read_labels
from manyhot.formats.writing import PathLike
from manyhot.parameters import PythonOnly, Share, Shown, Was
from manyhot.predict.similar import labels_of_searched, similar_images
from manyhot.reassess.ensemble import ensemble_of, has_labels, known_sets
from manyhot.run import QUIET, Run
from manyhot.tables import Images, Labels, Predictions, count_shared, metadata
from manyhot.tables.arrays import label_sets, single_labels
from manyhot.tables.labels import with_ids_like

_Table = TypeVar("_Table", Labels, Images)


@dataclass(frozen=True)
class _Thresholds:
    doubtful: float | None
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
    confirmed_labels: Annotated[PathLike | Labels | None, Shown("FILE"), Was("--votes")] = None,
    no_confirmed_labels: Annotated[bool, Was("--no-votes")] = False,
    min_doubtful: Annotated[Share | None, Was("--doubtful")] = None,
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
    trained on these images. The classes of the label sets are checked instead of the original labels in two
    cases: if there are no original labels, or if the label sets do not come from raters and the original
    labels are in another file.

    Parameters
    ----------
    labels
        Name of a benchmark, such as imagenet, or of one of its data sets; or a campaign, a folder written by
        predict, a file of label sets, or an images table.
    predictions
        Files or folders of predictions, used instead of the published predictions or those of the campaign.
        Images without predictions are left out, and a note reports their number.
    confirmed_labels
        Label sets from raters, used instead of the label sets of the data set, such as the corrected label
        sets of an earlier round. A label that raters confirm is not an issue; other answers are combined with
        the evidence from models. Images without confirmed labels are checked as usual.
    no_confirmed_labels
        Ignore the raters' answers.
    min_doubtful
        Minimum score of a doubtful label; by default 0.5. If label sets are checked, it also applies to
        missing labels, and by default all labels that confident learning suspects are listed.
    min_missing
        Minimum score of a missing label.
    min_together
        Two classes are proposed for merging if at least this share of the images of each class has both
        labels.
    min_confused
        Two classes are proposed for merging if at least this share of the images of each class is predicted
        as the other class.
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
    reading
        How files are read. A list or array with one class per image is read as original labels; -1 stands for
        a missing label.

    Returns
    -------
    LabelIssues
        The issues: see ``.of_kind("doubtful-label")`` and ``.to_polars()``.

    Raises
    ------
    InputError
        If there are no predictions or no labels, or scores do not match their declared kind.
    MatchError
        If predictions have a different class list, if no image has predictions of all models, or if none of
        the confirmed label sets belongs to these images.
    OrderError
        As in `manyhot.evaluate`.

    Notes
    -----
    A model that was trained on these images has learned their labels, including the wrong ones. This function
    cannot check whether a model was trained on them.

    Without original labels, the label sets are checked. A doubtful label, in ``class_a``, is a class of a
    label set that may be wrong. A missing label, in ``class_b``, is a class that a label set may lack.

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
            "Confirmed labels cannot be both passed and ignored.",
            got=confirmed_labels,
            do="leave one of them out",
        )
    thresholds = _Thresholds(min_doubtful, min_missing, min_together, min_confused)
    if similar is None:
        nearest = similar_images(embeddings, index, embeddings_model, run.on_progress, reading.row_images())
        similar, neighbours = nearest.get("similar"), nearest.get("neighbours", neighbours)
    parts, inputs = [], dict[str, str]()
    for opened in open_inputs(labels, predictions, reading=reading, run=run):
        source = with_photographs(opened, predictions, reading)
        is_original = source.labels is not None and source.labels.are_original
        votes = None if no_confirmed_labels or is_original else source.labels
        if confirmed_labels is not None:
            votes = _read(confirmed_labels, source, reading.match)
        part = _find(source, votes, _Neighbours(similar, neighbours), thresholds, reading, run)
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
    reading: Reading,
    run: Run,
) -> LabelIssues:
    """Return the issues of a data set."""
    predictions = []
    for done, model in enumerate(source.models(), 1):
        predictions.append(model)
        if run.on_progress:
            run.on_progress(f"reading predictions on {source.name}", done, source.n)
    what = GIVEN_SETS if _are_given_sets(source) else ONLY_SETS
    images = None if what is GIVEN_SETS else original_images(source)
    ids, left_out = _predicted(source.labels if images is None else images, predictions)
    if ids is not None:
        of_source = votes is source.labels
        source = replace(source, labels=_with_ids(source.labels, ids), images=_with_ids(source.images, ids))
        images, votes = _with_ids(images, ids), source.labels if of_source else votes
    if images is None:
        options = thresholds, reading
        return _find_in_sets(source, predictions, votes, neighbours, *options, what=what, left_out=left_out)
    ensemble = _ensemble(source, images, predictions, reading, votes)
    notes = [*left_out, *source.misfits.notes(), *_notes(ensemble)]
    near, alone = None, None
    if neighbours.similar is not None:
        class_hash = source.classes.hash if source.classes else _class_hash(predictions)
        near, alone, more = _near(images, neighbours, ensemble.n_classes, class_hash)
        notes += more
    issues = find_issues(
        ensemble,
        near,
        alone,
        doubtful=LIKELIER_WRONG if thresholds.doubtful is None else thresholds.doubtful,
        missing=thresholds.missing,
        settled=votes is not source.labels,
        name=lambda row: f"image {images.image_id[row]}",
    )
    merges = find_merges(ensemble, together=thresholds.together, confused=thresholds.confused)
    if issues.n_skipped:
        notes.append(
            f"{issues.n_skipped:,} of {len(ensemble):,} images have no original label or have non-finite "
            "scores, so no doubtful label is reported for them"
        )
    names = source.classes or class_list_of(_class_hash(predictions))
    table = issues_table(source, images, ensemble.label, issues, merges, names)
    return LabelIssues(
        table, ensemble.names, issues.n, issues.n_skipped, sources=(source,), notes=tuple(notes)
    )


def _predicted(
    table: Labels | Images | None, predictions: Sequence[Predictions]
) -> tuple[pa.Array | None, list[str]]:
    """Return the ids of the images to check, and a note, if some images have no prediction.

    They are the images of the model that has the most. Other models that lack some of them are misfits.
    """
    if table is None or not predictions:
        return None, []
    own = table.image_id
    ids = max((p.image_id for p in predictions), key=lambda other: count_shared(own, other))
    n = count_shared(own, ids)
    if n in (0, len(own)):
        return None, []
    return ids, [unmatched_note("", "", "labels_unmatched", len(own) - n, n).text]


def _with_ids(table: _Table | None, ids: pa.Array) -> _Table | None:
    """Return the rows of these images."""
    return None if table is None else replace(table, table=table.table.filter(pc.is_in(table.image_id, ids)))


def _ensemble(
    source: Source,
    images: Images,
    predictions: Sequence[Predictions],
    reading: Reading,
    votes: Labels | None,
    *,
    labelled: bool = True,
) -> Ensemble:
    if not predictions:
        raise InputError(
            "Finding label issues needs predictions, and there are none.",
            do="run manyhot predict on the images",
        )
    classes = source.classes
    n_classes = len(classes) if classes else source.labels.n_classes if source.labels else reading.n_classes
    n_classes = n_classes or max(p.n_classes for p in predictions)
    if not n_classes:
        raise InputError("The number of classes is not known.", do="pass the class list")
    class_hash = classes.hash if classes else _class_hash(predictions)
    check = None if reading.trust_order else order_check_of(source)
    about = images, predictions, n_classes, class_hash, votes, source.misfits
    return _without_fillers(ensemble_of(*about, labelled=labelled, check=check))


def _notes(ensemble: Ensemble) -> list[str]:
    if uses_probabilities(ensemble):
        return []
    ranks = [m for m, known in zip(ensemble.names, ensemble.probabilities, strict=True) if known is None]
    who = f"{first_names(ranks, 3)} {'has' if len(ranks) == 1 else 'have'}"
    scored = any(s is not None for m, s in zip(ensemble.names, ensemble.scores, strict=True) if m in ranks)
    declare = (
        "; if the scores are probabilities or logits, declare their kind with `scores`" if scored else ""
    )
    return [
        f"{who} no probabilities, so only the top class of each model is used, and confident learning is "
        f"skipped{declare}"
    ]


def _check_probabilities(ensemble: Ensemble, source: Source) -> None:
    """Raise an error for label sets with several classes if a model only ranks classes.

    Only the top class of ranks counts, so that all other classes of a label set would be certainly wrong.
    """
    sets = ensemble.label_sets
    if uses_probabilities(ensemble) or sets is None or not (sets.size > 1).any():
        return
    ranks = [m for m, known in zip(ensemble.names, ensemble.probabilities, strict=True) if known is None]
    raise InputError(
        "Label sets with several classes can be checked only with probabilities of the classes.",
        where=source.name or None,
        got=f"no probabilities of {', '.join(ranks[:3])}{' and others' if len(ranks) > 3 else ''}",
        allowed="logits or probabilities of all models",
        do=DECLARE_KIND,
    )


def _without_fillers(ensemble: Ensemble) -> Ensemble:
    """Give the unfilled places of short lists no probability, where the file fills them with -inf."""
    clean = tuple(
        None if p is None else np.where(top < 0, 0, p).astype(p.dtype)
        for top, p in zip(ensemble.top, ensemble.probabilities, strict=True)
    )
    return replace(ensemble, probabilities=clean)


def _near(
    images: Images, neighbours: _Neighbours, n_classes: int, class_hash: str
) -> tuple[npt.NDArray[np.integer] | None, npt.NDArray[np.bool_], list[str]]:
    """Return labels of similar images, which images they are no evidence about, and notes."""
    labels = single_labels(images, n_classes, class_hash)
    evidence = ErrorEvidence(labels, label_sets(labels), None)
    assert neighbours.similar is not None  # for the type checker
    searched = labels_of_searched(neighbours.searched, images.image_id, class_hash)
    nearest = evidence.neighbours(neighbours.similar, searched)
    if searched is not None:
        searched, _ = with_ids_like(searched, images.image_id, other_name="the images")
    alone = _alone(images, images if searched is None else searched)
    n = int(np.count_nonzero(alone))
    if nearest is not None and n:
        note = f"{n:,} of {len(alone):,} images have a label that no other searched image has"
        evidence.notes.append(f"{note}, so neighbours provide no evidence about this label")
    return None if nearest is None else nearest.classes, alone, evidence.notes


def _alone(images: Images, searched: Images) -> npt.NDArray[np.bool_]:
    """Return which images have a label that no other of the images searched has, shape (n,)."""
    label, there = pc.fill_null(images.label, NO_LABEL), pc.fill_null(searched.label, NO_LABEL)
    own = pc.fill_null(there.take(pc.index_in(images.image_id, searched.image_id)), NO_LABEL)
    known = [y.to_numpy(zero_copy_only=False) for y in (label, there, own)]
    count = np.bincount(known[1] + 1, minlength=int(known[0].max()) + 2)[known[0] + 1]
    alone: npt.NDArray[np.bool_] = (known[0] != NO_LABEL) & (count == (known[2] == known[0]))
    return alone


def original_images(source: Source) -> Images | None:
    """Return the images with their original labels, or None if there are only label sets."""
    labels, images = source.labels, source.images
    if labels is not None and "label" in labels.table.column_names:
        own = Images(labels.table.select(["image_id", "label"]), labels.name)
        images = images.with_labels(own) if has_labels(images) else own
    return images if labels is None or has_labels(images) else None


def _find_in_sets(
    source: Source,
    predictions: Sequence[Predictions],
    votes: Labels | None,
    neighbours: _Neighbours,
    thresholds: _Thresholds,
    reading: Reading,
    *,
    what: str,
    left_out: Sequence[str],
) -> LabelIssues:
    """Return wrong and missing classes of the label sets of a data set without original labels."""
    assert source.labels is not None
    labels = source.labels
    images = Images(labels.table.select(["image_id"]), labels.name)
    unrated = [c for c in ("rated",) if c in labels.table.column_names]
    given = replace(labels, table=labels.table.drop_columns(unrated))
    ensemble = _ensemble(source, images, predictions, reading, given, labelled=False)
    _check_probabilities(ensemble, source)
    least = LIKELIER_WRONG if thresholds.doubtful is None else thresholds.doubtful
    # 1: only what confident learning suspects, whatever the calibration of the models
    is_suspicion = thresholds.doubtful is None and uses_probabilities(ensemble)
    answers = _answers(images, ensemble, labels, votes)
    issues = find_set_issues(
        ensemble,
        answers,
        doubtful=least,
        missing=least,
        unasked=1.0 if is_suspicion else None,
        settled=votes is not labels,
        name=lambda row: f"image {images.image_id[row]}",
    )
    merges = find_merges(ensemble, together=thresholds.together, confused=thresholds.confused)
    notes = [*left_out, *source.misfits.notes(), *_notes(ensemble), what, *unlisted_notes(ensemble)]
    if is_suspicion:
        notes.append(SUSPECTED if answers is None else f"where no rater was asked, {SUSPECTED}")
    if neighbours.similar is not None:
        notes.append("similar images provide no evidence about label sets, so they are not used")
    if issues.n_skipped:
        notes.append(
            f"{issues.n_skipped:,} of {len(ensemble):,} images are not usable or have non-finite scores, so "
            "their label sets are not checked"
        )
    names = source.classes or class_list_of(_class_hash(predictions))
    table = issues_table(source, images, None, issues, merges, names)
    if n_no := pc.sum(pc.equal(table["answer"], "no")).as_py():
        n = len(issues.missing)
        notes.append(f"{n_no:,} of {n:,} missing labels are pairs with the answer no (column 'answer')")
    return LabelIssues(
        table, ensemble.names, issues.n, issues.n_skipped, sources=(source,), notes=tuple(notes)
    )


LIKELIER_WRONG = 0.5
"""Score from which on a label is more likely wrong than right, if the models are calibrated."""


def _are_given_sets(source: Source) -> bool:
    """Return whether a file contains label sets that are data of their own, and not raters' answers.

    Their original labels are in another table, and some of them have several classes.
    """
    labels = source.labels
    if labels is None or source.published is not None or source.campaign is not None:
        return False
    # A table that manyhot wrote contains what raters answered about the original labels.
    if {"label", "rated", "p"} & set(labels.table.column_names) or "version" in metadata(labels.table):
        return False
    return has_labels(source.images) and bool((label_sets(labels).size > 1).any())


def _answers(images: Images, ensemble: Ensemble, labels: Labels, votes: Labels | None) -> LabelSets | None:
    """Return raters' answers about label sets: confirmed labels, or the probabilities of the sets."""
    if votes is None:
        return None
    of_sets = votes is labels
    rated = votes.table["rated"] if "rated" in votes.table.column_names else None
    if of_sets and ("p" not in votes.table.column_names or (rated is not None and not pc.any(rated).as_py())):
        return None
    sets = known_sets(images, votes, ensemble.n_classes, votes.class_hash)
    return _with_p(sets) if of_sets else sets


def _with_p(sets: LabelSets) -> LabelSets:
    """Return the label sets with only the classes whose probability is known."""
    keep = np.zeros(len(sets.state), bool) if sets.p is None else np.isfinite(sets.p)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(sets.rows[keep], minlength=len(sets)))])
    return replace(
        sets,
        indptr=indptr.astype(np.int64),
        classes=sets.classes[keep],
        state=sets.state[keep],
        p=None if sets.p is None else sets.p[keep],
        n_votes=None if sets.n_votes is None else sets.n_votes[keep],
    )


def _class_hash(predictions: Sequence[Predictions]) -> str:
    return next((p.class_hash for p in predictions if p.class_hash), "")
