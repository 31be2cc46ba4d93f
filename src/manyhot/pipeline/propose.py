"""A campaign's predictions to its proposals."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from manyhot import tables
from manyhot.classes import ClassList
from manyhot.errors import InputError
from manyhot.files import sha256
from manyhot.formats import read_classes, read_images, read_labels, read_predictions
from manyhot.pipeline.campaign import campaign_models, fetched_set
from manyhot.pipeline.common import PathLike, Progress
from manyhot.steps.propose import RATERS, SECONDS, Proposals, golden_labels, propose
from manyhot.tables import Campaign, Images, Labels, Predictions


def propose_files(
    campaign: PathLike,
    *,
    rule: str = "union",
    models: Sequence[str] = (),
    known: PathLike | None = None,
    leave_out: str = "proposals",
    seconds: float = SECONDS,
    raters: int = RATERS,
    resamples: int = 1000,
    seed: int = 0,
    out: PathLike | None = None,
    call: str = "",
    progress: Progress | None = None,
) -> tuple[Proposals, Path]:
    """Propose labels for the images of a campaign, and write its table ``proposals``.

    Parameters
    ----------
    campaign : path-like
        A folder that `init_campaign` made.
    rule : str
        A registered proposer or call string.
    models : sequence of str
        Patterns of the models to take, such as ``timm/*``; all by default.
    known : path-like, optional
        Label sets of some of the images: a file, a table of golden answers, or a data set of a benchmark. By
        default the campaign's golden answers, if it has any.
    leave_out, seconds, raters, resamples, seed
        As in `manyhot.steps.propose.propose`.
    out : path-like, optional
        Another file than the campaign's ``proposals.parquet``.

    Raises
    ------
    ManyhotError
        As in `manyhot.steps.propose.propose`; also if people answer the campaign's proposals already.
    """
    home = Campaign.read(campaign)
    target = home.path("proposals") if out is None else Path(out)
    _check_target(home, target)
    classes = read_classes(home.path("classes"))
    images = read_images(home.path("images"), classes=classes)
    chosen = _chosen(home, models)
    predictions = _read(chosen, classes, progress)
    sets, source = _known(home, known, classes)
    found = propose(
        Images(images.table, "the campaign"),
        predictions,
        rule,
        known=sets,
        n_classes=len(classes),
        class_hash=classes.hash,
        leave_out=leave_out,
        seconds=seconds,
        raters=raters,
        resamples=resamples,
        seed=seed,
    )
    files = [home.path("images"), home.path("classes"), *chosen.values(), *([source] if source else [])]
    inputs = {path.name: sha256(path) for path in files}
    return found, tables.write(found.table, target, "proposals", call=call, inputs=inputs, about=_told(found))


def _told(found: Proposals) -> dict[str, str]:
    """Return what the metadata of proposals tell beside the table."""
    numbers = {
        "images": found.n_images,
        "left_out": found.n_left_out,
        "seconds": found.seconds,
        "raters": found.raters,
        "hours": found.hours,
    }
    return {
        "n_classes": str(found.n_classes),
        "classes": found.class_hash,
        "models": "\n".join(found.models),
        "rule": json.dumps({"rule": found.rule, **found.about}),
        "cost": json.dumps(numbers),
        "expected": json.dumps(None if found.expected is None else asdict(found.expected)),
    }


def _check_target(home: Campaign, target: Path) -> None:
    if target.suffix.lower() != ".parquet":
        raise InputError("Cannot write this kind of file.", where=target, allowed=".parquet")
    if target == home.path("proposals") and target.exists() and home.path("votes").exists():
        raise InputError(
            "People answer these proposals already.",
            where=target,
            got=f"{home.path('votes').name} beside it",
            do="write others to another file, with --out",
        )


def _chosen(home: Campaign, patterns: Sequence[str]) -> dict[str, Path]:
    found = dict(campaign_models(home))
    if not found:
        raise InputError(
            "The campaign holds no predictions.",
            where=home.path("predictions"),
            allowed="a table of predictions a model, as manyhot predict writes them",
            do=f"predict its images: manyhot predict IMAGES --model NAME --out {home.path('predictions')}",
        )
    for pattern in patterns:
        if not fnmatch.filter(found, pattern):
            raise InputError(
                f"No model of the campaign fits {pattern!r}.",
                where=home.path("predictions"),
                allowed=", ".join(found),
            )
    if not patterns:
        return found
    return {m: f for m, f in found.items() if any(fnmatch.fnmatchcase(m, p) for p in patterns)}


def _read(chosen: dict[str, Path], classes: ClassList, progress: Progress | None) -> list[Predictions]:
    predictions = []
    for done, path in enumerate(chosen.values(), 1):
        predictions.append(read_predictions(path, classes=classes))
        if progress is not None:
            progress("reading predictions", done, len(chosen))
    return predictions


def _known(home: Campaign, given: PathLike | None, classes: ClassList) -> tuple[Labels | None, Path | None]:
    """Return known label sets, and the file they are from."""
    if given is None:
        golden = home.path("golden")
        return (_golden(golden, classes), golden) if golden.is_file() else (None, None)
    if (fetched := fetched_set(given)) is not None:
        return fetched.labels, None
    path = Path(given)
    if path.suffix.lower() == ".parquet" and path.is_file() and _table(path) == "golden":
        return _golden(path, classes), path
    return read_labels(path, classes=classes), path if path.is_file() else None


def _golden(path: Path, classes: ClassList) -> Labels:
    return golden_labels(tables.read(path, "golden"), len(classes), classes.hash, path.name)


def _table(path: Path) -> str:
    try:
        return tables.metadata(pq.read_schema(path)).get("table", "")
    except (pa.ArrowException, OSError):
        return ""
