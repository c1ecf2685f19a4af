"""The server: listening ports, one loop that moves the market and hands its rows to the connections.

A port is a value (`Port`): name, number, line end and the class of its conversations. Level 1, Level 2, Lookup and
Admin are here.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from infrastructure.simulator import admin, level1, level2, lookup_session
from infrastructure.simulator.connection import Connection
from infrastructure.simulator.correct_on_demand import Corrector
from infrastructure.simulator.feed import Behaviour, Feed
from infrastructure.simulator.market import Market, ReadyRows, Rows
from infrastructure.simulator.sent_log import SentLog
from infrastructure.simulator.session import Session

Event = Callable[[str, dict[str, Any]], None]  # Any: fields for a log line

_LOW_WATER: Final = 512 << 10  # unpaced: more is generated only below this
_SETTLED_NS: Final = 500_000_000  # a held flow starts when no watch came for this long
_CLOSE_SECONDS: Final = 1.0
_BACKLOG: Final = 128


@dataclass(frozen=True, slots=True)
class Port:
    """One listening port. `number` 0 = any free one."""

    name: str
    number: int
    line_end: bytes
    session: Callable[[Feed, Connection, int], Session]


def level1_port(number: int = 0) -> Port:
    """Level 1, 5009 in a real installation."""
    return Port("level1", number, level1.LINE_END, level1.Level1Session)


def level2_port(number: int = 0) -> Port:
    """Level 2, 9200 in a real installation."""
    return Port("level2", number, level2.LINE_END, level2.Level2Session)


def lookup_port(number: int = 0) -> Port:
    """Lookup, 9100 in a real installation."""
    return Port("lookup", number, lookup_session.LINE_END, lookup_session.LookupSession)


def admin_port(number: int = 0) -> Port:
    """Admin, 9300 in a real installation."""
    return Port("admin", number, admin.LINE_END, admin.AdminSession)


class Simulator:
    """An IQFeed server over a market.

    `open()` binds the ports, `run()` serves until `stop()`, `close()` releases everything. `hold` connections must
    watch something (a client of both streaming ports is two) before the flow starts; an unpaced flow needs at least
    one and pauses while there is none. `on_second` is called once a second, `event` for what an operator may want
    to read.
    """

    def __init__(
        self,
        market: Market,
        ports: Sequence[Port],
        *,
        host: str = "127.0.0.1",
        behaviour: Behaviour | None = None,
        hold: int = 0,
        sent_log: Path | None = None,
        event: Event = lambda name, fields: None,
        on_second: Callable[[], None] = lambda: None,
    ) -> None:
        self.feed = Feed(market, behaviour or Behaviour())
        self.market, self.host, self.ports, self.hold = market, host, tuple(ports), hold
        self.addresses: dict[str, tuple[str, int]] = {}
        self.connections = 0
        self.started = self.finished = False
        self._corrector = Corrector(self.feed.behaviour.corrections, market.names)
        self._log = SentLog(market.names, sent_log)
        self._event, self._on_second = event, on_second
        self._listeners: list[socket.socket] = []
        self._ids: Counter[str] = Counter()
        self._past: Counter[str] = Counter()
        self._wake = asyncio.Event()
        self._stopping = self._history_full = False
        self._cleared = time.monotonic()

    @property
    def sent(self) -> dict[str, int]:
        """Taken by sockets so far: lines, market_lines, clock_lines of Level 1 and 2; bytes, all_lines of all ports."""
        total = Counter(self._past)
        for session in self.feed.sessions:
            total.update(_counts(session))
        return {key: total[key] for key in ("lines", "market_lines", "clock_lines", "bytes", "all_lines")}

    @property
    def queued_bytes(self) -> int:
        """Waiting for clients to read."""
        return sum(session.connection.queued_bytes for session in self.feed.sessions)

    async def open(self) -> None:
        """Bind and listen. Raises OSError naming the port that cannot be had."""
        loop = asyncio.get_running_loop()
        try:
            for port in self.ports:
                listener = _listen(self.host, port)
                self._listeners.append(listener)
                self.addresses[port.name] = listener.getsockname()[:2]
                loop.add_reader(listener, self._accept, loop, listener, port)
        except OSError:
            await self.close()
            raise

    async def run(self) -> None:
        """Serve until `stop`. Raises what the market raised."""
        async with asyncio.TaskGroup() as group:
            seconds = group.create_task(self._seconds())
            await self._pump()
            seconds.cancel()

    def stop(self) -> None:
        """End `run` soon. May be called from a signal handler of the loop."""
        self._stopping = True
        self._wake.set()

    def clear_depth(self, symbol: str, sides: str = "BA") -> None:
        """S,CLEAR DEPTH for these sides to all who watch the depth of a symbol, then their rows again."""
        for session in self._depth_sessions():
            session.clear(symbol, sides)

    def silence_depth(self, symbol: str) -> None:
        """Stop the depth of a symbol without a word, for every connection that does not watch it anew."""
        for session in self._depth_sessions():
            session.silence(symbol)

    def _depth_sessions(self) -> list[level2.Level2Session]:
        return [session for session in self.feed.sessions if isinstance(session, level2.Level2Session)]

    def _clear_when_due(self) -> None:
        every = self.feed.behaviour.clear_depth_seconds
        if not every or time.monotonic() - self._cleared < every:
            return
        self._cleared = time.monotonic()
        for session in self._depth_sessions():
            for symbol in session.watched_symbols:
                session.clear(symbol, "BA")

    async def close(self) -> None:
        """Stop listening, give clients a moment to take what is queued, close all. Safe to call twice."""
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            loop.remove_reader(listener)
            listener.close()
        self._listeners.clear()
        until = time.monotonic() + _CLOSE_SECONDS
        while self.queued_bytes and (left := until - time.monotonic()) > 0:
            await self._wait(left)
        for session in list(self.feed.sessions):
            session.connection.close("the simulator ends")
        self._log.close()

    def _accept(self, loop: asyncio.AbstractEventLoop, listener: socket.socket, port: Port) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            return  # the client was gone before it was accepted
        try:
            connection = Connection(
                loop, sock, self.connections + 1, port.name, port.line_end, self._log,
                self.feed.behaviour.queue_limit, self._wake.set,
            )  # fmt: skip
        except OSError:
            sock.close()
            return  # gone while it was accepted
        self.connections += 1
        self._ids[port.name] += 1
        session = port.session(self.feed, connection, self._ids[port.name])
        self.feed.sessions.append(session)
        connection.on_line = lambda line: self._command(session, line)
        connection.on_close = lambda reason: self._closed(session, reason)
        self._event("client_connected", {"connection": connection.number, "port": port.name, "peer": connection.peer})
        session.greet()
        connection.start()

    def _command(self, session: Session, line: str) -> None:
        session.command(line)
        if not self.started:
            self._wake.set()

    def _closed(self, session: Session, reason: str) -> None:
        self.feed.sessions.remove(session)
        self._past.update(_counts(session))
        session.close()
        connection = session.connection
        self._event(
            "client_closed",
            {
                "connection": connection.number,
                "port": connection.port,
                "reason": reason,
                "lines": connection.lines_sent,
            },
        )

    async def _pump(self) -> None:
        while not self._stopping:
            now = time.monotonic_ns()
            if not self.started and self._may_start(now):
                self.market.start(now)
                self.started = True
                self._event("flow_started", {})
            room = not self.market.unpaced or self._room()
            rows = self.market.advance(now, room)
            if rows:
                self._deliver(rows)
            if self.market.finished and not self.finished:
                self.finished = True
                self._event("flow_finished", {"lines": self.market.lines})
            if self.market.unpaced and not room:
                await self._wait(0.5)
                continue
            delay = self.market.wait_seconds(time.monotonic_ns())
            if not self.started:
                delay = min(delay, _SETTLED_NS / 1e9 if self._watching() else 1.0)
            if delay < 0.02:
                await asyncio.sleep(delay)
            else:
                await self._wait(delay)

    async def _wait(self, seconds: float) -> None:
        """Until something happened that the loop must see, at most `seconds`."""
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):  # wait_for of 3.11 can swallow a cancellation
                await self._wake.wait()

    def _deliver(self, rows: Rows) -> None:
        if not isinstance(rows, ReadyRows):  # a recording's lines are not taken apart: it has no history
            self.feed.history.take(rows.level1)
            self._tell_of_full_history()
            if self.feed.behaviour.corrections:
                rows = self._corrector.extend(rows)
        self.feed.cut_windows(rows.level2, rows.reset)
        for session in list(self.feed.sessions):
            session.deliver(rows)

    def _tell_of_full_history(self) -> None:
        if self.feed.history.trades.dropped and not self._history_full:
            self._history_full = True
            self._event("history_full", {"trades": self.feed.history.trades.capacity, "dropped": "oldest"})

    def _watching(self) -> int:
        return sum(1 for session in self.feed.sessions if session.streams and session.symbols_watched)

    def _may_start(self, now_ns: int) -> bool:
        if self.hold == 0:
            return True
        return self._watching() >= self.hold and now_ns - self.feed.watched_ns >= _SETTLED_NS

    def _room(self) -> bool:
        watching = [s.connection for s in self.feed.sessions if s.streams and s.symbols_watched]
        return bool(watching) and all(connection.queued_bytes < _LOW_WATER for connection in watching)

    async def _seconds(self) -> None:
        due = time.monotonic()
        while True:
            due += 1.0
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            for session in list(self.feed.sessions):
                if isinstance(session, admin.AdminSession):
                    session.second()
            self._drop_stalled()
            self._clear_when_due()
            self._log.flush()
            self._on_second()

    def _drop_stalled(self) -> None:
        """An unpaced flow waits for its slowest client, but not for one that takes nothing at all."""
        if not self.market.unpaced:
            return
        limit = self.feed.behaviour.stall_seconds
        oldest = time.monotonic_ns() - int(limit * 1e9)
        for session in list(self.feed.sessions):
            connection = session.connection
            if connection.queued_bytes and connection.moved_ns < oldest:
                connection.close(f"took nothing for {limit:g} s")


def _counts(session: Session) -> dict[str, int]:
    connection = session.connection
    counts = {"all_lines": connection.lines_sent, "bytes": connection.bytes_sent}
    if session.streams:
        counts |= {
            "lines": connection.lines_sent,
            "market_lines": connection.market_lines_sent,
            "clock_lines": connection.clock_lines_sent,
        }
    return counts


def _listen(host: str, port: Port) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port.number, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {host}:{port.number} ({port.name}): {error.strerror}") from error
    listener.setblocking(False)
    return listener
