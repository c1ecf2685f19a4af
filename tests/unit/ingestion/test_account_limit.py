"""The account's limit: what lies beyond it is not asked for, on neither port, by no instance, and is shown."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pipeline_orchestrator.ingestion.account import LIMIT_FIELD, Account
from pipeline_orchestrator.ingestion.subscriptions import BEYOND, LIMIT, UNKNOWN
from pipeline_orchestrator.telemetry.refused import NAMED, plain_gauges, refused_document, refused_gauge
from tests.doubles.fake_feed import FakeFeed, Manners
from tests.unit.ingestion.harness import Running
from tests.unit.ingestion.test_refusals import until

NAMES = ("A", "B", "C", "D", "E")


def told(limit: int | str) -> bytes:
    return f"S,CUST,real_time,1.2.3.4,1,T,6.2.0.25,0, L2 ,,{limit},QT_API,,\n".encode()


def greeting(limit: int | str) -> bytes:
    return b"S,KEY,99999\nS,SERVER CONNECTED\n" + told(limit)


async def test_symbols_beyond_the_limit_are_asked_for_on_neither_port_nor_after_a_reconnect(tmp_path: Path) -> None:
    async with FakeFeed(Manners(greeting=greeting(2))) as feed, Running(feed, tmp_path, NAMES) as it:
        one, two = (connection.wishes for connection in it.reader.connections)
        first = await feed.watched("level1", 2)
        await feed.watched("level2", 2)
        await until(lambda: len(two.refused) == 3)
        first.send(b"S,SERVER DISCONNECTED\nS,SERVER CONNECTED\n")  # every watch is sent again
        await feed.watched("level1", 4)
        await first.cut()
        await feed.watched("level1", 2, connections=2)
        await until(lambda: len(one.refused) == 3)
        assert one.refused == two.refused == dict.fromkeys("CDE", BEYOND)
        for client in (*feed.clients["level1"], *feed.clients["level2"]):
            assert set(client.watched()) == {"A", "B"}
        it.reader._tell_once(it.ctx)
        assert it.ctx.gauges["feed_refused|connection=level2"] == {
            BEYOND: ["C", "D", "E"], "counts": {BEYOND: 3},
        }  # fmt: skip
        assert it.ctx.cause is not None and "3 beyond the account's limit (2), not asked for: C, D, E" in it.ctx.cause
    subscribed = {row["symbol"] for row in it.sink.of("subscribed")}
    assert subscribed == {"A", "B"}, "what was not asked for was not subscribed"


async def test_a_higher_limit_is_used_at_once_and_a_lower_one_takes_nothing_away(tmp_path: Path) -> None:
    async with FakeFeed(Manners(greeting=greeting(2))) as feed, Running(feed, tmp_path, NAMES) as it:
        one, two = (connection.wishes for connection in it.reader.connections)
        first, depth = await feed.watched("level1", 2), await feed.watched("level2", 2)
        first.send(told(4))
        await feed.watched("level1", 4)
        await feed.watched("level2", 4)
        assert (first.watched(), depth.watched()) == (["A", "B", "C", "D"], ["A", "B", "C", "D"])
        first.send(told(1))
        await until(lambda: one.limit == 1)
        assert one.refused == two.refused == {"E": BEYOND} and one.actual == 4


async def test_the_place_of_an_unknown_symbol_goes_to_the_next_one(tmp_path: Path) -> None:
    manners = Manners(greeting=greeting(2), on_watch=lambda port, symbol: b"n,A\n" if symbol in "A" else b"")
    async with FakeFeed(manners) as feed, Running(feed, tmp_path, NAMES) as it:
        one, two = (connection.wishes for connection in it.reader.connections)
        await until(lambda: one.refused.get("A") == two.refused.get("A") == UNKNOWN)
        await feed.watched("level1", 3)
        await feed.watched("level2", 3)
        assert one.refused == two.refused == {"A": UNKNOWN, "D": BEYOND, "E": BEYOND}
        assert one.actual == 2


async def test_a_symbol_that_level2_alone_does_not_know_keeps_its_place(tmp_path: Path) -> None:
    manners = Manners(
        greeting=greeting(2), on_watch=lambda port, symbol: b"n,A\n" if (port, symbol) == ("level2", "A") else b""
    )
    async with FakeFeed(manners) as feed, Running(feed, tmp_path, NAMES) as it:
        one, two = (connection.wishes for connection in it.reader.connections)
        await until(lambda: two.refused.get("A") == UNKNOWN)
        assert [name for name in NAMES if two.account.allows(name)] == ["A", "B"]
        assert "A" not in one.refused


async def test_without_a_told_limit_the_feed_is_asked_and_refuses(tmp_path: Path) -> None:
    answers = {"D": b"S,SYMBOL LIMIT REACHED,D\n", "E": b"S,SYMBOL LIMIT REACHED,E\n"}
    manners = Manners(greeting=greeting(""), on_watch=lambda port, symbol: answers.get(symbol, b""))
    async with FakeFeed(manners) as feed, Running(feed, tmp_path, NAMES) as it:
        one, two = (connection.wishes for connection in it.reader.connections)
        await until(lambda: len(one.refused) == len(two.refused) == 2)
        assert one.limit is None and one.refused == two.refused == {"D": LIMIT, "E": LIMIT}


def test_instances_of_one_login_share_the_limit_without_a_word() -> None:
    ours = [Account(NAMES[number::2], NAMES) for number in (0, 1)]
    for account in ours:
        account.told(["S", *[""] * (LIMIT_FIELD - 1), "3"])
    allowed = [[name for name in NAMES[number::2] if ours[number].allows(name)] for number in (0, 1)]
    assert allowed == [["A", "C"], ["B"]]
    ours[1].unknown("B")
    assert ours[1].allows("D") and not ours[0].allows("D") and not ours[0].allows("E")


def test_a_place_is_passed_on_until_a_symbol_is_known() -> None:
    account = Account(NAMES)
    calls: list[int] = []
    account.on_change.append(lambda: calls.append(account.limit or 0))
    account.told(["S", *[""] * (LIMIT_FIELD - 1), "1"])
    for name in ("A", "B", "B", "Z"):
        account.unknown(name)
    assert [name for name in NAMES if account.allows(name)] == ["A", "B", "C"]
    assert len(calls) == 3, "what was known before is no news"


def test_unknown_symbols_are_no_news_to_others_while_the_limit_excludes_nobody() -> None:
    account = Account(NAMES)
    calls: list[int] = []
    account.on_change.append(lambda: calls.append(account.limit or 0))
    account.unknown("A")
    account.told(["S", *[""] * (LIMIT_FIELD - 1), "5"])
    account.unknown("B")
    assert calls == [5]
    account.told(["S", *[""] * (LIMIT_FIELD - 1), "2"])
    assert calls == [5, 2] and all(account.allows(name) for name in "ABCD") and not account.allows("E")


@pytest.mark.parametrize("text", ["", "x", "0", "-5", "\u0663"])
def test_what_is_no_number_leaves_the_limit_unknown(text: str) -> None:
    account = Account(NAMES)
    account.told(["S", *[""] * (LIMIT_FIELD - 1), text])
    assert account.limit is None and all(map(account.allows, NAMES))


async def test_level2_waits_once_for_what_level1_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline_orchestrator.ingestion.account.TOLD_SECONDS", 0.01)
    account = Account(NAMES)
    await account.wait_settled()
    assert account.settled.is_set()
    async with asyncio.timeout(1):
        await Account(NAMES, level1=False).wait_settled()


def test_refused_symbols_of_all_readers_become_one_bounded_list() -> None:
    many = {f"S{number:04}": LIMIT for number in range(NAMED + 5)}
    told_by: dict[str, dict[str, Any]] = {
        "ingestion/1": {"feed_refused{connection=level1}": refused_gauge(many), "spool_bytes": 3},
        "ingestion/0": {
            "feed_refused{connection=level2}": refused_gauge({"NOPE": UNKNOWN}),
            "feed_refused{connection=level1}": refused_gauge({}),
        },
    }
    document = refused_document(told_by)
    assert document is not None
    assert document["count"] == NAMED + 6 and document["by_reason"] == {UNKNOWN: 1, LIMIT: NAMED + 5}
    assert document["symbols"][0] == {
        "symbol": "NOPE", "reason": UNKNOWN, "connection": "level2", "component": "ingestion/0",
    }  # fmt: skip
    assert len(document["symbols"]) == NAMED
    assert plain_gauges(told_by["ingestion/1"]) == {"spool_bytes": 3}
    assert refused_document({"ingestion/0": {}}) is None
