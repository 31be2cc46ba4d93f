"""Progress and events of a call: bars and lines for people, JSON for programs."""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import sys
import time
from collections.abc import Iterator
from typing import Any

import typer

from manyhot.console import say
from manyhot.errors import printable
from manyhot.run import OnEvent
from manyhot.run import Progress as OnProgress

EVERY_S = 1.0
"""Seconds between two events of progress for programs."""

FOR_THE_LOG = ("step", "failures", "doubt")
"""Events whose lines go to stderr: the answer of a study is apart from its log."""

LINE_EVERY_S = 10.0
"""Seconds between two lines of progress away from a terminal, as in the log of a scheduler, at first.

From 100 s on, the time between two lines is a tenth of the time so far, up to `SLOWEST` times as long as at
first: ten hours give 600 lines.
"""

SLOWEST = 6


@contextlib.contextmanager
def show_run(as_json: bool, *, streams: bool = False) -> Iterator[tuple[OnProgress | None, OnEvent | None]]:
    """Yield the callbacks that show the progress and the events of a call.

    On a terminal, progress is shown as bars, and notable events as lines above them. Elsewhere, progress is
    printed to stderr as a line at intervals. With ``--json``, each event is printed as a line if the command
    streams its events.
    """
    if as_json and streams:
        yield None, _Lines()
    elif not sys.stderr.isatty():
        log = _Log()
        yield log.progress, None if as_json else log
    else:
        with _live() as bars:
            shown = _Bars(bars)
            yield shown.progress, None if as_json else shown


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

    def __init__(self) -> None:
        self.last = -math.inf

    def __call__(self, kind: str, values: dict[str, Any]) -> None:
        if kind in ("progress", "features"):
            if time.monotonic() - self.last < EVERY_S:
                return
            self.last = time.monotonic()
        if kind == "done":
            kind, values = "result", values["done"].to_json()
        elif kind == "answer":
            values = values["answer"].to_json()
        typer.echo(json.dumps({"event": kind, **_plain(values)}, allow_nan=False))


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
    """Progress and events as lines of text, few enough for a log."""

    def __init__(self) -> None:
        self.start = self.last = time.monotonic()
        self.starts: dict[str, tuple[float, int]] = {}

    def __call__(self, kind: str, values: dict[str, Any]) -> None:
        if kind == "progress" and self._is_due(time.monotonic()):
            say(_progress(values), err=True)
        for line in _lines(kind, values):
            say(line, err=kind in FOR_THE_LOG)

    def progress(self, what: str, done: int, of: int) -> None:
        """Print the progress of a step, and the time left at the average speed so far."""
        now = time.monotonic()
        start, first = self.starts.setdefault(what, (now, done))
        if done < of and self._is_due(now):
            share = f"{what}: {done:,} of {of:,}"
            left = (now - start) * (of - done) / (done - first) if done > first else None
            say(share if left is None else f"{share}, {_time(left)} left", err=True)

    def _is_due(self, now: float) -> bool:
        wait = LINE_EVERY_S * min(SLOWEST, max(1.0, (now - self.start) / 100))
        if now - self.last < wait:
            return False
        self.last = now
        return True


def _time(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))


def _lines(kind: str, values: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of an event that stay on the terminal."""
    if kind == "model":
        yield from _chosen(values)
    elif kind in ("done", "answer"):
        yield from values[kind].lines()
    elif kind in ("note", "failures", "doubt", "line"):
        yield values["text"]
    elif kind == "step":
        yield _step(values)
    elif kind == "epoch":
        yield _epoch(values)


def _epoch(values: dict[str, Any]) -> str:
    """Return an epoch of training in words, without metrics that are not defined for the labels."""
    judged = (
        f", {name.removeprefix('val_')} {v:.3f}"
        for name, v in values.items()
        if name.startswith("val_") and not math.isnan(v)
    )
    return f"epoch {values['epoch']}: loss {values['loss']:.4f}{''.join(judged)}"


def _step(values: dict[str, Any]) -> str:
    """Return a step of a study: what was done, failed or is done again, and the time left."""
    where = f"[{values['done']}/{values['of']}] {values['what']}" if values["of"] else values["what"]
    step = f"{where}: {values['step']}"
    if values["kind"] == "failed":
        return f"{step} failed: {values['reason']}"
    if values["kind"] == "again":
        return f"{step} is done again, because these changed: {values['reason']}"
    left = values["left"]
    more = "" if left is None else f", {_time(left)} left"
    return f"{step} in {values['seconds']:.1f} s{more}"


def _progress(values: dict[str, Any]) -> str:
    of = "" if values["of"] is None else f" of {values['of']:,}"
    others = len(values.get("models", ())) - 1
    more = "" if others < 1 else f" and {others} other model{'s'[: others - 1]}"
    text = f"{values['model']}{more}: {values['images']:,}{of} images, {values['images_per_second']:,.0f}/s"
    left = values["seconds_left"]
    return text if left is None else f"{text}, {_time(left)} left"


class _Bars:
    """Progress as a bar for each thing that is being done, and events as one for each model at work."""

    def __init__(self, bars: Any) -> None:
        self.bars = bars
        self.tasks: dict[str, Any] = {}

    def __call__(self, kind: str, values: dict[str, Any]) -> None:
        model = values.get("model", "")
        if kind == "engines":
            self.tasks[model] = self.bars.add_task(f"{model}: trying engines", total=None, amount="")
        elif kind == "model":
            self.bars.reset(self.tasks[model], description=model, total=values["left"])
        elif kind == "progress":
            for name in values.get("models", (model,)):
                self._bar(name, values, f"{values['images_per_second']:,.0f}/s")
        elif kind == "features":
            self._bar(f"{model}: features", values, "")
        elif kind == "done" and model in self.tasks:
            self.bars.update(self.tasks[model], visible=False)
        for line in _lines(kind, values):
            if sys.stdout.isatty() or kind in FOR_THE_LOG:  # above the bars
                self.bars.console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
            else:
                say(line)

    def progress(self, what: str, done: int, of: int) -> None:
        """Show how much of something is done."""
        self._move(what, done, of, f"{done / of:4.0%}" if of else "")

    def _bar(self, name: str, values: dict[str, Any], rate: str) -> None:
        done, of = values["images"], values["of"]
        amount = f"{done}/{'?' if of is None else of}"
        self._move(name, done, of, f"{amount} {rate}" if rate else amount)

    def _move(self, name: str, done: int, of: int | None, amount: str) -> None:
        """Move a bar, which is made where there is none; a full one makes room for the next."""
        if name not in self.tasks:
            self.tasks[name] = self.bars.add_task(name, total=of, amount="")
        self.bars.update(self.tasks[name], completed=done, total=of, amount=amount, visible=done != of)


def _chosen(values: dict[str, Any]) -> Iterator[str]:
    """Yield which engine was chosen, how the others did, and how much an earlier run predicted."""
    tried = f" ({'; '.join(_tried(t) for t in values['trials'])})" if len(values["trials"]) > 1 else ""
    yield f"{values['model']}: {values['engine']} {values['precision']} on {values['device']}{tried}"
    left, images = values["left"], values["images"]
    if left is not None and images is not None and left < images:
        yield f"  {images - left:,} of {images:,} images are already predicted"


def _tried(trial: dict[str, Any]) -> str:
    rate = f" {trial['rate']:,.0f}/s" if math.isfinite(trial["rate"]) else ""
    return f"{trial['engine']}{rate}" + (f": {trial['why_not']}" if trial["why_not"] else "")
