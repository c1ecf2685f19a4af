"""History requests as they come over the wire, read into one form."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from infrastructure.simulator import history_bars as bars
from infrastructure.simulator.columns import SECOND_US
from infrastructure.simulator.eastern import midnight_us
from infrastructure.simulator.lookup_behaviour import ERRORS

TICKS: Final = "ticks"
INTERVALS: Final = "intervals"
DAYS: Final = "days"
WEEKS: Final = "weeks"
MONTHS: Final = "months"

_SPAN: Final = ("begin", "end")
_FILTERS: Final = ("begin_filter", "end_filter")
_LIMIT: Final = ("most",)
_ANSWER: Final = ("direction", "id", "per_send")
_BAR: Final = ("interval_type", "label")
_DAILY: Final = ("symbol", *_LIMIT, *_ANSWER, "partial")

# Fields of each command; those up to the number may not be left out.
COMMANDS: Final[dict[str, tuple[str, int, tuple[str, ...]]]] = {
    "HTX": (TICKS, 1, ("symbol", *_LIMIT, *_ANSWER)),
    "HTD": (TICKS, 2, ("symbol", "days", *_LIMIT, *_FILTERS, *_ANSWER)),
    "HTT": (TICKS, 3, ("symbol", *_SPAN, *_LIMIT, *_FILTERS, *_ANSWER)),
    "HIX": (INTERVALS, 2, ("symbol", "interval", *_LIMIT, *_ANSWER, *_BAR)),
    "HID": (INTERVALS, 3, ("symbol", "interval", "days", *_LIMIT, *_FILTERS, *_ANSWER, *_BAR)),
    "HIT": (INTERVALS, 4, ("symbol", "interval", *_SPAN, *_LIMIT, *_FILTERS, *_ANSWER, *_BAR)),
    "HDX": (DAYS, 1, _DAILY),
    "HWX": (WEEKS, 1, _DAILY),
    "HMX": (MONTHS, 1, _DAILY),
    "HDT": (DAYS, 3, ("symbol", *_SPAN, *_LIMIT, *_ANSWER, "partial")),
}
_TYPES: Final = {"": bars.SECONDS, "s": bars.SECONDS, "v": bars.VOLUME, "t": bars.TICKS}


class RequestError(Exception):
    """The request is answered with an error: `text` of lookup_behaviour.ERRORS, for request `id`."""

    def __init__(self, error: str, request_id: str) -> None:
        super().__init__(error)
        self.text, self.id = ERRORS[error], request_id


@dataclass(frozen=True, slots=True)
class Request:
    """One history request. None = the field was left empty.

    `begin` and `end` are microseconds of the first moment of the named second or day, `*_filter` seconds of the day.
    """

    kind: str
    symbol: str
    id: str = ""
    most: int | None = None
    days: int | None = None
    begin: int | None = None
    end: int | None = None
    begin_filter: int | None = None
    end_filter: int | None = None
    oldest_first: bool = False
    per_send: int = 0
    interval: int = 0
    interval_type: int = bars.SECONDS
    label_begin: bool | None = None
    partial: bool | None = None


def parse(line: str) -> Request:
    """Read a line whose first field is one of COMMANDS. Raises RequestError.

    Fields from the last given one on may be left out; one extra empty field at the end is allowed.
    """
    command, *texts = line.split(",")
    kind, needed, names = COMMANDS[command.strip().upper()]
    if len(texts) == len(names) + 1 and not texts[-1].strip():
        texts.pop()
    given = dict(zip(names, (text.strip() for text in texts), strict=False))
    request_id = given.get("id", "")
    if not needed <= len(texts) <= len(names) or not given["symbol"]:
        raise RequestError("parameters", request_id)
    try:
        return _request(kind, given, daily="begin" in names and kind == DAYS)
    except ValueError as error:
        raise RequestError("syntax", request_id) from error


def _request(kind: str, given: dict[str, str], *, daily: bool) -> Request:
    direction, label, partial = (_choice(given.get(name, "")) for name in ("direction", "label", "partial"))
    moment = _day if daily else _second
    if kind == INTERVALS and not given["interval"]:
        raise ValueError("no interval")
    return Request(
        kind=kind,
        symbol=given["symbol"].upper(),
        id=given.get("id", ""),
        most=_count(given.get("most", ""), 1),
        days=_count(given.get("days", ""), 1),
        begin=moment(given.get("begin", "")),
        end=moment(given.get("end", "")),
        begin_filter=_clock(given.get("begin_filter", "")),
        end_filter=_clock(given.get("end_filter", "")),
        oldest_first=bool(direction),
        per_send=_count(given.get("per_send", ""), 0) or 0,
        interval=_count(given.get("interval", ""), 1) or 0,
        interval_type=_interval_type(given.get("interval_type", "")),
        label_begin=label,
        partial=partial,
    )


def _count(text: str, least: int) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 12 and int(text) >= least):
        raise ValueError(text)
    return int(text)


def _choice(text: str) -> bool | None:
    if text not in ("", "0", "1"):
        raise ValueError(text)
    return None if not text else text == "1"


def _interval_type(text: str) -> int:
    if text.lower() not in _TYPES:
        raise ValueError(text)
    return _TYPES[text.lower()]


def _second(text: str) -> int | None:
    if not text:
        return None
    if len(text) != 15:
        raise ValueError(text)
    at = datetime.strptime(text, "%Y%m%d %H%M%S")
    return midnight_us(at.date()) + (at.hour * 3600 + at.minute * 60 + at.second) * SECOND_US


def _day(text: str) -> int | None:
    if not text:
        return None
    if len(text) != 8 or not text.isdigit():
        raise ValueError(text)
    return midnight_us(date(int(text[:4]), int(text[4:6]), int(text[6:])))


def _clock(text: str) -> int | None:
    if not text:
        return None
    if len(text) != 6:
        raise ValueError(text)
    at = datetime.strptime(text, "%H%M%S")
    return at.hour * 3600 + at.minute * 60 + at.second
