"""The rows that answer a history request: which trades or bars, and in which order."""

from __future__ import annotations

from typing import Final

import numpy as np

from infrastructure.simulator import history_bars as bars
from infrastructure.simulator import history_days, history_trades
from infrastructure.simulator.columns import DAY_US, HAS_LAST, SECOND_US
from infrastructure.simulator.history_market import MarketHistory
from infrastructure.simulator.lookup_behaviour import LookupBehaviour, hole_bounds
from infrastructure.simulator.lookup_request import INTERVALS, MONTHS, TICKS, WEEKS, Request
from infrastructure.simulator.market import Int64s

_OPENS, _CLOSES = (9 * 60 + 30) * 60 * SECOND_US, (16 * 60 + 30) * 60 * SECOND_US
_WEEKEND: Final = 5


def answer(
    request: Request,
    history: MarketHistory,
    symbol: int,
    now_us: int,
    behaviour: LookupBehaviour,
    *,
    partial: bool,
    qualified_only: bool = False,
) -> Int64s:
    """Rows [row, column] in the order in which they are sent: trades, interval bars or days by `request.kind`.

    `now_us` is the market's newest whole second: it decides about lag, days back and today's unfinished bar, which
    `partial` says to give where the request does not say. `qualified_only`: ticks of basis C alone. Bounds and filters
    choose ticks (also those of volume and tick bars) by their time, and seconds bars by their begin.
    MaxDatapoints keeps the newest, whatever the direction.
    """
    if request.kind in (TICKS, INTERVALS):
        rows = _of_trades(request, history, symbol, now_us, behaviour, qualified_only=qualified_only)
    else:
        rows = _of_days(request, history.days.of(symbol), now_us // DAY_US, partial=partial)
    if request.most is not None:
        rows = rows[max(0, len(rows) - request.most) :]
    return rows if request.oldest_first else rows[::-1]


def _of_trades(
    request: Request,
    history: MarketHistory,
    symbol: int,
    now_us: int,
    behaviour: LookupBehaviour,
    *,
    qualified_only: bool,
) -> Int64s:
    kept = history.trades
    places = kept.places(symbol)
    times = kept.column(history_trades.TIME, places)
    shown = np.ones(times.size, dtype=np.bool_)
    if behaviour.lag_seconds:
        shown &= times <= max(now_us, kept.newest_us) - int(behaviour.lag_seconds * SECOND_US)
    for hole in behaviour.holes:
        first, after, daily = hole_bounds(hole)
        clock = times % DAY_US if daily else times
        shown &= (clock < first) | (clock >= after)
    if request.kind == TICKS:
        shown &= times >= _oldest_tick(now_us, behaviour)
        if qualified_only:
            shown &= kept.column(history_trades.MARKS, places) & history_trades.BASIS_MASK == HAS_LAST
    if request.kind == TICKS or request.interval_type != bars.SECONDS:
        dates = times if request.days is None else kept.column(history_trades.DAY, places)
        shown &= _inside(request, times, dates, now_us, behaviour)
    places = places[shown]
    if request.kind == TICKS:
        return kept.at(places if request.most is None else places[-request.most :]).T
    trades = kept.at(places)
    made = bars.interval_bars(trades, request.interval_type, request.interval)
    if request.interval_type == bars.SECONDS:
        begin = made[:, bars.BEGIN]
        made = made[_inside(request, begin, begin // DAY_US, now_us, behaviour)]
    return made


def _inside(
    request: Request, times: Int64s, dates: Int64s, now_us: int, behaviour: LookupBehaviour
) -> np.typing.NDArray[np.bool_]:
    """Which moments lie within the request's span, days and daily filters; `dates` are read for its days alone."""
    more = SECOND_US if behaviour.end_inclusive else 0
    inside = np.ones(times.size, dtype=np.bool_)
    if request.begin is not None:
        inside &= times >= request.begin
    if request.end is not None:
        inside &= times < request.end + more
    if request.days is not None:
        inside &= dates > now_us // DAY_US - request.days
    clock = times % DAY_US
    after = None if request.begin_filter is None else clock >= request.begin_filter * SECOND_US
    before = None if request.end_filter is None else clock < request.end_filter * SECOND_US + more
    if after is not None and before is not None:
        over_midnight = (request.begin_filter or 0) > (request.end_filter or 0)
        return inside & ((after | before) if over_midnight else (after & before))
    for each in (after, before):
        if each is not None:
            inside &= each
    return inside


def _oldest_tick(now_us: int, behaviour: LookupBehaviour) -> int:
    """Ticks reach back fewer days while the exchange is open."""
    day, clock = divmod(now_us, DAY_US)
    in_session = (day + 3) % 7 < _WEEKEND and _OPENS <= clock < _CLOSES
    back = behaviour.tick_days_in_session if in_session else behaviour.tick_days
    return (day - back) * DAY_US


def _of_days(request: Request, rows: Int64s, today: int, *, partial: bool) -> Int64s:
    stamps = rows[:, history_days.DAY_STAMP]
    inside = np.ones(len(rows), dtype=np.bool_)
    if not (partial if request.partial is None else request.partial):
        inside &= stamps < today
    if request.begin is not None:
        inside &= stamps >= request.begin // DAY_US
    if request.end is not None:
        inside &= stamps <= request.end // DAY_US
    rows = rows[inside]
    if request.kind == WEEKS:
        return bars.weeks(rows)
    return bars.months(rows) if request.kind == MONTHS else rows
