"""Photographs with their labels and the predictions of models."""

from __future__ import annotations

import base64
import io
import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from manyhot.classes import ClassList
from manyhot.core.array_types import Ints
from manyhot.errors import InputError
from manyhot.files import write_text
from manyhot.report.photographs import Opener, Photographs, decoded, in_files, load_pillow
from manyhot.tables import Images, Labels, Predictions, align

TOP = 5
MAX_SIDE = 480
"""Pixels of the long side of a photograph in a report: some 30 kB as JPEG."""

NOT_ASKED, UNRECORDED = "not asked", "unrecorded"
"""The state of a class that an image does not list: nobody was asked about it, or the labels do not say."""


@dataclass(frozen=True)
class Judged:
    """A class with its state on an image: yes, unclear, no, `NOT_ASKED` or `UNRECORDED`."""

    name: str
    state: str


@dataclass(frozen=True)
class Guess:
    """One of a model's top classes; `confidence` is its softmax probability where that is known."""

    judged: Judged
    is_label: bool
    confidence: float | None


@dataclass(frozen=True)
class Seen:
    """A model's top classes on an image, best first; none if it did not predict the image."""

    model: str
    guesses: tuple[Guess, ...]


@dataclass(frozen=True)
class Thumbnail:
    """A photograph as a data URI, with its size in pixels."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Picture:
    """An image with its labels and predictions.

    Attributes
    ----------
    image_id : str
    thumbnail : Thumbnail, optional
    reason : str
        Why there is no thumbnail.
    label : str, optional
        The original single label.
    label_set : tuple of Judged
        The valid and the unclear classes.
    n_rejected : int
        Classes that were asked about and are not valid.
    remark : str
        A remark, such as that no rater has seen the image.
    seen : tuple of Seen
    """

    image_id: str
    thumbnail: Thumbnail | None
    reason: str
    label: str | None
    label_set: tuple[Judged, ...]
    n_rejected: int
    remark: str
    seen: tuple[Seen, ...]


@dataclass(frozen=True)
class Pictures:
    """The pictures of a report, in the order of the images table."""

    pictures: tuple[Picture, ...]

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
        With the column ``uri``: paths of local files.
    labels : Labels
    predictions : sequence of Predictions
    classes : ClassList, optional
        Gives the names; without it, classes are numbered.
    photographs : Photographs, optional
        What reads them; by default each is a file of its own.

    Returns
    -------
    Pictures
        An unreadable photograph is replaced by the reason.

    Raises
    ------
    MissingExtraError
        Pillow is not installed.
    MatchError
        Labels or a model share no image with `images`.
    """
    pillow = load_pillow()
    read = dict(in_files(image_column(images, "uri")) if photographs is None else photographs)
    rows = label_rows(images, labels)
    best = [best_classes(images, p) for p in predictions]
    found = []
    for i, image_id in enumerate(images.image_id.to_pylist()):
        seen = (
            Seen(p.model, _guesses(of[i], rows[i], classes)) for p, of in zip(predictions, best, strict=True)
        )
        found.append(_picture(image_id, _thumbnail(pillow, read[i]), rows[i], tuple(seen), classes))
    return Pictures(tuple(found))


def _picture(
    image_id: str,
    thumbnail: tuple[Thumbnail | None, str],
    row: LabelRow,
    seen: tuple[Seen, ...],
    classes: ClassList | None,
) -> Picture:
    return Picture(
        image_id,
        *thumbnail,
        None if row.label is None else class_name(classes, row.label),
        tuple(Judged(class_name(classes, c), s) for s in ("yes", "unclear") for c in row.classes_in(s)),
        len(row.classes_in("no")),
        row.remark,
        seen,
    )


@dataclass(frozen=True)
class LabelRow:
    """The labels of an image; `otherwise` is the state of a class that is not listed.

    `rated` says whether raters checked its label set.
    """

    label: int | None = None
    states: tuple[tuple[int, str], ...] = ()
    remark: str = "No rater has seen this picture."
    otherwise: str = NOT_ASKED
    rated: bool = False

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
    rows = [LabelRow(label) for label in image_column(images, "label")]
    otherwise = NOT_ASKED if labels.asked_known else UNRECORDED
    table = labels.table.take(matched.right)
    for i, row in zip(matched.left.tolist(), table.to_pylist(), strict=True):
        states = tuple(zip(row["classes"], row["state"], strict=True))
        label = row.get("label")
        label = rows[i].label if label is None else label
        rated = bool(row["usable"]) and row.get("rated") is not False
        rows[i] = LabelRow(label, states, _remark(row), otherwise, rated)
    return rows


def image_column(images: Images, name: str) -> list[Any]:
    """Return a column of the images, or None for each."""
    known = name in images.table.column_names
    return images.table[name].to_pylist() if known else [None] * len(images)


def _remark(row: dict[str, Any]) -> str:
    if not row["usable"]:
        return "Set aside as unusable."
    if row.get("rated") is False:
        return "No rater has seen this picture."
    return "" if {"yes", "unclear"} & set(row["state"]) else "No class of the list is valid."


def class_name(classes: ClassList | None, class_id: int) -> str:
    """Return the name of a class, or its number where there is none."""
    known = classes is not None and class_id < len(classes)
    return classes.names[class_id] if known and classes is not None else f"class {class_id}"


def best_classes(images: Images, p: Predictions) -> list[list[tuple[int, float | None]]]:
    """Return the `TOP` classes of each image with their confidence."""
    matched = align(images.image_id, p.image_id, left_name="the images", right_name=p.model)
    few = _rows(p, matched.right)
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


def _rows(p: Predictions, rows: npt.NDArray[np.int64]) -> Predictions:
    # Before `confidence`: a file may hold dense scores of 50,000 images, of which a few are shown.
    return replace(
        p,
        image_id=pc.take(p.image_id, pa.array(rows)),
        classes=None if p.classes is None else p.classes[rows],
        scores=None if p.scores is None else p.scores[rows],
        logsumexp=None if p.logsumexp is None else p.logsumexp[rows],
    )


def _guesses(
    best: list[tuple[int, float | None]], row: LabelRow, classes: ClassList | None
) -> tuple[Guess, ...]:
    return tuple(
        Guess(Judged(class_name(classes, c), row.state(c)), c == row.label, sure) for c, sure in best
    )


def _thumbnail(pillow: Any, read: Opener) -> tuple[Thumbnail | None, str]:
    with warnings.catch_warnings():
        # Pillow warns of odd metadata and of half the size that it refuses; both are fine to go on with.
        warnings.simplefilter("ignore")
        small, reason = decoded(pillow, read, MAX_SIDE)
    if small is None:
        return None, reason
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=82, optimize=True, icc_profile=small.info.get("icc_profile"))
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return Thumbnail(f"data:image/jpeg;base64,{encoded}", small.width, small.height), ""


def write_pictures(pictures: Pictures | None, path: Path) -> list[Path]:
    """Write pictures to a JSON file; without any, remove what an earlier run left."""
    if pictures is None:
        path.unlink(missing_ok=True)
        return []
    write_text(path, json.dumps([asdict(p) for p in pictures.pictures], ensure_ascii=False))
    return [path]


def read_pictures(path: Path) -> Pictures | None:
    """Read what `write_pictures` wrote; None where there is no file.

    Raises
    ------
    InputError
        If the file is broken.
    """
    if not path.is_file():
        return None
    try:
        return Pictures(tuple(_read_picture(p) for p in json.loads(path.read_text(encoding="utf-8"))))
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            "The file does not hold the pictures of a report.",
            where=path,
            got=str(error).partition("\n")[0],
            do="judge again, or delete the file for a report without pictures",
        ) from error


def _read_picture(fields: dict[str, Any]) -> Picture:
    thumbnail, seen = fields["thumbnail"], fields["seen"]
    return Picture(
        **fields
        | {
            "thumbnail": Thumbnail(**thumbnail) if thumbnail else None,
            "label_set": tuple(Judged(**j) for j in fields["label_set"]),
            "seen": tuple(Seen(s["model"], tuple(_read_guess(g) for g in s["guesses"])) for s in seen),
        }
    )


def _read_guess(fields: dict[str, Any]) -> Guess:
    return Guess(**fields | {"judged": Judged(**fields["judged"])})
