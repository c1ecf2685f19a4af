"""One flow of the simulator read by order and by price level: the books that processing keeps are the same."""

from __future__ import annotations

from bisect import bisect_right
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from config.sections import KafkaConfig, ProcessingConfig, Settings
from infrastructure.simulator.generated import GeneratedMarket
from infrastructure.simulator.order_flow_book import DEPTH
from manage.commands.replay import opening
from pipeline_orchestrator.flow.spool_format import Frame
from pipeline_orchestrator.market.events import BOOKS, EVENTS, PORT
from pipeline_orchestrator.offline import OfflineRun
from tests.unit.simulator.conversation import serving
from tests.unit.simulator.market_reading import START

FUTURE, EQUITY = "@ESZ26", "AAPL"
RECV_US = 1_700_000_000_000_000
SETTINGS = Settings(processing=ProcessingConfig(book_levels=DEPTH), kafka=KafkaConfig(partitions=2))
SIDES = ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes")

Row = dict[str, Any]  # Any: a Parquet row


class Read:
    """Lines of one Level 2 connection through parser and processing, and the book after each of them."""

    def __init__(self, lines: list[str], symbol: str, directory: Path, lines_at_once: int) -> None:
        run = OfflineRun(SETTINGS, directory, [EVENTS, BOOKS])
        facts = opening([symbol], RECV_US)
        run.feed(facts)
        for begin in range(0, len(lines), lines_at_once):
            part = lines[begin : begin + lines_at_once]
            raw = "".join(line + "\r\n" for line in part).encode()
            run.feed([Frame(0, PORT["level2"], 1, len(facts) + begin, len(part), RECV_US, raw)])
        assert run.close().refused == 0
        events: list[Row] = pq.read_table(directory / "events.parquet").to_pylist()
        self.depth = [row for row in events if row["kind"].startswith(("order_", "level_")) and row["symbol"] == symbol]
        self.books: list[Row] = pq.read_table(directory / "books.parquet").to_pylist()
        self._at = [row["src_seq"] for row in self.books]

    def book(self, event: Row) -> Row:
        """The newest row of market.books once this event was taken."""
        return self.books[bisect_right(self._at, event["seq"]) - 1]

    def by_stamp(self) -> dict[int, Row]:
        """The book after each line that is no part of a summary, by its exchange time in microseconds."""
        live = [row for row in self.depth if not row["summary"]]
        found = {row["event_time_us"]: self.book(row) for row in live}
        assert len(found) == len(live), "stamps of one form never repeat"
        return found


async def both_forms(symbol: str, seed: int, *cleared: str) -> tuple[list[str], list[str]]:
    """(by order, by level) lines of one flow from before its begin on; the exchange's clock strikes within it.

    `cleared`: sides that the feed empties, one call after the other, each once the flow went on after the one before.
    """
    rate, limit = (6000, 18_000) if cleared else (None, 6000)
    market = GeneratedMarket((symbol, "MSFT"), rate=rate, seed=seed, limit=limit, start_us=START + 800_000)
    async with serving(market, hold=3) as server:
        clients = [await server.level2(f"{word},{symbol}") for word in ("WOR", "WPL")]
        # Until the flow begins the clock strikes by the time of day: both have their summary and a T behind it first.
        heads = [
            await client.until(f"{row},") + await client.until("T,") for client, row in zip(clients, "67", strict=True)
        ]
        await server.level2("WPL,MSFT")
        before = heads[0]
        for sides in cleared:
            before += await clients[0].until("T,")
            numbers = iter(range(300))
            before += await clients[0].until(lambda _, numbers=numbers: next(numbers, None) is None)  # type: ignore[misc]
            server.simulator.clear_depth(symbol, sides)
        await server.happened("flow_finished")
        by_order, by_level = [await client.settled() for client in clients]
    return before + by_order, heads[1] + by_level


def levels(row: Row) -> list[list[int]]:
    return [row[name] for name in SIDES]


@pytest.mark.parametrize("symbol", [FUTURE, EQUITY])
@pytest.mark.parametrize(("seed", "lines_at_once"), [(1, 100_000), (77, 501)])
async def test_books_by_order_equal_books_by_level_at_every_stamp_of_both(
    symbol: str, seed: int, lines_at_once: int, tmp_path: Path
) -> None:
    by_order, by_level = await both_forms(symbol, seed)
    orders = Read(by_order, symbol, tmp_path / "orders", lines_at_once)
    prices = Read(by_level, symbol, tmp_path / "levels", lines_at_once)
    assert {row["kind"] for row in prices.depth} == {"level_set", "level_delete"}
    assert {"order_change", "order_delete"} <= {row["kind"] for row in orders.depth}
    left, right = orders.by_stamp(), prices.by_stamp()
    both = sorted(left.keys() & right.keys())
    assert len(both) > 1000
    for stamp in both:
        assert levels(left[stamp]) == levels(right[stamp]), f"at {stamp}"
        assert left[stamp]["book_state"] == right[stamp]["book_state"], f"at {stamp}"
    assert sum(left[stamp]["book_state"] == "valid" for stamp in both) > 500
    # A level row with a stamp of its own is the first half of a move from one price to another.
    alone = sorted(right.keys() - left.keys())
    assert len(alone) < len(right) / 2
    following = {stamp: both[bisect_right(both, stamp)] for stamp in alone if stamp < both[-1]}
    assert len(set(following.values())) == len(following)
    assert levels(orders.books[-1]) == levels(prices.books[-1])
    assert orders.books[-1]["book_state"] == prices.books[-1]["book_state"] == "valid"


@pytest.mark.parametrize("symbol", [FUTURE, EQUITY])
async def test_sides_that_the_feed_clears_are_emptied_and_believed_again_alike_in_both_forms(
    symbol: str, tmp_path: Path
) -> None:
    by_order, by_level = await both_forms(symbol, 5, "B", "BA")
    for lines in (by_order, by_level):
        at = [number for number, line in enumerate(lines) if line.startswith("S,CLEAR DEPTH,")]
        assert [lines[number].split(",")[3] for number in at] == ["B", "B", "A"]
    orders = Read(by_order, symbol, tmp_path / "orders", 501)
    prices = Read(by_level, symbol, tmp_path / "levels", 501)
    left, right = orders.by_stamp(), prices.by_stamp()
    states = []
    for stamp in sorted(left.keys() & right.keys()):
        assert levels(left[stamp]) == levels(right[stamp]), f"at {stamp}"
        assert left[stamp]["book_state"] == right[stamp]["book_state"], f"at {stamp}"
        states.append(left[stamp]["book_state"])
    runs = [state for state, _ in groupby(states)]
    assert runs[-5:] == ["valid", *["resyncing", "valid"] * 2], "doubted from each clearing until the exchange's clock"
    assert levels(orders.books[-1]) == levels(prices.books[-1])
