"""Lines of the Lookup port: the dialect of a protocol version, and the kernels that write rows of an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit

from infrastructure.simulator import history_bars as b
from infrastructure.simulator import history_days as d
from infrastructure.simulator import history_trades as t
from infrastructure.simulator.render import Bytes, put_date, put_int, put_padded, put_price, put_text, put_time

Int64s = np.typing.NDArray[np.int64]

ROW_BYTES: Final = 320  # the longest row without its prefix
_DAY_US: Final = 86_400_000_000
_SECOND_US: Final = 1_000_000
# put_date's forms and what they are for stand in render.
_DASHED: Final = 2
assert list(range(b.HIGH, b.HIGH + 4)) == [b.HIGH, b.LOW, b.OPEN, b.CLOSE], "see _put_prices"
assert list(range(d.HIGH, d.HIGH + 4)) == [d.HIGH, d.LOW, d.OPEN, d.CLOSE], "see _put_prices"


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a protocol version changes in the answers. `version` "" = no protocol was set."""

    version: str
    tags: bool = False  # LH or LS after the request id
    fraction: int = 6  # digits of a second in tick stamps
    who: bool = False  # ticks end with aggressor and day code
    partial: bool = False  # daily bars hold today's unless told otherwise
    plain: bool = False  # the oldest form: C ticks only, no NumTrades, a clock time behind daily dates


_PLAIN: Final = Dialect("", fraction=0, plain=True)
DIALECTS: Final = {
    each.version: each
    for each in (
        Dialect("6.2", tags=True, who=True, partial=True),
        Dialect("6.1", who=True, partial=True),
        Dialect("6.0"),
        Dialect("5.2", fraction=3),
        Dialect("5.1", fraction=3),
        Dialect("5.0", fraction=3),
        Dialect("4.9", fraction=0, plain=True),
        _PLAIN,
    )
}


@njit(cache=True, error_model="numpy")
def _put_line_end(out: Bytes, pos: int) -> int:
    out[pos] = 44
    out[pos + 1] = 13
    out[pos + 2] = 10
    return pos + 3


@njit(cache=True, error_model="numpy")
def _put_next_int(out: Bytes, pos: int, value: int) -> int:
    out[pos] = 44
    return put_int(out, pos + 1, value)


@njit(cache=True, error_model="numpy")
def _put_next_price(out: Bytes, pos: int, value: int) -> int:
    out[pos] = 44
    return put_price(out, pos + 1, value)


@njit(cache=True, error_model="numpy")
def _put_prefix(out: Bytes, pos: int, prefix: Bytes) -> int:
    for k in range(prefix.size):
        out[pos + k] = prefix[k]
    return pos + int(prefix.size)


@njit(cache=True, error_model="numpy")
def _put_prices(out: Bytes, pos: int, row: Int64s, high: int) -> int:
    """High, low, open and close, which stand side by side in every kind of bar."""
    for column in range(high, high + 4):
        pos = _put_next_price(out, pos, row[column])
    return pos


@njit(cache=True, error_model="numpy")
def _put_stamp(out: Bytes, pos: int, time: int, fraction: int) -> int:
    pos = put_date(out, pos, time, _DASHED)
    out[pos] = 32
    pos = put_time(out, pos + 1, time, False)
    if fraction:
        out[pos] = 46
        micros = time % _SECOND_US
        pos = put_padded(out, pos + 1, micros // 1000 if fraction == 3 else micros, fraction)
    return pos


@njit(cache=True, error_model="numpy")
def render_ticks(
    rows: Int64s,
    first: int,
    last: int,
    prefix: Bytes,
    fraction: int,
    who: bool,
    plain: bool,
    conditions: Bytes,
    condition_lengths: Int64s,
    out: Bytes,
    ends: Int64s,
) -> tuple[int, int, int]:
    """Lines of trades [row, column], rows [first, last): (next row, lines, bytes). Stops where a buffer is full."""
    pos = lines = 0
    for i in range(first, last):
        if pos + ROW_BYTES + prefix.size > out.size or lines == ends.size:
            return i, lines, pos
        row = rows[i]
        marks = row[t.MARKS]
        pos = _put_stamp(out, _put_prefix(out, pos, prefix), row[t.TIME], fraction)
        pos = _put_next_price(out, pos, row[t.PRICE])
        pos = _put_next_int(out, pos, row[t.SIZE])
        pos = _put_next_int(out, pos, row[t.TOTAL])
        pos = _put_next_price(out, pos, row[t.BID])
        pos = _put_next_price(out, pos, row[t.ASK])
        pos = _put_next_int(out, pos, row[t.TICK_ID])
        if plain:
            pos = _put_next_int(out, pos, 0)
            pos = _put_next_int(out, pos, 0)
        out[pos] = 44
        basis = marks & t.BASIS_MASK
        out[pos + 1] = 67 if basis == 1 else 69 if basis == 2 else 79
        pos += 2
        if not plain:
            pos = _put_next_int(out, pos, marks >> 32)
            out[pos] = 44
            pos = put_text(out, pos + 1, conditions, condition_lengths, (marks >> 24) & 255)
        if who:
            pos = _put_next_int(out, pos, (marks >> 8) & 255)
            pos = _put_next_int(out, pos, (marks >> 16) & 255)
        pos = _put_line_end(out, pos)
        ends[lines] = pos
        lines += 1
    return last, lines, pos


@njit(cache=True, error_model="numpy")
def render_intervals(
    rows: Int64s, first: int, last: int, prefix: Bytes, label_begin: bool, plain: bool, out: Bytes, ends: Int64s
) -> tuple[int, int, int]:
    """As render_ticks, of interval bars (history_bars)."""
    pos = lines = 0
    for i in range(first, last):
        if pos + ROW_BYTES + prefix.size > out.size or lines == ends.size:
            return i, lines, pos
        row = rows[i]
        pos = _put_stamp(out, _put_prefix(out, pos, prefix), row[b.BEGIN] if label_begin else row[b.END], 0)
        pos = _put_prices(out, pos, row, b.HIGH)
        pos = _put_next_int(out, pos, row[b.BAR_TOTAL])
        pos = _put_next_int(out, pos, row[b.PERIOD])
        if not plain:
            pos = _put_next_int(out, pos, row[b.TRADES])
        pos = _put_line_end(out, pos)
        ends[lines] = pos
        lines += 1
    return last, lines, pos


@njit(cache=True, error_model="numpy")
def render_days(
    rows: Int64s, first: int, last: int, prefix: Bytes, clock_us: int, out: Bytes, ends: Int64s
) -> tuple[int, int, int]:
    """As render_ticks, of daily, weekly or monthly bars (history_days); `clock_us` >= 0 stands behind each date."""
    pos = lines = 0
    for i in range(first, last):
        if pos + ROW_BYTES + prefix.size > out.size or lines == ends.size:
            return i, lines, pos
        row = rows[i]
        pos = _put_prefix(out, pos, prefix)
        if clock_us >= 0:
            pos = _put_stamp(out, pos, row[d.DAY_STAMP] * _DAY_US + clock_us, 0)
        else:
            pos = put_date(out, pos, row[d.DAY_STAMP] * _DAY_US, _DASHED)
        pos = _put_prices(out, pos, row, d.HIGH)
        pos = _put_next_int(out, pos, row[d.VOLUME])
        pos = _put_next_int(out, pos, 0)  # open interest
        pos = _put_line_end(out, pos)
        ends[lines] = pos
        lines += 1
    return last, lines, pos
