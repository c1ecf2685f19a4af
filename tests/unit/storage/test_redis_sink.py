"""Newest values against a real Redis: what is newer wins, whatever is repeated, restarted or emptied."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from config.sections import ClickHouseConfig, RedisConfig
from pipeline_orchestrator.errors import ForeignLogError, NotConnectedError, RetryableError
from pipeline_orchestrator.market.events import FEATURES
from pipeline_orchestrator.record import Output
from pipeline_orchestrator.storage.cache_rebuild import rebuild_from
from pipeline_orchestrator.storage.clickhouse_sink import ClickHouseSink
from pipeline_orchestrator.storage.clickhouse_store import Store
from pipeline_orchestrator.storage.clickhouse_table import ClickHouseTable
from pipeline_orchestrator.storage.redis_sink import RedisSink
from pipeline_orchestrator.storage.tables import TABLES
from tests.doubles.embedded import free_port
from tests.doubles.embedded_redis import EmbeddedRedisTask
from tests.doubles.market_rows import Log, feature


class Server(EmbeddedRedisTask):
    """An embedded Redis that can be asked about its values."""

    async def values(self) -> dict[str, Any]:
        client = Redis(port=self.config.port)
        found = {key.decode(): json.loads(await client.get(key) or b"") async for key in client.scan_iter("md:last:*")}
        await client.aclose()
        return found

    async def do(self, *command: Any) -> Any:
        client = Redis(port=self.config.port)
        answer = await client.execute_command(*command)  # type: ignore[no-untyped-call]
        await client.aclose()
        return answer


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server = Server(tmp_path / "redis")
    await server.start()
    yield server
    await server.stop()


def features(seqs: range, symbols: int = 3, **more: Any) -> Log:
    log = Log(topic=FEATURES, **more)
    for seq in seqs:
        log.append(seq % symbols % 2, **feature(seq, symbol=f"S{seq % symbols}", src_partition=seq % symbols % 2))
    return log


async def opened(server: Server, log: Log, **more: Any) -> tuple[RedisSink, dict[int, int]]:
    sink = RedisSink(server.config, **more)
    await sink.open()
    return sink, await sink.start_positions(log.bounds)


def seqs(values: dict[str, Any]) -> dict[str, int]:
    return {key.removeprefix("md:last:"): value["src_seq"] for key, value in sorted(values.items())}


async def test_each_key_holds_the_newest_row_with_named_fields(server: Server) -> None:
    log = features(range(20))
    sink, starts = await opened(server, log)
    assert starts == {0: 0, 1: 0}
    await sink.write(Output(log.batch(starts)))
    found = await server.values()
    assert seqs(found) == {"S0": 18, "S1": 19, "S2": 17}
    value = found["md:last:S1"]
    assert (value["k_log"], value["k_part"], value["k_off"]) == ("log-1", 1, 6)
    assert (value["best_bid"], value["best_bid_decimal"], value["mid_decimal"]) == (187_230_000, "187.23", "187.235")
    assert (value["microprice"], value["microprice_decimal"], value["gap_flag"]) == (None, None, False)
    assert value["book_state"] == "valid"
    assert (sink.stats.flushed_rows, sink.stats.flushed_values) == (20, 3)
    assert sink.stats.flush_seconds == sink.stats.last_flush_seconds
    await sink.close()


async def test_an_older_offset_never_takes_a_value_back(server: Server) -> None:
    log = features(range(30))
    sink, _ = await opened(server, log)
    await sink.write(Output(log.batch({0: 8, 1: 4})))
    await sink.write(Output(log.batch({0: 0, 1: 0}, {0: 8, 1: 4})))
    assert seqs(await server.values()) == {"S0": 27, "S1": 28, "S2": 29}
    assert sink.stats.refused == 3
    await sink.close()


async def test_outputs_that_are_sent_again_at_new_offsets_change_nothing(server: Server) -> None:
    log = features(range(30))
    again = 10
    for seq in range(again, 24):
        log.append(seq % 3 % 2, **feature(seq, symbol=f"S{seq % 3}"))
    sink, _ = await opened(server, log)
    await sink.write(Output(log.batch({0: 0, 1: 0}, {0: 20, 1: 10})))
    before = await server.values()
    await sink.write(Output(log.batch({0: 20, 1: 10})))
    assert await server.values() == before
    await sink.close()


async def test_a_restart_goes_on_where_the_values_left_off(server: Server) -> None:
    log = features(range(30))
    sink, _ = await opened(server, log)
    await sink.write(Output(log.batch({0: 0, 1: 0}, {0: 7, 1: 5})))
    await sink.close()
    again, starts = await opened(server, log)
    assert starts == {0: 7, 1: 5}
    await again.write(Output(log.batch(starts)))
    assert seqs(await server.values()) == {"S0": 27, "S1": 28, "S2": 29}
    await again.close()


async def test_an_emptied_server_gets_every_known_value_again(server: Server) -> None:
    log = features(range(30))
    sink, _ = await opened(server, log)
    await sink.write(Output(log.batch({0: 0, 1: 0}, {0: 7, 1: 5})))
    await sink.close()
    sink, starts = await opened(server, log)  # S1 is only known from the server now
    await sink.write(Output(log.batch({0: 7}, {0: 20})))
    await server.do("FLUSHALL")
    await sink.write(Output(log.batch({0: 19})))
    assert seqs(await server.values()) == {"S0": 27, "S1": 13, "S2": 29}
    assert "cache_emptied" in {note.event for note in sink.take_notes()}
    await sink.close()
    again, starts = await opened(server, log)
    assert starts == {0: 20, 1: 5}
    await again.close()


async def test_a_server_that_is_restarted_is_filled_again(server: Server) -> None:
    log = features(range(30))
    sink, starts = await opened(server, log)
    await sink.write(Output(log.batch(starts, {0: 7, 1: 5})))
    await server.stop()
    with pytest.raises(NotConnectedError):
        await sink.write(Output(log.batch({0: 7, 1: 5})))
    await server.start()
    await sink.write(Output(log.batch({0: 7, 1: 5})))
    assert seqs(await server.values()) == {"S0": 27, "S1": 28, "S2": 29}
    await sink.close()


async def test_values_of_another_log_are_overwritten_and_its_writer_refused(server: Server) -> None:
    old = features(range(30))
    sink, starts = await opened(server, old)
    await sink.write(Output(old.batch(starts)))
    new = features(range(3), log_id="log-2")
    other, starts = await opened(server, new)
    assert starts == {0: 0, 1: 0}
    assert [note.event for note in other.take_notes()] == ["new_log"]
    await other.write(Output(new.batch(starts, {0: 1, 1: 1})))
    assert seqs(await server.values()) == {"S0": 0, "S1": 1, "S2": 29}
    with pytest.raises(ForeignLogError, match="belongs to another log"):
        await sink.write(Output(old.batch({0: 0, 1: 0})))
    await sink.close()
    await other.close()


async def test_a_key_of_another_type_is_replaced(server: Server) -> None:
    log = features(range(3))
    await server.do("LPUSH", "md:last:S0", "x")
    sink, starts = await opened(server, log)
    await sink.write(Output(log.batch(starts)))
    assert seqs(await server.values()) == {"S0": 0, "S1": 1, "S2": 2}
    await sink.close()


@pytest.mark.parametrize(("key", "foreign"), [("md:log", "LPUSH"), ("md:pos", "SET")])
async def test_our_own_keys_of_another_type_are_made_anew(server: Server, key: str, foreign: str) -> None:
    log = features(range(30))
    await server.do(foreign, key, "x")
    sink, starts = await opened(server, log)
    assert starts == {0: 0, 1: 0}
    assert [note.event for note in sink.take_notes()] == ["cache_foreign_key"]
    await sink.write(Output(log.batch({0: 0, 1: 0}, {0: 7, 1: 5})))
    await server.do("DEL", key)
    await server.do(foreign, key, "x")
    await sink.write(Output(log.batch({0: 7}, {0: 20})))
    assert "cache_emptied" in {note.event for note in sink.take_notes()}
    await sink.close()
    again, starts = await opened(server, log)
    assert starts == {0: 20, 1: 5}, "positions of every partition are back"
    await again.close()


async def test_a_full_server_is_retryable_and_keeps_the_connection(server: Server) -> None:
    log = features(range(3))
    sink, starts = await opened(server, log)
    await server.do("CONFIG", "SET", "maxmemory", "1")
    await server.do("CONFIG", "SET", "maxmemory-policy", "noeviction")
    with pytest.raises(RetryableError, match="answered"):
        await sink.write(Output(log.batch(starts)))
    await server.do("CONFIG", "SET", "maxmemory", "0")
    await sink.write(Output(log.batch(starts)))
    assert len(await server.values()) == 3
    await sink.close()


async def test_a_hung_server_costs_half_a_second(tmp_path: Path) -> None:
    hung_up: asyncio.Queue[None] = asyncio.Queue()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        hung_up.put_nowait(None)

    listener = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    sink = RedisSink(RedisConfig(port=port), timeout=0.05)
    with pytest.raises(NotConnectedError):
        await sink.open()
    probe = await sink.probe()
    assert probe.ok is False
    await sink.close()
    for _ in range(2):
        await asyncio.wait_for(hung_up.get(), 5)
    listener.close()
    await listener.wait_closed()


async def test_an_empty_redis_is_filled_from_clickhouse_and_reading_goes_on_behind_it(
    server: Server, config: ClickHouseConfig, store: Store, state_dir: Path
) -> None:
    log = features(range(40))
    table = ClickHouseSink(ClickHouseTable(store, TABLES[FEATURES]), state_dir=state_dir)
    await table.open()
    starts = await table.start_positions(log.bounds)
    await table.write(Output(log.batch(starts, {0: 20, 1: 10})))
    await table.close()
    sink, starts = await opened(server, log, rebuild=rebuild_from(store, state_dir))
    assert starts == {0: 20, 1: 10}
    rebuilt = await server.values()
    assert seqs(rebuilt) == {"S0": 27, "S1": 28, "S2": 29}
    await sink.close()
    await server.do("FLUSHALL")
    direct, _ = await opened(server, log)
    await direct.write(Output(log.batch({0: 0, 1: 0}, {0: 20, 1: 10})))
    assert await server.values() == rebuilt  # both ways give the same bytes' worth
    await direct.close()


async def test_without_clickhouse_the_log_is_read_from_its_beginning(server: Server, state_dir: Path) -> None:
    log = features(range(4))
    absent = Store(ClickHouseConfig(port=free_port()))
    sink, starts = await opened(server, log, rebuild=rebuild_from(absent, state_dir))
    assert starts == {0: 0, 1: 0}
    await sink.close()
