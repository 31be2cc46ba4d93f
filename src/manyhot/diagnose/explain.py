"""Maps of what in images supports each label, and whether they point at objects."""

from __future__ import annotations

import csv
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot import tables
from manyhot.command import command
from manyhot.core.array_types import Floats32 as Map
from manyhot.core.array_types import Mask
from manyhot.data.reading_options import ObjectsLike
from manyhot.diagnose.attribution import METHODS, Explainer, class_of
from manyhot.diagnose.evidence import ImageFacts
from manyhot.diagnose.explanations import Explanations
from manyhot.diagnose.localisation import Checked, Sanity, measure, summarise
from manyhot.diagnose.page import forget_pictures
from manyhot.diagnose.pixels.regions import Regions, enlarged, find_regions, highest, overlay, write_picture
from manyhot.errors import InputError, first_names
from manyhot.files import atomic_write, hashes_of
from manyhot.formats import ClassNamesLike, open_class_list
from manyhot.formats.writing import PathLike
from manyhot.parameters import RESAMPLES, Address, AtLeast, Count, OptionName, Resamples, Seed, Shown
from manyhot.predict.decode import decode
from manyhot.predict.models import find_model
from manyhot.predict.network import Network, placed
from manyhot.predict.scoring import read_image
from manyhot.predict.sources import DECODING, Decoding, open_source
from manyhot.predict.sources.source import ImageSource
from manyhot.run import QUIET, Run
from manyhot.tables import RowDict


@command(
    "explain",
    examples=(
        "manyhot explain photos --model efficientnet-lite0",
        "manyhot explain photos --model head:head.safetensors --objects boxes.parquet --class horse "
        "--class person",
    ),
)
def explain(
    images: Annotated[PathLike, Address(), Shown("IMAGES")],
    *,
    model: Annotated[str, Shown("NAME")],
    out: Annotated[PathLike, Shown("FOLDER")] = "maps",
    method: Sequence[Literal["gradcam", "integrated-gradients", "occlusion", "saliency"]] = ("gradcam",),
    layer: Annotated[str, Shown("NAME")] = "",
    objects: ObjectsLike | None = None,
    masks: Annotated[PathLike | None, Shown("FOLDER")] = None,
    labels: Annotated[PathLike | None, Shown("FILE")] = None,
    classes: ClassNamesLike | None = None,
    class_: Annotated[Sequence[str], Shown("KEY")] = (),
    ids: Annotated[Sequence[str], OptionName("--id"), Shown("ID")] = (),
    limit: Count | None = None,
    top: Annotated[int, AtLeast(0)] = 1,
    pictures: Annotated[int, AtLeast(0)] = 24,
    arrays: bool = False,
    check: Annotated[int, AtLeast(0)] = 0,
    batch: Count = 8,
    resamples: Resamples = RESAMPLES,
    seed: Seed = 0,
    decoding: Decoding = DECODING,
    run: Run = QUIET,
) -> Explanations:
    """Map the regions that support each label of an image, and measure whether they lie on the object.

    There is one map for each class of the label set and for each of the top predicted classes. If the
    locations of objects are known, the command also measures how well the maps point at the objects and, for
    comparison, how well a random map and a map of the image centre do so.

    Parameters
    ----------
    images
        Images, as for predict.
    model
        A PyTorch network, as for predict.
    out
        Folder to write to. It is created if it does not exist.
    method
        Methods that compute the maps; by default gradcam.
    layer
        For gradcam only: path of the layer to use; by default the last layer whose output is a grid over the
        image.
    objects
        Locations of objects: a table with one box per row, a COCO JSON file, or a Pascal VOC folder.
    masks
        Semantic masks: a folder of PNG files, or a Parquet table that contains them.
    labels
        Label sets; by default the classes of the objects.
    classes
        Class list of the objects and labels, for files that do not name one.
    class_
        Key of a class to explain. Only images that show this class are explained or, if several keys are
        given, only images that show all of these classes. By default, the label set and the top predicted
        classes are explained.
    ids
        Id of an image to explain; by default, all images are explained.
    limit
        Maximum number of images to explain, in the order of the source; by default all.
    top
        Number of top predicted classes to explain in addition to the label set.
    pictures
        Number of images for which to draw pictures, starting with the first.
    arrays
        Also write the maps as float16 arrays, in one .npz file per image.
    check
        Number of images for sanity checks. These compare the maps of the images with maps of the network with
        shuffled weights, maps of other classes and maps of other images.
    batch
        Number of images per batch.
    resamples
        Number of bootstrap resamples; 0 for no intervals.
    seed
        Seed for the bootstrap and for the shuffled weights.

    Returns
    -------
    Explanations

    Raises
    ------
    ManyhotError
        If an input is not valid, or if no image could be explained.

    See Also
    --------
    manyhot.attribute : Maps of images in memory.
    """
    out = Path(out)
    files = (objects, masks, labels, classes)
    Explanations.check_out(out, [images, *files])
    class_list = open_class_list(classes)
    network = find_model(model, class_list)
    explainers = _explainers(network, method, layer, batch)
    facts = ImageFacts.read(
        network, class_list, objects, masks, labels, source := open_source(images, decoding=decoding)
    )
    choice = Choice(tuple(class_of(network, name) for name in class_), frozenset(ids), limit, top)
    sanity = Sanity(explainers, check, run)
    output = _Output(out, pictures, arrays)
    job = _Job(source, network, explainers, facts, choice, output, sanity, run)
    rows = list(job.rows(_name(images)))
    if not rows:
        raise job.none_explained(images)
    maps = pa.Table.from_pylist(rows, schema=tables.schema("maps"))
    result = Explanations(
        maps,
        summarise(maps, resamples=resamples, seed=seed),
        sanity.table(_name(images), resamples, seed),
        notes=(*source.notes, *job.notes()),
        metadata={"seed": str(seed)},
        inputs=hashes_of(files),
    )
    *written, page = result.write(out, run=run)
    return replace(result, written=(*written, *job.write_skipped(), page))


def _explainers(network: Network, methods: Sequence[str], layer: str, batch: int) -> list[Explainer]:
    if not methods:
        raise InputError("No method is given.", allowed=", ".join(METHODS))
    others = "" if "gradcam" in methods else layer  # which is refused then
    names = dict.fromkeys(map(str, methods))
    return [Explainer(network, m, layer if m == "gradcam" else others, batch) for m in names]


def _name(source: PathLike) -> str:
    path = Path(source)
    return path.parent.name or path.stem if path.stem == "images" else path.stem


def _forget(out: Path) -> None:
    """Remove what an earlier run wrote: this one may write less."""
    forget_pictures(out, "maps", ("file", "photo"), "pictures")
    for name in Explanations.NAMES:
        for suffix in (".parquet", ".csv"):
            (out / f"{name}{suffix}").unlink(missing_ok=True)
    (out / "skipped.csv").unlink(missing_ok=True)


@dataclass(frozen=True)
class Choice:
    """Which images to explain, and which classes to explain in each image; see `explain`."""

    only: tuple[int, ...] = ()
    ids: frozenset[str] = frozenset()
    limit: int | None = None
    top: int = 1

    def includes(self, image_id: str, states: Mapping[int, str], labelled: bool) -> bool:
        """Return whether to explain an image; `labelled` is true if there are label sets."""
        shows = all(states.get(c) == "yes" for c in self.only) or not labelled
        return shows and (not self.ids or image_id in self.ids)

    def classes(self, states: Mapping[int, str], scores: Map) -> list[int]:
        """Return the classes to explain: first the label set, then the top predicted classes."""
        if self.only:
            return list(dict.fromkeys(self.only))
        valid = [c for c, state in states.items() if state == "yes"]
        best = np.argsort(-scores, kind="stable")[: self.top].tolist()
        return list(dict.fromkeys([*valid, *best]))

    def total(self, n: int | None) -> int | None:
        """Return the maximum number of images to explain if the source has n images; None if unknown."""
        return min((x for x in (n, self.limit, len(self.ids) or None) if x is not None), default=None)


@dataclass(frozen=True, eq=False)
class _Image:
    """An image to explain: its number, its pixels of shape (3, h, w), its crop, and the states of classes."""

    number: int
    image_id: str
    pixels: npt.NDArray[np.uint8]
    crop: npt.NDArray[np.uint8]
    states: Mapping[int, str]


@dataclass(frozen=True, eq=False)
class _Output:
    """Writes pictures of the first images, and the maps themselves if asked to."""

    out: Path
    pictures: int
    arrays: bool

    def photo(self, image: _Image) -> str:
        """Write the image and return the name of the file, or an empty string if no picture is drawn."""
        if image.number >= self.pictures:
            return ""
        name = f"pictures/{image.number:04}-{_file_name(image.image_id)}.jpg"
        write_picture(self.out / name, enlarged(_shown(image)))
        return name

    def map(self, image: _Image, photo: str, name: str, heat_map: Map, region: Mask | None) -> str:
        """Write the image with a map over it, next to `photo`, and return the name of the file."""
        file = f"{photo.removesuffix('.jpg')}-{_file_name(name)}.jpg"
        write_picture(self.out / file, overlay(_shown(image), heat_map, region))
        return file

    def maps(self, image: _Image, maps: Mapping[str, Map]) -> None:
        """Write maps as arrays, if `arrays` is set."""
        if self.arrays:
            path = self.out / "arrays" / f"{_file_name(image.image_id)}.npz"
            halves: dict[str, Any] = {name: of.astype(np.float16) for name, of in maps.items()}
            with atomic_write(path) as part, part.open("wb") as file:
                np.savez_compressed(file, **halves)


def _shown(image: _Image) -> npt.NDArray[np.uint8]:
    """Return the pixels, shape (h, w, 3)."""
    return np.ascontiguousarray(image.pixels.transpose(1, 2, 0))


@dataclass(eq=False)
class _Job:
    source: ImageSource
    network: Network
    explainers: Sequence[Explainer]
    facts: ImageFacts
    choice: Choice
    output: _Output
    sanity: Sanity
    run: Run
    skipped: list[dict[str, str]] = field(default_factory=list)
    explained: set[str] = field(default_factory=set)
    unshown: set[str] = field(default_factory=set)
    beyond: int = 0

    def rows(self, dataset: str) -> Iterator[RowDict]:
        """Yield the rows of `maps`, one batch of images at a time."""
        images, total = self._images(), self.choice.total(self.source.n)
        while part := list(itertools.islice(images, self.explainers[0].batch)):
            crops = np.stack([image.crop for image in part])
            scores = self.explainers[0].scores(crops)
            asked = [self.choice.classes(i.states, own) for i, own in zip(part, scores, strict=True)]
            maps = zip(*(e.maps(crops, asked) for e in self.explainers), strict=True)
            if part[0].number == 0:  # an earlier run is kept until this one has results
                _forget(self.output.out)
            for image, classes, own, found in zip(part, asked, scores, maps, strict=True):
                valid = frozenset(c for c, state in image.states.items() if state == "yes")
                self.sanity.add(Checked(image.crop, classes, valid, found))
                for row in self._rows(image, classes, own, found):
                    yield {"dataset": dataset, "model": self.network.name, **row}
            if self.run.on_progress:
                self.run.on_progress("explaining", len(self.explained), total or len(self.explained))

    def _images(self) -> Iterator[_Image]:
        numbers = itertools.count()
        for item, read in (pair for part in self.source.parts for pair in part.items()):
            if len(self.explained) == self.choice.limit:
                return
            states = self.facts.states_of(item.image_id)
            if not self.choice.includes(item.image_id, states, self.facts.states is not None):
                self.unshown |= self.choice.ids & {item.image_id}
                continue
            pixels = decode(read_image(read))
            if isinstance(pixels, str):
                self.skipped.append({"image_id": item.image_id, "uri": item.uri, "reason": pixels})
                continue
            self.explained.add(item.image_id)
            crop = self.network.preprocessing(pixels).numpy()
            yield _Image(next(numbers), item.image_id, pixels.numpy(), crop, states)

    def _rows(
        self, image: _Image, classes: Sequence[int], scores: Map, maps: Sequence[Map]
    ) -> Iterator[RowDict]:
        height, width = image.pixels.shape[1:]
        regions = self._regions(image, width, height)
        photo = self.output.photo(image) if classes else ""
        arrays: dict[str, Map] = {}
        for explainer, own in zip(self.explainers, maps, strict=True):
            placed_maps = placed(own, self.network.preprocessing, height, width)
            for class_id, found in zip(classes, placed_maps, strict=True):
                row = self._columns(image, class_id, scores) | self._measured(image, class_id, found, regions)
                what = f"{self.network.classes.keys[class_id]}-{explainer.method}"
                arrays[what] = found
                if photo:
                    region = self._region(class_id, regions)
                    row |= {"photo": photo, "file": self.output.map(image, photo, what, found, region)}
                yield {"method": explainer.method, **row}
        self.output.maps(image, arrays)

    def _columns(self, image: _Image, class_id: int, scores: Map) -> RowDict:
        return {
            "image_id": image.image_id,
            "class_id": class_id,
            "class_name": self.network.classes.names[class_id],
            "score": _probability(scores, class_id, self.network.score_kind),
            "rank": int((scores > scores[class_id]).sum()) + 1,
            "state": image.states.get(class_id),
        }

    def _regions(self, image: _Image, width: int, height: int) -> Regions | str | None:
        if self.facts.objects is None:
            return None
        found = find_regions(self.facts.objects, image.image_id, width, height)
        if isinstance(found, Regions):
            self.beyond += len(found.skipped)
        return found

    def _region(self, class_id: int, regions: Regions | str | None) -> Mask | None:
        return regions.of(self.facts.object_of(class_id)) if isinstance(regions, Regions) else None

    def _measured(
        self, image: _Image, class_id: int, heat_map: Map, regions: Regions | str | None
    ) -> RowDict:
        flat = np.nanmin(heat_map, initial=np.inf) >= np.nanmax(heat_map, initial=-np.inf)
        point = dict(zip("xy", highest(heat_map), strict=True)) if not flat else {}
        if image.states.get(class_id) != "yes" or regions is None:
            return point
        if isinstance(regions, str):
            return point | {"skipped": regions}
        number = self.facts.object_of(class_id)
        own = (regions.of(number), regions.boxes_of(number), regions.beside(number))
        return point | measure(heat_map, *own)

    def none_explained(self, source: PathLike) -> InputError:
        """Return the error to raise if no image was explained."""
        reasons = Counter(row["reason"] for row in self.skipped)
        return InputError(
            "No image could be explained.",
            where=source,
            got="; ".join(f"{n:,} images: {why}" for why, n in reasons.most_common(3)) or None,
            do="check `ids`, `class_`, `limit` and the label sets" if not reasons else None,
        )

    def notes(self) -> Iterator[str]:
        """Yield notes about the model, and about how many images and objects were skipped."""
        yield from self.network.notes
        yield from self.facts.notes
        reasons = Counter(row["reason"] for row in self.skipped)
        yield from (f"{n:,} images cannot be read: {why}" for why, n in reasons.most_common())
        missing = self.choice.ids - self.explained - {row["image_id"] for row in self.skipped}
        full = len(self.explained) == self.choice.limit
        why = "`limit` was reached" if full else "there are no such images"
        for ids, reason in (
            (self.unshown, "their label sets do not contain all classes of `class_`"),
            (missing - self.unshown, why),
        ):
            if ids:
                named = f"{len(ids):,} of the images named with `ids`"
                yield f"{named} are not explained, because {reason}: {first_names(sorted(ids), 3)}"
        if self.facts.states is not None:
            keys = self.facts.states.classes.keys
            unknown = [k for i, k in enumerate(keys) if i not in self.facts.common]
            if unknown:
                few = first_names(unknown, 3)
                yield f"the model does not have {len(unknown):,} of {len(keys):,} classes: {few}"
        if self.beyond:
            yield f"{self.beyond:,} objects are skipped, because their box is empty or outside the image"

    def write_skipped(self) -> list[Path]:
        """Write a list of the skipped images with the reasons, if there are any."""
        if not self.skipped:
            return []
        path = self.output.out / "skipped.csv"
        with atomic_write(path) as part, part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ("image_id", "uri", "reason"))
            writer.writeheader()
            writer.writerows(self.skipped)
        return [path]


def _probability(scores: Map, class_id: int, kind: str) -> float:
    if kind != "logit":
        return float(scores[class_id])
    exact = scores.astype(np.float64)
    return float(np.exp(exact[class_id] - exact.max()) / np.exp(exact - exact.max()).sum())


_LONGEST_NAME = 200
"""Characters of an id in the name of a file; file systems allow 255 bytes."""


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text.replace("/", "--"))[-_LONGEST_NAME:]
