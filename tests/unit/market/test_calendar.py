"""Calendars: against the library they were made from, against a second one, and dates checked by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.paths import CALENDAR_DIR
from config.sections import CALENDARS
from pipeline_orchestrator.market.calendar import (
    ALWAYS_OPEN,
    NO_DAY,
    SESSION_STATES,
    Calendar,
    Session,
    calendar_named,
)
from pipeline_orchestrator.market.sessions import CalendarError, read_sessions

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NEW_YORK, CHICAGO = ZoneInfo("America/New_York"), ZoneInfo("America/Chicago")
XNYS, CME = calendar_named("XNYS"), calendar_named("CME")
ZONES = {"XNYS": NEW_YORK, "CME": CHICAGO}
MICROSECOND = timedelta(microseconds=1)
MINUTE = 60_000_000


def at(text: str, zone: ZoneInfo) -> int:
    return (datetime.fromisoformat(text).replace(tzinfo=zone) - EPOCH) // MICROSECOND


def day(text: str) -> int:
    return (date.fromisoformat(text) - date(1970, 1, 1)).days


def shown(us: int | None, zone: ZoneInfo) -> str:
    assert us is not None
    return (EPOCH + us * MICROSECOND).astimezone(zone).strftime("%Y-%m-%d %H:%M")


@pytest.fixture(scope="module", params=["XNYS", "CME"])
def named(request: pytest.FixtureRequest) -> Iterator[Calendar]:
    yield calendar_named(request.param)


@pytest.mark.parametrize(
    ("moment", "begin", "end"),
    [
        ("2026-11-20 09:30", "2026-11-20 09:30", "2026-11-20 16:00"),  # an ordinary Friday, from its first microsecond
        ("2026-11-27 12:59", "2026-11-27 09:30", "2026-11-27 13:00"),  # the day after Thanksgiving
        ("2024-07-03 10:00", "2024-07-03 09:30", "2024-07-03 13:00"),  # the day before Independence Day
        ("2024-12-24 10:00", "2024-12-24 09:30", "2024-12-24 13:00"),
        ("2025-03-07 10:00", "2025-03-07 09:30", "2025-03-07 16:00"),  # before daylight time ...
        ("2025-03-10 10:00", "2025-03-10 09:30", "2025-03-10 16:00"),  # ... and after its night
        ("2012-06-21 15:59", "2012-06-21 09:30", "2012-06-21 16:00"),
    ],
)
def test_new_york_is_open(moment: str, begin: str, end: str) -> None:
    found = XNYS.session_of(at(moment, NEW_YORK))
    assert (found.state, shown(found.begin, NEW_YORK), shown(found.end, NEW_YORK)) == ("open", begin, end)
    assert found.day == day(moment[:10])


@pytest.mark.parametrize(
    ("moment", "opens"),
    [
        ("2026-11-20 16:00", "2026-11-23 09:30"),  # the close itself is closed; over a weekend
        ("2026-11-26 12:00", "2026-11-27 09:30"),  # Thanksgiving
        ("2026-11-27 13:00", "2026-11-30 09:30"),  # after the early close
        ("2025-04-18 12:00", "2025-04-21 09:30"),  # Good Friday
        ("2025-01-09 12:00", "2025-01-10 09:30"),  # day of mourning
        ("2001-09-12 12:00", "2001-09-17 09:33"),  # two minutes of silence first
        ("2012-10-29 12:00", "2012-10-31 09:30"),  # hurricane
        ("2025-03-08 12:00", "2025-03-10 09:30"),  # over the night of the change
    ],
)
def test_new_york_is_closed_until(moment: str, opens: str) -> None:
    us = at(moment, NEW_YORK)
    found = XNYS.session_of(us)
    assert (found.state, shown(found.end, NEW_YORK), found.day) == ("closed", opens, None)
    assert shown(XNYS.next_open(us), NEW_YORK) == opens


def test_the_same_wall_clock_is_another_utc_hour_after_the_change() -> None:
    before, after = XNYS.session_of(at("2025-10-31 10:00", NEW_YORK)), XNYS.session_of(at("2025-11-03 10:00", NEW_YORK))
    assert before.begin is not None and after.begin is not None
    assert (after.begin - before.begin) == (3 * 24 + 1) * 60 * MINUTE


@pytest.mark.parametrize(
    ("moment", "begin", "end", "trading"),
    [
        ("2026-11-22 17:00", "2026-11-22 17:00", "2026-11-23 16:00", "2026-11-23"),  # Sunday evening
        ("2026-11-24 00:00", "2026-11-23 17:00", "2026-11-24 16:00", "2026-11-24"),  # across midnight
        ("2026-11-26 09:00", "2026-11-25 17:00", "2026-11-26 12:00", "2026-11-26"),  # Thanksgiving, early close
        ("2026-11-26 18:00", "2026-11-26 17:00", "2026-11-27 12:15", "2026-11-27"),
        ("2026-04-03 07:00", "2026-04-02 17:00", "2026-04-03 08:15", "2026-04-03"),  # Good Friday with a report
        ("2025-03-09 17:30", "2025-03-09 17:00", "2025-03-10 16:00", "2025-03-10"),  # the day daylight time begins
        ("2025-11-02 17:30", "2025-11-02 17:00", "2025-11-03 16:00", "2025-11-03"),  # the day it ends
        ("2025-01-09 08:00", "2025-01-08 17:00", "2025-01-09 08:30", "2025-01-09"),
    ],
)
def test_chicago_is_open_from_the_evening_before(moment: str, begin: str, end: str, trading: str) -> None:
    us = at(moment, CHICAGO)
    found = CME.session_of(us)
    assert (found.state, shown(found.begin, CHICAGO), shown(found.end, CHICAGO)) == ("open", begin, end)
    assert found.day == day(trading) == CME.trading_date_of(us)


@pytest.mark.parametrize(
    "moment",
    ["2026-11-20 16:00", "2026-11-20 16:59", "2026-11-22 16:59", "2025-04-18 10:00", "2025-12-25 10:00"],
)
def test_chicago_is_closed(moment: str) -> None:
    assert CME.session_of(at(moment, CHICAGO)).state == "closed"


@pytest.mark.parametrize(
    ("calendar", "moment", "zone", "expected"),
    [
        (CME, "2026-11-22 16:59:59.999999", CHICAGO, "2026-11-22"),
        (CME, "2026-11-20 16:30", CHICAGO, "2026-11-20"),  # the break still belongs to the day that ended
        (CME, "2026-11-20 17:00", CHICAGO, "2026-11-21"),  # a day without a session keeps its own date
        (XNYS, "2026-11-20 23:59:59", NEW_YORK, "2026-11-20"),
        (XNYS, "2026-11-21 00:00", NEW_YORK, "2026-11-21"),
        (ALWAYS_OPEN, "2026-03-07 23:59:59", NEW_YORK, "2026-03-07"),
        (ALWAYS_OPEN, "2026-03-08 00:00", NEW_YORK, "2026-03-08"),
        (ALWAYS_OPEN, "2026-11-01 23:59:59", NEW_YORK, "2026-11-01"),  # the day of 25 hours
        (ALWAYS_OPEN, "2026-11-02 00:00", NEW_YORK, "2026-11-02"),
    ],
)
def test_trading_dates(calendar: Calendar, moment: str, zone: ZoneInfo, expected: str) -> None:
    assert calendar.trading_date_of(at(moment, zone)) == day(expected)


def test_beyond_its_years_a_calendar_says_that_it_does_not_know(named: Calendar) -> None:
    known = named.sessions
    assert known is not None
    for us in (
        known.known_from - 1,
        known.known_until,
        at("1990-06-01 12:00", NEW_YORK),
        at("2090-06-01 12:00", NEW_YORK),
    ):
        assert named.session_of(us) == Session("unknown")
        assert named.trading_date_of(us) is None
        assert named.next_open(us) is None
    for us in (known.known_from, known.known_until - 1):
        assert named.session_of(us).state != "unknown"
        assert named.trading_date_of(us) is not None
    assert named.next_open(known.known_until - 1) is None, "the next one lies beyond"


def test_24x7_is_always_open_and_never_opens() -> None:
    for us in (-(10**15), 0, at("2090-12-25 03:00", NEW_YORK)):
        found = ALWAYS_OPEN.session_of(us)
        assert (found.state, found.begin, found.end) == ("open", None, None)
        assert ALWAYS_OPEN.next_open(us) is None


@given(st.data())
def test_one_moment_and_many_agree(data: st.DataObject) -> None:
    calendar = calendar_named(data.draw(st.sampled_from(CALENDARS)))
    known = calendar.sessions
    edges = [0, at("2026-11-01 01:30", NEW_YORK)]
    if known is not None:
        edges += [known.known_from, known.known_until, *known.begins.tolist(), *known.ends.tolist()]
    near = st.tuples(st.sampled_from(edges), st.integers(-2, 2)).map(sum)
    anywhere = st.integers(-(10**15), 4 * 10**15)
    times = data.draw(st.lists(near | anywhere, max_size=20))
    many = np.array(times, np.int64)
    states = [SESSION_STATES[code] for code in calendar.session_states(many).tolist()]
    assert states == [calendar.session_of(us).state for us in times]
    days = [None if found == NO_DAY else found for found in calendar.trading_dates(many).tolist()]
    assert days == [calendar.trading_date_of(us) for us in times]


@given(st.sampled_from(["XNYS", "CME"]), st.integers(0, 10**6), st.integers(0, 24 * 60 * MINUTE))
def test_a_moment_lies_within_what_is_said_of_it(name: str, number: int, later: int) -> None:
    calendar = calendar_named(name)
    assert calendar.sessions is not None
    begins = calendar.sessions.begins
    us = int(begins[number % len(begins)]) + later
    found = calendar.session_of(us)
    assert found.begin is None or found.begin <= us
    assert found.end is None or us < found.end
    if found.state == "open":
        assert found.day == calendar.trading_date_of(us)
    elif found.state == "closed":
        assert calendar.next_open(us) == found.end


def test_sessions_lie_on_whole_minutes_so_that_no_bar_crosses_one(named: Calendar) -> None:
    assert named.sessions is not None
    assert not (named.sessions.begins % MINUTE).any()
    assert not (named.sessions.ends % MINUTE).any()


def test_the_files_say_where_they_come_from(named: Calendar) -> None:
    document = json.loads((CALENDAR_DIR / f"{named.name}.json").read_text())
    source = document["source"]
    assert document["name"] == named.name
    assert source["library"] and source["version"] and source["calendar"]
    assert named.sessions is not None and source["version"] in named.sessions.source


def library_schedule(library: str, name: str, first: str, last: str) -> Any:
    """The schedule of a library, or a skip: they are for development."""
    if library == "exchange_calendars":
        xcals = pytest.importorskip("exchange_calendars", reason="not installed: a development dependency")
        frame = xcals.get_calendar(name, start=first, end=last).schedule
        return [(a.date(), b, c) for a, b, c in zip(frame.index, frame["open"], frame["close"], strict=True)]
    markets = pytest.importorskip("pandas_market_calendars", reason="not installed: a development dependency")
    frame = markets.get_calendar(name).schedule(first, last)
    return [(a.date(), b, c) for a, b, c in zip(frame.index, frame["market_open"], frame["market_close"], strict=True)]


def ours(calendar: Calendar, first: str, last: str) -> list[tuple[date, int, int]]:
    known = calendar.sessions
    assert known is not None
    rows = zip(known.days.tolist(), known.begins.tolist(), known.ends.tolist(), strict=True)
    return [(date(1970, 1, 1) + timedelta(days=d), b, e) for d, b, e in rows if day(first) <= d <= day(last)]


@pytest.mark.filterwarnings("ignore")  # of the libraries
@pytest.mark.parametrize(
    ("library", "theirs", "name", "first", "last"),
    [
        ("pandas_market_calendars", "NYSE", "XNYS", "2000-01-01", "2028-12-31"),
        ("exchange_calendars", "XNYS", "XNYS", "2007-01-01", "2027-12-31"),
        ("pandas_market_calendars", "CME Globex Equity", "CME", "2021-06-28", "2027-12-31"),
    ],
)
def test_sessions_equal_those_of_a_library(library: str, theirs: str, name: str, first: str, last: str) -> None:
    rows = [
        (label, begin.value // 1000, end.value // 1000)
        for label, begin, end in library_schedule(library, theirs, first, last)
    ]
    corrected = {date(2025, 1, 9)} | {date(y, m, d) for y, m, d in _QUIET_GOOD_FRIDAYS} if name == "CME" else set()
    found = ours(calendar_named(name), first, last)
    assert [row for row in found if row[0] not in corrected] == [row for row in rows if row[0] not in corrected]
    assert len(found) > 1500


_QUIET_GOOD_FRIDAYS = ((2022, 4, 15), (2024, 3, 29), (2025, 4, 18), (2027, 3, 26))


def test_an_unknown_name_names_those_there_are() -> None:
    with pytest.raises(KeyError, match="no calendar named 'nyse'; there is 24x7, XNYS, CME"):
        calendar_named("nyse")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"time_zone": "Europe/Berlin"}, "Europe/Berlin"),
        ({"hours": ["16:00", "09:30"]}, "overlap"),
        ({"first_date": "soon"}, "soon"),
    ],
)
def test_a_file_that_is_not_sound_is_refused_with_its_name(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    shutil.copy(CALENDAR_DIR / "XNYS.json", tmp_path)
    path = tmp_path / "XNYS.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CalendarError, match=said) as caught:
        read_sessions("XNYS", tmp_path)
    assert str(path) in str(caught.value)


def test_a_changed_day_changes_the_digest(tmp_path: Path) -> None:
    document = json.loads((CALENDAR_DIR / "XNYS.json").read_text())
    document["closed_weekdays"].remove("2028-12-25")
    (tmp_path / "XNYS.json").write_text(json.dumps(document))
    assert Calendar("XNYS", read_sessions("XNYS", tmp_path)).digest != XNYS.digest
