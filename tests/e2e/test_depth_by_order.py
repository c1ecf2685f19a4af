"""The live pipeline with depth by order: every sent line is stored once, and the books are those of the sent orders."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.doubles.oracle import expected_of, sent_lines
from tests.e2e.conftest import MakeSimulated

FUTURE, EQUITY = "@ESZ26", "AAPL"
LEVELS = 5
LINES = 12_000
RATE = 4_000  # three seconds and more: the exchange's clock completes the first books soon

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(150)]


def micro(price: str) -> int:
    whole, _, part = price.partition(".")
    return int(whole) * 1_000_000 + int(part.ljust(6, "0"))


def book_of(sent_log: Path, symbol: str) -> tuple[list[list[int]], list[list[int]]]:
    """[[prices], [sizes]] of bids and asks, best first, after all lines by order of a symbol."""
    held: dict[tuple[str, ...], tuple[str, int, int]] = {}
    for _, port, _, _, text in sent_lines(sent_log):
        parts = text.split(",")
        if port != "level2" or parts[0] not in {"3", "4", "5", "6"} or parts[1] != symbol:
            continue
        key = (parts[2],) if parts[2] else (parts[3], parts[4])
        if parts[0] == "5":
            del held[key]
        else:
            held[key] = parts[4], micro(parts[5]), int(parts[6])
    sides = []
    for side, best_first in (("B", -1), ("A", 1)):
        sums: Counter[int] = Counter()
        for its, price, size in held.values():
            if its == side:
                sums[price] += size
        prices = sorted(sums, key=lambda price: best_first * price)[:LEVELS]
        sides.append([prices, [sums[price] for price in prices]])
    return sides[0], sides[1]


def test_orders_are_stored_once_and_make_valid_books(simulated: MakeSimulated) -> None:
    symbols = (FUTURE, EQUITY)
    depth = {"PIPELINE_IQFEED__DEPTH": "orders", "PIPELINE_PROCESSING__BOOK_LEVELS": str(LEVELS)}
    options = ("--rate", str(RATE), "--lines", str(LINES), "--seed", "11")
    pipeline, simulator = simulated(*options, symbols=symbols, extra=depth)
    simulator.start()
    pipeline.start()
    said = simulator.directory / "simulator.out"
    pipeline.wait("the flow's end", lambda: "flow_finished" in said.read_text())
    simulator.stop()
    expected = expected_of(simulator.sent_log)
    sent = {key: count for key, count in expected.counts.items() if key[0]}
    own = "kind IN ('subscribed', 'unsubscribed')"
    pipeline.wait(
        "all lines stored", lambda: pipeline.stored(f"symbol IS NOT NULL AND NOT {own}") >= sum(sent.values())
    )
    pipeline.stop()
    rows = pipeline.sql(
        f"SELECT symbol, kind, count() FROM {{db}}.events "
        f"WHERE symbol IS NOT NULL AND NOT {own} AND NOT (kind = 'gap') GROUP BY 1, 2"
    )
    assert {(symbol, kind): int(count) for symbol, kind, count in rows} == sent
    assert {kind for _, kind in sent} >= {"order_add", "order_change", "order_delete", "trade", "quote"}
    assert not {kind for _, kind in sent} & {"level_set", "level_delete"}
    assert pipeline.sql("SELECT count() - uniqExact(instance, epoch, seq, idx) FROM {db}.events") == [["0"]]
    for symbol in symbols:
        states = {
            state: int(count)
            for state, count in pipeline.sql(
                f"SELECT book_state, count() FROM {{db}}.books WHERE symbol = '{symbol}' GROUP BY 1"
            )
        }
        assert set(states) <= {"valid", "resyncing", "stale"}, states
        assert states["valid"] > 1000
        (newest,) = pipeline.sql(
            "SELECT bid_prices, bid_sizes, ask_prices, ask_sizes FROM {db}.books "
            f"WHERE symbol = '{symbol}' AND book_state = 'valid' "
            "ORDER BY src_epoch DESC, src_seq DESC, out DESC LIMIT 1"
        )
        bids, asks = book_of(simulator.sent_log, symbol)
        assert [json.loads(column) for column in newest] == [*bids, *asks]
