"""Label sets corrected by answers: classes that raters were not asked about keep their state."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from manyhot.console import fact_lines
from manyhot.core.order_check import relate
from manyhot.core.sets import YES, Case
from manyhot.data.inputs import LabelsLike, Reading, open_labels
from manyhot.errors import InputError, MatchError
from manyhot.reassess.aggregated import Aggregated
from manyhot.reassess.answers import VotesReading
from manyhot.reassess.ensemble import only_source
from manyhot.run import Run
from manyhot.tables import Labels, check
from manyhot.tables.arrays import label_sets
from manyhot.tables.definitions import STATES
from manyhot.tables.frames import align, examples
from manyhot.tables.image_ids import without_option
from manyhot.tables.labels import with_ids_like, with_zeros

_NO, _UNCLEAR, _YES = STATES

_P = {_NO: 0.0, _UNCLEAR: 0.5, _YES: 1.0}
"""The probability of a class that nobody was asked about, by its state."""

UNCLEAR_FROM = 0.5
"""Minimum probability of an unclear class: that of a class on which two raters disagree."""

_PAIR = ["image_id", "class_id"]


@dataclass(frozen=True, eq=False)
class CorrectedLabels(Aggregated):
    """Label sets with the corrections of raters.

    Attributes
    ----------
    corrected : str
        The name of the label sets that were corrected.
    changes : pyarrow.Table
        The (image, class) pairs that raters were asked about, changed pairs first, with the columns image_id,
        class_id, before (null if the label sets did not contain the class) and after.
    n_kept : int
        Number of valid classes that raters were not asked about.
    """

    corrected: str
    changes: pa.Table
    n_kept: int

    def to_json(self) -> dict[str, Any]:
        """Return the counts of `Aggregated`, and the numbers of changed and unchanged classes."""
        return {**super().to_json(), "corrections": self._changed() | {"kept": self.n_kept}}

    def lines(self) -> Iterator[str]:
        """Yield the lines of `Aggregated`, and the numbers of changed and unchanged classes."""
        yield from super().lines()
        n = self._changed()
        what = (
            f"removed, {n['added']:,} added, {n['unclear']:,} unclear, of {len(self.changes):,} asked about"
        )
        kept = f"valid classes in {self.corrected} that raters were not asked about"
        yield from fact_lines(
            [("corrections", f"{n['removed']:,}", what), ("kept", f"{self.n_kept:,}", kept)]
        )

    def _changed(self) -> dict[str, int]:
        frame = pl.DataFrame(self.changes)
        was, now = frame["before"].fill_null("").eq(_YES), frame["after"]
        return {
            "removed": int((was & now.eq(_NO)).sum()),
            "added": int((~was & now.eq(_YES)).sum()),
            "unclear": int(now.eq(_UNCLEAR).sum()),
        }


def open_corrected(
    labels: LabelsLike, votes: Any, reading: VotesReading, run: Run
) -> tuple[Labels, VotesReading]:
    """Return the label sets to correct, and how to read the votes on them, with the class list of both.

    The label sets have the notes on how they were read.

    Raises
    ------
    InputError
        As in `open_labels`, or if `labels` names several data sets.
    """
    classes = reading.classes
    folder = Path(votes) if isinstance(votes, str | os.PathLike) else None
    if classes is None and folder is not None and (folder / "classes.parquet").is_file():
        classes = folder / "classes.parquet"
    of_labels = Reading(classes=None if isinstance(classes, int) else classes)
    source = only_source(open_labels(labels, reading=of_labels, run=run), "Answers can correct")
    sets = source.sets() if source.images is None else source.sets().with_labels(source.images)
    if reading.classes is None and classes is None and sets.class_list is not None:
        reading = replace(reading, classes=sets.class_list)
    return replace(with_zeros(sets), notes=tuple(source.misfits.notes(source.name))), reading


def correct_labels(aggregated: Aggregated, labels: Labels) -> CorrectedLabels:
    """Return label sets in which classes that raters were asked about have the state given by the answers.

    Parameters
    ----------
    aggregated : Aggregated
        The answers, combined.
    labels : Labels
        The label sets to correct.

    Raises
    ------
    InputError
        If raters chose one of all classes.
    MatchError
        If the class lists differ, or raters answered about other images.
    """
    _check_alike(aggregated, labels)
    name = labels.name or "the label sets"
    with without_option():
        answered, like = with_ids_like(aggregated.labels, labels.image_id, other_name=name)
    asked = _pairs(pl.DataFrame(answered.table).filter("rated"), aggregated.method)
    images = pl.DataFrame(labels.table)
    other = asked.join(images, on="image_id", how="anti")["image_id"].unique(maintain_order=True)
    if len(other):
        raise MatchError(
            "Raters answered questions about images that are not in the label sets.",
            where=labels.name or None,
            got=f"{len(other):,} images, such as {examples(other.to_arrow().cast(pa.string()))}",
            allowed=f"ids such as {examples(labels.image_id)}",
            do="pass the label sets of all images",
        )
    own = _pairs(images, None)
    kept = own.join(asked, on=_PAIR, how="anti")
    changes = asked.select(*_PAIR, pl.col("state").alias("after")).join(
        own.select(*_PAIR, pl.col("state").alias("before")), on=_PAIR, how="left"
    )
    table = _table(images, pl.concat([kept, asked]), aggregated.method)
    # Results on both can be compared only if the names of the data sets differ.
    own_name = f"{labels.name}-corrected" if labels.name else "corrected"
    corrected = replace(labels, table=table, name=own_name, exclusive=False, notes=())
    matched = (f"{answered.name or 'votes'}: {like.text}",) if like.n else ()
    notes = (*_order_notes(answered, labels), *labels.notes, *aggregated.notes, *matched)
    values = {f.name: getattr(aggregated, f.name) for f in fields(aggregated)}
    return CorrectedLabels(
        **values | {"labels": corrected, "notes": notes},
        corrected=name,
        changes=changes.sort(pl.col("before").fill_null(_NO) == pl.col("after"), maintain_order=True)
        .select(*_PAIR, "before", "after")
        .to_arrow(),
        n_kept=int(kept["state"].eq(_YES).sum()),
    )


_SAMPLE = 2_000
"""Number of images from which the order of classes is judged."""


def _order_notes(answered: Labels, labels: Labels) -> Iterator[str]:
    """Yield that the answers fit the label sets better if the classes are in another order."""
    rows = align(answered.image_id, labels.image_id, left_name="the answers", right_name="the label sets")
    at = np.arange(len(rows.left))
    if len(at) > _SAMPLE:
        at = np.sort(np.random.default_rng(0).choice(at, _SAMPLE, replace=False))
    sets = label_sets(answered).take(rows.left[at])
    p = np.zeros((len(sets), sets.n_classes), np.float32)
    p[sets.rows, sets.classes] = sets.state == YES if sets.p is None else np.nan_to_num(sets.p)
    relation = relate(Case.from_scores(label_sets(labels).take(rows.right[at]), p), {})
    if relation is not None and relation.order:
        yield (
            "the answers do not match the label sets in the present order of the classes (mean correlation "
            f"{relation.correlation:.3f}), but do in another order, so most corrections are probably wrong: "
            "check whether class numbers start at 0 in both, or pass both with class names"
        )


def _check_alike(aggregated: Aggregated, labels: Labels) -> None:
    """Raise an error for votes that do not answer questions about single classes, or of other classes."""
    votes = aggregated.labels
    if aggregated.votes.kind:
        raise InputError(
            "Votes in which raters choose one of all classes cannot correct label sets.",
            where=votes.name or None,
            allowed="answers (yes, no or maybe) to questions about single classes",
        )
    known = votes.class_hash and labels.class_hash and votes.class_hash != labels.class_hash
    if known or votes.n_classes != labels.n_classes:
        raise MatchError(
            "The answers and the label sets have different class lists.",
            where=labels.name or None,
            got=f"{labels.n_classes:,} classes, class list {labels.class_hash or 'unknown'}",
            allowed=f"{votes.n_classes:,} classes, class list {votes.class_hash or 'unknown'}, as in the "
            "answers",
            do="pass the list of all classes as `classes`",
        )


def _pairs(images: pl.DataFrame, method: str | None) -> pl.DataFrame:
    """Return a row for each class of each image, with its state, probability and number of answers."""
    lists = [c for c in ("classes", "state", "p", "n_votes") if c in images.columns]
    rows = images.select("image_id", *lists).explode(lists[0], *lists[1:]).drop_nulls("classes")
    p = pl.col("p") if "p" in lists else pl.col("state").replace_strict(_P, return_dtype=pl.Float32)
    n = pl.col("n_votes") if "n_votes" in lists else pl.lit(0)
    return rows.select(
        "image_id",
        pl.col("classes").cast(pl.Int32).alias("class_id"),
        "state",
        p.cast(pl.Float32).alias("p"),
        n.cast(pl.Int32).alias("n_votes"),
        pl.lit(method is not None).alias("asked"),
    )


def _table(images: pl.DataFrame, pairs: pl.DataFrame, method: str) -> pa.Table:
    """Return the labels table of images with these classes, in the order of their ids."""
    lists = ["classes", "state", "p", "n_votes"]
    grouped = (
        pairs.rename({"class_id": "classes"})
        .sort("image_id", "classes")
        .group_by("image_id")
        .agg(*lists, pl.col("asked").any())
    )
    rated = pl.col("rated").fill_null(True) if "rated" in images.columns else pl.lit(True)
    own = pl.col("method") if "method" in images.columns else pl.lit(None, pl.String)
    table = images.drop(*(c for c in lists if c in images.columns)).join(
        grouped, on="image_id", how="left", maintain_order="left"
    )
    asked = pl.col("asked").fill_null(False)
    table = table.with_columns(
        *(pl.col(c).fill_null([]) for c in lists),
        rated=rated | asked,
        method=pl.when(asked).then(pl.lit(method)).otherwise(own),
    )
    return check(table.drop("asked").to_arrow(), "labels", where="corrected label sets")
