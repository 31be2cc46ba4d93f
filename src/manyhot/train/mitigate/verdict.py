"""Whether a shortcut is gone, judged by what a head was not fitted on, and the sentence that says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from manyhot.report.chapter import in_points, percent
from manyhot.tables import Row
from manyhot.train.mitigate.fitting import NONE, base_of
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
    "lost": 0.3,
}
"""Upper ends of intervals from which too few images are held out to call a shortcut gone.

Those of the two gaps of images without the class may also reach the share of such images that is called the
class without the companion: then the companion at most doubles it.
"""

_OTHERS = {"hallucination_gap", "pasted_gap"}
"""Metrics of images without the class. One of them is needed to judge, and one of `_MISSED`."""

_MISSED = {"recall_gap", "lost"}
"""Metrics of images of the class."""

_OVERSHOT = -0.1  # Without treatment, a gap surely below this is a dependence: what hides a class is none.
_HOLE = (
    0.05  # Removing anything at all loses up to about so many predictions, also of heads without a shortcut.
)
_DISTRACTED = -0.02
"""An object distracts from the class on some images, even where it hides no more than the fill."""


def removal_verdict(
    metrics: Mapping[str, HeldOutMetric],
    untreated: Mapping[str, HeldOutMetric] | None,
    counts: Sequence[int],
    *,
    pasted: bool = False,
    negative: bool = False,
) -> str:
    """Return one of `REMOVAL_VERDICTS`.

    Two effects of the companion are judged: on images without the class, which may be called the class; and
    on images with the class, which may be missed without the companion. Both are measured on original
    images, if each split has `MIN_JUDGED` of them. Otherwise, the first is measured on images with the
    companion pasted in, and the second by the fill that was not fitted on. A head that was fitted on images
    with the companion pasted in may be shown to depend on it by such images, but never to be without the
    shortcut. A head is not `GONE` if its accuracy on images without the companion is surely lower than the
    accuracy of the untreated head.

    Parameters
    ----------
    metrics : mapping of str to HeldOutMetric
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
    if untreated is not None and not found.sure and found.accuracy[2] < 0:
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
        """The effects whose interval shows that the head depends on the companion."""
        below = _OVERSHOT if self.untreated is None else 0.0
        return [name for name, (_, lo, _) in self.fitted.items() if lo > 0] + [
            name
            for name, (_, lo, hi) in self.ends.items()
            if lo > (_HOLE if name == "lost" else 0)
            or hi < (min(below, _DISTRACTED) if name == "pasted_recall_gap" else below)
        ]

    @cached_property
    def often(self) -> bool:
        """Whether the companion makes images be called the class more often than `RATIO` times."""
        if self.sign < 0 or "hallucination_gap" not in self.ends:
            return False
        one, other = (self.metrics[name].estimated.value for name in ("called_with", "called_without"))
        return one > RATIO * other

    @cached_property
    def accuracy(self) -> tuple[float, float, float]:
        """The change of the accuracy on images without the companion, and the ends of its interval."""
        name, before = "accuracy_without", self.untreated or {}
        there = {name} <= self.metrics.keys() & before.keys()
        return self.metrics[name].less(before[name]) if there else (0, 0, 0)

    @cached_property
    def before(self) -> float:
        """The sum of the same effects on the head without treatment."""
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
        if self.often:
            yield _often(self.metrics, main, companion)
        if not self.sure and self.accuracy[2] < 0:
            change = f"{in_points(*self.accuracy, 1)} points"
            yield f"the accuracy on images without {companion} is lower than without treatment ({change})"

    def undecided(self, main: str, companion: str) -> Iterator[str]:
        """Yield why held-out images do not decide, if no effect is sure."""
        few = list(_few([*self.ends], self.counts, main, companion))
        yield from few
        for name, (_, _, hi) in self.ends.items():
            if hi > (most := _most(self.metrics, name)):
                yield _too_wide(name, hi, most)
        if self.often:
            yield _often(self.metrics, main, companion)
        if "lost" in self.ends and self.metrics["lost"].estimated.lo > 0:
            yield _perhaps_the_hole(self.metrics)
        if not few and not (_OTHERS & self.ends.keys() and _MISSED & self.ends.keys()):
            yield "the held-out images do not decide it"


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
        return f"{what}. Add {such}images, or hold out more (--held-out)."
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


FILL_TAUGHT = "less is lost under the fill that was fitted on, but not on original images"

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
    "pasted_recall_gap": (
        "recall gap with a pasted companion",
        "{main} is predicted {more} often on its images after {companion} is pasted in",
    ),
    "lost": (
        "share lost without the companion",
        f"{{main}} is lost without {{companion}} on more images than any hole costs, {percent(_HOLE)}",
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


def _perhaps_the_hole(metrics: Mapping[str, HeldOutMetric]) -> str:
    lost = percent(metrics["lost"].estimated.value, 1)
    return f"{lost} of images lose the class without the companion, which may be due to the hole itself"


def _often(metrics: Mapping[str, HeldOutMetric], main: str, companion: str) -> str:
    one, other = (metrics[name].estimated.value for name in ("called_with", "called_without"))
    said = f"images without {main} are called {main}"
    if not other:
        return f"{said} on {percent(one, 1)} with {companion}, and on none without it"
    return (
        f"{said} {one / other:.3g} times as often with {companion} as without it "
        f"({percent(one, 1)} and {percent(other, 1)}), and at most {RATIO:g} times is allowed"
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
    elif not pasted and _enough(metrics, "pasted_gap"):
        found.append("pasted_gap")
    if min(both, main_only) >= MIN_JUDGED:
        found.append("recall_gap")
    elif _enough(metrics, "lost"):
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


_ORDER = (GONE, NOT_JUDGED, PARTLY, REPLACED, NOT_GONE)  # of the last three, a part is surely left


def sentences(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a sentence for each pair and model of a table ``mitigation``: whether its shortcut is gone.

    Heads fitted to label sets have their own sentences, because label sets alone may create or remove a
    shortcut.
    """
    for (main, companion, model), treatments in _by_head(rows).items():
        yield f"{main} and {companion}, {model}: {_sentence(main, companion, treatments)}"


def all_gone(rows: Sequence[Row]) -> bool:
    """Return whether each pair of a table ``mitigation`` has a head without the shortcut."""
    gone: dict[tuple[str, str], bool] = {}
    for (*pair, _), treatments in _by_head(rows).items():
        found = {_verdict(own) for own in treatments.values()}
        key = (pair[0], pair[1])
        gone[key] = gone.get(key, False) or bool(found & {GONE, ABSENT})
    return all(gone.values())


def _by_head(rows: Sequence[Row]) -> dict[tuple[str, str, str], dict[str, dict[str, Row]]]:
    """Return the rows of each pair and model by treatment and metric; heads of label sets are apart."""
    heads: dict[tuple[str, str, str], dict[str, dict[str, Row]]] = {}
    for row in rows:
        labels = "" if base_of(row["treatment"]) == NONE else " on label sets"
        pair = (row["main_name"], row["companion_name"], f"{row['model']}{labels}")
        heads.setdefault(pair, {}).setdefault(row["treatment"], {})[row["metric"]] = row
    return heads


def best_treatment(rows: Sequence[Row]) -> str:
    """Return the treatment with the best verdict among the rows of a pair and model; empty if there is none.

    Among treatments with the same verdict, the one with the smallest sum of gaps is returned. Only gaps with
    the sign of the untreated head's gaps are added, because only these are due to the shortcut. Ties are
    broken by the share of images with the companion that are called the class.
    """
    treatments: dict[str, dict[str, Row]] = {}
    for row in rows:
        treatments.setdefault(row["treatment"], {})[row["metric"]] = row
    return _best(treatments)


def _best(treatments: Mapping[str, Mapping[str, Row]]) -> str:
    def gaps(own: Mapping[str, Row]) -> list[float]:
        other = "pasted_gap" if _few_with(own) and "pasted_gap" in own else "hallucination_gap"
        return [own[gap]["value"] for gap in ("recall_gap", other) if gap in own]

    # A companion may speak against the class. That it hides some images of the class is not enough.
    start = next(iter(treatments.values()), {})
    sign = -1 if start and _verdict(start) == PRESENT and sum(gaps(start)) < 0 else 1

    def place(name: str) -> tuple[int, float, float]:
        own = treatments[name]
        left = sum(max(sign * gap, 0) for gap in gaps(own))
        called = own["called_with"]["value"] if "called_with" in own else 0.0
        return _ORDER.index(_verdict(own)), left, sign * called

    treated = [n for n, own in treatments.items() if n != base_of(n) and _verdict(own) in _ORDER]
    return min(treated, key=place, default="")


def _few_with(own: Mapping[str, Row]) -> bool:
    """Return whether too few held-out images show the companion alone."""
    return "called_with" not in own or own["called_with"]["n"] < MIN_JUDGED


def _verdict(own: Mapping[str, Row]) -> str:
    return str(next(iter(own.values())).get("verdict"))


def _reason(own: Mapping[str, Row]) -> str:
    """Return what decides the verdict on a head, without the last full stop; earlier tables do not say it."""
    return (next(iter(own.values())).get("reason") or "").rstrip(".")


def _after(mark: str, reason: str) -> str:
    return f"{mark}{reason}." if reason else "."


def _sentence(main: str, companion: str, treatments: Mapping[str, Mapping[str, Row]]) -> str:
    """Return whether there was a shortcut, and whether it is gone with the best treatment."""
    best, start = _best(treatments), treatments[next(iter(treatments))]
    own = treatments.get(best, start)
    shown = _evidence(main, companion, own, start if best else None)
    if _verdict(start) == ABSENT:
        shown = _evidence(main, companion, start)
        return f"the head without treatment shows no shortcut. {shown}"
    if _verdict(start) == NOT_JUDGED:
        return f"{_perhaps(best, own, start)} {shown}".rstrip()
    if not best:
        return f"a shortcut was present, and it is not gone, because no treatment is possible. {shown}"
    text = {
        GONE: f", and it is gone with {best}",
        PARTLY: f", and it is not gone, but only partly gone with {best}",
        REPLACED: f", and it is not gone, but replaced by the fill with {best}",
        NOT_GONE: f", and it is not gone with {best}",
        NOT_JUDGED: f". Whether it is gone with {best} is not judged",
    }[_verdict(own)]
    return f"a shortcut was present{text}{_after(': ', _reason(own))} {shown}".rstrip()


def _perhaps(best: str, own: Mapping[str, Row], start: Mapping[str, Row]) -> str:
    """Return what is said if the head without treatment is not judged."""
    if best and _verdict(own) == NOT_JUDGED:
        both = f"whether a shortcut was present, and whether it is gone with {best}"
        return f"{both}, is not judged{_after(': ', _reason(own))}"
    after = f"With {best}, " + ("there is none." if _verdict(own) == GONE else f"it is {_verdict(own)}")
    if best and _verdict(own) != GONE:
        after += _after(": ", _reason(own))
    after = after if best else "No treatment is possible."
    return f"whether a shortcut was present is not judged{_after(': ', _reason(start))} {after}"


def _evidence(
    main: str, companion: str, own: Mapping[str, Row], start: Mapping[str, Row] | None = None
) -> str:
    """Return how often other images are called the class, the recall gap, and the accuracy."""
    found = []
    if _few_with(own) and "pasted_gap" in own:
        gap, before = own["pasted_gap"], (start or {}).get("pasted_gap")
        earlier = f", before by {in_points(before['value'], before['lo'], before['hi'], 1)}" if before else ""
        found.append(
            f"If {companion} is pasted into {gap['n']:,} images without {main}, {main} is predicted more "
            f"often by {in_points(gap['value'], gap['lo'], gap['hi'], 1)} points{earlier}."
        )
    elif {"called_with", "called_without"} <= own.keys():
        with_it, without = own["called_with"], own["called_without"]
        found.append(
            f"Images without {main} are called {main} in {percent(with_it['value'], 1)} of "
            f"{with_it['n']:,} cases with {companion}{_before(start, 'called_with')}, and in "
            f"{percent(without['value'], 1)} of {without['n']:,} cases without {companion}."
        )
    if "recall_gap" in own:
        gap = own["recall_gap"]
        found.append(f"Recall gap {in_points(gap['value'], gap['lo'], gap['hi'])} points.")
    name = "top1" if "top1" in own else "real1"
    if name in own:
        label = {"top1": "Top-1", "real1": "ReaL accuracy"}[name]
        found.append(f"{label} {percent(own[name]['value'], 1)}{_before(start, name)}.")
    name = "accuracy_without"
    if start and {name} <= own.keys() & start.keys() and own[name]["value"] < start[name]["value"]:
        shown = f"{percent(own[name]['value'], 1)}{_before(start, name)}"
        found.append(f"On images without {companion}, the accuracy is {shown}.")
    return " ".join(found)


def _before(start: Mapping[str, Row] | None, name: str) -> str:
    return f" ({percent(start[name]['value'], 1)} before)" if start and name in start else ""
