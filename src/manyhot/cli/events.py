"""What predict, models and doctor print: events while they run, and what came of it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from manyhot.cli.printing import print_table

if TYPE_CHECKING:
    from manyhot.pipeline import Done, Finding, Listed, Notify, Trial

EVERY_S = 1.0
"""Seconds between two events of progress for machines."""


@contextlib.contextmanager
def show_events(as_json: bool) -> Iterator[Notify | None]:
    """Yield what is told of events: a line of JSON each, a bar on a terminal, nothing elsewhere."""
    if as_json:
        yield _lines()
        return
    if not sys.stderr.isatty():
        yield lambda kind, told: _say(kind, told, typer.echo)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        yield _bars(bars)


def _lines() -> Notify:
    last = 0.0

    def notify(kind: str, told: dict[str, Any]) -> None:
        nonlocal last
        now = time.monotonic()
        if kind == "progress" and now - last < EVERY_S:
            return
        last = now if kind == "progress" else last
        typer.echo(json.dumps({"event": kind, **told}, default=_plain))

    return notify


def _plain(value: Any) -> Any:
    return None if value != value else str(value)


def _bars(bars: Any) -> Notify:
    tasks: dict[str, Any] = {}  # with Ray several models are at work at once
    begun: dict[str, float] = {}

    def notify(kind: str, told: dict[str, Any]) -> None:
        model = told["model"]
        if kind == "engines":
            tasks[model] = bars.add_task(f"{model}: trying engines", total=None, rate="")
        elif kind == "model":
            _say(kind, told, bars.console.print)
            bars.update(tasks[model], description=model, total=told["left"])
            begun[model] = time.monotonic()
        elif kind == "progress":
            rate = told["images"] / max(time.monotonic() - begun[model], 1e-3)
            bars.update(tasks[model], completed=told["images"], rate=f"{rate:,.0f}/s")
        elif kind == "done" and model in tasks:
            bars.update(tasks[model], visible=False)

    return notify


def _say(kind: str, told: dict[str, Any], say: Any) -> None:
    if kind != "model":
        return
    trials = [_tried(t) for t in told["trials"]]
    say(f"{told['model']}: {told['engine']} {told['precision']} on {told['device']} ({'; '.join(trials)})")
    left, images = told["left"], told["images"]
    if left is not None and images is not None and left < images:
        say(f"  {images - left:,} of {images:,} images are there already")


def _tried(trial: dict[str, Any]) -> str:
    rate = "" if trial["rate"] != trial["rate"] else f" {trial['rate']:,.0f}/s"
    return f"{trial['engine']}{rate}" + (f": {trial['why_not']}" if trial["why_not"] else "")


def print_predicted(done: Sequence[Done], out: Path, as_json: bool) -> None:
    """Print what came of each model, and what was written."""
    if as_json:
        for one in done:
            told = {"model": one.model, "images": one.n, "wall": one.wall, "missing_parts": one.missing}
            told |= {"seconds": dataclasses.asdict(one.seconds)}
            if one.merged is not None:
                told |= {"predicted": one.merged.n, "skipped": one.merged.n_skipped}
                told["written"] = [str(p) for p in one.merged.files]
            typer.echo(json.dumps({"event": "result", **told}))
        return
    for one in done:
        _print_one(one)
    written = [path for one in done if one.merged for path in one.merged.files]
    for path in written:
        typer.echo(f"wrote {path}")
    skipped = sum(one.merged.n_skipped for one in done if one.merged)
    if written:
        typer.echo(f"wrote {out / 'images.parquet'}")
        typer.echo(
            f"wrote {out / 'skipped.csv'}" + (f": {skipped:,} skipped" if skipped else ", which is empty")
        )


def _print_one(one: Done) -> None:
    if one.merged is None and not one.missing:
        typer.echo(f"{one.model}: predicted already")
        return
    if one.n:
        s = one.seconds
        spent = f"read {s.read:.1f}, decode {s.decode:.1f}, model {s.model:.1f}, write {s.write:.1f}"
        typer.echo(f"{one.model}: {one.n:,} images in {one.wall:.1f} s{_difference(one.trials)}")
        typer.echo(f"  seconds of all threads: {spent}")
    if one.missing:
        typer.echo(
            f"{one.model}: {one.missing:,} parts are not there yet; the shard that finishes last merges all"
        )


def _difference(trials: Sequence[Trial]) -> str:
    """Return how far from PyTorch in f32 the engine that was taken is."""
    taken = [t for t in trials if not t.why_not and t.difference is not None and t.engine != "torch"]
    if not taken:
        return ""
    worst = max(t.difference or 0.0 for t in taken)
    changed = max(t.disagreement or 0.0 for t in taken)
    text = f"; at most {worst:.2g} from PyTorch's logits"
    return text + (f", another best class on {changed:.1%} of {'the images compared'}" if changed else "")


def print_models(listed: Sequence[Listed], pattern: str, as_json: bool) -> None:
    """Print models by name."""
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(m) for m in listed]))
        return
    rows = [(m.name, str(m.size or ""), m.classes, m.source) for m in listed]
    if rows:
        print_table(("name", "size", "classes", "weights from"), rows)
    typer.echo(f"{len(rows):,} models fit {pattern!r}; and: {_families()}")


def _families() -> str:
    from manyhot import pipeline

    return ", ".join(pipeline.families().values())


def print_doctor(findings: Sequence[Finding], as_json: bool) -> None:
    """Print what there is, and how to get the rest."""
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(f) for f in findings]))
        return
    rows = [(f.kind, f.name, "yes" if f.there else "no", f.state, f.do) for f in findings]
    print_table(("kind", "name", "there", "what", "how to get it"), rows)
