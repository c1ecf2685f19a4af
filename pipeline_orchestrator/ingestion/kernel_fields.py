"""Fields of a line as integers, inside kernels: the compiled twin of `reference_fields`, with the same order of checks.

Each reader takes `buf[a:b]` and returns (value, status): status 0 = value, -1 = null (empty field), greater than 0 =
the code of a reason (see reasons.py). Numbers and times of day are in market.wire_fields.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from pipeline_orchestrator.ingestion.reasons import BAD_SYMBOL, BAD_TEXT, BAD_VALUE, MISSING_FIELD
from pipeline_orchestrator.market.eastern import DAY_US
from pipeline_orchestrator.market.wire_fields import (
    BAD_DATE,
    BAD_TIME,
    MAX_TEXT,
    NULL,
    day_number,
    small,
    time_of_day,
    two,
)

_MINUS, _SLASH, _SPACE = 45, 47, 32


@njit(cache=True, error_model="numpy")
def date(buf: Any, a: int, b: int) -> tuple[int, int]:  # Any: arrays inside kernels
    """Day number of MM/DD/CCYY or CCYY-MM-DD."""
    if a >= b:
        return 0, NULL
    if b - a != 10:
        return 0, BAD_DATE
    if buf[a + 2] == _SLASH and buf[a + 5] == _SLASH:
        month, day, century, rest = two(buf, a), two(buf, a + 3), two(buf, a + 6), two(buf, a + 8)
    elif buf[a + 4] == _MINUS and buf[a + 7] == _MINUS:
        century, rest, month, day = two(buf, a), two(buf, a + 2), two(buf, a + 5), two(buf, a + 8)
    else:
        return 0, BAD_DATE
    if month < 0 or day < 0 or century < 0 or rest < 0:
        return 0, BAD_DATE
    return day_number(century * 100 + rest, month, day)


@njit(cache=True, error_model="numpy")
def clock(buf: Any, a: int, b: int) -> tuple[int, int, int]:  # Any: arrays inside kernels
    """Day and time of day of CCYYMMDD HH:MM:SS, and the status."""
    if a >= b:
        return 0, 0, MISSING_FIELD
    if b - a < 9 or buf[a + 8] != _SPACE:
        return 0, 0, BAD_DATE
    century, rest, month, day = two(buf, a), two(buf, a + 2), two(buf, a + 4), two(buf, a + 6)
    if month < 0 or day < 0 or century < 0 or rest < 0:
        return 0, 0, BAD_DATE
    days, status = day_number(century * 100 + rest, month, day)
    if status != 0:
        return 0, 0, status
    tod, status = time_of_day(buf, a + 9, b)
    if status != 0:
        return 0, 0, BAD_TIME
    if tod >= DAY_US:  # a leap second at midnight
        return days + 1, tod - DAY_US, 0
    return days, tod, 0


@njit(cache=True, error_model="numpy")
def printable(buf: Any, a: int, b: int) -> bool:  # Any: arrays inside kernels
    """1 to 64 characters from ! to ~."""
    if b <= a or b - a > MAX_TEXT:
        return False
    for i in range(a, b):  # noqa: SIM110 - numba has no all()
        if buf[i] < 33 or buf[i] > 126:
            return False
    return True


@njit(cache=True, error_model="numpy")
def symbol_status(buf: Any, a: int, b: int) -> int:  # Any: arrays inside kernels
    """0, or why the symbol is refused."""
    if a >= b:
        return MISSING_FIELD
    return 0 if printable(buf, a, b) else BAD_SYMBOL


@njit(cache=True, error_model="numpy")
def text_status(buf: Any, a: int, b: int) -> int:  # Any: arrays inside kernels
    """0, NULL, or why the text is refused."""
    if a >= b:
        return NULL
    return 0 if printable(buf, a, b) else BAD_TEXT


@njit(cache=True, error_model="numpy")
def one_of(buf: Any, a: int, b: int, zero: int, one: int, empty: int) -> tuple[int, int]:  # Any: arrays inside kernels
    """0 or 1 by which of two letters stands there alone; the status of an empty field is `empty`."""
    if a >= b:
        return 0, empty
    if b - a == 1 and buf[a] == zero:
        return 0, 0
    if b - a == 1 and buf[a] == one:
        return 1, 0
    return 0, BAD_VALUE


@njit(cache=True, error_model="numpy")
def basis(buf: Any, a: int, b: int) -> tuple[int, int]:  # Any: arrays inside kernels
    """C before E before O among letters, as codes of market.events.BASES; null where there is none of them."""
    found, status = 0, NULL
    for i in range(a, b):
        letter = int(buf[i]) & 0xDF  # upper case
        if letter < 65 or letter > 90:
            return 0, BAD_VALUE
        letter = int(buf[i])
        if letter == 67:
            found, status = 0, 0
        elif letter == 69 and (status == NULL or found == 2):
            found, status = 1, 0
        elif letter == 79 and status == NULL:
            found, status = 2, 0
    return found, status


@njit(cache=True, error_model="numpy")
def day_code(buf: Any, a: int, b: int) -> tuple[int, int]:  # Any: arrays inside kernels
    """Day of the month; 0 is null."""
    value, status = small(buf, a, b, True)
    if status != 0:
        return 0, status
    if value == 0:
        return 0, NULL
    if value < 1 or value > 31:
        return 0, BAD_VALUE
    return value, 0
