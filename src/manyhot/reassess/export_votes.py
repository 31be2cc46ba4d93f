"""Export votes and remarks from the app as tables in the campaign: `manyhot export`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy import typing as npt
from pyarrow import compute as pc

from manyhot import tables
from manyhot.command import command
from manyhot.errors import MatchError, first_names
from manyhot.files import sha256, write_text
from manyhot.formats.writing import PathLike, check_place
from manyhot.parameters import Shown
from manyhot.reassess.app.server import DatabaseAddress, open_store
from manyhot.reassess.status import CampaignFolder
from manyhot.result import Result
from manyhot.run import QUIET, Run
from manyhot.tables import ANSWERS, Campaign, Golden, votes_from_table, write_golden
from manyhot.tables.frames import with_column
from manyhot.tables.image_ids import ids_like, without_option

if TYPE_CHECKING:
    from manyhot.reassess.app.store import Store


@dataclass(frozen=True, eq=False)
class ExportedVotes(Result):
    """The tables that were written: votes, and remarks if there are any; see `Result.written`."""

    def lines(self) -> Iterator[str]:
        """Yield nothing; the list of written files suffices."""
        return iter(())


@command(
    "export",
    examples=(
        "manyhot export campaign",
        "manyhot export campaign --payment payment.csv",
        "manyhot export audit/golden --golden audit/golden.parquet",
    ),
)
def export_votes(
    campaign: CampaignFolder,
    *,
    database: DatabaseAddress = None,
    golden: Annotated[PathLike | None, Shown("FILE")] = None,
    payment: Annotated[PathLike | None, Shown("FILE")] = None,
    run: Run = QUIET,
) -> ExportedVotes:
    """Write the votes and remarks from the annotation app as tables in the campaign.

    Each answer is a row, including answers that were changed later. Only a rater's last answer to a question,
    by answered_at, counts. Votes already in votes.parquet are kept if they were not given in this app, but,
    for example, in another tool or in an earlier app.

    Parameters
    ----------
    campaign
        Folder of the campaign.
    database
        Address of the database of answers, such as postgresql://HOST/NAME; by default, a file in the campaign
        folder.
    golden
        Also write the answers to this file as golden answers of experts, for example to golden.parquet of
        another campaign.
    payment
        Also write a CSV file on the work of each rater: finished and accepted pages, seconds at work, golden
        questions answered, and the informedness on them.

    Returns
    -------
    ExportedVotes

    Raises
    ------
    InputError
        If the campaign has no database yet.
    """
    home = Campaign.read(campaign)
    if golden is not None:
        check_place(Path(golden), "golden")
    if payment is not None:
        check_place(Path(payment), "payment")
    with open_store(home, database) as store:
        written, notes = write_answers(store, home, home.folder, run.call)
        if payment is not None:
            written.append(_write_payment(store, Path(payment)))
    if golden is not None:
        votes = votes_from_table(tables.read(written[0], "votes"), name=written[0].name)
        inputs = {written[0].name: sha256(written[0])}
        written.append(write_golden(Golden(votes), golden, call=run.call, inputs=inputs))
    return ExportedVotes(written=tuple(written), notes=notes)


def _write_payment(store: Store, path: Path) -> Path:
    from manyhot.reassess.app.store.payment import payment_csv

    write_text(path, payment_csv(store.payment()))
    return path


def write_answers(
    store: Store, campaign: Campaign, folder: Path, call: str = ""
) -> tuple[list[Path], tuple[str, ...]]:
    """Write votes, and remarks if there are any, to a folder.

    Votes that are already in the folder are kept if they were not given in this app.

    Returns
    -------
    written : list of Path
    notes : tuple of str
        Notes on the votes that were kept.
    """
    from manyhot.reassess.app.store.campaign_settings import protocol_of
    from manyhot.reassess.app.store.submissions import all_remarks, all_votes

    votes, remarks = _votes_table(store.read_all(all_votes)), store.read_all(all_remarks)
    others, notes = _votes_of_others(folder / campaign.path("votes").name, store, campaign, votes)
    if len(others):
        others, again = _beside(others, votes)
        notes = (f"{len(others):,} votes that were not given in this app were kept", *notes, *again)
    about = {
        "n_classes": str(campaign.n_classes),
        "classes": campaign.class_hash,
        "name": campaign.folder.resolve().name,
        "protocol": json.dumps(protocol_of(store.settings()), ensure_ascii=False),
    }
    inputs = {"proposals.parquet": sha256(campaign.path("proposals"))}
    table = pa.concat_tables([others, votes], promote_options="default") if len(others) else votes
    parts = {"votes": table} | ({"remarks": _remarks_table(remarks)} if remarks else {})
    written = [
        tables.write(table, folder / campaign.path(name).name, name, call=call, inputs=inputs, about=about)
        for name, table in parts.items()
    ]
    return written, notes


def _votes_of_others(
    path: Path, store: Store, campaign: Campaign, votes: pa.Table
) -> tuple[pa.Table, tuple[str, ...]]:
    """Return the votes in a file that were not given in this app, and notes on them.

    Their page, not their rater, tells: a rater may have answered in another tool or an earlier app. Votes of
    this app are not taken from the file, because the app may have left them out since.

    Their images get the ids of the campaign, which other tools may write with leading folders.

    Raises
    ------
    MatchError
        If these votes are over another class list.
    """
    from manyhot.reassess.app.store.accounts import ANSWERS_LEFT_OUT, all_raters
    from manyhot.reassess.app.store.visits import all_keys

    if not path.is_file():
        return pa.table({}), ()
    others = table = tables.read(path, "votes")
    renamed = tuple[str, ...]()
    if "page_id" in table.column_names:
        pages = pa.array(store.read_all(all_keys), pa.string())
        others = table.filter(pc.invert(pc.is_in(table["page_id"], pages)))
        renamed = tuple(_note_on_renamed(table, votes, path.name))
    if not len(others):
        return others, renamed
    classes = tables.metadata(table.schema).get("classes", campaign.class_hash)
    if classes != campaign.class_hash:
        raise MatchError(
            "The votes that were not given in this app have a different class list.",
            where=path,
            got=f"{len(others):,} votes with class list {classes[:12]}",
            allowed=f"class list {campaign.class_hash[:12]}",
            do="move this file out of the campaign, and export again",
        )
    images = pq.read_table(campaign.path("images"), columns=["image_id"])["image_id"].combine_chunks()
    encoded = others["image_id"].combine_chunks().dictionary_encode()
    with without_option():
        like = ids_like(encoded.dictionary, images, name=path.name, other_name="the campaign")
    others = with_column(others, "image_id", like.ids.take(encoded.indices))
    gone = [r.name for r in store.read_all(all_raters) if r.state == ANSWERS_LEFT_OUT]
    n_gone = pc.sum(pc.is_in(others["rater_id"], pa.array(gone, pa.string()))).as_py()
    note = (
        f"{n_gone:,} of them come from raters whose answers in the app are left out: if these votes should "
        f"not count either, remove them from {path.name}"
    )
    return others.replace_schema_metadata(None), (*([note] if n_gone else []), *renamed)


def _note_on_renamed(table: pa.Table, votes: pa.Table, name: str) -> Iterator[str]:
    """Yield a note on raters of the app who have other names in the file that is replaced."""
    before, after = (pl.DataFrame(t.select(["page_id", "rater_id"])).unique() for t in (table, votes))
    both = before.join(after, on="page_id", suffix="_app")
    pairs = both.filter(pl.col("rater_id") != pl.col("rater_id_app")).select("rater_id", "rater_id_app")
    if len(pairs):
        texts = [f"{own} is {app}" for own, app in pairs.unique().sort("rater_id").iter_rows()]
        yield (
            f"raters of the app had other names in {name}, and have those of the app again: "
            f"{first_names(texts, 3)}; to publish other names, rename raters in a copy of the file"
        )


_ANSWER = ["rater_id", "image_id", "class_id"]
"""The columns that identify the answer of a rater to a question."""


def _answered_again(others: pa.Table, votes: pa.Table) -> npt.NDArray[np.bool_]:
    """Return which votes of another origin their rater also gave in the app, in the first round."""
    first = pl.DataFrame(votes.filter(pc.equal(votes["round"], 0)).select(_ANSWER)).unique()
    frame = pl.DataFrame(others.select(_ANSWER)).join(
        first.with_columns(again=True), on=_ANSWER, how="left", maintain_order="left"
    )
    return np.asarray(frame["again"].fill_null(False).to_numpy() & (_rounds(others) == 0), bool)


def _rounds(table: pa.Table) -> npt.NDArray[np.int32]:
    if "round" not in table.column_names:
        return np.zeros(len(table), np.int32)
    return np.asarray(pc.fill_null(table["round"], 0).to_numpy(), np.int32)


def _beside(others: pa.Table, votes: pa.Table) -> tuple[pa.Table, tuple[str, ...]]:
    """Return votes of another origin, and notes on questions that their raters answered again in the app.

    Each of these is then known to be earlier or later than that of the app. Those without a time are left
    out: the answer in the app is newer than the file.
    """
    again = _answered_again(others, votes)
    if not again.any():
        return others, ()
    n = np.count_nonzero(again)
    note = f"{n:,} questions were answered again in the app by the same raters: the later answer counts"
    rounds = pa.array(_rounds(others))  # without a round, an answer is of the first
    if "round" in others.column_names:
        others = others.drop_columns("round")
    others = others.append_column("round", rounds)
    timed = np.zeros(len(others), bool)
    if "answered_at" in others.column_names:
        timed = others["answered_at"].is_valid().to_numpy()
    if n := np.count_nonzero(again & ~timed):
        note += f", and {n:,} earlier answers without a time were replaced"
    return others.filter(pa.array(~again | timed)), (note,)


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
    """Return times such that each answer is later than the one of the same rater that it replaces.

    Times come from the clock of a browser, which may be wrong; in the app, the answer that arrived later
    replaced the earlier one.
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
