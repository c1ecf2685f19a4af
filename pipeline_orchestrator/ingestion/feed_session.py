"""One open connection to the feed: handshake, field list, watches, and what the feed says about itself.

Every line goes to the journal first. Greeting, trailing commas, an answer to `T` and the order of answers are all
optional: IQConnect's versions differ, and so do other servers of the same protocol.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from pipeline_orchestrator.ingestion import subscriptions as say
from pipeline_orchestrator.ingestion.dialects import DIALECTS, NEWEST
from pipeline_orchestrator.ingestion.feed_clock import FeedClock
from pipeline_orchestrator.ingestion.journal import Journal
from pipeline_orchestrator.ingestion.layout import LAYOUT_PREFIX, NAMES_PREFIX, parse_layout
from pipeline_orchestrator.ingestion.line_scan import Scan
from pipeline_orchestrator.ingestion.receiver import LineReceiver
from pipeline_orchestrator.ingestion.subscriptions import Subscriptions
from pipeline_orchestrator.market.eastern import eastern_to_utc_us

ANSWER_SECONDS = 10.0  # for the protocol's acknowledgement
UNKNOWN_COMMAND = "!SYNTAX_ERROR!"
SELECT_SECONDS = 3.0  # for the field list: some servers never acknowledge it


class ProtocolMismatchError(Exception):
    """The feed speaks another version than asked for, or does not answer to SET PROTOCOL.

    `error` = text of the `E` line that came instead of an answer, "" = none did.
    """

    def __init__(self, asked: str, answered: str | None, error: str = "") -> None:
        if answered is not None:
            said = f"the feed answered {answered or '?'!r}"
        elif error:
            said = f"the feed refused it with {error!r}"
        else:
            said = f"no answer within {ANSWER_SECONDS:.0f} s"
        super().__init__(f"protocol {asked} asked for, {said}")
        self.next_step = f"update IQConnect to a client that speaks protocol {asked}"
        if answered in DIALECTS:
            self.next_step = f"set iqfeed.protocol to {answered}, or {self.next_step}"
        elif error:
            self.next_step = f"set iqfeed.protocol to a version that this client speaks, or {self.next_step}"


class FeedSession:
    """State of one connection from connect to loss. `receiver` is set once the socket is open.

    `trouble` is what an operator should know while lines flow nevertheless ("" = nothing); `on_change` is called when
    it, or the link between IQConnect and DTN, changes; `on_watches` when watches were sent: of the symbols it gets, or
    None = all. `ready` once the handshake is done and watches are sent.
    """

    def __init__(
        self,
        connection: str,
        journal: Journal,
        wishes: Subscriptions,
        client_name: str,
        on_change: Callable[[], None],
        on_watches: Callable[[Sequence[str] | None], None] = lambda symbols: None,
        protocol: str = NEWEST,
        clock: FeedClock | None = None,
    ) -> None:
        self.dialect = DIALECTS[protocol]
        self.connection, self.journal, self.wishes = connection, journal, wishes
        self.client_name, self._changed, self._watched = client_name, on_change, on_watches
        self.receiver: LineReceiver | None = None
        self.clock = clock or FeedClock()
        self.lines, self.oversized = 0, 0
        self.heard_ns = journal.spool.clock.monotonic_ns()  # when the newest whole line, or the head of one, came
        self.upstream = True  # link IQConnect <-> DTN; servers without a greeting count as linked
        self.trouble = ""
        self._layout: tuple[str, ...] = ()
        self._offered: tuple[str, ...] = ()  # all names of the feed, where it was asked for them
        self._offer_seen = asyncio.Event()
        self._version: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._error = ""  # text of an `E` line before the version was agreed on
        self._layout_seen = asyncio.Event()
        self._linked = asyncio.Event()
        self._linked.set()
        self.ready = False
        self._cause = "start"
        self._news = False

    # -- receiving (called by the receiver, inside the loop's read callback) --------------------------------------

    def take_lines(self, raw: memoryview, found: Scan, controls: list[tuple[bytes, int]]) -> None:
        """Spool, then look at the control lines."""
        self.lines += found.lines
        self.heard_ns = self.journal.spool.clock.monotonic_ns()
        if found.clock >= 0:
            wall_us = self.journal.spool.clock.wall_ns() // 1000
            self.clock.heard(int(eastern_to_utc_us(found.clock, wall_us)), wall_us, self.heard_ns)
        base = len(raw) - (found.end - found.last_start)
        last = bytes(raw[base : base + found.last_end - found.last_start])
        self.journal.lines(self.connection, raw, found, controls, last)
        for line, _ in controls:
            self._control(line)

    def take_oversize(self, head: memoryview) -> None:
        """Spool the head of an endless line."""
        self.lines += 1
        self.oversized += 1
        self.heard_ns = self.journal.spool.clock.monotonic_ns()
        self.journal.oversize(self.connection, head)

    def _control(self, line: bytes) -> None:
        fields = line.decode("latin-1").split(",")
        key = fields[1] if len(fields) > 1 else ""
        if fields[0] == "n":
            self._refused(key, say.UNKNOWN)
        elif fields[0] == "E":
            if not self._version.done():
                self._error = line.decode("latin-1").removeprefix("E,").removesuffix(",")
                if self._error == UNKNOWN_COMMAND:  # nothing but SET PROTOCOL was sent: it knows no protocols
                    self._version.set_result(None)
        elif fields[0] == "S" and key == "CURRENT PROTOCOL":
            if not self._version.done():
                answer = line.decode("latin-1").partition(",CURRENT PROTOCOL,")[2]
                self._version.set_result(answer.removesuffix(","))
        elif fields[0] == "S" and line.startswith(NAMES_PREFIX):
            self._offered = tuple(name.strip() for name in fields[2:])
            self._offer_seen.set()
        elif fields[0] == "S" and line.startswith(LAYOUT_PREFIX):
            self._layout = parse_layout(line) or self._layout
            self._layout_seen.set()
            if self.ready:
                self._judge_layout()
        elif fields[0] == "S" and key == "SERVER CONNECTED":
            self._link_up()
        elif fields[0] == "S" and key == "SERVER DISCONNECTED":
            self._link_down()
        elif fields[0] == "S" and key == "SYMBOL LIMIT REACHED":
            self._refused(fields[2] if len(fields) > 2 else "", say.LIMIT)
        elif fields[0] == "S" and key == "CUST":
            self.wishes.account.told(fields)

    def _refused(self, symbol: str, why: str) -> None:
        news = self.wishes.refuse(symbol, why)
        if news and why == say.UNKNOWN and self.connection == "level1":  # Level 2 may lack what Level 1 serves
            self.wishes.account.unknown(symbol)
        if news and not self._news:
            self._news = True  # said once for all lines of a read: thousands may be refused together
            asyncio.get_running_loop().call_soon(self._tell_refused)

    def _tell_refused(self) -> None:
        self._news = False
        self._changed()

    def _link_up(self) -> None:
        was_down, self.upstream = not self.upstream, True
        self._linked.set()
        if self.ready:
            if self.connection == "level1" and self.dialect.missing(self._layout):
                self._send(say.select_fields(self.dialect.choose(self._offered)))
            self._watch_all(announce=was_down)
        self._changed()

    def _link_down(self) -> None:
        self.upstream = False
        self._linked.clear()
        if self.wishes.watched:
            self.journal.gap_begins(self.connection, "feed_disconnected")
        self._changed()

    # -- speaking -------------------------------------------------------------------------------------------------

    async def set_up(self, cause: str) -> None:
        """Protocol, name, fields, clock, watches. Raises ProtocolMismatchError; returns early if the socket ends."""
        self._cause = cause
        asked = self.dialect.version
        self._send(say.set_protocol(asked))
        version = await self._first(self._version, ANSWER_SECONDS)
        if version is None:
            if self._is_open():
                raise ProtocolMismatchError(asked, None, self._error)
            return
        if version != asked:
            raise ProtocolMismatchError(asked, version)
        self._send(say.set_client_name(self.client_name))
        if self.connection == "level1" and not await self._select():
            return
        if self.connection == "level1":
            self.wishes.account.settled.set()
        else:
            await self.wishes.account.wait_settled()
            if not self._is_open():
                return
        self.ready = True
        self._send(say.ask_clock())
        if self.upstream:
            self._watch_all(announce=True)

    async def _select(self) -> bool:
        """Ask for our fields and see them in force; False where the connection ended meanwhile."""
        if not self.upstream:  # without its upstream a feed may not answer; lines come only afterwards anyway
            await self._first(asyncio.ensure_future(self._linked.wait()), SELECT_SECONDS)
        if self.dialect.asks_names:
            self._send(say.ask_names())
            await self._first(asyncio.ensure_future(self._offer_seen.wait()), SELECT_SECONDS)
        wanted = self.dialect.choose(self._offered)
        self._send(say.select_fields(wanted))
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SELECT_SECONDS
        while not set(wanted) <= set(self._layout) and (left := deadline - loop.time()) > 0 and self._is_open():
            self._layout_seen.clear()
            await self._first(asyncio.ensure_future(self._layout_seen.wait()), left)
        self._judge_layout()
        return self._is_open()

    def _judge_layout(self) -> None:
        missing = self.dialect.missing(self._layout)
        refused = set(self.dialect.choose(self._offered)) - set(self._layout)
        why = "field list not accepted" if refused else "fields that this client does not have"
        told = f"{why}: Level 1 lines come without {', '.join(missing[:4])}" if missing else ""
        if len(missing) > 4:
            told += f" and {len(missing) - 4} more"
        if told != self.trouble:
            self.trouble = told
            self._changed()

    def _watch_all(self, *, announce: bool) -> None:
        """(Re)send every watch; the facts are in the spool before the first line that can follow from them."""
        commands = [say.ask_news()] if self.wishes.news else []
        for symbol in self.wishes.wanted:
            if symbol in self.wishes.withheld or not self.wishes.may_watch(symbol):
                continue
            if announce:
                self.journal.watch(self.connection, symbol, self._cause)
            commands.append(self.wishes.watch(symbol))
        self._cause = "reconnect"
        self._await_no_more()
        self._send(b"".join(commands))
        self._watched(None)
        self._changed()

    def watch_now(self, symbols: Iterable[str], cause: str = "moved") -> None:
        """Watch symbols that were withheld; where watches are not sent yet they will be among them."""
        if not (self.ready and self.upstream):
            return
        commands, watched = [], []
        for symbol in symbols:
            if self.wishes.may_watch(symbol):
                self.journal.watch(self.connection, symbol, cause)
                commands.append(self.wishes.watch(symbol))
                watched.append(symbol)
        self._await_no_more()
        self._send(b"".join(commands))
        self._watched(watched)
        self._changed()

    def _await_no_more(self) -> None:
        """No gap waits for symbols that are not asked for."""
        for gap in self.journal.ledger.of(self.connection):
            gap.pending &= self.wishes.wanted_set - {s for s, why in self.wishes.refused.items() if why == say.BEYOND}
        to = self.journal.place(self.connection)
        if to is not None:
            self.journal.close_gaps(self.connection, to)

    def limit_told(self) -> None:
        """The account's limit is another one: ask for what it now allows. What the feed serves is not taken away."""
        beyond = [symbol for symbol, why in self.wishes.refused.items() if why == say.BEYOND]
        allowed = [symbol for symbol in beyond if self.wishes.account.allows(symbol)]
        if allowed:
            self.watch_now(allowed, "reload")

    def watch_again(self, symbol: str) -> None:
        """Send one watch once more. Its fact comes first: what the answer does not name is no longer in the book."""
        self.journal.watch(self.connection, symbol, "redrive")
        self._send(self.wishes.watch(symbol))

    def ask_clock(self) -> None:
        """Ask for a T that did not come by itself."""
        self._send(say.ask_clock())

    def _send(self, data: bytes) -> None:
        if self.receiver is not None:
            self.receiver.write(data)

    def _is_open(self) -> bool:
        return self.receiver is not None and not self.receiver.ended.done()

    async def _first(self, wanted: asyncio.Future[str | None] | asyncio.Task[bool], seconds: float) -> str | None:
        """Result of `wanted`, or None when it has none, the time is up or the connection ended first."""
        assert self.receiver is not None
        await asyncio.wait({wanted, self.receiver.ended}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if wanted.done():
            result = wanted.result()
            return None if result is None else str(result)
        if isinstance(wanted, asyncio.Task):
            wanted.cancel()
        return None
