"""Features of original and altered images: objects removed or pasted in, or the look of the image changed."""

from __future__ import annotations

import hashlib
import itertools
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
from manyhot.core.array_types import Floats
from manyhot.core.companion_effects import BOTH, NEITHER
from manyhot.core.sets import NO, YES
from manyhot.diagnose.page import RunProgress
from manyhot.diagnose.pixels.regions import Region, find_regions
from manyhot.diagnose.pixels.removal import (
    LARGEST_SHARE,
    MAX_FILLED,
    OTHER,
    OWN,
    PATCH,
    Cutting,
    Exchange,
    Pasting,
    Pixels,
    Removal,
    cuttings,
    filled,
    fingerprint,
)
from manyhot.diagnose.shortcuts_result import FILLS
from manyhot.extras import required
from manyhot.formats import read_predictions
from manyhot.predict.engines import EngineChoice
from manyhot.predict.network import Network
from manyhot.predict.parts import read_skipped
from manyhot.predict.run import ModelRun, PredictSettings, predict_runs, prepare_run
from manyhot.predict.sources.source import ImageSource, NoneLeftError, alter_images, decoded_images
from manyhot.run import Run
from manyhot.tables import Objects
from manyhot.train.mitigate.held_out import MitigationLabels, Pair

DONORS = 50
"""Images whose objects are cut out to be pasted."""

PASTED = 600
"""Maximum number of images into which objects are pasted; each then counts for several."""

FILLED = 300
"""The same, of images that only the fill is put on."""

AVERAGED = 200
"""Maximum number of images whose looks are averaged, with the companion and without it."""

JUDGED = 200
"""Maximum number of held-out images into which objects are pasted."""

EXCHANGED = 800
"""Maximum number of held-out images of each split in which companions are exchanged."""

PATCHES = 50
"""Photographs from which patches of other content are taken."""

_PATCH_SIDE = 640  # Longer side to which these photographs are shrunk: all are in memory.

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
        return self.together({name: source or self.source})[name]

    def together(self, sources: Mapping[str, ImageSource]) -> dict[str, tuple[pa.Array, Features]]:
        """Return ids and features of several sources that are alterations of the same images."""
        jobs = {name: self._prepared(name, source) for name, source in sources.items()}
        for _ in predict_runs([*jobs.values()], self.progress):
            pass
        found = {name: self._finished(name, job) for name, job in jobs.items()}
        self.progress.add(sum(len(ids) for ids, _ in found.values()))
        return found

    def _prepared(self, name: str, source: ImageSource) -> ModelRun:
        folder = self.out / "predictions" / name
        job = prepare_run(source, self.network, folder, self.settings, self.progress, self.choice)
        self.choice = job.choice or self.choice
        return job

    def _finished(self, name: str, job: ModelRun) -> tuple[pa.Array, Features]:
        try:
            job.finish(self.run.call)
        except NoneLeftError as error:
            if job.source is self.source:
                raise
            self._note(name, [row["reason"] for row in error.skipped])
            return pa.array([], pa.string()), np.empty((0, 0), np.float16)
        path, features = job.parts.final, job.parts.features
        # The same engine for all images, whenever an earlier run ended.
        self.settings = replace(self.settings, engine=tables.metadata(pq.read_schema(path))["engine"])
        self._note(name, [row["reason"] for row in read_skipped(path.parent)])
        return read_predictions(path).image_id, np.load(features)

    def _note(self, name: str, reasons: Sequence[str]) -> None:
        first = [reason.partition(":")[0] for reason in reasons]
        self.skipped += [
            f"{name}: {first.count(why):,} images skipped, {why}" for why in dict.fromkeys(first)
        ]


@dataclass(frozen=True, eq=False)
class BoxRemoval(Removal):
    """A `Removal` that fills the whole boxes of a class if only its boxes are known.

    A tag or a text lies on other objects. `Removal` does not change the pixels of other objects, so a part of
    the companion would remain in images to fit on. If a box covers over half of another object, only the
    pixels beside that object are filled.
    """

    @property
    def key(self) -> str:
        """What distinguishes its pixels from others."""
        return f"whole boxes, {super().key}"

    def __call__(self, image_id: str, pixels: Pixels) -> Pixels | str:
        """Return the image without the objects, or the reason why they cannot be removed."""
        regions = find_regions(self.objects, image_id, pixels.shape[1], pixels.shape[0])
        if isinstance(regions, str):
            return super().__call__(image_id, pixels)
        own, others = list[Region](), list[Region]()
        for region in regions.objects:
            (own if region.class_id == self.companion else others).append(region)
        boxes = regions.boxes_of(self.companion)
        exact = any(region.known_by != "box" for region in own)
        hides = any((r.mask & boxes).sum() > LARGEST_SHARE * r.mask.sum() for r in others)
        if exact or hides or not own or boxes.mean() > MAX_FILLED:
            return super().__call__(image_id, pixels)
        return filled(pixels, boxes, self.fill, boxes)


@dataclass(frozen=True)
class Altered:
    """Altered images: the rows of their originals, their features, and the alterations."""

    rows: npt.NDArray[np.intp]
    features: Features
    alteration: Any = None


@dataclass(eq=False)
class ImageFeatures:
    """Features and labels of images. Row i is the same image in all arrays."""

    predict: FeatureExtractor
    labels: MitigationLabels
    features: Features
    fill: str
    seed: int
    _removed: dict[tuple[int, str], Altered] = field(default_factory=dict)
    _changed: dict[Pair, Altered] = field(default_factory=dict)
    _looks: dict[int, tuple[Look, Look]] = field(default_factory=dict)
    _pasted: dict[tuple[Pair, int, str], Altered] = field(default_factory=dict)
    _exchanged: dict[Pair, dict[tuple[int, str], Altered]] = field(default_factory=dict)

    @cached_property
    def _row_of(self) -> Mapping[str, int]:
        return {name: i for i, name in enumerate(self.labels.names)}

    @cached_property
    def _fingerprint(self) -> str:
        return fingerprint(self.predict.objects)

    @property
    def other_fill(self) -> str:
        """The fill that is used to evaluate heads, but not to fit them."""
        return next(fill for fill in FILLS if fill != self.fill)

    def prepare(self, pairs: Sequence[Pair]) -> None:
        """Remove companions and main classes from images with both."""
        image_ids: dict[tuple[int, str], set[str]] = {}
        companions = {companion for _, companion in pairs}
        for main, companion in pairs:
            both, held = self.labels.both((main, companion)), self.labels.held
            removals = [(main, both & ~held, self.fill)]
            if companion in self.whole:
                change = self._look_change(companion, np.flatnonzero(both & ~held), back=True)
                name = f"{file_slug(self.labels.classes.keys[main])}-without-{self._key(companion)}"
                self._changed[main, companion] = self._run(name, change)
            else:
                removals += [(companion, both, self.fill), (companion, both & held, self.other_fill)]
            for class_id, rows, fill in removals:
                if class_id in self.predict.objects.class_id:
                    image_ids.setdefault((class_id, fill), set()).update(self._ids(np.flatnonzero(rows)))
        self.predict.expect(sum(map(len, image_ids.values())))
        runs: dict[str, Removal] = {}
        for (class_id, fill), ids in image_ids.items():
            fitted = class_id in companions and fill == self.fill
            runs[f"without-{self._key(class_id)}-{fill}"] = (BoxRemoval if fitted else Removal)(
                self.predict.objects, class_id, fill, False, frozenset(ids), self.seed, self._fingerprint
            )
        for removal, altered in zip(runs.values(), self._run_together(runs), strict=True):
            self._removed[removal.companion, removal.fill] = altered

    def _ids(self, rows: npt.NDArray[np.intp]) -> frozenset[str]:
        return frozenset(self.labels.names[i] for i in rows.tolist())

    def _key(self, class_id: int) -> str:
        return f"{class_id}-{file_slug(self.labels.classes.keys[class_id])}"

    def _run(self, name: str, alteration: Any) -> Altered:
        return next(self._run_together({name: alteration}))

    def _run_together(self, alterations: Mapping[str, Any]) -> Iterator[Altered]:
        """Yield the images that were altered in each way; the names are those of folders."""
        sources = {name: alter_images(self.predict.source, how) for name, how in alterations.items()}
        for name, (ids, features) in self.predict.together(sources).items():
            rows = np.array([self._row_of[i] for i in ids.to_pylist()], np.intp)
            yield Altered(rows, features, alterations[name])

    @cached_property
    def whole(self) -> frozenset[int]:
        """Classes whose boxes cover the whole image, such as a tint or a blur."""
        objects = self.predict.objects
        left, top, right, bottom = objects.boxes.T
        whole = (right - left) * (bottom - top) > MAX_FILLED
        return frozenset(
            int(c) for c in np.unique(objects.class_id) if whole[objects.class_id == c].mean() > 0.5
        )

    def _look_change(self, companion: int, rows: npt.NDArray[np.intp], *, back: bool = False) -> LookChange:
        """Return what gives images the look of a companion of the whole image, or takes it from them."""
        if companion not in self._looks:
            self._looks[companion] = self._look(companion, NO), self._look(companion, YES)
        before, after = self._looks[companion]
        images = self._ids(rows)
        self.predict.expect(len(images))
        return LookChange(after, before, images) if back else LookChange(before, after, images)

    def _look(self, companion: int, state: int) -> Look:
        """Return the average look of images to fit on that show a companion, or do not."""
        inside = (self.labels.state[:, companion] == state) & ~self.labels.held
        rows = self._some(inside, AVERAGED, companion)
        images = decoded_images(self.predict.source, self._ids(rows))
        return Look.of(pixels for _, pixels in images)

    def without(self, pair: Pair) -> Altered:
        """Return the images to fit on that show both classes, after the companion was removed."""
        if pair in self._changed:
            return self._changed[pair]
        return self.removed(pair[1], self.labels.both(pair) & ~self.labels.held)

    def removed(self, class_id: int, inside: npt.NDArray[np.bool_], fill: str = "") -> Altered:
        """Return the images of a selection after a class was removed, where that was possible."""
        found = self._removed.get((class_id, fill or self.fill))
        if found is None or not len(found.rows):
            return self._nothing
        keep = inside[found.rows]
        return Altered(found.rows[keep], found.features[keep], found.alteration)

    def pasted(
        self, class_id: int, inside: npt.NDArray[np.bool_], n: int, name: str, *, fill: str = ""
    ) -> Altered:
        """Return at most n images of a selection with the objects of a class pasted into each.

        Objects from images to fit on are pasted into images to fit on, and objects from held-out images into
        held-out images. With a fill, the pixels of the objects are filled instead.
        """
        rows = np.sort(self._some(inside, n, class_id, int(inside.sum())))
        held = bool(len(rows)) and bool(self.labels.held[rows[0]])
        if class_id in self.whole:
            # A changed look does not judge heads that were fitted on such images, and has no fill.
            if held or fill or not len(rows):
                return self._nothing
            return self._run(f"{name}-with-{self._key(class_id)}", self._look_change(class_id, rows))
        donors = self._donors(class_id, held)
        if not donors or not len(rows):
            return self._nothing
        image_ids = self._ids(rows)
        self.predict.expect(len(image_ids))
        pasting = Pasting(self.predict.objects, donors, image_ids, self.seed, fill)
        return self._run(f"{name}-with-{self._key(class_id)}{f'-{fill}' if fill else ''}", pasting)

    def judged_by_pasting(self, pair: Pair, split: int = NEITHER, fill: str = "") -> Altered:
        """Return held-out images of a split, each with a companion pasted from another held-out image.

        The split is `NEITHER`, or `MAIN_ONLY` for images with the main class alone. With a fill, the same
        places are filled instead.
        """
        if (pair, split, fill) not in self._pasted:
            inside = (self.labels.splits(pair) == split) & self.labels.held
            which = "neither" if split == NEITHER else "only"
            name = f"held-out-{which}-{file_slug(self.labels.classes.keys[pair[0]])}"
            self._pasted[pair, split, fill] = self.pasted(pair[1], inside, JUDGED, name, fill=fill)
        return self._pasted[pair, split, fill]

    def exchanged(self, pair: Pair) -> Mapping[tuple[int, str], Altered]:
        """Return held-out images with companions exchanged, by split and by what `Exchange` shows.

        An image with neither class has two versions: with the companion of another held-out image, and with
        a patch of other content. An image with both has a third: with its own companion.
        """
        if pair not in self._exchanged:
            self._exchanged[pair] = self._exchange(pair)
        return self._exchanged[pair]

    def _exchange(self, pair: Pair) -> dict[tuple[int, str], Altered]:
        known, (main, companion) = self.labels, pair
        held = {split: known.held & (known.splits(pair) == split) for split in (NEITHER, BOTH)}
        donors = [] if companion in self.whole else self._donors(companion, True)
        patches = self._patches(held[NEITHER]) if donors else []
        if not patches:
            return {}
        found = dict[tuple[int, str], Altered]()
        for split, shown in ((NEITHER, (OTHER, PATCH)), (BOTH, (OWN, OTHER, PATCH))):
            rows = self._some(held[split], EXCHANGED, split, companion)
            images = self._ids(rows)
            self.predict.expect(len(shown) * len(images))
            name = f"held-out-{split}-{file_slug(known.classes.keys[main])}-{self._key(companion)}"
            runs = {
                f"{name}-{how}": Exchange(
                    self.predict.objects, donors, images, companion, patches, how, self.seed
                )
                for how in shown
            }
            made = self._run_together(runs)
            found |= {
                (split, how): altered if len(altered.rows) else self._nothing
                for how, altered in zip(shown, made, strict=True)
            }
        return found

    def _some(self, inside: npt.NDArray[np.bool_], n: int, *seed: int) -> npt.NDArray[np.intp]:
        """Return at most n rows of a selection, drawn at random."""
        rows = np.flatnonzero(inside)
        return np.random.default_rng([self.seed, *seed]).permutation(rows)[:n]

    def _patches(self, inside: npt.NDArray[np.bool_]) -> list[Pixels]:
        """Return some photographs of a selection, shrunk."""
        pil = required("PIL.Image", "Pasting objects")
        rows, patches = self._some(inside, PATCHES, 0), list[Pixels]()
        for _, pixels in decoded_images(self.predict.source, self._ids(rows)):
            picture = pil.fromarray(pixels)
            picture.thumbnail((_PATCH_SIDE, _PATCH_SIDE))
            patches.append(np.asarray(picture))
        return patches

    def _donors(self, class_id: int, held: bool) -> list[Cutting]:
        """Return objects of a class in images to fit on, or in held-out ones."""
        objects = self.predict.objects
        there = set(objects.table["image_id"].filter(pa.array(objects.class_id == class_id)).to_pylist())
        splits = zip(self.labels.names, self.labels.held, strict=True)
        own = [name for name, is_held in splits if name in there and is_held == held]
        order = np.random.default_rng([self.seed, class_id]).permutation(len(own)).tolist()
        images = decoded_images(self.predict.source, frozenset(own[i] for i in order[:DONORS]))
        return list(itertools.chain.from_iterable(cuttings(objects, class_id, *image) for image in images))

    @property
    def _nothing(self) -> Altered:
        return Altered(np.empty(0, np.intp), np.empty((0, self.features.shape[1]), np.float16))


def file_slug(text: str) -> str:
    """Return a text as part of a file name."""
    return re.sub(r"[^\w.-]+", "-", text)


_EDGES = 2.0 ** np.arange(-1.5, 10, 0.5)
"""Bands of frequencies, in cycles per shorter side of the image: half octaves."""

_MAX_GAIN = 8.0
"""The most by which an amplitude is multiplied: what a blur removed is noise, which must not be amplified."""


@dataclass(frozen=True, eq=False)
class Look:
    """The average look of images.

    Attributes
    ----------
    mean : ndarray of float, shape (3,)
        Mean of each channel, from 0 to 255.
    amplitude : ndarray of float, shape (bands, 3)
        Mean logarithm of the amplitudes in each band; NaN for bands that no image has.
    """

    mean: Floats
    amplitude: Floats

    @classmethod
    def of(cls, images: Iterable[Pixels]) -> Look:
        """Return the average over images."""
        looks = [_look(pixels.astype(np.float64)) for pixels in images]
        bands = np.stack([amplitude for _, amplitude in looks])
        known = ~np.isnan(bands)
        with np.errstate(invalid="ignore"):
            amplitude = np.where(known, bands, 0).sum(0) / known.sum(0)
        return cls(np.mean([mean for mean, _ in looks], axis=0), amplitude)


@dataclass(frozen=True, eq=False)
class LookChange:
    """An `Alteration` that changes images by the difference between two average looks.

    An object can be cut out and pasted. A companion that covers the whole image, such as a tint or a blur,
    cannot, but it changes the average colour and the amplitudes of all frequencies. This alteration makes the
    same change in images without the companion, and reverses it in images with the companion, as in Fourier
    domain adaptation (Yang and Soatto 2020, https://doi.org/10.1109/CVPR42600.2020.00414). Here, however, all
    frequencies are changed, looks are averages of many images, and the transforms are cosine transforms,
    which have no borders.

    Attributes
    ----------
    images : frozenset of str
        Ids of the images to alter.
    """

    before: Look
    after: Look
    images: frozenset[str] = field(repr=False)

    @property
    def key(self) -> str:
        """What distinguishes its pixels from others."""
        numbers = [array for look in (self.before, self.after) for array in (look.mean, look.amplitude)]
        parts = (*(a.tobytes() for a in numbers), *map(str.encode, sorted(self.images)))
        return f"look {hashlib.sha256(b'/'.join(parts)).hexdigest()[:16]}"

    def wants(self, image_id: str) -> bool:
        """Return whether an image is altered."""
        return image_id in self.images

    def __call__(self, image_id: str, pixels: Pixels) -> Pixels:
        """Return the image with another look."""
        from scipy.fft import idctn

        frequency, coefficients, mean = _transformed(pixels.astype(np.float64))
        ratio = self.after.amplitude - self.before.amplitude
        known = ~np.isnan(ratio).any(axis=1)
        centres = np.log2(_EDGES[:-1])[known] + 0.25
        at = np.log2(np.maximum(frequency, _EDGES[0]))
        gain = np.stack([np.exp(np.interp(at, centres, own)) for own in ratio[known].T], axis=2)
        gain = np.minimum(gain, _MAX_GAIN)
        shift = self.after.mean + gain[0, 0] * (mean - self.before.mean)
        made = idctn(coefficients * gain, axes=(0, 1), norm="ortho") + shift
        return np.asarray(np.rint(made.clip(0, 255)), np.uint8)


def _transformed(pixels: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the frequency of each coefficient, the coefficients, and the mean of each channel."""
    from scipy.fft import dctn

    h, w = pixels.shape[:2]
    mean = pixels.mean(axis=(0, 1))
    down, aside = (np.arange(n) / 2 * min(h, w) / n for n in (h, w))
    return np.hypot(down[:, None], aside), dctn(pixels - mean, axes=(0, 1), norm="ortho"), mean


def _look(pixels: Floats) -> tuple[Floats, Floats]:
    frequency, coefficients, mean = _transformed(pixels)
    band = (np.digitize(frequency, _EDGES) - 1).ravel()
    inside = (band >= 0) & (frequency.ravel() > 0) & (band < len(_EDGES) - 1)
    size = np.log(np.abs(coefficients).reshape(-1, 3) + 1e-3)
    counts = np.bincount(band[inside], minlength=len(_EDGES) - 1)
    sums = [np.bincount(band[inside], own[inside], len(_EDGES) - 1) for own in size.T]
    with np.errstate(invalid="ignore", divide="ignore"):
        return mean, np.stack(sums, axis=1) / counts[:, None]
