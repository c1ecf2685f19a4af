"""The test team's own IQFeed, read by ingestion and processing: the books are those of its dicts, in either form."""

from __future__ import annotations

import asyncio
import json
from bisect import bisect_right
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from config.sections import KafkaConfig, ProcessingConfig, Settings
from pipeline_orchestrator.ingestion.depth_redrive import DepthRedrive
from pipeline_orchestrator.ingestion.journal import Journal
from pipeline_orchestrator.market.events import TOPICS
from pipeline_orchestrator.offline import Summary, replay_spool
from tests.doubles.feed_server import FeedServer, Habits, in_pieces
from tests.doubles.order_market import TOP, OrderMarket, Sides
from tests.unit.ingestion.harness import Running

SYMBOLS = ("@ES#", "@NQ#", "AAPL", "SPY", "QQQ")
SIDES = ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes")
SETTINGS = Settings(processing=ProcessingConfig(book_levels=TOP), kafka=KafkaConfig(partitions=3))

Row = dict[str, Any]  # Any: a Parquet row


class Read:
    """What a spool's lines become, and the book of a symbol after each time that the feed gave."""

    def __init__(self, state_dir: Path, queue: tuple[tuple[str, int], ...] = ()) -> None:
        out = state_dir / "out"
        self.summary: Summary = replay_spool(SETTINGS, [state_dir / "spool" / "0"], out, TOPICS[:5], queue=queue)
        self.events: list[Row] = pq.read_table(out / "events.parquet").to_pylist()
        self.books: list[Row] = pq.read_table(out / "books.parquet").to_pylist()
        self.features: list[Row] = pq.read_table(out / "features.parquet").to_pylist()
        self.refused: list[Row] = pq.read_table(out / "dlq.parquet").to_pylist() if self.summary.refused else []

    def depth(self, symbol: str) -> list[Row]:
        shown = [row for row in self.events if row["symbol"] == symbol and row["port"] == "level2"]
        return [row for row in shown if row["kind"].startswith(("order_", "level_"))]

    def by_time(self, symbol: str, since: int) -> dict[int, tuple[Row, Row]]:
        """Exchange time -> (book, features) after the last depth line of that time, for times after `since`."""
        mine = [row for row in self.books if row["symbol"] == symbol]
        at = [(row["src_epoch"], row["src_seq"], row["src_idx"]) for row in mine]
        features = {(row["src_epoch"], row["src_seq"], row["src_idx"]): row for row in self.features}
        found = {}
        for event in self.depth(symbol):
            time, place = event["event_time_us"], (event["epoch"], event["seq"], event["idx"])
            if time is not None and time > since:
                found[time] = (mine[bisect_right(at, place) - 1], features[place])
        return found

    def by_line(self, symbol: str) -> dict[int, Row]:
        """How many of its lines Level 2 had sent -> the book then."""
        mine = [row for row in self.books if row["symbol"] == symbol]
        at = [(row["src_epoch"], row["src_seq"], row["src_idx"]) for row in mine]
        kinds = ("order_", "level_", "depth_clear")
        shown = [row for row in self.events if row["symbol"] == symbol and row["kind"].startswith(kinds)]
        lines = sorted({(row["epoch"], row["seq"]) for row in shown})
        return {count: mine[bisect_right(at, (*line, 9)) - 1] for count, line in enumerate(lines, 1)}


def as_text(sides: Sides) -> list[list[int]]:
    return [[price for price, _ in sides[0]], [size for _, size in sides[0]], *map(list, _columns(sides[1]))]


def _columns(levels: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    return [price for price, _ in levels], [size for _, size in levels]


def assert_is_truth(read: Read, market: OrderMarket, symbol: str, since: int) -> dict[int, str]:
    """Levels and features at every time since then; the state of the book at each of them."""
    states = {}
    for time, (book, features) in read.by_time(symbol, since).items():
        truth = market.truth[symbol][time]
        if book["book_state"] != "stale":
            assert [list(book[name]) for name in SIDES] == as_text(truth), f"{symbol} at {time}"
        best = [truth[0][0] if truth[0] else (None, None), truth[1][0] if truth[1] else (None, None)]
        if book["book_state"] == "valid":
            shown = [features[name] for name in ("best_bid", "best_bid_size", "best_ask", "best_ask_size")]
            assert shown == [*best[0], *best[1]], f"{symbol} at {time}"
            assert features["book_source"] == "depth"
            assert best[0][0] is None or best[1][0] is None or best[0][0] < best[1][0]
        states[time] = book["book_state"]
    return states


async def read_by(
    feed: FeedServer,
    tmp_path: Path,
    forms: tuple[str, ...],
    play: Callable[[], Any],
    symbols: tuple[str, ...],
    readers: list[Running] | None = None,
    **more: Any,
) -> int:
    """Readers of these forms (added to `readers`) while `play` runs.

    The market's time in UTC when all summaries were whole.
    """
    ports = {"level1_port": feed.ports["level1"], "port": feed.ports["level2"], "admin_port": feed.ports["admin"]}
    async with AsyncExitStack() as stack:
        running = [] if readers is None else readers
        for form in forms:
            options: dict[str, Any] = {"depth": form, **ports, **more}
            running.append(await stack.enter_async_context(Running(None, tmp_path / form, symbols, **options)))
            await feed.watched("level2", len(symbols), len(running))
            await feed.watched("level1", len(symbols), len(running))
        since = feed.market.now + 18_000_000_000
        feed.strike()
        await play()
        for client in (*feed.clients["level1"], *feed.clients["level2"]):
            feed.say(client, "M,LAST,")
        for it in running:
            await it.spooled(b"M,LAST", "level2")
            await it.spooled(b"M,LAST", "level1")
            assert not it.sink.dead
    return since


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("cut", [0, 1, 60])
async def test_books_of_both_forms_are_those_of_the_server(tmp_path: Path, seed: int, cut: int) -> None:
    market = OrderMarket(SYMBOLS, seed)
    habits = Habits(cut=in_pieces(seed, cut)) if cut else Habits()
    async with FeedServer(market, habits) as feed:
        since = await read_by(
            feed, tmp_path, ("orders", "levels"), lambda: feed.play(400 if cut == 1 else 6000), SYMBOLS
        )
    futures = [symbol for symbol in SYMBOLS if symbol.startswith("@")]
    some = [(symbol, int(key[0])) for symbol in futures for key in list(market.books[symbol].orders)[:20]]
    orders, levels = Read(tmp_path / "orders", tuple(some)), Read(tmp_path / "levels")
    assert not orders.refused and not levels.refused
    for symbol in SYMBOLS:
        states = [assert_is_truth(read, market, symbol, since) for read in (orders, levels)]
        both = states[0].keys() & states[1].keys()
        assert {time: states[0][time] for time in both} == {time: states[1][time] for time in both}
        assert len(both) > (20 if cut == 1 else 500)
    for (symbol, order_id), place in zip(some, orders.summary.queue, strict=True):
        assert place is not None
        assert (place.orders_ahead, place.size_ahead) == market.books[symbol].ahead(str(order_id))
        mine = market.books[symbol].orders[str(order_id),]
        assert (place.price, place.size, place.priority) == (mine.price, mine.size, mine.priority)


async def test_books_come_back_after_a_cut_line_and_new_ids_while_the_flow_goes_on(tmp_path: Path) -> None:
    market = OrderMarket(SYMBOLS, 5)
    whole: list[int] = []

    async with FeedServer(market) as feed:

        async def play() -> None:
            await feed.play(1500)
            for _ in range(2):
                await feed.drop(rename=True)
                async with asyncio.TaskGroup() as group:
                    group.create_task(_changes_until_whole(feed))
                whole.append(market.now + 18_000_000_000)
                feed.strike()
                await feed.play(1500)

        await read_by(feed, tmp_path, ("orders",), play, SYMBOLS)
    read = Read(tmp_path / "orders")
    assert not read.refused
    for symbol in SYMBOLS:
        states = assert_is_truth(read, market, symbol, whole[-1])
        assert set(states.values()) <= {"valid", "crossed", "resyncing"}
        assert list(states.values()).count("valid") > 50


async def _changes_until_whole(feed: FeedServer) -> None:
    """Change by change while a new client is given its summaries, so that rows and changes mix."""
    while not feed.clients["level2"] or len(feed.clients["level2"][-1].watches) < len(SYMBOLS):
        await asyncio.sleep(0.001)
    changes = 0
    while feed.clients["level2"][-1].pending:
        await feed.play(1, clock_every=1000)
        await asyncio.sleep(0)
        changes += 1
    assert changes > 5


@pytest.mark.parametrize("cleared", [False, True])
@pytest.mark.parametrize("form", ["orders", "levels"])
async def test_a_symbol_that_fell_silent_has_the_books_of_the_server_once_it_was_watched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, cleared: bool
) -> None:
    """`cleared`: the server's books are empty by then, so that its answer names nothing."""
    monkeypatch.setattr("pipeline_orchestrator.ingestion.reader.TELL_SECONDS", 0.05)
    silent, market, whole = ("@ES#", "AAPL"), OrderMarket(SYMBOLS, 8), []

    judged, readers = DepthRedrive.silent, list[Running]()
    receipt, later = Journal.recv_ns, [0]  # how much later (ns) than it is everything is received
    monkeypatch.setattr(Journal, "recv_ns", lambda journal: receipt(journal) + later[0])
    all_read: list[str] = []  # symbols whose lines from before their silence were all read

    async with FeedServer(market) as feed:
        # On a busy machine others seem silent too, and these before they are; their answers would come at any time.
        monkeypatch.setattr(DepthRedrive, "silent", lambda *of: [name for name in judged(*of) if name in all_read])

        async def play() -> None:
            await feed.play(1000)
            (client,) = feed.clients["level2"]
            feed.habits.silent = frozenset(silent)
            before = {symbol: dict(market.books[symbol].orders) for symbol in silent}
            told = {symbol: client.lines[symbol] for symbol in silent}
            await feed.play(1500, pause_every=10_000)  # at once: nobody can watch again meanwhile
            for symbol in silent:  # orders went, and nobody was told
                assert before[symbol].keys() - market.books[symbol].orders.keys()
                assert client.lines[symbol] == told[symbol]
            market.empty(silent if cleared else ())
            feed.say(client, "M,SILENT,")
            await readers[0].spooled(b"M,SILENT", "level2")
            all_read.extend(silent)
            async with asyncio.timeout(20):
                while feed.habits.silent or client.pending:
                    await feed.play(10, pause_every=2, pause=0.002)
            all_read.clear()
            await feed.play(10)
            if cleared:
                assert {symbol: client.lines[symbol] for symbol in silent} == told
            market.empty(())
            redriven = readers[0].reader.redrive.sent  # some twice, where the machine is slow: all have to be answered
            await feed.until(
                lambda: watches_sent(client.commands) >= len(SYMBOLS) + redriven and not client.pending, seconds=30
            )
            await feed.play(100)  # before the feed's silence tells anything
            later[0] = 6_000_000_000
            whole.append(market.now + 18_000_000_000)
            feed.strike()
            await feed.play(1000)

        await read_by(feed, tmp_path, (form,), play, SYMBOLS, readers, depth_redrive_seconds=0.5)
    read = Read(tmp_path / form)
    assert not read.refused
    again = [json.loads(row["raw"]) for row in read.events if row["kind"] == "subscribed" and row["symbol"] in silent]
    assert [fact["cause"] for fact in again if fact["connection"] == "level2"].count("redrive") >= len(silent)
    for symbol in SYMBOLS:
        states = assert_is_truth(read, market, symbol, whole[0])
        assert sum(state in {"valid", "crossed"} for state in states.values()) > 50


def watches_sent(commands: list[str]) -> int:
    return sum(command.startswith(("WOR,", "WPL,")) for command in commands)


OLD_SYMBOLS = ("@ES#", "AAPL", "SPY")


@pytest.mark.parametrize("protocol", ["5.0", "5.1", "5.2", "6.0", "6.1"])
async def test_an_older_protocol_gives_books_trades_and_quotes_of_the_server(tmp_path: Path, protocol: str) -> None:
    market = OrderMarket(OLD_SYMBOLS, 4, old=True)
    async with FeedServer(market, Habits(commas=True)) as feed:
        await read_by(feed, tmp_path, ("levels",), lambda: feed.play(2500), OLD_SYMBOLS, protocol=protocol)
        truth = feed.clients["level2"][0].truth
        assert {client.version for client in (*feed.clients["level1"], *feed.clients["level2"])} == {protocol}
        ticks = {symbol: feed.clients["level1"][0].quotes.trades[symbol] for symbol in OLD_SYMBOLS}
    read = Read(tmp_path / "levels")
    assert not read.refused
    trades = [row for row in read.events if row["kind"] == "trade"]
    for symbol in OLD_SYMBOLS:
        at, top = read.by_line(symbol), 6 if symbol == "@ES#" else TOP
        compared = 0
        for line, (bids, asks) in truth[symbol].items():
            book = at[line]
            if book["book_state"] == "stale":
                continue
            assert [list(book[name]) for name in SIDES] == as_text((bids[:top], asks[:top])), f"{symbol} after {line}"
            compared += book["book_state"] == "valid"
        assert compared > 200
        assert [row["tick_id"] for row in trades if row["symbol"] == symbol] == ticks[symbol]
        assert len(ticks[symbol]) > 30
    assert {row["aggressor"] for row in trades} == ({1} if protocol == "6.1" else {None})
    assert all(row["event_time_us"] % 1000 == 0 for row in trades) == (protocol < "6.0")


async def test_a_server_that_refuses_set_protocol_is_said_at_once_with_its_words(tmp_path: Path) -> None:
    habits = Habits(speaks=(), otherwise="")
    async with FeedServer(OrderMarket(SYMBOLS), habits) as feed:
        ports: dict[str, Any] = {"level1_port": feed.ports["level1"], "port": feed.ports["level2"]}
        async with Running(None, tmp_path, SYMBOLS, **ports) as it:
            await it.sink.until(lambda: len(it.sink.facts("lost")) >= 2, seconds=5)
            assert it.ctx.cause is not None
            assert "protocol 6.2 asked for, the feed refused it with '!SYNTAX_ERROR!'" in it.ctx.cause
            assert it.ctx.next_step is not None and "iqfeed.protocol" in it.ctx.next_step
            assert not any(client.watches for client in (*feed.clients["level1"], *feed.clients["level2"]))
