"""Trades of a test's own choosing as Level 1 rows, and answers of the Lookup port as values."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import NamedTuple

import numpy as np

from infrastructure.simulator import columns as c
from infrastructure.simulator.eastern import midnight_us
from infrastructure.simulator.generated import GeneratedMarket
from infrastructure.simulator.market import Int64s
from tests.unit.simulator.conversation import Client, Server

SYMBOLS = ("AAPL", "MSFT")
BITS = {"C": c.HAS_LAST, "E": c.HAS_EXTENDED, "O": c.HAS_OTHER}
DAY = date(2024, 3, 6)  # a Wednesday


class Trade(NamedTuple):
    """`at` on the Eastern wall clock; price in 1e-4 dollars; `total` is filled in by `rows_of`."""

    at: int
    price: int = 1_000_000
    size: int = 100
    basis: str = "C"
    symbol: int = 0
    tick_id: int = 1
    center: int = 11
    conditions: int = 1
    aggressor: int = 1


def us(clock: str, day: date = DAY, micros: int = 0) -> int:
    """A moment of a day on the Eastern wall clock: HHMMSS."""
    seconds = int(clock[:2]) * 3600 + int(clock[2:4]) * 60 + int(clock[4:])
    return midnight_us(day) + seconds * c.SECOND_US + micros


def text_of(at: int, fraction: bool = True) -> str:
    return datetime.fromtimestamp(at // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S") + (
        f".{at % 1_000_000:06d}" if fraction else ""
    )


def rows_of(trades: Iterable[Trade]) -> Int64s:
    """Level 1 rows with a total volume that counts every trade and starts anew each day."""
    table, totals = [], dict[tuple[int, int], int]()
    for trade in trades:
        key = (trade.symbol, trade.at // c.DAY_US)
        totals[key] = totals.get(key, 0) + trade.size
        row = np.full(c.LEVEL1_COLUMNS, c.NONE, dtype=np.int64)
        row[c.KIND], row[c.SYM], row[c.TIME] = c.TRADE, trade.symbol, trade.at
        row[c.RECENT_TIME], row[c.RECENT_PRICE], row[c.RECENT_SIZE] = trade.at, trade.price, trade.size
        row[c.RECENT_CENTER], row[c.RECENT_CONDITIONS] = trade.center, trade.conditions
        row[c.AGGRESSOR], row[c.TICK_ID], row[c.TOTAL_VOLUME] = trade.aggressor, trade.tick_id, totals[key]
        row[c.DAY_CODE] = datetime.fromtimestamp(trade.at // 1_000_000, UTC).day
        row[c.BID_PRICE], row[c.ASK_PRICE] = trade.price - 100, trade.price + 100
        row[c.CONTENTS] = BITS[trade.basis] | c.HAS_VOLUME | c.HAS_BID
        table.append(row)
    return np.array(table, dtype=np.int64).reshape(-1, c.LEVEL1_COLUMNS)


def idle(now: int = us("120000")) -> GeneratedMarket:
    """A market that makes nothing; its clock starts at `now`."""
    return GeneratedMarket(SYMBOLS, rate=0, seed=1, start_us=now)


async def lookup(server: Server, *commands: str, protocol: str = "6.2") -> Client:
    client = await server.connect("lookup")
    if protocol:
        await client.say(f"S,SET PROTOCOL,{protocol}")
        assert await client.until("S,CURRENT") == [f"S,CURRENT PROTOCOL,{protocol},"]
    await client.say(*commands)
    return client


async def answer(client: Client, command: str, request_id: str = "") -> list[list[str]]:
    """Fields of the rows of one answer, tags and id taken off, the end line left out."""
    await client.say(command)
    before = f"{request_id}," if request_id else ""
    lines = await client.until(f"{before}!ENDMSG!,")
    assert all(line.startswith(before) for line in lines)
    return [line.removeprefix(before).removeprefix("LH,").removesuffix(",").split(",") for line in lines[:-1]]


def sizes(rows: list[list[str]]) -> list[int]:
    """LastSize of ticks, which these tests number their trades with."""
    return [int(row[2]) for row in rows]
