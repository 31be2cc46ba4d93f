"""Images and objects in; which predictions hang on what is beside the object out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from manyhot import tables
from manyhot.classes import ClassList, from_keys
from manyhot.errors import InputError, MatchError
from manyhot.files import sha256
from manyhot.formats import read_classes, read_labels, read_objects
from manyhot.formats.tabular import write_csv
from manyhot.models import Network, Settings, find_model, open_source
from manyhot.pipeline.common import PathLike, check_apart, check_place
from manyhot.pipeline.outputs import forget_pictures, write_diagnosis
from manyhot.pipeline.predict import Notify
from manyhot.pipeline.removing import EXAMPLES, Removing
from manyhot.steps.shortcuts import (
    LEAST,
    THRESHOLD,
    Pair,
    Shortcuts,
    States,
    diagnose_shortcuts,
    find_pairs,
    images_to_alter,
    named_pairs,
    states_of_labels,
    states_of_objects,
)
from manyhot.tables import Objects
from manyhot.tables.definitions import FILLS

NAMES = ("shortcuts", "shortcut_examples")
"""Tables that are written."""


def diagnose_shortcuts_files(
    source: PathLike,
    objects: PathLike,
    out: PathLike = "shortcuts",
    *,
    model: str,
    masks: PathLike | None = None,
    labels: PathLike | None = None,
    classes: PathLike | None = None,
    pairs: Sequence[str] = (),
    fills: Sequence[str] = FILLS[:1],
    least: int = LEAST,
    threshold: float = THRESHOLD,
    at: float = 0.5,
    seed: int = 0,
    resamples: int = 1000,
    engine: str = "auto",
    call: str = "",
    notify: Notify | None = None,
) -> tuple[Shortcuts, list[Path]]:
    """Take objects out of images, and count how many predictions of what is beside them change.

    For each ordered pair of classes that enough images show, the images are predicted as they are, without
    the companion, and without a region of its shape elsewhere. What an earlier run of the same command
    predicted is kept.

    Parameters
    ----------
    source : path-like
        Images; see `manyhot.models.open_source`.
    objects : path-like
        Boxes, or more, of objects; see `manyhot.read_objects`.
    out : path-like
        The folder that both tables, predictions and examples are written into.
    model : str
        See `manyhot.models.find_model`.
    masks : path-like, optional
        Semantic masks; see `manyhot.read_objects`.
    labels : path-like, optional
        Label sets; by default what the objects tell.
    classes : path-like, optional
        The class list that objects and labels count in, where they do not tell.
    pairs : sequence of str
        ``main:companion``, by key or name; by default all.
    fills : sequence of str
        ``grey``, ``inpaint`` or both.
    least : int
        Images with both classes that a pair needs.
    threshold : float
        Share of images that must be lost for a pair to be called a shortcut.
    at : float
        Probability from which a class is predicted; of logits the best class is.
    seed : int
        Of the places of controls, and of the bootstrap.
    resamples : int
        Of the bootstrap; 0 for no intervals of average precisions.
    engine : str
        See `manyhot.predict`.
    notify : callable, optional
        Called with the kind of an event and what is told about it, as by `manyhot.predict_files`.

    Raises
    ------
    ManyhotError
        For each kind of bad input; or no pair can be tested.
    """
    out = Path(out)
    _check_options(fills, least, threshold, at)
    _check_outside(source, out)
    check_apart([source, objects, masks, labels, classes], out, NAMES)
    for name in NAMES:
        check_place(out / f"{name}.parquet", name)
    given = None if classes is None else read_classes(classes)
    found = read_objects(objects, classes=given, masks=masks)
    known = given or from_keys(found.keys, found.name)
    states = _states(found, labels, known)
    only = named_pairs(pairs, known)
    network = find_model(model, given)
    job = Removing(
        open_source(source), network, found, out, Settings(None, engine), fills, seed, call, notify
    )

    def find(states: States) -> list[Pair]:
        return find_pairs(states, network.classes, found.class_id.tolist(), least=least, only=only)

    options: dict[str, Any] = {"at": at, "threshold": threshold, "resamples": resamples, "seed": seed}
    judged = _judged(job, states, find, least, options)
    inputs = {Path(p).name: sha256(p) for p in (objects, masks, labels, classes) if p and Path(p).is_file()}
    about = {"seed": str(seed), "least": str(least), "threshold": f"{threshold:g}"}
    return judged, _write(judged, out, call, inputs, about)


def _judged(
    job: Removing,
    states: States,
    find: Callable[[States], list[Pair]],
    least: int,
    options: Mapping[str, Any],
) -> Shortcuts:
    """Predict what is needed, judge it, and draw examples."""
    _check_any(find(states), least, job.network)
    before = job.predict_originals(images_to_alter(states, find(states)))
    seen = states.of(before.image_id)
    if not len(seen.image_id):
        raise MatchError(
            "Nothing is known about any of the images: neither objects nor label sets are of them.",
            where=job.source.uri,
            got=f"images such as {before.image_id[0]}",
            allowed=f"such as {states.image_id[0]}",
        )
    pairs = find(seen)
    _check_any(pairs, least, job.network)
    after = job.predict_altered(images_to_alter(seen, pairs))
    judged = diagnose_shortcuts(
        seen,
        pairs,
        before,
        after,
        job.network.classes,
        fills=job.fills,
        least=least,
        notes=job.notes(states, before),
        **options,
    )
    forget_pictures(job.out, "shortcut_examples", ("before", "after", "control"), EXAMPLES)
    return replace(judged, shortcut_examples=job.draw(judged.shortcut_examples))


def _write(
    judged: Shortcuts, out: Path, call: str, inputs: Mapping[str, str], about: Mapping[str, str]
) -> list[Path]:
    told = {"notes": json.dumps(judged.notes, ensure_ascii=False), **about}
    written = []
    for name, table in judged.tables.items():
        path = out / f"{name}.parquet"
        written.append(tables.write(table, path, name, call=call, inputs=inputs, about=told))
        written.append(write_csv(table, path.with_suffix(".csv")))
    return [*written, write_diagnosis(out)]


def _check_options(fills: Sequence[str], least: int, threshold: float, at: float) -> None:
    strange = [fill for fill in fills if fill not in FILLS]
    if strange or not fills:
        raise InputError(
            "Nothing tells how to fill.", got=", ".join(strange) or None, allowed=", ".join(FILLS)
        )
    if least < 1:
        raise InputError("least must be at least 1.", got=least)
    for name, value in (("threshold", threshold), ("at", at)):
        if not 0 < value <= 1:
            raise InputError(f"{name} is a share.", got=value, allowed="above 0, at most 1")


def _check_outside(source: PathLike, out: Path) -> None:
    """Refuse to draw pictures among the images: the next run would read them."""
    if Path(source).is_dir() and out.resolve().is_relative_to(Path(source).resolve()):
        raise InputError(
            "The output would lie among the images.",
            where=out,
            got=f"images in {source}",
            do="choose an --out outside of it",
        )


def _states(objects: Objects, labels: PathLike | None, classes: ClassList) -> States:
    if labels is None:
        return states_of_objects(objects, classes)
    return states_of_labels(read_labels(labels, classes=classes), classes)


def _check_any(pairs: Sequence[Pair], least: int, network: Network) -> None:
    if any(not pair.why_not for pair in pairs):
        return
    reasons = Counter(pair.why_not for pair in pairs)
    most = max((pair.both for pair in pairs if pair.why_not.startswith("fewer")), default=0)
    raise InputError(
        "No pair of classes can be tested.",
        where=network.name,
        got="; ".join(f"{n:,} pairs: {why}" for why, n in reasons.items()) or "no two classes in one image",
        allowed=f"a main class that the model predicts, and a companion with objects, in {least:,} images",
        do=f"--least {most} would test some" if most else None,
    )
