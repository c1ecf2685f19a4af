"""ClickHouse and Redis under the sink contract, against real servers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from config.sections import ClickHouseConfig, RedisConfig
from pipeline_orchestrator.market.events import FEATURES
from pipeline_orchestrator.storage.clickhouse_sink import ClickHouseSink
from pipeline_orchestrator.storage.clickhouse_store import Store
from pipeline_orchestrator.storage.clickhouse_table import ClickHouseTable
from pipeline_orchestrator.storage.redis_sink import RedisSink
from pipeline_orchestrator.storage.tables import TABLES
from tests.contract.sink_contract import SinkContract, StoreSink
from tests.doubles.embedded import EmbeddedClickHouseProcess, free_port
from tests.doubles.embedded_redis import EmbeddedRedisTask


class ClickHouseRig:
    def __init__(self, service: EmbeddedClickHouseProcess, database: str, state_dir: Path) -> None:
        self._service, self._state_dir = service, state_dir
        self._config = ClickHouseConfig(port=service.port, database=database)

    def _sink(self, config: ClickHouseConfig) -> StoreSink:
        return ClickHouseSink(ClickHouseTable(Store(config), TABLES[FEATURES]), state_dir=self._state_dir)

    def sink(self) -> StoreSink:
        return self._sink(self._config)

    def absent(self) -> StoreSink:
        return self._sink(self._config.model_copy(update={"port": free_port()}))

    async def newest(self) -> dict[str, int]:
        table = f"{self._config.database}.features"
        query = f"SELECT symbol, argMax(src_seq, k_off) FROM {table} GROUP BY symbol ORDER BY symbol"
        return {
            symbol: int(seq) for symbol, seq in (line.split("\t") for line in self._service.sql(query).splitlines())
        }

    async def rows(self) -> int | None:
        return int(self._service.sql(f"SELECT count() FROM {self._config.database}.features"))


class RedisRig:
    def __init__(self, service: EmbeddedRedisTask) -> None:
        self._service = service

    def sink(self) -> StoreSink:
        return RedisSink(self._service.config)

    def absent(self) -> StoreSink:
        return RedisSink(RedisConfig(port=free_port()))

    async def newest(self) -> dict[str, int]:
        client = Redis(port=self._service.config.port)
        found = {}
        async for key in client.scan_iter("md:last:*"):
            found[key.decode().removeprefix("md:last:")] = json.loads(await client.get(key) or b"")["src_seq"]
        await client.aclose()
        return dict(sorted(found.items()))

    async def rows(self) -> int | None:
        return None


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedClickHouseProcess]:
    pytest.importorskip("chdb", reason="the embedded engine needs the extra `demo`")
    service = EmbeddedClickHouseProcess(tmp_path_factory.mktemp("clickhouse") / "data")
    service.start()
    yield service
    service.stop()


class TestClickHouseSink(SinkContract):
    @pytest.fixture
    def rig(self, service: EmbeddedClickHouseProcess, tmp_path: Path, request: pytest.FixtureRequest) -> ClickHouseRig:
        return ClickHouseRig(service, f"c{abs(hash(request.node.name))}", tmp_path)


class TestRedisSink(SinkContract):
    @pytest.fixture
    async def rig(self, tmp_path: Path) -> AsyncIterator[RedisRig]:
        service = EmbeddedRedisTask(tmp_path / "redis")
        await service.start()
        yield RedisRig(service)
        await service.stop()
