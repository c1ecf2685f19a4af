"""Buffers that the kernels fill, and the record batches made of them without a copy.

Memory comes from Arrow's pool, which keeps and reuses pages: fresh pages cost more than the work done on them.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pyarrow as pa

from pipeline_orchestrator.market.calendar import SESSION_STATES, Calendar
from pipeline_orchestrator.market.events import BARS, BOOKS, FEATURES, KINDS, arrow_schema
from pipeline_orchestrator.processing import emit
from pipeline_orchestrator.processing.layout import INTERVALS, SOURCES, STATES, Array
from pipeline_orchestrator.processing.locate import renumber
from pipeline_orchestrator.record import Outgoing

_TEXTS = {
    name: pa.array(values, pa.string())
    for name, values in {
        "kind": KINDS,
        "book_state": STATES,
        "book_source": SOURCES,
        "interval": INTERVALS,
        "null_reason": emit.REASONS,
        "session": SESSION_STATES,
    }.items()
}

_CODES = pa.int32()

# Column -> (block, line, line of its validity or None). Lines as emit.py numbers them.
_Plan = dict[str, tuple[str, int, int | None]]
_COMMON: _Plan = {
    "src_instance": ("i32", emit.INSTANCE, None),
    "src_epoch": ("i64", emit.EPOCH, None),
    "src_seq": ("i64", emit.SEQ, None),
    "src_idx": ("i32", emit.IDX, None),
    "src_partition": ("i32", emit.PART, None),
    "src_offset": ("i64", emit.OFFSET, None),
    "out": ("i32", emit.OUT, None),
    "trading_date": ("i32", emit.DATE, emit.HAS_DATE),
    "event_time_us": ("i64", emit.TIME, emit.HAS_TIME),
    "recv_time_us": ("i64", emit.RECV, None),
    "gap_flag": ("bits", emit.GAP, None),
}
_FEATURES: _Plan = _COMMON | {
    "kind": ("i32", emit.KIND, None),
    "best_bid": ("i64", emit.BEST_BID, emit.HAS_BID),
    "best_bid_size": ("i64", emit.BEST_BID_SIZE, emit.HAS_BID_SIZE),
    "best_ask": ("i64", emit.BEST_ASK, emit.HAS_ASK),
    "best_ask_size": ("i64", emit.BEST_ASK_SIZE, emit.HAS_ASK_SIZE),
    "spread": ("i64", emit.SPREAD, emit.HAS_MID),
    "mid": ("i64", emit.MID, emit.HAS_MID),
    "microprice": ("i64", emit.MICRO, emit.HAS_MICRO),
    "imbalance": ("f64", emit.IMBALANCE, emit.HAS_MICRO),
    "order_flow_imbalance": ("i64", emit.OFI, emit.HAS_OFI),
    "vwap": ("i64", emit.VWAP, emit.HAS_VWAP),
    "volatility": ("f64", emit.VOLATILITY, emit.HAS_VOLATILITY),
    "last_price": ("i64", emit.LAST, emit.HAS_LAST),
    "last_size": ("i64", emit.LAST_SIZE, emit.HAS_LAST),
    "book_state": ("i32", emit.STATE, None),
    "book_source": ("i32", emit.SOURCE, None),
    "null_reason": ("i32", emit.REASON, emit.HAS_REASON),
}
_BARS: _Plan = _COMMON | {
    "event_time_us": ("i64", emit.TIME, None),
    "interval": ("i32", emit.INTERVAL, None),
    "open_time_us": ("i64", emit.OPEN_TIME, None),
    "open": ("i64", emit.OPEN, emit.HAS_PRICES),
    "high": ("i64", emit.HIGH, emit.HAS_PRICES),
    "low": ("i64", emit.LOW, emit.HAS_PRICES),
    "close": ("i64", emit.CLOSE, emit.HAS_PRICES),
    "volume": ("i64", emit.VOLUME, None),
    "vwap": ("i64", emit.BAR_VWAP, emit.HAS_BAR_VWAP),
    "trade_count": ("i64", emit.COUNT, None),
    "odd_lot_volume": ("i64", emit.ODD_VOLUME, None),
    "odd_lot_count": ("i64", emit.ODD_COUNT, None),
    "revision": ("i32", emit.REVISION, None),
}
_BOOKS: _Plan = _COMMON | {"book_state": ("i32", emit.BOOK_STATE, None)}
_LISTS = {"bid_prices": (0, 0), "bid_sizes": (0, 1), "ask_prices": (1, 2), "ask_sizes": (1, 3)}  # ends, values


class Block:
    """Lines of one element type (`i8`, `i4`, `f8`, `u1`) in one Arrow buffer; `array` is the kernels' view of it."""

    def __init__(self, lines: int, room: int, dtype: str) -> None:
        self.item = int(dtype[1])
        self.room = max(1, room)
        self.stride = self.room * self.item
        self.buffer = pa.allocate_buffer(lines * self.stride)
        self.array: Array = np.frombuffer(self.buffer, dtype).reshape(lines, self.room)

    def line(self, number: int, rows: int) -> pa.Buffer:
        """The first `rows` elements of a line."""
        return self.buffer.slice(number * self.stride, rows * self.item)


def _bits(lines: int, room: int) -> Block:
    block = Block(lines, (max(1, room) + 7) // 8, "u1")
    block.array[:] = 0
    return block


class FeatureRoom:
    """Room for rows of market.features."""

    def __init__(self, room: int) -> None:
        self.blocks = {
            "i64": Block(emit.FEATURE_I64, room, "i8"),
            "i32": Block(emit.FEATURE_I32, room, "i4"),
            "f64": Block(emit.FEATURE_F64, room, "f8"),
            "bits": _bits(emit.FEATURE_BITS, room),
        }
        self.view = emit.Features(*(block.array for block in self.blocks.values()))


class BarRoom:
    """Room for rows of market.bars."""

    def __init__(self, room: int) -> None:
        self.blocks = {
            "i64": Block(emit.BAR_I64, room, "i8"),
            "i32": Block(emit.BAR_I32, room, "i4"),
            "bits": _bits(emit.BAR_BITS, room),
        }
        self.view = emit.Bars(*(block.array for block in self.blocks.values()))

    def larger(self, used: int, room: int) -> BarRoom:
        """The same rows in more room."""
        new = BarRoom(room)
        _move(self.blocks, new.blocks, used)
        return new


class BookRoom:
    """Room for rows of market.books of at most `levels` a side."""

    def __init__(self, room: int, levels: int) -> None:
        self.levels = levels
        self.blocks = {
            "i64": Block(emit.BOOK_I64, room, "i8"),
            "i32": Block(emit.BOOK_I32, room, "i4"),
            "bits": _bits(emit.BOOK_BITS, room),
        }
        self.ends = Block(2, room + 1, "i4")
        self.ends.array[:, 0] = 0
        self.values = Block(4, room * levels, "i8")
        lines = (block.array for block in (*self.blocks.values(), self.ends, self.values))
        self.view = emit.Books(*lines)

    def larger(self, used: int, room: int) -> BookRoom:
        """The same rows in more room."""
        new = BookRoom(room, self.levels)
        _move(self.blocks, new.blocks, used)
        new.ends.array[:, : used + 1] = self.ends.array[:, : used + 1]
        for line in range(4):
            n = int(self.ends.array[line // 2, used])
            new.values.array[line, :n] = self.values.array[line, :n]
        return new


def _move(old: dict[str, Block], new: dict[str, Block], used: int) -> None:
    for name, block in old.items():
        n = (used + 7) // 8 if name == "bits" else used
        new[name].array[:, :n] = block.array[:, :n]


class Symbols:
    """Dictionaries of symbols for small batches: only those that occur, so that a row does not drag all along."""

    def __init__(self) -> None:
        self._table: Array = np.full(16, -1, np.int32)

    def column(self, sids: Array, names: list[str]) -> pa.Array:
        """Symbol column of rows with these symbol numbers."""
        if self._table.size < len(names):
            self._table = np.full(2 * len(names), -1, np.int32)
        rows = sids.size
        buffer = pa.allocate_buffer(4 * rows)
        codes: Array = np.frombuffer(buffer, np.int32)
        used: Array = np.zeros(min(rows, len(names)), np.int32)
        n = renumber(sids, self._table, codes, used)
        values = pa.array([names[sid] for sid in used[:n].tolist()], pa.string())
        return pa.DictionaryArray.from_arrays(pa.Array.from_buffers(_CODES, rows, [None, buffer]), values)


def features_out(room: FeatureRoom, rows: int, names: list[str], symbols: Symbols) -> Outgoing:
    """The first rows as a batch of market.features."""
    return _outgoing(FEATURES, _FEATURES, room.blocks, rows, names, symbols, {})


def bars_out(room: BarRoom, rows: int, names: list[str], symbols: Symbols, calendar: Calendar) -> Outgoing:
    """The first rows as a batch of market.bars; the calendar says which of them lie in a session."""
    states = calendar.session_states(room.view.i64[emit.OPEN_TIME, :rows])
    codes = pa.Array.from_buffers(_CODES, rows, [None, pa.py_buffer(states)])
    session = pa.DictionaryArray.from_arrays(codes, _TEXTS["session"])
    final = pa.Array.from_buffers(pa.bool_(), rows, [None, pa.py_buffer(b"\xff" * ((rows + 7) // 8))])
    return _outgoing(BARS, _BARS, room.blocks, rows, names, symbols, {"final": final, "session": session})


def books_out(room: BookRoom, rows: int, names: list[str], symbols: Symbols) -> Outgoing:
    """The first rows as a batch of market.books."""
    lists = {}
    for name, (side, line) in _LISTS.items():
        n = int(room.ends.array[side, rows])
        values = pa.Array.from_buffers(pa.int64(), n, [None, room.values.line(line, n)])
        kind = arrow_schema(BOOKS).field(name).type
        lists[name] = pa.Array.from_buffers(kind, rows, [None, room.ends.line(side, rows + 1)], children=[values])
    return _outgoing(BOOKS, _BOOKS, room.blocks, rows, names, symbols, lists)


def _outgoing(
    topic: str,
    plan: _Plan,
    blocks: dict[str, Block],
    rows: int,
    names: list[str],
    symbols: Symbols,
    ready: dict[str, pa.Array],
) -> Outgoing:
    sids = blocks["i32"].array[emit.SID, :rows]
    ready = ready | {"symbol": symbols.column(sids, names)}
    whole, columns = _columns_of(topic)
    bitmap_bytes = (rows + 7) // 8
    arrays = []
    for name, kind, dictionary in columns:
        made = ready.get(name)
        if made is None:
            made = _column(name, kind, dictionary, plan[name], blocks, rows, bitmap_bytes)
        arrays.append(made)
    # A struct's children become a batch in one step; `from_arrays` looks at each of them from Python.
    batch = pa.RecordBatch.from_struct_array(pa.Array.from_buffers(whole, rows, [None], 0, 0, arrays))
    return Outgoing(topic, batch, blocks["i32"].array[emit.PART, :rows], ready["symbol"])


@cache
def _columns_of(topic: str) -> tuple[pa.DataType, tuple[tuple[str, pa.DataType, bool], ...]]:
    """A row's type; name, type, and whether it is a dictionary, of each column.

    Read once: small batches cost what this costs.
    """
    schema = arrow_schema(topic)
    assert schema.metadata is None, "a struct carries no metadata"
    return pa.struct(list(schema)), tuple((one.name, one.type, pa.types.is_dictionary(one.type)) for one in schema)


def _column(
    name: str,
    kind: pa.DataType,
    dictionary: bool,
    place: tuple[str, int, int | None],
    blocks: dict[str, Block],
    rows: int,
    bitmap_bytes: int,
) -> pa.Array:
    where, line, valid = place
    bits = None if valid is None else blocks["bits"].line(valid, bitmap_bytes)
    if where == "bits":
        return pa.Array.from_buffers(kind, rows, [None, blocks["bits"].line(line, bitmap_bytes)])
    data = blocks[where].line(line, rows)
    texts = _TEXTS.get(name)
    if texts is None:
        return pa.Array.from_buffers(kind, rows, [bits, data])
    codes = pa.Array.from_buffers(_CODES, rows, [bits, data])
    if not dictionary:
        return pa.nulls(rows, kind) if codes.null_count == rows else texts.take(codes)
    return pa.DictionaryArray.from_arrays(codes, texts, safe=False)
