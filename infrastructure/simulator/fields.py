"""The 70 selectable Level 1 fields: names in the server's order, and how each is made from a row.

A layout is the list of fields of one connection's `Q` and `P` lines; `Symbol` always stands first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from infrastructure.simulator import columns as c

# How the renderer makes a field; the second number is its column. Frozen in kernels like columns.py: a change of
# what stands above the first function raises columns.VERSION too.
EMPTY: Final = 0
SYMBOL: Final = 1
DOLLARS: Final = 2
INTEGER: Final = 3
CLOCK_TIME: Final = 4
DATE: Final = 5
CONTENTS: Final = 6
CONDITIONS: Final = 7
TEXT: Final = 8  # the column is an index in TEXTS
DIFFERENCE: Final = 9  # column = 1000 * minuend + subtrahend
VWAP: Final = 10

TEXTS: Final = (b"5", b"14", b"4", b"1")
_EXCHANGE, _FRACTION, _PRECISION, _ONE = range(len(TEXTS))


def _minus(left: int, right: int) -> tuple[int, int]:
    return DIFFERENCE, 1000 * left + right


FIELDS: Final[dict[str, tuple[int, int]]] = {
    "Symbol": (SYMBOL, 0),
    "Exchange ID": (TEXT, _EXCHANGE),
    "Last": (DOLLARS, c.LAST_PRICE),
    "Change": _minus(c.LAST_PRICE, c.CLOSE),
    "Percent Change": (EMPTY, 0),
    "Total Volume": (INTEGER, c.TOTAL_VOLUME),
    "High": (DOLLARS, c.HIGH),
    "Low": (DOLLARS, c.LOW),
    "Bid": (DOLLARS, c.BID_PRICE),
    "Ask": (DOLLARS, c.ASK_PRICE),
    "Bid Size": (INTEGER, c.BID_SIZE),
    "Ask Size": (INTEGER, c.ASK_SIZE),
    "Tick": (INTEGER, c.TICK),
    "Range": _minus(c.HIGH, c.LOW),
    "Open Interest": (EMPTY, 0),
    "Open": (DOLLARS, c.OPEN),
    "Close": (DOLLARS, c.CLOSE),
    "Spread": _minus(c.ASK_PRICE, c.BID_PRICE),
    "Settle": (EMPTY, 0),
    "Delay": (EMPTY, 0),
    "Restricted Code": (EMPTY, 0),
    "Net Asset Value": (EMPTY, 0),
    "Average Maturity": (EMPTY, 0),
    "7 Day Yield": (EMPTY, 0),
    "Extended Trading Change": _minus(c.EXTENDED_PRICE, c.LAST_PRICE),
    "Extended Trading Difference": (EMPTY, 0),
    "Price-Earnings Ratio": (EMPTY, 0),
    "Percent Off Average Volume": (EMPTY, 0),
    "Bid Change": (EMPTY, 0),
    "Ask Change": (EMPTY, 0),
    "Change From Open": _minus(c.LAST_PRICE, c.OPEN),
    "Market Open": (TEXT, _ONE),
    "Volatility": (EMPTY, 0),
    "Market Capitalization": (EMPTY, 0),
    "Fraction Display Code": (TEXT, _FRACTION),
    "Decimal Precision": (TEXT, _PRECISION),
    "Days to Expiration": (EMPTY, 0),
    "Previous Day Volume": (EMPTY, 0),
    "Open Range 1": (EMPTY, 0),
    "Close Range 1": (EMPTY, 0),
    "Open Range 2": (EMPTY, 0),
    "Close Range 2": (EMPTY, 0),
    "Number of Trades Today": (INTEGER, c.TRADES_TODAY),
    "VWAP": (VWAP, 0),
    "TickID": (INTEGER, c.TICK_ID),
    "Financial Status Indicator": (TEXT, _ONE),
    "Settlement Date": (EMPTY, 0),
    "Bid Market Center": (TEXT, _EXCHANGE),
    "Ask Market Center": (TEXT, _EXCHANGE),
    "Available Regions": (EMPTY, 0),
    "Last Size": (INTEGER, c.LAST_SIZE),
    "Last Time": (CLOCK_TIME, c.LAST_TIME),
    "Last Market Center": (INTEGER, c.LAST_CENTER),
    "Most Recent Trade": (DOLLARS, c.RECENT_PRICE),
    "Most Recent Trade Size": (INTEGER, c.RECENT_SIZE),
    "Most Recent Trade Time": (CLOCK_TIME, c.RECENT_TIME),
    "Most Recent Trade Conditions": (CONDITIONS, c.RECENT_CONDITIONS),
    "Most Recent Trade Market Center": (INTEGER, c.RECENT_CENTER),
    "Extended Trade": (DOLLARS, c.EXTENDED_PRICE),
    "Extended Trade Size": (INTEGER, c.EXTENDED_SIZE),
    "Extended Trade Time": (CLOCK_TIME, c.EXTENDED_TIME),
    "Extended Trade Market Center": (INTEGER, c.EXTENDED_CENTER),
    "Message Contents": (CONTENTS, c.CONTENTS),
    "Ask Time": (CLOCK_TIME, c.ASK_TIME),
    "Bid Time": (CLOCK_TIME, c.BID_TIME),
    "Last Date": (DATE, c.LAST_TIME),
    "Extended Trade Date": (DATE, c.EXTENDED_TIME),
    "Most Recent Trade Date": (DATE, c.RECENT_TIME),
    "Most Recent Trade Aggressor": (INTEGER, c.AGGRESSOR),
    "Most Recent Trade Day Code": (INTEGER, c.DAY_CODE),
}

# How times of protocol 5.x are made; beside those above, and frozen in render.py alone.
MILLISECONDS: Final = 11  # HH:MM:SS.mmm
SECONDS: Final = 12  # HH:MM:SS

SINCE_61: Final = frozenset({"Most Recent Trade Aggressor", "Most Recent Trade Day Code"})

DEFAULT_FIELDS: Final = (
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

# What a pipeline that must tell every line apart selects at least; the layout of offline replays.
FULL_IDENTITY_FIELDS: Final = (
    "Symbol",
    "Most Recent Trade",
    "Most Recent Trade Size",
    "Most Recent Trade Date",
    "Most Recent Trade Time",
    "Most Recent Trade Conditions",
    "Most Recent Trade Market Center",
    "Most Recent Trade Aggressor",
    "Most Recent Trade Day Code",
    "TickID",
    "Total Volume",
    "Message Contents",
    "Bid",
    "Bid Size",
    "Bid Time",
    "Ask",
    "Ask Size",
    "Ask Time",
    "Delay",
)

FUNDAMENTAL_FIELDS: Final = (
    "Symbol,Exchange ID,PE,Average Volume,52 Week High,52 Week Low,Calendar Year High,Calendar Year Low,"
    "Dividend Yield,Dividend Amount,Dividend Rate,Pay Date,Ex-dividend Date,Current Year EPS,Next Year EPS,"
    "Five-year Growth Percentage,Fiscal Year End,Company Name,Root Option Symbol,Percent Held By Institutions,Beta,"
    "Leaps,Current Assets,Current Liabilities,Balance Sheet Date,Long-term Debt,Common Shares Outstanding,"
    "Split Factor 1,Split Factor 2,Format Code,Precision,SIC,Historical Volatility,Security Type,Listed Market,"
    "52 Week High Date,52 Week Low Date,Calendar Year High Date,Calendar Year Low Date,Year End Close,"
    "Maturity Date,Coupon Rate,Expiration Date,Strike Price,NAICS,Exchange Root,Option Premium Multiplier,"
    "Option Multiple Deliverable,Session Open Time,Session Close Time,Base Currency,Contract Size,Contract Months,"
    "Minimum Tick Size,First Delivery Date,FIGI,Security SubType"
)


def of_protocol(version: str) -> dict[str, tuple[int, int]]:
    """The selectable fields of a protocol version, in the server's order, and how each is made.

    Before 6.1 there are no Aggressor and no Day Code. 5.x has times in whole seconds, and beside each the same in
    milliseconds under a name of its own; no recording shows that list, so its order is ours.
    """
    if version >= "6.1":
        return FIELDS
    known = {name: how for name, how in FIELDS.items() if name not in SINCE_61}
    if version >= "6.0":
        return known
    times = {name: column for name, (how, column) in known.items() if how == CLOCK_TIME}
    finer = {name + "MS": (MILLISECONDS, column) for name, column in times.items()}
    return known | {name: (SECONDS, column) for name, column in times.items()} | finer


def select(names: Sequence[str], known: dict[str, tuple[int, int]] = FIELDS) -> tuple[str, ...] | None:
    """The layout for a SELECT list: Symbol first, each name once; None when a name is unknown or the list is empty."""
    wanted = [name for name in dict.fromkeys(names) if name != "Symbol"]
    if not names or any(name not in known for name in wanted):
        return None
    return ("Symbol", *wanted)


def compiled(layout: Sequence[str], known: dict[str, tuple[int, int]] = FIELDS) -> npt.NDArray[np.int64]:
    """The layout as rows (how, column) for the renderer. Raises KeyError for an unknown name."""
    return np.array([known[name] for name in layout], dtype=np.int64)
