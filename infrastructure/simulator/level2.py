"""Level 2 (port 9200, CRLF): market depth by price level (WPL: 7, 8, 9) and by order (WOR: 3, 4, 5, 6).

Both are served for every symbol and describe the same book. By order, a future (`@...`) has orders with ids and
priorities; an equity has one row per market participant and side: 6, then 4 and 5 only, without id and priority. Both
forms of one symbol may be watched on one connection; their stamps rise strictly per symbol and form.
A market that keeps no orders (a replay by level) answers WOR with `q`: known, no depth of that kind.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

import numpy as np

from infrastructure.simulator import columns as c
from infrastructure.simulator import render
from infrastructure.simulator.connection import Connection
from infrastructure.simulator.feed import Feed
from infrastructure.simulator.market import Int64s, Rows
from infrastructure.simulator.render import BY_LEVEL, BY_ORDER
from infrastructure.simulator.session import NO_PROTOCOL, SYNTAX_ERROR, Session
from infrastructure.simulator.two_sided import TwoSidedDepth

LINE_END: Final = b"\r\n"
_LEVELS = re.compile(r"[0-9]{1,6}")


class Level2Session(Session):
    """See the module. `levels` of a watch: 0 = all that the market keeps."""

    stats_type: ClassVar[int] = 2
    streams: ClassVar[bool] = True

    def __init__(self, feed: Feed, connection: Connection, number: int) -> None:
        super().__init__(feed, connection, number)
        symbols = len(feed.names.symbols)
        self._levels: dict[int, int] = {}  # symbol -> levels
        self._orders: set[int] = set()
        self._all = np.zeros(symbols, dtype=np.uint8)  # bits BY_LEVEL, BY_ORDER
        self._nothing = np.zeros(symbols, dtype=np.uint8)
        self._by_levels: dict[int, render.Bytes] = {}
        self._two_sided: TwoSidedDepth | None = None  # what protocols before 6.2 speak

    def greet(self) -> None:
        self.say_upstream()
        self.say("O")

    def protocol_changed(self) -> None:
        self.close()
        self._two_sided = TwoSidedDepth(self) if self.protocol < "6.2" else None

    def other(self, line: str) -> None:
        if self._two_sided is not None and self._two_sided.command(line):
            return
        name, _, rest = line.partition(",")
        if name in ("WPL", "RPL", "WOR", "ROR") and rest.strip() and self._two_sided is None:
            if not self.protocol_set:
                self.say(NO_PROTOCOL)
                return
            text, _, levels = rest.removesuffix(",").partition(",")
            if levels and not (name == "WPL" and _LEVELS.fullmatch(levels)):
                self.say(SYNTAX_ERROR)
            elif name == "WPL":
                self._begin_levels(text.strip().upper(), int(levels or 0))
            elif name == "WOR":
                self._begin_orders(text.strip().upper())
            else:
                self._end(self.symbol(text), BY_LEVEL if name == "RPL" else BY_ORDER)
        elif name[:1] in ("w", "r") and len(name) > 1 and not rest and self.feed.behaviour.old_depth_watch:
            self._old(name[0], name[1:].strip().upper())
        elif name[:1] == "m" and len(name) > 1 and not rest:
            self.say(f"M,{name[1:]},Market participant {name[1:]},")
        elif line not in ("c", "x"):  # connect and disconnect of this service in old versions
            self.say(SYNTAX_ERROR)

    def deliver(self, rows: Rows) -> None:
        if self._two_sided is not None:
            self._two_sided.deliver(rows)
            return
        table = self._mixed(rows)
        if table.shape[0]:
            self._send(table, self._all if self.feed.connected else self._nothing)
        for symbol in rows.reset:
            self.clear(self.feed.names.symbols[symbol], "BA")

    def upstream(self, up: bool) -> None:
        self.say_upstream()
        if up and not self.feed.behaviour.watches_survive:
            self.close()
        if up:
            if self._two_sided is not None:
                self._two_sided.restate()
            for symbol in self._watched():
                if self.feed.behaviour.clear_depth:
                    self._say_clear(symbol, "BA")
                self._summaries(symbol)

    def close(self) -> None:
        if self._two_sided is not None:
            self._two_sided.close()
        for symbol in self._watched():
            self._end(symbol, BY_LEVEL)
            self._end(symbol, BY_ORDER)

    @property
    def symbols_watched(self) -> int:
        return len(self._watched()) + (self._two_sided.watched if self._two_sided is not None else 0)

    @property
    def watched_symbols(self) -> list[str]:
        """Their names."""
        return [self.feed.names.symbols[symbol] for symbol in self._watched()]

    def clear(self, symbol: str, sides: str) -> None:
        """S,CLEAR DEPTH for each of `sides`, then the rows again; nothing where the symbol is not watched."""
        index = self.symbol(symbol)
        if self.feed.connected and index in self._watched():
            self._say_clear(index, sides)
            self._summaries(index)

    def silence(self, symbol: str) -> None:
        """No more lines of a symbol, without a word, until it is watched anew."""
        index = self.symbol(symbol)
        if index >= 0:
            self._all[index] = 0

    def _watched(self) -> list[int]:
        return list(dict.fromkeys([*self._levels, *sorted(self._orders)]))

    def _say_clear(self, symbol: int, sides: str) -> None:
        for side in sides:
            self.say(f"S,CLEAR DEPTH,{self.feed.names.symbols[symbol]},{side},", symbol)

    def _old(self, letter: str, text: str) -> None:
        """`w` and `r` of the versions before 6.2: participants of an equity, price levels of a future."""
        if not self.protocol_set:
            self.say(NO_PROTOCOL)
        elif letter == "r":
            self._end(self.symbol(text), BY_LEVEL if text.startswith("@") else BY_ORDER)
        elif text.startswith("@"):
            self._begin_levels(text, 0)
        else:
            self._begin_orders(text)

    def _may_begin(self, text: str) -> int:
        """Index of a symbol that may be watched; -1 where the answer has been given."""
        symbol = self.symbol(text)
        if symbol < 0:
            self.say(f"n,{text},")
        elif symbol not in self._watched() and not self.feed.take_watch(symbol):
            self.say(f"S,SYMBOL LIMIT REACHED,{text}", symbol)
            symbol = -1
        return symbol

    def _begin_levels(self, text: str, asked: int) -> None:
        symbol = self._may_begin(text)
        if symbol < 0:
            return
        if text in self.feed.behaviour.no_depth:
            self._levels[symbol] = 0  # the watch stays, but nothing comes: no flag is set
            self.say(f"q,{text},", symbol)
            return
        levels = self.feed.levels(asked)
        self.feed.open_window(levels)
        if symbol in self._levels:
            self._flag(symbol, self._levels[symbol], 0)
        self._levels[symbol] = levels
        self._flag(symbol, levels, 1)
        self._all[symbol] |= BY_LEVEL
        self._summary(symbol, self.feed.summaries.level2(symbol, levels))

    def _begin_orders(self, text: str) -> None:
        symbol = self._may_begin(text)
        if symbol < 0:
            return
        self._orders.add(symbol)
        rows = self.feed.summaries.orders(symbol)
        if text in self.feed.behaviour.no_depth or rows is None:
            self.say(f"q,{text},", symbol)
            return
        self._all[symbol] |= BY_ORDER
        self._summary(symbol, rows)

    def _end(self, symbol: int, form: int) -> None:
        if form == BY_LEVEL and symbol in self._levels:
            self._flag(symbol, self._levels.pop(symbol), 0)
        elif form == BY_ORDER and symbol in self._orders:
            self._orders.remove(symbol)
        else:
            return
        self._all[symbol] &= 255 - form
        if symbol not in self._levels and symbol not in self._orders:
            self.feed.drop_watch(symbol)

    def _flag(self, symbol: int, levels: int, on: int) -> None:
        """Count a symbol among the watches of so many levels, or no longer."""
        flags = self._by_levels.setdefault(levels, np.zeros_like(self._all))
        flags[symbol] = on
        if not on and not flags.any():
            del self._by_levels[levels]

    def _summaries(self, symbol: int) -> None:
        """The state of a watched book again, in each form that is watched."""
        if self._all[symbol] & BY_LEVEL:
            self._summary(symbol, self.feed.summaries.level2(symbol, self._levels[symbol]))
        orders = self.feed.summaries.orders(symbol) if self._all[symbol] & BY_ORDER else None
        if orders is not None:
            self._summary(symbol, orders)

    def _summary(self, symbol: int, table: Int64s) -> None:
        if not self.feed.connected:
            return
        self.say_clock_first()
        if len(table):
            self._send(table, self._all)
        else:
            self.say(f"q,{self.feed.names.symbols[symbol]},", symbol)

    def _mixed(self, rows: Rows) -> Int64s:
        """The depth rows of a batch for this connection: watches of several forms merged in the market's order.

        A row by order comes before the level row of the same moment.
        """
        if len(self._by_levels) + bool(self._orders) <= 1:
            for levels in self._by_levels:
                return self.feed.depth_rows(rows.level2, levels)
            return self._told(rows.orders) if self._orders else rows.level2
        parts = [self._told(rows.orders)] if self._orders else []
        parts.append(rows.level2[rows.level2[:, c.KIND] == c.CLOCK])
        if self._orders:
            parts[0] = parts[0][parts[0][:, c.KIND] != c.CLOCK]
        for levels, watch in self._by_levels.items():
            table = self.feed.depth_rows(rows.level2, levels)
            table = table[table[:, c.KIND] != c.CLOCK]
            parts.append(table[watch[table[:, c.SYM]] == 1])
        joined = np.concatenate(parts)
        merged: Int64s = joined[np.argsort(joined[:, c.ORD], kind="stable")]
        return merged

    def _told(self, orders: Int64s) -> Int64s:
        """Rows by order as this server tells them: deletes of participants without a time where so wished."""
        if not self.feed.behaviour.empty_delete_time:
            return orders
        orders = orders.copy()
        gone = (orders[:, c.KIND] == c.ORDER_DELETE) & (orders[:, c.ORDER_ID] == 0)
        orders[gone, c.TIME] *= -1
        return orders

    def _send(self, table: Int64s, watch: render.Bytes) -> None:
        scratch, names = self.feed.scratch, self.feed.names
        row = 0
        while row < len(table):
            row, lines, size = render.render_level2(
                table, row, len(table), watch, self.clock_on, names.text, names.lengths,
                scratch.out, scratch.ends, scratch.symbols, scratch.sources,
            )  # fmt: skip
            self.connection.send(
                scratch.out[:size], scratch.ends[:lines], scratch.symbols[:lines], scratch.sources[:lines]
            )
