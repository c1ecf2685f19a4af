"""Real services for end-to-end tests: one of each per test session, fresh names per test.

A test that kills, wipes or freezes a service asks for `own_kafka`, `own_clickhouse` or `own_redis` and gets its own.
`simulated` makes a pipeline with a simulated feed; so does whatever needs no more than that.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import pytest

from infrastructure.services.errors import ServicesError
from tests.doubles.pipeline import Pipeline, Simulator
from tests.doubles.services import RealClickHouse, RealKafka, RealRedis, RealService

S = TypeVar("S", bound=RealService)


class MakeSimulated(Protocol):
    """Makes a pipeline and the simulator that is its feed; neither runs yet. `options` are those of `simulate`.

    `hold`: connections that the simulator waits for before it sends; `extra`: more settings as variables.
    """

    def __call__(
        self, *options: str, symbols: Sequence[str], hold: int = 2, extra: Mapping[str, str] | None = None
    ) -> tuple[Pipeline, Simulator]: ...


def _running(service: S) -> Iterator[S]:
    try:
        service.start()
        yield service
    finally:
        service.stop()


def _kafka(directory: Path) -> RealKafka:
    try:
        return RealKafka(directory)
    except ServicesError as error:
        pytest.fail(f"{error.message}; {error.next_step}")


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealKafka]:
    """A real Kafka broker, shared by the session: use `topic_prefix` for topics of your own."""
    yield from _running(_kafka(tmp_path_factory.mktemp("kafka")))


@pytest.fixture(scope="session")
def clickhouse_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealClickHouse]:
    """A real ClickHouse engine, shared by the session: use `database` for tables of your own."""
    yield from _running(RealClickHouse(tmp_path_factory.mktemp("clickhouse")))


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRedis]:
    """A real redis-server, shared by the session: use `empty_redis` to find it empty."""
    yield from _running(RealRedis(tmp_path_factory.mktemp("redis")))


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[RealKafka]:
    """A broker of this test alone."""
    yield from _running(_kafka(tmp_path / "kafka"))


@pytest.fixture
def own_clickhouse(tmp_path: Path) -> Iterator[RealClickHouse]:
    """A ClickHouse engine of this test alone."""
    yield from _running(RealClickHouse(tmp_path / "clickhouse"))


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RealRedis]:
    """A redis-server of this test alone."""
    yield from _running(RealRedis(tmp_path / "redis"))


@pytest.fixture
def topic_prefix() -> str:
    """Starts the names of topics that no other test uses."""
    return f"t{uuid.uuid4().hex[:12]}."


@pytest.fixture
def database() -> str:
    """A database name that no other test uses; the test creates it."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def empty_redis(redis_server: RealRedis) -> RealRedis:
    """The session's Redis, emptied."""

    async def flush() -> None:
        reader, writer = await asyncio.open_connection(redis_server.host, redis_server.port)
        writer.write(b"FLUSHALL\r\n")
        assert await reader.readline() == b"+OK\r\n"
        writer.close()
        await writer.wait_closed()

    asyncio.run(flush())
    return redis_server


@pytest.fixture
def simulated(
    tmp_path: Path, own_kafka: RealKafka, own_clickhouse: RealClickHouse, empty_redis: RealRedis, database: str
) -> Iterator[MakeSimulated]:
    """See MakeSimulated; what was started is gone afterwards."""
    made: list[tuple[Pipeline, Simulator]] = []

    def build(
        *options: str, symbols: Sequence[str], hold: int = 2, extra: Mapping[str, str] | None = None
    ) -> tuple[Pipeline, Simulator]:
        simulator = Simulator(tmp_path / "feed", "--symbols", ",".join(symbols), *options, hold=hold)
        settings = {**simulator.environment, **(extra or {})}
        pipeline = Pipeline(
            tmp_path / "pipeline",
            own_kafka,
            own_clickhouse,
            empty_redis,
            symbols=symbols,
            database=database,
            extra=settings,
        )
        made.append((pipeline, simulator))
        return pipeline, simulator

    yield build
    for pipeline, simulator in made:
        pipeline.cli("stop", "--force")
        simulator.stop()
