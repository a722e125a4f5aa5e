"""Broadcasts between instances: one WebSocket for each that is watched elsewhere."""
