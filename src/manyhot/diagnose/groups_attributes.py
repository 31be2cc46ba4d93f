"""Groups of images, defined by pixels, files, metadata, objects, label sets or clusters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot.core.array_types import Bools, Floats, Ints
from manyhot.core.image_statistics import LETTERS, TINTS, colour_name, tint_towards
from manyhot.core.repeated_patterns import (
    AGREES,
    THUMBNAIL_SIDE,
    FixedPattern,
    Patches,
    find_fixed_pattern,
    find_repeated_patch,
    frame_boxes,
)
from manyhot.core.sets import LabelSets
from manyhot.diagnose.image_statistics import MeasuredImages
from manyhot.tables.image_conditions import MAX_VALUES

GROUP_KINDS = (
    "frame",
    "mark",
    "patch",
    "text",
    "label",
    "object",
    "metadata",
    "source",
    "brightness",
    "tint",
    "sharpness",
    "contrast",
    "saturation",
    "size",
    "file",
    "cluster",
)
"""What defines a group, the most specific kinds first: of groups that hold the same images, the first is
named."""

OVERLAYS = GROUP_KINDS[:4]
"""What does not belong to the scene."""

LACKING = "not also "
"""How the name of a group of images that do not show a class begins."""

TAIL_SHARES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
"""Shares of the images that the groups of a measurement contain, from the low and from the high end."""

_FRAME = 0.5  # of `find_frame`; of 400 photographs of CIFAR-10, none has more than 0.28
_GREY = 1e-6  # tint up to which a photograph is grey; rounding leaves 1e-9 of zero, a level of 255 is 4e-3
_ROUNDING = 1e-9  # range of values, relative to the largest, up to which they are constant
_OWN_CLUSTERS, _MOST_CLUSTERS = 50, 50  # images a cluster, at least on average; clusters
_FITTED = 20_000  # embeddings that clusters are fitted to
_DIMENSIONS = 32


@dataclass(frozen=True, eq=False)
class Mark:
    """A frame, tag or band, and its place in the images.

    Attributes
    ----------
    name : str
        Such as ``green frame``.
    inside : ndarray of bool, shape (n,)
        Whether each image has the mark.
    boxes : callable
        Function that returns the boxes of the mark in the image of a row, as fractions of width and height,
        shape (k, 4).
    """

    name: str
    inside: Bools
    boxes: Callable[[int], Floats]


@dataclass(frozen=True, eq=False)
class ImageGroup:
    """A group of images.

    Attributes
    ----------
    kind : str
        One of `GROUP_KINDS`.
    name : str
        A short and unique name, such as ``green frame``.
    phrase : str
        The words after "images", such as ``with a green frame``.
    inside : ndarray of bool, shape (n,)
    is_searched : bool
        Whether labels or predictions of some images were used to define the group.
    mark : Mark, optional
        The mark that all images of the group have, or that all of them lack; None if its place is unknown.
    class_id : int
        The class that all images of the group show, or that all of them lack; -2 for groups that are not
        defined by label sets.
    among : ndarray of bool, shape (n,), optional
        The images that are compared, with and without the property; None for all images.
    """

    kind: str
    name: str
    phrase: str
    inside: Bools
    is_searched: bool = False
    mark: Mark | None = None
    class_id: int = -2
    among: Bools | None = None


def without(group: ImageGroup, among: Bools) -> ImageGroup:
    """Return the group of all images of `among` that are not in this group."""
    phrase = (
        group.phrase.replace("with ", "without ", 1)
        if group.phrase.startswith("with ")
        else f"not {group.phrase}"
    )
    return ImageGroup(
        group.kind, f"no {group.name}", phrase, among & ~group.inside, group.is_searched, group.mark
    )


# Photographs.


def measured_groups(images: MeasuredImages) -> Iterator[ImageGroup]:
    """Yield groups that are defined by the statistics of the photographs."""
    yield from _frames(images)
    letters = ImageGroup(
        "text", "text-like edges", "with text-like edges", images.values("letters") >= LETTERS
    )
    yield from (letters, without(letters, images.is_measured))
    for kind, name, low, high, values in _measurements(images):
        yield from _by_share(kind, name, low, high, values)
    for column, kind, words in _FILE_COLUMNS:
        yield from value_groups(images.table[column], kind, column.replace("_", " "), words)
    sizes = [
        None if w is None else f"{w} × {h}"
        for w, h in zip(*(images.table[c].to_pylist() for c in ("width", "height")), strict=True)
    ]
    yield from value_groups(pa.chunked_array([pa.array(sizes, pa.string())]), "size", "size", "of {} pixels")


_FILE_COLUMNS = (
    ("file_format", "file", "in {} files"),
    ("camera", "file", "by the camera {}"),
    ("software", "file", "by the software {}"),
)


def _frames(images: MeasuredImages) -> Iterator[ImageGroup]:
    has = images.values("frame") >= _FRAME
    colours = np.stack([images.values(f"frame_{c}") for c in "rgb"], axis=1)
    names = np.array([colour_name(c) if h else "" for c, h in zip(colours, has, strict=True)])
    distinct = np.unique(names[has])
    each = [(f"{name} frame", names == name) for name in distinct]
    for name, inside in [*each, *([("frame", has)] if len(distinct) > 1 else [])]:
        mark = Mark(name, inside, partial(_boxes_of_frame, images))
        group = ImageGroup("frame", name, f"with {_a(name)}", inside, mark=mark)
        yield from (group, without(group, images.is_measured))


def _boxes_of_frame(images: MeasuredImages, row: int) -> Floats:
    """Return the boxes of a measured frame, a tenth and one of 256 pixels wider than it was measured."""
    width, height, measured = (float(images.values(c)[row]) for c in ("width", "height", "frame_width"))
    deep = (1.1 * measured + 1 / 256) * min(width, height)
    return frame_boxes(deep / width, deep / height)


def _a(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def _measurements(images: MeasuredImages) -> Iterator[tuple[str, str, str, str, Floats]]:
    """Yield kind, name, and the phrases for low and high values, of each measurement.

    The phrases compare, because the limits are quantiles of the images: half of all images need not be dark.
    """
    value = images.values
    yield "brightness", "brightness", "that are darker", "that are brighter", value("brightness")
    border = value("border_brightness")
    yield "brightness", "border brightness", "with a darker border", "with a brighter border", border
    yield "contrast", "contrast", "of lower contrast", "of higher contrast", value("contrast")
    yield "saturation", "saturation", "with paler colours", "with stronger colours", value("saturation")
    yield "sharpness", "sharpness", "that are less sharp", "that are sharper", value("sharpness")
    for place, before in (("", ""), ("border_", "border ")):
        for hue in TINTS:
            towards = tint_towards(hue, value(f"{place}blue"), value(f"{place}red"))
            towards = np.where(np.abs(towards) < _GREY, 0.0, towards)
            tint = f"a tint that is closer to {hue}"
            phrase = f"whose border has {tint}" if place else f"with {tint}"
            yield "tint", f"{before}tint {hue}", "", phrase, towards
    width, height = value("width"), value("height")
    yield "size", "aspect ratio", "that are narrower", "that are wider", width / height
    yield "size", "pixels", "that are smaller", "that are larger", width * height
    yield (
        "file",
        "bytes per pixel",
        "in more strongly compressed files",
        "in less strongly compressed files",
        value("bytes_per_pixel"),
    )


def _by_share(kind: str, name: str, low: str, high: str, values: Floats) -> Iterator[ImageGroup]:
    """Yield the images with the lowest and with the highest values."""
    known = values[np.isfinite(values)]
    if not len(known) or np.ptp(known) <= _ROUNDING * np.abs(known).max():
        return
    seen = set[int]()
    for share in TAIL_SHARES:
        for phrase, sign, at in (
            (low, "≤", np.quantile(known, share)),
            (high, "≥", np.quantile(known, 1 - share)),
        ):
            inside = values <= at if sign == "≤" else values >= at
            n = int(inside.sum())
            if not phrase or n == len(known) or (key := hash((sign, n))) in seen:
                continue
            seen.add(key)
            yield ImageGroup(
                kind,
                f"{name} {sign} {short_number(at)}",
                f"{phrase} ({name} {sign} {short_number(at)})",
                inside,
            )


def short_number(value: float) -> str:
    """Return a number with three digits."""
    return f"{value:.3g}".replace("-", "−") if abs(value) < 1e4 else f"{value:,.0f}"


def value_groups(column: pa.ChunkedArray, kind: str, name: str, phrase: str) -> Iterator[ImageGroup]:
    """Yield the group of each value that some images share; no group if there are too many such values."""
    values = column.cast(pa.string()).combine_chunks()
    counts = pc.value_counts(values.drop_null())
    shared = [c["values"].as_py() for c in counts if 1 < c["counts"].as_py() < len(values)]
    if len(shared) > MAX_VALUES:
        return
    for value in sorted(shared):
        inside = pc.fill_null(pc.equal(values, value), False).to_numpy(zero_copy_only=False)
        yield ImageGroup(kind, f"{name} {value}", phrase.format(value), inside)


def source_groups(uris: Sequence[str | None], label: Ints) -> Iterator[ImageGroup]:
    """Yield the images of each folder or archive, unless each folder contains a single class."""
    places = ["" if uri is None else uri.rpartition("#")[0] or uri.rpartition("/")[0] for uri in uris]
    names, at = np.unique(places, return_inverse=True)
    labels_a_place = [len(np.unique(label[at == i])) for i in range(min(len(names), MAX_VALUES + 1))]
    if len(names) > MAX_VALUES or (len(names) > 1 and max(labels_a_place) == 1):
        return
    column = pa.chunked_array([pa.array([p.rpartition("/")[2] or p for p in places], pa.string())])
    yield from value_groups(column, "source", "source", "of the source {}")


# Tables.


def metadata_groups(table: pa.Table) -> Iterator[ImageGroup]:
    """Yield groups that are defined by the columns of a table with one row per image.

    Images without a value are a group of their own, and are left out where values are compared.
    """
    for name in table.column_names:
        column = table[name]
        if pa.types.is_nested(column.type):
            continue
        if is_measure(column):
            values = np.asarray(pc.fill_null(column.cast(pa.float64(), safe=False), float("nan")).to_numpy())
            found = _by_share("metadata", name, "with a lower value", "with a higher value", values)
        else:
            found = value_groups(column, "metadata", name, f"with {name} {{}}")
        has_value = has_values(column)
        if has_value.all():
            yield from found
        elif has_value.any():
            yield from (replace(group, among=has_value) for group in found)
            yield ImageGroup("metadata", f"without {name}", f"without a value of {name}", ~has_value)


def has_values(column: pa.ChunkedArray) -> Bools:
    """Return whether each image has a value of a column, shape (n,)."""
    found: Bools = pc.invert(column.is_null(nan_is_null=True)).to_numpy()
    return found


def is_measure(column: pa.ChunkedArray) -> bool:
    """Return whether a column contains fractions, or many different whole numbers."""
    is_number = pa.types.is_integer(column.type) and len(column.unique()) > 20
    return is_number or pa.types.is_floating(column.type)


def presence_groups(present: Bools, names: Sequence[str]) -> Iterator[ImageGroup]:
    """Yield the images with each object and the images without it; `present` has shape (n, objects)."""
    for at in np.flatnonzero(present.any(axis=0)).tolist():
        group = ImageGroup("object", names[at], f"with {_a(names[at])}", present[:, at])
        yield from (group, without(group, np.ones(len(present), bool)))


def class_groups(
    shown: Bools, among: Bools, names: Sequence[str], asked: Bools | None = None
) -> Iterator[ImageGroup]:
    """Yield the images that also show each class, and those that do not; `shown` has shape (n, classes).

    If `asked`, shape (n, classes), is passed, only images on which a class was asked about are compared.
    """
    for at in np.flatnonzero(shown.any(axis=0)).tolist():
        also, own = f"also {names[at]}", shown[:, at]
        has = None if asked is None or asked[among, at].all() else asked[:, at]
        yield ImageGroup("label", also, f"that also show {names[at]}", own, class_id=at, among=has)
        others = among & ~own if has is None else among & ~own & has
        phrase = f"that do not also show {names[at]}"
        yield ImageGroup("label", f"{LACKING}{names[at]}", phrase, others, class_id=at, among=has)


def other_labels(sets: LabelSets, stratum: Ints) -> Bools:
    """Return the valid classes of each image, except the class within which the image is compared."""
    present = sets.yes_matrix()
    has = stratum >= 0
    present[np.flatnonzero(has), stratum[has]] = False
    return present


# Embeddings.


def cluster_groups(
    vectors: npt.NDArray[np.floating], rows: Ints, n: int, describe: Callable[[Bools], str], seed: int
) -> Iterator[ImageGroup]:
    """Yield clusters of embeddings, found by k-means on their directions.

    Parameters
    ----------
    vectors : ndarray of float, shape (v, D)
    rows : ndarray of int, shape (v,)
        The image of each vector.
    n : int
        Number of images.
    describe : callable
        Returns what a cluster contains.
    """
    from scipy.cluster.vq import kmeans2, vq

    rng = np.random.default_rng(seed)
    k = min(len(vectors) // _OWN_CLUSTERS, _MOST_CLUSTERS)
    if k < 2:
        return
    unit = np.asarray(vectors, np.float32)
    unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    few = unit[np.sort(rng.permutation(len(unit))[:_FITTED])]
    mean = few.mean(axis=0)
    axes = np.linalg.svd((few - mean)[:5000], full_matrices=False)[2][:_DIMENSIONS].T
    centres, _ = kmeans2((few - mean) @ axes, k, minit="++", seed=rng)
    code, _ = vq((unit - mean) @ axes, centres)
    for i in range(k):
        inside = np.zeros(n, bool)
        inside[rows[code == i]] = True
        if inside.any():
            about = describe(inside)
            yield ImageGroup(
                "cluster", f"cluster {i + 1}", f"of cluster {i + 1} of the embeddings{about}", inside
            )


# Patterns that recur.


@dataclass(frozen=True, eq=False)
class PatternSearch:
    """Finds patterns that recur in the chosen images and are rare in the other images.

    Attributes
    ----------
    seen : ndarray of bool, shape (n,)
        The images that are searched for patterns.
    """

    images: MeasuredImages
    seen: Bools
    seed: int

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        object.__setattr__(self, "patches", Patches.of(self.images.thumbnails, rng))

    patches: Patches = None  # type: ignore[assignment]

    def groups(self, chosen: Bools, others: Bools, min_images: int) -> Iterator[ImageGroup]:
        """Yield the images with a pattern that chosen images share, at the same or at different places."""
        usable = self.seen & self.images.is_measured
        own, outside = np.flatnonzero(chosen & usable), np.flatnonzero(others & usable)
        if min(len(own), len(outside)) < min_images:
            return
        size = np.stack([self.images.values("width"), self.images.values("height")], axis=1)
        fixed = find_fixed_pattern(self.images.thumbnails, own, outside, size)
        if fixed is not None:
            name, phrase = _place(fixed)
            inside = fixed.score >= AGREES
            mark = Mark(name, inside, fixed.boxes_in)
            group = ImageGroup("frame" if fixed.is_frame else "mark", name, phrase, inside, True, mark)
            yield from (group, without(group, self.images.is_measured))
            return
        patch = find_repeated_patch(self.patches, own, outside, np.random.default_rng(self.seed))
        if patch is not None:
            at = self.images.table["image_id"][patch.image].as_py()
            place = " and ".join(
                f"{100 * edge // THUMBNAIL_SIDE} % from the {side}"
                for edge, side in ((patch.left, "left"), (patch.top, "top"))
            )
            phrase = f"with a pasted object (a patch that recurs, {place} of {at})"
            group = ImageGroup("patch", f"patch of {at}", phrase, patch.distance <= patch.threshold, True)
            yield from (group, without(group, self.images.is_measured))


def _place(pattern: FixedPattern) -> tuple[str, str]:
    """Return the name of a pattern by its place and colour, and the phrase."""
    rows, columns = np.flatnonzero(pattern.where.any(axis=1)), np.flatnonzero(pattern.where.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1], columns[0], columns[-1]
    tall, wide = (bottom - top + 1) / THUMBNAIL_SIDE, (right - left + 1) / THUMBNAIL_SIDE
    colour = f"{colour_name(pattern.colour)} " if pattern.is_flat else ""
    if pattern.is_frame:
        name = f"{colour}frame"
        return name, f"with {_a(name)}"
    vertical, horizontal = _end(top, bottom, "top", "bottom"), _end(left, right, "left", "right")
    if wide > 0.7 and tall < 0.5:
        name, where = f"{colour}band", f"at the {vertical or 'middle'}"
    elif tall > 0.7 and wide < 0.5:
        name, where = f"{colour}band", f"at the {horizontal or 'middle'}"
    elif vertical and horizontal:
        name, where = f"{colour}tag", f"in the {vertical} {horizontal} corner"
    else:
        name, where = f"{colour}mark", f"at the {vertical or horizontal or 'same place'}"
    return f"{name} {where}", f"with {_a(name)} {where}"


def _end(first: int, last: int, near: str, far: str) -> str:
    """Return at which end of an image rows or columns are; empty in the middle or from end to end."""
    is_near, is_far = last < THUMBNAIL_SIDE * 0.6, first >= THUMBNAIL_SIDE * 0.4
    return "" if is_near == is_far else near if is_near else far
