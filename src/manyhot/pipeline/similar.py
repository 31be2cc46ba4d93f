"""Folders that predict wrote in, similar images out."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from manyhot import tables
from manyhot.errors import InputError
from manyhot.files import sha256
from manyhot.pipeline.common import PathLike, Progress
from manyhot.steps.similar import Embedded, Similar, similar

FOLDER = "embeddings"
"""Beside the predictions; its files are called like theirs."""


def similar_files(
    index: PathLike,
    *,
    model: str = "",
    queries: PathLike | None = None,
    k: int = 10,
    classes: str = "predicted",
    top: int = 5,
    out: PathLike = "similar.parquet",
    call: str = "",
    progress: Progress | None = None,
) -> tuple[Similar, list[Path]]:
    """Find the nearest images by embedding and write the table ``similar``.

    Parameters
    ----------
    index : path-like
        A folder that ``manyhot predict --embeddings`` wrote: where to search.
    model : str
        Whose embeddings; not needed where the folder has those of one model.
    queries : path-like, optional
        Such a folder too: the images to find similar ones of. Those of the index by default.
    k, classes, top
        See `manyhot.steps.similar.similar`.
    out : path-like
        A Parquet file.

    Raises
    ------
    InputError
        If there are no embeddings, or more than one model's and none is named, if a file is not complete, or
        as in `manyhot.steps.similar.similar`.
    OutputError
        If the file cannot be written.
    """
    files = _Files.of(index, model)
    asked = None if queries is None else _Files.of(queries, files.model)
    _check_out(Path(out), [f for side in (files, asked) if side is not None for f in side.all()])
    told = None if progress is None else (lambda done, of: progress("similar images", done, of))
    found = similar(
        files.read(), None if asked is None else asked.read(), k=k, classes=classes, top=top, progress=told
    )
    inputs = {**({} if asked is None else asked.hashes("queries/")), **files.hashes()}
    about = {"model": files.model, "notes": json.dumps(found.notes, ensure_ascii=False)}
    return found, [tables.write(found.table, out, "similar", call=call, inputs=inputs, about=about)]


def neighbours_of(
    queries: PathLike, index: PathLike | None, progress: Progress | None = None, *, model: str = ""
) -> tuple[pa.Table, tables.Images | None]:
    """Return the ten nearest images of any class of one folder in another, and the images of that other.

    Parameters
    ----------
    queries, index : path-like
        Folders that ``manyhot predict --embeddings`` wrote with one model; by default both are one.
    model : str
        Whose embeddings; not needed where `queries` has those of one model.

    Raises
    ------
    InputError
        As in `similar_files`.
    """
    asked = _Files.of(queries, model, "--embeddings-of").read()
    searched = asked if index is None else _Files.of(index, asked.predictions.model).read()
    told = None if progress is None else (lambda done, of: progress("similar images", done, of))
    found = similar(searched, asked, k=10, classes="any", progress=told)
    return found.table, searched.images


@dataclass(frozen=True)
class _Files:
    """What one model left in a folder."""

    model: str
    predictions: Path
    vectors: Path
    images: Path

    @classmethod
    def of(cls, folder: PathLike, model: str, option: str = "--model") -> _Files:
        """Choose a model's files; "" is the only one there, or else `option` names one."""
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(
                "This is a file, not a folder." if folder.exists() else "The folder does not exist.",
                where=folder,
                allowed="a folder that manyhot predict --embeddings wrote",
            )
        return _chosen(folder, _with_embeddings(folder), model, option)

    def all(self) -> list[Path]:
        """Return the files that are there."""
        return [f for f in (self.predictions, self.vectors, self.images) if f.exists()]

    def hashes(self, before: str = "") -> dict[str, str]:
        """Return the sha256 of each file by its name in the folder."""
        root = self.predictions.parent
        return {before + file.relative_to(root).as_posix(): sha256(file) for file in self.all()}

    def read(self) -> Embedded:
        """Read predictions and images, and map the embeddings."""
        predictions = tables.predictions_from_table(
            tables.read(self.predictions, "predictions"), model=self.model, source=str(self.predictions)
        )
        images = None
        if self.images.exists():
            images = tables.Images(tables.read(self.images, "images"), str(self.images))
        return Embedded(predictions, _mapped(self.vectors), images, str(self.predictions.parent))


def _with_embeddings(folder: Path) -> list[_Files]:
    found = []
    for vectors in sorted((folder / FOLDER).glob("*.npy")):
        predictions = folder / f"{vectors.name.removesuffix('.npy')}.parquet"
        if predictions.exists():
            found.append(_Files(_model_of(predictions), predictions, vectors, folder / "images.parquet"))
    return found


def _model_of(predictions: Path) -> str:
    try:
        told = tables.metadata(pq.read_schema(predictions)).get("model")
    except (pa.ArrowInvalid, OSError):
        told = None  # reading it will say what is wrong, if it is the one that is wanted
    return told or predictions.stem.replace("--", "/")


def _chosen(folder: Path, found: list[_Files], model: str, option: str) -> _Files:
    names = [f.model for f in found]
    if not found:
        raise InputError(
            "The folder holds no embeddings.",
            where=folder,
            allowed=f"files of {FOLDER}/ beside the predictions, called like these",
            do="predict these images again, with --embeddings",
        )
    if not model and len(found) > 1:
        raise InputError(
            "The folder holds embeddings of several models.",
            where=folder,
            got=", ".join(names),
            allowed="one of them",
            do=f"name it: {option} {names[0]}",
        )
    fitting = [f for f in found if model in ("", f.model, f.predictions.stem)]
    if not fitting:
        near = difflib.get_close_matches(model, names, n=1)
        raise InputError(
            f"The folder holds no embeddings of {model!r}.",
            where=folder,
            allowed=", ".join(names),
            do=f"did you mean {near[0]!r}?"
            if near
            else "name one of these, or predict with this model and --embeddings",
        )
    return fitting[0]


def _mapped(path: Path) -> npt.NDArray[Any]:
    try:
        vectors: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise InputError(
            "The file is not a complete array of embeddings.",
            where=path,
            got=str(error).partition("\n")[0],
            do="predict these images again, with --embeddings",
        ) from error
    return vectors


def _check_out(out: Path, inputs: list[Path]) -> None:
    if out.suffix.lower() != ".parquet":
        raise InputError("Cannot write this kind of file.", where=out, allowed=".parquet")
    if out.resolve() in {file.resolve() for file in inputs}:
        raise InputError(
            "The table would be written over what it is made of.", where=out, do="choose another --out"
        )


def embedded_in(folder: PathLike) -> Embedded | None:
    """Read the embeddings that predict left in a folder, the first model's; None where there are none."""
    found = _with_embeddings(Path(folder))
    return found[0].read() if found else None
