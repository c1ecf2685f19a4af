"""Symbols that a feed does not serve: the account's limit, unknown ones, those without depth."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from infrastructure.simulator.feed import Behaviour
from infrastructure.simulator.generated import GeneratedMarket
from infrastructure.simulator.server import Simulator, level1_port, level2_port
from pipeline_orchestrator.ingestion.refusals import (
    LISTED,
    SETTLED_NS,
    RefusalReport,
    depth_text,
    next_step,
    refused_text,
)
from pipeline_orchestrator.ingestion.subscriptions import BEYOND, LIMIT, NO_DEPTH, UNKNOWN, Subscriptions
from tests.doubles.context import FakeContext
from tests.doubles.fake_feed import FakeFeed, Manners
from tests.unit.ingestion.harness import Running

MARKET = ("AAPL", "IBM", "MSFT", "TSLA")


@asynccontextmanager
async def simulator(behaviour: Behaviour) -> AsyncIterator[Simulator]:
    server = Simulator(GeneratedMarket(MARKET, rate=0), [level1_port(0), level2_port(0)], behaviour=behaviour)
    await server.open()
    running = asyncio.create_task(server.run())
    try:
        yield server
    finally:
        server.stop()
        await running
        await server.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


def events(ctx: FakeContext, name: str, connection: str = "level1") -> list[dict[str, object]]:
    return [fields for _, event, fields in ctx.events if event == name and fields["connection"] == connection]


async def test_beyond_the_account_s_limit_the_others_go_on_and_the_refused_are_named(tmp_path: Path) -> None:
    async with simulator(Behaviour(symbol_limit=2, no_depth=frozenset({"IBM"}))) as server:
        ports = {name: number for name, (_, number) in server.addresses.items()}
        async with Running(None, tmp_path, (*MARKET, "NOPE"), level1_port=ports["level1"], port=ports["level2"]) as it:
            one, two = (connection.wishes for connection in it.reader.connections)
            await until(lambda: len(one.refused) == 3 and len(two.refused) == 3 and two.without_depth)
            assert one.refused == two.refused == {"MSFT": BEYOND, "TSLA": BEYOND, "NOPE": BEYOND}
            assert two.without_depth == {"IBM"}
            assert (one.limit, one.actual, two.actual) == (2, 2, 2)
            await it.sink.until(lambda: {row["symbol"] for row in it.sink.of("quote")} == {"AAPL", "IBM"})
            await until(lambda: it.ctx.cause is not None and "level2" in it.ctx.cause)
            assert it.ctx.cause == (
                "level1: 3 of 5 symbols refused: 3 beyond the account's limit (2), not asked for: MSFT, NOPE, TSLA; "
                "level2: 3 of 5 symbols refused: 3 beyond the account's limit (2), not asked for: MSFT, NOPE, TSLA"
            )
    gauges = it.ctx.gauges
    assert gauges["feed_symbols_limit|connection=level1"] == 2
    assert gauges["feed_symbols_desired|connection=level1"] == 5


async def test_gauges_count_and_list_what_is_refused(tmp_path: Path) -> None:
    answers = {"NOPE": b"n,NOPE\n", "MANY": b"S,SYMBOL LIMIT REACHED,MANY\n"}
    manners = Manners(
        greeting=b"S,CUST,real_time,127.0.0.1,60003,TOKEN,6.2.0.25,0, NASDAQ L2 ,,500,QT_API,,\nS,SERVER CONNECTED\n",
        on_watch=lambda port, symbol: answers.get(symbol, b""),
    )
    async with FakeFeed(manners) as feed, Running(feed, tmp_path, ("AAPL", "NOPE", "MANY"), level2=False) as it:
        await it.sink.until(lambda: len(it.sink.of("other", symbol="NOPE") + it.sink.of("other", symbol="MANY")) == 2)
        it.reader._tell_once(it.ctx)  # the second's tick, without waiting for it
        assert it.ctx.gauges["feed_symbols_refused|connection=level1"] == 2
        assert it.ctx.gauges["feed_refused_symbols|connection=level1"] == (
            "level1: 2 of 3 symbols refused: 1 by the account's limit (500): MANY; 1 unknown: NOPE"
        )
        assert events(it.ctx, "symbols_refused") == [
            {"connection": "level1", "symbols": 2, "limit": "MANY", "unknown": "NOPE"}
        ]


async def test_after_a_reconnect_refused_symbols_are_asked_for_again_and_said_once(tmp_path: Path) -> None:
    answers = {"NOPE": b"n,NOPE\n", "MANY": b"S,SYMBOL LIMIT REACHED,MANY\n"}
    manners = Manners(on_watch=lambda port, symbol: answers.get(symbol, b""))
    async with FakeFeed(manners) as feed, Running(feed, tmp_path, ("AAPL", "NOPE", "MANY"), level2=False) as it:
        wishes = it.reader.connections[0].wishes
        await until(lambda: len(wishes.refused) == 2)
        it.reader._tell_once(it.ctx)
        del answers["MANY"]  # the account now has room
        await (await feed.watched("level1", 3)).cut()
        await feed.watched("level1", 3, connections=2)
        await until(lambda: wishes.refused == {"NOPE": UNKNOWN})
        it.reader._tell_once(it.ctx)
        await until(lambda: it.ctx.cause == "level1: 1 of 3 symbols refused: 1 unknown: NOPE")
        assert len(events(it.ctx, "symbols_refused")) == 1, "the second refusal of NOPE is no news"


async def test_depth_that_comes_after_all_ends_no_depth(tmp_path: Path) -> None:
    answers = {"IBM": b"q,IBM,\r\n", "AAPL": b"q,AAPL,\r\n"}
    manners = Manners(on_watch=lambda port, symbol: answers.get(symbol, b"") if port == "level2" else b"")
    async with FakeFeed(manners) as feed, Running(feed, tmp_path, ("AAPL", "IBM"), level1=False) as it:
        wishes = it.reader.connections[0].wishes
        await until(lambda: wishes.without_depth == {"AAPL", "IBM"})
        assert it.ctx.cause is None, "no depth is no fault of the pipeline"
        client = await feed.watched("level2", 2)
        client.send(b"S,IP,1,2\r\n8,IBM,A,1.75,4,1,2,10:00:00.25,2024-01-02,\r\n")
        await until(lambda: wishes.without_depth == {"AAPL"})
        client.send(b"7,AAPL,A,1.75,4,1,2,10:00:00.25,2024-01-02,\r\nq,AAPL,\r\nT,20240102 10:00:01\r\n")
        await it.sink.until(lambda: it.sink.of("level_set", symbol="AAPL"))
        assert wishes.without_depth == {"AAPL"}, "the later line counts"


@pytest.fixture
def wishes() -> Subscriptions:
    found = Subscriptions("level1", (f"S{number:03}" for number in range(100)))
    for symbol in found.wanted:
        found.watch(symbol)
    return found


def test_texts_are_bounded_and_counted(wishes: Subscriptions) -> None:
    assert (refused_text(wishes), depth_text(wishes), next_step(wishes)) == ("", "", "")
    for symbol in wishes.wanted[:50]:
        wishes.refuse(symbol, LIMIT)
    wishes.account.limit = 50
    text = refused_text(wishes)
    assert text.startswith("level1: 50 of 100 symbols refused: 50 by the account's limit (50): S000, S001, ")
    assert text.endswith(f"S{LISTED - 1:03} and 30 more")
    assert "limit" in next_step(wishes)
    wishes.without_depth = {"S090"}
    assert depth_text(wishes) == "level1: 1 of 100 symbols without depth now: S090"


def test_a_symbol_that_stays_accepted_is_said_to_be_served_again(tmp_path: Path, wishes: Subscriptions) -> None:
    ctx, report = FakeContext(tmp_path), RefusalReport(wishes)
    wishes.refuse("S001", LIMIT)
    report.tell(ctx, 0)
    report.tell(ctx, 1)
    assert len(events(ctx, "symbols_refused")) == 1
    wishes.forget()  # the connection is gone: nothing is known
    report.tell(ctx, SETTLED_NS)
    wishes.watch("S001")
    report.tell(ctx, 2 * SETTLED_NS)
    assert not events(ctx, "symbols_served"), "just watched: the answer may still come"
    report.tell(ctx, 3 * SETTLED_NS)
    assert [fields["now_served"] for fields in events(ctx, "symbols_served")] == ["S001"]
    wishes.refuse("S001", UNKNOWN)
    report.tell(ctx, 4 * SETTLED_NS)
    assert [sorted(fields) for fields in events(ctx, "symbols_refused")] == [
        ["connection", "limit", "symbols"], ["connection", "symbols", "unknown"],
    ]  # fmt: skip


def test_another_reason_is_news_and_no_depth_alone_is_no_warning(tmp_path: Path) -> None:
    found = Subscriptions("level2", ("A", "B"))
    ctx, report = FakeContext(tmp_path), RefusalReport(found)
    found.watch("A")
    found.without_depth.add("A")
    report.tell(ctx, 0)
    found.refuse("A", LIMIT)
    report.tell(ctx, 1)
    assert [(level, NO_DEPTH.replace(" ", "_") in fields, LIMIT in fields) for level, _, fields in ctx.events] == [
        ("INFO", True, False), ("WARNING", False, True),
    ]  # fmt: skip
    assert ctx.gauges["feed_symbols_without_depth|connection=level2"] == 1


@pytest.mark.parametrize(
    "line", [b"S,CUST", b"S,CUST,real_time,1.2.3.4,1,T,6.2,0, A B ,,,QT_API,", b"S,CUST,,,,,,,,,x,"]
)
async def test_an_account_line_without_a_limit_leaves_it_unknown(tmp_path: Path, line: bytes) -> None:
    async with (
        FakeFeed(Manners(greeting=line + b"\nS,SERVER CONNECTED\n")) as feed,
        Running(feed, tmp_path, level2=False) as it,
    ):
        await feed.watched("level1")
        assert it.reader.connections[0].wishes.limit is None
