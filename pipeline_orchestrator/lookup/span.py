"""A span of history as a person asks for it: ticks or bars, from a moment up to, not including, another.

The feed is asked for somewhat more (whole seconds, the end's second, a repeated hour), and what lies outside is cut. It
takes the newest so many of that: where cut rows were among them, it is asked again for more (see `rows_of`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline_orchestrator.lookup import requests
from pipeline_orchestrator.lookup.client import LookupClient
from pipeline_orchestrator.lookup.requests import Request
from pipeline_orchestrator.lookup.row_parser import RefusedRow
from pipeline_orchestrator.lookup.wire_time import (
    EPOCH,
    eastern_date,
    eastern_midnight_us,
    microseconds,
    wall_to_utc_us,
)

MORE = 100  # rows, at least, that the feed is asked for once more
TIME_COLUMNS = {"ticks": "event_time_us", "intervals": "label_time_us", "days": "date"}


def moment(text: str) -> int:
    """Microseconds UTC of `YYYY-MM-DD[ HH:MM[:SS]]` or ISO 8601; without zone it is US Eastern.

    Raises ValueError saying what is accepted.
    """
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{text!r} is no time; write 2024-01-02, '2024-01-02 09:30' or 2024-01-02T14:30:00Z") from None
    return microseconds(found) if found.tzinfo is not None else microseconds(wall_to_utc_us(found))


@dataclass(frozen=True)
class Span:
    """`begin_us` None = the newest `limit` rows. `bar_seconds` 0 and not `daily` = ticks. Raises ValueError."""

    symbol: str
    begin_us: int | None
    end_us: int
    bar_seconds: int = 0
    daily: bool = False
    limit: int | None = None
    request: Request = field(init=False)

    def __post_init__(self) -> None:
        if self.begin_us is not None and self.begin_us >= self.end_us:
            raise ValueError("the span is empty: its end is not after its begin")
        object.__setattr__(self, "request", self.request_of(self.limit))

    @property
    def name(self) -> str:
        """The symbol as it is sent."""
        return self.request.before[0]

    def schema(self, of_rows: pa.Schema) -> pa.Schema:
        """The schema of what `within` gives."""
        return of_rows.insert(0, pa.field("symbol", pa.string(), nullable=False))

    def within(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """The rows within the span, with the symbol in front."""
        if self.begin_us is not None:
            times, low, high = rows.column(TIME_COLUMNS[self.request.rows]), self.begin_us, self.end_us
            if self.request.rows == "days":
                times = times.cast(pa.int32())
                low, high = _first_day(low), _first_day(high)
            kept = pc.and_(pc.greater_equal(times, low), pc.less(times, high))
            rows = rows.filter(kept)
        names = pa.DictionaryArray.from_arrays(_zeros(len(rows)), pa.array([self.name])).dictionary_decode()
        return pa.RecordBatch.from_arrays([names, *rows.columns], schema=self.schema(rows.schema))

    def request_of(self, points: int | None) -> Request:
        """What is sent; the feed gives the newest `points` rows of it, None = all."""
        if self.begin_us is None:
            if points is None:
                raise ValueError("without a begin the newest rows are asked for: say how many")
            if self.daily:
                return requests.newest_days(self.symbol, points)
            if self.bar_seconds:
                return requests.newest_intervals(self.symbol, self.bar_seconds, points)
            return requests.newest_ticks(self.symbol, points)
        if self.daily:
            days = eastern_date(self.begin_us), eastern_date(self.end_us)
            return requests.days_between(self.symbol, *days, max_points=points)
        if self.bar_seconds:
            return requests.intervals_between(
                self.symbol, self.bar_seconds, self.begin_us, self.end_us, max_points=points
            )
        return requests.ticks_between(self.symbol, self.begin_us, self.end_us, max_points=points)

    def __str__(self) -> str:
        what = "daily bars" if self.daily else f"bars of {self.bar_seconds} s" if self.bar_seconds else "ticks"
        if self.begin_us is None:
            return f"{self.name}, {what}, the newest {self.limit:,}"
        return f"{self.name}, {what}, {_shown(self.begin_us)} to {_shown(self.end_us)}"


async def rows_of(
    client: LookupClient, span: Span, longest_seconds: float
) -> AsyncGenerator[tuple[pa.RecordBatch, Sequence[RefusedRow]], None]:
    """Rows of the span, oldest first, as they come, and what could not be read.

    With a begin and a limit they come when the newest `limit` are known: those are held in memory, and the feed may be
    asked several times. Raises what `LookupClient.stream` raises; `longest_seconds` is for all of it.
    """
    if span.begin_us is None or span.limit is None:
        async for part in client.stream(span.request, longest_seconds=longest_seconds):
            yield span.within(part.rows), part.refused
        return
    loop, points = asyncio.get_running_loop(), span.limit
    deadline = loop.time() + longest_seconds
    while True:
        found: list[tuple[pa.RecordBatch, Sequence[RefusedRow]]] = []
        came = 0
        async for part in client.stream(span.request_of(points), longest_seconds=max(0.0, deadline - loop.time())):
            came += len(part.rows) + len(part.refused)
            found.append((span.within(part.rows), part.refused))
        over = sum(len(rows) for rows, _ in found) - span.limit
        if over >= 0 or came < points:
            break
        points = 2 * points + MORE
    for rows, refused in found:
        cut = min(max(0, over), len(rows))
        over -= cut
        yield rows.slice(cut), refused


def _first_day(us: int) -> int:
    """Days since 1970 of the first Eastern date that begins at or after an instant."""
    day = eastern_date(us)
    number = (day - date(1970, 1, 1)).days
    return number if eastern_midnight_us(day) == us else number + 1


def _zeros(count: int) -> Any:  # Any: pyarrow has no types
    return pa.Array.from_buffers(pa.int32(), count, [None, pa.py_buffer(bytes(4 * count))], 0)


def _shown(us: int) -> str:
    return (EPOCH + timedelta(microseconds=us)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
