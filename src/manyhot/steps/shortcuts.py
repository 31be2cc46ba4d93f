"""Which predictions hang on what is beside the object: pairs of classes, with and without the companion."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from manyhot.classes import ClassList
from manyhot.core.sets import NO, NOT_ASKED, UNCLEAR, YES
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
    share,
    split,
)
from manyhot.errors import InputError
from manyhot.steps.sets import label_sets
from manyhot.tables import Labels, Objects, Predictions, schema
from manyhot.tables.definitions import CONTROLS, FILLS

LEAST = 25
"""Images with both that a pair is tested from, as in Plumb et al. 2022 (SPIRE)."""

THRESHOLD = 0.4
"""Share of images that must be lost for a pair to be called a shortcut; there it is that of flips."""

SHOWN, IMAGES_SHOWN = 10, 6
"""Pairs of which there are examples, and how many of each."""

_REMEMBERED = 100  # What the model says of a class in all images: 9 bytes each.

Row = dict[str, Any]
Progress = Callable[[str, int, int], None]
Bools = npt.NDArray[np.bool_]


class Change(NamedTuple):
    """What was done to images: which class was taken out, how, and whether this is the control."""

    companion: int
    fill: str
    control: bool


@dataclass(frozen=True, eq=False)
class States:
    """What is known about images and classes.

    Attributes
    ----------
    image_id : pyarrow.Array of string, shape (n,)
    state : ndarray of uint8, shape (n, C)
        `YES`, `NO`, `UNCLEAR` or `NOT_ASKED`.
    classes : ClassList
    """

    image_id: pa.Array
    state: npt.NDArray[np.uint8]
    classes: ClassList

    def of(self, images: pa.Array) -> States:
        """Return what is known of some of the images."""
        there = pc.is_in(self.image_id, images)
        return replace(
            self,
            image_id=self.image_id.filter(there),
            state=self.state[there.to_numpy(zero_copy_only=False)],
        )

    @cached_property
    def splits(self) -> npt.NDArray[np.int64]:
        """How many images are in each of the four splits of each pair, shape (4, C, C): main, companion."""
        # BLAS multiplies floats; below 2^24 images they are exact.
        known = [(self.state == value).astype(np.float32) for value in (YES, NO)]
        return np.rint([one.T @ other for one in known for other in known]).astype(np.int64)


def states_of_labels(labels: Labels, classes: ClassList) -> States:
    """Return what label sets say.

    A class that an image was not asked about is not known where the noes are recorded, else absent. Of images
    that are not usable nothing is known.
    """
    sets = label_sets(labels)
    state = np.full((len(sets), len(classes)), NOT_ASKED if sets.asked_known else NO, np.uint8)
    state[sets.rows, sets.classes] = sets.state
    state[~sets.usable] = NOT_ASKED
    return States(labels.image_id, state, classes)


def states_of_objects(objects: Objects, classes: ClassList) -> States:
    """Return what objects say: a class is there if an object of it is.

    It is unclear if all of them are to be ignored, or have no box in the image.
    """
    images = objects.images
    state = np.full((len(images), len(classes)), NO, np.uint8)
    row = np.empty(len(objects), np.int64)
    for i, rows in enumerate(images.values()):
        row[rows] = i
    state[row, objects.class_id] = UNCLEAR
    sure = ~objects.ignore & boxes_that_fit(objects)
    state[row[sure], objects.class_id[sure]] = YES
    return States(pa.array(list(images), pa.string()), state, classes)


def boxes_that_fit(objects: Objects) -> Bools:
    """Return whether anything of each box is in the image, shape (n,)."""
    boxes = np.clip(objects.boxes, 0, 1)  # NaN stays, and compares as false
    return np.asarray((boxes[:, :2] < boxes[:, 2:]).all(1))


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


def testable(row: Mapping[str, Any]) -> bool:
    """Return whether a row of the table ``shortcuts`` has the controls that tell a shortcut from any hole.

    Where it has not, `shortcut` is null; in tables of earlier versions it is false.
    """
    return bool(row["n_control"] >= CONTROLS)


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
        splits = split(*self.states.state[:, [pair.main, pair.companion]].T)
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
        lost = share((before.found & ~gone.found)[inside])
        row |= _told(share((before.found != gone.found)[inside]), "flips", "flips_lo", "flips_hi")
        row |= _told(lost, "lost", "lost_lo", "lost_hi")
        row["fall"] = float((before.score - gone.score)[inside].mean())
        inside = inside[control.there[inside]]
        flips = share((before.found != control.found)[inside])
        row |= _told(flips, "control", "control_lo", "control_hi", "n_control")
        away = [(before.found & ~said.found)[inside] for said in (gone, control)]
        more = paired_difference(*away)
        row |= _told(share(away[1]), "control_lost", "control_lost_lo", "control_lost_hi")
        row |= _told(more, "more", "lo", "hi")
        if testable(row):
            row["shortcut"] = bool(lost.value >= self.threshold and more.lo > 0)
        return row

    def _beside(self, pair: Pair, splits: npt.NDArray[np.int8]) -> Row:
        """Return how often the class is predicted in each split, and its average precision."""
        said = self._said(None, pair.main)
        found = said.found
        names = ("found_both", "found_main_only", "found_companion_only", "found_neither")
        row: Row = {name: _nothing(share(found[splits == which]).value) for which, name in enumerate(names)}
        gaps = {"recall_gap": (BOTH, MAIN_ONLY), "hallucination_gap": (COMPANION_ONLY, NEITHER)}
        for name, (one, other) in gaps.items():
            row |= _told(gap(found, splits, one, other), name, f"{name}_lo", f"{name}_hi")
        precision = self.drawn.precision(said.score, splits)
        row |= _told(precision.as_is, "ap", "ap_lo", "ap_hi")
        return row | _told(precision.balanced, "ap_balanced", "ap_balanced_lo", "ap_balanced_hi")

    def _examples(self, row: Row) -> Iterator[Row]:
        main, companion, fill = row["main"], row["companion"], row["fill"]
        splits = split(*self.states.state[:, [main, companion]].T)
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
