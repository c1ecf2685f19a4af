"""Columns of market.events as numpy views for the kernels, without copies and without pandas.

Missing values are told by Arrow's validity bits; an empty bit array means that every row has a value. All views are
read-only and aligned, whatever Arrow gave: a kernel is compiled per kind of array, once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numba import njit

from pipeline_orchestrator.market.calendar import NO_DAY, Calendar
from pipeline_orchestrator.market.events import EVENTS, KIND, arrow_schema
from pipeline_orchestrator.processing.layout import NIL, Array, Number

_SCHEMA = arrow_schema(EVENTS)
_NAMES = tuple(_SCHEMA.names)
_WIDE, _CODE = np.dtype(np.int64), np.dtype(np.int32)
_READ = tuple(
    (name, at)
    for at, name in enumerate(_NAMES)
    if name not in {"total_volume", "aggressor", "level", "order_count", "precision"}
)


def _fixed(array: Array) -> Array:
    """A read-only, aligned view."""
    view = array.view() if array.flags.aligned else array.copy()
    view.flags.writeable = False
    return view


_NO_BITS = _fixed(np.zeros(0, np.uint8))
NEVER_CLOSED = _fixed(np.zeros(0, np.int64))


class Column(NamedTuple):
    """Values (meaningless where null) and validity bits."""

    values: Array
    bits: Array  # uint8; empty = all valid


class Rows(NamedTuple):
    """One batch of events. `slot` and `link` are filled by the kernel that finds them."""

    instance: Array
    epoch: Array
    seq: Array
    idx: Array
    port: Array
    kind: Array
    symbol: Column
    date: Column
    time: Column
    recv: Array
    price: Column
    size: Column
    side: Column
    basis: Column
    bid: Column
    bid_size: Column
    ask: Column
    ask_size: Column
    summary: Array  # bits
    source: Array
    replay_bits: Array
    raw_offsets: Array
    raw: Array
    raw_bits: Array
    order_id: Column
    priority: Column
    mmid: Column
    mmid_keys: Array  # int64: key of each code of mmid
    tick_id: Column
    center: Column
    conditions: Column
    conditions_keys: Array  # int64: key of each code of conditions
    correction: Column
    closed: Array  # int64: since when the market is closed, per row (NIL = it is not); empty = it never is
    offset: Array  # of the record in its partition
    slot: Array
    link: Array


@njit(error_model="numpy", forceinline=True)
def present(bits: Array, i: int) -> bool:
    """True where row i has a value."""
    return bits.size == 0 or (bits[i >> 3] >> (i & 7)) & 1 == 1


@njit(error_model="numpy", forceinline=True)
def value_or_nil(column: Column, i: int) -> Number:
    """The value of row i, NIL where it has none."""
    if present(column.bits, i):
        return column.values[i]
    return NIL


def value_at(column: Column, i: int) -> int:
    """The same for Python."""
    known = column.bits.size == 0 or column.bits[i >> 3] >> (i & 7) & 1
    return int(column.values[i]) if known else NIL


def rows_of(batch: pa.RecordBatch, offsets: Array, mmid_keys: Array, conditions_keys: Array) -> Rows:
    """The columns of a batch with arrow_schema(EVENTS). Raises ValueError for another schema.

    `mmid_keys` = orders.mmid_key of each entry in the dictionary of mmid, one entry at least; `conditions_keys`
    likewise.
    """
    if not batch.schema.equals(_SCHEMA) and tuple(batch.schema.names) != _NAMES:
        raise ValueError("processing reads rows of market.events")
    n = batch.num_rows
    # Only what is read: taking a column out of a batch costs more than looking at its buffers.
    column = {name: batch.column(at) for name, at in _READ}
    raw = column["raw"]
    buffers = raw.buffers()
    return Rows(
        instance=_values(column["instance"], _CODE),
        epoch=_values(column["epoch"], _WIDE),
        seq=_values(column["seq"], _WIDE),
        idx=_values(column["idx"], _CODE),
        port=_values(column["port"], _CODE),
        kind=_values(column["kind"], _CODE),
        symbol=_column(column["symbol"], _CODE),
        date=_column(column["trading_date"], _CODE),
        time=_column(column["event_time_us"], _WIDE),
        recv=_values(column["recv_time_us"], _WIDE),
        price=_column(column["price"], _WIDE),
        size=_column(column["size"], _WIDE),
        side=_column(column["side"], _CODE),
        basis=_column(column["basis"], _CODE),
        bid=_column(column["bid"], _WIDE),
        bid_size=_column(column["bid_size"], _WIDE),
        ask=_column(column["ask"], _WIDE),
        ask_size=_column(column["ask_size"], _WIDE),
        summary=_bits(column["summary"].buffers()[1], column["summary"].offset, n),
        source=_values(column["source"], _CODE),
        replay_bits=_validity(column["replay_of"]),
        raw_offsets=_view(buffers[1], raw.offset, n + 1, _CODE),
        raw=_NO_BITS if buffers[2] is None else _bytes(buffers[2], 0),
        raw_bits=_validity(raw),
        order_id=_column(column["order_id"], _WIDE),
        priority=_column(column["priority"], _WIDE),
        mmid=_column(column["mmid"], _CODE),
        mmid_keys=_fixed(mmid_keys),
        tick_id=_column(column["tick_id"], _WIDE),
        center=_column(column["market_center"], _CODE),
        conditions=_column(column["conditions"], _CODE),
        conditions_keys=_fixed(conditions_keys),
        correction=_column(column["correction"], _CODE),
        closed=NEVER_CLOSED,
        offset=_fixed(offsets),
        slot=np.full(n, -1, np.int32),
        link=np.full(n, -1, np.int32),
    )


def with_trading_dates(rows: Rows, calendar: Calendar) -> Rows:
    """The rows; where a market event has a time but no trading date, the calendar's date of that time is filled in."""
    n = rows.kind.size
    if rows.date.bits.size == 0 or n == 0:
        return rows
    dated = _unpacked(rows.date.bits, n)
    missing = ~dated & (rows.kind >= KIND["trade"]) & (rows.kind <= KIND["correction"])
    if rows.time.bits.size:
        missing &= _unpacked(rows.time.bits, n)
    at = np.flatnonzero(missing)
    if at.size == 0:
        return rows
    days = calendar.trading_dates(rows.time.values[at])
    values = rows.date.values.copy()
    values[at] = days
    dated[at] = days != NO_DAY
    return rows._replace(date=Column(_fixed(values), _fixed(np.packbits(dated, bitorder="little"))))


def _unpacked(bits: Array, n: int) -> Array:
    return np.unpackbits(bits, bitorder="little", count=n).astype(np.bool_)


def _values(array: pa.Array, dtype: np.dtype[Any]) -> Array:
    return _view(array.buffers()[1], array.offset, len(array), dtype)


def _column(array: pa.Array, dtype: np.dtype[Any]) -> Column:
    buffers, offset, n = array.buffers(), array.offset, len(array)
    return Column(_view(buffers[1], offset, n, dtype), _bits(buffers[0], offset, n))


def _view(buffer: pa.Buffer | None, offset: int, n: int, dtype: np.dtype[Any]) -> Array:
    if buffer is None or n == 0:
        return _fixed(np.zeros(n, dtype))
    values: Array = np.frombuffer(buffer, dtype, n, offset * dtype.itemsize)
    if buffer.address % dtype.itemsize:
        return _fixed(values)
    if buffer.is_mutable:
        values.flags.writeable = False
    return values


def _validity(array: pa.Array) -> Array:
    return _bits(array.buffers()[0], array.offset, len(array))


def _bits(buffer: pa.Buffer | None, offset: int, n: int) -> Array:
    """Bits from bit 0 on; a slice that does not begin at a byte is copied."""
    if buffer is None:
        return _NO_BITS
    if offset % 8 == 0:
        return _bytes(buffer, offset // 8)
    bits = np.unpackbits(np.frombuffer(buffer, np.uint8), bitorder="little", count=offset + n)[offset:]
    return _fixed(np.packbits(bits, bitorder="little"))


def _bytes(buffer: pa.Buffer, first: int) -> Array:
    values: Array = np.frombuffer(buffer, np.uint8, -1, first)
    if buffer.is_mutable:
        values.flags.writeable = False
    return values
