"""Whether a shortcut is gone, judged by what a head was not fitted on, and the sentence that says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

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
    companion pasted in, unless the head was fitted on such images, and the second by the fill that was not
    fitted on. A head is not `GONE` if its accuracy on images without the companion is surely lower than the
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
    names = _judges(metrics, counts, pasted, negative)
    sign = -1 if negative else 1
    effects = {name: _ends(metrics[name], sign) for name in names}
    below = _OVERSHOT if untreated is None else 0.0
    depends = any(
        lo > (_HOLE if name == "lost" else 0)
        or hi < (min(below, _DISTRACTED) if name == "pasted_recall_gap" else below)
        for name, (_, lo, hi) in effects.items()
    )
    often = sign > 0 and _called_more_often(metrics, names)
    if untreated is not None and not depends and _accuracy_lost(metrics, untreated)[2] < 0:
        return PARTLY
    if not depends and not (often and untreated is not None and _present(untreated, counts, pasted)):
        short = not (_OTHERS & {*names} and _MISSED & {*names})
        short |= any(hi > _most(metrics, name) for name, (_, _, hi) in effects.items())
        if short or often or ("lost" in effects and effects["lost"][1] > 0):
            return NOT_JUDGED
        return GONE if untreated is not None else ABSENT
    if untreated is None:
        return PRESENT
    left = sum(max(value, 0.0) for value, _, _ in effects.values())
    before = sum(max(sign * untreated[n].estimated.value, 0.0) for n in names if n in untreated)
    if left <= before / 2:
        return PARTLY
    return REPLACED if _taught_the_fill(metrics, untreated) else NOT_GONE


def _accuracy_lost(
    metrics: Mapping[str, HeldOutMetric], untreated: Mapping[str, HeldOutMetric]
) -> tuple[float, float, float]:
    """Return the change of the accuracy on images without the companion, and the ends of its interval."""
    name = "accuracy_without"
    return metrics[name].less(untreated[name]) if {name} <= metrics.keys() & untreated.keys() else (0, 0, 0)


def _present(untreated: Mapping[str, HeldOutMetric], counts: Sequence[int], pasted: bool) -> bool:
    return removal_verdict(untreated, None, counts, pasted=pasted) == PRESENT


def _most(metrics: Mapping[str, HeldOutMetric], name: str) -> float:
    """Return the upper end of an interval that is narrow enough."""
    doubled = name in ("hallucination_gap", "pasted_gap") and "called_without" in metrics
    return max(MAX_UPPER_END[name], metrics["called_without"].estimated.value if doubled else 0.0)


def what_is_missing(
    metrics: Mapping[str, HeldOutMetric],
    counts: Sequence[int],
    names: tuple[str, str],
    *,
    pasted: bool = False,
    negative: bool = False,
) -> str:
    """Return why a head is `NOT_JUDGED`, and what to do about it.

    Parameters
    ----------
    metrics, counts, pasted, negative
        As in `removal_verdict`.
    names : tuple of str
        Names of the class and the companion.
    """
    judges = _judges(metrics, counts, pasted, negative)
    few = list(_few(judges, counts, *names))
    sign = -1 if negative else 1
    wide = [
        _too_wide(name, hi, most)
        for name in judges
        if (hi := _ends(metrics[name], sign)[2]) > (most := _most(metrics, name))
    ]
    often = [_often(metrics, *names)] if sign > 0 and _called_more_often(metrics, judges) else []
    hole = [_perhaps_the_hole(metrics)] if "lost" in judges and metrics["lost"].estimated.lo > 0 else []
    what = "; ".join([*few, *wide, *often, *hole]) or "the held-out images are inconclusive"
    return f"{what}. Add {'such images' if few else 'images'}, or hold out more (--held-out)."


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


_JUDGES = {
    "recall_gap": "recall gap",
    "hallucination_gap": "hallucination gap",
    "pasted_gap": "gap with a pasted companion",
    "pasted_recall_gap": "recall gap with a pasted companion",
    "lost": "share lost without the companion",
}


def _too_wide(name: str, hi: float, most: float) -> str:
    unit = "%" if name == "lost" else "points"
    return (
        f"the interval of the {_JUDGES[name]} reaches {100 * hi:.1f} {unit}, and at most {100 * most:.3g} "
        f"{unit} are allowed"
    )


def _perhaps_the_hole(metrics: Mapping[str, HeldOutMetric]) -> str:
    lost = percent(metrics["lost"].estimated.value, 1)
    return f"{lost} of images lose the class without the companion, which may be due to the hole itself"


def _often(metrics: Mapping[str, HeldOutMetric], main: str, companion: str) -> str:
    one, other = (percent(metrics[name].estimated.value, 1) for name in ("called_with", "called_without"))
    return (
        f"images without {main} are called {main} more than {RATIO:g} times as often with {companion} "
        f"({one}) as without {companion} ({other})"
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


def _called_more_often(metrics: Mapping[str, HeldOutMetric], names: Sequence[str]) -> bool:
    """Return whether the companion makes images be called the class more often than `RATIO` times."""
    if "hallucination_gap" not in names:
        return False
    one, other = (metrics[name].estimated.value for name in ("called_with", "called_without"))
    return one > RATIO * other


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
        return [own[gap]["value"] for gap in ("recall_gap", "hallucination_gap") if gap in own]

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


def _verdict(own: Mapping[str, Row]) -> str:
    return str(next(iter(own.values())).get("verdict"))


def _missing(own: Mapping[str, Row]) -> str:
    """Return what is missing to judge a head, without the last full stop; earlier tables do not say it."""
    return (next(iter(own.values())).get("missing") or "the held-out images are inconclusive").rstrip(".")


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
        GONE: f", and it is gone with {best}.",
        PARTLY: f", and it is not gone, but only partly gone with {best}.",
        REPLACED: f", and it is not gone, but replaced by the fill with {best}: fewer images lose the class "
        "under the fill that the head was fitted on, but more than half of the shortcut is left.",
        NOT_GONE: f", and it is not gone with {best}.",
        NOT_JUDGED: f". Whether it is gone with {best} is not judged: {_missing(own)}.",
    }[_verdict(own)]
    return f"a shortcut was present{text} {shown}".rstrip()


def _perhaps(best: str, own: Mapping[str, Row], start: Mapping[str, Row]) -> str:
    """Return what is said if the head without treatment is not judged."""
    if best and _verdict(own) == NOT_JUDGED:
        both = f"whether a shortcut was present, and whether it is gone with {best}"
        return f"{both}, is not judged: {_missing(own)}."
    after = f"With {best}, there is {'none' if _verdict(own) == GONE else 'one'}."
    after = after if best else "No treatment is possible."
    return f"whether a shortcut was present is not judged: {_missing(start)}. {after}"


def _evidence(
    main: str, companion: str, own: Mapping[str, Row], start: Mapping[str, Row] | None = None
) -> str:
    """Return how often other images are called the class, the recall gap, and the accuracy."""
    found = []
    if {"called_with", "called_without"} <= own.keys():
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
