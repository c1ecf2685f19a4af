"""What can be asked on the Lookup port, as values that know their own line.

Builders check everything before a byte is sent and raise ValueError naming the value. Common to history: `symbol` is
upper-cased; `max_points` None = no limit, else the *newest* so many of the span are sent, whatever the order;
`newest_first` is the order of the answer; `per_send` rows go to the socket at a time (0, "hold everything until it is
complete", is refused). Spans are instants (aware datetime, or microseconds since 1970 UTC); see wire_time for how
they become Eastern seconds. `begin_filter` and `end_filter` are Eastern times of every day, in whole seconds.
The label of interval bars is always sent, because the feed's versions differ in its default.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, time
from typing import Literal

from pipeline_orchestrator.lookup.wire_time import Instant, begin_text, day_text, end_text, microseconds

RowKind = Literal["ticks", "intervals", "days", "table", "search"]
IntervalUnit = Literal["s", "v", "t"]  # seconds, volume, ticks

PER_SEND = 500
MAX_PER_SEND = 5000
MAX_NUMBER = (1 << 31) - 1
TABLES = {
    "SLM": "listed markets",
    "STC": "trade conditions",
    "SST": "security types",
    "SSC": "SIC codes",
    "SNC": "NAICS codes",
}
_SYMBOL = re.compile(r"[!#-+\--~]{1,30}")  # printable, no blank, no comma, no quotation mark
_ID = re.compile(r"[!-+\--~]{1,64}")
_TEXT = re.compile(r"[ -+\--~]{1,100}")


@dataclass(frozen=True, slots=True)
class Request:
    """One request: `command,*before,<request id>,*after`. `rows` says how its answer is read.

    `begin_us`/`end_us`: the span asked for, where there is one (they settle the repeated hour of a row's time).
    """

    command: str
    rows: RowKind
    before: tuple[str, ...]
    after: tuple[str, ...] = ()
    newest_first: bool = False
    begin_us: int | None = None
    end_us: int | None = None

    def line(self, request_id: str) -> bytes:
        """The line to send. Raises ValueError for an id that could not be told apart in an answer."""
        if not _ID.fullmatch(request_id):
            raise ValueError(f"request id {request_id!r}: 1 to 64 printable characters without blank and comma")
        return ",".join((self.command, *self.before, request_id, *self.after)).encode("ascii") + b"\r\n"

    def __str__(self) -> str:
        return " ".join(word for word in (self.command, *self.before[:3]) if word)


def newest_ticks(symbol: str, max_points: int, *, newest_first: bool = False, per_send: int = PER_SEND) -> Request:
    """HTX: the newest ticks."""
    before = (_symbol(symbol), _number("max_points", max_points), _order(newest_first))
    return Request("HTX", "ticks", before, (_per_send(per_send),), newest_first)


def ticks_of_days(
    symbol: str, days: int, *, max_points: int | None = None, begin_filter: time | None = None,
    end_filter: time | None = None, newest_first: bool = False, per_send: int = PER_SEND,
) -> Request:  # fmt: skip
    """HTD: ticks of the last so many trading days, today included."""
    before = (
        _symbol(symbol), _number("days", days), _limit(max_points), *_filters(begin_filter, end_filter),
        _order(newest_first),
    )  # fmt: skip
    return Request("HTD", "ticks", before, (_per_send(per_send),), newest_first)


def ticks_between(
    symbol: str, begin: Instant, end: Instant, *, max_points: int | None = None, begin_filter: time | None = None,
    end_filter: time | None = None, newest_first: bool = False, per_send: int = PER_SEND,
) -> Request:  # fmt: skip
    """HTT: ticks of a span. Ticks within the second of `end` may come too: the answer is not cut here."""
    span = _span(begin, end)
    before = (
        _symbol(symbol), begin_text(span[0]), end_text(span[1]), _limit(max_points),
        *_filters(begin_filter, end_filter), _order(newest_first),
    )  # fmt: skip
    return Request("HTT", "ticks", before, (_per_send(per_send),), newest_first, *span)


def newest_intervals(
    symbol: str, interval: int, max_points: int, *, unit: IntervalUnit = "s", label_at_begin: bool = True,
    newest_first: bool = False, per_send: int = PER_SEND,
) -> Request:  # fmt: skip
    """HIX: the newest interval bars."""
    before = (
        _symbol(symbol), _interval(interval, unit), _number("max_points", max_points), _order(newest_first)
    )  # fmt: skip
    return Request("HIX", "intervals", before, _bars(per_send, unit, label_at_begin), newest_first)


def intervals_of_days(
    symbol: str, interval: int, days: int, *, unit: IntervalUnit = "s", label_at_begin: bool = True,
    max_points: int | None = None, begin_filter: time | None = None, end_filter: time | None = None,
    newest_first: bool = False, per_send: int = PER_SEND,
) -> Request:  # fmt: skip
    """HID: interval bars of the last so many trading days."""
    before = (
        _symbol(symbol), _interval(interval, unit), _number("days", days), _limit(max_points),
        *_filters(begin_filter, end_filter), _order(newest_first),
    )  # fmt: skip
    return Request("HID", "intervals", before, _bars(per_send, unit, label_at_begin), newest_first)


def intervals_between(
    symbol: str, interval: int, begin: Instant, end: Instant, *, unit: IntervalUnit = "s",
    label_at_begin: bool = True, max_points: int | None = None, begin_filter: time | None = None,
    end_filter: time | None = None, newest_first: bool = False, per_send: int = PER_SEND,
) -> Request:  # fmt: skip
    """HIT: interval bars of a span."""
    span = _span(begin, end)
    before = (
        _symbol(symbol), _interval(interval, unit), begin_text(span[0]), end_text(span[1]), _limit(max_points),
        *_filters(begin_filter, end_filter), _order(newest_first),
    )  # fmt: skip
    return Request("HIT", "intervals", before, _bars(per_send, unit, label_at_begin), newest_first, *span)


def newest_days(
    symbol: str, max_points: int, *, newest_first: bool = False, per_send: int = PER_SEND,
    include_partial: bool | None = None,
) -> Request:  # fmt: skip
    """HDX: the newest daily bars; `include_partial` None leaves today's unfinished bar to the feed's default."""
    return _newest("HDX", symbol, max_points, newest_first, per_send, include_partial)


def newest_weeks(
    symbol: str, max_points: int, *, newest_first: bool = False, per_send: int = PER_SEND,
    include_partial: bool | None = None,
) -> Request:  # fmt: skip
    """HWX: the newest weekly bars."""
    return _newest("HWX", symbol, max_points, newest_first, per_send, include_partial)


def newest_months(
    symbol: str, max_points: int, *, newest_first: bool = False, per_send: int = PER_SEND,
    include_partial: bool | None = None,
) -> Request:  # fmt: skip
    """HMX: the newest monthly bars."""
    return _newest("HMX", symbol, max_points, newest_first, per_send, include_partial)


def days_between(
    symbol: str, begin: date, end: date, *, max_points: int | None = None, newest_first: bool = False,
    per_send: int = PER_SEND, include_partial: bool | None = None,
) -> Request:  # fmt: skip
    """HDT: daily bars of a span of dates, both included."""
    if begin > end:
        raise ValueError(f"the span begins on {begin} and ends before, on {end}")
    before = (_symbol(symbol), day_text(begin), day_text(end), _limit(max_points), _order(newest_first))
    return Request("HDT", "days", before, (_per_send(per_send), *_partial(include_partial)), newest_first)


def reference_table(name: str) -> Request:
    """SLM, STC, SST, SSC or SNC: a whole table of codes."""
    if name not in TABLES:
        raise ValueError(f"no table {name!r}; there are {', '.join(f'{key} ({text})' for key, text in TABLES.items())}")
    return Request(name, "table", ())


def symbol_search(
    text: str, *, in_description: bool = False, markets: tuple[int, ...] = (), security_types: tuple[int, ...] = ()
) -> Request:
    """SBF: symbols whose name (or description) holds a text, of these listed markets or of these security types."""
    if not _TEXT.fullmatch(text) or not text.strip():
        raise ValueError(f"search text {text!r}: 1 to 100 printable characters without comma")
    if markets and security_types:
        raise ValueError("a search is narrowed by markets or by security types, not by both")
    wanted = " ".join(_number("id", each) for each in markets or security_types)
    by = "e" if markets else "t" if security_types else ""
    return Request("SBF", "search", ("d" if in_description else "s", text, by, wanted))


def _newest(
    command: str, symbol: str, max_points: int, newest_first: bool, per_send: int, include_partial: bool | None
) -> Request:
    before = (_symbol(symbol), _number("max_points", max_points), _order(newest_first))
    return Request(command, "days", before, (_per_send(per_send), *_partial(include_partial)), newest_first)


def _symbol(symbol: str) -> str:
    name = symbol.strip().upper()
    if not _SYMBOL.fullmatch(name):
        raise ValueError(f"symbol {symbol!r}: 1 to 30 printable characters without blank, comma and quotation mark")
    return name


def _number(name: str, value: int, most: int = MAX_NUMBER) -> str:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} {value!r} is no whole number")
    if not 1 <= value <= most:
        raise ValueError(f"{name} {value} is not between 1 and {most:,}")
    return str(value)


def _limit(max_points: int | None) -> str:
    return "" if max_points is None else _number("max_points", max_points)


def _per_send(value: int) -> str:
    return _number("per_send", value, MAX_PER_SEND)


def _order(newest_first: bool) -> str:
    return "0" if newest_first else "1"


def _interval(interval: int, unit: str) -> str:
    if unit not in {"s", "v", "t"}:
        raise ValueError(f"interval unit {unit!r} is none of s (seconds), v (volume), t (ticks)")
    return _number("interval", interval, 86_400 if unit == "s" else MAX_NUMBER)


def _bars(per_send: int, unit: str, label_at_begin: bool) -> tuple[str, str, str]:
    return _per_send(per_send), unit, "1" if label_at_begin else "0"


def _partial(include_partial: bool | None) -> tuple[str, ...]:
    return () if include_partial is None else ("1" if include_partial else "0",)


def _span(begin: Instant, end: Instant) -> tuple[int, int]:
    first, last = microseconds(begin, "begin"), microseconds(end, "end")
    if first > last:
        raise ValueError(f"the span begins {first - last} µs after its end")
    return first, last


def _filters(begin: time | None, end: time | None) -> tuple[str, str]:
    for name, value in (("begin_filter", begin), ("end_filter", end)):
        if value is not None and (value.microsecond or value.tzinfo is not None):
            raise ValueError(f"{name} {value}: an Eastern time of day in whole seconds, without zone")
    if begin is not None and begin == end:
        raise ValueError(f"begin_filter and end_filter are both {begin}: nothing would be left")
    return tuple("" if value is None else value.strftime("%H%M%S") for value in (begin, end))  # type: ignore[return-value]  # two of two
