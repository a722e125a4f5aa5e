"""Peers, ingest, data channels, WHIP: all that touches aiortc and PyAV."""
