"""Headlines and regional quotes, made up: what NEWSON and REGON are answered with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from infrastructure.simulator import columns as c
from infrastructure.simulator.market import Int64s

CENTERS: Final = (5, 11, 26)  # Nasdaq, NYSE Arca, EDGX
_HEADLINES: Final = (
    "{first} announces results, guidance and a dividend",
    "{first}, {second} in talks, people say",
    "Simulated market opens; nothing of this is real",
)


def headlines(symbols: Sequence[str], now_us: int) -> list[str]:
    """`N` lines about the first symbols; the text holds commas, and no comma ends the line."""
    first, second = symbols[0], symbols[min(1, len(symbols) - 1)]
    stamp = f"{datetime.fromtimestamp(now_us // c.SECOND_US, UTC):%Y%m%d %H%M%S}"
    named = f":{first}:" if first == second else f":{first}:{second}:"
    return [
        f"N,SIM,{22_000_000_000 + number},{named},{stamp},{text.format(first=first, second=second)}"
        for number, text in enumerate(_HEADLINES, 1)
    ]


def regional_lines(symbol: str, row: Int64s) -> list[str]:
    """`R` lines of a symbol whose Level 1 state is `row`: its quote, as some market centers show it."""
    sides = [
        (_price(row[c.BID_PRICE]), row[c.BID_SIZE], _time(row[c.BID_TIME])),
        (_price(row[c.ASK_PRICE]), row[c.ASK_SIZE], _time(row[c.ASK_TIME])),
    ]
    lines = []
    for share, center in enumerate(CENTERS, 1):
        quotes = [f"{price},{max(0, int(size)) // share},{time}" if price else ",," for price, size, time in sides]
        lines.append(f"R,{symbol},,{quotes[0]},{quotes[1]},14,4,{center},")
    return lines


def _price(value: int) -> str:
    return "" if value == c.NONE else f"{value // c.PRICE_UNITS}.{value % c.PRICE_UNITS:04d}"


def _time(us: int) -> str:
    return "" if us == c.NONE else f"{datetime.fromtimestamp(int(us) // c.SECOND_US, UTC):%H:%M:%S}"
