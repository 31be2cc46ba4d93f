"""Backbones and another data set in; how well they serve it out."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt

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
from manyhot.tables import predictions_file_name
from manyhot.tables.sets import States, check_draws
from manyhot.train.run import train_files
from manyhot.train.splits import held_out_of
from manyhot.train.transfer.images import Given, Told, some_images
from manyhot.train.transfer.measure import Draws, Key, Known, Measured, Tally, check_classes, mean_of_draws
from manyhot.train.transfer.settings import settings_of

METRICS: Mapping[str, tuple[str, ...]] = {
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
        One of `manyhot.train.transfer.settings.METHODS`.
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
        Without it: the share of images that is judged, chosen by the seed.
    settings : Mapping, optional
        Of the method; see `manyhot.train.transfer.settings`. Of ``fine-tune`` those of a recipe.
    train_backbone : bool
        Train the backbone under a detector or a segmentation head, too; by default it stays as it is.
    seed : int
        Of images held out, first weights, order, few shots, and the bootstrap.
    resamples : int
        Of the bootstrap over the images judged; 0 for no intervals.
    engine : str
        That features are computed with.
    notify : callable, optional
        Called with the kind of an event and what is told about it.

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
    plan = settings_of(method, settings or {})
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
    told = Told(
        open_source(source),
        models if isinstance(models, Mapping) else dict.fromkeys(models, ""),
        out,
        method,
        plan,
        held_out_of(split, held_out, seed),
        seed,
        resamples,
        engine,
        call,
        notify,
        train_backbone,
    )
    found = _transferred(told, Given.read(method, labels, objects, masks, classes))
    files = [Path(p) for p in (labels, objects, masks, classes, split) if p]
    inputs = {p.name: sha256(p) for p in files if p.is_file()}
    return found, found.write(out, call=call, inputs=inputs)


def _check_models(models: Sequence[str] | Mapping[str, str]) -> None:
    if not models or isinstance(models, str):
        raise InputError("No backbone is named.", got=models or None, do="name at least one with --model")
    if len(set(models)) < len(models):
        raise InputError("A backbone is named twice.", got=", ".join(models))


def _transferred(told: Told, given: Given) -> Evaluation:
    if told.method in ("detection", "segmentation"):
        from manyhot.train.transfer.by_maps import by_maps

        return by_maps(told, given)
    if told.method == "fine-tune":
        return _by_tuning(told, given)
    return _by_features(told, given)


def _by_features(told: Told, given: Given) -> Evaluation:
    """Fit and judge heads on features."""
    states, label = given.states()
    by_label = told.method != "multilabel"
    tally: Tally | None = None
    for spec, network in told.networks():
        ids, features = _features(told, network, states.image_id)
        order = np.argsort(ids)
        known = _known(told, states, label, [ids[i] for i in order], by_label)
        tally = tally or told.tally(int(known.held.sum()), int(known.held.sum()))
        scored = _SCORED[told.method](told, known, features[order], spec)
        metrics = METRICS["label" if by_label else "sets"]
        tally.found[network.name] = _measured(tally.draws, known, scored, metrics, told.seed)
    assert tally is not None
    return tally.finish(told.notes)


def _features(told: Told, network: Network, wanted: pa.Array) -> tuple[list[str], Features]:
    """Return ids and features of those images of the source that something is known of."""
    folder = told.out / "features"
    source = some_images(told, wanted.to_pylist())
    run(source, network, folder, PredictSettings(1, told.engine, embeddings=True), told.call, told.notify)
    file = Path(predictions_file_name(network.name))
    with (folder / "skipped.csv").open(newline="", encoding="utf-8") as skipped:
        told.note_skipped({row["image_id"]: row["reason"] for row in csv.DictReader(skipped)})
    ids = read_predictions(folder / file).image_id.to_pylist()
    return ids, np.load(folder / "embeddings" / file.with_suffix(".npy"))


def _known(
    told: Told, states: States, label: npt.NDArray[np.integer], names: Sequence[str], by_label: bool
) -> Known:
    known = Known.of(states, label, names, told.held.of(names))
    if by_label and not known.labelled.any():
        raise InputError(
            "The labels hold no original label.",
            do="judge label sets with the method multilabel, or fine-tune with teach=sets",
        )
    check_classes(*known.counts(by_label), known.classes.keys)
    return known


Scored = Mapping[str, Sequence[npt.NDArray[np.floating]]]
"""By options of the metrics: scores of the images judged, of one fit or of several draws."""


def _by_neighbours(told: Told, known: Known, x: Features, _: str) -> Scored:
    from manyhot.train.transfer.neighbours import knn_scores

    fit = ~known.held & known.labelled
    scores = knn_scores(
        x[fit],
        known.label[fit],
        x[known.held],
        len(known.classes),
        k=told.plan.k,
        temperature=told.plan.temperature,
    )
    return {"": [scores]}


def _by_probe(told: Told, known: Known, x: Features, spec: str) -> Scored:
    from manyhot.train.heads import fit_softmax

    fit = ~known.held & known.labelled
    head = fit_softmax(x[fit], known.label[fit], known.classes, spec, penalty=told.plan.penalty or None)
    return {"": [head.logits(x[known.held])]}


def _by_sets(told: Told, known: Known, x: Features, spec: str) -> Scored:
    from manyhot.train.heads import fit_sigmoid

    fit = ~known.held
    head = fit_sigmoid(x[fit], known.state[fit], known.classes, spec, penalty=told.plan.penalty or None)
    return {"": [head.logits(x[known.held])]}


def _by_shots(told: Told, known: Known, x: Features, spec: str) -> Scored:
    from manyhot.train.heads import fit_softmax
    from manyhot.train.transfer.neighbours import draw_shots

    fit = np.flatnonzero(~known.held & known.labelled)
    there = np.bincount(known.label[fit], minlength=len(known.classes))
    classes = np.flatnonzero(there)
    found: dict[str, list[npt.NDArray[np.floating]]] = {}
    for shots in told.plan.shots:
        few = [f"{known.classes.keys[c]} {there[c]:,}" for c in classes if there[c] < shots]
        if few:
            told.note(
                "few_images", len(few), f"fewer than {shots:,} images to fit on, all taken: {', '.join(few)}"
            )
        for draw in range(told.plan.draws):
            rng = np.random.default_rng([told.seed, shots, draw])
            rows = fit[draw_shots(known.label[fit], classes, shots, rng)]
            penalty = told.plan.penalty or 1 / len(rows)
            head = fit_softmax(x[rows], known.label[rows], known.classes, spec, penalty=penalty)
            found.setdefault(f"(shots={shots})", []).append(head.logits(x[known.held]))
    return found


_SCORED: Mapping[str, Callable[[Told, Known, Features, str], Scored]] = {
    "knn": _by_neighbours,
    "probe": _by_probe,
    "few-shot": _by_shots,
    "multilabel": _by_sets,
}


def _measured(
    draws: Draws, known: Known, scored: Scored, metrics: Sequence[str], seed: int
) -> dict[Key, Measured]:
    judged, found = known.judged, {}
    for options, scores in scored.items():
        each = [draws.classified(judged, s.astype(np.float32), metrics) for s in scores]
        for metric, where in each[0]:
            of = [one[metric, where] for one in each]
            found[f"{metric}{options}", where] = of[0] if len(of) == 1 else mean_of_draws(of, seed)
    return found


def _by_tuning(told: Told, given: Given) -> Evaluation:
    """Train each backbone on, by the loop of ``manyhot train``, and judge it."""
    from manyhot.train.networks import recipe_from

    plan = {"teach": "label", "epochs": 10, "lr": 3e-4, "seed": told.seed, **told.plan}
    by_label = plan["teach"] == "label"
    states, label = given.states()
    source = some_images(told, states.image_id.to_pylist())
    there = sorted(item.image_id for part in source.parts for item, _ in part.items())
    known = _known(told, states, label, there, by_label)
    tally = told.tally(int(known.held.sum()), int(known.held.sum()))
    held = [name for name, h in zip(known.names, known.held, strict=True) if h]
    for spec, network in told.networks():
        folder = told.out / "fine-tune" / Path(predictions_file_name(network.name)).stem
        labels = given.labels_of(set(known.names) - set(held), folder / "labels.parquet")
        tuned = train_files(
            told.source.uri,
            labels,
            folder,
            recipe={**recipe_from(spec), **plan},
            classes=given.path,
            call=told.call,
            notify=told.notify,
        )
        scores = _scores(told, replace(find_model(f"trained:{tuned}"), name=network.name), held, folder)
        metrics = METRICS["label" if by_label else "sets"]
        tally.found[network.name] = _measured(tally.draws, known, {"": [scores]}, metrics, told.seed)
    return tally.finish(told.notes)


def _scores(told: Told, network: Network, held: Sequence[str], folder: Path) -> npt.NDArray[np.floating]:
    """Return the scores of the images judged, in the order of their ids."""
    where = folder / "predictions"
    run(
        select_images(told.source, held),
        network,
        where,
        PredictSettings(None, told.engine),
        told.call,
        told.notify,
    )
    found = read_predictions(where / predictions_file_name(network.name))
    row = {name: i for i, name in enumerate(found.image_id.to_pylist())}
    assert found.scores is not None
    return found.scores[[row[name] for name in held]]
