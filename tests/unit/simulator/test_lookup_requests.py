"""The Lookup port as a client meets it: which rows a request gives, in which form."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from infrastructure.simulator.feed import Behaviour
from infrastructure.simulator.generated import GeneratedMarket
from infrastructure.simulator.lookup_behaviour import ERRORS, LookupBehaviour
from pipeline_orchestrator.market.fundamentals import parse_fundamental
from tests.unit.simulator.conversation import serving
from tests.unit.simulator.lookup_market import DAY, Trade, answer, idle, lookup, rows_of, sizes, us

TEN = [Trade(us(f"1000{second:02d}", micros=250_000), size=second) for second in range(1, 11)]


def limits(**values: object) -> Behaviour:
    return Behaviour(lookup=LookupBehaviour.from_mapping(values))


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        ("HTX,AAPL", [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]),
        ("htx,aapl,3", [10, 9, 8]),
        ("HTX,AAPL,3,0", [10, 9, 8]),
        ("HTX,AAPL,3,1", [8, 9, 10]),
        ("HTX,AAPL,,1", list(range(1, 11))),
        ("HTX,AAPL,3,1,,2,", [8, 9, 10]),
        ("HTT,AAPL,20240306 100003,20240306 100005,,,,1", [3, 4, 5]),
        ("HTT,AAPL,20240306 100003,20240306 100005,2,,,1", [4, 5]),
        ("HTT,AAPL,20240306 100003,,,,,1", list(range(3, 11))),
        ("HTT,AAPL,,20240306 100003,,,,1", [1, 2, 3]),
        ("HTT,AAPL,20240305 100003,20240307 000000,,100009,235959,1", [9, 10]),
        ("HTT,AAPL,20240305 100003,20240307 000000,,,100002,1", [1, 2]),
        ("HTT,AAPL,20240305 100003,20240307 000000,,100009,100002,1", [1, 2, 9, 10]),
        ("HTD,AAPL,1,,100004,100006,1", [4, 5, 6]),
        ("HTD,AAPL,1,1,,,1", [10]),
    ],
)
async def test_ticks_follow_span_limit_filters_and_direction(command: str, wanted: list[int]) -> None:
    async with serving(idle()) as server:
        server.simulator.feed.history.take(rows_of(TEN))
        assert sizes(await answer(await lookup(server), command)) == wanted


async def test_the_end_second_can_be_outside() -> None:
    async with serving(idle(), behaviour=limits(end_inclusive=False)) as server:
        server.simulator.feed.history.take(rows_of(TEN))
        client = await lookup(server)
        assert sizes(await answer(client, "HTT,AAPL,20240306 100003,20240306 100005,,,,1")) == [3, 4]
        assert sizes(await answer(client, "HTD,AAPL,1,,100003,100005,1")) == [3, 4]


@pytest.mark.parametrize(
    ("protocol", "row"),
    [
        ("6.2", "LH,2024-03-06 10:00:00.123456,12.3400,7,7,12.3300,12.3500,9123456789,O,19,8717,2,6,"),
        ("6.1", "2024-03-06 10:00:00.123456,12.3400,7,7,12.3300,12.3500,9123456789,O,19,8717,2,6,"),
        ("6.0", "2024-03-06 10:00:00.123456,12.3400,7,7,12.3300,12.3500,9123456789,O,19,8717,"),
        ("5.1", "2024-03-06 10:00:00.123,12.3400,7,7,12.3300,12.3500,9123456789,O,19,8717,"),
    ],
)
@pytest.mark.parametrize("request_id", ["", "I", "O", "E", "LH", "R1"])
async def test_a_row_has_the_form_of_the_protocol_and_the_id_in_front(protocol: str, row: str, request_id: str) -> None:
    trade = Trade(us("100000", micros=123_456), 123_400, 7, "O", 0, 9_123_456_789, 19, 4, 2)
    async with serving(idle()) as server:
        server.simulator.feed.history.take(rows_of([trade]))
        client = await lookup(server, f"HTX,AAPL,10,0,{request_id},100", protocol=protocol)
        before = f"{request_id}," if request_id else ""
        await client.until(f"{before}!ENDMSG!")
        assert client.lines[1:] == [f"{before}{row}", f"{before}!ENDMSG!,"]
        assert client.raw.count(b"\r\n") == len(client.lines) == client.raw.count(b"\n")


async def test_without_a_protocol_the_oldest_form_is_spoken() -> None:
    trades = [Trade(us("100000", micros=5), size=1), Trade(us("100001"), size=2, basis="O"), Trade(us("100002"))]
    async with serving(idle()) as server:
        server.simulator.feed.history.take(rows_of(trades))
        client = await lookup(server, protocol="")
        ticks = await answer(client, "HTX,AAPL,2,1,1,500", "1")
        assert [",".join(row) for row in ticks] == [
            "2024-03-06 10:00:00,100.0000,1,1,99.9900,100.0100,1,0,0,C",
            "2024-03-06 10:00:02,100.0000,100,103,99.9900,100.0100,1,0,0,C",
        ]
        (bar,) = await answer(client, "HIX,AAPL,60,10,1,1,500,S", "1")
        assert ",".join(bar) == "2024-03-06 10:01:00,100.0000,100.0000,100.0000,100.0000,103,101"
        assert await answer(client, "HDX,AAPL,5,1,1,500", "1") == [["E", "!NO_DATA!", ""]]  # today is not finished
        (today,) = await answer(client, "HDX,AAPL,5,1,1,500,1", "1")
        assert today[0].startswith("2024-03-06 ") and today[5:] == ["103", "0"]


async def test_an_unknown_version_is_answered_with_the_newest() -> None:
    async with serving(idle()) as server:
        client = await server.connect("lookup", "S,SET PROTOCOL,7.0")
        assert await client.next() == "S,CURRENT PROTOCOL,6.2,"


@pytest.mark.parametrize(
    ("command", "error", "request_id"),
    [
        ("HTX,NOSUCH,10,0,R,", "symbol", "R"),
        ("HTX,AAPL,ten,0,R,", "syntax", "R"),
        ("HTX,AAPL,0,0,R,", "syntax", "R"),
        ("HTX,AAPL,10,2,R,", "syntax", "R"),
        ("HTX,AAPL,10,0,R,1,2,3", "parameters", "R"),
        ("HTX", "parameters", ""),
        ("HTX,", "parameters", ""),
        ("HTD,AAPL", "parameters", ""),
        ("HTT,AAPL,20240306 100000", "parameters", ""),
        ("HTT,AAPL,2024-03-06,20240306 100000,,,,,R", "syntax", "R"),
        ("HTT,AAPL,20240306 250000,20240306 100000,,,,,R", "syntax", "R"),
        ("HTT,AAPL,20240306 100000,20240306 100000,,9,,,R", "syntax", "R"),
        ("HIX,AAPL,,10,0,R", "syntax", "R"),
        ("HIX,AAPL,60,10,0,R,,x", "syntax", "R"),
        ("HIX,AAPL", "parameters", ""),
        ("HDT,AAPL,20240399,20240306,,,R", "syntax", "R"),
        ("HTT,AAPL,20240306 110000,20240306 100000,,,,,R", "no_data", "R"),
        ("HTX,MSFT,10,0,E", "no_data", "E"),
        ("HXX,AAPL", "syntax", ""),
        ("nonsense", "syntax", ""),
        ("SBF,x,AAPL,,,R", "syntax", "R"),
        ("SBF,s,NOTHING,,,R", "no_data", "R"),
        ("SBF,s", "parameters", ""),
    ],
)
async def test_what_cannot_be_answered_gets_its_error_and_an_end(command: str, error: str, request_id: str) -> None:
    async with serving(idle()) as server:
        server.simulator.feed.history.take(rows_of(TEN))
        client = await lookup(server, command)
        before = f"{request_id}," if request_id else ""
        await client.until(f"{before}!ENDMSG!")
        assert client.lines[1:] == [f"{before}E,{ERRORS[error]},", f"{before}!ENDMSG!,"]


async def test_several_days_back_and_daily_weekly_monthly_bars() -> None:
    dates = [date(2024, 2, 28), date(2024, 2, 29), date(2024, 3, 1), date(2024, 3, 4), DAY]
    trades = [
        Trade(us("094500", day), (100 + number) * 10_000, 10 + number, basis)
        for number, day in enumerate(dates)
        for basis in ("E", "C", "C", "O")
    ]
    trades.append(Trade(us("110000"), 1, 1, "E"))
    trades.append(Trade(us("110000", DAY - timedelta(1)), 1, 1, "E", 1))
    async with serving(idle()) as server:
        server.simulator.feed.history.take(rows_of(sorted(trades)))
        client = await lookup(server)
        assert sizes(await answer(client, "HTD,AAPL,1,,,,1")) == [14, 14, 14, 14, 1]
        assert sizes(await answer(client, "HTD,AAPL,3,,,,1")) == [13, 13, 13, 13, 14, 14, 14, 14, 1]
        daily = await answer(client, "HDX,AAPL,,1")
        assert [row[0] for row in daily] == [day.isoformat() for day in dates]
        assert daily[-1][1:] == ["104.0000", "104.0000", "104.0000", "104.0000", "57", "0"]
        assert [row[0] for row in await answer(client, "HDX,AAPL,2,0")] == ["2024-03-06", "2024-03-04"]
        assert [row[0] for row in await answer(client, "HDX,AAPL,2,0,,,0")] == ["2024-03-04", "2024-03-01"]
        assert [row[0] for row in await answer(client, "HDT,AAPL,20240229,20240304,,1")] == [
            "2024-02-29", "2024-03-01", "2024-03-04",
        ]  # fmt: skip
        assert await answer(client, "HWX,AAPL,,1") == [
            ["2024-03-01", "102.0000", "100.0000", "100.0000", "102.0000", str(4 * (10 + 11 + 12)), "0"],
            ["2024-03-06", "104.0000", "103.0000", "103.0000", "104.0000", str(4 * 13 + 57), "0"],
        ]
        assert [row[0] for row in await answer(client, "HMX,AAPL")] == ["2024-03-06", "2024-02-29"]
        assert await answer(client, "HDX,MSFT") == [["E", "!NO_DATA!", ""]]  # a day without a qualified trade


async def test_daily_bars_before_6_1_leave_the_unfinished_day_out() -> None:
    async with serving(idle()) as server:
        server.simulator.feed.history.take(rows_of([Trade(us("100000", DAY - timedelta(1))), *TEN]))
        client = await lookup(server, protocol="6.0")
        assert [row[0] for row in await answer(client, "HDX,AAPL")] == ["2024-03-05"]
        assert [row[0] for row in await answer(client, "HDX,AAPL,,,,,1")] == ["2024-03-06", "2024-03-05"]


async def test_ticks_reach_back_fewer_days_while_the_exchange_is_open() -> None:
    trades = [Trade(us("235959", DAY - timedelta(days)), size=days) for days in (181, 180, 9, 8, 1)]
    for clock, wanted in (("120000", [8, 1]), ("170000", [180, 9, 8, 1]), ("092900", [180, 9, 8, 1])):
        async with serving(idle(us(clock))) as server:
            server.simulator.feed.history.take(rows_of(trades))
            client = await lookup(server)
            assert sizes(await answer(client, "HTX,AAPL,,1")) == wanted
            assert len(await answer(client, "HIX,AAPL,60")) == 5


async def test_tables_and_search_name_what_the_simulator_uses() -> None:
    async with serving(idle()) as server:
        client = await lookup(server)
        for command, known in (("SLM", "11"), ("STC", "135"), ("SST", "1"), ("SSC", "7372"), ("SNC", "334111")):
            rows = await answer(client, f"{command},T1", "T1")
            assert all(row[0] == "LS" for row in rows) and known in [row[1] for row in rows]
        markets = await answer(client, "SLM")
        assert ["LS", "5", "NASDAQ", "Nasdaq stock market", "5", "NASDAQ"] in markets
        assert {len(row) for row in markets} == {6}  # clients cut at every comma
        found = await answer(client, "SBF,s,ap,t,1 2,E", "E")
        assert found == [["LS", "AAPL", "5", "1", "AAPL SIMULATED", " INC"]]
        assert [row[1] for row in await answer(client, "SBF,d,sim,e,5,7", "7")] == ["AAPL", "MSFT"]
        assert await answer(client, "SBF,s,a,e,7,7", "7") == [["E", "!NO_DATA!", ""]]
        old = await lookup(server, protocol="6.0")
        assert (await answer(old, "SST,1", "1"))[0] == ["1", "EQUITY", "Stock"]
        assert (await answer(old, "SBF,s,msft,,,1", "1")) == [["MSFT", "5", "1", "MSFT SIMULATED", " INC"]]


async def test_symbols_are_found_by_their_industry() -> None:
    async with serving(idle()) as server:
        client = await lookup(server)
        for command, code in (("SBS", "7372"), ("SBN", "513210")):
            for asked in (code, code[:2]):
                found = await answer(client, f"{command},{asked},R", "R")
                assert [row[:5] for row in found] == [["LS", code, name, "5", "1"] for name in ("AAPL", "MSFT")]
            assert await answer(client, f"{command},99") == [["E", "!NO_DATA!", ""]]
            for wrong in ("7", "", "7x"):
                assert (await answer(client, f"{command},{wrong},R", "R"))[0][1] == "!SYNTAX_ERROR!"
        old = await lookup(server, protocol="6.1")
        assert (await answer(old, "SBS,73,1", "1"))[0][:2] == ["7372", "AAPL"]


async def test_without_the_upstream_link_requests_are_refused_and_afterwards_answered() -> None:
    async with serving(idle()) as server:
        server.simulator.feed.history.take(rows_of(TEN))
        client = await lookup(server)
        server.simulator.feed.set_upstream(False)
        for command in ("HTX,AAPL,,1,R", "HIX,AAPL,60,,1,R", "HDX,AAPL,,1,R"):
            assert await answer(client, command, "R") == [["E", "Could not connect to History socket."]]
        for command in ("SLM,R", "SBF,s,aa,,,R", "SBS,73,R"):
            assert await answer(client, command, "R") == [["E", "Could not connect to SymbolLookup socket."]]
        server.simulator.feed.set_upstream(True)
        assert len(await answer(client, "HTX,AAPL,,1,R", "R")) == len(TEN)
    behaviour = Behaviour(lookup=LookupBehaviour(needs_upstream=False))
    async with serving(idle(), behaviour=behaviour) as server:
        server.simulator.feed.history.take(rows_of(TEN))
        client = await lookup(server)
        server.simulator.feed.set_upstream(False)
        assert len(await answer(client, "HTX,AAPL,,1,R", "R")) == len(TEN)


async def test_a_future_is_one_in_searches_tables_and_fundamentals() -> None:
    market = GeneratedMarket(("AAPL", "@ESZ26"), rate=0, seed=1)
    async with serving(market) as server:
        client = await lookup(server)
        assert await answer(client, "SBF,s,A,t,8,R", "R") == [["E", "!NO_DATA!", ""]]
        assert [row[1:4] for row in await answer(client, "SBF,d,SIM,t,8,R", "R")] == [["@ESZ26", "34", "8"]]
        assert [row[1:4] for row in await answer(client, "SBF,d,SIM,e,5,R", "R")] == [["AAPL", "5", "1"]]
        assert [row[2] for row in await answer(client, "SBS,7372,R", "R")] == ["AAPL"]
        assert "34" in [row[1] for row in await answer(client, "SLM,R", "R")]
        level1 = await server.level1("w@ESZ26")
        said = parse_fundamental((await level1.until("F,"))[-1]).values
        assert (said["security_type"], said["listed_market"]) == (8, 34)
