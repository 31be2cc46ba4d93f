"""Published data, campaigns or files in, sorted errors out."""

from __future__ import annotations

import difflib
import fnmatch
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from manyhot import catalog, tables
from manyhot.classes import ClassList, class_list
from manyhot.errors import InputError
from manyhot.files import sha256
from manyhot.formats import (
    detect,
    prediction_files,
    read_classes,
    read_findings,
    read_images,
    read_labels,
    read_predictions,
)
from manyhot.formats.superclasses import read_superclasses
from manyhot.formats.tabular import write_csv
from manyhot.pipeline.benchmarks import BENCHMARKS, DataSet
from manyhot.pipeline.common import PathLike, Progress, check_apart, check_place
from manyhot.pipeline.similar import neighbours_of
from manyhot.steps.diagnose import diagnose_errors
from manyhot.steps.findings import SortedErrors
from manyhot.tables import DESCRIPTION, Campaign, Images, Labels, Predictions

MISTAKES = "imagenet-mistakes"
"""The entry of the catalogue whose experts called images of ImageNet's validation set non-prototypical."""

NON_PROTOTYPICAL = "non-prototypical"
"""Their category."""


@dataclass(frozen=True, eq=False)
class _Source:
    """One data set whose errors are sorted.

    Attributes
    ----------
    models : callable
        Gives the predictions, one after another.
    n : int
        How many there are.
    inputs : mapping of str to str
        The sha256 of each file by name.
    listed : collection of str, optional
        Images that are known to be non-prototypical.
    """

    name: str
    labels: Labels
    models: Callable[[], Iterator[Predictions]]
    n: int
    inputs: Mapping[str, str]
    classes: ClassList | None = None
    images: Images | None = None
    listed: Collection[str] | None = None


@dataclass(frozen=True)
class _Asked:
    """The files that a call names beside what it sorts."""

    predictions: Sequence[PathLike]
    models: Sequence[str]
    rows: PathLike | None
    images: PathLike | None
    classes: PathLike | None
    progress: Progress | None

    def fits(self, model: str) -> bool:
        return not self.models or any(fnmatch.fnmatchcase(model, pattern) for pattern in self.models)


def diagnose_errors_files(
    source: PathLike,
    out: PathLike = "findings.parquet",
    *,
    predictions: Sequence[PathLike] = (),
    models: Sequence[str] = (),
    event: str = "label",
    above: float | None = None,
    rules: Sequence[str] | None = None,
    rows: PathLike | None = None,
    images: PathLike | None = None,
    classes: PathLike | None = None,
    superclasses: PathLike | None = None,
    together: PathLike | None = None,
    non_prototypical: PathLike | None = None,
    embeddings: PathLike | None = None,
    index: PathLike | None = None,
    trust_order: bool = False,
    call: str = "",
    progress: Progress | None = None,
) -> tuple[SortedErrors, list[Path]]:
    """Sort the errors of models by what they are, and write the table ``findings``.

    Parameters
    ----------
    source : path-like
        A benchmark or one of its data sets, such as ``imagenet-val``; a campaign; or labels in any format.
    out : path-like
        A Parquet file. Beside it ``…-counts.csv`` is written: a row is a model and a kind.
    predictions : sequence of path-like
        Files and folders of predictions; in place of the published models or those of the campaign.
    models : sequence of str
        Patterns of names, such as ``resnet*``; all models by default.
    event, above, rules, trust_order
        As in `manyhot.steps.diagnose.diagnose_errors`.
    rows, images, classes
        As in `manyhot.evaluate_files`.
    superclasses : path-like, optional
        A file as `manyhot.formats.superclasses.read_superclasses` reads it, or ``tsipras``: those published.
    together : path-like, optional
        Label sets in which to count which classes are valid together; those of `source` by default.
    non_prototypical : path-like, optional
        Findings or images in any format; of findings with a column ``category`` those that say so. By default
        of ImageNet's validation set those published.
    embeddings : path-like, optional
        A folder that ``manyhot predict --embeddings`` wrote of the images.
    index : path-like, optional
        Such a folder of labelled images to look for similar ones in, best those the models were trained on;
        `embeddings` itself by default.

    Raises
    ------
    ManyhotError
        For each kind of bad input; nothing is written then.
    """
    out = Path(out)
    if out.suffix.lower() != ".parquet":
        raise InputError("Cannot write this kind of file.", where=out, allowed=".parquet")
    asked = _Asked(predictions, models, rows, images, classes, progress)
    files = (rows, images, classes, superclasses, together, non_prototypical)
    beside = out.with_name(f"{out.stem}-counts.csv")
    for path in (out, beside):
        check_apart([source, *predictions, *files], path)
    check_place(out, "findings")
    options: dict[str, Any] = {"event": event, "above": above, "trust_order": trust_order}
    if rules is not None:
        options["rules"] = rules
    options |= _similar(embeddings, index, progress)
    parts = [
        (part, options | _evidence(part, superclasses, together, non_prototypical))
        for part in _sources(source, asked)
    ]
    done = SortedErrors.concat([_sort(part, options, progress) for part, options in parts])
    inputs = {name: told for part, _ in parts for name, told in part.inputs.items()}
    inputs |= {Path(p).name: sha256(p) for p in files if p and Path(p).is_file()}
    written = tables.write(done.table, out, "findings", call=call, inputs=inputs, about=_about(done))
    return done, [written, write_csv(counts_table(done), beside)]


def _sort(part: _Source, options: Mapping[str, Any], progress: Progress | None) -> SortedErrors:
    def told(done: int, _: str) -> None:
        assert progress is not None
        progress(f"sorting errors on {part.name}", done, part.n)

    return diagnose_errors(
        part.labels,
        part.models(),
        images=part.images,
        classes=part.classes,
        dataset=part.name,
        progress=told if progress else None,
        **options,
    )


def _about(done: SortedErrors) -> dict[str, str]:
    return {
        "rules": json.dumps(done.rules),
        "resting": json.dumps(done.resting, ensure_ascii=False),
        "notes": json.dumps(done.notes, ensure_ascii=False),
        "event": done.event,
        "above": json.dumps(done.above),
    }


def counts_table(found: SortedErrors) -> pa.Table:
    """Return how many errors of each model are of each kind, with share and n; null where a rule rested."""
    kinds = list(dict.fromkeys(kind for m in found.models for kind in m.counts))
    rows = [
        {
            "dataset": m.dataset,
            "model": m.model,
            "kind": kind,
            "errors": m.counts[kind],
            "share": m.shares[kind],
            "n_sorted": m.n_sorted,
            "n_errors": m.n_errors,
            "n": m.n,
            "n_skipped": m.n_skipped,
        }
        for m in found.models
        for kind in kinds
        if kind in m.counts
    ]
    return pl.DataFrame(rows, infer_schema_length=None).to_arrow()


def _sources(source: PathLike, asked: _Asked) -> Iterator[_Source]:
    published: dict[str, DataSet] = {}
    for dataset in (d for b in BENCHMARKS.values() for d in b.datasets):
        published.setdefault(dataset.name, dataset)
    if str(source) in BENCHMARKS and not Path(source).exists():
        for dataset in BENCHMARKS[str(source)].datasets:
            yield _published(dataset, asked)
    elif str(source) in published and not Path(source).exists():
        yield _published(published[str(source)], asked)
    elif (Path(source) / DESCRIPTION).is_file():
        yield _campaign(Campaign.read(source), asked)
    elif Path(source).exists():
        if not asked.predictions:
            raise InputError(
                "There are no predictions whose errors to sort.",
                where=source,
                do="give some: --predictions FILE",
            )
        yield _files(Path(source), asked)
    else:
        raise InputError(
            "There is no such data set, campaign or file.",
            got=source,
            allowed=f"{', '.join([*BENCHMARKS, *published])}; the folder of a campaign; label sets in a file",
        )


def _published(dataset: DataSet, asked: _Asked) -> _Source:
    fetched = dataset.fetch(asked.progress)
    files = [f for f in fetched.files if asked.fits(f.stem)]
    listed = None
    if dataset.predictions == "imagenet-val-predictions":
        listed = _published_list()
    if asked.predictions:
        own = prediction_files(asked.predictions)
        rows = read_images(asked.rows) if asked.rows else None
        return _Source(
            dataset.name,
            fetched.labels,
            _reader(own, rows, class_list(), asked),
            len(own),
            {**fetched.inputs, **{f.name: sha256(f) for f in own}},
            class_list(),
            fetched.rows,
            listed,
        )
    _check_some(files, asked, [f.stem for f in fetched.files])
    return _Source(
        dataset.name,
        fetched.labels,
        lambda: map(fetched.read, files),
        len(files),
        fetched.inputs,
        class_list(),
        fetched.rows,
        listed,
    )


def _published_list() -> list[str]:
    files = [f.path for f in catalog.entry(MISTAKES).files if f.path.endswith("_mistakes.json")]
    return [i for path in catalog.fetch(MISTAKES, only=files).values() for i in listed_ids(path)]


def _campaign(campaign: Campaign, asked: _Asked) -> _Source:
    labels = campaign.path("labels")
    if not labels.is_file():
        raise InputError(
            "The campaign has no label sets yet.",
            where=campaign.folder,
            do=f"make them of its votes: manyhot aggregate {campaign.folder}",
        )
    classes = read_classes(asked.classes or campaign.path("classes"))
    files = prediction_files(asked.predictions or [campaign.path("predictions")])
    images = campaign.path("images")
    used = [labels, images, *files]
    return _Source(
        campaign.folder.resolve().name,
        read_labels(labels, classes=classes),
        _reader(files, None, classes, asked),
        len(files),
        {f.name: sha256(f) for f in used},
        classes,
        read_images(asked.images or images, classes=classes),
    )


def _files(path: Path, asked: _Asked) -> _Source:
    classes = read_classes(asked.classes) if asked.classes else None
    labels = read_labels(path, classes=classes)
    rows = read_images(asked.rows, classes=classes) if asked.rows else None
    labels = labels if rows is None else labels.with_labels(rows)
    files = prediction_files(asked.predictions)
    return _Source(
        labels.name or "labels",
        labels,
        _reader(files, rows, classes, asked),
        len(files),
        {f.name: sha256(f) for f in [*([path] if path.is_file() else []), *files]},
        classes,
        read_images(asked.images, classes=classes) if asked.images else None,
    )


def _reader(
    files: Sequence[Path], rows: Images | None, classes: ClassList | None, asked: _Asked
) -> Callable[[], Iterator[Predictions]]:
    def read() -> Iterator[Predictions]:
        names, fitting = [], 0
        for file in files:
            found = read_predictions(file, rows=rows, classes=classes)
            names.append(found.model)
            if asked.fits(found.model):
                fitting += 1
                yield found
        _check_some([None] * fitting, asked, names)

    return read


def _check_some(found: Sequence[object], asked: _Asked, names: Sequence[str]) -> None:
    if not found:
        near = difflib.get_close_matches(asked.models[0], names, n=1)
        raise InputError(
            "No model is called so.",
            got=" or ".join(asked.models),
            allowed=", ".join(names),
            do=f"did you mean {near[0]!r}?" if near else None,
        )


def listed_ids(path: PathLike) -> list[str]:
    """Return the images that a file lists as non-prototypical.

    Parameters
    ----------
    path : path-like
        Findings, of which those of the category count where they have one; or images, in any format.
    """
    path = Path(path)
    if path.is_file() and detect(path, ("findings",)) is not None:
        table = read_findings(path)
        if "category" in table.column_names:
            table = table.filter(pa.compute.equal(table["category"], NON_PROTOTYPICAL))
        return [i for i in table["image_id"].to_pylist() if i is not None]
    ids: list[str] = read_images(path).image_id.to_pylist()
    return ids


def _evidence(
    part: _Source,
    superclasses: PathLike | None,
    together: PathLike | None,
    non_prototypical: PathLike | None,
) -> dict[str, Any]:
    """Return what is known beside labels and predictions, as `diagnose_errors` takes it."""
    found: dict[str, Any] = {"non_prototypical": part.listed}
    if non_prototypical is not None:
        found["non_prototypical"] = listed_ids(non_prototypical)
    if together is not None:
        found["together"] = read_labels(together, classes=part.classes)
    if superclasses is not None:
        path = superclasses
        if str(path) == "tsipras" and not Path(path).exists():
            path = catalog.fetch_file("tsipras", "superclasses.npy")
        found["superclasses"] = read_superclasses(path, part.labels.n_classes, part.classes)
    return found


def _similar(
    embeddings: PathLike | None, index: PathLike | None, progress: Progress | None
) -> dict[str, Any]:
    """Return the images that look most like each image, as `diagnose_errors` takes them."""
    if embeddings is None and index is not None:
        raise InputError(
            "An index is searched for images like those that are embedded.",
            got=f"index {index} alone",
            do="give embeddings of the images, too",
        )
    if embeddings is None:
        return {}
    table, images = neighbours_of(embeddings, index, progress)
    return {"similar": table, "neighbours": images}
