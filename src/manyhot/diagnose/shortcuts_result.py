"""Results on shortcuts: tables of pairs and predictions, lines for the terminal, and a chapter."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot import tables
from manyhot.console import table_lines
from manyhot.diagnose.page import DiagnosisResult
from manyhot.diagnose.pixels.removal import FILL_NAMES
from manyhot.diagnose.shortcut_marks import (
    MIN_GAP,
    MIN_LOST,
    NO_CONTROL,
    SHORTCUT_MARKS,
    TESTED,
    about_control,
    clearest_loss,
    conclusion,
    outcomes,
    pair_key,
    smaller_losses,
    step_without,
    untested_lines,
    with_marks,
)
from manyhot.registry import register
from manyhot.report.chapter import (
    MAX_PAIRS,
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
    rows_by,
    rows_of,
    testable,
    with_ends,
)
from manyhot.report.figure import Figure
from manyhot.report.listings import ColumnHead, Listing, text_heads
from manyhot.report.text import counted
from manyhot.tables import Row, RowDict
from manyhot.tables.definitions import CONTROLS, COUNT, FLAG, INT, ITS, REAL, TEXT, declare_table, interval

FILLS: tuple[Literal["grey", "inpaint"], ...] = ("grey", "inpaint")
"""What a companion is replaced with."""

PRINTED_PAIRS = 12
"""Pairs that the terminal shows."""

_HEAD = ("main", "without", "fill", "images", "flips", "lost", "control", "difference in points", "")

_NO_INTERVAL = (
    "means are computed over pairs, and have no interval, because all pairs with enough images are included"
)

_WILSON = f"{ITS} (Wilson)"
_NEWCOMBE = f"{ITS} (Newcombe)"
_BOOTSTRAP = f"{ITS} (bootstrap)"

declare_table(
    "shortcuts",
    (
        TEXT("model", "the model"),
        INT("main", "the class that is predicted"),
        INT("companion", "the other class, which is removed from the images"),
        TEXT("main_name", "name of main"),
        TEXT("companion_name", "name of companion"),
        TEXT(
            "fill", "how the place of the companion is filled: with a grey box or by inpainting", values=FILLS
        ),
        TEXT.nullable("skipped", "the reason why the pair was not tested; null if it was tested"),
        TEXT("decision", "when a class counts as predicted"),
        COUNT("both", "number of images with main and the companion"),
        COUNT("main_only", "number of images with main but without the companion"),
        COUNT("companion_only", "number of images with the companion but without main"),
        COUNT(
            "neither",
            "number of images with neither class. If the state of either class is unknown, an image is in "
            "none of the four splits",
        ),
        COUNT.nullable("n", "number of images with both classes from which the companion could be removed"),
        *interval(
            "flips",
            "share of the n images on which the prediction of main changes without the companion",
            _WILSON,
        ),
        *interval(
            "lost",
            "share of the n images on which main is predicted with the companion but not without "
            "it; the other flips are gains",
            _WILSON,
        ),
        REAL.nullable("score_drop", "mean fall of the score of main"),
        COUNT.nullable("n_control", "number of the n images that have room for a control"),
        *interval(
            "control",
            "share of the n_control images on which the prediction of main changes if a region of the same "
            "shape elsewhere is filled",
            _WILSON,
        ),
        *interval(
            "control_lost",
            "share of the n_control images on which main is predicted originally but not in the control",
            _WILSON,
        ),
        REAL.nullable(
            "excess", "share of the n_control images that are lost without the companion, minus control_lost"
        ),
        REAL.nullable(
            "lo",
            "lower end of the 95 % interval of excess (Newcombe, paired). Marked pairs come first; "
            "otherwise, rows are sorted by this column (by lost_lo for pairs without a control)",
        ),
        REAL.nullable("hi", "upper end of the 95 % interval of excess (Newcombe, paired)"),
        FLAG.nullable(
            "shortcut",
            "whether, with this fill, lost is at least the threshold and lo is above 0; null if n_control is "
            f"below {CONTROLS}, so that there is no control",
        ),
        TEXT.optional(
            "mark",
            "why the pair is marked, for all fills together (one fill is enough); null if it is not marked. "
            f"A gap marks a pair if its lower end is at least {MIN_GAP:g}",
            values=SHORTCUT_MARKS,
        ),
        REAL.nullable("predicted_both", "recall of main on images with both classes"),
        REAL.nullable("predicted_main_only", "recall of main on images with main but without the companion"),
        REAL.nullable(
            "predicted_companion_only",
            "share of the images with only the companion that are predicted as main",
        ),
        REAL.nullable(
            "predicted_neither", "share of the images with neither class that are predicted as main"
        ),
        *interval("recall_gap", "predicted_both minus predicted_main_only", _NEWCOMBE),
        *interval("hallucination_gap", "predicted_companion_only minus predicted_neither", _NEWCOMBE),
        *interval("ap", "average precision of main on the images of the four splits", _BOOTSTRAP),
        *interval(
            "ap_balanced",
            "average precision if the companion were as frequent with main as without it",
            _BOOTSTRAP,
        ),
    ),
    renamed={
        "more": "excess",
        "fall": "score_drop",
        **{
            f"found_{split}": f"predicted_{split}"
            for split in ("both", "main_only", "companion_only", "neither")
        },
    },
)

declare_table(
    "shortcut_examples",
    (
        INT("main", "as in shortcuts"),
        INT("companion", "as in shortcuts"),
        TEXT("main_name", "name of main"),
        TEXT("companion_name", "name of companion"),
        TEXT("fill", "as in shortcuts", values=FILLS),
        TEXT("image_id", "id of an image with both"),
        FLAG("flipped", "whether the prediction of the class main changes if the companion is removed"),
        FLAG.nullable(
            "flipped_control",
            "whether the prediction of main changes in the control; null if there was no room for a control",
        ),
        REAL("score_before", "score of main on the original image"),
        REAL("score_after", "score of main without the companion"),
        REAL.nullable("score_control", "score of main in the control; null if there is none"),
        TEXT.optional("before", "path of a picture of the image, relative to the folder of the table"),
        TEXT.optional("after", "path of a picture without the companion"),
        TEXT.optional("control", "path of a picture of the control"),
    ),
)

_WIDTH = 100
"""Columns of the terminal, as wide as the table of pairs."""


@dataclass(frozen=True, eq=False)
class Shortcuts(DiagnosisResult):
    """How often predictions of one class of a pair change when the other is removed, with examples.

    Attributes
    ----------
    shortcuts, shortcut_examples : pyarrow.Table
        The tables with these names; see `manyhot.tables.TABLES` for their columns.
    min_lost : float
        Minimum share of images on which the main class must be lost for a pair to be called a shortcut.
    notes, metadata, inputs, written
        As in `Result`.
    """

    NAMES = ("shortcuts", "shortcut_examples")

    shortcuts: pa.Table
    shortcut_examples: pa.Table
    min_lost: float = MIN_LOST

    @property
    def summary(self) -> list[RowDict]:
        """The numbers of tested pairs and of shortcuts for each fill, with mean shares of flips and losses.

        The summary also contains the median share of flips, the means for controls, and the number of pairs
        for which no control is possible. It states how many of the latter lose at least `min_lost`, and the
        largest share that one of them loses.
        """
        tested = self.shortcuts.filter(pc.is_null(self.shortcuts["skipped"]))
        rows = []
        for fill in FILLS:
            of = tested.filter(pc.equal(tested["fill"], fill))
            if not len(of):
                continue
            bare = [r["lost"] for r in of.to_pylist() if not testable(r)]
            rows.append(
                {
                    "fill": fill,
                    "pairs": len(of),
                    "mean": pc.mean(of["flips"]).as_py(),
                    "median": float(np.median(of["flips"].to_numpy())),
                    "mean_control": pc.mean(of["control"]).as_py(),
                    "mean_lost": pc.mean(of["lost"]).as_py(),
                    "mean_control_lost": pc.mean(of["control_lost"]).as_py(),
                    "shortcuts": of["shortcut"].to_pylist().count(True),
                    "not_testable": len(bare),
                    "lost_no_control": sum(lost >= self.min_lost for lost in bare),
                    "not_testable_lost": max(bare, default=None),
                }
            )
        return rows

    def lines(self) -> Iterator[str]:
        """Yield the answer, a summary, the first pairs, and the reasons why other pairs were not tested."""
        rows = with_marks(self.shortcuts.to_pylist(), self.min_lost)
        tested = [r for r in rows if r["skipped"] is None]
        for said in conclusion(rows, self.min_lost):
            yield from textwrap.wrap(said, _WIDTH, subsequent_indent="  ")
        if tested:
            yield from self._tested_lines(tested)
        yield from untested_lines(rows, self.min_lost)

    def _tested_lines(self, tested: Sequence[Row]) -> Iterator[str]:
        yield f"{tested[0]['model']}; predicted: {tested[0]['decision']}"
        for one in self.summary:
            yield self._summary_line(one)
            if one["not_testable"]:
                yield f"{one['fill']}: {_untestable(one, self.min_lost)}"
        yield _NO_INTERVAL
        yield ""
        yield from table_lines(_HEAD, [_cells(row, self.min_lost) for row in tested[:PRINTED_PAIRS]])
        if len(tested) > PRINTED_PAIRS:
            yield f"… and {len(tested) - PRINTED_PAIRS:,} more rows in the table"
        yield ""

    def _summary_line(self, one: RowDict) -> str:
        control, control_lost = (_mean(one[name]) for name in ("mean_control", "mean_control_lost"))
        flips = f"flips {one['mean']:.3f} (median {one['median']:.3f}, controls {control})"
        lost = f"lost {one['mean_lost']:.3f} (controls {control_lost})"
        of = f" of {one['pairs'] - one['not_testable']:,}" if one["not_testable"] else ""
        marked = f"{one['shortcuts']:,}{of} from {self.min_lost:g} on"
        return f"{one['fill']}: {counted(one['pairs'], 'pair')}, {flips}, {lost}; {marked}"

    def to_json(self) -> dict[str, Any]:
        """Return pairs and summary without examples, as printed by manyhot diagnose shortcuts --json."""
        rows = super().to_json()
        return {"shortcuts": rows["shortcuts"], "summary": self.summary, "notes": self.notes}


def _untestable(one: RowDict, min_lost: float) -> str:
    """Return how many pairs lose much without controls to compare with."""
    lost = f"{one['lost_no_control']:,} lost {min_lost:.0%} or more, the most {one['not_testable_lost']:.1%}"
    return f"no control is possible for {counted(one['not_testable'], 'pair')}; {lost}"


def _mean(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _cells(row: Row, min_lost: float) -> tuple[str, ...]:
    control, more = "–", "–"
    if row["control_lost"] is not None:
        among = "" if row["n_control"] == row["n"] else f" of {row['n_control']:,}"
        control = f"{_share(row, 'control_lost')}{among}"
        more = f"{100 * row['excess']:+.1f} ({100 * row['lo']:+.1f} to {100 * row['hi']:+.1f})"
    names = (row["main_name"], row["companion_name"], row["fill"], f"{row['n']:,}")
    marked = (row["mark"] or about_control(row, min_lost)).removesuffix(" possible")
    return (*names, _share(row, "flips"), _share(row, "lost"), control, more, marked)


def _share(row: Row, name: str) -> str:
    """Return a share with its interval, without decimals, so that a row fits the terminal."""
    value, lo, hi = (100 * row[f"{name}{end}"] for end in ("", "_lo", "_hi"))
    return f"{value:.0f}% ({lo:.0f}–{hi:.0f})"


@register(
    "chapter",
    "shortcuts",
    tables=("shortcuts", "shortcut_examples"),
    next=NextStep(
        "look for shortcuts that have no boxes.", "manyhot diagnose groups DATASET --predictions FOLDER"
    ),
)
def shortcuts_chapter(named: Tables, folder: Path, draw: bool) -> Chapter | None:
    """Return the chapter about reliance on companions, or None if there is no table ``shortcuts``."""
    if "shortcuts" not in named:
        return None
    min_lost = _threshold(named["shortcuts"])
    rows = with_marks(rows_of(named, "shortcuts"), min_lost)
    tested = [r for r in rows if r["skipped"] is None and testable(r)]
    marked = [r for r in rows if r["mark"]]
    small = smaller_losses(rows)
    answer = f"{' '.join(conclusion(rows, min_lost))}{'' if marked or small else clearest_loss(tested)}"
    method = (
        "A pair is marked if, without the second class, the first is no longer predicted on at least "
        f"{percent(min_lost)} of the images, and on more of them than in the control (95 % interval of the "
        "difference above 0). In the control, a region of the same shape elsewhere is filled, because any "
        "change to an image flips some predictions. If no control is possible, the loss alone marks a pair, "
        "and the mark states this. A gap between original images with and without the second class also "
        f"marks a pair if its interval is above {100 * MIN_GAP:.0f} points. With several fills, one is "
        "enough to mark a pair."
    )
    return Chapter(
        "shortcuts",
        "Shortcuts",
        "Which predictions depend on other objects in the image",
        (answer, *_untested(rows, min_lost)),
        tuple(_draw_shortcuts(named["shortcuts"])) if draw else (),
        tuple(_flip_tables(rows, min_lost)),
        tuple(_albums(rows_of(named, "shortcut_examples"), folder)),
        next=_next(marked or small),
        method=(method,),
    )


def _next(marked: Sequence[Row]) -> NextStep | None:
    """Return how to remove the first shortcut, or None for the step of the chapter."""
    if not marked:
        return None
    main, companion = marked[0]["main_name"], marked[0]["companion_name"]
    return step_without(main, companion, f"{companion} to predict {main}")


def _untested(rows: Sequence[Row], min_lost: float) -> Iterator[str]:
    """Yield one paragraph that counts the pairs from whose images nothing was removed, if there are any."""
    if lines := "; ".join(untested_lines(rows, min_lost)):
        yield f"{lines[0].upper()}{lines[1:]}."


def _threshold(table: pa.Table) -> float:
    return float(tables.metadata(table).get("threshold", MIN_LOST))


_FLIPS = (
    *text_heads("Class", "Without", "Model", "By"),
    ColumnHead("Images"),
    ColumnHead(
        "Flipped", title="Share of images on which the prediction of the class changes without the companion"
    ),
    ColumnHead(
        "Lost", title="Share of images on which the class is no longer predicted without the companion"
    ),
    ColumnHead(
        "Control",
        title="Share of images on which the class is no longer predicted if a region of the same shape "
        "elsewhere is filled, and the number of images with room for this region if some have no room",
    ),
    ColumnHead(
        "Difference, points",
        title="Share lost minus share lost in the control, on the images with room for a control",
    ),
    ColumnHead("Recall gap, points", title="Recall with the companion minus recall without it"),
    ColumnHead(
        "Hallucination gap, points",
        title="False-positive rate with the companion minus false-positive rate without it",
    ),
    ColumnHead("AP", title="Average precision"),
    ColumnHead(
        "AP, balanced",
        title="Average precision if the companion were as frequent with the class as without it",
    ),
    ColumnHead("Marked", number=False),
)

_SKIPPED = (
    *text_heads("Class", "Without"),
    ColumnHead("Images with both"),
    ColumnHead("Why", number=False),
    ColumnHead("Recall gap, points", title="Recall with the companion minus recall without it"),
)


def _flip_tables(rows: Sequence[Row], min_lost: float) -> list[Listing]:
    """Return the lists of tested pairs, pairs without a possible control, and others: each pair is in one.

    A pair that is marked by its gaps alone has one row, because no fill was used.
    """
    of = outcomes(rows, min_lost)
    once = [r for r in rows if r["skipped"] is None or r["fill"] == rows[0]["fill"]]
    tested, bare = ([r for r in once if of[pair_key(r)] == state] for state in (TESTED, NO_CONTROL))
    rest = {pair_key(r): r for r in rows if r["skipped"] is not None and of[pair_key(r)] != TESTED}

    def flip(r: Row) -> tuple[str, ...]:
        return _flip(r, min_lost)

    made = [
        listing("pairs", "Pairs that were tested", _FLIPS, tested, flip),
        listing("no-control", "Pairs without a possible control", _FLIPS, bare, flip),
        listing("untested", "Pairs that were not tested", _SKIPPED, rest.values(), _skip, folded=True),
    ]
    return [one for one in made if one.rows]


def _flip(r: Row, min_lost: float) -> tuple[str, ...]:
    gaps = (in_points(r[gap], r[f"{gap}_lo"], r[f"{gap}_hi"]) for gap in ("recall_gap", "hallucination_gap"))
    return (
        r["main_name"],
        r["companion_name"],
        r["model"],
        "" if r["skipped"] else FILL_NAMES[r["fill"]].removeprefix("a "),
        "" if r["skipped"] else f"{r['n']:,}",
        percent(r["flips"]),
        with_ends(r["lost"], r["lost_lo"], r["lost_hi"]),
        _control(r),
        in_points(r["excess"], r["lo"], r["hi"]),
        *gaps,
        percent(r["ap"], 1),
        percent(r["ap_balanced"], 1),
        r["mark"] or about_control(r, min_lost),
    )


def _control(r: Row) -> str:
    """Return the share lost in the control, with the number of controls if not all images have one."""
    share = with_ends(r["control_lost"], r["control_lost_lo"], r["control_lost_hi"])
    every = r["control_lost"] is None or r["n_control"] == r["n"]
    return share if every else f"{share} of {r['n_control']:,}"


def _skip(r: Row) -> tuple[str, ...]:
    gap = in_points(r["recall_gap"], r["recall_gap_lo"], r["recall_gap_hi"])
    return r["main_name"], r["companion_name"], f"{r['both']:,}", r["skipped"], gap


def _albums(rows: Sequence[Row], folder: Path) -> list[Album]:
    """Return the pictures of each pair: the original, without the companion, and the control."""
    pairs = rows_by(rows, "main_name", "companion_name", "fill")
    albums = []
    for i, ((main, companion, fill), own) in enumerate(list(pairs.items())[:MAX_PAIRS]):
        flipped = sum(r["flipped"] for r in own)
        shown = f"{flipped:,} of {counted(len(own), 'image')} shown"
        first = ", which come first" if flipped < len(own) else ""
        text = f"The companion is replaced by {FILL_NAMES[fill]}. The prediction flips on {shown}{first}."
        strips = tuple(_triple(r, folder) for r in own)
        albums.append(Album(f"pair-{i + 1}", f"{main} without {companion}", text, strips))
    return albums


def _triple(r: Row, folder: Path) -> Strip:
    def shown(column: str, score: str, title: str, flipped: bool | None) -> StripPicture | None:
        if r.get(column) is None:
            return None
        text = f"{r['main_name']} {r[score]:.2f}" if r[score] is not None else ""
        return picture(folder, r[column], title, text, "flipped" if flipped else "")

    pictures = (
        shown("before", "score_before", "as it is", None),
        shown("after", "score_after", f"without {r['companion_name']}", r["flipped"]),
        shown("control", "score_control", "control", r["flipped_control"]),
    )
    return Strip(r["image_id"], tuple(p for p in pictures if p is not None))


def _draw_shortcuts(table: pa.Table) -> list[Figure]:
    from manyhot.diagnose.figures import draw_shortcuts

    return draw_shortcuts(table, _threshold(table))
