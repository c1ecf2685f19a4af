"""What the reference remembers of a symbol, a bar and an instance."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

Row = dict[str, Any]


def half_even(value: Fraction) -> int:
    return round(value)  # Python's round is half to even


@dataclass
class Kept:
    """A trade that a correction may name."""

    row: Row
    date: int | None
    counted: bool


@dataclass
class Bar:
    trades: list[tuple[int, int, int]] = field(default_factory=list)  # time, price, size of C and E, in log order
    odd: list[int] = field(default_factory=list)  # sizes of O
    kept: list[Kept] = field(default_factory=list)  # of a minute: all its trades, in log order
    thinned: bool = False
    date: int | None = None
    published: bool = False
    changed: bool = True
    revision: int = 0
    gap: bool = False


@dataclass
class Order:
    side: str
    price: int
    size: int
    priority: int | None = None
    seen: int | None = None  # newest T of Level 1


@dataclass
class Symbol:
    name: str
    instance: int = -1
    trust: str = "none"
    need_summary: bool = True
    begun: bool = False
    asked: int | None = None  # receipt of the fact that the watch was sent again, until something settles it
    begun_at: int | None = None  # receipt of the newest row that begins the book
    unconfirmed: set[Any] | None = None  # keys of orders or (side, price), while a second watch is answered
    levels: dict[str, dict[int, int]] = field(default_factory=lambda: {"bid": {}, "ask": {}})
    orders: dict[tuple[Any, ...], Order] = field(default_factory=dict)  # by arrival
    level1: tuple[int | None, int | None, int | None, int | None] = (None, None, None, None)
    previous: tuple[int | None, int | None, int | None, int | None] = (None, None, None, None)
    source: str = "none"
    mid: tuple[int, int] | None = None  # bid + ask, time
    variance: float | None = None
    date: int | None = None
    traded: list[tuple[int, int]] = field(default_factory=list)
    last: tuple[int, int] | None = None
    bars: dict[str, dict[int, Bar]] = field(default_factory=lambda: {"1s": {}, "1m": {}})
    ended: dict[str, tuple[tuple[int, int], int | None]] = field(default_factory=dict)
    unshown: bool = False
    told: tuple[int, int] | None = None  # begin and length of the bar that the newest too late trade lies in

    def tell(self, time: int, length: int) -> bool:
        """Whether a trade that is too late for this bar needs a row of its own."""
        known, self.told = self.told, (time - time % length, length)
        return known != self.told

    def book(self) -> dict[str, dict[int, int]]:
        """Levels: those that were sent, or the sums over orders."""
        if not self.orders:
            return self.levels
        sums: dict[str, dict[int, int]] = {"bid": {}, "ask": {}}
        for order in self.orders.values():
            sums[order.side][order.price] = sums[order.side].get(order.price, 0) + order.size
        return sums

    def top(self, n: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        book = self.book()
        bids = sorted(book["bid"].items(), reverse=True)[:n]
        asks = sorted(book["ask"].items())[:n]
        return bids, asks

    def shown_trust(self) -> str:
        return "crossed" if self.trust == "valid" and self.crossed() else self.trust

    def crossed(self) -> bool:
        bids, asks = self.top(1)
        return bool(bids and asks and bids[0][0] >= asks[0][0])


@dataclass
class Instance:
    mark: tuple[int, int, int] | None = None
    clock: int | None = None
    shown: int | None = None
    begun: dict[str, tuple[tuple[int, int], int | None]] = field(default_factory=dict)  # connection -> gap, from
    closed: dict[str, tuple[tuple[int, int], int | None]] = field(default_factory=dict)
