"""Rows of history: bytes to columns in one pass. What a row means is told by a plan, see row_layouts.

A row's time is Eastern wall clock. In the hour that November repeats the answer's own order decides: with the oldest
first it is the first pass, unless that would lie before the row above (before the begin that was asked for, in the
first row); with the newest first it is the second pass, unless that would lie after the row above (or the end). The
hour that March leaves out is read as standard time.
"""

from __future__ import annotations

from typing import Any, Final

from numba import njit

from pipeline_orchestrator.lookup.row_fields import (
    BAD_DATE,
    BAD_TIME,
    BAD_VALUE,
    EMPTY_LINE,
    FOREIGN_ID,
    MISSING_FIELD,
    MISSING_TAG,
    codes_status,
    date_key,
    day_of_key,
    letter,
)
from pipeline_orchestrator.lookup.row_layouts import BITS, CODES, COUNT, DATE, DAY, LETTER, PRICE, SKIP, SMALL, STAMP
from pipeline_orchestrator.market.eastern import DAY_US, DAYLIGHT_US, HOUR_US, STANDARD_US, day_rule, local_to_utc_us
from pipeline_orchestrator.market.wire_fields import NULL, digits, price, small, time_of_day, unsigned_bits

# state of an answer between chunks
S_NEWEST_FIRST: Final = 0
S_ABOVE: Final = 1  # UTC of the row above, or the bound that was asked for
S_KEY: Final = 2  # the newest date, its day and its rule: dates repeat
S_DAY: Final = 3
S_RULE: Final = 4
STATE_SIZE: Final = 5

_LF, _CR, _COMMA, _SPACE = 10, 13, 44, 32
_REPEATING: Final = 3  # of day_rule


@njit(cache=True, error_model="numpy")
def _same_day(state: Any, key: int) -> int:  # Any: arrays inside kernels
    """Bring day and rule of a date into the state; 0, or the code of a reason."""
    if state[S_KEY] != key:
        day, status = day_of_key(key)
        if status != 0:
            return status
        state[S_KEY], state[S_DAY], state[S_RULE] = key, day, day_rule(day)
    return 0


@njit(cache=True, error_model="numpy")
def _utc(state: Any, tod: int) -> int:  # Any: arrays inside kernels
    """UTC of a time of the day in the state; see the module for the hour that repeats."""
    rule = state[S_RULE]
    local = state[S_DAY] * DAY_US + tod
    if tod >= DAY_US:  # a leap second at midnight: the day it begins may have another rule
        return int(local_to_utc_us(local, local, day_rule(state[S_DAY] + 1)))
    if rule == 0:
        return int(local + STANDARD_US)
    if rule == 1:
        return int(local + DAYLIGHT_US)
    if rule != _REPEATING or tod < HOUR_US or tod >= 2 * HOUR_US:
        return int(local_to_utc_us(local, local, rule))
    early, late = local + DAYLIGHT_US, local + STANDARD_US
    if state[S_NEWEST_FIRST] != 0:
        return int(late if late <= state[S_ABOVE] else early)
    return int(early if early >= state[S_ABOVE] else late)


@njit(cache=True, error_model="numpy")
def _stamp(buf: Any, a: int, b: int, state: Any) -> tuple[int, int]:  # Any: arrays inside kernels
    """UTC of CCYY-MM-DD HH:MM:SS[.f]."""
    key, status = date_key(buf, a, b)
    if status != 0:
        return 0, status
    if b - a < 11 or buf[a + 10] != _SPACE:
        return 0, BAD_TIME
    tod, status = time_of_day(buf, a + 11, b)
    if status != 0:  # a row without its time is none: 99:99:99 is no time here
        return 0, BAD_TIME
    status = _same_day(state, key)
    if status != 0:
        return 0, status
    return _utc(state, tod), 0


@njit(cache=True, error_model="numpy")
def _date(buf: Any, a: int, b: int, state: Any) -> tuple[int, int]:  # Any: arrays inside kernels
    """Day number of a date; a clock time behind it is checked and left out."""
    key, status = date_key(buf, a, b)
    if status != 0:
        return 0, status
    if b - a > 10:
        if buf[a + 10] != _SPACE:
            return 0, BAD_DATE
        _, status = time_of_day(buf, a + 11, b)
        if status != 0:
            return 0, BAD_TIME
    status = _same_day(state, key)
    return state[S_DAY], status


@njit(cache=True, error_model="numpy")
def _field(buf: Any, a: int, b: int, what: int, state: Any) -> tuple[int, int]:  # Any: arrays inside kernels
    if what == PRICE:
        return price(buf, a, b)
    if what == COUNT:
        return digits(buf, a, b, False)
    if what == STAMP:
        return _stamp(buf, a, b, state)
    if what == BITS:
        return unsigned_bits(buf, a, b)
    if what == SMALL:
        return small(buf, a, b, False)
    if what == LETTER:
        return letter(buf, a, b)
    if what == DATE:
        return _date(buf, a, b, state)
    if what == DAY:
        value, status = small(buf, a, b, False)
        if status != 0:
            return 0, status
        if value > 31:
            return 0, BAD_VALUE
        return value, (NULL if value == 0 else 0)
    return 0, 0


@njit(cache=True, error_model="numpy")
def _starts(buf: Any, a: int, b: int, wanted: Any) -> bool:  # Any: arrays inside kernels
    if b - a < wanted.size:
        return False
    for i in range(wanted.size):  # noqa: SIM110 - numba has no all()
        if buf[a + i] != wanted[i]:
            return False
    return True


@njit(cache=True, error_model="numpy")
def parse_rows(
    buf: Any, size: int, prefix: Any, tag: Any, plan: Any, state: Any,
    wide: Any, valid: Any, text: Any, text_ends: Any, refused: Any,
) -> tuple[int, int, int]:  # Any: arrays inside kernels  # fmt: skip
    """Columns of the rows in `buf[:size]`; (rows, refused lines, lines).

    `prefix` is the request id with its comma, or empty. `wide` and `valid` have a line per column and a place per
    line of the chunk, `text` room for all bytes, `refused` rows of (line, begin, end, reason).
    """
    rows, wrong, lines, written, a = 0, 0, 0, 0, 0
    columns = wide.shape[0]
    text_ends[0] = 0
    while a < size:
        end = a
        while end < size and buf[end] != _LF:
            end += 1
        following = end + 1
        if end > a and buf[end - 1] == _CR:
            end -= 1
        for column in range(columns):
            valid[column, rows] = 0
            wide[column, rows] = 0
        at, status, used, stamp = a, 0, written, state[S_ABOVE]
        if end == a:
            status = EMPTY_LINE
        elif not _starts(buf, at, end, prefix):
            status = FOREIGN_ID
        else:
            at += prefix.size
            if not _starts(buf, at, end, tag):
                status = MISSING_TAG
            else:
                at += tag.size
        place = 0
        while status == 0 and place < plan.shape[0]:
            stop = at
            while stop < end and buf[stop] != _COMMA:
                stop += 1
            what, column = plan[place, 0], plan[place, 1]
            if stop <= at:
                if plan[place, 2] != 0:
                    status = MISSING_FIELD
            elif what == CODES:
                status = codes_status(buf, at, stop)
                if status == 0:
                    text[used : used + stop - at] = buf[at:stop]
                    used += stop - at
                    valid[column, rows] = 1
            elif what != SKIP:
                value, status = _field(buf, at, stop, what, state)
                if status == 0:
                    wide[column, rows] = value
                    valid[column, rows] = 1
                    if what == STAMP:
                        stamp = value
                elif status == NULL:
                    status = 0
            at = min(stop + 1, end)
            place += 1
        if status == 0:
            written, state[S_ABOVE] = used, stamp
            rows += 1
            text_ends[rows] = written
        else:
            refused[wrong, 0], refused[wrong, 1], refused[wrong, 2], refused[wrong, 3] = lines, a, end, status
            wrong += 1
        lines += 1
        a = following
    return rows, wrong, lines


def warm() -> None:
    """Compile the kernel for the types it gets."""
    from pipeline_orchestrator.lookup.row_parser import RowParser

    RowParser("ticks", "6.2", request_id=b"1").parse(b"1,LH,2024-01-02 10:00:00,1.5,1,1,1,2,3,C,5,01,0,2,\r\n")
