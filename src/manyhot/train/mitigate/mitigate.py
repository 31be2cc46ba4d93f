"""Fit and evaluate heads that depend less on a shortcut: the function of ``manyhot mitigate``."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc
from pyarrow import parquet as pq

from manyhot.command import command
from manyhot.core.companion_effects import MAIN_ONLY
from manyhot.core.sets import NO_LABEL, NOT_ASKED
from manyhot.data.reading_options import ObjectsLike
from manyhot.diagnose.page import forget_pictures
from manyhot.diagnose.pixels.removal import Pixels
from manyhot.diagnose.shortcut_pairs import MIN_IMAGES, named_pairs
from manyhot.diagnose.shortcuts_result import FILLS
from manyhot.errors import InputError, MatchError
from manyhot.extras import required
from manyhot.files import hashes_of
from manyhot.formats import ClassNamesLike, open_class_list
from manyhot.formats.writing import PathLike, check_apart, check_place
from manyhot.parameters import RESAMPLES, AtLeast, OptionName, Resamples, Seed, Shown, Was
from manyhot.predict.decode import decode
from manyhot.predict.engines import EngineOptions
from manyhot.predict.models import find_model, is_published
from manyhot.predict.run import PredictSettings
from manyhot.predict.sources import DECODING, Decoding, ImagesLike, ImageSource, open_source
from manyhot.predict.weights import Head, with_backbone, write_head
from manyhot.run import QUIET, Run
from manyhot.tables import Labels, Objects, Row, schema, write_labels
from manyhot.tables.arrays import States
from manyhot.tables.state_lists import state_lists
from manyhot.train.mitigate.features import Altered, FeatureExtractor, ImageFeatures, file_slug
from manyhot.train.mitigate.fitting import NONE, SETS, HeadFitter, Treatment, base_of, surplus_notes
from manyhot.train.mitigate.held_out import (
    AlteredScores,
    HeldOutImages,
    HeldOutMetric,
    MitigationLabels,
    Pair,
    mitigation_rows,
    states_and_labels,
)
from manyhot.train.mitigate.mitigation_result import (
    HEAD_EXAMPLES_FOLDER,
    Compared,
    Mitigation,
    best_treatment,
    write_examples,
)
from manyhot.train.mitigate.read_inputs import match_objects, read_objects_and_classes, read_source_labels
from manyhot.train.mitigate.verdict import MIN_JUDGED, reason_of, removal_verdict
from manyhot.train.order import HeldOut, HeldOutShare, held_out_of

HeadLoss = Literal["softmax", "sigmoid"]
LOSSES: tuple[HeadLoss, ...] = ("softmax", "sigmoid")


@command(
    "mitigate",
    examples=(
        "manyhot mitigate photos --objects boxes.parquet --labels labels.parquet --model efficientnet-lite0 "
        "--pair horse:person",
    ),
)
def mitigate(
    images: ImagesLike,
    objects: Annotated[ObjectsLike | None, OptionName("--objects")] = None,
    *,
    model: Annotated[str, Shown("NAME")],
    pairs: Annotated[Sequence[str], OptionName("--pair"), Shown("PAIR")],
    out: Annotated[PathLike, Shown("FOLDER")] = "mitigation",
    masks: Annotated[PathLike | None, Shown("FOLDER")] = None,
    labels: Annotated[PathLike | None, Shown("FILE")] = None,
    classes: ClassNamesLike | None = None,
    split: Annotated[PathLike | None, Shown("FILE")] = None,
    held_out: HeldOutShare = 0.3,
    losses: Annotated[Sequence[HeadLoss], OptionName("--loss")] = LOSSES,
    fill: Literal["grey", "inpaint"] = "inpaint",
    uncapped: bool = False,
    training_set: Annotated[PathLike | None, Shown("FOLDER")] = None,
    min_images: Annotated[int, AtLeast(1), Was("--least")] = MIN_IMAGES,
    seed: Seed = 0,
    resamples: Resamples = RESAMPLES,
    engine: str = "auto",
    decoding: Decoding = DECODING,
    run: Run = QUIET,
) -> Mitigation:
    """Fit the last layer with and without treatment of a shortcut, and evaluate both on held-out images.

    There are three treatments: adding altered images from which the companion or the class was removed
    (SPIRE), weighting images, and fitting heads to label sets instead of single labels. Heads are evaluated
    on images that they were not fitted on, and the first sentence of the output states whether the shortcut
    is gone. The heads can be used as models, with the name head:FILE. A stopped run resumes when it is
    started again.

    Parameters
    ----------
    images
        Images, as for predict.
    objects
        Boxes or outlines of the objects in the images, as for diagnose shortcuts. Without objects, labels are
        needed, and no object is removed or pasted in.
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
        Table with a column of image names and the column split. Images of the split test are held out.
    held_out
        Share of the images that is held out, chosen by the seed, if there is no split.
    losses
        Loss of the heads. By default, heads are fitted with each loss.
    fill
        Replacement for removed objects: grey, or inpainting from the surroundings. The other fill is used to
        evaluate heads.
    uncapped
        Add as many altered images as independence requires, without the published caps on their number. By
        default, heads are fitted with caps and, if the caps leave a part of the dependence, also without
        caps.
    training_set
        Folder for a training set, on which manyhot train can train a whole network. It contains the images to
        fit on, their altered copies for all pairs, without caps, and the label sets of both.
    min_images
        Minimum number of images with both classes of a pair, for fitting.
    seed
        Seed for the held-out images, for pasting, and for the bootstrap.
    resamples
        Number of bootstrap resamples of the held-out images; 0 for no intervals.
    engine
        Engine that computes features, as for predict.

    Returns
    -------
    Mitigation

    Raises
    ------
    ManyhotError
        If the input is invalid, or if no pair can be treated.
    """
    out = Path(out)
    held = held_out_of(split, held_out, seed)
    required("torch", "The model")  # before images are read
    _check_options(losses, fill, pairs)
    files = [objects, masks, labels, classes, split]
    _check_places(images, files, out, training_set)
    given = open_class_list(classes)
    found, class_list = read_objects_and_classes(objects, masks, labels, given)
    source = open_source(images, decoding=decoding)
    found, *matched = match_objects(found, source)
    given_labels, own_matched = read_source_labels(labels, class_list, source)
    matched += own_matched
    states, label = states_and_labels(found, given_labels, class_list)
    asked = named_pairs(pairs, class_list)
    for listed in _listed_ids(source):  # before features are computed
        _check_objects(found, source.uri, listed)
        _check_fit(_labels_of(listed, states, label, held)[0], asked, losses, min_images)
    settings = PredictSettings(1, engine, EngineOptions(features=True))
    network = find_model(model, given)
    backbone = FeatureExtractor(
        source=source, network=network, objects=found, out=out, settings=settings, run=run
    )
    ids, computed = backbone("original")
    _check_objects(found, source.uri, ids)
    known, there = _labels_of(ids, states, label, held)
    _check_fit(known, asked, losses, min_images)
    features = ImageFeatures(backbone, known, computed[there], fill, seed)
    features.prepare(asked)
    heads: dict[Path, None] = {}

    def save(head: Head, stem: str) -> None:
        heads[write_head(head, out / "heads" / f"{stem}.safetensors", call=run.call)] = None

    fitter = HeadFitter(features, model, not uncapped)
    rows, notes, compared = _judged(
        features,
        fitter,
        pairs=asked,
        losses=[loss for loss in losses if loss == "sigmoid" or features.labels.labelled],
        judge=features.labels.held_out(resamples, seed),
        save=save,
        about={"dataset": Path(str(images)).stem, "model": backbone.network.name},
    )
    forget_pictures(out, "mitigation_examples", ("before", "after"), HEAD_EXAMPLES_FOLDER)
    shown = write_examples(features, compared, out)
    result = Mitigation(
        pa.Table.from_pylist(rows, schema=schema("mitigation")),
        pa.Table.from_pylist(shown, schema=schema("mitigation_examples")),
        notes=(*matched, *source.notes, *_notes(features, states), *notes, *_how_to_use(model, heads)),
        metadata={"seed": str(seed)},
        inputs=hashes_of(files),
    )
    *written, page = result.write(out, run=run)
    if training_set is not None:
        written += write_training_set(fitter, fitter.uncapped(asked), Path(training_set), call=run.call)
    return replace(result, written=(*written, *heads, page))


def _check_places(images: ImagesLike, files: Sequence[Any], out: Path, training_set: PathLike | None) -> None:
    """Raise an error if an output would overwrite an input or another table."""
    check_apart([images, *files], out, Mitigation.NAMES)
    check_place(out / "mitigation.parquet", "mitigation")
    if training_set is not None:
        check_apart([images, *files], Path(training_set))


def _listed_ids(source: ImageSource) -> Iterator[pa.Array]:
    """Yield the ids of all images of a source; of a stream, they are not known before it is read."""
    if source.n is not None:
        yield pa.array([item.image_id for part in source.parts for item, _ in part.items()], pa.string())


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


def _labels_of(
    ids: pa.Array, states: States, label: Any, held: HeldOut
) -> tuple[MitigationLabels, npt.NDArray[np.bool_]]:
    """Return what is known of images, and which of them have labels or objects."""
    at = pc.index_in(ids, states.image_id)
    there = at.is_valid().to_numpy(zero_copy_only=False)
    rows = at.drop_null().to_numpy()
    names = ids.filter(pa.array(there)).to_pylist()
    known = MitigationLabels(names, states.state[rows], label[rows], held.of(names), states.classes)
    return known, there


def _check_fit(
    of_images: MitigationLabels, pairs: Sequence[Pair], losses: Sequence[str], min_images: int
) -> None:
    of_images.check_pairs(pairs, min_images)
    if "sigmoid" not in losses and not of_images.labelled:
        raise InputError(
            "A softmax needs original labels.",
            got="no original label of the images to fit on",
            do="pass `labels` with original labels, or use the loss sigmoid",
        )


def _check_objects(objects: Objects, uri: str, ids: pa.Array) -> None:
    there = objects.images.keys()
    if there and not there & set(ids.to_pylist()):
        raise MatchError(
            "None of the objects belongs to any of the images.",
            where=uri,
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
) -> tuple[list[Row], list[str], list[Compared]]:
    """Fit heads of all pairs, losses and treatments, save them, and return metrics, notes and pictures."""
    known, rows, notes, compared = images.labels, list[Row](), list[str](), list[Compared]()
    for pair in pairs:
        treatments = fitter.treatments(pairs, pair)
        notes.append(fitter.added(pair, fitter.capped)[1])
        names = [known.classes.names[c] for c in pair]
        of = dict(zip(("main", "companion", "main_name", "companion_name"), (*pair, *names), strict=True))
        for loss in losses:
            untreated: dict[str, dict[str, HeldOutMetric]] = {}
            made, first = dict[str, Head](), len(rows)
            for treatment, head in fitter.heads(loss, treatments):
                stem = _stem(loss, treatment, [known.classes.keys[c] for c in pair])
                save(head, stem)
                made[treatment] = head
                measured = _measured(images, judge, head, pair)
                named = {"model": f"{about['model']}, {loss}", "treatment": treatment}
                added = treatments.get(treatment.removeprefix(f"{SETS} and "))
                pasted = added is not None and bool(added.pasted)
                named |= _verdict(fitter, pair, measured, untreated.get(base_of(treatment)), pasted)
                named["head"] = f"heads/{stem}.safetensors"
                before = next(iter(untreated.values()), None)
                rows += mitigation_rows(about | of | named, int(known.held.sum()), measured, before)
                untreated.setdefault(base_of(treatment), measured)
            if best := best_treatment(rows[first:]):
                start = made[base_of(best)]
                compared.append(Compared(pair, f"{about['model']}, {loss}", best, start, made[best]))
    if "sigmoid" in losses and (n := fitter.one_sided):
        notes.append(
            f"no head is fitted to label sets, because they never record {n:,} of the classes as absent; "
            "heads are fitted to original labels"
        )
    return rows, [*notes, *surplus_notes(fitter.surpluses)], compared


def _verdict(
    fitter: HeadFitter,
    pair: Pair,
    measured: dict[str, HeldOutMetric],
    untreated: dict[str, HeldOutMetric] | None,
    pasted: bool,
) -> dict[str, str]:
    """Return the verdict on a head, and its reason if there is a shortcut or may be one."""
    known = fitter.images.labels
    counts = known.counts(pair, known.held)
    how = {"pasted": pasted, "negative": known.plan(pair, True).before < 0}
    verdict = removal_verdict(measured, untreated, counts, **how)
    main, companion = (known.classes.names[c] for c in pair)
    reason = reason_of(verdict, measured, untreated, counts, (main, companion), **how)
    return {"verdict": verdict} | ({"reason": reason} if reason else {})


def _stem(loss: str, treatment: str, keys: Sequence[str]) -> str:
    parts = [loss] if treatment == NONE else [loss, treatment]
    untreated = treatment in (NONE, SETS)
    return "-".join(map(file_slug, [*parts, *(() if untreated else keys)]))


def _measured(
    images: ImageFeatures, judge: HeldOutImages, head: Head, pair: Pair
) -> dict[str, HeldOutMetric]:
    known = images.labels
    both, place = known.held & known.both(pair), np.cumsum(known.held) - 1
    altered = {
        "other": images.removed(pair[1], both, images.other_fill),
        "fitted": images.removed(pair[1], both),
        "pasted": images.judged_by_pasting(pair),
        "pasted on the class": images.judged_by_pasting(pair, MAIN_ONLY),
        "filled on the class": images.judged_by_pasting(pair, MAIN_ONLY, images.fill),
    }

    def scores(of: Mapping[Any, Altered]) -> dict[Any, AlteredScores]:
        return {
            key: AlteredScores(head.probabilities(made.features), place[made.rows])
            for key, made in of.items()
        }

    p, best = head.probabilities(images.features[known.held]), head.loss == "softmax"
    metrics = judge.measure(p, scores(altered), best, pair)
    # If original images suffice to judge both effects, companions need not be exchanged.
    shown = images.exchanged(pair) if min(known.counts(pair, known.held)) < MIN_JUDGED else {}
    return metrics | judge.exchanged(p, scores(shown), best, pair) if shown else metrics


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
        yield f"{lost:,} images with labels or objects have no prediction and are not counted"
    if not images.labels.labelled:
        yield "there are no original labels, so heads are fitted to label sets only"
    yield from images.predict.skipped


TRAINING_SET = ("images.parquet", "labels.parquet")


def write_training_set(fitter: HeadFitter, treatment: Treatment, out: Path, *, call: str = "") -> list[Path]:
    """Write the images to fit on and their altered copies, and the label sets of both.

    An image or altered image that counts for w images is written w times. A fraction is rounded up with a
    probability equal to the fraction, so that the expected loss is the weighted loss.
    """
    images, known = fitter.images, fitter.images.labels
    groups = [a for _, a in treatment.groups]
    rows = np.concatenate([known.fitting, *(a.rows for a in groups)])
    alterations = [None] * len(known.fitting) + [a.alteration for a in groups for _ in a.rows]
    weights = fitter.weights(treatment)
    times = np.floor(weights + np.random.default_rng(images.seed).random(len(weights))).astype(int)
    made: dict[str, list[tuple[int, Any]]] = {}
    for i in np.flatnonzero(times).tolist():
        made.setdefault(known.names[rows[i]], []).append((i, alterations[i]))
    out.mkdir(parents=True, exist_ok=True)
    ids, order = _write_images(images, made, times, out / TRAINING_SET[0])
    states = known.states(treatment.groups, sets=True)[order]
    labels = _labels(ids, states, known.labels(treatment.groups)[order], known.classes)
    return [out / TRAINING_SET[0], write_labels(labels, out / TRAINING_SET[1], call=call)]


def _write_images(
    images: ImageFeatures, made: dict[str, list[tuple[int, Any]]], times: npt.NDArray[np.int_], path: Path
) -> tuple[list[str], list[int]]:
    """Write images, a row group for each part of the source; return ids and which image each is a copy of."""
    ids, order = list[str](), list[int]()
    schema = pa.schema({"image_id": pa.string(), "image": pa.binary()})
    with pq.ParquetWriter(path, schema) as writer:
        for part in images.predict.source.parts:
            data = list[bytes]()
            for item, read in part.items():
                for i, encoded in _copies(item.image_id, read, made.get(item.image_id, ())):
                    for copy in range(times[i]):
                        original = i < len(images.labels.fitting) and not copy
                        ids.append(item.image_id if original else f"{item.image_id}~{i}-{copy}")
                        order.append(i)
                        data.append(encoded)
            writer.write_table(pa.table([ids[len(ids) - len(data) :], data], schema=schema))
    return ids, order


def _copies(image_id: str, read: Any, indices: Any) -> Iterator[tuple[int, bytes]]:
    """Yield the encoded image and its altered copies, without those that cannot be made."""
    if not indices:
        return
    data = read()
    image = decode(data)
    if isinstance(image, str):
        return
    pixels = image.permute(1, 2, 0).numpy()
    for i, alteration in indices:
        altered = pixels if alteration is None else alteration(image_id, pixels)
        if not isinstance(altered, str):
            yield i, data if alteration is None and isinstance(data, bytes) else _png(altered)


def _png(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    required("PIL.Image", "Writing images").fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _labels(ids: list[str], states: npt.NDArray[np.uint8], label: Any, classes: Any) -> Labels:
    """Return label sets with the classes that are known, and original labels."""
    image, class_id = np.nonzero(states != NOT_ASKED)
    lengths = np.bincount(image, minlength=len(ids))
    table = {
        "image_id": ids,
        "label": pa.array(label.astype(np.int32), mask=label == NO_LABEL),
        "rated": [True] * len(ids),
        "usable": [True] * len(ids),
        **state_lists(lengths, class_id, states[image, class_id] - 1),
    }
    return Labels(
        pa.table(table), len(classes), classes.hash, asked_known=True, name=classes.name, class_list=classes
    )
