"""The database of the annotation app; all SQL is in this package.

Use it through `Store`: each of its methods is one transaction.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future
from functools import partial, wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import pyarrow as pa
import sqlalchemy as sa

from manyhot.errors import OutputError
from manyhot.reassess.app.store import (
    accounts,
    crowd,
    database,
    disputes,
    fill,
    further,
    golden,
    pages,
    payment,
    remarks,
    schema,
    slots,
    submissions,
    visits,
    withdrawn,
)
from manyhot.reassess.app.store import campaign_settings as settings
from manyhot.reassess.app.store.accounts import Rater as Rater
from manyhot.reassess.app.store.campaign_settings import CampaignSettings as CampaignSettings
from manyhot.reassess.app.store.campaign_settings import change_settings, read_settings
from manyhot.reassess.app.store.database import Database, now
from manyhot.reassess.app.store.disputes import Dispute as Dispute
from manyhot.reassess.app.store.fill import Example as Example
from manyhot.reassess.app.store.fill import ImageQuestions as ImageQuestions
from manyhot.reassess.app.store.further import FurtherAnswers as FurtherAnswers
from manyhot.reassess.app.store.pages import Queue as Queue
from manyhot.reassess.app.store.payment import RaterWork
from manyhot.reassess.app.store.progress import VoteSnapshot as VoteSnapshot
from manyhot.reassess.app.store.progress import VoteTally
from manyhot.reassess.app.store.remarks import Remark as Remark
from manyhot.reassess.app.store.submissions import NewRemark as NewRemark
from manyhot.reassess.app.store.submissions import Receipt as Receipt
from manyhot.reassess.app.store.submissions import Vote as Vote
from manyhot.reassess.app.store.visits import Visit as Visit
from manyhot.reassess.app.store.withdrawn import Withdrawal

T = TypeVar("T")
_REMEMBER = 2.0
"""Seconds that a session is known without a look-up; what another process changes takes so long at most."""


_SESSIONS, _CLASSES = 10_000, 2_000
"""Sessions and classes, with their examples, that are remembered."""
_EXAMPLES = 1_000
"""Example images that are changed at once."""
_FIT_SECONDS, _FIT_PART = 1.0, 0.03
"""Seconds that a change of the number of raters waits for its pages; seconds of each part."""


P = ParamSpec("P")
_Query = Callable[Concatenate[sa.Connection, P], T]
_Method = Callable[Concatenate["Store", P], T]


def _reads(query: _Query[P, T]) -> _Method[P, T]:
    """Return the method that reads what `query` returns."""

    @wraps(query)
    def read(self: Store, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._database.read(lambda c: query(c, *args, **kwargs))

    return read


def _writes(change: _Query[P, T]) -> _Method[P, T]:
    """Return the method that makes a change."""

    @wraps(change)
    def write(self: Store, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._database.write(lambda c: change(c, *args, **kwargs))

    return write


def _changes(change: _Query[P, T]) -> _Method[P, T]:
    """Return the method that makes a change after which nothing that is remembered of raters holds."""

    @wraps(change)
    def write(self: Store, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._change(lambda c: change(c, *args, **kwargs))

    return write


class Store:
    """The database of a campaign.

    Parameters
    ----------
    url : str
        See `Database`.
    """

    places = _reads(fill.image_places)
    other_example_places = _reads(fill.other_example_places)
    settings = _reads(read_settings)
    owners = _reads(accounts.owners)
    invited = _reads(accounts.invited)
    is_crowd_link = _reads(crowd.is_link)
    raters = _reads(accounts.all_raters)
    last_done = _reads(visits.last_done)
    image_name = _reads(visits.image_name)
    count_free = _reads(slots.count_free)
    count_pages = _reads(visits.count_pages)
    dispute = _reads(disputes.find_dispute)
    visit = _reads(visits.find_visit)
    missing_classes = _reads(remarks.missing_classes)
    count_remarks = _reads(remarks.count)
    count_examples = _reads(fill.count_examples)
    count_golden_pages = _reads(golden.count_golden_pages)
    qualification_notes = _reads(golden.qualification_notes)
    golden_truths = _reads(golden.golden_truths)

    move_images = _writes(fill.move)
    crowd_link = _writes(crowd.make_link)
    refine = _writes(disputes.begin_next)
    remove_remarks = _writes(remarks.remove_remarks)

    invite = _changes(accounts.invite)
    stop = _changes(pages.stop)
    leave_out = _changes(pages.leave_out)
    count_again = _changes(accounts.count_again)
    let_go_on = _changes(accounts.let_go_on)
    begin_session = _changes(accounts.begin_session)
    join_crowd = _changes(crowd.join_crowd)
    end_session = _changes(accounts.end_session)

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self._sessions: dict[str, tuple[float, Rater]] = {}
        self._examples: dict[int, list[tuple[int, str]]] = {}
        try:
            self._database.upgrade()
        except BaseException:
            self._database.close()
            raise
        self._tally = VoteTally()

    def close(self) -> None:
        """Finish pending writes, and close."""
        self._database.close()

    def is_filled(self) -> bool:
        """Whether the database holds a campaign."""
        return self._database.read(lambda c: settings.get_value(c, "source")) is not None

    def backup(self, folder: Path) -> tuple[str, dict[str, int]]:
        """Write a consistent snapshot of all tables to files; return the revision and the numbers of rows."""
        return self._database.read_together(lambda c: (schema.version(c) or "", database.dump(c, folder)))

    @property
    def address(self) -> str:
        """The address at which the app was last served; empty if it never was."""
        return self._database.read(lambda c: settings.get_value(c, "address")) or ""

    @address.setter
    def address(self, address: str) -> None:
        self._database.write(lambda c: settings.put_value(c, "address", address))

    def write_something(self) -> None:
        """Write to the database; raise an error if that is not possible."""
        self._database.write(lambda c: settings.put_value(c, "ready", now()))

    def fill(
        self,
        asked: Iterable[ImageQuestions],
        examples: Iterable[Example],
        settings: CampaignSettings,
        source: str,
    ) -> bool:
        """Put a campaign into an empty database; see `fill.fill`."""
        return self._database.write(lambda c: fill.fill(c, asked, examples, settings, source))

    def add(
        self, choose: Callable[[pa.Table], tuple[Iterable[ImageQuestions], Iterable[Example], str]]
    ) -> None:
        """Add questions that the database does not contain yet; see `fill.add`.

        `choose` returns the arguments of `fill.add`, given the columns ``image_id`` and ``class_id`` of all
        questions. No other caller can add questions in the meantime.
        """
        self._database.write(lambda c: fill.add(c, *choose(fill.questions_asked(c))))

    def ask_only(self, questions: pa.Table) -> Withdrawal:
        """Withdraw all questions that are not in a table, and reinstate withdrawn questions that are in it.

        Other changes to the database can be made in between. An interrupted call can be repeated.
        """
        changes = self._database.read_together(lambda c: withdrawn.find_changes(c, questions))
        if len(changes):
            self._database.write(withdrawn.count_change)
        start = answers = 0
        while start < len(changes):
            begun = time.monotonic()
            start, more = self._database.write_last(partial(_change_some, changes, start))
            answers += more
            if start < len(changes):
                time.sleep(time.monotonic() - begun)  # half of the time is for answers of other processes
        hide, show = self._database.read(lambda c: withdrawn.find_examples(c, changes.unasked))
        for names, gone in ((hide, True), (show, False)):
            for first in range(0, len(names), _EXAMPLES):
                some = names[first : first + _EXAMPLES]
                self._database.write(partial(withdrawn.show_examples, names=some, withdrawn=gone))
        self._examples = {}
        if len(changes):
            self._database.write(withdrawn.count_change)
        n = int(changes.is_gone.sum())
        return Withdrawal(n, changes.images, answers, len(changes) - n)

    def ask_further(self, questions: pa.Table) -> FurtherAnswers:
        """Ask for one more answer to each of some questions; see `further.ask_further`.

        Either all questions are added or none. `questions` has the columns ``image_id``, ``class_id`` and
        ``n_votes``, the number of raters of the app who are known to have answered.
        """
        listed = self._database.read(lambda c: further.find_further(c, questions))
        return self._database.write(lambda c: further.ask_further(c, *listed))

    def change_settings(self, **changes: object) -> CampaignSettings:
        """Change some settings and return all settings; for a new number of raters, see `fit_slots`."""
        changed = self._change(lambda c: _change_settings(c, **changes))
        self.fit_slots()
        return changed

    def fit_slots(self) -> None:
        """Fit the number of slots per page to the number of raters, without blocking new answers.

        If the work takes longer than one second, a thread continues it. Call this method again after a
        restart.
        """
        if self._fit_slots(until=time.monotonic() + _FIT_SECONDS):
            threading.Thread(target=self._fit_slots, name="manyhot-slots", daemon=True).start()

    def _fit_slots(self, until: float = math.inf) -> bool:
        try:
            more = self._database.read(slots.is_to_fit)
            while more and time.monotonic() < until:
                begun = time.monotonic()
                more = self._database.write_last(
                    lambda c, others_wait: slots.fit_slots(
                        c, partial(_is_enough, others_wait, time.monotonic())
                    )
                )
                if until == math.inf:
                    time.sleep(min(time.monotonic() - begun, 0.5))  # half of the time is for answers
        except (
            OutputError
        ):  # closed, or the database is away: the rest is done after the next start or change
            return False
        return more

    def revoke(self, rater_id: int) -> None:
        """End a rater's invitation and sessions; answers are kept, and open pages go to other raters."""

        def change(connection: sa.Connection) -> None:
            accounts.revoke(connection, rater_id)
            pages.give_back_of(connection, rater_id)

        self._change(change)

    def end_invitation(self, rater_id: int) -> None:
        """End a rater's invitation; sessions remain valid."""
        self._database.write(lambda c: accounts.change(c, rater_id, invitation=None))

    def change_rater(self, rater_id: int, *, refines: bool, max_pages: int | None) -> None:
        """Set whether a rater decides where raters disagree, and the rater's maximum number of pages."""
        self._change(lambda c: accounts.change(c, rater_id, refines=refines, max_pages=max_pages))

    def set_password(self, token: str, password: str) -> Rater | None:
        """Set the password of an invited owner; see `accounts.set_password`."""
        password_hash = accounts.hash_password(password)
        return self._change(lambda c: accounts.set_password(c, token, password_hash))

    def log_in(self, name: str, password: str) -> Rater | None:
        """Return the owner with this name and password; None if there is none."""
        found = self._database.read(lambda c: accounts.find_password(c, name))
        right = accounts.is_password(password, found[1] if found else None)
        return found[0] if found and right else None

    def payment(self) -> list[RaterWork]:
        """Return the work of each rater; see `payment.rater_work`."""
        return self._database.read_together(payment.rater_work)

    def remembered(self, token: str) -> Rater | None:
        """Return the rater of a recently used session; None for other sessions and for owners.

        A cache avoids one query per answer. The transaction that stores an answer checks the permissions
        again.
        """
        at, rater = self._sessions.get(token, (0.0, None))
        return rater if time.monotonic() - at < _REMEMBER else None

    def of_session(self, token: str) -> Rater | None:
        """Return the rater of a session."""
        rater = self._database.read(lambda c: accounts.of_session(c, token))
        if rater is not None and not rater.is_owner:
            if len(self._sessions) >= _SESSIONS:
                self._sessions.clear()
            self._sessions[token] = (time.monotonic(), rater)
        return rater

    def names_with_links(self) -> set[str]:
        """Return the names of raters who were invited and not revoked."""
        return {r.name for r in self.raters() if not r.is_owner and r.state != "revoked"}

    def queue(self, rater: Rater) -> Queue:
        """Assign pages to a rater and return the open ones; see `pages.fill_queues`."""
        return self.begin_queue(rater).result()

    def begin_queue(self, rater: Rater) -> Future[Queue]:
        """Start `queue` without waiting for it."""
        return self._database.begin_with_others(pages.fill_queues, rater, most=pages.FILLED_TOGETHER)

    def campaign_id(self) -> str:
        """Return an id that distinguishes this campaign from others at the same address."""
        return str(self._database.read(lambda c: settings.get_value(c, "id")))

    def store(self, rater: Rater, sent: Sequence[Vote | NewRemark]) -> Receipt:
        """Store a rater's submission; see `submissions.store`."""
        return self.begin_store(rater, sent).result()

    def begin_store(self, rater: Rater, sent: Sequence[Vote | NewRemark]) -> Future[Receipt]:
        """Start `store` without waiting for it."""
        return self._database.begin_with_others(submissions.store, submissions.Submission(rater, sent))

    def votes(self) -> VoteSnapshot:
        """Read the new votes, and return all votes so far."""
        return self._database.read(self._tally.read)

    def disputes(self, pages: Sequence[int]) -> list[Dispute]:
        """Return some pages with all answers and remarks on them."""
        return self._database.read(
            lambda c: [found for p in pages if (found := disputes.find_dispute(c, p)) is not None]
        )

    def remarks(self, *, missing: int | None = None, before: int | None = None) -> list[Remark]:
        """Return remarks, newest first; see `remarks.latest`."""
        return self._database.read(lambda c: remarks.latest(c, missing=missing, before=before))

    def image(self, number: int) -> str | None:
        """Return the location of an image of the campaign."""
        query = sa.select(schema.images.c.uri).where(schema.images.c.id == number)
        return self._database.read(lambda c: c.scalar(query))

    def example(self, class_id: int, position: int) -> str | None:
        """Return the location of an example image of a class; None if it does not exist or was withdrawn."""
        table = schema.examples
        at = (table.c.class_id == class_id) & (table.c.position == position)
        query = sa.select(table.c.uri).where(at, ~table.c.withdrawn)
        return self._database.read(lambda c: c.scalar(query))

    def strip_places(self, class_id: int, positions: Collection[int]) -> list[str]:
        """Return the locations of some example images of a class, by position, without withdrawn ones."""
        table = schema.examples
        at = (table.c.class_id == class_id) & table.c.position.in_(positions)
        query = sa.select(table.c.uri).where(at, ~table.c.withdrawn).order_by(table.c.position)
        return self._database.read(lambda c: list(c.scalars(query)))

    def which_are_examples(self, names: Collection[str]) -> set[str]:
        """Return which of some images are examples of a class."""
        name = schema.examples.c.name
        query = sa.select(name).where(name.in_(names), ~schema.examples.c.withdrawn).distinct()
        return set(self._database.read(lambda c: c.scalars(query).all()))

    def example_places(self, class_id: int, most: int) -> list[str]:
        """Return the locations of the first example images of a class, by position."""
        table = schema.examples
        query = sa.select(table.c.uri).where(table.c.class_id == class_id, table.c.position <= most)
        return self._database.read(lambda c: list(c.scalars(query.order_by(table.c.position))))

    def source(self) -> str:
        """Return the SHA-256 hash of the proposals."""
        return str(self._database.read(lambda c: settings.get_value(c, "source")))

    def examples(self, class_ids: Collection[int]) -> dict[int, list[tuple[int, str]]]:
        """Return the positions and image_ids of the example images of each class, in the order of positions.

        They are cached: they change only if images are withdrawn, and reading them for four pages takes as
        long as the rest of the request.
        """
        known = self._examples
        if not known.keys() >= set(class_ids):
            known = (known if len(known) < _CLASSES else {}) | self._database.read(
                lambda c: fill.examples_of(c, set(class_ids))
            )
            self._examples = known
        return {c: known[c] for c in class_ids if known[c]}

    def _change(self, change: Callable[[sa.Connection], T]) -> T:
        """Make a change after which nothing that is remembered of raters holds."""
        try:
            return self._database.write(change)
        finally:
            self._sessions.clear()

    def read_all(self, query: Callable[[sa.Connection], Iterable[T]]) -> list[T]:
        """Return all rows of one of the queries of `submissions`."""
        return self._database.read_together(lambda c: list(query(c)))  # in parts, of one moment


def _is_enough(others_wait: Callable[[], bool], begun: float) -> bool:
    return others_wait() or time.monotonic() - begun >= _FIT_PART


def _change_some(
    changes: withdrawn.Changes, start: int, connection: sa.Connection, others_wait: Callable[[], bool]
) -> tuple[int, int]:
    is_enough = partial(_is_enough, others_wait, time.monotonic())
    return withdrawn.change_pages(connection, changes, start, is_enough)


def _change_settings(connection: sa.Connection, **changes: object) -> CampaignSettings:
    before = read_settings(connection)
    after = change_settings(connection, **changes)
    if "qualify" in changes:
        golden.check_golden(connection, after)
    if after.raters != before.raters:
        slots.want_slots(connection)
    return after
