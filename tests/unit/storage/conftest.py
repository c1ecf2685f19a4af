"""One embedded ClickHouse for all tests of this folder; each test gets a database of its own."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from config.sections import ClickHouseConfig
from pipeline_orchestrator.storage.clickhouse_store import Store
from tests.doubles.embedded import EmbeddedClickHouseProcess

_numbers = itertools.count()


@pytest.fixture(scope="session")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedClickHouseProcess]:
    pytest.importorskip("chdb", reason="the embedded engine needs the extra `demo`")
    service = EmbeddedClickHouseProcess(tmp_path_factory.mktemp("clickhouse") / "data")
    service.start()
    yield service
    assert service.stop() == 0


@pytest.fixture
def config(clickhouse: EmbeddedClickHouseProcess) -> ClickHouseConfig:
    return ClickHouseConfig(port=clickhouse.port, database=f"md_{next(_numbers)}")


@pytest.fixture
async def store(config: ClickHouseConfig) -> AsyncIterator[Store]:
    store = Store(config)
    await store.connect()
    yield store
    await store.release()


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"
