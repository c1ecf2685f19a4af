"""One gap of one symbol while its trades are fetched from history: how far it is, and what can be said at its end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from pipeline_orchestrator.ingestion.backfill_match import KnownTrade, Point, Span, merged, missing_volume
from pipeline_orchestrator.ingestion.backfill_tables import Gap
from pipeline_orchestrator.ingestion.history_trade import HistoryTrade
from pipeline_orchestrator.market.eastern import DAY_US, utc_to_eastern_us

MARGIN_US = 2_000_000  # asked for on both sides of a gap
SETTLE_US = 3_000_000  # of the feed's clock, until everything of the time asked about was sent
RETRY_US = 5_000_000  # of the feed's clock, between two attempts
SLICE_US = 1_800_000_000  # asked for at a time
SPANS_AT_ONCE = 2_000  # of a busy slice's many, sorted in one call, during which no other thread runs
ATTEMPTS = 3  # at a gap that history answers late, or with a hole: it can lag behind the feed
TICK_DAYS, TICK_DAYS_IN_SESSION = 180, 8  # how far back the Lookup port has ticks
_OPENS_US, _CLOSES_US = 34_200_000_000, 59_400_000_000  # 09:30, 16:30

NOT_KNOWN = "begin or end of the gap have no time"
NO_DEPTH = "history has trades, not the book"
TOO_OLD = f"history reaches back {TICK_DAYS} days"


class Job:
    """`gap` is closed, of Level 1 and of one symbol, and both its times are known. Times in microseconds UTC."""

    def __init__(self, gap: Gap) -> None:
        begun, ended = gap.begun.time_us, gap.ended.time_us
        if begun is None or ended is None:
            raise ValueError(NOT_KNOWN)
        self.gap = gap
        self.begin_us, self.end_us = begun - MARGIN_US, max(begun, ended) + MARGIN_US + 1
        self.attempts = 0
        self._not_before_us = self.end_us + SETTLE_US
        self.again()

    def again(self) -> None:
        """Start over: what was brought is found among the known trades then."""
        self.at_us = self.begin_us
        self.result = Result()

    def retry(self) -> None:
        """Start over, later than now: the feed's history can lag."""
        self._not_before_us += RETRY_US
        self.again()

    @property
    def slice_end_us(self) -> int:
        """Up to where history is asked next, from `at_us` on."""
        return min(self.end_us, self.at_us + SLICE_US)

    @property
    def done(self) -> bool:
        """Everything was asked for."""
        return self.at_us >= self.end_us

    def due(self, clock_us: int) -> bool:
        """The feed's clock is past the gap, so far that all lines of its time were sent, and history reaches it now."""
        if clock_us < self._not_before_us:
            return False
        return self.too_old(clock_us) or not in_session(clock_us) or clock_us - self.begin_us <= _IN_SESSION_US

    def too_old(self, clock_us: int) -> bool:
        """History does not reach back to it at any hour."""
        return clock_us - self.begin_us > TICK_DAYS * DAY_US


_IN_SESSION_US = TICK_DAYS_IN_SESSION * DAY_US


@dataclass(slots=True)
class Result:
    """What came of a gap's slices. `refilled` counts the trades of its time that came from history, now or before."""

    refilled: int = 0
    unreadable: int = 0
    spans: list[Span] = field(default_factory=list)  # merged
    told: bool = True  # every trade told its volume

    def add(self, known: Iterable[KnownTrade], missing: Sequence[HistoryTrade], unreadable: int) -> None:
        """One slice: what the tables hold of it, what is brought now, and lines of the answer that cannot be read."""
        self.unreadable += unreadable
        self.refilled += len(missing)
        fresh: list[Span] = []
        for each in chain[KnownTrade | HistoryTrade](missing, known):
            self.refilled += isinstance(each, KnownTrade) and each.refilled
            if each.total_volume is None or each.size is None or each.trading_date is None:
                self.told = False
                continue
            fresh.append(Span(each.trading_date, each.total_volume - each.size, each.total_volume))
            if len(fresh) == SPANS_AT_ONCE:
                self.spans, fresh = merged([*self.spans, *fresh]), []
        self.spans = merged([*self.spans, *fresh])

    def verdict(self, before: Point | None, after: Point | None) -> tuple[str, dict[str, Any]]:  # Any: JSON
        """`filled` or `unresolved`, and the detail of the gap's row.

        `volume` says what the day's volume told: `whole` = it leaves no hole from before the gap to behind it,
        `not told` = it could not be followed from end to end; then history alone says that nothing else was traded.
        """
        hole = missing_volume(self.spans, before, after) if self.told else 0
        followed = self.told and before is not None and after is not None and not _fell(before, after)
        detail: dict[str, Any] = {"rows": self.refilled, "volume": "whole" if followed else "not told"}
        if hole:
            detail |= {"volume": hole, "why": f"trades of {hole} in volume are missing in history too"}
        if self.unreadable:
            detail["why"] = f"{self.unreadable} lines of history cannot be read"
        return ("unresolved" if "why" in detail else "filled"), detail


def _fell(before: Point, after: Point) -> bool:
    """The day's volume is lower behind the gap: a correction, or another feed; it proves nothing."""
    return before.trading_date == after.trading_date and after.volume < before.volume


def in_session(clock_us: int) -> bool:
    """Weekdays from 09:30 to 16:30 Eastern: then ticks reach back fewer days."""
    local = int(utc_to_eastern_us(clock_us))
    return (local // DAY_US + 3) % 7 < 5 and _OPENS_US <= local % DAY_US < _CLOSES_US


def of_all(rows: Sequence[Gap]) -> tuple[str, dict[str, Any]] | None:  # Any: JSON
    """State and detail of the row for all, from those of its symbols; None while one of them is not settled."""
    symbols = [row for row in rows if row.symbol is not None]
    if any(row.state not in {"filled", "unresolved"} for row in symbols):
        return None
    refilled = sum(int(row.detail.get("rows", 0)) for row in symbols)
    failed = sorted(str(row.symbol) for row in symbols if row.state == "unresolved")
    if not symbols:
        return "unresolved", {"rows": 0, "why": "no symbol was heard of behind it"}
    detail: dict[str, Any] = {"rows": refilled, "symbols": len(symbols)}
    if failed:
        return "unresolved", detail | {"why": f"{len(failed)} of {len(symbols)} symbols", "unresolved": failed[:20]}
    return "filled", detail
