"""Predictions of images without the objects of a class, and what could not be removed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc
from pyarrow import parquet as pq

from manyhot import tables
from manyhot.diagnose.page import RunProgress
from manyhot.diagnose.pixels.regions import write_picture
from manyhot.diagnose.pixels.removal import Removal, fingerprint
from manyhot.formats import read_predictions
from manyhot.predict.engines import EngineChoice
from manyhot.predict.network import Network
from manyhot.predict.parts import read_skipped
from manyhot.predict.run import ModelRun, PredictSettings, predict_runs, prepare_run
from manyhot.predict.sources.source import ImageSource, NoneLeftError, alter_images, decoded_images
from manyhot.run import Run
from manyhot.tables import Objects, Predictions, predictions_file_name
from manyhot.tables.arrays import States, boxes_that_fit

EXAMPLES_FOLDER = "examples"
"""The folder of pictures, in that of the output."""


@dataclass(eq=False)
class ObjectRemover:
    """A run of a model on the original and the altered images of a source, with pictures of examples."""

    source: ImageSource
    network: Network
    objects: Objects
    out: Path
    settings: PredictSettings
    fills: Sequence[str]
    seed: int
    run: Run
    skipped: dict[Change | None, list[dict[str, str]]] = field(default_factory=dict)
    removals: dict[Change, Removal] = field(default_factory=dict)
    _choice: EngineChoice | None = None

    @cached_property
    def progress(self) -> RunProgress:
        """Progress over the images of all runs."""
        return RunProgress(self.run, "predicting with and without objects")

    def predict_originals(self, expected: Mapping[int, frozenset[str]]) -> Predictions:
        """Return the predictions of the original images.

        `expected` contains the images that will be altered later. They are included in the progress total.
        """
        n = self.source.n
        more = 2 * len(self.fills) * sum(map(len, expected.values()))
        self.progress.total = None if n is None else n + more
        (job,) = predict_runs([self._prepared(None)], self.progress)
        found = self._finished(None, job)
        assert found is not None
        self.progress.add(self._count(None, found))
        if self.network.forward is None:  # the same engine before and after, whenever the run ended
            about = tables.metadata(pq.read_schema(self._file("original")))
            self.settings = replace(self.settings, engine=about["engine"])
        return found

    def predict_altered(self, images: Mapping[int, frozenset[str]]) -> dict[Change, Predictions | None]:
        """Return the predictions of the altered images for each change; None if it can alter no image."""
        mark = fingerprint(self.objects)
        for companion, image_ids in images.items():
            for fill in self.fills:
                for control in (False, True):
                    change = Change(companion, fill, control)
                    self.removals[change] = Removal(
                        self.objects, companion, fill, control, image_ids, self.seed, mark
                    )
        self.progress.total = self.progress.done + sum(len(r.images) for r in self.removals.values())
        jobs = {change: self._prepared(change) for change in self.removals}
        change_of = {id(job): change for change, job in jobs.items()}
        found: dict[Change, Predictions | None] = {}
        for job in predict_runs([*jobs.values()], self.progress):
            change = change_of[id(job)]
            found[change] = self._finished(change, job)
            if not job.missing:
                self.progress.add(self._count(change, found[change]))
        self.progress.add(sum(self._count(c, found[c]) for c, job in jobs.items() if job.missing))
        return {change: found[change] for change in self.removals}

    def _count(self, change: Change | None, predictions: Predictions | None) -> int:
        return len(predictions or ()) + len(self.skipped[change])

    def _prepared(self, change: Change | None) -> ModelRun:
        source = self.source if change is None else alter_images(self.source, self.removals[change])
        folder = self._file(self._name(change)).parent
        job = prepare_run(source, self.network, folder, self.settings, self.progress, self._choice)
        self._choice = job.choice or self._choice
        return job

    def _name(self, change: Change | None) -> str:
        if change is None:
            return "original"
        key = _file_name(self.objects.keys[change.companion])
        return f"{change.companion}-{key}-{change.fill}{'-control' if change.control else ''}"

    def _file(self, name: str) -> Path:
        return self.out / "predictions" / name / predictions_file_name(self.network.name)

    def _finished(self, change: Change | None, job: ModelRun) -> Predictions | None:
        """Return the predictions of a run whose parts are all written; None if no image could be altered."""
        try:
            job.finish(self.run.call)
        except NoneLeftError as error:
            if change is None:
                raise
            self.skipped[change] = [dict(row) for row in error.skipped]
            return None
        path = self._file(self._name(change))
        self.skipped[change] = [r for r in read_skipped(path.parent) if r["model"] == self.network.name]
        return read_predictions(path)

    def notes(self, states: States, before: Predictions) -> list[str]:
        """Return notes about how many images and objects were skipped."""
        return [text for n, text in self._skipped_images(states, before) if n]

    def _skipped_images(self, states: States, before: Predictions) -> Iterator[tuple[int, str]]:
        unread = {row["image_id"] for row in self.skipped[None]}
        absent = states.image_id.filter(pc.invert(pc.is_in(states.image_id, before.image_id))).to_pylist()
        absent = [image for image in absent if image not in unread]
        unknown = len(before) - len(states.of(before.image_id).image_id)
        outside = int(np.count_nonzero(~boxes_that_fit(self.objects)))
        yield len(absent), f"images that have labels or objects but are not in the source: {_some(absent)}"
        yield len(unread), f"images that cannot be read: {_some(sorted(unread))}"
        yield unknown, f"images that are skipped because they have no labels or objects: {unknown:,}"
        yield outside, f"objects skipped because their box is empty or outside the image: {outside:,}"
        for control in (False, True):
            yield from self._not_altered(control)

    def _not_altered(self, control: bool) -> Iterator[tuple[int, str]]:
        found: dict[str, list[str]] = {}
        for change, rows in self.skipped.items():
            if change is not None and (change.control, change.fill) == (control, self.fills[0]):
                for row in rows:
                    found.setdefault(row["reason"].partition(":")[0], []).append(row["image_id"])
        what = "controls" if control else "removals"
        for reason, images in found.items():
            if control is reason.startswith("no room"):  # without a removal there is no control
                yield len(images), f"{what} that cannot be made, {reason}: {_some(images)}"

    def draw(self, examples: pa.Table) -> pa.Table:
        """Write the pictures of examples, and return the table with the paths of the files."""
        rows = examples.to_pylist()
        by_image: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        for number, row in enumerate(rows, 1):
            by_image.setdefault(row["image_id"], []).append((number, row))
        for image_id, pixels in decoded_images(self.source, by_image):
            for number, row in by_image[image_id]:
                self._draw(number, row, pixels)
        return pa.Table.from_pylist(rows, schema=tables.schema("shortcut_examples"))

    def _draw(self, number: int, row: dict[str, Any], pixels: Any) -> None:
        pair = _file_name(f"{row['main_name']}-{row['companion_name']}")
        made = {"before": pixels}
        for name, control in (("after", False), ("control", True)):
            made[name] = self.removals[Change(row["companion"], row["fill"], control)](
                row["image_id"], pixels
            )
        for name, picture in made.items():
            if not isinstance(picture, str):
                row[name] = f"{EXAMPLES_FOLDER}/{number:02}-{pair}-{row['fill']}-{name}.jpg"
                write_picture(self.out / row[name], picture)


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text)[:60]


def _some(images: Sequence[str]) -> str:
    return f"{len(images):,}, such as {images[0]}" if images else "0"


class Change(NamedTuple):
    """How images were altered: the removed class, the fill, and whether the images are a control."""

    companion: int
    fill: str
    control: bool
