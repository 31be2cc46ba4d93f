"""Errors sorted by what they are: rules in an order, the first that fits decides.

The order and the idea of each rule are Peychev et al.'s. An error is one prediction of one image. Each rule
looks at all errors at once, judges each by itself, and says by which class it went.

References
----------
M. Peychev et al. Automated Classification of Model Errors on ImageNet. NeurIPS 2023, arXiv 2401.02430.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy import typing as npt

from manyhot.core.array_types import AnyFloats, Bools, Floats, Floats32, Ints
from manyhot.core.cooccurrence import ClassPairs
from manyhot.core.sets import NO_LABEL, UNCLEAR, YES, LabelSets
from manyhot.errors import InputError
from manyhot.registry import Entry, register

ORDER = (
    "valid-label",
    "collapsed-pair",
    "fine-grained",
    "out-of-vocabulary",
    "co-occurrence",
    "non-prototypical",
    "model-failure",
)
"""The rules in the order in which they are asked by default; each is the name of a kind of error."""

NOTHING = -1
"""No rule fitted; no class decided; no neighbour; no superclass."""

LARGEST_GROUP = 0.12
"""Share of all classes that the smallest group which holds two classes may have, for these to be alike: of
ImageNet's 1,000 the 118 dogs are one kind, the 124 devices are not. ``benchmarks/sorting.py`` has others:
people agree more with 0.12, and with 0.05 as many errors are fine-grained as Peychev et al. publish."""


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """A tree of classes.

    Attributes
    ----------
    down : ndarray of int32, shape (C, L)
        The way from the root to each class; short ways are filled up with numbers that no other class has.
    beneath : ndarray of int64, shape (number of nodes,)
        Classes beneath each node, itself counted where it is a class.
    """

    down: npt.NDArray[np.int32]
    beneath: npt.NDArray[np.int64]

    @classmethod
    def of(cls, paths: Sequence[Sequence[str]]) -> Hierarchy:
        """Build the tree from the path of each class up to the root, the class itself first."""
        number = {step: i for i, step in enumerate(dict.fromkeys(s for path in paths for s in path))}
        length = max([len(path) for path in paths], default=1)
        down = np.repeat(-1 - np.arange(len(paths), dtype=np.int32)[:, None], length, axis=1)
        for row, path in zip(down, paths, strict=True):
            row[: len(path)] = [number[step] for step in reversed(path)]
        return cls(down, np.bincount(down[down >= 0], minlength=len(number)))

    def group_size(self, a: Ints, b: Ints) -> npt.NDArray[np.int64]:
        """Return how many classes lie beneath the lowest node above both of two classes, shape (p,).

        1 for a class and itself; one more than there are classes where nothing joins the two.
        """
        n = len(self.down)
        pair, back = np.unique(a.astype(np.int64) * n + b, return_inverse=True)
        a, b = pair // n, pair % n
        shared = np.cumprod(self.down[a] == self.down[b], axis=1).sum(1)
        lowest = self.down[a, np.maximum(shared - 1, 0)]
        size = np.where(shared > 0, self.beneath[np.maximum(lowest, 0)], n + 1)
        return np.asarray(np.where(a == b, 1, size)[back], np.int64)


@dataclass(frozen=True, eq=False)
class NeighbourLabels:
    """What is known about the images that look most like each image.

    Attributes
    ----------
    classes : ndarray of int, shape (n, k)
        Original labels of the nearest images, `NOTHING` where there is none.
    rarity : ndarray of float, shape (n,)
        The share of images that are nearer to their nearest one than this image is to its own; NaN where
        that is not known.
    """

    classes: Ints
    rarity: AnyFloats


@dataclass(frozen=True, eq=False)
class ErrorContext:
    """What is known about n images and C classes; what is None is not known, and rules that need it rest.

    Attributes
    ----------
    n_classes : int
        C.
    label : ndarray of int32, shape (n,)
        Original labels; `NO_LABEL` where there is none.
    indptr, valid : ndarray of int64, shape (n + 1,), and of int32, shape (v,)
        What a prediction of image i is held against, ``valid[indptr[i]:indptr[i + 1]]``: its label set, or
        its original label where the set is empty.
    others : bool, optional
        True where people were asked about any class beside the original labels.
    hierarchy : Hierarchy, optional
    groups : ndarray of int, shape (C,), optional
        A superclass of each class, `NOTHING` for none; where it is there, it counts in place of `hierarchy`.
    pairs : ndarray of int, shape (p, 2), optional
        A valid class, and a class whose prediction says the same of it.
    together : (ndarray of int64, ndarray of int64), optional
        As `count_together` gives them.
    neighbours : Neighbours, optional
    listed : ndarray of bool, shape (n,), optional
        Images that people called non-prototypical.
    """

    n_classes: int
    label: npt.NDArray[np.int32]
    indptr: npt.NDArray[np.int64]
    valid: npt.NDArray[np.int32]
    others: bool | None = None
    hierarchy: Hierarchy | None = None
    groups: Ints | None = None
    pairs: Ints | None = None
    together: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None = None
    neighbours: NeighbourLabels | None = None
    listed: Bools | None = None

    @classmethod
    def of(cls, sets: LabelSets) -> ErrorContext:
        """Return what label sets tell alone."""
        yes = sets.state == YES
        alone = np.flatnonzero((sets.size == 0) & (sets.label != NO_LABEL))
        rows = np.concatenate([sets.rows[yes], alone])
        order = np.argsort(rows, kind="stable")
        valid = np.concatenate([sets.classes[yes], sets.label[alone]])[order].astype(np.int32)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(sets)))]).astype(np.int64)
        beside = bool((sets.classes != sets.label[sets.rows]).any())
        return cls(sets.n_classes, sets.label, indptr, valid, beside or None)

    def lacks(self, need: str) -> bool:
        """Return whether what a rule needs is not known; see `RULE_NEEDS`."""
        if need == "superclasses":
            return self.hierarchy is None and self.groups is None
        return getattr(self, need) is None

    def alike(self, a: Ints, b: Ints, largest: float) -> Bools:
        """Return whether two classes are of one superclass, shape (p,)."""
        if self.groups is not None:
            known = (a == b) | (self.groups[a] != NOTHING)
            return np.asarray((self.groups[a] == self.groups[b]) & known)
        assert self.hierarchy is not None
        # Classes are whole; what is added is for shares such as 23 / 24, which times 24 may be less than 23.
        return np.asarray(self.hierarchy.group_size(a, b) <= largest * self.n_classes + 1e-6)


RULE_NEEDS = ("others", "superclasses", "pairs", "neighbours", "together", "listed")
"""What a rule may say that it needs."""


@dataclass(frozen=True, eq=False)
class Errors:
    """Errors of one model.

    Attributes
    ----------
    context : ErrorContext
        Of n images.
    image : ndarray of int64, shape (e,)
        Row of the image.
    predicted : ndarray of int32, shape (e,)
    state : ndarray of uint8, shape (e,)
        What people said about the predicted class, as in `manyhot.core.sets`.
    confidence : ndarray of float32, shape (e,)
        NaN where it is not known.
    """

    context: ErrorContext
    image: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int32]
    state: npt.NDArray[np.uint8]
    confidence: Floats32

    def __len__(self) -> int:
        return len(self.image)

    def take(self, rows: Ints) -> Errors:
        """Return the given errors, in that order."""
        return replace(
            self,
            image=self.image[rows],
            predicted=self.predicted[rows],
            state=self.state[rows],
            confidence=self.confidence[rows],
        )

    def against(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """Return the classes that each error is held against: its row and the class, two of shape (m,)."""
        start = self.context.indptr[self.image]
        count = self.context.indptr[self.image + 1] - start
        rows = np.repeat(np.arange(len(self)), count)
        at = np.arange(len(rows)) + np.repeat(start - (np.cumsum(count) - count), count)
        return rows, self.context.valid[at]


@dataclass(frozen=True, eq=False)
class RuleMatch:
    """What a rule says about e errors.

    Attributes
    ----------
    fits : ndarray of bool, shape (e,)
    because : ndarray of int32, shape (e,)
        The class that decided; `NOTHING` where the rule does not fit or goes by no class.
    """

    fits: Bools
    because: npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Sorted:
    """Errors with their kinds.

    Attributes
    ----------
    kind : ndarray of int8, shape (e,)
        The place among the rules of the one that fitted first; `NOTHING` where none did.
    because : ndarray of int32, shape (e,)
        As in `RuleMatch`.
    """

    kind: npt.NDArray[np.int8]
    because: npt.NDArray[np.int32]


def sort_errors(errors: Errors, rules: Sequence[Entry]) -> Sorted:
    """Ask the rules in turn; the first that fits an error is its kind. Rules that lack what they need rest.

    Parameters
    ----------
    errors : Errors
    rules : sequence of Entry
        Registered rules.
    """
    kind = np.full(len(errors), NOTHING, np.int8)
    because = np.full(len(errors), NOTHING, np.int32)
    left = np.arange(len(errors))
    for place, rule in enumerate(rules):
        if lacking(errors.context, rule):
            continue
        verdict = rule(errors if len(left) == len(errors) else errors.take(left))
        fitting = left[verdict.fits]
        kind[fitting], because[fitting] = place, verdict.because[verdict.fits]
        left = left[~verdict.fits]
    return Sorted(kind, because)


def lacking(context: ErrorContext, rule: Entry) -> list[str]:
    """Return what a rule needs and is not known."""
    return [need for need in rule.about.get("needs", ()) if context.lacks(need)]


def count_together(sets: LabelSets) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the pairs of classes that are valid together, and on how many images.

    Pairs are left out that are together less often than by chance, on n_a n_b / n of n images. Of twenty
    classes nearly all are together somewhere, also a *dog* and a *cat*.

    Returns
    -------
    pair : ndarray of int64, shape (p,)
        ``a * C + b`` with a < b, ascending.
    images : ndarray of int64, shape (p,)
    """
    pairs = ClassPairs.of(sets)
    company = pairs.both * pairs.n >= pairs.images[pairs.a] * pairs.images[pairs.b]
    return (pairs.a * sets.n_classes + pairs.b)[company], pairs.both[company]


def rarity_of(similarity: AnyFloats) -> Floats:
    """Return the share of images that are nearer to their nearest one than each image is, shape (n,).

    Parameters
    ----------
    similarity : ndarray of float, shape (n,)
        To the nearest image; NaN where there is none.
    """
    known = np.sort(similarity[~np.isnan(similarity)])
    above = len(known) - np.searchsorted(known, similarity, side="right")
    share = above / max(len(known), 1)
    return np.where(np.isnan(similarity), np.nan, share)


def _check_option(name: str, value: float, least: float, most: float = float("inf")) -> None:
    if not least <= value <= most:  # NaN, too
        allowed = f"{least:g} and up" if most == float("inf") else f"{least:g} to {most:g}"
        raise InputError("An option of a rule is out of range.", where=name, got=value, allowed=allowed)


def _first_fitting(errors: Errors, fits: Bools, rows: Ints, classes: Ints) -> RuleMatch:
    """Return the verdict of a rule that looks at one class of those held against after the other."""
    because = np.full(len(errors), NOTHING, np.int32)
    # Backwards, so that the first class in the set is what stays.
    because[rows[fits][::-1]] = classes[fits][::-1]
    return RuleMatch(because != NOTHING, because)


def _without_class(fits: Bools) -> RuleMatch:
    return RuleMatch(fits, np.full(len(fits), NOTHING, np.int32))


@register("rule", "valid-label", needs=("others",))
def valid_label(errors: Errors, *, unclear: bool = False) -> RuleMatch:
    """The predicted class is in the label set: no error of the model, a missing label.

    Parameters
    ----------
    errors : Errors
    unclear : bool
        Whether classes on which people do not agree count as valid, too, as Peychev et al. count them.
    """
    return _without_class(errors.state >= (UNCLEAR if unclear else YES))


@register("rule", "collapsed-pair", needs=("pairs",))
def collapsed_pair(errors: Errors) -> RuleMatch:
    """The predicted class says the same as a valid one: sunglasses for sunglass, cup for coffee mug.

    Goes by the label set where there is one; Peychev et al. by the original label alone.
    """
    assert errors.context.pairs is not None
    rows, valid = errors.against()
    n = errors.context.n_classes
    pairs = errors.context.pairs.astype(np.int64)
    fits = np.isin(valid.astype(np.int64) * n + errors.predicted[rows], pairs[:, 0] * n + pairs[:, 1])
    return _first_fitting(errors, fits, rows, valid)


@register("rule", "fine-grained", needs=("superclasses",))
def fine_grained(errors: Errors, *, largest: float = LARGEST_GROUP) -> RuleMatch:
    """The predicted class is of one superclass with a valid one: another dog, another bird.

    Peychev et al. go by 161 superclasses made by hand. Here two classes are of one superclass where the
    lowest node above both in the hierarchy holds at most the share `largest` of all classes, or where they
    have the same superclass of those given.

    Parameters
    ----------
    errors : Errors
    largest : float
    """
    _check_option("largest", largest, 0, 1)
    rows, valid = errors.against()
    return _first_fitting(errors, errors.context.alike(valid, errors.predicted[rows], largest), rows, valid)


@register(
    "rule",
    "out-of-vocabulary",
    needs=("superclasses", "neighbours"),
    caution="unusual images, which are hardly more often of objects without a class than others",
)
def out_of_vocabulary(errors: Errors, *, rarity: float = 0.9, largest: float = LARGEST_GROUP) -> RuleMatch:
    """The image looks like images of the predicted superclass and unlike images of any class.

    Peychev et al. ask for a neighbour of the predicted superclass, too, and then let CLIP choose among the
    names of classes and of their relatives that are none. Without a model of language the second question is
    another one here: whether the image lies farther from its nearest neighbour than most images do. What a
    network gets wrong is rare as well: ``benchmarks/vocabulary_rule.py`` has how little that tells.

    Parameters
    ----------
    errors : Errors
    rarity : float
        The share of images that must be nearer to their nearest one.
    largest : float
        As for ``fine-grained``.
    """
    _check_option("rarity", rarity, 0, 1)
    _check_option("largest", largest, 0, 1)
    near = errors.context.neighbours
    assert near is not None
    # A comparison with NaN is false: an image without neighbours is not rare.
    rare = np.flatnonzero(near.rarity[errors.image] >= rarity)
    place, rank = np.nonzero(near.classes[errors.image[rare]] != NOTHING)
    rows = rare[place]
    classes = near.classes[errors.image[rows], rank].astype(np.int32)
    return _first_fitting(
        errors, errors.context.alike(classes, errors.predicted[rows], largest), rows, classes
    )


@register("rule", "co-occurrence", needs=("together",))
def co_occurrence(errors: Errors, *, images: int = 2) -> RuleMatch:
    """The predicted class is one that often is beside a valid one: a spurious correlation.

    Peychev et al. count ReaL's label sets of images that they do not judge. Here the image itself never
    counts for its error: where the predicted class is in its set, it is no company. Deviation: a pair that is
    together less often than by chance is none; on ReaL's label sets that leaves out no pair.

    Parameters
    ----------
    errors : Errors
    images : int
        On which both are valid, at least.
    """
    _check_option("images", images, 1)
    assert errors.context.together is not None
    pair, count = errors.context.together
    rows, valid = errors.against()
    predicted = errors.predicted[rows]
    low, high = np.minimum(valid, predicted).astype(np.int64), np.maximum(valid, predicted)
    fits = np.isin(low * errors.context.n_classes + high, pair[count >= images])
    fits &= errors.state[rows] != YES
    return _first_fitting(errors, fits, rows, valid)


@register("rule", "non-prototypical", needs=("listed",))
def non_prototypical(errors: Errors) -> RuleMatch:
    """People called the image an unusual view or an unusual specimen of its class."""
    assert errors.context.listed is not None
    return _without_class(errors.context.listed[errors.image])


@register("rule", "model-failure")
def model_failure(errors: Errors) -> RuleMatch:
    """None of the reasons looked for: what is left, whatever it is."""
    return _without_class(np.ones(len(errors), bool))


def shares(counts: Mapping[str, int]) -> dict[str, float]:
    """Return the share of each kind; NaN where there is no error."""
    n = sum(counts.values())
    return {kind: count / n if n else float("nan") for kind, count in counts.items()}
