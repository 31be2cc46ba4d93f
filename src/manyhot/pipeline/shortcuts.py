"""Images and objects in; which predictions hang on what is beside the object out."""

from __future__ import annotations

import csv
import json
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from manyhot import tables
from manyhot.classes import ClassList, from_keys
from manyhot.errors import InputError, MatchError
from manyhot.files import sha256
from manyhot.formats import read_classes, read_labels, read_objects, read_predictions
from manyhot.formats.tabular import write_csv
from manyhot.models import Network, NoneLeftError, Settings, Source, altered, find_model, open_source, run
from manyhot.models.decode import decode
from manyhot.models.engines import Choice
from manyhot.pipeline.common import PathLike, check_apart, check_place
from manyhot.pipeline.predict import Notify
from manyhot.pixels.pictures import write_picture
from manyhot.pixels.removal import Removal, fingerprint
from manyhot.steps.shortcuts import (
    LEAST,
    THRESHOLD,
    Change,
    Pair,
    Shortcuts,
    States,
    diagnose_shortcuts,
    find_pairs,
    images_to_alter,
    named_pairs,
    states_of_labels,
    states_of_objects,
)
from manyhot.tables import Objects, Predictions, predictions_file_name
from manyhot.tables.definitions import FILLS

NAMES = ("shortcuts", "shortcut_examples")
"""Tables that are written."""


def diagnose_shortcuts_files(
    source: PathLike,
    objects: PathLike,
    out: PathLike = "shortcuts",
    *,
    model: str,
    masks: PathLike | None = None,
    labels: PathLike | None = None,
    classes: PathLike | None = None,
    pairs: Sequence[str] = (),
    fills: Sequence[str] = FILLS[:1],
    least: int = LEAST,
    threshold: float = THRESHOLD,
    at: float = 0.5,
    seed: int = 0,
    resamples: int = 1000,
    engine: str = "auto",
    call: str = "",
    notify: Notify | None = None,
) -> tuple[Shortcuts, list[Path]]:
    """Take objects out of images, and count how many predictions of what is beside them change.

    For each ordered pair of classes that enough images show, the images are predicted as they are, without
    the companion, and without a region of its shape elsewhere. What an earlier run of the same command
    predicted is kept.

    Parameters
    ----------
    source : path-like
        Images; see `manyhot.models.open_source`.
    objects : path-like
        Boxes, or more, of objects; see `manyhot.read_objects`.
    out : path-like
        The folder that both tables, predictions and examples are written into.
    model : str
        See `manyhot.models.find_model`.
    masks : path-like, optional
        Semantic masks; see `manyhot.read_objects`.
    labels : path-like, optional
        Label sets; by default what the objects tell.
    classes : path-like, optional
        The class list that objects and labels count in, where they do not tell.
    pairs : sequence of str
        ``main:companion``, by key or name; by default all.
    fills : sequence of str
        ``grey``, ``inpaint`` or both.
    least : int
        Images with both classes that a pair needs.
    threshold : float
        Share of flips from which a pair is called a shortcut.
    at : float
        Probability from which a class is predicted; of logits the best class is.
    seed : int
        Of the places of controls, and of the bootstrap.
    resamples : int
        Of the bootstrap; 0 for no intervals of average precisions.
    engine : str
        See `manyhot.predict`.
    notify : callable, optional
        Called with the kind of an event and what is told about it, as by `manyhot.predict_files`.

    Raises
    ------
    ManyhotError
        For each kind of bad input; or no pair can be tested.
    """
    out = Path(out)
    check_options(fills, least, threshold, at)
    check_apart([source, objects, masks, labels, classes], out, NAMES)
    for name in NAMES:
        check_place(out / f"{name}.parquet", name)
    given = None if classes is None else read_classes(classes)
    found = read_objects(objects, classes=given, masks=masks)
    known = given or from_keys(found.keys, found.name)
    states = states_of_objects(found, known) if labels is None else _labelled(labels, known)
    only = named_pairs(pairs, known)
    network = find_model(model, given)
    job = _Job(open_source(source), network, found, out, Settings(None, engine), fills, seed, call, notify)

    def choose(states: States) -> list[Pair]:
        return find_pairs(states, network.classes, found.class_id.tolist(), least=least, only=only)

    _check_any(choose(states), least, network)
    before = job.predict_originals(images_to_alter(states, choose(states)))
    chosen = choose(states.of(before.image_id))
    _check_any(chosen, least, network)
    after = job.predict_altered(images_to_alter(states.of(before.image_id), chosen))
    judged = diagnose_shortcuts(
        states.of(before.image_id),
        chosen,
        before,
        after,
        network.classes,
        fills=fills,
        at=at,
        threshold=threshold,
        least=least,
        resamples=resamples,
        seed=seed,
        notes=job.notes(states, before),
    )
    _forget(out)
    judged = replace(judged, shortcut_examples=job.draw(judged.shortcut_examples))
    inputs = {Path(p).name: sha256(p) for p in (objects, masks, labels, classes) if p and Path(p).is_file()}
    about = {"notes": json.dumps(judged.notes, ensure_ascii=False), "seed": str(seed)}
    about |= {"least": str(least), "threshold": f"{threshold:g}"}
    written = []
    for name, table in judged.tables.items():
        path = out / f"{name}.parquet"
        written.append(tables.write(table, path, name, call=call, inputs=inputs, about=about))
        written.append(write_csv(table, path.with_suffix(".csv")))
    return judged, written


def check_options(fills: Sequence[str], least: int, threshold: float, at: float) -> None:
    """Refuse options that mean nothing.

    Raises
    ------
    InputError
    """
    strange = [fill for fill in fills if fill not in FILLS]
    if strange or not fills:
        raise InputError(
            "Nothing tells how to fill.", got=", ".join(strange) or None, allowed=", ".join(FILLS)
        )
    if least < 1:
        raise InputError("least must be at least 1.", got=least)
    for name, value in (("threshold", threshold), ("at", at)):
        if not 0 < value <= 1:
            raise InputError(f"{name} is a share.", got=value, allowed="above 0, at most 1")


def _labelled(path: PathLike, classes: ClassList) -> States:
    labels = read_labels(path, classes=classes)
    if labels.n_classes != len(classes) or labels.class_hash not in ("", classes.hash):
        raise MatchError(
            "Labels and objects count in different class lists.",
            where=path,
            got=f"{labels.n_classes:,} classes, class list {labels.class_hash or 'unknown'}",
            allowed=f"{len(classes):,} classes, class list {classes.hash}, as the objects",
            do="give a list of all classes with --classes, and make the labels over it",
        )
    return states_of_labels(labels, classes)


def _check_any(pairs: Sequence[Pair], least: int, network: Network) -> None:
    if any(not pair.why_not for pair in pairs):
        return
    reasons = Counter(pair.why_not for pair in pairs)
    most = max((pair.both for pair in pairs), default=0)
    raise InputError(
        "No pair of classes can be tested.",
        where=network.name,
        got="; ".join(f"{n:,} pairs: {why}" for why, n in reasons.items()) or "no two classes in one image",
        allowed=f"a main class that the model predicts, and a companion with objects, in {least:,} images",
        do=f"--least {most} would test some" if 1 < most < least else None,
    )


def _forget(out: Path) -> None:
    """Remove the examples of an earlier run."""
    path = out / "shortcut_examples.parquet"
    if path.is_file():
        earlier = tables.read(path, "shortcut_examples")
        for column in {"before", "after", "control"} & set(earlier.column_names):
            for name in earlier[column].drop_null().to_pylist():
                (out / name).unlink(missing_ok=True)


@dataclass(eq=False)
class _Job:
    """Predicts the images of a source, as they are and altered, and draws some."""

    source: Source
    network: Network
    objects: Objects
    out: Path
    settings: Settings
    fills: Sequence[str]
    seed: int
    call: str
    notify: Notify | None
    skipped: dict[Change | None, list[dict[str, str]]] = field(default_factory=dict)
    removals: dict[Change, Removal] = field(default_factory=dict)
    _choice: Choice | None = None

    @cached_property
    def told(self) -> _Told:
        return _Told(self.notify or (lambda *_: None))

    def predict_originals(self, expected: Mapping[int, frozenset[str]]) -> Predictions:
        n = self.source.n
        more = 2 * len(self.fills) * sum(map(len, expected.values()))
        self.told.total = None if n is None else n + more
        found = self._predict(None, self.source, "original")
        assert found is not None
        if self.network.forward is None:  # the same engine before and after, whenever the run ended
            about = tables.metadata(pq.read_schema(self._file("original")))
            self.settings = replace(self.settings, engine=about["engine"])
        return found

    def predict_altered(self, images: Mapping[int, frozenset[str]]) -> dict[Change, Predictions | None]:
        known = fingerprint(self.objects)
        for companion, wanted in images.items():
            for fill in self.fills:
                for control in (False, True):
                    change = Change(companion, fill, control)
                    self.removals[change] = Removal(
                        self.objects, companion, fill, control, wanted, self.seed, known
                    )
        self.told.total = self.told.done + sum(len(r.images) for r in self.removals.values())
        return {
            change: self._predict(change, altered(self.source, removal), self._name(change))
            for change, removal in self.removals.items()
        }

    def _name(self, change: Change) -> str:
        key = _file_name(self.objects.keys[change.companion])
        return f"{change.companion}-{key}-{change.fill}{'-control' if change.control else ''}"

    def _file(self, name: str) -> Path:
        return self.out / "predictions" / name / predictions_file_name(self.network.name)

    def _predict(self, change: Change | None, source: Source, name: str) -> Predictions | None:
        folder = self._file(name).parent
        try:
            done = run(source, self.network, folder, self.settings, self.call, self.told, self._choice)
        except NoneLeftError as error:
            if change is None:
                raise
            self.skipped[change] = [dict(row) for row in error.skipped]
            self.told.add(len(error.skipped))
            return None
        self._choice = done.choice or self._choice
        self.skipped[change] = [
            r for r in _read_csv(folder / "skipped.csv") if r["model"] == self.network.name
        ]
        found = read_predictions(self._file(name))
        self.told.add(len(found) + len(self.skipped[change]))
        return found

    def notes(self, states: States, before: Predictions) -> list[str]:
        """Return what was passed over, and how much of it."""
        return [text for n, text in self._passed_over(states, before) if n]

    def _passed_over(self, states: States, before: Predictions) -> Iterator[tuple[int, str]]:
        undecoded = {row["image_id"] for row in self.skipped[None]}
        absent = states.image_id.filter(pc.invert(pc.is_in(states.image_id, before.image_id)))
        missing = len(set(absent.to_pylist()) - undecoded)
        unknown = len(before) - len(states.of(before.image_id).image_id)
        yield missing, f"{missing:,} images of which something is known have no picture: {_some(absent)}"
        yield len(undecoded), f"{len(undecoded):,} pictures cannot be read: {_some(sorted(undecoded))}"
        yield unknown, f"{unknown:,} pictures do not count: nothing is known of what they show"
        boxes = np.clip(self.objects.boxes, 0, 1)
        outside = int((~(boxes[:, :2] < boxes[:, 2:]).all(1)).sum())
        yield outside, f"{outside:,} objects have a box that is empty or outside of the image: passed over"
        for control in (False, True):
            yield from self._not_altered(control)

    def _not_altered(self, control: bool) -> Iterator[tuple[int, str]]:
        rows = [
            (row["reason"].partition(":")[0], row["image_id"])
            for change, of in self.skipped.items()
            if change is not None and change.control is control and change.fill == self.fills[0]
            for row in of
        ]
        counts = Counter(reason for reason, _ in rows if control is reason.startswith("no room"))
        what = "controls cannot be placed" if control else "removals cannot be made"
        for reason, n in counts.most_common():
            example = next(image for why, image in rows if why == reason)
            yield n, f"{n:,} {what}: {reason}, such as {example}"

    def draw(self, examples: pa.Table) -> pa.Table:
        """Write the pictures of examples, and return the table with their files."""
        rows = examples.to_pylist()
        wanted: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            wanted.setdefault(row["image_id"], []).append(row)
        for image_id, pixels in self._pixels(wanted):
            for row in wanted[image_id]:
                self._draw(row, pixels)
        return pa.Table.from_pylist(rows, schema=tables.schema("shortcut_examples"))

    def _draw(self, row: dict[str, Any], pixels: Any) -> None:
        pair = f"{row['main']}-{row['companion']}-{row['fill']}"
        stem = f"{pair}/{_file_name(row['image_id'])}"
        made = {"before": pixels}
        for name, control in (("after", False), ("control", True)):
            made[name] = self.removals[Change(row["companion"], row["fill"], control)](
                row["image_id"], pixels
            )
        for name, picture in made.items():
            if not isinstance(picture, str):
                row[name] = f"examples/{stem}-{name}.jpg"
                write_picture(self.out / row[name], picture)

    def _pixels(self, wanted: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        for part in self.source.parts:
            for item, read in part.items():
                if item.image_id in wanted:
                    data = read()
                    image = decode(data) if isinstance(data, bytes) else data
                    if not isinstance(image, str):
                        yield item.image_id, image.permute(1, 2, 0).numpy()


@dataclass
class _Told:
    """Makes one run of many: images done of all of them, and how long the rest takes."""

    notify: Notify
    total: int | None = None
    done: int = 0
    scored: int = 0
    begun: float = 0.0
    _now: int = 0
    _seen: set[str] = field(default_factory=set)

    def __call__(self, kind: str, told: dict[str, Any]) -> None:
        if kind == "progress":
            self._progress(told)
        elif kind not in self._seen:
            self._seen.add(kind)
            begun = {"images": self.total, "left": None if self.total is None else self.total - self.done}
            self.notify(kind, told | begun if kind == "model" else told)

    def add(self, images: int) -> None:
        """Note that a run is complete."""
        self.done += images
        self.scored += self._now
        self._now = 0

    def _progress(self, told: dict[str, Any]) -> None:
        self.begun = self.begun or time.perf_counter()
        self._now = told["images"]
        scored, done = self.scored + self._now, self.done + self._now
        rate = scored / max(time.perf_counter() - self.begun, 1e-3)
        left = None if self.total is None else round(max(self.total - done, 0) / rate, 1)
        self.notify(
            "progress",
            {
                "model": told["model"],
                "images": done,
                "of": self.total,
                "images_per_second": round(rate, 1),
                "seconds_left": left,
            },
        )


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text)


def _read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _some(ids: Any) -> str:
    first = list(ids)[:3]
    return ", ".join(map(str, first)) + (", …" if len(ids) > 3 else "")
