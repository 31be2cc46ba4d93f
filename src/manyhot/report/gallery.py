"""The content of a gallery: images with their label sets, predictions, findings and similar images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from manyhot.classes import ClassList
from manyhot.core.class_errors import MISS
from manyhot.errors import InputError, MatchError
from manyhot.report.gallery_labels import LabelPlace, LabelPlaces, rows_of_labels
from manyhot.report.gallery_labels import label_places as places_of
from manyhot.report.pictures import (
    NOT_ASKED,
    UNRECORDED,
    LabelRow,
    best_classes,
    class_name,
    image_values,
)
from manyhot.tables import Images, Labels, Predictions

SIMILAR = 4
"""Number of images shown next to a predicted class."""

LARGEST = 4
"""Largest size of label sets in the filter; it includes larger sets."""

TOP_VERDICTS = ("right", "valid", "refuted", "unclear", "unasked", "wrong", "unknown", "none")
"""Verdicts on a model's top class for an image.

``right``: the original label. ``valid``: another class of the label set, which counts as wrong under the
single label. ``refuted``: the original label, which raters rejected. ``unclear``: the raters' answers
are unclear. ``unasked``: the image was rated, but raters were not asked about this class. ``wrong``: not
valid. ``unknown``: the image has no original label, and no rater
has seen it. ``none``: the model has no prediction for the image.
"""

Best = tuple[tuple[int, float | None], ...]

PAIR_ERROR_COLUMNS = ("image_id", "model", "class_id", "error", "probability", "threshold")
"""Columns of the table ``class_errors``, by which it is recognised."""


@dataclass(frozen=True)
class PairError:
    """A false positive or a miss of a model; `model` is its position in `Gallery.models`."""

    model: int
    class_id: int
    error: str
    probability: float
    threshold: float | None

    @property
    def confidence(self) -> float:
        """The probability that the model gives to its answer."""
        return 1 - self.probability if self.error == MISS else self.probability


@dataclass(frozen=True)
class Shot:
    """An image of a gallery.

    Attributes
    ----------
    uri : str, optional
        Address of the photograph.
    label : int, optional
        The original single label.
    label_set : tuple of (int, str)
        The valid classes, then the unclear ones.
    is_rated : bool
        Whether raters checked the label set.
    n_rejected : int
        Number of classes that raters found not to be valid.
    remark : str
        A remark on the image, for example that no rater has seen it.
    seen : tuple of tuple of (int, float or None)
        The top classes of each model with their confidence; empty if the model has no prediction for the
        image.
    verdicts : tuple of str
        For each model, one of `TOP_VERDICTS`. A model whose false positives and misses are known is ``wrong``
        if it makes any on the image, and otherwise ``right``.
    label_places : tuple of LabelPlace or None
        For each model, the rank of the original label; None without a label or a prediction.
    states : mapping of int to str
        The state of each class that has a row. These are the classes that any model predicts, those in
        `pair_errors`, and the original label.
    similar : mapping of int to tuple of int
        For each class in `states`, the positions in the gallery of the images to show next to this image.
    kinds : tuple of str
        For each model, the kind of its error; empty if there is no error or the kind is unknown.
    findings : tuple of int
        The findings on the image, as positions in `Gallery.findings`.
    pair_errors : tuple of PairError
        The false positives and misses on the image, the most confident first.
    """

    image_id: str
    uri: str | None
    label: int | None
    label_set: tuple[tuple[int, str], ...]
    is_rated: bool
    n_rejected: int
    remark: str
    seen: tuple[Best, ...]
    verdicts: tuple[str, ...]
    label_places: tuple[LabelPlace | None, ...]
    states: Mapping[int, str]
    similar: Mapping[int, tuple[int, ...]]
    kinds: tuple[str, ...]
    findings: tuple[int, ...]
    pair_errors: tuple[PairError, ...] = ()


@dataclass(frozen=True)
class ClassExamples:
    """Images of each class, chosen evenly over a data set: one more than is shown next to an image.

    Attributes
    ----------
    ids : mapping of int to tuple of str
        The ids of the images of each class.
    n : mapping of int to int
        The number of images in each class.
    """

    ids: Mapping[int, tuple[str, ...]]
    n: Mapping[int, int]

    @classmethod
    def of(cls, ids: Sequence[str], classes: Iterable[tuple[int, int]]) -> ClassExamples:
        """Choose the examples of each class, given pairs of an image's position and one of its classes."""
        members: dict[int, list[str]] = {}
        for i, c in classes:
            members.setdefault(c, []).append(ids[i])
        return cls(
            {c: _spread(own) for c, own in members.items()}, {c: len(own) for c, own in members.items()}
        )


def _spread(members: Sequence[str]) -> tuple[str, ...]:
    step = max(1, len(members) / (SIMILAR + 1))
    return tuple(members[int(j * step)] for j in range(min(len(members), SIMILAR + 1)))


@dataclass(frozen=True)
class Gallery:
    """All images of a gallery, in the order of the images table.

    Attributes
    ----------
    models : tuple of str
    shots : tuple of Shot
    names : mapping of int to str
        The name of each class that occurs in the gallery.
    n_members : mapping of int to int
        For each class, the number of images of the data set that have it as their original label or, if no
        image has an original label, in their label sets.
    n_examples : int
        Number of images at the end that are only shown next to others, as examples of their classes.
    similar_by : str
        The model whose embeddings determine which images are similar; empty if the same images are shown next
        to every image.
    findings : tuple of str
        All findings that do not depend on a model, without duplicates.
    report : str
        Address of the report to which the gallery belongs; empty if there is none.
    notes : tuple of str
        Prediction files that were skipped, with the reasons.
    is_voted : bool
        Whether the label sets record which images raters have seen, or how many answers they gave. If not, an
        unclear class is one that the labels mark as uncertain, such as -1 in CheXpert.
    """

    title: str
    models: tuple[str, ...]
    shots: tuple[Shot, ...]
    names: Mapping[int, str]
    n_members: Mapping[int, int]
    similar_by: str = ""
    findings: tuple[str, ...] = ()
    call: str = ""
    report: str = ""
    notes: tuple[str, ...] = ()
    n_examples: int = 0
    is_voted: bool = False

    def __len__(self) -> int:
        return len(self.shots) - self.n_examples


def make_gallery(
    images: Images,
    labels: Labels | None,
    predictions: Sequence[Predictions],
    classes: ClassList | None = None,
    *,
    label_places: Sequence[LabelPlaces] | None = None,
    similar: pa.Table | None = None,
    similar_by: str = "",
    examples: ClassExamples | None = None,
    n_examples: int = 0,
    findings: Sequence[pa.Table] = (),
    title: str = "",
    call: str = "",
) -> Gallery:
    """Collect the content of a gallery.

    Parameters
    ----------
    images : Images
        Images table whose column ``uri`` contains paths to local files. The class of an image is its original
        label.
    labels : Labels, optional
        Without label sets, predictions are compared only with original labels.
    predictions : sequence of Predictions
    classes : ClassList, optional
        Class list with the names of the classes. Without it, classes are shown by number.
    label_places : sequence of sequence of LabelPlace or None, optional
        For each model, the ranks of the original labels. By default, they are read from `predictions`. Pass
        them if `predictions` contains only the top classes.
    similar : pyarrow.Table, optional
        The table ``similar``, with the nearest neighbours of each image in each class. Without it, up to
        `SIMILAR` images of each class are chosen evenly over the data set and shown next to every image.
    similar_by : str
        The model whose embeddings determined the nearest neighbours in `similar`.
    examples : ClassExamples, optional
        Images of each class, if `images` contains only part of a data set; by default, they are chosen from
        `images`.
    n_examples : int
        Number of images at the end of `images` that are only shown next to others, as examples.
    findings : sequence of pyarrow.Table
        Tables ``findings`` with the kinds of errors of each model, ``class_errors`` with false positives and
        misses, and tables with other findings on images in one of the columns `FINDING_COLUMNS`.

    Returns
    -------
    Gallery

    Raises
    ------
    MatchError
        If labels, a model, similar images or findings share no image with `images`.
    """
    rows = rows_of_labels(images, labels)
    label = [row.label for row in rows]
    places = [places_of(images, label, p) for p in predictions] if label_places is None else label_places
    best = [best_classes(images, p) for p in predictions]
    ids = images.image_id.to_pylist()
    models = tuple(p.model for p in predictions)
    examples = ClassExamples.of(ids, classes_of_rows(rows)) if examples is None else examples
    choose = _chooser(ids, examples, similar)
    kinds, found, pair_errors = _findings(findings, models, ids)
    judged = {e.model for of in pair_errors.values() for e in of}
    texts = tuple(sorted({text for of in found.values() for text in of}))
    number = {text: n for n, text in enumerate(texts)}
    uris = image_values(images, "uri")
    shots = []
    for i, (image_id, row) in enumerate(zip(ids, rows, strict=True)):
        seen = tuple(tuple(of[i]) for of in best)
        own = pair_errors.get(image_id, ())
        listed = [*(c for of in seen for c, _ in of), *(e.class_id for e in own)]
        classes_of = dict.fromkeys(listed if row.label is None else [*listed, row.label])
        shots.append(
            Shot(
                image_id,
                uris[i],
                row.label,
                tuple((c, s) for s in ("yes", "unclear") for c in row.classes_in(s)),
                row.is_rated,
                len(row.classes_in("no")),
                row.remark,
                seen,
                tuple(
                    verdict(of[0][0] if of else None, row)
                    if m not in judged
                    else "wrong"
                    if any(e.model == m for e in own)
                    else "right"
                    for m, of in enumerate(seen)
                ),
                tuple(of[i] for of in places),
                {c: row.state(c) for c in classes_of},
                {c: choose(i, c) for c in classes_of},
                tuple(kinds.get((m, image_id), "") for m in models),
                tuple(number[text] for text in found.get(image_id, ())),
                own,
            )
        )
    names = _names(shots, classes)
    return Gallery(
        title,
        models,
        tuple(shots),
        names,
        examples.n,
        similar_by,
        texts,
        call,
        n_examples=n_examples,
        is_voted=labels is not None and not {"rated", "n_votes"}.isdisjoint(labels.table.column_names),
    )


def verdict(best: int | None, row: LabelRow) -> str:
    """Return the verdict on a model's top class, one of `TOP_VERDICTS`."""
    if best is None:
        return "none"
    state, is_label = row.state(best), best == row.label
    if not row.is_rated:  # states that no rater gave, such as a detector's, make nothing valid
        return "unknown" if row.label is None else "right" if is_label else "wrong"
    if state == "yes":
        return "right" if is_label or row.label is None else "valid"
    if state == "unclear":
        return "unclear"
    if is_label:
        # A label that no rater was asked about is not refuted.
        return "refuted" if state in ("no", UNRECORDED) else "right"
    return "unasked" if state == NOT_ASKED else "wrong"


def classes_of_rows(rows: Sequence[LabelRow]) -> Iterator[tuple[int, int]]:
    """Yield the position of each image with its original label or, if no image has any, each valid class."""
    if any(row.label is not None for row in rows):
        yield from ((i, row.label) for i, row in enumerate(rows) if row.label is not None)
    else:
        yield from ((i, c) for i, row in enumerate(rows) for c in row.classes_in("yes"))


def _chooser(
    ids: Sequence[str], examples: ClassExamples, similar: pa.Table | None
) -> Callable[[int, int], tuple[int, ...]]:
    """Return a function that chooses the images to show next to an image and a class."""
    at = {image_id: i for i, image_id in enumerate(ids)}
    members = {c: [at[i] for i in own if i in at] for c, own in examples.ids.items()}
    near = dict[tuple[int, int], list[int]]()
    for row in () if similar is None else similar.select(["image_id", "class_id", "neighbours"]).to_pylist():
        if row["image_id"] in at and row["class_id"] is not None:
            i = at[row["image_id"]]
            near[i, row["class_id"]] = [at[n] for n in row["neighbours"] if n in at and at[n] != i]
    if similar is not None:
        check_shared(bool(near), "similar images", similar, ids)

    def choose(image: int, class_id: int) -> tuple[int, ...]:
        if (image, class_id) in near:
            return tuple(near[image, class_id][:SIMILAR])
        return tuple(i for i in members.get(class_id, ()) if i != image)[:SIMILAR]

    return choose


def _findings(
    findings: Sequence[pa.Table], models: Sequence[str], ids: Sequence[str]
) -> tuple[dict[tuple[str, str], str], dict[str, list[str]], dict[str, tuple[PairError, ...]]]:
    """Return kinds of errors keyed by model and image, and other findings and pair errors keyed by image."""
    for table in findings:
        of = [table]
        shared = kinds_of_errors(of, models, ids), findings_on(of, ids), pair_errors_on(of, models, ids)
        check_shared(any(shared) or not table.num_rows, "findings", table, ids)
    pairs = pair_errors_on(findings, models, ids)
    judged = {models[e.model] for errors in pairs.values() for e in errors}
    # Kinds are those of top classes, which do not decide about independent classes.
    kinds = {of: k for of, k in kinds_of_errors(findings, models, ids).items() if of[0] not in judged}
    for image_id, errors in pairs.items():
        for m in {e.model for e in errors}:
            kinds[models[m], image_id] = " and ".join(sorted({e.error for e in errors if e.model == m}))
    return kinds, findings_on(findings, ids), pairs


def pair_errors_on(
    tables: Sequence[pa.Table], models: Sequence[str], ids: Sequence[str]
) -> dict[str, tuple[PairError, ...]]:
    """Return the false positives and misses on each image, the most confident first.

    Raises
    ------
    InputError
        If a probability is missing or is not a number.
    """
    at, found = {m: i for i, m in enumerate(models)}, dict[str, list[PairError]]()
    shown = set(ids)
    for table in tables:
        if not {*PAIR_ERROR_COLUMNS} <= {*table.column_names}:
            continue
        for image_id, model, *of in zip(*table.select(PAIR_ERROR_COLUMNS).to_pydict().values(), strict=True):
            if image_id in shown and model in at:
                if not isinstance(of[2], int | float) or math.isnan(of[2]):
                    raise InputError(
                        "An error of a model has no probability.",
                        where=f"class_errors, image {image_id}, {model}",
                        got=repr(of[2]),
                        allowed="a number in the column probability",
                        do="remove this row, or fill in the probability",
                    )
                found.setdefault(image_id, []).append(PairError(at[model], *of))
    return {i: tuple(sorted(of, key=lambda e: -e.confidence)) for i, of in found.items()}


def _names(shots: Sequence[Shot], classes: ClassList | None) -> dict[int, str]:
    used = {c for s in shots for c, _ in s.label_set} | {c for s in shots for c in s.states}
    used |= {s.label for s in shots if s.label is not None}
    return {c: class_name(classes, c) for c in sorted(used)}


FINDING_COLUMNS = ("finding", "group")
"""Columns that say in words, or by the number of a group, what was found on an image."""


def kinds_of_errors(
    tables: Sequence[pa.Table], models: Sequence[str], ids: Sequence[str]
) -> dict[tuple[str, str], str]:
    """Return the kinds of errors keyed by model and image; errors without a model apply to all models."""
    shown, kinds = set(ids), dict[tuple[str, str], str]()
    for table in tables:
        columns = [c for c in ("kind", "image_id", "model") if c in table.column_names]
        if finding_column(table) or not {"kind", "image_id"} <= {*columns}:
            continue
        for row in table.select(columns).to_pylist():
            if row["image_id"] in shown:
                own = row.get("model")
                kinds |= {(m, row["image_id"]): row["kind"] for m in models if own is None or own == m}
    return kinds


def findings_on(tables: Sequence[pa.Table], ids: Sequence[str]) -> dict[str, list[str]]:
    """Return the findings on each image as text, without duplicates."""
    found: dict[str, list[str]] = {image_id: [] for image_id in ids}
    for table in tables:
        if (column := finding_column(table)) is None:
            continue
        for image_id, value in zip(table["image_id"].to_pylist(), table[column].to_pylist(), strict=True):
            words = value if column == "finding" or value is None else f"group {value}"
            if image_id in found and words and words not in found[image_id]:
                found[image_id].append(str(words))
    return {image_id: words for image_id, words in found.items() if words}


def finding_column(table: pa.Table) -> str | None:
    """Return the column with findings on images other than kinds of errors; None if there is none."""
    names = table.column_names
    return next((c for c in FINDING_COLUMNS if c in names), None) if "image_id" in names else None


def check_shared(shared: bool, what: str, table: pa.Table, ids: Sequence[str]) -> None:
    """Raise an error if findings share no image or model with the gallery."""
    if not shared:
        named = "image_id" in table.column_names and table.num_rows
        raise MatchError(
            f"The {what} share no image or model with the gallery.",
            got=f"{what} on {table['image_id'][0].as_py()}" if named else f"{table.num_rows:,} rows",
            allowed=f"images such as {ids[0]}" if ids else None,
            do=f"pass {what} of the same images and models",
        )
