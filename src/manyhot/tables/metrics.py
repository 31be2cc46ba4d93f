"""What metrics register about themselves, for the metadata of results, reports and comparisons.

The keys of ``@register("metric", name, better="higher", …)`` in addition to those that computing needs:

``better``
    ``higher`` or ``lower``.
``label``
    What people read; the name by default.
``unit``
    ``share``, the default, is shown in percent; any other, such as ``nats``, is a plain number.
``short``, ``axis``
    The label in figures, where there is little room and beside an axis.
``default``
    True, or a call string such as ``precision@5``: computed by default, where the model has what it needs.
``headline``
    Shown first and by default.
``judged_on``
    `ORIGINAL_LABELS` or `LABEL_SETS`: an accuracy, which data sets are compared by.
"""

from __future__ import annotations

import re

from manyhot import registry

ORIGINAL_LABELS, LABEL_SETS = "original labels", "label sets"
"""What accuracies are judged on."""


def describe_metric(name: str) -> dict[str, str]:
    """Return ``label``, ``definition``, ``better`` and ``unit`` of a metric; nothing if it is not registered.

    Parameters
    ----------
    name : str
        As in results: ``real1``, ``precision@5`` or ``jaccard(threshold=0.5)``.
    """
    entry = registered_metric(name)
    if entry is None:
        return {}
    about, options = entry.about, _family(name)[1]
    label = about.get("label", entry.name)
    at_k = options.startswith("@") and "@k" in label
    return {
        "label": label.replace("@k", options) if at_k else f"{label} {options}".strip(),
        "definition": entry.definition,
        "better": about["better"],
        "unit": about.get("unit", "share"),
    }


def registered_metric(name: str) -> registry.Entry | None:
    """Return the metric of a name in results without its options; None if it is not registered."""
    base = _family(name)[0]
    return registry.get("metric", base) if base in registry.names("metric") else None


def default_metrics(*, dense: bool) -> list[str]:
    """Return the metrics that are judged by default: those of ranks, or those of scores over all classes."""
    found = ((e.about.get("default"), e) for e in _entries() if (e.about.get("needs") == "scores") == dense)
    return [default if isinstance(default, str) else e.name for default, e in found if default]


def headline() -> list[str]:
    """Return the metrics that are shown first and by default."""
    return [e.name for e in _entries() if e.about.get("headline")]


def accuracies(*judged_on: str) -> list[str]:
    """Return the metrics that data sets are compared by, all or those judged on what is named."""
    allowed = judged_on or (ORIGINAL_LABELS, LABEL_SETS)
    found = (e.name for e in _entries() if e.about.get("judged_on") in allowed)
    return sorted(found, key=reading_order)


def reading_order(name: str) -> tuple[bool, int, str]:
    """Return what to sort metrics by: the headline, then as they are registered, then by name."""
    places = {n: place for place, n in enumerate(registry.names("metric"))}
    entry = registered_metric(name)
    if entry is None:
        return True, len(places), name
    return not entry.about.get("headline"), places[entry.name], name


def _entries() -> list[registry.Entry]:
    return [registry.get("metric", name) for name in registry.names("metric")]


def _family(name: str) -> tuple[str, str]:
    at = re.fullmatch(r"(.+)@(\d+)", name)
    if at:
        return f"{at[1]}@k", f"@{at[2]}"
    base, _, options = name.partition("(")
    return base, f"({options}" if options else ""
