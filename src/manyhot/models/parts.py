"""Scored parts on the disk, where a run that was killed finds them again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from manyhot.errors import InputError, MatchError, OutputError
from manyhot.files import atomic_write
from manyhot.models.scored import Scored
from manyhot.models.sources import Labels, Part, Source
from manyhot.tables import metadata, predictions_file_name

FOLDER = ".parts"
"""Beside the predictions, until these are complete."""

_IDENTITY, _DIFFERENCE = b"manyhot.part", b"manyhot.difference_from_torch"


@dataclass(frozen=True)
class Identity:
    """What must be the same for parts of two runs to fit together.

    Attributes
    ----------
    source : str
        Its fingerprint.
    model, weights, engine, precision : str
    top : int, optional
    embeddings : bool
    classes : str
        Hash of the class list.
    preprocessing : Mapping
    """

    source: str
    model: str
    weights: str
    engine: str
    precision: str
    top: int | None
    embeddings: bool
    classes: str
    preprocessing: Mapping[str, Any]

    def check(self, found: Mapping[str, Any], path: Path) -> None:
        """Refuse what another run left in a file.

        Raises
        ------
        MatchError
            Something differs.
        """
        own = json.loads(json.dumps(self.__dict__))
        if self.engine == "auto":  # whichever it was
            del own["engine"]
        what = next((name for name, value in own.items() if found.get(name) != value), "")
        if what:
            raise MatchError(
                f"The folder holds predictions of another run: its {what} differs.",
                where=path,
                got=found.get(what, "nothing known"),
                allowed=own[what],
                do="choose another --out, or delete these",
            )


class Parts:
    """The parts of one model in an output folder."""

    def __init__(self, out: Path, model: str) -> None:
        self.out, self.model = out, model
        self.folder = out / FOLDER / predictions_file_name(model).removesuffix(".parquet")
        self.final = out / predictions_file_name(model)
        self.features = out / "embeddings" / self.final.with_suffix(".npy").name

    def path(self, name: str) -> Path:
        """Return the file of a part."""
        return self.folder / f"{name}.parquet"

    def first(self) -> tuple[Path, Mapping[str, Any]] | None:
        """Return a part that is there already, whoever made it, and the identity of its run."""
        for path in sorted(self.folder.glob("*.parquet")):
            if found := _identity(path):
                return path, found
        return None

    def missing(self, source: Source, identity: Identity) -> tuple[Part, ...]:
        """Return the parts of a source that are not there yet, or are damaged.

        Raises
        ------
        MatchError
            Parts are there that another run made.
        """
        missing = []
        for part in source.parts:
            path = self.path(part.name)
            if found := _identity(path):
                identity.check(found, path)
            else:
                missing.append(part)
        return tuple(missing)

    def is_complete(self, identity: Identity) -> bool:
        """Return whether the predictions are there, made by the same run.

        Raises
        ------
        MatchError
            Predictions are there that another run made.
        """
        if not self.final.exists():
            return False
        try:
            about = metadata(pq.read_schema(self.final))
        except (pa.ArrowInvalid, OSError):
            about = {}
        identity.check(json.loads(about.get("run", "{}")), self.final)
        return True

    def write(self, scored: Scored, labels: Labels, identity: Identity, difference: float | None) -> None:
        """Write a part, all or nothing; `difference` is the engine's from PyTorch.

        Raises
        ------
        InputError
            A label is no class.
        OutputError
            The disk is full, or the folder cannot be written to.
        """
        table = _table(scored, labels)
        about = {_IDENTITY: json.dumps(identity.__dict__).encode()}
        if difference is not None:
            about[_DIFFERENCE] = f"{difference:.3g}".encode()
        try:
            with atomic_write(self.path(scored.part.name)) as part:
                pq.write_table(table.replace_schema_metadata(about), part, compression="zstd")
        except OutputError:
            # Another process of the run may have put all parts together meanwhile, and removed them.
            if not self.final.exists():
                raise


def read_part(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the rows of a part.

    Raises
    ------
    InputError
        It is damaged.
    """
    try:
        return pq.read_table(path, columns=columns).replace_schema_metadata()
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            "A part of an earlier run cannot be read.",
            where=path,
            got=str(error).partition("\n")[0],
            do="delete it, and run the same command again",
        ) from error


def largest_difference(paths: Sequence[Path]) -> str:
    """Return the largest difference from PyTorch that a shard measured; empty where none did."""
    found = [(pq.read_schema(path).metadata or {}).get(_DIFFERENCE, b"").decode() for path in paths]
    return max(filter(None, found), key=float, default="")


def _identity(path: Path) -> dict[str, Any]:
    """Return what a part tells of its run; nothing where it is not there, or is cut off or empty.

    A kill leaves no such file, a disk that loses power and a copy that was broken off do.
    """
    try:
        found: dict[str, Any] = json.loads((pq.read_schema(path).metadata or {}).get(_IDENTITY, b"{}"))
        return found
    except (pa.ArrowInvalid, OSError):
        return {}


def _table(scored: Scored, labels: Labels) -> pa.Table:
    row = np.cumsum([not reason for reason in scored.reasons]) - 1
    at = pa.array(
        [int(r) if not why else None for r, why in zip(row, scored.reasons, strict=True)], pa.int64()
    )
    columns: dict[str, Any] = {
        "image_id": pa.array([item.image_id for item in scored.items], pa.string()),
        "uri": pa.array([item.uri for item in scored.items], pa.string()),
        "label": pa.array(labels.all(item.label for item in scored.items), pa.int32()),
        "width": pa.array([size and size[0] for size in scored.sizes], pa.int32()),
        "height": pa.array([size and size[1] for size in scored.sizes], pa.int32()),
        "reason": pa.array(list(scored.reasons), pa.string()),
    }
    if scored.classes is not None:
        columns["classes"] = _lists(scored.classes).take(at)
    columns["scores"] = _lists(scored.scores).take(at)
    if scored.logsumexp is not None:
        columns["logsumexp"] = pa.array(scored.logsumexp, pa.float32()).take(at)
    if scored.features is not None:
        columns["features"] = _lists(scored.features).take(at)
    return pa.table(columns)


def _lists(rows: Any) -> pa.ListArray:
    n, k = rows.shape
    offsets = np.arange(0, n * k + 1, k, dtype=np.int32) if k else np.zeros(n + 1, np.int32)
    return pa.ListArray.from_arrays(offsets, pa.array(rows.ravel()))
