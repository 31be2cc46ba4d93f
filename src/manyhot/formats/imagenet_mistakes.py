"""The mistakes of two models that Vasudevan et al. classified."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from manyhot.classes import class_list
from manyhot.errors import InputError
from manyhot.formats.columns import constant
from manyhot.formats.json_files import class_index, cut, head, load
from manyhot.registry import register
from manyhot.tables.ids import check_unique

_KEYS = ("top_prediction", "failure category", "failure severity")

CATEGORIES = {
    "Fine-grained error": "fine-grained",
    "Fine-grained error with OOV": "fine-grained, out of vocabulary",
    "Fine-grained with OOV": "fine-grained, out of vocabulary",
    "Fine-grained with Multilabel Options": "fine-grained, several labels",
    "Spurious Correlation": "spurious correlation",
    "Non-prototypical": "non-prototypical",
}
"""The published categories in our words; *out of vocabulary* is spelled in two ways."""

SEVERITIES = ("Major", "Minor", "Borderline")


def _matches(path: Path) -> bool:
    return '"top_prediction"' in head(path)


@register("format", "imagenet-mistakes", holds="findings", suffixes=(".json",), matches=_matches)
def read_imagenet_mistakes(path: Path) -> pa.Table:
    """Vasudevan et al.'s ``vit3b_mistakes.json`` and ``greedy_soups_mistakes.json``: findings *mistake*.

    `class_b` is the predicted class, which experts found to be wrong. Evidence: `model`, as the file is
    called, `category` and `severity`. The right classes are not in the file.

    References
    ----------
    Vasudevan et al. 2022, arXiv 2205.04596; google-research/imagenet-mistakes.
    """
    content = load(path)
    if not isinstance(content, dict):
        raise InputError("The file is not a table of images and mistakes.", where=path)
    rows = [_row(name, found, f"{path}, image {name}") for name, found in content.items()]
    columns = {c: [row[c] for row in rows] for c in ("image_id", "class_b", "category", "severity")}
    ids = pa.array(columns["image_id"], pa.string())
    check_unique(ids, str(path))
    return pa.table(
        {
            "kind": constant("mistake", len(rows), pa.string()),
            "image_id": ids,
            "class_b": pa.array(columns["class_b"], pa.int32()),
            "model": constant(path.stem.removesuffix("_mistakes"), len(rows), pa.string()),
            "category": pa.array(columns["category"], pa.string()),
            "severity": pa.array(columns["severity"], pa.string()),
        }
    )


def _row(name: str, found: Any, where: str) -> dict[str, Any]:
    if not isinstance(found, dict) or set(found) != set(_KEYS):
        raise InputError("This is not a mistake.", where=where, got=cut(str(found)), allowed=", ".join(_KEYS))
    predicted, category, severity = (found[key] for key in _KEYS)
    # A list is no key of a dict, not even to find that it is absent.
    if not isinstance(category, str) or category not in CATEGORIES:
        raise InputError(
            "There is no such category.", where=where, got=cut(str(category)), allowed="; ".join(CATEGORIES)
        )
    if severity not in SEVERITIES:
        raise InputError(
            "There is no such severity.", where=where, got=cut(str(severity)), allowed=", ".join(SEVERITIES)
        )
    return {
        "image_id": name.rpartition("/")[2],
        "class_b": class_index(predicted, len(class_list()), where),
        "category": CATEGORIES[category],
        "severity": severity.lower(),
    }
