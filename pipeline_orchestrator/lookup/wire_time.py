"""Instants as the Lookup port takes them: US Eastern wall clock in whole seconds.

A begin is rounded down and an end up, so that what is asked for is never less than what was meant. In the hour that
November repeats a wall time names two instants, and nothing tells which one the feed takes. So a begin within the
first pass is asked for as 00:59:59, and an end within the second as 02:00:00: wider by at most an hour.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from pipeline_orchestrator.market.eastern import (
    DAY_US,
    DAYLIGHT_US,
    HOUR_US,
    SWITCH_US,
    civil_from_days,
    day_rule,
    days_from_civil,
    eastern_to_utc_us,
    utc_to_eastern_us,
)

SECOND_US = 1_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_US = 7_258_118_400 * SECOND_US  # 2200-01-01 00:00 UTC
DAYLIGHT_ENDS = 3  # of day_rule

Instant = datetime | int  # aware datetime, or microseconds since 1970 UTC


def microseconds(instant: Instant, name: str = "time") -> int:
    """Microseconds since 1970 UTC. Raises ValueError for a datetime without a zone and outside of 1970 to 2199."""
    if isinstance(instant, datetime):
        if instant.tzinfo is None:
            raise ValueError(f"{name} {instant.isoformat(' ')} has no time zone; give an aware datetime")
        instant = (instant - EPOCH) // timedelta(microseconds=1)
    if not 0 <= instant < LAST_US:
        raise ValueError(f"{name} {instant} µs lies outside of the years 1970 to 2199")
    return instant


def begin_text(us: int) -> str:
    """`CCYYMMDD HHMMSS` at or before an instant; see the module for the hour that repeats."""
    whole = us - us % SECOND_US
    local = int(utc_to_eastern_us(whole))
    if _repeats(local) and local + DAYLIGHT_US == whole:
        local = local - local % DAY_US + HOUR_US - SECOND_US
    return _text(local)


def end_text(us: int) -> str:
    """`CCYYMMDD HHMMSS` at or after an instant; see the module for the hour that repeats."""
    whole = us + -us % SECOND_US
    local = int(utc_to_eastern_us(whole))
    if _repeats(local) and local + DAYLIGHT_US != whole:
        local = local - local % DAY_US + SWITCH_US
    return _text(local)


def day_text(day: date) -> str:
    """`CCYYMMDD`."""
    return f"{day.year:04}{day.month:02}{day.day:02}"


def eastern_date(us: int) -> date:
    """The Eastern calendar date of an instant."""
    year, month, day = civil_from_days(int(utc_to_eastern_us(us)) // DAY_US)
    return date(year, month, day)


def eastern_midnight_us(day: date) -> int:
    """The instant at which an Eastern calendar date begins."""
    return int(eastern_to_utc_us(days_from_civil(day.year, day.month, day.day) * DAY_US, 0))


def wall_to_utc_us(wall: datetime) -> int:
    """The instant of an Eastern wall time (a naive datetime); of the two in November the earlier one."""
    local = (wall.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
    return int(eastern_to_utc_us(local, local))


def _repeats(local_us: int) -> bool:
    return bool(day_rule(local_us // DAY_US) == DAYLIGHT_ENDS and HOUR_US <= local_us % DAY_US < SWITCH_US)


def _text(local_us: int) -> str:
    year, month, day = civil_from_days(local_us // DAY_US)
    seconds = local_us % DAY_US // SECOND_US
    return f"{year:04}{month:02}{day:02} {seconds // 3600:02}{seconds // 60 % 60:02}{seconds % 60:02}"
