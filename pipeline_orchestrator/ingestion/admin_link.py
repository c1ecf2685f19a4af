"""The admin port: an idle client keeps IQConnect alive, and its statistics tell how much it queues for us.

IQConnect ends itself some seconds after its last client has left. What we do not read it queues ("KB queued" in
S,CLIENTSTATS) and in the end closes the connection: a queue that lasts is the sign of a reader that is too slow. All
of it is a courtesy: where the port does not answer, nothing is known and nobody is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from config.sections import IQFeedConfig
from pipeline_orchestrator.errors import broke_under_a_write
from pipeline_orchestrator.ingestion import subscriptions as say
from pipeline_orchestrator.resilience.backoff import Backoff

CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 30.0
RETRY_SECONDS = 60.0
QUEUED_KB = 1024.0  # more than this is queued ...
QUEUED_TIMES = 3  # ... in so many lines one after the other: we are too slow
_CONNECTIONS = {"1": "level1", "2": "level2"}
_CLIENTSTATS = b"S,CLIENTSTATS ON" + say.CRLF


class AdminLink:
    """`upstream`: the link IQConnect <-> DTN; `queued_kb` by connection. None, or not there = not known."""

    def __init__(self, feed: IQFeedConfig, client_name: str, monotonic_ns: Callable[[], int]) -> None:
        self.feed, self.client_name, self._now = feed, client_name, monotonic_ns
        self.upstream: bool | None = None
        self.queued_kb: dict[str, float] = {}
        self._over: dict[str, int] = {}
        self._ids: dict[str, tuple[int, int]] = {}  # of our newest client of a type, and when it was told of last

    async def hold(self) -> None:
        """Connect, read, come back, again and again, until cancelled."""
        backoff = Backoff(base=5.0, cap=RETRY_SECONDS, floor=1.0)
        while True:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    reader, writer = await asyncio.open_connection(self.feed.host, self.feed.admin_port)
            except (OSError, TimeoutError):
                await asyncio.sleep(backoff.next_delay())
                continue
            backoff.reset()
            try:
                writer.write(say.set_client_name(self.client_name) + _CLIENTSTATS)
                while line := await _line(reader):
                    self.take(line.decode("latin-1"))
            except (OSError, ValueError):
                pass  # the peer is gone, silent, or speaks no lines: the same as an end of stream
            except RuntimeError as error:
                if not broke_under_a_write(error):
                    raise
            finally:
                writer.close()
                self._forget()
            await asyncio.sleep(backoff.next_delay())

    def take(self, line: str) -> None:
        """One line of the admin port."""
        fields = line.strip().split(",")
        if len(fields) > 12 and fields[:2] == ["S", "STATS"]:
            self.upstream = fields[12] == "Connected"
        elif len(fields) > 10 and fields[:2] == ["S", "CLIENTSTATS"] and fields[4] == self.client_name:
            self._client(_CONNECTIONS.get(fields[2], ""), fields[3], fields[10])

    def _client(self, connection: str, number: str, queued: str) -> None:
        try:
            identity, queued_kb = int(number), float(queued)
        except ValueError:
            return
        newest, told_ns = self._ids.get(connection, (identity, 0))
        now = self._now()
        if not connection or (identity < newest and now - told_ns < 3e9):
            return  # an older connection of ours that IQConnect still holds
        self._ids[connection] = identity, now
        self.queued_kb[connection] = queued_kb
        self._over[connection] = self._over.get(connection, 0) + 1 if queued_kb > QUEUED_KB else 0

    def _forget(self) -> None:
        self.upstream = None
        self.queued_kb.clear()
        self._over.clear()
        self._ids.clear()

    def too_slow(self, connection: str) -> bool:
        """The feed has been queueing for this connection."""
        return self._over.get(connection, 0) >= QUEUED_TIMES


async def _line(reader: asyncio.StreamReader) -> bytes:
    """The next line, b"" at the end. Raises TimeoutError when none comes: IQConnect says S,STATS each second."""
    async with asyncio.timeout(SILENCE_SECONDS):
        return await reader.readline()
