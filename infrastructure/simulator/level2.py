"""Level 2 (port 9200, CRLF): market depth by price level, messages 7, 8 and 9.

Depth by order (`WOR`) is not simulated: such a watch is answered like one for an unknown symbol.
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
from infrastructure.simulator.session import NO_PROTOCOL, SYNTAX_ERROR, Session

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
        self._all = np.zeros(symbols, dtype=np.uint8)
        self._nothing = np.zeros(symbols, dtype=np.uint8)
        self._by_levels: dict[int, render.Bytes] = {}

    def greet(self) -> None:
        self.say_upstream()
        self.say("O")

    def other(self, line: str) -> None:
        name, _, rest = line.partition(",")
        if name in ("WPL", "RPL", "WOR", "ROR") and rest.strip():
            if not self.protocol_set:
                self.say(NO_PROTOCOL)
                return
            text, _, levels = rest.removesuffix(",").partition(",")
            if levels and not _LEVELS.fullmatch(levels):
                self.say(SYNTAX_ERROR)
            elif name == "WPL":
                self._begin(text.strip().upper(), int(levels or 0))
            elif name == "RPL":
                self._end(self.symbol(text))
            elif name == "WOR":
                self.say(f"n,{text.strip().upper()},")
        elif name[:1] == "m" and len(name) > 1 and not rest:
            self.say(f"M,{name[1:]},Market participant {name[1:]},")
        elif line not in ("c", "x"):  # connect and disconnect of this service in old versions
            self.say(SYNTAX_ERROR)

    def deliver(self, rows: Rows) -> None:
        table = rows.level2
        if not table.shape[0]:
            return
        if len(self._by_levels) <= 1:
            for levels in self._by_levels:
                table = self.feed.depth_rows(table, levels)
            watch = self._all
        else:
            table, watch = self._mixed(table), self._all
        self._send(table, watch if self.feed.connected else self._nothing)

    def upstream(self, up: bool) -> None:
        self.say_upstream()
        if up and not self.feed.behaviour.watches_survive:
            self.close()
        if up:
            for symbol, levels in self._levels.items():
                if self.feed.behaviour.clear_depth:
                    for side in "BA":
                        self.say(f"S,CLEAR DEPTH,{self.feed.names.symbols[symbol]},{side},", symbol)
                self._summary(symbol, levels)

    def close(self) -> None:
        for symbol in list(self._levels):
            self._end(symbol)

    @property
    def symbols_watched(self) -> int:
        return len(self._levels)

    def _begin(self, text: str, asked: int) -> None:
        symbol = self.symbol(text)
        if symbol < 0:
            self.say(f"n,{text},")
            return
        if symbol not in self._levels and not self.feed.take_watch(symbol):
            self.say(f"S,SYMBOL LIMIT REACHED,{text}", symbol)
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
        self._summary(symbol, levels)

    def _end(self, symbol: int) -> None:
        levels = self._levels.pop(symbol, None)
        if levels is not None:
            self.feed.drop_watch(symbol)
            self._flag(symbol, levels, 0)

    def _flag(self, symbol: int, levels: int, on: int) -> None:
        """Set or clear the watch flags of a symbol."""
        self._all[symbol] = on
        flags = self._by_levels.setdefault(levels, np.zeros_like(self._all))
        flags[symbol] = on
        if not on and not flags.any():
            del self._by_levels[levels]

    def _summary(self, symbol: int, levels: int) -> None:
        if not self.feed.connected or not self._all[symbol]:
            return
        self.say_clock_first()
        table = self.feed.summaries.level2(symbol, levels)
        if len(table):
            self._send(table, self._all)
        else:
            self.say(f"q,{self.feed.names.symbols[symbol]},", symbol)

    def _mixed(self, table: Int64s) -> Int64s:
        """Watches with different numbers of levels on one connection: their rows merged in the market's order."""
        parts = [table[table[:, c.KIND] == c.CLOCK]]
        for levels, watch in self._by_levels.items():
            rows = self.feed.depth_rows(table, levels)
            rows = rows[rows[:, c.KIND] != c.CLOCK]
            parts.append(rows[watch[rows[:, c.SYM]] == 1])
        joined = np.concatenate(parts)
        merged: Int64s = joined[np.argsort(joined[:, c.ORD], kind="stable")]
        return merged

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
