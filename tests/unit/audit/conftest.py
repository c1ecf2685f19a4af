"""The engine of the storage tests."""

from __future__ import annotations

from tests.unit.storage.conftest import clickhouse, config, state_dir, store

__all__ = ["clickhouse", "config", "state_dir", "store"]
