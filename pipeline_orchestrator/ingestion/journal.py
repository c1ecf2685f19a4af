"""What the reader writes into the spool: lines as they come, and its own facts between them.

The journal owns the writer's state: the parser's context as of the last byte written (it goes into each segment's
header), the last line of each connection, and the ledger of gaps. After a restart it finds all three again from the
newest segment alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline_orchestrator.clock import boot_id
from pipeline_orchestrator.flow.spool import Spool
from pipeline_orchestrator.flow.spool_facts import Fact, decode_fact
from pipeline_orchestrator.flow.spool_format import (
    FACT_PORT,
    OVERSIZE,
    Frame,
    decode_header,
    iter_segment,
    list_segments,
    read_segment,
    segment_path,
)
from pipeline_orchestrator.ingestion.context import ParserContext
from pipeline_orchestrator.ingestion.gap_ledger import GapLedger, OpenGap
from pipeline_orchestrator.ingestion.history_trade import HistoryTrade
from pipeline_orchestrator.ingestion.layout import LAYOUT_PREFIX, parse_layout
from pipeline_orchestrator.ingestion.line_parser import is_new_connection
from pipeline_orchestrator.ingestion.line_scan import Scan
from pipeline_orchestrator.ingestion.reasons import LineError
from pipeline_orchestrator.ingestion.reference_parser import parse_events, parse_line
from pipeline_orchestrator.ingestion.replayed_line import REPLAY, ReplayedLine, line_name
from pipeline_orchestrator.market.eastern import eastern_to_utc_us
from pipeline_orchestrator.market.events import PORT, PORTS
from pipeline_orchestrator.record import EventId, Mark

CONNECTIONS = ("level1", "level2")
REPLAYS_KNOWN = 10_000  # replayed lines that the spool remembers, until the tables hold them; then no more are taken
RESUME_SHARE = (
    20  # lines are taken again once a 20th of the quota (or smaller disk) was freed since the first was refused
)


@dataclass(frozen=True, slots=True)
class LastLine:
    """The newest line of a connection: where it lies, and its bytes (for its time)."""

    epoch: int
    seq: int
    recv_us: int
    line: bytes


class Journal:
    """The one writer of a spool. `open` must have returned before anything is written."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.context = ParserContext()
        self.ledger = GapLedger()
        self.last: dict[str, LastLine] = {}
        self.replayed: dict[str, str] = {}  # line -> the one it was spooled anew as
        self.refused_lines = 0
        self.full = False
        self.full_since_us: int | None = None  # receipt of the first line that was refused; the last time, once over
        self.full_because = ""
        self.unsaid_facts = 0
        self._wall_ns, self._mono_ns, self._room_when_full = 0, 0, 0
        self._holes: list[tuple[Mark | None, Mark]] = []
        self._begun = False
        spool.state = self.state

    def open(self) -> None:
        """Open the spool, take over the state it ends with, anchor the clock of this epoch."""
        self.spool.open()
        self._wall_ns, self._mono_ns = self.spool.clock.wall_ns(), self.spool.clock.monotonic_ns()
        tail = self.spool.tail
        if tail is not None and tail.header is not None:
            self._read_from(tail.header.state, segment_path(self.spool.directory, tail.header.segment))

    def read_tail(self) -> None:
        """Take over the state that a spool ends with, without opening it: to look into another instance's."""
        for path in reversed(list_segments(self.spool.directory).values()):
            try:
                header = decode_header(read_segment(path))
            except (OSError, ValueError):
                continue  # compressed or damaged: the one before is the newest that can be read
            if header is not None:
                self._read_from(header.state, path)
                return

    def _read_from(self, state: dict[str, Any], path: Path) -> None:
        self._take_over(state)
        for frame in iter_segment(path):
            self._follow(frame)

    def close(self) -> None:
        """Let the spool go."""
        self.spool.close()

    def recv_ns(self) -> int:
        """Receipt time now: wall clock at the start of the epoch + monotonic time since."""
        return self._wall_ns + self.spool.clock.monotonic_ns() - self._mono_ns

    def state(self) -> dict[str, Any]:
        """What a segment's header has to hold."""
        last = {
            name: [line.epoch, line.seq, line.recv_us, line.line.decode("latin-1")] for name, line in self.last.items()
        }
        known = {"replayed": self.replayed} if self.replayed else {}
        return {"parser": self.context.to_json(), "last": last, **self.ledger.to_json(), **known}

    # -- lines ---------------------------------------------------------------------------------------------------

    def lines(
        self, connection: str, raw: memoryview, found: Scan, controls: list[tuple[bytes, int]], last: bytes
    ) -> int:
        """Spool whole lines; returns the first one's seq, or -1 where they were refused (quota).

        `last` is the newest line among them, without its line end.
        """
        recv_ns = self.recv_ns()
        seq = None if self.full else self.spool.append(PORT[connection], raw, found.lines, recv_ns)
        if seq is None:
            self._refuse(found.lines)
            return -1
        for line, _ in controls:
            if connection == "level1" and line.startswith(LAYOUT_PREFIX):
                layout = parse_layout(line)
                self.context = self.context if layout is None else replace(self.context, layout=layout)
        if found.clock >= 0:
            self.context = self.context.at(connection, found.clock)
        self.last[connection] = LastLine(self.spool.epoch, seq + found.lines - 1, recv_ns // 1000, last)
        return seq

    def oversize(self, connection: str, head: memoryview) -> None:
        """Spool the head of a line that is too long."""
        seq = None if self.full else self.spool.append(PORT[connection], head, 1, self.recv_ns(), OVERSIZE)
        if seq is None:
            self._refuse(1)

    def _refuse(self, lines: int) -> None:
        self.refused_lines += lines
        if not self.full:
            self.full, self._room_when_full = True, self.spool.room_bytes()
            self.full_since_us = self.recv_ns() // 1000
            self.full_because = self.spool.refused_because
            for connection in self.last:
                self.gap_begins(connection, "spool_full")

    def resume(self) -> bool:
        """End a refusal once enough was freed since it began; True where it ended now."""
        if not self.full:
            return False
        if self.spool.room_bytes() - self._room_when_full < self.spool.most_bytes() // RESUME_SHARE:
            return False
        self.full = False
        return True

    # -- facts ---------------------------------------------------------------------------------------------------

    def fact(self, kind: str, connection: str, symbol: str | None, detail: dict[str, Any]) -> EventId | None:
        """Spool one fact and follow it; None where not even the reserve has room."""
        fact = Fact(kind, connection, symbol, detail)
        identity = self.spool.append_fact(fact, self.recv_ns())
        if identity is None:
            self.unsaid_facts += 1
            return None
        self._follow_fact(fact, identity.seq)
        return identity

    def replay(self, line: ReplayedLine) -> EventId | None:
        """Spool a line anew; None where there is no room. Raises ValueError where it was before, or must wait."""
        if line.of in self.replayed:
            raise ValueError(f"{line.of} was spooled anew as {self.replayed[line.of]}")
        if self.replays_left <= 0:
            raise ValueError("as many replayed lines as can be remembered are not stored yet")
        identity = self.spool.append_fact(line.fact(), self.recv_ns())
        if identity is not None:
            self.replayed[line.of] = line_name(identity)
        return identity

    def refill(self, trade: HistoryTrade, gap_id: str) -> EventId | None:
        """Spool a trade of history that a gap lacks; None where there is no room for a line."""
        if self.full:
            return None
        return self.spool.append_fact(trade.fact(gap_id), self.recv_ns(), reserve=False)

    @property
    def replays_left(self) -> int:
        """How many lines can be replayed before some that were are forgotten."""
        return REPLAYS_KNOWN - len(self.replayed)

    def forget_replays(self, stored: Iterable[str]) -> None:
        """The tables hold what these lines became: they say so from now on."""
        for of in stored:
            self.replayed.pop(of, None)

    def opened(self, connection: str, peer: str, cause: str, protocol: str = "6.2") -> None:
        """A connection is open, on which `protocol` will be asked for: layout and clock start anew."""
        detail = {
            "phase": "open",
            "cause": cause,
            "connection": connection,
            "peer": peer,
            "protocol": protocol,
            "wall_anchor_ns": self._wall_ns,
            "monotonic_anchor_ns": self._mono_ns,
            "boot_id": boot_id(),
        }
        self.fact("connected", connection, None, detail)

    def lost(self, connection: str, cause: str) -> None:
        """A connection is gone."""
        detail = {"phase": "lost", "cause": cause, "connection": connection, "after": self.place(connection)}
        self.fact("lost", connection, None, detail)

    def watch(self, connection: str, symbol: str, cause: str) -> None:
        """A watch is about to be sent."""
        self.fact("subscribed", connection, symbol, {"phase": "watch", "cause": cause, "connection": connection})

    def unwatch(self, connection: str, symbol: str, cause: str) -> EventId | None:
        """A watch was given up, or refused by the feed."""
        detail = {"phase": "watch", "cause": cause, "connection": connection}
        return self.fact("unsubscribed", connection, symbol, detail)

    def gap_begins(self, connection: str, cause: str) -> None:
        """Lines are missing from the last spooled one on. Nothing is said where an open gap covers that already.

        Without any line ever spooled there is no beginning to name, and no gap.
        """
        if connection in self.last and not self.ledger.covers(connection):
            self._begin_gap(connection, cause, self.place(connection), [])

    def gap_begins_for(self, connection: str, cause: str, symbols: dict[str, int | None]) -> None:
        """As `gap_begins`, and also for symbols that another instance read up to the times given (None = unknown).

        The gap lasts until each of them was heard of. An open one that waits for all of them covers that already.
        """
        since = [*symbols.values()]
        for gap in self.ledger.of(connection):
            if symbols.keys() <= gap.pending and not gap.ended:
                return
        place = self.place(connection)
        if place is None:
            place = {"epoch": None, "seq": None, "event_time_us": None}
        else:
            since.append(place["event_time_us"])
        known = [time for time in since if time is not None]
        time_us = min(known) if len(known) == len(since) else None
        self._begin_gap(connection, cause, {**place, "event_time_us": time_us}, sorted(symbols))

    def _begin_gap(self, connection: str, cause: str, since: dict[str, Any] | None, waits_for: list[str]) -> None:
        gap_id = ":".join(str(part) for part in self.spool.next_id[:3])
        detail = {"phase": "begin", "gap_id": gap_id, "cause": cause, "connection": connection, "from": since}
        self.fact("gap", connection, None, {**detail, "waits_for": waits_for} if waits_for else detail)

    def trades_missed(
        self, symbol: str, cause: str, begun: dict[str, Any], ended: dict[str, Any], detail: dict[str, Any]
    ) -> None:
        """Trades of one symbol did not come between two lines of Level 1: a gap that is over when it is found."""
        gap_id = ":".join(str(part) for part in self.spool.next_id[:3])
        same = {"phase": "missed", "gap_id": gap_id, "cause": cause, "connection": "level1"}
        self.fact("gap", "level1", symbol, {**same, "from": begun, "to": ended, "detail": detail})

    def gap_ends(self, connection: str, symbol: str, to: dict[str, Any]) -> None:
        """The symbol was heard of again at `to`; closes what is complete."""
        for gap in self.ledger.of(connection):
            if symbol in gap.pending:
                detail = {"phase": "end", "gap_id": gap.gap_id, "connection": connection}
                self.fact("gap", connection, symbol, {**detail, "to": gap.end_for_symbol(to)})
        self.close_gaps(connection, to)

    def close_gaps(self, connection: str, to: dict[str, Any]) -> None:
        """Close every gap of the connection that waits for nothing more."""
        for gap in self.ledger.of(connection):
            if gap.complete:
                self._close_gap(gap, to)

    def end_gaps(self) -> None:
        """Nothing will be read here any more: what is open ends with the last line, where the next reader's begins."""
        for gap in list(self.ledger.gaps.values()):
            nowhere = {"epoch": None, "seq": None, "event_time_us": None}
            self._close_gap(gap, self.place(gap.connection) or nowhere)

    def _close_gap(self, gap: OpenGap, to: dict[str, Any]) -> None:
        same = {"gap_id": gap.gap_id, "cause": gap.cause, "connection": gap.connection}
        self.fact("gap", gap.connection, None, {"phase": "closed", **same, "to": gap.end_for_all(to)})

    def place(self, connection: str) -> dict[str, Any] | None:
        """Identity and event time of the connection's last line (else its clock); None before the first."""
        last = self.last.get(connection)
        if last is None:
            return None
        time_us = self.time_of(connection, last.line, last.recv_us)
        return {"epoch": last.epoch, "seq": last.seq, "event_time_us": time_us}

    def time_of(self, connection: str, line: bytes, recv_us: int) -> int | None:
        """Event time of a line, else the connection's newest T in UTC, else None."""
        try:
            events, _ = parse_events(line, PORT[connection], self.context, recv_us)
        except LineError:
            events = []
        times = [time for event in events if (time := event.get("event_time_us")) is not None]
        return max(times) if times else self.clock_us(connection, recv_us)

    def clock_us(self, connection: str, recv_us: int) -> int | None:
        """Newest T of a connection in UTC."""
        local = self.context.clock1 if connection == "level1" else self.context.clock2
        return None if local is None else int(eastern_to_utc_us(local, recv_us))

    # -- following the tail after a restart ----------------------------------------------------------------------

    def _take_over(self, state: dict[str, Any]) -> None:
        self.context = ParserContext.from_json(state.get("parser", {}))
        self.ledger = GapLedger.from_json(state)
        self.replayed = {str(of): str(name) for of, name in state.get("replayed", {}).items()}
        for name, (epoch, seq, recv_us, line) in state.get("last", {}).items():
            self.last[name] = LastLine(epoch, seq, recv_us, line.encode("latin-1"))

    def _follow(self, frame: Frame) -> None:
        """One frame of the epochs before, as if it had just been written."""
        if frame.port == FACT_PORT:
            try:
                fact = decode_fact(frame.raw)
                if fact.kind == REPLAY:
                    name = line_name((frame.instance, frame.epoch, frame.first_seq))
                    self.replayed[str(fact.detail.get("of"))] = name
                else:
                    self._follow_fact(fact, frame.first_seq)
            except ValueError:
                return  # the parser makes a dead letter of it
            return
        name = PORTS[frame.port]
        lines = frame.raw.split(b"\n")[: frame.count]
        for line in lines:
            if line[:2] in (b"T,", b"S,"):
                try:
                    _, self.context = parse_line(line.removesuffix(b"\r"), frame.port, self.context, frame.recv_us)
                except LineError:
                    continue
        if not frame.oversize:
            seq = frame.first_seq + frame.count - 1
            self.last[name] = LastLine(frame.epoch, seq, frame.recv_us, lines[-1].removesuffix(b"\r"))

    def _follow_fact(self, fact: Fact, seq: int) -> None:
        if is_new_connection(fact):
            self.context = self.context.reconnected(fact.port)
        self.ledger.apply(fact, seq)

    def hole(self, before: Mark | None, after: Mark) -> None:
        """Spooled lines between two identities cannot be sent any more: a gap of every connection, over at once."""
        self._holes.append((before, after))
        if self._begun:
            self._say_holes()

    def _say_holes(self) -> None:
        for before, after in self._holes:
            for connection in CONNECTIONS:
                gap_id = ":".join(str(part) for part in self.spool.next_id[:3])
                same = {"gap_id": gap_id, "cause": "spool_lost", "connection": connection}
                self.fact("gap", connection, None, {"phase": "begin", **same, "from": _identity(before)})
                self.fact("gap", connection, None, {"phase": "closed", **same, "to": _identity(after)})
        self._holes.clear()

    def begin_epoch(
        self, connections: tuple[str, ...], coming: Mapping[str, Mapping[str, int | None]] | None = None
    ) -> None:
        """Say which lines nobody read before this start. A fresh spool has nothing to miss.

        `coming`: symbols that another instance read before -> event time of its last line per connection.
        """
        self._begun = True
        self._say_holes()
        for connection in connections:
            cause = "symbol_moved"
            if connection in self.last:
                cause = "reader_stopped" if self.ledger.links.get(connection) == "shutdown" else "reader_lost"
            if coming:
                since = {symbol: times.get(connection) for symbol, times in coming.items()}
                self.gap_begins_for(connection, cause, since)
            else:
                self.gap_begins(connection, cause)


def _identity(mark: Mark | None) -> dict[str, Any] | None:
    """A position without a time; None = the beginning."""
    return None if mark is None else {"epoch": mark.epoch, "seq": mark.seq, "event_time_us": None}
