"""Judge backbones by how well they serve another data set: the function of ``manyhot transfer``."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt

from manyhot.checks import check_draws
from manyhot.errors import InputError
from manyhot.evaluate.results import Evaluation
from manyhot.files import sha256
from manyhot.formats import read_predictions
from manyhot.formats.writing import PathLike, check_apart, check_place
from manyhot.predict.find import find_model
from manyhot.predict.network import Network
from manyhot.predict.run import Notify, PredictSettings, run
from manyhot.predict.sources import open_source
from manyhot.predict.sources.altered import select_images
from manyhot.run import Run
from manyhot.tables import predictions_file_name
from manyhot.tables.sets import States
from manyhot.train.splits import held_out_of
from manyhot.train.train import train_files
from manyhot.train.transfer.methods import NeighbourSettings, ProbeSettings, ShotSettings, settings_of
from manyhot.train.transfer.request import TransferInputs, TransferRequest, labelled_images
from manyhot.train.transfer.tally import (
    Draws,
    MetricSlice,
    ResampledMetric,
    TransferLabels,
    TransferTally,
    check_classes,
    mean_of_draws,
)

_METRICS: Mapping[str, tuple[str, ...]] = {
    "label": ("top1", "real1"),
    "sets": ("map_macro(masked=True)",),
}
"""What is measured where a head is fitted to single labels, and to label sets."""


Features = npt.NDArray[np.float16]


def transfer_files(
    source: PathLike,
    out: PathLike = "transfer",
    *,
    models: Sequence[str] | Mapping[str, str],
    method: str,
    labels: PathLike | None = None,
    objects: PathLike | None = None,
    masks: PathLike | None = None,
    classes: PathLike | None = None,
    split: PathLike | None = None,
    held_out: float = 0.3,
    settings: Mapping[str, Any] | None = None,
    train_backbone: bool = False,
    seed: int = 0,
    resamples: int = 1000,
    engine: str = "auto",
    call: str = "",
    notify: Notify | None = None,
) -> tuple[Evaluation, list[Path]]:
    """Judge backbones by how well they serve another data set.

    Parameters
    ----------
    source : path-like
        See `manyhot.predict.sources.open_source`.
    out : path-like
        The folder that results, features and fine-tuned networks are written into.
    models : sequence of str, or mapping of str to str
        Backbones, as ``manyhot predict --model`` takes them, weights without classes included; a mapping
        gives them names.
    method : str
        One of `manyhot.train.transfer.methods.TRANSFER_METHODS`.
    labels : path-like, optional
        Label sets, of all methods but detection and segmentation; for ``multilabel`` by default the classes
        of the objects.
    objects : path-like, optional
        See `manyhot.formats.read_objects`; for detection.
    masks : path-like, optional
        See `manyhot.formats.read_masks`; for segmentation. Their classes are those of the objects or of
        `classes`.
    classes : path-like, optional
        A class list: a file, or the name of one that is known.
    split : path-like, optional
        A table with ``image_id`` and ``split``; images whose split is ``test`` are judged, all others are
        fitted on.
    held_out : float
        Without it: the share of images that is judged, select_images by the seed.
    settings : Mapping, optional
        Of the method; see `manyhot.train.transfer.methods`. Of ``fine-tune`` those of a recipe.
    train_backbone : bool
        Train the backbone under a detector or a segmentation head, too; by default it stays as it is.
    seed : int
        Of images held out, first weights, order, few shots, and the bootstrap.
    resamples : int
        Of the bootstrap over the images judged; 0 for no intervals.
    engine : str
        That features are computed with.
    notify : callable, optional
        Called with the kind of an event and its details.

    Returns
    -------
    Evaluation
        Its samples are of the same draws in every call with the same seed and the same images judged.
    list of Path

    Raises
    ------
    ManyhotError
        For each kind of bad input.
    """
    out = Path(out)
    method_settings = settings_of(method, settings or {})
    if train_backbone and method not in ("detection", "segmentation"):
        raise InputError(
            f"The method {method} does not train the backbone.",
            allowed="detection, segmentation",
            do="the method fine-tune does" if method != "fine-tune" else "it does so anyway: leave this out",
        )
    _check_models(models)
    check_draws(resamples, seed)
    check_apart([source, labels, objects, masks, classes, split], out, ["results", "pairs", "samples"])
    check_place(out / "results.parquet", "results")
    request = TransferRequest(
        source=open_source(source),
        models=models if isinstance(models, Mapping) else dict.fromkeys(models, ""),
        out=out,
        method=method,
        settings=method_settings,
        held=held_out_of(split, held_out, seed),
        seed=seed,
        resamples=resamples,
        engine=engine,
        call=call,
        notify=notify,
        train_backbone=train_backbone,
    )
    data = TransferInputs.read(method, labels=labels, objects=objects, masks=masks, classes=classes)
    evaluation = _transferred(request, data)
    files = [Path(p) for p in (labels, objects, masks, classes, split) if p]
    inputs = {p.name: sha256(p) for p in files if p.is_file()}
    return evaluation, replace(evaluation, inputs=inputs).write(out, run=Run(call))


def _check_models(models: Sequence[str] | Mapping[str, str]) -> None:
    if not models or isinstance(models, str):
        raise InputError("No backbone is named.", got=models or None, do="name at least one with --model")
    if len(set(models)) < len(models):
        raise InputError("A backbone is named twice.", got=", ".join(models))


def _transferred(request: TransferRequest, inputs: TransferInputs) -> Evaluation:
    if request.method in ("detection", "segmentation"):
        from manyhot.train.transfer.by_maps import by_maps

        return by_maps(request, inputs)
    if request.method == "fine-tune":
        return _by_tuning(request, inputs)
    return _by_features(request, inputs)


def _by_features(request: TransferRequest, inputs: TransferInputs) -> Evaluation:
    """Fit and judge heads on features."""
    states, label = inputs.states()
    by_label = request.method != "multilabel"
    tally: TransferTally | None = None
    for spec, network in request.networks():
        ids, features = _features(request, network, states.image_id)
        order = np.argsort(ids)
        labels = _labels(request, states, label, [ids[i] for i in order], by_label)
        tally = tally or request.tally(int(labels.held.sum()))
        scored = _SCORED[request.method](request, labels, features[order], spec)
        metrics = _METRICS["label" if by_label else "sets"]
        tally.results[network.name] = _measured(tally.draws, labels, scored, metrics, request.seed)
    assert tally is not None
    return tally.finish(request.notes)


def _features(request: TransferRequest, network: Network, image_ids: pa.Array) -> tuple[list[str], Features]:
    """Return ids and features of the images of the source that have labels or objects."""
    folder = request.out / "features"
    source = labelled_images(request, image_ids.to_pylist())
    run(
        source,
        network,
        folder,
        PredictSettings(1, request.engine, embeddings=True),
        request.call,
        request.notify,
    )
    file = Path(predictions_file_name(network.name))
    with (folder / "skipped.csv").open(newline="", encoding="utf-8") as skipped:
        request.note_skipped({row["image_id"]: row["reason"] for row in csv.DictReader(skipped)})
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
            "The labels hold no original label.",
            do="judge label sets with the method multilabel, or fine-tune with teach=sets",
        )
    check_classes(*labels.counts(by_label), labels.classes.keys)
    return labels


Scored = Mapping[str, Sequence[npt.NDArray[np.floating]]]
"""By options of the metrics: scores of the images judged, of one fit or of several draws."""


def _by_neighbours(request: TransferRequest, labels: TransferLabels, x: Features, _: str) -> Scored:
    from manyhot.train.transfer.neighbours import knn_scores

    settings = request.settings_as(NeighbourSettings)
    fit = ~labels.held & labels.labelled
    scores = knn_scores(
        x[fit],
        labels.label[fit],
        x[labels.held],
        len(labels.classes),
        k=settings.k,
        temperature=settings.temperature,
    )
    return {"": [scores]}


def _by_probe(request: TransferRequest, labels: TransferLabels, x: Features, spec: str) -> Scored:
    from manyhot.train.heads import fit_softmax

    penalty = request.settings_as(ProbeSettings).penalty or None
    fit = ~labels.held & labels.labelled
    head = fit_softmax(x[fit], labels.label[fit], labels.classes, spec, penalty=penalty)
    return {"": [head.logits(x[labels.held])]}


def _by_sets(request: TransferRequest, labels: TransferLabels, x: Features, spec: str) -> Scored:
    from manyhot.train.heads import fit_sigmoid

    penalty = request.settings_as(ProbeSettings).penalty or None
    fit = ~labels.held
    head = fit_sigmoid(x[fit], labels.state[fit], labels.classes, spec, penalty=penalty)
    return {"": [head.logits(x[labels.held])]}


def _by_shots(request: TransferRequest, labels: TransferLabels, x: Features, spec: str) -> Scored:
    from manyhot.train.heads import fit_softmax
    from manyhot.train.transfer.neighbours import draw_shots

    settings = request.settings_as(ShotSettings)
    fit = np.flatnonzero(~labels.held & labels.labelled)
    there = np.bincount(labels.label[fit], minlength=len(labels.classes))
    classes = np.flatnonzero(there)
    found: dict[str, list[npt.NDArray[np.floating]]] = {}
    for shots in settings.shots:
        few = [f"{labels.classes.keys[c]} {there[c]:,}" for c in classes if there[c] < shots]
        if few:
            request.note(
                "few_images", len(few), f"fewer than {shots:,} images to fit on, all taken: {', '.join(few)}"
            )
        for draw in range(settings.draws):
            rng = np.random.default_rng([request.seed, shots, draw])
            rows = fit[draw_shots(labels.label[fit], classes, shots, rng)]
            penalty = settings.penalty or 1 / len(rows)
            head = fit_softmax(x[rows], labels.label[rows], labels.classes, spec, penalty=penalty)
            found.setdefault(f"(shots={shots})", []).append(head.logits(x[labels.held]))
    return found


_SCORED: Mapping[str, Callable[[TransferRequest, TransferLabels, Features, str], Scored]] = {
    "knn": _by_neighbours,
    "probe": _by_probe,
    "few-shot": _by_shots,
    "multilabel": _by_sets,
}


def _measured(
    draws: Draws, labels: TransferLabels, scored: Scored, metrics: Sequence[str], seed: int
) -> dict[MetricSlice, ResampledMetric]:
    judged, found = labels.judged, {}
    for options, scores in scored.items():
        each = [draws.classified(judged, s.astype(np.float32), metrics) for s in scores]
        for metric, where in each[0]:
            of = [one[metric, where] for one in each]
            found[f"{metric}{options}", where] = of[0] if len(of) == 1 else mean_of_draws(of, seed)
    return found


def _by_tuning(request: TransferRequest, inputs: TransferInputs) -> Evaluation:
    """Train each backbone on, by the loop of ``manyhot train``, and judge it."""
    from manyhot.train.networks import recipe_from

    plan = {"teach": "label", "epochs": 10, "lr": 3e-4, "seed": request.seed, **request.settings_as(dict)}
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
        tuned = train_files(
            request.source.uri,
            file,
            folder,
            recipe={**recipe_from(spec), **plan},
            classes=inputs.class_file,
            call=request.call,
            notify=request.notify,
        )
        scores = _scores(request, replace(find_model(f"trained:{tuned}"), name=network.name), held, folder)
        metrics = _METRICS["label" if by_label else "sets"]
        tally.results[network.name] = _measured(tally.draws, labels, {"": [scores]}, metrics, request.seed)
    return tally.finish(request.notes)


def _scores(
    request: TransferRequest, network: Network, held: Sequence[str], folder: Path
) -> npt.NDArray[np.floating]:
    """Return the scores of the images judged, in the order of their ids."""
    where = folder / "predictions"
    run(
        select_images(request.source, held),
        network,
        where,
        PredictSettings(None, request.engine),
        request.call,
        request.notify,
    )
    found = read_predictions(where / predictions_file_name(network.name))
    row = {name: i for i, name in enumerate(found.image_id.to_pylist())}
    assert found.scores is not None
    return found.scores[[row[name] for name in held]]
