"""The counts of a described data set, as a terminal shows them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from manyhot.console import fact_lines
from manyhot.core.share_intervals import proportion_interval


def _valid_cells(card: dict[str, Any]) -> tuple[str, str]:
    """Return how many original labels are valid, and among which images, with the share and its interval."""
    n = card["original_valid_n"]
    among = f"of {n:,} images with any"
    if not n:
        return "–", among
    share, lo, hi = (card[f"original_valid{end}"] for end in ("", "_lo", "_hi"))
    return f"{round(share * n):,}", f"{among} ({share:.2%}, 95 % interval {lo:.2%} to {hi:.2%})"


def _share_of(k: int, n: int, which: str = "") -> str:
    """Return of how many images these are, with the share and its interval."""
    if not n:
        return f"of {n:,}{which}"
    lo, hi = proportion_interval(k, n)
    return f"of {n:,}{which} ({k / n:.1%}, 95 % interval {lo:.1%} to {hi:.1%})"


def _empty_facts(card: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield how many images have no valid class, and on how many this is unknown.

    If it is unknown for some, no share of the others is shown: images for which raters were asked about all
    classes are seldom a random sample, and an image with a valid class is known to have one after one answer.
    """
    usable, unasked = card["images"] - card["unusable"], card["empty_unasked"]
    none = card["empty"] - unasked
    if not unasked:
        yield "no valid class", f"{none:,}", _share_of(none, usable)
        return
    if none:
        yield "no valid class", f"{none:,}", f"of {usable:,}"
    yield "none found valid", f"{unasked:,}", f"{_share_of(unasked, usable)}, not asked about all classes"


def card_lines(card: dict[str, Any]) -> Iterator[str]:
    """Yield the counts of a data set as a terminal shows them."""
    sets = card["images"] - card["unusable"] - card["empty"]
    yield f"{card['dataset']}: {card['images']:,} images, {card['labels']:,} labels"
    several = _share_of(card["multi"], sets, " images with any")
    several += ", or more: not asked about all classes" if card["empty_unasked"] else ""
    facts = [("two or more labels", f"{card['multi']:,}", several)]
    facts += _empty_facts(card)
    if card["unusable"]:
        facts.append(("unusable", f"{card['unusable']:,}", f"of {card['images']:,}, left out of all shares"))
    if card["undecided"]:
        why = "of these; raters chose one class of each image, but no class reached the threshold"
        facts.append(("undecided", f"{card['undecided']:,}", why))
    if card["labelled"]:
        unasked = card["label_unasked"]
        total = _share_of(card["rejected"], card["labelled"] - unasked)
        facts.append(("original label not valid", f"{card['rejected']:,}", total))
        facts.append(("original label valid", *_valid_cells(card)))
        if unasked:
            seen = "images that raters have seen but that have no answer about the original label"
            facts.append(("left out of both", f"{unasked:,}", seen))
    if card["unclear"]:
        facts.append(("unclear", f"{card['unclear']:,}", f"of {card['asked']:,} (image, class) pairs"))
    if card["rated"] is not None:
        facts.append(("checked by raters", f"{card['rated']:,}", ""))
    # Such as keywords: single labels leave nothing out, and raters checked label sets beside original labels.
    if card["asked"] is None and card["multi"] and not card["labelled"]:
        unlisted = "not recorded: in metrics, classes that an image does not list count as not valid"
        facts.append(("asked about", "–", unlisted))
    yield from fact_lines(facts)
    yield ""
