"""A trade that history has and the live lines have not: the fact that carries it, and the event that it makes.

The fact holds the values of the Lookup port's row and not its bytes: such a row has Eastern wall time, and only the
whole answer tells which of the two instants it means in the hour that November repeats. Everything else is as with a
line: it is durable in the spool, has an identity of its own there, and becomes one event of `market.events`, kind
`trade`, port `lookup`, `source` H.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from pipeline_orchestrator.flow.spool_facts import Fact
from pipeline_orchestrator.ingestion.reference_fields import nearest_day
from pipeline_orchestrator.ingestion.reference_parser import Event
from pipeline_orchestrator.market.eastern import DAY_US, utc_to_eastern_us
from pipeline_orchestrator.market.events import BASES

HISTORY: Final = "history"  # kind of the fact; no kind of market.events
MAX_INT32: Final = (1 << 31) - 1
MAX_INT64: Final = (1 << 63) - 1


class HistoryTrade(NamedTuple):
    """Prices in 1e-6 units, time in microseconds UTC, trading date in days since 1970; None = not told."""

    symbol: str
    trading_date: int
    time_us: int
    price: int
    size: int
    basis: str  # C, E or O
    total_volume: int | None = None
    bid: int | None = None
    ask: int | None = None
    tick_id: int | None = None
    market_center: int | None = None
    conditions: str | None = None
    aggressor: int | None = None

    def fact(self, gap_id: str) -> Fact:
        """What is spooled; `gap_id` = the gap that it was missing in."""
        return Fact(HISTORY, "lookup", self.symbol, {"gap_id": gap_id, **self._asdict()})

    def event(self) -> Event:
        """Its event, without identity and receipt."""
        values = self._asdict()
        values["event_time_us"] = values.pop("time_us")
        return {"kind": "trade", **values}


def trade_of_row(symbol: str, row: dict[str, Any]) -> HistoryTrade | None:
    """The trade in a row of ticks (see lookup.row_layouts); None for one that is no trade, a settlement say."""
    if row["basis"] not in BASES:
        return None
    day = int(utc_to_eastern_us(row["event_time_us"])) // DAY_US
    code = row["day_code"]
    return HistoryTrade(
        symbol,
        day if not code else nearest_day(code, day),
        row["event_time_us"],
        row["price"],
        row["size"],
        row["basis"],
        row["total_volume"],
        row["bid"],
        row["ask"],
        row["tick_id"],
        row["market_center"],
        row["conditions"],
        row["aggressor"],
    )


_WHOLE = {
    "trading_date": MAX_INT32,
    "time_us": MAX_INT64,
    "price": MAX_INT64,
    "size": MAX_INT64,
    "total_volume": MAX_INT64,
    "bid": MAX_INT64,
    "ask": MAX_INT64,
    "tick_id": MAX_INT64,
    "market_center": MAX_INT32,
    "aggressor": MAX_INT32,
}
_NEEDED = ("symbol", "trading_date", "time_us", "price", "size", "basis")


def trade_of_fact(fact: Fact) -> HistoryTrade:
    """The trade in a fact of kind `history`. Raises ValueError where it is none."""
    values: dict[str, Any] = {name: fact.detail.get(name) for name in HistoryTrade._fields}  # Any: JSON
    for name, value in values.items():
        if value is None:
            sound = name not in _NEEDED
        elif name in _WHOLE:
            sound = type(value) is int and -_WHOLE[name] - 1 <= value <= _WHOLE[name]
        else:
            sound = isinstance(value, str) and (name != "basis" or value in BASES)
        if not sound:
            raise ValueError(f"not a trade of history: {name} {value!r}")
    return HistoryTrade(**values)
