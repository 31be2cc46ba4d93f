"""A module over the batches of a loader: for those who have both already."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from manyhot.classes import ClassList, class_list, from_keys, of_outputs
from manyhot.errors import InputError
from manyhot.extras import required
from manyhot.models.network import Network
from manyhot.models.predict import Predicted, image_table
from manyhot.models.scored import Keep, kept
from manyhot.models.sources import Labels
from manyhot.tables import Predictions


def predict_loader(
    module: Any,
    loader: Any,
    *,
    top: int | None = 20,
    classes: ClassList | None = None,
    ids: Sequence[str] | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Predicted:
    """Run a module over a loader's batches, where it lies and as it is, in evaluation mode.

    Parameters
    ----------
    module : torch.nn.Module
        Batches of the loader to logits of shape (n, C).
    loader : iterable
        Of tensors, of (images, labels), of (images, labels, ids), or of mappings with ``image``, ``label``,
        ``image_id``.
    top : int, optional
    classes : ClassList, optional
        ImageNet-1k where there are 1,000 logits.
    ids : sequence of str, optional
        Of the images in order; by default from the loader, or from the files of its data set if it does not
        shuffle.
    progress : callable, optional

    Notes
    -----
    Where the data set names its classes, as an ImageFolder does, labels are found by these names in the class
    list; else they count in it.

    Raises
    ------
    InputError
        Nobody knows the ids of the images, there are more or fewer, or the module does not return logits.
    """
    torch: Any = required("torch", "Predicting with a module")
    if not isinstance(module, torch.nn.Module):
        raise InputError(
            "This is neither a source of images nor a module.",
            got=type(module).__name__,
            allowed="predict(source, model) with a path and a name, or predict(module, loader)",
        )
    known = list(ids) if ids is not None else _file_names(loader)
    class_names = _class_names(loader)
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    rows: list[tuple[Any, Any, Any]] = []
    names: list[str] = []
    labels: list[int | None] = []
    total = len(loader.dataset) if hasattr(loader, "dataset") and hasattr(loader.dataset, "__len__") else None
    network: Network | None = None
    with _evaluating(module), torch.inference_mode():
        for images, own_labels, own_ids in map(_taken, loader):
            logits = _logits(module(images.to(device)), len(images))
            network = network or _network(module, logits.shape[1], classes, class_names)
            names += _named(own_ids, known, len(names), len(images))
            labels += own_labels or [None] * len(images)
            rows.append(kept(logits, network, Keep(top), names[-len(images) :]))
            if progress is not None:
                progress(len(names), total)
    if network is None:
        raise InputError("The loader holds no batches.")
    if ids is not None and len(ids) > len(names):
        raise InputError("There are more ids than images.", got=f"{len(ids):,}", allowed=f"{len(names):,}")
    if class_names:
        find = Labels(network.classes, strict=False, where=network.name)
        labels = [None if label is None else find(class_names[label]) for label in labels]
    best, scores, logsumexp = zip(*rows, strict=True)
    predictions = Predictions(
        image_table(names, labels).image_id,
        network.name,
        None if best[0] is None else np.concatenate(best),
        np.concatenate(scores),
        np.concatenate(logsumexp),
        "logit",
        len(network.classes),
        network.classes.hash,
    )
    return Predicted(predictions, image_table(names, labels), ())


def _network(module: Any, n: int, classes: ClassList | None, names: Sequence[str]) -> Network:
    name = str((getattr(module, "pretrained_cfg", None) or {}).get("architecture") or type(module).__name__)
    if classes is not None and len(classes) != n:
        raise InputError(
            "The model has another number of classes than the class list.",
            where=name,
            got=f"{n:,} scores an image",
            allowed=f"{len(classes):,}",
        )
    if classes is None and len(names) == n and not set(names) <= set(class_list().keys):
        # A module of as many scores as the data set has classes is one of these, in this order.
        classes = from_keys(names, f"{n} classes of the loader")
    return Network(name, classes or of_outputs(n, name), module=module)


def _class_names(loader: Any) -> list[str]:
    """Return the classes that the labels of a data set count in; nothing where it does not tell."""
    dataset = getattr(loader, "dataset", None)
    names = getattr(dataset, "wnids", None) or getattr(dataset, "classes", None) or ()
    return list(names) if all(isinstance(name, str) for name in names) else []


def _taken(batch: Any) -> tuple[Any, list[int | None] | None, list[str] | None]:
    """Return images, labels and ids of a batch, as far as it has them."""
    if isinstance(batch, Mapping):
        images = next((batch[k] for k in ("image", "images", "pixel_values") if k in batch), None)
        if images is None:
            raise InputError("A batch holds no images.", got=", ".join(map(str, batch)), allowed="image")
        return images, _numbers(batch.get("label")), _texts(batch.get("image_id"))
    if isinstance(batch, list | tuple):
        return batch[0], _numbers(batch[1] if batch[1:] else None), _texts(batch[2] if batch[2:] else None)
    return batch, None, None


def _numbers(values: Any) -> list[int | None] | None:
    if values is None or getattr(values, "ndim", 1) != 1:
        return None
    return [int(v) for v in values]


def _texts(values: Any) -> list[str] | None:
    return None if values is None else [PurePath(str(v)).name for v in values]


def _logits(out: Any, n: int) -> np.ndarray[Any, Any]:
    logits = np.asarray(out.float().cpu() if hasattr(out, "float") else out, np.float32)
    if logits.ndim != 2 or len(logits) != n:
        raise InputError(
            "The module does not return logits.", got=f"shape {logits.shape}", allowed=f"shape ({n}, C)"
        )
    return logits


def _named(own: list[str] | None, known: list[str] | None, at: int, n: int) -> list[str]:
    if own is not None:
        return own
    if known is None:
        raise InputError(
            "Nobody knows which images these are.",
            allowed="ids=…, batches of (images, labels, ids), or an ImageFolder that is not shuffled",
            do="rows without ids cannot be joined with labels",
        )
    if len(known) < at + n:
        raise InputError(
            "There are more images than ids.", got=f"{at + n:,} images and more", allowed=f"{len(known):,}"
        )
    return known[at : at + n]


def _file_names(loader: Any) -> list[str] | None:
    """Return the base names of the files of an ImageFolder that is read in order."""
    files = getattr(getattr(loader, "dataset", None), "samples", None)
    if not files or not _is_in_order(loader):
        return None
    return [PurePath(str(file[0])).name for file in files]


def _is_in_order(loader: Any) -> bool:
    # A loader with batches of one's own calls its sampler sequential, which is not asked then.
    batches = getattr(loader, "batch_sampler", None)
    own = batches is not None and type(batches).__name__ != "BatchSampler"
    sampler = getattr(loader if batches is None else batches, "sampler", None)
    return not own and type(sampler).__name__ == "SequentialSampler" and getattr(loader, "in_order", True)


@contextlib.contextmanager
def _evaluating(module: Any) -> Iterator[None]:
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
