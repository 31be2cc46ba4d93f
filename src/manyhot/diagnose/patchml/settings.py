"""Settings of composed images."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Annotated, Any, Literal

from manyhot.checks import is_number
from manyhot.diagnose.patchml.compose import fits_always
from manyhot.errors import InputError, UnknownNameError
from manyhot.parameters import Between, Count, Flattened, OptionName, PythonOnly, Seed, Shown, Was

BACKGROUNDS = ("grey", "noise", "colour", "blur", "crop")
"""What may be behind the objects, beside a colour such as ``#40a0ff`` and a folder of photographs."""


CUTS = ("box", "mask")


FORMATS = ("png", "jpg")


MOST_OVERLAP = 0.5
"""An object of which more is hidden would be in doubt."""


RangeLike = Annotated[str | tuple[float, float], Shown("RANGE")]
"""The least and the most, such as ``0.3-0.6``; or one number."""


@dataclass(frozen=True)
class PatchSettings(Flattened):
    """How images are composed.

    Attributes
    ----------
    n_images
        Number of images to compose.
    objects_per_image
        Number of objects in an image, each of another class.
    background
        What is behind the objects: grey, noise, colour (drawn for each image), a colour such as #40a0ff, blur
        (of the photographs), crop (places in them without objects), or a folder of photographs.
    cut
        Cut objects out by box, or by mask or polygons.
    size
        Width and height of an image, in pixels.
    pairs
        Two classes that occur together, as horse+person; each image has one of the pairs.
    to
        Format of the images.
    seed
        The same seed gives the same files.
    overlap
        Share of the most covered object that is hidden by others, up to 0.5.
    scale
        Long side of an object over that of the image.
    soft
        Pixels over which the edges of objects fade.
    min_size
        Least short side of an object in its photograph, in pixels.
    only
        Keys of the classes to take objects of; by default all.
    as_they_occur
        Take classes that occur together in a photograph, as often as they do; by default each class is as
        frequent as any other.
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
        """The fewest and the most objects of an image."""
        low, high = _ends(self.objects_per_image, "objects_per_image")
        if low != int(low) or high != int(high):
            raise _no_range(self.objects_per_image, "objects_per_image", "1-4, or 2")
        return int(low), int(high)

    @cached_property
    def overlaps(self) -> tuple[float, float]:
        """The least and the largest share of the most covered object that is hidden."""
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
        """The keys of the classes to take objects of; empty for all."""
        return [self.only] if isinstance(self.only, str) else list(self.only)

    def __post_init__(self) -> None:
        for what, value, low, high in (
            ("the number of objects", self.n_objects, 1, 100),
            ("the overlap", self.overlaps, 0, MOST_OVERLAP),
            ("the scale", self.scales, 0.05, 1),
        ):
            if not low <= value[0] <= value[1] <= high:
                raise InputError(
                    f"This is not a range for {what}.",
                    got=f"{value[0]:g} to {value[1]:g}",
                    allowed=f"from {low:g} to {high:g}, the smaller one first",
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
            raise InputError("`pairs` and `as_they_occur` exclude each other.", do="leave one of the two out")
        if (self.class_pairs or self.overlaps[0] > 0) and self.n_objects[0] < 2:
            what = "A pair needs" if self.pairs else "An overlap needs"
            raise InputError(
                f"{what} at least two objects in an image.",
                got=f"from {self.n_objects[0]} on",
                do=f"give --objects-per-image 2-{max(2, self.n_objects[1])}",
            )


def no_room(n: int, s: PatchSettings) -> InputError:
    """Return the error for n objects that do not fit into an image."""
    fits = int(100 * fits_always(n)) / 100
    covered = f"{s.overlaps[0]:g} to {s.overlaps[1]:g} of one covered"
    return InputError(
        "There is no room for the objects.",
        got=f"{n} objects at a scale from {s.scales[0]:g}, {covered}",
        allowed=f"{n} objects always fit at a scale from {fits:g} and an overlap from 0",
        do="take fewer objects, a smaller scale, or more overlap",
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
            near = difflib.get_close_matches(name, names, n=1)
            raise UnknownNameError(
                f"There is no setting {name!r}.",
                allowed=", ".join(names),
                do=f"did you mean {near[0]!r}?" if near else None,
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
        raise InputError("These are not two classes.", where="--pair", got=text, allowed="horse+person")
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
    return InputError("This is not a range of numbers.", where=name, got=value, allowed=allowed)
