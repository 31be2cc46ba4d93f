"""The only data set of a call, and the `Ensemble` of its models and known label sets for the rules."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc
from pyarrow import parquet as pq

from manyhot.classes import ClassList
from manyhot.core.ensembles import DenseScores, Ensemble
from manyhot.core.order_check import like_probabilities, one_sided_note
from manyhot.core.score_threshold import link_of
from manyhot.core.sets import NO_LABEL, Case, LabelSets
from manyhot.data.benchmarks import data_set
from manyhot.data.data_sets import Source, open_images
from manyhot.data.reading_options import Reading
from manyhot.errors import InputError, MatchError
from manyhot.evaluate.slices import order_check_of
from manyhot.files import sha256
from manyhot.formats import detect, read_golden, read_labels
from manyhot.run import Run
from manyhot.tables import (
    DESCRIPTION,
    Campaign,
    Golden,
    Images,
    Labels,
    Predictions,
    align,
    check_class_list,
    one_chunk,
)
from manyhot.tables.arrays import label_sets, single_labels
from manyhot.tables.campaign_folder import is_campaign
from manyhot.tables.frames import examples
from manyhot.tables.labels import with_ids_like
from manyhot.tables.skipped_files import SkippedFiles, fitting_models

DEPTH = 20
"""Number of top classes listed for scores of all classes; rules that need more take them from the scores."""


_Columns = tuple[npt.NDArray[Any], npt.NDArray[Any] | None, npt.NDArray[Any] | None, DenseScores | None]
"""The best classes of a model, their scores and their probabilities, and all scores."""


def only_source(sources: Iterator[Source], what: str) -> Source:
    """Return the only data set of a call."""
    source, *more = sources
    if more:
        names = [s.name for s in (source, *more)]
        raise InputError(f"{what} only one data set.", got=", ".join(names), allowed="one of them")
    return source


def without_list(labels: Any, reading: Reading) -> tuple[Reading, Images | None]:
    """Return how a campaign is read, and the list of its images to ask about; None without such a list.

    Where it is read, a list selects label sets, which images need not have to be asked about.
    """
    is_home = isinstance(labels, str | os.PathLike) and is_campaign(Path(labels))
    listed = open_images(reading.images, None) if is_home else None
    if listed is None or listed.table.column_names != ["image_id"]:
        return reading, None
    return replace(reading, images=None), listed


def with_listed_images(source: Source, listed: Images | None, match: str) -> Source:
    """Return a campaign of which only the listed images are asked about.

    Raises
    ------
    InputError
        If none of them is an image of the campaign.
    """
    if listed is None or source.images is None:
        return source
    ids = source.images.image_id
    listed, like = with_ids_like(listed, ids, other_name="the campaign", match=match)
    chosen = pc.is_in(ids, listed.image_id)
    if not (n := pc.sum(chosen).as_py()):
        raise InputError(
            "None of the listed images is in the campaign.",
            where=listed.name or "`images`",
            got=examples(listed.image_id),
            allowed=f"images such as {examples(ids)}",
            do="pass a file with the name of one image on each line",
        )
    source.misfits.remarks += [f"{listed.name or 'the list'}: {like.text}"] if like.n else []
    if absent := len(listed) - n:
        source.misfits.remarks.append(f"listed images that are not in the campaign: {absent:,}")
    return replace(source, images=replace(source.images, table=source.images.table.filter(chosen)))


def source_images(source: Source) -> Images:
    """Return the images of a data set with their original labels."""
    if source.campaign is not None and source.images is not None and source.classes is not None:
        _check_described(source.campaign, source.classes)
        return Images(source.images.table, "the campaign")
    if source.images is not None:
        return source.images
    assert source.labels is not None
    columns = [n for n in ("image_id", "label") if n in source.labels.table.column_names]
    return Images(source.labels.table.select(columns), source.name)


def source_predictions(source: Source, run: Run) -> list[Predictions]:
    """Return the predictions of all models of a data set."""
    read = []
    for n, model in enumerate(source.models(), 1):
        read.append(model)
        if run.on_progress:
            run.on_progress("reading predictions", n, source.n)
    return read


def has_labels(images: Images | None) -> TypeGuard[Images]:
    """Return whether any image has an original label."""
    return images is not None and images.label is not None and images.label.null_count < len(images)


def order_check(
    source: Source, reading: Reading, known_labels: Labels | None = None
) -> Callable[[Predictions], object] | None:
    """Return the check of a model's order of rows and classes; None without labels, or if it is trusted."""
    if reading.trust_order:
        return None
    if source.labels is None and not has_labels(source.images):
        return None if known_labels is None else order_check_of(replace(source, labels=known_labels))
    return order_check_of(source)


def _check_described(home: Campaign, classes: ClassList) -> None:
    """Raise an error if the description of a campaign does not match its images and classes."""
    described = (home.class_hash, home.n_classes, home.n_images)
    actual = (classes.hash, len(classes), pq.read_metadata(home.path("images")).num_rows)
    if described != actual:
        raise MatchError(
            "The description of the campaign does not match its classes and images.",
            where=home.folder / DESCRIPTION,
            got=f"class list {described[0]} of {described[1]:,} classes, {described[2]:,} images",
            allowed=f"class list {actual[0]} of {actual[1]:,} classes, {actual[2]:,} images",
            do="restore the changed files, or create the campaign again in another folder",
        )


def ensemble_of(
    images: Images,
    predictions: Sequence[Predictions],
    n_classes: int,
    class_hash: str,
    known_labels: Labels | None = None,
    misfits: SkippedFiles | None = None,
    *,
    labelled: bool | None = None,
    check: Callable[[Predictions], object] | None = None,
) -> Ensemble:
    """Return the predictions of all models that are not skipped, with a row for each image.

    Parameters
    ----------
    images : Images
        With their original labels.
    predictions : sequence of Predictions
        One per model, for all images.
    n_classes, class_hash
        The class list of the images.
    known_labels : Labels, optional
        Label sets of some of the images. Unrated images are left out.
    misfits : SkippedFiles, optional
        Collects the models that are skipped because they do not match. If None, the first such model raises
        an error.
    labelled : bool
        Whether images need original labels. If True, classes exclude one another, so probabilities are the
        softmax of logits. If False, labels are ignored. By default, labels are needed if any image has one.
        Unless `labelled` is True, the link of logits is that of `manyhot.core.score_threshold.link_of`.
    check : callable, optional
        Raises an `InputError` if predictions that match the images are doubtful for another reason, such as
        their order.

    Raises
    ------
    InputError
        If images have no original labels, two predictions are from the same model, or no model matches.
    MatchError
        If predictions have a different class list or lack images, or no label set belongs to these images.
    """
    check_distinct_models(predictions)
    needs_labels = has_labels(images) if labelled is None else labelled
    label = _original_labels(images, n_classes) if needs_labels else np.full(len(images), NO_LABEL, np.int32)
    sets = None if known_labels is None else known_sets(images, known_labels, n_classes, class_hash)

    def link(p: Predictions) -> str:
        found = p.link or ("softmax" if labelled else _link(images, p, sets, n_classes))
        remarks = []
        # Probabilities that are declared as logits have another note.
        if found == "sigmoid" and not p.link and (p.scores is None or not like_probabilities(p.scores)):
            remarks.append(f"{p.model}: the probability of a class is the sigmoid of its logit; {_TRAINED}")
        if found == "sigmoid" and p.is_dense and (note := one_sided_note(p.scores)):
            remarks.append(f"{p.model}: {note}")
        if misfits is not None:
            misfits.remarks += [remark for remark in remarks if remark not in misfits.remarks]
        return found

    def columns_of(p: Predictions) -> _Columns:
        found = _arrays(images, p, n_classes, class_hash, link)
        if check is not None:
            check(p)
        return found

    fitted = fitting_models(predictions, columns_of, misfits)
    arrays = {p.model: columns for p, columns in fitted}
    columns = zip(*arrays.values(), strict=True) if arrays else [()] * 4
    top, scores, probabilities, dense = (tuple(column) for column in columns)
    return Ensemble(n_classes, tuple(arrays), top, scores, probabilities, label, sets, dense)


_TRAINED = "if the network was trained with a softmax, pass `links`"


def _link(images: Images, p: Predictions, sets: LabelSets | None, n_classes: int) -> str:
    """Return the link of a model's logits that labels and label sets of the images suggest."""
    if not p.is_dense:
        return "softmax"  # of all classes, whose sum is stored; it is unknown without it
    labels = label_sets(single_labels(images, n_classes)) if has_labels(images) else None
    if sets is None:
        return "sigmoid" if labels is None else "softmax"
    sets = sets if labels is None else replace(sets, label=labels.label)
    return link_of(Case.from_scores(sets, p.scores, k=1, kind=p.score_kind)) if p.scores is not None else ""


def open_known_sets(
    source: Source, known_labels: Any, n_classes: int, class_hash: str
) -> tuple[Labels | None, dict[str, str]]:
    """Return known label sets, and the hash of each file that was read in addition to the source's files.

    Raises
    ------
    InputError
        If `known_labels` contains no label sets.
    """
    home, classes, inputs = source.campaign, source.classes, dict[str, str]()
    if home is not None:
        inputs[home.path("classes").name] = sha256(home.path("classes"))
        if known_labels is None and home.path("golden").exists():
            known_labels = home.path("golden")
    if isinstance(known_labels, Labels | None):
        return known_labels, inputs
    if isinstance(known_labels, str | os.PathLike):
        if (published := data_set(known_labels)) is not None:
            return published.fetch().labels, inputs
        path = Path(known_labels)
        entry = detect(path, ("labels", "golden")) if path.exists() else None
        is_golden = entry is not None and entry.about["holds"] == "golden"
        file = path / "golden.parquet" if is_golden and path.is_dir() else path
        inputs |= {file.name: sha256(file)} if file.is_file() else {}
        if not is_golden:
            return read_labels(path, classes=classes), inputs
        known_labels, name = read_golden(path, classes=classes), path.name
    elif isinstance(known_labels, Golden):
        name = known_labels.experts.name or "golden"
    else:
        raise InputError(
            "These are not label sets.",
            where="`known_labels`",
            got=type(known_labels).__name__,
            allowed="a file, or the result of manyhot.read_labels or manyhot.read_golden",
        )
    return golden_labels(known_labels.to_table(), n_classes, class_hash, name), inputs


def golden_labels(golden: pa.Table, n_classes: int, class_hash: str, name: str) -> Labels:
    """Return label sets from experts' answers: the classes to which more than half of the experts said yes.

    Parameters
    ----------
    golden : pyarrow.Table
        The table ``golden``.
    """
    import polars as pl

    frame = pl.from_arrow(golden)
    assert isinstance(frame, pl.DataFrame)
    yes = (pl.col("answer") == "yes").mean() > 0.5
    asked = frame.group_by("image_id", "class_id", maintain_order=True).agg(yes=yes)
    state = pl.when("yes").then(pl.lit("yes")).otherwise(pl.lit("no"))
    rows = asked.group_by("image_id", maintain_order=True).agg(classes=pl.col("class_id"), state=state)
    table = rows.with_columns(usable=pl.lit(True), rated=pl.lit(True)).to_arrow()
    return Labels(table, n_classes, class_hash, asked_known=True, name=name)


def check_distinct_models(predictions: Iterable[Predictions]) -> None:
    """Raise an error if two predictions are of the same model."""
    seen: dict[str, str] = {}
    for p in predictions:
        if p.model in seen:
            raise InputError(
                f"There are two sets of predictions of {p.model}.",
                where=" and ".join(filter(None, (seen[p.model], p.source))) or None,
                do="remove one of them",
            )
        seen[p.model] = p.source


def _original_labels(images: Images, n_classes: int) -> npt.NDArray[np.int32]:
    label = images.label
    if label is None or label.null_count == len(label):
        raise InputError(
            "The images have no original labels.",
            where=images.name or None,
            allowed="an images table with the column 'label', since the original label is always asked about",
            do="add the column, or predict with `labels`",
        )
    filled = pc.fill_null(label, NO_LABEL).to_numpy(zero_copy_only=False).astype(np.int32)
    if filled.max() >= n_classes or filled.min() < NO_LABEL:
        row = int(np.argmax((filled >= n_classes) | (filled < NO_LABEL)))
        raise InputError(
            "An original label is out of range.",
            where=f"{images.name or 'images'}, image {images.image_id[row]}",
            got=int(filled[row]),
            allowed=f"0 to {n_classes - 1}",
            do="check which class list the labels of the images use",
        )
    return np.asarray(filled)


def _arrays(
    images: Images, p: Predictions, n_classes: int, class_hash: str, link: Callable[[Predictions], str]
) -> _Columns:
    """Return a model's best classes, scores and probabilities, in the order of the images, and all scores."""
    check_class_list(p, n_classes, class_hash, images.name or "the images")
    p = p if p.n_classes else replace(p, n_classes=n_classes)  # which checks that its classes exist
    rows = align(
        images.image_id, p.image_id, left_name=images.name or "the images", right_name=p.source or p.model
    )
    if rows.left_only:
        absent = np.setdiff1d(np.arange(len(images)), rows.left)
        example = images.image_id[int(absent[0])]
        raise MatchError(
            f"Predictions of {p.model} are missing for some images.",
            where=p.source or None,
            got=f"no prediction for {len(absent):,} of {len(images):,} images, such as {example}",
            allowed="predictions of every model for every image",
            do="run predict on the other images, or leave out the model or these images",
        )
    kind = p.score_kind if p.scores is not None else "none"
    found = "probability" if kind == "probability" else ""
    if kind == "logit":
        found = "sigmoid" if link(p) == "sigmoid" else "softmax"
    top, scores = p.classes, p.scores
    if top is None:
        assert scores is not None
        dense = DenseScores(scores, rows.right, found, p.totals() if found == "softmax" else None)
        return *dense.top(DEPTH), dense if n_classes > DEPTH else None
    probabilities = p.confidence()
    if np.array_equal(rows.right, np.arange(len(top))):
        return top, scores, probabilities, None
    return (
        np.asfortranarray(top[rows.right]),
        None if scores is None else scores[rows.right],
        None if probabilities is None else probabilities[rows.right],
        None,
    )


def known_sets(images: Images, labels: Labels, n_classes: int, class_hash: str) -> LabelSets:
    """Return known label sets with one row per image; images without a known label set are not usable.

    Raises
    ------
    MatchError
        If the labels have a different class list, or none of the images was rated.
    """
    name = labels.name or "the known label sets"
    other_hash = labels.class_hash and class_hash and labels.class_hash != class_hash
    if labels.n_classes != n_classes or other_hash:
        raise MatchError(
            "The known label sets have a different class list.",
            where=name,
            got=f"{labels.n_classes:,} classes, class list {labels.class_hash or 'unknown'}",
            allowed=f"{n_classes:,} classes, class list {class_hash or 'unknown'}",
        )
    rows = align(images.image_id, labels.image_id, left_name=images.name or "the images", right_name=name)
    sets = label_sets(labels)
    usable = sets.usable
    if "rated" in labels.table.column_names:
        rated = pc.fill_null(one_chunk(labels.table["rated"]), True)
        usable = usable & rated.to_numpy(zero_copy_only=False)
    if not usable[rows.right].any():
        raise MatchError(
            "None of the images with a known label set was rated.",
            where=name,
            got=f"{len(rows.right):,} images, none of them usable and rated",
            allowed="label sets confirmed by raters",
        )
    return _spread(replace(sets, usable=usable), rows.left, rows.right, len(images))


def _spread(sets: LabelSets, left: npt.NDArray[np.int64], right: npt.NDArray[np.int64], n: int) -> LabelSets:
    """Put label sets at their rows of n images."""
    part = sets.take(right)
    undecided = np.zeros(n, bool)
    undecided[left] = part.counted & ~part.usable
    lengths = np.zeros(n, np.int64)
    lengths[left] = np.diff(part.indptr)
    label, usable = np.full(n, NO_LABEL, np.int32), np.zeros(n, bool)
    label[left], usable[left] = part.label, part.usable
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return replace(part, indptr=indptr, label=label, usable=usable, undecided=undecided)
