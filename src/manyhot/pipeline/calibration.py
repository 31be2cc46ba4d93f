"""Published data, campaigns or files in; what recalibration does, and prediction sets, out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from manyhot import tables
from manyhot.files import sha256
from manyhot.formats.tabular import write_csv
from manyhot.pipeline.common import PathLike, Progress, check_apart, check_place
from manyhot.pipeline.sources import Asked, sources
from manyhot.steps.recalibration import Calibration, diagnose_calibration
from manyhot.tables.definitions import RECALIBRATIONS

NAMES = ("calibration", "prediction_sets")
"""Tables that are written."""


def diagnose_calibration_files(
    source: PathLike,
    out: PathLike = "calibration",
    *,
    predictions: Sequence[PathLike] = (),
    models: Sequence[str] = (),
    methods: Sequence[str] = RECALIBRATIONS,
    alpha: float = 0.1,
    fit: float = 0.5,
    seed: int = 0,
    resamples: int = 1000,
    rows: PathLike | None = None,
    images: PathLike | None = None,
    classes: PathLike | None = None,
    trust_order: bool = False,
    call: str = "",
    progress: Progress | None = None,
) -> tuple[Calibration, list[Path]]:
    """Recalibrate models, and write what that does as the tables ``calibration`` and ``prediction_sets``.

    Parameters
    ----------
    source, predictions, models, rows, images, classes
        As in `manyhot.diagnose_errors_files`.
    out : path-like
        The folder that both tables are written into, as Parquet and CSV.
    methods, alpha, fit, seed, resamples, trust_order
        As in `manyhot.diagnose_calibration`.

    Raises
    ------
    ManyhotError
        For each kind of bad input; nothing is written then.
    """
    out = Path(out)
    files = (rows, images, classes)
    check_apart([source, *predictions, *files], out, NAMES)
    for name in NAMES:
        check_place(out / f"{name}.parquet", name)
    asked = Asked(predictions, models, rows, images, classes, progress)
    found: list[Calibration] = []
    inputs = {Path(p).name: sha256(p) for p in files if p and Path(p).is_file()}
    for part in sources(source, asked):
        judged = diagnose_calibration(
            part.sets(),
            part.models(),
            methods=methods,
            alpha=alpha,
            fit=fit,
            seed=seed,
            resamples=resamples,
            images=part.images,
            dataset=part.name,
            trust_order=trust_order,
            misfits=part.misfits,
            progress=progress,
        )
        found.append(judged)
        inputs |= part.inputs
    done = Calibration.concat(found)
    about = {"notes": json.dumps(done.notes, ensure_ascii=False), "fit": json.dumps(fit), "seed": str(seed)}
    written = []
    for name, table in done.tables.items():
        path = out / f"{name}.parquet"
        written.append(tables.write(table, path, name, call=call, inputs=inputs, about=about))
        written.append(write_csv(table, path.with_suffix(".csv")))
    return done, written
