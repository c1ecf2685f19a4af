"""Answers of history to Arrow batches, chunk by chunk; how an answer is cut at line ends changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline_orchestrator.lookup.row_fields import REASONS
from pipeline_orchestrator.lookup.row_kernel import S_ABOVE, S_KEY, S_NEWEST_FIRST, STATE_SIZE, parse_rows
from pipeline_orchestrator.lookup.row_layouts import CODES, LETTER, layout

_FAR = 1 << 62

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A line of an answer that cannot be read: its number within the answer from 0, its bytes, the reason."""

    number: int
    text: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """What became of some lines: each is a row of `rows` or stands in `refused`."""

    rows: pa.RecordBatch
    refused: tuple[RefusedRow, ...] = ()


class RowParser:
    """Reads the rows of one answer of `ticks`, `intervals` or `days`.

    `request_id` is cut off by exact match (empty: rows carry none). `newest_first` and `bound_us` (the begin that was
    asked for, with the newest first the end) settle the hour that November repeats; see row_kernel.
    """

    def __init__(
        self,
        rows: str,
        protocol: str,
        *,
        request_id: bytes = b"",
        newest_first: bool = False,
        bound_us: int | None = None,
    ) -> None:
        self._layout = layout(rows, protocol)
        self._prefix = _bytes(request_id + b"," if request_id else b"")
        self._tag = _bytes(self._layout.tag)
        self._state = np.zeros(STATE_SIZE, dtype=np.int64)
        self._state[S_NEWEST_FIRST] = newest_first
        self._state[S_ABOVE] = bound_us if bound_us is not None else _FAR if newest_first else -_FAR
        self._state[S_KEY] = -1
        self._lines = 0

    @property
    def schema(self) -> pa.Schema:
        """The schema of every batch."""
        return self._layout.schema

    def parse(self, data: bytes) -> Parsed:
        """Rows of whole lines, LF or CRLF; the last may end with the data. End and error lines are not for here."""
        buf = np.frombuffer(data, dtype=np.uint8)
        most = int(np.count_nonzero(buf == 10)) + 1
        columns = len(self._layout.schema)
        wide = np.empty((columns, most), dtype=np.int64)
        valid = np.empty((columns, most), dtype=np.uint8)
        text, ends = np.empty(buf.size, dtype=np.uint8), np.empty(most + 1, dtype=np.int32)
        refused = np.empty((most, 4), dtype=np.int64)
        rows, wrong, lines = parse_rows(
            buf, buf.size, self._prefix, self._tag, self._layout.plan, self._state, wide, valid, text, ends, refused
        )
        bad = tuple(
            RefusedRow(self._lines + number, data[begin:end], REASONS[reason])
            for number, begin, end, reason in refused[:wrong].tolist()
        )
        self._lines += lines
        arrays = [
            _column(self._layout.schema.field(at).type, kind, rows, wide[at], valid[at], text, ends)
            for at, kind in enumerate(self._layout.kinds)
        ]
        return Parsed(pa.RecordBatch.from_arrays(arrays, schema=self._layout.schema), bad)


def _bytes(text: bytes) -> Array:
    return np.frombuffer(bytearray(text), dtype=np.uint8)


def _column(kind: pa.DataType, what: int, rows: int, wide: Array, valid: Array, text: Array, ends: Array) -> pa.Array:
    known = int(np.count_nonzero(valid[:rows]))
    bitmap = None if known == rows else pa.py_buffer(np.packbits(valid[:rows], bitorder="little"))
    if what == CODES:
        buffers = [bitmap, pa.py_buffer(ends[: rows + 1]), pa.py_buffer(text)]
    elif what == LETTER:
        letters = np.zeros(rows + 1, dtype=np.int32)
        np.cumsum(valid[:rows], out=letters[1:])
        present = wide[:rows][valid[:rows] != 0].astype(np.uint8)
        buffers = [bitmap, pa.py_buffer(letters), pa.py_buffer(present)]
    elif kind.bit_width == 64:
        buffers = [bitmap, pa.py_buffer(wide[:rows])]
    else:
        buffers = [bitmap, pa.py_buffer(wide[:rows].astype(np.int32))]
    return pa.Array.from_buffers(kind, rows, buffers, rows - known)
