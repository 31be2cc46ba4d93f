"""Published data, campaigns or files in, sorted errors out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from manyhot import catalog, tables
from manyhot.errors import InputError
from manyhot.files import sha256
from manyhot.formats import detect, read_findings, read_images, read_labels
from manyhot.formats.superclasses import read_superclasses
from manyhot.formats.tabular import write_csv
from manyhot.pipeline.common import PathLike, Progress, check_apart, check_place
from manyhot.pipeline.sources import Asked, Source, similar_images, sources
from manyhot.steps.diagnose import diagnose_errors
from manyhot.steps.findings import SortedErrors
from manyhot.tables import Labels

MISTAKES = "imagenet-mistakes"
"""The entry of the catalogue whose experts called images of ImageNet's validation set non-prototypical."""

VALIDATED = "imagenet-val-predictions"
"""The entry with predictions of these images."""

NON_PROTOTYPICAL = "non-prototypical"
"""Their category."""


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
    embeddings_of: str = "",
    trust_order: bool = False,
    call: str = "",
    progress: Progress | None = None,
) -> tuple[SortedErrors, list[Path]]:
    """Sort the errors of models by what they are, and write the table ``findings``.

    Parameters
    ----------
    source : path-like
        A benchmark or one of its data sets, such as ``imagenet-val``; a campaign; a folder that ``manyhot
        predict`` wrote; label sets or an images table, in any format.
    out : path-like
        A Parquet file. Beside it ``…-counts.csv`` is written: a row is a model and a kind.
    predictions : sequence of path-like
        Files and folders of predictions; in place of the published models or those of the campaign or folder.
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
    embeddings_of : str
        The model whose embeddings they are; not needed where `embeddings` has those of one model.

    Raises
    ------
    ManyhotError
        For each kind of bad input; nothing is written then.
    """
    out = Path(out)
    if out.suffix.lower() != ".parquet":
        raise InputError("Cannot write this kind of file.", where=out, allowed=".parquet")
    asked = Asked(predictions, models, rows, images, classes, progress)
    files = (rows, images, classes, superclasses, together, non_prototypical)
    beside = out.with_name(f"{out.stem}-counts.csv")
    for path in (out, beside):
        check_apart([source, *predictions, *files], path)
    check_place(out, "findings")
    options: dict[str, Any] = {"event": event, "above": above, "trust_order": trust_order}
    if rules is not None:
        options["rules"] = rules
    options |= similar_images(embeddings, index, embeddings_of, progress)
    parts = list(sources(source, asked))
    found = []
    for part in parts:
        labels = part.sets()
        known = _evidence(part, labels, superclasses, together, non_prototypical)
        found.append(_sort(part, labels, options | known, progress))
    done = SortedErrors.concat(found)
    inputs = {name: told for part in parts for name, told in part.inputs.items()}
    inputs |= {Path(p).name: sha256(p) for p in files if p and Path(p).is_file()}
    written = tables.write(done.table, out, "findings", call=call, inputs=inputs, about=_about(done))
    return done, [written, write_csv(counts_table(done), beside)]


def _sort(
    part: Source, labels: Labels, options: Mapping[str, Any], progress: Progress | None
) -> SortedErrors:
    def told(done: int, _: str) -> None:
        assert progress is not None
        progress(f"sorting errors on {part.name}", done, part.n)

    return diagnose_errors(
        labels,
        part.models(),
        images=part.images,
        classes=part.classes,
        dataset=part.name,
        misfits=part.misfits,
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


def _published_list(part: Source) -> list[str] | None:
    """Return the images of ImageNet's validation set that experts called non-prototypical."""
    if part.published is None or part.published.predictions != VALIDATED:
        return None
    files = [f.path for f in catalog.entry(MISTAKES).files if f.path.endswith("_mistakes.json")]
    return [i for path in catalog.fetch(MISTAKES, only=files).values() for i in listed_ids(path)]


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
    part: Source,
    labels: Labels,
    superclasses: PathLike | None,
    together: PathLike | None,
    non_prototypical: PathLike | None,
) -> dict[str, Any]:
    """Return what is known beside labels and predictions, as `diagnose_errors` takes it."""
    listed = _published_list(part) if non_prototypical is None else listed_ids(non_prototypical)
    found: dict[str, Any] = {"non_prototypical": listed}
    if together is not None:
        found["together"] = read_labels(together, classes=part.classes)
    if superclasses is not None:
        path = superclasses
        if str(path) == "tsipras" and not Path(path).exists():
            path = catalog.fetch_file("tsipras", "superclasses.npy")
        found["superclasses"] = read_superclasses(path, labels.n_classes, part.classes)
    return found
