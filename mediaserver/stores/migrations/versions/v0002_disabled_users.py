"""Users that may not log in."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nobody is disabled so far."""
    with op.batch_alter_table("users") as table:
        table.add_column(
            sa.Column("disabled", sa.Boolean, nullable=False, server_default=sa.false())
        )


def downgrade() -> None:
    """Whoever was disabled may log in again."""
    with op.batch_alter_table("users") as table:
        table.drop_column("disabled")
