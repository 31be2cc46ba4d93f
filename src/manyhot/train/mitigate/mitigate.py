"""Fit and evaluate heads that depend less on a shortcut: the function of ``manyhot mitigate``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.classes import ClassList, from_keys
from manyhot.command import command
from manyhot.console import table_lines
from manyhot.diagnose.page import DiagnosisResult
from manyhot.diagnose.shortcut_pairs import MIN_IMAGES, named_pairs
from manyhot.diagnose.shortcuts_result import FILLS
from manyhot.errors import InputError, MatchError
from manyhot.files import sha256
from manyhot.formats import read_classes, read_labels, read_objects
from manyhot.formats.writing import PathLike, check_apart, check_place
from manyhot.parameters import RESAMPLES, AtLeast, OptionName, Resamples, Seed, Shown, Was
from manyhot.predict.models import find_model, is_published
from manyhot.predict.run import PredictSettings
from manyhot.predict.sources import ImagesLike, open_source
from manyhot.predict.sources.label_ids import labels_of_source
from manyhot.predict.weights import Head, with_backbone, write_head
from manyhot.registry import register
from manyhot.report.chapter import Chapter, NextStep, Row, Tables, listing, rows_of, with_ends
from manyhot.report.listings import ColumnHead, Listing
from manyhot.run import QUIET, Run
from manyhot.tables import schema
from manyhot.tables.arrays import States
from manyhot.tables.definitions import COUNT, INT, ITS, REAL, TEXT, bounds, declare_table, interval
from manyhot.train.mitigate.features import TREATMENTS, FeatureExtractor, HeadFitter, ImageFeatures, file_slug
from manyhot.train.mitigate.held_out import (
    HeldOutImages,
    HeldOutMetric,
    MitigationLabels,
    MitigationRows,
    Pair,
    states_and_labels,
)
from manyhot.train.order import HeldOut, HeldOutShare, held_out_of

HeadLoss = Literal["softmax", "sigmoid"]
LOSSES: tuple[HeadLoss, ...] = ("softmax", "sigmoid")

METRIC_LABELS = {
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

declare_table(
    "mitigation",
    (
        TEXT("dataset", "the data set"),
        TEXT("model", "the backbone, and whether its head is a softmax or sigmoids"),
        TEXT("treatment", "treatment with which the head was fitted", values=TREATMENTS),
        INT("main", "main class of the pair"),
        INT("companion", "companion of the pair"),
        TEXT("main_name", "name of main"),
        TEXT("companion_name", "name of companion"),
        TEXT("metric", "what is measured", values=tuple(METRIC_LABELS)),
        REAL("value", "on images held out"),
        *bounds("lo", "hi", "95 % interval of the value, null without one"),
        *interval(
            "change",
            "value minus the value of the same model without treatment",
            f"{ITS} over images",
            value=REAL.optional,
            ends=REAL.optional,
        ),
        COUNT("n", "number of held-out images that count"),
        COUNT("n_skipped", "number of held-out images that do not count"),
        TEXT("head", "file of the head, relative to the folder of the table"),
    ),
)


@dataclass(frozen=True, eq=False)
class Mitigation(DiagnosisResult):
    """Heads fitted with and without treatment of a shortcut.

    Attributes
    ----------
    mitigation : pyarrow.Table
        The table of this name; see `manyhot.tables.TABLES`.
    notes : tuple of str
        Notes about the altered images that were added for fitting, and about skipped images.
    metadata, inputs, written
        As in `Result`.
    """

    NAMES = ("mitigation",)

    mitigation: pa.Table

    def lines(self) -> Iterator[str]:
        """Yield a table for each pair and model, with a column for each treatment."""
        models: dict[tuple[str, str, str], list[Row]] = {}
        for row in self.mitigation.to_pylist():
            models.setdefault((row["main_name"], row["companion_name"], row["model"]), []).append(row)
        for (main, companion, model), rows in models.items():
            n = rows[0]["n"] + rows[0]["n_skipped"]
            yield f"{main}, with and without {companion}; {model}; {n:,} images held out"
            yield from _model_lines(rows)
            yield ""

    def to_json(self) -> dict[str, Any]:
        """Return the rows of the table, and the notes."""
        return {"mitigation": self.mitigation.to_pylist(), "notes": self.notes}


def _model_lines(rows: Sequence[Row]) -> Iterator[str]:
    treatments = list(dict.fromkeys(row["treatment"] for row in rows))
    cells = {(row["metric"], row["treatment"]): row for row in rows}
    table = []
    for metric, label in METRIC_LABELS.items():
        own = [cells[metric, t] for t in treatments if (metric, t) in cells]
        if own:
            values = (_cell(cells[metric, t]) if (metric, t) in cells else "–" for t in treatments)
            counts = list(dict.fromkeys(row["n"] for row in own))
            n = counts if len(counts) == 1 else [row["n"] for row in own]
            table.append((label, *values, " / ".join(f"{count:,}" for count in n)))
    yield from table_lines(("", *treatments, "images"), table)


def _cell(row: Row) -> str:
    gap = row["metric"].endswith("_gap")
    value, lo, hi = (
        None if row[k] is None else f"{100 * row[k]:{'+' if gap else ''}.1f}" for k in ("value", "lo", "hi")
    )
    return f"{value}{'' if gap else '%'}" + ("" if lo is None else f" ({lo} to {hi})")


@command(
    "mitigate",
    examples=(
        "manyhot mitigate photos --objects boxes.parquet --labels labels.parquet --model efficientnet-lite0 "
        "--pair horse:person",
    ),
)
def mitigate(
    images: ImagesLike,
    objects: Annotated[PathLike, OptionName("--objects"), Shown("FILE")],
    *,
    model: Annotated[str, Shown("NAME")],
    pairs: Annotated[Sequence[str], OptionName("--pair"), Shown("PAIR")],
    out: Annotated[PathLike, Shown("FOLDER")] = "mitigation",
    masks: Annotated[PathLike | None, Shown("FOLDER")] = None,
    labels: Annotated[PathLike | None, Shown("FILE")] = None,
    classes: Annotated[PathLike | ClassList | None, Shown("FILE")] = None,
    split: Annotated[PathLike | None, Shown("FILE")] = None,
    held_out: HeldOutShare = 0.3,
    losses: Annotated[Sequence[HeadLoss], OptionName("--loss")] = LOSSES,
    fill: Literal["grey", "inpaint"] = "grey",
    uncapped: bool = False,
    min_images: Annotated[int, AtLeast(1), Was("--least")] = MIN_IMAGES,
    seed: Seed = 0,
    resamples: Resamples = RESAMPLES,
    engine: str = "auto",
    run: Run = QUIET,
) -> Mitigation:
    """Fit the last layer with and without treatment of a shortcut, and evaluate both on held-out images.

    There are two treatments: adding altered images, from which the companion or the class was removed
    (SPIRE), and fitting to label sets instead of single labels. The heads can be used as models, with the
    name head:FILE. A stopped run resumes when it is started again.

    Parameters
    ----------
    images
        Images, as for predict.
    objects
        Boxes or outlines of the objects in the images, as for diagnose shortcuts.
    model
        Name of the backbone, as for predict. A new last layer is fitted to it.
    pairs
        Pair of classes to treat, as MAIN:COMPANION, such as horse:person, by key or name.
    out
        Folder for the table, predictions and heads. It is created if it does not exist.
    masks
        Masks of the objects: a folder of PNGs, or a table with mask_png.
    labels
        Label sets and original labels. By default, the label sets are the classes of the objects, without
        original labels. The loss softmax needs original labels.
    classes
        Class list: a file with one key per line, a table with the columns key and name, or imagenet1k,
        imagenet-a or imagenet-r.
    split
        Table with the columns image_id and split. Images of the split test are held out.
    held_out
        Share of the images that is held out, chosen by the seed, if there is no split.
    losses
        Loss of the heads. By default, heads are fitted with each loss.
    fill
        Replacement for removed objects: grey, or inpainting from the surroundings.
    uncapped
        Add as many altered images as independence requires, even beyond the published caps.
    min_images
        Minimum number of images with both classes of a pair, for fitting.
    seed
        Seed of the held-out images, of pasting, and of the bootstrap.
    resamples
        Number of bootstrap resamples of the held-out images, where 0 skips the intervals.
    engine
        Engine that computes features, as for predict.
    run
        Command line of the call, and callback for its progress.

    Returns
    -------
    Mitigation

    Raises
    ------
    ManyhotError
        If the input is invalid, or if no pair can be treated.
    """
    out = Path(out)
    _check_options(losses, fill, pairs)
    files = [objects, masks, labels, classes, split]
    check_apart([images, *files], out, Mitigation.NAMES)
    check_place(out / "mitigation.parquet", "mitigation")
    given = classes if isinstance(classes, ClassList | None) else read_classes(classes)
    found = read_objects(objects, classes=given, masks=masks)
    class_list = given or from_keys(found.keys, found.name)
    source, matched = open_source(images), ""
    given_labels = None if labels is None else read_labels(labels, classes=class_list)
    if given_labels is not None:
        given_labels, like = labels_of_source(given_labels, source)
        matched = like.text
    states, label = states_and_labels(found, given_labels, class_list)
    asked = named_pairs(pairs, class_list)
    backbone = FeatureExtractor(
        source=source,
        network=find_model(model, given),
        objects=found,
        out=out,
        settings=PredictSettings(1, engine, embeddings=True),
        run=run,
    )
    features = _images(backbone, states, label, held_out_of(split, held_out, seed), fill, seed)
    features.labels.check_pairs(asked, min_images)
    features.prepare(asked)
    heads: dict[Path, None] = {}

    def save(head: Head, stem: str) -> None:
        heads[write_head(head, out / "heads" / f"{stem}.safetensors", call=run.call)] = None

    rows, notes = _judged(
        features,
        HeadFitter(features, model, not uncapped),
        pairs=asked,
        losses=[loss for loss in losses if loss == "sigmoid" or features.labels.labelled],
        judge=features.labels.held_out(resamples, seed),
        save=save,
        about={"dataset": Path(str(images)).stem, "model": backbone.network.name},
    )
    paths = [Path(f) for f in files if isinstance(f, str | os.PathLike)]
    result = Mitigation(
        pa.Table.from_pylist(rows, schema=schema("mitigation")),
        notes=(*filter(None, [matched]), *_notes(features, states), *notes, *_how_to_use(model, heads)),
        metadata={"seed": str(seed)},
        inputs={path.name: sha256(path) for path in paths if path.is_file()},
    )
    *written, page = result.write(out, run=run)
    return replace(result, written=(*written, *heads, page))


def _check_options(losses: Sequence[str], fill: str, pairs: Sequence[str]) -> None:
    strange = [loss for loss in losses if loss not in LOSSES]
    if strange or not losses:
        raise InputError(
            "This loss does not exist.", got=", ".join(strange) or None, allowed=", ".join(LOSSES)
        )
    if fill not in FILLS:
        raise InputError("This fill does not exist.", got=fill, allowed=", ".join(FILLS))
    if not pairs:
        raise InputError(
            "No pair was passed.",
            allowed="MAIN:COMPANION, such as horse:person",
            do="find pairs to treat with manyhot diagnose shortcuts",
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
            "None of the objects belongs to any of the images.",
            where=predict.source.uri,
            got=f"images such as {ids[0]}",
            allowed=f"objects of images such as {next(iter(there), 'none: there are no objects')}",
            do="check that both belong to the same data set",
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
) -> tuple[list[Row], list[str]]:
    """Fit heads of all pairs, losses and treatments, save them, and return their metrics, and notes."""
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
    return [*rows.rows], notes


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
    """Yield how to name the heads as models, if their files cannot name the backbone."""
    if not is_published(model):
        line = with_backbone(next(iter(heads)), model)
        yield (
            "head files may name only published weights as their backbone, and this backbone is not "
            "published, so pass it with the head wherever a model is needed, as in manyhot predict --model "
            f"{line}"
        )


def _notes(images: ImageFeatures, states: States) -> Iterator[str]:
    """Yield what was skipped."""
    lost = len(states.image_id) - len(images.labels.names)
    if lost:
        yield f"{lost:,} images with labels or objects were not predicted and do not count"
    if not images.labels.labelled:
        yield "there are no original labels, so heads are fitted to label sets only"
    yield from images.predict.skipped


@register(
    "chapter",
    "mitigation",
    next=NextStep("predict with the new last layer.", "manyhot predict IMAGES --model head:FILE"),
)
def _mitigation(data: Tables, folder: Path, draw: bool) -> Chapter | None:
    rows = rows_of(data, "mitigation")
    if not rows:
        return None
    pairs: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        pairs.setdefault((row["main_name"], row["companion_name"]), []).append(row)
    lead = (
        "Treated heads were fitted so that the companion gives no information about the class. "
        "All heads are evaluated on the same held-out images. "
        "Brackets contain 95 % intervals. Weigh smaller gaps against the loss of accuracy.",
    )
    treated = tuple(_treated(i, pair, own) for i, (pair, own) in enumerate(pairs.items(), 1))
    return Chapter("mitigation", "Mitigation", "Mitigation of shortcuts", lead, (), treated)


def _treated(i: int, pair: tuple[str, str], rows: Sequence[Row]) -> Listing:
    """Return the table of a pair: a row for each metric and model, a column for each treatment."""
    treatments = list(dict.fromkeys(r["treatment"] for r in rows))
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for r in rows:
        own = cells.setdefault((str(METRIC_LABELS.get(r["metric"], r["metric"])), r["model"]), {})
        own[r["treatment"]] = with_ends(r["value"], r["lo"], r["hi"], 1)
    heads = (
        ColumnHead("", number=False),
        ColumnHead("Model", number=False),
        *(ColumnHead(t.capitalize()) for t in treatments),
    )
    lines = [{"cells": (*key, *(own.get(t, "") for t in treatments))} for key, own in cells.items()]
    return listing(f"treated-{i}", f"{pair[0]} and {pair[1]}", heads, lines, lambda line: line["cells"])
