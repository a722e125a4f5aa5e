"""Integration tests run against real servers and real peers; see ../conftest.py."""
