"""The files of a run: scored parts, from which a killed run resumes, and the tables merged from them.

Each model has its parts and its predictions; the models of a folder share `images.parquet` and `skipped.csv`.
"""

from __future__ import annotations

import contextlib
import csv
import glob
import io
import itertools
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc
from pyarrow import parquet as pq

from manyhot.errors import InputError, MatchError, OutputError
from manyhot.files import atomic_write, write_refused, write_text
from manyhot.formats.prediction_folders import PARTS_FOLDER, SKIPPED
from manyhot.predict.scoring import Scored, is_unread
from manyhot.predict.sources import ImageSource, LabelLookup, NoneLeftError, SourcePart
from manyhot.predict.sources.label_ids import with_splits
from manyhot.predict.sources.tar import TarStream
from manyhot.tables import metadata, predictions_file_name, read, schema, write, write_stream
from manyhot.tables.image_ids import first_unique

_IDENTITY, _DIFFERENCE = b"manyhot.part", b"manyhot.difference_from_torch"

ALL_BITS = "those of the file format"


@dataclass(frozen=True)
class Identity:
    """The settings that two runs must share for their parts to be merged.

    Attributes
    ----------
    source : str
        Its fingerprint.
    classes : str
        Hash of the class list.
    code : str
        Names and hashes of the files of a user's own model.
    bits : str
        Number of bits that images of more than 8 bits use.
    scores : str
        The kind of the scores.
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
    code: str = ""
    bits: str = ALL_BITS
    scores: str = "logit"

    def check(self, recorded: Mapping[str, Any], path: Path) -> None:
        """Raise an error if the file is from another run.

        Raises
        ------
        MatchError
            If the file belongs to another run.
        """
        own = json.loads(json.dumps(self.__dict__))
        if self.engine == "auto":  # whichever it was
            del own["engine"]
        earlier = {"code": "", "bits": ALL_BITS, "scores": self.scores}  # not recorded by earlier versions
        recorded = {**earlier, **recorded}
        # The fingerprint of the source depends on the bits, too.
        what = next((name for name in ("bits", *own) if recorded.get(name) != own.get(name)), "")
        if what == "embeddings":
            raise MatchError(
                "The predictions in the folder "
                f"{'have no embeddings' if self.embeddings else 'were stored with embeddings'}.",
                where=path,
                do="choose another `out` to run predict on all images again, or run the command "
                f"{'without' if self.embeddings else 'with'} `embeddings`",
            )
        if what:
            raise MatchError(
                f"The folder contains predictions from another run, which differs in {what}.",
                where=path,
                got=recorded.get(what, "not recorded"),
                allowed=own[what],
                do="choose another `out`, or delete these files"
                + (
                    "; if two models of this call have this name, name one: MODEL(name='mine')"
                    * (what == "weights")
                ),
            )


class PartFiles:
    """The parts of one model in an output folder."""

    def __init__(self, out: Path, model: str) -> None:
        self.out, self.model = out, model
        self.folder = out / PARTS_FOLDER / predictions_file_name(model).removesuffix(".parquet")
        self.final = out / predictions_file_name(model)
        self.features = out / "embeddings" / self.final.with_suffix(".npy").name

    def path(self, name: str) -> Path:
        """Return the file of a part."""
        return self.folder / f"{name}.parquet"

    def first(self) -> tuple[Path, Mapping[str, Any]] | None:
        """Return the first existing part of any run, and the identity of that run."""
        for path in sorted(self.folder.glob("*.parquet")):
            if found := _identity(path):
                return path, found
        return None

    def missing(
        self, source: ImageSource, identity: Identity, again: Collection[str] = ()
    ) -> tuple[SourcePart, ...]:
        """Return the parts of a source that are missing or damaged, or are among those to predict `again`.

        Raises
        ------
        MatchError
            If the folder contains parts from another run.
        """
        missing = []
        for part in source.parts:
            path = self.path(part.name)
            if found := _identity(path):
                identity.check(found, path)
            if not found or part.name in again:
                missing.append(part)
        return tuple(missing)

    def unread(self) -> dict[str, list[str]]:
        """Return the files that could not be read, by the name of the part. Damaged parts have none."""
        found = {}
        for path in self.folder.glob("*.parquet"):
            with contextlib.suppress(pa.ArrowInvalid, OSError):
                rows = pq.read_table(path, columns=["uri", "reason"])
                rows = rows.filter(pc.not_equal(rows["reason"], "")).to_pylist()
                if files := [row["uri"] for row in rows if is_unread(row["uri"], row["reason"])]:
                    found[path.stem] = files
        return found

    def readable_again(self) -> set[str]:
        """Return the names of the parts with files that could not be read, and now can be."""
        return {
            name for name, files in self.unread().items() if any(os.access(file, os.R_OK) for file in files)
        }

    def replace(self, name: str) -> None:
        """Remove the predictions that were merged from an earlier version of a part, which still exists.

        Raises
        ------
        OutputError
            If the folder cannot be written to.
        """
        if self.final.exists():
            with locked(self.out):  # another process may be about to remove the parts
                if self.path(name).exists():
                    self.final.unlink(missing_ok=True)

    def is_complete(self, identity: Identity) -> bool:
        """Return whether the predictions exist and were written by the same run.

        Raises
        ------
        MatchError
            If the folder contains predictions from another run.
        """
        if not self.final.exists():
            return False
        try:
            about = metadata(pq.read_schema(self.final))
        except (pa.ArrowInvalid, OSError):
            about = {}
        identity.check(json.loads(about.get("run", "{}")), self.final)
        return True

    def write(
        self, scored: Scored, labels: LabelLookup, identity: Identity, difference: float | None
    ) -> None:
        """Write a part atomically. `difference` is the engine's difference from PyTorch.

        Raises
        ------
        InputError
            If a label is not a class.
        OutputError
            If the disk is full, or the folder cannot be written to.
        """
        about = {} if difference is None else {_DIFFERENCE: f"{difference:.3g}".encode()}
        self.write_table(scored.part.name, _table(scored, labels), identity, about)

    def write_table(
        self, name: str, table: pa.Table, identity: Identity, about: Mapping[bytes, bytes] | None = None
    ) -> None:
        """Write the rows of a part atomically, with the identity of the run.

        Raises
        ------
        OutputError
            If the disk is full, or the folder cannot be written to.
        """
        about = {_IDENTITY: json.dumps(identity.__dict__).encode(), **(about or {})}
        try:
            with atomic_write(self.path(name)) as part:
                pq.write_table(table.replace_schema_metadata(about), part, compression="zstd")
        except OutputError:
            # Another process of the run may have merged all parts meanwhile, and removed them.
            if not self.final.exists():
                raise


def read_part_file(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the rows of a part.

    Raises
    ------
    InputError
        If the part is damaged.
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
    """Return the largest difference from PyTorch that any shard measured, or an empty text if none did."""
    found = [(pq.read_schema(path).metadata or {}).get(_DIFFERENCE, b"").decode() for path in paths]
    return max(filter(None, found), key=float, default="")


def _identity(path: Path) -> dict[str, Any]:
    """Return the identity of the run of a part; empty if the part is missing, truncated or empty.

    A kill leaves no truncated file, but a power failure or an interrupted copy does.
    """
    try:
        found: dict[str, Any] = json.loads((pq.read_schema(path).metadata or {}).get(_IDENTITY, b"{}"))
        return found
    except (pa.ArrowInvalid, OSError):
        return {}


def _table(scored: Scored, labels: LabelLookup) -> pa.Table:
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
    for name, values in scored.uncertainty.items():
        columns[name] = (_lists(values) if values.ndim == 2 else pa.array(values)).take(at)
    if scored.features is not None:
        columns["features"] = _lists(scored.features).take(at)
    return pa.table(columns)


def _lists(rows: Any) -> pa.ListArray:
    n, k = rows.shape
    return pa.ListArray.from_arrays(np.arange(n + 1, dtype=np.int32) * k, pa.array(rows.ravel()))


IMAGES, LOCK = "images.parquet", ".lock"
_SKIPPED = ("image_id", "uri", "reason", "model")


@dataclass(frozen=True)
class Merged:
    """The files of a model, and the numbers of predicted, skipped and, among these, unread images."""

    files: tuple[Path, ...]
    n: int
    n_skipped: int
    n_unread: int = 0


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Lock a folder for one process, because shards may end at the same time and models share two files.

    Raises
    ------
    OutputError
        If the folder cannot be written to.
    """
    from filelock import FileLock

    path = out / LOCK
    lock = FileLock(path)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire()  # the lock of a process that died is free
    except OSError as error:
        raise write_refused(path, error) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()  # while it is held: a waiting process creates another
        lock.release()


def check_output_folder(out: Path, identity: Identity) -> None:
    """Raise an error if writing to the folder would overwrite files from another source or program.

    Raises
    ------
    MatchError
        If the files belong to another source or program, or if their labels use a different class list.
    InputError
        If the images table is damaged.
    """
    path = out / IMAGES
    if path.exists():
        try:
            schema = pq.read_schema(path)
        except (pa.ArrowInvalid, OSError):
            schema = read(path, "images").schema  # says what is wrong
        about = metadata(schema)
        if about.get("source") != identity.source:
            raise MatchError(
                "The folder contains a table of different images, or of the same images with different "
                "labels.",
                where=path,
                do="choose another `out`",
            )
        if "label" in schema.names and about.get("classes") != identity.classes:
            raise MatchError(
                "The labels of the images in the folder use a different class list.",
                where=path,
                got=f"that of {identity.model}: {identity.classes}",
                allowed=about.get("classes"),
                do="pass the same `classes` for both models, or choose another `out`",
            )
    path = out / SKIPPED
    if path.exists() and path.read_bytes()[:99].split(b"\n")[0] != ",".join(_SKIPPED).encode():
        raise MatchError(
            "The folder contains a file that manyhot did not write.", where=path, do="choose another `out`"
        )


def merge(
    parts: PartFiles, source: ImageSource, identity: Identity, about: Mapping[str, str], call: str
) -> Merged:
    """Merge all parts, in a locked folder.

    The predictions are written last. If they exist, so do the other files.

    Raises
    ------
    InputError
        If two images have the same id, if no image could be decoded, or if a part is damaged.
    MatchError
        See `check_output_folder`.
    OutputError
        If the disk is full, or the folder cannot be written to.
    """
    clean(parts)
    check_output_folder(parts.out, identity)
    paths = [parts.path(part.name) for part in source.parts]
    ids = _ids(paths, source)
    images, skipped = _images(paths, ids, source)
    if identity.embeddings:
        _write_features(paths, parts.features, len(images))
    _update_images(parts.out / IMAGES, images, identity, about, call)
    _update_skipped(parts.out / SKIPPED, skipped, parts.model)
    run = {"run": json.dumps(identity.__dict__, sort_keys=True)}
    run["difference_from_torch"] = largest_difference(paths)
    pieces = (_predicted(path, own) for path, own in zip(paths, ids, strict=True))
    write_stream(pieces, parts.final, "predictions", call=call, about={**about, **run})
    result = merged(parts, identity)
    if not result.n_unread:
        remove(parts)
    return result


def merged(parts: PartFiles, identity: Identity) -> Merged:
    """Return the merged tables of a model."""
    skipped = [row for row in read_skipped(parts.out) if row["model"] == parts.model]
    unread = sum(is_unread(row["uri"], row["reason"]) for row in skipped)
    files = (parts.final, parts.features) if identity.embeddings else (parts.final,)
    return Merged(files, pq.read_metadata(parts.final).num_rows, len(skipped), unread)


def tidy(parts: PartFiles) -> None:
    """Remove the files that a killed process left next to complete predictions.

    Raises
    ------
    OutputError
        If the folder cannot be written to.
    """
    if parts.folder.exists() or (parts.out / LOCK).exists() or any(_leavings(parts)):
        with locked(parts.out):
            clean(parts)
            if not parts.unread():
                remove(parts)


def clean(parts: PartFiles) -> None:
    """Remove unfinished files. The folder must be locked, so that no other process is writing them."""
    for path in list(_leavings(parts)):
        path.unlink(missing_ok=True)


def remove(parts: PartFiles) -> None:
    """Remove the parts of a model, of which none contains images that can be tried again."""
    shutil.rmtree(parts.folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # other models have parts there
        (parts.out / PARTS_FOLDER).rmdir()


def _leavings(parts: PartFiles) -> Iterator[Path]:
    """Yield the files that `atomic_write` leaves if its process is killed."""
    for path in (parts.final, parts.features, parts.out / IMAGES, parts.out / SKIPPED):
        yield from path.parent.glob(f".{glob.escape(path.name)}.*.part")


def _ids(paths: Sequence[Path], source: ImageSource) -> list[pa.ChunkedArray]:
    """Return the ids of the images of each part.

    Images of archives that are read as streams are named as those of other archives: by their base names or,
    if two have the same, by their paths. Only now are all names known.

    Raises
    ------
    InputError
        If two images have the same id.
    """
    tables = [read_part_file(path, ["image_id", "uri"]) for path in paths]
    every = pa.concat_tables(tables)
    streams = [part.archive for part in source.parts if isinstance(part, TarStream)]
    if pc.count_distinct(every["image_id"]).as_py() < len(every):
        if len(streams) < len(tables) or source.labelled_by:  # labels were looked up by base names
            raise _same_id(every, source.uri)
        inner = [
            [uri.removeprefix(f"{archive}/") for uri in table["uri"].to_pylist()]
            for table, archive in zip(tables, streams, strict=True)
        ]
        shards = zip(streams, inner, strict=True)
        in_shards = [f"{archive.rpartition('/')[2]}/{name}" for archive, own in shards for name in own]
        ids = pa.array(first_unique([name for own in inner for name in own], in_shards))
        if len(ids.unique()) < len(ids):
            raise _same_id(every.set_column(0, "image_id", ids), source.uri)
        starts = np.cumsum([0, *map(len, tables)]).tolist()
        return [pa.chunked_array([ids[a:b]]) for a, b in itertools.pairwise(starts)]
    return [table["image_id"] for table in tables]


def _part_table(path: Path, ids: pa.ChunkedArray, columns: Sequence[str] | None = None) -> pa.Table:
    table = read_part_file(path, columns)
    at = table.column_names.index("image_id")
    return table.set_column(at, "image_id", ids)


def _images(
    paths: Sequence[Path], ids: Sequence[pa.ChunkedArray], source: ImageSource
) -> tuple[pa.Table, pa.Table]:
    columns = ["image_id", "uri", "label", "width", "height", "reason"]
    every = pa.concat_tables([_part_table(path, own, columns) for path, own in zip(paths, ids, strict=True)])
    good = pc.equal(every["reason"], "")
    images, skipped = every.filter(good).drop(["reason"]), every.filter(pc.invert(good))
    images = with_splits(images, source)
    if not len(images):
        rows = skipped.select(["image_id", "uri", "reason"]).to_pylist()
        raise NoneLeftError.of(source.uri, rows)
    return images, skipped


def _same_id(images: pa.Table, where: str) -> InputError:
    """Return the error for two images of a stream with the same id; other sources look earlier."""
    ids = images["image_id"]
    counts = pc.value_counts(ids)
    twice = [row["values"] for row in counts.to_pylist() if row["counts"] > 1]
    places = images["uri"].filter(pc.equal(ids, twice[0])).to_pylist()
    more = f", and {len(twice) - 1:,} more names" if len(twice) > 1 else ""
    return InputError(
        "Two images have the same name.",
        where=where,
        got=f"{places[0]} and {places[1]}{more}",
        allowed="unique names, which are the ids of the images; those of labels in a file are base names",
        do="run predict on each archive separately, with its own `out`",
    )


def _write_features(paths: Sequence[Path], target: Path, n: int) -> None:
    """Write the features of all parts as one array.

    The file is not memory-mapped: on a full disk, the system kills a process that writes to a mapped file.
    """
    with atomic_write(target) as unfinished, unfinished.open("wb") as file:
        for path in paths:
            part = read_part_file(path)
            if (
                "features" not in part.column_names
            ):  # none of its images could be decoded, or features were not requested
                continue
            column = part["features"].combine_chunks().drop_null()
            rows = column.flatten().to_numpy().reshape(len(column), -1)
            if not file.tell():
                header = {"descr": "<f2", "fortran_order": False, "shape": (n, rows.shape[1])}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(np.ascontiguousarray(rows, "<f2").data)


def _predicted(path: Path, ids: pa.ChunkedArray) -> pa.Table:
    table = _part_table(path, ids)
    table = table.filter(pc.equal(table["reason"], ""))
    return table.select([c for c in schema("predictions").names if c in table.column_names])


def _update_images(
    path: Path, images: pa.Table, identity: Identity, about: Mapping[str, str], call: str
) -> None:
    """Write the images table; images that another model of this source could decode are kept."""
    if path.exists():
        known = read(path, "images")
        images = images.select([c for c in images.column_names if c in known.column_names or c == "label"])
        extra = known.filter(pc.invert(pc.is_in(known["image_id"], images["image_id"].combine_chunks())))
        images = pa.concat_tables([images, extra.replace_schema_metadata()], promote_options="default")
    if images["label"].null_count == len(images):
        images, about = images.drop(["label"]), {}
    classes = {key: about[key] for key in ("keys", "names") if key in about}  # what the labels refer to
    own = {"source": identity.source, "classes": identity.classes, **classes}
    write(images, path, "images", call=call, about=own)


def _update_skipped(path: Path, skipped: pa.Table, model: str) -> None:
    rows = [row for row in read_skipped(path.parent) if row["model"] != model]
    rows += [{**row, "model": model} for row in skipped.select(["image_id", "uri", "reason"]).to_pylist()]
    text = io.StringIO()
    writer = csv.DictWriter(text, _SKIPPED, lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(rows, key=itemgetter("model")))  # in any order of the models
    write_text(path, text.getvalue())


def read_skipped(folder: Path) -> Iterator[dict[str, str]]:
    """Yield the images that models skipped, with the columns image_id, uri, reason and model."""
    if (folder / SKIPPED).exists():
        with (folder / SKIPPED).open(newline="", encoding="utf-8") as file:
            yield from csv.DictReader(file)
