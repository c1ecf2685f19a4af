"""What a market does with one symbol over a stretch of market time, as arrays: generated, scenario and replay alike.

No server and no wall clock: the market is walked second by second, as fast as it can be. The book is looked at where
each whole second of market time ends. Events of a generated market have the stamps of their lines; those of a
recorded day the times of its files, because the lines of a replay are raised where stamps would not rise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from infrastructure.simulator import columns as c
from infrastructure.simulator.generated import GeneratedMarket
from infrastructure.simulator.market import Int64s, Rows
from infrastructure.simulator.replay import ReplayMarket
from infrastructure.simulator.scenario_market import ScenarioMarket

Floats = npt.NDArray[np.float64]
Walkable = GeneratedMarket | ScenarioMarket | ReplayMarket

BUYER: Final = 1
_QUARTER_NS: Final = 250_000_000


@dataclass(frozen=True, slots=True)
class FlowSample:
    """One symbol. Times in microseconds of a clock that never goes back, prices in 1e-4 dollars, sizes in shares.

    `books[k]` belongs to second k: best bid, best ask (0 = none), shares at the best level and over the best five, each
    the mean of both sides. `trade_moments` are equal for trades that happened as one. `signs` are +1 (buyer took) and
    -1.
    """

    symbol: str
    seconds: int
    books: Floats
    depth_times: Int64s
    trade_moments: Int64s
    trade_sizes: Int64s
    signs: Int64s
    level_sets: int
    level_deletes: int
    quotes: int
    corrections: int


def sample(market: Walkable, seconds: int, symbol: int = 0) -> FlowSample:
    """Walk a fresh market for so many seconds of its time, fewer where it ends, and keep what one symbol does."""
    books: list[tuple[float, float, float, float]] = []
    depth: list[Int64s] = []
    trades: list[Int64s] = []
    counts = {c.LEVEL_SET: 0, c.LEVEL_DELETE: 0, c.QUOTE: 0}
    corrections = made = 0
    for batches in _seconds(market, seconds):
        for rows, shift in batches:
            level1 = rows.level1[rows.level1[:, c.SYM] == symbol]
            level2 = rows.level2[rows.level2[:, c.SYM] == symbol]
            for table, kinds in ((level1, (c.QUOTE,)), (level2, (c.LEVEL_SET, c.LEVEL_DELETE))):
                for kind in kinds:
                    counts[kind] += int(np.count_nonzero(table[:, c.KIND] == kind))
            traded = level1[level1[:, c.KIND] == c.TRADE]
            if isinstance(market, ReplayMarket):
                depth.append(market.own_ns(symbol, level2[:, c.SRC]) // 1000)
                moments = market.own_ns(symbol, traded[:, c.SRC])
            else:
                depth.append(level2[:, c.TIME] - shift)
                moments = np.arange(made, made + len(traded))  # the kernels make one trade of a market order
            made += len(traded)
            trades.append(np.stack([moments, traded[:, c.RECENT_SIZE], traded[:, c.AGGRESSOR]], 1))
            corrections += sum(1 for each in rows.corrections if each.symbol == symbol)
        books.append(_book(market, symbol))
    all_trades = np.concatenate(trades) if trades else np.zeros((0, 3), dtype=np.int64)
    return FlowSample(
        symbol=market.names.symbols[symbol],
        seconds=len(books),
        books=np.array(books, dtype=np.float64).reshape(-1, 4),
        depth_times=np.concatenate(depth) if depth else np.zeros(0, dtype=np.int64),
        trade_moments=all_trades[:, 0],
        trade_sizes=all_trades[:, 1],
        signs=np.where(all_trades[:, 2] == BUYER, 1, -1).astype(np.int64),
        level_sets=counts[c.LEVEL_SET],
        level_deletes=counts[c.LEVEL_DELETE],
        quotes=counts[c.QUOTE],
        corrections=corrections,
    )


Batches = Iterator[tuple[Rows, int]]  # rows, and what is taken off their stamps


def _seconds(market: Walkable, seconds: int) -> Iterator[Batches]:
    """The batches of each second; the book may be looked at where they end."""
    if isinstance(market, GeneratedMarket):
        if market.rate is None:
            raise ValueError("a flow without a rate has the stamps of the wall clock: nothing to describe")
        market.start(0)
    for k in range(seconds):
        if market.finished:
            return
        if isinstance(market, ReplayMarket):
            yield ((rows, 0) for rows in market.to_next_second())
        elif isinstance(market, ScenarioMarket):
            yield _scenario_second(market, market.utc_us // c.SECOND_US * c.SECOND_US + c.SECOND_US)
        else:
            yield _generated_second(market, 4 * k)


def _scenario_second(market: ScenarioMarket, until_us: int) -> Batches:
    while market.utc_us < until_us and not market.finished:
        rows = market.step(until_us)
        yield rows, market.offset_us


def _generated_second(market: GeneratedMarket, quarters: int) -> Batches:
    for quarter in range(quarters + 1, quarters + 5):
        while rows := market.advance(quarter * _QUARTER_NS, True):
            yield rows, 0


def _book(market: Walkable, symbol: int) -> tuple[float, float, float, float]:
    books = market.books
    levels = books.levels[symbol]
    best = [float(books.price[symbol, side, 0]) if levels[side] else 0.0 for side in (c.BID, c.ASK)]
    held = [books.size[symbol, side, : levels[side]] for side in (c.BID, c.ASK)]
    first, five = (sum(int(sizes[:n].sum()) for sizes in held) / 2 for n in (1, 5))
    return best[0], best[1], first, five
