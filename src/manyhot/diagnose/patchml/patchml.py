"""Images composed of objects cut out of photographs, with exact label sets."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from manyhot.command import command, takes_fields
from manyhot.console import table_lines
from manyhot.data.reading_options import ObjectsLike
from manyhot.data.table_inputs import open_objects
from manyhot.diagnose.patchml.compose import (
    Layout,
    Patch,
    Pixels,
    deal_as_they_occur,
    deal_evenly,
    lay_out,
    noise,
    paint,
    plain_background,
)
from manyhot.diagnose.patchml.folder import (
    COMPLETE,
    PARTS,
    ComposedPicture,
    PatchSettings,
    beside,
    check_folder,
    colour_of,
    no_room,
    swap,
    with_settings,
    write_composed,
    write_skipped,
)
from manyhot.diagnose.patchml.material import Material
from manyhot.diagnose.pixels.removal import GREY
from manyhot.errors import InputError, counted, first_names
from manyhot.files import hashes_of
from manyhot.formats import ClassNamesLike, open_class_list
from manyhot.formats.writing import PathLike, check_apart
from manyhot.parameters import NO_SETTINGS, Address, Count, Settings, Shown
from manyhot.predict.sources import open_source
from manyhot.predict.sources.label_ids import objects_of_source
from manyhot.result import Result
from manyhot.run import QUIET, Run

_ATTEMPTS = 5
"""Layouts that are tried with other objects before there is no room."""


@dataclass(frozen=True, eq=False)
class PatchML(Result):
    """Composed images.

    Attributes
    ----------
    n : int
        Number of images.
    patches : dict of str to int
        Number of different objects that are available, by class key.
    skipped : dict of str to int
        Number of objects that could not be used, by reason.
    notes, metadata, inputs, written
        As in `Result`.
    """

    n: int
    patches: Mapping[str, int]
    skipped: Mapping[str, int]

    def lines(self) -> Iterator[str]:
        """Yield the numbers of images, of objects, and of skipped objects by reason."""
        objects = sum(self.patches.values())
        classes = sum(n > 0 for n in self.patches.values())
        yield f"{counted(self.n, 'image')} of {objects:,} objects of {classes:,} classes"
        if self.skipped:
            yield ""
            yield from table_lines(
                ("skipped", "objects"), [(why, f"{n:,}") for why, n in self.skipped.items()]
            )
        yield ""

    def to_json(self) -> dict[str, Any]:
        """Return the number of images, of objects by class, and of skipped objects by reason."""
        return {
            "pictures": self.n,
            "patches": self.patches,
            "skipped": self.skipped,
            "notes": self.notes,
        }


@takes_fields
@command(
    "patchml",
    examples=(
        "manyhot patchml photos --objects instances_val2017.json --out patchml",
        "manyhot patchml photos --objects objects.parquet --objects-per-image 2 --pair horse+person",
        "manyhot patchml photos --objects objects.parquet --set overlap=0.1-0.3 --set soft=2",
    ),
    moved={
        "--overlap": "--set overlap=0-0.1",
        "--scale": "--set scale=0.3-0.6",
        "--soft": "--set soft=2",
        "--least": "--set min_size=32",
        "--only": "--set only=horse",
        "--as-they-occur": "--set as_they_occur=True",
    },
)
def patchml(
    images: Annotated[PathLike, Address(), Shown("IMAGES")],
    *,
    objects: ObjectsLike,
    out: Annotated[PathLike, Shown("FOLDER")] = "patchml",
    settings: PatchSettings = PatchSettings(),  # noqa: B008  it is frozen
    more_settings: Settings = NO_SETTINGS,
    masks: Annotated[PathLike | None, Shown("FOLDER")] = None,
    classes: ClassNamesLike | None = None,
    workers: Count | None = None,
    run: Run = QUIET,
) -> PatchML:
    """Compose images from objects cut out of photographs, without context and with exact label sets.

    The command writes images/, images.parquet, labels.parquet, objects.parquet, classes.txt, skipped.csv and
    patchml.json. The files of an earlier run are replaced when all new files are complete.

    Parameters
    ----------
    images
        Photographs, as for predict.
    objects
        Locations of objects in the photographs: a table with one box per row, a COCO JSON file, or a Pascal
        VOC folder.
    out
        Folder to write to. It is created if it does not exist.
    settings
        See `PatchSettings`.
    more_settings
        Further settings: overlap, scale, soft, min_size, only or as_they_occur; see the guide.
    masks
        Semantic masks: a folder of PNG files, or a Parquet table that contains them.
    classes
        Class list of the objects, for files that do not name one.
    workers
        Number of threads; by default one per core. It does not affect the files.

    Returns
    -------
    PatchML

    Raises
    ------
    InputError
        If there are no objects to compose, or the objects do not fit into an image.
    OutputError
        If the folder contains other files, or a file cannot be written.
    """
    out, chosen = Path(out), with_settings(settings, more_settings)
    files = (objects, masks, classes)
    check_apart([images, *files], out)
    check_folder(out)
    table = open_objects(objects, open_class_list(classes), masks)
    table, like = objects_of_source(table, open_source(images))
    material = Material(chosen, table, workers or 0, run.on_progress)
    material.notes += [like.text] if like.n else []
    material.read(images)
    dealt = _deal(material)
    with beside(out) as part:
        pictures = _compose_all(material, dealt, part / "images", out / "images")
        inputs = hashes_of(files)
        write_composed(pictures, table, part, call=run.call, inputs=inputs)
        write_skipped(material.skipped, table, part / "skipped.csv")
        result = replace(_result(material, len(pictures)), inputs=inputs)
        description = result.to_json() | {"settings": asdict(chosen)}
        text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
        (part / COMPLETE).write_text(text, encoding="utf-8", newline="\n")
        swap(part, out)
    return replace(result, written=tuple(out / name for name in (*PARTS, COMPLETE)))


def _deal(material: Material) -> list[list[int]]:
    """Return the classes of each picture."""
    s, rng = material.settings, np.random.default_rng([material.settings.seed, 4])
    available = [c for c in material.class_ids if c in material.patches]
    _check_patches(material, available)
    if s.as_they_occur:
        return deal_as_they_occur(s.n_images, s.n_objects, material.sets(available), rng)
    return deal_evenly(s.n_images, s.n_objects, available, rng, material.pairs)


def _check_patches(material: Material, available: Sequence[int]) -> None:
    """Raise an error if too few classes have patches, and note what is missing."""
    keys, s = material.objects.keys, material.settings
    without = [keys[c] for c in material.class_ids if c not in material.patches]
    requested = [k for k in without if k in s.only or any(k in p for p in s.class_pairs)]
    where = material.objects.name or None
    reasons = Counter(material.skipped.values()).most_common(3)
    counts = "; ".join(f"{reason}: {n:,}" for reason, n in reasons)
    if requested:
        got = f"{first_names(requested, 10)} ({counts})"
        raise InputError("None of the objects of a requested class can be cut out.", where=where, got=got)
    if not available or (len(available) < s.n_objects[1] and not s.as_they_occur):
        raise InputError(
            "There are fewer classes with usable objects than objects per image.",
            where=where,
            got=f"{len(available):,} classes, {s.n_objects[1]} objects ({counts})",
        )
    if without:
        material.notes.append(
            f"classes left out because they have no usable objects: {first_names(without, 10)}"
        )
    repeated = [keys[c] for c in available if len(material.patches[c]) < 10]
    if repeated:
        material.notes.append(
            "classes with fewer than ten usable objects, each of which is used repeatedly: "
            f"{first_names(repeated, 10)}"
        )


def _compose_all(
    material: Material, dealt: Sequence[Sequence[int]], folder: Path, final: Path
) -> list[ComposedPicture]:
    """Write all images into a folder, and return a description of each."""
    turns: Counter[int] = Counter()
    jobs = []
    for number, classes in enumerate(dealt):
        chosen = [material.patches[c][turns[c] % len(material.patches[c])] for c in classes]
        turns.update(classes)
        jobs.append((_compose, material, number, chosen, folder, final))
    return list(material.side_by_side(iter(jobs), "composing", len(jobs)))


def _compose(
    material: Material, number: int, patches: Sequence[Patch], folder: Path, final: Path
) -> ComposedPicture:
    s, rng = material.settings, np.random.default_rng([material.settings.seed, 5, number])
    layout = _laid_out(material, patches, rng)
    behind, ground = _ground(material, rng)
    image_id = f"{number:06}.{s.to}"
    _save(paint(layout, ground, soft=s.soft), folder / image_id)
    return ComposedPicture.of(image_id, (final / image_id).as_posix(), layout, behind)


def _laid_out(material: Material, patches: Sequence[Patch], rng: np.random.Generator) -> Layout:
    """Return a layout of these patches, or of others of the same classes if they are of odd shapes."""
    s = material.settings
    for _ in range(_ATTEMPTS):
        layout = lay_out(patches, s.size, s.scales, s.overlaps, rng)
        if layout is not None:
            return layout
        of = [material.patches[p.class_id] for p in patches]
        patches = [same[int(rng.integers(len(same)))] for same in of]
    raise no_room(len(patches), s)


def _ground(material: Material, rng: np.random.Generator) -> tuple[str, Pixels]:
    """Return the photograph that a background is from, if it is from one, and the background."""
    s = material.settings
    if material.backgrounds:
        return material.backgrounds[int(rng.integers(len(material.backgrounds)))]
    if s.background == "noise":
        return "", noise(s.size, rng)
    if s.background == "colour":
        return "", plain_background(s.size, rng.integers(0, 256, 3).tolist())
    return "", plain_background(s.size, GREY if s.background == "grey" else colour_of(s.background))


def _save(picture: Pixels, path: Path) -> None:
    from PIL import Image

    png: dict[str, Any] = {"compress_level": 3}
    options = png if path.suffix == ".png" else {"quality": 95, "subsampling": 0}
    Image.fromarray(picture).save(path, **options)


def _result(material: Material, n: int) -> PatchML:
    patches = {material.objects.keys[c]: len(material.patches.get(c, ())) for c in material.class_ids}
    counts = Counter(material.skipped[row] for row in sorted(material.skipped))
    skipped = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    return PatchML(n, patches, skipped, notes=tuple(material.notes))
