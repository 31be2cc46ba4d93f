"""Published data, campaigns or files in; which classes hang on which companions, out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from manyhot import tables
from manyhot.files import sha256
from manyhot.formats.tabular import write_csv
from manyhot.pipeline.common import PathLike, Progress, check_apart, check_place
from manyhot.pipeline.outputs import write_diagnosis
from manyhot.pipeline.sources import Asked, sources
from manyhot.steps.companions import Companions, diagnose_companions


def diagnose_companions_files(
    source: PathLike,
    out: PathLike = "companions",
    *,
    predictions: Sequence[PathLike] = (),
    models: Sequence[str] = (),
    k: int = 5,
    probability: float | None = None,
    least: int = 25,
    labelled: bool = False,
    unasked: bool = False,
    rows: PathLike | None = None,
    images: PathLike | None = None,
    classes: PathLike | None = None,
    trust_order: bool = False,
    call: str = "",
    progress: Progress | None = None,
) -> tuple[Companions, list[Path]]:
    """Measure recall with and without each companion, and write it as the table ``companions``.

    Parameters
    ----------
    source, predictions, models, rows, images, classes
        As in `manyhot.diagnose_errors_files`.
    out : path-like
        The folder that the table is written into, as Parquet and CSV, and a page of all diagnoses there.
    k, probability, least, labelled, unasked, trust_order
        As in `manyhot.diagnose_companions`.

    Raises
    ------
    ManyhotError
        For each kind of bad input; nothing is written then.
    """
    out = Path(out)
    files = (rows, images, classes)
    check_apart([source, *predictions, *files], out, ("companions",))
    check_place(out / "companions.parquet", "companions")
    asked = Asked(predictions, models, rows, images, classes, progress)
    found: list[Companions] = []
    inputs = {Path(p).name: sha256(p) for p in files if p and Path(p).is_file()}
    for part in sources(source, asked):
        judged = diagnose_companions(
            part.sets(),
            part.models(),
            k=k,
            probability=probability,
            least=least,
            labelled=labelled,
            unasked=unasked,
            images=part.images,
            classes=part.classes,
            dataset=part.name,
            trust_order=trust_order,
            misfits=part.misfits,
            progress=progress,
        )
        found.append(judged)
        inputs |= part.inputs
    done = Companions.concat(found)
    about = {"notes": json.dumps(done.notes, ensure_ascii=False), "least": str(least)}
    about["found"] = f"among the best {k}" if probability is None else f"probability >= {probability:g}"
    about |= {"labelled": json.dumps(labelled), "unasked": json.dumps(unasked)}
    path = out / "companions.parquet"
    written = [tables.write(done.table, path, "companions", call=call, inputs=inputs, about=about)]
    written.append(write_csv(done.table, path.with_suffix(".csv")))
    return done, [*written, write_diagnosis(out)]
