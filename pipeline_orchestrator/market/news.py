"""`N` lines of Level 1: headlines. The story itself is asked for at the Lookup port under its id."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

_EASTERN = ZoneInfo("America/New_York")


@dataclass(frozen=True, slots=True)
class Headline:
    """`time_us` = microseconds UTC of the feed's Eastern stamp; None where it cannot be read."""

    distributor: str
    story_id: str
    symbols: tuple[str, ...]
    time_us: int | None
    text: str


def parse_headline(line: str) -> Headline:
    """Read one `N` line; only its first five commas separate, the headline may hold more. Raises ValueError."""
    fields = line.rstrip("\r\n").split(",", 5)
    if fields[0] != "N" or len(fields) < 6:
        raise ValueError(f"no N line: {line[:40]!r}")
    _, distributor, story, symbols, stamp, text = fields
    names = tuple(name for name in symbols.split(":") if name)
    return Headline(distributor, story, names, _moment(stamp), text)


def _moment(stamp: str) -> int | None:
    try:
        local = datetime.strptime(stamp.strip(), "%Y%m%d %H%M%S")
    except ValueError:
        return None
    return int(local.replace(tzinfo=_EASTERN).timestamp()) * 1_000_000
