"""From line to event, line by line, with the values written out."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from pipeline_orchestrator.ingestion.context import ParserContext
from pipeline_orchestrator.ingestion.layout import DEFAULT_LAYOUT, SELECTED, SYMBOL
from pipeline_orchestrator.ingestion.reasons import LineError
from pipeline_orchestrator.ingestion.reference_parser import Event, parse_line

LEVEL1, LEVEL2 = 1, 2
EPOCH = date(1970, 1, 1)
LAYOUT = (SYMBOL, *SELECTED)


def local(text: str) -> int:
    """Eastern wall clock as the parser keeps it."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000_000)


def utc(text: str) -> int:
    """UTC microseconds of an Eastern wall clock time."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("America/New_York")).timestamp() * 1_000_000)


def day(text: str) -> int:
    return (date.fromisoformat(text) - EPOCH).days


def event(line: bytes, port: int = LEVEL1, clock: str | None = "2024-01-02 10:00:00", layout: Any = LAYOUT) -> Event:
    context = ParserContext(tuple(layout), None if clock is None else local(clock))
    found, _ = parse_line(line, port, context, utc("2024-01-02 10:00:00"))
    return {name: value for name, value in found.items() if value is not None}


def update(kind: str = "Q", **fields: str) -> bytes:
    names = {name.replace(" ", "_"): name for name in SELECTED}
    by_name = {names[key]: value for key, value in fields.items()}
    return f"{kind},AAPL,{','.join(by_name.get(name, '') for name in SELECTED)},".encode()


TRADE = {
    "Most_Recent_Trade": "189.7000",
    "Most_Recent_Trade_Size": "120",
    "Most_Recent_Trade_Date": "01/02/2024",
    "Most_Recent_Trade_Time": "09:59:59.123456",
    "Most_Recent_Trade_Conditions": "873D17",
    "Most_Recent_Trade_Market_Center": "11",
    "Most_Recent_Trade_Aggressor": "1",
    "Most_Recent_Trade_Day_Code": "2",
    "TickID": "4145784264",
    "Total_Volume": "1061909",
    "Bid": "189.69",
    "Bid_Size": "300",
    "Bid_Time": "09:59:59.2",
    "Ask": "189.71",
    "Ask_Size": "200",
    "Ask_Time": "09:59:59.1",
}


@pytest.mark.parametrize(("contents", "basis"), [("C", "C"), ("E", "E"), ("O", "O"), ("Cbaohlcv", "C"), ("vO", "O")])
def test_a_q_with_c_e_or_o_is_a_trade_with_bid_and_ask(contents: str, basis: str) -> None:
    assert event(update(**TRADE, Message_Contents=contents)) == {
        "kind": "trade",
        "symbol": "AAPL",
        "summary": False,
        "basis": basis,
        "price": 189_700_000,
        "size": 120,
        "tick_id": 4145784264,
        "total_volume": 1061909,
        "market_center": 11,
        "conditions": "873D17",
        "aggressor": 1,
        "bid": 189_690_000,
        "bid_size": 300,
        "ask": 189_710_000,
        "ask_size": 200,
        "trading_date": day("2024-01-02"),
        "event_time_us": utc("2024-01-02 09:59:59.123456"),
    }


@pytest.mark.parametrize(("kind", "contents"), [("Q", "ba"), ("Q", ""), ("P", "Cbaohlcv"), ("P", "")])
def test_other_q_and_every_p_are_quotes_without_the_repeated_trade(kind: str, contents: str) -> None:
    assert event(update(kind, **TRADE, Message_Contents=contents)) == {
        "kind": "quote",
        "symbol": "AAPL",
        "summary": kind == "P",
        "total_volume": 1061909,
        "bid": 189_690_000,
        "bid_size": 300,
        "ask": 189_710_000,
        "ask_size": 200,
        "trading_date": day("2024-01-02"),
        "event_time_us": utc("2024-01-02 09:59:59.2"),  # the later of both
    }


def test_the_default_layout_is_read_and_undated_times_follow_the_clock() -> None:
    line = b"Q,AAPL,322.7500,40,09:53:23.256494,11,37629453,322.6800,100,322.8700,100,,,,308.9500,C,873D17,"
    found = event(line, layout=DEFAULT_LAYOUT)
    assert (found["price"], found["size"], found["market_center"]) == (322_750_000, 40, 11)
    assert found["event_time_us"] == utc("2024-01-02 09:53:23.256494")
    quote = event(line.replace(b",C,", b",ba,"), layout=DEFAULT_LAYOUT)
    assert "event_time_us" not in quote  # this layout has no quote times
    assert "event_time_us" not in event(line, layout=DEFAULT_LAYOUT, clock=None)


@pytest.mark.parametrize(
    ("clock", "time", "expected"),
    [
        ("2024-01-02 10:00:00", "11:00:00", "2024-01-02 11:00:00"),  # exactly an hour ahead: today
        ("2024-01-02 10:00:00", "11:00:00.000001", "2024-01-01 11:00:00.000001"),
        ("2024-01-02 00:00:01", "23:59:59.9", "2024-01-01 23:59:59.9"),
        ("2024-01-02 23:59:59", "00:00:00.4", "2024-01-03 00:00:00.4"),  # the clock lags behind midnight
        ("2024-01-02 23:59:59", "00:00:02.4", "2024-01-02 00:00:02.4"),
    ],
)
def test_a_bare_time_is_dated_by_the_clock(clock: str, time: str, expected: str) -> None:
    assert event(update(Bid="1", Bid_Time=time), clock=clock)["event_time_us"] == utc(expected)


def test_times_and_dates_are_unknown_without_a_clock_but_not_refused() -> None:
    found = event(update(Bid="1", Bid_Time="09:30:00"), clock=None)
    assert found == {"kind": "quote", "symbol": "AAPL", "summary": False, "bid": 1_000_000}


@pytest.mark.parametrize(
    ("line_date", "code", "expected"),
    [
        ("01/02/2024", "2", "2024-01-02"),
        ("01/02/2024", "3", "2024-01-03"),  # an evening session belongs to the next day
        ("12/31/2023", "1", "2024-01-01"),
        ("01/01/2024", "31", "2023-12-31"),
        ("03/01/2024", "29", "2024-02-29"),
        ("2024-01-05", "", "2024-01-05"),
        ("", "5", "2024-01-05"),  # near the clock
        ("", "", "2024-01-02"),  # the clock's date
        ("01/02/2024", "0", "2024-01-02"),
    ],
)
def test_the_trading_date_is_the_day_code_nearest_to_the_line_s_date(line_date: str, code: str, expected: str) -> None:
    fields = {**TRADE, "Most_Recent_Trade_Date": line_date, "Most_Recent_Trade_Day_Code": code}
    assert event(update(**fields, Message_Contents="C"))["trading_date"] == day(expected)


def test_delayed_lines_are_kept_as_they_are() -> None:
    line = update(**TRADE, Message_Contents="C", Delay="15")
    assert event(line) == {"kind": "other", "symbol": "AAPL", "trading_date": day("2024-01-02"), "raw": line}


def test_a_layout_without_prices_makes_no_trades() -> None:
    assert event(b"Q,AAPL,C,1.5,", layout=(SYMBOL, "Message Contents", "Bid"))["kind"] == "quote"


@pytest.mark.parametrize(
    ("text", "value"),
    [("12.", 12_000_000), (".5", 500_000), ("-3.25", -3_250_000), ("0.000001", 1), ("9223372036854.775807", 2**63 - 1)],
)
def test_prices_are_exact(text: str, value: int) -> None:
    assert event(update(Bid=text))["bid"] == value


@pytest.mark.parametrize(
    ("line", "port", "reason"),
    [
        (update(Bid="1.1234567"), LEVEL1, "too_precise"),
        (update(Bid="9223372036854.775808"), LEVEL1, "overflow"),
        (update(Bid="1e5"), LEVEL1, "bad_number"),
        (update(Bid_Size="1.5"), LEVEL1, "bad_number"),
        (update(Bid_Time="25:00:00"), LEVEL1, "bad_time"),
        (update(Most_Recent_Trade_Date="02/30/2024"), LEVEL1, "bad_date"),
        (update(Most_Recent_Trade_Day_Code="32"), LEVEL1, "bad_value"),
        (update(Message_Contents="C"), LEVEL1, "missing_field"),
        (b"Q", LEVEL1, "missing_field"),
        (b"Q,A B,", LEVEL1, "bad_symbol"),
        (b"Q,AAPL", LEVEL2, "unknown_type"),
        (b"8,SPY,B,1.5,7,1,2,,", LEVEL1, "unknown_type"),
        (b"8,SPY,S,1.5,7,1,2,,", LEVEL2, "bad_value"),
        (b"8,SPY,B,,7,1,2,,", LEVEL2, "missing_field"),
        (b"8,SPY,B,1.5", LEVEL2, "missing_field"),
        (b"4,SPY,,N\xff,B,1.5,7,,2,,", LEVEL2, "bad_text"),
        (b"3,SPY,18446744073709551616,,B,1.5,7,,2,,", LEVEL2, "overflow"),
        (b"3,SPY,-1,,B,1.5,7,,2,,", LEVEL2, "bad_number"),
        (b"T,2024-01-02 10:00:00", LEVEL1, "bad_date"),
        (b"T,20240102 10:00", LEVEL1, "bad_time"),
        (b"C,SPY,Y,,,,1,1,1,,1,", LEVEL1, "bad_value"),
        (b"S,CLEAR DEPTH,SPY,", LEVEL2, "missing_field"),
        (b"5,SPY,,NSDQ,,20:31:04.876740,2024-01-02,", LEVEL2, "missing_field"),
        (b"5,SPY,1,,C,20:31:04.876740,2024-01-02,", LEVEL2, "bad_value"),
        (b"", LEVEL1, "empty_line"),
        (b"GET / HTTP/1.1", LEVEL1, "unknown_type"),
    ],
)
def test_what_cannot_be_an_event_is_refused_with_its_reason(line: bytes, port: int, reason: str) -> None:
    with pytest.raises(LineError) as error:
        event(line, port)
    assert error.value.reason == reason


DEPTH = {"trading_date": day("2024-01-02"), "event_time_us": utc("2024-01-02 20:31:04.87674")}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            b"3,@ESZ24,18446744073709551615,MD01,B,2938.25,65,11,2,20:31:04.876740,2024-01-02,",
            {"kind": "order_add", "order_id": -1, "mmid": "MD01", "side": "bid", "price": 2_938_250_000, "size": 65,
             "priority": 11, "precision": 2, "summary": False},
        ),
        (
            b"4,@ESZ24,,NSDQ,A,-0.5,300,,4,20:31:04.876740,2024-01-02,",
            {"kind": "order_change", "mmid": "NSDQ", "side": "ask", "price": -500_000, "size": 300, "precision": 4,
             "summary": False},
        ),
        (
            b"6,@ESZ24,,AMEX,A,408.84,100,,4,20:31:04.876740,2024-01-02",
            {"kind": "order_add", "mmid": "AMEX", "side": "ask", "price": 408_840_000, "size": 100, "precision": 4,
             "summary": True},
        ),
        (b"5,@ESZ24,648907593934,,A,20:31:04.876740,2024-01-02,",
         {"kind": "order_delete", "order_id": 648907593934, "side": "ask"}),
        (b"5,@ESZ24,1,,,20:31:04.876740,2024-01-02,", {"kind": "order_delete", "order_id": 1}),
        (b"7,@ESZ24,B,2938.25,65,11,2,20:31:04.876740,2024-01-02,",
         {"kind": "level_set", "side": "bid", "price": 2_938_250_000, "size": 65, "order_count": 11, "precision": 2,
          "summary": True}),
        (b"8,@ESZ24,A,12.,0,11,2,20:31:04.876740,01/02/2024,",
         {"kind": "level_set", "side": "ask", "price": 12_000_000, "size": 0, "order_count": 11, "precision": 2,
          "summary": False}),
        (b"9,@ESZ24,A,2938.25,20:31:04.876740,2024-01-02,",
         {"kind": "level_delete", "side": "ask", "price": 2_938_250_000}),
    ],
)  # fmt: skip
def test_depth_lines_by_their_type(line: bytes, expected: dict[str, Any]) -> None:
    assert event(line, LEVEL2) == {"symbol": "@ESZ24", **DEPTH, **expected}


@pytest.mark.parametrize("time", [b"", b"99:99:99", b"99:99:99.000000"])
def test_a_depth_row_without_a_time_is_kept(time: bytes) -> None:
    assert event(b"5,TSLA,,CHXE,B," + time + b",2022-04-01,", LEVEL2) == {
        "kind": "order_delete",
        "symbol": "TSLA",
        "mmid": "CHXE",
        "side": "bid",
        "trading_date": day("2022-04-01"),
    }


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            b"C,SPY,I,O,07/16/2025,,619.0500,15000,859256116,198944,24,",
            {"correction": "I", "basis": "O", "trading_date": day("2025-07-16"), "tick_id": 859256116,
             "conditions": "198944", "market_center": 24},
        ),
        (
            b"C,SPY,X,,,,619.0500,15000,1296380724,,19,",
            {"correction": "X", "tick_id": 1296380724, "market_center": 19},
        ),
        (
            b"C,SPY,X,07/16/2025,09:30:00,619.05,15000,5,01,19",
            {"correction": "X", "trading_date": day("2025-07-16"), "tick_id": 5, "conditions": "01",
             "market_center": 19, "event_time_us": utc("2025-07-16 09:30:00")},
        ),
    ],
)  # fmt: skip
def test_corrections_in_both_layouts(line: bytes, expected: dict[str, Any]) -> None:
    same = {"kind": "correction", "symbol": "SPY", "price": 619_050_000, "size": 15000}
    assert event(line) == {**same, **expected}


@pytest.mark.parametrize(
    ("line", "port", "kind", "symbol"),
    [
        (b"F,MSFT,5,65.6", LEVEL1, "other", "MSFT"),
        (b"R,AAPL,,137.0200,2100", LEVEL1, "other", "AAPL"),
        (b"n,NOTFOUND", LEVEL1, "other", "NOTFOUND"),
        (b"q,SPY,", LEVEL2, "other", "SPY"),
        (b"0,@ESZ24,5,,A,408.84,100,,4,20:31:04.876740,2024-01-02,,extra", LEVEL2, "other", "@ESZ24"),
        (b"0,@ESZ24,no,order,at,all", LEVEL2, "other", "@ESZ24"),
        (b"N,DTN,1,:A:,20240102 093000,Head, line", LEVEL1, "other", None),
        (b"E,!SYNTAX_ERROR!,", LEVEL1, "other", None),
        (b"M,MD02,Market depth 2", LEVEL2, "other", None),
        (b"O", LEVEL2, "other", None),
        (b"S,KEY,99999", LEVEL1, "other", None),
        (b"S,SYMBOL LIMIT REACHED,AAPL", LEVEL1, "other", "AAPL"),
        (b"S,SERVER RECONNECT FAILED", LEVEL1, "other", None),
        (b"S,SERVER CONNECTED", LEVEL1, "connected", None),
        (b"S,SERVER DISCONNECTED,", LEVEL2, "lost", None),
    ],
)
def test_everything_else_keeps_its_bytes(line: bytes, port: int, kind: str, symbol: str | None) -> None:
    expected = {"kind": kind, "symbol": symbol, "trading_date": day("2024-01-02"), "raw": line}
    assert event(line, port) == {name: value for name, value in expected.items() if value is not None}


def test_clear_depth_names_symbol_and_side() -> None:
    assert event(b"S,CLEAR DEPTH,@ESZ22,B,", LEVEL2) == {
        "kind": "depth_clear",
        "symbol": "@ESZ22",
        "side": "bid",
        "trading_date": day("2024-01-02"),
    }


def test_the_clock_is_an_event_and_is_remembered_per_port() -> None:
    context = ParserContext(LAYOUT)
    found, context = parse_line(b"T,20240703 16:00:01", LEVEL1, context, 0)
    assert found == {
        "kind": "clock",
        "trading_date": day("2024-07-03"),
        "event_time_us": utc("2024-07-03 16:00:01"),
    }
    _, context = parse_line(b"T,20240703 16:00:02", LEVEL2, context, 0)
    assert (context.clock1, context.clock2) == (local("2024-07-03 16:00:01"), local("2024-07-03 16:00:02"))


def test_the_newest_layout_line_of_level_1_holds() -> None:
    context = ParserContext()
    _, context = parse_line(b"S,CURRENT UPDATE FIELDNAMES,Symbol,Ask,Bid", LEVEL1, context, 0)
    found, _ = parse_line(b"Q,AAPL,2.0,1.0", LEVEL1, context, 0)
    assert (found["ask"], found["bid"]) == (2_000_000, 1_000_000)
    _, other = parse_line(b"S,CURRENT UPDATE FIELDNAMES,Bid,Ask,", LEVEL1, context, 0)
    assert other.layout == (SYMBOL, "Bid", "Ask")
    _, same = parse_line(b"S,CURRENT UPDATE FIELDNAMES,Bid,Ask,", LEVEL2, context, 0)
    assert same == context
