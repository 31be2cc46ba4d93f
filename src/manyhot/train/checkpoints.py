"""The files of a training run: checkpoints to resume from, its identity, and its logs.

A checkpoint holds weights, optimiser and step, and is written completely or not at all. The logs are points
for TensorBoard, a CSV file with a row per epoch, and progress events.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import pickle
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from manyhot.errors import InputError, MatchError
from manyhot.files import atomic_write, write_refused, write_text
from manyhot.run import OnEvent

CHECKPOINTS = "checkpoints"
"""The folder of checkpoints in the folder of a run."""

RUN = "run.json"
"""The file that identifies a run."""

MODEL = "model.safetensors"
"""The trained network in the folder of a run."""

EVERY_STEPS = 20
"""Steps between two points of a curve."""

_EVERY_S = 0.5  # Seconds between two reports of progress.

_DAMAGED = (RuntimeError, EOFError, OSError, pickle.UnpicklingError, ValueError, KeyError)


@dataclass(frozen=True)
class Checkpoints:
    """The last two checkpoints in the folder of a run."""

    out: Path

    @property
    def last(self) -> Path:
        """The path of the last checkpoint."""
        return self.out / CHECKPOINTS / "last.pt"

    @property
    def before(self) -> Path:
        """The path of the one before."""
        return self.out / CHECKPOINTS / "before.pt"

    @property
    def best(self) -> Path:
        """The path of the weights of the best epoch."""
        return self.out / CHECKPOINTS / "best.pt"

    def write(self, state: Mapping[str, Any]) -> None:
        """Write a checkpoint, and keep the previous one.

        Raises
        ------
        OutputError
            If the disk is full, or the folder cannot be written to.
        """
        save_state(state, self.last, self.before)

    def read(self) -> tuple[dict[str, Any] | None, str]:
        """Return the newest readable checkpoint, and a note if the last one is damaged.

        A run that resumes from the previous checkpoint ends with the same weights, but takes longer.

        Raises
        ------
        InputError
            If none of the checkpoints can be read.
        """
        why = ""
        for path in (self.last, self.before):
            if path.is_file():
                try:
                    return torch.load(path, map_location="cpu", weights_only=True), why
                except _DAMAGED as error:
                    told = str(error).partition("\n")[0] or type(error).__name__
                    why = (
                        why
                        or f"{path} cannot be read ({told}), so the run resumes from the previous checkpoint"
                    )
        if why:
            raise InputError(
                "No checkpoint of the run can be read.",
                where=self.out / CHECKPOINTS,
                got="damaged files",
                do="delete the folder to start again, or choose another `out`",
            )
        return None, ""


def save_state(state: Mapping[str, Any], path: Path, before: Path | None = None) -> None:
    """Write a state atomically, and keep the previous file as `before`."""
    with atomic_write(path) as part:
        try:
            torch.save(dict(state), part)
        except RuntimeError as error:  # PyTorch's writer, on a full disk
            raise OSError(
                28 if "No space" in str(error) or "write" in str(error) else None, str(error)
            ) from error
        if before is not None and path.is_file():
            path.replace(before)


def check_identity(out: Path, identity: Mapping[str, Any]) -> None:
    """Raise an error if the folder belongs to another run.

    Raises
    ------
    MatchError
        If the folder belongs to another run.
    """
    path = out / RUN
    if not path.is_file():
        return
    try:
        found = flat(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, AttributeError, OSError):
        found = {}
    found = {"held_out": "", "plug_ins": "", **found}  # which earlier versions did not record
    for name, value in flat(identity).items():
        if found.get(name) != value:
            raise MatchError(
                f"The folder contains another run, which differs in {name}.",
                where=path,
                got=found.get(name, "nothing known"),
                allowed=value,
                do=_another_folder(out, name),
            )


def _another_folder(out: Path, name: str) -> str:
    network = out / MODEL
    if not network.is_file() or not name.startswith("setting "):
        return "choose another `out`, or delete the folder"
    return f"choose another `out`, or delete the folder; to train this network further, set weights={network}"


def write_identity(out: Path, identity: Mapping[str, Any]) -> None:
    """Write the identity of a run before its first checkpoint. Until then, settings can be changed."""
    if not (out / RUN).is_file():
        write_text(out / RUN, json.dumps(identity, indent=1, ensure_ascii=False) + "\n")


def flat(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return the identity of a run, with a separate entry for each setting of its recipe."""
    settings: dict[str, Any] = json.loads(json.dumps(identity))
    recipe = settings.pop("recipe", {})
    return {**{f"setting {name}": value for name, value in recipe.items()}, **settings}


class Logs:
    """The logs of a run, which only the first process writes.

    Parameters
    ----------
    out : Path, optional
        The folder of the run, or None for no logs.
    images : int
        Number of images in all epochs.
    step : int
        The step from which the run resumes. TensorBoard's points of later steps are discarded.
    done : int
        Number of images seen before.
    on_event : callable, optional
    """

    def __init__(
        self,
        out: Path | None,
        model: str,
        images: int,
        *,
        step: int = 0,
        done: int = 0,
        on_event: OnEvent | None = None,
    ) -> None:
        self.out, self.model, self.images, self.before = out, model, images, done
        self.on_event = None if out is None else on_event
        self.began, self.last_progress = time.perf_counter(), 0.0
        self.curves = None if out is None else _Curves(out / "tensorboard", step)

    def __enter__(self) -> Logs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.curves is not None:
            self.curves.close()

    @property
    def seconds(self) -> float:
        """Seconds since the run started or resumed."""
        return time.perf_counter() - self.began

    def note(self, text: str) -> None:
        """Report a note."""
        if self.on_event is not None:
            self.on_event("note", {"model": self.model, "text": text})

    def progress(self, done: int) -> None:
        """Report the number of images seen so far, at intervals."""
        if self.on_event is None or self.seconds - self.last_progress < _EVERY_S:
            return
        self.last_progress = self.seconds
        rate = (done - self.before) / self.seconds
        left = (self.images - done) / rate if rate else None
        told = {"images": done, "of": self.images, "images_per_second": rate, "seconds_left": left}
        self.on_event("progress", {"model": self.model, **told})

    def points(self, step: int, values: Mapping[str, float]) -> None:
        """Add points to curves."""
        if self.curves is not None:
            self.curves.add(step, values)

    def epochs(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the rows of all epochs so far, and report the last one."""
        if self.out is None:
            return
        text = io.StringIO()
        table = csv.DictWriter(text, list(rows[-1]), lineterminator="\n", restval="")
        table.writeheader()
        table.writerows(rows)
        write_text(self.out / "log.csv", text.getvalue())
        if self.on_event is not None:
            self.on_event("epoch", {"model": self.model, **rows[-1]})


class _Curves:
    """A file of points for TensorBoard, each written at once.

    TensorBoard's own writer has a thread, so a full disk would be an exception that nobody catches.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        for left in folder.glob("events.out.tfevents.*") if step == 0 else ():
            left.unlink()  # of a run that was killed before its first checkpoint
        seconds, rest = divmod(time.time_ns(), 10**9)
        self.path = folder / f"events.out.tfevents.{seconds:010}.{rest:09}"
        with _written(self.path):
            folder.mkdir(parents=True, exist_ok=True)
            # Unbuffered: what a buffer holds when the disk is full would be written again when it is closed.
            self.records = RecordWriter(self.path.open("xb", buffering=0))
        self._write(Event(file_version="brain.Event:2"))
        # TensorBoard discards points of this step and later ones in earlier files.
        self._write(Event(step=step, session_log=SessionLog(status=SessionLog.START)))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each curve."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        points = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(Event(step=step, summary=Summary(value=points)))

    def close(self) -> None:
        """Close the file."""
        self.records.close()

    def _write(self, event: Any) -> None:
        event.wall_time = time.time()
        with _written(self.path):
            self.records.write(event.SerializeToString())


@contextlib.contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise write_refused(path, error) from error


def write_skipped_images(out: Path, ids: Sequence[str], skipped: Mapping[int, str], rank: int = 0) -> None:
    """Write a list per process of the images that could not be decoded, in the order of their rows."""
    if not skipped:
        return
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image_id", "reason"])
    table.writerows([ids[row], why] for row, why in sorted(skipped.items()))
    write_text(out / (f"skipped-{rank}.csv" if rank else "skipped.csv"), text.getvalue())
