"""Depth before protocol 6.2: `w<SYM>` and `r<SYM>`, answered with one line per participant and both its sides.

`Z` restates a line's worth after a watch, `2` says that it changed. An equity has a line per market participant that
quotes. A future has one per price level, whose number stands in the participant's place: `MD01` is the best bid and
the best ask, `MD02` the second best, and so on; an insert or delete moves all levels behind it, so one change of the
market may be several lines, and the last of them ends the group. A market that knows no participants of an equity (a
LOBSTER replay, in either form) has it by level number too, which the vendor's feed never does.
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
    from infrastructure.simulator.market import Rows
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
        most = max(2 * LEVELS, 2 * self.feed.market.books.price.shape[2], len(c.MAKERS))
        # [symbol, side, number of the level or index of the participant]; size 0 = nothing there
        self._price, self._size, self._stamp = (np.zeros((symbols, 2, most), dtype=np.int64) for _ in range(3))
        self._held: Int64s = np.zeros((symbols, 2), dtype=np.int64)  # levels in use
        self._quoted: render.Bytes = np.zeros(symbols, dtype=np.uint8)  # 1 = by participant

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

    def deliver(self, rows: Rows) -> None:
        """Follow a batch."""
        if not self.feed.connected:
            return
        if rows.level2.shape[0]:
            self._send(self._merged(rows), self._watch, self.session.clock_on)
        for symbol in rows.reset:
            if self._watch[symbol]:
                self._summary(symbol)

    def _merged(self, rows: Rows) -> Int64s:
        """Level rows cut to `levels`, and of symbols by participant their rows instead, in the market's order."""
        levels = self.feed.depth_rows(rows.level2, self.levels)
        if not self._quoted.any():
            return levels
        orders = rows.orders[rows.orders[:, KIND] != CLOCK]
        orders = orders[self._quoted[orders[:, SYM]] == 1]
        joined = np.concatenate([orders, levels])
        merged: Int64s = joined[np.argsort(joined[:, c.ORD], kind="stable")]
        return merged

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
        self._quoted[symbol] = self._entries(symbol) is not None
        self._summary(symbol)

    def _end(self, symbol: int) -> None:
        self._watch[symbol] = self._quoted[symbol] = 0
        self._size[symbol] = 0
        self.feed.drop_watch(symbol)

    def _entries(self, symbol: int) -> Int64s | None:
        """The rows of an equity's participants; None where a symbol has none, but orders or levels."""
        table = self.feed.market.orders_of(symbol)
        future = self.feed.names.symbols[symbol].startswith("@")
        return None if table is None or future or table[:, c.ORDER_ID].any() else table

    def _summary(self, symbol: int) -> None:
        """A Z line for each that has something, or had: what is gone is not valid. The market is followed from here."""
        if not self.feed.connected:
            return
        name = self.feed.names.symbols[symbol]
        self.session.say_clock_first()
        if name in self.feed.behaviour.no_depth:
            self.session.say(f"q,{name},", symbol)
            return
        before = self._size[symbol].any(axis=0)
        stamp = int(self.feed.market.book_times[symbol])
        self._take(symbol, stamp)
        shown = np.flatnonzero(before | self._size[symbol].any(axis=0)).tolist()
        if not shown:
            self.session.say(f"q,{name},", symbol)
            return
        scratch, names = self.feed.scratch, self.feed.names
        size = 0
        for line, place in enumerate(shown):
            size = put_line(
                scratch.out, size, 90, names.text, names.lengths, symbol, place, stamp, place == shown[-1],
                self._quoted, self._price, self._size, self._stamp,
            )  # fmt: skip
            scratch.ends[line], scratch.symbols[line], scratch.sources[line] = size, symbol, 0
        self._give(size, len(shown))

    def _take(self, symbol: int, stamp: int) -> None:
        """The market's book of a symbol as it is now."""
        self._size[symbol], self._stamp[symbol] = 0, stamp
        entries = self._entries(symbol) if self._quoted[symbol] else None
        if entries is not None:
            at = entries[:, SIDE], entries[:, c.MAKER]
            self._price[symbol][at], self._size[symbol][at] = entries[:, PRICE], entries[:, SIZE]
            return
        books = self.feed.market.books
        for side in (BID, ASK):
            held = int(books.levels[symbol, side])
            held = min(held, self.levels) if self.levels else held
            self._held[symbol, side] = held
            self._price[symbol, side, :held] = books.price[symbol, side, :held]
            self._size[symbol, side, :held] = books.size[symbol, side, :held]

    def _send(self, table: Int64s, watch: render.Bytes, clock_on: bool) -> None:
        scratch, names, row = self.feed.scratch, self.feed.names, 0
        hidden = self.feed.behaviour.no_depth
        if hidden:
            watch = watch.copy()
            watch[[names.index[name] for name in hidden if name in names.index]] = 0
        while row < len(table):
            row, lines, size = render_two_sided(
                table, row, len(table), watch, clock_on, self._quoted, self._price, self._size, self._stamp,
                self._held, names.text, names.lengths, scratch.out, scratch.ends, scratch.symbols, scratch.sources,
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
    quoted: render.Bytes,
    price: Int64s,
    size: Int64s,
    stamp: Int64s,
) -> int:
    """A participant or level with both its sides; one without a size is not valid. Returns the position after CRLF."""
    out[pos], out[pos + 1] = letter, 44
    pos = render.put_text(out, pos + 2, names, name_lengths, symbol)
    out[pos] = 44
    if quoted[symbol]:
        pos = render.put_text(out, pos + 1, render.MAKER_TEXT, render.MAKER_LENGTH, place)
    else:
        out[pos + 1], out[pos + 2] = 77, 68  # MD
        pos = render.put_padded(out, pos + 3, place + 1, 2)
    for values in range(2):  # both prices, then both sizes
        for side in range(2):
            out[pos] = 44
            pos += 1
            if size[symbol, side, place] == 0:
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
        if size[symbol, side, place] == 0:
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
        valid = last if flag == 2 else size[symbol, flag, place] > 0
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
    quoted: render.Bytes,
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
        by_maker = table[i, KIND] in (c.ORDER_CHANGE, c.ORDER_DELETE)
        if watch[symbol] == 0 or by_maker != (quoted[symbol] == 1):
            continue
        if by_maker:
            maker = table[i, c.MAKER]
            price[symbol, side, maker], stamp[symbol, side, maker] = at, table[i, TIME]
            size[symbol, side, maker] = 0 if table[i, KIND] == c.ORDER_DELETE else table[i, SIZE]
            pos = put_line(
                out, pos, 50, names, name_lengths, symbol, maker, table[i, TIME], True, quoted, price, size, stamp
            )
            ends[lines], symbols[lines], sources[lines] = pos, symbol, table[i, SRC]
            lines += 1
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
            size[symbol, side, n - 1] = 0
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
                out, pos, 50, names, name_lengths, symbol, k, table[i, TIME], k == until - 1, quoted, price, size, stamp
            )
            ends[lines], symbols[lines], sources[lines] = pos, symbol, table[i, SRC]
            lines += 1
    return end, lines, pos
