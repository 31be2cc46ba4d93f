"""The images that a transfer trains and is judged on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot.classes import ClassList, class_list_of, from_keys
from manyhot.errors import InputError, MatchError
from manyhot.evaluate.results import Note
from manyhot.formats import read_classes, read_labels, read_objects
from manyhot.formats.writing import PathLike
from manyhot.predict.find import find_backbone
from manyhot.predict.network import Network
from manyhot.predict.run import Notify
from manyhot.predict.sources.altered import select_images
from manyhot.predict.sources.base import ImageSource
from manyhot.tables import Labels, Objects, write_labels
from manyhot.tables.sets import States, original_labels, states_of_labels
from manyhot.train.mitigate.treatment import known_of
from manyhot.train.splits import HeldBy
from manyhot.train.transfer.measure import Draws, Tally


@dataclass(frozen=True, eq=False)
class Told:
    """What a run is told, whatever the method.

    Attributes
    ----------
    models : Mapping of str to str
        By name, how each is called; empty where the name says so.
    """

    source: ImageSource
    models: Mapping[str, str]
    out: Path
    method: str
    plan: Any
    held: HeldBy
    seed: int
    resamples: int
    engine: str
    call: str
    notify: Notify | None
    train_backbone: bool
    notes: list[Note] = field(default_factory=list)

    @property
    def dataset(self) -> str:
        """What the data set is called."""
        path = Path(self.source.uri)
        return path.parent.name if path.stem == "images" and path.parent.name else path.stem

    def networks(self) -> Iterator[tuple[str, Network]]:
        """Yield how each backbone is called on the command line, and its network."""
        seen: set[str] = set()
        for name, spec in self.models.items():
            network = find_backbone(spec or name)
            network = replace(network, name=name) if spec else network
            if network.name in seen:
                raise InputError(
                    "Two backbones have the same name.",
                    got=network.name,
                    do="rename the folder of one, or give names from Python: models={'mine': …}",
                )
            seen.add(network.name)
            yield spec or name, network

    def note(self, kind: str, n: int, text: str, model: str = "") -> None:
        """Note what the reader of the numbers must know, once."""
        note = Note(self.dataset, model, kind, n, text)
        if note not in self.notes:
            self.notes.append(note)

    def note_skipped(self, reasons: Mapping[str, str]) -> None:
        """Note which images were left out, and why the first of them was."""
        if reasons:
            name, reason = next(iter(reasons.items()))
            n = len(reasons)
            self.note("images_skipped", n, f"left out: {n:,}, such as {name} ({reason})")

    def tally(self, known_held: int, judged: int) -> Tally:
        """Return what collects the numbers."""
        return Tally(self.dataset, self.method, known_held, Draws(judged, self.resamples, self.seed))

    def computed(self, model: str) -> Callable[[int, int], None]:
        """Return what tells of images whose maps are computed."""
        tell = self.notify or (lambda *_: None)
        return lambda n, of: tell("features", {"model": model, "images": n, "of": of})

    def epochs(self, model: str) -> Callable[[int, int, float], None]:
        """Return what tells of epochs."""
        tell = self.notify or (lambda *_: None)
        return lambda n, of, loss: tell("epoch", {"model": model, "epoch": n, "of": of, "loss": loss})


@dataclass(frozen=True, eq=False)
class Given:
    """What is known of the data set."""

    classes: ClassList
    labels: Labels | None
    objects: Objects | None
    masks: Path | None
    path: PathLike | None

    @classmethod
    def read(
        cls,
        method: str,
        labels: PathLike | None,
        objects: PathLike | None,
        masks: PathLike | None,
        classes: PathLike | None,
    ) -> Given:
        """Read what a method needs.

        Raises
        ------
        InputError
            It is not there.
        """
        given = None if classes is None else read_classes(classes)
        _check_given(method, labels, objects, masks, given)
        found = None if objects is None else read_objects(objects, classes=given)
        own = None if labels is None else read_labels(labels, classes=given)
        if given is None:
            given = _named_by(found, None if found and method == "segmentation" else own)
        return cls(given, own, found, None if masks is None else Path(masks), classes)

    def states(self) -> tuple[States, npt.NDArray[np.integer]]:
        """Return label sets and original labels."""
        if self.labels is None:
            assert self.objects is not None
            return known_of(self.objects, None, self.classes)
        return states_of_labels(self.labels, self.classes), original_labels(self.labels)

    def labels_of(self, names: Collection[str], path: Path) -> Path:
        """Write the labels of some images."""
        assert self.labels is not None
        inside = pa.array([name in names for name in self.labels.image_id.to_pylist()])
        return write_labels(replace(self.labels, table=self.labels.table.filter(inside)), path)


def _named_by(objects: Objects | None, labels: Labels | None) -> ClassList:
    if labels is not None:
        known = class_list_of(labels.class_hash)
        return known or from_keys([str(i) for i in range(labels.n_classes)], labels.name)
    assert objects is not None
    return from_keys(objects.keys, objects.name)


def _check_given(method: str, labels: Any, objects: Any, masks: Any, classes: ClassList | None) -> None:
    if method == "detection" and objects is None:
        raise InputError("Detection needs objects.", do="give a table of boxes with --objects")
    if method == "segmentation" and masks is None:
        raise InputError(
            "Segmentation needs masks.", do="give a folder of PNGs, or a table with mask_png, with --masks"
        )
    if method == "segmentation" and objects is None and classes is None:
        raise InputError("Nothing tells the classes of the masks.", do="give --classes, or --objects")
    if method == "multilabel" and labels is None and objects is None:
        raise InputError("Nothing tells what is in the images.", do="give --labels or --objects")
    if method in ("knn", "probe", "few-shot", "fine-tune") and labels is None:
        raise InputError(f"The method {method} needs labels.", do="give them with --labels")


def some_images(told: Told, wanted: Sequence[str]) -> ImageSource:
    """Return a source of those images that something is known of.

    Raises
    ------
    MatchError
        There are none.
    """
    there = {item.image_id for part in told.source.parts for item, _ in part.items()}
    both = there & set(wanted)
    if not both:
        raise MatchError(
            "None of the images is one that something is known of.",
            where=told.source.uri,
            got=f"images such as {min(there, default='none')}",
            allowed=f"such as {min(wanted, default='none: nothing is known')}",
            do="check that both are of the same data set",
        )
    for kind, n, text in (
        ("images_unknown", len(there - both), "images of the source were left out: nothing is known of them"),
        ("images_absent", len(set(wanted) - both), "images that something is known of are not in the source"),
    ):
        if n:
            told.note(kind, n, f"{n:,} {text}")
    return select_images(told.source, both)
