"""Numbers, times and days in the feed's bytes, inside kernels: what the live lines and the answers of history share.

Each reader takes `buf[a:b]` and returns (value, status): status 0 = value, NULL = nothing there, greater than 0 = one
of the codes below. Prices are int64 in 1e-6 units, times of day microseconds, days count from 1970-01-01.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit, uint64

from pipeline_orchestrator.market.eastern import days_from_civil, month_length

NULL: Final = -1

# Why a field is refused. The packages that read lines number their own reasons around these (see their REASONS).
BAD_NUMBER: Final = 5
TOO_PRECISE: Final = 6  # a price with more than six decimals
OVERFLOW: Final = 7  # does not fit the column
BAD_TIME: Final = 8
BAD_DATE: Final = 9

MAX_INT64: Final = (1 << 63) - 1
MAX_INT32: Final = (1 << 31) - 1
MAX_TEXT: Final = 64  # characters of a text
_SAFE: Final = MAX_INT64 // 10 - 1  # below this another digit cannot overflow
_SAFE_DIGITS: Final = 18  # so many digits always fit
_SHORT_PRICE: Final = 12  # so many characters fit with six decimals added
_SCALES: Final = (1_000_000, 100_000, 10_000, 1_000, 100, 10, 1)
_DOT, _MINUS, _COLON = 46, 45, 58


@njit(cache=True, error_model="numpy")
def digits(buf: Any, a: int, b: int, negative_too: bool) -> tuple[int, int]:  # Any: arrays inside kernels
    """Whole number in magnitude up to 2**63 - 1; sign allowed if `negative_too`."""
    if a >= b:
        return 0, NULL
    minus = buf[a] == _MINUS
    if minus:
        if not negative_too:
            return 0, BAD_NUMBER
        a += 1
        if a >= b:
            return 0, BAD_NUMBER
    value, over = 0, False
    if b - a <= _SAFE_DIGITS:
        for i in range(a, b):
            digit = int(buf[i]) - 48
            if digit < 0 or digit > 9:
                return 0, BAD_NUMBER
            value = value * 10 + digit
        return (-value if minus else value), 0
    for i in range(a, b):
        digit = int(buf[i]) - 48
        if digit < 0 or digit > 9:
            return 0, BAD_NUMBER
        if value > _SAFE and (over or value > (MAX_INT64 - digit) // 10):
            over = True
            continue
        value = value * 10 + digit
    if over:
        return 0, OVERFLOW
    return (-value if minus else value), 0


@njit(cache=True, error_model="numpy")
def small(buf: Any, a: int, b: int, negative_too: bool) -> tuple[int, int]:  # Any: arrays inside kernels
    """The same up to 2**31 - 1."""
    value, status = digits(buf, a, b, negative_too)
    if status == 0 and (value > MAX_INT32 or value < -MAX_INT32):
        return 0, OVERFLOW
    return value, status


@njit(cache=True, error_model="numpy")
def unsigned_bits(buf: Any, a: int, b: int) -> tuple[int, int]:  # Any: arrays inside kernels
    """Unsigned 64-bit number as the signed integer with the same bits."""
    if b - a <= _SAFE_DIGITS:
        return digits(buf, a, b, False)
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
    """Decimal in 1e-6 units, at most six decimals; `12.` and `.5` are numbers."""
    if a >= b:
        return 0, NULL
    minus = buf[a] == _MINUS
    if minus:
        a += 1
    if b - a > _SHORT_PRICE:
        value, status = _long_price(buf, a, b)
        return (-value if minus else value), status
    value, point = 0, b
    for i in range(a, b):
        digit = int(buf[i]) - 48
        if digit < 0 or digit > 9:
            if digit != _DOT - 48 or point != b:
                return 0, BAD_NUMBER
            point = i
        else:
            value = value * 10 + digit
    decimals = 0 if point == b else b - point - 1
    if a == b or (point == a and decimals == 0):
        return 0, BAD_NUMBER
    if decimals > 6:
        return 0, TOO_PRECISE
    value *= _SCALES[decimals]
    return (-value if minus else value), 0


@njit(cache=True, error_model="numpy")
def _long_price(buf: Any, a: int, b: int) -> tuple[int, int]:  # Any: arrays inside kernels
    """Magnitude of a price with so many characters that it may not fit."""
    value, over, decimals, seen, point = 0, False, 0, 0, False
    for i in range(a, b):
        byte = int(buf[i])
        digit = byte - 48
        if digit < 0 or digit > 9:
            if byte != _DOT or point:
                return 0, BAD_NUMBER
            point = True
            continue
        seen += 1
        if point:
            decimals += 1
        if value > _SAFE and (over or value > (MAX_INT64 - digit) // 10):
            over = True
        elif decimals <= 6:
            value = value * 10 + digit
    if seen == 0:
        return 0, BAD_NUMBER
    if decimals > 6:
        return 0, TOO_PRECISE
    while decimals < 6 and not over:
        if value > MAX_INT64 // 10:
            over = True
        value = value * 10
        decimals += 1
    return value, (OVERFLOW if over else 0)


@njit(cache=True, error_model="numpy")
def two(buf: Any, a: int) -> int:  # Any: arrays inside kernels
    """Two digits, -1 where one is none."""
    high, low = int(buf[a]) - 48, int(buf[a + 1]) - 48
    if high < 0 or high > 9 or low < 0 or low > 9:
        return -1
    return high * 10 + low


@njit(cache=True, error_model="numpy")
def time_of_day(buf: Any, a: int, b: int) -> tuple[int, int]:  # Any: arrays inside kernels
    """Microseconds since midnight of HH:MM:SS with at most six decimals; second 60 is a leap second.

    Empty and 99:99:99 (never quoted) are null.
    """
    size = b - a
    if size <= 0:
        return 0, NULL
    if size < 8 or size > 15 or buf[a + 2] != _COLON or buf[a + 5] != _COLON:
        return 0, BAD_TIME
    hours, minutes, seconds = two(buf, a), two(buf, a + 3), two(buf, a + 6)
    if hours < 0 or minutes < 0 or seconds < 0:
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
    if hours == 99 and minutes == 99 and seconds == 99:
        return 0, NULL
    if hours > 23 or minutes > 59 or seconds > 60:
        return 0, BAD_TIME
    while places < 6:
        fraction *= 10
        places += 1
    return ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + fraction, 0


@njit(cache=True, error_model="numpy")
def day_number(year: int, month: int, day: int) -> tuple[int, int]:
    """Days since 1970 of a date between 1900 and 2199."""
    if year < 1900 or year > 2199 or month < 1 or month > 12 or day < 1 or day > month_length(year, month):
        return 0, BAD_DATE
    return days_from_civil(year, month, day), 0
