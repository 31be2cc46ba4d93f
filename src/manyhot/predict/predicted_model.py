"""The outcome of a run of one model: counts, times and files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from manyhot.errors import counted, first_names
from manyhot.formats.prediction_folders import SKIPPED
from manyhot.predict.engines import EngineChoice, Trial
from manyhot.predict.parts import IMAGES, Merged
from manyhot.predict.scoring import Seconds


@dataclass(frozen=True)
class PredictedModel:
    """The outcome of a run of one model.

    Attributes
    ----------
    model : str
    out : Path
        The folder of the predictions.
    merged : Merged, optional
        The merged files, or None while parts of other shards are missing.
    trials : tuple of Trial
        Trials of the engines; empty if nothing was left to predict.
    seconds : Seconds
    wall : float
        Total time in seconds, including the choice of the engine and the merging of the parts.
    n : int
        Images of this run.
    missing : int
        Number of parts that other shards have not finished yet.
    rate : float
        Images per second, from the first to the last image of this run; 0 if there were none.
    choice : EngineChoice, optional
        The chosen engine, which can be reused for altered images; None if nothing was left to predict.
    notes : tuple of str
        Caveats about the model, such as assumed preprocessing.
    others : int
        Number of models that ran at the same time.
    n_unread : int
        Number of local files that this run could not read.
    unread : str
        The first of them, and the reason.
    missing_shards : tuple of int
        The shards of the missing parts, if the run has several.
    """

    model: str
    out: Path
    merged: Merged | None
    trials: tuple[Trial, ...] = ()
    seconds: Seconds = field(default_factory=Seconds)
    wall: float = 0.0
    n: int = 0
    missing: int = 0
    rate: float = 0.0
    choice: EngineChoice | None = None
    notes: tuple[str, ...] = ()
    others: int = 0
    n_unread: int = 0
    unread: str = ""
    missing_shards: tuple[int, ...] = ()

    @property
    def shared(self) -> tuple[Path, ...]:
        """The tables shared by all models in the folder."""
        return (self.out / IMAGES, self.out / SKIPPED)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that this run wrote."""
        return (*self.merged.files, *self.shared) if self.merged else ()

    def to_json(self) -> dict[str, Any]:
        """Return counts, times and files for programs."""
        return {
            "model": self.model,
            "images": self.n,
            "images_per_second": round(self.rate, 1),
            "seconds": {"wall": self.wall, **asdict(self.seconds)},
            "predicted": self.merged and self.merged.n,
            "skipped": self.merged and self.merged.n_skipped,
            "unread": self.merged.n_unread if self.merged else self.n_unread,
            "missing_parts": self.missing,
            "missing_shards": [*self.missing_shards],
            "written": [str(path) for path in self.files],
        }

    def lines(self) -> Iterator[str]:
        """Yield the lines that describe the run on a terminal."""
        if self.merged is None and not self.missing:
            yield f"{self.model}: already predicted, in {self.out}"
            return
        if self.n:
            speed = f"{self.n:,} images in {self.wall:.1f} s, {self.rate:,.0f}/s while predicting"
            if self.others:
                speed += f" beside {self.others} other model{'s'[: self.others - 1]}"
            yield f"{self.model}: {speed}{_difference(self.trials)}"
        else:
            yield f"{self.model}: nothing left to predict here"
        if self.merged:
            yield f"  predicted {self.merged.n:,}, skipped {self.merged.n_skipped:,}"
        if unread := self.merged.n_unread if self.merged else self.n_unread:
            first = self.unread and f", such as {self.unread}"
            yield f"  {counted(unread, 'image')} could not be read{first}"
            yield "  once the files are available, the same command tries them again"
        if self.n:
            s = self.seconds
            spent = f"read {s.read:.1f}, decode {s.decode:.1f}, model {s.model:.1f}, write {s.write:.1f}"
            yield f"  seconds of all threads: {spent}"
        if self.missing:
            parts = "1 part is" if self.missing == 1 else f"{self.missing:,} parts are"
            of = f", of {_shards(self.missing_shards)}" if self.missing_shards else ""
            yield f"  {parts} missing{of}; the last shard to finish merges all parts"


def _shards(shards: Sequence[int]) -> str:
    """Return the numbers of shards as SLURM's ``--array`` takes them: the first ranges of sorted numbers."""
    ranges: list[list[int]] = []
    for number in shards:
        if ranges and ranges[-1][-1] == number - 1:
            ranges[-1][1:] = [number]
        else:
            ranges.append([number])
    shown = first_names(["-".join(map(str, ends)) for ends in ranges], 20)
    return f"{'shard' if len(shards) == 1 else 'shards'} {shown}"


def _difference(trials: Sequence[Trial]) -> str:
    """Return the difference of the chosen engine from PyTorch in f32, as text."""
    chosen = [t for t in trials if not t.why_not and t.difference is not None and t.engine != "torch"]
    if not chosen:
        return ""
    most = max(t.difference or 0.0 for t in chosen)
    text = f"; on equal pixels, logits differ from PyTorch's by at most {most:.2g}"
    changed = max(t.disagreement or 0.0 for t in chosen)
    return text + (f", and the top class on {changed:.1%} of the images compared" if changed else "")
