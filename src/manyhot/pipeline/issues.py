"""Published data, campaigns, folders or files in; doubtful and missing labels out."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manyhot import tables
from manyhot.classes import ClassList, class_list
from manyhot.errors import InputError
from manyhot.files import sha256
from manyhot.formats import detect, prediction_files, read_classes, read_images, read_labels, read_predictions
from manyhot.pipeline.benchmarks import BENCHMARKS, DataSet
from manyhot.pipeline.common import PathLike, Progress, check_apart, check_place
from manyhot.pipeline.similar import neighbours_of
from manyhot.steps.issues import LabelIssues, find_label_issues
from manyhot.tables import DESCRIPTION, Campaign, Images, Labels, Predictions


@dataclass(frozen=True, eq=False)
class _Part:
    """One data set whose labels are doubted."""

    name: str
    images: Images
    votes: Labels | None
    predictions: Sequence[Predictions]
    inputs: Mapping[str, str]
    classes: ClassList | None


@dataclass(frozen=True)
class _Asked:
    """What a call names beside the data set."""

    predictions: Sequence[PathLike]
    models: Sequence[str]
    votes: PathLike | None
    no_votes: bool
    classes: PathLike | None
    progress: Progress | None

    def fits(self, model: str) -> bool:
        return not self.models or any(fnmatch.fnmatchcase(model, pattern) for pattern in self.models)

    def tell(self, name: str, done: int, of: int) -> None:
        if self.progress is not None:
            self.progress(f"reading predictions on {name}", done, of)


def find_label_issues_files(
    source: PathLike,
    out: PathLike = "findings.parquet",
    *,
    predictions: Sequence[PathLike] = (),
    models: Sequence[str] = (),
    votes: PathLike | None = None,
    no_votes: bool = False,
    classes: PathLike | None = None,
    embeddings: PathLike | None = None,
    index: PathLike | None = None,
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
    classes : path-like, optional
        As in `manyhot.evaluate_files`.
    embeddings, index : path-like, optional
        A folder that ``manyhot predict --embeddings`` wrote of the images, and one of images to look for
        similar ones in, by default the same.
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
    check_apart([source, *predictions, votes, classes], out)
    check_place(out, "findings")
    if votes is not None and no_votes:
        raise InputError("Votes are given, and to be passed over.", got=votes, do="leave one of them out")
    if embeddings is None and index is not None:
        raise InputError(
            "An index is searched for images like those that are embedded.",
            got=f"index {index} alone",
            do="give embeddings of the images, too",
        )
    options: dict[str, Any] = {"doubtful": doubtful, "missing": missing}
    options |= {"together": together, "confused": confused}
    if embeddings is not None:
        table, near = neighbours_of(embeddings, index, progress)
        options |= {"similar": table, "neighbours": near}
    asked = _Asked(predictions, models, votes, no_votes, classes, progress)
    found: list[LabelIssues] = []
    inputs: dict[str, str] = {}
    for part in _parts(source, asked):
        found.append(_find(part, options))
        inputs |= part.inputs
    done = LabelIssues.concat(found)
    about = {"notes": json.dumps(done.notes, ensure_ascii=False), "models": "\n".join(done.models)}
    return done, [tables.write(done.table, out, "findings", call=call, inputs=inputs, about=about)]


def _find(part: _Part, options: Mapping[str, Any]) -> LabelIssues:
    classes, votes = part.classes, part.votes
    return find_label_issues(
        part.images,
        part.predictions,
        votes=votes,
        n_classes=len(classes) if classes else votes.n_classes if votes else 0,
        class_hash=classes.hash if classes else "",
        dataset=part.name,
        **options,
    )


def _parts(source: PathLike, asked: _Asked) -> Iterator[_Part]:
    published: dict[str, DataSet] = {}
    for dataset in (d for b in BENCHMARKS.values() for d in b.datasets):
        published.setdefault(dataset.name, dataset)
    path = Path(source)
    if not path.exists() and str(source) in BENCHMARKS:
        for dataset in BENCHMARKS[str(source)].datasets:
            yield _published(dataset, asked)
    elif not path.exists() and str(source) in published:
        yield _published(published[str(source)], asked)
    elif (path / DESCRIPTION).is_file():
        yield _campaign(Campaign.read(path), asked)
    elif path.exists():
        yield _files(path, asked)
    else:
        raise InputError(
            "There is no such data set, campaign or file.",
            got=source,
            allowed=f"{', '.join([*BENCHMARKS, *published])}; the folder of a campaign or of predictions; a "
            "table of images or label sets",
        )


def _published(dataset: DataSet, asked: _Asked) -> _Part:
    fetched = dataset.fetch(asked.progress)
    classes = class_list()
    votes = _votes(asked, fetched.labels, classes)
    if asked.predictions:
        found, hashes = _own(asked.predictions, asked, classes, fetched.rows)
        return _Part(dataset.name, fetched.rows, votes, found, {**fetched.inputs, **hashes}, classes)
    names = [f.stem for f in fetched.files]
    files = [f for f in fetched.files if asked.fits(f.stem)]
    _check_some(files, asked, names)
    read = []
    for file in files:
        read.append(fetched.read(file))
        asked.tell(dataset.name, len(read), len(files))
    return _Part(dataset.name, fetched.rows, votes, read, fetched.inputs, classes)


def _campaign(campaign: Campaign, asked: _Asked) -> _Part:
    classes = read_classes(asked.classes or campaign.path("classes"))
    labels = campaign.path("labels")
    used = [campaign.path("images")]
    votes = None
    if labels.is_file() and asked.votes is None and not asked.no_votes:
        votes = read_labels(labels, classes=classes)
        used.append(labels)
    found, hashes = _own(asked.predictions or [campaign.path("predictions")], asked, classes, None)
    return _Part(
        campaign.folder.resolve().name,
        read_images(used[0], classes=classes),
        _votes(asked, votes, classes),
        found,
        {**hashes, **{f.name: sha256(f) for f in used}},
        classes,
    )


def _files(path: Path, asked: _Asked) -> _Part:
    classes = read_classes(asked.classes) if asked.classes else None
    table = path / "images.parquet" if (path / "images.parquet").is_file() else path
    given = asked.predictions or ([path] if table != path else [])
    if not given:
        raise InputError(
            "There are no predictions to find label issues with.",
            where=path,
            do="give some: --predictions FILE",
        )
    votes = None
    if table == path and detect(path, ("labels",)) is not None:
        votes = read_labels(path, classes=classes)
        images = _images_of(votes)
    else:
        images = read_images(table, classes=classes)
    found, hashes = _own(given, asked, classes, images)
    if table.is_file():
        hashes[table.name] = sha256(table)
    return _Part(
        (votes.name if votes else "") or path.stem,
        images,
        _votes(asked, votes, classes),
        found,
        hashes,
        classes,
    )


def _images_of(labels: Labels) -> Images:
    if "label" not in labels.table.column_names:
        raise InputError(
            "The label sets do not tell the original labels.",
            where=labels.name or None,
            allowed="a column label",
            do="give the images table, and the label sets with --votes",
        )
    return Images(labels.table.select(["image_id", "label"]), labels.name)


def _votes(asked: _Asked, own: Labels | None, classes: ClassList | None) -> Labels | None:
    if asked.no_votes:
        return None
    return own if asked.votes is None else read_labels(asked.votes, classes=classes)


def _own(
    given: Sequence[PathLike], asked: _Asked, classes: ClassList | None, rows: Images | None
) -> tuple[list[Predictions], dict[str, str]]:
    files, read = prediction_files(given), []
    for file in files:
        read.append(read_predictions(file, rows=rows, classes=classes))
        asked.tell("the images", len(read), len(files))
    found = [(f, p) for f, p in zip(files, read, strict=True) if asked.fits(p.model)]
    _check_some(found, asked, [p.model for p in read])
    return [p for _, p in found], {f.name: sha256(f) for f, _ in found}


def _check_some(found: Sequence[object], asked: _Asked, names: Sequence[str]) -> None:
    if not found:
        raise InputError("No model is called so.", got=" or ".join(asked.models), allowed=", ".join(names))
