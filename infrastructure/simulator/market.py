"""What a market gives the server: rows of both ports in batches, and its state between two batches.

Two kinds exist: `generated.GeneratedMarket` and `replay.ReplayMarket`. A market is a clock too: a clock row stands
wherever its time passes a whole second, so `T` lines keep their place among the events whatever the speed, and no
event that follows a `T` is older than it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from infrastructure.simulator import columns as c
from infrastructure.simulator.corrections import Correction
from infrastructure.simulator.render import Bytes, byte_rows

Int64s = npt.NDArray[np.int64]

BATCH_LINES: Final = 8192


@dataclass(frozen=True, slots=True)
class Books:
    """Price-level books as arrays [symbol, side, place], best level first; `levels[symbol, side]` are in use."""

    price: Int64s
    size: Int64s
    count: Int64s
    levels: Int64s

    @classmethod
    def empty(cls, symbols: int, depth: int) -> Books:
        """Books without a level."""
        price, size, count = (np.zeros((symbols, 2, depth), dtype=np.int64) for _ in range(3))
        return cls(price, size, count, np.zeros((symbols, 2), dtype=np.int64))

    def copy(self) -> Books:
        """An independent copy."""
        return Books(self.price.copy(), self.size.copy(), self.count.copy(), self.levels.copy())


@dataclass(frozen=True, slots=True)
class Rows:
    """One batch: views that hold until the market's next call. Columns: see columns.py.

    `level2` and `orders` are the same depth by price level and by order; each has every clock row.

    `corrections` come before all rows. `reset` names symbols whose depth begins anew with
    this batch: watchers are told to clear it and get its state after the batch, so no depth row of theirs is in it.
    """

    level1: Int64s
    level2: Int64s
    orders: Int64s = field(default_factory=lambda: np.zeros((0, c.LEVEL2_COLUMNS), dtype=np.int64))
    corrections: tuple[Correction, ...] = field(default=(), kw_only=True)
    reset: tuple[int, ...] = field(default=(), kw_only=True)

    def __bool__(self) -> bool:
        shapes = self.level1.shape[0] or self.level2.shape[0] or self.orders.shape[0]
        return bool(shapes or self.corrections or self.reset)


@dataclass(frozen=True, slots=True)
class ReadyRows(Rows):
    """Lines that need no rendering: where each lies in the market's bytes. Columns: see recorded_lines.py."""


NOTHING: Final = Rows(
    np.zeros((0, c.LEVEL1_COLUMNS), dtype=np.int64),
    np.zeros((0, c.LEVEL2_COLUMNS), dtype=np.int64),
)


@dataclass(slots=True)
class Names:
    """The market's symbols: index by name, and the byte rows that kernels copy."""

    symbols: tuple[str, ...]
    index: dict[str, int] = field(init=False)
    text: Bytes = field(init=False)
    lengths: Int64s = field(init=False)

    def __post_init__(self) -> None:
        self.index = {symbol: i for i, symbol in enumerate(self.symbols)}
        if len(self.index) != len(self.symbols):
            raise ValueError("a symbol is named twice")
        self.text, self.lengths = byte_rows([symbol.encode("ascii") for symbol in self.symbols])


class Market(Protocol):
    """A source of rows. Times `now_ns` are monotonic nanoseconds; all calls come from one thread."""

    names: Names
    state: Int64s  # [symbol, column]: Level 1 after the last batch
    books: Books  # after the last batch
    book_times: Int64s  # per symbol: time of the newest change of its book

    @property
    def finished(self) -> bool:
        """Nothing but clock rows will come."""

    @property
    def unpaced(self) -> bool:
        """The flow is as fast as it is asked for: the server asks when the sockets have room."""

    def start(self, now_ns: int) -> None:
        """Let the flow begin; until then only the clock moves (or stands, in a replay)."""

    @property
    def second_us(self) -> int:
        """The newest whole second of the market's clock; no later row is older (a `T` asked for shows this)."""

    def advance(self, now_ns: int, room: bool) -> Rows:
        """Rows due at `now_ns`, at most about BATCH_LINES; when unpaced, rows only if there is `room`."""

    def wait_seconds(self, now_ns: int) -> float:
        """Time until `advance` has something; 0 = at once."""

    @property
    def lines(self) -> int:
        """Market lines (Q, 8, 9) made so far."""

    def orders_of(self, symbol: int) -> Int64s | None:
        """The book of a symbol by order after the last batch: ORDER_SUMMARY rows; None = kept by level only."""
