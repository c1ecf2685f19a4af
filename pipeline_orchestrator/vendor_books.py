"""Books after each row of a vendor's file: what `replay` adds for recordings whose lines name their source row.

A row of the recording makes any number of lines, also none. Its book is the one after its last line, or, without a
line, after the last line before. Every row counts, also one that changed nothing (a hidden execution).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline_orchestrator.market.events import BOOKS
from pipeline_orchestrator.parquet_files import ParquetFile
from pipeline_orchestrator.record import Output

Int64s = npt.NDArray[np.int64]
_SIDES = ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes")
SCHEMA = pa.schema(
    [
        pa.field("src_row", pa.int64(), nullable=False),
        pa.field("symbol", pa.string(), nullable=False),
        *(pa.field(name, pa.list_(pa.int64()), nullable=False) for name in _SIDES),
    ]
)


class VendorBooks:
    """One symbol's books by vendor row; `levels` a side, prices in 1e-6 units, best first.

    Lines are numbered as the events they become (`OfflineRun` numbers them in `src_offset`).
    """

    def __init__(self, symbol: str, levels: int) -> None:
        self.symbol, self._levels = symbol, levels
        self._book: Int64s = np.zeros((1, 4, levels), np.int64)
        self._depth: Int64s = np.zeros((1, 2), np.int64)
        self._src_row = 0  # newest row seen; its book is known once a later row comes
        self._rows: list[Int64s] = []
        self._books: list[Int64s] = []
        self._depths: list[Int64s] = []

    def take(self, numbers: Int64s, src_rows: Int64s, output: Output) -> None:
        """Events of this symbol in order: their numbers and vendor rows (0 = none), and what was made of them."""
        if not numbers.size:
            return
        at, books, depths = self._changes(output)
        books, depths = np.concatenate([self._book, books]), np.concatenate([self._depth, depths])
        rows = np.maximum.accumulate(np.concatenate([[self._src_row], src_rows]))
        later = np.flatnonzero(np.diff(rows))  # lines that are the first of a later row
        before = np.searchsorted(at, numbers[later], side="left")  # books as those lines found them
        self._keep(int(rows[-1]), books, depths, np.repeat(before, rows[later + 1] - rows[later]))
        newest = int(np.searchsorted(at, numbers[-1], side="right"))
        self._book, self._depth = books[newest : newest + 1], depths[newest : newest + 1]

    def _keep(self, until: int, books: Int64s, depths: Int64s, which: Int64s) -> None:
        """Rows from the newest one up to `until` are over, with these books."""
        rows = np.arange(self._src_row, until)
        known = rows > 0
        self._rows.append(rows[known])
        self._books.append(books[which[known]])
        self._depths.append(depths[which[known]])
        self._src_row = until

    def _changes(self, output: Output) -> tuple[Int64s, Int64s, Int64s]:
        """Number of the event, book and depth of each row of market.books of this symbol."""
        for out in output.outgoing:
            if out.topic == BOOKS:
                column = out.rows.column("symbol")
                names = column.dictionary.to_pylist()
                codes = np.frombuffer(column.indices.buffers()[1], np.int32)[: len(column)]
                mine = np.flatnonzero(codes == names.index(self.symbol)) if self.symbol in names else codes[:0]
                at = np.frombuffer(out.rows.column("src_offset").buffers()[1], np.int64)[mine]
                books: Int64s = np.zeros((mine.size, 4, self._levels), np.int64)
                depths: Int64s = np.zeros((mine.size, 2), np.int64)
                for line, name in enumerate(_SIDES):
                    lists = out.rows.column(name)
                    ends = np.frombuffer(lists.buffers()[1], np.int32)[: len(lists) + 1].astype(np.int64)
                    values = np.frombuffer(lists.values.buffers()[1], np.int64)
                    count = (ends[1:] - ends[:-1])[mine]
                    depths[:, line // 2] = count
                    for level in range(self._levels):
                        there = count > level
                        books[there, line, level] = values[ends[:-1][mine][there] + level]
                return at, books, depths
        return np.zeros(0, np.int64), np.zeros((0, 4, self._levels), np.int64), np.zeros((0, 2), np.int64)

    def finish(self, total: int) -> pa.Table:
        """All rows 1..total; rows after the last line have the last book."""
        self._keep(total + 1, self._book, self._depth, np.zeros(total + 1 - self._src_row, np.int64))
        rows, books, depths = (np.concatenate(parts) for parts in (self._rows, self._books, self._depths))
        arrays = [_numbers(rows), pa.array([self.symbol] * rows.size, pa.string())]
        for line in range(4):
            ends = np.concatenate([[0], np.cumsum(depths[:, line // 2])]).astype(np.int32)
            there = np.arange(self._levels) < depths[:, line // 2][:, None]
            values = _numbers(books[:, line, :][there])
            kind = pa.list_(pa.int64())
            arrays.append(pa.Array.from_buffers(kind, rows.size, [None, pa.py_buffer(ends)], children=[values]))
        return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _numbers(values: Int64s) -> pa.Array:
    return pa.Array.from_buffers(pa.int64(), values.size, [None, pa.py_buffer(np.ascontiguousarray(values))])


def write_vendor_books(path: Path, tables: list[pa.Table]) -> int:
    """Write the books of all symbols, one after the other; how many rows."""
    file = ParquetFile(path, SCHEMA)
    for table in tables:
        for batch in table.to_batches():
            file.write(batch)
    return file.close()
