"""The tables of the database, the same in SQLite and PostgreSQL.

Times are whole microseconds since 1970 in UTC: both databases keep and order them exactly.

A *visit* is a rater's look at a *page*: an image with some of its questions. A page has as many *slots* as
raters are wanted. A visit holds one slot until it is done. A slot that is given back keeps the answers that
it got, and who takes it next is asked the rest: each question gets exactly the wanted number of raters, and
no answer is thrown away. A rater may so have several visits to a page, each to other classes. A slot with
classes of its own asks about these only: it is for one more answer to each, beyond the wanted number.

Golden pages, whose answers experts gave, have no slots: each rater may see each of them once. Neither have
visits of round 1, in which one person decides where the raters of a page disagree.

A question that is withdrawn is not asked any more. Its answers stay, and it can come back.

Votes are only ever added. Remarks are never changed; the owner may remove them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from manyhot.errors import InputError, OutputError
from manyhot.reassess.app.store import engines

metadata = sa.MetaData()


def _id() -> sa.Column[int]:
    # SQLite numbers rows by itself where the type is INTEGER, to the letter.
    return sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True)


def _to(table: str) -> sa.Column[int]:
    name = f"{table.removesuffix('s')}_id"
    return sa.Column(name, sa.BigInteger, sa.ForeignKey(f"{table}.id"), nullable=False)


settings = sa.Table(
    "settings",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False, comment="JSON"),
)

images = sa.Table(
    "images",
    metadata,
    _id(),
    sa.Column("name", sa.Text, nullable=False, unique=True, comment="image_id of the tables"),
    sa.Column("uri", sa.Text, nullable=False),
    sa.Column("label", sa.Integer, comment="the original label"),
)

examples = sa.Table(
    "examples",
    metadata,
    sa.Column("class_id", sa.Integer, primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("uri", sa.Text, nullable=False),
    sa.Column(
        "withdrawn",
        sa.Boolean,
        nullable=False,
        server_default=sa.false(),
        comment="not shown: nothing is asked about this image any more",
    ),
    sa.Index("examples_by_name", "name"),
)

pages = sa.Table(
    "pages",
    metadata,
    _id(),
    _to("images"),
    sa.Column("position", sa.BigInteger, nullable=False, unique=True, comment="the order of asking"),
    sa.Column("golden", sa.Boolean, nullable=False, comment="whether experts answered all its questions"),
)

questions = sa.Table(
    "questions",
    metadata,
    _id(),
    _to("pages"),
    sa.Column("class_id", sa.Integer, nullable=False),
    sa.UniqueConstraint("page_id", "class_id"),
)

golden = sa.Table(
    "golden",
    metadata,
    sa.Column("question_id", sa.BigInteger, sa.ForeignKey("questions.id"), primary_key=True),
    sa.Column("truth", sa.Boolean, nullable=False, comment="more than half of the experts said yes"),
)

withdrawn = sa.Table(
    "withdrawn",
    metadata,
    sa.Column("question_id", sa.BigInteger, sa.ForeignKey("questions.id"), primary_key=True),
)

IS_ASKED = ~sa.exists().where(withdrawn.c.question_id == questions.c.id)
"""Questions that are not withdrawn."""


def _idle_pages() -> sa.Select[tuple[int]]:
    on_page, none = questions.alias(), withdrawn.alias()
    asked = sa.exists().where(
        on_page.c.page_id == questions.c.page_id, ~sa.exists().where(none.c.question_id == on_page.c.id)
    )
    # With a join, SQLite looks at all questions: 1.6 s for 1.28 million images, in which others wait.
    is_withdrawn = questions.c.id.in_(sa.select(withdrawn.c.question_id))
    return sa.select(questions.c.page_id).where(is_withdrawn, ~asked).distinct()


IDLE_PAGES = _idle_pages()
"""The numbers of pages whose questions are all withdrawn."""


raters = sa.Table(
    "raters",
    metadata,
    _id(),
    sa.Column("name", sa.Text, nullable=False, unique=True, comment="rater_id of the tables"),
    sa.Column("role", sa.Text, nullable=False, comment="rater or owner"),
    sa.Column("invitation", sa.Text, unique=True, comment="sha256 of the token; null once revoked"),
    sa.Column("seed", sa.Integer, nullable=False, comment="of the order of classes"),
    sa.Column("position", sa.BigInteger, nullable=False, comment="of the last page taken"),
    sa.Column("max_pages", sa.Integer, comment="null: as many as there are"),
    sa.Column("state", sa.Text, nullable=False, comment="active, stopped or revoked"),
    sa.Column("refines", sa.Boolean, nullable=False, comment="decides where others disagree"),
    sa.Column(
        "qualified", sa.Boolean, comment="whether the first golden pages were passed; null if not yet known"
    ),
    sa.Column("password", sa.Text, comment="Argon2 hash of the password of an owner"),
    sa.Column("stopped_for", sa.Text, comment="why the app stopped the rater"),
    sa.Column(
        "judged_from",
        sa.BigInteger,
        nullable=False,
        server_default="0",
        comment="visits after this one are judged: the owner let the rater continue",
    ),
    sa.Column("made_at", sa.BigInteger, nullable=False),
)

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("token", sa.Text, primary_key=True, comment="sha256"),
    _to("raters"),
    sa.Column("expires_at", sa.BigInteger, nullable=False),
)

visits = sa.Table(
    "visits",
    metadata,
    _id(),
    sa.Column("key", sa.Text, nullable=False, unique=True, comment="page_id of the votes"),
    _to("pages"),
    _to("raters"),
    sa.Column("round", sa.Integer, nullable=False, comment="0 first, 1 refinement"),
    sa.Column("slot_id", sa.BigInteger, comment="null: golden, or refinement"),
    sa.Column("shown", sa.Text, nullable=False, comment="JSON: class ids in the order shown"),
    sa.Column("partial", sa.Boolean, nullable=False, comment="whether the page has more classes"),
    sa.Column("shown_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False, comment="open, done or returned"),
    sa.Column("done_at", sa.BigInteger),
    sa.Index("visits_of_page", "page_id", "rater_id", "round"),
    sa.Index("visits_of_rater", "rater_id", "state"),
    sa.Index(
        "visits_open",
        "expires_at",
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    ),
)

_FURTHER = sa.text("visit_id IS NULL AND classes IS NOT NULL")
slots = sa.Table(
    "slots",
    metadata,
    _id(),
    _to("pages"),
    sa.Column("position", sa.BigInteger, nullable=False, comment="of its page"),
    sa.Column("visit_id", sa.BigInteger, comment="who holds it; null: free"),
    sa.Column("classes", sa.Text, comment="JSON: class ids to ask about; null: all of the page"),
    sa.Index(
        "slots_free",
        "position",
        sqlite_where=sa.text("visit_id IS NULL"),
        postgresql_where=sa.text("visit_id IS NULL"),
    ),
    sa.Index("slots_of_page", "page_id"),
    sa.Index("slots_further", "page_id", sqlite_where=_FURTHER, postgresql_where=_FURTHER),
)

votes = sa.Table(
    "votes",
    metadata,
    _id(),
    sa.Column(
        "key",
        sa.Text,
        nullable=False,
        comment="made by the browser, so that a vote that is sent twice is stored once",
    ),
    _to("raters"),
    _to("visits"),
    _to("questions"),
    sa.Column("answer", sa.SmallInteger, nullable=False, comment="0 no, 1 maybe, 2 yes"),
    sa.Column("main", sa.Boolean, nullable=False),
    sa.Column("answered_at", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("rater_id", "key"),
    sa.Index("votes_of_visit", "visit_id", "question_id"),
)

remarks = sa.Table(
    "remarks",
    metadata,
    _id(),
    sa.Column("key", sa.Text, nullable=False),
    _to("raters"),
    _to("visits"),
    sa.Column("text", sa.Text),
    sa.Column("missing_class_id", sa.Integer),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("rater_id", "key"),
    sa.Index("remarks_of_visit", "visit_id"),
)

_VERSION = "alembic_version"


def upgrade_tables(engine: sa.Engine) -> None:
    """Create the tables of a database, or upgrade those of an earlier version.

    All changes are made or none. Only one process at a time makes them.

    Raises
    ------
    InputError
        If the database is from a later version of manyhot, or belongs to another program.
    OutputError
        If the database cannot be opened.
    """
    config, where = _config(), engines.where(engine)
    try:
        with engine.connect() as reading:
            if version(reading) == ScriptDirectory.from_config(config).get_current_head():
                return
        with engine.connect().execution_options(begin="BEGIN IMMEDIATE") as connection, connection.begin():
            engines.lock(connection)
            _check(connection, config, where)  # another process may have been faster
            _go(connection, config, "head")
    except sa.exc.DBAPIError as error:
        raise OutputError(
            "The database cannot be opened.",
            where=where,
            got=engines.error_text(error),
            do="check the address and that the server is running",
        ) from error


def create_tables(
    engine: sa.Engine, revision: str, fill: Callable[[sa.Connection], None], before_commit: Callable[[], None]
) -> None:
    """Create the tables of a revision in an empty database, fill and upgrade them, completely or not at all.

    Raises
    ------
    InputError
        If the database is not empty, or the revision does not exist.
    """
    config, where = _config(), engines.where(engine)
    _check_known(revision, config, "The backup")
    with engine.connect().execution_options(begin="BEGIN IMMEDIATE") as connection, connection.begin():
        engines.lock(connection)
        if standing := sa.inspect(connection).get_table_names():
            raise InputError(
                "The database is not empty.",
                where=where,
                got=", ".join(sorted(standing)),
                do="restore into a new database",
            )
        _go(connection, config, revision)
        fill(connection)
        _go(connection, config, "head")
        before_commit()


def version(connection: sa.Connection) -> str | None:
    """Return the revision of a database's tables; None if it has none."""
    if not sa.inspect(connection).has_table(_VERSION):
        return None
    found: str | None = connection.scalar(sa.text(f"SELECT version_num FROM {_VERSION}"))  # noqa: S608
    return found


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def _go(connection: sa.Connection, config: Config, revision: str) -> None:
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _check_known(revision: str, config: Config, what: str, where: str | None = None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision not in known:
        raise InputError(
            f"{what} was made by a later version of manyhot.",
            where=where,
            got=f"version {revision}",
            allowed=f"version {max(known)} and earlier",
            do="upgrade manyhot",
        )


def _check(connection: sa.Connection, config: Config, where: str) -> None:
    standing = version(connection)
    if standing is not None:
        _check_known(standing, config, "The database", where)
        return
    strange = sorted(set(sa.inspect(connection).get_table_names()) & set(metadata.tables))
    if strange:
        raise InputError(
            "The database contains tables of another program.",
            where=where,
            got=", ".join(strange),
            do="use a separate database for this campaign",
        )
