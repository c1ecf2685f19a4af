"""Rows of history: every version, exact ids, refused lines with their place, equal to the plain reference."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline_orchestrator.lookup.row_layouts import PROTOCOLS, layout
from pipeline_orchestrator.lookup.row_parser import Parsed, RowParser
from tests.unit.lookup.reference_rows import Reference

TICK_REST = b"5,1.4,1.6,7,C,5,01,0,3,"
TICK = b"2018-04-17 17:51:22.123456,96.0700,1061909,0,0.0000,0.0000,4145784264,O,19,143A,2,17"


def one(rows: str, protocol: str, line: bytes, request_id: bytes = b"") -> dict[str, Any]:
    parsed = RowParser(rows, protocol, request_id=request_id).parse(line)
    assert parsed.refused == ()
    parsed.rows.validate(full=True)
    row: dict[str, Any] = parsed.rows.to_pylist()[0]
    return row


def us(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp()) * 1_000_000  # type: ignore[misc,arg-type]


def test_a_tick_of_6_2_has_every_field() -> None:
    assert one("ticks", "6.2", b"LH," + TICK + b"\r\n") == {
        "event_time_us": us(2018, 4, 17, 21, 51, 22) + 123456,
        "price": 96_070_000,
        "size": 1_061_909,
        "total_volume": 0,
        "bid": 0,
        "ask": 0,
        "tick_id": 4_145_784_264,
        "basis": "O",
        "market_center": 19,
        "conditions": "143A",
        "aggressor": 2,
        "day_code": 17,
    }


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b",\n", b",\r\n", b",more,fields,\r\n"])
def test_both_line_ends_a_trailing_comma_and_new_fields_change_nothing(end: bytes) -> None:
    assert one("ticks", "6.2", b"LH," + TICK + end) == one("ticks", "6.1", TICK)


@pytest.mark.parametrize("request_id", [b"I", b"O", b"E", b"LH", b"!ENDMSG!", b"S", b"1"])
def test_the_request_id_is_cut_off_by_exact_match(request_id: bytes) -> None:
    assert one("ticks", "6.2", request_id + b",LH," + TICK, request_id) == one("ticks", "6.2", b"LH," + TICK)
    other = RowParser("ticks", "6.2", request_id=request_id).parse(request_id + b"0,LH," + TICK)
    assert [row.reason for row in other.refused] == ["foreign_id"]


def test_6_0_has_no_aggressor_and_5_1_has_milliseconds() -> None:
    line = b"2019-02-25 11:30:06.691,23.8800,12,6714,23.8700,23.9700,6,O,25,3D87,"
    for protocol in ("6.0", "5.1"):
        row = one("ticks", protocol, line)
        assert row["event_time_us"] == us(2019, 2, 25, 16, 30, 6) + 691_000
        assert (row["conditions"], row["aggressor"], row["day_code"]) == ("3D87", None, None)


def test_without_a_protocol_the_basis_stands_last() -> None:
    row = one("ticks", "", b"2021-06-09 15:34:59,126.1250,100,55829120,126.1200,126.1300,126639,0,0,C,\r\n")
    assert (row["basis"], row["market_center"], row["conditions"], row["tick_id"]) == ("C", None, None, 126639)


def test_bars_come_high_low_open_close() -> None:
    row = one("intervals", "6.2", b"I,LH,2023-06-28 00:00:00,4411.50,4411.25,4411.30,4411.40,42885,55,0,\r\n", b"I")
    assert [row[name] for name in ("high", "low", "open", "close")] == [
        4_411_500_000, 4_411_250_000, 4_411_300_000, 4_411_400_000,
    ]  # fmt: skip
    assert (row["label_time_us"], row["total_volume"], row["volume"]) == (us(2023, 6, 28, 4), 42885, 55)
    day = one("days", "", b"2021-03-31 17:28:55,123.52,121.15,121.65,122.15,118323826,0,")
    assert (day["date"], day["volume"], day["open_interest"]) == (date(2021, 3, 31), 118_323_826, 0)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "empty_line"),
        (TICK, "missing_tag"),
        (b"LH,2018-04-17 17:51:22,96.07", "missing_field"),
        (b"LH,2018-04-17 17:51:22,,1,", "missing_field"),
        (b"LH,2018-02-30 17:51:22,1,1,", "bad_date"),
        (b"LH,2018-04-17T17:51:22,1,1,", "bad_time"),
        (b"LH,2018-04-17 24:00:00,1,1,", "bad_time"),
        (b"LH,2018-04-17 17:51:22,1.2345678,1,", "too_precise"),
        (b"LH,2018-04-17 17:51:22,9999999999999999,1,", "overflow"),
        (b"LH,2018-04-17 17:51:22,1,-5,", "bad_number"),
        (b"LH,2018-04-17 17:51:22,1,1,1,1,1,1,c,", "bad_value"),
        (b"LH,2018-04-17 17:51:22,1,1,1,1,1,1,C,1,a b,", "bad_text"),
        (b"LH,2018-04-17 17:51:22,1,1,1,1,1,1,C,1,01,0,32,", "bad_value"),
    ],
)
def test_a_line_that_cannot_be_read_is_refused_with_text_and_place(line: bytes, reason: str) -> None:
    parser = RowParser("ticks", "6.2")
    good = b"LH," + TICK + b"\r\n"
    first = parser.parse(good + good)
    second = parser.parse(good + line + b"\r\n" + good)
    assert (len(first.rows), len(second.rows)) == (2, 2)
    assert [(row.number, row.text, row.reason) for row in second.refused] == [(3, line, reason)]


def test_in_the_hour_that_november_repeats_the_order_of_the_answer_decides() -> None:
    walls = [b"00:59:59", b"01:00:00", b"01:59:59", b"01:00:00", b"01:30:00", b"01:30:00", b"02:00:00"]
    lines = [b"2024-11-03 %s,1.5,1,\n" % wall for wall in walls]
    begin = us(2024, 11, 3, 4, 59, 59)
    expected = [begin, begin + 1_000_000, begin + 3_600_000_000]
    expected += [us(2024, 11, 3, 6), us(2024, 11, 3, 6, 30), us(2024, 11, 3, 6, 30), us(2024, 11, 3, 7)]
    oldest_first = RowParser("ticks", "6.1").parse(b"".join(lines))
    assert oldest_first.rows.column("event_time_us").to_pylist() == expected
    newest_first = RowParser("ticks", "6.1", newest_first=True).parse(b"".join(reversed(lines)))
    assert newest_first.rows.column("event_time_us").to_pylist() == expected[::-1]


def test_in_the_repeated_hour_the_first_row_is_never_before_the_begin_asked_for() -> None:
    line = b"2024-11-03 01:30:00,1.5,1,"
    second_pass = us(2024, 11, 3, 6, 30)
    for bound, expected in ((None, second_pass - 3_600_000_000), (us(2024, 11, 3, 6), second_pass)):
        rows = RowParser("ticks", "6.1", bound_us=bound).parse(line).rows
        assert rows.column("event_time_us").to_pylist() == [expected]


@pytest.mark.parametrize(
    ("day", "utc"),
    [
        ("2024-11-03", us(2024, 11, 4, 5)),  # standard time since 02:00
        ("2024-11-02", us(2024, 11, 3, 4)),
        ("2024-03-10", us(2024, 3, 11, 4)),  # daylight time since 02:00
        ("2024-03-09", us(2024, 3, 10, 5)),
    ],
)
@pytest.mark.parametrize("newest_first", [False, True])
def test_a_leap_second_at_midnight_is_read_by_the_rule_of_the_day_it_begins(
    day: str, utc: int, newest_first: bool
) -> None:
    line = f"{day} 23:59:60.000000,1.0,1,1,1.0,1.0,1,C,11,01,0,2,".encode()
    parsed = RowParser("ticks", "6.1", newest_first=newest_first).parse(line)
    assert parsed.rows.column("event_time_us").to_pylist() == [utc]


def test_a_version_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match=r"7\.0"):
        layout("ticks", "7.0")


def test_no_bytes_are_no_rows() -> None:
    parsed = RowParser("days", "6.2").parse(b"")
    assert (len(parsed.rows), parsed.refused) == (0, ())


def rows_of(parsed: Parsed) -> tuple[list[dict[str, Any]], list[tuple[int, bytes, str]]]:
    return parsed.rows.to_pylist(), [(row.number, row.text, row.reason) for row in parsed.refused]


_DAY = st.sampled_from([b"2024-11-03", b"2024-03-10", b"2021-03-01", b"2006-10-29", b"2024-02-30", b"1899-01-01", b"x"])
_CLOCK = st.builds(
    lambda h, m, s, f: b"%02d:%02d:%02d%s" % (h, m, s, f),
    st.sampled_from([0, 1, 1, 1, 2, 9, 23, 24]), st.integers(0, 60), st.integers(0, 61),
    st.sampled_from([b"", b".", b".5", b".691", b".123456", b".1234567", b".x"]),
)  # fmt: skip
_NUMBER = st.one_of(
    st.sampled_from([b"", b"0", b"1", b"31", b"32", b"-1", b"x", b"1.5", b"12.", b".5", b".", b"-", b"-1.25"]),
    st.integers(0, 2**65).map(lambda value: b"%d" % value),
    st.sampled_from([b"9223372036854775807", b"9223372036854775808", b"18446744073709551615", b"18446744073709551616",
                     b"9223372036854.775807", b"9223372036854.775808", b"000000000000000000000000001"]),
)  # fmt: skip
_TEXT = st.one_of(
    st.sampled_from([b"C", b"E", b"O", b"S", b"", b"c", b"CE", b"873D17", b"01", b"a b", b"F" * 64, b"F" * 65]),
    st.binary(max_size=8).map(lambda raw: raw.translate(None, b"\n\r")),
)
_FIELD = st.one_of(_NUMBER, _NUMBER, _TEXT)
_LINE = st.builds(
    lambda front, day, gap, clock, fields: front + day + gap + clock + b"," + b",".join(fields),
    st.sampled_from([b"R1,LH,", b"R1,LH,", b"R1,LH,", b"R1,LH,", b"R1,", b"LH,", b"R2,LH,", b"E,"]),
    _DAY, st.sampled_from([b" ", b" ", b" ", b"T", b""]), _CLOCK, st.lists(_FIELD, max_size=14),
)  # fmt: skip
_SOUND = st.builds(
    lambda day, clock, price, rest: b"R1,LH,%s %s,%s,10,%s" % (day, clock, price, rest),
    st.sampled_from([b"2024-11-03", b"2021-03-01"]), _CLOCK, st.sampled_from([b"1.5", b"-2.", b"189.7000"]),
    st.sampled_from([b"5,1.4,1.6,7,C,5,01,0,3,", b"", b"9,1,1,1,1,1,1,", b"1.1,1.1,,5,,", b"1,2,3,4,O,19,,3,0"]),
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    lines=st.lists(st.one_of(_LINE, _SOUND, _SOUND, st.just(b"")), max_size=12),
    end=st.sampled_from([b"\n", b"\r\n"]),
    rows=st.sampled_from(["ticks", "intervals", "days"]),
    protocol=st.sampled_from(PROTOCOLS),
    newest_first=st.booleans(),
    cut=st.integers(0, 12),
    whole=st.booleans(),
)
@example([b"R1,LH,2024-11-03 01:30:00,1.5,1,"] * 3, b"\r\n", "ticks", "6.2", True, 1, True)
@example([b"R1,LH,1900-05-01 00:00:00,1.5,1," + TICK_REST], b"\n", "ticks", "6.2", False, 1, True)
@example([b"R1,LH,1974-01-06 12:00:00,1.5,1," + TICK_REST], b"\n", "ticks", "6.2", False, 1, True)
@example([b"R1,LH,2024-11-03 01:30:00," + b"0" * 5000 + b"1.5,1," + TICK_REST], b"\n", "ticks", "6.2", False, 1, True)
def test_the_kernel_equals_the_plain_reference_however_an_answer_is_cut(
    lines: list[bytes], end: bytes, rows: str, protocol: str, newest_first: bool, cut: int, whole: bool
) -> None:
    if protocol != "6.2":
        lines = [line.replace(b"LH,", b"") for line in lines]
    data = b"".join(line + end for line in lines)
    if not whole and lines and lines[-1]:
        data = data.removesuffix(end)
    expected = Reference(rows, protocol, b"R1", newest_first).parse(data)
    at_once = RowParser(rows, protocol, request_id=b"R1", newest_first=newest_first).parse(data)
    at_once.rows.validate(full=True)
    assert rows_of(at_once) == expected
    first = b"".join(data.splitlines(keepends=True)[:cut])
    parser = RowParser(rows, protocol, request_id=b"R1", newest_first=newest_first)
    parts = [parser.parse(first), parser.parse(data[len(first) :])]
    table = pa.Table.from_batches([part.rows for part in parts])
    assert (table.to_pylist(), [row for part in parts for row in part.refused]) == (
        at_once.rows.to_pylist(), list(at_once.refused),
    )  # fmt: skip
