"""Calendars of sessions: when a market is open, and to which trading date a moment belongs.

`24x7` is always open. The others know the years of their file (config/calendars); before and after them the answer is
"unknown", never a guess. Bars lie on the UTC grid of their length, sessions begin and end on whole minutes: no bar
lies on both sides of a session's end.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from config.sections import CALENDARS
from pipeline_orchestrator.market.eastern import DAY_US, utc_to_eastern_us
from pipeline_orchestrator.market.sessions import Int64s, Sessions, read_sessions

UNKNOWN, OPEN, CLOSED = range(3)
SESSION_STATES: Final = ("unknown", "open", "closed")
NO_DAY: Final = -(1 << 31)  # no trading date


@dataclass(frozen=True, slots=True)
class Session:
    """The market at one moment; microseconds since 1970 UTC, days since 1970-01-01.

    open: the session that holds the moment. closed: the time between two sessions, `begin` = end of the last one,
    `end` = begin of the next; None where the calendar does not reach so far. `day` is the session's trading date.
    24x7 has no begin and no end.
    """

    state: str
    begin: int | None = None
    end: int | None = None
    day: int | None = None


class Calendar:
    """One calendar. `sessions` None = always open. Makes no guess: see the module."""

    def __init__(self, name: str, sessions: Sessions | None = None) -> None:
        self.name, self.sessions = name, sessions

    @property
    def digest(self) -> str:
        """Changes when an answer does: part of what decides results."""
        return self.name if self.sessions is None else f"{self.name}:{self.sessions.digest}"

    def session_of(self, us: int) -> Session:
        """Open, closed or unknown at a moment, and since and until when."""
        known = self.sessions
        if known is None:
            return Session("open", day=self.trading_date_of(us))
        if not known.known_from <= us < known.known_until:
            return Session("unknown")
        at = int(np.searchsorted(known.begins, us, side="right")) - 1
        if at >= 0 and us < known.ends[at]:
            return Session("open", int(known.begins[at]), int(known.ends[at]), int(known.days[at]))
        return Session(
            "closed",
            int(known.ends[at]) if at >= 0 else None,
            int(known.begins[at + 1]) if at + 1 < len(known.begins) else None,
        )

    def trading_date_of(self, us: int) -> int | None:
        """Trading date of a moment, also outside of sessions; None = unknown.

        The Eastern date, except that a date whose session begins on the evening before begins with it (CME: 17:00
        Central). A day without a session keeps its own date.
        """
        day = int(self.trading_dates(np.array([us], np.int64))[0])
        return None if day == NO_DAY else day

    def next_open(self, us: int) -> int | None:
        """Begin of the first session that begins after a moment; None = unknown, or never (24x7)."""
        known = self.sessions
        if known is None or not known.known_from <= us < known.known_until:
            return None
        at = int(np.searchsorted(known.begins, us, side="right"))
        return int(known.begins[at]) if at < len(known.begins) else None

    def session_states(self, times: Int64s) -> npt.NDArray[np.int32]:
        """`session_of` for many: codes of SESSION_STATES."""
        known = self.sessions
        if known is None:
            return np.full(len(times), OPEN, np.int32)
        at = np.searchsorted(known.begins, times, side="right") - 1
        inside = (at >= 0) & (times < known.ends[np.maximum(at, 0)])
        states = np.where(inside, OPEN, CLOSED).astype(np.int32)
        states[(times < known.known_from) | (times >= known.known_until)] = UNKNOWN
        return states

    def trading_dates(self, times: Int64s) -> npt.NDArray[np.int32]:
        """`trading_date_of` for many; NO_DAY = unknown."""
        known = self.sessions
        days = _days(np.ascontiguousarray(times, np.int64), 0 if known is None else known.ahead_us)
        if known is not None:
            days[(times < known.known_from) | (times >= known.known_until)] = NO_DAY
        return days

    def bar_begin(self, time_us: int, length_us: int) -> int:
        """Begin of the bar that holds this time."""
        return time_us // length_us * length_us


@njit(cache=True)
def _days(times: Int64s, ahead_us: int) -> npt.NDArray[np.int32]:
    days = np.empty(times.size, np.int32)
    for i in range(times.size):
        days[i] = (utc_to_eastern_us(times[i]) + ahead_us) // DAY_US
    return days


ALWAYS_OPEN: Final = Calendar("24x7")


@cache
def calendar_named(name: str) -> Calendar:
    """The calendar of the setting `market.calendar`.

    Raises KeyError naming those there are, sessions.CalendarError for a file that cannot be used.
    """
    if name not in CALENDARS:
        raise KeyError(f"no calendar named {name!r}; there is {', '.join(CALENDARS)}")
    return ALWAYS_OPEN if name == ALWAYS_OPEN.name else Calendar(name, read_sessions(name))


def warm() -> None:
    """Compile the kernel."""
    ALWAYS_OPEN.trading_dates(np.zeros(1, np.int64))
