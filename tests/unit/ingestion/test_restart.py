"""What a new start of ingestion finds, resends and declares as missed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline_orchestrator.flow.spool_reader import iter_frames
from pipeline_orchestrator.ingestion.assembly import spool_directory
from tests.doubles.fake_feed import FakeFeed
from tests.unit.ingestion.harness import KeepingSink, Running
from tests.unit.ingestion.test_feed_client import quote


def gaps(it: Running, phase: str) -> list[dict[str, Any]]:
    return [fact for fact in it.sink.facts("gap") if fact["phase"] == phase]


async def test_a_fresh_state_directory_has_no_gap(tmp_path: Path) -> None:
    async with FakeFeed() as feed, Running(feed, tmp_path) as it:
        client = await feed.watched("level1")
        client.send(quote("AAPL"))
        await it.sink.until(lambda: it.sink.of("quote"))
    assert not it.sink.facts("gap")


async def test_after_a_clean_stop_nothing_is_resent_and_the_time_in_between_is_a_gap(tmp_path: Path) -> None:
    async with FakeFeed() as feed:
        async with Running(feed, tmp_path, level2=False) as before:
            client = await feed.watched("level1")
            client.send(quote("AAPL", time="10:00:01"))
            await before.sink.until(lambda: before.sink.of("quote"))
        last = before.sink.of("quote")[0]
        async with Running(feed, tmp_path, level2=False) as after:
            client = await feed.watched("level1", connections=2)
            client.send(quote("AAPL", time="10:00:09"))
            await after.sink.until(lambda: gaps(after, "closed"))
    assert {row["epoch"] for row in after.sink.rows} == {after.reader.journal.spool.epoch}
    assert after.reader.journal.spool.epoch > last["epoch"]
    (begin,) = gaps(after, "begin")
    assert begin["cause"] == "reader_stopped"
    assert begin["from"] == {"epoch": last["epoch"], "seq": last["seq"], "event_time_us": last["event_time_us"]}
    (end,) = gaps(after, "end")
    assert end["to"]["seq"] == after.sink.of("quote")[0]["seq"]


async def test_after_a_kill_what_was_not_acknowledged_comes_first_and_once_more(tmp_path: Path) -> None:
    async with FakeFeed() as feed:
        before = Running(feed, tmp_path, level2=False)
        await before.__aenter__()
        client = await feed.watched("level1")
        await before.sink.until(lambda: before.sink.facts("subscribed"))
        before.sink.go.clear()
        client.send(b"".join(quote("AAPL", bid=str(number)) for number in range(1, 51)))
        await before.spooled(b",50,")
        await before.kill()
        journal = before.reader.journal
        async with Running(feed, tmp_path, level2=False) as after:
            await after.sink.until(lambda: len(after.sink.of("quote")) >= 50)
            client = await feed.watched("level1", connections=2)
            client.send(quote("AAPL", bid="51"))
            await after.sink.until(lambda: gaps(after, "closed"))
    bids = [row["bid"] // 1_000_000 for row in after.sink.of("quote")]
    assert bids == list(range(1, 52))
    order = [(row["epoch"], row["seq"]) for row in after.sink.rows]
    assert order == sorted(set(order))
    (begin,) = gaps(after, "begin")
    assert begin["cause"] == "reader_lost"
    assert (begin["from"]["epoch"], begin["from"]["seq"]) == (journal.spool.epoch, journal.last["level1"].seq)


async def test_a_gap_still_open_at_a_kill_is_ended_by_the_next_start(tmp_path: Path) -> None:
    async with FakeFeed() as feed:
        async with Running(feed, tmp_path, level2=False) as first:
            (await feed.watched("level1")).send(quote("AAPL"))
            await first.sink.until(lambda: first.sink.of("quote"))
        second = Running(feed, tmp_path, level2=False)
        await second.__aenter__()
        await feed.watched("level1", connections=2)
        await second.sink.until(lambda: second.sink.facts("subscribed"))
        await second.kill()
        async with Running(feed, tmp_path, level2=False) as third:
            (await feed.watched("level1", connections=3)).send(quote("AAPL"))
            await third.sink.until(lambda: gaps(third, "closed"))
    (opened,) = gaps(second, "begin")
    assert not gaps(third, "begin")  # the open one covers it
    assert [fact["gap_id"] for fact in gaps(third, "end") + gaps(third, "closed")] == [opened["gap_id"]] * 2


async def test_the_parser_goes_on_with_the_layout_of_the_connection_that_spooled_the_lines(tmp_path: Path) -> None:
    async with FakeFeed() as feed:
        before = Running(feed, tmp_path, level2=False)
        await before.__aenter__()
        client = await feed.watched("level1")
        await before.sink.until(lambda: before.sink.facts("subscribed"))
        client.send(quote("AAPL", bid="7.5"))
        await before.sink.until(lambda: before.sink.of("quote"))
        sink = before.sink
        sink.go.clear()
        client.send(quote("AAPL", bid="8.5", time="10:00:02"))
        await before.spooled(b"8.5")
        await before.kill()
    async with Running(None, tmp_path, level2=False) as after:
        await after.sink.until(lambda: after.sink.of("quote"))
    assert [row["bid"] for row in after.sink.of("quote")][-1] == 8_500_000
    assert after.sink.of("quote")[-1]["event_time_us"] is not None  # the clock was remembered, too


async def test_every_segment_can_be_parsed_alone(tmp_path: Path) -> None:
    from pipeline_orchestrator.flow.spool_format import decode_header, iter_segment, list_segments, read_segment
    from pipeline_orchestrator.ingestion.context import ParserContext
    from pipeline_orchestrator.ingestion.line_parser import LineParser

    async with FakeFeed() as feed, Running(feed, tmp_path, level2=False, spool={"segment_bytes": 1 << 16}) as it:
        client = await feed.watched("level1")
        for start in range(0, 6000, 200):
            client.send(b"".join(quote("AAPL", bid=str(number)) for number in range(start, start + 200)))
            await client.writer.drain()
        await it.sink.until(lambda: len(it.sink.of("quote")) == 6000)
    rows = []
    segments = list_segments(spool_directory(tmp_path, 0))
    assert len(segments) >= 3
    for path in segments.values():
        header = decode_header(read_segment(path))
        assert header is not None
        parser = LineParser(ParserContext.from_json(header.state["parser"]))
        batch, dead = parser.parse(list(iter_segment(path)))
        assert not dead
        rows += batch.to_pylist()
    assert rows == it.sink.rows


async def test_a_full_spool_refuses_new_lines_as_a_declared_gap_and_comes_back(tmp_path: Path) -> None:
    sink = KeepingSink()
    options = {"quota_bytes": 1 << 20, "segment_bytes": 1 << 16, "keep": "1s"}
    async with FakeFeed() as feed, Running(feed, tmp_path, level2=False, sink=sink, spool=options) as it:
        client = await feed.watched("level1")
        await sink.until(lambda: sink.facts("subscribed"))
        sink.go.clear()
        number = 0
        while not it.reader.journal.full:
            client.send(b"".join(quote("AAPL", bid=str(number + n)) for n in range(500)))
            number += 500
            await client.writer.drain()
        assert it.reader.journal.spool.used_bytes() <= 1 << 20
        since_us = it.reader.journal.full_since_us
        assert since_us is not None
        since = f"refused since {datetime.fromtimestamp(since_us / 1e6, UTC):%H:%M:%S.%f} UTC"
        async with asyncio.timeout(20):
            while since not in (it.ctx.cause or ""):
                await asyncio.sleep(0.01)
        sink.go.set()
        client = await feed.watched("level1", connections=2)
        client.send(quote("AAPL", bid="1000000"))
        await sink.until(lambda: gaps(it, "closed"), 40)
    (begin,) = gaps(it, "begin")
    assert begin["cause"] == "spool_full"
    kept = [row["bid"] // 1_000_000 for row in sink.of("quote")]
    assert kept[:-1] == list(range(len(kept) - 1))  # the newest were refused, never the oldest
    assert kept[-1] == 1_000_000
    assert it.ctx.counts["component_dropped_records_total|reason=spool_full"] > 0
    assert "refused" not in (it.ctx.cause or "")


async def test_frames_in_the_spool_are_what_the_socket_delivered(tmp_path: Path) -> None:
    async with FakeFeed() as feed, Running(feed, tmp_path, level1=False) as it:
        client = await feed.watched("level2")
        sent = b"8,AAPL,A,1.75,4,1,2,10:00:00.25,2024-01-02,\r\n9,AAPL,A,1.75,10:00:00.25,2024-01-02,\r\n"
        client.send(sent)
        await it.sink.until(lambda: it.sink.of("level_delete"))
    raw = b"".join(frame.raw for frame in iter_frames(spool_directory(tmp_path, 0)) if frame.port == 2)
    assert raw.endswith(sent)


async def test_spooled_lines_that_can_no_longer_be_sent_are_a_gap_that_is_over(tmp_path: Path) -> None:
    from pipeline_orchestrator.record import Mark

    async with FakeFeed() as feed, Running(feed, tmp_path, level2=False) as it:
        client = await feed.watched("level1")
        it.reader.journal.hole(Mark(7, 10, 0), Mark(7, 20, 0))
        client.send(quote("AAPL"))
        await it.sink.until(lambda: it.sink.of("quote"))
    begin, _ = gaps(it, "begin")
    closed, _ = gaps(it, "closed")
    assert (begin["cause"], begin["from"]["seq"], closed["to"]["seq"]) == ("spool_lost", 10, 20)
    assert begin["gap_id"] == closed["gap_id"]
