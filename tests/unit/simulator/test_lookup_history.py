"""History against what Level 1 sent: the same trades, field by field, from every kind of market."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from infrastructure.simulator import columns as c
from infrastructure.simulator import history_trades
from infrastructure.simulator.corrections import DELETE, INSERT, LIVE, CorrectedTrade, correction
from infrastructure.simulator.feed import Behaviour
from infrastructure.simulator.fields import FULL_IDENTITY_FIELDS
from infrastructure.simulator.generated import GeneratedMarket
from infrastructure.simulator.history_market import MarketHistory
from infrastructure.simulator.lobster_files import load
from infrastructure.simulator.lookup_behaviour import LookupBehaviour
from infrastructure.simulator.market import Market
from infrastructure.simulator.replay import ReplayMarket
from infrastructure.simulator.sent_log import read_sent_log
from tests.unit.simulator.conversation import Server, serving, values
from tests.unit.simulator.lookup_market import SYMBOLS, Trade, answer, idle, lookup, rows_of, us
from tests.unit.simulator.test_lobster import SIMPLE, pair


def as_history(line: str) -> list[str]:
    """A trade line of Level 1 as the fields of a tick."""
    shown = values(line, FULL_IDENTITY_FIELDS)
    month, day, year = shown["Most Recent Trade Date"].split("/")
    (basis,) = set(shown["Message Contents"]) & set("CEO")
    return [
        f"{year}-{month}-{day} {shown['Most Recent Trade Time']}",
        shown["Most Recent Trade"],
        shown["Most Recent Trade Size"],
        shown["Total Volume"],
        shown["Bid"] or "0.0000",
        shown["Ask"] or "0.0000",
        shown["TickID"],
        basis,
        shown["Most Recent Trade Market Center"],
        shown["Most Recent Trade Conditions"],
        shown["Most Recent Trade Aggressor"],
        shown["Most Recent Trade Day Code"],
    ]


def is_trade(line: str) -> bool:
    return line.startswith("Q,") and bool(set(values(line, FULL_IDENTITY_FIELDS)["Message Contents"]) & set("CEO"))


async def flow_through(server: Server) -> None:
    """Watch everything until the market's flow has ended and every line of it was taken."""
    client = await server.level1("S,SELECT UPDATE FIELDS," + ",".join(FULL_IDENTITY_FIELDS[1:]))
    await client.until("S,CURRENT UPDATE FIELDNAMES")
    symbols = server.simulator.feed.names.symbols
    await client.say(*(f"w{symbol}" for symbol in symbols))
    reading = asyncio.create_task(client.rest())
    await server.happened("flow_finished")
    while server.simulator.queued_bytes:
        await asyncio.sleep(0)
    reading.cancel()


async def compare(market: Market, log: Path) -> list[list[str]]:
    """Trades that Level 1 sent equal history, symbol by symbol; returns those of all."""
    every = []
    async with serving(market, hold=1, sent_log=log) as server:
        await flow_through(server)
        client = await lookup(server)
        kept = {symbol: await answer(client, f"HTX,{symbol},,1,,500") for symbol in market.names.symbols}
    sent = [entry for entry in read_sent_log(log) if entry.port == "level1" and is_trade(entry.text)]
    for symbol, rows in kept.items():
        assert rows == [as_history(entry.text) for entry in sent if entry.symbol == symbol]
        every += rows
    return every


async def test_history_of_a_generated_market_is_what_level_1_sent(tmp_path: Path) -> None:
    market = GeneratedMarket((*SYMBOLS, "X"), rate=None, seed=3, limit=20_000)
    rows = await compare(market, tmp_path / "sent.tsv")
    assert len(rows) > 500 and {row[7] for row in rows} == {"C", "E", "O"}
    for before, after in pairwise(rows):
        if before[0] < after[0] and before[0][:10] == after[0][:10] and int(after[3]) > int(after[2]):
            assert int(after[3]) == int(before[3]) + int(after[2])


async def test_history_of_a_recorded_day_is_what_level_1_sent(tmp_path: Path) -> None:
    market = ReplayMarket([load(pair(tmp_path, "ABC_2024-03-07", SIMPLE))], speed=None)
    rows = await compare(market, tmp_path / "sent.tsv")
    assert [row[:4] for row in rows] == [
        ["2024-03-07 09:30:00.000002", "100.0000", "20", "20"],
        ["2024-03-07 09:30:00.500000", "100.0050", "7", "27"],
    ]


def test_history_crosses_midnight_with_the_volume_of_each_day() -> None:
    market = GeneratedMarket(("A",), rate=5000, seed=4, start_us=us("235959"))
    history = MarketHistory(1, 1 << 20)
    market.start(0)
    made = 0
    for milliseconds in range(0, 2000, 20):
        rows = market.advance(milliseconds * 1_000_000, True)
        made += int(np.count_nonzero(rows.level1[:, c.KIND] == c.TRADE))
        history.take(rows.level1)
    kept = history.trades.of(0)
    days = kept[history_trades.DAY]
    assert kept.shape[1] == made and sorted(set(days.tolist())) == [us("000000") // c.DAY_US + i for i in (0, 1)]
    for day in set(days.tolist()):
        sizes, totals = kept[history_trades.SIZE, days == day], kept[history_trades.TOTAL, days == day]
        assert sizes.size > 50 and totals.tolist() == np.cumsum(sizes).tolist()
        assert history.days.of(0)[:, 0].tolist() == sorted(set(days.tolist()))


async def test_trades_that_nobody_watched_are_there_too() -> None:
    market = GeneratedMarket(SYMBOLS, rate=20_000, seed=5, limit=4000)
    async with serving(market) as server:
        await server.happened("flow_finished")
        client = await lookup(server)
        for symbol, state in zip(SYMBOLS, market.state, strict=True):
            rows = await answer(client, f"HTX,{symbol},,1")
            assert len(rows) == state[c.TRADES_TODAY] > 10
            assert int(rows[-1][3]) == state[c.TOTAL_VOLUME] and int(rows[-1][6]) == state[c.TICK_ID]
            (day,) = await answer(client, f"HDX,{symbol}")
            shown = [f"{state[column] / 10_000:.4f}" for column in (c.HIGH, c.LOW, c.OPEN, c.LAST_PRICE)]
            assert day[1:6] == [*shown, str(state[c.TOTAL_VOLUME])]


async def test_a_full_history_drops_the_oldest_and_says_so() -> None:
    market = GeneratedMarket(SYMBOLS, rate=None, seed=5, limit=30_000)
    behaviour = Behaviour(lookup=LookupBehaviour(history_bytes=30_000))
    async with serving(market, hold=1, behaviour=behaviour) as server:
        await flow_through(server)
        history = server.simulator.feed.history
        assert await server.happened("history_full") == {"trades": history.trades.capacity, "dropped": "oldest"}
        client = await lookup(server)
        kept = [len(await answer(client, f"HTX,{symbol}")) for symbol in SYMBOLS]
        assert sum(kept) == history.trades.capacity < history.trades.taken
        assert history.nbytes <= 30_000


async def test_history_is_corrected_as_level1_is_told() -> None:
    trades = [Trade(us(f"1000{n:02d}"), price=1_000_000 + n * 100, size=n, tick_id=n) for n in range(1, 6)]
    async with serving(idle()) as server:
        history = server.simulator.feed.history
        history.take(rows_of(trades))
        client = await lookup(server)
        before = await answer(client, "HTX,AAPL,,1")

        def told(letter: str, **values: Any) -> None:
            named = {"time_us": trades[2].at, "price": 0, "size": 0, "tick_id": 3, "center": 11} | values
            trade = CorrectedTrade(symbol="AAPL", conditions=1, basis=c.HAS_LAST, **named)
            history.correct(correction(0, letter, trade, LIVE))

        for wrong in ({"tick_id": 9}, {"center": 5}, {"time_us": trades[2].at + 1}):
            told(DELETE, **wrong)
        assert await answer(client, "HTX,AAPL,,1") == before
        told(DELETE)
        assert await answer(client, "HTX,AAPL,,1") == before[:2] + before[3:]  # other total volumes stay
        assert [row[0][-8:] for row in await answer(client, "HIX,AAPL,1,,1")] == [f"10:00:0{n}" for n in (1, 2, 4, 5)]
        told(INSERT, price=1_230_000, size=40, tick_id=1_000_000_001)
        rows = await answer(client, "HTX,AAPL,,1")
        assert rows[:2] + rows[3:] == before[:2] + before[3:]
        assert rows[2] == [
            "2024-03-06 10:00:03.000000", "123.0000", "40", "3", "0.0000", "0.0000", "1000000001", "C", "11",
            before[0][9], "0", "6",
        ]  # fmt: skip
        assert (await answer(client, "HIX,AAPL,1,,1"))[2][1:] == ["123.0000"] * 4 + ["3", "40", "0"]
        told(DELETE, tick_id=1_000_000_001)  # an inserted trade can be corrected too
        assert await answer(client, "HTX,AAPL,,1") == before[:2] + before[3:]
        assert (await answer(client, "HDX,AAPL"))[0][5] == "15"  # daily bars count what came live


async def test_a_market_that_corrects_its_trades_corrects_its_history() -> None:
    market = GeneratedMarket(SYMBOLS, rate=4000, seed=1)
    async with serving(market, behaviour=Behaviour(corrections=0.2)) as server:
        level1 = await server.level1("wAAPL")
        fields = (await level1.until("C,AAPL,X"))[-1].split(",")
        tick, center = int(fields[8]), fields[10]
        kept = {(int(row[6]), row[8]) for row in await answer(await lookup(server), "HTX,AAPL,,1")}
        assert (tick, center) not in kept
        assert {number for number, where in kept if where == center} & set(range(tick - 20, tick + 20))
