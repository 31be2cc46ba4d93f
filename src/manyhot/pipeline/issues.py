"""Published data, campaigns, folders or files in; doubtful and missing labels out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from manyhot import tables
from manyhot.errors import InputError
from manyhot.files import sha256
from manyhot.formats import read_labels
from manyhot.pipeline.common import PathLike, Progress, check_apart, check_place
from manyhot.pipeline.sources import Asked, Source, similar_images, sources
from manyhot.steps.issues import LabelIssues, find_label_issues
from manyhot.tables import Images


def find_label_issues_files(
    source: PathLike,
    out: PathLike = "label-issues.parquet",
    *,
    predictions: Sequence[PathLike] = (),
    models: Sequence[str] = (),
    votes: PathLike | None = None,
    no_votes: bool = False,
    rows: PathLike | None = None,
    images: PathLike | None = None,
    classes: PathLike | None = None,
    embeddings: PathLike | None = None,
    index: PathLike | None = None,
    embeddings_of: str = "",
    doubtful: float = 0.5,
    missing: float = 0.2,
    together: float = 0.7,
    confused: float = 0.2,
    call: str = "",
    progress: Progress | None = None,
) -> tuple[LabelIssues, list[Path]]:
    """Find label errors, missing labels and classes that are one, and write the table ``findings``.

    Parameters
    ----------
    source : path-like
        A benchmark or one of its data sets, such as ``imagenet-val``; a campaign; a folder that ``manyhot
        predict`` wrote; an images table or label sets, in any format.
    out : path-like
        A Parquet file.
    predictions : sequence of path-like
        Files and folders of predictions; in place of the published models or those of the campaign or folder.
    models : sequence of str
        Patterns of names, such as ``resnet*``; all models by default.
    votes : path-like, optional
        Label sets that people made, in any format; those of `source` by default.
    no_votes : bool
        Pass over what people said.
    rows, images, classes
        As in `manyhot.evaluate_files`.
    embeddings, index, embeddings_of
        As in `manyhot.diagnose_errors_files`.
    doubtful, missing, together, confused
        As in `manyhot.steps.issues.find_label_issues`.

    Raises
    ------
    ManyhotError
        For each kind of bad input; nothing is written then.
    """
    out = Path(out)
    if out.suffix.lower() != ".parquet":
        raise InputError("Cannot write this kind of file.", where=out, allowed=".parquet")
    check_apart([source, *predictions, rows, images, classes, votes], out)
    check_place(out, "findings")
    if votes is not None and no_votes:
        raise InputError("Votes are given, and to be passed over.", got=votes, do="leave one of them out")
    options: dict[str, Any] = {"doubtful": doubtful, "missing": missing}
    options |= {"together": together, "confused": confused}
    options |= similar_images(embeddings, index, embeddings_of, progress)
    asked = Asked(predictions, models, rows, images, classes, progress)
    parts = list(sources(source, asked))
    done = LabelIssues.concat([_find(part, votes, no_votes, options, progress) for part in parts])
    inputs = {name: told for part in parts for name, told in part.inputs.items()}
    files = (rows, images, classes, votes)
    inputs |= {Path(p).name: sha256(p) for p in files if p and Path(p).is_file()}
    about = {"notes": json.dumps(done.notes, ensure_ascii=False), "models": "\n".join(done.models)}
    return done, [tables.write(done.table, out, "findings", call=call, inputs=inputs, about=about)]


def _find(
    part: Source,
    votes: PathLike | None,
    no_votes: bool,
    options: Mapping[str, Any],
    progress: Progress | None,
) -> LabelIssues:
    read = []
    for done, found in enumerate(part.models(), 1):
        read.append(found)
        if progress is not None:
            progress(f"reading predictions on {part.name}", done, part.n)
    said = part.labels if votes is None else read_labels(votes, classes=part.classes)
    return find_label_issues(
        _images_of(part),
        read,
        votes=None if no_votes else said,
        n_classes=len(part.classes) if part.classes else part.labels.n_classes if part.labels else 0,
        class_hash=part.classes.hash if part.classes else "",
        dataset=part.name,
        misfits=part.misfits,
        **options,
    )


def _images_of(part: Source) -> Images:
    labels = part.labels
    if part.images is not None or labels is None:
        assert part.images is not None
        return part.images
    if "label" not in labels.table.column_names:
        raise InputError(
            "The label sets do not tell the original labels.",
            where=labels.name or None,
            allowed="a column label",
            do="give the images table: --images FILE",
        )
    return Images(labels.table.select(["image_id", "label"]), labels.name)
