"""Headlines and regional quotes, made up: what NEWSON and REGON are answered with, and what follows over the run.

Both follow from the seed and the market's seconds. A headline comes every NEWS_SECONDS of market time, drawn evenly. In
a second at whose end a symbol's best bid or ask is not what it was, one market center, drawn, shows its new quote.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import numpy as np

from infrastructure.simulator import columns as c
from infrastructure.simulator.market import Int64s

CENTERS: Final = (5, 11, 26)  # Nasdaq, NYSE Arca, EDGX
NEWS_SECONDS: Final = (10, 30)
FIRST_STORY: Final = 22_000_000_000
_MOST_AT_ONCE: Final = 5
_QUOTE: Final = [c.BID_PRICE, c.BID_SIZE, c.ASK_PRICE, c.ASK_SIZE]
_HEADLINES: Final = (
    "{first} announces results, guidance and a dividend",
    "{first}, {second} in talks, people say",
    "Simulated market opens; nothing of this is real",
)
_LATER: Final = (
    "{first} names a new chief, effective at once",
    "{first} and {second} settle, terms undisclosed",
    "{first}: analysts raise targets, {second} follows",
    "{first} recalls a product that never was",
)


def headlines(symbols: Sequence[str], now_us: int) -> list[str]:
    """`N` lines about the first symbols; the text holds commas, and no comma ends the line."""
    pair = (symbols[0], symbols[min(1, len(symbols) - 1)])
    return [_headline(FIRST_STORY + number, pair, now_us, text) for number, text in enumerate(_HEADLINES, 1)]


def regional_lines(symbol: str, row: Int64s) -> list[str]:
    """`R` lines of a symbol whose Level 1 state is `row`: its quote, as some market centers show it."""
    return [regional_line(symbol, row, place) for place in range(len(CENTERS))]


def regional_line(symbol: str, row: Int64s, place: int) -> str:
    """The one of CENTERS[place], which shows a share of the sizes."""
    sides = [
        (_price(row[c.BID_PRICE]), row[c.BID_SIZE], _time(row[c.BID_TIME])),
        (_price(row[c.ASK_PRICE]), row[c.ASK_SIZE], _time(row[c.ASK_TIME])),
    ]
    share = place + 1
    quotes = [f"{price},{max(0, int(size)) // share},{time}" if price else ",," for price, size, time in sides]
    return f"R,{symbol},,{quotes[0]},{quotes[1]},14,4,{CENTERS[place]},"


class Bulletins:
    """What is new since the last call of `advance`, for all connections: `news`, and `regional` with its symbols.

    `second_us` = the market's second of that call.
    """

    def __init__(self, symbols: Sequence[str], seed: int = 1) -> None:
        self.news: list[str] = []
        self.regional: list[tuple[int, str]] = []
        self._symbols, self._seed = tuple(symbols), seed
        self._random = random.Random(seed)
        self._story = FIRST_STORY + len(_HEADLINES)
        self.second_us = self._due_us = 0
        self._told: Int64s = np.zeros((len(self._symbols), len(_QUOTE)), dtype=np.int64)

    def advance(self, second_us: int, state: Int64s, asked: Int64s) -> None:
        """The market came to another whole second; `asked` = symbols whose regional quotes somebody wants."""
        self.news, self.regional = [], []
        ahead = second_us - self.second_us
        if ahead < 0 or ahead > c.DAY_US:  # the first call, or the wall clock was set back
            self._due_us = second_us + self._gap_us()
        self.second_us = second_us
        while self._due_us <= second_us:
            if len(self.news) == _MOST_AT_ONCE:
                self._due_us = second_us + self._gap_us()
                break
            self.news.append(self._next(self._due_us))
            self._due_us += self._gap_us()
        quotes = state[asked][:, _QUOTE]
        for symbol in asked[(quotes != self._told[asked]).any(axis=1)].tolist():
            place = random.Random(f"{self._seed}/{symbol}/{second_us}").randrange(len(CENTERS))
            self.regional.append((symbol, regional_line(self._symbols[symbol], state[symbol], place)))
        self._told[asked] = quotes

    def _gap_us(self) -> int:
        return self._random.randint(*NEWS_SECONDS) * c.SECOND_US

    def _next(self, at_us: int) -> str:
        self._story += 1
        pair = self._random.choice(self._symbols), self._random.choice(self._symbols)
        return _headline(self._story, pair, at_us, self._random.choice(_LATER))


def _headline(story: int, pair: tuple[str, str], at_us: int, text: str) -> str:
    first, second = pair
    stamp = f"{datetime.fromtimestamp(at_us // c.SECOND_US, UTC):%Y%m%d %H%M%S}"
    named = f":{first}:" if first == second else f":{first}:{second}:"
    return f"N,SIM,{story},{named},{stamp},{text.format(first=first, second=second)}"


def _price(value: int) -> str:
    return "" if value == c.NONE else f"{value // c.PRICE_UNITS}.{value % c.PRICE_UNITS:04d}"


def _time(us: int) -> str:
    return "" if us == c.NONE else f"{datetime.fromtimestamp(int(us) // c.SECOND_US, UTC):%H:%M:%S}"
