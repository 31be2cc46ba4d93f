"""Evaluate the transfer of backbones to another data set: the function of ``manyhot transfer``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot.command import command
from manyhot.data.reading_options import ObjectsLike
from manyhot.errors import InputError, first_names
from manyhot.files import hashes_of
from manyhot.formats import ClassNamesLike, read_predictions
from manyhot.formats.writing import PathLike, check_apart, check_place
from manyhot.parameters import NO_SETTINGS, RESAMPLES, OptionName, Repeated, Resamples, Seed, Settings, Shown
from manyhot.predict.engines import EngineOptions
from manyhot.predict.models import find_model
from manyhot.predict.network import Network
from manyhot.predict.parts import read_skipped
from manyhot.predict.run import PredictSettings
from manyhot.predict.run import run as predict_source
from manyhot.predict.sources import DECODING, Decoding, ImagesLike, open_source
from manyhot.predict.sources.source import select_images
from manyhot.predict.weights import Head
from manyhot.report.text import counted
from manyhot.run import QUIET, Run
from manyhot.tables import predictions_file_name
from manyhot.tables.arrays import States
from manyhot.tables.label_values import LabelValues
from manyhot.train.order import HELD_OUT_SHARE, HeldOutShare, held_out_of
from manyhot.train.train import train
from manyhot.train.transfer.methods import NeighbourSettings, ProbeSettings, ShotSettings, TransferMethod
from manyhot.train.transfer.request import TransferInputs, TransferRequest, labelled_images
from manyhot.train.transfer.tally import (
    Draws,
    MetricSlice,
    ResampledMetric,
    TransferLabels,
    TransferResult,
    TransferTally,
    check_classes,
    mean_of_draws,
)

_METRICS: Mapping[str, tuple[str, ...]] = {
    "label": ("top1", "real1"),
    "sets": ("map_macro(masked=True)",),
}
"""The metrics of heads on single labels, and on label sets."""

Features = npt.NDArray[np.float16]


@command(
    "transfer",
    examples=("manyhot transfer photos --labels labels.parquet --method knn --model timm/resnet50",),
)
def transfer(
    images: ImagesLike,
    model: Annotated[
        str | Sequence[str] | Mapping[str, str], OptionName("--model"), Repeated(), Shown("NAME")
    ],
    *,
    method: str,
    out: Annotated[PathLike, Shown("FOLDER")] = "transfer",
    labels: Annotated[PathLike | None, Shown("FILE")] = None,
    objects: ObjectsLike | None = None,
    masks: Annotated[PathLike | None, Shown("FOLDER")] = None,
    classes: ClassNamesLike | None = None,
    label_values: LabelValues | None = None,
    split: Annotated[PathLike | None, Shown("FILE")] = None,
    held_out: HeldOutShare = HELD_OUT_SHARE,
    settings: Settings = NO_SETTINGS,
    train_backbone: bool = False,
    seed: Seed = 0,
    resamples: Resamples = RESAMPLES,
    engine: str = "auto",
    decoding: Decoding = DECODING,
    run: Run = QUIET,
) -> TransferResult:
    """Evaluate the transfer of backbones to another data set.

    A method fits heads on frozen features (nearest neighbours, linear probes, few-shot probes, or a sigmoid
    per class), fits detectors or segmentation heads on feature maps, or fine-tunes the backbone. All models
    are evaluated on the same images and resamples. The methods probe and multilabel write the split of the
    images to a table, and the head to a file that can be used as a model.

    Parameters
    ----------
    images
        Images, as for predict.
    model
        Name of a backbone, as for predict. Its weights do not need a classifier. In Python, it can also be a
        mapping of names to models.
    method
        Method of transfer: knn, probe, few-shot, fine-tune, multilabel, detection or segmentation.
    out
        Folder for results, features and fine-tuned networks. It is created if it does not exist.
    labels
        Label sets and original labels of the images. All methods except detection and segmentation need them.
        For multilabel, the default is the classes of the objects.
    objects
        Boxes of the objects, for detection. They also give label sets.
    masks
        Masks, for segmentation: a folder of PNGs, or a table with mask_png.
    classes
        Class list: a file with one key per line, a table with the columns key and name, or imagenet1k,
        imagenet-a or imagenet-r.
    label_values
        Meaning of the numbers in labels with one column per class, if it is ambiguous: states (0, 1 and -1),
        counts of votes for one class per image, shares of these votes, p (probabilities of classes that can
        be valid together), or yes-of-5 (how many of 5 raters answered yes; any number of raters).
    split
        Table with a column of image names and the column split. Images of the split test are evaluated, and
        all others are used for fitting.
    held_out
        Share of the images that is evaluated, chosen by the seed, if there is no split. If all images of a
        class would be evaluated, they are used for fitting instead.
    settings
        Setting of the method, as NAME=VALUE. For fine-tune, it is a setting of a recipe.
    train_backbone
        Also train the backbone of a detector or segmentation head.
    seed
        Seed for the held-out images, the weights, the draws and the bootstrap.
    resamples
        Number of bootstrap resamples of the evaluated images; 0 for no intervals.
    engine
        Engine that computes features, as for predict.

    Returns
    -------
    TransferResult
        The results. Their samples use the same draws in each call with the same seed and test images.

    Raises
    ------
    ManyhotError
        If the input is invalid.
    """
    out = Path(out)
    checked = TransferMethod.of(method, settings, train_backbone)
    models = _models(model)
    files = [labels, objects, masks, classes, split]
    check_apart([images, *files], out, TransferResult.NAMES)
    check_place(out / "results.parquet", "results")
    held = held_out_of(split, held_out, seed)
    request = TransferRequest(
        source=open_source(images, decoding=decoding),
        models=models,
        out=out,
        method=checked,
        held=held,
        draws=Draws(0, resamples, seed),
        engine=engine,
        run=run,
    )
    for note in request.source.notes:
        request.note("images", 0, note)
    data = TransferInputs.read(
        method, labels=labels, objects=objects, masks=masks, classes=classes, label_values=label_values
    )
    data = data.matched(request)
    result = replace(_transferred(request, data), heads=tuple(request.heads), inputs=hashes_of(files))
    return replace(result, written=(*result.write(out, run=run), *request.written))


def _models(model: str | Sequence[str] | Mapping[str, str]) -> Mapping[str, str]:
    """Return the backbones by name, each with its model if that differs from the name."""
    if isinstance(model, Mapping):
        return model
    names = [model] if isinstance(model, str) else [*model]
    if not names:
        raise InputError("No backbone was passed.", do="pass at least one as `model`")
    if len(set(names)) < len(names):
        raise InputError("A backbone was passed twice.", got=", ".join(names))
    return dict.fromkeys(names, "")


def _transferred(request: TransferRequest, inputs: TransferInputs) -> TransferResult:
    if request.method.name in ("detection", "segmentation"):
        from manyhot.train.transfer.by_maps import by_maps

        return by_maps(request, inputs)
    if request.method.name == "fine-tune":
        return _by_tuning(request, inputs)
    return _by_features(request, inputs)


def _by_features(request: TransferRequest, inputs: TransferInputs) -> TransferResult:
    """Fit and evaluate heads on features."""
    states, label = inputs.states()
    by_label = request.method.name != "multilabel"
    tally: TransferTally | None = None
    for spec, network in request.networks():
        ids, features = _features(request, network, states.image_id)
        order = np.argsort(ids)
        labels = _labels(request, states, label, [ids[i] for i in order], by_label)
        tally = tally or request.tally(int(labels.held.sum()))
        scored, head = _FITTED[request.method.name](request, labels, features[order], spec)
        if head is not None:
            request.keep(head, network.name, labels)
        metrics = _METRICS["label" if by_label else "sets"]
        tally.results[network.name] = _measured(tally.draws, labels, scored, metrics)
    assert tally is not None
    return tally.finish(request.notes)


def _features(request: TransferRequest, network: Network, image_ids: pa.Array) -> tuple[list[str], Features]:
    """Return ids and features of the images of the source that have labels or objects."""
    folder = request.out / "features"
    source = labelled_images(request, image_ids.to_pylist())
    settings = PredictSettings(1, request.engine, EngineOptions(features=True))
    predict_source(source, network, folder, settings, request.run.call, request.run.on_event)
    file = Path(predictions_file_name(network.name))
    request.note_skipped({row["image_id"]: row["reason"] for row in read_skipped(folder)})
    ids = read_predictions(folder / file).image_id.to_pylist()
    return ids, np.load(folder / "embeddings" / file.with_suffix(".npy"))


def _labels(
    request: TransferRequest,
    states: States,
    label: npt.NDArray[np.integer],
    names: Sequence[str],
    by_label: bool,
) -> TransferLabels:
    labels = TransferLabels.of(states, label, names, request.held.of(names))
    if by_label and not labels.labelled.any():
        raise InputError(
            "The labels contain no original label.",
            do="evaluate label sets with the method multilabel, or fine-tune with teach=sets",
        )
    if request.held.test is None:
        labels = _with_rare_classes(request, labels, by_label)
    check_classes(*labels.counts(by_label), labels.classes.keys)
    return labels


def _with_rare_classes(request: TransferRequest, labels: TransferLabels, by_label: bool) -> TransferLabels:
    """Return a random split without the held-out images of classes that are in no image to fit on."""
    fitted, judged = labels.counts(by_label)
    rare = np.flatnonzero((judged > 0) & (fitted == 0))
    moved = labels.held & labels.shown(by_label)[:, rare].any(1)
    if not len(rare) or moved.sum() == labels.held.sum():
        return labels
    n, names = int(moved.sum()), first_names([labels.classes.keys[c] for c in rare])
    text = (
        f"{counted(n, 'image')} of {counted(len(rare), 'class')} ({names}) whose images were all held out "
        "are used for fitting, so these classes are not evaluated"
    )
    request.note("rare_classes", n, text)
    return replace(labels, held=labels.held & ~moved)


Scored = Mapping[str, Sequence[npt.NDArray[np.floating]]]
"""By options of the metrics: scores of the test images, from one fit or from several draws."""

Fitted = tuple[Scored, Head | None]
"""The scores of a method, and its head if one head gives all of them."""


def _by_neighbours(request: TransferRequest, labels: TransferLabels, x: Features, _: str) -> Fitted:
    from manyhot.train.transfer.methods import knn_scores

    settings = request.method.settings_as(NeighbourSettings)
    fit = ~labels.held & labels.labelled
    scores = knn_scores(
        x[fit],
        labels.label[fit],
        x[labels.held],
        len(labels.classes),
        k=settings.k,
        temperature=settings.temperature,
    )
    return {"": [scores]}, None


def _by_probe(request: TransferRequest, labels: TransferLabels, x: Features, spec: str) -> Fitted:
    from manyhot.train.heads import fit_softmax

    penalty = request.method.settings_as(ProbeSettings).penalty or None
    fit = ~labels.held & labels.labelled
    head = fit_softmax(x[fit], labels.label[fit], labels.classes, spec, penalty=penalty)
    return {"": [head.logits(x[labels.held])]}, head


def _by_sets(request: TransferRequest, labels: TransferLabels, x: Features, spec: str) -> Fitted:
    from manyhot.train.heads import fit_sigmoid

    penalty = request.method.settings_as(ProbeSettings).penalty or None
    fit = ~labels.held
    head = fit_sigmoid(x[fit], labels.state[fit], labels.classes, spec, penalty=penalty)
    return {"": [head.logits(x[labels.held])]}, head


def _by_shots(request: TransferRequest, labels: TransferLabels, x: Features, spec: str) -> Fitted:
    from manyhot.train.heads import fit_softmax
    from manyhot.train.transfer.methods import draw_shots

    settings = request.method.settings_as(ShotSettings)
    fit = np.flatnonzero(~labels.held & labels.labelled)
    there = np.bincount(labels.label[fit], minlength=len(labels.classes))
    classes = np.flatnonzero(there)
    found: dict[str, list[npt.NDArray[np.floating]]] = {}
    for shots in settings.shots:
        few = [f"{labels.classes.keys[c]} {there[c]:,}" for c in classes if there[c] < shots]
        if few:
            request.note(
                "few_images",
                len(few),
                f"classes with fewer than {shots:,} images to fit on, so all of their images are used: "
                f"{', '.join(few)}",
            )
        for draw in range(settings.draws):
            rng = np.random.default_rng([request.draws.seed, shots, draw])
            rows = fit[draw_shots(labels.label[fit], classes, shots, rng)]
            penalty = settings.penalty or 1 / len(rows)
            head = fit_softmax(x[rows], labels.label[rows], labels.classes, spec, penalty=penalty)
            found.setdefault(f"(shots={shots})", []).append(head.logits(x[labels.held]))
    return found, None


_FITTED: Mapping[str, Callable[[TransferRequest, TransferLabels, Features, str], Fitted]] = {
    "knn": _by_neighbours,
    "probe": _by_probe,
    "few-shot": _by_shots,
    "multilabel": _by_sets,
}


def _measured(
    draws: Draws, labels: TransferLabels, scored: Scored, metrics: Sequence[str]
) -> dict[MetricSlice, ResampledMetric]:
    judged, found = labels.judged, {}
    for options, scores in scored.items():
        each = [draws.classified(judged, s.astype(np.float32), metrics) for s in scores]
        for metric, where in each[0]:
            of = [one[metric, where] for one in each]
            found[f"{metric}{options}", where] = of[0] if len(of) == 1 else mean_of_draws(of, draws.seed)
    return found


def _by_tuning(request: TransferRequest, inputs: TransferInputs) -> TransferResult:
    """Fine-tune each backbone, by the loop of ``manyhot train``, and evaluate it."""
    from manyhot.train.networks import recipe_from

    plan = {
        "teach": "label",
        "epochs": 10,
        "lr": 3e-4,
        "seed": request.draws.seed,
        **request.method.settings_as(dict),
    }
    by_label = plan["teach"] == "label"
    states, label = inputs.states()
    source = labelled_images(request, states.image_id.to_pylist())
    there = sorted(item.image_id for part in source.parts for item, _ in part.items())
    labels = _labels(request, states, label, there, by_label)
    tally = request.tally(int(labels.held.sum()))
    held = [name for name, h in zip(labels.names, labels.held, strict=True) if h]
    for spec, network in request.networks():
        folder = request.out / "fine-tune" / Path(predictions_file_name(network.name)).stem
        file = inputs.labels_of(set(labels.names) - set(held), folder / "labels.parquet")
        tuned = train(
            request.source.uri,
            file,
            out=folder,
            recipe={**recipe_from(spec), **plan},
            classes=inputs.class_file,
            run=request.run,
        )
        scores = _scores(
            request, replace(find_model(f"trained:{tuned.network}"), name=network.name), held, folder
        )
        metrics = _METRICS["label" if by_label else "sets"]
        tally.results[network.name] = _measured(tally.draws, labels, {"": [scores]}, metrics)
    return tally.finish(request.notes)


def _scores(
    request: TransferRequest, network: Network, held: Sequence[str], folder: Path
) -> npt.NDArray[np.floating]:
    """Return the scores of the test images, in the order of their ids."""
    where, source = folder / "predictions", select_images(request.source, held)
    settings = PredictSettings(None, request.engine)
    predict_source(source, network, where, settings, request.run.call, request.run.on_event)
    found = read_predictions(where / predictions_file_name(network.name))
    row = {name: i for i, name in enumerate(found.image_id.to_pylist())}
    assert found.scores is not None
    return found.scores[[row[name] for name in held]]
