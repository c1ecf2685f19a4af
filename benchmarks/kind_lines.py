"""Lines of every message kind, drawn from a fixed seed, and what one would write by hand to read them.

Every reader splits a line and converts the fields that the product keeps of this kind, and nothing else: prices to
int64 in 1e-6 units, times to microseconds UTC (the offset of a day is remembered), numbers to int, texts to str.
"""

from __future__ import annotations

import calendar
import random
from collections.abc import Callable
from datetime import date
from typing import NamedTuple

from benchmarks.naive.lines import SELECTED

SYMBOLS = [f"S{i:03d}" for i in range(200)]
LAYOUT = ("Symbol", *SELECTED)
CLOCK = "T,20210604 12:00:00"
_EPOCH = date(1970, 1, 1)
Values = tuple[object, ...]


class Kind(NamedTuple):
    """Lines of one kind, the columns of an event that they fill, and the reader by hand: a line to its events."""

    name: str
    port: str
    lines: list[bytes]
    columns: tuple[str, ...]
    read: Callable[[bytes], tuple[Values, ...]]


_midnights: dict[bytes, int] = {}
_dates: dict[bytes, date] = {}


def midnight(text: bytes) -> int:
    """UTC of a summer day's Eastern midnight, in microseconds; written CCYY-MM-DD, CCYYMMDD or MM/DD/CCYY."""
    found = _midnights.get(text)
    if found is None:
        found = _midnights[text] = calendar.timegm((*day(text).timetuple()[:3], 4, 0, 0)) * 1_000_000
    return found


def day(text: bytes) -> date:
    """The date, remembered."""
    found = _dates.get(text)
    if found is None:
        said = text.decode()
        if "/" in said:
            said = said[6:] + said[:2] + said[3:5]
        found = _dates[text] = date.fromisoformat(said)
    return found


def clock(text: bytes) -> int:
    """HH:MM:SS[.ffffff] in microseconds."""
    whole = int(text[:2]) * 3_600 + int(text[3:5]) * 60 + int(text[6:8])
    return whole * 1_000_000 + (int(text[9:]) if len(text) > 8 else 0)


def price(text: bytes) -> int:
    """A decimal in 1e-6 units."""
    return round(float(text) * 1_000_000)


def _trade(line: bytes) -> tuple[Values, ...]:
    f = line.split(b",")
    return ((
        f[1].decode(), day(f[4]), midnight(f[4]) + clock(f[5]), price(f[2]), int(f[3]), chr(f[12][0]), price(f[13]),
        int(f[14]), price(f[16]), int(f[17]), int(f[10]), int(f[11]), int(f[7]), f[6].decode(), int(f[8]),
    ),)  # fmt: skip


def _quote(line: bytes) -> tuple[Values, ...]:
    f = line.split(b",")
    time = midnight(f[4]) + max(clock(f[15]), clock(f[18]))
    return ((f[1].decode(), day(f[4]), time, price(f[13]), int(f[14]), price(f[16]), int(f[17]), int(f[11])),)


def _correction(line: bytes) -> tuple[Values, ...]:
    f = line.split(b",")
    return ((
        f[1].decode(), f[2].decode(), f[3].decode(), midnight(f[4]) + clock(f[5]), price(f[6]), int(f[7]), int(f[8]),
        f[9].decode(), int(f[10]),
    ),)  # fmt: skip


def _named(line: bytes) -> tuple[Values, ...]:
    return ((line.split(b",", 2)[1].decode(), line),)


def _raw(line: bytes) -> tuple[Values, ...]:
    line.split(b",", 5)
    return ((line,),)


def _clock(line: bytes) -> tuple[Values, ...]:
    on, _, at = line.split(b",")[1].partition(b" ")
    return ((midnight(on) + clock(at), day(on)),)


_SIDES = {b"B": "bid", b"A": "ask"}


def _order(line: bytes) -> tuple[Values, ...]:
    f = line.split(b",")
    time = midnight(f[10]) + clock(f[9])
    return ((f[1].decode(), int(f[2]), _SIDES[f[4]], price(f[5]), int(f[6]), int(f[7]), int(f[8]), time, day(f[10])),)


def _order_delete(line: bytes) -> tuple[Values, ...]:
    f = line.split(b",")
    return ((f[1].decode(), int(f[2]), _SIDES[f[4]], midnight(f[6]) + clock(f[5]), day(f[6])),)


def _level(line: bytes) -> tuple[Values, ...]:
    f = line.split(b",")
    time = midnight(f[8]) + clock(f[7])
    return ((f[1].decode(), _SIDES[f[2]], price(f[3]), int(f[4]), int(f[5]), int(f[6]), time, day(f[8])),)


def _level_delete(line: bytes) -> tuple[Values, ...]:
    f = line.split(b",")
    return ((f[1].decode(), _SIDES[f[2]], price(f[3]), midnight(f[5]) + clock(f[4]), day(f[5])),)


def _both_sides(line: bytes) -> tuple[Values, ...]:
    f = line.split(b",")
    start, on, name, maker = midnight(f[8]), day(f[8]), f[1].decode(), f[2].decode()
    bid: Values = (None, None)
    ask: Values = (None, None)
    if f[11] == b"T":
        bid = (price(f[3]), int(f[5]))
    if f[12] == b"T":
        ask = (price(f[4]), int(f[6]))
    return (
        (name, maker, "bid", *bid, start + clock(f[7]), on),
        (name, maker, "ask", *ask, start + clock(f[10]), on),
    )


_TRADE = (
    "symbol", "trading_date", "event_time_us", "price", "size", "basis", "bid", "bid_size", "ask", "ask_size",
    "tick_id", "total_volume", "market_center", "conditions", "aggressor",
)  # fmt: skip
_QUOTE = ("symbol", "trading_date", "event_time_us", "bid", "bid_size", "ask", "ask_size", "total_volume")
_CORRECTION = (
    "symbol", "correction", "basis", "event_time_us", "price", "size", "tick_id", "conditions", "market_center",
)  # fmt: skip
_ORDER = (
    "symbol", "order_id", "side", "price", "size", "priority", "precision", "event_time_us", "trading_date"
)  # fmt: skip
_DELETE = ("symbol", "order_id", "side", "event_time_us", "trading_date")
_LEVEL = ("symbol", "side", "price", "size", "order_count", "precision", "event_time_us", "trading_date")
_LEVEL_DELETE = ("symbol", "side", "price", "event_time_us", "trading_date")
_BOTH = ("symbol", "mmid", "side", "price", "size", "event_time_us", "trading_date")


def drawn(count: int) -> list[Kind]:
    """So many lines of each kind."""
    rng = random.Random(11)

    def symbol() -> str:
        return rng.choice(SYMBOLS)

    def at() -> str:
        return f"12:{rng.randrange(60):02d}:{rng.randrange(60):02d}.{rng.randrange(1_000_000):06d}"

    def money() -> str:
        return f"{rng.randrange(1_000_000, 9_000_000) / 10_000:.4f}"

    def size() -> int:
        return rng.randint(1, 9_999)

    def identity() -> int:
        return rng.randrange(10**11, 10**12)

    def side() -> str:
        return rng.choice("BA")

    def update(letter: str, contents: str) -> str:
        return (
            f"{letter},{symbol()},{money()},{size()},06/04/2021,{at()},{rng.choice(['01', '873D17', '10'])},11,0,4,"
            f"{rng.randrange(1, 10**9)},{rng.randrange(10**7)},{contents},{money()},{size()},{at()},{money()},"
            f"{size()},{at()},0,"
        )

    def fundamental() -> str:
        return f"F,{symbol()},5,{money()},{size()},{money()},{money()},{money()},{money()}," + "1.25," * 48

    def order(letter: str) -> str:
        return (
            f"{letter},{symbol()},{identity()},,{side()},{money()},{size()},{rng.randrange(10**11)},4,{at()},"
            "2021-06-04,"
        )

    def level(letter: str) -> str:
        return f"{letter},{symbol()},{side()},{money()},{size()},{rng.randint(1, 99)},4,{at()},2021-06-04,"

    def both(letter: str) -> str:
        said = f"{money()},{money()},{size()},{size()},{at()},2021-06-04,52,{at()}"
        return f"{letter},{symbol()},MM{rng.randrange(30):02d},{said},{rng.choice('TTTF')},T,T,"

    def correction() -> str:
        named = f"{money()},{size()},{rng.randrange(10**9)},01,24,"
        return f"C,{symbol()},{rng.choice('IX')},{rng.choice('CEO')},06/04/2021,{at()},{named}"

    def clock_line() -> str:
        return f"T,20210604 12:{rng.randrange(60):02d}:{rng.randrange(60):02d}"

    def regional() -> str:
        return f"R,{symbol()},,{money()},{size()},14:44:54,{money()},{size()},14:44:54,14,4,5,"

    def headline() -> str:
        return f"N,DTN,{rng.randrange(10**10)},:{symbol()}:,20210604 120000,Shares of {symbol()} move"

    def system() -> str:
        return f"S,STATS,66.112.148.225,60002,1300,{rng.randrange(500)},4,0,1,0,,,Connected,6.2.0.25,"

    def order_delete() -> str:
        return f"5,{symbol()},{identity()},,{side()},{at()},2021-06-04,"

    def level_delete() -> str:
        return f"9,{symbol()},{side()},{money()},{at()},2021-06-04,"

    table: list[tuple[str, str, Callable[[], str], tuple[str, ...], Callable[[bytes], tuple[Values, ...]]]] = [
        ("level1", "Q trade", lambda: update("Q", rng.choice(["Cbav", "Ebav", "Obav"])), _TRADE, _trade),
        ("level1", "Q quote", lambda: update("Q", "ba"), _QUOTE, _quote),
        ("level1", "P summary", lambda: update("P", "Cbaohlcv"), _QUOTE, _quote),
        ("level1", "F fundamental", fundamental, ("symbol", "raw"), _named),
        ("level1", "C correction", correction, _CORRECTION, _correction),
        ("level1", "T clock", clock_line, ("event_time_us", "trading_date"), _clock),
        ("level1", "R regional", regional, ("symbol", "raw"), _named),
        ("level1", "N headline", headline, ("raw",), _raw),
        ("level1", "S system", system, ("raw",), _raw),
        ("level2", "3 order added", lambda: order("3"), _ORDER, _order),
        ("level2", "4 order changed", lambda: order("4"), _ORDER, _order),
        ("level2", "6 order summary", lambda: order("6"), _ORDER, _order),
        ("level2", "5 order deleted", order_delete, _DELETE, _order_delete),
        ("level2", "7 level summary", lambda: level("7"), _LEVEL, _level),
        ("level2", "8 level changed", lambda: level("8"), _LEVEL, _level),
        ("level2", "9 level deleted", level_delete, _LEVEL_DELETE, _level_delete),
        ("level2", "Z both sides, summary", lambda: both("Z"), _BOTH, _both_sides),
        ("level2", "2 both sides", lambda: both("2"), _BOTH, _both_sides),
    ]
    return [
        Kind(name, port, [make().encode() for _ in range(count // 10 if name[0] == "S" else count)], columns, read)
        for port, name, make, columns, read in table
    ]
