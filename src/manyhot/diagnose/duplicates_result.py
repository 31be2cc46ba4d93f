"""The result on duplicates: tables of pairs, groups and images, lines for the terminal, and a chapter."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from manyhot.console import table_lines
from manyhot.diagnose.duplicate_pairs import DUPLICATE_KINDS
from manyhot.diagnose.duplicates_accuracy import WITHOUT
from manyhot.diagnose.page import DiagnosisResult
from manyhot.errors import InputError
from manyhot.registry import register
from manyhot.report.chapter import (
    Album,
    Chapter,
    NextStep,
    Strip,
    StripPicture,
    Tables,
    in_points,
    listing,
    percent,
    picture,
    rows_of,
    with_ends,
)
from manyhot.report.listings import ColumnHead, Listing, ListingRow
from manyhot.report.text import counted
from manyhot.report.text import metric as metric_text
from manyhot.tables import Row
from manyhot.tables.definitions import COUNT, FLAG, REAL, TEXT, declare_table

DUPLICATES_FOLDER = "duplicate_examples"
"""The folder of pictures, in that of the output."""

PRINTED_PAIRS = 12
"""Pairs that the terminal shows."""

_ACCURACY = ("model", "metric", "without", "all images", "the rest", "difference in points", "n", "rest")

_BETWEEN = "whether the images are in different splits or data sets"
_CONFLICT = "whether the labels differ; null without labels"


def _side(end: str, which: str) -> tuple[Any, ...]:
    return (
        TEXT(f"dataset_{end}", f"data set of the {which} image"),
        TEXT(f"image_{end}", f"id of the {which} image"),
        TEXT.nullable(f"split_{end}", "its split; null if unknown"),
        TEXT.nullable(f"label_{end}", "original label or label set of the image; null if unknown"),
    )


declare_table(
    "duplicate_pairs",
    (
        COUNT("group", "number of the group, from 1; groups with different labels come first"),
        TEXT(
            "kind",
            "what is equal: the bytes of the files, the decoded pixels, or the details after alignment",
            values=DUPLICATE_KINDS,
        ),
        FLAG("mirrored", "whether one image is the mirror image of the other"),
        REAL(
            "overlap",
            "area that both images show divided by the area that either shows; below 1 if one was cropped",
        ),
        REAL("similarity", "correlation of the details where the images overlap; 1 if pixels are equal"),
        FLAG("between", _BETWEEN),
        FLAG.nullable("conflict", _CONFLICT),
        *_side("a", "first"),
        *_side("b", "second"),
    ),
)

declare_table(
    "duplicates",
    (
        COUNT("group", "as in duplicate_pairs"),
        TEXT("dataset", "data set of the image"),
        TEXT("image_id", "id of the image"),
        TEXT("uri", "its address"),
        TEXT.nullable("split", "its split; null if unknown"),
        TEXT.nullable("label", "original label or label set of the image; null if unknown"),
        COUNT("width", "its width in pixels"),
        COUNT("height", "its height in pixels"),
        FLAG("repeated", "whether the group has an earlier image of the same split and data set"),
        FLAG("between", "whether the group has an image in another split or data set"),
        FLAG.nullable("conflict", "whether the group has an image with another label; null without labels"),
        TEXT.optional("picture", "path of a picture, relative to the folder of the table"),
    ),
)


@dataclass(frozen=True, eq=False)
class Duplicates(DiagnosisResult):
    """Images that occur more than once, within and between data sets.

    Attributes
    ----------
    duplicates, duplicate_pairs, duplicate_accuracy : pyarrow.Table
        The tables with these names; see `manyhot.tables.TABLES` for their columns.
    images : pyarrow.Table
        The images of the first data set with the columns `repeated`, `between` and `conflict` of
        `duplicates`, for slices such as ``between=false``.
    n_images : int
        Number of images that were compared, in all data sets.
    notes, metadata, inputs, written
        As in `Result`.
    """

    NAMES = ("duplicates", "duplicate_pairs", "duplicate_accuracy", "images")

    duplicates: pa.Table
    duplicate_pairs: pa.Table
    duplicate_accuracy: pa.Table
    images: pa.Table
    n_images: int

    @classmethod
    def check_out(cls, out: Any, sources: Iterable[object]) -> None:
        """Raise an error if `write` would overwrite an input, or the images table of another command."""
        super().check_out(out, sources)
        folder = Path(out)
        if (folder / "images.parquet").is_file() and not (folder / "duplicate_pairs.parquet").is_file():
            raise InputError(
                "The folder contains the images table of another command.",
                where=folder / "images.parquet",
                do="choose another `out`",
            )

    @property
    def summary(self) -> dict[str, int]:
        """The numbers of images, of groups, and of groups between splits or with different labels."""
        return {"images": self.n_images, **count_groups(self.duplicates.to_pylist())}

    def lines(self) -> Iterator[str]:
        """Yield the answer, the pairs by kind, the first pairs, and accuracy without duplicates."""
        pairs = self.duplicate_pairs.to_pylist()
        yield duplicates_sentence(self.summary)
        if pairs:
            yield ""
            yield from table_lines(
                ("pairs", "within", "between", "mirrored", "cropped"), list(_by_kind(pairs))
            )
            yield ""
            head = ("group", "image", "label", "duplicate", "its label", "equal", "similarity")
            yield from table_lines(head, [_pair_cells(row) for row in pairs[:PRINTED_PAIRS]])
        if len(pairs) > PRINTED_PAIRS:
            yield f"… and {len(pairs) - PRINTED_PAIRS:,} more pairs in the table"
        if accuracy := self.duplicate_accuracy.to_pylist():
            yield from ("", *_on_splits(self.duplicates.to_pylist(), accuracy))
            yield from table_lines(_ACCURACY, [_accuracy_cells(row) for row in accuracy])

    def to_json(self) -> dict[str, Any]:
        """Return the summary, pairs and accuracy, without the images."""
        rows = super().to_json()
        names = ("duplicate_pairs", "duplicate_accuracy", "notes")
        return {"summary": self.summary, **{name: rows[name] for name in names}}


def count_groups(rows: Sequence[Row]) -> dict[str, int]:
    """Return the numbers of groups and of their images, from the rows of ``duplicates``."""
    return {
        "groups": len({r["group"] for r in rows}),
        "images_in_groups": len(rows),
        "groups_between": len({r["group"] for r in rows if r["between"]}),
        "groups_with_conflict": len({r["group"] for r in rows if r["conflict"]}),
        "repeated": sum(r["repeated"] for r in rows),
        "labelled": sum(r["label"] is not None for r in rows),
    }


def duplicates_sentence(counts: dict[str, int]) -> str:
    """Return the answer as a sentence."""
    of = f"{counts['images']:,} images"
    if not counts["groups"]:
        return f"No duplicates were found among {of}."
    n, share = counts["images_in_groups"], percent(counts["images_in_groups"] / counts["images"], 1)
    conflicts = counted(counts["groups_with_conflict"], "group")
    labels = f"{conflicts} with different labels" if counts["labelled"] else "labels are unknown"
    return (
        f"{n:,} of {of} ({share}) are in {counted(counts['groups'], 'group')} of duplicates ("
        f"{counted(counts['groups_between'], 'group')} between splits or data sets, {labels})."
    )


def _by_kind(pairs: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    names = {"bytes": "equal files", "pixels": "equal pixels", "near": "near"}
    for kind in DUPLICATE_KINDS:
        of = [r for r in pairs if r["kind"] == kind]
        counts = (
            sum(not r["between"] for r in of),
            sum(r["between"] for r in of),
            sum(r["mirrored"] for r in of),
            sum(_is_cropped(r) for r in of),
        )
        yield names[kind], *(f"{n:,}" for n in counts)


def _is_cropped(row: Row) -> bool:
    return bool(row["overlap"] < 0.95)


def _what(row: Row) -> str:
    """Return what is equal in a pair, such as ``near, mirrored``."""
    cropped = f"overlap {percent(row['overlap'])}" if _is_cropped(row) else ""
    return ", ".join(filter(None, (row["kind"], "mirrored" if row["mirrored"] else "", cropped)))


def _named(row: Row, end: str) -> str:
    """Return an image with its split or data set, if it is in another than its duplicate."""
    sets = [[row[f"{name}_{e}"] for name in ("dataset", "split")] for e in "ab"]
    own = sets["ab".index(end)]
    place = [own[i] for i in (0, 1) if own[i] and sets[0][i] != sets[1][i]]
    return ": ".join([*place, row[f"image_{end}"]])


def _pair_cells(row: Row) -> tuple[str, ...]:
    sides = (cell for e in "ab" for cell in (_named(row, e), row[f"label_{e}"] or "–"))
    return f"{row['group']:,}", *sides, _what(row), f"{row['similarity']:.2f}"


def _accuracy_cells(row: Row) -> tuple[str, ...]:
    return (
        row["model"],
        metric_text(row["metric"]).label,
        row["without"],
        with_ends(row["value"], row["value_lo"], row["value_hi"], 1),
        with_ends(row["value_without"], row["value_without_lo"], row["value_without_hi"], 1),
        in_points(row["difference"], row["lo"], row["hi"], 2),
        f"{row['n']:,}",
        f"{row['n_without']:,}",
    )


_CONFIRMED = (
    "Each of these pairs was confirmed by its pixels: after one image, or its mirror image, was aligned with "
    "the other, their details agreed."
)

_LEAKS = NextStep(
    "leave out images with a duplicate in another data set or split.",
    "manyhot evaluate DATASET --predictions FOLDER --images duplicates/images.parquet --slice between=false",
)
_REPEATED = NextStep(
    "evaluate only the first image of each group.",
    "manyhot evaluate DATASET --predictions FOLDER --images duplicates/images.parquet --slice repeated=false",
)


def _next(counts: dict[str, int], folder: str) -> NextStep | None:
    """Return the next step if there are duplicates; None for that of the chapter."""
    step = _LEAKS if counts["groups_between"] else _REPEATED if counts["repeated"] else None
    own = shlex.quote(f"{folder}/images.parquet")
    return step and step._replace(command=step.command.replace("duplicates/images.parquet", own))


def _on_splits(rows: Sequence[Row], accuracy: Sequence[Row]) -> list[str]:
    """Return a sentence on which splits the accuracy is of, if there are several."""
    splits = sorted({row["split"] for row in rows if row["split"]})
    if len(splits) < 2 or not accuracy:
        return []
    return [
        f"The accuracy below is that on the images of all splits together ({', '.join(splits)}), including "
        "images that a model may have been trained on."
    ]


@register(
    "chapter",
    "duplicates",
    tables=("duplicates", "duplicate_pairs", "duplicate_accuracy"),
    next=NextStep("evaluate models on these images.", "manyhot evaluate DATASET --predictions FOLDER"),
)
def duplicates_chapter(named: Tables, folder: Path, draw: bool) -> Chapter | None:
    """Return the chapter about duplicates, or None if there is no table ``duplicates``."""
    if "duplicates" not in named or "duplicate_pairs" not in named:
        return None
    from manyhot import tables

    rows, pairs = rows_of(named, "duplicates"), rows_of(named, "duplicate_pairs")
    counts = count_groups(rows)
    n = int(tables.metadata(named["duplicates"]).get("images", 0))
    lead = [duplicates_sentence({"images": max(n, len(rows)), **counts})]
    if pairs:
        lead.append(_CONFIRMED)
    lead += _on_splits(rows, rows_of(named, "duplicate_accuracy"))
    listings = (_accuracy(rows_of(named, "duplicate_accuracy")), _kinds(pairs), _pairs(pairs))
    return Chapter(
        "duplicates",
        "Duplicates",
        "Which images occur more than once",
        tuple(lead),
        (),
        tuple(t for t in listings if t.rows),
        tuple(_albums(rows, pairs, folder)),
        next=_next(counts, folder.name),
    )


def _accuracy(rows: Sequence[Row]) -> Listing:
    heads = (
        ColumnHead("Model", number=False),
        ColumnHead("Metric", number=False),
        ColumnHead("Without", number=False, title="; ".join(f"{k}: {v}" for k, v in WITHOUT.items())),
        ColumnHead("All images"),
        ColumnHead("The rest"),
        ColumnHead("Difference in points"),
        ColumnHead("n"),
        ColumnHead("n of the rest"),
    )
    return listing("duplicate-accuracy", "Accuracy without duplicates", heads, rows, _accuracy_cells)


def _kinds(pairs: Sequence[Row]) -> Listing:
    heads = (
        ColumnHead("Pairs", number=False),
        ColumnHead("Within a split"),
        ColumnHead("Between splits or data sets"),
        ColumnHead("Mirrored"),
        ColumnHead("Cropped"),
    )
    cells = map(ListingRow, _by_kind(pairs)) if pairs else ()
    return Listing("duplicate-kinds", "Pairs by kind", heads, tuple(cells))


def _pairs(pairs: Sequence[Row]) -> Listing:
    heads = (
        ColumnHead("Group"),
        ColumnHead("Image", number=False),
        ColumnHead("Label", number=False),
        ColumnHead("Duplicate", number=False),
        ColumnHead("Its label", number=False),
        ColumnHead("Equal", number=False),
        ColumnHead("Similarity"),
    )
    return listing("duplicate-pairs", "Pairs", heads, pairs, _pair_cells, folded=True)


_ALBUMS = (
    ("conflicts", "Groups with different labels", "At least one of these labels is wrong or incomplete."),
    (
        "leaks",
        "Groups between splits or data sets",
        "A model trained on one split or data set has seen images of the other.",
    ),
    ("others", "Other groups", ""),
)


def _albums(rows: Sequence[Row], pairs: Sequence[Row], folder: Path) -> Iterator[Album]:
    """Yield the groups that have pictures, those with different labels first."""
    mirrored = {r["group"] for r in pairs if r["mirrored"]}
    strips: dict[str, list[Strip]] = {anchor: [] for anchor, *_ in _ALBUMS}
    for group, of in itertools.groupby(rows, key=lambda row: int(row["group"])):
        images = list(of)
        shown = tuple(_picture(row, folder) for row in images if row.get("picture"))
        conflict, between = (any(row[name] for row in images) for name in ("conflict", "between"))
        anchor = "conflicts" if conflict else "leaks" if between else "others"
        rest = f", {len(shown):,} of {len(images):,} images" if len(shown) < len(images) else ""
        title = f"Group {group:,}{', mirrored' if group in mirrored else ''}{rest}"
        strips[anchor] += [Strip(title, shown)] if shown else []
    shown_albums = [album for album in _ALBUMS if strips[album[0]]]
    for anchor, title, text in shown_albums:
        alone = len(shown_albums) == 1 and not text
        yield Album(f"duplicates-{anchor}", "Groups" if alone else title, text, tuple(strips[anchor]))


def _picture(row: Row, folder: Path) -> StripPicture:
    place = ", ".join(filter(None, (row["dataset"], row["split"])))
    size = f"{row['width']:,} × {row['height']:,}"
    mark = row["label"] if row["conflict"] and row["label"] else ""
    text = "; ".join(filter(None, (place, size, "" if mark else row["label"])))
    return picture(folder, row["picture"], row["image_id"], text, mark)
