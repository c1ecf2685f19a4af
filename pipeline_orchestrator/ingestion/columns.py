"""Columns of `market.events` as one block of memory that kernels fill and Arrow looks at without a copy.

64-bit columns, 32-bit columns, one validity (or value) bitmap each for what can be null, and the bytes of `raw`. The
block is zeroed before use, so null slots always hold 0.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from pipeline_orchestrator.flow.blocks import BlockPool
from pipeline_orchestrator.ingestion.intern import COLUMN_OF, InternTables
from pipeline_orchestrator.market.events import EVENTS, arrow_schema, enum_symbols

WIDE: Final = (
    "epoch",
    "seq",
    "recv_time_us",
    "event_time_us",
    "price",
    "size",
    "bid",
    "bid_size",
    "ask",
    "ask_size",
    "tick_id",
    "total_volume",
    "order_id",
    "priority",
)
NARROW: Final = (
    "instance",
    "port",
    "kind",
    "symbol",
    "trading_date",
    "side",
    "basis",
    "market_center",
    "conditions",
    "aggressor",
    "mmid",
    "order_count",
    "precision",
    "correction",
    "idx",
)
W_EPOCH, W_SEQ, W_RECV, W_TIME, W_PRICE, W_SIZE, W_BID, W_BID_SIZE, W_ASK, W_ASK_SIZE = range(10)
W_TICK_ID, W_VOLUME, W_ORDER_ID, W_PRIORITY = range(10, 14)
N_INSTANCE, N_PORT, N_KIND, N_SYMBOL, N_DATE, N_SIDE, N_BASIS, N_CENTER, N_CONDITIONS = range(9)
N_AGGRESSOR, N_MMID, N_ORDER_COUNT, N_PRECISION, N_CORRECTION, N_IDX = range(9, 15)

# Bitmaps: wide columns at their index, narrow ones behind them, then the two that have no numbers.
B_NARROW: Final = len(WIDE)
B_SUMMARY: Final = len(WIDE) + len(NARROW)
B_RAW: Final = B_SUMMARY + 1
BITMAPS: Final = B_RAW + 1

_SHARED_ROWS: Final = 1 << 15
_FEW_ROWS: Final = 64


class Columns(NamedTuple):
    """Views into one block: `wide[c, row]`, `narrow[c, row]`, `bits[b, row >> 3]`, end of each row's raw bytes, raw."""

    wide: npt.NDArray[np.int64]
    narrow: npt.NDArray[np.int32]
    bits: npt.NDArray[np.uint8]
    raw_ends: npt.NDArray[np.int32]
    raw: npt.NDArray[np.uint8]


@njit(cache=True, error_model="numpy")
def count_bits(bits: Any, rows: int, counts: Any) -> None:  # Any: arrays inside kernels
    """Set bits of the first `rows` of each bitmap."""
    for b in range(bits.shape[0]):
        total = 0
        for i in range((rows + 7) // 8):
            byte = int(bits[b, i])
            byte = byte - ((byte >> 1) & 0x55)
            byte = (byte & 0x33) + ((byte >> 2) & 0x33)
            total += (byte + (byte >> 4)) & 0x0F
        counts[b] = total


def make_columns(pool: BlockPool, rows: int, raw_bytes: int) -> Columns:
    """Zeroed columns for up to `rows` rows and `raw_bytes` bytes of raw."""
    rows = (rows + 63) // 64 * 64
    sizes = (len(WIDE) * rows * 8, len(NARROW) * rows * 4, BITMAPS * rows // 8, (rows + 16) * 4, raw_bytes)
    ends = np.cumsum(sizes)
    block = pool.take(int(ends[-1]))
    block[: ends[3]] = 0
    return Columns(
        block[: ends[0]].view(np.int64).reshape(len(WIDE), rows),
        block[ends[0] : ends[1]].view(np.int32).reshape(len(NARROW), rows),
        block[ends[1] : ends[2]].reshape(BITMAPS, rows // 8),
        block[ends[2] : ends[3]].view(np.int32),
        block[ends[3] : ends[4]],
    )


def enlarged(pool: BlockPool, columns: Columns, rows: int, raw_bytes: int, most: int) -> Columns:
    """The first `rows` rows and `raw_bytes` bytes of raw in columns with room for `most` rows."""
    larger = make_columns(pool, most, len(columns.raw))
    larger.wide[:, :rows], larger.narrow[:, :rows] = columns.wide[:, :rows], columns.narrow[:, :rows]
    whole = (rows + 7) // 8
    larger.bits[:, :whole] = columns.bits[:, :whole]
    larger.raw_ends[: rows + 1], larger.raw[:raw_bytes] = columns.raw_ends[: rows + 1], columns.raw[:raw_bytes]
    return larger


@cache
def _enum(column: str) -> pa.Array:
    return pa.array(enum_symbols(EVENTS)[column], pa.string())


@cache
def _constant(column: str, rows: int) -> pa.Array:
    """A column that is the same in every row: nulls, or zeros where it cannot be null."""
    field = arrow_schema(EVENTS).field(column)
    if field.nullable:
        return pa.nulls(rows, field.type)
    zeros = pa.py_buffer(np.zeros(rows, dtype=np.int32))
    if pa.types.is_dictionary(field.type):
        codes = pa.Array.from_buffers(pa.int32(), rows, [None, zeros], 0)
        return pa.DictionaryArray.from_arrays(codes, _enum(column), safe=False)
    return pa.Array.from_buffers(field.type, rows, [None, zeros], 0)


@lru_cache(maxsize=4096)
def _few_same(column: str, rows: int) -> pa.Array:
    return _constant(column, _SHARED_ROWS).slice(0, rows)


def _same(column: str, rows: int) -> pa.Array:
    if rows <= _FEW_ROWS:
        return _few_same(column, rows)
    size = _SHARED_ROWS
    while size < rows:
        size *= 2
    return _constant(column, size).slice(0, rows)


class _Place(NamedTuple):
    """Where a column of the schema lies in the block; read once, because a batch of six rows costs what this costs."""

    name: str
    kind: pa.DataType
    nullable: bool
    wide: int  # line in Columns.wide, -1: none
    narrow: int
    bitmap: int
    interned: int  # table of its texts, -1: none
    symbols: pa.Array | None  # of an enum


@cache
def _places() -> tuple[_Place, ...]:
    places = []
    for field in arrow_schema(EVENTS):
        name = field.name
        wide = WIDE.index(name) if name in WIDE else -1
        narrow = NARROW.index(name) if name in NARROW else -1
        interned = COLUMN_OF.index(name) if name in COLUMN_OF else -1
        symbols = _enum(name) if pa.types.is_dictionary(field.type) and interned < 0 else None
        bitmap = B_NARROW + narrow if wide < 0 else wide
        places.append(_Place(name, field.type, field.nullable, wide, narrow, bitmap, interned, symbols))
    return tuple(places)


def to_record_batch(columns: Columns, rows: int, texts: InternTables) -> pa.RecordBatch:
    """The first `rows` rows as arrow_schema(EVENTS); buffers are views of the block, so it stays taken while alive."""
    counted = np.zeros(BITMAPS, dtype=np.int64)
    count_bits(columns.bits, rows, counted)
    counts = counted.tolist()
    arrays = [_column(place, columns, rows, counts, texts) for place in _places()]
    return pa.RecordBatch.from_arrays(arrays, schema=arrow_schema(EVENTS))


def _column(place: _Place, columns: Columns, rows: int, counts: list[int], texts: InternTables) -> pa.Array:
    if place.wide < 0 and place.narrow < 0:
        if place.name == "summary":
            return pa.Array.from_buffers(pa.bool_(), rows, [None, pa.py_buffer(columns.bits[B_SUMMARY])], 0)
        return _raw(columns, rows, counts[B_RAW]) if place.name == "raw" else _same(place.name, rows)
    valid, nulls = None, 0
    if place.nullable:
        nulls = rows - counts[place.bitmap]
        if nulls == rows:
            return _same(place.name, rows)
        if nulls:
            valid = pa.py_buffer(columns.bits[place.bitmap])
    values = pa.py_buffer(columns.wide[place.wide] if place.narrow < 0 else columns.narrow[place.narrow])
    if place.interned < 0 and place.symbols is None:
        return pa.Array.from_buffers(place.kind, rows, [valid, values], nulls)
    codes = pa.Array.from_buffers(pa.int32(), rows, [valid, values], nulls)
    values_of = place.symbols if place.interned < 0 else texts.dictionary(place.interned)
    return pa.DictionaryArray.from_arrays(codes, values_of, safe=False)


def _raw(columns: Columns, rows: int, count: int) -> pa.Array:
    if count == 0:
        return _same("raw", rows)
    buffers = [
        None if count == rows else pa.py_buffer(columns.bits[B_RAW]),
        pa.py_buffer(columns.raw_ends[: rows + 1]),
        pa.py_buffer(columns.raw),
    ]
    return pa.Array.from_buffers(pa.binary(), rows, buffers, rows - count)
