"""Images and objects in; heads with less of a shortcut, and what they are worth, out."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from manyhot import tables
from manyhot.classes import ClassList, from_keys
from manyhot.core.mitigation import Plan, plan
from manyhot.core.sets import NO, NO_LABEL, UNCLEAR, YES
from manyhot.core.shortcuts import BOTH, MAIN_ONLY, NEITHER, Resampled, split
from manyhot.errors import InputError, MatchError
from manyhot.files import sha256
from manyhot.formats import read_classes, read_labels, read_objects, read_predictions
from manyhot.formats.tabular import write_csv
from manyhot.heads import Head, write_head
from manyhot.models import Network, NoneLeftError, Settings, Source, altered, find_model, open_source, run
from manyhot.models.decode import decode
from manyhot.models.engines import Choice
from manyhot.pipeline.common import PathLike, check_apart, check_place
from manyhot.pipeline.predict import Notify
from manyhot.pipeline.removing import Told
from manyhot.pixels.pasting import Cutting, Pasting, cuttings
from manyhot.pixels.removal import Removal, fingerprint
from manyhot.steps.mitigation import HeldOut, Measured, Mitigation, Rows
from manyhot.steps.sets import original_labels
from manyhot.steps.shortcuts import LEAST, States, named_pairs, states_of_labels, states_of_objects
from manyhot.tables import Objects, predictions_file_name
from manyhot.tables.definitions import FILLS, TREATMENTS
from manyhot.train import fit_sigmoid, fit_softmax

LOSSES = ("softmax", "sigmoid")

DONORS = 50
"""Objects that are cut out to be pasted."""

PASTED = 500
"""Images that one kind of pasting is done to, at most; each counts for several then."""

Features = npt.NDArray[np.float16]
Ints = npt.NDArray[np.integer]


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
    least: int = LEAST,
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
        As in `manyhot.diagnose_shortcuts_files`.
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
        Whether no more images are added than the published caps allow; see `manyhot.core.mitigation.plan`.
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
    _check_options(losses, fill, held_out, pairs)
    check_apart([source, objects, masks, labels, classes, split], out, ["mitigation"])
    check_place(out / "mitigation.parquet", "mitigation")
    given = None if classes is None else read_classes(classes)
    found = read_objects(objects, classes=given, masks=masks)
    known = given or from_keys(found.keys, found.name)
    states, label = _known(found, labels, known)
    asked = named_pairs(pairs, known)
    network = find_model(model, given)
    predict = _Predict(
        open_source(source), network, found, out, Settings(1, engine, embeddings=True), call, notify
    )
    images = _images(predict, states, label, _held(split, held_out, seed), fill, seed)
    _check_pairs(images, asked, least)
    treat = _Treat(images, model, capped, [loss for loss in losses if loss == "sigmoid" or images.labelled])
    rows, notes = treat.rows(asked, out, call, resamples, seed, Path(str(source)).stem, network.name)
    done = Mitigation.of(rows, [*images.notes(states), *notes])
    inputs = {
        Path(p).name: sha256(p) for p in (objects, masks, labels, classes, split) if p and Path(p).is_file()
    }
    about = {"notes": json.dumps(done.notes, ensure_ascii=False), "seed": str(seed)}
    path = out / "mitigation.parquet"
    written = [tables.write(done.mitigation, path, "mitigation", call=call, inputs=inputs, about=about)]
    return done, [*written, write_csv(done.mitigation, path.with_suffix(".csv")), *treat.written]


def _check_options(losses: Sequence[str], fill: str, held_out: float, pairs: Sequence[str]) -> None:
    strange = [loss for loss in losses if loss not in LOSSES]
    if strange or not losses:
        raise InputError("There is no such loss.", got=", ".join(strange) or None, allowed=", ".join(LOSSES))
    if fill not in FILLS:
        raise InputError("Nothing tells how to fill.", got=fill, allowed=", ".join(FILLS))
    if not 0 < held_out < 1:
        raise InputError("held_out is a share.", got=held_out, allowed="above 0, below 1")
    if not pairs:
        raise InputError(
            "No pair is named.",
            allowed="MAIN:COMPANION, such as horse:person",
            do="manyhot diagnose shortcuts finds those that are worth it",
        )


def _known(objects: Objects, path: PathLike | None, classes: ClassList) -> tuple[States, Ints]:
    """Return label sets and original labels, by labels or else by objects."""
    if path is None:
        states = states_of_objects(objects, classes)
        return states, np.full(len(states.image_id), NO_LABEL)
    labels = read_labels(path, classes=classes)
    if labels.n_classes != len(classes) or labels.class_hash not in ("", classes.hash):
        raise MatchError(
            "Labels and objects count in different class lists.",
            where=path,
            got=f"{labels.n_classes:,} classes, class list {labels.class_hash or 'unknown'}",
            allowed=f"{len(classes):,} classes, class list {classes.hash}, as the objects",
            do="give a list of all classes with --classes, and make the labels over it",
        )
    return states_of_labels(labels, classes), original_labels(labels)


class _Held(NamedTuple):
    """Which images are held out: by a table, or so many by chance."""

    test: Mapping[str, bool] | None
    share: float
    seed: int

    def of(self, ids: Sequence[str]) -> npt.NDArray[np.bool_]:
        if self.test is not None:
            return np.array([self.test.get(i, False) for i in ids], bool)
        return np.random.default_rng([self.seed, len(ids)]).random(len(ids)) < self.share


def _held(path: PathLike | None, share: float, seed: int) -> _Held:
    if path is None:
        return _Held(None, share, seed)
    import polars as pl

    file = Path(path)
    if not file.is_file():
        raise InputError("The file does not exist.", where=path)
    table = pl.scan_parquet(file) if file.suffix == ".parquet" else pl.scan_csv(file)
    names = table.collect_schema().names()
    if not {"image_id", "split"} <= set(names):
        raise InputError(
            "This tells no split.",
            where=path,
            got=", ".join(names),
            allowed="a table with image_id and split",
        )
    rows = table.select("image_id", "split").collect()
    test = {str(i): s == "test" for i, s in rows.iter_rows()}
    if not any(test.values()):
        raise InputError(
            "No image is held out.",
            where=path,
            got=", ".join(sorted({str(s) for s in rows["split"].unique()})),
            allowed="a split called test",
        )
    return _Held(test, share, seed)


@dataclass(eq=False)
class _Predict:
    """The backbone's features of images, as they are and altered; an engine is chosen once."""

    source: Source
    network: Network
    objects: Objects
    out: Path
    settings: Settings
    call: str
    notify: Notify | None
    skipped: list[str] = field(default_factory=list)
    choice: Choice | None = None

    @cached_property
    def told(self) -> Told:
        return Told(self.notify or (lambda *_: None), self.source.n)

    def expect(self, images: int) -> None:
        """Note that so many will be altered."""
        if self.told.total is not None:
            self.told.total += images

    def __call__(self, name: str, source: Source | None = None) -> tuple[pa.Array, Features]:
        """Return ids and features."""
        folder = self.out / "predictions" / name
        try:
            done = run(
                source or self.source,
                self.network,
                folder,
                self.settings,
                self.call,
                self.told,
                self.choice,
            )
        except NoneLeftError as error:
            if source is None:
                raise
            self._note(name, [row["reason"] for row in error.skipped])
            return pa.array([], pa.string()), np.empty((0, 0), np.float16)
        self.choice = done.choice or self.choice
        file_name = Path(predictions_file_name(self.network.name))
        # The same engine for all images, whenever an earlier run ended.
        engine = tables.metadata(pq.read_schema(folder / file_name))["engine"]
        self.settings = replace(self.settings, engine=engine)
        with (folder / "skipped.csv").open(newline="", encoding="utf-8") as file:
            self._note(name, [row["reason"] for row in csv.DictReader(file)])
        ids = read_predictions(folder / file_name).image_id
        self.told.add(len(ids))
        return ids, np.load(folder / "embeddings" / file_name.with_suffix(".npy"))

    def _note(self, name: str, reasons: Sequence[str]) -> None:
        first = [reason.partition(":")[0] for reason in reasons]
        self.skipped += [
            f"{name}: {first.count(why):,} images left out, {why}" for why in dict.fromkeys(first)
        ]

    def cut_out(self, class_id: int, wanted: frozenset[str]) -> list[Cutting]:
        """Return objects of a class in some images."""
        found: list[Cutting] = []
        for part in self.source.parts:
            for item, read in part.items():
                if item.image_id in wanted and len(found) < DONORS:
                    data = read()
                    image = decode(data) if isinstance(data, bytes) else data
                    if not isinstance(image, str):
                        pixels = image.permute(1, 2, 0).numpy()
                        found += cuttings(self.objects, class_id, item.image_id, pixels)
        return found[:DONORS]


def _images(predict: _Predict, states: States, label: Ints, held: _Held, fill: str, seed: int) -> _Images:
    ids, features = predict("original")
    _check_objects(predict, ids)
    at = pc.index_in(ids, states.image_id)
    there = at.is_valid().to_numpy(zero_copy_only=False)
    rows = at.drop_null().to_numpy()
    names = ids.filter(pa.array(there)).to_pylist()
    return _Images(
        predict,
        names,
        features[there],
        states.state[rows],
        label[rows],
        held.of(names),
        states.classes,
        fill,
        seed,
    )


def _check_objects(predict: _Predict, ids: pa.Array) -> None:
    there = predict.objects.images.keys()
    if not there & set(ids.to_pylist()):
        raise MatchError(
            "None of the objects is in one of the images.",
            where=predict.source.uri,
            got=f"images such as {ids[0]}",
            allowed=f"such as {next(iter(there), 'none: there are no objects')}",
            do="check that both are of the same data set",
        )


@dataclass(frozen=True)
class _Altered:
    """Images that were altered, as rows of those they were made of, and their features."""

    rows: npt.NDArray[np.intp]
    features: Features


@dataclass(eq=False)
class _Images:
    """Images with features, and what is known of them; row i is the same image everywhere."""

    predict: _Predict
    names: Sequence[str]
    features: Features
    state: npt.NDArray[np.uint8]
    label: Ints
    held: npt.NDArray[np.bool_]
    classes: ClassList
    fill: str
    seed: int
    _removed: dict[int, _Altered] = field(default_factory=dict)

    @property
    def labelled(self) -> bool:
        """Whether there are original labels."""
        return bool((self.label[~self.held] != NO_LABEL).any())

    @cached_property
    def row_of(self) -> Mapping[str, int]:
        return {name: i for i, name in enumerate(self.names)}

    @cached_property
    def known_by(self) -> str:
        return fingerprint(self.predict.objects)

    def splits(self, pair: tuple[int, int]) -> npt.NDArray[np.int8]:
        return split(*self.state[:, list(pair)].T)

    def prepare(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Take companions and main classes out of all images with both, a run a class."""
        wanted: dict[int, set[str]] = {}
        for pair in pairs:
            both = self.splits(pair) == BOTH
            for class_id, rows in ((pair[1], both), (pair[0], both & ~self.held)):
                if class_id in self.predict.objects.class_id:
                    wanted.setdefault(class_id, set()).update(
                        self.names[i] for i in np.flatnonzero(rows).tolist()
                    )
        self.predict.expect(sum(map(len, wanted.values())))
        for class_id, ids in wanted.items():
            removal = Removal(
                self.predict.objects, class_id, self.fill, False, frozenset(ids), self.seed, self.known_by
            )
            self._removed[class_id] = self._run(f"without-{self._key(class_id)}-{self.fill}", removal)

    def _key(self, class_id: int) -> str:
        return f"{class_id}-{_slug(self.classes.keys[class_id])}"

    def _run(self, name: str, alteration: Any) -> _Altered:
        ids, features = self.predict(name, altered(self.predict.source, alteration))
        return _Altered(np.array([self.row_of[i] for i in ids.to_pylist()], np.intp), features)

    def removed(self, class_id: int, inside: npt.NDArray[np.bool_]) -> _Altered:
        """Return those of some images from which a class could be taken out."""
        found = self._removed.get(class_id)
        if found is None or not len(found.rows):
            return self._nothing
        keep = inside[found.rows]
        return _Altered(found.rows[keep], found.features[keep])

    def pasted(self, class_id: int, inside: npt.NDArray[np.bool_], n: int, name: str) -> _Altered:
        """Return at most n of some images with an object of a class pasted into them."""
        rows = np.flatnonzero(inside)
        rng = np.random.default_rng([self.seed, class_id, len(rows)])
        rows = np.sort(rng.permutation(rows)[:n])
        donors = self._donors(class_id)
        if not donors or not len(rows):
            return self._nothing
        wanted = frozenset(self.names[i] for i in rows.tolist())
        self.predict.expect(len(wanted))
        pasting = Pasting(self.predict.objects, donors, wanted, self.seed)
        return self._run(f"{name}-with-{self._key(class_id)}", pasting)

    def _donors(self, class_id: int) -> list[Cutting]:
        """Return objects of a class in images to fit on."""
        objects = self.predict.objects
        there = set(objects.table["image_id"].filter(pa.array(objects.class_id == class_id)).to_pylist())
        own = [n for n, held in zip(self.names, self.held, strict=True) if n in there and not held]
        order = np.random.default_rng([self.seed, class_id]).permutation(len(own)).tolist()
        return self.predict.cut_out(class_id, frozenset(own[i] for i in order[:DONORS]))

    @property
    def _nothing(self) -> _Altered:
        return _Altered(np.empty(0, np.intp), np.empty((0, self.features.shape[1]), np.float16))

    def notes(self, states: States) -> Iterator[str]:
        """Yield what was passed over."""
        lost = len(states.image_id) - len(self.names)
        if lost:
            yield f"{lost:,} images with labels or objects were not predicted, and do not count"
        if not self.labelled:
            yield "there are no original labels: heads are fitted to label sets alone"
        yield from self.predict.skipped


def _check_pairs(images: _Images, pairs: Sequence[tuple[int, int]], least: int) -> None:
    for pair in pairs:
        splits, held = images.splits(pair), images.held
        fitted, judged = ((splits[h] == BOTH).sum() for h in (~held, held))
        if fitted < least or not judged:
            main, companion = (images.classes.names[c] for c in pair)
            raise InputError(
                "There are too few images with both classes of a pair.",
                where=f"{main}:{companion}",
                got=f"{fitted:,} to fit on, {judged:,} held out",
                allowed=f"at least {least:,}, and 1",
                do="leave the pair out, or lower --least",
            )


@dataclass(frozen=True)
class _Added:
    """Altered images to fit on, with what they show."""

    rows: npt.NDArray[np.intp]
    features: Features
    weight: float
    main: bool
    """Whether the main class is there."""
    gone: int
    """The class that was taken out; `NO_LABEL` where none was."""


@dataclass(eq=False)
class _Treat:
    """Fits heads with and without treatment."""

    images: _Images
    backbone: str
    capped: bool
    losses: Sequence[str]
    written: list[Path] = field(default_factory=list)

    def rows(
        self,
        pairs: Sequence[tuple[int, int]],
        out: Path,
        call: str,
        resamples: int,
        seed: int,
        dataset: str,
        model: str,
    ) -> tuple[list[dict[str, Any]], list[str]]:
        images = self.images
        images.prepare(pairs)
        held = images.held
        judge = HeldOut(
            images.state[held], images.label[held], Resampled.of(int(held.sum()), resamples, seed)
        )
        rows, notes = Rows({"dataset": dataset}, int(held.sum())), []
        for pair in pairs:
            added, note = self._added(pair)
            notes.append(note)
            names = [images.classes.names[c] for c in pair]
            told = dict(
                zip(("main", "companion", "main_name", "companion_name"), (*pair, *names), strict=True)
            )
            for loss in self.losses:
                untreated: dict[str, Measured] | None = None
                for treatment, head in self._heads(loss, pair, added):
                    stem = self._stem(loss, treatment, pair)
                    self.written.append(write_head(head, out / "heads" / f"{stem}.safetensors", call=call))
                    measured = self._measure(judge, head, pair)
                    about = {"model": f"{model}, {loss}", "treatment": treatment}
                    rows.add(told | about | {"head": f"heads/{stem}.safetensors"}, measured, untreated)
                    untreated = untreated or measured
        self.written = list(dict.fromkeys(self.written))
        return rows.rows, notes

    def _stem(self, loss: str, treatment: str, pair: tuple[int, int]) -> str:
        parts = [loss] if treatment == "none" else [loss, _slug(treatment)]
        if "augmentation" in treatment:
            parts += [_slug(self.images.classes.keys[c]) for c in pair]
        return "-".join(parts)

    def _measure(self, judge: HeldOut, head: Head, pair: tuple[int, int]) -> dict[str, Measured]:
        images = self.images
        gone = images.removed(pair[1], images.held & (images.splits(pair) == BOTH))
        place = np.cumsum(images.held) - 1
        p, after = (head.probabilities(x) for x in (images.features[images.held], gone.features))
        return judge.measure(p, after, place[gone.rows], head.loss == "softmax", pair)

    def _heads(self, loss: str, pair: tuple[int, int], added: Sequence[_Added]) -> Iterator[tuple[str, Head]]:
        none, augmentation, sets, both = TREATMENTS
        if loss == "softmax":
            yield none, self._untreated["softmax"]
            if added:
                yield augmentation, self._softmax(added, pair)
            return
        for name, treated, wanted in ((none, augmentation, self._single), (sets, both, self._sets)):
            if name == none and not self.images.labelled:
                continue
            yield name, self._untreated[name]
            if added:
                yield treated, self._sigmoid(self._untreated[name], wanted, added, pair)

    @cached_property
    def _fitting(self) -> npt.NDArray[np.intp]:
        return np.flatnonzero(~self.images.held)

    @cached_property
    def _sets(self) -> npt.NDArray[np.uint8]:
        return self.images.state

    @cached_property
    def _single(self) -> npt.NDArray[np.uint8]:
        """The original label as a label set of one class."""
        label, n = self.images.label, len(self.images.classes)
        state = np.where(label[:, None] == np.arange(n), YES, NO)
        return np.where(label[:, None] == NO_LABEL, UNCLEAR, state).astype(np.uint8)

    @cached_property
    def _untreated(self) -> Mapping[str, Head]:
        images, rows = self.images, self._fitting
        x, about = images.features[rows], (images.classes, self.backbone)
        found = {}
        if "softmax" in self.losses:
            found["softmax"] = fit_softmax(x, images.label[rows], *about)
        if "sigmoid" in self.losses:
            found["label sets"] = fit_sigmoid(x, self._sets[rows], *about)
            if images.labelled:
                found["none"] = fit_sigmoid(x, self._single[rows], *about)
        return found

    def _softmax(self, added: Sequence[_Added], pair: tuple[int, int]) -> Head:
        label = [self.images.label[self._fitting], *(self._relabelled(a, pair) for a in added)]
        start = self._untreated["softmax"]
        x, weights = self._joined(added)
        about = (self.images.classes, self.backbone)
        return fit_softmax(
            x, np.concatenate(label), *about, weights=weights, penalty=start.penalty, start=start
        )

    def _relabelled(self, added: _Added, pair: tuple[int, int]) -> Ints:
        """Return single labels of altered images: where the class is gone, the other of the pair is left."""
        label = self.images.label[added.rows]
        other = pair[0] if added.gone == pair[1] else pair[1]
        return np.where((label == added.gone) & (label != NO_LABEL), other, label)

    def _sigmoid(
        self, untreated: Head, wanted: npt.NDArray[np.uint8], added: Sequence[_Added], pair: tuple[int, int]
    ) -> Head:
        """Return the head with another row for the main class: altered images speak of no other one."""
        main = pair[0]
        state = [wanted[self._fitting, main]]
        for a in added:
            if wanted is self._sets:
                state.append(np.full(len(a.rows), YES if a.main else NO, np.uint8))
            else:
                there = np.where(self._relabelled(a, pair) == main, YES, NO)
                state.append(np.where(self.images.label[a.rows] == NO_LABEL, UNCLEAR, there).astype(np.uint8))
        x, weights = self._joined(added)
        start = replace(
            untreated,
            classes=from_keys([self.images.classes.keys[main]]),
            weight=untreated.weight[[main]],
            bias=untreated.bias[[main]],
        )
        one = fit_sigmoid(
            x,
            np.concatenate(state)[:, None],
            start.classes,
            self.backbone,
            weights=weights,
            penalty=start.penalty,
            start=start,
        )
        weight, bias = untreated.weight.copy(), untreated.bias.copy()
        weight[main], bias[main] = one.weight[0], one.bias[0]
        return replace(untreated, weight=weight, bias=bias, n=one.n)

    def _joined(self, added: Sequence[_Added]) -> tuple[Features, npt.NDArray[np.float64]]:
        x = np.concatenate([self.images.features[self._fitting], *(a.features for a in added)])
        weights = [np.ones(len(self._fitting)), *(np.full(len(a.rows), a.weight) for a in added)]
        return x, np.concatenate(weights)

    def _added(self, pair: tuple[int, int]) -> tuple[list[_Added], str]:
        """Return the altered images of a pair, and what is told about them."""
        images, fitting = self.images, ~self.images.held
        splits = images.splits(pair)
        counts = np.bincount(splits[fitting & (splits >= 0)], minlength=4).tolist()
        todo = plan(*counts, capped=self.capped)
        groups = list(self._groups(pair, todo, splits)) if todo.amount else []
        added = [
            _Added(found.rows, found.features, todo.amount / len(found.rows), main, gone)
            for found, main, gone in groups
            if len(found.rows)
        ]
        return added, self._told(pair, todo, added)

    def _groups(
        self, pair: tuple[int, int], todo: Plan, splits: npt.NDArray[np.int8]
    ) -> Iterator[tuple[_Altered, bool, int]]:
        """Yield altered images, whether the main class is there, and which class is gone."""
        images, (main, companion) = self.images, pair
        alone, neither, both = ((splits == s) & ~images.held for s in (MAIN_ONLY, NEITHER, BOTH))
        if todo.adds:
            yield images.pasted(companion, alone, PASTED, "alone"), True, NO_LABEL
            yield images.pasted(companion, neither, PASTED, "neither"), False, NO_LABEL
            return
        yield images.removed(companion, both), True, companion
        without = images.removed(main, both)
        if len(without.rows):
            yield without, False, main
        else:  # the class has no objects: where it never was, the companion is put, for as many
            n = min(PASTED, int(both.sum()))
            yield images.pasted(companion, neither, n, "neither"), False, NO_LABEL

    def _told(self, pair: tuple[int, int], todo: Plan, added: Sequence[_Added]) -> str:
        main, companion = (self.images.classes.names[c] for c in pair)
        start = f"{main}:{companion}, {todo.before:+.3f} more often beside it than elsewhere"
        if not added:
            return f"{start}: nothing was added"
        what = "with it" if todo.adds else "without it"
        counts = " and ".join(f"{len(a.rows):,}" for a in added)
        return (
            f"{start}; {counts} altered images ({what} first) count as {todo.amount:,.0f} each, which leaves "
            f"{todo.after:+.3f}; {todo.wanted:,.0f} would leave 0"
        )


def _slug(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text)
