"""Photographs and objects in; pictures composed of patches of objects, with exact label sets, out."""

from __future__ import annotations

import json
import os
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from manyhot.core.dealing import deal_as_they_occur, deal_evenly
from manyhot.errors import InputError
from manyhot.files import sha256
from manyhot.formats import read_classes, read_objects
from manyhot.models import open_source
from manyhot.pipeline.common import PathLike, Progress, check_apart
from manyhot.pipeline.composed import (
    DESCRIPTION,
    PARTS,
    Picture,
    beside,
    check_folder,
    swap,
    write_skipped,
    write_tables,
)
from manyhot.pipeline.patch_settings import BACKGROUNDS, PatchSettings, colour_of, no_room
from manyhot.pixels.patchml import (
    GREY,
    Layout,
    Patch,
    Pixels,
    blurred,
    cut,
    free_crop,
    lay_out,
    noise,
    paint,
    plain,
    square,
)
from manyhot.pixels.regions import Regions, find_regions
from manyhot.tables import Objects

_PHOTOGRAPHS = 200
# Backgrounds that are made of photographs, from which each picture takes one.

_MEMORY = 500e6
# For patches; what is needed beyond is taken again.

_OTHERS = 5
# Sets of patches that are tried for a picture.

_LARGEST = 1 << 14
_AHEAD = 32


@dataclass(frozen=True)
class PatchML:
    """What was composed.

    Attributes
    ----------
    n : int
        Pictures.
    patches : dict of str to int
        Different objects that there were to take, by key of the class.
    skipped : dict of str to int
        Objects that could not be taken, by reason.
    notes : tuple of str
    written : tuple of Path
    """

    n: int
    patches: Mapping[str, int]
    skipped: Mapping[str, int]
    notes: tuple[str, ...]
    written: tuple[Path, ...] = ()


def patchml_files(
    images: PathLike,
    objects: PathLike,
    out: PathLike = "patchml",
    *,
    settings: PatchSettings | None = None,
    masks: PathLike | None = None,
    classes: PathLike | None = None,
    workers: int | None = None,
    call: str = "",
    progress: Progress | None = None,
) -> PatchML:
    """Compose pictures of patches of objects, with their label sets.

    Parameters
    ----------
    images : path-like
        Photographs, from anywhere that ``manyhot predict`` reads them.
    objects, masks, classes
        As in `manyhot.read_objects`.
    out : path-like
        A folder: ``images/``, ``images.parquet``, ``labels.parquet``, ``objects.parquet``, ``classes.txt``,
        ``skipped.csv`` and ``patchml.json``. Those of an earlier run are replaced once all are there.
    settings : PatchSettings, optional
    workers : int, optional
        Threads; one a core by default. The files are the same however many there are.

    Raises
    ------
    InputError
        There is nothing to compose, or no room for it.
    OutputError
        The folder holds something else, or a file cannot be written.
    """
    out, chosen = Path(out), settings or PatchSettings()
    check_apart([images, objects, *(p for p in (masks, classes) if p)], out)
    check_folder(out)
    known = read_objects(objects, classes=None if classes is None else read_classes(classes), masks=masks)
    maker = _Maker(chosen, known, workers or os.cpu_count() or 1, progress)
    maker.read(images)
    with beside(out) as part:
        rows = maker.compose(part / "images", out / "images")
        inputs = {Path(p).name: sha256(p) for p in (objects, masks, classes) if p and Path(p).is_file()}
        write_tables(rows, known, part, call=call, inputs=inputs)
        write_skipped(maker.skipped, known, part / "skipped.csv")
        done = maker.told()
        told = {"pictures": done.n, "patches": done.patches, "skipped": done.skipped, "notes": done.notes}
        text = json.dumps({**told, "settings": chosen.told}, indent=2, ensure_ascii=False, default=str)
        (part / DESCRIPTION).write_text(text + "\n", encoding="utf-8", newline="\n")
        swap(part, out)
    files = [out / name for name in (*PARTS, DESCRIPTION)]
    return PatchML(done.n, done.patches, done.skipped, done.notes, tuple(files))


@dataclass
class _Maker:
    """Cuts patches, and composes pictures of them."""

    settings: PatchSettings
    objects: Objects
    workers: int
    progress: Progress | None
    patches: dict[int, list[Patch]] = field(default_factory=dict)
    backgrounds: list[tuple[str, Pixels]] = field(default_factory=list)
    skipped: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    n_made: int = 0

    def __post_init__(self) -> None:
        keys = {key: i for i, key in enumerate(self.objects.keys)}
        self.pairs = [(self._class(a, keys), self._class(b, keys)) for a, b in self.settings.pairs]
        only = [self._class(key, keys) for key in self.settings.only]
        self.wanted = sorted(set(only) | {c for p in self.pairs for c in p if only}) or range(len(keys))
        if len(self.wanted) < self.settings.objects[1] and not self.settings.as_they_occur:
            raise InputError(
                "There are fewer classes than objects in a picture; each is of another class.",
                got=f"{len(self.wanted):,} classes, {self.settings.objects[1]} objects",
                do=f"give --objects-per-image {min(self.settings.objects[0], len(self.wanted))}-"
                f"{len(self.wanted)}",
            )

    def _class(self, key: str, keys: Mapping[str, int]) -> int:
        if key not in keys:
            near = ", ".join(list(keys)[:30])
            raise InputError("No class of the objects is called so.", got=key, allowed=near)
        return keys[key]

    # Reading.

    def read(self, images: PathLike) -> None:
        """Read the photographs once, and cut out what may be needed."""
        candidates, behind = self._candidates(), self._behind()
        wanted = {str(self.objects.table["image_id"][row]) for row in candidates.tolist()} | behind
        rows: dict[str, list[int]] = {}
        for row in candidates.tolist():
            rows.setdefault(str(self.objects.table["image_id"][row]), []).append(row)
        cuts: dict[int, Patch] = {}
        laid: dict[str, Pixels] = {}
        met: set[str] = set()
        jobs = (
            (self._look, image_id, read, rows.get(image_id, []), image_id in behind)
            for image_id, read in _items(images, wanted, met)
        )
        for done, (image_id, found, background) in enumerate(self._side_by_side(jobs), 1):
            for row, patch in found.items():
                if isinstance(patch, str):
                    self.skipped[row] = patch
                else:
                    cuts[row] = patch
            if background is not None:
                laid[image_id] = background
            self._tell("cutting out", done, len(wanted))
        self._check_met(images, met, wanted)
        for row in candidates.tolist():
            if row in cuts:
                self.patches.setdefault(int(self.objects.class_id[row]), []).append(cuts[row])
            else:
                self.skipped.setdefault(row, "the images do not hold it")
        self.backgrounds = sorted(laid.items(), key=lambda item: item[0])
        self._read_folder()

    def _candidates(self) -> npt.NDArray[np.int64]:
        """Return rows of objects to cut out, some more than are needed, in random order within each class."""
        rng, s = np.random.default_rng([self.settings.seed, 1]), self.settings
        asked = np.flatnonzero(~self.objects.ignore & np.isin(self.objects.class_id, list(self.wanted)))
        for row in np.flatnonzero(self.objects.ignore & np.isin(self.objects.class_id, list(self.wanted))):
            self.skipped[int(row)] = "ignored: too difficult, or a crowd"
        longest = s.scale[1] * s.size
        room = max(10, int(_MEMORY / (4 * longest**2 * len(self.wanted))))
        chosen = []
        for c, needed in self._needed().items():
            rows = asked[self.objects.class_id[asked] == c]
            chosen.append(rng.permutation(rows)[: min(20 + int(np.ceil(1.5 * needed)), room)])
        found = np.concatenate([np.zeros(0, np.int64), *chosen])
        if not len(found):
            raise InputError(
                "There is no object to cut out.",
                where=self.objects.name or None,
                got=f"{len(self.objects):,} objects, all of them ignored or of other classes",
            )
        return found

    def _needed(self) -> dict[int, float]:
        """Return about how often each class will be taken."""
        s = self.settings
        if s.as_they_occur:
            sets = [found for found in self._sets(self.wanted) if len(found) >= s.objects[0]]
            counts = Counter(c for found in sets for c in found)
            return {c: s.n * counts[c] / max(len(sets), 1) for c in self.wanted}
        needed = dict.fromkeys(self.wanted, s.n * s.objects[1] / len(self.wanted))
        for pair in self.pairs:
            for c in pair:
                needed[c] += s.n / len(self.pairs)
        return needed

    def _behind(self) -> set[str]:
        """Return the photographs to make backgrounds of."""
        if self.settings.background not in ("blur", "crop"):
            return set()
        ids = sorted(self.objects.images)
        rng = np.random.default_rng([self.settings.seed, 2])
        # Half of all photographs have no place without objects.
        most = _PHOTOGRAPHS * (3 if self.settings.background == "crop" else 1)
        return {ids[i] for i in rng.permutation(len(ids))[:most]}

    def _look(
        self, image_id: str, read: Callable[[], bytes], rows: Sequence[int], behind: bool
    ) -> tuple[str, dict[int, Patch | str], Pixels | None]:
        """Return what is cut out of a photograph, and a background made of it."""
        pixels = _decoded(read)
        if isinstance(pixels, str):
            return image_id, dict.fromkeys(rows, pixels), None
        regions = find_regions(self.objects, image_id, pixels.shape[1], pixels.shape[0])
        if isinstance(regions, str):
            return image_id, dict.fromkeys(rows, regions), None
        found = {r.row: r for r in regions.objects}
        s, longest = self.settings, round(self.settings.scale[1] * self.settings.size)
        cuts: dict[int, Patch | str] = {}
        for row in rows:
            if row not in found:
                cuts[row] = "its box holds nothing, or lies outside of the image"
                continue
            patch = cut(pixels, regions, found[row], by=s.cut, least=s.least, image_id=image_id)
            if isinstance(patch, Patch) and max(patch.mask.shape) > longest:
                patch = patch.scaled(longest)
            cuts[row] = patch
        return image_id, cuts, self._background(image_id, pixels, regions) if behind else None

    def _background(self, image_id: str, pixels: Pixels, regions: Regions) -> Pixels | None:
        if self.settings.background == "blur":
            return blurred(pixels, self.settings.size)
        rng = np.random.default_rng([self.settings.seed, 3, *image_id.encode()])
        return free_crop(pixels, regions, self.settings.size, 2 * self.settings.least, rng)

    def _read_folder(self) -> None:
        """Read the photographs of a folder as backgrounds."""
        s = self.settings
        if s.background in BACKGROUNDS or s.background.startswith("#"):
            if s.background in ("blur", "crop") and not self.backgrounds:
                raise InputError(
                    "No photograph has a place for a background.",
                    got=f"--background {s.background}",
                    do="choose another, such as grey",
                )
            return
        if not Path(s.background).is_dir():
            allowed = f"{', '.join(BACKGROUNDS)}; a colour such as #40a0ff; a folder of photographs"
            raise InputError("There is no such background.", got=s.background, allowed=allowed)
        files = sorted(_items(s.background, None, set()), key=lambda item: item[0])
        rng = np.random.default_rng([s.seed, 2])
        chosen = [files[i] for i in sorted(rng.permutation(len(files))[:_PHOTOGRAPHS])]
        found = [(image_id, _decoded(read)) for image_id, read in chosen]
        self.backgrounds = [(i, square(p, s.size)) for i, p in found if not isinstance(p, str)]
        if not self.backgrounds:
            raise InputError("No photograph of the folder can be decoded.", where=s.background)
        if len(self.backgrounds) < len(found):
            self.notes.append(
                f"{len(found) - len(self.backgrounds):,} of {len(found):,} backgrounds cannot be decoded"
            )

    def _check_met(self, images: PathLike, met: set[str], wanted: set[str]) -> None:
        if not met & wanted:
            raise InputError(
                "None of the images has an object.",
                where=images,
                got=next(iter(sorted(met)), "no images"),
                allowed=f"such as {min(wanted)}",
            )

    # Composing.

    def compose(self, folder: Path, final: Path) -> list[Picture]:
        """Write all pictures into a folder, and return what is to be told of each."""
        dealt = self._deal()
        turns: Counter[int] = Counter()
        jobs = []
        for i, classes in enumerate(dealt):
            chosen = [self.patches[c][turns[c] % len(self.patches[c])] for c in classes]
            turns.update(classes)
            jobs.append((self._compose, i, chosen, folder, final))
        rows = []
        for done, row in enumerate(self._side_by_side(iter(jobs)), 1):
            rows.append(row)
            self._tell("composing", done, len(dealt))
        self.n_made = len(rows)
        return rows

    def _deal(self) -> list[list[int]]:
        s, rng = self.settings, np.random.default_rng([self.settings.seed, 4])
        there = [c for c in self.wanted if c in self.patches]
        self._check_patches(there)
        if not s.as_they_occur:
            return deal_evenly(s.n, s.objects, there, rng, self.pairs)
        sets = self._sets(there)
        if not any(len(found) >= s.objects[0] for found in sets):
            raise InputError(
                "In no photograph do so many classes stand together.",
                got=f"from {s.objects[0]} objects on",
                allowed=f"up to {max(map(len, sets))}",
            )
        return deal_as_they_occur(s.n, s.objects, sets, rng)

    def _sets(self, there: Sequence[int]) -> list[list[int]]:
        """Return the classes of each photograph that there are patches of."""
        usable = ~self.objects.ignore & np.isin(self.objects.class_id, there)
        ids = sorted(self.objects.images)
        rows = (self.objects.images[i] for i in ids)
        return [np.unique(self.objects.class_id[r[usable[r]]]).tolist() for r in rows]

    def _check_patches(self, there: Sequence[int]) -> None:
        keys, s = self.objects.keys, self.settings
        without = [keys[c] for c in self.wanted if c not in self.patches]
        asked = [k for k in without if k in s.only or any(k in p for p in s.pairs)]
        few = len(there) < s.objects[1] and not s.as_they_occur
        if asked or few or not there:
            reasons = Counter(self.skipped.values()).most_common(3)
            raise InputError(
                "No object of a class can be cut out."
                if asked
                else "There are fewer classes with patches than objects in a picture.",
                where=self.objects.name or None,
                got=", ".join(asked[:10]) if asked else f"{len(there):,} classes, {s.objects[1]} objects",
                do="; ".join(f"{n:,} objects: {reason}" for reason, n in reasons),
            )
        if without:
            self.notes.append(f"without patches, and in no picture: {', '.join(without)}")
        repeated = [keys[c] for c in there if len(self.patches[c]) < 10]
        if repeated:
            self.notes.append(f"fewer than ten patches, seen again and again: {', '.join(repeated)}")

    def _compose(self, number: int, patches: Sequence[Patch], folder: Path, final: Path) -> Picture:
        s, rng = self.settings, np.random.default_rng([self.settings.seed, 5, number])
        layout = self._laid_out(patches, rng)
        image_id = f"{number:06}.{s.format}"
        behind, ground = self._ground(rng)
        _save(paint(layout, ground, soft=s.soft), folder / image_id)
        return Picture.of(image_id, (final / image_id).as_posix(), layout, behind)

    def _laid_out(self, patches: Sequence[Patch], rng: np.random.Generator) -> Layout:
        """Return a layout of these patches, or of others of the same classes if they are of odd shapes."""
        s = self.settings
        for _ in range(_OTHERS):
            layout = lay_out(patches, s.size, s.scale, s.overlap, rng)
            if layout is not None:
                return layout
            of = [self.patches[p.class_id] for p in patches]
            patches = [known[int(rng.integers(len(known)))] for known in of]
        raise no_room(len(patches), s)

    def _ground(self, rng: np.random.Generator) -> tuple[str, Pixels]:
        """Return the photograph that a background is from, if it is from one, and the background."""
        s = self.settings
        if self.backgrounds:
            return self.backgrounds[int(rng.integers(len(self.backgrounds)))]
        if s.background == "noise":
            return "", noise(s.size, rng)
        if s.background == "colour":
            return "", plain(s.size, rng.integers(0, 256, 3).tolist())
        return "", plain(s.size, GREY if s.background == "grey" else colour_of(s.background))

    def told(self) -> PatchML:
        """Return what was composed, and what was not."""
        patches = {self.objects.keys[c]: len(self.patches.get(c, ())) for c in self.wanted}
        counts = Counter(self.skipped[row] for row in sorted(self.skipped))
        skipped = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
        return PatchML(self.n_made, patches, skipped, tuple(self.notes))

    def _side_by_side(self, jobs: Iterator[tuple[Any, ...]]) -> Iterator[Any]:
        """Yield the results of (function, arguments…) in their order; few wait at once."""
        waiting: deque[Future[Any]] = deque()
        # Here and not in each thread: what warns is a setting of the whole process.
        with warnings.catch_warnings(), ThreadPoolExecutor(self.workers) as pool:
            warnings.simplefilter("ignore")
            try:
                for function, *given in jobs:
                    waiting.append(pool.submit(function, *given))
                    if len(waiting) > _AHEAD:
                        yield waiting.popleft().result()
                yield from (future.result() for future in waiting)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _tell(self, what: str, done: int, of: int) -> None:
        if self.progress:
            self.progress(what, done, of)


def _items(
    images: PathLike, wanted: set[str] | None, met: set[str]
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the images that are wanted, and put down all that are met."""
    for part in open_source(images).parts:
        for item, read in part.items():
            met.add(item.image_id)
            if wanted is None or item.image_id in wanted:
                yield item.image_id, read


def _decoded(read: Callable[[], Any]) -> Pixels | str:
    from manyhot.report.photographs import decoded, load_pillow

    image, reason = decoded(load_pillow(), read, _LARGEST)
    return reason if image is None else np.asarray(image, np.uint8)


def _save(picture: Pixels, path: Path) -> None:
    from PIL import Image

    options: dict[str, Any] = (
        {"compress_level": 3} if path.suffix == ".png" else {"quality": 95, "subsampling": 0}
    )
    Image.fromarray(picture).save(path, **options)
