"""Rooms: who is in them, and what everybody there is told."""
