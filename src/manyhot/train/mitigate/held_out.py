"""Metrics of heads with and without treatment of a shortcut, on held-out images."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy import typing as npt
from scipy.special import stdtrit

from manyhot.classes import ClassList
from manyhot.core.array_types import Bools, Floats
from manyhot.core.companion_effects import (
    BOTH,
    COMPANION_ONLY,
    MAIN_ONLY,
    NEITHER,
    NO_SPLIT,
    BalancePlan,
    Estimated,
    Resampled,
    balancing,
    gap,
    paired_difference,
    plan,
    share_with_interval,
    split_by_pair,
    weighted_average_precision,
)
from manyhot.core.jackknife import resampled_interval
from manyhot.core.ratio_intervals import sampled_interval
from manyhot.core.sets import NO, NO_LABEL, NOT_ASKED, UNCLEAR, YES
from manyhot.diagnose.pixels.removal import OTHER, OWN, PATCH
from manyhot.errors import InputError, MatchError
from manyhot.tables import Labels, Objects, Row
from manyhot.tables.arrays import States, original_labels, states_of_labels, states_of_objects
from manyhot.train.order import SplitLabels

_THRESHOLD = 0.5
"""Probability from which sigmoids predict a class; a softmax predicts the top class."""

_CHUNK = 125  # Resamples at once.


@dataclass(frozen=True)
class HeldOutMetric:
    """A metric on the held-out images, and its value in each resample of these images, shape (R,).

    If the metric is a share, `hits` are the images that count towards it.
    """

    estimated: Estimated
    samples: Floats
    hits: Bools | None = None

    def less(self, other: HeldOutMetric) -> tuple[float, float, float]:
        """Return the difference from another value on the same images, and the ends of its 95 % interval.

        For shares, the interval is Newcombe's, because a bootstrap interval has no width if no image changes.
        """
        if self.hits is not None and other.hits is not None:
            found = paired_difference(self.hits, other.hits)
            return found.value, found.lo, found.hi
        value = self.estimated.value - other.estimated.value
        return value, *sampled_interval(value, self.samples - other.samples, self.estimated.n)


@dataclass(frozen=True, eq=False)
class AlteredScores:
    """Probabilities of a head for altered images, shape (k, C), and the rows of their originals."""

    p: Floats
    rows: npt.NDArray[np.intp]

    def of(self, rows: npt.NDArray[np.intp]) -> Floats:
        """Return the probabilities for some of the originals, in ascending order of their rows."""
        order = np.argsort(self.rows)
        return self.p[order][np.isin(self.rows[order], rows)]


@dataclass(frozen=True, eq=False)
class HeldOutImages:
    """Images that heads are evaluated on.

    Attributes
    ----------
    state : ndarray of uint8, shape (n, C)
        State of each class.
    label : ndarray of int, shape (n,)
        The original label; `NO_LABEL` if there is none.
    drawn : Resampled
        Resamples of these images, which are the same for all heads.
    """

    state: npt.NDArray[np.uint8]
    label: npt.NDArray[np.integer]
    drawn: Resampled

    def measure(
        self, p: Floats, judged: Mapping[str, AlteredScores], best: bool, pair: tuple[int, int]
    ) -> dict[str, HeldOutMetric]:
        """Return the metrics of a head.

        Parameters
        ----------
        p : ndarray of float, shape (n, C)
            Probabilities of the head.
        judged : mapping of str to AlteredScores
            Altered images by kind. The companion was removed from images with both classes, using the fill
            that was not used for fitting (``other``) or the one that was (``fitted``). It was pasted into
            images with neither class (``pasted``) and into images with the main class alone (``pasted on the
            class``). In images with the main class alone, the same places were also filled instead (``filled
            on the class``).
        best : bool
            Whether only the top class is predicted, instead of each class with a probability of at least 0.5.
        pair : (int, int)
            Main class and companion.

        Returns
        -------
        dict of str to HeldOutMetric
            The metrics of `METRIC_LABELS`, except those that count no images.
        """
        main = pair[0]
        predicted = _predicted(p, main, best)
        after = {name: _predicted(altered.p, main, best) for name, altered in judged.items()}
        rows = {name: altered.rows for name, altered in judged.items()}
        splits = split_by_pair(*self.state[:, list(pair)].T)
        metrics = {}
        for name, fill in (("lost", "other"), ("lost_fitted", "fitted")):
            metrics[name] = self._share(predicted[rows[fill]] & ~after[fill], rows[fill])
        metrics["flips"] = self._share(predicted[rows["other"]] != after["other"], rows["other"])
        metrics |= self._gaps(predicted, splits)
        metrics["pasted_gap"] = self._paired(after["pasted"], predicted[rows["pasted"]], rows["pasted"])
        same, one, other = np.intersect1d(
            rows["pasted on the class"], rows["filled on the class"], assume_unique=True, return_indices=True
        )
        metrics["pasted_recall_gap"] = self._paired(
            after["pasted on the class"][one], after["filled on the class"][other], same
        )
        metrics |= self._precisions(p[:, main], splits)
        rows_labelled = np.flatnonzero(self.label != NO_LABEL)
        metrics["top1"] = self._share(p.argmax(1)[rows_labelled] == self.label[rows_labelled], rows_labelled)
        scored = np.flatnonzero((self.state == YES).any(1))
        metrics["real1"] = self._share(self.state[scored, p.argmax(1)[scored]] == YES, scored)
        metrics["real1_others"] = self._right_others(p, pair[1])
        right, of = (metrics["top1"].hits, rows_labelled) if best else (metrics["real1"].hits, scored)
        without = np.isin(splits[of], (MAIN_ONLY, NEITHER))
        metrics["accuracy_without"] = self._share(np.asarray(right)[without], of[without])
        # A softmax is fitted to original labels, and cannot recognise what is never one.
        metrics["map"] = self._map(p, self.label[rows_labelled] if best else np.arange(p.shape[1]))
        return {name: m for name, m in metrics.items() if not np.isnan(m.estimated.value)}

    def exchanged(
        self, p: Floats, shown: Mapping[tuple[int, str], AlteredScores], best: bool, pair: tuple[int, int]
    ) -> dict[str, HeldOutMetric]:
        """Return the metrics of a head on images in which companions were exchanged.

        Parameters
        ----------
        p : ndarray of float, shape (n, C)
            Probabilities of the head for the unaltered images.
        shown : mapping of (int, str) to AlteredScores
            As returned by `ImageFeatures.exchanged`.
        best, pair
            As in `measure`.
        """
        versions = {split: [own.rows for (of, _), own in shown.items() if of == split] for split, _ in shown}
        rows = {split: functools.reduce(np.intersect1d, of) for split, of in versions.items()}
        found = {(split, how): own.of(rows[split]) for (split, how), own in shown.items()}
        called = {key: _predicted(own, pair[0], best) for key, own in found.items()}
        margins = {key: _margin(own, pair[0], best) for key, own in found.items()}
        # A pasted companion may be a poor copy. How much less it acts is seen beside the image's own: the
        # upper end of that interval counts.
        copied = self._mean(margins[BOTH, OWN] - margins[BOTH, OTHER], rows[BOTH])
        called[NEITHER, OTHER] = margins[NEITHER, OTHER] + np.fmax(copied.estimated.hi, 0.0) >= 0
        metrics = {
            "called_pasted": self._share(called[NEITHER, OTHER], rows[NEITHER]),
            "called_patched": self._share(called[NEITHER, PATCH], rows[NEITHER]),
            "patched_gap": self._paired(called[NEITHER, OTHER], called[NEITHER, PATCH], rows[NEITHER]),
            "patched_recall_gap": self._paired(called[BOTH, OWN], called[BOTH, PATCH], rows[BOTH]),
            "copied_logit": copied,
            "accuracy_patched": self._accuracy_patched(p, found[BOTH, PATCH], rows[BOTH], best, pair),
        }
        return {name: m for name, m in metrics.items() if not np.isnan(m.estimated.value)}

    def _mean(self, values: Floats, rows: npt.NDArray[np.intp]) -> HeldOutMetric:
        """Return a mean with Student's interval."""
        n = len(values)
        if n < 2:
            return HeldOutMetric(Estimated(np.nan, np.nan, np.nan, n), np.empty(0))
        value, error = float(values.mean()), values.std(ddof=1) / n**0.5
        half = float(stdtrit(n - 1, 0.975) * error)
        weights = self._counts[:, rows]
        with np.errstate(divide="ignore", invalid="ignore"):
            samples = np.asarray(weights @ values / weights.sum(1), np.float64)
        return HeldOutMetric(Estimated(value, value - half, value + half, n), samples)

    def _accuracy_patched(
        self, p: Floats, patched: Floats, rows: npt.NDArray[np.intp], best: bool, pair: tuple[int, int]
    ) -> HeldOutMetric:
        """Return the accuracy on images without the companion, and on those where a patch covers it."""
        without = p.copy()
        without[rows] = patched
        splits = split_by_pair(*self.state[:, list(pair)].T)
        inside = np.isin(splits, (MAIN_ONLY, NEITHER))
        inside[rows] = True
        top = without.argmax(1)
        known = self.label != NO_LABEL if best else (self.state == YES).any(1)
        right = top == self.label if best else self.state[np.arange(len(top)), top] == YES
        return self._share(right[inside & known], np.flatnonzero(inside & known))

    def _gaps(self, predicted: Bools, splits: npt.NDArray[np.int8]) -> dict[str, HeldOutMetric]:
        """Return both gaps, and how often images without the class are called it."""
        metrics = {}
        for name, which in (("called_with", COMPANION_ONLY), ("called_without", NEITHER)):
            metrics[name] = self._share(predicted[splits == which], np.flatnonzero(splits == which))
        for name, (one, other) in {
            "recall_gap": (BOTH, MAIN_ONLY),
            "hallucination_gap": (COMPANION_ONLY, NEITHER),
        }.items():
            samples = self._shares(predicted, splits == one) - self._shares(predicted, splits == other)
            metrics[name] = HeldOutMetric(gap(predicted, splits, one, other), samples)
        return metrics

    def _paired(self, after: Bools, before: Bools, rows: npt.NDArray[np.intp]) -> HeldOutMetric:
        """Return the change of a share on the same images."""
        samples = self._share(after, rows).samples - self._share(before, rows).samples
        return HeldOutMetric(paired_difference(after, before), samples)

    def _share(self, hits: Bools, rows: npt.NDArray[np.intp]) -> HeldOutMetric:
        wide = np.zeros(len(self.label), bool)
        inside = wide.copy()
        wide[rows], inside[rows] = hits, True
        return HeldOutMetric(share_with_interval(hits), self._shares(wide, inside), hits)

    def _shares(self, hits: Bools, inside: Bools) -> Floats:
        weights = self._counts
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((weights @ (hits & inside)) / (weights @ inside), np.float64)

    def _precisions(self, score: Floats, splits: npt.NDArray[np.int8]) -> dict[str, HeldOutMetric]:
        inside = np.flatnonzero(splits != NO_SPLIT)
        of, score = splits[inside], score[inside]
        positive = of <= MAIN_ONLY
        metrics = {}
        for name, weigh in (("ap", lambda w: w), ("ap_balanced", lambda w: balancing(of, w))):

            def measure(w: Any, weigh: Callable[[Any], Any] = weigh) -> Floats:
                return weighted_average_precision(score, positive, weigh(w[:, inside]))

            value = float(measure(np.ones((1, len(splits)), np.float32))[0])
            samples = self._chunked(measure)
            ends = resampled_interval(value, samples, n=len(inside))
            metrics[name] = HeldOutMetric(Estimated(value, *ends, len(inside)), samples)
        return metrics

    def _right_others(self, p: Floats, companion: int) -> HeldOutMetric:
        """Return how often the top class among all classes but the companion is valid."""
        state, p = np.delete(self.state, companion, 1), np.delete(p, companion, 1)
        rows = np.flatnonzero((state == YES).any(1))
        return self._share(state[rows, p.argmax(1)[rows]] == YES, rows)

    def _map(self, p: Floats, classes: npt.NDArray[np.integer]) -> HeldOutMetric:
        values, samples = [], []
        for c in np.intersect1d(np.flatnonzero((self.state == YES).any(0)), classes):
            measure = self._precision_of(p, int(c))
            values.append(measure(np.ones((1, len(p)), np.float32))[0])
            samples.append(self._chunked(measure))
        if not values:
            return HeldOutMetric(Estimated(np.nan, np.nan, np.nan, 0), np.empty(0))
        drawn, value = np.nanmean(samples, axis=0), float(np.mean(values))
        ends = resampled_interval(value, drawn, n=len(p))
        return HeldOutMetric(Estimated(value, *ends, len(p)), drawn)

    def _precision_of(self, p: Floats, c: int) -> Callable[[Any], Floats]:
        known = np.flatnonzero(np.isin(self.state[:, c], (NO, YES)))
        positive, score = self.state[known, c] == YES, p[known, c]
        return lambda w: weighted_average_precision(score, positive, w[:, known])

    def _chunked(self, of: Callable[[Any], Floats]) -> Floats:
        starts = range(0, len(self._counts), _CHUNK)
        return np.concatenate([np.empty(0), *(of(self._counts[i : i + _CHUNK]) for i in starts)])

    @cached_property
    def _counts(self) -> npt.NDArray[np.float32]:
        return self.drawn.counts.astype(np.float32)


def _predicted(p: Floats, main: int, best: bool) -> Bools:
    return np.asarray(p.argmax(1) == main if best else p[:, main] >= _THRESHOLD)


def _margin(p: Floats, main: int, best: bool) -> Floats:
    """Return by how much the logit of a class exceeds what it is predicted from."""
    p = np.maximum(p, np.finfo(np.float64).tiny)
    other = np.delete(p, main, axis=1).max(axis=1) if best else np.maximum(1 - p[:, main], 1e-300)
    return np.asarray(np.log(p[:, main]) - np.log(other))


def mitigation_rows(
    columns: dict[str, Any],
    n: int,
    measured: Mapping[str, HeldOutMetric],
    untreated: Mapping[str, HeldOutMetric] | None,
) -> Iterator[Row]:
    """Yield the metrics of a head on n images, and their differences from those of the untreated head."""
    for metric, m in measured.items():
        row = columns | {"metric": metric, "n": m.estimated.n}
        row |= {"value": m.estimated.value, "lo": m.estimated.lo, "hi": m.estimated.hi}
        row["n_skipped"] = n - m.estimated.n
        if untreated is not None and metric in untreated:
            row["change"], row["change_lo"], row["change_hi"] = m.less(untreated[metric])
        yield {k: None if v != v else v for k, v in row.items()}


Pair = tuple[int, int]
"""A main class and its companion."""

LabelArray = npt.NDArray[np.integer]


def single_states(label: LabelArray, n_classes: int) -> npt.NDArray[np.uint8]:
    """Return labels as label sets of one class, shape (n, C)."""
    state = np.where(label[:, None] == np.arange(n_classes), YES, NO)
    return np.where(label[:, None] == NO_LABEL, UNCLEAR, state).astype(np.uint8)


def states_and_labels(
    objects: Objects, labels: Labels | None, classes: ClassList
) -> tuple[States, LabelArray]:
    """Return label sets and original labels, from the objects if there are no labels.

    Raises
    ------
    MatchError
        If labels and objects have different class lists.
    """
    if labels is None:
        states = states_of_objects(objects, classes)
        return states, np.full(len(states.image_id), NO_LABEL)
    if labels.n_classes != len(classes) or labels.class_hash not in ("", classes.hash):
        raise MatchError(
            "Labels and objects have different class lists.",
            where=labels.name or None,
            got=f"{labels.n_classes:,} classes, class list {labels.class_hash or 'unknown'}",
            allowed=f"{len(classes):,} classes, class list {classes.hash}, as the objects",
            do="pass the list of all classes as `classes`, and use it for the labels, too",
        )
    return states_of_labels(labels, classes), original_labels(labels)


@dataclass(frozen=True, eq=False)
class Added:
    """Altered images added for fitting a head.

    Attributes
    ----------
    rows : ndarray of int, shape (k,)
        The original images.
    features : ndarray of float, shape (k, D)
    weight : float
        Weight of each altered image, relative to an image that was not altered.
    main, companion : bool
        Whether the main class and the companion are valid.
    gone : int
        The class that was removed, or `NO_LABEL` if none was removed.
    alteration : Alteration, optional
        How the images are altered.
    """

    rows: npt.NDArray[np.intp]
    features: Any
    weight: float
    main: bool
    companion: bool
    gone: int = NO_LABEL
    alteration: Any = None

    def inside(self, images: Bools) -> Added:
        """Return the altered copies of some images, with the same weight."""
        keep = images[self.rows]
        return replace(self, rows=self.rows[keep], features=self.features[keep])


@dataclass(frozen=True, eq=False)
class MitigationLabels(SplitLabels):
    """Labels of the images to fit on, of the held-out images, and of their altered copies."""

    @cached_property
    def fitting(self) -> npt.NDArray[np.intp]:
        """The rows that are fitted on."""
        return np.flatnonzero(~self.held)

    @cached_property
    def labelled(self) -> bool:
        """Whether there are original labels for fitting heads."""
        return bool((self.label[self.fitting] != NO_LABEL).any())

    @cached_property
    def single(self) -> npt.NDArray[np.uint8]:
        """The original label as a label set of one class, shape (n, C)."""
        return single_states(self.label, len(self.classes))

    def splits(self, pair: Pair) -> npt.NDArray[np.int8]:
        """Return the split of a pair to which each image belongs; see `split_by_pair`."""
        return split_by_pair(*self.state[:, list(pair)].T)

    def counts(self, pair: Pair, inside: Bools) -> tuple[int, int, int, int]:
        """Return how many of some images are in each split of a pair."""
        splits = self.splits(pair)[inside]
        both, main_only, companion_only, neither = np.bincount(
            splits[splits != NO_SPLIT], minlength=4
        ).tolist()
        return both, main_only, companion_only, neither

    def both(self, pair: Pair) -> Bools:
        """Return the images that show both classes of the pair."""
        return np.asarray(self.splits(pair) == BOTH)

    def alone(self, pair: Pair) -> Bools:
        """Return the images to fit on that show the main class without its companion."""
        return np.asarray((self.splits(pair) == MAIN_ONLY) & ~self.held)

    def neither(self, pair: Pair) -> Bools:
        """Return the images to fit on that show neither class of the pair."""
        return np.asarray((self.splits(pair) == NEITHER) & ~self.held)

    def plan(self, pair: Pair, capped: bool) -> BalancePlan:
        """Return the number of altered images to add for fitting."""
        return plan(*self.counts(pair, ~self.held), capped=capped)

    def relabelled(self, added: Added, pair: Pair) -> LabelArray:
        """Return single labels of altered images. The other class of the pair replaces a removed class."""
        label = self.label[added.rows]
        other = pair[0] if added.gone == pair[1] else pair[1]
        return np.where((label == added.gone) & (label != NO_LABEL), other, label)

    def labels(self, groups: Sequence[tuple[Pair, Added]]) -> LabelArray:
        """Return the single labels for fitting a softmax, of original and altered images."""
        return np.concatenate([self.label[self.fitting], *(self.relabelled(a, pair) for pair, a in groups)])

    def states(self, groups: Sequence[tuple[Pair, Added]], sets: bool) -> npt.NDArray[np.uint8]:
        """Return the states for fitting sigmoids, from label sets or single labels."""
        found = [(self.state if sets else self.single)[self.fitting]]
        for pair, a in groups:
            if sets:
                state = self.state[a.rows]
                state[:, list(pair)] = [YES if there else NO for there in (a.main, a.companion)]
            else:
                state = single_states(self.relabelled(a, pair), len(self.classes))
            found.append(state)
        return np.concatenate(found)

    def held_out(self, resamples: int, seed: int) -> HeldOutImages:
        """Return the images held out."""
        held = self.held
        return HeldOutImages(
            self.state[held], self.label[held], Resampled.of(int(held.sum()), resamples, seed)
        )

    def check_pairs(self, pairs: Sequence[Pair], min_images: int) -> None:
        """Raise an error if pairs cannot be treated.

        Raises
        ------
        InputError
            If a pair has fewer than `min_images` images with both classes to fit on, or none that is held
            out.
        """
        for pair in pairs:
            both = self.both(pair)
            fitted, judged = (int((both & h).sum()) for h in (~self.held, self.held))
            if fitted < min_images or not judged:
                do = "remove the pair, or lower `min_images`"
                if fitted >= min_images:
                    has_labels = (self.state[self.held, pair[0]] != NOT_ASKED).any()
                    do = (
                        "hold out images that show both (`split`, `held_out`)"
                        if has_labels
                        else "pass labels of the held-out images as well, because they have none (`labels`)"
                    )
                raise InputError(
                    "There are too few images with both classes of a pair.",
                    where=":".join(self.classes.names[c] for c in pair),
                    got=f"{fitted:,} to fit on, {judged:,} held out",
                    allowed=f"at least {min_images:,} to fit on, 1 held out",
                    do=do,
                )
