"""A campaign that can be annotated: its database, filled from its tables, and the app."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manyhot import tables
from manyhot.classes import ClassList
from manyhot.errors import InputError
from manyhot.files import sha256
from manyhot.formats import read_classes, read_golden, read_images
from manyhot.formats.writing import PathLike
from manyhot.reassess.agreement import agreement
from manyhot.reassess.app.address import DATABASE, address_of, web_extra
from manyhot.reassess.ensemble import golden_labels
from manyhot.reassess.export_votes import write_answers
from manyhot.reassess.moved_images import find_images
from manyhot.tables import Campaign, Images

if TYPE_CHECKING:
    from fastapi import FastAPI

    from manyhot.reassess.app.access import Reach
    from manyhot.reassess.app.store import CampaignSettings, Example, ImageQuestions, Store


CACHE = ".pictures"


_RESAMPLES = 100
"""For the intervals on the owner's page, which are computed every few minutes, over up to a million votes."""


EXAMPLES_PER_CLASS = 24
"""Example images of each class in the database: eight are shown, never the image that is asked about."""


@dataclass(frozen=True, eq=False)
class Annotation:
    """A campaign whose questions can be answered.

    Attributes
    ----------
    campaign : Campaign
    store : Store
        Its database.
    app : FastAPI
    notes : tuple of str
        What the owner should know.
    """

    campaign: Campaign
    store: Store
    app: FastAPI
    notes: tuple[str, ...] = ()


@contextlib.contextmanager
def open_annotation(
    folder: PathLike,
    *,
    database: str | None = None,
    examples: PathLike | None = None,
    image_folder: PathLike | None = None,
    settings: CampaignSettings | None = None,
    alone: bool = False,
    reach: Reach | None = None,
) -> Iterator[Annotation]:
    """Open the database of a campaign, filled from its tables the first time, and make the app.

    Parameters
    ----------
    folder : path-like
        A campaign with proposals.
    database : str, optional
        Its address; by default a SQLite file in the folder.
    examples : path-like, optional
        An images table with labels, whose images are examples of their classes; by default that of the
        campaign. It matters only while the database is new.
    image_folder : path-like, optional
        The folder or tar archive of the images, if they were moved; the database remembers it.
    settings : CampaignSettings, optional
        They matter only while the database is new.
    alone : bool
        One person at a laptop: an owner's link needs no password.
    reach : Reach, optional
        The names and proxies through which people reach the app; by default any name.

    Raises
    ------
    InputError
        The campaign has no proposals, or its images table has no paths.
    MissingExtraError
        The extra ``web`` is not installed.
    """
    web = web_extra()
    campaign = Campaign.read(folder)
    classes = read_classes(campaign.path("classes"))
    store = web.Store(address_of(campaign, database))
    try:
        too_late = False
        if not store.is_filled():
            _fill(web, store, campaign, classes, examples, settings or web.CampaignSettings())
        elif examples is not None:
            too_late = _differ(store, _examples(web, read_images(examples, classes=classes)))
        if image_folder is not None:
            store.move_images(find_images(store.places(), Path(image_folder)))
        yield Annotation(
            campaign,
            store,
            web.create_app(
                store,
                classes,
                campaign.folder / CACHE,
                title=campaign.folder.resolve().name,
                callbacks=web.AppCallbacks(
                    judge=partial(agreement, resamples=_RESAMPLES),
                    export=lambda folder: write_answers(store, campaign, folder),
                    alone=alone,
                ),
                reach=reach,
            ),
            tuple(_notes(campaign, store, too_late=too_late)),
        )
    finally:
        store.close()


def _fill(
    web: Any,
    store: Store,
    campaign: Campaign,
    classes: ClassList,
    examples: PathLike | None,
    settings: CampaignSettings,
) -> None:
    proposals = campaign.path("proposals")
    if not proposals.is_file():
        raise InputError(
            "The campaign has no proposals yet.",
            where=campaign.folder,
            got="no proposals.parquet in it",
            do=f"propose the classes to ask about: manyhot propose {campaign.folder}",
        )
    images = read_images(campaign.path("images"), classes=classes)
    shown = images if examples is None else read_images(examples, classes=classes)
    store.fill(
        list(_asked(web, campaign, classes, images)),
        _examples(web, shown),
        settings,
        sha256(proposals),
    )


def _differ(store: Store, examples: Iterable[Example]) -> bool:
    """Return whether examples differ from those of a campaign that runs; the first hundred classes decide."""
    names: dict[int, list[str]] = {}
    for example in examples:
        names.setdefault(example.class_id, []).append(example.name)
    some = sorted(names)[:100]
    kept = store.examples(some)
    return any([name for _, name in kept.get(c, [])] != names[c] for c in some)


def _notes(campaign: Campaign, store: Store, *, too_late: bool) -> Iterator[str]:
    if store.source() != sha256(campaign.path("proposals")):
        yield (
            "the proposals have changed since annotation began; it goes on with the earlier ones. To ask "
            f"about the new ones, export, and move {DATABASE} away"
        )
    again = f"move {DATABASE} away and start again"
    if too_late:
        yield f"--examples has no effect: annotation began with other examples. To use these, export, {again}"
    asked, with_examples = store.count_examples()
    if with_examples * 2 < asked:
        yield (
            f"{asked - with_examples:,} of {asked:,} classes asked about have fewer than two example images: "
            f"raters see one or none, and go by names and definitions. For better ones, {again} with "
            "--examples TABLE, of other images with labels"
        )


def _asked(web: Any, campaign: Campaign, classes: ClassList, images: Images) -> Iterator[ImageQuestions]:
    proposals = tables.read(campaign.path("proposals"), "proposals")
    asked: dict[str, list[int]] = {}
    for image_id, class_id in zip(
        proposals["image_id"].to_pylist(), proposals["class_id"].to_pylist(), strict=True
    ):
        asked.setdefault(image_id, []).append(class_id)
    places = _places(images)
    golden = _golden(campaign, classes)
    for image_id, class_ids in asked.items():
        if image_id not in places:
            raise InputError(
                "A proposal is about an image that is not in the campaign.",
                where=campaign.path("proposals"),
                got=image_id,
                do=f"propose again: manyhot propose {campaign.folder}",
            )
        uri, label = places[image_id]
        yield web.ImageQuestions(image_id, uri, label, tuple(class_ids), golden.get(image_id, {}))


def _places(images: Images) -> dict[str, tuple[str, int | None]]:
    names = images.table.column_names
    if "uri" not in names:
        raise InputError(
            "The images table does not say where the images are.",
            where=images.name,
            got=f"columns {', '.join(names)}",
            allowed="a column uri: paths or addresses",
            do="make the campaign from the images.parquet that manyhot predict wrote",
        )
    labels = images.table["label"].to_pylist() if "label" in names else [None] * len(images)
    rows = zip(images.image_id.to_pylist(), images.table["uri"].to_pylist(), labels, strict=True)
    return {image_id: (uri, label) for image_id, uri, label in rows}


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


def _examples(web: Any, images: Images) -> Iterator[Example]:
    if images.label is None or "uri" not in images.table.column_names:
        return
    # Not the first of each class, which often are of one scene, but the same ones on each machine.
    order = sorted(_places(images).items(), key=lambda place: hashlib.sha256(place[0].encode()).digest())
    counts: dict[int, int] = {}
    for image_id, (uri, label) in order:
        if label is not None and counts.get(label, 0) < EXAMPLES_PER_CLASS:
            counts[label] = counts.get(label, 0) + 1
            yield web.Example(label, image_id, uri)
