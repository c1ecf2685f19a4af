"""A round of a streaming port: bytes cut anywhere, through receiver, scan and parser, against plain splitting.

The second connection is there too, since it has the other clock. The subject lives on from round to round, so that
memory it would lose shows; each round begins with a state of its own, so that a round can be run alone.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline_orchestrator.flow.spool_facts import Fact, decode_fact, detail_bytes, encode_fact
from pipeline_orchestrator.flow.spool_format import FRAME_BYTES, Frame, encode_frame
from pipeline_orchestrator.flow.spool_scan import COLUMNS, scan_frames, table_of
from pipeline_orchestrator.ingestion import reasons
from pipeline_orchestrator.ingestion.context import ParserContext
from pipeline_orchestrator.ingestion.line_parser import OVERSIZE_KEPT, LineParser, is_new_connection
from pipeline_orchestrator.ingestion.line_scan import MAX_LINE, Scan
from pipeline_orchestrator.ingestion.receiver import READ_BYTES, LineReceiver
from pipeline_orchestrator.ingestion.reference_fields import clock
from pipeline_orchestrator.ingestion.reference_parser import Event, parse_events
from pipeline_orchestrator.market.eastern import DAY_US
from pipeline_orchestrator.market.events import EVENTS, PORT, PORTS, arrow_schema
from pipeline_orchestrator.record import DeadLetter
from tests.fuzz.comparison import Round, column_difference, list_difference
from tests.fuzz.stream_lines import StreamLines

LINES = 3000
NAMES = list(arrow_schema(EVENTS).names)
OWN = ("instance", "epoch", "seq", "idx", "port", "recv_time_us", "source", "summary")
INSTANCE, EPOCH = 3, 9
UNIX_DAY = 719_163  # date.toordinal() of 1970-01-01
COLLECTED = {"S", "E", "n"}


@dataclass
class Expected:
    """The reference's side: what each line becomes, in order."""

    context: ParserContext
    seq: int = 0
    events: list[Event] = field(default_factory=list)
    own: list[tuple[int, int, int, int]] = field(default_factory=list)  # seq, idx, port, receipt
    refused: list[tuple[int, str, bytes]] = field(default_factory=list)
    lines: list[tuple[int, bytes, tuple[str, ...]]] = field(default_factory=list)  # port, bytes, layout before

    def line(self, line: bytes, port: int, recv_us: int, *, oversize: bool = False) -> None:
        self.lines.append((port, line, self.context.layout))
        try:
            if oversize:
                raise reasons.LineError(reasons.OVERSIZE)
            events, self.context = parse_events(line, port, self.context, recv_us)
        except reasons.LineError as error:
            self.refused.append((self.seq, error.reason, line[:OVERSIZE_KEPT] if oversize else line))
        else:
            self.events += events
            self.own += [(self.seq, idx, port, recv_us) for idx in range(len(events))]
        self.seq += 1

    def fact(self, fact: Fact, recv_us: int) -> None:
        self.lines.append((0, detail_bytes(fact), self.context.layout))
        if is_new_connection(fact):
            self.context = self.context.reconnected(fact.port)
        day = None if self.context.clock1 is None else self.context.clock1 // DAY_US
        self.events.append({"kind": fact.kind, "symbol": fact.symbol, "trading_date": day, "raw": detail_bytes(fact)})
        self.own.append((self.seq, 0, PORT[fact.port], recv_us))
        self.seq += 1

    def column(self, name: str) -> list[Any]:
        constant = {"instance": INSTANCE, "epoch": EPOCH, "source": "L"}
        if name in constant:
            return [constant[name]] * len(self.events)
        if name == "summary":
            return [event.get(name, False) for event in self.events]
        if name == "port":
            return [PORTS[row[2]] for row in self.own]
        places = {"seq": 0, "idx": 1, "recv_time_us": 3}
        if name in places:
            return [row[places[name]] for row in self.own]
        return [event.get(name) for event in self.events]


@dataclass
class Connection:
    """One port's socket: the receiver of the product, and beside it the same done by `split`."""

    port: int
    frames: list[Frame]
    expected: Expected
    differences: list[str]
    recv_us: int = 0

    def __post_init__(self) -> None:
        self.receiver = LineReceiver(self, lambda: 0)
        self._tail, self._skipping = b"", False

    def take_lines(self, raw: memoryview, found: Scan, controls: list[tuple[bytes, int]]) -> None:
        data = bytes(raw)
        self._frame(data, found.lines)
        lines = [line.removesuffix(b"\r") for line in data.split(b"\n")[:-1]]
        listed = [
            (line, at) for at, line in enumerate(lines) if line[:1].decode("latin-1") in COLLECTED and line[1:2] in b","
        ]
        newest = -1
        for line in lines:
            if line.startswith(b"T,") and len(line) > 2:
                try:
                    newest = clock(line.split(b",")[1])
                except reasons.LineError:
                    continue
        for difference in (
            list_difference("controls", controls, listed),
            list_difference("lines, clock", [found.lines, found.clock], [len(lines), newest]),
        ):
            if difference:
                self.differences.append(f"scan: {difference}")

    def take_oversize(self, head: memoryview) -> None:
        self._frame(bytes(head), 1, oversize=True)

    def read(self, data: bytes) -> None:
        """What one recv brought, through both."""
        view = self.receiver.get_buffer(len(data))
        view[: len(data)] = data
        self.receiver.buffer_updated(len(data))
        if self.receiver.ended.done():
            self.receiver.ended.result()  # raises what it met
        if self._skipping:
            _, found, data = data.partition(b"\n")
            if not found:
                return
            self._skipping = False
        *lines, self._tail = (self._tail + data).split(b"\n")
        for line in lines:
            self._expect(line)
        if len(self._tail) > MAX_LINE:
            self._expect(self._tail)
            self._tail, self._skipping = b"", True

    def _expect(self, line: bytes) -> None:
        oversize = len(line) > MAX_LINE
        head = line[:MAX_LINE] if oversize else line
        self.expected.line(head.removesuffix(b"\r"), self.port, self.recv_us, oversize=oversize)

    def _frame(self, raw: bytes, count: int, *, oversize: bool = False) -> None:
        seq = self.frames[-1].first_seq + self.frames[-1].count if self.frames else 0
        self.frames.append(Frame(INSTANCE, self.port, EPOCH, seq, count, self.recv_us, raw, oversize))


class StreamRounds:
    """Rounds of `level1` or `level2`, with a running event loop."""

    def __init__(self, port: str) -> None:
        self._port = port
        self._parser = LineParser()

    def run(self, rng: random.Random) -> Round:
        """Draw, cut, parse, compare."""
        lines = StreamLines(rng)
        frames: list[Frame] = []
        differences: list[str] = []
        expected = Expected(ParserContext())
        connections = {name: Connection(PORT[name], frames, expected, differences) for name in ("level1", "level2")}
        day = lines.values.day.toordinal() - UNIX_DAY
        first_us = day * DAY_US + (lines.values.center_second + 4 * 3600) * 1_000_000
        count = rng.choice((40, LINES, LINES, LINES))
        other = "level2" if self._port == "level1" else "level1"
        for name in rng.sample((self._port, other, self._port), 3):
            data = lines.data(name, count // 2 if name == self._port else 30)
            link = connections[name]
            size = rng.choice((7, 400, 4_000)) if len(data) < 8_000 else rng.choice((1_500, 9_000, 40_000, 200_000))
            at = 0
            while at < len(data):
                step = min(READ_BYTES, rng.randrange(1, 2 * size) if rng.random() < 0.7 else size)
                link.recv_us = first_us + rng.randrange(-3_600_000_000, 3_600_000_000)
                link.read(data[at : at + step])
                at += step
                if rng.random() < 0.03:
                    connections[name] = link = self._fact(rng, link)
        found = self._parsed(rng, frames)
        differences += self._compared(found[0], found[1], expected)
        if self._parser.context != expected.context:
            differences.append(f"state: {self._parser.context}, expected {expected.context}")
        self._damaged_spool(rng, frames)
        return Round(len(expected.lines), differences)

    def _fact(self, rng: random.Random, link: Connection) -> Connection:
        """An own fact; a new connection has a new receiver, and what was cut off is gone."""
        kind = rng.choice(("connected", "lost", "gap", "subscribed"))
        detail = {"phase": rng.choice(("open", "open", "x")), "n": link.expected.seq}
        fact = Fact(kind, PORTS[link.port], rng.choice((None, "SPY")), detail)
        seq = link.expected.seq
        link.frames.append(Frame(INSTANCE, 0, EPOCH, seq, 1, link.recv_us, encode_fact(fact)))
        link.expected.fact(decode_fact(encode_fact(fact)), link.recv_us)
        if not is_new_connection(fact):
            return link
        return Connection(link.port, link.frames, link.expected, link.differences, link.recv_us)

    def _parsed(self, rng: random.Random, frames: list[Frame]) -> tuple[list[pa.RecordBatch], list[DeadLetter]]:
        """In calls of any number of frames; between two of them the state may go the way of a restart."""
        parser, at = self._parser, 0
        parser.context = ParserContext()
        batches, dead = [], []
        most = rng.choice((1, 3, 30, 10_000)) if len(frames) < 300 else rng.choice((30, 10_000))
        while at < len(frames):
            take = rng.randrange(1, most + 1)
            batch, more = parser.parse(frames[at : at + take])
            batches.append(batch)
            dead += more
            at += take
            if rng.random() < 0.2:
                parser.context = ParserContext.from_json(parser.context.to_json())
        return batches, dead

    def _compared(self, batches: list[pa.RecordBatch], dead: list[DeadLetter], expected: Expected) -> list[str]:
        differences = []
        letters = [(letter.position["spool"][2], letter.reason, letter.raw) for letter in dead]
        refusals = list_difference("refusal", letters, expected.refused)
        if refusals:
            differences.append(refusals)
        table = pa.Table.from_batches(batches, arrow_schema(EVENTS))
        for name in NAMES:
            difference = column_difference(name, table.column(name), expected.column(name))
            if difference is None:
                continue
            row, text = difference
            seq = expected.own[row][0] if row < len(expected.own) else -1
            line = expected.lines[seq] if 0 <= seq < len(expected.lines) else None
            differences.append(f"{text}; line {seq} {line}")
        return differences

    def _damaged_spool(self, rng: random.Random, frames: list[Frame]) -> None:
        """Frames as they lie on disk, cut and with rubbish behind, stay inside the arrays."""
        some = rng.choice(frames)
        raw = some.raw[:2000]
        spooled = encode_frame(0, 1, 0, 1, 0, 1, 0, raw) + raw
        cut = bytearray(spooled[: rng.randrange(len(spooled) + 1)] + rng.randbytes(rng.randrange(FRAME_BYTES + 2)))
        buf, _ = table_of([some._replace(raw=bytes(cut) or b"\0")])
        scan_frames(buf, len(cut), 100, np.zeros((4, COLUMNS), dtype=np.int64))
