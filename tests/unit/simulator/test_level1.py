"""Conversations on the Level 1 port."""

from __future__ import annotations

from pathlib import Path

import pytest

from infrastructure.simulator.feed import Behaviour
from infrastructure.simulator.fields import DEFAULT_FIELDS, FIELDS, FULL_IDENTITY_FIELDS
from infrastructure.simulator.generated import GeneratedMarket
from tests.unit.simulator.conversation import serving, values

FIXTURES = Path(__file__).parents[4] / "shared" / "fixtures" / "iqfeed"
recorded = pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"recorded lines are not at {FIXTURES}")


def idle(*symbols: str) -> GeneratedMarket:
    return GeneratedMarket(symbols or ("AAPL", "FB"), rate=0, seed=1)


def busy(rate: float | None = 5000.0) -> GeneratedMarket:
    return GeneratedMarket(("AAPL", "FB"), rate=rate, seed=1)


def shape(line: str) -> list[str]:
    """The form of a line: for each field whether it is empty, a number, a date, a time, or the word itself."""
    kinds = []
    for field in line.split(","):
        if field[:1].isdigit() or field[:1] == "-":
            digits = "".join("9" if ch.isdigit() else ch for ch in field)
            kinds.append(digits if {":", "/"} & set(field) else "number." if "." in field else "number")
        else:
            kinds.append("word" if field else "")
    return kinds


async def test_greeting_then_handshake_with_the_layout_unasked() -> None:
    async with serving(idle()) as server:
        client = await server.connect("level1")
        greeting = [await client.next() for _ in range(4)]
        assert greeting[:2] == ["S,KEY,99999", "S,SERVER CONNECTED"]
        assert greeting[2].startswith("S,IP,127.0.0.1 ")
        assert greeting[3].startswith("S,CUST,real_time,") and greeting[3].split(",")[10] == "500"
        await client.say("S,SET PROTOCOL,6.2")
        assert await client.until("S,CURRENT UPDATE") == [
            "S,CURRENT PROTOCOL,6.2,",
            "S,CURRENT UPDATE FIELDNAMES," + ",".join(DEFAULT_FIELDS),
        ]
        assert b"\r" not in client.raw


async def test_other_protocol_is_answered_with_the_one_spoken_and_data_needs_the_handshake() -> None:
    async with serving(idle(), behaviour=Behaviour(ack_comma=False)) as server:
        client = await server.connect("level1", "wAAPL")
        assert (await client.until("E,"))[-1].startswith("E,Protocol not set")
        await client.say("S,SET PROTOCOL,7.0")
        assert (await client.until("S,CURRENT PROTOCOL"))[-1] == "S,CURRENT PROTOCOL,6.2"


async def test_watch_gives_fundamentals_before_the_summary_and_then_updates() -> None:
    async with serving(busy()) as server:
        client = await server.level1("wAAPL")
        lines = await client.until("Q,")
        kinds = [line[0] for line in lines if line[0] != "T"]
        assert kinds == ["F", "P", "Q"]
        assert any(line.startswith("T,") for line in lines[: lines.index(next(x for x in lines if x[0] == "P"))])
        fundamentals = next(line for line in lines if line[0] == "F")
        assert fundamentals.count(",") == 58 and fundamentals.endswith(",")
        for line in (lines[-1], lines[-2]):
            assert line.count(",") == 17 and line.split(",")[1] == "AAPL"
        assert all(line.split(",")[1] == "AAPL" for line in await client.until("T,") if line[0] == "Q")


async def test_summary_is_no_trade_and_lists_what_it_carries() -> None:
    async with serving(idle()) as server:
        client = await server.level1("wAAPL")
        summary = values((await client.until("P,"))[-1], DEFAULT_FIELDS)
        assert summary["Message Contents"] == "Cbacv"  # before the open
        assert summary["Total Volume"] == "0" and summary["Open"] == summary["High"] == ""
        assert summary["Close"] == summary["Most Recent Trade"]


async def test_unknown_symbol_is_said_and_not_watched() -> None:
    async with serving(idle()) as server:
        client = await server.level1("wNOTFOUND", "S,REQUEST WATCHES")
        lines = await client.until("S,WATCHES")
        assert [line for line in lines if line[0] != "T"] == ["n,NOTFOUND", "S,WATCHES"]


async def test_watches_are_listed_taken_back_and_end_the_lines() -> None:
    async with serving(busy()) as server:
        client = await server.level1("wAAPL", "wfb", "rAAPL", "S,REQUEST WATCHES")
        assert (await client.until("S,WATCHES"))[-1] == "S,WATCHES,FB"
        lines = await client.until("T,")
        assert {line.split(",")[1] for line in lines if line[0] == "Q"} <= {"FB"}
        await client.say("S,UNWATCH ALL", "S,REQUEST WATCHES")
        assert (await client.until("S,WATCHES"))[-1] == "S,WATCHES"
        assert {line[0] for line in await client.until("T,")} == {"T"}


async def test_trades_only_watch_sends_trades_alone() -> None:
    async with serving(busy()) as server:
        client = await server.level1("tAAPL")
        await client.until("P,")
        trades = 0
        while trades < 20:
            line = (await client.until(lambda line: line[0] != "T"))[-1]
            assert set(values(line, DEFAULT_FIELDS)["Message Contents"]) & set("CEO")
            trades += 1


async def test_refresh_repeats_the_state_of_a_watched_symbol_and_can_be_told_apart() -> None:
    async with serving(idle()) as server:
        client = await server.level1(
            "S,SELECT UPDATE FIELDS," + ",".join(FULL_IDENTITY_FIELDS[1:]), "wAAPL", "fAAPL", "fFB"
        )
        lines = [line for line in await client.settled() if line[0] in "FP"]
        assert [line[0] for line in lines] == ["F", "P", "F", "P"]
        first, second = (values(line, FULL_IDENTITY_FIELDS) for line in lines if line[0] == "P")
        newest = [max(each["Bid Time"], each["Ask Time"]) for each in (first, second)]
        assert newest[0] < newest[1]
        changing = {"Bid Time", "Ask Time"}
        assert {k: v for k, v in first.items() if k not in changing} == {
            k: v for k, v in second.items() if k not in changing
        }


async def test_selected_layout_is_acknowledged_and_belongs_to_the_connection() -> None:
    async with serving(busy()) as server:
        chosen = await server.level1("S,SELECT UPDATE FIELDS,Bid,Ask,Bid", "wAAPL")
        assert (await chosen.until("S,CURRENT"))[-1] == "S,CURRENT UPDATE FIELDNAMES,Symbol,Bid,Ask"
        default = await server.level1("wAAPL")
        assert (await chosen.until("Q,"))[-1].count(",") == 4
        assert (await default.until("Q,"))[-1].count(",") == 17
        await chosen.say("S,REQUEST CURRENT UPDATE FIELDNAMES")
        assert (await chosen.until("S,CURRENT"))[-1] == "S,CURRENT UPDATE FIELDNAMES,Symbol,Bid,Ask"


@pytest.mark.parametrize(("refuse", "after"), [(False, "Symbol,Bid"), (True, ",".join(DEFAULT_FIELDS))])
async def test_a_list_naming_symbol_is_taken_or_ignored_as_told(refuse: bool, after: str) -> None:
    async with serving(idle(), behaviour=Behaviour(refuse_symbol_in_select=refuse)) as server:
        client = await server.level1("S,SELECT UPDATE FIELDS,Symbol,Bid")
        assert (await client.until("S,CURRENT"))[-1] == "S,CURRENT UPDATE FIELDNAMES," + after


@pytest.mark.parametrize("names", ["Bid,Most Recent Trade TimeMS", "", "bid"])
async def test_a_bad_field_name_is_an_error_and_changes_nothing(names: str) -> None:
    async with serving(idle()) as server:
        client = await server.level1(f"S,SELECT UPDATE FIELDS,{names}", "S,REQUEST CURRENT UPDATE FIELDNAMES")
        lines = [line for line in await client.until("S,CURRENT") if line[0] != "T"]
        assert lines == ["E,!SYNTAX_ERROR!,", "S,CURRENT UPDATE FIELDNAMES," + ",".join(DEFAULT_FIELDS)]


async def test_all_seventy_fields_can_be_selected() -> None:
    assert len(FIELDS) == 70
    async with serving(busy()) as server:
        client = await server.level1("S,SELECT UPDATE FIELDS," + ",".join(list(FIELDS)[1:]), "wAAPL")
        line = (await client.until(lambda line: line.startswith("Q,") and ",C" in line))[-1]
        assert line.count(",") == 71
        got = values(line, list(FIELDS))
        assert got["Delay"] == got["Open Interest"] == ""
        assert got["Most Recent Trade"] == got["Last"]
        spread = float(got["Ask"]) - float(got["Bid"])
        assert float(got["Spread"]) == pytest.approx(spread, abs=1e-9)
        # Odd lots count in the volume-weighted price but move neither high nor low.
        assert float(got["VWAP"]) == pytest.approx(float(got["Last"]), abs=0.1)


async def test_clock_each_second_on_demand_and_switched_off() -> None:
    async with serving(idle()) as server:
        client = await server.level1()
        first = (await client.until("T,"))[-1]
        second = (await client.until("T,"))[-1]
        assert len(first) == len("T,20240307 10:00:00") and second > first
        await client.say("S,TIMESTAMPSOFF", "T")
        assert (await client.until("T,"))[-1] >= second
        before = len(client.lines)
        other = await server.level1()
        await other.until("T,")
        await other.until("T,")
        assert [line for line in await client.settled() if line[0] == "T"] == []
        assert len(client.lines) == before + 1
        await client.say("S,TIMESTAMPSON")
        await client.until("T,")


@pytest.mark.parametrize(
    "command", ["hello", "w", "W,AAPL", "wAAPL,FB", "S,NO SUCH", "S,TRADES ONLY", "w" + 31 * "A", "q"]
)
async def test_unknown_commands_are_errors_and_the_connection_goes_on(command: str) -> None:
    async with serving(idle()) as server:
        client = await server.level1(command)
        assert (await client.until("E,"))[-1] == "E,!SYNTAX_ERROR!,"
        await client.say("wAAPL")
        await client.until("P,")


async def test_old_echoes_and_silent_commands_are_accepted() -> None:
    async with serving(idle()) as server:
        client = await server.level1(
            "S,KEY,99999", "S,SET CLIENT NAME,me", "S,REGON,AAPL", "S,NEWSON", "S,REQUEST STATS"
        )
        lines = [line for line in await client.until("S,STATS") if line[0] != "T"]
        assert lines[0] == "S,KEYOK"
        assert [line[0] for line in lines[1:-1]] == [*"RRR", *"NNN"]


async def test_symbol_limit_refuses_one_watch_and_keeps_the_others() -> None:
    async with serving(idle("A", "B", "C"), behaviour=Behaviour(symbol_limit=2)) as server:
        client = await server.level1("wA", "wB", "wC", "wA", "S,REQUEST WATCHES")
        lines = await client.until("S,WATCHES")
        assert "S,SYMBOL LIMIT REACHED,C" in lines
        assert lines[-1] == "S,WATCHES,A,B"
        other = await server.level1("wB", "wC")
        assert "S,SYMBOL LIMIT REACHED,C" in await other.settled()
        await client.say("rA")
        await client.settled()
        await other.say("wC")
        await other.until("P,C")


async def test_commands_may_come_in_pieces_and_with_bare_line_feeds() -> None:
    async with serving(idle()) as server:
        client = await server.connect("level1")
        for piece in (b"S,SET PRO", b"TOCOL,6.2\nwAA", b"PL\r", b"\n\r\n\nwFB\n"):
            client.writer.write(piece)
            await client.writer.drain()
        assert [line[:4] for line in await client.until("P,FB") if line[0] == "P"] == ["P,AA", "P,FB"]


async def test_two_clients_see_the_same_market() -> None:
    async with serving(GeneratedMarket(("AAPL", "FB"), rate=None, seed=4, limit=3000), hold=2) as server:
        clients = [await server.level1("wAAPL", "wFB") for _ in range(2)]
        await server.happened("flow_finished")
        data = [[line for line in await client.settled() if line[0] == "Q"] for client in clients]
        assert len(data[0]) > 500
        assert data[0] == data[1]


async def test_a_client_that_comes_later_starts_from_the_state_of_now() -> None:
    async with serving(busy()) as server:
        fields = "S,SELECT UPDATE FIELDS," + ",".join(FULL_IDENTITY_FIELDS[1:])
        early = await server.level1(fields, "wAAPL")
        await early.until(lambda line: line.startswith("Q,") and ",C" in line)
        late = await server.level1(fields, "wAAPL")
        lines = await late.until("Q,")
        summary, update = (values(line, FULL_IDENTITY_FIELDS) for line in lines if line[0] in "PQ")
        assert int(summary["Total Volume"]) > 0
        assert "Q," + ",".join(update.values()) in [line.removesuffix(",") for line in await early.until("T,")] + [
            line.removesuffix(",") for line in early.lines
        ]


@recorded
async def test_answers_have_the_form_of_recorded_ones() -> None:
    def fixture(name: str) -> list[str]:
        return (FIXTURES / name).read_text("latin-1").splitlines()

    async with serving(idle()) as server:
        client = await server.level1("S,REQUEST ALL UPDATE FIELDNAMES", "S,REQUEST FUNDAMENTAL FIELDNAMES", "wAAPL")
        lines = await client.until("P,")
        assert fixture("l1_61_all_update_fieldnames.txt")[-1] in lines
        assert fixture("l1_61_fundamental_fieldnames.txt")[-1] in lines
        greeting = [",".join(line.split(",")[:2]) for line in client.lines[:4]]
        seen = fixture("l1_61_refresh_aapl.txt")
        assert greeting == [",".join(line.split(",")[:2]) for line in seen[:4]]
        assert "S,CURRENT UPDATE FIELDNAMES," + ",".join(DEFAULT_FIELDS) == seen[5]
        fundamentals = next(line for line in seen if line.startswith("F,"))
        assert lines[-2].count(",") == fundamentals.count(",")
        before_open = fixture("l1_samples_default_plus_aggressor_daycode.txt")[0].rsplit(",", 2)[0]
        assert shape(lines[-1].removesuffix(",")) == shape(before_open)
        assert client.lines[3].count(",") == seen[3].count(",")
    async with serving(busy()) as server:
        client = await server.level1("wAAPL")
        trade = (await client.until(lambda line: line.startswith("Q,") and ",Cohlv" not in line and ",C" in line))[-1]
        assert shape(trade) == shape(fixture("l1_samples_default_layout.txt")[0])
