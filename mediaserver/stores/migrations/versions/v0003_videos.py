"""Videos."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table of `library.tables`."""
    op.create_table(
        "videos",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("owner_id", sa.String(80), nullable=False),
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("received_bytes", sa.BigInteger, nullable=False),
        sa.Column("touched_at", sa.Float, nullable=False),
        sa.Column("progress", sa.Float, nullable=False),
        sa.Column("duration_s", sa.Float),
        sa.Column("width", sa.Integer),
        sa.Column("height", sa.Integer),
        sa.Column("content_type", sa.String(40)),
        sa.Column("media_file", sa.String(80)),
        sa.Column("problem", sa.Text),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("lease", sa.String(40)),
        sa.Column("lease_until", sa.Float),
    )
    op.create_index("videos_by_age", "videos", ["created_at", "id"])
    op.create_index("videos_by_state", "videos", ["state"])


def downgrade() -> None:
    """Drop it; the files stay."""
    op.drop_table("videos")
