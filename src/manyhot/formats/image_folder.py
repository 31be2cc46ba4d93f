"""Folders of images: one per class, as torchvision's ImageFolder and timm read them, or without classes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from manyhot.classes import ClassList, class_list, from_keys
from manyhot.errors import InputError, ManyhotError
from manyhot.files import is_utf8
from manyhot.formats.format_detection import labels_beside
from manyhot.formats.headers import class_name_column
from manyhot.formats.reading import as_numbers, label_table, load_json, not_utf8
from manyhot.formats.splits import SPLITS, are_splits
from manyhot.kinds import FOLDER
from manyhot.registry import register
from manyhot.tables import DESCRIPTION, Images, Labels
from manyhot.tables.image_ids import first_unique

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
"""Suffixes of images, in lower or upper case."""


def _is_output(path: Path) -> bool:
    """Return whether a folder is an evaluation or a campaign, with figures in folders."""
    return any((path / name).exists() for name in ("results.parquet", DESCRIPTION))


def _matches(path: Path) -> bool:
    if _is_output(path):
        return False
    return any(True for name in _class_folders(path) for _ in _images(os.path.join(path, name)))  # noqa: PTH118


@register("format", "image-folder", holds="labels", suffixes=(FOLDER,), matches=_matches)
def read_image_folder(path: Path, *, classes: ClassList | None) -> Labels:
    """A folder with one folder of images per class, named after its WordNet id, class name or number.

    The label set of an image contains the class of its folder, which is also its original label. `rated` is
    false, as in other files of single labels, because no rater said whether other classes are also valid.
    Folders whose names are numbers are sorted as numbers. If they were sorted as text, 10 would come before
    2, and most images of ImageNetV2 would get a wrong label.

    References
    ----------
    ``torchvision.datasets.ImageFolder``. For the order of numbers: modestyachts/ImageNetV2, issues 4 and 10.
    """
    _check_no_metadata(path)
    names, sizes, paths = _class_images(path)
    if (beside := _labels_beside(path, names)) is not None:
        raise InputError(
            "The labels of each folder are in a JSON file beside its images, so the folders are not classes.",
            where=path,
            got=f"{len(names):,} folders with one JSON file each, such as {beside.relative_to(path)}",
            allowed="one folder of images per class, or label sets in one file",
            do="write the labels of all images to one file, such as a table with the columns image_id and "
            f'labels, or JSON such as {{"{names[0]}": ["sea", "beach"]}}',
        )
    if (text := _yolo_text(path)) is not None:
        raise InputError(
            "The folder is in the layout of YOLO, so its folders are not classes.",
            where=path,
            got=f"images, and labels in files such as {text.relative_to(path)}",
            allowed="one folder of images per class, or label sets in one file",
            do="write the names of the classes of each image to one file, such as a table with the columns "
            f"image_id and labels, or convert the data set to COCO's JSON; the images alone are in "
            f"{path / 'images'}",
        )
    ids, class_hash, n_classes, own = _class_ids(names, classes, path)
    label = np.repeat(np.array(ids, np.int32), sizes)
    image_id, flat, one = pa.array(_ids(paths), pa.string()), pa.array(label), np.ones(len(label), np.int64)
    table = label_table(image_id, one, flat, "ImageFolder", rated=False, label=flat)
    return Labels(table, n_classes, class_hash, asked_known=False, name=path.resolve().name, class_list=own)


def _holds_photographs(path: Path) -> bool:
    if _is_output(path):
        return False
    with os.scandir(path) as entries:
        return any(_is_image(entry) for entry in entries)


@register(
    "format",
    "photographs",
    holds="images",
    suffixes=(FOLDER,),
    matches=_holds_photographs,
    explicit=_matches,
    needs="images in the folder itself, or in one folder per class",
)
def read_photographs(path: Path, *, classes: ClassList | None) -> Images:
    """A folder of images. Images in class folders have labels, unless no folder is named after a class.

    Ids and addresses are the same as in ``manyhot predict``: file names, or paths in the folder if two images
    have the same file name.
    """
    if not _holds_photographs(path):
        return _labelled_photographs(path, classes)
    paths = sorted(_images(os.fspath(path)))
    for image in paths:
        _check_utf8(image, path)
    return Images(_photographs(path, paths), path.resolve().name)


def _photographs(path: Path, paths: list[str]) -> pa.Table:
    """Return the ids and addresses of images in a folder from their paths in it."""
    uris = [os.path.join(path, image) for image in paths]  # noqa: PTH118
    return pa.table({"image_id": pa.array(_ids(paths), pa.string()), "uri": pa.array(uris, pa.string())})


def _labelled_photographs(path: Path, classes: ClassList | None) -> Images:
    """Return the images of class folders."""
    names, sizes, paths = _class_images(path)
    table, name = _photographs(path, paths), path.resolve().name
    others = classes is not None and not any(classes.find(name) is not None for name in names)
    is_labelled_apart = _labels_beside(path, names) is not None or _yolo_text(path) is not None
    if (others and _folder_numbers(names) is None) or is_labelled_apart:
        return Images(table, name)  # such as folders of days or cameras
    ids, class_hash, _, own = _class_ids(names, classes, path)
    label = np.repeat(np.array(ids, np.int32), sizes)
    table = table.append_column("label", pa.array(label))
    if class_hash:
        table = table.replace_schema_metadata({"manyhot.classes": class_hash})
    return Images(table, name, class_list=own)


def _is_image(entry: os.DirEntry[str]) -> bool:
    name = entry.name
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)


def _folder_numbers(names: list[str]) -> list[int] | None:
    """Return the numbers of folders, which may be padded: 000 is the first of 1,000."""
    padded = len(set(map(len, names))) == 1
    return as_numbers([name.lstrip("0") or name[:1] for name in names] if padded else names)


def _class_folders(path: Path) -> list[str]:
    """Return the names of the folders in a folder, in order, without hidden ones."""
    with os.scandir(path) as entries:
        names = [e.name for e in entries if not e.name.startswith(".") and e.is_dir()]
    counted = _folder_numbers(names)
    if counted is None:
        return sorted(names)
    return [name for _, name in sorted(zip(counted, names, strict=True))]


def _class_images(path: Path) -> tuple[list[str], list[int], list[str]]:
    """Return the names of the folders in a folder, their numbers of images, and the images' paths."""
    names = _class_folders(path)
    above = (os.path.realpath(path),)
    by_folder = [sorted(_images(os.path.join(path, name), "", above)) for name in names]  # noqa: PTH118
    for name in (*names, *(image for images in by_folder for image in images)):
        _check_utf8(name, path)
    _check_no_splits(path, [name for name, images in zip(names, by_folder, strict=True) if images])
    if not any(by_folder):
        raise InputError(
            "The folder contains no folders of images.",
            where=path,
            allowed=f"one folder per class, with {', '.join(SUFFIXES)}",
        )
    paths = [f"{name}/{image}" for name, images in zip(names, by_folder, strict=True) for image in images]
    return names, list(map(len, by_folder)), paths


def _ids(paths: list[str]) -> Sequence[str]:
    """Return the ids of images from their paths."""
    return first_unique([path.rpartition("/")[2] for path in paths], paths)


def _images(folder: str, inside: str = "", above: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the paths of the images in a folder and below it, after the folders `inside`.

    `above` are the real paths of its parents.
    """
    here = os.path.realpath(folder)
    if here in above:
        raise InputError(
            "A link leads back to a folder above it.",
            where=folder,
            got=f"a link to {here}",
            do="remove the link",
        )
    below = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if _is_image(entry):
                yield inside + entry.name
            elif not entry.name.startswith(".") and entry.is_dir():
                below.append(entry)
    for each in below:
        yield from _images(each.path, f"{inside}{each.name}/", (*above, here))


def _check_utf8(name: str, path: Path) -> None:
    if not is_utf8(name):
        raise not_utf8(name, path)


def _check_no_splits(path: Path, names: list[str]) -> None:
    """Raise an error for a folder of splits, whose images would all have the class *train* or *val*."""
    if are_splits({name: bool(_class_folders(path / name)) for name in names}):
        splits = [name for name in names if name.casefold() in SPLITS]
        raise InputError(
            "The folder contains splits, each with folders of images.",
            where=path,
            got=", ".join(names),
            allowed="one folder per class",
            do=f"pass the folder of a split, such as {path / splits[0]}",
        )


def _check_no_metadata(path: Path) -> None:
    """Raise an error for splits whose labels are in a file beside the images, as in Hugging Face's layout."""
    names = _class_folders(path)
    if not all(name.casefold() in SPLITS for name in names):
        return
    beside = next((file for name in (*names, "") if (file := labels_beside(path / name)) is not None), None)
    if beside is not None:
        raise InputError(
            "The labels are in a file beside the images, and the folders are splits.",
            where=path,
            got=f"{', '.join(names)}; {beside.relative_to(path)}",
            allowed="one folder of images per class, or label sets in one file",
            do=f"pass {beside}",
        )


def _labels_beside(path: Path, names: list[str]) -> Path | None:
    """Return a JSON file with labels if each folder has one: a folder is an image, as in BigEarthNet v1."""
    first = None
    for name in names:
        with os.scandir(path / name) as entries:
            files = [entry.path for entry in entries if entry.name.lower().endswith(".json")]
        if len(files) != 1:
            return None
        first = first or Path(files[0])
    content = load_json(first) if first is not None and len(names) > 1 else None
    return first if isinstance(content, dict) and class_name_column(content) is not None else None


def _yolo_text(path: Path) -> Path | None:
    """Return a file with the objects of an image in ``labels``, beside ``images``, as in YOLO; or None."""
    return min((path / "labels").rglob("*.txt"), default=None) if (path / "images").is_dir() else None


def _class_ids(
    names: list[str], classes: ClassList | None, path: Path
) -> tuple[list[int], str, int, ClassList | None]:
    """Return the class of each folder, the hash and the length of their class list, and their own list.

    Numbers name no classes.
    """
    counted = _folder_numbers(names)
    if classes is not None:
        return [_index(name, classes, path) for name in names], classes.hash, len(classes), None
    imagenet = class_list()
    if counted == list(range(len(imagenet))):
        # As many folders as ImageNet-1k has classes; whether they are its classes is unknown.
        return counted, "", len(imagenet), None
    if counted is None:
        try:
            return [imagenet.index(name) for name in names], imagenet.hash, len(imagenet), None
        except ManyhotError:
            pass
    own = from_keys(names, path.name)
    return list(range(len(own))), own.hash, len(own), own if counted is None else None


def _index(name: str, classes: ClassList, path: Path) -> int:
    try:
        return classes.index(name)
    except LookupError as error:
        if as_numbers([name]) and int(name) < len(classes):
            return int(name)
        raise InputError(
            "The name of a folder is not a class.",
            where=path,
            got=name,
            allowed=f"keys and names of {classes.name}, or 0 to {len(classes) - 1}",
            do="pass the class list of these folders, or move the folder away",
        ) from error
