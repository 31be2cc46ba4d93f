"""Owners may remove remarks; why a rater was stopped."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_REMOVABLE = {
    "sqlite": ["DROP TRIGGER remarks_delete"],
    "postgresql": [
        "DROP TRIGGER remarks_only_added ON remarks",
        "CREATE TRIGGER remarks_only_added BEFORE UPDATE OR TRUNCATE ON remarks "
        "FOR EACH STATEMENT EXECUTE FUNCTION only_added()",
    ],
}
_FIXED = {
    "sqlite": [
        "CREATE TRIGGER remarks_delete BEFORE DELETE ON remarks "
        "BEGIN SELECT RAISE(ABORT, 'remarks are only added'); END"
    ],
    "postgresql": [
        "DROP TRIGGER remarks_only_added ON remarks",
        "CREATE TRIGGER remarks_only_added BEFORE UPDATE OR DELETE OR TRUNCATE ON remarks "
        "FOR EACH STATEMENT EXECUTE FUNCTION only_added()",
    ],
}


def upgrade() -> None:
    """Allow remarks to be deleted and looked up by visit, and store why raters were stopped."""
    op.add_column("raters", sa.Column("stopped_for", sa.Text(), comment="why the app stopped the rater"))
    comment = "visits after this one are judged: the owner let the rater continue"
    op.add_column(
        "raters",
        sa.Column("judged_from", sa.BigInteger(), nullable=False, server_default="0", comment=comment),
    )
    op.create_index("remarks_of_visit", "remarks", ["visit_id"])
    for statement in _REMOVABLE[op.get_bind().dialect.name]:
        op.execute(statement)


def downgrade() -> None:
    """Forbid to delete remarks."""
    op.drop_index("remarks_of_visit", "remarks")
    op.drop_column("raters", "judged_from")
    op.drop_column("raters", "stopped_for")
    for statement in _FIXED[op.get_bind().dialect.name]:
        op.execute(statement)
