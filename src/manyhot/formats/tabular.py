"""manyhot's tables as Parquet and CSV, with one row per image or in long form.

CSV has no lists: with one row per image, lists are written separated by spaces. They are read separated by
commas, semicolons or bars, or by spaces if the column has none of these. Classes may be indices, keys such as
WordNet ids, or names of the class list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from manyhot.classes import ClassList, class_list, classes_seen
from manyhot.errors import InputError, first_names
from manyhot.formats.class_cells import LIST_COLUMNS, with_lists
from manyhot.formats.class_names import check_numbered_names, class_indices, names_by_number, numbers_by_name
from manyhot.formats.class_numbers import keys_of_numbers
from manyhot.formats.csv_tables import LISTS_OF_IMAGES
from manyhot.formats.headers import RATER_NAMES, first_column
from manyhot.formats.reading import cut_for_message, declared, reading, with_image_ids
from manyhot.formats.table_files import TABLE_SUFFIXES, column_names, read_frame, with_small_offsets
from manyhot.kinds import FOLDER
from manyhot.parameters import check_one_of
from manyhot.registry import register
from manyhot.tables import (
    TABLES,
    Images,
    Labels,
    Predictions,
    Results,
    check,
    labels_from_table,
    metadata_number,
    predictions_from_table,
    read,
    read_dense,
    read_results_folder,
)
from manyhot.tables import metadata as table_metadata
from manyhot.tables.labels import declaring
from manyhot.tables.own_classes import list_of_names, own_list
from manyhot.tables.state_lists import ragged


def matches_table(table: str, fits: Callable[[list[str]], bool] | None = None) -> Callable[[Path], bool]:
    """Return a function that tests whether a file or folder contains a table of manyhot.

    Files without its metadata contain the table if their columns fit; by default, as in `possible_tables`.
    """

    def matches(path: Path) -> bool:
        if path.is_dir():
            return (path / f"{table}.parquet").is_file()
        own = declared(path)
        own = "proposals" if own == NEXT_QUESTIONS else own
        if own:
            return own == table
        names = column_names(path)
        return table in possible_tables(names) if fits is None else fits(names)

    return matches


NEXT_QUESTIONS = "questions"
NEXT_COLUMNS = frozenset(("image_id", "class_id", "score", "p", "state", "n_votes"))
"""The name and the columns of the table that ``manyhot next`` writes."""


def possible_tables(columns: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the tables that a file with these columns may contain."""
    names = set(columns)
    if names >= {"model", "metric", "value", "n"}:
        return ("results",)
    if names >= {"image_id", "class_id", "n_models"} or names >= NEXT_COLUMNS:
        return ("proposals",)
    if "image_id" not in names or names & {"rater_id", "expert_id", "n_models"}:
        # A file that cannot be read is taken for predictions, whose reader reports the error.
        return () if names else ("predictions",)
    if names & {"state", "usable", "rated", "n_votes", "method"} and names & {"class_id", "classes", "label"}:
        return ("labels",)  # otherwise, these are columns beside zeros and ones, such as states of a country
    if names & {"scores", "score", "rank", "logsumexp"}:
        return ("predictions",)
    if "class_id" in names or "classes" in names:
        if first_column(columns, RATER_NAMES) is not None:
            return ()
        return ("labels",) if "label" in names else ("predictions", "labels")
    return ("images",)


@register(
    "format",
    "labels-table",
    holds="labels",
    suffixes=TABLE_SUFFIXES,
    matches=matches_table("labels"),
    needs="image_id and classes, or image_id, class_id and state",
)
def read_labels_table(path: Path, *, classes: ClassList | None) -> Labels:
    """A labels table with lists, one row per image, or in long form: ``image_id,class_id,state``.

    In long form, an image with an empty label set has one row without ``class_id``.
    """
    if path.suffix.lower() == ".parquet" and declared(path):
        n_classes, key = size_and_hash(classes)
        table = read_own(path, "labels")
        return labels_from_table(table, name=path.stem, n_classes=n_classes, class_hash=key)
    return labels_of_frame(read_frame(path), path, classes)


def labels_of_frame(frame: pl.DataFrame, path: Path, classes: ClassList | None) -> Labels:
    """Return label sets from a frame with the columns of a labels table; see `read_labels_table`."""
    name = path.stem
    is_long = "class_id" in frame.columns
    exclusive = "exclusive" in frame.columns and bool((frame["exclusive"].cast(pl.String) == "true").all())
    frame = frame.drop("exclusive") if exclusive else frame
    frame = with_lists(frame, LISTS_OF_IMAGES if is_long else LIST_COLUMNS, classes, path)
    frame, named = numbers_by_name(frame, classes, path)
    is_own = classes is None and named is not None
    table = _labels_long(frame) if is_long else frame
    classes, assumed = named_list(table, named, name)
    table = _indexed(table, classes, path)
    if "usable" not in table.columns:
        table = table.with_columns(usable=pl.lit(True))
    if "state" not in table.columns:
        table = table.with_columns(state=pl.col("classes").list.eval(pl.lit("yes").repeat_by(1).list.first()))
    n_classes, key = size_and_hash(classes)
    labels = labels_from_table(_arrow(table), name=name, n_classes=n_classes, class_hash=key)
    own = classes and own_list(classes)
    labels = replace(labels, class_list=own, assumed=assumed, exclusive=exclusive)
    return declaring(labels, labels.class_list) if is_own and labels.class_list else labels


@register(
    "format",
    "predictions-table",
    holds="predictions",
    suffixes=TABLE_SUFFIXES,
    matches=matches_table("predictions"),
    needs="image_id and classes or scores, or image_id, class_id and rank or score",
)
def read_predictions_table(
    path: Path, *, classes: ClassList | None, rows: Images | None, scores: str | None
) -> Predictions:
    """A predictions table with lists, or in long form: ``class_id`` or ``class``, and rank or score."""
    own = path.suffix.lower() == ".parquet" and not {"classes", "class_id"} & set(column_names(path))
    if own or declared(path):
        _check_numbers(path)
        if (dense := read_dense(path, model=path.stem)) is not None:
            return dense
        return predictions_from_table(read_own(path, "predictions"), model=path.stem, source=str(path))
    frame = read_frame(path)
    if not {"class", "class_id", "classes", "scores"} & set(frame.columns):
        raise InputError(
            "The table does not contain the class of each score.",
            where=path,
            got=", ".join(map(cut_for_message, frame.columns)),
            allowed="image_id, class and score, or image_id and one column of scores per class",
            do="if all scores are of one class, rename the column of scores to this class",
        )
    if "class" in frame.columns and not {"class_id", "classes"} & set(frame.columns):
        frame = frame.rename({"class": "class_id"})
    is_long = "class_id" in frame.columns
    frame = frame if is_long else with_lists(frame, LIST_COLUMNS, classes, path)
    frame, classes = numbers_by_name(frame, classes, path)
    table = predictions_long(frame, path) if is_long else frame
    return predictions_of_frame(table, path, classes, scores or "score")


def predictions_of_frame(
    table: pl.DataFrame, path: Path, classes: ClassList | None, score_kind: str
) -> Predictions:
    """Return predictions from a frame with lists of classes, which are numbers, keys or names.

    If a class list is passed, names that are not in it are left out, and of several names of one class, the
    first of an image counts.
    """
    unlisted, notes = tuple[str, ...](), tuple[str, ...]()
    is_named = table.schema.get("classes") == pl.List(pl.String)
    if classes is not None and is_named:
        table, unlisted, notes = _of_class_list(table, classes, path)
    classes, is_assumed = named_list(table, classes, path.stem)
    if classes is not None and is_assumed:
        classes = _listed_by_all(table, path.stem) or classes
    arrow = _of_numbers(_arrow(_indexed(table, classes, path)), path)
    about = {b"manyhot.scores": score_kind.encode()} if "scores" in arrow.column_names else {}
    n_classes, key = size_and_hash(classes)
    about |= {b"manyhot.n_classes": b"%d" % n_classes, b"manyhot.classes": key.encode()}
    arrow = arrow.replace_schema_metadata(about)
    predictions = predictions_from_table(arrow, model=path.stem, source=str(path))
    own = classes and own_list(classes)
    return replace(
        predictions,
        class_list=own,
        assumed=classes is None,
        by_name=is_named,
        unlisted=unlisted,
        notes=notes,
    )


def in_full(predictions: Predictions) -> Predictions:
    """Return dense scores if each image has all classes of the list; the file then names all of them."""
    own, full = predictions.class_list, predictions.in_full()
    if own is None or not full.is_dense:
        return full
    return replace(full, class_list=replace(own, is_complete=True))


def _of_class_list(
    table: pl.DataFrame, classes: ClassList, path: Path
) -> tuple[pl.DataFrame, tuple[str, ...], tuple[str, ...]]:
    """Return lists of predicted classes in which each class of a list has one name, and all others have none.

    Names that are not in the list are also returned, and so is a note on images with several names of a
    class. If no name is in the list, the table is unchanged, and its reader reports a wrong list.
    """
    names = table["classes"].explode(empty_as_null=False).drop_nulls().unique(maintain_order=True)
    names = names.filter(names.str.strip_chars() != "")
    ids = class_indices(names, classes, path, absent=True)
    unlisted = tuple(sorted(names.filter(ids.is_null()).str.strip_chars().unique().to_list()))
    if ids.null_count() == len(ids) or not (unlisted or ids.is_duplicated().any()):
        return table, (), ()
    lists = [c for c in ("classes", "scores") if isinstance(table.schema.get(c), pl.List)]
    if any(not table[c].list.len().equals(table["classes"].list.len(), check_names=False) for c in lists):
        return table, (), ()
    known = dict(zip(names, ids, strict=True))
    rows = table.select(*lists).with_row_index("row").explode(lists, empty_as_null=False)
    rows = rows.with_columns(id=rows["classes"].replace_strict(known, default=-1, return_dtype=pl.Int32))
    rows = rows.filter(pl.col("id").is_not_null())
    is_first = pl.col("classes") == pl.col("classes").first().over("row", "id")
    again = rows.filter(~is_first.fill_null(True))
    once = rows.filter(is_first.fill_null(True)).group_by("row", maintain_order=True).agg(lists)
    empty = [pl.col(c).fill_null(pl.lit([], table.schema[c])) for c in lists]
    each = pl.DataFrame({"row": pl.Series(range(len(table)), dtype=once.schema["row"])})
    table = table.with_columns(each.join(once, on="row", how="left", maintain_order="left").select(empty))
    if not len(again):
        return table, unlisted, ()
    several = {
        classes.keys[i]: ", ".join(sorted(name for name in known if known[name] == i)[:3])
        for i in sorted(set(again["id"].to_list()))
    }
    note = (
        f"{again['row'].n_unique():,} of {len(table):,} lists contain several names of one class, of which "
        f"the highest-ranked counts: {first_names([f'{own} ({key})' for key, own in several.items()], 3)}"
    )
    return table, unlisted, (note,)


@register(
    "format",
    "results-table",
    holds="results",
    suffixes=(*TABLE_SUFFIXES, FOLDER),
    matches=matches_table("results"),
    needs="model, metric, value and n",
)
def read_results_table(path: Path, *, dataset: str | None = None) -> Results:
    """A results table of ``manyhot evaluate``, or a results folder with the tables pairs, samples and models.

    Parameters
    ----------
    dataset : str, optional
        The data set of the results. If the table has a column ``dataset``, only the rows of this data set are
        read.
    """
    if path.is_dir():
        results = read_results_folder(path)
        return results if dataset is None else replace(results, table=_of(results.table, dataset, path))
    if path.suffix.lower() == ".parquet" and declared(path):
        table = read_own(path, "results")
    else:
        frame = read_frame(path)
        if dataset is not None and "dataset" not in frame.columns:
            frame = frame.with_columns(dataset=pl.lit(dataset))
        absent = [
            c.name for c in TABLES["results"] if c.nullable and c.required and c.name not in frame.columns
        ]
        table = check(
            with_small_offsets(frame.with_columns(pl.lit(None).alias(c) for c in absent).to_arrow()),
            "results",
            where=path,
        )
    return Results(table if dataset is None else _of(table, dataset, path), name=path.stem)


def _of(table: pa.Table, dataset: str, path: Path) -> pa.Table:
    datasets = table["dataset"].unique().to_pylist()
    check_one_of(dataset, datasets, "The results are on other data sets.", where=path)
    return table.filter(pc.equal(table["dataset"], dataset))


@register(
    "format", "findings-table", holds="findings", suffixes=(".parquet",), matches=matches_table("findings")
)
def read_findings_table(path: Path) -> pa.Table:
    """A findings table that manyhot wrote."""
    return read_own(path, "findings")


@register(
    "format",
    "proposals-table",
    holds="proposals",
    suffixes=TABLE_SUFFIXES,
    matches=matches_table("proposals"),
    needs="image_id, class_id and n_models",
)
def read_proposals_table(path: Path, *, classes: ClassList | None) -> pa.Table:
    """A proposals table, or the questions of ``manyhot next``: images and classes to ask about."""
    own = read_own(path, "proposals") if declared(path) == "proposals" else None
    frame = read_frame(path) if own is None else pl.DataFrame(own)
    if classes is not None:
        check_numbered_names(names_by_number(frame), classes, path)
    if own is not None:
        return own
    if set(frame.columns) >= NEXT_COLUMNS:
        named = [name for name in ("class_name",) if name in frame.columns]
        frame = frame.select(
            "image_id", "class_id", "score", *named, n_models=pl.lit(0, pl.Int32), source=pl.lit("next")
        )
    if frame["class_id"].dtype == pl.String:
        frame = frame.with_columns(class_id=class_indices(frame["class_id"], classes, path, ids=True))
    return check(_arrow(frame), "proposals", where=path)


def read_own(path: Path, table: str) -> pa.Table:
    """Read a Parquet file of manyhot.

    Raises
    ------
    InputError
        If the file or its metadata is damaged.
    """
    _check_numbers(path)
    return read(path, table)


def _check_numbers(path: Path) -> None:
    """Check the numbers in the metadata of a Parquet file."""
    with reading(path):
        about = table_metadata(pq.read_schema(path))
    for key in ("schema", "n_classes"):
        metadata_number(about, key, path)


def _labels_long(frame: pl.DataFrame) -> pl.DataFrame:
    lists = [c for c in ("state", "p", "n_votes") if c in frame.columns]
    single = [c for c in ("label", "rated", "usable", "method", *LISTS_OF_IMAGES) if c in frame.columns]
    asked = pl.col("class_id").is_not_null()
    return frame.group_by("image_id", maintain_order=True).agg(
        *(pl.col(c).first() for c in single),
        pl.col("class_id").filter(asked).alias("classes"),
        *(pl.col(c).filter(asked) for c in lists),
    )


def predictions_long(frame: pl.DataFrame, path: Path, images: pl.DataFrame | None = None) -> pl.DataFrame:
    """Return the rows of a long table as lists, one row per image, best class first.

    If `images` lists all images, those without rows have empty lists.
    """
    frame = frame.rename({"score": "scores"}) if "score" in frame.columns else frame
    if "rank" in frame.columns:
        by, descending = "rank", False
    elif "scores" in frame.columns:
        by, descending = "scores", True
    else:
        raise InputError(
            "A long table of predictions needs a rank or a score for each class.",
            where=path,
            got=", ".join(frame.columns),
            allowed="image_id, class_id, and rank or score",
        )
    lists = [pl.col("class_id").alias("classes")] + ([pl.col("scores")] if "scores" in frame.columns else [])
    first = [pl.col("logsumexp").first()] if "logsumexp" in frame.columns else []
    grouped = frame.group_by("image_id", maintain_order=True)
    if by == "rank":
        tied = grouped.agg("rank").filter(pl.col("rank").list.n_unique() < pl.col("rank").list.len())
        if len(tied):
            raise InputError(
                "Two classes of an image have the same rank.",
                where=f"{path}, column rank, image {cut_for_message(str(tied[0, 'image_id']))}",
                got=first_names([str(rank) for rank in tied[0, "rank"]], 5),
                allowed="the place of each class of an image, such as 1, 2, 3, the best first",
                do="drop or rename the column if it is something else, such as the number of a process",
            )
    found = grouped.agg(*(c.sort_by(by, descending=descending, maintain_order=True) for c in lists), *first)
    if images is None:
        return found
    found = images.join(found, on="image_id", how="left", maintain_order="left")
    return found.with_columns(pl.exclude("image_id").fill_null([]))


def _of_numbers(table: pa.Table, path: Path) -> pa.Table:
    """Return a table of predictions, after checking that classes are integers and scores are numbers."""
    for name in ("classes", "scores", "logsumexp"):
        kind = table[name].type if name in table.column_names else pa.int32()
        item = kind.value_type if pa.types.is_list(kind) else kind
        if not (pa.types.is_integer(item) or pa.types.is_floating(item)):
            raise InputError(f"The column {name!r} does not contain numbers.", where=path, got=kind)
    if "classes" not in table.column_names:
        return table
    at = table.column_names.index("classes")
    try:
        return table.set_column(at, "classes", table["classes"].cast(pa.list_(pa.int32())))
    except pa.ArrowInvalid as error:
        raise InputError(
            "These are not classes.",
            where=f"{path}, column classes",
            got=str(error).partition("\n")[0],
            allowed="whole numbers",
        ) from error


def _indexed(frame: pl.DataFrame, classes: ClassList | None, path: Path) -> pl.DataFrame:
    """Turn keys and names of classes into indices."""
    if "label" in frame.columns:
        frame = frame.with_columns(label=keys_of_numbers(frame["label"], classes, path))
    if "label" in frame.columns and frame["label"].dtype == pl.String:
        frame = frame.with_columns(label=class_indices(frame["label"], classes, path))
    if "classes" in frame.columns and frame["classes"].dtype == pl.List(pl.String):
        flat = frame["classes"].explode(empty_as_null=False)
        mapped = class_indices(flat, classes, path).to_arrow()
        frame = frame.with_columns(classes=pl.Series(ragged(frame["classes"].list.len(), mapped)))
    return frame


def named_list(frame: pl.DataFrame, classes: ClassList | None, where: str) -> tuple[ClassList | None, bool]:
    """Return the class list of a table, and whether it is only assumed; see `list_of_names`.

    The list is `classes` if it is passed. Otherwise, it is None if classes are numbers.
    """
    if classes is not None:
        return classes, False
    columns = [frame[c] for c in ("label", "class_id", "classes") if c in frame.columns]
    flat = [c.explode(empty_as_null=False) if isinstance(c.dtype, pl.List) else c for c in columns]
    text = [c.str.strip_chars() for c in flat if c.dtype == pl.String]
    names = {name for values in text for name in values.drop_nulls().to_list() if name}
    if not any(re.search(r"[^\W\d_]|^0\d", name) for name in names):
        return None, True
    return list_of_names(names, where)


def _listed_by_all(table: pl.DataFrame, where: str) -> ClassList | None:
    """Return the names of classes in lists of scores if each list has all of them; None for other lists.

    Such a model has no other classes: a rifle, a revolver and a cleaver are three, not some of ImageNet-1k.
    """
    if "scores" not in table.columns or table.schema.get("classes") != pl.List(pl.String):
        return None
    names = table["classes"].explode(empty_as_null=False).unique().drop_nulls().to_list()
    is_full = 1 < len(names) < len(class_list()) and (table["classes"].list.n_unique() == len(names)).all()
    return classes_seen(names, where) if is_full else None


def size_and_hash(classes: ClassList | None) -> tuple[int, str]:
    """Return the size and the hash of a table's class list. Without a list, the hash is empty."""
    return (len(classes), classes.hash) if classes else (len(class_list()), "")


def _arrow(frame: pl.DataFrame) -> pa.Table:
    return with_image_ids(
        with_small_offsets(frame.with_columns(pl.col("image_id").cast(pl.String)).to_arrow())
    )
