"""Label sets of the same images from several sources: read, checked, and matched by image id."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import pyarrow as pa
from pyarrow import compute as pc

from manyhot.data import catalog
from manyhot.data.benchmarks import BENCHMARKS, is_published_name
from manyhot.data.inputs import LabelsLike, Reading, open_labels
from manyhot.errors import InputError, MatchError, did_you_mean
from manyhot.files import path_meant, sha256
from manyhot.formats import detect, read_images, read_labels
from manyhot.formats.writing import PathLike
from manyhot.parameters import Repeated, Shown
from manyhot.run import Run
from manyhot.tables import Labels
from manyhot.tables.definitions import STATES
from manyhot.tables.frames import examples
from manyhot.tables.image_ids import without_option
from manyhot.tables.labels import with_ids_like, with_zeros
from manyhot.tables.own_classes import over_list_of
from manyhot.tables.predictions import distinct_names
from manyhot.tables.unshared_classes import note_on_alike

SourcesLike = Annotated[Sequence[LabelsLike], Shown("LABELS"), Repeated()]
"""Label sets, each as a table, a file, a campaign or a published name; names joined by + are one source."""


@dataclass(frozen=True)
class PublishedSource:
    """Label sets of the catalogue.

    Attributes
    ----------
    files : tuple of str
        Files of the entry, each with label sets. If several files answer a question, the first one is used.
    beside : tuple of str
        Further files that the reader needs.
    format : str, optional
        The format of the files; None if it is detected.
    images : tuple of str, optional
        Catalogue entry that contains the original labels, and their file.
    only_yes : bool
        Whether only *yes* counts as an answer, because raters chose among classes of which several can be
        valid.
    question : str
        What raters were asked.
    """

    files: tuple[str, ...]
    question: str
    beside: tuple[str, ...] = ()
    format: str | None = None
    images: tuple[str, str] | None = None
    only_yes: bool = False


PUBLISHED_SOURCES: Mapping[str, PublishedSource] = {
    "imagenet-real": PublishedSource(
        ("scores.npz",),
        "Is this class in the image? Five raters, asked about classes that models proposed, on 24,889 "
        "images on which some model disagreed with the label",
        beside=("real.json",),
        images=("imagenet-val-predictions", "imagenet-validation-original.json"),
    ),
    "imagenet-multilabel": PublishedSource(
        ("multilabel.csv",),
        "Is this class correct, unclear or wrong? Five experts, asked about classes that models proposed "
        "and, later, mistakes of two models",
    ),
    "tsipras": PublishedSource(
        ("annotations_classify_task.pkl",),
        "Which of these classes is each object? 6 to 9 raters, who could choose several classes per image. "
        "Only classes that most raters chose are answers, with the answer yes",
        format="tsipras-selected(share=0.51)",  # 6 to 9 raters: more than half
        only_yes=True,
    ),
    "imagenet-mistakes": PublishedSource(
        ("vit3b_mistakes.json", "greedy_soups_mistakes.json"),
        "Is this prediction a mistake? A panel of experts, asked about predictions of two models that were "
        "not among the labels. Only mistakes are published, as the answer no",
        format="imagenet-mistakes-labels",
    ),
}
"""Entries of the catalogue that are sources, with what their raters were asked."""


@dataclass(frozen=True, eq=False)
class LabelSource:
    """The label sets and answers of one source.

    Attributes
    ----------
    name : str
    images : polars.DataFrame
        The columns image_id, label (null if unknown) and usable, with a row for each image of the label sets.
    answers : polars.DataFrame
        The columns image_id, class_id and answer (0 no, 1 maybe, 2 yes), with a row for each question that
        the source was asked about a usable image.
    labels : Labels
        The label sets; if several sources are joined, those of the first.
    question : str
        What raters were asked; empty if unknown.
    about : tuple of CatalogEntry or None
        The published data that the source contains; None stands for data that are not in the catalogue.
    inputs : Mapping of str to str
        The SHA-256 hash of each file, by name.
    """

    name: str
    images: pl.DataFrame
    answers: pl.DataFrame
    labels: Labels
    question: str = ""
    about: tuple[catalog.CatalogEntry | None, ...] = (None,)
    inputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """A hash of the answers, the same whichever file holds them and in whatever order."""
        return digest_of(self.answers.sort("image_id", "class_id"))

    @property
    def version(self) -> str:
        """A hash of everything that a merge uses from the source."""
        return self.digest + digest_of(self.images.sort("image_id"))


def digest_of(frame: pl.DataFrame) -> str:
    """Return a hash of the rows of a table, in their order."""
    return hashlib.sha256(frame.write_csv().encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class _Part:
    """Label sets as they were read, and the number of the source to which they belong."""

    source: int
    name: str
    labels: Labels
    question: str = ""
    about: tuple[catalog.CatalogEntry | None, ...] = (None,)
    inputs: Mapping[str, str] = field(default_factory=dict)
    only_yes: bool = False


def open_label_sources(
    sources: Sequence[Any], reading: Reading, run: Run
) -> tuple[list[LabelSource], tuple[str, ...]]:
    """Return the sources passed to a call, and notes on how they were read and ids of images matched.

    Raises
    ------
    InputError
        If there are fewer than two sources, if one is passed twice or has no answers, or if two have
        different original labels for an image.
    MatchError
        If sources have different class lists, or a source has no image in common with any other source.
    """
    if isinstance(sources, str | os.PathLike) or len(sources) < 2:
        raise InputError(
            "A merge requires at least two sources.",
            where="`sources`",
            got="one",
            allowed=f"label sets in any format, campaigns, benchmarks, {', '.join(PUBLISHED_SOURCES)}",
            do="pass another source, too; to correct label sets with answers: manyhot aggregate CAMPAIGN "
            "--labels FILE",
        )
    parts = [part for number, one in enumerate(sources) for part in _parts(number, one, reading, run)]
    read = [note for part in parts for note in part.labels.notes]
    parts = _over_one_list(parts)
    _check_class_lists(parts)
    parts, matched = _with_shared_ids(parts)
    names = _names(sources, parts)
    found = [_source(names[n], [p for p in parts if p.source == n]) for n in range(len(sources))]
    _check_answers(found)
    _check_images(found)
    _check_original_labels(found)
    return found, (*dict.fromkeys(read), *matched)


def _names(sources: Sequence[Any], parts: Sequence[_Part]) -> list[str]:
    """Return the names of the sources; those of equal names with their folders."""
    own = ["+".join(dict.fromkeys(p.name for p in parts if p.source == n)) for n in range(len(sources))]
    paths = [str(Path(s).resolve()) if isinstance(s, str | os.PathLike) else "" for s in sources]
    are_different = len(set(filter(None, paths))) == len(list(filter(None, paths)))
    names = distinct_names(zip(own, paths, strict=True)) if are_different else own
    return [f"{name} {n + 1}" if names.count(name) > 1 else name for n, name in enumerate(names)]


def _parts(number: int, source: Any, reading: Reading, run: Run) -> Iterator[_Part]:
    """Yield the label sets of a source."""
    if isinstance(source, str) and "+" in source and not Path(source).exists():
        for name in source.split("+"):
            yield from _parts(number, name.strip(), reading, run)
    elif isinstance(source, str) and source in PUBLISHED_SOURCES:
        yield from _published(number, source, run)
    elif isinstance(source, str | os.PathLike) and Path(source).is_file() and _holds_findings(source):
        labels, path = read_labels(source, format="imagenet-mistakes-labels"), Path(source)
        yield _Part(
            number, path.stem, labels, about=(_published_file(path),), inputs={path.name: sha256(path)}
        )
    else:
        yield _opened(number, source, reading, run)


def _holds_findings(path: PathLike) -> bool:
    return detect(path, ("labels",)) is None and detect(path, ("findings",)) is not None


def _published(number: int, name: str, run: Run) -> Iterator[_Part]:
    entry, report, about = PUBLISHED_SOURCES[name], run.on_progress, catalog.catalog_entry(name)
    progress = None if report is None else (lambda done, of: report(f"fetching {name}", done, of))
    files = catalog.fetch(name, only=[*entry.files, *entry.beside], progress=progress)
    inputs = {f"{name}/{file}": about.file(file).sha256 for file in files}
    for file in entry.files:
        labels = read_labels(files[file], format=entry.format)
        if entry.images is not None:
            labels = labels.with_labels(read_images(catalog.fetch_file(*entry.images, progress=progress)))
        yield _Part(number, name, labels, entry.question, (about,), inputs, entry.only_yes)


def _opened(number: int, source: Any, reading: Reading, run: Run) -> _Part:
    if isinstance(source, str | os.PathLike):
        _check_there(source)
    found = list(open_labels(source, reading=reading, run=run))
    if len(found) != 1:
        raise InputError(
            "A source must be a single data set.",
            where=source,
            got=", ".join(one.name for one in found),
            do="pass one of them",
        )
    (one,) = found
    labels = one.sets() if one.images is None else one.sets().with_labels(one.images)
    labels = replace(with_zeros(labels), notes=tuple(one.misfits.notes(one.name)))
    if one.published is not None:
        entry = catalog.catalog_entry(one.published.labels[0])
        return _Part(number, one.name, labels, _question_of(entry), (entry,), one.inputs)
    if one.campaign is not None or not isinstance(source, str | os.PathLike):
        return _Part(number, one.name, labels, inputs=one.inputs)
    known = _published_file(Path(source))
    return _Part(number, Path(source).stem, labels, _question_of(known), (known,), one.inputs)


def _check_there(source: PathLike) -> None:
    """Raise an error if a source is neither a path nor the name of published label sets."""
    if Path(source).exists() or is_published_name(str(source)):
        return
    published = dict.fromkeys(
        [*PUBLISHED_SOURCES, *(d.name for b in BENCHMARKS.values() for d in b.datasets)]
    )
    raise InputError(
        "There is no such source.",
        got=source,
        allowed=f"{', '.join(published)}; the folder of a campaign; label sets in a file",
        do=did_you_mean(str(source), published, 1) or path_meant(Path(source)),
    )


def _published_file(path: Path) -> catalog.CatalogEntry | None:
    """Return the entry of the catalogue that contains a file with these bytes."""
    digest = sha256(path) if path.is_file() else ""
    entries = map(catalog.catalog_entry, catalog.catalog_names())
    return next((e for e in entries if digest in {file.sha256 for file in e.files}), None)


def _question_of(entry: catalog.CatalogEntry | None) -> str:
    """Return what raters were asked for published labels that are read in the same way as the source."""
    source = None if entry is None else PUBLISHED_SOURCES.get(entry.name)
    return "" if source is None or source.format is not None else source.question


def _over_one_list(parts: Sequence[_Part]) -> list[_Part]:
    """Return the parts over the class list of the first that lists all classes, joined by name."""
    listed = [part.labels for part in parts if part.labels.class_list is not None]
    first = next((one for one in listed if one.class_list and one.class_list.is_complete), parts[0].labels)
    return [replace(part, labels=over_list_of(part.labels, first)) for part in parts]


def _check_class_lists(parts: Sequence[_Part]) -> None:
    first = parts[0].labels
    for part in parts[1:]:
        other = part.labels
        known = first.class_hash and other.class_hash
        if first.n_classes != other.n_classes or (known and first.class_hash != other.class_hash):
            raise MatchError(
                "Two sources have different class lists.",
                where=part.name,
                got=f"{other.n_classes:,} classes, class list {other.class_hash or 'unknown'}",
                allowed=f"{first.n_classes:,} classes, class list {first.class_hash or 'unknown'}, as in "
                f"{parts[0].name}",
                do="pass sources with the same classes, or the class list of all of them as `classes`",
            )


def _with_shared_ids(parts: Sequence[_Part]) -> tuple[list[_Part], tuple[str, ...]]:
    """Return the parts with the ids of earlier parts, and how ids were matched."""
    ids, found, notes = parts[0].labels.image_id, [parts[0]], []
    for part in parts[1:]:
        with without_option():
            labels, like = with_ids_like(part.labels, ids, other_name="the other sources")
        notes += [f"{part.name}: {like.text}"] * bool(like.n)
        found.append(replace(part, labels=labels))
        ids = pc.unique(pa.concat_arrays([ids, labels.image_id]))
    return found, (*notes, *filter(None, [note_on_alike(ids)]))


def _source(name: str, parts: Sequence[_Part]) -> LabelSource:
    """Return a source: where two parts answer a question, the answer of the first counts."""
    answers = pl.concat(map(_answers_of, parts))
    return LabelSource(
        name,
        pl.concat(map(_images_of, parts))
        .group_by("image_id", maintain_order=True)
        .agg(pl.col("label").drop_nulls().first(), pl.col("usable").any()),
        answers.unique(["image_id", "class_id"], keep="first", maintain_order=True),
        parts[0].labels,
        " · ".join(dict.fromkeys(part.question for part in parts if part.question)),
        tuple(dict.fromkeys(entry for part in parts for entry in part.about)),
        {key: value for part in parts for key, value in part.inputs.items()},
    )


def _images_of(part: _Part) -> pl.DataFrame:
    frame = pl.DataFrame(part.labels.table)
    label = pl.col("label") if "label" in frame.columns else pl.lit(None, pl.Int32).alias("label")
    return frame.select("image_id", label, "usable")


def _answers_of(part: _Part) -> pl.DataFrame:
    """Return the answers about images that are usable and that somebody rated.

    Labels of images that nobody rated are no answers. If raters chose one class of several, only yes is an
    answer.
    """
    frame, labels = pl.DataFrame(part.labels.table), part.labels
    rated = pl.col("rated").fill_null(True) if "rated" in frame.columns else pl.lit(True)
    codes = {state: code for code, state in enumerate(STATES)}
    long = frame.filter(pl.col("usable") & rated).select("image_id", "classes", "state")
    long = long.explode("classes", "state").drop_nulls("classes")
    if labels.exclusive or part.only_yes:
        long = long.filter(pl.col("state") == "yes")
    return long.select(
        "image_id",
        pl.col("classes").alias("class_id"),
        pl.col("state").replace_strict(codes, return_dtype=pl.Int8).alias("answer"),
    )


def _check_answers(sources: Sequence[LabelSource]) -> None:
    by_digest: dict[str, str] = {}
    for source in sources:
        if not len(source.answers):
            raise InputError(
                "A source has no answers.",
                where=source.name,
                got=f"{len(source.images):,} images, and raters were not asked about any class in them",
                allowed="label sets of usable images that raters saw",
                do="leave the source out",
            )
        if (other := by_digest.setdefault(source.digest, source.name)) != source.name:
            raise InputError(
                "The same source is passed twice.",
                where="`sources`",
                got=f"{other} and {source.name}, with the same {len(source.answers):,} answers",
                do="pass one of them",
            )


def _check_images(sources: Sequence[LabelSource]) -> None:
    for number, source in enumerate(sources):
        others = pl.concat(s.images.select("image_id") for n, s in enumerate(sources) if n != number)
        if not len(source.images.join(others, on="image_id", how="semi")):
            raise MatchError(
                "A source has no images in common with the other sources.",
                where=source.name,
                got=f"{len(source.images):,} images, such as {examples(source.labels.image_id)}",
                allowed=f"ids such as {examples(others['image_id'].to_arrow())}",
                do="pass label sets of the same images",
            )


def _check_original_labels(sources: Sequence[LabelSource]) -> None:
    for number, source in enumerate(sources):
        for other in sources[number + 1 :]:
            both = source.images.join(other.images, on="image_id", suffix="_other")
            differ = both.filter(pl.col("label") != pl.col("label_other"))
            if len(differ):
                image, label, theirs = differ.select("image_id", "label", "label_other").row(0)
                n = both.drop_nulls(["label", "label_other"]).height
                raise InputError(
                    "Two sources have different original labels of the same images.",
                    where=f"{source.name} and {other.name}",
                    got=f"{len(differ):,} of {n:,} images differ, such as {image}: {label} and {theirs}",
                    do="check that both have the same class list and data set",
                )
