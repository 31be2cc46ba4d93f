"""Published columns of images to slice by, for any data set of the same images."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TypeVar

from manyhot.data import catalog
from manyhot.data.benchmarks import BENCHMARKS, BenchmarkData
from manyhot.data.data_sets import Source
from manyhot.errors import MatchError
from manyhot.evaluate.options import EvaluateOptions
from manyhot.tables import Images, one_chunk
from manyhot.tables.frames import count_shared, examples, rows_like
from manyhot.tables.image_ids import AUTO
from manyhot.tables.labels import with_ids_like

PUBLISHED_COLUMNS: dict[str, BenchmarkData] = {"factor": BENCHMARKS["imagenet-x"].datasets[0]}
"""The data set whose images table has the column."""


Options = TypeVar("Options", bound=EvaluateOptions)


def with_published_columns(source: Source, options: Options, *, match: str = AUTO) -> tuple[Source, Options]:
    """Return a data set with the published columns that slices need, and options with the possible slices.

    Slices of a published data set whose images lack the columns are omitted, and a remark says so.

    Parameters
    ----------
    source : Source
    options : EvaluateOptions
    match : str
        How ids are matched; see `manyhot.tables.image_ids.match_ids`.

    Raises
    ------
    MatchError
        If the column belongs to other images than the user's own data set.
    MissingExtraError
        If the Python package that contains the column is not installed.
    """
    for name, data in PUBLISHED_COLUMNS.items():
        entry = catalog.catalog_entry(data.images[0])
        remark = f"the column {name!r} is that of {entry.name} (licence {entry.licence})"
        if source.published == data:
            source.misfits.remarks.append(remark)
        asked = [s for s in options.slices if re.split("[<>=]", s)[0] == name]
        if not asked or (source.images is not None and name in source.images.table.column_names):
            continue
        table = source.images if source.labels is None else source.labels
        assert table is not None
        column, _ = with_ids_like(data.images_table(), table.image_id, other_name=source.name, match=match)
        if count_shared(table.image_id, column.image_id):
            source = _with_column(source, column, name)
            source.inputs.update({f"{entry.name}/{f}": entry.file(f).sha256 for f in data.images[1:]})
            source.misfits.remarks.append(remark)
        elif source.published is not None:
            options = replace(options, slices=[s for s in options.slices if s not in asked])
            remark = (
                f"{', '.join(asked)} left out: {entry.name} has the column {name!r}, but not for these images"
            )
            source.misfits.remarks.append(remark)
        else:
            raise MatchError(
                f"{entry.name} has the column {name!r}, but not for these images.",
                got=f"ids such as {examples(table.image_id)}",
                allowed=f"ids such as {examples(column.image_id)}",
                do=f"pass an images table that has the column {name!r} as `images`",
            )
    return source, options


def _with_column(source: Source, column: Images, name: str) -> Source:
    """Return a data set whose images table has a column of another table, null where that lacks the image."""
    if source.images is None:
        return replace(source, images=Images(column.table.select(["image_id", name]), column.name))
    images = source.images
    rows = rows_like(images.image_id, column.image_id, left_name=images.name, right_name=column.name)
    values = one_chunk(column.table[name]).take(rows)
    return replace(source, images=replace(images, table=images.table.append_column(name, values)))
