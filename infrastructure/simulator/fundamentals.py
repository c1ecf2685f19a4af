"""The `F` line and the names of its fields: 57 after the letter, then a comma, in every protocol.

Before 6.1 reserved places stand between the first 48 fields, and the last nine do not exist.
"""

from __future__ import annotations

from infrastructure.simulator import columns as c
from infrastructure.simulator.fields import FUNDAMENTAL_FIELDS
from infrastructure.simulator.lookup_tables import kind_of
from infrastructure.simulator.market import Int64s

_NAMES = FUNDAMENTAL_FIELDS.split(",")
_PLACES = len(_NAMES)
_RESERVED = "(Reserved)"
_RESERVED_PLACES = frozenset({14, 15, 16, 17, 18, 23, 34, 37, 38})  # counted from 1, before 6.1


def field_names(protocol: str) -> list[str]:
    """What stands at each place of an `F` line of a protocol version."""
    if protocol >= "6.1":
        return _NAMES
    known = iter(_NAMES)
    return [_RESERVED if place in _RESERVED_PLACES else next(known) for place in range(1, _PLACES + 1)]


def fundamental_line(symbol: str, row: Int64s, protocol: str) -> str:
    """Fundamentals of a symbol whose Level 1 state is `row`; what the simulator does not know stays empty."""
    market, kind = kind_of(symbol)
    known = {
        "Symbol": symbol,
        "Exchange ID": "5",
        "Company Name": symbol,
        "Root Option Symbol": symbol,
        "Fiscal Year End": "12",
        "Format Code": "14",
        "Precision": "4",
        "Security Type": str(kind),
        "Listed Market": str(market),
        "Base Currency": "USD",
        "Minimum Tick Size": "0.01",
    }
    if row[c.CLOSE] != c.NONE:
        close = int(row[c.CLOSE])
        known["52 Week High"] = known["Calendar Year High"] = _dollars(close * 5 // 4)
        known["52 Week Low"] = known["Calendar Year Low"] = _dollars(close * 3 // 4)
        known["Year End Close"] = _dollars(close)
    return "F," + ",".join(known.get(name, "") for name in field_names(protocol)) + ","


def _dollars(price: int) -> str:
    return f"{price // c.PRICE_UNITS}.{price % c.PRICE_UNITS:04d}"
