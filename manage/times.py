"""Points in time as people type them. Standard library only."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

_AGO = re.compile(r"(?:\d+(?:\.\d+)?[smhd])+")


def instant_us(text: str) -> int:
    """Microseconds UTC of `2026-03-02T14:30:00Z`, with any offset, or without one (UTC); or `10m` = so long ago.

    Raises ValueError with what can be written.
    """
    from config.durations import seconds

    text = text.strip()
    if _AGO.fullmatch(text):
        return time.time_ns() // 1000 - int(seconds(text) * 1_000_000)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is no time; write 2026-03-02T14:30:00Z, 2026-03-02T09:30:00-05:00, or 10m for ten minutes ago"
        ) from None
    found = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    since = found - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def instant_text(time_us: int | None) -> str | None:
    """RFC 3339 in UTC, to the microsecond; None = unknown."""
    if time_us is None:
        return None
    moment = datetime.fromtimestamp(time_us // 1_000_000, tz=UTC).replace(microsecond=time_us % 1_000_000)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
