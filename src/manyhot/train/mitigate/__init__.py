"""Fit heads with less of a shortcut, and judge them: the function of ``manyhot mitigate``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot import tables
from manyhot.classes import from_keys
from manyhot.diagnose.page import write_diagnosis
from manyhot.diagnose.shortcut_pairs import MIN_IMAGES, named_pairs
from manyhot.errors import InputError, MatchError
from manyhot.files import sha256
from manyhot.formats import read_classes, read_labels, read_objects
from manyhot.formats.tabular import write_csv
from manyhot.formats.writing import PathLike, check_apart, check_place
from manyhot.predict.find import find_model, is_published
from manyhot.predict.run import Notify, PredictSettings
from manyhot.predict.sources import open_source
from manyhot.predict.weights import Head, with_backbone, write_head
from manyhot.registry import register
from manyhot.report.chapter import Chapter, Row, Tables, listing, rows_of, with_ends
from manyhot.report.listings import Head as listings_Head
from manyhot.report.listings import Listing
from manyhot.tables.definitions import FILLS
from manyhot.tables.sets import States
from manyhot.train.mitigate.features import FeatureExtractor, ImageFeatures, file_slug
from manyhot.train.mitigate.fit import HeadFitter
from manyhot.train.mitigate.held_out import HeldOutImages, HeldOutMetric, Mitigation, MitigationRows
from manyhot.train.mitigate.treatment import MitigationLabels, Pair, states_and_labels
from manyhot.train.splits import HeldOut, held_out_of

LOSSES = ("softmax", "sigmoid")


def mitigate_files(
    source: PathLike,
    objects: PathLike,
    out: PathLike = "mitigation",
    *,
    model: str,
    pairs: Sequence[str],
    masks: PathLike | None = None,
    labels: PathLike | None = None,
    classes: PathLike | None = None,
    split: PathLike | None = None,
    held_out: float = 0.3,
    losses: Sequence[str] = LOSSES,
    fill: str = FILLS[0],
    capped: bool = True,
    least: int = MIN_IMAGES,
    seed: int = 0,
    resamples: int = 1000,
    engine: str = "auto",
    call: str = "",
    notify: Notify | None = None,
) -> tuple[Mitigation, list[Path]]:
    """Fit heads on a backbone with and without treatment of a shortcut, and judge them on other images.

    What an earlier run of the same command predicted is kept.

    Parameters
    ----------
    source, objects, masks, classes, engine, notify
        As in `manyhot.diagnose_shortcuts`.
    out : path-like
        The folder that the table ``mitigation``, predictions and heads are written into.
    model : str
        The backbone.
    pairs : sequence of str
        ``main:companion``, by key or name.
    labels : path-like, optional
        Label sets, and the original labels that heads over single labels are fitted to; by default the
        classes of the objects, and there are no such heads.
    split : path-like, optional
        A table with ``image_id`` and ``split``; images whose split is ``test`` are held out.
    held_out : float
        Without it: the share of images that is held out, chosen by the seed.
    losses : sequence of str
        ``softmax``, ``sigmoid`` or both.
    fill : str
        What is put in the place of objects: ``grey`` or ``inpaint``.
    capped : bool
        Whether no more images are added than the published caps allow; see `manyhot.core.shortcuts.plan`.
    least : int
        Images with both classes that a pair needs for fitting.
    seed : int
        Of images held out and pasted on, and of the bootstrap.
    resamples : int
        Of the bootstrap; 0 for no intervals.

    Raises
    ------
    ManyhotError
        For each kind of bad input; or no pair can be treated.
    """
    out = Path(out)
    _check_options(losses, fill, pairs)
    check_apart([source, objects, masks, labels, classes, split], out, ["mitigation"])
    check_place(out / "mitigation.parquet", "mitigation")
    given = None if classes is None else read_classes(classes)
    found = read_objects(objects, classes=given, masks=masks)
    known = given or from_keys(found.keys, found.name)
    given_labels = None if labels is None else read_labels(labels, classes=known)
    states, label = states_and_labels(found, given_labels, known)
    asked = named_pairs(pairs, known)
    backbone = FeatureExtractor(
        source=open_source(source),
        network=find_model(model, given),
        objects=found,
        out=out,
        settings=PredictSettings(1, engine, embeddings=True),
        call=call,
        notify=notify,
    )
    images = _images(backbone, states, label, held_out_of(split, held_out, seed), fill, seed)
    images.labels.check_pairs(asked, least)
    images.prepare(asked)
    heads: dict[Path, None] = {}

    def save(head: Head, stem: str) -> None:
        heads[write_head(head, out / "heads" / f"{stem}.safetensors", call=call)] = None

    done = _judged(
        images,
        HeadFitter(images, model, capped),
        pairs=asked,
        losses=[loss for loss in losses if loss == "sigmoid" or images.labels.labelled],
        judge=images.labels.held_out(resamples, seed),
        save=save,
        about={"dataset": Path(str(source)).stem, "model": backbone.network.name},
    )
    done = replace(done, notes=(*_notes(images, states), *done.notes, *_how_to_use(model, heads)))
    files = [Path(p) for p in (objects, masks, labels, classes, split) if p]
    inputs = {p.name: sha256(p) for p in files if p.is_file()}
    about = {"notes": json.dumps(done.notes, ensure_ascii=False), "seed": str(seed)}
    path = out / "mitigation.parquet"
    written = [tables.write(done.mitigation, path, "mitigation", call=call, inputs=inputs, about=about)]
    written += [write_csv(done.mitigation, path.with_suffix(".csv")), *heads]
    return done, [*written, write_diagnosis(out)]


def _check_options(losses: Sequence[str], fill: str, pairs: Sequence[str]) -> None:
    strange = [loss for loss in losses if loss not in LOSSES]
    if strange or not losses:
        raise InputError("There is no such loss.", got=", ".join(strange) or None, allowed=", ".join(LOSSES))
    if fill not in FILLS:
        raise InputError("Nothing tells how to fill.", got=fill, allowed=", ".join(FILLS))
    if not pairs:
        raise InputError(
            "No pair is named.",
            allowed="MAIN:COMPANION, such as horse:person",
            do="manyhot diagnose shortcuts finds those that are worth it",
        )


def _images(
    predict: FeatureExtractor, states: States, label: Any, held: HeldOut, fill: str, seed: int
) -> ImageFeatures:
    ids, features = predict("original")
    _check_objects(predict, ids)
    at = pc.index_in(ids, states.image_id)
    there = at.is_valid().to_numpy(zero_copy_only=False)
    rows = at.drop_null().to_numpy()
    names = ids.filter(pa.array(there)).to_pylist()
    known = MitigationLabels(names, states.state[rows], label[rows], held.of(names), states.classes)
    return ImageFeatures(predict, known, features[there], fill, seed)


def _check_objects(predict: FeatureExtractor, ids: pa.Array) -> None:
    there = predict.objects.images.keys()
    if not there & set(ids.to_pylist()):
        raise MatchError(
            "None of the objects is in one of the images.",
            where=predict.source.uri,
            got=f"images such as {ids[0]}",
            allowed=f"such as {next(iter(there), 'none: there are no objects')}",
            do="check that both are of the same data set",
        )


def _judged(
    images: ImageFeatures,
    fitter: HeadFitter,
    *,
    pairs: Sequence[Pair],
    losses: Sequence[str],
    judge: HeldOutImages,
    save: Callable[[Head, str], None],
    about: dict[str, Any],
) -> Mitigation:
    """Fit heads of all pairs, losses and treatments, save them, and judge them."""
    known, rows, notes = images.labels, MitigationRows({}, int(images.labels.held.sum())), []
    for pair in pairs:
        added, note = fitter.added(pair)
        notes.append(note)
        names = [known.classes.names[c] for c in pair]
        of = dict(zip(("main", "companion", "main_name", "companion_name"), (*pair, *names), strict=True))
        for loss in losses:
            untreated: dict[str, HeldOutMetric] | None = None
            for treatment, head in fitter.heads(loss, pair, added):
                stem = _stem(loss, treatment, [known.classes.keys[c] for c in pair])
                save(head, stem)
                measured = _measured(images, judge, head, pair)
                named = {"model": f"{about['model']}, {loss}", "treatment": treatment}
                rows.add(about | of | named | {"head": f"heads/{stem}.safetensors"}, measured, untreated)
                untreated = untreated or measured
    return Mitigation.of(rows.rows, notes)


def _stem(loss: str, treatment: str, keys: Sequence[str]) -> str:
    parts = [loss] if treatment == "none" else [loss, treatment]
    return "-".join(map(file_slug, [*parts, *(keys if "augmentation" in treatment else ())]))


def _measured(
    images: ImageFeatures, judge: HeldOutImages, head: Head, pair: Pair
) -> dict[str, HeldOutMetric]:
    known = images.labels
    gone = images.removed(pair[1], known.held & known.both(pair))
    place = np.cumsum(known.held) - 1
    p, after = (head.probabilities(x) for x in (images.features[known.held], gone.features))
    return judge.measure(p, after, place[gone.rows], head.loss == "softmax", pair)


def _how_to_use(model: str, heads: Iterable[Path]) -> Iterator[str]:
    """Yield how heads are models, where their files may not name the backbone."""
    if not is_published(model):
        line = with_backbone(next(iter(heads)), model)
        yield (
            "the file of a head may name published weights alone as its backbone, and this backbone is none: "
            f"name it with each head, as in --model {line}, wherever a model is asked for"
        )


def _notes(images: ImageFeatures, states: States) -> Iterator[str]:
    """Yield what was passed over."""
    lost = len(states.image_id) - len(images.labels.names)
    if lost:
        yield f"{lost:,} images with labels or objects were not predicted, and do not count"
    if not images.labels.labelled:
        yield "there are no original labels: heads are fitted to label sets alone"
    yield from images.predict.skipped


_WORTH = {
    "lost": "Lost without the companion",
    "flips": "Flip without the companion",
    "recall_gap": "Recall gap",
    "hallucination_gap": "Hallucination gap",
    "ap": "Average precision",
    "ap_balanced": "Average precision, balanced",
    "top1": "Top-1, original labels",
    "real1": "ReaL accuracy, label sets",
    "map": "Mean average precision",
}


@register("chapter", "mitigation")
def _mitigation(data: Tables, folder: Path, draw: bool) -> Chapter | None:
    rows = rows_of(data, "mitigation")
    if not rows:
        return None
    pairs: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        pairs.setdefault((row["main_name"], row["companion_name"]), []).append(row)
    lead = (
        "Heads fitted anew so that the companion says nothing, each judged on the same images held out. In "
        "brackets 95 % intervals. Read the gaps beside what is lost in accuracy.",
    )
    treated = tuple(_treated(i, pair, own) for i, (pair, own) in enumerate(pairs.items(), 1))
    return Chapter("mitigation", "Mitigation", "What helps against them", lead, (), treated)


def _treated(i: int, pair: tuple[str, str], rows: Sequence[Row]) -> Listing:
    """Return a table of a pair: a row a metric and model, a column a treatment."""
    treatments = list(dict.fromkeys(r["treatment"] for r in rows))
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for r in rows:
        own = cells.setdefault((str(_WORTH.get(r["metric"], r["metric"])), r["model"]), {})
        own[r["treatment"]] = with_ends(r["value"], r["lo"], r["hi"], 1)
    heads = (
        listings_Head("", number=False),
        listings_Head("Model", number=False),
        *(listings_Head(t.capitalize()) for t in treatments),
    )
    lines = [{"cells": (*key, *(own.get(t, "") for t in treatments))} for key, own in cells.items()]
    return listing(f"treated-{i}", f"{pair[0]} and {pair[1]}", heads, lines, lambda line: line["cells"])
