"""How the Lookup port behaves: limits of the account, questions no recording settles, and faults on demand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, Final

from infrastructure.simulator.columns import DAY_US, SECOND_US
from infrastructure.simulator.eastern import midnight_us

ERRORS: Final = {
    "no_data": "!NO_DATA!,",
    "syntax": "!SYNTAX_ERROR!",
    "symbol": "Invalid symbol.",
    "parameters": "Invalid number of parameters.",
    "unauthorized": "Unauthorized user ID.",
    "too_many": "Too many simultaneous history requests",
    "history_away": "Could not connect to History socket.",
    "symbols_away": "Could not connect to SymbolLookup socket.",
}


@dataclass(frozen=True, slots=True)
class LookupBehaviour:
    """Plain values, each settable by name from text. Times of the market are seconds of its own clock.

    `every` chooses which history requests of the server meet `error`, `never_ends` and `cut_after_rows`: each n-th,
    so that a client's second try may succeed. A hole is a range of the Eastern wall clock without trades, both ends
    included: `CCYYMMDD HHMMSS-CCYYMMDD HHMMSS`, or `HHMMSS-HHMMSS` for every day. Holes and lag take trades out of
    ticks and interval bars; daily, weekly and monthly bars keep counting them.
    """

    history_bytes: int = 128 << 20  # ring of trades (7/8) and of daily bars (1/8), for the whole server
    requests_per_second: float = 50.0  # of all connections together, tables and searches not counted; 0 = no limit
    tick_days: int = 180  # calendar days that ticks reach back ...
    tick_days_in_session: int = 8  # ... and on weekdays from 09:30 to 16:30 Eastern
    end_inclusive: bool = True  # a trade stamped within the End second (or EndFilter's) is inside
    label_begin: bool = True  # stamp of interval bars where the request leaves LabelAtBeginning out
    needs_upstream: bool = True  # while the upstream link is down every request is answered with an error
    interleave: bool = False  # batches of several requests of one connection alternate
    lag_seconds: float = 0.0  # trades appear in history so much later than live
    holes: tuple[str, ...] = ()
    delay_seconds: float = 0.0  # wall time before the first line of an answer
    batch_delay_seconds: float = 0.0  # and before each further batch
    error: str = ""  # a name of ERRORS: the answer is this error
    never_ends: bool = False  # rows come, the end line does not
    cut_after_rows: int = -1  # after so many rows and half a line the connection is closed; -1 = never
    every: int = 1

    def __post_init__(self) -> None:
        if self.error and self.error not in ERRORS:
            raise ValueError(f"error is {self.error!r}, must be one of {', '.join(ERRORS)}")
        for name in ("history_bytes", "every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be 1 or more")
        for hole in self.holes:
            hole_bounds(hole)
        for name in ("requests_per_second", "lag_seconds", "delay_seconds", "batch_delay_seconds", "tick_days"):
            if not 0 <= getattr(self, name) < 1e9:
                raise ValueError(f"{name} is {getattr(self, name)}, must be 0 or more")

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any], base: LookupBehaviour | None = None) -> LookupBehaviour:
        """`base` (all defaults) with other values, parsed JSON or text that is read by the type of the field.

        Raises ValueError naming the bad one.
        """
        kinds = {each.name: type(each.default) for each in fields(cls)}
        values: dict[str, Any] = {}  # Any: values of the fields
        for name, value in given.items():
            if name not in kinds:
                raise ValueError(f"unknown lookup setting {name!r}; known: {', '.join(kinds)}")
            values[name] = _value(name, value, kinds[name])
        return replace(base or cls(), **values)


def hole_bounds(text: str) -> tuple[int, int, bool]:
    """(first microsecond, first one after, every day) of a hole. Raises ValueError."""
    first, _, last = text.partition("-")
    for form, daily in (("%Y%m%d %H%M%S", False), ("%H%M%S", True)):
        try:
            begin, end = (datetime.strptime(part, form) for part in (first, last))
        except ValueError:
            continue
        bounds = [(0 if daily else midnight_us(at.date())) + _of_day(at) for at in (begin, end)]
        if bounds[1] >= bounds[0]:
            return bounds[0], bounds[1] + SECOND_US, daily
    raise ValueError(f"{text!r} is no hole: CCYYMMDD HHMMSS-CCYYMMDD HHMMSS or HHMMSS-HHMMSS, the later one last")


def _of_day(at: datetime) -> int:
    return (at.hour * 3600 + at.minute * 60 + at.second) * SECOND_US % DAY_US


def _value(name: str, value: Any, kind: type) -> Any:  # Any: see from_mapping
    if kind is tuple:
        return tuple([value] if isinstance(value, str) else value)
    if kind is bool and isinstance(value, str):
        if value.lower() not in ("", "1", "0", "on", "off", "true", "false"):
            raise ValueError(f"{name} is {value!r}, must be on or off")
        return value.lower() in ("", "1", "on", "true")
    try:
        if kind is int and isinstance(value, float) and value != int(value):
            raise ValueError(value)
        return kind(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is {value!r}, must be of type {kind.__name__}") from error
