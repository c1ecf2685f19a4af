"""Sessions of an exchange as sorted arrays, read from config/calendars and laid out once per process.

A file names regular hours on the exchange's wall clock and every day that differs; here they become begins and ends
in microseconds since 1970 UTC. The wall clocks are US Eastern and US Central, which run an hour apart (but for three
hours of a Sunday night twice a year, in which no session begins or ends).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import date, time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from config.paths import CALENDAR_DIR
from pipeline_orchestrator.market.eastern import DAY_US, HOUR_US, eastern_to_utc_us

Int64s = npt.NDArray[np.int64]
_BEHIND_EASTERN_US = {"America/New_York": 0, "America/Chicago": HOUR_US}
_EPOCH = date(1970, 1, 1)
_WEEK = 7
_MONDAY = 4  # day number of a Monday: 1970-01-05


class CalendarError(ValueError):
    """A calendar's file cannot be used; the message names it."""


@dataclass(frozen=True, slots=True)
class Sessions:
    """All sessions known: `begins[i] <= t < ends[i]`, rising, apart from each other; `days[i]` = its trading date.

    Days count from 1970-01-01. Outside of `known_from <= t < known_until` nothing is known. A trading date begins
    `ahead_us` before midnight Eastern. `digest` covers all of it; `source` is what the file says about its origin.
    """

    begins: Int64s
    ends: Int64s
    days: Int64s
    known_from: int
    known_until: int
    ahead_us: int
    digest: str
    source: str


def from_document(document: dict[str, Any]) -> Sessions:  # Any: JSON
    """The sessions of a parsed file. Raises KeyError, ValueError for one that is not sound."""
    behind = _BEHIND_EASTERN_US[document["time_zone"]]
    first, last = _day(document["first_date"]), _day(document["last_date"])
    open_day = int(document["open_day"])
    regular = _hours(document["hours"])
    closed = {_day(text) for text in document["closed_weekdays"]}
    others = {_day(text): _hours(hours) for text, hours in document["other_hours"].items()}

    def utc(day: int, clock_us: int) -> int:
        local = day * DAY_US + clock_us + behind
        return int(eastern_to_utc_us(local, local))

    rows = []
    for day in range(first, last + 1):
        hours = others.get(day)
        if hours is None and ((day - _MONDAY) % _WEEK >= 5 or day in closed):
            continue
        begin, end = hours or regular
        rows.append((utc(day + open_day, begin), utc(day, end), day))
    begins, ends, days = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    if (begins >= ends).any() or (begins[1:] < ends[:-1]).any():
        raise ValueError("sessions overlap or end before they begin")
    midnight = regular[0] if open_day else 0  # where one trading date ends and the next begins
    found = hashlib.sha256(b"".join(part.tobytes() for part in (begins, ends, days)))
    source = document["source"]
    return Sessions(
        begins,
        ends,
        days,
        known_from=utc(first + open_day, midnight),
        known_until=utc(last + 1 + open_day, midnight),
        ahead_us=(DAY_US - midnight - behind) if open_day else 0,
        digest=found.hexdigest()[:16],
        source=f"{source['library']} {source['version']}, {source['calendar']}",
    )


@cache
def read_sessions(name: str, directory: Path = CALENDAR_DIR) -> Sessions:
    """The sessions of config/calendars/<name>.json. Raises CalendarError."""
    path = directory / f"{name}.json"
    try:
        return from_document(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CalendarError(f"cannot read calendar {path}: {error}") from error


def _day(text: str) -> int:
    return (date.fromisoformat(text) - _EPOCH).days


def _hours(texts: list[str]) -> tuple[int, int]:
    begin, end = (time.fromisoformat(text) for text in texts)
    return (begin.hour * 60 + begin.minute) * 60_000_000, (end.hour * 60 + end.minute) * 60_000_000
