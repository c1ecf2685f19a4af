"""The `F` line: 57 fields after the letter in protocol 6.2, then a comma."""

from __future__ import annotations

from infrastructure.simulator import columns as c
from infrastructure.simulator.fields import FUNDAMENTAL_FIELDS
from infrastructure.simulator.market import Int64s

_NAMES = FUNDAMENTAL_FIELDS.split(",")


def fundamental_line(symbol: str, row: Int64s) -> str:
    """Fundamentals of a symbol whose Level 1 state is `row`; what the simulator does not know stays empty."""
    known = {
        "Symbol": symbol,
        "Exchange ID": "5",
        "Company Name": symbol,
        "Root Option Symbol": symbol,
        "Fiscal Year End": "12",
        "Format Code": "14",
        "Precision": "4",
        "Security Type": "1",
        "Listed Market": "5",
        "Base Currency": "USD",
        "Minimum Tick Size": "0.01",
    }
    if row[c.CLOSE] != c.NONE:
        close = int(row[c.CLOSE])
        known["52 Week High"] = known["Calendar Year High"] = _dollars(close * 5 // 4)
        known["52 Week Low"] = known["Calendar Year Low"] = _dollars(close * 3 // 4)
        known["Year End Close"] = _dollars(close)
    return "F," + ",".join(known.get(name, "") for name in _NAMES) + ","


def _dollars(price: int) -> str:
    return f"{price // c.PRICE_UNITS}.{price % c.PRICE_UNITS:04d}"
