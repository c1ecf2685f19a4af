"""Eastern wall clock against the time zone database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_orchestrator.market import eastern

EPOCH = datetime(1970, 1, 1)
EPOCH_UTC = EPOCH.replace(tzinfo=UTC)

try:
    NEW_YORK = ZoneInfo("America/New_York")
except ZoneInfoNotFoundError:  # pragma: no cover - depends on the machine
    pytest.skip("this machine has no time zone database to compare with", allow_module_level=True)


def micros(delta: timedelta) -> int:
    return delta // timedelta(microseconds=1)


@given(st.datetimes(datetime(1987, 1, 1), datetime(2099, 12, 31)))
@settings(max_examples=400, deadline=None)
def test_every_instant_has_the_wall_time_of_the_zone_database(instant: datetime) -> None:
    utc = instant.replace(tzinfo=UTC)
    wall = utc.astimezone(NEW_YORK).replace(tzinfo=None)
    utc_us = micros(utc - EPOCH_UTC)
    assert eastern.utc_to_eastern_us(utc_us) == micros(wall - EPOCH)
    assert eastern.eastern_to_utc_us(micros(wall - EPOCH), utc_us) == utc_us


@pytest.mark.parametrize("year", range(1988, 2060))
def test_hours_around_both_changes_of_every_year(year: int) -> None:
    for days in eastern.daylight_days(year):
        for quarter in range(-8, 40):
            utc = EPOCH_UTC + timedelta(days=days, minutes=15 * quarter)
            wall = micros(utc.astimezone(NEW_YORK).replace(tzinfo=None) - EPOCH)
            utc_us = micros(utc - EPOCH_UTC)
            assert eastern.utc_to_eastern_us(utc_us) == wall
            assert eastern.eastern_to_utc_us(wall, utc_us + 2_000_000) == utc_us


def test_the_hour_that_does_not_exist_is_read_as_standard_time() -> None:
    wall = datetime(2024, 3, 10, 2, 30)
    expected = wall.replace(tzinfo=NEW_YORK).astimezone(UTC)
    assert eastern.eastern_to_utc_us(micros(wall - EPOCH), 0) == micros(expected - EPOCH_UTC)


def test_the_repeated_hour_follows_the_receipt() -> None:
    wall = micros(datetime(2024, 11, 3, 1, 30) - EPOCH)
    first, second = wall + eastern.DAYLIGHT_US, wall + eastern.STANDARD_US
    assert eastern.eastern_to_utc_us(wall, first + 5) == first
    assert eastern.eastern_to_utc_us(wall, second + 5) == second


@given(st.dates(datetime(1900, 1, 1).date(), datetime(2200, 12, 31).date()))
@settings(deadline=None)
def test_civil_dates_match_the_standard_library(day: datetime) -> None:
    days = (day - EPOCH.date()).days  # type: ignore[operator]
    assert eastern.days_from_civil(day.year, day.month, day.day) == days
    assert eastern.civil_from_days(days) == (day.year, day.month, day.day)
