"""A campaign to the annotation app, and its votes back.

Running the annotation app.
"""

from __future__ import annotations

import contextlib
import hashlib
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot import tables
from manyhot.classes import ClassList
from manyhot.errors import InputError
from manyhot.files import sha256
from manyhot.formats import read_classes, read_golden, read_images
from manyhot.formats.writing import PathLike
from manyhot.reassess.agreement import agreement
from manyhot.reassess.campaign import APP as DATABASE
from manyhot.reassess.campaign import find_images, web_extra
from manyhot.reassess.ensemble import golden_labels
from manyhot.tables import ANSWERS, Campaign, Images

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from manyhot.reassess.app.access import Reach
    from manyhot.reassess.app.store import CampaignSettings, Example, ImageQuestions, Store


CACHE = ".pictures"


_RESAMPLES = 100
"""For the intervals on the owner's page, which are found again every few minutes with a million votes."""


EXAMPLES = 24
"""Example images that are kept of each class: eight are shown, never the image that is asked about."""


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
    images: PathLike | None = None,
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
        An images table with labels whose images are examples of their classes; by default the campaign's own.
        Of a campaign whose database is new.
    images : path-like, optional
        The folder or tar archive where the images lie now, if they were moved; noted in the database.
    settings : CampaignSettings, optional
        Of a campaign whose database is new.
    alone : bool
        One person at a laptop: who opens an owner's link needs no password.
    reach : Reach, optional
        By which names and through which proxies the app is reached; by default by any name.

    Raises
    ------
    InputError
        The campaign has no proposals, or its images say not where they lie.
    MissingExtraError
        The extra ``web`` is not installed.
    """
    web = web_extra()
    campaign = Campaign.read(folder)
    classes = read_classes(campaign.path("classes"))
    store = web.Store(_address(campaign, database))
    try:
        too_late = False
        if not store.is_filled():
            _fill(web, store, campaign, classes, examples, settings or web.CampaignSettings())
        elif examples is not None:
            too_late = _differ(store, _examples(web, read_images(examples, classes=classes)))
        if images is not None:
            store.move_images(find_images(store.places(), Path(images)))
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
                    export=lambda folder: _write(store, campaign, folder),
                    alone=alone,
                ),
                reach=reach,
            ),
            tuple(_notes(campaign, store, too_late=too_late)),
        )
    finally:
        store.close()


def export_votes(folder: PathLike, *, database: str | None = None, call: str = "") -> list[Path]:
    """Write the votes and remarks of a campaign's database as its tables.

    Each answer is a row, changes of mind included: the last one of a rater by ``answered_at`` counts.

    Raises
    ------
    InputError
        The campaign has no database yet.
    """
    campaign = Campaign.read(folder)
    with open_store(campaign, database) as store:
        return _write(store, campaign, campaign.folder, call)


def _write(store: Store, campaign: Campaign, folder: Path, call: str = "") -> list[Path]:
    """Write votes, and remarks where there are any, into a folder."""
    from manyhot.reassess.app.store.submissions import all_remarks, all_votes

    votes, remarks = store.read_all(all_votes), store.read_all(all_remarks)
    about = {
        "n_classes": str(campaign.n_classes),
        "classes": campaign.class_hash,
        "name": campaign.folder.resolve().name,
    }
    inputs = {"proposals.parquet": sha256(campaign.path("proposals"))}
    parts = {"votes": _votes_table(votes)} | ({"remarks": _remarks_table(remarks)} if remarks else {})
    return [
        tables.write(table, folder / campaign.path(name).name, name, call=call, inputs=inputs, about=about)
        for name, table in parts.items()
    ]


def _address(campaign: Campaign, database: str | None) -> str:
    return database or f"sqlite:///{campaign.folder / DATABASE}"


@contextlib.contextmanager
def open_store(campaign: Campaign, database: str | None) -> Iterator[Store]:
    """Open the database of a campaign that has one.

    Raises
    ------
    InputError
        It has none yet.
    """
    web = web_extra()
    path = campaign.folder / DATABASE
    nobody = InputError(
        "Nobody has answered questions of this campaign yet.",
        where=campaign.folder,
        got=f"no {DATABASE} in it" if database is None else "an empty database",
        do=f"ask: manyhot annotate {campaign.folder}",
    )
    if database is None and not path.is_file():
        raise nobody
    store = web.Store(database or f"sqlite:///{path}")
    try:
        if not store.is_filled():
            raise nobody
        yield store
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
    """Whether examples are others than those of a campaign that runs; a hundred classes tell."""
    names: dict[int, list[str]] = {}
    for example in examples:
        names.setdefault(example.class_id, []).append(example.name)
    some = sorted(names)[:100]
    kept = store.examples(some)
    return any([name for _, name in kept.get(c, [])] != names[c] for c in some)


def _notes(campaign: Campaign, store: Store, *, too_late: bool) -> Iterator[str]:
    if store.source() != sha256(campaign.path("proposals")):
        yield (
            "the proposals have changed since it began; it goes on with those of then. To ask about the new "
            f"ones, export, and move {DATABASE} away"
        )
    anew = f"move {DATABASE} away and begin anew"
    if too_late:
        yield f"--examples has no effect: examples stay those of when it began. For others, export, {anew}"
    asked, with_examples = store.count_examples()
    if with_examples * 2 < asked:
        yield (
            f"{asked - with_examples:,} of {asked:,} classes asked about have fewer than two example images: "
            f"raters see one or none, and go by names and definitions. For better ones, {anew} with "
            "--examples TABLE, of other images with labels"
        )


def _asked(web: Any, campaign: Campaign, classes: ClassList, images: Images) -> Iterator[ImageQuestions]:
    proposals = tables.read(campaign.path("proposals"), "proposals")
    asked: dict[str, list[int]] = {}
    for image_id, class_id in zip(
        proposals["image_id"].to_pylist(), proposals["class_id"].to_pylist(), strict=True
    ):
        asked.setdefault(image_id, []).append(class_id)
    known = _places(images)
    golden = _golden(campaign, classes)
    for image_id, class_ids in asked.items():
        if image_id not in known:
            raise InputError(
                "A proposal is about an image that is not in the campaign.",
                where=campaign.path("proposals"),
                got=image_id,
                do=f"propose again: manyhot propose {campaign.folder}",
            )
        uri, label = known[image_id]
        yield web.ImageQuestions(image_id, uri, label, tuple(class_ids), golden.get(image_id, {}))


def _places(images: Images) -> dict[str, tuple[str, int | None]]:
    names = images.table.column_names
    if "uri" not in names:
        raise InputError(
            "The images table does not say where the images lie.",
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
        if label is not None and counts.get(label, 0) < EXAMPLES:
            counts[label] = counts.get(label, 0) + 1
            yield web.Example(label, image_id, uri)


def _votes_table(rows: Iterable[Any]) -> pa.Table:
    image, class_id, rater, answer, main, page, shown, answered, round_ = _columns(rows, 9)
    return pa.table(
        {
            "image_id": pa.array(image, pa.string()),
            "class_id": pa.array(class_id, pa.int32()),
            "rater_id": pa.array(rater, pa.string()),
            "answer": pa.array([ANSWERS[a] for a in answer], pa.string()),
            "main": pa.array(main, pa.bool_()),
            "page_id": pa.array(page, pa.string()),
            "shown_at": pa.array(shown, pa.timestamp("us", "UTC")),
            "answered_at": pa.array(_in_order(page, class_id, answered), pa.timestamp("us", "UTC")),
            "round": pa.array(round_, pa.int32()),
        }
    )


def _in_order(page: list[str], class_id: list[int], answered: list[int]) -> npt.NDArray[np.int64]:
    """Return times in which each answer is later than the one of the same rater that it replaces.

    The clock of a browser that was not connected says when, and may be wrong; what came later replaced the
    earlier for all who looked.
    """
    visit = pc.dictionary_encode(pa.array(page, pa.string())).indices.to_numpy().astype(np.int64)
    cells = visit * (max(class_id, default=0) + 1) + np.array(class_id, np.int64)
    order = np.argsort(cells, kind="stable")
    times = np.array(answered, np.int64)
    for at in np.flatnonzero(np.diff(cells[order]) == 0):
        before, after = order[at], order[at + 1]
        times[after] = max(times[after], times[before] + 1)
    return times


def _remarks_table(rows: Iterable[Any]) -> pa.Table:
    image, rater, text, missing, at = _columns(rows, 5)
    return pa.table(
        {
            "image_id": pa.array(image, pa.string()),
            "rater_id": pa.array(rater, pa.string()),
            "text": pa.array(text, pa.string()),
            "missing_class_id": pa.array(missing, pa.int32()),
            "at": pa.array(at, pa.timestamp("us", "UTC")),
        }
    )


def _columns(rows: Iterable[Any], count: int) -> list[list[Any]]:
    columns = [list(column) for column in zip(*rows, strict=True)]
    return columns or [[] for _ in range(count)]


def serve(app: FastAPI, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve an app until Ctrl-C or SIGTERM; either is a KeyboardInterrupt then.

    Parameters
    ----------
    app : FastAPI
    host : str
    port : int
        0 takes a free one.
    ready : callable
        Is told the address as soon as it answers.

    Raises
    ------
    InputError
        The address cannot be listened on.
    """
    import uvicorn

    with _listen(host, port) as listening, _ended_alike():
        name = f"[{host}]" if ":" in host else host
        ready(f"http://{name}:{listening.getsockname()[1]}")
        # Threads take turns after 0.1 ms instead of 5: who writes waits for the database ten times an answer,
        # and each time for a turn.
        sys.setswitchinterval(0.0001)
        uvicorn.Server(configured(app)).run(sockets=[listening])


@contextlib.contextmanager
def _ended_alike() -> Iterator[None]:
    """Let SIGTERM end the program in order, too: else answers are left in SQLite's log beside the file."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def configured(app: FastAPI) -> uvicorn.Config:
    """Return how the app is served."""
    import uvicorn

    from manyhot.reassess.app.access import LimitedConnection

    # No log of requests: their addresses hold invitations.
    # Connections outlive the look at a page; 5 s, which is usual, would break them in between.
    # What proxies say is for the app to believe or not.
    return uvicorn.Config(
        app,
        http=LimitedConnection,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
    )


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=256
        )
    except OSError as error:
        raise InputError(
            "The address cannot be listened on.",
            where=f"{host}:{port}",
            got=error.strerror or error,
            do="choose another --port, or 0 for a free one",
        ) from error
