"""One label set merged from the label sets of several sources, with what each source says."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from pyarrow import compute as pc

from manyhot import tables
from manyhot.console import fact_lines, table_lines
from manyhot.core.agreement import SourceAnswers, conflicting, held_out_measures
from manyhot.core.answers import ANSWERS, MAYBE, NO, SILENT, YES
from manyhot.core.array_types import Bools
from manyhot.files import hashes_of
from manyhot.formats.csv_tables import write_csv
from manyhot.formats.writing import PathLike, check_apart, check_place
from manyhot.reassess.aggregated import Aggregated, labels_path
from manyhot.reassess.answers import TableLike, VotesSource, golden_like, images_like
from manyhot.reassess.label_sources import LabelSource, digest_of
from manyhot.reassess.raters import decimal_text, interval_text
from manyhot.result import sources_of
from manyhot.run import QUIET, Run
from manyhot.tables import Images, Labels, schema, votes_from_table
from manyhot.tables.definitions import (
    COUNT,
    FLAG,
    INT,
    ITS,
    REAL,
    STATES,
    TEXT,
    TEXTS,
    bounds,
    declare_table,
)
from manyhot.tables.frames import null_if_nan, with_column
from manyhot.tables.image_ids import without_option
from manyhot.tables.labels import with_ids_like
from manyhot.tables.state_lists import ragged

SOURCE_METHOD = "source-share"
"""The default method: one vote for each source asked; a maybe is half a yes, and a tie is unclear."""

FEWEST_ALIKE = 20
"""Questions that two sources answer alike, without exception, from which a note is due."""

_OTHERS = "all others"

_SHOWN = ("images", "unusable", "rated", "alone", "questions", "yes", "unclear", "no", "shared", "conflicts")
"""Columns of sources that a terminal shows."""

declare_table(
    "source_answers",
    (
        TEXT("image_id", "as in images"),
        INT("class_id", "as in classes"),
        INT.nullable("label", "the original label of the image; null if unknown"),
        REAL(
            "p",
            "with the method source-share, the share of the asked sources that say yes; otherwise, the "
            "probability",
        ),
        TEXT("state", "state of the class in the merged label set", values=STATES),
        FLAG("conflict", "whether one source says yes and another says no"),
        TEXTS("yes", "sources that say yes"),
        TEXTS("unclear", "sources that say unclear"),
        TEXTS("no", "sources that say no"),
        TEXTS("not_asked", "sources with answers about the image that were not asked about the class"),
    ),
)

declare_table(
    "sources",
    (
        TEXT("source", "the source"),
        COUNT("images", "images in the label sets of the source"),
        COUNT("unusable", "images that the source leaves out"),
        COUNT("rated", "images with an answer"),
        COUNT("alone", "images about which only this source has answers"),
        COUNT("classes", "classes that the source was asked about, on any image"),
        COUNT("questions", "(image, class) pairs that the source answers"),
        COUNT("yes", "pairs to which the source says yes"),
        COUNT("unclear", "pairs to which the source says unclear"),
        COUNT("no", "pairs to which the source says no"),
        COUNT("shared", "pairs that another source answers, too"),
        COUNT("conflicts", "pairs for which the source says yes and another source says no, or vice versa"),
        TEXT.nullable("asked", "what the raters of the source were asked; null if unknown"),
        TEXT.nullable("licence", "licence of the labels, from the catalogue; null if unknown"),
        TEXT.nullable("citation", "publication to cite, from the catalogue; null if unknown"),
    ),
)

declare_table(
    "held_out",
    (
        TEXT("source", "the source whose answers are predicted"),
        TEXT(
            "others",
            f"the source that predicts the answers, or {_OTHERS!r}, the majority of the other sources",
        ),
        TEXT("measure", "precision, recall, specificity or kappa; see `manyhot.core.agreement`"),
        REAL.nullable("value", "the value; null if undefined"),
        *bounds("lo", "hi", f"{ITS} over images"),
        COUNT("n", "(image, class) pairs that count"),
        COUNT("n_skipped", "other pairs that both sides answer"),
        COUNT("n_images", "images of the pairs that count"),
    ),
)


@dataclass(frozen=True, eq=False)
class MergedLabels(Aggregated):
    """One label set merged from several sources.

    Attributes
    ----------
    source_answers, sources, held_out : pyarrow.Table
        The tables of each source's answers about each (image, class) pair, of what each source was asked, and
        of how well the other sources predict its answers.
    version : str
        A hash of the answers of the sources and of the rule: 12 hexadecimal digits.
    """

    NAMES = ("labels", "source_answers", "sources", "held_out")
    TARGET = (
        "FILE",
        "Parquet file of the labels, or a folder. Tables about sources are written next to the labels.",
    )

    source_answers: pa.Table
    sources: pa.Table
    held_out: pa.Table
    version: str

    def to_json(self) -> dict[str, Any]:
        """Return the counts, the rule, the sources, how well sources predict each other, and the notes."""
        rows = {name: getattr(self, name).to_pylist() for name in ("sources", "held_out")}
        return {**super().to_json(), **self._conflicts(), **rows, "version": self.version}

    def lines(self) -> Iterator[str]:
        """Yield the numbers of answers, labels and conflicts, and a row for each source."""
        n, conflicts = self._counts(), self._conflicts()
        pairs = f"{n['questions']:,} (image, class) pairs of {n['rated']:,} images"
        on = f"on {n['images'] - n['empty']:,} of {n['images']:,} images, {n['multi']:,} with two or more"
        yield from fact_lines(
            [
                ("answers", f"{n['votes']:,}", f"of {n['raters']:,} sources on {pairs}"),
                ("labels", f"{n['labels']:,}", on),
                ("not rated", f"{n['unrated']:,}", "images, which have their original label"),
                ("conflicts", f"{conflicts['conflicts']:,}", _conflicts_text(len(self.sources), **conflicts)),
                ("version", self.version, f"of the answers and the rule, {self.method}"),
                *self._golden_facts(),
            ]
        )
        yield ""
        cells = [(r["source"], *(f"{r[h]:,}" for h in _SHOWN)) for r in self.sources.to_pylist()]
        yield from table_lines(("source", *_SHOWN), cells)
        yield ""
        yield from table_lines(
            ("source", "predicted by", "measure", "value", "95 % interval", "n"),
            [
                _held_out_cells(row)
                for row in self.held_out.to_pylist()
                if row["n"] > 0 and (row["others"] == _OTHERS or len(self.sources) == 2)
            ],
        )
        yield "kappa: Cohen's, over the answers yes and no; pairs that a source calls unclear are left out"

    def write(self, out: PathLike, *, run: Run = QUIET) -> list[Path]:
        """Write the labels and, next to them, tables of the sources, their answers and their agreement.

        The files are ``labels.parquet``, ``labels-answers.parquet``, ``labels-sources.csv`` and
        ``labels-held-out.csv``. `out` is a folder or the path of the labels file.
        """
        self.check_out(out, ())
        files, inputs = _files(out), self.inputs
        about = {**self.labels.about(), **self.metadata}
        labels, answers = files["labels"], files["source_answers"]
        check_place(labels, "labels")
        tables.write(self.labels.table, labels, "labels", call=run.call, inputs=inputs, about=about)
        own = {"set_version": self.version}
        tables.write(self.source_answers, answers, "source_answers", call=run.call, inputs=inputs, about=own)
        small = [write_csv(getattr(self, name), files[name]) for name in ("sources", "held_out")]
        return [labels, answers, *small]

    @classmethod
    def check_out(cls, out: PathLike, sources: Iterable[object]) -> None:
        """Raise an error if `write` would overwrite an input."""
        super().check_out(out, sources)
        files = _files(out)
        made = {path.stem for name, path in files.items() if name != "labels"}
        for path in files.values():
            check_apart(sources_of(sources, made), path)

    def _conflicts(self) -> dict[str, int]:
        both = self.source_answers.filter(self.source_answers["conflict"])
        return {"conflicts": len(both), "unclear": both["state"].to_pylist().count("unclear")}


def _conflicts_text(n_sources: int, conflicts: int, unclear: int) -> str:
    """Return what conflicts are. Between two sources, each is a tie."""
    what = "pairs on which one source says yes and another no"
    if conflicts == unclear > 0:
        return f"{what}; all are {'ties, and ' if n_sources == 2 else ''}unclear"
    return f"{what}, {unclear:,} of them unclear"


def _files(out: PathLike) -> dict[str, Path]:
    path = labels_path(out)
    ends = {"source_answers": "-answers.parquet", "sources": "-sources.csv", "held_out": "-held-out.csv"}
    return {"labels": path, **{name: path.with_name(path.stem + end) for name, end in ends.items()}}


def _held_out_cells(row: dict[str, Any]) -> tuple[str, ...]:
    value = "–" if row["value"] is None else decimal_text(row["value"])
    ends = interval_text(row["lo"], row["hi"])
    return row["source"], row["others"], row["measure"], value, ends, f"{row['n']:,}"


# Sources as raters.


def votes_of_sources(
    sources: Sequence[LabelSource], golden: TableLike, images: TableLike, notes: tuple[str, ...]
) -> VotesSource:
    """Return the answers of sources as votes, in which each source is a rater.

    Raises
    ------
    InputError, MatchError
        If golden answers or images cannot be read, or the original labels in `images` differ from those of
        the sources.
    """
    answers = pl.concat(one.answers.with_columns(rater_id=pl.lit(one.name)) for one in sources)
    names = pl.Series(ANSWERS).to_arrow()
    first = next((one.labels for one in sources if one.labels.class_hash), sources[0].labels)
    table = pa.table(
        {
            "image_id": answers["image_id"].to_arrow().cast(pa.string()),
            "class_id": answers["class_id"].to_arrow(),
            "rater_id": answers["rater_id"].to_arrow().cast(pa.string()),
            "answer": names.take(answers["answer"].to_arrow()).cast(pa.string()),
        }
    )
    votes = votes_from_table(table, name="merged", n_classes=first.n_classes, class_hash=first.class_hash)
    whole = _images(sources)
    if images is not None:
        shown = images_like(images, first.class_list)
        with without_option():
            shown, _ = with_ids_like(shown, whole.image_id, other_name="the sources")
        whole = shown.with_labels(whole)
    inputs = {name: digest for one in sources for name, digest in one.inputs.items()}
    votes = replace(votes, class_list=first.class_list)
    return VotesSource(
        votes,
        None if golden is None else golden_like(golden, first.class_list),
        whole,
        inputs={**inputs, **hashes_of((golden, images))},
        name="merged",
        notes=notes,
        of_sources=True,
    )


def _images(sources: Sequence[LabelSource]) -> Images:
    """Return the images of all sources in the order of their ids, with original labels where any has them."""
    whole = (
        pl.concat(one.images for one in sources)
        .group_by("image_id")
        .agg(pl.col("label").drop_nulls().first())
        .sort("image_id")
    )
    columns = {"image_id": whole["image_id"].to_arrow().cast(pa.string())}
    if whole["label"].null_count() < len(whole):
        columns["label"] = whole["label"].to_arrow()
    return Images(pa.table(columns), "the sources")


def merge_sources(done: Aggregated, sources: Sequence[LabelSource]) -> MergedLabels:
    """Return the label sets of an aggregation of `votes_of_sources`, with the answers of each source."""
    by_source = _answers_by_source(done, sources)
    conflict = conflicting(by_source)
    answers = _source_answers(done, by_source, conflict, sources)
    listed, notes = _sources_table(done, by_source, conflict, sources), _notes(done, by_source, sources)
    rule = f"{done.method}, threshold {done.threshold:g}, unclear from {done.unclear_from:g}"
    version = _version(done.labels, rule, sources)
    held = _held_out_table(done, by_source, [one.name for one in sources])
    rows = {name: json.dumps(table.to_pylist()) for name, table in (("sources", listed), ("held_out", held))}
    labels = _with_conflicts(_usable(done.labels, sources), answers)
    about_raters = done.raters, done.curve, done.matrices
    return MergedLabels(
        *(labels, done.votes, done.result, done.method, done.levels, *about_raters),
        source_answers=answers,
        sources=listed,
        held_out=held,
        version=version,
        notes=(*done.notes, *notes),
        metadata={**done.metadata, "set_version": version, **rows},
        inputs=done.inputs,
    )


def _version(labels: Labels, rule: str, sources: Sequence[LabelSource]) -> str:
    """Return a hash of the rule, of what sources say, and of an images table that adds to the sources."""
    content = [rule, *sorted(one.version for one in sources)]
    columns = [name for name in ("image_id", "label") if name in labels.table.column_names]
    images = pl.DataFrame(labels.table.select(columns)).sort("image_id")
    if not images.equals(pl.DataFrame(_images(sources).table)):
        content.append(digest_of(images))
    return hashlib.sha256("\n".join(content).encode()).hexdigest()[:12]


def _answers_by_source(done: Aggregated, sources: Sequence[LabelSource]) -> SourceAnswers:
    """Return what each source says to each question, shape (Q, S), in the order of the sources."""
    votes = done.votes
    place = {name: n for n, name in enumerate(votes.rater_id.to_pylist())}
    by_source = np.full((votes.n_questions, len(place)), SILENT, np.int8)
    by_source[votes.question, votes.rater] = votes.answer
    return by_source[:, [place[one.name] for one in sources]]


def _source_answers(
    done: Aggregated, by_source: SourceAnswers, conflict: Bools, sources: Sequence[LabelSource]
) -> pa.Table:
    votes, names = done.votes, pa.array([one.name for one in sources], pa.string())
    about_image = np.zeros((len(votes.images), len(names)), bool)
    np.logical_or.at(about_image, votes.image, by_source != SILENT)
    not_asked = about_image[votes.image] & (by_source == SILENT)
    lists = {
        "yes": by_source == YES,
        "unclear": by_source == MAYBE,
        "no": by_source == NO,
        "not_asked": not_asked,
    }
    states = (done.p >= done.unclear_from).astype(np.int8) + (done.p >= done.threshold)
    images = done.labels.table
    label = pa.nulls(votes.n_questions, pa.int32())
    if "label" in images.column_names:
        label = pc.take(images["label"], pc.index_in(votes.image_id, done.labels.image_id))
    columns = {
        "image_id": votes.image_id,
        "class_id": votes.class_id,
        "label": label,
        "p": done.p,
        "state": pa.DictionaryArray.from_arrays(states, list(STATES)).cast(pa.string()),
        "conflict": conflict,
        **{k: ragged(where.sum(1), names.take(pa.array(np.nonzero(where)[1]))) for k, where in lists.items()},
    }
    return pa.table(columns, schema=schema("source_answers"))


def _sources_table(
    done: Aggregated, by_source: SourceAnswers, conflict: Bools, sources: Sequence[LabelSource]
) -> pa.Table:
    asked = by_source != SILENT
    shared = asked.sum(1) > 1
    n_images = len(done.votes.images)
    rated = np.stack([np.bincount(done.votes.image[a], minlength=n_images) > 0 for a in asked.T], 1)
    alone = rated & (rated.sum(1) == 1)[:, None]
    rows = [
        {
            "source": one.name,
            "images": len(one.images),
            "unusable": int((~one.images["usable"]).sum()),
            "rated": int(rated[:, s].sum()),
            "alone": int(alone[:, s].sum()),
            "classes": len(np.unique(done.votes.class_id[asked[:, s]])),
            "questions": int(asked[:, s].sum()),
            "yes": int((by_source[:, s] == YES).sum()),
            "unclear": int((by_source[:, s] == MAYBE).sum()),
            "no": int((by_source[:, s] == NO).sum()),
            "shared": int((asked[:, s] & shared).sum()),
            "conflicts": int((conflict & asked[:, s] & (by_source[:, s] != MAYBE)).sum()),
            "asked": one.question or None,
            "licence": _of_entries(one, "licence", ", "),
            "citation": _of_entries(one, "citation", " "),
        }
        for s, one in enumerate(sources)
    ]
    return pa.Table.from_pylist(rows, schema("sources"))


def _of_entries(source: LabelSource, name: str, between: str) -> str | None:
    """Return what the catalogue says about the published data of a source; null if nothing."""
    told = dict.fromkeys("not recorded" if e is None else str(getattr(e, name)) for e in source.about)
    return None if set(source.about) == {None} else between.join(told)


def _held_out_table(done: Aggregated, by_source: SourceAnswers, names: Sequence[str]) -> pa.Table:
    rows = []
    every = np.arange(len(names))
    for source, name in enumerate(names):
        others = every[every != source]
        by = {names[other]: np.array([other]) for other in others}
        for other, predicting in {**by, **({_OTHERS: others} if len(others) > 1 else {})}.items():
            for found in held_out_measures(by_source, done.votes.image, source, predicting):
                values = {end: null_if_nan(getattr(found, end)) for end in ("value", "lo", "hi")}
                counts = {"n": found.n, "n_skipped": found.n_skipped, "n_images": found.n_images}
                rows.append({"source": name, "others": other, "measure": found.name, **values, **counts})
    return pa.Table.from_pylist(rows, schema("held_out"))


def _usable(labels: Labels, sources: Sequence[LabelSource]) -> Labels:
    """Return the labels without images that no source finds usable."""
    flags = pl.concat(one.images.select("image_id", "usable") for one in sources)
    usable = flags.group_by("image_id").agg(pl.col("usable").any()).filter("usable")["image_id"]
    is_usable = pc.is_in(labels.image_id, usable.to_arrow().cast(pa.string()))
    both = pc.and_(labels.table["usable"], is_usable)
    return replace(labels, table=with_column(labels.table, "usable", both))


def _with_conflicts(labels: Labels, answers: pa.Table) -> Labels:
    """Return the labels with the sources of each image, and the classes on which they conflict."""
    frame = pl.DataFrame(answers.select(["image_id", "class_id", "conflict", "yes", "unclear", "no"]))
    by_image = (
        frame.group_by("image_id")
        .agg(
            pl.concat_list("yes", "unclear", "no").explode().drop_nulls().unique().sort().alias("sources"),
            pl.col("class_id").filter("conflict").sort().alias("conflicts"),
        )
        .with_columns(pl.col("image_id").cast(pl.String))
    )
    ids = pl.DataFrame({"image_id": labels.image_id})
    joined = ids.join(by_image, on="image_id", how="left", maintain_order="left")
    table = labels.table
    for name, kind in (("sources", pa.string()), ("conflicts", pa.int32())):
        column = joined[name].fill_null([]).to_arrow().cast(pa.list_(kind))
        table = table.append_column(name, column)
    return replace(labels, table=table)


def _notes(done: Aggregated, by_source: SourceAnswers, sources: Sequence[LabelSource]) -> Iterator[str]:
    """Yield what limits a merge: sources with one answer only, and sources that may not be independent."""
    asked, names = by_source != SILENT, [one.name for one in sources]
    for own, answers, name in zip(asked.T, by_source.T, names, strict=True):
        for only, never, code in (("yes", "no", YES), ("no", "yes", NO)):
            if (answers[own] == code).all():
                yield f"{name} answers {only} and never {never}: unlisted classes count as not asked"
        if not (own & (asked.sum(1) > 1)).any():
            yield f"{name} shares no (image, class) pair with another source, so its answers are unconfirmed"
    for a, b in itertools.combinations(range(len(names)), 2):
        both = asked[:, a] & asked[:, b]
        if both.sum() >= FEWEST_ALIKE and (by_source[both, a] == by_source[both, b]).all():
            yield (
                f"{names[a]} and {names[b]} agree on all {both.sum():,} pairs that both answer: if they are "
                "not independent, join them with +, so that they count as one source"
            )
    n_unasked = pc.sum(pc.equal(pc.list_flatten(done.labels.table["n_votes"]), 0)).as_py()
    if n_unasked:
        stay = "original labels that no source was asked about stay in the label sets, with n_votes 0"
        yield f"{stay}: {n_unasked:,}"
