"""The label sets of a campaign, and the class list of the files in its folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from manyhot.classes import ClassList, class_list_of
from manyhot.formats.reading import reading
from manyhot.kinds import FOLDER
from manyhot.registry import register
from manyhot.tables import DESCRIPTION, Images, Labels, Predictions, Votes, metadata
from manyhot.tables.campaign_folder import is_campaign, no_label_sets
from manyhot.tables.labels import declaring

_Table = TypeVar("_Table", Labels, Images, Predictions, Votes)


@register(
    "format",
    "campaign",
    holds="labels",
    suffixes=(FOLDER,),
    matches=is_campaign,
    needs=f"{DESCRIPTION} and labels.parquet",
)
def read_campaign_labels(path: Path, *, classes: ClassList | None) -> Labels:
    """The label sets of a campaign: ``labels.parquet`` in its folder, over its class list."""
    from manyhot.formats.tabular import read_labels_table  # brings polars

    file = path / "labels.parquet"
    if not file.is_file():
        raise no_label_sets(path)
    with reading(file):
        labels = with_campaign_list(read_labels_table(file, classes=classes), file)
    return replace(labels, name=path.resolve().name)


def with_campaign_list(table: _Table, path: Path) -> _Table:
    """Return a table in a campaign's folder with the campaign's class list; the file records only its hash.

    A table elsewhere, or with a different class list, is unchanged.
    """
    declared = metadata(table.table).get("classes", "") if isinstance(table, Images) else table.class_hash
    if table.class_list is not None or not declared or class_list_of(declared) is not None:
        return table
    from manyhot.formats.class_lists import read_class_list  # brings polars

    for folder in path.resolve().parents[:2]:  # predictions are one folder deeper
        listed = folder / "classes.parquet"
        if not (is_campaign(folder) and listed.is_file()):
            continue
        with reading(listed):
            classes = read_class_list(listed)
        if classes.hash == declared:
            named = replace(table, class_list=classes)
            return named if isinstance(named, Predictions | Votes) else declaring(named, classes)
    return table
