"""The Lookup client against the simulator's Lookup port: both were written from the protocol, not from each other."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from infrastructure.simulator.feed import Behaviour
from infrastructure.simulator.lookup_behaviour import LookupBehaviour
from pipeline_orchestrator.lookup import refusals
from pipeline_orchestrator.lookup.client import LookupClient
from pipeline_orchestrator.lookup.credit_bucket import CreditBucket
from pipeline_orchestrator.lookup.requests import (
    Request,
    intervals_between,
    newest_days,
    newest_ticks,
    reference_table,
    symbol_search,
    ticks_between,
)
from tests.unit.simulator.conversation import Server, serving
from tests.unit.simulator.lookup_market import Trade, idle, rows_of, us

BEGIN, END = datetime(2024, 3, 6, 15, tzinfo=UTC), datetime(2024, 3, 6, 15, 10, tzinfo=UTC)  # 10:00 to 10:10 Eastern
TRADES = [
    Trade(
        us(f"10{second // 60:02d}{second % 60:02d}", micros=250_000),
        price=1_000_000 + second * 100, size=second + 1, tick_id=second + 1, basis="CEO"[second % 3],
    )
    for second in range(600)
]  # fmt: skip
PROTOCOLS = ["6.2", "6.1", "6.0", "5.1"]

Rows = list[dict[str, Any]]


def faults(**values: object) -> Behaviour:
    return Behaviour(lookup=LookupBehaviour.from_mapping(values))


def client_of(server: Server, protocol: str = "6.2") -> LookupClient:
    host, port = server.simulator.addresses["lookup"]
    return LookupClient(host, port, protocol=protocol, bucket=CreditBucket())


async def rows(client: LookupClient, request: Request, **options: float) -> Rows:
    found: Rows = []
    async for part in client.stream(request, **options):  # type: ignore[arg-type]  # seconds
        assert part.refused == ()
        found += part.rows.to_pylist()
    return found


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_ticks_of_every_version_are_the_trades_that_were_made(protocol: str) -> None:
    async with serving(idle()) as server:
        server.simulator.feed.history.take(rows_of(TRADES))
        async with client_of(server, protocol) as client:
            ticks = await rows(client, ticks_between("AAPL", BEGIN, END))
            backwards = await rows(client, ticks_between("AAPL", BEGIN, END, newest_first=True))
    begin_us = int(BEGIN.timestamp()) * 1_000_000
    assert [tick["event_time_us"] for tick in ticks] == [
        begin_us + second * 1_000_000 + 250_000 for second in range(600)
    ]
    assert [tick["price"] for tick in ticks] == [trade.price * 100 for trade in TRADES]
    assert [(tick["tick_id"], tick["basis"], tick["size"]) for tick in ticks] == [
        (trade.tick_id, trade.basis, trade.size) for trade in TRADES
    ]
    assert all(tick["total_volume"] == above["total_volume"] + tick["size"] for above, tick in pairwise(ticks))
    assert {tick["day_code"] for tick in ticks} == ({6} if protocol in {"6.2", "6.1"} else {None})
    assert backwards == ticks[::-1]


async def test_without_a_protocol_the_oldest_form_is_read() -> None:
    async with serving(idle()) as server:
        server.simulator.feed.history.take(rows_of(TRADES))
        async with client_of(server, "") as client:
            ticks = await rows(client, newest_ticks("AAPL", 1000))
    assert [tick["tick_id"] for tick in ticks] == [trade.tick_id for trade in TRADES if trade.basis == "C"]


async def test_bars_are_those_of_the_trades() -> None:
    async with serving(idle()) as server:
        server.simulator.feed.history.take(rows_of(TRADES))
        async with client_of(server) as client:
            bars = await rows(client, intervals_between("AAPL", 60, BEGIN, END))
            days = await rows(client, newest_days("AAPL", 5, include_partial=True))
    counted = [[trade for trade in TRADES[at : at + 60] if trade.basis in "CE"] for at in range(0, 600, 60)]
    begin_us = int(BEGIN.timestamp()) * 1_000_000
    assert [(bar["label_time_us"], bar["open"], bar["close"], bar["volume"]) for bar in bars] == [
        (
            begin_us + minute * 60_000_000, trades[0].price * 100, trades[-1].price * 100,
            sum(trade.size for trade in trades),
        )
        for minute, trades in enumerate(counted)
    ]  # fmt: skip
    assert days[-1]["volume"] == sum(trade.size for trade in TRADES)


async def test_answers_that_alternate_are_told_apart() -> None:
    other = [trade._replace(symbol=1, price=trade.price * 2) for trade in TRADES]
    async with serving(idle(), behaviour=faults(interleave="1")) as server:
        server.simulator.feed.history.take(rows_of([*TRADES, *other]))
        async with client_of(server) as client:
            asked = [ticks_between(symbol, BEGIN, END, per_send=7) for symbol in ("AAPL", "MSFT")]
            one, two = await asyncio.gather(*(rows(client, request) for request in asked))
    assert [tick["price"] for tick in two] == [2 * tick["price"] for tick in one]
    assert len(one) == 600


async def test_errors_limits_and_faults_arrive_as_their_own_types() -> None:
    async with serving(idle()) as server, client_of(server) as client:
        with pytest.raises(refusals.InvalidSymbolError):
            await rows(client, newest_ticks("NOSUCH", 1))
        assert await rows(client, newest_ticks("AAPL", 1)) == []
    for name, kind in (("syntax", refusals.SyntaxRefusedError), ("unauthorized", refusals.UnauthorizedError)):
        async with serving(idle(), behaviour=faults(error=name)) as server, client_of(server) as client:
            with pytest.raises(kind):
                await rows(client, newest_ticks("AAPL", 1))


async def test_what_never_ends_and_what_is_cut_fails_in_time() -> None:
    async with serving(idle(), behaviour=faults(never_ends="1")) as server:
        server.simulator.feed.history.take(rows_of(TRADES))
        async with client_of(server) as client:
            with pytest.raises(refusals.AnswerTimeoutError):
                await rows(client, newest_ticks("AAPL", 5), silence_seconds=0.3)
    async with serving(idle(), behaviour=faults(cut_after_rows="3")) as server:
        server.simulator.feed.history.take(rows_of(TRADES))
        async with client_of(server) as client:
            with pytest.raises(refusals.LookupLostError):
                await rows(client, newest_ticks("AAPL", 5))


async def test_more_requests_than_credits_are_all_answered() -> None:
    async with serving(idle(), behaviour=faults(requests_per_second="20")) as server:
        server.simulator.feed.history.take(rows_of(TRADES[:1]))
        async with client_of(server) as client:  # our bucket believes in 50, so that the feed refuses some
            found = await asyncio.gather(*(rows(client, newest_ticks("AAPL", 1)) for _ in range(45)))
    assert [len(ticks) for ticks in found] == [1] * 45


async def test_tables_and_searches_are_read() -> None:
    async with serving(idle()) as server, client_of(server) as client:
        for name in ("SLM", "STC", "SST"):
            table = await rows(client, reference_table(name))
            assert len(table) == len({row["id"] for row in table}) > 0
        assert "AAPL" in {row["symbol"] for row in await rows(client, symbol_search("AAP"))}
