"""Rows in ClickHouse exactly once, newest values in Redis."""
