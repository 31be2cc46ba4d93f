"""Whether a shortcut is gone, judged by what a head was not fitted on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from manyhot.report.chapter import in_points, percent
from manyhot.train.mitigate.held_out import HeldOutMetric

PRESENT, ABSENT, GONE, PARTLY, REPLACED, NOT_GONE, NOT_JUDGED = REMOVAL_VERDICTS = (
    "present",
    "not present",
    "gone",
    "partly gone",
    "replaced by the fill",
    "not gone",
    "not judged",
)
"""What is said of a head; the first two only of heads without treatment."""

MIN_JUDGED = 10
"""Held-out images that a split needs to be judged by."""

RATIO = 1.2
"""A shortcut is gone if images with the companion are called the class at most this often, relative to images
without it."""

MAX_UPPER_END = {
    "recall_gap": 0.3,
    "hallucination_gap": 0.02,
    "pasted_gap": 0.02,
    "pasted_recall_gap": 0.3,
    "patched_gap": 0.02,
    "patched_recall_gap": 0.3,
    "lost": 0.3,
}
"""Upper ends of intervals from which too few images are held out to call a shortcut gone.

Those of the gaps of images without the class may also reach the share of such images that is called the
class without the companion: then the companion at most doubles it.
"""

_OTHERS = {"hallucination_gap", "patched_gap", "pasted_gap"}
"""Metrics of images without the class. One of them is needed to judge, and one of `_MISSED`."""

_MISSED = {"recall_gap", "patched_recall_gap", "lost"}
"""Metrics of images of the class."""

_OVERSHOT = -0.1  # Without treatment, a gap surely below this is a dependence: what hides a class is none.
_HOLE = (
    0.05  # Removing anything at all loses up to about so many predictions, also of heads without a shortcut.
)
_DISTRACTED = -0.02
"""An object distracts from the class on some images, even where it hides no more than the fill."""

_COST = -0.02
"""A patch hides a part of the image, which may cost so much accuracy."""


def removal_verdict(
    metrics: Mapping[str, HeldOutMetric],
    untreated: Mapping[str, HeldOutMetric] | None,
    counts: Sequence[int],
    *,
    pasted: bool = False,
    negative: bool = False,
) -> str:
    """Return one of `REMOVAL_VERDICTS`.

    Two effects of the companion are judged: images without the class may be predicted as the class, and
    images with the class may be missed without the companion. Both are measured on original images if each
    split has `MIN_JUDGED` of them. Otherwise, the first is measured on images with the companion pasted in,
    and the second with the fill that was not used for fitting. If a head was fitted on images with the
    companion pasted in, such images can show that it depends on the companion, but never that it is free of
    the shortcut. A head is not `GONE` if its accuracy on images without the companion is clearly lower than
    the accuracy of the untreated head.

    Parameters
    ----------
    untreated : mapping of str to HeldOutMetric or None
        The metrics of the head without treatment; None if this is that head.
    counts : sequence of int
        Held-out images with both classes, only the class, only the companion, and neither.
    pasted : bool
        Whether the head was fitted on images with the companion pasted in.
    negative : bool
        Whether the companion is rarer with the class than without it, so that effects are below 0.
    """
    found = _Effects(metrics, untreated, counts, pasted, negative)
    if untreated is not None and not found.sure and found.costs:
        return PARTLY
    if not found.sure and not (found.often and found.was_present):
        return NOT_JUDGED if [*found.undecided("", "")] else GONE if untreated is not None else ABSENT
    if untreated is None:
        return PRESENT
    left = sum(max(value, 0.0) for value, _, _ in (*found.ends.values(), *found.fitted.values()))
    if left <= found.before / 2:
        return PARTLY
    return REPLACED if _taught_the_fill(metrics, untreated) else NOT_GONE


@dataclass(frozen=True, eq=False)
class _Effects:
    """The effects of a companion on a head, and the reasons for a verdict; see `removal_verdict`."""

    metrics: Mapping[str, HeldOutMetric]
    untreated: Mapping[str, HeldOutMetric] | None
    counts: Sequence[int]
    pasted: bool
    negative: bool

    @cached_property
    def sign(self) -> int:
        return -1 if self.negative else 1

    @cached_property
    def ends(self) -> dict[str, tuple[float, float, float]]:
        """Each effect with its interval; effects of a shortcut are above 0."""
        names = _judges(self.metrics, self.counts, self.pasted, self.negative)
        return {name: _ends(self.metrics[name], self.sign) for name in names}

    @cached_property
    def fitted(self) -> dict[str, tuple[float, float, float]]:
        """The effect on pasted images of a head fitted on such images, if nothing else shows this effect."""
        name = "pasted_gap"
        if not self.pasted or self.sign < 0 or _OTHERS & self.ends.keys() or not _enough(self.metrics, name):
            return {}
        return {name: _ends(self.metrics[name], self.sign)}

    @cached_property
    def sure(self) -> list[str]:
        """The effects whose intervals show that the head depends on the companion."""
        below = _OVERSHOT if self.untreated is None else 0.0
        return [name for name, (_, lo, _) in self.fitted.items() if lo > 0] + [
            name
            for name, (_, lo, hi) in self.ends.items()
            if lo > (_HOLE if name == "lost" else 0)
            or (
                hi < (min(below, _DISTRACTED) if name == "pasted_recall_gap" else below)
                and not (name == "patched_gap" and self._hardly_below)
            )
        ]

    @cached_property
    def _hardly_below(self) -> bool:
        """Whether pasted companions do not surely make the class rarer than on the images as they are.

        A patch of other content may itself resemble the class.
        """
        name = "pasted_gap"
        return name not in self.metrics or _ends(self.metrics[name], self.sign)[2] >= 0

    @cached_property
    def often(self) -> bool:
        """Whether images are predicted as the class more than `RATIO` times as often with the companion."""
        if self.sign < 0 or not self._called:
            return False
        one, other = (self.metrics[name].estimated.value for name in self._called)
        return one > RATIO * other

    @cached_property
    def _called(self) -> tuple[str, ...]:
        """How often images without the class are called it with the companion, and without it.

        What is pasted hides a part of the image, which makes any head call it the class less often. So does a
        patch: pasted companions are compared with the rarer of both.
        """
        with_it = {"hallucination_gap": "called_with", "patched_gap": "called_pasted"}
        names = [name for gap, name in with_it.items() if gap in self.ends]
        without = ["called_without", *(["called_patched"] if names == ["called_pasted"] else [])]
        there = [name for name in without if name in self.metrics]
        rarest = min(there, key=lambda name: self.metrics[name].estimated.value, default="")
        return (*names, rarest) if names and rarest else ()

    @cached_property
    def accuracy(self) -> tuple[float, float, float]:
        """The change in accuracy on images without the companion, and the ends of its interval."""
        before = self.untreated or {}
        there = {self._accuracy} <= self.metrics.keys() & before.keys()
        return self.metrics[self._accuracy].less(before[self._accuracy]) if there else (0, 0, 0)

    @property
    def _accuracy(self) -> str:
        """The metric; hardly any of the images without the companion may be of the class."""
        return "accuracy_patched" if "patched_recall_gap" in self.ends else "accuracy_without"

    @property
    def costs(self) -> bool:
        """Whether the accuracy on images without the companion is clearly too low."""
        return self.accuracy[2] < (_COST if self._accuracy == "accuracy_patched" else 0)

    @cached_property
    def before(self) -> float:
        """The sum of the same effects for the head without treatment."""
        before = self.untreated or {}
        judged = [name for name in (*self.ends, *self.fitted) if name in before]
        return sum(max(self.sign * before[name].estimated.value, 0.0) for name in judged)

    @cached_property
    def was_present(self) -> bool:
        before = self.untreated
        return before is not None and removal_verdict(before, None, self.counts) == PRESENT

    def left(self, main: str, companion: str) -> Iterator[str]:
        """Yield what shows that the head depends on the companion or, if nothing does, what else is wrong."""
        for name in self.sure:
            yield _surely(name, self.metrics[name], main, companion)
        if self.often and not self.sure:
            yield self._at_most
        elif self.often:
            yield _often(self.metrics, self._called, main, companion)
        if not self.sure and self.costs:
            change = f"{in_points(*self.accuracy, 1)} points"
            yield f"the accuracy on images without {companion} is lower than without treatment ({change})"

    @property
    def _at_most(self) -> str:
        """How much of the effect on images without the class may be left, if not surely any is."""
        (name,) = _OTHERS & self.ends.keys()
        before = self.sign * (self.untreated or {})[name].estimated.value
        change = f"{100 * before:.1f} points before, is now at most {100 * self.ends[name][2]:.1f} points"
        n = self.metrics[self._called[0]].estimated.n
        return f"the {_JUDGES[name][0]}, {change}, and {n:,} images are {NONE_SHOWN}"

    def undecided(self, main: str, companion: str) -> Iterator[str]:
        """Yield why the held-out images are not conclusive, if no effect is certain."""
        few = list(_few([*self.ends], self.counts, main, companion))
        yield from few
        instead = {"recall_gap"} if "patched_recall_gap" in self.ends else set()
        for name, (_, _, hi) in self.ends.items():
            if name not in instead and hi > (most := _most(self.metrics, name)):
                yield _too_wide(name, hi, most)
        if self.often:
            yield _often(self.metrics, self._called, main, companion)
        if "patched_gap" in self.ends:
            before = (self.untreated or {}).get("patched_gap")
            if before is not None and _ends(before, self.sign)[1] <= 0:
                yield f"{companion} pasted in hardly changes the head without treatment"
        if "lost" in self.ends and self.metrics["lost"].estimated.lo > 0:
            lost = percent(self.metrics["lost"].estimated.value, 1)
            why = "which may be due to the hole itself"
            yield f"{lost} of images lose the class without the companion, {why}"
        if not few and not (_OTHERS & self.ends.keys() and _MISSED & self.ends.keys()):
            yield "the held-out images are not conclusive"


def _most(metrics: Mapping[str, HeldOutMetric], name: str) -> float:
    """Return the upper end of an interval that is narrow enough."""
    doubled = name in _OTHERS and "called_without" in metrics
    return max(MAX_UPPER_END[name], metrics["called_without"].estimated.value if doubled else 0.0)


def reason_of(
    verdict: str,
    metrics: Mapping[str, HeldOutMetric],
    untreated: Mapping[str, HeldOutMetric] | None,
    counts: Sequence[int],
    names: tuple[str, str],
    *,
    pasted: bool = False,
    negative: bool = False,
) -> str:
    """Return what decides a verdict: what is left or, if it is `NOT_JUDGED`, what is missing and what to do.

    Parameters
    ----------
    verdict : str
        The value of `removal_verdict`. If there is no shortcut, the reason is empty.
    metrics, untreated, counts, pasted, negative
        As in `removal_verdict`.
    names : tuple of str
        Names of the class and the companion.
    """
    found = _Effects(metrics, untreated, counts, pasted, negative)
    if verdict in (GONE, ABSENT):
        return ""
    if verdict == NOT_JUDGED:
        such = "such " if [*_few([*found.ends], counts, *names)] else ""
        what = "; ".join(found.undecided(*names))
        return f"{what}. Add {such}images, or hold out more."
    return "; ".join([*([FILL_TAUGHT] if verdict == REPLACED else []), *found.left(*names)])


def _few(judges: Sequence[str], counts: Sequence[int], main: str, companion: str) -> Iterator[str]:
    """Yield the splits that have too few held-out images, of effects that nothing judges."""
    both, main_only, companion_only, neither = counts
    needed = []
    if not _OTHERS & {*judges}:
        needed += [
            (companion_only, f"{companion} without {main}"),
            (neither, f"neither {main} nor {companion}"),
        ]
    if not _MISSED & {*judges}:
        needed += [(both, f"{main} with {companion}"), (main_only, f"{main} without {companion}")]
    for n, what in needed:
        if n < MIN_JUDGED:
            shown = "held-out image shows" if n == 1 else "held-out images show"
            yield f"{n:,} {shown} {what}, and {MIN_JUDGED} are needed"


NONE_SHOWN = "too few to show whether any of it is left"
"""Ends the reason if nothing is surely left of a shortcut."""

FILL_TAUGHT = "less is lost with the fill used for fitting, but not on original images"

_JUDGES = {
    "recall_gap": (
        "recall gap",
        "{main} is predicted {more} often on its images with {companion} than without",
    ),
    "hallucination_gap": (
        "hallucination gap",
        "images without {main} are called {main} {more} often with {companion} than without",
    ),
    "pasted_gap": (
        "gap with a pasted companion",
        "images without {main} are called {main} {more} often after {companion} is pasted in",
    ),
    "patched_gap": (
        "gap from a patch",
        "images without {main} are called {main} {more} often with {companion} of another image pasted in "
        "than with a patch of other content",
    ),
    "patched_recall_gap": (
        "recall gap from a patch",
        "{main} is predicted {more} often on its images with {companion} than with a patch of other content "
        "on it",
    ),
    "pasted_recall_gap": (
        "recall gap with a pasted companion",
        "{main} is predicted {more} often on its images after {companion} is pasted in",
    ),
    "lost": (
        "share lost without the companion",
        f"{{main}} is lost without {{companion}} on more images than the {percent(_HOLE)} that any hole "
        "costs",
    ),
}
"""The name of each effect, and what it means if it is sure."""


def _surely(name: str, metric: HeldOutMetric, main: str, companion: str) -> str:
    """Return which effect of the companion is surely there, with its interval."""
    label, means = _JUDGES[name]
    m = metric.estimated
    said = means.format(main=main, companion=companion, more="more" if m.value > 0 else "less")
    return f"{said} ({label} {in_points(m.value, m.lo, m.hi, 1)}{' %' if name == 'lost' else ' points'})"


def _too_wide(name: str, hi: float, most: float) -> str:
    unit = "%" if name == "lost" else "points"
    return (
        f"the interval of the {_JUDGES[name][0]} reaches {100 * hi:.1f} {unit}, and at most {100 * most:.3g} "
        f"{unit} are allowed"
    )


def _often(metrics: Mapping[str, HeldOutMetric], called: Sequence[str], main: str, companion: str) -> str:
    one, other = (metrics[name].estimated.value for name in called)
    said = f"images without {main} are called {main}"
    with_it = f"a pasted {companion}" if called[0] == "called_pasted" else companion
    without = "with a patch" if called[1] == "called_patched" else "without it"
    if not other:
        return f"{said} on {percent(one, 1)} with {with_it}, and on none {without}"
    return (
        f"{said} {one / other:.3g} times as often with {with_it} as {without} "
        f"({percent(one, 1)} and {percent(other, 1)}); the limit is {RATIO:g} times"
    )


def _judges(
    metrics: Mapping[str, HeldOutMetric], counts: Sequence[int], pasted: bool, negative: bool
) -> list[str]:
    """Return the metrics that judge both effects, as far as there are any.

    A companion that speaks against the class was pasted on images of the class that heads were fitted on.
    """
    both, main_only, companion_only, neither = counts
    found = []
    if min(companion_only, neither) >= MIN_JUDGED:
        found.append("hallucination_gap")
    elif _enough(metrics, "patched_gap"):
        found.append("patched_gap")
    elif not pasted and _enough(metrics, "pasted_gap"):
        found.append("pasted_gap")
    # Patches on the same images show smaller effects than the few images without the companion.
    if patched := _enough(metrics, "patched_recall_gap"):
        found.append("patched_recall_gap")
    if min(both, main_only) >= MIN_JUDGED:
        found.append("recall_gap")
    elif not patched and _enough(metrics, "lost"):
        found.append("lost")
    if not negative and _enough(metrics, "pasted_recall_gap"):
        found.append("pasted_recall_gap")
    return [name for name in found if name in metrics]


def _enough(metrics: Mapping[str, HeldOutMetric], name: str) -> bool:
    return name in metrics and metrics[name].estimated.n >= MIN_JUDGED


def _ends(metric: HeldOutMetric, sign: int) -> tuple[float, float, float]:
    m = metric.estimated
    return (m.value, m.lo, m.hi) if sign > 0 else (-m.value, -m.hi, -m.lo)


def _taught_the_fill(metrics: Mapping[str, HeldOutMetric], untreated: Mapping[str, HeldOutMetric]) -> bool:
    """Return whether less is lost by the fill that was fitted on."""
    name = "lost_fitted"
    return name in metrics and name in untreated and metrics[name].less(untreated[name])[2] < 0
