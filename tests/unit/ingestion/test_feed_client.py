"""Ingestion against a scripted feed: handshake, watches, losses, silence, partial lines."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pipeline_orchestrator.ingestion.layout import DEFAULT_LAYOUT, SELECTED
from tests.doubles.fake_feed import FakeFeed, Manners
from tests.unit.ingestion.harness import Running


def quote(symbol: str, bid: str = "1.5", time: str = "10:00:00.5") -> bytes:
    values = {"Message Contents": "ba", "Bid": bid, "Bid Size": "3", "Bid Time": time}
    return f"Q,{symbol},{','.join(values.get(name, '') for name in SELECTED)},\n".encode()


async def test_handshake_selects_fields_and_watches_every_symbol_on_both_ports(tmp_path: Path) -> None:
    async with FakeFeed() as feed, Running(feed, tmp_path, ("AAPL", "MSFT"), depth_levels=7) as it:
        one, two = await feed.watched("level1", 2), await feed.watched("level2", 2)
        assert one.commands[0] == two.commands[0] == "S,SET PROTOCOL,6.2"
        assert one.commands[1].startswith("S,SET CLIENT NAME,")
        assert one.commands[2] == "S,SELECT UPDATE FIELDS," + ",".join(SELECTED)
        assert one.commands[3:] == ["T", "wAAPL", "wMSFT"]
        assert two.commands[2:] == ["T", "WPL,AAPL,7", "WPL,MSFT,7"]
        one.send(quote("AAPL"))
        two.send(b"8,MSFT,A,1.75,4,1,2,10:00:00.25,2024-01-02,\r\n")
        await it.sink.until(lambda: it.sink.of("quote") and it.sink.of("level_set"))
    (row,) = it.sink.of("quote")
    assert (row["symbol"], row["bid"], row["bid_size"], row["port"]) == ("AAPL", 1_500_000, 3, "level1")
    assert it.ctx.cause is None
    assert [row["symbol"] for row in it.sink.of("subscribed", port="level1")] == ["AAPL", "MSFT"]
    assert [fact["cause"] for fact in it.sink.facts("lost")] == ["shutdown", "shutdown"]


@pytest.mark.parametrize("comma", [True, False])
@pytest.mark.parametrize("greeting", [b"", b"S,KEY,99999\nS,SERVER CONNECTED\nS,IP,1,2\n", b"O\r\n"])
async def test_greeting_trailing_commas_and_clock_answers_are_optional(
    tmp_path: Path, comma: bool, greeting: bytes
) -> None:
    async with (
        FakeFeed(Manners(greeting=greeting, trailing_comma=comma, clock=None)) as feed,
        Running(feed, tmp_path) as it,
    ):
        client = await feed.watched("level1")
        client.send(quote("AAPL"))
        await it.sink.until(lambda: it.sink.of("quote"))
    (row,) = it.sink.of("quote")
    assert row["event_time_us"] is None  # no clock was ever told


@pytest.mark.parametrize("select", ["ignore", "refuse"])
async def test_a_feed_that_keeps_its_field_list_is_read_by_it_and_said_to_be_degraded(
    tmp_path: Path, select: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline_orchestrator.ingestion.feed_session.SELECT_SECONDS", 0.1)
    async with FakeFeed(Manners(select=select)) as feed, Running(feed, tmp_path) as it:
        client = await feed.watched("level1")
        values = {"Message Contents": "C", "Most Recent Trade": "12.", "Most Recent Trade Size": "5"}
        client.send(f"Q,AAPL,{','.join(values.get(name, '') for name in DEFAULT_LAYOUT[1:])},\n".encode())
        await it.sink.until(lambda: it.sink.of("trade"))
        assert it.ctx.cause is not None
        assert "field list not accepted" in it.ctx.cause
    (row,) = it.sink.of("trade")
    assert (row["price"], row["size"]) == (12_000_000, 5)


async def test_another_protocol_is_a_mismatch_of_that_connection_only(tmp_path: Path) -> None:
    async with FakeFeed(Manners(protocol="6.0")) as feed, Running(feed, tmp_path, level2=False) as it:
        await it.sink.until(lambda: it.sink.facts("lost"))
        assert it.ctx.cause is not None
        assert "6.0" in it.ctx.cause
        assert not feed.clients["level1"][0].watched()
        feed.manners.protocol = "6.2"
        await feed.watched("level1", connections=2)
    assert it.sink.facts("lost")[0]["cause"] == "protocol"


async def test_without_a_feed_ingestion_is_ready_and_says_where_it_looks(tmp_path: Path) -> None:
    async with Running(None, tmp_path) as it:
        assert it.ctx.became_ready.is_set()
        async with asyncio.timeout(10):
            while it.ctx.cause is None:
                await asyncio.sleep(0)
        assert "no feed at 127.0.0.1:1 (connection refused)" in it.ctx.cause


async def test_a_lost_connection_is_watched_anew_and_its_gap_ends_per_symbol(tmp_path: Path) -> None:
    async with FakeFeed() as feed, Running(feed, tmp_path, ("AAPL", "MSFT"), level2=False) as it:
        first = await feed.watched("level1", 2)
        first.send(quote("AAPL", time="10:00:01"))
        await it.sink.until(lambda: it.sink.of("quote"))
        last = it.sink.of("quote")[0]
        await first.cut(reset=True)
        second = await feed.watched("level1", 2, connections=2)
        second.send(quote("MSFT", time="10:00:05"))
        await it.sink.until(lambda: len([f for f in it.sink.facts("gap") if f["phase"] == "end"]) == 1)
        second.send(b"n,AAPL\n")
        await it.sink.until(lambda: [f for f in it.sink.facts("gap") if f["phase"] == "closed"])
    begin, end_one, end_two, closed = it.sink.facts("gap")
    assert begin["cause"] == "connection_lost"
    assert begin["gap_id"] == f"0:{begin['id'][0]}:{begin['id'][1]}"
    assert begin["from"] == {"epoch": last["epoch"], "seq": last["seq"], "event_time_us": last["event_time_us"]}
    assert (end_one["symbol"], end_two["symbol"]) == ("MSFT", "AAPL")
    back = it.sink.of("quote", symbol="MSFT")[0]
    assert end_one["to"]["seq"] == back["seq"]
    assert end_one["to"]["event_time_us"] >= back["event_time_us"]
    assert closed["gap_id"] == end_one["gap_id"] == end_two["gap_id"] == begin["gap_id"]
    assert [fact["cause"] for fact in it.sink.facts("connected")] == ["start", "reconnect"]
    assert [fact["cause"] for fact in it.sink.facts("subscribed")] == ["start"] * 2 + ["reconnect"] * 2


async def test_silence_of_every_kind_of_line_ends_the_connection(tmp_path: Path) -> None:
    async with FakeFeed() as feed, Running(feed, tmp_path, level2=False, silence_seconds=0.2) as it:
        await feed.watched("level1")
        await feed.watched("level1", connections=2)
    assert it.sink.facts("lost")[0]["cause"] == "silence"


async def test_the_other_connection_goes_on_while_one_is_down(tmp_path: Path) -> None:
    async with FakeFeed() as feed, Running(feed, tmp_path) as it:
        one, two = await feed.watched("level1"), await feed.watched("level2")
        await feed.stop_listening("level1")
        await one.cut()
        two.send(b"8,AAPL,A,1.75,4,1,2,10:00:00.25,2024-01-02,\r\n")
        await it.sink.until(lambda: it.sink.of("level_set") and it.sink.facts("lost"))
        assert [c["connection"] for c in it.sink.facts("lost")] == ["level1"]
        assert len(feed.clients["level2"]) == 1
        await feed.listen("level1")
        await feed.watched("level1", connections=2)


async def test_upstream_loss_opens_a_gap_and_its_return_sends_every_watch_again(tmp_path: Path) -> None:
    async with FakeFeed() as feed, Running(feed, tmp_path, ("AAPL", "MSFT"), level2=False) as it:
        client = await feed.watched("level1", 2)
        client.send(quote("AAPL") + b"S,SERVER DISCONNECTED\n")
        await it.sink.until(lambda: it.sink.facts("gap"))
        client.send(b"S,SERVER CONNECTED\n")
        await feed.watched("level1", 4)
        assert client.watched() == ["AAPL", "MSFT"] * 2
        client.send(quote("AAPL") + quote("MSFT"))
        await it.sink.until(lambda: [f for f in it.sink.facts("gap") if f["phase"] == "closed"])
    assert it.sink.facts("gap")[0]["cause"] == "feed_disconnected"
    assert [row["raw"] for row in it.sink.of("lost") if row["raw"].startswith(b"S,")] == [b"S,SERVER DISCONNECTED"]
    assert len(it.sink.facts("subscribed")) == 4


async def test_a_repeated_connected_line_sends_watches_again_without_emptying_books(tmp_path: Path) -> None:
    async with FakeFeed() as feed, Running(feed, tmp_path, level1=False) as it:
        client = await feed.watched("level2")
        client.send(b"S,SERVER CONNECTED\r\n")
        await feed.watched("level2", 2)
    assert len(it.sink.facts("subscribed")) == 1
    assert not it.sink.facts("gap")


async def test_watches_wait_for_a_feed_whose_upstream_is_down_at_connect(tmp_path: Path) -> None:
    async with (
        FakeFeed(Manners(greeting=b"S,SERVER DISCONNECTED\r\n")) as feed,
        Running(feed, tmp_path, level1=False) as it,
    ):
        await feed.until(lambda: feed.clients["level2"] and "T" in feed.clients["level2"][0].commands)
        assert not feed.clients["level2"][0].watched()
        feed.clients["level2"][0].send(b"S,SERVER CONNECTED\r\n")
        await feed.watched("level2")
        await it.sink.until(lambda: it.sink.facts("subscribed"))
    assert not it.sink.facts("gap")  # nothing was ever watched before


async def test_lines_cut_anywhere_arrive_whole_and_a_torn_tail_is_dropped_and_counted(tmp_path: Path) -> None:
    async with FakeFeed() as feed, Running(feed, tmp_path, level2=False) as it:
        client = await feed.watched("level1")
        data = b"".join(quote("AAPL", bid=f"{number}.25") for number in range(1, 30))
        for byte in data:
            client.send(bytes([byte]))
            await client.writer.drain()
        await it.sink.until(lambda: len(it.sink.of("quote")) == 29)
        client.send(quote("AAPL", bid="99")[:-4])
        await client.writer.drain()
        await client.cut()
        await feed.watched("level1", connections=2)
        await it.sink.until(lambda: len(it.sink.facts("connected")) == 2)
    assert [row["bid"] for row in it.sink.of("quote")] == [n * 1_000_000 + 250_000 for n in range(1, 30)]
    assert it.ctx.counts["feed_torn_tails_total|connection=level1"] == 1
    assert not it.sink.dead


async def test_a_line_without_end_becomes_one_dead_letter_and_the_feed_goes_on(tmp_path: Path) -> None:
    async with FakeFeed() as feed, Running(feed, tmp_path, level2=False) as it:
        client = await feed.watched("level1")
        client.send(quote("AAPL", bid="1") + b"Q,AAPL," + b"9" * 300_000 + b"\n" + quote("AAPL", bid="2"))
        await it.sink.until(lambda: len(it.sink.of("quote")) == 2 and it.sink.dead)
    (letter,) = it.sink.dead
    assert (letter.reason, len(letter.raw)) == ("oversize", 256)
    first, second = it.sink.of("quote")
    assert second["seq"] == first["seq"] + 2


async def test_garbage_goes_to_dead_letters_with_its_bytes_and_position(tmp_path: Path) -> None:
    async with FakeFeed() as feed, Running(feed, tmp_path, level2=False) as it:
        client = await feed.watched("level1")
        client.send(b"\x00\xff\xfe\nHTTP/1.1 400 Bad Request\r\n\r\n" + quote("AAPL"))
        await it.sink.until(lambda: it.sink.of("quote"))
    seq = it.sink.of("quote")[0]["seq"]
    assert [(d.raw, d.reason) for d in it.sink.dead] == [
        (b"\x00\xff\xfe", "unknown_type"),
        (b"HTTP/1.1 400 Bad Request", "unknown_type"),
        (b"", "empty_line"),
    ]
    assert [d.position["spool"][2] for d in it.sink.dead] == [seq - 3, seq - 2, seq - 1]


async def test_refused_symbols_are_told_by_name(tmp_path: Path) -> None:
    answers = {"NOPE": b"n,NOPE\n", "MANY": b"S,SYMBOL LIMIT REACHED,MANY\n"}
    manners = Manners(on_watch=lambda port, symbol: answers.get(symbol, b""))
    async with FakeFeed(manners) as feed, Running(feed, tmp_path, ("AAPL", "NOPE", "MANY"), level2=False) as it:
        await feed.watched("level1", 3)
        await it.sink.until(lambda: len(it.sink.of("other", symbol="NOPE") + it.sink.of("other", symbol="MANY")) == 2)
        assert it.ctx.cause == ("level1: 2 of 3 symbols refused: 1 by the account's limit: MANY; 1 unknown: NOPE")
    assert it.ctx.gauges["feed_symbols_desired|connection=level1"] == 3


async def test_news_and_quotes_per_market_center_are_asked_for_only_where_wanted(tmp_path: Path) -> None:
    async with FakeFeed() as feed, Running(feed, tmp_path, ("AAPL",), news=True, regional=True) as it:
        one, two = await feed.watched("level1", 1), await feed.watched("level2", 1)
        assert one.commands[3:5] == ["T", "S,NEWSON"]
        assert one.commands[5] == "wAAPL"
        assert two.commands[2:] == ["T", "WPL,AAPL"]
        one.send(b"R,AAPL,,1.5,1,10:00:00,1.75,2,10:00:01,14,4,5,\nN,DTN,7,:AAPL:,20240102 100000,one, two\n")
        await it.sink.until(lambda: len(it.sink.of("other")) >= 2)
        assert "S,REGON,AAPL" in one.commands
    lines = [row for row in it.sink.of("other") if row["raw"][:2] in (b"R,", b"N,")]
    assert [row["symbol"] for row in lines] == ["AAPL", None]
    assert lines[1]["raw"].endswith(b"one, two")
