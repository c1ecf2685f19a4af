"""The state of all assigned partitions: arrays for the kernels, and who is who in them.

Symbols, instances and slots are numbered as they appear; no result depends on those numbers. Everything that is
ordered is ordered by partition and symbol.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence

import numpy as np

from pipeline_orchestrator.processing.layout import (
    BAR,
    CHAIN,
    CHANGED,
    COUNTED,
    FIRST_BLOCK,
    LINK,
    NIL,
    NIL32,
    NONE,
    ORDER,
    P_BARS,
    P_FREE_BAR,
    P_FREE_BLOCK,
    P_FREE_ORDER,
    P_FREE_TRADE,
    P_LEVELS,
    P_ORDERS,
    P_ORDERS_HELD,
    P_TRADES,
    P_TRADES_HELD,
    POOL_SIZE,
    PUBLISHED,
    SIDE,
    SLOT,
    STALE,
    TRADE,
    Array,
    StateArrays,
)
from pipeline_orchestrator.processing.orders import adopt_orders, fill_buckets


def _blank(dtype: np.dtype[np.void], **others: float) -> Array:
    """One row with NIL in every 64-bit integer and 0 elsewhere, but for `others`."""
    row: Array = np.zeros(1, dtype)
    for name in dtype.names or ():
        if dtype[name] == np.int64:
            row[name] = NIL
    for name, value in others.items():
        row[name] = value
    return row


NEW_SLOT = _blank(
    SLOT,
    link=-1,
    twin=-1,
    need_summary=1,
    date=NIL32,
    volume=0,
    turnover_hi=0,
    turnover_lo=0,
    trades=0,
    variance=float("nan"),
)
NEW_SIDES = np.array([(0, 0, 0, -1, -1, 0)] * 2, SIDE)
NEW_CHAINS = np.array([(-1, -1, 0, 0)] * 2, CHAIN)
NEW_LINK = _blank(LINK, marked=0)


class State:
    """Arrays with room to grow; `view()` is what the kernels get.

    Rows `[:slot_count]` of slots are in use, two rows of sides and chains for each; links have one row per instance
    and partition. After `add_slot` the order by symbol is brought up to date by the next `view()`.
    """

    def __init__(self, partitions: Sequence[int]) -> None:
        self.partitions = tuple(sorted(partitions))
        self.index = {partition: at for at, partition in enumerate(self.partitions)}
        self.numbers = np.array(self.partitions, np.int32)
        self.symbols: list[str] = []
        self.sid_of: dict[str, int] = {}
        self.instances: list[int] = []
        self.instance_ids: Array = np.zeros(0, np.int64)
        self.slot_count = 0
        self.past_lost = [False] * len(self.partitions)  # books of symbols yet unseen begin as stale
        self.heads: Array = np.full(16, -1, np.int32)
        self._sorted: list[list[tuple[str, int]]] = [[] for _ in self.partitions]
        self._unordered = True
        pool: Array = np.zeros(POOL_SIZE, np.int64)
        pool[P_FREE_BAR] = -1
        pool[P_FREE_ORDER] = -1
        pool[P_FREE_TRADE] = -1
        pool[P_FREE_BLOCK:] = -1
        self._arrays = StateArrays(
            slots=np.zeros(16, SLOT),
            sides=np.zeros(32, SIDE),
            chains=np.zeros(32, CHAIN),
            bars=np.zeros(64, BAR),
            keys=np.zeros(64 * FIRST_BLOCK, np.int64),
            sizes=np.zeros(64 * FIRST_BLOCK, np.int64),
            orders=np.zeros(64, ORDER),
            trades=np.zeros(64, TRADE),
            buckets=np.full(64, -1, np.int32),
            links=np.zeros(0, LINK),
            order=np.zeros(0, np.int32),
            starts=np.zeros(len(self.partitions) + 1, np.int64),
            pool=pool,
            counts=np.zeros(len(COUNTED), np.int64),
            expiry=np.full(32, NIL, np.int64),
        )

    def view(self) -> StateArrays:
        """The arrays as they are now; growing makes an older view useless."""
        if self._unordered:
            self._unordered = False
            self._arrays = self._arrays._replace(
                order=np.array([slot for part in self._sorted for _, slot in part], np.int32),
                starts=np.cumsum([0, *map(len, self._sorted)], dtype=np.int64),
            )
        return self._arrays

    def add_symbol(self, symbol: str) -> int:
        """Number of a symbol, new or known."""
        sid = self.sid_of.get(symbol)
        if sid is None:
            sid = self.sid_of[symbol] = len(self.symbols)
            self.symbols.append(symbol)
            if sid == self.heads.size:
                self.heads = np.concatenate([self.heads, np.full(sid, -1, np.int32)])
        return sid

    def add_slot(self, part: int, sid: int) -> int:
        """Slot of a symbol in a partition, new or known."""
        known = int(self.heads[sid])
        while known >= 0:
            if int(self._arrays.slots[known]["part"]) == part:
                return known
            known = int(self._arrays.slots[known]["twin"])
        slot = self.slot_count
        if slot == self._arrays.slots.size:
            self._arrays = self._arrays._replace(
                slots=doubled(self._arrays.slots),
                sides=doubled(self._arrays.sides),
                chains=doubled(self._arrays.chains),
                expiry=doubled(self._arrays.expiry),
            )
        arrays = self._arrays
        self.slot_count += 1
        arrays.slots[slot] = NEW_SLOT[0]
        row = arrays.slots[slot]
        row["sid"], row["part"], row["twin"] = sid, part, self.heads[sid]
        row["trust"] = STALE if self.past_lost[part] else NONE
        self.heads[sid] = slot
        arrays.sides[2 * slot : 2 * slot + 2] = NEW_SIDES
        arrays.chains[2 * slot : 2 * slot + 2] = NEW_CHAINS
        arrays.expiry[2 * slot : 2 * slot + 2] = NIL
        insort(self._sorted[part], (self.symbols[sid], slot))
        self._unordered = True
        return slot

    def add_instance(self, instance: int) -> int:
        """Number of an instance, new or known; a new one gets a link in every partition."""
        if instance in self.instances:
            return self.instances.index(instance)
        self.instances.append(instance)
        self.instance_ids = np.array(self.instances, np.int64)
        links = np.repeat(NEW_LINK, len(self.partitions))
        links["instance"] = instance
        self._arrays = self._arrays._replace(links=np.concatenate([self._arrays.links, links]))
        return len(self.instances) - 1

    def slots_of(self, part: int) -> list[tuple[str, int]]:
        """Symbols of a partition with their slots, by symbol."""
        return self._sorted[part]

    def links_of(self, part: int) -> Array:
        """Indices of a partition's links, in the order of `instances`."""
        return np.arange(len(self.instances)) * len(self.partitions) + part

    def put_levels(self, slot: int, side: int, keys: Array, sizes: Array) -> None:
        """Levels of a side that has none, worst first."""
        if not keys.size:
            return
        wanted = FIRST_BLOCK
        while wanted < keys.size:
            wanted *= 2
        while int(self._arrays.pool[P_LEVELS]) + wanted > self._arrays.keys.size:
            self.grow_levels()
        off = int(self._arrays.pool[P_LEVELS])
        self._arrays.pool[P_LEVELS] = off + wanted
        self._arrays.keys[off : off + keys.size] = keys
        self._arrays.sizes[off : off + keys.size] = sizes
        row = self._arrays.sides[2 * slot + side]
        row["off"], row["cap"], row["n"] = off, wanted, keys.size

    def put_orders(self, slot: int, side: int, orders: Array) -> None:
        """Orders of a side that has none, by arrival; its levels must be put besides."""
        n = int(orders.size)
        while int(self._arrays.pool[P_ORDERS]) + n > self._arrays.orders.size:
            self.grow_orders()
        if n:
            first = int(self._arrays.pool[P_ORDERS])
            self._arrays.orders[first : first + n] = orders
            adopt_orders(self.view(), 2 * slot + side, n)

    def orders_of(self, slot: int, side: int) -> Array:
        """A copy of a side's orders, by arrival."""
        places = []
        p = int(self._arrays.sides[2 * slot + side]["oldest"])
        while p >= 0:
            places.append(p)
            p = int(self._arrays.orders[p]["newer"])
        found: Array = self._arrays.orders[np.array(places, np.int64)]
        return found

    def order_bytes(self) -> tuple[int, int]:
        """Orders held, and bytes of the tables for them (which never shrink: the most that were held at once)."""
        arrays = self._arrays
        return int(arrays.pool[P_ORDERS_HELD]), arrays.orders.nbytes + arrays.buckets.nbytes

    def trade_bytes(self) -> tuple[int, int]:
        """Trades kept for corrections, and bytes of the table for them (which never shrinks)."""
        return int(self._arrays.pool[P_TRADES_HELD]), self._arrays.trades.nbytes

    def put_bars(self, slot: int, interval: int, bars: Array, trades: Array | None = None) -> None:
        """Bars of a chain that has none, newest first; those with a `first_trade` get the next so many trades."""
        n = int(bars.size)
        if not n:
            return
        while int(self._arrays.pool[P_BARS]) + n > self._arrays.bars.size:
            self.grow_bars()
        first = int(self._arrays.pool[P_BARS])
        self._arrays.pool[P_BARS] = first + n
        placed = self._arrays.bars[first : first + n]
        placed[:] = bars
        placed["older"] = [*range(first + 1, first + n), -1]
        placed["newer"] = [-1, *range(first, first + n - 1)]
        waiting = int(np.count_nonzero((placed["flags"] & (PUBLISHED | CHANGED)) != PUBLISHED))
        self._arrays.chains[2 * slot + interval] = (first, first + n - 1, n, waiting)
        counts = bars["first_trade"].astype(np.int64)
        placed["first_trade"], placed["last_trade"] = -1, -1
        if trades is not None and trades.size:
            self._put_trades(placed, counts, trades)

    def _put_trades(self, bars: Array, counts: Array, trades: Array) -> None:
        n = int(trades.size)
        while int(self._arrays.pool[P_TRADES]) + n > self._arrays.trades.size:
            self.grow_trades()
        first = int(self._arrays.pool[P_TRADES])
        self._arrays.pool[P_TRADES] = first + n
        self._arrays.pool[P_TRADES_HELD] += n
        placed = self._arrays.trades[first : first + n]
        placed[:] = trades
        placed["next"] = range(first + 1, first + n + 1)
        having: Array = np.flatnonzero(counts)
        ends = first + np.cumsum(counts[having])
        bars["first_trade"][having], bars["last_trade"][having] = ends - counts[having], ends - 1
        placed["next"][ends - 1 - first] = -1

    def grow_levels(self) -> None:
        """Twice the room for levels."""
        self._arrays = self._arrays._replace(keys=doubled(self._arrays.keys), sizes=doubled(self._arrays.sizes))

    def grow_orders(self) -> None:
        """Twice the room for orders, and for their hash buckets."""
        room = 2 * self._arrays.orders.size
        buckets: Array = np.full(room, -1, np.int32)
        self._arrays = self._arrays._replace(orders=doubled(self._arrays.orders), buckets=buckets)
        fill_buckets(self.view())

    def grow_trades(self) -> None:
        """Twice the room for trades."""
        self._arrays = self._arrays._replace(trades=doubled(self._arrays.trades))

    def grow_bars(self) -> None:
        """Twice the room for bars."""
        self._arrays = self._arrays._replace(bars=doubled(self._arrays.bars))


def doubled(array: Array) -> Array:
    """A copy with twice the room, the new half zero."""
    larger: Array = np.zeros(2 * array.shape[0], array.dtype)
    larger[: array.shape[0]] = array
    return larger
