"""Dates and times of a line inside kernels: what the newest clock and the calendar make of its fields.

The compiled twin of the second half of `reference_fields`. Status words are those of market.wire_fields.
"""

from __future__ import annotations

from typing import Any, Final

from numba import njit

from pipeline_orchestrator.market.eastern import (
    DAY_US,
    DAYLIGHT_US,
    HOUR_US,
    STANDARD_US,
    civil_from_days,
    day_rule,
    days_from_civil,
    local_to_utc_us,
    month_length,
)
from pipeline_orchestrator.market.wire_fields import NULL

_MIDNIGHT_LAG_US: Final = 2_000_000

# state[...]: what a parser remembers between lines, and small caches of calendar arithmetic
S_CLOCK1_KNOWN: Final = 0
S_CLOCK1_DAY: Final = 1  # a local time is kept as its day and its time of day: divisions cost more than fields
S_CLOCK1_TOD: Final = 2
S_CLOCK2_KNOWN: Final = 3
S_CLOCK2_DAY: Final = 4
S_CLOCK2_TOD: Final = 5
S_RULE_DAY: Final = 6
S_RULE: Final = 7
S_NEAR_DAY: Final = 8
S_NEAR_CODE: Final = 9
S_NEAR_RESULT: Final = 10
S_DATE_KEY: Final = 11
S_DATE_DAY: Final = 12
STATE_SIZE: Final = 16


@njit(cache=True, error_model="numpy")
def nearest_day(code: int, near: int) -> int:
    """The day with that day of the month nearest to `near`, the earlier on a tie."""
    year, month, _ = civil_from_days(near)
    best, distance = near, 1 << 30
    for step in range(-1, 2):
        y, m = year, month + step
        if m < 1:
            y, m = year - 1, 12
        elif m > 12:
            y, m = year + 1, 1
        if code <= month_length(y, m):
            candidate = days_from_civil(y, m, code)
            if abs(candidate - near) < distance:
                best, distance = candidate, abs(candidate - near)
    return best


@njit(cache=True, error_model="numpy")
def trading_day(state: Any, code: int, code_status: int, day: int, day_status: int) -> tuple[int, int]:  # Any: array
    """Day code near the line's date, else near the Level 1 clock; without a code that date itself."""
    if day_status != 0:
        if state[S_CLOCK1_KNOWN] == 0:
            return 0, NULL
        day = state[S_CLOCK1_DAY]
    if code_status != 0:
        return day, 0
    if state[S_NEAR_DAY] != day or state[S_NEAR_CODE] != code:
        state[S_NEAR_RESULT] = nearest_day(code, day)
        state[S_NEAR_DAY], state[S_NEAR_CODE] = day, code
    return state[S_NEAR_RESULT], 0


@njit(cache=True, error_model="numpy")
def to_utc(state: Any, day: int, tod: int, recv_us: int) -> int:  # Any: arrays inside kernels
    """UTC of a local time; the rule of the day is remembered, since days repeat."""
    if tod >= DAY_US:  # a leap second at midnight
        day, tod = day + 1, tod - DAY_US
    if state[S_RULE_DAY] != day:
        state[S_RULE] = day_rule(day)
        state[S_RULE_DAY] = day
    rule = state[S_RULE]
    local = day * DAY_US + tod
    if rule == 0:
        return int(local + STANDARD_US)
    if rule == 1:
        return int(local + DAYLIGHT_US)
    return int(local_to_utc_us(local, recv_us, rule))


@njit(cache=True, error_model="numpy")
def dated(tod: int, clock_day: int, clock_tod: int) -> int:
    """Day of a bare time of day, by the newest clock (see reference_fields.dated)."""
    if tod > clock_tod + HOUR_US:
        return clock_day - 1
    if tod < _MIDNIGHT_LAG_US and clock_tod >= DAY_US - _MIDNIGHT_LAG_US:
        return clock_day + 1
    return clock_day


@njit(cache=True, error_model="numpy")
def line_time(state: Any, day: int, day_status: int, tod: int, tod_status: int, recv_us: int) -> tuple[int, int]:
    """Date and time of a line in UTC; a missing date is guessed from the Level 1 clock."""
    if tod_status != 0:
        return 0, NULL
    if day_status != 0:
        if state[S_CLOCK1_KNOWN] == 0:
            return 0, NULL
        day = dated(tod, state[S_CLOCK1_DAY], state[S_CLOCK1_TOD])
    return to_utc(state, day, tod, recv_us), 0


@njit(cache=True, error_model="numpy")
def quote_time(state: Any, bid: int, bid_status: int, ask: int, ask_status: int, recv_us: int) -> tuple[int, int]:
    """The later of both times of day, dated by the Level 1 clock, in UTC."""
    if state[S_CLOCK1_KNOWN] == 0 or (bid_status != 0 and ask_status != 0):
        return 0, NULL
    clock_day, clock_tod = state[S_CLOCK1_DAY], state[S_CLOCK1_TOD]
    if bid_status != 0:
        bid = ask
    day, tod = dated(bid, clock_day, clock_tod), bid
    if ask_status == 0:
        other = dated(ask, clock_day, clock_tod)
        if other * DAY_US + ask > day * DAY_US + tod:
            day, tod = other, ask
    return to_utc(state, day, tod, recv_us), 0
