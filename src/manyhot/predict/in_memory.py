"""Predictions in memory, for notebooks: of the images of a source, or of a module over a loader."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot.classes import ClassList, from_keys, of_outputs
from manyhot.classes import class_list as imagenet
from manyhot.errors import InputError
from manyhot.extras import required
from manyhot.formats import ClassNamesLike, open_class_list
from manyhot.formats.writing import PathLike
from manyhot.predict.engines import EngineOptions, Trial, precision_of
from manyhot.predict.models import find_model
from manyhot.predict.network import Network
from manyhot.predict.run import TOP_CLASSES, PredictSettings, choose_for
from manyhot.predict.score_kinds import OutputKind, assumed_scores, checked_scores, probabilities_note
from manyhot.predict.scoring import Keep, Scored, Scorer, score_parts, select_scores
from manyhot.predict.sources import Decoding, ImagesLike, ImageSource, LabelLookup, NoneLeftError, open_source
from manyhot.predict.sources.label_ids import with_splits
from manyhot.tables import Images, Predictions
from manyhot.tables.image_ids import IMAGE_NAME_COLUMNS, first_column, first_unique, normal_ids
from manyhot.tables.own_classes import own_list
from manyhot.tables.predictions import SCORES_ASSUMED, uncertainty_from_columns


@dataclass(frozen=True)
class Skipped:
    """An image that could not be predicted, and the reason."""

    image_id: str
    uri: str
    reason: str


@dataclass(frozen=True, eq=False)
class Predicted:
    """The predictions of a model, and the images that were predicted.

    Attributes
    ----------
    predictions : Predictions
        The top classes, or the scores of all classes, in the order of `images`.
    images : Images
        The images that could be decoded.
    skipped : tuple of Skipped
        The images that could not be decoded.
    embeddings : ndarray of float16, shape (n, D), optional
        Penultimate features, if they were requested.
    trials : tuple of Trial
        Trials of the engines, including the chosen one.
    notes : tuple of str
        Caveats about the model, such as assumed preprocessing.
    """

    predictions: Predictions
    images: Images
    skipped: tuple[Skipped, ...]
    embeddings: npt.NDArray[np.float16] | None = None
    trials: tuple[Trial, ...] = ()
    notes: tuple[str, ...] = ()


def predict_in_memory(
    images: ImagesLike | ImageSource,
    model: str | Network,
    *,
    top: int | None = TOP_CLASSES,
    classes: ClassNamesLike | None = None,
    labels: PathLike | None = None,
    engine: str = "auto",
    precision: str = "f32",
    embeddings: bool = False,
    workers: int | None = None,
    batch: int | None = None,
    bits: int | str | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Predicted:
    """Predict the classes of images and return the predictions, without writing files.

    Images that cannot be decoded are skipped and listed in `Predicted.skipped`. On the same machine, with the
    same engine and batch size, the same files give the same predictions.

    Parameters
    ----------
    images : path-like or ImageSource
        A folder of images, or any other source of `manyhot.predict`.
    model : str or Network
        A network, or the name of a model, such as ``efficientnet-lite0`` or ``timm/resnet50.a1_in1k``.
    top : int, optional
        Number of top classes to keep. None keeps the scores of all classes.
    classes, labels, engine, precision, embeddings, workers, batch, bits
        As in `manyhot.predict`.
    progress : callable, optional
        Called after each batch as ``progress(images done, all images)``.

    Raises
    ------
    ManyhotError
        As in `manyhot.predict`.
    """
    settings = PredictSettings(
        top, engine, EngineOptions(precision_of(precision), embeddings, workers, batch)
    )
    class_list = open_class_list(classes)
    network = model if isinstance(model, Network) else find_model(model, class_list)
    if isinstance(images, ImageSource):
        source = images
    else:
        source = open_source(images, labels=labels, decoding=Decoding(bits))
    choice = choose_for(source, network, settings)
    on_batch = _counter(progress, source.n)
    scorer = Scorer(network, choice.engine, Keep(top, network.columns_of(class_list)))
    groups = [[(part, scorer)] for part in source.parts]
    scored = [own for (own,) in score_parts(groups, progress=on_batch)]
    return _predicted(scored, network, class_list or network.classes, source, choice.trials)


def _counter(
    progress: Callable[[int, int | None], None] | None, n: int | None
) -> Callable[[int], None] | None:
    if progress is None:
        return None
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        progress(done, n)

    return count


def _predicted(
    scored: Iterable[Scored],
    network: Network,
    classes: ClassList,
    source: ImageSource,
    trials: tuple[Trial, ...],
) -> Predicted:
    parts = list(scored)
    rows = [
        (item, size, reason)
        for part in parts
        for item, size, reason in zip(part.items, part.sizes, part.reasons, strict=True)
    ]
    skipped = tuple(Skipped(item.image_id, item.uri, why) for item, _, why in rows if why)
    good = [(item, size) for item, size, why in rows if not why]
    if not good:
        raise NoneLeftError.of(source.uri, [vars(image) for image in skipped])
    find = LabelLookup(classes, source.strict, source.labelled_by or source.uri)
    labels = find.all(item.label for item, _ in good)
    images = image_table(
        [item.image_id for item, _ in good], labels, [item.uri for item, _ in good], [s for _, s in good]
    )

    def joined(name: str) -> Any:
        found = [
            getattr(part, name) for part in parts if getattr(part, name) is not None and len(part.scores)
        ]
        return np.concatenate(found) if found else None

    images = Images(with_splits(images.table, source))
    predictions = Predictions(
        images.image_id,
        network.name,
        joined("classes"),
        joined("scores"),
        joined("logsumexp"),
        network.score_kind,
        len(classes),
        classes.hash,
        class_list=own_list(classes),
        scores_assumed=SCORES_ASSUMED in network.about,
        link=network.about.get("link", ""),
        uncertainty=uncertainty_from_columns(
            {
                name: np.concatenate([part.uncertainty[name] for part in parts if part.uncertainty])
                for name in dict.fromkeys(name for part in parts for name in part.uncertainty)
            }
        ),
    )
    notes = filter(None, (*network.notes, probabilities_note(network, joined("scores")), *source.notes))
    return Predicted(predictions, images, skipped, joined("features"), trials, tuple(notes))


def image_table(
    ids: Sequence[str],
    labels: Sequence[int | None],
    uris: Sequence[str] | None = None,
    sizes: Sequence[tuple[int, int] | None] | None = None,
) -> Images:
    """Return an images table without columns that would be empty."""
    columns: dict[str, Any] = {"image_id": pa.array(ids, pa.string())}
    if uris is not None:
        columns["uri"] = pa.array(uris, pa.string())
    if any(label is not None for label in labels):
        columns["label"] = pa.array(labels, pa.int32())
    if sizes is not None:
        columns["width"] = pa.array([size and size[0] for size in sizes], pa.int32())
        columns["height"] = pa.array([size and size[1] for size in sizes], pa.int32())
    return Images(pa.table(columns))


def predict_loader(
    module: Any,
    loader: Any,
    *,
    top: int | None = 20,
    classes: ClassNamesLike | None = None,
    ids: Sequence[str] | Literal["number"] | None = None,
    scores: OutputKind = "",
    progress: Callable[[int, int | None], None] | None = None,
) -> Predicted:
    """Run a module in evaluation mode on the batches of a loader, on the device of the module.

    The loader may yield data that image files do not contain, such as 13 spectral channels.
    `write_predictions` writes the ``predictions`` of the result to a file that all commands read.

    If the data set names its classes, as an ImageFolder does, its labels are looked up in the class list by
    these names. Otherwise, labels are indices into the class list.

    Parameters
    ----------
    module : torch.nn.Module
        Maps batches of the loader to logits, or to other scores, of shape (n, C).
    loader : iterable
        Yields tensors, (images, labels), (images, labels, ids), or mappings with ``image``, ``label`` and
        ``image_id``. Ids can also have another name that they have in files, such as ``filename`` or ``id``.
    top : int, optional
        Number of top classes to keep. None keeps the scores of all classes, which mAP and F1 need.
    classes : ClassList, sequence of str or path-like, optional
        The classes of the logits, in their order, or their file. The default is ImageNet-1k if there are
        1,000 logits.
    ids : sequence of str or "number", optional
        Ids of the images in the order of the loader, which must not shuffle unless its batches contain the
        same ids; ``"number"`` numbers the images from 0. By default, ids are taken from the batches or, if
        the loader does not shuffle, from the file names of its data set.
    scores : str
        Kind of the scores: ``logit``, or ``probability`` if the module ends in a softmax or in sigmoids. By
        default, logits are assumed.
    progress : callable, optional

    Raises
    ------
    InputError
        If the ids of the images are unknown, if `ids` differ from those of the batches, if the loader
        shuffles and only `ids` name the images, if the numbers of ids and images differ, or if the module
        does not return logits.
    """
    torch: Any = required("torch", "Predicting with a module")
    if not isinstance(module, torch.nn.Module):
        raise InputError(
            "This is not a module.",
            got=type(module).__name__,
            allowed="a torch.nn.Module",
            do="to use a model by its name, call manyhot.predict or manyhot.predict_in_memory",
        )
    if isinstance(ids, str) and ids != "number":
        raise InputError("A single text is not a list of ids.", got=ids, allowed='a list of ids, or "number"')
    class_list = open_class_list(classes)
    expected = _file_names(loader) if ids is None else list(ids)
    given = None if ids is None or ids == "number" else list(map(str, ids))
    stems = {PurePath(text).stem for text in given or ()}
    class_names = _class_names(loader)
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    rows: list[tuple[Any, Any, Any]] = []
    names: list[str] = []
    labels: list[int | None] = []
    total = len(loader.dataset) if hasattr(loader, "dataset") and hasattr(loader.dataset, "__len__") else None
    network: Network | None = None
    with _evaluating(module), torch.inference_mode():
        for images, own_labels, batch_ids in map(_taken, loader):
            own_ids = batch_ids.texts
            if given is not None:
                own_ids = None
                if batch_ids.texts is None:
                    _check_order(loader)
                batch_ids.check(given[len(names) :], stems)
            logits = _logits(module(images.to(device)), len(images))
            network = network or _network(module, logits.shape[1], class_list, class_names, scores)
            if ids == "number":
                own_ids = [str(len(names) + i) for i in range(len(images))]
            names += _named(own_ids, expected, len(names), len(images))
            labels += own_labels or [None] * len(images)
            rows.append(select_scores(logits, network, Keep(top), names[-len(images) :]))
            if progress is not None:
                progress(len(names), total)
    if network is None:
        raise InputError("The loader yields no batches.")
    if ids is not None and ids != "number" and len(ids) > len(names):
        raise InputError("There are more ids than images.", got=f"{len(ids):,}", allowed=f"{len(names):,}")
    if class_names:
        find = LabelLookup(network.classes, strict=False, where=network.name)
        labels = [None if label is None else find(class_names[label]) for label in labels]
    best, kept, logsumexp = zip(*rows, strict=True)
    predictions = Predictions(
        image_table(names, labels).image_id,
        network.name,
        None if best[0] is None else np.concatenate(best),
        np.concatenate(kept),
        None if logsumexp[0] is None else np.concatenate(logsumexp),
        network.score_kind,
        len(network.classes),
        network.classes.hash,
        class_list=own_list(network.classes),
        scores_assumed=SCORES_ASSUMED in network.about,
        link=network.about.get("link", ""),
    )
    is_arbitrary = ids == "number" and hasattr(loader, "dataset") and not _is_in_order(loader)
    shuffled = "the loader may shuffle, so the ids are positions in this run and not in the data set"
    order = _order_note(loader) if given is not None and batch_ids.texts is None else ""
    notes = (shuffled if is_arbitrary else order, probabilities_note(network, np.concatenate(kept)))
    return Predicted(predictions, image_table(names, labels), (), notes=tuple(filter(None, notes)))


def _network(module: Any, n: int, classes: ClassList | None, names: Sequence[str], scores: str) -> Network:
    name = str((getattr(module, "pretrained_cfg", None) or {}).get("architecture") or type(module).__name__)
    if classes is not None and len(classes) != n:
        raise InputError(
            "The model and the class list have different numbers of classes.",
            where=name,
            got=f"{n:,} scores per image",
            allowed=f"{len(classes):,}",
        )
    if classes is None and len(names) == n and not set(names) <= set(imagenet().keys):
        # A module with as many scores as the data set has classes is over these, in this order.
        classes = from_keys(names, f"{n} classes of the loader")
    kind, about = checked_scores(scores), assumed_scores(scores)
    return Network(name, classes or of_outputs(n, name), module=module, score_kind=kind, about=about)


def _class_names(loader: Any) -> list[str]:
    """Return the names of the classes of a loader's data set; none if it has no names."""
    dataset = getattr(loader, "dataset", None)
    names = getattr(dataset, "wnids", None) or getattr(dataset, "classes", None) or ()
    return list(names) if all(isinstance(name, str) for name in names) else []


@dataclass(frozen=True)
class _BatchIds:
    """The ids in a batch, or None. They are certain if they are called so: others may be of other things."""

    texts: list[str] | None = None
    is_certain: bool = False

    def check(self, ids: Sequence[str], stems: Collection[str]) -> None:
        """Raise an error if the ids in the batch differ from those that were passed for this batch.

        Ids in the batch that may identify something else are compared only if they are among the `stems` of
        all ids that were passed.

        Raises
        ------
        InputError
            If an id of the batch differs.
        """
        for text, own in zip(self.texts or (), ids, strict=False):
            stem = PurePath(text).stem
            if stem != PurePath(own).stem and (self.is_certain or stem in stems):
                raise InputError(
                    "The ids differ from those in the batches.",
                    got=f"{own} in `ids`",
                    allowed=f"{text}, as in the batch",
                    do="omit `ids`, so that the ids in the batches are used",
                )


def _taken(batch: Any) -> tuple[Any, list[int | None] | None, _BatchIds]:
    """Return the images of a batch, and its labels and ids if it has them."""
    if isinstance(batch, Mapping):
        key = next((k for k in ("image", "images", "pixel_values") if k in batch), None)
        if key is None:
            raise InputError("A batch contains no images.", got=", ".join(map(str, batch)), allowed="image")
        n = len(batch[key])
        named = [k for k, v in batch.items() if isinstance(k, str) and k != key and len(_texts(v) or ()) == n]
        name = first_column(named, (*IMAGE_NAME_COLUMNS, "__key__"))
        ids = _BatchIds() if name is None else _BatchIds(_texts(batch[name]), name == "image_id")
        return batch[key], _label_numbers(batch.get("label")), ids
    if isinstance(batch, list | tuple):
        third: Any = batch[2] if batch[2:] else None
        texts = _texts(third)
        own = _BatchIds(texts, texts is not None and all(isinstance(value, str) for value in third))
        return batch[0], _label_numbers(batch[1] if batch[1:] else None), own
    return batch, None, _BatchIds()


def _label_numbers(values: Any) -> list[int | None] | None:
    if values is None or getattr(values, "ndim", 1) != 1:
        return None
    return [int(v) for v in values]


def _texts(values: Any) -> list[str] | None:
    """Return ids as texts, or None if the values are no list of single values."""
    if values is None or not isinstance(values, Iterable) or getattr(values, "ndim", 1) != 1:
        return None
    listed = values.tolist() if hasattr(values, "tolist") else values
    texts: list[str] = normal_ids(pa.array(map(str, listed), pa.string())).to_pylist()
    return texts


def _logits(out: Any, n: int) -> np.ndarray[Any, Any]:
    out = getattr(out, "logits", out)  # of transformers
    logits = np.asarray(out.float().cpu() if hasattr(out, "float") else out, np.float32)
    if logits.ndim != 2 or len(logits) != n:
        raise InputError(
            "The module does not return logits.", got=f"shape {logits.shape}", allowed=f"shape ({n}, C)"
        )
    return logits


def _named(own: list[str] | None, ids: list[str] | None, at: int, n: int) -> list[str]:
    if own is not None:
        return own
    if ids is None:
        raise InputError(
            "The ids of the images are unknown.",
            allowed="ids=…, batches of (images, labels, ids), or an ImageFolder that is not shuffled",
            do='pass the ids, which join predictions with labels, or ids="number" to number the images',
        )
    if len(ids) < at + n:
        raise InputError(
            "There are more images than ids.", got=f"at least {at + n:,} images", allowed=f"{len(ids):,}"
        )
    return ids[at : at + n]


def _file_names(loader: Any) -> list[str] | None:
    """Return the ids of the files of an ImageFolder that is read in order: base names if these are unique."""
    dataset = getattr(loader, "dataset", None)
    files = getattr(dataset, "samples", None)
    if not files or not _is_in_order(loader):
        return None
    paths = [PurePath(str(file[0])) for file in files]
    root = PurePath(str(getattr(dataset, "root", "")))
    inside = [(p.relative_to(root) if p.is_relative_to(root) else p).as_posix() for p in paths]
    return list(first_unique([p.name for p in paths], inside))


def _sampler(loader: Any) -> Any:
    """Return what orders the images of a loader: its sampler, or its own sampler of batches."""
    batches = getattr(loader, "batch_sampler", None)
    # With a custom batch sampler, the loader's own sampler is sequential, but unused.
    own = batches is not None and type(batches).__name__ != "BatchSampler"
    return batches if own else getattr(loader if batches is None else batches, "sampler", None)


def _is_in_order(loader: Any) -> bool:
    return type(_sampler(loader)).__name__ == "SequentialSampler" and getattr(loader, "in_order", True)


def _check_order(loader: Any) -> None:
    """Raise an error if a loader yields its images in random order."""
    from torch.utils import data

    sampler = _sampler(loader)
    sampler = getattr(sampler, "sampler", sampler)  # of a sampler of batches
    randoms = (data.RandomSampler, data.SubsetRandomSampler, data.WeightedRandomSampler)
    shuffles = getattr(loader, "shuffle", False) is True or getattr(sampler, "shuffle", False) is True
    if shuffles or isinstance(sampler, randoms):
        raise InputError(
            "The loader shuffles, so it is unknown which image has which id.",
            got=f"`ids`, and a loader with {type(sampler).__name__}" if sampler is not None else "`ids`",
            allowed="a loader that yields the images in the order of `ids`, or batches with ids",
            do="create the loader with shuffle=False, or yield (images, labels, ids) and omit `ids`",
        )


def _order_note(loader: Any) -> str:
    """Return a note if the order of the images of a loader is unknown; empty without a loader of PyTorch."""
    if not hasattr(loader, "dataset") or _is_in_order(loader):
        return ""
    how = type(_sampler(loader)).__name__ if getattr(loader, "in_order", True) else "in_order=False"
    return (
        f"the loader may not yield the images in the order of its data set ({how}); the ids must be in the "
        "order in which it yields them"
    )


@contextlib.contextmanager
def _evaluating(module: Any) -> Iterator[None]:
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
