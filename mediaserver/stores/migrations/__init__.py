"""Alembic's environment and the steps that made the tables what they are."""
