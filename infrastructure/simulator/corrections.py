"""`C` lines of Level 1: an earlier trade is deleted (X), or one is inserted (I). Rendering only, in both known layouts.

Two layouts are told apart by their field count: the documented one (9 fields after `C`: symbol, I or X, date, time,
price, size, tick id, conditions, market center), and the one that live 6.2 feeds were seen to send, which has the
trade type after I or X and leaves type, date, time and conditions of a deletion, and the time of an insertion, empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from infrastructure.simulator import columns as c

INSERT: Final = "I"
DELETE: Final = "X"
DOCUMENTED: Final = "documented"
LIVE: Final = "live"
LAYOUTS: Final = (DOCUMENTED, LIVE)
_BASIS: Final = {c.HAS_LAST: "C", c.HAS_EXTENDED: "E", c.HAS_OTHER: "O"}


@dataclass(frozen=True, slots=True)
class CorrectedTrade:
    """The trade that a correction names. Price in 1e-4 dollars, time as in columns.py, basis a bit of columns.HAS_*."""

    symbol: str
    time_us: int
    price: int
    size: int
    tick_id: int
    conditions: int  # index in columns.CONDITIONS
    center: int
    basis: int


class Correction(NamedTuple):
    """One correction as it is told (`line`) and as history takes it; `symbol` is an index of the market's names."""

    symbol: int
    line: str
    letter: str
    trade: CorrectedTrade


def correction(symbol: int, letter: str, trade: CorrectedTrade, layout: str) -> Correction:
    """A correction with its line. Raises ValueError as correction_line does."""
    return Correction(symbol, correction_line(letter, trade, layout), letter, trade)


def correction_line(letter: str, trade: CorrectedTrade, layout: str) -> str:
    """One `C` line without its line end. Raises ValueError for a letter or layout that is none."""
    if letter not in (INSERT, DELETE) or layout not in LAYOUTS:
        raise ValueError(f"{letter!r} in layout {layout!r} is no correction: I or X, {' or '.join(LAYOUTS)}")
    at = datetime.fromtimestamp(trade.time_us // c.SECOND_US, tz=UTC)
    date = at.strftime("%m/%d/%Y")
    time = f"{at:%H:%M:%S}.{trade.time_us % c.SECOND_US:06d}"
    conditions = c.CONDITIONS[trade.conditions].decode("ascii")
    kind = [letter]
    if layout == LIVE:
        time = ""
        kind.append(_BASIS.get(trade.basis, "") if letter == INSERT else "")
        if letter == DELETE:
            date = conditions = ""
    price = f"{trade.price // c.PRICE_UNITS}.{trade.price % c.PRICE_UNITS:04d}"
    fields = [trade.symbol, *kind, date, time, price, str(trade.size), str(trade.tick_id), conditions]
    return ",".join(["C", *fields, str(trade.center)]) + ","
