"""Bars and books that must be there, computed again in plain Python: from the stored trades and from the lines sent."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

from pipeline_orchestrator.flow.spool_format import Frame
from tests.doubles.pipeline import Pipeline
from tests.doubles.readings import EASTERN, PORTS, Reading

LENGTHS = {"1s": 1_000_000, "1m": 60_000_000}
TRADES = (
    "SELECT symbol, toUnixTimestamp64Micro(event_time), toUnixTimestamp64Micro(recv_time), price, size, basis"
    " FROM {db}.events WHERE kind = 'trade' AND basis IN ('C', 'E', 'O') AND event_time IS NOT NULL"
    " AND price IS NOT NULL AND size >= 0 ORDER BY k_part, k_off, k_idx"
)
BARS = (
    "SELECT symbol, interval, toUnixTimestamp64Micro(open_time), open, high, low, close, volume, trade_count,"
    " odd_lot_volume, odd_lot_count FROM {db}.bars_latest"
)
NEWEST_BOOK = (
    "SELECT book_state, bid_prices, bid_sizes, ask_prices, ask_sizes FROM {db}.books WHERE symbol = '%s'"
    " AND src_instance = %d AND src_epoch = %d AND src_seq <= %d ORDER BY src_seq DESC, src_idx DESC, out DESC LIMIT 1"
)
LEVELS = 5  # processing.book_levels
WHOLE = {"valid", "crossed"}

Key = tuple[str, str, int]  # symbol, interval, begin in microseconds UTC


class Trade(NamedTuple):
    """Times in microseconds UTC, price in millionths; `basis` O counts for odd lots only."""

    symbol: str
    time: int
    received: int
    price: int
    size: int
    basis: str


def last_clock(frames: Sequence[Frame]) -> tuple[int, int]:
    """Receipt and time of the newest T of Level 1, in microseconds UTC: no bar is published after it."""
    for frame in reversed(frames):
        if PORTS[frame.port] == "level1":
            for line in reversed(bytes(frame.raw).split(b"\n")[: frame.count]):
                if line.startswith(b"T,"):
                    time = datetime.strptime(line.decode().rstrip("\r"), "T,%Y%m%d %H:%M:%S").replace(tzinfo=EASTERN)
                    return frame.recv_us, round(time.astimezone(UTC).timestamp() * 1_000_000)
    raise AssertionError("no T was spooled")


def bar_of(trades: Sequence[Trade]) -> list[int | None]:
    """Values in the order of BARS, of one interval's trades in the order of the log."""
    odd = [trade.size for trade in trades if trade.basis == "O"]
    counted = sorted((trade for trade in trades if trade.basis != "O"), key=lambda trade: trade.time)
    prices = [trade.price for trade in counted]
    ends = [prices[0], max(prices), min(prices), prices[-1]] if prices else [None] * 4
    return [*ends, sum(trade.size for trade in counted), len(counted), sum(odd), len(odd)]


def assert_bars(pipeline: Pipeline, frames: Sequence[Frame]) -> int:
    """Every bar that was closed by the last T is there, and those there are right; their number.

    Not judged: intervals with trades received together with the last T or later, and symbols with corrections.
    """
    received, until = last_clock(frames)
    corrected = {name for (name,) in pipeline.sql("SELECT DISTINCT symbol FROM {db}.events WHERE kind = 'correction'")}
    intervals: dict[Key, list[Trade]] = defaultdict(list)
    for symbol, time, recv, price, size, basis in pipeline.sql(TRADES):
        trade = Trade(symbol, int(time), int(recv), int(price), int(size), basis)
        for interval, length in LENGTHS.items():
            intervals[symbol, interval, trade.time - trade.time % length].append(trade)
    settled = {
        key: bar_of(trades)
        for key, trades in intervals.items()
        if key[0] not in corrected and max(trade.received for trade in trades) < received
    }
    found = {
        (symbol, interval, int(begin)): [None if value == "\\N" else int(value) for value in values]
        for symbol, interval, begin, *values in pipeline.sql(BARS)
    }
    wrong = {key: (found[key], bar) for key, bar in settled.items() if key in found and found[key] != bar}
    assert not wrong, f"(a) bars, stored and computed: {list(wrong.items())[:3]}"
    absent = [key for key in settled if key not in found and key[2] + LENGTHS[key[1]] <= until]
    assert not absent, f"(a) bars that are missing: {sorted(absent)[:5]}"
    assert not found.keys() - intervals.keys(), "(a) bars without a trade"
    return len(settled.keys() & found.keys())


def book_of(lines: Sequence[str]) -> list[list[int]] | None:
    """Prices and sizes of best bids and best asks after some lines of one symbol; None: not all are price levels."""
    sides: dict[str, dict[int, int]] = {"B": {}, "A": {}}
    for line in lines:
        kind, *fields = line.split(",")
        if kind not in {"7", "8", "9"} or len(fields) < 4:
            return None
        side, price, size = fields[1:4]
        level = round(Decimal(price) * 1_000_000)
        if kind == "9" or int(size) <= 0:
            sides[side].pop(level, None)
        else:
            sides[side][level] = int(size)
    bids, asks = sorted(sides["B"].items(), reverse=True)[:LEVELS], sorted(sides["A"].items())[:LEVELS]
    return [[level[at] for level in side] for side in (bids, asks) for at in (0, 1)]


def assert_books(pipeline: Pipeline, found: Sequence[Reading]) -> int:
    """The newest book of each symbol is that of the lines read over its last connection; how many were compared.

    Not judged: books that were not whole then, and symbols with other lines than price levels.
    """
    depth = [each for each in found if each.port == "level2"]
    if not depth:
        return 0
    last, compared = max(depth, key=lambda each: (each.epoch, each.last)), 0
    lines: dict[str, list[str]] = defaultdict(list)
    for line in last.read:
        if line.symbol:
            lines[line.symbol].append(line.text)
    for symbol, those in lines.items():
        book = book_of(those)
        rows = pipeline.sql(NEWEST_BOOK % (symbol, last.instance, last.epoch, last.last))
        if book is None or not rows or rows[0][0] not in WHOLE:
            continue
        stored = [json.loads(column) for column in rows[0][1:]]
        assert stored == book, f"(a) book of {symbol}: stored {stored}, sent {book}"
        compared += 1
    return compared
