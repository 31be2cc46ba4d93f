"""Train a network on images and label sets: the function of ``manyhot train``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot.classes import ClassList, class_list_of, from_keys
from manyhot.core.sets import NO_LABEL, LabelSets
from manyhot.errors import InputError, MatchError
from manyhot.files import sha256
from manyhot.formats import read_classes, read_labels
from manyhot.formats.writing import PathLike, check_apart
from manyhot.predict.run import Notify
from manyhot.predict.sources import open_source
from manyhot.predict.sources.base import ImageSource
from manyhot.tables import Labels
from manyhot.tables.sets import label_sets
from manyhot.train.recipe import Recipe, read_recipe, recipe_of

if TYPE_CHECKING:
    from manyhot.train.label_maps import LocalTeacher
    from manyhot.train.order import ImageOrder
    from manyhot.train.trained_part import Validation


SAVE_EVERY = 60.0
"""Seconds between two checkpoints."""


def train_files(
    source: PathLike,
    labels: PathLike,
    out: PathLike = "training",
    *,
    recipe: PathLike | Mapping[str, Any] | Recipe | None = None,
    classes: PathLike | None = None,
    settings: Mapping[str, Any] | None = None,
    val: PathLike | None = None,
    val_labels: PathLike | None = None,
    features: PathLike | None = None,
    save_every: float = SAVE_EVERY,
    call: str = "",
    notify: Notify | None = None,
) -> Path:
    """Train a network on images and their label sets; ``trained:OUT/model.safetensors`` is a model then.

    A run that was killed goes on where it was, and ends with the same weights; one that is finished returns
    at once. Started by ``torchrun``, several processes share each batch.

    Parameters
    ----------
    source : path-like
        See `manyhot.predict.sources.open_source`.
    labels : path-like
        Label sets of the images to train on; other images of the source are left out.
    out : path-like
        The folder that is written into.
    recipe : path-like, mapping or Recipe, optional
        Settings: a TOML file, or as they are.
    classes : path-like, optional
        Class list of the labels, where the file does not tell: a file, or the name of one that is known.
    settings : Mapping, optional
        Some that count instead of the recipe's.
    val_labels : path-like, optional
        Label sets of images to judge by after each epoch.
    val : path-like, optional
        The source of these images; by default `source`.
    features : path-like, optional
        A folder in which runs that train from the same layer on share what comes before; by default one in
        `out`.
    save_every : float
        Seconds between two checkpoints.
    notify : callable, optional
        Called with the kind of an event and its details.

    Returns
    -------
    Path
        The network.

    Raises
    ------
    ManyhotError
        For each kind of bad input.
    """
    from manyhot.train.loop import TrainingJob, fit
    from manyhot.train.losses import loss_of

    out = Path(out)
    check_apart([source, labels, val, val_labels], out)
    plan = _recipe(recipe, settings)
    class_list = None if classes is None else read_classes(classes)
    found = read_labels(labels, classes=class_list)
    sets, names, images = label_sets(found), _classes(found, class_list), open_source(source)
    ends = loss_of(plan.named_loss).about["ends"]
    rows, notes = selected(sets, plan, ends)
    taught = _local_teacher(plan, found, names, ends)
    if taught is not None:
        none = ~taught.mapped[rows]
        rows = rows[~none]
        if none.any():
            notes.append(f"{none.sum():,} images without a label map are left out")
    order, missing = _images(images, found, rows, out, plan)
    identity = {
        "recipe": plan.to_dict(),
        "labels": sha256(labels),
        "classes": names.hash,
        "source": images.fingerprint,
        "order": order.name,
    }
    if plan.maps:
        identity["maps"] = sha256(plan.maps)
    job = TrainingJob(
        data=order,
        labels=sets,
        classes=names,
        recipe=plan,
        out=out,
        ids=found.image_id.to_pylist(),
        validation=_validation(val or source, val_labels, class_list, found),
        identity=identity,
        taught=taught,
        features=None if features is None else Path(features),
        save_every=save_every,
        call=call,
        notify=notify,
        notes=[*notes, *missing],
    )
    return fit(job)


def _local_teacher(plan: Recipe, labels: Labels, classes: ClassList, ends: str) -> LocalTeacher | None:
    """Return what teaches crops, where the recipe names label maps."""
    if plan.teach != "maps":
        return None
    from manyhot.train.label_maps import localised

    if ends != "softmax":
        raise InputError(
            "Label maps tell shares of classes, for a loss that ends in a softmax.",
            got=plan.named_loss,
            do="take softmax, or teach something else",
        )
    return localised(plan.maps, labels.image_id.to_pylist(), classes)


def _recipe(
    recipe: PathLike | Mapping[str, Any] | Recipe | None, settings: Mapping[str, Any] | None
) -> Recipe:
    """Return the recipe with the settings that count instead of its own."""
    if isinstance(recipe, Recipe):
        recipe = recipe.to_dict()
    own = recipe if isinstance(recipe, Mapping) else {} if recipe is None else read_recipe(recipe)
    return recipe_of({**own, **(settings or {})}, None if isinstance(recipe, Mapping) else recipe)


def _classes(labels: Labels, class_list: ClassList | None) -> ClassList:
    """Return what the classes of labels are called; their numbers where nobody knows."""
    known = class_list_of(labels.class_hash) if labels.class_hash else None
    return class_list or known or from_keys([str(i) for i in range(labels.n_classes)], labels.name)


def _images(
    source: ImageSource, labels: Labels, rows: Any, out: Path, plan: Recipe
) -> tuple[ImageOrder, list[str]]:
    """Return the images that have labels, and a note on labels without an image."""
    from manyhot.train.batches import collect_images, memory_share

    ids = labels.image_id.take(pa.array(rows)).to_pylist()
    wanted = dict(zip(ids, rows.tolist(), strict=True))
    order = collect_images(source, wanted, _earlier_order(out) or plan.order, plan.buffer, memory_share())
    missing = len(wanted) - order.n
    if not missing:
        return order, []
    return order, [f"{missing:,} of {len(wanted):,} images with labels are not in the source"]


def _earlier_order(out: Path) -> str:
    """Return the order of the run that a folder holds: it may not change with the memory that is free."""
    try:
        return str(json.loads((out / "run.json").read_text(encoding="utf-8"))["order"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _validation(
    source: PathLike, labels: PathLike | None, classes: ClassList | None, trained: Labels
) -> Validation | None:
    """Return the images to judge by."""
    if labels is None:
        return None
    from manyhot.train.batches import collect_images, memory_share
    from manyhot.train.order import Everything
    from manyhot.train.trained_part import Validation

    found = read_labels(labels, classes=classes)
    own, other = (t.class_hash or f"{t.n_classes} classes" for t in (found, trained))
    if own != other:
        raise MatchError(
            "The labels to judge by have other classes than those to train on.",
            where=labels,
            got=own,
            allowed=other,
            do="give both over the same class list",
        )
    wanted = {name: row for row, name in enumerate(found.image_id.to_pylist())}
    order = collect_images(open_source(source), wanted, "all", 1, memory_share() // 4)
    assert isinstance(order, Everything)
    return Validation(order.openers, label_sets(found).take(np.array(order.rows)), order.key)


def selected(labels: LabelSets, recipe: Recipe, ends: str) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Return the rows that a recipe trains on, and what there is to tell of the others.

    Raises
    ------
    InputError
        No row is left, or images without a class shall be negatives of a softmax.
    """
    empty = labels.usable & _empty(labels, recipe)
    skips = recipe.empty == "skip" or recipe.teach == "label"
    if ends == "softmax" and not skips and empty.any():
        raise InputError(
            "A softmax cannot learn that an image has no class.",
            got=f"{int(empty.sum()):,} images without one",
            do="set empty to 'skip', or take a loss that ends in a sigmoid, such as bce",
        )
    rows = np.flatnonzero(labels.usable & ~empty if skips else labels.usable)
    if not len(rows):
        raise InputError(
            "No image is left to train on.",
            got=", ".join(_left_out(labels, empty, skips)) or "no labels",
            do="set empty to 'no': these images are then without any class" if empty.any() else None,
        )
    return rows, list(_left_out(labels, empty, skips))


def _empty(labels: LabelSets, recipe: Recipe) -> npt.NDArray[np.bool_]:
    """Return which images have no class."""
    if recipe.teach == "maps":
        return np.zeros(len(labels), bool)
    if recipe.teach == "label":
        return np.asarray(labels.label == NO_LABEL)
    if recipe.teach == "soft" and labels.p is not None:
        total = np.bincount(labels.rows, np.nan_to_num(labels.p), minlength=len(labels))
        return np.asarray(total <= 0)
    return np.asarray(labels.size == 0)


def _left_out(labels: LabelSets, empty: npt.NDArray[np.bool_], skips: bool) -> Iterator[str]:
    if (bad := int((~labels.usable).sum())) > 0:
        yield f"{bad:,} images that are not usable are left out"
    if (n := int(empty.sum())) > 0:
        yield f"{n:,} images without a class " + ("are left out" if skips else "count as without any")
