"""A scenario over real sockets: what clients of each form of depth are told of a halt, and of corrections."""

from __future__ import annotations

import asyncio

from infrastructure.simulator.scenario import parse
from infrastructure.simulator.scenario_market import ScenarioMarket
from tests.unit.simulator.conversation import serving
from tests.unit.simulator.market_reading import Depth

DOCUMENT = {
    "start": "2024-03-07 11:00:00",
    "phases": [
        {"duration": 5, "rate": 300, "trades": 0.3, "corrections": 600},
        {"duration": 5, "rate": 300, "halt": ["AAPL"]},
        {"duration": 5, "rate": 300},
    ],
}
SAID_AT_THE_END = "T,20240307 11:00:16"


def book_of(lines: list[str]) -> Depth:
    depth = Depth()
    for line in lines:
        if line.startswith("S,CLEAR DEPTH,"):
            depth.sides[line.split(",")[2], line.split(",")[3]] = {}
        elif line[0] in "789":
            depth.take(line)
    return depth


async def test_after_a_halt_every_watcher_is_told_to_clear_and_gets_the_new_book() -> None:
    market = ScenarioMarket(parse(DOCUMENT, "f"), ("AAPL", "MSFT"), seed=3, speed=15.0)
    async with serving(market, hold=3) as server:
        whole = await server.level2("WPL,AAPL", "WPL,MSFT")
        best = await server.level2("WPL,AAPL,3")
        orders = await server.level2("WOR,AAPL")
        heard = await asyncio.gather(*(client.until(SAID_AT_THE_END) for client in (whole, best, orders)))
    sides = market.books.levels[0].tolist()
    for lines, most in ((heard[0], 12), (heard[1], 3)):
        at = lines.index("S,CLEAR DEPTH,AAPL,B,")
        assert lines[at + 1] == "S,CLEAR DEPTH,AAPL,A,"
        assert all(line.startswith("7,AAPL,") for line in lines[at + 2 : at + 2 + 6])
        halted = lines[lines.index("T,20240307 11:00:06") : lines.index("T,20240307 11:00:09")]
        assert not [line for line in halted if ",AAPL," in line]
        book = book_of(lines)
        expected = [min(int(n), most) for n in sides]
        assert [len(book.side("AAPL", side)) for side in "BA"] == expected
        for number, side in enumerate("BA"):
            prices = market.books.price[0, number, : expected[number]].tolist()
            assert [price for price, _ in book.side("AAPL", side)] == prices
    assert sum(line.startswith("S,CLEAR DEPTH") for line in heard[0]) == 2, "the other symbol was not halted"
    at = heard[2].index("S,CLEAR DEPTH,AAPL,A,")
    assert heard[2][at + 1].startswith("6,AAPL,")


async def test_corrections_come_to_those_who_watch_the_symbol_on_level1() -> None:
    market = ScenarioMarket(parse(DOCUMENT, "f"), ("AAPL", "MSFT"), seed=3, speed=15.0)
    async with serving(market, hold=2) as server:
        apple, other = await server.level1("wAAPL"), await server.level1("wMSFT")
        heard = await asyncio.gather(*(client.until(SAID_AT_THE_END) for client in (apple, other)))
    for lines, symbol in zip(heard, ("AAPL", "MSFT"), strict=True):
        told = [line for line in lines if line.startswith("C,")]
        assert told and all(line.startswith(f"C,{symbol},") for line in told)
