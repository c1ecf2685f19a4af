"""One event = one line: UTC time, LEVEL, logger, event, key=value; or the same record as a JSON line.

Control characters are escaped in the last step, so that nothing a feed sends can forge a line. Repeated warnings
and errors: the first at once, then one per 10 s with the number that was left out. Nothing here raises into the
caller.
"""

from __future__ import annotations

import json
import logging
import re
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}
REPEAT_SECONDS = 10.0
_PLAIN = re.compile(r"[^\s\"=\\]+")
_ERROR_WORD = re.compile(r"\bERROR\b")


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One event; `at_us` is wall time in microseconds UTC."""

    at_us: int
    level: str
    logger: str
    event: str
    fields: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON-able values


Sink = Callable[[LogEvent], None]


def utc(at_us: int) -> str:
    """RFC 3339 with microseconds."""
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def escape(text: str) -> str:
    """Every character that is not printable as \\xNN or \\uNNNN."""
    if text.isprintable():
        return text
    return "".join(ch if ch.isprintable() else ch.encode("unicode_escape", "backslashreplace").decode() for ch in text)


def _value(value: Any) -> str:  # Any: JSON-able
    if isinstance(value, float):
        return f"{value:.6g}"
    if value is None:
        return "null"
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    if _PLAIN.fullmatch(text):
        return text
    return json.dumps(text, ensure_ascii=False)


def format_text(event: LogEvent) -> str:
    """`2026-11-21T10:40:32.123456Z INFO supervisor started id=processing/0 pid=4121`.

    The word ERROR stands only as a level, so that `grep ERROR` counts errors: inside a value it is written lower.
    """
    pairs = " ".join(f"{key}={_value(value)}" for key, value in event.fields.items())
    rest = f"{event.event} {pairs}".rstrip()
    if "ERROR" in rest:
        rest = _ERROR_WORD.sub("error", rest)
    return escape(f"{utc(event.at_us)} {event.level} {event.logger} {rest}")


def format_json(event: LogEvent) -> str:
    """The same record as one JSON object."""
    record = {"time": utc(event.at_us), "level": event.level, "logger": event.logger, "event": event.event}
    return json.dumps({**record, **{k: v for k, v in event.fields.items() if k not in record}}, default=str)


class RepeatLimiter:
    """Lets the first of equal warnings or errors pass, then one per period, with the count of those left out."""

    def __init__(self, period_s: float = REPEAT_SECONDS, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._period, self._monotonic = period_s, monotonic
        self._seen: dict[tuple[str, str, str], tuple[float, int]] = {}

    def admit(self, event: LogEvent, key: str = "") -> LogEvent | None:
        """The event to write (with suppressed=N where some were left out), or None. `key` defaults to the event."""
        if LEVELS.get(event.level, 0) < LEVELS["WARNING"]:
            return event
        identity, now = (event.logger, event.level, key or event.event), self._monotonic()
        passed_at, left_out = self._seen.get(identity, (-self._period, 0))
        if now - passed_at < self._period:
            self._seen[identity] = (passed_at, left_out + 1)
            return None
        if len(self._seen) > 1000:
            self._seen = {k: v for k, v in self._seen.items() if now - v[0] < self._period or v[1]}
        self._seen[identity] = (now, 0)
        if left_out:
            return replace(event, fields={**event.fields, "suppressed": left_out})
        return event


class LoggingBridge(logging.Handler):
    """Standard logging -> `sink`. Extra attributes given as `extra={"fields": {...}}` become key=value."""

    def __init__(self, sink: Sink, level: int = logging.INFO) -> None:
        super().__init__(level)
        self._sink, self._limiter = sink, RepeatLimiter()

    def emit(self, record: logging.LogRecord) -> None:
        """Never raises: a record that cannot be formatted is passed on as its template."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            message = str(record.msg)
        fields: dict[str, Any] = dict(getattr(record, "fields", {}))
        if record.exc_info and record.exc_info[1] is not None:
            fields["exception"] = one_line(record.exc_info[1])
            fields["at"] = where(record.exc_info[1])
        level = next((name for name in ("ERROR", "WARNING", "INFO") if record.levelno >= LEVELS[name]), "DEBUG")
        event = LogEvent(int(record.created * 1e6), level, record.name, message, fields)
        admitted = self._limiter.admit(event, str(record.msg))
        if admitted is not None:
            self._sink(admitted)


def one_line(error: BaseException) -> str:
    """`ClassName: message` of an exception; of a group its first leaf, since that is what failed."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def where(error: BaseException) -> str:
    """`file.py:12 in name` of the innermost frame."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "unknown"
    return f"{'/'.join(frames[-1].filename.rsplit('/', 2)[-2:])}:{frames[-1].lineno} in {frames[-1].name}"


def install_bridge(sink: Sink, level: str) -> LoggingBridge:
    """Make `sink` the only handler of the root logger of this process; returns the handler for removal."""
    root = logging.getLogger()
    bridge = LoggingBridge(sink, LEVELS[level])
    for handler in list(root.handlers):
        root.removeHandler(handler)
    root.addHandler(bridge)
    root.setLevel(LEVELS[level])
    logging.raiseExceptions = False
    return bridge
