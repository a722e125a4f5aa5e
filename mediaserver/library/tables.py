"""The SQL table of the library; `stores.migrations` makes it."""

import sqlalchemy as sa

METADATA = sa.MetaData()

VIDEOS = sa.Table(
    "videos",
    METADATA,
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
    sa.Index("videos_by_age", "created_at", "id"),
    sa.Index("videos_by_state", "state"),
)
