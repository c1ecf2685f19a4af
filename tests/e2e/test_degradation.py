"""Slow stores behind proxies: what gives way comes in the stated order, is told by `status`, and loses nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.doubles.pipeline import Pipeline
from tests.doubles.services import RealClickHouse, RealRedis
from tests.doubles.tcp_proxy import FaultProxy, Link
from tests.e2e.conftest import MakeSimulated

SYMBOLS = ("AAPL", "MSFT", "GOOGL", "TSLA")
RATE = 400
MEASURED_LINES = 4000

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def redis(empty_redis: RealRedis) -> Iterator[FaultProxy]:
    yield from _through(empty_redis.port)


@pytest.fixture
def clickhouse(own_clickhouse: RealClickHouse) -> Iterator[FaultProxy]:
    yield from _through(own_clickhouse.port)


def _through(port: int) -> Iterator[FaultProxy]:
    proxy = FaultProxy(port)
    proxy.start()
    yield proxy
    proxy.stop()


def steps(pipeline: Pipeline) -> dict[str, dict[str, Any]]:
    """What is in force, by name, in the order in which it is told; {"unknown": ...} while a stage cannot tell."""
    told = pipeline.status()["degradation"]
    if told is None or told["unknown"]:
        return {"unknown": {}}
    return {one["what"]: one for one in told["in_force"]}


def until(pipeline: Pipeline, what: str, expected: list[str]) -> None:
    pipeline.wait(what, lambda: list(steps(pipeline)) == expected, 120, shows=lambda: steps(pipeline))


def bytes_per_second(pipeline: Pipeline, proxy: FaultProxy) -> float:
    """What the pipeline sends while it keeps up; measured."""
    lines, sent, began = pipeline.stored(), proxy.passed("up"), time.monotonic()
    pipeline.wait("lines to measure with", lambda: pipeline.stored() > lines + MEASURED_LINES, 120)
    return (proxy.passed("up") - sent) / (time.monotonic() - began)


@pytest.mark.long_fault
def test_what_cannot_keep_up_gives_way_in_order_and_catches_up_without_loss(
    redis: FaultProxy, clickhouse: FaultProxy, simulated: MakeSimulated
) -> None:
    settings = {
        "PIPELINE_REDIS__PORT": str(redis.port),
        "PIPELINE_REDIS__FLUSH_MS": "100",
        "PIPELINE_CLICKHOUSE__PORT": str(clickhouse.port),
    }
    pipeline, simulator = simulated("--rate", str(RATE), "--seed", "5", symbols=SYMBOLS, extra=settings)
    simulator.start()
    pipeline.start()
    pipeline.wait("lines stored", lambda: pipeline.stored("kind = 'trade'") > 200, 180)
    until(pipeline, "all keep up", [])

    redis.set(down=Link(delay=0.2))  # a flush takes longer than the 0.1 s between two
    until(pipeline, "the cache coalesces, and no more", ["cache coalescing"])
    coalescing = steps(pipeline).get("cache coalescing", {})
    assert coalescing.get("cache_coalescing", 2.0) > 1.0, coalescing
    redis.hold()
    until(pipeline, "the cache is behind, and nothing else", ["cache behind"])

    enough = bytes_per_second(pipeline, clickhouse)
    clickhouse.set(up=Link(bytes_per_second=0.6 * enough, shared=True))
    seen: list[dict[str, dict[str, Any]]] = []

    def features_alone() -> bool:
        seen.append(steps(pipeline))
        return lag(seen[-1], "features") > 10 and not lag(seen[-1], "events")

    lags = partial(_lags, enough, seen)
    pipeline.wait("features are late, events in time again", features_alone, 120, shows=lags)
    assert next(iter(seen[-1])) == "cache behind"
    assert not any("processing behind" in told for told in seen)

    clickhouse.heal()
    until(pipeline, "storage has caught up, the cache is behind still", ["cache behind"])
    redis.heal()
    until(pipeline, "all keep up again", [])
    simulator.stop()
    audited: list[dict[str, Any]] = []

    def whole() -> bool:
        done = pipeline.cli("audit", "-o", "json")
        audited.append(json.loads(done.stdout))
        return done.returncode == 0

    pipeline.wait("nothing is lost or twice", whole, 120, shows=lambda: audited[-1])


def _lags(enough: float, seen: list[dict[str, dict[str, Any]]]) -> list[Any]:
    return [f"{enough:.0f} bytes/s", *({what: one.get("lag_seconds") for what, one in told.items()} for told in seen)]


def lag(told: dict[str, dict[str, Any]], table: str) -> float:
    """Seconds that the storage of a table is behind; 0 = it is not."""
    return float(told.get(f"storage of {table} behind", {}).get("lag_seconds", 0.0))
