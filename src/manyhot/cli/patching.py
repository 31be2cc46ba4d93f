"""The command that composes pictures of patches of objects: patchml."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from manyhot.cli.options import ClassesOption, JsonOption, OutOption, call
from manyhot.cli.printing import print_table, print_written, say, show_progress


class Cut(StrEnum):
    """How objects are cut out."""

    box = "box"
    mask = "mask"


class Format(StrEnum):
    """How pictures are written."""

    png = "png"
    jpg = "jpg"


def patchml(
    images: Annotated[
        str, typer.Argument(help="Photographs, from anywhere that predict reads them.", metavar="IMAGES")
    ],
    objects: Annotated[
        Path, typer.Option("--objects", help="Their objects: a table with boxes, COCO JSON, a VOC folder.")
    ],
    masks: Annotated[
        Path | None, typer.Option("--masks", help="Semantic masks: a folder of PNGs, or a table.")
    ] = None,
    n: Annotated[int, typer.Option("--n", help="Pictures to compose.", min=1)] = 1000,
    objects_per_image: Annotated[
        str,
        typer.Option(
            "--objects-per-image", help="Objects of a picture, each of another class.", metavar="RANGE"
        ),
    ] = "1-4",
    overlap: Annotated[
        str,
        typer.Option(
            "--overlap",
            help="Of the object that is covered most, the share that lies under others; up to 0.5.",
            metavar="RANGE",
        ),
    ] = "0-0.1",
    scale: Annotated[
        str,
        typer.Option("--scale", help="The long side of an object over that of the picture.", metavar="RANGE"),
    ] = "0.3-0.6",
    background: Annotated[
        str,
        typer.Option(
            "--background",
            help="grey, noise, colour (drawn for each picture), a colour such as #40a0ff, blur (of the "
            "photographs), crop (places in them without objects), or a folder of photographs.",
        ),
    ] = "grey",
    cut: Annotated[
        Cut, typer.Option("--cut", help="Cut objects out by box, or by mask or polygons.")
    ] = Cut.box,
    soft: Annotated[
        float, typer.Option("--soft", help="Pixels over which their edges fade.", min=0, max=50)
    ] = 0.0,
    size: Annotated[int, typer.Option("--size", help="Sides of a picture in pixels.")] = 224,
    least: Annotated[
        int, typer.Option("--least", help="Pixels of the short side of an object in its photograph.")
    ] = 32,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only", help="A class to take objects of, by its key; repeat for more. By default all."
        ),
    ] = None,
    pair: Annotated[
        list[str] | None,
        typer.Option(
            "--pair",
            help="Two classes that stand together, as horse+person; repeat for more: each picture has one.",
        ),
    ] = None,
    as_they_occur: Annotated[
        bool,
        typer.Option(
            "--as-they-occur",
            help="Take classes that stand together in a photograph, as often as they do; by default each "
            "class as often as any other.",
        ),
    ] = False,
    format: Annotated[Format, typer.Option("--format", help="How pictures are written.")] = Format.png,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same files.", min=0)] = 0,
    classes: ClassesOption = None,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Threads; one a core by default.", min=1)
    ] = None,
    out: OutOption = Path("patchml"),
    as_json: JsonOption = False,
) -> None:
    """Compose pictures of objects cut out of photographs: without context, with exact label sets.

    Examples: manyhot patchml photos --objects instances_val2017.json --out patchml ·
    manyhot patchml photos --objects objects.parquet --objects-per-image 2 --pair horse+person --cut mask
    """
    from manyhot.diagnose.patchml import patchml_files
    from manyhot.diagnose.patchml.settings import PatchSettings, pair_of, real_range, whole_range

    settings = PatchSettings(
        n=n,
        objects=whole_range(objects_per_image, "--objects-per-image"),
        overlap=real_range(overlap, "--overlap"),
        scale=real_range(scale, "--scale"),
        background=background,
        cut=cut.value,
        soft=soft,
        size=size,
        least=least,
        only=tuple(only or ()),
        pairs=tuple(pair_of(text) for text in pair or ()),
        as_they_occur=as_they_occur,
        format=format.value,
        seed=seed,
    )
    with show_progress() as progress:
        done = patchml_files(
            images,
            objects,
            out,
            settings=settings,
            masks=masks,
            classes=classes,
            workers=workers,
            call=call(),
            progress=progress,
        )
    print_patchml(done, as_json)


def print_patchml(done: Any, as_json: bool) -> None:
    """Print how many pictures there are, of which objects, and what was skipped."""
    if as_json:
        told = {"pictures": done.n, "patches": done.patches, "skipped": done.skipped, "notes": done.notes}
        typer.echo(json.dumps(told | {"written": [str(p) for p in done.written]}))
        return
    taken = sum(done.patches.values())
    classes = sum(n > 0 for n in done.patches.values())
    say(f"{done.n:,} picture{'s' * (done.n != 1)} of {taken:,} objects of {classes:,} classes")
    if done.skipped:
        typer.echo()
        print_table(("skipped", "objects"), [(reason, f"{n:,}") for reason, n in done.skipped.items()])
    typer.echo()
    for note in done.notes:
        say(f"Note: {note}.", err=True)
    print_written(list(done.written), False)
