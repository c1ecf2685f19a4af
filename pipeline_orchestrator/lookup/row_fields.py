"""Fields of a history row as integers, inside kernels.

Each reader takes `buf[a:b]`, which is never empty, and returns (value, status): 0, or the code of a reason.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit, uint64

from pipeline_orchestrator.market.eastern import days_from_civil, month_length

REASONS: Final = (
    "",
    "empty_line",
    "foreign_id",  # does not begin with the id of the request
    "missing_tag",  # without the LH of protocol 6.2
    "missing_field",  # time, price, size, or a price of a bar
    "bad_number",
    "too_precise",  # a price with more than six decimals
    "overflow",
    "bad_time",
    "bad_date",
    "bad_value",  # day code or basis outside its set
    "bad_text",  # conditions other than letters and digits, or more than 64
)
EMPTY_LINE: Final = 1
FOREIGN_ID: Final = 2
MISSING_TAG: Final = 3
MISSING_FIELD: Final = 4
BAD_NUMBER: Final = 5
TOO_PRECISE: Final = 6
OVERFLOW: Final = 7
BAD_TIME: Final = 8
BAD_DATE: Final = 9
BAD_VALUE: Final = 10
BAD_TEXT: Final = 11

MAX_INT64: Final = (1 << 63) - 1
MAX_INT32: Final = (1 << 31) - 1
MAX_TEXT: Final = 64
_DECIMALS: Final = 6
_SAFE_DIGITS: Final = 18  # so many digits always fit
_DOT, _MINUS, _COLON, _SPACE = 46, 45, 58, 32


@njit(cache=True, error_model="numpy")
def count(buf: Any, a: int, b: int) -> tuple[int, int]:  # Any: arrays inside kernels
    """Whole number from 0 to 2**63 - 1."""
    value, over = 0, False
    for i in range(a, b):
        digit = int(buf[i]) - 48
        if digit < 0 or digit > 9:
            return 0, BAD_NUMBER
        if i - a >= _SAFE_DIGITS and (over or value > (MAX_INT64 - digit) // 10):
            over = True
            continue
        value = value * 10 + digit
    return (0, OVERFLOW) if over else (value, 0)


@njit(cache=True, error_model="numpy")
def small(buf: Any, a: int, b: int) -> tuple[int, int]:  # Any: arrays inside kernels
    """Whole number from 0 to 2**31 - 1."""
    value, status = count(buf, a, b)
    if status == 0 and value > MAX_INT32:
        return 0, OVERFLOW
    return value, status


@njit(cache=True, error_model="numpy")
def bits(buf: Any, a: int, b: int) -> tuple[int, int]:  # Any: arrays inside kernels
    """Whole number from 0 to 2**64 - 1 as the signed integer of the same bits."""
    if b - a <= _SAFE_DIGITS:
        return count(buf, a, b)
    value, over = uint64(0), False
    for i in range(a, b):
        digit = int(buf[i]) - 48
        if digit < 0 or digit > 9:
            return 0, BAD_NUMBER
        if over or value > uint64(1844674407370955161) or (value == uint64(1844674407370955161) and digit > 5):
            over = True
            continue
        value = value * uint64(10) + uint64(digit)
    if over:
        return 0, OVERFLOW
    return np.int64(value), 0  # type: ignore[return-value]  # int() of an unsigned one stays unsigned in numba


@njit(cache=True, error_model="numpy")
def price(buf: Any, a: int, b: int) -> tuple[int, int]:  # Any: arrays inside kernels
    """Decimal in 1e-6 units with at most six decimals; `12.` and `.5` are numbers."""
    minus = buf[a] == _MINUS
    if minus:
        a += 1
    value, over, point, decimals, seen = 0, False, False, 0, 0
    for i in range(a, b):
        digit = int(buf[i]) - 48
        if digit < 0 or digit > 9:
            if digit != _DOT - 48 or point:
                return 0, BAD_NUMBER
            point = True
            continue
        seen += 1
        if point:
            decimals += 1
            if decimals > _DECIMALS:
                continue
        if seen > _SAFE_DIGITS and (over or value > (MAX_INT64 - digit) // 10):
            over = True
            continue
        value = value * 10 + digit
    if seen == 0:
        return 0, BAD_NUMBER
    if decimals > _DECIMALS:
        return 0, TOO_PRECISE
    while decimals < _DECIMALS and not over:
        if value > MAX_INT64 // 10:
            over = True
        value *= 10
        decimals += 1
    if over:
        return 0, OVERFLOW
    return (-value if minus else value), 0


@njit(cache=True, error_model="numpy")
def _two(buf: Any, a: int) -> int:  # Any: arrays inside kernels
    """Two digits, -1 where one is none."""
    high, low = int(buf[a]) - 48, int(buf[a + 1]) - 48
    if high < 0 or high > 9 or low < 0 or low > 9:
        return -1
    return high * 10 + low


@njit(cache=True, error_model="numpy")
def date_key(buf: Any, a: int, b: int) -> tuple[int, int]:  # Any: arrays inside kernels
    """CCYYMMDD as a number of the first ten bytes CCYY-MM-DD; whether that day exists is not judged."""
    if b - a < 10 or buf[a + 4] != _MINUS or buf[a + 7] != _MINUS:
        return 0, BAD_DATE
    century, year, month, day = _two(buf, a), _two(buf, a + 2), _two(buf, a + 5), _two(buf, a + 8)
    if century < 0 or year < 0 or month < 0 or day < 0:
        return 0, BAD_DATE
    return ((century * 100 + year) * 100 + month) * 100 + day, 0


@njit(cache=True, error_model="numpy")
def day_of_key(key: int) -> tuple[int, int]:
    """Days since 1970 of CCYYMMDD, from 1900 to 2199."""
    year, month, day = key // 10_000, key // 100 % 100, key % 100
    if year < 1900 or year > 2199 or month < 1 or month > 12 or day < 1 or day > month_length(year, month):
        return 0, BAD_DATE
    return days_from_civil(year, month, day), 0


@njit(cache=True, error_model="numpy")
def time_of_day(buf: Any, a: int, b: int) -> tuple[int, int]:  # Any: arrays inside kernels
    """Microseconds since midnight of HH:MM:SS with at most six decimals; second 60 is a leap second."""
    size = b - a
    if size < 8 or size > 15 or buf[a + 2] != _COLON or buf[a + 5] != _COLON:
        return 0, BAD_TIME
    hours, minutes, seconds = _two(buf, a), _two(buf, a + 3), _two(buf, a + 6)
    if hours < 0 or minutes < 0 or seconds < 0 or hours > 23 or minutes > 59 or seconds > 60:
        return 0, BAD_TIME
    fraction, places = 0, 0
    if size > 8:
        if buf[a + 8] != _DOT:
            return 0, BAD_TIME
        for i in range(a + 9, b):
            digit = int(buf[i]) - 48
            if digit < 0 or digit > 9:
                return 0, BAD_TIME
            fraction = fraction * 10 + digit
            places += 1
    while places < _DECIMALS:
        fraction *= 10
        places += 1
    return ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + fraction, 0


@njit(cache=True, error_model="numpy")
def letter(buf: Any, a: int, b: int) -> tuple[int, int]:  # Any: arrays inside kernels
    """One capital letter."""
    if b - a != 1 or buf[a] < 65 or buf[a] > 90:
        return 0, BAD_VALUE
    return int(buf[a]), 0


@njit(cache=True, error_model="numpy")
def codes_status(buf: Any, a: int, b: int) -> int:  # Any: arrays inside kernels
    """0 for at most 64 letters and digits."""
    if b - a > MAX_TEXT:
        return BAD_TEXT
    for i in range(a, b):
        byte = int(buf[i]) & 0xDF
        if (byte < 65 or byte > 90) and (buf[i] < 48 or buf[i] > 57):
            return BAD_TEXT
    return 0
