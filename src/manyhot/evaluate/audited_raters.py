"""What raters leave undecided in an audit: draws of people's label sets, and what they change."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

import numpy as np

from manyhot.core.audit_samples import AuditSample
from manyhot.core.audited import AuditedEstimate
from manyhot.core.posterior import FEWEST_DRAWS, adjusted_probabilities, draw_sets
from manyhot.core.sets import YES, LabelSets
from manyhot.errors import UsageError
from manyhot.evaluate.posterior import check_probabilities
from manyhot.evaluate.result_rows import Note
from manyhot.tables.result_tables import headline

ONE_PRIOR = ("auto", "dawid-skene", "one-coin")
"""Aggregators by which proposed classes are as often valid as others, so that probabilities are adjusted."""


def draw_people(
    people: LabelSets,
    proposed: LabelSets,
    sample: AuditSample,
    draws: int,
    seed: int,
    name: str,
    methods: Collection[str | None] = (),
) -> tuple[LabelSets, ...]:
    """Draw people's label sets of the audited images from their probabilities; empty for 0 draws.

    Parameters
    ----------
    people, proposed : LabelSets
        People's label sets, and the proposed label sets of the same images.
    sample : AuditSample
    draws, seed : int
    name : str
        The name of these label sets in messages.
    methods : collection of str
        The aggregators that produced people's label sets.

    Raises
    ------
    InputError
        If there are no probabilities.
    UsageError
        If there is only one draw, or if all images were audited.
    """
    if not draws:
        return ()
    if draws < FEWEST_DRAWS:
        raise UsageError(
            "The variance over draws of people's label sets needs several draws.",
            got=f"`posterior` {draws}",
            allowed=f"at least {FEWEST_DRAWS}, or 0 for none",
            do="draw 20 or more",
        )
    if len(sample) == len(sample.design):
        raise UsageError(
            "All images were audited, so only raters cause uncertainty.",
            got="`posterior` with `audited`",
            do="evaluate people's label sets themselves with `posterior`, without `audited`",
        )
    check_probabilities(people, name)
    if methods and all(str(method).partition("(")[0] in ONE_PRIOR for method in methods):
        people = _adjusted(people, proposed)
    return tuple(draw_sets(people, np.random.default_rng([seed, draw])) for draw in range(draws))


def _adjusted(people: LabelSets, proposed: LabelSets) -> LabelSets:
    """Return people's label sets with probabilities that differ for proposed and for other classes."""
    assert people.p is not None  # it is checked before
    yes = proposed.state == YES
    keys = proposed.rows[yes] * people.n_classes + proposed.classes[yes]
    is_proposed = np.isin(people.rows * people.n_classes + people.classes, keys)
    p, there = people.p.copy(), ~np.isnan(people.p)
    p[there] = adjusted_probabilities(p[there], is_proposed[there])
    return replace(people, p=p)


class RaterShares:
    """The uncertainty due to raters: its share of the variance, and how much draws change the values."""

    def __init__(self) -> None:
        self._found: dict[str, list[tuple[float, float]]] = {}

    def add(self, metric: str, drawn: AuditedEstimate, fixed: AuditedEstimate) -> None:
        """Add a model's estimates on all images: over draws, and on people's label sets without draws."""
        assert drawn.rater_share is not None
        values = float(drawn.rater_share[0]), float(fixed.value[0] - drawn.value[0])
        self._found.setdefault(metric, []).append(values)

    def notes(self, dataset: str) -> Iterator[Note]:
        """Yield a note on how much raters widen the intervals of the first headline metric."""
        metric = next((m for m in (*headline(), *self._found) if m in self._found), None)
        if metric is None:
            return
        share, change = 100 * np.nanmean(self._found[metric], axis=0)
        n = len(self._found[metric])
        text = (
            f"raters cause {share:.0f} % of the variance of {metric}; on people's label sets without draws, "
            f"its value would differ by {change:+.2f} points"
        )
        yield Note(dataset, "", "raters", n, text + f" (means over {n:,} models)" * (n > 1))
