"""Kinds of errors: rules are applied in order, and the first that matches an error is its kind.

The order and the ideas of the rules are from Peychev et al. An error is one prediction for one image. Each
rule gets all errors, decides on each separately, and returns the class on which its decision is based.

References
----------
M. Peychev et al. Automated Classification of Model Errors on ImageNet. NeurIPS 2023, arXiv 2401.02430.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from manyhot.core.array_types import AnyFloats, Bools, Bytes, Floats, Floats32, Ints, Ints8, Ints32, Ints64
from manyhot.core.class_hierarchy import NO_ANCESTOR, Hierarchy
from manyhot.core.cooccurrence import ClassPairs
from manyhot.core.sets import NO_LABEL, UNCLEAR, YES, LabelSets
from manyhot.core.share_intervals import wilson_interval
from manyhot.errors import InputError
from manyhot.registry import Entry, register

ORDER = (
    "valid-label",
    "unclear",
    "collapsed-pair",
    "fine-grained",
    "out-of-vocabulary",
    "co-occurrence",
    "non-prototypical",
    "model-failure",
)
"""The default order of the rules; each is the name of a kind of error."""

NOTHING = -1
"""Code of no rule, no class, no neighbour and no superclass."""

MIN_LIFT = 1.5
"""How many times as often as by chance two classes must occur together, at the lower end of the interval.

A frequent class occurs together with all others, but not more often than by chance: in
``../shared/data/voc``, a person is in 20 % of the images, in 48 % of those with a horse, and in 20 % of those
with a dog.
"""

MIN_SHARE = 0.1
"""Another class is surely not often together with a class if it is in less than this share of its images.

In ``../shared/data/voc``, a person is in 48 % of the images with a horse, a sofa in 5 % of those with a dog.
"""

RELATED_GROUP = 0.25
"""Maximum size of a group, as a share of all classes, for its classes to be confused with one another.

Among ImageNet's 1,000 classes, the 212 placental mammals are such a group: on a photograph of a dog and a
person, a predicted horse is a dog taken for a horse, although horses often occur together with persons.
"""

LARGEST_GROUP = 0.12
"""Maximum size of a superclass, as a share of all classes, for its classes to be fine-grained alternatives.

Among ImageNet's 1,000 classes, the 118 dogs are such a superclass, the 124 devices are not. According to
``benchmarks/sorting.py``, people agree most with 0.12; with 0.05, as many errors are fine-grained as in
Peychev et al.
"""


@dataclass(frozen=True, eq=False)
class NeighbourLabels:
    """The labels of the images that are most similar to each image.

    Attributes
    ----------
    classes : ndarray of int, shape (n, k)
        Original labels of the nearest images, padded with `NOTHING`.
    rarity : ndarray of float, shape (n,)
        For each image, the share of images that are more similar to their nearest image than this image is to
        its nearest; NaN if unknown.
    """

    classes: Ints
    rarity: AnyFloats


@dataclass(frozen=True, eq=False)
class ErrorContext:
    """The data on n images and C classes that rules use. A rule is skipped if data it needs are None.

    Attributes
    ----------
    n_classes : int
        Number of classes C.
    label : ndarray of int32, shape (n,)
        Original labels; `NO_LABEL` if there is none.
    indptr, valid : ndarray of int64, shape (n + 1,), and of int32, shape (v,)
        Predictions for image i are compared with the classes ``valid[indptr[i]:indptr[i + 1]]``. These are
        its label set or, if the set is empty, its original label.
    others : bool, optional
        Whether raters were asked about any classes other than the original labels.
    groups : ndarray of int, shape (C,), optional
        The superclass of each class, or `NOTHING` if it has none. Used instead of `hierarchy`.
    pairs : ndarray of int, shape (p, 2), optional
        Pairs of a valid class and a predicted class with the same meaning.
    together : ClassPairs, optional
        The classes that are valid together.
    listed : ndarray of bool, shape (n,), optional
        Images that people called non-prototypical.
    """

    n_classes: int
    label: Ints32
    indptr: Ints64
    valid: Ints32
    others: bool | None = None
    hierarchy: Hierarchy | None = None
    groups: Ints | None = None
    pairs: Ints | None = None
    together: ClassPairs | None = None
    neighbours: NeighbourLabels | None = None
    listed: Bools | None = None

    @classmethod
    def of(cls, sets: LabelSets) -> ErrorContext:
        """Return a context that consists of label sets, without other data."""
        yes = sets.state == YES
        alone = np.flatnonzero((sets.size == 0) & (sets.label != NO_LABEL))
        rows = np.concatenate([sets.rows[yes], alone])
        order = np.argsort(rows, kind="stable")
        valid = np.concatenate([sets.classes[yes], sets.label[alone]])[order].astype(np.int32)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(sets)))]).astype(np.int64)
        beside = bool((sets.classes != sets.label[sets.rows]).any())
        return cls(sets.n_classes, sets.label, indptr, valid, beside or None)

    def lacks(self, need: str) -> bool:
        """Return whether the data with this name (one of `RULE_NEEDS`) are missing."""
        if need == "superclasses":
            return self.hierarchy is None and self.groups is None
        return getattr(self, need) is None

    def alike(self, a: Ints, b: Ints, largest: float) -> Bools:
        """Return whether two classes have the same superclass, shape (p,)."""
        if self.groups is not None:
            grouped = (a == b) | (self.groups[a] != NOTHING)
            return np.asarray((self.groups[a] == self.groups[b]) & grouped)
        assert self.hierarchy is not None
        # The tolerance is for shares such as 23 / 24, whose product with 24 may be less than 23 by rounding.
        return np.asarray(self.hierarchy.group_size(a, b) <= largest * self.hierarchy.n_counted + 1e-6)


RULE_NEEDS = ("others", "superclasses", "pairs", "neighbours", "together", "listed")
"""Data that a rule can declare as needed."""


@dataclass(frozen=True, eq=False)
class Errors:
    """Errors of one model.

    Attributes
    ----------
    context : ErrorContext
        The context of n images.
    image : ndarray of int64, shape (e,)
        Row of the image.
    predicted : ndarray of int32, shape (e,)
    state : ndarray of uint8, shape (e,)
        State of the predicted class, as in `manyhot.core.sets`.
    confidence : ndarray of float32, shape (e,)
        NaN if unknown.
    """

    context: ErrorContext
    image: Ints64
    predicted: Ints32
    state: Bytes
    confidence: Floats32

    def __len__(self) -> int:
        return len(self.image)

    def take(self, rows: Ints) -> Errors:
        """Return the selected errors, in that order."""
        return replace(
            self,
            image=self.image[rows],
            predicted=self.predicted[rows],
            state=self.state[rows],
            confidence=self.confidence[rows],
        )

    def originals(self) -> tuple[Ints64, Ints32]:
        """Return the original label of each error that has one, as rows and classes, both of shape (m,)."""
        label = self.context.label[self.image]
        rows = np.flatnonzero(label != NO_LABEL)
        return rows, label[rows]

    def against(self) -> tuple[Ints64, Ints32]:
        """Return the classes that each error is compared with, as rows and classes, both of shape (m,)."""
        start = self.context.indptr[self.image]
        count = self.context.indptr[self.image + 1] - start
        rows = np.repeat(np.arange(len(self)), count)
        at = np.arange(len(rows)) + np.repeat(start - (np.cumsum(count) - count), count)
        return rows, self.context.valid[at]


@dataclass(frozen=True, eq=False)
class RuleMatch:
    """The decisions of a rule on e errors.

    Attributes
    ----------
    fits : ndarray of bool, shape (e,)
    because : ndarray of int32, shape (e,)
        The class on which the decision is based; `NOTHING` if the rule does not match or does not depend on a
        class.
    """

    fits: Bools
    because: Ints32


@dataclass(frozen=True, eq=False)
class Sorted:
    """Errors with their kinds.

    Attributes
    ----------
    kind : ndarray of int8, shape (e,)
        The position of the first rule that matches; `NOTHING` if no rule matches.
    because : ndarray of int32, shape (e,)
        As in `RuleMatch`.
    """

    kind: Ints8
    because: Ints32


def sort_errors(errors: Errors, rules: Sequence[Entry]) -> Sorted:
    """Assign to each error the first rule that matches it. Rules whose data are missing are skipped.

    Parameters
    ----------
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
    """Return the names of the data that a rule needs and that are missing."""
    return [need for need in rule.about.get("needs", ()) if context.lacks(need)]


def severity_of(errors: Errors) -> Ints64:
    """Return the distance of the predicted class from the closest valid class, shape (e,).

    The distance is the height of the lowest common ancestor (`Hierarchy.height`): 0 if the prediction is
    valid, and `NOTHING` without a hierarchy, or if a class has no place in it.
    """
    severity = np.full(len(errors), NOTHING, np.int64)
    if errors.context.hierarchy is None:
        return severity
    rows, valid = errors.against()
    height = errors.context.hierarchy.height(valid, errors.predicted[rows])
    known = height != NO_ANCESTOR
    order = np.argsort(-height[known], kind="stable")  # the smallest is written last
    severity[rows[known][order]] = height[known][order]
    return severity


def rarity_of(similarity: AnyFloats) -> Floats:
    """Return, for each image, the share of images with a more similar nearest image, shape (n,).

    Parameters
    ----------
    similarity : ndarray of float, shape (n,)
        Similarity to the nearest image; NaN if there is none.
    """
    ascending = np.sort(similarity[~np.isnan(similarity)])
    above = len(ascending) - np.searchsorted(ascending, similarity, side="right")
    share = above / max(len(ascending), 1)
    return np.where(np.isnan(similarity), np.nan, share)


def _often_together(
    pairs: ClassPairs, place: Ints, valid: Ints, images: int, lift: float, share: float
) -> Bools:
    """Return whether the predicted class is often together with a valid class; see `co_occurrence`."""
    fits = np.zeros(len(place), bool)
    seen = np.flatnonzero(place >= 0)
    at = place[seen]
    enough = pairs.company[at] & (pairs.both[at] >= images) & (pairs.lift()[1][at] >= lift)
    seen, at = seen[enough], at[enough]
    fits[seen] = wilson_interval(pairs.both[at], pairs.images[valid[seen]])[1] >= share
    return fits


def _check_option(name: str, value: float, least: float, most: float = float("inf")) -> None:
    if not least <= value <= most:  # NaN, too
        allowed = f"{least:g} and up" if most == float("inf") else f"{least:g} to {most:g}"
        raise InputError("An option of a rule is out of range.", where=name, got=value, allowed=allowed)


def _first_fitting(errors: Errors, fits: Bools, rows: Ints, classes: Ints) -> RuleMatch:
    """Return the decisions of a rule on each class of the label sets, with the first class that matches."""
    because = np.full(len(errors), NOTHING, np.int32)
    # Backwards, so that the first class of the set overwrites the others.
    because[rows[fits][::-1]] = classes[fits][::-1]
    return RuleMatch(because != NOTHING, because)


def _without_class(fits: Bools) -> RuleMatch:
    return RuleMatch(fits, np.full(len(fits), NOTHING, np.int32))


@register("rule", "valid-label", needs=("others",))
def valid_label(errors: Errors, *, unclear: bool = False) -> RuleMatch:
    """The predicted class is in the label set: the model is right, and the original label is incomplete.

    Parameters
    ----------
    errors : Errors
    unclear : bool
        Whether unclear classes also count as valid, as in Peychev et al.
    """
    return _without_class(errors.state >= (UNCLEAR if unclear else YES))


@register("rule", "unclear", needs=("others",))
def unclear(errors: Errors) -> RuleMatch:
    """The label is uncertain or raters disagree, so it is unknown whether the prediction is an error.

    Peychev et al. count such predictions as valid labels.
    """
    return _without_class(errors.state == UNCLEAR)


@register("rule", "collapsed-pair", needs=("pairs",))
def collapsed_pair(errors: Errors, *, original: bool = False) -> RuleMatch:
    """The predicted class means the same as a valid class.

    Examples are *sunglasses* for *sunglass* and *cup* for *coffee mug*. The valid classes are those of the
    label set or, if the label set is empty, the original label.

    Parameters
    ----------
    errors : Errors
    original : bool
        Whether to compare only with the original label, as in Peychev et al.
    """
    assert errors.context.pairs is not None
    rows, valid = errors.originals() if original else errors.against()
    n = errors.context.n_classes
    pairs = errors.context.pairs.astype(np.int64)
    fits = np.isin(valid.astype(np.int64) * n + errors.predicted[rows], pairs[:, 0] * n + pairs[:, 1])
    return _first_fitting(errors, fits, rows, valid)


@register("rule", "fine-grained", needs=("superclasses",))
def fine_grained(errors: Errors, *, largest: float = LARGEST_GROUP) -> RuleMatch:
    """The predicted class has the same superclass as a valid class; for example, both are dogs.

    Peychev et al. use 161 manually defined superclasses. Here, two classes have the same superclass if at
    most the share `largest` of all classes is below their lowest common ancestor in the hierarchy. If
    superclasses are passed, they are used instead.

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
    caution="unusual images; objects that belong to no class are hardly more frequent in them than in others",
)
def out_of_vocabulary(errors: Errors, *, rarity: float = 0.9, largest: float = LARGEST_GROUP) -> RuleMatch:
    """The image is similar to images of the predicted superclass, but dissimilar to images of any class.

    Peychev et al. also require a neighbour in the predicted superclass. They then let CLIP choose between the
    names of classes and the names of related concepts that are not classes. Here, no language model is used.
    Instead, the image must be less similar to its nearest neighbour than most images are to theirs. This is
    weak evidence, because images on which a network errs are often unusual (see
    ``benchmarks/vocabulary_rule.py``).

    Parameters
    ----------
    errors : Errors
    rarity : float
        Minimum share of images that are more similar to their nearest image than this image is to its
        nearest.
    largest : float
        As in ``fine-grained``.
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
def co_occurrence(
    errors: Errors,
    *,
    images: int = 2,
    lift: float = MIN_LIFT,
    share: float = MIN_SHARE,
    related: float = RELATED_GROUP,
) -> RuleMatch:
    """The predicted class often occurs together with a valid class, which suggests a spurious correlation.

    Peychev et al. count co-occurrences in ReaL's label sets of images that they do not evaluate. Here, no
    such separation is needed: an image cannot be evidence for its own error, because the rule does not match
    if the predicted class is in its label set. Deviation: the two classes must occur together clearly more
    often than by chance. Otherwise, a class that is in many images, such as *person*, would explain every
    error on these images. The rule also does not match if another valid class is related to the predicted
    class, because the two may have been confused, or if another valid class occurs together with the
    predicted class clearly less often than by chance. For example, a person in a street does not explain a
    horse.

    Parameters
    ----------
    errors : Errors
    images : int
        Minimum number of images for which both classes are valid.
    lift : float
        Minimum for the lower end of the 95 % interval of the lift, which is the number of these images
        divided by the number expected by chance.
    share : float
        Minimum share of the images of the valid class for which the predicted class is also valid. The rule
        does not match if the share is clearly smaller, that is, if the upper end of its 95 % interval is
        below `share`.
    related : float
        Two classes are related if at most this share of all classes is below their lowest common ancestor.
        Without superclasses, no classes are related.
    """
    _check_option("images", images, 1)
    _check_option("lift", lift, 0)
    _check_option("related", related, 0, 1)
    _check_option("share", share, 0, 1)
    pairs = errors.context.together
    assert pairs is not None
    rows, valid = errors.against()
    predicted = errors.predicted[rows]
    place = pairs.places(valid, predicted)
    fits = _often_together(pairs, place, valid, images, lift, share)
    if not errors.context.lacks("superclasses"):
        confused = errors.context.alike(valid, predicted, related) & ~fits
        fits &= ~np.isin(rows, rows[confused])
    fits &= ~np.isin(rows, rows[pairs.is_rare(valid, predicted)])
    fits &= errors.state[rows] != YES
    return _first_fitting(errors, fits, rows, valid)


@register("rule", "non-prototypical", needs=("listed",))
def non_prototypical(errors: Errors) -> RuleMatch:
    """According to raters, the image shows an unusual view or an unusual specimen of its class."""
    assert errors.context.listed is not None
    return _without_class(errors.context.listed[errors.image])


@register("rule", "model-failure")
def model_failure(errors: Errors) -> RuleMatch:
    """No other rule matches."""
    return _without_class(np.ones(len(errors), bool))


def shares(counts: Mapping[str, int]) -> dict[str, float]:
    """Return the share of each kind; NaN if there are no errors."""
    n = sum(counts.values())
    return {kind: count / n if n else float("nan") for kind, count in counts.items()}
