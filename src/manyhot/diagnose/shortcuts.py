"""Which predictions hang on what is beside the object: pairs of classes, with and without the companion.

Images and objects in; which predictions hang on what is beside the object out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot import tables
from manyhot.classes import ClassList, from_keys
from manyhot.core.array_types import Bools
from manyhot.core.sets import YES
from manyhot.core.shortcuts import (
    BOTH,
    COMPANION_ONLY,
    MAIN_ONLY,
    NEITHER,
    Estimated,
    Resampled,
    gap,
    paired_difference,
    rank,
    share_with_interval,
    split_by_pair,
)
from manyhot.diagnose.page import forget_pictures, write_diagnosis
from manyhot.diagnose.pixels.removal import FILL_NAMES
from manyhot.diagnose.removing import EXAMPLES, Change, Removing
from manyhot.errors import InputError, MatchError
from manyhot.files import sha256
from manyhot.formats import read_classes, read_labels, read_objects
from manyhot.formats.tabular import write_csv
from manyhot.formats.writing import PathLike, check_apart, check_place
from manyhot.predict.find import find_model
from manyhot.predict.network import Network
from manyhot.predict.run import Notify, PredictSettings
from manyhot.predict.sources import open_source
from manyhot.registry import register
from manyhot.report.chapter import (
    MOST_PAIRS,
    Album,
    Chapter,
    Picture,
    Strip,
    Tables,
    in_points,
    listing,
    n_pairs,
    percent,
    picture,
    rows_of,
    testable,
    with_ends,
)
from manyhot.report.chapter import Row as chapter_Row
from manyhot.report.figure import Figure
from manyhot.report.listings import Head, Listing
from manyhot.report.text import counted
from manyhot.tables import Objects, Predictions, schema
from manyhot.tables.definitions import FILLS
from manyhot.tables.sets import States, states_of_labels, states_of_objects

LEAST = 25
"""Images with both that a pair is tested from, as in Plumb et al. 2022 (SPIRE)."""


THRESHOLD = 0.4
"""Share of images that must be lost for a pair to be called a shortcut; SPIRE takes the share of flips."""


SHOWN, IMAGES_SHOWN = 10, 6
"""Pairs of which there are examples, and how many of each."""


_REMEMBERED = 100  # What the model says of a class in all images: 9 bytes each.


Row = dict[str, Any]


Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Pair:
    """A class and what may be beside it.

    Attributes
    ----------
    main, companion, both : int
        The classes, and how many images show both.
    why_not : str
        Why the pair is not tested; empty where it is.
    """

    main: int
    companion: int
    both: int
    why_not: str = ""


def named_pairs(texts: Iterable[str], classes: ClassList) -> list[tuple[int, int]]:
    """Return pairs that are written as ``main:companion``, by key or name.

    Raises
    ------
    InputError
        A text is no pair.
    UnknownNameError
        There is no such class.
    """
    found = []
    for text in texts:
        main, colon, companion = text.partition(":")
        pair = (classes.index(main.strip()), classes.index(companion.strip())) if colon else (0, 0)
        if pair[0] == pair[1]:
            raise InputError(
                "A pair is two classes.", got=text, allowed="MAIN:COMPANION, such as horse:person"
            )
        found.append(pair)
    return found


def find_pairs(
    states: States,
    known: ClassList,
    removable: Iterable[int],
    *,
    least: int = LEAST,
    only: Sequence[tuple[int, int]] = (),
) -> list[Pair]:
    """Return the pairs of classes that are together on some image, and which of them can be tested.

    Parameters
    ----------
    states : States
    known : ClassList
        What the model predicts.
    removable : iterable of int
        Classes that have objects.
    least : int
        Images that must show both.
    only : sequence of (int, int), optional
        Main class and companion of the pairs that are asked for; by default all.
    """
    both = states.splits[BOTH]
    able, keys = set(removable), set(known.keys)
    asked = list(only) or [
        (int(m), int(s)) for m, s in zip(*np.nonzero(both), strict=True) if m != s and int(s) in able
    ]
    found = []
    for main, companion in dict.fromkeys(asked):
        why, n = "", int(both[main, companion])
        if states.classes.keys[main] not in keys:
            why = "the model does not know the class"
        elif companion not in able:
            why = "the companion has no objects"
        elif n < least:
            why = f"fewer than {least:,} images with both"
        found.append(Pair(main, companion, n, why))
    return found


def images_to_alter(states: States, pairs: Sequence[Pair]) -> dict[int, frozenset[str]]:
    """Return for each companion the images that show it beside a main class that is tested with it."""
    found: dict[int, Bools] = {}
    for pair in pairs:
        if not pair.why_not:
            both = (states.state[:, [pair.main, pair.companion]] == YES).all(1)
            found[pair.companion] = found.get(pair.companion, np.zeros(len(both), bool)) | both
    return {
        companion: frozenset(states.image_id.filter(pa.array(mask)).to_pylist())
        for companion, mask in sorted(found.items())
    }


@dataclass(frozen=True, eq=False)
class Shortcuts:
    """Pairs of classes, how many predictions of one hang on the other, and examples.

    Attributes
    ----------
    shortcuts, shortcut_examples : pyarrow.Table
        The tables of these names; see `manyhot.tables.TABLES`.
    notes : tuple of str
        What was passed over, and how much of it.
    """

    shortcuts: pa.Table
    shortcut_examples: pa.Table
    notes: tuple[str, ...] = ()

    @property
    def tables(self) -> dict[str, pa.Table]:
        """The tables by name."""
        return {"shortcuts": self.shortcuts, "shortcut_examples": self.shortcut_examples}

    @property
    def summary(self) -> list[Row]:
        """For each fill: pairs that were tested, mean and median share of flips, shortcuts.

        The mean of what is lost is told beside, and both of controls; how many pairs are not testable for
        want of controls, and the most that one of them loses.
        """
        tested = self.shortcuts.filter(pc.is_null(self.shortcuts["skipped"]))
        found = []
        for fill in FILLS:
            of = tested.filter(pc.equal(tested["fill"], fill))
            if not len(of):
                continue
            bare = [r["lost"] for r in of.to_pylist() if not testable(r)]
            found.append(
                {
                    "fill": fill,
                    "pairs": len(of),
                    "mean": pc.mean(of["flips"]).as_py(),
                    "median": float(np.median(of["flips"].to_numpy())),
                    "mean_control": pc.mean(of["control"]).as_py(),
                    "mean_lost": pc.mean(of["lost"]).as_py(),
                    "mean_control_lost": pc.mean(of["control_lost"]).as_py(),
                    "shortcuts": of["shortcut"].to_pylist().count(True),
                    "not_testable": len(bare),
                    "not_testable_lost": max(bare, default=None),
                }
            )
        return found


def diagnose_shortcuts(
    states: States,
    pairs: Sequence[Pair],
    before: Predictions,
    after: Mapping[Change, Predictions | None],
    known: ClassList,
    *,
    fills: Sequence[str] = FILLS[:1],
    at: float = 0.5,
    threshold: float = THRESHOLD,
    least: int = LEAST,
    resamples: int = 1000,
    seed: int = 0,
    notes: Sequence[str] = (),
    progress: Progress | None = None,
) -> Shortcuts:
    """Compare what a model predicts with and without companions.

    Parameters
    ----------
    states : States
        Of the images; those that are not predicted do not count.
    pairs : sequence of Pair
    before : Predictions
        Of the images as they are, dense.
    after : mapping of Change to Predictions
        Of images without the companion; None where no image could be altered.
    known : ClassList
        That of the predictions.
    fills : sequence of str
        How companions were taken out.
    at : float
        Probability from which a class is predicted. Of logits it is the best class that is.
    threshold, least
        See `THRESHOLD` and `LEAST`.
    resamples : int
        Of the bootstrap of average precisions; 0 for no intervals.
    seed : int
    notes : sequence of str
        What is known to have been passed over.
    progress : callable, optional
        Called with what is done, how many pairs are judged, and how many there are.

    Returns
    -------
    Shortcuts
        The examples are chosen, and have no files yet.
    """
    kept = states.of(before.image_id)
    drawn = Resampled.of(len(kept.image_id), resamples, seed)
    judge = _Judge(kept, before, after, known, fills, at, threshold, least, drawn)
    rows: list[Row] = []
    for done, pair in enumerate(pairs, 1):
        rows += judge.rows(pair)
        if progress:
            progress("judging pairs", done, len(pairs))
    tested, skipped = ([r for r in rows if (r["skipped"] is None) is ok] for ok in (True, False))
    # What has no control is ordered by what it lost, which is the difference if a control would lose nothing.
    lo = [r["lo"] if testable(r) else r["lost_lo"] for r in tested]
    order = rank(np.array(lo, float), np.array([r["lost"] for r in tested], float))
    ordered = [tested[i] for i in order] + sorted(skipped, key=lambda r: -r["both"])
    told = list(notes)
    if lost := len(states.image_id) - len(kept.image_id):
        told.append(f"{lost:,} images with labels or objects that were not predicted do not count")
    return Shortcuts(
        pa.Table.from_pylist(ordered, schema=schema("shortcuts")),
        pa.Table.from_pylist(list(judge.examples(ordered)), schema=schema("shortcut_examples")),
        tuple(told),
    )


@dataclass(frozen=True, eq=False)
class _Said:
    """What a model says of a class, image by image: NaN and False where it was not asked."""

    score: npt.NDArray[np.float64]
    found: Bools

    @property
    def there(self) -> Bools:
        return ~np.isnan(self.score)


@dataclass(eq=False)
class _Judge:
    """Judges pairs. The parameters are those of `diagnose_shortcuts`."""

    states: States
    before: Predictions
    after: Mapping[Change, Predictions | None]
    known: ClassList
    fills: Sequence[str]
    at: float
    threshold: float
    least: int
    drawn: Resampled
    _cache: dict[tuple[Change | None, int], _Said] = field(default_factory=dict)

    @cached_property
    def decision(self) -> str:
        """When a class counts as predicted."""
        return f"p >= {self.at:g}" if self.before.score_kind == "probability" else "best class"

    def rows(self, pair: Pair) -> Iterator[Row]:
        """Yield a row for each way to take the companion out."""
        counts = self.states.splits[:, pair.main, pair.companion].tolist()
        names = self.states.classes.names
        row: Row = {
            "model": self.before.model,
            "main": pair.main,
            "companion": pair.companion,
            "main_name": names[pair.main],
            "companion_name": names[pair.companion],
            "skipped": pair.why_not or None,
            "decision": self.decision,
            **dict(zip(("both", "main_only", "companion_only", "neither"), counts, strict=True)),
        }
        if pair.why_not:
            yield from (row | {"fill": fill} for fill in self.fills)
            return
        splits = split_by_pair(*self.states.state[:, [pair.main, pair.companion]].T)
        beside = self._beside(pair, splits)
        for fill in self.fills:
            flips = self._flips(pair, splits, fill)
            yield row | {"fill": fill} | flips | ({} if flips.get("skipped") else beside)

    def examples(self, rows: Sequence[Row]) -> Iterator[Row]:
        """Yield images of the first pairs: those that are lost first, then other flips."""
        for row in [r for r in rows if r["skipped"] is None][:SHOWN]:
            yield from self._examples(row)

    def _said(self, change: Change | None, main: int) -> _Said:
        if (change, main) not in self._cache:
            if len(self._cache) >= _REMEMBERED:
                self._cache.clear()
            self._cache[change, main] = self._look_up(change, main)
        return self._cache[change, main]

    def _look_up(self, change: Change | None, main: int) -> _Said:
        predictions = self.before if change is None else self.after.get(change)
        score = np.full(len(self.states.image_id), np.nan)
        found = np.zeros(len(score), bool)
        if predictions is not None:
            column = self.known.keys.index(self.states.classes.keys[main])
            at = pc.index_in(self.states.image_id, predictions.image_id)
            there = at.is_valid().to_numpy(zero_copy_only=False)
            rows = at.drop_null().to_numpy()
            score[there] = _confidence(predictions, column)[rows]
            found[there] = self._found(predictions, column)[rows]
        return _Said(score, found)

    def _found(self, predictions: Predictions, column: int) -> Bools:
        scores = predictions.scores
        assert scores is not None
        if predictions.score_kind == "probability":
            return np.asarray(scores[:, column] >= self.at)
        return np.asarray(scores.argmax(1) == column)

    def _flips(self, pair: Pair, splits: npt.NDArray[np.int8], fill: str) -> Row:
        """Return how many predictions change without the companion, and without something else."""
        before = self._said(None, pair.main)
        gone, control = (self._said(Change(pair.companion, fill, c), pair.main) for c in (False, True))
        inside = np.flatnonzero((splits == BOTH) & gone.there)
        row: Row = {"n": len(inside), "n_control": 0}
        if len(inside) < self.least:
            return row | {"skipped": f"fewer than {self.least:,} images could be altered"}
        lost = share_with_interval((before.found & ~gone.found)[inside])
        row |= _told(
            share_with_interval((before.found != gone.found)[inside]), "flips", "flips_lo", "flips_hi"
        )
        row |= _told(lost, "lost", "lost_lo", "lost_hi")
        row["fall"] = float((before.score - gone.score)[inside].mean())
        inside = inside[control.there[inside]]
        flips = share_with_interval((before.found != control.found)[inside])
        row |= _told(flips, "control", "control_lo", "control_hi", "n_control")
        away = [(before.found & ~said.found)[inside] for said in (gone, control)]
        more = paired_difference(*away)
        row |= _told(share_with_interval(away[1]), "control_lost", "control_lost_lo", "control_lost_hi")
        row |= _told(more, "more", "lo", "hi")
        if testable(row):
            row["shortcut"] = bool(lost.value >= self.threshold and more.lo > 0)
        return row

    def _beside(self, pair: Pair, splits: npt.NDArray[np.int8]) -> Row:
        """Return how often the class is predicted in each split, and its average precision."""
        said = self._said(None, pair.main)
        found = said.found
        names = ("found_both", "found_main_only", "found_companion_only", "found_neither")
        row: Row = {
            name: _nothing(share_with_interval(found[splits == which]).value)
            for which, name in enumerate(names)
        }
        gaps = {"recall_gap": (BOTH, MAIN_ONLY), "hallucination_gap": (COMPANION_ONLY, NEITHER)}
        for name, (one, other) in gaps.items():
            row |= _told(gap(found, splits, one, other), name, f"{name}_lo", f"{name}_hi")
        precision = self.drawn.precision(said.score, splits)
        row |= _told(precision.as_is, "ap", "ap_lo", "ap_hi")
        return row | _told(precision.balanced, "ap_balanced", "ap_balanced_lo", "ap_balanced_hi")

    def _examples(self, row: Row) -> Iterator[Row]:
        main, companion, fill = row["main"], row["companion"], row["fill"]
        splits = split_by_pair(*self.states.state[:, [main, companion]].T)
        before = self._said(None, main)
        gone, control = (self._said(Change(companion, fill, c), main) for c in (False, True))
        inside = np.flatnonzero((splits == BOTH) & gone.there)
        flipped, beside = (before.found != x.found for x in (gone, control))
        fall = before.score - gone.score
        lost = before.found & ~gone.found
        keys = (-fall, ~control.there, beside & control.there, ~flipped, ~lost)  # the last decides first
        order = inside[np.lexsort([key[inside] for key in keys])]
        same = {k: row[k] for k in ("main", "companion", "main_name", "companion_name", "fill")}
        for i in order[:IMAGES_SHOWN]:
            there = bool(control.there[i])
            yield same | {
                "image_id": self.states.image_id[int(i)].as_py(),
                "flipped": bool(flipped[i]),
                "flipped_control": bool(beside[i]) if there else None,
                "score_before": float(before.score[i]),
                "score_after": float(gone.score[i]),
                "score_control": float(control.score[i]) if there else None,
            }


def _confidence(predictions: Predictions, column: int) -> npt.NDArray[np.float64]:
    """Return the probability of a class, or its score where that is no probability."""
    assert predictions.scores is not None
    score = predictions.scores[:, column].astype(np.float64)
    if predictions.score_kind != "logit":
        return score
    total = predictions.logsumexp
    total = np.logaddexp.reduce(predictions.scores, axis=1) if total is None else total
    return np.asarray(np.exp(score - total))


def _told(estimated: Estimated, value: str, lo: str, hi: str, n: str = "") -> Row:
    ends = {value: estimated.value, lo: estimated.lo, hi: estimated.hi}
    return {k: _nothing(v) for k, v in ends.items()} | ({n: estimated.n} if n else {})


def _nothing(value: float) -> float | None:
    return None if np.isnan(value) else value


NAMES = ("shortcuts", "shortcut_examples")
"""Tables that are written."""


def diagnose_shortcuts_files(
    source: PathLike,
    objects: PathLike,
    out: PathLike = "shortcuts",
    *,
    model: str,
    masks: PathLike | None = None,
    labels: PathLike | None = None,
    classes: PathLike | None = None,
    pairs: Sequence[str] = (),
    fills: Sequence[str] = FILLS[:1],
    least: int = LEAST,
    threshold: float = THRESHOLD,
    at: float = 0.5,
    seed: int = 0,
    resamples: int = 1000,
    engine: str = "auto",
    call: str = "",
    notify: Notify | None = None,
) -> tuple[Shortcuts, list[Path]]:
    """Take objects out of images, and count how many predictions of what is beside them change.

    For each ordered pair of classes that enough images show, the images are predicted as they are, without
    the companion, and without a region of its shape elsewhere. What an earlier run of the same command
    predicted is kept.

    Parameters
    ----------
    source : path-like
        Images; see `manyhot.predict.sources.open_source`.
    objects : path-like
        Boxes, or more, of objects; see `manyhot.read_objects`.
    out : path-like
        The folder that both tables, predictions and examples are written into.
    model : str
        See `manyhot.predict.find.find_model`.
    masks : path-like, optional
        Semantic masks; see `manyhot.read_objects`.
    labels : path-like, optional
        Label sets; by default what the objects tell.
    classes : path-like, optional
        The class list that objects and labels count in, where they do not tell.
    pairs : sequence of str
        ``main:companion``, by key or name; by default all.
    fills : sequence of str
        ``grey``, ``inpaint`` or both.
    least : int
        Images with both classes that a pair needs.
    threshold : float
        Share of images that must be lost for a pair to be called a shortcut.
    at : float
        Probability from which a class is predicted; of logits the best class is.
    seed : int
        Of the places of controls, and of the bootstrap.
    resamples : int
        Of the bootstrap; 0 for no intervals of average precisions.
    engine : str
        See `manyhot.predict`.
    notify : callable, optional
        Called with the kind of an event and what is told about it, as by `manyhot.predict_files`.

    Raises
    ------
    ManyhotError
        For each kind of bad input; or no pair can be tested.
    """
    out = Path(out)
    _check_options(fills, least, threshold, at)
    _check_outside(source, out)
    check_apart([source, objects, masks, labels, classes], out, NAMES)
    for name in NAMES:
        check_place(out / f"{name}.parquet", name)
    given = None if classes is None else read_classes(classes)
    found = read_objects(objects, classes=given, masks=masks)
    known = given or from_keys(found.keys, found.name)
    states = _states(found, labels, known)
    only = named_pairs(pairs, known)
    network = find_model(model, given)
    job = Removing(
        open_source(source), network, found, out, PredictSettings(None, engine), fills, seed, call, notify
    )

    def find(states: States) -> list[Pair]:
        return find_pairs(states, network.classes, found.class_id.tolist(), least=least, only=only)

    options: dict[str, Any] = {"at": at, "threshold": threshold, "resamples": resamples, "seed": seed}
    judged = _judged(job, states, find, least, options)
    inputs = {Path(p).name: sha256(p) for p in (objects, masks, labels, classes) if p and Path(p).is_file()}
    about = {"seed": str(seed), "least": str(least), "threshold": f"{threshold:g}"}
    return judged, _write(judged, out, call, inputs, about)


def _judged(
    job: Removing,
    states: States,
    find: Callable[[States], list[Pair]],
    least: int,
    options: Mapping[str, Any],
) -> Shortcuts:
    """Predict what is needed, judge it, and draw examples."""
    _check_any(find(states), least, job.network)
    before = job.predict_originals(images_to_alter(states, find(states)))
    seen = states.of(before.image_id)
    if not len(seen.image_id):
        raise MatchError(
            "Nothing is known about any of the images: neither objects nor label sets are of them.",
            where=job.source.uri,
            got=f"images such as {before.image_id[0]}",
            allowed=f"such as {states.image_id[0]}",
        )
    pairs = find(seen)
    _check_any(pairs, least, job.network)
    after = job.predict_altered(images_to_alter(seen, pairs))
    judged = diagnose_shortcuts(
        seen,
        pairs,
        before,
        after,
        job.network.classes,
        fills=job.fills,
        least=least,
        notes=job.notes(states, before),
        **options,
    )
    forget_pictures(job.out, "shortcut_examples", ("before", "after", "control"), EXAMPLES)
    return replace(judged, shortcut_examples=job.draw(judged.shortcut_examples))


def _write(
    judged: Shortcuts, out: Path, call: str, inputs: Mapping[str, str], about: Mapping[str, str]
) -> list[Path]:
    told = {"notes": json.dumps(judged.notes, ensure_ascii=False), **about}
    written = []
    for name, table in judged.tables.items():
        path = out / f"{name}.parquet"
        written.append(tables.write(table, path, name, call=call, inputs=inputs, about=told))
        written.append(write_csv(table, path.with_suffix(".csv")))
    return [*written, write_diagnosis(out)]


def _check_options(fills: Sequence[str], least: int, threshold: float, at: float) -> None:
    strange = [fill for fill in fills if fill not in FILLS]
    if strange or not fills:
        raise InputError(
            "Nothing tells how to fill.", got=", ".join(strange) or None, allowed=", ".join(FILLS)
        )
    if least < 1:
        raise InputError("least must be at least 1.", got=least)
    for name, value in (("threshold", threshold), ("at", at)):
        if not 0 < value <= 1:
            raise InputError(f"{name} is a share.", got=value, allowed="above 0, at most 1")


def _check_outside(source: PathLike, out: Path) -> None:
    """Refuse to draw pictures among the images: the next run would read them."""
    if Path(source).is_dir() and out.resolve().is_relative_to(Path(source).resolve()):
        raise InputError(
            "The output would lie among the images.",
            where=out,
            got=f"images in {source}",
            do="choose an --out outside of it",
        )


def _states(objects: Objects, labels: PathLike | None, classes: ClassList) -> States:
    if labels is None:
        return states_of_objects(objects, classes)
    return states_of_labels(read_labels(labels, classes=classes), classes)


def _check_any(pairs: Sequence[Pair], least: int, network: Network) -> None:
    if any(not pair.why_not for pair in pairs):
        return
    reasons = Counter(pair.why_not for pair in pairs)
    most = max((pair.both for pair in pairs if pair.why_not.startswith("fewer")), default=0)
    raise InputError(
        "No pair of classes can be tested.",
        where=network.name,
        got="; ".join(f"{n:,} pairs: {why}" for why, n in reasons.items()) or "no two classes in one image",
        allowed=f"a main class that the model predicts, and a companion with objects, in {least:,} images",
        do=f"--least {most} would test some" if most else None,
    )


@register("chapter", "shortcuts")
def _shortcuts(found: Tables, folder: Path, draw: bool) -> Chapter | None:
    if "shortcuts" not in found:
        return None
    rows = rows_of(found, "shortcuts")
    altered = [r for r in rows if r["skipped"] is None]
    tested = [r for r in altered if testable(r)]
    n = n_pairs(r for r in tested if r["shortcut"])
    untestable = _untestable([r for r in altered if not testable(r)])
    lead = (
        "A model leans on a shortcut where it no longer sees a class once another, its companion, is taken "
        "out of the picture. Whatever is done to a picture flips some predictions: what counts is how many "
        "more are lost than when a region of the same shape is filled elsewhere.",
        f"{counted(n_pairs(tested), 'pair')} of classes tested; {n or 'none'} {'is' if n == 1 else 'are'} "
        f"beyond the threshold and beyond the control.{untestable}",
    )
    return Chapter(
        "shortcuts",
        "Shortcuts",
        "Which predictions lean on what stands beside",
        lead,
        tuple(_draw_shortcuts(found["shortcuts"])) if draw else (),
        tuple(_flip_tables(rows)),
        tuple(_albums(rows_of(found, "shortcut_examples"), folder)),
    )


def _untestable(rows: Sequence[chapter_Row]) -> str:
    """Return what was lost where nothing tells whether any hole would have done the same."""
    if not rows:
        return ""
    n, lost = n_pairs(rows), percent(max(r["lost"] for r in rows))
    most = f"lost {lost} but has" if n == 1 else f"lost up to {lost} but have"
    return f" {counted(n, 'pair')} {most} no controls to go by, for want of room: not testable."


_FLIPS = (
    Head("Class", number=False),
    Head("Without", number=False),
    Head("Model", number=False),
    Head("By", number=False),
    Head("Images"),
    Head("Flip", title="Share whose prediction of the class is another without the companion"),
    Head("Lost", title="Share whose prediction of the class is gone without the companion"),
    Head("Control", title="The same where a region of that shape is filled elsewhere"),
    Head("More, points", title="Lost less what is lost in the control"),
    Head("Recall gap, points", title="Recall beside the companion less recall without it"),
    Head("Hallucination gap, points", title="False alarms beside the companion less those without it"),
    Head("AP", title="Average precision"),
    Head("AP, balanced", title="Were the companion as frequent with the class as without"),
    Head("Shortcut", number=False),
)


def _flip_tables(rows: Sequence[chapter_Row]) -> list[Listing]:
    tested = [r for r in rows if r["skipped"] is None]
    skipped = [r for r in rows if r["skipped"] is not None and r["fill"] == rows[0]["fill"]]
    made = []
    if tested:
        made.append(listing("pairs", "Pairs that were tested", _FLIPS, tested, _flip))
    if skipped:
        heads = (
            Head("Class", number=False),
            Head("Without", number=False),
            Head("Images with both"),
            Head("Why", number=False),
        )
        made.append(listing("untested", "Pairs that were not", heads, skipped, _skip, folded=True))
    return made


def _flip(r: chapter_Row) -> tuple[str, ...]:
    gaps = (in_points(r[gap], r[f"{gap}_lo"], r[f"{gap}_hi"]) for gap in ("recall_gap", "hallucination_gap"))
    return (
        r["main_name"],
        r["companion_name"],
        r["model"],
        FILL_NAMES[r["fill"]].removeprefix("a "),
        f"{r['n']:,}",
        percent(r["flips"]),
        with_ends(r["lost"], r["lost_lo"], r["lost_hi"]),
        with_ends(r["control_lost"], r["control_lost_lo"], r["control_lost_hi"]),
        in_points(r["more"], r["lo"], r["hi"]),
        *gaps,
        percent(r["ap"], 1),
        percent(r["ap_balanced"], 1),
        "yes" if r["shortcut"] else "" if testable(r) else "not testable",
    )


def _skip(r: chapter_Row) -> tuple[str, ...]:
    return r["main_name"], r["companion_name"], f"{r['both']:,}", r["skipped"]


def _albums(rows: Sequence[chapter_Row], folder: Path) -> list[Album]:
    """Return the pictures of each pair, as they are, without the companion, and the control."""
    pairs: dict[tuple[str, str, str], list[chapter_Row]] = {}
    for row in rows:
        pairs.setdefault((row["main_name"], row["companion_name"], row["fill"]), []).append(row)
    albums = []
    for i, ((main, companion, fill), own) in enumerate(list(pairs.items())[:MOST_PAIRS]):
        flipped = sum(r["flipped"] for r in own)
        images = counted(len(own), "image")
        text = f"By {FILL_NAMES[fill]}. Of these {images} {flipped} flip; those are chosen first."
        strips = tuple(_triple(r, folder) for r in own)
        albums.append(Album(f"pair-{i + 1}", f"{main} without {companion}", text, strips))
    return albums


def _triple(r: chapter_Row, folder: Path) -> Strip:
    def shown(column: str, score: str, title: str, told: bool | None) -> Picture | None:
        if r.get(column) is None:
            return None
        text = f"{r['main_name']} {r[score]:.2f}" if r[score] is not None else ""
        return picture(folder, r[column], title, text, "flipped" if told else "")

    pictures = (
        shown("before", "score_before", "as it is", None),
        shown("after", "score_after", f"without {r['companion_name']}", r["flipped"]),
        shown("control", "score_control", "control", r["flipped_control"]),
    )
    return Strip(r["image_id"], tuple(p for p in pictures if p is not None))


def _draw_shortcuts(table: pa.Table) -> list[Figure]:
    from manyhot.diagnose.figures import draw_shortcuts

    return draw_shortcuts(table, float(tables.metadata(table).get("threshold", THRESHOLD)))
