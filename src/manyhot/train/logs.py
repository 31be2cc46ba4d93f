"""What is told of a run: a line a step for TensorBoard, a row an epoch in a CSV file, progress for people."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from manyhot.files import write_text

Notify = Callable[[str, dict[str, Any]], None]

EVERY_STEPS = 20
"""Steps between two points of a curve."""

_EVERY_S = 0.5


class Logs:
    """Where a run tells of itself; processes other than the first tell nothing.

    Parameters
    ----------
    out : Path, optional
        The folder of the run; None for silence.
    model : str
    images : int
        Of all epochs.
    step : int
        Where the run goes on: what TensorBoard has of later steps is forgotten.
    done : int
        Images that were seen before.
    notify : callable, optional
    """

    def __init__(
        self,
        out: Path | None,
        model: str,
        images: int,
        *,
        step: int = 0,
        done: int = 0,
        notify: Notify | None = None,
    ) -> None:
        self.out, self.model, self.images, self.before = out, model, images, done
        self.notify = None if out is None else notify
        self.began, self.told = time.perf_counter(), 0.0
        self.board: Any = None if out is None else _board(out, step)

    def __enter__(self) -> Logs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.board is not None:
            self.board.close()

    @property
    def seconds(self) -> float:
        """Since the run began or went on."""
        return time.perf_counter() - self.began

    def note(self, text: str) -> None:
        """Tell something that a reader should know."""
        if self.notify is not None:
            self.notify("note", {"model": self.model, "text": text})

    def progress(self, done: int) -> None:
        """Tell how many images were seen, now and then."""
        if self.notify is None or self.seconds - self.told < _EVERY_S:
            return
        self.told = self.seconds
        rate = (done - self.before) / self.seconds
        left = (self.images - done) / rate if rate else None
        told = {"images": done, "of": self.images, "images_per_second": rate, "seconds_left": left}
        self.notify("progress", {"model": self.model, **told})

    def points(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to curves."""
        for name, value in values.items() if self.board else ():
            self.board.add_scalar(name, value, step)

    def epochs(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the rows of all epochs so far, and tell of the last."""
        if self.out is None:
            return
        text = io.StringIO()
        table = csv.DictWriter(text, list(rows[-1]), lineterminator="\n", restval="")
        table.writeheader()
        table.writerows(rows)
        write_text(self.out / "log.csv", text.getvalue())
        if self.notify is not None:
            self.notify("epoch", {"model": self.model, **rows[-1]})


def _board(out: Path, step: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(out / "tensorboard"), purge_step=step)


def write_skipped(out: Path, ids: Sequence[str], skipped: Mapping[int, str], rank: int = 0) -> None:
    """List the images that could not be decoded, by row, each process in a file of its own."""
    if not skipped:
        return
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image_id", "reason"])
    table.writerows([ids[row], why] for row, why in sorted(skipped.items()))
    write_text(out / (f"skipped-{rank}.csv" if rank else "skipped.csv"), text.getvalue())
