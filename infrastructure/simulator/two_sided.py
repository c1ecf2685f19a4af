"""Depth before protocol 6.2: `w<SYM>` and `r<SYM>`, answered with one line per level and both its sides.

`Z` restates a level after a watch, `2` says that it changed. A level number stands in the participant's place, as the
feed does it for futures: `MD01` is the best bid and the best ask, `MD02` the second best, and so on. An insert or
delete moves all levels behind it, so one change of the market may be several lines; the last of them ends the group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numba import njit

from infrastructure.simulator import columns as c
from infrastructure.simulator import render
from infrastructure.simulator.market import Int64s
from infrastructure.simulator.session import SYNTAX_ERROR

if TYPE_CHECKING:
    from infrastructure.simulator.session import Session

_COLUMNS = 2
assert _COLUMNS == c.VERSION, "columns.py changed: see its docstring"

LEVELS: Final = 10
LINE_BYTES: Final = 224

KIND, SYM, SRC, TIME, SIDE, PRICE, SIZE = c.KIND, c.SYM, c.SRC, c.TIME, c.SIDE, c.PRICE, c.SIZE
CLOCK, LEVEL_DELETE, BID, ASK = c.CLOCK, c.LEVEL_DELETE, c.BID, c.ASK


class TwoSidedDepth:
    """The depth of one connection. `levels` is the number of levels it shows, 0 = all that the market keeps."""

    def __init__(self, session: Session) -> None:
        self.session, self.feed = session, session.feed
        self.levels = self.feed.levels(LEVELS)
        self.feed.open_window(self.levels)
        symbols = len(self.feed.names.symbols)
        self._watch: render.Bytes = np.zeros(symbols, dtype=np.uint8)
        # Inside a batch a new level may come before the old one goes.
        most = 2 * max(LEVELS, self.feed.market.books.price.shape[2])
        self._price, self._size, self._stamp = (np.zeros((symbols, 2, most), dtype=np.int64) for _ in range(3))
        self._held: Int64s = np.zeros((symbols, 2), dtype=np.int64)

    @property
    def watched(self) -> int:
        """Symbols watched."""
        return int(np.count_nonzero(self._watch))

    def command(self, line: str) -> bool:
        """Answer a watch or its end; False for a command of another kind."""
        letter, text = line[0], line[1:].strip().upper()
        if letter not in "wr" or not text:
            return False
        if "," in text or len(text) > render.SYMBOL_BYTES - 2:
            self.session.say(SYNTAX_ERROR)
            return True
        symbol = self.session.symbol(text)
        if letter == "w":
            self._begin(symbol, text)
        elif symbol >= 0 and self._watch[symbol]:
            self._end(symbol)
        return True

    def deliver(self, table: Int64s) -> None:
        """Follow a batch of depth rows, already cut to `levels`."""
        if self.feed.connected:
            self._send(table, self._watch, self.session.clock_on)

    def restate(self) -> None:
        """Say every watched book again: the link to the data source is back."""
        for symbol in np.flatnonzero(self._watch):
            self._summary(int(symbol))

    def close(self) -> None:
        """Give up every watch."""
        for symbol in np.flatnonzero(self._watch):
            self._end(int(symbol))

    def _begin(self, symbol: int, text: str) -> None:
        if symbol < 0:
            self.session.say(f"n,{text},")
            return
        if not self._watch[symbol] and not self.feed.take_watch(symbol):
            self.session.say(f"S,SYMBOL LIMIT REACHED,{text}", symbol)
            return
        self._watch[symbol] = 1
        self._summary(symbol)

    def _end(self, symbol: int) -> None:
        self._watch[symbol] = 0
        self.feed.drop_watch(symbol)

    def _summary(self, symbol: int) -> None:
        """One Z line per level; from here on the market's changes are followed."""
        if not self.feed.connected:
            return
        name = self.feed.names.symbols[symbol]
        self.session.say_clock_first()
        if name in self.feed.behaviour.no_depth:
            self.session.say(f"q,{name},", symbol)
            return
        books, stamp = self.feed.market.books, int(self.feed.market.book_times[symbol])
        for side in (BID, ASK):
            held = int(books.levels[symbol, side])
            held = min(held, self.levels) if self.levels else held
            self._held[symbol, side] = held
            self._price[symbol, side, :held] = books.price[symbol, side, :held]
            self._size[symbol, side, :held] = books.size[symbol, side, :held]
            self._stamp[symbol, side] = stamp
        levels = int(self._held[symbol].max())
        if not levels:
            self.session.say(f"q,{name},", symbol)
            return
        scratch, names = self.feed.scratch, self.feed.names
        size = 0
        for place in range(levels):
            size = put_line(
                scratch.out, size, 90, names.text, names.lengths, symbol, place, stamp, place == levels - 1,
                self._price, self._size, self._stamp, self._held,
            )  # fmt: skip
            scratch.ends[place], scratch.symbols[place], scratch.sources[place] = size, symbol, 0
        self._give(size, levels)

    def _send(self, table: Int64s, watch: render.Bytes, clock_on: bool) -> None:
        scratch, names, row = self.feed.scratch, self.feed.names, 0
        hidden = self.feed.behaviour.no_depth
        if hidden:
            watch = watch.copy()
            watch[[names.index[name] for name in hidden if name in names.index]] = 0
        while row < len(table):
            row, lines, size = render_two_sided(
                table, row, len(table), watch, clock_on, self._price, self._size, self._stamp, self._held,
                names.text, names.lengths, scratch.out, scratch.ends, scratch.symbols, scratch.sources,
            )  # fmt: skip
            self._give(size, lines)

    def _give(self, size: int, lines: int) -> None:
        scratch = self.feed.scratch
        self.session.connection.send(
            scratch.out[:size], scratch.ends[:lines], scratch.symbols[:lines], scratch.sources[:lines]
        )


@njit(cache=True, error_model="numpy")
def put_line(
    out: render.Bytes,
    pos: int,
    letter: int,
    names: render.Bytes,
    name_lengths: Int64s,
    symbol: int,
    place: int,
    now: int,
    last: bool,
    price: Int64s,
    size: Int64s,
    stamp: Int64s,
    held: Int64s,
) -> int:
    """One level with both its sides; a side that has no such level is not valid. Returns the position after CRLF."""
    out[pos], out[pos + 1] = letter, 44
    pos = render.put_text(out, pos + 2, names, name_lengths, symbol)
    out[pos], out[pos + 1], out[pos + 2] = 44, 77, 68  # ,MD
    pos = render.put_padded(out, pos + 3, place + 1, 2)
    for values in range(2):  # both prices, then both sizes
        for side in range(2):
            out[pos] = 44
            pos += 1
            if place >= held[symbol, side]:
                out[pos] = 48
                pos += 1
                if values == 0:
                    out[pos] = 46
                    pos += 1
            elif values == 0:
                pos = render.put_price(out, pos, price[symbol, side, place])
            else:
                pos = render.put_int(out, pos, size[symbol, side, place])
    for side in range(2):
        out[pos] = 44
        pos += 1
        if place >= held[symbol, side]:
            for i in range(8):
                out[pos + i] = 58 if i in (2, 5) else 57  # 99:99:99
            pos += 8
        else:
            pos = render.put_time(out, pos, stamp[symbol, side, place], True)
        if side == 0:
            out[pos] = 44
            pos = render.put_date(out, pos + 1, now, 2)
            out[pos], out[pos + 1], out[pos + 2] = 44, 53, 50  # condition code 52
            pos += 3
    for flag in range(3):
        valid = last if flag == 2 else place < held[symbol, flag]
        out[pos], out[pos + 1] = 44, 84 if valid else 70
        pos += 2
    out[pos], out[pos + 1], out[pos + 2] = 44, 13, 10
    return pos + 3


@njit(cache=True, error_model="numpy")
def render_two_sided(
    table: Int64s,
    first: int,
    end: int,
    watch: render.Bytes,
    clock_on: bool,
    price: Int64s,
    size: Int64s,
    stamp: Int64s,
    held: Int64s,
    names: render.Bytes,
    name_lengths: Int64s,
    out: render.Bytes,
    ends: Int64s,
    symbols: Int64s,
    sources: Int64s,
) -> tuple[int, int, int]:
    """`2` and `T` lines (CRLF) of rows [first, end), and the books they lead to: (next row, lines, bytes)."""
    pos = lines = 0
    most = price.shape[2]
    for i in range(first, end):
        if pos + (most + 1) * LINE_BYTES > out.size or lines + most + 1 > ends.size:
            return i, lines, pos
        symbol, side, at = table[i, SYM], table[i, SIDE], table[i, PRICE]
        if table[i, KIND] == CLOCK:
            if clock_on:
                pos = render.put_clock(out, pos, table[i, TIME])
                out[pos], out[pos + 1] = 13, 10
                pos += 2
                ends[lines], symbols[lines], sources[lines] = pos, symbol, table[i, SRC]
                lines += 1
            continue
        if watch[symbol] == 0:
            continue
        n, place = held[symbol, side], 0
        while place < n and (
            (side == BID and price[symbol, side, place] > at) or (side != BID and price[symbol, side, place] < at)
        ):
            place += 1
        known = place < n and price[symbol, side, place] == at
        until = place + 1
        if table[i, KIND] == LEVEL_DELETE:
            if not known:
                continue
            for k in range(place, n - 1):
                price[symbol, side, k] = price[symbol, side, k + 1]
                size[symbol, side, k] = size[symbol, side, k + 1]
            held[symbol, side] = n - 1
            until = n
        else:
            if not known:
                if n == most:
                    continue
                for k in range(n, place, -1):
                    price[symbol, side, k] = price[symbol, side, k - 1]
                    size[symbol, side, k] = size[symbol, side, k - 1]
                held[symbol, side] = until = n + 1
            price[symbol, side, place], size[symbol, side, place] = at, table[i, SIZE]
        for k in range(place, until):
            stamp[symbol, side, k] = table[i, TIME]
            pos = put_line(
                out, pos, 50, names, name_lengths, symbol, k, table[i, TIME], k == until - 1, price, size, stamp, held
            )
            ends[lines], symbols[lines], sources[lines] = pos, symbol, table[i, SRC]
            lines += 1
    return end, lines, pos
