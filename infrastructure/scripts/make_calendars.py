"""Writes config/calendars/*.json from libraries of exchange calendars; for development, never at run time.

    python infrastructure/scripts/make_calendars.py

A file holds regular hours on the exchange's wall clock and every day that differs, so that a change reads as a line.
What a library has wrong is corrected here, by a rule that the file repeats.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import date, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas_market_calendars as market_calendars

TARGET = Path(__file__).resolve().parents[2] / "config" / "calendars"
GOOD_FRIDAY = (
    "Good Friday has a session (to 08:15) only where it is the first Friday of its month, the day of the US "
    "employment report; the library gives it one every year"
)
MOURNING = (date(2025, 1, 9), "08:30", "2025-01-09, day of mourning: session to 08:30, which the library does not know")
Hours = tuple[str, str]


def schedule(library_name: str, first: date, last: date) -> dict[date, tuple[int, Hours]]:
    """Each session's date -> on which day it opens (0 or -1), and its hours on the wall clock of its exchange."""
    calendar: Any = market_calendars.get_calendar(library_name)  # Any: the library has no types
    frame = calendar.schedule(first, last)
    found = {}
    for label, begin, end in zip(frame.index, frame["market_open"], frame["market_close"], strict=True):
        day, opens, closes = label.date(), begin.tz_convert(calendar.tz), end.tz_convert(calendar.tz)
        if closes.date() != day:
            raise SystemExit(f"{library_name}: the session of {day} does not close on its day")
        found[day] = ((opens.date() - day).days, (f"{opens:%H:%M}", f"{closes:%H:%M}"))
    return found


def correct_futures(sessions: dict[date, tuple[int, Hours]]) -> None:
    """See GOOD_FRIDAY and MOURNING."""
    day, closes, _ = MOURNING
    opened, (opens, _) = sessions[day]
    sessions[day] = opened, (opens, closes)
    for day, (_, (_, closes)) in list(sessions.items()):
        if closes == "08:15" and day.weekday() == 4 and day.day > 7:
            del sessions[day]


def document(name: str, title: str, zone: str, library_name: str, first: date, last: date) -> dict[str, Any]:
    """One file's content."""
    sessions = schedule(library_name, first, last)
    corrections = []
    if name == "CME":
        correct_futures(sessions)
        corrections = [GOOD_FRIDAY, MOURNING[2]]
    days = Counter(day for day, _ in sessions.values())
    if len(days) != 1:
        raise SystemExit(f"{name}: sessions open on different days: {days}")
    regular = Counter(hours for _, hours in sessions.values()).most_common(1)[0][0]
    every = (first + timedelta(days=n) for n in range((last - first).days + 1))
    return {
        "name": name,
        "title": title,
        "source": {
            "library": "pandas_market_calendars",
            "version": version("pandas_market_calendars"),
            "calendar": library_name,
            "corrections": corrections,
        },
        "time_zone": zone,
        "first_date": str(first),
        "last_date": str(last),
        "open_day": next(iter(days)),
        "hours": list(regular),
        "closed_weekdays": [str(day) for day in every if day.weekday() < 5 and day not in sessions],
        "other_hours": {str(day): list(hours) for day, (_, hours) in sessions.items() if hours != regular},
    }


def main() -> None:
    """Write both files."""
    made = (
        document("XNYS", "New York Stock Exchange, regular session", "America/New_York", "NYSE",
                 date(2000, 1, 1), date(2028, 12, 31)),
        document("CME", "CME Globex, equity index futures", "America/Chicago", "CME Globex Equity",
                 date(2021, 6, 28), date(2027, 12, 31)),
    )  # fmt: skip
    for content in made:
        path = TARGET / f"{content['name']}.json"
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
