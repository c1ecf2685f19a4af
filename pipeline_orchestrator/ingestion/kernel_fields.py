"""Fields of a line as integers, inside kernels: the compiled twin of `reference_fields`, with the same order of checks.

Each reader takes `buf[a:b]` and returns (value, status): status 0 = value, -1 = null (empty field), greater than 0 =
the code of a reason (see reasons.py).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit, uint64

from pipeline_orchestrator.ingestion.reasons import (
    BAD_DATE,
    BAD_NUMBER,
    BAD_SYMBOL,
    BAD_TEXT,
    BAD_TIME,
    BAD_VALUE,
    MAX_TEXT,
    MISSING_FIELD,
    OVERFLOW,
    TOO_PRECISE,
)
from pipeline_orchestrator.market.eastern import (
    DAY_US,
    days_from_civil,
    month_length,
)

NULL: Final = -1
MAX_INT64: Final = (1 << 63) - 1
MAX_INT32: Final = (1 << 31) - 1
_SAFE: Final = MAX_INT64 // 10 - 1  # below this another digit cannot overflow
_SAFE_DIGITS: Final = 18  # so many digits always fit
_SHORT_PRICE: Final = 12  # so many characters fit with six decimals added
_SCALES: Final = (1_000_000, 100_000, 10_000, 1_000, 100, 10, 1)

_DOT, _MINUS, _COLON, _SLASH, _SPACE, _NINE = 46, 45, 58, 47, 32, 57


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
def small(buf: Any, a: int, b: int) -> tuple[int, int]:  # Any: arrays inside kernels
    """Whole number that fits 32 bits."""
    value, status = digits(buf, a, b, True)
    if status == 0 and (value > MAX_INT32 or value < -MAX_INT32):
        return 0, OVERFLOW
    return value, status


@njit(cache=True, error_model="numpy")
def unsigned_bits(buf: Any, a: int, b: int) -> tuple[int, int]:  # Any: arrays inside kernels
    """Unsigned 64-bit number as the signed integer with the same bits."""
    if a >= b:
        return 0, NULL
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
    """Decimal in 1e-6 units, at most six decimals."""
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
def _two(buf: Any, a: int) -> int:  # Any: arrays inside kernels
    """Two digits, -1 where one is none."""
    high, low = int(buf[a]) - 48, int(buf[a + 1]) - 48
    if high < 0 or high > 9 or low < 0 or low > 9:
        return -1
    return high * 10 + low


@njit(cache=True, error_model="numpy")
def time_of_day(buf: Any, a: int, b: int) -> tuple[int, int]:  # Any: arrays inside kernels
    """Microseconds since midnight; empty and 99:99:99 are null."""
    size = b - a
    if size <= 0:
        return 0, NULL
    if size < 8 or size > 15 or buf[a + 2] != _COLON or buf[a + 5] != _COLON:
        return 0, BAD_TIME
    hours, minutes, seconds = _two(buf, a), _two(buf, a + 3), _two(buf, a + 6)
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
    """Day number of a date between 1900 and 2199."""
    if year < 1900 or year > 2199 or month < 1 or month > 12 or day < 1 or day > month_length(year, month):
        return 0, BAD_DATE
    return days_from_civil(year, month, day), 0


@njit(cache=True, error_model="numpy")
def date(buf: Any, a: int, b: int) -> tuple[int, int]:  # Any: arrays inside kernels
    """Day number of MM/DD/CCYY or CCYY-MM-DD."""
    if a >= b:
        return 0, NULL
    if b - a != 10:
        return 0, BAD_DATE
    if buf[a + 2] == _SLASH and buf[a + 5] == _SLASH:
        month, day, century, rest = _two(buf, a), _two(buf, a + 3), _two(buf, a + 6), _two(buf, a + 8)
    elif buf[a + 4] == _MINUS and buf[a + 7] == _MINUS:
        century, rest, month, day = _two(buf, a), _two(buf, a + 2), _two(buf, a + 5), _two(buf, a + 8)
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
    century, rest, month, day = _two(buf, a), _two(buf, a + 2), _two(buf, a + 4), _two(buf, a + 6)
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
def side(buf: Any, a: int, b: int) -> tuple[int, int]:  # Any: arrays inside kernels
    """0 bid, 1 ask (the codes of market.events.SIDES)."""
    if a >= b:
        return 0, MISSING_FIELD
    if b - a == 1 and buf[a] == 66:
        return 0, 0
    if b - a == 1 and buf[a] == 65:
        return 1, 0
    return 0, BAD_VALUE


@njit(cache=True, error_model="numpy")
def flag(buf: Any, a: int, b: int) -> tuple[int, int]:  # Any: arrays inside kernels
    """1 for T, 0 for F; empty is null."""
    if a >= b:
        return 0, NULL
    if b - a == 1 and buf[a] == 84:
        return 1, 0
    if b - a == 1 and buf[a] == 70:
        return 0, 0
    return 0, BAD_VALUE


@njit(cache=True, error_model="numpy")
def correction_letter(buf: Any, a: int, b: int) -> tuple[int, int]:  # Any: arrays inside kernels
    """0 for I, 1 for X (codes of the schema's enum)."""
    if a >= b:
        return 0, MISSING_FIELD
    if b - a == 1 and buf[a] == 73:
        return 0, 0
    if b - a == 1 and buf[a] == 88:
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
    value, status = small(buf, a, b)
    if status != 0:
        return 0, status
    if value == 0:
        return 0, NULL
    if value < 1 or value > 31:
        return 0, BAD_VALUE
    return value, 0
