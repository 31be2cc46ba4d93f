"""Find objects in images with a detector: the function of ``manyhot detect``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa

from manyhot.classes import ClassList
from manyhot.command import command
from manyhot.console import table_lines
from manyhot.errors import InputError
from manyhot.files import hashes_of
from manyhot.formats import ClassNamesLike, open_class_list
from manyhot.formats.writing import PathLike
from manyhot.parameters import Probability, Shown
from manyhot.predict.detected_parts import (
    DetectedFiles,
    DetectSettings,
    detect_source,
)
from manyhot.predict.detector import LOWEST_SCORE, find_detector
from manyhot.predict.matched_classes import MatchedClasses, match_classes
from manyhot.predict.parts import read_skipped
from manyhot.predict.sources import DECODING, Decoding, ImagesLike, open_source
from manyhot.result import Result
from manyhot.run import QUIET, Run
from manyhot.tables import read

MIN_SCORE = 0.4
"""Default score from which a box is an object.

In 522 photographs of VOC's training set, objectron-ssd then finds persons with a precision of 0.86 and a
recall of 0.73, and cars with 0.92 and 0.92. From 0.5 on, these are 0.94 and 0.43, and 0.97 and 0.78."""

MIN_UNCLEAR = 0.2
"""Default score from which it is unclear whether an image shows a class."""


@dataclass(frozen=True, eq=False)
class DetectedObjects(Result):
    """Objects that a detector found in images, stored in a folder.

    Attributes
    ----------
    model : str
    classes : ClassList
    objects : pyarrow.Table
        The table ``objects``, with the column `score`.
    labels : pyarrow.Table
        The table ``labels``: the state of each class of the detector in each image.
    n, n_skipped : int
        Numbers of images that were searched for objects, and of images that could not be decoded.
    seconds : float
        Time of this run; 0 if the folder was complete.
    notes, metadata, inputs, written
        As in `Result`.
    """

    model: str
    classes: ClassList
    objects: pa.Table
    labels: pa.Table
    n: int
    n_skipped: int
    seconds: float

    def lines(self) -> Iterator[str]:
        """Yield the numbers of images and objects, in total and for each class."""
        speed = (
            f" in {self.seconds:.1f} s, {self.n / self.seconds:,.0f}/s" if self.seconds else ", already done"
        )
        yield f"{self.model}: {self.n:,} images{speed}; skipped {self.n_skipped:,}"
        boxes, images = Counter(self.objects["class_id"].to_pylist()), self._images()
        rows = [
            (self.classes.names[c], f"{boxes[c]:,}", f"{n['yes']:,}", f"{n['unclear']:,}", f"{n['no']:,}")
            for c, n in sorted(images.items(), key=lambda pair: -pair[1]["yes"])
        ]
        yield from table_lines(("class", "objects", "images with it", "unclear", "without"), rows)

    def _images(self) -> dict[int, Counter[str]]:
        """Return for each class how many images have each state."""
        counts: dict[int, Counter[str]] = {}
        for classes, states in zip(*(self.labels[c].to_pylist() for c in ("classes", "state")), strict=True):
            for class_id, state in zip(classes, states, strict=True):
                counts.setdefault(class_id, Counter())[state] += 1
        return counts

    def to_json(self) -> dict[str, Any]:
        """Return the numbers of images and objects, in total and for each class."""
        return {
            "model": self.model,
            "images": self.n,
            "skipped": self.n_skipped,
            "seconds": round(self.seconds, 1),
            "objects": len(self.objects),
            "classes": [
                {"class": self.classes.keys[c], **{state: n[state] for state in ("yes", "unclear", "no")}}
                for c, n in sorted(self._images().items())
            ],
            "notes": self.notes,
        }


@command(
    "detect",
    examples=(
        "manyhot detect photos --model objectron-ssd --out detected",
        "manyhot detect photos --model objectron-ssd --classes classes.txt --class-map names.csv",
    ),
)
def find_objects(
    images: ImagesLike,
    model: Annotated[str, Shown("NAME")] = "objectron-ssd",
    *,
    out: Annotated[PathLike, Shown("FOLDER")] = "detected",
    classes: ClassNamesLike | None = None,
    class_map: Annotated[PathLike | None, Shown("FILE")] = None,
    min_score: Probability = MIN_SCORE,
    min_unclear: Probability = MIN_UNCLEAR,
    decoding: Decoding = DECODING,
    run: Run = QUIET,
) -> DetectedObjects:
    """Find objects in images with a detector. A stopped run resumes when it is started again.

    Three tables are written to the folder: objects, for the commands that need boxes; label sets, with the
    state of each class of the detector; and predictions, with the scores of these classes.

    Parameters
    ----------
    images
        Images, as for predict.
    model
        Name of a detector: objectron-ssd, or one of torchvision's, such as
        torchvision/fasterrcnn_resnet50_fpn.
    out
        Folder to write to. It is created if it does not exist.
    classes
        Class list of the data set. The classes of the detector are matched to it by key, name or synonym;
        unmatched classes are left out. By default, the class list of the detector.
    class_map
        Table with the columns detector_class and class, for classes that differ in name.
    min_score
        Minimum score at which a box counts as an object and its class is in the label set.
    min_unclear
        Minimum score at which a class is unclear for an image. Below it, the state of the class is no.

    Returns
    -------
    DetectedObjects

    Raises
    ------
    InputError
        If the source does not exist or contains no image that can be decoded, or if an option is out of
        range.
    MatchError
        If the folder contains the objects from another run, or the detector has none of the classes.
    UnknownNameError
        If the detector does not exist.
    FetchError, ChecksumError
        If the weights cannot be fetched.
    MissingExtraError
        If a package that the detector or the source needs is not installed.
    OutputError
        If the folder cannot be written to.
    """
    if not LOWEST_SCORE <= min_unclear <= min_score:
        raise InputError(
            "`min_unclear` is out of range.",
            got=min_unclear,
            allowed=f"{LOWEST_SCORE} to `min_score`, {min_score}",
        )
    if class_map is not None and classes is None:
        raise InputError("`class_map` needs the class list of the data set.", do="also pass `classes`")
    source, detector = open_source(images, decoding=decoding), find_detector(model)
    own = open_class_list(classes)
    matched = (
        MatchedClasses.same(detector.classes)
        if own is None
        else match_classes(detector.classes, own, None if class_map is None else Path(class_map))
    )
    files = DetectedFiles(Path(out), detector.name)
    settings = DetectSettings(matched, min_score, min_unclear)
    seconds = detect_source(source, detector, files, settings, run)
    objects, found = read(files.objects, "objects"), read(files.labels, "labels")
    inputs = hashes_of((classes, class_map))
    return DetectedObjects(
        detector.name,
        matched.classes,
        objects,
        found,
        len(found),
        sum(1 for _ in read_skipped(files.out)),
        seconds,
        notes=(*source.notes, *detector.notes, *matched.notes()),
        inputs=inputs,
        written=files.written,
    )
