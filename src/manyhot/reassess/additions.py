"""Images and classes that are added to a campaign while raters answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import compute as pc

from manyhot import tables
from manyhot.classes import ClassList
from manyhot.errors import InputError, MatchError
from manyhot.files import atomic_write
from manyhot.formats import read_classes
from manyhot.reassess.class_changes import change_notes, changes_of_classes, record_changes
from manyhot.tables import Campaign, Images
from manyhot.tables.labels import class_list_metadata

_OVER_CLASSES = ("proposals", "votes", "golden", "labels")
"""Tables whose class ids stay valid if classes are added at the end of the list."""


def add_to_campaign(
    standing: Campaign, new: Campaign, images: Images, classes: ClassList
) -> tuple[Campaign, tuple[str, ...]]:
    """Add new images and classes to the files of a campaign; return its description, and notes.

    Images of the campaign that are not in `images` remain. An interrupted call can be repeated.

    Raises
    ------
    InputError
        If the campaign is an audit.
    MatchError
        If `classes` does not begin with the classes of the campaign in the same order, or if a class gets the
        name of another class.
    """
    if standing.path("audit_sample").is_file():
        raise InputError(
            "Nothing can be added to an audit, whose images are a random sample.",
            where=standing.folder,
            do="leave out `add`",
        )
    before = read_classes(standing.path("classes"))
    if classes.keys[: standing.n_classes] != before.keys[: standing.n_classes]:
        raise MatchError(
            "The classes of the campaign are not the first classes of the list.",
            where=standing.path("classes"),
            got=_first_difference(before, classes),
            allowed="the classes of the campaign in the same order, and new classes after them",
            do="put new classes at the end of the list",
        )
    wording = changes_of_classes(standing, before, classes)
    table = tables.read(standing.path("images"), "images")
    added = images.table.filter(pc.invert(pc.is_in(images.image_id, table["image_id"].combine_chunks())))
    whole = pa.concat_tables(
        [table.replace_schema_metadata(None), added.replace_schema_metadata(None)], promote_options="default"
    )
    changed = replace(
        standing,
        classes=classes.name,
        class_hash=classes.hash,
        n_classes=len(classes),
        n_images=len(whole),
        inputs={**standing.inputs, **new.inputs},
    )
    about = {"classes": classes.hash, "n_classes": str(len(classes))}
    inputs = changed.inputs
    record_changes(standing, wording, new.call)
    tables.write(class_table(classes), changed.path("classes"), "classes", call=new.call, inputs=inputs)
    tables.write(whole, changed.path("images"), "images", call=new.call, inputs=inputs, about=about)
    for name in _OVER_CLASSES:
        _write_class_list(changed.path(name), classes)
    changed.write()
    notes = (
        *_notes(standing, changed, len(table), images),
        *change_notes(wording),
        *_elsewhere(table, images.table),
    )
    return changed, notes


def _first_difference(before: ClassList, after: ClassList) -> str:
    pairs = enumerate(zip(before.keys, (*after.keys, *[None] * len(before)), strict=False))
    place, (old, new) = next((n, pair) for n, pair in pairs if pair[0] != pair[1])
    return f"class {place} is {old} in the campaign and {'missing' if new is None else new} in the list"


def _write_class_list(path: Path, classes: ClassList) -> None:
    """Write the class list into the metadata of a table; the class ids in it remain."""
    if not path.is_file() or path.suffix != ".parquet":
        return
    table = pq.read_table(path)
    stale = (b"manyhot.keys", b"manyhot.names")
    about = {key: value for key, value in (table.schema.metadata or {}).items() if key not in stale}
    about |= {key.encode(): value.encode() for key, value in class_list_metadata(classes).items()}
    with atomic_write(path) as part:
        pq.write_table(table.replace_schema_metadata(about), part, compression="zstd")


def _notes(before: Campaign, after: Campaign, n_images: int, images: Images) -> Iterator[str]:
    more, classes = after.n_images - n_images, after.n_classes - before.n_classes
    yield f"{more:,} images and {classes:,} classes were added"
    if absent := after.n_images - len(images):
        yield f"{absent:,} images of the campaign are not among the images passed; they are kept"
    has_models = any(after.path("predictions").glob("*.parquet"))
    if has_models and (more or classes):
        yield (
            "the predictions of the campaign lack the added images or classes: predict again, or propose "
            "with the `rule` all-classes"
        )


def _elsewhere(standing: pa.Table, images: pa.Table) -> Iterator[str]:
    """Yield a note on images that have the id of an image of the campaign, but are at another location."""
    if "uri" not in standing.column_names or "uri" not in images.column_names:
        return
    columns = ["image_id", "uri"]
    both = standing.select(columns).join(
        images.select(columns), "image_id", join_type="inner", right_suffix="_new"
    )
    moved = both.filter(pc.not_equal(both["uri"], both["uri_new"])).sort_by("image_id")
    if len(moved):
        yield (
            f"{len(moved):,} images were not added, because the campaign has images with the same names at "
            f"other locations, such as {moved['uri'][0]} for {moved['uri_new'][0]}: if the "
            "images differ, rename the new ones"
        )


def class_table(classes: ClassList) -> pa.Table:
    """Return a class list as the table ``classes``."""
    kind = pa.list_(pa.string())
    return pa.table(
        {
            "class_id": pa.array(range(len(classes)), pa.int32()),
            "key": pa.array(classes.keys, pa.string()),
            "name": pa.array(classes.names, pa.string()),
            "synonyms": pa.array(list(map(list, classes.synonyms)), kind),
            "definition": pa.array(classes.definitions, pa.string()),
            "hypernyms": pa.array(list(map(list, classes.hypernyms)), kind),
        }
    )


QUESTION = ["image_id", "class_id"]
"""The columns that identify a question."""


def with_campaign_questions(proposed: pa.Table, standing: pa.Table) -> tuple[pa.Table, str]:
    """Return the proposals of a campaign followed by the new ones, and a note on the number of each."""
    order = [(key, "ascending") for key in QUESTION]
    new = proposed.join(standing.select(QUESTION), QUESTION, join_type="left anti").sort_by(order)
    # The score of a rule without scores is a column of nulls or of doubles.
    known = standing.schema.remove_metadata()
    new = new.cast(pa.schema([known.field(f.name) if f.name in known.names else f for f in new.schema]))
    table = pa.concat_tables([standing.replace_schema_metadata(None), new], promote_options="default")
    return table, f"{len(new):,} questions were added to the {len(standing):,} of the campaign"
