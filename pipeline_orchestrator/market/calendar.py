"""Calendars of sessions. Today there is one, 24x7: the market is always open.

Bars lie on the UTC grid of their length: a bar that begins at t covers [t, t + length).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Calendar:
    """Says when a market is open; times are microseconds since 1970 UTC."""

    name: str

    def bar_begin(self, time_us: int, length_us: int) -> int:
        """Begin of the bar that holds this time."""
        return time_us // length_us * length_us


ALWAYS_OPEN = Calendar("24x7")


def calendar_named(name: str) -> Calendar:
    """The calendar of the setting `market.calendar`. Raises KeyError naming those there are."""
    if name != ALWAYS_OPEN.name:
        raise KeyError(f"no calendar named {name!r}; there is {ALWAYS_OPEN.name}")
    return ALWAYS_OPEN
