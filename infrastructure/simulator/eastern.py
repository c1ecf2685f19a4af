"""The Eastern wall clock of the feed as plain microseconds (see columns.py)."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from infrastructure.simulator.columns import DAY_US, SECOND_US

NEW_YORK = ZoneInfo("America/New_York")
_EPOCH_DAY = date(1970, 1, 1).toordinal()


def eastern_us(utc_ns: int | None = None) -> int:
    """The Eastern wall clock at a UTC time (default: now).

    A market reads this once, at its start: its own clock never repeats the hour that November repeats.
    """
    utc = time.time_ns() if utc_ns is None else utc_ns
    offset = datetime.fromtimestamp(utc / 1e9, tz=UTC).astimezone(NEW_YORK).utcoffset()
    assert offset is not None
    return utc // 1000 + int(offset.total_seconds()) * SECOND_US


def utc_us() -> int:
    """Now, in UTC microseconds."""
    return time.time_ns() // 1000


def offset_us(utc_us: int) -> int:
    """Eastern wall clock minus UTC at an instant."""
    offset = datetime.fromtimestamp(utc_us // SECOND_US, tz=UTC).astimezone(NEW_YORK).utcoffset()
    assert offset is not None
    return int(offset.total_seconds()) * SECOND_US


def next_change_us(utc_us: int) -> int:
    """The first instant after `utc_us` at which the offset is another, found by halves: at most a year ahead."""
    low, high = utc_us, utc_us
    while offset_us(high) == offset_us(utc_us):
        low, high = high, high + 7 * DAY_US
        if high > utc_us + 366 * DAY_US:
            return high  # a zone that changes no more
    while high - low > 1:
        middle = (low + high) // 2
        if offset_us(middle) == offset_us(utc_us):
            low = middle
        else:
            high = middle
    return high


def midnight_us(day: date) -> int:
    """Midnight of a day on that clock."""
    return (day.toordinal() - _EPOCH_DAY) * DAY_US


def clock_text(time_us: int) -> str:
    """CCYYMMDD HH:MM:SS, the form of a T line."""
    return datetime.fromtimestamp(time_us // SECOND_US, tz=UTC).strftime("%Y%m%d %H:%M:%S")
