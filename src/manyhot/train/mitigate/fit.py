"""Heads, fitted with and without treatment of a pair."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from manyhot.classes import from_keys
from manyhot.predict.weights import Head
from manyhot.train.heads import fit_sigmoid, fit_softmax
from manyhot.train.mitigate.features import Altered, Features, ImageFeatures
from manyhot.train.mitigate.treatment import Added, Pair, treatment_note

PASTED = 500
"""Images that one kind of pasting is done to, at most; each counts for several then."""

TREATMENTS = ("none", "augmentation", "label sets", "label sets and augmentation")


@dataclass(eq=False)
class HeadFitter:
    """Fits heads on a backbone.

    Attributes
    ----------
    images : ImageFeatures
    backbone : str
        As for ``manyhot predict --model``.
    capped : bool
        See `manyhot.core.companion_effects.plan`.
    """

    images: ImageFeatures
    backbone: str
    capped: bool

    def heads(self, loss: str, pair: Pair, added: Sequence[Added]) -> Iterator[tuple[str, Head]]:
        """Yield the treatments of a loss, each with its head; without any first."""
        none, augmentation, sets, both = TREATMENTS
        if loss == "softmax":
            yield none, self._softmax
            if added:
                yield augmentation, self._augmented_softmax(pair, added)
            return
        for name, treated in ((none, augmentation), (sets, both)):
            if name == sets or self.images.labels.labelled:
                yield name, self._sigmoids[name]
                if added:
                    yield treated, self._augmented_sigmoid(pair, added, name == sets)

    def added(self, pair: Pair) -> tuple[list[Added], str]:
        """Return the altered images of a pair, and a note on them."""
        known = self.images.labels
        todo = known.plan(pair, self.capped)
        groups = [] if not todo.amount else self._pasted(pair) if todo.adds else self._removed(pair)
        found = [
            Added(made.rows, made.features, todo.amount / len(made.rows), main, *gone)
            for made, main, *gone in groups
            if len(made.rows)
        ]
        return found, treatment_note([known.classes.names[c] for c in pair], todo, found)

    def _pasted(self, pair: Pair) -> list[tuple[Altered, bool]]:
        images, known, companion = self.images, self.images.labels, pair[1]
        return [
            (images.pasted(companion, known.alone(pair), PASTED, "alone"), True),
            (images.pasted(companion, known.neither(pair), PASTED, "neither"), False),
        ]

    def _removed(self, pair: Pair) -> list[Any]:
        images, known, (main, companion) = self.images, self.images.labels, pair
        both = known.both(pair) & ~known.held
        first = (images.removed(companion, both), True, companion)
        without = images.removed(main, both)
        if len(without.rows):
            return [first, (without, False, main)]
        # The class has no objects: where it never was, the companion is put, for as many.
        n = min(PASTED, int(both.sum()))
        return [first, (images.pasted(companion, known.neither(pair), n, "neither"), False)]

    @cached_property
    def _x(self) -> Features:
        return self.images.features[self.images.labels.fitting]

    @cached_property
    def _softmax(self) -> Head:
        known = self.images.labels
        return fit_softmax(self._x, known.label[known.fitting], known.classes, self.backbone)

    @cached_property
    def _sigmoids(self) -> Mapping[str, Head]:
        known, (none, _, sets, _) = self.images.labels, TREATMENTS
        wanted = {sets: known.state} | ({none: known.single} if known.labelled else {})
        return {
            name: fit_sigmoid(self._x, state[known.fitting], known.classes, self.backbone)
            for name, state in wanted.items()
        }

    def _augmented_softmax(self, pair: Pair, added: Sequence[Added]) -> Head:
        known, start = self.images.labels, self._softmax
        return fit_softmax(
            self._joined(added),
            known.labels(added, pair),
            known.classes,
            self.backbone,
            weights=self._weights(added),
            penalty=start.penalty,
            start=start,
        )

    def _augmented_sigmoid(self, pair: Pair, added: Sequence[Added], sets: bool) -> Head:
        """Return the head with another row for the main class: altered images speak of no other one."""
        known, main = self.images.labels, pair[0]
        untreated = self._sigmoids[TREATMENTS[2] if sets else TREATMENTS[0]]
        row = replace(
            untreated,
            classes=from_keys([known.classes.keys[main]]),
            weight=untreated.weight[[main]],
            bias=untreated.bias[[main]],
        )
        one = fit_sigmoid(
            self._joined(added),
            known.states(added, pair, sets)[:, None],
            row.classes,
            self.backbone,
            weights=self._weights(added),
            penalty=row.penalty,
            start=row,
        )
        weight, bias = untreated.weight.copy(), untreated.bias.copy()
        weight[main], bias[main] = one.weight[0], one.bias[0]
        return replace(untreated, weight=weight, bias=bias, n=one.n)

    def _joined(self, added: Sequence[Added]) -> Features:
        return np.concatenate([self._x, *(a.features for a in added)])

    def _weights(self, added: Sequence[Added]) -> Any:
        return np.concatenate([np.ones(len(self._x)), *(np.full(len(a.rows), a.weight) for a in added)])
