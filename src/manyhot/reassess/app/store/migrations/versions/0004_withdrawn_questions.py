"""Questions that are not asked any more, and example images that are not shown."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Store which questions are withdrawn."""
    question = sa.ForeignKey("questions.id")
    op.create_table("withdrawn", sa.Column("question_id", sa.BigInteger(), question, primary_key=True))
    comment = "not shown: nothing is asked about this image any more"
    op.add_column(
        "examples",
        sa.Column("withdrawn", sa.Boolean(), nullable=False, server_default=sa.false(), comment=comment),
    )


def downgrade() -> None:
    """Ask all questions, and show all examples."""
    op.drop_column("examples", "withdrawn")
    op.drop_table("withdrawn")
