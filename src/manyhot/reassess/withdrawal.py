"""Questions that raters are no longer to be asked, taken from the proposals of a campaign."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
from pyarrow import parquet as pq

from manyhot import tables
from manyhot.classes import ClassList
from manyhot.errors import InputError, MatchError
from manyhot.formats.headers import class_name_column, fold_name, image_name_column
from manyhot.formats.table_files import read_frame
from manyhot.reassess.additions import QUESTION
from manyhot.reassess.arrow_tables import as_arrow
from manyhot.tables import Campaign, metadata
from manyhot.tables.image_ids import ids_like
from manyhot.tables.schemas import metadata_json

HISTORY = "history"
"""Metadata of proposals: what was proposed, added and withdrawn, one step after the other."""

_NEED = "columns with images, such as image_id, with classes, such as class, or both"


def campaign_proposals(campaign: Campaign | None, *, add: bool = False) -> pa.Table:
    """Return the proposals of a campaign, to which questions are added or from which they are withdrawn.

    Raises
    ------
    InputError
        If there is no campaign, or it has no proposals.
    """
    path = None if campaign is None else campaign.path("proposals")
    if path is None or not path.is_file():
        what = "to which new ones can be added" if add else "from which questions can be withdrawn"
        raise InputError(
            f"There are no proposals {what}.",
            where=path or "`labels`",
            allowed="a campaign with proposals.parquet",
            do="leave out `add`" if add else None,
        )
    return tables.read(path, "proposals")


def without_questions(
    proposals: pa.Table, without: Any, classes: ClassList | None, match: str
) -> tuple[pa.Table, tuple[str, ...], dict[str, Any]]:
    """Return the remaining proposals, notes, and a record of what was withdrawn.

    A row with an image and a class withdraws this question, a row with only an image withdraws all questions
    about the image, and a row with only a class withdraws all questions about the class.

    Raises
    ------
    InputError
        If the table has neither images nor classes, or a class is not in the class list.
    MatchError
        If no proposal is withdrawn.
    """
    listed, notes = _listed(proposals, without, classes, match)
    asked = pl.DataFrame(proposals.select(QUESTION)).with_row_index("row")
    both, image_only, class_only = (
        listed.filter(pl.col("image_id").is_null() != i, pl.col("class_id").is_null() != c)
        for i, c in ((True, True), (True, False), (False, True))
    )
    gone = pl.concat(
        asked.join(part, on=keys, how="semi", nulls_equal=False)["row"]
        for part, keys in ((both, QUESTION), (image_only, QUESTION[:1]), (class_only, QUESTION[1:]))
    ).unique()
    if not len(gone):
        raise MatchError(
            "No question of the campaign is withdrawn.",
            where="`without`",
            got=f"{len(listed):,} rows, none of which is about a proposal",
            allowed=f"images such as {asked['image_id'][0]}" if len(asked) else "proposals",
        )
    kept = proposals.filter(pa.array(~asked["row"].is_in(gone.implode())))
    left, before = pl.DataFrame(kept.select(QUESTION)), asked.filter(pl.col("row").is_in(gone.implode()))
    whole = {name: before[name].unique().is_in(left[name].implode()).not_().sum() for name in QUESTION}
    n_images, n_classes = whole["image_id"], whole["class_id"]
    notes.append(
        f"{len(gone):,} of {len(asked):,} questions were withdrawn; {n_images:,} images and {n_classes:,} "
        "classes have no questions left"
    )
    name = Path(without).name if isinstance(without, str | os.PathLike) else "a table"
    step = {"without": name, "questions": len(gone), "images": n_images, "classes": n_classes}
    return kept, tuple(notes), step


def _listed(
    proposals: pa.Table, without: Any, classes: ClassList | None, match: str
) -> tuple[pl.DataFrame, list[str]]:
    """Return the columns ``image_id`` and ``class_id`` of what is withdrawn, and notes."""
    frame = (
        read_frame(Path(without))
        if isinstance(without, str | os.PathLike)
        else pl.DataFrame(as_arrow(without, "without"))
    )
    frame = frame.rename({c: fold_name(c) for c in frame.columns})
    image = image_name_column(frame.columns)
    key = "class_id" if "class_id" in frame.columns else class_name_column(frame.columns)
    if image is None and key is None:
        raise InputError(
            "These are not questions.", where="`without`", got=", ".join(frame.columns[:8]), allowed=_NEED
        )
    ids: pl.Expr | pl.Series = pl.lit(None, pl.String)
    notes = list[str]()
    if image is not None:
        encoded = frame[image].cast(pl.String).replace("", None).to_arrow().cast(pa.string())
        unique = pl.Series(encoded).drop_nulls().unique(maintain_order=True)
        own = pl.Series(proposals["image_id"]).cast(pl.String).unique(maintain_order=True)
        names = pl.Series(unique)
        if len(unique):
            found = ids_like(
                unique.to_arrow().cast(pa.string()),
                own.to_arrow().cast(pa.string()),
                name="`without`",
                other_name="the proposals",
                match=match,
            )
            names = pl.Series(found.ids)
            notes += [f"`without`: {found.text}"] if found.n else []
            if n := int((~names.is_in(own.implode())).sum()):
                notes.append(f"{n:,} images of `without` have no questions, such as {_first(names, own)}")
        ids = pl.Series(encoded).replace_strict(unique, names, default=None, return_dtype=pl.String)
    numbers = pl.lit(None, pl.Int32) if key is None else _class_ids(frame[key], key, classes)
    return frame.select(pl.lit(1)).select(image_id=ids, class_id=numbers) if len(frame) else _EMPTY, notes


_EMPTY = pl.DataFrame(schema={"image_id": pl.String, "class_id": pl.Int32})


def _first(names: pl.Series, own: pl.Series) -> str:
    return str(names.filter(~names.is_in(own.implode()))[0])


def _class_ids(column: pl.Series, key: str, classes: ClassList | None) -> pl.Series:
    """Return the numbers of classes, which are given by number in a column ``class_id``, or by name."""
    if key == "class_id" and column.dtype.is_integer():
        return column.cast(pl.Int32)
    texts = column.cast(pl.String).replace("", None)
    names = texts.drop_nulls().unique().to_list()
    if classes is None:
        raise InputError(
            "The classes of the campaign have no names.", where=f"`without`, column {key}", do="use class_id"
        )
    ids = {text: classes.index(text) for text in names}
    return texts.replace_strict(ids, default=None, return_dtype=pl.Int32)


def has_withdrawn(steps: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether questions were withdrawn in one of the steps of `read_history`."""
    return any("without" in step for step in steps)


def read_history(about: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return what was proposed, added and withdrawn, as recorded in the metadata of proposals."""
    found, rule = (metadata_json(about, key) for key in (HISTORY, "rule"))
    if isinstance(found, list):
        return [step for step in found if isinstance(step, dict)]
    return [{"rule": rule["rule"]}] if isinstance(rule, dict) and "rule" in rule else []


def withdrawal_notes(campaign: Campaign | None) -> Iterator[str]:
    """Yield a note if an audit may contain images about which a campaign no longer asks."""
    path = None if campaign is None else campaign.path("proposals")
    if path is not None and path.is_file() and has_withdrawn(read_history(metadata(pq.read_schema(path)))):
        yield (
            "questions were withdrawn from the campaign, but an audit draws from all of its images; to leave "
            "out some of them, pass `where` or a list of the other images as `images`"
        )
