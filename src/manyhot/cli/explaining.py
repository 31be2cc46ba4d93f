"""The command that asks a model where it looks: explain."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manyhot.cli.options import ClassesOption, JsonOption, OutOption, call
from manyhot.cli.printing import print_table, print_written, say, show_progress

if TYPE_CHECKING:
    from manyhot.diagnose.localisation import Explanations

Row = dict[str, Any]


class Method(StrEnum):
    """How a map is made."""

    gradcam = "gradcam"
    integrated_gradients = "integrated-gradients"
    occlusion = "occlusion"
    saliency = "saliency"


def explain(
    source: Annotated[str, typer.Argument(help="Images: all that predict reads.", metavar="IMAGES")],
    model: Annotated[str, typer.Option("--model", help="A network of PyTorch, as for predict.")],
    method: Annotated[
        list[Method] | None,
        typer.Option("--method", help="How maps are made; repeat for more. [default: gradcam]"),
    ] = None,
    layer: Annotated[
        str, typer.Option("--layer", help="Of gradcam: the path of a layer; the last grid by default.")
    ] = "",
    objects: Annotated[
        Path | None,
        typer.Option(
            "--objects", help="Where objects are: a table with a box a row, COCO's JSON, or a folder of VOC."
        ),
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option("--masks", help="Semantic masks: a folder of PNGs, or Parquet with them."),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Label sets; by default the classes of the objects.")
    ] = None,
    classes: ClassesOption = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            help="Key of a class to ask about, on images that show it; repeat for images that show all. "
            "By default the label set and the best predicted class.",
            metavar="KEY",
        ),
    ] = None,
    ids: Annotated[list[str] | None, typer.Option("--id", help="An image; repeat for more.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Images at most, the first.", min=1)] = None,
    top: Annotated[
        int, typer.Option("--top", help="Best predicted classes to ask about beside the label set.", min=0)
    ] = 1,
    pictures: Annotated[
        int, typer.Option("--pictures", help="Images to make pictures of, the first.", min=0)
    ] = 24,
    arrays: Annotated[
        bool, typer.Option("--arrays", help="Write the maps themselves, too: float16, a .npz an image.")
    ] = False,
    check: Annotated[
        int,
        typer.Option(
            "--check", help="Images on which to compare maps with those of shuffled weights.", min=0
        ),
    ] = 0,
    batch: Annotated[int, typer.Option("--batch", help="Images at once.", min=1)] = 8,
    resamples: Annotated[
        int, typer.Option("--resamples", help="Bootstrap resamples; 0 for no intervals.", min=0)
    ] = 1000,
    seed: Annotated[
        int, typer.Option("--seed", help="Seed of the bootstrap, and of shuffled weights.", min=0)
    ] = 0,
    out: OutOption = Path("maps"),
    as_json: JsonOption = False,
) -> None:
    """Draw what in an image speaks for each of its labels, and measure whether it is the object.

    A map for each class of the label set and for the best predicted class. Where objects are known, the maps
    are held against them, beside what chance and the middle of the image would reach.

    Examples: manyhot explain photos --model efficientnet-lite0 ·
    manyhot explain photos --model head:head.safetensors --objects boxes.parquet --class horse --class person
    """
    from manyhot.diagnose.explain import explain_files

    with show_progress() as progress:
        found, written = explain_files(
            source,
            model,
            out,
            methods=[m.value for m in dict.fromkeys(method or [Method.gradcam])],
            layer=layer,
            objects=objects,
            masks=masks,
            labels=labels,
            classes=classes,
            only=only or (),
            ids=ids or (),
            limit=limit,
            top=top,
            pictures=pictures,
            arrays=arrays,
            check=check,
            batch=batch,
            resamples=resamples,
            seed=seed,
            call=call(),
            progress=progress,
        )
    print_explanations(found, written, as_json)


def print_explanations(found: Explanations, written: list[Path], as_json: bool) -> None:
    """Print how well maps point at objects, the sanity checks, what was passed over, and what was written."""
    if as_json:
        told: dict[str, Any] = {name: _plain(t.to_pylist()) for name, t in found.tables.items()}
        typer.echo(json.dumps(told | {"notes": found.notes, "written": [str(p) for p in written]}))
        return
    maps = found.maps.to_pylist()
    images = len({row["image_id"] for row in maps})
    say(f"{maps[0]['model']}: {len(maps):,} maps of {images:,} images")
    measured = found.localisation.to_pylist()
    whole, difficult = ([r for r in measured if r["slice"] == part] for part in ("all", "difficult"))
    _print_measures(whole, "objects")
    if [r["n"] for r in difficult] != [r["n"] for r in whole]:
        _print_measures(difficult, "difficult objects: small, and not alone")
    _print_classes([r for r in measured if r["slice"].startswith("class=") and r["n"]])
    if found.sanity.num_rows:
        typer.echo()
        print_table(
            ("method", "compared with", "rank correlation", "pairs"), _checks(found.sanity.to_pylist())
        )
    for note in found.notes:
        say(f"Note: {note}.", err=True)
    typer.echo()
    print_written(written, False)


def _plain(rows: Sequence[Row]) -> list[Row]:
    return [{k: None if v != v else v for k, v in r.items()} for r in rows]


_WORDS = {
    "pointing": "highest point on the object",
    "pointing_near": "… or near it",
    "pointing_other": "… on an object of another class",
    "energy": "share of the map on it",
    "overlap": "highest pixels on it",
    "auroc": "AUROC of its pixels",
}


def _print_measures(rows: Sequence[Row], what: str) -> None:
    if not rows:
        return
    one, same = rows[0], len({r["n"] for r in rows}) == 1
    skipped = f", {one['n_skipped']:,} not measured" if one["n_skipped"] else ""
    typer.echo()
    say(f"{what}: {one['n']:,} maps{skipped}")
    head = ("method", "measure", "maps", "chance", "centre", "maps less centre", *(() if same else ("n",)))
    cells = [
        (
            r["method"],
            _WORDS[r["metric"]],
            _ended(r["value"], r["lo"], r["hi"]),
            _ended(r["by_chance"]),
            _ended(r["centre"]),
            _ended(r["more"], r["more_lo"], r["more_hi"], "+"),
            *(() if same else (f"{r['n']:,}",)),
        )
        for r in rows
    ]
    print_table(head, cells)


def _print_classes(rows: Sequence[Row], most: int = 12) -> None:
    """Print of how many objects of each class the highest point lies on it, most objects first."""
    pointing = sorted((r for r in rows if r["metric"] == "pointing"), key=lambda r: -r["n"])
    beside = {(r["method"], r["slice"]): r for r in rows if r["metric"] == "pointing_other"}
    if not pointing:
        return
    typer.echo()
    cells = [
        (
            r["method"],
            r["slice"].removeprefix("class="),
            f"{r['n']:,}",
            _ended(r["value"], r["lo"], r["hi"]),
            _ended(r["by_chance"]),
            _ended(r["centre"]),
            _beside(r, beside.get((r["method"], r["slice"]))),
        )
        for r in pointing[:most]
    ]
    print_table(("method", "class", "maps", "highest point on it", "chance", "centre", "on another"), cells)
    if len(pointing) > most:
        say(f"… and {len(pointing) - most:,} more in the table")


def _beside(row: Row, other: Row | None) -> str:
    """Return a mean over as many maps as those of `row`, or with its n."""
    if other is None:
        return "–"
    n = "" if other["n"] == row["n"] else f" of {other['n']:,}"
    return _ended(other["value"], other["lo"], other["hi"]) + n


def _ended(value: float, lo: float | None = None, hi: float | None = None, sign: str = "") -> str:
    if value != value:
        return "–"
    ends = "" if lo is None or hi is None else f" ({lo:{sign}.3f} to {hi:{sign}.3f})"
    return f"{value:{sign}.3f}{ends}"


def _checks(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    return [(r["method"], _compared(r), _ended(r["value"], r["lo"], r["hi"]), f"{r['n']:,}") for r in rows]


def _compared(row: Row) -> str:
    if row["against"] == "weights":
        return f"last {row['layers']} of {row['of_layers']} layers shuffled"
    return "another class of the image" if row["against"] == "class" else "another image"
