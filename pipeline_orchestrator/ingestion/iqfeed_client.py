"""Keeps one connection to the feed: connect, hold, notice its loss, come back. Other connections are untouched.

Lost means: end of stream, reset, a protocol that does not fit, or silence (no whole line of any kind, `T` included, for
`iqfeed.silence_seconds`, however many bytes came). Between attempts: exponential backoff with full jitter, at least a
second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline_orchestrator.ingestion.depth_redrive import DepthRedrive
from pipeline_orchestrator.ingestion.feed_clock import FeedClock
from pipeline_orchestrator.ingestion.feed_session import FeedSession, ProtocolMismatchError
from pipeline_orchestrator.ingestion.journal import Journal
from pipeline_orchestrator.ingestion.receiver import LineReceiver
from pipeline_orchestrator.ingestion.refusals import next_step, refused_text
from pipeline_orchestrator.ingestion.subscriptions import Subscriptions
from pipeline_orchestrator.resilience.backoff import Backoff

CONNECT_SECONDS = 5.0


@dataclass(slots=True)
class LinkState:
    """What is shown of a connection. `state`: connecting | up | upstream_down | down | mismatch."""

    state: str = "connecting"
    cause: str = ""  # why it is not fully up; "" = nothing to say
    next_step: str = ""
    received_bytes: int = 0
    received_lines: int = 0
    torn_tails: int = 0
    torn_bytes: int = 0
    oversized_lines: int = 0
    reconnects: int = 0
    last_line_ns: int | None = None
    next_attempt_us: int | None = None  # wall clock, microseconds UTC; None = connected, or trying now
    notes: list[tuple[str, str, dict[str, object]]] = field(default_factory=list)


class FeedConnection:
    """One port of the feed. `run` returns when `stop` is set; it raises only what the spool raises."""

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        journal: Journal,
        wishes: Subscriptions,
        *,
        protocol: str,
        client_name: str,
        silence_seconds: float,
        reconnect_max_seconds: float,
        on_change: Callable[[], None],
        redrive: DepthRedrive | None = None,
    ) -> None:
        self.redrive = redrive
        self.name, self.host, self.port = name, host, port
        self.journal, self.wishes, self.client_name = journal, wishes, client_name
        self.protocol = protocol
        self.silence_seconds, self.reconnect_max = silence_seconds, reconnect_max_seconds
        self.status = LinkState()
        self.clock = FeedClock()
        self._changed = on_change
        wishes.account.on_change.append(self._limit_told)
        self._session: FeedSession | None = None
        self._dropped, self._opened = "", False

    async def run(self, stop: asyncio.Event) -> None:
        """See the module."""
        floor = min(1.0, self.reconnect_max)
        backoff = Backoff(base=2.0, cap=self.reconnect_max, floor=floor)
        while not stop.is_set():
            self.status.next_attempt_us = None
            if await self._attempt(stop):
                backoff.reset()
            pause = self.reconnect_max if self.status.state == "mismatch" else backoff.next_delay()
            self.status.next_attempt_us = self.journal.spool.clock.wall_ns() // 1000 + int(pause * 1e6)
            await _until(stop, pause)

    @property
    def session(self) -> FeedSession | None:
        """The open connection; None while there is none."""
        return self._session

    def drop(self, cause: str) -> None:
        """End the connection from our side and connect anew."""
        if self._session is not None and self._session.receiver is not None:
            self._dropped = cause
            self._session.receiver.close()

    def release(self, symbols: Sequence[str]) -> None:
        """Watch these symbols too, from now on: no other instance has them any more."""
        self.wishes.withheld -= frozenset(symbols)
        if self._session is not None:
            self._session.watch_now(symbols)

    async def _attempt(self, stop: asyncio.Event) -> bool:
        """One connection from start to end; False where it never came as far as its watches."""
        cause = "reconnect" if self._opened else "start"
        session = FeedSession(
            self.name,
            self.journal,
            self.wishes,
            self.client_name,
            self._told,
            self._watches_sent,
            self.protocol,
            self.clock,
        )
        self.clock.reset()
        clock = self.journal.spool.clock
        loop = asyncio.get_running_loop()
        receiver = LineReceiver(session, clock.monotonic_ns)
        session.receiver = receiver
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await loop.create_connection(lambda: receiver, self.host, self.port)
        except (OSError, TimeoutError) as error:
            self._down(_reason(error))
            return False
        session.heard_ns = clock.monotonic_ns()
        self._session, self._dropped, self._opened = session, "", True
        self.journal.opened(self.name, f"{self.host}:{self.port}", cause, self.protocol)
        try:
            ended = await self._hold(session, receiver, stop, cause)
        finally:
            receiver.close()
            self._session = None
            self._account(session, receiver)
        watched = bool(self.wishes.watched)
        self.wishes.forget()
        self.journal.lost(self.name, ended)
        if watched and ended != "shutdown":
            self.journal.gap_begins(self.name, "connection_lost")
        if ended not in {"shutdown", "protocol"}:
            self.status.reconnects += 1
            self._down(
                {
                    "eof": "closed by the feed",
                    "reset": "reset by the feed",
                    "silence": f"silent for {self.silence_seconds:g} s",
                    "silent_symbols": "made anew for symbols that do not answer",
                }.get(ended, ended)
            )
        return session.ready

    async def _hold(self, session: FeedSession, receiver: LineReceiver, stop: asyncio.Event, cause: str) -> str:
        """Set up, then watch over the connection; returns why it ended."""
        setting_up = asyncio.create_task(session.set_up(cause))
        stopping = asyncio.create_task(stop.wait())
        try:
            while True:
                silent = (self.journal.spool.clock.monotonic_ns() - session.heard_ns) / 1e9
                waiting: set[asyncio.Future[Any]] = {receiver.ended, stopping}  # Any: results differ
                if not setting_up.done():
                    waiting.add(setting_up)
                left = max(0.01, self.silence_seconds - silent)
                await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                self._note(session, receiver)
                if setting_up.done() and (problem := setting_up.exception()) is not None:
                    if not isinstance(problem, ProtocolMismatchError):
                        raise problem
                    self._mismatch(problem)
                    return "protocol"
                if receiver.ended.done():
                    return self._dropped or receiver.ended.result()
                if stopping.done():
                    return "shutdown"
                if self.journal.spool.clock.monotonic_ns() - session.heard_ns >= self.silence_seconds * 1e9:
                    return "silence"
        finally:
            for task in (setting_up, stopping):
                task.cancel()
            await asyncio.gather(setting_up, stopping, return_exceptions=True)

    def watch_silent_again(self) -> None:
        """Send the watches of symbols whose depth alone fell silent once more; nothing while the link is down."""
        session, redrive = self._session, self.redrive
        if redrive is None or session is None or not session.ready or not session.upstream:
            return
        now = self.journal.spool.clock.monotonic_ns()
        wishes = self.wishes
        for symbol in redrive.silent(wishes.watched - wishes.refused.keys() - wishes.without_depth, now):
            session.watch_again(symbol)
            redrive.tried(symbol, now)

    def _limit_told(self) -> None:
        if self._session is not None and self._session.ready:
            self._session.limit_told()

    def _watches_sent(self, symbols: Sequence[str] | None) -> None:
        if self.redrive is None:
            return
        now = self.journal.spool.clock.monotonic_ns()
        if symbols is None:
            self.redrive.begin(self.wishes.watched, now)
        else:
            self.redrive.join(symbols, now)

    def note(self) -> None:
        """Bring the figures of the running connection up to date."""
        if self._session is not None and self._session.receiver is not None:
            self._note(self._session, self._session.receiver)

    def _note(self, session: FeedSession, receiver: LineReceiver) -> None:
        self.status.received_bytes += receiver.received
        self.status.received_lines += session.lines
        self.status.oversized_lines += session.oversized
        if session.lines:
            self.status.last_line_ns = session.heard_ns
        receiver.received = session.lines = session.oversized = 0

    def _account(self, session: FeedSession, receiver: LineReceiver) -> None:
        self._note(session, receiver)
        torn = receiver.discard()
        if torn:
            self.status.torn_tails += 1
            self.status.torn_bytes += torn

    def _told(self) -> None:
        """The session has news."""
        session = self._session
        if session is None:
            return
        self.status.state = "up" if session.upstream else "upstream_down"
        self.status.next_step = ""
        if not session.upstream:
            self.status.cause = f"{self.name}: IQConnect at {self.host}:{self.port} has no link to its servers"
        elif session.trouble:
            self.status.cause = f"{self.name}: {session.trouble}"
        elif self.wishes.refused:
            self.status.cause = refused_text(self.wishes)
            self.status.next_step = next_step(self.wishes)
        else:
            self.status.cause = ""
        self._changed()

    def _down(self, why: str) -> None:
        self.status.state = "down"
        self.status.cause = f"no feed at {self.host}:{self.port} ({why})"
        self.status.next_step = "start IQConnect, or use: manage_pipeline.py start --simulate"
        self._changed()

    def _mismatch(self, problem: ProtocolMismatchError) -> None:
        self.status.state = "mismatch"
        self.status.cause = f"{self.name} at {self.host}:{self.port}: {problem}"
        self.status.next_step = problem.next_step
        self._changed()


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_SECONDS:g} s"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return str(getattr(error, "strerror", None) or error)


async def _until(stop: asyncio.Event, seconds: float) -> None:
    """Sleep, but no longer than until `stop`."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
