"""What predict and train tell while they run, and what came of it: for people, and as JSON for programs."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from manyhot.cli.printing import print_written, say
from manyhot.errors import printable
from manyhot.run import OnEvent
from manyhot.run import Progress as OnProgress

if TYPE_CHECKING:
    from manyhot.predict.engines.choose import Trial
    from manyhot.predict.run import PredictResult

EVERY_S = 1.0
"""Seconds between two events of progress for programs."""

LINE_EVERY_S = 60.0
"""Seconds between two lines of progress where nobody watches, as in the log of a scheduler."""


@contextlib.contextmanager
def show_run(as_json: bool, *, streams: bool = False) -> Iterator[tuple[OnProgress | None, OnEvent | None]]:
    """Yield what shows the progress and the events of a call.

    On a terminal both are bars; elsewhere there is a line a minute of the images predicted. Events that one
    keeps are lines above them. For programs, events are lines of JSON where a command streams them.
    """
    if as_json and streams:
        yield None, _Lines(Path())
    elif not sys.stderr.isatty():
        yield None, None if as_json else _Log(Path())
    else:
        with _live() as bars:
            shown = _Bars(bars, Path())
            yield shown.progress, None if as_json else shown


@contextlib.contextmanager
def show_events(out: Path, as_json: bool) -> Iterator[OnEvent]:
    """Yield what shows events: a line of JSON each, a bar on a terminal, a line a minute elsewhere."""
    if as_json or not sys.stderr.isatty():
        yield _Lines(out) if as_json else _Log(out)
        return
    with _live() as bars:
        yield _Bars(bars, out)


def _live() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[amount]}"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)


class _Lines:
    """Events for programs: one JSON object a line."""

    def __init__(self, out: Path) -> None:
        self.out, self.last = out, -math.inf

    def __call__(self, kind: str, told: dict[str, Any]) -> None:
        if kind in ("progress", "features"):
            if time.monotonic() - self.last < EVERY_S:
                return
            self.last = time.monotonic()
        if kind == "done":
            kind, told = "result", _result(told["done"], self.out)
        typer.echo(json.dumps({"event": kind, **_plain(told)}, allow_nan=False))


def _plain(value: Any) -> Any:
    """Return what JSON can hold: no NaN, which it does not know, and no paths."""
    if isinstance(value, dict):
        return {name: _plain(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | None) else str(value)


class _Log:
    """Events as lines of text, few enough for a log."""

    def __init__(self, out: Path) -> None:
        self.out, self.last = out, time.monotonic()

    def __call__(self, kind: str, told: dict[str, Any]) -> None:
        if kind == "progress" and time.monotonic() - self.last >= LINE_EVERY_S:
            self.last = time.monotonic()
            say(_progress(told), err=True)
        for line in _lines(kind, told, self.out):
            say(line)


def _lines(kind: str, told: dict[str, Any], out: Path) -> Iterator[str]:
    """Yield what people want to keep of an event."""
    if kind == "model":
        yield from _chosen(told)
    elif kind == "done":
        yield from _done(told["done"], out)
    elif kind == "note":
        yield told["text"]
    elif kind == "epoch":
        yield _epoch(told)


def _epoch(told: dict[str, Any]) -> str:
    """Return an epoch of training in words."""
    judged = (f", {name.removeprefix('val_')} {v:.3f}" for name, v in told.items() if name.startswith("val_"))
    return f"epoch {told['epoch']}: loss {told['loss']:.4f}{''.join(judged)}"


def _progress(told: dict[str, Any]) -> str:
    of = "" if told["of"] is None else f" of {told['of']:,}"
    text = f"{told['model']}: {told['images']:,}{of} images, {told['images_per_second']:,.0f}/s"
    left = told["seconds_left"]
    return text if left is None else f"{text}, {datetime.timedelta(seconds=round(left))} left"


class _Bars:
    """Progress as a bar for each thing that is being done, and events as one for each model at work."""

    def __init__(self, bars: Any, out: Path) -> None:
        self.bars, self.out = bars, out
        self.tasks: dict[str, Any] = {}

    def __call__(self, kind: str, told: dict[str, Any]) -> None:
        model = told["model"]
        if kind == "engines":
            self.tasks[model] = self.bars.add_task(f"{model}: trying engines", total=None, amount="")
        elif kind == "model":
            self.bars.reset(self.tasks[model], description=model, total=told["left"])
        elif kind == "progress":
            self._bar(model, told, f"{told['images_per_second']:,.0f}/s")
        elif kind == "features":
            self._bar(f"{model}: features", told, "")
        elif kind == "done" and model in self.tasks:
            self.bars.update(self.tasks[model], visible=False)
        for line in _lines(kind, told, self.out):
            if sys.stdout.isatty():  # above the bars
                self.bars.console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
            else:
                say(line)

    def progress(self, what: str, done: int, of: int) -> None:
        """Show how much of something is done."""
        self._move(what, done, of, f"{done / of:4.0%}" if of else "")

    def _bar(self, name: str, told: dict[str, Any], rate: str) -> None:
        done, of = told["images"], told["of"]
        amount = f"{done}/{'?' if of is None else of}"
        self._move(name, done, of, f"{amount} {rate}" if rate else amount)

    def _move(self, name: str, done: int, of: int | None, amount: str) -> None:
        """Move a bar, which is made where there is none; a full one makes room for the next."""
        if name not in self.tasks:
            self.tasks[name] = self.bars.add_task(name, total=of, amount="")
        self.bars.update(self.tasks[name], completed=done, total=of, amount=amount, visible=done != of)


def _chosen(told: dict[str, Any]) -> Iterator[str]:
    """Yield in words which engine was taken, what the others did, and what is there already."""
    tried = f" ({'; '.join(_tried(t) for t in told['trials'])})" if len(told["trials"]) > 1 else ""
    yield f"{told['model']}: {told['engine']} {told['precision']} on {told['device']}{tried}"
    left, images = told["left"], told["images"]
    if left is not None and images is not None and left < images:
        yield f"  {images - left:,} of {images:,} images are there already"


def _tried(trial: dict[str, Any]) -> str:
    rate = f" {trial['rate']:,.0f}/s" if math.isfinite(trial["rate"]) else ""
    return f"{trial['engine']}{rate}" + (f": {trial['why_not']}" if trial["why_not"] else "")


def _result(one: PredictResult, out: Path) -> dict[str, Any]:
    merged = one.merged
    return {
        "model": one.model,
        "images": one.n,
        "images_per_second": round(one.rate, 1),
        "seconds": {"wall": one.wall, **dataclasses.asdict(one.seconds)},
        "predicted": merged and merged.n,
        "skipped": merged and merged.n_skipped,
        "missing_parts": one.missing,
        "written": [*merged.files, *_beside(out)] if merged else [],
    }


def _beside(out: Path) -> list[Path]:
    return [out / "images.parquet", out / "skipped.csv"]


def _done(one: PredictResult, out: Path) -> Iterator[str]:
    """Yield in words what came of a model."""
    if one.merged is None and not one.missing:
        yield f"{one.model}: predicted already, in {out}"
        return
    if one.n:
        yield f"{one.model}: {one.n:,} images in {one.wall:.1f} s, {one.rate:,.0f}/s{_difference(one.trials)}"
    else:
        yield f"{one.model}: nothing was left to do here"
    if one.merged:
        yield f"  predicted {one.merged.n:,}, skipped {one.merged.n_skipped:,}"
    if one.n:
        s = one.seconds
        spent = f"read {s.read:.1f}, decode {s.decode:.1f}, model {s.model:.1f}, write {s.write:.1f}"
        yield f"  seconds of all threads: {spent}"
    if one.missing:
        yield f"  {one.missing:,} parts are not there yet; the shard that finishes last merges all"


def print_files(done: Sequence[PredictResult], out: Path) -> None:
    """Print where the files of all models are."""
    written = [path for one in done if one.merged for path in one.merged.files]
    if written:
        print_written([*written, *_beside(out)], False)


def _difference(trials: Sequence[Trial]) -> str:
    """Return how far from PyTorch in f32 the engine that was taken is."""
    taken = [t for t in trials if not t.why_not and t.difference is not None and t.engine != "torch"]
    if not taken:
        return ""
    text = f"; at most {max(t.difference or 0.0 for t in taken):.2g} from PyTorch's logits"
    changed = max(t.disagreement or 0.0 for t in taken)
    return text + (f", another best class on {changed:.1%} of the images compared" if changed else "")
