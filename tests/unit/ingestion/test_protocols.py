"""Older protocols on the wire: what is asked for, what is accepted, what is said where it does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from config.sections import PROTOCOLS, IQFeedConfig
from pipeline_orchestrator.ingestion.dialects import DIALECTS
from pipeline_orchestrator.ingestion.layout import SELECTED
from tests.doubles.fake_feed import FakeFeed, Manners
from tests.unit.ingestion.harness import Running

SINCE_61 = ("Most Recent Trade Aggressor", "Most Recent Trade Day Code")
BEFORE_61 = tuple(name for name in SELECTED if name not in SINCE_61)
ALL_5 = tuple(name + "MS" if name.endswith(" Time") else name for name in BEFORE_61)
VALUES = {
    "Message Contents": "Cba",
    "Most Recent Trade": "12.5",
    "Most Recent Trade Size": "100",
    "Most Recent Trade Date": "01/02/2024",
    "Most Recent Trade Time": "10:00:00.250",
    "Most Recent Trade Day Code": "3",
    "TickID": "7",
    "Bid": "12.4",
    "Ask": "12.6",
}


def trade(names: tuple[str, ...]) -> bytes:
    values = ",".join(VALUES.get(name.removesuffix("MS"), "") for name in names)
    return f"Q,AAPL,{values},\n".encode()


def test_every_setting_has_its_dialect() -> None:
    assert tuple(DIALECTS) == PROTOCOLS
    assert get_args(IQFeedConfig.model_fields["protocol"].annotation) == ()
    for dialect in DIALECTS.values():
        assert not dialect.missing(dialect.choose())
        assert "Symbol" not in dialect.choose()


@pytest.mark.parametrize(
    ("protocol", "names", "selected"),
    [
        ("6.1", None, SELECTED),
        ("6.0", BEFORE_61, BEFORE_61),
        ("6.0", None, BEFORE_61),
        ("5.2", ("Symbol", *ALL_5, "VWAP"), ALL_5),
        ("5.0", ("Symbol", *ALL_5, "Bid Time"), ALL_5),
        ("5.1", ("Symbol", *BEFORE_61), BEFORE_61),
    ],
)
async def test_a_version_selects_what_it_has_and_its_trades_are_read(
    tmp_path: Path,
    protocol: str,
    names: tuple[str, ...] | None,
    selected: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline_orchestrator.ingestion.feed_session.SELECT_SECONDS", 0.3)
    manners = Manners(protocol=protocol, names=names, trailing_comma=True)
    async with FakeFeed(manners) as feed, Running(feed, tmp_path, level2=False, protocol=protocol) as it:
        client = await feed.watched("level1")
        assert client.commands[0] == f"S,SET PROTOCOL,{protocol}"
        assert "S,SELECT UPDATE FIELDS," + ",".join(selected) in client.commands
        assert ("S,REQUEST ALL UPDATE FIELDNAMES" in client.commands) == (protocol < "6.1")
        client.send(trade(selected))
        await it.sink.until(lambda: it.sink.of("trade"))
        assert it.ctx.cause is None
    (row,) = it.sink.of("trade")
    assert (row["price"], row["tick_id"], row["aggressor"]) == (12_500_000, 7, None)
    assert row["event_time_us"] == 1_704_207_600_250_000
    assert row["trading_date"].day == (3 if protocol == "6.1" else 2)  # without a day code: the trade's own date
    assert it.sink.facts("connected")[0]["protocol"] == protocol


async def test_a_field_that_an_old_client_does_not_have_is_said_and_the_rest_is_read(tmp_path: Path) -> None:
    names = tuple(name for name in ALL_5 if name != "TickID")
    async with (
        FakeFeed(Manners(protocol="5.2", names=names)) as feed,
        Running(feed, tmp_path, level2=False, protocol="5.2") as it,
    ):
        client = await feed.watched("level1")
        client.send(trade(names))
        await it.sink.until(lambda: it.sink.of("trade"))
        assert it.ctx.cause is not None
        assert it.ctx.cause.endswith("fields that this client does not have: Level 1 lines come without TickID")
    assert it.sink.of("trade")[0]["tick_id"] is None


@pytest.mark.parametrize(
    ("asked", "answered", "advice"),
    [
        ("5.2", "6.0", "set iqfeed.protocol to 6.0, or update IQConnect to a client that speaks protocol 5.2"),
        ("6.2", "6.1", "set iqfeed.protocol to 6.1, or update IQConnect to a client that speaks protocol 6.2"),
        ("6.2", "4.9", "update IQConnect to a client that speaks protocol 6.2"),
        ("6.2", "6.2.1", "update IQConnect to a client that speaks protocol 6.2"),
        ("6.2", " 6.2", "update IQConnect to a client that speaks protocol 6.2"),
    ],
)
async def test_another_version_than_asked_for_is_refused_with_both_named(
    tmp_path: Path, asked: str, answered: str, advice: str
) -> None:
    async with FakeFeed(Manners(protocol=answered)) as feed, Running(feed, tmp_path, protocol=asked) as it:
        await it.sink.until(lambda: len(it.sink.facts("lost")) >= 2)
        assert it.ctx.cause is not None
        assert f"protocol {asked} asked for, the feed answered {answered!r}" in it.ctx.cause
        assert it.ctx.next_step == advice
        assert not feed.clients["level1"][0].watched()
        assert not feed.clients["level2"][0].watched()
    ends = {fact["cause"] for fact in it.sink.facts("lost")}
    assert ends - {"shutdown"} == {"protocol"}  # the stop may meet the next attempt


async def test_one_port_may_fail_its_handshake_while_the_other_serves(tmp_path: Path) -> None:
    async with FakeFeed(Manners(protocol="6.0", names=BEFORE_61)) as feed:
        await feed.stop_listening("level2")
        async with Running(feed, tmp_path, protocol="6.0") as it:
            client = await feed.watched("level1")
            feed.manners.protocol = "5.2"
            await feed.listen("level2")
            await it.sink.until(lambda: it.sink.facts("lost"))
            client.send(trade(BEFORE_61))
            await it.sink.until(lambda: it.sink.of("trade"))
            assert it.sink.facts("lost")[0]["connection"] == "level2"
            assert len(feed.clients["level1"]) == 1


async def test_depth_before_6_2_is_watched_by_one_letter_and_becomes_both_sides(tmp_path: Path) -> None:
    async with (
        FakeFeed(Manners(protocol="6.1")) as feed,
        Running(feed, tmp_path, ("@ESM19",), level1=False, depth_levels=5, protocol="6.1") as it,
    ):
        client = await feed.watched("level2")
        assert client.commands[-1] == "w@ESM19"
        client.send(b"Z,@ESM19,MD01,2938.,2938.25,65,23,20:31:04.87,2019-04-23,52,20:31:05.5,T,T,T,\r\n")
        client.send(b"2,@ESM19,MD01,2938.,0.,70,0,20:31:06,2019-04-23,52,99:99:99,T,F,T,\r\n")
        await it.sink.until(lambda: len(it.sink.of("order_delete")) == 1)
    rows = [row for row in it.sink.rows if row["mmid"] == "MD01"]
    base = rows[0]["seq"]
    assert [(r["seq"] - base, r["idx"], r["kind"], r["side"], r["price"], r["size"], r["summary"]) for r in rows] == [
        (0, 0, "order_add", "bid", 2_938_000_000, 65, True),
        (0, 1, "order_add", "ask", 2_938_250_000, 23, True),
        (1, 0, "order_change", "bid", 2_938_000_000, 70, False),
        (1, 1, "order_delete", "ask", None, None, False),
    ]
    assert not it.sink.dead


async def test_a_lost_old_feed_watches_again_and_ends_its_gap_at_the_first_line(tmp_path: Path) -> None:
    line = b"2,AAPL,NSDQ,1.5,1.6,5,6,10:00:0%d,2024-01-02,52,10:00:01,T,T,T,\r\n"
    async with (
        FakeFeed(Manners(protocol="6.1")) as feed,
        Running(feed, tmp_path, level1=False, protocol="6.1") as it,
    ):
        first = await feed.watched("level2")
        first.send(line % 2)
        await it.sink.until(lambda: len(it.sink.of("order_change")) == 2)
        await first.cut(reset=True)
        second = await feed.watched("level2", connections=2)
        second.send(line % 5)
        await it.sink.until(lambda: [f for f in it.sink.facts("gap") if f["phase"] == "closed"])
    begin, end, _ = it.sink.facts("gap")
    rows = it.sink.of("order_change")
    assert (begin["from"]["seq"], begin["from"]["event_time_us"]) == (rows[1]["seq"], rows[0]["event_time_us"])
    assert (end["to"]["seq"], end["to"]["event_time_us"]) == (rows[2]["seq"], rows[2]["event_time_us"])
    assert rows[2]["seq"] == rows[3]["seq"]
