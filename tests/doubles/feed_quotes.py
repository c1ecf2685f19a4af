"""Level 1 of the test team's own IQFeed: field names of each protocol, and F, P and Q lines made from a book.

Written from the protocol's page alone. That names of fields stand in the product too is meant: a wrong one there would
be found here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.doubles.order_market import Book, OrderMarket

SINCE_61 = ("Most Recent Trade Aggressor", "Most Recent Trade Day Code")
TIMES = ("Most Recent Trade Time", "Bid Time", "Ask Time", "Last Time")
DEFAULT = (
    "Symbol",
    "Most Recent Trade",
    "Most Recent Trade Size",
    "Most Recent Trade Time",
    "Most Recent Trade Market Center",
    "Total Volume",
    "Bid",
    "Bid Size",
    "Ask",
    "Ask Size",
    "Open",
    "High",
    "Low",
    "Close",
    "Message Contents",
    "Most Recent Trade Conditions",
)
MORE = ("TickID", "Most Recent Trade Date", "Bid Time", "Ask Time", "Delay", "VWAP", "Last", "Last Time")
TRADE_EVERY = 7  # changes
SYMBOLS_NEED = 57  # fields of F since 6.1
OLD_FUNDAMENTALS = 48


class Quotes:
    """What one Level 1 connection has agreed on, and the lines it is sent."""

    def __init__(self) -> None:
        self.offered: tuple[str, ...] = ()
        self.layout: tuple[str, ...] = ()
        self.trades: dict[str, list[int]] = defaultdict(list)  # tick ids sent, per symbol
        self._five = False
        self._volume: dict[str, int] = defaultdict(int)
        self._seen: dict[str, tuple[object, object]] = {}
        self._changes = 0
        self._last: dict[str, dict[str, str]] = {}

    def begin(self, version: str) -> None:
        """The protocol was agreed on: its names, and its default layout."""
        self._five = version < "6.0"
        names = (*DEFAULT, *MORE, *(SINCE_61 if version >= "6.1" else ()))
        self.offered = tuple(self._name(name) for name in names)
        self.layout = tuple(self._name(name) for name in DEFAULT)

    def layout_line(self) -> str:
        """CURRENT UPDATE FIELDNAMES."""
        return "S,CURRENT UPDATE FIELDNAMES," + ",".join(self.layout)

    def select(self, names: Sequence[str]) -> bool:
        """Another layout; False where a name is unknown, and then nothing changes."""
        if not set(names) <= set(self.offered):
            return False
        self.layout = ("Symbol", *(name for name in names if name != "Symbol"))
        return True

    def opening(self, book: Book, market: OrderMarket, symbol: str) -> list[str]:
        """F and P."""
        count = SYMBOLS_NEED if SINCE_61[0] in self.offered else OLD_FUNDAMENTALS
        fields = [symbol, "5", *[""] * (count - 2)]
        return [f"F,{','.join(fields)},", self._line("P", book, market, symbol, "Cbaohlcv")]

    def after(self, book: Book, market: OrderMarket, symbol: str) -> list[str]:
        """Q lines of one change: a quote where the best changed, every now and then a trade."""
        lines = []
        best = (book.side("B", 1), book.side("A", 1))
        if self._seen.get(symbol) != best:
            self._seen[symbol] = best
            lines.append(self._line("Q", book, market, symbol, "ba"))
        self._changes += 1
        if self._changes % TRADE_EVERY == 0:
            self._trade(book, market, symbol)
            lines.append(self._line("Q", book, market, symbol, "Cv"))
        return lines

    def _trade(self, book: Book, market: OrderMarket, symbol: str) -> None:
        size = 1 + self._changes % 9
        self._volume[symbol] += size
        number = len(self.trades[symbol]) + 1
        self.trades[symbol].append(number)
        price = book.best("A") or book.best("B") or 100_000_000
        self._last[symbol] = {
            "Most Recent Trade": book.price(price),
            "Most Recent Trade Size": str(size),
            "Most Recent Trade Time": self._time(market),
            "Most Recent Trade Date": "01/02/2024",
            "Most Recent Trade Conditions": "01",
            "Most Recent Trade Market Center": "34",
            "Most Recent Trade Aggressor": "1",
            "Most Recent Trade Day Code": "2",
            "TickID": str(number),
        }

    def _line(self, kind: str, book: Book, market: OrderMarket, symbol: str, contents: str) -> str:
        values = {"Symbol": symbol, "Message Contents": contents, "Total Volume": str(self._volume[symbol])}
        for side, name in (("B", "Bid"), ("A", "Ask")):
            for price, size in book.side(side, 1):
                values |= {name: book.price(price), f"{name} Size": str(size), f"{name} Time": self._time(market)}
        values |= self._last.get(symbol, {})
        named = {self._name(name): value for name, value in values.items()}
        return f"{kind},{','.join(named.get(name, '') for name in self.layout)},"

    def _time(self, market: OrderMarket) -> str:
        from tests.doubles.order_market import time_text

        text = time_text(market.now)
        return text[:-3] if self._five else text  # 5.x has milliseconds

    def _name(self, name: str) -> str:
        return f"{name}MS" if self._five and name in TIMES else name
