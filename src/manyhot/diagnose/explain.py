"""Images in; maps of what speaks for each label out, with how well they point at objects."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot import tables
from manyhot.diagnose.attribution import METHODS, Explainer, class_of
from manyhot.diagnose.localisation import Checked, Explanations, Known, Sanity, measure, summarise
from manyhot.diagnose.page import forget_pictures, write_diagnosis
from manyhot.diagnose.pixels.overlay import enlarged, highest, overlay, write_picture
from manyhot.diagnose.pixels.regions import Regions, find_regions
from manyhot.errors import InputError
from manyhot.files import atomic_write, sha256
from manyhot.formats import read_classes
from manyhot.formats.tabular import write_csv
from manyhot.formats.writing import PathLike, Progress, check_apart, check_place
from manyhot.predict.decode import decode
from manyhot.predict.find import find_model
from manyhot.predict.network import Network, placed
from manyhot.predict.scoring import read_image
from manyhot.predict.sources import open_source
from manyhot.predict.sources.base import ImageSource
from manyhot.registry import register
from manyhot.report.chapter import (
    MOST_IMAGES,
    Album,
    Chapter,
    Strip,
    Tables,
    listing,
    percent,
    picture,
    rows_of,
    with_ends,
)
from manyhot.report.chapter import Row as chapter_Row
from manyhot.report.listings import Head

NAMES = ("maps", "localisation", "sanity")
"""Tables that are written."""


Row = dict[str, Any]


Floats = npt.NDArray[np.float32]


Map = npt.NDArray[np.float32]


Mask = npt.NDArray[np.bool_]


Maps = npt.NDArray[np.float32]


def explain_files(
    source: PathLike,
    model: str,
    out: PathLike = "maps",
    *,
    methods: Sequence[str] = ("gradcam",),
    layer: str = "",
    objects: PathLike | None = None,
    masks: PathLike | None = None,
    labels: PathLike | None = None,
    classes: PathLike | None = None,
    only: Sequence[str] = (),
    ids: Sequence[str] = (),
    limit: int | None = None,
    top: int = 1,
    pictures: int = 24,
    arrays: bool = False,
    check: int = 0,
    batch: int = 8,
    resamples: int = 1000,
    seed: int = 0,
    call: str = "",
    progress: Progress | None = None,
) -> tuple[Explanations, list[Path]]:
    """Draw what in images speaks for each class of their label set and for the best predicted classes.

    Writes the table ``maps``, pictures of some images, and what could not be read as ``skipped.csv``; with
    objects the table ``localisation``, with `check` the table ``sanity``.

    Parameters
    ----------
    source : path-like
        Images; see `manyhot.predict.sources.open_source`.
    model : str
        See `manyhot.predict.find.find_model`; a network of PyTorch.
    out : path-like
    methods : sequence of str
        Of `manyhot.diagnose.attribution.METHODS`.
    layer : str
        Of Grad-CAM; the last grid by default.
    objects, masks : path-like, optional
        See `manyhot.read_objects`. They give label sets, too, where `labels` do not.
    labels : path-like, optional
        Label sets.
    classes : path-like, optional
        The class list that objects and labels count in, where they do not tell.
    only : sequence of str
        Keys of classes: these are asked about in place of label sets and predictions, on images whose label
        set holds all of them, if label sets are known.
    ids : sequence of str
        Images; all by default.
    limit : int, optional
        Images at most.
    top : int
        Best predicted classes that are asked about beside the label set.
    pictures : int
        Images that pictures are made of: the first.
    arrays : bool
        Whether to write the maps themselves: float16, a ``.npz`` an image in ``arrays/``.
    check : int
        Images that sanity checks are made on, the first; each costs as much as seven to be explained.
    batch : int
        Images at once.
    resamples, seed : int
        Of the bootstrap; the seed is that of shuffled weights, too.
    progress : callable, optional

    Raises
    ------
    ManyhotError
        For each kind of bad input; or no image could be explained.
    """
    out = Path(out)
    files = (objects, masks, labels, classes)
    check_apart([source, *files], out, NAMES)
    for name in NAMES:
        check_place(out / f"{name}.parquet", name)
    _check_numbers(limit=limit, top=top, pictures=pictures, check=check)
    given = None if classes is None else read_classes(classes)
    network = find_model(model, given)
    explainers = _explainers(network, methods, layer, batch)
    known = Known.read(network, given, objects, masks, labels)
    choice = Choice(tuple(class_of(network, name) for name in only), frozenset(ids), limit, top)
    sanity = Sanity(explainers, check, progress)
    written = _Written(out, pictures, arrays)
    job = _Job(open_source(source), network, explainers, known, choice, written, sanity, progress)
    rows = list(job.rows(_name(source)))
    if not rows:
        raise job.nothing(source)
    found = pa.Table.from_pylist(rows, schema=tables.schema("maps"))
    done = Explanations(
        found,
        summarise(found, resamples=resamples, seed=seed),
        sanity.table(_name(source), resamples, seed),
        tuple(job.notes()),
    )
    about = {"notes": json.dumps(done.notes, ensure_ascii=False), "seed": str(seed)}
    inputs = {Path(p).name: sha256(p) for p in files if p and Path(p).is_file()}
    made = []
    for name, table in done.tables.items():
        path = out / f"{name}.parquet"
        made.append(tables.write(table, path, name, call=call, inputs=inputs, about=about))
        made.append(write_csv(table, path.with_suffix(".csv")))
    return done, [*made, *job.write_skipped(), write_diagnosis(out)]


def _explainers(network: Network, methods: Sequence[str], layer: str, batch: int) -> list[Explainer]:
    if not methods:
        raise InputError("Nothing tells how to explain.", allowed=", ".join(METHODS))
    others = "" if "gradcam" in methods else layer  # which is refused then
    return [Explainer(network, m, layer if m == "gradcam" else others, batch) for m in methods]


def _check_numbers(**numbers: int | None) -> None:
    for name, value in numbers.items():
        if value is not None and value < 0:
            raise InputError(f"{name} cannot be negative.", got=value)


def _name(source: PathLike) -> str:
    path = Path(source)
    return path.parent.name or path.stem if path.stem == "images" else path.stem


def _forget(out: Path) -> None:
    """Remove what an earlier run wrote and this one may not."""
    forget_pictures(out, "maps", ("file", "photo"), "pictures")
    for name in NAMES:
        for suffix in (".parquet", ".csv"):
            (out / f"{name}{suffix}").unlink(missing_ok=True)
    (out / "skipped.csv").unlink(missing_ok=True)


@dataclass(frozen=True)
class Choice:
    """Which images, and which of their classes; see `explain_files`."""

    only: tuple[int, ...] = ()
    ids: frozenset[str] = frozenset()
    limit: int | None = None
    top: int = 1

    def wants(self, image_id: str, states: Mapping[int, str], known: bool) -> bool:
        """Return whether an image is asked about; `known` says whether there are label sets at all."""
        shows = all(states.get(c) == "yes" for c in self.only) or not known
        return shows and (not self.ids or image_id in self.ids)

    def classes(self, states: Mapping[int, str], scores: Floats) -> list[int]:
        """Return the classes to ask about: the label set, then the best predicted ones."""
        if self.only:
            return list(dict.fromkeys(self.only))
        valid = [c for c, state in states.items() if state == "yes"]
        best = np.argsort(-scores, kind="stable")[: self.top].tolist()
        return list(dict.fromkeys([*valid, *best]))

    def total(self, n: int | None) -> int | None:
        """Return how many images these are at most, of n; None where nobody knows."""
        return min((x for x in (n, self.limit, len(self.ids) or None) if x is not None), default=None)


@dataclass(frozen=True, eq=False)
class _Image:
    """An image on its way: its place among those explained, pixels of shape (3, h, w), and what is known."""

    number: int
    image_id: str
    pixels: npt.NDArray[np.uint8]
    crop: npt.NDArray[np.uint8]
    states: Mapping[int, str]


@dataclass(frozen=True, eq=False)
class _Written:
    """Pictures of the first images, and the maps themselves where they are wanted."""

    out: Path
    pictures: int
    arrays: bool

    def photo(self, image: _Image) -> str:
        """Write the image and return the file; empty where none is wanted."""
        if image.number >= self.pictures:
            return ""
        name = f"pictures/{image.number:04}-{_file_name(image.image_id)}.jpg"
        write_picture(self.out / name, enlarged(_shown(image)))
        return name

    def map(self, image: _Image, photo: str, what: str, found: Map, region: Mask | None) -> str:
        """Write a map over the image beside its `photo` and return the file."""
        name = f"{photo.removesuffix('.jpg')}-{_file_name(what)}.jpg"
        write_picture(self.out / name, overlay(_shown(image), found, region))
        return name

    def maps(self, image: _Image, found: Mapping[str, Map]) -> None:
        """Write maps as arrays, if they are wanted."""
        if self.arrays:
            path = self.out / "arrays" / f"{_file_name(image.image_id)}.npz"
            halves: dict[str, Any] = {name: of.astype(np.float16) for name, of in found.items()}
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
    known: Known
    choice: Choice
    written: _Written
    sanity: Sanity
    progress: Progress | None
    skipped: list[dict[str, str]] = field(default_factory=list)
    explained: set[str] = field(default_factory=set)
    beyond: int = 0

    def rows(self, dataset: str) -> Iterator[Row]:
        """Yield the rows of `maps`, images a batch at a time."""
        images, total = self._images(), self.choice.total(self.source.n)
        while part := list(itertools.islice(images, self.explainers[0].batch)):
            crops = np.stack([image.crop for image in part])
            scores = self.explainers[0].scores(crops)
            asked = [self.choice.classes(i.states, own) for i, own in zip(part, scores, strict=True)]
            maps = zip(*(e.maps(crops, asked) for e in self.explainers), strict=True)
            if part[0].number == 0:  # what an earlier run left stays until this one has something
                _forget(self.written.out)
            for image, classes, own, found in zip(part, asked, scores, maps, strict=True):
                valid = frozenset(c for c, state in image.states.items() if state == "yes")
                self.sanity.add(Checked(image.crop, classes, valid, found))
                for row in self._rows(image, classes, own, found):
                    yield {"dataset": dataset, "model": self.network.name, **row}
            if self.progress is not None:
                self.progress("explaining", len(self.explained), total or len(self.explained))

    def _images(self) -> Iterator[_Image]:
        numbers = itertools.count()
        for item, read in (pair for part in self.source.parts for pair in part.items()):
            if len(self.explained) == self.choice.limit:
                return
            states = self.known.states_of(item.image_id)
            if not self.choice.wants(item.image_id, states, self.known.states is not None):
                continue
            data = read_image(read)
            pixels = decode(data) if isinstance(data, bytes) else data
            if isinstance(pixels, str):
                self.skipped.append({"image_id": item.image_id, "uri": item.uri, "reason": pixels})
                continue
            self.explained.add(item.image_id)
            crop = self.network.preprocessing(pixels).numpy()
            yield _Image(next(numbers), item.image_id, pixels.numpy(), crop, states)

    def _rows(
        self, image: _Image, classes: Sequence[int], scores: Floats, maps: Sequence[Maps]
    ) -> Iterator[Row]:
        height, width = image.pixels.shape[1:]
        regions = self._regions(image, width, height)
        photo = self.written.photo(image) if classes else ""
        arrays: dict[str, Map] = {}
        for explainer, own in zip(self.explainers, maps, strict=True):
            placed_maps = placed(own, self.network.preprocessing, height, width)
            for class_id, found in zip(classes, placed_maps, strict=True):
                row = self._told(image, class_id, scores) | self._measured(image, class_id, found, regions)
                what = f"{self.network.classes.keys[class_id]}-{explainer.method}"
                arrays[what] = found
                if photo:
                    region = self._region(class_id, regions)
                    row |= {"photo": photo, "file": self.written.map(image, photo, what, found, region)}
                yield {"method": explainer.method, **row}
        self.written.maps(image, arrays)

    def _told(self, image: _Image, class_id: int, scores: Floats) -> Row:
        return {
            "image_id": image.image_id,
            "class_id": class_id,
            "class_name": self.network.classes.names[class_id],
            "score": _probability(scores, class_id, self.network.score_kind),
            "rank": int((scores > scores[class_id]).sum()) + 1,
            "state": image.states.get(class_id),
        }

    def _regions(self, image: _Image, width: int, height: int) -> Regions | str | None:
        if self.known.objects is None:
            return None
        found = find_regions(self.known.objects, image.image_id, width, height)
        if isinstance(found, Regions):
            self.beyond += len(found.skipped)
        return found

    def _region(self, class_id: int, regions: Regions | str | None) -> Mask | None:
        return regions.of(self.known.object_of(class_id)) if isinstance(regions, Regions) else None

    def _measured(self, image: _Image, class_id: int, found: Map, regions: Regions | str | None) -> Row:
        flat = np.nanmin(found, initial=np.inf) >= np.nanmax(found, initial=-np.inf)
        point = dict(zip("xy", highest(found), strict=True)) if not flat else {}
        if image.states.get(class_id) != "yes" or regions is None:
            return point
        if isinstance(regions, str):
            return point | {"skipped": regions}
        number = self.known.object_of(class_id)
        own = (regions.of(number), regions.boxes_of(number), regions.beside(number))
        return point | measure(found, *own)

    def nothing(self, source: PathLike) -> InputError:
        """Return what to raise where no image was explained."""
        reasons = Counter(row["reason"] for row in self.skipped)
        return InputError(
            "No image could be explained.",
            where=source,
            got="; ".join(f"{n:,} images: {why}" for why, n in reasons.most_common(3)) or None,
            do="check --id, --class, --limit and the label sets" if not reasons else None,
        )

    def notes(self) -> Iterator[str]:
        """Yield what to know about the model, and what was passed over and how much of it."""
        yield from self.network.notes
        reasons = Counter(row["reason"] for row in self.skipped)
        yield from (f"{n:,} images cannot be read: {why}" for why, n in reasons.most_common())
        missing = sorted(self.choice.ids - self.explained - {row["image_id"] for row in self.skipped})
        if missing:
            yield f"{len(missing):,} images that were asked for are not explained: {_some(missing)}"
        if self.known.states is not None:
            keys = self.known.states.classes.keys
            unknown = [k for i, k in enumerate(keys) if i not in self.known.common]
            if unknown:
                yield f"the model does not know {len(unknown):,} of {len(keys):,} classes: {_some(unknown)}"
        if self.beyond:
            yield f"{self.beyond:,} objects have a box that is empty or outside of the image: passed over"

    def write_skipped(self) -> list[Path]:
        """Write which images were skipped, and why, if any were."""
        if not self.skipped:
            return []
        path = self.written.out / "skipped.csv"
        with atomic_write(path) as part, part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ("image_id", "uri", "reason"))
            writer.writeheader()
            writer.writerows(self.skipped)
        return [path]


def _probability(scores: Floats, class_id: int, kind: str) -> float:
    if kind != "logit":
        return float(scores[class_id])
    exact = scores.astype(np.float64)
    return float(np.exp(exact[class_id] - exact.max()) / np.exp(exact - exact.max()).sum())


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


_MEASURES = {
    "pointing": "Highest point on the object",
    "pointing_near": "On it or near",
    "pointing_other": "Highest point on an object of another class",
    "energy": "Share of the map on the object",
    "overlap": "Overlap with the object",
    "auroc": "AUROC of pixels",
}


@register("chapter", "explanations", tables=("maps", "localisation", "sanity"))
def _explanations(found: Tables, folder: Path, draw: bool) -> Chapter | None:
    maps = rows_of(found, "maps")
    if not maps:
        return None
    lead = (
        "Where a network looks for a class: what speaks for it stays lit, the rest is dark; the amber line "
        "goes around half of the highest value, the white one around the object, the cross is the highest "
        "point. Objects are in the middle of photographs: a map is worth what it is better than a spot "
        "there.",
    )
    heads = (
        Head("Measure", number=False),
        Head("Method", number=False),
        Head("Model", number=False),
        Head("Objects", number=False),
        Head("Value"),
        Head("Spot in the middle"),
        Head("By chance"),
        Head("Maps"),
    )
    made = [listing("localisation", "Do maps lie on the objects?", heads, _places(found), _where)]
    checks = (
        Head("Compared with", number=False),
        Head("Method", number=False),
        Head("Model", number=False),
        Head("Rank correlation"),
        Head("Pairs"),
    )
    made.append(
        listing("sanity", "Do maps depend on what they should?", checks, rows_of(found, "sanity"), _check)
    )
    return Chapter(
        "explanations",
        "Explanations",
        "Where models look",
        lead,
        (),
        tuple(t for t in made if t.rows),
        tuple(_looks(maps, folder)),
    )


def _places(found: Tables) -> list[chapter_Row]:
    """Return how well maps point at objects; of single classes that have any the highest point alone."""
    rows = rows_of(found, "localisation")
    return [r for r in rows if r["slice"] in ("all", "difficult") or (r["metric"] == "pointing" and r["n"])]


_COMPARED = {"image": "another image", "class": "another class of the image"}


def _where(r: chapter_Row) -> tuple[str, ...]:
    return (
        str(_MEASURES.get(r["metric"], r["metric"])),
        r["method"],
        r["model"],
        r["slice"].removeprefix("class="),
        with_ends(r["value"], r["lo"], r["hi"]),
        percent(r["centre"]),
        percent(r["by_chance"]),
        f"{r['n']:,}",
    )


def _check(r: chapter_Row) -> tuple[str, ...]:
    shuffled = f"last {r['layers']} of {r['of_layers']} layers shuffled"
    ends = "" if r["lo"] is None else f" ({r['lo']:.2f} to {r['hi']:.2f})".replace("-", "−")
    against = str(_COMPARED.get(r["against"], shuffled))
    return against, r["method"], r["model"], f"{r['value']:.2f}{ends}", f"{r['n']:,}"


def _looks(maps: Sequence[chapter_Row], folder: Path) -> list[Album]:
    """Return the photographs that have pictures of maps, the classes of each side by side."""
    images: dict[str, list[chapter_Row]] = {}
    for row in maps:
        if row.get("file"):
            images.setdefault(row["image_id"], []).append(row)
    strips = []
    several = sorted(images.items(), key=lambda item: -len(item[1]))
    for image_id, rows in several[:MOST_IMAGES]:
        photo = next((r["photo"] for r in rows if r.get("photo")), None)
        shown = [picture(folder, photo, "as it is")] if photo else []
        shown += [picture(folder, r["file"], r["class_name"], _said_of(r)) for r in rows]
        strips.append(Strip(image_id, tuple(shown)))
    rest = len(images) - len(strips)
    text = f"{rest:,} more lie beside this page." if rest else ""
    return [Album("looks", "Several labels of one image", text, tuple(strips))] if strips else []


def _said_of(r: chapter_Row) -> str:
    state = {"yes": ", in the label set", "no": ", not in the label set"}.get(r["state"] or "", "")
    return f"{r['score']:.2f}{state}"
