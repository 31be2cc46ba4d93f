"""Photographs and objects in; pictures composed of patches of objects, with exact label sets, out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from manyhot.diagnose.patchml.compose import (
    Layout,
    Patch,
    Pixels,
    deal_as_they_occur,
    deal_evenly,
    lay_out,
    noise,
    paint,
    plain,
)
from manyhot.diagnose.patchml.folder import (
    DESCRIPTION,
    PARTS,
    Picture,
    beside,
    check_folder,
    swap,
    write_skipped,
    write_tables,
)
from manyhot.diagnose.patchml.material import Material
from manyhot.diagnose.patchml.settings import PatchSettings, colour_of, no_room
from manyhot.diagnose.pixels.removal import GREY
from manyhot.errors import InputError
from manyhot.files import sha256
from manyhot.formats import read_classes, read_objects
from manyhot.formats.writing import PathLike, Progress, check_apart

_OTHERS = 5


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
    material = Material(chosen, known, workers or 0, progress)
    material.read(images)
    dealt = _deal(material)
    with beside(out) as part:
        pictures = _compose_all(material, dealt, part / "images", out / "images")
        inputs = {Path(p).name: sha256(p) for p in (objects, masks, classes) if p and Path(p).is_file()}
        write_tables(pictures, known, part, call=call, inputs=inputs)
        write_skipped(material.skipped, known, part / "skipped.csv")
        written = tuple(out / name for name in (*PARTS, DESCRIPTION))
        done = _told(material, len(pictures), written)
        (part / DESCRIPTION).write_text(_description(done, chosen), encoding="utf-8", newline="\n")
        swap(part, out)
    return done


def _deal(material: Material) -> list[list[int]]:
    """Return the classes of each picture."""
    s, rng = material.settings, np.random.default_rng([material.settings.seed, 4])
    there = [c for c in material.wanted if c in material.patches]
    _check_patches(material, there)
    if s.as_they_occur:
        return deal_as_they_occur(s.n, s.objects, material.sets(there), rng)
    return deal_evenly(s.n, s.objects, there, rng, material.pairs)


def _check_patches(material: Material, there: Sequence[int]) -> None:
    """Refuse too few classes with patches, and note what classes lack."""
    keys, s = material.objects.keys, material.settings
    without = [keys[c] for c in material.wanted if c not in material.patches]
    asked = [k for k in without if k in s.only or any(k in p for p in s.pairs)]
    where = material.objects.name or None
    reasons = Counter(material.skipped.values()).most_common(3)
    told = "; ".join(f"{reason}: {n:,}" for reason, n in reasons)
    if asked:
        got = f"{_listed(asked)} ({told})"
        raise InputError("No object of a class can be cut out.", where=where, got=got)
    if not there or (len(there) < s.objects[1] and not s.as_they_occur):
        raise InputError(
            "There are fewer classes with patches than objects in a picture.",
            where=where,
            got=f"{len(there):,} classes, {s.objects[1]} objects ({told})",
        )
    if without:
        material.notes.append(f"without patches, and in no picture: {_listed(without)}")
    repeated = [keys[c] for c in there if len(material.patches[c]) < 10]
    if repeated:
        material.notes.append(f"fewer than ten patches, seen again and again: {_listed(repeated)}")


def _compose_all(
    material: Material, dealt: Sequence[Sequence[int]], folder: Path, final: Path
) -> list[Picture]:
    """Write all pictures into a folder, and return what is to be told of each."""
    turns: Counter[int] = Counter()
    jobs = []
    for number, classes in enumerate(dealt):
        chosen = [material.patches[c][turns[c] % len(material.patches[c])] for c in classes]
        turns.update(classes)
        jobs.append((_compose, material, number, chosen, folder, final))
    return list(material.side_by_side(iter(jobs), "composing", len(jobs)))


def _compose(material: Material, number: int, patches: Sequence[Patch], folder: Path, final: Path) -> Picture:
    s, rng = material.settings, np.random.default_rng([material.settings.seed, 5, number])
    layout = _laid_out(material, patches, rng)
    behind, ground = _ground(material, rng)
    image_id = f"{number:06}.{s.format}"
    _save(paint(layout, ground, soft=s.soft), folder / image_id)
    return Picture.of(image_id, (final / image_id).as_posix(), layout, behind)


def _laid_out(material: Material, patches: Sequence[Patch], rng: np.random.Generator) -> Layout:
    """Return a layout of these patches, or of others of the same classes if they are of odd shapes."""
    s = material.settings
    for _ in range(_OTHERS):
        layout = lay_out(patches, s.size, s.scale, s.overlap, rng)
        if layout is not None:
            return layout
        of = [material.patches[p.class_id] for p in patches]
        patches = [known[int(rng.integers(len(known)))] for known in of]
    raise no_room(len(patches), s)


def _ground(material: Material, rng: np.random.Generator) -> tuple[str, Pixels]:
    """Return the photograph that a background is from, if it is from one, and the background."""
    s = material.settings
    if material.backgrounds:
        return material.backgrounds[int(rng.integers(len(material.backgrounds)))]
    if s.background == "noise":
        return "", noise(s.size, rng)
    if s.background == "colour":
        return "", plain(s.size, rng.integers(0, 256, 3).tolist())
    return "", plain(s.size, GREY if s.background == "grey" else colour_of(s.background))


def _save(picture: Pixels, path: Path) -> None:
    from PIL import Image

    png: dict[str, Any] = {"compress_level": 3}
    options = png if path.suffix == ".png" else {"quality": 95, "subsampling": 0}
    Image.fromarray(picture).save(path, **options)


def _told(material: Material, n: int, written: tuple[Path, ...]) -> PatchML:
    """Return what was composed, and what was not."""
    patches = {material.objects.keys[c]: len(material.patches.get(c, ())) for c in material.wanted}
    counts = Counter(material.skipped[row] for row in sorted(material.skipped))
    skipped = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    return PatchML(n, patches, skipped, tuple(material.notes), written)


def _description(done: PatchML, settings: PatchSettings) -> str:
    told = {"pictures": done.n, "patches": done.patches, "skipped": done.skipped, "notes": done.notes}
    told |= {"settings": asdict(settings)}
    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"


def _listed(names: Sequence[str], most: int = 10) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
