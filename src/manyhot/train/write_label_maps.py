"""Images in, a file of what a network sees at each place of them out."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from manyhot.errors import InputError
from manyhot.files import atomic_write
from manyhot.formats import read_classes
from manyhot.formats.writing import PathLike, Progress, check_apart
from manyhot.predict.find import find_model
from manyhot.predict.sources import open_source


def label_map_files(
    source: PathLike,
    model: str,
    out: PathLike = "maps.arrow",
    *,
    k: int = 5,
    size: int | None = None,
    classes: PathLike | None = None,
    call: str = "",
    progress: Progress | None = None,
) -> tuple[int, list[Path]]:
    """Write the label maps of images, for training on localised soft labels.

    Parameters
    ----------
    source : path-like
        See `manyhot.predict.sources.open_source`.
    model : str
        A network of timm whose classifier follows the mean of a grid; see `manyhot.predict.find.find_model`.
    out : path-like
        The file, ``.arrow``.
    k : int
        Classes that are kept of each place.
    size : int, optional
        Side of the images in pixels; by default the network's own.
    classes : path-like, optional
        Class list of the model, where it does not tell.
    progress : callable, optional
        Called with what is done, how much, and of how many.

    Returns
    -------
    n : int
        Images with a map.
    written : list of Path
        The file, and a list of what could not be read, if any.

    Raises
    ------
    InputError
        The file is called otherwise, the network has no grid before its classifier, or no image can be read.
    """
    from manyhot.train.label_maps import MapBlock, write_maps
    from manyhot.train.make_label_maps import compute_label_maps

    out = Path(out)
    if out.suffix != ".arrow":
        raise InputError("Label maps are written to an .arrow file.", got=out)
    check_apart([source, classes], out)
    network = find_model(model, None if classes is None else read_classes(classes))
    images = open_source(source)
    total = sum(part.n or 0 for part in images.parts)
    skipped: list[tuple[str, str]] = []
    n = 0

    def skip(*image: str) -> None:
        skipped.append((image[0], image[1]))

    def counted() -> Iterator[MapBlock]:
        nonlocal n
        for block in compute_label_maps(
            network, images, k=k, size=size, skip=lambda *told: skipped.append(told)
        ):
            n += len(block.image_ids)
            if progress:
                progress("mapping", n, max(total, n))
            yield block

    about = {"model": network.name, "k": k, "size": size, "call": call, **network.about}
    written = [write_maps(out, counted(), network.classes, about)]
    if skipped:
        written.append(out.with_name(f"{out.stem}-skipped.csv"))
        with atomic_write(written[-1]) as part, part.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("image_id", "reason"), *skipped])
    return n, written
