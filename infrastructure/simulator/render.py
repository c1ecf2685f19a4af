"""Kernels that turn rows of the market into lines, and accepted lines into entries of the sent log.

Each kernel fills buffers of its caller and stops at the first row that might not fit: the caller sends what is
there and calls again. A line is rendered only for a watched symbol.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from infrastructure.simulator import columns as c
from infrastructure.simulator import fields as f

_COLUMNS = 2
assert _COLUMNS == c.VERSION, "columns.py changed: see its docstring"

Bytes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]

FIELD_BYTES: Final = 24  # the longest field but the symbol, with its comma
SYMBOL_BYTES: Final = 32
LEVEL2_BYTES: Final = 192

NONE, DAY_US, SECOND_US, PRICE_UNITS = c.NONE, c.DAY_US, c.SECOND_US, c.PRICE_UNITS
KIND, SYM, SRC, TIME = c.KIND, c.SYM, c.SRC, c.TIME
CLOCK, TRADE, SUMMARY, LEVEL_DELETE = c.CLOCK, c.TRADE, c.SUMMARY, c.LEVEL_DELETE
SIDE, PRICE, SIZE, COUNT, BID = c.SIDE, c.PRICE, c.SIZE, c.COUNT, c.BID
ORDER_ID, PRIORITY, MAKER = c.ORDER_ID, c.PRIORITY, c.MAKER
ORDER_DELETE, ORDER_SUMMARY = c.ORDER_DELETE, c.ORDER_SUMMARY
TURNOVER, TOTAL_VOLUME = c.TURNOVER, c.TOTAL_VOLUME
EMPTY, SYMBOL, DOLLARS, INTEGER, CLOCK_TIME = f.EMPTY, f.SYMBOL, f.DOLLARS, f.INTEGER, f.CLOCK_TIME
DATE, CONTENTS, CONDITIONS, TEXT, DIFFERENCE, VWAP = f.DATE, f.CONTENTS, f.CONDITIONS, f.TEXT, f.DIFFERENCE, f.VWAP
MILLISECONDS, SECONDS = f.MILLISECONDS, f.SECONDS


def byte_rows(texts: tuple[bytes, ...] | list[bytes]) -> tuple[Bytes, Int64s]:
    """Texts as rows of a byte matrix with their lengths: the form in which kernels copy them."""
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    matrix = np.zeros((len(texts), max(1, int(lengths.max(initial=0)))), dtype=np.uint8)
    for row, text in enumerate(texts):
        matrix[row, : len(text)] = np.frombuffer(text, dtype=np.uint8)
    return matrix, lengths


CONDITION_TEXT, CONDITION_LENGTH = byte_rows(c.CONDITIONS)
FIELD_TEXT, FIELD_TEXT_LENGTH = byte_rows(f.TEXTS)
MAKER_TEXT, MAKER_LENGTH = byte_rows(c.MAKERS)
BY_LEVEL, BY_ORDER = 1, 2  # bits of a Level 2 watch
CONTENT_LETTERS: Bytes = np.frombuffer(b"CEObaohlcsv", dtype=np.uint8)


@njit(cache=True, error_model="numpy")
def put_int(out: Bytes, pos: int, value: int) -> int:
    """Decimal digits of `value` at `pos`; returns the position after them."""
    if value < 0:
        out[pos] = 45
        pos += 1
        value = -value
    digits, rest = 1, value
    while rest >= 10:
        rest //= 10
        digits += 1
    for i in range(digits):
        out[pos + digits - 1 - i] = 48 + value % 10
        value //= 10
    return pos + digits


@njit(cache=True, error_model="numpy")
def put_bits(out: Bytes, pos: int, value: int) -> int:
    """Decimal digits of the unsigned number with these bits; 0 leaves the field empty. Ends with a comma."""
    rest = np.uint64(value)
    digits, left = 0, rest
    while left > np.uint64(0):
        left //= np.uint64(10)
        digits += 1
    for i in range(digits):
        out[pos + digits - 1 - i] = 48 + np.int64(rest % np.uint64(10))
        rest //= np.uint64(10)
    out[pos + digits] = 44
    return pos + digits + 1


@njit(cache=True, error_model="numpy")
def put_padded(out: Bytes, pos: int, value: int, width: int) -> int:
    """`value` >= 0 with leading zeros."""
    for i in range(width):
        out[pos + width - 1 - i] = 48 + value % 10
        value //= 10
    return pos + width


@njit(cache=True, error_model="numpy")
def put_price(out: Bytes, pos: int, value: int) -> int:
    """A price of 1e-4 units with four decimals."""
    if value < 0:
        out[pos] = 45
        pos += 1
        value = -value
    pos = put_int(out, pos, value // PRICE_UNITS)
    out[pos] = 46
    return put_padded(out, pos + 1, value % PRICE_UNITS, 4)


@njit(cache=True, error_model="numpy")
def put_time(out: Bytes, pos: int, time_us: int, fraction: bool) -> int:
    """HH:MM:SS, with .ffffff where asked for."""
    rest = time_us % DAY_US
    micros = rest % SECOND_US
    seconds = rest // SECOND_US
    pos = put_padded(out, pos, seconds // 3600, 2)
    out[pos] = 58
    pos = put_padded(out, pos + 1, seconds // 60 % 60, 2)
    out[pos] = 58
    pos = put_padded(out, pos + 1, seconds % 60, 2)
    if not fraction:
        return pos
    out[pos] = 46
    return put_padded(out, pos + 1, micros, 6)


@njit(cache=True, error_model="numpy")
def put_date(out: Bytes, pos: int, time_us: int, form: int) -> int:
    """The day: form 0 CCYYMMDD (clock), 1 MM/DD/CCYY (Level 1), 2 CCYY-MM-DD (depth)."""
    # Days to civil date in the proleptic Gregorian calendar, counted in eras of 400 years from 0000-03-01.
    days = time_us // DAY_US + 719_468
    era = days // 146_097
    of_era = days - era * 146_097
    year_of_era = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * of_year + 2) // 153
    day = of_year - (153 * shifted + 2) // 5 + 1
    month = shifted + 3 if shifted < 10 else shifted - 9
    year = year_of_era + era * 400 + (1 if month <= 2 else 0)
    if form == 1:
        pos = put_padded(out, pos, month, 2)
        out[pos] = 47
        pos = put_padded(out, pos + 1, day, 2)
        out[pos] = 47
        return put_padded(out, pos + 1, year, 4)
    pos = put_padded(out, pos, year, 4)
    if form == 2:
        out[pos] = 45
        pos += 1
    pos = put_padded(out, pos, month, 2)
    if form == 2:
        out[pos] = 45
        pos += 1
    return put_padded(out, pos, day, 2)


@njit(cache=True, error_model="numpy")
def put_text(out: Bytes, pos: int, texts: Bytes, lengths: Int64s, row: int) -> int:
    """One row of a byte matrix."""
    for i in range(lengths[row]):
        out[pos + i] = texts[row, i]
    return pos + int(lengths[row])


@njit(cache=True, error_model="numpy")
def put_clock(out: Bytes, pos: int, time_us: int) -> int:
    """T,CCYYMMDD HH:MM:SS."""
    out[pos] = 84
    out[pos + 1] = 44
    pos = put_date(out, pos + 2, time_us, 0)
    out[pos] = 32
    return put_time(out, pos + 1, time_us, False)


@njit(cache=True, error_model="numpy")
def put_field(out: Bytes, pos: int, row: Int64s, how: int, column: int) -> int:
    """One field of a Level 1 line but the symbol; a missing value leaves it empty."""
    if how == DIFFERENCE:
        left, right = row[column // 1000], row[column % 1000]
        if NONE in (left, right):
            return pos
        return put_price(out, pos, left - right)
    if how == VWAP:
        volume = row[TOTAL_VOLUME]
        if volume == NONE or volume <= 0:
            return pos
        return put_price(out, pos, (row[TURNOVER] + volume // 2) // volume)
    if how == TEXT:
        return put_text(out, pos, FIELD_TEXT, FIELD_TEXT_LENGTH, column)
    value = row[column]
    if how == EMPTY or value == NONE:
        return pos
    if how == DOLLARS:
        return put_price(out, pos, value)
    if how == INTEGER:
        return put_int(out, pos, value)
    if how in (CLOCK_TIME, SECONDS, MILLISECONDS):
        pos = put_time(out, pos, value, how != SECONDS)
        return pos - 3 if how == MILLISECONDS else pos
    if how == DATE:
        return put_date(out, pos, value, 1)
    if how == CONDITIONS:
        return put_text(out, pos, CONDITION_TEXT, CONDITION_LENGTH, value)
    for bit in range(CONTENT_LETTERS.size):
        if (value >> bit) & 1:
            out[pos] = CONTENT_LETTERS[bit]
            pos += 1
    return pos


@njit(cache=True, error_model="numpy")
def render_level1(
    table: Int64s,
    first: int,
    last: int,
    watch: Bytes,
    clock_on: bool,
    layout: Int64s,
    names: Bytes,
    name_lengths: Int64s,
    out: Bytes,
    ends: Int64s,
    symbols: Int64s,
    sources: Int64s,
) -> tuple[int, int, int]:
    """`Q`, `P` and `T` lines (LF) of rows [first, last): (next row, lines, bytes).

    `watch[symbol]`: 0 not watched, 1 quotes and trades, 2 trades only. `ends[i]` is the position after line i.
    """
    most = layout.shape[0] * FIELD_BYTES + SYMBOL_BYTES + 8
    pos = lines = 0
    for i in range(first, last):
        if pos + most > out.size or lines == ends.size:
            return i, lines, pos
        kind, symbol = table[i, KIND], table[i, SYM]
        if kind == CLOCK:
            if not clock_on:
                continue
            pos = put_clock(out, pos, table[i, TIME])
        else:
            mode = watch[symbol]
            if mode == 0 or (mode == 2 and kind not in (TRADE, SUMMARY)):
                continue
            out[pos] = 80 if kind == SUMMARY else 81
            out[pos + 1] = 44
            pos += 2
            for k in range(layout.shape[0]):
                if layout[k, 0] == SYMBOL:
                    pos = put_text(out, pos, names, name_lengths, symbol)
                else:
                    pos = put_field(out, pos, table[i], layout[k, 0], layout[k, 1])
                out[pos] = 44
                pos += 1
        out[pos] = 10
        pos += 1
        ends[lines], symbols[lines], sources[lines] = pos, symbol, table[i, SRC]
        lines += 1
    return last, lines, pos


@njit(cache=True, error_model="numpy")
def render_level2(
    table: Int64s,
    first: int,
    last: int,
    watch: Bytes,
    clock_on: bool,
    names: Bytes,
    name_lengths: Int64s,
    out: Bytes,
    ends: Int64s,
    symbols: Int64s,
    sources: Int64s,
) -> tuple[int, int, int]:
    """`3` to `9` and `T` lines (CRLF) of rows [first, last): (next row, lines, bytes).

    `watch[symbol]` has the bits BY_LEVEL (7, 8, 9) and BY_ORDER (3, 4, 5, 6).
    """
    pos = lines = 0
    for i in range(first, last):
        if pos + LEVEL2_BYTES > out.size or lines == ends.size:
            return i, lines, pos
        kind, symbol, time = table[i, KIND], table[i, SYM], table[i, TIME]
        if kind == CLOCK:
            if not clock_on:
                continue
            pos = put_clock(out, pos, time)
        else:
            by_order = kind <= ORDER_SUMMARY
            if watch[symbol] & (BY_ORDER if by_order else BY_LEVEL) == 0:
                continue
            out[pos] = 48 + kind
            out[pos + 1] = 44
            pos = put_text(out, pos + 2, names, name_lengths, symbol)
            out[pos] = 44
            pos += 1
            if by_order:
                pos = put_bits(out, pos, table[i, ORDER_ID])
                if table[i, MAKER] >= 0:
                    pos = put_text(out, pos, MAKER_TEXT, MAKER_LENGTH, table[i, MAKER])
                out[pos] = 44
                pos += 1
            out[pos] = 66 if table[i, SIDE] == BID else 65
            out[pos + 1] = 44
            pos += 2
            if kind != ORDER_DELETE:
                pos = put_price(out, pos, table[i, PRICE])
                out[pos] = 44
                pos += 1
            if kind not in (LEVEL_DELETE, ORDER_DELETE):
                pos = put_int(out, pos, table[i, SIZE])
                out[pos] = 44
                pos += 1
                if by_order:
                    pos = put_bits(out, pos, table[i, PRIORITY])
                else:
                    pos = put_int(out, pos, table[i, COUNT])
                    out[pos] = 44
                    pos += 1
                out[pos] = 52  # Precision 4
                out[pos + 1] = 44
                pos += 2
            if time >= 0:
                pos = put_time(out, pos, time, True)
            out[pos] = 44
            pos = put_date(out, pos + 1, abs(time), 2)
            out[pos] = 44
            pos += 1
        out[pos] = 13
        out[pos + 1] = 10
        pos += 2
        ends[lines], symbols[lines], sources[lines] = pos, symbol, table[i, SRC]
        lines += 1
    return last, lines, pos


@njit(cache=True, error_model="numpy")
def count_kinds(data: Bytes, ends: Int64s, first: int, last: int, start: int) -> tuple[int, int]:
    """(clock lines, market lines Q P Z 2 to 9) among lines [first, last); line `first` begins at `start`."""
    clocks = market = 0
    for i in range(first, last):
        letter = data[start]
        if letter == 84:
            clocks += 1
        elif letter in (80, 81, 90) or 50 <= letter <= 57:
            market += 1
        start = ends[i]
    return clocks, market


@njit(cache=True, error_model="numpy")
def render_log(
    data: Bytes,
    ends: Int64s,
    symbols: Int64s,
    sources: Int64s,
    first: int,
    last: int,
    start: int,
    number: int,
    connection: int,
    port: Bytes,
    wall_ns: int,
    names: Bytes,
    name_lengths: Int64s,
    out: Bytes,
) -> tuple[int, int, int]:
    """Sent-log entries of lines [first, last): (next line, its start in `data`, bytes written)."""
    pos = 0
    for i in range(first, last):
        stop = ends[i]
        if pos + (stop - start) + 160 > out.size:
            return i, start, pos
        pos = put_int(out, pos, number + i - first)
        out[pos] = 9
        pos = put_int(out, pos + 1, connection)
        out[pos] = 9
        pos += 1
        for k in range(port.size):
            out[pos + k] = port[k]
        pos += port.size
        out[pos] = 9
        pos += 1
        if symbols[i] >= 0:
            pos = put_text(out, pos, names, name_lengths, symbols[i])
        out[pos] = 9
        pos = put_int(out, pos + 1, sources[i])
        out[pos] = 9
        pos = put_int(out, pos + 1, wall_ns)
        out[pos] = 9
        pos += 1
        text_end = stop - 1
        if text_end > start and data[text_end - 1] == 13:
            text_end -= 1
        for k in range(start, text_end):
            out[pos + k - start] = data[k]
        pos += text_end - start
        out[pos] = 10
        pos += 1
        start = stop
    return last, start, pos
