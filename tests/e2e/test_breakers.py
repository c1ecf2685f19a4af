"""A frozen Redis, met through a stage: the breaker opens, only probes go out, and nothing is lost when it wakes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from config.sections import RedisConfig, ResilienceConfig
from pipeline_orchestrator.component import GaugeValue
from pipeline_orchestrator.errors import EndOfInputError
from pipeline_orchestrator.flow.stage import Stage
from pipeline_orchestrator.market.events import FEATURES
from pipeline_orchestrator.record import Batch
from pipeline_orchestrator.resilience.dependencies import Dependencies, Reporting
from pipeline_orchestrator.storage.redis_sink import RedisSink
from tests.doubles.context import FakeContext
from tests.doubles.market_rows import Log, feature
from tests.doubles.services import RealRedis
from tests.doubles.tcp_proxy import FaultProxy

BATCHES = 8
STATE, NEXT = "breaker_state|dependency=redis", "breaker_next_probe|dependency=redis"


class Listening(FakeContext):
    """Keeps what the breaker said, in order, and tells who waits."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir)
        self.states: list[GaugeValue] = []
        self.probes: list[GaugeValue] = []
        self.news = asyncio.Event()

    def gauge(self, name: str, value: GaugeValue, **labels: str) -> None:
        super().gauge(name, value, **labels)
        for told, gauge in ((self.states, STATE), (self.probes, NEXT)):
            now = self.gauges.get(gauge)
            if now is not None and told[-1:] != [now]:
                told.append(now)
                self.news.set()

    async def until(self, states: list[str], probes: int = 0) -> None:
        while self.states[-len(states) :] != states or len(self.probes) < probes:
            self.news.clear()
            await self.news.wait()


class Batches:
    """A source of a few batches, each given when a test says so."""

    def __init__(self, sink: RedisSink) -> None:
        self.log, self.sink = Log(topic=FEATURES), sink
        self.ready: asyncio.Queue[Batch | None] = asyncio.Queue()
        self.acknowledged: asyncio.Queue[Batch] = asyncio.Queue()

    async def open(self) -> None:
        await self.sink.start_positions(self.log.bounds)

    def make(self, number: int) -> None:
        """One more batch, with the same symbols and newer values."""
        before = dict(self.log.bounds.end)
        for seq in range(number * 10, number * 10 + 10):
            self.log.append(seq % 2, **feature(seq, symbol=f"S{seq % 2}", src_partition=seq % 2))
        self.ready.put_nowait(self.log.batch(before))

    async def read(self) -> Batch | None:
        batch = await self.ready.get()
        if batch is None:
            raise EndOfInputError("all were given")
        return batch

    async def ack(self, batch: Batch) -> None:
        await self.acknowledged.put(batch)

    async def finish(self) -> None:
        """Nothing waits elsewhere."""

    async def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def proxy(own_redis: RealRedis) -> Iterator[FaultProxy]:
    proxy = FaultProxy(own_redis.port)
    proxy.start()
    yield proxy
    proxy.stop()


async def stored(port: int) -> dict[str, Any]:
    client = Redis(port=port)
    found = {key.decode(): json.loads(await client.get(key) or b"") async for key in client.scan_iter("md:last:*")}
    await client.aclose()
    return {name.removeprefix("md:last:"): value["src_seq"] for name, value in found.items()}


@pytest.mark.slow
async def test_a_frozen_redis_gets_probes_only_and_every_batch_when_it_wakes(
    own_redis: RealRedis, proxy: FaultProxy, tmp_path: Path
) -> None:
    dependencies = Dependencies(ResilienceConfig(minimum_calls=3))
    sink, ctx = RedisSink(RedisConfig(port=proxy.port)), Listening(tmp_path)
    source = Batches(sink)
    stage = Stage(source, [], sink, sink_name="redis", source_name="log", dependencies=dependencies)  # type: ignore[arg-type]  # no probe is asked of it
    async with asyncio.timeout(50), asyncio.TaskGroup() as group:
        group.create_task(Reporting(stage, dependencies).run(ctx))
        source.make(0)
        await source.acknowledged.get()
        own_redis.freeze()
        try:
            for number in range(1, BATCHES):
                source.make(number)
            await ctx.until(["open"])
            accepted, tried = proxy.accepted, dependencies.of("redis").attempts
            await ctx.until(["open"], probes=4)
            probes = dependencies.of("redis").attempts - tried
            assert probes >= 3
            assert proxy.accepted - accepted <= probes  # a probe asks on one connection and writes nothing
            assert (ctx.cause or "").startswith("redis: ")
            assert ctx.gauges["breaker_reason|dependency=redis"]
        finally:
            own_redis.thaw()
        for _ in range(1, BATCHES):
            await source.acknowledged.get()
        await ctx.until(["closed"])
        source.ready.put_nowait(None)
    assert ctx.cause is None
    assert [event for _, event, _ in ctx.events] == ["breaker_opened", "breaker_closed"]
    assert await stored(own_redis.port) == {"S0": BATCHES * 10 - 2, "S1": BATCHES * 10 - 1}
