"""Slots that ask about some classes of a page."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_FURTHER = sa.text("visit_id IS NULL AND classes IS NOT NULL")


def upgrade() -> None:
    """Store the classes of slots that do not ask about all classes of their page."""
    comment = "JSON: class ids to ask about; null: all of the page"
    op.add_column("slots", sa.Column("classes", sa.Text(), comment=comment))
    op.create_index("slots_further", "slots", ["page_id"], sqlite_where=_FURTHER, postgresql_where=_FURTHER)


def downgrade() -> None:
    """Drop these slots: the earlier version of the app would ask about all classes of their pages."""
    op.execute("DELETE FROM slots WHERE classes IS NOT NULL")
    op.drop_index("slots_further", "slots")
    op.drop_column("slots", "classes")
