"""A campaign's predictions to its proposals."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from manyhot import tables
from manyhot.classes import ClassList
from manyhot.errors import InputError, MatchError
from manyhot.files import sha256
from manyhot.formats import (
    detect,
    read_classes,
    read_golden,
    read_images,
    read_labels,
    read_predictions,
)
from manyhot.pipeline.campaign import campaign_models, fetched_set
from manyhot.pipeline.common import PathLike, Progress, check_apart, check_place
from manyhot.steps.misfits import Misfits
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
        Label sets of some of the images, golden answers, both in any format, or a data set of a benchmark. By
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
    _check_described(home, images, classes)
    chosen, misfits = _chosen(home, models)
    check_apart([*chosen, known], target)
    predictions = _read(chosen, classes, misfits, progress)
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
        misfits=misfits,
    )
    used = misfits.left(chosen)
    files = [home.path("images"), home.path("classes"), *used, *([source] if source else [])]
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
        "notes": json.dumps(found.notes, ensure_ascii=False),
    }


def _check_target(home: Campaign, target: Path) -> None:
    if target.suffix.lower() != ".parquet":
        raise InputError("Cannot write this kind of file.", where=target, allowed=".parquet")
    check_place(target, "proposals")
    if target == home.path("proposals") and target.exists() and home.path("votes").exists():
        raise InputError(
            "People answer these proposals already.",
            where=target,
            got=f"{home.path('votes').name} beside it",
            do="write others to another file, with --out",
        )


def _check_described(home: Campaign, images: Images, classes: ClassList) -> None:
    """Refuse a campaign whose description is not of its own images and classes."""
    told = (home.class_hash, home.n_classes, home.n_images)
    found = (classes.hash, len(classes), len(images))
    if told != found:
        raise MatchError(
            "The description of the campaign is not of the classes and images beside it.",
            where=home.folder / tables.DESCRIPTION,
            got=f"class list {told[0]} of {told[1]:,} classes, {told[2]:,} images",
            allowed=f"class list {found[0]} of {found[1]:,} classes, {found[2]:,} images",
            do="put back what was changed, or make the campaign anew in another folder",
        )


def _chosen(home: Campaign, patterns: Sequence[str]) -> tuple[list[Path], Misfits]:
    """Return the predictions of the models that are asked for, and what is skipped of a campaign's."""
    models, broken = campaign_models(home)
    found: dict[str, Path] = {}
    for model, path in models:
        if model in found:
            raise InputError(
                f"There are two predictions of {model}.",
                where=f"{found[model]} and {path}",
                do="leave one of them out",
            )
        found[model] = path
    if not found and not broken:
        raise InputError(
            "The campaign holds no predictions.",
            where=home.path("predictions"),
            allowed="a table of predictions a model, as manyhot predict writes them",
            do=f"predict its images: manyhot predict IMAGES --model NAME --out {home.path('predictions')}",
        )
    for pattern in patterns:
        if found and not fnmatch.filter(found, pattern):
            raise InputError(
                f"No model of the campaign fits {pattern!r}.",
                where=home.path("predictions"),
                allowed=", ".join(found),
            )
    chosen = [f for m, f in found.items() if not patterns or any(fnmatch.fnmatchcase(m, p) for p in patterns)]
    misfits = Misfits(len(chosen) + len(broken))
    for path, error in broken.items():
        misfits.skip(str(path), error)
    misfits.check_left(len(chosen))
    return chosen, misfits


def _read(
    files: Sequence[Path], classes: ClassList, misfits: Misfits, progress: Progress | None
) -> list[Predictions]:
    predictions = []
    for done, found in enumerate(misfits.reading(files, partial(read_predictions, classes=classes)), 1):
        predictions.append(found)
        if progress is not None:
            progress("reading predictions", done, len(files))
    return predictions


def _known(home: Campaign, given: PathLike | None, classes: ClassList) -> tuple[Labels | None, Path | None]:
    """Return known label sets, and the file they are from."""
    if given is None:
        golden = home.path("golden")
        return (_golden(golden, classes), golden) if golden.exists() else (None, None)
    if (fetched := fetched_set(given)) is not None:
        return fetched.labels, None
    path = Path(given)
    entry = detect(path, ("labels", "golden")) if path.exists() else None
    if entry is not None and entry.about["holds"] == "golden":
        return _golden(path, classes), path if path.is_file() else path / "golden.parquet"
    return read_labels(path, classes=classes), path if path.is_file() else None


def _golden(path: Path, classes: ClassList) -> Labels:
    golden = read_golden(path, classes=classes)
    return golden_labels(golden.to_table(), len(classes), classes.hash, path.name)
