"""`R` lines of Level 1: the quote of one market center. Prices are integers in 1e-6 units."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation


@dataclass(frozen=True, slots=True)
class RegionalQuote:
    """None = the feed says nothing. Times are the feed's Eastern times of day, without a date, as sent."""

    symbol: str
    market_center: int | None
    bid: int | None
    bid_size: int | None
    bid_time: str | None
    ask: int | None
    ask_size: int | None
    ask_time: str | None


def parse_regional(line: str) -> RegionalQuote:
    """Read one `R` line. Raises ValueError for another line or a field that is no number."""
    fields = line.rstrip("\r\n").split(",")
    if fields[0] != "R" or len(fields) < 2 or not fields[1].strip():
        raise ValueError(f"no R line: {line[:40]!r}")
    fields += [""] * (12 - len(fields))
    return RegionalQuote(
        symbol=fields[1].strip(),
        bid=_price(fields[3]),
        bid_size=_whole(fields[4]),
        bid_time=fields[5].strip() or None,
        ask=_price(fields[6]),
        ask_size=_whole(fields[7]),
        ask_time=fields[8].strip() or None,
        market_center=_whole(fields[11]),
    )


def _whole(text: str) -> int | None:
    return int(text) if text.strip() else None


def _price(text: str) -> int | None:
    if not text.strip():
        return None
    try:
        return int((Decimal(text.strip()) * 1_000_000).to_integral_value())
    except InvalidOperation:
        raise ValueError(f"no price: {text!r}") from None
