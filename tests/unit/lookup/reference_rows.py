"""What a row of history means, in plain Python with zoneinfo: what the kernel is compared with."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

EASTERN = ZoneInfo("America/New_York")
TICKS = (
    "event_time_us", "price", "size", "total_volume", "bid", "ask", "tick_id", "basis", "market_center", "conditions",
    "aggressor", "day_code",
)  # fmt: skip
INTERVALS = ("label_time_us", "high", "low", "open", "close", "total_volume", "volume", "trades")
DAYS = ("date", "high", "low", "open", "close", "volume", "open_interest")
COLUMNS = {"ticks": TICKS, "intervals": INTERVALS, "days": DAYS}
REQUIRED = {"event_time_us", "label_time_us", "date", "price", "size", "high", "low", "open", "close"}
PRICES = {"price", "bid", "ask", "high", "low", "open", "close"}
LARGEST = {"market_center": 2**31 - 1, "aggressor": 2**31 - 1, "day_code": 2**31 - 1, "tick_id": 2**64 - 1}
TIME = re.compile(rb"([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{0,6}))?\Z")


class Refusal(Exception):
    pass


def places(rows: str, protocol: str) -> list[str | None]:
    columns: list[str | None] = list(COLUMNS[rows])
    if rows == "ticks" and protocol in {"4.9", ""}:
        return [*columns[:7], None, None, "basis"]
    if rows == "ticks" and protocol not in {"6.2", "6.1"}:
        return columns[:-2]
    if rows == "intervals" and protocol in {"4.9", ""}:
        return columns[:-1]
    return columns


class Reference:
    def __init__(self, rows: str, protocol: str, request_id: bytes = b"", newest_first: bool = False) -> None:
        self.names, self.places = COLUMNS[rows], places(rows, protocol)
        self.prefix = request_id + b"," if request_id else b""
        self.tag = b"LH," if protocol == "6.2" else b""
        self.newest_first = newest_first
        self.above: int | None = None

    def parse(self, data: bytes) -> tuple[list[dict[str, Any]], list[tuple[int, bytes, str]]]:
        rows, refused = [], []
        lines = data.split(b"\n")
        for number, raw in enumerate(lines if lines[-1] else lines[:-1]):
            line = raw.removesuffix(b"\r")
            try:
                rows.append(self.row(line))
            except Refusal as why:
                refused.append((number, line, str(why)))
        return rows, refused

    def row(self, line: bytes) -> dict[str, Any]:
        if not line:
            raise Refusal("empty_line")
        if not line.startswith(self.prefix):
            raise Refusal("foreign_id")
        line = line[len(self.prefix) :]
        if not line.startswith(self.tag):
            raise Refusal("missing_tag")
        fields = line[len(self.tag) :].split(b",")
        row: dict[str, Any] = dict.fromkeys(self.names)
        stamp = None
        for at, name in enumerate(self.places):
            text = fields[at] if at < len(fields) else b""
            if name is None:
                continue
            if not text:
                if name in REQUIRED:
                    raise Refusal("missing_field")
                continue
            row[name] = self.value(name, text)
            if name.endswith("_us"):
                stamp = row[name]
        self.above = stamp if stamp is not None else self.above
        return row

    def value(self, name: str, text: bytes) -> Any:
        if name in {"event_time_us", "label_time_us"}:
            return self.utc(text)
        if name == "date":
            day = a_date(text)
            if len(text) > 10:
                if text[10:11] != b" ":
                    raise Refusal("bad_date")
                time_of_day(text[11:])
            return exists(day)
        if name in PRICES:
            return price(text)
        if name == "basis":
            if not re.fullmatch(rb"[A-Z]", text):
                raise Refusal("bad_value")
            return text.decode()
        if name == "conditions":
            if not re.fullmatch(rb"[0-9A-Za-z]{1,64}", text):
                raise Refusal("bad_text")
            return text.decode()
        if not re.fullmatch(rb"[0-9]+", text):
            raise Refusal("bad_number")
        value = number(text)
        if value > LARGEST.get(name, 2**63 - 1):
            raise Refusal("overflow")
        if name == "tick_id":
            return value - 2**64 if value >= 2**63 else value
        if name == "day_code":
            if value > 31:
                raise Refusal("bad_value")
            return value or None
        return value

    def utc(self, text: bytes) -> int:
        day = a_date(text)
        if text[10:11] != b" ":
            raise Refusal("bad_time")
        tod = time_of_day(text[11:])
        exists(day)
        wall = datetime(*day) + timedelta(microseconds=tod)
        first, second = (eastern(wall, fold) for fold in (0, 1))
        if first > second:  # the hour that does not exist: standard time
            return first
        if self.newest_first:
            return second if self.above is None or second <= self.above else first
        return first if self.above is None or first >= self.above else second


def eastern(wall: datetime, fold: int) -> int:
    """UTC of a wall time; years before 1987 follow the rule of 1987 (see market.eastern)."""
    if wall.year >= 1987:
        return instant(wall.replace(tzinfo=EASTERN, fold=fold))
    begins, ends = (datetime(wall.year, month, day, 2) for month, day in ((4, 1), (10, 25)))
    begins, ends = (at + timedelta(days=(6 - at.weekday()) % 7) for at in (begins, ends))
    again = ends - timedelta(hours=1) <= wall < ends and fold == 1
    daylight = begins + timedelta(hours=1) <= wall < ends and not again
    return instant((wall + timedelta(hours=4 if daylight else 5)).replace(tzinfo=UTC))


def instant(moment: datetime) -> int:
    return (moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def a_date(text: bytes) -> tuple[int, int, int]:
    match = re.match(rb"([0-9]{4})-([0-9]{2})-([0-9]{2})", text)
    if match is None:
        raise Refusal("bad_date")
    return int(match[1]), int(match[2]), int(match[3])


def exists(day: tuple[int, int, int]) -> date:
    try:
        found = date(*day)
    except ValueError:
        raise Refusal("bad_date") from None
    if not 1900 <= found.year <= 2199:
        raise Refusal("bad_date")
    return found


def time_of_day(text: bytes) -> int:
    match = TIME.match(text)
    if match is None or int(match[1]) > 23 or int(match[2]) > 59 or int(match[3]) > 60:
        raise Refusal("bad_time")
    return ((int(match[1]) * 60 + int(match[2])) * 60 + int(match[3])) * 1_000_000 + int(
        (match[4] or b"").ljust(6, b"0")
    )


def price(text: bytes) -> int:
    match = re.fullmatch(rb"(-?)([0-9]*)(?:\.([0-9]*))?", text)
    if match is None or not (match[2] or match[3]):
        raise Refusal("bad_number")
    decimals = match[3] or b""
    if len(decimals) > 6:
        raise Refusal("too_precise")
    value = number(match[2] + decimals.ljust(6, b"0"))
    if value > 2**63 - 1:
        raise Refusal("overflow")
    return -value if match[1] else value


def number(digits: bytes) -> int:
    """int() of any number of digits; what is far beyond 64 bits becomes one value that overflows everywhere."""
    counting = digits.lstrip(b"0")
    return int(counting or b"0") if len(counting) <= 24 else 1 << 80
