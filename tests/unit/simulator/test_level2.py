"""Conversations on the Level 2 port."""

from __future__ import annotations

from pathlib import Path

import pytest

from infrastructure.simulator.feed import Behaviour
from infrastructure.simulator.generated import GeneratedMarket
from tests.unit.simulator.conversation import Client, serving
from tests.unit.simulator.market_reading import Depth, books_of

FIXTURES = Path(__file__).parents[4] / "shared" / "fixtures" / "iqfeed"


def idle() -> GeneratedMarket:
    return GeneratedMarket(("AAPL", "FB"), rate=0, seed=1)


def limited(lines: int = 20_000) -> GeneratedMarket:
    return GeneratedMarket(("AAPL", "FB"), rate=None, seed=1, limit=lines)


def depth_of(client: Client) -> Depth:
    depth = Depth()
    for line in client.lines:
        if line[0] in "789":
            depth.take(line)
    return depth


async def test_greeting_and_every_line_ends_in_crlf() -> None:
    async with serving(idle()) as server:
        client = await server.level2("WPL,AAPL")
        await client.until("7,")
        await client.settled()
        assert client.lines[:2] == ["S,SERVER CONNECTED", "O"]
        assert client.raw.count(b"\r\n") == client.raw.count(b"\n") == len(client.lines)


async def test_watch_gives_the_whole_book_once_with_stamps_of_its_own() -> None:
    market = idle()
    async with serving(market) as server:
        client = await server.level2("WPL,AAPL")
        rows = [line.split(",") for line in await client.settled() if line[0] == "7"]
        own = books_of(market)
        assert depth_of(client).sides.keys() == {("AAPL", "B"), ("AAPL", "A")}
        assert {key: levels for key, levels in own.items() if key[0] == "AAPL"} == {
            key: depth_of(client).side(*key) for key in depth_of(client).sides
        }
        stamps = [row[7] for row in rows]
        assert stamps == sorted(set(stamps)) and all(row[6] == "4" for row in rows)
        await client.say("WPL,AAPL")
        again = [line.split(",") for line in await client.settled() if line[0] == "7"]
        assert [row[:7] for row in again] == [row[:7] for row in rows]
        assert again[0][7] > stamps[-1]


async def test_lines_keep_the_book_of_the_market() -> None:
    market = limited()
    async with serving(market, hold=1) as server:
        client = await server.level2("WPL,AAPL", "WPL,FB,")
        await server.happened("flow_finished")
        lines = await client.settled()
        first_live = next(i for i, line in enumerate(lines) if line[0] in "89")
        assert all(line[0] not in "7" for line in lines[first_live:])
        depth = depth_of(client)
        assert books_of(market) == {key: depth.side(*key) for key in books_of(market)}


async def test_watches_with_levels_see_the_best_levels_only() -> None:
    market = limited()
    async with serving(market, hold=2) as server:
        mixed = await server.level2("WPL,AAPL,3", "WPL,FB")
        narrow = await server.level2("WPL,AAPL,3", "WPL,FB,1")
        await server.happened("flow_finished")
        await mixed.settled()
        await narrow.settled()
        own = books_of(market)
        for client, levels in ((mixed, {"AAPL": 3, "FB": 99}), (narrow, {"AAPL": 3, "FB": 1})):
            depth = depth_of(client)
            assert {key: depth.side(*key) for key in own} == {key: held[: levels[key[0]]] for key, held in own.items()}
        same = [
            [line for line in client.lines if line[0] in "89" and line[2:6] == "AAPL"] for client in (mixed, narrow)
        ]
        assert same[0] == same[1]
        clocks = [i for i, line in enumerate(mixed.lines) if line[0] == "T"]
        assert clocks


async def test_unwatch_ends_the_lines_of_that_symbol() -> None:
    async with serving(GeneratedMarket(("AAPL", "FB"), rate=5000, seed=1)) as server:
        client = await server.level2("WPL,AAPL", "WPL,FB")
        await client.until("8,AAPL")
        await client.say("RPL,AAPL", "RPL,NOTHING")
        await client.settled()
        assert {line.split(",")[1] for line in await client.until("T,") if line[0] in "89"} == {"FB"}


async def test_unknown_symbols_and_symbols_without_depth() -> None:
    async with serving(idle(), behaviour=Behaviour(no_depth=frozenset({"FB"}))) as server:
        client = await server.level2("WPL,NOTHING,10", "WPL,FB", "WOR,NOTHING", "WOR,FB", "mNSDQ")
        lines = [line for line in await client.until("M,") if line[0] != "T"]
        assert lines == ["n,NOTHING,", "q,FB,", "n,NOTHING,", "q,FB,", "M,NSDQ,Market participant NSDQ,"]


async def test_errors_and_commands_of_old_versions() -> None:
    async with serving(idle(), behaviour=Behaviour(old_depth_watch=False)) as server:
        client = await server.connect("level2", "WPL,AAPL")
        assert (await client.until("E,"))[-1].startswith("E,Protocol not set")
        await client.say("S,SET PROTOCOL,6.2", "c", "x", "WPL", "WPL,AAPL,many", "wAAPL", "T")
        lines = await client.until("T,")
        assert lines.count("E,!SYNTAX_ERROR!,") == 3


async def test_symbol_limit_counts_both_ports_once() -> None:
    async with serving(idle(), behaviour=Behaviour(symbol_limit=1)) as server:
        first = await server.level1("wAAPL")
        await first.until("P,")
        client = await server.level2("WPL,AAPL", "WPL,FB")
        lines = await client.settled()
        assert "S,SYMBOL LIMIT REACHED,FB" in lines and any(line.startswith("7,AAPL") for line in lines)


async def test_clock_comes_on_this_port_too() -> None:
    async with serving(idle()) as server:
        client = await server.level2()
        assert (await client.until("T,"))[-1] < (await client.until("T,"))[-1]


@pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"recorded lines are not at {FIXTURES}")
async def test_lines_have_the_form_of_recorded_ones() -> None:
    samples = (FIXTURES / "l2_62_samples.txt").read_bytes().split(b"\r\n")
    fields = {line[:1].decode(): line.count(b",") for line in samples if line[:1] in (b"7", b"9")}
    async with serving(limited(2000), hold=1) as server:
        client = await server.level2("WPL,AAPL")
        await client.until("9,")
        for letter, commas in fields.items():
            assert {line.count(",") for line in client.lines if line[0] == letter} == {commas}
        times = [line.split(",")[-3:] for line in client.lines if line[0] in "789"]
        assert {(len(time), len(date), end) for time, date, end in times} == {(15, 10, "")}
