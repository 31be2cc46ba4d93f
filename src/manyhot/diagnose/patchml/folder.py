"""The folder of composed pictures: its tables, and how it is put in the place of an earlier one."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa
from numpy import typing as npt

from manyhot import tables
from manyhot.diagnose.patchml.compose import Layout, fits_always
from manyhot.errors import InputError, OutputError, UnknownNameError, did_you_mean
from manyhot.files import write_refused
from manyhot.parameters import Between, Count, Flattened, OptionName, PythonOnly, Seed, Shown, Was, is_number
from manyhot.tables import STATES, Labels, Objects
from manyhot.tables.state_lists import state_lists

COMPLETE = "patchml.json"
"""Written last: with it the folder is complete."""

PARTS = ("images", "images.parquet", "labels.parquet", "objects.parquet", "classes.txt", "skipped.csv")
"""What else the folder holds."""

_UNFINISHED = ".unfinished-"


@dataclass(frozen=True)
class ComposedPicture:
    """A composed image, as described in the tables.

    Attributes
    ----------
    size : int
        Width and height, in pixels.
    classes : list of int
        Classes of the patches, the lowest patch first.
    label : int
        The class with the most visible pixels.
    boxes : list of tuple
        Left, top, right and bottom of each patch, in pixels.
    masks : list of bytes
        Masks of the visible pixels of each patch, as PNG files.
    sources : list of str
        Ids of the photographs of the patches, and of the photograph of the background if there is one.
    overlap, scale : float
        Share of the most covered patch that other patches cover, and mean scale of the patches.
    """

    image_id: str
    uri: str
    size: int
    classes: list[int]
    label: int
    boxes: list[tuple[int, int, int, int]]
    masks: list[bytes]
    sources: list[str]
    overlap: float
    scale: float

    @classmethod
    def of(cls, image_id: str, uri: str, layout: Layout, behind: str) -> ComposedPicture:
        """Return the composed image of a layout."""
        size, classes = len(layout.owner), [p.class_id for p in layout.patches]
        sides = [p.mask.shape for p in layout.patches]
        places = zip(layout.places, sides, strict=True)
        return cls(
            image_id,
            uri,
            size,
            classes,
            classes[int(layout.visible.argmax())],
            [(left, top, left + width, top + height) for (left, top), (height, width) in places],
            [_png(layout.owner == i) for i in range(len(classes))],
            [p.image_id for p in layout.patches] + [behind] * bool(behind),
            float(layout.covered.max()),
            float(np.mean([max(s) / size for s in sides])),
        )


def write_composed(
    pictures: Sequence[ComposedPicture],
    objects: Objects,
    folder: Path,
    *,
    call: str,
    inputs: Mapping[str, str],
) -> None:
    """Write the tables of composed images: images, label sets, objects and classes."""
    keys, class_hash = objects.keys, objects.class_hash
    columns = {
        "image_id": pa.array([p.image_id for p in pictures]),
        "uri": pa.array([p.uri for p in pictures]),
        "label": pa.array([p.label for p in pictures], pa.int32()),
        "width": pa.array([p.size for p in pictures], pa.int32()),
        "height": pa.array([p.size for p in pictures], pa.int32()),
        "n_objects": pa.array([len(p.classes) for p in pictures], pa.int32()),
        "overlap": pa.array([p.overlap for p in pictures], pa.float32()),
        "scale": pa.array([p.scale for p in pictures], pa.float32()),
        "sources": pa.array([p.sources for p in pictures], pa.list_(pa.string())),
    }
    about = {"classes": class_hash, "n_classes": str(len(keys))}
    made = pa.table(columns)
    tables.write(made, folder / "images.parquet", "images", call=call, inputs=inputs, about=about)
    labels = Labels(_label_sets(pictures, len(keys)), len(keys), class_hash, True, "patchml")
    tables.write_labels(labels, folder / "labels.parquet", call=call, inputs=inputs)
    laid = Objects(_objects(pictures), keys, class_hash)
    tables.write_objects(laid, folder / "objects.parquet", call=call)
    (folder / "classes.txt").write_text("".join(f"{k}\n" for k in keys), encoding="utf-8", newline="\n")


def write_skipped(skipped: Mapping[int, str], objects: Objects, path: Path) -> None:
    """Write a list of the objects that were not used, with their rows and the reasons."""
    rows = sorted(skipped)
    columns = {
        "image_id": objects.table["image_id"].take(pa.array(rows, pa.int64())).to_pylist(),
        "class": [objects.keys[c] for c in objects.class_id[rows]],
        "row": rows,
        "reason": [skipped[row] for row in rows],
    }
    types = {name: pl.Int64 if name == "row" else pl.String for name in columns}
    pl.DataFrame(columns, schema=types).write_csv(path)


def _label_sets(pictures: Sequence[ComposedPicture], n_classes: int) -> pa.Table:
    """Return label sets in which all classes were asked about."""
    n = len(pictures)
    every = np.tile(np.arange(n_classes, dtype=np.int32), n)
    state = np.full((n, n_classes), STATES.index("no"))
    for row, picture in zip(state, pictures, strict=True):
        row[picture.classes] = STATES.index("yes")
    return pa.table(
        {
            "image_id": [p.image_id for p in pictures],
            "label": pa.array([p.label for p in pictures], pa.int32()),
            "rated": pa.repeat(True, n),
            "usable": pa.repeat(True, n),
            **state_lists(np.full(n, n_classes), every, state.ravel()),
            "method": pa.repeat("patchml", n),
        }
    )


def _objects(pictures: Sequence[ComposedPicture]) -> pa.Table:
    """Return the objects of all pictures, with the pixels of each that are seen."""
    of = [(p, i) for p in pictures for i in range(len(p.classes))]
    ends = np.array([p.boxes[i] for p, i in of]) / np.array([[p.size] for p, _ in of])
    columns = {
        "image_id": pa.array([p.image_id for p, _ in of]),
        "class_id": pa.array([p.classes[i] for p, i in of], pa.int32()),
        **{name: pa.array(ends[:, k].astype(np.float32)) for k, name in enumerate(("x1", "y1", "x2", "y2"))},
        "ignore": pa.repeat(False, len(of)),
        "mask": pa.array([p.masks[i] for p, i in of], pa.binary()),
    }
    return pa.table(columns)


def _png(mask: npt.NDArray[np.bool_]) -> bytes:
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(mask).save(data, "PNG")
    return data.getvalue()


def check_folder(out: Path) -> None:
    """Raise an error if the folder contains anything but the files of an earlier run."""
    if out.exists() and not out.is_dir():
        raise OutputError(
            "There is a file with the name of the output folder.",
            where=out,
            do="move the file, or choose another `out`",
        )
    found = [p.name for p in out.iterdir() if not p.name.startswith(_UNFINISHED)] if out.is_dir() else []
    strange = sorted(set(found) - {*PARTS, COMPLETE})
    if strange or (found and COMPLETE not in found):
        raise OutputError(
            "The folder contains something other than composed images.",
            where=out,
            got=(strange or sorted(found))[0],
            do="choose another `out`",
        )


@contextmanager
def beside(out: Path) -> Iterator[Path]:
    """Yield a temporary folder inside `out`, from which files can be renamed into place; then remove it."""
    part = None
    try:
        out.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=out))
        (part / "images").mkdir()
        yield part
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise write_refused(out / COMPLETE, error) from error
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)
        with suppress(OSError):
            out.rmdir()  # where it is empty: nothing is left of what failed


def swap(part: Path, out: Path) -> None:
    """Replace earlier pictures with complete new ones."""
    (out / COMPLETE).unlink(missing_ok=True)
    if (out / "images").exists():
        (out / "images").rename(part / "old")
    for name in (*PARTS, COMPLETE):
        (part / name).replace(out / name)


BACKGROUNDS = ("grey", "noise", "colour", "blur", "crop")
"""What may be behind the objects, beside a colour such as ``#40a0ff`` and a folder of photographs."""

CUTS = ("box", "mask")
FORMATS = ("png", "jpg")
MOST_OVERLAP = 0.5
"""An object of which more is hidden would be in doubt."""

RangeLike = Annotated[str | tuple[float, float], Shown("RANGE")]
"""The least and the most, such as ``0.3-0.6``; or one number."""


@dataclass(frozen=True, repr=False)
class PatchSettings(Flattened):
    """Settings of the composition of images.

    Attributes
    ----------
    n_images
        Number of images to compose.
    objects_per_image
        Number of objects per image, as a number or a range; each object has a different class.
    background
        Background of the objects: grey, noise, colour (a random colour per image), a given colour such as
        #40a0ff, blur (blurred photographs), crop (parts of photographs without objects), or a folder of
        photographs.
    cut
        How to cut out objects: by their box, or by their mask or polygons.
    size
        Width and height of the images, in pixels.
    pairs
        Pair of classes that occur together, written as horse+person. Each image has one of the pairs.
    to
        Format of the images.
    seed
        Seed for all random choices; the same seed gives the same files.
    overlap
        Share of the most covered object that other objects hide, as a number or a range, from 0 to 0.5.
    scale
        Long side of an object as a share of the side of the image, as a number or a range.
    soft
        Width in pixels over which the edges of objects fade.
    min_size
        Minimum length of the short side of an object in its photograph, in pixels.
    only
        Keys of the classes whose objects are used; by default all.
    as_they_occur
        Combine classes that occur together in a photograph, with the same frequency as in the photographs. By
        default, all classes are equally frequent.
    """

    n_images: Annotated[Count, Was("--n")] = 1000
    objects_per_image: RangeLike = "1-4"
    background: Annotated[str, Shown("NAME")] = "grey"
    cut: Literal["box", "mask"] = "box"
    size: Annotated[int, Between(32, 4096)] = 224
    pairs: Annotated[Sequence[str | tuple[str, str]], OptionName("--pair"), Shown("PAIR")] = ()
    to: Annotated[Literal["png", "jpg"], Was("--format")] = "png"
    seed: Seed = 0
    overlap: Annotated[RangeLike, PythonOnly()] = "0-0.1"
    scale: Annotated[RangeLike, PythonOnly()] = "0.3-0.6"
    soft: Annotated[float, Between(0, 50), PythonOnly()] = 0.0
    min_size: Annotated[int, Between(4, 4096), PythonOnly()] = 32
    only: Annotated[str | Sequence[str], PythonOnly()] = ()
    as_they_occur: Annotated[bool, PythonOnly()] = False

    @cached_property
    def n_objects(self) -> tuple[int, int]:
        """The minimum and maximum number of objects per image."""
        low, high = _ends(self.objects_per_image, "objects_per_image")
        if low != int(low) or high != int(high):
            raise _no_range(self.objects_per_image, "objects_per_image", "1-4, or 2")
        return int(low), int(high)

    @cached_property
    def overlaps(self) -> tuple[float, float]:
        """The minimum and maximum share of the most covered object that is hidden."""
        return _ends(self.overlap, "overlap")

    @cached_property
    def scales(self) -> tuple[float, float]:
        """The smallest and the largest scale."""
        return _ends(self.scale, "scale")

    @cached_property
    def class_pairs(self) -> list[tuple[str, str]]:
        """The keys of classes that occur together."""
        return [pair_of(pair) if isinstance(pair, str) else pair for pair in self.pairs]

    @cached_property
    def only_classes(self) -> list[str]:
        """The keys of the classes whose objects are used; empty for all."""
        return [self.only] if isinstance(self.only, str) else list(self.only)

    def __post_init__(self) -> None:
        for what, value, low, high in (
            ("the number of objects", self.n_objects, 1, 100),
            ("the overlap", self.overlaps, 0, MOST_OVERLAP),
            ("the scale", self.scales, 0.05, 1),
        ):
            if not low <= value[0] <= value[1] <= high:
                raise InputError(
                    f"This is not a valid range for {what}.",
                    got=f"{value[0]:g} to {value[1]:g}",
                    allowed=f"{low:g} to {high:g}, with the smaller number first",
                )
        for what, number, low, high in (
            ("the number of images", self.n_images, 1, 10_000_000),
            ("the size of images", self.size, 32, 4096),
            ("the least size of an object", self.min_size, 4, 4096),
            ("the softness of edges", self.soft, 0, 50),
            ("the seed", self.seed, 0, 2**63 - 1),
        ):
            if not is_number(number) or not low <= number <= high:
                raise InputError(f"This cannot be {what}.", got=number, allowed=f"{low:,} to {high:,}")
        for name, choices in (("cut", CUTS), ("to", FORMATS)):
            if getattr(self, name) not in choices:
                allowed = " or ".join(choices)
                raise InputError(f"There is no such {name}.", got=getattr(self, name), allowed=allowed)
        self._check_together()

    def _check_together(self) -> None:
        if self.pairs and self.as_they_occur:
            raise InputError("`pairs` and `as_they_occur` cannot be combined.", do="leave one of the two out")
        if (self.class_pairs or self.overlaps[0] > 0) and self.n_objects[0] < 2:
            what = "A pair needs" if self.pairs else "An overlap needs"
            raise InputError(
                f"{what} at least two objects per image.",
                got=f"a minimum of {self.n_objects[0]}",
                do=f"set `objects_per_image`=2-{max(2, self.n_objects[1])}",
            )


def no_room(n: int, s: PatchSettings) -> InputError:
    """Return the error to raise if n objects do not fit into an image."""
    fits = int(100 * fits_always(n)) / 100
    covered = f"{s.overlaps[0]:g} to {s.overlaps[1]:g} of an object covered"
    return InputError(
        "The objects do not fit into an image.",
        got=f"{n} objects at a scale from {s.scales[0]:g}, {covered}",
        allowed=f"{n} objects always fit if the scale starts at {fits:g} or less and the overlap starts at 0",
        do="use fewer objects, a smaller scale or a larger overlap",
    )


def colour_of(text: str) -> list[int]:
    """Return red, green and blue of ``#rrggbb``."""
    digits = text.removeprefix("#")
    try:
        if len(digits) != 6:
            raise ValueError
        return list(bytes.fromhex(digits))
    except ValueError:
        raise InputError("This is not a colour.", got=text, allowed="such as #40a0ff") from None


def with_settings(settings: PatchSettings, values: Mapping[str, Any]) -> PatchSettings:
    """Return settings with some values replaced, by name.

    Raises
    ------
    UnknownNameError
        If there is no such setting.
    InputError
        If a value is out of range.
    """
    names = [field.name for field in fields(settings)]
    for name in values:
        if name not in names:
            raise UnknownNameError(
                f"There is no setting {name!r}.", allowed=", ".join(names), do=did_you_mean(name, names, 1)
            )
    return replace(settings, **values)


def pair_of(text: str) -> tuple[str, str]:
    """Return the two classes of ``horse+person``.

    Raises
    ------
    InputError
    """
    one, plus, other = text.partition("+")
    if not (one and plus and other and one != other):
        raise InputError(
            "A pair must consist of two different classes.", where="`pairs`", got=text, allowed="horse+person"
        )
    return one, other


def _ends(value: str | float | tuple[float, float], name: str) -> tuple[float, float]:
    """Return the ends of a range such as ``0.3-0.6``, or of a number."""
    if isinstance(value, tuple):
        return value
    low, dash, high = str(value).partition("-")
    try:
        return float(low), float(high if dash else low)
    except ValueError:
        raise _no_range(value, name, "0.3-0.6, or 0.5") from None


def _no_range(value: object, name: str, allowed: str) -> InputError:
    return InputError("This is not a range of numbers.", where=f"`{name}`", got=value, allowed=allowed)
