"""A market for tests, written from the protocol alone: one seeded flow of orders, its books kept as plain dicts.

Every change is told in each form of depth that the feed has: by order (`3 4 5 6`), by price level (`7 8 9`) and, for
protocols before 6.2, by participant with both sides (`Z`, `2`). Changes that carry a time carry one of their own, so a
reader of any form can be held against `truth[symbol][time]`. Shares no code with the product or its simulator.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

TOP = 10  # levels a side that `truth` remembers
MEMBERS = ("NSDQ", "AMEX", "CHXE", "ARCX", "BATS", "EDGX", "MEMX", "IEXG")
LEVELS_OF_OLD = 6  # MD01..MD06: depth of futures before 6.2
EASTERN_US = 5 * 3_600_000_000  # Eastern wall clock is this far behind UTC on the flow's day, in winter
OPEN_US = 1_704_189_600_000_000  # 2024-01-02 10:00:00 as an Eastern wall clock
DAY = "2024-01-02"

Key = tuple[str, ...]  # (order id,), or (side, participant)
Levels = list[tuple[int, int]]  # (price in 1e-6, size), best first
Sides = tuple[Levels, Levels]  # bids, asks


def is_future(symbol: str) -> bool:
    """Futures come order by order, everything else as one row per participant and side."""
    return symbol.startswith("@")


def time_text(local_us: int) -> str:
    """HH:MM:SS.ffffff of an Eastern wall clock."""
    seconds, micro = divmod(local_us % 86_400_000_000, 1_000_000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{micro:06}"


@dataclass
class Order:
    """An order, or a participant's best price on a side. Price in 1e-6."""

    side: str
    price: int
    size: int
    priority: int = 0


@dataclass
class Change:
    """Lines of one step in each form; `at` = its time in microseconds UTC, None where the lines carry none."""

    symbol: str
    at: int | None
    by_order: list[str] = field(default_factory=list)
    by_level: list[str] = field(default_factory=list)
    by_pair: list[str] = field(default_factory=list)


class Book:
    """Orders by key and the sums over them by price."""

    def __init__(self, symbol: str) -> None:
        self.symbol, self.future = symbol, is_future(symbol)
        self.tick, self.digits = (250_000, 2) if self.future else (10_000, 4)
        self.orders: dict[Key, Order] = {}
        self.sums: dict[str, dict[int, list[int]]] = {"B": {}, "A": {}}  # price -> [size, orders]

    def put(self, key: Key, order: Order) -> set[tuple[str, int]]:
        """Insert or replace; the levels it touched."""
        touched = self.drop(key)
        self.orders[key] = order
        level = self.sums[order.side].setdefault(order.price, [0, 0])
        level[0] += order.size
        level[1] += 1
        return touched | {(order.side, order.price)}

    def drop(self, key: Key) -> set[tuple[str, int]]:
        """Remove an order if it is there; the levels it touched."""
        order = self.orders.pop(key, None)
        if order is None:
            return set()
        level = self.sums[order.side][order.price]
        level[0] -= order.size
        level[1] -= 1
        if not level[1]:
            del self.sums[order.side][order.price]
        return {(order.side, order.price)}

    def side(self, side: str, count: int = TOP) -> Levels:
        """The best levels of a side."""
        prices = sorted(self.sums[side], reverse=side == "B")[:count]
        return [(price, self.sums[side][price][0]) for price in prices]

    def best(self, side: str) -> int | None:
        """Best price."""
        sums = self.sums[side]
        return (max(sums) if side == "B" else min(sums)) if sums else None

    def ahead(self, order_id: str) -> tuple[int, int]:
        """(orders, size) served before an order at its price: those of lower priority."""
        mine = self.orders[order_id,]
        before = [
            other.size
            for other in self.orders.values()
            if (other.side, other.price) == (mine.side, mine.price) and other.priority < mine.priority
        ]
        return len(before), sum(before)

    # -- lines ----------------------------------------------------------------------------------------------------

    def price(self, micro: int) -> str:
        """As the feed writes it."""
        sign, micro = ("-" if micro < 0 else ""), abs(micro)
        return f"{sign}{micro // 1_000_000}.{micro % 1_000_000:06}"[: -(6 - self.digits)]

    def order_line(self, kind: str, key: Key, order: Order, when: str) -> str:
        """`3`, `4`, `6`."""
        name, member = (key[0], "") if self.future else ("", key[1])
        priority = str(order.priority) if self.future else ""
        head = f"{kind},{self.symbol},{name},{member},{order.side},{self.price(order.price)},{order.size}"
        return f"{head},{priority},{self.digits},{when},{DAY},"

    def delete_line(self, key: Key, side: str, when: str) -> str:
        """`5`."""
        name, member = (key[0], "") if self.future else ("", key[1])
        return f"5,{self.symbol},{name},{member},{side},{when},{DAY},"

    def level_line(self, side: str, price: int, when: str, kind: str = "8") -> str:
        """`8` (or `7`) of a level that is there, else `9`."""
        level = self.sums[side].get(price)
        if level is None:
            return f"9,{self.symbol},{side},{self.price(price)},{when},{DAY},"
        text = f"{kind},{self.symbol},{side},{self.price(price)},{level[0]},{level[1]},{self.digits}"
        return f"{text},{when},{DAY},"

    def pair_line(self, kind: str, member: str, bid: Order | None, ask: Order | None, when: str, last: bool) -> str:
        """`Z` or `2`: both sides of a participant; one that is not quoted is zero and not valid."""
        prices = [self.price(side.price) if side else "0." for side in (bid, ask)]
        sizes = [side.size if side else 0 for side in (bid, ask)]
        times = [when if side else "99:99:99" for side in (bid, ask)]
        valid = ["T" if side else "F" for side in (bid, ask)]
        head = f"{kind},{self.symbol},{member},{prices[0]},{prices[1]},{sizes[0]},{sizes[1]}"
        return f"{head},{times[0]},{DAY},52,{times[1]},{valid[0]},{valid[1]},{'T' if last else 'F'},"

    def pairs(self) -> dict[str, tuple[Order | None, Order | None]]:
        """What the old form shows: participants, or of futures the level numbers."""
        if not self.future:
            members = {key[1] for key in self.orders}
            return {name: (self.orders.get(("B", name)), self.orders.get(("A", name))) for name in sorted(members)}
        sides = [[Order(side, *level) for level in self.side(side, LEVELS_OF_OLD)] for side in "BA"]
        count = max(map(len, sides))
        bids, asks = [[*side, *[None] * (count - len(side))] for side in sides]
        return {f"MD{at + 1:02}": (bids[at], asks[at]) for at in range(count)}


class OrderMarket:
    """`step` makes the next change. `truth[symbol][time]` = best TOP levels of both sides once it is taken."""

    def __init__(self, symbols: Sequence[str], seed: int = 1, *, orders: int = 30, old: bool = False) -> None:
        self.chance = random.Random(seed)
        self.now = OPEN_US  # Eastern wall clock
        self.books = {symbol: Book(symbol) for symbol in symbols}
        self.truth: dict[str, dict[int, Sides]] = defaultdict(dict)
        self.told: dict[str, int] = defaultdict(int)  # what the flow visited: for tests that it did
        self._old = old
        self._id, self._priority = (1 << 63) + seed * 1_000_003, 12_440_218_202
        self._refill: list[tuple[str, str]] = []
        self._held: frozenset[str] = frozenset()  # symbols whose books stay empty
        for book in self.books.values():
            for _ in range(orders):
                side = self.chance.choice("BA")
                book.put(self._new_key(book, side), self._order(book, side))

    @property
    def clock(self) -> str:
        """What a `T` shows."""
        return f"{DAY.replace('-', '')} {time_text(self.now)[:8]}"

    def steps(self, count: int) -> Iterator[Change]:
        """The next changes."""
        for _ in range(count):
            yield self.step()

    def step(self) -> Change:
        """One change of one symbol."""
        self.now += self.chance.choice((1, 7, 300, 900, 2_500))
        if self._refill:
            symbol, side = self._refill.pop()
            return self._set(self.books[symbol], side, self.chance.choice(("new", "summary")))
        book = self.books[self.chance.choice([name for name in self.books if name not in self._held])]
        side = self.chance.choice("BA")
        kinds, weights = ("new", "change", "move", "delete", "unknown", "again", "clear"), (30, 20, 20, 24, 3, 3, 0.4)
        kind = self.chance.choices(kinds, weights)[0]
        if kind == "clear":
            return self._clear(book)
        if kind == "unknown":
            return self._unknown(book, side)
        if kind == "delete":
            return self._delete(book)
        return self._set(book, side, kind)

    def empty(self, symbols: Iterable[str]) -> None:
        """All rows of these are gone, nobody is told, and no change is theirs until the next call names others."""
        self._held = frozenset(symbols)
        self._refill = [(symbol, side) for symbol, side in self._refill if symbol not in self._held]
        for symbol in self._held:
            for key in list(self.books[symbol].orders):
                self.books[symbol].drop(key)

    def rename_all(self) -> None:
        """As after a feed's restart: every order has another id and another priority, in the same queue order."""
        for book in self.books.values():
            if book.future:
                queue = sorted(book.orders.values(), key=lambda order: order.priority)
                book.orders.clear()
                for order in queue:
                    order.priority = self._next_priority()
                    book.orders[self._new_key(book, order.side)] = order

    # -- kinds of change ------------------------------------------------------------------------------------------

    def _set(self, book: Book, side: str, kind: str) -> Change:
        """A new order, or a known one with another size, another price, or sent again as if it were new."""
        key: Key | None = None if kind in {"new", "summary"} or not book.orders else self._any_key(book)
        if key is None:
            key, kind = self._new_key(book, side), kind if kind in {"new", "summary"} else "new"
            order = self._order(book, side)
        else:
            was = book.orders[key]
            order = Order(was.side, was.price, was.size, was.priority)
            if kind == "move":
                order.price, order.priority = self._price(book, order.side), self._next_priority()
            else:
                order.size = max(1, order.size + self.chance.randint(-9, 9))
        letter = "4" if not book.future or kind in {"change", "move"} else "3"
        letter = "6" if kind == "summary" else letter
        self.told[f"{kind} {letter}"] += 1
        before = book.pairs() if self._old else {}
        touched = book.put(key, order)
        line = book.order_line(letter, key, order, time_text(self.now))
        return self._change(book, [line], touched, before, "7" if kind == "summary" else "8")

    def _delete(self, book: Book) -> Change:
        if not book.orders:
            return self._set(book, "B", "new")
        key = self._any_key(book)
        order = book.orders[key]
        untimed = not book.future and self.chance.random() < 0.3
        by_size = self.chance.random() < 0.05
        self.told["delete"] += 1
        before = book.pairs() if self._old else {}
        touched = book.drop(key)
        when = "" if untimed else time_text(self.now)
        line = book.delete_line(key, order.side, when)
        if by_size:
            line = book.order_line("4", key, Order(order.side, order.price, 0, order.priority), when)
        return self._change(book, [line], touched, before, timed=not untimed)

    def _unknown(self, book: Book, side: str) -> Change:
        """A delete of what nobody holds changes nothing, in any form."""
        key = (str(self._next_id()),) if book.future else (side, "XXXX")
        price = (book.best(side) or 100_000_000) + (500 if side == "A" else -500) * book.tick
        self.told["unknown"] += 1
        return self._change(book, [book.delete_line(key, side, time_text(self.now))], {(side, price)}, book.pairs())

    def _clear(self, book: Book) -> Change:
        """One side or both emptied by the feed, then filled anew."""
        sides = self.chance.choice(("B", "A", "AB"))
        for key in [key for key, order in book.orders.items() if order.side in sides]:
            book.drop(key)
        self._refill += [(book.symbol, side) for side in sides for _ in range(6)]
        lines = [f"S,CLEAR DEPTH,{book.symbol},{side}," for side in sides]
        self.told[f"clear {sides}"] += 1
        return Change(book.symbol, None, lines, list(lines), list(lines))

    def _change(
        self,
        book: Book,
        by_order: list[str],
        touched: set[tuple[str, int]],
        before: dict[str, tuple[Order | None, Order | None]],
        kind: str = "8",
        *,
        timed: bool = True,
    ) -> Change:
        when = time_text(self.now) if timed else ""
        by_level = [book.level_line(side, price, when, kind) for side, price in sorted(touched)]
        at = self.now + EASTERN_US if timed else None
        if at is not None:
            self.truth[book.symbol][at] = book.side("B"), book.side("A")
        change = Change(book.symbol, at, by_order, by_level)
        if self._old:
            after = book.pairs()
            names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
            for name in names:
                bid, ask = after.get(name, (None, None))
                change.by_pair.append(book.pair_line("2", name, bid, ask, time_text(self.now), name == names[-1]))
        return change

    # -- numbers --------------------------------------------------------------------------------------------------

    def _any_key(self, book: Book) -> Key:
        return self.chance.choice(tuple(book.orders))

    def _new_key(self, book: Book, side: str) -> Key:
        return (str(self._next_id()),) if book.future else (side, self.chance.choice(MEMBERS))

    def _next_id(self) -> int:
        self._id += self.chance.randint(1, 1 << 40)
        return self._id

    def _next_priority(self) -> int:
        self._priority += self.chance.randint(1, 1 << 33)
        return self._priority

    def _order(self, book: Book, side: str) -> Order:
        return Order(side, self._price(book, side), self.chance.randint(1, 40), self._next_priority())

    def _price(self, book: Book, side: str) -> int:
        """Mostly near the best; one in 300 crosses the other side."""
        other = book.best("A" if side == "B" else "B")
        away = -1 if side == "B" else 1
        near = other if other is not None else 4_500_000_000 if book.future else 188_000_000
        steps = 0 if self.chance.random() < 0.003 else self.chance.randint(1, 12)
        return near + away * steps * book.tick
