"""Durations as people write them: `45`, `45s`, `5m`, `1h30m`, `250ms`. Standard library only."""

from __future__ import annotations

import math
import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_WHOLE = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+", re.ASCII)


def seconds(text: str) -> float:
    """Seconds meant by `text`; a bare number means seconds. Raises ValueError saying what is accepted."""
    stripped = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", stripped, re.ASCII):
        total = float(stripped)
    elif _WHOLE.fullmatch(stripped):
        total = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(stripped))
    else:
        raise ValueError(f"{text!r} is not a duration; write 45, 45s, 5m or 1h30m")
    if not math.isfinite(total):
        raise ValueError(f"{text!r} is too long a duration")
    return total


def spoken(value: float) -> str:
    """`value` seconds for people, with the unit: `45 s`, `1 h 30 min`, `250 ms`."""
    if value < 1:
        return f"{value * 1000:.0f} ms" if value else "0 s"
    if value < 60:
        return f"{value:.3g} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number)
