"""Request lines: field by field as the feed takes them; what could not be meant is refused before it is sent."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_orchestrator.lookup import requests as ask
from pipeline_orchestrator.lookup import wire_time

BEGIN, END = datetime(2021, 6, 7, 14, tzinfo=UTC), datetime(2021, 6, 7, 14, 10, tzinfo=UTC)
OPEN, CLOSE = time(9, 30), time(16)
FULL: dict[str, Any] = {"max_points": 50, "begin_filter": OPEN, "end_filter": CLOSE}


@pytest.mark.parametrize(
    ("request_", "line"),
    [
        (ask.newest_ticks("aapl", 100), "HTX,AAPL,100,1,R1,500"),
        (ask.ticks_of_days("AAPL", 3, newest_first=True), "HTD,AAPL,3,,,,0,R1,500"),
        (
            ask.ticks_between("AAPL", BEGIN, END, **FULL),
            "HTT,AAPL,20210607 100000,20210607 101000,50,093000,160000,1,R1,500",
        ),
        (ask.newest_intervals("AAPL", 60, 10, label_at_begin=False), "HIX,AAPL,60,10,1,R1,500,s,0"),
        (ask.intervals_of_days("AAPL", 1000, 2, unit="v"), "HID,AAPL,1000,2,,,,1,R1,500,v,1"),
        (
            ask.intervals_between("@ES#", 60, BEGIN, END, per_send=100),
            "HIT,@ES#,60,20210607 100000,20210607 101000,,,,1,R1,100,s,1",
        ),
        (ask.newest_days("SPY", 20), "HDX,SPY,20,1,R1,500"),
        (ask.newest_weeks("SPY", 20, include_partial=True), "HWX,SPY,20,1,R1,500,1"),
        (ask.newest_months("SPY", 20, include_partial=False), "HMX,SPY,20,1,R1,500,0"),
        (ask.days_between("SPY", date(2021, 3, 1), date(2021, 3, 31)), "HDT,SPY,20210301,20210331,,1,R1,500"),
        (ask.reference_table("SLM"), "SLM,R1"),
        (ask.symbol_search("aap", security_types=(1, 2)), "SBF,s,aap,t,1 2,R1"),
        (ask.symbol_search("oil", in_description=True), "SBF,d,oil,,,R1"),
    ],
)
def test_each_request_has_its_fields_in_order(request_: ask.Request, line: str) -> None:
    assert request_.line("R1") == line.encode() + b"\r\n"


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: ask.newest_ticks("", 1), "symbol"),
        (lambda: ask.newest_ticks("A,B", 1), "symbol"),
        (lambda: ask.newest_ticks("A" * 31, 1), "symbol"),
        (lambda: ask.newest_ticks("A\r\nS,DISCONNECT", 1), "symbol"),
        (lambda: ask.newest_ticks("A", 0), "max_points"),
        (lambda: ask.newest_ticks("A", True), "max_points"),
        (lambda: ask.newest_ticks("A", 1, per_send=0), "per_send"),
        (lambda: ask.newest_ticks("A", 1, per_send=1_000_000), "per_send"),
        (lambda: ask.ticks_of_days("A", -1), "days"),
        (lambda: ask.ticks_between("A", END, BEGIN), "after its end"),
        (lambda: ask.ticks_between("A", datetime(2021, 1, 1), END), "no time zone"),
        (lambda: ask.ticks_between("A", -1, 5), "1970"),
        (lambda: ask.ticks_between("A", BEGIN, END, begin_filter=time(9, 30, 0, 1)), "begin_filter"),
        (lambda: ask.ticks_between("A", BEGIN, END, begin_filter=OPEN, end_filter=OPEN), "nothing would be left"),
        (lambda: ask.newest_intervals("A", 0, 1), "interval"),
        (lambda: ask.newest_intervals("A", 86_401, 1), "interval"),
        (lambda: ask.newest_intervals("A", 1, 1, unit="h"), "unit"),  # type: ignore[arg-type]
        (lambda: ask.days_between("A", date(2021, 2, 1), date(2021, 1, 1)), "ends before"),
        (lambda: ask.reference_table("XXX"), "SLM"),
        (lambda: ask.symbol_search("a,b"), "search text"),
        (lambda: ask.symbol_search("a", markets=(1,), security_types=(1,)), "not by both"),
    ],
)
def test_an_impossible_value_is_refused_by_name(build: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        build()


@pytest.mark.parametrize("request_id", ["", "a,b", "a b", "x" * 65, "ä", "a\n"])
def test_an_id_that_could_not_be_told_apart_is_refused(request_id: str) -> None:
    with pytest.raises(ValueError, match="request id"):
        ask.reference_table("SLM").line(request_id)


def test_a_begin_is_rounded_down_and_an_end_up() -> None:
    zone = timezone(timedelta(hours=2))
    begin = datetime(2021, 6, 7, 16, 0, 0, 999_999, tzinfo=zone)
    line = ask.ticks_between("A", begin, begin + timedelta(microseconds=1)).line("1")
    assert line.startswith(b"HTT,A,20210607 100000,20210607 100001,")
    assert ask.ticks_between("A", begin, begin).line("1").startswith(b"HTT,A,20210607 100000,20210607 100001,")


def test_in_the_repeated_hour_more_is_asked_for_and_never_less() -> None:
    first = wire_time.microseconds(datetime(2024, 11, 3, 5, 30, tzinfo=UTC))  # 01:30 EDT
    second = first + 3_600_000_000  # 01:30 EST
    assert (wire_time.begin_text(first), wire_time.end_text(first)) == ("20241103 005959", "20241103 013000")
    assert (wire_time.begin_text(second), wire_time.end_text(second)) == ("20241103 013000", "20241103 020000")


@given(us=st.integers(0, wire_time.LAST_US - 1))
def test_what_is_asked_for_encloses_what_was_meant(us: int) -> None:
    def readings(text: str) -> list[int]:
        wall = datetime.strptime(text, "%Y%m%d %H%M%S").replace(tzinfo=ZoneInfo("America/New_York"))
        return [int(wall.replace(fold=fold).timestamp()) * 1_000_000 for fold in (0, 1)]

    if us >= 567_993_600_000_000:  # 1988: the rules of market.eastern are exact from there on
        assert max(readings(wire_time.begin_text(us))) <= us <= min(readings(wire_time.end_text(us)))
        assert min(readings(wire_time.begin_text(us))) > us - 3_602_000_000
        assert max(readings(wire_time.end_text(us))) < us + 3_602_000_000
