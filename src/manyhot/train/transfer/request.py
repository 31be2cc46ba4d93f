"""The settings of `manyhot.transfer`, and the labels, objects and masks that it reads."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot.classes import ClassList, from_keys
from manyhot.data.reading_options import ObjectsLike
from manyhot.data.table_inputs import open_objects
from manyhot.errors import InputError, MatchError
from manyhot.evaluate.result_rows import Note
from manyhot.files import write_text
from manyhot.formats import ClassNamesLike, open_class_list, read_labels_or_originals
from manyhot.formats.writing import PathLike
from manyhot.predict.model_names import check_names_differ, distinct_models
from manyhot.predict.models import find_backbone, model_of_head
from manyhot.predict.network import Network
from manyhot.predict.sources.label_ids import labels_of_source
from manyhot.predict.sources.source import ImageSource, select_images
from manyhot.predict.weights import Head, write_head
from manyhot.run import Run
from manyhot.tables import Labels, Objects, predictions_file_name, write_labels
from manyhot.tables.arrays import States, original_labels, states_of_labels
from manyhot.tables.label_values import LabelValues
from manyhot.train.mitigate.held_out import states_and_labels
from manyhot.train.order import HeldOut
from manyhot.train.transfer.methods import TransferMethod
from manyhot.train.transfer.tally import Draws, TransferLabels, TransferTally

SPLIT = "split.csv"
"""The table of the images that were held out, and those that heads were fitted on."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TransferRequest:
    """The checked settings of `manyhot.transfer`, and the notes on its result.

    Attributes
    ----------
    models : Mapping of str to str
        The model of each backbone, as in ``manyhot predict --model``, keyed by the name of the backbone;
        empty if the two are equal.
    draws : Draws
        Options of the resamples, which are drawn once the number of images is known.
    heads : list of str
        The names of the heads that were written, as in ``manyhot predict --model``.
    written : list of Path
        The files of heads, and the split.
    """

    source: ImageSource
    models: Mapping[str, str]
    out: Path
    method: TransferMethod
    held: HeldOut
    draws: Draws
    engine: str
    run: Run
    notes: list[Note] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    written: list[Path] = field(default_factory=list)

    @property
    def dataset(self) -> str:
        """The name of the data set."""
        path = Path(self.source.uri)
        return path.parent.name if path.stem == "images" and path.parent.name else path.stem

    def networks(self) -> Iterator[tuple[str, Network]]:
        """Yield the model name of each backbone, as in ``--model``, and its network."""
        seen: list[str] = []
        specs = distinct_models(spec or name for name, spec in self.models.items())
        for (name, spec), distinct in zip(self.models.items(), specs, strict=True):
            network = find_backbone(distinct)
            network = replace(network, name=name) if spec else network
            seen.append(network.name)
            check_names_differ(seen)
            yield spec or name, network

    def note(self, kind: str, n: int, text: str, model: str = "") -> None:
        """Add a note about the results unless it was added before."""
        note = Note(self.dataset, model, kind, n, text)
        if note not in self.notes:
            self.notes.append(note)

    def keep(self, head: Head, name: str, labels: TransferLabels) -> None:
        """Write the head of a backbone, and the table of held-out images."""
        path = self.out / "heads" / Path(predictions_file_name(name)).with_suffix(".safetensors")
        self.written.append(write_head(head, path, call=self.run.call))
        self.heads.append(model_of_head(path, head.backbone))
        if len(self.heads) == 1:
            rows = zip(labels.names, np.where(labels.held, "test", "train"), strict=True)
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows([("image_id", "split"), *rows])
            write_text(self.out / SPLIT, text.getvalue())
            self.written.append(self.out / SPLIT)

    def note_skipped(self, reasons: Mapping[str, str]) -> None:
        """Add a note on the number of skipped images, with the first image and why it was skipped."""
        if reasons:
            name, reason = next(iter(reasons.items()))
            n = len(reasons)
            self.note("images_skipped", n, f"skipped: {n:,}, such as {name} ({reason})")

    def tally(self, n: int) -> TransferTally:
        """Return an empty table of results on the n held-out images."""
        return TransferTally(self.dataset, self.method.name, n, replace(self.draws, n=n))

    def on_maps(self, model: str) -> Callable[[int, int], None]:
        """Return a callback for the progress of computing feature maps."""
        return lambda n, of: self.run.event("features", {"model": model, "images": n, "of": of})

    def on_epoch(self, model: str) -> Callable[[int, int, float], None]:
        """Return a callback for epochs."""
        return lambda n, of, loss: self.run.event(
            "epoch", {"model": model, "epoch": n, "of": of, "loss": loss}
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class TransferInputs:
    """The labels, objects and masks that a method needs.

    Attributes
    ----------
    labels : Labels, optional
    objects : Objects, optional
    masks : Path, optional
    class_file : path-like, ClassList or list of str, optional
        The class list, as passed.
    """

    classes: ClassList
    labels: Labels | None
    objects: Objects | None
    masks: Path | None
    class_file: ClassNamesLike | None

    @classmethod
    def read(
        cls,
        method: str,
        *,
        labels: PathLike | None,
        objects: ObjectsLike | None,
        masks: PathLike | None,
        classes: ClassNamesLike | None,
        label_values: LabelValues | None,
    ) -> TransferInputs:
        """Read what a method needs.

        Raises
        ------
        InputError
            If a required input is missing.
        """
        class_list = open_class_list(classes)
        _check_inputs(method, labels, objects, masks, class_list)
        found = None if objects is None else open_objects(objects, class_list)
        read = partial(read_labels_or_originals, classes=class_list, label_values=label_values)
        own = None if labels is None else read(labels)
        if class_list is None:
            class_list = _named_by(found, None if found and method == "segmentation" else own)
        return cls(
            classes=class_list,
            labels=own,
            objects=found,
            masks=None if masks is None else Path(masks),
            class_file=classes,
        )

    def matched(self, request: TransferRequest) -> TransferInputs:
        """Return the inputs with image ids as in the source; add a note if the labels had different ids."""
        if self.labels is None:
            return self
        labels, like = labels_of_source(self.labels, request.source)
        if like.n:
            request.note("matched", like.n, like.text)
        return replace(self, labels=labels)

    def states(self) -> tuple[States, npt.NDArray[np.integer]]:
        """Return label sets and original labels."""
        if self.labels is None:
            assert self.objects is not None
            return states_and_labels(self.objects, None, self.classes)
        return states_of_labels(self.labels, self.classes), original_labels(self.labels)

    def labels_of(self, names: Collection[str], path: Path) -> Path:
        """Write the labels of some images."""
        assert self.labels is not None
        inside = pa.array([name in names for name in self.labels.image_id.to_pylist()])
        return write_labels(replace(self.labels, table=self.labels.table.filter(inside)), path)


def _named_by(objects: Objects | None, labels: Labels | None) -> ClassList:
    if labels is not None:
        class_list = labels.known_classes
        return class_list or from_keys([str(i) for i in range(labels.n_classes)], labels.name)
    assert objects is not None
    return from_keys(objects.keys, objects.name)


def _check_inputs(method: str, labels: Any, objects: Any, masks: Any, classes: ClassList | None) -> None:
    if method == "detection" and objects is None:
        raise InputError("Detection needs objects.", do="pass a table of boxes as `objects`")
    if method == "segmentation" and masks is None:
        raise InputError(
            "Segmentation needs masks.", do="pass a folder of PNGs, or a table with mask_png, as `masks`"
        )
    if method == "segmentation" and objects is None and classes is None:
        raise InputError("The classes of the masks are unknown.", do="pass `classes` or `objects`")
    if method == "multilabel" and labels is None and objects is None:
        raise InputError("The method multilabel needs labels or objects.", do="pass `labels` or `objects`")
    if method in ("knn", "probe", "few-shot", "fine-tune") and labels is None:
        raise InputError(f"The method {method} needs labels.", do="pass them as `labels`")


def labelled_images(request: TransferRequest, image_ids: Sequence[str]) -> ImageSource:
    """Return a source of the images that have labels, objects or masks.

    Raises
    ------
    MatchError
        If none of the images has labels, objects or masks.
    """
    there = {item.image_id for part in request.source.parts for item, _ in part.items()}
    both = there & set(image_ids)
    if not both:
        raise MatchError(
            "None of the images has labels, objects or masks.",
            where=request.source.uri,
            got=f"images such as {min(there, default='none')}",
            allowed=f"labels of images such as {min(image_ids, default='none: there are no labels')}",
            do="check that both belong to the same data set",
        )
    unknown, absent = len(there - both), len(set(image_ids) - both)
    for kind, n, text in (
        (
            "images_unknown",
            unknown,
            "images of the source are skipped, because they have no labels, objects or masks",
        ),
        ("images_absent", absent, "images with labels, objects or masks are not in the source"),
    ):
        if n:
            request.note(kind, n, f"{n:,} {text}")
    return select_images(request.source, both)
