"""The connection to ClickHouse: one async client for all sinks of a process, and what its errors decide.

Inserts are streamed from an Arrow buffer through `raw_insert`, which is what `insert_arrow` does inside, except that
a streamed body is never sent a second time by the client behind our back. Every insert is synchronous
(`async_insert=0`), under the caller's own query id and token, and ends within the deadline or is uncertain.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import pyarrow as pa
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.exceptions import ClickHouseError

from config.sections import ClickHouseConfig
from pipeline_orchestrator.errors import NotConnectedError, PermanentError, RetryableError, UncertainError
from pipeline_orchestrator.flow.connector import Probe

# Error codes of the server (system.errors): the same rows fail again.
BAD_DATA = frozenset({6, 27, 38, 41, 53, 69, 70, 72, 117, 131, 321, 349, 407, 469, 691})
# The schema, the rights or the settings are wrong: no row would pass.
FATAL = frozenset({16, 47, 60, 81, 115, 164, 497, 516})
NO_ROOM = frozenset({243})  # NOT_ENOUGH_SPACE
DEPENDENCY = "clickhouse"
CHUNK = 1 << 20  # bytes per piece of an insert's body
CLOSE_SECONDS = 3.0
PROBE_SECONDS = 1.0
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class RowsRefusedError(PermanentError):
    """The server refuses the data of this insert; some of its rows may have landed."""


class Store:
    """`connect()` before use; safe to call by every sink, `release()` as often. Belongs to one event loop."""

    def __init__(self, config: ClickHouseConfig, *, insert_timeout: float = 30.0, query_timeout: float = 10.0) -> None:
        self.config = config
        self.database = config.database
        self.address = f"{config.host}:{config.port}"
        self.insert_timeout, self.query_timeout = insert_timeout, query_timeout
        self._client: AsyncClient | None = None
        self._users = 0
        self._turn = asyncio.Lock()
        self._shared: asyncio.Task[object] | None = None

    def table(self, name: str) -> str:
        """A table's qualified name."""
        return f"`{self.database}`.`{name}`"

    async def connect(self) -> None:
        """Raises NotConnectedError while the server does not answer."""
        async with self._turn:
            if self._client is None:
                self._client = await self._new_client()
            self._users += 1

    async def shared(self, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Wait for `work`, done once for all who ask while it is under way. Raises what it raises."""
        # Any: a coroutine's send types are not ours
        if self._shared is None:
            self._shared = asyncio.create_task(work())
            self._shared.add_done_callback(self._forget_shared)
        await asyncio.shield(self._shared)

    def _forget_shared(self, task: asyncio.Task[object]) -> None:
        self._shared = None
        if not task.cancelled():
            task.exception()  # seen: those who waited have it, if there are any left

    async def release(self) -> None:
        """The last user closes the client."""
        async with self._turn:
            self._users = max(0, self._users - 1)
            if self._users == 0 and self._client is not None:
                client, self._client = self._client, None
                with suppress(TimeoutError):  # its sockets close with the process at the latest
                    async with asyncio.timeout(CLOSE_SECONDS):
                        await client.close()

    async def _new_client(self) -> AsyncClient:
        import clickhouse_connect

        config = self.config
        try:
            # No database here: it may not exist before the first migration; every name is qualified.
            async with asyncio.timeout(self.query_timeout):
                client: AsyncClient = await clickhouse_connect.get_async_client(
                    host=config.host,
                    port=config.port,
                    username=config.username,
                    password=config.password.get_secret_value(),
                    secure=config.secure,
                    compress=config.host not in LOOPBACK,
                    connect_timeout=3,
                    send_receive_timeout=int(self.insert_timeout) + 5,
                    connector_limit=16,
                )
        except (ClickHouseError, OSError, TimeoutError) as error:
            raise NotConnectedError(
                f"cannot reach ClickHouse at {self.address}: {_short(error)}",
                next_step=f"check that it answers: curl http://{self.address}/ping",
                dependency=DEPENDENCY,
            ) from error
        return client

    @property
    def client(self) -> AsyncClient:
        """The open client. Raises NotConnectedError before connect()."""
        if self._client is None:
            raise NotConnectedError(f"not connected to ClickHouse at {self.address}")
        return self._client

    async def command(self, sql: str, settings: Mapping[str, Any] | None = None) -> None:
        """Run a statement without rows. Raises as `query`."""
        await self._guarded(self.client.command(sql, settings=dict(settings or {})))

    async def query(
        self, sql: str, parameters: Mapping[str, Any] | None = None, *, deadline: float | None = None
    ) -> list[tuple[Any, ...]]:
        """Rows of a small result, within `deadline` seconds (default: the query timeout).

        Raises NotConnectedError, UncertainError (deadline), RetryableError, PermanentError.
        """
        result = await self._guarded(self.client.query(sql, parameters=dict(parameters or {})), deadline)
        return [tuple(row) for row in result.result_rows]

    async def query_arrow(
        self, sql: str, parameters: Mapping[str, Any] | None = None, *, deadline: float | None = None
    ) -> pa.Table:
        """Rows of a larger result, as Arrow; strings come as strings. Raises as `query`."""
        call = self.client.query_arrow(sql, parameters=dict(parameters or {}), use_strings=True)
        return await self._guarded(call, deadline)

    async def _guarded(self, call: Any, deadline: float | None = None) -> Any:  # Any: the client has no types
        limit = deadline or self.query_timeout
        try:
            async with asyncio.timeout(limit):
                return await call
        except TimeoutError as error:
            text = f"ClickHouse at {self.address} did not answer within {limit:g} s"
            raise UncertainError(text, dependency=DEPENDENCY) from error
        except (ClickHouseError, OSError) as error:
            raise await self._decided(error) from error

    async def insert(self, table: str, rows: pa.RecordBatch, query_id: str, token: str) -> None:
        """Insert one batch; when this returns all of it is stored.

        Raises RowsRefusedError (bad data), PermanentError (schema, rights), NotConnectedError, RetryableError,
        UncertainError. After any of them rows may have landed: read back before the next attempt.
        """
        stream = await asyncio.to_thread(_encode, rows)
        settings = {
            "async_insert": 0,
            "insert_deduplication_token": token,
            "query_id": query_id,
            "max_execution_time": int(self.insert_timeout),
            "throw_on_max_partitions_per_insert_block": 0,
        }
        try:
            async with asyncio.timeout(self.insert_timeout):
                summary = await self.client.raw_insert(
                    self.table(table),
                    column_names=rows.schema.names,
                    insert_block=_pieces(stream),
                    settings=settings,
                    fmt="ArrowStream",
                )
        except TimeoutError as error:
            text = f"no answer to an insert of {rows.num_rows} rows within {self.insert_timeout:g} s"
            raise UncertainError(text, dependency=DEPENDENCY) from error
        except (ClickHouseError, OSError) as error:
            raise await self._decided(error) from error
        if summary.written_rows != rows.num_rows:
            text = f"{summary.written_rows} of {rows.num_rows} rows were acknowledged"
            raise UncertainError(text, dependency=DEPENDENCY)

    async def _decided(self, error: Exception) -> Exception:
        """Our error for the client's: the code decides, never the text."""
        code = getattr(error, "code", None)
        if not code:
            return NotConnectedError(f"ClickHouse at {self.address}: {_short(error)}", dependency=DEPENDENCY)
        if code in NO_ROOM:
            return RetryableError(
                f"storage full: ClickHouse at {self.address} has no room (code {code}): {await self._room()}",
                next_step="free space on its disk; it goes on by itself",
                dependency=DEPENDENCY,
            )
        text = f"ClickHouse at {self.address} answered code {code}: {_short(error)}"
        if code in BAD_DATA:
            return RowsRefusedError(text)
        return PermanentError(text) if code in FATAL else RetryableError(text, dependency=DEPENDENCY)

    async def _room(self) -> str:
        """The server's fullest disk, by its own word; never raises for a server that does not tell."""
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                found = await self.client.query(
                    "SELECT path, free_space, total_space FROM system.disks ORDER BY free_space LIMIT 1"
                )
            ((path, free, total),) = found.result_rows
        except (ClickHouseError, OSError, TimeoutError, ValueError):
            return "its free space is unknown"
        return f"disk {path} has {free} of {total} bytes free"

    async def ensure_dead(self, query_ids: Sequence[str], deadline: float = 10.0) -> None:
        """Kill these queries and wait until none of them runs. Raises UncertainError when one still does."""
        named = ", ".join(f"'{name}'" for name in query_ids)  # ids are ours: no quotes in them
        await self.command(f"KILL QUERY WHERE query_id IN ({named}) SYNC")
        end = time.monotonic() + deadline
        pause = 0.02
        while True:
            running = await self.query(f"SELECT count() FROM system.processes WHERE query_id IN ({named})")
            if running[0][0] == 0:
                return
            if time.monotonic() > end:
                text = f"an insert could not be killed within {deadline:g} s"
                raise UncertainError(text, dependency=DEPENDENCY)
            await asyncio.sleep(pause)
            pause = min(1.0, pause * 2)

    async def table_uuid(self, table: str) -> str:
        """The table's UUID, "" when it does not exist."""
        rows = await self.query(
            "SELECT uuid FROM system.tables WHERE database = {database:String} AND name = {name:String}",
            {"database": self.database, "name": table},
        )
        return str(UUID(str(rows[0][0]))) if rows else ""

    async def probe(self) -> Probe:
        """One round trip with a deadline; never raises for an absent server."""
        began = time.perf_counter()
        try:
            if self._client is None:
                return Probe("clickhouse", self.address, None, None, "not connected yet")
            async with asyncio.timeout(PROBE_SECONDS):
                await self._client.query("SELECT 1")
        except (ClickHouseError, OSError, TimeoutError) as error:
            return Probe("clickhouse", self.address, False, None, _short(error))
        return Probe("clickhouse", self.address, True, (time.perf_counter() - began) * 1e3)


def _encode(rows: pa.RecordBatch) -> memoryview:
    """One record batch as an Arrow stream: one block, so one part per partition of the table."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_batch(rows)
    return memoryview(sink.getvalue())


async def _pieces(stream: memoryview) -> AsyncIterator[bytes]:
    for at in range(0, len(stream), CHUNK):
        yield bytes(stream[at : at + CHUNK])


def _short(error: BaseException) -> str:
    """The first line of an error, or its type when it says nothing."""
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:300]
