"""Fields of the feed as Python values: the plain form of what `kernel_fields` does to bytes.

An empty field is None. Every function raises LineError. Local times are microseconds of the Eastern wall clock since
1970-01-01; days count from there too.
"""

from __future__ import annotations

import re
from typing import Final

from pipeline_orchestrator.ingestion import reasons
from pipeline_orchestrator.ingestion.reasons import MAX_TEXT, LineError
from pipeline_orchestrator.market import eastern
from pipeline_orchestrator.market.eastern import DAY_US, HOUR_US

MAX_INT64: Final = (1 << 63) - 1
MAX_INT32: Final = (1 << 31) - 1
MAX_UINT64: Final = (1 << 64) - 1
DECIMALS: Final = 6
MIDNIGHT_LAG_US: Final = 2_000_000  # the clock has whole seconds: it may stand up to this far behind a quote

_INTEGER = re.compile(rb"-?[0-9]+\Z")
_PRICE = re.compile(rb"(-?)([0-9]*)(?:\.([0-9]*))?\Z")
_TIME = re.compile(rb"([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{0,6}))?\Z")
_UNKNOWN_TIME = re.compile(rb"99:99:99(?:\.[0-9]{0,6})?\Z")
_US_DATE = re.compile(rb"([0-9]{2})/([0-9]{2})/([0-9]{4})\Z")
_ISO_DATE = re.compile(rb"([0-9]{4})-([0-9]{2})-([0-9]{2})\Z")
_CLOCK = re.compile(rb"([0-9]{4})([0-9]{2})([0-9]{2}) (.*)\Z", re.DOTALL)
_PRINTABLE = re.compile(rb"[!-~]{1,%d}\Z" % MAX_TEXT)


def integer(text: bytes, largest: int = MAX_INT64) -> int | None:
    """A whole number of at most `largest` in magnitude."""
    if not text:
        return None
    if not _INTEGER.match(text):
        raise LineError(reasons.BAD_NUMBER)
    value = _bounded(text)
    if abs(value) > largest:
        raise LineError(reasons.OVERFLOW)
    return value


def unsigned_bits(text: bytes) -> int | None:
    """An unsigned 64-bit number as the signed integer with the same bits."""
    if not text:
        return None
    if not _INTEGER.match(text) or text.startswith(b"-"):
        raise LineError(reasons.BAD_NUMBER)
    value = _bounded(text)
    if value > MAX_UINT64:
        raise LineError(reasons.OVERFLOW)
    return value - (1 << 64) if value > MAX_INT64 else value


def price(text: bytes) -> int | None:
    """A decimal price in 1e-6 units; `12.` and `.5` are numbers, more than six decimals are refused."""
    if not text:
        return None
    match = _PRICE.match(text)
    if match is None:
        raise LineError(reasons.BAD_NUMBER)
    sign, whole, decimals = match[1], match[2], match[3] or b""
    if not whole and not decimals:
        raise LineError(reasons.BAD_NUMBER)
    if len(decimals) > DECIMALS:
        raise LineError(reasons.TOO_PRECISE)
    value = _bounded(whole + decimals.ljust(DECIMALS, b"0"))
    if value > MAX_INT64:
        raise LineError(reasons.OVERFLOW)
    return -value if sign else value


def time_of_day(text: bytes) -> int | None:
    """Microseconds since midnight; None for an empty time and for 99:99:99 (never quoted)."""
    if not text or _UNKNOWN_TIME.match(text):
        return None
    match = _TIME.match(text)
    if match is None:
        raise LineError(reasons.BAD_TIME)
    hours, minutes, seconds = int(match[1]), int(match[2]), int(match[3])
    if hours > 23 or minutes > 59 or seconds > 60:  # 60: a leap second
        raise LineError(reasons.BAD_TIME)
    fraction = int((match[4] or b"").ljust(6, b"0"))
    return ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + fraction


def date(text: bytes) -> int | None:
    """Day number of MM/DD/CCYY or CCYY-MM-DD."""
    if not text:
        return None
    if match := _US_DATE.match(text):
        return _day(int(match[3]), int(match[1]), int(match[2]))
    if match := _ISO_DATE.match(text):
        return _day(int(match[1]), int(match[2]), int(match[3]))
    raise LineError(reasons.BAD_DATE)


def clock(text: bytes) -> int:
    """Local time of a T: CCYYMMDD HH:MM:SS."""
    if not text:
        raise LineError(reasons.MISSING_FIELD)
    match = _CLOCK.match(text)
    if match is None:
        raise LineError(reasons.BAD_DATE)
    day = _day(int(match[1]), int(match[2]), int(match[3]))
    tod = time_of_day(match[4])
    if tod is None:
        raise LineError(reasons.BAD_TIME)
    return day * DAY_US + tod


def symbol(text: bytes) -> str:
    """A symbol: 1 to 64 printable characters."""
    if not text:
        raise LineError(reasons.MISSING_FIELD)
    if not _PRINTABLE.match(text):
        raise LineError(reasons.BAD_SYMBOL)
    return text.decode("ascii")


def symbol_or_none(text: bytes) -> str | None:
    """A symbol where there is one."""
    return text.decode("ascii") if _PRINTABLE.match(text) else None


def plain_text(text: bytes) -> str | None:
    """Conditions or a participant."""
    if not text:
        return None
    if not _PRINTABLE.match(text):
        raise LineError(reasons.BAD_TEXT)
    return text.decode("ascii")


def side(text: bytes) -> str:
    """B bid, A ask."""
    if not text:
        raise LineError(reasons.MISSING_FIELD)
    if text not in {b"A", b"B"}:
        raise LineError(reasons.BAD_VALUE)
    return "ask" if text == b"A" else "bid"


def flag(text: bytes) -> bool | None:
    """T or F."""
    if not text:
        return None
    if text not in {b"T", b"F"}:
        raise LineError(reasons.BAD_VALUE)
    return text == b"T"


def day_code(text: bytes) -> int | None:
    """Day of the month of a trading day, 1 to 31; 0 and empty mean unknown."""
    value = integer(text, MAX_INT32)
    if value is None or value == 0:
        return None
    if not 1 <= value <= 31:
        raise LineError(reasons.BAD_VALUE)
    return value


def nearest_day(code: int, near: int) -> int:
    """The day whose day of the month is `code` and which lies nearest to day `near` (the earlier on a tie)."""
    year, month, _ = eastern.civil_from_days(near)
    best, distance = near, 1 << 30
    for step in (-1, 0, 1):
        y, m = (year, month + step) if 1 <= month + step <= 12 else (year + step, 12 if step < 0 else 1)
        if code <= eastern.month_length(y, m):
            candidate = eastern.days_from_civil(y, m, code)
            if abs(candidate - near) < distance:
                best, distance = candidate, abs(candidate - near)
    return best


def dated(tod: int, clock_us: int) -> int:
    """Local time of a bare time of day, by the newest clock.

    More than an hour ahead of the clock = the day before; in the first two seconds of a day while the clock still
    shows the last two of the day before = the day after.
    """
    local = clock_us - clock_us % DAY_US + tod
    if local > clock_us + HOUR_US:
        return local - DAY_US
    if tod < MIDNIGHT_LAG_US and clock_us % DAY_US >= DAY_US - MIDNIGHT_LAG_US:
        return local + DAY_US
    return local


def _bounded(digits: bytes) -> int:
    """int() of any number of digits; anything far beyond 64 bits becomes one value that overflows everywhere."""
    counting = digits.lstrip(b"-0")
    if len(counting) > 24:
        return 1 << 80
    value = int(counting or b"0")
    return -value if digits.startswith(b"-") else value


def _day(year: int, month: int, day: int) -> int:
    if not (1900 <= year <= 2199 and 1 <= month <= 12 and 1 <= day <= eastern.month_length(year, month)):
        raise LineError(reasons.BAD_DATE)
    return int(eastern.days_from_civil(year, month, day))
