"""What no model gets right, what all models get right, and what divides them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.classes import ClassList
from manyhot.command import command
from manyhot.console import table_lines
from manyhot.core.array_types import Bools
from manyhot.core.difficulty import DIFFICULTIES, CommonAnswers, difficulty_of, hardness, typical_images
from manyhot.core.error_kinds import NOTHING, ORDER, Errors, sort_errors
from manyhot.core.sets import NO, NO_LABEL, UNCLEAR, YES
from manyhot.core.share_intervals import proportion_interval, wilson_interval
from manyhot.data.data_sets import Source
from manyhot.data.inputs import READING, LabelsLike, PredictionsLike, Reading, open_inputs
from manyhot.diagnose.evidence import ErrorEvidence, EvidenceFiles
from manyhot.diagnose.first_findings import write_first_gallery
from manyhot.diagnose.page import DiagnosisResult
from manyhot.evaluate.gallery import with_photographs
from manyhot.evaluate.model_answers import ModelAnswers
from manyhot.evaluate.slices import ALL, labels_of, make_slices
from manyhot.formats.writing import PathLike
from manyhot.parameters import OptionName, Shown
from manyhot.registry import get, register
from manyhot.report.chapter import Chapter, NextStep, Tables, rows_by, rows_of
from manyhot.report.figure import Figure
from manyhot.report.listings import ColumnHead, Listing, ListingRow, text_heads
from manyhot.report.text import counted, slice_label, title_of
from manyhot.report.text import metric as metric_text
from manyhot.run import QUIET, Run
from manyhot.tables import Row, schema
from manyhot.tables.arrays import label_sets
from manyhot.tables.definitions import COUNT, INT, ITS, REAL, TEXT, TEXTS, bounds, declare_table

MOST_LISTED = 20
"""Images of a list on the terminal and on the page."""

EXAMPLES = 8
"""Images of each kind that the page lists and the gallery shows."""

GALLERY = "gallery-difficulty"
"""Folder of the gallery; other diagnoses in the same folder write theirs to ``gallery``."""

ANSWER_STATES = ("valid", "unclear", "refuted", "not asked", "unrecorded")
"""What raters answered about a class, or that they were not asked."""

ERROR = "error="
"""Begins the name of a group of images whose most frequent wrong answer is an error of a kind."""

_OVER_MODELS = "mean over models with probabilities that add up to 1; null if there are none"

declare_table(
    "difficulty",
    (
        TEXT("dataset", "the data set"),
        TEXT("image_id", "the image"),
        COUNT("models", "number of models"),
        INT.nullable("right_top1", "models whose top class is the original label; null without labels"),
        INT.nullable("right_real1", "models whose top class is in the label set; null without label sets"),
        TEXT.nullable("label", "name of the original label"),
        TEXTS("valid", "names of the classes in the label set"),
        INT.nullable("answer_id", "the most frequent top class of the models; null if there is none"),
        TEXT.nullable("answer", "its name"),
        REAL("answer_share", "share of models with this top class"),
        TEXT(
            "answer_is",
            "the answer of raters about this class: valid, unclear or refuted; `not asked` if no rater was "
            "asked; `unrecorded` if raters saw the image and the labels record only valid classes",
            values=ANSWER_STATES,
        ),
        REAL.optional("entropy", f"entropy of the class probabilities in nats, {_OVER_MODELS}"),
        REAL.optional(
            "margin",
            f"probability of the original label minus that of the most probable other class, {_OVER_MODELS}",
        ),
    ),
)

declare_table(
    "difficulty_groups",
    (
        TEXT("dataset", "the data set"),
        TEXT("metric", "top1 (original label) or real1 (label set)"),
        TEXT(
            "group",
            "all images, a slice, or `error=KIND`: the images whose most frequent wrong answer is an error "
            "of this kind, as sorted by `diagnose errors`",
        ),
        TEXT("kind", "how many of the models are right", values=tuple(DIFFICULTIES)),
        COUNT("images", "images of the kind"),
        INT.nullable(
            "right_by_set",
            "number of these images on which at least half of the models are right by real1; null without "
            "label sets",
        ),
        REAL("share", "share of the group's images that are of the kind"),
        *bounds("lo", "hi", f"{ITS} (Wilson)"),
        COUNT("n", "images of the group"),
    ),
)


@dataclass(frozen=True, eq=False)
class Difficulty(DiagnosisResult):
    """How difficult images are for the models.

    Attributes
    ----------
    difficulty, difficulty_groups : pyarrow.Table
        The tables with these names; see `manyhot.tables.TABLES` for their columns. `difficulty` begins with
        the images to re-assess first: those on which most models agree on a class that is not valid.
    sources : tuple of Source
        The data sets whose photographs the gallery shows.
    hints : list of str
        Notes on what `write` could not do, and how to make it possible.
    notes, metadata, inputs
        As in `Result`.
    """

    NAMES = ("difficulty", "difficulty_groups")

    difficulty: pa.Table
    difficulty_groups: pa.Table
    sources: tuple[Source, ...] = field(default=(), repr=False)
    hints: list[str] = field(default_factory=list, repr=False)

    def write(self, out: PathLike, *, run: Run = QUIET) -> list[Path]:
        """Write the tables and the page, and a gallery of typical images if there are photographs."""
        rows = typical_rows(self.difficulty)
        kinds = pa.table({name: [row[name] for row in rows] for name in ("kind", "image_id")})
        folder = Path(out) / GALLERY
        # Before the page, which says where the gallery is.
        gallery, hint = write_first_gallery(self.sources, rows, [kinds], folder, run, of_all_models=True)
        self.hints[:] = [hint] if hint else []
        return [*super().write(out, run=run), *gallery]

    def lines(self) -> Iterator[str]:
        """Yield the answer, the numbers of images by difficulty and group, and those to re-assess first."""
        rows = self.difficulty_groups.to_pylist()
        yield from difficulty_sentences(rows, title=str)
        yield ""
        shown = [r for r in rows if r["group"] == ALL or r["metric"] == rows[-1]["metric"]]
        yield from table_lines(("data", "metric", "images", *DIFFICULTIES, "n"), list(_group_cells(shown)))
        first = first_to_reassess(self.difficulty)
        if first:
            yield ""
            yield f"to re-assess first: {reassess_sentence(self.difficulty)}"
            yield from table_lines(
                ("image", "answer", "models", "which is", "label"), [_image_cells(row) for row in first]
            )
        if self.hints:
            yield ""
            yield from self.hints


@command(
    "diagnose difficulty",
    out="difficulty",
    examples=(
        "manyhot diagnose difficulty imagenet-val",
        "manyhot diagnose difficulty labels.csv --predictions predictions --slice source",
    ),
)
def diagnose_difficulty(
    labels: LabelsLike,
    predictions: PredictionsLike = (),
    *,
    slices: Annotated[Sequence[str], Shown("SLICE"), OptionName("--slice")] = (),
    reading: Reading = READING,
    run: Run = QUIET,
) -> Difficulty:
    """Find the images that no model, all models, or only some models get right.

    If all models are wrong according to the original label of an image, the label itself is often wrong. The
    command therefore also counts on how many of these images at least half of the models are right according
    to the label set. The images on which most models agree on a class that is not in the label set are listed
    first, for re-assessment. Images are also counted by the kind of their most frequent error, as in diagnose
    errors. If the photographs are known, a gallery shows images that no model, only some models, or all
    models get right.

    Parameters
    ----------
    labels
        Name of a data set, such as imagenet-val; or a campaign, a folder written by predict, or a file of
        label sets.
    predictions
        Files or folders of predictions, used instead of those of the campaign or folder.
    slices
        Slices in which images are also counted, as for evaluate.

    Returns
    -------
    Difficulty

    Raises
    ------
    InputError
        If no image has a label or a label set.
    MatchError, OrderError
        As in `manyhot.evaluate`.
    """
    images, groups, notes, inputs = list[pa.Table](), list[Row](), list[str](), dict[str, str]()
    opened = open_inputs(labels, predictions, reading=reading, run=run)
    sources = [with_photographs(source, predictions, reading) for source in opened]
    for source in sources:
        answers = ModelAnswers.of(source, measure=hardness, trust_order=reading.trust_order, run=run)
        classes = source.classes or labels_of(source).known_classes
        images.append(_image_table(source.name, answers, classes, labels_of(source).rated[answers.rows]))
        groups += _group_rows(source, answers, classes, slices)
        notes += [*answers.notes(source.name), *source.misfits.notes(source.name)]
        inputs |= source.inputs
    return Difficulty(
        pa.concat_tables(images),
        pa.Table.from_pylist(groups, schema("difficulty_groups")),
        tuple(sources),
        notes=tuple(notes),
        inputs=inputs,
    )


def _image_table(dataset: str, answers: ModelAnswers, classes: ClassList | None, rated: Bools) -> pa.Table:
    """Return a row for each image: first those on which most models surely agree on an invalid class."""
    sets, common = answers.sets, CommonAnswers.of(answers.top)
    state = sets.state_of(common.classes[:, None])[:, 0]
    is_unrecorded = rated & (not sets.asked_known)
    is_state = [state == YES, state == UNCLEAR, state == NO, ~is_unrecorded, is_unrecorded]
    what = np.select(is_state, ANSWER_STATES, default="")
    assert answers.measures is not None  # for the type checker
    entropy, margin = answers.measures.T
    order = np.lexsort((entropy, -common.share, state == YES))
    names = np.array([*(classes.names if classes else map(str, range(sets.n_classes))), None], dtype=object)
    valid = np.flatnonzero(sets.state == YES)
    valid = valid[np.lexsort((sets.classes[valid], sets.rows[valid]))]
    lists = np.split(
        names[sets.classes[valid]], np.cumsum(np.bincount(sets.rows[valid], minlength=len(sets)))[:-1]
    )
    right = {m: answers.right[m].sum(axis=1) if m in answers.right else [None] * len(sets) for m in _METRICS}
    label = np.where(sets.label == NO_LABEL, len(names) - 1, sets.label)
    columns = {
        "dataset": [dataset] * len(sets),
        "image_id": answers.image_id,
        "models": [len(answers.models)] * len(sets),
        "right_top1": right["top1"],
        "right_real1": right["real1"],
        "label": names[label],
        "valid": [list(own) for own in lists],
        "answer_id": pa.array(common.classes, pa.int32(), mask=common.classes == NO_LABEL),
        "answer": names[common.classes],
        "answer_share": common.share,
        "answer_is": what,
        "entropy": pa.array(entropy, from_pandas=True),
        "margin": pa.array(margin, from_pandas=True),
    }
    return pa.table(columns).cast(schema("difficulty")).take(pa.array(order))


_METRICS = ("top1", "real1")


def _group_rows(
    source: Source, answers: ModelAnswers, classes: ClassList | None, requested: Sequence[str]
) -> Iterator[Row]:
    """Yield, for each slice and metric, how many images are of each kind."""
    labels = labels_of(source)
    slices = make_slices(
        labels,
        label_sets(labels),
        images=source.images,
        classes=classes,
        requested=list(requested),
        misfits=source.misfits,
    )
    groups = [(name, mask[answers.rows]) for name, mask in zip(slices.names, slices.masks, strict=False)]
    if len(answers.models) > 1:  # otherwise, an image with an error is one on which no model is right
        groups += _error_groups(source, answers, classes)
    by_set = answers.right["real1"].mean(axis=1) >= 0.5 if "real1" in answers.right else None
    for metric, right in answers.right.items():
        kinds = difficulty_of(right)
        for name, inside in groups:
            if inside.any():
                yield from (
                    {"dataset": source.name, "metric": metric, "group": name, **row}
                    for row in _kind_rows(kinds[inside], None if by_set is None else by_set[inside])
                )


def _error_groups(
    source: Source, answers: ModelAnswers, classes: ClassList | None
) -> Iterator[tuple[str, Bools]]:
    """Yield the images whose most frequent wrong answer is an error of each kind; by label, if possible."""
    labels = labels_of(source)
    sets = label_sets(labels)
    right = answers.right["top1" if "top1" in answers.right else "real1"]
    wrong = CommonAnswers.of(np.where(right, NO_LABEL, answers.top)).classes
    at = np.flatnonzero(wrong >= 0)
    context, _ = ErrorEvidence(labels, sets, classes).context(EvidenceFiles(), source)
    state = answers.sets.state_of(wrong[:, None])[at, 0]
    unknown = np.full(len(at), np.nan, np.float32)
    errors = Errors(context, answers.rows[at].astype(np.int64), wrong[at].astype(np.int32), state, unknown)
    found = sort_errors(errors, [get("rule", name) for name in ORDER]).kind
    kinds = np.full(len(wrong), NOTHING)
    kinds[at] = found
    yield from ((f"{ERROR}{name}", kinds == place) for place, name in enumerate(ORDER))


def _kind_rows(kinds: Bools, by_set: Bools | None) -> Iterator[Row]:
    counts = np.bincount(kinds, minlength=len(DIFFICULTIES))
    right = None if by_set is None else np.bincount(kinds, by_set, len(DIFFICULTIES))
    lo, hi = wilson_interval(counts, len(kinds))
    for i, kind in enumerate(DIFFICULTIES):
        yield {
            "kind": kind,
            "images": int(counts[i]),
            "right_by_set": None if right is None else int(right[i]),
            "share": counts[i] / len(kinds),
            "lo": lo[i],
            "hi": hi[i],
            "n": len(kinds),
        }


def difficulty_sentences(rows: Sequence[Row], *, title: Callable[[str], str] = title_of) -> Iterator[str]:
    """Yield sentences on how many images no model gets right, by original labels and by label sets."""
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        whole = {
            (row["metric"], row["kind"]): row
            for row in rows
            if row["dataset"] == dataset and row["group"] == ALL
        }
        by_label, by_set = (whole.get((metric, "none")) for metric in _METRICS)
        row = by_label or by_set
        assert row is not None
        what = "the original label" if by_label else "the label set"
        first = (
            f"{title(dataset)}: on {row['images']:,} of {counted(row['n'], 'image')} "
            f"({_share(row['share'], row['lo'], row['hi'])}), no model is right by {what}"
        )
        if by_label and by_set and by_label["images"]:
            k, n = by_label["right_by_set"], by_label["images"]
            share = _share(k / n, *(float(end) for end in proportion_interval(k, n)))
            first += f"; on {k:,} of these ({share}), at least half of the models are right by the label set"
        yield f"{first}."
        last = _METRICS[1] if by_set else _METRICS[0]
        each = {kind: whole[last, kind]["images"] for kind in DIFFICULTIES}
        some = "a quarter to three quarters" if each["few"] or each["most"] else "some"
        every = f"all models are right on {counted(each['all'], 'image')}"
        is_divided = any(each[kind] for kind in ("few", "split", "most"))
        if by_label and by_set:
            nobody = f"no model is right on {counted(by_set['images'], 'image')}"
            every = f"{nobody}, {'' if is_divided else 'and '}{every}"
        if is_divided:
            every += f", and {some} of the models on {counted(each['split'], 'image')}"
        yield f"By {'label sets' if by_set else 'original labels'}, {every}."


def _share(share: float, lo: float, hi: float) -> str:
    return f"{100 * share:.1f} %, {100 * lo:.1f} to {100 * hi:.1f}"


def _group_cells(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    """Yield the cells of each group: the share of images of each kind."""
    for (dataset, metric, group), kinds in rows_by(rows, "dataset", "metric", "group").items():
        shares = (f"{row['share']:.1%}" for row in kinds)
        yield dataset, metric, group, *shares, f"{kinds[0]['n']:,}"


def first_to_reassess(table: pa.Table) -> list[Row]:
    """Return the images on which most models agree on a class that is not valid, highest agreement first."""
    chosen = table.filter(_is_disputed(table)).sort_by([("answer_share", "descending")])
    rows: list[Row] = chosen.slice(0, MOST_LISTED).to_pylist()
    return rows


def reassess_sentence(table: pa.Table) -> str:
    """State on how many images most models agree on a class that is not valid, by the raters' answer."""
    chosen = table.filter(_is_disputed(table))
    n = {answer: pc.sum(pc.equal(chosen["answer_is"], answer)).as_py() or 0 for answer in ANSWER_STATES}
    texts = {
        "refuted": "raters refuted it",
        "unclear": "it is unclear",
        "not asked": "no rater was asked about it",
        "unrecorded": "the labels do not record whether raters were asked about it",
    }
    parts = [t if n[a] == len(chosen) else f"{t} on {n[a]:,}" for a, t in texts.items() if n[a]]
    return (
        f"on {counted(len(chosen), 'image')}, most models agree on a class that is not in the label set "
        f"({', '.join(parts)})"
    )


def _is_disputed(table: pa.Table) -> pa.ChunkedArray:
    return pc.and_(pc.not_equal(table["answer_is"], "valid"), pc.greater(table["answer_share"], 0.5))


def _image_cells(row: Row) -> tuple[str, ...]:
    agreed = f"{row['answer_share']:.0%} of {row['models']:,}"
    return row["image_id"], row["answer"], agreed, row["answer_is"], row["label"] or "–"


_EXAMPLES_OF = {"none": "no model is right", "split": "models are divided", "all": "all models are right"}
"""What the page and the gallery call the kinds of typical images."""


def typical_rows(table: pa.Table) -> list[Row]:
    """Return images that no model, half of the models or all models get right, with their kind.

    The kinds are determined by label sets or, if there are none, by original labels.
    """
    rows = list[Row]()
    for dataset in table["dataset"].unique().to_pylist():
        own = table.filter(pc.equal(table["dataset"], dataset)).sort_by("image_id")
        by_set = own["right_real1"].null_count < len(own)
        right = own["right_real1" if by_set else "right_top1"].to_numpy()
        chosen = typical_images(right, own["models"][0].as_py(), own["answer_share"].to_numpy(), EXAMPLES)
        for kind, at in chosen.items():
            rows += [{"kind": _EXAMPLES_OF[kind], **row} for row in own.take(pa.array(at)).to_pylist()]
    return rows


def _example_cells(row: Row) -> tuple[str, ...]:
    right = row["right_top1"] if row["right_real1"] is None else row["right_real1"]
    valid, answer = ", ".join(row["valid"]) or "–", row["answer"] or "–"
    return row["image_id"], row["kind"], answer, valid, row["label"] or "–", f"{right:,} of {row['models']:,}"


@register(
    "chapter",
    "difficulty_groups",
    tables=("difficulty_groups", "difficulty"),
    next=NextStep(
        "look at the photographs in a gallery.", "manyhot diagnose difficulty DATASET --images FILE"
    ),
)
def difficulty_chapter(named: Tables, folder: Path, draw: bool) -> Chapter | None:
    """Return the chapter about difficult images, or None if there is no table ``difficulty_groups``."""
    rows = rows_of(named, "difficulty_groups")
    if not rows:
        return None
    heads = (
        *text_heads("Data set", "Metric", "Images"),
        *(ColumnHead(k.capitalize(), title=f"Share of images: {about}") for k, about in DIFFICULTIES.items()),
        ColumnHead("n"),
    )
    groups = (
        (title_of(d), metric_text(m).label, slice_label(g), *rest) for d, m, g, *rest in _group_cells(rows)
    )
    listings = [_table("difficulty-by-group", "Images by how many models are right", heads, groups)]
    lists = list[str]()
    if "difficulty" in named:
        sentence = reassess_sentence(named["difficulty"])
        lists.append(f"{sentence[0].upper()}{sentence[1:]}. All images are in difficulty.csv.")
        first = first_to_reassess(named["difficulty"])
        image_heads = (
            *text_heads("Image", "Most models answer"),
            ColumnHead("Models"),
            *text_heads("Which is", "Label set", "Original label"),
        )
        cells = (
            (*_image_cells(row)[:4], ", ".join(row["valid"]) or "–", row["label"] or "–") for row in first
        )
        listings.append(_table("difficulty-first", "Images to re-assess first", image_heads, cells))
        listings.append(_examples(named["difficulty"]))
    lead = (
        " ".join(difficulty_sentences(rows)),
        "If all models are wrong on an image according to its label, the label itself is often wrong, or is "
        "only one of several valid classes.",
        *lists,
    )
    see = "See these images." if (folder / GALLERY / "index.html").is_file() else ""
    titles = ("difficulty", "Difficulty", "Difficult images")
    figures = _draw(rows) if draw else ()
    return Chapter(*titles, lead, figures, tuple(listings), gallery=see, gallery_folder=GALLERY)


def _examples(table: pa.Table) -> Listing:
    heads = text_heads("Image", "Kind", "Most models answer", "Label set", "Original label")
    title = "Images that no model, half of the models, or all models get right"
    columns = (*heads, ColumnHead("Models that are right"))
    return _table("difficulty-examples", title, columns, map(_example_cells, typical_rows(table)))


def _table(
    anchor: str, title: str, heads: tuple[ColumnHead, ...], cells: Iterable[tuple[str, ...]]
) -> Listing:
    return Listing(anchor, title, heads, tuple(map(ListingRow, cells)))


def _draw(rows: Sequence[Row]) -> tuple[Figure, ...]:
    """Return a figure for each data set: the images of each kind, by label and by label set."""
    from manyhot.diagnose.figures import draw_difficulty

    return tuple(draw_difficulty([row for row in rows if row["group"] == ALL]))
