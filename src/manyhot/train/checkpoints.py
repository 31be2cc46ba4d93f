"""What a killed run goes on from: its weights, its optimiser and its place, written all or nothing."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from manyhot.errors import InputError, MatchError
from manyhot.files import atomic_write, write_text

FOLDER = "checkpoints"
RUN = "run.json"
_DAMAGED = (RuntimeError, EOFError, OSError, pickle.UnpicklingError, ValueError, KeyError)


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints in the folder of a run: the last one and the one before.

    Attributes
    ----------
    out : Path
    """

    out: Path

    @property
    def last(self) -> Path:
        """Where the last one is written."""
        return self.out / FOLDER / "last.pt"

    @property
    def before(self) -> Path:
        """Where the one before lies."""
        return self.out / FOLDER / "before.pt"

    @property
    def best(self) -> Path:
        """Where the weights of the best epoch lie."""
        return self.out / FOLDER / "best.pt"

    def write(self, state: Mapping[str, Any]) -> None:
        """Write a checkpoint; what was the last becomes the one before.

        Raises
        ------
        OutputError
            The disk is full, or the folder cannot be written to.
        """
        save(state, self.last, self.before)

    def read(self) -> tuple[dict[str, Any] | None, str]:
        """Return the newest checkpoint that can be read, and a note where the last one could not be.

        A run that goes on from the one before ends with the same weights, later.

        Raises
        ------
        InputError
            There are some, and none can be read.
        """
        why = ""
        for path in (self.last, self.before):
            if path.is_file():
                try:
                    return torch.load(path, map_location="cpu", weights_only=True), why
                except _DAMAGED as error:
                    told = str(error).partition("\n")[0] or type(error).__name__
                    why = why or f"{path} cannot be read ({told}): going on from the one before"
        if why:
            raise InputError(
                "No checkpoint of the run can be read.",
                where=self.out / FOLDER,
                got="damaged files",
                do="delete the folder, and the run begins anew; or choose another --out",
            )
        return None, ""


def save(state: Mapping[str, Any], path: Path, before: Path | None = None) -> None:
    """Write a state all or nothing; the file that was there is kept as `before`."""
    with atomic_write(path) as part:
        try:
            torch.save(dict(state), part)
        except RuntimeError as error:  # PyTorch's writer, of a full disk
            raise OSError(
                28 if "No space" in str(error) or "write" in str(error) else None, str(error)
            ) from error
        if before is not None and path.is_file():
            path.replace(before)


def check_identity(out: Path, identity: Mapping[str, Any]) -> None:
    """Refuse to go on in the folder of another run.

    Raises
    ------
    MatchError
        The folder holds one.
    """
    path = out / RUN
    if not path.is_file():
        return
    try:
        found = flat(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, AttributeError, OSError):
        found = {}
    for name, value in flat(identity).items():
        if found.get(name) != value:
            raise MatchError(
                f"The folder holds another run: its {name} differs.",
                where=path,
                got=found.get(name, "nothing known"),
                allowed=value,
                do="choose another --out, or delete the folder",
            )


def write_identity(out: Path, identity: Mapping[str, Any]) -> None:
    """Write down which run a folder is of, before its first checkpoint: what fails earlier may change."""
    if not (out / RUN).is_file():
        write_text(out / RUN, json.dumps(identity, indent=1, ensure_ascii=False) + "\n")


def flat(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tells runs apart, the settings of the recipe one by one."""
    told: dict[str, Any] = json.loads(json.dumps(identity))
    recipe = told.pop("recipe", {})
    return {**{f"setting {name}": value for name, value in recipe.items()}, **told}
