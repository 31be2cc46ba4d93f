"""The data card of merged label sets: its sources, how well they agree, and their licences."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from manyhot.reassess.card_markdown import cell_text, ends_text, markdown_table, number_text
from manyhot.tables.schemas import Row

_COUNTS = ("images", "unusable", "rated", "questions", "yes", "unclear", "no", "conflicts")

_RULE = {
    "method": "method",
    "threshold": "threshold",
    "unclear_from": "unclear from",
    "set_version": "version",
}

_UNKNOWN = "not recorded"

_MOTIVATION = (
    "Use these label sets to evaluate classifiers on all classes that people found in an image, "
    "according to at least one source. They contain the class labels of each image file, but no images "
    "and no information about raters."
)

_USES = (
    "- For accuracies on label sets, accepted errors, and images to re-assess.\n"
    "- Not for the share of images with several labels: sources asked only about some images, chosen because "
    "models disagreed, and only about classes that models proposed. Classes that no model proposed are "
    "missing.\n"
    "- Not for ranking a model above those that proposed the classes if the difference is small.\n"
    "- Not as training labels without a check: an image that no rater was asked about has only its original "
    "label."
)

_MAINTENANCE = (
    "The answers of each source are stored next to the labels, so that the rule can be changed. Build the "
    "label set again if a source is corrected, and state its version when you publish values."
)


def merged_sections(about: Mapping[str, str], licence: str | None) -> dict[str, str]:
    """Return the data-card sections that only merged label sets have, keyed by title.

    They answer the questions of Gebru et al. 2021, Datasheets for datasets, doi 10.1145/3458723, section by
    section: motivation, composition, collection, preprocessing, uses, distribution and maintenance.

    Parameters
    ----------
    about : Mapping of str to str
        The metadata of the labels.
    licence : str, optional
        The licence that the user states for the merged labels.

    Returns
    -------
    dict of str to str
        Empty if the labels are not merged from sources.
    """
    try:
        sources, held_out = (json.loads(about.get(name, "[]")) for name in ("sources", "held_out"))
    except (ValueError, RecursionError):
        return {}
    if not sources:
        return {}
    return {
        "Motivation and composition": _MOTIVATION,
        "Sources": _sources(sources),
        "Protocol": _protocol(about),
        "Agreement": _agreement(held_out),
        "Uses": _USES,
        "Licence and citation": _rights(sources, licence),
        "Maintenance": _MAINTENANCE,
    }


def _sources(sources: Sequence[Row]) -> str:
    counts = [(cell_text(r["source"]), *(f"{r[name]:,}" for name in _COUNTS)) for r in sources]
    asked = [(cell_text(r["source"]), cell_text(r["asked"] or _UNKNOWN)) for r in sources]
    return (
        "The label sets of these sources were joined by image id. Raters and dates are those of the sources. "
        "*Not asked is not no*: a class that a source was not asked about does not count as an answer.\n\n"
        f"{markdown_table(('source', *_COUNTS), counts)}\n\n{markdown_table(('source', 'asked'), asked)}"
    )


def _protocol(about: Mapping[str, str]) -> str:
    rows = [(text, cell_text(about.get(name) or _UNKNOWN)) for name, text in _RULE.items()]
    return (
        "With the method source-share, `p` is the share of sources that say yes, among the sources asked "
        "about the class. The "
        "version is a hash of the sources' answers and of the rule: label sets of the same version are "
        f"identical.\n\n{markdown_table(('what', 'how'), rows)}"
    )


def _agreement(held_out: Sequence[Row]) -> str:
    rows = [
        (
            cell_text(r["source"]),
            cell_text(r["others"]),
            cell_text(r["measure"]),
            number_text(r["value"]),
            ends_text(r["lo"], r["hi"]),
            f"{r['n']:,}",
        )
        for r in held_out
        if r["value"] is not None
    ]
    if not rows:
        return "Not measured."
    head = ("source", "predicted by", "measure", "value", "95 % interval", "n")
    what = "The table shows how well the other sources predict the answers of each source."
    return f"{what}\n\n{markdown_table(head, rows)}"


def _rights(sources: Sequence[Row], licence: str | None) -> str:
    rows = [
        (cell_text(r["source"]), *(cell_text(r[name] or _UNKNOWN) for name in ("licence", "citation")))
        for r in sources
    ]
    own = (
        "No licence is stated for the merged labels"
        if licence is None
        else f"Licence of the merged labels: {cell_text(licence)}"
    )
    return (
        "The label set was built locally from the sources with the command in the metadata of the file. "
        "manyhot ships neither the sources nor this label set. The licences of the sources apply to it. If "
        "a source states no licence, or its licence is not recorded, do not pass the label set on without "
        f"permission. {own}.\n\n{markdown_table(('source', 'licence', 'citation'), rows)}"
    )
