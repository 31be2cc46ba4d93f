"""The questions and example images with which the annotation of a campaign begins."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from manyhot import tables
from manyhot.classes import ClassList
from manyhot.errors import InputError
from manyhot.files import local_path, sha256
from manyhot.formats import read_golden, read_images
from manyhot.formats.writing import PathLike
from manyhot.reassess.app.server import DATABASE
from manyhot.reassess.ensemble import golden_labels
from manyhot.tables import Campaign, Images
from manyhot.tables.audit_samples import read_audit_sample

if TYPE_CHECKING:
    from manyhot.reassess.app.store import CampaignSettings, Example, ImageQuestions, Store

EXAMPLES_PER_CLASS = 24
"""Example images of each class in the database: eight are shown, never the image that is asked about."""


def begin_annotation(
    web: Any,
    store: Store,
    campaign: Campaign,
    classes: ClassList,
    examples: PathLike | None,
    settings: CampaignSettings,
    *,
    by_id: bool = False,
) -> None:
    """Fill the database of a campaign from its tables.

    With `by_id`, the ids of images are used as file names if the images table lacks locations.

    Raises
    ------
    InputError
        If the campaign has no proposals, its images table has no paths, or raters are to qualify on golden
        pages, but there are none.
    """
    _check_proposed(campaign)
    images, chosen = _images_and_examples(web, campaign, classes, examples, by_id)
    store.fill(
        _asked(web, campaign, classes, images, partial(_proposals, campaign)),
        chosen,
        settings,
        sha256(campaign.path("proposals")),
    )


def follow_proposals(
    web: Any, store: Store, campaign: Campaign, classes: ClassList, *, by_id: bool = False
) -> Iterator[str]:
    """Once annotation has begun, update the questions to match the proposals; yield notes for the owner.

    New questions are added. Questions that are no longer proposed are not asked any more, but keep their
    answers; if they are proposed again, they are asked again.
    """
    digest = sha256(campaign.path("proposals")) if campaign.path("proposals").is_file() else ""
    if digest in ("", store.source()):
        return
    proposals = _proposals(campaign)
    found, counts = store.ask_only(proposals), {}

    def choose(asked: pa.Table) -> tuple[Iterable[ImageQuestions], Iterable[Example], str]:
        new = proposals.join(asked, ["image_id", "class_id"], join_type="left anti")
        counts["new"], counts["images"] = len(new), len(pc.unique(new["image_id"]))
        images, examples = _images_and_examples(web, campaign, classes, None, by_id)
        return _asked(web, campaign, classes, images, lambda: new), examples, digest

    store.add(choose)
    if counts["new"]:
        yield (
            f"{counts['new']:,} questions about {counts['images']:,} images were added, because they are new "
            "among the proposals"
        )
    if found.withdrawn:
        yield (
            f"{found.withdrawn:,} questions about {found.images:,} images are no longer among the proposals, "
            f"so they are no longer asked. {found.answers:,} answers to them are kept and exported"
        )
    if found.back:
        yield f"{found.back:,} questions are among the proposals again, so they are asked again"


def _check_proposed(campaign: Campaign) -> None:
    if not campaign.path("proposals").is_file():
        raise InputError(
            "The campaign has no proposals yet.",
            where=campaign.folder,
            got="no proposals.parquet in it",
            do=f"propose the classes to ask about: manyhot propose {campaign.folder}",
        )


def _proposals(campaign: Campaign) -> pa.Table:
    """Return the columns ``image_id`` and ``class_id`` of the proposals."""
    return tables.read(campaign.path("proposals"), "proposals").select(["image_id", "class_id"])


def _images_and_examples(
    web: Any, campaign: Campaign, classes: ClassList, examples: PathLike | None, by_id: bool
) -> tuple[Images, Iterator[Example]]:
    """Return the images of a campaign, and the example images of each class."""
    images = read_images(campaign.path("images"), classes=classes)
    if by_id and "uri" not in images.table.column_names:
        images = Images(images.table.append_column("uri", images.table["image_id"]), images.name)
    pa.default_memory_pool().release_unused()  # of 1.28 million images, 380 MB
    if examples is None and campaign.path("examples").is_file():
        examples = campaign.path("examples")
    if examples is None:
        return images, example_images(web, images)
    chosen = list(example_images(web, read_images(examples, classes=classes)))
    return images, _with_known_names(web, chosen, images)


def _with_known_names(web: Any, examples: Sequence[Example], images: Images) -> Iterator[Example]:
    """Yield examples with the ids of the campaign's images that are the same file, or a copy of it.

    By its id, an image is never an example beside itself.
    """
    sizes = {_size(example.uri) for example in examples}
    columns = _places(images)
    same: dict[str, str] = {}
    for start in range(0, len(columns), _CHUNK):
        for image_id, uri, _ in _rows(columns.slice(start, _CHUNK)):
            if _size(uri) in sizes:
                same[_content(uri)] = image_id
    for example in examples:
        yield web.Example(example.class_id, same.get(_content(example.uri), example.name), example.uri)


def _size(uri: str) -> int | str:
    """Return the bytes of a file; of what is elsewhere, or does not exist, the address."""
    path = local_path(uri)
    try:
        return uri if path is None else path.stat().st_size
    except (OSError, ValueError):
        return uri


def _content(uri: str) -> str:
    """Return what tells whether two addresses are of the same image."""
    path = local_path(uri)
    return uri if path is None or isinstance(_size(uri), str) else sha256(path)


def differ(store: Store, examples: Iterable[Example]) -> bool:
    """Return whether examples differ from those of a running campaign, based on the first 100 classes."""
    new: dict[int, list[tuple[str, str]]] = {}
    for example in examples:
        new.setdefault(example.class_id, []).append((example.name, example.uri))
    known = store.examples(sorted(new)[:100])
    for c in sorted(new)[:100]:
        names, places = [name for _, name in known.get(c, [])], store.example_places(c, EXAMPLES_PER_CLASS)
        # Some have another id since, others another location.
        if [name for name, _ in new[c]] != names and [place for _, place in new[c]] != places:
            return True
    return False


_CHUNK = 10_000
"""Images that are Python objects at once."""


def _asked(
    web: Any, campaign: Campaign, classes: ClassList, images: Images, read: Callable[[], pa.Table]
) -> Iterator[ImageQuestions]:
    """Yield the images of some proposals, some at a time: a training set has a million."""
    proposals = read()
    pa.default_memory_pool().release_unused()
    columns = _places(images)
    place = pc.index_in(proposals["image_id"], value_set=columns["image_id"].combine_chunks())
    if place.null_count:
        raise InputError(
            "The image of a proposal is not in the campaign.",
            where=campaign.path("proposals"),
            got=proposals["image_id"].filter(place.is_null())[0].as_py(),
            do=f"propose again: manyhot propose {campaign.folder}",
        )
    rows, class_ids = place.to_numpy(), proposals["class_id"].to_numpy()
    del proposals, place  # of 1.28 million images, 300 MB
    pa.default_memory_pool().release_unused()
    class_ids, counts = class_ids[np.argsort(rows, kind="stable")], np.bincount(rows, minlength=len(columns))
    at = np.flatnonzero(counts)
    ends = np.cumsum(counts[at])
    golden, order = _golden(campaign, classes), _order(campaign)
    for start in range(0, len(at), _CHUNK):
        some = columns.take(pa.array(at[start : start + _CHUNK]))
        for row, (image_id, uri, label) in enumerate(_rows(some), start):
            own = golden.get(image_id, {})
            if order and image_id not in order and not own:
                continue  # an audit's image for golden questions, which no expert has answered
            ids = class_ids[ends[row - 1] if row else 0 : ends[row]].tolist()
            yield web.ImageQuestions(image_id, uri, label, tuple(ids), own, order.get(image_id, 0))


def _order(campaign: Campaign) -> dict[str, int]:
    """Return the place of each image of an audit in the random order of its sample; empty for others."""
    if not campaign.path("audit_sample").is_file():
        return {}
    drawn = read_audit_sample(campaign.path("audit_sample")).drawn.to_pylist()
    return {image_id: place for place, image_id in enumerate(drawn)}


def _places(images: Images) -> pa.Table:
    """Return the ids, locations and labels of images, as columns."""
    names = images.table.column_names
    if "uri" not in names:
        raise InputError(
            "The images table lacks the locations of the images.",
            where=images.name,
            got=f"columns {', '.join(names)}",
            allowed="a column uri with paths or addresses",
            do="if the ids are file names, pass `image_folder`; otherwise, create the campaign from a table "
            "with the column uri, such as the images.parquet that manyhot predict writes",
        )
    labels = images.table["label"] if "label" in names else pa.nulls(len(images), pa.int32())
    return pa.table({"image_id": images.image_id, "uri": images.table["uri"], "label": labels})


def _rows(columns: pa.Table) -> Iterator[tuple[str, str, int | None]]:
    return zip(*(column.to_pylist() for column in columns.columns), strict=True)


def _golden(campaign: Campaign, classes: ClassList) -> dict[str, dict[int, bool]]:
    path = campaign.path("golden")
    if not path.is_file():
        return {}
    truths: dict[str, dict[int, bool]] = {}
    table = golden_labels(
        read_golden(path, classes=classes).to_table(), len(classes), classes.hash, "golden"
    ).table
    for image_id, asked, states in zip(
        *(table[name].to_pylist() for name in ("image_id", "classes", "state")), strict=True
    ):
        truths[image_id] = {c: state == "yes" for c, state in zip(asked, states, strict=True)}
    return truths


def unused_golden_notes(store: Store, campaign: Campaign, classes: ClassList) -> Iterator[str]:
    """Yield notes on golden answers that the app does not use: not proposed, or added too late."""
    golden = _golden(campaign, classes)
    if not golden or not campaign.path("proposals").is_file():
        return
    ids = pa.array(golden, pa.string())
    proposals = _proposals(campaign)
    there = proposals.filter(pc.is_in(proposals["image_id"], ids)).to_pylist()
    questions = [(row["image_id"], row["class_id"]) for row in there]
    proposed = {(i, c): golden[i][c] for i, c in questions if c in golden[i]}
    used, n = len(proposed.items() & store.golden_truths().items()), sum(map(len, golden.values()))
    if len(proposed) < n:
        yield (
            f"{n - len(proposed):,} of {n:,} golden questions are not among the proposals, so the app does "
            f"not ask them. It uses {used:,}"
        )
    if used < len(proposed):
        yield (
            f"{len(proposed) - used:,} golden answers were added or changed after the app had their "
            "questions, so it does not use them; `manyhot agreement` does. To use them in the app, export "
            f"the votes, move {DATABASE} away and start again"
        )


def example_images(web: Any, images: Images) -> Iterator[Example]:
    """Yield up to `EXAMPLES_PER_CLASS` example images of each class, from images with original labels."""
    if images.label is None or "uri" not in images.table.column_names:
        return
    columns = _places(images).filter(pc.is_valid(images.table["label"]))
    # Not the first of each class, which often are of one scene, but the same ones on each machine.
    hashes = np.fromiter(_hashes(columns["image_id"]), np.uint64, len(columns))
    labels = columns["label"].to_numpy()
    order = np.lexsort((hashes, labels))
    counts = np.unique(labels, return_counts=True)[1]
    place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    for image_id, uri, label in _rows(columns.take(pa.array(order[place < EXAMPLES_PER_CLASS]))):
        assert label is not None
        yield web.Example(label, image_id, uri)


def _hashes(names: pa.ChunkedArray) -> Iterator[int]:
    for start in range(0, len(names), _CHUNK):
        for name in names.slice(start, _CHUNK).to_pylist():
            yield int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
