"""Objects taken out of images, and the predictions that change without them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from manyhot.classes import ClassList, from_keys
from manyhot.command import command, takes_fields
from manyhot.data.reading_options import ObjectsLike
from manyhot.data.table_inputs import open_objects
from manyhot.diagnose.object_remover import EXAMPLES_FOLDER, ObjectRemover
from manyhot.diagnose.page import check_outside, forget_pictures
from manyhot.diagnose.shortcut_pairs import (
    NO_OBJECTS,
    SHORTCUT_SETTINGS,
    Pair,
    ShortcutSettings,
    find_pairs,
    images_to_alter,
    judge_shortcuts,
    named_pairs,
)
from manyhot.diagnose.shortcuts_result import FILLS, Shortcuts
from manyhot.errors import InputError, MatchError
from manyhot.files import hashes_of
from manyhot.formats import ClassNamesLike, open_class_list, read_labels_or_originals
from manyhot.formats.writing import PathLike
from manyhot.parameters import Address, Shown
from manyhot.predict.models import find_model
from manyhot.predict.network import Network
from manyhot.predict.run import PredictSettings
from manyhot.predict.sources import DECODING, Decoding, ImageSource, open_source
from manyhot.predict.sources.label_ids import labels_of_source, objects_of_source
from manyhot.run import QUIET, Run
from manyhot.tables import Objects, Predictions
from manyhot.tables.arrays import States, states_of_labels, states_of_objects
from manyhot.tables.own_classes import are_numbers


@takes_fields
@command(
    "diagnose shortcuts",
    examples=(
        "manyhot diagnose shortcuts photos --objects boxes.parquet --model efficientnet-lite0",
        "manyhot diagnose shortcuts photos --objects instances.json --model head:head.safetensors "
        "--pair horse:person",
    ),
)
def diagnose_shortcuts(
    images: Annotated[PathLike, Address(), Shown("IMAGES")],
    *,
    objects: ObjectsLike,
    model: Annotated[str, Shown("NAME")],
    out: Annotated[PathLike, Shown("FOLDER")] = "shortcuts",
    masks: Annotated[PathLike | None, Shown("FOLDER")] = None,
    labels: Annotated[PathLike | None, Shown("FILE")] = None,
    classes: ClassNamesLike | None = None,
    pair: Annotated[Sequence[str], Shown("PAIR")] = (),
    fill: Sequence[Literal["grey", "inpaint"]] = FILLS,
    settings: ShortcutSettings = SHORTCUT_SETTINGS,
    engine: str = "auto",
    decoding: Decoding = DECODING,
    run: Run = QUIET,
) -> Shortcuts:
    """Remove objects from images, and count how many predictions of other classes change.

    Each pair of classes is tested on the images that show both classes. The result is compared with a
    control, in which a region of the same shape elsewhere in the image is filled. A pair is also marked as a
    shortcut if results on original images with and without the companion differ clearly. A run that was
    stopped resumes when it is started again.

    Parameters
    ----------
    images
        Images, as for predict.
    objects
        Locations of objects: a table with one box per row, a COCO JSON file, or a Pascal VOC folder.
    model
        A model, as for predict.
    out
        Folder to write to. It is created if it does not exist.
    masks
        Semantic masks: a folder of PNG files, or a Parquet table that contains them.
    labels
        Label sets; by default the classes of the objects.
    classes
        Class list of the objects and labels, for files that do not name one.
    pair
        Pair of classes to test, as MAIN:COMPANION by key or name, such as horse:person; by default all pairs.
    fill
        How to fill the place of the companion: grey or inpaint. By default, both are used, and a pair is
        marked if either shows a shortcut.
    engine
        Inference engine, as for predict: auto, torch, openvino or onnx.

    Returns
    -------
    Shortcuts

    Raises
    ------
    ManyhotError
        If an input is not valid, or if no pair can be tested.
    """
    out, fills = Path(out), [str(f) for f in fill]
    _check_fills(fills)
    check_outside(images, out)
    files = (objects, masks, labels, classes)
    Shortcuts.check_out(out, [images, *files])
    class_list = open_class_list(classes)
    found = open_objects(objects, class_list, masks)
    known = class_list or from_keys(found.keys, found.name)
    source = open_source(images, decoding=decoding)
    found, like = objects_of_source(found, source)
    states, matched = _states(found, labels, known, source)
    matched = (*([like.text] if like.n else []), *matched)
    only = named_pairs(pair, known)
    network = find_model(model, class_list)
    dense = PredictSettings(None, engine)
    remover = ObjectRemover(source, network, found, out, dense, fills, settings.seed, run)

    def testable_pairs(states: States) -> list[Pair]:
        removable = found.class_id.tolist()
        pairs = find_pairs(states, network.classes, removable, min_images=settings.min_images, only=only)
        _check_any(pairs, settings.min_images, network)
        return pairs

    before, seen, pairs = _predict_originals(remover, states, testable_pairs)
    after = remover.predict_altered(images_to_alter(seen, pairs))
    result = judge_shortcuts(
        seen,
        pairs,
        before,
        after,
        network.classes,
        fills=fills,
        settings=settings,
        notes=(*source.notes, *matched, *remover.notes(states, before)),
        run=run,
    )
    forget_pictures(out, "shortcut_examples", ("before", "after", "control"), EXAMPLES_FOLDER)
    result = replace(
        result,
        shortcut_examples=remover.draw(result.shortcut_examples),
        metadata={
            "seed": str(settings.seed),
            "least": str(settings.min_images),
            "threshold": f"{settings.min_lost:g}",
        },
        inputs=hashes_of(files),
    )
    return replace(result, written=tuple(result.write(out, run=run)))


def _predict_originals(
    remover: ObjectRemover, states: States, testable_pairs: Callable[[States], list[Pair]]
) -> tuple[Predictions, States, list[Pair]]:
    """Return the predictions of the original images, their states, and the pairs to test on them."""
    before = remover.predict_originals(images_to_alter(states, testable_pairs(states)))
    seen = states.of(before.image_id)
    if not len(seen.image_id):
        raise MatchError(
            "None of the images has objects or a label set.",
            where=remover.source.uri,
            got=f"images such as {before.image_id[0]}",
            allowed=f"images such as {states.image_id[0]}",
        )
    return before, seen, testable_pairs(seen)


def _check_fills(fills: Sequence[str]) -> None:
    strange = [fill for fill in fills if fill not in FILLS]
    if strange or not fills:
        raise InputError(
            "There is no such fill." if strange else "No fill is given.",
            got=", ".join(strange) or None,
            allowed=", ".join(FILLS),
        )


def _states(
    objects: Objects, labels: PathLike | None, classes: ClassList, source: ImageSource
) -> tuple[States, tuple[str, ...]]:
    """Return the label sets, and a note if their ids differ from those of the source."""
    if labels is None:
        return states_of_objects(objects, classes), ()
    sets, like = labels_of_source(read_labels_or_originals(labels, classes=classes), source)
    return states_of_labels(sets, classes), (like.text,) if like.n else ()


def _to_name_classes(network: Network) -> str | None:
    """Return what to do about a model whose classes are only numbers."""
    if not are_numbers(network.classes.keys):
        return None
    file = Path(network.file).name or "model.onnx"
    return (
        f"the classes of the model are 0 to {len(network.classes) - 1}: name them in the order of its "
        f"outputs, as in \"onnx:{file}(classes='classes.txt')\""
    )


def _check_any(pairs: Sequence[Pair], min_images: int, network: Network) -> None:
    if any(pair.why_not in ("", NO_OBJECTS) for pair in pairs):
        return
    reasons = Counter(pair.why_not for pair in pairs)
    most = max((pair.both for pair in pairs if pair.why_not.startswith("fewer")), default=0)
    raise InputError(
        "No pair of classes can be tested.",
        where=network.name,
        got="; ".join(f"{n:,} pairs: {why}" for why, n in reasons.items()) or "no two classes in one image",
        allowed=f"at least {min_images:,} images that show both a main class that the model has and a "
        "companion with objects",
        do=f"`min_images`={most} would test some" if most else _to_name_classes(network),
    )
