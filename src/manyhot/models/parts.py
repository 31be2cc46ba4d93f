"""Scored parts on the disk: what a killed run left is found again, and what is complete becomes one table."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from manyhot.errors import InputError, MatchError
from manyhot.files import atomic_write, write_text
from manyhot.models.scored import Scored
from manyhot.models.sources import Labels, Source
from manyhot.tables import metadata, predictions_file_name, read, write, write_stream

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

    def differs(self, other: Mapping[str, Any]) -> str:
        """Return the first thing in which a part of another run differs; empty for none."""
        own = json.loads(json.dumps(self.__dict__))
        if self.engine == "auto":  # whichever it was
            del own["engine"]
        return next((name for name, value in own.items() if other.get(name) != value), "")


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

    def engine(self) -> str:
        """Return the engine that parts which are there were made with; empty where there are none."""
        for path in sorted(self.folder.glob("*.parquet")):
            return str(_identity(path).get("engine", ""))
        return ""

    def missing(self, source: Source, identity: Identity) -> list[Any]:
        """Return the parts of a source that are not there yet.

        Raises
        ------
        MatchError
            Parts are there that another run made.
        """
        missing = []
        for part in source.parts:
            path = self.path(part.name)
            if not path.exists():
                missing.append(part)
                continue
            what = identity.differs(found := _identity(path))
            if what:
                raise _other_run(path, what, found, identity)
        return missing

    def is_complete(self, identity: Identity) -> bool:
        """Return whether the predictions are there, made by the same run.

        Raises
        ------
        MatchError
            Predictions are there that another run made.
        """
        if not self.final.exists():
            return False
        found = json.loads(metadata(pq.read_schema(self.final)).get("run", "{}"))
        what = identity.differs(found) if found else "source"
        if what:
            raise _other_run(self.final, what, found, identity)
        return True

    def write(self, scored: Scored, labels: Labels, identity: Identity, difference: float | None) -> Path:
        """Write a part, all or nothing; `difference` is the engine's from PyTorch."""
        table = _table(scored, labels)
        about = {_IDENTITY: json.dumps(identity.__dict__).encode()}
        if difference is not None:
            about[_DIFFERENCE] = f"{difference:.3g}".encode()
        path = self.path(scored.part.name)
        with atomic_write(path) as part:
            pq.write_table(table.replace_schema_metadata(about), part, compression="zstd")
        return path

    def merge(self, source: Source, identity: Identity, about: Mapping[str, str], call: str) -> Merged:
        """Put all parts together: predictions last, so that whoever finds them finds the rest.

        Raises
        ------
        InputError
            Two images have one id, or none could be decoded.
        """
        paths = [self.path(part.name) for part in source.parts]
        images, skipped = self._images(paths, source)
        if identity.embeddings:
            self._write_features(paths, len(images))
        _update_images(self.out / "images.parquet", images, identity, call)
        _update_skipped(self.out / "skipped.csv", skipped, self.model)
        run = {"run": json.dumps(identity.__dict__, sort_keys=True)}
        run["difference_from_torch"] = _largest_difference(paths)
        written = write_stream(
            (_predicted(path) for path in paths), self.final, "predictions", call=call, about={**about, **run}
        )
        shutil.rmtree(self.folder, ignore_errors=True)
        _remove_if_empty(self.out / FOLDER)
        files = [written, *([self.features] if identity.embeddings else [])]
        return Merged(tuple(files), len(images), len(skipped))

    def _images(self, paths: Sequence[Path], source: Source) -> tuple[pa.Table, pa.Table]:
        columns = ["image_id", "uri", "label", "width", "height", "reason"]
        every = pa.concat_tables([pq.read_table(p, columns=columns) for p in paths]).replace_schema_metadata()
        good = pc.equal(every["reason"], "")
        images, skipped = every.filter(good).drop(["reason"]), every.filter(pc.invert(good))
        _check_once(every["image_id"], source.uri)
        if not len(images):
            first = skipped.slice(0, 1).to_pylist()
            raise InputError(
                "None of the images could be decoded.",
                where=source.uri,
                got=f"{first[0]['uri']}: {first[0]['reason']}"
                + (f"; and {len(skipped) - 1:,} more" if len(skipped) > 1 else "")
                if first
                else "no images",
            )
        return images, skipped

    def _write_features(self, paths: Sequence[Path], n: int) -> None:
        with atomic_write(self.features) as part:
            out = None
            at = 0
            for path in paths:
                column = pq.read_table(path, columns=["features"])["features"].combine_chunks().drop_null()
                if not len(column):
                    continue
                rows = column.flatten().to_numpy().reshape(len(column), -1)
                if out is None:
                    out = np.lib.format.open_memmap(part, "w+", np.float16, (n, rows.shape[1]))
                out[at : at + len(rows)] = rows
                at += len(rows)
            if out is not None:
                out.flush()


@dataclass(frozen=True)
class Merged:
    """What was written for a model, and how many images were predicted and skipped."""

    files: tuple[Path, ...]
    n: int
    n_skipped: int


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


def _predicted(path: Path) -> pa.Table:
    table = pq.read_table(path).replace_schema_metadata()
    table = table.filter(pc.equal(table["reason"], ""))
    wanted = [c for c in ("image_id", "classes", "scores", "logsumexp") if c in table.column_names]
    return table.select(wanted)


def _identity(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((pq.read_schema(path).metadata or {}).get(_IDENTITY, b"{}"))
        return found
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            "A part of an earlier run cannot be read.",
            where=path,
            got=str(error).partition("\n")[0],
            do="delete it",
        ) from error


def _largest_difference(paths: Sequence[Path]) -> str:
    """Return the largest difference from PyTorch that a shard measured; empty where none did."""
    found = [(pq.read_schema(path).metadata or {}).get(_DIFFERENCE, b"").decode() for path in paths]
    return max(filter(None, found), key=float, default="")


def _other_run(path: Path, what: str, found: Mapping[str, Any], identity: Identity) -> MatchError:
    return MatchError(
        f"The folder holds predictions of another run: its {what} differs.",
        where=path,
        got=found.get(what, "nothing known"),
        allowed=getattr(identity, what),
        do="choose another --out, or delete these",
    )


def _check_once(ids: pa.ChunkedArray, where: str) -> None:
    if len(pc.unique(ids)) == len(ids):
        return
    counts = pc.value_counts(ids)
    twice = [row["values"] for row in counts.to_pylist() if row["counts"] > 1]
    raise InputError(
        "Two images have the same base name.",
        where=where,
        got=f"{twice[0]}" + (f", and {len(twice) - 1:,} more" if len(twice) > 1 else ""),
        allowed="each base name once: it is the image's id in every table",
        do="rename one of them, and predict them anew",
    )


def _update_images(path: Path, images: pa.Table, identity: Identity, call: str) -> None:
    """Write the images table; images that another model of this source could decode stay."""
    if path.exists():
        known = read(path, "images")
        if metadata(known).get("source") == identity.source:
            images = images.select(
                [c for c in images.column_names if c in known.column_names or c == "label"]
            )
            extra = known.filter(pc.invert(pc.is_in(known["image_id"], images["image_id"].combine_chunks())))
            images = pa.concat_tables([images, extra.replace_schema_metadata()], promote_options="default")
    if images["label"].null_count == len(images):
        images = images.drop(["label"])
    write(images, path, "images", call=call, about={"source": identity.source, "classes": identity.classes})


def _update_skipped(path: Path, skipped: pa.Table, model: str) -> None:
    rows = [row for row in _read_skipped(path) if row["model"] != model]
    rows += [{**row, "model": model} for row in skipped.select(["image_id", "uri", "reason"]).to_pylist()]
    text = io.StringIO()
    writer = csv.DictWriter(text, ("image_id", "uri", "reason", "model"), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _read_skipped(path: Path) -> Iterator[dict[str, str]]:
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            yield from (row for row in csv.DictReader(file) if row.get("model"))


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
