"""Symbols that move between ingestion instances, and instances that the settings no longer have."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline_orchestrator.flow.spool_cursor import load_cursor
from pipeline_orchestrator.ingestion.assembly import make_ingestion, spool_directory
from pipeline_orchestrator.ingestion.holdings import HOLDINGS_FILE, load_holdings
from pipeline_orchestrator.ingestion.subscriptions import BEYOND
from pipeline_orchestrator.leftover_spools import leftover_spools
from tests.doubles.fake_feed import FakeFeed, Manners
from tests.unit.ingestion.harness import KeepingSink, Running
from tests.unit.ingestion.test_account_limit import greeting
from tests.unit.ingestion.test_feed_client import quote

BEFORE = (("AAPL", "MSFT"), ("TSLA",))
AFTER = (("AAPL",), ("MSFT", "TSLA"))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def watched(feed: FakeFeed, port: str = "level1") -> list[str]:
    return [symbol for client in feed.clients[port] for symbol in client.watched()]


def gaps(it: Running, phase: str) -> list[dict[str, Any]]:
    return [fact for fact in it.sink.facts("gap") if fact["phase"] == phase]


def held(state: Path, instance: int) -> set[str]:
    found = load_holdings(spool_directory(state, instance))
    assert found is not None
    return found.held


async def read_by_both(feed: FakeFeed, state: Path, log: str = "") -> None:
    """Both instances read their symbols of BEFORE and stop cleanly."""
    async with (
        Running(feed, state, instance=0, assign=BEFORE, level2=False, log=log) as zero,
        Running(feed, state, instance=1, assign=BEFORE, level2=False, log=log) as one,
    ):
        await feed.until(lambda: sorted(watched(feed)) == ["AAPL", "MSFT", "TSLA"])
        for client in feed.clients["level1"]:
            for symbol in client.watched():
                client.send(quote(symbol, time="10:00:01"))
        await zero.sink.until(lambda: len(zero.sink.of("quote")) == 2)
        await one.sink.until(lambda: one.sink.of("quote"))
    feed.clients["level1"].clear()


async def test_each_instance_watches_its_own_symbols_in_a_spool_and_an_epoch_of_its_own(tmp_path: Path) -> None:
    async with (
        FakeFeed() as feed,
        Running(feed, tmp_path, instance=0, assign=BEFORE, level2=False) as zero,
        Running(feed, tmp_path, instance=1, assign=BEFORE, level2=False) as one,
    ):
        await feed.until(lambda: sorted(watched(feed)) == ["AAPL", "MSFT", "TSLA"])
        names = {command for client in feed.clients["level1"] for command in client.commands if "NAME," in command}
        await zero.sink.until(lambda: len(zero.sink.facts("subscribed")) == 2)
        await one.sink.until(lambda: one.sink.facts("subscribed"))
    assert names == {"S,SET CLIENT NAME,pipeline-orchestrator-0", "S,SET CLIENT NAME,pipeline-orchestrator-1"}
    assert {row["instance"] for row in zero.sink.rows} == {0} and {row["instance"] for row in one.sink.rows} == {1}
    assert (held(tmp_path, 0), held(tmp_path, 1)) == ({"AAPL", "MSFT"}, {"TSLA"})
    for number in (0, 1):
        assert load_cursor(spool_directory(tmp_path, number))[0] is not None


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_instances_that_start_in_the_same_moment_for_the_first_time_miss_nothing(
    tmp_path: Path, order: tuple[int, int]
) -> None:
    """One has opened its spool and said nothing about its symbols yet, when the other looks."""
    readers = [make_ingestion(Running(None, tmp_path, assign=BEFORE).settings, number, tmp_path)[0] for number in order]
    for each in readers:
        each.moves.announce()
        each.journal.open()
    for each in reversed(readers):
        each.moves.begin()
        assert (each.moves.coming, each.moves.waiting) == ({}, {})
    for each in readers:
        each.journal.close()


async def test_a_kill_of_one_instance_leaves_epoch_and_gaps_of_the_other_alone(tmp_path: Path) -> None:
    async with FakeFeed() as feed, Running(feed, tmp_path, instance=1, assign=BEFORE, level2=False) as one:
        epoch = one.reader.journal.spool.epoch
        for number in range(3):
            zero = Running(feed, tmp_path, instance=0, assign=BEFORE, level2=False)
            await zero.__aenter__()
            client = await feed.watched("level1", symbols=2, connections=number + 2)
            client.send(quote("AAPL", bid=str(number)))
            await zero.sink.until(lambda at=zero: at.sink.of("quote"))  # type: ignore[misc]
            await zero.kill()
        first = next(client for client in feed.clients["level1"] if client.watched() == ["TSLA"])
        first.send(quote("TSLA"))
        await one.sink.until(lambda: one.sink.of("quote"))
    assert {row["epoch"] for row in one.sink.rows} == {epoch}
    assert not one.sink.facts("gap") and len(one.sink.facts("connected")) == 1


async def test_a_moved_symbol_is_watched_only_after_the_old_cursor_has_passed_its_unsubscribed_fact(
    tmp_path: Path,
) -> None:
    async with FakeFeed() as feed:
        await read_by_both(feed, tmp_path)
        stuck = KeepingSink()
        stuck.go.clear()  # Kafka takes nothing of instance 0
        async with (
            Running(feed, tmp_path, instance=1, assign=AFTER, level2=False) as one,
            Running(feed, tmp_path, instance=0, assign=AFTER, level2=False, sink=stuck) as zero,
        ):
            await feed.until(lambda: sorted(watched(feed)) == ["AAPL", "TSLA"])
            await until(lambda: held(tmp_path, 0) == {"AAPL"})
            await until(lambda: "MSFT" in str(one.ctx.cause) and "ingestion/0" in str(one.ctx.cause))
            assert "MSFT" not in watched(feed) and held(tmp_path, 1) == {"TSLA"}
            stuck.go.set()
            await feed.until(lambda: "MSFT" in watched(feed))
            left = load_holdings(spool_directory(tmp_path, 0))
            cursor, _ = load_cursor(spool_directory(tmp_path, 0), set_aside=False)
            assert left is not None and cursor is not None
            assert (cursor.epoch, cursor.next_seq) > (left.left["MSFT"].epoch, left.left["MSFT"].seq)
            assert held(tmp_path, 1) == {"MSFT", "TSLA"}
            (facts,) = ({(fact["symbol"], fact["connection"]) for fact in zero.sink.facts("unsubscribed")},)
    assert facts == {("MSFT", "level1"), ("MSFT", "level2")}


async def test_the_time_without_a_reader_of_a_moved_symbol_is_a_gap_until_its_first_line(tmp_path: Path) -> None:
    async with FakeFeed() as feed:
        await read_by_both(feed, tmp_path)
        stuck = KeepingSink()
        stuck.go.clear()
        async with (
            Running(feed, tmp_path, instance=1, assign=AFTER, level2=False) as one,
            Running(feed, tmp_path, instance=0, assign=AFTER, level2=False, sink=stuck),
        ):
            await feed.until(lambda: sorted(watched(feed)) == ["AAPL", "TSLA"])
            client = next(client for client in feed.clients["level1"] if "TSLA" in client.watched())
            client.send(quote("TSLA", time="10:00:05"))
            await one.sink.until(lambda: gaps(one, "end"))
            assert not gaps(one, "closed")  # the moved symbol was not heard of yet
            stuck.go.set()
            await feed.until(lambda: "MSFT" in watched(feed))
            client.send(quote("MSFT", time="10:00:09"))
            await one.sink.until(lambda: gaps(one, "closed"))
    (begin,) = gaps(one, "begin")
    assert begin["cause"] == "reader_stopped" and begin["waits_for"] == ["MSFT"]
    ends = {fact["symbol"]: fact["to"]["event_time_us"] - begin["from"]["event_time_us"] for fact in gaps(one, "end")}
    assert ends == {"TSLA": 4_000_000, "MSFT": 8_000_000}


async def test_no_gap_waits_for_a_moved_symbol_that_lies_beyond_the_limit(tmp_path: Path) -> None:
    async with FakeFeed(Manners()) as feed:
        await read_by_both(feed, tmp_path)
        feed.manners.greeting = greeting(2)
        after = (("AAPL",), ("TSLA", "MSFT"))
        async with (
            Running(feed, tmp_path, instance=0, assign=after, level2=False),
            Running(feed, tmp_path, instance=1, assign=after, level2=False) as one,
        ):
            (connection,) = one.reader.connections
            await until(lambda: connection.wishes.refused == {"MSFT": BEYOND})
            client = next(client for client in feed.clients["level1"] if client.watched() == ["TSLA"])
            client.send(quote("TSLA", time="10:00:05"))
            await one.sink.until(lambda: gaps(one, "closed"))
    (begin,) = gaps(one, "begin")
    assert begin["waits_for"] == ["MSFT"]


async def test_a_new_instance_declares_what_nobody_read_since_the_old_one(tmp_path: Path) -> None:
    async with FakeFeed() as feed:
        async with Running(feed, tmp_path, ("AAPL", "MSFT"), level2=False) as alone:
            (await feed.watched("level1", symbols=2)).send(quote("MSFT", time="10:00:01"))
            await alone.sink.until(lambda: alone.sink.of("quote"))
        (spool_directory(tmp_path, 0) / HOLDINGS_FILE).unlink()  # as a version without this file left it
        feed.clients["level1"].clear()
        split = (("AAPL",), ("MSFT",))
        async with Running(feed, tmp_path, instance=1, assign=split, level2=False) as one:
            await feed.watched("level1", symbols=0)
            await until(lambda: "MSFT" in str(one.ctx.cause))
            assert watched(feed) == []
            async with Running(feed, tmp_path, instance=0, assign=split, level2=False) as zero:
                await feed.until(lambda: "MSFT" in watched(feed))
                client = next(client for client in feed.clients["level1"] if client.watched() == ["MSFT"])
                client.send(quote("MSFT", time="10:00:08"))
                await one.sink.until(lambda: gaps(one, "closed"))
    assert [fact["symbol"] for fact in zero.sink.facts("unsubscribed")] == ["MSFT", "MSFT"]
    (begin,), (end,) = gaps(one, "begin"), gaps(one, "end")
    assert (begin["cause"], begin["from"]["event_time_us"]) == (
        "symbol_moved",
        alone.sink.of("quote")[0]["event_time_us"],
    )
    assert (end["symbol"], end["to"]["event_time_us"] - begin["from"]["event_time_us"]) == ("MSFT", 7_000_000)


async def test_a_kill_between_two_steps_of_a_move_ends_in_the_same_place(tmp_path: Path) -> None:
    async with FakeFeed() as feed:
        await read_by_both(feed, tmp_path)
        waiting = Running(feed, tmp_path, instance=1, assign=AFTER, level2=False)
        await waiting.__aenter__()
        await feed.until(lambda: watched(feed) == ["TSLA"])
        await waiting.sink.until(lambda: gaps(waiting, "begin"))
        await waiting.kill()
        stuck = KeepingSink()
        stuck.go.clear()
        leaving = Running(feed, tmp_path, instance=0, assign=AFTER, level2=False, sink=stuck)
        await leaving.__aenter__()
        await until(lambda: held(tmp_path, 0) == {"AAPL"})
        await leaving.kill()
        async with (
            Running(feed, tmp_path, instance=0, assign=AFTER, level2=False) as zero,
            Running(feed, tmp_path, instance=1, assign=AFTER, level2=False) as one,
        ):
            await feed.until(lambda: "MSFT" in watched(feed))
            client = next(client for client in feed.clients["level1"] if "MSFT" in client.watched())
            client.send(quote("MSFT", time="10:00:09") + quote("TSLA", time="10:00:09"))
            await one.sink.until(lambda: gaps(one, "closed"))
    said = [(fact["symbol"], fact["connection"]) for fact in zero.sink.facts("unsubscribed")]
    assert said == [("MSFT", "level1"), ("MSFT", "level2")]  # resent, not said twice
    assert not gaps(one, "begin")  # the one of the killed start covers it
    assert gaps(one, "closed")[0]["gap_id"] == gaps(waiting, "begin")[0]["gap_id"]


async def test_a_removed_instance_without_symbols_gives_all_up_and_sends_the_rest_of_its_spool(tmp_path: Path) -> None:
    async with FakeFeed() as feed:
        killed = Running(feed, tmp_path, instance=1, assign=BEFORE, level2=False)
        await killed.__aenter__()
        client = await feed.watched("level1")
        await killed.sink.until(lambda: killed.sink.facts("subscribed"))
        killed.sink.go.clear()
        client.send(b"".join(quote("TSLA", bid=str(number)) for number in range(1, 31)))
        await killed.spooled(b",30,")
        await killed.kill()
        feed.clients["level1"].clear()
        assert leftover_spools(tmp_path, 1, 86_400) == [1] and leftover_spools(tmp_path, 2, 0) == []
        one_instance = (("AAPL", "MSFT", "TSLA"),)
        async with (
            Running(feed, tmp_path, instance=0, assign=one_instance, level2=False) as zero,
            Running(feed, tmp_path, instance=1, assign=one_instance, level2=False) as rest,
        ):
            await feed.until(lambda: "TSLA" in watched(feed))
            await until(lambda: (found := load_holdings(spool_directory(tmp_path, 1))) and found.drained)
            assert len(feed.clients["level1"]) == 1  # only the instance with symbols has a connection
            feed.clients["level1"][0].send(quote("TSLA", time="10:00:30"))
            await zero.sink.until(lambda: [fact for fact in gaps(zero, "end") if fact["symbol"] == "TSLA"])
    assert [row["bid"] // 1_000_000 for row in rest.sink.of("quote")] == list(range(1, 31))
    assert {fact["symbol"] for fact in rest.sink.facts("unsubscribed")} == {"TSLA"}
    assert rest.ctx.cause is None
    (begin,) = gaps(zero, "begin")
    assert begin["from"]["event_time_us"] == rest.sink.of("quote")[-1]["event_time_us"]
    assert leftover_spools(tmp_path, 1, 86_400) == [1], "kept as long as its lines might be sent again"
    assert leftover_spools(tmp_path, 1, -10) == []


async def test_a_symbol_back_at_its_first_instance_waits_for_the_second(tmp_path: Path) -> None:
    async with FakeFeed() as feed:
        await read_by_both(feed, tmp_path)
        for assign in (AFTER, BEFORE):
            async with (
                Running(feed, tmp_path, instance=0, assign=assign, level2=False) as zero,
                Running(feed, tmp_path, instance=1, assign=assign, level2=False) as one,
            ):
                await feed.until(lambda: sorted(watched(feed)) == ["AAPL", "MSFT", "TSLA"])
            feed.clients["level1"].clear()
    assert {fact["symbol"] for fact in one.sink.facts("unsubscribed")} == {"MSFT"}
    assert not zero.sink.facts("unsubscribed")
    assert (held(tmp_path, 0), held(tmp_path, 1)) == ({"AAPL", "MSFT"}, {"TSLA"})


async def test_in_another_log_a_taken_symbol_waits_for_what_its_first_reader_sends_again(tmp_path: Path) -> None:
    async with FakeFeed() as feed:
        await read_by_both(feed, tmp_path, log="old")
        async with (
            Running(feed, tmp_path, instance=0, assign=AFTER, level2=False, log="old"),
            Running(feed, tmp_path, instance=1, assign=AFTER, level2=False, log="old"),
        ):
            await feed.until(lambda: "MSFT" in watched(feed))
        feed.clients["level1"].clear()
        stuck = KeepingSink()
        stuck.go.clear()
        async with (
            Running(feed, tmp_path, instance=1, assign=AFTER, level2=False, log="new") as one,
            Running(feed, tmp_path, instance=0, assign=AFTER, level2=False, log="new", sink=stuck) as zero,
        ):
            await feed.until(lambda: sorted(watched(feed)) == ["AAPL", "TSLA"])
            await until(lambda: one.source.log == "new")
            assert one.reader.moves.advance() == []
            stuck.go.set()
            await feed.until(lambda: "MSFT" in watched(feed))
    resent = [row["symbol"] for row in zero.sink.rows if row["kind"] == "unsubscribed"]
    assert resent == ["MSFT", "MSFT"]


async def test_symbols_that_were_removed_from_the_settings_are_given_up(tmp_path: Path) -> None:
    async with FakeFeed() as feed:
        async with Running(feed, tmp_path, ("AAPL", "MSFT"), level2=False):
            await feed.watched("level1", symbols=2)
        async with Running(feed, tmp_path, ("AAPL",), level2=False) as after:
            await after.sink.until(lambda: len(after.sink.facts("unsubscribed")) == 2)
    said = after.sink.facts("unsubscribed")
    assert {(fact["symbol"], fact["cause"]) for fact in said} == {("MSFT", "removed")}


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"crc32c": 1, "symbols": "{}"}'])
async def test_a_damaged_file_never_lets_a_symbol_go_early(tmp_path: Path, damage: bytes) -> None:
    async with FakeFeed() as feed:
        await read_by_both(feed, tmp_path)
        (spool_directory(tmp_path, 0) / HOLDINGS_FILE).write_bytes(damage)
        async with Running(feed, tmp_path, instance=1, assign=AFTER, level2=False) as one:
            await feed.until(lambda: watched(feed) == ["TSLA"])
            assert one.reader.moves.advance() == [] and one.reader.moves.waiting == {"MSFT": [0]}
            async with Running(feed, tmp_path, instance=0, assign=AFTER, level2=False) as zero:
                await feed.until(lambda: "MSFT" in watched(feed))
    assert {fact["symbol"] for fact in zero.sink.facts("unsubscribed")} == {"MSFT"}
