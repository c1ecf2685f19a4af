"""Ends gaps: finds, in parsed batches, the first line of each symbol that a gap waits for."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline_orchestrator.flow.spool_reader import SpoolChunk
from pipeline_orchestrator.ingestion.journal import CONNECTIONS, Journal
from pipeline_orchestrator.ingestion.line_parser import line_at
from pipeline_orchestrator.ingestion.reference_parser import latest_time
from pipeline_orchestrator.market.events import PORT

CLOCK_STEP_US = 999_999  # T has whole seconds: the feed's time lies less than one above it


class GapWatch:
    """`observe` is called with every parsed batch; it costs nothing while no gap is open."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def observe(self, rows: pa.RecordBatch, chunk: SpoolChunk) -> None:
        """Spool the end of each gap whose symbol has its first line after the new watch in these rows."""
        if not self.journal.ledger.gaps:
            return
        for connection in CONNECTIONS:
            waiting = self.journal.ledger.waiting(connection)
            if waiting:
                self._observe(connection, waiting, rows, chunk)

    def _observe(self, connection: str, waiting: set[str], rows: pa.RecordBatch, chunk: SpoolChunk) -> None:
        epoch = self.journal.spool.epoch
        seq, epochs = int64s_of(rows.column("seq")), int64s_of(rows.column("epoch"))
        symbols = rows.column("symbol")
        codes, ports = codes_of(symbols), codes_of(rows.column("port"))
        own = (ports == PORT[connection]) & (epochs == epoch)
        if not own.any() or symbols.null_count == len(rows):
            return
        valid = symbols.is_valid() if symbols.null_count else None
        watches = self.journal.ledger.watches.get(connection, {})
        names: list[str] = symbols.dictionary.to_pylist()
        found: list[tuple[int, str, npt.NDArray[np.int64]]] = []
        for code, name in enumerate(names):
            if name not in waiting or name not in watches:
                continue
            hits = np.flatnonzero(own & (codes == code) & (seq > watches[name]))
            if valid is not None and code == 0:
                hits = np.array([row for row in hits.tolist() if valid[row].as_py()], dtype=np.int64)
            if len(hits):
                found.append((int(seq[hits[0]]), name, hits))
        for _, name, hits in sorted(found, key=lambda each: each[0]):  # so that the latest line closes the gap for all
            self.journal.gap_ends(connection, name, self._place(connection, rows, hits, seq, chunk))

    def _place(
        self, connection: str, rows: pa.RecordBatch, hits: npt.NDArray[np.int64], seq: npt.NDArray[np.int64], chunk: Any
    ) -> dict[str, Any]:
        """Where the gap ends: the first line, and its event time, so that no missed line lies behind it.

        A Q or P also restates the newest trade, which can be younger than its quotes. A line without a time (F, n, q)
        and one row of a depth summary (whose other rows may be younger) cannot say when; then it is the second that
        the connection's clock shows, to its end.
        """
        epoch, row = self.journal.spool.epoch, int(hits[0])
        first, recv_us = int(seq[row]), int(rows.column("recv_time_us")[row].as_py())
        line = line_at(chunk.buf, chunk.table, epoch, first)
        own: int | None = rows.column("event_time_us")[row].as_py()
        times = [own, latest_time(line, PORT[connection], self.journal.context, recv_us)]
        if own is None or (connection == "level2" and rows.column("summary")[row].as_py()):
            clock = self.journal.clock_us(connection, recv_us)
            times.append(None if clock is None else clock + CLOCK_STEP_US)
        known = [time for time in times if time is not None]
        return {"epoch": epoch, "seq": first, "event_time_us": max(known, default=None)}


def int64s_of(array: pa.Array) -> npt.NDArray[np.int64]:
    """The values of an int64 column, without a copy."""
    return np.frombuffer(array.buffers()[1], dtype=np.int64)[array.offset : array.offset + len(array)]


def valid_of(array: pa.Array) -> npt.NDArray[np.bool_]:
    """Which entries of a column are not null."""
    bits = array.buffers()[0]
    return np.ones(len(array), dtype=np.bool_) if bits is None else _bits(bits, array)


def flags_of(array: pa.BooleanArray) -> npt.NDArray[np.bool_]:
    """The values of a boolean column."""
    return _bits(array.buffers()[1], array)


def _bits(bits: pa.Buffer, array: pa.Array) -> npt.NDArray[np.bool_]:
    end = array.offset + len(array)
    known = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little", count=end)[array.offset :]
    return np.asarray(known == 1, dtype=np.bool_)


def codes_of(array: pa.DictionaryArray) -> npt.NDArray[np.int32]:
    """The dictionary codes of a column (meaningless where it is null), without a copy."""
    indices = array.indices
    if indices.buffers()[1] is None:
        return np.zeros(len(array), dtype=np.int32)
    return np.frombuffer(indices.buffers()[1], dtype=np.int32)[indices.offset : indices.offset + len(array)]
