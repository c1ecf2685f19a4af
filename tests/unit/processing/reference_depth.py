"""The reference's books: levels as they are sent, or dicts of orders; what is ignored and what expires is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.unit.processing.reference_features import SECOND
from tests.unit.processing.reference_state import Instance, Order, Row, Symbol

SETTLED = 5 * SECOND


class DepthReference:
    def __init__(self, closed_since: Callable[[int], int | None]) -> None:
        self.closed_since = closed_since
        self.counts: Counter[str] = Counter()

    def depth(self, row: Row, symbol: Symbol, instance: Instance) -> bool:
        """True where the book was emptied because its form changed."""
        kind, side, price, size = row["kind"], row.get("side"), row.get("price"), row.get("size")
        if kind == "depth_clear":
            for each in ("bid", "ask") if side is None else (side,):
                symbol.levels[each] = {}
                symbol.orders = {key: order for key, order in symbol.orders.items() if order.side != each}
            if symbol.trust == "valid":
                symbol.trust, symbol.need_summary = "resyncing", False
            if symbol.unconfirmed is not None:
                if not any(symbol.book().values()):
                    symbol.unconfirmed, symbol.need_summary, symbol.begun = None, False, False
            elif symbol.trust == "resyncing":
                symbol.begun = False
            return False
        if kind in {"order_add", "order_change", "order_delete"}:
            return self.order(row, symbol, instance)
        if side is None or price is None or (kind == "level_set" and size is None):
            self.counts["unusable_depth"] += 1
            return False
        emptied = False
        if symbol.orders:
            if kind == "level_delete" or not row["summary"]:
                self.counts["mixed_depth_forms"] += 1
                return False
            emptied = self.change_form(symbol)
        if kind == "level_delete" or (size is not None and size <= 0):
            if symbol.levels[side].pop(price, None) is None:
                self.counts["unknown_level_deletes"] += 1
        elif size is not None:
            symbol.levels[side][price] = size
            self.begin(row, symbol, (side, price))
        return emptied

    def order(self, row: Row, symbol: Symbol, instance: Instance) -> bool:
        side, price, size = row.get("side"), row.get("price"), row.get("size")
        deletes, identity, mmid = row["kind"] == "order_delete", row.get("order_id"), row.get("mmid")
        key: tuple[Any, ...] = (identity,) if identity is not None else (side, mmid)
        if identity is None and mmid is None:
            usable = False
        elif deletes:
            usable = identity is not None or side is not None
        else:
            usable = None not in (side, price, size)
        if not usable or (not deletes and size is not None and size > 1 << 40):
            self.counts["unusable_depth"] += 1
            return False
        if deletes or (size is not None and size <= 0):
            if symbol.orders.pop(key, None) is None:
                self.counts["unknown_order_deletes"] += 1
            return False
        assert side is not None and price is not None and size is not None
        emptied = False
        if not symbol.orders and any(symbol.levels.values()):
            if not row["summary"]:
                self.counts["mixed_depth_forms"] += 1
                return False
            emptied = self.change_form(symbol)
        known = symbol.orders.get(key)
        if known is not None and ((known.side, known.price) != (side, price) or size > known.size):
            del symbol.orders[key]
        symbol.orders[key] = Order(side, price, size, row.get("priority"), instance.clock)
        before = known is not None and identity is not None and row["kind"] == "order_change"
        self.begin(row, symbol, key, before=before)
        return emptied

    def change_form(self, symbol: Symbol) -> bool:
        symbol.levels, symbol.orders, symbol.begun = {"bid": {}, "ask": {}}, {}, False
        symbol.unconfirmed, symbol.asked = None, None
        if symbol.trust == "valid":
            symbol.trust, symbol.need_summary = "resyncing", True
        return True

    def restate(self, symbol: Symbol) -> bool:
        """The watch was sent again to a book in use: its rows stay until it is whole; False where it has to go."""
        if symbol.trust != "valid" or not any(symbol.book().values()):
            return False
        symbol.trust, symbol.begun, symbol.need_summary = "resyncing", False, True
        prices = {(side, price) for side, levels in symbol.levels.items() for price in levels}
        symbol.unconfirmed = set(symbol.orders) | prices
        return True

    def after_quiet(self, row: Row, symbol: Symbol) -> bool:
        """A live line long after the newest row of a summary completes it; True where it did."""
        if symbol.trust != "resyncing" or not symbol.begun or row["summary"]:
            return False
        assert symbol.begun_at is not None
        if row["recv_time_us"] - symbol.begun_at < SETTLED:
            return False
        symbol.trust = "valid"
        self.restated(symbol)
        return True

    def unanswered(self, row: Row, symbol: Symbol) -> bool:
        """A `T` of Level 2 long after a second watch that nothing answered; True where the book shows it."""
        waits = symbol.trust == "resyncing" and symbol.need_summary and not symbol.begun
        if not waits or symbol.asked is None or row["recv_time_us"] - symbol.asked < SETTLED:
            return False
        had = any(symbol.book().values())
        self.restated(symbol)
        symbol.need_summary, symbol.asked = False, None
        if any(symbol.book().values()):
            symbol.trust, symbol.begun = "valid", True
        return had

    def needs_summary(self, symbol: Symbol) -> bool | None:
        """After a second watch that empties the book; None = as before."""
        if symbol.trust == "valid" or symbol.unconfirmed is not None:
            return False
        return True if symbol.trust == "stale" else None

    def restated(self, symbol: Symbol) -> None:
        """The book is whole: nothing unconfirmed stays."""
        for key in symbol.unconfirmed or ():
            known = symbol.orders.pop(key, None) or (key[0] in symbol.levels and symbol.levels[key[0]].pop(key[1], 0))
            self.counts["rows_not_restated"] += bool(known)
        symbol.unconfirmed = None

    def begin(self, row: Row, symbol: Symbol, key: tuple[Any, ...], *, before: bool = False) -> None:
        """`before`: a change of an order that is held, which may be older than the watch."""
        if symbol.trust == "none":
            symbol.trust = "resyncing"
        if symbol.trust == "resyncing" and (row["summary"] or not (symbol.need_summary or symbol.begun)):
            symbol.begun, symbol.begun_at = True, row["recv_time_us"]
        if symbol.unconfirmed is not None and not (before and not symbol.begun):
            symbol.unconfirmed.discard(key)

    def expire(self, symbol: Symbol, clock: int) -> None:
        """Rows of participants, outside the session: 15 minutes after the later of its end and their last line."""
        closed = self.closed_since(clock)
        if closed is None:
            return
        for key, order in list(symbol.orders.items()):
            if len(key) == 2:
                order.seen = clock if order.seen is None else order.seen
                if clock - max(order.seen, closed) >= 900 * SECOND:
                    del symbol.orders[key]
                    self.counts["expired_participant_rows"] += 1
