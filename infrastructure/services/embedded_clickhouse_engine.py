"""The engine behind the HTTP front: chDB connections in lanes, one thread each.

One chDB connection runs one statement at a time, so inserts have a lane of their own (its thread, and the engine's
threads that it starts, run at nice 15), reads and DDL share a few lanes, and KILL QUERY has one that is never
waited for. chDB knows no query ids of a client: each statement carries its client's id in `log_comment`, and the
registry here knows which ids wait, run, or were killed. A killed id never runs again, so that a body that arrives
after its KILL cannot insert behind the back of whoever read the table afterwards.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from infrastructure.services import embedded_clickhouse_sql as sqltext
from infrastructure.services.embedded_clickhouse_sql import Insert, quoted

T = TypeVar("T")
INSERT_NICE = 15
KILLED_KEPT = 4096  # ids remembered as killed; a pipeline kills a handful a day
KILL_WAIT_S = 10.0
_CODE = re.compile(r"Code: (\d+)\.")


class EngineError(Exception):
    """The engine refused a statement; `code` is ClickHouse's error code (0 = it named none)."""

    def __init__(self, text: str, code: int | None = None) -> None:
        found = _CODE.search(text)
        self.code = code if code is not None else int(found.group(1)) if found else 0
        body = text[found.start() :] if found else f"Code: {self.code}. DB::Exception: {text}"
        super().__init__(body)


@dataclass(frozen=True, slots=True)
class Statement:
    """One request. `sql` has no output format of its own unless the client wrote one; settings are plain text."""

    sql: bytes
    query_id: str
    database: str = "default"
    settings: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    format: str = "TabSeparated"


@dataclass(slots=True)
class Reply:
    """Body in chunks (all of it when `complete`), and the figures that the engine gave; None = not known yet."""

    chunks: list[bytes]
    complete: bool = True
    rows_read: int | None = None
    bytes_read: int | None = None
    rows_written: int | None = None
    elapsed_s: float = 0.0


class Lane:
    """One chDB connection and the only thread that touches it."""

    def __init__(self, name: str, target: str, base: Mapping[str, str], nice: int = 0) -> None:
        self._target, self._base, self._nice = target, dict(base), nice
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"chdb-{name}")
        self._connection: Any = None  # Any: chDB has no types
        self._database = "default"
        self._failed_inserts: int | None = None  # as the engine counts them; None = to be read again

    async def call(self, work: Callable[[], T]) -> T:
        """Run `work` on the lane's thread. A cancelled wait does not stop the work."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def open(self) -> None:
        """Connect; runs on the lane's thread so that the engine's threads inherit its priority."""
        import chdb

        if self._nice:
            os.setpriority(os.PRIO_PROCESS, 0, self._nice)  # 0 = the calling thread on Linux
        try:
            self._connection = chdb.connect(self._target)  # type: ignore[no-untyped-call]
        except (chdb.ChdbError, RuntimeError) as error:
            raise EngineError(str(error)) from error
        self._apply(self._base)

    def close(self) -> None:
        """Close the connection on the calling thread; an open one at interpreter exit may crash."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def shutdown(self) -> None:
        """End the thread once its work is done."""
        self._pool.shutdown(wait=True)

    def plain(self, sql: str, fmt: str = "TabSeparated") -> bytes:
        """Run a statement of the front itself."""
        return self._guard(lambda: bytes(self._connection.query(sql, fmt).bytes()))

    def run(self, statement: Statement, sql: str) -> Reply:
        """Run one statement to its end, its whole result in memory."""
        self._failed_inserts = None

        def work() -> Reply:
            began = time.perf_counter()
            result = self._connection.query(sql, statement.format, params=dict(statement.params))
            body = bytes(result.bytes())
            reply = Reply([body] if body else [], elapsed_s=time.perf_counter() - began)
            reply.rows_read, reply.bytes_read = int(result.storage_rows_read()), int(result.storage_bytes_read())
            reply.rows_written = int(result.rows_written())
            return reply

        return self._within(statement, work)

    def insert(self, statement: Statement, insert: Insert, data: memoryview) -> Reply:
        """Insert `data`; nothing is visible unless this returns (one part per partition of the table).

        For a full disk chDB's streamed insert returns as if all had been written; the engine itself counts it as failed.
        """

        def work() -> Reply:
            began, began_at = time.perf_counter(), int(time.time())
            before = self._failed_inserts if self._failed_inserts is not None else self._count_failed()
            self._failed_inserts = None
            inserter = self._connection.send_insert(insert.head, insert.format)
            try:
                inserter.append(bytes(data))
                result = inserter.finish()
            except BaseException:
                inserter.close()
                raise
            after = self._count_failed()
            if after != before:
                raise self._newest_error(began_at)
            self._failed_inserts = after
            # The engine's own figure counts from the connection's first insert in some versions: rows are exact.
            return Reply([], rows_written=int(result.rows_written), elapsed_s=time.perf_counter() - began)

        return self._within(statement, work)

    def _count_failed(self) -> int:
        return int(self.plain("SELECT sum(value) FROM system.events WHERE event = 'FailedInsertQuery'"))

    def _newest_error(self, since: int) -> EngineError:
        """What the engine noted since a Unix second; without a number of its own where that is not one error alone.

        Errors of the disk other than a full one are not noted: then its directories are asked.
        """
        found = self.plain(
            f"SELECT code, name, last_error_message FROM system.errors WHERE last_error_time >= toDateTime({since})"
            " ORDER BY last_error_time DESC"
        )
        errors = [line.split("\t") for line in found.decode("utf-8", "replace").splitlines()]
        if len(errors) == 1:
            ((code, name, message),) = errors
            return EngineError(f"Code: {code}. DB::Exception: {message} ({name})")
        if not errors and (refusal := self._disk_refusal()):
            return EngineError(f"{refusal} (STD_EXCEPTION)", code=1001)
        noted = "; ".join(f"{name}: {message}" for _, name, message in errors) or "nothing noted"
        return EngineError(f"The insert has failed, and the engine noted since: {noted} (UNKNOWN_EXCEPTION)", code=1002)

    def _disk_refusal(self) -> str:
        """Why no file can be made where tables lie; "" where one can."""
        found = self.plain("SELECT DISTINCT arrayJoin(data_paths) FROM system.tables WHERE engine LIKE '%MergeTree'")
        for path in found.decode().splitlines():
            try:
                os.close(os.open(path, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            except OSError as error:
                return f"{error.strerror} (errno {error.errno}): {path}"
        return ""

    def stream_open(self, statement: Statement, sql: str) -> Any:  # Any: chDB's result has no types
        """Begin a streamed read; the lane is busy until `stream_close`."""
        self._begin(statement)
        try:
            return self._guard(
                lambda: self._connection.send_query(sql, statement.format, params=dict(statement.params))
            )
        except BaseException:
            self._end(statement)
            raise

    def stream_next(self, stream: Any) -> bytes | None:
        """The next chunk, None at the end."""

        def work() -> bytes | None:
            chunk = stream.fetch()
            return None if chunk is None else bytes(chunk.bytes())

        return self._guard(work)

    def stream_close(self, stream: Any, statement: Statement) -> None:
        """Free the lane, cancelling what is left."""
        try:
            self._guard(stream.close)
        finally:
            self._end(statement)

    def _within(self, statement: Statement, work: Callable[[], Reply]) -> Reply:
        self._begin(statement)
        try:
            return self._guard(work)
        finally:
            self._end(statement)

    def _begin(self, statement: Statement) -> None:
        """Database, settings and id of the statement; undone by `_end`."""
        if statement.database != self._database:
            self.plain(f"USE `{statement.database.replace('`', '')}`")
            self._database = statement.database
        try:
            self._apply({**statement.settings, "log_comment": statement.query_id})
        except EngineError:
            self._end(statement)
            raise

    def _end(self, statement: Statement) -> None:
        for name in statement.settings:
            try:
                self.plain(f"SET {name} = DEFAULT")
            except EngineError as error:
                if error.code != 115:  # unknown to the engine: was never set
                    raise
        again = {name: value for name, value in self._base.items() if name in statement.settings}
        self._apply({**again, "log_comment": ""})

    def _apply(self, settings: Mapping[str, str]) -> None:
        if settings:
            self.plain("SET " + ", ".join(f"{name} = {quoted(value)}" for name, value in settings.items()))

    @staticmethod
    def _guard(work: Callable[[], T]) -> T:
        """Turn the library's errors into ours."""
        from chdb import ChdbError

        try:
            return work()
        except (ChdbError, RuntimeError) as error:
            raise EngineError(str(error)) from error


class Engine:
    """`open()` starts the engine over `path`; every method belongs to one event loop."""

    def __init__(self, path: Path, *, memory_bytes: int = 1_500_000_000, readers: int = 3) -> None:
        caps = f"max_server_memory_usage={memory_bytes}&mark_cache_size=64000000"
        base = {"max_memory_usage": str(memory_bytes * 2 // 3), "max_threads": "2", "async_insert": "0"}
        target = f"{path}?{caps}"
        self._inserts = Lane("insert", target, base, nice=INSERT_NICE)
        self._readers = [Lane(f"read{n}", target, base) for n in range(readers)]
        self._control = Lane("control", target, base)
        self._insert_turn = asyncio.Lock()
        self._control_turn = asyncio.Lock()
        self._free: asyncio.Queue[Lane] = asyncio.Queue()
        self._running: dict[str, asyncio.Event] = {}
        self._killed: OrderedDict[str, None] = OrderedDict()
        self.version = ""
        self.timezone = "UTC"
        self.inserted_rows = self.statements = 0

    async def open(self) -> None:
        """Start the engine (0.2-0.8 s on existing data). Raises EngineError."""
        for lane in self._lanes():
            await lane.call(lane.open)
        for lane in self._readers:
            self._free.put_nowait(lane)
        answer = await self._control.call(lambda: self._control.plain("SELECT version(), timezone()"))
        self.version, self.timezone = answer.decode().strip().split("\t")

    async def close(self) -> None:
        """Wait for what runs, then close every connection."""
        for lane in reversed(self._lanes()):
            await lane.call(lane.close)
            lane.shutdown()

    def _lanes(self) -> list[Lane]:
        return [self._inserts, *self._readers, self._control]

    async def alive(self) -> None:
        """One statement through the engine, on the lane that nothing blocks. Raises EngineError."""
        async with self._control_turn:
            await self._control.call(lambda: self._control.plain("SELECT 1"))

    async def run(self, statement: Statement) -> Reply:
        """A read or a DDL statement, its result whole."""
        sql = sqltext.show_client_ids(statement.sql.decode("utf-8"))
        async with _Registered(self, statement.query_id):
            lane = await self._free.get()
            try:
                self._refuse_killed(statement.query_id)
                return await _shielded(lane.call(lambda: lane.run(statement, sql)))
            finally:
                self._free.put_nowait(lane)

    async def stream(self, statement: Statement) -> AsyncGenerator[bytes, None]:
        """A read in chunks; closing the iterator early cancels the rest."""
        sql = sqltext.show_client_ids(statement.sql.decode("utf-8"))
        async with _Registered(self, statement.query_id):
            lane = await self._free.get()
            try:
                self._refuse_killed(statement.query_id)
                stream = await _shielded(lane.call(lambda: lane.stream_open(statement, sql)))
                try:
                    while (chunk := await _shielded(lane.call(lambda: lane.stream_next(stream)))) is not None:
                        yield chunk
                finally:
                    await _shielded(lane.call(lambda: lane.stream_close(stream, statement)))
            finally:
                self._free.put_nowait(lane)

    async def insert(self, statement: Statement, insert: Insert | None, data: memoryview) -> Reply:
        """An INSERT, with data (`insert` is its head) or without (INSERT ... SELECT or VALUES)."""
        sql = "" if insert is not None else sqltext.show_client_ids(statement.sql.decode("utf-8"))
        async with _Registered(self, statement.query_id), self._insert_turn:
            self._refuse_killed(statement.query_id)
            lane = self._inserts
            if insert is None:
                reply = await _shielded(lane.call(lambda: lane.run(statement, sql)))
            else:
                reply = await _shielded(lane.call(lambda: lane.insert(statement, insert, data)))
            self._refuse_killed(statement.query_id)  # a killed streaming insert ends as if it had written 0 rows
            self.inserted_rows += reply.rows_written or 0
            return reply

    async def kill(self, statement: Statement) -> Reply:
        """KILL QUERY by the client's ids: waiting ones are dropped, running ones killed, and none runs later.

        With SYNC it returns when none of them is left (at most 10 s, then the engine's answer stands as it is).
        """
        sql = statement.sql.decode("utf-8")
        named = sqltext.literals(sql) if re.search(r"\bquery_id\b", sql, re.I) else ()
        if not re.search(r"\bTEST\b", sql, re.I):
            self._mark_killed(named)
        async with self._control_turn:
            lane = self._control
            listed = await lane.call(
                lambda: lane.plain("SELECT Settings['log_comment'], query_id FROM system.processes", "TSVRaw")
            )
            pairs = [line.split("\t") for line in listed.decode().splitlines()]
            known = {client: engine for client, engine in pairs if client}
            translated = sqltext.translate_ids(sql, known)
            reply = await _shielded(lane.call(lambda: lane.run(statement, translated)))
        if re.search(r"\bSYNC\b", sql, re.I) and not re.search(r"\bASYNC\b", sql, re.I):
            waits = [self._running[name].wait() for name in named if name in self._running]
            if waits:
                await asyncio.wait([asyncio.ensure_future(wait) for wait in waits], timeout=KILL_WAIT_S)
        return reply

    def _mark_killed(self, ids: tuple[str, ...]) -> None:
        for name in ids:
            self._killed[name] = None
            self._killed.move_to_end(name)
        while len(self._killed) > KILLED_KEPT:
            self._killed.popitem(last=False)

    def _refuse_killed(self, query_id: str) -> None:
        if query_id in self._killed:
            raise EngineError("Query was cancelled. (QUERY_WAS_CANCELLED)", code=394)


class _Registered:
    """An id is registered from its arrival to its end; a second one meanwhile is refused, as the server does."""

    def __init__(self, engine: Engine, query_id: str) -> None:
        self._engine, self._id = engine, query_id

    async def __aenter__(self) -> None:
        if self._id in self._engine._running:
            raise EngineError(
                f"Query with id = {self._id} is already running. (QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING)", code=216
            )
        self._engine._refuse_killed(self._id)
        self._engine._running[self._id] = asyncio.Event()
        self._engine.statements += 1

    async def __aexit__(self, *_: object) -> None:
        self._engine._running.pop(self._id).set()


async def _shielded(work: Coroutine[Any, Any, T]) -> T:  # Any: a coroutine's send types are not ours
    """Wait for a lane's work even when the waiter is cancelled: its lane must not be handed on before."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # retrieved: the request that wanted it is gone
        raise
