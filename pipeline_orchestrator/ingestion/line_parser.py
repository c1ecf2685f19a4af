"""`LineParser`: frames of the spool -> a batch of `market.events`, and what had to be refused.

Stateful over the layout and the clocks (`context`), deterministic, and independent of how frames are cut into calls:
the same frames give the same rows in one call or in many. Kernels do the lines; system lines and own facts, which
are rare, are done one by one in Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline_orchestrator.flow.blocks import BlockPool
from pipeline_orchestrator.flow.spool_facts import Fact, decode_fact, detail_bytes
from pipeline_orchestrator.flow.spool_format import FACT_PORT, Frame
from pipeline_orchestrator.flow.spool_scan import (
    COUNT,
    EPOCH,
    INSTANCE,
    LENGTH,
    RECV_US,
    SEQ,
    START,
    Bytes,
    Table,
    table_of,
)
from pipeline_orchestrator.flow.spool_scan import PORT as PORT_COLUMN
from pipeline_orchestrator.ingestion import kernel, kernel_work, programs
from pipeline_orchestrator.ingestion import kernel_times as times
from pipeline_orchestrator.ingestion.columns import (
    B_NARROW,
    B_RAW,
    B_SUMMARY,
    N_INSTANCE,
    N_PORT,
    NARROW,
    W_EPOCH,
    W_RECV,
    W_SEQ,
    WIDE,
    Columns,
    enlarged,
    make_columns,
    to_record_batch,
)
from pipeline_orchestrator.ingestion.context import ParserContext
from pipeline_orchestrator.ingestion.history_trade import HISTORY, trade_of_fact
from pipeline_orchestrator.ingestion.intern import COLUMN_OF, InternTables
from pipeline_orchestrator.ingestion.kernel_work import C_ERRORS, C_FRAME, C_LINE, C_POS, C_RAW, C_ROW
from pipeline_orchestrator.ingestion.reasons import BAD_FACT, OVERSIZE, REASONS, LineError
from pipeline_orchestrator.ingestion.reference_parser import Event, parse_line
from pipeline_orchestrator.ingestion.replayed_line import REPLAY, ReplayedLine, of_fact
from pipeline_orchestrator.market.eastern import DAY_US
from pipeline_orchestrator.market.events import EVENTS, PORT, PORTS, enum_symbols
from pipeline_orchestrator.record import DeadLetter, EventId

_ENUM_CODES = {
    column: {name: code for code, name in enumerate(names)} for column, names in enum_symbols(EVENTS).items()
}
_LEVEL2 = PORT["level2"]
_FACT_KINDS = frozenset({"connected", "lost", "subscribed", "unsubscribed", "gap", "clock", "canary", "other"})

OVERSIZE_KEPT = 256  # bytes of an endless line in its dead letter


class LineParser:
    """One parser per spool and direction of reading; not thread-safe.

    A returned batch stays valid for as long as anybody holds it: its memory is used again only afterwards.
    """

    def __init__(self, context: ParserContext | None = None, pool: BlockPool | None = None) -> None:
        self._pool = pool or BlockPool()
        self._texts = InternTables()
        self._work = kernel_work.make_work()
        self._layout: tuple[str, ...] = ()
        self._replays: dict[int, str] = {}  # row of this batch -> the line that it repeats
        self._history: set[int] = set()  # rows of this batch that came from history
        self._paired = False  # the newest lines made two events each, as the depth of protocols before 6.2 does
        self.context = context or ParserContext()

    @property
    def context(self) -> ParserContext:
        """State after the last line parsed; assign to continue elsewhere."""
        state = self._work.state
        one = int(state[times.S_CLOCK1_DAY] * DAY_US + state[times.S_CLOCK1_TOD])
        two = int(state[times.S_CLOCK2_DAY] * DAY_US + state[times.S_CLOCK2_TOD])
        known1, known2 = bool(state[times.S_CLOCK1_KNOWN]), bool(state[times.S_CLOCK2_KNOWN])
        return ParserContext(self._layout, one if known1 else None, two if known2 else None)

    @context.setter
    def context(self, context: ParserContext) -> None:
        state = self._work.state
        if context.layout != self._layout:
            self._layout = context.layout
            general, fast = programs.build(context.layout)
            self._work = self._work._replace(programs=general, fast=fast)
        state[times.S_CLOCK1_KNOWN] = context.clock1 is not None
        state[times.S_CLOCK1_DAY], state[times.S_CLOCK1_TOD] = divmod(context.clock1 or 0, DAY_US)
        state[times.S_CLOCK2_KNOWN] = context.clock2 is not None
        state[times.S_CLOCK2_DAY], state[times.S_CLOCK2_TOD] = divmod(context.clock2 or 0, DAY_US)
        state[times.S_RULE_DAY] = state[times.S_NEAR_DAY] = state[times.S_DATE_KEY] = -(1 << 40)  # nothing remembered

    def parse(self, frames: Sequence[Frame]) -> tuple[pa.RecordBatch, list[DeadLetter]]:
        """Events of whole frames in order, and the lines refused. Raises ValueError for a frame with a wrong count."""
        buf, table = table_of(list(frames))
        return self.parse_table(buf, table)

    def parse_table(self, buf: Bytes, table: Table) -> tuple[pa.RecordBatch, list[DeadLetter]]:
        """The same for frames that lie in `buf` as `table` says (see spool_scan)."""
        self._texts.between_batches()
        self._replays.clear()
        self._history.clear()
        facts = np.flatnonzero(table[:, PORT_COLUMN] == FACT_PORT)
        raw_bytes = int(table[:, LENGTH].sum()) + 6 * int(table[facts, LENGTH].sum())
        lines = int(table[:, COUNT].sum())
        most = lines + int(table[table[:, PORT_COLUMN] == _LEVEL2, COUNT].sum())  # a depth line makes up to two
        most += len(facts)  # also where it is a replayed one
        columns = make_columns(self._pool, most if self._paired else lines, raw_bytes)
        dead: list[DeadLetter] = []
        self._work.cursor[:] = 0
        begin = 0
        for fact in (*facts.tolist(), len(table)):
            if fact > begin:
                columns = self._lines(buf, table[begin:fact], columns, dead, most)
            if fact < len(table):
                columns = self._roomy(columns, most, 2)
                self._fact(buf, table[fact], columns, dead)
            begin = fact + 1
        self._paired = int(self._work.cursor[C_ROW]) > lines
        rows = to_record_batch(columns, int(self._work.cursor[C_ROW]), self._texts)
        return (self._with_origin(rows) if self._replays or self._history else rows), dead

    def _lines(self, buf: Bytes, table: Table, columns: Columns, dead: list[DeadLetter], most: int) -> Columns:
        """A run of frames without facts; returns the columns, which may have become larger (`most` rows at most)."""
        cursor = self._work.cursor
        cursor[C_FRAME], cursor[C_POS], cursor[C_LINE] = 0, -1, 0
        while True:
            result = kernel.parse_frames(buf, table, columns, self._texts.texts, self._work)
            if result == kernel_work.SYSTEM_LINE:
                columns = self._roomy(columns, most)
                self._system_line(buf, table, columns, dead)
            elif result == kernel_work.TEXTS_FULL:
                self._texts.grow()
            elif result == kernel_work.ROWS_FULL and columns.wide.shape[1] < most:
                columns = enlarged(self._pool, columns, int(cursor[C_ROW]), int(cursor[C_RAW]), most)
            elif result in (kernel_work.ROWS_FULL, kernel_work.TOO_MANY_LINES):
                raise ValueError("a frame holds more lines than it declares")
            else:
                self._collect(buf, table, dead)
                if result == kernel_work.DONE:
                    return columns

    def _roomy(self, columns: Columns, most: int, more: int = 1) -> Columns:
        """Columns with room for so many more rows."""
        row = int(self._work.cursor[C_ROW])
        if row + more <= columns.wide.shape[1]:
            return columns
        return enlarged(self._pool, columns, row, int(self._work.cursor[C_RAW]), most)

    def _system_line(self, buf: Bytes, table: Table, columns: Columns, dead: list[DeadLetter]) -> None:
        cursor = self._work.cursor
        start, end = int(cursor[C_POS]), int(cursor[kernel_work.C_LINE_END])
        frame = table[cursor[C_FRAME]]
        line = buf[start:end].tobytes()
        try:
            event, after = parse_line(line, int(frame[PORT_COLUMN]), self.context, int(frame[RECV_US]))
        except LineError as error:
            self._collect(buf, table, dead)
            dead.append(_letter(frame, int(cursor[C_LINE]), error.reason, line))
        else:
            self._put(columns, event, frame, int(frame[PORT_COLUMN]), int(cursor[C_LINE]))
            if after.layout != self._layout:
                self.context = after
        cursor[C_POS] = cursor[kernel_work.C_NEXT]
        cursor[C_LINE] += 1

    def _fact(self, buf: Bytes, frame: npt.NDArray[np.int64], columns: Columns, dead: list[DeadLetter]) -> None:
        raw = buf[frame[START] : frame[START] + frame[LENGTH]].tobytes()
        try:
            fact = decode_fact(raw)
            again = of_fact(fact) if fact.kind == REPLAY else None
            past = trade_of_fact(fact) if fact.kind == HISTORY else None
            if (again is None and past is None and fact.kind not in _FACT_KINDS) or fact.port not in PORT:
                raise ValueError(f"unknown kind {fact.kind!r} or port {fact.port!r}")
        except ValueError:
            dead.append(_letter(frame, 0, REASONS[BAD_FACT], raw))
            return
        if again is not None:
            self._replay(again, frame, columns, dead)
            return
        if past is not None:
            self._history.add(int(self._work.cursor[C_ROW]))
            self._put(columns, past.event(), frame, PORT[fact.port], 0)
            return
        if is_new_connection(fact):
            self.context = self.context.reconnected(fact.port)
        clock = self.context.clock1
        event: Event = {
            "kind": fact.kind,
            "symbol": fact.symbol,
            "trading_date": None if clock is None else clock // DAY_US,
            "raw": detail_bytes(fact),
        }
        self._put(columns, event, frame, PORT[fact.port], 0)

    def _replay(
        self, again: ReplayedLine, frame: npt.NDArray[np.int64], columns: Columns, dead: list[DeadLetter]
    ) -> None:
        """A line that was spooled anew: its events, or a dead letter that says what it repeats."""
        try:
            events = again.events()
        except LineError as error:
            letter = _letter(frame, 0, error.reason, again.line)
            dead.append(replace(letter, headers={**letter.headers, "port": again.port, "replay_of": again.of}))
            return
        for idx, event in enumerate(events):
            self._replays[int(self._work.cursor[C_ROW])] = again.of
            self._put(columns, {**event, "idx": idx}, frame, PORT[again.port], 0)

    def _with_origin(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """The rows, with `replay_of` and `source` filled in."""
        arrays = list(rows.columns)
        arrays[rows.schema.get_field_index("replay_of")] = pa.array(
            [self._replays.get(row) for row in range(len(rows))], pa.string()
        )
        codes = np.zeros(len(rows), dtype=np.int32)
        codes[list(self._history)] = _ENUM_CODES["source"]["H"]
        source = pa.array(enum_symbols(EVENTS)["source"], pa.string())
        arrays[rows.schema.get_field_index("source")] = pa.DictionaryArray.from_arrays(pa.array(codes), source)
        return pa.RecordBatch.from_arrays(arrays, schema=rows.schema)

    def _put(self, columns: Columns, event: Event, frame: npt.NDArray[np.int64], port: int, line: int) -> None:
        """Store one event that Python made."""
        cursor = self._work.cursor
        row, raw_at = int(cursor[C_ROW]), int(cursor[C_RAW])
        if row >= columns.wide.shape[1]:
            raise ValueError("a frame holds more lines than it declares")
        columns.wide[W_EPOCH, row] = frame[EPOCH]
        columns.wide[W_SEQ, row] = frame[SEQ] + line
        columns.wide[W_RECV, row] = frame[RECV_US]
        columns.narrow[N_INSTANCE, row] = frame[INSTANCE]
        columns.narrow[N_PORT, row] = port
        bit = 1 << (row & 7)
        for name, value in event.items():
            if value is None or name == "raw":
                continue
            if name == "summary":
                columns.bits[B_SUMMARY, row >> 3] |= bit if value else 0
            elif name in WIDE:
                columns.wide[WIDE.index(name), row] = value
                columns.bits[WIDE.index(name), row >> 3] |= bit
            else:
                code = value
                if name in COLUMN_OF:
                    code = self._texts.code(COLUMN_OF.index(name), value)
                elif name in _ENUM_CODES:
                    code = _ENUM_CODES[name][value]
                columns.narrow[NARROW.index(name), row] = code
                columns.bits[B_NARROW + NARROW.index(name), row >> 3] |= bit
        if event.get("raw") is not None:
            raw = np.frombuffer(event["raw"], dtype=np.uint8)
            columns.raw[raw_at : raw_at + len(raw)] = raw
            columns.bits[B_RAW, row >> 3] |= bit
            raw_at += len(raw)
        columns.raw_ends[row + 1] = raw_at
        cursor[C_ROW], cursor[C_RAW] = row + 1, raw_at

    def _collect(self, buf: Bytes, table: Table, dead: list[DeadLetter]) -> None:
        """Take over the lines the kernel refused."""
        for start, end, frame, line, code in self._work.errors[: self._work.cursor[C_ERRORS]].tolist():
            dead.append(_letter(table[frame], line, REASONS[code], buf[start:end].tobytes()))
        self._work.cursor[C_ERRORS] = 0


def is_new_connection(fact: Fact) -> bool:
    """True where the fact says that a connection was opened: layout and clocks start anew."""
    return fact.kind == "connected" and fact.detail.get("phase") == "open"


def _letter(frame: npt.NDArray[np.int64], line: int, reason: str, raw: bytes) -> DeadLetter:
    if reason == REASONS[OVERSIZE]:
        raw = raw[:OVERSIZE_KEPT]
    instance, epoch, seq = int(frame[INSTANCE]), int(frame[EPOCH]), int(frame[SEQ]) + line
    return DeadLetter(
        reason,
        raw,
        {"spool": [instance, epoch, seq]},
        f"spool/{instance}",
        EventId(instance, epoch, seq, 0),
        {"port": PORTS[int(frame[PORT_COLUMN])], "recv_time_us": str(int(frame[RECV_US]))},
    )


def line_at(buf: Bytes, table: Table, epoch: int, seq: int) -> bytes:
    """The bytes of one line, without its line end; empty where the frames do not hold it."""
    hits = np.flatnonzero((table[:, EPOCH] == epoch) & (table[:, SEQ] <= seq) & (seq < table[:, SEQ] + table[:, COUNT]))
    if not len(hits):
        return b""
    frame = table[hits[0]]
    lines = buf[frame[START] : frame[START] + frame[LENGTH]].tobytes().split(b"\n")
    return lines[seq - int(frame[SEQ])].removesuffix(b"\r")


def warm() -> None:
    """Compile every kernel of the parser by parsing one line of each kind."""
    lines = b"T,20240102 09:30:00\nQ,A,1.5,1,09:30:00.1,5,1,1.4,1,1.6,1,,,,,C,01,\nP,A,,,,,,,,,,,,,,,,\n"
    lines += b"C,A,I,,,1.0,1,1,,1,\n"
    depth = b"3,A,1,,B,1.0,1,1,2,09:30:00,2024-01-02,\n2,A,M,1.0,2.0,1,1,,,1,,T,T,F\nS,KEY,1\nF,A,\n"
    parser = LineParser()
    parser.parse([Frame(0, PORT["level1"], 1, 0, 4, 0, lines), Frame(0, PORT["level2"], 1, 4, 4, 0, depth)])
    parser._texts.grow()
