"""The result on duplicates: tables of pairs, groups and images, lines for the terminal, and a chapter."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.console import table_lines
from manyhot.core.array_types import Bools
from manyhot.core.share_intervals import difference_of_shares, proportion_interval
from manyhot.diagnose.duplicate_images import DUPLICATE_KINDS
from manyhot.diagnose.page import DiagnosisResult
from manyhot.errors import InputError
from manyhot.evaluate.model_answers import ModelAnswers
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
from manyhot.report.listings import ColumnHead, Listing, ListingRow, number_heads, text_heads
from manyhot.report.text import counted
from manyhot.report.text import metric as metric_text
from manyhot.tables import Row, one_chunk
from manyhot.tables.definitions import COUNT, FLAG, REAL, TEXT, bounds, declare_table, interval
from manyhot.tables.frames import null_if_nan
from manyhot.tables.image_ids import ids_like

DUPLICATES_FOLDER = "duplicate_examples"
"""The folder of pictures, in that of the output."""

PRINTED_PAIRS = 12
"""Pairs that the terminal shows."""

_ACCURACY = ("model", "metric", "without", "all images", "the rest", "difference in points", "n", "rest")

_UNKNOWN = "null if the table of splits lacks the split of an image on which this depends"
_BETWEEN = f"whether the images are in different splits or data sets; {_UNKNOWN}"
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
        FLAG.nullable("between", _BETWEEN),
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
        FLAG.nullable(
            "repeated", f"whether the group has an earlier image of the same split and data set; {_UNKNOWN}"
        ),
        FLAG.nullable("between", f"whether the group spans several splits or data sets; {_UNKNOWN}"),
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
        """The numbers of images, of groups, and of groups that span splits or whose labels differ."""
        return {"images": self.n_images, **count_groups(self.duplicates.to_pylist())}

    def lines(self) -> Iterator[str]:
        """Yield the answer, the pairs by kind, the first pairs, and accuracy without duplicates."""
        pairs = self.duplicate_pairs.to_pylist()
        yield duplicates_sentence(self.summary, splits=self.metadata.get("splits", ""))
        if pairs:
            yield ""
            yield from table_lines(("pairs", *_counted(pairs)), list(_by_kind(pairs)))
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
        "groups_unknown": len({r["group"] for r in rows if r["between"] is None}),
        "groups_with_conflict": len({r["group"] for r in rows if r["conflict"]}),
        "repeated": sum(r["repeated"] is True for r in rows),
        "labelled": sum(r["label"] is not None for r in rows),
    }


def duplicates_sentence(counts: dict[str, int], *, splits: str = "") -> str:
    """Return the answer as a sentence; `splits` is "unknown" for one data set without known splits."""
    of = f"{counts['images']:,} images"
    if not counts["groups"]:
        return f"No duplicates were found among {of}."
    n, share = counts["images_in_groups"], percent(counts["images_in_groups"] / counts["images"], 1)
    kinds = ("", "_between", "_unknown", "_with_conflict")
    groups, between, unknown, differ = (counted(counts[f"groups{kind}"], "group") for kind in kinds)
    places = f"{between} between splits or data sets"
    places += f", {unknown} of which some splits are unknown" if counts["groups_unknown"] else ""
    places = f"splits are {splits}" if splits else places
    labels = f"{differ} with different labels" if counts["labelled"] else "labels are unknown"
    all_groups = f"{n:,} of {of} ({share}) are in {groups} of duplicates"
    return f"{all_groups} ({places}, {labels})."


def _is_cropped(row: Row) -> bool:
    return bool(row["overlap"] < 0.95)


_COUNTS: dict[str, tuple[str, Callable[[Row], bool]]] = {
    "within": ("Within a split", lambda row: row["between"] is False),
    "between": ("Between splits or data sets", lambda row: row["between"] is True),
    "unknown": ("Splits unknown", lambda row: row["between"] is None),
    "mirrored": ("Mirrored", lambda row: row["mirrored"]),
    "cropped": ("Cropped", _is_cropped),
}


def _counted(pairs: Sequence[Row]) -> dict[str, str]:
    """Return the names of the columns of `_by_kind`, without unknown splits if there are none."""
    return {
        name: title for name, (title, is_in) in _COUNTS.items() if name != "unknown" or any(map(is_in, pairs))
    }


def _by_kind(pairs: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    names = {"bytes": "equal files", "pixels": "equal pixels", "near": "near"}
    for kind in DUPLICATE_KINDS:
        of = [r for r in pairs if r["kind"] == kind]
        yield names[kind], *(f"{sum(map(_COUNTS[name][1], of)):,}" for name in _counted(pairs))


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
    "manyhot evaluate DATASET --predictions FOLDER --images OUT/images.parquet --slice between=false",
)
_REPEATED = NextStep(
    "evaluate only the first image of each group.",
    "manyhot evaluate DATASET --predictions FOLDER --images OUT/images.parquet --slice repeated=false",
)


def _next(counts: dict[str, int]) -> NextStep | None:
    """Return the next step if there are duplicates; None for that of the chapter."""
    if counts["groups_between"] or counts["groups_unknown"]:
        return _LEAKS
    return _REPEATED if counts["repeated"] else None


def _on_splits(rows: Sequence[Row], accuracy: Sequence[Row]) -> list[str]:
    """Return a sentence on which splits the accuracy is of, if there are several."""
    splits = sorted({row["split"] for row in rows if row["split"]})
    if len(splits) < 2 or not accuracy:
        return []
    return [
        f"The accuracy below is computed on the images of all splits together ({', '.join(splits)}), "
        "including "
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
    about = tables.metadata(named["duplicates"])
    n = int(about.get("images", 0))
    lead = [duplicates_sentence({"images": max(n, len(rows)), **counts}, splits=about.get("splits", ""))]
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
        next=_next(counts),
    )


def _accuracy(rows: Sequence[Row]) -> Listing:
    heads = (
        *text_heads("Model", "Metric"),
        ColumnHead("Without", number=False, title="; ".join(f"{k}: {v}" for k, v in WITHOUT.items())),
        *number_heads("All images", "The rest", "Difference in points", "n", "n of the rest"),
    )
    return listing("duplicate-accuracy", "Accuracy without duplicates", heads, rows, _accuracy_cells)


def _kinds(pairs: Sequence[Row]) -> Listing:
    heads = (
        ColumnHead("Pairs", number=False),
        *number_heads(*_counted(pairs).values()),
    )
    cells = map(ListingRow, _by_kind(pairs)) if pairs else ()
    return Listing("duplicate-kinds", "Pairs by kind", heads, tuple(cells))


def _pairs(pairs: Sequence[Row]) -> Listing:
    heads = (
        ColumnHead("Group"),
        *text_heads("Image", "Label", "Duplicate", "Its label", "Equal"),
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
    (
        "unknown",
        "Groups whose splits are unknown",
        "The table of splits lacks some of these images, so they may be in different splits.",
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
        between = {True: "leaks", None: "unknown", False: "others"}[images[0]["between"]]
        anchor = "conflicts" if any(row["conflict"] for row in images) else between
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


WITHOUT = {
    "between": "images with a duplicate that is, or may be, in another split or data set",
    "repeated": "images that are, or may be, duplicates of an earlier image of their split",
    "conflict": "images with a duplicate of another label",
}
"""What is left out."""

_SHARE, _DIFFERENCE = "its 95 % interval", "the 95 % interval of difference (Newcombe)"

declare_table(
    "duplicate_accuracy",
    (
        TEXT("dataset", "the data set"),
        TEXT("model", "the model"),
        TEXT("metric", "top1 (original label) or real1 (label set)"),
        TEXT(
            "without",
            "which images are left out: those for which this column of images.parquet is true or null",
            values=tuple(WITHOUT),
        ),
        *interval("value", "accuracy on all images", _SHARE, value=REAL),
        *interval("value_without", "accuracy on the images that remain", _SHARE),
        REAL.nullable("difference", "value_without minus value, of the same model"),
        *bounds("lo", "hi", _DIFFERENCE),
        COUNT("n", "number of images"),
        COUNT("n_without", "number of images that remain"),
    ),
)


def accuracy_without(right: Bools, left_out: Bools) -> Row:
    """Return the accuracy of a model with and without some images, and the difference, with intervals.

    Parameters
    ----------
    right, left_out : ndarray of bool, shape (n,)

    Notes
    -----
    Let s be the share of images left out. The accuracy on the rest minus the accuracy on all images is s
    times the difference between the accuracy on the rest and on the images left out. The rest and the images
    left out have no image in common, so the interval is s times Newcombe's interval of their difference.
    """
    n, k, out = len(right), int(right.sum()), int(left_out.sum())
    rest = int(right[~left_out].sum())
    gap = difference_of_shares(np.array([[rest], [k - rest]]), np.array([[n - out], [out]]))
    ends = zip(("difference", "lo", "hi"), gap, strict=True)
    return {
        **_share("value", k, n),
        **_share("value_without", rest, n - out),
        **{name: null_if_nan(float(value[0]) * out / n) for name, value in ends},
        "n": n,
        "n_without": n - out,
    }


def _share(name: str, hits: int, images: int) -> Row:
    lo, hi = (float(end) for end in proportion_interval(hits, images))
    share = hits / images if images else float("nan")
    return {name: null_if_nan(share), f"{name}_lo": null_if_nan(lo), f"{name}_hi": null_if_nan(hi)}


def accuracy_rows(dataset: str, answers: ModelAnswers, images: pa.Table) -> Iterator[Row]:
    """Yield the rows of ``duplicate_accuracy``: the accuracy of each model without each kind of duplicate.

    Parameters
    ----------
    images : pyarrow.Table
        Images with the flags in `WITHOUT`. Answers for other images are ignored.
    """
    own = one_chunk(images["image_id"])
    like = ids_like(answers.image_id, own, name="the labels", other_name="the images").ids
    at = pc.index_in(like, own)
    known = np.flatnonzero(at.is_valid().to_numpy(zero_copy_only=False))
    of = images.take(at.drop_null())
    flags = {name: of[name].fill_null(True).to_numpy() for name in WITHOUT}
    for metric, right in answers.right.items():
        for i, model in enumerate(answers.models):
            for name, out in flags.items():
                if out.any():
                    about = {"dataset": dataset, "model": model, "metric": metric, "without": name}
                    yield {**about, **accuracy_without(right[known, i], out)}
