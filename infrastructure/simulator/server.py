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
from pathlib import Path
from typing import Final

import numpy as np

from infrastructure.simulator import admin, level1, level2, lookup_session
from infrastructure.simulator import columns as c
from infrastructure.simulator.bulletins import Bulletins
from infrastructure.simulator.connection import Connection
from infrastructure.simulator.correct_on_demand import Corrector
from infrastructure.simulator.fault_script import Script
from infrastructure.simulator.faults import Event, Faults
from infrastructure.simulator.feed import Behaviour, Feed
from infrastructure.simulator.listeners import Listeners, Port
from infrastructure.simulator.market import Market, ReadyRows, Rows
from infrastructure.simulator.sent_log import SentLog
from infrastructure.simulator.session import Session

_LOW_WATER: Final = 512 << 10  # unpaced: more is generated only below this
_SETTLED_NS: Final = 500_000_000  # a held flow starts when no watch came for this long
_CLOSE_SECONDS: Final = 1.0


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

    `seed` decides corrections on demand, headlines, regional quotes, and what `faults` draw: a script of them, timed
    from the start of the flow.

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
        seed: int = 1,
        faults: Script = (),
        event: Event = lambda name, fields: None,
        on_second: Callable[[], None] = lambda: None,
    ) -> None:
        self.feed = Feed(market, behaviour or Behaviour())
        self.market, self.hold = market, hold
        self._listeners = Listeners(host, ports, self._client)
        self.addresses = self._listeners.addresses
        self.connections = 0
        self.started = self.finished = False
        self._corrector = Corrector(self.feed.behaviour.corrections, market.names, seed)
        self._bulletins = Bulletins(market.names.symbols, seed)
        self._log = SentLog(market.names, sent_log)
        self._event, self._on_second = event, on_second
        self.faults = Faults(self.feed, self._listeners, seed, event, faults)
        self._ids: Counter[str] = Counter()
        self._past: Counter[str] = Counter()
        self._wake = asyncio.Event()
        self._stopping = self._history_full = False
        self._cleared = time.monotonic()
        self._day = market.second_us // c.DAY_US

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
        try:
            self._listeners.open()
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

    async def close(self, linger: float = 0.0) -> None:
        """Stop listening, give clients a moment to take what is queued, close all. Safe to call twice.

        With `linger` the streaming clients are told that nothing follows, and have so many seconds to read to that end
        and close themselves.
        """
        self.faults.close()
        self._listeners.close()
        until = time.monotonic() + _CLOSE_SECONDS
        while self.queued_bytes and (left := until - time.monotonic()) > 0:
            await self._wait(left)
        streams = [session.connection for session in self.feed.sessions if session.streams] if linger else []
        for connection in streams:
            connection.end()
        until = time.monotonic() + linger
        while not all(connection.closed for connection in streams) and (left := until - time.monotonic()) > 0:
            await self._wait(left)
        for session in list(self.feed.sessions):
            session.connection.close("the simulator ends")
        self._log.close()

    def _client(self, sock: socket.socket, port: Port) -> None:
        try:
            connection = Connection(
                asyncio.get_running_loop(), sock, self.connections + 1, port.name, port.line_end, self._log,
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
        self.faults.joined(connection)
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
                self.faults.flow_started()
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
            for correction in rows.corrections:
                self.feed.history.correct(correction)
        self.feed.cut_windows(rows.level2, rows.reset)
        for session in list(self.feed.sessions):
            session.deliver(rows)
        if not isinstance(rows, ReadyRows):  # a recording says itself what its feed said
            self._tell_of_new_day()
            self._tell_bulletins()

    def _tell_bulletins(self) -> None:
        if self.market.second_us == self._bulletins.second_us:
            return
        sessions = [session for session in self.feed.sessions if isinstance(session, level1.Level1Session)]
        if not any(session.news or session.regional.any() for session in sessions):
            return
        asked = np.flatnonzero(np.bitwise_or.reduce([session.regional for session in sessions]))
        self._bulletins.advance(self.market.second_us, self.market.state, asked)
        for session in sessions:
            session.tell(self._bulletins)

    def _tell_of_new_day(self) -> None:
        """After the batch in which the market's clock went past midnight Eastern."""
        day = self.market.second_us // c.DAY_US
        before, self._day = self._day, day
        if day <= before or not self.feed.behaviour.summary_at_day_roll:
            return
        self._event("day_rolled", {})
        for session in list(self.feed.sessions):
            if isinstance(session, level1.Level1Session):
                session.day_rolled()

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
            self.faults.second()
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
