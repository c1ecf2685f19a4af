"""What arrived at each station, counted at the station itself: spool, Kafka, ClickHouse, Redis.

Used by the demo's closing account. Reads only. Clock lines (`T`) are counted apart: they are in the spool and in Kafka
and, by design, not in ClickHouse.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from config.sections import ClickHouseConfig, KafkaConfig, RedisConfig, Settings
from validate.probes import resp

EVENTS_TOPIC, DLQ_TOPIC = "market.events", "market.dlq"
CLOCK, OWN_FACTS = 10, frozenset({10, 11, 12, 15})
"""Codes of `Kind` in market.events.avsc: clock; clock, connected, lost, gap may belong to an instance."""
FACT_PORT = 0
TIMEOUT_SECONDS = 30.0


@dataclass(slots=True)
class Spooled:
    """Lines of the feed, the clock lines among them, and own facts that lie in the spool."""

    lines: int = 0
    clock: int = 0
    facts: int = 0


@dataclass(slots=True)
class Logged:
    """What lies in Kafka. `distinct` counts identities; `forgotten` records were dropped by the broker before.

    `further` counts the events of a line behind its first: depth before protocol 6.2 makes two of a line.

    The embedded broker keeps a few MiB per partition; for what it forgot the account compares spool and ClickHouse.
    """

    distinct: int = 0
    clock: int = 0
    repeats: int = 0
    dead: int = 0
    forgotten: int = 0
    further: int = 0


@dataclass(slots=True)
class Stored:
    """Rows in ClickHouse. `distinct` counts identities among the events, `further` as in Logged."""

    events: int = 0
    distinct: int = 0
    trades: int = 0
    further: int = 0
    features: int = 0
    dead: int = 0
    newest: dict[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(slots=True)
class Cached:
    """Symbols in Redis: how many, and which do not hold the newest record of ClickHouse."""

    symbols: int = 0
    different: list[str] = field(default_factory=list)


def spool_bytes(state: Path) -> int:
    """Bytes of all spools below the state directory: while they do not change, no count does."""
    sizes = []
    for path in (state / "spool").rglob("*"):
        with suppress(OSError):  # compressed or removed meanwhile
            sizes.append(path.stat().st_size if path.is_file() else 0)
    return sum(sizes)


def count_spool(state: Path) -> Spooled:
    """Count every spool below the state directory."""
    from pipeline_orchestrator.flow.spool_format import iter_frames, list_segments

    root, found = state / "spool", Spooled()
    directories = [root, *(path for path in root.rglob("*") if path.is_dir())] if root.is_dir() else []
    for directory in directories:
        if not list_segments(directory):
            continue
        for frame in iter_frames(directory):
            if frame.port == FACT_PORT:
                found.facts += frame.count
            else:
                found.lines += frame.count
                found.clock += frame.raw.startswith(b"T,") + frame.raw.count(b"\nT,")
    return found


async def in_thread(count: Callable[[], Any]) -> Any:  # Any: what it returns
    """Run it in a thread that nobody waits for when the asker has gone: asyncio's own would hold up the exit."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[Any] = loop.create_future()

    def tell(value: Any, error: Exception | None) -> None:  # Any: as above
        if not result.done():
            result.set_result(value) if error is None else result.set_exception(error)

    def work() -> None:
        value, failure = None, None
        try:
            value = count()
        except Exception as error:  # the asker's to judge
            failure = error
        with suppress(RuntimeError):  # the loop has gone
            loop.call_soon_threadsafe(tell, value, failure)

    threading.Thread(target=work, name="count", daemon=True).start()
    return await result


def identity(value: bytes) -> tuple[tuple[int, int, int, int], int]:
    """((instance, epoch, seq, idx), kind code) of a market.events record: its first six Avro fields are varints."""
    numbers, at = [], 5  # after the magic byte and the schema id
    for _ in range(6):
        number = shift = 0
        while True:
            byte = value[at]
            at += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
        numbers.append((number >> 1) ^ -(number & 1))
    return (numbers[0], numbers[1], numbers[2], numbers[3]), numbers[5]


class LogCounter:
    """Counts identities of one partition at a time, in offset order.

    A record at or below the mark of its instance is a repeat. An event of an instance is in every partition and
    counted once.
    """

    def __init__(self) -> None:
        self.found = Logged()
        self._marks: dict[tuple[int, int], tuple[int, int, int]] = {}
        self._instance_events: set[tuple[int, int, int, int]] = set()

    def take(self, partition: int, key: bytes | None, value: bytes) -> None:
        """One record."""
        (instance, epoch, seq, idx), kind = identity(value)
        mark = (epoch, seq, idx)
        place = (partition, instance)
        if place in self._marks and mark <= self._marks[place]:
            self.found.repeats += 1
            return
        self._marks[place] = mark
        if key is None and kind in OWN_FACTS:
            event = (instance, epoch, seq, idx)
            if event in self._instance_events:
                return
            self._instance_events.add(event)
        self.found.distinct += 1
        self.found.clock += kind == CLOCK
        self.found.further += idx > 0


def count_kafka(kafka: KafkaConfig) -> Logged:
    """Read the events to their end of now; blocks, call it from a thread. Raises NotConnectedError."""
    from pipeline_orchestrator.transport.whole_log import WholeLog

    log, counter = WholeLog(kafka), LogCounter()
    try:
        counter.found.dead = sum(extent.end for extent in log.extents(DLQ_TOPIC).values())
        extents = log.extents(EVENTS_TOPIC)
        counter.found.forgotten = sum(extent.first for extent in extents.values())
        for partition, key, value in log.records(EVENTS_TOPIC, extents):
            counter.take(partition, key, value)
    finally:
        log.close()
    return counter.found


class ClickHouseReader:
    """Queries over HTTP, as anybody's curl would ask."""

    def __init__(self, clickhouse: ClickHouseConfig) -> None:
        self.config = clickhouse
        scheme = "https" if clickhouse.secure else "http"
        self.url = f"{scheme}://{clickhouse.host}:{clickhouse.port}/"
        self._session: aiohttp.ClientSession | None = None

    async def rows(self, query: str) -> list[list[Any]]:  # Any: JSON
        """The rows of a query. Raises aiohttp.ClientError, ValueError."""
        if self._session is None:
            headers = {
                "X-ClickHouse-User": self.config.username,
                "X-ClickHouse-Key": self.config.password.get_secret_value(),
            }
            timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
            self._session = aiohttp.ClientSession(headers=headers, timeout=timeout)
        sql = f"{query} FORMAT JSONCompact"
        async with self._session.post(self.url, params={"database": self.config.database}, data=sql) as answer:
            text = await answer.text()
            if answer.status != 200:
                raise ValueError(f"ClickHouse answers {answer.status}: {text[:200]}")
        rows: list[list[Any]] = json.loads(text)["data"]  # Any: JSON
        return rows

    async def close(self) -> None:
        """Release the connection."""
        if self._session is not None:
            await self._session.close()


async def count_clickhouse(reader: ClickHouseReader) -> Stored:
    """Count the tables. Raises aiohttp.ClientError, ValueError."""
    ((events, distinct, trades, further),) = await reader.rows(
        "SELECT count(), uniqExact(instance, epoch, seq, idx), countIf(kind = 'trade'),"
        " uniqExactIf((instance, epoch, seq, idx), idx > 0) FROM events"
    )
    ((features,),) = await reader.rows("SELECT count() FROM features")
    ((dead,),) = await reader.rows("SELECT count() FROM dlq")
    return Stored(
        events=int(events),
        distinct=int(distinct),
        trades=int(trades),
        further=int(further),
        features=int(features),
        dead=int(dead),
        newest=await newest_features(reader),
    )


async def newest_features(reader: ClickHouseReader) -> dict[str, tuple[int, ...]]:
    """Symbol -> identity of its newest features row. Raises aiohttp.ClientError, ValueError.

    A symbol that moved between ingestion instances was read by each in epochs of its own; the newest of them counts.
    """
    rows = await reader.rows(
        "SELECT symbol, argMax((src_instance, src_epoch, src_seq, src_idx, out),"
        " (src_epoch, src_seq, src_idx, out)) FROM features GROUP BY symbol"
    )
    return {symbol: tuple(int(part) for part in mark) for symbol, mark in rows}


async def count_redis(redis: RedisConfig, newest: Mapping[str, tuple[int, ...]]) -> Cached:
    """Compare `md:last:*` with the newest record of each symbol. Raises OSError, EOFError, ValueError."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        reader, writer = await asyncio.open_connection(redis.host, redis.port)
        try:
            password = redis.password.get_secret_value()
            if password:
                words = ["AUTH", redis.username, password] if redis.username else ["AUTH", password]
                await _command(reader, writer, *words)
            await _command(reader, writer, "SELECT", str(redis.db))
            names = [name.decode() for name in await _command(reader, writer, "KEYS", "md:last:*")]
            values = await _command(reader, writer, "MGET", *names) if names else []
        finally:
            writer.transport.abort()
    held = {}
    for name, value in zip(names, values, strict=True):
        row = json.loads(value or b"{}")
        mark = tuple(row.get(key) for key in ("src_instance", "src_epoch", "src_seq", "src_idx", "out"))
        held[name.removeprefix("md:last:")] = mark
    different = sorted(symbol for symbol in {*held, *newest} if held.get(symbol) != newest.get(symbol))
    return Cached(symbols=len(held), different=different)


async def _command(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *words: str) -> Any:  # Any: RESP
    writer.write(resp(*words))
    return await _answer(reader)


async def _answer(reader: asyncio.StreamReader) -> Any:  # Any: RESP
    line = (await reader.readuntil(b"\r\n"))[:-2]
    kind, rest = line[:1], line[1:]
    if kind == b"-":
        raise ValueError(f"Redis answers: {rest.decode('utf-8', 'replace')}")
    if kind == b"*":
        return [await _answer(reader) for _ in range(int(rest))]
    if kind == b"$":
        if int(rest) < 0:
            return None
        return (await reader.readexactly(int(rest) + 2))[:-2]
    return int(rest) if kind == b":" else rest


@dataclass(frozen=True, slots=True)
class Account:
    """All stations; None = it could not be asked, with the reason in `unknown`."""

    sent: int | None
    spooled: Spooled | None
    logged: Logged | None
    stored: Stored | None
    cached: Cached | None
    unknown: dict[str, str] = field(default_factory=dict)

    def differences(self) -> list[str]:
        """What does not agree, in sentences; empty = every station holds the same."""
        found = [f"{station}: unknown, {reason}" for station, reason in self.unknown.items()]
        sent, spooled, logged, stored = self.sent, self.spooled, self.logged, self.stored
        if sent is not None and spooled is not None and sent != spooled.lines:
            found.append(f"sent {sent:,}, but {spooled.lines:,} lines spooled")
        if spooled is not None and logged is not None and not logged.forgotten:
            expected, reached = spooled.lines + spooled.facts, logged.distinct - logged.further + logged.dead
            if expected != reached:
                found.append(f"spooled {expected:,} lines and facts, but {reached:,} identities in Kafka")
            if stored is not None and logged.distinct - logged.clock != stored.distinct:
                without = logged.distinct - logged.clock
                found.append(f"Kafka holds {without:,} events without clock lines, ClickHouse {stored.distinct:,}")
        if logged is not None and stored is not None and logged.dead != stored.dead:
            found.append(f"{logged.dead:,} dead letters in Kafka, {stored.dead:,} in ClickHouse")
        if spooled is not None and stored is not None:
            expected = spooled.lines - spooled.clock + spooled.facts
            reached = stored.distinct - stored.further + stored.dead
            if expected != reached:
                why = ""
                if logged is not None and logged.forgotten and reached < expected:
                    why = (
                        f": the embedded broker dropped its oldest records, {logged.forgotten:,} so far, some of them"
                        " unread; the spool has the lines. A lower --rate or --speed, or make services, loses none"
                    )
                found.append(
                    f"spooled {expected:,} lines and facts without clock lines, but {reached:,} in ClickHouse{why}"
                )
        found += self._twice()
        if self.cached is not None and self.cached.different:
            names = ", ".join(self.cached.different[:5])
            found.append(f"{len(self.cached.different)} symbols differ between Redis and ClickHouse: {names}")
        return found

    def on_the_way(self) -> int | None:
        """Lines and facts sent or spooled that are not in ClickHouse, clock lines apart; None where nobody knows."""
        if self.spooled is None or self.stored is None:
            return None
        lines = self.spooled.lines
        unspooled = max(0, self.sent - lines) if self.sent is not None else 0
        return max(
            0, lines - self.spooled.clock + self.spooled.facts + unspooled - self.stored.distinct - self.stored.dead
        )

    def cut_short(self) -> list[str]:
        """Instead of `differences` where nobody waited for the last lines: what is on its way is no difference."""
        waited = self.on_the_way()
        if waited is None:
            found = ["cut short by Ctrl-C; how many lines were on their way is unknown"]
        elif waited:
            found = [f"cut short by Ctrl-C while {waited:,} lines were on their way"]
            if self.logged is not None and self.logged.forgotten:
                found[0] += f" (or among the {self.logged.forgotten:,} that the embedded broker dropped)"
        else:
            found = ["cut short by Ctrl-C: every line is in ClickHouse, some features or newest values may not be"]
        return found + [f"{station}: unknown, {reason}" for station, reason in self.unknown.items()] + self._twice()

    def _twice(self) -> list[str]:
        stored = self.stored
        if stored is None or stored.events == stored.distinct:
            return []
        return [f"{stored.events - stored.distinct:,} rows stand twice in ClickHouse"]


async def take_account(settings: Settings, state: Path, sent: int | None) -> Account:
    """Ask all stations; one that cannot be asked is named and does not hide the others."""
    unknown: dict[str, str] = {}

    async def asked(station: str, ask: Callable[[], Any]) -> Any:  # Any: one of the records above
        try:
            return await ask()
        except Exception as error:  # any failure of a station is that station's line in the account
            unknown[station] = str(error) or type(error).__name__
            return None

    reader = ClickHouseReader(settings.clickhouse)
    try:
        spooled, logged, stored = await asyncio.gather(
            asked("spool", lambda: in_thread(partial(count_spool, state))),
            asked("kafka", lambda: in_thread(partial(count_kafka, settings.kafka))),
            asked("clickhouse", lambda: count_clickhouse(reader)),
        )
    finally:
        await reader.close()
    newest = stored.newest if stored is not None else {}
    cached = await asked("redis", lambda: count_redis(settings.redis, newest))
    return Account(sent, spooled, logged, stored, cached, unknown)
