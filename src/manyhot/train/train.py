"""Train a network on images and label sets: the function of ``manyhot train``."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy import typing as npt

from manyhot.classes import ClassList, from_keys
from manyhot.command import command
from manyhot.core.sets import NO, NO_LABEL, LabelSets
from manyhot.data.table_inputs import labels_or_originals_of_file
from manyhot.errors import InputError, MatchError
from manyhot.files import sha256
from manyhot.formats import ClassNamesLike, open_class_list
from manyhot.formats.writing import PathLike, check_apart
from manyhot.parameters import NO_SETTINGS, Address, AtLeast, OptionName, Settings, Shown
from manyhot.predict.sources import DECODING, Decoding, ImagesLike, open_source
from manyhot.predict.sources.label_ids import FileSplits, labels_of_source
from manyhot.predict.sources.remote import is_pattern
from manyhot.predict.sources.source import ImageSource, short_hash
from manyhot.result import Result
from manyhot.run import QUIET, Run
from manyhot.tables import Labels
from manyhot.tables.arrays import label_sets
from manyhot.tables.label_values import LabelValues
from manyhot.train.recipe import Recipe, read_recipe, recipe_of

if TYPE_CHECKING:
    from manyhot.train.label_maps import LocalTeacher
    from manyhot.train.order import ImageOrder
    from manyhot.train.trained_part import Validation


SAVE_EVERY = 60.0
"""Seconds between two checkpoints."""


@dataclass(frozen=True, eq=False)
class TrainResult(Result):
    """A trained network.

    Attributes
    ----------
    network : Path
        The file of the network, which `manyhot.predict` accepts as the model ``trained:FILE``.
    log : Path
        CSV with a row for each epoch.
    notes, metadata, inputs, written
        As in `Result`.
    """

    network: Path
    log: Path

    def lines(self) -> Iterator[str]:
        """Yield the name of the model, and the last row of the log."""
        yield f"trained:{self.network}"
        if self.log.is_file():
            with self.log.open(newline="", encoding="utf-8") as file:
                *_, last = csv.DictReader(file)
            yield ", ".join(f"{name} {value}" for name, value in last.items())

    def to_json(self) -> dict[str, Any]:
        """Return the files and the notes."""
        return {"network": str(self.network), "log": str(self.log), "notes": self.notes}


@command(
    "train",
    streams=True,
    examples=("manyhot train photos --labels labels.parquet --set model=timm/resnet50 --set epochs=30",),
)
def train(
    images: ImagesLike,
    labels: Annotated[PathLike, OptionName("--labels"), Shown("FILE")],
    *,
    out: Annotated[PathLike, Shown("FOLDER")] = "training",
    recipe: Annotated[PathLike | Mapping[str, Any] | Recipe | None, Shown("FILE")] = None,
    settings: Settings = NO_SETTINGS,
    val_labels: Annotated[PathLike | None, Shown("FILE")] = None,
    val: Annotated[PathLike | None, Address(), Shown("IMAGES")] = None,
    features: Annotated[PathLike | None, Shown("FOLDER")] = None,
    save_every: Annotated[float, AtLeast(0)] = SAVE_EVERY,
    classes: ClassNamesLike | None = None,
    label_values: LabelValues | None = None,
    decoding: Decoding = DECODING,
    run: Run = QUIET,
) -> TrainResult:
    """Train a network on label sets. A stopped run resumes when it is started again.

    A resumed run ends with the same weights as one that was not stopped. A finished run returns immediately.
    With torchrun, several processes (one per GPU) share each batch.

    Parameters
    ----------
    images
        Images, as for predict.
    labels
        Label sets of the images to train on, or a folder with one folder per class. Images without labels are
        left out.
    out
        Folder to write to. It is created if it does not exist.
    recipe
        TOML file with settings. All settings have defaults.
    settings
        Setting that overrides the recipe, as NAME=VALUE, such as lr=0.1. The error for an unknown name lists
        all settings.
    val_labels
        Label sets of the images on which the network is evaluated after each epoch. Without `val`, it is not
        trained on these images.
    val
        Source of the images to evaluate on. By default, the source of the images to train on.
    features
        Folder for the features before the layer trained_from. Runs with the same layer can share this folder.
        By default, it is in the folder of the run.
    save_every
        Seconds between two checkpoints.
    classes
        Class list of the labels, if their file does not name one: a file with one key per line, a table with
        the columns key and name, or imagenet1k, imagenet-a or imagenet-r.
    label_values
        Meaning of the numbers in labels with one column per class, if it is ambiguous: states (0, 1 and -1),
        counts of votes for one class per image, shares of these votes, p (probabilities of classes that can
        be valid together), or yes-of-5 (how many of 5 raters answered yes; any number of raters).

    Returns
    -------
    TrainResult

    Raises
    ------
    ManyhotError
        If the input is invalid.
    """
    from manyhot.train.checkpoints import check_identity
    from manyhot.train.loop import FEATURES, TrainingJob, fit
    from manyhot.train.losses import loss_of
    from manyhot.train.trained_part import TrainingData

    out = Path(out)
    check_apart([images, labels, val, val_labels], out)
    plan = _recipe(recipe, settings)
    check_identity(out, {"recipe": plan.to_dict()})  # before images are listed
    class_list = open_class_list(classes)
    source = open_source(images, decoding=decoding)
    read = partial(labels_or_originals_of_file, label_values=label_values)
    found, matched = labels_of_source(read(labels, class_list), source)
    sets, names = label_sets(found), _classes(found, class_list)
    loss = loss_of(plan.named_loss)
    ends = loss.about["ends"]
    rows, notes = selected(sets, plan, ends, positives_only=found.positives_only)
    taught = _local_teacher(plan, found, names, ends)
    if taught is not None and (none := ~taught.mapped[rows]).any():
        rows = rows[~none]
        notes.append(f"{none.sum():,} images without a label map are left out")
    judged = _labels_to_judge_by(read, val_labels, class_list, found, names)
    chosen, held_out = rows, list[str]()
    if judged is not None and (val is None or str(val) == str(images)):
        rows, held_out = _held_out(rows, found, labels_of_source(judged, source)[0])
    notes += held_out
    order, missing = _images(source, found, rows, out, plan)
    identity = {
        "recipe": plan.to_dict(),
        "labels": _digest(labels, found),
        "classes": names.hash,
        "source": source.fingerprint,
        "order": order.name,
        "plug_ins": loss.version,
        **({"label_values": label_values} if label_values else {}),
        **({"maps": sha256(plan.maps)} if plan.maps else {}),
    }
    left_out = found.image_id.take(pa.array(np.setdiff1d(chosen, rows))).to_pylist()
    identity["held_out"] = short_hash(left_out) if left_out else ""
    validation, matched_val = _validation(val or images, judged, decoding)
    data = TrainingData(
        order=order,
        labels=sets,
        classes=names,
        ids=found.image_id.to_pylist(),
        features=out / FEATURES if features is None else Path(features),
        taught=taught,
    )
    job = TrainingJob(
        data=data,
        recipe=plan,
        out=out,
        validation=validation,
        identity=identity,
        save_every=save_every,
        run=run,
        notes=[*filter(None, (matched.text, matched_val)), *found.notes, *source.notes, *notes, *missing],
    )
    network = fit(job)
    log = network.with_name("log.csv")
    if os.environ.get("RANK", "0") != "0":  # the first process of torchrun reports what was written
        return TrainResult(network, log)
    run.event("result", {"model": plan.model, "written": [network, log]})
    return TrainResult(network, log, written=(network, log))


def _local_teacher(plan: Recipe, labels: Labels, classes: ClassList, ends: str) -> LocalTeacher | None:
    """Return the targets of crops, if the recipe names label maps."""
    if plan.teach != "maps":
        return None
    from manyhot.train.label_maps import localised

    if ends != "softmax":
        raise InputError(
            "Label maps give shares of classes, which need a loss that ends in a softmax.",
            got=plan.named_loss,
            do="use the loss softmax, or other targets",
        )
    return localised(plan.maps, labels.image_id.to_pylist(), classes)


def _digest(path: PathLike, labels: Labels) -> str:
    """Return a hash of a file of labels, or of the labels in a folder."""
    if not Path(path).is_dir():
        return sha256(path)
    columns = [name for name in ("image_id", "label", "classes") if name in labels.table.column_names]
    rows = zip(*(labels.table[name].to_pylist() for name in columns), strict=True)
    return hashlib.sha256(json.dumps([labels.class_hash, *rows]).encode()).hexdigest()


def _recipe(recipe: PathLike | Mapping[str, Any] | Recipe | None, settings: Mapping[str, Any]) -> Recipe:
    """Return the recipe with settings that replace its own."""
    if isinstance(recipe, Recipe):
        recipe = recipe.to_dict()
    own = recipe if isinstance(recipe, Mapping) else {} if recipe is None else read_recipe(recipe)
    return recipe_of({**own, **settings}, None if isinstance(recipe, Mapping) else recipe)


def _classes(labels: Labels, class_list: ClassList | None) -> ClassList:
    """Return the class list of the labels; their numbers if it is unknown."""
    known = class_list or labels.known_classes
    return known or from_keys([str(i) for i in range(labels.n_classes)], labels.name)


def _images(
    source: ImageSource, labels: Labels, rows: Any, out: Path, plan: Recipe
) -> tuple[ImageOrder, list[str]]:
    """Return the images that have labels, and a note on labels without an image."""
    from manyhot.train.batches import collect_images, memory_share

    ids = labels.image_id.take(pa.array(rows)).to_pylist()
    _check_one_split(source, ids)
    wanted = dict(zip(ids, rows.tolist(), strict=True))
    order = collect_images(source, wanted, _earlier_order(out) or plan.order, plan.buffer, memory_share())
    missing = len(wanted) - order.n
    if not missing:
        return order, []
    return order, [f"{missing:,} of {len(wanted):,} images with labels are not in the source"]


def _check_one_split(source: ImageSource, ids: Collection[str]) -> None:
    """Raise an error if images of several splits of a folder would be trained on. A pattern names its files.

    Raises
    ------
    InputError
        If images to train on are in files of several splits.
    """
    splits, wanted = FileSplits(source), set(ids)
    if is_pattern(source.uri) or not splits.names[1:]:
        return
    trained = [n for n in splits.names if any(item.image_id in wanted for item in splits.items_of(n))]
    if trained[1:]:
        raise InputError(
            "The images to train on belong to several splits.",
            where=source.uri,
            got=f"labels of images in {', '.join(trained)}",
            allowed="one split, so that the others remain for evaluation",
            do=f"pass the files of one split as `images`, such as '{splits.example}', or, to train on all, a "
            "pattern of all files",
        )


def _earlier_order(out: Path) -> str:
    """Return the order of the run in a folder: it must not change with the free memory."""
    try:
        return str(json.loads((out / "run.json").read_text(encoding="utf-8"))["order"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _labels_to_judge_by(
    read: Callable[[PathLike, ClassList | None], Labels],
    path: PathLike | None,
    classes: ClassList | None,
    trained: Labels,
    names: ClassList,
) -> Labels | None:
    """Return the labels to evaluate with, over the class list of the labels to train on."""
    if path is None:
        return None
    found = read(path, classes)
    listed = found.known_classes
    if found.class_hash != trained.class_hash and listed and sorted(listed.keys) == sorted(names.keys):
        found = read(path, names)  # another order of the same names
    if found.class_hash != trained.class_hash or found.n_classes != trained.n_classes:
        raise MatchError(
            "The labels for evaluation and for training have different classes.",
            where=path,
            got=_in_words(found, listed),
            allowed=_in_words(trained, classes or trained.known_classes),
            do="use the same class list for both: pass it as `classes`",
        )
    return found


def _in_words(labels: Labels, classes: ClassList | None) -> str:
    """Return the number of classes and the first of them, or their hash if they are unknown."""
    first = f"class list {labels.class_hash or 'unknown'}" if classes is None else ", ".join(classes.keys[:5])
    return f"{labels.n_classes:,} classes: {first}{', …' * (classes is not None and len(classes) > 5)}"


def _held_out(
    rows: npt.NDArray[np.int64], labels: Labels, judged: Labels
) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Return the rows without the images to evaluate on, and a note if there are any."""
    is_judged = pc.is_in(labels.image_id, judged.image_id).to_numpy(zero_copy_only=False)[rows]
    if not is_judged.any():
        return rows, []
    if is_judged.all():
        raise InputError(
            "All images to train on are also images to evaluate on.",
            where=judged.name or None,
            got=f"the {len(rows):,} images of the labels to train on",
            do="divide the labels into images to train on and images to evaluate on",
        )
    n = int(is_judged.sum())
    return rows[~is_judged], [f"{n:,} images with labels are used for evaluation, so they are not trained on"]


def _validation(source: PathLike, judged: Labels | None, decoding: Decoding) -> tuple[Validation | None, str]:
    """Return the images to evaluate on, and how their labels were matched if ids differ."""
    if judged is None:
        return None, ""
    from manyhot.train.batches import collect_images, memory_share
    from manyhot.train.order import Everything
    from manyhot.train.trained_part import Validation

    images = open_source(source, decoding=decoding)
    found, matched = labels_of_source(judged, images)
    wanted = {name: row for row, name in enumerate(found.image_id.to_pylist())}
    order = collect_images(images, wanted, "all", 1, memory_share() // 4)
    assert isinstance(order, Everything)
    return Validation(order.openers, label_sets(found).take(np.array(order.rows)), order.key), matched.text


def selected(
    labels: LabelSets, recipe: Recipe, ends: str, *, positives_only: bool = False
) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Return the rows that a recipe trains on, and notes on the other rows and on unanswered pairs.

    `positives_only` is as in `manyhot.tables.Labels`.

    Raises
    ------
    InputError
        If no row is left, or if a softmax would have to learn from images without a class.
    """
    if recipe.teach == "label" and not labels.labelled.any():
        raise InputError(
            "There are no original labels to train on.",
            got="label sets alone",
            do="pass labels that contain the original labels, such as the folder with one folder per class, "
            "or set `teach` to 'sets'",
        )
    if recipe.teach != "sets":  # original labels and votes of undecided images can be learned
        labels = replace(labels, usable=labels.counted, undecided=None)
    empty = labels.usable & _empty(labels, recipe, ends)
    skips = recipe.empty == "skip" or recipe.teach == "label"
    if ends == "softmax" and not skips and empty.any():
        raise InputError(
            "A softmax cannot learn that an image has no class.",
            got=f"{int(empty.sum()):,} images without one",
            do="set `empty` to 'skip', or use a loss that ends in a sigmoid, such as bce",
        )
    rows = np.flatnonzero(labels.usable & ~empty if skips else labels.usable)
    if not len(rows):
        raise InputError(
            "No images are left to train on.",
            got=", ".join(_left_out(labels, empty, recipe, ends)) or "no labels",
            do="set `empty` to 'no' to train on images without a class" if empty.any() else None,
        )
    unasked = _not_asked(labels.take(rows), recipe, ends, positives_only)
    return rows, [*_left_out(labels, empty, recipe, ends), *unasked]


def _not_asked(labels: LabelSets, recipe: Recipe, ends: str, positives_only: bool) -> Iterator[str]:
    """Yield how many pairs count as absent although others were asked about and these were not."""
    asks = recipe.teach == "sets" and ends == "sigmoid" and recipe.not_asked == "no" and not labels.complete
    n = len(labels) * labels.n_classes - len(labels.state)
    has_no = (labels.state == NO).any()
    if asks and n and (has_no or positives_only):
        do = "set `not_asked` to 'mask' to leave them out"
        if not has_no:
            do = (
                "the labels contain no negatives, so 'mask' would leave no class absent: set `loss` to one "
                "that expects further classes, such as epr, role or em"
            )
        pairs = f"{n:,} of {len(labels) * labels.n_classes:,} (image, class) pairs"
        yield f"{pairs}, which no rater was asked about, are trained as absent; {do}"


def _empty(labels: LabelSets, recipe: Recipe, ends: str) -> npt.NDArray[np.bool_]:
    """Return which images have no class to learn from, nor only answers of no under a sigmoid."""
    if recipe.teach == "maps":
        return np.zeros(len(labels), bool)
    if recipe.teach == "label":
        return np.asarray(labels.label == NO_LABEL)
    if recipe.teach == "soft" and labels.p is not None:
        total = np.bincount(labels.rows, np.nan_to_num(labels.p), minlength=len(labels))
        return np.asarray(total <= 0)
    return np.asarray(labels.size == 0) & ~_teaches_absence(labels, recipe, ends)


def _teaches_absence(labels: LabelSets, recipe: Recipe, ends: str) -> npt.NDArray[np.bool_]:
    """Return on which images all that is learned are answers, some of them no: under a sigmoid."""
    if recipe.teach != "sets" or ends != "sigmoid":
        return np.zeros(len(labels), bool)
    if labels.complete:
        return np.ones(len(labels), bool)
    answered = _answered_no(labels)
    if recipe.not_asked != "mask":
        answered &= np.bincount(labels.rows, minlength=len(labels)) == labels.n_classes
    return answered


def _answered_no(labels: LabelSets) -> npt.NDArray[np.bool_]:
    return np.asarray(np.bincount(labels.rows[labels.state == NO], minlength=len(labels)) > 0)


def _left_out(labels: LabelSets, empty: npt.NDArray[np.bool_], recipe: Recipe, ends: str) -> Iterator[str]:
    if (bad := int((~labels.counted).sum())) > 0:
        yield f"{bad:,} images that are not usable are left out"
    if (n_undecided := int((labels.counted & ~labels.usable).sum())) > 0:
        yield f"{n_undecided:,} images whose class is undecided are left out"
    skips = recipe.empty == "skip" or recipe.teach == "label"
    n, n_answered = int(empty.sum()), 0
    if skips and recipe.teach == "sets" and ends == "sigmoid":
        n_answered = int((empty & _answered_no(labels)).sum())
    if n > n_answered:
        done = "are left out" if skips else "count as without any"
        yield f"{n - n_answered:,} images without a class {done}"
    if n_answered:
        yield (
            f"{n_answered:,} images are left out, because no class was answered yes, and not all were "
            "answered no; set `not_asked` to 'mask' to train on their answers"
        )
