"""Whole lines as a table: where each begins and ends in its bytes, and the symbol it is about. Over whole batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np

from infrastructure.simulator.market import Int64s
from infrastructure.simulator.render import Bytes

START, END, SYM = 0, 1, 2  # columns; SYM -1 = about no symbol, or one that the table does not know
COLUMNS: Final = 3
WIDTH: Final = 32  # of a symbol; longer ones count as none
_NO_SYMBOL: Final = np.frombuffer(b"STENOM", dtype=np.uint8)  # lines whose second field is something else
_WATCHED: Final = np.frombuffer(b"QPFR023456789", dtype=np.uint8)  # lines that only a watched symbol gives


def line_table(data: Bytes, index: Mapping[bytes, int]) -> Int64s:
    """A row per line of `data`, which ends with a line end; `index` gives numbers to symbols in upper case."""
    ends = np.flatnonzero(data == 10) + 1
    table: Int64s = np.full((ends.size, COLUMNS), -1, dtype=np.int64)
    table[:, END] = ends
    table[1:, START], table[:1, START] = ends[:-1], 0
    rows, names = _symbols(data, table, _NO_SYMBOL, listed=False)
    if rows.size:
        unique, inverse = np.unique(names, return_inverse=True)
        numbers = np.array([index.get(name.upper(), -1) for name in unique.tolist()], dtype=np.int64)
        table[rows, SYM] = numbers[inverse]
    return table


def symbols_in(data: Bytes) -> Iterable[bytes]:
    """The symbols, upper case, that lines of `data` show to have been watched."""
    ends = np.flatnonzero(data == 10) + 1
    table: Int64s = np.zeros((ends.size, COLUMNS), dtype=np.int64)
    table[:, END] = ends
    table[1:, START] = ends[:-1]
    _, names = _symbols(data, table, _WATCHED, listed=True)
    return {name.upper() for name in np.unique(names).tolist()}


def _symbols(
    data: Bytes, table: Int64s, letters: Bytes, *, listed: bool
) -> tuple[Int64s, np.ndarray[tuple[int], np.dtype[np.bytes_]]]:
    """Rows whose kind is listed (or is not) and whose second field can be a symbol; and these symbols."""
    starts, ends = table[:, START], table[:, END]
    kind, second = data[starts], data[np.minimum(starts + 1, data.size - 1)]
    wanted = (ends - starts > 3) & (second == 44)
    wanted &= np.isin(kind, letters) == listed
    rows = np.flatnonzero(wanted)
    begin = starts[rows] + 2
    commas = np.append(np.flatnonzero(data == 44), data.size)
    end = np.minimum(commas[np.searchsorted(commas, begin)], ends[rows] - 1)
    end -= (data[end - 1] == 13) & (end == ends[rows] - 1)  # a CR before the line end is no part of it
    known = (end > begin) & (end - begin <= WIDTH - 2)
    rows, begin, end = rows[known], begin[known], end[known]
    at = begin[:, None] + np.arange(WIDTH)
    texts = np.where(at < end[:, None], data[np.minimum(at, data.size - 1)], 0).astype(np.uint8)
    return rows, np.ascontiguousarray(texts).view(f"S{WIDTH}").reshape(-1)
