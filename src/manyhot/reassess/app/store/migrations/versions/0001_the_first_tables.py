"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


# The database itself refuses to change or delete what was answered, whoever asks. (A later migration that
# makes one of these tables anew, as Alembic's batches do in SQLite, makes its triggers anew.)
FACTS = {
    "sqlite": [
        f"CREATE TRIGGER {table}_{event.lower()} BEFORE {event} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} are only added'); END"
        for table in ("votes", "remarks")
        for event in ("UPDATE", "DELETE")
    ],
    "postgresql": [
        "CREATE FUNCTION only_added() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '% are only added', TG_TABLE_NAME; END $$",
        *(
            f"CREATE TRIGGER {table}_only_added BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION only_added()"
            for table in ("votes", "remarks")
        ),
    ],
}


def upgrade() -> None:
    """Make the tables."""
    _make_images_and_raters()
    _make_pages()
    _make_visits()
    _make_votes()
    for statement in FACTS[op.get_bind().dialect.name]:
        op.execute(statement)


def _make_images_and_raters() -> None:
    """Make the tables of images, example images, raters and settings."""
    op.create_table(
        "examples",
        sa.Column("class_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("class_id", "position"),
    )
    with op.batch_alter_table("examples", schema=None) as batch_op:
        batch_op.create_index("examples_by_name", ["name"], unique=False)
    op.create_table(
        "images",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="image_id of the tables"),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("label", sa.Integer(), nullable=True, comment="the original label"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "raters",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="rater_id of the tables"),
        sa.Column("role", sa.Text(), nullable=False, comment="rater or owner"),
        sa.Column("invitation", sa.Text(), nullable=True, comment="sha256 of the token; null once revoked"),
        sa.Column("seed", sa.Integer(), nullable=False, comment="of the order of classes"),
        sa.Column("position", sa.BigInteger(), nullable=False, comment="of the last page taken"),
        sa.Column("max_pages", sa.Integer(), nullable=True, comment="null: as many as there are"),
        sa.Column("state", sa.Text(), nullable=False, comment="active, stopped or revoked"),
        sa.Column("refines", sa.Boolean(), nullable=False, comment="decides where others disagree"),
        sa.Column(
            "qualified",
            sa.Boolean(),
            nullable=True,
            comment="whether the first golden pages were passed; null if not yet known",
        ),
        sa.Column("password", sa.Text(), nullable=True, comment="Argon2 hash of the password of an owner"),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("invitation"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "settings",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False, comment="JSON"),
        sa.PrimaryKeyConstraint("key"),
    )


def _make_pages() -> None:
    """Make the tables of pages, sessions and questions."""
    op.create_table(
        "pages",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False, comment="the order of asking"),
        sa.Column(
            "golden", sa.Boolean(), nullable=False, comment="whether experts answered all its questions"
        ),
        sa.ForeignKeyConstraint(
            ["image_id"],
            ["images.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("position"),
    )
    op.create_table(
        "sessions",
        sa.Column("token", sa.Text(), nullable=False, comment="sha256"),
        sa.Column("rater_id", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["rater_id"],
            ["raters.id"],
        ),
        sa.PrimaryKeyConstraint("token"),
    )
    op.create_table(
        "questions",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("page_id", sa.BigInteger(), nullable=False),
        sa.Column("class_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["page_id"],
            ["pages.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("page_id", "class_id"),
    )
    op.create_table(
        "slots",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("page_id", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False, comment="of its page"),
        sa.Column("visit_id", sa.BigInteger(), nullable=True, comment="who holds it; null: free"),
        sa.ForeignKeyConstraint(
            ["page_id"],
            ["pages.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("slots", schema=None) as batch_op:
        batch_op.create_index(
            "slots_free",
            ["position"],
            unique=False,
            sqlite_where=sa.text("visit_id IS NULL"),
            postgresql_where=sa.text("visit_id IS NULL"),
        )
        batch_op.create_index("slots_of_page", ["page_id"], unique=False)


def _make_visits() -> None:
    """Make the tables of visits and golden answers."""
    op.create_table(
        "visits",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("key", sa.Text(), nullable=False, comment="page_id of the votes"),
        sa.Column("page_id", sa.BigInteger(), nullable=False),
        sa.Column("rater_id", sa.BigInteger(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False, comment="0 first, 1 refinement"),
        sa.Column("slot_id", sa.BigInteger(), nullable=True, comment="null: golden, or refinement"),
        sa.Column("shown", sa.Text(), nullable=False, comment="JSON: class ids in the order shown"),
        sa.Column("partial", sa.Boolean(), nullable=False, comment="whether the page has more classes"),
        sa.Column("shown_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False, comment="open, done or returned"),
        sa.Column("done_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["page_id"],
            ["pages.id"],
        ),
        sa.ForeignKeyConstraint(
            ["rater_id"],
            ["raters.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key"),
    )
    with op.batch_alter_table("visits", schema=None) as batch_op:
        batch_op.create_index("visits_of_page", ["page_id", "rater_id", "round"], unique=False)
        batch_op.create_index("visits_of_rater", ["rater_id", "state"], unique=False)
        batch_op.create_index(
            "visits_open",
            ["expires_at"],
            unique=False,
            sqlite_where=sa.text("state = 'open'"),
            postgresql_where=sa.text("state = 'open'"),
        )

    op.create_table(
        "golden",
        sa.Column("question_id", sa.BigInteger(), nullable=False),
        sa.Column("truth", sa.Boolean(), nullable=False, comment="more than half of the experts said yes"),
        sa.ForeignKeyConstraint(
            ["question_id"],
            ["questions.id"],
        ),
        sa.PrimaryKeyConstraint("question_id"),
    )


def _make_votes() -> None:
    """Make the tables of remarks and votes, whose rows are only added."""
    op.create_table(
        "remarks",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("rater_id", sa.BigInteger(), nullable=False),
        sa.Column("visit_id", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("missing_class_id", sa.Integer(), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["rater_id"],
            ["raters.id"],
        ),
        sa.ForeignKeyConstraint(
            ["visit_id"],
            ["visits.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("rater_id", "key"),
    )
    op.create_table(
        "votes",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column(
            "key",
            sa.Text(),
            nullable=False,
            comment="made by the browser, so that a vote that is sent twice is stored once",
        ),
        sa.Column("rater_id", sa.BigInteger(), nullable=False),
        sa.Column("visit_id", sa.BigInteger(), nullable=False),
        sa.Column("question_id", sa.BigInteger(), nullable=False),
        sa.Column("answer", sa.SmallInteger(), nullable=False, comment="0 no, 1 maybe, 2 yes"),
        sa.Column("main", sa.Boolean(), nullable=False),
        sa.Column("answered_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["question_id"],
            ["questions.id"],
        ),
        sa.ForeignKeyConstraint(
            ["rater_id"],
            ["raters.id"],
        ),
        sa.ForeignKeyConstraint(
            ["visit_id"],
            ["visits.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("rater_id", "key"),
    )
    with op.batch_alter_table("votes", schema=None) as batch_op:
        batch_op.create_index("votes_of_visit", ["visit_id", "question_id"], unique=False)


def downgrade() -> None:
    """Drop the tables."""
    with op.batch_alter_table("votes", schema=None) as batch_op:
        batch_op.drop_index("votes_of_visit")

    op.drop_table("votes")
    op.drop_table("remarks")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION only_added")
    op.drop_table("golden")
    with op.batch_alter_table("visits", schema=None) as batch_op:
        batch_op.drop_index(
            "visits_open", sqlite_where=sa.text("state = 'open'"), postgresql_where=sa.text("state = 'open'")
        )
        batch_op.drop_index("visits_of_rater")

    op.drop_table("visits")
    with op.batch_alter_table("slots", schema=None) as batch_op:
        batch_op.drop_index("slots_of_page")
        batch_op.drop_index(
            "slots_free",
            sqlite_where=sa.text("visit_id IS NULL"),
            postgresql_where=sa.text("visit_id IS NULL"),
        )

    op.drop_table("slots")
    op.drop_table("questions")
    op.drop_table("sessions")
    op.drop_table("pages")
    op.drop_table("settings")
    op.drop_table("raters")
    op.drop_table("images")
    op.drop_table("examples")
