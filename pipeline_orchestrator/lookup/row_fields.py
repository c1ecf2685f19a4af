"""Fields of a history row as integers, inside kernels.

Each reader takes `buf[a:b]`, which is never empty, and returns (value, status): 0, or the code of a reason. Numbers and
times of day are in market.wire_fields.
"""

from __future__ import annotations

from typing import Any, Final

from numba import njit

from pipeline_orchestrator.market import wire_fields
from pipeline_orchestrator.market.wire_fields import MAX_TEXT, day_number, two

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
BAD_NUMBER: Final = wire_fields.BAD_NUMBER
TOO_PRECISE: Final = wire_fields.TOO_PRECISE
OVERFLOW: Final = wire_fields.OVERFLOW
BAD_TIME: Final = wire_fields.BAD_TIME
BAD_DATE: Final = wire_fields.BAD_DATE
BAD_VALUE: Final = 10
BAD_TEXT: Final = 11

_MINUS = 45


@njit(cache=True, error_model="numpy")
def date_key(buf: Any, a: int, b: int) -> tuple[int, int]:  # Any: arrays inside kernels
    """CCYYMMDD as a number of the first ten bytes CCYY-MM-DD; whether that day exists is not judged."""
    if b - a < 10 or buf[a + 4] != _MINUS or buf[a + 7] != _MINUS:
        return 0, BAD_DATE
    century, year, month, day = two(buf, a), two(buf, a + 2), two(buf, a + 5), two(buf, a + 8)
    if century < 0 or year < 0 or month < 0 or day < 0:
        return 0, BAD_DATE
    return ((century * 100 + year) * 100 + month) * 100 + day, 0


@njit(cache=True, error_model="numpy")
def day_of_key(key: int) -> tuple[int, int]:
    """Days since 1970 of CCYYMMDD, from 1900 to 2199."""
    return day_number(key // 10_000, key // 100 % 100, key % 100)


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
