"""Features of original and altered images: objects removed, or pasted in."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import parquet as pq

from manyhot import tables
from manyhot.classes import from_keys
from manyhot.diagnose.page import RunProgress
from manyhot.diagnose.pixels.removal import Cutting, Pasting, Removal, cuttings, fingerprint
from manyhot.formats import read_predictions
from manyhot.predict.decode import decode
from manyhot.predict.engines import EngineChoice
from manyhot.predict.network import Network
from manyhot.predict.parts import NoneLeftError
from manyhot.predict.run import PredictSettings
from manyhot.predict.run import run as predict_source
from manyhot.predict.sources.source import ImageSource, alter_images
from manyhot.predict.weights import Head
from manyhot.run import Run
from manyhot.tables import Objects, predictions_file_name
from manyhot.train.heads import fit_sigmoid, fit_softmax
from manyhot.train.mitigate.held_out import Added, MitigationLabels, Pair, treatment_note

DONORS = 50
"""Objects that are cut out to be pasted."""


Features = npt.NDArray[np.float16]


@dataclass(eq=False)
class FeatureExtractor:
    """Computes the features of original and altered images with one engine, which is chosen once."""

    source: ImageSource
    network: Network
    objects: Objects
    out: Path
    settings: PredictSettings
    run: Run
    skipped: list[str] = field(default_factory=list)
    choice: EngineChoice | None = None

    @cached_property
    def progress(self) -> RunProgress:
        """The progress over all images, including altered ones."""
        return RunProgress(self.run, "reading features", self.source.n)

    def expect(self, images: int) -> None:
        """Add a number of altered images to the expected total."""
        if self.progress.total is not None:
            self.progress.total += images

    def __call__(self, name: str, source: ImageSource | None = None) -> tuple[pa.Array, Features]:
        """Return ids and features."""
        folder = self.out / "predictions" / name
        try:
            done = predict_source(
                source or self.source,
                self.network,
                folder,
                self.settings,
                self.run.call,
                self.progress,
                self.choice,
            )
        except NoneLeftError as error:
            if source is None:
                raise
            self._note(name, [row["reason"] for row in error.skipped])
            return pa.array([], pa.string()), np.empty((0, 0), np.float16)
        self.choice = done.choice or self.choice
        file_name = Path(predictions_file_name(self.network.name))
        # The same engine for all images, whenever an earlier run ended.
        engine = tables.metadata(pq.read_schema(folder / file_name))["engine"]
        self.settings = replace(self.settings, engine=engine)
        with (folder / "skipped.csv").open(newline="", encoding="utf-8") as file:
            self._note(name, [row["reason"] for row in csv.DictReader(file)])
        ids = read_predictions(folder / file_name).image_id
        self.progress.add(len(ids))
        return ids, np.load(folder / "embeddings" / file_name.with_suffix(".npy"))

    def _note(self, name: str, reasons: Sequence[str]) -> None:
        first = [reason.partition(":")[0] for reason in reasons]
        self.skipped += [
            f"{name}: {first.count(why):,} images skipped, {why}" for why in dict.fromkeys(first)
        ]

    def cut_out(self, class_id: int, image_ids: frozenset[str]) -> list[Cutting]:
        """Return objects of a class in some images."""
        found: list[Cutting] = []
        for part in self.source.parts:
            for item, read in part.items():
                if item.image_id in image_ids and len(found) < DONORS:
                    data = read()
                    image = decode(data) if isinstance(data, bytes) else data
                    if not isinstance(image, str):
                        pixels = image.permute(1, 2, 0).numpy()
                        found += cuttings(self.objects, class_id, item.image_id, pixels)
        return found[:DONORS]


@dataclass(frozen=True)
class Altered:
    """Altered images, given by the rows of their originals, and their features."""

    rows: npt.NDArray[np.intp]
    features: Features


@dataclass(eq=False)
class ImageFeatures:
    """Features and labels of images. Row i is the same image in all arrays."""

    predict: FeatureExtractor
    labels: MitigationLabels
    features: Features
    fill: str
    seed: int
    _removed: dict[int, Altered] = field(default_factory=dict)

    @cached_property
    def _row_of(self) -> Mapping[str, int]:
        return {name: i for i, name in enumerate(self.labels.names)}

    @cached_property
    def _fingerprint(self) -> str:
        return fingerprint(self.predict.objects)

    def prepare(self, pairs: Iterable[Pair]) -> None:
        """Remove companions and main classes from all images with both, one class per run."""
        image_ids: dict[int, set[str]] = {}
        for pair in pairs:
            both = self.labels.both(pair)
            for class_id, rows in ((pair[1], both), (pair[0], both & ~self.labels.held)):
                if class_id in self.predict.objects.class_id:
                    image_ids.setdefault(class_id, set()).update(
                        self.labels.names[i] for i in np.flatnonzero(rows).tolist()
                    )
        self.predict.expect(sum(map(len, image_ids.values())))
        for class_id, ids in image_ids.items():
            removal = Removal(
                self.predict.objects, class_id, self.fill, False, frozenset(ids), self.seed, self._fingerprint
            )
            self._removed[class_id] = self._run(f"without-{self._key(class_id)}-{self.fill}", removal)

    def _key(self, class_id: int) -> str:
        return f"{class_id}-{file_slug(self.labels.classes.keys[class_id])}"

    def _run(self, name: str, alteration: Any) -> Altered:
        ids, features = self.predict(name, alter_images(self.predict.source, alteration))
        return Altered(np.array([self._row_of[i] for i in ids.to_pylist()], np.intp), features)

    def removed(self, class_id: int, inside: npt.NDArray[np.bool_]) -> Altered:
        """Return the altered images inside a selection from which a class could be removed."""
        found = self._removed.get(class_id)
        if found is None or not len(found.rows):
            return self._nothing
        keep = inside[found.rows]
        return Altered(found.rows[keep], found.features[keep])

    def pasted(self, class_id: int, inside: npt.NDArray[np.bool_], n: int, name: str) -> Altered:
        """Return at most n images of a selection with an object of a class pasted into each."""
        rows = np.flatnonzero(inside)
        rng = np.random.default_rng([self.seed, class_id, len(rows)])
        rows = np.sort(rng.permutation(rows)[:n])
        donors = self._donors(class_id)
        if not donors or not len(rows):
            return self._nothing
        image_ids = frozenset(self.labels.names[i] for i in rows.tolist())
        self.predict.expect(len(image_ids))
        pasting = Pasting(self.predict.objects, donors, image_ids, self.seed)
        return self._run(f"{name}-with-{self._key(class_id)}", pasting)

    def _donors(self, class_id: int) -> list[Cutting]:
        """Return objects of a class in images to fit on."""
        objects = self.predict.objects
        there = set(objects.table["image_id"].filter(pa.array(objects.class_id == class_id)).to_pylist())
        own = [
            n for n, held in zip(self.labels.names, self.labels.held, strict=True) if n in there and not held
        ]
        order = np.random.default_rng([self.seed, class_id]).permutation(len(own)).tolist()
        return self.predict.cut_out(class_id, frozenset(own[i] for i in order[:DONORS]))

    @property
    def _nothing(self) -> Altered:
        return Altered(np.empty(0, np.intp), np.empty((0, self.features.shape[1]), np.float16))


def file_slug(text: str) -> str:
    """Return a text as part of a file name."""
    return re.sub(r"[^\w.-]+", "-", text)


PASTED = 500
"""Maximum number of images per kind of pasting; each then counts for several."""

TREATMENTS = ("none", "augmentation", "label sets", "label sets and augmentation")


@dataclass(eq=False)
class HeadFitter:
    """Fits heads on a backbone.

    Attributes
    ----------
    images : ImageFeatures
    backbone : str
        As for ``manyhot predict --model``.
    capped : bool
        See `manyhot.core.companion_effects.plan`.
    """

    images: ImageFeatures
    backbone: str
    capped: bool

    def heads(self, loss: str, pair: Pair, added: Sequence[Added]) -> Iterator[tuple[str, Head]]:
        """Yield each treatment of a loss with its head, starting with no treatment."""
        none, augmentation, sets, both = TREATMENTS
        if loss == "softmax":
            yield none, self._softmax
            if added:
                yield augmentation, self._augmented_softmax(pair, added)
            return
        for name, treated in ((none, augmentation), (sets, both)):
            if name == sets or self.images.labels.labelled:
                yield name, self._sigmoids[name]
                if added:
                    yield treated, self._augmented_sigmoid(pair, added, name == sets)

    def added(self, pair: Pair) -> tuple[list[Added], str]:
        """Return the altered images of a pair, and a note about them."""
        known = self.images.labels
        todo = known.plan(pair, self.capped)
        groups = [] if not todo.amount else self._pasted(pair) if todo.adds else self._removed(pair)
        found = [
            Added(made.rows, made.features, todo.amount / len(made.rows), main, *gone)
            for made, main, *gone in groups
            if len(made.rows)
        ]
        return found, treatment_note([known.classes.names[c] for c in pair], todo, found)

    def _pasted(self, pair: Pair) -> list[tuple[Altered, bool]]:
        images, known, companion = self.images, self.images.labels, pair[1]
        return [
            (images.pasted(companion, known.alone(pair), PASTED, "alone"), True),
            (images.pasted(companion, known.neither(pair), PASTED, "neither"), False),
        ]

    def _removed(self, pair: Pair) -> list[Any]:
        images, known, (main, companion) = self.images, self.images.labels, pair
        both = known.both(pair) & ~known.held
        first = (images.removed(companion, both), True, companion)
        without = images.removed(main, both)
        if len(without.rows):
            return [first, (without, False, main)]
        # The class has no objects: where it never was, the companion is put, for as many.
        n = min(PASTED, int(both.sum()))
        return [first, (images.pasted(companion, known.neither(pair), n, "neither"), False)]

    @cached_property
    def _x(self) -> Features:
        return self.images.features[self.images.labels.fitting]

    @cached_property
    def _softmax(self) -> Head:
        known = self.images.labels
        return fit_softmax(self._x, known.label[known.fitting], known.classes, self.backbone)

    @cached_property
    def _sigmoids(self) -> Mapping[str, Head]:
        known, (none, _, sets, _) = self.images.labels, TREATMENTS
        wanted = {sets: known.state} | ({none: known.single} if known.labelled else {})
        return {
            name: fit_sigmoid(self._x, state[known.fitting], known.classes, self.backbone)
            for name, state in wanted.items()
        }

    def _augmented_softmax(self, pair: Pair, added: Sequence[Added]) -> Head:
        known, start = self.images.labels, self._softmax
        return fit_softmax(
            self._joined(added),
            known.labels(added, pair),
            known.classes,
            self.backbone,
            weights=self._weights(added),
            penalty=start.penalty,
            start=start,
        )

    def _augmented_sigmoid(self, pair: Pair, added: Sequence[Added], sets: bool) -> Head:
        """Return the head with a new row for the main class, the only one that altered images change."""
        known, main = self.images.labels, pair[0]
        untreated = self._sigmoids[TREATMENTS[2] if sets else TREATMENTS[0]]
        row = replace(
            untreated,
            classes=from_keys([known.classes.keys[main]]),
            weight=untreated.weight[[main]],
            bias=untreated.bias[[main]],
        )
        one = fit_sigmoid(
            self._joined(added),
            known.states(added, pair, sets)[:, None],
            row.classes,
            self.backbone,
            weights=self._weights(added),
            penalty=row.penalty,
            start=row,
        )
        weight, bias = untreated.weight.copy(), untreated.bias.copy()
        weight[main], bias[main] = one.weight[0], one.bias[0]
        return replace(untreated, weight=weight, bias=bias, n=one.n)

    def _joined(self, added: Sequence[Added]) -> Features:
        return np.concatenate([self._x, *(a.features for a in added)])

    def _weights(self, added: Sequence[Added]) -> Any:
        return np.concatenate([np.ones(len(self._x)), *(np.full(len(a.rows), a.weight) for a in added)])
