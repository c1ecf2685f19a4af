"""Which trades of history are missing among those that were read, and whether the day's volume leaves a hole.

Pure functions. A trade is the same where tick id, time (which settles the trading date), price, size and total volume
agree; tick ids repeat, so equal trades are counted, not just looked up. What the live line did not tell agrees with
anything, as long as price and size agree and the time or the tick id is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pipeline_orchestrator.ingestion.history_trade import HistoryTrade


class KnownTrade(NamedTuple):
    """A trade in `events`, live or from history before; units as in HistoryTrade, None = not told."""

    time_us: int | None
    tick_id: int | None
    price: int | None
    size: int | None
    total_volume: int | None = None
    trading_date: int | None = None
    refilled: bool = False  # from history


class Point(NamedTuple):
    """The day's volume at one moment of a trading date; None = the date is not known."""

    trading_date: int | None
    volume: int


class Span(NamedTuple):
    """The volume that a trade makes: from `begin` to `end` of its trading date."""

    trading_date: int
    begin: int
    end: int


def missing_of(history: Sequence[HistoryTrade], known: Iterable[KnownTrade]) -> list[HistoryTrade]:
    """The trades of history that are not among the known ones, in their order."""
    counted = Counter(_key(trade) for trade in known)
    left = []
    for trade in history:
        key = _key(trade)
        if counted[key] > 0:
            counted[key] -= 1
        else:
            left.append(trade)
    loose = any(None in _key(trade) for trade in left)
    for told in counted.elements():
        if loose or None in told:
            same = next((at for at, trade in enumerate(left) if _agree(told, _key(trade))), None)
            if same is not None:
                del left[same]
    return left


def merged(spans: Iterable[Span]) -> list[Span]:
    """The same volume in as few spans as can be: those that overlap or touch become one. Sorted."""
    found: list[Span] = []
    for span in sorted(spans):
        last = found[-1] if found else None
        if last is not None and last.trading_date == span.trading_date and span.begin <= last.end:
            if span.end > last.end:
                found[-1] = last._replace(end=span.end)
        else:
            found.append(span)
    return found


def missing_volume(spans: Iterable[Span], before: Point | None, after: Point | None) -> int:
    """Volume that no trade accounts for, between two moments on which the feed told the day's volume.

    A moment that is not known (None) is the first or last trade of its date. A date that begins in between begins
    with 0. Spans outside of the moments count only as far as they lie inside.
    """
    by_date: dict[int, list[tuple[int, int]]] = {}
    for span in spans:
        by_date.setdefault(span.trading_date, []).append((span.begin, span.end))
    for point in (before, after):
        if point is not None and point.trading_date is not None:
            by_date.setdefault(point.trading_date, [])
    missing = 0
    for date, of_date in by_date.items():
        of_date.sort()
        low, high = _bounds(date, of_date, before, after)
        for begin, end in of_date:
            if begin > low:
                missing += max(0, min(begin, high) - low)
            low = max(low, end)
        missing += max(0, high - low)
    return missing


def _bounds(date: int, spans: list[tuple[int, int]], before: Point | None, after: Point | None) -> tuple[int, int]:
    """Where the volume of a date begins and ends that has to be accounted for."""
    low = spans[0][0] if spans else 0
    if before is not None and before.trading_date is not None:
        if before.trading_date == date:
            low = before.volume
        elif before.trading_date < date:
            low = 0
    last = max((end for _, end in spans), default=low)
    if after is not None and after.trading_date is not None:
        if after.trading_date == date:
            return low, after.volume
        if after.trading_date < date:
            return last, last  # later than what is asked about
    return low, last


_Key = tuple[int | None, ...]


def _key(trade: HistoryTrade | KnownTrade) -> _Key:
    return trade.time_us, trade.tick_id, trade.price, trade.size, trade.total_volume


def _agree(one: _Key, other: _Key) -> bool:
    """Nothing that both tell differs, and both tell price, size and one of time and tick id."""
    for a, b in zip(one, other, strict=True):
        if a is not None and b is not None and a != b:
            return False
    told = [a is not None and b is not None for a, b in zip(one, other, strict=True)]
    return told[2] and told[3] and (told[0] or told[1])
