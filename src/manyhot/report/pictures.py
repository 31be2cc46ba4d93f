"""Photographs with their label sets and models' predictions."""

from __future__ import annotations

import base64
import importlib
import io
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from manyhot.classes import ClassList
from manyhot.core.array_types import Ints
from manyhot.errors import InputError, ManyhotError, MissingExtraError
from manyhot.files import local_path, write_text
from manyhot.report.shown_grey import is_negative, is_transparent, show_colours, shown_grey
from manyhot.tables import Images, Labels, Predictions, align
from manyhot.tables.labels import with_zeros

Stored = TypeVar("Stored")

Opener = Callable[[], bytes]
"""Reads the bytes of a photograph, or raises an OSError with the reason."""

MAX_BYTES = 1 << 28
"""Maximum size of a photograph's file, in bytes."""

Photographs = Iterable[tuple[int, Opener]]
"""The position of each image and its opener, in the order in which reading is fast."""


def load_pillow() -> Any:
    """Return the package PIL.

    Raises
    ------
    MissingExtraError
        If Pillow is not installed.
    """
    try:
        importlib.import_module("PIL.ImageOps")
        return importlib.import_module("PIL")
    except ImportError as error:
        raise MissingExtraError(
            "A report with pictures needs Pillow.", do='pip install "manyhot[report]"'
        ) from error


def in_files(uris: Sequence[str | None]) -> Iterator[tuple[int, Opener]]:
    """Yield photographs, each of which is read from its own file."""
    return ((i, opener(uri)) for i, uri in enumerate(uris))


def opener(uri: str | None) -> Opener:
    """Return a function that reads a file, or raises an OSError with the reason why it cannot be read."""
    if not uri:
        return absent("the images table has no uri for this image")
    path = local_path(uri)
    if path is None:
        return absent("not a file on this computer")
    if not path.is_file():
        return absent("not a file" if path.exists() else "the file does not exist")
    size = path.stat().st_size
    return path.read_bytes if size <= MAX_BYTES else absent(f"{size:,} bytes: more than {MAX_BYTES:,}")


def absent(reason: str) -> Opener:
    """Return an opener that raises an OSError with this reason."""

    def fail() -> bytes:
        raise OSError(reason)

    return fail


def decoded(pillow: Any, read: Opener, side: int, *, windowed: bool = True) -> tuple[Any, str]:
    """Return an upright RGB photograph whose longer side has at most `side` pixels, or None and the reason.

    All metadata are removed except the colour profile, which is in ``info``. Images of more than 8 bits are
    windowed for display by `shown_grey` and `show_colours`; if `windowed` is false, they keep their
    brightness.
    """
    try:
        data = read()
    except OSError as error:
        return None, f"cannot be read: {error.strerror}" if error.strerror else str(error)
    except ManyhotError as error:
        return None, error.what.rstrip(".")
    try:
        return _shrink(pillow, data, side, windowed), ""
    except Exception as error:
        # Decoders raise many kinds of errors on broken files: OSError, SyntaxError, struct.error, …
        if isinstance(error, pillow.UnidentifiedImageError):
            return None, "not an image of a known format"
        return None, f"cannot be decoded: {type(error).__name__}"


def _shrink(pillow: Any, data: bytes, side: int, windowed: bool) -> Any:
    with pillow.Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", (side, side))
        on_white = is_transparent(image)
        if windowed:
            show_colours(image)
        upright = pillow.ImageOps.exif_transpose(image)
        if windowed and image.mode[0] in "IF":
            upright = shown_grey(upright, is_negative(image))
        small = _coloured(pillow, upright, on_white)
        profile = image.info.get("icc_profile")
    small.thumbnail((side, side))
    # Pillow writes a comment that is in `info`, and version 11.0 writes XMP, unasked.
    small.info = {"icc_profile": profile} if profile and profile[16:20] == b"RGB " else {}
    return small


def _coloured(pillow: Any, image: Any, on_white: bool) -> Any:
    if image.mode.startswith("I"):  # 16 bits per pixel, which `convert` would clip to white
        return image.point(lambda v: v * (1 / 256)).convert("RGB")
    if not on_white:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    white = pillow.Image.new("RGBA", rgba.size, "white")
    return pillow.Image.alpha_composite(white, rgba).convert("RGB")


TOP = 5
MAX_SIDE = 480
"""Pixels of the longer side of a photograph in a report: about 30 kB as JPEG."""

NOT_ASKED, UNRECORDED = "not asked", "unrecorded"
"""States of a class that an image does not list: no rater was asked about it, or it is unknown which were
asked."""


@dataclass(frozen=True)
class ClassState:
    """A class with its state on an image: yes, unclear, no, `NOT_ASKED` or `UNRECORDED`."""

    name: str
    state: str


@dataclass(frozen=True)
class Guess:
    """One of a model's top classes; `confidence` is its softmax probability, if known."""

    judged: ClassState
    is_label: bool
    confidence: float | None


@dataclass(frozen=True)
class Seen:
    """A model's top classes for an image; empty if the model has no prediction for the image."""

    model: str
    guesses: tuple[Guess, ...]


@dataclass(frozen=True)
class Thumbnail:
    """A photograph as a data URI, with its size in pixels."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class PredictedPicture:
    """An image with its labels and predictions.

    Attributes
    ----------
    thumbnail : Thumbnail, optional
    reason : str
        Why there is no thumbnail.
    label : str, optional
        The original single label.
    label_set : tuple of ClassState
        The valid classes and the unclear classes.
    n_rejected : int
        Number of classes that raters found not to be valid.
    remark : str
        A remark on the image, for example that no rater has seen it.
    seen : tuple of Seen
    """

    image_id: str
    thumbnail: Thumbnail | None
    reason: str
    label: str | None
    label_set: tuple[ClassState, ...]
    n_rejected: int
    remark: str
    seen: tuple[Seen, ...]


@dataclass(frozen=True)
class Pictures:
    """The pictures of a report, in the order of the images table."""

    pictures: tuple[PredictedPicture, ...]

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def states(self) -> frozenset[str]:
        """The states that occur, for the legend."""
        sets = {j.state for p in self.pictures for j in p.label_set}
        return frozenset(sets | {g.judged.state for p in self.pictures for s in p.seen for g in s.guesses})


def make_pictures(
    images: Images,
    labels: Labels,
    predictions: Sequence[Predictions],
    classes: ClassList | None = None,
    *,
    photographs: Photographs | None = None,
) -> Pictures:
    """Collect photographs, label sets and predictions.

    Parameters
    ----------
    images : Images
        Images table whose column ``uri`` contains paths to local files.
    predictions : sequence of Predictions
    classes : ClassList, optional
        Class list with the names of the classes. Without it, classes are shown by number.
    photographs : Photographs, optional
        The photographs to read. By default, each is read from its own file.

    Returns
    -------
    Pictures
        The pictures. An unreadable photograph is replaced by the reason.

    Raises
    ------
    MissingExtraError
        If Pillow is not installed.
    MatchError
        If labels or a model share no image with `images`.
    """
    pillow = load_pillow()
    read = dict(in_files(image_values(images, "uri")) if photographs is None else photographs)
    rows = label_rows(images, labels)
    best = [best_classes(images, p) for p in predictions]
    pictures = []
    for i, image_id in enumerate(images.image_id.to_pylist()):
        seen = (
            Seen(p.model, _guesses(of[i], rows[i], classes)) for p, of in zip(predictions, best, strict=True)
        )
        pictures.append(_picture(image_id, thumbnail(pillow, read[i]), rows[i], tuple(seen), classes))
    return Pictures(tuple(pictures))


def _picture(
    image_id: str,
    thumbnail: tuple[Thumbnail | None, str],
    row: LabelRow,
    seen: tuple[Seen, ...],
    classes: ClassList | None,
) -> PredictedPicture:
    return PredictedPicture(
        image_id,
        *thumbnail,
        None if row.label is None else class_name(classes, row.label),
        tuple(ClassState(class_name(classes, c), s) for s in ("yes", "unclear") for c in row.classes_in(s)),
        len(row.classes_in("no")),
        row.remark,
        seen,
    )


@dataclass(frozen=True)
class LabelRow:
    """The labels of an image.

    `otherwise` is the state of classes that are not listed, and `is_rated` is true if raters checked the
    label set.
    """

    label: int | None = None
    states: tuple[tuple[int, str], ...] = ()
    remark: str = "No rater has seen this image."
    otherwise: str = NOT_ASKED
    is_rated: bool = False

    def classes_in(self, state: str) -> list[int]:
        """Return the classes with a state."""
        return [c for c, s in self.states if s == state]

    def state(self, class_id: int) -> str:
        """Return the state of a class."""
        return dict(self.states).get(class_id, self.otherwise)


def label_rows(images: Images, labels: Labels) -> list[LabelRow]:
    """Return the labels of each image."""
    name = labels.name or "labels"
    matched = align(images.image_id, labels.image_id, left_name="the images", right_name=name)
    rows = [LabelRow(label) for label in image_values(images, "label")]
    otherwise = NOT_ASKED if labels.asked_known else UNRECORDED
    table = with_zeros(replace(labels, table=labels.table.take(matched.right))).table
    for i, row in zip(matched.left.tolist(), table.to_pylist(), strict=True):
        if labels.exclusive and "yes" not in row["state"]:  # raters chose one class each, and disagree
            row["state"] = ["unclear"] * len(row["state"])
        states = tuple(zip(row["classes"], row["state"], strict=True))
        label = row.get("label")
        label = rows[i].label if label is None else label
        is_rated = bool(row["usable"]) and row.get("rated") is not False
        rows[i] = LabelRow(label, states, _remark(row), otherwise, is_rated)
    return rows


def image_values(images: Images, name: str) -> list[Any]:
    """Return a column of the images; if it is missing, every value is None."""
    present = name in images.table.column_names
    return images.table[name].to_pylist() if present else [None] * len(images)


def _remark(row: dict[str, Any]) -> str:
    if not row["usable"]:
        return "Set aside as unusable."
    if row.get("rated") is False:
        return "No rater has seen this image."
    return "" if {"yes", "unclear"} & set(row["state"]) else "No class of the list is valid."


def class_name(classes: ClassList | None, class_id: int) -> str:
    """Return the name of a class, or its number if it has no name."""
    if classes is None or class_id >= len(classes):
        return f"class {class_id}"
    return classes.names[class_id]


def best_classes(images: Images, p: Predictions) -> list[list[tuple[int, float | None]]]:
    """Return at most `TOP` top classes of each image, with their confidence."""
    matched = align(images.image_id, p.image_id, left_name="the images", right_name=p.model)
    # Before `confidence`: a file may hold dense scores of 50,000 images, few of which are shown.
    few = p.take(matched.right)
    confidence = few.confidence()
    classes: Ints
    if few.classes is None:
        assert few.scores is not None
        classes = np.argsort(-few.scores, axis=1, kind="stable")[:, :TOP]
        confidence = None if confidence is None else np.take_along_axis(confidence, classes, axis=1)
    else:
        classes = few.classes[:, :TOP]
    best: list[list[tuple[int, float | None]]] = [[] for _ in range(len(images))]
    for row, i in enumerate(matched.left.tolist()):
        sure = [None] * TOP if confidence is None else confidence[row, :TOP].tolist()
        best[i] = [(c, s) for c, s in zip(classes[row].tolist(), sure, strict=False) if c >= 0]
    return best


def _guesses(
    best: list[tuple[int, float | None]], row: LabelRow, classes: ClassList | None
) -> tuple[Guess, ...]:
    return tuple(
        Guess(ClassState(class_name(classes, c), row.state(c)), c == row.label, sure) for c, sure in best
    )


def thumbnail(pillow: Any, read: Opener, side: int = MAX_SIDE) -> tuple[Thumbnail | None, str]:
    """Return a photograph whose longer side has at most `side` pixels, or None and the reason."""
    with warnings.catch_warnings():
        # Pillow warns of odd metadata and of large images; both can be shown.
        warnings.simplefilter("ignore")
        small, reason = decoded(pillow, read, side)
    if small is None:
        return None, reason
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=82, optimize=True, icc_profile=small.info.get("icc_profile"))
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return Thumbnail(f"data:image/jpeg;base64,{encoded}", small.width, small.height), ""


def write_pictures(pictures: Pictures | None, path: Path) -> list[Path]:
    """Write pictures to a JSON file; if there are none, remove the file of an earlier run."""
    if pictures is None:
        path.unlink(missing_ok=True)
        return []
    write_text(path, json.dumps([asdict(p) for p in pictures.pictures], ensure_ascii=False))
    return [path]


def read_pictures(path: Path) -> Pictures | None:
    """Read the pictures that `write_pictures` wrote; None if there is no file."""
    found = read_stored(path, _read_picture, "the pictures of a report", "pictures")
    return Pictures(found) if path.is_file() else None


def read_stored(
    path: Path, read: Callable[[dict[str, Any]], Stored], what: str, lost: str
) -> tuple[Stored, ...]:
    """Return the entries of a JSON file, empty if there is none; an error says `what` it holds.

    Raises
    ------
    InputError
        If the file is broken.
    """
    try:
        return tuple(map(read, json.loads(path.read_text(encoding="utf-8")))) if path.is_file() else ()
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"The file does not contain {what}.",
            where=path,
            got=str(error).partition("\n")[0],
            do=f"run manyhot evaluate again, or delete the file to get a report without {lost}",
        ) from error


def _read_picture(fields: dict[str, Any]) -> PredictedPicture:
    thumbnail, seen = fields["thumbnail"], fields["seen"]
    return PredictedPicture(
        **fields
        | {
            "thumbnail": Thumbnail(**thumbnail) if thumbnail else None,
            "label_set": tuple(ClassState(**j) for j in fields["label_set"]),
            "seen": tuple(Seen(s["model"], tuple(_read_guess(g) for g in s["guesses"])) for s in seen),
        }
    )


def _read_guess(fields: dict[str, Any]) -> Guess:
    return Guess(**fields | {"judged": ClassState(**fields["judged"])})
