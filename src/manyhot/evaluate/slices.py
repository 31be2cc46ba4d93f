"""Slices: the subsets of images on which metrics are computed.

Also predictions with the label sets of their images, the input of metrics.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot.classes import SUPERCLASSES, ClassList
from manyhot.core.sets import NO_LABEL, Case, LabelSets
from manyhot.core.top_classes import top_k
from manyhot.data.data_sets import Source
from manyhot.errors import InputError
from manyhot.evaluate.class_thresholds import ClassThresholds
from manyhot.evaluate.prediction_checks import ascends, check_and_note_order, check_top_range
from manyhot.formats.files_read import add_column
from manyhot.run import QUIET, Run
from manyhot.tables import Alignment, Images, Labels, Predictions, align, check_same_classes, one_chunk
from manyhot.tables.arrays import label_sets
from manyhot.tables.image_conditions import (
    MAX_VALUES,
    column_values,
    crossed_conditions,
    images_with,
    note_on_placeholder,
    own_columns,
    parse_condition,
    pass_column,
    some_values,
)
from manyhot.tables.skipped_files import SkippedFiles, fitting_models

ALL = "all"
_SIZES = (("n_labels=1", 1, 1), ("n_labels=2", 2, 2), ("n_labels=3", 3, 3), ("n_labels>=4", 4, None))


BY_SIZE = tuple(name for name, *_ in _SIZES)
"""Slices by the size of the label set."""


@dataclass(frozen=True)
class Slices:
    """Named subsets of the images of a labels table.

    Attributes
    ----------
    masks : ndarray of bool, shape (S, n)
    classes : tuple of int
        Ids of the classes that have a slice by original label, ``class=KEY``. There can be thousands of them,
        so they have no masks.
    standing : int
        Number of slices that are created without being requested. They come first in `names`.
    """

    names: tuple[str, ...]
    masks: npt.NDArray[np.bool_]
    classes: tuple[int, ...] = ()
    class_names: tuple[str, ...] = ()
    standing: int = 1

    def with_class_masks(self, sets: LabelSets) -> Slices:
        """Return the slices, with masks also for the slices by original label."""
        masks = sets.label == np.array(self.classes, np.int32)[:, None]
        names = self.names + self.class_names
        return replace(self, names=names, masks=np.vstack([self.masks, masks]), classes=(), class_names=())


def make_slices(
    labels: Labels,
    sets: LabelSets,
    *,
    images: Images | None = None,
    classes: ClassList | None = None,
    requested: Iterable[str] = (),
    misfits: SkippedFiles | None = None,
) -> Slices:
    """Return the default slices for which the tables have data, and the requested slices.

    Parameters
    ----------
    labels, sets : Labels, LabelSets
        The labels and the label sets of the same images, row for row.
    images : Images, optional
        Images table with columns to slice by.
    classes : ClassList, optional
        Class list for ``superclass=…`` and the keys of ``class=KEY``.
    requested : iterable of str
        Slices by original label: ``class=KEY``, or ``class`` for all classes. Slices by a column of the
        images table: ``COLUMN`` for all its values, ``COLUMN=VALUE``, ``COLUMN=*`` for images with a value,
        ``COLUMN=`` for images without one, ``COLUMN>=VALUE`` or ``COLUMN<=VALUE``. Joined by commas, such as
        ``camera,shift=night``: the images in one slice of each. Default slices, such as ``n_labels``, are not
        created twice.
    misfits : SkippedFiles, optional
        Collects remarks about images that are in none of the slices of a column.

    Raises
    ------
    InputError
        If a requested slice cannot be made.
    """
    requested = list(requested)
    keys = classes.keys if classes else tuple(map(str, range(sets.n_classes)))
    found = {ALL: np.ones(len(sets), bool)}
    found |= slices_by_size(sets)
    rated = _rated(labels)
    found |= rated | _sizes_of_rated(found, rated) | _superclasses(sets, classes)
    standing, class_ids = dict(found), list[int]()

    def of(spec: str) -> Mapping[str, npt.NDArray[np.bool_]]:
        if own := {name: mask for name, mask in standing.items() if spec in (name, column_of(name))}:
            return own
        column, sign, value = parse_condition(spec)
        if column == "class" and sign in ("", "="):
            return {f"class={keys[c]}": sets.label == c for c in _class_ids(value, sets, classes)}
        own = _column(spec, labels, images)
        n_without = int((~np.logical_or.reduce(list(own.values()))).sum()) if own and not sign else 0
        if n_without and misfits is not None and f"{column}=" not in requested:
            remark = (
                f"{n_without:,} of {len(sets):,} images have no value of {column}, and are in none of "
                f"its slices: to evaluate them, too, add {column}= to `slices`"
            )
            misfits.remarks += [remark] * (remark not in misfits.remarks)
        return own

    columns = {"class", *own_columns(images), *(column_of(name) for name in standing if name != ALL)}
    for spec in requested:
        column, sign, value = parse_condition(spec)
        conditions = crossed_conditions(spec, columns)
        if len(conditions) > 1:
            found |= _crossed(spec, [of(condition) for condition in conditions])
        elif column == "class" and sign in ("", "="):
            class_ids += _class_ids(value, sets, classes)
        else:
            found |= of(spec)
    if images is not None and misfits is not None:
        for name in [name for name in found if name not in standing]:
            for condition in crossed_conditions(name):
                column, sign, _ = parse_condition(condition)
                if sign in (">=", "<=") and column in own_columns(images):
                    values = column_values(column, labels.image_id, images, left_name=labels.name)
                    remark = note_on_placeholder(condition, values, found[name])
                    misfits.remarks += [remark] * (remark not in ("", *misfits.remarks))
    ids = tuple(dict.fromkeys(class_ids))
    names = tuple(f"class={keys[c]}" for c in ids)
    return Slices(tuple(found), np.array(list(found.values())), ids, names, len(standing))


def _crossed(
    spec: str, parts: Iterable[Mapping[str, npt.NDArray[np.bool_]]]
) -> dict[str, npt.NDArray[np.bool_]]:
    """Return the images that are in one slice of each part, without empty slices."""
    first, *others = parts
    found = dict(first)
    for part in others:
        pairs = itertools.product(found.items(), part.items())
        crossed = {f"{a},{b}": both for (a, x), (b, y) in pairs if (both := x & y).any()}
        if not crossed:
            raise InputError(f"No image is in the slice {spec!r}.", allowed=f"{', '.join(part)}, alone")
        if len(crossed) > MAX_VALUES:
            raise InputError(
                f"The slice {spec!r} has too many combinations of values.",
                got=f"{len(crossed):,}",
                allowed=f"up to {MAX_VALUES}",
                do="name a value, as in COLUMN=VALUE",
            )
        found = crossed
    return found


def slices_by_size(sets: LabelSets) -> dict[str, npt.NDArray[np.bool_]]:
    """Return a mask of the images of each slice by the size of the label set."""
    return {n: (sets.size >= low) & (sets.size <= (high or sets.n_classes)) for n, low, high in _SIZES}


def _rated(labels: Labels) -> dict[str, npt.NDArray[np.bool_]]:
    if "rated" not in labels.table.column_names:
        return {}
    rated = one_chunk(labels.table["rated"])
    if rated.null_count == len(rated):
        return {}
    yes = pc.fill_null(rated, False).to_numpy(zero_copy_only=False)
    no = pc.fill_null(pc.invert(rated), False).to_numpy(zero_copy_only=False)
    return {"rated=true": yes, "rated=false": no}


def _sizes_of_rated(
    sizes: Mapping[str, npt.NDArray[np.bool_]], rated: Mapping[str, npt.NDArray[np.bool_]]
) -> dict[str, npt.NDArray[np.bool_]]:
    """Return the rated images by size of their set, where others were not rated."""
    if not rated or not (rated["rated=true"].any() and rated["rated=false"].any()):
        return {}
    return {f"rated=true,{name}": sizes[name] & rated["rated=true"] for name, *_ in _SIZES}


def _superclasses(sets: LabelSets, classes: ClassList | None) -> dict[str, npt.NDArray[np.bool_]]:
    known = sets.label != NO_LABEL
    if classes is None or not known.any() or (classes.superclass == len(SUPERCLASSES) - 1).all():
        return {}
    superclass = np.where(known, classes.superclass[np.where(known, sets.label, 0)], -1)
    return {f"superclass={name}": superclass == i for i, name in enumerate(SUPERCLASSES)}


def _class_ids(value: str, sets: LabelSets, classes: ClassList | None) -> list[int]:
    if (sets.label == NO_LABEL).all():
        raise InputError(
            "Slices by class need original labels, but there are none.",
            do="pass original labels as `rows` or `images`",
        )
    if not value:
        return [int(c) for c in np.unique(sets.label[sets.label != NO_LABEL])]
    if classes is not None:
        return [classes.index(value)]
    if not value.isdigit() or int(value) >= sets.n_classes:
        raise InputError(
            "This is not a class.",
            got=value,
            allowed=f"0 to {sets.n_classes - 1}",
            do="pass the class list as `classes` to use keys and names",
        )
    return [int(value)]


def is_requested(name: str, requested: Iterable[str]) -> bool:
    """Return whether a slice is requested, by its own name or by that of its column or columns."""
    conditions = crossed_conditions(name)
    ways = itertools.product(*((own, parse_condition(own)[0]) for own in conditions))
    specs = {name, parse_condition(name)[0], *map(",".join, ways)}
    return any(spec in specs for spec in requested)


def column_of(name: str) -> str:
    """Return the column of a slice, such as ``n_labels``, or its columns, such as ``camera,shift``."""
    return ",".join(parse_condition(condition)[0] for condition in crossed_conditions(name))


def _column(spec: str, labels: Labels, images: Images | None) -> dict[str, npt.NDArray[np.bool_]]:
    column, _, _ = parse_condition(spec)
    columns = own_columns(images)
    if images is None or column not in columns:
        do = None if images else pass_column(column)
        if column == "label":
            do = f"the slices of original labels are called class: write {spec.replace(column, 'class', 1)}"
        if len(re.findall("[<>]", spec)) > (column != spec):  # no sign that is read, or a range of two signs
            do = "write comparisons as COLUMN>=VALUE or COLUMN<=VALUE, and ranges as COLUMN>=LOW,COLUMN<=HIGH"
        allowed = ", ".join(["class", "class=KEY", *columns])
        raise InputError(f"There is no slice {spec!r}.", allowed=allowed, do=do)
    values = column_values(column, labels.image_id, images, left_name=labels.name)
    add_column(images.name, column, values)
    found = images_with(spec, values, what="slice")
    empty = [name for name, mask in found.items() if not mask.any()]
    if empty:
        raise InputError(f"No image is in the slice {empty[0]!r}.", allowed=some_values(values))
    return found


def case_of(sets: LabelSets, predictions: Predictions, alignment: Alignment, depth: int) -> Case:
    """Return predictions and label sets of aligned images, with the top `depth` classes of dense scores."""
    in_order = len(alignment.right) == len(predictions) and ascends(alignment.right)
    predictions = predictions.in_full()

    def name(row: int) -> str:
        image = predictions.image_id[int(alignment.right[row])]
        return f"{predictions.source or predictions.model}, image {image}"

    kind, uncertainty = predictions.score_kind, predictions.uncertainty
    if uncertainty is not None and not in_order:
        uncertainty = uncertainty.take(alignment.right)
    if predictions.is_dense:
        assert predictions.scores is not None
        scores = predictions.scores if in_order else predictions.scores[alignment.right]
        best = np.asfortranarray(top_k(scores, depth))
        return Case(sets, best, scores, kind, None, name, uncertainty, predictions.link)
    assert predictions.classes is not None
    # Rows of the transpose keep it column-major.
    top = predictions.classes if in_order else predictions.classes.T.take(alignment.right, axis=1).T
    check_top_range(top, sets, predictions)
    listed = predictions.confidence()
    if listed is not None and not in_order:
        listed = listed[alignment.right]
    return Case(sets, top, None, kind, listed, name, uncertainty)


def aligned_case(
    labels: Labels, sets: LabelSets, predictions: Predictions, depth: int = 1
) -> tuple[Case, Alignment]:
    """Return the images that labels and predictions share, as a case and as rows of both."""
    check_same_classes(labels, predictions)
    name = labels.name or "the labels"
    found = align(labels.image_id, predictions.image_id, left_name=name, right_name=predictions.model)
    aligned = sets if not found.left_only else sets.take(found.left)
    return case_of(aligned, predictions, found, depth), found


@dataclass(frozen=True, eq=False)
class ModelCase:
    """Predictions of one model, with the label sets of the same images.

    Attributes
    ----------
    case : Case
        Predictions and label sets of the same images, row by row.
    rows : ndarray of int, shape (n,)
        Rows of these images in the label sets of the data set.
    """

    model: str
    case: Case
    rows: npt.NDArray[np.intp]


def model_cases(
    source: Source,
    *,
    depth: int = 1,
    trust_order: bool = False,
    thresholds: ClassThresholds | None = None,
    run: Run = QUIET,
) -> Iterator[ModelCase]:
    """Yield the models of a data set, one in memory at a time.

    Parameters
    ----------
    source : Source
        A data set, as yielded by `manyhot.data.inputs.open_inputs`.
    depth : int
        Number of top classes per image, for models with scores of all classes.
    trust_order : bool
        Whether to skip the check of the order of rows and classes.
    thresholds : ClassThresholds, optional
        Thresholds of classes, which are added to the cases.

    Raises
    ------
    MatchError, OrderError
        As in `manyhot.evaluate`. If there are several files, a file that cannot be evaluated is skipped, and
        the reason is stored in ``source.misfits``.
    """
    labels = labels_of(source)
    sets, classes = label_sets(labels), source.classes or labels.known_classes

    def beside(predictions: Predictions) -> ModelCase:
        found = _beside(labels, sets, predictions, depth, None if trust_order else source.misfits)
        if thresholds is None:
            return found
        of_classes = thresholds.of(predictions.model, classes, sets.n_classes, predictions.score_kind)
        return replace(found, case=replace(found.case, thresholds=of_classes))

    models = fitting_models(source.models(), beside, source.misfits)
    for done, (_, found) in enumerate(models, 1):
        if run.on_progress:
            run.on_progress(f"evaluating on {source.name}", done, source.n)
        yield found


def labels_of(source: Source) -> Labels:
    """Return the label sets of a data set, with its original labels."""
    return source.sets() if source.images is None else source.sets().with_labels(source.images)


def order_check_of(source: Source) -> Callable[[Predictions], object]:
    """Return a function that checks the order of a model's predictions as `model_cases` does."""
    # A campaign without label sets still has original labels.
    labelled = replace(source, campaign=None) if source.labels is None else source

    @cache
    def read_sets() -> tuple[Labels, LabelSets]:
        return (labels := labels_of(labelled)), label_sets(labels)

    return lambda predictions: _beside(*read_sets(), predictions, 1, source.misfits)


def _beside(
    labels: Labels, sets: LabelSets, predictions: Predictions, depth: int, checked: SkippedFiles | None
) -> ModelCase:
    """Return predictions with the label sets of their images; `checked` collects doubts about their order."""
    case, alignment = aligned_case(labels, sets, predictions, depth)
    if checked is not None:
        check_and_note_order(case, predictions, alignment, checked)
    return ModelCase(predictions.model, case, np.asarray(alignment.left))
