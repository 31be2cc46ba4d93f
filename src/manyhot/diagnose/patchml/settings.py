"""How pictures are composed of patches: what may be asked for."""

from __future__ import annotations

from dataclasses import dataclass

from manyhot.diagnose.patchml.compose import fits_always
from manyhot.errors import InputError

BACKGROUNDS = ("grey", "noise", "colour", "blur", "crop")
"""What may lie behind the patches, beside a colour such as ``#40a0ff`` and the photographs of a folder."""


CUTS = ("box", "mask")


FORMATS = ("png", "jpg")


MOST_OVERLAP = 0.5
"""An object of which more is covered would be in doubt."""


@dataclass(frozen=True)
class PatchSettings:
    """How pictures are composed.

    Attributes
    ----------
    n : int
        Pictures.
    objects : (int, int)
        The fewest and the most objects of a picture; each is of another class.
    overlap : (float, float)
        Of the object that is covered most, the share that lies under others; up to `MOST_OVERLAP`.
    scale : (float, float)
        The long side of an object over that of the picture.
    background : str
        One of `BACKGROUNDS`, a colour, or a folder of photographs.
    cut : {"box", "mask"}
    soft : float
        Pixels over which the edges of objects fade.
    size : int
        Sides of a picture in pixels.
    least : int
        Pixels of the short side of an object where it was photographed.
    only : tuple of str
        Keys of the classes to take patches of; all by default.
    pairs : tuple of (str, str)
        Keys of classes that stand together: each picture has one of these pairs.
    as_they_occur : bool
        Take classes that stand together in a photograph, as often as they do.
    format : {"png", "jpg"}
    seed : int
    """

    n: int = 1000
    objects: tuple[int, int] = (1, 4)
    overlap: tuple[float, float] = (0.0, 0.1)
    scale: tuple[float, float] = (0.3, 0.6)
    background: str = "grey"
    cut: str = "box"
    soft: float = 0.0
    size: int = 224
    least: int = 32
    only: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    as_they_occur: bool = False
    format: str = "png"
    seed: int = 0

    def __post_init__(self) -> None:
        for what, value, low, high in (
            ("the number of objects", self.objects, 1, 100),
            ("the overlap", self.overlap, 0, MOST_OVERLAP),
            ("the scale", self.scale, 0.05, 1),
        ):
            if not low <= value[0] <= value[1] <= high:
                raise InputError(
                    f"This is no range for {what}.",
                    got=f"{value[0]:g} to {value[1]:g}",
                    allowed=f"from {low:g} to {high:g}, the smaller one first",
                )
        for what, number, low, high in (
            ("the number of pictures", self.n, 1, 10_000_000),
            ("the size of pictures", self.size, 32, 4096),
            ("the least size of an object", self.least, 4, 4096),
            ("the softness of edges", self.soft, 0, 50),
            ("the seed", self.seed, 0, 2**63 - 1),
        ):
            if not low <= number <= high:
                raise InputError(f"This cannot be {what}.", got=number, allowed=f"{low:,} to {high:,}")
        for name, known in (("cut", CUTS), ("format", FORMATS)):
            if getattr(self, name) not in known:
                allowed = " or ".join(known)
                raise InputError(f"There is no such {name}.", got=getattr(self, name), allowed=allowed)
        self._check_together()

    def _check_together(self) -> None:
        if self.pairs and self.as_they_occur:
            raise InputError(
                "Classes stand together as pairs say, or as they occur.", do="leave one of the two out"
            )
        if (self.pairs or self.overlap[0] > 0) and self.objects[0] < 2:
            what = "A pair takes" if self.pairs else "What is to overlap takes"
            raise InputError(
                f"{what} two objects or more in a picture.",
                got=f"from {self.objects[0]} on",
                do=f"give --objects-per-image 2-{max(2, self.objects[1])}",
            )


def no_room(n: int, s: PatchSettings) -> InputError:
    """Return what to raise where n objects do not fit into a picture."""
    fits = int(100 * fits_always(n)) / 100
    covered = f"{s.overlap[0]:g} to {s.overlap[1]:g} of one covered"
    return InputError(
        "There is no room for the objects.",
        got=f"{n} objects at a scale from {s.scale[0]:g}, {covered}",
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
        raise InputError("This is no colour.", got=text, allowed="such as #40a0ff") from None


def whole_range(text: str, option: str) -> tuple[int, int]:
    """Return the ends of a range of whole numbers such as ``1-4``, or ``2``.

    Raises
    ------
    InputError
    """
    low, high = _ends(text)
    if not (low.isdecimal() and high.isdecimal()):
        raise _no_range(text, option, "1-4, or 2")
    return int(low), int(high)


def real_range(text: str, option: str) -> tuple[float, float]:
    """Return the ends of a range such as ``0.3-0.6``, or ``0.5``.

    Raises
    ------
    InputError
    """
    try:
        low, high = map(float, _ends(text))
    except ValueError:
        raise _no_range(text, option, "0.3-0.6, or 0.5") from None
    return low, high


def pair_of(text: str) -> tuple[str, str]:
    """Return the two classes of ``horse+person``.

    Raises
    ------
    InputError
    """
    one, plus, other = text.partition("+")
    if not (one and plus and other and one != other):
        raise InputError("These are no two classes.", where="--pair", got=text, allowed="horse+person")
    return one, other


def _ends(text: str) -> tuple[str, str]:
    low, dash, high = text.partition("-")
    return low.strip(), (high if dash else low).strip()


def _no_range(text: str, option: str, allowed: str) -> InputError:
    return InputError("This is no range of numbers.", where=option, got=text, allowed=allowed)
