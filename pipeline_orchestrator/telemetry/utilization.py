"""Shares of time: busy, idle, blocked on a named dependency, and the rest unaccounted.

A component of several parts accounts several timelines at once; where their sum exceeds the window it is scaled to
the window, so that the shares always add up to 100 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Utilization:
    """Percent of a window; `blocked_on` is what most of the blocked time waited for, "" when none."""

    idle: float
    busy: float
    blocked: float
    blocked_on: str
    unaccounted: float


def utilization(times: Mapping[str, Any], window_s: float) -> Utilization | None:  # Any: floats, and a dict of floats
    """Shares of `times` (seconds, as in telemetry.metrics) over a window; None for no window."""
    if window_s <= 0:
        return None
    blocked: Mapping[str, float] = times.get("blocked", {})
    idle, busy = float(times.get("idle", 0.0)), float(times.get("busy", 0.0))
    waiting = sum(blocked.values())
    scale = 100.0 / max(window_s, idle + busy + waiting)
    on = max(blocked, key=lambda name: blocked[name]) if waiting > 0 else ""
    idle, busy, waiting = (round(part * scale, 1) for part in (idle, busy, waiting))
    rest = round(max(0.0, 100.0 - idle - busy - waiting), 1)
    return Utilization(idle=idle, busy=busy, blocked=waiting, blocked_on=on, unaccounted=rest)
