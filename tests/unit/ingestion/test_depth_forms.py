"""Ingestion's choice of the form of depth, over the simulator's Level 2 and over a scripted feed; silent symbols."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from config.sections import IQFeedConfig
from infrastructure.simulator.generated import GeneratedMarket
from pipeline_orchestrator.flow.spool_format import Frame
from pipeline_orchestrator.ingestion.context import ParserContext
from pipeline_orchestrator.ingestion.depth_redrive import DepthRedrive
from pipeline_orchestrator.ingestion.line_parser import LineParser
from pipeline_orchestrator.ingestion.reference_parser import parse_line
from pipeline_orchestrator.ingestion.subscriptions import Subscriptions
from tests.doubles.fake_feed import FakeFeed, Manners
from tests.unit.ingestion.harness import Running
from tests.unit.simulator.conversation import serving

SECOND = 1_000_000_000
SIDES = {"A": "ask", "B": "bid"}


def parsed(*lines: str, port: int = 2) -> Any:  # Any: a RecordBatch
    raw = "".join(line + "\r\n" for line in lines).encode()
    batch, _ = LineParser(ParserContext()).parse([Frame(0, port, 1, 0, len(lines), 0, raw)])
    return batch


def test_each_symbol_is_watched_in_its_form() -> None:
    wishes = Subscriptions("level2", ("@ESZ26", "AAPL"), 5, "levels", {"@ESZ26": "orders"})
    assert [wishes.watch("@ESZ26"), wishes.watch("AAPL")] == [b"WOR,@ESZ26\r\n", b"WPL,AAPL,5\r\n"]
    assert [wishes.unwatch("@ESZ26"), wishes.unwatch("AAPL")] == [b"ROR,@ESZ26\r\n", b"RPL,AAPL\r\n"]
    wishes = Subscriptions("level2", ("AAPL",), 5, "orders", {"AAPL": "levels"})
    assert [wishes.watch("AAPL"), wishes.watch("MSFT")] == [b"WPL,AAPL,5\r\n", b"WOR,MSFT\r\n"]
    assert Subscriptions("level1", ("AAPL",), 0, "orders").watch("AAPL") == b"wAAPL\r\n"


def test_the_settings_know_both_forms_and_refuse_others() -> None:
    config = IQFeedConfig(depth="orders", depth_by_symbol={"aapl": "levels"})
    assert config.depth_by_symbol == {"AAPL": "levels"}
    with pytest.raises(ValidationError, match="depth"):
        IQFeedConfig.model_validate({"depth": "auto"})
    with pytest.raises(ValidationError, match="depth_by_symbol"):
        IQFeedConfig.model_validate({"depth_by_symbol": {"AAPL": "many"}})


async def test_watches_go_out_by_the_settings_and_again_after_a_loss(tmp_path: Path) -> None:
    forms = {"@ESZ26": "orders"}
    async with FakeFeed() as feed, Running(feed, tmp_path, ("@ESZ26", "AAPL"), depth_by_symbol=forms) as it:
        for connection in (1, 2):
            await feed.until(lambda n=connection: len(feed.clients["level2"]) >= n)  # type: ignore[misc]
            client = feed.clients["level2"][-1]
            await feed.until(lambda c=client: len(c.commands) >= 5)  # type: ignore[misc]
            assert client.commands[3:5] == ["WOR,@ESZ26", "WPL,AAPL"]
            await client.cut()
        await it.sink.until(lambda: len(it.sink.of("subscribed", port="level2")) >= 4)


async def test_orders_of_the_simulator_arrive_as_order_events_and_none_is_lost(tmp_path: Path) -> None:
    market = GeneratedMarket(("@ESZ26", "AAPL"), rate=None, seed=4, limit=3000)
    async with serving(market, hold=3, sent_log=tmp_path / "log") as server:
        watcher = await server.level2("WOR,@ESZ26", "WOR,AAPL")
        ports: dict[str, Any] = {
            "level1_port": server.simulator.addresses["level1"][1],
            "port": server.simulator.addresses["level2"][1],
        }
        async with Running(None, tmp_path / "state", ("@ESZ26", "AAPL"), depth="orders", **ports) as it:
            await server.happened("flow_finished")
            lines = [line.split(",") for line in await watcher.settled() if line[0] in "345"]
            await it.sink.until(lambda: _live(it) >= len(lines))
    kinds = {"3": "order_add", "4": "order_change", "5": "order_delete"}
    wanted = [(kinds[parts[0]], parts[1], _signed(parts[2]), parts[3] or None, SIDES[parts[4]]) for parts in lines]
    rows = [row for row in it.sink.rows if row["port"] == "level2" and row["kind"] in kinds.values()]
    live = [row for row in rows if not row["summary"]]
    assert [(r["kind"], r["symbol"], r["order_id"], r["mmid"], r["side"]) for r in live] == wanted
    assert any(row["order_id"] is not None and row["order_id"] < 0 for row in live)  # ids above 2**63
    assert not it.sink.of("level_set") and not it.sink.dead


def _live(it: Running) -> int:
    return sum(row["kind"].startswith("order_") and not row["summary"] for row in it.sink.rows)


def _signed(text: str) -> int | None:
    if not text:
        return None
    value = int(text)
    return value - 2**64 if value >= 2**63 else value


def test_only_a_symbol_silent_alone_is_tried_and_not_too_often() -> None:
    watch = DepthRedrive(20)
    watch.begin(("A", "B", "C"), 0)
    line = "8,{},B,1.5,4,1,2,10:00:00.25,2024-01-02,"
    for second in range(1, 60):
        watch.observe(parsed(line.format("A")), second * SECOND)
        tried = watch.silent(("A", "B"), second * SECOND)
        assert tried == (["B"] if second in (20, 40) else [])
        for name in tried:
            watch.tried(name, second * SECOND)
    assert watch.sent == 2
    assert watch.silent(("A", "B", "C"), 70 * SECOND) == []  # nobody speaks: the connection's matter
    watch.observe(parsed("3,B,7,,A,1.5,4,9,2,10:00:00.25,2024-01-02,"), 71 * SECOND)
    assert watch.silent(("B",), 72 * SECOND) == [] and watch.silent(("C",), 72 * SECOND) == ["C"]


def test_what_is_no_depth_does_not_count() -> None:
    watch = DepthRedrive(20)
    watch.begin(("A", "B", "C"), 0)
    watch.observe(parsed("q,B,", "8,A,B,1.5,4,1,2,10:00:00.25,2024-01-02,"), 21 * SECOND)
    watch.observe(parsed("Q,C,1", "n,C,", port=1), 21 * SECOND)
    assert watch.silent(("A", "C"), 21 * SECOND) == ["C"]
    never = DepthRedrive(0)
    never.begin(("A", "B"), 0)
    never.observe(parsed("8,A,B,1.5,4,1,2,10:00:00.25,2024-01-02,"), 50 * SECOND)
    assert never.silent(("A", "B"), 50 * SECOND) == []


async def test_a_symbol_answered_without_depth_is_not_watched_again_until_it_has_some(tmp_path: Path) -> None:
    answers = {"IBM": b"q,IBM,\r\n"}
    manners = Manners(on_watch=lambda port, symbol: answers.get(symbol, b"") if port == "level2" else b"")
    options: dict[str, Any] = {"level1": False, "depth_redrive_seconds": 0.05}
    line = "8,{},A,1.75,4,1,2,10:00:00.25,2024-01-02,\r\n"
    async with FakeFeed(manners) as feed, Running(feed, tmp_path, ("AAPL", "IBM", "MSFT"), **options) as it:
        (link,) = it.reader.connections
        client = await feed.watched("level2", 3)

        async def spoken(symbol: str, times: int) -> None:
            """AAPL speaks again and again; so long as others are silent beside it, each round may watch them again."""
            async with asyncio.timeout(10):
                while sum(command == f"WPL,{symbol}" for command in client.commands) < times:
                    client.send(line.format("AAPL").encode())
                    await asyncio.sleep(0.02)
                    link.watch_silent_again()

        async with asyncio.timeout(10):
            while link.wishes.without_depth != {"IBM"}:
                await asyncio.sleep(0.01)
        await spoken("MSFT", 4)
        assert client.commands.count("WPL,IBM") == 1
        client.send(line.format("IBM").encode())
        del answers["IBM"]
        async with asyncio.timeout(10):
            while link.wishes.without_depth:
                await asyncio.sleep(0.01)
        await spoken("IBM", 2)


async def test_a_symbol_that_was_admitted_later_is_watched_again_when_it_falls_silent(tmp_path: Path) -> None:
    limit = "S,CUST,real_time,1.2.3.4,1,T,6.2.0.25,0, L2 ,,{},QT_API,,\r\n"
    manners = Manners(greeting=b"S,SERVER CONNECTED\r\n" + limit.format(1).encode())
    options: dict[str, Any] = {"level1": False, "depth_redrive_seconds": 0.05}
    async with FakeFeed(manners) as feed, Running(feed, tmp_path, ("AAPL", "IBM"), **options) as it:
        (link,) = it.reader.connections
        client = await feed.watched("level2", 1)
        assert client.watched() == ["AAPL"]
        client.send(limit.format(2).encode())
        await feed.watched("level2", 2)
        async with asyncio.timeout(10):
            while client.commands.count("WPL,IBM") < 2:
                client.send(b"8,AAPL,A,1.75,4,1,2,10:00:00.25,2024-01-02,\r\n")
                await asyncio.sleep(0.02)
                link.watch_silent_again()


async def test_a_silenced_symbol_is_watched_again_with_a_fact_before_and_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline_orchestrator.ingestion.reader.TELL_SECONDS", 0.05)
    async with serving(GeneratedMarket(("@ESZ26", "AAPL"), rate=2000, seed=4)) as server:
        ports: dict[str, Any] = {
            "level1_port": server.simulator.addresses["level1"][1],
            "port": server.simulator.addresses["level2"][1],
        }
        options: dict[str, Any] = {"depth": "orders", "depth_redrive_seconds": 0.5, **ports}
        async with Running(None, tmp_path, ("@ESZ26", "AAPL"), **options) as it:
            await it.sink.until(lambda: it.sink.of("order_delete", symbol="@ESZ26"))
            server.simulator.silence_depth("@ESZ26")
            before = len(it.sink.of("order_add", symbol="@ESZ26", summary=True))
            await it.sink.until(lambda: len(it.sink.of("order_add", symbol="@ESZ26", summary=True)) > before)
            async with asyncio.timeout(10):
                while not it.ctx.counts.get("feed_depth_redriven_total|connection=level2"):
                    await asyncio.sleep(0.02)
    told = [fact for fact in it.sink.facts("subscribed") if fact["connection"] == "level2"]
    assert [fact["cause"] for fact in told[:2]] == ["start", "start"]
    assert {fact["cause"] for fact in told[2:]} == {"redrive"} and len(told) == 2 + it.reader.redrive.sent
    first = min(fact["id"] for fact in told[2:] if fact["symbol"] == "@ESZ26")
    assert first < max((row["epoch"], row["seq"]) for row in it.sink.of("order_add", symbol="@ESZ26", summary=True))


def test_lines_by_order_drawn_at_random_mean_the_same_to_kernel_and_reference() -> None:
    chance = random.Random(6)
    lines = []
    for _ in range(2000):
        order = chance.choice(["", "0", str(chance.randrange(2**64)), str(2**64 - 1), str(2**64), "-1"])
        head = f"{chance.choice('03465')},{chance.choice(['AAPL', '@ESZ26'])},{order},{chance.choice(['', 'NSDQ'])}"
        side = chance.choice([*"ABABAB", "x", ""])
        when = chance.choice(["10:00:00.123456", "", "99:99:99"]) + ",2024-01-02"
        middle = f"{chance.choice(['', '-1.25', '4500.25'])},{chance.choice(['0', '-5', '', '12'])},"
        priority = chance.choice(["", str(chance.randrange(2**64)), str(2**63)])
        lines.append(f"{head},{side},{when}," if head[0] == "5" else f"{head},{side},{middle}{priority},4,{when},")
    batch = parsed(*lines)
    rows = {row["seq"]: row for row in batch.to_pylist()}
    for seq, line in enumerate(lines):
        try:
            event, _ = parse_line(line.encode(), 2, ParserContext(), 0)
        except ValueError:
            assert seq not in rows, line
            continue
        shown = ("kind", "symbol", "order_id", "mmid", "side", "price", "size", "priority", "summary", "event_time_us")
        got = {name: rows[seq][name] for name in shown}
        assert got == {name: event.get(name, False if name == "summary" else None) for name in shown}, line
    assert 500 < len(rows) < 2000
