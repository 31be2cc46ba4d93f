"""Objects cut out of photographs, and backgrounds made of them: the material of composed images."""

from __future__ import annotations

import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from manyhot.core.threads import cores
from manyhot.diagnose.patchml.compose import Patch, Pixels, blurred, cut, free_crop, square
from manyhot.diagnose.patchml.folder import BACKGROUNDS, PatchSettings, colour_of
from manyhot.diagnose.pixels.regions import Regions, find_regions
from manyhot.errors import InputError
from manyhot.extras import required
from manyhot.formats.writing import PathLike
from manyhot.predict.sources import open_source
from manyhot.run import Progress
from manyhot.tables import Objects

_PHOTOGRAPHS = 200
_MEMORY = 500e6
_ROUNDS = (3, 10, 1 << 40)
_LARGEST = 1 << 14
_AHEAD = 32
OUTSIDE = "its box is empty or outside the image"
IGNORED = "ignored: too difficult, or a crowd"
ABSENT = "the images do not contain it"


@dataclass
class Material:
    """The material that images are composed of.

    Attributes
    ----------
    workers : int
        Number of threads; 0 for one per core.
    progress : callable, optional
    class_ids : sequence of int
        Classes whose objects are used.
    pairs : list of (int, int)
        Classes that occur together.
    patches : dict of int to list of Patch
        Patches by class, in the order in which they are used.
    backgrounds : list of (str, ndarray)
        The id of each photograph, and the background made from it.
    skipped : dict of int to str
        Reasons why objects cannot be used, by their rows in the table of objects.
    """

    settings: PatchSettings
    objects: Objects
    workers: int = 0
    progress: Progress | None = None
    class_ids: Sequence[int] = ()
    pairs: list[tuple[int, int]] = field(default_factory=list)
    patches: dict[int, list[Patch]] = field(default_factory=dict)
    backgrounds: list[tuple[str, Pixels]] = field(default_factory=list)
    skipped: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        s, keys = self.settings, {key: i for i, key in enumerate(self.objects.keys)}
        self.pairs = [(_class(a, keys), _class(b, keys)) for a, b in s.class_pairs]
        only = [_class(key, keys) for key in s.only_classes]
        self.class_ids = sorted({*only, *(c for p in self.pairs for c in p if only)}) or range(len(keys))
        self._ids: list[str] = self.objects.table["image_id"].to_pylist()
        if len(self.class_ids) < s.n_objects[1] and not s.as_they_occur:
            most = len(self.class_ids)
            raise InputError(
                "The objects of an image must have different classes, but there are fewer classes than "
                "objects.",
                got=f"{most:,} classes, {s.n_objects[1]} objects",
                do=f"set `objects_per_image`={min(s.n_objects[0], most)}-{most}",
            )
        self._check_background()

    def read(self, images: PathLike) -> None:
        """Read the photographs, and cut out objects of each class until there are enough, or none are left.

        Raises
        ------
        InputError
            If there is no object to cut out, no crop for a background, or no object in any of the images.
        """
        left, enough = self._candidates(), self._enough()
        for times in _ROUNDS:
            chosen: list[int] = []
            for c, rows in left.items():
                lack = enough[c] - len(self.patches.get(c, ()))
                n = min(20 + times * lack, len(rows)) if lack > 0 else 0
                chosen, left[c] = chosen + rows[:n], rows[n:]
            if chosen:
                self._read_once(images, chosen)
        for c, patches in self.patches.items():
            del patches[enough[c] :]
        self._find_backgrounds()

    def sets(self, classes: Sequence[int]) -> list[list[int]]:
        """Return which of these classes occur in each photograph that shows enough of them for an image.

        Raises
        ------
        InputError
            If there is no such photograph.
        """
        usable, fewest = (
            ~self.objects.ignore & np.isin(self.objects.class_id, classes),
            self.settings.n_objects[0],
        )
        rows = (self.objects.images[i] for i in sorted(self.objects.images))
        sets = [np.unique(self.objects.class_id[r[usable[r]]]).tolist() for r in rows]
        large = [found for found in sets if len(found) >= fewest]
        if not large:
            raise InputError(
                "No image has objects of enough classes.",
                got=f"a minimum of {fewest} classes per image",
                allowed=f"at most {max(map(len, sets))}",
            )
        return large

    def side_by_side(self, jobs: Iterator[tuple[Any, ...]], what: str, of: int) -> Iterator[Any]:
        """Yield the results of jobs (function, arguments…) in order, computing only a few in advance."""
        waiting: deque[Future[Any]] = deque()
        # Not in each thread: the filter of warnings is a setting of the whole process.
        with warnings.catch_warnings(), ThreadPoolExecutor(self.workers or cores()) as pool:
            warnings.simplefilter("ignore")
            try:
                for done, (function, *given) in enumerate(jobs, 1):
                    waiting.append(pool.submit(function, *given))
                    if len(waiting) > _AHEAD:
                        yield waiting.popleft().result()
                    if self.progress:
                        self.progress(what, done, of)
                yield from (future.result() for future in waiting)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _read_once(self, images: PathLike, chosen: Sequence[int]) -> None:
        """Cut out some objects, and make the backgrounds where there are none yet."""
        behind = set() if self.backgrounds else self._behind()
        rows: dict[str, list[int]] = {image_id: [] for image_id in behind}
        for row in chosen:
            rows.setdefault(self._ids[row], []).append(row)
        met: set[str] = set()
        found = self._cut_out(images, rows, behind, met)
        if not met & self.objects.images.keys():
            raise InputError(
                "None of the images has objects.",
                where=images,
                got=f"images such as {min(met)}" if met else "no images",
                allowed=f"images with objects, such as {min(rows)}",
            )
        for row in chosen:
            patch = found.get(row, ABSENT)
            if isinstance(patch, str):
                self.skipped[row] = patch
            else:
                self.patches.setdefault(patch.class_id, []).append(patch)

    def _candidates(self) -> dict[int, list[int]]:
        """Return the objects of each class in random order."""
        rng = np.random.default_rng([self.settings.seed, 1])
        of = np.isin(self.objects.class_id, list(self.class_ids))
        self.skipped |= dict.fromkeys(np.flatnonzero(of & self.objects.ignore).tolist(), IGNORED)
        there = of & ~self.objects.ignore
        if not there.any():
            raise InputError(
                "There is no object to cut out.",
                where=self.objects.name or None,
                got=f"{len(self.objects):,} objects, all of which are ignored or belong to other classes",
            )
        rows = {c: np.flatnonzero(there & (self.objects.class_id == c)) for c in self.class_ids}
        return {c: rng.permutation(found).tolist() for c, found in rows.items()}

    def _enough(self) -> dict[int, int]:
        """Return how many patches of each class suffice: those needed, or as many as fit into memory."""
        s = self.settings
        room = max(10, int(_MEMORY / (4 * (s.scales[1] * s.size) ** 2 * len(self.class_ids))))
        return {c: min(int(np.ceil(1.2 * n)), room) for c, n in self._needed().items()}

    def _needed(self) -> dict[int, float]:
        """Return about how often each class will be taken."""
        s = self.settings
        if s.as_they_occur:
            sets = self.sets(self.class_ids)
            counts = Counter(c for found in sets for c in found)
            return {c: s.n_images * counts[c] / len(sets) for c in self.class_ids}
        needed = dict.fromkeys(self.class_ids, s.n_images * s.n_objects[1] / len(self.class_ids))
        for c in (c for pair in self.pairs for c in pair):
            needed[c] += s.n_images / len(self.pairs)
        return needed

    def _cut_out(
        self, images: PathLike, rows: Mapping[str, list[int]], behind: set[str], met: set[str]
    ) -> dict[int, Patch | str]:
        """Return the patches cut out of photographs, or why there are none, by row."""
        found: dict[int, Patch | str] = {}
        jobs = (
            (self._cut_image, image_id, read, rows[image_id], image_id in behind)
            for image_id, read in _items(images, rows, met)
        )
        for image_id, patches, background in self.side_by_side(jobs, "cutting out", len(rows)):
            found |= patches
            if background is not None:
                self.backgrounds.append((image_id, background))
        return found

    def _cut_image(
        self, image_id: str, read: Callable[[], Any], rows: Sequence[int], behind: bool
    ) -> tuple[str, dict[int, Patch | str], Pixels | None]:
        pixels = _decoded(read)
        if isinstance(pixels, str):
            return image_id, dict.fromkeys(rows, pixels), None
        regions = find_regions(self.objects, image_id, pixels.shape[1], pixels.shape[0])
        if isinstance(regions, str):
            return image_id, dict.fromkeys(rows, regions), None
        patches = {row: self._cut(image_id, pixels, regions, row) for row in rows}
        return image_id, patches, self._background(image_id, pixels, regions) if behind else None

    def _cut(self, image_id: str, pixels: Pixels, regions: Regions, row: int) -> Patch | str:
        s, region = self.settings, next((r for r in regions.objects if r.row == row), None)
        if region is None:
            return OUTSIDE
        patch = cut(pixels, regions, region, by=s.cut, least=s.min_size, image_id=image_id)
        longest = round(s.scales[1] * s.size)
        large = isinstance(patch, Patch) and max(patch.mask.shape) > longest
        return patch.scaled(longest) if isinstance(patch, Patch) and large else patch

    # Backgrounds.

    def _check_background(self) -> None:
        background = self.settings.background
        if background.startswith("#"):
            colour_of(background)
        elif background not in BACKGROUNDS and not Path(background).is_dir():
            allowed = f"{', '.join(BACKGROUNDS)}; a colour such as #40a0ff; a folder of photographs"
            raise InputError("There is no such background.", got=background, allowed=allowed)

    def _behind(self) -> set[str]:
        """Return the photographs to make backgrounds of."""
        if self.settings.background not in ("blur", "crop"):
            return set()
        ids, rng = sorted(self.objects.images), np.random.default_rng([self.settings.seed, 2])
        # Half of all photographs have no place without objects.
        most = _PHOTOGRAPHS * (3 if self.settings.background == "crop" else 1)
        return {ids[i] for i in rng.permutation(len(ids))[:most]}

    def _background(self, image_id: str, pixels: Pixels, regions: Regions) -> Pixels | None:
        if self.settings.background == "blur":
            return blurred(pixels, self.settings.size)
        rng = np.random.default_rng([self.settings.seed, 3, *image_id.encode()])
        return free_crop(pixels, regions, self.settings.size, 2 * self.settings.min_size, rng)

    def _find_backgrounds(self) -> None:
        """Put backgrounds in order, and read those of a folder."""
        background = self.settings.background
        self.backgrounds.sort(key=lambda item: item[0])
        if background in ("blur", "crop") and not self.backgrounds:
            raise InputError(
                "No photograph can be used for the background.",
                got=f"`background`={background}",
                do="choose another background, such as grey",
            )
        if background not in BACKGROUNDS and not background.startswith("#"):
            self._read_folder(background)

    def _read_folder(self, folder: str) -> None:
        files = sorted(_items(folder, None, set()), key=lambda item: item[0])
        drawn = np.random.default_rng([self.settings.seed, 2]).permutation(len(files))[:_PHOTOGRAPHS]
        found = [(files[i][0], _decoded(files[i][1])) for i in sorted(drawn)]
        size = self.settings.size
        self.backgrounds = [(i, square(p, size)) for i, p in found if not isinstance(p, str)]
        if not self.backgrounds:
            raise InputError("None of the photographs in the folder can be decoded.", where=folder)
        if lost := len(found) - len(self.backgrounds):
            self.notes.append(f"{lost:,} of {len(found):,} backgrounds cannot be decoded")


def _class(key: str, keys: Mapping[str, int]) -> int:
    if key not in keys:
        allowed = ", ".join(list(keys)[:30])
        raise InputError("The objects have no class with this key.", got=key, allowed=allowed)
    return keys[key]


def _items(
    images: PathLike, image_ids: Mapping[str, Any] | None, met: set[str]
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the images with these ids, or all, and add the id of each image to `met`."""
    for part in open_source(images).parts:
        for item, read in part.items():
            met.add(item.image_id)
            if image_ids is None or item.image_id in image_ids:
                yield item.image_id, read


def _decoded(read: Callable[[], Any]) -> Pixels | str:
    from manyhot.report.pictures import decoded, load_pillow

    required("PIL", "PatchML", '"manyhot[diagnose]"')
    image, reason = decoded(load_pillow(), read, _LARGEST, windowed=False)
    return reason if image is None else np.asarray(image, np.uint8)
