"""Data sets in; what models lose from one to another, and what share of it is missing labels, out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from manyhot import tables
from manyhot.errors import InputError
from manyhot.files import sha256
from manyhot.formats import detect
from manyhot.formats.tabular import write_csv
from manyhot.pipeline.common import PathLike, Progress, check_apart, check_place
from manyhot.pipeline.compare import PUBLISHED, read_source
from manyhot.pipeline.outputs import write_diagnosis
from manyhot.pipeline.sources import Asked, Source, sources
from manyhot.steps.robustness import Robustness, diagnose_robustness, judge, judged_alike
from manyhot.tables import Labels, Predictions, Results

NAMES = ("robustness", "losses", "corruption_errors")
"""Tables that are written, where they hold something."""


def diagnose_robustness_files(
    datasets: Sequence[PathLike],
    out: PathLike = "robustness",
    *,
    base: str = "",
    predictions: Sequence[PathLike] = (),
    models: Sequence[str] = (),
    without: Sequence[str] = (),
    rows: PathLike | None = None,
    images: PathLike | None = None,
    classes: PathLike | None = None,
    resamples: int = 1000,
    seed: int = 0,
    trust_order: bool = False,
    call: str = "",
    progress: Progress | None = None,
) -> tuple[Robustness, list[Path]]:
    """Measure what models lose between data sets, and write the tables ``robustness`` and ``losses``.

    Parameters
    ----------
    datasets : sequence of path-like
        Each a benchmark or one of its data sets, such as ``imagenet-val``; a campaign; label sets, or an
        images table, in any format: these are judged here, on the images that original labels and label sets
        can judge both. Or results, as `manyhot.compare_files` takes them: a folder that ``manyhot evaluate``
        wrote, or ``timm-results``.
    out : path-like
        The folder that both tables are written into, as Parquet and CSV.
    base : str
        The data set that others are compared with; the first by default.
    predictions : sequence of path-like
        Files and folders, in place of the published models or those of the campaign or folder; each data set
        takes those of its images.
    models : sequence of str
        Patterns of names of the models that are judged here, such as ``resnet*``.
    without : sequence of str
        Patterns of models that are left out.
    rows, images, classes
        As in `manyhot.evaluate_files`.
    resamples, seed, trust_order
        As in `manyhot.evaluate`.

    Raises
    ------
    ManyhotError
        For each kind of bad input; nothing is written then.
    """
    out = Path(out)
    check_apart([*datasets, *predictions, rows, images, classes], out, NAMES)
    for name in NAMES:
        check_place(out / f"{name}.parquet", name)
    asked = Asked(predictions, models, rows, images, classes, progress)
    options = {"resamples": resamples, "seed": seed, "trust_order": trust_order}
    found: list[Results] = []
    notes: list[str] = []
    inputs = {Path(p).name: sha256(p) for p in (rows, images, classes) if p and Path(p).is_file()}
    for source in datasets:
        if _holds_results(source):
            found += read_source(source, progress)
            continue
        for part in sources(source, asked):
            results, said = _judged(part, asked, options)
            found.append(results)
            notes += said
            inputs |= part.inputs
    done = diagnose_robustness(found, base=base, without=without)
    done = replace(done, notes=(*dict.fromkeys(notes), *done.notes))
    return done, write_robustness(done, out, call=call, inputs=inputs, about={"seed": str(seed)})


def write_robustness(
    found: Robustness, out: Path, *, call: str, inputs: Mapping[str, str], about: Mapping[str, str]
) -> list[Path]:
    """Write the tables into a folder, as Parquet and CSV, with notes in the metadata, and the page."""
    told = {"notes": json.dumps(found.notes, ensure_ascii=False), **about}
    written = []
    for name, table in found.tables.items():
        path = out / f"{name}.parquet"
        written.append(tables.write(table, path, name, call=call, inputs=dict(inputs), about=told))
        written.append(write_csv(table, path.with_suffix(".csv")))
    return [*written, write_diagnosis(out)]


def _holds_results(source: PathLike) -> bool:
    path = Path(source)
    if str(source) in PUBLISHED or (path / "results.parquet").is_file():
        return True
    return path.is_file() and detect(path, ("labels", "images")) is None


def _judged(part: Source, asked: Asked, options: Mapping[str, object]) -> tuple[Results, list[str]]:
    single = part.labels is None
    # A campaign without label sets has original labels all the same.
    labels = replace(part, campaign=None).sets() if single else part.sets()
    alike, said = (labels, ()) if single else judged_alike(labels)
    told = _told(part, asked.progress)
    judged = judge(
        alike,
        _covering(part, labels),
        dataset=part.name,
        single=single,
        misfits=part.misfits,
        progress=told,
        **options,  # type: ignore[arg-type]
    )
    skipped = [f"{n.model}: {n.text}" for n in judged.notes if n.kind == "skipped"]
    return judged.tables(part.name), [f"{part.name}: {text}" for text in (*said, *skipped)]


def _covering(part: Source, labels: Labels) -> Iterator[Predictions]:
    """Yield the models that predict any of the images: of several data sets each has its own predictions."""
    found = False
    for model in part.models():
        if tables.count_shared(labels.image_id, model.image_id):
            found = True
            yield model
    if not found:
        raise InputError(
            f"No predictions are of the images of {part.name}.",
            got=f"images such as {labels.image_id[0]}",
            do="give predictions of them: --predictions FILE",
        )


def _told(part: Source, progress: Progress | None) -> Callable[[int, str], None] | None:
    if progress is None:
        return None
    return lambda done, _: progress(f"judging on {part.name}", min(done, part.n + 1), part.n + 1)
