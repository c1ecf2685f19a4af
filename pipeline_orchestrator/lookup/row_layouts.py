"""Which field stands where in a row of history, by kind of answer and version of the protocol.

| version | ticks | intervals | days |
| --- | --- | --- | --- |
| 6.2 | `LH`, 12 fields | `LH`, 8 fields | `LH`, 7 fields |
| 6.1 | 12 fields | 8 | 7 |
| 6.0, 5.x | 10: no aggressor, no day code; 5.x in milliseconds | 8 | 7 |
| 4.9, "" (none agreed) | 10, other ones: see below | 7: no number of trades | 7 |

Without an agreed protocol (and in 4.9, which nobody shows) ticks have whole seconds, two zeros for center and
conditions, and the basis last; a date is followed by a clock time that means nothing.

Bars come High, Low, Open, Close. Prices are int64 in 1e-6 units, times microseconds UTC, an empty or missing field is
null; a 0 stays a 0 (of bid and ask the feed means "none" by it).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
import pyarrow as pa

# what a field is, for the kernel
SKIP: Final = 0
STAMP: Final = 1  # CCYY-MM-DD HH:MM:SS[.f], Eastern
PRICE: Final = 2
COUNT: Final = 3  # whole number from 0, 63 bits
SMALL: Final = 4  # whole number from 0, 31 bits
BITS: Final = 5  # whole number from 0, 64 bits, kept as the signed integer of the same bits
LETTER: Final = 6  # one capital letter
CODES: Final = 7  # letters and digits, at most 64
DATE: Final = 8  # CCYY-MM-DD, with or without a clock time behind it
DAY: Final = 9  # day of the month; 0 = unknown

_TICKS: Final = (
    ("event_time_us", pa.int64(), STAMP, True),
    ("price", pa.int64(), PRICE, True),
    ("size", pa.int64(), COUNT, True),
    ("total_volume", pa.int64(), COUNT, False),
    ("bid", pa.int64(), PRICE, False),
    ("ask", pa.int64(), PRICE, False),
    ("tick_id", pa.int64(), BITS, False),
    ("basis", pa.string(), LETTER, False),
    ("market_center", pa.int32(), SMALL, False),
    ("conditions", pa.string(), CODES, False),
    ("aggressor", pa.int32(), SMALL, False),
    ("day_code", pa.int32(), DAY, False),
)
_BAR: Final = tuple((name, pa.int64(), PRICE, True) for name in ("high", "low", "open", "close"))
_INTERVALS: Final = (
    ("label_time_us", pa.int64(), STAMP, True),
    *_BAR,
    ("total_volume", pa.int64(), COUNT, False),
    ("volume", pa.int64(), COUNT, False),
    ("trades", pa.int64(), COUNT, False),
)
_DAYS: Final = (
    ("date", pa.date32(), DATE, True),
    *_BAR,
    ("volume", pa.int64(), COUNT, False),
    ("open_interest", pa.int64(), COUNT, False),
)
_COLUMNS: Final[dict[str, tuple[Any, ...]]] = {"ticks": _TICKS, "intervals": _INTERVALS, "days": _DAYS}

PROTOCOLS: Final = ("6.2", "6.1", "6.0", "5.2", "5.1", "5.0", "4.9", "")
_OLDEST: Final = ("4.9", "")
TAGGED: Final = "6.2"  # rows begin with the kind of answer
TAGS: Final = {"ticks": b"LH,", "intervals": b"LH,", "days": b"LH,"}
SYMBOL_TAG: Final = b"LS,"  # searches; reference tables too


@dataclass(frozen=True, slots=True)
class RowLayout:
    """`plan[place] = (what, column, required)` for the fields after id and tag; `schema` has one field per column."""

    schema: pa.Schema
    plan: np.ndarray[Any, np.dtype[np.int64]]
    kinds: tuple[int, ...]  # per column
    tag: bytes


@cache
def layout(rows: str, protocol: str) -> RowLayout:
    """The layout of `ticks`, `intervals` or `days`. Raises ValueError for a version that is not known."""
    if protocol not in PROTOCOLS:
        known = ", ".join(each or "none" for each in PROTOCOLS)
        raise ValueError(f"protocol {protocol!r} is not known; there are {known}")
    columns = _COLUMNS[rows]
    schema = pa.schema([pa.field(name, kind, nullable=not required) for name, kind, _, required in columns])
    names = list(schema.names)
    places: list[str | None] = [*names]
    if protocol in _OLDEST:
        if rows == "ticks":
            places = [*names[: names.index("basis")], None, None, "basis"]
        elif rows == "intervals":
            places.remove("trades")
    elif protocol not in {"6.2", "6.1"} and rows == "ticks":
        places = places[:-2]
    plan = [
        (SKIP, 0, 0)
        if name is None
        else (columns[names.index(name)][2], names.index(name), columns[names.index(name)][3])
        for name in places
    ]
    tag = TAGS[rows] if protocol == TAGGED else b""
    return RowLayout(schema, np.array(plan, dtype=np.int64), tuple(column[2] for column in columns), tag)
