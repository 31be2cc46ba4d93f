"""The sentences that say whether a shortcut is gone, and with which treatment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from manyhot.report.chapter import in_points, percent
from manyhot.tables import Row
from manyhot.train.mitigate.fitting import NONE, base_of
from manyhot.train.mitigate.verdict import (
    ABSENT,
    GONE,
    MIN_JUDGED,
    NONE_SHOWN,
    NOT_GONE,
    NOT_JUDGED,
    PARTLY,
    PRESENT,
    REPLACED,
)

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
        few, recall = _few_with(own), "patched_recall_gap"
        others = (*(("patched_gap", "pasted_gap") if few else ()), "hallucination_gap")
        judges = [recall if recall in own else "recall_gap", *[gap for gap in others if gap in own][:1]]
        return [own[gap]["value"] for gap in judges if gap in own]

    # A companion may speak against the class. That it hides some images of the class is not enough.
    start = next(iter(treatments.values()), {})
    sign = -1 if start and _verdict(start) == PRESENT and sum(gaps(start)) < 0 else 1

    def place(name: str) -> tuple[int, float, float]:
        own = treatments[name]
        left = sum(max(sign * gap, 0) for gap in gaps(own))
        name = "called_pasted" if _few_with(own) and "called_pasted" in own else "called_with"
        called = own[name]["value"] if name in own else 0.0
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
    perhaps = _reason(own).endswith(NONE_SHOWN)
    partly = "at least partly gone, but not surely fully," if perhaps else "not gone, but only partly gone"
    text = {
        GONE: f", and it is gone with {best}",
        PARTLY: f", and it is {partly} with {best}",
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
    if _few_with(own) and "patched_gap" in own:
        pasted, patched = own["called_pasted"], own["called_patched"]
        found.append(
            f"With {companion} of other held-out images pasted in, {percent(pasted['value'], 1)} of "
            f"{pasted['n']:,} images without {main} are called {main}{_before(start, 'called_pasted')}; with "
            f"a patch of other content, {percent(patched['value'], 1)}."
        )
    elif _few_with(own) and "pasted_gap" in own:
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
    if "patched_recall_gap" in own:
        gap = own["patched_recall_gap"]
        shown = in_points(gap["value"], gap["lo"], gap["hi"])
        found.append(
            f"If a patch covers {companion}, {main} is predicted less often on its images by {shown} points."
        )
    elif "recall_gap" in own:
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
