"""Results on groups of images: tables, lines for the terminal, photographs and a chapter."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

import pyarrow as pa

from manyhot import tables
from manyhot.core.group_search import FAMILY_WISE
from manyhot.data.data_sets import Source
from manyhot.diagnose.groups_attributes import GROUP_KINDS
from manyhot.diagnose.groups_findings import (
    LABELS,
    OBJECTS,
    GroupFinding,
    MarkedImages,
    lacks_a_label,
    may_be_the_class,
)
from manyhot.diagnose.groups_outcomes import OUTCOMES
from manyhot.diagnose.groups_rates import rate_lines, rate_listing
from manyhot.diagnose.page import DiagnosisResult, forget_pictures
from manyhot.diagnose.shortcut_marks import step_without
from manyhot.errors import MissingExtraError
from manyhot.evaluate.gallery import find_photographs
from manyhot.files import atomic_write
from manyhot.formats.writing import PathLike
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
    picture,
    rows_by,
    rows_of,
    with_ends,
)
from manyhot.report.figure import Figure
from manyhot.report.listings import ColumnHead, number_heads, text_heads
from manyhot.report.pictures import decoded, load_pillow
from manyhot.report.text import counted, listed, title_of
from manyhot.run import QUIET, Run
from manyhot.tables import Row, schema
from manyhot.tables.definitions import COUNT, FLAG, INT, ITS, REAL, TEXT, TEXTS, bounds, declare_table

GROUP_EXAMPLES = "group-examples"
"""The folder of photographs, in that of the output."""

_PRINTED = 12
_SIDE = 160  # pixels of the longer side of a photograph on the page
_WITH_PICTURES = 12  # findings of the page with photographs

declare_table(
    "groups",
    (
        INT(
            "group",
            "number of the finding, from 1; findings about models come first, then properties associated "
            "with labels, then labels that are together less often than by chance",
        ),
        TEXT("dataset", "the data set"),
        TEXT.nullable("model", "the model; null for an association of images with labels"),
        TEXT(
            "outcome",
            "what is more frequent in the group: errors; errors with a high confidence; images without a "
            "predicted class; predictions of the class on images without it; errors on the images of the "
            "class, or misses of the class in multi-label data; or images with the label",
            values=OUTCOMES,
        ),
        INT.nullable("class_id", "the class; null for errors of all classes"),
        TEXT.nullable("class_name", "its name"),
        TEXT("kind", "what defines the group", values=GROUP_KINDS),
        TEXT("name", "name of the group, as in the column groups of the images table"),
        TEXT("sentence", "what was found"),
        COUNT("n_images", "images of the group"),
        COUNT.optional(
            "n_other", "images of the group that do not show the class; null for errors of all classes"
        ),
        COUNT("n", "images of the group to which the outcome applies; for a label, images with the label"),
        COUNT(
            "events",
            "images of the group with the event, such as an error; for a label, images with the label that "
            "are in the group",
        ),
        REAL("share", "events divided by n"),
        *bounds("lo", "hi", f"{ITS} (Wilson)", column=REAL),
        COUNT(
            "n_outside",
            "other images to which the outcome applies; for a label, images with another label, or images "
            "without the class in multi-label data",
        ),
        COUNT(
            "events_outside",
            "other images with the event; for a label, the images counted in n_outside that are in the group",
        ),
        REAL("share_outside", "events_outside divided by n_outside"),
        *bounds("lo_outside", "hi_outside", f"{ITS} (Wilson)", column=REAL),
        REAL.nullable("expected", "share expected from the classes of the images alone; null for a label"),
        REAL("difference", "share minus share_outside"),
        *bounds(
            "difference_lo", "difference_hi", f"{ITS} (Newcombe), not corrected for the search", column=REAL
        ),
        REAL(
            "p",
            "p-value within classes, corrected for all groups and outcomes of the model (or of the labels)",
        ),
        TEXTS("also", "other groups that this group explains"),
    ),
)

declare_table(
    "group_examples",
    (
        INT("group", "as in groups"),
        TEXT("image_id", "id of an image of the group"),
        FLAG("event", "whether the image has the event"),
        TEXT.optional("photograph", "path of the photograph, relative to the folder of the table"),
    ),
)


@dataclass(frozen=True, eq=False)
class WeakGroups(DiagnosisResult):
    """Groups of images on which models are worse, and properties of images that are associated with labels.

    Attributes
    ----------
    groups, group_examples, group_rates : pyarrow.Table
        The tables with these names; see `manyhot.tables.TABLES` for their columns. `group_rates` is empty if
        there are no models, or no columns that describe images.
    images : pyarrow.Table
        An images table with the statistics of the photographs (`STATISTICS`) and the names of the groups of
        each image, for use as slices.
    sources : tuple of Source
        The data sets whose photographs are shown.
    marks : MarkedImages, optional
        The frames, tags and bands of the findings as objects, and label sets that contain them as classes,
        for `mitigate`.
    place : list of str
        The folder and the command line of the last `write`, for the next step.
    notes, metadata, inputs
        As in `Result`.
    """

    NAMES = ("groups", "group_examples", "images", "group_rates")
    OPTIONAL = ("group_rates",)

    groups: pa.Table
    group_examples: pa.Table
    images: pa.Table
    group_rates: pa.Table = field(default_factory=lambda: schema("group_rates").empty_table())
    sources: tuple[Source, ...] = field(default=(), repr=False)
    marks: MarkedImages | None = field(default=None, repr=False)
    place: list[str] = field(default_factory=lambda: ["groups", ""], repr=False)

    def lines(self) -> Iterator[str]:
        """Yield the answer, the first findings about models and about labels, and the highest error rates."""
        rows = self.groups.to_pylist()
        yield from groups_answer(rows, self.metadata)
        for part, title in _parts(rows):
            yield ""
            yield f"{title}:"
            for row in part[:_PRINTED]:
                p = f"p {'<' if row['p'] <= 0.001 else '='} {max(row['p'], 0.001):.3f}"
                others = (re.sub("^(not )?also ", r"\1", name) for name in row["also"][:3])
                also = f"; also {', '.join(others)}" if row["also"] else ""
                yield f"{row['group']:3}  {row['sentence']} ({p}{also})"
            if len(part) > _PRINTED:
                yield f"     … and {len(part) - _PRINTED:,} more in the table"
        if self.group_rates.num_rows:
            yield ""
            yield from rate_lines(self.group_rates.to_pylist())
        folder, call = self.place
        if self.marks is not None and (step := _to_mitigate(rows, self.metadata.get("photographs", ""))):
            step = step.after(call, folder)
            yield ""
            yield f"next: {step.text[:-1]}: {step.command}"

    def to_json(self) -> dict[str, Any]:
        """Return the findings with their images, and the notes."""
        rows = super().to_json()
        return {name: rows[name] for name in ("groups", "group_examples", "notes")}

    def write(self, out: PathLike, *, run: Run = QUIET) -> list[Path]:
        """Write photographs of the first groups, the tables, the objects and the page."""
        folder = Path(out)
        self.place[:] = [str(folder), run.call]
        for name in (OBJECTS, LABELS):
            (folder / name).unlink(missing_ok=True)  # of an earlier run
        own = [] if self.marks is None else self.marks.write(folder, run)
        forget_pictures(folder, "group_examples", ("photograph",), GROUP_EXAMPLES)
        drawn = _photographs(self.group_examples, self.images, folder)
        object.__setattr__(self, "group_examples", drawn)
        *written, page = super().write(out, run=run)
        return [*written, *own, page]


def groups_result(
    findings: Sequence[GroupFinding],
    measured: Sequence[pa.Table],
    sources: Sequence[Source],
    notes: tuple[str, ...],
    inputs: Mapping[str, str],
    settings: Mapping[str, object],
    marks: MarkedImages | None = None,
    rates: Sequence[Row] = (),
) -> WeakGroups:
    """Return the tables of findings, those about models first, each with the clearest difference first."""
    # Labels that are never together come last: they may exclude each other by definition.
    by_part = sorted(findings, key=lambda f: -f.row["difference_lo"])
    ordered = sorted(by_part, key=lambda f: (_part(f.row), lacks_a_label(f.row) and f.row["share"] == 1))
    ids = {source.name: part["image_id"] for source, part in zip(sources, measured, strict=True)}
    groups = [{"group": i, **f.row} for i, f in enumerate(ordered, 1)]
    examples = [
        {"group": i, "image_id": ids[f.row["dataset"]][int(at)].as_py(), "event": place < f.n_events}
        for i, f in enumerate(ordered, 1)
        for place, at in enumerate(f.examples)
    ]
    images = pa.concat_tables(measured, promote_options="default")
    place = _place_of(images["uri"].to_pylist()) if "uri" in images.column_names else ""
    return WeakGroups(
        pa.Table.from_pylist(groups, schema("groups")),
        pa.Table.from_pylist(examples, schema("group_examples")),
        images,
        pa.Table.from_pylist(list(rates), schema("group_rates")),
        tuple(sources),
        marks,
        notes=notes,
        inputs=inputs,
        metadata={
            name: json.dumps(value) if isinstance(value, int) else f"{value:g}"
            for name, value in settings.items()
            if isinstance(value, int | float)
        }
        | {"photographs": place},
    )


def _place_of(uris: Sequence[str | None]) -> str:
    """Return the folder or archive that contains all photographs; empty if there is none."""
    parts = [(uri.rpartition("#")[0] or uri.rpartition("/")[0]).split("/") for uri in uris if uri]
    shared = takewhile(lambda names: len(set(names)) == 1, zip(*parts, strict=False))
    place = "/".join(names[0] for names in shared)
    if place and ("://" in place or Path(place).exists()):
        return place
    return next((str(path) for path in Path(place).parents if path.is_file()), "")  # an archive


def _photographs(examples: pa.Table, images: pa.Table, folder: Path) -> pa.Table:
    """Return the examples with paths of small photographs, which are written to the folder."""
    if "uri" not in images.column_names:
        return examples
    uris = dict(zip(images["image_id"].to_pylist(), images["uri"].to_pylist(), strict=True))
    rows = examples.to_pylist()
    shown = list(dict.fromkeys(r["image_id"] for r in rows if uris[r["image_id"]]))
    try:
        pillow = load_pillow()
    except MissingExtraError:
        return examples
    paths = {}
    for at, read in find_photographs([uris[image] for image in shown]):
        small, _ = decoded(pillow, read, _SIDE)
        if small is not None:
            paths[shown[at]] = name = f"{GROUP_EXAMPLES}/{at:04}.jpg"
            (folder / GROUP_EXAMPLES).mkdir(parents=True, exist_ok=True)
            with atomic_write(folder / name) as path:
                small.save(path, "JPEG", quality=85)
    rows = [{**row, "photograph": paths.get(row["image_id"])} for row in rows]
    return pa.Table.from_pylist(rows, schema("group_examples"))


_TITLES = (
    "Groups on which models are worse",
    "Properties of images that are associated with labels",
    "Labels that are together less often than by chance",
)


def _part(row: Row) -> int:
    """Return which of the titles a finding belongs to."""
    return 0 if row["model"] is not None else 1 + lacks_a_label(row)


def _parts(rows: Sequence[Row]) -> Iterator[tuple[list[Row], str]]:
    for at, title in enumerate(_TITLES):
        part = [row for row in rows if _part(row) == at]
        if part:
            models = list(dict.fromkeys(row["model"] for row in part))
            yield part, title if at or len(models) > 1 else f"Groups on which {models[0]} is worse"


def groups_answer(rows: Sequence[Row], about: Mapping[str, str]) -> Iterator[str]:
    """Yield sentences that state what was found, what cannot be tested, and how p-values were corrected."""
    n_models, least, n_images = (int(about.get(name, "0")) for name in ("models", "min_images", "images"))
    worse, n, apart = (sum(_part(row) == at for row in rows) for at in range(len(_TITLES)))
    n_untested = int(about.get("untested", "0"))
    rest = f"; {counted(n_untested, 'value')} of the metadata could not be tested" if n_untested else ""
    if n_misses := int(about.get("untested_misses", "0")):
        rest += f"; misses of {counted(n_misses, 'value')} could not be tested for any class"
    judged = (
        f"{counted(worse, 'group') if worse else 'no groups'} on which a model is worse"
        f"{_of_tested(about, 'tested', rest)}"
        if n_models
        else ""
    )
    associated = f"{n or 'no'} {'property' if n == 1 else 'properties'} of images associated with labels"
    associated += _of_tested(about, "tested_labels", "" if n_models else rest)
    pairs = f"{counted(apart, 'pair')} of labels that are together less often than by chance" if apart else ""
    counts = ", and ".join(filter(None, (judged, associated, pairs)))
    among = f" among {n_images:,} images" if n_images else ""
    n_predicted = int(about.get("predicted", n_images))
    if n_predicted < n_images:
        among += f" ({n_predicted:,} of them predicted{' by all models' if n_models > 1 else ''})"
    found = f"Found{among}: {counts}."
    clearest = _clearest(rows)["sentence"] if rows else ""
    # What is asked is about models, where there are any.
    yield " ".join(filter(None, (clearest, found) if worse or not n_models else (found, clearest)))
    of_labels = (r for r in rows if r["model"] is None and r.get("n_other") is not None)
    bound = [r for r in of_labels if r["n_other"] < least]
    if n_models and bound:
        yield _untested(bound, least)
    n_clusters = int(about.get("clusters", "0"))
    over = (
        f"; images are permuted between and within {n_clusters:,} clusters"
        if n_clusters
        else ", provided that images are independent of each other"
    )
    yield (
        "The lists are corrected for the search: if nothing were related, each list would be empty in "
        f"{1 - FAMILY_WISE:.0%} of searches (Westfall and Young){over}."
    )


def _of_tested(about: Mapping[str, str], name: str, rest: str) -> str:
    """Return how many groups were tested, if that is known."""
    return f" (of {int(about[name]):,} tested{rest})" if name in about else ""


def _untested(rows: Sequence[Row], least: int) -> str:
    """Return what cannot be tested, how many images that would take, and what to do instead."""
    each = dict.fromkeys(f"{r['name']} ({r['class_name']}, {r['n_other']:,})" for r in rows)
    marks = any(r["kind"] in ("frame", "mark") for r in rows)
    instead = ", or paste the mark into images with manyhot mitigate, as in the command below" * marks
    return (
        f"For {len(rows):,} of these properties, it cannot be tested whether a model predicts the class "
        f"because of the property, since fewer than {least} images of other classes have it: "
        f"{listed(list(each), 3)}. Add "
        f"such images{instead}."
    )


def _clearest(rows: Sequence[Row]) -> Row:
    """Return the first finding; if images are missed in it, what other images of its group are called."""
    first = rows[0]
    if first["outcome"] != "missed":
        return first
    alike = (r for r in rows if (r["model"], r["name"]) == (first["model"], first["name"]))
    return next((r for r in alike if r["outcome"] == "called"), first)


@register(
    "chapter",
    "groups",
    tables=("groups", "group_examples", "group_rates"),
    next=NextStep(
        "judge models on each group, as slices.",
        "manyhot evaluate DATASET --predictions FOLDER --images OUT/images.parquet --slice groups",
    ),
)
def groups_chapter(named: Tables, folder: Path, draw: bool) -> Chapter | None:
    """Return the chapter about groups of images, or None if there is no table ``groups``."""
    if "groups" not in named:
        return None
    rows, about = rows_of(named, "groups"), tables.metadata(named["groups"])
    *lead, corrected = groups_answer(rows, about)
    method = (
        corrected,
        "Errors in a group are compared with errors on other images of the same classes. In multi-label "
        "data, false positives of a class are compared on images without it, and misses on images with it. "
        "In such data, a class is predicted if its score reaches its threshold with the largest F1 (chosen "
        "by cross-fitting) or, if the "
        "probabilities of an image add up to 1, if it is the top class. Properties of images with a label "
        "are compared "
        "with properties of all other images. A p-value is the share of random permutations in which any "
        "group of the whole search differs at least this much. Marks and pasted objects are searched for on "
        "one half of the images, and counted on the other half.",
    )
    has_models = about.get("models", "0") != "0"
    listings = [
        listing(f"groups-{i}", title, _HEADS, part, _cells) for i, (part, title) in enumerate(_parts(rows), 1)
    ]
    if rates := rows_of(named, "group_rates"):
        listings.append(rate_listing(rates))
    figures: tuple[Figure, ...] = ()
    if draw and rows:
        from manyhot.diagnose.findings_figures import draw_group_differences

        figures = draw_group_differences(rows)
    albums = _albums(rows, rows_of(named, "group_examples"), folder)
    return Chapter(
        "groups",
        "Groups",
        "Groups of images on which a model is worse" if has_models else _TITLES[1],
        tuple(lead),
        figures,
        tuple(listings),
        albums,
        _to_mitigate(rows, about.get("photographs", "")) if (folder / OBJECTS).is_file() else None,
        method=method,
    )


def _to_mitigate(rows: Sequence[Row], place: str = "") -> NextStep | None:
    """Return how to fit a head without the first frame, tag or band that is associated with a class.

    `place` contains the photographs: the call may name a table of their places, which mitigate does not read.
    """
    marks = (r for r in rows if r["kind"] in ("frame", "mark") and not r["name"].startswith("no "))
    # Images of other classes that are missed because of a mark are no reason to remove it from these classes.
    # A mark that is on no other image may be the class itself, so other marks are removed first.
    first = min((r for r in marks if r["outcome"] in ("called", "label")), key=may_be_the_class, default=None)
    if first is None:
        return None
    unless = " (if it is not the class itself)" if may_be_the_class(first) else ""
    boxes = f"the {first['name']}{unless}, whose boxes are in {OBJECTS}"
    objects, labels = (f"OUT/{name}" for name in (OBJECTS, LABELS))
    step = step_without(first["class_name"], first["name"], boxes, objects, labels)
    return step._replace(command=step.command.replace("IMAGES", shlex.quote(place) if place else "FOLDER", 1))


_HEADS = (
    *text_heads("What was found", "Model"),
    *number_heads("Inside", "Outside"),
    ColumnHead("Difference, points", title="Share inside minus share outside"),
    *number_heads("Images", "Others"),
    ColumnHead("p", title="Corrected for the whole search"),
    ColumnHead("Also", number=False, title="Other groups that this one explains"),
    ColumnHead("Data set", number=False),
)


def _cells(r: Row) -> tuple[str, ...]:
    return (
        r["sentence"],
        r["model"] or "",
        with_ends(r["share"], r["lo"], r["hi"]),
        with_ends(r["share_outside"], r["lo_outside"], r["hi_outside"]),
        in_points(r["difference"], r["difference_lo"], r["difference_hi"]),
        f"{r['n']:,}",
        f"{r['n_outside']:,}",
        f"{r['p']:.3f}",
        ", ".join(r["also"][:3]),
        title_of(r["dataset"]),
    )


def _albums(rows: Sequence[Row], examples: Sequence[Row], folder: Path) -> tuple[Album, ...]:
    """Return nine photographs of each of the first findings."""
    own = rows_by(examples, "group")
    first = [row for part, _ in _parts(rows) for row in part[:_WITH_PICTURES]]
    albums = []
    for row in first:
        shown = own.get((row["group"],), [])
        pictures = tuple(_picture(r, row, folder) for r in shown if r.get("photograph"))
        if pictures:
            strip = Strip(row["name"], pictures)
            albums.append(
                Album(f"group-{row['group']}", f"{row['group']}. {row['name']}", row["sentence"], (strip,))
            )
    return tuple(albums)


_EVENTS = {
    **dict.fromkeys(("error", "sure_error", "missed"), "wrong"),
    **{"no_prediction": "no predicted class", "called": "called {}", "label": "{}"},
}


def _picture(r: Row, finding: Row, folder: Path) -> StripPicture:
    mark = _EVENTS[finding["outcome"]].format(finding["class_name"]) if r["event"] else ""
    return picture(folder, r["photograph"], r["image_id"], "", mark)
