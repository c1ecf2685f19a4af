"""Newest values in Redis, from market.features: one script call per flush, for all symbols of it.

Redis holds only what can be made again, so nothing here is fsynced; what is kept are the rules that a late or
repeated write never takes a value back (compare in Lua), that another log is another log (`md:log`), and that after
every start each key present equals the newest record (`md:pos` is written with the values it stands for).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from config.sections import RedisConfig
from pipeline_orchestrator.errors import ForeignLogError, NotConnectedError, RetryableError, broke_under_a_write
from pipeline_orchestrator.flow.connector import Probe
from pipeline_orchestrator.record import LogBounds, Output
from pipeline_orchestrator.storage.ledger import Note
from pipeline_orchestrator.storage.redis_rows import KEY_PREFIX, LOG_KEY, POSITION_KEY, newest_values
from pipeline_orchestrator.storage.redis_scripts import WRITE

KEYS_PER_CALL = 1000  # bounds how long one script call blocks the server (a few ms)
TIMEOUT_S = 0.5


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """Newest values taken from elsewhere, and the offsets below which they are complete, by partition."""

    values: Mapping[str, bytes]
    next_offsets: Mapping[int, int]


@dataclass(slots=True)
class CacheStats:
    """Totals since the sink was made."""

    values: int = 0  # keys written or confirmed
    refused: int = 0  # values that were not newer than the key's
    flushes: int = 0
    flush_seconds: float = 0.0  # of all flushes
    flushed_rows: int = 0  # rows of market.features that they were made of,
    flushed_values: int = 0  # of which so many were the newest of their symbol and written
    rebuilds: int = 0
    last_flush_seconds: float | None = None
    newest_recv_us: int | None = None
    lag: dict[int, int] = field(default_factory=dict)


class RedisSink:
    """A Sink for market.features. `rebuild(log_id)` gives the newest stored values of a log, or None when unknown.

    Every failure raises RetryableError (NotConnectedError): a write may be repeated at will.
    """

    def __init__(
        self,
        config: RedisConfig,
        *,
        rebuild: Callable[[str], Awaitable[Rebuilt | None]] | None = None,
        timeout: float = TIMEOUT_S,
    ) -> None:
        self.config, self.address = config, f"{config.host}:{config.port}"
        self.stats = CacheStats()
        self.notes: list[Note] = []
        self._rebuild, self._timeout = rebuild, timeout
        self._client: Redis | None = None
        self._sha = ""
        self._log_id = ""
        self._latest: dict[str, bytes] = {}  # everything this incarnation knows: what an emptied server gets again
        self._next: dict[int, int] = {}

    # -- connection ----------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Raises NotConnectedError while the server does not answer."""
        await self._drop_client()
        await self._call(lambda client: client.ping())

    async def close(self) -> None:
        await self._drop_client()

    def _connected(self) -> Redis:
        if self._client is None:
            config = self.config
            self._client = Redis(
                host=config.host,
                port=config.port,
                db=config.db,
                username=config.username or None,
                password=config.password.get_secret_value() or None,
                socket_timeout=self._timeout,
                socket_connect_timeout=self._timeout,
                retry=Retry(NoBackoff(), 0),
                protocol=3,
            )
        return self._client

    async def _drop_client(self) -> None:
        """A client that has failed is not trusted again: its pool may never recover."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(RedisError, OSError, RuntimeError):  # late, or broken: its socket goes with it
                await client.aclose()

    async def _call(self, work: Callable[[Redis], Any]) -> Any:  # Any: redis-py's answers have no types
        try:
            answer = await work(self._connected())
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise asyncio.CancelledError  # redis-py's wait_for swallows it on Python 3.11 when the answer is there
            return answer
        except ResponseError as error:
            if isinstance(error, NoScriptError):
                raise
            raise RetryableError(f"Redis at {self.address} answered: {error}", dependency="redis") from error
        except (RedisError, OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not broke_under_a_write(error):
                raise
            await self._drop_client()
            raise NotConnectedError(
                f"Redis at {self.address}: {str(error) or type(error).__name__}",
                next_step=f"check that it answers: redis-cli -h {self.config.host} -p {self.config.port} ping",
                dependency="redis",
            ) from error

    # -- start ---------------------------------------------------------------------------------------------------

    async def start_positions(self, bounds: LogBounds) -> dict[int, int]:
        """Offset to read from, by partition.

        That is where the values left off, else where a rebuild leaves off, else the log's beginning. Values of
        another log stay until a newer one overwrites them.
        """
        self._log_id = bounds.log_id
        await self._drop_foreign()
        found = await self._call(lambda client: client.get(LOG_KEY))
        kept = await self._call(lambda client: client.hgetall(POSITION_KEY))
        same = found is not None and found.decode() == bounds.log_id
        positions = {int(partition): int(offset) for partition, offset in kept.items()} if same else {}
        starts = {
            partition: positions[partition]
            for partition, beginning in bounds.beginning.items()
            if partition in positions and beginning <= positions[partition] <= bounds.end[partition]
        }
        missing = set(bounds.beginning) - set(starts)
        if found is not None and not same:
            self.notes.append(Note("new_log", f"Redis held values of log {found.decode()}, now {bounds.log_id}"))
        if not same:
            await self._begin_log()
        else:
            self._latest = await self._present()
        if missing:
            starts |= await self._rebuilt(bounds, missing)
        self._next = dict(starts)
        return starts

    async def _drop_foreign(self) -> None:
        """What stands under our names with a wrong type says nothing about our values: both keys begin anew."""
        for name, kind in ((LOG_KEY, b"string"), (POSITION_KEY, b"hash")):
            found = await self._call(partial(_kind, name))
            if found not in {b"none", kind}:
                text = (
                    f"Redis at {self.address} held a {found.decode()} under {name}: removed, all values are made anew"
                )
                self.notes.append(Note("cache_foreign_key", text))
                await self._call(lambda client: client.delete(LOG_KEY, POSITION_KEY))

    async def _begin_log(self) -> None:
        """From now on values are written under our log only."""

        async def work(client: Redis) -> Any:  # Any: a list of answers
            async with client.pipeline(transaction=True) as pipe:
                pipe.set(LOG_KEY, self._log_id)
                pipe.delete(POSITION_KEY)
                return await pipe.execute()

        self._latest = {}
        await self._call(work)

    async def _rebuilt(self, bounds: LogBounds, missing: Iterable[int]) -> dict[int, int]:
        rebuilt = await self._rebuild(bounds.log_id) if self._rebuild is not None else None
        if rebuilt is None:
            return {partition: bounds.beginning[partition] for partition in missing}
        self.stats.rebuilds += 1
        await self._store(dict(rebuilt.values), {})
        self._latest |= rebuilt.values
        return {
            partition: min(
                max(rebuilt.next_offsets.get(partition, 0), bounds.beginning[partition]), bounds.end[partition]
            )
            for partition in missing
        }

    async def _present(self) -> dict[str, bytes]:
        """The values of our log that the server holds."""
        head = f'{{"k_log":"{self._log_id}",'.encode()
        found: dict[str, bytes] = {}
        cursor = 0
        while True:
            cursor, names = await self._call(partial(_scan, cursor))
            values = await self._call(partial(_get_all, names)) if names else []
            for name, value in zip(names, values, strict=True):
                if value is not None and value.startswith(head):
                    found[name.decode()[len(KEY_PREFIX) :]] = value
            if cursor == 0:
                return found

    # -- write ---------------------------------------------------------------------------------------------------

    async def write(self, output: Output) -> None:
        """Returns when the newest value of every symbol of the batch is in Redis. See Sink.write."""
        began = time.perf_counter()
        batch = output.batch
        values = newest_values(batch)
        moved = {span.partition: span.last + 1 for span in batch.ranges}
        await self._store(values, moved)
        self._latest |= values
        self._next |= moved
        self.stats.flushes += 1
        self.stats.flushed_rows += len(batch)
        self.stats.flushed_values += len(values)
        self.stats.last_flush_seconds = time.perf_counter() - began
        self.stats.flush_seconds += self.stats.last_flush_seconds
        if batch.stamps.newest_recv_us:
            self.stats.newest_recv_us = batch.stamps.newest_recv_us

    async def _store(self, values: Mapping[str, bytes], positions: Mapping[int, int]) -> None:
        """All values, then the positions with the last of them; an emptied server gets everything again first."""
        answer = await self._write_all(values, positions)
        if answer == -1:
            self.notes.append(
                Note("cache_emptied", f"Redis at {self.address} had lost {LOG_KEY}: every known value is written again")
            )
            self.stats.rebuilds += 1
            await self._call(lambda client: client.set(LOG_KEY, self._log_id, nx=True))
            await self._write_all(self._latest, self._next)
            answer = await self._write_all(values, positions)
        if answer == -2:
            raise ForeignLogError(
                f"Redis at {self.address} now belongs to another log than {self._log_id}",
                next_step="stop the other pipeline that writes to this Redis, or give it another redis.db",
            )
        if answer < 0:
            raise RetryableError(f"Redis at {self.address} lost its state while it was written")

    async def _write_all(self, values: Mapping[str, bytes], positions: Mapping[int, int]) -> int:
        """Values in calls of bounded size; the positions go with the last. A negative answer stops it."""
        names = list(values)
        cuts = range(0, max(1, len(names)), KEYS_PER_CALL)
        for at in cuts:
            part = names[at : at + KEYS_PER_CALL]
            pairs = [part_ for pair in positions.items() for part_ in pair] if at == cuts[-1] else []
            keys = [LOG_KEY, POSITION_KEY, *(KEY_PREFIX + name for name in part)]
            arguments = [self._log_id, len(pairs) // 2, *pairs, *(values[name] for name in part)]
            answer = await self._script(keys, arguments)
            if answer < 0:
                return answer
            self.stats.values += answer
            self.stats.refused += len(part) - answer
        return 0

    async def _script(self, keys: list[str], arguments: list[Any]) -> int:  # Any: bytes, text or numbers
        if not self._sha:
            self._sha = str(await self._call(lambda client: client.script_load(WRITE)))
        try:
            return int(await self._call(lambda client: client.evalsha(self._sha, len(keys), *keys, *arguments)))
        except NoScriptError:  # a restarted server has forgotten it
            return int(await self._call(lambda client: client.eval(WRITE, len(keys), *keys, *arguments)))

    async def probe(self) -> Probe:
        began = time.perf_counter()
        client = Redis(
            host=self.config.host,
            port=self.config.port,
            username=self.config.username or None,
            password=self.config.password.get_secret_value() or None,
            socket_timeout=self._timeout,
            socket_connect_timeout=self._timeout,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            async with asyncio.timeout(self._timeout * 2):
                await client.ping()
        except (RedisError, OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not broke_under_a_write(error):
                raise
            return Probe("redis", self.address, False, None, str(error) or type(error).__name__)
        finally:
            await client.aclose()
        return Probe("redis", self.address, True, (time.perf_counter() - began) * 1e3)

    def take_notes(self) -> list[Note]:
        """The notes since the last call."""
        notes, self.notes = self.notes, []
        return notes


async def _kind(name: str, client: Redis) -> Any:  # Any: bytes
    return await client.type(name)


async def _scan(cursor: int, client: Redis) -> Any:  # Any: cursor and names
    return await client.scan(cursor, match=f"{KEY_PREFIX}*", count=1000, _type="string")


async def _get_all(names: list[bytes], client: Redis) -> Any:  # Any: values or None
    return await client.mget(names)
