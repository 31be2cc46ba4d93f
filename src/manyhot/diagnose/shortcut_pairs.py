"""Pairs of classes, and how many predictions of one change without the other; from finished predictions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc
from scipy.special import expit

from manyhot.classes import ClassList
from manyhot.command import takes_fields
from manyhot.core.array_types import Bools, Floats
from manyhot.core.companion_effects import (
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
from manyhot.core.sets import YES
from manyhot.core.threads import THREADS, one_blas_thread
from manyhot.diagnose.object_remover import Change
from manyhot.diagnose.shortcut_marks import MIN_LOST, with_marks
from manyhot.diagnose.shortcuts_result import FILLS, Shortcuts
from manyhot.errors import InputError
from manyhot.parameters import RESAMPLES, Count, Flattened, Probability, Resamples, Seed, Was
from manyhot.report.chapter import testable
from manyhot.run import QUIET, Run
from manyhot.tables import Predictions, RowDict, schema
from manyhot.tables.arrays import States
from manyhot.tables.frames import null_if_nan

MIN_IMAGES = 25
"""Images with both classes that a pair needs, as in Plumb et al. 2022 (SPIRE)."""

NO_OBJECTS = "the companion has no objects"
"""Why a pair can be judged by its gaps alone: there is nothing to remove."""

PAIRS_WITH_EXAMPLES, EXAMPLES_PER_PAIR = 10, 6


@dataclass(frozen=True, repr=False)
class ShortcutSettings(Flattened):
    """Settings that determine which pairs are tested, and which of them are shortcuts.

    Attributes
    ----------
    min_images
        Minimum number of images with both classes for a pair to be tested.
    min_lost
        Minimum share of images on which the main class must be lost for a pair to be called a shortcut.
    probability
        Minimum probability at which a class counts as predicted. If scores are not probabilities, only the
        top class counts as predicted.
    resamples
        Number of bootstrap resamples for average precision; 0 for no intervals.
    seed
        Seed for the places of controls and for the bootstrap.
    """

    min_images: Annotated[Count, Was("--least")] = MIN_IMAGES
    min_lost: Annotated[Probability, Was("--threshold")] = MIN_LOST
    probability: Annotated[Probability, Was("--at")] = 0.5
    resamples: Resamples = RESAMPLES
    seed: Seed = 0


SHORTCUT_SETTINGS = ShortcutSettings()

_REMEMBERED = 100  # Outputs of the model for a class in all images: 9 bytes each.


@dataclass(frozen=True)
class Pair:
    """A class and a possible companion.

    Attributes
    ----------
    main, companion, both : int
        The two classes, and the number of images that show both.
    why_not : str
        The reason why the pair is not tested; empty if it is tested.
    """

    main: int
    companion: int
    both: int
    why_not: str = ""


def named_pairs(texts: Iterable[str], classes: ClassList) -> list[tuple[int, int]]:
    """Return pairs of classes from texts such as ``main:companion``, which contain keys or names.

    Raises
    ------
    InputError
        If a text is not a pair.
    UnknownNameError
        If there is no such class.
    """
    found = []
    for text in texts:
        main, colon, companion = text.partition(":")
        pair = (classes.index(main.strip()), classes.index(companion.strip())) if colon else (0, 0)
        if pair[0] == pair[1]:
            raise InputError(
                "A pair must consist of two different classes.",
                got=text,
                allowed=("MAIN:COMPANION, such as horse:person"),
            )
        found.append(pair)
    return found


def find_pairs(
    states: States,
    classes: ClassList,
    removable: Iterable[int],
    *,
    min_images: int = MIN_IMAGES,
    only: Sequence[tuple[int, int]] = (),
) -> list[Pair]:
    """Return the pairs of classes that occur together, with the reason why a pair is not tested, if any.

    Parameters
    ----------
    classes : ClassList
        Class list of the model.
    removable : iterable of int
        Classes that have objects.
    min_images : int
        Minimum number of images with both classes for a pair to be tested.
    only : sequence of (int, int), optional
        Main class and companion of the pairs to test; by default all.
    """
    both = states.splits[BOTH]
    able, keys = set(removable), set(classes.keys)
    asked = list(only) or [
        (int(m), int(s)) for m, s in zip(*np.nonzero(both), strict=True) if m != s and int(s) in able
    ]
    found = []
    for main, companion in dict.fromkeys(asked):
        why, n = "", int(both[main, companion])
        if states.classes.keys[main] not in keys:
            why = "the model does not have the class"
        elif companion not in able:
            why = NO_OBJECTS
        elif n < min_images:
            why = f"fewer than {min_images:,} images with both"
        found.append(Pair(main, companion, n, why))
    return found


def images_to_alter(states: States, pairs: Sequence[Pair]) -> dict[int, frozenset[str]]:
    """Return the images of each companion that also show a main class with which it is tested."""
    found: dict[int, Bools] = {}
    for pair in pairs:
        if not pair.why_not:
            both = (states.state[:, [pair.main, pair.companion]] == YES).all(1)
            found[pair.companion] = found.get(pair.companion, np.zeros(len(both), bool)) | both
    return {
        companion: frozenset(states.image_id.filter(pa.array(mask)).to_pylist())
        for companion, mask in sorted(found.items())
    }


@takes_fields
def judge_shortcuts(
    states: States,
    pairs: Sequence[Pair],
    before: Predictions,
    after: Mapping[Change, Predictions | None],
    classes: ClassList,
    *,
    fills: Sequence[str] = FILLS,
    settings: ShortcutSettings = SHORTCUT_SETTINGS,
    notes: Sequence[str] = (),
    run: Run = QUIET,
) -> Shortcuts:
    """Compare the predictions of a model with and without companions.

    Parameters
    ----------
    states : States
        States of classes in the images. Images without a prediction are ignored.
    pairs : sequence of Pair
    before : Predictions
        Dense predictions of the original images.
    after : mapping of Change to Predictions
        Predictions of the images without the companion; None if no image could be altered.
    classes : ClassList
        Class list of the predictions.
    fills : sequence of str
        What companions were replaced with.
    notes : sequence of str
        Notes about what was skipped.
    run : Run
        Progress over pairs.

    Returns
    -------
    Shortcuts
        The result. Examples are selected but do not have pictures yet.
    """
    predicted = states.of(before.image_id)
    drawn = Resampled.of(len(predicted.image_id), settings.resamples, settings.seed)
    judge = _Judge(predicted, before, after, classes, fills, settings, drawn)
    rows: list[RowDict] = []
    with one_blas_thread(), ThreadPoolExecutor(THREADS) as pool:
        for done, own in enumerate(pool.map(lambda pair: [*judge.rows(pair)], pairs), 1):
            rows += own
            if run.on_progress:
                run.on_progress("testing pairs", done, len(pairs))
    ordered = _in_order(with_marks(rows, settings.min_lost))
    all_notes = list(notes)
    if lost := len(states.image_id) - len(predicted.image_id):
        all_notes.append(
            f"{lost:,} images with labels or objects are skipped, because they have no prediction"
        )
    return Shortcuts(
        pa.Table.from_pylist(ordered, schema=schema("shortcuts")),
        pa.Table.from_pylist(list(judge.examples(ordered)), schema=schema("shortcut_examples")),
        settings.min_lost,
        notes=tuple(all_notes),
    )


def _in_order(rows: Sequence[RowDict]) -> list[RowDict]:
    """Return rows with marked pairs first, by the clearest loss; what could not be removed comes last."""
    tested, skipped = ([r for r in rows if (r["skipped"] is None) is ok] for ok in (True, False))
    # Pairs without a control are ordered by what they lost: the difference if a control lost nothing.
    lo = [r["lo"] if testable(r) else r["lost_lo"] for r in tested]
    order = rank(np.array(lo, float), np.array([r["lost"] for r in tested], float))
    ordered = [tested[i] for i in order] + sorted(skipped, key=lambda r: -r["both"])
    return sorted(ordered, key=lambda r: (r["skipped"] is not None, r["mark"] is None))


@dataclass(frozen=True, eq=False)
class _ClassOutput:
    """What a model predicts of a class, image by image: NaN and False for images without a prediction."""

    score: Floats
    predicted: Bools

    @property
    def exists(self) -> Bools:
        return ~np.isnan(self.score)


@dataclass(eq=False)
class _Judge:
    """Judges pairs; the parameters are those of `judge_shortcuts`."""

    states: States
    before: Predictions
    after: Mapping[Change, Predictions | None]
    classes: ClassList
    fills: Sequence[str]
    settings: ShortcutSettings
    drawn: Resampled
    _cache: dict[tuple[Change | None, int], _ClassOutput] = field(default_factory=dict)

    @cached_property
    def decision(self) -> str:
        """When a class counts as predicted."""
        is_probability = self.before.score_kind == "probability"
        return f"p >= {self.settings.probability:g}" if is_probability else "best class"

    def rows(self, pair: Pair) -> Iterator[RowDict]:
        """Yield one row of the table for each fill."""
        counts = self.states.splits[:, pair.main, pair.companion].tolist()
        names = self.states.classes.names
        row: RowDict = {
            "model": self.before.model,
            "main": pair.main,
            "companion": pair.companion,
            "main_name": names[pair.main],
            "companion_name": names[pair.companion],
            "skipped": pair.why_not or None,
            "decision": self.decision,
            **dict(zip(("both", "main_only", "companion_only", "neither"), counts, strict=True)),
        }
        if pair.why_not and pair.why_not != NO_OBJECTS:
            yield from (row | {"fill": fill} for fill in self.fills)
            return
        splits = split_by_pair(*self.states.state[:, [pair.main, pair.companion]].T)
        row |= self._beside(pair, splits)
        for fill in self.fills:
            yield row | {"fill": fill} | ({} if pair.why_not else self._flips(pair, splits, fill))

    def examples(self, rows: Sequence[RowDict]) -> Iterator[RowDict]:
        """Yield examples of the first pairs: images on which the main class is lost, then other flips."""
        for row in [r for r in rows if r["skipped"] is None][:PAIRS_WITH_EXAMPLES]:
            yield from self._examples(row)

    def _output(self, change: Change | None, main: int) -> _ClassOutput:
        output = self._cache.get((change, main))  # another thread may empty it
        if output is None:
            if len(self._cache) >= _REMEMBERED:
                self._cache.clear()
            output = self._cache[change, main] = self._look_up(change, main)
        return output

    def _look_up(self, change: Change | None, main: int) -> _ClassOutput:
        predictions = self.before if change is None else self.after.get(change)
        score = np.full(len(self.states.image_id), np.nan)
        found = np.zeros(len(score), bool)
        if predictions is not None:
            column = self.classes.keys.index(self.states.classes.keys[main])
            at = pc.index_in(self.states.image_id, predictions.image_id)
            there = at.is_valid().to_numpy(zero_copy_only=False)
            rows = at.drop_null().to_numpy()
            score[there] = _confidence(predictions, column)[rows]
            found[there] = self._predicts(predictions, column)[rows]
        return _ClassOutput(score, found)

    def _predicts(self, predictions: Predictions, column: int) -> Bools:
        scores = predictions.scores
        assert scores is not None
        if predictions.score_kind == "probability":
            return np.asarray(scores[:, column] >= self.settings.probability)
        return np.asarray(scores.argmax(1) == column)

    def _flips(self, pair: Pair, splits: npt.NDArray[np.int8], fill: str) -> RowDict:
        """Return how many predictions change without the companion, and without something else."""
        before = self._output(None, pair.main)
        gone, control = (self._output(Change(pair.companion, fill, c), pair.main) for c in (False, True))
        inside = np.flatnonzero((splits == BOTH) & gone.exists)
        row: RowDict = {"n": len(inside), "n_control": 0}
        if len(inside) < self.settings.min_images:
            return row | {"skipped": f"fewer than {self.settings.min_images:,} images could be altered"}
        lost = share_with_interval((before.predicted & ~gone.predicted)[inside])
        row |= _columns(
            share_with_interval((before.predicted != gone.predicted)[inside]), "flips", "flips_lo", "flips_hi"
        )
        row |= _columns(lost, "lost", "lost_lo", "lost_hi")
        row["score_drop"] = float((before.score - gone.score)[inside].mean())
        inside = inside[control.exists[inside]]
        flips = share_with_interval((before.predicted != control.predicted)[inside])
        row |= _columns(flips, "control", "control_lo", "control_hi", "n_control")
        away = [(before.predicted & ~output.predicted)[inside] for output in (gone, control)]
        more = paired_difference(*away)
        row |= _columns(share_with_interval(away[1]), "control_lost", "control_lost_lo", "control_lost_hi")
        row |= _columns(more, "excess", "lo", "hi")
        if testable(row):
            row["shortcut"] = bool(lost.value >= self.settings.min_lost and more.lo > 0)
        return row

    def _beside(self, pair: Pair, splits: npt.NDArray[np.int8]) -> RowDict:
        """Return how often the class is predicted in each split, and its average precision."""
        output = self._output(None, pair.main)
        found = output.predicted
        names = ("predicted_both", "predicted_main_only", "predicted_companion_only", "predicted_neither")
        row: RowDict = {
            name: null_if_nan(share_with_interval(found[splits == which]).value)
            for which, name in enumerate(names)
        }
        gaps = {"recall_gap": (BOTH, MAIN_ONLY), "hallucination_gap": (COMPANION_ONLY, NEITHER)}
        for name, (one, other) in gaps.items():
            row |= _columns(gap(found, splits, one, other), name, f"{name}_lo", f"{name}_hi")
        precision = self.drawn.precision(output.score, splits)
        row |= _columns(precision.as_is, "ap", "ap_lo", "ap_hi")
        return row | _columns(precision.balanced, "ap_balanced", "ap_balanced_lo", "ap_balanced_hi")

    def _examples(self, row: RowDict) -> Iterator[RowDict]:
        main, companion, fill = row["main"], row["companion"], row["fill"]
        splits = split_by_pair(*self.states.state[:, [main, companion]].T)
        before = self._output(None, main)
        gone, control = (self._output(Change(companion, fill, c), main) for c in (False, True))
        inside = np.flatnonzero((splits == BOTH) & gone.exists)
        flipped, beside = (before.predicted != x.predicted for x in (gone, control))
        fall = before.score - gone.score
        lost = before.predicted & ~gone.predicted
        keys = (-fall, ~control.exists, beside & control.exists, ~flipped, ~lost)  # the last decides first
        order = inside[np.lexsort([key[inside] for key in keys])]
        same = {k: row[k] for k in ("main", "companion", "main_name", "companion_name", "fill")}
        for i in order[:EXAMPLES_PER_PAIR]:
            there = bool(control.exists[i])
            yield same | {
                "image_id": self.states.image_id[int(i)].as_py(),
                "flipped": bool(flipped[i]),
                "flipped_control": bool(beside[i]) if there else None,
                "score_before": float(before.score[i]),
                "score_after": float(gone.score[i]),
                "score_control": float(control.score[i]) if there else None,
            }


def _confidence(predictions: Predictions, column: int) -> npt.NDArray[np.float64]:
    """Return the probability of a class, or its score if that is not a probability."""
    assert predictions.scores is not None
    score = predictions.scores[:, column].astype(np.float64)
    if predictions.score_kind != "logit":
        return score
    if predictions.link == "sigmoid":
        return np.asarray(expit(score))
    total = predictions.logsumexp
    total = np.logaddexp.reduce(predictions.scores, axis=1) if total is None else total
    return np.asarray(np.exp(score - total))


def _columns(estimated: Estimated, value: str, lo: str, hi: str, n: str = "") -> RowDict:
    ends = {value: estimated.value, lo: estimated.lo, hi: estimated.hi}
    return {k: null_if_nan(v) for k, v in ends.items()} | ({n: estimated.n} if n else {})
