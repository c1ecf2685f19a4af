"""Level 1 (port 5009, LF): quotes and trades in the layout that each connection chose."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final

import numpy as np

from infrastructure.simulator import bulletins, fields, render
from infrastructure.simulator.bulletins import Bulletins
from infrastructure.simulator.connection import Connection
from infrastructure.simulator.feed import VERSION, Feed
from infrastructure.simulator.fundamentals import field_names, fundamental_line
from infrastructure.simulator.market import Int64s, Rows
from infrastructure.simulator.session import NO_PROTOCOL, SYNTAX_ERROR, Session
from infrastructure.simulator.stats import stats_line

LINE_END: Final = b"\n"
CORRECTIONS_SINCE: Final = "6.1"
_NONE, _ALL, _TRADES = 0, 1, 2
_WATCH = {"w": _ALL, "t": _TRADES}


class Level1Session(Session):
    """See the module. News and regional quotes come on demand and go on (bulletins.py); log levels give nothing."""

    stats_type: ClassVar[int] = 1
    streams: ClassVar[bool] = True

    def __init__(self, feed: Feed, connection: Connection, number: int) -> None:
        super().__init__(feed, connection, number)
        self._watch = np.zeros(len(feed.names.symbols), dtype=np.uint8)
        self._nothing = np.zeros_like(self._watch)
        self._silent: set[int] = set()
        self.regional = np.zeros_like(self._watch)  # symbols of REGON
        self.news = False
        self._count = 0
        self._known = fields.FIELDS
        self._set_layout(fields.DEFAULT_FIELDS)

    def greet(self) -> None:
        limit = self.feed.symbol_limit
        self.say("S,KEY,99999")
        self.say_upstream()
        self.say("S,IP,127.0.0.1 60009,127.0.0.1 60001")
        self.say(f"S,CUST,real_time,127.0.0.1,60003,SIMULATOR,{VERSION},0, NASDAQ NASDAQ-L2 L2 ,,{limit},QT_API,,")

    def protocol_changed(self) -> None:
        self._known = fields.of_protocol(self.protocol)
        self._set_layout(fields.DEFAULT_FIELDS)
        self._say_layout("")

    def other(self, line: str) -> None:
        letter, text = line[0], line[1:].strip().upper()
        if letter not in "wtrf" or not text or "," in text or len(text) > render.SYMBOL_BYTES - 2:
            self.say(SYNTAX_ERROR)
            return
        if not self.protocol_set:
            self.say(NO_PROTOCOL)
            return
        symbol = self.symbol(text)
        if letter in _WATCH:
            self._begin(symbol, text, _WATCH[letter])
        elif symbol >= 0 and self._watch[symbol]:
            if letter == "r":
                self._end(symbol)
            else:
                self._summary(symbol)

    def system(self) -> dict[str, Callable[[str], None]]:
        return super().system() | {
            "KEY": lambda rest: self.say("S,KEYOK"),
            "SELECT UPDATE FIELDS": self._select,
            "REQUEST CURRENT UPDATE FIELDNAMES": self._say_layout,
            "REQUEST ALL UPDATE FIELDNAMES": lambda rest: self.say("S,UPDATE FIELDNAMES," + ",".join(self._known)),
            "REQUEST FUNDAMENTAL FIELDNAMES": lambda rest: self.say(
                "S,FUNDAMENTAL FIELDNAMES," + ",".join(field_names(self.protocol))
            ),
            "REQUEST WATCHES": self._say_watches,
            "UNWATCH ALL": lambda rest: self._unwatch_all(),
            "REQUEST STATS": lambda rest: self.say(stats_line(self.feed)),
            "REGON": self._regional,
            "REGOFF": self._regional_off,
            "NEWSON": self._news,
            "NEWSOFF": lambda rest: setattr(self, "news", False),
            "SET LOG LEVELS": lambda rest: self.say("S,CURRENT LOG LEVELS," + rest),
            "CONNECT": lambda rest: self.feed.set_upstream(True),
            "DISCONNECT": lambda rest: self.feed.set_upstream(False),
        }

    def deliver(self, rows: Rows) -> None:
        if self.feed.connected and self.protocol >= CORRECTIONS_SINCE:
            for correction in rows.corrections:
                if self._watch[correction.symbol]:
                    self.say(correction.line, correction.symbol)
        if rows.level1.shape[0]:
            self._send(rows.level1, self._heard() if self.feed.connected else self._nothing)

    def silence(self, symbol: str) -> None:
        """No more changes of a symbol, without a word, until it is watched anew."""
        index = self.symbol(symbol)
        if index >= 0 and self._watch[index]:
            self._silent.add(index)

    def _heard(self) -> render.Bytes:
        if not self._silent:
            return self._watch
        heard = self._watch.copy()
        heard[list(self._silent)] = _NONE
        return heard

    def tell(self, bulletins: Bulletins) -> None:
        """Send what of the newest headlines and regional quotes was asked for."""
        if not self.feed.connected:
            return
        for line in bulletins.news if self.news else ():
            self.say(line)
        for symbol, line in bulletins.regional:
            if self.regional[symbol]:
                self.say(line, symbol)

    def upstream(self, up: bool) -> None:
        self.say_upstream()
        if up and not self.feed.behaviour.watches_survive:
            self._unwatch_all()
        if up:
            for symbol in np.flatnonzero(self._watch):
                self._summary(int(symbol))

    def day_rolled(self) -> None:
        """P again for every watched symbol: its volume counts from 0, high, low and open are empty."""
        if not self.feed.connected:
            return
        for symbol in np.flatnonzero(self._watch):
            self._send(self.feed.summaries.level1(int(symbol)), self._watch)

    def close(self) -> None:
        self._unwatch_all()

    @property
    def symbols_watched(self) -> int:
        return self._count

    def _begin(self, symbol: int, text: str, mode: int) -> None:
        if symbol < 0:
            self.say("n," + text)
            return
        if not self._watch[symbol]:
            if not self.feed.take_watch(symbol):
                self.say(f"S,SYMBOL LIMIT REACHED,{text}", symbol)
                return
            self._count += 1
        self._watch[symbol] = mode
        self._silent.discard(symbol)
        self._summary(symbol)

    def _end(self, symbol: int) -> None:
        self._watch[symbol] = _NONE
        self._silent.discard(symbol)
        self.regional[symbol] = 0
        self._count -= 1
        self.feed.drop_watch(symbol)

    def _unwatch_all(self) -> None:
        for symbol in np.flatnonzero(self._watch):
            self._end(int(symbol))

    def _summary(self, symbol: int) -> None:
        """F, then P; nothing while the data source is away."""
        if not self.feed.connected:
            return
        self.say_clock_first()
        state = self.feed.market.state[symbol]
        self.say(fundamental_line(self.feed.names.symbols[symbol], state, self.protocol), symbol)
        self._send(self.feed.summaries.level1(symbol), self._watch)

    def _send(self, table: Int64s, watch: render.Bytes) -> None:
        scratch, names = self.feed.scratch, self.feed.names
        row = 0
        while row < len(table):
            row, lines, size = render.render_level1(
                table, row, len(table), watch, self.clock_on, self._layout, names.text, names.lengths,
                scratch.out, scratch.ends, scratch.symbols, scratch.sources,
            )  # fmt: skip
            self.connection.send(
                scratch.out[:size], scratch.ends[:lines], scratch.symbols[:lines], scratch.sources[:lines]
            )

    def _set_layout(self, names: tuple[str, ...]) -> None:
        self._fields, self._layout = names, fields.compiled(names, self._known)

    def _news(self, rest: str) -> None:
        self.news = True
        if self.feed.connected:
            for line in bulletins.headlines(self.feed.names.symbols, self.feed.market.second_us):
                self.say(line)

    def _regional(self, rest: str) -> None:
        symbol = self.symbol(rest.removesuffix(","))
        if symbol < 0:
            return
        self.regional[symbol] = 1
        if self.feed.connected:
            for line in bulletins.regional_lines(self.feed.names.symbols[symbol], self.feed.market.state[symbol]):
                self.say(line, symbol)

    def _regional_off(self, rest: str) -> None:
        symbol = self.symbol(rest.removesuffix(","))
        if symbol >= 0:
            self.regional[symbol] = 0

    def _say_layout(self, rest: str) -> None:
        self.say("S,CURRENT UPDATE FIELDNAMES," + ",".join(self._fields))

    def _select(self, rest: str) -> None:
        names = [name.strip() for name in rest.removesuffix(",").split(",")] if rest.strip() else []
        if "Symbol" in names and self.feed.behaviour.refuse_symbol_in_select:
            self._say_layout("")
            return
        wanted = fields.select(names, self._known)
        if wanted is None:
            self.say(SYNTAX_ERROR)
            return
        self._set_layout(wanted)
        self._say_layout("")

    def _say_watches(self, rest: str) -> None:
        symbols = self.feed.names.symbols
        self.say(",".join(["S,WATCHES", *(symbols[i] for i in np.flatnonzero(self._watch))]))
