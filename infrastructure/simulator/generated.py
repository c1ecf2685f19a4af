"""A market drawn from a seed: the same seed, symbols and rate give the same lines, stamps counted from the start.

With a rate, line k of the flow happens k / rate seconds after its start, however fast the machine is: a late server
makes the market's time lag, it never skips. Without one (`rate=None`, as fast as the sockets take) order, prices and
sizes still follow from the seed, while stamps follow the clock.

Symbols that begin with `@` are futures: their depth by order has orders with ids and priorities. The others are
equities: a row per market participant and side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from infrastructure.simulator import columns as c
from infrastructure.simulator import order_flow as kernel
from infrastructure.simulator import order_flow_book as flow_book
from infrastructure.simulator.eastern import eastern_us
from infrastructure.simulator.market import BATCH_LINES, NOTHING, Books, Int64s, Names, Rows
from infrastructure.simulator.order_flow_book import FlowBook

_CLOCK_ROWS: Final = 64
_JITTER_US: Final = 1000.0
_BEHIND_NS: Final = 1_000_000_000  # a market further behind its schedule than this gives the schedule up
_SLOW_TICK: Final = 0.002
_FAST_TICK: Final = 0.005
_FAST_RATE: Final = 50_000.0


class GeneratedMarket:
    """Implements market.Market. `rate` is in market lines per second over both ports; 0 = idle, None = no limit.

    `limit` ends the flow after exactly that many lines; None = never. `start_us` is the market's time at the first
    call (default: now, Eastern). `first_tick_id` lets a later run of the same day continue above an earlier one.
    """

    def __init__(
        self,
        symbols: Sequence[str],
        *,
        rate: float | None,
        seed: int = 1,
        limit: int | None = None,
        zipf: float = 1.0,
        start_us: int | None = None,
        first_tick_id: int = 1,
    ) -> None:
        if not symbols:
            raise ValueError("a market needs at least one symbol")
        if rate is not None and rate < 0:
            raise ValueError(f"rate is {rate}, must be 0 or more")
        n = len(symbols)
        self.names = Names(tuple(symbols))
        self.rate, self.limit = rate, limit
        self.books = Books.empty(n, flow_book.DEPTH)
        self._book = empty_flow_book(self.books, self.names)
        self.state: Int64s = np.zeros((n, c.LEVEL1_COLUMNS), dtype=np.int64)
        self._made = 0
        self._rng = np.array([seed % 2**64], dtype=np.uint64)
        self._start_us = eastern_us() if start_us is None else start_us
        self._keep, self._other = alias_table(n, zipf)
        self._anchor: Int64s = np.zeros(n, dtype=np.int64)
        self._stamps: Int64s = np.full((n, 2), self._start_us, dtype=np.int64)
        self.book_times: Int64s = self._stamps[:, 1]
        self._days: Int64s = np.full(n, self._start_us // c.DAY_US, dtype=np.int64)
        self._day = self._start_us // c.DAY_US
        self._ticks: Int64s = np.full((n, kernel.CENTERS.size), first_tick_id - 1, dtype=np.int64)
        first_second = -(-self._start_us // c.SECOND_US) * c.SECOND_US
        self._clock: Int64s = np.array([first_second, 0], dtype=np.int64)
        rows = BATCH_LINES + _CLOCK_ROWS + kernel.ROWS_PER_ACT
        self._rows1: Int64s = np.zeros((rows, c.LEVEL1_COLUMNS), dtype=np.int64)
        self._rows2: Int64s = np.zeros((rows, c.LEVEL2_COLUMNS), dtype=np.int64)
        self._rows3: Int64s = np.zeros((rows + kernel.ENTRY_ROWS_PER_ACT, c.LEVEL2_COLUMNS), dtype=np.int64)
        self._at: Int64s = np.zeros(4, dtype=np.int64)
        # The idle clock: market time `_idle_us` at monotonic `_idle_ns`. None = the first call sets it.
        self._idle_us, self._idle_ns = self._start_us, -1
        self._flow_us, self._flow_ns, self._flow_lines, self._last_us = 0, 0, 0, 0.0
        self._flowing = False
        kernel.open_books(self._rng, self._start_us, self.state, self._book, self._anchor)

    @property
    def unpaced(self) -> bool:
        return self.rate is None and self._flowing

    @property
    def finished(self) -> bool:
        return self.limit is not None and self._made >= self.limit

    @property
    def lines(self) -> int:
        return self._made

    def start(self, now_ns: int) -> None:
        if self._flowing or self.rate == 0 or self.finished:
            return
        self._flow_us, self._flow_ns, self._flow_lines = self._idle_time(now_ns), now_ns, 0
        self._flowing = True

    @property
    def second_us(self) -> int:
        return int(self._clock[flow_book.NEXT_SECOND]) - c.SECOND_US

    def _now_us(self, now_ns: int) -> int:
        if not self._flowing:
            return self._idle_time(now_ns)
        if self.rate is None:
            return self._flow_us + (now_ns - self._flow_ns) // 1000
        elapsed = min((now_ns - self._flow_ns) / 1000, self._flow_lines * self._step_us)
        return self._flow_us + int(elapsed)

    def advance(self, now_ns: int, room: bool) -> Rows:
        if not self._flowing:
            self._at[:] = 0
            return self._clock_rows(self._idle_time(now_ns))
        if self.rate is None:
            return self._flow(now_ns, BATCH_LINES) if room else NOTHING
        due = int((now_ns - self._flow_ns) / 1000 / self._step_us) + 1 - self._flow_lines
        behind = int(due * self._step_us * 1000) - _BEHIND_NS
        if due > BATCH_LINES and behind > 0:
            self._flow_ns += behind
        return self._flow(now_ns, min(due, BATCH_LINES))

    def wait_seconds(self, now_ns: int) -> float:
        to_second = (int(self._clock[flow_book.NEXT_SECOND]) - self._now_us(now_ns)) / c.SECOND_US
        if not self._flowing:
            return max(to_second, 0.0)
        if self.rate is None:
            return 0.0
        to_line = (self._flow_lines * self._step_us - (now_ns - self._flow_ns) / 1000) / c.SECOND_US
        if to_line < -_FAST_TICK:
            return 0.0
        tick = _FAST_TICK if self.rate >= _FAST_RATE else _SLOW_TICK
        return max(tick, min(to_line, to_second + _JITTER_US / c.SECOND_US))

    @property
    def _step_us(self) -> float:
        return c.SECOND_US / self.rate if self.rate else 0.0

    def _idle_time(self, now_ns: int) -> int:
        if self._idle_ns < 0:
            self._idle_ns = now_ns
        return self._idle_us + (now_ns - self._idle_ns) // 1000

    def _flow(self, now_ns: int, wanted: int) -> Rows:
        remaining = 2**62 if self.limit is None else self.limit - self._made
        wanted = min(wanted, remaining)
        if self.rate is None:
            start, first = (self._last_us if self._flow_lines else float(self._flow_us)), 0
            step = max((self._now_us(now_ns) - start) / wanted, 0.0) if wanted else 0.0
        else:
            start, first, step = float(self._flow_us), self._flow_lines, self._step_us
        self._at[:] = 0
        made = 0
        if wanted > 0:
            made = kernel.generate(
                self._rng, self._keep, self._other, self.state, self._book, self._anchor, self._stamps, self._days,
                self._ticks, self._clock, start, first, step, min(step, _JITTER_US), wanted, remaining,
                self._rows1, self._rows2, self._rows3, self._at,
            )  # fmt: skip
        self._made += made
        self._flow_lines += made
        self._last_us = start + (first + made) * step
        if self.finished:
            self._idle_us, self._idle_ns = int(self._last_us), now_ns
            self._flowing = False
        # Seconds that no later line can be older than; lines come up to one jitter before their time.
        return self._clock_rows(self._now_us(now_ns) - int(min(step, _JITTER_US)) - 1)

    def _roll(self) -> None:
        """A new day for symbols in which nothing happened since: no later row is older than the clock's second."""
        day = self.second_us // c.DAY_US
        for symbol in np.flatnonzero(self._days < day):
            kernel.roll_day(self.state[symbol], self._ticks[symbol])
            self._days[symbol] = day

    def _clock_rows(self, until_us: int) -> Rows:
        kernel.put_clock_rows(self._rows1, self._rows2, self._rows3, self._at, self._clock, until_us)
        if self.second_us // c.DAY_US > self._day:
            self._day = self.second_us // c.DAY_US
            self._roll()
        n1, n2, n3, _ = self._at.tolist()
        return Rows(self._rows1[:n1], self._rows2[:n2], self._rows3[:n3])

    def orders_of(self, symbol: int) -> Int64s | None:
        return entries_of(self._book, symbol)


def entries_of(book: FlowBook, symbol: int) -> Int64s:
    """ORDER_SUMMARY rows of a symbol's book, stamps left out."""
    held = sum(int(book.held[symbol, side, : book.levels[symbol, side]].sum()) for side in (c.BID, c.ASK))
    rows: Int64s = np.zeros((held, c.LEVEL2_COLUMNS), dtype=np.int64)
    flow_book.list_entries(book, symbol, rows)
    return rows


def empty_flow_book(books: Books, names: Names) -> FlowBook:
    """The arrays of order_flow_book over `books`, without an entry."""
    n, queues = len(names.symbols), flow_book.DEPTH
    return FlowBook(
        books.price,
        books.size,
        books.count,
        books.levels,
        np.zeros((n, 2, queues), dtype=np.int64),
        np.zeros((n, 2, queues, flow_book.QUEUE, flow_book.ENTRY_COLUMNS), dtype=np.int64),
        np.zeros((n, 2), dtype=np.int64),
        np.zeros(n, dtype=np.int64),
        np.array([symbol.startswith("@") for symbol in names.symbols], dtype=np.int64),
    )


def alias_table(n: int, exponent: float) -> tuple[np.typing.NDArray[np.float64], Int64s]:
    """Walker's alias table of Zipf weights 1 / rank**exponent: a symbol is drawn with two look-ups."""
    weights = 1.0 / np.arange(1, n + 1, dtype=np.float64) ** exponent
    scaled = weights * (n / weights.sum())
    keep, other = np.ones(n), np.arange(n, dtype=np.int64)
    small = [i for i in range(n) if scaled[i] < 1.0]
    large = [i for i in range(n) if scaled[i] >= 1.0]
    while small and large:
        low, high = small.pop(), large[-1]
        keep[low], other[low] = scaled[low], high
        scaled[high] -= 1.0 - scaled[low]
        if scaled[high] < 1.0:
            small.append(large.pop())
    return keep, other
