"""Heads fitted with and without treatments of shortcuts: altered images, label sets, and weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy import typing as npt

from manyhot.core.array_types import Bools
from manyhot.core.companion_effects import (
    BOTH,
    NO_SPLIT,
    BalancePlan,
    balanced_amounts,
    balancing,
    independent,
    split_by_pair,
)
from manyhot.core.sets import NO, NO_LABEL, UNCLEAR, YES
from manyhot.predict.weights import Head
from manyhot.train.heads import Invariance, fit_sigmoid, fit_softmax
from manyhot.train.mitigate.features import FILLED, PASTED, Altered, Features, ImageFeatures, file_slug
from manyhot.train.mitigate.held_out import Added, Pair

NONE, SETS = "none", "label sets"
CAPPED, UNCAPPED, TOGETHER, REWEIGHTED = (
    "augmentation",
    "uncapped augmentation",
    "augmentation of all pairs",
    "reweighting",
)
_ALTERED = (CAPPED, UNCAPPED, TOGETHER, REWEIGHTED)
TREATMENTS = (NONE, *_ALTERED, SETS, *(f"{SETS} and {name}" for name in _ALTERED))


def base_of(treatment: str) -> str:
    """Return the head with which a treated head is compared; it is fitted to the same labels."""
    return SETS if treatment.startswith(SETS) else NONE


MIN_SPLIT = 10
"""Images to fit on that each of the four splits of a pair needs for reweighting."""

STRENGTH = 1.0
"""Strength of the `Invariance` of heads without caps.

It was chosen on cats, seed 1, of benchmarks/planted_cases.py.
"""

LEFT = 0.02
"""Dependence that caps may leave: with more, heads without caps are fitted, too."""

TreatedGroups = Sequence[tuple[Pair, Added]]
"""Altered images, and the pair that each group of them treats."""


@dataclass(eq=False)
class Treatment:
    """A treatment of the images that a head is fitted to: altered images that are added, or weights.

    Images that are `replaced` do not count, because altered images are added in their place.
    """

    groups: TreatedGroups = ()
    pair: Pair | None = None
    invariant: bool = False
    replaced: Bools | None = None

    def counted(self, surplus: float) -> Treatment:
        """Return the treatment with different weights for altered images that show the companion alone."""
        groups = [
            (pair, replace(a, weight=surplus * a.weight) if a.companion and not a.main else a)
            for pair, a in self.groups
        ]
        return replace(self, groups=groups)

    def inside(self, images: Bools) -> Treatment:
        """Return the treatment with altered copies of some images only."""
        groups = [(pair, a.inside(images)) for pair, a in self.groups]
        return replace(self, groups=groups)

    @property
    def pasted(self) -> TreatedGroups:
        """The altered images without the class into which the companion was pasted."""
        return [(p, a) for p, a in self.groups if a.companion and not a.main and a.gone == NO_LABEL]


@dataclass(frozen=True, eq=False)
class _Group:
    """Altered images of one kind: whether they show each class, and the class that was removed."""

    kind: str
    altered: Altered
    main: bool
    companion: bool
    gone: int = NO_LABEL


Fit = Callable[[Treatment, Bools], Head]
"""Fits a head to some images, and to the altered images of a treatment."""


@dataclass(eq=False)
class HeadFitter:
    """Fits heads on a backbone.

    Attributes
    ----------
    backbone : str
        As for ``manyhot predict --model``.
    capped : bool
        Whether altered images are capped as published; see `manyhot.core.companion_effects.plan`. If caps
        leave a part of the dependence, heads without caps are also fitted.
    surpluses : dict of str to float
        Factor on the weight of images that show the companion alone, in heads without caps, by pair and
        labels; None if no factor that was tried is enough.
    """

    images: ImageFeatures
    backbone: str
    capped: bool
    surpluses: dict[str, float | None] = field(default_factory=dict)
    _made: dict[tuple[Pair, str], _Group] = field(default_factory=dict)

    def treatments(self, pairs: Sequence[Pair], pair: Pair) -> dict[str, Treatment]:
        """Return the treatments of a pair, and of all pairs in one head if there are several pairs."""
        known, found = self.images.labels, dict[str, Treatment]()
        if self.capped and (own := self.added(pair, True)[0]):
            found[CAPPED] = Treatment([(pair, a) for a in own])
        if not self.capped or abs(known.plan(pair, True).after) > LEFT:
            uncapped = self.uncapped([pair])
            found |= {UNCAPPED: uncapped} if uncapped.groups else {}
        if len(pairs) > 1 and (every := self.uncapped(pairs)).groups:
            found[TOGETHER] = every
        if min(known.counts(pair, ~known.held)) >= MIN_SPLIT:
            found[REWEIGHTED] = Treatment(pair=pair)
        return found

    def uncapped(self, pairs: Sequence[Pair]) -> Treatment:
        """Return the altered images of pairs, without caps.

        A companion that covers the whole image, such as a tint, cannot be imitated as well as an object can
        be pasted, and traces of it remain after its removal. Images with such a companion are therefore
        replaced, not only outnumbered.
        """
        groups = [(one, a) for one in pairs for a in self.added(one, False)[0]]
        restored = any(a.main and not a.companion for _, a in groups)
        if len(pairs) > 1 or not restored or pairs[0][1] not in self.images.whole:
            return Treatment(groups, invariant=True)
        known = self.images.labels
        return Treatment(groups, replaced=known.both(pairs[0])[known.fitting])

    def heads(self, loss: str, treatments: Mapping[str, Treatment]) -> Iterator[tuple[str, Head]]:
        """Yield each treatment of a loss with its head, starting with no treatment."""
        if loss == "softmax":
            yield NONE, self._softmax
            for name, treatment in treatments.items():
                yield name, self._treated_softmax(treatment)
            return
        for name in [NONE] * self.images.labels.labelled + [SETS] * (not self.one_sided):
            yield name, self._sigmoids[name]
            for how, treatment in treatments.items():
                treated = how if name == NONE else f"{SETS} and {how}"
                yield treated, self._treated_sigmoids(treatment, name == SETS)

    @cached_property
    def one_sided(self) -> int:
        """Number of classes for which a head on label sets would only see images with the class.

        It is 0 without original labels, because there is then no other head.
        """
        known = self.images.labels
        state = known.state[known.fitting]
        return int(known.labelled and np.count_nonzero((state == YES).any(0) & ~(state == NO).any(0)))

    def added(self, pair: Pair, capped: bool) -> tuple[list[Added], str]:
        """Return the altered images of a pair, and a note about them."""
        known = self.images.labels
        todo = known.plan(pair, capped)
        if todo.adds:
            groups = self._pasted(pair) if todo.amount else []
        else:
            groups = self._removed(pair, capped) if todo.amount else []
        groups = [group for group in groups if len(group.altered.rows)]
        amounts = [todo.amount] * len(groups)
        if groups and not (capped or todo.adds):
            amounts = self._balanced(pair, groups)
        found = [
            Added(a.rows, a.features, n / len(a.rows), g.main, g.companion, g.gone, a.alteration)
            for g, a, n in zip(groups, (g.altered for g in groups), amounts, strict=True)
            if n > 0
        ]
        return found, treatment_note([known.classes.names[c] for c in pair], todo, found)

    def _balanced(self, pair: Pair, groups: Sequence[_Group]) -> list[float]:
        """Return as how many images each group counts, without caps."""
        known = self.images.labels
        counts, kinds = known.counts(pair, ~known.held), [group.kind for group in groups]
        if pair[1] in self.images.whole:
            return [counts[BOTH]] * len(groups)
        with_class, without = balanced_amounts(*counts, filled="filled" in kinds)
        shared = without / max(sum(kind in ("alone", "pasted") for kind in kinds), 1)
        return [{"without": with_class, "filled": without}.get(kind, shared) for kind in kinds]

    def _pasted(self, pair: Pair) -> list[_Group]:
        known = self.images.labels
        return [
            self._group(pair, "pasted", known.neither(pair)),
            self._group(pair, "pasted on the class", known.alone(pair)),
        ]

    def _removed(self, pair: Pair, capped: bool) -> list[_Group]:
        """Return the altered images of a companion that is more frequent with the class.

        Within the caps, they are those of the published code: the companion or the class is removed. If the
        class has no objects, and without caps, the companion is put where neither was. The fill is put there,
        too, or it would be on images of the class alone and become the next shortcut.
        """
        known = self.images.labels
        both, other = known.both(pair) & ~known.held, known.neither(pair)
        without, alone = (self._group(pair, kind, both) for kind in ("without", "alone"))
        if capped and len(alone.altered.rows):
            return [without, alone]
        return [without, alone, *(self._group(pair, kind, other) for kind in ("pasted", "filled"))]

    def _group(self, pair: Pair, kind: str, inside: npt.NDArray[np.bool_]) -> _Group:
        if (pair, kind) not in self._made:
            self._made[pair, kind] = self._make(pair, kind, inside)
        return self._made[pair, kind]

    def _make(self, pair: Pair, kind: str, inside: npt.NDArray[np.bool_]) -> _Group:
        images, (main, companion) = self.images, pair
        if kind == "without":
            return _Group(kind, images.without(pair), True, False, companion)
        if kind == "alone":
            return _Group(kind, images.removed(main, inside), False, True, main)
        key = file_slug(images.labels.classes.keys[main])
        if kind == "pasted on the class":
            return _Group(kind, images.pasted(companion, inside, PASTED, f"{key}-alone"), True, True)
        fill, n = (images.fill, FILLED) if kind == "filled" else ("", PASTED)
        altered = images.pasted(companion, inside, n, f"not-{key}", fill=fill)
        return _Group(kind, altered, False, kind == "pasted")

    @cached_property
    def _x(self) -> Features:
        return self.images.features[self.images.labels.fitting]

    @cached_property
    def _softmax(self) -> Head:
        known = self.images.labels
        return fit_softmax(self._x, known.label[known.fitting], known.classes, self.backbone)

    @cached_property
    def _sigmoids(self) -> Mapping[str, Head]:
        known = self.images.labels
        states = {SETS: known.state} | ({NONE: known.single} if known.labelled else {})
        return {
            name: fit_sigmoid(self._x, state[known.fitting], known.classes, self.backbone)
            for name, state in states.items()
        }

    def _treated_softmax(self, treatment: Treatment) -> Head:
        known, start = self.images.labels, self._softmax

        def fit(treatment: Treatment, inside: Bools) -> Head:
            return self._fit(fit_softmax, known.labels(treatment.groups), start, treatment, inside)

        return self._fitted(treatment, "softmax", fit)

    def _treated_sigmoids(self, treatment: Treatment, sets: bool) -> Head:
        known, start = self.images.labels, self._sigmoids[SETS if sets else NONE]

        def fit(treatment: Treatment, inside: Bools) -> Head:
            state = known.states(treatment.groups, sets)
            if not inside.all():  # a surplus is judged by the class alone, and other sigmoids would take time
                state[:, np.arange(state.shape[1]) != treatment.groups[0][0][0]] = UNCLEAR
            return self._fit(fit_sigmoid, state, start, treatment, inside)

        return self._fitted(treatment, SETS if sets else "sigmoids", fit)

    def _fit(
        self, fit: Callable[..., Head], target: object, start: Head, treatment: Treatment, inside: Bools
    ) -> Head:
        return fit(
            np.concatenate([self._x, *(a.features for _, a in treatment.groups)]),
            target,
            self.images.labels.classes,
            self.backbone,
            weights=self.weights(treatment, inside),
            penalty=start.penalty,
            start=start,
            invariances=self.invariances(treatment),
        )

    def _fitted(self, treatment: Treatment, labels: str, fit: Fit) -> Head:
        """Return a head that is fitted with the smallest sufficient surplus.

        Several pairs have none: weights make each companion independent, whatever they were before.
        """
        known = self.images.labels
        pairs = list(dict.fromkeys(pair for pair, _ in treatment.groups))
        if len(pairs) == 1 and treatment.invariant and treatment.pasted:
            treatment = treatment.counted(self._surplus(treatment, labels, fit))
        return fit(treatment, np.ones(len(known.names), bool))

    def _surplus(self, treatment: Treatment, labels: str, fit: Fit) -> float:
        known, (main, companion) = self.images.labels, treatment.groups[0][0]
        if np.count_nonzero(known.state[known.fitting, main] == YES) < SURPLUS_FOLDS:
            return 1.0
        surplus = smallest_surplus(lambda s: self._gap(treatment.counted(s), fit))
        names = known.classes.names
        self.surpluses[f"{names[main]}:{names[companion]}, {labels}"] = surplus
        return surplus or 1.0

    def _gap(self, treatment: Treatment, fit: Fit) -> float:
        """Return the mean change of the probability of the class when the companion is pasted into images.

        Each image is judged by a head that was fitted to the images of other folds and their altered copies.
        """
        known, changes = self.images.labels, []
        for own in folds(np.where(known.held, NO_SPLIT, known.splits(treatment.groups[0][0]))):
            head = fit(treatment.inside(~own), ~own)
            for pair, a in treatment.inside(own).pasted:
                after, before = (
                    head.probabilities(x)[:, pair[0]] for x in (a.features, self.images.features[a.rows])
                )
                changes.append(after - before)
        return float(np.concatenate(changes).mean())

    def invariances(self, treatment: Treatment) -> list[Invariance]:
        """Return what heads of a treatment must not depend on: companions that are pasted in, or removed.

        Removed companions are used only if none is pasted in, because a part of the class may be removed with
        a companion.
        """
        found = []
        for pair in dict.fromkeys(pair for pair, _ in treatment.groups) if treatment.invariant else ():
            own = [a for of, a in treatment.groups if of == pair]
            pasted = [a for a in own if a.companion and a.gone == NO_LABEL]
            changed = pasted or [a for a in own if a.gone == pair[1]]
            before, after = (
                np.concatenate([features.astype(np.float32) for features in parts])
                for parts in ([self.images.features[a.rows] for a in changed], [a.features for a in changed])
            )
            found.append(Invariance(pair[0], after - before, STRENGTH))
        return found

    def weights(self, treatment: Treatment, inside: Bools | None = None) -> npt.NDArray[np.float64]:
        """Return the weights of images and altered images; 0 for images that are not `inside`.

        Reweighting makes the companion independent of the class, without changing how frequent the class is.
        Images on which one of the two is unknown keep their weight. Altered images of one pair show the
        companions of other pairs as often as the original images do. With several pairs, the weights
        therefore make each companion independent of its class.
        """
        known, own = self.images.labels, np.ones(len(self._x))
        if treatment.pair:
            splits = known.splits(treatment.pair)[known.fitting]
            own = np.where(splits >= 0, balancing(splits, own[None])[0], 1.0)
        if treatment.replaced is not None:
            own = np.where(treatment.replaced, 0.0, own)
        if inside is not None:
            own = own * inside[known.fitting]
        weights = np.concatenate([own, *(np.full(len(a.rows), a.weight) for _, a in treatment.groups)])
        pairs = dict.fromkeys(pair for pair, _ in treatment.groups)
        if len(pairs) < 2:
            return weights
        state = known.states(treatment.groups, sets=True)
        return independent([split_by_pair(*state[:, list(pair)].T) for pair in pairs], weights)


def treatment_note(names: Sequence[str], todo: BalancePlan, added: Sequence[Added]) -> str:
    """Return a note about the images that were added for a pair."""
    start = (
        f"{':'.join(names)}: the frequency of the companion with the class minus its frequency without the "
        f"class is {todo.before:+.3f}"
    )
    if not added:
        return f"{start}, and no images were added"
    groups = [
        f"{len(a.rows):,} altered images {'with' if a.main else 'without'} the class count as "
        f"{a.weight * len(a.rows):,.0f}"
        for a in added
    ]
    if len(added) < 2:
        return f"{start}; {groups[0]}, and no other altered images can be made"
    return f"{start}; {', '.join(groups)}"


SURPLUSES = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""What is tried, smallest first. With 1, the class is as frequent with the companion as without it."""

SURPLUS_FOLDS = 2


def smallest_surplus(gap: Callable[[float], float]) -> float | None:
    """Return the smallest of `SURPLUSES` at which a gap is not above 0, or None if none is enough.

    No value is enough if the companion is imitated badly. The largest value would then only teach the head
    that the companion is evidence against the class: with a factor of 6 for horses next to persons, the
    accuracy on images without persons fell from 81 to 66 %.
    """
    return next((surplus for surplus in SURPLUSES if gap(surplus) <= 0), None)


def folds(splits: npt.NDArray[np.int8]) -> Iterator[Bools]:
    """Yield the images of each fold. Folds divide every split of a pair as evenly as possible."""
    place = np.empty(len(splits), np.intp)
    place[np.argsort(splits, kind="stable")] = np.arange(len(splits))
    for fold in range(SURPLUS_FOLDS):
        yield place % SURPLUS_FOLDS == fold


def surplus_notes(surpluses: Mapping[str, float | None]) -> Iterator[str]:
    """Yield a note on the factor that was chosen for each pair and kind of labels."""
    for name, surplus in surpluses.items():
        count = f"{name}, without caps: altered images with the companion alone count"
        judged = "on images to which no head was fitted"
        if surplus is None:
            tried = f"even {SURPLUSES[-1]:g} times as often would not suffice"
            yield f"{count} as often as balance requires, because {tried} {judged}"
        else:
            yield (
                f"{count} {surplus:g} times as often as balance requires, the smallest factor that suffices "
                f"{judged}"
            )
