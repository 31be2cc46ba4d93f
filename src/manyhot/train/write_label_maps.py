"""Write local predictions of a network: the function of ``manyhot label-maps``."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from manyhot.command import command
from manyhot.errors import InputError
from manyhot.files import atomic_write
from manyhot.formats import ClassNamesLike, open_class_list
from manyhot.formats.writing import PathLike, check_apart
from manyhot.parameters import AtLeast, Count, Shown, Was
from manyhot.predict.models import find_model
from manyhot.predict.sources import DECODING, Decoding, ImagesLike, open_source
from manyhot.result import Result
from manyhot.run import QUIET, Run


@dataclass(frozen=True, eq=False)
class LabelMapsResult(Result):
    """Label maps in a file.

    Attributes
    ----------
    n_images : int
        Number of images with a map.
    notes, metadata, inputs, written
        As in `Result`. A list of unreadable images is written next to the file.
    """

    n_images: int

    def lines(self) -> Iterator[str]:
        """Yield the number of maps."""
        yield f"{self.n_images:,} label map{'s' * (self.n_images != 1)}"

    def to_json(self) -> dict[str, Any]:
        """Return the number of maps."""
        return {"images": self.n_images}


@command("label-maps", examples=("manyhot label-maps photos --model timm/resnet50 --out maps.arrow",))
def label_maps(
    images: ImagesLike,
    *,
    model: Annotated[str, Shown("NAME")],
    out: Annotated[PathLike, Shown("FILE")] = "maps.arrow",
    top: Annotated[int, AtLeast(1), Was("--k")] = 5,
    size: Count | None = None,
    classes: ClassNamesLike | None = None,
    decoding: Decoding = DECODING,
    run: Run = QUIET,
) -> LabelMapsResult:
    """Write a network's predictions at each location in each image, as targets for training on crops.

    To train with the file: manyhot train … --set teach=maps --set maps=maps.arrow.

    Parameters
    ----------
    images
        Images, as for predict.
    model
        A timm network with global average pooling before the classifier.
    out
        File to write, with the suffix .arrow.
    top
        Number of top classes to keep per location.
    size
        Height and width of the images in pixels, by default the input size of the network.
    classes
        Class list of the model, if it has no classes of its own: a file with one key per line, a table with
        the columns key and name, or imagenet1k, imagenet-a or imagenet-r.

    Returns
    -------
    LabelMapsResult

    Raises
    ------
    InputError
        If the file has a different suffix, if the network has no grid before its classifier, or if no image
        can be read.
    """
    from manyhot.train.label_maps import MapBlock, compute_label_maps, write_maps

    out = Path(out)
    if out.suffix != ".arrow":
        raise InputError("The file of label maps must end in .arrow.", got=out)
    check_apart([images, classes], out)
    network = find_model(model, open_class_list(classes))
    source = open_source(images, decoding=decoding)
    total = sum(part.n or 0 for part in source.parts)
    skipped: list[tuple[str, str]] = []
    n = 0

    def counted() -> Iterator[MapBlock]:
        nonlocal n
        for block in compute_label_maps(
            network, source, k=top, size=size, skip=lambda *image: skipped.append(image)
        ):
            n += len(block.image_ids)
            if run.on_progress:
                run.on_progress("mapping", n, max(total, n))
            yield block

    about = {"model": network.name, "k": top, "size": size, "call": run.call, **network.about}
    written = [write_maps(out, counted(), network.classes, about)]
    if skipped:
        written.append(out.with_name(f"{out.stem}-skipped.csv"))
        with atomic_write(written[-1]) as part, part.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("image_id", "reason"), *skipped])
    return LabelMapsResult(n, notes=source.notes, written=tuple(written))
